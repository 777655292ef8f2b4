//! Recipes on the interpreter: elaborated without files, and run step by step.
#![allow(dead_code, reason = "each test file uses a part")]

use nnc_graph::interpret::run;
use nnc_graph::{DType, Graph, OutputKind, Tensor};
use nnc_lang::diagnostic::render;
use nnc_lang::elaborate::{Loader, Options, Unit, check};
use std::collections::BTreeMap;

pub struct Nothing;

impl Loader for Nothing {
    fn load(&self, _path: &str) -> Result<String, String> {
        Err("no files here".to_owned())
    }
}

pub type State = BTreeMap<String, Tensor>;

/// The unit of a text with these settings and this dtype of parameters, or what is wrong as it is shown.
pub fn checked(text: &str, set: &[(&str, &str)], float: DType) -> Result<Unit, String> {
    let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let checked = check("test.nn", text, &Nothing, &Options { float, set, ..Options::default() });
    checked.unit.ok_or_else(|| render(&checked.diagnostics, &checked.sources, false))
}

pub fn unit_with(text: &str, set: &[(&str, &str)], float: DType) -> Unit {
    checked(text, set, float).unwrap_or_else(|shown| panic!("{text}\n{shown}"))
}

pub fn unit(text: &str) -> Unit {
    unit_with(text, &[], DType::F64)
}

/// A line of two weights, and points to fit it to.
const LINE: &str = "
    model Fit(x: f32[N, 2]) -> f32[N] {
        param w: f32[2] = full(0.5)
        return x @ w
    }
    data points {
        train: (f32[2], f32) = csv(\"points.csv\")
        x: f32[2] = train.0
        y: f32 = train.1
    }";

/// A least-squares fit of two weights, with a recipe's rest.
pub fn fit(rest: &str) -> String {
    format!(
        "{LINE}
        train Fit on points {{
            epochs = 2; batch = 3
            p = Fit(x)
            {rest}
        }}"
    )
}

/// Two lines that are trained in turns.
pub fn turns(steps: &str) -> String {
    format!(
        "{LINE}
        train turns on points {{
            epochs = 2; batch = 3
            layer a = Fit()
            layer b = Fit()
            {steps}
            answer p = (a(x), b(x))
        }}"
    )
}

pub const X: [f64; 6] = [1.0, 2.0, -1.0, 0.5, 0.25, -2.0];
pub const Y: [f64; 3] = [1.0, -2.0, 0.5];

/// Gradient of `mean((x w - y)^2)`.
pub fn gradient(w: [f64; 2]) -> [f64; 2] {
    let mut gradient = [0.0; 2];
    for row in 0..3 {
        let error = X[2 * row] * w[0] + X[2 * row + 1] * w[1] - Y[row];
        gradient[0] += 2.0 * error * X[2 * row] / 3.0;
        gradient[1] += 2.0 * error * X[2 * row + 1] / 3.0;
    }
    gradient
}

pub fn examples() -> State {
    let float = |dims: &[usize], values: &[f64]| Tensor::from_f64(DType::F32, dims, values);
    BTreeMap::from([("x".to_owned(), float(&[3, 2], &X)), ("y".to_owned(), float(&[3], &Y))])
}

pub fn first_values(unit: &Unit, recipe: &str, seed: i64) -> State {
    let graph = unit.init(recipe).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let run = run(&graph, &BTreeMap::from([("$seed".to_owned(), Tensor::scalar_i64(seed))])).expect("it runs");
    run.outputs().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect()
}

pub fn step_inputs(iteration: i64) -> State {
    let scalars = [("$seed", 3), ("$iteration", iteration), ("$iterations", 10), ("$epoch", 0)];
    scalars.into_iter().map(|(name, value)| (name.to_owned(), Tensor::scalar_i64(value))).collect()
}

/// Runs one step and writes the updates into `state`; gives the results.
pub fn step(graph: &Graph, state: &mut State, inputs: &State, iteration: i64) -> State {
    let given: State =
        state.iter().chain(inputs).map(|(k, v)| (k.clone(), v.clone())).chain(step_inputs(iteration)).collect();
    let run = run(graph, &given).unwrap_or_else(|error| panic!("{error}"));
    let mut results = State::new();
    for output in graph.outputs() {
        let tensor = run.output(&output.name).expect("an output").clone();
        match output.kind {
            OutputKind::Result => results.insert(output.name.clone(), tensor),
            OutputKind::Update(_) => state.insert(output.name.clone(), tensor),
        };
    }
    results
}

pub fn train_graph(unit: &Unit, recipe: &str, n: usize) -> Graph {
    let graph = unit.train_step(recipe, n).unwrap_or_else(|errors| panic!("{errors:#?}"));
    nnc_graph::verify::verify(&graph).unwrap_or_else(|faults| panic!("{faults:#?}"));
    nnc_opt::grad::expand(&graph)
}

pub fn assert_near(state: &State, path: &str, want: [f64; 2]) {
    let got = state[path].to_f64();
    assert!((0..2).all(|axis| (got[axis] - want[axis]).abs() < 1e-12), "{path}: {got:?} is not {want:?}");
}

/// Adam's step, with decay inside (`l2`) or outside of the gradient.
pub fn adam(l2: f64, decay: f64) -> impl FnMut(i32, f64, f64, usize) -> f64 {
    let (mut m, mut v) = ([0.0; 2], [0.0; 2]);
    move |t, w, g, axis| {
        let g = g + l2 * w;
        m[axis] = 0.9 * m[axis] + 0.1 * g;
        v[axis] = 0.999 * v[axis] + 0.001 * g * g;
        let (c1, c2) = (1.0 - 0.9f64.powi(t), 1.0 - 0.999f64.powi(t));
        w * (1.0 - 0.1 * decay) - 0.1 / c1 * m[axis] / (v[axis].sqrt() / c2.sqrt() + 1e-8)
    }
}
