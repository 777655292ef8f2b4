//! Fake quantisation of a training step: the graph that one would write by hand, forward the results of the integers,
//! backward the derivatives of the floats where the range does not cut off.

use nnc_graph::{DType, Graph, Op, OutputKind, Tensor, UnaryOp, interpret, text, verify};
use nnc_lang::elaborate::{Loader, Options, Unit, check};
use nnc_opt::quantise::{Range, fake_quantise, layers_to_round, quantise_floats};
use nnc_opt::{grad, pipeline};
use std::collections::{BTreeMap, BTreeSet};

type Tensors = BTreeMap<String, Tensor>;

struct NoFiles;

impl Loader for NoFiles {
    fn load(&self, path: &str) -> Result<String, String> {
        Err(format!("{path} is not there"))
    }
}

/// A residual net with a sign, with single channels, joined branches, a slice, and a table; a recipe of these settings.
fn net(recipe: &str) -> Unit {
    let text = format!(
        "model Net(x: f32[N, 3, 8, 8]) -> f32[N, 10] {{
            y = x * 2 |> conv2d(8, kernel=3, padding=1) |> relu |> max_pool2d(2)
            z = y |> conv2d(8, kernel=3, padding=1, groups=8) |> conv2d(8, kernel=3, padding=1)
            sum = concat([relu(y + z), y * 4], axis=1)
            return sum[:, 4..16] |> flatten |> dense(16) |> gelu |> dense(10)
        }}
        data pictures {{
            train: (f32[3, 8, 8], u8) = csv(\"a.csv\")
            x: f32[3, 8, 8] = train.0
            label: i32 = i32(train.1)
        }}
        {recipe}"
    );
    let checked = check("net.nn", &text, &NoFiles, &Options::default());
    checked.unit.unwrap_or_else(|| panic!("{:#?}", checked.diagnostics))
}

const LAYERS: [&str; 5] = ["conv2d_1.w", "conv2d_2.w", "conv2d_3.w", "dense_1.w", "dense_2.w"];

/// One `minimize` with these options.
fn plain(options: &str, quantise: &str) -> String {
    format!(
        "train Net on pictures {{
            epochs = 1; batch = 4
            logits = Net(x)
            minimize cross_entropy(logits, label) using sgd(lr=0.1){options}
            {quantise}
        }}"
    )
}

/// The training step with the ranges of its layers, as the front end makes it, and rounded.
fn rounded(unit: &mut Unit) -> Graph {
    let recipe = unit.recipes[0].name.clone();
    let found = layers_to_round(&unit.train_step(&recipe, 4).unwrap());
    unit.rounded.insert(recipe.clone(), found);
    let graph = fake_quantise(&unit.train_step(&recipe, 4).unwrap());
    verify::verify(&graph).unwrap();
    graph
}

/// Numbers from -1 to 1 that look random.
fn numbers(dims: &[usize], seed: usize) -> Tensor {
    let count: usize = dims.iter().product();
    let number = |at: usize| (((at + 1) * (seed * 2 + 7919)) % 2003) as f64 / 1001.0 - 1.0;
    Tensor::from_f64(DType::F32, dims, &(0..count).map(number).collect::<Vec<_>>())
}

/// What a recipe starts with, with an example.
fn given(unit: &Unit) -> Tensors {
    let init = unit.init(&unit.recipes[0].name).unwrap();
    let seed = BTreeMap::from([("$seed".to_owned(), Tensor::scalar_i64(1))]);
    let run = interpret::run(&init, &seed).unwrap();
    let mut given: Tensors = run.outputs().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    given.insert("x".to_owned(), numbers(&[4, 3, 8, 8], 3));
    given.insert("label".to_owned(), Tensor::from_f64(DType::U8, &[4], &[1., 0., 7., 3.]));
    for name in ["$seed", "$iteration", "$epoch"] {
        given.insert(name.to_owned(), Tensor::scalar_i64(0));
    }
    given.insert("$iterations".to_owned(), Tensor::scalar_i64(10));
    given
}

/// Runs a step: its results, and what it changes, which goes into `given`.
fn step(graph: &Graph, given: &mut Tensors) -> Tensors {
    let graph = grad::expand(graph);
    let run = interpret::run(&graph, given).unwrap();
    let all: Tensors = run.outputs().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    let changed = graph.outputs().iter().filter(|output| output.kind != OutputKind::Result);
    changed.for_each(|output| drop(given.insert(output.name.clone(), all[&output.name].clone())));
    all
}

fn number(tensors: &Tensors, name: &str) -> f64 {
    tensors[name].to_f64()[0]
}

#[test]
fn the_layers_are_those_that_integers_serve() {
    for options in ["", ", average=0.9", ", accumulate=2", ", clip_norm=1.0, average=0.9"] {
        let unit = net(&plain(options, "quantise()"));
        assert_eq!(layers_to_round(&unit.train_step("Net", 4).unwrap()), LAYERS, "{options}");
    }
}

/// In the second step, the weights of the first are what that has made of them.
#[test]
fn what_a_step_has_trained_is_still_a_weight() {
    let mut unit = net("train turns on pictures {
        epochs = 1; batch = 4
        layer a = Net()
        layer b = Net()
        step first { minimize cross_entropy(a(x), label) over a using sgd(lr=0.1) }
        step second { minimize cross_entropy(b(x) + a(x), label) over b using sgd(lr=0.1) }
        quantise(over=a)
        answer p = a(x)
    }");
    let found = layers_to_round(&unit.train_step("turns", 4).unwrap());
    let of = |layer: &str| found.iter().filter(|path| path.starts_with(layer)).count();
    assert_eq!((of("a."), of("b."), found.len()), (5, 5, 10));
    let graph = rounded(&mut unit);
    let rounds = graph.nodes().filter(|(_, node)| matches!(&node.op, Op::Unary(UnaryOp::Round)));
    // Of each of two uses of `a`: the same activations, and weights before and after the first step. `b` has none.
    assert_eq!(rounds.count(), 2 * (5 + 7), "weights, and activations of which two are joined");
    let mut given = given(&unit);
    let first = step(&graph, &mut given);
    assert!(number(&first, "second.loss").is_finite() && number(&given, "$quantise.a.dense_2.w.top") > 0.0);
}

#[test]
fn forward_it_gives_what_the_integers_give() {
    let mut unit = net(&plain("", "quantise(momentum=0.5)"));
    let graph = rounded(&mut unit);
    let mut given = given(&unit);
    step(&graph, &mut given);
    let ranges = LAYERS.map(|layer| {
        let [top, sign] = ["top", "sign"].map(|end| number(&given, &format!("$quantise.{layer}.{end}")) as f32);
        (layer.to_owned(), Range::covering(if sign > 0.0 { -top } else { 0.0 }, top).unwrap())
    });
    let signed: Vec<bool> = ranges.iter().map(|(_, range)| range.signed).collect();
    assert_eq!(signed, [true, false, true, false, true], "images, and what gelu gives, are negative");
    let evaluation = pipeline::inference(&unit.evaluate("Net", 4).unwrap()).unwrap();
    let integers = quantise_floats(&evaluation, &BTreeMap::from(ranges));
    verify::verify(&integers).unwrap();
    let products = integers.nodes().filter(|(_, node)| matches!(&node.op, Op::Conv(_) | Op::Dot { .. }));
    let results: Vec<DType> = products.map(|(_, node)| integers.ty(node.results[0]).dtype).collect();
    assert_eq!(results, [DType::I32; 5]);
    let loss = |graph: &Graph| interpret::run(graph, &given).unwrap().output("loss").unwrap().to_f64()[0];
    let [floats, wanted] = [&evaluation, &integers].map(loss);
    let found = number(&step(&graph, &mut given.clone()), "loss");
    assert!((found - wanted).abs() < 1e-5 && (found - floats).abs() > 1e-4, "{found} for {wanted}, floats {floats}");
}

#[test]
fn a_range_follows_what_steps_see() {
    let mut unit = net(&plain("", "quantise(momentum=0.75, over=Net.dense_2)"));
    unit.rounded.insert("Net".to_owned(), vec!["dense_2.w".to_owned()]);
    let graph = fake_quantise(&unit.train_step("Net", 4).unwrap());
    let top = |given: &Tensors| number(given, "$quantise.dense_2.w.top");
    let mut given = given(&unit);
    assert_eq!(top(&given), 0.0);
    step(&graph, &mut given);
    let first = top(&given);
    given.insert("x".to_owned(), numbers(&[4, 3, 8, 8], 8));
    let mut alone = given.clone();
    alone.insert("$quantise.dense_2.w.top".to_owned(), Tensor::scalar(DType::F32, 0.0));
    step(&graph, &mut alone);
    step(&graph, &mut given);
    let (seen, moved) = (top(&alone), top(&given));
    assert!(first > 0.0 && seen != first, "{first} and {seen}");
    assert!((moved - (0.75 * first + 0.25 * seen)).abs() < 1e-5, "{first} and {seen} made {moved}");
    assert!(!given.contains_key("$quantise.dense_1.w.top"));
}

/// A step whose loss is no number leaves ranges as they were; one that is not rounded yet has none.
#[test]
fn a_withheld_step_moves_no_range() {
    let mut unit = net(&plain("", "quantise(start=0.5)"));
    let graph = rounded(&mut unit);
    let mut given = given(&unit);
    step(&graph, &mut given);
    let before = given.clone();
    given.insert("conv2d_1.b".to_owned(), Tensor::from_f64(DType::F32, &[8], &[f64::INFINITY; 8]));
    step(&graph, &mut given);
    assert!(LAYERS.iter().all(|layer| {
        let path = format!("$quantise.{layer}.top");
        given[&path] == before[&path]
    }));
    let floats = unit.train_steps("Net", 4, &unit.recipes[0].due(4, 10)).unwrap();
    assert!(floats.nodes().all(|(_, node)| node.op.leaf_name().is_none_or(|name| !name.contains("$quantise"))));
    assert_eq!(unit.recipes[0].due(5, 10), BTreeSet::from(["$quantise".to_owned()]));
}

/// The sum of a product, with its derivatives by what is given, by the weights, and by the range, a parameter or a
/// state.
fn line(range: &str) -> Graph {
    let text = format!(
        "graph \"line\" {{
  %0 = input \"x\" : f32[2, 16]
  %1 = neg(%0) : f32[2, 16]
  %2 = param \"a.w\" : f32[16, 8]
  %3 = dot[batch=0, a=[1], b=[0]](%1, %2) : f32[2, 8]
  %4 = reduce[op=sum, axes=[0, 1]](%3) : f32
  %5 = {range} \"$quantise.a.w.top\" : f32
  %6 = input \"$seen.a.w.top\" : f32
  %7 = input \"$seen.a.w.sign\" : f32
  %8, %9, %10 = grad(%4, %0, %2, %5) : f32[2, 16], f32[16, 8], f32
  output \"loss\" = %4
  output \"dx\" = %8
  output \"dw\" = %9
  output \"dtop\" = %10
  output \"seen\" = %6
  output \"sign\" = %7
}}
"
    );
    text::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_rewrite_is_what_one_would_write_by_hand() {
    assert_eq!(text::print(&fake_quantise(&line("state"))), include_str!("fake_quantise.txt"));
}

/// The derivatives of [`line`], as they are by the formulas: through the rounding inside of the range, 0 beyond.
#[test]
fn derivatives_go_straight_through_inside_of_the_range() {
    let (scale, limits) = (1.0 / 128.0, (-128.0, 127.0));
    let graph = grad::expand(&fake_quantise(&line("param")));
    let (x, w) = (numbers(&[2, 16], 5).to_f64(), numbers(&[16, 8], 6));
    let x: Vec<f64> = x.iter().map(|x| f64::from(*x as f32) * 1.5).collect();
    let float = |number: f64| Tensor::scalar(DType::F32, number);
    let given = BTreeMap::from([
        ("x".to_owned(), Tensor::from_f64(DType::F32, &[2, 16], &x)),
        ("a.w".to_owned(), w.clone()),
        ("$quantise.a.w.top".to_owned(), float(127.0 * scale)),
        ("$quantise.a.w.sign".to_owned(), float(1.0)),
    ]);
    let run = interpret::run(&graph, &given).unwrap();
    let found = |name: &str| run.output(name).unwrap().to_f64();
    let numbers: Vec<f64> = x.iter().map(|x| (-x / scale).round_ties_even()).collect();
    let is_inside = |at: usize| (limits.0..=limits.1).contains(&numbers[at]);
    let beyond = (0..32).filter(|&at| !is_inside(at)).count();
    assert!((4..20).contains(&beyond), "{beyond}");
    let w = w.to_f64();
    let step = |channel: usize| (0..16).fold(0f64, |most, term| most.max(w[term * 8 + channel].abs())) / 64.0;
    let fake = |term: usize, channel: usize| (w[term * 8 + channel] / step(channel)).round_ties_even() * step(channel);
    let row = |term: usize| (0..8).map(|channel| fake(term, channel)).sum::<f64>();
    let near = |a: f64, b: f64, what: &str| assert!((a - b).abs() < 1e-4, "{what}: {a} is not {b}");
    let mut by_top = 0.0;
    for at in 0..32 {
        let term = at % 16;
        near(found("dx")[at], if is_inside(at) { -row(term) } else { 0.0 }, "dx");
        let lost = numbers[at] + x[at] / scale;
        by_top += row(term) * if is_inside(at) { lost } else { numbers[at].clamp(limits.0, limits.1) };
    }
    near(found("dtop")[0] / 300.0, by_top * (127f64 / 16.0).sqrt() / 300.0, "dtop");
    for term in 0..16 {
        let sum: f64 = [term, term + 16].iter().map(|&at| numbers[at].clamp(limits.0, limits.1) * scale).sum();
        (0..8).for_each(|channel| near(found("dw")[term * 8 + channel], sum, "dw"));
    }
    near(found("seen")[0], x.iter().fold(0.0, |most: f64, x| most.max(x.abs())), "seen");
    assert_eq!(found("sign"), [1.0]);
}

/// Where rounding changes nothing, derivatives are those of the floats, bit for bit.
#[test]
fn derivatives_of_what_is_whole_are_those_of_the_floats() {
    let plain = line("state");
    let whole = |count: usize, step: f64| (0..count).map(|at| ((at * 37) % 129) as f64 * step - 64.0 * step).collect();
    let mut w: Vec<f64> = whole(128, 0.25);
    w[..8].fill(16.0);
    let x: Vec<f64> = whole(32, 0.5);
    let float = |number: f64| Tensor::scalar(DType::F32, number);
    let mut given = BTreeMap::from([
        ("x".to_owned(), Tensor::from_f64(DType::F32, &[2, 16], &x)),
        ("a.w".to_owned(), Tensor::from_f64(DType::F32, &[16, 8], &w)),
        ("$quantise.a.w.top".to_owned(), float(63.5)),
        ("$quantise.a.w.sign".to_owned(), float(1.0)),
    ]);
    given.extend(["$seen.a.w.top", "$seen.a.w.sign"].map(|name| (name.to_owned(), float(0.0))));
    let run = |graph: &Graph| {
        let run = interpret::run(&grad::expand(graph), &given).unwrap();
        ["loss", "dx", "dw"].map(|name| run.output(name).unwrap().clone())
    };
    assert_eq!(run(&fake_quantise(&plain)), run(&plain));
}
