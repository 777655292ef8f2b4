//! Compile time: from a checked file to machine code of its whole training step.

use criterion::{Criterion, criterion_group, criterion_main};
use nnc_driver::stage::{self, Which};
use nnc_driver::{Compiler, Engine, Project};
use nnc_graph::DType;
use nnc_lang::elaborate::Options;
use nnc_runtime::Pool;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn compile(criterion: &mut Criterion) {
    let pool = Arc::new(Pool::with_limit(None).expect("threads start"));
    let compiler = Compiler { engine: Engine::host(), pool, passes: nnc_opt::Options::default(), tuning: None };
    let options = Options { bind: BTreeMap::new(), set: BTreeMap::new(), float: DType::F32 };
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(20);
    for name in ["digits", "mnist_mlp", "mnist_cnn"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../dsl-examples/{name}.nn"));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let project = Project::load(&path, &options).expect("the example is right");
                let graph = stage::graph(&project, None, Which::Train, None).expect("it elaborates");
                compiler.compile(&graph).expect("it compiles")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, compile);
criterion_main!(benches);
