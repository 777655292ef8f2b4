//! How large activations are, in a histogram, and how much of it a range should hold.
//!
//! Zeros are not counted: every range has a number for 0, so that they lose nothing by any, and behind a relu or a
//! padding they would outweigh all else. Magnitudes are counted in equal steps up to the largest; what a method chooses
//! is a share of that.
//!
//! - [`Histogram::below`]: a percentile.
//! - [`Histogram::least_error`]: the least sum of squared errors, of what is rounded and of what is cut off, as
//!   PyTorch's `HistogramObserver` has it.
//! - [`Histogram::least_entropy`]: the histogram that tells most of the whole when it is rounded to as many levels, by
//!   the relative entropy of Kullback and Leibler (Migacz, "8-bit Inference with TensorRT", 2017). What is cut off
//!   counts with the last step, and what lies in the level of 0 not at all, as it is large for most activations and
//!   rounds to about 0 with every range. Other than there, a range is looked at in as many steps for each of its
//!   levels, however wide it is: with steps of one width the smallest range, of one step for a level, would seem to
//!   lose nothing by rounding.

/// Steps of a histogram.
const BINS: usize = 1 << 15;
/// Steps that a level of a range is looked at in, for its entropy.
const PARTS: usize = 4;
/// Ranges that are compared by their squared error.
const RANGES: usize = 512;

/// Counts of magnitudes, in equal steps up to the largest of all.
#[derive(Clone, Default, Debug)]
pub struct Histogram {
    /// Empty where nobody counted.
    counts: Vec<u64>,
}

impl Histogram {
    /// Counts values, of which `largest` is the largest magnitude of all that will be counted.
    pub fn count(&mut self, values: impl Iterator<Item = f32>, largest: f32) {
        self.counts.resize(BINS, 0);
        let steps = BINS as f32 / largest;
        for value in values.filter(|&value| value != 0.0) {
            self.counts[((value.abs() * steps) as usize).min(BINS - 1)] += 1;
        }
    }

    /// How much holds this share of what was counted, from 0 to 1.
    pub fn below(&self, share: f64) -> f64 {
        let wanted = share * self.counts.iter().sum::<u64>() as f64;
        let mut so_far = 0;
        let enough = self.counts.iter().position(|&count| {
            so_far += count;
            so_far as f64 >= wanted
        });
        enough.map_or(1.0, |at| (at + 1) as f64 / BINS as f64)
    }

    /// How much has the least squared error when it is rounded to the whole numbers up to `levels`, which is what the
    /// rest becomes.
    pub fn least_error(&self, levels: usize) -> f64 {
        let moments = Moments::of(&self.counts);
        let ranges = (1..=RANGES).rev().map(|range| range * BINS / RANGES);
        let errors = ranges.map(|bins| (moments.error(bins, levels), bins));
        errors.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1.0, |(_, bins)| bins as f64 / BINS as f64)
    }

    /// How much tells most of the whole in the whole numbers up to `levels`.
    pub fn least_entropy(&self, levels: usize) -> f64 {
        let parts = (levels + 1) * PARTS;
        let divergences = (1..=BINS / parts).rev().map(|width| (self.divergence(width, parts), width * parts));
        divergences.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1.0, |(_, bins)| bins as f64 / BINS as f64)
    }

    /// The relative entropy of a range of so many parts of equal width, what lies beyond counted with the last, against
    /// the same with what each level holds spread evenly over those of its parts that hold anything.
    fn divergence(&self, width: usize, parts: usize) -> f64 {
        let counts: Vec<f64> = self.counts.chunks_exact(width).map(|part| part.iter().sum::<u64>() as f64).collect();
        let Some((inside, _)) = counts.split_at_checked(parts) else { return f64::INFINITY };
        let beyond = self.counts[parts * width..].iter().sum::<u64>() as f64;
        let last = inside.len() - 1;
        let (mut sum, mut total) = (0.0, 0.0);
        for (at, level) in inside.chunks_exact(PARTS).enumerate().skip(1) {
            let occupied = level.iter().filter(|&&count| count > 0.0).count().max(1);
            let spread = (level.iter().sum::<f64>() / occupied as f64).max(LEAST);
            for (part, &count) in level.iter().enumerate() {
                let found = if at * PARTS + part == last { count + beyond } else { count };
                total += found;
                sum += if found > 0.0 { found * (found / spread).ln() } else { 0.0 };
            }
        }
        sum / total.max(LEAST)
    }
}

/// What stands for nothing in a quotient.
const LEAST: f64 = 1e-9;

/// Sums over the first steps of a histogram: of counts, of magnitudes in steps, of their squares.
struct Moments(Vec<[f64; 3]>);

impl Moments {
    fn of(counts: &[u64]) -> Self {
        let mut sums = vec![[0.0; 3]];
        let mut so_far = [0.0; 3];
        for (at, &count) in counts.iter().enumerate() {
            let (count, magnitude) = (count as f64, at as f64 + 0.5);
            so_far = [so_far[0] + count, so_far[1] + count * magnitude, so_far[2] + count * magnitude * magnitude];
            sums.push(so_far);
        }
        Self(sums)
    }

    /// The sum of squared errors, in steps, of a range of so many: what is smaller than half a level becomes 0, what
    /// lies beyond the range becomes its end, and what lies between is off as it comes, so by a twelfth of a squared
    /// level in the mean.
    fn error(&self, bins: usize, levels: usize) -> f64 {
        let Some(&[all, all_first, all_second]) = self.0.last() else { return 0.0 };
        let Some(&[inside, first, second]) = self.0.get(bins) else { return f64::INFINITY };
        let level = bins as f64 / levels as f64;
        let [small, _, lost] = self.0[(level / 2.0) as usize];
        let end = bins as f64;
        let beyond = (all_second - second) - 2.0 * end * (all_first - first) + end * end * (all - inside);
        lost + (inside - small) * level * level / 12.0 + beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[f32]) -> Histogram {
        let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let mut histogram = Histogram::default();
        histogram.count(values.iter().copied(), largest);
        histogram
    }

    #[test]
    fn zeros_do_not_count() {
        let mut values: Vec<f32> = (1..=1000).map(|at| (at as f32 * 0.618_034).fract().powi(3)).collect();
        let before = histogram(&values);
        values.extend([0.0; 100_000]);
        let after = histogram(&values);
        assert_eq!(before.below(0.99), after.below(0.99));
        assert_eq!(before.least_error(255), after.least_error(255));
        assert_eq!(before.least_entropy(255), after.least_entropy(255));
    }

    #[test]
    fn a_share_is_of_what_was_counted() {
        let even: Vec<f32> = (1..=10_000).map(|at| at as f32 / 10_000.0).collect();
        for share in [0.5, 0.9, 0.999] {
            assert!((histogram(&even).below(share) - share).abs() < 1e-3, "{share}");
        }
        assert_eq!(histogram(&even).below(1.0), 1.0);
    }

    #[test]
    fn what_nobody_counted_is_taken_whole() {
        let none = Histogram::default();
        assert_eq!([none.below(0.5), none.least_error(255), none.least_entropy(127)], [1.0; 3]);
    }

    /// The error that is found by sums is that of every value by itself.
    #[test]
    fn errors_are_those_of_the_values() {
        let values: Vec<f32> = (0..50_000).map(|at| -(1.0 - (at as f32 + 0.5) / 50_000.0).ln()).collect();
        let (histogram, largest) = (histogram(&values), values[values.len() - 1]);
        let moments = Moments::of(&histogram.counts);
        for bins in [BINS / 8, BINS / 3, BINS] {
            let step = f64::from(largest) / BINS as f64;
            let level = bins as f64 * step / 255.0;
            let rounded = |x: f64| (x / level).round().min(255.0) * level;
            let wanted: f64 = values.iter().map(|&x| (f64::from(x) - rounded(f64::from(x))).powi(2)).sum();
            let found = moments.error(bins, 255) * step * step;
            assert!((found - wanted).abs() < 0.02 * wanted, "{bins}: {found}, not {wanted}");
        }
    }
}
