//! Times the programs of several files kernel by kernel, in turns: `shapes [--threads 2] [--rounds 30] [--lines]
//! FILE.nn...`
//!
//! Prints for each file the least seconds of a run and of each launch, which other work on the machine disturbs least,
//! and the GFLOP/s that come of it. The program is the file's answer, or its model by itself, on made-up input.

use nnc_driver::session::initial_store;
use nnc_driver::stage::{self, Which};
use nnc_driver::store::Store;
use nnc_driver::{CompiledGraph, Compiler, Engine, Project};
use nnc_lang::elaborate::Options;
use nnc_opt::pipeline;
use nnc_runtime::Pool;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Seconds between two looks at the clock, at least, when whole runs are timed.
const BETWEEN_CLOCKS: f64 = 2e-5;

struct Case {
    name: String,
    program: CompiledGraph,
    timed: CompiledGraph,
    store: Store,
    whole: f64,
    launches: Vec<f64>,
}

impl Case {
    fn new(file: &str, compiler: &Compiler) -> Result<Self, Box<dyn Error>> {
        let project = Project::load(Path::new(file), &Options::default())?;
        let graph = stage::graph(&project, None, Which::Answer, None)?;
        let init = stage::graph(&project, None, Which::Init, None)?;
        let store = initial_store(compiler, &init, 0)?;
        let mut program = compiler.compile(&graph)?;
        let mut timed = compiler.compile_to_measure(&graph)?;
        fill(&mut program);
        fill(&mut timed);
        let launches = timed.lowered().map_or(0, |lowered| lowered.report.len());
        let name = Path::new(file).file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned());
        Ok(Self { name, program, timed, store, whole: f64::INFINITY, launches: vec![f64::INFINITY; launches] })
    }

    fn round(&mut self, repeats: usize) -> Result<(), Box<dyn Error>> {
        // So many between two looks at the clock that these do not count.
        let together = ((BETWEEN_CLOCKS / self.whole) as u32).clamp(1, 1000);
        for _ in 0..repeats {
            let started = Instant::now();
            for _ in 0..together {
                self.program.run(&mut self.store)?;
            }
            self.whole = self.whole.min(started.elapsed().as_secs_f64() / f64::from(together));
        }
        for _ in 0..repeats {
            let times = self.timed.run_timed(&mut self.store)?;
            for (least, time) in self.launches.iter_mut().zip(times) {
                *least = least.min(time.as_secs_f64());
            }
        }
        Ok(())
    }

    fn print(&self, lines: bool) {
        let Some(lowered) = self.timed.lowered() else { return };
        let flops: u64 = lowered.report.iter().map(|kernel| kernel.flops).sum();
        let sum: f64 = self.launches.iter().sum();
        let compile = self.program.compile_time.as_secs_f64() * 1e3;
        println!(
            "{:12} {:9.2} us  {:6.1} GFLOP/s  launches {:9.2} us in {:3}, compiled in {compile:.1} ms, arena {} kB",
            self.name,
            self.whole * 1e6,
            flops as f64 / self.whole / 1e9,
            sum * 1e6,
            self.launches.len(),
            self.program.arena_bytes() >> 10
        );
        if lines {
            for (kernel, &time) in lowered.report.iter().zip(&self.launches) {
                let name = kernel
                    .nodes
                    .iter()
                    .map(|&id| self.timed.graph.node(id))
                    .find(|node| matches!(node.op.name(), "conv" | "dot" | "window" | "reduce"));
                let shape = name.map_or(String::new(), |node| {
                    let ty = |&value: &_| self.timed.graph.ty(value).to_string();
                    let operands: Vec<String> = node.operands.iter().map(ty).collect();
                    format!("{} -> {}", operands.join(" "), ty(&node.results[0]))
                });
                println!(
                    "    {:9.1} us {:5.1} % {:6.1} GFLOP/s {:6.1} GB/s {:8} {} {}",
                    time * 1e6,
                    100.0 * time / sum,
                    kernel.flops as f64 / time / 1e9,
                    kernel.bytes as f64 / time / 1e9,
                    kernel.name,
                    kernel.schedule,
                    shape
                );
            }
        }
    }
}

fn fill(program: &mut CompiledGraph) {
    let names: Vec<(String, bool)> =
        program.inputs().map(|(name, ty)| (name.to_owned(), ty.dtype.size() == 4 && ty.dtype.is_float())).collect();
    for (name, float) in names {
        let Some(bytes) = program.input_mut(&name).filter(|_| float) else { continue };
        for (at, number) in bytes.chunks_exact_mut(4).enumerate() {
            let value = (at as f32 * 0.618_034).fract() - 0.5;
            number.copy_from_slice(&value.to_le_bytes());
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut threads, mut rounds, mut lines, mut files) = (2, 10, false, vec![]);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--threads" => threads = words.next().ok_or("a number")?.parse()?,
            "--rounds" => rounds = words.next().ok_or("a number")?.parse()?,
            "--lines" => lines = true,
            _ => files.push(word),
        }
    }
    let threads = NonZeroUsize::new(threads).ok_or("at least one thread")?;
    let pool = Arc::new(Pool::with_limit(Some(threads))?);
    let compiler = Compiler { engine: Engine::host(), pool, passes: pipeline::Options::default(), tuning: None };
    let mut cases = vec![];
    for file in &files {
        cases.push(Case::new(file, &compiler).map_err(|error| format!("{file}: {error}"))?);
    }
    for case in &mut cases {
        case.round(2)?;
    }
    for _ in 0..rounds {
        for case in &mut cases {
            let repeats = ((4e-3 / case.whole) as usize).clamp(1, 200);
            case.round(repeats)?;
        }
    }
    for case in &cases {
        case.print(lines);
    }
    Ok(())
}
