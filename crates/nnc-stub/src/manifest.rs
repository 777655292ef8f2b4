//! What a built executable knows about itself: names, shapes, and where its memory is.
//!
//! The driver writes a [`Manifest`] into the executable, and the stub reads it at start. `nnc run`
//! makes the same one in memory, so that both print the same things.
//!
//! A program is compiled for [`Manifest::batch`] rows at once. Batched ports have one such leading
//! dim more than their [`Port::row`] says; the others are whole arrays, the same for all rows.

use crate::present::Names;
use nnc_data::{Alphabet, DType, FieldType, Vocabulary};
use std::fmt;

/// A description of a compiled program. All sizes are in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// The name of the model.
    pub program: String,
    /// The `.nn` file it was compiled from.
    pub source: String,
    /// The version of `nnc` that compiled it.
    pub version: String,
    /// A hash of the weights, in hexadecimal.
    pub weights_hash: String,
    /// The code, once for each instruction set: the first that the processor has is run.
    pub variants: Vec<Variant>,
    /// How many rows one call computes.
    pub batch: usize,
    /// What goes in.
    pub inputs: Vec<Port>,
    /// What comes out.
    pub answers: Vec<Port>,
    /// The answers of which a row depends on other rows, and what makes it so: they are those of all rows together only
    /// where one call computes them all.
    pub mixed: Vec<String>,
    /// What was set when the program was made, as `length=300`.
    pub fixed: Vec<String>,
    /// Names of the classes that a classifier's answers are about, or the characters or tokens of a text; may be empty.
    pub classes: Vec<String>,
    /// The tables that number the words or tokens of texts.
    pub vocabularies: Vec<Vocabulary>,
    /// The program's external buffers, in order; those of every variant.
    pub externals: Vec<External>,
}

/// The code for an instruction set, and the memory that it needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Variant {
    /// The instruction set, such as `avx512`; empty for any processor.
    pub isa: String,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// Alignment of the arena.
    pub arena_align: usize,
    /// Scratch memory of each thread.
    pub scratch_bytes: usize,
    /// Where the entry begins in the code.
    pub entry: usize,
}

/// A named array that goes in or comes out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Its name in the source.
    pub name: String,
    /// The type of one row; of the whole array if it is not batched.
    pub row: FieldType,
    /// Whether the array has a leading dim for the rows.
    pub batched: bool,
    /// How to read its numbers; only of inputs [`Reading::Characters`], [`Reading::Sound`] and [`Reading::Option`],
    /// only of answers [`Reading::Logits`] and [`Reading::Probabilities`].
    pub reading: Reading,
    /// Of an option, the bytes it has when it is not given; empty if it must be.
    pub default: Vec<u8>,
    /// Of an input of whole numbers that the program picks by: all are below this, which is not 0.
    pub bound: Option<usize>,
}

impl Port {
    /// Bytes of one row, or of the whole if it is not batched.
    pub fn row_bytes(&self) -> usize {
        self.row.dims.iter().product::<usize>() * self.row.dtype.size()
    }

    /// Bytes of the array for `rows` rows.
    pub fn bytes(&self, rows: usize) -> usize {
        if self.batched { self.row_bytes() * rows } else { self.row_bytes() }
    }

    /// The dims of the array for `rows` rows.
    pub fn dims(&self, rows: usize) -> Vec<usize> {
        let leading = self.batched.then_some(rows);
        leading.into_iter().chain(self.row.dims.iter().copied()).collect()
    }
}

/// Prints as in the language, with `N` for the rows: `image: f32[N, 1, 28, 28]`.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.row.dtype)?;
        let leading = self.batched.then(|| "N".to_owned());
        let dims = leading.into_iter().chain(self.row.dims.iter().map(usize::to_string));
        let dims = dims.collect::<Vec<_>>().join(", ");
        if dims.is_empty() { Ok(()) } else { write!(f, "[{dims}]") }
    }
}

/// What the numbers of an answer mean to a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// Just numbers.
    Values,
    /// Scores of classes along the last dim; their softmax is printed.
    Logits,
    /// Probabilities of classes along the last dim.
    Probabilities,
    /// Of an input: windows of a text, whose characters or tokens are numbered by [`Manifest::alphabet`].
    Characters,
    /// Texts along the last dim, one in each vector, that are numbered so.
    Text,
    /// Of an input: a scalar that `--set NAME=VALUE` gives.
    Option,
    /// Texts along the last dim, their words or tokens numbered by this one of [`Manifest::vocabularies`].
    Words(usize),
    /// Of an input: a sound with so many samples in a second.
    Sound(u32),
}

/// An external buffer of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct External {
    /// Its size.
    pub bytes: usize,
    /// What it holds.
    pub role: Role,
}

/// What an external buffer holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The input of this index.
    Input(usize),
    /// The answer of this index.
    Answer(usize),
    /// A parameter or constant that begins this many bytes into the weights. The code only reads
    /// it; the offset is a multiple of 64.
    Weights(usize),
    /// Memory that is zero at the start of each run.
    Zero,
    /// An `i64`: the seed of what is drawn.
    Seed,
    /// An `i64`: how many calls of the program came before, so that each draws random numbers of its own.
    Call,
    /// As [`Role::Zero`]; after the run the first four bytes are an `i32` that is not 0 if an index
    /// was out of range.
    Status,
}

impl Manifest {
    /// Checks that all parts fit together, and that the weights lie within `weights_bytes`: so
    /// that a manifest that was read can be used without further checks.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn check(&self, weights_bytes: usize) -> Result<(), String> {
        if self.batch == 0 || self.variants.iter().any(|variant| !variant.arena_align.is_power_of_two()) {
            return Err("it has a batch or an alignment of zero".into());
        }
        if self.variants.is_empty() {
            return Err("it has no code".into());
        }
        for port in self.inputs.iter().chain(&self.answers) {
            check_port(port, self.batch, self.vocabularies.len())?;
        }
        for (index, external) in self.externals.iter().enumerate() {
            let expected = match external.role {
                Role::Input(input) => self.inputs.get(input).map(|port| port.bytes(self.batch)),
                Role::Answer(answer) => self.answers.get(answer).map(|port| port.bytes(self.batch)),
                Role::Weights(offset) => weights_bytes.checked_sub(offset).map(|room| external.bytes.min(room)),
                Role::Zero => Some(external.bytes),
                Role::Call | Role::Seed => Some(size_of::<i64>()),
                Role::Status => Some(external.bytes.max(size_of::<i32>())),
            };
            if expected != Some(external.bytes) {
                return Err(format!("buffer {index} does not fit what it holds"));
            }
        }
        self.check_all_bound()
    }

    /// Each port has exactly one buffer.
    fn check_all_bound(&self) -> Result<(), String> {
        let count = |role| self.externals.iter().filter(|external| external.role == role).count();
        let inputs = (0..self.inputs.len()).map(|index| (Role::Input(index), &self.inputs[index]));
        let answers = (0..self.answers.len()).map(|index| (Role::Answer(index), &self.answers[index]));
        match inputs.chain(answers).find(|(role, _)| count(*role) != 1) {
            Some((_, port)) => Err(format!("`{}` has no buffer of its own", port.name)),
            None => Ok(()),
        }
    }

    /// The inputs that are files or texts.
    pub fn files(&self) -> impl Iterator<Item = &Port> {
        self.inputs.iter().filter(|port| port.reading != Reading::Option)
    }

    /// The scalars that `--set` gives.
    pub fn options(&self) -> impl Iterator<Item = &Port> {
        self.inputs.iter().filter(|port| port.reading == Reading::Option)
    }

    /// What the numbers of [`Reading::Text`] and [`Reading::Characters`] stand for.
    pub fn alphabet(&self) -> Alphabet<'_> {
        match self.vocabularies.first().and_then(Vocabulary::tokens) {
            Some(tokens) => Alphabet::Tokens(tokens),
            None => Alphabet::Characters(&self.classes),
        }
    }

    /// What answers are printed with.
    pub fn names(&self) -> Names<'_> {
        Names { classes: &self.classes, alphabet: self.alphabet(), vocabularies: &self.vocabularies }
    }

    /// Whether random numbers are drawn.
    pub fn draws(&self) -> bool {
        self.externals.iter().any(|external| external.role == Role::Seed)
    }

    /// Whether any answer is read as classes.
    pub fn is_classifier(&self) -> bool {
        self.answers.iter().any(|port| matches!(port.reading, Reading::Logits | Reading::Probabilities))
    }
}

fn check_port(port: &Port, batch: usize, vocabularies: usize) -> Result<(), String> {
    let fits = port.row.row_bytes().and_then(|bytes| bytes.checked_mul(batch));
    if fits.is_none() {
        return Err(format!("`{port}` has no size, or too large a one"));
    }
    let is_float = matches!(port.row.dtype, DType::F32 | DType::F64);
    match port.reading {
        Reading::Logits | Reading::Probabilities if !is_float => Err(format!("`{port}` cannot be read as classes")),
        Reading::Characters | Reading::Text if is_float => Err(format!("`{port}` cannot be read as characters")),
        Reading::Option if !port.row.dims.is_empty() || ![0, port.row.dtype.size()].contains(&port.default.len()) => {
            Err(format!("`{port}` is no scalar"))
        }
        Reading::Words(table) if port.row.dtype != DType::I32 || table >= vocabularies => {
            Err(format!("`{port}` cannot be read as words"))
        }
        Reading::Sound(_) if port.row.dtype != DType::F32 => Err(format!("`{port}` cannot be read as a sound")),
        Reading::Values | Reading::Logits | Reading::Probabilities => Ok(()),
        Reading::Characters | Reading::Text | Reading::Option => Ok(()),
        Reading::Words(_) | Reading::Sound(_) => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use nnc_data::{TokenTable, WordTable};

    pub(crate) fn sample() -> Manifest {
        let port = |name: &str, dims: &[usize], reading| Port {
            name: name.into(),
            row: FieldType::new(DType::F32, dims),
            batched: true,
            reading,
            default: Vec::new(),
            bound: None,
        };
        Manifest {
            program: "Digits".into(),
            source: "digits.nn".into(),
            version: "0.1.0".into(),
            weights_hash: "00ff".into(),
            variants: vec![
                Variant { isa: "avx512".into(), arena_bytes: 900, arena_align: 64, scratch_bytes: 8, entry: 4096 },
                Variant { isa: "avx2".into(), arena_bytes: 1000, arena_align: 64, scratch_bytes: 0, entry: 16 },
            ],
            batch: 2,
            inputs: vec![port("image", &[1, 8, 8], Reading::Values)],
            answers: vec![port("digit", &[3], Reading::Logits)],
            mixed: vec!["`y`".into()],
            fixed: vec!["count=3".into()],
            classes: vec!["zero".into(), "one".into(), "two".into()],
            vocabularies: vec![
                Vocabulary::Words(WordTable::learn(["a b a"].into_iter(), 9, true).unwrap()),
                Vocabulary::Tokens(TokenTable::new(vec![(101, 102), (260, 102)]).unwrap()),
            ],
            externals: vec![
                External { bytes: 512, role: Role::Input(0) },
                External { bytes: 100, role: Role::Weights(64) },
                External { bytes: 24, role: Role::Answer(0) },
                External { bytes: 8, role: Role::Seed },
                External { bytes: 16, role: Role::Status },
            ],
        }
    }

    #[test]
    fn ports_print_as_in_the_language() {
        let manifest = sample();
        assert_eq!(manifest.inputs[0].to_string(), "image: f32[N, 1, 8, 8]");
        let whole = Port { batched: false, ..manifest.inputs[0].clone() };
        assert_eq!(whole.to_string(), "image: f32[1, 8, 8]");
        let scalar = Port { row: FieldType::scalar(DType::I64), ..whole };
        assert_eq!(scalar.to_string(), "image: i64");
    }

    #[test]
    fn checks_that_everything_fits() {
        assert_eq!(sample().check(164), Ok(()));
        assert!(sample().check(163).is_err());
        let broken = |change: fn(&mut Manifest)| {
            let mut manifest = sample();
            change(&mut manifest);
            manifest.check(164).unwrap_err()
        };
        broken(|manifest| manifest.batch = 0);
        broken(|manifest| manifest.batch = 3);
        broken(|manifest| manifest.batch = usize::MAX);
        broken(|manifest| manifest.variants[1].arena_align = 3);
        assert_eq!(broken(|manifest| manifest.variants.clear()), "it has no code");
        broken(|manifest| manifest.externals[0].role = Role::Input(1));
        broken(|manifest| manifest.externals[3].role = Role::Input(0));
        broken(|manifest| manifest.externals[2].bytes = 25);
        broken(|manifest| manifest.externals[1].role = Role::Weights(usize::MAX));
        broken(|manifest| manifest.externals[4].bytes = 3);
        broken(|manifest| manifest.inputs.clear());
        broken(|manifest| manifest.inputs[0].row.dims[0] = 0);
        broken(|manifest| manifest.answers[0].row.dtype = DType::I32);
        broken(|manifest| manifest.inputs[0].reading = Reading::Option);
        broken(|manifest| manifest.inputs[0].reading = Reading::Text);
        broken(|manifest| manifest.inputs[0].reading = Reading::Words(0));
        broken(|manifest| {
            manifest.inputs[0].row.dtype = DType::I32;
            manifest.inputs[0].reading = Reading::Words(2);
        });
        assert_eq!(broken(|manifest| manifest.externals.truncate(2)), "`digit` has no buffer of its own");
    }
}
