//! Training in floats of 16 bits: every backend gives the same bits, the interpreter the same but for rounding, and the
//! loss falls.

use nnc_codegen::Backend;
use nnc_data::Batches;
use nnc_driver::session::{Moment, Step};
use nnc_driver::{Compiler, Dataset, Engine, Learned, Project, Session, Wanted};
use nnc_graph::DType;
use nnc_graph::tensor::decode;
use nnc_lang::elaborate::Options;
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

/// Products, norms with states, convolutions, a maximum, a loop, a table, numbers of other dtypes: all in `HALF`.
const NETWORK: &str = "
    model Net(x: f32[N, 12], k: i32[N]) -> f32[N, 3] {
        given = HALF(x)
        x = given |> dense(16) |> gelu |> layer_norm
        image = reshape(x, [N, 1, 4, 4]) |> conv2d(4, kernel=3, padding=1) |> batch_norm |> relu |> max_pool2d(2)
        y = concat([gru(reshape(x, [N, 4, 4]), 5)[:, -1], flatten(image), HALF(k)[:, new] / 4, x[:, 0..1]], axis=-1)
        param table: HALF[3, 8] = normal_init(std=0.2)
        h, _ = scan i in 0..3 with h = zeros_of(y) {
            h = maximum(h, 0.5 * y + HALF(i))
            yield h
        }
        return (f32(dense(y + h[-1], 8) * take(table, k)) |> dense(3)) + 0.01 * casts(given)
    }
    fn casts(x: HALF[N, 12]) -> f32[N, 1] {
        a = x[:, 0..1]; b = x[:, 1..2]
        return f32(i32(floor(a))) + f32(i64(a * b)) + f32(u8(clip(100 * b, 0, 255))) + f32(bool(a)) + f32(2 * f64(b))
    }
    fn zeros_of(x: real[...S]) -> real[...S] = 0 * x
    fn example() -> (f32[12], i32) {
        label = i32(3 * uniform([]))
        return normal([12]) + f32(label), label
    }
    data examples {
        train: (f32[12], i32) = synthetic(example, count=60)
        x: f32[12] = train.0
        label: i32 = train.1
    }
    train Net on examples {
        epochs = 1
        batch = 20
        minimize cross_entropy(Net(x, 0 * label), label) using sgd(lr=0.05, momentum=0.5)
    }";

/// A path, the dtype there, and the bytes.
type Kept = Vec<(String, DType, Vec<u8>)>;

/// What is kept after some steps, and the loss of the first and the last of them.
fn trained(path: &Path, engine: Engine, threads: usize, steps: i64) -> (Kept, [f64; 2]) {
    let project = Project::load(path, &Options::default()).unwrap();
    let pool = Arc::new(Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap());
    let compiler = Compiler { engine, pool, passes: pipeline::Options::default(), tuning: None };
    let mut session = Session::new(&project, "Net", compiler, 3).unwrap();
    let dataset = Dataset::open(session.data(), path.parent().unwrap(), 3, Wanted::All, &Learned::default()).unwrap();
    let mut losses = Vec::new();
    for iteration in 0..steps {
        // Each time the same examples.
        let mut batches = Batches::new(dataset.train.table.clone(), dataset.train.rows.clone(), 20, 0).unwrap();
        let batch = batches.next_batch().unwrap().expect("a batch");
        match session.step(batch, Moment { iteration, iterations: steps, epoch: 0 }).unwrap() {
            Step::Done(metrics) => losses.push(metrics[0].1),
            Step::Withheld { loss, .. } => panic!("the loss is {loss}"),
        }
    }
    let kept =
        session.store().iter().map(|(path, entry)| (path.to_owned(), entry.ty.dtype, entry.buffer.bytes().to_vec()));
    (kept.collect(), [losses[0], losses[losses.len() - 1]])
}

fn assert_trains_in(half: &str, dtype: DType, digits: i32) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.nn");
    fs::write(&path, NETWORK.replace("HALF", half)).unwrap();
    let (reference, _) = trained(&path, Engine::Native(Backend::Cranelift), 1, 3);
    assert!(reference.iter().filter(|(_, found, _)| *found == dtype).count() > 20, "{reference:?}");
    for backend in Backend::ALL.into_iter().filter(|backend| backend.check().is_ok()) {
        for ((path, _, bytes), (_, _, expected)) in
            trained(&path, Engine::Native(backend), 2, 3).0.iter().zip(&reference)
        {
            assert!(bytes == expected, "{path} on {}", backend.name());
        }
    }
    for ((path, dtype, bytes), (_, _, expected)) in trained(&path, Engine::Interpreter, 1, 3).0.iter().zip(&reference) {
        let numbers = |bytes: &[u8]| bytes.chunks(dtype.size()).map(|one| decode(*dtype, one)).collect::<Vec<_>>();
        for (a, b) in numbers(bytes).into_iter().zip(numbers(expected)) {
            assert!((a - b).abs() <= 2f64.powi(3 - digits) * (0.1 + b.abs()), "{path}: {a} is not {b}");
        }
    }
    let (_, [first, last]) = trained(&path, Engine::host(), 2, 40);
    assert!(last < 0.7 * first, "{first} becomes {last}");
}

#[test]
fn networks_train_in_f16() {
    assert_trains_in("f16", DType::F16, 11);
}

#[test]
fn networks_train_in_bf16() {
    assert_trains_in("bf16", DType::Bf16, 8);
}
