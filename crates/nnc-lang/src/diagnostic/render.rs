//! Diagnostics for a person: source lines with marks, as the Rust compiler prints them.

use super::{Diagnostic, FileId, Label, SHOWN, Severity, Sources};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// All diagnostics, one after the other, at most [`SHOWN`] of them.
pub fn render(diagnostics: &[Diagnostic], sources: &Sources, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for diagnostic in diagnostics.iter().take(SHOWN) {
        text += &one(diagnostic, sources, &renderer);
        text += "\n\n";
    }
    if diagnostics.len() > SHOWN {
        text += &format!("... and {} more\n\n", diagnostics.len() - SHOWN);
    }
    text
}

fn one(diagnostic: &Diagnostic, sources: &Sources, renderer: &Renderer) -> String {
    let level = match diagnostic.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(&diagnostic.message).id(diagnostic.code.name());
    let mut group = Group::with_title(title);
    for file in files(diagnostic) {
        group = group.element(snippet(diagnostic, file, sources));
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    renderer.render(&[group]).to_string()
}

/// The files it points into, the primary one first.
fn files(diagnostic: &Diagnostic) -> Vec<FileId> {
    let mut files = vec![diagnostic.primary.span.file];
    for label in &diagnostic.secondary {
        if !files.contains(&label.span.file) {
            files.push(label.span.file);
        }
    }
    files
}

fn snippet<'a>(
    diagnostic: &'a Diagnostic,
    file: FileId,
    sources: &'a Sources,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let text = sources.text(file);
    let mut snippet = Snippet::source(text).path(sources.name(file));
    let range = |label: &Label| {
        let start = floor_boundary(text, label.span.start as usize);
        start..floor_boundary(text, label.span.end as usize).max(start)
    };
    let labels = diagnostic.secondary.iter().map(|label| (AnnotationKind::Context, label));
    for (kind, label) in std::iter::once((AnnotationKind::Primary, &diagnostic.primary)).chain(labels) {
        if label.span.file == file {
            snippet = snippet.annotation(kind.span(range(label)).label(label.text.as_str()));
        }
    }
    snippet
}

/// The last character boundary at or before `at`.
fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&place| text.is_char_boundary(place)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Code, Span};

    fn at(file: FileId, start: u32, end: u32) -> Span {
        Span { file, start, end }
    }

    #[test]
    fn labels_notes_and_help_stand_where_they_belong() {
        let mut sources = Sources::default();
        let (one, two) = (sources.add("one.nn", "x = ñ\ny = x\n"), sources.add("two.nn", "fn f() = 1\n"));
        let diagnostic = Diagnostic::new(Code::E0301, at(one, 11, 12), "they do not fit").label("used here");
        let diagnostic = diagnostic.with(at(one, 0, 1), "bound here").with(at(two, 3, 4), "declared here");
        let seen = render(&[diagnostic.note("a fact").help("a way out")], &sources, false);
        let expected = "\
error[E0301]: they do not fit
 --> one.nn:2:5
  |
1 | x = ñ
  | - bound here
2 | y = x
  |     ^ used here
  |
 ::: two.nn:1:4
  |
1 | fn f() = 1
  |    - declared here
  |
  = note: a fact
  = help: a way out

";
        assert_eq!(seen, expected);
    }

    #[test]
    fn any_place_can_be_shown_and_the_number_is_bounded() {
        let mut sources = Sources::default();
        let file = sources.add("empty.nn", "é");
        for span in [at(file, 0, 0), at(file, 1, 1), at(file, 2, 2), at(file, 5, 3), at(FileId(7), 0, 9)] {
            assert!(render(&[Diagnostic::new(Code::W0001, span, "unused")], &sources, false).contains("W0001"));
        }
        let many = vec![Diagnostic::new(Code::E0102, at(file, 0, 2), "wrong"); SHOWN + 3];
        let seen = render(&many, &sources, false);
        assert_eq!(seen.matches("E0102").count(), SHOWN);
        assert!(seen.ends_with("... and 3 more\n\n"), "{seen}");
    }
}
