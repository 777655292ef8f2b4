//! What the examples that are trained on teach: the statistics that a `data` block asks for (`learn_mean`, ...).
//!
//! Each is computed over the rows of `train`, in their order, in f64 (mean and spread by Welford, "Note on a Method for
//! Calculating Corrected Sums of Squares and Products", 1962), and put into its state. It depends on nothing but the
//! rows: not on threads, nor on the engine.

use crate::at_once::put_rows;
use crate::compiled::{CompiledGraph, Compiler, RunError};
use crate::dataset::Part;
use crate::error::DriverError;
use crate::project::Project;
use crate::store::Store;
use nnc_graph::Tensor;
use nnc_lang::diagnostic::{Code, Diagnostic};
use nnc_lang::elaborate::{DataInfo, Lesson, Statistic};
use std::collections::BTreeSet;

/// Computes the statistics whose states are in `wanted` by the examples of `part`, and puts them into the store.
///
/// # Errors
/// A failure to compile, an index of an example that is out of range, or a statistic that is no finite number.
pub(crate) fn learn(
    info: &DataInfo,
    part: &Part,
    (project, compiler): (&Project, &Compiler),
    store: &mut Store,
    wanted: &BTreeSet<String>,
) -> Result<(), DriverError> {
    for lesson in info.lessons.iter().filter(|lesson| wanted.contains(&lesson.path)) {
        let mut program = compiler.compile(&lesson.graph)?;
        let known = info.lessons.iter().take_while(|earlier| earlier.path != lesson.path);
        for earlier in known {
            if let (Some(input), Some(entry)) = (program.input_mut(&earlier.path), store.get(&earlier.path)) {
                input.copy_from_slice(entry.buffer.bytes());
            }
        }
        let found = summary(lesson, part, &mut program)?.result(lesson.statistic);
        if let Some(odd) = found.iter().find(|number| !number.is_finite()) {
            return project.checked(Err(vec![no_number(lesson, *odd)]));
        }
        let dims: Vec<usize> = lesson.ty.shape.iter().filter_map(|dim| dim.as_number()?.try_into().ok()).collect();
        store.insert(&lesson.path, &Tensor::from_f64(lesson.ty.dtype, &dims, &found));
    }
    Ok(())
}

/// What is said of a statistic that is no finite number.
fn no_number(lesson: &Lesson, found: f64) -> Diagnostic {
    let message = format!("`learn_{}` of the examples that are trained on is {found}", lesson.statistic.name());
    let diagnostic = Diagnostic::new(Code::E0501, lesson.span, message);
    diagnostic
        .help("what it is taken of is no finite number in some example: look at a logarithm, a root or a division")
}

/// Looks at all examples of a part.
fn summary(lesson: &Lesson, part: &Part, program: &mut CompiledGraph) -> Result<Summary, DriverError> {
    let mut summary = Summary::default();
    for rows in part.rows.chunks(Lesson::AT_ONCE) {
        // Where they are fewer than a run takes, from the first on again.
        let places = rows.iter().map(|&row| usize::try_from(row).expect("a row of the table")).cycle();
        put_rows(program, lesson.takes.iter().map(String::as_str), &part.table, (Lesson::AT_ONCE, places));
        program.run(&mut Store::default()).map_err(explained)?;
        let values = program.output_tensor(Lesson::OF);
        let values = values.ok_or_else(|| DriverError::Internal("a statistic is of nothing".to_owned()))?.to_f64();
        let size = values.len() / Lesson::AT_ONCE;
        values.chunks_exact(size).take(rows.len()).for_each(|example| summary.add(example));
    }
    Ok(summary)
}

fn explained(error: RunError) -> DriverError {
    match error {
        RunError::OutOfRange(why) => {
            DriverError::Usage(format!("an index is out of range where the data block looks at its examples{why}"))
        }
        RunError::NotResident(_) => DriverError::Internal(error.to_string()),
        RunError::Internal(why) => DriverError::Internal(why),
    }
}

/// What has been seen so far, for each element.
#[derive(Default)]
struct Summary {
    count: f64,
    mean: Vec<f64>,
    /// Sum of the squared distances from the mean.
    squares: Vec<f64>,
    min: Vec<f64>,
    max: Vec<f64>,
}

impl Summary {
    fn add(&mut self, example: &[f64]) {
        if self.count == 0.0 {
            *self = Self {
                count: 1.0,
                mean: example.to_vec(),
                squares: vec![0.0; example.len()],
                min: example.to_vec(),
                max: example.to_vec(),
            };
            return;
        }
        self.count += 1.0;
        for (at, &value) in example.iter().enumerate() {
            let distance = value - self.mean[at];
            self.mean[at] += distance / self.count;
            self.squares[at] += distance * (value - self.mean[at]);
            // Not `f64::min`, which passes over NaN.
            self.min[at] = if value < self.min[at] || value.is_nan() { value } else { self.min[at] };
            self.max[at] = if value > self.max[at] || value.is_nan() { value } else { self.max[at] };
        }
    }

    fn result(self, statistic: Statistic) -> Vec<f64> {
        match statistic {
            Statistic::Mean => self.mean,
            Statistic::Std => {
                let spread = self.squares.iter().map(|squares| (squares / self.count).sqrt());
                spread.map(|spread| if spread == 0.0 { 1.0 } else { spread }).collect()
            }
            Statistic::Min => self.min,
            Statistic::Max => self.max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64], statistic: Statistic) -> f64 {
        let mut summary = Summary::default();
        values.iter().for_each(|&value| summary.add(&[value]));
        summary.result(statistic)[0]
    }

    #[test]
    fn statistics_are_those_of_the_textbook() {
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(of(&values, Statistic::Mean), 5.0);
        assert_eq!(of(&values, Statistic::Std), 2.0);
        assert_eq!((of(&values, Statistic::Min), of(&values, Statistic::Max)), (2.0, 9.0));
    }

    #[test]
    fn a_spread_can_be_divided_by() {
        assert_eq!(of(&[3.0, 3.0], Statistic::Std), 1.0);
        // Far from 0 nothing is lost, as it would be in a mean of squares.
        assert!((of(&[1e9, 1e9 + 2.0], Statistic::Std) - 1.0).abs() < 1e-6);
    }
}
