//! Every product of a graph, those inside of loops too, with what it multiplies.
//!
//! A factor that is the same in every run, as it follows from parameters and constants alone, is a weight; all else are
//! activations. What a loop captures is in its body what it is outside. Cost: linear in the nodes of the graph and of
//! the bodies of its loops.

use nnc_graph::{Graph, Node, NodeId, Op, ValueId};

/// What a factor is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Factor {
    /// It differs from run to run, or from step to step of a loop.
    Activations,
    /// It follows from parameters.
    Weights {
        /// The path of the largest of them, as weights are larger than what is multiplied with them; of several the
        /// first by name.
        path: String,
        /// Elements of that one.
        elements: usize,
    },
    /// It follows from constants.
    Constants,
}

/// A product somewhere in a graph.
#[derive(Clone, Debug)]
pub struct Product<'g> {
    /// The graph that it is in: the whole, or the body of a loop.
    pub graph: &'g Graph,
    /// The node in that graph.
    pub node: &'g Node,
    /// The node of the whole graph that it is, or that it is somewhere inside of.
    pub outermost: NodeId,
    /// Whether it is inside of a loop.
    pub is_in_loop: bool,
    /// What its two factors are.
    pub factors: [Factor; 2],
    /// Multiply-adds in a run of the whole.
    pub multiply_adds: usize,
}

impl Product<'_> {
    /// What its factors are, if one of them are activations and the other is none: that other one.
    pub fn weights(&self) -> Option<&Factor> {
        match &self.factors {
            [Factor::Activations, Factor::Activations] => None,
            [Factor::Activations, other] | [other, Factor::Activations] => Some(other),
            [_, _] => None,
        }
    }

    /// Whether it differs from run to run.
    pub fn varies(&self) -> bool {
        self.factors.contains(&Factor::Activations)
    }

    /// Which use of a layer it belongs to, else the function and the line of the source that it comes from, as far as
    /// that is known.
    pub fn place(&self) -> String {
        place(self.graph, self.node)
    }
}

/// Which use of a layer a node belongs to; where there is none, what function it comes from and at which line of the
/// source.
pub fn place(graph: &Graph, node: &Node) -> String {
    let Some(origin) = graph.origin_of(node) else { return node.op.name().to_owned() };
    let function = if origin.function.is_empty() { node.op.name() } else { &origin.function };
    match (origin.path.is_empty(), origin.place.is_empty()) {
        (false, _) => origin.path.clone(),
        (true, false) => format!("{function} at {}", origin.place),
        (true, true) => function.to_owned(),
    }
}

/// The products of a graph whose dims are bound, in program order, those of a loop at the place of the loop.
pub fn products(graph: &Graph) -> Vec<Product<'_>> {
    let mut found = Vec::new();
    walk((graph, None), vec![Factor::Activations; graph.value_count()], 1, &mut found);
    found
}

fn walk<'g>(
    (graph, loop_node): (&'g Graph, Option<NodeId>),
    mut factors: Vec<Factor>,
    times: usize,
    found: &mut Vec<Product<'g>>,
) {
    for (id, node) in graph.nodes() {
        let outermost = loop_node.unwrap_or(id);
        if let Op::Scan(scan) = &node.op {
            let mut inside = vec![Factor::Activations; scan.body.value_count()];
            for (at, operand) in node.operands.iter().skip(scan.carries + scan.slices).enumerate() {
                inside[scan.capture(at).index()] = factors[operand.index()].clone();
            }
            walk((&scan.body, Some(outermost)), inside, times * scan.length.size(), found);
            continue;
        }
        if let Some(multiply_adds) = multiply_adds(graph, node) {
            let factors = [0, 1].map(|at| factors[node.operands[at].index()].clone());
            let (is_in_loop, multiply_adds) = (loop_node.is_some(), times * multiply_adds);
            found.push(Product { graph, node, outermost, is_in_loop, factors, multiply_adds });
        }
        if !matches!(node.op, Op::Input { .. }) {
            let made = made(node, &factors);
            node.results.iter().for_each(|result| factors[result.index()] = made.clone());
        }
    }
}

/// What a node makes of its operands.
fn made(node: &Node, factors: &[Factor]) -> Factor {
    if let Op::Param { path, ty } = &node.op {
        return Factor::Weights { path: path.clone(), elements: ty.shape.elements().size() };
    }
    node.operands.iter().fold(Factor::Constants, |known, operand| joined(known, &factors[operand.index()]))
}

/// What follows from both.
fn joined(known: Factor, other: &Factor) -> Factor {
    match (known, other) {
        (Factor::Activations, _) | (_, Factor::Activations) => Factor::Activations,
        (known, Factor::Constants) => known,
        (Factor::Constants, weights @ Factor::Weights { .. }) => weights.clone(),
        (Factor::Weights { path, elements }, Factor::Weights { path: second, elements: more }) => {
            match elements.cmp(more).then_with(|| second.cmp(&path)).is_ge() {
                true => Factor::Weights { path, elements },
                false => Factor::Weights { path: second.clone(), elements: *more },
            }
        }
    }
}

/// Whether an op multiplies activations by weights of their own form, which lie in its second operand: a `dot`, or a
/// convolution or its transpose in the image, in any layout.
pub fn is_product(op: &Op) -> bool {
    matches!(
        op,
        Op::Dot { .. } | Op::Conv(_) | Op::ConvLast(_) | Op::ConvInputGrad { .. } | Op::ConvInputGradLast { .. }
    )
}

/// The multiply-adds of a node, whose dims are bound; `None` if it is no product.
pub(crate) fn multiply_adds(graph: &Graph, node: &Node) -> Option<usize> {
    let sizes = |value: ValueId| graph.ty(value).shape.sizes();
    let elements = |value: ValueId| sizes(value).iter().product::<usize>();
    // Weights of a convolution lie as `[Co, Ci, ...K]`: an output channel has so many terms.
    let terms = |weights: ValueId| sizes(weights)[1..].iter().product::<usize>();
    Some(match &node.op {
        Op::Dot { a_axes, .. } => {
            let dims = sizes(node.operands[0]);
            elements(node.results[0]) * a_axes.iter().map(|&axis| dims[axis]).product::<usize>()
        }
        Op::DotStored(_) => elements(node.results[0]) * sizes(node.operands[0]).last().copied().unwrap_or(1),
        Op::Conv(_) | Op::ConvLast(_) => elements(node.results[0]) * terms(node.operands[1]),
        Op::ConvInputGrad { .. } | Op::ConvInputGradLast { .. } => elements(node.operands[0]) * terms(node.operands[1]),
        Op::ConvWeightGrad { .. } => elements(node.operands[1]) * terms(node.results[0]),
        _ => return None,
    })
}
