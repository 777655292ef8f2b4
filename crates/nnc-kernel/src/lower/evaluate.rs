//! The value of a member at a point of its group's domain, or at several neighbouring points at once.

use super::frame::{Frame, Read, Walk};
use super::{indexed, scalar};
use crate::ir::{Builder, Value};
use nnc_graph::{NodeId, ValueId};
use nnc_opt::fuse::{Class, class};
use std::collections::HashMap;

/// One point of the domain, or `lanes` neighbours along the axis `vector`, of which it is the first.
#[derive(Clone, Debug)]
pub struct Point {
    /// The coordinate along each axis, an index.
    pub coordinates: Vec<Value>,
    /// The axis along which lanes lie.
    pub vector: usize,
    /// Number of lanes.
    pub lanes: u8,
}

/// Values known at a point, by number of lanes. What is known further out (once for the task, once for a row) is known
/// further in: the map is cloned on the way.
#[derive(Clone, Debug, Default)]
pub struct Known(HashMap<(ValueId, u8), Value>);

impl Known {
    /// Notes a value.
    pub fn bind(&mut self, value: ValueId, at: Value, lanes: u8) {
        self.0.insert((value, lanes), at);
    }

    /// The value in so many lanes; one that is known as a scalar is repeated.
    pub fn get(&mut self, b: &mut Builder, value: ValueId, lanes: u8) -> Option<Value> {
        if let Some(&known) = self.0.get(&(value, lanes)) {
            return Some(known);
        }
        let scalar = *self.0.get(&(value, 1))?;
        let repeated = b.splat(scalar, lanes);
        self.0.insert((value, lanes), repeated);
        Some(repeated)
    }
}

impl Frame<'_> {
    /// `value` at a point.
    pub fn evaluate(&self, b: &mut Builder, point: &Point, known: &mut Known, value: ValueId) -> Value {
        let member = self.member_of(value);
        let name = member.unwrap_or(value);
        if let Some(found) = known.get(b, name, point.lanes) {
            return found;
        }
        let result = match member {
            Some(member) => self.compute(b, point, known, self.graph.value(member).node),
            None => match &self.reads.get(&value) {
                Some(read) => self.load(b, point, read, None),
                // A result that the kernel itself makes is known by its base.
                None => self.evaluate_base(b, point, known, value),
            },
        };
        known.bind(name, result, point.lanes);
        result
    }

    fn evaluate_base(&self, b: &mut Builder, point: &Point, known: &mut Known, value: ValueId) -> Value {
        let base = nnc_opt::fuse::base(self.graph, value);
        known.get(b, base, point.lanes).unwrap_or_else(|| panic!("compiler bug: {value} is not at hand in its kernel"))
    }

    fn compute(&self, b: &mut Builder, point: &Point, known: &mut Known, id: NodeId) -> Value {
        let node = self.graph.node(id);
        if class(&node.op) == Class::Indexed {
            return indexed::compute(self, b, point, id);
        }
        let operands: Vec<Value> =
            node.operands.iter().map(|&operand| self.evaluate(b, point, known, operand)).collect();
        scalar::compute(b, &node.op, &operands)
    }

    /// Reads an operand at a point, `moved` elements further on.
    pub fn load(&self, b: &mut Builder, point: &Point, read: &Read, moved: Option<Value>) -> Value {
        match read {
            Read::Uniform(elem, bits) => b.constant(crate::ir::Type::vector(*elem, point.lanes), *bits),
            Read::Memory(walk) => {
                let offset = offset(b, point, walk, moved);
                load_along(b, walk, offset, point)
            }
        }
    }

    /// Writes an output at a point.
    pub fn write(&self, b: &mut Builder, point: &Point, output: ValueId, value: Value) {
        let walk = &self.writes[&output];
        let offset = offset(b, point, walk, None);
        if point.lanes == 1 {
            return b.store(walk.memory, offset, value);
        }
        let stride = b.index(walk.strides[point.vector]);
        b.store_strided(walk.memory, offset, stride, value);
    }

    /// Evaluates every output first and writes then, so that an output may take an operand's place.
    pub fn evaluate_and_write(&self, b: &mut Builder, point: &Point, known: &mut Known, outputs: &[ValueId]) {
        let values: Vec<Value> = outputs.iter().map(|&output| self.evaluate(b, point, known, output)).collect();
        for (&output, value) in outputs.iter().zip(values) {
            self.write(b, point, output, value);
        }
    }

    /// Whether a point may have lanes behind the end of `axis` that are left out at no cost: everything lies side by
    /// side along the axis or is the same, and no member looks for its operands elsewhere.
    pub fn leaves_out_lanes(&self, axis: usize) -> bool {
        let in_rows = |read: &Read| match read {
            Read::Uniform(..) => true,
            Read::Memory(walk) => matches!(walk.strides[axis], 0 | 1),
        };
        self.target.has_masked_stores()
            && self.indexed.is_empty()
            && self.members.iter().all(|&id| class(&self.graph.node(id).op) != Class::Indexed)
            && self.reads.values().all(in_rows)
            && self.writes.values().all(|walk| walk.strides[axis] == 1)
    }

    /// As [`Self::evaluate_and_write`], of the lanes alone that a mask has, where [`Self::leaves_out_lanes`] holds:
    /// nothing of the others is read or written.
    pub fn evaluate_and_write_some(
        &self,
        b: &mut Builder,
        point: &Point,
        known: &mut Known,
        (outputs, mask): (&[ValueId], Value),
    ) {
        for (&value, read) in &self.reads {
            let Read::Memory(walk) = read else { continue };
            if walk.strides[point.vector] == 1 && known.get(b, value, point.lanes).is_none() {
                let offset = offset(b, point, walk, None);
                let loaded = b.load_masked(walk.memory, offset, mask);
                known.bind(value, loaded, point.lanes);
            }
        }
        let values: Vec<Value> = outputs.iter().map(|&output| self.evaluate(b, point, known, output)).collect();
        for (output, value) in outputs.iter().zip(values) {
            let walk = &self.writes[output];
            let offset = offset(b, point, walk, None);
            b.store_masked(walk.memory, offset, mask, value);
        }
    }

    /// As [`Self::hoist`], for all lanes of a point: reads whole vectors.
    pub fn hoist_lanes(&self, b: &mut Builder, point: &Point, known: &mut Known, moving: impl Fn(usize) -> bool) {
        for (&value, read) in &self.reads {
            let Read::Memory(walk) = read else { continue };
            let fixed = (0..walk.strides.len()).all(|axis| walk.strides[axis] == 0 || !moving(axis));
            if fixed && known.get(b, value, point.lanes).is_none() {
                let loaded = self.load(b, point, read, None);
                known.bind(value, loaded, point.lanes);
            }
        }
    }

    /// Reads what does not change along the axes that `moving` tells, so that it is read once outside of their loops.
    pub fn hoist(&self, b: &mut Builder, point: &Point, known: &mut Known, moving: impl Fn(usize) -> bool) {
        let scalar = Point { lanes: 1, ..point.clone() };
        self.hoist_lanes(b, &scalar, known, moving);
    }
}

/// The element of the point's first lane.
pub fn offset(b: &mut Builder, point: &Point, walk: &Walk, moved: Option<Value>) -> Value {
    let mut terms: Vec<(Value, i64)> = Vec::new();
    for (&coordinate, &stride) in point.coordinates.iter().zip(&walk.strides) {
        if stride != 0 {
            terms.push((coordinate, stride));
        }
    }
    terms.extend(moved.map(|value| (value, 1)));
    b.affine(&terms, walk.offset)
}

fn load_along(b: &mut Builder, walk: &Walk, offset: Value, point: &Point) -> Value {
    if point.lanes == 1 {
        return b.load(walk.memory, offset, 1);
    }
    match walk.strides[point.vector] {
        0 => b.load_splat(walk.memory, offset, point.lanes),
        1 => b.load(walk.memory, offset, point.lanes),
        stride => {
            let stride = b.index(stride);
            b.load_strided(walk.memory, offset, stride, point.lanes)
        }
    }
}
