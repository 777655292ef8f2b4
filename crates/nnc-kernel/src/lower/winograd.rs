//! Winograd's minimal filtering: which convolutions it serves, and its transforms.
//!
//! A tile of `m x m` results of a 3 x 3 convolution needs `(m + 2)²` products instead of `9 m²`: the image's tile and the
//! kernel are transformed, multiplied element by element (summed over channels), and the sums transformed back
//! (Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2016, whose matrices these are, at the points 0, 1, -1, 2, -2 and infinity).
//!
//! Accuracy: the transforms add numbers that cancel later, so that errors grow with the tile. Of F(4 x 4) they are about ten
//! times those of the direct sum, relative to the largest result; of F(2 x 2) about twice. Infinities and NaN in a tile
//! spread over it.

use super::image::Axis;
use crate::ir::{Builder, Type, Value};

/// The size of a tile of results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tiles {
    /// F(2 x 2, 3 x 3).
    Two,
    /// F(4 x 4, 3 x 3).
    Four,
}

const INPUT_TWO: &[&[f64]] = &[&[1., 0., -1., 0.], &[0., 1., 1., 0.], &[0., -1., 1., 0.], &[0., 1., 0., -1.]];
const KERNEL_TWO: &[&[f64]] = &[&[1., 0., 0.], &[0.5, 0.5, 0.5], &[0.5, -0.5, 0.5], &[0., 0., 1.]];
const OUTPUT_TWO: &[&[f64]] = &[&[1., 1., 1., 0.], &[0., 1., -1., -1.]];

const INPUT_FOUR: &[&[f64]] = &[
    &[4., 0., -5., 0., 1., 0.],
    &[0., -4., -4., 1., 1., 0.],
    &[0., 4., -4., -1., 1., 0.],
    &[0., -2., -1., 2., 1., 0.],
    &[0., 2., -1., -2., 1., 0.],
    &[0., 4., 0., -5., 0., 1.],
];
const KERNEL_FOUR: &[&[f64]] = &[
    &[1. / 4., 0., 0.],
    &[-1. / 6., -1. / 6., -1. / 6.],
    &[-1. / 6., 1. / 6., -1. / 6.],
    &[1. / 24., 1. / 12., 1. / 6.],
    &[1. / 24., -1. / 12., 1. / 6.],
    &[0., 0., 1.],
];
const OUTPUT_FOUR: &[&[f64]] =
    &[&[1., 1., 1., 1., 1., 0.], &[0., 1., -1., 2., -2., 0.], &[0., 1., 1., 4., 4., 0.], &[0., 1., -1., 8., -8., 1.]];

/// Products of vectors in a cycle of both cores that the choice reckons with, in elements.
const PRODUCTS: f64 = 2.0 * 16.0;
/// Bytes from memory in a cycle.
const BYTES: f64 = 9.0;
/// What of the peak a direct convolution, and the products of tiles, reach.
const REACHED: f64 = 0.85;
/// Cycles to transform a vector of eight elements of a tile, in and out, for each of its places.
const TRANSFORM: f64 = 5.0;
/// Channels, in and out, are a multiple of this.
const GRAIN: usize = 8;
/// Rows of a register tile, about.
const TILE_ROWS: usize = 6;

impl Tiles {
    /// Results along an edge.
    pub fn results(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Elements of the image along an edge.
    pub fn edge(self) -> usize {
        self.results() + 2
    }

    /// Places of a transformed tile.
    pub fn places(self) -> usize {
        self.edge() * self.edge()
    }

    /// Tiles along an axis.
    pub fn along(self, windows: usize) -> usize {
        windows.div_ceil(self.results())
    }

    /// The transform of the image, of which each row gives one element.
    pub fn input(self) -> &'static [&'static [f64]] {
        match self {
            Self::Two => INPUT_TWO,
            Self::Four => INPUT_FOUR,
        }
    }

    /// The transform of the kernel.
    pub fn kernel(self) -> &'static [&'static [f64]] {
        match self {
            Self::Two => KERNEL_TWO,
            Self::Four => KERNEL_FOUR,
        }
    }

    /// The transform of the sums.
    pub fn output(self) -> &'static [&'static [f64]] {
        match self {
            Self::Two => OUTPUT_TWO,
            Self::Four => OUTPUT_FOUR,
        }
    }

    /// The tiles that a convolution of so many images, channels and output channels is best computed by, if any: by the
    /// shape alone.
    pub fn choose(axes: [Axis; 2], images: usize, channels: usize, columns: usize) -> Option<Self> {
        let is_plain = |axis: &Axis| axis.taps == 3 && axis.step == 1 && axis.dilation == 1 && axis.insert == 1;
        if !axes.iter().all(is_plain) || !channels.is_multiple_of(GRAIN) || !columns.is_multiple_of(GRAIN) {
            return None;
        }
        let windows = [axes[0].windows, axes[1].windows];
        let direct = direct_cycles(images * windows[0] * windows[1], channels, columns);
        let cycles = |tiles: Self| tiles.cycles(images, windows, channels, columns);
        let best = [Self::Four, Self::Two].into_iter().min_by(|a, b| cycles(*a).total_cmp(&cycles(*b)))?;
        (cycles(best) < direct).then_some(best)
    }

    /// Cycles of both cores that a convolution takes, about.
    fn cycles(self, images: usize, windows: [usize; 2], channels: usize, columns: usize) -> f64 {
        let tiles = images * self.along(windows[0]) * self.along(windows[1]);
        let places = self.places() as f64;
        let products = places * (tiles.next_multiple_of(TILE_ROWS) * channels * columns) as f64;
        let vectors = (tiles * (channels + columns)) as f64 / 8.0;
        let arithmetic = products / PRODUCTS / REACHED + vectors * places * TRANSFORM / 2.0;
        arithmetic.max(places * (channels * columns) as f64 * 4.0 / BYTES)
    }
}

fn direct_cycles(places: usize, channels: usize, columns: usize) -> f64 {
    let weights = (9 * channels * columns) as f64;
    (places as f64 * weights / PRODUCTS / REACHED).max(weights * 4.0 / BYTES)
}

/// Lanes of the vectors of a transform: a machine's, or the half of it if channels are a multiple of that alone.
pub fn lanes(channels: usize, columns: usize, lanes: u8) -> u8 {
    let is_whole = [channels, columns].iter().all(|count| count.is_multiple_of(usize::from(lanes)));
    if is_whole { lanes } else { lanes.min(GRAIN as u8) }
}

/// One side of a transform: each row of the matrix as a sum of the values that it does not multiply by 0, in order.
pub fn apply(b: &mut Builder, matrix: &[&[f64]], values: &[Value]) -> Vec<Value> {
    matrix.iter().map(|row| sum(b, row, values)).collect()
}

fn sum(b: &mut Builder, factors: &[f64], values: &[Value]) -> Value {
    let mut sum: Option<Value> = None;
    for (&factor, &value) in factors.iter().zip(values).filter(|(factor, _)| **factor != 0.0) {
        sum = Some(match (sum, factor) {
            (None, 1.0) => value,
            (None, _) => {
                let factor = constant(b, factor, value);
                b.mul(value, factor)
            }
            (Some(sum), 1.0) => b.add(sum, value),
            (Some(sum), -1.0) => b.sub(sum, value),
            (Some(sum), _) => {
                let factor = constant(b, factor, value);
                b.fma(value, factor, sum)
            }
        });
    }
    sum.unwrap_or_else(|| unreachable!("a row of a transform that is not zero"))
}

/// A number in all lanes of a vector of f32 like `value`.
fn constant(b: &mut Builder, number: f64, value: Value) -> Value {
    let Type { lanes, .. } = b.type_of(value);
    b.f32(number as f32, lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transforms in one dimension give the sums of the definition, exactly up to rounding in f64.
    #[test]
    fn transforms_give_what_convolutions_do() {
        let product = |matrix: &[&[f64]], x: &[f64]| -> Vec<f64> {
            matrix.iter().map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
        };
        for tiles in [Tiles::Two, Tiles::Four] {
            let x: Vec<f64> = (0..tiles.edge()).map(|at| (at as f64 * 1.7).sin()).collect();
            let kernel = [0.3, -1.2, 0.7];
            let (image, factors) = (product(tiles.input(), &x), product(tiles.kernel(), &kernel));
            let products: Vec<f64> = image.iter().zip(&factors).map(|(a, b)| a * b).collect();
            let found = product(tiles.output(), &products);
            for (at, found) in found.iter().enumerate() {
                let expected: f64 = kernel.iter().zip(&x[at..]).map(|(a, b)| a * b).sum();
                assert!((found - expected).abs() < 1e-12, "{tiles:?} at {at}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn small_or_deep_convolutions_stay_direct() {
        let axis = |windows| Axis { source: windows, insert: 1, low: 1, taps: 3, dilation: 1, windows, step: 1 };
        let choose = |size, channels| Tiles::choose([axis(size); 2], 1, channels, channels);
        assert_eq!(choose(56, 64), Some(Tiles::Four));
        assert_eq!(choose(28, 128), Some(Tiles::Four));
        assert_ne!(choose(7, 512), Some(Tiles::Four));
        assert_eq!(choose(32, 8), Some(Tiles::Four));
        assert_eq!(choose(56, 12), None);
        assert_eq!(choose(2, 16), None);
        let strided = Axis { step: 2, windows: 28, ..axis(56) };
        assert_eq!(Tiles::choose([strided; 2], 1, 64, 64), None);
    }
}
