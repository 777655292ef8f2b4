//! What a run must remember to continue with the same bits.
//!
//! Kept as JSON in the checkpoint's metadata; floats survive the round trip exactly, also those that are not finite
//! ([`crate::plain`]). No clock time is in it.

use super::history::{History, Row};
use crate::checkpoint::Checkpoint;
use crate::learned::{Learned, SavedTable};
use crate::session::Sum;
use nnc_lang::elaborate::{Direction, StopEarly};
use serde::{Deserialize, Serialize};

/// The version of this form; another one is refused.
const VERSION: u32 = 2;

/// Where a run stands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Progress {
    version: u32,
    /// The seed of everything random.
    pub seed: i64,
    /// Examples in a batch.
    pub batch_size: usize,
    /// Examples trained on in an epoch.
    pub train_rows: usize,
    /// Whole epochs done.
    pub epoch: u64,
    /// Batches done in the current epoch.
    pub batch: usize,
    /// Steps done in all.
    pub iteration: u64,
    /// Sums of losses and metrics over the current epoch.
    pub sums: Vec<Sum>,
    /// The best value so far of what is watched.
    #[serde(with = "crate::plain::optional")]
    pub best: Option<f64>,
    /// The epoch that reached it, from 1.
    pub best_epoch: u64,
    /// Epochs since then.
    pub stale: u64,
    /// Whether early stopping ended the run.
    pub stopped_early: bool,
    /// A row for each epoch done.
    pub history: History,
    /// What numbers stand for, in checkpoints: names of the classes, or the characters of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    classes: Option<Vec<String>>,
    /// Tables of words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    vocabularies: Vec<SavedTable>,
}

impl Progress {
    /// The start of a run.
    pub fn new(seed: i64, batch_size: usize, train_rows: usize) -> Self {
        Self {
            version: VERSION,
            seed,
            batch_size,
            train_rows,
            epoch: 0,
            batch: 0,
            iteration: 0,
            sums: Vec::new(),
            best: None,
            best_epoch: 0,
            stale: 0,
            stopped_early: false,
            history: History::default(),
            classes: None,
            vocabularies: Vec::new(),
        }
    }

    /// What the data of the run taught.
    pub fn learned(&self) -> Learned {
        let vocabularies = self.vocabularies.iter().filter_map(SavedTable::vocabulary).collect();
        Learned { classes: self.classes.clone(), vocabularies }
    }

    /// That of the run which wrote a checkpoint; nothing, when it is no checkpoint of a run.
    pub fn of(checkpoint: &Checkpoint) -> Option<Self> {
        checkpoint.metadata.as_deref().and_then(|text| Self::parse(text).ok())
    }

    /// Reads the metadata of a checkpoint.
    ///
    /// # Errors
    /// Why it cannot be continued, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let progress: Self =
            serde_json::from_str(text).map_err(|error| format!("its training state cannot be read: {error}"))?;
        if progress.version != VERSION {
            return Err(format!("its training state has version {}, this nnc reads {VERSION}", progress.version));
        }
        Ok(progress)
    }

    /// The metadata of a checkpoint.
    pub fn to_text(&self, learned: &Learned) -> String {
        let vocabularies = learned.vocabularies.iter().map(SavedTable::from).collect();
        let kept = Self { classes: learned.classes.clone(), vocabularies, ..self.clone() };
        serde_json::to_string(&kept).expect("numbers, strings and lists of them have a JSON form")
    }

    /// The metadata of a file that is made of a checkpoint, without the course of the run: [`Self::learned`] of it is
    /// the same.
    pub(crate) fn without_course(self) -> String {
        let kept = Self { history: History::default(), sums: Vec::new(), ..self };
        serde_json::to_string(&kept).expect("numbers, strings and lists of them have a JSON form")
    }

    /// Whether this can be continued by a run that starts as `fresh`.
    ///
    /// # Errors
    /// What differs, in words.
    pub fn continues(&self, fresh: &Self) -> Result<(), String> {
        let differ = |what: &str, before: String, now: String| {
            Err(format!("the run was started with {what} {before}, not {now}: resume it with the same"))
        };
        if self.seed != fresh.seed {
            return differ("seed", self.seed.to_string(), fresh.seed.to_string());
        }
        if self.batch_size != fresh.batch_size {
            return differ("batch", self.batch_size.to_string(), fresh.batch_size.to_string());
        }
        if self.train_rows != fresh.train_rows {
            return differ("training examples:", self.train_rows.to_string(), fresh.train_rows.to_string());
        }
        Ok(())
    }

    /// Moves to the start of the next epoch.
    pub(super) fn end_epoch(&mut self) {
        self.epoch += 1;
        self.batch = 0;
        self.sums.clear();
    }

    /// Takes in the value that is watched: by the recipe's `stop_early`, else the loss. Gives whether it is the best.
    pub(super) fn judge(&mut self, row: &Row, stop: Option<&StopEarly>) -> bool {
        let loss = if row.validation.is_some() { "validation.loss" } else { "train.loss" };
        let (watched, better) = stop.map_or((loss, Direction::Smaller), |stop| (stop.on.as_str(), stop.better));
        let Some(value) = row.value(watched) else { return false };
        let improved = !value.is_nan() && self.best.is_none_or(|best| better.improves(best, value));
        if improved {
            (self.best, self.best_epoch, self.stale) = (Some(value), row.epoch, 0);
        } else {
            self.stale += 1;
        }
        self.stopped_early = stop.is_some_and(|stop| {
            self.stale >= u64::try_from(stop.patience).expect("the front end takes a patience from 1")
        });
        improved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: u64, loss: f64) -> Row {
        let validation = Some(vec![("loss".to_owned(), loss)]);
        Row { epoch, iteration: epoch, train: vec![("loss".to_owned(), loss)], validation }
    }

    #[test]
    fn early_stopping_waits_for_its_patience() {
        let stop = StopEarly { on: "validation.loss".to_owned(), patience: 2, better: Direction::Smaller };
        let mut progress = Progress::new(0, 1, 1);
        let judged: Vec<(bool, bool)> = [1.0, 0.5, 0.6, 0.7]
            .into_iter()
            .enumerate()
            .map(|(at, loss)| (progress.judge(&row(at as u64 + 1, loss), Some(&stop)), progress.stopped_early))
            .collect();
        assert_eq!(judged, [(true, false), (true, false), (false, false), (false, true)]);
        assert_eq!((progress.best, progress.best_epoch), (Some(0.5), 2));
    }

    #[test]
    fn what_is_no_number_is_never_better() {
        let stop = StopEarly { on: "validation.loss".to_owned(), patience: 2, better: Direction::Smaller };
        let mut progress = Progress::new(0, 1, 1);
        let judged = [f64::NAN, 0.5, f64::NAN, f64::NAN].map(|loss| progress.judge(&row(1, loss), Some(&stop)));
        assert_eq!((judged, progress.best, progress.stopped_early), ([false, true, false, false], Some(0.5), true));
    }

    #[test]
    fn what_is_better_is_what_the_recipe_says() {
        let stop = StopEarly { on: "validation.loss".to_owned(), patience: 9, better: Direction::Larger };
        let mut progress = Progress::new(0, 1, 1);
        let judged = [1.0, 0.5, 2.0].map(|loss| progress.judge(&row(1, loss), Some(&stop)));
        assert_eq!((judged, progress.best), ([true, false, true], Some(2.0)));
    }

    #[test]
    fn every_bit_survives_the_checkpoint() {
        let mut progress = Progress::new(-7, 64, 60_000);
        let sum = |name: &str, sum: f64| Sum { name: name.to_owned(), sum, rows: 64 };
        progress.sums = vec![sum("loss", 0.1 + 0.2), sum("accuracy", f64::MIN_POSITIVE / 8.0)];
        progress.history.rows.push(row(1, 1.0 / 3.0));
        assert_eq!(Progress::parse(&progress.to_text(&Learned::default())), Ok(progress));
    }

    #[test]
    fn another_seed_does_not_continue() {
        let error = Progress::new(1, 64, 10).continues(&Progress::new(2, 64, 10)).unwrap_err();
        assert!(error.contains("seed 1, not 2"), "{error}");
    }

    /// A metric of an epoch may be anything: a perplexity is infinite, a share of nothing is no number.
    #[test]
    fn what_is_not_finite_survives() {
        let odd = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -0.0];
        let metrics: Vec<_> = odd.iter().enumerate().map(|(at, &value)| (format!("m{at}"), value)).collect();
        let mut progress = Progress::new(3, 1, 1);
        progress.best = Some(f64::NEG_INFINITY);
        progress.sums = vec![Sum { name: "loss".to_owned(), sum: f64::INFINITY, rows: 2 }];
        let row = Row { epoch: 1, iteration: 1, train: metrics.clone(), validation: Some(metrics) };
        progress.history.rows = vec![row];
        let text = progress.to_text(&Learned::default());
        let read = Progress::parse(&text).unwrap();
        let bits = |row: &Row| row.train.iter().map(|(_, value)| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read.history.rows[0]), odd.map(f64::to_bits));
        assert_eq!((read.best, read.sums), (progress.best, progress.sums));
        // As files of former versions have it.
        let lost = text.replace("\"NaN\"", "null");
        assert!(Progress::parse(&lost).unwrap().history.rows[0].train[2].1.is_nan());
    }
}
