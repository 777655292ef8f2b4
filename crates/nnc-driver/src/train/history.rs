//! One row for each epoch, and the table `metrics.csv`.

use crate::session::Metrics;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Means of one epoch.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// From 1.
    pub epoch: u64,
    /// Steps done at its end.
    pub iteration: u64,
    /// Means over the training examples, as they were while it trained.
    pub train: Metrics,
    /// Means over the validation split at its end.
    pub validation: Option<Metrics>,
}

/// Every epoch so far.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// In order.
    pub rows: Vec<Row>,
}

impl Row {
    /// The value called `train.loss`, `validation.accuracy`, ...
    pub fn value(&self, name: &str) -> Option<f64> {
        let (split, metric) = name.split_once('.')?;
        let metrics = match split {
            "train" => &self.train,
            "validation" => self.validation.as_ref()?,
            _ => return None,
        };
        metrics.iter().find(|(name, _)| name == metric).map(|&(_, value)| value)
    }
}

impl History {
    /// Whether a smaller value of the metric is the better one: for losses and errors.
    pub fn smaller_is_better(name: &str) -> bool {
        ["loss", "error", "perplexity"].iter().any(|word| name.contains(word))
    }

    /// `epoch,iteration,train.loss,...,validation.loss,...`, with floats in the shortest form that reads back equal.
    pub fn to_csv(&self) -> String {
        let mut text = String::from("epoch,iteration");
        let Some(first) = self.rows.first() else { return text + "\n" };
        let prefixed = |prefix: &str, metrics: &Metrics| {
            metrics.iter().map(|(name, _)| format!(",{prefix}.{name}")).collect::<String>()
        };
        text += &prefixed("train", &first.train);
        text += &first.validation.as_ref().map_or(String::new(), |metrics| prefixed("validation", metrics));
        text.push('\n');
        for row in &self.rows {
            let values = row.train.iter().chain(row.validation.iter().flatten());
            // Writing to a string cannot fail.
            let _ = write!(text, "{},{}", row.epoch, row.iteration);
            values.for_each(|(_, value)| {
                let _ = write!(text, ",{value}");
            });
            text.push('\n');
        }
        text
    }
}
