//! The command line of a built executable.

use crate::manifest::{Manifest, Port};
use crate::number;
use crate::present::default_top;
use lexopt::{Arg, Parser, ValueExt};
use nnc_data::Column;
use nnc_runtime::cpu::available_threads;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The default of `--bench`.
const BENCH: Duration = Duration::from_secs(3);

/// A file that is named for a port, or for the only one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// The port, if it was given as `NAME=FILE`.
    pub name: Option<String>,
    /// The file; `-` is standard input.
    pub path: PathBuf,
}

/// What the user asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Arguments {
    /// Files to read.
    pub inputs: Vec<Named>,
    /// Files to write.
    pub outputs: Vec<Named>,
    /// Values of options, by name.
    pub set: Vec<(String, String)>,
    /// What random numbers are drawn by.
    pub seed: i64,
    /// Print JSON.
    pub json: bool,
    /// Measure for this long instead of printing answers.
    pub bench: Option<Duration>,
    /// The most threads to compute with.
    pub threads: Option<NonZeroUsize>,
    /// How many classes to print per row.
    pub top: Option<usize>,
    /// Print what the program is.
    pub help: bool,
    /// Print where it came from.
    pub version: bool,
}

impl Arguments {
    /// Reads the command line, without the program's own name.
    ///
    /// # Errors
    /// What is wrong, on one line.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        Self::read(&mut Parser::from_args(args)).map_err(|error| error.to_string())
    }

    fn read(parser: &mut Parser) -> Result<Self, lexopt::Error> {
        let mut found = Self::default();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Short('h') | Arg::Long("help") => found.help = true,
                Arg::Short('V') | Arg::Long("version") => found.version = true,
                Arg::Short('i') | Arg::Long("input") => found.inputs.push(named(parser.value()?)),
                Arg::Short('o') | Arg::Long("output") => found.outputs.push(named(parser.value()?)),
                Arg::Long("set") => {
                    found.push_setting(setting(&parser.value()?)?)?;
                    for text in more_settings(parser) {
                        found.push_setting(setting(&text)?)?;
                    }
                }
                Arg::Long("seed") => found.seed = seed(&parser.value()?)?,
                Arg::Long("json") => found.json = true,
                Arg::Long("threads") => found.threads = Some(count(parser, "--threads")?),
                Arg::Long("top") => found.top = Some(count(parser, "--top")?.get()),
                Arg::Long("bench") => found.bench = Some(bench_time(parser)?),
                Arg::Value(path) => found.inputs.push(Named { name: None, path: path.into() }),
                Arg::Short(_) | Arg::Long(_) => return Err(arg.unexpected()),
            }
        }
        Ok(found)
    }

    fn push_setting(&mut self, (name, text): (String, String)) -> Result<(), String> {
        if self.set.iter().any(|(before, _)| *before == name) {
            return Err(format!("--set {name}={text}: `{name}` is given twice"));
        }
        self.set.push((name, text));
        Ok(())
    }

    /// How many classes to print per row.
    pub fn top(&self, rows: usize) -> usize {
        self.top.unwrap_or_else(|| default_top(rows))
    }

    /// The files of each input that is no option, in the order of the manifest.
    ///
    /// # Errors
    /// A name that is no input, or an input without a file.
    pub fn input_files(&self, manifest: &Manifest) -> Result<Vec<Vec<PathBuf>>, String> {
        let ports: Vec<&Port> = manifest.files().collect();
        let files = assign(&self.inputs, &ports, "input")?;
        match ports.iter().zip(&files).find(|(_, files)| files.is_empty()) {
            Some((port, _)) => Err(format!("nothing is given for the input `{}`; try --help", port.name)),
            None => Ok(files),
        }
    }

    /// The value of an option: what is set, else its default.
    ///
    /// # Errors
    /// A value that its type does not hold, or none.
    pub fn option(&self, port: &Port) -> Result<Column, String> {
        let dtype = port.row.dtype;
        let bytes = match self.set.iter().find(|(name, _)| *name == port.name) {
            Some((name, text)) => {
                number::parse(dtype, text).ok_or_else(|| format!("--set {name}={text}: this is no {dtype}"))?
            }
            None if port.default.is_empty() => {
                return Err(format!("`{}` is not given; write --set {}=VALUE", port.name, port.name));
            }
            None => port.default.clone(),
        };
        Ok(Column::new(port.row.clone(), 1, bytes))
    }

    /// Refuses names that are no options, and a seed where nothing is drawn.
    ///
    /// # Errors
    /// What is wrong, on one line.
    pub fn check_options(&self, manifest: &Manifest) -> Result<(), String> {
        for (name, text) in &self.set {
            if manifest.options().any(|port| port.name == *name) {
                continue;
            }
            let fixed = manifest.fixed.iter().find(|fixed| fixed.split('=').next() == Some(name));
            let known = manifest.options().map(|port| format!("`{}`", port.name)).collect::<Vec<_>>().join(", ");
            return Err(match (fixed, known.as_str()) {
                (Some(fixed), _) => format!("--set {name}={text}: this program was built with {fixed}; build another"),
                (None, "") => format!("--set {name}={text}: this program has no options"),
                (None, known) => format!("--set {name}={text}: there is no such option, only {known}"),
            });
        }
        Ok(())
    }

    /// The files to write for each answer, in the order of the manifest.
    ///
    /// # Errors
    /// A name that is no answer; a file that is called as a picture, which would be none.
    pub fn output_files(&self, manifest: &Manifest) -> Result<Vec<Vec<PathBuf>>, String> {
        if let Some(file) = self.outputs.iter().map(|output| &output.path).find(|path| is_picture(path)) {
            let (shown, npy) = (file.display(), file.with_extension("npy"));
            let help = format!("call it {}; `nnc run` draws pictures", npy.display());
            return Err(format!("-o {shown}: answers are written as .npy, which would be no picture: {help}"));
        }
        assign(&self.outputs, &manifest.answers.iter().collect::<Vec<_>>(), "output")
    }
}

/// Whether a file is called as pictures are.
fn is_picture(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ["png", "jpg", "jpeg", "svg"].iter().any(|picture| ending == *picture))
}

/// What is said when more threads are asked for than may run at once: they would only wait for each other, so that no
/// more are used ([`nnc_runtime::Pool::with_limit`]).
pub fn too_many_threads(asked: Option<NonZeroUsize>) -> Option<String> {
    let most = available_threads();
    let asked = asked.filter(|&asked| asked > most)?;
    let threads = if most.get() == 1 { "thread" } else { "threads" };
    Some(format!("--threads {asked}: {most} {threads} may run at once, so no more are used"))
}

/// Sorts files by the port that they are named for.
fn assign(files: &[Named], ports: &[&Port], what: &str) -> Result<Vec<Vec<PathBuf>>, String> {
    let names = || ports.iter().map(|port| format!("`{}`", port.name)).collect::<Vec<_>>().join(", ");
    let mut assigned = vec![Vec::new(); ports.len()];
    for Named { name, path } in files {
        let place = match (name, ports) {
            (None, [_]) => Some(0),
            (None, _) => {
                return Err(format!("{}: say which {what}: --{what} NAME=FILE of {}", path.display(), names()));
            }
            (Some(name), _) => ports.iter().position(|port| port.name == *name),
        };
        match (place.and_then(|place| assigned.get_mut(place)), name) {
            (Some(list), _) => list.push(path.clone()),
            (None, name) => {
                let name = name.as_deref().unwrap_or_default();
                return Err(format!("there is no {what} `{name}`, only {}", names()));
            }
        }
    }
    Ok(assigned)
}

/// Whether what stands before `=` is a name: it could be one in the language.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_' || letter == '.')
}

/// What follows a setting and is one, too. A file has no name before `=`, so that `./a=b.npy` ends them.
fn more_settings(parser: &mut Parser) -> Vec<OsString> {
    let is_setting =
        |next: &OsStr| next.to_str().and_then(|text| text.split_once('=')).is_some_and(|(name, _)| is_name(name));
    let next = || parser.try_raw_args()?.next_if(is_setting);
    std::iter::from_fn(next).collect()
}

/// `NAME=FILE`, or a file alone, as `./a=b.npy` is.
fn named(value: OsString) -> Named {
    let split = value.to_str().and_then(|text| text.split_once('='));
    match split {
        Some((name, path)) if is_name(name) => Named { name: Some(name.into()), path: path.into() },
        Some(_) | None => Named { name: None, path: value.into() },
    }
}

/// `NAME=VALUE`.
fn setting(value: &OsString) -> Result<(String, String), lexopt::Error> {
    let text = value.to_string_lossy();
    let pair = text.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    pair.ok_or_else(|| format!("--set {text}: write an option and its value, as NAME=VALUE").into())
}

fn seed(value: &OsString) -> Result<i64, lexopt::Error> {
    let shown = value.to_string_lossy();
    let number = shown.parse().ok().filter(|&number: &i64| number >= 0);
    number.ok_or_else(|| format!("--seed {shown}: a seed is a whole number from 0 to {}", i64::MAX).into())
}

/// The value of an option that counts something.
fn count(parser: &mut Parser, option: &str) -> Result<NonZeroUsize, lexopt::Error> {
    let value = parser.value()?;
    let number = value.to_str().and_then(|text| text.parse().ok());
    let shown = value.to_string_lossy();
    number.ok_or_else(|| format!("{option} {shown}: expected a whole number from 1 on").into())
}

/// The seconds after `--bench`, if a number follows.
fn bench_time(parser: &mut Parser) -> Result<Duration, lexopt::Error> {
    let value = match parser.optional_value() {
        Some(value) => Some(value),
        None => parser
            .try_raw_args()
            .and_then(|mut rest| rest.next_if(|next| next.to_str().is_some_and(|text| text.parse::<f64>().is_ok()))),
    };
    let Some(value) = value else { return Ok(BENCH) };
    let seconds: f64 = value.parse()?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if time <= Duration::from_secs(86_400) => Ok(time),
        Ok(_) | Err(_) => Err(format!("--bench cannot last {seconds} seconds").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::sample;

    fn parse(args: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(args.iter().map(OsString::from))
    }

    fn file(path: &str) -> Named {
        Named { name: None, path: path.into() }
    }

    #[test]
    fn a_count_that_is_none_names_its_option() {
        for (wrong, option) in [(["--top", "0"], "--top 0"), (["--threads", "many"], "--threads many")] {
            let message = parse(&wrong).unwrap_err();
            assert_eq!(message, format!("{option}: expected a whole number from 1 on"));
        }
    }

    #[test]
    fn reads_files_and_options() {
        let found = parse(&["a.png", "-", "--json", "--threads", "3", "--top=2", "-o", "y.npy"]).unwrap();
        assert_eq!(found.inputs, [file("a.png"), file("-")]);
        assert_eq!(found.outputs, [file("y.npy")]);
        assert!(found.json && found.threads == NonZeroUsize::new(3) && found.top(1) == 2);
        assert_eq!(parse(&[]).unwrap().top(1), 5);
    }

    #[test]
    fn a_name_may_stand_before_the_file() {
        let found = parse(&["--input", "image=a=b.npy", "--input=./a=b.npy"]).unwrap();
        assert_eq!(found.inputs, [Named { name: Some("image".into()), path: "a=b.npy".into() }, file("./a=b.npy")]);
    }

    #[test]
    fn seconds_after_bench_are_optional() {
        assert_eq!(parse(&["--bench"]).unwrap().bench, Some(BENCH));
        assert_eq!(parse(&["--bench", "0.5"]).unwrap().bench, Some(Duration::from_millis(500)));
        assert_eq!(parse(&["--bench=2"]).unwrap().bench, Some(Duration::from_secs(2)));
        let with_file = parse(&["--bench", "a.npy"]).unwrap();
        assert_eq!((with_file.bench, with_file.inputs), (Some(BENCH), vec![file("a.npy")]));
        for wrong in ["--bench=x", "--bench=-1", "--bench=nan", "--bench=1e9"] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [&["--jsn"][..], &["-x"], &["--threads", "0"], &["--threads"], &["--top", "-1"], &["--json=1"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_answer_is_no_picture() {
        let files = |name: &str| parse(&["a.npy", "-o", name]).unwrap().output_files(&sample());
        for picture in ["y.png", "y.PNG", "./b/y.jpeg", "y.svg"] {
            let refused = files(picture).unwrap_err();
            assert!(refused.contains("would be no picture") && refused.contains("y.npy"), "{refused}");
        }
        assert!(files("y.npy").is_ok() && files("png").is_ok());
    }

    #[test]
    fn options_have_defaults_and_types() {
        use crate::manifest::Reading;
        use nnc_data::{DType, FieldType};
        let mut manifest = sample();
        let option = |name: &str, default: &[u8]| Port {
            name: name.into(),
            row: FieldType::scalar(DType::F32),
            batched: false,
            reading: Reading::Option,
            default: default.to_vec(),
            bound: None,
        };
        manifest.inputs.push(option("heat", &0.5f32.to_le_bytes()));
        manifest.inputs.push(option("scale", &[]));
        let found = parse(&["a.npy", "--set=scale=3", "--seed", "7"]).unwrap();
        assert_eq!((found.seed, found.check_options(&manifest)), (7, Ok(())));
        assert_eq!(found.input_files(&manifest).unwrap(), [[PathBuf::from("a.npy")]]);
        let value = |at: usize| found.option(&manifest.inputs[at]).unwrap().bytes;
        assert_eq!((value(1), value(2)), (0.5f32.to_le_bytes().to_vec(), 3f32.to_le_bytes().to_vec()));
        let several = parse(&["--set", "heat=0.5", "scale=3", "a.npy", "--set=heet=1", "x=2", "./b=1.npy"]).unwrap();
        let named: Vec<&str> = several.set.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            (named, several.inputs),
            (vec!["heat", "scale", "heet", "x"], vec![file("a.npy"), file("./b=1.npy")])
        );
        let refused = |args: &[&str]| {
            let found = parse(args)?;
            found.check_options(&manifest)?;
            manifest.options().try_for_each(|port| found.option(port).map(drop))
        };
        for (args, words) in [
            (&[][..], "`scale` is not given; write --set scale=VALUE"),
            (&["--set", "scale=much"], "--set scale=much: this is no f32"),
            (&["--set", "heet=1"], "--set heet=1: there is no such option, only `heat`, `scale`"),
            (&["--set", "count=9"], "--set count=9: this program was built with count=3; build another"),
            (&["--set", "scale=2", "--set", "scale=3"], "--set scale=3: `scale` is given twice"),
            (&["--set", "scale"], "--set scale: write an option and its value, as NAME=VALUE"),
            (&["--seed", "-1"], "--seed -1: a seed is a whole number from 0 to 9223372036854775807"),
        ] {
            assert_eq!(refused(args).unwrap_err(), words);
        }
    }

    #[test]
    fn files_find_their_ports() {
        let mut manifest = sample();
        let one = parse(&["a", "b"]).unwrap();
        assert_eq!(one.input_files(&manifest).unwrap(), [[PathBuf::from("a"), PathBuf::from("b")]]);
        assert!(parse(&["-i", "mask=a"]).unwrap().input_files(&manifest).unwrap_err().contains("only `image`"));
        assert!(parse(&[]).unwrap().input_files(&manifest).unwrap_err().contains("`image`"));
        manifest.inputs.push(Port { name: "mask".into(), ..manifest.inputs[0].clone() });
        assert!(one.input_files(&manifest).unwrap_err().contains("`image`, `mask`"));
        let both = parse(&["-i", "mask=b", "-i", "image=a"]).unwrap();
        assert_eq!(both.input_files(&manifest).unwrap(), [[PathBuf::from("a")], [PathBuf::from("b")]]);
    }
}
