//! Lines of an image with channels last, copied into scratch memory with zeros around them, so that every window of
//! them lies inside. Elements become what the copy has.

use super::image::{self, Axis};
use super::last_shape::is_even;
use crate::ir::{Builder, Memory, Value};
use crate::lower::loops::{span, widths, widths_of};
use crate::lower::matmul::pack;
use crate::lower::matmul::product::RowSource;
use crate::lower::matmul::tile::Spacing;
use crate::lower::memory::Place;

/// Lines to be copied.
pub struct Lines<'a> {
    /// The image, `[image, line, column, channel]`.
    pub image: (&'a Place, Memory),
    /// Vertical and horizontal.
    pub axes: [Axis; 2],
    /// Lines of the copy.
    pub height: usize,
    /// Places of a line of the copy.
    pub width: usize,
    /// Elements of the copy from place to place.
    pub column: usize,
    /// Lanes of a vector.
    pub lanes: u8,
}

/// Where windows are read: the memory, its first element, and elements between lines and columns of the image.
pub struct Windows {
    /// The image itself, or a copy of some of its lines.
    pub memory: Memory,
    /// The first element of the first window.
    pub first: Value,
    /// Elements from line to line.
    pub line: i64,
    /// Elements from place to place of a line.
    pub column: i64,
}

impl Windows {
    /// Notes where the windows of so many lines begin, counted from the first one.
    pub fn note_starts(&self, b: &mut Builder, axes: [Axis; 2], lines: Value, to: Memory) {
        let [vertical, horizontal] = axes;
        let (zero, one) = (b.index(0), b.index(1));
        b.for_loop(zero, lines, one, &[], |b, line, _| {
            let first = b.affine(&[(line, vertical.step as i64 * self.line)], 0);
            let row = b.mul_index(line, horizontal.windows as i64);
            b.for_each(horizontal.windows as i64, |b, column| {
                let start = b.affine(&[(first, 1), (column, horizontal.step as i64 * self.column)], 0);
                let place = b.add(row, column);
                b.store(to, place, start);
            });
            vec![]
        });
    }

    /// Where windows begin, from a place on, for tiles of so many: evenly spaced over all lines, along each, or as
    /// noted.
    pub fn rows(&self, axes: [Axis; 2], from: Value, (starts, tile): (Memory, usize)) -> RowSource {
        let [vertical, horizontal] = axes;
        let (line, column) = (vertical.step as i64 * self.line, horizontal.step as i64 * self.column);
        match horizontal.windows {
            1 => RowSource::Even(from, line),
            across if across as i64 * column == line => RowSource::Even(from, column),
            across if is_even(across, tile) => RowSource::Lines(starts, from, Spacing { across, column, line }),
            _ => RowSource::Table(starts, from),
        }
    }
}

impl Lines<'_> {
    /// Where the windows from output line `line` on are read, of elements as in [`Self::copy`]: in a copy, if there is
    /// room for one, else where the image lies.
    pub fn windows(
        &self,
        b: &mut Builder,
        (first, channels): (Value, Value),
        line: Value,
        room: Option<Memory>,
    ) -> Windows {
        let (place, memory) = self.image;
        let Some(to) = room else {
            let strides = &place.layout.strides;
            let first = b.affine(&[(first, 1), (line, self.axes[0].step as i64 * strides[1])], 0);
            return Windows { memory, first, line: strides[1], column: strides[2] };
        };
        let start = b.index(0);
        self.copy(b, (first, channels), line, (to, start));
        let line = (self.width * self.column) as i64;
        Windows { memory: to, first: b.index(0), line, column: self.column as i64 }
    }

    /// Copies the lines that the windows from output line `line` on read; `first` is the image's first element that
    /// is wanted, `channels` the number of channels from there; `to` a memory and where the copy begins in it.
    pub fn copy(&self, b: &mut Builder, (first, channels): (Value, Value), line: Value, (to, start): (Memory, Value)) {
        let vertical = self.axes[0];
        let size = (self.width * self.column) as i64;
        let strides = &self.image.0.layout.strides;
        let top = b.affine(&[(line, vertical.step as i64)], -vertical.low);
        b.for_each(self.height as i64, |b, at| {
            let source = b.add(top, at);
            let (zero, end) = (b.index(0), b.index(vertical.source as i64));
            let (after, before) = (b.ge(source, zero), b.lt(source, end));
            let inside = b.and(after, before);
            let target = b.affine(&[(start, 1), (at, size)], 0);
            let copy = |b: &mut Builder| {
                let source = b.affine(&[(first, 1), (source, strides[1])], 0);
                self.line(b, (source, channels), (to, target));
                vec![]
            };
            b.if_else(inside, copy, |b| {
                let all = b.index(size);
                image::clear(b, to, target, all, self.lanes);
                vec![]
            });
        });
    }

    /// A line of the image.
    fn line(&self, b: &mut Builder, (source, channels): (Value, Value), (to, target): (Memory, Value)) {
        let Axis { source: elements, low, .. } = self.axes[1];
        let left = (low.max(0) as usize).min(self.width);
        let cut = (low.min(0).unsigned_abs() as usize).min(elements);
        let inside = (elements - cut).min(self.width - left);
        let source = b.add_index(source, cut as i64 * self.image.0.layout.strides[2]);
        let count = |b: &mut Builder, places: usize| b.index((places * self.column) as i64);
        let before = count(b, left);
        image::clear(b, to, target, before, self.lanes);
        let start = b.add_index(target, (left * self.column) as i64);
        self.places(b, (source, channels), (to, start), inside);
        let end = b.add_index(start, (inside * self.column) as i64);
        let after = count(b, self.width - left - inside);
        image::clear(b, to, end, after, self.lanes);
    }

    /// The places of a line that lie inside of the image.
    fn places(&self, b: &mut Builder, (source, channels): (Value, Value), (to, target): (Memory, Value), count: usize) {
        let (place, from) = self.image;
        let (column, channel) = (place.layout.strides[2], place.layout.strides[3]);
        let zero = b.index(0);
        if channel == 1 && column == self.column as i64 && b.known_index(channels) == Some(column) {
            let range = (zero, b.index((count * self.column) as i64));
            return pack::copy_line(b, (from, source), (to, target), range, self.lanes);
        }
        let widths = widths_of(b, channels, self.lanes);
        if channel == 1 {
            return b.for_each(count as i64, |b, at| {
                let source = b.affine(&[(source, 1), (at, column)], 0);
                let target = b.affine(&[(target, 1), (at, self.column as i64)], 0);
                span(b, (zero, channels), &widths, |b, at, lanes| {
                    let source = b.add(source, at);
                    let value = b.load(from, source, lanes);
                    let value = pack::as_stored(b, value, to);
                    let target = b.add(target, at);
                    b.store(to, target, value);
                });
            });
        }
        let one = b.index(1);
        b.for_loop(zero, channels, one, &[], |b, at, _| {
            let source = b.affine(&[(source, 1), (at, channel)], 0);
            let target = b.add(target, at);
            copy_strided(b, (from, source, column), (to, target, self.column as i64), count, self.lanes);
            vec![]
        });
    }
}

/// Copies `count` elements that lie some distance apart to places that lie some distance apart.
fn copy_strided(
    b: &mut Builder,
    (from, source, step): (Memory, Value, i64),
    (to, target, stride): (Memory, Value, i64),
    count: usize,
    lanes: u8,
) {
    let (zero, end) = (b.index(0), b.index(count as i64));
    span(b, (zero, end), &widths(count, lanes), |b, at, lanes| {
        let source = b.affine(&[(source, 1), (at, step)], 0);
        let target = b.affine(&[(target, 1), (at, stride)], 0);
        let (step, stride) = (b.index(step), b.index(stride));
        let value = b.load_strided(from, source, step, lanes);
        let value = pack::as_stored(b, value, to);
        match lanes {
            1 => b.store(to, target, value),
            _ => b.store_strided(to, target, stride, value),
        }
    });
}
