//! The numbers that stand for a matrix.
//!
//! bf16 rounds to nearest, ties to even. Integers are symmetric around 0, with a scale for each group of terms of a
//! column: of eight bits from -127 to 127, by the largest magnitude; of four from -8 to 7, where a scale is the one of
//! a few with the least sum of squared errors, as clipping the largest may be better for all others (Nagel et al., "A
//! White Paper on Neural Network Quantization", 2021, §3.1). A scale may be negative, so that the largest magnitude is
//! -8.

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
    /// The root of the mean squared difference from the floats, as a share of the root of their mean square.
    pub error: f64,
}

/// The largest number of eight bits.
const BYTE_LEVELS: f32 = 127.0;
/// The largest number of four bits; the least is one further.
const NIBBLE_LEVELS: f32 = 7.0;
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
    let (down, along) = matrix.strides((terms, columns));
    let element = |k: usize, n: usize| values[k * down + n * along];
    let all = (0..terms).flat_map(|k| (0..columns).map(move |n| (k, n)));
    match matrix.form {
        Stored::Bf16 => {
            let floats: Vec<f64> = all.map(|(k, n)| f64::from(element(k, n))).collect();
            let stored = Tensor::from_f64(DType::Bf16, &[terms, columns], &floats);
            let error = share(stored.to_f64().into_iter().zip(floats));
            Some(Rounded { stored, scales: None, error })
        }
        Stored::Bytes { .. } | Stored::Nibbles { .. } => {
            in_groups(&element, (terms, columns), matrix.form)?.whole(matrix, (terms, columns))
        }
    }
}

/// The whole numbers that a form has: none for floats.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Levels {
    /// The least.
    pub least: f32,
    /// The largest.
    pub most: f32,
    /// Terms that share a scale.
    pub group: usize,
}

impl Levels {
    /// Those of a form.
    pub fn of(form: Stored) -> Option<Self> {
        match form {
            Stored::Bf16 => None,
            Stored::Bytes { group } => Some(Self { least: -BYTE_LEVELS, most: BYTE_LEVELS, group }),
            Stored::Nibbles { group } => Some(Self { least: -NIBBLE_LEVELS - 1.0, most: NIBBLE_LEVELS, group }),
        }
    }

    /// The number next to a value, ties to even; 0 where the scale is.
    pub fn number(self, value: f32, scale: f32) -> f32 {
        if scale == 0.0 { 0.0 } else { (value / scale).round_ties_even().clamp(self.least, self.most) }
    }
}

impl Rounded {
    /// Other numbers with the same scales: those of each column, from its first term to its last. `None` if there are
    /// other numbers of them than `floats` has, which they stand for, or the form has none.
    pub fn with_numbers(&self, matrix: &Matrix, floats: &Tensor, columns: &[Vec<f32>]) -> Option<Self> {
        let (terms, width) = matrix.sizes(&floats.ty())?;
        let group = Levels::of(matrix.form)?.group;
        if columns.len() != width || columns.iter().any(|column| column.len() != terms) {
            return None;
        }
        let scales: Vec<f32> = self.scales.as_ref()?.to_f64().iter().map(|&scale| scale as f32).collect();
        let values = floats.to_f64();
        let (down, along) = matrix.strides((terms, width));
        let all = || (0..terms).flat_map(|k| (0..width).map(move |n| (k, n)));
        let stands_for = |(k, n): (usize, usize)| columns[n][k] * scales[k / group * width + n];
        let error = share(all().map(|at| (f64::from(stands_for(at)), values[at.0 * down + at.1 * along])));
        let numbers = all().map(|(k, n)| columns[n][k] as i8).collect();
        InGroups { numbers, scales, error }.whole(matrix, (terms, width))
    }
}

/// Numbers of all elements, row-major, and the scale of each group of each column.
struct InGroups {
    numbers: Vec<i8>,
    scales: Vec<f32>,
    error: f64,
}

impl InGroups {
    /// What is stored of them.
    fn whole(&self, matrix: &Matrix, (terms, columns): (usize, usize)) -> Option<Rounded> {
        let ty = matrix.form.matrix(terms, columns);
        let stored = Tensor::from_bytes(ty.dtype, &ty.shape.sizes(), self.packed(matrix.form, (terms, columns)))?;
        let ty = matrix.form.scales(terms, columns)?;
        let bytes: Vec<u8> = self.scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let scales = Some(Tensor::from_bytes(ty.dtype, &ty.shape.sizes(), bytes)?);
        Some(Rounded { stored, scales, error: self.error })
    }

    /// The bytes of the numbers; of four bits, two terms of a column share one.
    fn packed(&self, form: Stored, (terms, columns): (usize, usize)) -> Vec<u8> {
        if !matches!(form, Stored::Nibbles { .. }) {
            return self.numbers.iter().map(|&number| number as u8).collect();
        }
        let half = |k: usize, n: usize| (i64::from(self.numbers[k * columns + n]) + NIBBLE_ZERO) as u8;
        let pairs = (0..terms / 2).flat_map(|pair| (0..columns).map(move |n| (pair, n)));
        pairs.map(|(pair, n)| half(2 * pair, n) | half(2 * pair + 1, n) << 4).collect()
    }
}

/// The root of the mean squared difference of pairs, as a share of that of the second.
fn share(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let add = |(error, whole): (f64, f64), (a, b): (f64, f64)| (error + (a - b).powi(2), whole + b * b);
    let (error, whole) = pairs.fold((0.0, 0.0), add);
    if error == 0.0 { 0.0 } else { (error / whole).sqrt() }
}

fn in_groups(
    element: &dyn Fn(usize, usize) -> f32,
    (terms, columns): (usize, usize),
    form: Stored,
) -> Option<InGroups> {
    let levels = Levels::of(form)?;
    let (group, is_clipped) = (levels.group, matches!(form, Stored::Nibbles { .. }));
    let (mut error, mut whole) = (0.0, 0.0);
    let mut numbers = vec![0; terms * columns];
    let mut scales = Vec::with_capacity(terms / group * columns);
    let mut values = vec![0.0; group];
    for first in (0..terms).step_by(group) {
        for n in 0..columns {
            values.iter_mut().enumerate().for_each(|(k, value)| *value = element(first + k, n));
            let scale = if is_clipped { scale_of_nibbles(&values, levels) } else { scale_of_bytes(&values) };
            scales.push(scale);
            for (k, &value) in values.iter().enumerate() {
                let number = levels.number(value, scale);
                numbers[(first + k) * columns + n] = number as i8;
                error += f64::from(number * scale - value).powi(2);
                whole += f64::from(value).powi(2);
            }
        }
    }
    let error = if error == 0.0 { 0.0 } else { f64::sqrt(error / whole) };
    Some(InGroups { numbers, scales, error })
}

fn scale_of_bytes(values: &[f32]) -> f32 {
    normal(values.iter().fold(0.0f32, |most, value| most.max(value.abs())) / BYTE_LEVELS)
}

fn scale_of_nibbles(values: &[f32], levels: Levels) -> f32 {
    let largest = values.iter().fold(0.0f32, |most, &value| if value.abs() > most.abs() { value } else { most });
    let (mut best, mut least) = (0.0, f64::INFINITY);
    for scale in SHARES
        .iter()
        .flat_map(|share| [largest * share / (-NIBBLE_LEVELS - 1.0), largest.abs() * share / NIBBLE_LEVELS])
    {
        let error = |value: &f32| f64::from(levels.number(*value, scale) * scale - value).powi(2);
        let sum: f64 = values.iter().map(error).sum();
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
        Matrix { path: "w".to_owned(), terms_axis, form, by_floats: false }
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
    fn squares_of_large_errors_are_no_infinities() {
        let values: Vec<f64> = (1..17).map(|at| 3e29 * f64::from(at)).collect();
        let made = round(&matrix(Stored::Nibbles { group: 16 }, 0), &Tensor::from_f64(DType::F32, &[16, 1], &values));
        let error = made.unwrap().error;
        assert!(error < 0.2, "{error}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let floats = |values: &[f64]| Tensor::from_f64(DType::F32, &[values.len(), 1], values);
        assert!(round(&matrix(Stored::Bytes { group: 3 }, 0), &floats(&[1.0; 8])).is_none());
        assert!(round(&matrix(Stored::Bf16, 0), &floats(&[1.0, f64::NAN])).is_none());
    }
}
