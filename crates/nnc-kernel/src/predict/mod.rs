//! How long each kernel of a program takes, predicted from its code and from a description of the processor.
//!
//! Pure: a function of the lowered program, of [`Machine`] and of a number of threads; nothing is measured. A launch
//! takes the time of its instructions ([`walk`], [`ports`]) or that of its data ([`reuse`]), whichever is longer, with
//! a part of the other that is not hidden, on as many threads as its tasks keep busy; and what waking threads and
//! waiting for them costs. (The bound is that of Williams, Waterman and Patterson, "Roofline", 2009; the division into
//! work in a core and transfers that of Stengel, Treibig, Hager and Wellein, "Quantifying Performance Bottlenecks of
//! Stencil Computations Using the Execution-Cache-Memory Model", 2015.)
//!
//! The choices of tiles, blocks and algorithms while lowering have costs of their own, relative ones in fewer terms:
//! they are made before there is code to be counted.

mod machine;
mod ports;
mod reuse;
mod walk;

pub use machine::Machine;
pub use reuse::Traffic;

use crate::plan::Lowered;
use crate::program::{Loop, Program};
use walk::{Touched, Work};

/// Chunks of tasks that the pool makes for each thread.
const CHUNKS: f64 = 16.0;

/// What a prediction is mostly made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// Instructions.
    Arithmetic,
    /// Data from and to the caches.
    Cache,
    /// Data from and to memory.
    Memory,
    /// Launching, and waiting for threads.
    Launch,
}

impl Bound {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arithmetic => "arithmetic",
            Self::Cache => "cache",
            Self::Memory => "memory",
            Self::Launch => "launch",
        }
    }
}

/// A launch as it is predicted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Prediction {
    /// Seconds of one launch.
    pub seconds: f64,
    /// What most of them go to.
    pub bound: Bound,
    /// Seconds that its instructions would take by themselves, on the threads that it keeps busy.
    pub instructions: f64,
    /// As much of its data.
    pub data: f64,
    /// The bytes that it moves, by where they lie.
    pub traffic: Traffic,
    /// Operations a second, in 10^9.
    pub gflops: f64,
}

/// What each launch of a program takes on so many threads, in runs that follow one another; those that prepare, too.
pub fn predict(lowered: &Lowered, machine: &Machine, threads: usize) -> Vec<Prediction> {
    let program = &lowered.program;
    let works: Vec<Vec<Work>> = program
        .kernels
        .iter()
        .map(|kernel| {
            kernel.phases.iter().map(|phase| walk::work(phase, kernel.params.len(), machine)).collect::<Vec<_>>()
        })
        .collect();
    let of = |launch: usize| &works[program.launches[launch].kernel as usize];
    let touched: Vec<Vec<Touched>> = (0..program.launches.len()).map(|launch| summed(of(launch))).collect();
    let traffic = reuse::traffic(lowered, &touched, machine, threads);
    let launches = program.launches.iter().enumerate();
    launches
        .map(|(at, launch)| {
            let company = Company::of(program, at);
            let threads = if launch.serial && company == Company::Nobody { 1 } else { threads };
            prediction(of(at), company, traffic[at], lowered.report[at].flops, (machine, threads))
        })
        .collect()
}

/// Whether a launch runs side by side with others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Company {
    Nobody,
    /// It is the first of them; the others are not launched by themselves.
    First,
    Other,
}

impl Company {
    fn of(program: &Program, launch: usize) -> Self {
        match program.abreast.iter().find(|together| together.contains(&launch)) {
            None => Self::Nobody,
            Some(together) if together.start == launch => Self::First,
            Some(_) => Self::Other,
        }
    }
}

/// Seconds of a run, of launches that are predicted so. Stages of a loop run at the same time, in groups of neighbours
/// for each thread, so such a loop takes as long as the slowest group, and the others for one step.
pub fn run_seconds(lowered: &Lowered, predictions: &[Prediction], threads: usize) -> f64 {
    let program = &lowered.program;
    let (mut seconds, mut staged) = (0.0, vec![]);
    for each in program.loops.iter().filter(|each| !each.stages.is_empty()) {
        let count = each.stage_count() as usize;
        staged.push((each, vec![0.0; threads.clamp(1, count)]));
    }
    for (at, (kernel, prediction)) in lowered.report.iter().zip(predictions).enumerate() {
        let own = kernel.runs as f64 * prediction.seconds;
        match staged.iter_mut().find(|(each, _)| each.launches.contains(&at)) {
            Some((each, groups)) => {
                let stage = each.stages[at - each.launches.start] as usize;
                let group = stage * groups.len() / each.stage_count() as usize;
                groups[group] += own;
            }
            None => seconds += own,
        }
    }
    let of_loop = |(each, groups): &(&Loop, Vec<f64>)| {
        let longest = groups.iter().copied().fold(0.0, f64::max);
        longest + (groups.iter().sum::<f64>() - longest) / each.steps as f64
    };
    seconds + staged.iter().map(of_loop).sum::<f64>()
}

/// The bytes of each parameter over all phases.
fn summed(phases: &[Work]) -> Vec<Touched> {
    let params = phases.first().map_or(0, |work| work.touched.len());
    let of = |param: usize| phases.iter().fold(Touched::default(), |sum, work| sum.plus(work.touched[param], 1.0));
    (0..params).map(of).collect()
}

fn prediction(
    phases: &[Work],
    company: Company,
    traffic: Traffic,
    flops: u64,
    (machine, threads): (&Machine, usize),
) -> Prediction {
    let work = |work: &Work| match company {
        Company::Nobody => on_threads(work, machine, threads),
        Company::First | Company::Other => work.cycles / threads as f64,
    };
    let work: f64 = phases.iter().map(work).sum();
    let is_called = threads > 1 && company != Company::Other;
    let waits = if is_called { machine.barrier * phases.len() as f64 } else { 0.0 };
    let fetched: f64 = traffic.fetched.iter().zip(&machine.latencies).map(|(count, cycles)| count * cycles).sum();
    let overhead = machine.launch + waits + fetched;
    let most = match company {
        Company::Nobody => phases.iter().map(|work| work.tasks).max().unwrap_or(1),
        Company::First | Company::Other => u64::MAX,
    };
    let busy = threads.min(most.try_into().unwrap_or(threads)).max(1);
    let shared = (traffic.shared + traffic.lost[0]) / machine.shared_cache_rate;
    let cached = (traffic.second / machine.second_cache_rate + shared) / busy as f64;
    let memory = (traffic.memory + traffic.lost[1]) / machine.memory_rate(busy) * machine.hertz;
    let moved = cached + memory;
    let (longer, shorter) = if work > moved { (work, moved) } else { (moved, work) };
    let cycles = longer + machine.unhidden * shorter + overhead;
    let bound = match () {
        () if overhead > longer => Bound::Launch,
        () if work > moved => Bound::Arithmetic,
        () if memory > cached => Bound::Memory,
        () => Bound::Cache,
    };
    let seconds = cycles / machine.hertz;
    let (instructions, data) = (work / machine.hertz, moved / machine.hertz);
    Prediction { seconds, bound, instructions, data, traffic, gflops: flops as f64 / seconds / 1e9 }
}

/// Cycles until the last of some threads is done with the tasks of a phase, which are handed out in chunks.
fn on_threads(work: &Work, machine: &Machine, threads: usize) -> f64 {
    let (tasks, threads) = (work.tasks.max(1) as f64, threads as f64);
    if threads <= 1.0 || tasks <= 1.0 {
        return work.cycles;
    }
    let chunk = (tasks / (threads * CHUNKS)).ceil();
    let rounds = ((tasks / chunk).ceil() / threads).ceil();
    let longest = (rounds * chunk).min(tasks) * work.cycles / tasks;
    longest + rounds * machine.chunk
}
