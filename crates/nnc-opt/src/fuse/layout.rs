//! Where the elements of a value lie in memory: one stride for each axis.
//!
//! A view (transpose, broadcast, slice, most reshapes) is another [`Layout`] over the same memory, so it costs nothing.
//! Strides and offsets count elements; a stride is 0 along a repeated axis and negative along a reversed one.

use nnc_graph::Op;

/// The place of every element of a value, relative to the start of a buffer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Layout {
    /// Sizes of the axes, outermost first.
    pub dims: Vec<usize>,
    /// Elements between neighbours along each axis.
    pub strides: Vec<i64>,
    /// Place of the first element.
    pub offset: i64,
}

impl Layout {
    /// Row-major without gaps, from the start of the buffer.
    pub fn contiguous(dims: &[usize]) -> Self {
        let mut strides = vec![1i64; dims.len()];
        for axis in (1..dims.len()).rev() {
            strides[axis - 1] = strides[axis] * dims[axis] as i64;
        }
        Self { dims: dims.to_vec(), strides, offset: 0 }
    }

    /// Number of elements that can be named (repeated ones count).
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether the elements follow one another without gaps in row-major order, from any offset.
    pub fn is_contiguous(&self) -> bool {
        let dense = Self::contiguous(&self.dims);
        let pairs = self.strides.iter().zip(&dense.strides);
        pairs.zip(&self.dims).all(|((stride, expected), &size)| size == 1 || stride == expected)
    }

    /// Axis `i` becomes what was axis `permutation[i]`.
    pub fn transpose(&self, permutation: &[usize]) -> Self {
        Self {
            dims: permutation.iter().map(|&axis| self.dims[axis]).collect(),
            strides: permutation.iter().map(|&axis| self.strides[axis]).collect(),
            offset: self.offset,
        }
    }

    /// Axis `i` lies along `axes[i]` of the result; everything else repeats.
    pub fn broadcast(&self, dims: &[usize], axes: &[usize]) -> Self {
        let mut strides = vec![0; dims.len()];
        for (axis, &to) in axes.iter().enumerate() {
            strides[to] = if self.dims[axis] == 1 { 0 } else { self.strides[axis] };
        }
        Self { dims: dims.to_vec(), strides, offset: self.offset }
    }

    /// `(start, size, step)` of every axis.
    pub fn slice(&self, ranges: &[(i64, usize, i64)]) -> Self {
        let moved = ranges.iter().zip(&self.strides).map(|(range, stride)| range.0 * stride).sum::<i64>();
        Self {
            dims: ranges.iter().map(|range| range.1).collect(),
            strides: ranges.iter().zip(&self.strides).map(|(range, stride)| range.2 * stride).collect(),
            offset: self.offset + moved,
        }
    }

    /// The same elements in row-major order under other dims; `None` when no strides can say it.
    pub fn reshape(&self, dims: &[usize]) -> Option<Self> {
        let mut blocks = self.merged();
        let mut strides = vec![0i64; dims.len()];
        let mut block = blocks.pop().unwrap_or((1, 0));
        for axis in (0..dims.len()).rev() {
            if dims[axis] == 1 {
                continue;
            }
            if block.0 == 1 {
                block = blocks.pop()?;
            }
            if !block.0.is_multiple_of(dims[axis]) {
                return None;
            }
            strides[axis] = block.1;
            block = (block.0 / dims[axis], block.1 * dims[axis] as i64);
        }
        (block.0 == 1 && blocks.is_empty()).then(|| Self { dims: dims.to_vec(), strides, offset: self.offset })
    }

    /// `(size, stride)` of the axes, neighbours that walk as one joined and axes of size 1 dropped.
    fn merged(&self) -> Vec<(usize, i64)> {
        let mut blocks: Vec<(usize, i64)> = Vec::new();
        for (&size, &stride) in self.dims.iter().zip(&self.strides) {
            match blocks.last_mut() {
                _ if size == 1 => {}
                Some(last) if last.1 == stride * size as i64 => *last = (last.0 * size, stride),
                _ => blocks.push((size, stride)),
            }
        }
        blocks
    }

    /// The layout of `op`'s result when its operand has this one; `None` if `op` is no view or its result has none.
    pub fn view(&self, op: &Op) -> Option<Self> {
        match op {
            Op::Reshape(shape) => self.reshape(&shape.sizes()),
            Op::Transpose(permutation) => Some(self.transpose(permutation)),
            Op::Broadcast { shape, axes } => Some(self.broadcast(&shape.sizes(), axes)),
            Op::Slice(ranges) => {
                let number = |dim: &nnc_graph::Dim| dim.as_number().unwrap_or_default();
                let ranges: Vec<_> = ranges.iter().map(|r| (number(&r.start), r.size.size(), r.step)).collect();
                Some(self.slice(&ranges))
            }
            _ => None,
        }
    }
}

/// The coarsest dims that both lists are merges of neighbours of; `None` if there are none.
pub fn common_refinement(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let cuts = |dims: &[usize]| -> Vec<usize> {
        let mut product = 1;
        dims.iter()
            .rev()
            .map(|&size| {
                product *= size;
                product
            })
            .collect()
    };
    let (mut all, other) = (cuts(a), cuts(b));
    if all.last().unwrap_or(&1) != other.last().unwrap_or(&1) {
        return None;
    }
    all.extend(other);
    all.sort_unstable();
    all.dedup();
    let mut dims = Vec::new();
    let mut before = 1;
    for cut in all {
        if cut % before != 0 {
            return None;
        }
        if cut != before {
            dims.push(cut / before);
        }
        before = cut;
    }
    dims.reverse();
    Some(dims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reshape_is_a_view_exactly_when_strides_can_say_it() {
        let x = Layout::contiguous(&[2, 3, 4]);
        assert_eq!(x.reshape(&[6, 4]), Some(Layout::contiguous(&[6, 4])));
        assert_eq!(x.reshape(&[3, 8]), Some(Layout::contiguous(&[3, 8])));
        let transposed = x.transpose(&[1, 0, 2]);
        assert_eq!(transposed.reshape(&[6, 4]), None);
        let split = transposed.reshape(&[3, 2, 2, 2]).unwrap();
        assert_eq!(split.strides, vec![4, 12, 2, 1]);
        assert!(!transposed.is_contiguous());
    }

    #[test]
    fn repeated_axes_merge_and_split() {
        let scalar = Layout::contiguous(&[]);
        let repeated = scalar.broadcast(&[4, 6], &[]);
        assert_eq!(repeated.reshape(&[24]).unwrap().strides, vec![0]);
        let row = Layout::contiguous(&[6]).broadcast(&[4, 6], &[1]);
        assert_eq!(row.reshape(&[24]), None);
        assert_eq!(row.reshape(&[2, 2, 6]).unwrap().strides, vec![0, 0, 1]);
    }

    #[test]
    fn a_slice_may_walk_back() {
        let back = Layout::contiguous(&[5]).slice(&[(4, 3, -2)]);
        assert_eq!((back.offset, back.strides[0], back.dims[0]), (4, -2, 3));
    }

    #[test]
    fn refinements_cut_where_either_cuts() {
        assert_eq!(common_refinement(&[4, 6], &[24]), Some(vec![4, 6]));
        assert_eq!(common_refinement(&[4, 6], &[2, 12]), Some(vec![2, 2, 6]));
        assert_eq!(common_refinement(&[4, 6], &[6, 4]), None);
        assert_eq!(common_refinement(&[2, 1, 3], &[6]), Some(vec![2, 3]));
        assert_eq!(common_refinement(&[1], &[]), Some(vec![]));
    }
}
