//! Runs a compiled program over any number of rows.
//!
//! The program computes [`Manifest::batch`] rows per call. More rows are looped; the rows that
//! the last call has too many are zeros, and what it computes for them is dropped. `nnc run` and
//! built executables share this, so that both give the same bits.

use crate::manifest::{Manifest, Port, Role, Variant};
use crate::outside::Outside;
use crate::present::Answer;
use nnc_data::Column;
use nnc_runtime::{AlignedBuffer, ExternalBuffer, Layout, Program, ProgramError};

impl Manifest {
    /// The memory that one of the variants was compiled for.
    pub fn layout(&self, variant: &Variant) -> Layout {
        Layout {
            arena_bytes: variant.arena_bytes,
            arena_align: variant.arena_align,
            scratch_bytes: variant.scratch_bytes,
            externals: self.externals.iter().map(|external| external.bytes).collect(),
        }
    }

    /// How many rows `inputs` have, which are in the order of the manifest and fit it.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn rows(&self, inputs: &[Column]) -> Result<usize, EngineError> {
        let ports = &self.inputs;
        if inputs.len() != ports.len() {
            return Err(EngineError::Inputs { expected: ports.len(), found: inputs.len() });
        }
        let mut first: Option<(&Port, usize)> = None;
        for (port, column) in ports.iter().zip(inputs) {
            check_type(port, column)?;
            match first {
                _ if !port.batched => {}
                None => first = Some((port, column.rows)),
                Some((first, first_rows)) if first_rows != column.rows => {
                    let (first, name, rows) = (first.name.clone(), port.name.clone(), column.rows);
                    return Err(EngineError::Rows { first, first_rows, name, rows });
                }
                Some(_) => {}
            }
        }
        let batch = self.batch;
        let Some((_, rows)) = first else { return Ok(batch) };
        if let Some(port) = self.answers.iter().find(|port| !port.batched).filter(|_| rows != batch) {
            return Err(EngineError::WholeBatch { answer: port.name.clone(), batch, rows });
        }
        // Rows that are filled up would be among those that a row depends on.
        match self.mixed.first().filter(|_| !rows.is_multiple_of(batch)) {
            Some(answer) => Err(EngineError::Mixed { answer: answer.clone(), batch, rows }),
            None => Ok(rows),
        }
    }

    /// What is to be said of an answer of which a row depends on other rows, when several calls compute these `rows`.
    pub fn remark_on(&self, rows: usize) -> Option<String> {
        let answer = self.mixed.first().filter(|_| rows > self.batch)?;
        let batch = self.batch;
        let are = if batch == 1 { "is" } else { "are" };
        Some(format!(
            "a row of {answer} depends on other rows, and of {rows} rows {batch} {are} computed at a time: compile it with \
             `--bind N={rows}` for all together"
        ))
    }

    /// The externals that the program only reads, for [`nnc_runtime::Code::with_read_only`].
    pub fn read_only(&self) -> Vec<usize> {
        let of_weights = |role: &Role| matches!(role, Role::Weights(_));
        let indexed = self.externals.iter().enumerate();
        indexed.filter(|(_, external)| of_weights(&external.role)).map(|(index, _)| index).collect()
    }
}

/// Why a program was not run.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EngineError {
    /// The number of arrays differs from the number of inputs.
    #[error("the program has {expected} inputs, not {found}")]
    Inputs {
        /// How many there are.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// An array of another type than its input.
    #[error("`{name}` is {expected}, not {found}")]
    Type {
        /// The input.
        name: String,
        /// The type of one row.
        expected: String,
        /// The type of one row of what was given.
        found: String,
    },
    /// Several rows where the input has no rows.
    #[error("`{name}` is one array, not {rows} of them")]
    NotBatched {
        /// The input.
        name: String,
        /// How many were given.
        rows: usize,
    },
    /// Inputs with different numbers of rows.
    #[error("`{first}` has {first_rows} rows, but `{name}` has {rows}")]
    Rows {
        /// The first batched input.
        first: String,
        /// Its rows.
        first_rows: usize,
        /// Another input.
        name: String,
        /// Its rows.
        rows: usize,
    },
    /// An answer about all rows together, with another number of rows than was compiled for.
    #[error(
        "`{answer}` is about all rows together, so there must be exactly {batch}, not {rows}: `--bind N={rows}` compiles it for so many"
    )]
    WholeBatch {
        /// The answer without rows.
        answer: String,
        /// The rows that the program computes at once.
        batch: usize,
        /// The rows that were given.
        rows: usize,
    },
    /// Rows that would be filled up, where a row of an answer depends on other rows.
    #[error(
        "a row of {answer} depends on other rows, so {rows} rows cannot be filled up to a multiple of {batch}: `--bind N={rows}` compiles it for so many"
    )]
    Mixed {
        /// The answer, and what makes it so.
        answer: String,
        /// The rows that the program computes at once.
        batch: usize,
        /// The rows that were given.
        rows: usize,
    },
    /// The program met an index outside of its axis; it was not followed. Which number of an input it is, if it is one
    /// as it stands there.
    #[error("an index is out of range: {}", described(.0.as_ref()))]
    Index(Option<Outside>),
    /// The manifest and the program do not fit together: a bug in the compiler.
    #[error("bug in the compiler: {0}")]
    Program(#[from] ProgramError),
}

fn described(outside: Option<&Outside>) -> String {
    let made = || "the model makes it of its inputs".to_owned();
    outside.map_or_else(made, ToString::to_string)
}

/// Where the weights of a program lie.
#[derive(Debug)]
pub enum Weights<'w> {
    /// In one block, aligned to 64 bytes, at the offsets of the manifest.
    Block(&'w [u8]),
    /// In a buffer for each external that is weights, in their order. They are the engine's own: of what the first run
    /// makes something of that lasts, the pages go where the program needs some, or back to the system.
    Pieces(Vec<AlignedBuffer>),
}

/// A program with its buffers, ready to run.
#[derive(Debug)]
pub struct Engine<'w> {
    manifest: Manifest,
    program: Program,
    weights: Weights<'w>,
    /// One for each external; those of the weights are empty.
    buffers: Vec<AlignedBuffer>,
    /// Calls of the program since [`Self::run`] began.
    calls: i64,
    /// What random numbers are drawn by.
    seed: i64,
}

impl<'w> Engine<'w> {
    /// Puts a program together with its weights, with which the manifest must have passed [`Manifest::check`].
    pub fn new(manifest: Manifest, program: Program, weights: Weights<'w>) -> Self {
        let buffers = manifest.externals.iter().map(|external| match external.role {
            Role::Input(_) | Role::Answer(_) => AlignedBuffer::zeroed(external.bytes),
            Role::Zero | Role::Seed | Role::Call | Role::Status => AlignedBuffer::zeroed(external.bytes),
            Role::Weights(_) => AlignedBuffer::default(),
        });
        let buffers = buffers.collect();
        Self { manifest, program, weights, buffers, calls: 0, seed: 0 }
    }

    /// The same, with another seed than 0 for what is drawn.
    #[must_use]
    pub fn with_seed(self, seed: i64) -> Self {
        Self { seed, ..self }
    }

    /// What the program is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How many threads compute.
    pub fn threads(&self) -> usize {
        self.program.pool().threads()
    }

    /// Computes the answers for all rows of `inputs`, which are in the order of the manifest.
    ///
    /// # Errors
    /// If the inputs do not fit the program, or each other.
    pub fn run(&mut self, inputs: &[Column]) -> Result<Vec<Answer>, EngineError> {
        let rows = self.manifest.rows(inputs)?;
        let mut answers: Vec<Answer> = self.manifest.answers.iter().map(|port| empty_answer(port, rows)).collect();
        let mut start = 0;
        self.calls = 0;
        while start < rows {
            let count = self.manifest.batch.min(rows - start);
            self.load(inputs, start, count);
            self.step().map_err(|error| match error {
                EngineError::Index(None) => EngineError::Index(self.manifest.outside(inputs, start..start + count)),
                error => error,
            })?;
            self.store(&mut answers, count);
            start += count;
        }
        Ok(answers)
    }

    /// Fills the program's inputs with the first rows of `inputs`, and returns how many those are.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn load_first(&mut self, inputs: &[Column]) -> Result<usize, EngineError> {
        let count = self.manifest.rows(inputs)?.min(self.manifest.batch);
        self.load(inputs, 0, count);
        Ok(count)
    }

    /// An input as the next [`Self::step`] reads it, [`Manifest::batch`] rows by the order of the manifest, to be
    /// written in place; `None` if there is no such input. A host program that makes its inputs here, and reads
    /// [`Self::answer`], copies nothing.
    pub fn input_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let at = self.manifest.externals.iter().position(|external| external.role == Role::Input(index))?;
        Some(self.buffers[at].bytes_mut())
    }

    /// What the last [`Self::step`] answered, [`Manifest::batch`] rows by the order of the manifest, where it lies
    /// until the next one; `None` if there is no such answer.
    pub fn answer(&self, index: usize) -> Option<&[u8]> {
        let at = self.manifest.externals.iter().position(|external| external.role == Role::Answer(index))?;
        Some(self.buffers[at].bytes())
    }

    /// Calls the program once with the inputs that are loaded.
    ///
    /// # Errors
    /// If an index was out of range, or the manifest does not describe the program.
    pub fn step(&mut self) -> Result<(), EngineError> {
        let mut externals: Vec<ExternalBuffer<'_>> = Vec::with_capacity(self.buffers.len());
        let (block, pieces) = match &mut self.weights {
            Weights::Block(block) => (*block, Default::default()),
            Weights::Pieces(pieces) => (Default::default(), pieces.as_mut_slice()),
        };
        let mut pieces = pieces.iter_mut();
        for (external, buffer) in self.manifest.externals.iter().zip(&mut self.buffers) {
            externals.push(match external.role {
                Role::Input(_) | Role::Answer(_) => buffer.into(),
                Role::Weights(offset) => match pieces.next() {
                    Some(piece) => ExternalBuffer::Spent(piece),
                    None => ExternalBuffer::Shared(part(block, offset, external.bytes)),
                },
                Role::Call => {
                    buffer.bytes_mut().copy_from_slice(&self.calls.to_le_bytes());
                    buffer.into()
                }
                Role::Seed => {
                    buffer.bytes_mut().copy_from_slice(&self.seed.to_le_bytes());
                    buffer.into()
                }
                Role::Zero | Role::Status => {
                    buffer.bytes_mut().fill(0);
                    buffer.into()
                }
            });
        }
        self.program.run(&mut externals)?;
        self.calls += 1;
        self.check_status()
    }

    fn check_status(&self) -> Result<(), EngineError> {
        let failed = |buffer: &AlignedBuffer| buffer.as_slice::<i32>().first().is_some_and(|&status| status != 0);
        let mut externals = self.manifest.externals.iter().zip(&self.buffers);
        match externals.any(|(external, buffer)| external.role == Role::Status && failed(buffer)) {
            true => Err(EngineError::Index(None)),
            false => Ok(()),
        }
    }

    fn load(&mut self, inputs: &[Column], start: usize, count: usize) {
        for (external, buffer) in self.manifest.externals.iter().zip(&mut self.buffers) {
            let Role::Input(index) = external.role else { continue };
            let (port, column) = (&self.manifest.inputs[index], &inputs[index]);
            let (start, count) = if port.batched { (start, count) } else { (0, 1) };
            let size = port.row_bytes();
            let (filled, rest) = buffer.bytes_mut().split_at_mut(count * size);
            filled.copy_from_slice(part(&column.bytes, start * size, count * size));
            rest.fill(0);
        }
    }

    fn store(&self, answers: &mut [Answer], count: usize) {
        for (external, buffer) in self.manifest.externals.iter().zip(&self.buffers) {
            if let Role::Answer(index) = external.role {
                let answer = &mut answers[index];
                answer.bytes.extend_from_slice(part(buffer.bytes(), 0, answer.port.bytes(count)));
            }
        }
    }
}

fn check_type(port: &Port, column: &Column) -> Result<(), EngineError> {
    let name = || port.name.clone();
    if column.ty != port.row || column.bytes.len() != column.rows * port.row_bytes() {
        let (expected, found) = (port.row.to_string(), column.ty.to_string());
        return Err(EngineError::Type { name: name(), expected, found });
    }
    if !port.batched && column.rows != 1 {
        return Err(EngineError::NotBatched { name: name(), rows: column.rows });
    }
    Ok(())
}

fn empty_answer(port: &Port, rows: usize) -> Answer {
    let rows = if port.batched { rows } else { 1 };
    Answer { port: port.clone(), rows, bytes: Vec::with_capacity(port.bytes(rows)) }
}

/// `bytes` bytes from `offset`; what was checked before is there.
fn part(whole: &[u8], offset: usize, bytes: usize) -> &[u8] {
    whole.get(offset..offset + bytes).unwrap_or(&[])
}
