//! Bytes of four planes laid side by side, as an image with channels first is brought to channels last.
//!
//! A vector of each plane becomes lanes of 32 bits, shifted to its place in a word and joined with the others: each
//! byte is read once, and words are written side by side.

use crate::ir::{Builder, Direction, Elem, Memory, Value};
use crate::lower::loops::{Split, coordinates, span, widths_of};
use crate::lower::memory::{BufferId, KernelDraft, Place};
use crate::lower::{LowerError, Lowering};

/// Bytes of a word.
const BYTES: usize = 4;
/// Words that are worth a task of their own.
const TASK: usize = 1 << 14;

/// Whether these are bytes in neighbouring places of four planes.
pub fn fits(place: &Place, dims: &[usize]) -> bool {
    let strides = &place.layout.strides;
    match dims {
        [.., _, inner] => place.elem.size() == 1 && *inner == BYTES && strides[dims.len() - 2] == 1,
        _ => false,
    }
}

/// Copies what [`fits`] into a buffer in row-major order.
///
/// # Errors
/// A bug in the compiler.
pub fn copy(lowering: &mut Lowering<'_>, place: &Place, (dims, to): (&[usize], BufferId)) -> Result<(), LowerError> {
    let mut draft = KernelDraft::new("interleave");
    let from = draft.param(place.buffer, Elem::U8, Direction::In);
    let to = draft.param(to, Elem::I32, Direction::Out);
    let rank = dims.len();
    let (outer, line) = (&dims[..rank - 2], dims[rank - 2]);
    let (strides, plane) = (&place.layout.strides[..rank - 2], place.layout.strides[rank - 1]);
    let lanes = lowering.lanes_of(Elem::I32);
    let split = Split::new(line, TASK, usize::from(lanes));
    let counts = [outer, &[split.tasks() as usize]].concat();
    draft.builder.phase(counts.iter().product::<usize>() as u64, |b, task| {
        let at = coordinates(b, task, &counts);
        let (at, part) = at.split_at(rank - 2);
        let terms: Vec<(Value, i64)> = at.iter().copied().zip(strides.iter().copied()).collect();
        let source = b.affine(&terms, place.layout.offset);
        let tasks_of_line = b.index(split.tasks() as i64);
        let number = b.div(task, tasks_of_line);
        let target = b.mul_index(number, line as i64);
        let (start, end) = split.bounds(b, part[0]);
        let count = b.sub(end, start);
        let widths = widths_of(b, count, lanes);
        span(b, (start, end), &widths, |b, at, lanes| {
            let first = b.add(source, at);
            let word = word(b, from, (first, plane), lanes);
            let place = b.add(target, at);
            b.store(to, place, word);
        });
    });
    lowering.append(draft, vec![], 2 * dims.iter().product::<usize>())
}

/// Words of neighbouring bytes of four planes, the first plane's lowest.
fn word(b: &mut Builder, from: Memory, (first, plane): (Value, i64), lanes: u8) -> Value {
    let byte = |b: &mut Builder, at: usize| {
        let place = b.add_index(first, at as i64 * plane);
        let byte = b.load(from, place, lanes);
        let wide = b.convert(byte, Elem::I32);
        let distance = b.i32(8 * at as i32, lanes);
        if at == 0 { wide } else { b.shl(wide, distance) }
    };
    let lowest = byte(b, 0);
    (1..BYTES).fold(lowest, |word, at| {
        let next = byte(b, at);
        b.or(word, next)
    })
}
