//! Where statements end, and which brackets pair.
//!
//! A line end counts unless it stands inside `(` or `[`, or the next line continues the expression: it starts with `|>`
//! or a binary operator. A `;` always ends a statement. A bracket that is never closed would swallow the rest of the
//! file, so it is closed, and reported: at a `}` that does not fit, at a line that begins an item, and, only where the
//! brackets of the file do not pair, at a line that begins a statement no further in than the line of the bracket.
//!
//! Entry: all tokens. Exit: no comment, no line end that does not count, no two line ends in a row, no doc comment
//! inside brackets; every bracket pairs. Takes time linear in the number of tokens.

use super::lexer::{Token, TokenKind};
use crate::diagnostic::{Code, Diagnostic};

/// How many brackets that the end of the file closes are reported: the outermost ones.
const UNCLOSED: usize = 3;
/// How many open brackets are searched for a partner: more than the parser lets nest, so what is not found is reported.
const SEARCHED: usize = 2 * super::parser::DEPTH;

/// The tokens that the parser sees.
pub fn statements(tokens: Vec<Token>, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Vec<Token> {
    let kept = Vec::with_capacity(tokens.len());
    let repairs = !pair(&tokens);
    let mut lines =
        Lines { text, diagnostics, open: Vec::new(), kept, indent: 0, line_start: 0, suspect: None, repairs };
    let following = following(&tokens);
    for (at, &token) in tokens.iter().enumerate() {
        lines.take(token, &tokens[at + 1..], following.get(at).and_then(|&next| tokens.get(next)).copied());
    }
    lines.kept
}

/// Whether every bracket has its partner.
fn pair(tokens: &[Token]) -> bool {
    let mut open = Vec::new();
    for token in tokens {
        if is_opening(token.kind) {
            open.push(partner(token.kind));
        } else if is_closing(token.kind) && open.pop() != Some(token.kind) {
            return false;
        }
    }
    open.is_empty()
}

/// For each place, that of the next token that is neither a line end nor a comment.
fn following(tokens: &[Token]) -> Vec<usize> {
    let mut next = tokens.len();
    let mut found = vec![next; tokens.len()];
    for (at, token) in tokens.iter().enumerate().rev() {
        found[at] = next;
        if !matches!(token.kind, TokenKind::LineEnd | TokenKind::Comment) {
            next = at;
        }
    }
    found
}

/// A bracket that is open.
#[derive(Clone, Copy)]
struct Opening {
    token: Token,
    /// How far in its line begins; of a bracket inside brackets, the line of the outermost of them.
    indent: usize,
}

struct Lines<'t, 'd> {
    text: &'t str,
    diagnostics: &'d mut Vec<Diagnostic>,
    open: Vec<Opening>,
    kept: Vec<Token>,
    /// How far in the line here begins, in bytes.
    indent: usize,
    /// Where the line here begins.
    line_start: usize,
    /// A `{` and its `}` whose lines begin differently far in: perhaps it is here that a brace is missing.
    suspect: Option<(Token, Token)>,
    /// Whether the brackets of the file do not pair.
    repairs: bool,
}

impl Lines<'_, '_> {
    fn take(&mut self, token: Token, rest: &[Token], next: Option<Token>) {
        let start = token.span.start as usize;
        if self.text.get(self.line_start..start).is_some_and(|before| before.trim().is_empty()) {
            self.indent = start - self.line_start;
        }
        match token.kind {
            TokenKind::Comment => {}
            TokenKind::LineEnd | TokenKind::Doc => self.end_line(token, rest, next),
            kind if is_opening(kind) => {
                let outer =
                    self.open.last().filter(|_| token.kind != TokenKind::OpenBrace && inside_brackets(&self.open));
                let indent = outer.map_or(self.indent, |outer| outer.indent);
                self.open.push(Opening { token, indent });
                self.kept.push(token);
            }
            kind if is_closing(kind) => self.close(token),
            TokenKind::End => self.end(token),
            _ => self.kept.push(token),
        }
    }

    fn end_line(&mut self, token: Token, rest: &[Token], next: Option<Token>) {
        if token.kind == TokenKind::LineEnd {
            self.line_start = token.span.end as usize;
        }
        if begins_item(rest, self.text) {
            self.close_at_item(token);
        } else if inside_brackets(&self.open) && !self.abandons(rest) {
            return;
        }
        let ends = token.kind == TokenKind::LineEnd;
        if ends && next.is_some_and(|next| continues(next, self.text)) {
            return;
        }
        self.close_brackets(token);
        if !ends || self.kept.last().is_none_or(|last| last.kind != TokenKind::LineEnd) {
            self.kept.push(token);
        }
    }

    /// Closes what is open before a line that begins an item, if the brackets do not pair; else only `(` and `[`.
    fn close_at_item(&mut self, at: Token) {
        self.close_brackets(at);
        if !self.repairs {
            return;
        }
        if let Some(&outermost) = self.open.first() {
            self.unclosed(outermost.token);
        }
        while let Some(opening) = self.open.pop() {
            self.kept.push(Token { kind: partner(opening.token.kind), span: at.span });
        }
    }

    /// Whether what follows begins a statement, so that the brackets here must have been left open.
    fn abandons(&self, rest: &[Token]) -> bool {
        let (Some(first), Some(second)) = (rest.first(), rest.get(1)) else { return false };
        let indent = first.span.start as usize - self.line_start;
        let outermost = self.open.last().map_or(0, |opening| opening.indent);
        let begins = match (word(*first, self.text), second.kind) {
            ("param" | "state" | "layer" | "metric" | "augment" | "answer" | "step", TokenKind::Word) => true,
            ("return" | "yield" | "minimize" | "if" | "for", TokenKind::Word) => true,
            (_, TokenKind::Equal | TokenKind::Update) => first.kind == TokenKind::Word,
            _ => false,
        };
        self.repairs && begins && indent <= outermost
    }

    /// Closes `(` and `[` that are still open at the end of a statement.
    fn close_brackets(&mut self, at: Token) {
        while inside_brackets(&self.open) {
            if let Some(opening) = self.open.pop() {
                self.unclosed(opening.token);
                self.kept.push(Token { kind: partner(opening.token.kind), span: at.span });
            }
        }
    }

    fn close(&mut self, closing: Token) {
        // A `)` never closes a brace that was opened after its `(`: then it is the `)` that is wrong.
        let may_close = |open: &&Opening| is_closing_brace(closing) || open.token.kind != TokenKind::OpenBrace;
        let mut inner = self.open.iter().rev().take(SEARCHED).take_while(may_close);
        let partnered = inner.position(|open| partner(open.token.kind) == closing.kind);
        let Some(at) = partnered.map(|back| self.open.len() - 1 - back) else {
            let message = format!("this {} closes nothing", closing.kind.describe());
            self.diagnostics.push(Diagnostic::new(Code::E0103, closing.span, message));
            return;
        };
        while self.open.len() > at + 1 {
            if let Some(opening) = self.open.pop() {
                self.unclosed(opening.token);
                self.kept.push(Token { kind: partner(opening.token.kind), span: closing.span });
            }
        }
        if let Some(opening) = self.open.pop() {
            self.compare_indents(opening, closing);
        }
        self.kept.push(closing);
    }

    fn compare_indents(&mut self, opening: Opening, closing: Token) {
        let begins_line = self.line_start + self.indent == closing.span.start as usize;
        if is_closing_brace(closing) && begins_line && opening.indent != self.indent {
            self.suspect.get_or_insert((opening.token, closing));
        }
    }

    fn end(&mut self, end: Token) {
        let unclosed: Vec<Token> = self.open.iter().take(UNCLOSED).map(|opening| opening.token).collect();
        unclosed.into_iter().for_each(|opening| self.unclosed(opening));
        while let Some(opening) = self.open.pop() {
            self.kept.push(Token { kind: partner(opening.token.kind), span: end.span });
        }
        self.kept.push(end);
    }

    fn unclosed(&mut self, opening: Token) {
        let wanted = partner(opening.kind).describe();
        let message = format!("this {} is never closed", opening.kind.describe());
        let mut diagnostic = Diagnostic::new(Code::E0103, opening.span, message);
        match self.suspect.take().filter(|_| opening.kind == TokenKind::OpenBrace) {
            Some((suspect, closing)) => {
                diagnostic = diagnostic.with(suspect.span, "perhaps it is this `{` that is not closed");
                diagnostic =
                    diagnostic.with(closing.span, "and this `}`, which stands elsewhere, was meant for another");
            }
            None => diagnostic = diagnostic.help(format!("close it with {wanted}")),
        }
        self.diagnostics.push(diagnostic);
    }
}

fn is_opening(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::OpenParen | TokenKind::OpenBracket | TokenKind::OpenBrace)
}

fn is_closing(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::CloseParen | TokenKind::CloseBracket | TokenKind::CloseBrace)
}

fn is_closing_brace(token: Token) -> bool {
    token.kind == TokenKind::CloseBrace
}

fn inside_brackets(open: &[Opening]) -> bool {
    open.last().is_some_and(|opening| opening.token.kind != TokenKind::OpenBrace)
}

fn partner(opening: TokenKind) -> TokenKind {
    match opening {
        TokenKind::OpenParen => TokenKind::CloseParen,
        TokenKind::OpenBracket => TokenKind::CloseBracket,
        _ => TokenKind::CloseBrace,
    }
}

fn word(token: Token, text: &str) -> &str {
    text.get(token.span.start as usize..token.span.end as usize).unwrap_or("")
}

/// Whether what follows begins an item at the start of its line.
fn begins_item(rest: &[Token], text: &str) -> bool {
    let mut significant = rest.iter().filter(|token| !matches!(token.kind, TokenKind::Comment | TokenKind::Doc));
    let (Some(&first), Some(&second)) = (significant.next(), significant.next()) else { return false };
    let starts_line = first.span.start == 0 || text.as_bytes().get(first.span.start as usize - 1) == Some(&b'\n');
    let item = match word(first, text) {
        "fn" | "model" | "optimizer" | "metric" | "data" | "train" => second.kind == TokenKind::Word,
        "use" => second.kind == TokenKind::Str,
        _ => false,
    };
    first.kind == TokenKind::Word && starts_line && item
}

/// Whether a line that begins with `next` continues the expression before it.
fn continues(next: Token, text: &str) -> bool {
    match next.kind {
        TokenKind::Pipe | TokenKind::Plus | TokenKind::Minus | TokenKind::Star | TokenKind::Slash => true,
        TokenKind::Percent | TokenKind::At | TokenKind::Power | TokenKind::EqualEqual | TokenKind::NotEqual => true,
        TokenKind::Less | TokenKind::LessEqual | TokenKind::Greater | TokenKind::GreaterEqual => true,
        TokenKind::Word => matches!(word(next, text), "and" | "or"),
        _ => false,
    }
}
