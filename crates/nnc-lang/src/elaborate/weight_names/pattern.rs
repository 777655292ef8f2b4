//! The two sides of a rule of `names = {"theirs": "ours"}`.
//!
//! ```text
//! theirs  = term { "+" term }          the sum of the tensors
//! term    = name [ "[" k "/" n "]" ] [ ".T" ]     part k of n along the first axis; axes in reverse order
//! ours    = { letters | capture } with "." between components, or "_" for what is left out, or "" for the layer itself
//! capture = "{" [ INT ] NAME [ ("+" | "-") INT ] "}"      numbers stand on their side alone: `{2i+1}`
//! ```
//! A capture of ours stands for letters, digits and underscores, as few as fit; theirs says them again. `*` in a name
//! that is left out stands for anything.

use std::collections::BTreeMap;
use std::fmt;

/// What captures stand for.
type Captured = BTreeMap<String, String>;

/// A piece of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Capture { name: String, times: i64, plus: i64 },
    Anything,
}

/// The tensors of a file that make one parameter: the sum of the terms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// At least one.
    pub terms: Vec<Term>,
}

/// A tensor of a file, or a part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Term {
    /// Its name in the file.
    pub name: String,
    /// Part `k` of `n` equal ones along the first axis, then.
    pub part: Option<(usize, usize)>,
    /// Whether its axes are then reversed.
    pub transposed: bool,
}

impl Source {
    /// The tensor of that name as it is.
    pub fn plain(name: &str) -> Self {
        Self { terms: vec![Term { name: name.to_owned(), part: None, transposed: false }] }
    }

    /// The same with a prefix to each name, and a dot between.
    #[must_use]
    pub(super) fn under(mut self, prefix: &str) -> Self {
        for term in self.terms.iter_mut().filter(|_| !prefix.is_empty()) {
            let dot = if term.name.is_empty() { "" } else { "." };
            term.name = format!("{prefix}{dot}{}", term.name);
        }
        self
    }

    /// The same with something behind each name, and a dot between.
    #[must_use]
    pub(super) fn with(mut self, rest: &str) -> Self {
        for term in self.terms.iter_mut().filter(|_| !rest.is_empty()) {
            let dot = if term.name.is_empty() { "" } else { "." };
            term.name = format!("{}{dot}{rest}", term.name);
        }
        self
    }

    /// Whether it is the tensor of that name as it is.
    pub fn is_plain(&self, name: &str) -> bool {
        matches!(&self.terms[..], [term] if term.name == name && term.part.is_none() && !term.transposed)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            let plus = if at > 0 { " + " } else { "" };
            write!(f, "{plus}{}", term.name)?;
            if let Some((part, parts)) = term.part {
                write!(f, "[{part}/{parts}]")?;
            }
            if term.transposed {
                f.write_str(".T")?;
            }
        }
        Ok(())
    }
}

/// Their side of a rule, with captures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Template {
    terms: Vec<TermTemplate>,
}

/// A [`Term`] with captures.
#[derive(Clone, PartialEq, Eq, Debug)]
struct TermTemplate {
    pieces: Vec<Piece>,
    part: Option<(usize, usize)>,
    transposed: bool,
}

impl Template {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let terms: Result<Vec<_>, String> = split_sum(text).into_iter().map(term).collect();
        Ok(Self { terms: terms? })
    }

    /// The tensors that are meant; `None` when a number is asked of letters, or is below 0.
    pub fn expand(&self, captured: &Captured) -> Option<Source> {
        let term = |term: &TermTemplate| {
            let name: Option<String> = term.pieces.iter().map(|piece| expand(piece, captured)).collect();
            Some(Term { name: name?, part: term.part, transposed: term.transposed })
        };
        Some(Source { terms: self.terms.iter().map(term).collect::<Option<_>>()? })
    }

    /// The captures that it uses.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        let pieces = self.terms.iter().flat_map(|term| &term.pieces);
        pieces.filter_map(|piece| if let Piece::Capture { name, .. } = piece { Some(name.as_str()) } else { None })
    }

    /// Whether it has more captures and `*` than are looked for in a name.
    pub fn is_too_free(&self) -> bool {
        self.terms.iter().any(|term| is_too_free(&term.pieces))
    }

    /// Whether it has `*`, which only what is left out may have.
    pub fn has_anything(&self) -> bool {
        self.terms.iter().any(|term| term.pieces.contains(&Piece::Anything))
    }

    /// Whether a tensor's name, or a beginning of it that ends at a dot, is what the template says.
    pub fn covers(&self, name: &str) -> bool {
        let whole = |pieces: &[Piece]| {
            let mut ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
            ends.any(|end| matches(pieces, &name[..end], &mut Captured::new(), true))
        };
        self.terms.iter().any(|term| whole(&term.pieces))
    }
}

/// So many captures and `*` may stand in what a name is compared with: more would take long, and are a mistake.
const MOST_FREE: usize = 3;

/// What is said of more.
pub(super) const TOO_FREE: &str = "there are more than 3 captures and `*` in this name";

fn is_too_free(pieces: &[Piece]) -> bool {
    pieces.iter().filter(|piece| !matches!(piece, Piece::Text(_))).count() > MOST_FREE
}

/// Splits at `+` outside of braces.
fn split_sum(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0usize);
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '+' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).collect()
}

fn term(text: &str) -> Result<TermTemplate, String> {
    let (text, transposed) = text.strip_suffix(".T").map_or((text, false), |text| (text, true));
    let (text, part) = match text.strip_suffix(']').and_then(|inner| inner.rsplit_once('[')) {
        Some((before, inside)) if inside.contains('/') => (before, Some(part_of(inside)?)),
        Some(_) | None => (text, None),
    };
    Ok(TermTemplate { pieces: pieces(text)?, part, transposed })
}

/// `k/n`.
fn part_of(text: &str) -> Result<(usize, usize), String> {
    let wrong = || format!("`[{text}]` is no part: write `[0/3]` for the first of three along the first axis");
    let (part, parts) = text.split_once('/').ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
    let (part, parts) = (number(part)?, number(parts)?);
    if part < parts { Ok((part, parts)) } else { Err(wrong()) }
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}', '*']) {
        if at > 0 {
            pieces.push(Piece::Text(rest[..at].to_owned()));
        }
        rest = match rest.as_bytes()[at] {
            b'*' => {
                pieces.push(Piece::Anything);
                &rest[at + 1..]
            }
            b'{' => {
                let end = rest.find('}').ok_or("`{` is never closed")?;
                pieces.push(capture(rest.get(at + 1..end).unwrap_or(""))?);
                &rest[end + 1..]
            }
            _ => return Err("`}` closes nothing".to_owned()),
        };
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// What stands between braces: `i` or `i+1`.
fn capture(text: &str) -> Result<Piece, String> {
    let wrong = || format!("`{{{text}}}` is no capture: write a name, as in `{{i}}`, or `{{i+1}}`");
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let (times, text) = text.split_at(digits);
    let times = if times.is_empty() { 1 } else { times.parse::<i64>().map_err(|_| wrong())? };
    let (name, plus) = match text.find(['+', '-']) {
        Some(at) => (&text[..at], text[at..].parse::<i64>().map_err(|_| wrong())?),
        None => (text, 0),
    };
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.chars().all(is_word);
    if is_name { Ok(Piece::Capture { name: name.to_owned(), times, plus }) } else { Err(wrong()) }
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn expand(piece: &Piece, captured: &Captured) -> Option<String> {
    match piece {
        Piece::Text(text) => Some(text.clone()),
        Piece::Capture { name, times: 1, plus: 0 } => captured.get(name).cloned(),
        Piece::Capture { name, times, plus } => {
            let number = captured.get(name)?.parse::<i64>().ok()?.checked_mul(*times)?.checked_add(*plus)?;
            (number >= 0).then(|| number.to_string())
        }
        Piece::Anything => None,
    }
}

/// Our side of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pattern {
    components: Vec<Vec<Piece>>,
}

impl Pattern {
    /// Reads it; `""` has no components.
    pub fn parse(text: &str) -> Result<Self, String> {
        let components = text.split('.').filter(|_| !text.is_empty()).map(|component| {
            let pieces = pieces(component)?;
            let wrong = |piece: &Piece| !matches!(piece, Piece::Text(_) | Piece::Capture { times: 1, plus: 0, .. });
            match pieces.iter().any(wrong) {
                true => Err("`*` and arithmetic stand on their side alone".to_owned()),
                false if is_too_free(&pieces) => Err(TOO_FREE.to_owned()),
                false if pieces.is_empty() => Err("a name is empty between two dots".to_owned()),
                false => Ok(pieces),
            }
        });
        Ok(Self { components: components.collect::<Result<_, _>>()? })
    }

    /// How many components it has.
    pub fn len(&self) -> usize {
        self.components.len()
    }

    /// The captures that it binds.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        let pieces = self.components.iter().flatten();
        pieces.filter_map(|piece| if let Piece::Capture { name, .. } = piece { Some(name.as_str()) } else { None })
    }

    /// What the captures stand for, when the first components of a path are the pattern's.
    pub fn matches(&self, path: &[&str]) -> Option<Captured> {
        let mut captured = Captured::new();
        let fits = self.len() <= path.len()
            && self.components.iter().zip(path).all(|(pieces, text)| matches(pieces, text, &mut captured, false));
        fits.then_some(captured)
    }
}

/// Whether pieces are a text, with captures as short as possible; `free` ones need not agree.
fn matches(pieces: &[Piece], text: &str, captured: &mut Captured, free: bool) -> bool {
    let Some((piece, rest)) = pieces.split_first() else { return text.is_empty() };
    match piece {
        Piece::Text(own) => text.strip_prefix(own.as_str()).is_some_and(|text| matches(rest, text, captured, free)),
        Piece::Anything => {
            let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.any(|end| matches(rest, &text[end..], captured, free))
        }
        Piece::Capture { name, .. } => {
            let words = text.char_indices().take_while(|(_, letter)| is_word(*letter));
            let ends: Vec<usize> = words.map(|(at, letter)| at + letter.len_utf8()).collect();
            ends.into_iter().any(|end| {
                let before = captured.get(name).cloned();
                if !free && before.as_ref().is_some_and(|known| *known != text[..end]) {
                    return false;
                }
                captured.insert(name.clone(), text[..end].to_owned());
                let fits = matches(rest, &text[end..], captured, free);
                if let (false, Some(before)) = (fits, before) {
                    captured.insert(name.clone(), before);
                } else if !fits {
                    captured.remove(name);
                }
                fits
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Template};

    fn translated(theirs: &str, ours: &str, path: &str) -> Option<String> {
        let components: Vec<&str> = path.split('.').collect();
        let captured = Pattern::parse(ours).unwrap().matches(&components)?;
        Some(Template::parse(theirs).unwrap().expand(&captured)?.to_string())
    }

    #[test]
    fn captures_and_numbers() {
        let found = translated(
            "layer{s+1}.{b}",
            "block[{s}].block[{b}].residual_block_1",
            "block[0].block[1].residual_block_1.w",
        );
        assert_eq!(found.as_deref(), Some("layer1.1"));
        assert_eq!(translated("{a}.x{a+1}", "n{a}", "nine"), None, "`ine` is no number");
        assert_eq!(translated("{a}", "n{a}", "nine").as_deref(), Some("ine"));
        assert_eq!(translated("{2a+5}", "n{a}", "n3").as_deref(), Some("11"));
        assert_eq!(translated("{a-1}", "n{a}", "n0"), None, "no name has a negative number");
        assert_eq!(translated("{a}", "{a}.{a}", "x.y"), None, "one capture is one text");
        assert_eq!(translated("{a}:{b}", "{a}_{b}", "x_y_z").as_deref(), Some("x:y_z"));
    }

    #[test]
    fn sums_parts_and_transposes() {
        let text = "bias_ih_l{i} + in_proj[0/3].T + block[0].w";
        assert_eq!(translated(text, "l{i}.b", "l2.b").as_deref(), Some("bias_ih_l2 + in_proj[0/3].T + block[0].w"));
    }

    #[test]
    fn what_is_left_out() {
        let covers = |pattern: &str, name: &str| Template::parse(pattern).unwrap().covers(name);
        assert!(covers("fc", "fc") && covers("fc", "fc.weight") && !covers("fc", "fc2.weight"));
        assert!(covers("*.num_batches_tracked", "layer1.0.bn1.num_batches_tracked"));
        assert!(covers("aux{i}", "aux1.conv.weight") && !covers("aux{i}", "aux"));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let wrong = |text: &str| Template::parse(text).unwrap_err();
        assert!(wrong("a{").contains("never closed") && wrong("a}").contains("closes nothing"));
        assert!(wrong("w[3/3]").contains("no part") && wrong("{1}").contains("no capture"));
        assert!(wrong("{i+}").contains("no capture") && wrong("{}x{").contains("no capture"));
        assert!(Pattern::parse("a.*").unwrap_err().contains("their side"));
        assert!(Pattern::parse("{a}_{b}_{c}_{d}").unwrap_err().contains("more than 3"));
        assert!(Pattern::parse("a..b").unwrap_err().contains("empty"));
    }
}
