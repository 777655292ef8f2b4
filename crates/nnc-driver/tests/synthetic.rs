//! Sources written in the language: the same in every run, another example in each row and each split, made from files
//! or from nothing.

use nnc_driver::{Dataset, DriverError, Learned, Project, Wanted};
use nnc_lang::elaborate::Options;
use std::fs;
use std::path::Path;

/// A file with these items, and three rows of numbers beside it.
fn project(folder: &Path, items: &str) -> Project {
    fs::write(folder.join("rows.csv"), "1,2\n3,4\n5,6\n").unwrap();
    fs::write(folder.join("made.nn"), items).unwrap();
    Project::load(&folder.join("made.nn"), &Options::default()).unwrap()
}

fn opened(items: &str, seed: u64) -> Result<Dataset, DriverError> {
    let folder = tempfile::tempdir().unwrap();
    let project = project(folder.path(), items);
    Dataset::open(&project.unit.data[0], folder.path(), seed, Wanted::All, &Learned::default())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

/// A ring: an angle and a little noise; inside or outside.
const RING: &str = "
    fn ring(noise: float = 0.1) -> (f32[2], i32) {
        label = i32(uniform([]) < 0.5)
        angle = 6.283185 * uniform([])
        radius = 1 + f32(label) + noise * normal([])
        return stack([radius * cos(angle), radius * sin(angle)]), label
    }
    data rings {
        train: (f32[2], i32) = synthetic(ring, count=150)
        test: (f32[2], i32) = synthetic(ring(noise=0.0), count=70)
        validation = 0.2
        x: f32[2] = train.0
        label: i32 = train.1
    }";

#[test]
fn examples_are_the_same_in_every_run_and_differ_from_row_to_row() {
    let (first, again) = (opened(RING, 1).unwrap(), opened(RING, 2).unwrap());
    assert_eq!(first.train.table.columns, again.train.table.columns, "the seed of a run changes no example");
    assert_eq!((first.train.rows.len(), first.validation.as_ref().unwrap().rows.len()), (120, 30));
    assert_ne!(first.train.rows, again.train.rows, "but which are held out");
    let test = first.test.as_ref().unwrap();
    assert_eq!((test.table.rows, test.table.columns[0].bytes.len()), (70, 70 * 8));
    let mut points: Vec<Vec<u8>> = first.train.table.columns[0].bytes.chunks(8).map(<[u8]>::to_vec).collect();
    points.extend(test.table.columns[0].bytes.chunks(8).map(<[u8]>::to_vec));
    points.sort();
    points.dedup();
    assert_eq!(points.len(), 220, "no two examples are alike, not in different splits either");
    let places = floats(&test.table.columns[0].bytes);
    for (place, label) in places.chunks(2).zip(test.table.columns[1].bytes.chunks(4)) {
        let radius = (place[0] * place[0] + place[1] * place[1]).sqrt();
        let label = f32::from(i16::from(label[0]));
        assert!((radius - 1.0 - label).abs() < 1e-5, "{place:?} {label}");
    }
}

#[test]
fn examples_are_made_from_those_of_a_file() {
    let items = "
        fn turned(row: f32[2]) -> (f32[2], f32) = stack([row[1], row[0]]), sum(row)
        data rows {
            train: (f32[2], f32) = synthetic(turned, csv(\"rows.csv\"))
            test: (f32[2], f32) = synthetic(turned, csv(\"rows.csv\"), count=5)
            x: f32[2] = train.0
            y: f32 = train.1
        }";
    let dataset = opened(items, 0).unwrap();
    let columns =
        |part: &nnc_driver::dataset::Part| part.table.columns.iter().map(|c| floats(&c.bytes)).collect::<Vec<_>>();
    assert_eq!(columns(&dataset.train), [vec![2., 1., 4., 3., 6., 5.], vec![3., 7., 11.]]);
    let test = columns(dataset.test.as_ref().unwrap());
    assert_eq!(test[1], [3., 7., 11., 3., 7.], "more examples than rows: they begin anew");
    assert!(dataset.train.file(None).ends_with("rows.csv"), "what it is made from is named");
}

#[test]
fn what_does_not_fit_into_memory_is_refused() {
    let items =
        "data large { train: f32[4096] = synthetic(normal([4096]), count=1000000000000)\n x: f32[4096] = train }";
    let error = opened(items, 0).unwrap_err().to_string();
    assert!(error.contains("1000000000000 examples of f32[4096]") && error.contains("make fewer"), "{error}");
}

#[test]
fn an_index_out_of_range_names_the_examples() {
    let items = "
        fn picked(row: i32[2]) -> i32 = take(iota(4), row[1])
        data rows { train: i32 = synthetic(picked, csv(\"rows.csv\"))\n x: i32 = train }";
    let error = opened(items, 0).unwrap_err().to_string();
    assert!(error.contains("out of range") && error.contains("examples 0 to 2"), "{error}");
}
