//! The tensors of one raw example: their types and their names.
//!
//! Beside the types of the language there are `words[T]` and `tokens[T]`: a text of at most `T` words or byte-pair
//! tokens. The program sees its `i32[T]` numbers.

use super::words::Tables;
use super::{Block, RawField, TextUnit};
use crate::diagnostic::Code;
use crate::elaborate::recipe::copy::ancestors;
use crate::syntax::ast::{Ident, Type, TypeKind};
use nnc_graph::{DType, Op, TensorType, ValueId};
use std::borrow::Cow;

/// The type of a raw tensor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RawType {
    /// As the program sees it.
    pub(super) ty: TensorType,
    /// What its numbers are of, if it is a text.
    pub(super) unit: Option<TextUnit>,
}

impl Block<'_> {
    /// Files hold f32 whatever the program computes in.
    pub(super) fn in_program_float(&mut self, leaf: ValueId, dtype: DType) -> ValueId {
        let float = self.elaborator.options.float;
        if dtype == DType::F32 && float != DType::F32 {
            return self.elaborator.graph.emit(Op::Cast(float), &[leaf]);
        }
        leaf
    }

    /// The types of the tensors of a raw example, as a file has them.
    pub(super) fn raw_types(&mut self, ty: &Type) -> Option<Vec<RawType>> {
        let parts: Vec<&Type> = match &ty.kind {
            TypeKind::Tuple(parts) => parts.iter().collect(),
            TypeKind::Named { .. } | TypeKind::List(_) | TypeKind::Function(..) | TypeKind::Error => vec![ty],
        };
        if parts.is_empty() {
            let help = "write the types of its tensors, as `(u8[28, 28], u8)`";
            self.fail_with_help(Code::E0502, ty.span, "an example has at least one tensor", help);
            return None;
        }
        parts.into_iter().map(|part| self.raw_type(part)).collect()
    }

    fn raw_type(&mut self, part: &Type) -> Option<RawType> {
        let (plain, unit) = numbers_of(part);
        let mut ty = self.elaborator.tensor_type(&plain)?;
        if let TypeKind::Named { name, .. } = &plain.kind {
            ty.dtype = DType::from_name(&name.text).unwrap_or(ty.dtype);
        }
        if !ty.shape.is_bound() {
            let message = format!("the sizes of a raw example are numbers, and this is {ty}");
            self.fail(Code::E0308, part.span, message);
            return None;
        }
        if let Some(unit) = unit.filter(|_| ty.shape.rank() != 1) {
            let name = unit.name();
            let help = format!("write `{name}[50]`; what is longer is cut, what is shorter is filled up");
            let message = format!("a text has one dim: how many {name} it has at most");
            self.fail_with_help(Code::E0502, part.span, message, help);
            return None;
        }
        Some(RawType { ty, unit })
    }

    /// The raw tensors that a value is made from.
    pub(super) fn made_from(&self, value: ValueId) -> Vec<usize> {
        let graph = &self.elaborator.graph;
        let needed = ancestors(graph, &[value]);
        let leaves = self.leaves.iter().enumerate();
        leaves.filter(|(_, (leaf, _))| needed.contains(&graph.value(*leaf).node)).map(|(at, _)| at).collect()
    }

    /// The raw tensors. Each has the name of the first field that is made from it alone.
    pub(super) fn raw_fields(&self, tables: &Tables) -> Vec<RawField> {
        let sources: Vec<Vec<usize>> = self.parts.plain.iter().map(|&value| self.made_from(value)).collect();
        let name_of = |at: usize| {
            let field = sources.iter().position(|made_from| made_from[..] == [at]);
            field.map_or(self.source_names[at].clone(), |field| self.parts.fields[field].name.clone())
        };
        let typed = self.leaves.iter().zip(&tables.of_fields).enumerate();
        typed.map(|(at, ((_, raw), &table))| RawField { name: name_of(at), ty: raw.ty.clone(), table }).collect()
    }
}

/// The type of the numbers that stand for a raw tensor, and what they are of, if it is a text.
fn numbers_of(ty: &Type) -> (Cow<'_, Type>, Option<TextUnit>) {
    match &ty.kind {
        TypeKind::Named { name, dims } if TextUnit::of(&name.text).is_some() => {
            let unit = TextUnit::of(&name.text);
            let name = Ident { text: DType::I32.name().to_owned(), span: name.span };
            let kind = TypeKind::Named { name, dims: dims.clone() };
            (Cow::Owned(Type { kind, span: ty.span }), unit)
        }
        _ => (Cow::Borrowed(ty), None),
    }
}
