//! Times inference on request, for `benches/compare.py`.
//!
//! `infer FILE.nn --input NAME=FILE.npy [--weights W.safetensors] [--rows 1] [--threads 2] [--output OUT.npy]
//! [--no-winograd]` compiles the answer of a file (or its last model) with its weights, as `nnc run` does, computes it
//! once, writes the answer, and prints one line `ready COMPILE_SECONDS FLOPS BYTES`: the operations of one call, and
//! the bytes of weights, inputs and answers, which it cannot help but touch. Then each line `K` on stdin makes K calls
//! and prints the seconds of each on one line. A call is that of a host program that has its inputs in the engine's
//! memory and reads the answers there.
//!
//! `infer --roofline [--threads 2]` prints what the machine can do, `FLOPS BYTES` a second.

use nnc_data::{Column, write_npy};
use nnc_driver::answer::AnswerGraphs;
use nnc_driver::checkpoint::{self, Checkpoint};
use nnc_driver::deploy::Deployment;
use nnc_driver::roofline::Roofline;
use nnc_driver::{Compiler, Engine, Project};
use nnc_lang::elaborate::Options;
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use nnc_stub::{Answer, read_port};
use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const USAGE: &str = "usage: infer FILE.nn --input NAME=FILE.npy [--weights W.safetensors] [--rows 1] [--threads 2] \
                     [--output OUT.npy] [--no-winograd] | --roofline [--threads 2]";
/// Calls before the first measured one.
const WARM_UP: usize = 5;

struct Arguments {
    file: Option<PathBuf>,
    weights: Option<PathBuf>,
    inputs: Vec<(String, PathBuf)>,
    output: Option<PathBuf>,
    rows: usize,
    threads: NonZeroUsize,
    roofline: bool,
    winograd: bool,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let (mut file, mut weights, mut inputs, mut output) = (None, None, Vec::new(), None);
    let (mut rows, mut threads, mut roofline, mut winograd) = (1, 2, false, true);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(USAGE);
        match word.as_str() {
            "--weights" => weights = Some(PathBuf::from(value()?)),
            "--input" => {
                let text = value()?;
                let (name, path) = text.split_once('=').ok_or(USAGE)?;
                inputs.push((name.to_owned(), PathBuf::from(path)));
            }
            "--output" => output = Some(PathBuf::from(value()?)),
            "--rows" => rows = value()?.parse()?,
            "--threads" => threads = value()?.parse()?,
            "--roofline" => roofline = true,
            "--no-winograd" => winograd = false,
            path => file = Some(PathBuf::from(path)),
        }
    }
    let threads = NonZeroUsize::new(threads).ok_or(USAGE)?;
    Ok(Arguments { file, weights, inputs, output, rows, threads, roofline, winograd })
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments()?;
    let pool = Arc::new(Pool::with_limit(Some(arguments.threads))?);
    let passes = pipeline::Options { winograd: arguments.winograd, ..pipeline::Options::default() };
    let compiler = Compiler { engine: Engine::host(), pool, passes, tuning: None };
    if arguments.roofline {
        let found = Roofline::measure(&compiler)?.max(Roofline::measure(&compiler)?);
        println!("{} {}", found.flops, found.bytes);
        return Ok(());
    }
    let project = Project::load(arguments.file.as_deref().ok_or(USAGE)?, &Options::default())?;
    let (deployment, before) = deployment(&project, &arguments, &compiler)?;
    let started = Instant::now();
    let (flops, bytes) = (deployment.flops(), deployment.resident_bytes());
    let mut engine = deployment.engine(&compiler)?;
    let compile_seconds = before + started.elapsed().as_secs_f64();
    let inputs = inputs(&engine, &arguments.inputs)?;
    let (answers, first) = timed(&mut engine, &inputs)?;
    write(&answers, arguments.output.as_deref())?;
    let mut others = Vec::new();
    for _ in 0..WARM_UP {
        others.push(timed(&mut engine, &inputs)?.1);
    }
    // The first run packs the weights, too.
    let least = others.into_iter().fold(first, f64::min);
    let compile_seconds = compile_seconds + first - least;
    engine.load_first(&inputs)?;
    println!("ready {compile_seconds} {flops} {bytes}");
    for line in std::io::stdin().lock().lines() {
        let mut words = Vec::new();
        for _ in 0..line?.trim().parse()? {
            let started = Instant::now();
            engine.step()?;
            black_box(engine.answer(0));
            words.push(started.elapsed().as_secs_f64().to_string());
        }
        println!("{}", words.join(" "));
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// The answers of a call, and its seconds.
fn timed(engine: &mut nnc_stub::Engine<'_>, inputs: &[Column]) -> Result<(Vec<Answer>, f64), Box<dyn Error>> {
    let started = Instant::now();
    let answers = engine.run(inputs)?;
    Ok((answers, started.elapsed().as_secs_f64()))
}

/// The answer with its weights, and the seconds from the checked file to it, reading of the weights not counted.
fn deployment(
    project: &Project,
    arguments: &Arguments,
    compiler: &Compiler,
) -> Result<(Deployment, f64), Box<dyn Error>> {
    let mut loaded = match &arguments.weights {
        Some(path) => checkpoint::load(path)?,
        None => Checkpoint::default(),
    };
    let started = Instant::now();
    let project = &project.clone().with_weights(&loaded.tensors)?;
    let graphs = AnswerGraphs::new(project, None, None, arguments.rows)?;
    let store = graphs.store(&mut loaded, arguments.weights.as_deref().unwrap_or(Path::new("")), compiler.threads())?;
    let deployment = Deployment::new(&graphs.subject(&loaded), store, compiler, &[compiler.engine])?;
    Ok((deployment, started.elapsed().as_secs_f64()))
}

/// The columns of the program's inputs, in its order.
fn inputs(engine: &nnc_stub::Engine<'_>, given: &[(String, PathBuf)]) -> Result<Vec<Column>, Box<dyn Error>> {
    let column = |port: &nnc_stub::manifest::Port| -> Result<Column, Box<dyn Error>> {
        let path = given.iter().find(|(name, _)| *name == port.name).map(|(_, path)| path);
        let path = path.ok_or_else(|| format!("--input {}=FILE.npy is missing", port.name))?;
        Ok(read_port(path, port, engine.manifest())?)
    };
    engine.manifest().inputs.iter().map(column).collect()
}

fn write(answers: &[Answer], output: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let (Some(path), [answer]) = (output, answers) else { return Ok(()) };
    Ok(write_npy(path, answer.port.row.dtype, &answer.dims(), &answer.bytes)?)
}
