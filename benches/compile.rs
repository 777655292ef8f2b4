//! Compile time, from a file to machine code: of whole training steps of the examples and of reference models, and of reference
//! models for one example.

use criterion::{Criterion, criterion_group, criterion_main};
use nnc_driver::stage::{self, Which};
use nnc_driver::{Compiler, Engine, Project};
use nnc_lang::elaborate::Options;
use nnc_runtime::Pool;
use std::path::Path;
use std::sync::Arc;

fn compile(criterion: &mut Criterion) {
    let pool = Arc::new(Pool::with_limit(None).expect("threads start"));
    let compiler = Compiler { engine: Engine::host(), pool, passes: nnc_opt::Options::default(), tuning: None };
    let options = Options::default();
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(20);
    let programs = [
        ("dsl-examples/digits", Which::Train),
        ("dsl-examples/mnist_mlp", Which::Train),
        ("benches/models/mnist_cnn", Which::Train),
        ("benches/models/inference/mlp", Which::Answer),
        ("benches/models/inference/resnet50", Which::Answer),
        ("benches/models/inference/minilm", Which::Answer),
    ];
    for (name, which) in programs {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../{name}.nn"));
        let rows = (which == Which::Answer).then_some(1);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let project = Project::load(&path, &options).expect("the model is right");
                let graph = stage::graph(&project, None, which, rows).expect("it elaborates");
                compiler.compile(&graph).expect("it compiles")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, compile);
criterion_main!(benches);
