//! The program that a built executable is made from: it finds the compiled code and the weights
//! that were appended to it, decodes the input files, runs, and prints.
//!
//! It exits with 0, or with 1 and one line on standard error, where else only a word about threads
//! may stand. A reader that closes the pipe early is no error.
#![forbid(unsafe_code)]

use nnc_data::{Column, check_not_input};
use nnc_runtime::image::Image;
use nnc_runtime::{Code, Pool, Program, cpu, memory};
use nnc_stub::arguments::{Arguments, too_many_threads};
use nnc_stub::manifest::{Manifest, Port, Reading, Variant};
use nnc_stub::{Engine, Weights, bench, help, json, present, read_port};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// What ended the program: one line, or a reader that went away.
enum Failure {
    Message(String),
    Output(io::Error),
}

impl<T: ToString> From<T> for Failure {
    fn from(error: T) -> Self {
        Self::Message(error.to_string())
    }
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(io::stderr(), "error: this is a bug in nnc ({place})");
    }));
    let message = match run() {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(Failure::Output(error)) => format!("the output cannot be written: {error}"),
        Err(Failure::Message(message)) => message,
    };
    let _ = writeln!(io::stderr(), "error: {}", present::printable(&message.replace('\n', " ")));
    ExitCode::FAILURE
}

fn run() -> Result<(), Failure> {
    let image = Image::own()?.ok_or("this is the bare stub of nnc: no program is packed into it")?;
    let manifest =
        Manifest::decode(image.manifest()).ok_or("this executable is damaged: its description cannot be read")?;
    manifest.check(image.weights().len()).map_err(|reason| format!("this executable is damaged: {reason}"))?;
    let arguments = Arguments::parse(std::env::args_os().skip(1))?;
    if arguments.help {
        return print(|to| to.write_all(help::help(&manifest, &own_name()).as_bytes()));
    }
    if arguments.version {
        return print(|to| writeln!(to, "{}", help::origin(&manifest)));
    }
    let variant = variant(&manifest)?;
    arguments.check_options(&manifest)?;
    let mut engine = engine(image, (manifest, &variant), &arguments)?;
    match arguments.bench {
        Some(_) => measure(&mut engine, &arguments),
        None => answer(&mut engine, &arguments),
    }
}

fn own_name() -> String {
    let path = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    path.file_name().map_or_else(|| "program".into(), |name| name.to_string_lossy().into_owned())
}

/// The first variant that this processor can run; a manifest has one at least.
fn variant(manifest: &Manifest) -> Result<Variant, Failure> {
    let mut refusal = String::new();
    for variant in &manifest.variants {
        match lacking(variant)? {
            None => return Ok(variant.clone()),
            Some(what) => refusal = what,
        }
    }
    let names: Vec<&str> = manifest.variants.iter().map(|variant| variant.isa.as_str()).collect();
    let advice = |best: cpu::Isa| format!("; build it with `--isa {},{}`", names.join(","), best.name());
    Err((refusal + &cpu::Isa::host().map(advice).unwrap_or_default()).into())
}

/// What this processor lacks for a variant, in a line.
fn lacking(variant: &Variant) -> Result<Option<String>, Failure> {
    if variant.isa.is_empty() {
        return Ok(None);
    }
    let isa = cpu::Isa::from_name(&variant.isa).ok_or_else(|| {
        format!("this executable is damaged: it is for `{}`, which is no instruction set", variant.isa)
    })?;
    let missing = isa.missing();
    if missing.is_empty() {
        return Ok(None);
    }
    let (name, missing) = (isa.name(), missing.join(", "));
    Ok(Some(format!("this program was built for processors with {name}; this one lacks {missing}")))
}

fn engine(
    image: Image,
    (manifest, variant): (Manifest, &Variant),
    arguments: &Arguments,
) -> Result<Engine<'static>, Failure> {
    if let Some(remark) = too_many_threads(arguments.threads) {
        let _ = writeln!(io::stderr(), "{remark}");
    }
    let most = cpu::available_threads();
    let threads = arguments.threads.map_or(most, |asked| asked.min(most));
    let layout = manifest.layout(variant);
    memory::check(layout.total_bytes(threads.get()))?;
    let code = Code::from_image(&image, variant.entry, layout)?.with_read_only(&manifest.read_only());
    let pool = Pool::with_limit(arguments.threads)?;
    let (program, weights) = (Program::new(code, Arc::new(pool)), Weights::Block(image.weights()));
    Ok(Engine::new(manifest, program, weights).with_seed(arguments.seed))
}

/// Runs on all files, and writes or prints the answers.
fn answer(engine: &mut Engine<'_>, arguments: &Arguments) -> Result<(), Failure> {
    let outputs = arguments.output_files(engine.manifest())?;
    refuse_inputs(arguments)?;
    let inputs = read_inputs(arguments, engine.manifest())?;
    if let Some(remark) = engine.manifest().remark_on(engine.manifest().rows(&inputs)?) {
        let _ = writeln!(io::stderr(), "{remark}");
    }
    let answers = engine.run(&inputs)?;
    let mut written = Vec::new();
    for (answer, paths) in answers.iter().zip(&outputs) {
        for path in paths {
            answer.write(path, engine.manifest().names())?;
            written.push(format!("wrote {}: {}", path.display(), answer.type_text()));
        }
    }
    let rows = answers.iter().map(|answer| answer.rows).max().unwrap_or(1);
    let (top, manifest) = (arguments.top(rows), engine.manifest());
    print(|to| match (arguments.json, written.is_empty()) {
        (true, _) => json::write_json(to, &manifest.program, &answers, manifest.names(), top),
        (false, true) => present::write_text(to, &answers, manifest.names(), top),
        (false, false) => written.iter().try_for_each(|line| writeln!(to, "{line}")),
    })
}

/// An answer is never written over what it is made from: the inputs, and this program.
fn refuse_inputs(arguments: &Arguments) -> Result<(), Failure> {
    let own = std::env::current_exe().ok();
    let files = arguments.inputs.iter().map(|input| input.path.as_path());
    let inputs: Vec<&Path> = files.chain(own.as_deref()).collect();
    Ok(arguments.outputs.iter().try_for_each(|output| check_not_input(&output.path, &inputs))?)
}

/// Measures on the first rows of the files, or on zeros if there are none.
fn measure(engine: &mut Engine<'_>, arguments: &Arguments) -> Result<(), Failure> {
    if !arguments.inputs.is_empty() {
        let inputs = read_inputs(arguments, engine.manifest())?;
        engine.load_first(&inputs)?;
    }
    let found = bench::measure(engine, arguments.bench.unwrap_or_default())?;
    print(|to| if arguments.json { writeln!(to, "{}", found.to_json()) } else { write!(to, "{found}") })
}

fn read_inputs(arguments: &Arguments, manifest: &Manifest) -> Result<Vec<Column>, Failure> {
    let mut files = arguments.input_files(manifest)?.into_iter();
    let column = |port: &Port| match port.reading {
        Reading::Option => arguments.option(port).map_err(Failure::Message),
        _ => read_files(port, &files.next().unwrap_or_default(), manifest),
    };
    manifest.inputs.iter().map(column).collect()
}

/// The rows of all files, one after the other.
fn read_files(port: &Port, files: &[PathBuf], manifest: &Manifest) -> Result<Column, Failure> {
    let mut whole = Column::new(port.row.clone(), 0, Vec::new());
    for file in files {
        let column = read_port(file, port, manifest)?;
        for remark in &column.remarks {
            let _ = writeln!(io::stderr(), "{remark}");
        }
        whole.rows += column.rows;
        whole.bytes.extend(column.bytes);
    }
    Ok(whole)
}

fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut to = BufWriter::new(io::stdout().lock());
    write(&mut to).and_then(|()| to.flush()).map_err(Failure::Output)
}
