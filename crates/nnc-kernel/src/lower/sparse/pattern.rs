//! Where a constant matrix is not zero.
//!
//! The pattern of a value is known when it is a constant of the graph, or made of one by ops under which zeros stay
//! zeros: views, and products with whatever else, as when factors of channels are absorbed into weights. Values
//! themselves may be known only when the program runs.

use nnc_graph::{BinaryOp, Graph, Op, Tensor, ValueId, is_zero};
use nnc_opt::fuse::Layout;

/// Which elements of a matrix `[columns, depth]` may be other than zero.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// Columns of the product: outputs.
    pub columns: usize,
    /// Terms of each sum: inputs.
    pub depth: usize,
    /// Row-major.
    kept: Vec<bool>,
}

impl Pattern {
    /// The pattern of a factor whose axes in `order` are first those of columns, then the contracted ones; `None` when
    /// it has none that is known at compile time.
    pub fn of(graph: &Graph, value: ValueId, order: &[usize], (columns, depth): (usize, usize)) -> Option<Self> {
        let dims = graph.ty(value).shape.sizes();
        let kept = permuted(&nonzero(graph, value)?, &dims, order);
        Some(Self { columns, depth, kept })
    }

    /// A pattern by itself.
    #[cfg(test)]
    pub fn new(columns: usize, depth: usize, kept: impl Fn(usize, usize) -> bool) -> Self {
        let at = (0..columns).flat_map(|column| (0..depth).map(move |k| (column, k)));
        Self { columns, depth, kept: at.map(|(column, k)| kept(column, k)).collect() }
    }

    /// Whether an element may be other than zero; nothing lies beyond the last column.
    pub fn is_kept(&self, column: usize, k: usize) -> bool {
        column < self.columns && self.kept[column * self.depth + k]
    }

    /// The terms of a column.
    pub fn terms(&self, column: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.depth).filter(move |&k| self.is_kept(column, k))
    }

    /// The terms of a column within a range, counted from its start.
    pub fn terms_within(&self, column: usize, range: std::ops::Range<usize>) -> Vec<usize> {
        let within = range.start..range.end.min(self.depth);
        within.filter(|&k| self.is_kept(column, k)).map(|k| k - range.start).collect()
    }

    /// How many elements are kept.
    pub fn count(&self) -> usize {
        self.kept.iter().filter(|&&kept| kept).count()
    }

    /// The share of zeros.
    pub fn sparsity(&self) -> f64 {
        1.0 - self.count() as f64 / self.kept.len().max(1) as f64
    }

    /// An element that is zero.
    pub fn a_zero(&self) -> Option<(usize, usize)> {
        let at = self.kept.iter().position(|&kept| !kept)?;
        Some((at / self.depth, at % self.depth))
    }
}

/// For each element of a value, row-major, whether it may be other than zero.
fn nonzero(graph: &Graph, value: ValueId) -> Option<Vec<bool>> {
    let node = graph.definition(value);
    match &node.op {
        Op::Constant(tensor) => has_zeros(tensor),
        Op::Reshape(_) | Op::StopGradient => nonzero(graph, node.operands[0]),
        Op::Transpose(order) => {
            let dims = graph.ty(node.operands[0]).shape.sizes();
            Some(permuted(&nonzero(graph, node.operands[0])?, &dims, order))
        }
        Op::Binary(BinaryOp::Mul) => nonzero(graph, node.operands[0]).or_else(|| nonzero(graph, node.operands[1])),
        Op::Binary(BinaryOp::Div) => nonzero(graph, node.operands[0]),
        _ => None,
    }
}

/// The pattern of a constant of floats that has zeros.
fn has_zeros(tensor: &Tensor) -> Option<Vec<bool>> {
    let size = tensor.dtype().size();
    let kept: Vec<bool> = tensor.bytes().chunks_exact(size).map(|element| !is_zero(element)).collect();
    (tensor.dtype().is_float() && kept.len() > 1 && kept.contains(&false)).then_some(kept)
}

/// Elements in the order of permuted axes.
fn permuted(kept: &[bool], dims: &[usize], order: &[usize]) -> Vec<bool> {
    let strides = Layout::contiguous(dims).strides;
    let mut offsets = vec![0];
    for &axis in order {
        let along = |offset: &usize| {
            let offset = *offset;
            (0..dims[axis]).map(move |at| (at, offset))
        };
        offsets = offsets.iter().flat_map(along).map(|(at, offset)| offset + at * strides[axis] as usize).collect();
    }
    offsets.into_iter().map(|offset| kept[offset]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nnc_graph::{DType, Shape, TensorType};

    #[test]
    fn zeros_are_followed_through_views_and_products() {
        let mut graph = Graph::new("g");
        let w = graph.emit(Op::Constant(Tensor::from_f64(DType::F32, &[2, 3], &[1., 0., 2., 0., -0., 3.])), &[]);
        let scale = Op::Param { path: "s".to_owned(), ty: TensorType::new(DType::F32, Shape::of(&[2, 3])) };
        let scale = graph.emit(scale, &[]);
        let product = graph.emit(Op::Binary(BinaryOp::Mul), &[w, scale]);
        let turned = graph.emit(Op::Transpose(vec![1, 0]), &[product]);
        let pattern = Pattern::of(&graph, turned, &[1, 0], (2, 3)).unwrap();
        assert_eq!(
            (0..2).map(|column| pattern.terms(column).collect()).collect::<Vec<Vec<_>>>(),
            [vec![0, 2], vec![2]]
        );
        assert_eq!((pattern.count(), pattern.a_zero()), (3, Some((0, 1))));
        assert!(Pattern::of(&graph, scale, &[0, 1], (2, 3)).is_none());
    }
}
