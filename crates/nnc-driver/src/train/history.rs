//! One row for each epoch, the table `metrics.csv`, and the course of the steps in between.

use super::trace::Trace;
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
    #[serde(with = "crate::plain::named")]
    pub train: Metrics,
    /// Means over the validation split at its end.
    #[serde(with = "crate::plain::optional_named")]
    pub validation: Option<Metrics>,
}

/// Every epoch so far.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// In order.
    pub rows: Vec<Row>,
    /// The course of the steps.
    #[serde(default)]
    pub trace: Trace,
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
    /// `epoch,iteration,train.loss,...,validation.loss,...`, with floats in the shortest form that reads back equal.
    /// What an epoch does not tell of is empty.
    pub fn to_csv(&self) -> String {
        let none = Metrics::new();
        let train: Vec<&Metrics> = self.rows.iter().map(|row| &row.train).collect();
        let validation: Vec<&Metrics> = self.rows.iter().map(|row| row.validation.as_ref().unwrap_or(&none)).collect();
        let columns: Vec<String> = named("train", &train).into_iter().chain(named("validation", &validation)).collect();
        let mut text = String::from("epoch,iteration");
        columns.iter().for_each(|column| text += &format!(",{column}"));
        text.push('\n');
        for row in &self.rows {
            // Writing to a string cannot fail.
            let _ = write!(text, "{},{}", row.epoch, row.iteration);
            for column in &columns {
                text.push(',');
                text += &row.value(column).map_or(String::new(), |value| value.to_string());
            }
            text.push('\n');
        }
        text
    }
}

/// `SPLIT.NAME` of everything that a row has, in order of appearance.
fn named(split: &str, rows: &[&Metrics]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in rows.iter().flat_map(|row| row.iter()).map(|(name, _)| format!("{split}.{name}")) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
