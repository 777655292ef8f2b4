//! Updates of parts that become updates of the whole: pairs that do, near misses that must not, and the same results.

use nnc_graph::{Graph, OutputKind, Tensor, ValueId, interpret, testing, text};
use nnc_opt::put_back::put_back;
use nnc_opt::{Fuel, Options, dce, optimise};

/// Lines of a graph; the last `outputs` values are its results.
fn graph(lines: &str, outputs: &[u32]) -> Graph {
    let mut graph =
        text::parse(&format!("graph \"cache\" {{\n{lines}\n}}")).unwrap_or_else(|error| panic!("{error}: {lines}"));
    for &value in outputs {
        graph.add_output(&format!("y{value}"), ValueId(value), OutputKind::Result);
    }
    graph
}

/// The updates of the graph after the pass, as text; the results must be the same bits for every start that fits, and
/// the same fault for one that does not.
#[track_caller]
fn updates(lines: &str, outputs: &[u32]) -> Vec<String> {
    let before = graph(lines, outputs);
    // As often as the pipeline would: a whole that is a view itself comes next.
    let once = |graph: Graph| dce::eliminate_dead_code(&put_back(&graph, &mut Fuel::new(None)), &mut Fuel::new(None));
    let after = once(once(before.clone()));
    let whole = optimise(&before, &Options::default()).unwrap().graph;
    for start in -1..6 {
        let mut given = testing::random_inputs(&before, 1);
        given.insert("i".to_owned(), Tensor::scalar_i64(start));
        let results = [&before, &after, &whole].map(|graph| interpret::run(graph, &given));
        let results =
            results.map(|run| run.ok().map(|run| run.outputs().map(|(_, y)| y.bytes().to_vec()).collect::<Vec<_>>()));
        assert_eq!(results[0], results[1], "start {start}\n{}", text::print(&after));
        assert_eq!(results[0], results[2], "start {start}, all passes\n{}", text::print(&whole));
    }
    let printed = text::print(&after);
    let updates = printed.lines().filter(|line| line.contains("dynamic_update"));
    updates.map(|line| line.trim().split(" = ").nth(1).unwrap_or_default().to_owned()).collect()
}

const LAYERS: &str = "%0 = input \"cache\" : f32[3, 2, 5, 4]\n%1 = input \"v\" : f32[2, 1, 4]\n%2 = input \"i\" : i64\n\
    %3 = constant 1 : i64\n";

/// A layer's part, updated and put back at `at`.
fn layer(start: usize, at: u32) -> String {
    format!(
        "{LAYERS}%4 = slice[start=[{start}, 0, 0, 0], step=[1, 1, 1, 1]](%0) : f32[1, 2, 5, 4]\n\
        %5 = reshape(%4) : f32[2, 5, 4]\n%6 = dynamic_update[axes=[1]](%5, %1, %2) : f32[2, 5, 4]\n\
        %7 = reshape(%6) : f32[1, 2, 5, 4]\n%8 = dynamic_update[axes=[0]](%0, %7, %{at}) : f32[3, 2, 5, 4]"
    )
}

#[test]
fn a_part_that_is_put_back_is_an_update_of_the_whole() {
    let found = updates(&layer(1, 3), &[6, 8]);
    assert_eq!(found, ["dynamic_update[axes=[0, 2]](%0, %4, %3, %2) : f32[3, 2, 5, 4]"]);
}

#[test]
fn what_reads_the_old_values_still_does() {
    // The old whole, the old part, and both once more behind the update.
    let reads = "\n%9 = sub(%8, %0) : f32[3, 2, 5, 4]\n%10 = sub(%6, %5) : f32[2, 5, 4]";
    assert_eq!(updates(&format!("{}{reads}", layer(1, 3)), &[0, 5, 9, 10]).len(), 1);
}

#[test]
fn a_part_that_is_put_elsewhere_stays() {
    assert_eq!(updates(&layer(2, 3), &[6, 8]).len(), 2);
    // At a start that is not known to be the slice's.
    assert_eq!(updates(&layer(1, 2), &[6, 8]).len(), 2);
    // Into another whole.
    let other = layer(1, 3).replace(
        "%8 = dynamic_update[axes=[0]](%0,",
        "%8 = neg(%0) : f32[3, 2, 5, 4]\n%9 = dynamic_update[axes=[0]](%8,",
    );
    assert_eq!(updates(&other, &[6, 9]).len(), 2);
    // Not as it was seen.
    let mirrored =
        layer(1, 3).replace("start=[1, 0, 0, 0], step=[1, 1, 1, 1]", "start=[1, 0, 4, 0], step=[1, 1, -1, 1]");
    assert_eq!(updates(&mirrored, &[6, 8]).len(), 2);
    // Along the axis that it is cut from.
    let along = "%0 = input \"x\" : f32[8, 3]\n%1 = input \"v\" : f32[1, 3]\n%2 = input \"i\" : i64\n%3 = constant 2 : i64\n\
        %4 = slice[start=[2, 0], step=[1, 1]](%0) : f32[4, 3]\n%5 = dynamic_update[axes=[0]](%4, %1, %2) : f32[4, 3]\n\
        %6 = dynamic_update[axes=[0]](%0, %5, %3) : f32[8, 3]";
    assert_eq!(updates(along, &[5, 6]).len(), 2);
}

#[test]
fn a_part_at_a_run_time_start_comes_back_to_it() {
    let lines = |at: u32| {
        format!(
            "%0 = input \"x\" : f32[6, 5, 4]\n%1 = input \"v\" : f32[1, 4]\n%2 = input \"i\" : i64\n\
            %3 = input \"j\" : i64\n%4 = constant 1 : i64\n%5 = min(%2, %4) : i64\n\
            %6 = dynamic_slice[axis=0](%0, %5) : f32[1, 5, 4]\n%7 = reshape(%6) : f32[5, 4]\n\
            %8 = dynamic_update[axes=[0]](%7, %1, %2) : f32[5, 4]\n%9 = reshape(%8) : f32[1, 5, 4]\n\
            %10 = dynamic_update[axes=[0]](%0, %9, %{at}) : f32[6, 5, 4]"
        )
    };
    assert_eq!(updates(&lines(5), &[8, 10]).len(), 1);
    assert_eq!(updates(&lines(2), &[8, 10]).len(), 2);
}

#[test]
fn a_whole_that_is_seen_another_way_is_updated_as_it_lies() {
    // Heads side by side, as attention reads them: `[M, H * D]` seen as `[H, M, D]`.
    let lines = "%0 = input \"x\" : f32[5, 6]\n%1 = input \"v\" : f32[2, 1, 3]\n%2 = input \"i\" : i64\n\
        %3 = reshape(%0) : f32[5, 2, 3]\n%4 = transpose[axes=[1, 0, 2]](%3) : f32[2, 5, 3]\n\
        %5 = dynamic_update[axes=[1]](%4, %1, %2) : f32[2, 5, 3]\n%6 = transpose[axes=[1, 0, 2]](%5) : f32[5, 2, 3]\n\
        %7 = reshape(%6) : f32[5, 6]";
    assert_eq!(updates(lines, &[5, 7]), ["dynamic_update[axes=[0]](%0, %4, %2) : f32[5, 6]"]);
    // An axis that the way back joins with another is none of the whole.
    let joined = "%0 = input \"x\" : f32[10, 3]\n%1 = input \"v\" : f32[2, 1, 3]\n%2 = input \"i\" : i64\n\
        %3 = reshape(%0) : f32[2, 5, 3]\n%4 = dynamic_update[axes=[1]](%3, %1, %2) : f32[2, 5, 3]\n\
        %5 = reshape(%4) : f32[10, 3]";
    assert_eq!(updates(joined, &[4, 5]), ["dynamic_update[axes=[1]](%3, %1, %2) : f32[2, 5, 3]"]);
}

#[test]
fn parts_of_parts_come_together() {
    let lines = "%0 = input \"x\" : f32[3, 2, 5, 4]\n%1 = input \"v\" : f32[1, 4]\n%2 = input \"i\" : i64\n\
        %3 = constant 1 : i64\n%4 = constant 0 : i64\n\
        %5 = slice[start=[1, 0, 0, 0], step=[1, 1, 1, 1]](%0) : f32[1, 2, 5, 4]\n%6 = reshape(%5) : f32[2, 5, 4]\n\
        %7 = slice[start=[0, 0, 0], step=[1, 1, 1]](%6) : f32[1, 5, 4]\n%8 = reshape(%7) : f32[5, 4]\n\
        %9 = dynamic_update[axes=[0]](%8, %1, %2) : f32[5, 4]\n%10 = reshape(%9) : f32[1, 5, 4]\n\
        %11 = dynamic_update[axes=[0]](%6, %10, %4) : f32[2, 5, 4]\n%12 = reshape(%11) : f32[1, 2, 5, 4]\n\
        %13 = dynamic_update[axes=[0]](%0, %12, %3) : f32[3, 2, 5, 4]";
    let before = graph(lines, &[9, 11, 13]);
    let after = optimise(&before, &Options::default()).unwrap().graph;
    assert_eq!(text::print(&after).matches("dynamic_update[axes=[0, 1, 2]]").count(), 1, "{}", text::print(&after));
    assert_eq!(text::print(&after).matches("dynamic_update").count(), 1);
    updates(lines, &[9, 11, 13]);
}
