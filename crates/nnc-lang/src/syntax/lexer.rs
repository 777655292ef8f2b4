//! Text to tokens.
//!
//! Words are all [`TokenKind::Word`]: whether `state` is a keyword depends on where it stands, which the parser knows.

use crate::diagnostic::{Code, Diagnostic, FileId, Span};
use logos::Logos;

/// What a token is.
#[derive(Logos, Clone, Copy, PartialEq, Eq, Debug)]
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
            Self::Str => "a string",
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

/// Texts end below this, so that places fit into 32 bits.
const LARGEST: usize = 1 << 28;

/// Every token of a text, comments and line ends included, closed by [`TokenKind::End`].
pub fn tokens(file: FileId, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Vec<Token> {
    let span = |range: std::ops::Range<usize>| Span { file, start: range.start as u32, end: range.end as u32 };
    if text.len() > LARGEST {
        diagnostics.push(Diagnostic::new(Code::E0101, span(0..0), "the file is too large to be a program"));
        return vec![Token { kind: TokenKind::End, span: span(0..0) }];
    }
    let mut found = Vec::new();
    let mut wrong: Option<Span> = None;
    for (kind, range) in TokenKind::lexer(text).spanned() {
        let place = span(range);
        match kind {
            Ok(kind) => found.push(Token { kind, span: place }),
            Err(()) => match &mut wrong {
                Some(before) if before.end == place.start => before.end = place.end,
                _ => diagnostics.extend(wrong.replace(place).map(|place| unknown(place, text))),
            },
        }
    }
    diagnostics.extend(wrong.map(|place| unknown(place, text)));
    found.push(Token { kind: TokenKind::End, span: span(text.len()..text.len()) });
    found
}

fn unknown(place: Span, text: &str) -> Diagnostic {
    let found = text.get(place.start as usize..place.end as usize).unwrap_or("");
    let shown: String = found.chars().take(12).collect();
    let plain = Diagnostic::new(Code::E0101, place, format!("`{}` begins no token", shown.escape_debug()));
    match found.chars().next() {
        Some('"') => Diagnostic::new(Code::E0104, place, "this string is not closed").help("close it with `\"`"),
        Some('\u{201c}' | '\u{201d}' | '\'' | '\u{2018}' | '\u{2019}') => {
            plain.help("strings stand between `\"` and `\"`")
        }
        Some('&') => plain.help("write `and`"),
        Some('|') => plain.help("write `or`, or `|>` for a pipe"),
        Some('!') => plain.help("write `not`"),
        Some('\u{2212}' | '\u{2013}') => plain.help("write `-`, the minus of the keyboard"),
        _ => plain,
    }
}
