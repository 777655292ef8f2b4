//! Attention in one kernel: what it computes, at every size and with every mask, and what it leaves in memory.

mod common;

use common::{check_widths, lowered_run};
use nnc_graph::testing::{Attention, Mask, Rng, random_inputs};
use nnc_graph::{DType, Graph, Tensor};
use nnc_kernel::ir::Target;
use nnc_kernel::lower;
use nnc_opt::fuse::{FuseOptions, GroupKind, Partition, partition};
use nnc_opt::{Options, optimise};

const MASKS: [Mask; 4] = [Mask::None, Mask::Causal, Mask::Padding, Mask::Added];

/// With scores made again for the derivative, however few they are.
fn optimised(attention: &Attention) -> Graph {
    let fuse = FuseOptions { kept_scores: 0, ..FuseOptions::ALL };
    optimise(&attention.graph(), &Options { fuse, ..Options::default() }).unwrap().graph
}

fn attentions(partition: &Partition) -> usize {
    partition.groups.iter().filter(|group| group.kind == GroupKind::Attention).count()
}

/// Checks it against the interpreter, that it is fused, and that the bits are those of the single kernels.
fn check(attention: &Attention, seed: u64) {
    let graph = optimised(attention);
    let wanted = 1 + usize::from(attention.derivative);
    let groups = partition(&graph, &FuseOptions::ALL);
    assert_eq!(attentions(&groups), wanted, "{attention:?}: {:#?}", groups.decisions);
    check_widths(&graph, seed, &[4, 8, 16]).unwrap_or_else(|what| panic!("{attention:?}: {what}"));
    let given = random_inputs(&graph, seed);
    let single = FuseOptions { attention: false, ..FuseOptions::ALL };
    let of = |fuse| lowered_run(&graph, &given, fuse, 8).unwrap().outputs;
    assert_eq!(of(&FuseOptions::ALL), of(&single), "{attention:?}: other bits than those of single kernels");
}

#[test]
fn every_mask_at_odd_sizes() {
    for (at, mask) in MASKS.into_iter().enumerate() {
        let odd = Attention::new(&[2, 3], 19, 101, 5).masked(mask);
        check(&Attention { values: 7, ..odd.clone() }, at as u64);
        check(&Attention { heads: true, ..odd.clone() }, at as u64);
        check(&odd.derived(), at as u64);
    }
}

#[test]
fn random_sizes() {
    for seed in 0..16 {
        let mut rng = Rng::new(seed);
        let mut size = |low: i64, high: i64| rng.int(low, high) as usize;
        let batch: Vec<usize> = (0..size(1, 2)).map(|_| 2).collect();
        let batch = if batch.len() == 1 { vec![4] } else { batch };
        let attention = Attention::new(&batch, size(16, 90), size(96, 150), size(1, 12)).masked(MASKS[size(0, 3)]);
        let attention = Attention { values: size(1, 20), heads: batch.len() > 1 && size(0, 1) == 1, ..attention };
        check(&if size(0, 1) == 1 { attention.derived() } else { attention }, seed);
    }
}

#[test]
fn doubles() {
    check(&Attention { dtype: DType::F64, ..Attention::new(&[4], 98, 97, 6).masked(Mask::Causal) }.derived(), 3);
}

/// Rows of queries that are a multiple of 4096 bytes apart are brought together.
#[test]
fn queries_far_apart() {
    check(&Attention { heads: true, ..Attention::new(&[1, 64], 17, 96, 16) }, 4);
}

/// The bits of two results, any NaN like any other.
fn numbers(finished: &std::collections::BTreeMap<String, Tensor>) -> Vec<Option<u64>> {
    let all = finished.values().flat_map(Tensor::to_f64);
    all.map(|number| (!number.is_nan()).then(|| number.to_bits())).collect()
}

/// Keys that a causal mask hides are left out only where they do not count: here scores are lower than what stands for
/// hidden ones, or are no numbers, or values are not finite.
#[test]
fn hidden_keys_that_count() {
    let attention = Attention::new(&[2, 2], 131, 133, 3).masked(Mask::Causal);
    // A hidden score of -1 always counts.
    let weak = Attention { hides: -1.0, ..attention.clone() };
    for attention in [attention.clone(), attention.derived(), weak.derived()] {
        let graph = optimised(&attention);
        assert_eq!(attentions(&partition(&graph, &FuseOptions::ALL)), 1 + usize::from(attention.derivative));
        check_hidden(&graph);
    }
}

fn check_hidden(graph: &Graph) {
    let attention = lower(graph, &partition(graph, &FuseOptions::ALL), &Target::new(16)).unwrap();
    assert!(attention.report.iter().any(|kernel| kernel.how.contains("hidden keys left out")));
    let single = FuseOptions { attention: false, ..FuseOptions::ALL };
    let cases: [&[(&str, f64)]; 8] = [
        &[],
        &[("value", 1e30), ("query", 1e-3)],
        &[("value", f64::NAN)],
        &[("query", 1e16), ("key", -1e16)],
        &[("query", 1e16), ("key", 1e16)],
        &[("value", f64::INFINITY)],
        &[("key", f64::NAN)],
        &[("query", f64::NEG_INFINITY)],
    ];
    for (at, case) in cases.into_iter().enumerate() {
        let mut given = random_inputs(graph, at as u64);
        for &(name, number) in case {
            let tensor = &given[name];
            let mut numbers = tensor.to_f64();
            let first = numbers.len() * 3 / 8;
            numbers[first..first + 40].fill(number);
            let tensor = Tensor::from_f64(DType::F32, tensor.dims(), &numbers);
            given.insert(name.to_owned(), tensor);
        }
        let of = |fuse: &FuseOptions, lanes| numbers(&lowered_run(graph, &given, fuse, lanes).unwrap().outputs);
        let expected = of(&single, 8);
        for lanes in [4, 16] {
            assert_eq!(of(&FuseOptions::ALL, lanes), expected, "{case:?} in {lanes} lanes");
        }
    }
}

/// As many tasks as threads may want, also of few heads.
#[test]
fn rows_of_a_head_are_shared_out() {
    let lowered = |attention: &Attention| {
        let graph = optimised(attention);
        let groups = partition(&graph, &FuseOptions::ALL);
        let program = lower(&graph, &groups, &Target::new(16)).unwrap().program;
        program.kernels.into_iter().find(|kernel| kernel.name == "attention").unwrap()
    };
    let few = lowered(&Attention::new(&[1, 2], 256, 256, 16));
    assert_eq!(few.phases.len(), 2);
    assert_eq!(few.phases[1].tasks % 2, 0);
    assert!(few.phases[1].tasks >= 8);
    let many = lowered(&Attention::new(&[4, 16], 64, 96, 16));
    assert_eq!(many.phases.iter().map(|phase| phase.tasks).collect::<Vec<_>>(), [64]);
}

/// Forward and backward: nothing as large as the scores, nor a table of the mask, is in the arena.
#[test]
fn no_matrix_of_scores_is_in_memory() {
    for mask in [Mask::None, Mask::Causal] {
        for attention in [Attention::new(&[4], 512, 512, 8), Attention::new(&[4], 512, 512, 8).derived()] {
            let graph = optimised(&attention.masked(mask));
            let bytes =
                |fuse: &FuseOptions| lower(&graph, &partition(&graph, fuse), &Target::new(8)).unwrap().arena_bytes;
            let (fused, single) =
                (bytes(&FuseOptions::ALL), bytes(&FuseOptions { attention: false, ..FuseOptions::ALL }));
            assert!(fused < 512 * 512, "{fused} bytes with {mask:?}");
            assert!(single >= 4 * 512 * 512 * 4, "{single} bytes with {mask:?}");
        }
    }
}
