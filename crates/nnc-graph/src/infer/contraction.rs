//! Types of what adds products and of windows: `dot`, convolutions and their transposes, pooling.

use super::{Checked, fault, fault_at, same, sum_of, without_axes};
use crate::{ConvAttributes, DType, Dim, Stored, TensorType, WindowAttributes, WindowOp};

pub(super) fn dot(
    a: &TensorType,
    b: &TensorType,
    batch: usize,
    a_axes: &[usize],
    b_axes: &[usize],
) -> Checked<TensorType> {
    let Some(dtype) = sum_of(a.dtype, b.dtype) else {
        return fault(format!("multiplies floats or i32 of one dtype, or u8 by i8, not {a} by {b}"));
    };
    let contracted_well = |x: &TensorType, axes: &[usize]| {
        let distinct = axes.iter().enumerate().all(|(i, axis)| !axes[..i].contains(axis));
        distinct && axes.iter().all(|&axis| axis >= batch && axis < x.shape.rank())
    };
    if a_axes.len() != b_axes.len() || !contracted_well(a, a_axes) || !contracted_well(b, b_axes) {
        return fault(format!("axes {a_axes:?} of {a} and {b_axes:?} of {b} do not pair"));
    }
    if batch > a.shape.rank() || batch > b.shape.rank() || a.shape[..batch] != b.shape[..batch] {
        return fault(format!("{a} and {b} do not share {batch} leading axes"));
    }
    for (&i, &j) in a_axes.iter().zip(b_axes) {
        if a.shape[i] != b.shape[j] {
            return fault(format!("the inner dims {} of {a} and {} of {b} differ", a.shape[i], b.shape[j]));
        }
    }
    let free =
        |x: &TensorType, axes: &[usize]| without_axes(&x.shape, &[axes, &(0..batch).collect::<Vec<_>>()].concat());
    Ok(TensorType::new(dtype, [a.shape[..batch].to_vec(), free(a, a_axes), free(b, b_axes)].concat()))
}

pub(super) fn dot_stored(stored: Stored, x: &TensorType, rest: &[TensorType]) -> Checked<TensorType> {
    let Some((terms, rows)) = x.shape.0.split_last().filter(|_| x.dtype == DType::F32) else {
        return fault_at(0, format!("multiplies f32 of one axis at least, not {x}"));
    };
    let columns = rest[0].shape.0.last().and_then(Dim::as_number);
    let (Some(depth), Some(columns)) = (terms.as_number().map(|depth| depth as usize), columns) else {
        return fault(format!("{x} by {}: both have so many terms and columns as are known", rest[0]));
    };
    let columns = columns as usize;
    if !stored.fits(depth) {
        return fault(format!("{depth} terms cannot be kept as {stored}"));
    }
    let wanted = [Some(stored.matrix(depth, columns)), stored.scales(depth, columns)];
    for (at, (wanted, found)) in wanted.iter().flatten().zip(rest).enumerate() {
        if wanted != found {
            return fault_at(at + 1, format!("{depth} terms as {stored} are {wanted}, not {found}"));
        }
    }
    Ok(TensorType::new(DType::F32, [rows, &[Dim::from(columns)]].concat()))
}

/// `floor((x + low + high - dilation * (k - 1) - 1) / stride) + 1`, for one axis.
pub(super) fn windows_along(x: &Dim, k: &Dim, low: &Dim, high: &Dim, stride: &Dim, dilation: &Dim) -> Checked<Dim> {
    let one = Dim::from(1i64);
    let reach = dilation.clone() * (k.clone() - one.clone()) + one.clone();
    let padded = x.clone() + low.clone() + high.clone();
    let at_least = |dim: &Dim, least: i64| dim.as_number().is_none_or(|n| n >= least);
    if !at_least(stride, 1) || !at_least(dilation, 1) || !at_least(k, 1) || !at_least(low, 0) || !at_least(high, 0) {
        return fault(format!(
            "kernel {k}, stride {stride} and dilation {dilation} are at least 1, padding at least 0"
        ));
    }
    let room = padded.clone() - reach.clone();
    if !at_least(&room, 0) {
        return fault(format!("a window of {reach} does not fit into {padded}"));
    }
    let steps = room.floor_div(stride).unwrap_or_else(|| Dim::from(0i64));
    Ok(steps + one)
}

pub(super) fn conv_geometry(spatial: &[Dim], kernel: &[Dim], at: &ConvAttributes) -> Checked<Vec<Dim>> {
    let rank = spatial.len();
    let lists = [&at.stride, &at.low, &at.high, &at.dilation];
    if kernel.len() != rank || lists.iter().any(|list| list.len() != rank) {
        return fault(format!("{rank} spatial axes, {} of the kernel", kernel.len()));
    }
    let axis =
        |i: usize| windows_along(&spatial[i], &kernel[i], &at.low[i], &at.high[i], &at.stride[i], &at.dilation[i]);
    (0..rank).map(axis).collect()
}

/// Gives the dtype of the sums.
pub(super) fn conv_ranks(x: &TensorType, w: &TensorType) -> Checked<DType> {
    let Some(dtype) = sum_of(x.dtype, w.dtype).filter(|_| x.dtype != DType::I32) else {
        return fault(format!("convolves floats of one dtype, or u8 with i8, not {x} with {w}"));
    };
    if x.shape.rank() < 3 || w.shape.rank() != x.shape.rank() {
        return fault(format!("{x} and {w} are not [N, C, ...] and [Co, Ci, ...] of one rank"));
    }
    Ok(dtype)
}

pub(super) fn conv(x: &TensorType, w: &TensorType, at: &ConvAttributes) -> Checked<TensorType> {
    let dtype = conv_ranks(x, w)?;
    if at.groups.clone() * w.shape[1].clone() != x.shape[1] {
        return fault(format!("{x} has {} channels, {w} in {} groups takes others", x.shape[1], at.groups));
    }
    if let (Some(co), Some(groups)) = (w.shape[0].as_number(), at.groups.as_number())
        && (groups < 1 || co % groups != 0)
    {
        return fault(format!("{co} output channels do not divide into {groups} groups"));
    }
    let spatial = conv_geometry(&x.shape[2..], &w.shape[2..], at)?;
    Ok(TensorType::new(dtype, [vec![x.shape[0].clone(), w.shape[0].clone()], spatial].concat()))
}

pub(super) fn conv_last(x: &TensorType, w: &TensorType, at: &ConvAttributes) -> Checked<TensorType> {
    conv_ranks(x, w)?;
    Ok(with_channels_last(conv(&with_channels_first(x), w, at)?))
}

/// The type of `[N, ...X, C]` as `[N, C, ...X]`.
fn with_channels_first(image: &TensorType) -> TensorType {
    let mut first = image.clone();
    first.shape.0[1..].rotate_right(1);
    first
}

/// The type of `[N, C, ...X]` as `[N, ...X, C]`.
fn with_channels_last(mut image: TensorType) -> TensorType {
    image.shape.0[1..].rotate_left(1);
    image
}

pub(super) fn conv_input_grad(
    dy: &TensorType,
    w: &TensorType,
    at: &ConvAttributes,
    input: &[Dim],
) -> Checked<TensorType> {
    let dtype = conv_ranks(dy, w)?;
    let channels = at.groups.clone() * w.shape[1].clone();
    let x = TensorType::new(dy.dtype, [vec![dy.shape[0].clone(), channels], input.to_vec()].concat());
    same(&TensorType::new(dy.dtype, conv(&x, w, at)?.shape), dy)?;
    Ok(TensorType::new(dtype, x.shape))
}

pub(super) fn conv_input_grad_last(
    dy: &TensorType,
    w: &TensorType,
    at: &ConvAttributes,
    input: &[Dim],
) -> Checked<TensorType> {
    conv_ranks(dy, w)?;
    Ok(with_channels_last(conv_input_grad(&with_channels_first(dy), w, at, input)?))
}

pub(super) fn conv_weight_grad(
    x: &TensorType,
    dy: &TensorType,
    at: &ConvAttributes,
    kernel: &[Dim],
) -> Checked<TensorType> {
    conv_ranks(x, dy)?;
    let Some(inner) = x.shape[1].floor_div(&at.groups) else { return fault("0 groups".to_owned()) };
    let w = TensorType::new(x.dtype, [vec![dy.shape[1].clone(), inner], kernel.to_vec()].concat());
    same(&conv(x, &w, at)?, dy)?;
    Ok(w)
}

pub(super) fn window(x: &TensorType, at: &WindowAttributes) -> Checked<TensorType> {
    if !x.dtype.is_float() {
        return fault(format!("needs floats, not {x}"));
    }
    windows(x, at)
}

pub(super) fn windows(x: &TensorType, at: &WindowAttributes) -> Checked<TensorType> {
    let rank = x.shape.rank().saturating_sub(2);
    let lists = [&at.size, &at.stride, &at.low, &at.high];
    if rank == 0 || lists.iter().any(|list| list.len() != rank) {
        return fault(format!("needs [N, C, ...] with a size for each spatial axis, not {x}"));
    }
    let one = Dim::from(1i64);
    let mut shape = x.shape[..2].to_vec();
    for i in 0..rank {
        shape.push(windows_along(&x.shape[i + 2], &at.size[i], &at.low[i], &at.high[i], &at.stride[i], &one)?);
    }
    Ok(TensorType::new(x.dtype, shape))
}

pub(super) fn window_grad(
    op: WindowOp,
    operands: &[TensorType],
    at: &WindowAttributes,
    input: &[Dim],
) -> Checked<TensorType> {
    let dy = &operands[operands.len() - 1];
    if dy.shape.rank() < 3 {
        return fault(format!("needs floats [N, C, ...], not {dy}"));
    }
    let x = TensorType::new(dy.dtype, [dy.shape[..2].to_vec(), input.to_vec()].concat());
    if op == WindowOp::Max {
        same(&operands[0], &x)?;
    }
    same(&window(&x, at)?, dy)?;
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Op, Shape, infer};

    #[test]
    fn a_symbolic_convolution_has_its_textbook_shape() {
        let dims = |names: &[&str]| names.iter().map(|n| Dim::name(n)).collect::<Vec<_>>();
        let x = TensorType::new(DType::F32, dims(&["N", "C", "H", "W"]));
        let w = TensorType::new(DType::F32, dims(&["O", "C", "K", "K"]));
        let ones = vec![Dim::from(1i64); 2];
        let pads = vec![Dim::name("P"); 2];
        let attributes = ConvAttributes {
            stride: ones.clone(),
            low: pads.clone(),
            high: pads,
            dilation: ones,
            groups: Dim::from(1i64),
        };
        let y = infer(&Op::Conv(attributes), &[x, w]).unwrap();
        assert_eq!(y[0].shape[2], Dim::name("H") + Dim::name("P") * Dim::from(2i64) - Dim::name("K") + Dim::from(1i64));
    }

    #[test]
    fn inner_dims_of_a_dot_must_agree() {
        let a = TensorType::new(DType::F32, Shape::of(&[2, 3]));
        let b = TensorType::new(DType::F32, Shape::of(&[4, 5]));
        let op = Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] };
        let error = infer(&op, &[a, b]).unwrap_err();
        assert_eq!(error.message, "the inner dims 3 of f32[2, 3] and 4 of f32[4, 5] differ");
    }

    #[test]
    fn the_result_of_a_batched_dot_has_batch_then_free_axes() {
        let a = TensorType::new(DType::F32, Shape::of(&[7, 2, 3]));
        let b = TensorType::new(DType::F32, Shape::of(&[7, 5, 3]));
        let op = Op::Dot { batch: 1, a_axes: vec![2], b_axes: vec![2] };
        assert_eq!(infer(&op, &[a, b]).unwrap()[0].to_string(), "f32[7, 2, 5]");
    }
}
