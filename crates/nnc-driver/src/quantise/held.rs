//! What is held to a metric: of all that was made smaller, what costs most by itself goes back until the metric is good
//! enough.

use crate::dataset::Part;
use crate::error::DriverError;
use crate::session::Session;
use nnc_lang::elaborate::Better;

/// A metric of a session on a part of its data.
///
/// # Errors
/// As [`Session::evaluate`] has; a metric that the recipe does not have is a bug in the compiler.
pub fn measure(session: &mut Session<'_>, part: &Part, metric: &str) -> Result<f64, DriverError> {
    let metrics = session.evaluate(part)?;
    let value = metrics.iter().find(|(name, _)| name == metric).map(|(_, value)| *value);
    value.ok_or_else(|| DriverError::Internal(format!("`{metric}` was not measured")))
}

/// What may go back, each by its number.
pub trait GoesBack {
    /// The metric with all that did not go back.
    ///
    /// # Errors
    /// What cannot be compiled or run.
    fn all(&mut self) -> Result<f64, DriverError>;

    /// The metric with one alone; nothing if that went back or never was.
    ///
    /// # Errors
    /// As [`Self::all`].
    fn alone(&mut self, at: usize) -> Result<Option<f64>, DriverError>;

    /// Notes how much the metric drops with one alone.
    fn note(&mut self, at: usize, drop: f64);

    /// The multiply-adds that are slower again when one goes back.
    fn products(&self, at: usize) -> usize;

    /// One goes back.
    fn go_back(&mut self, at: usize);
}

/// Takes some of `count` back until a metric, which was `before`, drops by no more than `most` ([`Better::worse_by`]):
/// what costs most by itself first, and of what costs alike that with the fewest multiply-adds.
/// Gives the metric in the end; `told` hears which it is at where it has to look at each by itself.
///
/// # Errors
/// What cannot be compiled or run.
pub fn hold(
    held: &mut dyn GoesBack,
    count: usize,
    (better, before, most): (Better, f64, f64),
    told: &mut dyn FnMut(&str),
) -> Result<f64, DriverError> {
    let drop = |value: f64| better.worse_by(before, value);
    let mut value = held.all()?;
    if drop(value) <= most {
        return Ok(value);
    }
    let mut costs = Vec::new();
    for at in 0..count {
        told(&format!("looking for what costs most, {} of {count}", at + 1));
        let Some(alone) = held.alone(at)? else { continue };
        held.note(at, drop(alone));
        costs.push((drop(alone), at));
    }
    costs.sort_by(|a, b| b.0.total_cmp(&a.0).then(held.products(a.1).cmp(&held.products(b.1))));
    for (_, at) in costs {
        held.go_back(at);
        value = held.all()?;
        if drop(value) <= most {
            break;
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each costs by itself, its multiply-adds, and whether it went back.
    struct Costs(Vec<(f64, usize, bool)>);

    impl GoesBack for Costs {
        fn all(&mut self) -> Result<f64, DriverError> {
            Ok(0.9 - self.0.iter().filter(|(.., back)| !back).map(|(cost, ..)| cost).sum::<f64>())
        }

        fn alone(&mut self, at: usize) -> Result<Option<f64>, DriverError> {
            Ok(Some(0.9 - self.0[at].0))
        }

        fn note(&mut self, _: usize, _: f64) {}

        fn products(&self, at: usize) -> usize {
            self.0[at].1
        }

        fn go_back(&mut self, at: usize) {
            self.0[at].2 = true;
        }
    }

    #[test]
    fn of_what_costs_alike_the_smallest_goes_back_first() {
        let mut held = Costs([(0.01, 900), (0.02, 800), (0.01, 10), (0.01, 50)].map(|(a, b)| (a, b, false)).to_vec());
        let after = hold(&mut held, 4, (Better::LargerShare, 0.9, 1.5), &mut |_| {}).unwrap();
        assert!((after - 0.89).abs() < 1e-9, "{after}");
        assert_eq!(held.0.iter().map(|(.., back)| *back).collect::<Vec<_>>(), [false, true, true, true]);
    }
}
