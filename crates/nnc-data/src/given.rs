//! What is given for an input of a program, read but not decoded: its dims can be asked for before its type is known,
//! as a program is made for the sizes of what goes in.

use std::path::{Path, PathBuf};

#[cfg(feature = "text")]
use crate::alphabet::Alphabet;
use crate::content::{self, Format};
use crate::error::{DataError, ErrorKind, Result};
use crate::input;
#[cfg(feature = "csv")]
use crate::number;
use crate::types::{Batching, Column, FieldType};

/// The bytes that are given for an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    content: Vec<u8>,
    /// What messages call it.
    path: PathBuf,
}

impl Given {
    /// Reads the file `path`, or standard input for `-`.
    ///
    /// # Errors
    /// A file that is missing or cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Given { content: content::read_stdin()?, path: "standard input".into() });
        }
        Ok(Given { content: content::read_file(path, content::Role::Input)?, path: path.to_owned() })
    }

    /// Bytes that were read already; messages call them `name`.
    pub fn bytes(name: &str, content: Vec<u8>) -> Self {
        Given { content, path: name.into() }
    }

    /// A text that is given as it is; messages call it `name`.
    pub fn text(name: &str, text: &str) -> Self {
        Self::bytes(name, text.as_bytes().to_vec())
    }

    /// What messages call it.
    pub fn name(&self) -> &Path {
        &self.path
    }

    /// The dims of an array; `[height, width]` of an image; of text with numbers, its lines and how many the last one
    /// has.
    ///
    /// # Errors
    /// A damaged header, or a format that has no dims.
    pub fn dims(&self) -> Result<Vec<usize>> {
        let Given { content, path } = self;
        match content::sniff(content) {
            #[cfg(feature = "npy")]
            Format::Npy => crate::npy::dims(content, path),
            #[cfg(feature = "image")]
            Format::Png | Format::Jpeg => crate::picture::dims(content, path),
            #[cfg(feature = "csv")]
            Format::Text => {
                let text = String::from_utf8_lossy(content);
                let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
                let is_header = |line: &&str| !line.split(',').any(number::looks_like_number);
                let headers = lines.first().is_some_and(is_header);
                Ok(vec![lines.len() - usize::from(headers), lines.last().unwrap_or(&"").split(',').count()])
            }
            _ => {
                let message = "has no size that could be told before it is decoded";
                let error = DataError::new(ErrorKind::Unsupported, path, message);
                Err(error.help("give an .npy file, or the sizes with `--bind`"))
            }
        }
    }

    /// Whether it is text with numbers, if it holds numbers.
    pub fn is_table(&self) -> bool {
        content::sniff(&self.content) == Format::Text
    }

    /// How many characters a text has, or how many tokens of a table; of an `.npy` file its dims.
    ///
    /// # Errors
    /// It is no text in UTF-8, or it is empty.
    #[cfg(feature = "text")]
    pub fn text_dims(&self, tokens: Option<&crate::TokenTable>) -> Result<Vec<usize>> {
        match content::sniff(&self.content) {
            Format::Npy => self.dims(),
            _ => {
                let text = crate::text::utf8(&self.content, &self.path)?;
                Ok(vec![tokens.map_or_else(|| text.chars().count(), |tokens| tokens.numbers(text).len())])
            }
        }
    }

    /// Decodes it as [`crate::decode_input`] does.
    ///
    /// # Errors
    /// As there.
    pub fn decode(self, ty: &FieldType) -> Result<Column> {
        input::decode_input(self.content, &self.path, ty)
    }

    /// As [`Self::decode`], of one array, which has no rows.
    ///
    /// # Errors
    /// As there; also for an array of several rows.
    pub fn decode_one(self, ty: &FieldType) -> Result<Column> {
        input::decode_batched(self.content, &self.path, ty, Batching::One)
    }

    /// Decodes windows of a text, as [`crate::decode_text_input`] does.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "text")]
    pub fn decode_windows(self, ty: &FieldType, alphabet: Alphabet<'_>) -> Result<Column> {
        input::decode_text_input(self.content, &self.path, ty, alphabet)
    }

    /// Decodes texts of words or tokens, one a line, as [`crate::decode_words_input`] does.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "text")]
    pub fn decode_words(self, ty: &FieldType, vocabulary: &crate::Vocabulary) -> Result<Column> {
        input::decode_words_input(self.content, &self.path, ty, vocabulary)
    }

    /// Decodes a sound, as [`crate::decode_sound_input`] does.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "wav")]
    pub fn decode_sound(self, ty: &FieldType, rate: u32) -> Result<Column> {
        input::decode_sound_input(self.content, &self.path, ty, rate)
    }

    /// Decodes a whole text as one row of `ty`, which has one axis. A shorter text stands at its end, with line ends
    /// before it, or spaces where there is no character for a line end.
    ///
    /// # Errors
    /// A text that is empty, too long or no UTF-8; a character that has no number; an array of another type.
    #[cfg(feature = "text")]
    pub fn decode_text(self, ty: &FieldType, alphabet: Alphabet<'_>) -> Result<Column> {
        if content::sniff(&self.content) == Format::Npy {
            return self.decode(ty);
        }
        match alphabet {
            Alphabet::Characters(names) => crate::text::decode_whole(&self.content, &self.path, ty, names),
            Alphabet::Tokens(tokens) => crate::running::decode_whole(&self.content, &self.path, ty, tokens),
        }
    }
}

#[cfg(all(test, feature = "text", feature = "npy"))]
mod tests {
    use super::*;
    use crate::types::DType;

    fn vocabulary(letters: &str) -> Vec<String> {
        letters.chars().map(String::from).collect()
    }

    fn numbers(text: &str, length: usize, letters: &str) -> Result<Vec<u8>> {
        let ty = FieldType::new(DType::U8, [length]);
        Ok(Given::text("prompt", text).decode_text(&ty, Alphabet::Characters(&vocabulary(letters)))?.bytes)
    }

    #[test]
    fn a_text_is_one_row_and_stands_at_the_end() {
        assert_eq!(Given::text("prompt", "bän").text_dims(None).unwrap(), [3]);
        assert_eq!(numbers("ba", 2, "\n ab").unwrap(), [3, 2]);
        assert_eq!(numbers("ba", 5, "\n ab").unwrap(), [0, 0, 0, 3, 2]);
        assert_eq!(numbers("ba", 3, " ab").unwrap(), [0, 2, 1]);
    }

    #[test]
    fn faults_name_what_was_given() {
        for (text, length, letters, words) in [
            ("", 2, "\nab", "prompt: is empty; give at least one character"),
            ("aba", 2, "\nab", "prompt: has 3 characters, and at most 2 are taken"),
            ("a", 2, "ab", "prompt: has 1 character, and 2 are taken"),
            ("a\nbc", 4, "\nab", "prompt, line 2: the character `c` (U+0063) is not among the 3"),
            ("a", 1, "ba", "prompt: the weights were trained on something else than a text"),
        ] {
            let error = numbers(text, length, letters).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn dims_are_told_before_the_type() {
        let mut npy = Vec::new();
        crate::encode_npy(&mut npy, DType::I32, &[2, 3], &[0; 24]).unwrap();
        let given = |content: &[u8]| Given::bytes("a", content.to_vec());
        assert_eq!(given(&npy).dims().unwrap(), [2, 3]);
        assert_eq!(given(&npy).text_dims(None).unwrap(), [2, 3]);
        assert_eq!(given(b"x,y\n1,2\n").dims().unwrap(), [1, 2]);
        assert_eq!(given(b"1,2,3\n\n4,5,6\n").dims().unwrap(), [2, 3]);
        assert!(given(&npy[..20]).dims().is_err());
        assert!(given(b"\0\0\x08\x01\0\0\0\0").dims().unwrap_err().to_string().contains("--bind"));
    }
}
