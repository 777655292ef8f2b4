//! The standard library is sound by itself, and graphs of models have the names, paths and types they should.

use super::program::Program;
use super::{Elaborator, LayerFacts, Loader, Options, Unit, check};
use crate::diagnostic::render;
use nnc_graph::{DType, Graph, Op, Tensor, interpret, verify};
use std::collections::BTreeMap;

struct Nothing;

impl Loader for Nothing {
    fn load(&self, _path: &str) -> Result<String, String> {
        Err("no files here".to_owned())
    }
}

fn unit(text: &str) -> Unit {
    let checked = check("test.nn", text, &Nothing, &Options::default());
    let shown = render(&checked.diagnostics, &checked.sources, false);
    checked.unit.unwrap_or_else(|| panic!("{shown}"))
}

#[test]
fn the_standard_library_is_sound() {
    let (program, parsed) = Program::load("empty.nn", "", &Nothing);
    let options = Options::default();
    let mut elaborator = Elaborator::new(&program, &options, "library");
    let ids: Vec<_> = program.library_items().map(|(id, _)| id).collect();
    ids.into_iter().for_each(|id| elaborator.check_item(id));
    let found = [&parsed, elaborator.report.diagnostics()].concat();
    assert!(found.is_empty(), "{}", render(&found, &program.sources, false));
}

const CNN: &str = "
model Cnn(image: f32[N, 3, 16, 16]) -> f32[N, 10] {
    x = image |> conv2d(16, kernel=3, padding=1) |> relu |> max_pool2d(2) as pool
    x = x |> conv2d(32, kernel=3, padding=1) as second |> relu |> max_pool2d(2)
    return x |> flatten |> dense(256) |> relu |> dropout(0.25) |> dense(10)
}
";

#[test]
fn parameters_have_the_paths_of_their_uses() {
    let unit = unit(&CNN.replace(" as pool", ""));
    let graph = unit.model_init("Cnn").expect("it builds");
    let paths: Vec<&str> = graph.outputs().iter().map(|output| output.name.as_str()).collect();
    assert_eq!(
        paths,
        ["conv2d_1.w", "conv2d_1.b", "second.w", "second.b", "dense_1.w", "dense_1.b", "dense_2.w", "dense_2.b"]
    );
    let graph = unit.model("Cnn", &BTreeMap::from([("N".to_owned(), 4)])).expect("it builds");
    assert_eq!(graph.ty(graph.outputs()[0].value).to_string(), "f32[4, 10]");
}

fn shown(text: &str) -> String {
    let checked = check("mnist.nn", text, &Nothing, &Options::default());
    render(&checked.diagnostics, &checked.sources, false)
}

#[test]
fn a_missing_flatten_is_explained() {
    let text = "model Cnn(image: f32[N, 1, 28, 28]) -> f32[N, 10] {
    x = image |> conv2d(32, kernel=3, padding=1) |> relu |> max_pool2d(2)
    x = x |> conv2d(64, kernel=3, padding=1) |> relu |> max_pool2d(2)
    return x |> dense(10)
}
";
    let expected = "error[E0302]: this returns f32[N, 64, 7, 10], but `Cnn` promises f32[N, 10]
 --> mnist.nn:4:12
  |
3 |     x = x |> conv2d(64, kernel=3, padding=1) |> relu |> max_pool2d(2)
  |                                                         ------------- `x` is f32[N, 64, 7, 7] from here
4 |     return x |> dense(10)
  |            ^^^^^^^^^^^^^^ `dense` works on the last dim only
  |
  = help: put `flatten` before `dense(10)`: f32[N, 64, 7, 7] becomes f32[N, 3136]

";
    assert_eq!(shown(text), expected);
}

#[test]
fn an_error_inside_the_library_is_shown_at_the_call() {
    let text = "fn f(x: f32[N, 3, 4, 4]) -> f32[N, 3, 1, 1] = x |> max_pool2d(5)\n";
    let shown = shown(text);
    assert!(shown.contains("--> mnist.nn:1:52"), "{shown}");
    assert!(shown.contains("a window of 5 does not fit into 4"), "{shown}");
    assert!(shown.contains("library/convolution.nn"), "{shown}");
    assert_eq!(shown.matches("error[").count(), 1, "{shown}");
}

fn outputs(graph: &Graph, given: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let run = interpret::run(graph, given).expect("it runs");
    run.outputs().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect()
}

/// First values from the seed, and then the result on given inputs.
fn run(unit: &Unit, model: &str, inputs: &[(&str, Tensor)]) -> Tensor {
    let init = unit.model_init(model).expect("first values");
    let seed = BTreeMap::from([("$seed".to_owned(), Tensor::scalar_i64(7))]);
    let mut given = outputs(&init, &seed);
    given.extend(inputs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())));
    let graph = unit.model(model, &BTreeMap::new()).expect("a graph");
    outputs(&graph, &given)["result"].clone()
}

#[test]
fn a_layer_is_shared_and_uses_in_loops_are_not() {
    let unit = unit(
        "
model M(x: f32[N, 4]) -> f32[N, 4] {
    layer enc = dense(4)
    a = enc(x) + enc(2 * x)
    for i in 0..2 {
        a = a |> dense(4, bias=false) |> layer_norm
        for c in [4, 4] {
            a = a |> dense(c, bias=false) as inner
        }
    }
    for i in 0..1 { a = a |> dense(4, bias=false) }
    return a
}",
    );
    let graph = unit.model_init("M").expect("it builds");
    let paths: Vec<&str> = graph.outputs().iter().map(|output| output.name.as_str()).collect();
    let expected = [
        "enc.w",
        "enc.b",
        "block[0].dense_1.w",
        "block[0].layer_norm_1.scale",
        "block[0].layer_norm_1.shift",
        "block[0].block[0].inner.w",
        "block[0].block[1].inner.w",
        "block[1].dense_1.w",
        "block[1].layer_norm_1.scale",
        "block[1].layer_norm_1.shift",
        "block[1].block[0].inner.w",
        "block[1].block[1].inner.w",
        "block_2[0].dense_1.w",
    ];
    assert_eq!(paths, expected);
    let x = Tensor::from_f64(DType::F32, &[1, 4], &[1.0, -1.0, 0.5, 2.0]);
    assert_eq!(run(&unit, "M", &[("x", x)]).dims(), [1, 4]);
}

#[test]
fn random_streams_differ_between_parameters_and_uses() {
    let unit = unit(
        "
model M(x: f32[N, 4]) -> f32[N, 4] {
    layer noise = noisy()
    return noise(x) + noise(x) + noisy(x) |> dense(4) |> dense(4)
}
model noisy(x: f32[N, 4]) -> f32[N, 4] = x + uniform([N, 4])
",
    );
    let streams = |graph: &Graph| -> Vec<u64> {
        let stream = |op: &Op| if let Op::Random { stream, .. } = op { Some(*stream) } else { None };
        graph.nodes().filter_map(|(_, node)| stream(&node.op)).collect()
    };
    for graph in [unit.model("M", &BTreeMap::new()).unwrap(), unit.model_init("M").unwrap()] {
        let mut found = streams(&graph);
        let count = found.len();
        found.sort_unstable();
        found.dedup();
        assert!(count >= 2 && found.len() == count, "{found:?}");
    }
}

#[test]
fn values_are_what_they_should_be() {
    let unit = unit(
        "
fn powers(x: f32[...S], up_to: int) -> f32[...S] {
    total = x
    for i in 2..up_to + 1 { total = total + x ** i }
    return total
}
fn twice(x: f32[N], f: fn(f32[...S]) -> f32[...S]) -> f32[N] = f(f(x))
model M(x: f32[3]) -> f32[3] {
    state count: f32 = ones()
    count <- count + 1
    y = x |> powers(3)
    slope = grad(sum(y * y), wrt=x)
    return twice(y, abs) + 0 * slope + count / 2 * len([1, 2])
}",
    );
    let graph = unit.model("M", &BTreeMap::new()).expect("a graph");
    assert!(verify::verify(&graph).is_ok());
    assert!(graph.nodes().any(|(_, node)| node.op == Op::Grad));
    assert_eq!(graph.outputs().len(), 2, "the result and the update of the count");
}

#[test]
fn compile_time_programs_compute() {
    let unit = unit(
        "
fn fan(shape: [int]) -> int {
    if len(shape) > 1 { n = shape[0] * shape[-1] } else { n = 7 }
    return n
}
model M(x: f32[N, 4]) -> f32[N, 4] {
    k = fan([2, 3]) + fan([5])
    if k == 13 and not training { scale = 2.5 } else { scale = 0 }
    return x * scale + k
}",
    );
    let x = Tensor::from_f64(DType::F32, &[1, 4], &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(run(&unit, "M", &[("x", x)]).to_f64(), [15.5, 18.0, 20.5, 23.0]);
}

#[test]
fn too_much_work_is_an_error_and_no_hang() {
    let mut text = String::from("fn f0(x: f32[N]) -> f32[N] = x + 1\n");
    for at in 1..60 {
        let before = at - 1;
        text += &format!("fn f{at}(x: f32[N]) -> f32[N] = f{before}(f{before}(x))\n");
    }
    assert!(shown(&text).contains("E0406"));
    let mut text = String::from("fn f0(x: f32[N]) -> f32[N] = x + 1\n");
    for at in 1..300 {
        text += &format!("fn f{at}(x: f32[N]) -> f32[N] = f{}(x)\n", at - 1);
    }
    assert!(shown(&text).contains("E0406"));
}

#[test]
fn what_doubles_is_an_error_and_takes_no_memory() {
    for body in ["l = (l, l)", "l = [l, l]", "l = l + l"] {
        for start in ["[1, 2]", "\"ab\""] {
            let text = format!(
                "fn f(x: f32[N]) -> f32[N] {{
                    l = {start}
                    for i in 0..60 {{ {body} }}
                    return x * len(l)
                }}"
            );
            let shown = shown(&text);
            assert!(shown.contains("E0406") || shown.contains("E0301"), "{text}: {shown}");
        }
    }
    // Dims that grow without end are unknown.
    let body = "k = k * k + k";
    let text = format!(
        "fn f(x: f32[N], k: int, j: int) -> f32[N] {{ k = k + j; for i in 0..60 {{ {body} }}; return x * f32(k) }}"
    );
    assert!(!shown(&text).contains("E0406"));
}

#[test]
fn the_table_of_layers_adds_up() {
    let unit = unit(&CNN.replace(" as pool", ""));
    let facts: Vec<LayerFacts> = unit.layers("Cnn", &BTreeMap::new()).expect("it builds");
    let rows: Vec<(&str, u64, u64)> = facts.iter().map(|f| (f.path.as_str(), f.parameters, f.multiply_adds)).collect();
    let expected = [
        ("conv2d_1", 448, 16 * 256 * 27),
        ("second", 4640, 32 * 64 * 144),
        ("dense_1", 512 * 256 + 256, 512 * 256),
        ("dropout_1", 0, 0),
        ("dense_2", 2570, 2560),
        ("", 448 + 4640 + 512 * 256 + 256 + 2570, 16 * 256 * 27 + 32 * 64 * 144 + 512 * 256 + 2560),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn elaborating_twice_gives_one_graph() {
    let unit = unit(&CNN.replace(" as pool", ""));
    let made = || format!("{:?}", unit.model("Cnn", &BTreeMap::new()).expect("a graph").nodes().collect::<Vec<_>>());
    assert_eq!(made(), made());
}

/// What a model computes in its own lines comes from them; what a function does, from the line that calls it.
#[test]
fn nodes_come_from_lines() {
    let text = "
fn twice(x: f32[N]) -> f32[N] {
    y = x + x
    return y
}
model M(x: f32[N]) -> f32[N] {
    a = tanh(x)
    b = twice(a)
    return exp(b)
}";
    let graph = unit(text).model("M", &BTreeMap::from([("N".to_owned(), 4)])).expect("a graph");
    let place = |name: &str| {
        let (_, node) = graph.nodes().find(|(_, node)| node.op.name() == name).expect("such an op");
        graph.origin_of(node).expect("it has an origin").place.as_str()
    };
    assert_eq!(["tanh", "add", "exp"].map(place), ["test.nn:7", "test.nn:8", "test.nn:9"]);
}

/// Every element that a transposed convolution is given meets every weight of its channel, whatever the stride.
#[test]
fn transposed_convolutions_count() {
    let text = "
model Up(x: f32[N, 4, 8, 8]) -> f32[N, 8, 16, 16] = x |> conv_transpose2d(8, kernel=4, stride=2, padding=1)";
    let facts = unit(text).layers("Up", &BTreeMap::new()).expect("it builds");
    assert_eq!(facts.last().map(|facts| facts.multiply_adds), Some(4 * 8 * 8 * 8 * 4 * 4));
}
