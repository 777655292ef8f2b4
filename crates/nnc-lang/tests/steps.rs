//! Training that alternates, run on the interpreter: steps, what they share and what is their own; accumulation beside
//! a larger batch, a gradient penalty, pictures.

mod common;

use common::{State, X, Y, adam, assert_near, examples, first_values, fit, gradient, step, train_graph, turns, unit};
use nnc_graph::{DType, Op, Tensor};

/// Gradient of `mean((x w - x v)^2)` by `w`.
fn pulled(w: [f64; 2], v: [f64; 2]) -> [f64; 2] {
    let mut gradient = [0.0; 2];
    for row in X.chunks_exact(2) {
        let error = row[0] * (w[0] - v[0]) + row[1] * (w[1] - v[1]);
        gradient[0] += 2.0 * error * row[0] / 3.0;
        gradient[1] += 2.0 * error * row[1] / 3.0;
    }
    gradient
}

fn down(w: [f64; 2], gradient: [f64; 2], rate: f64) -> [f64; 2] {
    [0, 1].map(|axis| w[axis] - rate * gradient[axis])
}

const TURNS: &str = "
    step first { minimize mse(a(x), y) over a using sgd(lr=0.1) }
    step second { minimize mse(b(x), a(x)) over b using sgd(lr=0.2) }";

#[test]
fn a_step_sees_what_the_one_before_it_has_trained() {
    let unit = unit(&turns(TURNS));
    assert_eq!(unit.recipes[0].losses(), ["first.loss", "second.loss"]);
    let graph = train_graph(&unit, "turns", 3);
    let mut state = first_values(&unit, "turns", 1);
    let (mut a, mut b) = ([0.5, 0.5], [0.5, 0.5]);
    for iteration in 0..3 {
        let results = step(&graph, &mut state, &examples(), iteration);
        assert_eq!(results.keys().collect::<Vec<_>>(), ["first.loss", "second.loss"]);
        a = down(a, gradient(a), 0.1);
        b = down(b, pulled(b, a), 0.2);
        assert_near(&state, "a.w", a);
        assert_near(&state, "b.w", b);
    }
}

/// What two steps train is one parameter, each with an optimiser of its own.
#[test]
fn steps_share_parameters_and_not_the_states_of_optimisers() {
    let unit = unit(&turns(
        "step first { minimize mse(a(x), y) over a using sgd(lr=0.1, momentum=0.5) }
         step second { minimize mse(a(x), b(x)) using sgd(lr=0.2, momentum=0.9) }",
    ));
    let graph = train_graph(&unit, "turns", 3);
    let mut state = first_values(&unit, "turns", 1);
    let paths: Vec<&str> = state.keys().map(String::as_str).collect();
    let own = ["first.a.w", "second.a.w", "second.b.w"].map(|path| format!("$optimizer.{path}.velocity"));
    assert_eq!(paths, [own[0].as_str(), own[1].as_str(), own[2].as_str(), "a.w", "b.w"]);
    let (mut a, mut b) = ([0.5, 0.5], [0.5, 0.5]);
    let mut velocities = [[0.0; 2]; 3];
    let mut moved = |at: usize, w: [f64; 2], g: [f64; 2], momentum: f64, rate: f64| {
        velocities[at] = [0, 1].map(|axis| momentum * velocities[at][axis] + g[axis]);
        down(w, velocities[at], rate)
    };
    for iteration in 0..3 {
        step(&graph, &mut state, &examples(), iteration);
        a = moved(0, a, gradient(a), 0.5, 0.1);
        let (by_a, by_b) = (pulled(a, b), pulled(b, a));
        a = moved(1, a, by_a, 0.9, 0.2);
        b = moved(2, b, by_b, 0.9, 0.2);
        assert_near(&state, "a.w", a);
        assert_near(&state, "b.w", b);
    }
}

#[test]
fn a_step_whose_loss_is_not_finite_changes_nothing_and_the_others_go_on() {
    let unit = unit(&turns(
        "step first { minimize mse(a(x), y) over a using sgd(lr=0.1, momentum=0.9) }
         step second { minimize mean(b(x) ** 2) over b using sgd(lr=0.2) }",
    ));
    let graph = train_graph(&unit, "turns", 3);
    let mut state = first_values(&unit, "turns", 1);
    let before = state.clone();
    let mut broken = examples();
    broken.insert("y".to_owned(), Tensor::from_f64(DType::F32, &[3], &[f64::NAN, 0.0, 0.0]));
    let results = step(&graph, &mut state, &broken, 0);
    assert!(results["first.loss"].to_f64()[0].is_nan() && results["second.loss"].to_f64()[0].is_finite());
    assert_near(&state, "b.w", down([0.5; 2], pulled([0.5; 2], [0.0; 2]), 0.2));
    let kept = state.iter().filter(|(path, _)| *path != "b.w");
    assert!(kept.into_iter().all(|(path, tensor)| before[path] == *tensor));
}

/// What is bound before the steps is made once, with the parameters as they were.
#[test]
fn what_stands_before_the_steps_is_shared_by_them() {
    let unit = unit(&turns(
        "before = b(x)
         step first { minimize mse(a(x), stop_gradient(before)) over a using sgd(lr=0.1) }
         step second { minimize mse(before, y) over b using sgd(lr=0.2) }",
    ));
    let graph = train_graph(&unit, "turns", 3);
    let mut state = first_values(&unit, "turns", 1);
    let (mut a, mut b) = ([0.5, 0.5], [0.5, 0.5]);
    for iteration in 0..3 {
        step(&graph, &mut state, &examples(), iteration);
        a = down(a, pulled(a, b), 0.1);
        b = down(b, gradient(b), 0.2);
        assert_near(&state, "a.w", a);
        assert_near(&state, "b.w", b);
    }
}

#[test]
fn a_step_of_every_third_iteration_is_no_part_of_the_others() {
    let unit = unit(&turns(
        "step first { minimize mse(a(x), y) over a using sgd(lr=0.1) }
         step second every 3 {
             minimize mse(b(x), a(x)) over b using adam(lr=0.1)
             metric turn = f32(iteration)
         }",
    ));
    let recipe = &unit.recipes[0];
    let mut state = first_values(&unit, "turns", 1);
    let (mut a, mut b) = ([0.5, 0.5], [0.5, 0.5]);
    let mut rule = adam(0.0, 0.0);
    for iteration in 0..7 {
        let due = recipe.due(iteration, 10);
        let graph = unit.train_steps("turns", 3, &due).expect("it builds");
        assert_eq!(
            graph.nodes().any(|(_, node)| matches!(&node.op, Op::Param { path, .. } if path == "b.w")),
            due.len() > 1
        );
        let results = step(&nnc_opt::grad::expand(&graph), &mut state, &examples(), iteration);
        assert_eq!(due.contains("second"), iteration % 3 == 2);
        a = down(a, gradient(a), 0.1);
        if iteration % 3 == 2 {
            let g = pulled(b, a);
            b = [0, 1].map(|axis| rule(iteration as i32 / 3 + 1, b[axis], g[axis], axis));
            assert_eq!(results["turn"].to_f64(), [(iteration / 3) as f64]);
        } else {
            assert_eq!(results.keys().collect::<Vec<_>>(), ["first.loss"]);
        }
        assert_near(&state, "a.w", a);
        assert_near(&state, "b.w", b);
    }
}

/// Random numbers of one step are the same whichever other steps a program has, and differ from step to step.
#[test]
fn random_numbers_of_steps_are_their_own() {
    let unit = unit(&turns(
        "step first every 2 { minimize mean((a(x) - y - normal([N])) ** 2) over a using sgd }
         step second { minimize mean((b(x) - y - normal([N])) ** 2) over b using sgd }",
    ));
    let losses = |iteration: i64| {
        let graph = unit.train_steps("turns", 3, &unit.recipes[0].due(iteration, 10)).expect("it builds");
        step(&nnc_opt::grad::expand(&graph), &mut first_values(&unit, "turns", 1), &examples(), 1)
    };
    let (both, one) = (losses(1), losses(0));
    assert_eq!(both["second.loss"], one["second.loss"]);
    assert_ne!(both["second.loss"], both["first.loss"]);
}

/// Batch norm in a step keeps what the step saw, first and second use in order.
#[test]
fn states_that_a_step_updates_are_kept() {
    let text = turns(
        "step first { minimize mse(a(x), y) over a using sgd(lr=0.1) }
         step second { minimize mse(b(x), y) + mean(b(2 * x)) over b using sgd(lr=0.1) }",
    )
    .replace("return x @ w", "return batch_norm(x) @ w");
    let unit = unit(&text);
    let mut state = first_values(&unit, "turns", 1);
    step(&train_graph(&unit, "turns", 3), &mut state, &examples(), 0);
    let mean = |axis: usize| (X[axis] + X[2 + axis] + X[4 + axis]) / 3.0;
    assert_near(&state, "a.batch_norm_1.mean", [0, 1].map(|axis| 0.1 * mean(axis)));
    assert_near(&state, "b.batch_norm_1.mean", [0, 1].map(|axis| 0.9 * 0.1 * mean(axis) + 0.1 * 2.0 * mean(axis)));
}

/// An optimiser whose state has the name that accumulation would have for its own.
const HEAVY: &str = "optimizer heavy(p: real[...S], g: real[...S], lr: real = 0.1) {
    state accumulated: real[...S] = zeros()
    accumulated <- 0.9 * accumulated + g
    p <- p - lr * accumulated
}";

/// Four steps on batches of 3 with `accumulate=4` are one on a batch of 12, for a loss that is a mean.
#[test]
fn accumulating_equals_a_larger_batch() {
    for optimizer in ["adam(lr=0.1)", "sgd(lr=0.1, momentum=0.9), clip_norm=0.5", "heavy()"] {
        let rows: Vec<f64> = (0..48).map(|at| f64::from((at * 7 % 13) - 6) / 4.0).collect();
        let targets: Vec<f64> = (0..24).map(|at| f64::from((at * 5 % 11) - 5) / 3.0).collect();
        let slice = |from: usize, count: usize| {
            let x = Tensor::from_f64(DType::F32, &[count, 2], &rows[2 * from..2 * (from + count)]);
            let y = Tensor::from_f64(DType::F32, &[count], &targets[from..from + count]);
            State::from([("x".to_owned(), x), ("y".to_owned(), y)])
        };
        let (large, small) = (
            unit(&format!("{HEAVY}\n{}", fit(&format!("minimize mse(p, y) using {optimizer}")))),
            unit(&format!("{HEAVY}\n{}", fit(&format!("minimize mse(p, y) using {optimizer}, accumulate=4")))),
        );
        let graphs = (train_graph(&large, "Fit", 12), train_graph(&small, "Fit", 3));
        let mut states = (first_values(&large, "Fit", 1), first_values(&small, "Fit", 1));
        for update in 0..2 {
            step(&graphs.0, &mut states.0, &slice(12 * update, 12), update as i64);
            for part in 0..4 {
                let at = 4 * update + part;
                step(&graphs.1, &mut states.1, &slice(3 * at, 3), at as i64);
            }
            let w = states.0["w"].to_f64();
            assert_near(&states.1, "w", [w[0], w[1]]);
        }
    }
}

/// A gradient penalty: the derivative of a loss that has a derivative in it, against central differences.
#[test]
fn a_gradient_penalty_is_differentiated() {
    let critic = "model Critic(x: f32[N, 2]) -> f32[N] {
            return dense(x, 3) |> softplus |> dense(1) |> reshape([N])
        }
        model bend(x: f32[N, 2], critic: fn(f32[N, 2]) -> f32[N]) -> f32 {
            slope = grad(sum(critic(x)), wrt=x)
            return mean((sqrt(sum(slope ** 2, axis=-1) + 1e-12) - 1) ** 2)
        }";
    let text = turns(
        "layer d = Critic()
        step critic { minimize 10.0 * bend(x, d) - mean(d(x)) over d using sgd(lr=1.0) }
        step other { minimize mse(a(x) + b(x), y) using sgd }",
    );
    let unit = unit(&format!("{critic}\n{text}"));
    let graph = train_graph(&unit, "turns", 3);
    let first = first_values(&unit, "turns", 1);
    let mut after = first.clone();
    step(&graph, &mut after, &examples(), 0);
    let loss = |path: &str, at: usize, by: f64| {
        let mut state = first.clone();
        let mut values = state[path].to_f64();
        values[at] += by;
        let dims = state[path].dims().to_vec();
        state.insert(path.to_owned(), Tensor::from_f64(DType::F64, &dims, &values));
        step(&graph, &mut state, &examples(), 0)["critic.loss"].to_f64()[0]
    };
    for path in ["d.dense_1.w", "d.dense_1.b", "d.dense_2.w"] {
        for (at, (old, new)) in first[path].to_f64().into_iter().zip(after[path].to_f64()).enumerate() {
            let numeric = (loss(path, at, 1e-5) - loss(path, at, -1e-5)) / 2e-5;
            assert!(
                (old - new - numeric).abs() < 1e-7 * (1.0 + numeric.abs()),
                "{path}[{at}]: {} {numeric}",
                old - new
            );
        }
    }
}

#[test]
fn pictures_have_a_graph_of_their_own() {
    let unit = unit(&turns(
        "step first { minimize mse(a(x), y) over a using sgd }
         step second { minimize mse(b(x), y) over b using sgd }
         picture fit = stack([a(x), y])[:, 0..2]
         picture noise = uniform([3, 1, 4, 5])",
    ));
    assert_eq!(unit.recipes[0].pictures, ["fit", "noise"]);
    let graph = unit.pictures("turns", 3).expect("it builds");
    let drawn = step(&graph, &mut first_values(&unit, "turns", 1), &examples(), 0);
    assert_eq!((drawn["fit"].dims(), drawn["noise"].dims()), (&[2, 2][..], &[3, 1, 4, 5][..]));
    let half = |row: usize| 0.5 * (X[2 * row] + X[2 * row + 1]);
    assert_eq!(drawn["fit"].to_f64(), [half(0), half(1), Y[0], Y[1]]);
    // Two examples are too few for a picture of three.
    let errors = unit.pictures("turns", 1).unwrap_err();
    assert!(errors[0].notes.iter().any(|note| note.contains("`N` is 1 here")), "{errors:?}");
}
