//! Graphs as what lowering makes of them, on the kernel interpreter and on every engine.

use nnc_graph::testing::random_inputs;
use nnc_graph::{Graph, Tensor, text};
use nnc_kernel::ir::{Elem, Target, interpret};
use nnc_kernel::program::verify::verify_program;
use nnc_kernel::{Access, LowerError, Lowered, lower, plan};
use nnc_opt::fuse::{FuseOptions, partition};
use std::collections::BTreeMap;

/// A graph as kernels for vectors of so many floats, if it can be lowered.
pub fn lowered(graph: &Graph, fuse: &FuseOptions, f32_lanes: u8) -> Option<Lowered> {
    match lower(graph, &partition(graph, fuse), &Target::new(f32_lanes)) {
        Ok(lowered) => Some(lowered),
        Err(LowerError::Unsupported(_)) => None,
        Err(bug @ LowerError::Bug(_)) => panic!("{bug}\n{}", text::print(graph)),
    }
}

/// Whether the graph could be lowered; panics where the engines differ.
pub fn check(graph: &Graph, seed: u64) -> bool {
    check_on(graph, &random_inputs(graph, seed), seed)
}

/// As [`check`], on these inputs and parameters.
pub fn check_on(graph: &Graph, given: &BTreeMap<String, Tensor>, seed: u64) -> bool {
    for (fuse, f32_lanes) in [(FuseOptions::ALL, 4), (FuseOptions::ALL, 16), (FuseOptions::NONE, 8)] {
        let Some(lowered) = lowered(graph, &fuse, f32_lanes) else { return false };
        let violations = verify_program(&lowered.program).err();
        assert!(violations.is_none(), "{f32_lanes} lanes: {violations:?}\n{}", text::print(graph));
        let mut expected = vec![vec![0x5a; lowered.arena_bytes]];
        expected.extend(lowered.externals.iter().map(|external| plan::run::initial(external, given).unwrap()));
        let initial = expected.clone();
        interpret::run(&lowered.program, &mut expected).unwrap();
        let written = lowered.externals.iter().enumerate().filter(|(_, external)| external.access != Access::Read);
        let list = written.map(|(number, external)| {
            (number + 1, Elem::from_name(external.ty.dtype.name()).unwrap(), &expected[number + 1][..])
        });
        super::export(&lowered.program, &initial, &list.collect::<Vec<_>>());
        for backend in super::backends() {
            let mut found = initial.clone();
            super::run_compiled(&lowered.program, backend, &mut found);
            for (number, external) in lowered.externals.iter().enumerate() {
                let elem = Elem::from_name(external.ty.dtype.name()).unwrap();
                if external.access == Access::Read {
                    continue;
                }
                let at = super::first_difference(elem, &expected[number + 1], &found[number + 1]);
                let (role, source) = (&external.role, text::print(graph));
                assert_eq!(at, None, "{backend}, {role:?} in {f32_lanes} lanes, seed {seed}:\n{source}");
            }
        }
    }
    true
}
