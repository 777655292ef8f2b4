//! Layers that follow others, run on the interpreter: how far they move, when, and that nothing is derived by them.

mod common;

use common::{X, assert_near, examples, first_values, gradient, step, train_graph, turns, unit};

/// Two lines `a` and `b` of which the second one follows, as `layer b = Fit()` is said to, trained by `steps`.
fn following(how: &str, steps: &str) -> String {
    turns(steps).replace("layer b = Fit()", &format!("layer b = Fit() follows a {how}"))
}

const STEPS: &str = "step first { minimize mse(a(x), y) + 0 * mean(b(x)) using sgd(lr=0.1) }";

#[test]
fn a_layer_goes_a_part_of_the_way_in_each_iteration() {
    let unit = unit(&following("rate=0.25", STEPS));
    assert_eq!(unit.recipes[0].followers, [("b".to_owned(), "a".to_owned())]);
    let graph = train_graph(&unit, "turns", 3);
    let mut state = first_values(&unit, "turns", 1);
    let (mut a, mut b) = ([0.5, 0.5], [0.5, 0.5]);
    for iteration in 0..4 {
        step(&graph, &mut state, &examples(), iteration);
        let slope = gradient(a);
        a = [0, 1].map(|axis| a[axis] - 0.1 * slope[axis]);
        b = [0, 1].map(|axis| b[axis] + 0.25 * (a[axis] - b[axis]));
        assert_near(&state, "a.w", a);
        assert_near(&state, "b.w", b);
    }
    assert!(state.keys().all(|path| !path.starts_with("$optimizer.") || !path.contains(".b.")), "{:?}", state.keys());
}

#[test]
fn a_layer_is_taken_over_in_every_third_iteration() {
    let unit = unit(&following("every=3", STEPS));
    let graph = train_graph(&unit, "turns", 3);
    let mut state = first_values(&unit, "turns", 1);
    let mut a = [0.5, 0.5];
    for iteration in 0..6 {
        step(&graph, &mut state, &examples(), iteration);
        let slope = gradient(a);
        a = [0, 1].map(|axis| a[axis] - 0.1 * slope[axis]);
        let b = state["b.w"].to_f64();
        assert_eq!(b == state["a.w"].to_f64(), iteration % 3 == 2, "iteration {iteration}: {b:?}");
    }
    assert_near(&state, "b.w", a);
}

/// What a step trains and a later one trains again is followed as it is in the end; a loss that is no finite number
/// moves nothing.
#[test]
fn what_is_followed_is_what_the_iteration_ends_with() {
    let twice = "
        step first { minimize mse(a(x), y) using sgd(lr=0.1) }
        step second { minimize mse(a(x), b(x)) over a using sgd(lr=0.2) }";
    let unit = unit(&following("rate=0.5", twice));
    let graph = train_graph(&unit, "turns", 3);
    let mut state = first_values(&unit, "turns", 1);
    let before = state["b.w"].to_f64();
    step(&graph, &mut state, &examples(), 0);
    let (a, b) = (state["a.w"].to_f64(), state["b.w"].to_f64());
    assert_near(&state, "b.w", [0, 1].map(|axis| 0.5 * (before[axis] + a[axis])));
    let mut endless = examples();
    endless.insert(
        "x".to_owned(),
        nnc_graph::Tensor::from_f64(nnc_graph::DType::F32, &[3, 2], &X.map(|x| x * f64::INFINITY)),
    );
    step(&graph, &mut state, &endless, 1);
    assert_eq!((state["a.w"].to_f64(), state["b.w"].to_f64()), (a, b));
}

/// The states of what is followed are running means already: they are taken over as they are.
#[test]
fn states_are_taken_over() {
    let text = "
        model Net(x: f32[N, 2]) -> f32[N, 2] = x |> dense(2) |> batch_norm
        data points { train: (f32[2], f32) = csv(\"points.csv\"); x: f32[2] = train.0; y: f32 = train.1 }
        train nets on points {
            epochs = 2; batch = 3
            layer a = Net()
            layer b = Net() follows a rate=0.25
            minimize mse(a(x), b(x) + 1) + mean(y) using sgd(lr=0.1)
            answer p = a(x)
        }";
    let unit = unit(text);
    let graph = train_graph(&unit, "nets", 3);
    let mut state = first_values(&unit, "nets", 1);
    step(&graph, &mut state, &examples(), 0);
    let equal = |path: &str| state[&format!("a.{path}")] == state[&format!("b.{path}")];
    assert!(equal("batch_norm_1.mean") && equal("batch_norm_1.variance"));
    assert!(!equal("dense_1.w") && state["b.batch_norm_1.mean"].to_f64().iter().any(|mean| *mean != 0.0));
}
