//! Types and dims.

use super::{Parsed, Parser};
use crate::diagnostic::{Code, Diagnostic};
use crate::syntax::ast::{DimExpr, Type, TypeKind};
use crate::syntax::lexer::TokenKind;

impl Parser<'_, '_> {
    pub(super) fn ty(&mut self) -> Parsed<Type> {
        self.nested(|parser| {
            let start = parser.peek().span;
            let kind = parser.type_kind()?;
            Ok(Type { kind, span: parser.since(start) })
        })
    }

    fn type_kind(&mut self) -> Parsed<TypeKind> {
        match self.kind() {
            TokenKind::OpenParen => {
                self.next();
                self.list(TokenKind::CloseParen, Self::ty).map(TypeKind::Tuple)
            }
            TokenKind::OpenBracket => {
                self.next();
                let element = self.ty()?;
                self.expect(TokenKind::CloseBracket, "after the type of the list's elements")?;
                Ok(TypeKind::List(Box::new(element)))
            }
            TokenKind::Word if self.word() == "fn" => {
                self.next();
                self.expect(TokenKind::OpenParen, "before the parameter types")?;
                let params = self.list(TokenKind::CloseParen, Self::ty)?;
                self.expect(TokenKind::Arrow, "before the result type")?;
                Ok(TypeKind::Function(params, Box::new(self.ty()?)))
            }
            TokenKind::Word => {
                let name = self.ident("of a type")?;
                let dims = match self.eat(TokenKind::OpenBracket) {
                    Some(_) => Some(self.list(TokenKind::CloseBracket, Self::dim)?),
                    None => None,
                };
                if self.has_two_rests(dims.as_deref().unwrap_or_default()) {
                    return Ok(TypeKind::Error);
                }
                Ok(TypeKind::Named { name, dims })
            }
            _ => Err(self.unexpected("a type, such as `f32[N, 10]` or `int`")),
        }
    }

    /// Refuses a second `...` among dims: what each of them stands for could not be told.
    fn has_two_rests(&mut self, dims: &[DimExpr]) -> bool {
        let rests = dims.iter().filter_map(|dim| match dim {
            DimExpr::Rest(name) => Some(name),
            DimExpr::Expr(_) => None,
        });
        let [first, second, ..] = rests.collect::<Vec<_>>()[..] else { return false };
        let name = if first.text == second.text { &first.text } else { "" };
        let message = format!("`...{name}` stands once in a type");
        self.diagnostics.push(Diagnostic::new(Code::E0310, second.span, message).with(first.span, "first here"));
        true
    }

    fn dim(&mut self) -> Parsed<DimExpr> {
        match self.eat(TokenKind::Ellipsis) {
            Some(_) => self.ident("after `...`").map(DimExpr::Rest),
            None => self.expr().map(DimExpr::Expr),
        }
    }
}
