//! `--tune`: what wins is kept, what is kept may be lost or damaged, and no bit changes.

mod common;

use common::{command, digits, fails, ok};
use std::fs;
use std::path::Path;

const FLOATS: &str = "floats/last.safetensors";
const NOTHING_KNOWN: &str = ", 0 had been measured in earlier runs";

/// What a command prints with a folder for the cache: results, and remarks.
fn cached(folder: &Path, cache: &Path, words: &[&str]) -> (String, String) {
    let output = command(folder, words).env("NNC_CACHE", cache).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

/// As [`cached`], tuned for as long as the machine needs that day.
fn tuned(folder: &Path, cache: &Path, words: &[&str]) -> (String, String) {
    let with = |seconds: &str| cached(folder, cache, &[words, &["--tune", seconds]].concat());
    let enough = ["0.2", "1", "5", "25"].iter().map(|seconds| with(seconds));
    enough.into_iter().find(|(_, said)| !said.contains("too short")).expect("some time is enough")
}

#[test]
fn what_is_tuned_is_kept_and_gives_the_same_bits() {
    let (_keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=1", "--out", "floats"]);
    let cache = folder.join("kept");
    let row = vec!["3"; 64].join(",");
    fs::write(folder.join("x.csv"), format!("{row}\n")).unwrap();
    let run = ["run", "digits.nn", "--weights", FLOATS, "--input", "x.csv", "--json"];
    let expected = ok(&folder, &run);
    let with = |seconds: &'static str| [&run[..], &["--tune", seconds]].concat();
    let (answer, said) = cached(&folder, &cache, &with("0"));
    assert!(answer == expected && said.contains(NOTHING_KNOWN) && said.contains("; 0 now run"), "{said}");
    assert!(!cache.exists(), "nothing was measured");
    let (answer, said) = tuned(&folder, &cache, &run);
    assert!(answer == expected, "{said}");
    let files: Vec<_> = fs::read_dir(&cache).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty());
    let (answer, said) = cached(&folder, &cache, &with("0"));
    let known = format!("of {} product", files.len());
    assert!(answer == expected && said.contains(&known) && !said.contains(NOTHING_KNOWN), "{said}");
    for words in [
        &["explain", "digits.nn", "--program", "answer"][..],
        &["dump", "digits.nn", "--at", "asm", "--program", "answer"],
    ] {
        let words = [words, &["--weights", FLOATS, "--bind", "N=1", "--tune", "0"]].concat();
        let (_, said) = cached(&folder, &cache, &words);
        assert!(said.contains(&known) && !said.contains(NOTHING_KNOWN), "{words:?}: {said}");
    }
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, text.replace("tile", "tiles")).unwrap();
    }
    let (answer, said) = cached(&folder, &cache, &with("0"));
    assert!(answer == expected && said.contains(NOTHING_KNOWN) && said.contains("; 0 now run"), "{said}");
}

/// A time in which nothing can be measured: nothing is kept, so that more time finds what there is.
#[test]
fn what_was_not_measured_is_not_kept() {
    let (_keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=1", "--out", "floats"]);
    fs::write(folder.join("x.csv"), format!("{}\n", vec!["3"; 64].join(","))).unwrap();
    let run = ["run", "digits.nn", "--weights", FLOATS, "--input", "x.csv", "--json"];
    let cache = folder.join("kept");
    let files = || fs::read_dir(&cache).map_or(0, Iterator::count);
    let (_, said) = cached(&folder, &cache, &[&run[..], &["--tune", "0.000000001"]].concat());
    let short = files();
    assert!(said.contains("the time was too short") && said.contains("; 0 now run"), "{said}");
    tuned(&folder, &cache, &run);
    assert!(files() > short, "{short} files");
    let before = files();
    let (_, said) = cached(&folder, &cache, &[&run[..], &["--tune", "0.000000001"]].concat());
    assert!(!said.contains("too short") && files() == before, "all is known: {said}");
}

#[test]
fn a_cache_that_cannot_be_written_is_a_warning() {
    let (_keep, folder) = digits();
    fs::write(folder.join("file"), "").unwrap();
    let words = ["profile", "digits.nn", "--seconds", "0.01", "--json"];
    let (_, said) = tuned(&folder, &folder.join("file/below"), &words);
    assert_eq!(said.matches("is not kept").count(), 1, "{said}");
}

#[test]
fn all_that_run_programs_can_be_tuned() {
    let (_keep, folder) = digits();
    let cache = folder.join("kept");
    let train = ["train", "digits.nn", "--set", "epochs=1", "--out"];
    ok(&folder, &[&train[..], &["plain"]].concat());
    cached(&folder, &cache, &[&train[..], &["tuned", "--tune", "0.2"]].concat());
    let weights = |run: &str| fs::read(folder.join(run).join("last.safetensors")).unwrap();
    assert!(weights("plain") == weights("tuned"), "training has the same bits");
    cached(&folder, &cache, &["bench", "digits.nn", "--seconds", "0.02", "--tune", "0.1"]);
    let build = ["build", "digits.nn", "--weights", "plain/last.safetensors", "-o"];
    ok(&folder, &[&build[..], &["one"]].concat());
    cached(&folder, &cache, &[&build[..], &["two"]].concat());
    assert!(
        fs::read(folder.join("one")).unwrap() == fs::read(folder.join("two")).unwrap(),
        "the cache was not asked for"
    );
    cached(&folder, &cache, &[&build[..], &["three", "--tune", "0.1"]].concat());
}

/// Other schedules need other scratch memory: those that do not fit do not win, and nothing fails for them.
#[test]
fn tuning_keeps_to_the_memory_that_there_is() {
    let (_keep, folder) = digits();
    let cache = folder.join("kept");
    let words = |most: &str| ["profile", "digits.nn", "--seconds", "0.01", "--max-memory", most].map(str::to_owned);
    let text = fails(&folder, &["profile", "digits.nn", "--max-memory", "200kB"]);
    let least = text.split("it needs ").nth(1).and_then(|rest| rest.split(',').next()).unwrap().replace(' ', "");
    let untuned = words(&least);
    ok(&folder, &untuned.each_ref().map(String::as_str));
    let tuned = [&untuned[..], &["--tune".to_owned(), "0.1".to_owned()]].concat();
    cached(&folder, &cache, &tuned.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn the_interpreter_has_nothing_to_tune() {
    let (_keep, folder) = digits();
    let said = fails(&folder, &["train", "digits.nn", "--engine", "interp", "--tune", "1"]);
    assert!(said.contains("--tune is for native code"), "{said}");
}

#[test]
fn a_time_that_is_none_is_refused() {
    let (_keep, folder) = digits();
    for time in ["-1", "x", "3600"] {
        assert!(
            fails(&folder, &["profile", "digits.nn", "--tune", time]).contains("a number from 0 to 3600"),
            "{time}"
        );
    }
}
