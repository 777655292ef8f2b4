//! Reads what goes into a program, as its port says. `nnc run` and built executables share it.

use crate::manifest::{Manifest, Port, Reading};
use nnc_data::{Column, Given, Result};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What `value` gives for the port `name`: a file (`-` is standard input); for a text the text itself, or `@` and a
/// file; for words either: what is the name of no file and does not look like one is the text itself.
///
/// # Errors
/// The file cannot be read.
pub fn given(name: &str, value: &Path, reading: Reading) -> Result<Given> {
    let Some(text) = value.to_str() else { return given_bytes(name, value, reading) };
    let file = text.strip_prefix('@').map(Path::new);
    match (reading, file) {
        (Reading::Text | Reading::Words(_), Some(file)) => Given::read(file),
        (Reading::Text, None) => Ok(Given::text(name, text)),
        (Reading::Words(_), None) if is_text_itself(text) => Ok(Given::text(name, text)),
        _ => Given::read(value),
    }
}

/// As [`given`], of a value that is not in UTF-8. As a text it is refused when it is decoded, as that of a file is.
fn given_bytes(name: &str, value: &Path, reading: Reading) -> Result<Given> {
    let bytes = value.as_os_str().as_bytes();
    match (reading, bytes.strip_prefix(b"@")) {
        (Reading::Text | Reading::Words(_), Some(file)) => Given::read(Path::new(OsStr::from_bytes(file))),
        (Reading::Text, None) => Ok(Given::bytes(name, bytes.to_vec())),
        (Reading::Words(_), None) if !value.exists() => Ok(Given::bytes(name, bytes.to_vec())),
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

    #[test]
    fn a_text_that_is_none_is_not_mended() {
        let latin = Path::new(OsStr::from_bytes(b"caf\xe9 noir"));
        for reading in [Reading::Text, Reading::Words(0)] {
            assert_eq!(given("prompt", latin, reading).unwrap(), Given::bytes("prompt", b"caf\xe9 noir".to_vec()));
        }
        let file = Path::new(OsStr::from_bytes(b"@caf\xe9.txt"));
        assert!(given("prompt", file, Reading::Text).unwrap_err().to_string().contains("caf"), "a file of that name");
    }
}
