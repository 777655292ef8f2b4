//! What Winograd's form keeps of the direct one: how exact it is, and how far what is no finite number spreads.

mod common;

use nnc_graph::testing::{Rng, input};
use nnc_graph::{ConvAttributes, DType, Dim, Graph, Op, OutputKind, Shape, Tensor, TensorType};
use nnc_kernel::ir::Target;
use nnc_kernel::plan::run::initial;
use nnc_kernel::{Lowered, Role};
use nnc_opt::fuse::{FuseOptions, partition};
use std::collections::BTreeMap;

/// Errors of Winograd's form are at most so many times those of the direct one: its class.
const CLASS: f64 = 20.0;
/// Rounding of an f32.
const UNIT: f64 = 5.960_464_477_539_063e-8;

/// A 3 x 3 convolution, channels last, that keeps the size of its image.
struct Layer {
    /// Images, height, width, channels.
    image: [usize; 4],
    columns: usize,
}

/// Its results, and the edge of the tiles that they were computed by.
struct Results {
    values: Vec<f64>,
    edge: usize,
}

impl Layer {
    fn graph(&self) -> Graph {
        let mut graph = Graph::new("layer");
        let x = input(&mut graph, "x", &self.image);
        let ty = TensorType::new(DType::F32, Shape::of(&self.kernel()));
        let w = graph.emit(Op::Param { path: "w".to_owned(), ty }, &[]);
        let one = || vec![Dim::from(1); 2];
        let at = ConvAttributes { stride: one(), low: one(), high: one(), dilation: one(), groups: Dim::from(1) };
        let y = graph.emit(Op::ConvLast(at), &[x, w]);
        graph.add_output("y", y, OutputKind::Result);
        graph
    }

    fn kernel(&self) -> [usize; 4] {
        [self.columns, self.image[3], 3, 3]
    }

    fn results(&self, given: &BTreeMap<String, Tensor>, winograd: bool) -> Results {
        let graph = self.graph();
        let target = Target { winograd, ..Target::new(16) };
        let lowered = nnc_kernel::lower(&graph, &partition(&graph, &FuseOptions::ALL), &target).unwrap();
        let of = |edge: usize| {
            let form = format!("F({edge} x {edge}, 3 x 3)");
            lowered.report.iter().any(|kernel| kernel.how.contains(&form)).then_some(edge)
        };
        let edge = of(4).or(of(2)).unwrap_or(1);
        assert_eq!(edge > 1, winograd, "{:?}", self.image);
        Results { values: self.run(&lowered, given), edge }
    }

    /// On this machine.
    fn run(&self, lowered: &Lowered, given: &BTreeMap<String, Tensor>) -> Vec<f64> {
        let mut buffers = vec![vec![0; lowered.arena_bytes]];
        buffers.extend(lowered.externals.iter().map(|external| initial(external, given).unwrap()));
        let backend = common::backends().pop().expect("every machine runs one");
        common::run_compiled(&lowered.program, backend, &mut buffers);
        let result = lowered.externals.iter().position(|external| matches!(external.role, Role::Output(_))).unwrap();
        let [images, high, wide, _] = self.image;
        let dims = [images, high, wide, self.columns];
        Tensor::from_bytes(DType::F32, &dims, buffers.swap_remove(1 + result)).unwrap().to_f64()
    }

    /// The sums of the definition, in `f64`.
    fn exact(&self, given: &BTreeMap<String, Tensor>) -> Vec<f64> {
        let [images, high, wide, channels] = self.image;
        let (x, w) = (given["x"].to_f64(), given["w"].to_f64());
        let mut sums = vec![0.0; images * high * wide * self.columns];
        for (at, sum) in sums.iter_mut().enumerate() {
            let (place, column) = (at / self.columns, at % self.columns);
            let (image, y, x_at) = (place / (high * wide), place / wide % high, place % wide);
            for tap in 0..9 {
                let (down, across) = (y + tap / 3, x_at + tap % 3);
                if !(1..=high).contains(&down) || !(1..=wide).contains(&across) {
                    continue;
                }
                let from = ((image * high + down - 1) * wide + across - 1) * channels;
                let line = &x[from..from + channels];
                let weights = w[column * channels * 9..].iter().skip(tap).step_by(9);
                *sum += line.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>();
            }
        }
        sums
    }

    /// Images behind an activation, and weights.
    fn given(&self, seed: u64) -> BTreeMap<String, Tensor> {
        let mut rng = Rng::new(seed);
        let mut tensor = |dims: &[usize], least: f64| {
            let values: Vec<f64> = (0..dims.iter().product()).map(|_| rng.float(-1.0, 1.0).max(least)).collect();
            Tensor::from_f64(DType::F32, dims, &values)
        };
        BTreeMap::from([("x".to_owned(), tensor(&self.image, 0.0)), ("w".to_owned(), tensor(&self.kernel(), -1.0))])
    }
}

/// The largest difference, relative to the largest number.
fn error(found: &[f64], exact: &[f64]) -> f64 {
    let largest = exact.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    found.iter().zip(exact).fold(0.0f64, |most, (x, y)| most.max((x - y).abs())) / largest
}

#[test]
fn errors_are_about_ten_times_those_of_the_direct_form() {
    for layer in [
        Layer { image: [1, 14, 14, 256], columns: 256 },
        Layer { image: [1, 28, 28, 64], columns: 64 },
        Layer { image: [2, 7, 7, 160], columns: 160 },
    ] {
        let given = layer.given(7);
        let exact = layer.exact(&given);
        let [by_tiles, direct] = [true, false].map(|winograd| layer.results(&given, winograd));
        let (ours, theirs) = (error(&by_tiles.values, &exact), error(&direct.values, &exact));
        let what = format!("{:?}: {ours:e} by tiles of {}, {theirs:e} directly", layer.image, by_tiles.edge);
        assert!(theirs < 9.0 * layer.image[3] as f64 * UNIT, "{what}");
        assert!(ours < CLASS * theirs, "{what}");
    }
}

/// A pixel that is no finite number, or too large to be transformed, is in no tile but those that read it; there
/// nothing of it is lost.
#[test]
fn what_is_not_finite_stays_in_the_tiles_that_read_it() {
    let layer = Layer { image: [1, 16, 16, 64], columns: 32 };
    let [_, high, wide, channels] = layer.image;
    let clean = layer.given(3);
    let exact = layer.exact(&clean);
    let largest = exact.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let direct_error = error(&layer.results(&clean, false).values, &exact);
    for (special, pixel) in [(f64::INFINITY, [7, 7]), (f64::NAN, [0, 15]), (f64::NEG_INFINITY, [8, 3]), (3e38, [4, 12])]
    {
        let mut given = clean.clone();
        let mut values = given["x"].to_f64();
        values[(pixel[0] * wide + pixel[1]) * channels + 5] = special;
        given.insert("x".to_owned(), Tensor::from_f64(DType::F32, &layer.image, &values));
        let Results { values, edge } = layer.results(&given, true);
        for (at, value) in values.iter().enumerate() {
            let place = at / layer.columns;
            let place = [place / wide, place % wide];
            let reads = |axis: usize| {
                let first = place[axis] / edge * edge;
                (first..first + edge + 2).contains(&(pixel[axis] + 1))
            };
            let sees = |axis: usize| (place[axis]..place[axis] + 3).contains(&(pixel[axis] + 1));
            if !(reads(0) && reads(1)) {
                let wrong = (value - exact[at]).abs() / largest;
                assert!(wrong <= CLASS * direct_error, "{special} at {pixel:?}: {value} at {place:?}");
            } else if sees(0) && sees(1) && !special.is_finite() {
                assert!(!value.is_finite(), "{special} at {pixel:?}: {value} at {place:?}");
            }
        }
        assert_eq!(values.len(), high * wide * layer.columns);
    }
}

/// A weight that is no finite number is in its output channel alone.
#[test]
fn a_weight_that_is_not_finite_stays_in_its_channel() {
    let layer = Layer { image: [1, 12, 12, 32], columns: 32 };
    let mut given = layer.given(5);
    let mut values = given["w"].to_f64();
    let clean = layer.results(&given, true).values;
    values[9 * (32 * 17 + 4) + 3] = f64::INFINITY;
    given.insert("w".to_owned(), Tensor::from_f64(DType::F32, &layer.kernel(), &values));
    let found = layer.results(&given, true).values;
    for (at, (found, clean)) in found.iter().zip(&clean).enumerate() {
        match at % layer.columns {
            17 => assert!(!found.is_finite(), "{found} at {at}"),
            _ => assert_eq!(found.to_bits(), clean.to_bits(), "at {at}"),
        }
    }
}
