//! Whole networks whose weights were made smaller: integers after training, weights of few bits, zeros, and zeros in
//! integers.
//!
//! Each goes the way that a person's does, from floats through the report to a file and back. Then its answer has the
//! same bits on the kernel interpreter and on every backend, in vectors of every width, on one thread and on several;
//! and it is near to that of the graph interpreter, whose sums of integers are exact, while what lies between them is
//! computed otherwise and may round a tie to the other side.

use nnc_codegen::Backend;
use nnc_driver::answer::AnswerGraphs;
use nnc_driver::narrow::{self, narrow};
use nnc_driver::prune::{self, prune, specialised};
use nnc_driver::quantise::observe::Method;
use nnc_driver::quantise::{self, Request};
use nnc_driver::store::Store;
use nnc_driver::{CompiledGraph, Compiler, Dataset, Engine, Learned, Project, Session, Wanted, checkpoint};
use nnc_graph::testing::{Rng, random_tensor};
use nnc_graph::{DType, Graph, Op, Stored, Tensor};
use nnc_kernel::plan;
use nnc_lang::elaborate::Options;
use nnc_opt::pipeline;
use nnc_opt::prune::{Block, Scope};
use nnc_runtime::Pool;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A network of the table.
struct Network {
    /// Its body, the type of an example, and how one is drawn.
    body: &'static str,
    example: (&'static str, &'static str),
    /// Products that are done with integers after training, at least.
    integers: usize,
}

const PICTURE: (&str, &str) = ("f32[3, 12, 12]", "normal([3, 12, 12])");
const WORDS: (&str, &str) = ("i32[9]", "i32(floor(40 * uniform([9])))");

/// Convolutions with and without a stride, pooling by maximum, dense layers.
const CONVOLUTIONS: Network = Network {
    body: "
        x = x |> conv2d(16, kernel=3, padding=1) |> relu |> max_pool2d(2)
        x = x |> conv2d(24, kernel=3, stride=2, padding=1) |> tanh |> conv2d(40, kernel=[1, 3], padding=[0, 1]) |> relu
        return x |> flatten |> dense(32) |> relu |> dense(10)",
    example: PICTURE,
    integers: 5,
};

/// Depthwise convolutions with and without a stride, 1 x 1 ones, a gate, a mean of all places.
const MOBILE: Network = Network {
    body: "
        x = x |> conv2d(16, kernel=3, stride=2, padding=1, bias=false) |> batch_norm |> relu6
        x = x |> inverted_residual(16, expansion=2) |> inverted_residual(24, stride=2, expansion=3)
        x = x |> squeeze_excite(3) |> conv2d(72, kernel=1) |> batch_norm |> relu6
        return x |> global_avg_pool2d |> dense(64) |> relu6 |> dense(10)",
    example: PICTURE,
    integers: 9,
};

/// Residual sums, branches that are joined, pooling by means, convolutions in groups.
const RESIDUAL: Network = Network {
    body: "
        x = x |> conv_norm_relu(16, kernel=3, padding=1) |> residual_block(16) |> residual_block(32, stride=2)
        x = x |> inception_block(16, [8, 16], [8, 16], 16) |> avg_pool2d(2)
        x = x |> conv2d(32, kernel=3, padding=1, groups=4) |> relu
        return x |> flatten |> dense(24) |> gelu |> dense(10)",
    example: PICTURE,
    integers: 12,
};

/// Attention between words, with a mask, norms of either place, a table.
const ENCODER: Network = Network {
    body: "
        mask = is_word(x)
        x = x |> embedding(128, 32)
        x = x + sinusoidal_positions(9, 32)
        x = x |> transformer_encoder_block(mask, heads=4, hidden=128)
        x = x |> transformer_encoder_block(mask, heads=2, hidden=128, pre_norm=true)
        return masked_mean(layer_norm(x), mask) |> dense(10)",
    example: WORDS,
    integers: 12,
};

/// Loops one behind the other and beside each other, with what is computed for all of their steps before them.
const RECURRENT: Network = Network {
    body: "
        x = x |> embedding(128, 32) |> lstm(36) |> gru(32, bidirectional=true)
        return x[:, -1] |> dense(64) |> relu |> dense(10)",
    example: WORDS,
    integers: 4,
};

/// Sizes that fill no vector and no word.
const PERCEPTRON: Network = Network {
    body: "
        x = x |> flatten |> dense(61) |> relu |> dense(72) |> sigmoid |> dense(65) |> relu
        return x |> dense(10)",
    example: ("f32[51]", "normal([51])"),
    integers: 4,
};

/// What is done to the weights.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// Products of integers.
    Integers,
    /// Matrices in few bits.
    Weights(Stored),
    /// So much of all weights goes, in such blocks.
    Zeros(f64, Block),
    /// The same, and then products of integers.
    ZerosAndIntegers(f64, Block),
}

const ELEMENTS: Change = Change::Zeros(0.9, Block::ELEMENT);
const BLOCKS: Block = Block { rows: 1, columns: 16 };

const CHANGES: [Change; 7] = [
    Change::Integers,
    Change::Weights(Stored::Bf16),
    Change::Weights(Stored::Bytes { group: 8 }),
    Change::Weights(Stored::Nibbles { group: 8 }),
    ELEMENTS,
    Change::Zeros(0.7, BLOCKS),
    Change::ZerosAndIntegers(0.8, BLOCKS),
];

/// The examples of a call: one, and some that fill no tile.
const ROWS: [usize; 2] = [1, 5];

fn compiler(engine: Engine, threads: usize) -> Compiler {
    let pool = Arc::new(Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap());
    Compiler { engine, pool, passes: pipeline::Options::default(), tuning: None }
}

/// A network as a file, with its floats.
struct Trained {
    folder: tempfile::TempDir,
    floats: BTreeMap<String, Tensor>,
}

impl Trained {
    fn new(network: &Network) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ty, drawn) = network.example;
        let text = format!(
            "fn drawn() -> ({ty}, i32) {{\n return {drawn}, i32(floor(10 * uniform([])))\n}}\n\
             model Net(x: {}) -> f32[N, 10] {{{}\n}}\n\
             data made {{\n train: ({ty}, i32) = synthetic(drawn, count=40)\n test: ({ty}, i32) = synthetic(drawn, count=20)\n \
             x: {ty} = train.0\n label: i32 = train.1\n}}\n\
             train Net on made {{\n epochs = 1; batch = 10\n logits = Net(x)\n \
             minimize cross_entropy(logits, label) using sgd(lr=0.1)\n answer scores = logits\n}}\n",
            ty.replace('[', "[N, "),
            network.body
        );
        fs::write(folder.path().join("net.nn"), text).unwrap();
        let mut trained = Self { folder, floats: BTreeMap::new() };
        trained.floats = trained.shaken();
        trained
    }

    fn project(&self) -> Project {
        Project::load(&self.folder.path().join("net.nn"), &Options::default()).unwrap_or_else(|e| panic!("{e:?}"))
    }

    /// First values with noise on them, so that no bias and no mean is 0.
    fn shaken(&self) -> BTreeMap<String, Tensor> {
        let project = self.project();
        let session = Session::without_files(&project, "Net", compiler(Engine::host(), 2), 1).unwrap();
        let mut rng = Rng::new(7);
        let shaken = |(path, tensor): (&str, Tensor)| {
            let mut noise = || rng.float(-0.05, 0.05);
            let shaken: Vec<f64> = tensor.to_f64().iter().map(|value| value + noise()).collect();
            let is_weight = tensor.dtype() == DType::F32 && !path.starts_with('$');
            let tensor = if is_weight { Tensor::from_f64(DType::F32, tensor.dims(), &shaken) } else { tensor };
            (path.to_owned(), tensor)
        };
        session.store().tensors().map(shaken).collect()
    }

    /// The file of weights that a change gives.
    fn changed(&self, change: Change) -> PathBuf {
        let project = self.project();
        let compiler = compiler(Engine::host(), 2);
        let mut session = Session::without_files(&project, "Net", compiler.clone(), 1).unwrap();
        session.load_weights(&self.floats);
        let dataset = Dataset::open(session.data(), self.folder.path(), 0, Wanted::All, &Learned::default()).unwrap();
        let recipe = project.recipe(None).unwrap();
        let path = self.folder.path().join("changed.safetensors");
        if let Change::Zeros(sparsity, block) | Change::ZerosAndIntegers(sparsity, block) = change {
            let request = prune::Request { sparsity, block, scope: Scope::Layer, over: Vec::new() };
            prune(&mut session, &project, &request).unwrap();
        }
        let staged = match change {
            Change::Integers | Change::ZerosAndIntegers(..) => {
                let request =
                    Request { method: Method::MinMax, examples: 40, metric: None, max_drop: 1e9, measure: false };
                let mut told = |_: &str| {};
                let asked = (&request, &mut told as &mut dyn FnMut(&str));
                let made = quantise::quantise((&project, recipe), &compiler, session.store(), &dataset, asked).unwrap();
                quantise::file::stage(&path, &made, None)
            }
            Change::Weights(form) => {
                let request = narrow::Request { form, is_exact: true, measure: false, examples: 40 };
                let how = (request, "loss", 1e9);
                let made = narrow((&project, recipe), &compiler, session.store(), &dataset, how, &mut |_| {}).unwrap();
                narrow::stage(&path, &made, None)
            }
            Change::Zeros(..) => prune::stage(&path, session.store(), None),
        };
        staged.unwrap().commit().unwrap();
        path
    }

    /// The program of the answer by a file of weights, and what it reads.
    fn answer(&self, path: &Path, rows: usize) -> (Graph, Store) {
        let mut loaded = checkpoint::load(path).unwrap();
        let project = self.project().with_file(None, (path, &loaded)).unwrap();
        let graphs = AnswerGraphs::new(&project, None, None, rows).unwrap();
        let store = graphs.store(&mut loaded, path, NonZeroUsize::MIN).unwrap();
        (specialised(&graphs.graph, &store), store)
    }

    /// An input of the answer, drawn as the data are.
    fn input(&self, graph: &Graph) -> (String, Tensor) {
        let mut inputs = graph.nodes().filter_map(|(_, node)| match &node.op {
            Op::Input { name, ty } => Some((name.clone(), ty.clone())),
            _ => None,
        });
        let (name, ty) = inputs.next_back().unwrap();
        let mut rng = Rng::new(11);
        let dims = ty.shape.sizes();
        let tensor = match ty.dtype {
            DType::I32 => {
                let count = dims.iter().product::<usize>();
                Tensor::from_f64(DType::I32, &dims, &(0..count).map(|_| rng.int(0, 39) as f64).collect::<Vec<_>>())
            }
            dtype => random_tensor(&mut rng, dtype, &dims),
        };
        (name, tensor)
    }
}

fn ran(compiled: &mut CompiledGraph, (name, input): &(String, Tensor), store: &mut Store) -> BTreeMap<String, Tensor> {
    compiled.input_mut(name).unwrap().copy_from_slice(input.bytes());
    compiled.run(store).unwrap();
    let names: Vec<String> = compiled.outputs().map(|(name, _)| name.to_owned()).collect();
    names.into_iter().map(|name| (name.clone(), compiled.output_tensor(&name).unwrap())).collect()
}

/// How far the graph interpreter may be: a byte that is rounded to the other side moves what follows by a step of many.
fn is_near(found: &Tensor, wanted: &Tensor) -> bool {
    let (found, wanted) = (found.to_f64(), wanted.to_f64());
    let largest = wanted.iter().fold(0f64, |largest, x| largest.max(x.abs()));
    assert!(largest.is_finite() && largest > 0.0, "{wanted:?}");
    found.iter().zip(&wanted).all(|(found, wanted)| (found - wanted).abs() <= 0.02 * largest)
}

/// Runs an answer everywhere; gives what kernels say of how they are cut.
fn same_everywhere(trained: &Trained, path: &Path, rows: usize, what: &str) -> BTreeSet<String> {
    let (graph, mut store) = trained.answer(path, rows);
    let input = trained.input(&graph);
    let mut given: BTreeMap<String, Tensor> = store.tensors().map(|(path, tensor)| (path.to_owned(), tensor)).collect();
    given.insert(input.0.clone(), input.1.clone());
    let mut wanted = None;
    let mut kernels = BTreeSet::new();
    for backend in Backend::ALL.into_iter().filter(|backend| backend.check().is_ok()) {
        for threads in [1, 2, 3] {
            let mut compiled = compiler(Engine::Native(backend), threads).compile(&graph).unwrap();
            let lowered = compiled.lowered().unwrap();
            let name = |kernel: &plan::KernelReport| format!("{}: {}", kernel.name, kernel.how);
            kernels.extend(lowered.report.iter().map(name));
            if threads == 1 {
                let found = plan::run::run(lowered, &given).unwrap().outputs;
                let wanted = wanted.get_or_insert_with(|| found.clone());
                assert_eq!(found, *wanted, "{what}, {rows} rows: the kernels of {backend}, interpreted");
            }
            let found = ran(&mut compiled, &input, &mut store);
            assert_eq!(Some(found), wanted, "{what}, {rows} rows: {backend} on {threads} threads");
        }
    }
    let mut interpreted = compiler(Engine::Interpreter, 1).compile(&graph).unwrap();
    let found = ran(&mut interpreted, &input, &mut store);
    for (name, wanted) in wanted.unwrap() {
        assert!(is_near(&found[&name], &wanted), "{what}, {rows} rows: {name}:\n{:?}\n{wanted:?}", found[&name]);
    }
    kernels
}

/// Products whose sums are integers.
fn products_of_integers(graph: &Graph) -> usize {
    let is_product = |op: &Op| matches!(op, Op::Conv(_) | Op::Dot { .. });
    graph.nodes().filter(|(_, node)| is_product(&node.op) && graph.ty(node.results[0]).dtype == DType::I32).count()
}

fn check(network: &Network, changes: &[Change]) {
    let trained = Trained::new(network);
    for &change in changes {
        let path = trained.changed(change);
        let (graph, _) = trained.answer(&path, ROWS[0]);
        let is_of_integers = matches!(change, Change::Integers | Change::ZerosAndIntegers(..));
        let integers = products_of_integers(&graph);
        let wanted = if is_of_integers { network.integers } else { 0 };
        assert!(integers >= wanted, "{change:?}: {integers}");
        for rows in ROWS {
            let kernels = same_everywhere(&trained, &path, rows, &format!("{change:?}"));
            let are_bytes = kernels.iter().any(|kernel| kernel.contains("of narrow bytes"));
            assert!(are_bytes || !is_of_integers, "{change:?}, {rows} rows: {kernels:#?}");
        }
    }
}

#[test]
fn convolutions() {
    check(&CONVOLUTIONS, &CHANGES);
}

#[test]
fn depthwise_convolutions() {
    check(&MOBILE, &CHANGES);
}

#[test]
fn residual_sums_and_branches() {
    check(&RESIDUAL, &CHANGES);
}

#[test]
fn attention_between_words() {
    check(&ENCODER, &CHANGES);
}

#[test]
fn loops_over_words() {
    check(&RECURRENT, &CHANGES);
}

#[test]
fn dense_layers() {
    check(&PERCEPTRON, &CHANGES);
}
