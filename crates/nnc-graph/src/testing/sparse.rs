//! Products and convolutions by constant weights with many zeros, in the shapes that sparse kernels tell apart.

use super::{Rng, random_tensor};
use crate::{BinaryOp, ConvAttributes, DType, Dim, Graph, Op, OutputKind, Shape, Tensor, TensorType, ValueId};

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
    finish(&mut graph, y);
    graph
}

/// Adds a bias along the last axis and a rectifier, and makes that the result.
fn finish(graph: &mut Graph, y: ValueId) {
    let ty = graph.ty(y).clone();
    let last = ty.shape.rank() - 1;
    let bias = TensorType::new(DType::F32, Shape(vec![ty.shape[last].clone()]));
    let bias = graph.emit(Op::Param { path: "b".to_owned(), ty: bias }, &[]);
    let bias = graph.emit(Op::Broadcast { shape: ty.shape.clone(), axes: vec![last] }, &[bias]);
    let y = graph.emit(Op::Binary(BinaryOp::Add), &[y, bias]);
    let zero = graph.splat(&ty, 0.0);
    let y = graph.emit(Op::Binary(BinaryOp::Max), &[y, zero]);
    graph.add_output("y", y, OutputKind::Result);
}

/// A convolution to order, with channels last.
#[derive(Clone, Copy, Debug)]
pub struct SparseConvolution {
    /// Images, lines, places of a line, channels.
    pub image: [usize; 4],
    /// Output channels.
    pub columns: usize,
    /// Taps along both axes.
    pub taps: [usize; 2],
    /// Distance of windows along both axes.
    pub stride: [usize; 2],
    /// Distance of taps.
    pub dilation: usize,
    /// Zeros around the image.
    pub padding: usize,
    /// So many neighbouring output channels are zero together.
    pub block: usize,
    /// The share of zeros among the weights, about.
    pub sparsity: f64,
}

impl SparseConvolution {
    /// A small one of single elements: 3 x 3 taps, hardly one weight in twenty.
    pub const SMALL: Self = Self {
        image: [1, 9, 11, 40],
        columns: 48,
        taps: [3, 3],
        stride: [1, 1],
        dilation: 1,
        padding: 1,
        block: 1,
        sparsity: 0.95,
    };
}

/// `max(conv(x, w) + b, 0)` with a constant sparse `w`.
pub fn sparse_convolution(of: &SparseConvolution, seed: u64) -> Graph {
    let mut graph = Graph::new("sparse");
    let ty = TensorType::new(DType::F32, Shape::of(&of.image));
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty }, &[]);
    let depth = of.image[3] * of.taps[0] * of.taps[1];
    let SparseConvolution { columns, sparsity, block, .. } = *of;
    let weights = SparseProduct { rows: 0, depth, columns, block, sparsity, turned: true };
    let dims = [columns, of.image[3], of.taps[0], of.taps[1]];
    let w = graph.emit(Op::Constant(Tensor::from_f64(DType::F32, &dims, &matrix(&weights, seed).to_f64())), &[]);
    let both = |numbers: [usize; 2]| numbers.map(|number| Dim::from(number as i64)).to_vec();
    let attributes = ConvAttributes {
        stride: both(of.stride),
        low: both([of.padding; 2]),
        high: both([of.padding; 2]),
        dilation: both([of.dilation; 2]),
        groups: Dim::from(1i64),
    };
    let y = graph.emit(Op::ConvLast(attributes), &[x, w]);
    finish(&mut graph, y);
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
