//! `nnc demo`: the whole way in one command, on the data that ships with `nnc`.

use crate::arguments::{Arguments, Command, Demo};
use crate::terminal::{QUIET, STRONG};
use crate::{Failure, output};
use clap::Parser;
use std::fs;
use std::path::{Path, PathBuf};

/// The files that the demo needs, with their contents.
const FILES: [(&str, &[u8]); 2] = [
    ("digits.nn", include_bytes!("../../../../dsl-examples/digits.nn")),
    ("data/digits.csv.gz", include_bytes!("../../../../dsl-examples/data/digits.csv.gz")),
];

pub(crate) fn run(options: &Demo) -> Result<(), Failure> {
    let folder = options.out.clone().unwrap_or_else(new_folder);
    for (name, content) in FILES {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(&folder);
        refuse_other(&path, content)?;
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, content));
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let (network, out) = (folder.join("digits.nn"), folder.join("run"));
    let weights = out.join("last.safetensors");
    let executable = folder.join("digits");
    step(&["show", &text(&network)])?;
    step(&["train", &text(&network), "--out", &text(&out)])?;
    step(&["build", &text(&network), "--weights", &text(&weights), "-o", &text(&executable)])?;
    let example = example(&folder)?;
    let shown = format!("{} {}", executable.display(), example.display());
    output::line(&format!("\n{QUIET}${QUIET:#} {STRONG}{shown}{STRONG:#}"))?;
    let status = std::process::Command::new(&executable).arg(&example).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Message(format!("{} ended with {status}", executable.display()))),
        Err(error) => Err(Failure::Message(format!("cannot run {}: {error}", executable.display()))),
    }
}

/// Refuses a place where something else is: a network of the user's may be called as that of the demo.
fn refuse_other(path: &Path, content: &[u8]) -> Result<(), Failure> {
    if !path.exists() || fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let message = format!("{}: there is another file already; name a new folder with `--out`", path.display());
    Err(Failure::Message(message))
}

/// Runs a command of this program, and says which.
fn step(words: &[&str]) -> Result<(), Failure> {
    output::line(&format!("\n{QUIET}${QUIET:#} {STRONG}nnc {}{STRONG:#}", words.join(" ")))?;
    let parsed = Arguments::try_parse_from(std::iter::once("nnc").chain(words.iter().copied()));
    let arguments = parsed.map_err(|error| Failure::Message(error.to_string()))?;
    match arguments.command {
        Command::Show(options) => super::show::run(&options),
        Command::Train(options) => super::train::run(&options),
        Command::Build(options) => super::build::run(&options),
        _ => Err(Failure::Message("the demo shows, trains and builds".to_owned())),
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn new_folder() -> PathBuf {
    let numbered = (2..).map(|number| format!("demo-{number}"));
    let mut candidates = std::iter::once("demo".to_owned()).chain(numbered).map(|name| Path::new("runs").join(name));
    candidates.find(|path| !path.exists()).unwrap_or_else(|| Path::new("runs").join("demo"))
}

/// A handwritten three, as one row of 64 numbers from 0 to 16.
const THREE: [u8; 64] = [
    0, 1, 11, 16, 16, 9, 0, 0, 0, 5, 13, 8, 11, 16, 2, 0, 0, 0, 0, 0, 9, 15, 1, 0, 0, 0, 0, 9, 16, 11, 0, 0, 0, 0, 0,
    4, 12, 16, 5, 0, 0, 0, 0, 0, 0, 12, 12, 0, 0, 4, 7, 4, 8, 16, 8, 0, 0, 2, 13, 16, 14, 7, 0, 0,
];

fn example(folder: &Path) -> Result<PathBuf, Failure> {
    let path = folder.join("three.csv");
    let row: Vec<String> = THREE.iter().map(u8::to_string).collect();
    let row = row.join(",") + "\n";
    refuse_other(&path, row.as_bytes())?;
    let written = fs::write(&path, row);
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}
