//! Reads what goes into a program, as its port says. `nnc run` and built executables share it.

use crate::manifest::{Manifest, Port, Reading};
use nnc_data::{Column, Given, Result};
use std::path::Path;

/// What `value` gives for the port `name`: a file (`-` is standard input); for a text the text itself, or `@` and a
/// file; for words either: what is the name of no file and does not look like one is the text itself.
///
/// # Errors
/// The file cannot be read.
pub fn given(name: &str, value: &Path, reading: Reading) -> Result<Given> {
    let text = value.to_string_lossy();
    let file = text.strip_prefix('@').map(Path::new);
    match (reading, file) {
        (Reading::Text | Reading::Words(_), Some(file)) => Given::read(file),
        (Reading::Text, None) => Ok(Given::text(name, &text)),
        (Reading::Words(_), None) if is_text_itself(&text) => Ok(Given::text(name, &text)),
        _ => Given::read(value),
    }
}

/// The rows that are given for `port` of `manifest`.
///
/// # Errors
/// It is not what the port takes.
#[cfg_attr(not(feature = "text"), allow(unused_variables, reason = "only texts need the whole manifest"))]
pub fn decode(given: Given, port: &Port, manifest: &Manifest) -> Result<Column> {
    match port.reading {
        #[cfg(feature = "text")]
        Reading::Text => given.decode_text(&port.row, manifest.alphabet()),
        #[cfg(feature = "text")]
        Reading::Characters => given.decode_windows(&port.row, manifest.alphabet()),
        #[cfg(feature = "text")]
        Reading::Words(table) => given.decode_words(&port.row, &manifest.vocabularies[table]),
        #[cfg(feature = "sound")]
        Reading::Sound(rate) => given.decode_sound(&port.row, rate),
        _ if !port.batched => given.decode_one(&port.row),
        _ => given.decode(&port.row),
    }
}

/// The rows that `value` gives for `port`, as [`given`] and [`decode`] say.
///
/// # Errors
/// As theirs.
pub fn read_port(value: &Path, port: &Port, manifest: &Manifest) -> Result<Column> {
    decode(given(&port.name, value, port.reading)?, port, manifest)
}

/// Whether what was given is no name of a file: there is none of that name, and it does not look like one, which would
/// have a folder or an ending (`.txt`) and no space in it.
fn is_text_itself(given: &str) -> bool {
    let ending = given.rsplit_once('.').map_or("", |(_, ending)| ending);
    let has_ending = matches!(ending.len(), 1..=4) && ending.chars().all(char::is_alphanumeric);
    let like_file = !given.contains(char::is_whitespace) && (has_ending || given.contains('/') || given == "-");
    !like_file && !Path::new(given).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_told_from_a_file() {
        for text in ["a lovely film", "lovely", "ROMEO:", "It was 3.5. Good", "see a/b there", "wow..."] {
            assert!(is_text_itself(text), "{text}");
        }
        for file in ["-", "reviews.txt", "data/reviews", "./x", "Cargo.toml", "reviews.gz"] {
            assert!(!is_text_itself(file), "{file}");
        }
    }
}
