//! Products of looked-up rows: where the table is smaller than what is read of it, it is the table that is multiplied.

use nnc_graph::testing::random_inputs;
use nnc_graph::{Graph, Op, OutputKind, ValueId, interpret, text};
use nnc_opt::{Options, grad, optimise};

const TABLE: ValueId = ValueId(5);
const MATRIX: ValueId = ValueId(6);
const ROWS: ValueId = ValueId(7);
const RESULT: ValueId = ValueId(9);
const LOSS: ValueId = ValueId(10);

/// Six times four rows of a table of so many, by a matrix of three rows; without outputs.
fn letters(rows: usize) -> Graph {
    let lines = format!(
        r#"graph "letters" {{
  %0 = input "letters" : i32[6, 4]
  %1 = constant {rows} : i32
  %2 = broadcast[axes=[]](%1) : i32[6, 4]
  %3 = abs(%0) : i32[6, 4]
  %4 = rem(%3, %2) : i32[6, 4]
  %5 = param "table" : f64[{rows}, 3]
  %6 = param "matrix" : f64[3, 5]
  %7 = gather[axis=0, batch=0](%5, %4) : f64[6, 4, 3]
  %8 = dot[batch=0, a=[2], b=[0]](%7, %6) : f64[6, 4, 5]
  %9 = tanh(%8) : f64[6, 4, 5]
  %10 = reduce[op=sum, axes=[0, 1, 2]](%9) : f64
}}"#
    );
    text::parse(&lines).unwrap_or_else(|error| panic!("{error}: {lines}"))
}

/// A step that learns: table and matrix are other ones the next time.
fn step(rows: usize) -> Graph {
    let mut graph = letters(rows);
    let gradients = graph.add(Op::Grad, &[LOSS, TABLE, MATRIX]).unwrap();
    graph.add_output("loss", LOSS, OutputKind::Result);
    graph.add_output("table", gradients[0], OutputKind::Update(TABLE));
    graph.add_output("matrix", gradients[1], OutputKind::Update(MATRIX));
    graph
}

fn answer(rows: usize) -> Graph {
    let mut graph = letters(rows);
    graph.add_output("y", RESULT, OutputKind::Result);
    graph
}

fn optimised(graph: &Graph, fuel: Option<u64>) -> Graph {
    optimise(graph, &Options { fuel, ..Options::default() }).unwrap().graph
}

/// Whether a product of the graph has the rows that are looked up, as one of its free axes or as its terms.
fn multiplies_what_is_looked_up(graph: &Graph) -> bool {
    let products = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Dot { .. }));
    products
        .flat_map(|(_, node)| node.operands.clone())
        .any(|operand| graph.ty(operand).shape.elements().size() >= 24 * 3)
}

#[track_caller]
fn assert_agree(graph: &Graph, made: &Graph, tolerance: f64) {
    let plain = grad::expand(graph);
    for seed in 0..8 {
        let given = random_inputs(graph, seed);
        let (a, b) = (interpret::run(&plain, &given).unwrap(), interpret::run(made, &given).unwrap());
        for (name, expected) in a.outputs() {
            let found = b.output(name).unwrap().to_f64();
            let near = |(x, y): (f64, f64)| (x - y).abs() <= tolerance * (1.0 + x.abs());
            assert!(expected.to_f64().into_iter().zip(found).all(near), "seed {seed}, {name}\n{}", text::print(made));
        }
    }
}

#[test]
fn a_small_table_is_multiplied_and_so_are_its_cotangents() {
    let graph = step(12);
    let made = optimised(&graph, None);
    assert!(!multiplies_what_is_looked_up(&made), "{}", text::print(&made));
    assert_agree(&graph, &made, 1e-12);
}

#[test]
fn a_table_of_more_than_half_as_many_rows_is_not() {
    let made = optimised(&step(13), None);
    assert!(multiplies_what_is_looked_up(&made), "{}", text::print(&made));
}

#[test]
fn a_product_that_stays_is_made_once_if_it_is_no_larger_than_the_matrix() {
    let few = |rows: usize| {
        let lines = text::print(&answer(rows)).replace("[6, 4", "[1, 1");
        text::parse(&lines).unwrap_or_else(|error| panic!("{error}: {lines}"))
    };
    let reads_product = |graph: &Graph| {
        let result = graph.outputs()[0].value;
        let looked_up = graph.definition(graph.definition(result).operands[0]);
        matches!(looked_up.op, Op::Gather { .. })
    };
    let (small, large) = (optimised(&few(3), None), optimised(&few(4), None));
    assert!(reads_product(&small), "{}", text::print(&small));
    assert!(!reads_product(&large), "{}", text::print(&large));
    assert_agree(&few(3), &small, 0.0);
}

#[test]
fn rows_whose_own_derivative_is_asked_for_are_multiplied() {
    let mut graph = letters(12);
    let gradient = graph.add(Op::Grad, &[LOSS, ROWS]).unwrap()[0];
    graph.add_output("derivative", gradient, OutputKind::Result);
    let made = optimised(&graph, None);
    assert_agree(&graph, &made, 0.0);
    assert!(made.ty(made.outputs()[0].value).shape.elements().size() == 72);
}

#[test]
fn it_spends_fuel() {
    let made = optimised(&step(12), Some(0));
    assert!(multiplies_what_is_looked_up(&made), "{}", text::print(&made));
}
