//! From a graph to something that runs: optimise, lower, generate code, bind buffers.
//!
//! A [`CompiledGraph`] owns a buffer for each input, output and constant; parameters and states live in a [`Store`]
//! that several compiled graphs share (the training step writes it, the evaluation reads it). With
//! [`Engine::Interpreter`] the same graph runs on the reference interpreter behind the same door.

use crate::error::DriverError;
use crate::externals::{Places, emptied, put};
use crate::fit::fit;
use crate::store::Store;
use nnc_codegen::Backend;
use nnc_graph::{Graph, Node, Op, Output, OutputKind, Tensor, TensorType, interpret};
use nnc_kernel::ir::Target;
use nnc_kernel::plan::{Access, External};
use nnc_kernel::{Lowered, Role, Tuning};
use nnc_opt::{Optimised, PassLog, pipeline};
use nnc_runtime::cpu::Isa;
use nnc_runtime::{AlignedBuffer, Code, ExternalBuffer, Pool, Program, ProgramError, memory};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What runs a graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// Native code of a backend.
    Native(Backend),
    /// The reference interpreter.
    Interpreter,
}

impl Engine {
    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native(backend) => backend.name(),
            Self::Interpreter => "interp",
        }
    }

    /// The engine of that name; `native` is [`Engine::host`].
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "native" => Some(Self::host()),
            "interp" => Some(Self::Interpreter),
            _ => Backend::from_name(name).map(Self::Native),
        }
    }

    /// Native code that is best for this machine.
    pub fn host() -> Self {
        Self::Native(Backend::host())
    }

    /// As [`Self::host`], for code that is to run on this machine.
    ///
    /// # Errors
    /// [`DriverError::Usage`] if it lacks instructions that all code needs.
    pub fn of_this_processor() -> Result<Self, DriverError> {
        let backend = Backend::host();
        match backend.check() {
            Ok(()) => Ok(Self::Native(backend)),
            Err(error) => {
                let advice = format!("`--isa {}` makes it for other processors", backend.isa().name());
                Err(DriverError::Usage(format!("{error}; {advice}")))
            }
        }
    }

    /// What makes code where code is made.
    pub fn backend(self) -> Backend {
        match self {
            Self::Native(backend) => backend,
            Self::Interpreter => Backend::host(),
        }
    }

    /// What lowering may know of the machine.
    pub fn target(self) -> Target {
        self.backend().target()
    }
}

/// How graphs are compiled.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// What runs the result.
    pub engine: Engine,
    /// The threads that share the work.
    pub pool: Arc<Pool>,
    /// Passes and fusion.
    pub passes: pipeline::Options,
    /// Schedules that were found to be faster than those that lowering chooses by itself.
    pub tuning: Option<Arc<Tuning>>,
}

/// A graph that can run.
#[derive(Debug)]
pub struct CompiledGraph {
    /// The graph after all passes.
    pub graph: Graph,
    /// The log of the passes, and of what came behind them.
    pub log: PassLog,
    /// How long it took to get here.
    pub compile_time: Duration,
    inputs: BTreeMap<String, Port>,
    outputs: BTreeMap<String, Port>,
    runner: Runner,
}

#[derive(Debug)]
struct Port {
    ty: TensorType,
    buffer: AlignedBuffer,
}

impl Port {
    fn new(ty: &TensorType) -> Self {
        Self { ty: ty.clone(), buffer: AlignedBuffer::zeroed(ty.bytes()) }
    }
}

#[derive(Debug)]
enum Runner {
    Native(Box<Native>),
    Interpreter,
}

#[derive(Debug)]
struct Native {
    program: Program,
    lowered: Lowered,
    constants: Vec<AlignedBuffer>,
    status: AlignedBuffer,
    /// The version of the store whose parameters the program has met.
    prepared_for: u64,
    places: Places,
    /// Empty between runs: its memory is used again.
    externals: Vec<ExternalBuffer<'static>>,
}

/// Why a run stopped.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RunError {
    /// A run-time index lay outside of its axis; it was never read.
    #[error("an index is out of range{0}")]
    OutOfRange(String),
    /// The store has no tensor that the graph needs, or one of another type: a bug in the caller.
    #[error("the program needs `{0}`, which is not in the store")]
    NotResident(String),
    /// What only a bug in the compiler can cause.
    #[error("this is a bug in nnc, please report it: {0}")]
    Internal(String),
}

/// A tensor from its bytes.
pub(crate) fn host_tensor(ty: &TensorType, bytes: &[u8]) -> Tensor {
    Tensor::from_bytes(ty.dtype, &ty.shape.sizes(), bytes.to_vec()).expect("a buffer has the size of its type")
}

/// A machine that is not supported is the user's to know; the rest is a bug.
pub(crate) fn codegen_error(error: nnc_codegen::CodegenError) -> DriverError {
    match error {
        nnc_codegen::CodegenError::Host(_) => DriverError::Usage(error.to_string()),
        nnc_codegen::CodegenError::Features { .. } => {
            let advice = Isa::host().map_or("of the engines only `--engine interp` runs here".to_owned(), |isa| {
                format!("`--isa {}` is the best that runs here", isa.name())
            });
            DriverError::Usage(format!("{error}; {advice}"))
        }
        nnc_codegen::CodegenError::Bug(bug) => DriverError::Internal(bug),
    }
}

/// No tensor has more bytes than this: no machine that runs this compiler has the memory.
const LARGEST_TENSOR: i64 = 1 << 38;

/// Refuses a graph with a tensor that no memory holds.
///
/// # Errors
/// [`DriverError::Usage`] that names the type.
pub fn check_sizes(graph: &Graph) -> Result<(), DriverError> {
    for (_, node) in graph.nodes() {
        if let Op::Scan(scan) = &node.op {
            check_sizes(&scan.body)?;
        }
        for ty in node.results.iter().map(|&value| graph.ty(value)) {
            let elements = ty.shape.elements().as_number();
            let bytes = elements.and_then(|elements| elements.checked_mul(ty.dtype.size() as i64));
            if bytes.is_none_or(|bytes| bytes > LARGEST_TENSOR) {
                let op = node.op.name();
                return Err(DriverError::Usage(format!("`{op}` makes {ty}, which is larger than any memory")));
            }
        }
    }
    Ok(())
}

/// Whether a program takes more than what it draws by.
pub(crate) fn has_examples(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| matches!(&node.op, Op::Input { name, .. } if !name.starts_with('$')))
}

/// Refuses parameters and states that this machine has no memory for: no batch is so small that they would fit.
///
/// # Errors
/// [`DriverError::Usage`] that says how much they take, and names the largest.
fn check_residents(graph: &Graph) -> Result<(), DriverError> {
    let leaves = graph.nodes().filter_map(|(_, node)| match &node.op {
        Op::Param { path, ty } | Op::State { path, ty } => Some((path, ty)),
        _ => None,
    });
    // What begins a run has no other inputs than what is drawn by, and its results are parameters and states.
    let begins = !has_examples(graph);
    let results = graph.outputs().iter().filter(|_| begins).map(|output| (&output.name, graph.ty(output.value)));
    let residents: BTreeMap<&String, &TensorType> = leaves.chain(results).collect();
    let Some((path, ty)) = residents.iter().max_by_key(|(_, ty)| ty.bytes()) else { return Ok(()) };
    let bytes = residents.values().fold(0, |sum: usize, ty| sum.saturating_add(ty.bytes()));
    // They are made when a run begins; later they are there already.
    let there = if begins { memory::check_more(bytes) } else { memory::check(bytes) };
    there.map_err(|error| {
        DriverError::Usage(format!(
            "the weights and states are {bytes} bytes, the largest of them `{path}`, {ty}: {error}; make the layers smaller"
        ))
    })
}

/// The bytes of all values of a graph, which the interpreter keeps.
fn value_bytes(graph: &Graph) -> usize {
    let values = graph.nodes().flat_map(|(_, node)| &node.results);
    values.fold(0, |sum: usize, &value| sum.saturating_add(graph.ty(value).bytes()))
}

/// Refuses a program that this machine has no memory for.
fn check_memory(bytes: usize) -> Result<(), DriverError> {
    memory::check(bytes).map_err(|error| {
        DriverError::Usage(format!("{error}: use a smaller batch (`--set batch`, `--bind N`) or smaller layers"))
    })
}

/// The loop kernels of a graph for an engine, and their plan.
///
/// # Errors
/// [`DriverError::Usage`] for what the backend does not support.
pub fn lower(optimised: &Optimised, engine: Engine, tuning: Option<&Tuning>) -> Result<Lowered, DriverError> {
    let target = Target { winograd: optimised.winograd, ..engine.target() };
    nnc_kernel::lower_with(&optimised.graph, &optimised.partition, &target, tuning)
        .map_err(|error| DriverError::Usage(error.to_string()))
}

impl Compiler {
    /// Threads that compile.
    pub fn threads(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.pool.threads()).unwrap_or(NonZeroUsize::MIN)
    }

    /// The loop kernels of a graph, by the schedules that are known to be fast.
    ///
    /// # Errors
    /// As [`lower`].
    pub(crate) fn lower(&self, optimised: &Optimised) -> Result<Lowered, DriverError> {
        lower(optimised, self.engine, self.tuning.as_deref())
    }

    /// Compiles a graph whose dims are bound.
    ///
    /// # Errors
    /// [`DriverError::Usage`] for what a backend does not support, [`DriverError::Internal`] for a bug.
    pub fn compile(&self, graph: &Graph) -> Result<CompiledGraph, DriverError> {
        self.compile_as(graph, false)
    }

    /// As [`Self::compile`], to be run by [`CompiledGraph::run_timed`].
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn compile_to_measure(&self, graph: &Graph) -> Result<CompiledGraph, DriverError> {
        self.compile_as(graph, true)
    }

    fn compile_as(&self, graph: &Graph, measured: bool) -> Result<CompiledGraph, DriverError> {
        let started = Instant::now();
        let mut optimised = self.optimise(graph)?;
        let runner = match self.engine {
            Engine::Interpreter => {
                check_memory(value_bytes(&optimised.graph))?;
                Runner::Interpreter
            }
            Engine::Native(_) => {
                let fitted = fit(optimised, (self.engine, self.threads()), &self.passes, self.tuning.as_deref())?;
                optimised = fitted.optimised;
                Runner::Native(Box::new(self.native(fitted.lowered, measured, &mut optimised.log)?))
            }
        };
        let graph = optimised.graph;
        let inputs = graph.nodes().filter_map(|(_, node)| match &node.op {
            Op::Input { name, ty } => Some((name.clone(), Port::new(ty))),
            _ => None,
        });
        let results = graph.outputs().iter().filter(|output| output.kind == OutputKind::Result);
        let port = |output: &Output| (output.name.clone(), Port::new(graph.ty(output.value)));
        Ok(CompiledGraph {
            inputs: inputs.collect(),
            outputs: results.map(port).collect(),
            runner,
            compile_time: started.elapsed(),
            log: optimised.log,
            graph,
        })
    }

    /// Runs the passes on a graph whose tensors fit into memory.
    ///
    /// # Errors
    /// [`DriverError::Usage`] for a tensor that no memory holds.
    pub(crate) fn optimise(&self, graph: &Graph) -> Result<Optimised, DriverError> {
        check_sizes(graph)?;
        check_residents(graph)?;
        pipeline::optimise(graph, &self.passes).map_err(|error| DriverError::Internal(error.to_string()))
    }

    /// Machine code in this process, with the threads that run it. The time that it takes is noted in the log.
    ///
    /// # Errors
    /// The machine is not supported, or a bug in the compiler.
    pub(crate) fn program(&self, lowered: &Lowered, measured: bool, log: &mut PassLog) -> Result<Program, DriverError> {
        let layout = crate::layout::runtime_layout(lowered);
        check_memory(layout.total_bytes(self.threads().get()))?;
        let jit = if measured { nnc_codegen::jit_to_measure } else { nnc_codegen::jit };
        let made = log.step("code generation", || jit(&lowered.program, self.engine.backend(), self.threads()));
        let (module, entry) = made.map_err(codegen_error)?;
        let code = log.step("linking", || Code::from_jit(module, entry, layout));
        let code = code.map_err(|error| DriverError::Internal(error.to_string()))?;
        Ok(Program::new(code.with_read_only(&crate::layout::read_only(lowered)), self.pool.clone()))
    }

    fn native(&self, lowered: Lowered, measured: bool, log: &mut PassLog) -> Result<Native, DriverError> {
        let constant = |role: &Role| match role {
            Role::Constant(tensor) => {
                let mut buffer = AlignedBuffer::zeroed(tensor.bytes().len());
                buffer.bytes_mut().copy_from_slice(tensor.bytes());
                Some(buffer)
            }
            Role::Input(_) | Role::Param(_) | Role::State(_) | Role::Output(_) | Role::Status => None,
        };
        let constants = lowered.externals.iter().filter_map(|external| constant(&external.role)).collect();
        let program = self.program(&lowered, measured, log)?;
        let (places, externals) = (Places::new(&lowered.externals), Vec::with_capacity(lowered.externals.len()));
        let status = AlignedBuffer::zeroed(STATUS_BYTES);
        Ok(Native { program, constants, prepared_for: 0, lowered, status, places, externals })
    }
}

/// Bytes of the external that kernels report errors in: `i32[4]`.
const STATUS_BYTES: usize = 16;

impl CompiledGraph {
    /// Names and types of the inputs, by name.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.inputs.iter().map(|(name, port)| (name.as_str(), &port.ty))
    }

    /// Names and types of the results, by name.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.outputs.iter().map(|(name, port)| (name.as_str(), &port.ty))
    }

    /// The memory of an input, to be filled before a run. `None` when the graph does not need it.
    pub fn input_mut(&mut self, name: &str) -> Option<&mut [u8]> {
        self.inputs.get_mut(name).map(|port| port.buffer.bytes_mut())
    }

    /// Fills a scalar i64 input when the graph has it.
    pub fn set_i64(&mut self, name: &str, value: i64) {
        if let Some(bytes) = self.input_mut(name) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// The memory of a result after a run.
    pub fn output(&self, name: &str) -> Option<&[u8]> {
        self.outputs.get(name).map(|port| port.buffer.bytes())
    }

    /// The type of a result.
    pub fn output_type(&self, name: &str) -> Option<&TensorType> {
        self.outputs.get(name).map(|port| &port.ty)
    }

    /// A copy of a result after a run.
    pub fn output_tensor(&self, name: &str) -> Option<Tensor> {
        self.outputs.get(name).map(|port| host_tensor(&port.ty, port.buffer.bytes()))
    }

    /// The results after the last run, by name, each where it was made.
    pub fn into_outputs(self) -> impl Iterator<Item = (String, TensorType, AlignedBuffer)> {
        self.outputs.into_iter().map(|(name, port)| (name, port.ty, port.buffer))
    }

    /// A scalar result after a run, as `f64`.
    pub fn scalar(&self, name: &str) -> Option<f64> {
        let port = self.outputs.get(name)?;
        (port.ty.shape.rank() == 0).then(|| nnc_graph::tensor::decode(port.ty.dtype, port.buffer.bytes()))
    }

    /// The lowered form: kernels, plan, memory. `None` on the interpreter.
    pub fn lowered(&self) -> Option<&Lowered> {
        match &self.runner {
            Runner::Native(native) => Some(&native.lowered),
            Runner::Interpreter => None,
        }
    }

    /// Bytes of the arena for intermediate values.
    pub fn arena_bytes(&self) -> usize {
        self.lowered().map_or(0, |lowered| lowered.arena_bytes)
    }

    /// Runs once: reads the inputs and the store, writes the results and the updates.
    ///
    /// # Errors
    /// [`RunError`]; after [`RunError::OutOfRange`] results are meaningless, and updates may have been written.
    pub fn run(&mut self, store: &mut Store) -> Result<(), RunError> {
        match &mut self.runner {
            Runner::Native(native) => native.run(&mut self.inputs, &mut self.outputs, store),
            Runner::Interpreter => self.interpret(store),
        }
    }

    /// As [`Self::run`]; gives the time of all runs of each launch, in the order of [`Lowered::report`]. Empty unless
    /// the graph was compiled to be measured.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_timed(&mut self, store: &mut Store) -> Result<Vec<Duration>, RunError> {
        let Runner::Native(native) = &mut self.runner else { return Ok(vec![]) };
        let marks = native.run_with(&mut self.inputs, &mut self.outputs, store, Program::run_timed)?;
        let mut times = vec![Duration::ZERO; native.lowered.report.len()];
        marks.windows(2).for_each(|pair| times[pair[0].0 as usize] += pair[1].1 - pair[0].1);
        Ok(times)
    }

    fn interpret(&mut self, store: &mut Store) -> Result<(), RunError> {
        let run = self.interpretation(store)?;
        for output in self.graph.outputs() {
            let bytes = run.value(output.value).bytes();
            match output.kind {
                OutputKind::Result => {
                    let port = self.outputs.get_mut(&output.name);
                    port.into_iter().for_each(|port| port.buffer.bytes_mut().copy_from_slice(bytes));
                }
                OutputKind::Update(_) => {
                    let entry = store.iter_mut().find(|(path, _)| *path == output.name);
                    entry.into_iter().for_each(|(_, entry)| entry.buffer.bytes_mut().copy_from_slice(bytes));
                }
            }
        }
        Ok(())
    }

    /// The values of every node on the inputs as they are now, by the interpreter; nothing is written.
    ///
    /// # Errors
    /// As [`CompiledGraph::run`].
    pub fn interpretation(&self, store: &Store) -> Result<interpret::Run, RunError> {
        self.interpreted(store).map_err(|error| match error {
            interpret::InterpretError::OutOfRange { fault, .. } => RunError::OutOfRange(format!(": {fault}")),
            interpret::InterpretError::Missing(name) | interpret::InterpretError::WrongType { name, .. } => {
                RunError::NotResident(name)
            }
            interpret::InterpretError::NotRunnable(why) => RunError::Internal(why),
        })
    }

    /// The operation that meets an index out of range on the inputs as they are now, and where it stands in the source.
    pub fn place_out_of_range(&self, store: &Store) -> Option<String> {
        match self.interpreted(store) {
            Err(interpret::InterpretError::OutOfRange { node, .. }) => Some(self.place_of(self.graph.node(node))),
            Ok(_) | Err(_) => None,
        }
    }

    /// An operation and where it stands in the source, in words.
    pub fn place_of(&self, node: &Node) -> String {
        let place = self.graph.origin_of(node).map_or(String::new(), |origin| {
            let path = if origin.path.is_empty() { String::new() } else { format!(" ({})", origin.path) };
            format!(" in `{}`{path} at {}", origin.function, origin.place)
        });
        format!("`{}`{place}", word(&node.op))
    }

    fn interpreted(&self, store: &Store) -> Result<interpret::Run, interpret::InterpretError> {
        let inputs = self.inputs.iter().map(|(name, port)| (name.clone(), host_tensor(&port.ty, port.buffer.bytes())));
        let residents =
            store.iter().map(|(path, entry)| (path.to_owned(), host_tensor(&entry.ty, entry.buffer.bytes())));
        interpret::run(&self.graph, &inputs.chain(residents).collect())
    }
}

/// What the language calls an operation that may stop a program; others have the names of the graph.
fn word(op: &Op) -> &'static str {
    match op {
        Op::Gather { batch: 0, .. } => "take",
        Op::Gather { .. } => "pick",
        Op::DynamicSlice { .. } => "slice",
        Op::DynamicUpdate { .. } => "update",
        op => op.name(),
    }
}

impl Native {
    /// What was made of parameters lasts until the store holds others. A program that writes some makes it hold others,
    /// for all programs but itself: of what it writes it keeps nothing.
    fn meet(&mut self, store: &mut Store) {
        let writes = |external: &External| {
            matches!(external.role, Role::Param(_) | Role::State(_)) && external.access != Access::Read
        };
        if self.prepared_for != store.version() {
            self.program.forget();
        }
        if self.lowered.externals.iter().any(writes) {
            store.touch();
        }
        self.prepared_for = store.version();
    }

    fn run(
        &mut self,
        inputs: &mut BTreeMap<String, Port>,
        outputs: &mut BTreeMap<String, Port>,
        store: &mut Store,
    ) -> Result<(), RunError> {
        self.run_with(inputs, outputs, store, Program::run)
    }

    fn run_with<'b, T>(
        &'b mut self,
        inputs: &'b mut BTreeMap<String, Port>,
        outputs: &'b mut BTreeMap<String, Port>,
        store: &'b mut Store,
        run: impl FnOnce(&mut Program, &mut [ExternalBuffer<'_>]) -> Result<T, ProgramError>,
    ) -> Result<T, RunError> {
        self.status.bytes_mut().fill(0);
        self.meet(store);
        let mut constants = self.constants.iter();
        let mut status = Some(&mut self.status);
        let mut externals: Vec<ExternalBuffer<'_>> = std::mem::take(&mut self.externals);
        externals.extend(self.lowered.externals.iter().map(|external| {
            let own = match &external.role {
                Role::Constant(_) => constants.next().map(Into::into),
                Role::Status => status.take().map(Into::into),
                Role::Input(_) | Role::Output(_) | Role::Param(_) | Role::State(_) => None,
            };
            own.unwrap_or(ExternalBuffer::Exclusive(&mut []))
        }));
        let ports = |(name, port): (&'b String, &'b mut Port)| (name.as_str(), &mut port.buffer);
        put(&mut externals, &self.places.inputs, inputs.iter_mut().map(ports))?;
        put(&mut externals, &self.places.outputs, outputs.iter_mut().map(ports))?;
        let residents = store.buffers_mut().map(|(path, entry)| (path, &mut entry.buffer));
        put(&mut externals, &self.places.residents, residents)?;
        let done = run(&mut self.program, &mut externals);
        self.externals = emptied(externals);
        let done = done.map_err(|error| RunError::Internal(error.to_string()))?;
        match self.status.as_slice::<i32>()[0] {
            0 => Ok(done),
            _ => Err(RunError::OutOfRange(String::new())),
        }
    }
}
