//! Whole sources, from files that the tests make: what is read, and what is said of bad files.

mod common;

use common::{columns, fault, fields, folder, grey_png, gzip, save};
use nnc_data::csv::CsvOptions;
use nnc_data::text::TextOptions;
use nnc_data::{
    Alphabet, Batch, Batches, Column, DType, DataError, ErrorKind, FieldType, Source, Split, TokenTable, Unit,
    Vocabulary, WordTable,
};
use nnc_data::{Given, WordOptions, encode_npy, epoch_order, write_npy};
use std::io::{Cursor, Write};
use std::path::Path;

fn read_input(path: &Path, ty: &FieldType) -> Result<Column, DataError> {
    Given::read(path)?.decode(ty)
}

fn npy(dtype: DType, dims: &[usize], bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    encode_npy(&mut content, dtype, dims, bytes).unwrap();
    content
}

const IMAGES: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6];
const LABELS: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 2];

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
    let column = Given::read(&input).unwrap().decode_windows(&window[0], Alphabet::Characters(&names)).unwrap();
    assert_eq!(column.rows, 1);
    assert_eq!(column.bytes, [6, 4, 1, 2].map(i32::to_le_bytes).concat());
    let numbers = save(folder.path().join("input.npy"), &npy(DType::I32, &[4], &column.bytes));
    assert_eq!(
        Given::read(&numbers).unwrap().decode_windows(&window[0], Alphabet::Characters(&names)).unwrap(),
        column
    );

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
    assert_eq!(table.vocabularies[0].words().unwrap().words()[4..], ["a", "film", "bad"]);
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

/// A mark that quotes nothing takes no rows with it: between tabs it is a letter, elsewhere it is told.
#[test]
fn stray_marks_lose_no_rows() {
    let folder = folder();
    let read = |content: &[u8], options: CsvOptions| {
        let (fields, words) = sentences(None);
        Source::Csv(save(folder.path().join("a"), content), options, words).open(&fields)
    };
    let tab = CsvOptions { separator: b'\t', ..CsvOptions::default() };
    let table = read(b"\"a film\t1\n\"bad\" a\t0\nit is \"\t1\n", tab).unwrap();
    assert_eq!((table.rows, &table.lines[..]), (3, &[1, 2, 3][..]));
    let found = read(b"a,1\n\"a film,1\n\"bad\" a,0\n", CsvOptions::default()).unwrap_err().to_string();
    assert!(found.contains("line 2, column 1: the cell begins with `\"`"), "{found}");
    let letters = CsvOptions { quotes: Some(false), ..CsvOptions::default() };
    assert_eq!(read(b"a,1\n\"a film,1\n\"bad\" a,0\n", letters).unwrap().rows, 3);
    // What could have been meant is read, and told.
    let table = read(b"a,1\n\"a\nfilm\",1\n", CsvOptions::default()).unwrap();
    let told = table.remarks.iter().any(|remark| remark.contains("1 of 2 rows go over several lines"));
    assert!(table.rows == 2 && told && table.remarks.iter().any(|remark| remark.ends_with("from line 2 on")));
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
        table.vocabularies[0].words().unwrap().words()[4..].to_vec()
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
fn texts_that_no_memory_holds_are_refused() {
    let folder = folder();
    let path = save(folder.path().join("a.csv"), b"a film,1\n");
    let (mut fields, options) = sentences(None);
    fields[0] = FieldType::new(DType::I32, [1 << 50]);
    let error = fault(Source::Csv(path, CsvOptions::default(), options), &fields);
    assert!(error.message.contains("take more memory than there is"), "{error}");
}

#[test]
fn files_of_lines_belong_together() {
    let folder = folder();
    let from = save(folder.path().join("a.de"), &gzip("ein Haus\nzwei\n".as_bytes()));
    let into = save(folder.path().join("a.en"), b"a house\r\ntwo");
    let fields = [FieldType::new(DType::I32, [2]), FieldType::new(DType::I32, [3])];
    let own = WordOptions { tables: vec![Some(0), Some(1)], sizes: vec![9, 9], ..WordOptions::default() };
    let table = Source::Lines(vec![from.clone(), into.clone()], own.clone()).open(&fields).unwrap();
    assert_eq!(table.vocabularies[0].words().unwrap().words()[4..], ["Haus", "ein", "zwei"]);
    assert_eq!((ints(&table.columns[0]), ints(&table.columns[1])), (vec![5, 4, 6, 0], vec![4, 5, 0, 6, 0, 0]));
    assert!(table.remarks.is_empty(), "{:?}", table.remarks);
    let shared = WordOptions { tables: vec![Some(0), Some(0)], sizes: vec![19], ..WordOptions::default() };
    let table = Source::Lines(vec![from.clone(), into], shared).open(&fields).unwrap();
    assert_eq!(table.vocabularies[0].words().unwrap().words().len(), 10);

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
    let vocabulary = Vocabulary::Words(WordTable::learn(["good film"].into_iter(), 9, true).unwrap());
    let ty = FieldType::new(DType::I32, [3]);
    let path = save(folder.path().join("a.txt"), b"Good film!\nnew\n");
    assert_eq!(ints(&Given::read(&path).unwrap().decode_words(&ty, &vocabulary).unwrap()), [5, 4, 1, 1, 0, 0]);
    let path = save(folder.path().join("a.npy"), &npy(DType::I32, &[3], &[7; 12]));
    assert_eq!(Given::read(&path).unwrap().decode_words(&ty, &vocabulary).unwrap().rows, 1);
    let path = save(folder.path().join("b.txt"), b"good\n\nfilm\n");
    let error = Given::read(&path).unwrap().decode_words(&ty, &vocabulary).unwrap_err().to_string();
    assert!(error.contains("b.txt, line 2: the text has no words"), "{error}");
}

#[test]
fn texts_of_tokens_are_cells_lines_and_windows() {
    let folder = folder();
    let text = "ein Haus, ein Haus\nzwei H\u{e4}user\n";
    let path = save(folder.path().join("a.de"), text.as_bytes());
    let options =
        |size| WordOptions { tables: vec![Some(0)], unit: Unit::Tokens, sizes: vec![size], ..WordOptions::default() };
    let field = [FieldType::new(DType::I32, [4])];
    let lines = Source::Lines(vec![path.clone()], options(264)).open(&field).unwrap();
    assert_eq!((lines.rows, &lines.tables[..]), (2, &[Some(0)][..]));
    assert!(
        lines.remarks[0].ends_with("a.de: 2 of 2 texts have more than 4 tokens, and were cut"),
        "{:?}",
        lines.remarks
    );
    let windows = Source::Running(path, options(264)).open(&field).unwrap();
    assert!(windows.rows > 4 && windows.tables.is_empty(), "{windows:?}");
    let cells = save(folder.path().join("a.csv"), b"ein Haus,1\nzwei,0\n");
    let fields = [field[0].clone(), FieldType::scalar(DType::U8)];
    let two = WordOptions { tables: vec![Some(0), None], ..options(260) };
    let table = Source::Csv(cells, CsvOptions::default(), two).open(&fields).unwrap();
    assert_eq!(ints(&table.columns[0])[4..], [126, 123, 105, 109]);
    let tokens = Vocabulary::Tokens(TokenTable::new(Vec::new()).unwrap());
    let given = Given::text("a", "no\nx").decode_words(&field[0], &tokens).unwrap();
    assert_eq!(ints(&given), [114, 115, 0, 0, 124, 0, 0, 0]);
    let error = Given::text("a", "no\n\nx").decode_words(&field[0], &tokens).unwrap_err().to_string();
    assert!(error.contains("a, line 2: the text has no tokens"), "{error}");
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
fn tensors_of_a_file_fill_the_fields() {
    let folder = folder();
    let save_as = |name: &str, dtype, labels: &[u8]| {
        let view = |dtype, shape, bytes| safetensors::tensor::TensorView::new(dtype, shape, bytes).unwrap();
        let tensors =
            [("x", view(safetensors::Dtype::U8, vec![2, 1, 2], &[1, 2, 3, 4])), ("y", view(dtype, vec![2], labels))];
        save(folder.path().join(name), &safetensors::serialize(tensors, None).unwrap())
    };
    let named = |path: &Path, names: [&str; 2]| {
        let path = path.to_owned();
        Source::Safetensors(path, names.map(str::to_owned).to_vec())
    };
    let path = save_as("a.safetensors", safetensors::Dtype::U8, &[7, 8]);
    let table = named(&path, ["x", "y"]).open(&fields()).unwrap();
    assert_eq!(columns(&table), [&[1, 2, 3, 4][..], &[7, 8]]);
    let error = fault(named(&path, ["x", "labels"]), &fields());
    assert!(error.to_string().ends_with("has no array `labels`; it has `x`, `y`"), "{error}");
    let error = fault(named(&path, ["y", "x"]), &fields());
    assert!(error.to_string().contains("a.safetensors, `y`: has the shape [2]"), "{error}");
    let wide = save_as("b.safetensors", safetensors::Dtype::U16, &[7, 0, 8, 0]);
    let error = fault(named(&wide, ["x", "y"]), &fields());
    assert!(error.to_string().contains("`y`: has elements of the type U16, which is not read"), "{error}");
    let content = std::fs::read(&path).unwrap();
    let cut = save(folder.path().join("c.safetensors"), &content[..content.len() - 1]);
    let error = fault(named(&cut, ["x", "y"]), &fields());
    assert!(error.to_string().contains("is no whole .safetensors file"), "{error}");
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
