//! What a built executable tells about itself.

use crate::manifest::{Manifest, Port, Reading};
use crate::number::Number;
use crate::present::shown_name;
use nnc_data::Alphabet;

/// How many class names `--help` lists.
const CLASSES: usize = 20;

const OPTIONS: &str = "\
Options:
  -i, --input NAME=FILE   the file of an input; just FILE if there is only one
  -o, --output NAME=FILE  write an answer as .npy instead of printing it (a text as text, unless
                          FILE ends in .npy); just FILE if there is only one
      --set NAME=VALUE... set options of the program
      --seed N            draw random numbers by another seed than 0
      --json              print JSON
      --top K             print K classes per row (5 for one row, 1 for many)
      --threads N         compute with at most N threads (as many as there are processors)
      --bench [SECONDS]   measure the latency of one call (for 3 seconds)
  -h, --help              print this
  -V, --version           print where this program came from
";

/// The text of `--help`; `name` is how the program was called.
pub fn help(manifest: &Manifest, name: &str) -> String {
    let inputs: Vec<&Port> = manifest.files().collect();
    let usage = match inputs.as_slice() {
        [] => String::new(),
        [only] => format!(" {}...", what(only)),
        many => many.iter().map(|port| format!(" --input {}={}", port.name, what(port))).collect(),
    };
    let mut text = format!("{}\n\nUsage: {name} [OPTIONS]{usage}\n", origin(manifest));
    section(&mut text, "In", inputs.iter().map(|port| format!("{port}{}", tail(port, manifest, true))));
    section(&mut text, "Out", manifest.answers.iter().map(|port| format!("{port}{}", tail(port, manifest, false))));
    section(&mut text, "Set by --set", manifest.options().map(setting));
    section(&mut text, "Set when it was built", manifest.fixed.iter().cloned());
    if inputs.iter().any(|port| port.reading == Reading::Text) {
        text.push_str(
            "\nTEXT is the text itself; `@FILE` reads it from a file in UTF-8, or numbers from .npy. A shorter one has\n\
             line ends (or spaces) put before it.\n",
        );
    }
    if inputs.iter().any(|port| port.reading != Reading::Text) {
        let files = files_of(manifest);
        text.push_str(&format!("\nFILE is {files}, also packed with gzip; `-` is standard input.\n"));
    }
    if inputs.iter().any(|port| matches!(port.reading, Reading::Words(_))) {
        text.push_str("A text may stand in place of its FILE: \"in these words\".\n");
    }
    if inputs.iter().any(|port| port.batched) {
        text.push_str(&format!("N is any number of rows; {} computed at a time.\n", rows_are(manifest.batch)));
    }
    if !manifest.classes.is_empty() && manifest.is_classifier() {
        text.push_str(&format!("\nClasses: {}\n", class_list(&manifest.classes)));
    }
    text.push('\n');
    text.push_str(OPTIONS);
    text
}

/// What kinds of files are read.
fn files_of(manifest: &Manifest) -> &'static str {
    let reads = |wanted: fn(Reading) -> bool| manifest.inputs.iter().any(|port| wanted(port.reading));
    if reads(|reading| matches!(reading, Reading::Words(_))) {
        "text in UTF-8 with an example on each line, or .npy"
    } else if reads(|reading| reading == Reading::Characters) {
        "text in UTF-8, or .npy"
    } else if reads(|reading| matches!(reading, Reading::Sound(_))) {
        "WAV, .npy or CSV"
    } else {
        ".npy, CSV, idx, PNG or JPEG"
    }
}

/// One line on where the program came from.
pub fn origin(manifest: &Manifest) -> String {
    let Manifest { program, source, version, weights_hash, variants, .. } = manifest;
    let isas: Vec<&str> = variants.iter().map(|variant| variant.isa.as_str()).collect();
    let isas = match &isas[..] {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        one => one.concat(),
    };
    let weights = weights_hash.get(..16).unwrap_or(weights_hash);
    let mut text = format!("{program}, compiled from {source} by nnc {version}");
    for (what, value) in [("weights", weights), ("for", isas.as_str())] {
        if !value.is_empty() {
            text.push_str(&format!(", {what} {value}"));
        }
    }
    text
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    for (index, line) in lines.enumerate() {
        if index == 0 {
            text.push_str(&format!("\n{title}:\n"));
        }
        text.push_str(&format!("  {line}\n"));
    }
}

/// What is given for an input.
fn what(port: &Port) -> &'static str {
    if port.reading == Reading::Text { "TEXT" } else { "FILE" }
}

/// `temperature: f32 = 0.8`.
fn setting(port: &Port) -> String {
    let default = Number::read_all(port.row.dtype, &port.default).next();
    default.map_or_else(|| port.to_string(), |value| format!("{port} = {value}"))
}

fn tail(port: &Port, manifest: &Manifest, goes_in: bool) -> String {
    let classes = port.row.dims.last().copied().unwrap_or(manifest.classes.len());
    match port.reading {
        Reading::Values | Reading::Option => String::new(),
        Reading::Text => format!("  (the numbers of a text's {})", own_units(manifest)),
        Reading::Characters => format!("  (the numbers of {}; a text file is read as such)", own_units(manifest)),
        Reading::Words(table) => {
            let units = manifest.vocabularies.get(table).map_or("words", |table| table.unit().plural());
            let end = if goes_in { "read" } else { "printed" };
            format!("  (the numbers of {units}; a text is {end} as such)")
        }
        Reading::Sound(rate) => format!("  (a sound with {rate} samples in a second)"),
        Reading::Logits => format!("  (scores of {classes} classes; printed as probabilities)"),
        Reading::Probabilities => format!("  (probabilities of {classes} classes)"),
    }
}

/// What running texts are made of.
fn own_units(manifest: &Manifest) -> &'static str {
    match manifest.alphabet() {
        Alphabet::Characters(_) => "characters",
        Alphabet::Tokens(_) => "tokens",
    }
}

fn rows_are(batch: usize) -> String {
    if batch == 1 { "one is".into() } else { format!("{batch} are") }
}

fn class_list(classes: &[String]) -> String {
    let shown = (0..classes.len().min(CLASSES)).map(|at| shown_name(classes, at)).collect::<Vec<_>>().join(", ");
    match classes.len().saturating_sub(CLASSES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Variant;
    use crate::manifest::tests::sample;

    #[test]
    fn tells_what_goes_in_and_out() {
        let text = help(&sample(), "digits");
        for part in [
            "Digits, compiled from digits.nn by nnc 0.1.0, weights 00ff, for avx512 and avx2\n",
            "Usage: digits [OPTIONS] FILE...\n",
            "In:\n  image: f32[N, 1, 8, 8]\n",
            "Out:\n  digit: f32[N, 3]  (scores of 3 classes; printed as probabilities)\n",
            "2 are computed at a time",
            "Classes: zero, one, two\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
    }

    #[test]
    fn instruction_sets_are_listed() {
        let mut manifest = sample();
        let ends = |manifest: &Manifest, wanted: &str| assert!(origin(manifest).ends_with(wanted), "{wanted}");
        manifest.variants.insert(1, Variant { isa: "avxvnni".into(), ..manifest.variants[0].clone() });
        ends(&manifest, ", for avx512, avxvnni and avx2");
        manifest.variants.truncate(1);
        ends(&manifest, ", for avx512");
    }

    #[test]
    fn several_inputs_are_named() {
        let mut manifest = sample();
        manifest.inputs.push(Port { name: "mask".into(), ..manifest.inputs[0].clone() });
        assert!(help(&manifest, "x").contains("Usage: x [OPTIONS] --input image=FILE --input mask=FILE\n"));
    }

    #[test]
    fn many_classes_are_shortened() {
        let classes: Vec<String> = (0..1000).map(|class| class.to_string()).collect();
        assert!(class_list(&classes).ends_with("19 and 980 more"));
    }
}
