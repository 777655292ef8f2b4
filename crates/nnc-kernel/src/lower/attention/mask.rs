//! Masks that leave out all keys from some place on, as a causal one does: what they hide is not computed.
//!
//! For a block of rows the keys from its *end* on are hidden from all of them. There a value either is the same along a
//! row (what the mask puts in the place of a score, and what follows from that), or it is a product that has not been
//! computed, times such values. The kernel computes the first once for a row; for the second it takes a number that no
//! product of the operands exceeds. A maximum takes a hidden value in as one more element, and a sum does not change by
//! it if it is 0, nor does a product of numbers that are not too large. Whether it is 0 is seen at run time, as it is
//! in all but odd cases (a row of scores as low as what stands for a hidden one); if it is not, the block is computed
//! once more, with all keys. So the values are those that the graph defines.

use crate::lower::memory::uniform;
use nnc_graph::{BinaryOp, CompareOp, Graph, Op, ReduceOp, UnaryOp, ValueId};
use nnc_opt::fuse::attention::{Matrices, Roles};
use nnc_opt::fuse::{Reach, Views};
use std::collections::BTreeSet;

/// A mask that shows row `r` the keys up to `r + offset` at most.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Horizon {
    /// How far a row sees beyond its own number.
    pub offset: i64,
    /// The selections by the mask, with what they give where it hides.
    pub hidden: Vec<(ValueId, ValueId)>,
    /// Whether it counts that products which are not computed are finite.
    pub relies_on_products: bool,
}

impl Horizon {
    /// The mask of a group, if it has one behind which nothing but 0 is of use, and only that is read.
    pub fn find(graph: &Graph, views: &Views, roles: &Roles, matrices: Matrices) -> Option<Self> {
        let mut search = Search { graph, views, roles, matrices, same: BTreeSet::new(), scaled: BTreeSet::new() };
        let mut found: Option<Self> = None;
        for &id in &roles.between {
            let node = graph.node(id);
            let result = node.results[0];
            match &node.op {
                Op::Reduce { op, .. } if !search.is_reduced(*op, node.operands[0]) => return None,
                Op::Select if search.is_full(result) && search.is_same(node.operands[2]) => {
                    let offset = search.offset(node.operands[0]);
                    let known = found.as_ref().map(|horizon| horizon.offset);
                    if let Some(offset) = offset.filter(|&offset| known.is_none_or(|known| known == offset)) {
                        let hidden = (result, node.operands[2]);
                        let new = Self { offset, hidden: Vec::new(), relies_on_products: false };
                        found.get_or_insert(new).hidden.push(hidden);
                        search.same.insert(result);
                    }
                }
                _ => {}
            }
            if !matches!(node.op, Op::Iota { .. } | Op::Random { .. })
                && node.operands.iter().all(|&x| search.is_same(x))
            {
                search.same.insert(result);
            } else if search.scales(&node.op, &node.operands) {
                search.scaled.insert(result);
            }
        }
        let read = roles.readers.iter().map(|reader| graph.node(reader.dot).operands[reader.operand]);
        let reduced =
            roles.between.iter().map(|&id| graph.node(id)).filter(|node| matches!(node.op, Op::Reduce { .. }));
        let used: Vec<ValueId> = read.chain(reduced.map(|node| node.operands[0])).collect();
        let relies_on_products = used.iter().any(|&value| !search.is_same(value));
        let all = used.iter().all(|&value| search.is_same(value) || search.is_scaled(value));
        found.filter(|_| all).map(|found| Self { relies_on_products, ..found })
    }
}

struct Search<'a> {
    graph: &'a Graph,
    views: &'a Views,
    roles: &'a Roles,
    matrices: Matrices,
    /// Members that are the same at all hidden keys of a row.
    same: BTreeSet<ValueId>,
    /// Members that are a product there, times what is the same.
    scaled: BTreeSet<ValueId>,
}

impl Search<'_> {
    fn is_full(&self, value: ValueId) -> bool {
        self.graph.ty(value).shape.elements().size() == self.matrices.elements()
    }

    /// Whether a value is the same at all hidden keys of a row.
    fn is_same(&self, value: ValueId) -> bool {
        let base = self.views.base(value);
        let id = self.graph.value(base).node;
        if self.roles.between.contains(&id) {
            return self.same.contains(&base) || !self.is_full(base);
        }
        if self.roles.scores.contains(&id) {
            return false;
        }
        let Matrices { count, rows, columns } = self.matrices;
        let layout = self.views.layout(value).reshape(&[count * rows, columns]);
        !self.is_full(value) || layout.is_some_and(|layout| layout.strides[1] == 0)
    }

    /// Whether a value is a product that is not computed, times what is the same along a row.
    fn is_scaled(&self, value: ValueId) -> bool {
        let base = self.views.base(value);
        self.scaled.contains(&base) || self.roles.scores.contains(&self.graph.value(base).node)
    }

    /// Whether an op gives such a value: its size grows with that of the product.
    fn scales(&self, op: &Op, operands: &[ValueId]) -> bool {
        let is = |at: usize| self.is_scaled(operands[at]);
        match op {
            Op::Unary(UnaryOp::Neg) => is(0),
            Op::Binary(BinaryOp::Mul) => (is(0) && self.is_same(operands[1])) || (self.is_same(operands[0]) && is(1)),
            Op::Binary(BinaryOp::Div) => is(0) && self.is_same(operands[1]),
            _ => false,
        }
    }

    /// Whether it is known what a reduction makes of the hidden keys.
    fn is_reduced(&self, op: ReduceOp, operand: ValueId) -> bool {
        match op {
            ReduceOp::Max | ReduceOp::Min => self.is_same(operand),
            ReduceOp::Sum => self.is_same(operand) || self.is_scaled(operand),
            ReduceOp::Product | ReduceOp::Any | ReduceOp::All => false,
        }
    }

    /// How far a condition lets a row see, if it does so.
    fn offset(&self, condition: ValueId) -> Option<i64> {
        if self.views.reach(condition) != Reach::Same {
            return None;
        }
        let node = self.graph.definition(self.views.base(condition));
        match &node.op {
            Op::Binary(BinaryOp::And) => self.offset(node.operands[0]).or_else(|| self.offset(node.operands[1])),
            Op::Compare(op) => {
                let is_integer = |value: &ValueId| self.graph.ty(*value).dtype.is_int();
                let [x, y] = [self.place(node.operands[0])?, self.place(node.operands[1])?];
                // It holds where this is at most 0.
                let difference = match op {
                    CompareOp::Le => x.minus(y),
                    CompareOp::Lt => x.minus(y).plus(1),
                    CompareOp::Ge => y.minus(x),
                    CompareOp::Gt => y.minus(x).plus(1),
                    CompareOp::Eq | CompareOp::Ne => return None,
                };
                let is_later = difference.column == 1 && difference.row == -1;
                (is_later && node.operands.iter().all(is_integer)).then_some(-difference.number)
            }
            _ => None,
        }
    }

    /// A value as a function of row and column.
    fn place(&self, value: ValueId) -> Option<Place> {
        let base = self.views.base(value);
        let node = self.graph.definition(base);
        let Matrices { count, rows, columns } = self.matrices;
        match &node.op {
            Op::Iota { .. } if self.graph.ty(base).shape.rank() == 1 => {
                let layout = self.views.layout(value).reshape(&[count, rows, columns])?;
                let [matrix, row, column] = layout.strides[..] else { return None };
                (matrix == 0).then_some(Place { row, column, number: layout.offset })
            }
            Op::Constant(tensor) => {
                uniform(tensor)?;
                Some(Place { row: 0, column: 0, number: *tensor.to_f64().first()? as i64 })
            }
            Op::Binary(op @ (BinaryOp::Add | BinaryOp::Sub)) if self.views.reach(value) == Reach::Same => {
                let [x, y] = [self.place(node.operands[0])?, self.place(node.operands[1])?];
                Some(if *op == BinaryOp::Sub { x.minus(y) } else { x.minus(Place::default().minus(y)) })
            }
            _ => None,
        }
    }
}

/// `row * r + column * c + number`.
#[derive(Clone, Copy, Default)]
struct Place {
    row: i64,
    column: i64,
    number: i64,
}

impl Place {
    fn minus(self, other: Self) -> Self {
        let (row, column) = (self.row - other.row, self.column - other.column);
        Self { row, column, number: self.number - other.number }
    }

    fn plus(self, number: i64) -> Self {
        Self { number: self.number + number, ..self }
    }
}
