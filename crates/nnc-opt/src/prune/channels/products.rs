//! Channels through products: `dot`, convolutions and their transposes.
//!
//! What is summed over may be shortened where one factor vanishes there. A convolution of single channels (depthwise)
//! loses groups: a channel of the image, its filters and what they make go together. One of larger groups loses the
//! same places in each group, so that the groups stay alike.

use super::known::Known;
use super::labels::{Axis, Fixed, Labels};
use nnc_graph::Dim;

/// The contraction of two values.
pub fn dot(a: &Known, b: &Known, batch: usize, (a_axes, b_axes): (&[usize], &[usize]), labels: &mut Labels) -> Known {
    for (&i, &j) in a_axes.iter().zip(b_axes) {
        contract((a, i), (b, j), labels);
    }
    let mut made = Known { zero: a.zero || b.zero, ..Known::default() };
    for axis in 0..batch {
        labels.join_axes(&a.axes[axis], &b.axes[axis]);
        made.axes.push(a.axes[axis].clone());
        made.vanishes.push(a.vanishes_along(axis) || b.vanishes_along(axis));
    }
    for (factor, contracted) in [(a, a_axes), (b, b_axes)] {
        for axis in (batch..factor.axes.len()).filter(|axis| !contracted.contains(axis)) {
            made.axes.push(factor.axes[axis].clone());
            made.vanishes.push(factor.vanishes_along(axis));
        }
    }
    made
}

/// What is summed over shares its labels, and stays if what goes would count.
fn contract((a, i): (&Known, usize), (b, j): (&Known, usize), labels: &mut Labels) {
    labels.join_axes(&a.axes[i], &b.axes[j]);
    if !a.vanishes_along(i) && !b.vanishes_along(j) {
        labels.fix_axis(&a.axes[i], Fixed::Reduced);
    }
}

/// How the channels of a convolution's weights `[Co, Ci, ...K]` are those of its images.
struct Filters<'k> {
    weights: &'k Known,
    groups: usize,
}

impl Filters<'_> {
    /// Each filter reads one channel of its own.
    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.weights.axes[1].len() == 1
    }

    /// The labels of the outputs; those of the groups are joined, or with `images` where each has one.
    fn outputs(&self, labels: &mut Labels) -> Axis {
        let outputs = &self.weights.axes[0];
        let group = outputs.len() / self.groups;
        for (at, &label) in outputs.iter().enumerate() {
            let other = if self.is_depthwise() { at / group * group } else { at % group };
            labels.join(outputs[other], label);
        }
        outputs.clone()
    }

    /// The labels of the inputs, of all groups.
    fn inputs(&self, labels: &mut Labels) -> Axis {
        if !self.is_depthwise() {
            return self.weights.axes[1].repeat(self.groups);
        }
        labels.fix_axis(&self.weights.axes[1], Fixed::Places);
        let outputs = &self.weights.axes[0];
        outputs.iter().copied().step_by(outputs.len() / self.groups).collect()
    }

    /// Whether the weights are 0 at inputs that go.
    fn vanish_at_inputs(&self) -> bool {
        self.weights.vanishes_along(if self.is_depthwise() { 0 } else { 1 })
    }
}

/// A convolution of `x [N, G*Ci, ...X]`, or with `transposed` its transpose, of `[N, Co, ...Y]`. `sizes` are the
/// result's.
pub fn conv((x, w): (&Known, &Known), groups: &Dim, transposed: bool, sizes: &[usize], labels: &mut Labels) -> Known {
    for spatial in 2..x.axes.len() {
        labels.fix_axis(&x.axes[spatial], Fixed::Places);
        labels.fix_axis(&w.axes[spatial], Fixed::Places);
    }
    let filters = Filters { weights: w, groups: groups.size() };
    let (outputs, inputs) = (filters.outputs(labels), filters.inputs(labels));
    let at_inputs = filters.vanish_at_inputs();
    let (read, made) = if transposed { (outputs, inputs) } else { (inputs, outputs) };
    let at_outputs = w.vanishes_along(0);
    let (weights_read, weights_made) = if transposed { (at_outputs, at_inputs) } else { (at_inputs, at_outputs) };
    labels.join_axes(&x.axes[1], &read);
    if !weights_read && !x.vanishes_along(1) {
        labels.fix_axis(&read, Fixed::Reduced);
    }
    let mut result = Known::fixed(sizes, Fixed::Places);
    result.axes[0] = x.axes[0].clone();
    result.axes[1] = made;
    result.vanishes[0] = x.vanishes_along(0);
    result.vanishes[1] = weights_made || (filters.is_depthwise() && x.vanishes_along(1));
    result.zero = x.zero || w.zero;
    result
}
