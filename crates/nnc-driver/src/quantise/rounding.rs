//! Weights rounded so that results change least, not each to the nearest number.
//!
//! What is off by rounding one weight can be made up for by others that are multiplied with much the same. The
//! [`Moments`] of the activations tell by how much: the squares of what the results of a channel are off by add up to
//! `dᵀ M d` where its weights are off by `d`. The weights of a channel are rounded one after the other, each to the
//! number nearest to what is best for all that have been rounded, while those that follow could still be anything (GPTQ:
//! E. Frantar, S. Ashkboos, T. Hoefler, D. Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
//! Pre-trained Transformers", ICLR 2023). With `M = L Lᵀ` and the first to be rounded the last in `L`, that is a
//! substitution backwards: Babai's nearest plane (J. Chen, Y. Shabanzadeh, E. Crnčević, T. Hoefler, D. Alistarh, "The
//! Geometry of LLM Quantization: GPTQ as Babai's Nearest Plane Algorithm", 2025). The terms that count most come first.
//!
//! Of few rows the moments tell more of these rows than of what is to come: what two terms have in common counts by
//! `rows / (rows + terms)` (a shrinkage to the diagonal, O. Ledoit, M. Wolf, "A well-conditioned estimator for
//! large-dimensional covariance matrices", 2004), so that by too few, weights go to the nearest numbers. A weight of 0
//! stays 0: it may be one that was pruned.
//!
//! Cost: `terms³ / 3` multiply-adds for a group of channels, and `terms² / 2` a channel.

use crate::quantise::cholesky;
use crate::quantise::moments::Moments;
use crate::quantise::weights::Quantised;
use nnc_graph::{DType, Tensor};
use nnc_opt::narrow::Levels;
use nnc_opt::quantise::{Site, WEIGHT_LEVELS};

/// Channels that are rounded together, so that a row of the factor is read once for all of them.
const TOGETHER: usize = 16;

/// What is added to the diagonal, as a share of its mean: as much as rounding takes from it.
const DAMPING: f64 = 1e-4;

/// The weights of a product as they are and as the nearest numbers, and the product.
pub type Given<'g> = (&'g Site, &'g Tensor, &'g Quantised);

/// The numbers of the weights of products that have such moments, by these; `None` where they are of no use. The scales
/// are those of the nearest numbers.
pub fn round(products: &[Given<'_>], moments: &Moments, threads: usize) -> Option<Vec<Tensor>> {
    let levels = Levels { least: -WEIGHT_LEVELS, most: WEIGHT_LEVELS, group: moments.terms };
    let channels: Vec<(Vec<Channel>, Levels)> = products.iter().map(|given| (channels(given), levels)).collect();
    let numbers = numbers(&channels, moments, threads)?;
    let laid_out = |((site, floats, _), numbers): (&Given<'_>, &Vec<Vec<f32>>)| laid_out(site, floats.dims(), numbers);
    Some(products.iter().zip(&numbers).map(laid_out).collect())
}

/// The weights of each channel of a product, with its scale.
fn channels((site, floats, nearest): &Given<'_>) -> Vec<Channel> {
    let mut channels: Vec<Vec<f32>> = vec![Vec::new(); site.channels];
    for (at, &value) in floats.to_f64().iter().enumerate() {
        channels[site.channel_of(floats.dims(), at)].push(value as f32);
    }
    let scales = nearest.scales.to_f64();
    let channels = channels.into_iter().zip(&scales);
    channels.map(|(weights, &scale)| Channel { weights, scales: vec![scale as f32] }).collect()
}

/// The weights of an output channel.
pub struct Channel {
    /// As they are.
    pub weights: Vec<f32>,
    /// One for each group of terms.
    pub scales: Vec<f32>,
}

/// The numbers of the weights of the channels of each product, whose groups come one after another; `None` where the
/// moments, which are those of all of them, are of no use: no finite numbers, or nothing but zeros. These are factored
/// once.
pub fn numbers(products: &[(Vec<Channel>, Levels)], moments: &Moments, threads: usize) -> Option<Vec<Vec<Vec<f32>>>> {
    let mut found = vec![Vec::new(); products.len()];
    for group in 0..moments.groups {
        let plan = Plan::new(moments, group, threads)?;
        for ((channels, levels), found) in products.iter().zip(&mut found) {
            let in_group = (channels.len() / moments.groups).max(1);
            if let Some(channels) = channels.chunks(in_group).nth(group) {
                found.extend(plan.round_all(channels, *levels, threads));
            }
        }
    }
    Some(found)
}

/// In what order the weights of a group of channels are rounded, and what each leaves to those that follow.
struct Plan {
    /// The terms; the last is the first to be rounded.
    order: Vec<usize>,
    /// `[terms, terms]`, lower triangular, terms in that order.
    factor: Vec<f32>,
}

impl Plan {
    fn new(moments: &Moments, group: usize, threads: usize) -> Option<Self> {
        let terms = moments.terms;
        let sums = &moments.sums[group * terms * terms..][..terms * terms];
        if !sums.iter().all(|sum| sum.is_finite()) {
            return None;
        }
        let weight = |term: usize| sums[term * terms + term];
        let mut order: Vec<usize> = (0..terms).collect();
        order.sort_by(|&a, &b| weight(a).total_cmp(&weight(b)).then(b.cmp(&a)));
        let damping = DAMPING * order.iter().map(|&term| f64::from(weight(term))).sum::<f64>() / terms as f64;
        let rows = moments.rows as f64;
        let share = rows / (rows + terms as f64);
        let element = |(a, b): (usize, usize)| {
            let sum = f64::from(sums[order[a] * terms + order[b]]);
            if a == b { sum + damping } else { sum * share }
        };
        let matrix = (0..terms * terms).map(|at| element((at / terms, at % terms))).collect();
        let factor = cholesky::factor(matrix, terms, threads)?;
        Some(Self { order, factor })
    }

    /// The numbers of the weights of channels, by so many threads.
    fn round_all(&self, channels: &[Channel], levels: Levels, threads: usize) -> Vec<Vec<f32>> {
        let each = channels.len().div_ceil(threads.max(1)).max(1);
        let parts: Vec<Vec<Vec<f32>>> = std::thread::scope(|scope| {
            let started = channels.chunks(each).map(|part| {
                scope.spawn(move || part.chunks(TOGETHER).flat_map(|part| self.round(part, levels)).collect())
            });
            let started: Vec<_> = started.collect();
            started.into_iter().map(|part| part.join().expect("rounding does not panic")).collect()
        });
        parts.into_iter().flatten().collect()
    }

    /// The numbers of the weights of some channels.
    fn round(&self, channels: &[Channel], levels: Levels) -> Vec<Vec<f32>> {
        let terms = self.order.len();
        let mut all: Vec<Rounding> = channels.iter().map(|channel| Rounding::new(channel, terms)).collect();
        for (at, &term) in self.order.iter().enumerate().rev() {
            let row = &self.factor[at * terms..][..at + 1];
            all.iter_mut().for_each(|rounding| rounding.choose(term, levels, row));
        }
        all.into_iter().map(|rounding| rounding.numbers).collect()
    }
}

/// The weights of a channel while they are rounded.
struct Rounding<'c> {
    channel: &'c Channel,
    numbers: Vec<f32>,
    /// What those that are rounded leave to each of the others, in the order of the plan, times its pivot.
    left: Vec<f32>,
}

impl<'c> Rounding<'c> {
    fn new(channel: &'c Channel, terms: usize) -> Self {
        Self { channel, numbers: vec![0.0; terms], left: vec![0.0; terms] }
    }

    /// Takes the number of a weight. `row` is that of the factor, up to its pivot.
    fn choose(&mut self, term: usize, levels: Levels, row: &[f32]) {
        let Some((pivot, row)) = row.split_last() else { return };
        let (weight, scale) = (self.channel.weights[term], self.channel.scales[term / levels.group]);
        if weight == 0.0 || scale == 0.0 {
            return;
        }
        let best = weight + self.left[row.len()] / pivot;
        let number = levels.number(best, scale);
        self.numbers[term] = number;
        let off = weight - number * scale;
        self.left.iter_mut().zip(row).for_each(|(left, element)| *left += off * element);
    }
}

/// Numbers as the weights lie.
fn laid_out(site: &Site, dims: &[usize], channels: &[Vec<f32>]) -> Tensor {
    let mut next = vec![0; site.channels];
    let elements: usize = dims.iter().product();
    let number = |at: usize| {
        let channel = site.channel_of(dims, at);
        next[channel] += 1;
        f64::from(channels[channel][next[channel] - 1])
    };
    let numbers: Vec<f64> = (0..elements).map(number).collect();
    Tensor::from_f64(DType::I8, dims, &numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantise::weights;
    use nnc_graph::{NodeId, ValueId};

    const CHANNELS: usize = 40;
    const TERMS: usize = 24;

    fn site() -> Site {
        Site {
            name: "a".to_owned(),
            node: NodeId(0),
            input: ValueId(0),
            mark: 0,
            weights: ValueId(1),
            channel_axis: 1,
            channels: CHANNELS,
            groups: 1,
            elements: TERMS * CHANNELS,
            depth: TERMS,
            is_single: false,
            products: TERMS * CHANNELS,
        }
    }

    /// Numbers from -1 to 1 that follow no pattern.
    fn scattered(at: usize) -> f64 {
        let hash = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((hash ^ hash >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// Weights `[terms, channels]`, and rows that are mixed of a few numbers each, so that terms go together.
    fn example(rows: usize) -> (Tensor, Vec<f64>, Moments) {
        let floats: Vec<f64> = (0..TERMS * CHANNELS).map(scattered).collect();
        let element = |at: usize| {
            let mix = |of: usize| scattered(7919 * (at / TERMS) + of) * scattered(104_729 * of + at % TERMS);
            (0..4).map(mix).sum::<f64>() + 0.1 * scattered(at + 1_000_003)
        };
        let x: Vec<f64> = (0..rows * TERMS).map(element).collect();
        let together = |at: usize| {
            (0..rows).map(|row| x[row * TERMS + at / TERMS] * x[row * TERMS + at % TERMS]).sum::<f64>() as f32
        };
        let sums = (0..TERMS * TERMS).map(together).collect();
        (Tensor::from_f64(DType::F32, &[TERMS, CHANNELS], &floats), x, Moments { groups: 1, terms: TERMS, rows, sums })
    }

    /// The sum of the squares of what results are off by.
    fn off(floats: &Tensor, x: &[f64], (numbers, scales): (&Tensor, &[f64])) -> f64 {
        let (floats, numbers) = (floats.to_f64(), numbers.to_f64());
        let difference = |row: &[f64], channel: usize| -> f64 {
            let at = |term: usize| term * CHANNELS + channel;
            (0..TERMS).map(|term| row[term] * (floats[at(term)] - scales[channel] * numbers[at(term)])).sum()
        };
        x.chunks(TERMS).flat_map(|row| (0..CHANNELS).map(move |channel| difference(row, channel).powi(2))).sum()
    }

    #[test]
    fn results_are_off_by_less_than_with_the_nearest_numbers() {
        let (floats, x, moments) = example(2000);
        let nearest = weights::quantise(&site(), &floats).unwrap();
        let scales = nearest.scales.to_f64();
        let found = one((&floats, &nearest), &moments, 2).unwrap();
        let [before, after] = [&nearest.weights, &found].map(|numbers| off(&floats, &x, (numbers, &scales)));
        assert!(after < 0.15 * before, "{before} and {after}");
        let (_, other, _) = example(2100);
        let [before, after] = [&nearest.weights, &found].map(|n| off(&floats, &other[2000 * TERMS..], (n, &scales)));
        assert!(after < 0.15 * before, "on rows that it was not found by {before} and {after}");
    }

    /// The numbers of one product.
    fn one((floats, nearest): (&Tensor, &Quantised), moments: &Moments, threads: usize) -> Option<Tensor> {
        round(&[(&site(), floats, nearest)], moments, threads)?.pop()
    }

    #[test]
    fn products_that_are_rounded_together_become_what_each_becomes_alone() {
        let (floats, _, moments) = example(300);
        let halves: Vec<f64> = floats.to_f64().iter().rev().map(|value| value / 2.0).collect();
        let both = [floats.clone(), Tensor::from_f64(DType::F32, floats.dims(), &halves)];
        let nearest = both.each_ref().map(|floats| weights::quantise(&site(), floats).unwrap());
        let site = site();
        let given: Vec<Given<'_>> =
            both.iter().zip(&nearest).map(|(floats, nearest)| (&site, floats, nearest)).collect();
        let alone: Vec<Tensor> = given.iter().map(|given| one((given.1, given.2), &moments, 2).unwrap()).collect();
        assert_ne!(alone[0], alone[1]);
        assert_eq!(round(&given, &moments, 2), Some(alone));
    }

    #[test]
    fn threads_change_nothing() {
        let (floats, _, moments) = example(300);
        let nearest = weights::quantise(&site(), &floats).unwrap();
        let found = |threads| one((&floats, &nearest), &moments, threads);
        assert!((2..5).all(|threads| found(threads) == found(1)));
    }

    #[test]
    fn by_no_rows_they_go_to_the_nearest_and_zeros_stay() {
        let (floats, _, moments) = example(300);
        let mut values = floats.to_f64();
        values.iter_mut().step_by(3).for_each(|value| *value = 0.0);
        let floats = Tensor::from_f64(DType::F32, floats.dims(), &values);
        let nearest = weights::quantise(&site(), &floats).unwrap();
        let found = |rows| one((&floats, &nearest), &Moments { rows, ..moments.clone() }, 1).unwrap();
        assert_eq!(found(0), nearest.weights);
        let many = found(300).to_f64();
        assert!(many.iter().step_by(3).all(|number| *number == 0.0));
        assert_ne!(found(300), nearest.weights);
    }

    #[test]
    fn what_is_no_number_rounds_nothing() {
        let (floats, _, mut moments) = example(10);
        moments.sums[3] = f32::INFINITY;
        let nearest = weights::quantise(&site(), &floats).unwrap();
        assert_eq!(one((&floats, &nearest), &moments, 1), None);
    }
}
