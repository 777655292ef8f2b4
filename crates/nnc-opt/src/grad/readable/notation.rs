//! How constants, dims and attributes are written.

use super::expression::{Expression, Tightness};
use nnc_graph::{CompareOp, ConvAttributes, DType, Dim, ReduceOp, SliceRange, Tensor, WindowAttributes, WindowOp};

pub(super) fn constant(tensor: &Tensor) -> Expression {
    const LONGEST_LIST: usize = 4;
    let number = |value: &f64| match tensor.dtype() {
        DType::F32 => format!("{}", *value as f32),
        DType::Bool => (*value != 0.0).to_string(),
        DType::F16 | DType::Bf16 | DType::F64 | DType::I8 | DType::U8 | DType::I16 | DType::I32 | DType::I64 => {
            value.to_string()
        }
    };
    let values = tensor.to_f64();
    if let ([value], []) = (values.as_slice(), tensor.dims()) {
        let tightness = if *value < 0.0 { Tightness::Sign } else { Tightness::Atom };
        return Expression { text: number(value), tightness };
    }
    if values.len() > LONGEST_LIST {
        return Expression::atom(format!("constant {}", tensor.ty()));
    }
    Expression::atom(format!("[{}]", values.iter().map(number).collect::<Vec<_>>().join(", ")))
}

pub(super) fn dims(dims: &[Dim]) -> String {
    format!("[{}]", dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", "))
}

pub(super) fn range_text(range: &SliceRange, dim: &Dim) -> String {
    let end = range.start.clone() + Dim::from(range.step) * range.size.clone();
    match range.step {
        1 if range.start.is(0) && range.size == *dim => ":".to_owned(),
        1 => format!("{}..{end}", range.start),
        step => format!("{}..{end} by {step}", range.start),
    }
}

pub(super) fn indexing(axis: usize, batch: usize) -> String {
    if batch == 0 { format!("axis={axis}") } else { format!("axis={axis}, batch={batch}") }
}

/// The attributes that are not the usual ones.
pub(super) fn conv(at: &ConvAttributes) -> String {
    let mut parts = strides_and_padding(&at.stride, &at.low, &at.high);
    if !at.dilation.iter().all(|dim| dim.is(1)) {
        parts.push(format!("dilation={}", one_or_all(&at.dilation)));
    }
    if !at.groups.is(1) {
        parts.push(format!("groups={}", at.groups));
    }
    parts.join(", ")
}

pub(super) fn window(at: &WindowAttributes) -> String {
    let mut parts = vec![format!("size={}", one_or_all(&at.size))];
    if at.stride == at.size {
        parts.extend(strides_and_padding(&[], &at.low, &at.high));
    } else {
        parts.extend(strides_and_padding(&at.stride, &at.low, &at.high));
    }
    parts.join(", ")
}

pub(super) fn strides_and_padding(stride: &[Dim], low: &[Dim], high: &[Dim]) -> Vec<String> {
    let mut parts = Vec::new();
    if !stride.iter().all(|dim| dim.is(1)) {
        parts.push(format!("stride={}", one_or_all(stride)));
    }
    if low != high {
        parts.push(format!("low={}, high={}", one_or_all(low), one_or_all(high)));
    } else if !low.iter().all(|dim| dim.is(0)) {
        parts.push(format!("padding={}", one_or_all(low)));
    }
    parts
}

/// One number when all are equal.
pub(super) fn one_or_all(list: &[Dim]) -> String {
    match list {
        [first, rest @ ..] if rest.iter().all(|dim| dim == first) => first.to_string(),
        list => dims(list),
    }
}

pub(super) fn compare_sign(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Eq => "==",
        CompareOp::Ne => "!=",
        CompareOp::Lt => "<",
        CompareOp::Le => "<=",
        CompareOp::Gt => ">",
        CompareOp::Ge => ">=",
    }
}

pub(super) fn reduce_name(op: ReduceOp) -> &'static str {
    match op {
        ReduceOp::Product => "product",
        ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min | ReduceOp::Any | ReduceOp::All => op.name(),
    }
}

pub(super) fn window_name(op: WindowOp) -> &'static str {
    match op {
        WindowOp::Max => "max",
        WindowOp::Sum => "sum",
    }
}
