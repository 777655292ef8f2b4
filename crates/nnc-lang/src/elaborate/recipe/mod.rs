//! `train` blocks: settings, the graphs of a training step, of evaluation and of answers.

/// What a `train` block says, for whoever runs the training.
#[derive(Clone, Debug)]
pub struct RecipeInfo {
    /// The name behind `train`: of its model, or a label.
    pub name: String,
    /// The model it trains.
    pub model: String,
    /// The data block it trains on.
    pub data: String,
    /// Passes over the training split.
    pub epochs: i64,
    /// Examples in a step.
    pub batch: i64,
    /// When to stop before the last epoch.
    pub stop_early: Option<StopEarly>,
    /// In order of declaration.
    pub metrics: Vec<MetricInfo>,
    /// Names of the answers, in order of declaration; `result` alone when the recipe declares none.
    pub answers: Vec<String>,
    /// The seed the recipe sets.
    pub seed: Option<i64>,
}

/// `stop_early(on=validation.loss, patience=3)`.
#[derive(Clone, PartialEq, Debug)]
pub struct StopEarly {
    /// What is watched: `validation.loss`.
    pub on: String,
    /// How many epochs without an improvement end the training.
    pub patience: i64,
}

/// A metric of a recipe.
#[derive(Clone, PartialEq, Debug)]
pub struct MetricInfo {
    /// Its name.
    pub name: String,
    /// Whether it accumulates over a split instead of being averaged over examples.
    pub accumulates: bool,
}
