//! A square matrix as SVG: how many examples of each class, a row, were taken for each class, a column.
//!
//! A cell is as dark as its share of its row, so that a rare class is seen as well as a common one, and has its number
//! in it while there is room. The picture has no background, as that of the curves.

use super::curves::{FONT, GREY, TRAIN};
use nnc_driver::Matrix;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;

/// Above this many classes, cells have no numbers and classes no names.
const NAMED: usize = 32;
/// The side of a picture's matrix.
const SIDE: i32 = 480;
/// Room for the title and the names of columns, above.
const HEAD: i32 = 140;
/// Room for the names of rows, to the left.
const LEFT: i32 = 120;
/// Names are cut after this many letters.
const LETTERS: usize = 14;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// The picture of a matrix; classes without a name have their number.
///
/// # Errors
/// The picture cannot be laid out.
pub(super) fn draw(title: &str, matrix: &Matrix, classes: &[String]) -> Result<String, Box<dyn Error>> {
    let cell = (SIDE / matrix.size.max(1) as i32).clamp(1, 48);
    let side = cell * matrix.size as i32;
    let mut svg = String::new();
    {
        let size = ((LEFT + side.max(200) + 24) as u32, (HEAD + side + 24) as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.draw(&Text::new(title.to_owned(), (16, 20), text(17, HPos::Left)))?;
        root.draw(&Text::new("taken for", (LEFT, 46), text(12, HPos::Left)))?;
        for (row, values) in matrix.values.chunks(matrix.size.max(1)).enumerate() {
            draw_row(&root, values, HEAD + cell * row as i32, cell)?;
            if matrix.size <= NAMED {
                draw_name(&root, name_of(classes, row), cell * row as i32 + cell / 2, cell)?;
            }
        }
        root.present()?;
    }
    Ok(svg)
}

fn text(size: i32, h: HPos) -> TextStyle<'static> {
    (FONT, size).into_font().color(&GREY).pos(Pos::new(h, VPos::Center))
}

/// The cells of a row whose upper edge is at `top`.
fn draw_row(root: &Area<'_>, values: &[f64], top: i32, cell: i32) -> Drawn {
    let total: f64 = values.iter().sum();
    for (column, &value) in values.iter().enumerate() {
        let left = LEFT + cell * column as i32;
        let share = if total > 0.0 { (value / total).clamp(0.0, 1.0).sqrt() } else { 0.0 };
        let fill = TRAIN.mix(0.06 + 0.94 * share).filled();
        root.draw(&Rectangle::new([(left, top), (left + cell - 1, top + cell - 1)], fill))?;
        if values.len() <= NAMED && value != 0.0 {
            let colour = if share > 0.6 { WHITE } else { GREY };
            let font = text((cell / 3).clamp(7, 12), HPos::Center).color(&colour);
            root.draw(&Text::new(count(value), (left + cell / 2, top + cell / 2), font))?;
        }
    }
    Ok(())
}

/// The name of a class at its row and at its column, whose middle lies at `middle`; turned where it is too long.
fn draw_name(root: &Area<'_>, name: String, middle: i32, cell: i32) -> Drawn {
    root.draw(&Text::new(name.clone(), (LEFT - 8, HEAD + middle), text(12, HPos::Right)))?;
    let is_long = name.chars().count() as i32 * 7 > cell;
    let font = (FONT, 12).into_font();
    let style = match is_long {
        true => font.transform(FontTransform::Rotate270).color(&GREY).pos(Pos::new(HPos::Left, VPos::Center)),
        false => font.color(&GREY).pos(Pos::new(HPos::Center, VPos::Bottom)),
    };
    root.draw(&Text::new(name, (LEFT + middle, HEAD - 6), style))?;
    Ok(())
}

/// What a class is called.
fn name_of(classes: &[String], class: usize) -> String {
    let name = classes.get(class).cloned().unwrap_or_else(|| class.to_string());
    if name.chars().count() <= LETTERS { name } else { name.chars().take(LETTERS - 1).chain(['…']).collect() }
}

/// A number of examples, or with two digits what is none.
fn count(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(size: usize) -> Matrix {
        let values = (0..size * size).map(|at| if at % (size + 1) == 0 { 40.0 } else { (at % 3) as f64 }).collect();
        Matrix { name: "confusion".to_owned(), size, values }
    }

    #[test]
    fn cells_have_numbers_and_classes_names() {
        let svg =
            draw("confusion, test", &matrix(3), &["cat".to_owned(), "a dog with a very long name".to_owned()]).unwrap();
        for word in ["confusion, test", "cat", "a dog with a …", "\n2\n", "\n40\n"] {
            assert!(svg.contains(word), "{word}\n{svg}");
        }
        assert_eq!(svg.matches("<rect").count(), 9);
    }

    #[test]
    fn a_large_matrix_is_cells_alone_and_an_empty_row_is_pale() {
        let svg = draw("confusion", &matrix(100), &[]).unwrap();
        assert_eq!((svg.matches("<rect").count(), svg.matches("<text").count()), (10_000, 2));
        let empty = Matrix { values: vec![0.0; 4], ..matrix(2) };
        assert!(!draw("confusion", &empty, &[]).unwrap().contains("NaN"));
    }
}
