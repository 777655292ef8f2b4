//! A fuzzer of the parser, the renderer of diagnostics and the formatter: random changes to files that are right.
//!
//! For every text it holds that parsing neither panics nor overflows the stack; that each diagnostic and each span of
//! the tree lies in the text, on character boundaries; that diagnostics can be rendered; and, when there is no error,
//! that formatting succeeds, gives the same tree but for places, and formatting again changes nothing.
//!
//! The random numbers are fixed, so a run can be repeated: `NNC_FUZZ_SEED=7` chooses others. `NNC_FUZZ_SECONDS=300`
//! goes on for that long; without it a fixed number of texts is tried. A failure prints the text that made it.

use nnc_lang::diagnostic::{FileId, Severity, Sources, Span, render};
use nnc_lang::syntax::format::format;
use nnc_lang::syntax::lexer::{TokenKind, tokens};
use nnc_lang::syntax::parse;
use std::path::Path;
use std::time::{Duration, Instant};

/// Texts tried when no time is given.
const TEXTS: usize = 1_500;
/// Longer texts are cut: the mutations of one text pile up.
const LONGEST: usize = 20_000;

/// What mutations insert: every token, and words with a meaning.
const WORDS: &str = r#"( ) [ ] { } , ; : . .. ... = == != < <= > >= <- -> |> + - * ** / % @ # ## " "s" "\n" "\q" 0 1 1.0
    1e-3 1e999 99999999999999999999 1. .5 3x 0x1F 1_000 _ a N x.0.1 true false and or not if else for in return yield fn
    model optimizer metric data train use param state layer minimize over using answer augment step scan axis reverse
    with as new from frozen names on stop_early lambda def class f32 f32[N,...S] && || ! ' ? $ \ ` {} () [] (a,)"#;
/// What they insert besides: space, line ends, comments, and characters that begin no token.
const OTHERS: [&str; 15] = [
    "\n",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    " ",
    "# note\n",
    "## doc\n",
    "\u{201c}",
    "\u{2212}",
    "é",
    "\u{1F600}",
    "\0",
    "\u{feff}",
    "\u{2028}",
];

fn pieces() -> Vec<&'static str> {
    WORDS.split_whitespace().chain(OTHERS).collect()
}

/// A small generator of random numbers (Marsaglia, xorshift64, 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`; 0 when that is 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or(0) % end.max(1)
    }

    fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A place in `text` between two characters.
    fn place(&mut self, text: &str) -> usize {
        let at = self.below(text.len() + 1);
        (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
    }
}

/// Every `.nn` file of the project's tests, examples and library, sorted.
fn corpus() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["tests/corpus", "tests/syntax", "src/library", "../../dsl-examples"] {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten();
        paths.extend(entries.map(|entry| entry.unwrap().path()));
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "nn"));
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// What texts are made from.
struct Material<'t> {
    corpus: &'t [String],
    pieces: &'t [&'static str],
}

/// One random change.
fn mutate(text: &mut String, random: &mut Random, material: &Material) {
    let at = random.place(text);
    let far = if random.below(4) == 0 { text.len() } else { 40 };
    let end = at + random.below(far + 1);
    let end = (end..text.len()).find(|&end| text.is_char_boundary(end)).unwrap_or(text.len());
    let piece = *random.choose(material.pieces);
    match random.below(9) {
        0 => text.truncate(at),
        1 => text.replace_range(at..end, ""),
        2 => {
            let again = text[at..end].to_owned();
            text.insert_str(at, &again);
        }
        3 => text.insert_str(at, &piece.repeat(if random.below(8) == 0 { random.below(1_200) } else { 1 })),
        4 => {
            let other = random.choose(material.corpus);
            let from = random.place(other);
            text.replace_range(at.., &other[from..]);
        }
        5 => text.replace_range(at..end, piece),
        6 => {
            let moved = text[at..end].to_owned();
            text.replace_range(at..end, "");
            let to = random.place(text);
            text.insert_str(to, &moved);
        }
        _ => text.insert_str(at, &[" ", piece, " "].concat()),
    }
}

/// Tokens without order, up to sixty of them.
fn soup(random: &mut Random, pieces: &[&str]) -> String {
    let begins = ["", "fn f(x: f32) -> f32 = ", "model M(x: f32) { ", "data d {\n"];
    let mut text = String::from(*random.choose(&begins));
    for _ in 0..random.below(60) {
        text += *random.choose(pieces);
        text += *random.choose(&["", " ", " ", "\n"]);
    }
    text
}

/// A text to try, no longer than [`LONGEST`].
fn text(random: &mut Random, material: &Material) -> String {
    let mut text = match random.below(5) {
        0 => soup(random, material.pieces),
        _ => random.choose(material.corpus).clone(),
    };
    for _ in 0..random.below(4) {
        mutate(&mut text, random, material);
    }
    let end = (0..=text.len().min(LONGEST)).rev().find(|&end| text.is_char_boundary(end));
    text.truncate(end.unwrap_or(0));
    text
}

fn assert_in_text(span: Span, text: &str) {
    assert!(span.start <= span.end, "{span:?} is backwards");
    assert!(text.get(span.start as usize..span.end as usize).is_some(), "{span:?} is not in the text");
}

/// The debug form of a tree without its spans. Spans are checked on the way.
fn meaning(tree: &str, text: &str) -> String {
    const OPENING: &str = "Span { file: FileId(0), start: ";
    let mut pieces = tree.split(OPENING);
    let mut shape = pieces.next().unwrap_or("").to_owned();
    for piece in pieces {
        let (numbers, rest) = piece.split_once(" }").unwrap();
        let (start, end) = numbers.split_once(", end: ").unwrap();
        assert_in_text(Span { file: FileId(0), start: start.parse().unwrap(), end: end.parse().unwrap() }, text);
        shape += rest;
    }
    shape
}

/// The comments of a text, in order.
fn comments(text: &str) -> Vec<&str> {
    let tokens = tokens(FileId(0), text, &mut Vec::new()).into_iter();
    let comments = tokens.filter(|token| matches!(token.kind, TokenKind::Comment | TokenKind::Doc));
    comments.map(|token| text[token.span.start as usize..token.span.end as usize].trim_end()).collect()
}

/// Holds one text to everything the module's head says.
fn check(text: &str) {
    let mut sources = Sources::default();
    let file = sources.add("fuzz.nn", text);
    let (tree, diagnostics) = parse(file, text);
    let shape = meaning(&format!("{tree:?}"), text);
    for diagnostic in &diagnostics {
        let labels = std::iter::once(&diagnostic.primary).chain(&diagnostic.secondary);
        labels.for_each(|label| assert_in_text(label.span, text));
    }
    render(&diagnostics, &sources, false);
    let wrong = diagnostics.iter().any(|diagnostic| diagnostic.severity() == Severity::Error);
    assert_eq!(format(text).is_err(), wrong, "the formatter and the parser disagree on whether this is right");
    assert!(wrong || !shape.contains("Error"), "an error in the tree, but none is reported");
    if let Ok(once) = format(text) {
        assert_eq!(format(&once).as_ref(), Ok(&once), "formatting again changes it");
        assert_eq!(comments(&once), comments(text), "formatting changed the comments:\n{once}");
        let (again, _) = parse(file, &once);
        assert_eq!(meaning(&format!("{again:?}"), &once), shape, "formatting changed the meaning:\n{once}");
    }
}

/// Why `text` fails, if it does.
fn failure(text: &str) -> Option<String> {
    let panic = std::panic::catch_unwind(|| check(text)).err()?;
    let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    Some(message.unwrap_or("a panic").to_owned())
}

/// A smaller text that fails, too: pieces are left out as long as that holds, large ones first (Zeller's delta
/// debugging).
fn shrink(mut text: String) -> String {
    let mut size = text.len().next_power_of_two();
    while size > 0 {
        let mut at = 0;
        while at < text.len() {
            let end = (at + size).min(text.len());
            let without = text.get(..at).zip(text.get(end..)).map(|(before, after)| before.to_owned() + after);
            match without.filter(|without| failure(without).is_some()) {
                Some(smaller) => text = smaller,
                None => at += size,
            }
        }
        size /= 2;
    }
    text
}

#[test]
fn no_text_is_too_much_for_the_parser() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let mut random = Random(number("NNC_FUZZ_SEED").unwrap_or(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let until = number("NNC_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let material = Material { corpus: &corpus(), pieces: &pieces() };
    let mut tried = 0;
    while until.map_or(tried < TEXTS, |until| Instant::now() < until) {
        let text = text(&mut random, &material);
        if failure(&text).is_some() {
            let text = shrink(text);
            panic!("{text:?} fails:\n{}", failure(&text).unwrap_or_default());
        }
        tried += 1;
    }
    eprintln!("{tried} texts");
}

/// Deep trees are refused, also where brackets and long chains multiply, and dropping them is safe on a small stack.
#[test]
fn nesting_of_chains_is_bounded() {
    let chain = "+x".repeat(200);
    let nested = format!("fn f(x: f32) -> f32 = {}x{}", "(".repeat(200), format!("{chain})").repeat(200));
    for text in [nested, "fn f(x: f32) -> f32 = ".to_owned() + &"x + (".repeat(200) + "x" + &")".repeat(200)] {
        check(&text);
    }
}
