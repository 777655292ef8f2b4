//! The library's layers and losses against PyTorch: values, and derivatives by the first input. The cases and how they
//! are written down: `tests/torch/library.py`, which also made the numbers. `f32` means f64 here.

use nnc_graph::interpret::run;
use nnc_graph::{DType, Tensor};
use nnc_lang::diagnostic::render;
use nnc_lang::elaborate::{Loader, Options, check};
use std::collections::BTreeMap;
use std::fmt::Write;

struct Nothing;

impl Loader for Nothing {
    fn load(&self, _path: &str) -> Result<String, String> {
        Err("no files here".to_owned())
    }
}

#[derive(Default)]
struct Case {
    name: String,
    /// Parameters of the model, and what they are.
    parameters: String,
    first: String,
    given: BTreeMap<String, Tensor>,
    expression: String,
    result: Vec<f64>,
    grad: Vec<f64>,
}

fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

/// A ramp from `DIMS CYCLE SHIFT SCALE`.
fn ramp(dtype: DType, words: &[&str]) -> (Vec<usize>, Tensor) {
    let dims: Vec<usize> = words[0].split(',').map(|dim| dim.parse().expect("a dim")).collect();
    let [cycle, shift, scale] = [1, 2, 3].map(|at| words[at].parse::<i32>().expect("a number"));
    let element = |i: usize| {
        let place = i as i32 % cycle - shift;
        if dtype == DType::Bool { f64::from(u8::from(place != 0)) } else { f64::from(place) / f64::from(scale) }
    };
    let values: Vec<f64> = (0..dims.iter().product()).map(element).collect();
    let tensor = Tensor::from_f64(dtype, &dims, &values);
    (dims, tensor)
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in include_str!("torch/library.txt").lines().filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(' ').expect("a word and what it says");
        if word == "case" {
            cases.push(Case { name: rest.to_owned(), ..Case::default() });
            continue;
        }
        let case = cases.last_mut().expect("a case begins with its name");
        let words: Vec<&str> = rest.split(' ').collect();
        match word {
            "input" => {
                let dtype = if words[1] == "bool" { DType::Bool } else { DType::F64 };
                let (dims, tensor) = ramp(dtype, &words[2..]);
                write!(case.parameters, "{}: {}{dims:?}, ", words[0], words[1]).expect("a string takes it");
                if case.first.is_empty() {
                    case.first = words[0].to_owned();
                }
                case.given.insert(words[0].to_owned(), tensor);
            }
            "value" => drop(case.given.insert(words[0].to_owned(), ramp(DType::F64, &words[1..]).1)),
            "expression" => case.expression = rest.to_owned(),
            "result" => case.result = numbers(rest),
            "grad" => case.grad = numbers(rest),
            other => panic!("`{other}` is no word of a case"),
        }
    }
    cases
}

/// What differs.
fn compared(what: &str, got: &[f64], want: &[f64]) -> Result<(), String> {
    let close = |(got, want): (&f64, &f64)| (got - want).abs() <= 1e-10 * want.abs().max(1.0);
    if got.len() == want.len() && got.iter().zip(want).all(close) {
        return Ok(());
    }
    Err(format!("{what} is\n{got:?}, not\n{want:?}"))
}

fn held(case: &mut Case) -> Result<(), String> {
    let weights = ramp(DType::F64, &[&case.result.len().to_string(), "7", "2", "3"]).1;
    case.given.insert("weights".to_owned(), weights);
    let text = format!(
        "model M({}weights: f32[{}]) {{
            y = {}
            return y, grad(sum(reshape(y, [-1]) * weights), wrt={})
        }}",
        case.parameters,
        case.result.len(),
        case.expression,
        case.first
    );
    let options = Options { float: DType::F64, ..Options::default() };
    let checked = check("test.nn", &text, &Nothing, &options);
    let unit = checked.unit.ok_or_else(|| render(&checked.diagnostics, &checked.sources, false))?;
    let graph = unit.model("M", &BTreeMap::new()).map_err(|errors| format!("{errors:#?}"))?;
    nnc_graph::verify::verify(&graph).map_err(|faults| format!("{faults:#?}"))?;
    let run = run(&nnc_opt::grad::expand(&graph), &case.given).map_err(|error| error.to_string())?;
    let output = |name: &str| run.output(name).map(Tensor::to_f64).ok_or_else(|| format!("no {name}"));
    compared("the result", &output("result.0")?, &case.result)?;
    compared("the derivative", &output("result.1")?, &case.grad)
}

#[test]
fn layers_and_losses_are_those_of_pytorch() {
    let mut cases = cases();
    assert!(cases.len() >= 50);
    let told = |case: &mut Case| held(case).err().map(|error| format!("{}: {error}", case.name));
    let failures: Vec<String> = cases.iter_mut().filter_map(told).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
