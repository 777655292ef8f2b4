//! Other schedules of a product give the same bits; predictions follow from the program alone.

mod common;

use nnc_graph::testing::{conv, dot, input, random_inputs};
use nnc_graph::{DType, Graph, Op, OutputKind, ReduceOp, Shape, TensorType, UnaryOp};
use nnc_kernel::ir::Target;
use nnc_kernel::plan::run::{Finished, run};
use nnc_kernel::predict::{Bound, Machine, predict};
use nnc_kernel::program::verify::verify_program;
use nnc_kernel::{Alternatives, Choice, Lowered, Tuning, lower, lower_with};
use nnc_opt::{Optimised, Options, optimise};

fn optimised(graph: &Graph) -> Optimised {
    optimise(graph, &Options { winograd: false, ..Options::default() }).unwrap()
}

fn tuned(optimised: &Optimised, lanes: u8, tuning: &Tuning) -> Lowered {
    let target = Target { winograd: false, ..Target::new(lanes) };
    let lowered = lower_with(&optimised.graph, &optimised.partition, &target, Some(tuning)).unwrap();
    assert!(verify_program(&lowered.program).is_ok());
    lowered
}

fn alternatives(lowered: &Lowered) -> Vec<Alternatives> {
    lowered.report.iter().filter_map(|kernel| kernel.alternatives.clone()).collect()
}

#[test]
fn every_schedule_gives_the_same_bits() {
    let products = [dot(40, 96, 70), dot(2, 300, 33), dot(130, 20, 24), dot(66, 530, 70)];
    for graph in products.into_iter().chain([conv(8, 14, 24, 3), conv(16, 9, 40, 1)]) {
        let optimised = optimised(&graph);
        let given = random_inputs(&graph, 7);
        let mut first: Option<Finished> = None;
        for lanes in [4, 8, 16] {
            let mut others = 0;
            for alternatives in alternatives(&tuned(&optimised, lanes, &Tuning::default())) {
                assert_eq!(alternatives.taken, 0);
                for (rank, &choice) in alternatives.ranked.iter().enumerate() {
                    let mut tuning = Tuning::default();
                    tuning.set(&alternatives.key, choice);
                    let lowered = tuned(&optimised, lanes, &tuning);
                    let found = self::alternatives(&lowered);
                    assert!(found.iter().any(|other| other.key == alternatives.key && other.taken == rank));
                    others += usize::from(rank > 0);
                    let result = run(&lowered, &given).unwrap();
                    let expected = first.get_or_insert_with(|| result.clone());
                    assert!(*expected == result, "{}, {lanes} lanes: {choice}", alternatives.key);
                }
            }
            assert!(others > 0, "{lanes} lanes: a product has other schedules");
        }
    }
}

/// How the product of a graph is cut, in words.
fn how(graph: &Graph, lanes: u8) -> String {
    let optimised = optimised(graph);
    let lowered = lower(&optimised.graph, &optimised.partition, &Target::new(lanes)).unwrap();
    lowered.report.iter().find(|kernel| kernel.name == "dot").unwrap().how.clone()
}

/// All terms of a product of many rows are added in registers as long as a panel with them stays in the second cache;
/// the rows, whose distance is a page here, must not crowd the lines of the first.
#[test]
fn all_terms_are_added_at_a_time_where_a_panel_of_them_stays() {
    for lanes in [8, 16] {
        let large = how(&dot(1024, 1024, 1024), lanes);
        assert!(large.contains("1024 terms at a time, packed by each"), "{large}");
        let rows: usize = large.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(rows <= 6, "{large}");
        let few = how(&dot(32, 1024, 1024), lanes);
        assert!(few.contains(" 256 terms at a time"), "{few}");
        let deep = how(&dot(1024, 16_384, 64), lanes);
        assert!(!deep.contains("16384 terms"), "{deep}");
    }
}

#[test]
fn a_tuning_that_names_nothing_or_nonsense_changes_nothing() {
    let optimised = optimised(&dot(64, 64, 64));
    let target = Target { winograd: false, ..Target::new(8) };
    let plain = lower(&optimised.graph, &optimised.partition, &target).unwrap();
    assert!(alternatives(&plain).is_empty(), "nobody asked");
    let empty = tuned(&optimised, 8, &Tuning::default());
    assert!(plain.program == empty.program);
    let mut tuning = Tuning::default();
    let nonsense = Choice { tile_rows: 1000, tile_vectors: 1000, rows: 0, columns: 0 };
    alternatives(&empty).iter().for_each(|alternatives| tuning.set(&alternatives.key, nonsense));
    tuning.set("another", nonsense);
    assert!(plain.program == tuned(&optimised, 8, &tuning).program);
}

/// The longest launch of a graph on such a machine: seconds, what bounds it, GFLOP/s.
fn predicted(graph: &Graph, lanes: u8, threads: usize) -> (f64, Bound, f64) {
    let optimised = optimised(graph);
    let target = Target { winograd: false, ..Target::new(lanes) };
    let lowered = lower(&optimised.graph, &optimised.partition, &target).unwrap();
    let machine = Machine::of(&target);
    let found = predict(&lowered, &machine, threads);
    assert_eq!(found.len(), lowered.report.len());
    assert!(found == predict(&lowered, &machine, threads), "pure");
    let longest = found.into_iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds)).unwrap();
    (longest.seconds, longest.bound, longest.gflops)
}

#[test]
fn a_large_product_is_bound_by_arithmetic_near_the_peak() {
    for lanes in [4, 8, 16] {
        let peak = Machine::of(&Target::new(lanes)).peak(1) / 1e9;
        let (seconds, bound, gflops) = predicted(&dot(1024, 1024, 1024), lanes, 1);
        assert_eq!(bound, Bound::Arithmetic);
        assert!(gflops > 0.7 * peak && gflops < peak, "{lanes} lanes: {gflops} of {peak}");
        let (both, _, _) = predicted(&dot(1024, 1024, 1024), lanes, 2);
        assert!(both > 0.49 * seconds && both < 0.6 * seconds, "{lanes} lanes: {both} of {seconds}");
    }
}

/// Products of bytes by one instruction are predicted to be several times as fast as by a few, and as those of floats.
#[test]
fn an_instruction_for_bytes_is_predicted() {
    let mut graph = Graph::new("bytes");
    let ty = |dtype, dims: &[usize]| TensorType::new(dtype, Shape::of(dims));
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(DType::U8, &[512, 512]) }, &[]);
    let w = graph.emit(Op::Param { path: "w".to_owned(), ty: ty(DType::I8, &[512, 512]) }, &[]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
    graph.add_output("y", y, OutputKind::Result);
    let optimised = optimised(&graph);
    let seconds = |has_byte_products| {
        let target = Target { has_byte_products, ..Target::new(8) };
        let lowered = lower(&optimised.graph, &optimised.partition, &target).unwrap();
        let predictions = predict(&lowered, &Machine::of(&target), 1);
        predictions.iter().map(|prediction| prediction.seconds).fold(0.0, f64::max)
    };
    let [one, several] = [true, false].map(seconds);
    let (floats, ..) = predicted(&dot(512, 512, 512), 8, 1);
    assert!(one < several / 3.0 && one < floats / 2.5, "{one} {several} {floats}");
}

#[test]
fn a_row_by_a_large_matrix_is_bound_by_memory_and_a_small_product_is_not_shared() {
    let (seconds, bound, _) = predicted(&dot(1, 4096, 4096), 16, 1);
    let least = 4096.0 * 4096.0 * 4.0 / Machine::of(&Target::new(16)).memory_rate(1);
    assert_eq!(bound, Bound::Memory);
    assert!(seconds >= least && seconds < 2.5 * least, "{seconds} beside {least}");
    let small = dot(8, 8, 8);
    assert_eq!(predicted(&small, 16, 1).0, predicted(&small, 16, 2).0, "runs on the calling thread");
}

/// What is done once, before the first run, has its bytes and its time as well.
#[test]
fn packing_is_predicted_too() {
    let mut graph = Graph::new("packed");
    let x = input(&mut graph, "x", &[7, 300]);
    let ty = TensorType::new(DType::F32, Shape::of(&[300, 400]));
    let w = graph.emit(Op::Param { path: "w".to_owned(), ty }, &[]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
    graph.add_output("y", y, OutputKind::Result);
    let optimised = optimised(&graph);
    let target = Target::new(16);
    let lowered = lower(&optimised.graph, &optimised.partition, &target).unwrap();
    assert_eq!((lowered.report[0].name.as_str(), lowered.report[0].runs), ("pack", 0));
    let pack = predict(&lowered, &Machine::of(&target), 1)[0];
    let matrix = 300.0 * 400.0 * 4.0;
    assert!((2.0 * matrix..4.0 * matrix).contains(&pack.traffic.bytes()), "read and written: {pack:?}");
    assert!(pack.data > 0.0 && pack.seconds >= pack.data, "{pack:?}");
}

#[test]
fn a_faster_machine_is_predicted_to_be_faster() {
    let machine = Machine::of(&Target::new(8));
    let faster = machine.with_rates(2.0 * machine.peak(2), 3.0 * machine.memory_rate(2), 2);
    assert!((faster.hertz / machine.hertz - 2.0).abs() < 1e-9);
    assert!((faster.memory_rate(2) / machine.memory_rate(2) - 3.0).abs() < 1e-9);
}

/// A sum of so many numbers, each of which goes through so many functions first.
fn sum_behind(functions: usize) -> Graph {
    let mut graph = Graph::new("sum");
    let x = input(&mut graph, "x", &[150_000]);
    let value = (0..functions).fold(x, |value, _| graph.emit(Op::Unary(UnaryOp::Sin), &[value]));
    let sum = graph.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[value]);
    graph.add_output("y", sum, OutputKind::Result);
    graph
}

/// Where a sum is cut is where it is rounded: what is fused into its kernel, as what is computed again where memory is
/// short, must not move that.
#[test]
fn sums_are_cut_by_their_shapes_alone() {
    let tasks = |functions: usize| {
        let graph = sum_behind(functions);
        let optimised = optimised(&graph);
        let lowered = lower(&optimised.graph, &optimised.partition, &Target::new(8)).unwrap();
        lowered.report.last().unwrap().tasks.clone()
    };
    assert!(tasks(0)[0] > 1, "{:?}", tasks(0));
    assert_eq!(tasks(0), tasks(1));
    assert_eq!(tasks(0), tasks(12));
}
