//! Loops over time: the launches of a body, run again and again.
//!
//! A carried value has a buffer that lives as long as the loop. Before the loop the first value is copied there; a step
//! makes the next one in its place where every other reader of the old one can come first, else it is copied there at
//! the step's end. A scanned operand is read, and a stacked value written, as a row of the whole that moves with the
//! steps. What is captured is read where it lies.
//!
//! A carried value that is stacked as well, before a step or after it, leaves a [`Trail`]: each step puts the next one
//! behind the one it reads, and nothing is copied but the first.

use super::memory::{Buffer, BufferId, Home, Place, Source};
use super::placed::Parts;
use super::stored::digits::Kept;
use super::trail::{self, Trail};
use super::{Destination, LowerError, Lowering, Pending, map, prepare};
use crate::ir::Elem;
use crate::plan::Repeat;
use nnc_graph::{DType, Graph, NodeId, Op, Scan, ValueId};
use nnc_opt::fuse::{Group, Layout, Partition, Views};
use std::collections::{BTreeMap, BTreeSet};

/// The fewest steps that share what is made ahead of them.
const WORTH_STEPS: usize = 4;

/// Lowers a loop group.
pub fn lower(lowering: &mut Lowering<'_>, group: &Group) -> Result<(), LowerError> {
    let graph = lowering.graph;
    let node = graph.node(group.nodes[0]);
    let (Op::Scan(scan), Some(partition)) = (&node.op, group.body.as_deref()) else {
        return Err(LowerError::bug("a loop group without a loop"));
    };
    let operands: Vec<Source> =
        node.operands.iter().map(|&operand| lowering.source(operand)).collect::<Result<_, _>>()?;
    let mut trails = trail::find(lowering, scan, &node.results);
    let mut carried = Vec::new();
    for (at, &result) in node.results.iter().take(scan.carries).enumerate() {
        let (place, first) = match trails.carried.remove(&at) {
            Some(trail) => {
                let first = part(lowering, &trail.first);
                (Carried::Trail(trail), first)
            }
            None => {
                let place = lowering.store(result)?;
                let first = place.buffer;
                (Carried::Place(place), first)
            }
        };
        map::copy(lowering, node.operands[at], operands[at].clone(), first)?;
        carried.push(place);
    }
    let mut stacks = Vec::new();
    for (at, &result) in node.results[scan.carries..].iter().enumerate() {
        stacks.push(match trails.stacks.get(&at) {
            Some(place) => {
                lowering.sources[result.index()] = Some(Source::Stored(place.clone()));
                None
            }
            None => Some(lowering.store(result)?),
        });
    }
    let it = Loop { scan, carried, stacks, operands };
    it.lower_body(lowering, (group.nodes[0], partition))?;
    it.finish(lowering, &node.results)
}

/// A loop whose operands and results have places.
struct Loop<'g> {
    scan: &'g Scan,
    carried: Vec<Carried>,
    /// None of those that lie in a trail.
    stacks: Vec<Option<Place>>,
    operands: Vec<Source>,
}

/// Where a carried value is.
enum Carried {
    /// In one place, where each step puts the next one.
    Place(Place),
    /// In a row of its own in each step.
    Trail(Trail),
}

/// What a lowering knows of one graph.
struct Scope<'g> {
    graph: &'g Graph,
    sources: Vec<Option<Source>>,
    planned: BTreeMap<ValueId, BufferId>,
    parts: Parts,
    written_in_place: BTreeSet<ValueId>,
    group: Option<usize>,
    constants: Vec<bool>,
    fixed: Vec<bool>,
    ahead: Vec<Pending>,
    digits: Kept,
}

/// Puts another graph in the place of the one that is lowered, and gives that.
fn exchange<'g>(lowering: &mut Lowering<'g>, scope: Scope<'g>) -> Scope<'g> {
    Scope {
        graph: std::mem::replace(&mut lowering.graph, scope.graph),
        sources: std::mem::replace(&mut lowering.sources, scope.sources),
        planned: std::mem::replace(&mut lowering.planned, scope.planned),
        parts: std::mem::replace(&mut lowering.parts, scope.parts),
        written_in_place: std::mem::replace(&mut lowering.written_in_place, scope.written_in_place),
        group: std::mem::replace(&mut lowering.group, scope.group),
        constants: std::mem::replace(&mut lowering.constants, scope.constants),
        fixed: std::mem::replace(&mut lowering.fixed, scope.fixed),
        ahead: std::mem::replace(&mut lowering.ahead, scope.ahead),
        digits: std::mem::replace(&mut lowering.digits, scope.digits),
    }
}

impl<'g> Loop<'g> {
    fn lower_body(
        &self,
        lowering: &mut Lowering<'g>,
        (node, partition): (NodeId, &Partition),
    ) -> Result<(), LowerError> {
        let body: &'g Graph = &self.scan.body;
        let sources = vec![None; body.value_count()];
        let constants = self.constants(lowering, node);
        let fixed = self.fixed();
        let (planned, parts, written_in_place) = (BTreeMap::new(), Parts::default(), BTreeSet::new());
        let (ahead, digits, group) = (Vec::new(), Kept::new(), None);
        let graph = body;
        let scope = Scope { graph, sources, planned, parts, written_in_place, group, constants, fixed, ahead, digits };
        let outer = exchange(lowering, scope);
        let depth = lowering.scans.len() as u32;
        lowering.scans.push(node);
        let (launch, inner) = (lowering.line.launches.len(), lowering.line.loops.len());
        let index = self.enter(lowering, depth)?;
        let destinations = self.destinations(lowering, depth);
        lowering.lower_all(partition, &destinations)?;
        let launches = run_ahead(lowering, launch, inner)..lowering.line.launches.len();
        if !launches.is_empty() {
            let index = reads_index(body).then_some(index);
            let steps = self.scan.length.size() as u64;
            let repeat = Repeat { launches, steps, reverse: self.scan.reverse, index, stages: vec![] };
            lowering.line.loops.insert(inner, repeat);
        }
        lowering.scans.pop();
        exchange(lowering, outer);
        Ok(())
    }

    /// Which values of the body are the same in every step of every run.
    fn constants(&self, lowering: &Lowering<'g>, node: NodeId) -> Vec<bool> {
        let body: &'g Graph = &self.scan.body;
        let operands = &lowering.graph.node(node).operands;
        let captured = |input: ValueId| {
            let at = input.index().checked_sub(1).filter(|at| *at >= self.scan.carries + self.scan.slices);
            at.and_then(|at| operands.get(at)).is_some_and(|&operand| lowering.is_constant(operand))
        };
        match lowering.constants.contains(&true) {
            true => prepare::constants(body, captured),
            false => vec![false; body.value_count()],
        }
    }

    /// Which values of the body are the same in every step of one run, if steps are worth making something ahead.
    fn fixed(&self) -> Vec<bool> {
        let body = &self.scan.body;
        let is_worth = self.scan.length.size() >= WORTH_STEPS;
        let captured = |input: ValueId| is_worth && input.index() > self.scan.carries + self.scan.slices;
        prepare::constants(body, captured)
    }

    /// Gives the inputs of the body their sources, and the buffer for the number of the step.
    fn enter(&self, lowering: &mut Lowering<'g>, depth: u32) -> Result<BufferId, LowerError> {
        let index = lowering.temporary(DType::I64.size());
        let place = Place { buffer: index, elem: Elem::I64, layout: Layout::contiguous(&[]) };
        lowering.sources[self.scan.index().index()] = Some(Source::Stored(place));
        for (at, source) in self.operands.iter().enumerate() {
            let source = match source {
                _ if at < self.scan.carries => Source::Stored(match &self.carried[at] {
                    Carried::Place(place) => place.clone(),
                    Carried::Trail(trail) => row(lowering, &trail.before, depth),
                }),
                Source::Stored(place) if at < self.scan.carries + self.scan.slices => {
                    Source::Stored(row(lowering, place, depth))
                }
                other => other.clone(),
            };
            lowering.sources[1 + at] = Some(source);
        }
        // The inputs have sources by now; what is left are constants.
        lowering.leaves()?;
        Ok(index)
    }

    /// The next carried values go where the carried ones are, or behind them, stacked ones to their rows.
    fn destinations(&self, lowering: &mut Lowering<'g>, depth: u32) -> Vec<Destination> {
        let mut found = Vec::new();
        for ((at, value), carried) in self.scan.next().into_iter().enumerate().zip(&self.carried) {
            found.push(match carried {
                Carried::Place(place) => {
                    Destination { value, buffer: Some(place.buffer), updates: Some(self.scan.carry(at)) }
                }
                Carried::Trail(trail) => {
                    Destination { value, buffer: Some(row(lowering, &trail.after, depth).buffer), updates: None }
                }
            });
        }
        for (value, stack) in self.scan.stacked().into_iter().zip(&self.stacks) {
            let buffer = stack.as_ref().map(|place| row(lowering, place, depth).buffer);
            found.push(Destination { value, buffer, updates: None });
        }
        found
    }

    /// Sees to it that the last carried values are where they are wanted.
    fn finish(&self, lowering: &mut Lowering<'g>, results: &[ValueId]) -> Result<(), LowerError> {
        for (carried, &result) in self.carried.iter().zip(results) {
            let Carried::Trail(trail) = carried else { continue };
            let last = Source::Stored(trail.last.clone());
            if lowering.planned.contains_key(&result) {
                let wanted = lowering.store(result)?;
                map::copy(lowering, result, last, wanted.buffer)?;
            } else {
                lowering.sources[result.index()] = Some(last);
            }
        }
        Ok(())
    }
}

/// Puts what was made ahead of a loop before it, at the place `launch`, and moves the loops from `inner` on, which lie
/// in it. Gives where the loop begins.
fn run_ahead(lowering: &mut Lowering<'_>, launch: usize, inner: usize) -> usize {
    let ahead = std::mem::take(&mut lowering.ahead);
    let count = ahead.len();
    lowering.line.launches.splice(launch..launch, ahead);
    for each in &mut lowering.line.loops[inner..] {
        each.launches = each.launches.start + count..each.launches.end + count;
    }
    launch + count
}

/// The row of the current step along axis 0.
fn row(lowering: &mut Lowering<'_>, whole: &Place, depth: u32) -> Place {
    let size = whole.elem.size() as i64;
    let layout =
        Layout { dims: whole.layout.dims[1..].to_vec(), strides: whole.layout.strides[1..].to_vec(), offset: 0 };
    let home = Home::Row {
        of: whole.buffer,
        start: (whole.layout.offset * size) as u64,
        stride: whole.layout.strides[0] * size,
        depth,
    };
    let bytes = layout.elements() * size as usize;
    Place { buffer: inside(lowering, bytes, home), elem: whole.elem, layout }
}

/// The memory of a place that lies in a row, as a buffer.
fn part(lowering: &mut Lowering<'_>, place: &Place) -> BufferId {
    let size = place.elem.size();
    let home = Home::Part { of: place.buffer, start: (place.layout.offset as usize * size) as u64 };
    inside(lowering, place.layout.elements() * size, home)
}

/// A buffer that lies in another one.
fn inside(lowering: &mut Lowering<'_>, bytes: usize, home: Home) -> BufferId {
    lowering.buffers.push(Buffer { bytes, home, holds: None });
    BufferId(lowering.buffers.len() as u32 - 1)
}

/// Whether a node of a body, or an output, reads the number of the step.
fn reads_index(body: &Graph) -> bool {
    let views = Views::new(body);
    let is_index = |value: ValueId| views.base(value) == ValueId(0);
    body.nodes().any(|(_, node)| node.operands.iter().any(|&operand| is_index(operand)))
        || body.outputs().iter().any(|output| is_index(output.value))
}
