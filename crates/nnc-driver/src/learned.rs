//! What data teach, and checkpoints keep: so that weights are used with the numbers they were trained on.

use crate::checkpoint::Checkpoint;
use crate::train::Progress;
use nnc_data::Vocabulary;
use serde::{Deserialize, Serialize};

/// What numbers stand for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Learned {
    /// The classes, written in the file or taught by the folders, or the characters of a text.
    pub classes: Option<Vec<String>>,
    /// The tables of words.
    pub vocabularies: Vec<Vocabulary>,
}

impl Learned {
    /// What a checkpoint keeps; nothing, when it is no checkpoint of a run.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let progress = checkpoint.metadata.as_deref().and_then(|text| Progress::parse(text).ok());
        progress.map(|progress| progress.learned()).unwrap_or_default()
    }
}

/// A table of words in a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct SavedWords {
    lowercase: bool,
    words: Vec<String>,
}

impl From<&Vocabulary> for SavedWords {
    fn from(table: &Vocabulary) -> Self {
        Self { lowercase: table.lowercase(), words: table.words().to_vec() }
    }
}

impl SavedWords {
    /// The table, if this is one.
    pub(crate) fn vocabulary(&self) -> Option<Vocabulary> {
        Vocabulary::new(self.words.clone(), self.lowercase)
    }
}
