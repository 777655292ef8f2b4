//! Blocks of a matrix product: the loops around the microkernel, edges, and what becomes of finished tiles.
//!
//! A [`Product`] computes a block of `C = A * B` whose B lies packed in scratch memory (or is read where it is, if its
//! columns lie side by side). Rows and columns that a tile does not fill are done by smaller tiles of fixed size, since
//! shapes are known. The last vector of a row of tiles may reach past the columns of C: B is padded with whatever is
//! there, and a sink either takes only the columns that count (the epilogue), or has room for whole vectors (the sums
//! in memory). A finished tile goes through the epilogue in registers when that is short, else by way of scratch
//! memory, row by row. The vector at the edge goes there with a mask where the machine's stores leave lanes out at no
//! cost, else by way of scratch memory, too, in pieces.

use super::tile::{self, Ahead, Level, Panels, Rows, Share, Spacing, Tile};
use crate::ir::{Builder, Memory, Value};
use crate::lower::cost;
use crate::lower::evaluate::{Known, Point};
use crate::lower::frame::Frame;
use crate::lower::loops::span;
use nnc_graph::ValueId;

/// The most operations of an epilogue that is laid out for each register of a tile.
const SHORT_EPILOGUE: usize = 10;

/// Room in which a value of an epilogue is kept for what reads it next.
#[derive(Clone, Copy)]
pub struct Kept {
    /// The value.
    pub value: ValueId,
    /// The room.
    pub memory: Memory,
    /// Where row 0, column 0 would be.
    pub first: Value,
    /// Elements from row to row.
    pub row: i64,
}

/// The result of a product, as a frame sees it.
#[derive(Clone, Copy)]
pub struct Target<'a, 'g> {
    /// The group's frame.
    pub frame: &'a Frame<'g>,
    /// The product itself; outputs are computed of it.
    pub result: ValueId,
    /// What is stored.
    pub outputs: &'a [ValueId],
    /// The axis of the frame along which rows of tiles lie.
    pub row_axis: usize,
    /// The axis along which their vectors lie.
    pub column_axis: usize,
    /// Room for one tile; `None` where finished sums lie in memory anyway.
    pub spill: Option<Memory>,
    /// What is kept beside that.
    pub kept: Option<Kept>,
}

/// What becomes of a tile when its last term is added.
pub enum Sink<'a, 'g> {
    /// The epilogue, at the coordinates of a point whose row and column the tile gives; rows count from the value.
    Epilogue(&'a Target<'a, 'g>, Point, Value),
    /// Row-major memory (from the given place, rows so far apart) that also holds the sum so far; its rows have room
    /// for whole vectors.
    Sum(Memory, Value, i64),
    /// As the sum, but the memory holds nothing yet.
    Store(Memory, Value, i64),
}

/// The rows of A of a block.
#[derive(Clone, Debug)]
pub enum RowSource {
    /// Row 0 begins at the value; the distance of rows.
    Even(Value, i64),
    /// A table of `i64` offsets, one for each row, to which the value is added.
    Table(Memory, Value),
    /// The same for rows that lie in the same way in every tile: only the first of each is looked up.
    Lines(Memory, Value, Spacing),
}

/// How a tile's rows of A lie when they were brought together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gather {
    /// `[k][row]`, of rows that lie side by side, each step of k far from the one before.
    Turned,
    /// `[row][k]` with rows so far apart, of rows that share the lines of a cache.
    Lines(i64),
}

/// How the columns of B lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lies {
    /// In panels of whole vectors.
    Packed,
    /// Where the operand has them: no vector may reach past the last.
    InPlace,
    /// In the same way, and so many that they come from memory.
    FarAway,
}

/// A block of a product.
pub struct Product<'a> {
    /// The full tile.
    pub tile: Tile,
    /// Rows of the whole C.
    pub rows: usize,
    /// Columns of the whole C.
    pub columns: usize,
    /// Memory of A, and its rows.
    pub a: (Memory, RowSource),
    /// Memory of B, where column 0 of the block begins, and elements for each column that is the first of a tile.
    pub b: (Memory, Value, i64),
    /// Room for a tile's rows of A, when they are worth bringing together, and how they lie there.
    pub gathered: Option<(Memory, Gather)>,
    /// How B lies.
    pub lies: Lies,
    /// The loops over k.
    pub levels: &'a [Level],
}

/// The part of C that a block covers, in rows and columns of C. Both starts are multiples of the tile's size.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// First row and end.
    pub rows: (Value, Value),
    /// First column and end.
    pub columns: (Value, Value),
}

impl Product<'_> {
    /// Computes the block, tile by tile, the columns innermost: the rows of A stay in the first cache, B streams.
    pub fn run(&self, b: &mut Builder, range: Range, sink: &Sink<'_, '_>) {
        in_tiles(b, range.rows, (self.rows, self.tile.rows), |b, row, rows| {
            self.row(b, range, row, Tile { rows, ..self.tile }, sink);
        });
    }

    /// All columns of a tile's rows from `row` on.
    fn row(&self, b: &mut Builder, range: Range, row: Value, tile: Tile, sink: &Sink<'_, '_>) {
        let rows = self.a.1.starts(b, row, tile.rows);
        let rows = self.gathered.map_or(rows.clone(), |(to, how)| match how {
            Gather::Turned => self.gather(b, tile, &rows, to),
            Gather::Lines(stride) => self.gather_lines(b, tile, &rows, (to, stride)),
        });
        in_tiles(b, range.columns, (self.columns, tile.columns()), |b, column, width| {
            let tile = if width < tile.columns() { tile.part(width) } else { tile };
            let from = b.sub(column, range.columns.0);
            let ahead = (self.lies == Lies::FarAway).then_some(Ahead::Columns);
            self.tile_at(b, tile, &rows, (row, column, from), (width, ahead), sink);
        });
    }

    /// As [`Self::run`], the rows innermost: a panel of B and the rows of A stay in the second cache. The panel that
    /// comes next, behind the last one that at `next`, is asked for meanwhile, an equal part of it by each of `passes`
    /// tiles of rows.
    pub fn run_by_panels(&self, b: &mut Builder, range: Range, (next, passes): (Value, usize), sink: &Sink<'_, '_>) {
        let term = self.tile.columns() as i64;
        let share = (term as usize).div_ceil(passes) as i64;
        in_tiles(b, range.columns, (self.columns, self.tile.columns()), |b, column, width| {
            let from = b.sub(column, range.columns.0);
            let beside = b.affine(&[(self.b.1, 1), (from, self.b.2)], term * self.b.2);
            let end = b.add_index(column, term);
            let is_last = b.ge(end, range.columns.1);
            let next = b.select(is_last, next, beside);
            in_tiles(b, range.rows, (self.rows, self.tile.rows), |b, row, rows| {
                let tile = Tile { rows, ..self.tile };
                let tile = if width < tile.columns() { tile.part(width) } else { tile };
                let start = self.part(b, (row, range.rows.0), (next, share));
                let ahead = (passes > 1).then_some(Ahead::Panel(Share { start, share, term }));
                let rows = self.a.1.starts(b, row, rows);
                self.tile_at(b, tile, &rows, (row, column, from), (width, ahead), sink);
            });
        });
    }

    /// Where the part begins of what is asked for, `share` elements for each term, that is that of the tile at a row.
    fn part(&self, b: &mut Builder, (row, first): (Value, Value), (next, share): (Value, i64)) -> Value {
        let (rows, size) = (b.sub(row, first), b.index(self.tile.rows as i64));
        let pass = b.div(rows, size);
        let terms = self.levels.iter().fold(b.index(share), |terms, level| b.mul(terms, level.count));
        let before = b.mul(pass, terms);
        b.add(next, before)
    }

    /// The loops over k for a tile: rows that were gathered have their own distance.
    fn levels(&self, tile: Tile) -> Vec<Level> {
        let step = |level: &Level| match self.gathered {
            Some((_, Gather::Turned)) => Level { a: tile.rows as i64, ..*level },
            Some((_, Gather::Lines(_))) | None => *level,
        };
        self.levels.iter().map(step).collect()
    }

    /// Copies a tile's rows of A, which lie side by side, to `[k][row]`.
    fn gather(&self, b: &mut Builder, tile: Tile, rows: &Rows, to: Memory) -> Rows {
        let (Rows::Even(first, _), [level]) = (rows, self.levels) else { return rows.clone() };
        let (zero, one, end) = (b.index(0), b.index(1), b.index(tile.rows as i64));
        b.for_unrolled(zero, level.count, one, 4, &[], |b, k, _| {
            let source = b.affine(&[(*first, 1), (k, level.a)], 0);
            let target = b.mul_index(k, tile.rows as i64);
            span(b, (zero, end), &crate::lower::loops::widths(tile.rows, tile.lanes), |b, at, lanes| {
                let place = b.add(source, at);
                let value = b.load(self.a.0, place, lanes);
                let place = b.add(target, at);
                b.store(to, place, value);
            });
            vec![]
        });
        Rows::Even(zero, 1)
    }

    /// Copies a tile's rows of A, whose terms lie side by side, so that rows are `stride` apart.
    fn gather_lines(&self, b: &mut Builder, tile: Tile, rows: &Rows, (to, stride): (Memory, i64)) -> Rows {
        let (Rows::Even(first, step), [level]) = (rows, self.levels) else { return rows.clone() };
        let (first, zero) = (*first, b.index(0));
        let widths = crate::lower::loops::widths_of(b, level.count, tile.lanes);
        span(b, (zero, level.count), &widths, |b, k, lanes| {
            let source = b.add(first, k);
            for row in 0..tile.rows as i64 {
                let place = b.add_index(source, row * step);
                let value = b.load(self.a.0, place, lanes);
                let place = b.add_index(k, row * stride);
                b.store(to, place, value);
                // The next tile's rows, which come from far away, are asked for while this one's are multiplied.
                if lanes == tile.lanes {
                    let next = b.add_index(source, (row + tile.rows as i64) * step);
                    b.prefetch(self.a.0, next);
                }
            }
        });
        Rows::Even(zero, stride)
    }

    /// One tile at a row and a column of C; `from` is the column within the block.
    fn tile_at(
        &self,
        b: &mut Builder,
        tile: Tile,
        rows: &Rows,
        (row, column, from): (Value, Value, Value),
        (width, ahead): (usize, Option<Ahead>),
        sink: &Sink<'_, '_>,
    ) {
        let columns = b.affine(&[(self.b.1, 1), (from, self.b.2)], 0);
        let panels = Panels {
            a: self.gathered.map_or(self.a.0, |(memory, _)| memory),
            rows: rows.clone(),
            b: self.b.0,
            columns,
            width: if self.lies == Lies::Packed { tile.columns() } else { width },
            ahead,
        };
        match sink {
            Sink::Sum(memory, base, stride) => {
                let along = b.mul_index(row, *stride);
                let place = b.add(*base, along);
                let place = b.add(place, column);
                let sums = tile::load(b, tile, *memory, place, *stride);
                let sums = tile::multiply(b, tile, &panels, &self.levels(tile), sums);
                tile::store(b, tile, *memory, place, *stride, &sums);
            }
            Sink::Store(memory, base, stride) => {
                let place = b.affine(&[(*base, 1), (row, *stride), (column, 1)], 0);
                let zeros = tile::zeros(b, tile, *memory);
                let sums = tile::multiply(b, tile, &panels, &self.levels(tile), zeros);
                tile::store(b, tile, *memory, place, *stride, &sums);
            }
            Sink::Epilogue(target, point, first_row) => {
                let zeros = tile::zeros(b, tile, self.b.0);
                let sums = tile::multiply(b, tile, &panels, &self.levels(tile), zeros);
                let row = b.add(row, *first_row);
                target.finish(b, tile, point, (row, column), width, &sums);
            }
        }
    }
}

impl RowSource {
    /// Where the rows of a tile of so many begin, from a row on.
    pub fn starts(&self, b: &mut Builder, row: Value, count: usize) -> Rows {
        match self {
            Self::Even(first, step) => {
                let along = b.mul_index(row, *step);
                Rows::Even(b.add(*first, along), *step)
            }
            Self::Table(table, base) => {
                let mut starts = Vec::new();
                for at in 0..count as i64 {
                    let place = b.add_index(row, at);
                    let offset = b.load(*table, place, 1);
                    starts.push(b.add(offset, *base));
                }
                Rows::Each(starts)
            }
            Self::Lines(table, base, spacing) => {
                let offset = b.load(*table, row, 1);
                Rows::Lines(b.add(offset, *base), *spacing)
            }
        }
    }
}

/// Walks from `start` to `end` in steps of a tile's size, each with its first place and its size: whole tiles, and at
/// the end of all `total` what is left over, if there is something. Both starts and ends but the last are multiples of
/// the size.
pub fn in_tiles(
    b: &mut Builder,
    (start, end): (Value, Value),
    (total, size): (usize, usize),
    mut body: impl FnMut(&mut Builder, Value, usize),
) {
    let rest = total % size;
    let full_end = if rest == 0 { end } else { whole(b, start, end, size) };
    let step = b.index(size as i64);
    if total >= size {
        b.for_loop(start, full_end, step, &[], |b, at, _| {
            body(b, at, size);
            vec![]
        });
    }
    if rest > 0 {
        let left = b.lt(full_end, end);
        b.if_then(left, |b| body(b, full_end, rest));
    }
}

/// The end of the whole multiples of `size` between `start` and `end`.
fn whole(b: &mut Builder, start: Value, end: Value, size: usize) -> Value {
    let length = b.sub(end, start);
    let size = b.index(size as i64);
    let count = b.div(length, size);
    let length = b.mul(count, size);
    b.add(start, length)
}

impl Target<'_, '_> {
    /// Whether the epilogue is laid out for every register of a tile.
    pub fn is_short(&self) -> bool {
        if self.frame.members.is_empty() {
            return true;
        }
        let members: Vec<_> = self.frame.members.iter().copied().collect();
        cost::of_nodes(self.frame.graph, &members) <= SHORT_EPILOGUE
    }

    /// Puts a finished tile, of which `width` columns count, through the epilogue.
    pub fn finish(
        &self,
        b: &mut Builder,
        tile: Tile,
        point: &Point,
        (row, column): (Value, Value),
        width: usize,
        sums: &[Value],
    ) {
        let leaves_out_lanes = self.frame.leaves_out_lanes(self.column_axis);
        if self.is_short() && (width == tile.columns() || leaves_out_lanes) {
            let hoisted = self.hoisted(b, point);
            let counted = tile::places(tile).zip(sums).filter(|((_, j), _)| *j < width as i64);
            for ((i, j), &sum) in counted {
                let place = (b.add_index(row, i), b.add_index(column, j));
                let (lanes, left) = (b.lanes(sum), width as i64 - j);
                if left >= i64::from(lanes) {
                    self.at(b, point, place, lanes, &hoisted, sum);
                } else {
                    let left = b.index(left);
                    let mask = b.first_lanes(left, lanes);
                    self.some_at(b, point, place, mask, &hoisted, sum);
                }
            }
            return;
        }
        let Some(spill) = self.spill else { unreachable!("compiler bug: a tile is finished without room to spill") };
        let stride = tile.columns() as i64;
        let (zero, end) = (b.index(0), b.index(width as i64));
        tile::store(b, tile, spill, zero, stride, sums);
        b.for_each(tile.rows as i64, |b, i| {
            let (row, line) = (b.add(row, i), b.mul_index(i, stride));
            let widths = crate::lower::loops::widths(width, tile.lanes);
            self.line(b, point, (row, column), (zero, end), (spill, line), &widths);
        });
    }

    /// The epilogue of one row of finished sums in memory, in vectors of such widths; the columns of `range` count from
    /// a place and a coordinate.
    pub fn line(
        &self,
        b: &mut Builder,
        point: &Point,
        (row, column): (Value, Value),
        range: (Value, Value),
        (memory, line): (Memory, Value),
        widths: &[u8],
    ) {
        let hoisted = self.hoisted_row(b, point, row);
        let masked = widths.len() > 1 && self.frame.leaves_out_lanes(self.column_axis);
        let whole = if masked { &widths[..1] } else { widths };
        let end = span(b, range, whole, |b, at, lanes| {
            let place = b.add(line, at);
            let sum = b.load(memory, place, lanes);
            let column = b.add(column, at);
            self.at(b, point, (row, column), lanes, &hoisted, sum);
        });
        if masked {
            let has_rest = b.lt(end, range.1);
            b.if_then(has_rest, |b| {
                let left = b.sub(range.1, end);
                let mask = b.first_lanes(left, widths[0]);
                let place = b.add(line, end);
                let sum = b.load_masked(memory, place, mask);
                let column = b.add(column, end);
                self.some_at(b, point, (row, column), mask, &hoisted, sum);
            });
        }
    }

    /// As [`Self::line`], of sums of so many parts, added in order.
    pub fn line_of_parts(
        &self,
        b: &mut Builder,
        point: &Point,
        (row, column): (Value, Value),
        range: (Value, Value),
        (memory, first, part, count): (Memory, Value, i64, u64),
        lanes: u8,
    ) {
        let hoisted = self.hoisted_row(b, point, row);
        span(b, range, &[lanes, 1], |b, at, lanes| {
            let place = b.add(first, at);
            let sum = sum_of_parts(b, memory, place, part, count, lanes);
            let column = b.add(column, at);
            self.at(b, point, (row, column), lanes, &hoisted, sum);
        });
    }

    /// What is the same along a whole row.
    pub fn hoisted_row(&self, b: &mut Builder, point: &Point, row: Value) -> Known {
        let mut known = Known::default();
        let mut scalar = Point { lanes: 1, ..point.clone() };
        scalar.coordinates[self.row_axis] = row;
        self.frame.hoist(b, &scalar, &mut known, |axis| axis == self.column_axis);
        known
    }

    fn hoisted(&self, b: &mut Builder, point: &Point) -> Known {
        let mut known = Known::default();
        let scalar = Point { lanes: 1, ..point.clone() };
        self.frame.hoist(b, &scalar, &mut known, |axis| axis == self.row_axis || axis == self.column_axis);
        known
    }

    /// The epilogue of one vector of sums.
    pub fn at(&self, b: &mut Builder, point: &Point, place: (Value, Value), lanes: u8, known: &Known, sum: Value) {
        let (point, mut known) = self.bound(point, place, lanes, known, sum);
        self.frame.evaluate_and_write(b, &point, &mut known, self.outputs);
        if let Some(Kept { value, memory, first, row }) = self.kept {
            let kept = self.frame.evaluate(b, &point, &mut known, value);
            let place = b.affine(&[(first, 1), (place.0, row), (place.1, 1)], 0);
            b.store(memory, place, kept);
        }
    }

    /// As [`Self::at`], of the lanes alone that a mask has.
    fn some_at(&self, b: &mut Builder, point: &Point, place: (Value, Value), mask: Value, known: &Known, sum: Value) {
        let (point, mut known) = self.bound(point, place, b.lanes(sum), known, sum);
        self.frame.evaluate_and_write_some(b, &point, &mut known, (self.outputs, mask));
        if let Some(Kept { value, memory, first, row }) = self.kept {
            let kept = self.frame.evaluate(b, &point, &mut known, value);
            let place = b.affine(&[(first, 1), (place.0, row), (place.1, 1)], 0);
            b.store_masked(memory, place, mask, kept);
        }
    }

    /// A value of the epilogue of one vector of sums.
    pub fn value(
        &self,
        b: &mut Builder,
        point: &Point,
        place: (Value, Value),
        known: &Known,
        (sum, value): (Value, ValueId),
    ) -> Value {
        let (point, mut known) = self.bound(point, place, point.lanes, known, sum);
        self.frame.evaluate(b, &point, &mut known, value)
    }

    /// A point at a row and column, and what is known there.
    fn bound(
        &self,
        point: &Point,
        (row, column): (Value, Value),
        lanes: u8,
        known: &Known,
        sum: Value,
    ) -> (Point, Known) {
        let mut point = Point { vector: self.column_axis, lanes, ..point.clone() };
        point.coordinates[self.row_axis] = row;
        point.coordinates[self.column_axis] = column;
        let mut known = known.clone();
        known.bind(self.result, sum, lanes);
        (point, known)
    }
}

/// The sum of `count` numbers or vectors that lie `part` elements apart, in order.
pub fn sum_of_parts(b: &mut Builder, memory: Memory, first: Value, part: i64, count: u64, lanes: u8) -> Value {
    let start = b.load(memory, first, lanes);
    let (one, end, step) = (b.index(1), b.index(count as i64), b.index(1));
    b.for_loop(one, end, step, &[start], |b, at, sum| {
        let place = b.affine(&[(first, 1), (at, part)], 0);
        let value = b.load(memory, place, lanes);
        vec![b.add(sum[0], value)]
    })[0]
}
