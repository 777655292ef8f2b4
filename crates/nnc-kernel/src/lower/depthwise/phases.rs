//! Windows over an image whose elements lie some distance apart, with zeros between: the transpose of a convolution
//! with a stride.
//!
//! Window `q * insert + p` of an axis reads nothing but zeros by most taps, and elements by the taps `t` with `p + t *
//! dilation = low` modulo `insert` alone. So the windows of each phase `p` are those of a convolution by every
//! so-manieth tap over the elements side by side (Shi et al., "Is the deconvolution layer the same as a convolutional
//! layer?", 2016), and one copy of the elements, without the zeros, serves all phases. Where elements lie side by side
//! there is one phase, and each tap meets an element.

use crate::lower::conv::image::Axis;
use std::collections::BTreeMap;

impl Axis {
    /// The taps by which a window meets an element, in order, and that element's place, counted from the first one that
    /// the windows from 0 on may read.
    pub fn meeting(&self, window: usize) -> Vec<(usize, usize)> {
        let apart = self.insert as i64;
        let meets = |tap: usize| {
            let place = (window * self.step + tap * self.dilation) as i64 - self.low;
            let first = self.low.div_euclid(apart);
            (place.rem_euclid(apart) == 0).then(|| (tap, (place.div_euclid(apart) + first) as usize))
        };
        (0..self.taps).filter_map(meets).collect()
    }

    /// The elements side by side; its windows are as many neighbouring windows as there are phases, its taps what any
    /// of these reads.
    pub fn side_by_side(&self) -> Self {
        let reach = (0..self.insert).flat_map(|phase| self.meeting(phase)).map(|(_, place)| place + 1).max();
        Self {
            source: self.source,
            insert: 1,
            low: self.low.div_euclid(self.insert as i64),
            taps: reach.unwrap_or(1),
            dilation: 1,
            windows: self.windows.div_ceil(self.insert),
            step: self.step,
        }
    }

    /// For each place along a line that some neighbouring windows touch, in order, the windows and taps that meet
    /// there.
    pub fn meetings(&self, windows: usize) -> BTreeMap<usize, Vec<(usize, usize)>> {
        let mut found: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        for window in 0..windows {
            for (tap, place) in self.meeting(window) {
                found.entry(place).or_default().push((window, tap));
            }
        }
        found
    }
}
