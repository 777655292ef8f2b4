//! Simplification: exact local rules, applied wherever they match.
//!
//! A [`Rule`] looks at an op and its operands, which are simplified already, and gives a [`Term`] to put in its place;
//! the term is built through the same rules, so one walk in program order leaves nothing that a rule of its own would
//! still change (what another pass uncovers, the next round finds). Rules are data, grouped by operator:
//! [`arithmetic`], [`logic`], [`conversion`], [`hoist`], [`movement`], [`indexing`], [`reduction`], [`contraction`].
//!
//! **Exact** means the same bits for every input, NaN payloads aside, with two named exceptions: a sum over axes of
//! size 1 keeps the sign of a zero that adding it to +0 would lose, and a small whole power is multiplied out, which
//! stays within the class of `pow`. So `x * 1`, `x - 0` and `x + (-0)` are taken, but not `x + 0` (it turns -0 into
//! +0), nor `x * 0` (infinities and NaN): these are in [`fast_math`], behind the flag of that name.
//!
//! Every rule makes the graph smaller, moves work to a smaller tensor, or goes towards a form that no rule leaves, so
//! the process ends. Each application is one rewrite.

pub mod arithmetic;
pub mod contraction;
pub mod conversion;
pub mod fast_math;
pub mod hoist;
pub mod indexing;
pub mod logic;
pub mod matching;
pub mod movement;
pub mod reduction;

use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{Graph, Op, ValueId};

/// What a rule puts in the place of a node.
#[derive(Clone, Debug)]
pub enum Term {
    /// A value that is there already.
    Value(ValueId),
    /// An op on terms.
    Op(Op, Vec<Term>),
}

impl Term {
    /// An op on values that are there already.
    pub fn op(op: Op, operands: &[ValueId]) -> Self {
        Self::Op(op, operands.iter().copied().map(Term::Value).collect())
    }
}

/// What a rule is given: the graph that is being built, the op, and its operands in that graph.
pub type Apply = fn(&Graph, &Op, &[ValueId]) -> Option<Term>;

/// A local rewrite.
pub struct Rule {
    /// The equation it stands for.
    pub name: &'static str,
    /// Gives the replacement where it matches.
    pub apply: Apply,
}

/// The rules that can match an op, in the order in which they are tried.
pub fn rules_of(op: &Op) -> &'static [&'static [Rule]] {
    match op {
        Op::Unary(_) => &[arithmetic::UNARY, logic::NOT, hoist::RULES],
        Op::Binary(_) => &[arithmetic::BINARY, logic::BINARY, hoist::RULES],
        Op::Compare(_) => &[hoist::RULES],
        Op::Select => &[logic::SELECT, hoist::RULES],
        Op::Cast(_) => &[conversion::RULES, hoist::RULES],
        Op::Reshape(_) => &[movement::RESHAPE],
        Op::Transpose(_) => &[movement::TRANSPOSE, contraction::TRANSPOSE],
        Op::Broadcast { .. } => &[movement::BROADCAST],
        Op::Slice(_) => &[movement::SLICE],
        Op::Pad { .. } => &[movement::PAD],
        Op::Concat { .. } => &[movement::CONCAT],
        Op::Reduce { .. } => &[reduction::RULES],
        Op::Dot { .. } => &[contraction::DOT],
        Op::Input { .. } | Op::Param { .. } | Op::State { .. } | Op::Constant(_) | Op::Extent { .. } => &[],
        Op::DynamicSlice { .. } => &[movement::DYNAMIC_SLICE],
        Op::DynamicUpdate { .. } => &[movement::DYNAMIC_UPDATE],
        Op::Iota { .. } | Op::Random { .. } => &[],
        Op::ScatterAdd { .. } => &[indexing::SCATTER_ADD],
        Op::Gather { .. } | Op::ArgMax { .. } | Op::Conv(_) | Op::ConvLast(_) => &[],
        Op::DotStored(_) | Op::ConvInputGrad { .. } | Op::ConvInputGradLast { .. } => &[],
        Op::ConvWeightGrad { .. } | Op::Window { .. } => &[],
        Op::WindowGrad { .. } | Op::WindowPick(_) | Op::Grad | Op::Scan(_) | Op::StopGradient => &[],
    }
}

/// The graph with every rule applied wherever it matches; those of [`fast_math`] only if it is set.
pub fn simplify(graph: &Graph, fast_math: bool, fuel: &mut Fuel) -> Graph {
    let mut simplifier = Simplifier { rewriter: Rewriter::new(graph, fuel), fast_math };
    for (id, node) in graph.nodes() {
        let operands = simplifier.rewriter.operands(node);
        simplifier.rewriter.at(id);
        match simplifier.find(&node.op, &operands) {
            Some(term) => {
                let value = simplifier.build(term);
                simplifier.rewriter.replace(node.results[0], value);
            }
            None => {
                simplifier.rewriter.copy(id);
            }
        }
    }
    simplifier.rewriter.finish()
}

struct Simplifier<'a> {
    rewriter: Rewriter<'a>,
    fast_math: bool,
}

impl Simplifier<'_> {
    /// The replacement by the first rule that matches, if there is fuel for it.
    fn find(&mut self, op: &Op, operands: &[ValueId]) -> Option<Term> {
        let inexact: &[Rule] = if self.fast_math && matches!(op, Op::Binary(_)) { fast_math::RULES } else { &[] };
        let rules = rules_of(op).iter().copied().chain([inexact]).flatten();
        let graph = self.rewriter.graph();
        let term = rules.into_iter().find_map(|rule| (rule.apply)(graph, op, operands))?;
        self.rewriter.spend().then_some(term)
    }

    fn build(&mut self, term: Term) -> ValueId {
        let (op, operands) = match term {
            Term::Value(value) => return value,
            Term::Op(op, operands) => (op, operands),
        };
        let operands: Vec<ValueId> = operands.into_iter().map(|operand| self.build(operand)).collect();
        match self.find(&op, &operands) {
            Some(better) => self.build(better),
            None => self.rewriter.emit(op, &operands),
        }
    }
}
