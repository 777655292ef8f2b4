//! Result types from operand types: the typing rule of every op, on symbolic dims.
//!
//! Two dims agree when their normal forms are equal. What cannot be decided while a name is unbound (does this window
//! fit?) passes here and is decided once the name is bound, since every graph is checked again then.

use crate::{
    ConvAttributes, DType, Dim, Op, Shape, SliceRange, Stored, TensorType, UnaryOp, WindowAttributes, WindowOp,
};
use std::fmt;

/// Why operands do not fit an op.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeError {
    /// The op's word.
    pub op: &'static str,
    /// What is wrong, in words that name the types.
    pub message: String,
    /// The operand to point at, when it is one.
    pub operand: Option<usize>,
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.op, self.message)
    }
}

impl std::error::Error for TypeError {}

type Fault = (String, Option<usize>);
type Checked<T> = Result<T, Fault>;

fn fault<T>(message: String) -> Checked<T> {
    Err((message, None))
}

fn fault_at<T>(operand: usize, message: String) -> Checked<T> {
    Err((message, Some(operand)))
}

/// The types of an op's results.
///
/// # Errors
/// The rule that the operands break.
pub fn infer(op: &Op, operands: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
    let types = match op {
        Op::Grad => grad(operands),
        Op::Scan(scan) => scan.result_types(operands),
        _ => result(op, operands).map(|ty| vec![ty]),
    };
    types.map_err(|(message, operand)| TypeError { op: op.name(), message, operand })
}

/// The one result type of every op but `Grad` and `Scan`. Flat dispatch: one line or call for each op.
fn result(op: &Op, operands: &[TensorType]) -> Checked<TensorType> {
    check_count(op, operands.len())?;
    let shaped = |x: &TensorType, shape: Vec<Dim>| TensorType::new(x.dtype, shape);
    match (op, operands) {
        (Op::Input { ty, .. } | Op::Param { ty, .. } | Op::State { ty, .. }, _) => declared(ty),
        (Op::Constant(tensor), _) => Ok(tensor.ty()),
        (Op::Extent { dtype, .. }, _) => Ok(TensorType::scalar(*dtype)),
        (Op::Iota { ty, axis }, _) => iota(ty, *axis),
        (Op::Random { shape, .. }, [seed, counter]) => random(shape, seed, counter),
        (Op::Unary(unary), [x]) => unary_type(*unary, x),
        (Op::Binary(binary), [a, b]) => binary_type(*binary, a, b),
        (Op::Compare(_), [a, b]) => same(a, b).map(|()| TensorType::new(DType::Bool, a.shape.clone())),
        (Op::Select, [condition, a, b]) => select(condition, a, b),
        (Op::Cast(dtype), [x]) => Ok(TensorType::new(*dtype, x.shape.clone())),
        (Op::Reshape(shape), [x]) => reshape(x, shape),
        (Op::Transpose(permutation), [x]) => transpose(x, permutation),
        (Op::Broadcast { shape, axes }, [x]) => broadcast(x, shape, axes),
        (Op::Slice(ranges), [x]) => slice(x, ranges),
        (Op::Pad { low, high }, [x, value]) => pad(x, value, low, high),
        (Op::Concat { axis }, parts) => concat(parts, *axis),
        (Op::DynamicSlice { axis, size }, [x, start]) => {
            index_scalar(1, start)?;
            axis_of(x, *axis)?;
            let mut shape = x.shape.to_vec();
            shape[*axis] = size.clone();
            Ok(shaped(x, shape))
        }
        (Op::DynamicUpdate { axes }, [x, value, starts @ ..]) => dynamic_update(x, value, starts, axes),
        (Op::Gather { axis, batch }, [x, indices]) => gather(x, indices, *axis, *batch),
        (Op::ScatterAdd { axis, batch }, [x, indices, updates]) => {
            same(&gather(x, indices, *axis, *batch)?, updates)?;
            Ok(x.clone())
        }
        (Op::Reduce { op, axes }, [x]) => reduce(*op, x, axes),
        (Op::ArgMax { axis }, [x]) => {
            axis_of(x, *axis)?;
            Ok(TensorType::new(DType::I32, without_axes(&x.shape, &[*axis])))
        }
        (Op::Dot { batch, a_axes, b_axes }, [a, b]) => dot(a, b, *batch, a_axes, b_axes),
        (Op::DotStored(stored), [x, rest @ ..]) => dot_stored(*stored, x, rest),
        (Op::Conv(attributes), [x, w]) => conv(x, w, attributes),
        (Op::ConvLast(attributes), [x, w]) => conv_last(x, w, attributes),
        (Op::ConvInputGrad { attributes, input }, [dy, w]) => conv_input_grad(dy, w, attributes, input),
        (Op::ConvWeightGrad { attributes, kernel }, [x, dy]) => conv_weight_grad(x, dy, attributes, kernel),
        (Op::Window { op: WindowOp::Max, attributes }, [x]) if x.dtype == DType::U8 => windows(x, attributes),
        (Op::Window { attributes, .. }, [x]) => window(x, attributes),
        (Op::WindowGrad { op, attributes, input }, _) => window_grad(*op, operands, attributes, input),
        (Op::WindowPick(attributes), [x, v]) => {
            same(x, v)?;
            window(x, attributes)
        }
        (Op::StopGradient, [x]) => Ok(x.clone()),
        _ => fault(format!("{} operands do not fit", operands.len())),
    }
}

/// How many operands an op takes; `None` is any number from one on.
fn operand_count(op: &Op) -> Option<usize> {
    Some(match op {
        Op::Input { .. } | Op::Param { .. } | Op::State { .. } | Op::Constant(_) => 0,
        Op::Extent { .. } | Op::Iota { .. } => 0,
        Op::Unary(_) | Op::Cast(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast { .. } => 1,
        Op::Slice(_) | Op::Reduce { .. } | Op::ArgMax { .. } | Op::Window { .. } | Op::StopGradient => 1,
        Op::WindowGrad { op: WindowOp::Sum, .. } => 1,
        Op::Random { .. } | Op::Binary(_) | Op::Compare(_) | Op::Pad { .. } | Op::DynamicSlice { .. } => 2,
        Op::Gather { .. } | Op::Dot { .. } | Op::Conv(_) | Op::ConvLast(_) => 2,
        Op::ConvInputGrad { .. } | Op::DotStored(Stored::Bf16) => 2,
        Op::DotStored(Stored::Bytes { .. } | Stored::Nibbles { .. }) => 3,
        Op::ConvWeightGrad { .. } | Op::WindowGrad { op: WindowOp::Max, .. } | Op::WindowPick(_) => 2,
        Op::Select | Op::ScatterAdd { .. } => 3,
        Op::DynamicUpdate { axes } => 2 + axes.len(),
        Op::Concat { .. } | Op::Grad | Op::Scan(_) => return None,
    })
}

fn check_count(op: &Op, found: usize) -> Checked<()> {
    match operand_count(op) {
        Some(expected) if expected != found => fault(format!("takes {expected} operands, not {found}")),
        None if found == 0 => fault("takes at least one operand".to_owned()),
        _ => Ok(()),
    }
}

fn declared(ty: &TensorType) -> Checked<TensorType> {
    match ty.shape.iter().find(|dim| dim.as_number().is_some_and(|n| n < 1)) {
        Some(dim) => fault(format!("the dim {dim} of {ty} is below 1")),
        None => Ok(ty.clone()),
    }
}

fn iota(ty: &TensorType, axis: usize) -> Checked<TensorType> {
    axis_of(ty, axis)?;
    if ty.dtype == DType::Bool {
        return fault("counts in numbers, not in bool".to_owned());
    }
    Ok(ty.clone())
}

fn random(shape: &Shape, seed: &TensorType, counter: &TensorType) -> Checked<TensorType> {
    if *seed != TensorType::scalar(DType::I64) {
        return fault_at(0, format!("the seed is a scalar i64, not {seed}"));
    }
    if counter.dtype != DType::I64 {
        return fault_at(1, format!("the counter is i64, not {}", counter.dtype));
    }
    Ok(TensorType::new(DType::F32, [counter.shape.to_vec(), shape.to_vec()].concat()))
}

fn unary_type(op: UnaryOp, x: &TensorType) -> Checked<TensorType> {
    let dtype = x.dtype;
    let (fits, wants) = match op {
        UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign => (dtype != DType::Bool, "numbers"),
        UnaryOp::Not => (dtype == DType::Bool, "bool"),
        UnaryOp::Exp | UnaryOp::Log | UnaryOp::Tanh | UnaryOp::Erf | UnaryOp::Sigmoid | UnaryOp::Sqrt => {
            (dtype.is_float(), "floats")
        }
        UnaryOp::Rsqrt | UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => {
            (dtype.is_float(), "floats")
        }
    };
    if fits { Ok(x.clone()) } else { fault_at(0, format!("works on {wants}, not on {x}")) }
}

fn binary_type(op: crate::BinaryOp, a: &TensorType, b: &TensorType) -> Checked<TensorType> {
    use crate::BinaryOp::{Add, And, Div, Max, Min, Mul, Or, Pow, Rem, Sub};
    same(a, b)?;
    let (fits, wants) = match op {
        Add | Sub | Mul | Div | Rem | Max | Min => (a.dtype != DType::Bool, "numbers"),
        Pow => (a.dtype.is_float(), "floats"),
        And | Or => (!a.dtype.is_float(), "bool and integers"),
    };
    if fits { Ok(a.clone()) } else { fault_at(0, format!("works on {wants}, not on {a}")) }
}

fn select(condition: &TensorType, a: &TensorType, b: &TensorType) -> Checked<TensorType> {
    if condition.dtype != DType::Bool || condition.shape != a.shape {
        return fault_at(0, format!("the condition is {condition}, the values are {a}"));
    }
    same(a, b)?;
    Ok(a.clone())
}

fn reshape(x: &TensorType, shape: &Shape) -> Checked<TensorType> {
    let (from, to) = (x.shape.elements(), shape.elements());
    if from != to {
        let target = TensorType::new(x.dtype, shape.clone());
        return fault(format!("{x} has {from} elements, {target} has {to}"));
    }
    Ok(TensorType::new(x.dtype, shape.clone()))
}

fn transpose(x: &TensorType, permutation: &[usize]) -> Checked<TensorType> {
    let mut sorted = permutation.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..x.shape.rank()) {
        return fault(format!("{permutation:?} is no permutation of the {} axes of {x}", x.shape.rank()));
    }
    Ok(TensorType::new(x.dtype, permutation.iter().map(|&axis| x.shape[axis].clone()).collect::<Vec<_>>()))
}

fn broadcast(x: &TensorType, shape: &Shape, axes: &[usize]) -> Checked<TensorType> {
    let increasing = axes.windows(2).all(|pair| pair[0] < pair[1]);
    if axes.len() != x.shape.rank() || !increasing || axes.iter().any(|&axis| axis >= shape.rank()) {
        return fault(format!("axes {axes:?} do not place {x} in rank {}", shape.rank()));
    }
    for (position, &axis) in axes.iter().enumerate() {
        let (from, to) = (&x.shape[position], &shape[axis]);
        if from != to && !from.is(1) {
            return fault(format!("dim {from} of {x} cannot be stretched to {to}"));
        }
    }
    Ok(TensorType::new(x.dtype, shape.clone()))
}

fn slice(x: &TensorType, ranges: &[SliceRange]) -> Checked<TensorType> {
    if ranges.len() != x.shape.rank() {
        return fault(format!("{} ranges for {x}", ranges.len()));
    }
    for (range, dim) in ranges.iter().zip(x.shape.iter()) {
        slice_fits(range, dim)?;
    }
    Ok(TensorType::new(x.dtype, ranges.iter().map(|range| range.size.clone()).collect::<Vec<_>>()))
}

fn slice_fits(range: &SliceRange, dim: &Dim) -> Checked<()> {
    let (Some(start), Some(size), Some(dim)) = (range.start.as_number(), range.size.as_number(), dim.as_number())
    else {
        return Ok(());
    };
    let last = start.saturating_add(range.step.saturating_mul(size - 1));
    if size < 1 || range.step == 0 || start < 0 || start >= dim || last < 0 || last >= dim {
        return fault(format!("{size} elements from {start} by {} do not lie within {dim}", range.step));
    }
    Ok(())
}

fn pad(x: &TensorType, value: &TensorType, low: &[Dim], high: &[Dim]) -> Checked<TensorType> {
    if *value != TensorType::scalar(x.dtype) {
        return fault_at(1, format!("the filling is a scalar {}, not {value}", x.dtype));
    }
    if low.len() != x.shape.rank() || high.len() != x.shape.rank() {
        return fault(format!("{} and {} paddings for {x}", low.len(), high.len()));
    }
    if low.iter().chain(high).any(|dim| dim.as_number().is_some_and(|n| n < 0)) {
        return fault("a padding is negative".to_owned());
    }
    let padded = x.shape.iter().zip(low.iter().zip(high));
    Ok(TensorType::new(x.dtype, padded.map(|(d, (l, h))| d.clone() + l.clone() + h.clone()).collect::<Vec<_>>()))
}

fn concat(parts: &[TensorType], axis: usize) -> Checked<TensorType> {
    let first = &parts[0];
    axis_of(first, axis)?;
    let mut total = first.shape[axis].clone();
    for (position, part) in parts.iter().enumerate().skip(1) {
        let others_agree = part.shape.rank() == first.shape.rank()
            && part.dtype == first.dtype
            && (0..first.shape.rank()).all(|i| i == axis || part.shape[i] == first.shape[i]);
        if !others_agree {
            return fault_at(position, format!("{part} does not continue {first} along axis {axis}"));
        }
        total = total + part.shape[axis].clone();
    }
    let mut shape = first.shape.to_vec();
    shape[axis] = total;
    Ok(TensorType::new(first.dtype, shape))
}

fn dynamic_update(x: &TensorType, value: &TensorType, starts: &[TensorType], axes: &[usize]) -> Checked<TensorType> {
    starts.iter().enumerate().try_for_each(|(at, start)| index_scalar(2 + at, start))?;
    for (at, &axis) in axes.iter().enumerate() {
        axis_of(x, axis)?;
        if axes[..at].contains(&axis) {
            return fault(format!("axis {axis} is named twice"));
        }
    }
    let agrees = value.dtype == x.dtype
        && value.shape.rank() == x.shape.rank()
        && (0..x.shape.rank()).all(|i| axes.contains(&i) || value.shape[i] == x.shape[i]);
    if agrees { Ok(x.clone()) } else { fault_at(1, format!("{value} is no range of axes {axes:?} of {x}")) }
}

fn gather(x: &TensorType, indices: &TensorType, axis: usize, batch: usize) -> Checked<TensorType> {
    axis_of(x, axis)?;
    if !matches!(indices.dtype, DType::I32 | DType::I64) {
        return fault_at(1, format!("indices are i32 or i64, not {indices}"));
    }
    if batch > axis || batch > indices.shape.rank() || x.shape[..batch] != indices.shape[..batch] {
        return fault_at(1, format!("{indices} does not share the first {batch} axes of {x}"));
    }
    let shape = [&x.shape[..axis], &indices.shape[batch..], &x.shape[axis + 1..]].concat();
    Ok(TensorType::new(x.dtype, shape))
}

fn reduce(op: crate::ReduceOp, x: &TensorType, axes: &[usize]) -> Checked<TensorType> {
    use crate::ReduceOp::{All, Any, Max, Min, Product, Sum};
    let fits = match op {
        Sum | Product | Max | Min => x.dtype != DType::Bool,
        Any | All => x.dtype == DType::Bool,
    };
    if !fits {
        return fault_at(0, format!("{} does not work on {x}", op.name()));
    }
    if axes.windows(2).any(|pair| pair[0] >= pair[1]) || axes.iter().any(|&axis| axis >= x.shape.rank()) {
        return fault(format!("{axes:?} are no axes of {x}"));
    }
    Ok(TensorType::new(x.dtype, without_axes(&x.shape, axes)))
}

fn dot(a: &TensorType, b: &TensorType, batch: usize, a_axes: &[usize], b_axes: &[usize]) -> Checked<TensorType> {
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

fn dot_stored(stored: Stored, x: &TensorType, rest: &[TensorType]) -> Checked<TensorType> {
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

/// The dtype of a sum of products, if there are such: that of both factors, or i32 for u8 by i8.
pub(crate) fn sum_of(a: DType, b: DType) -> Option<DType> {
    match (a, b) {
        (DType::U8, DType::I8) => Some(DType::I32),
        _ => (a == b && (a.is_float() || a == DType::I32)).then_some(a),
    }
}

/// `floor((x + low + high - dilation * (k - 1) - 1) / stride) + 1`, for one axis.
fn windows_along(x: &Dim, k: &Dim, low: &Dim, high: &Dim, stride: &Dim, dilation: &Dim) -> Checked<Dim> {
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

fn conv_geometry(spatial: &[Dim], kernel: &[Dim], at: &ConvAttributes) -> Checked<Vec<Dim>> {
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
fn conv_ranks(x: &TensorType, w: &TensorType) -> Checked<DType> {
    let Some(dtype) = sum_of(x.dtype, w.dtype).filter(|_| x.dtype != DType::I32) else {
        return fault(format!("convolves floats of one dtype, or u8 with i8, not {x} with {w}"));
    };
    if x.shape.rank() < 3 || w.shape.rank() != x.shape.rank() {
        return fault(format!("{x} and {w} are not [N, C, ...] and [Co, Ci, ...] of one rank"));
    }
    Ok(dtype)
}

fn conv(x: &TensorType, w: &TensorType, at: &ConvAttributes) -> Checked<TensorType> {
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

fn conv_last(x: &TensorType, w: &TensorType, at: &ConvAttributes) -> Checked<TensorType> {
    conv_ranks(x, w)?;
    let mut first = x.shape.0.clone();
    first[1..].rotate_right(1);
    let mut y = conv(&TensorType::new(x.dtype, first), w, at)?;
    y.shape.0[1..].rotate_left(1);
    Ok(y)
}

fn conv_input_grad(dy: &TensorType, w: &TensorType, at: &ConvAttributes, input: &[Dim]) -> Checked<TensorType> {
    conv_ranks(dy, w)?;
    let channels = at.groups.clone() * w.shape[1].clone();
    let x = TensorType::new(dy.dtype, [vec![dy.shape[0].clone(), channels], input.to_vec()].concat());
    same(&conv(&x, w, at)?, dy)?;
    Ok(x)
}

fn conv_weight_grad(x: &TensorType, dy: &TensorType, at: &ConvAttributes, kernel: &[Dim]) -> Checked<TensorType> {
    conv_ranks(x, dy)?;
    let Some(inner) = x.shape[1].floor_div(&at.groups) else { return fault("0 groups".to_owned()) };
    let w = TensorType::new(x.dtype, [vec![dy.shape[1].clone(), inner], kernel.to_vec()].concat());
    same(&conv(x, &w, at)?, dy)?;
    Ok(w)
}

fn window(x: &TensorType, at: &WindowAttributes) -> Checked<TensorType> {
    if !x.dtype.is_float() {
        return fault(format!("needs floats, not {x}"));
    }
    windows(x, at)
}

fn windows(x: &TensorType, at: &WindowAttributes) -> Checked<TensorType> {
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

fn window_grad(op: WindowOp, operands: &[TensorType], at: &WindowAttributes, input: &[Dim]) -> Checked<TensorType> {
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

fn grad(operands: &[TensorType]) -> Checked<Vec<TensorType>> {
    match operands.split_first() {
        None => fault("takes a loss".to_owned()),
        Some((loss, _)) if loss.shape.rank() != 0 || !loss.dtype.is_float() => {
            fault_at(0, format!("the derivative of {loss}: it must be a float scalar"))
        }
        Some((_, wrt)) => match wrt.iter().position(|ty| !ty.dtype.is_float()) {
            Some(at) => fault_at(at + 1, format!("no derivative by {}: it is no float", wrt[at])),
            None => Ok(wrt.to_vec()),
        },
    }
}

fn same(a: &TensorType, b: &TensorType) -> Checked<()> {
    if a == b { Ok(()) } else { fault(format!("{a} and {b} differ")) }
}

fn axis_of(x: &TensorType, axis: usize) -> Checked<()> {
    if axis < x.shape.rank() { Ok(()) } else { fault(format!("{x} has no axis {axis}")) }
}

fn index_scalar(operand: usize, start: &TensorType) -> Checked<()> {
    if *start == TensorType::scalar(DType::I64) {
        return Ok(());
    }
    fault_at(operand, format!("the start is a scalar i64, not {start}"))
}

fn without_axes(shape: &[Dim], axes: &[usize]) -> Vec<Dim> {
    let kept = shape.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
    kept.map(|(_, dim)| dim.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
