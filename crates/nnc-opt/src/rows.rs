//! Whether the rows of a batch are computed independently of one another.
//!
//! A deployment computes so many rows at a time: more of them are looped, and the last call may be filled up. That
//! gives the answers of all rows together only where each row of an answer depends on its own row of the inputs alone.
//! What is made over the batch, as the mean of a column, a softmax along it, a part of it, a number that its size
//! decides, does not.
//!
//! The analysis follows where the rows lie: along one axis of a value, `inner` neighbouring places of it for each row,
//! as `[N, T]` has them after it was flattened. It looks at the program for `n` and for `n + 1` rows side by side, so
//! that it knows axes of rows from others of their size, and sees constants that are made of `N`, unless these are
//! alike for `n` and `n + 1`, as `N / 4` may be. What is repeated for each row is the same in all of them, so that a
//! part of it depends on none. A number that is drawn is as independent as its place. What it cannot follow counts as
//! mixed. Cost: linear in the nodes, but for loops, whose bodies are gone through until what they carry stays.

use crate::grad;
use nnc_graph::{Dim, Graph, Node, NodeId, Op, Origin, OutputKind, Scan, Shape, SliceRange, TensorType};

/// An answer of which a row depends on other rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mixed {
    /// The name of the output.
    pub output: String,
    /// The operation that brings rows together, and where it comes from, if that is known.
    pub by: Option<(&'static str, Option<Origin>)>,
}

/// The outputs with a row for each example of which a row depends on other rows, or on how many there are. `few` is the
/// program for `n` rows, at least 2, and `more` for one more; both bound.
pub fn mixed(few: &Graph, more: &Graph) -> Vec<Mixed> {
    let (few, more) = (grad::expand(few), grad::expand(more));
    let is_batched = |name: &str| {
        let ty = |graph: &Graph| {
            let found = graph.outputs().iter().find(|output| output.name == name)?;
            Some(graph.ty(found.value).clone())
        };
        ty(&few).zip(ty(&more)).is_some_and(|(few, more)| few.shape.first() != more.shape.first())
    };
    let names = few.outputs().iter().filter(|output| output.kind == OutputKind::Result && is_batched(&output.name));
    let spread = spread(&few, &more, None);
    let found = names.filter_map(|output| {
        let by = match spread.as_ref().map(|spread| spread[output.value.index()]) {
            Some(Rows::Same) => return None,
            Some(Rows::Along(Axis { axis: 0, inner: 1, .. })) => return None,
            Some(Rows::Along(_)) | None => None,
            Some(Rows::Mixed(id)) => {
                let node = few.node(id);
                Some((node.op.name(), few.origin_of(node).cloned()))
            }
        };
        Some(Mixed { output: output.name.clone(), by })
    });
    found.collect()
}

/// The axis of a value along which its rows lie: `inner` neighbouring places belong to a row, then the next one's come,
/// and after the last row the first again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Axis {
    axis: usize,
    inner: usize,
    /// Whether all rows hold the same, whatever their number.
    is_alike: bool,
}

/// How a value depends on the rows of the inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rows {
    /// Not at all.
    Same,
    /// Each row of it depends on one.
    Along(Axis),
    /// On several, which this node of the program brought together.
    Mixed(NodeId),
}

/// The only axis in which the types of a value for few and for more rows differ.
fn row_axis(few: &TensorType, more: &TensorType) -> Option<usize> {
    let mut axes = (0..few.shape.rank()).filter(|&axis| few.shape.get(axis) != more.shape.get(axis));
    axes.next().filter(|_| axes.next().is_none())
}

/// How each value of a graph depends on rows, from its inputs on: those of a loop's body are `given`. `None` where the
/// two programs are not made of the same operations.
fn spread(few: &Graph, more: &Graph, given: Option<&[Rows]>) -> Option<Vec<Rows>> {
    if few.node_count() != more.node_count() {
        return None;
    }
    let mut rows = vec![Rows::Same; few.value_count()];
    let mut inputs = given.unwrap_or_default().iter();
    for ((id, node), (_, other)) in few.nodes().zip(more.nodes()) {
        if node.op.name() != other.op.name() || node.operands != other.operands {
            return None;
        }
        let operands: Vec<Rows> = node.operands.iter().map(|operand| rows[operand.index()]).collect();
        let site = Site { few, more, id, node, other, operands };
        let results = match (&node.op, &other.op) {
            (Op::Input { .. }, _) if given.is_some() => vec![inputs.next().copied().unwrap_or(Rows::Same)],
            (Op::Scan(scan), Op::Scan(other)) => site.of_loop(scan, other),
            _ => vec![site.result()],
        };
        for (result, found) in node.results.iter().zip(results) {
            rows[result.index()] = found;
        }
    }
    Some(rows)
}

/// A node in both programs, with how its operands depend on rows.
struct Site<'g> {
    few: &'g Graph,
    more: &'g Graph,
    id: NodeId,
    node: &'g Node,
    other: &'g Node,
    operands: Vec<Rows>,
}

impl Site<'_> {
    fn mixed(&self) -> Rows {
        Rows::Mixed(self.id)
    }

    /// The type of an operand for few rows.
    fn ty(&self, operand: usize) -> &TensorType {
        self.few.ty(self.node.operands[operand])
    }

    fn rank(&self, operand: usize) -> usize {
        self.ty(operand).shape.rank()
    }

    /// The types of the result for few and for more rows.
    fn result_types(&self) -> (&TensorType, &TensorType) {
        (self.few.ty(self.node.results[0]), self.more.ty(self.other.results[0]))
    }

    /// The result, when a mixed operand does not decide it.
    fn result(&self) -> Rows {
        let mixed = self.operands.iter().find(|rows| matches!(rows, Rows::Mixed(_)));
        mixed.copied().unwrap_or_else(|| self.of_op().unwrap_or_else(|| self.mixed()))
    }

    /// The rule of every op but loops; `None` where rows are mixed. Flat dispatch.
    fn of_op(&self) -> Option<Rows> {
        match (&self.node.op, &self.other.op) {
            (Op::Input { .. } | Op::Random { .. }, _) => self.of_own_type(),
            (Op::Param { .. } | Op::State { .. }, _) => Some(Rows::Same),
            (Op::Constant(_) | Op::Extent { .. }, other) => (self.node.op == *other).then_some(Rows::Same),
            (Op::Iota { axis, .. }, _) => self.of_places(*axis),
            (Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::StopGradient, _) => {
                self.agreed()
            }
            (Op::Reshape(shape), _) => self.moved(|axis| reshaped(axis, &self.ty(0).shape, shape, self.size()?)),
            (Op::Transpose(order), _) => self.along(|axis| order.iter().position(|&from| from == axis)),
            (Op::Broadcast { .. }, _) if self.operands[0] == Rows::Same => self.repeated(),
            (Op::Broadcast { axes, .. }, _) => self.along(|axis| axes.get(axis).copied()),
            (Op::Slice(few), Op::Slice(more)) => self.sliced(few, more),
            (Op::Pad { low, high }, Op::Pad { low: other_low, high: other_high }) => {
                let is_same = |axis: usize| low[axis] == other_low[axis] && high[axis] == other_high[axis];
                self.but_along(is_same, |axis| low[axis].is(0) && high[axis].is(0))
            }
            (Op::Concat { axis }, _) => self.agreed_but_along(&[*axis]),
            (Op::DynamicSlice { axis, size }, _) => {
                let is_whole = |along: usize| along != *axis || *size == self.ty(0).shape[along];
                self.but_along(|_| true, is_whole)
            }
            (Op::DynamicUpdate { axes }, _) => self.agreed_but_along(axes),
            (Op::Gather { axis, batch }, _) => self.gathered(*axis, *batch),
            (Op::ScatterAdd { axis, batch }, _) => self.scattered(*axis, *batch),
            (Op::Reduce { axes, .. }, _) => self.reduced(axes),
            (Op::ArgMax { axis }, _) => self.reduced(&[*axis]),
            (Op::Dot { batch, a_axes, b_axes }, _) => self.product(*batch, a_axes, b_axes),
            (Op::DotStored(_), _) => self.agreed_but_along(&[self.rank(0) - 1]),
            (Op::Conv(_) | Op::ConvLast(_) | Op::ConvInputGrad { .. } | Op::ConvInputGradLast { .. }, _) => {
                self.convolved()
            }
            (Op::Window { .. } | Op::WindowGrad { .. } | Op::WindowPick(_), _) => {
                self.agreed_but_along(&(2..self.rank(0)).collect::<Vec<_>>())
            }
            (Op::ConvWeightGrad { .. } | Op::Grad | Op::Scan(_), _) => self.unless_along(),
            (Op::Slice(_) | Op::Pad { .. }, _) => None,
        }
    }

    /// How many rows the program with few of them has, as the axis of a first operand along which they lie tells.
    fn size(&self) -> Option<usize> {
        let Rows::Along(axis) = self.operands[0] else { return None };
        let types = (self.ty(0), self.more.ty(self.other.operands[0]));
        let [few, more] = [types.0, types.1].map(|ty| ty.shape[axis.axis].as_number());
        let one = usize::try_from(more?.checked_sub(few?)?).ok()?;
        usize::try_from(few?).ok()?.checked_div(one)
    }

    /// What has an axis of rows by itself.
    fn of_own_type(&self) -> Option<Rows> {
        let (few, more) = self.result_types();
        match row_axis(few, more) {
            Some(axis) => Some(Rows::Along(Axis { axis, inner: 1, is_alike: false })),
            None => (few == more).then_some(Rows::Same),
        }
    }

    /// What is the same for all rows, repeated for each of them: so many places of the axis that grows are a row's.
    fn repeated(&self) -> Option<Rows> {
        let (few, more) = self.result_types();
        let Some(axis) = row_axis(few, more) else { return (few == more).then_some(Rows::Same) };
        let [few, more] = [few, more].map(|ty| ty.shape[axis].as_number());
        let inner = usize::try_from(more?.checked_sub(few?)?).ok()?;
        Some(Rows::Along(Axis { axis, inner, is_alike: true }))
    }

    /// Numbers of places: those of rows are of no one row.
    fn of_places(&self, axis: usize) -> Option<Rows> {
        let (few, more) = self.result_types();
        (few.shape[axis] == more.shape[axis]).then_some(Rows::Same)
    }

    /// Nothing depends on rows, or rows are mixed.
    fn unless_along(&self) -> Option<Rows> {
        self.operands.iter().all(|rows| *rows == Rows::Same).then_some(Rows::Same)
    }

    /// All operands that have rows have them along one axis, and so has the result.
    fn agreed(&self) -> Option<Rows> {
        agreed(self.operands.iter().copied())
    }

    /// As [`Self::agreed`], unless that axis is one of these.
    fn agreed_but_along(&self, axes: &[usize]) -> Option<Rows> {
        self.agreed().filter(|rows| !matches!(rows, Rows::Along(along) if axes.contains(&along.axis)))
    }

    /// The first operand's axis of rows elsewhere in the result; no other operand has one.
    fn moved(&self, place: impl Fn(Axis) -> Option<Axis>) -> Option<Rows> {
        let rest = agreed(self.operands[1..].iter().copied())?;
        match (self.operands[0], rest) {
            (Rows::Along(axis), Rows::Same) => place(axis).map(Rows::Along),
            (rows, Rows::Same) => Some(rows),
            (_, Rows::Along(_) | Rows::Mixed(_)) => None,
        }
    }

    /// As [`Self::moved`], along another axis.
    fn along(&self, place: impl Fn(usize) -> Option<usize>) -> Option<Rows> {
        self.moved(|along| Some(Axis { axis: place(along.axis)?, ..along }))
    }

    /// What leaves the first operand's axis of rows whole, and does with the other axes the same for any number of
    /// rows.
    fn but_along(&self, is_same: impl Fn(usize) -> bool, is_whole: impl Fn(usize) -> bool) -> Option<Rows> {
        let along = match self.operands[0] {
            Rows::Along(axis) => Some(axis.axis),
            Rows::Same | Rows::Mixed(_) => None,
        };
        let is_fine = |axis: usize| is_whole(axis) || Some(axis) != along && is_same(axis);
        (0..self.rank(0)).all(is_fine).then(|| self.moved(Some))?
    }

    fn sliced(&self, few: &[SliceRange], more: &[SliceRange]) -> Option<Rows> {
        let is_same = |axis: usize| few[axis] == more[axis];
        let is_whole =
            |axis: usize| few[axis].start.is(0) && few[axis].step == 1 && few[axis].size == self.ty(0).shape[axis];
        let Rows::Along(along) = self.operands[0] else { return self.but_along(is_same, is_whole) };
        // So many places of rows that are all the same depend on none.
        let is_part = along.is_alike
            && !is_whole(along.axis)
            && (is_same(along.axis) || along.inner == 1 && few[along.axis].size == more[along.axis].size)
            && (0..self.rank(0)).all(|axis| axis == along.axis || is_same(axis) || is_whole(axis));
        if is_part { Some(Rows::Same) } else { self.but_along(is_same, is_whole) }
    }

    fn reduced(&self, axes: &[usize]) -> Option<Rows> {
        self.along(|axis| (!axes.contains(&axis)).then(|| axis - axes.iter().filter(|&&gone| gone < axis).count()))
    }

    /// The result has the axes of the operand before `axis`, those of the indices behind the batch, and the others.
    fn gathered(&self, axis: usize, batch: usize) -> Option<Rows> {
        let put = self.rank(1) - batch;
        let of_table = |along: usize| match along {
            along if along < axis => Some(along),
            along if along > axis => Some(along - 1 + put),
            _ => None,
        };
        let of_indices = |along: usize| Some(if along < batch { along } else { axis + along - batch });
        agreed([shifted(self.operands[0], of_table)?, shifted(self.operands[1], of_indices)?].into_iter())
    }

    fn scattered(&self, axis: usize, batch: usize) -> Option<Rows> {
        let put = self.rank(1) - batch;
        let of_table = |along: usize| (along != axis).then_some(along);
        let of_indices = |along: usize| (along < batch).then_some(along);
        let of_updates = |along: usize| match along {
            along if along < axis => Some(along),
            along if along >= axis + put => Some(along + 1 - put),
            _ => None,
        };
        let [table, indices, updates] = [self.operands[0], self.operands[1], self.operands[2]];
        agreed([shifted(table, of_table)?, shifted(indices, of_indices)?, shifted(updates, of_updates)?].into_iter())
    }

    fn product(&self, batch: usize, a_axes: &[usize], b_axes: &[usize]) -> Option<Rows> {
        let place = |axis: usize, gone: &[usize], before: usize| match axis {
            axis if axis < batch => Some(axis),
            axis if gone.contains(&axis) => None,
            axis => Some(before + axis - gone.iter().filter(|&&other| other < axis).count()),
        };
        let free_of_a = self.rank(0) - batch - a_axes.len();
        let a = shifted(self.operands[0], |axis| place(axis, a_axes, 0))?;
        let b = shifted(self.operands[1], |axis| place(axis, b_axes, free_of_a))?;
        agreed([a, b].into_iter())
    }

    /// Images of a batch by one weight.
    fn convolved(&self) -> Option<Rows> {
        match (self.operands[0], self.operands[1]) {
            (Rows::Along(along), Rows::Same) if along.axis == 0 => Some(Rows::Along(along)),
            (Rows::Same, Rows::Same) => Some(Rows::Same),
            (Rows::Same | Rows::Along(_) | Rows::Mixed(_), _) => None,
        }
    }

    /// The results of a loop: the last carried values, then what is stacked.
    fn of_loop(&self, scan: &Scan, other: &Scan) -> Vec<Rows> {
        let all_mixed = || vec![self.mixed(); self.node.results.len()];
        if scan.length != other.length {
            return all_mixed();
        }
        let slices = scan.carries..scan.carries + scan.slices;
        let step = |axis: usize| axis.checked_sub(1);
        let mut operands = self.operands.clone();
        for rows in &mut operands[slices] {
            *rows = shifted(*rows, step).unwrap_or_else(|| self.mixed());
        }
        loop {
            let given = [&[Rows::Same], &operands[..]].concat();
            let Some(found) = spread(&scan.body, &other.body, Some(&given)) else { return all_mixed() };
            // Nodes of the body have no place in the program around it.
            let here = |rows: Rows| if let Rows::Mixed(_) = rows { self.mixed() } else { rows };
            let results: Vec<Rows> =
                scan.body.outputs().iter().map(|output| here(found[output.value.index()])).collect();
            let next: Vec<Rows> = (0..scan.carries)
                .map(|at| agreed([operands[at], results[at]].into_iter()).unwrap_or_else(|| self.mixed()))
                .map(here)
                .collect();
            if next == operands[..scan.carries] {
                let stacked = |rows: &Rows| shifted(*rows, |axis| Some(axis + 1)).unwrap_or_else(|| self.mixed());
                return next.into_iter().chain(results[scan.carries..].iter().map(stacked)).collect();
            }
            operands[..scan.carries].copy_from_slice(&next);
        }
    }
}

/// What several values make together, element by element; `None` where they have their rows in different places.
fn agreed(values: impl Iterator<Item = Rows>) -> Option<Rows> {
    let mut together = Rows::Same;
    for rows in values {
        together = match (together, rows) {
            (mixed @ Rows::Mixed(_), _) | (_, mixed @ Rows::Mixed(_)) => mixed,
            (Rows::Same, rows) | (rows, Rows::Same) => rows,
            (Rows::Along(a), Rows::Along(b)) if (a.axis, a.inner) == (b.axis, b.inner) => {
                Rows::Along(Axis { is_alike: a.is_alike && b.is_alike, ..a })
            }
            (Rows::Along(_), Rows::Along(_)) => return None,
        };
    }
    Some(together)
}

/// Rows along another axis; `None` where that is gone.
fn shifted(rows: Rows, place: impl Fn(usize) -> Option<usize>) -> Option<Rows> {
    match rows {
        Rows::Along(along) => place(along.axis).map(|axis| Rows::Along(Axis { axis, ..along })),
        Rows::Same | Rows::Mixed(_) => Some(rows),
    }
}

/// Where `rows` rows lie after a reshape, which keeps the order of elements: a row is so many neighbouring ones.
fn reshaped(from: Axis, old: &Shape, new: &Shape, rows: usize) -> Option<Axis> {
    let behind = |shape: &Shape, axis: usize| {
        shape[axis + 1..].iter().map(Dim::size).try_fold(1usize, |places, size| places.checked_mul(size))
    };
    let one = from.inner.checked_mul(behind(old, from.axis)?)?;
    let all = one.checked_mul(rows)?;
    let inner = |axis: usize| {
        let stride = behind(new, axis)?;
        let is_whole = one.is_multiple_of(stride) && new[axis].size().checked_mul(stride)?.is_multiple_of(all);
        is_whole.then(|| one.checked_div(stride))?
    };
    (0..new.rank()).find_map(|axis| Some(Axis { axis, inner: inner(axis)?, ..from }))
}
