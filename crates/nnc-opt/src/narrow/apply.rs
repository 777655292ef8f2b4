//! The rewrite to stored matrices.
//!
//! A parameter is followed through transposes and into loops, which capture what is stored beside what they capture
//! anyway; where a product sums over the axis that is stored first, it reads the matrix as it is. All other readers get
//! the floats that it stands for, and so does everyone where that is asked for.

use super::Matrix;
use super::product::Product;
use crate::dce::eliminate_dead_code;
use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{BodyTypes, Graph, Node, NodeId, Op, OutputKind, Scan, TensorType, ValueId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The graph whose parameters are stored as `matrices` say; those that it does not have are passed over.
pub fn narrow(graph: &Graph, matrices: &[Matrix]) -> Graph {
    let matrices: BTreeMap<&str, &Matrix> = matrices.iter().map(|matrix| (matrix.path.as_str(), matrix)).collect();
    let mut unlimited = Fuel::new(None);
    let rewriter = Rewriter::new(graph, &mut unlimited);
    let mut pass = Pass { rewriter, matrices: &matrices, handles: vec![None; graph.value_count()] };
    graph.nodes().for_each(|(id, _)| pass.node(id));
    let graph = pass.rewriter.finish();
    eliminate_dead_code(&graph, &mut Fuel::new(None))
}

/// A graph whose results are the parameters, by path, that stored matrices stand for, of the types that they have as
/// floats.
pub fn restored<'m>(matrices: impl Iterator<Item = (&'m Matrix, TensorType)>) -> Graph {
    let mut graph = Graph::new("floats");
    for (matrix, ty) in matrices {
        let parts = matrix.tensors(&ty).into_iter();
        let parts: Vec<ValueId> = parts.map(|(path, ty)| graph.emit(Op::Param { path, ty }, &[])).collect();
        let value = floats(matrix, &mut graph, &parts);
        graph.add_output(&matrix.path, value, OutputKind::Result);
    }
    graph
}

/// The parameter that a stored matrix and its scales stand for, as further nodes of their graph, row by row.
fn floats(matrix: &Matrix, graph: &mut Graph, operands: &[ValueId]) -> ValueId {
    matrix.form.floats_along(graph, operands, matrix.terms_axis)
}

/// A stored parameter, perhaps turned.
#[derive(Clone, Debug)]
struct Handle<'m> {
    matrix: &'m Matrix,
    /// The matrix and its scales in the graph that is written.
    operands: Vec<ValueId>,
    /// The parameter's axis that each axis is.
    axes: [usize; 2],
}

impl Handle<'_> {
    /// What an op makes of it, if it moves nothing but its axes.
    fn moved(&self, op: &Op) -> Option<Self> {
        match op {
            Op::Transpose(order) => Some(Self { axes: [self.axes[order[0]], self.axes[order[1]]], ..self.clone() }),
            Op::StopGradient => Some(self.clone()),
            _ => None,
        }
    }
}

struct Pass<'a, 'm> {
    rewriter: Rewriter<'a>,
    matrices: &'m BTreeMap<&'m str, &'m Matrix>,
    /// By old value: the parameters, perhaps turned.
    handles: Vec<Option<Handle<'m>>>,
}

impl<'m> Pass<'_, 'm> {
    fn node(&mut self, id: NodeId) {
        let graph = self.rewriter.old();
        let node = graph.node(id);
        self.rewriter.at(id);
        match &node.op {
            Op::Param { path, ty } => match self.matrices.get(path.as_str()).copied() {
                Some(matrix) if matrix.sizes(ty).is_some() => self.parameter(node, matrix, ty),
                Some(_) | None => drop(self.rewriter.copy(id)),
            },
            Op::Scan(scan) => self.scan(node, scan),
            op => {
                let product = Product::of(graph, node, |value| self.handles[value.index()].is_some());
                if let Some(product) = product
                    && self.product(node, &product)
                {
                    return;
                }
                let moved = node.operands.first().and_then(|value| self.handles[value.index()].as_ref()?.moved(op));
                self.handles[node.results[0].index()] = moved;
                self.rewriter.copy(id);
            }
        }
    }

    /// A stored parameter, and the floats that it stands for.
    fn parameter(&mut self, node: &Node, matrix: &'m Matrix, ty: &TensorType) {
        let leaf = |(path, ty)| Op::Param { path, ty };
        let operands: Vec<ValueId> =
            matrix.tensors(ty).into_iter().map(|tensor| self.rewriter.emit(leaf(tensor), &[])).collect();
        let floats = floats(matrix, self.rewriter.graph_mut(), &operands);
        self.rewriter.replace(node.results[0], floats);
        let handle = Handle { matrix, operands, axes: [0, 1] };
        self.handles[node.results[0].index()] = (!matrix.by_floats).then_some(handle);
    }

    /// A product by a stored matrix; `false` if it sums over the other axis.
    fn product(&mut self, node: &Node, product: &Product) -> bool {
        let weights = self.handles[node.operands[product.at].index()].clone();
        let Some(Handle { matrix, operands, axes }) = weights else { return false };
        if axes[product.weights_axis] != matrix.terms_axis {
            return false;
        }
        let x = self.rewriter.value(node.operands[1 - product.at]);
        let rank = self.rewriter.ty(x).shape.rank();
        let x = match product.x_axis + 1 == rank {
            true => x,
            false => {
                let order = (0..rank).filter(|axis| *axis != product.x_axis).chain([product.x_axis]).collect();
                self.rewriter.emit(Op::Transpose(order), &[x])
            }
        };
        let all: Vec<ValueId> = [x].into_iter().chain(operands).collect();
        let y = self.rewriter.emit(Op::DotStored(matrix.form), &all);
        let y = match product.at {
            0 if rank > 1 => {
                let order = [rank - 1].into_iter().chain(0..rank - 1).collect();
                self.rewriter.emit(Op::Transpose(order), &[y])
            }
            _ => y,
        };
        self.rewriter.replace(node.results[0], y);
        true
    }

    /// A loop whose body reads stored matrices: it captures them beside what it captures anyway.
    fn scan(&mut self, node: &Node, scan: &Scan) {
        let first = scan.carries + scan.slices;
        let captured = node.operands.iter().enumerate().skip(first);
        let captured: Vec<(usize, Handle<'m>)> =
            captured.filter_map(|(at, operand)| Some((at, self.handles[operand.index()].clone()?))).collect();
        let mut operands = self.rewriter.operands(node);
        operands.extend(captured.iter().flat_map(|(_, handle)| &handle.operands));
        let further = operands[node.operands.len()..].iter().map(|&value| self.rewriter.ty(value).clone()).collect();
        let body = self.body(scan, &captured, further);
        let op = Op::Scan(Scan { body: Arc::new(body), ..scan.clone() });
        let results = self.rewriter.graph_mut().emit_all(op, &operands);
        node.results.iter().zip(results).for_each(|(&old, new)| self.rewriter.replace(old, new));
    }

    /// The body with further captured values, which are the matrices of captured ones.
    fn body(&self, scan: &Scan, captured: &[(usize, Handle<'m>)], further: Vec<TensorType>) -> Graph {
        let body = &scan.body;
        let mut unlimited = Fuel::new(None);
        let rewriter = Rewriter::new(body, &mut unlimited);
        let mut pass = Pass { rewriter, matrices: self.matrices, handles: vec![None; body.value_count()] };
        let inputs = 1 + scan.carries + scan.slices + scan.captures();
        let ty = |at: usize| body.ty(ValueId(at as u32)).clone();
        let (carries, slices) = (1 + scan.carries, 1 + scan.carries + scan.slices);
        let types = BodyTypes {
            carries: (1..carries).map(ty).collect(),
            slices: (carries..slices).map(ty).collect(),
            captures: (slices..inputs).map(ty).chain(further).collect(),
        };
        Scan::add_inputs(pass.rewriter.graph_mut(), &types);
        (0..inputs as u32).map(ValueId).for_each(|input| pass.rewriter.replace(input, input));
        let mut next = inputs as u32;
        for (at, outer) in captured {
            let count = outer.operands.len() as u32;
            let operands = (next..next + count).map(ValueId).collect();
            next += count;
            pass.handles[1 + at] = Some(Handle { operands, ..outer.clone() });
        }
        body.nodes().skip(inputs).for_each(|(id, _)| pass.node(id));
        pass.rewriter.finish()
    }
}
