//! The examples of the repository and the template of `nnc new` check without a word, and every graph of their recipes
//! is well formed.

use nnc_graph::verify::verify;
use nnc_lang::diagnostic::render;
use nnc_lang::elaborate::{Loader, Options, Unit, check};
use std::fs;
use std::path::{Path, PathBuf};

struct Examples;

impl Loader for Examples {
    fn load(&self, path: &str) -> Result<String, String> {
        fs::read_to_string(folder().join(path)).map_err(|error| error.to_string())
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dsl-examples")
}

fn examples() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder())
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "nn"))
        .collect();
    found.sort();
    found
}

fn checked(name: &str, text: &str) -> Unit {
    let checked = check(name, text, &Examples, &Options::default());
    let shown = render(&checked.diagnostics, &checked.sources, false);
    assert!(checked.diagnostics.is_empty(), "{name}\n{shown}");
    checked.unit.expect("a sound file has a unit")
}

fn check_graphs(name: &str, unit: &Unit) {
    let sizes = std::collections::BTreeMap::from([("P".to_owned(), 5)]);
    for recipe in &unit.recipes {
        for n in [1, 4] {
            // Some networks normalise over their examples, and train on two or more.
            let graphs = [
                ("init", unit.init(&recipe.name)),
                ("train", unit.train_step(&recipe.name, n.max(2))),
                ("evaluate", unit.evaluate(&recipe.name, n)),
                ("answer", unit.answer_sized(&recipe.name, None, n, &sizes)),
            ];
            for (word, graph) in graphs {
                let graph = graph.unwrap_or_else(|errors| panic!("{name} {word} at {n}: {errors:#?}"));
                verify(&graph).unwrap_or_else(|faults| panic!("{name} {word} at {n}: {faults:#?}"));
                assert!(!graph.outputs().is_empty(), "{name} {word} puts nothing out");
            }
        }
    }
}

#[test]
fn every_example_checks_and_builds() {
    let examples = examples();
    assert!(examples.len() >= 7, "{examples:?}");
    for path in examples {
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        let unit = checked(&name, &fs::read_to_string(&path).expect("it can be read"));
        check_graphs(&name, &unit);
    }
}

#[test]
fn the_template_checks_and_builds() {
    let text = nnc_lang::library::template("letters");
    check_graphs("template", &checked("letters.nn", &text));
}
