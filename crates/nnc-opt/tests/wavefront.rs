//! Loops over blocks of steps: what becomes one, what is left, and that the bits stay.

use nnc_graph::testing::{Layers, random_inputs};
use nnc_graph::{Graph, Op, OutputKind, Scan, interpret, verify};
use nnc_opt::{Options, optimise};

fn optimised(graph: &Graph, least_chain: usize) -> Graph {
    optimise(graph, &Options { least_chain, ..Options::default() }).unwrap().graph
}

fn loops(graph: &Graph) -> Vec<&Scan> {
    let loops = graph.nodes().filter_map(|(_, node)| match &node.op {
        Op::Scan(scan) => Some(scan),
        _ => None,
    });
    loops.collect()
}

/// The graph with one loop over blocks; panics where that computes something else.
fn blocked(layers: &Layers) -> Graph {
    let graph = layers.graph();
    let (plain, blocked) = (optimised(&graph, usize::MAX), optimised(&graph, 0));
    verify::verify_lowerable(&blocked).unwrap();
    assert_eq!(loops(&plain).len(), layers.count, "{layers:?}");
    for seed in 0..3 {
        let given = random_inputs(&graph, seed);
        let (a, b) = (interpret::run(&plain, &given).unwrap(), interpret::run(&blocked, &given).unwrap());
        for (output, value) in a.outputs() {
            assert_eq!(Some(value), b.output(output), "{layers:?}, seed {seed}, {output}");
        }
    }
    blocked
}

#[test]
fn layers_become_one_loop_over_blocks() {
    let plain = Layers::new(2, 1, 40, 5);
    let cases = [
        Layers { rows: 3, ..plain.clone() },
        Layers { reverse: true, ..plain.clone() },
        Layers { rows: 2, residual: true, ..plain.clone() },
        Layers { count: 4, residual: true, reverse: true, ..plain.clone() },
        Layers { steps: 36, ..plain.clone() },
        plain,
    ];
    for layers in &cases {
        let graph = blocked(layers);
        let [outer] = loops(&graph)[..] else { panic!("{layers:?}: not one loop") };
        assert_eq!(loops(&outer.body).len(), layers.count);
        let block = loops(&outer.body)[0].length.size();
        assert!(block >= 8 && block * outer.length.size() == layers.steps);
        // The products before the loops are computed block by block, too.
        let products = |graph: &Graph| graph.nodes().filter(|(_, node)| matches!(node.op, Op::Dot { .. })).count();
        assert_eq!((products(&graph), products(&outer.body)), (0, layers.count));
    }
}

#[test]
fn some_loops_stay_as_they_are() {
    let plain = Layers::new(2, 1, 40, 5);
    let left = [
        // One loop has none to follow it.
        Layers { count: 1, ..plain.clone() },
        // The second begins with what the first ends with.
        Layers { handed_on: true, ..plain.clone() },
        Layers { counted: true, ..plain.clone() },
        // No number of steps from 8 on divides these four times or more.
        Layers { steps: 37, ..plain.clone() },
        Layers { steps: 33, ..plain.clone() },
        Layers { steps: 24, ..plain.clone() },
        // Heavy steps, and weights that no core keeps by itself.
        Layers { rows: 600, width: 32, steps: 32, ..plain.clone() },
        Layers { width: 400, steps: 32, ..plain.clone() },
    ];
    for layers in &left {
        let graph = optimised(&layers.graph(), 0);
        assert_eq!(loops(&graph).len(), layers.count, "{layers:?}");
    }
}

#[test]
fn little_work_and_training_stay_as_they_are() {
    let layers = Layers::new(2, 1, 40, 5);
    assert_eq!(loops(&optimised(&layers.graph(), Options::default().least_chain)).len(), 2);
    let mut updating = layers.graph();
    let param = updating.nodes().find(|(_, node)| matches!(node.op, Op::Param { .. })).unwrap().1.results[0];
    let ty = updating.ty(param).clone();
    let zero = updating.splat(&ty, 0.0);
    updating.add_output("layer[0].u", zero, OutputKind::Update(param));
    assert_eq!(loops(&optimised(&updating, 0)).len(), 2);
}
