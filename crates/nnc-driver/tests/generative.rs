//! The networks of the zoo that make images, at a tiny size on tiny pictures: their losses, their steps, their
//! pictures; and steps that alternate give the same bits on every backend.

use nnc_codegen::Backend;
use nnc_data::Batches;
use nnc_driver::session::{Moment, Step};
use nnc_driver::train::{Silent, TrainOptions, train};
use nnc_driver::{Compiler, Dataset, Engine, Learned, Project, Session, Wanted};
use nnc_lang::elaborate::Options;
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const IMAGES: usize = 48;

/// A folder with the files of MNIST, in which each digit is a square at a place of its own.
fn digits() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let header = |kind: u8, dims: &[usize]| {
        let dims = dims.iter().flat_map(|&dim| (dim as u32).to_be_bytes());
        [0, 0, 8, kind].into_iter().chain(dims).collect::<Vec<u8>>()
    };
    let pixel = |digit: usize, y: usize, x: usize| {
        let (top, left) = (2 * digit, 3 * (digit % 7));
        u8::from((top..top + 8).contains(&y) && (left..left + 8).contains(&x)) * 230
    };
    let mut images = header(3, &[IMAGES, 28, 28]);
    for image in 0..IMAGES {
        images.extend((0..784).map(|place| pixel(image % 10, place / 28, place % 28)));
    }
    let labels: Vec<u8> = header(1, &[IMAGES]).into_iter().chain((0..IMAGES).map(|image| image as u8 % 10)).collect();
    for part in ["train", "t10k"] {
        fs::write(folder.path().join(format!("{part}-images-idx3-ubyte.gz")), &images).unwrap();
        fs::write(folder.path().join(format!("{part}-labels-idx1-ubyte.gz")), &labels).unwrap();
    }
    folder
}

fn project(name: &str, set: &[(&str, &str)]) -> Project {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dsl-examples").join(name);
    let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Project::load(&path, &Options { set, ..Options::default() }).unwrap()
}

fn compiler(engine: Engine, threads: usize) -> Compiler {
    let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
    Compiler { engine, pool: Arc::new(pool), passes: pipeline::Options::default(), tuning: None }
}

/// Trains an example, and gives the table of its run with the names of its pictures.
fn trained(name: &str, set: &[(&str, &str)]) -> (Vec<Vec<String>>, Vec<String>) {
    let (data, out) = (digits(), tempfile::tempdir().unwrap());
    let out = out.path().join("run");
    let project = project(name, set);
    let recipe = project.recipe(None).unwrap().name.clone();
    let mut session = Session::new(&project, &recipe, compiler(Engine::host(), 2), 3).unwrap();
    let dataset = Dataset::open(session.data(), data.path(), 3, Wanted::All, &Learned::default()).unwrap();
    let options = TrainOptions { out: Some(out.clone()), ..TrainOptions::default() };
    train(&mut session, &dataset, &options, &mut Silent, &AtomicBool::new(false)).unwrap();
    let table = fs::read_to_string(out.join("metrics.csv")).unwrap();
    let table = table.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect();
    let files = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let is_picture = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "png");
    let mut pictures: Vec<String> =
        files.filter(is_picture).map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    pictures.sort();
    (table, pictures)
}

#[test]
fn adversaries_take_turns() {
    for (name, width, losses) in [
        ("gan.nn", "8", ["discriminator", "generator"]),
        ("dcgan.nn", "2", ["discriminator", "generator"]),
        ("wgan_gp.nn", "2", ["critic", "generator"]),
    ] {
        let (table, pictures) = trained(name, &[("epochs", "2"), ("batch", "10"), ("width", width), ("latent", "3")]);
        for loss in losses {
            let column = table[0].iter().position(|head| *head == format!("train.{loss}.loss")).expect(loss);
            let values: Vec<f64> = table[1..].iter().map(|row| row[column].parse().unwrap()).collect();
            assert!(values.len() == 2 && values.iter().all(|value| value.is_finite()), "{name}: {values:?}");
        }
        assert_eq!(pictures, ["samples-000.png", "samples-001.png", "samples-002.png"], "{name}");
    }
}

#[test]
fn autoencoders_learn() {
    for (name, set, picture) in [
        ("vae.nn", &[("hidden", "16"), ("latent", "3")][..], "reconstructions"),
        ("denoising_autoencoder.nn", &[], "restored"),
        ("conv_autoencoder.nn", &[], "reconstructions"),
    ] {
        let set = [&[("epochs", "4"), ("batch", "12")], set].concat();
        let (table, pictures) = trained(name, &set);
        let column = table[0].iter().position(|head| head == "train.loss").unwrap();
        let losses: Vec<f64> = table[1..].iter().map(|row| row[column].parse().unwrap()).collect();
        let falls = losses.windows(2).all(|pair| pair[1] < pair[0]);
        assert!(falls && losses[3] < 0.99 * losses[0], "{name}: {losses:?}");
        assert!(pictures.contains(&format!("{picture}-004.png")), "{name}: {pictures:?}");
    }
}

/// A generator that is trained less often than there are steps in an epoch: what was not measured is empty.
#[test]
fn what_an_epoch_does_not_tell_of_is_empty() {
    let set = [("epochs", "2"), ("batch", "16"), ("width", "2"), ("latent", "3")];
    let (table, _) = trained("wgan_gp.nn", &set);
    let generator = table[0].iter().position(|head| head == "train.generator.loss").unwrap();
    assert_eq!(table[1].get(generator).map(String::as_str), Some(""));
    assert!(table[2][generator].parse::<f64>().unwrap().is_finite());
}

/// The weights after some steps of the gradient penalty.
fn weights(engine: Engine, threads: usize) -> Vec<(String, Vec<u8>)> {
    let data = digits();
    let set = [("batch", "8"), ("width", "2"), ("latent", "3"), ("critic_steps", "2")];
    let project = project("wgan_gp.nn", &set);
    let mut session = Session::new(&project, "wgan_gp", compiler(engine, threads), 3).unwrap();
    let dataset = Dataset::open(session.data(), data.path(), 3, Wanted::All, &Learned::default()).unwrap();
    let mut batches = Batches::new(dataset.train.table.clone(), dataset.train.rows.clone(), 8, 0).unwrap();
    for iteration in 0..3 {
        let batch = batches.next_batch().unwrap().expect("a batch");
        let step = session.step(batch, Moment { iteration, iterations: 3, epoch: 0 }).unwrap();
        assert!(matches!(step, Step::Done(metrics) if metrics.len() == if iteration == 1 { 3 } else { 2 }));
    }
    session.store().iter().map(|(path, entry)| (path.to_owned(), entry.buffer.bytes().to_vec())).collect()
}

#[test]
fn steps_give_the_same_bits_on_every_backend() {
    let reference = weights(Engine::Native(Backend::Cranelift), 1);
    assert!(reference.iter().any(|(path, _)| path == "$optimizer.generator.g.dense_1.w.m"));
    for backend in Backend::ALL.into_iter().filter(|backend| backend.check().is_ok()) {
        for threads in [1, 2] {
            let found = weights(Engine::Native(backend), threads);
            for ((path, bytes), (_, expected)) in found.iter().zip(&reference) {
                assert!(bytes == expected, "{path} on {} with {threads} threads", backend.name());
            }
        }
    }
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    for ((path, bytes), (_, expected)) in weights(Engine::Interpreter, 1).iter().zip(&reference) {
        for (a, b) in bytes.chunks(4).zip(expected.chunks(4)).map(|(a, b)| (number(a), number(b))) {
            assert!((a - b).abs() <= 1e-3 * (1e-2 + b.abs()), "{path}: {a} is not {b}");
        }
    }
}
