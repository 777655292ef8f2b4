//! Folders and archives of images and sounds, from files that the tests make: what is read, and what is said of bad
//! ones.

mod common;

use common::{columns, fault, fields, folder, grey_png, gzip, save};
use nnc_data::csv::CsvOptions;
use nnc_data::wav::WavOptions;
use nnc_data::{Column, DType, DataError, ErrorKind, FieldType, Given, Source, WordOptions, decode_sound_input};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

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
fn a_sound_that_is_given_tells_that_it_is_cut() {
    let ty = FieldType::new(DType::F32, [3]);
    let given = |samples: &[i16]| decode_sound_input(wav(8000, 1, samples), Path::new("a.wav"), &ty, 8000).unwrap();
    assert!(given(&[1, 2, 3]).remarks.is_empty());
    assert_eq!(given(&[1, 2, 3, 4]).remarks, ["a.wav: the sound has more than 3 samples, and was cut"]);
}
