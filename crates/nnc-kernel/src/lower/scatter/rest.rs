//! The rows that a scatter-add does not touch, where they may be left alone.
//!
//! A gradient that is 0 changes nothing in `w - rate * gradient`, if `rate * 0` is `+0`: a program of which that is the
//! update visits the rows that have a gradient. Whether it holds is asked at run time, of the one number that the other
//! rows would be changed by: a rate that is negative or no finite number makes another zero, or none. The same holds of
//! a scatter-add that is written over its own first operand.
//!
//! **Exact**: what is left out would store the bits that are there already (payloads of NaN aside). An update that has
//! a momentum or decays weights is none of these: it changes every row.

use crate::ir::{Base, Builder, Elem, Value};
use crate::lower::evaluate::{Known, Point};
use crate::lower::frame::{Frame, Read, Walk};
use crate::lower::memory::KernelDraft;
use nnc_graph::{BinaryOp, Op, ValueId};
use nnc_opt::fuse::{Class, base, class};

/// When rows without an update keep what is there.
pub struct Rest {
    /// The result of the scatter-add, and what it is in these rows, if that is the same everywhere.
    result: ValueId,
    uniform: Option<(Elem, u64)>,
    /// Numbers that have to be zeros, and whether negative ones.
    zeros: Vec<(ValueId, bool)>,
}

impl Rest {
    /// Of a kernel that computes `outputs` out of a scatter-add to `x`; none if it changes all rows.
    pub fn new(
        draft: &KernelDraft,
        frame: &Frame<'_>,
        (result, x): (ValueId, &Read),
        outputs: &[ValueId],
    ) -> Option<Self> {
        let uniform = match x {
            Read::Uniform(elem, bits) => Some((*elem, *bits)),
            Read::Memory(_) => None,
        };
        let mut search = Search { draft, frame, x, rest: Self { result, uniform, zeros: Vec::new() } };
        outputs.iter().all(|&output| search.keeps(output, &frame.writes[&output])).then_some(search.rest)
    }

    /// Whether they keep it in this run, a bool. `point` is any one.
    pub fn stays(&self, b: &mut Builder, frame: &Frame<'_>, point: &Point, known: &Known) -> Value {
        let mut known = known.clone();
        if let Some((elem, bits)) = self.uniform {
            let x = b.constant(crate::ir::Type::scalar(elem), bits);
            known.bind(self.result, x, 1);
        }
        let mut all = b.bool(true, 1);
        for &(value, is_negative) in &self.zeros {
            let number = frame.evaluate(b, point, &mut known, value);
            let zero = b.zero(b.type_of(number));
            let zero = if is_negative { b.neg(zero) } else { zero };
            let is_zero = same_bits(b, number, zero);
            all = b.and(all, is_zero);
        }
        all
    }
}

fn same_bits(b: &mut Builder, x: Value, y: Value) -> Value {
    let whole = match b.type_of(x).elem {
        Elem::F32 => Some(Elem::I32),
        Elem::F64 => Some(Elem::I64),
        Elem::I8 | Elem::U8 | Elem::I16 | Elem::I32 | Elem::I64 | Elem::Bool | Elem::F16 | Elem::Bf16 => None,
    };
    let [x, y] = [x, y].map(|value| whole.map_or(value, |whole| b.bitcast(value, whole)));
    b.eq(x, y)
}

struct Search<'a, 'g> {
    draft: &'a KernelDraft,
    frame: &'a Frame<'g>,
    x: &'a Read,
    rest: Rest,
}

impl Search<'_, '_> {
    /// Whether `value`, which is stored at `to`, is there already; notes under which conditions.
    fn keeps(&mut self, value: ValueId, to: &Walk) -> bool {
        if base(self.frame.graph, value) == self.rest.result {
            return self.lies_at(self.x, to);
        }
        let Some(member) = self.frame.member_of(value) else {
            return self.frame.reads.get(&value).is_some_and(|read| self.lies_at(read, to));
        };
        let node = self.frame.graph.definition(member);
        match (&node.op, &node.operands[..]) {
            (Op::Select, &[_, yes, no]) => self.keeps(yes, to) && self.keeps(no, to),
            (Op::Binary(BinaryOp::Sub), &[x, zero]) => self.keeps(x, to) && self.is_zero(zero, false),
            (Op::Binary(BinaryOp::Add), &[x, y]) => {
                let (x, zero) = if self.is_one_number(y) { (x, y) } else { (y, x) };
                let is_float = self.frame.graph.ty(value).dtype.is_float();
                self.keeps(x, to) && self.is_zero(zero, is_float)
            }
            _ => false,
        }
    }

    /// Asks for a zero; false if it is not one number for all rows.
    fn is_zero(&mut self, value: ValueId, is_negative: bool) -> bool {
        let can = self.is_one_number(value);
        self.rest.zeros.extend(can.then_some((value, is_negative)));
        can
    }

    /// Whether a value is the same in all rows that no index names.
    fn is_one_number(&self, value: ValueId) -> bool {
        if base(self.frame.graph, value) == self.rest.result {
            return self.rest.uniform.is_some();
        }
        match self.frame.member_of(value) {
            Some(member) => {
                let node = self.frame.graph.definition(member);
                class(&node.op) == Class::Pointwise && node.operands.iter().all(|&value| self.is_one_number(value))
            }
            None => match self.frame.reads.get(&value) {
                Some(Read::Uniform(..)) => true,
                Some(Read::Memory(walk)) => walk.strides.iter().all(|&stride| stride == 0),
                None => false,
            },
        }
    }

    /// Whether an operand lies exactly where an output does.
    fn lies_at(&self, read: &Read, to: &Walk) -> bool {
        let buffer = |walk: &Walk| match walk.memory.base {
            Base::Param(param) => Some(self.draft.args[param.index()].0),
            Base::Scratch(_) => None,
        };
        match read {
            Read::Uniform(..) => false,
            Read::Memory(from) => buffer(from) == buffer(to) && from.strides == to.strides && from.offset == to.offset,
        }
    }
}
