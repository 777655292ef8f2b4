//! From buffers that are kept by name to the list that a program wants, without an allocation.
//!
//! Both sides are sorted by name, so that one walk along both finds every buffer.

use crate::compiled::RunError;
use nnc_kernel::Role;
use nnc_kernel::plan::External;
use nnc_runtime::{AlignedBuffer, ExternalBuffer};

/// Which external each buffer is, by name and sorted.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) inputs: Vec<(String, usize)>,
    pub(crate) outputs: Vec<(String, usize)>,
    pub(crate) residents: Vec<(String, usize)>,
}

impl Places {
    /// Of a program.
    pub(crate) fn new(externals: &[External]) -> Self {
        let sorted = |name_of: fn(&Role) -> Option<&String>| {
            let named = externals.iter().enumerate();
            let named = named.filter_map(|(at, external)| Some((name_of(&external.role)?.clone(), at)));
            let mut named: Vec<(String, usize)> = named.collect();
            named.sort_unstable();
            named
        };
        Self { inputs: sorted(input), outputs: sorted(output), residents: sorted(resident) }
    }
}

fn input(role: &Role) -> Option<&String> {
    match role {
        Role::Input(name) => Some(name),
        Role::Param(_) | Role::State(_) | Role::Output(_) | Role::Constant(_) | Role::Status => None,
    }
}

fn output(role: &Role) -> Option<&String> {
    match role {
        Role::Output(name) => Some(name),
        Role::Input(_) | Role::Param(_) | Role::State(_) | Role::Constant(_) | Role::Status => None,
    }
}

fn resident(role: &Role) -> Option<&String> {
    match role {
        Role::Param(path) | Role::State(path) => Some(path),
        Role::Input(_) | Role::Output(_) | Role::Constant(_) | Role::Status => None,
    }
}

/// Puts buffers, sorted by name, where a program wants them; some may not be wanted.
pub(crate) fn put<'b>(
    externals: &mut [ExternalBuffer<'b>],
    places: &[(String, usize)],
    mut buffers: impl Iterator<Item = (&'b str, &'b mut AlignedBuffer)>,
) -> Result<(), RunError> {
    for (name, at) in places {
        let found = buffers.find(|(there, _)| *there >= name.as_str()).filter(|(there, _)| there == name);
        let (_, buffer) = found.ok_or_else(|| RunError::NotResident(name.clone()))?;
        externals[*at] = buffer.into();
    }
    Ok(())
}

/// An empty list in the memory of another.
pub(crate) fn emptied(mut list: Vec<ExternalBuffer<'_>>) -> Vec<ExternalBuffer<'static>> {
    list.clear();
    list.into_iter().map(|_| ExternalBuffer::Exclusive(&mut [])).collect()
}
