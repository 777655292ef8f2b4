//! A lowered program on the kernel interpreter: what compiled code must give, bit for bit.

use super::{Access, External, Lowered, Role};
use crate::ir::interpret::{Fault, run as run_program};
use nnc_graph::Tensor;
use std::collections::BTreeMap;
use std::fmt;

/// Why a program could not be run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RunError {
    /// An input, parameter or state was not given, or has another type.
    Given(String),
    /// A kernel broke the rules: a compiler bug.
    Fault(Fault),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(what) => f.write_str(what),
            Self::Fault(fault) => write!(f, "compiler bug: {fault}"),
        }
    }
}

impl std::error::Error for RunError {}

/// What a run leaves.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Finished {
    /// Results, by name.
    pub outputs: BTreeMap<String, Tensor>,
    /// Parameters and states that the program writes, by path.
    pub updated: BTreeMap<String, Tensor>,
    /// The status memory; all 0 when every index was in range.
    pub status: [i32; 4],
}

/// Runs a program on inputs, parameters and states by name or path.
///
/// # Errors
/// Something missing among `given`, or a fault of a kernel.
pub fn run(lowered: &Lowered, given: &BTreeMap<String, Tensor>) -> Result<Finished, RunError> {
    let mut buffers = vec![vec![0x5a; lowered.arena_bytes]];
    for external in &lowered.externals {
        buffers.push(initial(external, given)?);
    }
    run_program(&lowered.program, &mut buffers).map_err(RunError::Fault)?;
    Ok(collect(lowered, &buffers))
}

/// The bytes of an external before a run.
///
/// # Errors
/// If it should have been given.
pub fn initial(external: &External, given: &BTreeMap<String, Tensor>) -> Result<Vec<u8>, RunError> {
    match &external.role {
        Role::Constant(tensor) => Ok(tensor.bytes().to_vec()),
        Role::Output(_) | Role::Status => Ok(vec![0; external.bytes]),
        Role::Input(name) | Role::Param(name) | Role::State(name) => match given.get(name) {
            Some(tensor) if tensor.ty() == external.ty => Ok(tensor.bytes().to_vec()),
            Some(tensor) => Err(RunError::Given(format!("`{name}` is {}, not {}", tensor.ty(), external.ty))),
            None => Err(RunError::Given(format!("`{name}` was not given"))),
        },
    }
}

/// What the buffers hold after a run.
pub fn collect(lowered: &Lowered, buffers: &[Vec<u8>]) -> Finished {
    let mut finished = Finished::default();
    for (external, bytes) in lowered.externals.iter().zip(&buffers[1..]) {
        let tensor = || Tensor::from_bytes(external.ty.dtype, &external.ty.shape.sizes(), bytes.clone());
        match (&external.role, external.access) {
            (Role::Output(name), _) => {
                finished.outputs.extend(tensor().map(|tensor| (name.clone(), tensor)));
            }
            (Role::Param(path) | Role::State(path), Access::ReadWrite | Access::Write) => {
                finished.updated.extend(tensor().map(|tensor| (path.clone(), tensor)));
            }
            (Role::Status, _) => {
                for (word, bytes) in finished.status.iter_mut().zip(bytes.chunks_exact(4)) {
                    *word = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
            (Role::Input(_) | Role::Constant(_) | Role::Param(_) | Role::State(_), _) => {}
        }
    }
    finished
}
