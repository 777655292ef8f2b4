//! Stacked recurrent layers: loops of which each reads what the one before stacked.

use super::input;
use crate::{
    BinaryOp, BodyTypes, DType, Dim, Graph, Op, OutputKind, ReduceOp, Scan, Shape, TensorType, UnaryOp, ValueId,
};
use std::sync::Arc;

/// Recurrent layers over a sequence `x [rows, steps, width]`, one after the other: `h = tanh(x @ w + b + h @ u)`.
#[derive(Clone, Debug)]
pub struct Layers {
    /// How many.
    pub count: usize,
    /// Examples.
    pub rows: usize,
    /// Steps of each.
    pub steps: usize,
    /// Size of an element of the sequence, and of what is carried.
    pub width: usize,
    /// Whether the last step comes first.
    pub reverse: bool,
    /// Whether a layer adds what it reads to what it gives, as residual networks do.
    pub residual: bool,
    /// Whether the steps know their number.
    pub counted: bool,
    /// Whether a layer begins with what the one before ended with, instead of zeros.
    pub handed_on: bool,
}

impl Layers {
    /// Plain layers that walk forward.
    pub fn new(count: usize, rows: usize, steps: usize, width: usize) -> Self {
        Self { count, rows, steps, width, reverse: false, residual: false, counted: false, handed_on: false }
    }

    /// The graph. Its results are what the last layer stacks, `y [rows, steps, width]`, what each layer carries in the
    /// end, `h0`, `h1` and so on, and the sum of what the first layer stacks.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::new("layers");
        let mut x = input(&mut graph, "x", &[self.rows, self.steps, self.width]);
        let zero = graph.splat(&self.state(), 0.0);
        let (mut first, mut lasts) = (zero, Vec::new());
        for layer in 0..self.count {
            let [u, w] = ["u", "w"].map(|name| self.param(&mut graph, name, layer, &[self.width, self.width]));
            let b = self.param(&mut graph, "b", layer, &[self.width]);
            let z = self.before(&mut graph, x, w, b);
            let results = graph.emit_all(Op::Scan(self.scan()), &[first, z, u]);
            lasts.push(results[0]);
            let stacked = graph.emit(Op::Transpose(vec![1, 0, 2]), &[results[1]]);
            let whole = if self.residual { graph.emit(Op::Binary(BinaryOp::Add), &[x, stacked]) } else { stacked };
            if layer == 0 {
                let sum = Op::Reduce { op: ReduceOp::Sum, axes: vec![0, 1, 2] };
                let sum = graph.emit(sum, &[whole]);
                graph.add_output("sum", sum, OutputKind::Result);
            }
            x = whole;
            first = if self.handed_on { results[0] } else { zero };
        }
        graph.add_output("y", x, OutputKind::Result);
        lasts.iter().enumerate().for_each(|(at, &last)| graph.add_output(&format!("h{at}"), last, OutputKind::Result));
        graph
    }

    fn param(&self, graph: &mut Graph, name: &str, layer: usize, dims: &[usize]) -> ValueId {
        let ty = TensorType::new(DType::F32, Shape::of(dims));
        graph.emit(Op::Param { path: format!("layer[{layer}].{name}"), ty }, &[])
    }

    fn state(&self) -> TensorType {
        TensorType::new(DType::F32, Shape::of(&[self.rows, self.width]))
    }

    /// What the loop of a layer scans: `x @ w + b`, with its steps in front.
    fn before(&self, graph: &mut Graph, x: ValueId, w: ValueId, b: ValueId) -> ValueId {
        let product = graph.emit(Op::Dot { batch: 0, a_axes: vec![2], b_axes: vec![0] }, &[x, w]);
        let shape = graph.ty(product).shape.clone();
        let b = graph.emit(Op::Broadcast { shape, axes: vec![2] }, &[b]);
        let sum = graph.emit(Op::Binary(BinaryOp::Add), &[product, b]);
        graph.emit(Op::Transpose(vec![1, 0, 2]), &[sum])
    }

    fn scan(&self) -> Scan {
        let state = self.state();
        let matrix = TensorType::new(DType::F32, Shape::of(&[self.width, self.width]));
        let types = BodyTypes { carries: vec![state.clone()], slices: vec![state.clone()], captures: vec![matrix] };
        let mut body = Scan::inputs("layer", &types);
        let [index, h, z, u] = [0, 1, 2, 3].map(ValueId);
        let product = body.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[h, u]);
        let mut sum = body.emit(Op::Binary(BinaryOp::Add), &[z, product]);
        if self.counted {
            let number = body.emit(Op::Cast(DType::F32), &[index]);
            let number = body.broadcast_scalar(number, &state.shape);
            sum = body.emit(Op::Binary(BinaryOp::Mul), &[sum, number]);
        }
        let next = body.emit(Op::Unary(UnaryOp::Tanh), &[sum]);
        Scan::outputs(&mut body, &[next], &[next]);
        let length = Dim::from(self.steps);
        Scan { body: Arc::new(body), length, reverse: self.reverse, carries: 1, slices: 1 }
    }
}
