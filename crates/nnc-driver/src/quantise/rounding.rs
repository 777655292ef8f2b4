//! Weights rounded so that results change least, not each to the nearest number.
//!
//! What is off by rounding one weight can be made up for by another that is multiplied with much the same. The weights
//! of a channel, in steps of its scale, are gone through one after the other: each becomes the whole number that the sum
//! of the squares of what results are off by is least with, all others as they are, which the [`Moments`] of the
//! activations tell. The first time through those that have not been rounded yet are off by nothing, so that each makes
//! up for what those before it are off by; it goes on until no number changes (cyclic coordinate descent: K. Behdin,
//! A. Acharya, A. Gupta, Q. Song, S. Zhu, S. Keerthi, R. Mazumder, "QuantEase: Optimization-based Quantization for
//! Language Models", 2023, algorithm 1).
//!
//! Of few rows the moments tell more of these rows than of what is to come: what two terms have in common counts by
//! `rows / (rows + terms)` (a shrinkage to the diagonal, O. Ledoit, M. Wolf, "A well-conditioned estimator for
//! large-dimensional covariance matrices", 2004), so that by too few, weights go to the nearest numbers. A weight of 0
//! stays 0: it may be one that was pruned.
//!
//! Cost: up to `terms²` multiply-adds a channel and time through.

use crate::quantise::moments::Moments;
use crate::quantise::weights::Quantised;
use nnc_graph::{DType, Tensor};
use nnc_opt::quantise::{Site, WEIGHT_LEVELS};

/// Weights are gone through so often at most.
const MOST_SWEEPS: usize = 8;

/// Channels that are gone through together, so that a row of the moments is read once for all of them.
const TOGETHER: usize = 16;

/// The numbers of weights, by what they are multiplied with; `None` where that is no finite number. The scales are those
/// of the nearest numbers.
pub fn round(
    site: &Site,
    (floats, nearest): (&Tensor, &Quantised),
    moments: &Moments,
    threads: usize,
) -> Option<Tensor> {
    if !moments.sums.iter().all(|sum| sum.is_finite()) {
        return None;
    }
    let common = common(moments);
    let mut channels = channels(site, floats, nearest);
    let in_group = (site.channels / moments.groups).max(1);
    let square = moments.terms * moments.terms;
    for (group, channels) in channels.chunks_mut(in_group).enumerate() {
        let common = &common[group * square..][..square];
        let each = channels.len().div_ceil(threads.max(1)).max(1);
        std::thread::scope(|scope| {
            for channels in channels.chunks_mut(each) {
                scope.spawn(move || channels.chunks_mut(TOGETHER).for_each(|channels| descend(channels, common)));
            }
        });
    }
    Some(laid_out(site, floats.dims(), &channels))
}

/// The weights of a channel, in steps of its scale.
struct Channel {
    /// As they are.
    wanted: Vec<f32>,
    /// What they become.
    numbers: Vec<f32>,
    /// What is off by now, times the moments: half of the steepest descent.
    residual: Vec<f32>,
}

/// The moments, with less of what terms have in common the fewer the rows are. The unit is no matter.
fn common(moments: &Moments) -> Vec<f32> {
    let (rows, terms) = (moments.rows as f32, moments.terms);
    let share = rows / (rows + terms as f32);
    let is_diagonal = |at: usize| at / terms % terms == at % terms;
    let shrunk = |(at, sum): (usize, &f32)| if is_diagonal(at) { *sum } else { sum * share };
    moments.sums.iter().enumerate().map(shrunk).collect()
}

/// Goes through some channels until nothing changes. `common` is `[terms, terms]`.
fn descend(channels: &mut [Channel], common: &[f32]) {
    for _ in 0..MOST_SWEEPS {
        if !sweep(channels, common) {
            return;
        }
    }
}

/// Goes through the weights of some channels once; says whether one changed.
fn sweep(channels: &mut [Channel], common: &[f32]) -> bool {
    let terms = channels.first().map_or(1, |channel| channel.wanted.len().max(1));
    let mut is_changed = false;
    for (term, row) in common.chunks_exact(terms).enumerate() {
        for channel in channels.iter_mut().filter(|channel| channel.wanted[term] != 0.0) {
            is_changed |= channel.choose(term, row);
        }
    }
    is_changed
}

impl Channel {
    /// Takes the best number for a weight, all others as they are; says whether it is another one. `row` is what the term
    /// has in common with each.
    fn choose(&mut self, term: usize, row: &[f32]) -> bool {
        let off =
            if row[term] > 0.0 { self.residual[term] / row[term] } else { self.wanted[term] - self.numbers[term] };
        let number = (self.numbers[term] + off).round_ties_even().clamp(-WEIGHT_LEVELS, WEIGHT_LEVELS);
        let change = number - self.numbers[term];
        if change == 0.0 {
            return false;
        }
        self.numbers[term] = number;
        self.residual.iter_mut().zip(row).for_each(|(residual, common)| *residual -= change * common);
        true
    }
}

/// The weights of each channel, in steps of its scale.
fn channels(site: &Site, floats: &Tensor, nearest: &Quantised) -> Vec<Channel> {
    let (values, scales) = (floats.to_f64(), nearest.scales.to_f64());
    let mut channels: Vec<Vec<f32>> = vec![Vec::new(); site.channels];
    for (at, &value) in values.iter().enumerate() {
        let channel = site.channel_of(floats.dims(), at);
        let scale = scales[channel];
        channels[channel].push(if scale == 0.0 { 0.0 } else { (value / scale) as f32 });
    }
    let started = |wanted: Vec<f32>| Channel { numbers: wanted.clone(), residual: vec![0.0; wanted.len()], wanted };
    channels.into_iter().map(started).collect()
}

/// Numbers as the weights lie.
fn laid_out(site: &Site, dims: &[usize], channels: &[Channel]) -> Tensor {
    let mut next = vec![0; site.channels];
    let elements: usize = dims.iter().product();
    let number = |at: usize| {
        let channel = site.channel_of(dims, at);
        next[channel] += 1;
        f64::from(channels[channel].numbers[next[channel] - 1])
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
        let found = round(&site(), (&floats, &nearest), &moments, 2).unwrap();
        let [before, after] = [&nearest.weights, &found].map(|numbers| off(&floats, &x, (numbers, &scales)));
        assert!(after < 0.2 * before, "{before} and {after}");
        let (_, other, _) = example(2100);
        let [before, after] = [&nearest.weights, &found].map(|n| off(&floats, &other[2000 * TERMS..], (n, &scales)));
        assert!(after < 0.2 * before, "on rows that it was not found by {before} and {after}");
    }

    #[test]
    fn no_weight_alone_could_be_better() {
        let (floats, x, moments) = example(300);
        let nearest = weights::quantise(&site(), &floats).unwrap();
        let scales = nearest.scales.to_f64();
        // All that terms have in common counts.
        let moments = Moments { rows: usize::MAX, ..moments };
        let found = round(&site(), (&floats, &nearest), &moments, 1).unwrap();
        let least = off(&floats, &x, (&found, &scales));
        let numbers = found.to_f64();
        for at in (0..numbers.len()).step_by(7) {
            for step in [-1.0, 1.0] {
                let mut other = numbers.clone();
                other[at] = (other[at] + step).clamp(-64.0, 64.0);
                let other = Tensor::from_f64(DType::I8, found.dims(), &other);
                assert!(off(&floats, &x, (&other, &scales)) > least * (1.0 - 1e-4), "weight {at} by {step}");
            }
        }
    }

    #[test]
    fn threads_change_nothing() {
        let (floats, _, moments) = example(300);
        let nearest = weights::quantise(&site(), &floats).unwrap();
        let found = |threads| round(&site(), (&floats, &nearest), &moments, threads);
        assert!((2..5).all(|threads| found(threads) == found(1)));
    }

    #[test]
    fn by_no_rows_they_go_to_the_nearest_and_zeros_stay() {
        let (floats, _, moments) = example(300);
        let mut values = floats.to_f64();
        values.iter_mut().step_by(3).for_each(|value| *value = 0.0);
        let floats = Tensor::from_f64(DType::F32, floats.dims(), &values);
        let nearest = weights::quantise(&site(), &floats).unwrap();
        let found = |rows| round(&site(), (&floats, &nearest), &Moments { rows, ..moments.clone() }, 1).unwrap();
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
        assert_eq!(round(&site(), (&floats, &nearest), &moments, 1), None);
    }
}
