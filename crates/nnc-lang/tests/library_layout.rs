//! The library and the examples are laid out as `nnc fmt` lays them out.

use nnc_lang::syntax::format::format;
use std::fs;
use std::path::Path;

#[test]
fn the_library_is_formatted() {
    for (name, text) in nnc_lang::library::FILES {
        assert_eq!(format(text).as_deref(), Ok(*text), "{name}");
    }
}

#[test]
fn the_examples_are_formatted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dsl-examples");
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        if path.extension().is_some_and(|extension| extension == "nn") {
            let text = fs::read_to_string(&path).expect("it can be read");
            assert_eq!(format(&text).as_deref(), Ok(&*text), "{}", path.display());
        }
    }
}

#[test]
fn a_line_that_closes_and_opens_indents_what_follows() {
    let text = "fn a(x: f32[N],\n    y: int = 1) -> f32[N] {\n    if y > 1 {\n        z = x\n    } else {\n        z = 2 * x\n    }\n    return z\n}\n";
    assert_eq!(format(text).as_deref(), Ok(text));
}
