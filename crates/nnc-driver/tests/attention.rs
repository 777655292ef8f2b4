//! A network with attention of every kind (to itself, causal, to a memory with padding), trained: the bits of its
//! weights are those that single kernels give, on every backend and number of threads.

use nnc_codegen::Backend;
use nnc_data::Batches;
use nnc_driver::session::{Moment, Step};
use nnc_driver::{Compiler, Dataset, Engine, Learned, Project, Session, Wanted};
use nnc_lang::elaborate::Options;
use nnc_opt::fuse::FuseOptions;
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use std::fs;
use std::num::NonZeroUsize;
use std::sync::Arc;

const TRANSLATION: &str = "
    model Translation(words: i32[N, M], before: i32[N, T]) -> f32[N, T, 12] {
        mask = words > 2
        memory = words |> embedding(12, 16)
        memory = transformer_encoder_block(memory, mask, heads=2, hidden=24)
        x = before |> embedding(12, 16)
        x = transformer_decoder_block(x, memory, mask, heads=2, hidden=24)
        return x |> dense(12)
    }
    fn pair() -> (i32[97], i32[101]) {
        return i32(12 * uniform([97])), i32(12 * uniform([101]))
    }
    data pairs {
        train: (i32[97], i32[101]) = synthetic(pair, count=24)
        words: i32[97] = train.0
        before: i32[100] = train.1[0..100]
        next: i32[100] = train.1[1..101]
    }
    train Translation on pairs {
        epochs = 1
        batch = 4
        minimize cross_entropy(Translation(words, before), next) using adam(lr=1e-2)
    }";

/// The weights after some steps.
fn weights(engine: Engine, threads: usize, fuse: FuseOptions) -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("translation.nn");
    fs::write(&path, TRANSLATION).unwrap();
    let project = Project::load(&path, &Options::default()).unwrap();
    let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
    let passes = pipeline::Options { fuse, ..pipeline::Options::default() };
    let compiler = Compiler { engine, pool: Arc::new(pool), passes, tuning: None };
    let mut session = Session::new(&project, "Translation", compiler, 3).unwrap();
    let dataset = Dataset::open(session.data(), folder.path(), 3, Wanted::All, &Learned::default()).unwrap();
    let mut batches = Batches::new(dataset.train.table.clone(), dataset.train.rows.clone(), 4, 0).unwrap();
    for iteration in 0..3 {
        let batch = batches.next_batch().unwrap().expect("a batch");
        let step = session.step(batch, Moment { iteration, iterations: 3, epoch: 0 }).unwrap();
        assert!(matches!(step, Step::Done(_)));
    }
    session.store().iter().map(|(path, entry)| (path.to_owned(), entry.buffer.bytes().to_vec())).collect()
}

#[test]
fn steps_give_the_bits_of_single_kernels_everywhere() {
    let single = FuseOptions { attention: false, ..FuseOptions::ALL };
    let reference = weights(Engine::Native(Backend::Cranelift), 1, single);
    assert!(reference.len() > 60, "{} tensors", reference.len());
    for backend in Backend::ALL.into_iter().filter(|backend| backend.check().is_ok()) {
        for threads in [1, 2] {
            let again = FuseOptions { kept_scores: 0, ..FuseOptions::ALL };
            let found = weights(Engine::Native(backend), threads, again);
            for ((path, bytes), (_, expected)) in found.iter().zip(&reference) {
                assert!(bytes == expected, "{path} on {} with {threads} threads", backend.name());
            }
        }
    }
}
