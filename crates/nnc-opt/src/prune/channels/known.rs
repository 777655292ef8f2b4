//! What is known of a value while channels are followed: the labels along its axes, and whether it is 0 at a channel
//! that goes.
//!
//! The contract of pruning is that of a network whose coupled weights are zeroed: there a channel that goes has zero
//! weights wherever it is made and wherever it is read. A sum over channels may only be shortened where what goes adds
//! nothing, so what a channel that goes is worth is followed, too: a convolution without weights gives 0, `relu` of it
//! as well, but not `sigmoid`.

use super::labels::{Axis, Fixed, Labels};

/// What is known of a value.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The labels along each axis.
    pub axes: Vec<Axis>,
    /// For each axis, whether the value is 0 wherever a position along it goes.
    pub vanishes: Vec<bool>,
    /// Whether it is 0 everywhere.
    pub zero: bool,
}

impl Known {
    /// Labels of a value that is not 0 anywhere by what is pruned.
    pub fn solid(axes: Vec<Axis>) -> Self {
        let vanishes = vec![false; axes.len()];
        Self { axes, vanishes, zero: false }
    }

    /// A value of these sizes that stays as it is.
    pub fn fixed(sizes: &[usize], reason: Fixed) -> Self {
        Self::solid(sizes.iter().map(|&size| reason.axis(size)).collect())
    }

    /// A value of these sizes that nobody has seen before, and that vanishes with its channels: a weight.
    pub fn weight(sizes: &[usize], labels: &mut Labels) -> Self {
        let axes: Vec<Axis> = sizes.iter().map(|&size| labels.fresh(size)).collect();
        Self { vanishes: vec![true; axes.len()], axes, zero: false }
    }

    /// Whether it is 0 where a position along an axis goes.
    pub fn vanishes_along(&self, axis: usize) -> bool {
        self.zero || self.vanishes[axis]
    }

    /// The same value with its axes in another order, or some of them.
    pub fn with_axes(&self, order: impl Iterator<Item = usize> + Clone) -> Self {
        Self {
            axes: order.clone().map(|axis| self.axes[axis].clone()).collect(),
            vanishes: order.map(|axis| self.vanishes[axis]).collect(),
            zero: self.zero,
        }
    }

    /// Says that this stays, whatever it is made of.
    pub fn fix(&self, labels: &mut Labels, reason: Fixed) {
        self.axes.iter().for_each(|axis| labels.fix_axis(axis, reason));
    }

    /// The value whose channels are these and those of another, of one shape.
    pub fn join(&self, other: &Self, labels: &mut Labels) {
        self.axes.iter().zip(&other.axes).for_each(|(a, b)| labels.join_axes(a, b));
    }
}
