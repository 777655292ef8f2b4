//! The rule of each op: the labels of its result, and which labels it joins or fixes.

use super::known::Known;
use super::labels::{Axis, Fixed, Labels};
use super::{movement, products};
use nnc_graph::{BinaryOp, Dim, Op, ReduceOp, TensorType, UnaryOp};

fn sizes(dims: &[Dim]) -> Vec<usize> {
    dims.iter().map(Dim::size).collect()
}

/// What is known of the result of an op with one result, of type `ty`; leaves, loops and `grad` are the walk's.
/// Flat dispatch: one line or call for each op.
pub fn apply(op: &Op, ty: &TensorType, operands: &[&Known], labels: &mut Labels) -> Known {
    let whole = || ty.shape.sizes();
    match op {
        Op::Constant(tensor) => Known {
            zero: tensor.bytes().iter().all(|&byte| byte == 0),
            ..Known::solid(whole().iter().map(|&size| labels.fresh(size)).collect())
        },
        Op::Iota { axis, .. } => iota(ty, *axis, labels),
        Op::Random { shape, .. } => {
            let drawn: Vec<Axis> = shape.sizes().into_iter().map(|size| labels.fresh(size)).collect();
            Known::solid([operands[1].axes.clone(), drawn].concat())
        }
        Op::Unary(_) | Op::Binary(_) | Op::Compare(_) => elementwise(op, operands, labels),
        Op::Select | Op::Cast(_) | Op::StopGradient => elementwise(op, operands, labels),
        Op::Reshape(shape) => movement::reshape(operands[0], &shape.sizes(), labels),
        Op::Transpose(order) => operands[0].with_axes(order.iter().copied()),
        Op::Broadcast { shape, axes } => movement::broadcast(operands[0], shape, axes, labels),
        Op::Slice(ranges) => movement::slice(operands[0], ranges, labels),
        Op::Pad { low, high } => movement::pad((operands[0], operands[1]), (&sizes(low), &sizes(high)), labels),
        Op::Concat { axis } => movement::concat(operands, *axis, labels),
        Op::DynamicSlice { axis, size } => {
            labels.fix_axis(&operands[0].axes[*axis], Fixed::Numbered);
            let mut made = operands[0].clone();
            made.axes[*axis] = Fixed::Numbered.axis(size.size());
            made
        }
        Op::DynamicUpdate { axes } => updated(operands[0], operands[1], axes, labels),
        Op::Gather { axis, batch } => movement::gather(operands[0], operands[1], *axis, *batch, labels),
        Op::ScatterAdd { axis, batch } => {
            movement::gather(operands[0], operands[1], *axis, *batch, labels).join(operands[2], labels);
            scattered(operands[0], operands[2], *axis)
        }
        Op::Reduce { op, axes } => reduce(*op, operands[0], axes, labels),
        Op::ArgMax { axis } => {
            let x = operands[0];
            labels.fix_axis(&x.axes[*axis], Fixed::Reduced);
            Known::solid(x.with_axes((0..x.axes.len()).filter(|other| other != axis)).axes)
        }
        Op::Dot { batch, a_axes, b_axes } => products::dot(operands[0], operands[1], *batch, (a_axes, b_axes), labels),
        Op::Conv(attributes) => products::conv((operands[0], operands[1]), &attributes.groups, false, &whole(), labels),
        Op::ConvInputGrad { attributes, .. } => {
            products::conv((operands[0], operands[1]), &attributes.groups, true, &whole(), labels)
        }
        Op::Window { .. } => window(operands[0], &whole(), labels),
        Op::DotStored(_)
        | Op::ConvLast(_)
        | Op::ConvInputGradLast { .. }
        | Op::ConvWeightGrad { .. }
        | Op::WindowGrad { .. }
        | Op::WindowPick(_) => {
            operands.iter().for_each(|operand| operand.fix(labels, Fixed::NotFollowed));
            Known::fixed(&whole(), Fixed::NotFollowed)
        }
        Op::Input { .. } | Op::Param { .. } | Op::State { .. } | Op::Extent { .. } | Op::Grad | Op::Scan(_) => {
            Known::fixed(&whole(), Fixed::Input)
        }
    }
}

fn iota(ty: &TensorType, axis: usize, labels: &mut Labels) -> Known {
    let mut made: Vec<Axis> = ty.shape.sizes().iter().map(|&size| labels.fresh(size)).collect();
    made[axis] = Fixed::Numbered.axis(made[axis].len());
    Known::solid(made)
}

/// The labels of `x`, and 0 where both are.
fn both(x: &Known, other: &Known) -> Known {
    let vanishes = (0..x.axes.len()).map(|axis| x.vanishes_along(axis) && other.vanishes_along(axis)).collect();
    Known { axes: x.axes.clone(), vanishes, zero: x.zero && other.zero }
}

/// 0 where both are, but along `axis`, in whose place the updates have others.
fn scattered(x: &Known, updates: &Known, axis: usize) -> Known {
    let place = |at: usize| if at < axis { at } else { at + updates.axes.len() - x.axes.len() };
    let vanishes = |at: usize| at != axis && x.vanishes_along(at) && updates.vanishes_along(place(at));
    let vanishes = (0..x.axes.len()).map(vanishes).collect();
    Known { axes: x.axes.clone(), vanishes, zero: x.zero && updates.zero }
}

fn updated(x: &Known, value: &Known, axes: &[usize], labels: &mut Labels) -> Known {
    for &axis in axes {
        labels.fix_axis(&x.axes[axis], Fixed::Numbered);
        labels.fix_axis(&value.axes[axis], Fixed::Numbered);
    }
    let others = (0..x.axes.len()).filter(|other| !axes.contains(other));
    others.for_each(|other| labels.join_axes(&x.axes[other], &value.axes[other]));
    both(x, value)
}

/// Sums may be shortened where what goes adds nothing; whatever else is taken over channels needs them all.
fn reduce(op: ReduceOp, x: &Known, axes: &[usize], labels: &mut Labels) -> Known {
    let adds = match op {
        ReduceOp::Sum | ReduceOp::Any => true,
        ReduceOp::Max | ReduceOp::Min | ReduceOp::Product | ReduceOp::All => false,
    };
    for &axis in axes.iter().filter(|&&axis| !adds || !x.vanishes_along(axis)) {
        labels.fix_axis(&x.axes[axis], Fixed::Reduced);
    }
    x.with_axes((0..x.axes.len()).filter(|axis| !axes.contains(axis)))
}

fn window(x: &Known, sizes: &[usize], labels: &mut Labels) -> Known {
    x.axes[2..].iter().for_each(|axis| labels.fix_axis(axis, Fixed::Places));
    let mut made = Known::fixed(sizes, Fixed::Places);
    made.axes[..2].clone_from_slice(&x.axes[..2]);
    made.vanishes[..2].clone_from_slice(&x.vanishes[..2]);
    made.zero = x.zero;
    made
}

/// One labelling for all operands and the result.
fn elementwise(op: &Op, operands: &[&Known], labels: &mut Labels) -> Known {
    let first = operands[0];
    operands[1..].iter().for_each(|operand| first.join(operand, labels));
    let zero = is_zero(op, &|at| operands[at].zero);
    let vanishes = |axis: usize| is_zero(op, &|at| operands[at].vanishes_along(axis));
    Known { axes: first.axes.clone(), vanishes: (0..first.axes.len()).map(vanishes).collect(), zero }
}

/// Whether an elementwise op gives 0 where these operands are 0. What may be 0 divided by 0 counts as 0: nobody divides
/// by a weight alone.
fn is_zero(op: &Op, operand: &dyn Fn(usize) -> bool) -> bool {
    match op {
        Op::Unary(unary) => operand(0) && keeps_zero(*unary),
        Op::Binary(BinaryOp::Mul) => operand(0) || operand(1),
        Op::Binary(BinaryOp::Add | BinaryOp::Sub | BinaryOp::Max | BinaryOp::Min) => operand(0) && operand(1),
        Op::Binary(BinaryOp::Div | BinaryOp::Rem) => operand(0) && !operand(1),
        Op::Select => operand(1) && operand(2),
        Op::Cast(_) | Op::StopGradient => operand(0),
        _ => false,
    }
}

fn keeps_zero(op: UnaryOp) -> bool {
    match op {
        UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Tanh | UnaryOp::Erf | UnaryOp::Sqrt => true,
        UnaryOp::Sin | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => true,
        UnaryOp::Exp | UnaryOp::Log | UnaryOp::Sigmoid | UnaryOp::Rsqrt | UnaryOp::Cos | UnaryOp::Not => false,
    }
}
