//! Parameters followed to what reads them: through ops that only move elements, and into the loops that capture them.
//!
//! Where axes are cut or merged on the way, a value is still known to be of the parameter, but nobody can say which of
//! its axes is which. Cost: linear in the nodes of the graph and of the bodies of its loops.

use nnc_graph::{Graph, Node, Op, TensorType, ValueId};

/// A parameter, or what was made of it by moving elements.
#[derive(Clone, Debug)]
pub struct Traced {
    /// The parameter's path.
    pub path: String,
    /// The parameter's type.
    pub ty: TensorType,
    /// The parameter's axis that each axis is, while that can be said.
    pub axes: Option<Vec<usize>>,
}

impl Traced {
    /// What an op makes of it, if it only moves its elements.
    pub fn moved(&self, op: &Op) -> Option<Self> {
        let axes = match op {
            Op::Cast(_) | Op::StopGradient => self.axes.clone(),
            Op::Transpose(order) => self.axes.as_ref().map(|axes| order.iter().map(|&axis| axes[axis]).collect()),
            Op::Reshape(_) | Op::Slice(_) | Op::Pad { .. } | Op::Concat { .. } | Op::Broadcast { .. } => None,
            _ => return None,
        };
        Some(Self { axes, ..self.clone() })
    }
}

/// A node that is no parameter, with what is known of the values before it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its graph.
    pub graph: &'a Graph,
    /// The node.
    pub node: &'a Node,
    /// How many times it runs in a run of the whole.
    pub times: usize,
    /// Whether it is in the body of a loop.
    pub in_loop: bool,
    traced: &'a [Option<Traced>],
}

impl<'a> Place<'a> {
    /// The parameter that a value is, perhaps moved.
    pub fn parameter(&self, value: ValueId) -> Option<&'a Traced> {
        self.traced[value.index()].as_ref()
    }
}

/// Visits the nodes of a graph, in program order, those of a loop's body before the loop.
pub fn follow(graph: &Graph, visit: &mut dyn FnMut(&Place<'_>)) {
    walk(graph, vec![None; graph.value_count()], (1, false), visit);
}

fn walk(
    graph: &Graph,
    mut traced: Vec<Option<Traced>>,
    (times, in_loop): (usize, bool),
    visit: &mut dyn FnMut(&Place<'_>),
) {
    for (_, node) in graph.nodes() {
        if let Op::Param { path, ty } = &node.op {
            let axes = Some((0..ty.shape.rank()).collect());
            traced[node.results[0].index()] = Some(Traced { path: path.clone(), ty: ty.clone(), axes });
            continue;
        }
        if let Op::Scan(scan) = &node.op {
            // A body reads captured values as they are.
            let mut inside = vec![None; scan.body.value_count()];
            for (at, operand) in node.operands.iter().skip(scan.carries + scan.slices).enumerate() {
                inside[scan.capture(at).index()] = traced[operand.index()].clone();
            }
            let steps = scan.length.as_number().map_or(1, |steps| steps as usize);
            walk(&scan.body, inside, (times * steps, true), visit);
        }
        visit(&Place { graph, node, times, in_loop, traced: &traced });
        let moved =
            node.operands.iter().filter_map(|operand| traced[operand.index()].as_ref()?.moved(&node.op)).next_back();
        if let Some(moved) = moved {
            traced[node.results[0].index()] = Some(moved);
        }
    }
}
