//! The pipeline: the passes over a graph in their order.
//!
//! 1. `unfold`: convolutions in more than two spatial axes become two-dimensional; `looked_up`: tables are multiplied
//!    instead of the rows that are read of them.
//! 2. `grad`: derivatives become plain ops.
//! 3. `simplify`, `fold`, `cse`, `put_back`, `dce`, and `tidy` for loops, again and again until a round changes
//!    nothing; bodies of loops go through them, too.
//! 4. `half`: floats of 16 bits are computed in f32; step 3 again if there are any.
//! 5. `absorb`, in graphs that update no parameter: factors of channels into weights; `layout`: channels side by side;
//!    step 3 again after each.
//! 6. `rescore`: scores of attention are made again for the derivative, where fusion then keeps them out of memory.
//! 7. `wavefront`, in graphs that update no parameter: chains of loops become loops over blocks of steps.
//! 8. `fuse`: the decision which nodes share a kernel. The graph stays as it is.
//!
//! Where memory is short, [`recomputed`] comes before the last step, which is done anew: values are computed again
//! instead of kept. Nothing may merge equal nodes after it.
//!
//! On entry a verified graph, every dim bound if it is to be lowered; on exit a verified graph without `grad`, and a
//! partition of its nodes. Everything is deterministic. Fuel stops the rewrites after a number of them: those of step 3 and
//! of `looked_up` one by one, while `absorb`, `layout`, `rescore` and `wavefront`, which change a graph as a whole or not
//! at all, are one rewrite each. It does not stop what kernels cannot do without: `unfold`, `grad` and `half`.

use crate::fuse::{self, FuseOptions, Partition};
use crate::recompute::{self, Choice, Copies};
use crate::rewrite::{Fuel, everywhere};
use crate::runner::{PassLog, Runner};
use crate::{
    OptError, absorb, cse, dce, fold, grad, half, layout, looked_up, put_back, rescore, simplify, tidy, unfold,
    wavefront,
};
use nnc_graph::{Graph, Op};

/// A round that still changes something after so many is a pair of rules that undo each other.
const MOST_ROUNDS: usize = 16;

/// How to optimise.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which fusions are allowed.
    pub fuse: FuseOptions,
    /// At most so many rewrites; `None` is any number.
    pub fuel: Option<u64>,
    /// Whether the graph is verified after each pass.
    pub verify: bool,
    /// Whether the log keeps the text of each graph that a pass changed.
    pub dump: bool,
    /// Whether convolutions take the form that is best for kernels: step 5.
    pub layout: bool,
    /// Whether convolutions may go by Winograd's form.
    pub winograd: bool,
    /// The most bytes that a program may work in; who lowers it sees to that, by [`recomputed`].
    pub max_memory: Option<usize>,
    /// The fewest operations of a chain of loops, in its products, that are worth a second thread.
    pub least_chain: usize,
    /// Whether rules are allowed that change rounding, the sign of a zero, or results at infinities and NaN.
    pub fast_math: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fuse: FuseOptions::default(),
            fuel: None,
            verify: true,
            dump: false,
            layout: true,
            winograd: true,
            max_memory: None,
            least_chain: 1 << 20,
            fast_math: false,
        }
    }
}

/// A graph that is ready to be lowered.
#[derive(Clone, Debug)]
pub struct Optimised {
    /// The graph.
    pub graph: Graph,
    /// Which of its nodes share a kernel.
    pub partition: Partition,
    /// Whether convolutions may go by Winograd's form.
    pub winograd: bool,
    /// Which of its nodes compute again what was not kept.
    pub copies: Copies,
    /// What each pass did.
    pub log: PassLog,
}

/// Runs every pass.
///
/// # Errors
/// A graph that breaks the rules, given or made: a bug in the compiler.
pub fn optimise(graph: &Graph, options: &Options) -> Result<Optimised, OptError> {
    let mut runner = Runner::new(options.fuel, options.verify, options.dump);
    runner.check("the front end", graph)?;
    let graph = runner.run("unfold", graph, |graph, _| unfold::unfold_convolutions(graph))?;
    let graph = runner.run("looked_up", &graph, |graph, fuel| everywhere(graph, fuel, &looked_up::multiply_tables))?;
    let graph = expanded(graph, &mut runner)?;
    let graph = clean_up(graph, &mut runner, options.fast_math)?;
    let mut graph = widened(graph, &mut runner, options.fast_math)?;
    if options.layout {
        graph = laid_out(graph, &mut runner, options.fast_math)?;
    }
    if let Some(made) = runner.run_whole("rescore", &graph, |graph| rescore::rescore(graph, &options.fuse))? {
        graph = runner.run("dce", &made, |graph, fuel| everywhere(graph, fuel, &dce::eliminate_dead_code))?;
    }
    let blocked = |graph: &Graph| wavefront::block_loops(graph, options.least_chain);
    if let Some(made) = runner.run_whole("wavefront", &graph, blocked)? {
        graph = runner.run("dce", &made, |graph, fuel| everywhere(graph, fuel, &dce::eliminate_dead_code))?;
    }
    let partition = fuse::partition(&graph, &options.fuse);
    let (winograd, copies, log) = (options.winograd, Copies::new(), runner.into_log());
    Ok(Optimised { graph, partition, winograd, copies, log })
}

/// The graph with some values computed again instead of kept.
///
/// # Errors
/// As [`optimise`].
pub fn recomputed(optimised: &Optimised, choice: &Choice, options: &Options) -> Result<Optimised, OptError> {
    let mut runner = Runner::new(None, options.verify, options.dump);
    let mut copies = Copies::new();
    let graph = runner.run("recompute", &optimised.graph, |graph, _| {
        let made = recompute::recompute(graph, &optimised.partition, choice);
        copies = made.copies;
        made.graph
    })?;
    let partition = fuse::partition_with(&graph, &options.fuse, &copies);
    let mut log = optimised.log.clone();
    log.records.extend(runner.into_log().records);
    Ok(Optimised { graph, partition, winograd: optimised.winograd, copies, log })
}

/// Steps 1 to 5 but for tables and the layout, on a graph that updates no parameter: what is quantised, product by
/// product as the program has them.
///
/// # Errors
/// As [`optimise`].
pub fn inference(graph: &Graph) -> Result<Graph, OptError> {
    let mut runner = Runner::new(None, true, false);
    let graph = runner.run("unfold", graph, |graph, _| unfold::unfold_convolutions(graph))?;
    let graph = expanded(graph, &mut runner)?;
    let graph = clean_up(graph, &mut runner, false)?;
    let graph = widened(graph, &mut runner, false)?;
    changed("absorb", graph, &mut runner, false, absorb::absorb_channels)
}

/// Step 2.
fn expanded(graph: Graph, runner: &mut Runner) -> Result<Graph, OptError> {
    match grad::is_needed(&graph) {
        true => runner.run("grad", &graph, |graph, _| grad::expand(graph)),
        false => Ok(graph),
    }
}

/// Step 5.
fn laid_out(mut graph: Graph, runner: &mut Runner, fast_math: bool) -> Result<Graph, OptError> {
    if graph.keeps_parameters() {
        graph = changed("absorb", graph, runner, fast_math, absorb::absorb_channels)?;
    }
    changed("layout", graph, runner, fast_math, layout::move_channels)
}

/// Step 4. Kernels do not compute with 16 bits, so that it needs no fuel.
fn widened(graph: Graph, runner: &mut Runner, fast_math: bool) -> Result<Graph, OptError> {
    if !half::is_needed(&graph) {
        return Ok(graph);
    }
    let graph = runner.run("half", &graph, |graph, _| half::widen_half(graph))?;
    clean_up(graph, runner, fast_math)
}

/// The graph after a pass of one rewrite that may have nothing to do, cleaned up if it had.
fn changed(
    name: &'static str,
    graph: Graph,
    runner: &mut Runner,
    fast_math: bool,
    pass: impl FnOnce(&Graph) -> Option<Graph>,
) -> Result<Graph, OptError> {
    match runner.run_whole(name, &graph, pass)? {
        Some(made) => clean_up(made, runner, fast_math),
        None => Ok(graph),
    }
}

/// Step 3 alone, on a graph without `grad`: for tools that show a graph instead of lowering it.
///
/// # Errors
/// As [`optimise`].
pub fn clean_up(graph: Graph, runner: &mut Runner, fast_math: bool) -> Result<Graph, OptError> {
    let simplify = |graph: &Graph, fuel: &mut Fuel| simplify::simplify(graph, fast_math, fuel);
    let mut graph = runner.run("dce", &graph, |graph, fuel| everywhere(graph, fuel, &dce::eliminate_dead_code))?;
    for _ in 0..MOST_ROUNDS {
        let before = runner.rewrites();
        graph = runner.run("simplify", &graph, |graph, fuel| everywhere(graph, fuel, &simplify))?;
        graph = runner.run("fold", &graph, |graph, fuel| everywhere(graph, fuel, &fold::fold_constants))?;
        graph =
            runner.run("cse", &graph, |graph, fuel| everywhere(graph, fuel, &cse::eliminate_common_subexpressions))?;
        if graph.nodes().any(|(_, node)| matches!(node.op, Op::Scan(_) | Op::DynamicUpdate { .. })) {
            graph = runner.run("put_back", &graph, |graph, fuel| everywhere(graph, fuel, &put_back::put_back))?;
        }
        if graph.nodes().any(|(_, node)| matches!(node.op, Op::Scan(_))) {
            graph = runner.run("tidy", &graph, |graph, fuel| everywhere(graph, fuel, &tidy::tidy_loops))?;
        }
        graph = runner.run("dce", &graph, |graph, fuel| everywhere(graph, fuel, &dce::eliminate_dead_code))?;
        if runner.rewrites() == before {
            break;
        }
    }
    Ok(graph)
}
