//! `nnc new NAME`.

use crate::Failure;
use crate::arguments::New;
use crate::terminal::{GOOD, STRONG};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

pub(crate) fn run(options: &New) -> Result<(), Failure> {
    let name = options.name.strip_suffix(".nn").unwrap_or(&options.name);
    let path = PathBuf::from(format!("{name}.nn"));
    if path.file_name().is_none_or(|file| file == ".nn") {
        return Err(Failure::Message(format!("`{}` is no name for a file", options.name)));
    }
    let created = OpenOptions::new().write(true).create_new(true).open(&path);
    let written = created.and_then(|mut file| file.write_all(nnc_lang::library::TEMPLATE.as_bytes()));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let file = path.display();
    anstream::println!("{GOOD}wrote{GOOD:#} {file}");
    anstream::println!("look at it, then: {STRONG}nnc show {file}{STRONG:#}, {STRONG}nnc train {file}{STRONG:#}");
    Ok(())
}
