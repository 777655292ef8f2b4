//! The sums of products by a matrix of brain floats: each is widened on its way to a fused multiply-add.

use crate::ir::{Builder, Elem, Memory, Value};
use crate::lower::matmul::tile::{self, Tile};
use crate::lower::memory::Place;
use crate::lower::stored::{Corner, unroll};

/// Rows of floats by panels of brain floats.
pub struct Floats {
    /// The rows.
    pub x: (Memory, Place),
    /// The panels, `[term][column]` each.
    pub matrix: Memory,
    /// Terms.
    pub depth: usize,
    /// Columns of a panel.
    pub width: usize,
}

impl Floats {
    /// The sums of a tile, of all terms in order.
    pub fn sums(&self, b: &mut Builder, tile: Tile, (row, column): Corner) -> Vec<Value> {
        let layout = &self.x.1.layout;
        let [down, along] = [layout.strides[0], layout.strides[1]];
        let rows = b.affine(&[(row, down)], layout.offset);
        let panel = b.mul_index(column, self.depth as i64);
        let zeros = tile::zeros(b, tile, self.x.0);
        let many = unroll(self.depth, tile.rows * tile.vectors);
        let [zero, end, step] = [0, self.depth, many].map(|at| b.index(at as i64));
        b.for_loop(zero, end, step, &zeros, |b, at, sums| {
            let place = b.affine(&[(panel, 1), (at, self.width as i64)], 0);
            let rows = b.affine(&[(rows, 1), (at, along)], 0);
            (0..many).fold(sums.to_vec(), |sums, round| {
                let place = b.add_index(place, (round * self.width) as i64);
                let rows = b.add_index(rows, round as i64 * along);
                self.step(b, tile, (rows, place), sums)
            })
        })
    }

    /// A term.
    fn step(&self, b: &mut Builder, tile: Tile, (rows, place): (Value, Value), mut sums: Vec<Value>) -> Vec<Value> {
        let factors: Vec<Value> = (0..tile.vectors)
            .map(|vector| {
                let place = b.add_index(place, (vector * usize::from(tile.lanes)) as i64);
                let brain = b.load(self.matrix, place, tile.lanes);
                b.convert(brain, Elem::F32)
            })
            .collect();
        for row in 0..tile.rows {
            let place = b.add_index(rows, row as i64 * self.x.1.layout.strides[0]);
            let x = b.load_splat(self.x.0, place, tile.lanes);
            for (vector, &factor) in factors.iter().enumerate() {
                let sum = &mut sums[row * tile.vectors + vector];
                *sum = b.fma(x, factor, *sum);
            }
        }
        sums
    }
}
