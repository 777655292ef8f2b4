//! What is held to a metric: of all that was made smaller, what costs most by itself goes back until the metric is good enough.

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

    /// One goes back.
    fn go_back(&mut self, at: usize);
}

/// Takes some of `count` back until the metric called `metric`, which was `before`, drops by no more than `most`
/// ([`Better::worse_by`]). Gives the metric in the end; `told` hears if it has to look at each by itself.
///
/// # Errors
/// What cannot be compiled or run.
pub fn hold(
    held: &mut dyn GoesBack,
    count: usize,
    (metric, before, most): (&str, f64, f64),
    told: &mut dyn FnMut(&str),
) -> Result<f64, DriverError> {
    let drop = |value: f64| Better::of(metric).worse_by(before, value);
    let mut value = held.all()?;
    if drop(value) <= most {
        return Ok(value);
    }
    told("looking for what costs most");
    let mut costs = Vec::new();
    for at in 0..count {
        let Some(alone) = held.alone(at)? else { continue };
        held.note(at, drop(alone));
        costs.push((drop(alone), at));
    }
    costs.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, at) in costs {
        held.go_back(at);
        value = held.all()?;
        if drop(value) <= most {
            break;
        }
    }
    Ok(value)
}
