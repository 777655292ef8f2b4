//! Types and dims.

use super::{Parsed, Parser};
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
                Ok(TypeKind::Named { name, dims })
            }
            _ => Err(self.unexpected("a type, such as `f32[N, 10]` or `int`")),
        }
    }

    fn dim(&mut self) -> Parsed<DimExpr> {
        match self.eat(TokenKind::Ellipsis) {
            Some(_) => self.ident("after `...`").map(DimExpr::Rest),
            None => self.expr().map(DimExpr::Expr),
        }
    }
}
