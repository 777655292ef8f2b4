//! Damaged files: every loader must return, whatever it is given, and must not take memory out of
//! proportion to the file.
//!
//! Each target mutates sound files with a generator of fixed seed, so a run is repeatable. By
//! default a target runs a fixed number of rounds; `NNC_FUZZ_SECONDS=300` runs each for that long.
//! A failure prints the input in hexadecimal.

use std::io::{Cursor, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hound::{SampleFormat, WavSpec, WavWriter};
use image::{ExtendedColorType, ImageEncoder};
use nnc_data::csv::CsvOptions;
use nnc_data::text::{self, TextOptions};
use nnc_data::wav::WavOptions;
use nnc_data::{
    Alphabet, Batching, DType, FieldType, Given, Source, TokenTable, Unit, Vocabulary, WordOptions, WordTable, csv,
    idx, lines, npy, npz, running, safetensors,
};
use nnc_data::{decode_input, decode_sound_input, decode_text_input, decode_words_input, encode_npy};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// One target at a time, so that the memory counted is its own.
static TURN: Mutex<()> = Mutex::new(());

/// Rounds per target when no time is given.
const ROUNDS: u64 = 4_000;

/// SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, OOPSLA 2014).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound.max(1) as u64) as usize
    }
}

/// Damages `bytes` in one of several ways.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const TEXTS: [&[u8]; 12] =
        [b"-1", b"1e999", b"nan", b"\"", b",", b"\n", b"(", b"{'", b"99999999999999999999", b"\0", b"True", b"\r\n"];
    const NUMBERS: [u32; 8] = [0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, u32::MAX];
    let position = random.below(bytes.len());
    let end = (position + 1 + random.below(16)).min(bytes.len());
    match random.below(9) {
        0 if !bytes.is_empty() => bytes[position] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[position] = random.bits() as u8,
        2 => bytes.truncate(position),
        3 => drop(bytes.drain(position.min(end)..end)),
        4 => {
            let text = TEXTS[random.below(TEXTS.len())];
            bytes.splice(position..position, text.iter().copied());
        }
        5 if bytes.len() >= position + 4 => {
            let number = NUMBERS[random.below(NUMBERS.len())];
            let number = if random.below(2) == 0 { number.to_le_bytes() } else { number.to_be_bytes() };
            bytes[position..position + 4].copy_from_slice(&number);
        }
        6 => {
            let copy = bytes[position.min(end)..end].to_vec();
            let target = random.below(bytes.len());
            bytes.splice(target..target, copy);
        }
        7 => {
            let tail = &other[random.below(other.len())..];
            bytes.truncate(position);
            bytes.extend_from_slice(tail);
        }
        _ => bytes.extend((0..random.below(64)).map(|_| random.bits() as u8)),
    }
}

/// How much memory a target may take: some times the file, and a constant.
struct Bound {
    per_byte: usize,
    constant: usize,
}

/// Runs `target` on mutations of `seeds`, which are made when it is this target's turn: memory is measured for the
/// whole process.
fn fuzz(name: &str, seeds: impl FnOnce() -> Vec<Vec<u8>>, bound: &Bound, target: impl Fn(Vec<u8>)) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let seeds = seeds();
    let seconds = std::env::var("NNC_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let limit = seconds.map(Duration::from_secs);
    let begin = Instant::now();
    let mut random = Random(name.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte)));
    let mut round = 0;
    while limit.map_or(round < ROUNDS, |limit| begin.elapsed() < limit) {
        let mut input = seeds[random.below(seeds.len())].clone();
        // The sound files come first, then one or more faults.
        for _ in 0..(if round < seeds.len() as u64 { 0 } else { 1 + random.below(6) }) {
            let other = random.below(seeds.len());
            mutate(&mut input, &seeds[other], &mut random);
        }
        try_one(name, input, bound, &target);
        round += 1;
    }
    println!("{name}: {round} inputs");
}

/// Runs `target` once, and reports the input if it panics or takes too much memory.
fn try_one(name: &str, input: Vec<u8>, bound: &Bound, target: &impl Fn(Vec<u8>)) {
    let allowed = bound.constant + bound.per_byte * input.len();
    let copy = input.clone();
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    let taken = MEMORY.peak_usage().saturating_sub(before);
    let hex = || copy.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(outcome.is_ok(), "{name} panicked on {}", hex());
    assert!(taken <= allowed, "{name} took {taken} bytes, {allowed} are allowed, on {}", hex());
}

fn path() -> &'static Path {
    Path::new("fuzz")
}

fn pair() -> FieldType {
    FieldType::new(DType::U8, [2, 3])
}

/// Types that inputs are decoded to.
fn types() -> Vec<FieldType> {
    vec![
        pair(),
        FieldType::new(DType::F32, [8, 8]),
        FieldType::new(DType::U8, [3, 8, 8]),
        FieldType::new(DType::F64, [4]),
        FieldType::scalar(DType::Bool),
        FieldType::scalar(DType::I64),
    ]
}

fn idx_files() -> Vec<Vec<u8>> {
    let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3][..], &[7; 12]].concat();
    let floats = [&[0, 0, 0x0E, 2, 0, 0, 0, 3, 0, 0, 0, 4][..], &[1; 96]].concat();
    vec![images, floats]
}

fn npy_file(dtype: DType, dims: &[usize]) -> Vec<u8> {
    let size = dims.iter().product::<usize>() * dtype.size();
    let mut content = Vec::new();
    encode_npy(&mut content, dtype, dims, &vec![1; size]).unwrap();
    content
}

fn npy_files() -> Vec<Vec<u8>> {
    let plain = npy_file(DType::U8, &[5, 2, 3]);
    let fortran = String::from_utf8_lossy(&plain[10..]).replace("False", "True ");
    let fortran = [&plain[..10], fortran.as_bytes()].concat();
    vec![plain, fortran, npy_file(DType::F64, &[4]), npy_file(DType::Bool, &[9])]
}

fn csv_files() -> Vec<Vec<u8>> {
    [
        "1,2,3,4,5,6\n7,8,9,10,11,12\n",
        "a,b,c,d,e,f\r\n1,2,3,4,5,6\r\n",
        "\"1\",\"2\",3,4,5,6\n\n\n0,0,0,0,0,0",
        "1\n0\ntrue\nFALSE\n",
        "1.5,-2e3,.25,0\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn image_files() -> Vec<Vec<u8>> {
    let samples: Vec<u8> = (0..8 * 8 * 3 * 2).map(|index| (index * 37 % 256) as u8).collect();
    let forms = [
        (ExtendedColorType::L8, 1),
        (ExtendedColorType::Rgb8, 3),
        (ExtendedColorType::La8, 2),
        (ExtendedColorType::Rgb16, 6),
    ];
    let mut files: Vec<Vec<u8>> = forms
        .iter()
        .map(|&(form, bytes)| {
            let mut content = Vec::new();
            let encoder = image::codecs::png::PngEncoder::new(&mut content);
            encoder.write_image(&samples[..64 * bytes], 8, 8, form).unwrap();
            content
        })
        .collect();
    for &(form, bytes) in &forms[..2] {
        let mut content = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut content, 60);
        encoder.write_image(&samples[..64 * bytes], 8, 8, form).unwrap();
        files.push(content);
    }
    files
}

/// Writes the right checksum into every chunk of a PNG image, so that faults get past them.
fn repair_checksums(content: &mut [u8]) {
    let mut start = 8;
    while let Some(length) = content.get(start..start + 4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let end = start + 8 + length;
        if content.len() < end + 4 {
            return;
        }
        let mut sum = flate2::Crc::new();
        sum.update(&content[start + 4..end]);
        content[end..end + 4].copy_from_slice(&sum.sum().to_be_bytes());
        start = end + 4;
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn npz_files() -> Vec<Vec<u8>> {
    [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated]
        .into_iter()
        .map(|method| {
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
            for (name, file) in ["images.npy", "labels.npy"].into_iter().zip(npy_files()) {
                archive.start_file(name, options).unwrap();
                archive.write_all(&file).unwrap();
            }
            archive.finish().unwrap().into_inner()
        })
        .collect()
}

fn safetensors_files() -> Vec<Vec<u8>> {
    let header = |shape: &str| {
        let json = format!(
            "{{\"images\":{{\"dtype\":\"U8\",\"shape\":{shape},\"data_offsets\":[0,4]}},\
             \"labels\":{{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[4,20]}}}}"
        );
        [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &[1; 20]].concat()
    };
    vec![header("[2,2]"), header("[4]")]
}

/// Decodes as a single input of each type.
fn as_inputs(content: &[u8]) {
    for ty in types() {
        let _ = decode_input(content.to_vec(), path(), &ty);
    }
    let given = Given::bytes("a", content.to_vec());
    let _ = (given.dims(), given.text_dims(None));
}

const SMALL: usize = 64 << 10;

#[test]
fn idx_content() {
    let bound = Bound { per_byte: 4, constant: SMALL };
    fuzz("idx", idx_files, &bound, |content| {
        let _ = idx::decode(content.clone(), path(), &pair(), Batching::Rows);
        as_inputs(&content);
    });
}

#[test]
fn npy_content() {
    let bound = Bound { per_byte: 4, constant: SMALL };
    fuzz("npy", npy_files, &bound, |content| {
        let _ = npy::decode(content.clone(), path(), &pair(), Batching::Rows);
        as_inputs(&content);
    });
}

#[test]
fn csv_content() {
    let bound = Bound { per_byte: 24, constant: SMALL };
    let fields = [FieldType::new(DType::F32, [5]), FieldType::scalar(DType::U8)];
    fuzz("csv", csv_files, &bound, |content| {
        let _ = csv::decode(&content, path(), &fields, &CsvOptions::default());
        as_inputs(&content);
    });
}

#[test]
fn text_content() {
    let texts = || {
        let texts = ["to be,\nor not to be\n", "\u{FEFF}caf\u{e9}\r\n\u{1F600}", "aaaaaaaa"];
        texts.map(|text| text.as_bytes().to_vec()).to_vec()
    };
    // Windows of two letters hold each letter twice, in eight bytes.
    let bound = Bound { per_byte: 48, constant: SMALL };
    let names: Vec<String> = "\n ,abenort".chars().map(String::from).collect();
    fuzz("text", texts, &bound, |content| {
        for (dtype, length, vocabulary) in [(DType::U8, 3, 9), (DType::I64, 2, 1), (DType::I32, 5, 8)] {
            let field = FieldType::new(dtype, [length]);
            for known in [None, Some(names.clone())] {
                let options = TextOptions { vocabulary, known };
                let _ = text::decode(&content, path(), std::slice::from_ref(&field), &options);
            }
            let _ = decode_text_input(content.clone(), path(), &field, Alphabet::Characters(&names));
            let _ = Given::bytes("a", content.clone()).decode_text(&field, Alphabet::Characters(&names));
        }
    });
}

#[test]
fn words_content() {
    let texts = || {
        let texts = ["a good film\t1\nbad, bad\t0\n", "\u{FEFF}caf\u{e9} n't\t0\r\n", "it's \"so so\"\t1"];
        texts.map(|text| text.as_bytes().to_vec()).to_vec()
    };
    // A row of three words takes twelve bytes, and each word is kept once more, with its count.
    let bound = Bound { per_byte: 400, constant: SMALL };
    let ty = FieldType::new(DType::I32, [3]);
    let fields = [ty.clone(), FieldType::scalar(DType::U8)];
    let tab = CsvOptions { separator: b'\t', ..CsvOptions::default() };
    let table = Vocabulary::Words(WordTable::learn(["a good film"].into_iter(), 9, true).unwrap());
    fuzz("words", texts, &bound, |content| {
        for known in [None, Some(vec![table.clone()])] {
            let words = WordOptions {
                tables: vec![Some(0), None],
                sizes: vec![9],
                lowercase: true,
                known,
                ..WordOptions::default()
            };
            let _ = csv::decode_with_words(&content, path(), &fields, &tab, &words);
            let _ = lines::decode(&[(path(), &content)], &fields[..1], &words);
        }
        let _ = decode_words_input(content, path(), &ty, &table);
    });
}

#[test]
fn tokens_content() {
    // Learned when it is this target's turn: the threads of it take memory, too.
    let table = OnceLock::new();
    let learned = || table.get_or_init(|| TokenTable::learn(["the hat, the hat"].into_iter(), 270).unwrap());
    let texts = || {
        learned();
        let texts =
            ["the cat, the cat's hat\tthat\n", "\u{FEFF}caf\u{e9} caf\u{e9}\r\n\r\n", "aaaaaaaaaaaaaaaaaaaa aaaa"];
        texts.map(|text| text.as_bytes().to_vec()).to_vec()
    };
    // Beside the rows, what is learned counts each pair of a piece that is there once, with where it is. The crate
    // starts threads, and names each of the 256 bytes.
    let bound = Bound { per_byte: 2000, constant: 2 << 20 };
    let fields = [FieldType::new(DType::I32, [3])];
    fuzz("tokens", texts, &bound, |content| {
        let table = learned();
        for known in [None, Some(vec![Vocabulary::Tokens(table.clone())])] {
            let words = WordOptions {
                tables: vec![Some(0)],
                unit: Unit::Tokens,
                sizes: vec![280],
                known,
                ..WordOptions::default()
            };
            let _ = running::decode(&content, path(), &fields, &words);
            let _ = lines::decode(&[(path(), &content)], &fields, &words);
        }
        let _ = decode_text_input(content.clone(), path(), &fields[0], Alphabet::Tokens(table));
        let _ = Given::bytes("a", content).decode_text(&fields[0], Alphabet::Tokens(table));
    });
}

fn wav_files() -> Vec<Vec<u8>> {
    let forms = [(8, SampleFormat::Int), (16, SampleFormat::Int), (24, SampleFormat::Int), (32, SampleFormat::Float)];
    let file = |(bits_per_sample, sample_format): (u16, SampleFormat)| {
        let spec = WavSpec { channels: 2, sample_rate: 8000, bits_per_sample, sample_format };
        let mut content = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut content, spec).unwrap();
        for sample in 0..20 {
            match sample_format {
                SampleFormat::Int => writer.write_sample(sample).unwrap(),
                SampleFormat::Float => writer.write_sample(0.5_f32).unwrap(),
            }
        }
        writer.finalize().unwrap();
        content.into_inner()
    };
    forms.map(file).to_vec()
}

#[test]
fn wav_content() {
    let bound = Bound { per_byte: 16, constant: SMALL };
    fuzz("wav", wav_files, &bound, |content| {
        for dims in [vec![16], vec![2, 4]] {
            let _ = decode_sound_input(content.clone(), path(), &FieldType::new(DType::F32, dims), 8000);
        }
    });
}

fn archives() -> Vec<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in ["a/1_x.wav", "a/2_y.wav"].into_iter().zip(wav_files()) {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &content[..]).unwrap();
    }
    vec![archive.into_inner().unwrap()]
}

/// Writes the right checksum into every header of an archive, so that faults get past them.
fn repair_archive(content: &mut [u8]) {
    for header in content.chunks_exact_mut(512).filter(|header| &header[257..262] == b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

#[test]
fn archive_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    // Threads that decode have stacks and buffers of their own.
    let bound = Bound { per_byte: 32, constant: 1 << 20 };
    let fields = [FieldType::new(DType::F32, [8]), FieldType::scalar(DType::U8)];
    let source = Source::Wav(path.clone(), WavOptions { rate: 8000, label: Some("{}_*".to_owned()) });
    fuzz("archive", archives, &bound, |mut content| {
        repair_archive(&mut content);
        std::fs::write(&path, &content).unwrap();
        let _ = source.open(&fields);
    });
}

#[test]
fn image_content() {
    // Decoders have tables of their own, and limits on what they take beside the picture.
    let bound = Bound { per_byte: 16, constant: 4 << 20 };
    fuzz("image", image_files, &bound, |mut content| {
        as_inputs(&content);
        repair_checksums(&mut content);
        as_inputs(&content);
    });
}

#[test]
fn gzip_content() {
    let packed = || {
        [idx_files(), npy_files(), csv_files(), image_files()].concat().iter().map(|content| gzip(content)).collect()
    };
    // Deflate expands at most 1,032 times.
    let bound = Bound { per_byte: 4 * 1032, constant: 4 << 20 };
    fuzz("gzip", packed, &bound, |content| as_inputs(&content));
}

#[test]
fn npz_content() {
    let bound = Bound { per_byte: 4 * 1032, constant: 1 << 20 };
    let names = ["images".to_owned(), "labels".to_owned()];
    fuzz("npz", npz_files, &bound, |content| {
        let _ = npz::decode(&content, path(), &names, &[pair(), pair()]);
    });
}

#[test]
fn safetensors_content() {
    // The header is JSON: a name of one letter takes a map's entry.
    let bound = Bound { per_byte: 64, constant: 1 << 20 };
    let names = ["images".to_owned(), "labels".to_owned()];
    fuzz("safetensors", safetensors_files, &bound, |content| {
        let _ = safetensors::decode(&content, path(), &names, &[pair(), pair()]);
    });
}
