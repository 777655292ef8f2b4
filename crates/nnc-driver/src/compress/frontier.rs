//! Which of several networks are worth having, and which is taken.
//!
//! A network is on the frontier if no other is at least as fast, as small and as good, and better in one of these
//! (Pareto).

use serde::Serialize;

/// How a network is, beside the one that was given.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Qualities {
    /// How many times as fast it is.
    pub speed_up: f64,
    /// Its size, as a share.
    pub size: f64,
    /// By how much its metric is worse, in the metric's points: [`nnc_lang::elaborate::Better::worse_by`].
    pub drop: f64,
}

impl Qualities {
    /// Whether it leaves nothing that speaks for the other.
    fn dominates(&self, other: &Self) -> bool {
        let is_as_good = self.speed_up >= other.speed_up && self.size <= other.size && self.drop <= other.drop;
        is_as_good && self != other
    }
}

/// What is asked of a network.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Target {
    /// How many times as fast it has to be, at least.
    pub speed_up: f64,
    /// By how much its metric may be worse, at most.
    pub max_drop: f64,
}

impl Target {
    /// Whether the metric is good enough; one that is no number is not.
    pub fn allows(&self, drop: f64) -> bool {
        drop <= self.max_drop
    }
}

/// Whether each network is on the frontier. What has no finite metric is not.
pub fn frontier(all: &[Qualities]) -> Vec<bool> {
    let finite = |one: &Qualities| one.drop.is_finite();
    let is_best = |one: &Qualities| finite(one) && !all.iter().any(|other| finite(other) && other.dominates(one));
    all.iter().map(is_best).collect()
}

/// The number of the network that loses least of those that meet the target; of equals the fastest, then the first.
pub fn choose(all: &[Qualities], target: Target) -> Option<usize> {
    let meets = |one: &Qualities| one.speed_up >= target.speed_up && target.allows(one.drop);
    let fit = all.iter().enumerate().filter(|(_, one)| meets(one));
    fit.min_by(|(_, a), (_, b)| a.drop.total_cmp(&b.drop).then(b.speed_up.total_cmp(&a.speed_up))).map(|(at, _)| at)
}

/// The networks that come nearest to a target that none meets: the fastest that is good enough, and the best that is
/// fast enough.
pub fn nearest(all: &[Qualities], target: Target) -> [Option<usize>; 2] {
    let numbered = || all.iter().enumerate();
    // What has no number for its loss lost more than any other.
    let lost = |one: &Qualities| if one.drop.is_nan() { f64::INFINITY } else { one.drop };
    let good = numbered().filter(|(_, one)| target.allows(one.drop));
    let fast = numbered().filter(|(_, one)| one.speed_up >= target.speed_up);
    let fastest = good.max_by(|(_, a), (_, b)| a.speed_up.total_cmp(&b.speed_up));
    let best = fast.min_by(|(_, a), (_, b)| lost(a).total_cmp(&lost(b)));
    [fastest, best].map(|found| found.map(|(at, _)| at))
}

/// How many times faster than by its work a cut may be, as what is left fits a nearer cache.
const NEARER: f64 = 2.0;

/// A measured gain, but no more than what is gone can explain: `whole` is that of the network with the same numbers, of
/// which a share was taken out. Short times on a busy machine tell of wonders.
pub fn believable(gain: f64, whole: f64, share: f64) -> f64 {
    gain.min(NEARER * whole.max(1.0) / (1.0 - share).max(f64::EPSILON))
}

/// Numbers, or a cut, that make a network less than so many times as fast are not worth a further training.
pub const WORTH: f64 = 1.15;

/// The steps of a ladder of cuts that are worth training. `ladders` has, for each kind of numbers, how many times as
/// fast each step makes the network: of each the least that meets the target counts, if it is worth a training, or the
/// fastest of all where none does.
pub fn worth_training(ladders: &[Vec<f64>], target: f64) -> Vec<usize> {
    let fastest = |step: usize| ladders.iter().map(|ladder| ladder[step]).fold(0.0, f64::max);
    let least = |ladder: &Vec<f64>| ladder.iter().position(|&speed_up| speed_up >= target.max(WORTH));
    let count = ladders.first().map_or(0, Vec::len);
    let mut steps: Vec<usize> = ladders.iter().filter_map(least).collect();
    if steps.is_empty() {
        steps.extend((0..count).max_by(|&a, &b| fastest(a).total_cmp(&fastest(b))));
    }
    steps.sort_unstable();
    steps.dedup();
    steps.retain(|&step| fastest(step) >= WORTH);
    steps
}

/// A step of a ladder that is not trained.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PassedOver {
    /// How many times as fast it makes the network, with the numbers that make it fastest.
    pub gain: f64,
    /// The number of the ladder with these.
    pub ladder: usize,
    /// Why it is not trained.
    pub why: Why,
}

/// Why a step of a ladder is not trained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It is less than [`WORTH`] times as fast.
    HardlyFaster,
    /// It does not meet the target, and another one is tried.
    TooSlow,
    /// It does, but so does a lesser one.
    LesserIsEnough,
}

/// Why each step of a ladder is not trained; nothing for those that [`worth_training`] names.
pub fn passed_over(ladders: &[Vec<f64>], target: f64) -> Vec<Option<PassedOver>> {
    let trained = worth_training(ladders, target);
    let count = ladders.first().map_or(0, Vec::len);
    let passed = |step: usize| {
        let gains = ladders.iter().map(|ladder| ladder[step]).enumerate();
        // Of equals the first.
        let (ladder, gain) = gains.rev().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let why = match () {
            () if gain < WORTH => Why::HardlyFaster,
            () if gain < target => Why::TooSlow,
            () => Why::LesserIsEnough,
        };
        (!trained.contains(&step)).then_some(PassedOver { gain, ladder, why })
    };
    (0..count).map(passed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(speed_up: f64, size: f64, drop: f64) -> Qualities {
        Qualities { speed_up, size, drop }
    }

    #[test]
    fn what_another_is_better_than_in_all_is_not_on_the_frontier() {
        let all = [
            network(1.0, 1.0, 0.0),
            network(2.0, 0.3, 0.1),
            network(1.5, 0.3, 0.2),
            network(3.0, 0.5, 1.0),
            network(9.0, 0.1, f64::NAN),
            network(0.9, 0.25, 0.1),
        ];
        assert_eq!(frontier(&all), [true, true, false, true, false, true]);
        assert_eq!(frontier(&[all[0], all[0]]), [true, true], "equals leave each other alone");
    }

    #[test]
    fn the_least_loss_is_taken_of_what_meets_the_target() {
        let target = Target { speed_up: 2.0, max_drop: 0.5 };
        let all = [
            network(1.0, 1.0, 0.0),
            network(2.5, 0.3, 0.4),
            network(2.0, 0.3, 0.2),
            network(2.2, 0.4, 0.2),
            network(4.0, 0.2, 0.6),
            network(5.0, 0.2, f64::NAN),
        ];
        assert_eq!(choose(&all, target), Some(3));
        let none = Target { speed_up: 3.0, ..target };
        assert_eq!((choose(&all, none), nearest(&all, none)), (None, [Some(1), Some(4)]));
        assert_eq!(nearest(&all, Target { speed_up: 6.0, max_drop: -1.0 }), [None, None]);
        let odd = Target { speed_up: 4.5, ..target };
        assert_eq!(nearest(&all, odd), [Some(1), Some(5)], "what is fast is told, however much it loses");
    }

    #[test]
    fn no_gain_is_more_than_what_is_gone_explains() {
        assert_eq!(believable(1.9, 1.0, 0.5), 1.9);
        assert_eq!(believable(25.1, 1.0, 0.5), 4.0);
        assert_eq!(believable(25.1, 2.0, 0.5), 8.0);
        assert_eq!(believable(3.0, 0.5, 0.0), 2.0, "numbers that are slower explain nothing");
    }

    #[test]
    fn steps_that_may_meet_the_target_are_trained() {
        let (floats, integers) = (vec![1.2, 1.4, 1.9, 2.4, 3.5], vec![1.8, 2.1, 0.0, 3.3, 3.2]);
        let both = [floats, integers];
        assert_eq!(worth_training(&both[..1], 2.0), [3]);
        assert_eq!(worth_training(&both, 2.0), [1, 3]);
        assert_eq!(worth_training(&both, 3.4), [4]);
        assert_eq!(worth_training(&both, 9.0), [4], "the fastest");
        let why = passed_over(&both, 2.0);
        let passed = |gain, ladder, why| Some(PassedOver { gain, ladder, why });
        assert_eq!(why[0], passed(1.8, 1, Why::TooSlow));
        assert_eq!((why[1], why[3]), (None, None));
        assert_eq!(why[4], passed(3.5, 0, Why::LesserIsEnough));
        assert_eq!(passed_over(&[vec![1.1]], 2.0), [passed(1.1, 0, Why::HardlyFaster)]);
        let blocks = [vec![1.07, 1.13, 1.16, 1.3]];
        assert_eq!(worth_training(&blocks, 1.0), [2], "a lesser cut that is not worth it is not enough");
        let why = passed_over(&blocks, 1.0).into_iter().map(|passed| passed.map(|passed| passed.why));
        let hardly = Some(Why::HardlyFaster);
        assert_eq!(why.collect::<Vec<_>>(), [hardly, hardly, None, Some(Why::LesserIsEnough)]);
        assert!(worth_training(&[vec![0.9, 1.1]], 2.0).is_empty() && worth_training(&[vec![]], 2.0).is_empty());
    }
}
