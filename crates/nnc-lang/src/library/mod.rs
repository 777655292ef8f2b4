//! The standard library: `.nn` source that ships in the binary and that a user can open, copy and change.
//!
//! Its names are seen by every program, behind the program's own. Everything here is written with the primitives of
//! `elaborate/builtins`; nothing of it is known to the compiler by name, but for [`CLIP_SCALE`],
//! [`MAGNITUDE`], [`LOWEST`] and [`MOVING_RANGE`].

/// Each file of the library: its name in diagnostics, and its text. In the order in which they are read.
pub const FILES: &[(&str, &str)] = &[
    ("library/activations.nn", include_str!("activations.nn")),
    ("library/arrays.nn", include_str!("arrays.nn")),
    ("library/layers.nn", include_str!("layers.nn")),
    ("library/convolution.nn", include_str!("convolution.nn")),
    ("library/normalisation.nn", include_str!("normalisation.nn")),
    ("library/attention.nn", include_str!("attention.nn")),
    ("library/images.nn", include_str!("images.nn")),
    ("library/blocks.nn", include_str!("blocks.nn")),
    ("library/recurrent.nn", include_str!("recurrent.nn")),
    ("library/generation.nn", include_str!("generation.nn")),
    ("library/sequences.nn", include_str!("sequences.nn")),
    ("library/sound.nn", include_str!("sound.nn")),
    ("library/losses.nn", include_str!("losses.nn")),
    ("library/metrics.nn", include_str!("metrics.nn")),
    ("library/initialisers.nn", include_str!("initialisers.nn")),
    ("library/optimizers.nn", include_str!("optimizers.nn")),
    ("library/schedules.nn", include_str!("schedules.nn")),
    ("library/augmentation.nn", include_str!("augmentation.nn")),
    ("library/pruning.nn", include_str!("pruning.nn")),
    ("library/quantising.nn", include_str!("quantising.nn")),
];

/// The function that `minimize ..., clip_norm=` scales gradients with.
pub const CLIP_SCALE: &str = "clip_scale";

/// What weights are judged by unless `prune` says otherwise.
pub const MAGNITUDE: &str = "magnitude";

/// The function that finds which scores are the least.
pub const LOWEST: &str = "lowest";

/// The function that moves a range by what a batch shows.
pub const MOVING_RANGE: &str = "moving_range";

/// A first network. `FILE` stands for the name of the file, `NAME` for that of the data, `MODEL` for that of the model.
const TEMPLATE: &str = include_str!("template.nn");

/// What `nnc new` writes into `FILE.nn`: data and model have names made from it, `my_net` and `MyNet` from `my-net`.
pub fn template(file: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let words: String = file.to_ascii_lowercase().chars().map(letter).collect();
    let words = words.trim_matches('_');
    // A name begins with a letter, and a model of one letter would hide a dim.
    let words = if words.len() > 1 && !words.starts_with(|c: char| c.is_ascii_digit()) {
        words.to_owned()
    } else {
        format!("net_{words}").trim_end_matches('_').to_owned()
    };
    let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    let model: String = words.split('_').filter(|word| !word.is_empty()).map(capital).collect();
    TEMPLATE.replace("FILE", file).replace("MODEL", &model).replace("NAME", &words)
}

#[cfg(test)]
mod tests {
    use crate::diagnostic::{FileId, Sources};
    use crate::syntax::ast::ItemKind;
    use crate::syntax::parse;
    use std::fmt::Write;
    use std::fs;
    use std::path::{Path, PathBuf};

    const PRIMITIVES: [&str; 2] = ["<!-- primitives: written by the tests -->\n\n", "\n<!-- end of primitives -->\n"];
    const LIBRARY: [&str; 2] = ["<!-- library: written by the tests -->\n\n", "\n<!-- end of library -->\n"];

    fn page() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/language.md")
    }

    fn primitives() -> String {
        let mut text = "| primitive | what it gives |\n| --- | --- |\n".to_owned();
        for builtin in crate::elaborate::primitives() {
            writeln!(text, "| `{}` | {} |", builtin.signature(), builtin.doc).expect("a string takes it");
        }
        text
    }

    fn library() -> String {
        let mut text = String::new();
        for (name, source) in super::FILES {
            let short = name.trim_start_matches("library/").trim_end_matches(".nn");
            writeln!(text, "### {short}\n").expect("a string takes it");
            let mut sources = Sources::default();
            let file: FileId = sources.add(name, source);
            for item in parse(file, source).0.items {
                let ItemKind::Function(function) = item.kind else { continue };
                assert!(item.doc.ends_with('.'), "`{}` has no doc", function.name.text);
                let signature = sources.slice(function.signature);
                let signature: Vec<&str> = signature.split_whitespace().collect();
                let doc: Vec<&str> = item.doc.split_whitespace().collect();
                writeln!(text, "- `{}`\n  {}", signature.join(" "), doc.join(" ")).expect("a string takes it");
            }
            text.push('\n');
        }
        text.trim_end().to_owned() + "\n"
    }

    fn replaced(page: &str, [start, end]: [&str; 2], text: &str) -> String {
        let (head, rest) = page.split_once(start).expect("the page has the mark");
        let (_, tail) = rest.split_once(end).expect("the page has the mark");
        format!("{head}{start}{text}{end}{tail}")
    }

    #[test]
    fn the_language_page_lists_every_primitive_and_item() {
        let known = fs::read_to_string(page()).expect("the page is there");
        let fresh = replaced(&replaced(&known, PRIMITIVES, &primitives()), LIBRARY, &library());
        if std::env::var_os("NNC_BLESS").is_some() {
            fs::write(page(), &fresh).expect("the page can be written");
        }
        assert!(known == fresh, "docs/language.md is not of this library; NNC_BLESS=1 writes it anew");
    }
}
