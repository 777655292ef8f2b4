//! Products of rows by a constant matrix with many zeros, in the shapes that sparse kernels tell apart.

use super::{Rng, random_tensor};
use crate::{BinaryOp, DType, Graph, Op, OutputKind, Shape, Tensor, TensorType};

/// A product to order.
#[derive(Clone, Copy, Debug)]
pub struct SparseProduct {
    /// Rows of the left factor.
    pub rows: usize,
    /// Terms of a sum.
    pub depth: usize,
    /// Columns of the result.
    pub columns: usize,
    /// So many neighbouring columns are zero together.
    pub block: usize,
    /// The share of zeros, about.
    pub sparsity: f64,
    /// Whether the matrix is `[columns, depth]`.
    pub turned: bool,
}

/// `max(x @ (w * s) + b, 0)` with a constant sparse `w`, and a parameter `s` of one factor for each element.
pub fn sparse_product(product: &SparseProduct, seed: u64) -> Graph {
    let SparseProduct { rows, depth, columns, .. } = *product;
    let mut graph = Graph::new("sparse");
    let float = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty: float(&[rows, depth]) }, &[]);
    let dims = if product.turned { [columns, depth] } else { [depth, columns] };
    let w = graph.emit(Op::Constant(matrix(product, seed)), &[]);
    let scale = graph.emit(Op::Param { path: "s".to_owned(), ty: float(&dims) }, &[]);
    let w = graph.emit(Op::Binary(BinaryOp::Mul), &[w, scale]);
    let b_axes = vec![usize::from(product.turned)];
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes }, &[x, w]);
    let bias = graph.emit(Op::Param { path: "b".to_owned(), ty: float(&[columns]) }, &[]);
    let bias = graph.emit(Op::Broadcast { shape: Shape::of(&[rows, columns]), axes: vec![1] }, &[bias]);
    let y = graph.emit(Op::Binary(BinaryOp::Add), &[y, bias]);
    let zero = graph.splat(&float(&[rows, columns]), 0.0);
    let y = graph.emit(Op::Binary(BinaryOp::Max), &[y, zero]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

fn matrix(product: &SparseProduct, seed: u64) -> Tensor {
    let SparseProduct { depth, columns, block, .. } = *product;
    let mut rng = Rng::new(seed);
    let blocks = columns.div_ceil(block);
    let kept: Vec<bool> = (0..depth * blocks).map(|_| rng.float(0.0, 1.0) >= product.sparsity).collect();
    let dims = if product.turned { [columns, depth] } else { [depth, columns] };
    let mut values = random_tensor(&mut rng, DType::F32, &dims).to_f64();
    for (at, value) in values.iter_mut().enumerate() {
        let (first, second) = (at / dims[1], at % dims[1]);
        let (k, column) = if product.turned { (second, first) } else { (first, second) };
        // The first element is always zero, so that the pattern has one.
        if at == 0 || !kept[k * blocks + column / block] {
            *value = 0.0;
        }
    }
    Tensor::from_f64(DType::F32, &dims, &values)
}
