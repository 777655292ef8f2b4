//! Images in scratch memory: padded copies, and the matrix that a convolution multiplies by.
//!
//! A padded copy holds some channels and rows of an image, with zeros where the window reaches outside (and between
//! elements, for the transpose of a strided convolution). Every read of a window then lies inside, so that the matrix
//! of windows ("im2col", Chellapilla, Puri, Simard 2006) is made of plain runs of elements.

use crate::ir::{Builder, Memory, Type, Value};
use crate::lower::loops::span;

/// One spatial axis of a convolution in the coordinates of the padded image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Axis {
    /// Size of the source.
    pub source: usize,
    /// Distance of source elements in the padded image.
    pub insert: usize,
    /// Place of the first source element in the padded image; negative if it is cut off.
    pub low: i64,
    /// Number of taps.
    pub taps: usize,
    /// Distance of taps.
    pub dilation: usize,
    /// Number of windows.
    pub windows: usize,
    /// Distance of windows.
    pub step: usize,
}

impl Axis {
    /// Padded elements that `windows` windows in a row touch.
    pub fn reach(&self, windows: usize) -> usize {
        (windows - 1) * self.step + (self.taps - 1) * self.dilation + 1
    }

    /// Whether every window lies inside of the source as it is.
    pub fn is_inside(&self) -> bool {
        self.low == 0 && self.reach(self.windows) <= self.source
    }
}

/// The most places that are copied for each tap of a window that is read.
const COPIES: usize = 4;

/// Whether a block of so many lines of windows reads enough of the places that it copies: taps that lie far apart reach
/// over much that they do not read.
pub fn is_dense([vertical, horizontal]: [Axis; 2], lines: usize) -> bool {
    let copied = vertical.reach(lines) * horizontal.reach(horizontal.windows);
    copied <= COPIES * lines * horizontal.windows * vertical.taps * horizontal.taps
}

/// Whether an image of such axes, vertical and horizontal, is one line that is looked at as it is.
pub fn is_line([vertical, _]: [Axis; 2]) -> bool {
    vertical.source == 1 && vertical.taps == 1 && vertical.windows == 1 && vertical.low == 0
}

/// A block of a padded image in scratch memory: `[channels, height, width]`.
#[derive(Clone, Copy, Debug)]
pub struct Padded {
    /// Where it lies.
    pub memory: Memory,
    /// Rows.
    pub height: usize,
    /// Elements of a row.
    pub width: usize,
}

impl Padded {
    /// Elements of a channel.
    pub fn plane(&self) -> usize {
        self.height * self.width
    }
}

/// Channels of an image in memory, by strides.
#[derive(Clone, Copy, Debug)]
pub struct Channels {
    /// The memory.
    pub memory: Memory,
    /// First element of the first channel.
    pub first: Value,
    /// Elements between channels, rows and columns.
    pub strides: [i64; 3],
    /// How many channels.
    pub count: Value,
}

/// Copies channels into a padded image, from its element `first` on, whose first row and column are those of `corner`
/// in the whole padded image.
pub fn pad(
    b: &mut Builder,
    from: &Channels,
    axes: [Axis; 2],
    (to, first): (&Padded, Value),
    corner: [Value; 2],
    lanes: u8,
) {
    let [top, left] = corner;
    let (zero, one) = (b.index(0), b.index(1));
    b.for_loop(zero, from.count, one, &[], |b, channel, _| {
        let source = b.affine(&[(from.first, 1), (channel, from.strides[0])], 0);
        let target = b.affine(&[(first, 1), (channel, to.plane() as i64)], 0);
        b.for_each(to.height as i64, |b, row| {
            let target = b.affine(&[(target, 1), (row, to.width as i64)], 0);
            let (line, inside) = source_row(b, axes[0], top, row);
            let copy = |b: &mut Builder| {
                let source = b.affine(&[(source, 1), (line, from.strides[1])], 0);
                let part = RowPart::new(b, axes[1], to.width, left);
                pad_row(b, from, (source, axes[1].insert), (to, target), &part, lanes);
                vec![]
            };
            b.if_else(inside, copy, |b| {
                let width = b.index(to.width as i64);
                clear(b, to.memory, target, width, lanes);
                vec![]
            });
        });
        vec![]
    });
}

/// The source row of a padded row, and whether there is one.
fn source_row(b: &mut Builder, axis: Axis, top: Value, row: Value) -> (Value, Value) {
    let place = b.affine(&[(top, 1), (row, 1)], -axis.low);
    let insert = b.index(axis.insert as i64);
    let (line, rest) = (b.div(place, insert), b.rem(place, insert));
    let (zero, end) = (b.index(0), b.index(axis.source as i64));
    let (after, before, fits) = (b.ge(line, zero), b.lt(line, end), b.eq(rest, zero));
    let inside = b.and(after, before);
    (line, b.and(inside, fits))
}

/// The source elements of one padded row; constants, unless the row begins somewhere within the padded image.
struct RowPart {
    /// The first source element that lies in the row.
    skipped: Value,
    /// Where in the row it goes.
    start: Value,
    /// How many source elements the row has.
    count: Value,
}

impl RowPart {
    /// Of a row of `width` padded elements that begins at column `left` of the padded image.
    fn new(b: &mut Builder, axis: Axis, width: usize, left: Value) -> Self {
        let (zero, insert) = (b.index(0), b.index(axis.insert as i64));
        let blocks_of = |b: &mut Builder, places: Value| {
            let places = b.add_index(places, axis.insert as i64 - 1);
            let places = b.max(places, zero);
            b.div(places, insert)
        };
        let before = b.add_index(left, -axis.low);
        let skipped = blocks_of(b, before);
        let start = b.affine(&[(skipped, axis.insert as i64), (left, -1)], axis.low);
        let room = b.affine(&[(start, -1)], width as i64);
        let room = blocks_of(b, room);
        let there = b.affine(&[(skipped, -1)], axis.source as i64);
        let count = b.min(there, room);
        Self { skipped, start, count: b.max(count, zero) }
    }
}

fn pad_row(
    b: &mut Builder,
    from: &Channels,
    (source, insert): (Value, usize),
    (to, target): (&Padded, Value),
    part: &RowPart,
    lanes: u8,
) {
    let width = b.index(to.width as i64);
    if insert > 1 {
        clear(b, to.memory, target, width, lanes);
    } else {
        let start = b.min(part.start, width);
        clear(b, to.memory, target, start, lanes);
        let end = b.add(part.start, part.count);
        let end = b.min(end, width);
        let (first, rest) = (b.add(target, end), b.sub(width, end));
        clear(b, to.memory, first, rest, lanes);
    }
    let widths = crate::lower::loops::widths_of(b, part.count, lanes);
    let zero = b.index(0);
    let place = b.add(target, part.start);
    let source = b.affine(&[(source, 1), (part.skipped, from.strides[2])], 0);
    span(b, (zero, part.count), &widths, |b, at, lanes| {
        let along = b.mul_index(at, from.strides[2]);
        let offset = b.add(source, along);
        let stride = b.index(from.strides[2]);
        let value = b.load_strided(from.memory, offset, stride, lanes);
        let along = b.mul_index(at, insert as i64);
        let offset = b.add(place, along);
        let stride = b.index(insert as i64);
        if lanes == 1 { b.store(to.memory, offset, value) } else { b.store_strided(to.memory, offset, stride, value) }
    });
}

/// Zeros in `count` elements from a place on.
pub fn clear(b: &mut Builder, memory: Memory, first: Value, count: Value, lanes: u8) {
    let (zero, widths) = (b.index(0), crate::lower::loops::widths_of(b, count, lanes));
    span(b, (zero, count), &widths, |b, at, lanes| {
        let nothing = b.zero(Type::vector(memory.elem, lanes));
        let place = b.add(first, at);
        b.store(memory, place, nothing);
    });
}

/// The matrix of windows: for each channel and tap a row with the element of every window of some rows of windows. Rows
/// lie `stride` apart in `to`, and have room for a vector more than there are windows: runs are copied in whole
/// vectors, each overwritten by the next.
pub fn windows(
    b: &mut Builder,
    from: &Padded,
    (channels, lines): (Value, Value),
    axes: [Axis; 2],
    (to, stride): (Memory, i64),
    lanes: u8,
) {
    let [vertical, horizontal] = axes;
    let taps = (vertical.taps * horizontal.taps) as i64;
    let (zero, one) = (b.index(0), b.index(1));
    b.for_loop(zero, channels, one, &[], |b, channel, _| {
        let plane = b.mul_index(channel, from.plane() as i64);
        b.for_each(vertical.taps as i64, |b, i| {
            let line = b.affine(&[(plane, 1), (i, (vertical.dilation * from.width) as i64)], 0);
            let row = b.affine(&[(channel, taps), (i, horizontal.taps as i64)], 0);
            b.for_each(horizontal.taps as i64, |b, j| {
                let source = b.affine(&[(line, 1), (j, horizontal.dilation as i64)], 0);
                let target = b.affine(&[(row, stride), (j, stride)], 0);
                b.for_loop(zero, lines, one, &[], |b, at, _| {
                    let source = b.affine(&[(source, 1), (at, (vertical.step * from.width) as i64)], 0);
                    let target = b.affine(&[(target, 1), (at, horizontal.windows as i64)], 0);
                    run(b, (from.memory, source, horizontal.step), (to, target), horizontal.windows, lanes);
                    vec![]
                });
            });
        });
        vec![]
    });
}

/// Copies a run of elements in whole vectors.
fn run(
    b: &mut Builder,
    (from, source, step): (Memory, Value, usize),
    (to, target): (Memory, Value),
    count: usize,
    lanes: u8,
) {
    let vectors = count.div_ceil(usize::from(lanes)) as i64;
    let copy = |b: &mut Builder, vector: Value| {
        let at = b.mul_index(vector, i64::from(lanes));
        let along = b.mul_index(at, step as i64);
        let place = b.add(source, along);
        let stride = b.index(step as i64);
        let value = b.load_strided(from, place, stride, lanes);
        let place = b.add(target, at);
        b.store(to, place, value);
    };
    if vectors <= 8 {
        for vector in 0..vectors {
            let vector = b.index(vector);
            copy(b, vector);
        }
    } else {
        b.for_each(vectors, copy);
    }
}
