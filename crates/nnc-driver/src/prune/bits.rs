//! Masks as files have them: a bit for each element, where memory has a byte.
//!
//! `$prune.PATH.bits` is u8 with a byte for each eight elements, row-major; element `i` is bit `i % 8` of byte `i / 8`,
//! counted from the lowest, and 1 is kept. `$prune.PATH.dims` is i64 and has the dims. A file may also have
//! `$prune.PATH.mask`, bool of these dims, as all had once.

use nnc_graph::{DType, Tensor, TensorType};
use nnc_opt::prune::{PREFIX, mask_path, masked_parameter};
use std::collections::{BTreeMap, BTreeSet};

const BITS: &str = ".bits";
const DIMS: &str = ".dims";

/// What a file has in the place of a mask, by path; nothing of what is no mask.
pub fn packed(path: &str, ty: &TensorType, bytes: &[u8]) -> Option<[(String, Tensor); 2]> {
    let parameter = masked_parameter(path).filter(|_| ty.dtype == DType::Bool)?;
    let byte = |eight: &[u8]| eight.iter().enumerate().fold(0, |byte, (at, &kept)| byte | kept << at);
    let bits: Vec<u8> = bytes.chunks(8).map(byte).collect();
    let sizes = ty.shape.sizes();
    let dims: Vec<u8> = sizes.iter().flat_map(|&size| (size as i64).to_le_bytes()).collect();
    let bits = Tensor::from_bytes(DType::U8, &[bits.len()], bits)?;
    let dims = Tensor::from_bytes(DType::I64, &[sizes.len()], dims)?;
    Some([(format!("{PREFIX}{parameter}{BITS}"), bits), (format!("{PREFIX}{parameter}{DIMS}"), dims)])
}

/// Puts masks in the place of what a file has of them.
///
/// # Errors
/// What is wrong with one, in words.
pub fn unpack(tensors: &mut BTreeMap<String, Tensor>) -> Result<(), String> {
    let parameter = |path: &String| {
        let rest = path.strip_prefix(PREFIX)?;
        rest.strip_suffix(BITS).or_else(|| rest.strip_suffix(DIMS)).map(str::to_owned)
    };
    let parameters: BTreeSet<String> = tensors.keys().filter_map(parameter).collect();
    for parameter in parameters {
        let [bits, dims] = [BITS, DIMS].map(|end| tensors.remove(&format!("{PREFIX}{parameter}{end}")));
        let mask = bits.zip(dims).and_then(|(bits, dims)| mask(&bits, &dims));
        let mask = mask.ok_or_else(|| {
            format!(
                "the mask of `{parameter}` has not a bit for each element of its dims: the file is damaged; \
                 prune the floats again"
            )
        })?;
        tensors.insert(mask_path(&parameter), mask);
    }
    Ok(())
}

fn mask(bits: &Tensor, dims: &Tensor) -> Option<Tensor> {
    if bits.dtype() != DType::U8 || dims.dtype() != DType::I64 || dims.dims().len() != 1 {
        return None;
    }
    let dims: Vec<usize> = dims.to_i64().into_iter().map(|size| usize::try_from(size).ok()).collect::<Option<_>>()?;
    let elements = dims.iter().try_fold(1usize, |all, &size| all.checked_mul(size))?;
    if elements.div_ceil(8) != bits.elements() {
        return None;
    }
    let bit = |at: usize| bits.bytes()[at / 8] >> (at % 8) & 1;
    Tensor::from_bytes(DType::Bool, &dims, (0..elements).map(bit).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_come_back_as_they_were() {
        let kept: Vec<f64> = (0..33).map(|at| f64::from(u8::from(at % 3 == 0 || at > 30))).collect();
        let mask = Tensor::from_f64(DType::Bool, &[3, 11], &kept);
        let packed = packed("$prune.a.w.mask", &mask.ty(), mask.bytes()).expect("this is a mask");
        assert_eq!(packed[0].1.elements(), 5);
        let mut tensors = BTreeMap::from(packed);
        unpack(&mut tensors).expect("it is whole");
        assert_eq!(tensors, BTreeMap::from([("$prune.a.w.mask".to_owned(), mask)]));
    }

    #[test]
    fn a_mask_of_other_dims_is_an_error() {
        let mask = Tensor::from_f64(DType::Bool, &[2, 4], &[1.0; 8]);
        let [bits, _] = packed("$prune.a.w.mask", &mask.ty(), mask.bytes()).expect("this is a mask");
        for dims in [vec![2, 5], vec![-2, 4], vec![i64::MAX, 2]] {
            let bytes: Vec<u8> = dims.iter().flat_map(|size: &i64| size.to_le_bytes()).collect();
            let dims = Tensor::from_bytes(DType::I64, &[2], bytes).expect("two numbers");
            let mut tensors = BTreeMap::from([bits.clone(), ("$prune.a.w.dims".to_owned(), dims)]);
            assert!(unpack(&mut tensors).is_err_and(|why| why.contains("the mask of `a.w`")));
        }
        assert!(unpack(&mut BTreeMap::from([bits])).is_err(), "without dims");
    }

    #[test]
    fn a_mask_of_which_the_bits_are_gone_is_an_error() {
        let mask = Tensor::from_f64(DType::Bool, &[2, 4], &[1.0; 8]);
        let [_, dims] = packed("$prune.a.w.mask", &mask.ty(), mask.bytes()).expect("this is a mask");
        assert!(unpack(&mut BTreeMap::from([dims])).is_err_and(|why| why.contains("prune the floats again")));
    }
}
