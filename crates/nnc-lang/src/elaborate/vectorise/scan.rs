//! The batching rule of a loop: a loop over the batched body. What is carried gets the batch axis, since the body may
//! make it differ from example to example; slices and captured values have it where the operands do.

use super::{Batcher, Lane, batched, vectorise};
use nnc_graph::scan::{BodyTypes, Scan};
use nnc_graph::{Op, TensorType, ValueId};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Batcher<'_> {
    pub(super) fn scan(&mut self, scan: &Scan, operands: &[Lane]) -> Result<Vec<Lane>, String> {
        let is_slice = |at: usize| (scan.carries..scan.carries + scan.slices).contains(&at);
        let mut values: Vec<ValueId> = Vec::with_capacity(operands.len());
        let mut inner: Vec<bool> = Vec::with_capacity(operands.len());
        for (at, &lane) in operands.iter().enumerate() {
            let is_carry = at < scan.carries;
            let value = if is_carry { self.lifted(lane) } else { lane.value };
            // A slice is taken along the first axis, which is the batch.
            values.push(if is_slice(at) && lane.batched { self.exchange_first_two(value) } else { value });
            inner.push(is_carry || lane.batched);
        }
        let mut body = Scan::inputs("body", &self.body_types(scan, &inner));
        let lanes = body_lanes(scan, &inner);
        let wanted = [scan.next(), scan.stacked()].concat();
        let mut leaf = |_: &mut nnc_graph::Graph, op: &Op| match op {
            Op::Input { name, .. } => lanes.get(name).copied().ok_or_else(|| format!("`{name}` in a loop")),
            other => Err(format!("`{}` in a loop", other.name())),
        };
        let results = vectorise(&scan.body, &wanted, &mut body, &self.n, &mut leaf)?;
        let (next, stacked) = results.split_at(scan.carries);
        Scan::outputs(&mut body, next, stacked);
        let op = Op::Scan(Scan { body: Arc::new(body), ..scan.clone() });
        let results = self.target.add(op, &values).map_err(|error| error.to_string())?;
        let (last, stacked) = results.split_at(scan.carries);
        let stacked: Vec<ValueId> = stacked.iter().map(|&value| self.exchange_first_two(value)).collect();
        Ok(last.iter().copied().chain(stacked).map(batched).collect())
    }

    /// The types of the operands in the batched body; `inner` says which of them have the batch axis.
    fn body_types(&self, scan: &Scan, inner: &[bool]) -> BodyTypes {
        let ty = |value: ValueId, has_batch: bool| {
            let own = scan.body.ty(value);
            let shape = if has_batch { self.with_n(&own.shape) } else { own.shape.clone() };
            TensorType::new(own.dtype, shape)
        };
        let (first, behind) = (scan.carries, scan.carries + scan.slices);
        BodyTypes {
            carries: (0..scan.carries).map(|at| ty(scan.carry(at), inner[at])).collect(),
            slices: (0..scan.slices).map(|at| ty(scan.slice(at), inner[first + at])).collect(),
            captures: (0..scan.captures()).map(|at| ty(scan.capture(at), inner[behind + at])).collect(),
        }
    }

    /// `[N, L, ...] -> [L, N, ...]`, and back.
    fn exchange_first_two(&mut self, x: ValueId) -> ValueId {
        let rank = self.target.ty(x).shape.rank();
        let permutation = [vec![1, 0], (2..rank).collect()].concat();
        self.emit(Op::Transpose(permutation), &[x])
    }
}

/// The inputs of the body by their names, as they are in the batched body.
fn body_lanes(scan: &Scan, inner: &[bool]) -> BTreeMap<String, Lane> {
    let mut lanes = BTreeMap::new();
    for (at, (_, node)) in scan.body.nodes().take(1 + inner.len()).enumerate() {
        if let Op::Input { name, .. } = &node.op {
            // The first is the number of the step; bodies number their inputs alike.
            lanes.insert(name.clone(), Lane { value: node.results[0], batched: at > 0 && inner[at - 1] });
        }
    }
    lanes
}
