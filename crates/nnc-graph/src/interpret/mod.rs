//! The reference interpreter: the definition of what a graph means.
//!
//! Slow and obvious. Floats are computed and accumulated in `f64` and rounded to the dtype after each node, so the
//! result of a sum is better than any engine's; integers are computed in `i64` and wrapped. Every other engine is held
//! to these results within the op's tolerance class. One file a kind of op:
//! `elementwise`, `movement`, `indexing`, `reduction`, `contraction`, `pooling`, `looped`, [`random`].
//!
//! Entry: any verified graph without [`Op::Grad`] whose dims are bound. Exit: a tensor for each value.

mod array;
mod contraction;
mod elementwise;
mod indexing;
mod looped;
mod movement;
mod pooling;
pub mod random;
mod reduction;

use crate::{Graph, Node, NodeId, Op, OutputKind, Tensor, ValueId};
use array::Array;
use std::collections::BTreeMap;
use std::fmt;

/// What stops an interpretation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InterpretError {
    /// An input, parameter or state was not given.
    Missing(String),
    /// One was given with another type than the graph declares.
    WrongType {
        /// Which.
        name: String,
        /// What the graph declares.
        declared: String,
        /// What was given.
        given: String,
    },
    /// A run-time index lies outside of its axis, or elements from there on do.
    OutOfRange {
        /// The node that would have read or written there.
        node: NodeId,
        /// What lies outside.
        fault: Fault,
    },
    /// The graph is not one that can run: `grad` is left, or a dim is not bound.
    NotRunnable(String),
}

impl fmt::Display for InterpretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "`{name}` was not given"),
            Self::WrongType { name, declared, given } => write!(f, "`{name}` is {declared}, but {given} was given"),
            Self::OutOfRange { node, fault } => write!(f, "{node}: {fault}"),
            Self::NotRunnable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for InterpretError {}

/// The values of one run.
#[derive(Clone, Debug)]
pub struct Run {
    values: Vec<Tensor>,
    outputs: BTreeMap<String, ValueId>,
}

impl Run {
    /// The output called `name`; an update is called by the path it writes.
    pub fn output(&self, name: &str) -> Option<&Tensor> {
        self.outputs.get(name).map(|&value| self.value(value))
    }

    /// Every output by name.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.outputs.iter().map(|(name, &value)| (name.as_str(), self.value(value)))
    }

    /// Any value of the graph.
    pub fn value(&self, id: ValueId) -> &Tensor {
        &self.values[id.index()]
    }

    /// The first value, in program order, that holds a NaN or an infinity although no operand of its node does.
    pub fn first_non_finite(&self, graph: &Graph) -> Option<ValueId> {
        let bad = |value: ValueId| {
            let tensor = self.value(value);
            tensor.dtype().is_float() && tensor.to_f64().iter().any(|x| !x.is_finite())
        };
        let born_here = |node: &Node| !node.operands.iter().any(|&operand| bad(operand));
        graph.nodes().filter(|(_, node)| born_here(node)).flat_map(|(_, node)| &node.results).copied().find(|&v| bad(v))
    }
}

/// Runs a graph on inputs, parameters and states, given by name or path.
///
/// # Errors
/// [`InterpretError`]; nothing is computed past the first one.
pub fn run(graph: &Graph, given: &BTreeMap<String, Tensor>) -> Result<Run, InterpretError> {
    let mut values: Vec<Tensor> = Vec::with_capacity(graph.value_count());
    for (id, node) in graph.nodes() {
        let operands: Vec<&Tensor> = node.operands.iter().map(|value| &values[value.index()]).collect();
        match &node.op {
            Op::Scan(scan) => {
                let results = looped::scan(scan, id, &operands)?;
                values.extend(results);
            }
            _ => {
                let result = evaluate(graph, id, node, &operands, given)?;
                values.push(result);
            }
        }
    }
    let named = |output: &crate::Output| match output.kind {
        OutputKind::Result | OutputKind::Update(_) => (output.name.clone(), output.value),
    };
    Ok(Run { values, outputs: graph.outputs().iter().map(named).collect() })
}

fn evaluate(
    graph: &Graph,
    id: NodeId,
    node: &Node,
    operands: &[&Tensor],
    given: &BTreeMap<String, Tensor>,
) -> Result<Tensor, InterpretError> {
    if node.op == Op::Grad {
        return Err(InterpretError::NotRunnable("`grad` is not expanded".to_owned()));
    }
    let ty = graph.ty(node.results[0]);
    if !ty.shape.is_bound() {
        return Err(InterpretError::NotRunnable(format!("{id}: {ty} has a dim that is not bound")));
    }
    match &node.op {
        Op::Input { name, .. } | Op::Param { path: name, .. } | Op::State { path: name, .. } => leaf(name, ty, given),
        Op::Constant(tensor) => Ok(tensor.clone()),
        op => {
            let arrays: Vec<Array> = operands.iter().map(|tensor| Array::from(*tensor)).collect();
            let arrays: Vec<&Array> = arrays.iter().collect();
            let dims = ty.shape.sizes();
            apply(op, &arrays, ty.dtype, &dims)
                .map(|array| array.into_tensor(ty.dtype))
                .map_err(|fault| InterpretError::OutOfRange { node: id, fault })
        }
    }
}

fn leaf(name: &str, ty: &crate::TensorType, given: &BTreeMap<String, Tensor>) -> Result<Tensor, InterpretError> {
    let tensor = given.get(name).ok_or_else(|| InterpretError::Missing(name.to_owned()))?;
    if tensor.ty() != *ty {
        let (declared, given) = (ty.to_string(), tensor.ty().to_string());
        return Err(InterpretError::WrongType { name: name.to_owned(), declared, given });
    }
    Ok(tensor.clone())
}

/// An index from which elements would have been read or written that do not lie on their axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The first of them.
    pub index: i64,
    /// How many they are.
    pub length: usize,
    /// The size of the axis.
    pub size: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, length, size } = self;
        write!(f, "{index} is not in 0..{}", size + 1 - length)?;
        if *length > 1 {
            write!(f, ", where {length} of the {size} on the axis may begin")?;
        }
        Ok(())
    }
}

/// Applies an op to arrays. Flat dispatch: one line for each op.
fn apply(op: &Op, x: &[&Array], dtype: crate::DType, dims: &[usize]) -> Result<Array, Fault> {
    Ok(match op {
        Op::Input { .. } | Op::Param { .. } | Op::State { .. } | Op::Constant(_) | Op::Grad | Op::Scan(_) => {
            unreachable!("handled by the caller")
        }
        Op::Extent { dim, .. } => Array::scalar(dtype, dim.as_number().unwrap_or_default()),
        Op::Iota { axis, .. } => movement::iota(dtype, dims, *axis),
        Op::Random { stream, shape } => random::uniform(*stream, x[0], x[1], shape.elements().size(), dims),
        Op::Unary(op) => elementwise::unary(*op, x[0]),
        Op::Binary(op) => elementwise::binary(*op, x[0], x[1]),
        Op::Compare(op) => elementwise::compare(*op, x[0], x[1]),
        Op::Select => elementwise::select(x[0], x[1], x[2]),
        Op::Cast(dtype) => elementwise::cast(x[0], *dtype),
        Op::Reshape(_) => x[0].clone().with_dims(dims),
        Op::Transpose(permutation) => movement::transpose(x[0], permutation, dims),
        Op::Broadcast { axes, .. } => movement::broadcast(x[0], axes, dims),
        Op::Slice(ranges) => movement::slice(x[0], ranges, dims),
        Op::Pad { low, .. } => movement::pad(x[0], x[1], low, dims),
        Op::Concat { axis } => movement::concat(x, *axis, dims),
        Op::DynamicSlice { axis, .. } => indexing::dynamic_slice(x[0], x[1], *axis, dims)?,
        Op::DynamicUpdate { axes } => indexing::dynamic_update(x[0], x[1], &x[2..], axes)?,
        Op::Gather { axis, batch } => indexing::gather(x[0], x[1], *axis, *batch, dims)?,
        Op::ScatterAdd { axis, batch } => indexing::scatter_add(x[0], x[1], x[2], *axis, *batch)?,
        Op::Reduce { op, axes } => reduction::reduce(*op, x[0], axes, dims),
        Op::ArgMax { axis } => reduction::argmax(x[0], *axis, dims),
        Op::Dot { batch, a_axes, b_axes } => contraction::dot(x[0], x[1], *batch, a_axes, b_axes, dims),
        Op::DotStored(stored) => contraction::dot_stored(*stored, x, dims),
        Op::Conv(attributes) => contraction::conv(x[0], x[1], attributes, dims),
        Op::ConvLast(attributes) => contraction::conv_last(x[0], x[1], attributes, dims),
        Op::ConvInputGrad { attributes, .. } => contraction::conv_input_grad(x[0], x[1], attributes, dims),
        Op::ConvInputGradLast { attributes, .. } => contraction::conv_input_grad_last(x[0], x[1], attributes, dims),
        Op::ConvWeightGrad { attributes, .. } => contraction::conv_weight_grad(x[0], x[1], attributes, dims),
        Op::Window { op, attributes } => pooling::window(*op, x[0], attributes, dims),
        Op::WindowGrad { op, attributes, .. } => pooling::window_grad(*op, x, attributes, dims),
        Op::WindowPick(attributes) => pooling::window_pick(x[0], x[1], attributes, dims),
        Op::StopGradient => x[0].clone(),
    })
}

#[cfg(test)]
mod tests;
