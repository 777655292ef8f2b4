//! What data teach, and checkpoints keep: so that weights are used with the numbers they were trained on.

use crate::checkpoint::Checkpoint;
use crate::train::Progress;
use nnc_data::{TokenTable, Vocabulary, WordTable};
use nnc_lang::elaborate::RecipeInfo;
use serde::{Deserialize, Serialize};

/// What numbers stand for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Learned {
    /// The classes, written in the file or taught by the folders, or the characters of a text.
    pub classes: Option<Vec<String>>,
    /// The tables of words or tokens.
    pub vocabularies: Vec<Vocabulary>,
}

impl Learned {
    /// What a checkpoint keeps; nothing, when it is no checkpoint of a run.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        Progress::of(checkpoint).map(|progress| progress.learned()).unwrap_or_default()
    }
}

/// What data are split by: the seed of the run that wrote a checkpoint, so that what it held out stays so; of other
/// weights, that of the recipe.
pub fn seed(recipe: &RecipeInfo, checkpoint: &Checkpoint) -> i64 {
    Progress::of(checkpoint).map_or(recipe.seed.unwrap_or(0), |progress| progress.seed)
}

/// Of the metadata of a checkpoint what inference reads: the course of the training may be longer than the weights are.
/// That of a file from elsewhere stays as it is.
pub fn to_infer(metadata: Option<&str>) -> String {
    let Some(text) = metadata else { return String::new() };
    Progress::parse(text).map_or_else(|_| text.to_owned(), |progress| progress.without_course())
}

/// A table in a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum SavedTable {
    /// The words by their numbers.
    Words { lowercase: bool, words: Vec<String> },
    /// The numbers of the tokens that become one, in the order in which they were learned.
    Tokens { merges: Vec<(u32, u32)> },
}

impl From<&Vocabulary> for SavedTable {
    fn from(table: &Vocabulary) -> Self {
        match table {
            Vocabulary::Words(table) => Self::Words { lowercase: table.lowercase(), words: table.words().to_vec() },
            Vocabulary::Tokens(table) => Self::Tokens { merges: table.merges().to_vec() },
        }
    }
}

impl SavedTable {
    /// The table, if this is one.
    pub(crate) fn vocabulary(&self) -> Option<Vocabulary> {
        match self {
            Self::Words { lowercase, words } => WordTable::new(words.clone(), *lowercase).map(Vocabulary::Words),
            Self::Tokens { merges } => TokenTable::new(merges.clone()).map(Vocabulary::Tokens),
        }
    }
}
