//! `.npy` files against another implementation, the crate `npyz`, in both directions.

use std::path::Path;

use nnc_data::{Batching, DType, FieldType, encode_npy, npy};
use npyz::WriterBuilder;
use proptest::prelude::*;

/// Writes `values` with `npyz`.
fn write_other(values: &[i32], shape: &[u64], order: npyz::Order) -> Vec<u8> {
    let mut content = Vec::new();
    let mut writer =
        npyz::WriteOptions::new().default_dtype().shape(shape).order(order).writer(&mut content).begin_nd().unwrap();
    writer.extend(values.iter().copied()).unwrap();
    writer.finish().unwrap();
    content
}

/// The elements in row-major order, read by `nnc-data`.
fn read_own(content: Vec<u8>, dims: Vec<usize>) -> Vec<i32> {
    let ty = FieldType::new(DType::I32, dims);
    let column = npy::decode(content, Path::new("a.npy"), &ty, Batching::Rows).unwrap();
    let words = column.bytes.chunks_exact(4);
    words.map(|word| i32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// Row-major `values` in the order in which the first extent runs fastest.
fn to_fortran(values: &[i32], [depth, height, width]: [usize; 3]) -> Vec<i32> {
    let mut result = Vec::with_capacity(values.len());
    for column in 0..width {
        for row in 0..height {
            result.extend((0..depth).map(|plane| values[(plane * height + row) * width + column]));
        }
    }
    result
}

proptest! {
    #[test]
    fn reads_what_another_writes(depth in 1usize..5, height in 1usize..5, width in 1usize..5, fortran: bool) {
        let values: Vec<i32> = (0..(depth * height * width) as i32).map(|value| value * 1_000_003).collect();
        let shape = [depth as u64, height as u64, width as u64];
        let content = if fortran {
            write_other(&to_fortran(&values, [depth, height, width]), &shape, npyz::Order::Fortran)
        } else {
            write_other(&values, &shape, npyz::Order::C)
        };
        prop_assert_eq!(read_own(content, vec![height, width]), values);
    }

    #[test]
    fn another_reads_what_is_written(dims in prop::collection::vec(0usize..5, 0..5)) {
        let values: Vec<f64> = (0..dims.iter().product::<usize>()).map(|value| value as f64 / 3.0).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut content = Vec::new();
        encode_npy(&mut content, DType::F64, &dims, &bytes).unwrap();

        let file = npyz::NpyFile::new(content.as_slice()).unwrap();
        let shape: Vec<usize> = file.shape().iter().map(|&dim| dim as usize).collect();
        prop_assert_eq!(shape, dims);
        prop_assert_eq!(file.into_vec::<f64>().unwrap(), values);
        let data_start = content.len() - bytes.len();
        prop_assert_eq!(data_start % 64, 0);
    }
}
