//! Programs that compute values again to fit into little memory: the same bits, from all down to the least.

use nnc_data::Batch;
use nnc_driver::fit::{Fitted, fit};
use nnc_driver::session::{Moment, Step};
use nnc_driver::stage::{self, Which};
use nnc_driver::{Compiler, DriverError, Engine, Project, Session};
use nnc_graph::{DType, TensorType, tensor};
use nnc_lang::elaborate::Options;
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use std::fs;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Convolutions with a branch around them, normalisation, dropout.
const PICTURES: &str = "
model Pictures(image: f32[N, 3, 16, 16]) -> f32[N, 5] {
    x = image |> conv_norm_relu(16, kernel=3, padding=1)
    for block in 0..4 {
        x = x |> residual_block(16)
    }
    return x |> global_avg_pool2d |> dropout(0.3) |> dense(5)
}
data made_up {
    train: (f32[3, 16, 16], i32) = npy(\"images.npy\", \"labels.npy\")
    image: f32[3, 16, 16] = train.0
    label: i32 = train.1
}
train Pictures on made_up {
    epochs = 1
    batch = 8
    minimize cross_entropy(Pictures(image), label) using adam(lr=1e-3)
}
";

/// Attention, and an activation of many operations.
const TEXT: &str = "
model Text(tokens: i32[N, T]) -> f32[N, T, 11] {
    x = tokens |> embedding(11, 32) |> learnt_positions(24)
    for block in 0..3 {
        x = x |> transformer_encoder_block(heads=2, causal=true, dropout=0.1)
    }
    return x |> layer_norm |> dense(11, bias=false)
}
data made_up {
    train: (i32[24], i32[24]) = npy(\"tokens.npy\", \"next.npy\")
    tokens: i32[24] = train.0 % 11
    next: i32[24] = train.1 % 11
}
train Text on made_up {
    epochs = 1
    batch = 8
    minimize cross_entropy(Text(tokens), next) using adam(lr=1e-3)
}
";

/// Loops over time.
const TIME: &str = "
model Time(tokens: i32[N, T]) -> f32[N, T, 11] {
    return tokens |> embedding(11, 32) |> lstm(32, layers=3) |> dense(11)
}
data made_up {
    train: (i32[24], i32[24]) = npy(\"tokens.npy\", \"next.npy\")
    tokens: i32[24] = train.0 % 11
    next: i32[24] = train.1 % 11
}
train Time on made_up {
    epochs = 1
    batch = 8
    minimize cross_entropy(Time(tokens), next) using adam(lr=1e-3)
}
";

const ALL: [&str; 3] = [PICTURES, TEXT, TIME];

fn project(text: &str) -> Project {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.nn");
    fs::write(&path, text).unwrap();
    Project::load(&path, &Options::default()).unwrap()
}

fn compiler(engine: Engine, threads: usize, max_memory: Option<usize>) -> Compiler {
    let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
    Compiler {
        engine,
        pool: Arc::new(pool),
        passes: pipeline::Options { max_memory, ..pipeline::Options::default() },
        tuning: None,
    }
}

/// Examples without meaning.
fn batch(session: &Session<'_>, rows: usize) -> Batch {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64
    };
    let mut field = |ty: &TensorType| {
        let mut bytes = Vec::new();
        for _ in 0..rows * ty.shape.elements().size() {
            let value = if ty.dtype == DType::F32 { next() / (1u64 << 24) as f64 } else { next() % 5.0 };
            tensor::encode(ty.dtype, value, &mut bytes);
        }
        bytes
    };
    let fields = session.data().raw.iter().map(|raw| field(&raw.ty)).collect();
    Batch::new((0..rows as u64).collect(), fields)
}

/// Losses of three steps and all that is resident after them, as bits.
fn trained(project: &Project, compiler: Compiler) -> Result<(Vec<u64>, Vec<Vec<u8>>), DriverError> {
    let recipe = project.recipe(None)?.name.clone();
    let mut session = Session::new(project, &recipe, compiler, 7)?;
    let batch = batch(&session, 8);
    let mut losses = Vec::new();
    for iteration in 0..3 {
        match session.step(&batch, Moment { iteration, iterations: 3, epoch: 0 })? {
            Step::Done(metrics) => losses.push(metrics[0].1.to_bits()),
            Step::Withheld { loss, .. } => panic!("a loss of {loss}"),
        }
    }
    Ok((losses, session.store().iter().map(|(_, entry)| entry.buffer.bytes().to_vec()).collect()))
}

/// The training step as it fits, and the bytes that it works in.
fn fitted(project: &Project, compiler: &Compiler) -> Result<(Fitted, usize), DriverError> {
    let graph = stage::graph(project, None, Which::Train, None)?;
    let optimised = nnc_opt::optimise(&graph, &compiler.passes).unwrap();
    let fitted = fit(optimised, (compiler.engine, compiler.threads()), &compiler.passes, None)?;
    let externals: usize = fitted.lowered.externals.iter().map(|external| external.bytes).sum();
    let scratch = fitted.lowered.scratch_bytes * compiler.threads().get();
    let bytes = externals + scratch + fitted.lowered.arena_bytes;
    Ok((fitted, bytes))
}

/// The least memory that a training step can work in, as the error says it when one byte is asked for.
fn least(project: &Project, engine: Engine, threads: usize) -> usize {
    match fitted(project, &compiler(engine, threads, Some(1))) {
        Err(DriverError::Memory(fault)) => fault.least,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it works in one byte"),
    }
}

#[test]
fn whatever_is_computed_again_the_bits_are_the_same() {
    let engine = Engine::host();
    for text in ALL {
        let project = project(text);
        let all = trained(&project, compiler(engine, 2, None)).unwrap();
        let (kept, most) = fitted(&project, &compiler(engine, 2, None)).unwrap();
        let least = least(&project, engine, 2);
        assert!(kept.optimised.copies.is_empty());
        assert!(
            least < most - kept.lowered.arena_bytes / 6,
            "{least} of {most} bytes, {} of them in the arena",
            kept.lowered.arena_bytes
        );
        for quarter in (0..4).rev() {
            let limit = least + (most - least) * quarter / 4;
            let (found, bytes) = fitted(&project, &compiler(engine, 2, Some(limit))).unwrap();
            assert!(bytes <= limit, "{bytes} bytes where {limit} are allowed");
            assert!(!found.optimised.copies.is_empty());
            assert_eq!(found.arena_of_all, kept.lowered.arena_bytes);
            assert!(trained(&project, compiler(engine, 2, Some(limit))).unwrap() == all, "{limit} bytes: other bits");
        }
    }
}

#[test]
fn the_bits_are_the_same_on_every_backend() {
    let project = project(TEXT);
    let all = trained(&project, compiler(Engine::host(), 1, None)).unwrap();
    for backend in nnc_codegen::Backend::ALL.into_iter().filter(|backend| backend.check().is_ok()) {
        let engine = Engine::Native(backend);
        let limit = least(&project, engine, 1);
        assert!(trained(&project, compiler(engine, 1, Some(limit))).unwrap() == all, "{backend:?}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let project = project(PICTURES);
    let Err(DriverError::Memory(fault)) = fitted(&project, &compiler(Engine::host(), 2, Some(200_000))) else {
        panic!("it fits");
    };
    assert_eq!(fault.asked, 200_000);
    assert_eq!(fault.least, fault.resident + fault.passed + fault.scratch + fault.arena);
    assert!(fault.culprits.is_sorted_by_key(|culprit| std::cmp::Reverse(culprit.bytes)));
    assert!(
        fault
            .culprits
            .iter()
            .any(|culprit| culprit.what.contains("[8, 16, 16, 16]") && culprit.place.contains("net.nn:"))
    );
    let text = fault.to_string();
    assert!(text.contains("`Pictures.train` does not fit into 200.0 kB"), "{text}");
    assert!(text.contains("residual_block"), "{text}");
    assert!(text.contains("--set batch=N"), "{text}");
}

/// The plan of the arena has hardly any gaps: it is as large as what is in use when most is.
#[test]
fn an_arena_is_as_small_as_what_lives_in_it() {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/models");
    let projects = ["resnet18_cifar.nn", "nanogpt.nn", "char_lstm.nn", "mnist_cnn.nn", "autoencoder.nn"];
    let projects = projects.map(|name| Project::load(&models.join(name), &Options::default()).unwrap());
    for project in projects.into_iter().chain(ALL.map(project)) {
        let (found, _) = fitted(&project, &compiler(Engine::host(), 2, None)).unwrap();
        let (arena, bound) = (found.lowered.arena_bytes, found.lowered.peak.bytes());
        assert!(arena * 100 <= bound * 105, "{}: {arena} bytes for {bound}", found.optimised.graph.name);
    }
}
