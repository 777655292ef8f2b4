//! Result types from operand types: the typing rule of every op, on symbolic dims.
//!
//! Two dims agree when their normal forms are equal. What cannot be decided while a name is unbound (does this window
//! fit?) passes here and is decided once the name is bound, since every graph is checked again then.

mod contraction;
mod movement;

use crate::{DType, Dim, Op, Shape, Stored, TensorType, UnaryOp, WindowOp};
use contraction::{
    conv, conv_input_grad, conv_input_grad_last, conv_last, conv_weight_grad, dot, dot_stored, window, window_grad,
    windows,
};
use movement::{broadcast, concat, dynamic_update, gather, pad, reshape, slice, transpose};
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
            places_fit(&x.shape[*axis], DType::I32)?;
            Ok(TensorType::new(DType::I32, without_axes(&x.shape, &[*axis])))
        }
        (Op::Dot { batch, a_axes, b_axes }, [a, b]) => dot(a, b, *batch, a_axes, b_axes),
        (Op::DotStored(stored), [x, rest @ ..]) => dot_stored(*stored, x, rest),
        (Op::Conv(attributes), [x, w]) => conv(x, w, attributes),
        (Op::ConvLast(attributes), [x, w]) => conv_last(x, w, attributes),
        (Op::ConvInputGrad { attributes, input }, [dy, w]) => conv_input_grad(dy, w, attributes, input),
        (Op::ConvInputGradLast { attributes, input }, [dy, w]) => conv_input_grad_last(dy, w, attributes, input),
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
        Op::ConvInputGrad { .. } | Op::ConvInputGradLast { .. } | Op::DotStored(Stored::Bf16) => 2,
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
    places_fit(&ty.shape[axis], ty.dtype)?;
    Ok(ty.clone())
}

/// The places of an axis, counted from 0, are numbers of a dtype.
fn places_fit(size: &Dim, dtype: DType) -> Checked<()> {
    let most = dtype.whole_numbers().end().saturating_add(1);
    match size.as_number().is_some_and(|size| size > most) {
        true => fault(format!("the places of an axis of {size} are more than {dtype} counts")),
        false => Ok(()),
    }
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

/// The dtype of a sum of products, if there are such: that of both factors, or i32 for u8 by i8.
pub(crate) fn sum_of(a: DType, b: DType) -> Option<DType> {
    match (a, b) {
        (DType::U8, DType::I8) => Some(DType::I32),
        _ => (a == b && (a.is_float() || a == DType::I32)).then_some(a),
    }
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
