//! The record of what was kept: for an axis of a parameter or state that lost channels, which of those that the model
//! declares are still there.
//!
//! In a file of weights it is a bool tensor at [`kept_path`], with an element for each declared channel.

use super::super::PREFIX;
use nnc_graph::{DType, Tensor};
use std::collections::BTreeMap;

/// For each parameter and state that lost channels, by path, and each such axis, which channels are kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    axes: BTreeMap<String, BTreeMap<usize, Vec<bool>>>,
}

/// What stands between a parameter's path and the number of its axis.
const INFIX: &str = ".channels.";

/// Where the record of an axis of a parameter or state lies.
pub fn kept_path(resident: &str, axis: usize) -> String {
    format!("{PREFIX}{resident}{INFIX}{axis}")
}

/// The parameter or state, and the axis, whose record lies at a path.
pub fn recorded_axis(path: &str) -> Option<(&str, usize)> {
    let (resident, axis) = path.strip_prefix(PREFIX)?.rsplit_once(INFIX)?;
    Some((resident, axis.parse().ok()?))
}

impl Record {
    /// Notes which channels of an axis are kept, if some are not.
    pub fn insert(&mut self, resident: &str, axis: usize, kept: Vec<bool>) {
        if !kept.iter().all(|&kept| kept) {
            self.axes.entry(resident.to_owned()).or_default().insert(axis, kept);
        }
    }

    /// Whether nothing was removed.
    pub fn is_empty(&self) -> bool {
        self.axes.is_empty()
    }

    /// Which channels are kept of each axis that lost some.
    pub fn of(&self, resident: &str) -> impl Iterator<Item = (usize, &[bool])> {
        self.axes.get(resident).into_iter().flatten().map(|(&axis, kept)| (axis, kept.as_slice()))
    }

    /// Every axis that lost channels, in the order of paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize, &[bool])> {
        let of = |(resident, axes)| -> Vec<(&str, usize, &[bool])> {
            let resident: &String = resident;
            let axes: &BTreeMap<usize, Vec<bool>> = axes;
            axes.iter().map(|(&axis, kept)| (resident.as_str(), axis, kept.as_slice())).collect()
        };
        self.axes.iter().flat_map(of)
    }

    /// The records among the tensors of a file.
    ///
    /// # Errors
    /// What is wrong with one, in words: it is no list of bools, keeps nothing, or does not fit the tensor that it is
    /// for.
    pub fn of_tensors(tensors: &BTreeMap<String, Tensor>) -> Result<Self, String> {
        let mut record = Self::default();
        for (path, tensor) in tensors {
            let Some((resident, axis)) = recorded_axis(path) else { continue };
            let kept: Vec<bool> = tensor.bytes().iter().map(|&byte| byte != 0).collect();
            let count = kept.iter().filter(|&&kept| kept).count();
            if tensor.dtype() != DType::Bool || tensor.dims().len() != 1 || count == 0 {
                return Err(format!("`{path}` is {}, which does not say what was kept of `{resident}`", tensor.ty()));
            }
            if let Some(found) = tensors.get(resident)
                && found.dims().get(axis) != Some(&count)
            {
                let found = found.ty();
                return Err(format!("`{path}` keeps {count} of axis {axis} of `{resident}`, which is {found}"));
            }
            record.insert(resident, axis, kept);
        }
        Ok(record)
    }

    /// The tensors that tell this in a file, by path.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Tensor)> {
        self.iter().map(|(resident, axis, kept)| {
            let bytes: Vec<u8> = kept.iter().map(|&kept| u8::from(kept)).collect();
            let tensor = Tensor::from_bytes(DType::Bool, &[kept.len()], bytes).expect("a byte for each channel");
            (kept_path(resident, axis), tensor)
        })
    }
}

/// A tensor without what is not kept of an axis, of which `kept` has an element for each position.
pub fn without(tensor: &Tensor, axis: usize, kept: &[bool]) -> Tensor {
    let inner = tensor.dims()[axis + 1..].iter().product::<usize>() * tensor.dtype().size();
    let mut dims = tensor.dims().to_vec();
    dims[axis] = kept.iter().filter(|&&kept| kept).count();
    let runs = tensor.bytes().chunks_exact(inner).zip(kept.iter().cycle());
    let bytes: Vec<u8> = runs.filter(|(_, kept)| **kept).flat_map(|(run, _)| run).copied().collect();
    Tensor::from_bytes(tensor.dtype(), &dims, bytes).expect("a run for each position that is kept")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_of_an_axis_is_left_out() {
        let tensor = Tensor::from_f64(DType::F32, &[2, 3], &[1., 2., 3., 4., 5., 6.]);
        assert_eq!(without(&tensor, 1, &[true, false, true]).to_f64(), [1., 3., 4., 6.]);
        assert_eq!(without(&tensor, 0, &[false, true]).dims(), [1, 3]);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut record = Record::default();
        record.insert("a.b.w", 1, vec![true, false, true]);
        record.insert("a.b.w", 0, vec![true, true]);
        let mut tensors: BTreeMap<String, Tensor> = record.tensors().collect();
        assert_eq!(tensors.keys().collect::<Vec<_>>(), ["$prune.a.b.w.channels.1"]);
        tensors.insert("a.b.w".to_owned(), Tensor::from_f64(DType::F32, &[2, 2], &[0.; 4]));
        assert_eq!(Record::of_tensors(&tensors), Ok(record));
        tensors.insert("a.b.w".to_owned(), Tensor::from_f64(DType::F32, &[2, 3], &[0.; 6]));
        let wrong = Record::of_tensors(&tensors).unwrap_err();
        assert_eq!(wrong, "`$prune.a.b.w.channels.1` keeps 2 of axis 1 of `a.b.w`, which is f32[2, 3]");
    }
}
