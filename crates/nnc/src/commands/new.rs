//! `nnc new NAME`.

use crate::arguments::New;
use crate::terminal::{GOOD, STRONG};
use crate::{Failure, output};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

pub(crate) fn run(options: &New) -> Result<(), Failure> {
    let name = options.name.strip_suffix(".nn").unwrap_or(&options.name);
    let path = PathBuf::from(format!("{name}.nn"));
    if path.file_name().is_none_or(|file| file.to_string_lossy().starts_with('.')) {
        return Err(Failure::Message(format!("`{}` is no name for a file", options.name)));
    }
    let failed = |error: io::Error| Failure::Message(format!("cannot write {}: {error}", path.display()));
    if path.exists() {
        return Err(Failure::Message(format!("{} is there already: choose another name", path.display())));
    }
    let mut created = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if let Err(error) = created.write_all(nnc_lang::library::template(&stem).as_bytes()) {
        // Part of a template is of no use, and would be in the way of the next try.
        let _ = fs::remove_file(&path);
        return Err(failed(error));
    }
    let file = path.display();
    output::line(&format!("{GOOD}wrote{GOOD:#} {file}"))?;
    let train = format!("nnc train {file} --data DIR");
    output::line(&format!("name your data in it, then: {STRONG}nnc check {file}{STRONG:#}, {STRONG}{train}{STRONG:#}"))
}
