//! What products by a sparse constant matrix cost, and which way is the best: a pure function of shape and pattern.
//!
//! Costs are cycles of one core with vectors of eight f32, two multiply-adds and two loads of vectors in a cycle,
//! whatever the machine is that code is made for: the choice decides which tables a program has, and programs of
//! several instruction sets share them. Blocks gain less from vectors of sixteen than the dense kernel does, as each of
//! A's elements is repeated for half as many vectors, and few sums wait for their last multiply-add; they have to be
//! worth it there, too. Each way adds the terms of a sum in the order of k, so they all give the same bits.

use super::elements::Blocks;
use super::lists::{Form, LOOKED_UP, Lists};
use super::pattern::Pattern;
use super::planes::Planes;
use crate::lower::sparse::Sizes;
use std::fmt;

/// Below this share of zeros nothing is tried.
const LEAST_SPARSITY: f64 = 0.4;
/// What is gained must be worth the tables.
const WORTH: f64 = 0.9;
/// The widths of blocks that are looked at: a vector, and two.
const WIDTHS: [usize; 2] = [16, 8];
/// Rows of a tile of blocks.
pub const TILE_ROWS: usize = 6;
/// The most rows whose elements are looked up.
const LOOKED_UP_ROWS: usize = 8;
/// Bytes of tables that stay in the first cache, beside rows.
const FIRST_CACHE: usize = 64 << 10;
/// How much longer an element takes whose table comes from the second cache.
const TABLES_COST: f64 = 1.15;
/// Cycles from a multiply-add to the next one on its sum.
const LATENCY: f64 = 4.0;
/// Cycles in which a step's numbers are read from its list.
const LISTED: f64 = 0.45;
/// The lanes of the vectors of machines.
const LANES: [usize; 2] = [8, 16];
/// Cycles of a multiply-add of sixteen rows.
const UNIT_CYCLES: f64 = 1.3;
/// Cycles in which an element is turned, in or out.
const TURN_CYCLES: f64 = 0.3;
/// Bytes of the second cache that are left for a matrix.
const SECOND_CACHE: usize = 384 << 10;
/// Bytes of a last cache.
const LAST_CACHE: usize = 16 << 20;

/// A product by a sparse constant matrix.
pub struct Product<'a> {
    /// Rows of A.
    pub rows: usize,
    /// The matrix.
    pub pattern: &'a Pattern,
    /// What of the arithmetic the dense kernel does: less than all by Winograd's form.
    pub share: f64,
    /// Of so many images, if rows are windows, how these are cut.
    pub windows: Option<(usize, &'a Planes)>,
}

/// What was decided.
pub enum Choice {
    /// The matrix has too few zeros that anybody would look.
    NotSparse,
    /// The dense kernel is as fast.
    Dense {
        /// Cycles of the dense kernel, and of the best sparse one.
        cycles: (f64, f64),
    },
    /// The lists to be walked.
    Sparse {
        /// What entries are.
        form: Form,
        /// Cycles of the dense kernel, and of this one.
        cycles: (f64, f64),
    },
}

/// What a form takes.
struct Estimate {
    form: Form,
    /// Cycles.
    cycles: f64,
    /// The same if it gained as little everywhere as where it gains least.
    most: f64,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocks(width) => write!(f, "blocks of 1x{width}"),
            Self::LookUp => f.write_str("elements looked up"),
            Self::Elements => f.write_str("single elements, rows transposed"),
        }
    }
}

impl Product<'_> {
    /// The best way.
    pub fn choose(&self) -> Choice {
        if self.pattern.sparsity() < LEAST_SPARSITY || self.pattern.a_zero().is_none() {
            return Choice::NotSparse;
        }
        let dense = self.dense(LANES[0]);
        let forms: Vec<Estimate> = self.estimates().collect();
        let worth = forms.iter().filter(|form| form.most < WORTH * dense);
        if let Some(best) = worth.min_by(|a, b| a.cycles.total_cmp(&b.cycles)) {
            return Choice::Sparse { form: best.form, cycles: (dense, best.cycles) };
        }
        let least = forms.iter().fold(f64::INFINITY, |least, form| least.min(form.most));
        Choice::Dense { cycles: (dense, least) }
    }

    /// The forms that there are for it.
    fn estimates(&self) -> impl Iterator<Item = Estimate> {
        let same = |(form, cycles)| Estimate { form, cycles, most: cycles };
        let look_up = self.look_up().map(|cycles| same((Form::LookUp, cycles)));
        [same((Form::Elements, self.elements()))]
            .into_iter()
            .chain(WIDTHS.map(|width| self.blocks(width)))
            .chain(look_up)
    }

    /// The dense kernel, with vectors of so many lanes.
    fn dense(&self, lanes: usize) -> f64 {
        let elements = self.pattern.columns * self.pattern.depth;
        let arithmetic = self.share * (self.rows * elements) as f64 / (2 * lanes) as f64;
        arithmetic.max(reading(4 * elements))
    }

    fn blocks(&self, width: usize) -> Estimate {
        let lists = self.pattern.columns.div_ceil(width);
        let any = |list: usize, k: usize| (list * width..(list + 1) * width).any(|at| self.pattern.is_kept(at, k));
        let entries = (0..lists).map(|list| (0..self.pattern.depth).filter(|&k| any(list, k)).count());
        let entries: usize = entries.sum();
        let read = reading(entries * (4 * width + 4));
        let cycles = |lanes: usize| (entries as f64 * self.steps(width, lanes)).max(read);
        let share = |lanes: usize| cycles(lanes) / self.dense(lanes);
        let most = LANES.map(share).into_iter().fold(0.0, f64::max) * self.dense(LANES[0]);
        Estimate { form: Form::Blocks(width), cycles: cycles(LANES[0]), most }
    }

    /// Cycles of an entry of a list of blocks for all rows.
    fn steps(&self, width: usize, lanes: usize) -> f64 {
        let together = together(Form::Blocks(width), self.rows) as f64;
        let vectors = width.div_ceil(lanes) as f64;
        // Wide vectors leave time to read the lists.
        let listed = if lanes == LANES[0] { LISTED } else { 0.0 };
        let step = |rows: usize| {
            let (products, loads) = (rows as f64 * vectors, rows as f64 + vectors);
            (products / 2.0 + 0.2).max(loads / 2.0 + listed).max(LATENCY / together)
        };
        let (whole, rest) = (self.rows / TILE_ROWS, self.rows % TILE_ROWS);
        whole as f64 * step(TILE_ROWS) + if rest > 0 { step(rest) } else { 0.0 }
    }

    fn elements(&self) -> f64 {
        let Pattern { columns, depth, .. } = *self.pattern;
        let kept = self.pattern.count();
        let (each, turned) = match self.windows {
            None => {
                let blocks = Blocks::of_rows(&Sizes { rows: self.rows, columns, depth }, kept);
                (blocks.cost(self.rows), depth * self.rows)
            }
            Some((images, planes)) => (images as f64 * planes.cost(), images * planes.blocks() * planes.elements()),
        };
        // Tables that leave the first cache come from the second.
        let far = if 8 * kept > FIRST_CACHE { TABLES_COST } else { 1.0 };
        UNIT_CYCLES * far * kept as f64 * each + TURN_CYCLES * (turned + columns * self.rows) as f64
    }

    /// `None` where rows are many or shorter than what is looked up in, and for windows of an image.
    fn look_up(&self) -> Option<f64> {
        if self.windows.is_some() || self.rows > LOOKED_UP_ROWS || self.pattern.depth < LOOKED_UP {
            return None;
        }
        let entries = Lists::in_order(self.pattern, Form::LookUp, together(Form::LookUp, self.rows)).entries();
        let arithmetic = entries as f64 * (1.2 + 1.2 * self.rows as f64);
        Some(arithmetic.max(1.3 * reading(entries * (4 * LOOKED_UP + LOOKED_UP + 4))))
    }
}

/// Cycles in which so many bytes are read.
fn reading(bytes: usize) -> f64 {
    let in_a_cycle = match bytes {
        bytes if bytes <= SECOND_CACHE => 32.0,
        bytes if bytes <= LAST_CACHE => 20.0,
        _ => 6.0,
    };
    bytes as f64 / in_a_cycle
}

/// How many lists of vectors along columns are walked side by side: enough sums to hide the latency of each, and few
/// enough for the registers.
pub fn together(form: Form, rows: usize) -> usize {
    match (form, rows) {
        (_, 1) => 4,
        (Form::LookUp, 2..=3) | (Form::Blocks(_), 2..=3) => 2,
        (Form::LookUp | Form::Blocks(_) | Form::Elements, _) => 1,
    }
}
