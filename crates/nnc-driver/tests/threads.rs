//! Training steps of whole networks by pools of more and of fewer threads than the machine has cores: the same bits.

use nnc_data::Batches;
use nnc_driver::session::{Moment, Step};
use nnc_driver::{Compiler, Dataset, Engine, Learned, Project, Session, Wanted};
use nnc_lang::elaborate::Options;
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

const THREADS: [usize; 4] = [1, 2, 3, 7];
const STEPS: i64 = 3;

/// Convolutions of every form, with a norm, pooling, a residual sum, dropout.
const CONVOLUTIONS: &str = "
    model Net(x: f32[N, 3, 24, 24]) -> f32[N, 10] {
        x = x |> conv_norm_relu(32, kernel=3, padding=1) |> residual_block(32) |> max_pool2d(2)
        x = x |> inverted_residual(40, stride=2, expansion=2) |> conv2d(48, kernel=3, padding=1, groups=4) |> gelu
        return x |> global_avg_pool2d |> dense(64) |> relu |> dropout(0.3) |> dense(10)
    }
    fn example() -> (f32[3, 24, 24], i32) {
        return normal([3, 24, 24]), i32(10 * uniform([]))
    }
    data examples {
        train: (f32[3, 24, 24], i32) = synthetic(example, count=40)
        x: f32[3, 24, 24] = train.0
        label: i32 = train.1
    }";

/// Loops over steps, forward and back, of several layers and both kinds of cells, with a mask and without, and sums.
const RECURRENT: &str = "
    model Net(x: i32[N, T]) -> f32[N, 10] {
        there = x > 4
        x = x |> embedding(50, 48) |> lstm(64, layers=2) |> gru(40, bidirectional=true, mask=there)
        return mean(0.1 * cumsum(x, axis=1), axis=1) |> dense(10)
    }
    fn example() -> (i32[19], i32) {
        return i32(50 * uniform([19])), i32(10 * uniform([]))
    }
    data examples {
        train: (i32[19], i32) = synthetic(example, count=40)
        x: i32[19] = train.0
        label: i32 = train.1
    }";

/// Attention in one kernel, forward and back, and norms.
const ATTENTION: &str = "
    model Net(x: i32[N, T]) -> f32[N, 10] {
        x = x |> embedding(50, 48)
        x = x |> transformer_encoder_block(heads=4, hidden=96) |> transformer_encoder_block(heads=2, hidden=96)
        return mean(x, axis=1) |> dense(10)
    }
    fn example() -> (i32[130], i32) {
        return i32(50 * uniform([130])), i32(10 * uniform([]))
    }
    data examples {
        train: (i32[130], i32) = synthetic(example, count=40)
        x: i32[130] = train.0
        label: i32 = train.1
    }";

const RECIPE: &str = "
    train Net on examples {
        epochs = 1
        batch = 10
        minimize cross_entropy(Net(x), label) using adam(lr=1e-2)
    }";

/// A tensor by its name, in bytes.
type Bits = Vec<(String, Vec<u8>)>;

/// All that training keeps, after some steps.
fn weights(path: &Path, threads: usize) -> Bits {
    let project = Project::load(path, &Options::default()).unwrap();
    let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
    assert_eq!(pool.threads(), threads, "no matter how many cores there are");
    let passes = pipeline::Options::default();
    let compiler = Compiler { engine: Engine::host(), pool: Arc::new(pool), passes, tuning: None };
    let mut session = Session::new(&project, "Net", compiler, 3).unwrap();
    let folder = path.parent().unwrap();
    let dataset = Dataset::open(session.data(), folder, 3, Wanted::All, &Learned::default()).unwrap();
    let mut batches = Batches::new(dataset.train.table.clone(), dataset.train.rows.clone(), 10, 0).unwrap();
    for iteration in 0..STEPS {
        let batch = batches.next_batch().unwrap().expect("a batch");
        let step = session.step(batch, Moment { iteration, iterations: STEPS, epoch: 0 }).unwrap();
        assert!(matches!(step, Step::Done(_)));
    }
    session.store().iter().map(|(path, entry)| (path.to_owned(), entry.buffer.bytes().to_vec())).collect()
}

fn assert_same_bits(network: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.nn");
    fs::write(&path, format!("{network}{RECIPE}")).unwrap();
    let [reference, others @ ..] = THREADS.map(|threads| weights(&path, threads));
    assert!(reference.len() > 12, "{} tensors", reference.len());
    for (threads, found) in THREADS[1..].iter().zip(&others) {
        for ((name, bytes), (_, expected)) in found.iter().zip(&reference) {
            assert!(bytes == expected, "{name} by {threads} threads");
        }
    }
}

#[test]
fn a_convolutional_network_trains_alike_by_any_number_of_threads() {
    assert_same_bits(CONVOLUTIONS);
}

#[test]
fn a_recurrent_network_trains_alike_by_any_number_of_threads() {
    assert_same_bits(RECURRENT);
}

#[test]
fn attention_trains_alike_by_any_number_of_threads() {
    assert_same_bits(ATTENTION);
}
