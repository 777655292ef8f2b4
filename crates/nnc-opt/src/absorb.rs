//! Factors and summands of channels behind a convolution go into its weights and one bias.
//!
//! `conv(x, w)`, followed by products, quotients, sums and differences with one constant for each output channel, as
//! normalisation by running statistics is, becomes `conv(x, w * factor) + summand`. Factor and summand are computed
//! from parameters alone, so that lowering makes them once (Jacob et al., "Quantization and Training of Neural Networks
//! for Efficient Integer-Arithmetic-Only Inference", 2018, section 3.2, call it folding).
//!
//! Only for graphs that update no parameter. On entry a verified graph without `grad`; on exit the same results,
//! rounded in other places. What is left behind without a reader is taken out by `dce`. It takes no fuel, as it is one
//! decision.

use crate::constants::constants;
use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{BinaryOp, Graph, Node, NodeId, Op, ValueId};

/// The axis of channels of a convolution's result.
const CHANNELS: usize = 1;

/// One operation with a constant for each channel.
#[derive(Clone, Copy)]
struct Link {
    op: BinaryOp,
    /// A value of one axis: the channels.
    constant: ValueId,
}

/// A convolution and what is done to its result.
#[derive(Clone)]
struct Chain {
    conv: NodeId,
    links: Vec<Link>,
}

/// The graph with every chain absorbed; `None` if it has none.
pub fn absorb_channels(graph: &Graph) -> Option<Graph> {
    let chains = chains(graph);
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    let mut changed = false;
    for (id, node) in graph.nodes() {
        let ends = node.results.first().filter(|result| !continues(graph, &chains, **result));
        match ends.and_then(|result| chains[result.index()].as_ref()).filter(|chain| !chain.links.is_empty()) {
            Some(chain) => {
                rewriter.at(id);
                let value = absorbed(&mut rewriter, chain);
                rewriter.replace(node.results[0], value);
                changed = true;
            }
            None => {
                rewriter.copy(id);
            }
        }
    }
    changed.then(|| rewriter.finish())
}

/// For each value the chain that it ends.
fn chains(graph: &Graph) -> Vec<Option<Chain>> {
    let constants = constants(graph, |_| false, |_| false);
    let mut chains: Vec<Option<Chain>> = vec![None; graph.value_count()];
    for (id, node) in graph.nodes() {
        let Some(&result) = node.results.first() else { continue };
        chains[result.index()] = match &node.op {
            Op::Conv(_) if constants[node.operands[1].index()] => Some(Chain { conv: id, links: vec![] }),
            Op::Binary(op) => extended(graph, &chains, &constants, (*op, node)),
            _ => None,
        };
    }
    chains
}

/// The chain of an operand, and the node behind it.
fn extended(
    graph: &Graph,
    chains: &[Option<Chain>],
    constants: &[bool],
    (op, node): (BinaryOp, &Node),
) -> Option<Chain> {
    let commutes = match op {
        BinaryOp::Add | BinaryOp::Mul => true,
        BinaryOp::Sub | BinaryOp::Div => false,
        _ => return None,
    };
    let [first, second] = [node.operands[0], node.operands[1]];
    let pairs = [(first, second), (second, first)];
    pairs.into_iter().take(if commutes { 2 } else { 1 }).find_map(|(value, other)| {
        let chain = chains[value.index()].as_ref()?;
        let constant = of_channels(graph, other).filter(|constant| constants[constant.index()])?;
        // Another reader needs what is in between.
        (graph.users(graph.value(value).node).len() == 1 && !is_output(graph, value)).then(|| {
            let mut chain = chain.clone();
            chain.links.push(Link { op, constant });
            chain
        })
    })
}

/// What is repeated along all axes but that of channels; where there is nothing to repeat, as these have one element
/// each, what is given them.
fn of_channels(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let node = graph.definition(value);
    let shape = &graph.ty(value).shape;
    let is_of_channels = match &node.op {
        Op::Broadcast { axes, .. } => axes[..] == [CHANNELS],
        Op::Reshape(_) => {
            let is_vector = graph.ty(node.operands[0]).shape.rank() == 1;
            is_vector && (0..shape.rank()).all(|axis| axis == CHANNELS || shape[axis].is(1))
        }
        _ => false,
    };
    is_of_channels.then(|| node.operands[0])
}

fn is_output(graph: &Graph, value: ValueId) -> bool {
    graph.outputs().iter().any(|output| output.value == value)
}

/// Whether the only reader of a value continues its chain.
fn continues(graph: &Graph, chains: &[Option<Chain>], value: ValueId) -> bool {
    let Some(chain) = &chains[value.index()] else { return false };
    graph.users(graph.value(value).node).iter().any(|&user| {
        let results = &graph.node(user).results;
        let next = results.first().and_then(|result| chains[result.index()].as_ref());
        next.is_some_and(|next| next.conv == chain.conv && next.links.len() == chain.links.len() + 1)
    })
}

/// An operation with a constant on what was there before, or on a number if nothing was; `simplify` takes out what does
/// nothing.
fn applied(
    rewriter: &mut Rewriter<'_>,
    (before, else_on): (Option<ValueId>, f64),
    (op, constant): (BinaryOp, ValueId),
) -> ValueId {
    let ty = rewriter.ty(constant).clone();
    let before = before.unwrap_or_else(|| rewriter.graph_mut().splat(&ty, else_on));
    rewriter.emit(Op::Binary(op), &[before, constant])
}

/// The convolution with its weights multiplied, and the sum.
fn absorbed(rewriter: &mut Rewriter<'_>, chain: &Chain) -> ValueId {
    let old = rewriter.old();
    let conv = old.node(chain.conv);
    let [x, w] = [0, 1].map(|at| rewriter.value(conv.operands[at]));
    let (mut factor, mut summand): (Option<ValueId>, Option<ValueId>) = (None, None);
    for link in &chain.links {
        let constant = rewriter.value(link.constant);
        match link.op {
            BinaryOp::Add | BinaryOp::Sub => summand = Some(applied(rewriter, (summand, 0.0), (link.op, constant))),
            op => {
                summand = summand.map(|sum| applied(rewriter, (Some(sum), 0.0), (op, constant)));
                factor = Some(applied(rewriter, (factor, 1.0), (op, constant)));
            }
        }
    }
    let repeated = |rewriter: &mut Rewriter<'_>, vector: ValueId, like: ValueId, axis: usize| {
        let shape = rewriter.ty(like).shape.clone();
        rewriter.emit(Op::Broadcast { shape, axes: vec![axis] }, &[vector])
    };
    let weights = match factor {
        Some(factor) => {
            let factors = repeated(rewriter, factor, w, 0);
            rewriter.emit(Op::Binary(BinaryOp::Mul), &[w, factors])
        }
        None => w,
    };
    let y = rewriter.emit(conv.op.clone(), &[x, weights]);
    let Some(summand) = summand else { return y };
    let summands = repeated(rewriter, summand, y, CHANNELS);
    rewriter.emit(Op::Binary(BinaryOp::Add), &[y, summands])
}
