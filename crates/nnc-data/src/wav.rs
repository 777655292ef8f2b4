//! Sounds: WAV files (Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0", 1991), one an
//! example, by folders or with labels in their names as for images.
//!
//! Samples are numbers from -1 to 1; whole ones are divided by the largest, `2^(bits - 1)`. A sound is cut at its end
//! or filled up with zeros to the declared length. The declared rate is that of every file: nothing is resampled. `[T]`
//! is the mean of the channels, `[C, T]` each of just as many.

use std::io::Cursor;
use std::path::Path;

use hound::{SampleFormat, WavReader};

use crate::content;
use crate::error::{DataError, ErrorKind, Result};
#[cfg(feature = "folders")]
use crate::examples::Examples;
#[cfg(feature = "folders")]
use crate::table;
#[cfg(feature = "folders")]
use crate::types::Table;
use crate::types::{Column, DType, FieldType};

/// What is declared of sounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WavOptions {
    /// Samples in a second.
    pub rate: u32,
    /// The form of a file's name, with `{}` for the label; else the folder is the label.
    pub label: Option<String>,
}

/// Reads the sounds below `folder`; `fields` is `(sound)` or `(sound, label)`.
///
/// # Errors
/// A missing or empty folder, a file that is no WAV file, of another rate or number of channels, or cut off; a name
/// without a label, more classes than the label can count.
#[cfg(feature = "folders")]
pub fn open(folder: &Path, fields: &[FieldType], options: &WavOptions) -> Result<Table> {
    use std::sync::atomic::{AtomicUsize, Ordering};

    table::check_fields(fields, folder)?;
    if fields.len() > 2 {
        table::check_count(2, fields, folder, "column")?;
    }
    let sound = &fields[0];
    check_type(sound, folder)?;
    let examples = Examples::list("sound", folder, options.label.as_deref(), fields.len() == 2)?;
    let labels = fields.get(1).map(|ty| examples.labels(ty)).transpose()?;
    let longer = AtomicUsize::new(0);
    let sounds = examples.decode(sound, |content, path, bytes| {
        let is_longer = decode_into(content, path, sound, options.rate, bytes)?;
        longer.fetch_add(usize::from(is_longer), Ordering::Relaxed);
        Ok(())
    })?;
    let (longer, rows) = (longer.into_inner(), examples.list.len());
    let length = sound.dims.last().copied().unwrap_or(0);
    let shown = folder.display();
    let remark = format!("{shown}: {longer} of {rows} sounds have more than {length} samples, and were cut");
    let columns = std::iter::once(sounds).chain(labels).collect();
    let classes = (!examples.classes.is_empty()).then(|| examples.classes.clone());
    let remarks = examples.remarks().chain((longer > 0).then_some(remark)).collect();
    Ok(Table { columns, rows, classes, names: examples.names(), remarks, ..Table::default() })
}

/// Decodes one sound that is given to a program.
///
/// # Errors
/// As [`open`].
pub(crate) fn decode_input(content: &[u8], path: &Path, ty: &FieldType, rate: u32) -> Result<Column> {
    check_type(ty, path)?;
    let mut bytes = Vec::new();
    let is_cut = decode_into(content, path, ty, rate, &mut bytes)?;
    let length = ty.dims.last().copied().unwrap_or(0);
    let remark = || format!("{}: the sound has more than {length} samples, and was cut", path.display());
    Ok(Column { remarks: is_cut.then(remark).into_iter().collect(), ..Column::new(ty.clone(), 1, bytes) })
}

fn check_type(ty: &FieldType, path: &Path) -> Result<()> {
    if ty.dtype == DType::F32 && matches!(ty.dims[..], [_] | [_, _]) {
        return Ok(());
    }
    let error = DataError::new(ErrorKind::WrongType, path, format!("a sound cannot be declared {ty}"));
    Err(error.help("declare it as `f32[16000]`, or `f32[2, 16000]` for two channels"))
}

/// Appends the samples of the sound in `content` as `ty` says; gives whether there were more.
fn decode_into(content: &[u8], path: &Path, ty: &FieldType, rate: u32, bytes: &mut Vec<u8>) -> Result<bool> {
    if !(content.starts_with(b"RIFF") && content.get(8..12) == Some(b"WAVE")) {
        let message = format!("is no WAV file: it {}", content::first_bytes(content));
        return Err(DataError::new(ErrorKind::Malformed, path, message));
    }
    let mut reader = WavReader::new(Cursor::new(content)).map_err(|cause| fault(&cause, path))?;
    let spec = reader.spec();
    if spec.sample_rate != rate {
        let message = format!("has {} samples in a second, but `rate={rate}` is declared", spec.sample_rate);
        let help = format!("convert it, as with `ffmpeg -i in.wav -ar {rate} out.wav`, or declare its own rate");
        return Err(DataError::new(ErrorKind::Mismatch, path, message).help(help));
    }
    let channels = usize::from(spec.channels);
    if let [declared, _] = ty.dims[..]
        && declared != channels
    {
        let message = format!("has {channels} channel{}, but {ty} is declared", if channels == 1 { "" } else { "s" });
        let error = DataError::new(ErrorKind::WrongShape, path, message);
        return Err(error.help("`f32[T]` takes the mean of any number of channels"));
    }
    let length = ty.dims.last().copied().unwrap_or(0);
    let frames = reader.duration() as usize;
    if frames == 0 || channels == 0 {
        return Err(DataError::new(ErrorKind::Empty, path, "has no samples"));
    }
    let wanted = frames.min(length);
    let samples = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().take(wanted * channels).collect::<hound::Result<Vec<f32>>>(),
        SampleFormat::Int => {
            let scale = f32::exp2(f32::from(spec.bits_per_sample) - 1.0);
            let samples = reader.samples::<i32>().take(wanted * channels);
            samples.map(|sample| Ok(sample? as f32 / scale)).collect::<hound::Result<Vec<f32>>>()
        }
    };
    let samples = samples.map_err(|cause| fault(&cause, path))?;
    if samples.len() < wanted * channels {
        return Err(cut_off(path));
    }
    if let Some(place) = samples.iter().position(|sample| !sample.is_finite()) {
        let message = format!("sample {} is no finite number", place / channels);
        return Err(DataError::new(ErrorKind::BadValue, path, message));
    }
    push_channels(&samples, channels, ty, bytes);
    Ok(frames > length)
}

/// Appends interleaved samples: the mean of the channels, or one channel after the other.
fn push_channels(samples: &[f32], channels: usize, ty: &FieldType, bytes: &mut Vec<u8>) {
    let length = ty.dims.last().copied().unwrap_or(0);
    let frames = samples.chunks_exact(channels);
    let silence = length - frames.len();
    let mut push = |sample: f32| bytes.extend(sample.to_le_bytes());
    if ty.dims.len() == 1 {
        frames.for_each(|frame| push(frame.iter().sum::<f32>() / channels as f32));
        (0..silence).for_each(|_| push(0.0));
        return;
    }
    for channel in 0..channels {
        frames.clone().for_each(|frame| push(frame[channel]));
        (0..silence).for_each(|_| push(0.0));
    }
}

/// What the decoder says, in our words.
fn fault(cause: &hound::Error, path: &Path) -> DataError {
    match cause {
        // So the decoder says that the content ends too early.
        hound::Error::IoError(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => cut_off(path),
        hound::Error::IoError(cause) if cause.to_string().contains("enough bytes") => cut_off(path),
        hound::Error::IoError(_) | hound::Error::FormatError(_) => {
            DataError::new(ErrorKind::Malformed, path, format!("is a damaged WAV file: {cause}"))
        }
        hound::Error::Unsupported | hound::Error::TooWide | hound::Error::InvalidSampleFormat => {
            let message = "is a WAV file of a kind that is not read: it is compressed, or its samples are too wide";
            let error = DataError::new(ErrorKind::Unsupported, path, message);
            error.help("convert it, as with `ffmpeg -i in.wav -c:a pcm_s16le out.wav`")
        }
        hound::Error::UnfinishedSample => cut_off(path),
    }
}

fn cut_off(path: &Path) -> DataError {
    let error = DataError::new(ErrorKind::Truncated, path, "the WAV file is cut off");
    error.help("download or copy the file again")
}
