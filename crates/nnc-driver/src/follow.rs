//! What layers that follow others begin as: these.

use crate::store::Store;
use nnc_lang::elaborate::RecipeInfo;
use std::collections::BTreeSet;

/// Copies what is followed over all that follows in a recipe, but for what is there already. Gives the paths of what was
/// copied.
pub fn begin(recipe: &RecipeInfo, store: &mut Store, is_there: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let led = store.iter().filter_map(|(path, _)| Some((path.to_owned(), store.tensor(&recipe.leader(path)?)?)));
    let begun: Vec<_> = led.filter(|(path, _)| !is_there(path)).collect();
    begun.iter().for_each(|(path, tensor)| store.insert(path, tensor));
    begun.into_iter().map(|(path, _)| path).collect()
}
