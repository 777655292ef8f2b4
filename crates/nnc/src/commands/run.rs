//! `nnc run FILE --weights W --input image=x.png`.

use crate::arguments::Run;
use crate::given::Givens;
use crate::terminal::{self, QUIET, STRONG};
use crate::{Failure, output, setup};
use nnc_data::{Column, write_pictures};
use nnc_driver::answer::{AnswerGraphs, Inputs};
use nnc_driver::deploy::{Deployment, outline};
use nnc_driver::{CompiledGraph, Compiler, DriverError, Engine, Learned};
use nnc_graph::{Tensor, ValueId};
use nnc_opt::{PassLog, pipeline};
use nnc_stub::manifest::{Manifest, Port};
use nnc_stub::present::Names;
use nnc_stub::{Answer, EngineError, json, present};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

pub(crate) fn run(options: &Run) -> Result<(), Failure> {
    let (project, mut loaded) = setup::weighted(&options.file, options.weights.as_deref())?;
    if let Some(file) = &options.output {
        let given = options.input.iter().map(|given| setup::path_of(given));
        setup::check_target(file, &setup::reads(&project, None, given.chain(options.weights.as_deref())))?;
    }
    let rows = setup::rows(&options.file)?.unwrap_or(1);
    let only = options.file.only.as_deref();
    let declared = Inputs::new(&project, only, options.answer.as_deref())?;
    let taken = declared.clone().held_to(&Learned::of(&loaded));
    let taken = taken.with_optional(&project, only, |name| names_input(&options.input, name))?;
    let mut given = Givens::new(&options.input);
    let tensors = given.tensors(&taken).map_err(|failure| match options.weights {
        Some(_) => failure,
        None => without_letters(failure, &declared),
    })?;
    let sizes = taken.sizes(&tensors)?;
    setup::note_choices(&project, &options.file, &sizes)?;
    let graphs = AnswerGraphs::sized(&project, only, taken, rows, &sizes)?;
    let mut compiler = setup::compiler(&options.engine)?;
    setup::note_oddities(&project, &graphs, (options.weights.as_deref(), &loaded))?;
    let file = (options.weights.as_deref(), &mut loaded);
    let mut store = setup::weights(&project, &graphs, file, compiler.threads())?;
    setup::tune(options.tuning, &mut compiler, &graphs.graph, &mut store)?;
    let outlined = outline(&graphs.subject(&loaded));
    let inputs = given.columns(&outlined)?;
    let is_one_call = outlined.rows(&inputs).map_err(|error| error.to_string())? == outlined.batch;
    // To know whether rows depend on one another takes two more programs.
    let graphs = if is_one_call { graphs } else { graphs.with_mixed(&project) };
    let subject = graphs.subject(&loaded);
    let manifest = &outline(&subject);
    let rows = manifest.rows(&inputs).map_err(|error| error.to_string())?;
    if let Some(remark) = manifest.remark_on(rows) {
        terminal::print_warning(&remark);
    }
    if !options.watch.is_empty() {
        let unchanged = pipeline::Options { fuel: Some(0), layout: false, ..compiler.passes.clone() };
        let plain = Compiler { engine: Engine::Interpreter, passes: unchanged, ..compiler.clone() };
        let mut program = plain.compile(&graphs.graph)?;
        fill(&mut program, manifest, &inputs, 0);
        program.set_i64("$seed", options.seed);
        watch(&program, &store, &options.watch)?;
    }
    let answers = match compiler.engine {
        Engine::Native(_) => {
            let deployment = Deployment::new(&subject, store, &compiler, &[compiler.engine])?;
            let (engine, log) = deployment.engine_with_log(&compiler)?;
            print_passes(options, &log);
            let ran = engine.with_seed(options.seed).run(&inputs);
            match ran {
                // The interpreter tells which operation makes the index. The weights went into the engine, and with it.
                Err(EngineError::Index(None)) => {
                    let plain = Compiler { engine: Engine::Interpreter, ..compiler.clone() };
                    let mut store = setup::weights_again(&project, &graphs, options.weights.as_deref())?;
                    let program = plain.compile(&graphs.graph)?;
                    interpret(program, &mut store, manifest, &inputs, options.seed)?
                }
                ran => ran.map_err(|error| error.to_string())?,
            }
        }
        Engine::Interpreter => {
            let program = compiler.compile(&graphs.graph)?;
            print_passes(options, &program.log);
            interpret(program, &mut store, manifest, &inputs, options.seed)?
        }
    };
    if let Some(file) = &options.output {
        write_answer(file, &answers, manifest.names())?;
    }
    print(options, &answers, manifest)
}

/// A text was looked for as a file, for without weights no character has a number: these are what lacks.
fn without_letters(failure: Failure, declared: &Inputs) -> Failure {
    let text = declared.tensors().find(|(_, ty)| declared.is_text(ty)).map(|(name, _)| name);
    match (failure, text) {
        (Failure::Driver(DriverError::Data(_)), Some(name)) => Failure::Message(format!(
            "`{name}` is a text, whose numbers are in the weights, and there are no weights: give a file of them, `--weights FILE`"
        )),
        (failure, _) => failure,
    }
}

/// Whether `--input` names an input.
fn names_input(words: &[String], name: &str) -> bool {
    words.iter().any(|word| word.split_once('=').is_some_and(|(named, _)| named == name))
}

fn print_passes(options: &Run, log: &PassLog) {
    if options.engine.time_passes {
        output::remark(terminal::passes(log).trim_end());
    }
}

fn print(options: &Run, answers: &[Answer], manifest: &Manifest) -> Result<(), Failure> {
    let mut text = Vec::new();
    let rows = answers.iter().map(|answer| answer.rows).max().unwrap_or(1);
    let top = options.top.map_or_else(|| present::default_top(rows), NonZeroUsize::get);
    let printed = match &options.output {
        _ if options.json => json::write_json(&mut text, &manifest.program, answers, manifest.names(), top),
        Some(file) => {
            let types = answers.iter().map(Answer::type_text).collect::<Vec<_>>().join(", ");
            return output::line(&format!("wrote {}: {types}", file.display()));
        }
        None => present::write_text(&mut text, answers, manifest.names(), top),
    };
    printed.map_err(Failure::Output)?;
    output::print(&String::from_utf8_lossy(&text))
}

fn write_answer(file: &Path, answers: &[Answer], names: Names<'_>) -> Result<(), Failure> {
    let [answer] = answers else {
        let names = answers.iter().map(|answer| format!("`{}`", answer.port.name)).collect::<Vec<_>>().join(", ");
        let help = "name one with --answer that is no tuple, or take all with --json";
        return Err(Failure::Message(format!("a file holds one tensor, and these are {names}: {help}")));
    };
    let is_png = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    if is_png && answer.is_text() {
        let message = format!("{}: the answer is a text, no picture: give the file another ending", file.display());
        return Err(Failure::Message(message));
    }
    let written = match is_png {
        true => write_pictures(file, answer.port.row.dtype, &answer.dims(), &answer.bytes),
        false => answer.write(file, names),
    };
    written.map_err(|error| Failure::Driver(DriverError::Data(error)))
}

/// Copies the rows from `start` into the inputs of a program; rows past the end are zeros.
fn fill(program: &mut CompiledGraph, manifest: &Manifest, inputs: &[Column], start: usize) {
    for (port, column) in manifest.inputs.iter().zip(inputs) {
        let Some(bytes) = program.input_mut(&port.name) else { continue };
        let from = if port.batched { start * port.row_bytes() } else { 0 };
        let available = &column.bytes[from.min(column.bytes.len())..];
        let count = available.len().min(bytes.len());
        bytes[..count].copy_from_slice(&available[..count]);
        bytes[count..].fill(0);
    }
}

/// The answers by the reference interpreter.
fn interpret(
    mut program: CompiledGraph,
    store: &mut nnc_driver::store::Store,
    manifest: &Manifest,
    inputs: &[Column],
    seed: i64,
) -> Result<Vec<Answer>, Failure> {
    program.set_i64("$seed", seed);
    let batched = manifest.inputs.iter().zip(inputs).find(|(port, _)| port.batched);
    let rows = batched.map_or(manifest.batch, |(_, column)| column.rows);
    let empty =
        |port: &Port| Answer { port: port.clone(), rows: if port.batched { rows } else { 1 }, bytes: Vec::new() };
    let mut answers: Vec<Answer> = manifest.answers.iter().map(empty).collect();
    for (call, start) in (0..rows).step_by(manifest.batch).enumerate() {
        fill(&mut program, manifest, inputs, start);
        program.set_i64("$iteration", call as i64);
        if let Err(error) = program.run(store) {
            if let Some(outside) = manifest.outside(inputs, start..start + manifest.batch) {
                return Err(Failure::Message(EngineError::Index(Some(outside)).to_string()));
            }
            let place = program.place_out_of_range(store).map_or(String::new(), |place| format!(" ({place})"));
            let of_rows = batched.map_or(String::new(), |_| shown_rows(start, manifest.batch.min(rows - start)));
            return Err(Failure::Message(format!("{error}{place}{of_rows}")));
        }
        for answer in &mut answers {
            let count = answer.port.bytes(manifest.batch.min(rows - start));
            let bytes = program.output(&answer.port.name).expect("the graph has the answers of its manifest");
            answer.bytes.extend_from_slice(&bytes[..count.min(bytes.len())]);
        }
    }
    Ok(answers)
}

/// The rows of a call, counted from 0.
fn shown_rows(start: usize, count: usize) -> String {
    match count {
        1 => format!(", in row {start} of the input, counted from 0"),
        _ => format!(", in the rows {start} to {} of the input, counted from 0", start + count - 1),
    }
}

/// Prints the values called so inside the program, for the first rows; of several of one name the last one.
fn watch(program: &CompiledGraph, store: &nnc_driver::store::Store, paths: &[String]) -> Result<(), Failure> {
    let run = program.interpretation(store).map_err(|error| error.to_string())?;
    let mut named: BTreeMap<&str, ValueId> = BTreeMap::new();
    for (_, node) in program.graph.nodes() {
        for &value in &node.results {
            let Some(name) = &program.graph.value(value).name else { continue };
            // Values of the recipe itself are known by their own names.
            named.insert(name.strip_prefix("recipe.").unwrap_or(name), value);
        }
    }
    for wanted in paths {
        let Some(&value) = named.get(wanted.as_str()) else {
            let known: Vec<&str> = named.keys().copied().collect();
            return Err(Failure::Message(format!("--watch {wanted}: no such value; there are {}", known.join(", "))));
        };
        output::remark(&format!("{STRONG}{wanted}{STRONG:#} {QUIET}{}{QUIET:#}", program.graph.ty(value)));
        output::remark(&statistics(run.value(value)));
    }
    Ok(())
}

fn statistics(tensor: &Tensor) -> String {
    let values = tensor.to_f64();
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let zeros = values.iter().filter(|value| **value == 0.0).count();
    let bad = values.iter().filter(|value| !value.is_finite()).count();
    let shown: Vec<String> = values.iter().take(8).map(|value| format!("{value:.5}")).collect();
    let more = if values.len() > 8 { ", ..." } else { "" };
    format!(
        "  min {least:.5}  max {largest:.5}  mean {mean:.5}  std {deviation:.5}  zeros {zeros}/{}  not finite {bad}\n  [{}{more}]",
        values.len(),
        shown.join(", ")
    )
}
