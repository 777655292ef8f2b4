//! What `--input` gives: read once, and decoded when the program is made for its sizes.

use crate::{Failure, terminal};
use nnc_data::{Column, Given};
use nnc_driver::DriverError;
use nnc_driver::answer::Inputs;
use nnc_lang::diagnostic::closest;
use nnc_stub::manifest::{Manifest, Port, Reading};
use nnc_stub::{arguments::Arguments, decode, given};
use std::collections::BTreeMap;
use std::path::Path;

/// The values of `--input`, with what was read for them.
pub(crate) struct Givens<'o> {
    words: &'o [String],
    read: BTreeMap<String, Given>,
}

impl<'o> Givens<'o> {
    /// Those of a command line.
    pub(crate) fn new(words: &'o [String]) -> Self {
        Self { words, read: BTreeMap::new() }
    }

    /// Whether an input is named.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.words.iter().any(|word| word.split_once('=').is_some_and(|(named, _)| named == name))
    }

    /// What is given for the parameters that are tensors, by their names.
    pub(crate) fn tensors(&mut self, inputs: &Inputs) -> Result<BTreeMap<String, Given>, Failure> {
        let tensors: Vec<_> = inputs.tensors().collect();
        for (name, ty) in &tensors {
            let own = self.words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            let alone =
                self.words.first().filter(|word| self.words.len() == 1 && tensors.len() == 1 && !word.contains('='));
            let reading = if inputs.is_text(ty) { Reading::Text } else { Reading::Values };
            let Some(value) = own.or(alone.map(String::as_str)) else { return Err(self.missing(name, reading)) };
            self.read((*name).to_owned(), value, reading)?;
        }
        Ok(self.read.clone())
    }

    /// Nothing is given for a parameter, or it is called otherwise.
    fn missing(&self, name: &str, reading: Reading) -> Failure {
        let is_meant = |word: &&String| word.split_once('=').is_some_and(|(other, _)| closest(other, [name]).is_some());
        Failure::Message(match self.words.iter().find(is_meant) {
            Some(word) => format!("--input {word}: there is no such input; did you mean `{name}`?"),
            None => format!("--input {name}={} is missing", what(reading)),
        })
    }

    fn read(&mut self, name: String, value: &str, reading: Reading) -> Result<Given, Failure> {
        if let Some(known) = self.read.get(&name) {
            return Ok(known.clone());
        }
        if reading == Reading::Text && Path::new(value).is_file() {
            crate::output::remark(&format!(
                "--input {name}: `{value}` is the text itself; write `@{value}` for the file"
            ));
        }
        let read =
            given(&name, Path::new(value), reading).map_err(|error| Failure::Driver(DriverError::Data(error)))?;
        self.read.insert(name, read.clone());
        Ok(read)
    }

    /// The columns of the manifest's inputs.
    pub(crate) fn columns(&mut self, manifest: &Manifest) -> Result<Vec<Column>, Failure> {
        let ports: Vec<&Port> = manifest.files().collect();
        let mut values: Vec<Option<&str>> = vec![None; ports.len()];
        for word in self.words {
            let (at, value) = place(word, &ports)?;
            if values[at].replace(value).is_some() {
                return Err(Failure::Message(format!("--input {word}: `{}` is given twice", ports[at].name)));
            }
        }
        let mut values = ports.iter().zip(values);
        let defaults = Arguments::default();
        let column = |port: &Port| -> Result<Column, Failure> {
            if port.reading == Reading::Option {
                return defaults.option(port).map_err(Failure::Message);
            }
            let value = values.next().and_then(|(_, value)| value);
            let value = value.ok_or_else(|| self.missing(&port.name, port.reading))?;
            let read = self.read(port.name.clone(), value, port.reading)?;
            let column = decode(read, port, manifest).map_err(|error| Failure::Driver(DriverError::Data(error)))?;
            column.remarks.iter().for_each(|remark| terminal::print_warning(remark));
            Ok(column)
        };
        manifest.inputs.iter().map(column).collect()
    }
}

/// What is given for an input.
fn what(reading: Reading) -> &'static str {
    if reading == Reading::Text { "TEXT" } else { "PATH" }
}

/// The port that a word is for, and its value: `name=value`, or a value alone when there is one port.
fn place<'w>(word: &'w str, ports: &[&Port]) -> Result<(usize, &'w str), Failure> {
    let named = word
        .split_once('=')
        .and_then(|(name, value)| ports.iter().position(|port| port.name == name).map(|at| (at, value)));
    if let Some(found) = named {
        return Ok(found);
    }
    if ports.len() == 1 && !word.contains('=') {
        return Ok((0, word));
    }
    let names = ports.iter().map(|port| format!("`{port}`")).collect::<Vec<_>>().join(", ");
    let message = if ports.is_empty() {
        format!("--input {word}: this answer has no inputs")
    } else {
        format!("--input {word}: the inputs are {names}")
    };
    let name = word.split('=').next().unwrap_or_default();
    Err(Failure::Message(match closest(name, ports.iter().map(|port| port.name.as_str())) {
        Some(meant) if meant != name => format!("{message}: did you mean `{meant}`?"),
        _ => message,
    }))
}
