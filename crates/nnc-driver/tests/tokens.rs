//! Networks of byte-pair tokens from small texts: the table that is kept, resuming, text in and out, what is refused.

mod common;

use common::{compiler, train_into};
use nnc_data::{Given, Vocabulary};
use nnc_driver::answer::{AnswerGraphs, Inputs};
use nnc_driver::deploy::Deployment;
use nnc_driver::train::Outcome;
use nnc_driver::{Dataset, DriverError, Learned, Project, Session, Wanted, checkpoint};
use nnc_lang::elaborate::Options;
use nnc_stub::Manifest;
use nnc_stub::manifest::Reading;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const TEXT: &str = "the quick brown fox jumps over the lazy dog\nthe quick dog jumps over the brown fox\n";

fn source(data: &str) -> String {
    format!(
        "model Lm(tokens: i32[N, T]) -> f32[N, T, 290] {{
            return tokens |> embedding(290, 16) |> gru(16) |> dense(290)
        }}
        data pangrams {{
            {data}
            tokens: i32[8] = train[0..8]
            next: i32[8] = train[1..9]
        }}
        train Lm on pangrams {{
            epochs = 30
            batch = 4
            logits = Lm(tokens)
            minimize cross_entropy(logits, next) using adam(lr=3e-2)
            metric accuracy = accuracy(logits, next)
            answer guess = softmax(logits[:, -1])
            answer text(prompt: i32[N, P], length: int = 3) -> i32[N, P + length] {{
                best = argmax(Lm(prompt)[:, -1], axis=-1)
                return concat([prompt, broadcast_to(best[:, new], [N, length])], axis=1)
            }}
        }}"
    )
}

const SPLIT: &str = "train: tokens[9] = text(\"a.txt\", vocabulary=290)
            test = 0.2
            validation = 0.25";

fn project(data: &str) -> (TempDir, PathBuf, Project) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    fs::write(path.join("a.txt"), TEXT.repeat(8)).unwrap();
    fs::write(path.join("lm.nn"), source(data)).unwrap();
    let project = Project::load(&path.join("lm.nn"), &Options::default()).unwrap();
    (folder, path, project)
}

fn run(project: &Project, out: &Path, resume: bool, steps: Option<usize>) -> Result<Outcome, DriverError> {
    let mut session = Session::new(project, "Lm", compiler(), 5).unwrap();
    let dataset = Dataset::open(session.data(), project.folder(), 5, Wanted::All, &Learned::default())?;
    dataset.parts().try_for_each(|part| session.check_indices(part))?;
    train_into(&mut session, &dataset, (out, resume), steps)
}

/// An answer with these weights.
fn deploy(project: &Project, weights: &Path, answer: &str, sizes: &BTreeMap<String, i64>) -> Deployment {
    let mut loaded = checkpoint::load(weights).unwrap();
    let inputs = Inputs::new(project, None, Some(answer)).unwrap();
    let graphs = AnswerGraphs::sized(project, None, inputs, 1, sizes).unwrap();
    let store = graphs.store(&mut loaded, weights, compiler().threads()).unwrap();
    Deployment::new(&graphs.subject(&loaded), store, &compiler(), &[compiler().engine]).unwrap()
}

#[test]
fn a_stopped_run_resumes_to_the_same_bits_and_keeps_its_tokens() {
    let (_keep, folder, project) = project(SPLIT);
    let (whole, stopped) = (folder.join("whole"), folder.join("stopped"));
    let outcome = run(&project, &whole, false, None).unwrap();
    let accuracy = outcome.test.unwrap()[1].1;
    assert!(accuracy > 0.8, "{accuracy}");
    assert!(run(&project, &stopped, false, Some(3)).unwrap().interrupted);
    run(&project, &stopped, true, None).unwrap();
    for file in ["last.safetensors", "best.safetensors", "metrics.csv"] {
        let read = |run: &Path| fs::read(run.join(file)).unwrap();
        assert!(read(&whole) == read(&stopped), "{file} differs");
    }
    let path = whole.join("best.safetensors");
    let learned = Learned::of(&checkpoint::load(&path).unwrap());
    let tokens = learned.vocabularies[0].tokens().unwrap().clone();
    assert!(tokens.size() > 270 && tokens.names().contains(&" the".to_owned()), "{:?}", tokens.names());

    // What is deployed reads and writes text by the same table, without the data.
    fs::remove_file(folder.join("a.txt")).unwrap();
    let windows = deploy(&project, &path, "guess", &BTreeMap::new());
    let manifest = windows.manifest();
    assert_eq!((manifest.inputs[0].name.as_str(), manifest.inputs[0].reading), ("tokens", Reading::Characters));
    assert_eq!(Manifest::decode(&manifest.encode()).as_ref(), Some(manifest));
    fs::write(folder.join("input.txt"), TEXT).unwrap();
    let input = nnc_stub::read_port(&folder.join("input.txt"), &manifest.inputs[0], manifest).unwrap();
    let first: Vec<u8> = tokens.numbers(TEXT)[..9].iter().flat_map(|number| number.to_le_bytes()).collect();
    assert_eq!(input.row(0), first);

    let inputs = Inputs::new(&project, None, Some("text")).unwrap().held_to(&learned);
    let prompt = "the quick Ω\n";
    let given = BTreeMap::from([("prompt".to_owned(), Given::text("prompt", prompt))]);
    let sizes = inputs.sizes(&given).unwrap();
    assert_eq!(sizes["P"], tokens.numbers(prompt).len() as i64);
    let text = deploy(&project, &path, "text", &sizes);
    let manifest = &text.manifest().clone();
    assert_eq!((manifest.inputs[0].reading, manifest.answers[0].reading), (Reading::Text, Reading::Text));
    let input = nnc_stub::decode(given["prompt"].clone(), &manifest.inputs[0], manifest).unwrap();
    let answers = text.engine(&compiler()).unwrap().run(&[input]).unwrap();
    let answered = answers[0].texts(manifest.names());
    assert!(answered[0].starts_with(prompt) && answered[0].len() > prompt.len(), "{answered:?}");
}

#[test]
fn other_tokens_do_not_continue_a_run() {
    let (_keep, folder, project) = project(SPLIT);
    let out = folder.join("out");
    run(&project, &out, false, Some(3)).unwrap();
    fs::write(folder.join("a.txt"), TEXT.replace("fox", "cat").repeat(8)).unwrap();
    let error = run(&project, &out, true, None).unwrap_err().to_string();
    assert!(error.contains("trained on other classes, characters, words or tokens"), "{error}");
}

#[test]
fn a_test_file_goes_by_what_was_learned() {
    let two = "train: tokens[9] = text(\"a.txt\", vocabulary=290)
            test: tokens[9] = text(\"b.txt\")";
    let (_keep, folder, project) = project(two);
    let data = project.data("pangrams").unwrap();
    let open = |learned: &Learned| Dataset::open(data, project.folder(), 5, Wanted::Test, learned);
    fs::write(folder.join("b.txt"), "Dogs and foxes, çà et là\n").unwrap();
    let by_train = open(&Learned::default()).unwrap();
    let learned = by_train.learned.clone();
    fs::remove_file(folder.join("a.txt")).unwrap();
    assert_eq!(open(&learned).unwrap().test.unwrap().table, by_train.test.unwrap().table);
    let words = nnc_data::WordTable::learn([TEXT].into_iter(), 30, false).unwrap();
    let error = open(&Learned { vocabularies: vec![Vocabulary::Words(words)], ..learned }).unwrap_err().to_string();
    assert!(error.contains("b.txt: the weights have tables of [12] words, and [290] tokens are declared"), "{error}");
}

#[test]
fn a_model_for_fewer_tokens_is_told() {
    let (_keep, folder, _) = project(SPLIT);
    fs::write(folder.join("lm.nn"), source(SPLIT).replace("embedding(290, 16)", "embedding(261, 16)")).unwrap();
    let project = Project::load(&folder.join("lm.nn"), &Options::default()).unwrap();
    let error = run(&project, &folder.join("out"), false, None).unwrap_err().to_string();
    assert!(
        error.contains("a.txt, line 1: `tokens` holds an index that is out of range: 261 is not in 0..261"),
        "{error}"
    );
    assert!(error.contains("give the model as many numbers as `vocabulary` says"), "{error}");
}
