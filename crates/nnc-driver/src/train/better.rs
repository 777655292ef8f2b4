//! Which of two values of a measure is the better one, by what the measure is called.

/// The direction in which a measure gets better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Better {
    /// A loss or an error.
    Smaller,
    /// A share from 0 to 1, as an accuracy.
    LargerShare,
    /// Its name says neither.
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

impl Better {
    /// By the words of a name, as in `validation_mae`; `loss`, `error` and `perplexity` may be part of a word.
    pub fn of(name: &str) -> Self {
        let words = || name.split(|letter: char| !letter.is_ascii_alphanumeric());
        let has_part = ["loss", "error", "perplexity"].iter().any(|part| name.contains(part));
        if has_part || words().any(|word| SMALLER.contains(&word)) {
            Self::Smaller
        } else if words().any(|word| SHARES.contains(&word)) {
            Self::LargerShare
        } else {
            Self::Unknown
        }
    }

    /// How much worse `after` is than `before`: of a share in points of a hundred, else in per cent of `before`. A measure
    /// that nothing is known of gets worse by any change. What is no finite number is infinitely worse.
    pub fn worse_by(self, before: f64, after: f64) -> f64 {
        let percent = |change: f64| 100.0 * change / before.abs().max(1e-12);
        let worse = match self {
            Self::Smaller => percent(after - before),
            Self::LargerShare => 100.0 * (before - after),
            Self::Unknown => percent((after - before).abs()),
        };
        if worse.is_finite() { worse } else { f64::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_direction() {
        for name in ["loss", "step.loss", "mae", "val_mse", "bits_per_character", "perplexity", "squared_error"] {
            assert_eq!(Better::of(name), Better::Smaller, "{name}");
        }
        for name in ["accuracy", "top5", "mean_iou", "f1"] {
            assert_eq!(Better::of(name), Better::LargerShare, "{name}");
        }
        for name in ["psnr", "rabbits", "score"] {
            assert_eq!(Better::of(name), Better::Unknown, "{name}");
        }
    }

    #[test]
    fn worse_is_positive_whatever_the_direction() {
        assert!((Better::Smaller.worse_by(2.0, 2.1) - 5.0).abs() < 1e-9);
        assert!(Better::Smaller.worse_by(2.0, 1.9) < 0.0);
        assert!((Better::LargerShare.worse_by(0.9, 0.89) - 1.0).abs() < 1e-9);
        assert!((Better::Unknown.worse_by(30.0, 33.0) - 10.0).abs() < 1e-9);
        assert!((Better::Unknown.worse_by(30.0, 27.0) - 10.0).abs() < 1e-9);
        assert_eq!(Better::Smaller.worse_by(2.0, f64::NAN), f64::INFINITY);
    }
}
