//! Which of two values of a measure is the better one, by what the measure is called, or as its recipe says.

use super::{RecipeInfo, StopEarly};

/// The direction in which a measure gets better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Smaller is better.
    Smaller,
    /// Larger is better.
    Larger,
}

impl Direction {
    /// Whether `after` is better than `before`.
    pub fn improves(self, before: f64, after: f64) -> bool {
        match self {
            Self::Smaller => after < before,
            Self::Larger => after > before,
        }
    }
}

/// What the name of a measure tells of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Better {
    /// A loss or an error.
    Smaller,
    /// A share from 0 to 1, as an accuracy.
    LargerShare,
    /// Another measure of what is good, as a ratio of signal to noise.
    Larger,
    /// Its name says nothing.
    Unknown,
}

/// Words of a name with which smaller is better.
const SMALLER: [&str; 18] = [
    "loss",
    "error",
    "errors",
    "perplexity",
    "bits",
    "mae",
    "mse",
    "rmse",
    "mape",
    "nll",
    "kl",
    "bpc",
    "wer",
    "cer",
    "fid",
    "distance",
    "divergence",
    "entropy",
];

/// Words of a name with which larger is better, and 1 is best.
const SHARES: [&str; 14] = [
    "accuracy",
    "acc",
    "precision",
    "recall",
    "f1",
    "iou",
    "dice",
    "auc",
    "bleu",
    "top1",
    "top5",
    "correct",
    "hit",
    "hits",
];

/// Words of a name with which larger is better, without an end.
const LARGER: [&str; 7] = ["psnr", "snr", "ssim", "r2", "reward", "correlation", "similarity"];

/// The smallest measure that others are told as per cent of.
pub const LEAST_OF_PER_CENT: f64 = 1e-12;

/// What it is counted in how much worse a measure got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropUnit {
    /// Points of a hundred.
    Points,
    /// Per cent of what it was.
    PerCent,
    /// The measure itself, as it was 0.
    OfItself,
}

impl Better {
    /// By the words of a name, as in `validation_mae`, whatever their case; `loss`, `error` and `perplexity` may be
    /// part of a word.
    pub fn of(name: &str) -> Self {
        let name = name.to_lowercase();
        let words = || name.split(|letter: char| !letter.is_ascii_alphanumeric());
        let has_part = ["loss", "error", "perplexity"].iter().any(|part| name.contains(part));
        if has_part || words().any(|word| SMALLER.contains(&word)) {
            Self::Smaller
        } else if words().any(|word| SHARES.contains(&word)) {
            Self::LargerShare
        } else if words().any(|word| LARGER.contains(&word)) {
            Self::Larger
        } else {
            Self::Unknown
        }
    }

    /// The same where it is said that values get better in a direction, whatever the name tells of that.
    #[must_use]
    pub fn towards(self, direction: Direction) -> Self {
        match direction {
            known if self.direction() == Some(known) => self,
            Direction::Smaller => Self::Smaller,
            Direction::Larger => Self::Larger,
        }
    }

    /// The direction, if the name tells it.
    pub fn direction(self) -> Option<Direction> {
        match self {
            Self::Smaller => Some(Direction::Smaller),
            Self::LargerShare | Self::Larger => Some(Direction::Larger),
            Self::Unknown => None,
        }
    }

    /// How much worse `after` is than `before`: of a share in points of a hundred, else in per cent of `before`. A
    /// measure that nothing is known of gets worse by any change. What is no finite number is infinitely worse.
    pub fn worse_by(self, before: f64, after: f64) -> f64 {
        let percent = |change: f64| 100.0 * change / before.abs().max(LEAST_OF_PER_CENT);
        let worse = match self {
            Self::Smaller => percent(after - before),
            Self::LargerShare => 100.0 * (before - after),
            Self::Larger => percent(before - after),
            Self::Unknown => percent((after - before).abs()),
        };
        if worse.is_finite() { worse } else { f64::INFINITY }
    }

    /// What [`Self::worse_by`] counts in, where per cent of `before` say something: those of 0 do not.
    pub fn unit(self, before: f64) -> DropUnit {
        match self {
            Self::LargerShare => DropUnit::Points,
            Self::Smaller | Self::Larger | Self::Unknown if before.abs() < LEAST_OF_PER_CENT => DropUnit::OfItself,
            Self::Smaller | Self::Larger | Self::Unknown => DropUnit::PerCent,
        }
    }

    /// The value that is worse than `before` by so many points, as [`Self::worse_by`] counts them; of a measure that
    /// nothing is known of the smaller one.
    pub fn after(self, before: f64, points: f64) -> f64 {
        let share = points / 100.0;
        match self {
            Self::Smaller => before + share * before.abs(),
            Self::LargerShare => before - share,
            Self::Larger | Self::Unknown => before - share * before.abs(),
        }
    }
}

impl RecipeInfo {
    /// Which of two values of a measure is the better one: as `stop_early` says where it watches that measure, else by
    /// its name.
    pub fn better(&self, measure: &str) -> Better {
        let of_split = |on: &str| on.split_once('.').is_some_and(|(_, watched)| watched == measure);
        let watches = |stop: &&StopEarly| stop.on == measure || of_split(&stop.on);
        let named = Better::of(measure);
        self.stop_early.as_ref().filter(watches).map_or(named, |stop| named.towards(stop.better))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_direction() {
        for name in ["loss", "step.loss", "MAE", "val_mse", "bits_per_character", "Perplexity", "squared_error"] {
            assert_eq!(Better::of(name), Better::Smaller, "{name}");
        }
        for name in ["accuracy", "Top5", "mean_IoU", "F1"] {
            assert_eq!(Better::of(name), Better::LargerShare, "{name}");
        }
        for name in ["PSNR", "validation.r2"] {
            assert_eq!(Better::of(name), Better::Larger, "{name}");
        }
        for name in ["rabbits", "score"] {
            assert_eq!(Better::of(name).direction(), None, "{name}");
            assert_eq!(Better::of(name), Better::Unknown, "{name}");
        }
    }

    #[test]
    fn what_is_said_of_the_direction_counts_and_a_share_stays_one() {
        assert_eq!(Better::LargerShare.towards(Direction::Larger), Better::LargerShare);
        assert_eq!(Better::LargerShare.towards(Direction::Smaller), Better::Smaller);
        assert_eq!(Better::Unknown.towards(Direction::Larger), Better::Larger);
        assert_eq!(Better::Larger.towards(Direction::Smaller), Better::Smaller);
    }

    #[test]
    fn worse_is_positive_whatever_the_direction() {
        assert!((Better::Smaller.worse_by(2.0, 2.1) - 5.0).abs() < 1e-9);
        assert!(Better::Smaller.worse_by(2.0, 1.9) < 0.0);
        assert!((Better::LargerShare.worse_by(0.9, 0.89) - 1.0).abs() < 1e-9);
        assert!((Better::Larger.worse_by(30.0, 27.0) - 10.0).abs() < 1e-9);
        assert!((Better::Unknown.worse_by(30.0, 33.0) - 10.0).abs() < 1e-9);
        assert!((Better::Unknown.worse_by(30.0, 27.0) - 10.0).abs() < 1e-9);
        assert_eq!(Better::Smaller.worse_by(2.0, f64::NAN), f64::INFINITY);
        assert_eq!(Better::Smaller.unit(0.0), DropUnit::OfItself);
        assert_eq!((Better::Larger.unit(-2.0), Better::LargerShare.unit(0.0)), (DropUnit::PerCent, DropUnit::Points));
        for better in [Better::Smaller, Better::LargerShare, Better::Larger, Better::Unknown] {
            let after = better.after(0.8, 0.5);
            assert!((better.worse_by(0.8, after) - 0.5).abs() < 1e-9, "{better:?}");
        }
    }
}
