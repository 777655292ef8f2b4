//! Windows of an image by blocks of sparse weights, vectors along the output channels.
//!
//! A task has some lines of an image's output, and all of its channels, or a part of them where lines are few. Where
//! windows reach outside of the image it copies the lines that it needs, as [`crate::lower::conv::last`] does; a term's
//! place in a window is a number of the tables.

use super::cost::TILE_ROWS;
use super::panels::{Block, Panels};
use crate::ir::{Builder, Direction, Elem, Memory, Value};
use crate::lower::Lowering;
use crate::lower::conv::last::Operands;
use crate::lower::conv::last_shape::is_direct;
use crate::lower::conv::lines_last::Lines;
use crate::lower::evaluate::Point;
use crate::lower::loops::{Split, coordinates};
use crate::lower::matmul::product::Target;
use crate::lower::memory::KernelDraft;
use crate::lower::sparse::{Sizes, Tables};

/// Elements of a padded block, about.
const PADDED: usize = 64 << 10;
/// Multiply-adds of a task, of all weights.
const TASK_PRODUCTS: usize = 1 << 20;
/// The most tasks that are made for the sake of threads.
const TASKS: usize = 32;
/// Where lines make fewer tasks, channels are cut, too.
const FEW_TASKS: usize = 8;

/// How an image is cut, and where its windows are read.
pub struct Shape<'a> {
    operands: &'a Operands,
    /// Whether they are read where the image lies.
    direct: bool,
    /// Lines of the output of a task.
    lines: Split,
    /// In how many parts channels are cut.
    parts: usize,
}

impl<'a> Shape<'a> {
    /// Of a convolution with so many output channels.
    pub fn new(operands: &'a Operands, columns: usize) -> Self {
        let [vertical, horizontal] = operands.axes;
        let direct = is_direct(operands);
        let (images, channels) = (operands.image.layout.dims[0], operands.image.layout.dims[3]);
        let (all, across) = (vertical.windows, horizontal.windows);
        let depth = vertical.taps * horizontal.taps * channels;
        let worth = (images * all * across * columns * depth / TASK_PRODUCTS).clamp(1, TASKS);
        let wanted = worth.div_ceil(images);
        // Tasks have whole tiles of rows.
        let unit = (1..TILE_ROWS).find(|lines| (lines * across).is_multiple_of(TILE_ROWS)).unwrap_or(TILE_ROWS);
        let grain = |cuts: usize| all.div_ceil(cuts).next_multiple_of(unit).min(all);
        let padded = |lines: usize| vertical.reach(lines) * horizontal.reach(across) * channels;
        let fits = |cuts: &usize| direct || padded(grain(*cuts)) <= PADDED;
        let cuts = (wanted.min(all)..=all).find(fits).unwrap_or(all);
        let lines = Split::new(all, grain(cuts), 1);
        let parts = worth.min(FEW_TASKS).div_ceil(images * lines.tasks() as usize);
        Self { operands, direct, lines, parts }
    }

    /// Lines and places of a line of a padded block.
    fn padded(&self) -> [usize; 2] {
        let [vertical, horizontal] = self.operands.axes;
        [vertical.reach(self.lines.grain as usize), horizontal.reach(horizontal.windows)]
    }

    fn channels(&self) -> usize {
        self.operands.image.layout.dims[3]
    }

    /// Where a term lies in a window; terms are taps, then channels.
    pub fn place(&self, term: usize) -> usize {
        let [vertical, horizontal] = self.operands.axes;
        let (tap, channel) = (term / self.channels(), term % self.channels());
        let strides = &self.operands.image.layout.strides;
        let [line, column] = match self.direct {
            true => [strides[1] as usize, strides[2] as usize],
            false => [self.padded()[1] * self.channels(), self.channels()],
        };
        let (i, j) = (tap / horizontal.taps, tap % horizontal.taps);
        i * vertical.dilation * line + j * horizontal.dilation * column + channel
    }
}

/// Builds the kernel's phase.
pub fn emit(
    lowering: &Lowering<'_>,
    draft: &mut KernelDraft,
    target: Target<'_, '_>,
    sizes: &Sizes,
    (shape, tables): (&Shape<'_>, &Tables),
) {
    let image = &shape.operands.image;
    let across = shape.operands.axes[1].windows;
    let panels = Panels::new(lowering, *sizes, tables, 1);
    let target = Target { spill: Some(panels.spill(draft)), ..target };
    let [height, width] = shape.padded();
    let body = Body {
        shape,
        image: draft.param(image.buffer, image.elem, Direction::In),
        padded: (!shape.direct).then(|| draft.builder.scratch(Elem::F32, height * width * shape.channels())),
        starts: draft.builder.scratch(Elem::I64, shape.lines.grain as usize * across),
        lanes: lowering.lanes_of(Elem::F32),
    };
    let bundles = Split::new(tables.bundles, tables.bundles.div_ceil(shape.parts), 1);
    let counts = [image.layout.dims[0], bundles.tasks() as usize, shape.lines.tasks() as usize];
    draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
        let at = coordinates(b, task, &counts);
        let bundles = bundles.bounds(b, at[1]);
        body.task(b, &target, (&panels, bundles), [at[0], at[2]]);
    });
}

struct Body<'a> {
    shape: &'a Shape<'a>,
    image: Memory,
    padded: Option<Memory>,
    /// Where the window of each row of a block begins.
    starts: Memory,
    lanes: u8,
}

impl Body<'_> {
    fn task(
        &self,
        b: &mut Builder,
        target: &Target<'_, '_>,
        (panels, bundles): (&Panels<'_>, (Value, Value)),
        [image, part]: [Value; 2],
    ) {
        let Operands { image: place, axes, .. } = self.shape.operands;
        let [height, width] = self.shape.padded();
        let lines = self.shape.lines.bounds(b, part);
        let column = self.shape.channels();
        let copied = Lines { image: (place, self.image), axes: *axes, height, width, column, lanes: self.lanes };
        let first = b.affine(&[(image, place.layout.strides[0])], place.layout.offset);
        let channels = b.index(column as i64);
        let windows = copied.windows(b, (first, channels), lines.0, self.padded);
        let count = b.sub(lines.1, lines.0);
        windows.note_starts(b, *axes, count, self.starts);
        let across = axes[1].windows as i64;
        let (zero, rows) = (b.index(0), b.mul_index(count, across));
        let images = &[image][..target.row_axis];
        let block = Block {
            a: (windows.memory, windows.rows(*axes, windows.first, (self.starts, panels.tile_rows()))),
            point: Point { coordinates: [images, &[zero, zero]].concat(), vector: target.column_axis, lanes: 1 },
            first: b.mul_index(lines.0, across),
        };
        panels.rows(b, target, &block, (zero, rows), bundles);
    }
}
