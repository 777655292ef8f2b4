//! Built programs, and the compiler itself, on processors that this machine may not be: `qemu-x86_64`, which Debian's
//! package `qemu-user` brings, emulates them. Without it the tests say so and pass.
//!
//! Haswell has AVX2 and lacks AVX-512, Nehalem lacks both; an instruction that the emulated processor lacks ends a
//! program by a signal, which no test here takes for an answer.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::{digits, ok};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const FLOATS: &str = "floats/last.safetensors";
const EMULATOR: &str = "qemu-x86_64";
const HASWELL: &str = "Haswell";
const NEHALEM: &str = "Nehalem";

/// Whether there is an emulator that knows AVX2; if not, it is said which is wanted.
#[expect(clippy::disallowed_macros, reason = "a test has no output but this")]
fn is_installed() -> bool {
    let version = Command::new(EMULATOR).arg("--version").output();
    let text = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let found = numbers(&text) >= (7, 2);
    if !found {
        let which = "`qemu-x86_64` 7.2 or later, of Debian's package `qemu-user`";
        println!("skipped: {which}, is not installed: processors are not emulated");
    }
    found
}

/// The first two numbers of `qemu-x86_64 version 7.2.22 (...)`; 0 without any.
fn numbers(text: &str) -> (u32, u32) {
    let version = text.split_whitespace().skip_while(|&word| word != "version").nth(1).unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Runs a program as `processor` would.
fn on(processor: &str, folder: &Path, program: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(EMULATOR);
    command.args(["-cpu", processor]).arg(program).args(words).current_dir(folder);
    command.output().expect("the emulator starts")
}

/// What a program prints that must succeed.
fn answer(output: &Output) -> String {
    assert!(output.status.success(), "{:?}: {}", output.status, complaint(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error, without what the emulator says of features that it does not know.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| !line.starts_with("qemu-x86_64: warning")).map(|line| format!("{line}\n")).collect()
}

/// The one line of a program that must refuse.
fn refusal(output: &Output) -> String {
    let text = complaint(output);
    assert_eq!(output.status.code(), Some(1), "no signal, and no success: {:?} {text}", output.status);
    assert!(output.stdout.is_empty() && text.lines().count() == 1, "{text}");
    text
}

/// A folder with trained digits and three rows of input.
fn trained() -> (TempDir, PathBuf) {
    let (keep, folder) = digits();
    ok(&folder, &["train", "digits.nn", "--set", "epochs=1", "--out", "floats"]);
    let row = |first: usize| (0..64).map(|at| ((first + 7 * at) % 17).to_string()).collect::<Vec<_>>().join(",");
    fs::write(folder.join("x.csv"), format!("{}\n{}\n{}\n", row(1), row(5), row(12))).unwrap();
    (keep, folder)
}

/// Builds the digits with such weights for such instruction sets.
fn build(folder: &Path, weights: &str, isa: &str) -> PathBuf {
    let name = format!("digits-{}", isa.replace(',', "-"));
    ok(folder, &["build", "digits.nn", "--weights", weights, "--isa", isa, "-o", &name]);
    folder.join(name)
}

/// One instruction set that is there gives the bits of the machine at hand; of several the first that is there is
/// taken.
#[test]
fn a_program_runs_what_the_processor_has() {
    if !is_installed() {
        return;
    }
    let (_keep, folder) = trained();
    let run = ["run", "digits.nn", "--weights", FLOATS, "--input", "x.csv", "--json"];
    let expected = ok(&folder, &run);
    let each = ["avx2", "cranelift", "avx512,avx2", "avx2,avx512", "avxvnni,avx2", "cranelift,avxvnni,avx2,avx512"];
    for isa in each {
        let program = build(&folder, FLOATS, isa);
        assert_eq!(answer(&on(HASWELL, &folder, &program, &["x.csv", "--json"])), expected, "{isa}");
    }
}

/// Products of integers and of matrices of few bits have instructions of their own.
#[test]
fn integers_and_few_bits_run_without_the_wide_set() {
    if !is_installed() {
        return;
    }
    let (_keep, folder) = trained();
    let ways: [&[&str]; 4] =
        [&[], &["--weights-only", "bf16"], &["--weights-only", "int8"], &["--weights-only", "int4"]];
    for way in ways {
        let line = ["quantise", "digits.nn", "--weights", FLOATS, "--max-drop", "100", "--all", "-o", "q.safetensors"];
        ok(&folder, &[&line[..], way].concat());
        let run = ["run", "digits.nn", "--weights", "q.safetensors", "--input", "x.csv", "--json"];
        let expected = ok(&folder, &run);
        let program = build(&folder, "q.safetensors", "avx512,avx2");
        assert_eq!(answer(&on(HASWELL, &folder, &program, &["x.csv", "--json"])), expected, "{way:?}");
        fs::remove_file(folder.join("q.safetensors")).unwrap();
    }
}

/// What is missing is told in one line, with what helps, and nothing dies of an illegal instruction.
#[test]
fn a_program_says_what_the_processor_lacks() {
    if !is_installed() {
        return;
    }
    let (_keep, folder) = trained();
    let words = ["x.csv"];
    for (isa, lacks) in [("avx512", "lacks avx512f,"), ("avxvnni", "lacks avxvnni;")] {
        let program = build(&folder, FLOATS, isa);
        let said = refusal(&on(HASWELL, &folder, &program, &words));
        for part in [&format!("built for processors with {isa};"), lacks, &format!("--isa {isa},avx2`")] {
            assert!(said.contains(part), "{said}");
        }
    }
    let both = build(&folder, FLOATS, "avxvnni,avx512");
    let said = refusal(&on(HASWELL, &folder, &both, &words));
    assert!(said.contains("--isa avx512,avxvnni,avx2`"), "{said}");
    for isa in ["avx512", "avxvnni", "avx2", "cranelift", "avx512,avx2"] {
        let program = build(&folder, FLOATS, isa);
        let said = refusal(&on(NEHALEM, &folder, &program, &words));
        assert!(said.contains("lacks avx, avx2"), "{isa}: {said}");
        assert!(!said.contains("--isa"), "code for AVX2 is no help: {said}");
        let told = on(NEHALEM, &folder, &program, &["--help"]);
        assert!(answer(&told).contains("Usage:"), "what it is, it tells anywhere");
    }
}

/// The compiler makes code for the processor that it runs on, refuses what that lacks, and makes it for others.
#[test]
fn the_compiler_looks_at_the_processor() {
    if !is_installed() {
        return;
    }
    let (_keep, folder) = trained();
    let nnc = Path::new(env!("CARGO_BIN_EXE_nnc"));
    let run = ["run", "digits.nn", "--weights", FLOATS, "--input", "x.csv", "--json"];
    let expected = ok(&folder, &run);
    assert_eq!(answer(&on(HASWELL, &folder, nnc, &run)), expected);
    let with = |engine| [&run[..], &["--engine", engine]].concat();
    for (isa, lacks) in [("avx512", "avx512f,"), ("avxvnni", "avxvnni,")] {
        let said = refusal(&on(HASWELL, &folder, nnc, &with(isa)));
        assert!(said.contains(&format!("this processor lacks {lacks}")) && said.contains("avx2"), "{said}");
    }
    let said = refusal(&on(NEHALEM, &folder, nnc, &run));
    assert!(said.contains("this processor lacks avx, avx2") && said.contains("--engine interp"), "{said}");
    let interpreted = ok(&folder, &with("interp"));
    assert_eq!(answer(&on(NEHALEM, &folder, nnc, &with("interp"))), interpreted);
    let build = ["build", "digits.nn", "--weights", FLOATS, "--isa", "avx512", "-o"];
    ok(&folder, &[&build[..], &["here"]].concat());
    answer(&on(HASWELL, &folder, nnc, &[&build[..], &["there"]].concat()));
    let is_same = || fs::read(folder.join("here")).unwrap() == fs::read(folder.join("there")).unwrap();
    assert!(is_same(), "the same bytes");
    for isa in ["avx2", "cranelift", "avx512,avx2"] {
        let build = ["build", "digits.nn", "--weights", FLOATS, "--isa", isa, "-o"];
        ok(&folder, &[&build[..], &["here"]].concat());
        answer(&on(NEHALEM, &folder, nnc, &[&build[..], &["there"]].concat()));
        assert!(is_same(), "the same bytes for {isa}");
    }
    let said = refusal(&on(NEHALEM, &folder, nnc, &["build", "digits.nn", "--weights", FLOATS, "-o", "none"]));
    assert!(said.contains("this processor lacks avx, avx2") && said.contains("--isa avx2"), "{said}");
    assert!(!folder.join("none").exists(), "nothing is written");
}
