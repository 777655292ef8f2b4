//! Lowered graphs on the kernel interpreter against the graph interpreter: every op and random graphs, fused and
//! unfused, and the same bits whatever the width of the machine.

mod common;

use common::check;
use nnc_graph::testing::{
    GraphOptions, graph_of_one_op, loop_names, op_names, random_graph_with, random_inputs, table_update,
};
use nnc_graph::{
    BinaryOp, BodyTypes, DType, Dim, Graph, Op, OutputKind, ReduceOp, Scan, Shape, SliceRange, Tensor, TensorType,
    UnaryOp, ValueId, interpret,
};
use nnc_kernel::ir::Target;
use nnc_kernel::lower;
use nnc_kernel::plan::run::Finished;
use nnc_opt::fuse::{FuseOptions, partition};
use nnc_opt::{Options, optimise};
use std::collections::BTreeMap;
use std::sync::Arc;

fn check_seeds(name: &str, seeds: std::ops::Range<u64>, make: impl Fn(u64) -> Graph) {
    for seed in seeds {
        let graph = make(seed);
        if let Err(what) = check(&graph, seed) {
            panic!("{name}, seed {seed}: {what}\n{}", nnc_graph::text::print(&graph));
        }
    }
}

#[test]
fn every_op_computes_what_the_interpreter_does() {
    let mut failures = Vec::new();
    for name in op_names() {
        for seed in 0..40 {
            let options = GraphOptions { ops: 1, ..GraphOptions::default() };
            let graph = graph_of_one_op(name, seed, &options).expect("a known name");
            if let Err(what) = check(&graph, seed) {
                failures.push(format!("{name}, seed {seed}: {what}\n{}", nnc_graph::text::print(&graph)));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{} ops fail:\n{}", failures.len(), failures.join("\n"));
}

/// Quotients beyond f32, beyond 2^24, of denormals and of what is no number.
#[test]
fn remainders_of_floats_are_those_of_the_interpreter() {
    let tiny = f64::from(f32::MIN_POSITIVE) / 8.0;
    let pairs = [
        (2.5, -tiny),
        (-2.5, tiny),
        (1e10, 3.0),
        (-1e10, 3.0),
        (3e38, 7e-3),
        (5.5, 2.0),
        (-5.5, 2.0),
        (5.5, -2.0),
        (0.0, 3.0),
        (1.0, 0.0),
        (-1.0, f64::INFINITY),
        (f64::INFINITY, 2.0),
        (f64::NAN, 2.0),
        (tiny, 3.0 * tiny),
        (16777217.0, 2.0),
        (7.0, 7.0),
    ];
    let mut graph = Graph::new("rest");
    let [x, y] = [0, 1].map(|side| {
        let values: Vec<f64> = pairs.iter().map(|&(x, y)| if side == 0 { x } else { y }).collect();
        graph.emit(Op::Constant(Tensor::from_f64(DType::F32, &[pairs.len()], &values)), &[])
    });
    let rest = graph.emit(Op::Binary(BinaryOp::Rem), &[x, y]);
    graph.add_output("rest", rest, OutputKind::Result);
    let defined = interpret::run(&graph, &BTreeMap::new()).unwrap().output("rest").unwrap().to_f64();
    assert!(defined[..12].iter().take(9).all(|rest| rest.is_finite()), "{defined:?}");
    assert_eq!((defined[2], defined[3], defined[5], defined[6], defined[7]), (1.0, 2.0, 1.5, 0.5, -0.5));
    if let Err(what) = check(&graph, 0) {
        panic!("{what}");
    }
}

#[test]
fn loops_compute_what_the_interpreter_does() {
    for name in loop_names() {
        check_seeds(name, 0..60, |seed| graph_of_one_op(name, seed, &GraphOptions::default()).expect("a known name"));
    }
}

/// Two carried values that change places, one that becomes a view of the other, and a stack of what was before.
#[test]
fn carried_values_change_places() {
    let ty = TensorType::new(DType::F32, Shape::of(&[2, 2]));
    let types = BodyTypes { carries: vec![ty.clone(); 3], slices: vec![], captures: vec![] };
    let mut body = Scan::inputs("swap", &types);
    let (a, b, c) = (ValueId(1), ValueId(2), ValueId(3));
    let turned = body.emit(Op::Transpose(vec![1, 0]), &[a]);
    Scan::outputs(&mut body, &[b, a, turned], &[a, c, turned]);
    let mut graph = Graph::new("swap");
    let inputs = ["a", "b", "c"].map(|name| graph.emit(Op::Input { name: name.to_owned(), ty: ty.clone() }, &[]));
    let scan = Scan { body: Arc::new(body), length: Dim::from(3usize), reverse: true, carries: 3, slices: 0 };
    let results = graph.add(Op::Scan(scan), &inputs).unwrap();
    for (at, value) in results.into_iter().enumerate() {
        graph.add_output(&format!("y{at}"), value, OutputKind::Result);
    }
    check(&graph, 1).unwrap();
}

/// Two carried values that are stacked, before a step and after it, over five steps: `c' = c * x + h`, `h' = tanh(c')`.
/// `given` says which results are outputs themselves, the others are read by kernels.
fn trails(reverse: bool, given: &[usize]) -> Graph {
    let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
    let types = BodyTypes { carries: vec![ty(&[3, 19]); 2], slices: vec![ty(&[3, 19])], captures: vec![] };
    let mut body = Scan::inputs("trails", &types);
    let (h, c, x) = (ValueId(1), ValueId(2), ValueId(3));
    let product = body.emit(Op::Binary(BinaryOp::Mul), &[c, x]);
    let next_c = body.emit(Op::Binary(BinaryOp::Add), &[product, h]);
    let next_h = body.emit(Op::Unary(UnaryOp::Tanh), &[next_c]);
    Scan::outputs(&mut body, &[next_h, next_c], &[next_h, h, product, c]);
    let mut graph = Graph::new("trails");
    let inputs = [("h", ty(&[3, 19])), ("c", ty(&[3, 19])), ("x", ty(&[5, 3, 19]))];
    let inputs = inputs.map(|(name, ty)| graph.emit(Op::Input { name: name.to_owned(), ty }, &[]));
    let scan = Scan { body: Arc::new(body), length: Dim::from(5usize), reverse, carries: 2, slices: 1 };
    for (at, result) in graph.add(Op::Scan(scan), &inputs).unwrap().into_iter().enumerate() {
        let read = if given.contains(&at) { result } else { graph.emit(Op::Unary(UnaryOp::Neg), &[result]) };
        graph.add_output(&format!("y{at}"), read, OutputKind::Result);
    }
    graph
}

#[test]
fn a_carried_value_that_is_stacked_is_not_copied() {
    // The results are h, c, and the stacks of h after a step, of h before it, of a product, of c before it.
    let cases: [(&[usize], usize); 5] = [(&[], 0), (&[0, 1], 0), (&[4], 0), (&[2], 1), (&[2, 3, 5], 3)];
    for (reverse, (given, copies)) in [false, true].into_iter().flat_map(|reverse| cases.map(|case| (reverse, case))) {
        let graph = trails(reverse, given);
        check(&graph, 6).unwrap_or_else(|what| panic!("{given:?}, backwards: {reverse}: {what}"));
        let lowered = lower(&graph, &partition(&graph, &FuseOptions::ALL), &Target::new(8)).unwrap();
        let found = lowered.report.iter().filter(|kernel| kernel.name == "copy" && kernel.runs == 5).count();
        assert_eq!(found, copies, "{given:?}, backwards: {reverse}");
    }
}

/// A stack that the loop around stacks in turn lies in a row of that.
#[test]
fn a_trail_within_a_loop() {
    for reverse in [false, true] {
        let inner = trails(reverse, &[]);
        let (_, node) = inner.nodes().find(|(_, node)| matches!(node.op, Op::Scan(_))).unwrap();
        let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
        let types = BodyTypes { carries: vec![ty(&[3, 19]); 2], slices: vec![ty(&[5, 3, 19])], captures: vec![] };
        let mut body = Scan::inputs("blocks", &types);
        let results = body.emit_all(node.op.clone(), &[ValueId(1), ValueId(2), ValueId(3)]);
        let sums = body.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[results[3]]);
        Scan::outputs(&mut body, &results[..2], &[results[2], sums]);
        let mut graph = Graph::new("blocks");
        let inputs = [("h", ty(&[3, 19])), ("c", ty(&[3, 19])), ("x", ty(&[4, 5, 3, 19]))];
        let inputs = inputs.map(|(name, ty)| graph.emit(Op::Input { name: name.to_owned(), ty }, &[]));
        let scan = Scan { body: Arc::new(body), length: Dim::from(4usize), reverse, carries: 2, slices: 1 };
        for (at, result) in graph.add(Op::Scan(scan), &inputs).unwrap().into_iter().enumerate() {
            graph.add_output(&format!("y{at}"), result, OutputKind::Result);
        }
        check(&graph, 7).unwrap_or_else(|what| panic!("backwards: {reverse}: {what}"));
    }
}

/// `h = tanh(h * w) + x`, stacked, over so many steps.
fn recurrence(steps: usize) -> Graph {
    let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
    let types = BodyTypes { carries: vec![ty(&[8])], slices: vec![ty(&[8])], captures: vec![ty(&[8])] };
    let mut body = Scan::inputs("recurrence", &types);
    let product = body.emit(Op::Binary(BinaryOp::Mul), &[ValueId(1), ValueId(3)]);
    let bent = body.emit(Op::Unary(UnaryOp::Tanh), &[product]);
    let next = body.emit(Op::Binary(BinaryOp::Add), &[bent, ValueId(2)]);
    Scan::outputs(&mut body, &[next], &[next]);
    let mut graph = Graph::new("recurrence");
    let inputs = [("h", ty(&[8])), ("x", ty(&[steps, 8])), ("w", ty(&[8]))];
    let inputs = inputs.map(|(name, ty)| graph.emit(Op::Input { name: name.to_owned(), ty }, &[]));
    let scan = Scan { body: Arc::new(body), length: Dim::from(steps), reverse: false, carries: 1, slices: 1 };
    let results = graph.add(Op::Scan(scan), &inputs).unwrap();
    graph.add_output("y", results[1], OutputKind::Result);
    graph
}

#[test]
fn a_long_loop_is_no_more_work_to_compile() {
    let lowered = |steps| {
        let graph = recurrence(steps);
        lower(&graph, &partition(&graph, &FuseOptions::ALL), &Target::new(8)).unwrap()
    };
    let (short, long) = (lowered(3), lowered(1_000_000));
    assert_eq!(short.program.launches.len(), long.program.launches.len());
    assert_eq!(short.program.kernels.len(), long.program.kernels.len());
    assert_eq!(long.program.loops[0].steps, 1_000_000);
    check(&recurrence(300), 5).unwrap();
}

/// What is put together of pieces that are whole vectors, or nearly so, along the innermost axis.
#[test]
fn pieces_of_whole_vectors_are_put_together() {
    for (left, right) in [(16, 32), (8, 8), (12, 4), (5, 11), (64, 16), (1, 16)] {
        let mut graph = Graph::new("pieces");
        let mut input = |name: &str, dims: &[usize]| {
            let ty = TensorType::new(DType::F32, Shape::of(dims));
            graph.emit(Op::Input { name: name.to_owned(), ty }, &[])
        };
        let (a, b, fill) = (input("a", &[3, left]), input("b", &[3, right]), input("fill", &[]));
        let whole = graph.emit(Op::Concat { axis: 1 }, &[a, b, a]);
        let dims = |low: usize, high: usize| {
            (vec![Dim::from(0usize), Dim::from(low)], vec![Dim::from(1usize), Dim::from(high)])
        };
        let (low, high) = dims(left, right);
        let padded = graph.emit(Op::Pad { low, high }, &[b, fill]);
        let doubled = graph.emit(Op::Binary(BinaryOp::Add), &[padded, padded]);
        let flat = graph.emit(Op::Reshape(Shape::of(&[3 * (2 * left + right)])), &[whole]);
        graph.add_output("whole", whole, OutputKind::Result);
        graph.add_output("flat", flat, OutputKind::Result);
        graph.add_output("padded", doubled, OutputKind::Result);
        check(&graph, 2).unwrap();
    }
}

/// A cache that a loop carries gets a row in each step, and is read: `cache[:, i] = x_i; y_i = sum over rows`. With
/// `twice` the old cache is read as well, so that it cannot be updated in place.
fn cache(twice: bool) -> Graph {
    let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
    let types = BodyTypes { carries: vec![ty(&[2, 5, 19])], slices: vec![ty(&[2, 1, 19])], captures: vec![] };
    let mut body = Scan::inputs("cache", &types);
    let (index, old, x) = (ValueId(0), ValueId(1), ValueId(2));
    let new = body.emit(Op::DynamicUpdate { axes: vec![1] }, &[old, x, index]);
    let read = if twice { body.emit(Op::Binary(BinaryOp::Sub), &[new, old]) } else { new };
    let sum = body.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![1] }, &[read]);
    Scan::outputs(&mut body, &[new], &[sum]);
    let mut graph = Graph::new("cache");
    let inputs = [("start", ty(&[2, 5, 19])), ("x", ty(&[5, 2, 1, 19]))];
    let inputs = inputs.map(|(name, ty)| graph.emit(Op::Input { name: name.to_owned(), ty }, &[]));
    let scan = Scan { body: Arc::new(body), length: Dim::from(5usize), reverse: true, carries: 1, slices: 1 };
    let results = graph.add(Op::Scan(scan), &inputs).unwrap();
    graph.add_output("cache", results[0], OutputKind::Result);
    graph.add_output("sums", results[1], OutputKind::Result);
    graph
}

#[test]
fn a_carried_cache_is_updated_in_place_if_nothing_else_reads_it() {
    for twice in [false, true] {
        let graph = cache(twice);
        check(&graph, 4).unwrap();
        let lowered = lower(&graph, &partition(&graph, &FuseOptions::ALL), &Target::new(8)).unwrap();
        let in_place = lowered.program.kernels.iter().any(|kernel| kernel.name == "update");
        assert_eq!(in_place, !twice);
    }
}

/// A cache that a loop carries, of which each of three layers writes its part: `cache[layer] = sum(cache[layer]) + x`.
/// With `late` the first layer's cache is read at the end again, so that they cannot all lie in one place.
fn layered_cache(late: bool) -> Graph {
    let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
    let types = BodyTypes { carries: vec![ty(&[3, 19])], slices: vec![ty(&[1, 19])], captures: vec![] };
    let mut body = Scan::inputs("cache", &types);
    let (mut cache, mut x) = (ValueId(1), ValueId(2));
    let mut first = None;
    for layer in 0..3 {
        let own = |start: usize| SliceRange { start: Dim::from(start), size: Dim::from(1usize), step: 1 };
        let all = SliceRange { start: Dim::from(0usize), size: Dim::from(19usize), step: 1 };
        let part = body.emit(Op::Slice(vec![own(layer), all]), &[cache]);
        x = body.emit(Op::Binary(BinaryOp::Add), &[part, x]);
        let at = body.scalar(DType::I64, layer as f64);
        cache = body.emit(Op::DynamicUpdate { axes: vec![0] }, &[cache, x, at]);
        first = first.or(Some(cache));
    }
    let read = if late { first.unwrap_or(cache) } else { cache };
    let sum = body.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[read]);
    let sum = if late { body.emit(Op::Binary(BinaryOp::Sub), &[sum, sum]) } else { sum };
    let last = body.emit(Op::Reshape(Shape::of(&[19])), &[x]);
    let sum = body.emit(Op::Binary(BinaryOp::Add), &[sum, last]);
    Scan::outputs(&mut body, &[cache], &[sum]);
    let mut graph = Graph::new("cache");
    let inputs = [("start", ty(&[3, 19])), ("x", ty(&[4, 1, 19]))];
    let inputs = inputs.map(|(name, ty)| graph.emit(Op::Input { name: name.to_owned(), ty }, &[]));
    let scan = Scan { body: Arc::new(body), length: Dim::from(4usize), reverse: false, carries: 1, slices: 1 };
    let results = graph.add(Op::Scan(scan), &inputs).unwrap();
    graph.add_output("cache", results[0], OutputKind::Result);
    graph.add_output("sums", results[1], OutputKind::Result);
    graph
}

#[test]
fn updates_that_follow_one_another_lie_in_one_place() {
    for (late, wanted) in [(false, 3), (true, 0)] {
        let graph = layered_cache(late);
        check(&graph, 4).unwrap();
        let lowered = lower(&graph, &partition(&graph, &FuseOptions::ALL), &Target::new(8)).unwrap();
        let kernels = lowered.program.launches.iter().map(|launch| &lowered.program.kernels[launch.kernel as usize]);
        let in_place = kernels.filter(|kernel| kernel.name == "update").count();
        assert_eq!(in_place, wanted, "with late reading {late}");
    }
}

/// What else reads a layered cache of keys in a loop: a decoder's step in small.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Reads {
    /// The new part of each layer alone.
    New,
    /// The old part of a layer after its update, too.
    OldPart,
    /// The whole as it was before all updates, at the end of the step.
    OldWhole,
    /// The whole as it was is stacked.
    Yielded,
    /// A layer's part is updated twice, once to be read alone.
    Twice,
}

/// A cache that a loop carries, `[2, 5, 19]`: each of two layers writes a row of its part at the step's place, and
/// reads the part.
fn cache_of_parts(reads: Reads) -> Graph {
    let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
    let types = BodyTypes { carries: vec![ty(&[2, 5, 19])], slices: vec![ty(&[1, 19])], captures: vec![] };
    let mut body = Scan::inputs("cache", &types);
    let (index, old, x) = (ValueId(0), ValueId(1), ValueId(2));
    let (mut cache, mut sum) = (old, x);
    for layer in 0..2 {
        let ranges = [(layer, 1), (0, 5), (0, 19)];
        let ranges =
            ranges.map(|(start, size): (usize, usize)| SliceRange { start: start.into(), size: size.into(), step: 1 });
        let part = body.emit(Op::Slice(ranges.to_vec()), &[cache]);
        let part = body.emit(Op::Reshape(Shape::of(&[5, 19])), &[part]);
        let new = body.emit(Op::DynamicUpdate { axes: vec![0] }, &[part, sum, index]);
        let read = match reads {
            Reads::OldPart => body.emit(Op::Binary(BinaryOp::Sub), &[new, part]),
            Reads::Twice => {
                let zero = body.scalar(DType::I64, 0.0);
                let other = body.emit(Op::DynamicUpdate { axes: vec![0] }, &[part, x, zero]);
                body.emit(Op::Binary(BinaryOp::Sub), &[new, other])
            }
            Reads::New | Reads::OldWhole | Reads::Yielded => new,
        };
        let seen = body.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[read]);
        sum = body.emit(Op::Reshape(Shape::of(&[1, 19])), &[seen]);
        let entry = body.emit(Op::Reshape(Shape::of(&[1, 5, 19])), &[new]);
        let at = body.scalar(DType::I64, layer as f64);
        cache = body.emit(Op::DynamicUpdate { axes: vec![0] }, &[cache, entry, at]);
    }
    if reads == Reads::OldWhole {
        let seen = body.emit(Op::Reduce { op: ReduceOp::Max, axes: vec![0, 1] }, &[old]);
        let seen = body.emit(Op::Reshape(Shape::of(&[1, 19])), &[seen]);
        sum = body.emit(Op::Binary(BinaryOp::Add), &[sum, seen]);
    }
    Scan::outputs(&mut body, &[cache], &[if reads == Reads::Yielded { old } else { sum }]);
    let mut graph = Graph::new("cache");
    let inputs = [("start", ty(&[2, 5, 19])), ("x", ty(&[5, 1, 19]))];
    let inputs = inputs.map(|(name, ty)| graph.emit(Op::Input { name: name.to_owned(), ty }, &[]));
    let scan = Scan { body: Arc::new(body), length: Dim::from(5usize), reverse: false, carries: 1, slices: 1 };
    let results = graph.add(Op::Scan(scan), &inputs).unwrap();
    graph.add_output("cache", results[0], OutputKind::Result);
    graph.add_output("sums", results[1], OutputKind::Result);
    graph
}

#[test]
fn parts_of_a_carried_cache_are_updated_where_they_lie() {
    for reads in [Reads::New, Reads::OldPart, Reads::OldWhole, Reads::Yielded, Reads::Twice] {
        let graph = cache_of_parts(reads);
        check(&graph, 4).unwrap_or_else(|what| panic!("{reads:?}, as it is: {what}"));
        let optimised = optimise(&graph, &Options::default()).unwrap();
        check(&optimised.graph, 4).unwrap_or_else(|what| panic!("{reads:?}: {what}"));
        let given = random_inputs(&graph, 4);
        let results = |graph: &Graph| {
            let run = interpret::run(graph, &given).unwrap();
            run.outputs().map(|(_, y)| y.bytes().to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(results(&graph), results(&optimised.graph), "{reads:?}");
        let lowered = lower(&optimised.graph, &optimised.partition, &Target::new(8)).unwrap();
        let updates = lowered.report.iter().filter(|kernel| kernel.name == "update" && kernel.runs == 5).count();
        match reads {
            Reads::New => assert_eq!(updates, 2),
            Reads::OldPart => assert!(updates < 2, "the old part is read behind the update"),
            Reads::OldWhole | Reads::Yielded | Reads::Twice => {}
        }
    }
}

/// A carried value is updated twice, and the second update is no link of a chain in place: it writes what it reads, or
/// another update of the same value stands beside it.
#[test]
fn a_chain_is_in_place_as_a_whole_or_not_at_all() {
    let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
    for beside in [false, true] {
        let types = BodyTypes { carries: vec![ty(&[5, 7])], slices: vec![ty(&[1, 7])], captures: vec![] };
        let mut body = Scan::inputs("chain", &types);
        let (old, x) = (ValueId(1), ValueId(2));
        let at = |body: &mut Graph, number: f64| body.scalar(DType::I64, number);
        let (three, one) = (at(&mut body, 3.0), at(&mut body, 1.0));
        let first = body.emit(Op::DynamicUpdate { axes: vec![0] }, &[old, x, three]);
        let range = |start: usize, size: usize| SliceRange { start: Dim::from(start), size: Dim::from(size), step: 1 };
        let part = match beside {
            false => body.emit(Op::Slice(vec![range(0, 3), range(0, 7)]), &[first]),
            true => x,
        };
        let second = body.emit(Op::DynamicUpdate { axes: vec![0] }, &[first, part, one]);
        let read = match beside {
            false => second,
            true => body.emit(Op::DynamicUpdate { axes: vec![0] }, &[first, x, three]),
        };
        let sum = body.emit(Op::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[read]);
        Scan::outputs(&mut body, &[second], &[sum]);
        let mut graph = Graph::new("chain");
        let inputs = [("start", ty(&[5, 7])), ("x", ty(&[4, 1, 7]))];
        let inputs = inputs.map(|(name, ty)| graph.emit(Op::Input { name: name.to_owned(), ty }, &[]));
        let scan = Scan { body: Arc::new(body), length: Dim::from(4usize), reverse: false, carries: 1, slices: 1 };
        let results = graph.add(Op::Scan(scan), &inputs).unwrap();
        graph.add_output("last", results[0], OutputKind::Result);
        graph.add_output("sums", results[1], OutputKind::Result);
        check(&graph, 4).unwrap();
    }
}

/// Four layers of so many squared weights, each with an update in place; all updates stand at the end of the graph and
/// wait for a scalar there.
fn updates(size: usize) -> Graph {
    let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
    let mut graph = Graph::new("updates");
    let mut leaf = |op: Op| graph.emit(op, &[]);
    let x = leaf(Op::Input { name: "x".to_owned(), ty: ty(&[4, size]) });
    let rate = leaf(Op::Input { name: "rate".to_owned(), ty: ty(&[]) });
    let weights: Vec<ValueId> =
        (0..4).map(|at| leaf(Op::Param { path: format!("w{at}"), ty: ty(&[size, size]) })).collect();
    let mut dot = |axis: usize, a: ValueId, b: ValueId| {
        graph.emit(Op::Dot { batch: 0, a_axes: vec![axis], b_axes: vec![0] }, &[a, b])
    };
    let mut gradients = Vec::new();
    let mut at = x;
    for &weight in &weights {
        at = dot(1, at, weight);
        gradients.push(dot(0, at, at));
    }
    let rate = graph.emit(Op::Unary(UnaryOp::Exp), &[rate]);
    let rate = graph.broadcast_scalar(rate, &Shape::of(&[size, size]));
    for (at, (&weight, &gradient)) in weights.iter().zip(&gradients).enumerate() {
        let step = graph.emit(Op::Binary(BinaryOp::Mul), &[rate, gradient]);
        let new = graph.emit(Op::Binary(BinaryOp::Sub), &[weight, step]);
        graph.add_output(&format!("w{at}"), new, OutputKind::Update(weight));
    }
    graph
}

/// Of large gradients one lives at a time. Small ones wait for each other, so that their updates run side by side.
#[test]
fn an_update_runs_while_its_gradient_is_fresh() {
    check(&updates(128), 3).unwrap();
    let lowered = |size| {
        let graph = updates(size);
        lower(&graph, &partition(&graph, &FuseOptions::ALL), &Target::new(8)).unwrap()
    };
    let (small, large) = (lowered(128), lowered(1536));
    assert!(large.arena_bytes < 2 * 1536 * 1536 * 4, "{} bytes", large.arena_bytes);
    let updates = |at: &usize| small.report[*at].name == "map" && small.report[*at].flops > 64;
    let together = small.program.abreast.iter().map(|range| range.clone().filter(updates).count()).max();
    assert_eq!(together, Some(4), "{:?}", small.program.abreast);
}

/// States that change places, which is the same question without a loop.
#[test]
fn states_change_places() {
    let ty = TensorType::new(DType::F32, Shape::of(&[3]));
    let mut graph = Graph::new("swap");
    let [a, b] = ["a", "b"].map(|path| graph.emit(Op::State { path: path.to_owned(), ty: ty.clone() }, &[]));
    graph.add_output("a", b, OutputKind::Update(a));
    graph.add_output("b", a, OutputKind::Update(b));
    check(&graph, 1).unwrap();
}

#[test]
fn random_graphs_compute_what_the_interpreter_does() {
    check_seeds("random graph", 0..120, |seed| random_graph_with(seed, &GraphOptions::default()));
}

#[test]
fn random_graphs_in_f64() {
    let options = GraphOptions { float: DType::F64, ..GraphOptions::default() };
    check_seeds("random f64 graph", 0..40, |seed| random_graph_with(seed, &options));
}

/// Tables whose rows are divided among tasks, whose columns are, and both, with a rest or without.
const TABLES: [([usize; 2], usize); 6] =
    [([400, 300], 9), ([37, 20], 50), ([12, 200], 100), ([10, 1], 30), ([10, 65], 1), ([11, 64], 12)];

#[test]
fn tables_are_updated_by_their_rows() {
    for (seed, (dims, count)) in (0..).zip(TABLES) {
        for momentum in [false, true] {
            let graph = table_update(dims, count, momentum);
            let groups = partition(&graph, &FuseOptions::ALL).groups;
            assert_eq!(groups.iter().filter(|group| !group.outputs.is_empty()).count(), 2, "indices, and the rest");
            check(&graph, seed).unwrap_or_else(|what| panic!("{dims:?}, {count} updates: {what}"));
        }
    }
}

/// Rows that have no update are left alone only if the update would store what is there: with rates that make -0 or no
/// number of a gradient of 0, and weights that are -0 or infinite.
#[test]
fn what_is_left_out_of_an_update_would_change_nothing() {
    let graph = table_update([40, 19], 7, false);
    let mut given = random_inputs(&graph, 3);
    let odd = [-0.0, 0.0, f64::INFINITY, 1.5];
    let weights: Vec<f64> = (0..40 * 19).map(|at| odd[at % odd.len()]).collect();
    given.insert("w".to_owned(), Tensor::from_f64(DType::F32, &[40, 19], &weights));
    for rate in [0.5, -0.5, 0.0, -0.0, f64::INFINITY, f64::NAN] {
        given.insert("rate".to_owned(), Tensor::scalar(DType::F32, rate));
        let [fused, unfused] = [FuseOptions::ALL, FuseOptions::NONE]
            .map(|fuse| common::lowered_run(&graph, &given, &fuse, 8).unwrap().updated["w"].to_f64());
        let same = |(x, y): (&f64, &f64)| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
        assert!(fused.iter().zip(&unfused).all(same), "rate {rate}: {fused:?}\n{unfused:?}");
    }
}

#[test]
fn an_index_outside_of_a_table_is_told_and_its_update_left_out() {
    for (dims, count) in [([400, 300], 3), ([9, 200], 10)] {
        let graph = table_update(dims, count, false);
        let mut given = random_inputs(&graph, 5);
        let at = |last: f64| Tensor::from_f64(DType::I32, &[count], &[&vec![1.0; count - 1][..], &[last]].concat());
        let mut run = |last: f64| {
            given.insert("index".to_owned(), at(last));
            common::lowered_run(&graph, &given, &FuseOptions::ALL, 8).unwrap()
        };
        let (inside, outside) = (run(2.0), run(dims[0] as f64));
        assert_eq!(inside.status, [0; 4]);
        assert_eq!(outside.status[0], nnc_kernel::lower::STATUS_INDEX);
        let rows = |run: &Finished| run.updated["w"].to_f64()[..2 * dims[1]].to_vec();
        assert_eq!(rows(&inside), rows(&outside));
    }
}

/// A count of words that is a state: the rows that are not named are where they were.
#[test]
fn a_state_is_added_to_in_place() {
    let text = "graph \"count\" {
  %0 = state \"seen\" : i32[50, 3]
  %1 = input \"words\" : i32[20]
  %2 = abs(%1) : i32[20]
  %3 = constant 1 : i32
  %4 = broadcast[axes=[]](%3) : i32[20, 3]
  %5 = scatter_add[axis=0, batch=0](%0, %2, %4) : i32[50, 3]
  update \"seen\" = %5 over %0
}
";
    let graph = nnc_graph::text::parse(text).unwrap();
    check(&graph, 2).unwrap();
    let lowered = lower(&graph, &partition(&graph, &FuseOptions::ALL), &Target::new(8)).unwrap();
    let how = &lowered.report[1].how;
    assert!(how.contains("rows without an index stay"), "{how}");
}

/// What follows from constants, computed by a kernel that computes something else of every run too, or given out, is
/// made in every run: nothing that is made once may read it.
#[test]
fn constants_of_mixed_kernels_are_no_constants() {
    let text = "graph \"mixed\" {
  %0 = param \"w\" : f32[3]
  %1 = constant 1 : i64
  %2 = constant 3 : i64
  %3 = rem(%1, %2) : i64
  %4 = input \"at\" : i64
  %5 = rem(%4, %2) : i64
  %6 = constant 0.5 : f32
  %7 = scatter_add[axis=0, batch=0](%0, %3, %6) : f32[3]
  %8 = tanh(%7) : f32[3]
  %9 = gather[axis=0, batch=0](%8, %5) : f32
  %10 = abs(%0) : f32[3]
  %11 = reduce[op=sum, axes=[0]](%10) : f32
  output \"y\" = %9
  output \"z\" = %10
  output \"s\" = %11
}
";
    let graph = nnc_graph::text::parse(text).unwrap();
    for seed in 0..4 {
        check(&graph, seed).unwrap();
    }
}

/// A product of places by a matrix, of bytes whose channels lie apart, as those of an image that comes in so.
fn places_with_channels_first(images: usize) -> Graph {
    let ty = |dtype, dims: &[usize]| TensorType::new(dtype, Shape::of(dims));
    let mut graph = Graph::new("places");
    let image = ty(DType::U8, &[images, 24, 5, 5]);
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty: image }, &[]);
    let w = graph.emit(Op::Param { path: "w".to_owned(), ty: ty(DType::I8, &[32, 24]) }, &[]);
    let x = graph.emit(Op::Transpose(vec![0, 2, 3, 1]), &[x]);
    let x = graph.emit(Op::Reshape(Shape::of(&[25 * images, 24])), &[x]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![1] }, &[x, w]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

#[test]
fn bytes_that_lie_apart_are_multiplied_as_bytes() {
    for images in [1, 3] {
        let graph = places_with_channels_first(images);
        check(&graph, 4).unwrap();
        let lowered = lower(&graph, &partition(&graph, &FuseOptions::ALL), &Target::new(16)).unwrap();
        let names: Vec<&str> = lowered.report.iter().map(|kernel| kernel.name.as_str()).collect();
        assert!(lowered.report.iter().any(|kernel| kernel.how.contains("of bytes")), "{names:?}");
        assert!(!names.contains(&"widen"), "{names:?}");
    }
}

/// A row of bytes by a large matrix: never wider than bytes, however the matrix lies.
#[test]
fn a_row_of_bytes_by_a_large_matrix_reads_bytes() {
    for (rows, turned) in [(1, false), (1, true), (4, false), (5, false)] {
        let ty = |dtype, dims: [usize; 2]| TensorType::new(dtype, Shape::of(&dims));
        let mut graph = Graph::new("row");
        let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(DType::U8, [rows, 1024]) }, &[]);
        let dims = if turned { [512, 1024] } else { [1024, 512] };
        let w = graph.emit(Op::Param { path: "w".to_owned(), ty: ty(DType::I8, dims) }, &[]);
        let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![usize::from(turned)] }, &[x, w]);
        graph.add_output("y", y, OutputKind::Result);
        let lowered = lower(&graph, &partition(&graph, &FuseOptions::ALL), &Target::new(16)).unwrap();
        let names: Vec<&str> = lowered.report.iter().map(|kernel| kernel.name.as_str()).collect();
        assert!(lowered.report.iter().any(|kernel| kernel.how.contains("of bytes")), "{names:?}");
        assert!(!names.contains(&"widen"), "{names:?}");
        common::check_widths(&graph, 3, &[4, 16]).unwrap();
    }
}
