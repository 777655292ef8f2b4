//! Tables as text: headers, faults with their places, and quoted cells.

use super::*;
use crate::types::DType;

fn fields() -> Vec<FieldType> {
    vec![FieldType::new(DType::F32, [2]), FieldType::scalar(DType::U8)]
}

fn read(text: &str) -> Result<Table> {
    decode(text.as_bytes(), Path::new("a.csv"), &fields(), &CsvOptions::default())
}

fn tabs(quotes: Option<bool>) -> CsvOptions {
    CsvOptions { separator: b'\t', quotes, ..CsvOptions::default() }
}

fn fault(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn cells_fill_the_fields_in_order() {
    let table = read("1,2,3\n4,5.5,6\n").unwrap();
    assert_eq!(table.rows, 2);
    let floats: Vec<u8> = [1f32, 2.0, 4.0, 5.5].into_iter().flat_map(f32::to_le_bytes).collect();
    assert_eq!(table.columns[0].bytes, floats);
    assert_eq!(table.columns[1].bytes, [3, 6]);
}

#[test]
fn a_header_is_told_from_data() {
    assert_eq!(read("a,b,label\n1,2,3\n").unwrap().rows, 1);
    assert_eq!(read("\u{FEFF}a,b,c\r\n1,2,3\r\n").unwrap().rows, 1);
    assert!(fault("a,b,3\n1,2,3\n").contains("line 1, column 1"));
    let forced = CsvOptions { header: Some(true), ..CsvOptions::default() };
    let table = decode(b"1,2,3\n4,5,6\n", Path::new("a"), &fields(), &forced).unwrap();
    assert_eq!(table.rows, 1);
}

#[test]
fn faults_name_line_and_column() {
    assert!(fault("1,2,3\n\n4,x,6\n").starts_with("a.csv, line 3, column 2: expected a finite number"));
    assert!(fault("1,2,3\r\n\r\n4,5,256\r\n").contains("line 3, column 3"));
    assert!(fault("x,y,label\n1,2,3\n1,,3\n").contains("line 3, column 2 (`y`)"));
    assert!(fault("1,2,3\n4,5\n").contains("line 2: has 2 cells, but the declared (f32[2], u8) takes 3"));
    assert!(fault("1,2,3\n4,5,nan\n").contains("line 2, column 3"));
}

#[test]
fn each_row_knows_its_line() {
    assert_eq!(read("a,b,c\n1,2,3\n\n\n4,5,6\n").unwrap().lines, [2, 5]);
    assert_eq!(read("\r\n1,2,3\r\n4,5,6\r\n\r\n7,8,9").unwrap().lines, [2, 3, 5]);
}

#[test]
fn another_separator_is_proposed() {
    assert!(fault("1;2;3\n").contains("separator=\";\""));
    let options = tabs(None);
    assert_eq!(decode(b"1\t2\t3", Path::new("a"), &fields(), &options).unwrap().rows, 1);
}

#[test]
fn a_mark_without_its_partner_is_told() {
    let found = fault("\"1,2,3\n4,5,6\n");
    assert!(found.contains("begins with `\"`") && !found.contains("separator="), "{found}");
}

#[test]
fn a_quoted_cell_that_goes_on_is_told() {
    let found = fault("1,2,3\n4,\"5\n6,7\"8,9\"\n");
    assert!(found.contains("line 2, column 2: the cell begins with `\"`, and goes on behind the next one, on line 3"));
    assert!(found.contains("`quotes=false`"), "{found}");
    assert_eq!(read("\"1\",\"2\",3\n").unwrap().rows, 1);
}

#[test]
fn between_tabs_marks_are_letters_unless_asked() {
    let read = |text: &str, quotes| decode(text.as_bytes(), Path::new("a.tsv"), &fields(), &tabs(quotes));
    let found = read("1\t\"2\"\t3\n", None).unwrap_err().to_string();
    assert!(found.contains("column 2") && found.contains("`quotes=true`"), "{found}");
    assert_eq!(read("1\t\"2\"\t3\n", Some(true)).unwrap().rows, 1);
}

#[test]
fn a_header_that_nobody_asked_for_is_told() {
    let found = fault("a,b,c\nx,y,z\n");
    assert!(found.contains("line 2") && found.contains("taken for a header") && found.contains("header=false"));
    assert!(!fault("a,b,c\n1,2,3\nx,y,z\n").contains("header=false"));
}

#[test]
fn a_separator_is_no_part_of_a_number() {
    for separator in [b'1', b'.', b'"', b'\n', 0xFF] {
        let options = CsvOptions { separator, ..CsvOptions::default() };
        let error = decode(b"1\n", Path::new("a"), &fields(), &options).unwrap_err();
        assert_eq!(error.kind, ErrorKind::BadRequest);
    }
}

#[test]
fn nothing_to_read_is_a_fault() {
    assert!(fault("").contains("is empty"));
    assert!(fault("a,b,c\n").contains("no rows"));
    let error = decode(b"\x93NUMPY\x01\0", Path::new("a"), &fields(), &CsvOptions::default());
    assert!(error.unwrap_err().message.contains(".npy"));
}

#[test]
fn excerpts_stay_on_one_line() {
    assert_eq!(excerpt(b" a\nb "), "a\\nb");
    assert!(excerpt(&[b'x'; 500]).len() < 50);
}
