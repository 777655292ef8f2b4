//! Tokens to tree: recursive descent, with precedence climbing for expressions.
//!
//! Parsing never fails. A statement that cannot be read is reported once and skipped to its end; an item that cannot be
//! read is skipped to the next line that begins one. Nesting past [`DEPTH`] levels is an error, and so is a tree that
//! chains of operators make higher than [`HEIGHT`], whose left operands nest without brackets: neither the parser nor
//! anything that walks the tree can overflow its stack.

mod expressions;
mod items;
mod statements;
mod types;

use super::ast::{Ident, Module};
use super::lexer::{Token, TokenKind};
use crate::diagnostic::{Code, Diagnostic, FileId, Span};

/// How deep brackets, blocks and operators may nest.
pub const DEPTH: usize = 256;
/// How high chains of operators, calls and indexings may make the tree of an expression; what nests adds its levels.
pub const HEIGHT: usize = 1000;

/// Parses the tokens of a file.
pub fn module(file: FileId, text: &str, tokens: &[Token], diagnostics: &mut Vec<Diagnostic>) -> Module {
    let mut parser = Parser { file, text, tokens, at: 0, depth: 0, height: 0, weight_files: Vec::new(), diagnostics };
    parser.module()
}

/// A mistake was found and reported; the caller skips to where it can go on.
struct Skip;

type Parsed<T> = Result<T, Skip>;

struct Parser<'t, 'd> {
    file: FileId,
    text: &'t str,
    tokens: &'t [Token],
    at: usize,
    depth: usize,
    /// The height of the highest tree that was made since [`Parser::aside`] last began.
    height: usize,
    /// For [`Module::weight_files`].
    weight_files: Vec<String>,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl<'t> Parser<'t, '_> {
    fn peek(&self) -> Token {
        self.peek_by(0)
    }

    /// The token `by` places ahead; past the end it is [`TokenKind::End`].
    fn peek_by(&self, by: usize) -> Token {
        let last = Token { kind: TokenKind::End, span: Span { file: self.file, start: 0, end: 0 } };
        self.tokens.get(self.at + by).or(self.tokens.last()).copied().unwrap_or(last)
    }

    fn kind(&self) -> TokenKind {
        self.peek().kind
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        if token.kind != TokenKind::End {
            self.at += 1;
        }
        token
    }

    /// The text of a span.
    fn slice(&self, span: Span) -> &'t str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    fn word_of(&self, token: Token) -> &'t str {
        if token.kind != TokenKind::Word {
            return "";
        }
        self.slice(token.span)
    }

    /// The word here, or `""`.
    fn word(&self) -> &'t str {
        self.word_of(self.peek())
    }

    fn eat(&mut self, kind: TokenKind) -> Option<Token> {
        (self.kind() == kind).then(|| self.next())
    }

    fn eat_word(&mut self, word: &str) -> Option<Token> {
        (self.word() == word).then(|| self.next())
    }

    /// Takes a token of that kind, or reports what was expected.
    fn expect(&mut self, kind: TokenKind, context: &str) -> Parsed<Token> {
        if self.kind() == kind {
            return Ok(self.next());
        }
        Err(self.unexpected(&format!("{} {context}", kind.describe())))
    }

    fn ident(&mut self, context: &str) -> Parsed<Ident> {
        if self.kind() != TokenKind::Word {
            return Err(self.unexpected(&format!("a name {context}")));
        }
        let token = self.next();
        Ok(Ident { text: self.word_of(token).to_owned(), span: token.span })
    }

    /// Reports that something else was expected here.
    fn unexpected(&mut self, expected: &str) -> Skip {
        let token = self.peek();
        if token.kind == TokenKind::Wrong {
            return Skip;
        }
        let found = match token.kind {
            TokenKind::Word => format!("`{}`", self.word_of(token)),
            kind => kind.describe().to_owned(),
        };
        let message = format!("expected {}, found {found}", expected.trim());
        let mut diagnostic = Diagnostic::new(Code::E0102, self.place(token), message);
        diagnostic.help = self.likely_fix(expected);
        self.diagnostics.push(diagnostic);
        Skip
    }

    /// Where a token is shown: the end of the file just after the last token.
    fn place(&self, token: Token) -> Span {
        let last = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        match (token.kind, last) {
            (TokenKind::End, Some(last)) => Span { start: last.span.end, ..last.span },
            _ => token.span,
        }
    }

    /// A fix for what people write from habit, where something else was expected.
    fn likely_fix(&self, expected: &str) -> Option<String> {
        let (token, next) = (self.peek(), self.peek_by(1));
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map(|token| token.kind);
        let ends_expression = expected.contains("operator");
        let fix = match (token.kind, next.kind) {
            (TokenKind::Dot, TokenKind::Int) => return Some(format!("write `0.{}`", self.slice(next.span))),
            (TokenKind::Equal, _) if ends_expression || expected.starts_with("`{`") => "compare with `==`",
            (TokenKind::Equal, _) if before.is_some_and(is_arithmetic) => "write `x = x + 1`: there is no `+=`",
            (TokenKind::Slash, _) if before == Some(TokenKind::Slash) => "`/` between integers rounds down",
            (TokenKind::Plus, _) => "leave the `+` out",
            (TokenKind::Colon, _) if expected.contains("body") => "the type of the result stands after `->`",
            (TokenKind::Colon, _) if expected.contains('{') => "a block stands between `{` and `}`",
            (TokenKind::Colon, _) if expected.contains(']') && before == Some(TokenKind::Colon) => {
                "an index has no step: `take(x, 2 * iota(4), axis=1)` is four entries, each second one"
            }
            (TokenKind::Colon, _) if expected.contains(']') => "a range is written `1..2`",
            (TokenKind::OpenBrace, _) if expected.contains("expression") => "a list stands between `[` and `]`",
            (TokenKind::Word, _) => return self.likely_fix_of_word(ends_expression),
            _ => return None,
        };
        Some(fix.to_owned())
    }

    fn likely_fix_of_word(&self, ends_expression: bool) -> Option<String> {
        let fix = match self.word() {
            "def" | "func" | "function" => "a function begins with `fn`, a model with `model`",
            "class" => "a model begins with `model`",
            "import" | "from" => "write `use \"file.nn\"`",
            "lambda" => "declare a function with `fn` and give its name",
            "while" => "loops have a known number of turns: write `for i in 0..3`, or `scan i in 0..3 with ...`",
            "elif" => "write `else if`",
            "let" | "var" | "const" => "write `name = value` alone",
            "if" if !ends_expression => {
                "`if` is no expression: write `if a { y = 1 } else { y = 2 }`, or of tensors `where(condition, a, b)`"
            }
            "if" if ends_expression => "there is no conditional expression: write `if` and `else` with blocks",
            _ => return None,
        };
        Some(fix.to_owned())
    }

    fn error(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::new(code, span, message));
    }

    /// Runs `parse` one level deeper; past [`DEPTH`] it reports and skips.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEPTH {
            let span = self.peek().span;
            self.error(Code::E0106, span, format!("this nests deeper than {DEPTH} levels"));
            return Err(Skip);
        }
        self.depth += 1;
        let result = self.aside(|parser| {
            let result = parse(parser);
            parser.height += 1;
            result
        });
        self.depth -= 1;
        result
    }

    /// Runs `parse` for a tree of its own, beside those made before: the higher one counts.
    fn aside<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let beside = std::mem::take(&mut self.height);
        let result = parse(self);
        self.height = self.height.max(beside);
        result
    }

    /// Notes that what was made becomes a part of one more node of a chain that began at `span`.
    fn link(&mut self, span: Span) -> Parsed<()> {
        self.height += 1;
        if self.height <= HEIGHT {
            return Ok(());
        }
        self.error(Code::E0106, span, format!("this expression is more than {HEIGHT} operators deep"));
        Err(Skip)
    }

    /// Skips line ends and semicolons.
    fn skip_line_ends(&mut self) {
        while matches!(self.kind(), TokenKind::LineEnd | TokenKind::Semicolon) {
            self.next();
        }
    }

    /// Goes on behind the line end after an operator or `=`, unless a statement begins there: then something is missing
    /// before the line end.
    fn skip_line_end(&mut self) {
        let binds = matches!(self.peek_by(2).kind, TokenKind::Equal | TokenKind::Update);
        let ends = matches!(self.peek_by(1).kind, TokenKind::CloseBrace | TokenKind::End);
        if self.kind() == TokenKind::LineEnd && !ends && !binds {
            self.next();
        }
    }

    /// After a mistake between a keyword and its block: goes on with the block, when it begins on this line.
    fn recover_at_block<T>(&mut self, parsed: Parsed<T>, replacement: T) -> Parsed<T> {
        let Err(Skip) = parsed else { return parsed };
        let mut by = 0;
        loop {
            match self.peek_by(by).kind {
                TokenKind::OpenBrace => {
                    self.at += by;
                    return Ok(replacement);
                }
                TokenKind::LineEnd | TokenKind::Semicolon | TokenKind::CloseBrace | TokenKind::End => return Err(Skip),
                _ => by += 1,
            }
        }
    }

    /// Skips to the end of the statement: past brackets and braces opened on the way, up to a line end, a `;`, or the
    /// `}` that closes the block.
    fn skip_statement(&mut self) {
        let mut open = 0usize;
        loop {
            match self.kind() {
                TokenKind::End => return,
                TokenKind::LineEnd | TokenKind::Semicolon if open == 0 => return,
                TokenKind::OpenParen | TokenKind::OpenBracket | TokenKind::OpenBrace => open += 1,
                TokenKind::CloseBrace if open == 0 => return,
                TokenKind::CloseParen | TokenKind::CloseBracket | TokenKind::CloseBrace => {
                    open = open.saturating_sub(1)
                }
                _ => {}
            }
            self.next();
        }
    }

    /// The `##` lines here, joined.
    fn doc(&mut self) -> String {
        let mut lines: Vec<&str> = Vec::new();
        loop {
            match self.kind() {
                TokenKind::Doc => {
                    let span = self.next().span;
                    let line = self.slice(span);
                    lines.push(line.trim_start_matches('#').trim());
                }
                TokenKind::LineEnd | TokenKind::Semicolon => {
                    self.next();
                }
                _ => return lines.join("\n"),
            }
        }
    }

    /// The span from `start` to the token before this one.
    fn since(&self, start: Span) -> Span {
        let end = self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(start, |token| token.span);
        start.to(end)
    }

    /// Parses `item` between here and `close`, separated by commas; a comma after the last is fine.
    fn list<T>(&mut self, close: TokenKind, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while self.kind() != close {
            items.push(item(self)?);
            if self.eat(TokenKind::Comma).is_none() && self.kind() != close {
                return Err(self.unexpected(&format!("`,` or {}", close.describe())));
            }
        }
        self.next();
        Ok(items)
    }
}

fn is_arithmetic(kind: TokenKind) -> bool {
    use TokenKind::{At, Minus, Percent, Plus, Power, Slash, Star};
    matches!(kind, At | Minus | Percent | Plus | Power | Slash | Star)
}
