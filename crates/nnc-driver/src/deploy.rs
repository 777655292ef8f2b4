//! An answer with its weights, in the form that `nnc run` and built executables share.
//!
//! The answer's graph is compiled for a number of rows; parameters and constants have a buffer each.
//! [`Deployment::engine`] runs it here, where weights that are packed go back to the system. [`Deployment::write`]
//! makes an executable of it, with all weights in one block, each at a multiple of 64 bytes.

use crate::answer::Inputs;
use crate::compiled::{self, Compiler, Engine as CompilerEngine};
use crate::dataset::field_type;
use crate::error::DriverError;
use crate::executable;
use crate::fit::fit;
use crate::index_graph::input_bounds;
use crate::layout;
use crate::prune;
use crate::store::Store;
use nnc_codegen::Backend;
use nnc_data::{FieldType, Vocabulary};
use nnc_graph::{Graph, Op, OutputKind, TensorType, ValueId};
use nnc_kernel::{Lowered, Role};
use nnc_lang::elaborate::ParameterKind;
use nnc_opt::PassLog;
use nnc_runtime::image::PAGE;
use nnc_runtime::{ALIGNMENT, AlignedBuffer};
use nnc_stub::manifest::{External, Port, Reading, Role as Place, Variant};
use nnc_stub::{Engine, Manifest, Weights};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A compiled answer with its weights.
#[derive(Debug)]
pub struct Deployment {
    manifest: Manifest,
    /// The program for each instruction set, in the order of [`Manifest::variants`].
    programs: Vec<(Backend, Lowered)>,
    weights: Pieces,
    /// What the passes did, and how long the first of the programs took.
    log: PassLog,
}

/// What is deployed.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Makes the graph of the answer for a number of rows.
    pub name: String,
    /// The `.nn` file.
    pub source: String,
    /// Names of the classes, or the characters of a text; may be empty.
    pub classes: Vec<String>,
    /// What the answer takes beside the fields of the data.
    pub inputs: Inputs,
    /// How the fields of the data are read, by their names; others hold plain values.
    pub readings: BTreeMap<String, Reading>,
    /// The results that are words or tokens, by their names, with the table they are of.
    pub words: BTreeMap<String, usize>,
    /// The tables of words or tokens.
    pub vocabularies: Vec<Vocabulary>,
    /// The answers of which a row depends on other rows, and what makes it so.
    pub mixed: Vec<String>,
    /// The answer's graph for `rows` rows.
    pub graph: &'a Graph,
    /// The same for one row more, which tells what has a row for each example.
    pub wider: &'a Graph,
    /// Rows of one call.
    pub rows: usize,
}

impl Deployment {
    /// Compiles an answer for each of `engines`, best first: [`Self::write`] puts all into the executable,
    /// [`Self::engine`] takes the first. The tensors of the store are let go one by one, so that the weights are never
    /// there twice.
    ///
    /// # Errors
    /// What the backend does not support, or a bug in the compiler.
    pub fn new(
        subject: &Subject<'_>,
        mut store: Store,
        compiler: &Compiler,
        engines: &[CompilerEngine],
    ) -> Result<Self, DriverError> {
        let optimised = compiler.optimise(&prune::specialised(subject.graph, &store))?;
        let tuning = compiler.tuning.as_deref();
        let mut log: Option<PassLog> = None;
        let lower = |&engine: &CompilerEngine| {
            let fitted = fit(optimised.clone(), (engine, compiler.threads()), &compiler.passes, tuning)?;
            log.get_or_insert(fitted.optimised.log);
            Ok((engine.backend(), fitted.lowered))
        };
        let programs = engines.iter().map(lower).collect::<Result<Vec<_>, DriverError>>()?;
        let Some((_, lowered)) = programs.first() else {
            return Err(DriverError::Internal("a deployment for no engine".to_owned()));
        };
        check_same_externals(&programs)?;
        let mut manifest = outline(subject);
        let mut pieces = Pieces::default();
        for external in &lowered.externals {
            let role = place(&external.role, &manifest, &mut store, &mut pieces)?;
            manifest.externals.push(External { bytes: external.bytes, role });
        }
        manifest.variants = programs.iter().map(variant).collect();
        manifest.check(pieces.bytes).map_err(DriverError::Internal)?;
        Ok(Self { manifest, programs, weights: pieces, log: log.unwrap_or_default() })
    }

    /// The program for the best of the instruction sets.
    fn best(&self) -> &Lowered {
        let Some((_, lowered)) = self.programs.first() else { unreachable!("a deployment has a program") };
        lowered
    }

    /// What goes in and what comes out. The hash of the weights is written by [`Self::write`] alone.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Arithmetic operations of one call, roughly.
    pub fn flops(&self) -> u64 {
        self.best().report.iter().map(|kernel| kernel.flops * kernel.runs).sum()
    }

    /// Bytes of weights, inputs and answers: what one call cannot help but touch.
    pub fn resident_bytes(&self) -> usize {
        self.manifest.externals.iter().map(|external| external.bytes).sum()
    }

    /// An engine that runs it in this process.
    ///
    /// # Errors
    /// The machine is not supported, or a bug in the compiler.
    pub fn engine(self, compiler: &Compiler) -> Result<Engine<'static>, DriverError> {
        Ok(self.engine_with_log(compiler)?.0)
    }

    /// As [`Self::engine`], and what every step of the compiler took.
    ///
    /// # Errors
    /// As [`Self::engine`].
    pub fn engine_with_log(mut self, compiler: &Compiler) -> Result<(Engine<'static>, PassLog), DriverError> {
        let mut log = std::mem::take(&mut self.log);
        let program = compiler.program(self.best(), false, &mut log)?;
        Ok((Engine::new(self.manifest, program, Weights::Pieces(self.weights.into_buffers())), log))
    }

    /// Writes it as an executable.
    ///
    /// # Errors
    /// The file cannot be written, or a bug in the compiler; then nothing is left at `path`.
    pub fn write(mut self, path: &Path, compiler: &Compiler) -> Result<u64, DriverError> {
        let mut code = Vec::new();
        for ((backend, lowered), variant) in self.programs.iter().zip(&mut self.manifest.variants) {
            let image =
                nnc_codegen::image(&lowered.program, *backend, compiler.threads()).map_err(compiled::codegen_error)?;
            code.resize(code.len().next_multiple_of(PAGE), 0);
            variant.entry = code.len() + image.entry_offset;
            code.extend_from_slice(&image.bytes);
        }
        let block = self.weights.together();
        self.manifest.weights_hash = hash(block.bytes());
        executable::write(path, &self.manifest, &code, block.bytes())
            .map_err(|error| DriverError::Usage(error.to_string()))?;
        let written = std::fs::metadata(path);
        Ok(written.map_err(|source| DriverError::Io { doing: "read", path: path.to_owned(), source })?.len())
    }
}

/// What is known of an answer before it is compiled: what goes in, what comes out, how it is read. There is no code
/// yet, and no place for anything.
pub fn outline(subject: &Subject<'_>) -> Manifest {
    Manifest {
        program: subject.name.clone(),
        source: subject.source.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        weights_hash: String::new(),
        variants: Vec::new(),
        batch: subject.rows,
        inputs: inputs(subject),
        answers: answers(subject),
        mixed: subject.mixed.clone(),
        fixed: subject.inputs.fixed(),
        classes: subject.classes.clone(),
        vocabularies: subject.vocabularies.clone(),
        externals: Vec::new(),
    }
}

/// What an executable says of a program; its entry is known when the code is made.
fn variant((backend, lowered): &(Backend, Lowered)) -> Variant {
    let sizes = layout::runtime_layout(lowered);
    Variant {
        isa: backend.isa().name().to_owned(),
        arena_bytes: sizes.arena_bytes,
        arena_align: sizes.arena_align,
        scratch_bytes: sizes.scratch_bytes,
        entry: 0,
    }
}

/// What a program is given follows from the graph alone, so that all programs share the weights.
fn check_same_externals(programs: &[(Backend, Lowered)]) -> Result<(), DriverError> {
    let given = |lowered: &Lowered| -> Vec<(Role, usize)> {
        lowered.externals.iter().map(|external| (external.role.clone(), external.bytes)).collect()
    };
    match programs.windows(2).all(|pair| given(&pair[0].1) == given(&pair[1].1)) {
        true => Ok(()),
        false => Err(DriverError::Internal("programs for two instruction sets are given other buffers".to_owned())),
    }
}

/// What the weights are put together of, with offsets in one block; in the order of the program's externals.
#[derive(Debug, Default)]
struct Pieces {
    bytes: usize,
    pieces: Vec<(usize, AlignedBuffer)>,
}

impl Pieces {
    /// Adds one; gives its offset.
    fn append(&mut self, buffer: AlignedBuffer) -> usize {
        let offset = self.bytes.next_multiple_of(ALIGNMENT);
        self.bytes = offset + buffer.len();
        self.pieces.push((offset, buffer));
        offset
    }

    fn into_buffers(self) -> Vec<AlignedBuffer> {
        self.pieces.into_iter().map(|(_, buffer)| buffer).collect()
    }

    /// All in one block; pieces are let go as they are copied.
    fn together(self) -> AlignedBuffer {
        let mut block = AlignedBuffer::zeroed(self.bytes);
        for (offset, buffer) in self.pieces {
            block.bytes_mut()[offset..offset + buffer.len()].copy_from_slice(buffer.bytes());
        }
        block
    }
}

/// FNV-1a, 64 bits, by words of 8 bytes in four lanes, so that it is as fast as memory: names the weights, guards
/// nothing.
fn hash(bytes: &[u8]) -> String {
    const PRIME: u64 = 0x100_0000_01b3;
    const LANES: usize = 4;
    let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(PRIME);
    let mut lanes = [0xcbf2_9ce4_8422_2325u64; LANES];
    let mut groups = bytes.chunks_exact(8 * LANES);
    for group in &mut groups {
        for (lane, word) in lanes.iter_mut().zip(group.chunks_exact(8)) {
            *lane = step(*lane, word.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte)));
        }
    }
    let whole = lanes.into_iter().fold(bytes.len() as u64, step);
    format!("{:016x}", groups.remainder().iter().fold(whole, |hash, &byte| step(hash, u64::from(byte))))
}

/// The type of one row, and whether there is a row for each example.
fn row_type(ty: &TensorType, wider: &TensorType, rows: usize) -> (FieldType, bool) {
    let batched = ty.shape.first().is_some_and(|dim| dim.size() == rows)
        && wider.shape.first().is_some_and(|dim| dim.size() == rows + 1);
    let whole = field_type(ty);
    if !batched {
        return (whole, false);
    }
    (FieldType::new(whole.dtype, whole.dims[1..].to_vec()), true)
}

/// Whether an input is the compiler's own: what random numbers are drawn by. Each call draws anew.
fn is_own(name: &str) -> bool {
    name.starts_with('$')
}

fn inputs(subject: &Subject<'_>) -> Vec<Port> {
    let declared = |graph: &Graph| -> Vec<(String, TensorType)> {
        let inputs = graph.nodes().filter_map(|(_, node)| match &node.op {
            Op::Input { name, ty } if !is_own(name) => Some((name.clone(), ty.clone())),
            _ => None,
        });
        inputs.collect()
    };
    let wider = declared(subject.wider);
    let bounds = input_bounds(subject.graph);
    let port = |(name, ty): (String, TensorType)| {
        let other = wider.iter().find(|(other, _)| *other == name).map_or(&ty, |(_, ty)| ty);
        let (row, batched) = row_type(&ty, other, subject.rows);
        let parameter = subject.inputs.parameters.iter().find(|parameter| parameter.name == name);
        let (reading, default) = match parameter.map(|parameter| &parameter.kind) {
            Some(ParameterKind::Scalar(_, value)) => {
                (Reading::Option, value.as_ref().map(|value| value.bytes().to_vec()).unwrap_or_default())
            }
            Some(_) if subject.inputs.is_text(&ty) => (Reading::Text, Vec::new()),
            Some(_) => (Reading::Values, Vec::new()),
            None => (subject.readings.get(&name).copied().unwrap_or(Reading::Values), Vec::new()),
        };
        let bound = bounds.get(&name).and_then(|&bound| usize::try_from(bound).ok());
        Port { name, row, batched, reading, default, bound }
    };
    declared(subject.graph).into_iter().map(port).collect()
}

fn answers(subject: &Subject<'_>) -> Vec<Port> {
    let results = |graph: &Graph| -> Vec<(String, TensorType)> {
        let outputs = graph.outputs().iter().filter(|output| output.kind == OutputKind::Result);
        outputs.map(|output| (output.name.clone(), graph.ty(output.value).clone())).collect()
    };
    let wider = results(subject.wider);
    let port = |(name, ty): (String, TensorType)| {
        let other = wider.iter().find(|(other, _)| *other == name).map_or(&ty, |(_, ty)| ty);
        let (row, batched) = row_type(&ty, other, subject.rows);
        let reading = match subject.words.get(&name) {
            Some(&table) => Reading::Words(table),
            None if subject.inputs.is_text(&ty) => Reading::Text,
            None => reading(subject, &name, &row),
        };
        Port { name, row, batched, reading, default: Vec::new(), bound: None }
    };
    results(subject.graph).into_iter().map(port).collect()
}

/// An answer that ends in a softmax or a sigmoid gives probabilities; another one with as many numbers as there are
/// classes gives scores, unless it is computed from probabilities.
fn reading(subject: &Subject<'_>, name: &str, row: &FieldType) -> Reading {
    let output = subject.graph.outputs().iter().find(|output| output.name == name);
    let Some(output) = output.filter(|output| subject.graph.ty(output.value).dtype.is_float() && !row.dims.is_empty())
    else {
        return Reading::Values;
    };
    let about_classes = !subject.classes.is_empty() && row.dims.last() == Some(&subject.classes.len());
    match subject.graph.function_of(subject.graph.definition(output.value)) {
        Some("softmax") => Reading::Probabilities,
        Some("sigmoid") if about_classes => Reading::Probabilities,
        _ if about_classes && name == "probabilities" => Reading::Probabilities,
        _ if about_classes && !is_of_probabilities(subject.graph, output.value) => Reading::Logits,
        _ => Reading::Values,
    }
}

/// Whether a value is computed element by element from what a softmax, its logarithm or a sigmoid gave.
fn is_of_probabilities(graph: &Graph, value: ValueId) -> bool {
    let (mut left, mut seen) = (vec![value], BTreeSet::new());
    while let Some(value) = left.pop() {
        let node = graph.definition(value);
        if matches!(graph.function_of(node), Some("softmax" | "log_softmax" | "sigmoid")) {
            return true;
        }
        if node.op.is_elementwise() || matches!(node.op, Op::Reshape(_) | Op::Broadcast { .. } | Op::Slice(_)) {
            left.extend(node.operands.iter().copied().filter(|&operand| seen.insert(operand)));
        }
    }
    false
}

/// Where an external lives; parameters and constants are appended to the weights.
fn place(role: &Role, manifest: &Manifest, store: &mut Store, pieces: &mut Pieces) -> Result<Place, DriverError> {
    let position = |ports: &[Port], name: &str| {
        let found = ports.iter().position(|port| port.name == name);
        found.ok_or_else(|| DriverError::Internal(format!("`{name}` has no port")))
    };
    match role {
        Role::Input(name) if name == "$iteration" => Ok(Place::Call),
        Role::Input(name) if name == "$seed" => Ok(Place::Seed),
        Role::Input(name) if is_own(name) => Ok(Place::Zero),
        Role::Input(name) => position(&manifest.inputs, name).map(Place::Input),
        Role::Output(name) => position(&manifest.answers, name).map(Place::Answer),
        Role::Status => Ok(Place::Status),
        Role::Constant(tensor) => Ok(Place::Weights(pieces.append(AlignedBuffer::from_slice(tensor.bytes())))),
        Role::Param(path) | Role::State(path) => {
            let entry = store.take(path);
            let entry = entry.ok_or_else(|| DriverError::Internal(format!("`{path}` is not in the store")))?;
            Ok(Place::Weights(pieces.append(entry.buffer)))
        }
    }
}
