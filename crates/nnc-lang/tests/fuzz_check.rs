//! A fuzzer of the evaluator: small changes to programs that are right, which mostly stay syntactically right.
//!
//! For every text, `check` ends without a panic and its diagnostics can be rendered; when it finds no error, every
//! graph of every model and recipe is made or refused with diagnostics, and what is made passes the verifier.
//!
//! As in the fuzzer of the parser: `NNC_FUZZ_SEED=7` chooses other texts, `NNC_FUZZ_SECONDS=300` goes on for that long,
//! and a failure prints the text that made it.

use nnc_graph::{Graph, verify};
use nnc_lang::diagnostic::{Diagnostic, FileId, render};
use nnc_lang::elaborate::{Loader, Options, check};
use nnc_lang::syntax::lexer::{Token, TokenKind, tokens};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Texts tried when no time is given.
const TEXTS: usize = 250;

const NUMBERS: [&str; 14] =
    ["0", "1", "2", "3", "7", "64", "4096", "9000000000", "9223372036854775807", "0.0", "0.5", "1e300", "-1", "-3"];
const NAMES: [&str; 48] = [
    "N",
    "C",
    "S",
    "x",
    "image",
    "label",
    "training",
    "iteration",
    "epoch",
    "relu",
    "dense",
    "conv2d",
    "conv",
    "flatten",
    "max_pool2d",
    "batch_norm",
    "layer_norm",
    "dropout",
    "softmax",
    "grad",
    "sum",
    "mean",
    "max",
    "argmax",
    "reshape",
    "transpose",
    "on_axis",
    "concat",
    "pad",
    "take",
    "pick",
    "slice",
    "update",
    "one_hot",
    "zeros",
    "ones",
    "uniform",
    "normal",
    "iota",
    "where",
    "len",
    "prod",
    "f32",
    "i32",
    "bool",
    "real",
    "all_but",
    "embedding",
];
const OPERATORS: [&str; 13] = ["+", "-", "*", "/", "%", "@", "**", "==", "<", "|>", ",", "..", "and"];

struct NoFiles;

impl Loader for NoFiles {
    fn load(&self, _path: &str) -> Result<String, String> {
        Err("no such file".to_owned())
    }
}

/// A small generator of random numbers (Marsaglia, xorshift64, 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or(0) % end.max(1)
    }

    fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Every program of the tests, the examples and the library that is right, sorted by path.
fn corpus() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["tests/check", "tests/corpus", "src/library", "../../dsl-examples"] {
        paths.extend(std::fs::read_dir(root.join(folder)).into_iter().flatten().map(|entry| entry.unwrap().path()));
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "nn"));
    paths.sort();
    let texts = paths.iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts.filter(|text| check("corpus.nn", text, &NoFiles, &Options::default()).unit.is_some()).collect()
}

fn word(token: &Token, text: &str) -> std::ops::Range<usize> {
    let (start, end) = (token.span.start as usize, token.span.end as usize);
    start..end.min(text.len())
}

/// Changes one token, or moves one to another place.
fn mutate(text: &mut String, random: &mut Random) {
    let found = tokens(FileId(0), text, &mut Vec::new());
    if found.is_empty() {
        return;
    }
    let token = random.choose(&found);
    let range = word(token, text);
    let other = text[word(random.choose(&found), text)].to_owned();
    let replacement = match token.kind {
        TokenKind::Int | TokenKind::Float => (*random.choose(&NUMBERS)).to_owned(),
        TokenKind::Word if random.below(2) == 0 => (*random.choose(&NAMES)).to_owned(),
        TokenKind::Word => other,
        _ if random.below(3) == 0 => String::new(),
        _ if random.below(2) == 0 => other,
        _ => (*random.choose(&OPERATORS)).to_owned(),
    };
    text.replace_range(range, &replacement);
}

/// Checks a text and makes every graph there is.
fn check_text(text: &str) {
    let checked = check("fuzz.nn", text, &NoFiles, &Options::default());
    render(&checked.diagnostics, &checked.sources, false);
    let Some(unit) = checked.unit else { return };
    for model in &unit.models {
        hold(unit.model(&model.name, &BTreeMap::from([("N".to_owned(), 2)])));
        hold(unit.model_init(&model.name));
    }
    for recipe in &unit.recipes {
        hold(unit.init(&recipe.name));
        hold(unit.train_step(&recipe.name, 2));
        hold(unit.evaluate(&recipe.name, 1));
        hold(unit.answer(&recipe.name, None, 3));
        let sizes = BTreeMap::from([("P".to_owned(), 3)]);
        for answer in &recipe.answers {
            hold(unit.answer_sized(&recipe.name, Some(&answer.name), 2, &sizes));
        }
    }
}

fn hold(made: Result<Graph, Vec<Diagnostic>>) {
    match made {
        Ok(graph) => {
            if let Err(faults) = verify::verify(&graph) {
                panic!("a graph that breaks the rules: {faults:?}");
            }
        }
        Err(diagnostics) => assert!(!diagnostics.is_empty(), "refused without a word"),
    }
}

/// Why `text` fails, if it does.
fn failure(text: &str) -> Option<String> {
    let panic = std::panic::catch_unwind(|| check_text(text)).err()?;
    let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    Some(message.unwrap_or("a panic").to_owned())
}

#[test]
fn no_program_is_too_much_for_the_evaluator() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let mut random = Random(number("NNC_FUZZ_SEED").unwrap_or(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let until = number("NNC_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let corpus = corpus();
    let (mut tried, mut sound) = (0, 0);
    let mut slowest = (Duration::ZERO, String::new());
    while until.map_or(tried < TEXTS, |until| Instant::now() < until) {
        let mut text = random.choose(&corpus).clone();
        for _ in 0..1 + random.below(3) {
            mutate(&mut text, &mut random);
        }
        let begin = Instant::now();
        if let Some(message) = failure(&text) {
            panic!("{message}\n--- the text that fails:\n{text}");
        }
        if begin.elapsed() > slowest.0 {
            slowest = (begin.elapsed(), text.clone());
        }
        sound += usize::from(check("fuzz.nn", &text, &NoFiles, &Options::default()).unit.is_some());
        tried += 1;
    }
    eprintln!("{tried} texts, {sound} without an error; the slowest took {:?}", slowest.0);
    if slowest.0 > Duration::from_secs(5) {
        eprintln!("{}", slowest.1);
    }
}
