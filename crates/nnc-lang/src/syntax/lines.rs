//! Where statements end, and which brackets pair.
//!
//! A line end counts unless it stands inside `(` or `[`, or the next line continues the expression: it starts with `|>`
//! or a binary operator. A `;` always ends a statement. A bracket that is never closed would swallow the rest of the
//! file, so it is closed, and reported, at a `}` that does not fit, or at a line that begins an item.
//!
//! Entry: all tokens. Exit: no comment, no line end that does not count, no doc comment inside brackets; every closing
//! bracket has its opening one.

use super::lexer::{Token, TokenKind};
use crate::diagnostic::{Code, Diagnostic};

/// How many brackets that the end of the file closes are reported: the outermost ones.
const UNCLOSED: usize = 3;

/// The tokens that the parser sees.
pub fn statements(tokens: Vec<Token>, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Vec<Token> {
    let mut open: Vec<Token> = Vec::new();
    let mut kept: Vec<Token> = Vec::with_capacity(tokens.len());
    for (at, &token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Comment => {}
            TokenKind::LineEnd | TokenKind::Doc if inside_brackets(&open) && !begins_item(&tokens[at + 1..], text) => {}
            TokenKind::LineEnd if continues(&tokens[at + 1..], text) => {}
            TokenKind::LineEnd | TokenKind::Doc => {
                close_brackets(&mut open, &mut kept, token, diagnostics);
                kept.push(token);
            }
            TokenKind::OpenParen | TokenKind::OpenBracket | TokenKind::OpenBrace => {
                open.push(token);
                kept.push(token);
            }
            TokenKind::CloseParen | TokenKind::CloseBracket | TokenKind::CloseBrace => {
                close(&mut open, &mut kept, token, diagnostics);
            }
            TokenKind::End => {
                diagnostics.extend(open.iter().take(UNCLOSED).map(|&opening| unclosed(opening)));
                while let Some(opening) = open.pop() {
                    kept.push(Token { kind: partner(opening.kind), span: token.span });
                }
                kept.push(token);
            }
            _ => kept.push(token),
        }
    }
    kept
}

fn inside_brackets(open: &[Token]) -> bool {
    open.last().is_some_and(|token| token.kind != TokenKind::OpenBrace)
}

/// Closes `(` and `[` that are still open at a line that begins an item.
fn close_brackets(open: &mut Vec<Token>, kept: &mut Vec<Token>, at: Token, diagnostics: &mut Vec<Diagnostic>) {
    while inside_brackets(open) {
        if let Some(opening) = open.pop() {
            diagnostics.push(unclosed(opening));
            kept.push(Token { kind: partner(opening.kind), span: at.span });
        }
    }
}

fn close(open: &mut Vec<Token>, kept: &mut Vec<Token>, closing: Token, diagnostics: &mut Vec<Diagnostic>) {
    let partnered = open.iter().rposition(|opening| partner(opening.kind) == closing.kind);
    let Some(at) = partnered else {
        let message = format!("this {} closes nothing", closing.kind.describe());
        diagnostics.push(Diagnostic::new(Code::E0103, closing.span, message));
        return;
    };
    // A `)` never closes a brace that was opened after its `(`: then it is the `)` that is wrong.
    if closing.kind != TokenKind::CloseBrace && open[at..].iter().any(|token| token.kind == TokenKind::OpenBrace) {
        let message = format!("this {} closes nothing", closing.kind.describe());
        diagnostics.push(Diagnostic::new(Code::E0103, closing.span, message));
        return;
    }
    while open.len() > at + 1 {
        if let Some(opening) = open.pop() {
            diagnostics.push(unclosed(opening));
            kept.push(Token { kind: partner(opening.kind), span: closing.span });
        }
    }
    open.pop();
    kept.push(closing);
}

fn unclosed(opening: Token) -> Diagnostic {
    let wanted = partner(opening.kind).describe();
    let message = format!("this {} is never closed", opening.kind.describe());
    Diagnostic::new(Code::E0103, opening.span, message).help(format!("close it with {wanted}"))
}

fn partner(opening: TokenKind) -> TokenKind {
    match opening {
        TokenKind::OpenParen => TokenKind::CloseParen,
        TokenKind::OpenBracket => TokenKind::CloseBracket,
        _ => TokenKind::CloseBrace,
    }
}

fn word<'t>(token: Token, text: &'t str) -> &'t str {
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

/// Whether the next line that is not empty continues the expression before it.
fn continues(rest: &[Token], text: &str) -> bool {
    let next = rest.iter().find(|token| !matches!(token.kind, TokenKind::LineEnd | TokenKind::Comment));
    let Some(&next) = next else { return false };
    match next.kind {
        TokenKind::Pipe | TokenKind::Plus | TokenKind::Minus | TokenKind::Star | TokenKind::Slash => true,
        TokenKind::Percent | TokenKind::At | TokenKind::Power | TokenKind::EqualEqual | TokenKind::NotEqual => true,
        TokenKind::Less | TokenKind::LessEqual | TokenKind::Greater | TokenKind::GreaterEqual => true,
        TokenKind::Word => matches!(word(next, text), "and" | "or"),
        _ => false,
    }
}
