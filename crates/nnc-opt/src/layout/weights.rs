//! Convolutions of whole images, and transposes of convolutions in the weights, as products.

use super::{Layout, is_filled, is_of_places};
use nnc_graph::{Dim, Node, Op, Shape, ValueId};

impl Layout<'_> {
    /// Weights `[Co, Ci, ...K]` as `[Co, ...K * Ci]`: a row is a window with channels last.
    pub(super) fn kernel_rows(&mut self, w: ValueId, kernel: &Shape) -> ValueId {
        let order = nnc_graph::channels_last(kernel.rank());
        let w = self.rewriter.emit(Op::Transpose(order), &[w]);
        let rows = vec![kernel[0].clone(), super::product(&kernel.0[1..])];
        self.rewriter.emit(Op::Reshape(rows.into()), &[w])
    }

    /// The images of a value with channels last, a row for each.
    fn image_rows(&mut self, x: ValueId) -> ValueId {
        let dims = self.rewriter.ty(x).shape.0.clone();
        let rows = vec![dims[0].clone(), super::product(&dims[1..])];
        self.rewriter.emit(Op::Reshape(rows.into()), &[x])
    }

    /// A convolution whose only window is the whole image.
    pub(super) fn whole(&mut self, x: ValueId, w: ValueId, kernel: &Shape) -> ValueId {
        let (rows, w) = (self.image_rows(x), self.kernel_rows(w, kernel));
        let y = self.rewriter.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![1] }, &[rows, w]);
        let mut dims = vec![Dim::from(1i64); kernel.rank()];
        (dims[0], dims[kernel.rank() - 1]) = (self.rewriter.ty(x).shape[0].clone(), kernel[0].clone());
        self.rewriter.emit(Op::Reshape(dims.into()), &[y])
    }

    /// Whether a node is a transpose in the weights that is a product of rows; then that stands for it.
    pub(super) fn weight_grad(&mut self, node: &Node) -> bool {
        let Op::ConvWeightGrad { attributes, .. } = &node.op else { return false };
        let old = self.rewriter.old();
        let (x, kernel) = (&old.ty(node.operands[0]).shape, &old.ty(node.results[0]).shape);
        let has_last = node.operands.iter().any(|operand| self.last[operand.index()].is_some());
        let (fills, of_places) = (is_filled(attributes, [x, kernel]), is_of_places(attributes, kernel));
        if !has_last || !(fills || of_places) {
            return false;
        }
        let [x, dy] = [node.operands[0], node.operands[1]].map(|operand| self.with_channels_last(operand));
        let rows = |layout: &mut Self, value| match fills {
            true => layout.image_rows(value),
            false => layout.places(value),
        };
        let (x, dy) = (rows(self, x), rows(self, dy));
        let dw = self.rewriter.emit(Op::Dot { batch: 0, a_axes: vec![0], b_axes: vec![0] }, &[dy, x]);
        let dw = self.rewriter.emit(Op::Reshape(super::permuted(&kernel.0).into()), &[dw]);
        let dw = self.rewriter.emit(Op::Transpose(nnc_graph::channels_first(kernel.rank())), &[dw]);
        self.rewriter.replace(node.results[0], dw);
        true
    }
}
