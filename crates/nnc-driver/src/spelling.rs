//! Which table of words or tokens the numbers of an answer are of, so that they are printed as text.
//!
//! Numbers are words of a table when they are chosen among as many as it has, as the `argmax` of scores of its words,
//! or come from a field of it, and pass through nothing but what moves them: shapes, `where`, `concat`, `update`,
//! loops. Constants beside them, such as the mark of a beginning, are words of the same table. Tables of one size
//! cannot be told apart by what is chosen. One walk through a graph, forwards; the body of a loop is walked until what
//! it carries stays, which is after three turns at most, as each fact can change twice.

use nnc_graph::{DType, Dim, Graph, Op, OutputKind, Scan, TensorType};
use std::collections::BTreeMap;
use std::ops::Range;

/// What the numbers of a value are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    /// Constants: whatever stands beside them.
    Open,
    /// Words of this table.
    Table(usize),
    /// Something else.
    Other,
}

impl Origin {
    /// That of numbers which are now of the one, now of the other.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Open, known) | (known, Self::Open) => known,
            (a, b) if a == b => a,
            _ => Self::Other,
        }
    }
}

/// The tables of a recipe.
pub(crate) struct Tables<'a> {
    /// How many numbers each has.
    pub(crate) sizes: &'a [usize],
    /// Of fields of words, by their names.
    pub(crate) fields: BTreeMap<&'a str, usize>,
}

impl Tables<'_> {
    /// The results of a graph that are words, with their tables.
    pub(crate) fn spelled(&self, graph: &Graph) -> BTreeMap<String, usize> {
        let origins = self.origins(graph, &[]);
        let results = graph.outputs().iter().filter(|output| output.kind == OutputKind::Result);
        let spelled = results.filter_map(|output| match origins[output.value.index()] {
            Origin::Table(table) if is_text(graph.ty(output.value)) => Some((output.name.clone(), table)),
            Origin::Table(_) | Origin::Open | Origin::Other => None,
        });
        spelled.collect()
    }

    /// The origin of every value, by its id. `given` are those of the inputs of a body, in their order.
    fn origins(&self, graph: &Graph, given: &[Origin]) -> Vec<Origin> {
        let mut origins = vec![Origin::Other; graph.value_count()];
        let mut inputs = given.iter();
        for (_, node) in graph.nodes() {
            let operands: Vec<Origin> = node.operands.iter().map(|operand| origins[operand.index()]).collect();
            let results = match &node.op {
                Op::Input { name, .. } => {
                    let field = || self.fields.get(name.as_str()).map_or(Origin::Other, |&table| Origin::Table(table));
                    vec![inputs.next().copied().unwrap_or_else(field)]
                }
                Op::Scan(scan) => self.of_loop(scan, &operands),
                Op::ArgMax { axis } => vec![self.chosen(&graph.ty(node.operands[0]).shape[*axis])],
                op => {
                    let moved = operands[moved(op, operands.len())].iter().copied().reduce(Origin::or);
                    vec![moved.unwrap_or_else(|| of_nothing(op))]
                }
            };
            for (&result, origin) in node.results.iter().zip(results) {
                origins[result.index()] = origin;
            }
        }
        origins
    }

    /// Numbers that are chosen among so many.
    fn chosen(&self, among: &Dim) -> Origin {
        let fits = |&table: &usize| among.as_number() == i64::try_from(self.sizes[table]).ok();
        let mut tables = (0..self.sizes.len()).filter(fits);
        match (tables.next(), tables.next()) {
            (Some(table), None) => Origin::Table(table),
            (None, _) | (Some(_), Some(_)) => Origin::Other,
        }
    }

    /// The results of a loop: the last carried values, then what is stacked.
    fn of_loop(&self, scan: &Scan, operands: &[Origin]) -> Vec<Origin> {
        let mut carried = operands[..scan.carries].to_vec();
        loop {
            let given = [&[Origin::Other], &carried[..], &operands[scan.carries..]].concat();
            let origins = self.origins(&scan.body, &given);
            let results: Vec<Origin> = scan.body.outputs().iter().map(|output| origins[output.value.index()]).collect();
            let next: Vec<Origin> = carried.iter().zip(&results).map(|(&before, &after)| before.or(after)).collect();
            if next == carried {
                return [&carried[..], &results[scan.carries..]].concat();
            }
            carried = next;
        }
    }
}

/// Whether numbers of this type may be words: as those of texts are.
fn is_text(ty: &TensorType) -> bool {
    ty.dtype == DType::I32 && ty.shape.rank() > 0
}

/// What an operation without moved operands gives.
fn of_nothing(op: &Op) -> Origin {
    if matches!(op, Op::Constant(_)) { Origin::Open } else { Origin::Other }
}

/// The operands, of so many, whose numbers are those of the result, only in other places.
fn moved(op: &Op, operands: usize) -> Range<usize> {
    match op {
        Op::Cast(_) | Op::StopGradient | Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast { .. } => 0..1,
        Op::Slice(_) | Op::DynamicSlice { .. } | Op::Gather { .. } => 0..1,
        Op::Pad { .. } | Op::DynamicUpdate { .. } => 0..2,
        Op::Concat { .. } => 0..operands,
        Op::Select => 1..3,
        Op::Input { .. } | Op::Param { .. } | Op::State { .. } | Op::Constant(_) | Op::Extent { .. } => 0..0,
        Op::Iota { .. } | Op::Random { .. } | Op::Unary(_) | Op::Binary(_) | Op::Compare(_) => 0..0,
        Op::ScatterAdd { .. } | Op::Reduce { .. } | Op::ArgMax { .. } | Op::Dot { .. } | Op::DotStored(_) => 0..0,
        Op::Conv(_) | Op::ConvLast(_) | Op::ConvInputGrad { .. } | Op::ConvInputGradLast { .. } => 0..0,
        Op::ConvWeightGrad { .. } | Op::Window { .. } | Op::WindowGrad { .. } | Op::WindowPick(_) => 0..0,
        Op::Grad | Op::Scan(_) => 0..0,
    }
}
