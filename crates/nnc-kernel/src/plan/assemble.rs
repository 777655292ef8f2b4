//! The finished program: equal kernels once, addresses, and the report.

use super::{External, KernelReport, Lowered, arena};
use crate::ir::Kernel;
use crate::lower::{Buffer, LowerError, Pending};
use crate::program::{ArgRef, Launch, Program};
use nnc_opt::fuse::Partition;

/// Below so many operations a launch runs on the calling thread: waking others would take longer.
const SERIAL_WORK: usize = 1 << 16;

/// Gives buffers their addresses and shares equal kernels.
pub fn assemble(
    partition: &Partition,
    pending: Vec<Pending>,
    buffers: Vec<Buffer>,
    externals: Vec<External>,
) -> Result<Lowered, LowerError> {
    let arena = arena::place(&pending, &buffers);
    let mut program = Program::default();
    let mut report = Vec::new();
    for launch in pending {
        report.push(describe(partition, &launch, &buffers));
        let mut args = Vec::new();
        for (buffer, _) in &launch.args {
            args.push(match buffers[buffer.index()].external {
                Some(external) => ArgRef { buffer: 1 + external as u32, offset: 0 },
                None => {
                    let offset = arena.offsets[buffer.index()];
                    ArgRef {
                        buffer: 0,
                        offset: offset.ok_or_else(|| LowerError::bug("a buffer without a place"))? as u64,
                    }
                }
            });
        }
        let tasks: u64 = launch.kernel.phases.iter().map(|phase| phase.tasks).max().unwrap_or(0);
        let serial = tasks <= 1 || launch.work < SERIAL_WORK;
        let kernel = enter(&mut program.kernels, launch.kernel);
        program.launches.push(Launch { kernel, args, serial });
    }
    let scratch_bytes = program.scratch_bytes() as usize;
    Ok(Lowered { program, arena_bytes: arena.bytes, scratch_bytes, externals, report })
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
        nodes: launch.group.map(|at| partition.groups[at].nodes.clone()).unwrap_or_default(),
        flops: launch.flops as u64,
        bytes: used.iter().map(|buffer| buffers[buffer.index()].bytes as u64).sum(),
        schedule: format!("{} tasks, {} bytes of scratch", each.join(" + "), launch.kernel.scratch),
        tasks,
    }
}
