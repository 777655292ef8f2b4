//! The passes on random graphs: the interpreter's results stay, fuel bisects, one run is like another.

use nnc_graph::testing::{GraphOptions, graph_of_one_op, op_names, random_graph_with, random_inputs};
use nnc_graph::{Graph, Tensor, interpret, text, verify};
use nnc_opt::{Fuel, Options, cse, dce, fold, grad, optimise, put_back, simplify};

/// The same bits, but for the sign of a zero and the payload of a NaN; within `tolerance` of each other if it is not 0.
fn agree(a: &Tensor, b: &Tensor, tolerance: f64) -> bool {
    let near = |(x, y): (f64, f64)| {
        x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= tolerance * (1.0 + x.abs().max(y.abs()))
    };
    a.ty() == b.ty() && (a.bytes() == b.bytes() || a.to_f64().into_iter().zip(b.to_f64()).all(near))
}

fn assert_same_results(case: &str, before: &Graph, after: &Graph, seed: u64, tolerance: f64) {
    verify::verify_lowerable(after).unwrap();
    let given = random_inputs(before, seed);
    let (old, new) = (interpret::run(before, &given).unwrap(), interpret::run(after, &given).unwrap());
    assert_eq!(before.outputs().len(), after.outputs().len());
    for (name, expected) in old.outputs() {
        let found = new.output(name).unwrap();
        let texts = || format!("{}\n{}", text::print(before), text::print(after));
        assert!(agree(expected, found, tolerance), "{case}, seed {seed}, {name}: {expected:?}, {found:?}\n{}", texts());
    }
}

type Pass = fn(&Graph, &mut Fuel) -> Graph;

const PASSES: &[(&str, Pass)] = &[
    ("simplify", |graph, fuel| simplify::simplify(graph, false, fuel)),
    ("fold", fold::fold_constants),
    ("cse", cse::eliminate_common_subexpressions),
    ("put_back", put_back::put_back),
    ("dce", dce::eliminate_dead_code),
];

/// Graphs around each op, and larger ones.
fn cases() -> impl Iterator<Item = (String, u64, Graph)> {
    let options = GraphOptions { narrow_floats: true, ..GraphOptions::default() };
    let larger = GraphOptions { ops: 30, ..options.clone() };
    let small = op_names().flat_map(move |name| {
        let options = options.clone();
        (0..15).map(move |seed| (name.to_owned(), seed, graph_of_one_op(name, seed, &options).unwrap()))
    });
    small.chain((0..150).map(move |seed| ("random".to_owned(), seed, random_graph_with(seed, &larger))))
}

#[test]
fn each_pass_keeps_the_results() {
    for (case, seed, graph) in cases() {
        for (name, pass) in PASSES {
            let after = pass(&graph, &mut Fuel::new(None));
            // A small power multiplied out is rounded more often than `pow`.
            let tolerance = if *name == "simplify" { 3e-7 } else { 0.0 };
            assert_same_results(&format!("{name} on {case}"), &graph, &after, seed, tolerance);
        }
    }
}

#[test]
fn the_pipeline_keeps_the_results() {
    for (case, seed, graph) in cases() {
        let optimised = optimise(&graph, &Options::default()).unwrap();
        assert_same_results(&case, &graph, &optimised.graph, seed, 1e-4);
    }
}

#[test]
fn gradients_stay_too() {
    for seed in 0..100 {
        let graph = random_graph_with(seed, &GraphOptions { grad: true, ops: 15, ..GraphOptions::default() });
        let optimised = optimise(&graph, &Options::default()).unwrap();
        let plain = grad::expand(&graph);
        assert_same_results("grad", &plain, &optimised.graph, seed, 1e-3);
    }
}

#[test]
fn the_pipeline_reaches_a_fixed_point_and_is_deterministic() {
    for seed in 0..60 {
        let graph = random_graph_with(seed, &GraphOptions { grad: true, ops: 20, ..GraphOptions::default() });
        let (once, again) =
            (optimise(&graph, &Options::default()).unwrap(), optimise(&graph, &Options::default()).unwrap());
        assert_eq!(text::print(&once.graph), text::print(&again.graph));
        let twice = optimise(&once.graph, &Options::default()).unwrap();
        assert_eq!(twice.log.rewrites(), 0, "seed {seed}\n{}", text::print(&once.graph));
        assert_eq!(text::print(&once.graph), text::print(&twice.graph));
    }
}

/// With fuel for n rewrites exactly n are made, and the results are right at every n: so a wrong rewrite can be found
/// by bisection.
#[test]
fn fuel_stops_after_that_many_rewrites() {
    for seed in 0..10 {
        let graph = random_graph_with(seed, &GraphOptions { grad: true, ops: 10, ..GraphOptions::default() });
        let plain = grad::expand(&graph);
        let all = optimise(&graph, &Options::default()).unwrap().log.rewrites();
        for fuel in (0..=all).step_by(1 + all as usize / 12) {
            let options = Options { fuel: Some(fuel), ..Options::default() };
            let optimised = optimise(&graph, &options).unwrap();
            assert_eq!(optimised.log.rewrites(), fuel);
            assert_same_results("fuel", &plain, &optimised.graph, seed, 1e-3);
        }
    }
}

#[test]
fn the_log_names_the_passes_and_keeps_dumps_of_changes() {
    let graph = random_graph_with(5, &GraphOptions { grad: true, ..GraphOptions::default() });
    let log = optimise(&graph, &Options { dump: true, ..Options::default() }).unwrap().log;
    let names: Vec<&str> = log.records.iter().map(|record| record.pass).collect();
    assert_eq!(names[..7], ["unfold", "looked_up", "grad", "dce", "simplify", "fold", "cse"]);
    assert!(log.records.iter().all(|record| record.dump.is_some() == record.changed));
    let dump = log.records[2].dump.as_ref().unwrap();
    assert!(!dump.contains("= grad("));
    assert_eq!(text::print(&text::parse(dump).unwrap()), *dump);
}
