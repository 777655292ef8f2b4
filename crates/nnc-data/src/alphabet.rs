//! What the numbers of a running text stand for.

use crate::token_table::TokenTable;

/// Characters or tokens by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alphabet<'a> {
    /// Characters, in their order.
    Characters(&'a [String]),
    /// Byte-pair tokens.
    Tokens(&'a TokenTable),
}

impl Alphabet<'_> {
    /// The text that numbers stand for. What is none of theirs, such as `None`, gives U+FFFD; the marks of a table of
    /// tokens give nothing.
    pub fn text(self, numbers: impl Iterator<Item = Option<usize>>) -> String {
        match self {
            Alphabet::Characters(characters) => {
                let letter =
                    |number: Option<usize>| number.and_then(|at| characters.get(at)).map_or("\u{fffd}", String::as_str);
                numbers.map(letter).collect()
            }
            Alphabet::Tokens(tokens) => tokens.text(numbers),
        }
    }
}
