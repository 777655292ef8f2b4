//! Convolution and pooling windows over the axes behind `[N, C, ...]`.

use super::{Builtin, Call};
use crate::diagnostic::Code;
use crate::elaborate::value::Value;
use nnc_graph::{ConvAttributes, Dim, Op, WindowAttributes, WindowOp};

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "conv",
        parameters: &["x", "w", "stride?", "padding?", "dilation?", "groups?"],
        doc: "Cross-correlation: `[N, C, ...X], [units, C / groups, ...K] -> [N, units, ...Y]`; settings per axis or for all.",
        run: conv,
    },
    Builtin {
        name: "window_max",
        parameters: &["x", "size", "stride?", "padding?"],
        doc: "The largest element of each window: `[N, C, ...X] -> [N, C, ...Y]`. The stride is the size unless given.",
        run: |call| window(call, WindowOp::Max),
    },
    Builtin {
        name: "window_sum",
        parameters: &["x", "size", "stride?", "padding?"],
        doc: "The sum of each window: `[N, C, ...X] -> [N, C, ...Y]`. The stride is the size unless given.",
        run: |call| window(call, WindowOp::Sum),
    },
];

/// The number of axes behind the first two.
fn spatial(call: &mut Call<'_, '_>, rank: usize) -> Option<usize> {
    if rank >= 3 {
        return Some(rank - 2);
    }
    let message = format!("`{}` works on [N, C, ...], not on a tensor of rank {rank}", call.builtin.name);
    call.fail(Code::E0301, 0, message)
}

fn conv(call: &mut Call<'_, '_>) -> Option<Value> {
    let (x, w) = (call.tensor(0)?, call.tensor(1)?);
    let rank = call.rank(x);
    let axes = spatial(call, rank)?;
    let padding = call.per_axis(3, axes, 0)?;
    let attributes = ConvAttributes {
        stride: call.per_axis(2, axes, 1)?,
        low: padding.clone(),
        high: padding,
        dilation: call.per_axis(4, axes, 1)?,
        groups: if call.has(5) { call.dim(5)? } else { Dim::from(1i64) },
    };
    call.emit(Op::Conv(attributes), &[x, w]).map(Value::Tensor)
}

fn window(call: &mut Call<'_, '_>, op: WindowOp) -> Option<Value> {
    let x = call.tensor(0)?;
    let rank = call.rank(x);
    let axes = spatial(call, rank)?;
    let size = call.per_axis(1, axes, 1)?;
    let stride = if call.has(2) { call.per_axis(2, axes, 1)? } else { size.clone() };
    let padding = call.per_axis(3, axes, 0)?;
    let too_wide = |(size, padding): (&Dim, &Dim)| {
        let (Some(size), Some(padding)) = (size.as_number(), padding.as_number()) else { return false };
        padding.saturating_mul(2) > size
    };
    if size.iter().zip(&padding).any(too_wide) {
        return call.fail(Code::E0309, 3, "the padding of a window is at most half its size");
    }
    let attributes = WindowAttributes { size, stride, low: padding.clone(), high: padding };
    call.emit(Op::Window { op, attributes }, &[x]).map(Value::Tensor)
}
