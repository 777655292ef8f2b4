//! The numbers that stand for a matrix.
//!
//! bf16 rounds to nearest, ties to even. Integers are symmetric around 0, with a scale for each group of terms of a column:
//! of eight bits from -127 to 127, by the largest magnitude; of four from -8 to 7, where a scale is the one of a few with the
//! least sum of squared errors, as clipping the largest may be better for all others (Nagel et al., "A White Paper on Neural
//! Network Quantization", 2021, §3.1). A scale may be negative, so that the largest magnitude is -8.

use super::Matrix;
use nnc_graph::stored::NIBBLE_ZERO;
use nnc_graph::{DType, Stored, Tensor};

/// The tensors that stand for a matrix.
#[derive(Clone, Debug)]
pub struct Rounded {
    /// As [`Stored::matrix`] says.
    pub stored: Tensor,
    /// As [`Stored::scales`] says.
    pub scales: Option<Tensor>,
}

/// The largest number of eight bits.
const BYTE_LEVELS: f32 = 127.0;
/// The shares of the largest magnitude that scales of four bits are tried with.
const SHARES: [f32; 5] = [1.0, 0.95, 0.9, 0.85, 0.78];

/// Rounds a parameter of floats; `None` if it cannot be stored so, or holds what is no finite number.
pub fn round(matrix: &Matrix, floats: &Tensor) -> Option<Rounded> {
    let (terms, columns) = matrix.sizes(&floats.ty())?;
    let values: Vec<f32> =
        floats.bytes().chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().expect("four bytes"))).collect();
    if values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let (down, along) = if matrix.terms_axis == 0 { (columns, 1) } else { (1, terms) };
    let element = |k: usize, n: usize| values[k * down + n * along];
    let all = (0..terms).flat_map(|k| (0..columns).map(move |n| (k, n)));
    match matrix.form {
        Stored::Bf16 => {
            let floats: Vec<f64> = all.map(|(k, n)| f64::from(element(k, n))).collect();
            let stored = Tensor::from_f64(DType::Bf16, &[terms, columns], &floats);
            Some(Rounded { stored, scales: None })
        }
        Stored::Bytes { group } => {
            let (numbers, scales) = in_groups(&element, (terms, columns), (group, &scale_of_bytes), BYTE_LEVELS);
            let bytes: Vec<u8> = numbers.iter().map(|&number| number as u8).collect();
            whole(matrix, (terms, columns), bytes, scales)
        }
        Stored::Nibbles { group } => {
            let (numbers, scales) = in_groups(&element, (terms, columns), (group, &scale_of_nibbles), 7.0);
            let halves = |pair: usize, n: usize| {
                let half = |k: usize| (i64::from(numbers[k * columns + n]) + NIBBLE_ZERO) as u8;
                half(2 * pair) | half(2 * pair + 1) << 4
            };
            let bytes = (0..terms / 2).flat_map(|pair| (0..columns).map(move |n| (pair, n)));
            let bytes: Vec<u8> = bytes.map(|(pair, n)| halves(pair, n)).collect();
            whole(matrix, (terms, columns), bytes, scales)
        }
    }
}

fn whole(matrix: &Matrix, (terms, columns): (usize, usize), bytes: Vec<u8>, scales: Vec<f32>) -> Option<Rounded> {
    let ty = matrix.form.matrix(terms, columns);
    let stored = Tensor::from_bytes(ty.dtype, &ty.shape.sizes(), bytes)?;
    let ty = matrix.form.scales(terms, columns)?;
    let bytes: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    Some(Rounded { stored, scales: Some(Tensor::from_bytes(ty.dtype, &ty.shape.sizes(), bytes)?) })
}

/// The numbers of all elements, row-major, and the scale of each group of each column.
fn in_groups(
    element: &dyn Fn(usize, usize) -> f32,
    (terms, columns): (usize, usize),
    (group, scale): (usize, &dyn Fn(&[f32]) -> f32),
    most: f32,
) -> (Vec<i8>, Vec<f32>) {
    let mut numbers = vec![0; terms * columns];
    let mut scales = Vec::with_capacity(terms / group * columns);
    let mut values = vec![0.0; group];
    for first in (0..terms).step_by(group) {
        for n in 0..columns {
            values.iter_mut().enumerate().for_each(|(k, value)| *value = element(first + k, n));
            let scale = scale(&values);
            scales.push(scale);
            for (k, &value) in values.iter().enumerate() {
                numbers[(first + k) * columns + n] = number(value, scale, most) as i8;
            }
        }
    }
    (numbers, scales)
}

/// The number that stands for a value, at most so large; one more below 0 where there are four bits.
fn number(value: f32, scale: f32, most: f32) -> f32 {
    let least = if most == BYTE_LEVELS { -most } else { -most - 1.0 };
    if scale == 0.0 { 0.0 } else { (value / scale).round_ties_even().clamp(least, most) }
}

fn scale_of_bytes(values: &[f32]) -> f32 {
    normal(values.iter().fold(0.0f32, |most, value| most.max(value.abs())) / BYTE_LEVELS)
}

fn scale_of_nibbles(values: &[f32]) -> f32 {
    let largest = values.iter().fold(0.0f32, |most, &value| if value.abs() > most.abs() { value } else { most });
    let (mut best, mut least) = (0.0, f32::INFINITY);
    for scale in SHARES.iter().flat_map(|share| [largest * share / -8.0, largest.abs() * share / 7.0]) {
        let error = |value: &f32| (number(*value, scale, 7.0) * scale - value).powi(2);
        let sum: f32 = values.iter().map(error).sum();
        if sum < least {
            (best, least) = (normal(scale), sum);
        }
    }
    best
}

/// 0 instead of what is so small that it has not all of its bits.
fn normal(scale: f32) -> f32 {
    if scale.is_normal() { scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(form: Stored, terms_axis: usize) -> Matrix {
        Matrix { path: "w".to_owned(), terms_axis, form }
    }

    #[test]
    fn each_group_has_its_scale() {
        let values: Vec<f64> = (0..16).map(|k| if k < 8 { f64::from(k) * 127.0 / 7.0 } else { 0.0 }).collect();
        let made = round(&matrix(Stored::Bytes { group: 8 }, 0), &Tensor::from_f64(DType::F32, &[16, 1], &values));
        let made = made.unwrap();
        assert_eq!(made.scales.unwrap().to_f64(), [1.0, 0.0]);
        assert_eq!(made.stored.to_i64()[..8], [0, 18, 36, 54, 73, 91, 109, 127]);
    }

    #[test]
    fn four_bits_hold_sixteen_numbers() {
        for sign in [1.0, -1.0] {
            let values: Vec<f64> = (-8..8).map(|k| f64::from(k) * sign * 0.5).collect();
            let floats = Tensor::from_f64(DType::F32, &[1, 16], &values);
            let made = round(&matrix(Stored::Nibbles { group: 16 }, 1), &floats).unwrap();
            assert_eq!(made.scales.unwrap().to_f64(), [0.5 * sign]);
            assert_eq!(made.stored.dims(), [8, 1]);
            assert_eq!(made.stored.to_i64(), [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe]);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let floats = |values: &[f64]| Tensor::from_f64(DType::F32, &[values.len(), 1], values);
        assert!(round(&matrix(Stored::Bytes { group: 3 }, 0), &floats(&[1.0; 8])).is_none());
        assert!(round(&matrix(Stored::Bf16, 0), &floats(&[1.0, f64::NAN])).is_none());
    }
}
