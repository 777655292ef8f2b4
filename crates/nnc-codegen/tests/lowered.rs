//! Whole graphs: what the lowering makes of every op and of random graphs, compiled, against the kernel interpreter,
//! bit for bit, at every width.

mod common;

use nnc_graph::testing::{GraphOptions, graph_of_one_op, op_names, random_graph_with, random_inputs};
use nnc_graph::{Graph, text};
use nnc_kernel::ir::{Elem, Target, interpret};
use nnc_kernel::{Access, LowerError, Lowered, lower, plan};
use nnc_opt::fuse::{FuseOptions, partition};

fn lowered(graph: &Graph, fuse: &FuseOptions, f32_lanes: u8) -> Option<Lowered> {
    match lower(graph, &partition(graph, fuse), &Target { f32_lanes }) {
        Ok(lowered) => Some(lowered),
        Err(LowerError::Unsupported(_)) => None,
        Err(bug @ LowerError::Bug(_)) => panic!("{bug}\n{}", text::print(graph)),
    }
}

/// Whether the graph could be lowered; panics where the engines differ.
fn check(graph: &Graph, seed: u64) -> bool {
    let given = random_inputs(graph, seed);
    for (fuse, f32_lanes) in [(FuseOptions::ALL, 4), (FuseOptions::ALL, 16), (FuseOptions::NONE, 8)] {
        let Some(lowered) = lowered(graph, &fuse, f32_lanes) else { return false };
        let mut expected = vec![vec![0x5a; lowered.arena_bytes]];
        expected.extend(lowered.externals.iter().map(|external| plan::run::initial(external, &given).unwrap()));
        let initial = expected.clone();
        interpret::run(&lowered.program, &mut expected).unwrap();
        let written = lowered.externals.iter().enumerate().filter(|(_, external)| external.access != Access::Read);
        let list = written.map(|(number, external)| {
            (number + 1, Elem::from_name(external.ty.dtype.name()).unwrap(), &expected[number + 1][..])
        });
        common::export(&lowered.program, &initial, &list.collect::<Vec<_>>());
        for backend in common::backends() {
            let mut found = initial.clone();
            common::run_compiled(&lowered.program, backend, &mut found);
            for (number, external) in lowered.externals.iter().enumerate() {
                let elem = Elem::from_name(external.ty.dtype.name()).unwrap();
                if external.access == Access::Read {
                    continue;
                }
                let at = common::first_difference(elem, &expected[number + 1], &found[number + 1]);
                let (role, source) = (&external.role, text::print(graph));
                assert_eq!(at, None, "{backend}, {role:?} in {f32_lanes} lanes, seed {seed}:\n{source}");
            }
        }
    }
    true
}

#[test]
fn every_op() {
    let mut lowerable = 0;
    for name in op_names() {
        for seed in 0..4 {
            if let Some(graph) = graph_of_one_op(name, seed, &GraphOptions::default()) {
                lowerable += usize::from(check(&graph, seed));
            }
        }
    }
    assert!(lowerable > 50, "only {lowerable} graphs could be lowered");
}

#[test]
fn random_graphs() {
    let lowerable = (0..60).filter(|&seed| check(&random_graph_with(seed, &GraphOptions::default()), seed)).count();
    assert!(lowerable > 30, "only {lowerable} graphs could be lowered");
}
