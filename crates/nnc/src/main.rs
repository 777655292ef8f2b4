//! The `nnc` command line: arguments in, text out. All logic is in `nnc-driver`.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`arguments`] | the commands and their options |
//! | [`commands`] | one file for each command |
//! | [`setup`] | from common options to a project, a compiler, a data set |
//! | [`terminal`] | colours, errors, progress bars, tables |
//!
//! Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod setup;
mod terminal;

use arguments::{Arguments, Command};
use clap::Parser;
use nnc_driver::DriverError;
use std::process::ExitCode;

/// How a command failed, for the exit code.
pub(crate) enum Failure {
    /// Said by the driver.
    Driver(DriverError),
    /// Said here.
    Message(String),
    /// Diagnostics were printed already.
    Printed,
    /// SIGINT; what to do next was printed already.
    Interrupted,
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
    let arguments = Arguments::parse();
    terminal::choose_colours(arguments.color);
    match dispatch(arguments.command) {
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
        Command::Grad(options) => commands::grad::run(&options),
        Command::Dump(options) => commands::dump::run(&options),
        Command::Bench(options) => commands::bench::run(&options),
        Command::Explain(options) => commands::explain::run(&options),
        Command::Demo(options) => commands::demo::run(&options),
    }
}

fn report(failure: Failure) -> ExitCode {
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
        Failure::Printed => ExitCode::from(1),
        Failure::Interrupted => ExitCode::from(130),
    }
}
