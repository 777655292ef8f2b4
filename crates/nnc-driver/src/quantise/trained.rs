//! The ranges of a network that was trained with rounding, in its checkpoint: of each layer the scalars
//! `$quantise.LAYER.top`, the largest magnitude of its activations, 0 until something else was seen, and
//! `$quantise.LAYER.sign`, 1 once there was a negative one.

use nnc_graph::{DType, Tensor};
use nnc_opt::quantise::{Layer, RANGE, Range, SIGN, TOP};
use std::collections::{BTreeMap, BTreeSet};

/// The ranges that weights were trained with, by layer: none unless their recipe rounds, and had begun to. A layer that
/// never saw anything but 0 has none.
///
/// # Errors
/// What is wrong with a range, in words.
pub fn ranges(tensors: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Range>, String> {
    let mut found = BTreeMap::new();
    for layer in layers(tensors) {
        let top = end(tensors, (layer, TOP), "no magnitude from 0", |top| top.is_finite() && top >= 0.0)?;
        let sign = end(tensors, (layer, SIGN), "no sign, which is 0 or 1", |sign| sign == 0.0 || sign == 1.0)?;
        if top == 0.0 && sign == 1.0 {
            return Err(lie(&format!("{RANGE}{layer}{TOP}"), "0, though there were negative activations"));
        }
        let least = if sign == 1.0 { -top } else { 0.0 };
        found.extend(Range::covering(least, top).map(|range| (layer.to_owned(), range)));
    }
    Ok(found)
}

/// The tensors of the ranges that layers of integers have, as a training that rounds keeps them.
pub fn tensors(layers: &[Layer]) -> BTreeMap<String, Tensor> {
    let mut ranges: BTreeMap<&str, Range> = BTreeMap::new();
    for layer in layers {
        let joint = |known: &mut Range| *known = known.and(layer.input);
        ranges.entry(layer.parameter()).and_modify(joint).or_insert(layer.input);
    }
    let both = |(layer, range): (&str, Range)| {
        let scalar = |number: f64| Tensor::scalar(DType::F32, number);
        let top = scalar(f64::from(range.scale * range.levels()));
        [
            (format!("{RANGE}{layer}{TOP}"), top),
            (format!("{RANGE}{layer}{SIGN}"), scalar(f64::from(u8::from(range.signed)))),
        ]
    };
    ranges.into_iter().flat_map(both).collect()
}

/// The layers that saw nothing but 0 while others were rounded, so that they stay layers of floats.
pub fn idle<'t>(tensors: &'t BTreeMap<String, Tensor>, ranges: &BTreeMap<String, Range>) -> Vec<&'t str> {
    let has_none = |layer: &&str| !ranges.is_empty() && !ranges.contains_key(*layer);
    layers(tensors).into_iter().filter(has_none).collect()
}

/// The layers that have an end of a range.
fn layers(tensors: &BTreeMap<String, Tensor>) -> BTreeSet<&str> {
    let ends = tensors.keys().filter_map(|path| path.strip_prefix(RANGE));
    ends.filter_map(|rest| rest.strip_suffix(TOP).or_else(|| rest.strip_suffix(SIGN))).collect()
}

/// An end of a layer's range; `none` says what one is not that does not hold.
fn end(
    tensors: &BTreeMap<String, Tensor>,
    (layer, end): (&str, &str),
    none: &str,
    holds: impl Fn(f32) -> bool,
) -> Result<f32, String> {
    let path = format!("{RANGE}{layer}{end}");
    let tensor = tensors.get(&path).ok_or_else(|| lie(&path, "not there, but the other half of the range is"))?;
    let number = match tensor.to_f64()[..] {
        [number] if tensor.dtype() == DType::F32 && tensor.dims().is_empty() => number as f32,
        _ => return Err(lie(&path, &format!("{}, not a number of f32", tensor.ty()))),
    };
    if holds(number) { Ok(number) } else { Err(lie(&path, &format!("{number}, {none}"))) }
}

fn lie(path: &str, is: &str) -> String {
    format!("`{path}` is {is}: the range that was trained is damaged; take another checkpoint, or train again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_integers_are_ranges_of_a_training() {
        let layer = |name: &str, scale: f32, signed: bool| Layer::new(name, Range { scale, signed });
        let known = tensors(&[layer("a.w", 0.5, false), layer("b.w@1", 0.25, true), layer("b.w@2", 0.5, true)]);
        let found = ranges(&known).expect("these are ranges");
        let wanted = [("a.w", false), ("b.w", true)];
        let wanted = wanted.map(|(name, signed)| (name.to_owned(), Range { scale: 0.5, signed }));
        assert_eq!(found, BTreeMap::from(wanted));
    }
}
