//! Whole sources, from files that the tests make: what is read, and what is said of bad files.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use image::{ExtendedColorType, ImageEncoder};
use nnc_data::csv::CsvOptions;
use nnc_data::text::TextOptions;
use nnc_data::{Batch, Batches, DType, DataError, ErrorKind, FieldType, Source, Split, Table};
use nnc_data::{encode_npy, epoch_order, read_input, read_text_input, write_npy};
use tempfile::TempDir;

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
    let table = Source::Csv(path, CsvOptions::default()).open(&fields()).unwrap();
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
    let column = read_text_input(&input, &window[0], &names).unwrap();
    assert_eq!(column.rows, 1);
    assert_eq!(column.bytes, [6, 4, 1, 2].map(i32::to_le_bytes).concat());
    let numbers = save(folder.path().join("input.npy"), &npy(DType::I32, &[4], &column.bytes));
    assert_eq!(read_text_input(&numbers, &window[0], &names).unwrap(), column);

    let error = fault(Source::Text(train, TextOptions { vocabulary: 65, known: None }), &window);
    assert!(error.to_string().contains("has 7 different characters, but `vocabulary=65` is declared"), "{error}");
    let error = fault(Source::Text(folder.path().join("trian.txt"), options), &window);
    assert_eq!(error.kind, ErrorKind::Missing);
    assert!(error.to_string().contains("has `train.txt`"), "{error}");
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
    fault(Source::Images(folder.to_owned()), &fields())
}

#[test]
fn classes_and_images_are_sorted_by_name() {
    let folder = image_folder();
    let table = Source::Images(folder.path().to_owned()).open(&fields()).unwrap();
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
    let table = Source::Images(folder.path().to_owned()).open(image).unwrap();
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
    let source = Source::Images(folder.path().to_owned());
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
        let source = Source::Csv(path.clone(), CsvOptions::default());
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
    let table = Source::Csv(path, CsvOptions::default()).open(&fields()).unwrap();
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
