//! A tensor of pictures as one PNG, by the crate `image`.
//!
//! | dims | what is drawn |
//! | --- | --- |
//! | `[H, W]` | one grey picture |
//! | `[C, H, W]` with C 1 or 3 | one picture, grey or red, green, blue |
//! | `[count, C, H, W]` | pictures in reading order, on a sheet that is about as many wide as high |
//! | `[rows, columns, C, H, W]` | a sheet of so many rows and columns |
//!
//! Floats run from 0 to 1, integers from 0 to 255; what lies beyond is drawn as the bound, and what is no number as 0.
//! Pictures on a sheet are two white pixels apart.

use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::error::{DataError, ErrorKind, Result};
use crate::types::DType;
use crate::write::Staged;

/// White pixels between pictures.
const GAP: usize = 2;
/// The most pixels of a sheet.
const MOST_PIXELS: usize = 1 << 28;

/// How pictures lie on a sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sheet {
    rows: usize,
    columns: usize,
    channels: usize,
    height: usize,
    width: usize,
}

impl Sheet {
    /// The layout of a tensor with these dims; `None` when they are not those of pictures.
    fn of(dims: &[usize]) -> Option<Self> {
        let sheet = |rows, columns, [channels, height, width]: [usize; 3]| {
            let is_picture = matches!(channels, 1 | 3) && rows * columns * height * width > 0;
            is_picture.then_some(Self { rows, columns, channels, height, width })
        };
        match *dims {
            [height, width] => sheet(1, 1, [1, height, width]),
            [channels, height, width] => sheet(1, 1, [channels, height, width]),
            [count, channels, height, width] => {
                let columns = (1..=count).find(|columns| columns * columns >= count)?;
                sheet(count.div_ceil(columns), columns, [channels, height, width])
            }
            [rows, columns, channels, height, width] => sheet(rows, columns, [channels, height, width]),
            _ => None,
        }
    }

    /// Height and width in pixels; `None` for a sheet that is too large.
    fn size(self) -> Option<(usize, usize)> {
        let along = |count: usize, size: usize| count.checked_mul(size.checked_add(GAP)?).map(|all| all - GAP);
        let (height, width) = (along(self.rows, self.height)?, along(self.columns, self.width)?);
        let pixels = height.checked_mul(width)?;
        (pixels <= MOST_PIXELS).then_some((height, width))
    }

    /// The pixels of the sheet from the samples of the pictures; places that are left over are white.
    fn draw(self, samples: &[u8], (height, width): (usize, usize)) -> Vec<u8> {
        let area = self.height * self.width;
        let mut pixels = vec![u8::MAX; height * width * self.channels];
        for (at, picture) in samples.chunks_exact(self.channels * area).enumerate() {
            let top = at / self.columns * (self.height + GAP);
            let left = at % self.columns * (self.width + GAP);
            for (place, &sample) in picture.iter().enumerate() {
                let (channel, y, x) = (place / area, place % area / self.width, place % self.width);
                pixels[((top + y) * width + left + x) * self.channels + channel] = sample;
            }
        }
        pixels
    }
}

/// Writes the pictures of a tensor (row-major, little endian) to the file `path` as PNG: whole, or not at all.
///
/// # Errors
/// As [`stage_pictures`].
pub fn write_pictures(path: &Path, dtype: DType, dims: &[usize], bytes: &[u8]) -> Result<()> {
    stage_pictures(path, dtype, dims, bytes)?.commit()
}

/// Writes the pictures of a tensor beside `path`, to be committed.
///
/// # Errors
/// The dims are not those of pictures, the sheet is too large, or the file cannot be written.
pub fn stage_pictures(path: &Path, dtype: DType, dims: &[usize], bytes: &[u8]) -> Result<Staged> {
    let refused = |message: String| DataError::new(ErrorKind::WrongShape, path, message);
    let Some(sheet) = Sheet::of(dims) else {
        let help = "give [H, W], [1, H, W], [count, 1, H, W] or [rows, columns, 1, H, W], with 3 for colour";
        return Err(refused(format!("a tensor of {dims:?} is no picture")).help(help));
    };
    let size = sheet.size().ok_or_else(|| refused(format!("a sheet of {dims:?} is too large")))?;
    let samples: Vec<u8> = bytes.chunks_exact(dtype.size()).map(|element| sample(dtype, element)).collect();
    let pixels = sheet.draw(&samples, size);
    let color = if sheet.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let (height, width) = (size.0 as u32, size.1 as u32);
    Staged::new(path, |file| {
        let encoded = PngEncoder::new(file).write_image(&pixels, width, height, color);
        encoded.map_err(std::io::Error::other)
    })
}

/// An element as a sample of 8 bits.
fn sample(dtype: DType, element: &[u8]) -> u8 {
    /// The bytes as an array; an element has the size of its dtype.
    fn bytes<const SIZE: usize>(element: &[u8]) -> [u8; SIZE] {
        element.try_into().unwrap_or([0; SIZE])
    }
    let shade = |value: f64| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    let whole = |value: i64| value.clamp(0, 255) as u8;
    match dtype {
        DType::F32 => shade(f64::from(f32::from_le_bytes(bytes(element)))),
        DType::F16 => shade(half::f16::from_le_bytes(bytes(element)).to_f64()),
        DType::Bf16 => shade(half::bf16::from_le_bytes(bytes(element)).to_f64()),
        DType::F64 => shade(f64::from_le_bytes(bytes(element))),
        DType::I8 => whole(i64::from(i8::from_le_bytes(bytes(element)))),
        DType::U8 => u8::from_le_bytes(bytes(element)),
        DType::I16 => whole(i64::from(i16::from_le_bytes(bytes(element)))),
        DType::I32 => whole(i64::from(i32::from_le_bytes(bytes(element)))),
        DType::I64 => whole(i64::from_le_bytes(bytes(element))),
        DType::Bool => u8::from_le_bytes(bytes(element)).min(1) * u8::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::FieldType;

    #[test]
    fn sheets_are_about_square() {
        let sheet = |dims: &[usize]| Sheet::of(dims).map(|sheet| (sheet.rows, sheet.columns, sheet.channels));
        assert_eq!(sheet(&[28, 28]), Some((1, 1, 1)));
        assert_eq!(sheet(&[3, 4, 5]), Some((1, 1, 3)));
        assert_eq!(sheet(&[64, 1, 4, 5]), Some((8, 8, 1)));
        assert_eq!(sheet(&[7, 3, 4, 5]), Some((3, 3, 3)));
        assert_eq!(sheet(&[2, 10, 1, 4, 5]), Some((2, 10, 1)));
        for dims in [&[5][..], &[2, 4, 5], &[0, 1, 4, 5], &[1, 2, 2, 4, 5], &[1, 1, 1, 1, 4, 5]] {
            assert_eq!(sheet(dims), None, "{dims:?}");
        }
        assert_eq!(Sheet::of(&[1 << 20, 1, 1 << 10, 1 << 10]).unwrap().size(), None);
        assert_eq!(Sheet::of(&[usize::MAX >> 1, 1, 1, 1]).map(|sheet| sheet.size()), Some(None));
    }

    #[test]
    fn what_is_drawn_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        let values = [0.0f32, 1.0, -3.0, 0.5, f32::NAN, 7.0];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        write_pictures(&path, DType::F32, &[3, 1, 1, 2], &bytes).unwrap();
        let read = crate::Given::read(&path).unwrap().decode(&FieldType::new(DType::U8, [4, 6])).unwrap();
        let white = [255; 6];
        let expected = [[0, 255, 255, 255, 0, 128], white, white, [0, 255, 255, 255, 255, 255]];
        assert_eq!(read.bytes, expected.concat());
    }

    #[test]
    fn colours_stay_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("colour.png");
        let bytes = [1, 2, 3, 4, 5, 6];
        write_pictures(&path, DType::U8, &[3, 1, 2], &bytes).unwrap();
        let read = crate::Given::read(&path).unwrap().decode(&FieldType::new(DType::U8, [3, 1, 2])).unwrap();
        assert_eq!(read.bytes, bytes);
        let error = write_pictures(&path, DType::U8, &[6], &bytes).unwrap_err();
        assert!(error.to_string().contains("[6] is no picture"), "{error}");
    }
}
