//! Infinities and NaN in convolutions and their transposes: the graph interpreter, the kernel interpreter and every
//! engine have them at the same places. Padding is zeros that are multiplied, so that an infinity that meets it gives
//! NaN.

mod common;

use common::Numbers;
use common::graphs::{check_on, lowered};
use nnc_graph::testing::{input, random_inputs};
use nnc_graph::{ConvAttributes, Dim, Graph, Op, OutputKind, Tensor, interpret};
use nnc_opt::fuse::FuseOptions;
use std::collections::BTreeMap;

/// The shape of a convolution of two spatial axes.
#[derive(Clone, Copy, Debug)]
struct Shape {
    image: [usize; 4],
    kernel: [usize; 4],
    stride: usize,
    padding: usize,
    dilation: usize,
    groups: usize,
}

const DENSE: Shape = Shape { image: [1, 3, 9, 9], kernel: [8, 3, 3, 3], stride: 1, padding: 1, dilation: 1, groups: 1 };

const SHAPES: [Shape; 10] = [
    DENSE,
    Shape { image: [2, 32, 9, 9], kernel: [32, 32, 3, 3], stride: 2, ..DENSE },
    Shape { image: [1, 12, 7, 7], kernel: [20, 12, 3, 3], ..DENSE },
    Shape { image: [1, 16, 9, 9], kernel: [16, 1, 3, 3], groups: 16, ..DENSE },
    Shape { image: [2, 16, 9, 9], kernel: [16, 1, 3, 3], groups: 16, stride: 2, ..DENSE },
    Shape { image: [1, 16, 9, 9], kernel: [32, 8, 3, 3], groups: 2, ..DENSE },
    Shape { image: [1, 8, 9, 9], kernel: [8, 8, 3, 3], padding: 2, dilation: 2, ..DENSE },
    Shape { image: [1, 2, 12, 12], kernel: [3, 2, 5, 5], padding: 2, stride: 3, ..DENSE },
    Shape { image: [1, 6, 8, 10], kernel: [6, 6, 2, 2], padding: 0, stride: 2, ..DENSE },
    Shape { image: [1, 5, 3, 3], kernel: [7, 5, 3, 3], padding: 4, ..DENSE },
];

impl Shape {
    fn attributes(&self) -> ConvAttributes {
        let both = |number: usize| vec![Dim::from(number); 2];
        ConvAttributes {
            stride: both(self.stride),
            low: both(self.padding),
            high: both(self.padding),
            dilation: both(self.dilation),
            groups: Dim::from(self.groups),
        }
    }

    /// The convolution of `x` by `w`, and its transposes of `dy`.
    fn graphs(&self) -> [Graph; 3] {
        let spatial = |dims: &[usize]| dims.iter().map(|&size| Dim::from(size)).collect::<Vec<_>>();
        let mut forward = Graph::new("conv");
        let (x, w) = (input(&mut forward, "x", &self.image), input(&mut forward, "w", &self.kernel));
        let y = forward.emit(Op::Conv(self.attributes()), &[x, w]);
        let result = forward.ty(y).shape.sizes();
        let mut by_image = Graph::new("conv_input_grad");
        let (dy, w) = (input(&mut by_image, "dy", &result), input(&mut by_image, "w", &self.kernel));
        let op = Op::ConvInputGrad { attributes: self.attributes(), input: spatial(&self.image[2..]) };
        let dx = by_image.emit(op, &[dy, w]);
        let mut by_weights = Graph::new("conv_weight_grad");
        let (x, dy) = (input(&mut by_weights, "x", &self.image), input(&mut by_weights, "dy", &result));
        let op = Op::ConvWeightGrad { attributes: self.attributes(), kernel: spatial(&self.kernel[2..]) };
        let dw = by_weights.emit(op, &[x, dy]);
        forward.add_output("out", y, OutputKind::Result);
        by_image.add_output("out", dx, OutputKind::Result);
        by_weights.add_output("out", dw, OutputKind::Result);
        [forward, by_image, by_weights]
    }
}

/// Puts an infinity, a negative one or NaN into two places of an operand.
fn spoil(given: &mut BTreeMap<String, Tensor>, name: &str, numbers: &mut Numbers) {
    let tensor = &given[name];
    let (dims, mut values) = (tensor.dims().to_vec(), tensor.to_f64());
    for _ in 0..2 {
        let at = numbers.below(values.len() as u64) as usize;
        values[at] = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN][numbers.below(3) as usize];
    }
    given.insert(name.to_owned(), Tensor::from_f64(tensor.dtype(), &dims, &values));
}

/// What an element is, if it is no finite number.
fn kind(value: f64) -> Option<String> {
    (!value.is_finite()).then(|| value.to_string())
}

/// Whether a graph has a transpose with a stride that is no convolution by phases. Its kernel spreads the elements of
/// the cotangent and multiplies the zeros between them, too: an infinite weight gives NaN in more places.
fn spreads(graph: &Graph) -> bool {
    let is_strided = |at: &ConvAttributes| at.stride.iter().any(|step| step.size() > 1);
    graph.nodes().any(|(_, node)| matches!(&node.op, Op::ConvInputGrad { attributes, .. } if is_strided(attributes)))
}

fn assert_same_places(graph: &Graph, given: &BTreeMap<String, Tensor>, what: &str) {
    let expected = interpret::run(graph, given).unwrap().output("out").unwrap().to_f64();
    for (fuse, lanes) in [(FuseOptions::ALL, 8), (FuseOptions::NONE, 16)] {
        let found = nnc_kernel::plan::run::run(&lowered(graph, &fuse, lanes).unwrap(), given).unwrap();
        for (at, (found, expected)) in found.outputs["out"].to_f64().iter().zip(&expected).enumerate() {
            let is_spread = spreads(graph) && found.is_nan();
            assert!(
                is_spread || kind(*found) == kind(*expected),
                "{what}, {lanes} lanes, element {at}: {found}, {expected}"
            );
        }
    }
}

#[test]
fn padding_is_multiplied_by_every_engine() {
    let options = nnc_opt::Options { winograd: false, ..nnc_opt::Options::default() };
    for shape in SHAPES {
        for plain in shape.graphs() {
            let arranged = nnc_opt::optimise(&plain, &options).unwrap().graph;
            let names: Vec<String> = random_inputs(&plain, 0).into_keys().collect();
            for (seed, spoilt) in [&names[..1], &names[1..], &names[..]].into_iter().enumerate() {
                let mut given = random_inputs(&plain, seed as u64);
                let mut numbers = Numbers(seed as u64 + 1);
                spoilt.iter().for_each(|name| spoil(&mut given, name, &mut numbers));
                let what = format!("{shape:?}, {}, special in {spoilt:?}", plain.name);
                assert_same_places(&plain, &given, &what);
                assert_same_places(&arranged, &given, &format!("{what}, arranged"));
                if spoilt.len() == names.len() {
                    assert!(check_on(&arranged, &given, seed as u64), "{what}");
                }
            }
        }
    }
}

/// A window of ones over the corner of an image, of which one weight is infinite: as other frameworks have it.
#[test]
fn an_infinite_weight_meets_padding() {
    let shape = Shape { image: [1, 1, 3, 3], kernel: [1, 1, 3, 3], ..DENSE };
    let [forward, ..] = shape.graphs();
    let mut weights = [1.0; 9];
    weights[0] = f64::INFINITY;
    let of = |dims: &[usize], values: &[f64]| Tensor::from_f64(nnc_graph::DType::F32, dims, values);
    let given =
        BTreeMap::from([("x".to_owned(), of(&shape.image, &[1.0; 9])), ("w".to_owned(), of(&shape.kernel, &weights))]);
    let found = interpret::run(&forward, &given).unwrap().output("out").unwrap().to_f64();
    let names: Vec<String> = found.iter().map(f64::to_string).collect();
    assert_eq!(names, ["NaN", "NaN", "NaN", "NaN", "inf", "inf", "NaN", "inf", "inf"]);
}
