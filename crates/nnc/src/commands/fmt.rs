//! `nnc fmt FILE... [--check]`.

use crate::arguments::Fmt;
use crate::terminal::{self, CAREFUL, GOOD};
use crate::{Failure, output};
use nnc_data::write_atomically;
use nnc_driver::{DriverError, project};
use nnc_lang::diagnostic::Sources;
use nnc_lang::syntax::format::format;
use std::path::Path;

pub(crate) fn run(options: &Fmt) -> Result<(), Failure> {
    let mut failed = false;
    for file in &options.files {
        failed |= !one(file, options.check)?;
    }
    if failed { Err(Failure::Printed) } else { Ok(()) }
}

/// Gives whether the file is in order now.
fn one(file: &Path, check: bool) -> Result<bool, Failure> {
    let text = project::read_source(file)?;
    let formatted = match format(&text) {
        Ok(formatted) => formatted,
        Err(diagnostics) => {
            let mut sources = Sources::default();
            sources.add(&file.display().to_string(), &text);
            terminal::print_diagnostics(&diagnostics, &sources);
            return Ok(false);
        }
    };
    if formatted == text {
        return Ok(true);
    }
    if check {
        output::line(&format!("{CAREFUL}not formatted{CAREFUL:#} {}", file.display()))?;
        return Ok(false);
    }
    write_atomically(file, |to| to.write_all(formatted.as_bytes())).map_err(DriverError::from)?;
    output::line(&format!("{GOOD}formatted{GOOD:#} {}", file.display()))?;
    Ok(true)
}
