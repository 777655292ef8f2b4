//! What layers that follow others begin as: these.

use crate::store::Store;
use nnc_lang::elaborate::weight_names::is_below;
use std::collections::BTreeSet;

/// Copies what is followed over all that follows, by the paths of pairs of layers, but for what is there already. Gives
/// the paths of what was copied.
pub fn begin(followers: &[(String, String)], store: &mut Store, is_there: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut begun = BTreeSet::new();
    for (follower, leader) in followers {
        let paths = store.iter().map(|(path, _)| path).filter(|path| is_below(follower, path) && !is_there(path));
        let pairs =
            paths.filter_map(|path| Some((path.to_owned(), format!("{leader}{}", path.strip_prefix(&**follower)?))));
        for (path, from) in pairs.collect::<Vec<_>>() {
            if let Some(tensor) = store.tensor(&from) {
                store.insert(&path, &tensor);
                begun.insert(path);
            }
        }
    }
    begun
}
