//! Items: what stands at the top of a file.

use super::{Parsed, Parser, Skip};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::syntax::ast::{Block, Body, Data, Function, FunctionKind, Item, ItemKind, Module, Param, Train, UseItem};
use crate::syntax::lexer::TokenKind;

impl Parser<'_, '_> {
    pub(super) fn module(&mut self) -> Module {
        let mut items = Vec::new();
        loop {
            let doc = self.doc();
            let start = self.peek().span;
            if self.kind() == TokenKind::End {
                return Module { items, weight_files: std::mem::take(&mut self.weight_files) };
            }
            match self.item() {
                Ok(kind) => {
                    items.push(Item { doc, kind, span: self.since(start) });
                    self.end_of_item();
                }
                Err(_) => self.skip_item(start),
            }
        }
    }

    fn end_of_item(&mut self) {
        if !matches!(self.kind(), TokenKind::LineEnd | TokenKind::Semicolon | TokenKind::End | TokenKind::Doc) {
            let start = self.peek().span;
            self.unexpected("the end of the line");
            self.skip_item(start);
        }
    }

    /// Skips to the next line that begins an item.
    fn skip_item(&mut self, start: Span) {
        if self.peek().span == start {
            self.next();
        }
        loop {
            self.skip_statement();
            match self.kind() {
                TokenKind::End => return,
                _ => self.next(),
            };
            if self.begins_item() {
                return;
            }
        }
    }

    /// Whether this is worth another look: an item, or a word at the start of a line, which should begin one.
    fn begins_item(&self) -> bool {
        let start = self.peek().span.start as usize;
        let starts_line = start == 0 || self.text.as_bytes().get(start - 1) == Some(&b'\n');
        if starts_line && self.kind() == TokenKind::Word {
            return true;
        }
        let follows = self.peek_by(1).kind;
        match self.word() {
            "fn" | "model" | "optimizer" | "metric" | "data" | "train" => follows == TokenKind::Word,
            "use" => follows == TokenKind::Str,
            _ => matches!(self.kind(), TokenKind::End),
        }
    }

    fn item(&mut self) -> Parsed<ItemKind> {
        match self.word() {
            "use" => self.use_item().map(ItemKind::Use),
            "fn" => self.function(FunctionKind::Fn).map(ItemKind::Function),
            "model" => self.function(FunctionKind::Model).map(ItemKind::Function),
            "optimizer" => self.function(FunctionKind::Optimizer).map(ItemKind::Function),
            "metric" => self.function(FunctionKind::Metric).map(ItemKind::Function),
            "data" => self.data().map(ItemKind::Data),
            "train" => self.train().map(ItemKind::Train),
            _ if self.peek_by(1).kind == TokenKind::Equal => Err(self.misplaced("a binding")),
            "param" | "state" | "layer" | "minimize" | "answer" | "augment"
                if self.peek_by(1).kind == TokenKind::Word =>
            {
                Err(self.misplaced(&format!("`{}`", self.word())))
            }
            word => {
                let items = ["use", "fn", "model", "optimizer", "metric", "data", "train"];
                let close = crate::diagnostic::closest(word, items);
                let skip = self.unexpected("an item (`model`, `fn`, `data`, `train`, `use`, `optimizer` or `metric`)");
                if let (Some(close), Some(last)) = (close, self.diagnostics.last_mut()) {
                    last.help.get_or_insert(format!("did you mean `{close}`?"));
                }
                Err(skip)
            }
        }
    }

    fn misplaced(&mut self, what: &str) -> Skip {
        let span = self.peek().span;
        self.error(Code::E0107, span, format!("{what} stands inside a block, not at the top of a file"));
        Skip
    }

    fn use_item(&mut self) -> Parsed<UseItem> {
        self.next();
        let token = self.expect(TokenKind::Str, "after `use`")?;
        Ok(UseItem { path: self.string(token.span), span: token.span })
    }

    fn function(&mut self, kind: FunctionKind) -> Parsed<Function> {
        let start = self.next().span;
        let name = self.ident("for it")?;
        self.expect(TokenKind::OpenParen, "before the parameters")?;
        let params = self.list(TokenKind::CloseParen, Self::param)?;
        let result = self.eat(TokenKind::Arrow).map(|_| self.ty()).transpose()?;
        let signature = self.since(start);
        let body = self.body()?;
        Ok(Function { kind, name, params, result, body, signature })
    }

    pub(super) fn param(&mut self) -> Parsed<Param> {
        let name = self.ident("of a parameter")?;
        if self.kind() != TokenKind::Colon {
            let message = format!("the parameter `{}` needs a type", name.text);
            let help = format!("write `{}: f32[N, C]` or `{}: int`", name.text, name.text);
            self.diagnostics.push(Diagnostic::new(Code::E0102, name.span, message).help(help));
            return Err(Skip);
        }
        self.next();
        let ty = self.ty()?;
        let default = self.eat(TokenKind::Equal).map(|_| self.expr()).transpose()?;
        Ok(Param { span: self.since(name.span), name, ty, default })
    }

    /// `= EXPR` or a block.
    pub(super) fn body(&mut self) -> Parsed<Body> {
        if self.eat(TokenKind::Equal).is_some() {
            self.skip_line_end();
            return self.values().map(Body::Expr);
        }
        if !matches!((self.kind(), self.peek_by(1).kind), (TokenKind::OpenBrace, _) | (_, TokenKind::OpenBrace)) {
            return Err(self.unexpected("`=` or `{` and a body"));
        }
        self.block().map(Body::Block)
    }

    pub(super) fn block(&mut self) -> Parsed<Block> {
        self.nested(|parser| {
            if parser.kind() == TokenKind::LineEnd && parser.peek_by(1).kind == TokenKind::OpenBrace {
                parser.next();
            }
            let start = parser.expect(TokenKind::OpenBrace, "to open the block")?.span;
            let stmts = parser.statements();
            parser.expect(TokenKind::CloseBrace, "to close the block")?;
            Ok(Block { stmts, span: parser.since(start) })
        })
    }

    fn data(&mut self) -> Parsed<Data> {
        self.next();
        let name = self.ident("for the data")?;
        Ok(Data { name, body: self.block()? })
    }

    fn train(&mut self) -> Parsed<Train> {
        self.next();
        let name = self.ident("of a model, or for the recipe")?;
        let arguments = match self.eat(TokenKind::OpenParen) {
            Some(_) => Some(self.list(TokenKind::CloseParen, Self::argument)?),
            None => None,
        };
        if self.eat_word("on").is_none() {
            return Err(self.unexpected("`on` and the name of the data"));
        }
        let data = self.ident("of the data")?;
        Ok(Train { name, arguments, data, body: self.block()? })
    }
}
