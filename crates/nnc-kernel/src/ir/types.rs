//! Element and value types, and the ids of values and parameters.

use std::fmt;

/// The type of one element, in memory and in a lane.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Elem {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary16: storage only, computed with after a conversion to f32.
    F16,
    /// The upper half of a binary32: storage only, as f16.
    Bf16,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer; scalars of it are indices.
    I64,
    /// Truth value: a mask in lanes; one byte, 0 or 1, in memory.
    Bool,
}

impl Elem {
    /// Every element type.
    pub const ALL: [Elem; 10] =
        [Self::F32, Self::F64, Self::F16, Self::Bf16, Self::I8, Self::U8, Self::I16, Self::I32, Self::I64, Self::Bool];

    /// The name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Bool => "bool",
        }
    }

    /// The element called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|elem| elem.name() == name)
    }

    /// Bytes of one element in memory.
    pub fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Bits of one element in memory.
    pub fn bits(self) -> u32 {
        self.size() as u32 * 8
    }

    /// Whether floating-point arithmetic is defined on it (f32 and f64).
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// Whether it is a float that only lives in memory (f16 and bf16).
    pub fn is_storage_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16)
    }

    /// Whether it is an integer (`bool` is none).
    pub fn is_int(self) -> bool {
        matches!(self, Self::I8 | Self::U8 | Self::I16 | Self::I32 | Self::I64)
    }

    /// Whether it is an integer with a sign.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64)
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The type of a value: `lanes` elements, a power of two up to [`Type::MAX_LANES`]. One lane is a scalar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Type {
    /// Type of each lane.
    pub elem: Elem,
    /// Number of lanes.
    pub lanes: u8,
}

impl Type {
    /// The largest number of lanes.
    pub const MAX_LANES: u8 = 64;
    /// What offsets, counts and trip counts are.
    pub const INDEX: Type = Type::scalar(Elem::I64);
    /// A truth value that `if` takes.
    pub const BOOL: Type = Type::scalar(Elem::Bool);

    /// One lane.
    pub const fn scalar(elem: Elem) -> Self {
        Self { elem, lanes: 1 }
    }

    /// Several lanes.
    pub const fn vector(elem: Elem, lanes: u8) -> Self {
        Self { elem, lanes }
    }

    /// As many lanes of another element.
    pub const fn with_elem(self, elem: Elem) -> Self {
        Self { elem, lanes: self.lanes }
    }

    /// Another number of lanes of the same element.
    pub const fn with_lanes(self, lanes: u8) -> Self {
        Self { elem: self.elem, lanes }
    }

    /// The mask that a comparison of two such values gives.
    pub const fn mask(self) -> Self {
        self.with_elem(Elem::Bool)
    }

    /// Bytes in memory.
    pub fn size(self) -> usize {
        self.elem.size() * usize::from(self.lanes)
    }

    /// Whether the number of lanes is one that the IR knows.
    pub fn is_valid(self) -> bool {
        self.lanes.is_power_of_two() && self.lanes <= Self::MAX_LANES
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lanes {
            1 => write!(f, "{}", self.elem),
            lanes => write!(f, "{}x{lanes}", self.elem),
        }
    }
}

/// An SSA value of a phase, defined once. Displays as `v7`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Value(pub u32);

impl Value {
    /// Its place in tables such as [`super::Phase::types`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// A parameter of a kernel: a place in [`super::Kernel::params`]. Displays as `p2`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ParamId(pub u32);

impl ParamId {
    /// Its place in [`super::Kernel::params`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ParamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}
