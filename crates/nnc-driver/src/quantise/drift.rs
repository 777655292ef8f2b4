//! How far the answers of integers are from those of floats.

use crate::compiled::{Compiler, host_tensor};
use crate::error::DriverError;
use crate::quantise::examples::{Examples, OneCall};
use crate::store::Store;
use nnc_graph::{DType, Graph, OutputKind, Tensor};
use std::collections::BTreeMap;

/// What became of an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Drift {
    /// What the answer is called.
    pub answer: String,
    /// How far it moved.
    pub moved: Moved,
}

/// How far an answer moved.
#[derive(Clone, PartialEq, Debug)]
pub enum Moved {
    /// Floats. Elements that are equal, infinities too, differ by nothing.
    By {
        /// The mean difference of two elements, of the largest finite magnitude.
        mean: f64,
        /// The largest difference, of the same.
        largest: f64,
        /// Elements that are NaN on one side alone; they are in neither figure.
        lost: usize,
    },
    /// Whole numbers, such as those of classes.
    Changed {
        /// Elements that are others.
        elements: usize,
        /// All elements.
        of: usize,
    },
    /// It cannot be made of as few examples as there are.
    Unknown {
        /// How many there are.
        rows: usize,
    },
    /// It has parameters, so that no example shows what it computes: its products are of floats, by the weights that
    /// the integers stand for.
    WeightsAlone {
        /// Whether it is known what it reads; else the file holds floats for it that may be in vain.
        is_known: bool,
    },
    /// It has parameters, and reads nothing that was rounded.
    Untouched,
    /// It has parameters, and needs channels that the weights lost: it cannot be made, of these as of the floats.
    Gone {
        /// What is gone, in words.
        why: String,
    },
}

impl Moved {
    /// The mean difference, of elements that are floats relative to the largest; 0 where it is not known.
    pub fn mean(&self) -> f64 {
        match self {
            Self::By { mean, .. } => *mean,
            Self::Changed { elements, of } => *elements as f64 / (*of).max(1) as f64,
            Self::Unknown { .. } | Self::WeightsAlone { .. } => 0.0,
            Self::Untouched | Self::Gone { .. } => 0.0,
        }
    }
}

/// The elements of the results of some runs, by floats and by integers, in the order of the first run.
#[derive(Default)]
pub struct Pairs {
    all: Vec<(String, DType, [Vec<f64>; 2])>,
}

impl Pairs {
    /// Adds what a run by floats, and one by integers, gave on the same examples.
    pub fn extend(&mut self, floats: &[(String, Tensor)], integers: &[(String, Tensor)]) {
        for ((name, float), (_, integer)) in floats.iter().zip(integers) {
            let known = self.all.iter().position(|(known, ..)| known == name).unwrap_or_else(|| {
                self.all.push((name.clone(), float.dtype(), Default::default()));
                self.all.len() - 1
            });
            let [floats, integers] = &mut self.all[known].2;
            floats.extend(float.to_f64());
            integers.extend(integer.to_f64());
        }
    }

    /// What became of each.
    pub fn drifts(self) -> impl Iterator<Item = Drift> {
        self.all.into_iter().map(|(answer, dtype, [float, integer])| {
            let differ = || float.iter().zip(&integer).filter(|(float, integer)| float != integer).count();
            let moved = match dtype.is_float() {
                true => by(&float, &integer),
                false => Moved::Changed { elements: differ(), of: float.len() },
            };
            Drift { answer, moved }
        })
    }
}

/// How far the results of a model's call are by integers, the second graph, from those of the first. The store has what
/// both read.
///
/// # Errors
/// What cannot be compiled or run.
pub fn of_call(
    graphs: &[Graph; 2],
    (compiler, store): (&Compiler, &mut Store),
    inputs: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<Drift>, DriverError> {
    let mut results = Vec::new();
    for graph in graphs {
        let mut program = compiler.compile(graph)?;
        OneCall::new(inputs).fill(&mut program)?;
        program.run(store).map_err(|error| DriverError::Usage(error.to_string()))?;
        let names = graph.outputs().iter().filter(|output| output.kind == OutputKind::Result);
        let tensor = |name: &str| Some(host_tensor(program.output_type(name)?, program.output(name)?));
        let told = names.filter_map(|output| Some((output.name.clone(), tensor(&output.name)?)));
        results.push(told.collect::<Vec<_>>());
    }
    let mut pairs = Pairs::default();
    pairs.extend(&results[0], &results[1]);
    Ok(pairs.drifts().collect())
}

fn by(floats: &[f64], integers: &[f64]) -> Moved {
    let finite = floats.iter().filter(|value| value.is_finite());
    let magnitude = finite.fold(0.0, |largest: f64, value| largest.max(value.abs())).max(1e-30);
    let pairs = || floats.iter().zip(integers);
    let lost = pairs().filter(|(float, integer)| float.is_nan() != integer.is_nan()).count();
    let numbers = pairs().filter(|(float, integer)| !float.is_nan() && !integer.is_nan());
    let differences = numbers.map(|(float, integer)| match float == integer {
        true => 0.0,
        false => (float - integer).abs() / magnitude,
    });
    let (sum, largest) =
        differences.fold((0.0, 0f64), |(sum, largest), difference| (sum + difference, largest.max(difference)));
    Moved::By { mean: sum / floats.len().max(1) as f64, largest, lost }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(floats: &[f64], integers: &[f64], dtype: DType) -> Moved {
        let result = |values: &[f64]| vec![("y".to_owned(), Tensor::from_f64(dtype, &[values.len()], values))];
        let mut pairs = Pairs::default();
        pairs.extend(&result(floats), &result(integers));
        pairs.drifts().next().unwrap().moved
    }

    #[test]
    fn equal_elements_do_not_differ_whatever_they_are() {
        const INF: f64 = f64::INFINITY;
        let found = moved(&[INF, -INF, f64::NAN, 4.0], &[INF, -INF, f64::NAN, 3.0], DType::F32);
        assert_eq!(found, Moved::By { mean: 0.0625, largest: 0.25, lost: 0 });
        let found = moved(&[INF, 4.0], &[-INF, 4.0], DType::F32);
        assert_eq!(found, Moved::By { mean: INF, largest: INF, lost: 0 });
    }

    #[test]
    fn a_nan_of_one_side_is_counted() {
        let found = moved(&[f64::NAN, 2.0, 1.0], &[1.0, f64::NAN, 1.0], DType::F32);
        assert_eq!(found, Moved::By { mean: 0.0, largest: 0.0, lost: 2 });
    }

    #[test]
    fn numbers_of_classes_change_or_do_not() {
        assert_eq!(moved(&[3.0, 1.0], &[3.0, 7.0], DType::I32), Moved::Changed { elements: 1, of: 2 });
    }
}
