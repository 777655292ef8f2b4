//! Words and their numbers.
//!
//! A text is split at white space. Punctuation at either end of what lies between is a word of its own (equal marks in
//! a row are one), but an apostrophe before a letter stays: `"it's", he said` is `"`, `it's`, `"`, `,`, `he`, `said`,
//! and `'ve` is one word. Nothing is normalised but capital letters, on request.
//!
//! The first numbers are marks: padding, a word outside of the table, the beginning and the end of a text. Then come
//! the most frequent words, equally frequent ones in the order of their characters. No word looks like a mark, as `<`
//! is split off.

use crate::vocabulary::{MARKS, PADDING, Pushed, UNKNOWN, push_number};
use std::collections::BTreeMap;

/// A table of words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WordTable {
    /// By their numbers, the marks first.
    words: Vec<String>,
    /// Their numbers in the order of the words.
    order: Vec<u32>,
    /// Whether words are read in small letters.
    lowercase: bool,
}

impl WordTable {
    /// The table of `words`, which begin with [`MARKS`]; `None` for anything else, and for words that are there twice.
    pub fn new(words: Vec<String>, lowercase: bool) -> Option<Self> {
        let marked = words.len() > MARKS.len() && words.iter().zip(MARKS).all(|(word, mark)| word == mark);
        let mut order: Vec<u32> = (0..u32::try_from(words.len()).ok()?).collect();
        order.sort_unstable_by(|&a, &b| words[a as usize].cmp(&words[b as usize]));
        let twice = order.windows(2).any(|pair| words[pair[0] as usize] == words[pair[1] as usize]);
        (marked && !twice).then_some(Self { words, order, lowercase })
    }

    /// The table of the most frequent words of `texts`, with at most `size` numbers; `None` when there is no word, or
    /// no room for one.
    pub fn learn<'a>(texts: impl Iterator<Item = &'a str>, size: usize, lowercase: bool) -> Option<Self> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for text in texts {
            for_each_word(text, lowercase, |word| match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(counts.insert(word.to_owned(), 1)),
            });
        }
        let mut words: Vec<(String, u64)> = counts.into_iter().collect();
        // The sort is stable, so equally frequent words keep the order of the map.
        words.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        words.truncate(size.saturating_sub(MARKS.len()));
        let marks = MARKS.iter().map(|&mark| mark.to_owned());
        Self::new(marks.chain(words.into_iter().map(|(word, _)| word)).collect(), lowercase)
    }

    /// The words by their numbers, the marks first.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether words are read in small letters.
    pub fn lowercase(&self) -> bool {
        self.lowercase
    }

    /// The text of words by their numbers, with a space between them. A word outside of the table is `<unk>`, the other
    /// marks give nothing, and what is no number of the table gives U+FFFD.
    pub fn text(&self, numbers: impl Iterator<Item = Option<usize>>) -> String {
        let is_word = |number: &Option<usize>| number.is_none_or(|at| at == UNKNOWN || at >= MARKS.len());
        let word = |number: Option<usize>| number.and_then(|at| self.words.get(at)).map_or("\u{fffd}", String::as_str);
        numbers.filter(is_word).map(word).collect::<Vec<_>>().join(" ")
    }

    /// The number of a word.
    fn number(&self, word: &str) -> Option<usize> {
        let found = self.order.binary_search_by(|&number| self.words[number as usize].as_str().cmp(word));
        found.ok().map(|place| self.order[place] as usize)
    }

    /// Appends the numbers of the first `length` words of `text` as i32, and padding behind them.
    pub(crate) fn push(&self, text: &str, length: usize, bytes: &mut Vec<u8>) -> Pushed {
        let mut pushed = Pushed::default();
        for_each_word(text, self.lowercase, |word| {
            if pushed.units < length {
                let number = self.number(word).unwrap_or(UNKNOWN);
                pushed.unknown += usize::from(number == UNKNOWN);
                push_number(number, bytes);
            }
            pushed.units += 1;
        });
        (pushed.units..length).for_each(|_| push_number(PADDING, bytes));
        pushed
    }
}

/// Hands each word of a text on, in order.
fn for_each_word(text: &str, lowercase: bool, mut word: impl FnMut(&str)) {
    let mut small = |found: &str| if lowercase { word(&found.to_lowercase()) } else { word(found) };
    for mut rest in text.split_whitespace() {
        while let Some(length) = leading_mark(rest) {
            small(&rest[..length]);
            rest = &rest[length..];
        }
        let end = rest.trim_end_matches(is_punctuation).len();
        if end > 0 {
            small(&rest[..end]);
        }
        let mut tail = &rest[end..];
        while let Some(length) = run(tail) {
            small(&tail[..length]);
            tail = &tail[length..];
        }
    }
}

/// The length of the punctuation that `text` begins with, if it is a word of its own.
fn leading_mark(text: &str) -> Option<usize> {
    let mut characters = text.chars();
    let first = characters.next().filter(|&first| is_punctuation(first))?;
    let before_letter = matches!(first, '\'' | '\u{2019}') && characters.next().is_some_and(char::is_alphanumeric);
    if before_letter { None } else { run(text) }
}

/// The length of the equal characters that `text` begins with.
fn run(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    Some(text.len() - text.trim_start_matches(first).len())
}

/// Whether a character is a mark of punctuation, or a symbol (the blocks of Unicode that hold them).
fn is_punctuation(character: char) -> bool {
    character.is_ascii_punctuation()
        || matches!(character, '\u{A1}'..='\u{BF}' | '\u{2010}'..='\u{205E}' | '\u{20A0}'..='\u{20CF}' | '\u{2190}'..='\u{2BFF}'
            | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3020}' | '\u{FF01}'..='\u{FF0F}' | '\u{FF1A}'..='\u{FF20}')
            && !character.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        for_each_word(text, false, |word| found.push(word.to_owned()));
        found
    }

    #[test]
    fn punctuation_stands_by_itself() {
        assert_eq!(words("\"it's\", he said..."), ["\"", "it's", "\"", ",", "he", "said", "..."]);
        assert_eq!(
            words("i 've n't (U.S.) 3.5% --well"),
            ["i", "'ve", "n't", "(", "U.S", ".)", "3.5", "%", "--", "well"]
                .map(|word| word.to_owned())
                .into_iter()
                .flat_map(|word| if word == ".)" { vec![".".to_owned(), ")".to_owned()] } else { vec![word] })
                .collect::<Vec<_>>()
        );
        assert_eq!(words(" \t\n"), [""; 0]);
        assert_eq!(words("<unk> ' 'a"), ["<", "unk", ">", "'", "'a"]);
        assert_eq!(words("Straße »gut«"), ["Straße", "»", "gut", "«"]);
    }

    #[test]
    fn the_most_frequent_words_come_first() {
        let table = WordTable::learn(["b a B", "a c c a"].into_iter(), 7, true).unwrap();
        assert_eq!(table.words()[4..], ["a", "b", "c"]);
        let short = WordTable::learn(["b a b"].into_iter(), 5, false).unwrap();
        assert_eq!(short.words()[4..], ["b"]);
        assert_eq!(WordTable::learn([" "].into_iter(), 9, false), None);
        assert_eq!(WordTable::learn(["a"].into_iter(), 4, false), None);
    }

    #[test]
    fn a_row_is_cut_or_filled() {
        let table = WordTable::learn(["x y x"].into_iter(), 9, false).unwrap();
        let row = |text: &str, length| {
            let mut bytes = Vec::new();
            let pushed = table.push(text, length, &mut bytes);
            let numbers: Vec<i32> = bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
            (numbers, pushed.units, pushed.unknown)
        };
        assert_eq!(row("y x z", 5), (vec![5, 4, 1, 0, 0], 3, 1));
        assert_eq!(row("y x z", 2), (vec![5, 4], 3, 0));
    }

    #[test]
    fn tables_that_are_none_are_refused() {
        let table = |words: &[&str]| WordTable::new(words.iter().map(|&word| word.to_owned()).collect(), false);
        assert!(table(&["<pad>", "<unk>", "<start>", "<end>", "a"]).is_some());
        assert!(table(&["<pad>", "<unk>", "<start>", "<end>"]).is_none());
        assert!(table(&["<pad>", "<unk>", "<start>", "a", "<end>"]).is_none());
        assert!(table(&["<pad>", "<unk>", "<start>", "<end>", "a", "a"]).is_none());
    }

    proptest! {
        #[test]
        fn every_character_but_white_space_is_in_a_word(text: String) {
            let plain: String = text.split_whitespace().collect();
            prop_assert_eq!(words(&text).concat(), plain);
        }
    }
}
