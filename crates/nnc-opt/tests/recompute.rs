//! Values computed again, on random graphs: the interpreter's results stay to the bit, and copies stay out of the
//! groups of what they are copies of.

use nnc_graph::testing::{GraphOptions, Rng, random_graph_with, random_inputs};
use nnc_graph::{Graph, interpret, text, verify};
use nnc_opt::fuse::{GroupKind, Views};
use nnc_opt::recompute::{Choice, Dropped};
use nnc_opt::{Optimised, Options, optimise, pipeline};

/// Drops about half of the values that another group reads, each after a group by chance.
fn by_chance(optimised: &Optimised, rng: &mut Rng) -> Choice {
    let Optimised { graph, partition, .. } = optimised;
    let (group_of, views) = (partition.group_of(graph), Views::new(graph));
    let mut choice = Choice { times: group_of.clone(), ..Choice::default() };
    for (made, group) in partition.groups.iter().enumerate().filter(|(_, group)| group.kind != GroupKind::Leaf) {
        for &value in &group.outputs {
            let reads = |node: &nnc_graph::Node| node.operands.iter().any(|&operand| views.base(operand) == value);
            let readers = graph.nodes().filter(|(_, node)| reads(node));
            let readers = readers.filter(|(_, node)| views.base(node.results[0]) == node.results[0]);
            let mut times: Vec<usize> = readers.map(|(id, _)| group_of[id.index()]).filter(|&at| at > made).collect();
            times.sort_unstable();
            if times.is_empty() || rng.int(0, 1) == 0 {
                continue;
            }
            let again = times[rng.int(0, times.len() as i64 - 1) as usize];
            choice.dropped.insert(value, Dropped { until: again - 1, again });
        }
    }
    choice
}

fn assert_same_bits(before: &Graph, after: &Graph, seed: u64) {
    verify::verify_lowerable(after).unwrap();
    let given = random_inputs(before, seed);
    let (old, new) = (interpret::run(before, &given).unwrap(), interpret::run(after, &given).unwrap());
    assert!(old.outputs().eq(new.outputs()), "seed {seed}\n{}\n{}", text::print(before), text::print(after));
}

#[test]
fn what_is_computed_again_is_the_same() {
    let mut copies = 0;
    for seed in 0..200 {
        let graph = random_graph_with(seed, &GraphOptions { grad: true, ops: 20, ..GraphOptions::default() });
        let kept = optimise(&graph, &Options::default()).unwrap();
        let choice = by_chance(&kept, &mut Rng::new(seed));
        let again = pipeline::recomputed(&kept, &choice, &Options::default()).unwrap();
        assert_same_bits(&kept.graph, &again.graph, seed);
        copies += again.copies.len();
        let group_of = again.partition.group_of(&again.graph);
        for (&copy, &of) in &again.copies {
            let nodes = &again.partition.groups[group_of[copy.index()]].nodes;
            let own = |id| again.copies.contains_key(id);
            assert!(nodes.iter().all(|id| own(id) || *id > of), "seed {seed}: {copy} with what stands before {of}");
        }
    }
    // Otherwise hardly anything was tried: two for a graph are made on average.
    assert!(copies > 200, "{copies} copies");
}
