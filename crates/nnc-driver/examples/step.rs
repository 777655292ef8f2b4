//! Times training steps on request, for `benches/compare.py`.
//!
//! `step FILE.nn [--batch 64] [--threads 2] [--no-fuse] [--reference FOLDER]` compiles the file's recipe, fills batches
//! with made-up data of the declared types (no data file is read), warms up, and prints one line `ready COMPILE_SECONDS
//! FLOPS BYTES`: the operations of a step, and the bytes of weights, states and inputs that it cannot help but read or
//! write. Then each line `K` on stdin runs K steps and prints the seconds of each on one line. A step here is a step of
//! a training run: the copy of the batch into the program's inputs is part of it, reading and decoding files is not.
//!
//! With `--reference` the weights start as `weights.safetensors` of that folder has them, the first steps are on the
//! batch that its data files hold, and the line `ready` ends with their losses.
//!
//! With `--kernels` it prints, instead, a line `KERNEL FLOPS BYTES NAME` for each launch of the step, for
//! `benches/hot_kernels.py`.

use nnc_data::{Batch, Batches};
use nnc_driver::checkpoint;
use nnc_driver::dataset::{Dataset, Wanted};
use nnc_driver::learned::Learned;
use nnc_driver::session::{Moment, Step};
use nnc_driver::{Compiler, Engine, Project, Session};
use nnc_graph::{DType, Tensor, TensorType};
use nnc_kernel::{Access, Lowered};
use nnc_lang::elaborate::{DataInfo, Options};
use nnc_opt::{fuse::FuseOptions, pipeline};
use nnc_runtime::Pool;
use std::error::Error;
use std::io::{BufRead, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const USAGE: &str = "usage: step FILE.nn [--batch 64] [--threads 2] [--no-fuse] [--kernels] [--reference FOLDER]";
/// Steps before the first measured one.
const WARM_UP: usize = 5;
/// Different batches, so that no step finds its input in the cache for being the one before.
const BATCHES: u64 = 8;
/// Steps on the batch of a reference.
const REFERENCE_STEPS: usize = 3;

struct Arguments {
    file: PathBuf,
    batch: usize,
    threads: NonZeroUsize,
    fuse: FuseOptions,
    kernels: bool,
    reference: Option<PathBuf>,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let (mut file, mut reference, mut batch, mut threads) = (None, None, 64, 2);
    let (mut fuse, mut kernels) = (FuseOptions::ALL, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--batch" => batch = words.next().ok_or(USAGE)?.parse()?,
            "--threads" => threads = words.next().ok_or(USAGE)?.parse()?,
            "--no-fuse" => fuse = FuseOptions::NONE,
            "--kernels" => kernels = true,
            "--reference" => reference = Some(PathBuf::from(words.next().ok_or(USAGE)?)),
            path => file = Some(PathBuf::from(path)),
        }
    }
    let threads = NonZeroUsize::new(threads).ok_or(USAGE)?;
    Ok(Arguments { file: file.ok_or(USAGE)?, batch, threads, fuse, kernels, reference })
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments()?;
    let project = Project::load(&arguments.file, &Options::default())?;
    let recipe = project.recipe(None)?.name.clone();
    let passes = pipeline::Options { fuse: arguments.fuse, ..pipeline::Options::default() };
    let pool = Arc::new(Pool::with_limit(Some(arguments.threads))?);
    let mut session =
        Session::new(&project, &recipe, Compiler { engine: Engine::host(), pool, passes, tuning: None }, 0)?;
    let batches: Vec<Batch> = (0..BATCHES).map(|number| made_up(session.data(), arguments.batch, number)).collect();
    let compile_time = session.training_program(arguments.batch)?.compile_time;
    if arguments.kernels {
        return print_kernels(&mut session, arguments.batch);
    }
    let mut iteration = 0;
    let losses = match &arguments.reference {
        Some(folder) => losses(&mut session, folder, (arguments.batch, &mut iteration))?,
        None => Vec::new(),
    };
    run(&mut session, &batches, &mut iteration, WARM_UP)?;
    let lowered = session.training_program(arguments.batch)?.lowered().ok_or("the program is not native")?;
    let losses: String = losses.iter().map(|loss| format!(" {loss}")).collect();
    println!("ready {} {} {}{losses}", compile_time.as_secs_f64(), flops(lowered), bytes(lowered));
    for line in std::io::stdin().lock().lines() {
        let seconds = run(&mut session, &batches, &mut iteration, line?.trim().parse()?)?;
        let words: Vec<String> = seconds.iter().map(f64::to_string).collect();
        println!("{}", words.join(" "));
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// The losses of the first steps from the weights and on the batch of a folder.
fn losses(
    session: &mut Session<'_>,
    folder: &Path,
    (rows, iteration): (usize, &mut i64),
) -> Result<Vec<f64>, Box<dyn Error>> {
    let weights = folder.join("weights.safetensors");
    session.load_exactly(&weights, &checkpoint::load(&weights)?)?;
    let part = Dataset::open(session.data(), folder, 0, Wanted::All, &Learned::default())?.train;
    let mut batches = Batches::new(part.table, part.rows, rows, 0)?;
    let batch = batches.next_batch()?.ok_or("the reference has no examples")?;
    let mut losses = Vec::new();
    for _ in 0..REFERENCE_STEPS {
        let moment = Moment { iteration: *iteration, iterations: i64::MAX, epoch: 0 };
        match session.step(batch, moment)? {
            Step::Done(metrics) => losses.push(metrics.first().ok_or("the step has no loss")?.1),
            Step::Withheld { loss, .. } => return Err(format!("a step was withheld: its loss is {loss}").into()),
        }
        *iteration += 1;
    }
    Ok(losses)
}

fn flops(lowered: &Lowered) -> u64 {
    lowered.report.iter().map(|kernel| kernel.flops * kernel.runs).sum()
}

/// What is read or written counts once, what is both twice.
fn bytes(lowered: &Lowered) -> usize {
    let once_or_twice = |access: Access| match access {
        Access::Read | Access::Write => 1,
        Access::ReadWrite => 2,
    };
    lowered.externals.iter().map(|external| external.bytes * once_or_twice(external.access)).sum()
}

fn print_kernels(session: &mut Session<'_>, rows: usize) -> Result<(), Box<dyn Error>> {
    let lowered = session.training_program(rows)?.lowered().ok_or("the program is not native")?;
    for (launch, report) in lowered.program.launches.iter().zip(&lowered.report) {
        println!("{} {} {} {}", launch.kernel, report.flops * report.runs, report.bytes * report.runs, report.name);
    }
    Ok(())
}

/// The seconds of each of `steps` steps.
fn run(
    session: &mut Session<'_>,
    batches: &[Batch],
    iteration: &mut i64,
    steps: usize,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut seconds = Vec::with_capacity(steps);
    for _ in 0..steps {
        let batch = &batches[*iteration as usize % batches.len()];
        let moment = Moment { iteration: *iteration, iterations: i64::MAX, epoch: 0 };
        let started = Instant::now();
        let step = session.step(batch, moment)?;
        seconds.push(started.elapsed().as_secs_f64());
        *iteration += 1;
        if let Step::Withheld { loss, .. } = step {
            return Err(format!("step {iteration} was withheld: its loss is {loss}").into());
        }
    }
    Ok(seconds)
}

/// A batch of the declared raw types: floats are uniform in -1..1, bytes in an array 0..256, and a whole number that
/// stands alone is a class (of the declared classes, or of 10).
fn made_up(data: &DataInfo, rows: usize, number: u64) -> Batch {
    let classes = data.classes.as_ref().map_or(10, Vec::len) as f64;
    let mut state = number.wrapping_add(1);
    let mut uniform = || splitmix(&mut state) as f64 / u64::MAX as f64;
    let mut field = |ty: &TensorType| {
        let sizes = ty.shape.sizes();
        let count = rows * sizes.iter().product::<usize>();
        let draw = |uniform: f64| match ty.dtype {
            DType::F32 | DType::F16 | DType::Bf16 | DType::F64 => 2.0 * uniform - 1.0,
            DType::Bool => (2.0 * uniform).floor().min(1.0),
            DType::I8 | DType::U8 | DType::I16 | DType::I32 | DType::I64 if sizes.is_empty() => {
                (classes * uniform).floor().min(classes - 1.0)
            }
            DType::U8 => (256.0 * uniform).floor().min(255.0),
            DType::I8 | DType::I16 | DType::I32 | DType::I64 => (128.0 * uniform).floor().min(127.0),
        };
        let values: Vec<f64> = (0..count).map(|_| draw(uniform())).collect();
        Tensor::from_f64(ty.dtype, &[count], &values).bytes().to_vec()
    };
    let fields = data.raw.iter().map(|raw| field(&raw.ty)).collect();
    Batch::new((0..rows as u64).collect(), fields)
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
