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
        name: "conv_transpose",
        parameters: &["x", "w", "stride?", "padding?", "output_padding?", "dilation?", "groups?"],
        doc: "The transpose of `conv`: `[N, C, ...X], [C, units / groups, ...K] -> [N, units, ...Y]` with `Y = (X - 1) * stride - 2 * padding + dilation * (K - 1) + output_padding + 1`.",
        run: conv_transpose,
    },
    Builtin {
        name: "window_max",
        parameters: &["x", "size", "stride?", "padding?", "behind?"],
        doc: "The largest element of each window: `[N, C, ...X] -> [N, C, ...Y]`. The stride is the size unless given; `behind` is added to the padding at the end of each axis.",
        run: |call| window(call, WindowOp::Max),
    },
    Builtin {
        name: "window_sum",
        parameters: &["x", "size", "stride?", "padding?", "behind?"],
        doc: "The sum of each window: `[N, C, ...X] -> [N, C, ...Y]`. Arguments as for `window_max`.",
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

/// Stride and padding from arguments 2 and 3, dilation and groups from `dilation` and the one behind it.
fn conv_attributes(call: &mut Call<'_, '_>, axes: usize, dilation: usize) -> Option<ConvAttributes> {
    let padding = call.per_axis(3, axes, 0)?;
    let groups = dilation + 1;
    Some(ConvAttributes {
        stride: call.per_axis(2, axes, 1)?,
        low: padding.clone(),
        high: padding,
        dilation: call.per_axis(dilation, axes, 1)?,
        groups: if call.has(groups) { call.dim(groups)? } else { Dim::from(1i64) },
    })
}

fn conv(call: &mut Call<'_, '_>) -> Option<Value> {
    let (x, w) = (call.tensor(0)?, call.tensor(1)?);
    let rank = call.rank(x);
    let axes = spatial(call, rank)?;
    let attributes = conv_attributes(call, axes, 4)?;
    call.emit(Op::Conv(attributes), &[x, w]).map(Value::Tensor)
}

fn conv_transpose(call: &mut Call<'_, '_>) -> Option<Value> {
    let (x, w) = (call.tensor(0)?, call.tensor(1)?);
    let (tx, tw) = (call.ty(x), call.ty(w));
    let axes = spatial(call, tx.shape.rank())?;
    if tw.shape.rank() != tx.shape.rank() {
        let message = format!("the weights of {tx} have its rank, unlike {tw}");
        return call.fail(Code::E0301, 1, message);
    }
    let attributes = conv_attributes(call, axes, 5)?;
    if tx.shape[1] != tw.shape[0] {
        let message = format!("{tx} has {} channels, the weights {tw} take {}", tx.shape[1], tw.shape[0]);
        let help = "the weights are [channels of the input, channels of the result / groups, ...kernel]";
        return call.fail_with_help(Code::E0301, 1, message, help.to_owned());
    }
    if let (Some(channels), Some(groups)) = (tx.shape[1].as_number(), attributes.groups.as_number())
        && (groups < 1 || channels % groups != 0)
    {
        let message = format!("{channels} channels of {tx} do not divide into {groups} groups");
        return call.fail(Code::E0301, if call.has(6) { 6 } else { 0 }, message);
    }
    let more = call.per_axis(4, axes, 0)?;
    for (more, stride) in more.iter().zip(&attributes.stride) {
        let (Some(more), Some(stride)) = (more.as_number(), stride.as_number()) else { continue };
        if !(0..stride.max(1)).contains(&more) {
            return call.fail(Code::E0309, 4, "an output padding is at least 0 and below the stride");
        }
    }
    let one = || Dim::from(1i64);
    let input: Vec<Dim> = (0..axes)
        .map(|i| {
            let reach = attributes.dilation[i].clone() * (tw.shape[i + 2].clone() - one());
            let steps = (tx.shape[i + 2].clone() - one()) * attributes.stride[i].clone();
            steps - attributes.low[i].clone() - attributes.high[i].clone() + reach + more[i].clone() + one()
        })
        .collect();
    if let Some(small) = input.iter().find(|dim| dim.as_number().is_some_and(|n| n < 1)) {
        let message = format!("the padding leaves {small} of the result, and a dim is at least 1");
        return call.fail(Code::E0309, if call.has(3) { 3 } else { 0 }, message);
    }
    call.emit(Op::ConvInputGrad { attributes, input }, &[x, w]).map(Value::Tensor)
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
    let behind = call.per_axis(4, axes, 0)?;
    if behind.iter().any(|behind| behind.as_number().is_some_and(|n| n < 0)) {
        return call.fail(Code::E0309, 4, "a padding is not negative");
    }
    let high = padding.iter().zip(behind).map(|(padding, behind)| padding.clone() + behind).collect();
    let attributes = WindowAttributes { size, stride, low: padding, high };
    call.emit(Op::Window { op, attributes }, &[x]).map(Value::Tensor)
}
