//! Sequences with padding through recurrent layers: with a mask they are the sequences without, wherever the padding
//! stands; without one nothing is computed for it.

mod common;

use common::{State, first_values, train_graph, unit};
use nnc_graph::interpret::run;
use nnc_graph::{DType, Graph, Op, Tensor};
use nnc_opt::pipeline;
use std::collections::BTreeMap;

const KINDS: [&str; 3] = ["rnn", "lstm", "gru"];
/// Places of a sequence.
const LENGTH: usize = 5;
/// Those that are real, of several sequences: padding behind, in front, and between.
const REAL: [[usize; 3]; 3] = [[0, 1, 2], [2, 3, 4], [0, 2, 3]];
/// Width of the input, and of the results of both directions.
const WIDTHS: [usize; 2] = [3, 8];

/// Numbers for every place, which differ.
fn numbers(width: usize) -> Vec<f64> {
    (0..LENGTH * width).map(|at| ((at * 7) % 11) as f64 / 5.0 - 1.0).collect()
}

/// Rows of `width` numbers at such places.
fn at_places(all: &[f64], places: &[usize], width: usize) -> Vec<f64> {
    places.iter().flat_map(|place| &all[place * width..][..width]).copied().collect()
}

fn float(dims: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(DType::F64, dims, values)
}

fn mask(length: usize, places: &[usize]) -> Tensor {
    let there: Vec<f64> = (0..length).map(|place| f64::from(u8::from(places.contains(&place)))).collect();
    Tensor::from_f64(DType::Bool, &[1, length], &there)
}

/// The results of a model `M` with first values for parameters.
fn results(text: &str, given: State) -> Vec<Vec<f64>> {
    let unit = unit(text);
    let seed = BTreeMap::from([("$seed".to_owned(), Tensor::scalar_i64(5))]);
    let init = run(&unit.model_init("M").unwrap(), &seed).unwrap();
    let graph = unit.model("M", &BTreeMap::new()).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
    let first = init.outputs().map(|(name, tensor)| (name.to_owned(), tensor.clone()));
    let run = run(&nnc_opt::grad::expand(&graph), &given.into_iter().chain(first).collect()).unwrap();
    graph.outputs().iter().map(|output| run.output(&output.name).unwrap().to_f64()).collect()
}

fn assert_close(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12), "{what}: {got:?} is not {want:?}");
}

/// Both directions of two layers, and the derivative by what goes in, of places of a sequence that is so long.
fn both_ways(kind: &str, length: usize, places: &[usize], x: &[f64], slope: &[f64]) -> Vec<Vec<f64>> {
    let text = format!(
        "model M(x: f32[1, {length}, 3], m: bool[1, {length}], g: f32[1, {length}, 8]) {{
            y = {kind}(x, 4, layers=2, bidirectional=true, mask=m)
            return y, grad(sum(where(m[:, :, new], y * g, 0)), wrt=x)
        }}"
    );
    let given = [("x", float(&[1, length, 3], x)), ("g", float(&[1, length, 8], slope)), ("m", mask(length, places))];
    results(&text, given.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect())
}

#[test]
fn results_and_derivatives_are_those_of_the_sequence_without_padding() {
    let [x, slope] = WIDTHS.map(numbers);
    for (kind, places) in KINDS.into_iter().flat_map(|kind| REAL.map(|places| (kind, places))) {
        let [x_real, slope_real] =
            [(&x, WIDTHS[0]), (&slope, WIDTHS[1])].map(|(all, width)| at_places(all, &places, width));
        let padded = both_ways(kind, LENGTH, &places, &x, &slope);
        let alone = both_ways(kind, places.len(), &[0, 1, 2], &x_real, &slope_real);
        assert_close(kind, &at_places(&padded[0], &places, WIDTHS[1]), &alone[0]);
        assert_close(kind, &at_places(&padded[1], &places, WIDTHS[0]), &alone[1]);
        let padding: Vec<usize> = (0..LENGTH).filter(|place| !places.contains(place)).collect();
        assert_close(kind, &at_places(&padded[1], &padding, WIDTHS[0]), &[0.0; 6]);
    }
}

#[test]
fn the_last_states_are_those_of_the_last_real_place() {
    let x = numbers(3);
    for (kind, states) in [("rnn", "h"), ("gru", "h"), ("lstm", "h, 0.5 * h")] {
        let last = |length: usize, places: &[usize], x: &[f64]| {
            let text = format!(
                "model M(x: f32[1, {length}, 3], m: bool[1, {length}], h: f32[2, 1, 4]) {{
                    return {kind}_stack(x, {states}, mask=m)
                }}"
            );
            let h = float(&[2, 1, 4], &[0.5, -0.25, 0.0, 1.0, 0.25, 0.75, -0.5, 0.125]);
            let given = [("x", float(&[1, length, 3], x)), ("h", h), ("m", mask(length, places))];
            results(&text, given.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect())
        };
        for places in REAL {
            let padded = last(LENGTH, &places, &x);
            let alone = last(places.len(), &[0, 1, 2], &at_places(&x, &places, 3));
            padded[1..].iter().zip(&alone[1..]).for_each(|(padded, alone)| assert_close(kind, padded, alone));
        }
    }
}

/// What a step of descent makes of the weights.
fn trained(kind: &str, length: usize, places: &[usize], x: &[f64]) -> State {
    let unit = unit(&format!(
        "model Net(x: f32[N, {length}, 3], m: bool[N, {length}]) -> f32[N, {length}, 8] =
            {kind}(x, 4, layers=2, bidirectional=true, mask=m)
        data d {{
            train: (f32[{length}, 3], u8[{length}]) = npz(\"d.npz\", arrays=[\"x\", \"m\"])
            x: f32[{length}, 3] = train.0
            there: u8[{length}] = train.1
        }}
        train Net on d {{
            epochs = 1; batch = 1
            m = there != 0
            y = Net(x, m)
            minimize sum(where(m[:, :, new], y ** 2 + y, 0)) using sgd(lr=0.1)
            answer y = y
        }}"
    ));
    let mut state = first_values(&unit, "Net", 5);
    let inputs = State::from([
        ("x".to_owned(), Tensor::from_f64(DType::F32, &[1, length, 3], x)),
        ("there".to_owned(), Tensor::from_f64(DType::U8, &[1, length], &mask(length, places).to_f64())),
    ]);
    let graph = train_graph(&unit, "Net", 1);
    common::step(&graph, &mut state, &inputs, 0);
    state
}

#[test]
fn weights_learn_from_real_places_alone() {
    let x = numbers(3);
    for (kind, places) in KINDS.into_iter().flat_map(|kind| REAL.map(|places| (kind, places))) {
        let padded = trained(kind, LENGTH, &places, &x);
        let alone = trained(kind, places.len(), &[0, 1, 2], &at_places(&x, &places, 3));
        assert_eq!(padded.len(), alone.len());
        padded.iter().for_each(|(path, tensor)| assert_close(path, &tensor.to_f64(), &alone[path].to_f64()));
    }
}

/// How many nodes a graph has, and those of its loops.
fn nodes(graph: &Graph) -> usize {
    let inside = |op: &Op| if let Op::Scan(scan) = op { nodes(&scan.body) } else { 0 };
    graph.nodes().map(|(_, node)| 1 + inside(&node.op)).sum()
}

#[test]
fn without_a_mask_nothing_is_computed_for_it() {
    // The layer as it is without a mask.
    let plain =
        "model gru_layer(x: real[N, T, I], h: real[N, H], mask: bool[N, T] = true) -> (real[N, T, H], real[N, H]) {
        param w: real[I, 3 * H] = uniform_init(1.0 / sqrt(H))
        param u: real[H, 3 * H] = uniform_init(1.0 / sqrt(H))
        param b: real[3 * H] = zeros()
        param d: real[3 * H] = zeros()
        z = x @ w + b
        y, last = scan zt in z axis 1 with h = h {
            h = gru_gates(zt, h @ u + d, h)
            yield h
        }
        return (y, last)
    }";
    let optimised = |layer: &str| {
        let text = format!(
            "{layer}
            model M(x: f32[2, 6, 3]) {{
                zero = zeros([2, 4])
                y, last = gru_layer(x, zero)
                return y, last, grad(sum(y ** 2), wrt=x)
            }}"
        );
        let graph = unit(&text).model("M", &BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:#?}"));
        nodes(&pipeline::optimise(&graph, &pipeline::Options::default()).unwrap().graph)
    };
    assert_eq!(optimised(""), optimised(plain));
}
