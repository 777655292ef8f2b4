//! The `nnc` command line: arguments in, text out. All logic is in `nnc-driver`.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`arguments`] | the commands and their options |
//! | [`commands`] | one file for each command |
//! | [`given`] | what `--input` gives |
//! | [`plots`] | curves and event files of a run |
//! | [`setup`] | from common options to a project, a compiler, a data set |
//! | [`output`] | the one door to standard output and standard error |
//! | [`terminal`] | colours, errors, numbers, tables |
//! | [`usage`] | what is said of wrong arguments |
//! | [`values`] | the values of options |
//!
//! Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod given;
mod output;
mod plots;
mod setup;
mod terminal;
mod usage;
mod values;

use arguments::{Arguments, Command};
use clap::Parser;
use nnc_driver::DriverError;
use std::io;
use std::process::ExitCode;

/// How a command failed, for the exit code.
pub(crate) enum Failure {
    /// Said by the driver.
    Driver(DriverError),
    /// Said here.
    Message(String),
    /// Standard output cannot be written.
    Output(io::Error),
    /// Diagnostics were printed already.
    Printed,
    /// SIGINT; what to do next was printed already.
    Interrupted,
}

impl Failure {
    /// Whether the reader of standard output went away, as `head` does when it has seen enough.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Message(message)
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(said) => return refuse(&usage::with_hint(said, &words())),
    };
    terminal::choose_colours(arguments.color);
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(failure),
    }
}

fn words() -> Vec<String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Help and version, which were asked for, or what is wrong with the arguments.
fn refuse(said: &clap::Error) -> ExitCode {
    let text = said.render().ansi().to_string();
    if said.use_stderr() {
        output::remark(text.trim_end_matches('\n'));
        return ExitCode::from(2);
    }
    match output::print(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(failure),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::New(options) => commands::new::run(&options),
        Command::Check(options) => commands::check::run(&options),
        Command::Show(options) => commands::show::run(&options),
        Command::Fmt(options) => commands::fmt::run(&options),
        Command::Train(options) => commands::train::run(&options),
        Command::Eval(options) => commands::eval::run(&options),
        Command::Run(options) => commands::run::run(&options),
        Command::Build(options) => commands::build::run(&options),
        Command::Quantise(options) => commands::quantise::run(&options),
        Command::Compress(options) => commands::compress::run(&options),
        Command::Prune(options) => commands::prune::run(&options),
        Command::Grad(options) => commands::grad::run(&options),
        Command::Dump(options) => commands::dump::run(&options),
        Command::Bench(options) => commands::bench::run(&options),
        Command::Profile(options) => commands::profile::run(&options),
        Command::Explain(options) => commands::explain::run(&options),
        Command::Demo(options) => commands::demo::run(&options),
    }
}

fn report(failure: Failure) -> ExitCode {
    if failure.is_closed_pipe() {
        return ExitCode::SUCCESS;
    }
    match failure {
        Failure::Driver(DriverError::Diagnostics { diagnostics, sources }) => {
            terminal::print_diagnostics(&diagnostics, &sources);
            ExitCode::from(1)
        }
        Failure::Driver(error) => {
            terminal::print_error(&error.to_string());
            ExitCode::from(1)
        }
        Failure::Message(message) => {
            terminal::print_error(&message);
            ExitCode::from(1)
        }
        Failure::Output(error) => {
            terminal::print_error(&format!("standard output cannot be written: {error}"));
            ExitCode::from(1)
        }
        Failure::Printed => ExitCode::from(1),
        Failure::Interrupted => ExitCode::from(130),
    }
}
