//! Whole sources, from files that the tests make: what is read, and what is said of bad files.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use image::{ExtendedColorType, ImageEncoder};
use nnc_data::csv::CsvOptions;
use nnc_data::text::TextOptions;
use nnc_data::wav::WavOptions;
use nnc_data::{Batch, Batches, Column, DType, DataError, ErrorKind, FieldType, Source, Split, Table, Vocabulary};
use nnc_data::{Given, WordOptions, encode_npy, epoch_order, write_npy};
use tempfile::TempDir;

fn read_input(path: &Path, ty: &FieldType) -> Result<Column, DataError> {
    Given::read(path)?.decode(ty)
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn save(path: PathBuf, content: &[u8]) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn npy(dtype: DType, dims: &[usize], bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    encode_npy(&mut content, dtype, dims, bytes).unwrap();
    content
}

fn grey_png(samples: &[u8], width: u32) -> Vec<u8> {
    let mut content = Vec::new();
    image::codecs::png::PngEncoder::new(&mut content)
        .write_image(samples, width, samples.len() as u32 / width, ExtendedColorType::L8)
        .unwrap();
    content
}

const IMAGES: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6];
const LABELS: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 2];

/// `(u8[1, 2], u8)`.
fn fields() -> Vec<FieldType> {
    vec![FieldType::new(DType::U8, [1, 2]), FieldType::scalar(DType::U8)]
}

fn columns(table: &Table) -> Vec<&[u8]> {
    table.columns.iter().map(|column| column.bytes.as_slice()).collect()
}

fn fault(source: Source, fields: &[FieldType]) -> DataError {
    source.open(fields).unwrap_err()
}

#[test]
fn idx_files_may_be_packed_whatever_their_name() {
    let folder = folder();
    let images = save(folder.path().join("images"), &gzip(IMAGES));
    let labels = save(folder.path().join("labels.gz"), LABELS);
    let table = Source::Idx(vec![images, labels]).open(&fields()).unwrap();
    assert_eq!(table.rows, 3);
    assert_eq!(columns(&table), [&[1, 2, 3, 4, 5, 6][..], &[0, 1, 2]]);
}

#[test]
fn files_of_one_source_must_agree() {
    let folder = folder();
    let images = save(folder.path().join("images"), IMAGES);
    let labels = save(folder.path().join("labels"), &[0, 0, 8, 1, 0, 0, 0, 2, 0, 1]);
    let error = fault(Source::Idx(vec![images.clone(), labels]), &fields());
    assert_eq!(error.kind, ErrorKind::Mismatch);
    assert!(error.message.contains("3 rows") && error.message.contains("has 2"), "{error}");
    let error = fault(Source::Idx(vec![images]), &fields());
    assert!(error.message.contains("1 file is given for 2 declared fields"), "{error}");
}

#[test]
fn a_missing_file_is_met_with_advice() {
    let folder = folder();
    save(folder.path().join("train-images-idx3-ubyte"), IMAGES);
    let path = folder.path().join("train-images-idx3-ubyte.gz");
    let error = fault(Source::Idx(vec![path.clone(), path]), &fields());
    assert_eq!(error.kind, ErrorKind::Missing);
    let help = error.help.unwrap();
    assert!(help.contains("`train-images-idx3-ubyte`"), "{help}");
    assert!(help.contains("--data DIR"), "{help}");
}

#[test]
fn a_cut_file_is_told_from_a_cut_archive() {
    let folder = folder();
    let labels = save(folder.path().join("labels"), LABELS);
    let plain = save(folder.path().join("plain"), &IMAGES[..20]);
    let packed = gzip(IMAGES);
    let packed = save(folder.path().join("packed"), &packed[..packed.len() - 12]);
    let error = fault(Source::Idx(vec![plain, labels.clone()]), &fields());
    assert!(error.message.contains("promises u8[3, 1, 2], 6 bytes, and 4 are there"), "{error}");
    let error = fault(Source::Idx(vec![packed, labels]), &fields());
    assert_eq!(error.kind, ErrorKind::Truncated);
    assert!(error.message.contains("gzip"), "{error}");
}

#[test]
fn csv_may_be_packed() {
    let folder = folder();
    let path = save(folder.path().join("a.csv"), &gzip(b"1,2,0\n3,4,1\n"));
    let table = Source::Csv(path, CsvOptions::default(), WordOptions::default()).open(&fields()).unwrap();
    assert_eq!(columns(&table), [&[1, 2, 3, 4][..], &[0, 1]]);
}

#[test]
fn a_text_teaches_its_characters() {
    let folder = folder();
    let window = [FieldType::new(DType::I32, [4])];
    let train = save(folder.path().join("train.txt"), &gzip(b"to be or not to be"));
    let options = TextOptions { vocabulary: 7, known: None };
    let table = Source::Text(train.clone(), options.clone()).open(&window).unwrap();
    assert_eq!(table.rows, 5);
    let names = table.classes.clone().unwrap();
    assert_eq!(names.concat(), " benort");

    let test = save(folder.path().join("test.txt"), b"noo\n bet\n");
    let same = TextOptions { known: Some(names.clone()), ..options.clone() };
    let error = fault(Source::Text(test, same.clone()), &window);
    assert_eq!(error.kind, ErrorKind::BadValue);
    assert!(error.to_string().contains("test.txt, line 1: the character `\\n` (U+000A)"), "{error}");

    let input = save(folder.path().join("input.txt"), b"tobe");
    let column = Given::read(&input).unwrap().decode_windows(&window[0], &names).unwrap();
    assert_eq!(column.rows, 1);
    assert_eq!(column.bytes, [6, 4, 1, 2].map(i32::to_le_bytes).concat());
    let numbers = save(folder.path().join("input.npy"), &npy(DType::I32, &[4], &column.bytes));
    assert_eq!(Given::read(&numbers).unwrap().decode_windows(&window[0], &names).unwrap(), column);

    let error = fault(Source::Text(train, TextOptions { vocabulary: 65, known: None }), &window);
    assert!(error.to_string().contains("has 7 different characters, but `vocabulary=65` is declared"), "{error}");
    let error = fault(Source::Text(folder.path().join("trian.txt"), options), &window);
    assert_eq!(error.kind, ErrorKind::Missing);
    assert!(error.to_string().contains("has `train.txt`"), "{error}");
}

/// `(words[4], u8)` of one table.
fn sentences(known: Option<Vec<Vocabulary>>) -> (Vec<FieldType>, WordOptions) {
    let fields = vec![FieldType::new(DType::I32, [4]), FieldType::scalar(DType::U8)];
    let tables = vec![Some(0), None];
    (fields, WordOptions { tables, sizes: vec![7], lowercase: true, known, ..WordOptions::default() })
}

fn ints(column: &Column) -> Vec<i32> {
    column.bytes.chunks(4).map(|bytes| i32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn a_column_of_text_is_numbered_by_its_words() {
    let folder = folder();
    let tab = CsvOptions { separator: b'\t', ..CsvOptions::default() };
    let (fields, words) = sentences(None);
    let path = save(folder.path().join("a.tsv"), b"a film\t1\nA bad, bad film a\t0\nfilm\t1\n");
    let table = Source::Csv(path, tab, words).open(&fields).unwrap();
    assert_eq!(table.vocabularies[0].words()[4..], ["a", "film", "bad"]);
    assert_eq!(ints(&table.columns[0]), [4, 5, 0, 0, 4, 6, 1, 6, 5, 0, 0, 0]);
    assert_eq!((&table.columns[1].bytes[..], &table.lines[..]), (&[1, 0, 1][..], &[1, 2, 3][..]));
    assert_eq!(table.remarks.len(), 2, "{:?}", table.remarks);
    assert!(table.remarks[0].ends_with("1 of 3 texts have more than 4 words, and were cut"), "{:?}", table.remarks);
    assert!(table.remarks[1].ends_with("14.3 % of the words are not in the table of 7"), "{:?}", table.remarks);

    let known = || sentences(Some(table.vocabularies.clone()));
    let path = save(folder.path().join("b.tsv"), b"bad new film\t1\n");
    let again = Source::Csv(path.clone(), tab, known().1).open(&fields).unwrap();
    assert_eq!(ints(&again.columns[0]), [6, 1, 5, 0]);
    assert_eq!(again.vocabularies, table.vocabularies);
    let other = WordOptions { sizes: vec![6], ..known().1 };
    let error = fault(Source::Csv(path, tab, other), &fields);
    assert!(error.message.contains("tables of [7] words, and [6] are declared"), "{error}");
}

#[test]
fn what_is_held_out_teaches_no_words() {
    let folder = folder();
    let path = save(folder.path().join("a.csv"), b"held,0\nkept once,1\nkept,0\nheld,1\nkept,1\nalso,0\n");
    let (fields, options) = sentences(None);
    let words = |splits: &[Split]| {
        let options = WordOptions { held_out: (splits.to_vec(), 3), ..options.clone() };
        let table = Source::Csv(path.clone(), CsvOptions::default(), options).open(&fields).unwrap();
        assert_eq!(table.rows, 6, "what is held out is numbered all the same");
        table.vocabularies[0].words()[4..].to_vec()
    };
    assert_eq!(words(&[]), ["kept", "held", "also"]);
    assert_eq!(words(&[Split::Every(3)]), ["kept", "also", "once"]);
    assert_eq!(
        words(&[Split::Every(3), Split::Tail(0.2)]),
        ["kept", "once"],
        "a second part is of what the first left"
    );
}

#[test]
fn texts_that_are_none_are_named_with_their_line() {
    let folder = folder();
    let tab = CsvOptions { separator: b'\t', ..CsvOptions::default() };
    let message = |content: &[u8]| {
        let (fields, words) = sentences(None);
        fault(Source::Csv(save(folder.path().join("a.tsv"), content), tab, words), &fields).to_string()
    };
    assert!(message(b"a\t1\n \t1\n").contains("a.tsv, line 2: the text has no words; fill it"));
    assert!(message(b" \t1\n").contains("has no word for a table of 7"));
    assert!(message(b"a\t1\nb\n").contains("line 2: has 1 cell, but the declared (words[4], u8) takes 2"));
    assert!(message(b"a\t1\n\xE9\t1\n").contains("line 2, column 1: is no text in UTF-8"));
    assert!(message(b"a\tgood\n").contains("has a header and no rows"));
    assert!(message(b"a\t1\nb\tgood\n").contains("line 2, column 2: expected a whole number for u8"));
}

#[test]
fn files_of_lines_belong_together() {
    let folder = folder();
    let from = save(folder.path().join("a.de"), &gzip("ein Haus\nzwei\n".as_bytes()));
    let into = save(folder.path().join("a.en"), b"a house\r\ntwo");
    let fields = [FieldType::new(DType::I32, [2]), FieldType::new(DType::I32, [3])];
    let own = WordOptions { tables: vec![Some(0), Some(1)], sizes: vec![9, 9], ..WordOptions::default() };
    let table = Source::Lines(vec![from.clone(), into.clone()], own.clone()).open(&fields).unwrap();
    assert_eq!(table.vocabularies[0].words()[4..], ["Haus", "ein", "zwei"]);
    assert_eq!((ints(&table.columns[0]), ints(&table.columns[1])), (vec![5, 4, 6, 0], vec![4, 5, 0, 6, 0, 0]));
    assert!(table.remarks.is_empty(), "{:?}", table.remarks);
    let shared = WordOptions { tables: vec![Some(0), Some(0)], sizes: vec![19], ..WordOptions::default() };
    let table = Source::Lines(vec![from.clone(), into], shared).open(&fields).unwrap();
    assert_eq!(table.vocabularies[0].words().len(), 10);

    let message = |content: &[u8]| {
        let into = save(folder.path().join("b.en"), content);
        fault(Source::Lines(vec![from.clone(), into], own.clone()), &fields).to_string()
    };
    assert!(message(b"a house\n").contains("b.en: has 1 line, but `"), "{}", message(b"a house\n"));
    assert!(message(b"a house\n\n").contains("b.en, line 2: the text has no words"));
    assert!(message(b"").contains("b.en: is empty"));
    let error = fault(Source::Lines(vec![from], own.clone()), &fields);
    assert!(error.message.contains("1 file is given for 2 declared fields"), "{error}");
}

#[test]
fn texts_are_inputs_by_lines() {
    let folder = folder();
    let vocabulary = Vocabulary::learn(["good film"].into_iter(), 9, true).unwrap();
    let ty = FieldType::new(DType::I32, [3]);
    let path = save(folder.path().join("a.txt"), b"Good film!\nnew\n");
    assert_eq!(ints(&Given::read(&path).unwrap().decode_words(&ty, &vocabulary).unwrap()), [5, 4, 1, 1, 0, 0]);
    let path = save(folder.path().join("a.npy"), &npy(DType::I32, &[3], &[7; 12]));
    assert_eq!(Given::read(&path).unwrap().decode_words(&ty, &vocabulary).unwrap().rows, 1);
    let path = save(folder.path().join("b.txt"), b"good\n\nfilm\n");
    let error = Given::read(&path).unwrap().decode_words(&ty, &vocabulary).unwrap_err().to_string();
    assert!(error.contains("b.txt, line 2: the text has no words"), "{error}");
}

/// A WAV file of 16 bits.
fn wav(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
    let spec =
        hound::WavSpec { channels, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut content = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut content, spec).unwrap();
    samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    content.into_inner()
}

fn floats(column: &Column) -> Vec<f32> {
    column.bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn tar_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &content[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

const NAMES: Option<&str> = Some("{}_*.wav");

fn sounds(path: PathBuf, label: Option<&str>) -> Source {
    Source::Wav(path, WavOptions { rate: 8000, label: label.map(str::to_owned) })
}

/// `(f32[3], u8)`.
fn sound_fields() -> Vec<FieldType> {
    vec![FieldType::new(DType::F32, [3]), FieldType::scalar(DType::U8)]
}

#[test]
fn sounds_in_an_archive_have_labels_in_their_names() {
    let folder = folder();
    let files = [
        ("all/7_b_1.wav", wav(8000, 1, &[16384, -32768])),
        ("all/7_a_0.wav", wav(8000, 2, &[16384, 0, 0, 0])),
        ("./all/3_a_0.wav", wav(8000, 1, &[1, 2, 3, 4])),
        ("all/.hidden", vec![1]),
    ];
    let path = save(folder.path().join("a.tar.gz"), &gzip(&tar_of(&files)));
    let table = sounds(path.clone(), NAMES).open(&sound_fields()).unwrap();
    assert_eq!(table.classes.as_deref(), Some(&["3".to_owned(), "7".to_owned()][..]));
    assert_eq!(table.names, ["all/3_a_0.wav", "all/7_a_0.wav", "all/7_b_1.wav"]);
    let unit = 1.0 / 32768.0;
    assert_eq!(floats(&table.columns[0]), [unit, 2.0 * unit, 3.0 * unit, 0.25, 0.0, 0.0, 0.5, -1.0, 0.0]);
    assert_eq!(table.columns[1].bytes, [0, 1, 1]);
    assert!(table.remarks[0].ends_with("1 of 3 sounds have more than 3 samples, and were cut"), "{:?}", table.remarks);
    // The folder in the archive may be named, too.
    let inner = sounds(path.join("all"), NAMES).open(&sound_fields()).unwrap();
    assert_eq!(inner.names[0], "3_a_0.wav");
    let error = fault(sounds(path.join("al"), NAMES), &sound_fields());
    assert!(error.message.contains("no such folder in the archive"), "{error}");
}

#[test]
fn entries_of_an_archive_that_are_no_files_are_told() {
    let folder = folder();
    let sound = wav(8000, 1, &[1, 2, 3]);
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(sound.len() as u64);
    archive.append_data(&mut header, "1_a.wav", &sound[..]).unwrap();
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Symlink);
    archive.append_link(&mut header, "2_a.wav", "1_a.wav").unwrap();
    header.set_entry_type(tar::EntryType::Directory);
    archive.append_data(&mut header, "empty", &[][..]).unwrap();
    let path = save(folder.path().join("a.tar"), &archive.into_inner().unwrap());
    let table = sounds(path, NAMES).open(&sound_fields()).unwrap();
    assert_eq!(table.rows, 1);
    assert_eq!(table.remarks.len(), 1, "{:?}", table.remarks);
    assert!(table.remarks[0].contains("`2_a.wav` are no plain files"), "{:?}", table.remarks);
}

#[test]
fn folders_without_an_end_are_refused() {
    let fields = sound_fields();
    let sound = wav(8000, 1, &[1, 2, 3]);
    let folder = folder();
    save(folder.path().join("1_a.wav"), &sound);
    for name in ["left", "right"] {
        std::os::unix::fs::symlink(".", folder.path().join(name)).unwrap();
    }
    let error = fault(sounds(folder.path().to_owned(), NAMES), &fields);
    assert!(error.to_string().contains("left: is a link that leads back to a folder around it"), "{error}");
    let deep = "a/".repeat(300) + "1_a.wav";
    let path = save(folder.path().join("deep.tar"), &tar_of(&[("1_a.wav", sound.clone())]));
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(sound.len() as u64);
    archive.append_data(&mut header, deep, &sound[..]).unwrap();
    fs::write(&path, archive.into_inner().unwrap()).unwrap();
    let error = fault(sounds(path, NAMES), &fields);
    assert!(error.message.contains("more than 256 folders"), "{error}");
}

#[test]
fn what_is_no_plain_file_is_refused() {
    let error = fault(Source::Csv("/dev/zero".into(), CsvOptions::default(), WordOptions::default()), &fields());
    assert!(error.message.contains("is a device"), "{error}");
    let folder = folder();
    save(folder.path().join("a/1.wav"), &wav(8000, 1, &[1]));
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("a/2.wav")).unwrap();
    let error = fault(sounds(folder.path().to_owned(), None), &sound_fields());
    assert!(error.to_string().contains("2.wav: is no plain file"), "{error}");
}

#[test]
fn sounds_that_are_none_are_named() {
    let message = |name: &str, content: &[u8], fields: &[FieldType]| {
        let folder = folder();
        save(folder.path().join("a").join(name), content);
        fault(sounds(folder.path().to_owned(), NAMES), fields).to_string()
    };
    let fields = sound_fields();
    let sound = wav(8000, 1, &[1, 2, 3]);
    let found = message("1_a.wav", b"ID3\x03mp3", &fields);
    assert!(found.contains("1_a.wav: is no WAV file: it begins with the bytes 49 44 33 03"), "{found}");
    let found = message("1_a.wav", &wav(16000, 1, &[1]), &fields);
    assert!(found.contains("has 16000 samples in a second, but `rate=8000` is declared; convert it"), "{found}");
    let found = message("1_a.wav", &wav(8000, 1, &[]), &fields);
    assert!(found.contains("has no samples"), "{found}");
    let found = message("1_a.wav", &sound[..sound.len() - 1], &fields);
    assert!(found.contains("the WAV file is cut off"), "{found}");
    let found = message("one.wav", &sound, &fields);
    assert!(found.contains("its name has not the form `{}_*.wav`"), "{found}");
    let stereo = [FieldType::new(DType::F32, [2, 3]), FieldType::scalar(DType::U8)];
    let found = message("1_a.wav", &sound, &stereo);
    assert!(found.contains("has 1 channel, but f32[2, 3] is declared"), "{found}");
    let ints = [FieldType::new(DType::U8, [3]), FieldType::scalar(DType::U8)];
    let found = message("1_a.wav", &sound, &ints);
    assert!(found.contains("a sound cannot be declared u8[3]"), "{found}");
}

#[test]
fn channels_may_stay_apart_and_folders_are_classes() {
    let folder = folder();
    save(folder.path().join("hum/a.wav"), &wav(8000, 2, &[16384, 0, 0, -16384]));
    save(folder.path().join("beep/b.wav"), &wav(8000, 2, &[0, 0, 0, 0, 0, 0]));
    let fields = [FieldType::new(DType::F32, [2, 3]), FieldType::scalar(DType::U8)];
    let table = sounds(folder.path().to_owned(), None).open(&fields).unwrap();
    assert_eq!(table.classes.as_deref(), Some(&["beep".to_owned(), "hum".to_owned()][..]));
    assert_eq!(floats(&table.columns[0])[6..], [0.5, 0.0, 0.0, 0.0, -0.5, 0.0]);
}

#[test]
fn one_sound_is_an_input() {
    let folder = folder();
    let ty = FieldType::new(DType::F32, [3]);
    let path = save(folder.path().join("a.wav"), &wav(8000, 1, &[16384]));
    assert_eq!(floats(&Given::read(&path).unwrap().decode_sound(&ty, 8000).unwrap()), [0.5, 0.0, 0.0]);
    let path = save(folder.path().join("a.csv"), b"1,2,3\n");
    assert_eq!(floats(&Given::read(&path).unwrap().decode_sound(&ty, 8000).unwrap()), [1.0, 2.0, 3.0]);
}

#[test]
fn an_archive_is_a_folder_of_images() {
    let folder = folder();
    let files: Vec<(&str, Vec<u8>)> = ["t/dog/1.png", "t/cat/2.png", "t/cat/1.png"]
        .iter()
        .zip(1..)
        .map(|(&name, n)| (name, grey_png(&[n, n], 2)))
        .collect();
    let path = save(folder.path().join("a.tar"), &tar_of(&files));
    let open = |inner: &str| Source::Images(vec![path.join(inner)], None);
    let table = open("t").open(&fields()).unwrap();
    assert_eq!(columns(&table), [&[3, 3, 2, 2, 1, 1][..], &[0, 0, 1]]);
    assert_eq!(table.names, ["cat/1.png", "cat/2.png", "dog/1.png"]);
    let error = fault(open(""), &fields());
    assert!(error.message.contains("has a folder `cat` in it"), "{error}");
    let damaged = save(folder.path().join("b.tar"), &tar_of(&files)[..522]);
    let error = fault(Source::Images(vec![damaged], None), &fields());
    assert!(error.message.contains("archive is"), "{error}");
    let other = save(folder.path().join("c.tar"), b"no archive");
    let error = fault(Source::Images(vec![other], None), &fields());
    assert!(error.message.contains("neither a folder nor a tar archive"), "{error}");
}

#[test]
fn images_have_masks_of_the_same_name() {
    let folder = folder();
    let (images, masks) = (folder.path().join("images"), folder.path().join("masks"));
    for (name, value) in [("b.png", 2), ("a.png", 1)] {
        save(images.join(name), &grey_png(&[value, value], 2));
        save(masks.join(name), &grey_png(&[255, 0], 2));
    }
    let fields = [FieldType::new(DType::U8, [1, 2]), FieldType::new(DType::U8, [1, 2])];
    let source = || Source::Images(vec![images.clone(), masks.clone()], None);
    let table = source().open(&fields).unwrap();
    assert_eq!(columns(&table), [&[1, 1, 2, 2][..], &[255, 0, 255, 0]]);
    fs::rename(masks.join("b.png"), masks.join("c.png")).unwrap();
    let error = fault(source(), &fields);
    assert!(error.message.contains("has no partner of `b`"), "{error}");
    save(masks.join("b.png"), &grey_png(&[255, 0], 2));
    let error = fault(source(), &fields);
    assert!(error.message.contains("has `c`, which"), "{error}");
}

#[test]
fn npy_and_npz_hold_the_same() {
    let folder = folder();
    let arrays = [npy(DType::U8, &[2, 1, 2], &[1, 2, 3, 4]), npy(DType::U8, &[2], &[7, 8])];
    let files = ["x", "y"].map(|name| folder.path().join(name));
    let files = files.iter().zip(&arrays).map(|(path, array)| save(path.clone(), array));
    let table = Source::Npy(files.collect()).open(&fields()).unwrap();
    assert_eq!(columns(&table), [&[1, 2, 3, 4][..], &[7, 8]]);

    for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, array) in ["y.npy", "x.npy"].into_iter().zip(arrays.iter().rev()) {
            archive.start_file(name, options).unwrap();
            archive.write_all(array).unwrap();
        }
        let path = save(folder.path().join("a.npz"), &archive.finish().unwrap().into_inner());
        let named = |names: [&str; 2]| Source::Npz(path.clone(), names.map(str::to_owned).to_vec());
        assert_eq!(named(["x", "y"]).open(&fields()).unwrap(), table);
        let error = fault(named(["x", "labels"]), &fields());
        assert!(error.to_string().ends_with("has no array `labels`; it has `x`, `y`"), "{error}");
        let error = fault(named(["y", "x"]), &fields());
        assert!(error.to_string().contains("a.npz, `y`: has the shape [2]"), "{error}");
    }
}

#[test]
fn an_array_of_another_type_is_refused() {
    let folder = folder();
    let path = save(folder.path().join("a.npy"), &npy(DType::F64, &[1, 2], &[0; 16]));
    let error = fault(Source::Npy(vec![path]), &[FieldType::new(DType::F32, [2])]);
    assert_eq!(error.kind, ErrorKind::WrongType);
    assert!(error.message.contains("f64") && error.message.contains("f32[2]"), "{error}");
    let path = save(folder.path().join("b.npy"), &npy(DType::F32, &[0, 2], &[]));
    let error = fault(Source::Npy(vec![path]), &[FieldType::new(DType::F32, [2])]);
    assert_eq!(error.kind, ErrorKind::Empty);
}

/// A folder with two classes, three images of two pixels.
fn image_folder() -> TempDir {
    let folder = folder();
    save(folder.path().join("dog/1.png"), &grey_png(&[5, 6], 2));
    save(folder.path().join("cat/b.png"), &grey_png(&[3, 4], 2));
    save(folder.path().join("cat/a.png"), &grey_png(&[1, 2], 2));
    save(folder.path().join("cat/.hidden"), b"not an image");
    folder
}

fn image_fault(folder: &Path) -> DataError {
    fault(Source::Images(vec![folder.to_owned()], None), &fields())
}

#[test]
fn classes_and_images_are_sorted_by_name() {
    let folder = image_folder();
    let table = Source::Images(vec![folder.path().to_owned()], None).open(&fields()).unwrap();
    assert_eq!(table.classes.as_deref(), Some(&["cat".to_owned(), "dog".to_owned()][..]));
    assert_eq!(columns(&table), [&[1, 2, 3, 4, 5, 6][..], &[0, 0, 1]]);
}

#[test]
fn many_images_keep_their_order() {
    let folder = folder();
    for index in 0..100u8 {
        save(folder.path().join(format!("{index:03}.png")), &grey_png(&[index, 1], 2));
    }
    let image = &fields()[..1];
    let table = Source::Images(vec![folder.path().to_owned()], None).open(image).unwrap();
    let firsts: Vec<u8> = table.columns[0].bytes.iter().copied().step_by(2).collect();
    assert_eq!(firsts, (0..100).collect::<Vec<u8>>());
    assert_eq!(table.classes, None);
}

#[test]
fn an_image_of_another_size_is_named() {
    let folder = image_folder();
    save(folder.path().join("dog/2.png"), &grey_png(&[1, 2, 3], 3));
    let error = image_fault(folder.path());
    assert_eq!(error.kind, ErrorKind::WrongShape);
    assert!(error.file.ends_with("dog/2.png"), "{error}");
    assert!(error.message.contains("3 wide and 1 high"), "{error}");
    assert!(error.message.contains("2 wide and 1 high"), "{error}");
}

#[test]
fn folders_that_make_no_sense_are_refused() {
    let folder = image_folder();
    save(folder.path().join("dog/notes.txt"), b"not an image");
    let error = image_fault(folder.path());
    assert!(error.file.ends_with("dog/notes.txt"), "{error}");
    fs::remove_file(folder.path().join("dog/notes.txt")).unwrap();

    save(folder.path().join("stray.png"), &grey_png(&[1, 2], 2));
    assert_eq!(image_fault(folder.path()).kind, ErrorKind::Mismatch);
    fs::remove_file(folder.path().join("stray.png")).unwrap();

    save(folder.path().join("dog/inner/1.png"), &grey_png(&[1, 2], 2));
    assert_eq!(image_fault(folder.path()).kind, ErrorKind::Mismatch);
    fs::remove_dir_all(folder.path().join("dog/inner")).unwrap();

    fs::create_dir(folder.path().join("eel")).unwrap();
    let error = image_fault(folder.path());
    assert_eq!(error.kind, ErrorKind::Empty);
    assert!(error.file.ends_with("eel"), "{error}");

    let empty = tempfile::tempdir().unwrap();
    assert_eq!(image_fault(empty.path()).kind, ErrorKind::Empty);
    assert_eq!(image_fault(&empty.path().join("none")).kind, ErrorKind::Missing);
}

#[test]
fn a_label_must_hold_the_classes() {
    let folder = image_folder();
    let source = Source::Images(vec![folder.path().to_owned()], None);
    let image = fields().remove(0);
    let error = fault(source.clone(), &[image.clone(), FieldType::scalar(DType::F32)]);
    assert_eq!(error.kind, ErrorKind::WrongType);
    let wide = source.open(&[image, FieldType::scalar(DType::I32)]).unwrap();
    assert_eq!(wide.columns[1].bytes.len(), 12);
}

#[test]
fn fields_without_a_size_are_refused() {
    let folder = folder();
    let path = save(folder.path().join("a.csv"), b"1\n");
    for dims in [vec![0, 3], vec![usize::MAX, 2]] {
        let source = Source::Csv(path.clone(), CsvOptions::default(), WordOptions::default());
        let error = fault(source, &[FieldType::new(DType::U8, dims)]);
        assert_eq!(error.kind, ErrorKind::BadRequest);
    }
}

#[test]
fn inputs_are_told_by_content() {
    let folder = folder();
    let image = &fields()[0];
    let read = |name: &str, content: &[u8]| read_input(&save(folder.path().join(name), content), image).unwrap();
    for (name, content) in [
        ("one.npy", npy(DType::U8, &[1, 2], &[1, 2])),
        ("batch.npy", npy(DType::U8, &[1, 1, 2], &[1, 2])),
        ("packed", gzip(&npy(DType::U8, &[1, 2], &[1, 2]))),
        ("image.jpg", grey_png(&[1, 2], 2)),
        ("text", b"1,2\n".to_vec()),
        ("mnist.png", [&[0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 2][..], &[1, 2]].concat()),
    ] {
        let column = read(name, &content);
        assert_eq!((column.rows, column.bytes.as_slice()), (1, &[1, 2][..]), "{name}");
    }
    assert_eq!(read("rows.csv", b"1,2\n3,4\n").rows, 2);
    assert_eq!(read("images", &gzip(IMAGES)).rows, 3);
}

#[test]
fn inputs_that_are_not_read_say_what_is() {
    let folder = folder();
    let image = &fields()[0];
    let fault = |content: &[u8]| read_input(&save(folder.path().join("a"), content), image).unwrap_err();
    assert!(fault(b"GIF89a").to_string().contains("is a GIF image; give one of: .npy, CSV, PNG, JPEG, idx"));
    assert!(fault(b"PK\x03\x04").help.unwrap().contains("numpy.save"));
    assert!(fault(b"").message.contains("is empty"));
    assert!(fault(b"\x01\x02\x03\x04\x05").message.contains("begins with the bytes 01 02 03 04"));
    assert!(fault(b"1,2,3\n").message.contains("has 3 cells, but the declared (u8[1, 2]) takes 2"));
    assert!(fault(b"1;2\n").help.unwrap().contains("separated by commas"));
    assert_eq!(fault(b"1,2.5\n").help, None);
    let error = read_input(folder.path(), image).unwrap_err();
    assert!(error.message.contains("is a folder"), "{error}");
    let error = read_input(&folder.path().join("b"), image).unwrap_err();
    assert!(!error.to_string().contains("--data"), "{error}");
}

#[test]
fn what_is_written_is_read_again() {
    let folder = folder();
    for dtype in DType::ALL {
        let path = folder.path().join(dtype.name());
        let bytes = vec![1; 6 * dtype.size()];
        write_npy(&path, dtype, &[3, 2], &bytes).unwrap();
        let column = read_input(&path, &FieldType::new(dtype, [2])).unwrap();
        assert_eq!((column.rows, column.bytes), (3, bytes));
    }
    let error = write_npy(&folder.path().join("a"), DType::F32, &[2], &[0; 4]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unwritable);
    assert!(!folder.path().join("a").exists());
}

#[test]
fn an_epoch_from_file_to_batches() {
    let folder = folder();
    let text: String = (0..20).map(|row| format!("{row},{row},{row}\n")).collect();
    let path = save(folder.path().join("a.csv"), text.as_bytes());
    let table = Source::Csv(path, CsvOptions::default(), WordOptions::default()).open(&fields()).unwrap();
    let parts = Split::Every(5).apply(table.rows, 0).unwrap();
    let order = epoch_order(&parts.kept, 7, 3);
    let mut batches = Batches::new(table.into(), order.clone(), 6, 0).unwrap();
    let mut seen = Vec::new();
    while let Some(Batch { indices, fields, .. }) = batches.next_batch().unwrap() {
        assert!(indices.iter().map(|&row| row as u8).eq(fields[1].iter().copied()));
        seen.extend_from_slice(indices);
    }
    assert_eq!(seen, order);
    assert!(seen.iter().all(|row| row % 5 != 0));
}
