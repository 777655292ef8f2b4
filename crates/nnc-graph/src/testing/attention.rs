//! Attention as the standard library writes it, with any mask, and its derivative.

use crate::{BinaryOp, CompareOp, DType, Graph, Op, OutputKind, ReduceOp, Shape, TensorType, UnaryOp, ValueId};

/// What keeps queries from keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mask {
    /// Nothing.
    None,
    /// Keys that come later.
    Causal,
    /// For each matrix of the outermost batch axis an input that says which keys are no padding.
    Padding,
    /// Numbers of an input, added to the scores of all.
    Added,
}

/// `softmax(mask(query @ key.T / 4)) @ value`.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Sizes of the batch axes.
    pub batch: Vec<usize>,
    /// Queries.
    pub rows: usize,
    /// Keys.
    pub columns: usize,
    /// Elements of a query.
    pub width: usize,
    /// Elements of a value.
    pub values: usize,
    /// Which keys a query may see.
    pub mask: Mask,
    /// What stands for a score that a mask hides.
    pub hides: f64,
    /// Type of the floats.
    pub dtype: DType,
    /// Whether heads are the third axis of what is given, as behind a layer for all of them: the last of the batch
    /// axes.
    pub heads: bool,
    /// Whether the derivatives of `sum(y * y)` are put out, too.
    pub derivative: bool,
}

impl Attention {
    /// As many products as `batch` says, without a mask.
    pub fn new(batch: &[usize], rows: usize, columns: usize, width: usize) -> Self {
        let batch = batch.to_vec();
        let (mask, dtype) = (Mask::None, DType::F32);
        Self { batch, rows, columns, width, values: width, mask, hides: -1e30, dtype, heads: false, derivative: false }
    }

    /// With a mask.
    pub fn masked(self, mask: Mask) -> Self {
        Self { mask, ..self }
    }

    /// With its derivatives.
    pub fn derived(self) -> Self {
        Self { derivative: true, ..self }
    }

    /// The graph.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::new("attention");
        let query = self.operand(&mut graph, "query", (self.rows, self.width));
        let key = self.operand(&mut graph, "key", (self.columns, self.width));
        let value = self.operand(&mut graph, "value", (self.columns, self.values));
        let batch = self.batch.len();
        let swap: Vec<usize> = (0..batch).chain([batch + 1, batch]).collect();
        let turned = graph.emit(Op::Transpose(swap), &[key.1]);
        let dot = Op::Dot { batch, a_axes: vec![batch + 1], b_axes: vec![batch] };
        let scores = graph.emit(dot.clone(), &[query.1, turned]);
        let ty = graph.ty(scores).clone();
        let quarter = graph.splat(&ty, 0.25);
        let scores = graph.emit(Op::Binary(BinaryOp::Mul), &[scores, quarter]);
        let scores = self.masked_scores(&mut graph, scores);
        let weights = softmax(&mut graph, scores);
        let y = graph.emit(dot, &[weights, value.1]);
        graph.add_output("y", y, OutputKind::Result);
        if self.derivative {
            let square = graph.emit(Op::Binary(BinaryOp::Mul), &[y, y]);
            let axes = (0..batch + 2).collect();
            let loss = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes }, &[square]);
            let given = graph.emit_all(Op::Grad, &[loss, query.0, key.0, value.0]);
            for (name, value) in ["d_query", "d_key", "d_value"].into_iter().zip(given) {
                graph.add_output(name, value, OutputKind::Result);
            }
        }
        graph
    }

    /// An input, and its matrices.
    fn operand(&self, graph: &mut Graph, name: &str, (rows, columns): (usize, usize)) -> (ValueId, ValueId) {
        let batch = self.batch.len();
        let mut dims = [&self.batch[..], &[rows, columns]].concat();
        let mut order: Vec<usize> = (0..batch + 2).collect();
        if self.heads {
            dims.swap(batch - 1, batch);
            order.swap(batch - 1, batch);
        }
        let ty = TensorType::new(self.dtype, Shape::of(&dims));
        let input = graph.emit(Op::Input { name: name.to_owned(), ty }, &[]);
        let matrices = if self.heads { graph.emit(Op::Transpose(order), &[input]) } else { input };
        (input, matrices)
    }

    fn masked_scores(&self, graph: &mut Graph, scores: ValueId) -> ValueId {
        let ty = graph.ty(scores).clone();
        let batch = self.batch.len();
        let square = [self.rows, self.columns];
        let (kept, axes) = match self.mask {
            Mask::None => return scores,
            Mask::Added => {
                let table = TensorType::new(self.dtype, Shape::of(&square));
                let bias = graph.emit(Op::Input { name: "bias".to_owned(), ty: table }, &[]);
                let axes = vec![batch, batch + 1];
                let bias = graph.emit(Op::Broadcast { shape: ty.shape.clone(), axes }, &[bias]);
                return graph.emit(Op::Binary(BinaryOp::Add), &[scores, bias]);
            }
            Mask::Padding => {
                let ty = TensorType::new(DType::Bool, Shape::of(&[self.batch[0], self.columns]));
                (graph.emit(Op::Input { name: "mask".to_owned(), ty }, &[]), vec![0, batch + 1])
            }
            Mask::Causal => {
                let mut count = |size: usize, axis: usize| {
                    let ty = TensorType::new(DType::I32, Shape::of(&[size]));
                    let numbers = graph.emit(Op::Iota { axis: 0, ty }, &[]);
                    graph.emit(Op::Broadcast { shape: Shape::of(&square), axes: vec![axis] }, &[numbers])
                };
                let (rows, columns) = (count(self.rows, 0), count(self.columns, 1));
                (graph.emit(Op::Compare(CompareOp::Le), &[columns, rows]), vec![batch, batch + 1])
            }
        };
        let kept = graph.emit(Op::Broadcast { shape: ty.shape.clone(), axes }, &[kept]);
        let nothing = graph.splat(&ty, self.hides);
        graph.emit(Op::Select, &[kept, scores, nothing])
    }
}

/// Over the last axis; the largest element cancels, so nothing is derived by it.
fn softmax(graph: &mut Graph, x: ValueId) -> ValueId {
    let shape = graph.ty(x).shape.clone();
    let last = shape.rank() - 1;
    let reduce = |graph: &mut Graph, op: ReduceOp, x: ValueId| {
        let row = graph.emit(Op::Reduce { op, axes: vec![last] }, &[x]);
        graph.emit(Op::Broadcast { shape: shape.clone(), axes: (0..last).collect() }, &[row])
    };
    let largest = reduce(graph, ReduceOp::Max, x);
    let largest = graph.emit(Op::StopGradient, &[largest]);
    let shifted = graph.emit(Op::Binary(BinaryOp::Sub), &[x, largest]);
    let e = graph.emit(Op::Unary(UnaryOp::Exp), &[shifted]);
    let sum = reduce(graph, ReduceOp::Sum, e);
    graph.emit(Op::Binary(BinaryOp::Div), &[e, sum])
}
