//! Expressions, loose to tight: `|>` · `or` · `and` · `not` · comparisons · `+ -` · `* / % @` · unary `-` · `**` ·
//! call, index, field.

use super::{Parsed, Parser, Skip};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::syntax::ast::{Arg, BinaryOperator, Expr, ExprKind, Ident, IndexItem, Scan, UnaryOperator};
use crate::syntax::lexer::TokenKind;

/// The operators of one level, tighter levels later; comparisons do not chain.
const LEVELS: usize = 5;
const COMPARISONS: usize = 2;

fn operator(level: usize, kind: TokenKind, word: &str) -> Option<BinaryOperator> {
    use BinaryOperator::{Add, And, Div, Eq, Ge, Gt, Le, Lt, MatMul, Mul, Ne, Or, Rem, Sub};
    Some(match (level, kind) {
        (0, TokenKind::Word) if word == "or" => Or,
        (1, TokenKind::Word) if word == "and" => And,
        (2, TokenKind::EqualEqual) => Eq,
        (2, TokenKind::NotEqual) => Ne,
        (2, TokenKind::Less) => Lt,
        (2, TokenKind::LessEqual) => Le,
        (2, TokenKind::Greater) => Gt,
        (2, TokenKind::GreaterEqual) => Ge,
        (3, TokenKind::Plus) => Add,
        (3, TokenKind::Minus) => Sub,
        (4, TokenKind::Star) => Mul,
        (4, TokenKind::Slash) => Div,
        (4, TokenKind::Percent) => Rem,
        (4, TokenKind::At) => MatMul,
        _ => return None,
    })
}

impl Parser<'_, '_> {
    /// An expression: a pipeline, with the names of its stages.
    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        self.nested(|parser| {
            let mut left = parser.binary(0)?;
            loop {
                if parser.word() == "as" && parser.peek_by(1).kind == TokenKind::Word {
                    parser.next();
                    let name = parser.ident("for the use")?;
                    left = Expr { span: left.span.to(name.span), kind: ExprKind::As(Box::new(left), name) };
                } else if parser.eat(TokenKind::Pipe).is_some() {
                    parser.skip_line_end();
                    let right = parser.aside(|parser| parser.binary(0))?;
                    let span = left.span.to(right.span);
                    left = Expr { kind: ExprKind::Pipe(Box::new(left), Box::new(right)), span };
                } else {
                    return Ok(left);
                }
                parser.link(left.span)?;
            }
        })
    }

    /// Expressions with commas between them: more than one are a tuple.
    pub(super) fn values(&mut self) -> Parsed<Expr> {
        let first = self.expr()?;
        if self.kind() != TokenKind::Comma {
            return Ok(first);
        }
        let (start, mut items) = (first.span, vec![first]);
        while self.eat(TokenKind::Comma).is_some() {
            self.skip_line_end();
            items.push(self.expr()?);
        }
        Ok(Expr { kind: ExprKind::Tuple(items), span: self.since(start) })
    }

    fn binary(&mut self, level: usize) -> Parsed<Expr> {
        if level == COMPARISONS && self.word() == "not" {
            return self.not();
        }
        if level == LEVELS {
            return self.unary();
        }
        let mut left = self.binary(level + 1)?;
        let mut chained = false;
        loop {
            let token = self.peek();
            let Some(operator) = operator(level, token.kind, self.word()) else { return Ok(left) };
            if level == COMPARISONS && chained {
                let diagnostic = Diagnostic::new(Code::E0102, token.span, "comparisons do not chain");
                self.diagnostics.push(diagnostic.help("write `a < b and b < c`"));
                return Err(Skip);
            }
            self.next();
            self.skip_line_end();
            let right = self.aside(|parser| parser.binary(level + 1))?;
            let span = left.span.to(right.span);
            left = Expr { kind: ExprKind::Binary(operator, Box::new(left), Box::new(right)), span };
            self.link(span)?;
            chained = true;
        }
    }

    fn not(&mut self) -> Parsed<Expr> {
        self.nested(|parser| {
            let start = parser.next().span;
            let operand = parser.binary(COMPARISONS)?;
            let span = start.to(operand.span);
            Ok(Expr { kind: ExprKind::Unary(UnaryOperator::Not, Box::new(operand)), span })
        })
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let start = self.peek().span;
        if self.eat(TokenKind::Minus).is_none() {
            return self.power();
        }
        self.nested(|parser| {
            let operand = parser.unary()?;
            let span = start.to(operand.span);
            Ok(Expr { kind: ExprKind::Unary(UnaryOperator::Neg, Box::new(operand)), span })
        })
    }

    fn power(&mut self) -> Parsed<Expr> {
        let base = self.postfix()?;
        if self.eat(TokenKind::Power).is_none() {
            return Ok(base);
        }
        self.nested(|parser| {
            parser.skip_line_end();
            let exponent = parser.unary()?;
            let span = base.span.to(exponent.span);
            Ok(Expr { kind: ExprKind::Binary(BinaryOperator::Pow, Box::new(base), Box::new(exponent)), span })
        })
    }

    fn postfix(&mut self) -> Parsed<Expr> {
        let mut expr = self.primary()?;
        loop {
            let start = expr.span;
            let kind = match self.kind() {
                TokenKind::Dot if matches!(expr.kind, ExprKind::Int(_) | ExprKind::Float(_)) => {
                    return Err(self.number_with_field(&expr));
                }
                TokenKind::OpenParen => {
                    self.next();
                    ExprKind::Call(Box::new(expr), self.list(TokenKind::CloseParen, Self::argument)?)
                }
                TokenKind::OpenBracket => {
                    self.next();
                    ExprKind::Index(Box::new(expr), self.list(TokenKind::CloseBracket, Self::index_item)?)
                }
                TokenKind::Dot => {
                    self.next();
                    let (outer, inner) = self.field()?;
                    if let Some(outer) = outer {
                        self.link(start)?;
                        expr = Expr { span: start.to(outer.span), kind: ExprKind::Field(Box::new(expr), outer) };
                    }
                    ExprKind::Field(Box::new(expr), inner)
                }
                _ => return Ok(expr),
            };
            expr = Expr { kind, span: self.since(start) };
            self.link(expr.span)?;
        }
    }

    /// What stands after a `.`: a member, and in `x.0.1`, whose `0.1` is one token, also a member of that.
    fn field(&mut self) -> Parsed<(Option<Ident>, Ident)> {
        let token = self.peek();
        if !matches!(token.kind, TokenKind::Int | TokenKind::Float) {
            return Ok((None, self.ident("or a number after `.`")?));
        }
        let (text, span) = (self.slice(token.span), token.span);
        let part = |text: &str, span| Ident { text: text.to_owned(), span };
        let is_index = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
        let found = match text.split_once('.') {
            None if is_index(text) => (None, part(text, span)),
            Some((outer, inner)) if is_index(outer) && is_index(inner) => {
                let point = span.start + outer.len() as u32;
                let outer = part(outer, Span { end: point, ..span });
                (Some(outer), part(inner, Span { start: point + 1, ..span }))
            }
            _ => return Err(self.unexpected("the number of an element, such as `x.0`")),
        };
        self.next();
        Ok(found)
    }

    /// Reports `1.`, `1.x` and `1 .5`.
    fn number_with_field(&mut self, number: &Expr) -> Skip {
        let point = self.next().span;
        let digits = if self.kind() == TokenKind::Int { self.slice(self.peek().span) } else { "0" };
        let mut diagnostic = Diagnostic::new(Code::E0105, number.span.to(point), "a number does not end in `.`");
        if matches!(number.kind, ExprKind::Int(_)) {
            diagnostic = diagnostic.help(format!("write `{}.{digits}`", self.slice(number.span)));
        }
        self.diagnostics.push(diagnostic);
        Skip
    }

    pub(super) fn argument(&mut self) -> Parsed<Arg> {
        let named = self.kind() == TokenKind::Word && self.peek_by(1).kind == TokenKind::Equal;
        let name = if named { Some(self.ident("of an argument")?) } else { None };
        if named {
            self.next();
        }
        Ok(Arg { name, value: self.expr()? })
    }

    fn index_item(&mut self) -> Parsed<IndexItem> {
        let token = self.peek();
        let closes = |kind| matches!(kind, TokenKind::Comma | TokenKind::CloseBracket);
        match token.kind {
            TokenKind::Colon => {
                self.next();
                Ok(IndexItem::All(token.span))
            }
            TokenKind::Ellipsis if closes(self.peek_by(1).kind) => {
                self.next();
                Ok(IndexItem::Rest(token.span))
            }
            TokenKind::DotDot => {
                self.next();
                let end = if closes(self.kind()) { None } else { Some(self.expr()?) };
                Ok(IndexItem::Range(None, end, self.since(token.span)))
            }
            TokenKind::Word if self.word() == "new" && closes(self.peek_by(1).kind) => {
                self.next();
                Ok(IndexItem::New(token.span))
            }
            _ => {
                let start = self.expr()?;
                if self.eat(TokenKind::DotDot).is_none() {
                    return Ok(IndexItem::At(start));
                }
                let end = if closes(self.kind()) { None } else { Some(self.expr()?) };
                Ok(IndexItem::Range(Some(start), end, self.since(token.span)))
            }
        }
    }

    /// `a..b`, or an expression.
    pub(super) fn range_or_expr(&mut self) -> Parsed<Expr> {
        let start = self.expr()?;
        if self.eat(TokenKind::DotDot).is_none() {
            return Ok(start);
        }
        let end = self.expr()?;
        let span = start.span.to(end.span);
        Ok(Expr { kind: ExprKind::Range(Box::new(start), Box::new(end)), span })
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        let kind = match token.kind {
            TokenKind::Int => self.int(),
            TokenKind::Float => self.float(),
            TokenKind::Str => {
                self.next();
                ExprKind::Str(self.string(token.span))
            }
            TokenKind::OpenParen => self.parenthesised()?,
            TokenKind::OpenBracket => {
                self.next();
                ExprKind::List(self.list(TokenKind::CloseBracket, Self::list_item)?)
            }
            TokenKind::Word => return self.word_expr(),
            _ => return Err(self.unexpected("an expression")),
        };
        Ok(Expr { kind, span: self.since(token.span) })
    }

    fn list_item(&mut self) -> Parsed<Expr> {
        let start = self.peek().span;
        match self.eat(TokenKind::Ellipsis) {
            Some(_) => {
                let name = self.ident("after `...`")?;
                Ok(Expr { kind: ExprKind::Spread(name), span: self.since(start) })
            }
            None => self.range_or_expr(),
        }
    }

    fn word_expr(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        let kind = match self.word() {
            "true" => ExprKind::Bool(true),
            "false" => ExprKind::Bool(false),
            "scan" if self.begins_scan() => return self.scan(),
            "and" | "or" | "in" | "else" | "lambda" | "elif" => return Err(self.unexpected("an expression")),
            // A name is followed by an operator, not by what a condition begins with.
            "if" if matches!(self.peek_by(1).kind, TokenKind::Word | TokenKind::Int | TokenKind::Float) => {
                return Err(self.unexpected("an expression"));
            }
            word => ExprKind::Name(word.to_owned()),
        };
        self.next();
        Ok(Expr { kind, span: token.span })
    }

    fn parenthesised(&mut self) -> Parsed<ExprKind> {
        self.next();
        if self.eat(TokenKind::CloseParen).is_some() {
            return Ok(ExprKind::Tuple(Vec::new()));
        }
        let first = self.expr()?;
        if self.eat(TokenKind::CloseParen).is_some() {
            return Ok(ExprKind::Paren(Box::new(first)));
        }
        self.expect(TokenKind::Comma, "or `)`")?;
        let mut items = vec![first];
        items.extend(self.list(TokenKind::CloseParen, Self::expr)?);
        Ok(ExprKind::Tuple(items))
    }

    /// Whether names and `in` follow.
    fn begins_scan(&self) -> bool {
        let mut at = 1;
        while self.peek_by(at).kind == TokenKind::Word && self.peek_by(at + 1).kind == TokenKind::Comma {
            at += 2;
        }
        self.peek_by(at).kind == TokenKind::Word && self.word_of(self.peek_by(at + 1)) == "in"
    }

    /// `a, b in x, y`: what is bound at each step, and what it walks.
    fn walks(&mut self) -> Parsed<Vec<(Ident, Expr)>> {
        let mut targets = vec![self.ident("for each step")?];
        while self.eat(TokenKind::Comma).is_some() {
            targets.push(self.ident("for each step")?);
        }
        self.next();
        let mut walks = Vec::new();
        for target in targets {
            if !walks.is_empty() {
                self.expect(TokenKind::Comma, "and what the next name walks")?;
            }
            walks.push((target, self.range_or_expr()?));
        }
        Ok(walks)
    }

    fn scan(&mut self) -> Parsed<Expr> {
        let start = self.next().span;
        let mut scan = Scan {
            walks: self.walks()?,
            axis: None,
            reverse: false,
            carries: Vec::new(),
            body: crate::syntax::ast::Block { stmts: Vec::new(), span: start },
        };
        loop {
            if let Some(word) = self.eat_word("axis") {
                self.once(word.span, scan.axis.is_some());
                scan.axis = Some(self.unary()?);
            } else if let Some(word) = self.eat_word("reverse") {
                self.once(word.span, scan.reverse);
                scan.reverse = true;
            } else if let Some(word) = self.eat_word("with") {
                self.once(word.span, !scan.carries.is_empty());
                scan.carries.extend(self.carries()?);
            } else {
                break;
            }
        }
        scan.body = self.block()?;
        Ok(Expr { kind: ExprKind::Scan(Box::new(scan)), span: self.since(start) })
    }

    /// Reports a word that is there already.
    fn once(&mut self, word: Span, is_there: bool) {
        if is_there {
            let message = format!("`{}` is there already", self.slice(word));
            self.error(Code::E0102, word, message);
        }
    }

    fn carries(&mut self) -> Parsed<Vec<(Ident, Expr)>> {
        let mut carries = Vec::new();
        loop {
            let name = self.ident("of what is carried")?;
            self.expect(TokenKind::Equal, "and its first value")?;
            carries.push((name, self.expr()?));
            if self.eat(TokenKind::Comma).is_none() {
                return Ok(carries);
            }
            self.skip_line_end();
        }
    }

    fn digits(&mut self) -> (String, Span) {
        let span = self.next().span;
        (self.slice(span).replace('_', ""), span)
    }

    fn int(&mut self) -> ExprKind {
        let (digits, span) = self.digits();
        if let Ok(number) = digits.parse() {
            return ExprKind::Int(number);
        }
        self.error(Code::E0105, span, "this integer is larger than 9223372036854775807");
        ExprKind::Error
    }

    fn float(&mut self) -> ExprKind {
        let (digits, span) = self.digits();
        match digits.parse::<f64>() {
            Ok(number) if number.is_finite() => ExprKind::Float(number),
            _ => {
                self.error(Code::E0105, span, "this number is larger than any float");
                ExprKind::Error
            }
        }
    }

    /// The text of a string token, with its escapes resolved.
    pub(super) fn string(&mut self, span: Span) -> String {
        let quoted = self.text.get(span.start as usize + 1..(span.end as usize).saturating_sub(1)).unwrap_or("");
        let mut text = String::with_capacity(quoted.len());
        let mut letters = quoted.chars();
        while let Some(letter) = letters.next() {
            if letter != '\\' {
                text.push(letter);
                continue;
            }
            match letters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('"') => text.push('"'),
                Some('\\') => text.push('\\'),
                other => {
                    let shown = other.map_or(String::new(), String::from);
                    let known = "known escapes are `\\n`, `\\t`, `\\\"` and `\\\\`";
                    let message = format!("`\\{shown}` is no escape");
                    self.diagnostics.push(Diagnostic::new(Code::E0104, span, message).help(known));
                }
            }
        }
        text
    }
}
