//! Files that tests make, and what is said of them.
#![allow(dead_code, reason = "no suite needs all of it")]

use image::{ExtendedColorType, ImageEncoder};
use nnc_data::{DType, DataError, FieldType, Source, Table};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use tempfile::TempDir;

pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub fn save(path: PathBuf, content: &[u8]) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub fn grey_png(samples: &[u8], width: u32) -> Vec<u8> {
    let mut content = Vec::new();
    image::codecs::png::PngEncoder::new(&mut content)
        .write_image(samples, width, samples.len() as u32 / width, ExtendedColorType::L8)
        .unwrap();
    content
}

/// `(u8[1, 2], u8)`.
pub fn fields() -> Vec<FieldType> {
    vec![FieldType::new(DType::U8, [1, 2]), FieldType::scalar(DType::U8)]
}

pub fn columns(table: &Table) -> Vec<&[u8]> {
    table.columns.iter().map(|column| column.bytes.as_slice()).collect()
}

pub fn fault(source: Source, fields: &[FieldType]) -> DataError {
    source.open(fields).unwrap_err()
}
