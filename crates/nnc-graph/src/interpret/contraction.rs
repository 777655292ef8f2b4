//! `dot`, `conv` and its two transposes. A convolution and its transpose in the weights share one walk over all taps of
//! all windows; the transpose in the image walks over the taps that each of its places has. Padding is zeros that are
//! multiplied as any other: where the other factor is no finite number, the product is NaN.

use super::array::{Array, Data, indices, ravel, strides};
use super::movement;
use crate::infer::sum_of;
use crate::stored::NIBBLE_ZERO;
use crate::{ConvAttributes, DType, Stored, channels_first, channels_last};

pub(super) fn dot(a: &Array, b: &Array, batch: usize, a_axes: &[usize], b_axes: &[usize], dims: &[usize]) -> Array {
    let inner: Vec<usize> = a_axes.iter().map(|&axis| a.dims[axis]).collect();
    let (a_offsets, b_offsets) = (offsets(a, a_axes, &inner), offsets(b, b_axes, &inner));
    let free =
        |x: &Array, axes: &[usize]| (batch..x.dims.len()).filter(|axis| !axes.contains(axis)).collect::<Vec<_>>();
    let (a_free, b_free) = (free(a, a_axes), free(b, b_axes));
    let shared: Vec<usize> = (0..batch).collect();
    let sizes = |x: &Array, axes: &[usize]| axes.iter().map(|&axis| x.dims[axis]).collect::<Vec<_>>();
    let a_rows = offsets(a, &a_free, &sizes(a, &a_free));
    let b_rows = offsets(b, &b_free, &sizes(b, &b_free));
    let batches = offsets(a, &shared, &a.dims[..batch]).into_iter().zip(offsets(b, &shared, &b.dims[..batch]));
    let mut places = Vec::with_capacity(dims.iter().product());
    for (a_start, b_start) in batches {
        for a_row in &a_rows {
            places.extend(b_rows.iter().map(|b_row| (a_start + a_row, b_start + b_row)));
        }
    }
    let taps = |(i, j): (usize, usize)| a_offsets.iter().zip(&b_offsets).map(move |(p, q)| (i + p, j + q));
    match (&a.data, &b.data) {
        (Data::Float(x), Data::Float(y)) => {
            let sums = places.into_iter().map(|place| taps(place).map(|(p, q)| x[p] * y[q]).sum());
            Array::floats(a.dtype, dims, sums.collect())
        }
        (Data::Int(x), Data::Int(y)) => {
            let add = |sum: i64, (p, q): (usize, usize)| sum.wrapping_add(x[p].wrapping_mul(y[q]));
            Array::ints(sums_of(a, b), dims, places.into_iter().map(|place| taps(place).fold(0, add)).collect())
        }
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => unreachable!("one dtype"),
    }
}

/// Sums of groups of terms, each times its scale; a group of all where there are none.
pub(super) fn dot_stored(stored: Stored, operands: &[&Array], dims: &[usize]) -> Array {
    let (x, w) = (operands[0].to_floats(), operands[1].to_floats());
    let (depth, columns) = (operands[0].dims[operands[0].dims.len() - 1], dims[dims.len() - 1]);
    let scales = operands.get(2).map(|scales| scales.to_floats());
    let element = |k: usize, n: usize| match stored {
        Stored::Bf16 | Stored::Bytes { .. } => w[k * columns + n],
        Stored::Nibbles { .. } => {
            let byte = w[k / 2 * columns + n] as i64;
            ((byte >> (4 * (k % 2)) & 15) - NIBBLE_ZERO) as f64
        }
    };
    let group = stored.group().unwrap_or(depth).max(1);
    let sum_of_group = |row: usize, at: usize, n: usize| -> f64 {
        let terms = at * group..(at + 1) * group;
        let sum: f64 = terms.map(|k| x[row * depth + k] * element(k, n)).sum();
        sum * scales.as_ref().map_or(1.0, |scales| scales[at * columns + n])
    };
    let places = (0..dims.iter().product()).map(|place: usize| (place / columns, place % columns));
    let sums = places.map(|(row, n)| (0..depth / group).map(|at| sum_of_group(row, at, n)).sum());
    Array::floats(DType::F32, dims, sums.collect())
}

/// The dtype of the sums of products of two arrays.
fn sums_of(x: &Array, y: &Array) -> DType {
    sum_of(x.dtype, y.dtype).expect("a verified graph multiplies what has products")
}

/// The offset in `x` of every index over `axes`, in row-major order.
fn offsets(x: &Array, axes: &[usize], sizes: &[usize]) -> Vec<usize> {
    let strides = strides(&x.dims);
    indices(sizes).map(|index| index.iter().zip(axes).map(|(&at, &axis)| at * strides[axis]).sum()).collect()
}

/// Calls `meet(x, w, y)` with the positions of every tap of every window, where `x` is none in padding.
fn windows([x, w, y]: [&[usize]; 3], attributes: &ConvAttributes, meet: &mut dyn FnMut(Option<usize>, usize, usize)) {
    let outputs_per_group = w[0] / attributes.groups.size();
    for (y_at, out) in indices(y).enumerate() {
        let group = out[1] / outputs_per_group;
        for tap in indices(&w[1..]) {
            let channel = group * w[1] + tap[0];
            let spatial = read_by(&out[2..], &tap[1..], &x[2..], attributes);
            let x_at = spatial.map(|spatial| ravel(&[vec![out[0], channel], spatial].concat(), x));
            let w_at = ravel(&[vec![out[1]], tap].concat(), w);
            meet(x_at, w_at, y_at);
        }
    }
}

/// Where a tap of a window reads, when that is not padding.
fn read_by(out: &[usize], tap: &[usize], x: &[usize], at: &ConvAttributes) -> Option<Vec<usize>> {
    let along = |i: usize| {
        let padded = out[i] * at.stride[i].size() + tap[i] * at.dilation[i].size();
        padded.checked_sub(at.low[i].size()).filter(|&position| position < x[i])
    };
    (0..out.len()).map(along).collect()
}

/// Calls `meet(x, w, y)` with the positions of every place of the image and every tap that windows can have there,
/// where `y` is none if there is no such window: beyond the first and the last.
fn windows_over(
    [x, w, y]: [&[usize]; 3],
    attributes: &ConvAttributes,
    meet: &mut dyn FnMut(usize, usize, Option<usize>),
) {
    let outputs_per_group = w[0] / attributes.groups.size();
    let taps = [&[outputs_per_group][..], &w[2..]].concat();
    for (x_at, place) in indices(x).enumerate() {
        let (group, channel) = (place[1] / w[1], place[1] % w[1]);
        for tap in indices(&taps) {
            let Some(starts) = starts(&place[2..], &tap[1..], attributes) else { continue };
            let output = group * outputs_per_group + tap[0];
            let inside = |(&start, &count): (&i64, &usize)| usize::try_from(start).ok().filter(|&at| at < count);
            let spatial: Option<Vec<usize>> = starts.iter().zip(&y[2..]).map(inside).collect();
            let y_at = spatial.map(|spatial| ravel(&[vec![place[0], output], spatial].concat(), y));
            let w_at = ravel(&[&[output, channel][..], &tap[1..]].concat(), w);
            meet(x_at, w_at, y_at);
        }
    }
}

/// The number of the window of which a tap reads a place, counted on beyond the first and the last; none if it falls
/// between two.
fn starts(place: &[usize], tap: &[usize], at: &ConvAttributes) -> Option<Vec<i64>> {
    let along = |i: usize| {
        let [place, tap] = [place[i], tap[i]].map(|position| position as i64);
        let [stride, low, dilation] = [&at.stride[i], &at.low[i], &at.dilation[i]].map(|dim| dim.size() as i64);
        let start = place + low - tap * dilation;
        (start.rem_euclid(stride) == 0).then(|| start.div_euclid(stride))
    };
    (0..place.len()).map(along).collect()
}

/// The element at a position; 0 where there is none.
fn or_zero<T: Copy + Default>(values: &[T], at: Option<usize>) -> T {
    at.map_or_else(T::default, |at| values[at])
}

pub(super) fn conv(x: &Array, w: &Array, attributes: &ConvAttributes, dims: &[usize]) -> Array {
    let (count, of) = (dims.iter().product(), [&x.dims[..], &w.dims, dims]);
    if let (Data::Int(xs), Data::Int(ws)) = (&x.data, &w.data) {
        let mut y = vec![0i64; count];
        windows(of, attributes, &mut |i, j, k| y[k] = y[k].wrapping_add(or_zero(xs, i).wrapping_mul(ws[j])));
        return Array::ints(sums_of(x, w), dims, y);
    }
    let (xs, ws) = (x.to_floats(), w.to_floats());
    let mut y = vec![0.0; count];
    windows(of, attributes, &mut |i, j, k| y[k] += or_zero(&xs, i) * ws[j]);
    Array::floats(x.dtype, dims, y)
}

pub(super) fn conv_last(x: &Array, w: &Array, attributes: &ConvAttributes, dims: &[usize]) -> Array {
    transposed(x, dims, |x, dims| conv(x, w, attributes, dims))
}

/// What is made of an image with channels last by `plain`, which takes and gives images with channels first.
fn transposed(x: &Array, dims: &[usize], plain: impl Fn(&Array, &[usize]) -> Array) -> Array {
    let rank = dims.len();
    let (to_first, to_last) = (channels_first(rank), channels_last(rank));
    let first = |dims: &[usize]| to_first.iter().map(|&axis| dims[axis]).collect::<Vec<_>>();
    let x = movement::transpose(x, &to_first, &first(&x.dims));
    movement::transpose(&plain(&x, &first(dims)), &to_last, dims)
}

pub(super) fn conv_input_grad(dy: &Array, w: &Array, attributes: &ConvAttributes, dims: &[usize]) -> Array {
    let (count, of) = (dims.iter().product(), [dims, &w.dims, &dy.dims]);
    if let (Data::Int(ys), Data::Int(ws)) = (&dy.data, &w.data) {
        let mut x = vec![0i64; count];
        windows_over(of, attributes, &mut |i, j, k| x[i] = x[i].wrapping_add(or_zero(ys, k).wrapping_mul(ws[j])));
        return Array::ints(sums_of(dy, w), dims, x);
    }
    let (ys, ws) = (dy.to_floats(), w.to_floats());
    let mut x = vec![0.0; count];
    windows_over(of, attributes, &mut |i, j, k| x[i] += or_zero(&ys, k) * ws[j]);
    Array::floats(dy.dtype, dims, x)
}

pub(super) fn conv_input_grad_last(dy: &Array, w: &Array, attributes: &ConvAttributes, dims: &[usize]) -> Array {
    transposed(dy, dims, |dy, dims| conv_input_grad(dy, w, attributes, dims))
}

pub(super) fn conv_weight_grad(x: &Array, dy: &Array, attributes: &ConvAttributes, dims: &[usize]) -> Array {
    let (xs, ys) = (x.to_floats(), dy.to_floats());
    let mut w = vec![0.0; dims.iter().product()];
    windows([&x.dims, dims, &dy.dims], attributes, &mut |i, j, k| w[j] += or_zero(&xs, i) * ys[k]);
    Array::floats(x.dtype, dims, w)
}
