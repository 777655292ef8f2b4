//! Forms of names: `*` stands for any letters, also for none, and `{}` for a label of one letter or more.

/// Whether `name` has the form `pattern`. A pattern without `/` is about the last part of a path alone.
pub fn matches(pattern: &str, path: &str) -> bool {
    let name = if pattern.contains('/') { path } else { path.rsplit('/').next().unwrap_or(path) };
    glob(pattern, name)
}

/// What stands for the `{}` of `pattern` in `name`: the shortest that fits behind the shortest beginning.
#[cfg_attr(not(feature = "folders"), allow(dead_code, reason = "only sources have labels in names"))]
pub(crate) fn label<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
    let (before, behind) = pattern.split_once("{}")?;
    let places: Vec<usize> = name.char_indices().map(|(at, _)| at).chain([name.len()]).collect();
    for &start in places.iter().filter(|&&start| glob(before, &name[..start])) {
        let mut ends = places.iter().filter(|&&end| end > start);
        if let Some(&end) = ends.find(|&&end| glob(behind, &name[end..])) {
            return Some(&name[start..end]);
        }
    }
    None
}

/// Whether `name` has the form `pattern` as a whole. Each part between stars is looked for behind the one before, which
/// leaves the most room for the rest.
fn glob(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_letters() {
        for (pattern, name, fits) in [
            ("*_theo_*", "a/b/0_theo_7.wav", true),
            ("*_theo_*", "a_theo_b/0_lucas_7.wav", false),
            ("train/*", "train/cat/1.png", true),
            ("train/*", "test/cat/1.png", false),
            ("*", "x", true),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("a*b*c", "abcbc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn a_label_is_the_shortest_that_fits() {
        assert_eq!(label("{}_*.wav", "7_jackson_12.wav"), Some("7"));
        assert_eq!(label("*_{}_*", "7_jackson_12.wav"), Some("jackson"));
        assert_eq!(label("{}", "größe"), Some("größe"));
        assert_eq!(label("{}.wav", ".wav"), None);
        assert_eq!(label("{}_*.png", "7_jackson_12.wav"), None);
    }
}
