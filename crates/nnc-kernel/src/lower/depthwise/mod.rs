//! Convolutions of single channels: each output channel is made of one channel of the image.
//!
//! There is nothing to share between columns of a matrix, so no product is made: a task pads a channel in the first
//! cache and walks its windows a vector at a time, the taps' weights in registers. Terms are added in the order of
//! taps, as everywhere.

pub mod last;
pub mod phases;
pub mod weight;

use crate::ir::{Builder, Memory, Type, Value};
use crate::lower::conv::blocks::Whole;
use crate::lower::conv::image::{self, Channels, Padded};
use crate::lower::evaluate::Point;
use crate::lower::loops::{Split, coordinates, span, widths};
use crate::lower::matmul::product::Target;
use crate::lower::matmul::words::Factors;
use crate::lower::memory::{KernelDraft, Place};
use crate::lower::window::load_pairs;

/// Multiply-adds of a task.
const TASK_PRODUCTS: usize = 1 << 16;
/// The most taps whose weights stay in registers.
const MOST_TAPS: usize = 9;
/// Vectors in a row whose last one may be cut into pieces.
const LONG_ROW: usize = 3;
/// The most elements of a padded channel.
const MOST_PADDED: usize = 64 << 10;

/// Whether a convolution is one of single channels, small enough to be padded whole, whose rows of windows are whole
/// vectors or long. Short rows that are one step apart are better computed together, with the columns between them.
pub fn fits(whole: &Whole<'_>, lanes: u8) -> bool {
    let [vertical, horizontal] = whole.axes;
    let padded = vertical.reach(vertical.windows) * horizontal.reach(horizontal.windows);
    let (windows, lanes) = (horizontal.windows, usize::from(lanes));
    let fills = horizontal.step > 1 || windows.is_multiple_of(lanes) || windows >= LONG_ROW * lanes;
    whole.channels == 1 && whole.image.layout.dims[1] > 1 && padded <= MOST_PADDED && fills
}

/// Adds the phase that computes it.
pub fn phase(
    draft: &mut KernelDraft,
    whole: &Whole<'_>,
    target: &Target<'_, '_>,
    (image, weights): (Memory, (Memory, &Place)),
    lanes: u8,
) {
    let [vertical, horizontal] = whole.axes;
    let (images, groups) = (whole.image.layout.dims[0], whole.image.layout.dims[1]);
    let (height, width) = (vertical.reach(vertical.windows), horizontal.reach(horizontal.windows));
    let slack = usize::from(lanes) * horizontal.step;
    let padded = Padded { memory: draft.builder.scratch(image.elem, height * width + slack), height, width };
    let products = whole.rows * vertical.windows * horizontal.windows * vertical.taps * horizontal.taps;
    let split = Split::new(images * groups, TASK_PRODUCTS.div_ceil(products.max(1)), 1);
    let body = Body { whole, image, weights, padded, lanes };
    draft.how = format!("{} taps, {} channels a task, padded channels", vertical.taps * horizontal.taps, split.grain);
    draft.builder.phase(split.tasks(), |b, task| {
        let (start, end) = split.bounds(b, task);
        let step = b.index(1);
        b.for_loop(start, end, step, &[], |b, number, _| {
            let at = coordinates(b, number, &[images, groups]);
            body.channel(b, target, (at[0], at[1]));
            vec![]
        });
    });
}

struct Body<'a> {
    whole: &'a Whole<'a>,
    image: Memory,
    weights: (Memory, &'a Place),
    padded: Padded,
    lanes: u8,
}

impl Body<'_> {
    fn channel(&self, b: &mut Builder, target: &Target<'_, '_>, (image, group): (Value, Value)) {
        let layout = &self.whole.image.layout;
        let first = b.affine(&[(image, layout.strides[0]), (group, layout.strides[1])], layout.offset);
        let (zero, count) = (b.index(0), b.index(1));
        let strides = [layout.strides[2], layout.strides[3], layout.strides[4]];
        let source = Channels { memory: self.image, first, strides, count };
        image::pad(b, &source, self.whole.axes, (&self.padded, zero), [zero, zero], self.lanes);
        b.for_each(self.whole.rows as i64, |b, row| {
            let first_row = b.affine(&[(group, self.whole.rows as i64), (row, 1)], 0);
            let point = Point { coordinates: vec![image, zero, zero], vector: 2, lanes: 1 };
            self.row(b, target, &point, (group, row), first_row);
        });
    }

    /// An output channel.
    fn row(
        &self,
        b: &mut Builder,
        target: &Target<'_, '_>,
        point: &Point,
        (group, row): (Value, Value),
        result_row: Value,
    ) {
        let [vertical, horizontal] = self.whole.axes;
        let (memory, place) = self.weights;
        let strides = &place.layout.strides;
        let first = b.affine(&[(group, strides[0]), (row, strides[1])], place.layout.offset);
        let taps = vertical.taps * horizontal.taps;
        let weight = |b: &mut Builder, tap: usize, lanes: u8| {
            let place = b.add_index(first, tap as i64 * strides[2]);
            b.load_splat(memory, place, lanes)
        };
        let kept: Vec<Value> = match taps <= MOST_TAPS {
            true => (0..taps).map(|tap| weight(b, tap, self.lanes)).collect(),
            false => vec![],
        };
        let known = target.hoisted_row(b, point, result_row);
        let (zero, windows) = (b.index(0), b.index(horizontal.windows as i64));
        b.for_each(vertical.windows as i64, |b, line| {
            let start = b.mul_index(line, (vertical.step * self.padded.width) as i64);
            let before = b.mul_index(line, horizontal.windows as i64);
            span(b, (zero, windows), &widths(horizontal.windows, self.lanes), |b, at, lanes| {
                let from = b.affine(&[(start, 1), (at, horizontal.step as i64)], 0);
                let elements = self.elements(b, from, lanes);
                let mut sum = b.zero(Type::vector(self.image.elem, lanes));
                for (tap, element) in elements.into_iter().enumerate() {
                    let factor = match kept.get(tap) {
                        Some(&kept) if lanes == self.lanes => kept,
                        _ => weight(b, tap, lanes),
                    };
                    sum = Factors::One.multiply_add(b, factor, element, sum);
                }
                let column = b.add(before, at);
                target.at(b, point, (result_row, column), lanes, &known, sum);
            });
        });
    }

    /// For each tap the elements of some windows.
    fn elements(&self, b: &mut Builder, from: Value, lanes: u8) -> Vec<Value> {
        let [vertical, horizontal] = self.whole.axes;
        let memory = self.padded.memory;
        let in_pairs = horizontal.step == 2 && horizontal.dilation == 1 && lanes > 1;
        let mut elements = Vec::new();
        for i in 0..vertical.taps {
            let line = b.add_index(from, (i * vertical.dilation * self.padded.width) as i64);
            let mut odd = None;
            for j in 0..horizontal.taps {
                let place = b.add_index(line, (j * horizontal.dilation) as i64);
                let value = match (in_pairs, odd.take()) {
                    (true, Some(value)) => value,
                    (true, None) => {
                        let (even, next) = load_pairs(b, memory, place, lanes);
                        odd = Some(next);
                        even
                    }
                    (false, _) => {
                        let stride = b.index(horizontal.step as i64);
                        b.load_strided(memory, place, stride, lanes)
                    }
                };
                elements.push(value);
            }
        }
        elements
    }
}
