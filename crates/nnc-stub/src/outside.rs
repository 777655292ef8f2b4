//! Which number of an input is no place in what the program picks from by it.

use crate::manifest::{Manifest, Port};
use crate::number::Number;
use nnc_data::Column;
use std::fmt;
use std::ops::Range;

/// A number of an input that is out of range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outside {
    /// The name of the input.
    pub input: String,
    /// The row, from 0, if the input has rows.
    pub row: Option<usize>,
    /// The number.
    pub value: i64,
    /// All numbers must be below this, and not below 0.
    pub bound: usize,
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, row, value, bound } = self;
        match row {
            Some(row) => write!(f, "`{input}` holds {value} in row {row}, counted from 0, which is not in 0..{bound}"),
            None => write!(f, "`{input}` holds {value}, which is not in 0..{bound}"),
        }
    }
}

impl Manifest {
    /// The first number of the inputs, in these rows, that is out of range; none if the model made the index that is.
    pub fn outside(&self, inputs: &[Column], rows: Range<usize>) -> Option<Outside> {
        self.inputs.iter().zip(inputs).find_map(|(port, column)| outside_of(port, column, rows.clone()))
    }
}

fn outside_of(port: &Port, column: &Column, rows: Range<usize>) -> Option<Outside> {
    let bound = port.bound?;
    let is_in = |value: i64| usize::try_from(value).is_ok_and(|value| value < bound);
    let mut rows = if port.batched { rows.start..rows.end.min(column.rows) } else { 0..column.rows };
    rows.find_map(|row| {
        let mut whole = Number::read_all(port.row.dtype, column.row(row)).filter_map(Number::whole);
        let value = whole.find(|&value| !is_in(value))?;
        Some(Outside { input: port.name.clone(), row: port.batched.then_some(row), value, bound })
    })
}

#[cfg(test)]
mod tests {
    use crate::manifest::tests::sample;
    use nnc_data::{Column, DType, FieldType};

    #[test]
    fn the_number_and_its_row_are_told() {
        let mut manifest = sample();
        let ty = FieldType::new(DType::I32, [2]);
        (manifest.inputs[0].row, manifest.inputs[0].bound) = (ty.clone(), Some(5));
        let numbers = [0i32, 4, 1, 5, -1, 0];
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let columns = [Column::new(ty, 3, bytes)];
        let told = |manifest: &crate::Manifest, rows| manifest.outside(&columns, rows).map(|found| found.to_string());
        let second = "`image` holds 5 in row 1, counted from 0, which is not in 0..5";
        assert_eq!(told(&manifest, 0..9).as_deref(), Some(second));
        assert_eq!(told(&manifest, 2..9).unwrap(), second.replace("5 in row 1", "-1 in row 2"));
        assert_eq!(told(&manifest, 0..1), None);
        manifest.inputs[0].bound = None;
        assert_eq!(told(&manifest, 0..9), None);
    }
}
