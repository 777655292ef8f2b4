//! Recipes, run step by step on the interpreter: optimisers against their definitions (those of `torch.optim`), guarded
//! updates, clipping, accumulation, metrics, augmentation, answers, settings.

mod common;

use common::{
    Nothing, State, X, Y, adam, assert_near, examples, first_values, fit, gradient, step, step_inputs, train_graph,
    turns, unit, unit_with,
};
use nnc_graph::interpret::run;
use nnc_graph::{DType, Graph, Op, OutputKind, Tensor};
use nnc_lang::diagnostic::render;
use nnc_lang::elaborate::{Holdout, Options, check};
use std::collections::BTreeMap;

/// The weights after each of five steps.
fn weights(optimizer: &str) -> Vec<[f64; 2]> {
    let unit = unit(&fit(&format!("minimize mse(p, y) using {optimizer}")));
    let graph = train_graph(&unit, "Fit", 3);
    let mut state = first_values(&unit, "Fit", 1);
    let mut weights = Vec::new();
    for iteration in 0..5 {
        step(&graph, &mut state, &examples(), iteration);
        let w = state["w"].to_f64();
        weights.push([w[0], w[1]]);
    }
    weights
}

/// The weights after each of five steps of a rule: `(step, weight, gradient, axis) -> weight`.
fn expected(mut rule: impl FnMut(i32, f64, f64, usize) -> f64) -> Vec<[f64; 2]> {
    let mut w = [0.5, 0.5];
    let mut weights = Vec::new();
    for t in 1..=5 {
        let g = gradient(w);
        w = [0, 1].map(|axis| rule(t, w[axis], g[axis], axis));
        weights.push(w);
    }
    weights
}

fn assert_path(optimizer: &str, want: Vec<[f64; 2]>) {
    for (at, (got, want)) in weights(optimizer).into_iter().zip(want).enumerate() {
        for axis in 0..2 {
            assert!((got[axis] - want[axis]).abs() < 1e-12, "{optimizer}, step {at}: {got:?} is not {want:?}");
        }
    }
}

#[test]
fn sgd() {
    assert_path("sgd(lr=0.1)", expected(|_, w, g, _| w - 0.1 * g));
    assert_path("sgd", expected(|_, w, g, _| w - 1e-3 * g));
    for nesterov in [false, true] {
        let mut v = [0.0; 2];
        let rule = |_, w: f64, g: f64, axis: usize| {
            let d = g + 0.01 * w;
            v[axis] = 0.9 * v[axis] + d;
            w - 0.1 * if nesterov { d + 0.9 * v[axis] } else { v[axis] }
        };
        let want = expected(rule);
        assert_path(&format!("sgd(lr=0.1, momentum=0.9, nesterov={nesterov}, weight_decay=0.01)"), want);
    }
}

#[test]
fn adam_and_adamw() {
    assert_path("adam(lr=0.1)", expected(adam(0.0, 0.0)));
    assert_path("adam(lr=0.1, weight_decay=0.2)", expected(adam(0.2, 0.0)));
    assert_path("adamw(lr=0.1, weight_decay=0.2)", expected(adam(0.0, 0.2)));
    assert_path("adamw(lr=0.1)", expected(adam(0.0, 0.01)));
}

#[test]
fn rmsprop() {
    for (centered, momentum) in [(false, 0.0), (true, 0.0), (true, 0.5)] {
        let (mut s, mut a, mut b) = ([0.0; 2], [0.0; 2], [0.0; 2]);
        let rule = |_, w: f64, g: f64, axis: usize| {
            s[axis] = 0.9 * s[axis] + 0.1 * g * g;
            a[axis] = 0.9 * a[axis] + 0.1 * g;
            let spread = if centered { s[axis] - a[axis] * a[axis] } else { s[axis] };
            b[axis] = momentum * b[axis] + g / (spread.sqrt() + 1e-8);
            w - 0.1 * b[axis]
        };
        let want = expected(rule);
        assert_path(&format!("rmsprop(lr=0.1, alpha=0.9, momentum={momentum}, centered={centered})"), want);
    }
}

#[test]
fn lion() {
    let mut m = [0.0; 2];
    let want = expected(|_, w, g, axis| {
        let direction: f64 = 0.9 * m[axis] + 0.1 * g;
        m[axis] = 0.99 * m[axis] + 0.01 * g;
        w - 0.1 * direction.signum()
    });
    assert_path("lion(lr=0.1)", want);
}

#[test]
fn adagrad() {
    let mut total = [0.0; 2];
    let want = expected(|_, w, g, axis| {
        let d = g + 0.01 * w;
        total[axis] += d * d;
        w - 0.1 * d / (total[axis].sqrt() + 1e-10)
    });
    assert_path("adagrad(lr=0.1, weight_decay=0.01)", want);
}

/// What Adam would move the weights by, with its moments.
fn adam_step(t: i32, m: &mut [f64; 2], v: &mut [f64; 2], g: [f64; 2], epsilon: f64) -> [f64; 2] {
    [0, 1].map(|axis| {
        m[axis] = 0.9 * m[axis] + 0.1 * g[axis];
        v[axis] = 0.999 * v[axis] + 0.001 * g[axis] * g[axis];
        m[axis] / (1.0 - 0.9f64.powi(t)) / ((v[axis] / (1.0 - 0.999f64.powi(t))).sqrt() + epsilon)
    })
}

#[test]
fn lamb() {
    let (mut w, mut m, mut v) = ([0.5, 0.5], [0.0; 2], [0.0; 2]);
    let want = (1..=5).map(|t| {
        let d = adam_step(t, &mut m, &mut v, gradient(w), 1e-6);
        let d = [0, 1].map(|axis| d[axis] + 0.02 * w[axis]);
        let trust = w[0].hypot(w[1]) / d[0].hypot(d[1]);
        w = [0, 1].map(|axis| w[axis] - 0.1 * trust * d[axis]);
        w
    });
    assert_path("lamb(lr=0.1, weight_decay=0.02)", want.collect());
}

#[test]
fn lookahead() {
    let (mut w, mut m, mut v) = ([0.5, 0.5], [0.0; 2], [0.0; 2]);
    let mut slow = w;
    let want = (1..=5).map(|t| {
        let d = adam_step(t, &mut m, &mut v, gradient(w), 1e-8);
        w = [0, 1].map(|axis| w[axis] - 0.1 * d[axis]);
        if t % 2 == 0 {
            slow = [0, 1].map(|axis| slow[axis] + 0.75 * (w[axis] - slow[axis]));
            w = slow;
        }
        w
    });
    assert_path("lookahead(lr=0.1, every=2, alpha=0.75)", want.collect());
}

/// Means and variances as `torch.nn.BatchNorm1d` has them after one step and after two.
#[test]
fn batch_norm_keeps_the_mean_and_the_unbiased_variance() {
    let unit = unit(&fit("minimize mse(p, y) using sgd(lr=0.0)").replace("x @ w", "batch_norm(x) @ w"));
    let graph = train_graph(&unit, "Fit", 3);
    let mut state = first_values(&unit, "Fit", 1);
    let mut given = examples();
    // Both columns 1, -1, 0.25 and 2, 0.5, -2 by rows.
    given.insert("x".to_owned(), Tensor::from_f64(DType::F32, &[3, 2], &[1.0, 2.0, -1.0, 0.5, 0.25, -2.0]));
    for (mean, variance) in [
        ([0.008333333333333333, 0.016666666666666666], [1.0020833333333334, 1.3083333333333333]),
        ([0.01583333333333333, 0.03166666666666666], [1.0039583333333335, 1.5858333333333334]),
    ] {
        step(&graph, &mut state, &given, 0);
        for (name, want) in [("batch_norm_1.mean", mean), ("batch_norm_1.variance", variance)] {
            let got = state[name].to_f64();
            assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12), "{name}: {got:?}");
        }
    }
}

#[test]
fn clipping_scales_by_the_joint_norm() {
    for limit in [0.5, 100.0] {
        let unit = unit(&fit(&format!("minimize mse(p, y) using sgd(lr=0.1), clip_norm={limit:?}")));
        let mut state = first_values(&unit, "Fit", 1);
        step(&train_graph(&unit, "Fit", 3), &mut state, &examples(), 0);
        let g = gradient([0.5, 0.5]);
        let norm = (g[0] * g[0] + g[1] * g[1]).sqrt();
        let scale = (limit / (norm + 1e-6)).min(1.0);
        for (w, g) in state["w"].to_f64().into_iter().zip(g) {
            assert!((w - (0.5 - 0.1 * scale * g)).abs() < 1e-12);
        }
    }
}

#[test]
fn accumulation_updates_each_second_step() {
    let unit = unit(&fit("minimize mse(p, y) using adam(lr=0.1), accumulate=2"));
    let graph = train_graph(&unit, "Fit", 3);
    let mut state = first_values(&unit, "Fit", 1);
    let mut rule = adam(0.0, 0.0);
    let mut w = [0.5, 0.5];
    for iteration in 0..4 {
        step(&graph, &mut state, &examples(), iteration);
        if iteration % 2 == 1 {
            let g = gradient(w);
            w = [0, 1].map(|axis| rule(iteration as i32 / 2 + 1, w[axis], g[axis], axis));
        }
        for (got, want) in state["w"].to_f64().into_iter().zip(w) {
            assert!((got - want).abs() < 1e-12, "step {iteration}");
        }
    }
    assert_eq!(state["$optimizer.w.$accumulated"].to_f64(), [0.0, 0.0]);
}

/// What is trained goes its way as without an average; the parameter follows as the mean of it.
#[test]
fn averaged_weights_follow_those_that_are_trained() {
    let unit = unit(&fit("minimize mse(p, y) using adam(lr=0.1), average=0.75"));
    let graph = train_graph(&unit, "Fit", 3);
    let mut state = first_values(&unit, "Fit", 1);
    // As from a file: the training begins with it, whatever the state beside it holds.
    state.insert("w".to_owned(), Tensor::from_f64(DType::F64, &[2], &[0.25, -1.0]));
    let mut rule = adam(0.0, 0.0);
    let (mut w, mut mean) = ([0.25, -1.0], [0.25, -1.0]);
    for iteration in 0..40 {
        step(&graph, &mut state, &examples(), iteration);
        let g = gradient(w);
        w = [0, 1].map(|axis| rule(iteration as i32 + 1, w[axis], g[axis], axis));
        let decay = f64::min(0.75, (1 + iteration) as f64 / (10 + iteration) as f64);
        mean = [0, 1].map(|axis| decay * mean[axis] + (1.0 - decay) * w[axis]);
        assert_near(&state, "$optimizer.w.$fast", w);
        assert_near(&state, "w", mean);
    }
    let before = state.clone();
    let mut broken = examples();
    broken.insert("y".to_owned(), Tensor::from_f64(DType::F32, &[3], &[f64::NAN, 0.0, 0.0]));
    step(&graph, &mut state, &broken, 40);
    assert_eq!(before, state, "a loss that is not finite moves neither");
}

#[test]
fn an_average_goes_with_parts_that_are_trained() {
    let unit = unit(&turns(
        "step first { minimize mse(a(x), y) over a using sgd(lr=0.1), average=0.9 }
         step second { minimize mse(b(x), a(x)) over b using sgd(lr=0.1) }",
    ));
    let graph = train_graph(&unit, "turns", 3);
    let mut state = first_values(&unit, "turns", 1);
    assert!(state.contains_key("$optimizer.first.a.w.$fast") && !state.contains_key("$optimizer.second.b.w.$fast"));
    step(&graph, &mut state, &examples(), 0);
    let trained = [0, 1].map(|axis| 0.5 - 0.1 * gradient([0.5, 0.5])[axis]);
    assert_near(&state, "$optimizer.first.a.w.$fast", trained);
    assert_near(&state, "a.w", trained.map(|w| 0.1 * 0.5 + 0.9 * w));
}

#[test]
fn a_step_without_a_finite_loss_changes_nothing() {
    let unit = unit(&fit("minimize mse(p, y) using adam(lr=0.1)"));
    let graph = train_graph(&unit, "Fit", 3);
    let mut state = first_values(&unit, "Fit", 1);
    step(&graph, &mut state, &examples(), 0);
    let before = state.clone();
    let mut broken = examples();
    broken.insert("y".to_owned(), Tensor::from_f64(DType::F32, &[3], &[f64::NAN, 0.0, 0.0]));
    let results = step(&graph, &mut state, &broken, 1);
    assert!(results["loss"].to_f64()[0].is_nan());
    assert_eq!(state, before);
}

#[test]
fn metrics_are_means_or_accumulate() {
    let rest = "minimize mse(p, y) using sgd
        metric error = mean_absolute_error(p, y)
        metric root = root_mean_squared_error(p, y)
        metric positive = f1(p > 0, y > 0)";
    let unit = unit(&fit(rest));
    let kinds: Vec<bool> = unit.recipes[0].metrics.iter().map(|metric| metric.accumulates).collect();
    assert_eq!(kinds, [false, true, true]);
    let graph = unit.evaluate("Fit", 3).expect("it builds");
    let mut state = first_values(&unit, "Fit", 1);
    let predicted = |row: usize| 0.5 * (X[2 * row] + X[2 * row + 1]);
    let squares: f64 = (0..3).map(|row| (predicted(row) - Y[row]).powi(2)).sum();
    let mut other = examples();
    other.insert("y".to_owned(), Tensor::from_f64(DType::F32, &[3], &[0.0; 3]));
    let others: f64 = (0..3).map(|row| predicted(row).powi(2)).sum();
    let close = |tensor: &Tensor, want: f64| assert!((tensor.to_f64()[0] - want).abs() < 1e-12, "{want}");
    let results = step(&graph, &mut state, &examples(), 0);
    close(&results["loss"], squares / 3.0);
    close(&results["root"], (squares / 3.0).sqrt());
    close(&results["positive"], 2.0 / 3.0);
    let results = step(&graph, &mut state, &other, 0);
    close(&results["root"], ((squares + others) / 6.0).sqrt());
    // A training step goes on with what was accumulated; whoever trains begins anew with each epoch.
    let results = step(&train_graph(&unit, "Fit", 3), &mut state, &examples(), 0);
    close(&results["root"], ((2.0 * squares + others) / 9.0).sqrt());
    assert_eq!(state["$metric.root.count"].to_f64(), [9.0]);
}

/// Two batches of three, of which the first is `examples`; the sixth label is 1 where 0 was predicted.
/// A square matrix is told by an evaluation alone, and for each batch apart: whoever evaluates adds them up.
#[test]
fn a_metric_may_be_a_square_matrix() {
    let unit = unit(&fit("minimize mse(p, y) using sgd
        metric above = confusion(i32(p > 0), i32(y > 0), 2)"));
    let info = &unit.recipes[0];
    assert_eq!((info.matrices.as_slice(), info.metrics.len()), (&["above".to_owned()][..], 0));
    assert_eq!(info.measured().collect::<Vec<_>>(), ["loss"]);
    assert!(train_graph(&unit, "Fit", 3).outputs().iter().all(|output| output.name != "above"));
    let graph = unit.evaluate("Fit", 3).unwrap();
    let mut state = first_values(&unit, "Fit", 1);
    let results = step(&graph, &mut state, &examples(), 0);
    // With weights of a half, p is 1.5, -0.25 and -0.875, for y of 1, -2 and 0.5.
    assert_eq!(results["above"].to_f64(), [1.0, 0.0, 1.0, 1.0]);
}

#[test]
fn metrics_of_classes_accumulate() {
    let rest = "minimize mse(p, y) using sgd
        guess = p > 0
        truth = y > 0
        metric precision = precision(guess, truth)
        metric recall = recall(guess, truth)
        metric iou = iou(guess, truth)
        metric mean_iou = mean_iou(i32(guess), i32(truth), classes=3)
        metric macro_f1 = macro_f1(i32(guess), i32(truth), classes=3)
        metric perplexity = perplexity(stack([p, 0 * p], axis=1), i32(truth))";
    let unit = unit(&fit(rest));
    assert!(unit.recipes[0].metrics.iter().all(|metric| metric.accumulates));
    let graph = unit.evaluate("Fit", 3).expect("it builds");
    let mut state = first_values(&unit, "Fit", 1);
    let p = [1.5, -0.25, -0.875];
    let mut other = examples();
    other.insert("y".to_owned(), Tensor::from_f64(DType::F32, &[3], &[1.0, 1.0, -1.0]));
    step(&graph, &mut state, &examples(), 0);
    let results = step(&graph, &mut state, &other, 0);
    // Guesses 1 0 0 1 0 0, labels 1 0 1 1 1 0.
    let entropy = |p: f64, label: bool| (1.0 + (if label { p } else { -p }).exp()).ln();
    let labels = [true, false, true, true, true, false];
    let entropies: f64 = (0..6).map(|row| entropy(p[row % 3], labels[row])).sum();
    for (name, want) in [
        ("precision", 1.0),
        ("recall", 0.5),
        ("iou", 0.5),
        ("mean_iou", (2.0 / 4.0 + 2.0 / 4.0) / 2.0),
        ("macro_f1", (4.0 / 6.0 + 4.0 / 6.0) / 2.0),
        ("perplexity", (entropies / 6.0).exp()),
    ] {
        let got = results[name].to_f64()[0];
        assert!((got - want).abs() < 1e-12, "{name}: {got} is not {want}");
    }
}

/// Against a count of runs in dictionaries, in Python.
#[test]
fn bleu_counts_runs_of_words() {
    let rest = "minimize mse(p, y) using sgd
        guess = reshape(constant_of([4, 5, 6, 7, 4, 5, 3, 9, 8, 8, 8, 9, 5, 0, 0, 0], i32(y)), [2, 8])
        truth = reshape(constant_of([4, 5, 6, 7, 8, 4, 5, 8, 9, 5, 6, 7, 3, 3], i32(y)), [2, 7])
        metric bleu = bleu(guess, truth)
        metric pairs = bleu(guess, truth, order=2)
        apart = reshape(constant_of([4, 6, 4, 6, 4, 6, 4, 6, 8, 5, 8, 5, 8, 5, 8, 5], i32(y)), [2, 8])
        metric none = bleu(apart, truth, order=2)
        metric same = bleu(truth, truth)";
    let unit = unit(&fit(rest));
    let graph = unit.evaluate("Fit", 3).expect("it builds");
    let mut state = first_values(&unit, "Fit", 1);
    for _ in 0..2 {
        let results = step(&graph, &mut state, &examples(), 0);
        for (name, want) in [("bleu", 0.4245918242808747), ("pairs", 0.6743695714888822), ("same", 1.0)] {
            let got = results[name].to_f64()[0];
            assert!((got - want).abs() < 1e-12, "{name}: {got} is not {want}");
        }
        assert_eq!(results["none"].to_f64(), [0.0], "no pair is found");
    }
}

#[test]
fn settings_can_be_set_from_outside() {
    let text = fit("rate = 0.1\n minimize mse(p, y) using sgd(lr=rate)");
    let set = unit_with(&text, &[("epochs", "7"), ("rate", "0.25")], DType::F64);
    assert_eq!((set.recipes[0].epochs, set.recipes[0].batch), (7, 3));
    let mut state = first_values(&set, "Fit", 1);
    step(&train_graph(&set, "Fit", 3), &mut state, &examples(), 0);
    assert!((state["w"].to_f64()[0] - (0.5 - 0.25 * gradient([0.5, 0.5])[0])).abs() < 1e-12);
    let most = "`batch` is at most 2147483648";
    for (name, value, column, words) in [
        ("epoch", "7", 7, "did you mean `epochs`?"),
        ("epochs", "x", 14, "takes a whole number"),
        ("batch", "0", 13, "`batch` is at least 1, not 0"),
        ("batch", "9223372036854775807", 13, most),
    ] {
        let set = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let checked = check("test.nn", &text, &Nothing, &Options { set, ..Options::default() });
        let shown = render(&checked.diagnostics, &checked.sources, false);
        assert!(shown.contains(&format!("--> command line:1:{column}\n")), "{shown}");
        assert!(shown.contains(&format!("--set {name}={value}\n")) && shown.contains(words), "{shown}");
    }
}

#[test]
fn only_open_dims_are_bound_from_outside() {
    let text = fit("minimize mse(p, y) using sgd(lr=0.1)").replace("f32[2], f32) =", "f32[Width], f32) =");
    let shown = |dims: &[&str]| {
        let bind = dims.iter().map(|name| ((*name).to_owned(), 2)).collect();
        let checked = check("test.nn", &text, &Nothing, &Options { bind, ..Options::default() });
        render(&checked.diagnostics, &checked.sources, false)
    };
    assert_eq!(shown(&["Width"]), "");
    assert_eq!(shown(&["Width", "N"]), "");
    let wrong = shown(&["Width", "Widht"]);
    assert!(wrong.contains("--bind Widht=2\n  |        ^^^^^") && wrong.contains("did you mean `Width`?"), "{wrong}");
    assert!(shown(&["Width", "Fit"]).contains("leaves no dim `Fit` open"));
    assert!(shown(&["Width", "M"]).contains("there are `N`, `Width`"));
}

const PARTS: &str = "
model Head(x: f32[N, 2]) -> f32[N, 1] { return dense(x, 1) }
model Two(x: f32[N, 2]) -> f32[N] {
    h = dense(x, 2) as trunk
    return (Head(h) as head)[:, 0]
}
data points {
    train: (f32[2], f32) = csv(\"points.csv\")
    x: f32[2] = train.0
    y: f32 = train.1
}
train Two on points {
    epochs = 1; batch = 3
    minimize mse(Two(x), y) using sgd(lr=0.1)
        over Two.head using sgd(lr=0.0)
}";

#[test]
fn the_most_specific_part_wins() {
    let unit = unit(PARTS);
    let mut state = first_values(&unit, "Two", 1);
    let before = state.clone();
    step(&train_graph(&unit, "Two", 3), &mut state, &examples(), 0);
    assert_eq!(state["head.dense_1.w"], before["head.dense_1.w"]);
    assert_ne!(state["trunk.w"], before["trunk.w"]);
    // Without an answer, a recipe answers with its model's result, also when that stands in the loss alone.
    let answer = unit.answer("Two", None, 3).expect("it builds");
    assert_eq!(answer.outputs()[0].name, "result");
    assert_eq!(inputs(&answer), ["x"]);
}

/// Each parameter goes by the optimiser of its own part, whatever their order.
#[test]
fn parts_have_optimisers_of_their_own() {
    let head = "over Two.head using adam(lr=0.1)";
    let rest = "over Two using sgd(lr=0.1, momentum=0.9)";
    for parts in [format!("{head}, {rest}"), format!("{rest}, {head}")] {
        let (from, to) = PARTS.split_once("using sgd(lr=0.1)").expect("the parts");
        let text = format!("{from}{parts}{}", &to[to.find('}').expect("the end")..]);
        let unit = unit(&text);
        let own = |path: &&String| path.starts_with("$optimizer.");
        let state = first_values(&unit, "Two", 1);
        let names: Vec<&str> = state.keys().filter(own).map(|path| &path["$optimizer.".len()..]).collect();
        let adam = ["head.dense_1.b.m", "head.dense_1.b.v", "head.dense_1.w.m", "head.dense_1.w.v"];
        assert_eq!(names, [&adam[..], &["trunk.b.velocity", "trunk.w.velocity"]].concat());
        let mut after = state.clone();
        step(&train_graph(&unit, "Two", 3), &mut after, &examples(), 0);
        // Adam's first step is the rate, whatever the gradient.
        let moved = after["head.dense_1.b"].to_f64()[0] - state["head.dense_1.b"].to_f64()[0];
        assert!((moved.abs() - 0.1).abs() < 1e-6, "{moved}");
    }
}

fn inputs(graph: &Graph) -> Vec<&str> {
    graph
        .nodes()
        .filter_map(|(_, node)| if let Op::Input { name, .. } = &node.op { Some(&**name) } else { None })
        .collect()
}

const IMAGES: &str = "
model Flat(image: f32[N, 3, 3]) -> f32[N, 9] { return flatten(image) |> dense(9, bias=false) |> batch_norm }
data images {
    train: (u8[3, 3], u8, f32) = npy(\"a.npy\", \"b.npy\", \"c.npy\")
    test = every(5)
    validation = 0.25
    image: f32[3, 3] = f32(train.0)
    label: i32 = i32(train.1)
    both: f32 = train.2 + f32(train.1)
    augment image = image |> random_shift(1) |> random_flip
    classes = [\"a\", \"b\"]
}
train Flat on images {
    epochs = 1; batch = 2
    scores = Flat(image)
    minimize cross_entropy(scores, label) + 0 * mean(both) using sgd
    stop_early(on=validation.loss)
    answer scores = (scores, argmax(scores))
    answer mean = mean(scores, axis=-1)
}";

#[test]
fn parts_of_a_text_are_its_ends() {
    let unit = unit(
        "data letters {
            train: i32[5] = text(\"a.txt\", vocabulary=7)
            test = 0.1
            validation = 0.2
            tokens: i32[4] = train[0..4]
            next: i32[4] = train[1..5]
        }",
    );
    let data = &unit.data[0];
    assert!(data.is_text());
    assert_eq!(data.vocabulary(), Some(7));
    assert_eq!((data.test.clone(), data.validation.clone()), (Some(Holdout::Tail(0.1)), Some(Holdout::Tail(0.2))));
    assert_eq!((&*data.raw[0].name, data.raw[0].ty.to_string()), ("tokens", "i32[5]".to_owned()));
}

#[test]
fn words_have_their_tables() {
    let unit = unit(
        "data pairs {
            train: (words[3], f32, words[5]) = csv(\"a.csv\", vocabulary=[70, 90], lowercase=true)
            validation: (words[3], f32, words[5]) = csv(\"b.csv\")
            from: i32[3] = train.0
            score: f32 = train.1
            into: i32[6] = ended(train.2)
        }
        data shared { train: (words[3], words[5]) = text(\"a.de\", \"a.en\", vocabulary=70) }",
    );
    let (pairs, shared) = (&unit.data[0], &unit.data[1]);
    assert!(!pairs.is_text() && pairs.vocabulary().is_none() && pairs.is_lowercase());
    assert_eq!(pairs.tables, [70, 90]);
    let fields: Vec<(&str, String, Option<usize>)> =
        pairs.raw.iter().map(|field| (&*field.name, field.ty.to_string(), field.table)).collect();
    let expected = [("from", "i32[3]", Some(0)), ("score", "f32", None), ("into", "i32[5]", Some(1))];
    assert_eq!(fields, expected.map(|(name, ty, table)| (name, ty.to_owned(), table)));
    assert_eq!(pairs.splits[1].name, "validation");
    assert_eq!((&shared.tables[..], shared.raw[1].table), (&[70][..], Some(0)));
    assert!(!shared.is_text() && !shared.is_lowercase());
}

#[test]
fn tokens_are_windows_of_one_text_and_lines_of_several() {
    let unit = unit(
        "data running {
            train: tokens[5] = text(\"a.txt\", vocabulary=300)
            test = 0.1
            tokens: i32[4] = train[0..4]
        }
        data pairs { train: (tokens[3], tokens[5]) = text(\"a.de\", \"a.en\", vocabulary=270); test = 0.1 }
        data cells { train: (tokens[3], f32) = csv(\"a.csv\", vocabulary=270) }",
    );
    let [running, pairs, cells] = &unit.data[..] else { panic!("three blocks") };
    assert!(running.is_running_tokens() && !running.is_text() && running.test == Some(Holdout::Tail(0.1)));
    assert_eq!((running.raw[0].table, running.raw[0].ty.to_string()), (Some(0), "i32[5]".to_owned()));
    assert!(!pairs.is_running_tokens() && pairs.test == Some(Holdout::Fraction(0.1)));
    assert!(!cells.is_running_tokens() && cells.raw[1].table.is_none());
}

#[test]
fn sounds_have_a_rate_and_names() {
    let unit = unit(
        "data digits {
            train: (f32[800], u8) = wav(\"digits\", rate=8000, label=\"{}_*\")
            test = named(\"*_theo_*\")
        }",
    );
    assert_eq!(unit.data[0].rate(), Some(8000));
    assert_eq!(unit.data[0].test, Some(Holdout::Named(vec!["*_theo_*".to_owned()])));
}

#[test]
fn data_says_what_it_is() {
    let unit = unit_with(IMAGES, &[], DType::F32);
    let data = &unit.data[0];
    let raw: Vec<(&str, String)> = data.raw.iter().map(|field| (&*field.name, field.ty.to_string())).collect();
    assert_eq!(raw, [("image", "u8[3, 3]".to_owned()), ("label", "u8".to_owned()), ("train.2", "f32".to_owned())]);
    assert_eq!((data.test.clone(), data.validation.clone()), (Some(Holdout::Every(5)), Some(Holdout::Fraction(0.25))));
    assert_eq!(data.classes.as_deref(), Some(&["a".to_owned(), "b".to_owned()][..]));
    assert!(data.augmented);
    assert_eq!(data.splits.len(), 1);
    let answers: Vec<&str> = unit.recipes[0].answers.iter().map(|answer| &*answer.name).collect();
    assert_eq!(answers, ["scores", "mean"]);
    assert_eq!(
        unit.recipes[0].stop_early.as_ref().map(|stop| (&*stop.on, stop.patience)),
        Some(("validation.loss", 3))
    );
}

#[test]
fn graphs_need_only_what_they_use() {
    let unit = unit_with(IMAGES, &[], DType::F32);
    let train = unit.train_step("Flat", 2).expect("it builds");
    assert_eq!(inputs(&train), ["image", "label", "train.2", "$seed", "$draw"]);
    let answer = unit.answer("Flat", None, 2).expect("it builds");
    assert_eq!(inputs(&answer), ["image"]);
    let outputs: Vec<&str> = answer.outputs().iter().map(|output| &*output.name).collect();
    assert_eq!(outputs, ["scores.0", "scores.1", "mean"]);
    let one = unit.answer("Flat", Some("mean"), 2).expect("it builds");
    assert_eq!(one.outputs().len(), 1);
    assert!(unit.answer("Flat", Some("means"), 2).is_err());
    assert!(unit.train_step("Flut", 2).is_err());
    let count = |op: &str| train.nodes().filter(|(_, node)| node.op.name() == op).count();
    assert_eq!((count("dot"), count("grad")), (1, 1), "one forward pass");
    let updates = train.outputs().iter().filter(|output| matches!(output.kind, OutputKind::Update(_)));
    let updates: Vec<&str> = updates.map(|output| &*output.name).collect();
    let own = ["dense_1.w", "batch_norm_1.scale", "batch_norm_1.shift", "batch_norm_1.mean", "batch_norm_1.variance"];
    assert_eq!(updates, own);
}

/// The augmented image is the input with rows and columns moved by at most one, and perhaps mirrored; draws differ.
#[test]
fn augmentation_moves_and_mirrors_each_example() {
    let unit = unit_with(IMAGES, &[], DType::F32);
    let n = 40;
    let graph = unit.train_step("Flat", n).expect("it builds");
    let pixels: Vec<f64> = (0..n * 9).map(|at| (at % 9) as f64).collect();
    let given = [
        ("image", Tensor::from_f64(DType::U8, &[n, 3, 3], &pixels)),
        ("label", Tensor::from_f64(DType::U8, &[n], &vec![0.0; n])),
        ("train.2", Tensor::from_f64(DType::F32, &[n], &vec![0.0; n])),
        ("$draw", Tensor::from_f64(DType::I64, &[n], &(0..n).map(|at| at as f64).collect::<Vec<_>>())),
    ];
    let given = given.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).chain(step_inputs(0));
    let given: State = given.chain(first_values(&unit, "Flat", 1)).collect();
    let expanded = nnc_opt::grad::expand(&graph);
    let run = run(&expanded, &given).expect("it runs");
    let mut gathers = expanded.nodes().filter(|(_, node)| node.op.name() == "gather").map(|(_, node)| node.results[0]);
    let image = gathers.rfind(|&value| expanded.ty(value).to_string() == "f32[40, 3, 3]");
    let image = image.expect("the last augmentation gathers");
    let images = run.value(image).to_f64();
    let mut seen = std::collections::BTreeSet::new();
    for image in images.chunks(9) {
        let rows: Vec<i64> = (0..3).map(|row| image[3 * row] as i64 / 3).collect();
        let columns: Vec<i64> = (0..3).map(|column| image[column] as i64 % 3).collect();
        for (place, &value) in image.iter().enumerate() {
            assert_eq!(value as i64, rows[place / 3] * 3 + columns[place % 3], "{image:?}");
        }
        let moves = [[0, 1, 2], [0, 0, 1], [1, 2, 2]];
        assert!(moves.iter().any(|allowed| rows == allowed), "{rows:?}");
        let mirrored: Vec<i64> = columns.iter().rev().copied().collect();
        assert!(moves.iter().any(|allowed| columns == allowed || mirrored == allowed), "{columns:?}");
        seen.insert((rows, columns));
    }
    assert!(seen.len() > 9, "{seen:?}");
}

#[test]
fn random_crop_keeps_the_size() {
    let text = IMAGES.replace("|> random_shift(1) |> random_flip", "|> random_crop(1)");
    let unit = unit_with(&text, &[], DType::F32);
    assert!(unit.train_step("Flat", 2).is_ok());
}

#[test]
fn dropout_keeps_the_mean() {
    let text = fit("minimize mse(p, y) using sgd").replace("return x @ w", "return dropout(x, 0.25) @ w");
    let unit = unit_with(&text, &[], DType::F32);
    let graph = unit.train_step("Fit", 400).expect("it builds");
    let given = BTreeMap::from([
        ("x".to_owned(), Tensor::from_f64(DType::F32, &[400, 2], &[3.0; 800])),
        ("y".to_owned(), Tensor::from_f64(DType::F32, &[400], &[0.0; 400])),
        ("w".to_owned(), Tensor::from_f64(DType::F32, &[2], &[1.0; 2])),
    ]);
    let given: State = given.into_iter().chain(step_inputs(0)).collect();
    let expanded = nnc_opt::grad::expand(&graph);
    let run = run(&expanded, &given).expect("it runs");
    let select = expanded.nodes().find(|(_, node)| node.op == Op::Select).expect("dropout selects").1.results[0];
    let values = run.value(select).to_f64();
    assert!(values.iter().all(|&value| value == 0.0 || value == 4.0));
    let kept = values.iter().filter(|value| **value != 0.0).count();
    assert!((550..650).contains(&kept), "{kept} of 800 at 0.75");
}

/// With a rate of 0 nothing is dropped, so nothing is drawn.
#[test]
fn dropout_of_nothing_draws_nothing() {
    let drawn = |rate: &str| {
        let text =
            fit("minimize mse(p, y) using sgd").replace("return x @ w", &format!("return dropout(x, {rate}) @ w"));
        let unit = unit_with(&text, &[], DType::F32);
        let graph = unit.train_step("Fit", 4).expect("it builds");
        graph.nodes().filter(|(_, node)| matches!(node.op, Op::Random { .. })).count()
    };
    assert_eq!((drawn("0.0"), drawn("0.25")), (0, 1));
}

#[test]
fn a_label_may_name_a_recipe_with_layers() {
    let text = PARTS.replace("train Two on", "train fit on").replace("over Two.head", "over net.head");
    let text = text.replace("minimize mse(Two(x), y)", "layer net = Two()\n minimize mse(net(x), y)");
    let text = text.replace("using sgd(lr=0.0)", "using sgd(lr=0.0)\n answer y = net(x)");
    let unit = unit(&text);
    let paths: Vec<String> = first_values(&unit, "fit", 1).into_keys().collect();
    assert_eq!(paths, ["net.head.dense_1.b", "net.head.dense_1.w", "net.trunk.b", "net.trunk.w"]);
}

/// A frozen layer is what it is outside training: no gradient, no state of an optimiser, statistics and dropout still.
#[test]
fn a_frozen_layer_stays_as_it_is() {
    let text = "model Trunk(x: f32[N, 2]) -> f32[N, 4] {
            state uses: f32 = zeros()
            uses <- uses + 1
            return x |> batch_norm |> dense(4) |> dropout(0.5)
        }
        data points {
            train: (f32[2], f32[1]) = csv(\"points.csv\")
            x: f32[2] = train.0
            y: f32[1] = train.1
        }
        train transfer on points {
            epochs = 2; batch = 3
            layer trunk = Trunk() frozen
            layer head = dense(1)
            minimize mse(head(trunk(x)), y) using adam(lr=0.1)
            answer y = head(trunk(x))
        }";
    let unit = unit(text);
    let mut state = first_values(&unit, "transfer", 1);
    let before = state.clone();
    assert!(!state.keys().any(|path| path.starts_with("$optimizer.trunk")), "{:?}", state.keys());
    let mut given = examples();
    given.insert("y".to_owned(), Tensor::from_f64(DType::F32, &[3, 1], &Y));
    given.remove("x");
    given.insert("x".to_owned(), examples()["x"].clone());
    let graph = train_graph(&unit, "transfer", 3);
    assert!(!graph.nodes().any(|(_, node)| matches!(node.op, Op::Random { .. })), "dropout rests");
    step(&graph, &mut state, &given, 0);
    for (path, tensor) in &before {
        let is_trunk = path.starts_with("trunk.");
        let changed = state[path] != *tensor;
        assert_eq!(changed, !is_trunk, "{path}");
    }
}

#[test]
fn one_seed_gives_one_start() {
    let unit = unit(PARTS);
    assert_eq!(first_values(&unit, "Two", 5), first_values(&unit, "Two", 5));
    assert_ne!(first_values(&unit, "Two", 5)["trunk.w"], first_values(&unit, "Two", 6)["trunk.w"]);
}
