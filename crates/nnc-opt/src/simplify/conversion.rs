//! Rules of casts.

use super::{Rule, Term};
use nnc_graph::{DType, Graph, Op, ValueId};

/// All of them.
pub const RULES: &[Rule] = &[
    Rule { name: "cast to the dtype it has", apply: no_cast },
    Rule { name: "cast through a dtype that loses nothing", apply: cast_of_cast },
];

fn no_cast(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let Op::Cast(to) = op else { return None };
    (graph.ty(x[0]).dtype == *to).then_some(Term::Value(x[0]))
}

fn cast_of_cast(graph: &Graph, op: &Op, x: &[ValueId]) -> Option<Term> {
    let inner = graph.definition(x[0]);
    let (Op::Cast(to), Op::Cast(middle)) = (op, &inner.op) else { return None };
    let from = graph.ty(inner.operands[0]).dtype;
    // A float becomes an integer by saturation, an integer by wrapping: the way matters then.
    let same_way = to.is_float() || middle.is_float() == from.is_float() || *to == DType::Bool;
    // Kernels read floats of 16 bits by way of f32 alone.
    let stays = from.is_half() && *middle == DType::F32 && !to.is_half();
    (holds_all(*middle, from) && same_way && !stays).then(|| Term::op(op.clone(), &[inner.operands[0]]))
}

/// Whether every value of `narrow` is one of `wide`.
fn holds_all(wide: DType, narrow: DType) -> bool {
    use DType::{Bf16, Bool, F16, F32, F64, I8, I16, I32, I64, U8};
    match narrow {
        Bool => true,
        I8 => matches!(wide, I8 | I16 | I32 | I64 | F16 | F32 | F64 | Bf16),
        U8 => matches!(wide, U8 | I16 | I32 | I64 | F16 | F32 | F64 | Bf16),
        I16 => matches!(wide, I16 | I32 | I64 | F32 | F64),
        I32 => matches!(wide, I32 | I64 | F64),
        I64 => wide == I64,
        F16 => matches!(wide, F16 | F32 | F64),
        Bf16 => matches!(wide, Bf16 | F32 | F64),
        F32 => matches!(wide, F32 | F64),
        F64 => wide == F64,
    }
}
