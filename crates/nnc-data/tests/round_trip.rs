//! What a program writes in each format is read back, for random contents.

use std::path::Path;

use image::{ExtendedColorType, ImageEncoder};
use nnc_data::csv::CsvOptions;
use nnc_data::{Batching, Column, DType, FieldType, csv, decode_input, idx};
use proptest::prelude::*;

fn path() -> &'static Path {
    Path::new("random")
}

/// The elements of `column` as f32.
fn floats(column: &Column) -> Vec<f32> {
    let words = column.bytes.chunks_exact(4);
    words.map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// A PNG image of `width` pixels to a line.
fn png(samples: &[u8], width: usize, height: usize, form: ExtendedColorType) -> Vec<u8> {
    let mut content = Vec::new();
    image::codecs::png::PngEncoder::new(&mut content).write_image(samples, width as u32, height as u32, form).unwrap();
    content
}

proptest! {
    #[test]
    fn floats_in_text_keep_their_bits(
        values in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO, 1..40),
        scientific: bool,
    ) {
        let lines = values.iter().map(|value| if scientific { format!("{value:e}\n") } else { format!("{value}\n") });
        let text: String = lines.collect();
        let column = decode_input(text.into_bytes(), path(), &FieldType::scalar(DType::F32)).unwrap();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&floats(&column)), bits(&values));
    }

    #[test]
    fn integers_in_text_are_read_or_refused(value in -300i64..300) {
        let options = CsvOptions::default();
        let text = format!("{value}\n");
        for (dtype, fits) in [
            (DType::U8, u8::try_from(value).is_ok()),
            (DType::I8, i8::try_from(value).is_ok()),
            (DType::I32, true),
            (DType::Bool, (0..2).contains(&value)),
        ] {
            let table = csv::decode(text.as_bytes(), path(), &[FieldType::scalar(dtype)], &options);
            prop_assert_eq!(table.is_ok(), fits, "{}", dtype);
            let expected = &value.to_le_bytes()[..dtype.size()];
            prop_assert!(table.is_err() || table.unwrap().columns[0].bytes == expected);
        }
    }

    #[test]
    fn idx_holds_any_array(dims in prop::collection::vec(1usize..5, 0..4), rows in 1usize..6, seed: u8) {
        let count = rows * dims.iter().product::<usize>();
        let bytes: Vec<u8> = (0..count).map(|index| (index as u8).wrapping_mul(seed)).collect();
        let mut content = vec![0, 0, 8, dims.len() as u8 + 1];
        for extent in std::iter::once(&rows).chain(&dims) {
            content.extend((*extent as u32).to_be_bytes());
        }
        content.extend(&bytes);
        let ty = FieldType::new(DType::U8, dims);
        let column = idx::decode(content.clone(), path(), &ty, Batching::Rows).unwrap();
        prop_assert_eq!((column.rows, &column.bytes), (rows, &bytes));
        content.pop();
        prop_assert!(idx::decode(content, path(), &ty, Batching::Rows).is_err());
    }

    #[test]
    fn images_keep_their_samples(
        (width, height, samples) in (1usize..9, 1usize..9)
            .prop_flat_map(|(width, height)| (Just(width), Just(height), prop::collection::vec(any::<u8>(), width * height * 3)))
    ) {
        let content = png(&samples, width, height, ExtendedColorType::Rgb8);
        let column = decode_input(content, path(), &FieldType::new(DType::U8, [3, height, width])).unwrap();
        let planes: Vec<u8> = (0..3).flat_map(|channel| samples.iter().copied().skip(channel).step_by(3)).collect();
        prop_assert_eq!(column.bytes, planes);

        let grey = &samples[..width * height];
        let content = png(grey, width, height, ExtendedColorType::L8);
        let column = decode_input(content, path(), &FieldType::new(DType::F32, [1, height, width])).unwrap();
        prop_assert_eq!(floats(&column), grey.iter().map(|&sample| f32::from(sample)).collect::<Vec<_>>());
    }
}
