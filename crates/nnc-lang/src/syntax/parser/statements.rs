//! Statements. A word is a keyword only where what follows makes it one: `state = 3` binds a name.

use super::{Parsed, Parser, Skip};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::syntax::ast::{
    Declaration, Expr, ExprKind, Follows, Ident, LayerStmt, Minimize, MinimizePart, NameRule, Stmt, StmtKind, Target,
};
use crate::syntax::lexer::TokenKind;

impl Parser<'_, '_> {
    /// Statements up to the `}` or the end of the file.
    pub(super) fn statements(&mut self) -> Vec<Stmt> {
        let mut stmts = Vec::new();
        loop {
            let doc = self.doc();
            if matches!(self.kind(), TokenKind::CloseBrace | TokenKind::End) {
                return stmts;
            }
            let start = self.peek().span;
            let before = self.at;
            let kind = match self.statement().and_then(|kind| self.end_of_statement(&kind).map(|()| kind)) {
                Ok(kind) => kind,
                Err(Skip) => {
                    self.skip_statement();
                    StmtKind::Error
                }
            };
            stmts.push(Stmt { doc, kind, span: self.since(start) });
            if self.at == before {
                self.next();
            }
        }
    }

    fn end_of_statement(&mut self, kind: &StmtKind) -> Parsed<()> {
        let ends = [TokenKind::LineEnd, TokenKind::Semicolon, TokenKind::CloseBrace, TokenKind::End, TokenKind::Doc];
        if ends.contains(&self.kind()) {
            return Ok(());
        }
        match (kind, self.kind()) {
            (StmtKind::Expr(target), TokenKind::Equal | TokenKind::Update) => Err(self.not_a_name(target)),
            _ => Err(self.unexpected("an operator or the end of the line")),
        }
    }

    /// Reports an assignment to something else than names.
    fn not_a_name(&mut self, target: &Expr) -> Skip {
        let diagnostic = match target.kind {
            ExprKind::Index(..) => Diagnostic::new(Code::E0102, target.span, "a part of a tensor cannot be bound")
                .help("make a new tensor with `update(x, value, at=i, axis=0)`"),
            _ => Diagnostic::new(Code::E0102, target.span, "only a name can be bound"),
        };
        self.diagnostics.push(diagnostic);
        Skip
    }

    /// Whether the word here, followed by what follows, is only a name.
    fn is_plain_name(&self) -> bool {
        matches!(
            self.peek_by(1).kind,
            TokenKind::Equal | TokenKind::Update | TokenKind::Colon | TokenKind::Comma | TokenKind::Dot
        )
    }

    /// Flat dispatch on the first word.
    fn statement(&mut self) -> Parsed<StmtKind> {
        if self.is_name_map() {
            self.next();
            self.next();
            return self.name_map().map(StmtKind::Names);
        }
        if self.is_plain_name() {
            return self.binding_or_expr();
        }
        let named = self.peek_by(1).kind == TokenKind::Word;
        let block = self.peek_by(1).kind == TokenKind::OpenBrace;
        match self.word() {
            "param" if named => self.declaration().map(StmtKind::Param),
            "state" if named => self.declaration().map(StmtKind::State),
            "layer" if named => self.layer().map(StmtKind::Layer),
            "metric" if named => self.named_value().map(|(name, value)| StmtKind::Metric { name, value }),
            "augment" if named => self.named_value().map(|(name, value)| StmtKind::Augment { name, value }),
            "picture" if named => self.named_value().map(|(name, value)| StmtKind::Picture { name, value }),
            "answer" if named => self.answer(),
            "step" if named || block => self.step(),
            "return" => self.keyword_expr().map(StmtKind::Return),
            "yield" => self.keyword_expr().map(StmtKind::Yield),
            "minimize" => self.minimize().map(StmtKind::Minimize),
            "if" => self.if_statement(),
            "for" => self.for_statement(),
            "fn" | "model" | "optimizer" | "data" | "train" if named => Err(self.misplaced_item()),
            "use" if self.peek_by(1).kind == TokenKind::Str => Err(self.misplaced_item()),
            "else" => Err(self.error_here("this `else` belongs to no `if`")),
            "let" | "var" | "const" | "def" | "class" | "import" | "while" if named => {
                Err(self.unexpected("a statement"))
            }
            _ => self.binding_or_expr(),
        }
    }

    fn keyword_expr(&mut self) -> Parsed<Expr> {
        self.next();
        self.values()
    }

    fn misplaced_item(&mut self) -> Skip {
        let (span, word) = (self.peek().span, self.word());
        self.error(Code::E0107, span, format!("`{word}` stands at the top of a file, not inside a block"));
        Skip
    }

    fn error_here(&mut self, message: &str) -> Skip {
        self.error(Code::E0102, self.peek().span, message);
        Skip
    }

    fn binding_or_expr(&mut self) -> Parsed<StmtKind> {
        if self.kind() != TokenKind::Word || !self.begins_binding() {
            return self.expr().map(StmtKind::Expr);
        }
        if self.peek_by(1).kind == TokenKind::Update {
            let target = self.ident("of a state")?;
            self.next();
            return Ok(StmtKind::Update { target, value: self.expr()? });
        }
        let mut targets = vec![self.target()?];
        while self.eat(TokenKind::Comma).is_some() {
            targets.push(self.target()?);
        }
        if self.kind() == TokenKind::Colon && targets.len() > 1 {
            return Err(self.error_here("only a single name takes a type"));
        }
        let ty = self.eat(TokenKind::Colon).map(|_| self.ty()).transpose()?;
        self.expect(TokenKind::Equal, "and a value")?;
        self.skip_line_end();
        Ok(StmtKind::Bind { targets, ty, value: self.values()? })
    }

    /// Whether names separated by commas and then `=`, `:` or `<-` follow.
    fn begins_binding(&self) -> bool {
        let mut by = 1;
        while self.peek_by(by).kind == TokenKind::Comma && self.peek_by(by + 1).kind == TokenKind::Word {
            by += 2;
        }
        matches!(self.peek_by(by).kind, TokenKind::Equal | TokenKind::Colon | TokenKind::Update)
    }

    fn target(&mut self) -> Parsed<Target> {
        let name = self.ident("to bind")?;
        Ok(if name.text == "_" { Target::Ignore(name.span) } else { Target::Name(name) })
    }

    fn declaration(&mut self) -> Parsed<Declaration> {
        self.next();
        let name = self.ident("for it")?;
        self.expect(TokenKind::Colon, "and a type")?;
        let ty = self.ty()?;
        self.expect(TokenKind::Equal, "and a first value, such as `zeros()`")?;
        self.skip_line_end();
        Ok(Declaration { name, ty, init: self.expr()? })
    }

    fn layer(&mut self) -> Parsed<LayerStmt> {
        self.next();
        let name = self.ident("for the layer")?;
        self.expect(TokenKind::Equal, "and a model")?;
        let value = self.expr()?;
        let (from, partial, cast, frozen, follows, names) = (None, None, None, None, None, Vec::new());
        let mut layer = LayerStmt { name, value, from, partial, cast, frozen, follows, names };
        loop {
            if let Some(word) = self.eat_word("from") {
                self.refuse_again("from", word.span, layer.from.is_some());
                let token = self.expect(TokenKind::Str, "after `from`")?;
                let file = self.string(token.span);
                self.weight_files.push(file.clone());
                layer.from = Some((file, token.span));
            } else if let Some(token) = self.eat_word("frozen") {
                self.refuse_again("frozen", token.span, layer.frozen.replace(token.span).is_some());
            } else if let Some(token) = self.eat_word("partial") {
                self.refuse_again("partial", token.span, layer.partial.replace(token.span).is_some());
            } else if let Some(token) = self.eat_word("cast") {
                self.refuse_again("cast", token.span, layer.cast.replace(token.span).is_some());
            } else if let Some(token) = self.eat_word("follows") {
                self.refuse_again("follows", token.span, layer.follows.is_some());
                layer.follows = Some(self.follows()?);
            } else if self.is_name_map() {
                let token = self.next();
                self.refuse_again("names", token.span, !layer.names.is_empty());
                self.next();
                layer.names = self.name_map()?;
            } else {
                return Ok(layer);
            }
            self.eat(TokenKind::Comma);
        }
    }

    /// What stands behind `follows`.
    fn follows(&mut self) -> Parsed<Follows> {
        let mut follows = Follows { leader: self.ident("for the layer that is followed")?, rate: None, every: None };
        loop {
            // A comma may also stand before what else is said of the layer.
            let at = usize::from(self.kind() == TokenKind::Comma);
            let is_option =
                |word: &str| self.word_of(self.peek_by(at)) == word && self.peek_by(at + 1).kind == TokenKind::Equal;
            let Some(word) = ["rate", "every"].into_iter().find(|word| is_option(word)) else { return Ok(follows) };
            self.eat(TokenKind::Comma);
            let token = self.next();
            self.next();
            let value = self.expr()?;
            let place = if word == "rate" { &mut follows.rate } else { &mut follows.every };
            let is_there = place.replace(value).is_some();
            self.refuse_again(word, token.span, is_there);
        }
    }

    /// What is said of a layer twice would be taken once.
    fn refuse_again(&mut self, word: &str, span: Span, is_there: bool) {
        if is_there {
            self.error(Code::E0107, span, format!("`{word}` is there already"));
        }
    }

    /// Whether `names = {` follows.
    fn is_name_map(&self) -> bool {
        self.word() == "names"
            && self.peek_by(1).kind == TokenKind::Equal
            && self.peek_by(2).kind == TokenKind::OpenBrace
    }

    /// `{"theirs": "ours", ...}`; line ends inside count for nothing.
    fn name_map(&mut self) -> Parsed<Vec<NameRule>> {
        self.expect(TokenKind::OpenBrace, "before the names")?;
        let mut names = Vec::new();
        loop {
            self.skip_line_ends();
            if self.eat(TokenKind::CloseBrace).is_some() {
                return Ok(names);
            }
            let theirs = self.expect(TokenKind::Str, "with the name in the file")?;
            self.expect(TokenKind::Colon, "between the names")?;
            let ours = self.expect(TokenKind::Str, "with the name in the model")?;
            let (theirs, theirs_span) = (self.string(theirs.span), theirs.span);
            let (ours, ours_span) = (self.string(ours.span), ours.span);
            names.push(NameRule { theirs, theirs_span, ours, ours_span });
            self.skip_line_ends();
            if self.eat(TokenKind::Comma).is_none() && self.kind() != TokenKind::CloseBrace {
                return Err(self.unexpected("`,` or `}`"));
            }
        }
    }

    fn named_value(&mut self) -> Parsed<(Ident, Expr)> {
        self.next();
        let name = self.ident("for it")?;
        self.expect(TokenKind::Equal, "and a value")?;
        self.skip_line_end();
        Ok((name, self.expr()?))
    }

    fn answer(&mut self) -> Parsed<StmtKind> {
        self.next();
        let name = self.ident("for the answer")?;
        let params = match self.eat(TokenKind::OpenParen) {
            Some(_) => Some(self.list(TokenKind::CloseParen, Self::param)?),
            None => None,
        };
        let result = self.eat(TokenKind::Arrow).map(|_| self.ty()).transpose()?;
        Ok(StmtKind::Answer { name, params, result, body: self.body()? })
    }

    fn step(&mut self) -> Parsed<StmtKind> {
        self.next();
        let name = self.ident("for the step")?;
        let every = self.eat_word("every").map(|_| self.expr()).transpose()?;
        Ok(StmtKind::Step { name, every, body: self.block()? })
    }

    fn minimize(&mut self) -> Parsed<Minimize> {
        self.next();
        if self.word() == "using" && self.peek_by(1).kind == TokenKind::Word {
            return Err(self.unexpected("the loss, a scalar"));
        }
        let loss = self.expr()?;
        let mut minimize = Minimize { loss, parts: Vec::new(), options: Vec::new() };
        let is_all = matches!(self.kind(), TokenKind::LineEnd | TokenKind::CloseBrace | TokenKind::End);
        if is_all && !self.clause_follows("over") && !self.clause_follows("using") {
            return Ok(minimize);
        }
        minimize.parts.push(self.minimize_part()?);
        loop {
            let comma = self.eat(TokenKind::Comma).is_some();
            if self.clause_follows("over") {
                self.skip_line_ends();
                minimize.parts.push(self.minimize_part()?);
            } else if comma {
                let name = self.ident("of an option, such as `clip_norm`")?;
                self.expect(TokenKind::Equal, "and a value")?;
                minimize.options.push((name, self.expr()?));
            } else {
                return Ok(minimize);
            }
        }
    }

    /// Whether the clause word follows, here or on the next line.
    fn clause_follows(&self, word: &str) -> bool {
        let by = usize::from(self.kind() == TokenKind::LineEnd);
        self.word_of(self.peek_by(by)) == word && self.peek_by(by + 1).kind == TokenKind::Word
    }

    fn minimize_part(&mut self) -> Parsed<MinimizePart> {
        if self.clause_follows("over") || self.clause_follows("using") {
            self.skip_line_ends();
        }
        let over = self.eat_word("over").map(|_| self.expr()).transpose()?;
        if self.clause_follows("using") {
            self.skip_line_ends();
        }
        if self.eat_word("using").is_none() {
            return Err(self.unexpected("`using` and an optimiser, such as `using adam(lr=1e-3)`"));
        }
        Ok(MinimizePart { over, using: self.expr()? })
    }

    fn if_statement(&mut self) -> Parsed<StmtKind> {
        let mut branches = Vec::new();
        loop {
            self.next();
            let start = self.peek().span;
            let condition = self.expr();
            let condition = self.recover_at_block(condition, error_at(start))?;
            branches.push((condition, self.block()?));
            let by = usize::from(self.kind() == TokenKind::LineEnd);
            if self.word_of(self.peek_by(by)) != "else" {
                return Ok(StmtKind::If { branches, otherwise: None });
            }
            self.skip_line_ends();
            self.next();
            if self.word() != "if" {
                let otherwise = Some(self.block()?);
                return Ok(StmtKind::If { branches, otherwise });
            }
        }
    }

    fn for_statement(&mut self) -> Parsed<StmtKind> {
        self.next();
        let start = self.peek().span;
        let (head, missing) = (self.for_head(), Ident { text: "_".to_owned(), span: start });
        let (target, over) = self.recover_at_block(head, (missing, error_at(start)))?;
        Ok(StmtKind::For { target, over, body: self.block()? })
    }

    fn for_head(&mut self) -> Parsed<(Ident, Expr)> {
        let target = self.ident("for each turn")?;
        if self.eat_word("in").is_none() {
            return Err(self.unexpected("`in` and a range or a list"));
        }
        Ok((target, self.range_or_expr()?))
    }
}

fn error_at(span: Span) -> Expr {
    Expr { kind: ExprKind::Error, span }
}
