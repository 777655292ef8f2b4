//! Networks of words and of numbered things from the command line: trained, evaluated, run on a text as it is, and
//! built.

mod common;

use common::{EXAMPLES, fails, nnc, ok};
use std::fs;
use std::process::Command;

const SOURCE: &str = "model Bag(text: i32[N, T]) -> f32[N, 2] {
    return masked_mean(embedding(text, 12, 4), is_word(text)) |> dense(2)
}
data films {
    train: (words[5], u8) = csv(\"a.tsv\", separator=\"\\t\", vocabulary=12, lowercase=true)
    test: (words[5], u8) = csv(\"a.tsv\", separator=\"\\t\")
    text: i32[5] = train.0
    label: i32 = i32(train.1)
    balance = label
    classes = [\"bad\", \"good\"]
}
train Bag on films {
    epochs = 40
    batch = 2
    logits = Bag(text)
    minimize cross_entropy(logits, label) using adam(lr=5e-2)
    metric accuracy = accuracy(logits, label)
    answer feeling = softmax(logits)
}
";

const SENTENCES: &str =
    "a good film\t1\na bad film\t0\nGood, good!\t1\nso bad\t0\nthe very good one here is it\t1\nbad film\t0\n";

#[test]
fn a_text_is_classified_as_it_is_given() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    fs::write(folder.join("films.nn"), SOURCE).unwrap();
    fs::write(folder.join("a.tsv"), SENTENCES).unwrap();
    ok(folder, &["train", "films.nn", "--out", "run"]);
    let weights = ["--weights", "run/last.safetensors"];
    assert!(ok(folder, &[&["eval", "films.nn"][..], &weights].concat()).contains("accuracy 100.00 %"));
    fs::remove_file(folder.join("a.tsv")).unwrap();
    ok(folder, &[&["build", "films.nn", "-o", "films"][..], &weights].concat());
    fs::write(folder.join("texts.txt"), "a good one\nbad\n").unwrap();
    for given in [&["text=A good, lovely film"][..], &["texts.txt"], &["so bad", "--json"]] {
        let program =
            Command::new(folder.join("films")).current_dir(folder).arg("--input").args(given).output().unwrap();
        let printed = ok(folder, &[&["run", "films.nn", "--input"][..], given, &weights].concat());
        assert_eq!(printed, String::from_utf8_lossy(&program.stdout), "{given:?}");
    }
    let long = ["text=a good film, and one that is too long"];
    let program = Command::new(folder.join("films")).current_dir(folder).arg("--input").args(long).output().unwrap();
    let run = nnc(folder, &[&["run", "films.nn", "--input"][..], &long, &weights].concat());
    for told in [program.stderr, run.stderr] {
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(told.contains("the text has more than 5 words, and was cut"), "{told}");
    }
    let good = ok(folder, &[&["run", "films.nn", "--input", "text=good"][..], &weights].concat());
    assert!(good.contains("feeling: good"), "{good}");
    let missing = fails(folder, &[&["run", "films.nn", "--input", "text=other.txt"][..], &weights].concat());
    assert!(missing.contains("there is no such file"), "{missing}");
    let help = Command::new(folder.join("films")).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.contains("text: i32[N, 5]  (the numbers of words; a text is read as such)"), "{help}");
    assert!(help.contains("A text may stand in place of its FILE"), "{help}");
}

#[test]
fn what_is_held_out_teaches_no_words() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    let held = "    test: (words[5], u8) = csv(\"a.tsv\", separator=\"\\t\")\n";
    assert!(SOURCE.contains(held));
    let source = SOURCE.replace(held, "    test = every(2)\n    validation = 0.4\n");
    fs::write(folder.join("films.nn"), source).unwrap();
    let sentences: String = (0..10).map(|row| format!("word{row} film\t{}\n", row % 4 / 2)).collect();
    fs::write(folder.join("a.tsv"), sentences).unwrap();
    ok(folder, &["train", "films.nn", "--out", "run", "--set", "epochs=1"]);
    let checkpoint = fs::read(folder.join("run/last.safetensors")).unwrap();
    let words = String::from_utf8_lossy(&checkpoint).into_owned();
    let learned: Vec<bool> = (0..10).map(|row| words.contains(&format!("word{row}"))).collect();
    assert!(learned.iter().step_by(2).all(|learned| !learned), "{learned:?}");
    assert_eq!(learned.iter().filter(|learned| **learned).count(), 3, "of five rows two are for validation");
    // The same rows are held out when the weights are measured, and numbered by the same table.
    ok(folder, &["eval", "films.nn", "--weights", "run/last.safetensors"]);
    ok(folder, &["train", "films.nn", "--out", "run", "--resume", "--set", "epochs=2"]);
}

/// Ratings of planted factors with noise of 0.1: what is held out is predicted nearly as well as it could be.
#[test]
fn planted_factors_are_found() {
    let keep = tempfile::tempdir().unwrap();
    fs::create_dir(keep.path().join("data")).unwrap();
    for name in ["matrix_factorisation.nn", "data/ratings.csv"] {
        fs::copy(format!("{EXAMPLES}/{name}"), keep.path().join(name)).unwrap();
    }
    let printed = ok(keep.path(), &["train", "matrix_factorisation.nn", "--out", "run"]);
    let tested = printed.lines().find(|line| line.starts_with("test on 191 examples")).unwrap();
    let error: f64 = tested.split_whitespace().last().unwrap().parse().unwrap();
    assert!((0.09..0.18).contains(&error), "{tested}");
}

const TRANSLATOR: &str = "model Word(german: i32[N, T]) -> f32[N, T, 9] {
    return embedding(german, 8, 8) |> dense(9)
}
data pairs {
    train: (words[3], words[3]) = text(\"de.txt\", \"en.txt\", vocabulary=[8, 9], lowercase=true)
    german: i32[3] = train.0
    english: i32[3] = train.1
}
train Word on pairs {
    epochs = 60
    batch = 2
    logits = Word(german)
    minimize masked_cross_entropy(logits, english, is_word(english)) using adam(lr=1e-1)
    answer translation = argmax(logits)
    answer stepwise(length: int = 3) {
        words, last = scan i in 0..length axis 1 with text = begun(i32(zeros([N, length]))) {
            word = argmax(slice(logits, at=i, size=1, axis=1))
            text = update(text, word, at=i + 1, axis=1)
            yield word[:, 0]
        }
        return (words, last[:, 1..], i32(sum(words)), german)
    }
    answer plain = sum(argmax(logits), axis=1)
}
";

/// An answer whose numbers are chosen among the words of a table is printed in these words, by both programs.
#[test]
fn an_answer_of_words_is_printed_in_words() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path();
    fs::write(folder.join("word.nn"), TRANSLATOR).unwrap();
    fs::write(folder.join("de.txt"), "Ein Mann läuft\nein Hund\nHund läuft\nMann\n").unwrap();
    fs::write(folder.join("en.txt"), "A man runs\na dog\ndog runs\nman\n").unwrap();
    ok(folder, &["train", "word.nn", "--out", "run"]);
    let given = ["--weights", "run/last.safetensors", "--input", "german=ein Mann läuft"];
    let run =
        |answer: &str, more: &[&str]| ok(folder, &[&["run", "word.nn", "--answer", answer][..], &given, more].concat());
    assert_eq!(run("translation", &[]), "a man runs\n");
    let json = run("translation", &["--json"]);
    assert!(json.contains("\"text\":[\"a man runs\"]") && json.contains("\"values\":[["), "{json}");
    let several = run("stepwise", &[]);
    let words = ["stepwise.0:\na man runs\n", "stepwise.1:\na man runs\n", "stepwise.3:\nein mann läuft\n"];
    assert!(words.iter().all(|words| several.contains(words)), "{several}");
    assert!(!run("plain", &[]).contains("man"));
    ok(folder, &["build", "word.nn", "--answer", "translation", given[0], given[1], "-o", "word"]);
    let built = Command::new(folder.join("word")).args(&given[2..]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&built.stdout), "a man runs\n");
    let help = Command::new(folder.join("word")).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.contains("translation: i32[N, 3]  (the numbers of words; a text is printed as such)"), "{help}");
}
