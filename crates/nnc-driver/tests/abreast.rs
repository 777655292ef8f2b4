//! Launches side by side in training steps: there are some, and none touches what another writes.

use nnc_driver::stage::{self, Which};
use nnc_driver::{Compiler, Engine, Project};
use nnc_kernel::Lowered;
use nnc_kernel::ir::Direction;
use nnc_lang::elaborate::Options;
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The memory that a launch touches: the buffer, the bytes in it, and whether it writes them.
fn touched(lowered: &Lowered, launch: usize) -> Vec<(u32, Range<u64>, bool)> {
    let Lowered { program, report, .. } = lowered;
    let params = &program.kernels[program.launches[launch].kernel as usize].params;
    let args = program.launches[launch].args.iter().zip(&report[launch].sizes).zip(params);
    args.map(|((arg, bytes), param)| (arg.buffer, arg.offset..arg.offset + bytes, param.direction != Direction::In))
        .collect()
}

/// Whether one of two launches writes what the other touches.
fn clash(lowered: &Lowered, one: usize, other: usize) -> bool {
    let other = touched(lowered, other);
    touched(lowered, one).iter().any(|(buffer, bytes, writes)| {
        other.iter().any(|(also, others, written)| {
            buffer == also && (*writes || *written) && bytes.start < others.end && others.start < bytes.end
        })
    })
}

fn training_step(name: &str) -> Lowered {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/models").join(name);
    let project = Project::load(&path, &Options::default()).unwrap();
    let pool = Arc::new(Pool::new(NonZeroUsize::MIN).unwrap());
    let compiler = Compiler { engine: Engine::host(), pool, passes: pipeline::Options::default(), tuning: None };
    let graph = stage::graph(&project, None, Which::Train, None).unwrap();
    compiler.compile(&graph).unwrap().lowered().unwrap().clone()
}

#[test]
fn launches_side_by_side_keep_apart() {
    for name in ["mlp.nn", "autoencoder.nn", "seed_cnn.nn", "mnist_cnn.nn", "nanogpt.nn"] {
        let lowered = training_step(name);
        let together = &lowered.program.abreast;
        assert!(!together.is_empty(), "{name}: every launch runs by itself");
        assert!(together.is_sorted_by_key(|range| range.start));
        for range in together {
            for one in range.clone() {
                assert!(
                    range.clone().skip(1).all(|other| other <= one || !clash(&lowered, one, other)),
                    "{name}: {range:?}"
                );
            }
        }
    }
}

/// The gradients that come last are for one launch of all updates.
#[test]
fn updates_that_follow_one_another_are_one_launch() {
    let lowered = training_step("mnist_cnn.nn");
    let last = lowered.program.abreast.last().unwrap();
    assert_eq!(last.end, lowered.report.len());
    let updates = last.clone().filter(|&at| lowered.report[at].name == "map").count();
    assert_eq!(updates, 3, "every matrix and kernel but the first one's, whose update is beside its gradient");
}
