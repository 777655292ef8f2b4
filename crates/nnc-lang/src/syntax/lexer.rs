//! Text to tokens.
//!
//! Words are all [`TokenKind::Word`]: whether `state` is a keyword depends on where it stands, which the parser knows.

use crate::diagnostic::{Code, Diagnostic, FileId, Span};
use logos::Logos;

/// What a token is.
#[derive(Logos, Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the attributes say how each is written")]
#[logos(skip r"[ \t\r\u{feff}]+")]
pub enum TokenKind {
    #[token("\n")]
    LineEnd,
    #[token(";")]
    Semicolon,
    #[regex(r"##[^\n]*", allow_greedy = true)]
    Doc,
    #[regex(r"#[^#\n][^\n]*|#", allow_greedy = true)]
    Comment,
    #[regex(r"[A-Za-z_][A-Za-z0-9_]*")]
    Word,
    #[regex(r"[0-9][0-9_]*")]
    Int,
    #[regex(r"[0-9][0-9_]*\.[0-9][0-9_]*([eE][+-]?[0-9]+)?|[0-9][0-9_]*[eE][+-]?[0-9]+")]
    Float,
    #[regex(r#""([^"\\\n]|\\[^\n])*""#)]
    Str,
    /// A string without its closing quote; ends with its line.
    #[regex(r#""([^"\\\n]|\\[^\n])*"#)]
    OpenStr,
    /// Text between quotes of another kind.
    #[regex(
        r"'[^'\n]*'|[\u{201c}\u{201d}\u{201e}\u{ab}][^\u{201c}\u{201d}\u{201e}\u{ab}\u{bb}\n]*[\u{201c}\u{201d}\u{bb}]"
    )]
    OtherQuotes,
    /// Text that begins no token; reported.
    Wrong,
    #[token("|>")]
    Pipe,
    #[token("<-")]
    Update,
    #[token("->")]
    Arrow,
    #[token("==")]
    EqualEqual,
    #[token("!=")]
    NotEqual,
    #[token("<=")]
    LessEqual,
    #[token(">=")]
    GreaterEqual,
    #[token("<")]
    Less,
    #[token(">")]
    Greater,
    #[token("=")]
    Equal,
    #[token("**")]
    Power,
    #[token("*")]
    Star,
    #[token("+")]
    Plus,
    #[token("-")]
    Minus,
    #[token("/")]
    Slash,
    #[token("%")]
    Percent,
    #[token("@")]
    At,
    #[token("...")]
    Ellipsis,
    #[token("..")]
    DotDot,
    #[token(".")]
    Dot,
    #[token(",")]
    Comma,
    #[token(":")]
    Colon,
    #[token("(")]
    OpenParen,
    #[token(")")]
    CloseParen,
    #[token("[")]
    OpenBracket,
    #[token("]")]
    CloseBracket,
    #[token("{")]
    OpenBrace,
    #[token("}")]
    CloseBrace,
    /// The end of the text; made by the parser's door, not by the text.
    End,
}

impl TokenKind {
    /// In words, for messages.
    pub fn describe(self) -> &'static str {
        match self {
            Self::LineEnd => "the end of the line",
            Self::Semicolon => "`;`",
            Self::Doc => "a doc comment",
            Self::Comment => "a comment",
            Self::Word => "a name",
            Self::Int | Self::Float => "a number",
            Self::Str | Self::OpenStr | Self::OtherQuotes => "a string",
            Self::Wrong => "text that begins no token",
            Self::Pipe => "`|>`",
            Self::Update => "`<-`",
            Self::Arrow => "`->`",
            Self::EqualEqual => "`==`",
            Self::NotEqual => "`!=`",
            Self::LessEqual => "`<=`",
            Self::GreaterEqual => "`>=`",
            Self::Less => "`<`",
            Self::Greater => "`>`",
            Self::Equal => "`=`",
            Self::Power => "`**`",
            Self::Star => "`*`",
            Self::Plus => "`+`",
            Self::Minus => "`-`",
            Self::Slash => "`/`",
            Self::Percent => "`%`",
            Self::At => "`@`",
            Self::Ellipsis => "`...`",
            Self::DotDot => "`..`",
            Self::Dot => "`.`",
            Self::Comma => "`,`",
            Self::Colon => "`:`",
            Self::OpenParen => "`(`",
            Self::CloseParen => "`)`",
            Self::OpenBracket => "`[`",
            Self::CloseBracket => "`]`",
            Self::OpenBrace => "`{`",
            Self::CloseBrace => "`}`",
            Self::End => "the end of the file",
        }
    }
}

/// A token with its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it stands.
    pub span: Span,
}

/// The most bytes of a text, so that places fit into 32 bits.
pub const LARGEST_TEXT: usize = 1 << 28;

/// Every token of a text, comments and line ends included, closed by [`TokenKind::End`]. What is reported here is
/// [`TokenKind::Wrong`], of which the parser says no more.
pub fn tokens(file: FileId, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Vec<Token> {
    let span = |range: std::ops::Range<usize>| Span { file, start: range.start as u32, end: range.end as u32 };
    if text.len() > LARGEST_TEXT {
        diagnostics.push(Diagnostic::new(Code::E0101, span(0..0), "the file is too large to be a program"));
        return vec![Token { kind: TokenKind::End, span: span(0..0) }];
    }
    let mut found = Vec::new();
    for (kind, range) in TokenKind::lexer(text).spanned() {
        let token = Token { kind: kind.unwrap_or(TokenKind::Wrong), span: span(range) };
        match found.last_mut() {
            Some(Token { kind: TokenKind::Wrong, span }) if kind.is_err() && span.end == token.span.start => {
                span.end = token.span.end;
            }
            _ => found.push(token),
        }
    }
    for token in &mut found {
        if let Some(diagnostic) = wrong(*token, text) {
            diagnostics.push(diagnostic);
            token.kind = TokenKind::Wrong;
        }
    }
    found.push(Token { kind: TokenKind::End, span: span(text.len()..text.len()) });
    found
}

/// What is wrong with a token by itself.
fn wrong(token: Token, text: &str) -> Option<Diagnostic> {
    let found = text.get(token.span.start as usize..token.span.end as usize).unwrap_or("");
    match token.kind {
        TokenKind::OpenStr => {
            let diagnostic = Diagnostic::new(Code::E0104, token.span, "this string is not closed");
            Some(diagnostic.help("close it with `\"` on the same line"))
        }
        TokenKind::OtherQuotes => {
            let diagnostic = Diagnostic::new(Code::E0104, token.span, "a string stands between `\"` and `\"`");
            let inside: String = found.chars().skip(1).take(found.chars().count().saturating_sub(2)).collect();
            Some(diagnostic.help(format!("write `\"{inside}\"`")))
        }
        TokenKind::Wrong => Some(begins_no_token(token.span, found)),
        _ => None,
    }
}

fn begins_no_token(span: Span, found: &str) -> Diagnostic {
    let shown: String = found.chars().take(12).flat_map(char::escape_debug).collect();
    let diagnostic = Diagnostic::new(Code::E0101, span, format!("`{}` begins no token", shown.replace("\\'", "'")));
    let help = match found.chars().next() {
        Some('\u{201c}' | '\u{201d}' | '\'' | '\u{2018}' | '\u{2019}') => "a string stands between `\"` and `\"`",
        Some('&') => "write `and`",
        Some('|') => "write `or`, or `|>` for a pipe",
        Some('!' | '~') => "write `not`",
        Some('^') => "a power is written `x ** 2`",
        Some('?') => "there is no conditional expression: write `if` and `else` with blocks",
        Some('\u{2212}' | '\u{2013}' | '\u{2014}') => "write `-`, the minus of the keyboard",
        Some('\u{d7}') => "write `*`",
        Some('\u{a0}' | '\u{2003}' | '\u{2009}' | '\u{202f}' | '\u{3000}') => "replace this space by a plain one",
        Some(letter) if letter.is_alphabetic() => {
            "names are made of the letters `a` to `z` and `A` to `Z`, digits and `_`"
        }
        _ => return diagnostic,
    };
    diagnostic.help(help)
}
