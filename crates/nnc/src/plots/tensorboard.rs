//! Event files of TensorBoard.
//!
//! A file is a line of records: the length as u64, its checksum, the bytes, their checksum. A checksum is CRC-32C,
//! turned and offset so that one of bytes that contain checksums stays meaningful. The bytes are a message `Event` of
//! Protocol Buffers. Formats: `tensorflow/core/lib/io/record_writer.h`, `tensorflow/core/util/event.proto`,
//! `tensorflow/core/framework/summary.proto`. TensorBoard looks for files with `tfevents` in their name.
//!
//! Tags are `loss/train` and `loss/validation`, a value for each epoch at its last step, and `loss/steps`, means over a
//! few steps: so the curves of one quantity are side by side.

use nnc_driver::Metrics;
use nnc_driver::train::{History, Point, Row};
use prost::Message;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How the names of event files begin.
const PREFIX: &str = "events.out.tfevents.";

/// `tensorflow.Event`, as far as it is written here.
#[derive(Clone, PartialEq, Message)]
struct EventMessage {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

/// `tensorflow.Summary.Value`.
#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// An event file that grows.
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// A new file in a run's folder, in place of those of an interrupted run.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                fs::remove_file(entry.path())?;
            }
        }
        let path = folder.join(format!("{PREFIX}{:.0}.nnc", seconds()));
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let mut events = Self { path, file };
        let version = EventMessage {
            wall_time: seconds(),
            file_version: Some("brain.Event:2".to_owned()),
            ..EventMessage::default()
        };
        events.append(&version)?;
        Ok(events)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// All that was done before.
    pub(super) fn history(&mut self, history: &History) -> io::Result<()> {
        history.trace.points.iter().try_for_each(|point| self.point(point))?;
        history.rows.iter().try_for_each(|row| self.row(row))
    }

    /// Means over some steps.
    pub(super) fn point(&mut self, point: &Point) -> io::Result<()> {
        self.values(point.iteration, &[("steps", &point.train)])
    }

    /// Means of an epoch.
    pub(super) fn row(&mut self, row: &Row) -> io::Result<()> {
        let validation = row.validation.iter().map(|metrics| ("validation", metrics));
        let splits: Vec<(&str, &Metrics)> = std::iter::once(("train", &row.train)).chain(validation).collect();
        self.values(row.iteration, &splits)
    }

    fn values(&mut self, iteration: u64, splits: &[(&str, &Metrics)]) -> io::Result<()> {
        let values = splits.iter().flat_map(|(split, metrics)| {
            metrics.iter().map(move |(name, value)| SummaryValue {
                tag: format!("{name}/{split}"),
                simple_value: Some(*value as f32),
            })
        });
        let summary = Summary { value: values.collect() };
        let step = i64::try_from(iteration).unwrap_or(i64::MAX);
        self.append(&EventMessage { wall_time: seconds(), step, file_version: None, summary: Some(summary) })
    }

    fn append(&mut self, event: &EventMessage) -> io::Result<()> {
        self.file.write_all(&record(&event.encode_to_vec()))
    }
}

/// The record of a message.
fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let parts = [&length[..], &checksum(&length), message, &checksum(message)];
    parts.concat()
}

/// The turned and offset checksum.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Since 1970.
fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of a file, each checksum looked at.
    fn events(bytes: &[u8]) -> Vec<EventMessage> {
        let mut rest = bytes;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            let (sum, after) = after.split_at(4);
            assert_eq!(sum, checksum(length));
            let (message, after) = after.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let (sum, after) = after.split_at(4);
            assert_eq!(sum, checksum(message));
            found.push(EventMessage::decode(message).unwrap());
            rest = after;
        }
        found
    }

    /// The checksum of 32 zeros is 0x8a9136aa (RFC 3720, B.4), that of a record's length 24 was read from a file of
    /// TensorFlow's.
    #[test]
    fn checksums_are_those_of_tensorflow() {
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(checksum(&24u64.to_le_bytes()), [0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn a_run_is_read_back_and_a_resumed_one_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = |loss: f64| vec![("loss".to_owned(), loss), ("accuracy".to_owned(), 0.5)];
        let row = Row { epoch: 1, iteration: 10, train: metrics(0.25), validation: Some(metrics(0.75)) };
        fs::write(folder.path().join("events.out.tfevents.1.nnc"), "of the run that was interrupted").unwrap();
        let mut file = EventFile::create(folder.path()).unwrap();
        file.point(&Point { iteration: 5, train: metrics(0.125) }).unwrap();
        file.row(&row).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let found = events(&fs::read(file.path()).unwrap());
        assert_eq!(found[0].file_version.as_deref(), Some("brain.Event:2"));
        let told: Vec<(i64, String, f32)> = found[1..]
            .iter()
            .flat_map(|event| event.summary.iter().flat_map(|summary| &summary.value).map(|value| (event.step, value)))
            .map(|(step, value)| (step, value.tag.clone(), value.simple_value.unwrap()))
            .collect();
        let wanted = [
            (5, "loss/steps", 0.125),
            (5, "accuracy/steps", 0.5),
            (10, "loss/train", 0.25),
            (10, "accuracy/train", 0.5),
            (10, "loss/validation", 0.75),
            (10, "accuracy/validation", 0.5),
        ];
        assert_eq!(told, wanted.map(|(step, tag, value)| (step, tag.to_owned(), value)));
    }
}
