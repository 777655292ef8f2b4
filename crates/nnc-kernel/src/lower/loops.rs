//! Loops that every kernel needs: tasks, rows, and an axis in vectors with a scalar rest.

use crate::ir::{Builder, Value};

/// So many tasks are few: a thread that gets one more than the others has much more to do.
const FEW_TASKS: usize = 64;

/// How a range is divided into tasks. It depends on shapes alone, so that any number of threads gives the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Split {
    /// Length of the range.
    pub total: i64,
    /// Length of each task's part but the last.
    pub grain: i64,
}

impl Split {
    /// Parts of about `grain`, a multiple of `unit`.
    pub fn new(total: usize, grain: usize, unit: usize) -> Self {
        let grain = grain.max(1).next_multiple_of(unit.max(1)) as i64;
        Self { total: total as i64, grain: grain.min((total as i64).max(1)) }
    }

    /// Equal parts of at most about `grain`, as many as a power of two while they are few: then each of two or four
    /// threads has as much to do as the others, and kernels over the same rows leave each thread the rows that are in
    /// its own cache.
    pub fn even(total: usize, grain: usize, unit: usize) -> Self {
        let tasks = Self::new(total, grain, unit).tasks() as usize;
        let wanted = if tasks <= FEW_TASKS { tasks.next_power_of_two() } else { tasks };
        Self::new(total, total.div_ceil(wanted), unit)
    }

    /// Number of tasks.
    pub fn tasks(&self) -> u64 {
        (self.total as u64).div_ceil(self.grain as u64).max(1)
    }

    /// Where a task's part begins and ends.
    pub fn bounds(&self, b: &mut Builder, task: Value) -> (Value, Value) {
        if self.tasks() == 1 {
            return (b.index(0), b.index(self.total));
        }
        let start = b.mul_index(task, self.grain);
        let end = b.add_index(start, self.grain);
        if self.total % self.grain == 0 {
            return (start, end);
        }
        let total = b.index(self.total);
        (start, b.min(end, total))
    }
}

/// The coordinates along `dims` of the point with that row-major number.
pub fn coordinates(b: &mut Builder, number: Value, dims: &[usize]) -> Vec<Value> {
    let mut rest = number;
    let mut found = Vec::new();
    for (axis, &size) in dims.iter().enumerate().rev() {
        if axis == 0 {
            found.push(rest);
            break;
        }
        let size = b.index(size as i64);
        found.push(b.rem(rest, size));
        rest = b.div(rest, size);
    }
    found.reverse();
    found
}

/// Walks `start..end` in vectors of the first width, then of the next, and so on, and gives where that ends: at `end`
/// if the last width is 1.
pub fn span(
    b: &mut Builder,
    (start, end): (Value, Value),
    widths: &[u8],
    mut body: impl FnMut(&mut Builder, Value, u8),
) -> Value {
    let mut from = start;
    for &width in widths {
        let to = if width == 1 {
            end
        } else {
            let length = b.sub(end, from);
            let step = b.index(i64::from(width));
            let blocks = b.div(length, step);
            let whole = b.mul(blocks, step);
            b.add(from, whole)
        };
        let step = b.index(i64::from(width));
        b.for_loop(from, to, step, &[], |b, at, _| {
            body(b, at, width);
            vec![]
        });
        from = to;
    }
    from
}

/// Does something at a place of an axis if that is not behind its end; what is walked may reach further, up to `reach`.
pub fn within(b: &mut Builder, place: Value, (end, reach): (usize, usize), body: impl FnOnce(&mut Builder)) {
    if reach <= end {
        return body(b);
    }
    let end = b.index(end as i64);
    let inside = b.lt(place, end);
    b.if_then(inside, body);
}

/// The widths in which an axis of `size` is walked when vectors have `lanes` lanes.
pub fn widths(size: usize, lanes: u8) -> Vec<u8> {
    let mut widths: Vec<u8> = Vec::new();
    let mut rest = size;
    for width in [lanes, 8, 4, 2, 1].into_iter().filter(|&width| width <= lanes) {
        let fits = rest >= usize::from(width) && widths.last().is_none_or(|&last| width < last);
        if fits {
            rest %= usize::from(width);
            widths.push(width);
        }
    }
    widths
}

/// The widths in which so many elements are walked: any rest, when the count is not known.
pub fn widths_of(b: &Builder, count: Value, lanes: u8) -> Vec<u8> {
    match b.known_index(count) {
        Some(count) => widths(count as usize, lanes),
        None => vec![lanes, 1],
    }
}

/// What a nest does at each point: it gets the coordinates and the carried values, and gives their next ones.
pub type NestBody<'a> = dyn FnMut(&mut Builder, &[Value], Vec<Value>) -> Vec<Value> + 'a;

/// Nested loops over `dims`, carrying values; `body` gets the coordinates.
pub fn nest(b: &mut Builder, dims: &[usize], carried: Vec<Value>, body: &mut NestBody<'_>) -> Vec<Value> {
    nest_from(b, dims, &[], carried, body)
}

fn nest_from(
    b: &mut Builder,
    dims: &[usize],
    outer: &[Value],
    carried: Vec<Value>,
    body: &mut NestBody<'_>,
) -> Vec<Value> {
    let Some((&size, rest)) = dims.split_first() else { return body(b, outer, carried) };
    b.for_count(size as i64, &carried, |b, at, carried| {
        let outer = [outer, &[at]].concat();
        nest_from(b, rest, &outer, carried.to_vec(), body)
    })
}
