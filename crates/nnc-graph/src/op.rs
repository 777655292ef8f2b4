//! The closed set of operations, and the facts about each.
//!
//! Few primitives: everything a user knows by name (`dense`, `softmax`, `adam`) is composed of them in `.nn`.
//! Operands are tensors; attributes are compile-time values. The rule of each op for its result type is in
//! [`mod@crate::infer`], its meaning in `interpret`. Elementwise ops take operands of one shape: a stretch is a
//! [`Op::Broadcast`] of its own, so that broadcasting has one rule and one gradient.

use crate::{DType, Dim, Scan, Shape, Stored, Tensor, TensorType};

/// An operation. The doc of each variant lists its operands in order as `(a, b) -> result`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// `() -> value`: a tensor the caller passes in at each run. Names that start with `$` are the compiler's own:
    /// `$seed` i64, `$iteration` i64, `$iterations` i64, `$epoch` i64, `$draw` `i64[N]` (one number for each
    /// presentation of an example).
    Input {
        /// Unique among the inputs of a graph.
        name: String,
        /// Its type.
        ty: TensorType,
    },
    /// `() -> value`: a parameter, trained by gradient. Resident: it stays between runs.
    Param {
        /// Where it lives, as `conv2d_1.w`.
        path: String,
        /// Its type.
        ty: TensorType,
    },
    /// `() -> value`: running state, constant to gradients. Resident.
    State {
        /// Where it lives, as `batch_norm_1.mean`.
        path: String,
        /// Its type.
        ty: TensorType,
    },
    /// `() -> value`: data known to the compiler.
    Constant(Tensor),
    /// `() -> dtype[]`: the number a dim stands for; becomes a constant when the dim is bound.
    Extent {
        /// The number.
        dim: Dim,
        /// What it is represented as.
        dtype: DType,
    },
    /// `() -> ty`: the position along `axis`, counted from 0.
    Iota {
        /// A numeric result type.
        ty: TensorType,
        /// The axis that counts.
        axis: usize,
    },
    /// `(seed i64[], counter i64[...B]) -> f32[...B, ...shape]`: uniform on [0, 1) with 24 bits.
    ///
    /// Threefry-2x32-20 (Salmon, Moraes, Dror, Shaw 2011): key = (low word of seed ^ low word of stream, high word of
    /// seed ^ high word of stream ^ high word of counter), counter = (position within `shape` in row-major order, low
    /// word of counter); the result is the first output word shifted right by 8, times 2⁻²⁴.
    Random {
        /// Which call site and use this is.
        stream: u64,
        /// The shape drawn for each element of the counter.
        shape: Shape,
    },
    /// `(x) -> y`, elementwise.
    Unary(UnaryOp),
    /// `(a, b) -> y`, elementwise on one type.
    Binary(BinaryOp),
    /// `(a, b) -> bool`, elementwise on one type; comparisons with NaN are false, but `Ne` is true.
    Compare(CompareOp),
    /// `(condition bool, a, b) -> y`: elementwise `a` where the condition holds, else `b`.
    Select,
    /// `(x) -> y`: elementwise conversion. Float to float rounds to nearest even; float to int truncates and
    /// saturates, NaN becomes 0; int to narrower int wraps; to bool is `x != 0`; bool to number is 0 or 1.
    Cast(DType),
    /// `(x) -> y`: the same elements in row-major order.
    Reshape(Shape),
    /// `(x) -> y`: axis `i` of the result is axis `permutation[i]` of `x`.
    Transpose(Vec<usize>),
    /// `(x) -> y`: axis `i` of `x` lies along axis `axes[i]` (increasing) of the result; it has that size or is a
    /// literal 1 and is repeated, as every other axis of the result is.
    Broadcast {
        /// The result's shape.
        shape: Shape,
        /// For each axis of `x`, the result's axis.
        axes: Vec<usize>,
    },
    /// `(x) -> y`: a range of every axis.
    Slice(Vec<SliceRange>),
    /// `(x, value[]) -> y`: `low` and `high` more elements at the ends of each axis, filled with `value`.
    Pad {
        /// Elements before, for each axis.
        low: Vec<Dim>,
        /// Elements after, for each axis.
        high: Vec<Dim>,
    },
    /// `(x1, x2, ...) -> y`: joined along `axis`.
    Concat {
        /// The axis along which sizes add up.
        axis: usize,
    },
    /// `(x, start i64[]) -> y`: `size` elements of `axis` from a run-time start; a start that does not fit stops the
    /// step.
    DynamicSlice {
        /// The sliced axis.
        axis: usize,
        /// How many elements.
        size: Dim,
    },
    /// `(x, value, start i64[], ...) -> y`: `x` with `value` written at a run-time start of each of `axes`; one that
    /// does not fit stops the step.
    DynamicUpdate {
        /// The axes along which `value` may be shorter than `x`, each named once, in the order of the starts.
        axes: Vec<usize>,
    },
    /// `(x, indices) -> y`: the first `batch` axes are shared; `axis` (≥ `batch`) of `x` is replaced by the further
    /// axes of the indices (i32 or i64). An index out of range stops the step and is never read.
    Gather {
        /// The indexed axis of `x`.
        axis: usize,
        /// Number of leading axes that `x` and the indices share.
        batch: usize,
    },
    /// `(x, indices, updates) -> y`: the transpose of [`Op::Gather`]: `x` plus every update at its index, in
    /// row-major order of the updates. `updates` has the type that `Gather` of `x` would have.
    ScatterAdd {
        /// The indexed axis of `x`.
        axis: usize,
        /// Number of leading axes that `x` and the indices share.
        batch: usize,
    },
    /// `(x) -> y`: a reduction over `axes` (increasing), which disappear.
    Reduce {
        /// What is computed.
        op: ReduceOp,
        /// The axes reduced.
        axes: Vec<usize>,
    },
    /// `(x) -> i32`: the position of the first largest element along `axis`, which disappears; NaN counts as largest.
    ArgMax {
        /// The axis searched.
        axis: usize,
    },
    /// `(a, b) -> y`: contraction. The first `batch` axes are shared, `a_axes[i]` is summed against `b_axes[i]`
    /// (absolute axis numbers); the result has the batch axes, then `a`'s free axes, then `b`'s.
    /// Floats or i32 of one dtype, or u8 by i8, whose products are added in i32; sums of integers wrap.
    Dot {
        /// Number of leading shared axes.
        batch: usize,
        /// Contracted axes of `a`.
        a_axes: Vec<usize>,
        /// Contracted axes of `b`.
        b_axes: Vec<usize>,
    },
    /// `(x f32[...R, K], stored, scales f32) -> y f32[...R, N]`: rows by a matrix `[K, N]` of few bits. Integers are
    /// multiplied by the activations and added in groups of terms, and the sums of groups, each times its scale, are
    /// added. Without scales where the form has none. By integers, kernels take activations to 2^-20, by those of four
    /// bits to 2^-14, of the largest magnitude of their row's group, and a row with an infinity or a NaN gives no
    /// finite number. A lossy stage of `nnc-opt` makes it.
    DotStored(Stored),
    /// `(x [N, G*Ci, ...X], w [Co, Ci, ...K]) -> y [N, Co, ...Y]`: cross-correlation, of floats of one dtype, or of u8
    /// with i8, whose products are added in i32 and wrap. Padding is multiplied as zeros: by an infinity it gives NaN.
    Conv(ConvAttributes),
    /// `(x [N, ...X, G*Ci], w [Co, Ci, ...K]) -> y [N, ...Y, Co]`: [`Op::Conv`] of images whose channels lie side by
    /// side. The pass `layout` of `nnc-opt` makes it.
    ConvLast(ConvAttributes),
    /// `(dy [N, Co, ...Y], w [Co, Ci, ...K]) -> dx [N, G*Ci, ...X]`: transpose of [`Op::Conv`] in `x`, of floats of one
    /// dtype, or of u8 with i8, whose products are added in i32 and wrap. It is a convolution of `dy`, spread by the
    /// stride, with zeros around it that are multiplied; those between its elements are not.
    ConvInputGrad {
        /// Those of the convolution.
        attributes: ConvAttributes,
        /// `...X`.
        input: Vec<Dim>,
    },
    /// `(dy [N, ...Y, Co], w [Co, Ci, ...K]) -> dx [N, ...X, G*Ci]`: transpose of [`Op::ConvLast`] in `x`. The pass
    /// `layout` of `nnc-opt` makes it.
    ConvInputGradLast {
        /// Those of the convolution.
        attributes: ConvAttributes,
        /// `...X`.
        input: Vec<Dim>,
    },
    /// `(x, dy) -> dw [Co, Ci, ...K]`: transpose of [`Op::Conv`] in `w`. Padding of `x` is multiplied as zeros.
    ConvWeightGrad {
        /// Those of the convolution.
        attributes: ConvAttributes,
        /// `...K`.
        kernel: Vec<Dim>,
    },
    /// `(x [N, C, ...X]) -> y [N, C, ...Y]`: maximum or sum over windows of floats, or the maximum of u8; padding
    /// counts as the least number, or 0.
    Window {
        /// What is computed of each window.
        op: WindowOp,
        /// Its geometry.
        attributes: WindowAttributes,
    },
    /// Transpose of [`Op::Window`]. Max: `(x, dy) -> dx`, each `dy` goes to the first maximum of its window;
    /// Sum: `(dy) -> dx`.
    WindowGrad {
        /// Of the window op.
        op: WindowOp,
        /// Of the window op.
        attributes: WindowAttributes,
        /// `...X`.
        input: Vec<Dim>,
    },
    /// `(x, v) -> y [N, C, ...Y]`, `v` of `x`'s type: from each window the element of `v` at the place of `x`'s first
    /// maximum. It is the transpose of the max form of [`Op::WindowGrad`] in `dy`.
    WindowPick(WindowAttributes),
    /// `(loss[], x1, x2, ...) -> (g1, g2, ...)`: the derivative of a float scalar by each `x`; expanded by the first
    /// pass and refused after it.
    Grad,
    /// `(carried..., scanned..., captured...) -> (last carried..., stacked...)`: a loop; see [`crate::scan`].
    Scan(Scan),
    /// `(x) -> x`, with derivative 0.
    StopGradient,
}

/// Elementwise functions of one operand. Float only, except `Neg`, `Abs`, `Sign` (every number) and `Not` (bool).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "the names are those of mathematics")]
pub enum UnaryOp {
    Neg,
    Abs,
    /// -1, 0 or 1; NaN stays NaN, -0 becomes 0.
    Sign,
    Exp,
    Log,
    Tanh,
    Erf,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    Sqrt,
    /// `1 / sqrt(x)`, by a true square root and division.
    Rsqrt,
    /// Kernels give NaN from 2^51 on, where the interpreter gives a number; from 2^20 on their error grows with `x`.
    Sin,
    /// As for `Sin`.
    Cos,
    Floor,
    Ceil,
    /// To the nearest integer, ties to even.
    Round,
    Not,
}

/// Elementwise functions of two operands of one type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum BinaryOp {
    /// Sum; integers wrap.
    Add,
    /// Difference; integers wrap.
    Sub,
    /// Product; integers wrap.
    Mul,
    /// Quotient; integers round toward negative infinity, and division by 0 gives 0.
    Div,
    /// `a - floor(a / b) * b`, with the divisor's sign; integers by 0 give 0.
    Rem,
    /// Power of floats.
    Pow,
    /// The larger; NaN if either is NaN.
    Max,
    /// The smaller; NaN if either is NaN.
    Min,
    /// Conjunction of bools, bits of integers.
    And,
    /// Disjunction of bools, bits of integers.
    Or,
}

/// Comparisons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "the names are those of mathematics")]
pub enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// Reductions. The identity of an empty range is 0, -inf (or the least integer), +inf, 1, false, true.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "the names are those of mathematics")]
pub enum ReduceOp {
    Sum,
    Max,
    Min,
    Product,
    Any,
    All,
}

/// What a window computes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "the names are those of mathematics")]
pub enum WindowOp {
    Max,
    Sum,
}

/// `size` elements from `start`, each `step` after the one before; a negative step walks back.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SliceRange {
    /// First element.
    pub start: Dim,
    /// Number of elements.
    pub size: Dim,
    /// Distance, not 0.
    pub step: i64,
}

/// Geometry of a convolution; the lists have one entry for each spatial axis.
/// `y = floor((x + low + high - dilation * (k - 1) - 1) / stride) + 1`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ConvAttributes {
    /// Steps between windows, ≥ 1.
    pub stride: Vec<Dim>,
    /// Zeros before.
    pub low: Vec<Dim>,
    /// Zeros after.
    pub high: Vec<Dim>,
    /// Distance of taps, ≥ 1.
    pub dilation: Vec<Dim>,
    /// Channel groups, ≥ 1.
    pub groups: Dim,
}

/// Geometry of a pooling window; the lists have one entry for each spatial axis.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WindowAttributes {
    /// Extent of the window.
    pub size: Vec<Dim>,
    /// Steps between windows.
    pub stride: Vec<Dim>,
    /// Padding before.
    pub low: Vec<Dim>,
    /// Padding after.
    pub high: Vec<Dim>,
}

/// The permutation that puts channels, axis 1 of so many, behind the others.
pub fn channels_last(rank: usize) -> Vec<usize> {
    [0].into_iter().chain(2..rank).chain([1]).collect()
}

/// The permutation that brings channels, the last of so many axes, to axis 1.
pub fn channels_first(rank: usize) -> Vec<usize> {
    [0, rank - 1].into_iter().chain(1..rank - 1).collect()
}

macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),* $(,)? }) => {
        impl $type {
            /// Every variant, in the order of declaration.
            pub const ALL: &'static [$type] = &[$($type::$variant),*];
            /// The name in the text form.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),* }
            }
            /// The variant with that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|op| op.name() == name)
            }
        }
    };
}

names!(UnaryOp {
    Neg = "neg", Abs = "abs", Sign = "sign", Exp = "exp", Log = "log", Tanh = "tanh", Erf = "erf",
    Sigmoid = "sigmoid", Sqrt = "sqrt", Rsqrt = "rsqrt", Sin = "sin", Cos = "cos", Floor = "floor",
    Ceil = "ceil", Round = "round", Not = "not",
});
names!(BinaryOp {
    Add = "add", Sub = "sub", Mul = "mul", Div = "div", Rem = "rem", Pow = "pow", Max = "max", Min = "min",
    And = "and", Or = "or",
});
names!(CompareOp { Eq = "eq", Ne = "ne", Lt = "lt", Le = "le", Gt = "gt", Ge = "ge" });
names!(ReduceOp { Sum = "sum", Max = "max", Min = "min", Product = "product", Any = "any", All = "all" });
names!(WindowOp { Max = "max", Sum = "sum" });

impl Op {
    /// The op's word in the text form, without attributes.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::Param { .. } => "param",
            Op::State { .. } => "state",
            Op::Constant(_) => "constant",
            Op::Extent { .. } => "extent",
            Op::Iota { .. } => "iota",
            Op::Random { .. } => "random",
            Op::Unary(op) => op.name(),
            Op::Binary(op) => op.name(),
            Op::Compare(op) => op.name(),
            Op::Select => "select",
            Op::Cast(_) => "cast",
            Op::Reshape(_) => "reshape",
            Op::Transpose(_) => "transpose",
            Op::Broadcast { .. } => "broadcast",
            Op::Slice(_) => "slice",
            Op::Pad { .. } => "pad",
            Op::Concat { .. } => "concat",
            Op::DynamicSlice { .. } => "dynamic_slice",
            Op::DynamicUpdate { .. } => "dynamic_update",
            Op::Gather { .. } => "gather",
            Op::ScatterAdd { .. } => "scatter_add",
            Op::Reduce { .. } => "reduce",
            Op::ArgMax { .. } => "argmax",
            Op::Dot { .. } => "dot",
            Op::DotStored(_) => "dot_stored",
            Op::Conv(_) => "conv",
            Op::ConvLast(_) => "conv_last",
            Op::ConvInputGrad { .. } => "conv_input_grad",
            Op::ConvInputGradLast { .. } => "conv_input_grad_last",
            Op::ConvWeightGrad { .. } => "conv_weight_grad",
            Op::Window { .. } => "window",
            Op::WindowGrad { .. } => "window_grad",
            Op::WindowPick(_) => "window_pick",
            Op::Grad => "grad",
            Op::Scan(_) => "scan",
            Op::StopGradient => "stop_gradient",
        }
    }

    /// Whether each element of the result depends on the same element of the operands alone.
    pub fn is_elementwise(&self) -> bool {
        matches!(self, Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::StopGradient)
    }

    /// Whether it has no operand and stands for something outside the graph: such a node is never shared or removed.
    pub fn is_leaf(&self) -> bool {
        matches!(self, Op::Input { .. } | Op::Param { .. } | Op::State { .. })
    }
}
