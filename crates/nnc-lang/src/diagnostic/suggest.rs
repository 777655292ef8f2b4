//! Did-you-mean: the closest of the names that are there.

/// The candidate closest to `name`, when it is close enough to be meant: at most a third of the letters differ, or one.
/// To a single letter nothing is close but its other case.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    as_close(name, candidates).into_iter().next()
}

/// All the candidates that are as close as the [`closest`], in the order of their letters.
pub fn as_close<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let length = name.chars().count();
    let limit = if length == 1 { 0 } else { (length / 3).max(1) };
    let ranked = candidates.into_iter().map(|candidate| (distance(name, candidate), candidate));
    let mut close: Vec<(usize, &str)> =
        ranked.filter(|&(distance, candidate)| distance <= limit && candidate != name).collect();
    close.sort_unstable();
    close.dedup();
    let least = close.first().map(|&(distance, _)| distance);
    close.into_iter().take_while(|&(distance, _)| Some(distance) == least).map(|(_, candidate)| candidate).collect()
}

/// Optimal string alignment: insertions, deletions, substitutions, and swaps of neighbours (Damerau 1964).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    if a.len().abs_diff(b.len()) > 8 || a.len() > 64 {
        return usize::MAX;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = substituted.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::{as_close, closest};

    #[test]
    fn finds_what_is_meant() {
        let names = ["dense", "conv2d", "max_pool2d", "relu"];
        assert_eq!(closest("dnese", names), Some("dense"));
        assert_eq!(closest("conv2", names), Some("conv2d"));
        assert_eq!(closest("maxpool2d", names), Some("max_pool2d"));
        assert_eq!(closest("attention", names), None);
        assert_eq!(closest("n", ["M", "N"]), Some("N"));
        assert_eq!(closest("T", ["M", "N"]), None);
        assert_eq!(as_close("adamm", ["adamw", "sgd", "adam", "adam"]), ["adam", "adamw"]);
    }
}
