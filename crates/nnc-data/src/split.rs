//! Which examples are trained on, which are held out, and in which order an epoch goes.
//!
//! All of it is a pure function of its arguments; the same seed gives the same split and the same
//! order in every version.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{DataError, ErrorKind, Result};
use crate::random::{Purpose, Stream};

/// How the rows to hold out are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Split {
    /// This fraction of the rows, chosen by the seed.
    Fraction(f64),
    /// Every so-manyth row, independent of the seed.
    Every(usize),
    /// This fraction of the rows, the last ones: for rows that belong together in their order, as those of a text.
    Tail(f64),
}

/// Rows, ascending, in two parts that have none in common and miss none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The rows that stay.
    pub kept: Vec<u64>,
    /// The rows that are held out.
    pub held: Vec<u64>,
}

impl Split {
    /// Splits `rows` rows.
    ///
    /// # Errors
    /// As [`hold_out`], [`every_nth`] and [`hold_out_tail`].
    pub fn apply(self, rows: usize, seed: u64) -> Result<Parts> {
        match self {
            Split::Fraction(fraction) => hold_out(rows, fraction, seed),
            Split::Every(step) => every_nth(rows, step),
            Split::Tail(fraction) => hold_out_tail(rows, fraction),
        }
    }
}

/// What is left of `rows` rows when parts are held out one after the other.
///
/// # Errors
/// As [`Split::apply`].
pub(crate) fn kept(rows: usize, splits: &[Split], seed: u64) -> Result<Vec<u64>> {
    let mut kept: Vec<u64> = (0..rows as u64).collect();
    for split in splits {
        let parts = split.apply(kept.len(), seed)?;
        kept = parts.kept.iter().map(|&place| kept[place as usize]).collect();
    }
    Ok(kept)
}

/// Holds out `fraction` of the rows, rounded to the nearest number of rows but at least one, and
/// chosen by `seed`.
///
/// # Errors
/// A fraction that is not above 0 and below 1, or too few rows to have both parts.
pub fn hold_out(rows: usize, fraction: f64, seed: u64) -> Result<Parts> {
    let count = count_of(rows, fraction)?;
    let mut order: Vec<u64> = (0..rows as u64).collect();
    Stream::new(seed, Purpose::HoldOut, 0).shuffle(&mut order);
    let mut kept = order.split_off(count);
    let mut held = order;
    kept.sort_unstable();
    held.sort_unstable();
    Ok(Parts { kept, held })
}

/// Holds out the last rows: `fraction` of them, rounded to the nearest number of rows but at least one.
///
/// # Errors
/// As [`hold_out`].
pub fn hold_out_tail(rows: usize, fraction: f64) -> Result<Parts> {
    let first = (rows - count_of(rows, fraction)?) as u64;
    Ok(Parts { kept: (0..first).collect(), held: (first..rows as u64).collect() })
}

/// How many of `rows` rows a fraction holds out.
fn count_of(rows: usize, fraction: f64) -> Result<usize> {
    if !(fraction > 0.0 && fraction < 1.0) {
        let message = format!("a fraction to hold out lies between 0 and 1, not at {fraction}");
        return Err(refused(message));
    }
    if rows < 2 {
        return Err(too_few(rows));
    }
    let count = (rows as f64 * fraction).round() as usize;
    Ok(count.clamp(1, rows - 1))
}

/// Holds out every `step`th row: for 5 the rows 0, 5, 10 and so on, as Python's `rows[::5]`.
///
/// # Errors
/// A step below 2, or fewer than two rows.
pub fn every_nth(rows: usize, step: usize) -> Result<Parts> {
    if step < 2 {
        let message = format!("every {step}th row cannot be held out: the step must be 2 or more");
        return Err(refused(message));
    }
    if rows < 2 {
        return Err(too_few(rows));
    }
    let (held, kept) = (0..rows as u64).partition(|row| row.is_multiple_of(step as u64));
    Ok(Parts { kept, held })
}

/// The rows in the order of `epoch`: a permutation, by seed and epoch alone.
pub fn epoch_order(rows: &[u64], seed: u64, epoch: u32) -> Vec<u64> {
    let mut order = rows.to_vec();
    Stream::new(seed, Purpose::Order, epoch).shuffle(&mut order);
    order
}

/// The order of an epoch that presents each class equally often (to within one example), and as many examples as there
/// are `rows`; `classes` has the class of each. Of a rare class examples come again, once all of it were there; of a
/// common one some are left to the next epoch's chance.
pub fn balanced_order(rows: &[u64], classes: &[i64], seed: u64, epoch: u32) -> Vec<u64> {
    let mut members: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
    for (&row, &class) in rows.iter().zip(classes) {
        members.entry(class).or_default().push(row);
    }
    let mut stream = Stream::new(seed, Purpose::Balance, epoch);
    let mut order = Vec::with_capacity(rows.len());
    let count = members.len().max(1);
    for (at, of_class) in members.values_mut().enumerate() {
        let share = rows.len() / count + usize::from(at < rows.len() % count);
        let mut left = share;
        while left > 0 {
            stream.shuffle(of_class);
            let taken = left.min(of_class.len());
            order.extend_from_slice(&of_class[..taken]);
            left -= taken;
        }
    }
    stream.shuffle(&mut order);
    order
}

/// The fault of a request that makes no sense.
fn refused(message: String) -> DataError {
    DataError::new(ErrorKind::BadRequest, Path::new("split"), message)
}

/// The fault of too few rows to split.
fn too_few(rows: usize) -> DataError {
    let message = format!("{rows} row{} cannot be split", if rows == 1 { "" } else { "s" });
    refused(message).help("give more rows, or name a test file of its own")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(mut rows: Vec<u64>) -> Vec<u64> {
        rows.sort_unstable();
        rows
    }

    #[test]
    fn every_fifth_row_counts_from_row_zero() {
        let parts = every_nth(12, 5).unwrap();
        assert_eq!(parts.held, [0, 5, 10]);
        assert_eq!(parts.kept.len(), 9);
        assert_eq!(every_nth(1797, 5).unwrap().held.len(), 360);
    }

    #[test]
    fn a_tail_is_the_end() {
        let parts = hold_out_tail(10, 0.25).unwrap();
        assert_eq!((parts.kept, parts.held), ((0..7).collect(), vec![7, 8, 9]));
        assert_eq!(hold_out_tail(2, 0.01).unwrap().held, [1]);
        assert_eq!(hold_out_tail(2, 0.99).unwrap().kept, [0]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for fraction in [0.0, 1.0, -0.5, f64::NAN, f64::INFINITY] {
            assert!(hold_out(10, fraction, 0).is_err());
            assert!(hold_out_tail(10, fraction).is_err());
        }
        assert!(hold_out(1, 0.5, 0).is_err());
        assert!(every_nth(10, 1).is_err());
        assert!(every_nth(1, 5).is_err());
    }

    /// These bits are promised: a changed one breaks the resumption of saved runs.
    #[test]
    fn orders_never_change() {
        let rows: Vec<u64> = (0..10).collect();
        assert_eq!(epoch_order(&rows, 42, 0), ORDER_42_0);
        assert_eq!(epoch_order(&rows, 42, 1), ORDER_42_1);
        assert_eq!(hold_out(10, 0.3, 42).unwrap().held, HELD_42);
    }

    const ORDER_42_0: [u64; 10] = [1, 6, 9, 8, 0, 3, 4, 2, 7, 5];
    const ORDER_42_1: [u64; 10] = [6, 2, 1, 3, 4, 8, 5, 0, 9, 7];
    const HELD_42: [u64; 3] = [4, 5, 9];

    #[test]
    fn a_balanced_epoch_has_each_class_equally_often() {
        let rows: Vec<u64> = (10..30).collect();
        let classes: Vec<i64> = (0..20).map(|row| if row < 2 { 7 } else { i64::from(row < 5) }).collect();
        let order = balanced_order(&rows, &classes, 1, 0);
        let class_of = |row: &u64| classes[(row - 10) as usize];
        let of = |class: i64| order.iter().filter(|row| class_of(row) == class).count();
        assert_eq!((of(0), of(1), of(7)), (7, 7, 6));
        let times = |row: u64| order.iter().filter(|&&other| other == row).count();
        assert_eq!((times(10), times(11)), (3, 3), "of two examples each comes equally often");
        assert_eq!(order, balanced_order(&rows, &classes, 1, 0));
        assert_ne!(order, balanced_order(&rows, &classes, 1, 1));
        assert!(balanced_order(&[], &[], 1, 0).is_empty());
    }

    proptest! {
        #[test]
        fn parts_are_a_partition(rows in 2usize..500, fraction in 0.001f64..0.999, seed: u64) {
            let parts = hold_out(rows, fraction, seed).unwrap();
            prop_assert!(!parts.held.is_empty() && !parts.kept.is_empty());
            let all = sorted([parts.kept, parts.held].concat());
            prop_assert_eq!(all, (0..rows as u64).collect::<Vec<_>>());
        }

        #[test]
        fn orders_are_permutations(rows in 0u64..500, seed: u64, epoch: u32) {
            let rows: Vec<u64> = (0..rows).collect();
            let order = epoch_order(&rows, seed, epoch);
            prop_assert_eq!(&order, &epoch_order(&rows, seed, epoch));
            prop_assert_eq!(sorted(order), rows);
        }
    }
}
