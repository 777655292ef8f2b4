//! The training steps of the examples through the passes.

use nnc_graph::{Graph, Op, text, verify};
use nnc_lang::elaborate::{Loader, Options as LangOptions, check};
use nnc_opt::{Options, grad, optimise};
use std::path::PathBuf;

const EXAMPLES: &[&str] = &["digits", "mnist_mlp", "mnist_cnn", "seed_cnn", "autoencoder", "linear_regression"];

struct NoFiles;

impl Loader for NoFiles {
    fn load(&self, path: &str) -> Result<String, String> {
        Err(format!("{path} is not there"))
    }
}

fn train_step(name: &str) -> Graph {
    changed_step(name, |source| source)
}

/// The training step of an example whose text is changed before.
fn changed_step(name: &str, change: impl Fn(String) -> String) -> Graph {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../dsl-examples").join(format!("{name}.nn"));
    let source = change(std::fs::read_to_string(path).unwrap());
    let checked = check(&format!("{name}.nn"), &source, &NoFiles, &LangOptions::default());
    let unit = checked.unit.unwrap_or_else(|| panic!("{name}: {:?}", checked.diagnostics));
    let recipe = unit.recipes[0].name.clone();
    unit.train_step(&recipe, 8).unwrap()
}

#[test]
fn training_steps_become_lowerable_and_smaller() {
    for name in EXAMPLES {
        let graph = train_step(name);
        let optimised = optimise(&graph, &Options { dump: true, ..Options::default() }).unwrap();
        verify::verify_lowerable(&optimised.graph).unwrap();
        assert!(!optimised.graph.nodes().any(|(_, node)| matches!(node.op, Op::Grad | Op::StopGradient)));
        let expanded = grad::expand(&graph).node_count();
        assert!(optimised.graph.node_count() < expanded, "{name}");
        let printed = text::print(&optimised.graph);
        assert_eq!(text::print(&text::parse(&printed).unwrap()), printed);
        println!("{name}: {} {expanded} {}", graph.node_count(), optimised.graph.node_count());
        for record in &optimised.log.records {
            println!("  {} {:?} {} {}", record.pass, record.time, record.rewrites, record.nodes_after);
        }
        if std::env::var_os("NNC_SHOW").is_some() {
            println!("{printed}");
        }
    }
}

#[test]
fn derivatives_can_be_read() {
    for name in EXAMPLES {
        let text = grad::readable(&train_step(name), None).unwrap();
        println!("== {name}\n{text}");
        assert!(!text.contains('%') && !text.contains('~'), "{name}\n{text}");
    }
    let text = grad::readable(&train_step("linear_regression"), None).unwrap();
    assert_eq!(text, LINEAR_REGRESSION);
}

const LINEAR_REGRESSION: &str = "\
# given
width       : f32[8]
measures    : f32[8, 3]

# forward
dense_1.y   = measures @ dense_1.w + reshape(dense_1.b, [])  # f32[8, 1]
predicted   = reshape(dense_1.y, [8])  # f32[8]
mse         = predicted - width  # f32[8]
loss        = mean(mse ** 2)  # f32

# backward: d_x is the derivative of the loss by x
d_dense_1.y = reshape(0.25 * mse, [8, 1])  # f32[8, 1]
d_dense_1.b = sum(d_dense_1.y, axis=0)  # f32[1]
d_dense_1.w = measures.T @ d_dense_1.y  # f32[3, 1]
";

/// A loop prints as a block, and so does the loop back.
#[test]
fn derivatives_of_loops_can_be_read() {
    for name in ["rhyme", "char_lstm", "nanogpt"] {
        let text = grad::readable(&train_step(name), None).unwrap();
        println!("== {name}\n{text}");
        assert!(!text.contains('%') && !text.contains('~'), "{name}\n{text}");
        assert_eq!(text.contains("scan t in 0..") && text.contains("reverse"), name != "nanogpt", "{name}\n{text}");
    }
    let text = grad::readable(&train_step("rhyme"), None).unwrap();
    assert!(text.contains("h' = "), "{text}");
}

/// What a recipe averages is trained beside the parameter; the derivative is told of the parameter all the same.
#[test]
fn averaged_parameters_are_told_of() {
    let average = |source: String| {
        let line = source.lines().find(|line| line.contains("minimize ")).expect("an example minimises").to_owned();
        source.replace(&line, &format!("{line}, average=0.9"))
    };
    let plain = grad::readable(&train_step("linear_regression"), None).unwrap();
    assert_eq!(grad::readable(&changed_step("linear_regression", average), None).unwrap(), plain);
}

#[test]
fn one_parameter_can_be_asked_for() {
    let graph = train_step("mnist_mlp");
    let text = grad::readable(&graph, Some("dense_3.b")).unwrap();
    assert!(
        text.contains("\nd_dense_3.b") && !text.contains("\nd_dense_3.w") && !text.contains("dense_2.w.T"),
        "{text}"
    );
    let error = grad::readable(&graph, Some("dense_9.b")).unwrap_err().to_string();
    assert!(error.starts_with("the loss is not differentiated by `dense_9.b`, but by dense_1.w, dense_1.b"), "{error}");
    let error = grad::readable(&Graph::new("empty"), None).unwrap_err().to_string();
    assert_eq!(error, "nothing is differentiated by a parameter here");
}
