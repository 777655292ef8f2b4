//! Windows of images with channels last: single elements along the innermost axis, so that vectors lie along channels.
//!
//! All channels of a place have the same taps. So where these lie is worked out once for a place, and a place whose
//! windows reach into padding goes another way than one whose windows do not: most places ask nothing of a tap. At the
//! borders, a tap outside is that of the nearest place inside if a maximum is wanted, which has that one already; a sum
//! takes the identity. A task has some places of the result, line by line.

use super::{Body, Geometry, Kind, Tap, fold};
use crate::ir::{Builder, Value};
use crate::lower::evaluate::{Known, Point};
use crate::lower::loops::{Split, coordinates, span};
use nnc_graph::WindowOp;

/// What is computed of windows, if they go this way: single elements along the innermost axis, of which each has a tap
/// that lies inside.
pub fn serves(kind: Kind, geometry: &Geometry) -> Option<WindowOp> {
    let Kind::Whole(op) = kind else { return None };
    let reaches = |axis: usize| {
        let last = (geometry.output[axis] - 1) * geometry.stride[axis];
        geometry.low[axis] < geometry.size[axis] && last < geometry.input[axis] + geometry.low[axis]
    };
    let places = geometry.size.len() - 1;
    (places > 0 && geometry.is_single() && (0..places).all(reaches)).then_some(op)
}

/// Where the taps of windows lie along an axis, at one place of it.
struct Along {
    /// Where each tap lies, brought into range, in elements.
    at: Vec<Value>,
    /// Whether each tap lies inside; empty if all always do.
    inside: Vec<Value>,
    /// Whether all of them do; `None` if they always do.
    all: Option<Value>,
}

impl Along {
    fn new(b: &mut Builder, geometry: &Geometry, axis: usize, place: Value, stride: i64) -> Self {
        let low = geometry.low[axis] as i64;
        let first = b.affine(&[(place, geometry.stride[axis] as i64)], -low);
        let size = geometry.size[axis] as i64;
        let taps: Vec<Value> = (0..size).map(|tap| b.add_index(first, tap)).collect();
        if geometry.is_inside(axis) {
            let at = taps.into_iter().map(|tap| b.mul_index(tap, stride)).collect();
            return Self { at, inside: vec![], all: None };
        }
        let (zero, last) = (b.index(0), b.index(geometry.input[axis] as i64 - 1));
        let inside: Vec<Value> = taps
            .iter()
            .map(|&tap| {
                let (after, before) = (b.ge(tap, zero), b.le(tap, last));
                b.and(after, before)
            })
            .collect();
        let all = b.and(inside[0], inside[inside.len() - 1]);
        let clamped = |tap: Value| {
            let tap = b.max(tap, zero);
            let tap = b.min(tap, last);
            b.mul_index(tap, stride)
        };
        Self { at: taps.into_iter().map(clamped).collect(), inside, all: Some(all) }
    }
}

/// Where the taps of a place lie, in the first channel.
enum Taps {
    /// All inside: the first one, and how far from it each lies.
    Inner(Value, Vec<i64>),
    /// Each where it lies, and whether that is inside, if anything depends on it.
    Border(Vec<(Value, Option<Value>)>),
}

/// Both, where either may be known.
fn both(b: &mut Builder, one: Option<Value>, other: Option<Value>) -> Option<Value> {
    match (one, other) {
        (Some(one), Some(other)) => Some(b.and(one, other)),
        (found, None) | (None, found) => found,
    }
}

impl Body<'_, '_> {
    /// Some places of the result.
    pub(super) fn places(&self, b: &mut Builder, (task, split): (Value, Split), op: WindowOp, widths: &[u8]) {
        let dims = &self.group.domain;
        let channel = dims.len() - 1;
        let across = channel - 1;
        let strides = &self.x.1.layout.strides;
        let line = b.index(dims[across] as i64);
        let (start, end) = split.bounds(b, task);
        let first_line = b.div(start, line);
        let reach = b.add_index(end, dims[across] as i64 - 1);
        let last_line = b.div(reach, line);
        let (zero, one) = (b.index(0), b.index(1));
        b.for_loop(first_line, last_line, one, &[], |b, number, _| {
            let outer = coordinates(b, number, &dims[..across]);
            let mut along: Vec<Along> =
                (2..across).map(|axis| Along::new(b, &self.geometry, axis - 2, outer[axis], strides[axis])).collect();
            let origin = b.affine(&[(outer[0], strides[0]), (outer[1], strides[1])], self.x.1.layout.offset);
            let of_line = b.mul_index(number, -(dims[across] as i64));
            let (from, to) = (b.add(start, of_line), b.add(end, of_line));
            let (from, to) = (b.max(from, zero), b.min(to, line));
            b.for_loop(from, to, one, &[], |b, place, _| {
                along.push(Along::new(b, &self.geometry, across - 2, place, strides[across]));
                let point = Point { coordinates: [&outer[..], &[place, zero]].concat(), vector: channel, lanes: 1 };
                let is_inside = along.iter().fold(None, |all, axis| both(b, all, axis.all));
                let inner = |b: &mut Builder| {
                    let taps = self.inner(b, origin, &along);
                    self.channels(b, &point, (op, widths), &taps);
                    vec![]
                };
                let Some(is_inside) = is_inside else { return inner(b) };
                b.if_else(is_inside, inner, |b| {
                    let taps = border(b, op, origin, &along);
                    self.channels(b, &point, (op, widths), &taps);
                    vec![]
                })
            });
            vec![]
        });
    }

    /// The windows of a place, and what is computed of them.
    fn channels(&self, b: &mut Builder, point: &Point, (op, widths): (WindowOp, &[u8]), taps: &Taps) {
        let (memory, x) = self.x;
        let mut known = Known::default();
        self.frame.hoist(b, point, &mut known, |axis| axis == point.vector);
        let range = (b.index(0), b.index(self.group.domain[point.vector] as i64));
        let stride = x.layout.strides[point.vector];
        span(b, range, widths, |b, channel, lanes| {
            let moved = b.mul_index(channel, stride);
            let step = b.index(stride);
            let read = |b: &mut Builder, at: Value, inside: Option<Value>| {
                let value = b.load_strided(memory, at, step, lanes);
                Tap { value, inside, at: vec![] }
            };
            let taps: Vec<Tap> = match taps {
                Taps::Inner(first, distances) => {
                    let first = b.add(*first, moved);
                    let places: Vec<Value> = distances.iter().map(|&distance| b.add_index(first, distance)).collect();
                    places.into_iter().map(|at| read(b, at, None)).collect()
                }
                Taps::Border(taps) => {
                    let places: Vec<Value> = taps.iter().map(|&(at, _)| b.add(at, moved)).collect();
                    places.into_iter().zip(taps).map(|(at, &(_, inside))| read(b, at, inside)).collect()
                }
            };
            let value = fold(b, op, &taps);
            let mut coordinates = point.coordinates.clone();
            coordinates[point.vector] = channel;
            let point = Point { coordinates, lanes, ..*point };
            let mut known = known.clone();
            known.bind(self.frame.graph.node(self.anchor).results[0], value, lanes);
            self.frame.evaluate_and_write(b, &point, &mut known, &self.group.outputs);
        });
    }

    /// The taps of a place whose windows lie inside.
    fn inner(&self, b: &mut Builder, origin: Value, along: &[Along]) -> Taps {
        let first = along.iter().fold(origin, |sum, axis| b.add(sum, axis.at[0]));
        let strides = &self.x.1.layout.strides[2..];
        let distance = |tap: &Vec<usize>| tap.iter().zip(strides).map(|(&at, stride)| at as i64 * stride).sum();
        Taps::Inner(first, self.geometry.taps().iter().map(distance).collect())
    }
}

/// The taps of a place at the border.
fn border(b: &mut Builder, op: WindowOp, origin: Value, along: &[Along]) -> Taps {
    let mut taps = vec![(origin, None)];
    for axis in along {
        let mut next = Vec::new();
        for (first, inside) in taps {
            for (tap, &at) in axis.at.iter().enumerate() {
                let own = axis.inside.get(tap).copied().filter(|_| op == WindowOp::Sum);
                next.push((b.add(first, at), both(b, inside, own)));
            }
        }
        taps = next;
    }
    Taps::Border(taps)
}
