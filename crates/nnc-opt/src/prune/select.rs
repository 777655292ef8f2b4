//! Selection by magnitude: the elements of weights, or blocks of them, that count least.
//!
//! A weight is seen as a matrix of inputs by outputs. A block is `rows` neighbouring inputs by `columns` neighbouring
//! outputs; its score is the mean magnitude of its elements, so that the smaller blocks at an edge are judged alike.
//! Of all blocks of a scope the given share goes, the lowest scores first, and of equal ones the first; the share is
//! rounded to whole blocks. (Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural
//! Networks", 2015; for blocks Gray, Radford, Kingma, "GPU Kernels for Block-Sparse Weights", 2017.)
//!
//! Cost: linear in the number of elements.

use std::fmt;

/// Neighbouring elements that go or stay together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Inputs.
    pub rows: usize,
    /// Outputs.
    pub columns: usize,
}

impl Block {
    /// Each element by itself.
    pub const ELEMENT: Self = Self { rows: 1, columns: 1 };
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.rows, self.columns)
    }
}

/// What a share is a share of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scope {
    /// Of all weights together: those of some layers may go sooner than others'.
    #[default]
    Global,
    /// Of each weight.
    Layer,
}

/// A weight that is to be pruned.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Its elements, row-major.
    pub values: Vec<f64>,
    /// Its dims.
    pub dims: Vec<usize>,
    /// The axis of outputs; the others, in their order, are inputs.
    pub outputs: usize,
}

/// For each weight which elements are kept, row-major, when a share of the blocks goes.
pub fn kept(weights: &[Weight], share: f64, block: Block, scope: Scope) -> Vec<Vec<bool>> {
    let scores: Vec<Scores> = weights.iter().map(|weight| Scores::new(weight, block)).collect();
    let gone = match scope {
        Scope::Global => lowest(&scores.iter().collect::<Vec<_>>(), share),
        Scope::Layer => scores.iter().flat_map(|scores| lowest(&[scores], share)).collect(),
    };
    let masks = weights.iter().zip(&scores).zip(gone);
    masks.map(|((weight, scores), gone)| weight.elements().map(|at| !gone[scores.block_of(at)]).collect()).collect()
}

impl Weight {
    /// The row and column of each element.
    fn elements(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let inner: usize = self.dims[self.outputs + 1..].iter().product();
        let columns = self.dims[self.outputs];
        (0..self.values.len()).map(move |at| {
            let (before, column) = (at / inner / columns, at / inner % columns);
            (before * inner + at % inner, column)
        })
    }
}

/// The scores of the blocks of a weight.
struct Scores {
    block: Block,
    blocks_in_a_row: usize,
    means: Vec<f64>,
}

impl Scores {
    fn new(weight: &Weight, block: Block) -> Self {
        let columns = weight.dims[weight.outputs].max(1);
        let rows = weight.values.len() / columns;
        let blocks_in_a_row = columns.div_ceil(block.columns);
        let count = rows.div_ceil(block.rows) * blocks_in_a_row;
        let mut scores = Self { block, blocks_in_a_row, means: vec![0.0; count] };
        let mut sizes = vec![0usize; count];
        for (at, value) in weight.elements().zip(&weight.values) {
            let block = scores.block_of(at);
            scores.means[block] += value.abs();
            sizes[block] += 1;
        }
        scores.means.iter_mut().zip(sizes).for_each(|(sum, size)| *sum /= size.max(1) as f64);
        scores
    }

    fn block_of(&self, (row, column): (usize, usize)) -> usize {
        row / self.block.rows * self.blocks_in_a_row + column / self.block.columns
    }
}

/// For each of some weights which blocks are among the lowest of all.
fn lowest(scores: &[&Scores], share: f64) -> Vec<Vec<bool>> {
    let mut gone: Vec<Vec<bool>> = scores.iter().map(|scores| vec![false; scores.means.len()]).collect();
    let mut ranked: Vec<(f64, usize, usize)> = Vec::new();
    for (weight, scores) in scores.iter().enumerate() {
        ranked.extend(scores.means.iter().enumerate().map(|(block, &mean)| (mean, weight, block)));
    }
    let count = (share * ranked.len() as f64).round() as usize;
    if count == 0 {
        return gone;
    }
    let order =
        |a: &(f64, usize, usize), b: &(f64, usize, usize)| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2)));
    let last = count.min(ranked.len()) - 1;
    ranked.select_nth_unstable_by(last, order);
    ranked[..=last].iter().for_each(|&(_, weight, block)| gone[weight][block] = true);
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(dims: &[usize], outputs: usize, values: &[f64]) -> Weight {
        Weight { values: values.to_vec(), dims: dims.to_vec(), outputs }
    }

    #[test]
    fn the_smallest_magnitudes_go_and_of_equal_ones_the_first() {
        let weights = [weight(&[2, 3], 1, &[3., -1., 2., 1., -4., 1.])];
        let kept = kept(&weights, 0.34, Block::ELEMENT, Scope::Global);
        assert_eq!(kept[0], [true, false, true, false, true, true]);
    }

    #[test]
    fn a_global_share_takes_from_where_weights_are_small_and_a_layer_gives_its_own() {
        let weights = [weight(&[4], 0, &[1., 2., 3., 4.]), weight(&[4], 0, &[10., 20., 30., 40.])];
        let count = |kept: &[Vec<bool>]| -> Vec<usize> {
            kept.iter().map(|mask| mask.iter().filter(|&&kept| kept).count()).collect()
        };
        assert_eq!(count(&kept(&weights, 0.5, Block::ELEMENT, Scope::Global)), [0, 4]);
        assert_eq!(count(&kept(&weights, 0.5, Block::ELEMENT, Scope::Layer)), [2, 2]);
    }

    #[test]
    fn blocks_lie_along_outputs_wherever_that_axis_is() {
        // [outputs 4, inputs 2]: as a matrix of inputs by outputs, rows are [1, 1, 9, 1] and [5, 5, 5, 5].
        let weights = [weight(&[4, 2], 0, &[1., 5., 1., 5., 9., 5., 1., 5.])];
        let kept = kept(&weights, 0.25, Block { rows: 1, columns: 2 }, Scope::Layer);
        assert_eq!(kept[0], [false, true, false, true, true, true, true, true]);
    }

    #[test]
    fn blocks_at_an_edge_are_judged_by_their_mean() {
        let weights = [weight(&[1, 3], 1, &[2., 2., 3.])];
        let kept = kept(&weights, 0.5, Block { rows: 1, columns: 2 }, Scope::Layer);
        assert_eq!(kept[0], [false, false, true]);
    }
}
