//! Networks of the zoo that are trained in their own ways, at a tiny size: on scenes made by the language, without
//! labels and with a probe on top, with averaged weights. Their losses fall.

use nnc_data::DType;
use nnc_driver::train::{History, Observer, TrainOptions, train};
use nnc_driver::{Compiler, Dataset, Engine, Learned, Project, Session, Wanted, train::Event};
use nnc_lang::elaborate::Options;
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A folder with an example, some of its text replaced, and what it uses.
fn folder_of(name: &str, changes: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dsl-examples");
    let mut text = fs::read_to_string(examples.join(name)).unwrap();
    for (old, new) in changes {
        assert!(text.contains(old), "{name} has no `{old}`");
        text = text.replace(old, new);
    }
    fs::write(folder.path().join(name), text).unwrap();
    fs::copy(examples.join("unet.nn"), folder.path().join("unet.nn")).unwrap();
    folder
}

/// The four files of MNIST with a few digits, each of which is a bar at a place of its own.
fn put_digits(folder: &Path, count: usize) {
    let header = |kind: u8, dims: &[usize]| {
        let dims = dims.iter().flat_map(|&dim| (dim as u32).to_be_bytes());
        [0, 0, 8, kind].into_iter().chain(dims).collect::<Vec<u8>>()
    };
    let pixel = |digit: usize, place: usize| {
        let (y, x) = (place / 28, place % 28);
        u8::from((2 * digit..2 * digit + 8).contains(&y) && (6..22).contains(&x)) * 230
    };
    let images = (0..count).flat_map(|image| (0..784).map(move |place| pixel(image % 10, place)));
    let images: Vec<u8> = header(3, &[count, 28, 28]).into_iter().chain(images).collect();
    let labels: Vec<u8> = header(1, &[count]).into_iter().chain((0..count).map(|image| image as u8 % 10)).collect();
    for part in ["train", "t10k"] {
        fs::write(folder.join(format!("{part}-images-idx3-ubyte.gz")), &images).unwrap();
        fs::write(folder.join(format!("{part}-labels-idx1-ubyte.gz")), &labels).unwrap();
    }
}

/// Stripes of different widths, across in one class and down in the other, where the CIFAR subset has its pictures.
fn put_pictures(folder: &Path) {
    for split in ["train", "test"] {
        for class in ["across", "down"] {
            let place = folder.join("cifar10-subset.tar/cifar10").join(split).join(class);
            fs::create_dir_all(&place).unwrap();
            for number in 0..10 {
                let value = |at: usize| {
                    let (y, x) = (at / 32 % 32, at % 32);
                    let place = if class == "across" { y } else { x };
                    if place / (2 + number) % 2 == 0 { 230 } else { 20 * number as u8 }
                };
                let bytes: Vec<u8> = (0..3 * 1024).map(value).collect();
                let path = place.join(format!("{number}.png"));
                nnc_data::write_pictures(&path, DType::U8, &[3, 32, 32], &bytes).unwrap();
            }
        }
    }
}

/// Keeps what was told last.
#[derive(Default)]
struct Told(History, Vec<(String, f64)>);

impl Observer for Told {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Epoch { history, .. } => self.0 = (*history).clone(),
            Event::Tested { metrics, .. } => self.1 = (*metrics).clone(),
            _ => {}
        }
    }
}

/// The losses of the epochs of a recipe, and what its test gave.
fn trained(folder: &Path, name: &str, recipe: &str, set: &[(&str, &str)]) -> (Vec<f64>, Vec<(String, f64)>) {
    let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let project = Project::load(&folder.join(name), &Options { set, ..Options::default() }).unwrap();
    let pool = Arc::new(Pool::new(NonZeroUsize::new(2).unwrap()).unwrap());
    let compiler = Compiler { engine: Engine::host(), pool, passes: pipeline::Options::default(), tuning: None };
    let mut session = Session::new(&project, recipe, compiler, 3).unwrap();
    let dataset = Dataset::open(session.data(), folder, 3, Wanted::All, &Learned::default()).unwrap();
    let out = (recipe == "pretrain").then(|| folder.join("simclr"));
    let options = TrainOptions { out, ..TrainOptions::default() };
    let mut told = Told::default();
    train(&mut session, &dataset, &options, &mut told, &AtomicBool::new(false)).unwrap();
    let Told(history, test) = told;
    let losses = history.rows.iter().map(|row| row.train.iter().find(|(name, _)| name == "loss").unwrap().1);
    (losses.collect(), test)
}

fn falls(losses: &[f64]) -> bool {
    losses.last() < losses.first() && losses.iter().all(|loss| loss.is_finite())
}

#[test]
fn a_unet_finds_digits_in_scenes_that_are_made() {
    let folder = folder_of(
        "unet_digits.nn",
        &[("count=10000", "count=40"), ("count=2000", "count=10"), ("width=16", "width=2")],
    );
    put_digits(folder.path(), 20);
    let (losses, test) = trained(folder.path(), "unet_digits.nn", "UNet", &[("epochs", "6"), ("batch", "8")]);
    assert!(falls(&losses), "{losses:?}");
    assert!(test.iter().any(|(name, value)| name == "iou" && (0.0..=1.0).contains(value)), "{test:?}");
}

#[test]
fn two_views_of_a_picture_find_each_other_and_a_probe_uses_their_features() {
    let folder = folder_of("simclr.nn", &[("warmup=100", "warmup=1")]);
    put_pictures(folder.path());
    let tiny = [("width", "4"), ("batch", "10")];
    let with = |epochs| [&[("epochs", epochs)][..], &tiny].concat();
    let (losses, _) = trained(folder.path(), "simclr.nn", "pretrain", &with("12"));
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[8..]) < mean(&losses[..4]), "{losses:?}");
    for recipe in ["probe", "control"] {
        let (losses, test) = trained(folder.path(), "simclr.nn", recipe, &with("40"));
        assert!(falls(&losses), "{recipe}: {losses:?}");
        assert!(test.iter().any(|(name, _)| name == "accuracy"), "{recipe}: {test:?}");
    }
}

#[test]
fn averaged_weights_learn_digits() {
    let folder = folder_of("mnist_best.nn", &[]);
    put_digits(folder.path(), 40);
    let (losses, test) = trained(folder.path(), "mnist_best.nn", "MnistBest", &[("epochs", "5"), ("batch", "10")]);
    assert!(falls(&losses), "{losses:?}");
    let loss = test.iter().find(|(name, _)| name == "loss").unwrap().1;
    assert!(loss < losses[0], "what is tested, the mean, has learnt: {loss} after {losses:?}");
}
