//! What is said of wrong arguments: `clap`'s own words, and a hint where an option is meant for the recipe.
//!
//! Options as `--epochs 2` are not nnc's: how a network is trained stands in its file, and `--set epochs=2` sets it
//! from outside.

use crate::arguments::Arguments;
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Names that other programs have for settings, and what recipes call them.
const SETTINGS: [(&str, &str); 8] = [
    ("epochs", "epochs"),
    ("epoch", "epochs"),
    ("batch", "batch"),
    ("batch-size", "batch"),
    ("lr", "lr"),
    ("learning-rate", "lr"),
    ("rate", "rate"),
    ("dropout", "dropout"),
];

/// The error, with a hint when an unknown option is a setting of recipes. `words` are the program's arguments.
pub(crate) fn with_hint(mut said: clap::Error, words: &[String]) -> clap::Error {
    if let Some(hint) = hint(&said, words) {
        said.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
        said.remove(ContextKind::SuggestedArg);
    }
    said
}

fn hint(said: &clap::Error, words: &[String]) -> Option<String> {
    let (ErrorKind::UnknownArgument, Some(ContextValue::String(option))) =
        (said.kind(), said.get(ContextKind::InvalidArg))
    else {
        return None;
    };
    let name = option.trim_start_matches('-').split('=').next()?;
    let &(_, setting) = SETTINGS.iter().find(|(known, _)| *known == name)?;
    takes_settings(words).then(|| match value_of(name, words) {
        Some(value) => format!("settings of the recipe are set by '--set {setting}={value}'"),
        None => format!("settings of the recipe are set by '--set {setting}=VALUE'"),
    })
}

/// Whether the command is one that has `--set`.
fn takes_settings(words: &[String]) -> bool {
    let command = Arguments::command();
    let named = words.iter().find_map(|word| command.find_subcommand(word));
    named.is_some_and(|command| command.get_arguments().any(|argument| argument.get_long() == Some("set")))
}

/// What is given for the option, after `=` or as the next word.
fn value_of<'w>(name: &str, words: &'w [String]) -> Option<&'w str> {
    let option = format!("--{name}");
    let at = words.iter().position(|word| word.split('=').next() == Some(&option))?;
    let next = words.get(at + 1).filter(|word| !word.starts_with('-'));
    words[at].split_once('=').map(|(_, value)| value).or(next.map(String::as_str))
}
