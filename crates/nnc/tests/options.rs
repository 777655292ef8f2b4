//! Options of the command line: what is refused, in which words, and what is said of values that cannot be had.

mod common;

use common::{command, digits, fails, nnc, ok};
use std::fs;

/// What is said of arguments that are wrong by themselves, with the exit code for that.
fn refused(words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = nnc(folder.path(), words);
    assert_eq!(output.status.code(), Some(2), "{words:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_number_that_does_not_fit_is_told_what_is_wanted() {
    for (words, part) in [
        (&["train", "x.nn", "--seed", "-1"][..], "a seed is a whole number from 0"),
        (&["train", "x.nn", "--seed", "9223372036854775808"], "a seed is a whole number from 0"),
        (&["train", "x.nn", "--threads", "0"], "a number of threads is a whole number from 1"),
        (&["bench", "x.nn", "--threads", "-1"], "a number of threads is a whole number from 1"),
        (&["train", "x.nn", "--checkpoint-every", "-1"], "a number of steps is a whole number from 1"),
        (&["bench", "x.nn", "--seconds", "-1"], "a number above 0 and below 3600"),
        (&["profile", "x.nn", "--seconds", "nan"], "a number above 0 and below 3600"),
    ] {
        let said = refused(words);
        assert!(said.contains("invalid value") && said.contains(part), "{words:?}: {said}");
    }
}

#[test]
fn a_setting_of_the_recipe_is_no_option_but_is_shown_as_one() {
    for (words, part) in [
        (&["train", "x.nn", "--epochs", "2"][..], "'--set epochs=2'"),
        (&["train", "--batch=64", "x.nn"], "'--set batch=64'"),
        (&["train", "x.nn", "--learning-rate", "0.1"], "'--set lr=0.1'"),
        (&["eval", "x.nn", "--batch-size"], "'--set batch=VALUE'"),
    ] {
        let said = refused(words);
        assert!(said.contains("unexpected argument") && said.contains(part), "{words:?}: {said}");
    }
    assert!(!refused(&["new", "--epochs", "2"]).contains("--set"), "`new` has no settings");
}

#[test]
fn an_engine_is_named_alike_everywhere() {
    let native = "[possible values: native, avx512, avxvnni, avx2, cranelift]";
    let all = "[possible values: native, avx512, avxvnni, avx2, cranelift, interp]";
    for (words, values) in [
        (&["build", "x.nn", "--isa"][..], native),
        (&["dump", "x.nn", "--isa", "interp"], native),
        (&["bench", "x.nn", "--engine", "interp"], native),
        (&["train", "x.nn", "--engine"], all),
        (&["run", "x.nn", "--isa", "x"], all),
    ] {
        let said = refused(words);
        assert!(said.contains(values), "{words:?}: {said}");
    }
    let (_keep, folder) = digits();
    for (command, option) in [("explain", "--engine"), ("explain", "--isa")] {
        for name in ["native", "avx512", "avxvnni", "avx2", "cranelift"] {
            ok(&folder, &[command, "digits.nn", option, name]);
        }
    }
    // Code for other machines is told of with weights, too.
    ok(&folder, &["train", "digits.nn", "--set", "epochs=1", "--out", "run"]);
    for name in ["avx512", "avxvnni", "avx2", "cranelift"] {
        ok(&folder, &["explain", "digits.nn", "--weights", "run/last.safetensors", "--isa", name]);
    }
    let help = ok(&folder, &["train", "--help"]);
    assert!(help.contains("- avx2:") && help.contains("vectors of 256 bits"), "{help}");
}

#[test]
fn more_threads_than_may_run_are_not_started_and_it_is_said() {
    let (_keep, folder) = digits();
    let output =
        command(&folder, &["train", "digits.nn", "--set", "epochs=1", "--threads", "100000"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("--threads 100000: ") && said.lines().count() == 1, "{said}");
    assert!(fails(&folder, &["train", "digits.nn", "--epochs", "1"]).contains("--set epochs=1"));
}

#[test]
fn what_is_never_done_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.csv"), "1,2,0\n3,4,1\n5,6,1\n7,8,0\n").unwrap();
    let source = |recipe: &str| {
        format!(
            "model Net(x: f32[N, 2]) -> f32[N, 2] {{ return dense(x, 2) }}
            data d {{ train: (f32[2], u8) = csv(\"a.csv\"); x: f32[2] = train.0; label: i32 = i32(train.1) }}
            train net on d {{
                epochs = 2; batch = 2
                layer net = Net()
                {recipe}
                answer y = net(x)
            }}"
        )
    };
    let loss = "minimize cross_entropy(net(x), label) over net using sgd(lr=0.1)";
    let told = |recipe: &str, name: &str| {
        fs::write(folder.path().join("net.nn"), source(recipe)).unwrap();
        let output = nnc(folder.path(), &["train", "net.nn", "--out", name]);
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = told(&format!("{loss}, accumulate=5"), "one");
    assert!(said.contains("`accumulate=5` never updates: the run has 4 iterations"), "{said}");
    assert!(!told(&format!("{loss}, accumulate=4"), "two").contains("never"));
    let said = told(
        &format!("step a {{ {loss} }}; step b every 3 {{ {loss}, accumulate=2 }}; step c every 9 {{ {loss} }}"),
        "three",
    );
    assert!(said.contains("`accumulate=2` never updates: the step `b` has 1 iteration"), "{said}");
    assert!(said.contains("the step `c` is never done: it is `every 9`, and there are 4 iterations"), "{said}");
}
