//! One PNG or JPEG image into a declared field, by the crate `image`.
//!
//! A field is `[H, W]` or `[1, H, W]` (grey), `[3, H, W]` (red, green, blue) or `[4, H, W]` (and
//! alpha). The size must be the declared one and is checked before pixels are decoded. Channels
//! are converted:
//! - colour to grey by the luma of ITU-R BT.601, `(19595 R + 38470 G + 7471 B + 32768) >> 16`, the
//!   weights and rounding that Pillow uses, so both read the same picture;
//! - grey to colour by repetition; alpha is dropped, or 255 where there is none;
//! - 16-bit samples to 8 bits by rounding `v / 257`; palettes and 1 to 4 bits are expanded.
//!
//! Samples run from 0 to 255 in the declared dtype. Colour profiles, gamma and the orientation
//! note of a camera are not applied.

use std::io::Cursor;
use std::path::Path;

use image::codecs::{jpeg::JpegDecoder, png::PngDecoder};
use image::{ColorType, ImageDecoder, ImageError, Limits};

use crate::content::{self, Format};
use crate::error::{DataError, ErrorKind, Result};
use crate::sample;
use crate::types::{DType, FieldType};

/// The extents of a declared picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extents {
    channels: usize,
    height: usize,
    width: usize,
}

/// Decodes the image `content` of the file `path` and appends it to `bytes`, as a row of `ty`.
///
/// # Errors
/// Another format, a damaged image, another size than declared, or a field that is no picture.
pub(crate) fn decode_into(content: &[u8], path: &Path, ty: &FieldType, bytes: &mut Vec<u8>) -> Result<()> {
    let extents = extents_of(ty, path)?;
    let source = Cursor::new(content);
    match content::sniff(content) {
        Format::Png => {
            let limits = limits_of(extents);
            let decoder = PngDecoder::with_limits(source, limits).map_err(|cause| damaged(path, &cause))?;
            append(decoder, path, ty, extents, bytes)
        }
        Format::Jpeg => {
            let decoder = JpegDecoder::new(source).map_err(|cause| damaged(path, &cause))?;
            append(decoder, path, ty, extents, bytes)
        }
        Format::Foreign(name) => Err(not_picture(path, &format!("is {name}"))),
        Format::Gzip | Format::Npy | Format::Zip | Format::Idx | Format::Text | Format::Unknown => {
            let found = format!("is no image: it {}", content::first_bytes(content));
            Err(not_picture(path, &found))
        }
    }
}

/// The height and width of the image `content` of the file `path`.
///
/// # Errors
/// A damaged image.
pub(crate) fn dims(content: &[u8], path: &Path) -> Result<Vec<usize>> {
    let source = Cursor::new(content);
    let (width, height) = match content::sniff(content) {
        Format::Png => PngDecoder::new(source).map_err(|cause| damaged(path, &cause))?.dimensions(),
        _ => JpegDecoder::new(source).map_err(|cause| damaged(path, &cause))?.dimensions(),
    };
    Ok(vec![height as usize, width as usize])
}

/// The fault of a file of another format.
fn not_picture(path: &Path, found: &str) -> DataError {
    let error = DataError::new(ErrorKind::Unsupported, path, found);
    error.help("PNG and JPEG images are read: convert it, or move it elsewhere")
}

/// Reads the declared dims as those of a picture.
fn extents_of(ty: &FieldType, path: &Path) -> Result<Extents> {
    let extents = match *ty.dims.as_slice() {
        [height, width] => Some((1, height, width)),
        [channels @ (1 | 3 | 4), height, width] => Some((channels, height, width)),
        _ => None,
    };
    let holds_samples = !matches!(ty.dtype, DType::I8 | DType::Bool);
    match extents {
        Some((channels, height, width)) if holds_samples => Ok(Extents { channels, height, width }),
        Some(_) | None => {
            let message = format!("an image cannot fill a field declared {ty}");
            Err(DataError::new(ErrorKind::WrongType, path, message)
                .help("declare u8[H, W] for grey or u8[3, H, W] for colour"))
        }
    }
}

/// What a decoder may allocate: some times the declared picture, and room for its tables.
fn limits_of(extents: Extents) -> Limits {
    const TABLES: u64 = 1 << 20;
    let pixels = (extents.height as u64).saturating_mul(extents.width as u64);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(pixels.saturating_mul(16).saturating_add(TABLES));
    limits
}

/// Checks the size, decodes the pixels, and appends them channel by channel.
fn append(
    decoder: impl ImageDecoder,
    path: &Path,
    ty: &FieldType,
    extents: Extents,
    bytes: &mut Vec<u8>,
) -> Result<()> {
    let (width, height) = decoder.dimensions();
    if (width as usize, height as usize) != (extents.width, extents.height) {
        let message = format!(
            "the image is {width} wide and {height} high, but the declared {ty} is {} wide and {} high",
            extents.width, extents.height
        );
        let help = "resize the image, or change the declared type";
        return Err(DataError::new(ErrorKind::WrongShape, path, message).help(help));
    }
    let form = SampleForm::of(decoder.color_type(), path)?;
    let size = usize::try_from(decoder.total_bytes()).unwrap_or(usize::MAX);
    let mut samples = Vec::new();
    samples.try_reserve_exact(size).map_err(|_| too_large(path, ty))?;
    samples.resize(size, 0);
    decoder.read_image(&mut samples).map_err(|cause| damaged(path, &cause))?;
    for channel in 0..extents.channels {
        let pixels = samples.chunks_exact(form.channels * form.sample_bytes);
        for pixel in pixels {
            let fits = sample::push_sample(form.channel(pixel, channel, extents.channels), ty.dtype, bytes);
            debug_assert!(fits, "the dtype was checked with the extents");
        }
    }
    Ok(())
}

/// The fault of a picture that memory does not hold.
fn too_large(path: &Path, ty: &FieldType) -> DataError {
    let message = format!("there is not enough memory for an image declared {ty}");
    DataError::new(ErrorKind::WrongShape, path, message)
}

/// The fault of an image that cannot be decoded.
fn damaged(path: &Path, cause: &ImageError) -> DataError {
    let message = format!("the image cannot be decoded: {cause}");
    DataError::new(ErrorKind::Malformed, path, message).help("write or download it again")
}

/// How a decoder lays out a pixel.
#[derive(Debug, Clone, Copy)]
struct SampleForm {
    channels: usize,
    sample_bytes: usize,
}

impl SampleForm {
    /// The form of `color`, if it has 8 or 16 bits per sample.
    fn of(color: ColorType, path: &Path) -> Result<Self> {
        let channels = usize::from(color.channel_count());
        let sample_bytes = usize::from(color.bytes_per_pixel()) / channels;
        if sample_bytes > 2 {
            let message = format!("the image has pixels of the form {color:?}, which is not read");
            return Err(DataError::new(ErrorKind::Unsupported, path, message));
        }
        Ok(SampleForm { channels, sample_bytes })
    }

    /// The sample of `pixel` for `channel` of `count` declared channels.
    fn channel(self, pixel: &[u8], channel: usize, count: usize) -> u8 {
        let is_grey = self.channels < 3;
        let has_alpha = self.channels.is_multiple_of(2);
        match (channel, count) {
            (3, _) if has_alpha => self.sample(pixel, self.channels - 1),
            (3, _) => u8::MAX,
            (_, _) if is_grey => self.sample(pixel, 0),
            (_, 1) => luma([0, 1, 2].map(|index| self.sample(pixel, index))),
            (_, _) => self.sample(pixel, channel),
        }
    }

    /// One sample in 8 bits; 16-bit samples come in the byte order of the machine.
    fn sample(self, pixel: &[u8], index: usize) -> u8 {
        if self.sample_bytes == 1 {
            return pixel[index];
        }
        let wide = u16::from_ne_bytes([pixel[2 * index], pixel[2 * index + 1]]);
        ((u32::from(wide) + 128) / 257) as u8
    }
}

/// The luma of a colour, as Pillow rounds it.
fn luma(colour: [u8; 3]) -> u8 {
    let [red, green, blue] = colour.map(u32::from);
    ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};

    fn png(samples: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
        let mut content = Vec::new();
        PngEncoder::new(&mut content).write_image(samples, width, height, color).unwrap();
        content
    }

    fn decode(content: &[u8], ty: &FieldType) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        decode_into(content, Path::new("a.png"), ty, &mut bytes).map(|()| bytes)
    }

    #[test]
    fn channels_come_first() {
        let content = png(&[1, 2, 3, 4, 5, 6], 2, 1, ExtendedColorType::Rgb8);
        let colour = FieldType::new(DType::U8, [3, 1, 2]);
        assert_eq!(decode(&content, &colour).unwrap(), [1, 4, 2, 5, 3, 6]);
        let with_alpha = FieldType::new(DType::U8, [4, 1, 2]);
        assert_eq!(decode(&content, &with_alpha).unwrap(), [1, 4, 2, 5, 3, 6, 255, 255]);
    }

    #[test]
    fn colour_becomes_grey_by_luma() {
        let content = png(&[255, 0, 0, 0, 255, 0, 0, 0, 255], 3, 1, ExtendedColorType::Rgb8);
        let grey = FieldType::new(DType::U8, [1, 3]);
        assert_eq!(decode(&content, &grey).unwrap(), [76, 150, 29]);
        assert_eq!(luma([255; 3]), 255);
    }

    #[test]
    fn grey_becomes_colour_and_loses_alpha() {
        let content = png(&[7, 0, 9, 128], 2, 1, ExtendedColorType::La8);
        let colour = FieldType::new(DType::U8, [3, 1, 2]);
        assert_eq!(decode(&content, &colour).unwrap(), [7, 9, 7, 9, 7, 9]);
        let with_alpha = FieldType::new(DType::U8, [4, 1, 2]);
        assert_eq!(decode(&content, &with_alpha).unwrap()[6..], [0, 128]);
    }

    #[test]
    fn sixteen_bits_are_rounded() {
        let samples: Vec<u8> = [0u16, 128, 129, 65535].into_iter().flat_map(u16::to_ne_bytes).collect();
        let content = png(&samples, 4, 1, ExtendedColorType::L16);
        let grey = FieldType::new(DType::U8, [1, 1, 4]);
        assert_eq!(decode(&content, &grey).unwrap(), [0, 0, 1, 255]);
    }

    #[test]
    fn samples_take_the_declared_dtype() {
        let content = png(&[7, 200], 2, 1, ExtendedColorType::L8);
        let floats = decode(&content, &FieldType::new(DType::F32, [1, 2])).unwrap();
        assert_eq!(floats, [7f32.to_le_bytes(), 200f32.to_le_bytes()].concat());
        let error = decode(&content, &FieldType::new(DType::I8, [1, 2])).unwrap_err();
        assert_eq!(error.kind, ErrorKind::WrongType);
    }

    #[test]
    fn jpeg_is_read() {
        let mut content = Vec::new();
        JpegEncoder::new_with_quality(&mut content, 100).write_image(&[100; 64], 8, 8, ExtendedColorType::L8).unwrap();
        let grey = decode(&content, &FieldType::new(DType::U8, [8, 8])).unwrap();
        assert!(grey.iter().all(|sample| sample.abs_diff(100) <= 1));
    }

    #[test]
    fn both_sizes_are_named() {
        let content = png(&[1, 2], 2, 1, ExtendedColorType::L8);
        let error = decode(&content, &FieldType::new(DType::U8, [28, 28])).unwrap_err();
        assert_eq!(error.kind, ErrorKind::WrongShape);
        assert!(error.message.contains("2 wide and 1 high"), "{error}");
        assert!(error.message.contains("28 wide and 28 high"), "{error}");
    }

    #[test]
    fn damage_and_other_formats_are_told_apart() {
        let content = png(&[1, 2], 2, 1, ExtendedColorType::L8);
        let grey = FieldType::new(DType::U8, [1, 2]);
        let cut = decode(&content[..content.len() / 2], &grey).unwrap_err();
        assert_eq!(cut.kind, ErrorKind::Malformed);
        let other = decode(b"GIF89a", &grey).unwrap_err();
        assert!(other.message.contains("GIF"), "{other}");
        assert_eq!(decode(b"", &grey).unwrap_err().kind, ErrorKind::Unsupported);
    }
}
