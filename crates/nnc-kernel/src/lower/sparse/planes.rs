//! Windows of an image as what a kernel of single elements reads.
//!
//! A block is some lines of the output, or a part of one. What its windows reach lies as
//! `[channel][phase][line][place]`: there is a phase for each remainder of a line and of a place by the stride, so that
//! a tap of neighbouring windows is a run of neighbouring elements. Lines of windows begin as far apart as lines of a
//! phase, so that vectors go on from one line into the next; the sums of the places between two lines count for
//! nothing.

use super::elements::{MOST_UNITS, Run, Source, UNIT, element_cost};
use super::turn;
use crate::ir::{Builder, Memory, Value};
use crate::lower::conv::image::Axis;
use crate::lower::loops::Split;
use crate::lower::matmul::pack::{self, Matrix};
use crate::lower::memory::Place;

/// Bytes of a block that stay in the second cache.
const CACHED: usize = 256 << 10;
/// How much longer a load takes whose vector begins anywhere: most touch two lines of the cache.
const CROSSING_COST: f64 = 2.0;
/// What a block takes that does not, as a multiple.
const UNCACHED_COST: f64 = 1.5;

/// How windows are cut into blocks, and how a block lies.
pub struct Planes {
    axes: [Axis; 2],
    channels: usize,
    /// Lines of windows of a block, and windows of a line.
    block: [usize; 2],
}

impl Planes {
    /// The blocks that vectors fill best.
    pub fn new(axes: [Axis; 2], channels: usize) -> Self {
        let most = UNIT * MOST_UNITS;
        let parts = axes[1].windows.div_ceil(most);
        let across = axes[1].windows.div_ceil(parts);
        let of = |lines: usize| Self { axes, channels, block: [lines, across] };
        let lines = if parts == 1 { axes[0].windows } else { 1 };
        let fits = (2..=lines).map(of).take_while(|planes| planes.places() <= most);
        let cheaper = |best: Self, other: Self| if other.cost() < best.cost() { other } else { best };
        fits.fold(of(1), cheaper)
    }

    /// What an element of the matrix costs for all blocks of an image.
    pub fn cost(&self) -> f64 {
        let cached = if 4 * self.elements() <= CACHED { 1.0 } else { UNCACHED_COST };
        self.blocks() as f64 * element_cost(self.places(), self.elements(), CROSSING_COST) * cached
    }

    /// Blocks along both axes.
    fn splits(&self) -> [Split; 2] {
        [0, 1].map(|axis| Split::new(self.axes[axis].windows, self.block[axis], 1))
    }

    /// How many blocks an image has.
    pub fn blocks(&self) -> usize {
        self.splits().iter().map(|split| split.tasks() as usize).product()
    }

    /// Lines of a phase, and places of a line.
    fn phase(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.axes[axis].reach(self.block[axis]).div_ceil(self.axes[axis].step))
    }

    /// Elements from channel to channel.
    fn channel(&self) -> usize {
        self.axes[0].step * self.axes[1].step * self.area()
    }

    /// Elements of a phase of a channel.
    fn area(&self) -> usize {
        self.phase().iter().product()
    }

    /// Elements of a block of the image.
    pub fn elements(&self) -> usize {
        self.channels * self.channel()
    }

    /// Sums of a block in a column, with those between lines.
    pub fn places(&self) -> usize {
        (self.block[0] - 1) * self.phase()[1] + self.block[1]
    }

    /// Where the element of the first window at a term lies; terms are taps, then channels.
    pub fn place(&self, term: usize) -> usize {
        let (tap, channel) = (term / self.channels, term % self.channels);
        let taps = [tap / self.axes[1].taps, tap % self.axes[1].taps];
        let [line, place] = [0, 1].map(|axis| taps[axis] * self.axes[axis].dilation);
        let [down, along] = self.axes.map(|axis| axis.step);
        let phase = line % down * along + place % along;
        channel * self.channel() + phase * self.area() + line / down * self.phase()[1] + place / along
    }

    /// Whether windows reach outside of the image.
    fn is_padded(&self) -> bool {
        !self.axes.iter().all(Axis::is_inside)
    }

    /// The block of a number.
    pub fn block<'a>(
        &'a self,
        b: &mut Builder,
        image: (&'a Place, Memory, Value),
        number: Value,
        lanes: u8,
    ) -> Block<'a> {
        let [lines, across] = self.splits();
        let count = b.index(across.tasks() as i64);
        let (line, part) = (b.div(number, count), b.rem(number, count));
        let (lines, across) = (lines.bounds(b, line), across.bounds(b, part));
        let count = [b.sub(lines.1, lines.0), b.sub(across.1, across.0)];
        let before = b.add_index(count[0], -1);
        let places = b.affine(&[(before, self.phase()[1] as i64), (count[1], 1)], 0);
        Block { planes: self, image, corner: [lines.0, across.0], count, places, lanes }
    }
}

/// A block of windows of an image.
pub struct Block<'a> {
    planes: &'a Planes,
    /// The image's place and memory, and its number.
    image: (&'a Place, Memory, Value),
    /// The first line of windows, and the first window of each.
    corner: [Value; 2],
    /// How many.
    count: [Value; 2],
    places: Value,
    lanes: u8,
}

impl Block<'_> {
    /// Turns the places of one remainder of a line of the image, from its element `source` on.
    fn turn_line(&self, b: &mut Builder, (source, remainder): (Value, usize), (to, target): (Memory, Value)) {
        let horizontal = self.planes.axes[1];
        let step = horizontal.step as i64;
        let [column, channel] = [2, 3].map(|axis| self.image.0.layout.strides[axis]);
        // The first place that lies at an element, and the end of those: counted from the first window of a line.
        let reached = |element: i64| (element + horizontal.low - remainder as i64 + step - 1).div_euclid(step);
        let bound = |b: &mut Builder, element: i64| b.affine(&[(self.corner[1], -1)], reached(element));
        let (zero, width) = (b.index(0), b.index(self.planes.phase()[1] as i64));
        let (start, end) = (bound(b, 0), bound(b, horizontal.source as i64));
        let (start, end) = (b.max(start, zero), b.min(end, width));
        let count = b.sub(end, start);
        let count = b.max(count, zero);
        let place = b.add(self.corner[1], start);
        let first = b.affine(&[(source, 1), (place, step * column)], (remainder as i64 - horizontal.low) * column);
        let from = Matrix { memory: self.image.1, first, row: step * column, column: channel };
        let channels = b.index(self.planes.channels as i64);
        let target = b.add(target, start);
        turn::turn(b, &from, (count, channels), (to, target, self.planes.channel() as i64), self.lanes);
    }
}

impl Source for Block<'_> {
    fn turn(&self, b: &mut Builder, to: Memory, _: (Value, Value)) {
        let planes = self.planes;
        if planes.is_padded() {
            pack::clear(b, to, planes.elements(), self.lanes);
        }
        let [vertical, horizontal] = planes.axes;
        let strides = &self.image.0.layout.strides;
        let image = b.affine(&[(self.image.2, strides[0])], self.image.0.layout.offset);
        b.for_each(vertical.reach(planes.block[0]) as i64, |b, at| {
            let line = b.affine(&[(self.corner[0], vertical.step as i64), (at, 1)], -vertical.low);
            let (zero, end) = (b.index(0), b.index(vertical.source as i64));
            let (after, before) = (b.ge(line, zero), b.lt(line, end));
            let inside = b.and(after, before);
            b.if_then(inside, |b| {
                let step = b.index(vertical.step as i64);
                let (row, phase) = (b.div(at, step), b.rem(at, step));
                let area = planes.area() as i64;
                let width = planes.phase()[1] as i64;
                let target = b.affine(&[(phase, horizontal.step as i64 * area), (row, width)], 0);
                let source = b.affine(&[(image, 1), (line, strides[1])], 0);
                for remainder in 0..horizontal.step {
                    let target = b.add_index(target, remainder as i64 * area);
                    self.turn_line(b, (source, remainder), (to, target));
                }
            });
        });
    }

    fn places(&self) -> Value {
        self.places
    }

    fn each_run(&self, b: &mut Builder, body: &mut dyn FnMut(&mut Builder, Run)) {
        let (zero, one) = (b.index(0), b.index(1));
        let windows = self.planes.axes[1].windows as i64;
        b.for_loop(zero, self.count[0], one, &[], |b, at, _| {
            let first = b.mul_index(at, self.planes.phase()[1] as i64);
            let line = b.add(self.corner[0], at);
            let row = b.affine(&[(line, windows), (self.corner[1], 1)], 0);
            body(b, Run { first, count: self.count[1], row });
            vec![]
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(source: usize, taps: usize, step: usize, low: i64) -> Axis {
        let windows = (source + 2 * low as usize - taps) / step + 1;
        Axis { source, insert: 1, low, taps, dilation: 1, windows, step }
    }

    #[test]
    fn blocks_fill_vectors() {
        let block = |size: usize| Planes::new([axis(size, 3, 1, 1); 2], 16).block;
        assert_eq!([block(7), block(14), block(28), block(224)], [[7, 7], [7, 14], [2, 28], [1, 112]]);
    }

    /// Taps that are a stride apart lie side by side, the others in phases of their own.
    #[test]
    fn strides_have_phases() {
        let planes = Planes { axes: [axis(9, 3, 2, 1); 2], channels: 2, block: [1, 5] };
        assert_eq!((planes.phase(), planes.channel()), ([2, 6], 48));
        let places: Vec<usize> = (0..3).map(|tap| planes.place(2 * tap)).collect();
        assert_eq!(places, [0, 12, 1]);
        assert_eq!(planes.place(2 * 3 + 1), 48 + 24);
    }
}
