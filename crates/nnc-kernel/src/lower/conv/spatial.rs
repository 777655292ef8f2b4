//! The two spatial axes of a convolution, as the lowerings of it and of its transposes walk them.

use super::image::Axis;
use crate::lower::LowerError;
use nnc_graph::{ConvAttributes, Dim};

/// The two spatial axes of a convolution: one-dimensional ones get a first axis of size 1.
pub struct Spatial {
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Zeros before.
    pub low: [usize; 2],
    /// Distance of taps.
    pub dilation: [usize; 2],
    /// Number of taps.
    pub taps: [usize; 2],
    /// Sizes of `x`.
    pub input: [usize; 2],
    /// Sizes of `y`.
    pub output: [usize; 2],
    /// Channel groups.
    pub groups: usize,
}

impl Spatial {
    /// From attributes and the spatial sizes of image, kernel and result.
    ///
    /// # Errors
    /// More than two spatial axes.
    pub fn new(at: &ConvAttributes, x: &[usize], kernel: &[usize], y: &[usize]) -> Result<Self, LowerError> {
        let sizes = |dims: &[Dim]| dims.iter().map(Dim::size).collect::<Vec<_>>();
        let pair = |values: &[usize], neutral: usize| match *values {
            [only] => Ok([neutral, only]),
            [first, second] => Ok([first, second]),
            _ => Err(LowerError::Unsupported(format!("convolutions with {} spatial axes", values.len()))),
        };
        Ok(Self {
            stride: pair(&sizes(&at.stride), 1)?,
            low: pair(&sizes(&at.low), 0)?,
            dilation: pair(&sizes(&at.dilation), 1)?,
            taps: pair(kernel, 1)?,
            input: pair(x, 1)?,
            output: pair(y, 1)?,
            groups: at.groups.size(),
        })
    }

    /// The axes of the forward direction.
    pub fn forward(&self) -> [Axis; 2] {
        [0, 1].map(|i| Axis {
            source: self.input[i],
            insert: 1,
            low: self.low[i] as i64,
            taps: self.taps[i],
            dilation: self.dilation[i],
            windows: self.output[i],
            step: self.stride[i],
        })
    }

    /// The axes of the transpose: windows over the cotangent, its elements a stride apart.
    pub fn backward(&self) -> [Axis; 2] {
        [0, 1].map(|i| Axis {
            source: self.output[i],
            insert: self.stride[i],
            low: ((self.taps[i] - 1) * self.dilation[i]) as i64 - self.low[i] as i64,
            taps: self.taps[i],
            dilation: self.dilation[i],
            windows: self.input[i],
            step: 1,
        })
    }
}
