//! Scores of blocks of a weight, for `prune(..., block=[1, 16])`: the mean of a block in the place of each of its
//! scores.
//!
//! A weight is seen as a matrix of inputs by outputs: the axis of outputs is told by whoever knows products
//! ([`Unit::outputs`]), all others, in their order, are inputs. A block is so many neighbouring inputs by so many
//! neighbouring outputs; those at an edge are smaller, and have the mean of what they are. So equal blocks are judged
//! as `nnc prune --block` judges them.
//!
//! [`Unit::outputs`]: super::super::entry::Unit::outputs

use nnc_graph::{BinaryOp, Dim, Graph, Op, ReduceOp, Shape, SliceRange, Tensor, ValueId};

/// Inputs and outputs of a block.
pub(super) type Block = [usize; 2];

/// Each element by itself.
pub(super) const ELEMENT: Block = [1, 1];

/// Whether a weight of these dims has a whole block.
pub(super) fn fits([rows, columns]: Block, dims: &[usize], outputs: usize) -> bool {
    let inputs: usize = dims.iter().product::<usize>() / dims[outputs].max(1);
    inputs >= rows && dims[outputs] >= columns
}

/// Appends the mean of its block for each of the scores, whose dims are bound.
pub(super) fn means(graph: &mut Graph, scores: ValueId, outputs: usize, block: Block) -> ValueId {
    let ty = graph.ty(scores).clone();
    let dims = ty.shape.sizes();
    let order: Vec<usize> = (0..dims.len()).filter(|&axis| axis != outputs).chain([outputs]).collect();
    let turned = graph.emit(Op::Transpose(order.clone()), &[scores]);
    let turned_shape = graph.ty(turned).shape.clone();
    let sides = [dims.iter().product::<usize>() / dims[outputs].max(1), dims[outputs]];
    let matrix = graph.emit(Op::Reshape(Shape::of(&sides)), &[turned]);
    let counts = [0, 1].map(|side| sides[side].div_ceil(block[side]));
    let missing = [0, 1].map(|side| Dim::from(counts[side] * block[side] - sides[side]));
    let zero = graph.scalar(ty.dtype, 0.0);
    let none = vec![Dim::from(0usize); 2];
    let padded = graph.emit(Op::Pad { low: none, high: missing.to_vec() }, &[matrix, zero]);
    let apart = Shape::of(&[counts[0], block[0], counts[1], block[1]]);
    let blocks = graph.emit(Op::Reshape(apart.clone()), &[padded]);
    let sums = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![1, 3] }, &[blocks]);
    let elements = Tensor::from_f64(ty.dtype, &counts, &elements(sides, block, counts));
    let elements = graph.emit(Op::Constant(elements), &[]);
    let means = graph.emit(Op::Binary(BinaryOp::Div), &[sums, elements]);
    let spread = graph.emit(Op::Broadcast { shape: apart, axes: vec![0, 2] }, &[means]);
    let padded = Shape::of(&[counts[0] * block[0], counts[1] * block[1]]);
    let spread = graph.emit(Op::Reshape(padded), &[spread]);
    let ranges = sides.map(|size| SliceRange { start: 0usize.into(), size: size.into(), step: 1 });
    let matrix = graph.emit(Op::Slice(ranges.to_vec()), &[spread]);
    let turned = graph.emit(Op::Reshape(turned_shape), &[matrix]);
    let back = (0..dims.len()).map(|axis| order.iter().position(|&from| from == axis).unwrap_or(axis)).collect();
    graph.emit(Op::Transpose(back), &[turned])
}

/// The number of elements of each block, row by row.
fn elements(sides: [usize; 2], block: Block, counts: [usize; 2]) -> Vec<f64> {
    let along = |side: usize, at: usize| block[side].min(sides[side] - at * block[side]);
    let all = (0..counts[0]).flat_map(|row| (0..counts[1]).map(move |column| (row, column)));
    all.map(|(row, column)| (along(0, row) * along(1, column)) as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nnc_graph::{DType, OutputKind, interpret};
    use std::collections::BTreeMap;

    fn found(dims: &[usize], outputs: usize, block: Block, values: &[f64]) -> Vec<f64> {
        let mut graph = Graph::new("means");
        let scores = graph.emit(Op::Constant(Tensor::from_f64(DType::F32, dims, values)), &[]);
        let means = means(&mut graph, scores, outputs, block);
        graph.add_output("means", means, OutputKind::Result);
        interpret::run(&graph, &BTreeMap::new()).unwrap().value(means).to_f64()
    }

    #[test]
    fn blocks_lie_along_outputs_wherever_that_axis_is() {
        // [outputs 4, inputs 2]: as a matrix of inputs by outputs, rows are [1, 3, 9, 1] and [5, 5, 5, 7].
        let means = found(&[4, 2], 0, [1, 2], &[1., 5., 3., 5., 9., 5., 1., 7.]);
        assert_eq!(means, [2., 5., 2., 5., 5., 6., 5., 6.]);
    }

    #[test]
    fn blocks_at_an_edge_have_the_mean_of_what_they_are() {
        let means = found(&[3, 3], 1, [2, 2], &[1., 2., 3., 5., 4., 5., 7., 9., 6.]);
        assert_eq!(means, [3., 3., 4., 3., 3., 4., 8., 8., 6.]);
    }

    #[test]
    fn channels_of_convolutions_are_outputs_and_the_rest_are_inputs() {
        let means = found(&[2, 1, 1, 2], 0, [2, 1], &[1., 3., 10., 30.]);
        assert_eq!(means, [2., 2., 20., 20.]);
        assert!(fits([2, 2], &[2, 1, 1, 2], 0) && !fits([3, 1], &[2, 1, 1, 2], 0) && !fits([1, 3], &[2, 1, 1, 2], 0));
    }
}
