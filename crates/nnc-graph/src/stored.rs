//! Matrices that are kept in fewer bits than a float has: weights of products that are bound by memory.
//!
//! Integers have one scale for each group of neighbouring terms in a column (Frantar et al., "GPTQ: Accurate
//! Post-Training Quantization for Generative Pre-trained Transformers", 2023, among others); activations are floats.
//! What a matrix stands for is its integers times their scales ([`Stored::floats`]), or its brain floats as they are.

use crate::{BinaryOp, DType, Dim, Graph, Op, Shape, TensorType, ValueId};
use std::fmt;

/// How a matrix `[K, N]` of K terms and N columns is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stored {
    /// `bf16[K, N]`: the upper halves of floats.
    Bf16,
    /// `i8[K, N]`, with scales `f32[K / group, N]`.
    Bytes {
        /// Terms that share a scale; it divides K.
        group: usize,
    },
    /// `u8[K / 2, N]`, with scales as [`Self::Bytes`]: the lower four bits of byte `(k, n)` plus -8 are element
    /// `(2k, n)`, the upper four are `(2k + 1, n)`.
    Nibbles {
        /// Terms that share a scale; a multiple of eight that divides K.
        group: usize,
    },
}

/// Elements of four bits that a word holds: groups have whole words.
pub const NIBBLES: usize = 8;

/// What stands for 0 in four bits.
pub const NIBBLE_ZERO: i64 = 8;

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group() {
            None => f.write_str(self.name()),
            Some(group) => write!(f, "{} in groups of {group}", self.name()),
        }
    }
}

impl Stored {
    /// What its elements are called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Bytes { .. } => "int8",
            Self::Nibbles { .. } => "int4",
        }
    }

    /// Bits of an element, without its share of a scale.
    pub fn bits(self) -> usize {
        match self {
            Self::Bf16 => 16,
            Self::Bytes { .. } => 8,
            Self::Nibbles { .. } => 4,
        }
    }

    /// The form of so many bits; `group` is passed over where there are no scales.
    pub fn of_bits(bits: usize, group: usize) -> Option<Self> {
        match bits {
            16 => Some(Self::Bf16),
            8 => Some(Self::Bytes { group }),
            4 => Some(Self::Nibbles { group }),
            _ => None,
        }
    }

    /// Terms that share a scale, where there are scales.
    pub fn group(self) -> Option<usize> {
        match self {
            Self::Bf16 => None,
            Self::Bytes { group } | Self::Nibbles { group } => Some(group),
        }
    }

    /// Whether a matrix of so many terms can be kept so.
    pub fn fits(self, terms: usize) -> bool {
        let whole = |group: usize| group > 0 && terms.is_multiple_of(group);
        match self {
            Self::Bf16 => true,
            Self::Bytes { group } => whole(group),
            Self::Nibbles { group } => whole(group) && group.is_multiple_of(NIBBLES),
        }
    }

    /// The type that a matrix `[K, N]` is kept in.
    pub fn matrix(self, terms: usize, columns: usize) -> TensorType {
        match self {
            Self::Bf16 => TensorType::new(DType::Bf16, Shape::of(&[terms, columns])),
            Self::Bytes { .. } => TensorType::new(DType::I8, Shape::of(&[terms, columns])),
            Self::Nibbles { .. } => TensorType::new(DType::U8, Shape::of(&[terms / 2, columns])),
        }
    }

    /// The type of its scales.
    pub fn scales(self, terms: usize, columns: usize) -> Option<TensorType> {
        let shape = |group: usize| Shape::of(&[terms / group, columns]);
        self.group().map(|group| TensorType::new(DType::F32, shape(group)))
    }

    /// The matrix `f32[K, N]` that `operands`, the stored matrix and its scales, stand for, as further nodes of their
    /// graph.
    pub fn floats(self, graph: &mut Graph, operands: &[ValueId]) -> ValueId {
        self.floats_along(graph, operands, 0)
    }

    /// As [`Self::floats`], with the terms along axis `terms`, 0 or 1. What is turned for the latter is what is stored,
    /// so that the floats `f32[N, K]` lie row by row: as a table that rows are picked of has to.
    pub fn floats_along(self, graph: &mut Graph, operands: &[ValueId], terms: usize) -> ValueId {
        let mut turned = |operand: ValueId| match terms {
            0 => operand,
            _ => graph.emit(Op::Transpose(vec![1, 0]), &[operand]),
        };
        let operands: Vec<ValueId> = operands.iter().map(|&operand| turned(operand)).collect();
        let floats = self.numbers(graph, operands[0], terms);
        let Some(group) = self.group() else { return floats };
        let whole = graph.ty(floats).shape.clone();
        let groups = graph.ty(operands[1]).shape[terms].clone();
        let mut shape = whole.clone();
        shape.0.splice(terms..=terms, [groups, Dim::from(group)]);
        let floats = graph.emit(Op::Reshape(shape.clone()), &[floats]);
        let axes = (0..3).filter(|&axis| axis != terms + 1).collect();
        let scales = graph.emit(Op::Broadcast { shape, axes }, &[operands[1]]);
        let scaled = graph.emit(Op::Binary(BinaryOp::Mul), &[floats, scales]);
        graph.emit(Op::Reshape(whole), &[scaled])
    }

    /// The numbers `f32[K, N]` of a stored matrix, before scales.
    pub fn without_scales(self, graph: &mut Graph, matrix: ValueId) -> ValueId {
        self.numbers(graph, matrix, 0)
    }

    /// The numbers of a stored matrix whose terms lie along an axis.
    fn numbers(self, graph: &mut Graph, matrix: ValueId, terms: usize) -> ValueId {
        let numbers = match self {
            Self::Bf16 | Self::Bytes { .. } => matrix,
            Self::Nibbles { .. } => nibbles(graph, matrix, terms),
        };
        graph.emit(Op::Cast(DType::F32), &[numbers])
    }
}

/// The numbers of i32 that bytes hold in halves, twice as many along an axis.
fn nibbles(graph: &mut Graph, bytes: ValueId, terms: usize) -> ValueId {
    let wide = graph.emit(Op::Cast(DType::I32), &[bytes]);
    let ty = graph.ty(wide).clone();
    let (sixteen, zero) = (graph.splat(&ty, 16.0), graph.splat(&ty, NIBBLE_ZERO as f64));
    let mut apart = ty.shape.clone();
    apart.0.insert(terms + 1, Dim::from(1i64));
    let mut both = Vec::new();
    for op in [BinaryOp::Rem, BinaryOp::Div] {
        let half = graph.emit(Op::Binary(op), &[wide, sixteen]);
        let number = graph.emit(Op::Binary(BinaryOp::Sub), &[half, zero]);
        both.push(graph.emit(Op::Reshape(apart.clone()), &[number]));
    }
    let joined = graph.emit(Op::Concat { axis: terms + 1 }, &both);
    let mut whole = ty.shape;
    whole.0[terms] = whole.0[terms].clone() * Dim::from(2i64);
    graph.emit(Op::Reshape(whole), &[joined])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tensor, interpret};
    use std::collections::BTreeMap;

    #[test]
    fn halves_of_bytes_are_numbers_from_minus_eight() {
        let mut graph = Graph::new("g");
        let bytes = [0x0f, 0x80, 0x9a, 0x78, 0x21, 0x43, 0x65, 0x87];
        let bytes = graph.emit(Op::Constant(Tensor::from_bytes(DType::U8, &[8, 1], bytes.to_vec()).unwrap()), &[]);
        let scales = graph.emit(Op::Constant(Tensor::from_f64(DType::F32, &[2, 1], &[1., 2.])), &[]);
        let floats = Stored::Nibbles { group: 8 }.floats(&mut graph, &[bytes, scales]);
        let run = interpret::run(&graph, &BTreeMap::new()).unwrap();
        let first = [7., -8., -8., 0., 2., 1., 0., -1.];
        let second = [-14., -12., -10., -8., -6., -4., -2., 0.];
        assert_eq!(run.value(floats).to_f64(), [first, second].concat());
    }

    #[test]
    fn floats_with_terms_along_rows_are_the_same_turned() {
        let bytes: Vec<u8> = (0..32).map(|at| at * 7).collect();
        let tensor = |dtype: DType, dims: &[usize]| {
            let count = dims.iter().product::<usize>() * dtype.size();
            Op::Constant(Tensor::from_bytes(dtype, dims, bytes[..count].to_vec()).unwrap())
        };
        let scales = Op::Constant(Tensor::from_f64(DType::F32, &[2, 2], &[1., 2., 0.5, 3.]));
        let forms = [
            (Stored::Bf16, tensor(DType::Bf16, &[8, 2])),
            (Stored::Bytes { group: 8 }, tensor(DType::I8, &[16, 2])),
            (Stored::Nibbles { group: 8 }, tensor(DType::U8, &[8, 2])),
        ];
        for (form, matrix) in forms {
            let mut graph = Graph::new("g");
            let operands = [graph.emit(matrix, &[]), graph.emit(scales.clone(), &[])];
            let columns = form.floats(&mut graph, &operands);
            let rows = form.floats_along(&mut graph, &operands, 1);
            let turned = graph.emit(Op::Transpose(vec![1, 0]), &[columns]);
            let run = interpret::run(&graph, &BTreeMap::new()).unwrap();
            assert_eq!(run.value(rows), run.value(turned), "{form}");
        }
    }
}
