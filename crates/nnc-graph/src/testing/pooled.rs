//! Windows over what a convolution with channels last makes, as networks have them after the move of channels.

use super::input;
use crate::{
    BinaryOp, ConvAttributes, Dim, Graph, Op, OutputKind, Shape, UnaryOp, ValueId, WindowAttributes, WindowOp,
};

/// `window(relu(conv(x, w) + b))` of images `x [images, high, wide, channels]`.
#[derive(Clone, Debug)]
pub struct PooledConvolution {
    /// How many images.
    pub images: usize,
    /// Their size.
    pub size: [usize; 2],
    /// Channels of the images, and of what is made of them.
    pub channels: [usize; 2],
    /// Taps of the kernel along both axes, an odd number; the image is padded so that it keeps its size.
    pub taps: usize,
    /// What is taken of each window.
    pub op: WindowOp,
    /// The size of windows along both axes.
    pub window: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Padding before the first window.
    pub low: usize,
    /// Whether something else of the size of the image is added before the rectifier.
    pub residual: bool,
    /// Whether something is computed of the windows.
    pub after: bool,
    /// Whether what the windows are over is put out, too, and a comparison of it.
    pub stored: bool,
}

impl PooledConvolution {
    /// The largest elements of squares of `window` places, side by side, of one image.
    pub fn new(size: [usize; 2], channels: [usize; 2], taps: usize, window: usize) -> Self {
        Self {
            images: 1,
            size,
            channels,
            taps,
            op: WindowOp::Max,
            window: [window; 2],
            stride: [window; 2],
            low: 0,
            residual: false,
            after: false,
            stored: false,
        }
    }

    /// The graph. Its results are `y`, and if asked for `image` and `positive`.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::new("pooled");
        let ([high, wide], [from, to]) = (self.size, self.channels);
        let dims = [self.images, high, wide, to];
        let x = input(&mut graph, "x", &[self.images, high, wide, from]);
        let w = input(&mut graph, "w", &[to, from, self.taps, self.taps]);
        let b = input(&mut graph, "b", &[to]);
        let both = |number: usize| vec![Dim::from(number); 2];
        let (low, high) = (both(self.taps / 2), both(self.taps / 2));
        let attributes = ConvAttributes { stride: both(1), low, high, dilation: both(1), groups: Dim::from(1i64) };
        let conv = graph.emit(Op::ConvLast(attributes), &[x, w]);
        let b = graph.emit(Op::Broadcast { shape: Shape::of(&dims), axes: vec![3] }, &[b]);
        let mut image = graph.emit(Op::Binary(BinaryOp::Add), &[conv, b]);
        if self.residual {
            let residual = input(&mut graph, "residual", &dims);
            image = graph.emit(Op::Binary(BinaryOp::Add), &[image, residual]);
        }
        let zeros = graph.ty(image).clone();
        let zeros = graph.splat(&zeros, 0.0);
        let rectified = graph.emit(Op::Binary(BinaryOp::Max), &[image, zeros]);
        if self.stored {
            let positive = graph.emit(Op::Compare(crate::CompareOp::Gt), &[image, zeros]);
            graph.add_output("image", rectified, OutputKind::Result);
            graph.add_output("positive", positive, OutputKind::Result);
        }
        let y = self.windows(&mut graph, rectified, dims);
        graph.add_output("y", y, OutputKind::Result);
        graph
    }

    fn windows(&self, graph: &mut Graph, image: ValueId, [images, high, wide, channels]: [usize; 4]) -> ValueId {
        let one_channel = graph.emit(Op::Reshape(Shape::of(&[images, 1, high, wide, channels])), &[image]);
        let along = |of: [usize; 2], channel: usize| [of[0], of[1], channel].map(Dim::from).to_vec();
        let attributes = WindowAttributes {
            size: along(self.window, 1),
            stride: along(self.stride, 1),
            low: along([self.low; 2], 0),
            high: along([0; 2], 0),
        };
        let y = graph.emit(Op::Window { op: self.op, attributes }, &[one_channel]);
        let dims = graph.ty(y).shape.sizes();
        let y = graph.emit(Op::Reshape(Shape::of(&[dims[0], dims[2], dims[3], dims[4]])), &[y]);
        if self.after { graph.emit(Op::Unary(UnaryOp::Tanh), &[y]) } else { y }
    }
}
