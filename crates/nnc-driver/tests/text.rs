//! A network of characters from a small text: parts, numbers that are kept, resuming, and what is refused.

mod common;

use common::{compiler, train_into};
use nnc_driver::answer::AnswerGraphs;
use nnc_driver::deploy::Deployment;
use nnc_driver::train::Outcome;
use nnc_driver::{Dataset, DriverError, Learned, Project, Session, Wanted, checkpoint};
use nnc_lang::elaborate::Options;
use nnc_stub::manifest::Reading;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const TEXT: &str = "the quick brown fox jumps over the lazy dog\n";
/// The letters, a space, and a line end.
const VOCABULARY: usize = 28;

fn source(data: &str) -> String {
    format!(
        "model Letters(tokens: i32[N, T], vocabulary: int = {VOCABULARY}) -> f32[N, T, vocabulary] {{
            return tokens |> embedding(vocabulary, 8) |> gru(8) |> dense(vocabulary)
        }}
        data pangram {{
            {data}
            tokens: i32[8] = train[0..8]
            next: i32[8] = train[1..9]
        }}
        train Letters on pangram {{
            epochs = 2
            batch = 4
            logits = Letters(tokens)
            minimize cross_entropy(logits, next) using adam(lr=1e-2)
            metric accuracy = accuracy(logits, next)
            answer next = softmax(logits[:, -1])
        }}"
    )
}

const SPLIT: &str = "train: i32[9] = text(\"a.txt\", vocabulary=28)
            test = 0.2
            validation = 0.25";
const TWO_FILES: &str = "train: i32[9] = text(\"a.txt\", vocabulary=28)
            test: i32[9] = text(\"b.txt\")";

/// A folder with the text and a network on it.
fn project(data: &str) -> (TempDir, PathBuf, Project) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    fs::write(path.join("a.txt"), TEXT.repeat(8)).unwrap();
    fs::write(path.join("letters.nn"), source(data)).unwrap();
    let project = Project::load(&path.join("letters.nn"), &Options::default()).unwrap();
    (folder, path, project)
}

fn session(project: &Project) -> Session<'_> {
    Session::new(project, "Letters", compiler(), 5).unwrap()
}

/// Trains into the folder `out`, for `steps` steps or to the end.
fn run(project: &Project, out: &Path, resume: bool, steps: Option<usize>) -> Result<Outcome, DriverError> {
    let mut session = session(project);
    let dataset = Dataset::open(session.data(), project.folder(), 5, Wanted::All, &Learned::default())?;
    train_into(&mut session, &dataset, (out, resume), steps)
}

#[test]
fn parts_are_ends_of_the_text_and_share_no_target() {
    let (_keep, _, project) = project(SPLIT);
    let data = project.data("pangram").unwrap();
    let dataset = Dataset::open(data, project.folder(), 5, Wanted::All, &Learned::default()).unwrap();
    let (validation, test) = (dataset.validation.unwrap(), dataset.test.unwrap());
    // 352 characters are 43 windows: 9 for the test, then a quarter of 34, rounded.
    assert_eq!(dataset.train.rows, (0..25).collect::<Vec<u64>>());
    assert_eq!(validation.rows, (25..34).collect::<Vec<u64>>());
    assert_eq!(test.rows, (34..43).collect::<Vec<u64>>());
    let table = &dataset.train.table;
    let letters = |row: u64| -> String {
        let numbers = table.columns[0].row(row as usize).chunks_exact(4);
        let names = table.classes.as_ref().unwrap();
        numbers.map(|number| names[i32::from_le_bytes(number.try_into().unwrap()) as usize].as_str()).collect()
    };
    let targets: String = (0..43).map(|row| letters(row)[1..].to_owned()).collect();
    assert_eq!(targets, TEXT.repeat(8)[1..=43 * 8]);
}

#[test]
fn a_stopped_run_resumes_to_the_same_bits_and_keeps_its_characters() {
    let (_keep, folder, project) = project(SPLIT);
    let (whole, stopped) = (folder.join("whole"), folder.join("stopped"));
    run(&project, &whole, false, None).unwrap();
    assert!(run(&project, &stopped, false, Some(3)).unwrap().interrupted);
    assert!(run(&project, &stopped, true, Some(6)).unwrap().interrupted);
    run(&project, &stopped, true, None).unwrap();
    for file in ["last.safetensors", "best.safetensors", "metrics.csv"] {
        let read = |run: &Path| fs::read(run.join(file)).unwrap();
        assert!(read(&whole) == read(&stopped), "{file} differs");
    }
    let path = whole.join("best.safetensors");
    let mut learned = checkpoint::load(&path).unwrap();
    assert_eq!(Learned::of(&learned).classes.unwrap().concat(), "\n abcdefghijklmnopqrstuvwxyz");

    // What is deployed reads text by the same numbers, without the data.
    fs::remove_file(folder.join("a.txt")).unwrap();
    let graphs = AnswerGraphs::new(&project, None, None, 1).unwrap();
    let store = graphs.store(&mut learned, &path, compiler().threads()).unwrap();
    let deployment = Deployment::new(&graphs.subject(&learned), store, &compiler(), &[compiler().engine]).unwrap();
    let manifest = &deployment.manifest().clone();
    assert_eq!(manifest.inputs[0].reading, Reading::Characters);
    fs::write(folder.join("input.txt"), "lazy dog\n").unwrap();
    let input = nnc_stub::read_port(&folder.join("input.txt"), &manifest.inputs[0], manifest).unwrap();
    assert_eq!(input.bytes, [13, 2, 27, 26, 1, 5, 16, 8, 0].map(i32::to_le_bytes).concat());
    let answers = deployment.engine(&compiler()).unwrap().run(&[input]).unwrap();
    assert_eq!(answers[0].dims(), [1, VOCABULARY]);
}

#[test]
fn another_text_does_not_continue_a_run() {
    let (_keep, folder, project) = project(SPLIT);
    let out = folder.join("out");
    run(&project, &out, false, Some(3)).unwrap();
    fs::write(folder.join("a.txt"), TEXT.to_uppercase().repeat(8)).unwrap();
    let error = run(&project, &out, true, None).unwrap_err().to_string();
    assert!(error.contains("trained on other classes, characters, words or tokens"), "{error}");
}

#[test]
fn a_test_file_is_numbered_by_what_was_learned() {
    let (_keep, folder, project) = project(TWO_FILES);
    let data = project.data("pangram").unwrap();
    let open = |learned: &Learned| Dataset::open(data, project.folder(), 5, Wanted::Test, learned);
    fs::write(folder.join("b.txt"), "dogs and foxes\n").unwrap();
    let by_train = open(&Learned::default()).unwrap();
    let learned = by_train.learned.clone();
    assert_eq!(learned.classes.as_ref().map(Vec::len), Some(VOCABULARY));
    fs::remove_file(folder.join("a.txt")).unwrap();
    let by_weights = open(&learned).unwrap();
    assert_eq!(by_weights.test.unwrap().table, by_train.test.unwrap().table);
    fs::write(folder.join("b.txt"), "dogs and\nFoxes\n").unwrap();
    let error = open(&learned).unwrap_err().to_string();
    assert!(error.contains("b.txt, line 2: the character `F` (U+0046) is not among the 28"), "{error}");
}

#[test]
fn a_model_for_fewer_characters_is_told_how_many_there_are() {
    let (_keep, folder, _) = project(SPLIT);
    let text = source(SPLIT).replace("vocabulary: int = 28", "vocabulary: int = 20");
    fs::write(folder.join("letters.nn"), text).unwrap();
    let project = Project::load(&folder.join("letters.nn"), &Options::default()).unwrap();
    let mut session = session(&project);
    let dataset = Dataset::open(session.data(), project.folder(), 5, Wanted::All, &Learned::default()).unwrap();
    let error = session.check_indices(&dataset.train).unwrap_err().to_string();
    assert!(error.contains("a.txt, line 1"), "{error}");
    assert!(error.contains("the text has 28 different characters: give the model as many"), "{error}");
}
