//! The rows of a matrix as what a kernel of single elements reads.

use super::elements::{Blocks, Body, Run, Source};
use super::turn;
use crate::ir::{Builder, Direction, Elem, Memory, Value};
use crate::lower::Lowering;
use crate::lower::loops::Split;
use crate::lower::matmul::pack::Matrix;
use crate::lower::matmul::product::Target;
use crate::lower::memory::{KernelDraft, Place};
use crate::lower::sparse::{Tables, origin};

/// Builds the phase of a product of `rows` by a matrix of `depth` terms.
pub fn emit(
    lowering: &Lowering<'_>,
    draft: &mut KernelDraft,
    target: &Target<'_, '_>,
    blocks: &Blocks,
    (a, tables, order): (&Place, &Tables, Memory),
) {
    let (rows, depth) = (a.layout.dims[0], blocks.terms());
    let body = Body::new(lowering, draft, blocks, (tables, order), depth * blocks.height);
    let memory = draft.param(a.buffer, a.elem, Direction::In);
    let lanes = lowering.lanes_of(Elem::F32);
    let (rows, cuts) = (Split::new(rows, blocks.height, 1), blocks.cuts());
    draft.builder.phase(rows.tasks() * cuts, |b, task| {
        let count = b.index(cuts as i64);
        let (block, cut) = (b.div(task, count), b.rem(task, count));
        let (first, end) = rows.bounds(b, block);
        let count = b.sub(end, first);
        let point = origin(b);
        let zero = b.index(0);
        let rows = Rows { a: (a, memory), first, count, zero, height: blocks.height as i64, lanes };
        body.task(b, (target, &point), &rows, cut);
    });
}

/// Some rows of a matrix.
struct Rows<'a> {
    a: (&'a Place, Memory),
    first: Value,
    count: Value,
    zero: Value,
    /// Elements between terms when they are turned.
    height: i64,
    lanes: u8,
}

impl Source for Rows<'_> {
    fn turn(&self, b: &mut Builder, to: Memory, terms: (Value, Value)) {
        let layout = &self.a.0.layout;
        let [down, along] = [layout.strides[0], layout.strides[1]];
        let first = b.affine(&[(self.first, down), (terms.0, along)], layout.offset);
        let terms = b.sub(terms.1, terms.0);
        let from = Matrix { memory: self.a.1, first, row: down, column: along };
        turn::turn(b, &from, (self.count, terms), (to, self.zero, self.height), self.lanes);
    }

    fn places(&self) -> Value {
        self.count
    }

    fn each_run(&self, b: &mut Builder, body: &mut dyn FnMut(&mut Builder, Run)) {
        body(b, Run { first: self.zero, count: self.count, row: self.first });
    }
}
