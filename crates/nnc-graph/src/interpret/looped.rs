//! Loops: a scan runs its body once for each step.

use super::{InterpretError, run};
use crate::{NodeId, Scan, Tensor, TensorType};
use std::collections::BTreeMap;

/// The last carried values, and what the steps stacked.
pub(super) fn scan(scan: &Scan, id: NodeId, operands: &[&Tensor]) -> Result<Vec<Tensor>, InterpretError> {
    let Some(length) = scan.length.as_number().and_then(|length| usize::try_from(length).ok()) else {
        return Err(InterpretError::NotRunnable(format!("{id}: the number of steps is not bound")));
    };
    let (mut carried, rest): (Vec<Tensor>, _) =
        (operands[..scan.carries].iter().map(|&value| value.clone()).collect(), &operands[scan.carries..]);
    let (scanned, captured) = rest.split_at(scan.slices);
    let stacked_types: Vec<TensorType> = scan.stacked().iter().map(|&value| scan.body.ty(value).clone()).collect();
    let mut stacked: Vec<Vec<Tensor>> = vec![vec![]; stacked_types.len()];
    for round in 0..length {
        let step = if scan.reverse { length - 1 - round } else { round };
        let mut given = BTreeMap::from([("index".to_owned(), Tensor::scalar_i64(step as i64))]);
        let mut give = |word: &str, at: usize, value: Tensor| given.insert(format!("{word} {at}"), value);
        carried.drain(..).enumerate().for_each(|(at, value)| drop(give("carry", at, value)));
        scanned.iter().enumerate().for_each(|(at, value)| drop(give("slice", at, slice(value, step, length))));
        captured.iter().enumerate().for_each(|(at, &value)| drop(give("capture", at, value.clone())));
        let done = run(&scan.body, &given).map_err(|error| at_scan(error, id))?;
        carried.extend(scan.next().into_iter().map(|value| done.value(value).clone()));
        for (values, value) in stacked.iter_mut().zip(scan.stacked()) {
            values.push(done.value(value).clone());
        }
    }
    if scan.reverse {
        stacked.iter_mut().for_each(|values| values.reverse());
    }
    Ok(carried.into_iter().chain(stacked.iter().zip(stacked_types).map(|(values, ty)| join(values, &ty))).collect())
}

/// Row `step` of `length` rows along axis 0.
fn slice(value: &Tensor, step: usize, length: usize) -> Tensor {
    let bytes = value.bytes().len() / length;
    let row = value.bytes()[step * bytes..(step + 1) * bytes].to_vec();
    Tensor::from_bytes(value.dtype(), &value.dims()[1..], row).expect("a row has the size of its type")
}

/// Values side by side along a new axis 0.
fn join(values: &[Tensor], ty: &TensorType) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.bytes().iter().copied()).collect();
    let dims: Vec<usize> = std::iter::once(values.len()).chain(ty.shape.sizes()).collect();
    Tensor::from_bytes(ty.dtype, &dims, bytes).expect("rows of one type")
}

/// A fault inside the body, told of the scan.
fn at_scan(error: InterpretError, node: NodeId) -> InterpretError {
    match error {
        InterpretError::OutOfRange { fault, .. } => InterpretError::OutOfRange { node, fault },
        other => other,
    }
}
