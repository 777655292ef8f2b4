//! Networks of words, sounds and images in archives, from small files: tables that are kept, resuming, parts by names.

mod common;

use common::{compiler, train_into};
use nnc_data::{Column, MARKS};
use nnc_driver::answer::AnswerGraphs;
use nnc_driver::deploy::{Deployment, outline};
use nnc_driver::train::Outcome;
use nnc_driver::{Dataset, DriverError, Learned, Project, Session, Wanted, checkpoint};
use nnc_lang::elaborate::Options;
use nnc_stub::Manifest;
use nnc_stub::manifest::Reading;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SENTENCES: &str = "a good film\t1\na bad film\t0\nGood, good!\t1\nso bad\t0\nthe good one\t1\nbad film\t0\n";

fn source(data: &str) -> String {
    format!(
        "model Bag(text: i32[N, T]) -> f32[N, 2] {{
            return masked_mean(embedding(text, 12, 4), is_word(text)) |> dense(2)
        }}
        data films {{
            {data}
            text: i32[5] = train.0
            label: i32 = i32(train.1)
            classes = [\"bad\", \"good\"]
        }}
        train Bag on films {{
            epochs = 60
            batch = 2
            logits = Bag(text)
            minimize cross_entropy(logits, label) using adam(lr=5e-2)
            metric accuracy = accuracy(logits, label)
            answer feeling = softmax(logits)
        }}"
    )
}

const FILES: &str = "train: (words[5], u8) = csv(\"a.tsv\", separator=\"\\t\", vocabulary=12, lowercase=true)
            validation: (words[5], u8) = csv(\"b.tsv\", separator=\"\\t\")
            test: (words[5], u8) = csv(\"b.tsv\", separator=\"\\t\")";

fn project(data: &str) -> (TempDir, PathBuf, Project) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    fs::write(path.join("a.tsv"), SENTENCES.repeat(2)).unwrap();
    fs::write(path.join("b.tsv"), "what a good good film\t1\nbad\t0\n").unwrap();
    fs::write(path.join("films.nn"), source(data)).unwrap();
    let project = load(&path);
    (folder, path, project)
}

fn load(folder: &Path) -> Project {
    Project::load(&folder.join("films.nn"), &Options::default()).unwrap()
}

fn run(project: &Project, out: &Path, resume: bool, steps: Option<usize>) -> Result<Outcome, DriverError> {
    let mut session = Session::new(project, "Bag", compiler(), 5).unwrap();
    let dataset = Dataset::open(session.data(), project.folder(), 5, Wanted::All, &Learned::default())?;
    dataset.parts().try_for_each(|part| session.check_indices(part))?;
    train_into(&mut session, &dataset, (out, resume), steps)
}

fn read(manifest: &Manifest, given: &str) -> Result<Column, String> {
    nnc_stub::read_port(Path::new(given), &manifest.inputs[0], manifest).map_err(|error| error.to_string())
}

#[test]
fn a_stopped_run_resumes_to_the_same_bits_and_keeps_its_words() {
    let (_keep, folder, project) = project(FILES);
    let (whole, stopped) = (folder.join("whole"), folder.join("stopped"));
    let outcome = run(&project, &whole, false, None).unwrap();
    assert_eq!(outcome.test.unwrap()[1], ("accuracy".to_owned(), 1.0));
    assert!(run(&project, &stopped, false, Some(3)).unwrap().interrupted);
    run(&project, &stopped, true, None).unwrap();
    for file in ["last.safetensors", "best.safetensors", "metrics.csv"] {
        let read = |run: &Path| fs::read(run.join(file)).unwrap();
        assert!(read(&whole) == read(&stopped), "{file} differs");
    }
    let path = whole.join("best.safetensors");
    let mut loaded = checkpoint::load(&path).unwrap();
    let learned = Learned::of(&loaded);
    let words = learned.vocabularies[0].words().unwrap().words();
    assert_eq!(words[..4], MARKS);
    assert_eq!(words[4..], ["good", "bad", "film", "a", "!", ",", "one", "so"]);

    // What is deployed reads text by the same numbers, without the data; words that it does not know are one.
    fs::remove_file(folder.join("a.tsv")).unwrap();
    let graphs = AnswerGraphs::new(&project, None, None, 1).unwrap();
    let store = graphs.store(&mut loaded, &path, compiler().threads()).unwrap();
    let known = outline(&graphs.subject(&loaded));
    let deployment = Deployment::new(&graphs.subject(&loaded), store, &compiler(), &[compiler().engine]).unwrap();
    let manifest = &deployment.manifest().clone();
    let described = Manifest { variants: Vec::new(), externals: Vec::new(), ..manifest.clone() };
    assert_eq!(known, described, "what goes in and out is known before anything is compiled");
    assert_eq!((manifest.inputs[0].name.as_str(), manifest.inputs[0].reading), ("text", Reading::Words(0)));
    assert_eq!(Manifest::decode(&manifest.encode()).as_ref(), Some(manifest));
    let input = read(manifest, "A lovely, good film").unwrap();
    assert_eq!(input.bytes, [7, 1, 9, 4, 6].map(i32::to_le_bytes).concat());
    let lines = folder.join("input.txt");
    fs::write(&lines, "so bad\na good film\n").unwrap();
    let answers = deployment.engine(&compiler()).unwrap().run(&[read(manifest, &lines.display().to_string()).unwrap()]);
    let ranked = answers.unwrap()[0].ranked(1);
    assert_eq!((ranked[0][0].class, ranked[1][0].class), (0, 1));
    assert!(read(manifest, "missing.txt").unwrap_err().contains("no such file"));
    assert!(read(manifest, " ").unwrap_err().contains("the text has no words"));
}

#[test]
fn other_words_do_not_continue_a_run() {
    let (_keep, folder, project) = project(FILES);
    let out = folder.join("out");
    run(&project, &out, false, Some(3)).unwrap();
    fs::write(folder.join("a.tsv"), SENTENCES.replace("film", "movie").repeat(2)).unwrap();
    let error = run(&project, &out, true, None).unwrap_err().to_string();
    assert!(error.contains("trained on other classes, characters, words or tokens"), "{error}");
}

#[test]
fn a_table_larger_than_the_model_is_told() {
    let (_keep, folder, _) = project(FILES);
    fs::write(folder.join("films.nn"), source(FILES).replace("text, 12, 4", "text, 8, 4")).unwrap();
    let error = run(&load(&folder), &folder.join("out"), false, None).unwrap_err().to_string();
    assert!(error.contains("a.tsv, line 3, column 1: `text` holds an index that is out of range"), "{error}");
}

#[test]
fn remarks_tell_what_was_cut() {
    let (_keep, folder, _) = project(FILES);
    let short = FILES.replace("words[5]", "words[2]");
    fs::write(folder.join("films.nn"), source(&short).replace("i32[5]", "i32[2]")).unwrap();
    let project = load(&folder);
    let data = project.data("films").unwrap();
    let dataset = Dataset::open(data, &folder, 5, Wanted::All, &Learned::default()).unwrap();
    let remarks = dataset.remarks();
    assert!(remarks[0].ends_with("a.tsv: 8 of 12 texts have more than 2 words, and were cut"), "{remarks:?}");
    assert_eq!(remarks.len(), 4, "{remarks:?}");
}

/// Small pictures by the names of their files.
fn pictures(data: &str, names: &[&str]) -> Result<Dataset, DriverError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, grey) in names.iter().zip(0u8..) {
        let path = folder.path().join("all").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(2, 1, image::Luma([grey])).save(path).unwrap();
    }
    let text = format!("data pictures {{\n{data}\n}}");
    fs::write(folder.path().join("pictures.nn"), text).unwrap();
    let project = Project::load(&folder.path().join("pictures.nn"), &Options::default()).unwrap();
    let data = project.data("pictures").unwrap();
    Dataset::open(data, folder.path(), 5, Wanted::All, &Learned::default())
}

#[test]
fn parts_may_be_told_by_names() {
    let names = ["1_ann_0.png", "1_bob_0.png", "2_ann_0.png", "2_bob_0.png", "2_eve_0.png"];
    let data = "train: (u8[1, 2], u8) = images(\"all\", label=\"{}_*\")
        test = named(\"*_ann_*\")
        validation = named(\"*_bob_*\")";
    let dataset = pictures(data, &names).unwrap();
    let rows = |part: &nnc_driver::dataset::Part| part.rows.clone();
    assert_eq!(rows(&dataset.train), [4]);
    assert_eq!((rows(&dataset.validation.unwrap()), rows(&dataset.test.unwrap())), (vec![1, 3], vec![0, 2]));
    assert_eq!(dataset.learned.classes.unwrap(), ["1", "2"]);
    let error = pictures(&data.replace("*_ann_*", "*_ana_*"), &names).unwrap_err().to_string();
    assert!(error.contains("no file that is left has a name like `*_ana_*` (the first is `1_ann_0.png`)"), "{error}");
    let error = pictures(&data.replace("*_ann_*", "*"), &names).unwrap_err().to_string();
    assert!(error.contains("`named` leaves nothing to train on"), "{error}");
}

/// A file without content that claims to be larger than any memory.
#[test]
fn files_larger_than_the_memory_are_refused() {
    let (_keep, folder, project) = project(FILES);
    fs::File::create(folder.join("a.tsv")).unwrap().set_len(1 << 43).unwrap();
    let error = run(&project, &folder.join("out"), false, None).unwrap_err().to_string();
    assert!(error.contains("a.tsv: 8388608 MB of memory are needed"), "{error}");
}
