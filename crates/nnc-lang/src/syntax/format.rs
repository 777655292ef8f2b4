//! The formatter: the same tokens and comments with canonical spaces.
//!
//! The user's line breaks stay. Indentation is four spaces for each line that left a bracket open, and four for a line
//! that continues an expression; between two tokens is one space or none, by a fixed rule; at most one blank line
//! stays. Since the rules look at tokens only, formatting twice gives what formatting once gives, and the tree is the
//! same.

use super::lexer::{Token, TokenKind, tokens};
#[cfg(test)]
use super::lines;
use super::parse;
use crate::diagnostic::{Diagnostic, FileId, Severity};

/// Formats a file.
///
/// # Errors
/// Its syntax errors; then there is nothing to format.
pub fn format(source: &str) -> Result<String, Vec<Diagnostic>> {
    let file = FileId(0);
    let (_, diagnostics) = parse(file, source);
    if diagnostics.iter().any(|diagnostic| diagnostic.severity() == Severity::Error) {
        return Err(diagnostics);
    }
    let all = tokens(file, source, &mut Vec::new());
    let mut formatter = Formatter {
        text: source,
        out: String::new(),
        open: Vec::new(),
        blank: false,
        carried: false,
        opened: false,
        options: false,
    };
    for line in all.split(|token| matches!(token.kind, TokenKind::LineEnd)) {
        formatter.line(line);
    }
    Ok(formatter.out)
}

/// A bracket that is open.
struct Open {
    kind: TokenKind,
    /// Whether it is the first one that its line left open, which indents.
    indents: bool,
    /// Whether a `:` came since the last comma: then `=` gives a default, not a named argument.
    typed: bool,
}

struct Formatter<'t> {
    text: &'t str,
    out: String,
    open: Vec<Open>,
    /// Whether a blank line is due before the next line.
    blank: bool,
    /// Whether the line before ended in an operator or `=`.
    carried: bool,
    /// Whether the line before ended in `{`.
    opened: bool,
    /// Whether this is a `minimize` statement, whose options are written as arguments are.
    options: bool,
}

const INDENT: usize = 4;

impl Formatter<'_> {
    fn line(&mut self, line: &[Token]) {
        let line: Vec<Token> = line.iter().copied().filter(|token| token.kind != TokenKind::End).collect();
        let Some(&first) = line.first() else {
            self.blank = !self.out.is_empty();
            return;
        };
        let closes = is_close(first.kind);
        if self.blank && !closes && !self.opened {
            self.out.push('\n');
        }
        self.blank = false;
        let indent = self.indent(&line);
        self.out.extend(std::iter::repeat_n(' ', indent));
        // Brackets above the lowest depth of the line were opened in it, also in `} else {`.
        let mut lowest = self.open.len();
        let goes_on = self.options && matches!(self.word(first), "over" | "using");
        for (at, &token) in line.iter().enumerate() {
            if at == 0 || matches!(line[at - 1].kind, TokenKind::Semicolon | TokenKind::OpenBrace) {
                self.options = (at == 0 && goes_on) || self.minimizes(token, line.get(at + 1));
            }
            if at > 0 {
                let before = at.checked_sub(2).map(|at| line[at]);
                let space = self.space(before, line[at - 1], token);
                self.out.push_str(space);
            }
            self.put(token);
            lowest = lowest.min(self.open.len());
        }
        self.mark_indents(lowest);
        let last = line.iter().rev().find(|token| !is_comment(token.kind)).map(|token| token.kind);
        self.opened = last == Some(TokenKind::OpenBrace);
        self.carried = last.is_some_and(|kind| is_operator(kind) || kind == TokenKind::Equal);
        self.out.push('\n');
    }

    fn indent(&self, line: &[Token]) -> usize {
        let closing = line.iter().take_while(|token| is_close(token.kind)).count();
        let kept = &self.open[..self.open.len().saturating_sub(closing)];
        let levels = kept.iter().filter(|open| open.indents).count();
        let in_brackets = kept.last().is_some_and(|open| open.kind != TokenKind::OpenBrace);
        let continues = line.first().is_some_and(|token| self.continues(*token));
        let extra = usize::from((continues || self.carried) && !in_brackets);
        (levels + extra) * INDENT
    }

    /// Whether a statement that begins so minimises.
    fn minimizes(&self, first: Token, second: Option<&Token>) -> bool {
        let binds = |token: &Token| matches!(token.kind, TokenKind::Equal | TokenKind::Comma | TokenKind::Update);
        self.word(first) == "minimize" && !second.is_some_and(binds)
    }

    fn continues(&self, token: Token) -> bool {
        is_operator(token.kind) || matches!(self.word(token), "and" | "or")
    }

    /// Of the brackets that this line left open, the first one indents what follows.
    fn mark_indents(&mut self, already_open: usize) {
        let from = already_open.min(self.open.len());
        for (at, open) in self.open[from..].iter_mut().enumerate() {
            open.indents = at == 0;
        }
    }

    fn put(&mut self, token: Token) {
        match token.kind {
            TokenKind::OpenParen | TokenKind::OpenBracket | TokenKind::OpenBrace => {
                self.open.push(Open { kind: token.kind, indents: false, typed: false });
            }
            kind if is_close(kind) => {
                self.open.pop();
            }
            TokenKind::Colon | TokenKind::Comma => {
                let typed = token.kind == TokenKind::Colon;
                self.open.last_mut().into_iter().for_each(|open| open.typed = typed);
            }
            _ => {}
        }
        let text = self.slice(token).trim_end().to_owned();
        self.out.push_str(&text);
    }

    fn slice(&self, token: Token) -> &str {
        self.text.get(token.span.start as usize..token.span.end as usize).unwrap_or("")
    }

    fn word(&self, token: Token) -> &str {
        if token.kind == TokenKind::Word { self.slice(token) } else { "" }
    }

    /// What stands between two tokens of a line.
    fn space(&self, before: Option<Token>, left: Token, right: Token) -> &'static str {
        use TokenKind::{Arrow, CloseBrace, Colon, Comma, Dot, DotDot, Ellipsis, Equal, OpenBrace, Semicolon, Update};
        if is_comment(right.kind) {
            return "  ";
        }
        let spaced = match (left.kind, right.kind) {
            (OpenBrace, CloseBrace) => false,
            (OpenBrace, _) | (_, OpenBrace | CloseBrace | Arrow | Update) | (Arrow | Update, _) => true,
            (Comma | Semicolon, _) => true,
            (_, Comma | Semicolon | Colon | Dot | DotDot) | (Dot | DotDot | Ellipsis, _) => false,
            (TokenKind::OpenParen | TokenKind::OpenBracket, _) => false,
            (_, TokenKind::CloseParen | TokenKind::CloseBracket) => false,
            (Colon, _) => true,
            (Equal, _) | (_, Equal) => self.default_or_binding(),
            (TokenKind::Minus, _) if self.is_prefix(before) => false,
            (_, TokenKind::OpenParen | TokenKind::OpenBracket) => !self.is_called(left),
            _ => true,
        };
        if spaced { " " } else { "" }
    }

    /// Whether an `=` here binds or gives a default, and not a named argument.
    fn default_or_binding(&self) -> bool {
        let in_call = |open: &Open| open.kind == TokenKind::OpenParen && !open.typed;
        !self.open.last().is_some_and(|open| in_call(open) || (self.options && open.kind == TokenKind::OpenBrace))
    }

    /// Whether a `-` after this token has one operand.
    fn is_prefix(&self, before: Option<Token>) -> bool {
        let Some(before) = before else { return true };
        match before.kind {
            TokenKind::Word => is_keyword(self.word(before)),
            TokenKind::Int | TokenKind::Float | TokenKind::Str => false,
            TokenKind::CloseParen | TokenKind::CloseBracket => false,
            _ => true,
        }
    }

    /// Whether a bracket after this token calls or indexes it.
    fn is_called(&self, left: Token) -> bool {
        match left.kind {
            TokenKind::Word => !is_keyword(self.word(left)),
            TokenKind::CloseParen | TokenKind::CloseBracket | TokenKind::Str => true,
            _ => false,
        }
    }
}

/// Words after which a bracket or a minus begins an expression.
fn is_keyword(word: &str) -> bool {
    let words = ["return", "yield", "minimize", "if", "in", "and", "or", "not", "over", "using", "axis", "with", "on"];
    words.contains(&word)
}

fn is_comment(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::Comment | TokenKind::Doc)
}

fn is_close(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::CloseParen | TokenKind::CloseBracket | TokenKind::CloseBrace)
}

fn is_operator(kind: TokenKind) -> bool {
    use TokenKind::{At, Minus, Percent, Pipe, Plus, Power, Slash, Star};
    matches!(kind, At | Minus | Percent | Pipe | Plus | Power | Slash | Star)
        || matches!(kind, TokenKind::EqualEqual | TokenKind::NotEqual | TokenKind::Less | TokenKind::LessEqual)
        || matches!(kind, TokenKind::Greater | TokenKind::GreaterEqual)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens that the parser sees, without their places.
    fn meaning(text: &str) -> Vec<(TokenKind, String)> {
        let found = lines::statements(tokens(FileId(0), text, &mut Vec::new()), text, &mut Vec::new());
        let slice = |token: Token| text[token.span.start as usize..token.span.end as usize].trim().to_owned();
        let mut found: Vec<_> = found.into_iter().map(|token| (token.kind, slice(token))).collect();
        found.dedup_by(|a, b| a.0 == TokenKind::LineEnd && b.0 == TokenKind::LineEnd);
        found.retain(|(kind, _)| *kind != TokenKind::LineEnd);
        found
    }

    fn check(text: &str) -> String {
        let once = format(text).expect("no syntax errors");
        assert_eq!(format(&once).as_ref(), Ok(&once), "formatting again changes it");
        assert_eq!(meaning(text), meaning(&once), "the tokens are others");
        once
    }

    #[test]
    fn spaces_and_indentation_are_canonical() {
        let text = "\n\nmodel M( x:f32[ N,C ],units :int=3 )->f32[N , units]{ # note\n\n\n  y=x|>dense( units , bias = true )   # why\n      |> relu\n    if not(training){\nreturn -y**2+y [0,..3,:]\n  }\n\n\n\n return (y)\n}\n";
        let expected = "model M(x: f32[N, C], units: int = 3) -> f32[N, units] {  # note\n    y = x |> dense(units, bias=true)  # why\n        |> relu\n    if not (training) {\n        return -y ** 2 + y[0, ..3, :]\n    }\n\n    return (y)\n}\n";
        assert_eq!(check(text), expected);
    }

    #[test]
    fn options_of_minimize_are_written_as_arguments_are() {
        let text = "train M on d {\n  epochs=5; minimize loss over m.head  using adam(lr = 1), clip_norm = 1.0\n  over m using sgd(), accumulate=4\n  batch=3\n}\n";
        let expected = "train M on d {\n    epochs = 5; minimize loss over m.head using adam(lr=1), clip_norm=1.0\n    over m using sgd(), accumulate=4\n    batch = 3\n}\n";
        assert_eq!(check(text), expected);
    }

    #[test]
    fn every_file_of_the_corpus_and_the_library_keeps_its_meaning() {
        for folder in ["tests/corpus", "src/library", "../../dsl-examples"] {
            let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "nn") {
                    check(&std::fs::read_to_string(&path).unwrap());
                }
            }
        }
    }
}
