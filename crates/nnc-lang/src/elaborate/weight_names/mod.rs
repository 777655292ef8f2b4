//! What the tensors of weights from elsewhere are called: `names = {"theirs": "ours"}` in a model, or with a layer.
//!
//! A rule of a model says the name, in a file, of a layer or parameter in it; both are relative to where the model
//! stands. So the name of a parameter is put together on the way from the root down to it: `block[0].conv2d_1.w`
//! becomes `layer1.` by the network's rule for `block[0]`, then `conv1.` by the block's, then `weight` by that of
//! `conv2d`. On each level the rule with the most components goes first, of equals the earlier one; where none fits,
//! our own name is theirs. What a `layer` statement says goes before what its model says.

mod pattern;

pub use pattern::{Source, Term};

use crate::diagnostic::{FileId, Span};
use crate::syntax::ast::NameRule;
use pattern::{Pattern, Template};
use std::collections::{BTreeMap, BTreeSet};

/// What stands for a tensor that no parameter takes.
const LEFT_OUT: &str = "_";

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Rule {
    theirs: Template,
    /// `None` for what is left out.
    ours: Option<Pattern>,
    span: Span,
}

/// The rules that hold below one path.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Level {
    /// Of the `layer` statement.
    outer: Vec<Rule>,
    /// Of the model itself.
    body: Vec<Rule>,
}

/// What weights a program begins with, and what their tensors may be called.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pretrained {
    /// Names of parameters and states in files.
    pub names: WeightNames,
    /// The layers with a file, in the order of the program: those within others come later.
    pub loads: Vec<LayerWeights>,
}

impl Pretrained {
    /// Adds what another part of the same program says.
    pub fn merge(&mut self, other: Pretrained) {
        for (path, level) in other.names.levels {
            self.names.levels.entry(path).or_insert(level);
        }
        let known: Vec<String> = self.loads.iter().map(|load| load.layer.clone()).collect();
        self.loads.extend(other.loads.into_iter().filter(|load| !known.contains(&load.layer)));
    }
}

/// `layer NAME = ... from "w.safetensors"`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LayerWeights {
    /// The layer's path.
    pub layer: String,
    /// The file, relative to the folder of the `.nn` file that is compiled.
    pub file: String,
    /// Where it is named.
    pub place: Span,
    /// Whether parameters that the file lacks keep their first values.
    pub partial: bool,
    /// Whether floats of another dtype are converted.
    pub cast: bool,
}

/// Every rule of a program, by the path it is relative to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WeightNames {
    levels: BTreeMap<String, Level>,
}

/// The tensors of a file that no parameter takes, as rules with `"_"` say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeftOut {
    /// What stands before the names, and what is left out there.
    rules: Vec<(String, Template)>,
}

impl LeftOut {
    /// Whether a tensor is left out.
    pub fn covers(&self, tensor: &str) -> bool {
        self.rules.iter().any(|(prefix, template)| match tensor.strip_prefix(prefix.as_str()) {
            Some(rest) if prefix.is_empty() => template.covers(rest),
            Some(rest) => rest.strip_prefix('.').is_some_and(|rest| template.covers(rest)),
            None => false,
        })
    }
}

/// Whose names a file has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whose {
    /// Our own, but for what `layer` statements say.
    Ours,
    /// Those that models say.
    Theirs,
}

/// A place on the way to a parameter.
struct Place<'a> {
    /// The components of the path that are behind it.
    done: Vec<&'a str>,
    /// Those before it.
    rest: &'a [&'a str],
    /// Whether the rules of the `layer` statement here have had their turn.
    inside: bool,
}

impl WeightNames {
    /// Adds the rules of a `layer` statement (`outer`) or of a model's body at a path. What cannot be read is told by
    /// `report`, with its place.
    pub(super) fn add(&mut self, path: &str, rules: &[NameRule], outer: bool, mut report: impl FnMut(Span, String)) {
        let level = self.levels.entry(path.to_owned()).or_default();
        let known = if outer { &mut level.outer } else { &mut level.body };
        for rule in rules {
            // A shared layer's body is evaluated at each use.
            if known.iter().any(|known| known.span == rule.theirs_span) {
                continue;
            }
            match read(rule) {
                Ok(rule) => known.push(rule),
                Err((span, message)) => report(span, message),
            }
        }
    }

    /// What the parameter at `path` may be called in a file for the part of the program below `root`: by its path, as
    /// checkpoints have it, unless the layer at the root says names for its file; by our own names, but for what
    /// `layer` statements say; by those that the models say, too.
    pub fn sources(&self, root: &str, path: &str) -> Vec<Source> {
        let mut found = Vec::new();
        if self.levels.get(root).is_none_or(|level| level.outer.is_empty()) {
            found.push(Source::plain(&components(root, path).join(".")));
        }
        for whose in [Whose::Ours, Whose::Theirs] {
            let source = self.translated(root, path, whose);
            if !found.contains(&source) {
                found.push(source);
            }
        }
        found
    }

    /// What the rules leave out of a file for the part below `root`.
    pub fn left_out(&self, root: &str) -> LeftOut {
        let mut found = LeftOut::default();
        for (path, level) in self.levels.iter().filter(|(path, _)| is_below(root, path)) {
            for (rules, inside) in [(&level.outer, false), (&level.body, true)] {
                let rules = rules.iter().filter(|rule| rule.ours.is_none());
                for whose in [Whose::Ours, Whose::Theirs] {
                    let prefix = || self.prefix(root, path, whose, inside);
                    found.rules.extend(rules.clone().map(|rule| (prefix(), rule.theirs.clone())));
                }
            }
        }
        found
    }

    /// The rules that stand in a file, by their places: whether one of these parameters and states has a name by it.
    pub(super) fn fitting(&self, file: FileId, paths: &BTreeSet<String>) -> BTreeMap<Span, bool> {
        let mut found: BTreeMap<Span, bool> = BTreeMap::new();
        for (level, rules) in &self.levels {
            let own = rules.outer.iter().chain(&rules.body).filter(|rule| rule.span.file == file);
            for (rule, ours) in own.filter_map(|rule| Some((rule, rule.ours.as_ref()?))) {
                let below = || paths.iter().filter(|path| is_below(level, path));
                let fits = ours.len() == 0 || below().any(|path| ours.matches(&components(level, path)).is_some());
                *found.entry(rule.span).or_default() |= fits;
            }
        }
        found
    }

    fn translated(&self, root: &str, path: &str, whose: Whose) -> Source {
        let components = components(root, path);
        let mut place = Place { done: Vec::new(), rest: &components, inside: false };
        let mut prefix = String::new();
        loop {
            let source = match self.step(root, &mut place, whose) {
                Some(source) => source,
                None => return Source::plain("").under(&prefix),
            };
            match &source.terms[..] {
                // Several tensors, or a part of one, are no prefix: what is left of the path goes behind each.
                [only] if only.part.is_none() && !only.transposed => {
                    let dot = if prefix.is_empty() || only.name.is_empty() { "" } else { "." };
                    prefix = format!("{prefix}{dot}{}", only.name);
                }
                _ => return source.with(&place.rest.join(".")).under(&prefix),
            }
        }
    }

    /// Goes one step toward the parameter; gives what that adds to its name. `None` at the end.
    fn step(&self, root: &str, place: &mut Place<'_>, whose: Whose) -> Option<Source> {
        let level = self.levels.get(&joined(root, &place.done));
        if !place.inside {
            place.inside = true;
            let outer = level.map_or(&[][..], |level| &level.outer[..]);
            return Some(match best(outer, place.rest) {
                Some((0, source)) => source,
                Some((length, source)) => {
                    advance(place, length);
                    source
                }
                None => Source::plain(""),
            });
        }
        if place.rest.is_empty() {
            return None;
        }
        let body = level.filter(|_| whose == Whose::Theirs).map_or(&[][..], |level| &level.body[..]);
        let (length, source) = match best(body, place.rest) {
            // A body has no name for itself.
            Some((0, _)) | None => (1, Source::plain(place.rest[0])),
            Some(found) => found,
        };
        advance(place, length);
        Some(source)
    }

    /// What stands before the names of a path's own rules in a file.
    fn prefix(&self, root: &str, path: &str, whose: Whose, inside: bool) -> String {
        let (components, mut prefix) = (components(root, path), Source::plain(""));
        let mut place = Place { done: Vec::new(), rest: &components, inside: false };
        while !place.rest.is_empty() || (inside && !place.inside) {
            let Some(next) = self.step(root, &mut place, whose) else { break };
            prefix = next.under(&prefix.terms[0].name);
        }
        prefix.terms.swap_remove(0).name
    }
}

fn advance<'a>(place: &mut Place<'a>, length: usize) {
    let (done, rest) = place.rest.split_at(length);
    place.done.extend_from_slice(done);
    place.rest = rest;
    place.inside = false;
}

/// The longest rule that fits the beginning of a path, and what it says.
fn best(rules: &[Rule], path: &[&str]) -> Option<(usize, Source)> {
    let fits = |rule: &Rule| {
        let ours = rule.ours.as_ref()?;
        Some((ours.len(), rule.theirs.expand(&ours.matches(path)?)?))
    };
    // Of equals `max_by_key` gives the last.
    rules.iter().rev().filter_map(fits).max_by_key(|(length, _)| *length)
}

fn read(rule: &NameRule) -> Result<Rule, (Span, String)> {
    let theirs = Template::parse(&rule.theirs).map_err(|message| (rule.theirs_span, message))?;
    if rule.ours == LEFT_OUT && theirs.is_too_free() {
        return Err((rule.theirs_span, pattern::TOO_FREE.to_owned()));
    }
    if rule.ours == LEFT_OUT {
        return Ok(Rule { theirs, ours: None, span: rule.theirs_span });
    }
    let ours = Pattern::parse(&rule.ours).map_err(|message| (rule.ours_span, message))?;
    if theirs.has_anything() {
        return Err((rule.theirs_span, "`*` stands for names that are left out alone: `\"*.step\": \"_\"`".to_owned()));
    }
    let unbound = theirs.captures().find(|name| !ours.captures().any(|bound| bound == *name));
    if let Some(name) = unbound {
        return Err((rule.theirs_span, format!("`{{{name}}}` does not stand in our name, so nothing says what it is")));
    }
    Ok(Rule { theirs, ours: Some(ours), span: rule.theirs_span })
}

/// The components of a path behind the root.
fn components<'a>(root: &str, path: &'a str) -> Vec<&'a str> {
    let rest = path.strip_prefix(root).unwrap_or(path).trim_start_matches('.');
    rest.split('.').filter(|component| !component.is_empty()).collect()
}

fn joined(root: &str, components: &[&str]) -> String {
    std::iter::once(root)
        .filter(|root| !root.is_empty())
        .chain(components.iter().copied())
        .collect::<Vec<_>>()
        .join(".")
}

/// The path that lies below `to` as `path` does below `from`, if it does.
pub fn counterpart(path: &str, from: &str, to: &str) -> Option<String> {
    is_below(from, path).then(|| format!("{to}{}", &path[from.len()..]))
}

/// Whether a path is the root or lies below it.
pub fn is_below(root: &str, path: &str) -> bool {
    root.is_empty() || path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::{NameRule, Span, WeightNames};

    /// A path, whether its rules are those of a `layer` statement, and the rules.
    type Rules<'a> = (&'a str, bool, &'a [(&'a str, &'a str)]);

    fn names(rules: &[Rules<'_>]) -> WeightNames {
        let mut names = WeightNames::default();
        let mut at = 0;
        for (path, outer, pairs) in rules {
            let rules: Vec<NameRule> = pairs
                .iter()
                .map(|(theirs, ours)| {
                    at += 1;
                    let span = Span { start: at, ..Span::default() };
                    NameRule {
                        theirs: (*theirs).to_owned(),
                        theirs_span: span,
                        ours: (*ours).to_owned(),
                        ours_span: span,
                    }
                })
                .collect();
            names.add(path, &rules, *outer, |_, message| panic!("{message}"));
        }
        names
    }

    fn shown(names: &WeightNames, root: &str, path: &str) -> Vec<String> {
        names.sources(root, path).iter().map(ToString::to_string).collect()
    }

    const DENSE: &[(&str, &str)] = &[("weight.T", "w"), ("bias", "b")];

    #[test]
    fn names_are_put_together_from_the_root_down() {
        let block: &[(&str, &str)] = &[("conv1", "conv2d_1"), ("down.0", "shortcut_1.conv2d_1")];
        let names = names(&[
            ("", false, &[("layer{s+1}.{b}", "block[{s}].block[{b}].residual_block_1"), ("fc", "dense_1")]),
            ("block[1].block[0].residual_block_1", false, block),
            ("block[1].block[0].residual_block_1.conv2d_1", false, &[("weight", "w")]),
            ("dense_1", false, DENSE),
        ]);
        let path = "block[1].block[0].residual_block_1.conv2d_1.w";
        assert_eq!(shown(&names, "", path), [path, "layer2.0.conv1.weight"]);
        assert_eq!(shown(&names, "", "dense_1.w"), ["dense_1.w", "fc.weight.T"]);
        assert_eq!(shown(&names, "", "other.w"), ["other.w"]);
    }

    #[test]
    fn the_longest_rule_wins_and_a_layer_goes_before_its_model() {
        let names = names(&[
            ("net.enc", true, &[("trunk", ""), ("qkv.weight[1/3].T", "key.w"), ("head", "_")]),
            ("net.enc", false, &[("k", "key"), ("q", "query"), ("steps.*", "_")]),
            ("net.enc.query", false, DENSE),
        ]);
        assert_eq!(shown(&names, "net.enc", "net.enc.query.w"), ["trunk.query.w", "trunk.q.weight.T"]);
        assert_eq!(shown(&names, "net.enc", "net.enc.key.w"), ["qkv.weight[1/3].T"]);
        assert_eq!(shown(&names, "", "net.enc.key.w"), ["net.enc.key.w", "net.enc.qkv.weight[1/3].T"]);
        let out = |tensor: &str| names.left_out("net.enc").covers(tensor);
        assert!(out("head.weight") && out("trunk.steps.a") && !out("steps.a") && !out("trunk.q.weight"));
        let out = |tensor: &str| names.left_out("").covers(tensor);
        assert!(out("net.enc.head") && !out("head"));
    }

    #[test]
    fn sums_and_parts_keep_what_stands_before_and_behind() {
        let names = names(&[
            ("", false, &[("rnn", "lstm_1"), ("a + b", "both")]),
            ("lstm_1", false, &[("bias_ih_l{i} + bias_hh_l{i}", "block[{i}].lstm_layer_1.b")]),
        ]);
        assert_eq!(shown(&names, "", "lstm_1.block[0].lstm_layer_1.b")[1], "rnn.bias_ih_l0 + rnn.bias_hh_l0");
        assert_eq!(shown(&names, "", "both.w")[1], "a.w + b.w");
    }
}
