//! What each layer of a model gives and costs: the table of `nnc show`.

use super::recipe::copy::ancestors;
use super::{Elaborator, LayerUse};
use nnc_graph::{Dim, Graph, Node, Op, TensorType, ValueId};

/// One use of a model inside a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LayerFacts {
    /// Its path: `block[0].conv2d_1`; the whole model has the empty path.
    pub path: String,
    /// The model it is a use of.
    pub model: String,
    /// What it gives.
    pub output: TensorType,
    /// Elements of its parameters, those of layers inside it included.
    pub parameters: u64,
    /// Multiplications with addition in its products and convolutions, those of layers inside it included.
    pub multiply_adds: u64,
    /// Bytes of its parameters and state, and of its output.
    pub bytes: u64,
}

/// The facts of every use, outermost last for equal paths; the whole model ends the list. `None` where a number has
/// more than 64 bits.
pub(super) fn layers(elaborator: &Elaborator<'_>) -> Option<Vec<LayerFacts>> {
    let graph = &elaborator.graph;
    let mut facts: Vec<LayerFacts> = Vec::new();
    for LayerUse { path, model, output } in &elaborator.layers {
        // A shared layer has one row, for its last use.
        facts.retain(|known| known.path != *path);
        facts.push(layer(elaborator, path, model, graph.ty(*output).clone())?);
    }
    // Inside before outside in the program, outside first in the table.
    facts.sort_by_key(|fact| order(elaborator, &fact.path));
    if let Some(output) = graph.outputs().first() {
        facts.push(layer(elaborator, "", &graph.name, graph.ty(output.value).clone())?);
    }
    Some(facts)
}

/// Where a layer begins in the program; what contains another comes first.
fn order(elaborator: &Elaborator<'_>, path: &str) -> (usize, usize) {
    let mine = elaborator.layers.iter().position(|layer| is_within(&layer.path, path)).unwrap_or(usize::MAX);
    (mine, path.len())
}

fn layer(elaborator: &Elaborator<'_>, path: &str, model: &str, output: TensorType) -> Option<LayerFacts> {
    let graph = &elaborator.graph;
    let (mut parameters, mut bytes) = (0u64, bytes_of(&output)?);
    for entry in elaborator.store.entries().iter().filter(|entry| is_within(&entry.path, path)) {
        bytes = bytes.checked_add(bytes_of(&entry.ty)?)?;
        if matches!(graph.definition(entry.leaf).op, Op::Param { .. }) {
            parameters = parameters.checked_add(elements(&entry.ty)?)?;
        }
    }
    let multiply_adds = work_of(graph, path)?;
    Some(LayerFacts { path: path.to_owned(), model: model.to_owned(), output, parameters, multiply_adds, bytes })
}

/// Whether `path` is `outer` or lies within it.
fn is_within(path: &str, outer: &str) -> bool {
    outer.is_empty() || path == outer || path.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
}

/// The product of sizes, when it has at most 63 bits.
fn product<'d>(dims: impl IntoIterator<Item = &'d Dim>) -> Option<u64> {
    let size = |dim: &Dim| u64::try_from(dim.as_number()?).ok();
    dims.into_iter().try_fold(1u64, |product, dim| product.checked_mul(size(dim)?)).filter(|&all| all < i64::MAX as u64)
}

fn elements(ty: &TensorType) -> Option<u64> {
    product(ty.shape.iter())
}

fn bytes_of(ty: &TensorType) -> Option<u64> {
    elements(ty)?.checked_mul(ty.dtype.size() as u64)
}

/// Multiplications with addition of what a layer needs for the outputs; those of a loop's body count for each step.
fn work_of(graph: &Graph, path: &str) -> Option<u64> {
    let outputs: Vec<ValueId> = graph.outputs().iter().map(|output| output.value).collect();
    let mut needed = ancestors(graph, &outputs).into_iter().map(|id| graph.node(id));
    needed.try_fold(0u64, |sum, node| {
        let work = match &node.op {
            Op::Scan(scan) => product([&scan.length])?.checked_mul(work_of(&scan.body, path)?)?,
            _ if graph.origin_of(node).is_some_and(|origin| is_within(&origin.path, path)) => {
                multiply_adds(graph, node)?
            }
            _ => 0,
        };
        sum.checked_add(work)
    })
}

/// Multiplications with addition of a contraction or convolution; 0 for everything else.
fn multiply_adds(graph: &Graph, node: &Node) -> Option<u64> {
    let (Some(&result), Some(&first)) = (node.results.first(), node.operands.first()) else { return Some(0) };
    let each = match &node.op {
        Op::Dot { a_axes, .. } => product(a_axes.iter().map(|&axis| &graph.ty(first).shape[axis]))?,
        Op::Conv(_) => product(&graph.ty(node.operands[1]).shape[1..])?,
        // A transposed convolution: each element that is given meets each weight of its channel.
        Op::ConvInputGrad { .. } => {
            return elements(graph.ty(first))?.checked_mul(product(&graph.ty(node.operands[1]).shape[1..])?);
        }
        _ => return Some(0),
    };
    elements(graph.ty(result))?.checked_mul(each)
}
