//! The attributes of ops in the text form, both ways. What the result type says is no attribute.

use super::cursor::Read;
use crate::{
    BinaryOp, CompareOp, ConvAttributes, Dim, Graph, Op, ReduceOp, Scan, Shape, SliceRange, Stored, TensorType,
    UnaryOp, WindowAttributes, WindowOp,
};
use std::sync::Arc;

/// The value of an attribute.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Attribute {
    /// A number, a dim, or a word (which reads as a dim of that name).
    Dim(Dim),
    /// Several.
    List(Vec<Dim>),
    /// Quoted.
    Text(String),
}

pub(super) type Attributes = Vec<(String, Attribute)>;

fn number(value: usize) -> Attribute {
    Attribute::Dim(Dim::from(value))
}

fn numbers(values: &[usize]) -> Attribute {
    Attribute::List(values.iter().map(|&value| Dim::from(value)).collect())
}

fn word(name: &str) -> Attribute {
    Attribute::Dim(Dim::name(name))
}

fn list(dims: &[Dim]) -> Attribute {
    Attribute::List(dims.to_vec())
}

/// The attributes of an op that are printed between brackets. The name of a leaf and the data of a constant are
/// printed in their own way.
pub(super) fn attributes(op: &Op) -> Vec<(&'static str, Attribute)> {
    match op {
        Op::Input { .. } | Op::Param { .. } | Op::State { .. } | Op::Constant(_) => Vec::new(),
        Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::Reshape(_) => Vec::new(),
        Op::Grad | Op::StopGradient => Vec::new(),
        Op::Scan(scan) => vec![
            ("length", Attribute::Dim(scan.length.clone())),
            ("reverse", number(usize::from(scan.reverse))),
            ("carries", number(scan.carries)),
            ("slices", number(scan.slices)),
        ],
        Op::Extent { dim, .. } => vec![("dim", Attribute::Dim(dim.clone()))],
        Op::Iota { axis, .. } | Op::Concat { axis } => vec![("axis", number(*axis))],
        Op::ArgMax { axis } | Op::DynamicSlice { axis, .. } => vec![("axis", number(*axis))],
        Op::Random { stream, shape } => {
            vec![("stream", Attribute::Text(format!("{stream:016x}"))), ("shape", list(shape))]
        }
        Op::Transpose(axes) | Op::DynamicUpdate { axes } => vec![("axes", numbers(axes))],
        Op::Broadcast { axes, .. } => vec![("axes", numbers(axes))],
        Op::Slice(ranges) => {
            let start = ranges.iter().map(|range| range.start.clone()).collect();
            let step = ranges.iter().map(|range| Dim::from(range.step)).collect();
            vec![("start", Attribute::List(start)), ("step", Attribute::List(step))]
        }
        Op::Pad { low, high } => vec![("low", list(low)), ("high", list(high))],
        Op::Gather { axis, batch } | Op::ScatterAdd { axis, batch } => {
            vec![("axis", number(*axis)), ("batch", number(*batch))]
        }
        Op::Reduce { op, axes } => vec![("op", word(op.name())), ("axes", numbers(axes))],
        Op::Dot { batch, a_axes, b_axes } => {
            vec![("batch", number(*batch)), ("a", numbers(a_axes)), ("b", numbers(b_axes))]
        }
        Op::DotStored(stored) => vec![("bits", number(stored.bits())), ("group", number(stored.group().unwrap_or(0)))],
        Op::Conv(at) | Op::ConvLast(at) => conv(at),
        Op::ConvInputGrad { attributes, .. } | Op::ConvInputGradLast { attributes, .. } => conv(attributes),
        Op::ConvWeightGrad { attributes, .. } => conv(attributes),
        Op::Window { op, attributes } | Op::WindowGrad { op, attributes, .. } => {
            [vec![("op", word(op.name()))], window(attributes)].concat()
        }
        Op::WindowPick(at) => window(at),
    }
}

fn conv(at: &ConvAttributes) -> Vec<(&'static str, Attribute)> {
    let groups = Attribute::Dim(at.groups.clone());
    let lists = [("stride", &at.stride), ("low", &at.low), ("high", &at.high), ("dilation", &at.dilation)];
    lists.into_iter().map(|(name, dims)| (name, list(dims))).chain([("groups", groups)]).collect()
}

fn window(at: &WindowAttributes) -> Vec<(&'static str, Attribute)> {
    let lists = [("size", &at.size), ("stride", &at.stride), ("low", &at.low), ("high", &at.high)];
    lists.into_iter().map(|(name, dims)| (name, list(dims))).collect()
}

/// Attributes that were read, to be taken one by one.
pub(super) struct Given<'a> {
    attributes: &'a Attributes,
}

impl Given<'_> {
    fn find(&self, name: &str) -> Read<&Attribute> {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value).ok_or_else(|| format!("the attribute `{name}` is missing"))
    }

    fn dim(&self, name: &str) -> Read<Dim> {
        match self.find(name)? {
            Attribute::Dim(dim) => Ok(dim.clone()),
            Attribute::List(_) | Attribute::Text(_) => Err(format!("`{name}` is one number")),
        }
    }

    fn word(&self, name: &str) -> Read<String> {
        Ok(self.dim(name)?.to_string())
    }

    fn text(&self, name: &str) -> Read<&str> {
        match self.find(name)? {
            Attribute::Text(text) => Ok(text),
            Attribute::Dim(_) | Attribute::List(_) => Err(format!("`{name}` is quoted")),
        }
    }

    fn dims(&self, name: &str) -> Read<Vec<Dim>> {
        match self.find(name)? {
            Attribute::List(dims) => Ok(dims.clone()),
            Attribute::Dim(_) | Attribute::Text(_) => Err(format!("`{name}` is a list")),
        }
    }

    fn index(&self, name: &str) -> Read<usize> {
        index(&self.dim(name)?)
    }

    fn indices(&self, name: &str) -> Read<Vec<usize>> {
        self.dims(name)?.iter().map(index).collect()
    }

    fn steps(&self, name: &str) -> Read<Vec<i64>> {
        let step = |dim: &Dim| dim.as_number().ok_or_else(|| format!("`{dim}` is no step"));
        self.dims(name)?.iter().map(step).collect()
    }

    fn conv(&self) -> Read<ConvAttributes> {
        Ok(ConvAttributes {
            stride: self.dims("stride")?,
            low: self.dims("low")?,
            high: self.dims("high")?,
            dilation: self.dims("dilation")?,
            groups: self.dim("groups")?,
        })
    }

    fn window(&self) -> Read<WindowAttributes> {
        Ok(WindowAttributes {
            size: self.dims("size")?,
            stride: self.dims("stride")?,
            low: self.dims("low")?,
            high: self.dims("high")?,
        })
    }

    fn window_op(&self) -> Read<WindowOp> {
        let word = self.word("op")?;
        WindowOp::from_name(&word).ok_or_else(|| format!("`{word}` is computed of no window"))
    }
}

fn index(dim: &Dim) -> Read<usize> {
    let number = dim.as_number().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("`{dim}` is no axis"))
}

/// The op with that name, attributes and result type; leaves and constants are read elsewhere.
pub(super) fn op(name: &str, attributes: &Attributes, ty: &TensorType) -> Read<Op> {
    let given = Given { attributes };
    let spatial = || ty.shape.get(2..).map(<[Dim]>::to_vec).ok_or_else(|| format!("{ty} has no spatial axes"));
    // Those of channels last, between the first axis and the last.
    let places = || spatial().map(|_| ty.shape[1..ty.shape.rank() - 1].to_vec());
    let op = match name {
        "extent" => Op::Extent { dim: given.dim("dim")?, dtype: ty.dtype },
        "iota" => Op::Iota { ty: ty.clone(), axis: given.index("axis")? },
        "random" => {
            let stream = given.text("stream")?;
            let stream = u64::from_str_radix(stream, 16).map_err(|_| format!("`{stream}` names no stream"))?;
            Op::Random { stream, shape: Shape(given.dims("shape")?) }
        }
        "select" => Op::Select,
        "cast" => Op::Cast(ty.dtype),
        "reshape" => Op::Reshape(ty.shape.clone()),
        "transpose" => Op::Transpose(given.indices("axes")?),
        "broadcast" => Op::Broadcast { shape: ty.shape.clone(), axes: given.indices("axes")? },
        "slice" => slice(&given, ty)?,
        "pad" => Op::Pad { low: given.dims("low")?, high: given.dims("high")? },
        "concat" => Op::Concat { axis: given.index("axis")? },
        "dynamic_slice" => {
            let axis = given.index("axis")?;
            let size = ty.shape.get(axis).cloned().ok_or_else(|| format!("{ty} has no axis {axis}"))?;
            Op::DynamicSlice { axis, size }
        }
        "dynamic_update" => Op::DynamicUpdate { axes: given.indices("axes")? },
        "gather" => Op::Gather { axis: given.index("axis")?, batch: given.index("batch")? },
        "scatter_add" => Op::ScatterAdd { axis: given.index("axis")?, batch: given.index("batch")? },
        "reduce" => {
            let word = given.word("op")?;
            let op = ReduceOp::from_name(&word).ok_or_else(|| format!("`{word}` is no reduction"))?;
            Op::Reduce { op, axes: given.indices("axes")? }
        }
        "argmax" => Op::ArgMax { axis: given.index("axis")? },
        "dot" => {
            let (a_axes, b_axes) = (given.indices("a")?, given.indices("b")?);
            Op::Dot { batch: given.index("batch")?, a_axes, b_axes }
        }
        "dot_stored" => {
            let bits = given.index("bits")?;
            let stored = Stored::of_bits(bits, given.index("group")?);
            Op::DotStored(stored.ok_or_else(|| format!("nothing is stored in {bits} bits"))?)
        }
        "conv" => Op::Conv(given.conv()?),
        "conv_last" => Op::ConvLast(given.conv()?),
        "conv_input_grad" => Op::ConvInputGrad { attributes: given.conv()?, input: spatial()? },
        "conv_input_grad_last" => Op::ConvInputGradLast { attributes: given.conv()?, input: places()? },
        "conv_weight_grad" => Op::ConvWeightGrad { attributes: given.conv()?, kernel: spatial()? },
        "window" => Op::Window { op: given.window_op()?, attributes: given.window()? },
        "window_grad" => Op::WindowGrad { op: given.window_op()?, attributes: given.window()?, input: spatial()? },
        "window_pick" => Op::WindowPick(given.window()?),
        "grad" => Op::Grad,
        "stop_gradient" => Op::StopGradient,
        _ => elementwise(name).ok_or_else(|| format!("`{name}` is no op"))?,
    };
    check_known(&op, attributes)?;
    Ok(op)
}

fn elementwise(name: &str) -> Option<Op> {
    let unary = UnaryOp::from_name(name).map(Op::Unary);
    let binary = BinaryOp::from_name(name).map(Op::Binary);
    unary.or(binary).or_else(|| CompareOp::from_name(name).map(Op::Compare))
}

fn slice(given: &Given<'_>, ty: &TensorType) -> Read<Op> {
    let (starts, steps) = (given.dims("start")?, given.steps("step")?);
    if starts.len() != ty.shape.rank() || steps.len() != ty.shape.rank() {
        return Err(format!("{} starts and {} steps for {ty}", starts.len(), steps.len()));
    }
    let ranges = starts.into_iter().zip(ty.shape.iter()).zip(steps);
    Ok(Op::Slice(ranges.map(|((start, size), step)| SliceRange { start, size: size.clone(), step }).collect()))
}

/// A scan of a body that was read before it.
pub(super) fn scan(body: Graph, attributes: &Attributes) -> Read<Op> {
    let given = Given { attributes };
    let op = Op::Scan(Scan {
        body: Arc::new(body),
        length: given.dim("length")?,
        reverse: given.index("reverse")? == 1,
        carries: given.index("carries")?,
        slices: given.index("slices")?,
    });
    check_known(&op, attributes)?;
    Ok(op)
}

/// Refuses attributes that the op does not have.
fn check_known(op: &Op, given: &Attributes) -> Read<()> {
    let known = attributes(op);
    let unknown = given.iter().find(|(name, _)| !known.iter().any(|(known, _)| known == name));
    match unknown {
        Some((name, _)) => Err(format!("`{}` has no attribute `{name}`", op.name())),
        None if given.len() != known.len() => Err("an attribute is given twice".to_owned()),
        None => Ok(()),
    }
}
