//! Labels of channels: which positions along which axes stay or go together.
//!
//! Each position along each axis of each value has a label, and labels that must share their fate are joined by
//! union-find (Tarjan, "Efficiency of a Good but not Linear Set Union Algorithm", 1975). Labels of a position are finer
//! than labels of an axis: a concatenation, a slice or a layer of gates relates parts of an axis, and no offsets need
//! be kept.
//!
//! The first labels stand for reasons to stay. What is joined with one of them is fixed for that reason, and no two
//! positions are joined by being fixed alike.

use std::fmt;

/// The label of a position.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Label(u32);

impl Label {
    /// Whether it stands for a reason to stay.
    pub fn is_reason(self) -> bool {
        (self.0 as usize) < Fixed::ALL.len()
    }
}

/// The labels along an axis, one for each position.
pub type Axis = Vec<Label>;

/// Why channels stay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fixed {
    /// They come from outside.
    Input,
    /// They are given to whoever runs the network.
    Output,
    /// They are no channels: places of an image, taps of a kernel, steps of a loop.
    Places,
    /// Other channels are compared with them, or measured by them together, as by `softmax` and `layer_norm`.
    Reduced,
    /// A number says which they are.
    Numbered,
    /// A reshape mixes them with others.
    Mixed,
    /// A slice takes every so-manieth.
    Stepped,
    /// An operation that is not followed reads or makes them.
    NotFollowed,
}

impl Fixed {
    const ALL: [Self; 8] = [
        Self::Input,
        Self::Output,
        Self::Places,
        Self::Reduced,
        Self::Numbered,
        Self::Mixed,
        Self::Stepped,
        Self::NotFollowed,
    ];

    /// The label of what is fixed for this reason.
    pub fn label(self) -> Label {
        Label(self as u32)
    }

    /// An axis that is fixed for this reason.
    pub fn axis(self, size: usize) -> Axis {
        vec![self.label(); size]
    }
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "an input",
            Self::Output => "an output",
            Self::Places => "places",
            Self::Reduced => "measured together",
            Self::Numbered => "counted or picked",
            Self::Mixed => "mixed by a reshape",
            Self::Stepped => "sliced in steps",
            Self::NotFollowed => "not followed",
        })
    }
}

/// All labels, and what they are joined with.
#[derive(Clone, Debug)]
pub struct Labels {
    parents: Vec<Label>,
    /// Of the first label of a class, why the class stays.
    fixed: Vec<Option<Fixed>>,
}

impl Default for Labels {
    fn default() -> Self {
        let reasons = Fixed::ALL;
        Self {
            parents: reasons.iter().map(|reason| reason.label()).collect(),
            fixed: reasons.into_iter().map(Some).collect(),
        }
    }
}

impl Labels {
    /// New labels, joined with nothing.
    pub fn fresh(&mut self, size: usize) -> Axis {
        let first = self.parents.len() as u32;
        let axis: Axis = (first..first + size as u32).map(Label).collect();
        self.parents.extend(&axis);
        self.fixed.resize(self.parents.len(), None);
        axis
    }

    /// The label that stands for all that a label is joined with.
    pub fn class(&self, mut label: Label) -> Label {
        while self.parents[label.0 as usize] != label {
            label = self.parents[label.0 as usize];
        }
        label
    }

    /// Why a label stays, if it must.
    pub fn fixed(&self, label: Label) -> Option<Fixed> {
        self.fixed[self.class(label).0 as usize]
    }

    /// Joins two labels. Reasons are never joined with each other.
    pub fn join(&mut self, a: Label, b: Label) {
        let (a, b) = (self.shortened(a), self.shortened(b));
        match (a.is_reason(), b.is_reason()) {
            (true, true) => {}
            (true, false) => self.fix(b, a),
            (false, true) => self.fix(a, b),
            (false, false) => {
                let reason = self.fixed[a.0 as usize].or(self.fixed[b.0 as usize]);
                let (first, second) = if a < b { (a, b) } else { (b, a) };
                self.parents[second.0 as usize] = first;
                self.fixed[first.0 as usize] = reason;
            }
        }
    }

    /// Joins two axes of one size, position by position.
    pub fn join_axes(&mut self, a: &Axis, b: &Axis) {
        debug_assert_eq!(a.len(), b.len(), "axes that are joined have one size");
        a.iter().zip(b).for_each(|(&a, &b)| self.join(a, b));
    }

    /// Fixes every position of an axis.
    pub fn fix_axis(&mut self, axis: &Axis, reason: Fixed) {
        axis.iter().for_each(|&label| self.join(label, reason.label()));
    }

    /// Whether each position of an axis stays.
    pub fn is_fixed(&self, axis: &Axis) -> bool {
        axis.iter().all(|&label| self.fixed(label).is_some())
    }

    fn fix(&mut self, label: Label, reason: Label) {
        self.fixed[label.0 as usize] = self.fixed[label.0 as usize].or(self.fixed[reason.0 as usize]);
    }

    /// The class of a label, with the way to it halved.
    fn shortened(&mut self, mut label: Label) -> Label {
        while self.parents[label.0 as usize] != label {
            let grandparent = self.parents[self.parents[label.0 as usize].0 as usize];
            self.parents[label.0 as usize] = grandparent;
            label = grandparent;
        }
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_labels_have_one_class_and_are_fixed_together() {
        let mut labels = Labels::default();
        let (a, b) = (labels.fresh(2), labels.fresh(2));
        labels.join_axes(&a, &b);
        assert_eq!(labels.class(a[0]), labels.class(b[0]));
        assert_ne!(labels.class(a[0]), labels.class(a[1]));
        labels.join(b[1], Fixed::Output.label());
        assert_eq!((labels.fixed(a[1]), labels.fixed(a[0])), (Some(Fixed::Output), None));
    }

    #[test]
    fn what_is_fixed_alike_is_not_joined() {
        let mut labels = Labels::default();
        let (a, b) = (labels.fresh(1), labels.fresh(1));
        labels.fix_axis(&a, Fixed::Places);
        labels.fix_axis(&b, Fixed::Places);
        assert_ne!(labels.class(a[0]), labels.class(b[0]));
        labels.join(a[0], Fixed::Input.label());
        assert_eq!(labels.fixed(a[0]), Some(Fixed::Places), "the first reason is told");
    }
}
