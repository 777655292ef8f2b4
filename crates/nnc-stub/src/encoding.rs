//! The manifest as bytes: numbers as LEB128 (DWARF 5, section 7.6), text and lists with their
//! length before them, the fields in order of declaration.
//!
//! Decoding trusts nothing: it fails on any bytes that encoding does not make.

use crate::manifest::{External, Manifest, Port, Reading, Role, Variant};
use nnc_data::{DType, FieldType, TokenTable, Vocabulary, WordTable};

impl Manifest {
    /// The manifest as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Writer(Vec::new());
        for text in [&self.program, &self.source, &self.version, &self.weights_hash] {
            to.text(text);
        }
        to.list(&self.variants, Writer::variant);
        to.number(self.batch);
        to.list(&self.inputs, Writer::port);
        to.list(&self.answers, Writer::port);
        to.list(&self.mixed, |to, answer| to.text(answer));
        to.list(&self.fixed, |to, setting| to.text(setting));
        to.list(&self.classes, |to, class| to.text(class));
        to.list(&self.vocabularies, Writer::vocabulary);
        to.list(&self.externals, Writer::external);
        to.0
    }

    /// Reads what [`Self::encode`] wrote; `None` if the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let manifest = Self {
            program: from.text()?,
            source: from.text()?,
            version: from.text()?,
            weights_hash: from.text()?,
            variants: from.list(Reader::variant)?,
            batch: from.number()?,
            inputs: from.list(Reader::port)?,
            answers: from.list(Reader::port)?,
            mixed: from.list(Reader::text)?,
            fixed: from.list(Reader::text)?,
            classes: from.list(Reader::text)?,
            vocabularies: from.list(Reader::vocabulary)?,
            externals: from.list(Reader::external)?,
        };
        from.0.is_empty().then_some(manifest)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn list<T>(&mut self, items: &[T], item: impl Fn(&mut Self, &T)) {
        self.number(items.len());
        items.iter().for_each(|each| item(self, each));
    }

    fn variant(&mut self, variant: &Variant) {
        self.text(&variant.isa);
        for number in [variant.arena_bytes, variant.arena_align, variant.scratch_bytes, variant.entry] {
            self.number(number);
        }
    }

    fn port(&mut self, port: &Port) {
        self.text(&port.name);
        self.text(port.row.dtype.name());
        self.list(&port.row.dims, |to, dim| to.number(*dim));
        self.number(usize::from(port.batched));
        let (kind, value) = match port.reading {
            Reading::Values => (0, 0),
            Reading::Logits => (1, 0),
            Reading::Probabilities => (2, 0),
            Reading::Characters => (3, 0),
            Reading::Words(table) => (4, table),
            Reading::Sound(rate) => (5, rate as usize),
            Reading::Text => (6, 0),
            Reading::Option => (7, 0),
        };
        self.number(kind);
        self.number(value);
        self.list(&port.default, |to, byte| to.number(usize::from(*byte)));
        self.number(port.bound.unwrap_or(0));
    }

    fn vocabulary(&mut self, vocabulary: &Vocabulary) {
        match vocabulary {
            Vocabulary::Words(table) => {
                self.number(usize::from(table.lowercase()));
                self.list(table.words(), |to, word| to.text(word));
            }
            Vocabulary::Tokens(table) => {
                self.number(2);
                self.list(table.merges(), |to, &(left, right)| {
                    to.number(left as usize);
                    to.number(right as usize);
                });
            }
        }
    }

    fn external(&mut self, external: &External) {
        self.number(external.bytes);
        let (kind, value) = match external.role {
            Role::Input(index) => (0, index),
            Role::Answer(index) => (1, index),
            Role::Weights(offset) => (2, offset),
            Role::Zero => (3, 0),
            Role::Call => (5, 0),
            Role::Seed => (6, 0),
            Role::Status => (4, 0),
        };
        self.number(kind);
        self.number(value);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<usize> {
        let mut value = 0usize;
        for shift in (0..usize::BITS).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = usize::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    /// Each item takes a byte or more, so a false length ends at the end of the bytes.
    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = self.number()?;
        (0..length).map(|_| item(self)).collect()
    }

    fn variant(&mut self) -> Option<Variant> {
        Some(Variant {
            isa: self.text()?,
            arena_bytes: self.number()?,
            arena_align: self.number()?,
            scratch_bytes: self.number()?,
            entry: self.number()?,
        })
    }

    fn port(&mut self) -> Option<Port> {
        let name = self.text()?;
        let dtype: DType = self.text()?.parse().ok()?;
        let row = FieldType::new(dtype, self.list(Self::number)?);
        let batched = self.truth()?;
        let reading = match (self.number()?, self.number()?) {
            (0, 0) => Reading::Values,
            (1, 0) => Reading::Logits,
            (2, 0) => Reading::Probabilities,
            (3, 0) => Reading::Characters,
            (4, table) => Reading::Words(table),
            (5, rate) => Reading::Sound(u32::try_from(rate).ok()?),
            (6, 0) => Reading::Text,
            (7, 0) => Reading::Option,
            _ => return None,
        };
        let default = self.list(|from| u8::try_from(from.number()?).ok())?;
        let bound = Some(self.number()?).filter(|&bound| bound > 0);
        Some(Port { name, row, batched, reading, default, bound })
    }

    fn truth(&mut self) -> Option<bool> {
        match self.number()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn vocabulary(&mut self) -> Option<Vocabulary> {
        let lowercase = match self.number()? {
            0 => false,
            1 => true,
            2 => return TokenTable::new(self.list(Self::merge)?).map(Vocabulary::Tokens),
            _ => return None,
        };
        WordTable::new(self.list(Self::text)?, lowercase).map(Vocabulary::Words)
    }

    fn merge(&mut self) -> Option<(u32, u32)> {
        Some((u32::try_from(self.number()?).ok()?, u32::try_from(self.number()?).ok()?))
    }

    fn external(&mut self) -> Option<External> {
        let bytes = self.number()?;
        let role = match (self.number()?, self.number()?) {
            (0, index) => Role::Input(index),
            (1, index) => Role::Answer(index),
            (2, offset) => Role::Weights(offset),
            (3, 0) => Role::Zero,
            (5, 0) => Role::Call,
            (6, 0) => Role::Seed,
            (4, 0) => Role::Status,
            _ => return None,
        };
        Some(External { bytes, role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::sample;
    use proptest::prelude::*;

    #[test]
    fn round_trips() {
        let mut manifest = sample();
        manifest.variants[0].arena_bytes = usize::MAX;
        manifest.inputs[0].bound = Some(300);
        assert_eq!(Manifest::decode(&manifest.encode()), Some(manifest));
    }

    #[test]
    fn cut_or_longer_bytes_are_refused() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            assert_eq!(Manifest::decode(&bytes[..end]), None);
        }
        assert_eq!(Manifest::decode(&[&bytes[..], &[0]].concat()), None);
    }

    proptest! {
        #[test]
        fn numbers_round_trip(value: usize) {
            let mut to = Writer(Vec::new());
            to.number(value);
            prop_assert_eq!(Reader(&to.0).number(), Some(value));
        }

        #[test]
        fn changed_bytes_never_panic(place in 0usize..200, byte: u8) {
            let mut bytes = sample().encode();
            let place = place % bytes.len();
            bytes[place] = byte;
            let _ = Manifest::decode(&bytes).map(|manifest| manifest.check(164));
        }
    }
}
