//! The finished program: equal kernels once, addresses, and the report.

use super::arena::{ALIGNMENT, Arena};
use super::{
    ArenaBuffer, External, KernelReport, Line, Lowered, Peak, Repeat, abreast, arena, made, reuse, shared, stages,
};
use crate::ir::Kernel;
use crate::lower::{Buffer, BufferId, Home, LowerError, Pending};
use crate::program::{ArgRef, Launch, Loop, Program, Stride};
use nnc_graph::NodeId;
use nnc_opt::fuse::Partition;
use std::ops::Range;

/// Below so many operations a launch runs on the calling thread: waking others would take longer.
pub const SERIAL_WORK: usize = 1 << 16;

/// Gives buffers their addresses and shares equal kernels.
pub fn assemble(
    partition: &Partition,
    mut line: Line,
    mut buffers: Vec<Buffer>,
    externals: Vec<External>,
) -> Result<Lowered, LowerError> {
    shared::merge(&mut line, &mut buffers);
    let mut program = Program { prepare: line.prepare.len(), ..Program::default() };
    prepend(&mut line);
    made::check(&line, &buffers, &externals)?;
    stages::find(&mut line, &buffers);
    program.abreast = abreast::arrange(&mut line, &buffers, program.prepare);
    let arena = arena::place(&line, &buffers, program.prepare, &program.abreast);
    for Repeat { launches, steps, reverse, index, stages } in line.loops {
        let index = index.map(|index| address(index, &buffers, &arena)).transpose()?;
        program.loops.push(Loop { launches, steps, reverse, index, stages });
    }
    let touched: Vec<_> =
        line.launches[..program.prepare].iter().map(|launch| touched(launch, &buffers, &arena)).collect();
    let mut report = Vec::new();
    for (at, launch) in line.launches.into_iter().enumerate() {
        report.push(describe(partition, &launch, &buffers));
        let args = launch.args.iter().map(|&(buffer, _)| address(buffer, &buffers, &arena));
        let args = args.collect::<Result<_, _>>()?;
        let tasks: u64 = launch.kernel.phases.iter().map(|phase| phase.tasks).max().unwrap_or(0);
        let serial = program.stage(at).is_some() || tasks <= 1 || launch.work < SERIAL_WORK;
        let work = launch.work.max(1) as u64;
        let kernel = enter(&mut program.kernels, launch.kernel);
        program.launches.push(Launch { kernel, args, serial, work });
    }
    let sizes: Vec<usize> = externals.iter().map(|external| external.bytes).collect();
    let (spent, arena_bytes) = (program.spent(), arena.bytes);
    program.reused =
        reuse::find(&reuse::Facts { touched: &touched, spent: &spent, externals: &sizes, arena: arena_bytes });
    for (at, (kernel, runs)) in report.iter_mut().zip(program.runs()).enumerate() {
        kernel.runs = runs;
        let company = program.abreast.iter().find(|launches| launches.contains(&at));
        let stage = program.stage(at).map(|(stage, stages)| format!("stage {} of {stages}", stage + 1));
        let told = company.map(|launches| format!("side by side, launches {} to {}", launches.start + 1, launches.end));
        let all = [Some(std::mem::take(&mut kernel.how)).filter(|how| !how.is_empty()), stage, told];
        kernel.how = all.into_iter().flatten().collect::<Vec<String>>().join("; ");
    }
    let scratch_bytes = program.scratch_bytes() as usize;
    let in_arena = arena.live.iter().map(|(buffer, needed)| {
        let Buffer { bytes, holds, .. } = buffers[buffer.index()].clone();
        ArenaBuffer { bytes: bytes.next_multiple_of(ALIGNMENT), holds, needed: needed.clone() }
    });
    let in_arena: Vec<ArenaBuffer> = in_arena.collect();
    let peak = Peak::of(&in_arena, report.len());
    Ok(Lowered { program, arena_bytes: arena.bytes, scratch_bytes, externals, report, in_arena, peak })
}

/// Puts the launches that prepare before the others.
fn prepend(line: &mut Line) {
    let first = line.prepare.len();
    line.launches.splice(..0, line.prepare.drain(..));
    for each in &mut line.loops {
        each.launches = each.launches.start + first..each.launches.end + first;
    }
}

/// Where a buffer is at run time.
fn address(buffer: BufferId, buffers: &[Buffer], arena: &Arena) -> Result<ArgRef, LowerError> {
    match buffers[buffer.index()].home {
        Home::External(external) => Ok(ArgRef::new(1 + external as u32, 0)),
        Home::Arena | Home::Lasting => {
            let offset = arena.offsets[buffer.index()].ok_or_else(|| LowerError::bug("a buffer without a place"))?;
            Ok(ArgRef::new(0, offset as u64))
        }
        Home::Row { of, start, stride, depth } => {
            let mut whole = address(of, buffers, arena)?;
            whole.offset += start;
            whole.strides.push(Stride { depth, bytes: stride });
            Ok(whole)
        }
        Home::Part { of, start } => {
            let mut whole = address(of, buffers, arena)?;
            whole.offset += start;
            Ok(whole)
        }
    }
}

/// The parts of the arena that a launch touches, in bytes.
fn touched(launch: &Pending, buffers: &[Buffer], arena: &Arena) -> Vec<Range<usize>> {
    let part = |&(buffer, _): &(BufferId, _)| {
        let root = arena::root(buffers, buffer).index();
        arena.offsets[root].map(|offset| offset..offset + buffers[root].bytes)
    };
    launch.args.iter().filter_map(part).collect()
}

/// The place of a kernel that does the same, entered when it is new.
fn enter(kernels: &mut Vec<Kernel>, kernel: Kernel) -> u32 {
    let known = kernels.iter().position(|other| other.same_code(&kernel));
    known.unwrap_or_else(|| {
        kernels.push(kernel);
        kernels.len() - 1
    }) as u32
}

fn describe(partition: &Partition, launch: &Pending, buffers: &[Buffer]) -> KernelReport {
    let mut used: Vec<_> = launch.args.iter().map(|(buffer, _)| *buffer).collect();
    used.sort_unstable();
    used.dedup();
    let tasks: Vec<u64> = launch.kernel.phases.iter().map(|phase| phase.tasks).collect();
    let each: Vec<String> = tasks.iter().map(u64::to_string).collect();
    KernelReport {
        name: launch.kernel.name.clone(),
        group: launch.group,
        scans: launch.scans.clone(),
        runs: 1,
        nodes: launch.group.map(|at| inner(partition, &launch.scans).groups[at].nodes.clone()).unwrap_or_default(),
        flops: launch.flops as u64,
        bytes: used.iter().map(|buffer| buffers[buffer.index()].bytes as u64).sum(),
        sizes: launch.args.iter().map(|(buffer, _)| buffers[buffer.index()].bytes as u64).collect(),
        how: launch.how.clone(),
        alternatives: launch.alternatives.clone(),
        schedule: format!("{} tasks, {} bytes of scratch", each.join(" + "), launch.kernel.scratch),
        tasks,
    }
}

/// The partition of the body of the last of some loops, each but the first within the one before.
fn inner<'p>(partition: &'p Partition, scans: &[NodeId]) -> &'p Partition {
    scans.iter().fold(partition, |partition, scan| {
        let group = partition.groups.iter().find(|group| group.nodes.contains(scan));
        group.and_then(|group| group.body.as_deref()).unwrap_or(partition)
    })
}
