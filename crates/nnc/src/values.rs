//! The values of options: what is read, what is refused, and in which words.
//!
//! A reader gives what the command works with, so that no command reads text again. `clap` puts the option and the text
//! before the reason, as in `invalid value '-1' for '--seed <N>': a seed is a whole number from 0`.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use nnc_driver::Engine;
use nnc_driver::stage::Which;
use nnc_graph::stored::NIBBLES;
use nnc_opt::prune::{Block, Scope};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// What is best for the machine at hand.
const NATIVE: &str = "native";

/// What makes native code, best first, and what is said of it.
const BACKENDS: [(&str, &str); 5] = [
    (NATIVE, "The best of the following that this machine has"),
    ("avx512", "AVX-512, vectors of 512 bits"),
    ("avxvnni", "AVX2, FMA and AVX-VNNI, vectors of 256 bits"),
    ("avx2", "AVX2 and FMA, vectors of 256 bits"),
    ("cranelift", "Code by Cranelift, vectors of 128 bits"),
];

/// What runs a program without native code.
const INTERPRETER: (&str, &str) = ("interp", "The reference interpreter, slow");

/// The programs of a file.
const PROGRAMS: [(&str, &str); 4] = [
    ("train", "The training step: forward, backward, optimiser"),
    ("eval", "Loss and metrics"),
    ("init", "First values of the weights"),
    ("answer", "The recipe's answer, or the model by itself"),
];

/// A seed.
pub(crate) fn seed(text: &str) -> Result<i64, String> {
    let number = text.parse().ok().filter(|&number| number >= 0);
    number.ok_or_else(|| format!("a seed is a whole number from 0 to {}", i64::MAX))
}

/// A number of threads.
pub(crate) fn threads(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "a number of threads is a whole number from 1".to_owned())
}

/// A number of training steps.
pub(crate) fn steps(text: &str) -> Result<NonZeroU64, String> {
    text.parse().map_err(|_| "a number of steps is a whole number from 1".to_owned())
}

/// A number of bytes, with a unit of powers of 1000 or of 1024, or without.
pub(crate) fn memory(text: &str) -> Result<NonZeroUsize, String> {
    let wrong = || "write a number of bytes, as 512MB, 1.5GB, 2GiB, 1e9 or 1000000".to_owned();
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text[number.len()..].to_ascii_lowercase();
    let (_, scale) = BYTES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let bytes = number.trim_end().parse::<f64>().map_err(|_| wrong())? * scale;
    NonZeroUsize::new(bytes as usize).filter(|_| bytes < MOST_BYTES).ok_or_else(wrong)
}

/// Units of memory, in lower case.
const BYTES: [(&str, f64); 10] = [
    ("", 1.0),
    ("b", 1.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("tb", 1e12),
    ("kib", 1024.0),
    ("mib", 1_048_576.0),
    ("gib", 1_073_741_824.0),
    ("tib", 1_099_511_627_776.0),
];

/// More than any machine has.
const MOST_BYTES: f64 = 1e18;

/// A number of rewrites.
pub(crate) fn rewrites(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "a number of rewrites is a whole number from 0".to_owned())
}

/// A number of classes.
pub(crate) fn classes(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "a number of classes is a whole number from 1".to_owned())
}

/// Terms that share a scale: whole words of four bits.
pub(crate) fn group(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse().ok().filter(|number: &NonZeroUsize| number.get().is_multiple_of(NIBBLES));
    number.ok_or_else(|| format!("a group is a multiple of {NIBBLES}, as 32, 64 or 128"))
}

/// A number of examples.
pub(crate) fn examples(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "a number of examples is a whole number from 1".to_owned())
}

/// Examples of one run.
pub(crate) fn rows(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MOST_ROWS).contains(number));
    number.ok_or_else(|| format!("a number of examples from 1 to {MOST_ROWS} is wanted"))
}

/// The most examples of one run.
const MOST_ROWS: usize = 1 << 20;

/// A share in per cent, of which something is left.
pub(crate) fn percentile(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|&number| number > 0.0 && number <= 100.0);
    number.ok_or_else(|| "a share above 0 and up to 100 per cent is wanted".to_owned())
}

/// Points that a metric may drop.
pub(crate) fn points(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| "a number of points from 0 to 100 is wanted".to_owned())
}

/// How many times as fast something is to be.
pub(crate) fn speed_up(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (1.0..=1000.0).contains(number));
    number.ok_or_else(|| "a number from 1 to 1000 is wanted".to_owned())
}

/// Where a plot goes.
pub(crate) fn plot(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_svg = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("svg"));
    if is_svg { Ok(path) } else { Err("plots are drawn as SVG: a name that ends in `.svg` is wanted".to_owned()) }
}

/// Epochs of training, or none.
pub(crate) fn epochs(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|&number: &u64| number <= 1 << 31);
    number.ok_or_else(|| "a number of epochs is a whole number from 0".to_owned())
}

/// A share of weights that go.
pub(crate) fn sparsity(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|&share| share > 0.0 && share < 1.0);
    number.ok_or_else(|| "a share lies between 0 and 1, as 0.9".to_owned())
}

/// What a number of channels is a multiple of.
pub(crate) fn multiple(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| (1..=LARGEST_BLOCK).contains(number));
    number.ok_or_else(|| format!("write a number of channels from 1 to {LARGEST_BLOCK}"))
}

/// A block of weights: inputs by outputs.
pub(crate) fn block(text: &str) -> Result<Block, String> {
    let side = |text: &str| text.parse().ok().filter(|&size: &usize| (1..=LARGEST_BLOCK).contains(&size));
    let sides = text.split_once('x').and_then(|(rows, columns)| Some((side(rows)?, side(columns)?)));
    let (rows, columns) =
        sides.ok_or_else(|| format!("a block is inputs by outputs, as 1x16, with sides from 1 to {LARGEST_BLOCK}"))?;
    Ok(Block { rows, columns })
}

/// The largest side of a block.
const LARGEST_BLOCK: usize = 1024;

/// What a share of weights is a share of.
pub(crate) fn scope() -> impl TypedValueParser<Value = Scope> {
    let values = [("global", "All weights or groups together"), ("layer", "Each weight or group by itself")];
    let values = values.map(|(name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(values).map(|name| if name == "layer" { Scope::Layer } else { Scope::Global })
}

/// How long to measure.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok().filter(|&number| number > 0.0 && number < 3600.0);
    number.map(Duration::from_secs_f64).ok_or_else(|| "a number above 0 and below 3600 is wanted".to_owned())
}

/// How long to tune; 0 is what is known already.
pub(crate) fn tuning(text: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..3600.0).contains(number));
    number.map(Duration::from_secs_f64).ok_or_else(|| "a number from 0 to 3600 is wanted".to_owned())
}

/// What runs a program.
pub(crate) fn engine() -> impl TypedValueParser<Value = Engine> {
    engine_of(BACKENDS.into_iter().chain([INTERPRETER]))
}

/// What native code is made for.
pub(crate) fn backend() -> impl TypedValueParser<Value = Engine> {
    engine_of(BACKENDS.into_iter())
}

/// What processors an executable is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Processor {
    /// This machine's.
    Host,
    /// Those that run the code of an engine, whether this one does or not.
    With(Engine),
}

/// As [`backend`], where `native` is told from the engine that it stands for.
pub(crate) fn processor() -> impl TypedValueParser<Value = Processor> {
    let named = |name: String| match name.as_str() {
        NATIVE => Processor::Host,
        name => Processor::With(Engine::from_name(name).unwrap_or_else(|| panic!("compiler bug: no engine `{name}`"))),
    };
    PossibleValuesParser::new(described(BACKENDS.into_iter())).map(named)
}

/// Which program of a file.
pub(crate) fn program() -> impl TypedValueParser<Value = Which> {
    let named = |name: String| Which::from_name(&name).unwrap_or_else(|| panic!("compiler bug: no program `{name}`"));
    PossibleValuesParser::new(described(PROGRAMS.into_iter())).map(named)
}

fn engine_of(table: impl Iterator<Item = (&'static str, &'static str)>) -> impl TypedValueParser<Value = Engine> {
    let named = |name: String| Engine::from_name(&name).unwrap_or_else(|| panic!("compiler bug: no engine `{name}`"));
    PossibleValuesParser::new(described(table)).map(named)
}

fn described(table: impl Iterator<Item = (&'static str, &'static str)>) -> Vec<PossibleValue> {
    table.map(|(name, help)| PossibleValue::new(name).help(help)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_with_its_unit() {
        let bytes = |text| memory(text).map(NonZeroUsize::get);
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("512MB"), Ok(512_000_000));
        assert_eq!(bytes("1.5 gb"), Ok(1_500_000_000));
        assert_eq!(bytes("2GiB"), Ok(2 << 30));
        assert_eq!(bytes("1e9"), Ok(1_000_000_000));
        assert_eq!(bytes("1.5e3kB"), Ok(1_500_000));
        for wrong in
            ["", "MB", "0", "0MB", "-1", "-1MB", "1e", "e9", "1e30", "1e-3", "12XB", "1.2.3", "99999999TB", "nan"]
        {
            assert!(bytes(wrong).is_err_and(|error| error.contains("512MB")), "{wrong}");
        }
    }

    #[test]
    fn every_listed_name_is_known() {
        for (name, _) in BACKENDS.into_iter().chain([INTERPRETER]) {
            assert!(Engine::from_name(name).is_some(), "{name}");
        }
        for (name, _) in PROGRAMS {
            assert!(Which::from_name(name).is_some(), "{name}");
        }
    }
}
