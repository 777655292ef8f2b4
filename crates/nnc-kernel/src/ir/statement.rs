//! Statements and operations: the closed set, and the exact meaning of each.

use super::types::{Elem, ParamId, Value};

/// A sequence of statements. `results` are handed to the statement that owns the block: the values carried into the
/// next round of a `for`, the results of a branch of an `if`; empty for the body of a phase.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Block {
    /// In order of execution.
    pub statements: Vec<Statement>,
    /// What the block gives.
    pub results: Vec<Value>,
}

/// One step of a block.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Statement {
    /// Defines a value. The result's type stands in [`super::Phase::types`].
    Let(Value, Op),
    /// Writes to memory.
    Store(Store),
    /// A hint that a place will be read soon; any address is allowed, and nothing is observed.
    Prefetch(Address),
    /// A counted loop.
    For(Box<For>),
    /// A choice.
    If(Box<If>),
}

/// `for index = start; index < end; index += step`. `step` is positive. The loop starts with `initial` in `carried`;
/// each round's `body.results` replace them; after the last round (or none) they are `results`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct For {
    /// The counter, an index defined in the body.
    pub index: Value,
    /// First counter.
    pub start: Value,
    /// Where it ends, exclusive.
    pub end: Value,
    /// Distance between counters; the loop does not run on if it is not positive: that is a compiler bug and
    /// the interpreter reports it.
    pub step: Value,
    /// How many rounds a backend lays out in line (1: none); any number gives the same bits.
    pub unroll: u8,
    /// Values before the first round.
    pub initial: Vec<Value>,
    /// Defined in the body: the values at the start of a round.
    pub carried: Vec<Value>,
    /// Defined after the loop.
    pub results: Vec<Value>,
    /// One round.
    pub body: Block,
}

impl For {
    /// How many rounds it has, where its bounds are constants that `known` tells.
    pub fn trip_count(&self, known: impl Fn(Value) -> Option<u64>) -> Option<u64> {
        let [start, end, step] = [self.start, self.end, self.step].map(|value| known(value).map(|bits| bits as i64));
        let (distance, step) = (end?.checked_sub(start?)?.max(0), step?);
        (step > 0).then(|| (distance as u64).div_ceil(step as u64))
    }
}

/// Runs one of two blocks; `results` are that block's.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct If {
    /// A scalar bool.
    pub condition: Value,
    /// Runs when it holds.
    pub then: Block,
    /// Runs when it does not.
    pub otherwise: Block,
    /// Defined after the `if`.
    pub results: Vec<Value>,
}

/// Where an address counts from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Base {
    /// The start of a parameter's memory.
    Param(ParamId),
    /// So many bytes into the thread's scratch memory, a multiple of 64. Its contents do not outlive a task.
    Scratch(u32),
}

/// `base + (index + plus)` elements of the type that is loaded or stored. Any element may be addressed: vectors need
/// no alignment beyond that of their element.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// What it counts from.
    pub base: Base,
    /// The run-time part, in elements; 0 when absent.
    pub index: Option<Value>,
    /// The constant part, in elements.
    pub plus: i64,
}

/// Which elements a load or store touches; lane `i` has the element at `address` plus:
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// `i`.
    Contiguous,
    /// 0, for loads only: one element in every lane.
    Splat,
    /// `i * stride`, with a run-time stride (an index).
    Strided(Value),
    /// `i`, but lanes from `count` (an index) on touch no memory: they load as 0. Negative counts as 0.
    Tail(Value),
    /// `i`, but lanes whose mask is false touch no memory: they load as 0.
    Masked(Value),
    /// `indices[i]`, an i32 or i64 vector. On a store: in the order of lanes, so the last of equal indices stands.
    Indexed(Value),
}

/// Writes `value` lane by lane.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Store {
    /// Where.
    pub address: Address,
    /// Which elements ([`Access::Splat`] is not allowed).
    pub access: Access,
    /// What; its element type is that of the memory.
    pub value: Value,
}

/// What a `Let` computes. Unless said otherwise operands have the result's type and lanes are independent.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// The same bits in every lane: the low bits of the number are the element's (bool: 0 or 1).
    Constant(u64),
    /// The lane number, converted to the element type (numbers only).
    Iota,
    /// A function of one operand.
    Unary(UnaryOp, Value),
    /// A function of two operands.
    Binary(BinaryOp, Value, Value),
    /// A comparison of two numbers of one type; gives its mask.
    Compare(CompareOp, Value, Value),
    /// `(mask, a, b)`: `a` where the mask holds, else `b`. The mask has as many lanes, or is a scalar bool.
    Select(Value, Value, Value),
    /// `(a, b, c)`: `a * b + c` with one rounding, always; f32 and f64.
    Fma(Value, Value, Value),
    /// Converts each lane to the element of the result. Float to float rounds to nearest, ties to even. Float to
    /// integer truncates and saturates, NaN gives 0. Integer to float rounds to nearest even. Integer to integer
    /// extends by the operand's sign or drops upper bits. To bool is `x != 0`; from bool is 0 or 1. The storage floats
    /// f16 and bf16 convert from and to f32 only.
    Convert(Value),
    /// The same bits as another type of equal size; not for bool. Lanes lie in memory order, the first lowest.
    Bitcast(Value),
    /// A scalar in every lane.
    Splat(Value),
    /// One lane as a scalar.
    Extract(Value, u8),
    /// `(vector, scalar, lane)`: the vector with one lane replaced.
    Insert(Value, Value, u8),
    /// `(a, b, pattern)`: lane `i` is lane `pattern[i]` of `a` followed by `b`, which have one type; the result has as
    /// many lanes as the pattern, of the same element. This one op does interleaving, transposes (as sequences),
    /// rotations, slices, concatenations and constant look-ups.
    Shuffle(Value, Value, Box<[u8]>),
    /// `(table, indices)`: lane `i` is lane `indices[i] mod lanes(table)` of the table; the indices are integers, the
    /// result has their number of lanes and the table's element.
    LookUp(Value, Value),
    /// Combines the lanes to a scalar by a fixed tree: for `w = lanes/2, lanes/4, .. 1`, lane `i < w` becomes
    /// `lane[i] op lane[i + w]`; lane 0 is the result.
    Reduce(ReduceOp, Value),
    /// `(acc i32xN, a u8x4N, b i8x4N) -> i32xN`: lane `i` is `acc[i] + Σ_{j<4} a[4i+j] * b[4i+j]`, exact products,
    /// sums wrapping in i32 (no saturation).
    DotI8(Value, Value, Value),
    /// As [`Op::DotI8`], where every `b` is known to lie between -64 and 64, or every `a` to be at most 127, so that
    /// the sum of two products fits 16 bits. Of others the result is unspecified.
    DotI7(Value, Value, Value),
    /// `(acc f32xN, a bf16x2N, b bf16x2N) -> f32xN`: lane `i` is `fma(a[2i+1], b[2i+1], fma(a[2i], b[2i], acc[i]))`
    /// on the operands widened to f32.
    DotBf16(Value, Value, Value),
    /// Reads memory; the result's element is that of the memory.
    Load(Address, Access),
}

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $type { $($(#[$vdoc])* $variant),* }
        impl $type {
            /// Every variant.
            pub const ALL: &'static [$type] = &[$($type::$variant),*];
            /// The word in the text form.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),* }
            }
            /// The variant with that word.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|op| op.name() == name)
            }
        }
    };
}

named!(
    /// Functions of one operand. The sign and payload of a NaN that arithmetic gives are unspecified; `Neg` and `Abs`
    /// change the sign bit alone.
    UnaryOp {
        /// `-x`; integers wrap.
        Neg = "neg",
        /// Without the sign; integers wrap.
        Abs = "abs",
        /// Floats only, correctly rounded.
        Sqrt = "sqrt",
        /// Floats only.
        Floor = "floor",
        /// Floats only.
        Ceil = "ceil",
        /// Floats only: toward zero.
        Trunc = "trunc",
        /// Floats only: to the nearest integer, ties to even.
        Nearest = "nearest",
        /// Every bit of an integer; the negation of a mask.
        Not = "not",
    }
);

named!(
    /// Functions of two operands.
    BinaryOp {
        /// Integers wrap.
        Add = "add",
        /// Integers wrap.
        Sub = "sub",
        /// Integers wrap.
        Mul = "mul",
        /// Integers round toward negative infinity; by 0 gives 0; the least by -1 wraps.
        Div = "div",
        /// Integers only: `a - floor(a / b) * b`; by 0 gives 0.
        Rem = "rem",
        /// `b` if `b < a` or `b` is NaN, else `a`: so NaN if either is, and `a` of two zeros.
        Min = "min",
        /// `b` if `b > a` or `b` is NaN, else `a`: so NaN if either is, and `a` of two zeros.
        Max = "max",
        /// Bits of integers, masks.
        And = "and",
        /// Bits of integers, masks.
        Or = "or",
        /// Bits of integers, masks.
        Xor = "xor",
        /// Integers: left by `b mod bits`.
        Shl = "shl",
        /// Integers: right by `b mod bits`, zeros come in.
        Shr = "shr",
        /// Integers: right by `b mod bits`, the upper bit is repeated, whatever the signedness of the element.
        Sar = "sar",
    }
);

named!(
    /// Comparisons; with NaN false, except `Ne`, which is true. Integers compare by the signedness of the element.
    #[allow(missing_docs, reason = "the names are those of mathematics")]
    CompareOp {
        Eq = "eq",
        Ne = "ne",
        Lt = "lt",
        Le = "le",
        Gt = "gt",
        Ge = "ge",
    }
);

named!(
    /// What a horizontal reduction combines with: the [`BinaryOp`] of that name.
    #[allow(missing_docs, reason = "the names are those of the binary operations")]
    ReduceOp {
        Add = "add",
        Mul = "mul",
        Min = "min",
        Max = "max",
        And = "and",
        Or = "or",
    }
);

impl ReduceOp {
    /// The operation that combines two lanes.
    pub fn binary(self) -> BinaryOp {
        match self {
            Self::Add => BinaryOp::Add,
            Self::Mul => BinaryOp::Mul,
            Self::Min => BinaryOp::Min,
            Self::Max => BinaryOp::Max,
            Self::And => BinaryOp::And,
            Self::Or => BinaryOp::Or,
        }
    }
}

impl Access {
    /// The value it reads besides the address.
    pub fn operand(self) -> Option<Value> {
        match self {
            Self::Contiguous | Self::Splat => None,
            Self::Strided(value) | Self::Tail(value) | Self::Masked(value) | Self::Indexed(value) => Some(value),
        }
    }
}

impl Op {
    /// The values it reads, in the order of the text form.
    pub fn operands(&self) -> Vec<Value> {
        match self {
            Self::Constant(_) | Self::Iota => vec![],
            Self::Unary(_, a)
            | Self::Convert(a)
            | Self::Bitcast(a)
            | Self::Splat(a)
            | Self::Extract(a, _)
            | Self::Reduce(_, a) => vec![*a],
            Self::Binary(_, a, b)
            | Self::Compare(_, a, b)
            | Self::Insert(a, b, _)
            | Self::Shuffle(a, b, _)
            | Self::LookUp(a, b) => vec![*a, *b],
            Self::Select(a, b, c)
            | Self::Fma(a, b, c)
            | Self::DotI8(a, b, c)
            | Self::DotI7(a, b, c)
            | Self::DotBf16(a, b, c) => vec![*a, *b, *c],
            Self::Load(address, access) => address.index.into_iter().chain(access.operand()).collect(),
        }
    }
}

/// The element of a parameter's memory and how it is used.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Param {
    /// For people; no part of the meaning.
    pub name: String,
    /// Type of every element.
    pub elem: Elem,
    /// Whether it is read or written.
    pub direction: Direction,
}

named!(
    /// How a kernel uses a parameter's memory.
    Direction {
        /// Only read.
        In = "in",
        /// Only written.
        Out = "out",
        /// Both.
        InOut = "inout",
    }
);

impl Direction {
    /// Whether loads are allowed.
    pub fn reads(self) -> bool {
        matches!(self, Self::In | Self::InOut)
    }

    /// Whether stores are allowed.
    pub fn writes(self) -> bool {
        matches!(self, Self::Out | Self::InOut)
    }
}
