//! Learning byte-pair merges, by the crate `tokenizers`.
//!
//! The crate works on characters, so each byte goes in as the character of its value. It merges the most frequent pair
//! each time, of equally frequent ones the one with the smaller numbers; so equal texts give equal tables, whatever the
//! number of threads and the order of its hash maps.

use crate::token_table::{LEAST_TOKENS, TokenTable, first_piece, for_each_piece};
use crate::vocabulary::MARKS;
use std::collections::HashMap;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::tokenizer::Trainer;

/// How often a pair must be there to become a token.
const LEAST_COUNT: u64 = 2;
/// How many bytes of a text are counted at once, roughly.
const CHUNK: usize = 1 << 16;

impl TokenTable {
    /// The table that `texts` teach, with at most `size` numbers; `None` when there is no room for the bytes, or no
    /// text.
    pub fn learn<'a>(texts: impl Iterator<Item = &'a str> + Send, size: usize) -> Option<Self> {
        let size = size.checked_sub(MARKS.len()).filter(|_| size >= LEAST_TOKENS)?;
        let alphabet = (0..=u8::MAX).map(char::from).collect();
        let builder = BpeTrainerBuilder::new().show_progress(false).min_frequency(LEAST_COUNT);
        let mut trainer = builder.vocab_size(size).initial_alphabet(alphabet).build();
        let mut texts = texts.flat_map(chunks).peekable();
        texts.peek()?;
        trainer.feed(texts, |text| Ok(pieces(text))).ok()?;
        let mut model = BPE::default();
        trainer.train(&mut model).ok()?;
        Self::new(merges_of(&model)?)
    }
}

/// A text in parts that end where a piece does, so that the pieces of a long one are not all in memory.
fn chunks(text: &str) -> impl Iterator<Item = &str> + Send {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut length = 0;
        while length < rest.len().min(CHUNK) {
            length += first_piece(&rest[length..]);
        }
        let (chunk, behind) = rest.split_at(length);
        rest = behind;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// The pieces of a text, their bytes as characters.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    for_each_piece(text, |piece| pieces.push(piece.bytes().map(char::from).collect()));
    pieces
}

/// The merges of a model by the numbers of their tokens.
fn merges_of(model: &BPE) -> Option<Vec<(u32, u32)>> {
    // The model's JSON is the one form in which it gives them in their order.
    let saved = serde_json::to_value(model).ok()?;
    let mut numbers: HashMap<String, u32> = HashMap::new();
    for (number, byte) in (MARKS.len() as u32..).zip(0..=u8::MAX) {
        numbers.insert(char::from(byte).to_string(), number);
    }
    let mut merges = Vec::new();
    for merge in saved.get("merges")?.as_array()? {
        let (left, right) = (merge.get(0)?.as_str()?, merge.get(1)?.as_str()?);
        merges.push((*numbers.get(left)?, *numbers.get(right)?));
        let next = u32::try_from(MARKS.len() + numbers.len()).ok()?;
        numbers.entry(format!("{left}{right}")).or_insert(next);
    }
    Some(merges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokenizers::Model;

    const TEXT: &str = "the cat sat on the mat; the cat's hat, the bat, and that was that.\n";

    fn learn(text: &str, size: usize) -> TokenTable {
        TokenTable::learn([text].into_iter(), size).unwrap()
    }

    #[test]
    fn what_is_frequent_becomes_one_token() {
        let table = learn(TEXT, 280);
        assert!(table.size() <= 280);
        let names = table.names();
        assert!(names.contains(&" the".to_owned()), "{names:?}");
        let (tokens, text) = (table.numbers(TEXT), TEXT.len());
        assert!(tokens.len() < text * 2 / 3, "{} of {text}", tokens.len());
        assert_eq!(table.text(tokens.iter().map(|&number| Some(number as usize))), TEXT);
    }

    #[test]
    fn equal_texts_teach_equal_tables() {
        let other = "ein Haus, zwei Häuser, drei Häuser — und noch ein Haus\n".repeat(3);
        let texts = [TEXT, &other];
        let first = TokenTable::learn(texts.into_iter(), 400).unwrap();
        for _ in 0..5 {
            assert_eq!(TokenTable::learn(texts.into_iter(), 400).unwrap(), first);
        }
        // Nor does the order of texts matter.
        assert_eq!(TokenTable::learn(texts.into_iter().rev(), 400).unwrap(), first);
    }

    #[test]
    fn a_table_has_room_for_all_bytes() {
        assert!(TokenTable::learn([TEXT].into_iter(), 259).is_none());
        assert!(TokenTable::learn(std::iter::empty(), 300).is_none());
        assert_eq!(learn(TEXT, 260).size(), 260);
        // Nothing is there twice, so nothing is learned.
        assert_eq!(learn("abc", 300).size(), 260);
    }

    proptest! {
        /// The crate, given the same merges, takes texts apart in the same way.
        #[test]
        fn tokens_are_those_of_the_crate(words in proptest::collection::vec("[a-c' é\n]{1,12}", 1..20), size in 260usize..330) {
            let text = words.concat();
            let table = learn(&text.repeat(2), size);
            let names: Vec<String> = merged_names(&table);
            let vocabulary = names.iter().zip(4u32..).map(|(name, number)| (name.clone(), number)).collect();
            let pairs = table.merges().iter().map(|&(a, b)| (names[a as usize - 4].clone(), names[b as usize - 4].clone()));
            let crates = BPE::new(vocabulary, pairs.collect());
            let expected: Vec<u32> = pieces(&text).iter().flat_map(|piece| crates.tokenize(piece).unwrap()).map(|token| token.id).collect();
            prop_assert_eq!(table.numbers(&text), expected);
        }
    }

    /// The tokens, their bytes as characters.
    fn merged_names(table: &TokenTable) -> Vec<String> {
        let mut names: Vec<String> = (0..=u8::MAX).map(|byte| char::from(byte).to_string()).collect();
        for &(left, right) in table.merges() {
            let merged = format!("{}{}", names[left as usize - 4], names[right as usize - 4]);
            if !names.contains(&merged) {
                names.push(merged);
            }
        }
        names
    }
}
