//! Times products by sparse constant matrices against the dense kernel, in turns: `sparse [THREADS] [SECONDS]`
//!
//! Each line is a product of rows by a matrix of random zeros, with a bias and a rectifier: its shape, the least time
//! of the dense kernel and of what the cost function chose, which other work on the machine disturbs least, and their
//! ratio.

use nnc_driver::store::Store;
use nnc_driver::{CompiledGraph, Compiler, Engine};
use nnc_graph::testing::{SparseProduct, random_inputs, sparse_product};
use nnc_graph::{Graph, Op};
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

/// The shapes: rows, depth, columns; what they are from.
const SHAPES: [(&str, usize, usize, usize); 13] = [
    ("mlp", 1, 784, 512),
    ("mlp", 1, 512, 512),
    ("mlp", 1, 512, 10),
    ("mlp", 8, 784, 512),
    ("mlp", 64, 784, 512),
    ("mlp", 64, 512, 512),
    ("mlp", 64, 512, 10),
    ("mobilenet", 12544, 32, 16),
    ("mobilenet", 3136, 24, 144),
    ("mobilenet", 784, 144, 32),
    ("mobilenet", 196, 64, 384),
    ("mobilenet", 196, 576, 96),
    ("mobilenet", 49, 320, 1280),
];

/// Zeros: their share, and how many go together.
const ZEROS: [(f64, usize); 5] = [(0.7, 1), (0.8, 1), (0.9, 1), (0.5, 16), (0.75, 16)];

struct Side {
    program: CompiledGraph,
    store: Store,
    least: f64,
}

impl Side {
    fn new(compiler: &Compiler, graph: &Graph) -> Result<Self, Box<dyn Error>> {
        let mut program = compiler.compile(graph)?;
        let given = random_inputs(graph, 1);
        let store = Store::of(given.iter().filter(|(name, _)| *name != "x").map(|(name, of)| (name.as_str(), of)));
        let input = program.input_mut("x").ok_or("no input")?;
        input.copy_from_slice(given["x"].bytes());
        Ok(Self { program, store, least: f64::INFINITY })
    }

    fn round(&mut self, repeats: usize) -> Result<(), Box<dyn Error>> {
        for _ in 0..repeats {
            let started = Instant::now();
            self.program.run(&mut self.store)?;
            self.least = self.least.min(started.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

/// The graph with its matrix as a parameter.
fn with_unknown_weights(graph: &Graph) -> Graph {
    let mut made = Graph::new("dense");
    for (_, node) in graph.nodes() {
        let op = match &node.op {
            Op::Constant(tensor) if tensor.elements() > 1 => Op::Param { path: "w".to_owned(), ty: tensor.ty() },
            op => op.clone(),
        };
        made.emit(op, &node.operands);
    }
    graph.outputs().iter().for_each(|output| made.add_output(&output.name, output.value, output.kind));
    made
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let threads: usize = words.next().map_or(Ok(1), |word| word.parse())?;
    let seconds: f64 = words.next().map_or(Ok(0.3), |word| word.parse())?;
    let pool = Arc::new(Pool::with_limit(NonZeroUsize::new(threads))?);
    let compiler = Compiler { engine: Engine::host(), pool, passes: pipeline::Options::default(), tuning: None };
    for (from, rows, depth, columns) in SHAPES {
        for (sparsity, block) in ZEROS {
            let product = SparseProduct { rows, depth, columns, block, sparsity, turned: false };
            let graph = sparse_product(&product, 7);
            let mut sides = [Side::new(&compiler, &with_unknown_weights(&graph))?, Side::new(&compiler, &graph)?];
            let started = Instant::now();
            while started.elapsed().as_secs_f64() < seconds {
                sides.iter_mut().try_for_each(|side| side.round(10))?;
            }
            let [dense, sparse] = [sides[0].least, sides[1].least].map(|least| least * 1e6);
            let how = sides[1].program.lowered().and_then(|lowered| lowered.report.last()).map(|kernel| &kernel.how);
            let how = how.map_or("", String::as_str);
            let shape = format!("{from:10} {rows:5} x {depth:4} x {columns:4}, {sparsity:4} of 1x{block:<2}");
            println!("{shape}: {dense:8.1} us {sparse:8.1} us {:5.2}  {how}", dense / sparse);
        }
    }
    Ok(())
}
