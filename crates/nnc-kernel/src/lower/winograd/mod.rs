//! Winograd's minimal filtering: which convolutions it serves, and its transforms.
//!
//! A tile of `m x m` results of a 3 x 3 convolution needs `(m + 2)²` products instead of `9 m²`: the image's tile and
//! the kernel are transformed, multiplied element by element (summed over channels), and the sums transformed back
//! (Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2016, whose matrices these are, at the points 0, 1, -1, 2, -2 and infinity). Each side of a transform is
//! factored ([`Part`]): the rows of a point and of its negative are the sum and the difference of the same two sums.
//!
//! Accuracy: the transforms add numbers that cancel later, so that errors grow with the tile. Of F(4 x 4) they are
//! about ten times those of the direct sum, relative to the largest result; of F(2 x 2) about twice.
//!
//! What is no finite number spreads: all results of a tile, in all output channels, may be NaN if one of the elements
//! of the image that it reads is an infinity or NaN, or so large that a transform of it overflows. No other tile
//! changes. Results whose windows hold such an element are no finite numbers in either form. A weight that is none
//! makes the results of its output channel NaN.

pub mod blocks;
pub mod conv;

use crate::ir::{Builder, Type, Value};
use crate::lower::conv::image::Axis;

/// The size of a tile of results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tiles {
    /// F(2 x 2, 3 x 3).
    Two,
    /// F(4 x 4, 3 x 3).
    Four,
}

/// Some results of one side of a transform, and what they share: each row of `shared` is a sum of inputs, each result
/// the number of a row of the transform and a sum of those.
pub struct Part {
    shared: &'static [&'static [f64]],
    results: &'static [(usize, &'static [f64])],
}

/// A row of a transform that shares nothing.
macro_rules! single {
    ($row:literal: $factors:expr) => {
        Part { shared: &[&$factors], results: &[($row, &[1.])] }
    };
}

/// Two rows: of a point and its negative, so that one is a sum and the other a difference of what even and odd powers
/// give.
macro_rules! pair {
    ($sum:literal, $difference:literal: $even:expr, $odd:expr, $factor:literal) => {
        Part { shared: &[&$even, &$odd], results: &[($sum, &[1., $factor]), ($difference, &[1., -$factor])] }
    };
}

const INPUT_TWO: &[Part] = &[
    single!(0: [1., 0., -1., 0.]),
    pair!(1, 2: [0., 0., 1., 0.], [0., 1., 0., 0.], 1.),
    single!(3: [0., 1., 0., -1.]),
];
const KERNEL_TWO: &[Part] =
    &[single!(0: [1., 0., 0.]), pair!(1, 2: [0.5, 0., 0.5], [0., 0.5, 0.], 1.), single!(3: [0., 0., 1.])];
const OUTPUT_TWO: &[Part] = &[single!(0: [1., 1., 1., 0.]), single!(1: [0., 1., -1., -1.])];

const INPUT_FOUR: &[Part] = &[
    single!(0: [4., 0., -5., 0., 1., 0.]),
    pair!(1, 2: [0., 0., -4., 0., 1., 0.], [0., -4., 0., 1., 0., 0.], 1.),
    pair!(3, 4: [0., 0., -1., 0., 1., 0.], [0., -1., 0., 1., 0., 0.], 2.),
    single!(5: [0., 4., 0., -5., 0., 1.]),
];
const KERNEL_FOUR: &[Part] = &[
    single!(0: [1. / 4., 0., 0.]),
    pair!(1, 2: [-1. / 6., 0., -1. / 6.], [0., -1. / 6., 0.], 1.),
    pair!(3, 4: [1. / 24., 0., 1. / 6.], [0., 1. / 12., 0.], 1.),
    single!(5: [0., 0., 1.]),
];
const OUTPUT_FOUR: &[Part] = &[
    Part {
        shared: &[&[1., 0., 0., 0., 0., 0.], &[0., 1., 1., 0., 0., 0.], &[0., 0., 0., 1., 1., 0.]],
        results: &[(0, &[1., 1., 1.]), (2, &[0., 1., 4.])],
    },
    Part {
        shared: &[&[0., 1., -1., 0., 0., 0.], &[0., 0., 0., 1., -1., 0.], &[0., 0., 0., 0., 0., 1.]],
        results: &[(1, &[1., 2., 0.]), (3, &[1., 8., 1.])],
    },
];

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

    /// The transform of one side of a tile of the image.
    pub fn input(self) -> &'static [Part] {
        match self {
            Self::Two => INPUT_TWO,
            Self::Four => INPUT_FOUR,
        }
    }

    /// That of a kernel.
    pub fn kernel(self) -> &'static [Part] {
        match self {
            Self::Two => KERNEL_TWO,
            Self::Four => KERNEL_FOUR,
        }
    }

    /// That of the sums.
    pub fn output(self) -> &'static [Part] {
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

    /// What of the time of adding every term a convolution takes by these tiles.
    pub fn share(self, axes: [Axis; 2], images: usize, channels: usize, columns: usize) -> f64 {
        let windows = axes.map(|axis| axis.windows);
        let direct = direct_cycles(images * windows[0] * windows[1], channels, columns);
        self.cycles(images, windows, channels, columns) / direct
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

impl Part {
    /// How many results it has.
    pub fn count(&self) -> usize {
        self.results.len()
    }

    /// Whether any result depends on an input.
    fn reads(&self, input: usize) -> bool {
        self.shared.iter().any(|row| row[input] != 0.0)
    }
}

/// One side of some parts of a transform: the results, each with its row, of the inputs that they depend on.
pub fn apply(
    b: &mut Builder,
    parts: &[Part],
    mut input: impl FnMut(&mut Builder, usize) -> Value,
) -> Vec<(usize, Value)> {
    let count = parts[0].shared[0].len();
    let inputs: Vec<Option<Value>> =
        (0..count).map(|at| parts.iter().any(|part| part.reads(at)).then(|| input(b, at))).collect();
    let input = |at: usize| inputs[at].unwrap_or_else(|| unreachable!("an input that no part reads"));
    let mut results = vec![];
    for part in parts {
        let shared: Vec<Value> = part.shared.iter().map(|row| sum(b, row, input)).collect();
        results.extend(part.results.iter().map(|&(row, factors)| (row, sum(b, factors, |at| shared[at]))));
    }
    results
}

/// The sum of the values that have a factor other than 0: first one that is not multiplied, if any, then the others in
/// order.
fn sum(b: &mut Builder, factors: &[f64], value: impl Fn(usize) -> Value) -> Value {
    let terms = factors.iter().enumerate().filter(|(_, factor)| **factor != 0.0);
    let mut terms: Vec<(f64, Value)> = terms.map(|(at, &factor)| (factor, value(at))).collect();
    let first = terms.iter().position(|&(factor, _)| factor == 1.0).unwrap_or(0);
    let (factor, value) = terms.remove(first);
    let start = if factor == 1.0 { value } else { scaled(b, factor, value) };
    terms.into_iter().fold(start, |sum, (factor, value)| match factor {
        1.0 => b.add(sum, value),
        -1.0 => b.sub(sum, value),
        _ => {
            let factor = constant(b, factor, value);
            b.fma(value, factor, sum)
        }
    })
}

fn scaled(b: &mut Builder, factor: f64, value: Value) -> Value {
    let factor = constant(b, factor, value);
    b.mul(value, factor)
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
        let dot = |row: &[f64], x: &[f64]| -> f64 { row.iter().zip(x).map(|(a, b)| a * b).sum() };
        let product = |parts: &[Part], x: &[f64]| -> Vec<f64> {
            let mut results: Vec<(usize, f64)> = vec![];
            for part in parts {
                let shared: Vec<f64> = part.shared.iter().map(|row| dot(row, x)).collect();
                results.extend(part.results.iter().map(|&(row, factors)| (row, dot(factors, &shared))));
            }
            results.sort_by_key(|&(row, _)| row);
            results.into_iter().map(|(_, value)| value).collect()
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
