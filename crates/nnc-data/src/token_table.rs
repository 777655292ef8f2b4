//! Byte-pair tokens and their numbers (Sennrich, Haddow, Birch 2016, over bytes as Radford and others 2019 have it).
//!
//! A text is cut into pieces: a run of letters, digits or other marks, with the space or the apostrophe before it; or a
//! run of white space. In each piece the bytes of its UTF-8 are tokens at first; then the two neighbours whose merge
//! was learned earliest become one token, the leftmost first, until no two have been learned. Pieces have at most
//! [`LONGEST`] characters, so the time is linear in the text, whatever it holds.
//!
//! The first numbers are the marks, the next 256 the single bytes; so every text has tokens, and these give it back.
//! The merges are learned by the crate `tokenizers` (`merges`); to follow them takes what is here, which is all that a
//! built executable carries.

use crate::vocabulary::{MARKS, PADDING, Pushed, push_number};
use std::collections::HashMap;

/// The number of the byte 0; the other bytes follow.
const FIRST_BYTE: usize = MARKS.len();
/// How many numbers a table without merges has.
pub const LEAST_TOKENS: usize = FIRST_BYTE + 256;
/// The most characters of a run; what goes on is another piece.
const LONGEST: usize = 64;
/// The most bytes of a token: a run with the space before it, four bytes a character.
const MOST_BYTES: usize = 4 * (LONGEST + 2);

/// A table of byte-pair tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenTable {
    /// The numbers of two tokens that become one, in the order in which they were learned.
    merges: Vec<(u32, u32)>,
    /// What each merge is in that order, and the number of the token it makes.
    ranks: HashMap<(u32, u32), (u32, u32)>,
    /// The bytes of the tokens, without the marks.
    tokens: Vec<Vec<u8>>,
}

impl TokenTable {
    /// The table of merges of tokens by their numbers; `None` if one merges what is not there before it, or what no
    /// piece of a text can hold, or is there twice.
    pub fn new(merges: Vec<(u32, u32)>) -> Option<Self> {
        let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        let mut numbers: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut ranks = HashMap::with_capacity(merges.len());
        for (rank, &(left, right)) in merges.iter().enumerate() {
            let bytes_of = |number: u32| tokens.get((number as usize).checked_sub(FIRST_BYTE)?);
            let bytes = [&bytes_of(left)?[..], bytes_of(right)?].concat();
            if bytes.len() > MOST_BYTES {
                return None;
            }
            // The same bytes may come of other neighbours, and are one token.
            let next = u32::try_from(FIRST_BYTE + tokens.len()).ok()?;
            let number = *numbers.entry(bytes.clone()).or_insert(next);
            if number == next {
                tokens.push(bytes);
            }
            if ranks.insert((left, right), (u32::try_from(rank).ok()?, number)).is_some() {
                return None;
            }
        }
        Some(Self { merges, ranks, tokens })
    }

    /// The merges, in the order in which they were learned.
    pub fn merges(&self) -> &[(u32, u32)] {
        &self.merges
    }

    /// How many numbers there are, the marks among them.
    pub fn size(&self) -> usize {
        FIRST_BYTE + self.tokens.len()
    }

    /// The tokens as people read them, the marks first; bytes that are no text by themselves give U+FFFD.
    pub fn names(&self) -> Vec<String> {
        let tokens = self.tokens.iter().map(|token| String::from_utf8_lossy(token).into_owned());
        MARKS.iter().map(|&mark| mark.to_owned()).chain(tokens).collect()
    }

    /// The numbers of the tokens of a text.
    pub fn numbers(&self, text: &str) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(text.len() / 2);
        for_each_piece(text, |piece| self.push_piece(piece, &mut numbers));
        numbers
    }

    /// The text of tokens by their numbers. Marks give nothing; what is no number of the table, and bytes that are no
    /// text, give U+FFFD.
    pub fn text(&self, numbers: impl Iterator<Item = Option<usize>>) -> String {
        let mut bytes = Vec::new();
        for number in numbers {
            match number.map(|number| (number, number.checked_sub(FIRST_BYTE))) {
                Some((_, Some(token))) if token < self.tokens.len() => bytes.extend_from_slice(&self.tokens[token]),
                Some((_, None)) => {}
                Some(_) | None => bytes.extend_from_slice("\u{fffd}".as_bytes()),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How many lines end within a token.
    #[cfg(feature = "text")]
    pub(crate) fn line_ends(&self, number: u32) -> u64 {
        let token = (number as usize).checked_sub(FIRST_BYTE).and_then(|at| self.tokens.get(at));
        token.map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count() as u64)
    }

    /// The number of a byte.
    #[cfg(feature = "text")]
    pub(crate) fn of_byte(byte: u8) -> usize {
        FIRST_BYTE + usize::from(byte)
    }

    /// Appends the numbers of the first `length` tokens of `text` as i32, and padding behind them.
    pub(crate) fn push(&self, text: &str, length: usize, bytes: &mut Vec<u8>) -> Pushed {
        let numbers = self.numbers(text);
        numbers.iter().take(length).for_each(|&number| push_number(number as usize, bytes));
        (numbers.len()..length).for_each(|_| push_number(PADDING, bytes));
        Pushed { units: numbers.len(), unknown: 0 }
    }

    fn push_piece(&self, piece: &str, numbers: &mut Vec<u32>) {
        let start = numbers.len();
        numbers.extend(piece.bytes().map(|byte| FIRST_BYTE as u32 + u32::from(byte)));
        loop {
            let pairs = numbers[start..].windows(2).enumerate();
            let known = pairs.filter_map(|(at, pair)| self.ranks.get(&(pair[0], pair[1])).map(|&merge| (merge, at)));
            let Some(((_, number), at)) = known.min_by_key(|&((rank, _), at)| (rank, at)) else { return };
            numbers[start + at] = number;
            numbers.remove(start + at + 1);
        }
    }
}

/// Hands the pieces of a text on, in order; no token reaches over the end of one.
pub(crate) fn for_each_piece<'t>(text: &'t str, mut piece: impl FnMut(&'t str)) {
    let mut rest = text;
    while !rest.is_empty() {
        let (first, behind) = rest.split_at(first_piece(rest));
        piece(first);
        rest = behind;
    }
}

/// The length of the piece that a text begins with; the text has a character.
pub(crate) fn first_piece(text: &str) -> usize {
    let white = run(text, char::is_whitespace);
    let behind = &text[white..];
    let ends_white = behind.is_empty() || behind.starts_with(char::is_whitespace);
    match white {
        0 => word(text),
        _ if ends_white || !text[..white].ends_with(' ') => white,
        // The last space belongs to what follows.
        1 => 1 + word(behind),
        _ => white - 1,
    }
}

/// The length of the run of one kind of characters that a text begins with; an apostrophe may stand before letters.
fn word(text: &str) -> usize {
    let apostrophe = match text.chars().next() {
        Some(mark @ ('\'' | '\u{2019}')) => mark.len_utf8(),
        Some(_) | None => 0,
    };
    match run(&text[apostrophe..], char::is_alphabetic) {
        0 => run(text, char::is_numeric).max(run(text, is_mark)),
        letters => apostrophe + letters,
    }
}

fn is_mark(character: char) -> bool {
    !character.is_whitespace() && !character.is_alphabetic() && !character.is_numeric()
}

/// The length of the characters of a kind that `text` begins with, at most so many as a run has.
fn run(text: &str, is_kind: impl Fn(char) -> bool) -> usize {
    text.chars().take(LONGEST).take_while(|&character| is_kind(character)).map(char::len_utf8).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        for_each_piece(text, |piece| found.push(piece));
        found
    }

    /// The merges of a piece, each of which goes on where the one before ended.
    fn chain(piece: &str) -> Vec<(u32, u32)> {
        let bytes: Vec<u32> = piece.bytes().map(|byte| TokenTable::of_byte(byte) as u32).collect();
        let merged = (0..).map(|at| LEAST_TOKENS as u32 + at);
        let left = std::iter::once(bytes[0]).chain(merged);
        left.zip(bytes[1..].iter().copied()).collect()
    }

    #[test]
    fn pieces_are_runs_of_one_kind() {
        assert_eq!(pieces("I don't know"), ["I", " don", "'t", " know"]);
        assert_eq!(pieces("a  b\n c\n\nd"), ["a", " ", " b", "\n", " c", "\n\n", "d"]);
        assert_eq!(pieces("x=12, 'so' (Ähm…) "), ["x", "=", "12", ",", " 'so", "'", " (", "Ähm", "…)", " "]);
        assert_eq!(pieces(" \t "), [" \t "]);
        assert_eq!(pieces(&"a".repeat(200)).iter().map(|piece| piece.len()).collect::<Vec<_>>(), [64, 64, 64, 8]);
        assert_eq!(pieces(&" ".repeat(100)).len(), 2);
    }

    #[test]
    fn the_earliest_merge_comes_first() {
        // "ab" before "bc": in "abc" the first two become one.
        let (a, b, c) = (u32::from(b'a') + 4, u32::from(b'b') + 4, u32::from(b'c') + 4);
        let table = TokenTable::new(vec![(a, b), (b, c), (260, c)]).unwrap();
        assert_eq!(table.numbers("abc bc"), [262, 36, 261]);
        assert_eq!(table.numbers("ababc"), [260, 262]);
        assert_eq!(table.size(), 263);
        assert_eq!(table.names()[260..], ["ab", "bc", "abc"]);
        // The same bytes of other neighbours are the same token.
        let table = TokenTable::new(vec![(a, b), (b, c), (260, c), (a, 261)]).unwrap();
        assert_eq!((table.size(), table.merges().len()), (263, 4));
    }

    #[test]
    fn tables_that_are_none_are_refused() {
        assert!(TokenTable::new(vec![(100, 260)]).is_none());
        assert!(TokenTable::new(vec![(3, 100)]).is_none());
        assert!(TokenTable::new(vec![(100, 101), (100, 101)]).is_none());
        // Each is twice as long as the one before: what it would hold is no piece, and is never made.
        let doubled = (0..60).map(|at| if at == 0 { (100, 100) } else { (259 + at, 259 + at) });
        assert!(TokenTable::new(doubled.collect()).is_none());
        assert!(TokenTable::new(chain(&"a".repeat(64))).is_some());
    }

    #[test]
    fn what_is_no_number_is_seen() {
        let table = TokenTable::new(Vec::new()).unwrap();
        let text = table.text([Some(4 + 65), Some(0), Some(3), Some(260), None, Some(4 + 0xC3)].into_iter());
        assert_eq!(text, "A\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_row_is_cut_or_filled() {
        let table = TokenTable::new(Vec::new()).unwrap();
        let mut bytes = Vec::new();
        assert_eq!(table.push("abc", 2, &mut bytes).units, 3);
        assert_eq!(table.push("a", 2, &mut bytes).units, 1);
        assert_eq!(bytes, [101, 102, 101, 0].map(i32::to_le_bytes).concat());
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text: String, merged in "[a-z ]{2,9}") {
            let table = TokenTable::new(chain(&merged)).unwrap();
            let numbers = table.numbers(&text);
            prop_assert_eq!(table.text(numbers.iter().map(|&number| Some(number as usize))), text.clone());
            prop_assert_eq!(pieces(&text).concat(), text);
        }
    }
}
