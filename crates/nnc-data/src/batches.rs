//! Batches of examples, gathered ahead of time on another thread.
//!
//! The thread copies rows of a table into batches and sends them through a bounded channel;
//! batches that were used go back to it, so that in steady state nothing is allocated. Dropping
//! [`Batches`] early ends the thread; a panic in it surfaces as an error.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::error::{DataError, ErrorKind, Place, Result};
use crate::types::Table;

/// How many finished batches wait at most.
const AHEAD: usize = 2;

/// Some examples, field by field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// The number of examples.
    pub rows: usize,
    /// Which rows of the table they are.
    pub indices: Vec<u64>,
    /// A number for each that no other of the epoch has: its row, and where that comes again, one behind all rows.
    pub draws: Vec<u64>,
    /// For each field the rows one after the other, as in a [`crate::Column`].
    pub fields: Vec<Vec<u8>>,
}

impl Batch {
    /// Rows of a table, each of them once, with their fields.
    pub fn new(indices: Vec<u64>, fields: Vec<Vec<u8>>) -> Self {
        Self { rows: indices.len(), draws: indices.clone(), indices, fields }
    }
}

/// The batches of one epoch, in order.
#[derive(Debug)]
pub struct Batches {
    /// The batch that was handed out last.
    current: Batch,
    left: usize,
    ready: Option<Receiver<Batch>>,
    used: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Batches {
    /// The batches of `size` rows of `table` in `order`, beginning with batch `start` (to resume
    /// in the middle of an epoch). The last batch may be smaller.
    ///
    /// # Errors
    /// A size of 0, a row that the table does not have, or no thread to be had.
    pub fn new(table: Arc<Table>, order: Vec<u64>, size: usize, start: usize) -> Result<Self> {
        if size == 0 {
            return Err(refused("a batch has at least one row".to_owned()));
        }
        if let Some(position) = order.iter().position(|&row| row >= table.rows as u64) {
            let message = format!("row {} of {} is asked for", order[position], table.rows);
            return Err(refused(message).at(Place::Row(position as u64)));
        }
        let left = order.len().div_ceil(size).saturating_sub(start);
        let (send_ready, ready) = sync_channel(AHEAD);
        // Room for all batches that there are, so that nobody waits to give one back.
        let (used, take_used) = sync_channel(AHEAD + 1);
        for _ in 0..=AHEAD {
            // The receiver is alive: it is moved into the thread below.
            let _ = used.send(empty_batch(&table, size.min(order.len())));
        }
        let draws = draws(&order, table.rows);
        let gather = Gather { table, order, draws, size };
        let thread = thread::Builder::new()
            .name("prefetch".to_owned())
            .spawn(move || gather.run(start, &take_used, &send_ready))
            .map_err(|cause| refused(format!("no thread to read ahead: {cause}")))?;
        Ok(Batches { current: Batch::default(), left, ready: Some(ready), used: Some(used), thread: Some(thread) })
    }

    /// The number of batches that are still to come.
    pub fn left(&self) -> usize {
        self.left
    }

    /// The next batch, or `None` after the last. It is lent until the next call, which takes it
    /// back to be filled again.
    ///
    /// # Errors
    /// The thread that gathers ended early.
    pub fn next_batch(&mut self) -> Result<Option<&Batch>> {
        if self.left == 0 {
            return Ok(None);
        }
        let received = self.ready.as_ref().and_then(|ready| ready.recv().ok());
        let Some(batch) = received else {
            self.left = 0;
            let message = "the thread that reads ahead ended early, which is a fault of this program";
            return Err(DataError::new(ErrorKind::Stopped, Path::new("batches"), message));
        };
        let previous = std::mem::replace(&mut self.current, batch);
        self.left -= 1;
        if let (Some(used), false) = (&self.used, previous.fields.is_empty()) {
            // The thread may have sent its last batch and be gone.
            let _ = used.send(previous);
        }
        Ok(Some(&self.current))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // With both channels closed the thread ends at its next step.
        self.ready = None;
        self.used = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has been, or no longer needs to be, reported.
            let _ = thread.join();
        }
    }
}

/// The fault of a request that makes no sense.
fn refused(message: String) -> DataError {
    DataError::new(ErrorKind::BadRequest, Path::new("batches"), message)
}

/// A batch with room for `rows` rows.
fn empty_batch(table: &Table, rows: usize) -> Batch {
    let room = |column: &crate::Column| Vec::with_capacity(rows * (column.bytes.len() / column.rows.max(1)));
    let [indices, draws] = [rows; 2].map(Vec::with_capacity);
    Batch { rows: 0, indices, draws, fields: table.columns.iter().map(room).collect() }
}

/// What random numbers of each place of an order are keyed by, of a table of so many rows: [`Batch::draws`].
fn draws(order: &[u64], rows: usize) -> Vec<u64> {
    let mut is_known = vec![false; rows];
    let draw = |(place, &row): (usize, &u64)| match std::mem::replace(&mut is_known[row as usize], true) {
        false => row,
        true => (rows + place) as u64,
    };
    order.iter().enumerate().map(draw).collect()
}

/// The work of the thread.
struct Gather {
    table: Arc<Table>,
    order: Vec<u64>,
    draws: Vec<u64>,
    size: usize,
}

impl Gather {
    /// Fills and sends all batches from `start` on, until nobody wants them.
    fn run(&self, start: usize, used: &Receiver<Batch>, ready: &SyncSender<Batch>) {
        for (rows, draws) in self.order.chunks(self.size).zip(self.draws.chunks(self.size)).skip(start) {
            let Ok(mut batch) = used.recv() else {
                return;
            };
            self.fill(&mut batch, (rows, draws));
            if ready.send(batch).is_err() {
                return;
            }
        }
    }

    /// Puts `rows` of the table into `batch`.
    fn fill(&self, batch: &mut Batch, (rows, draws): (&[u64], &[u64])) {
        batch.rows = rows.len();
        batch.draws.clear();
        batch.draws.extend_from_slice(draws);
        batch.indices.clear();
        batch.indices.extend_from_slice(rows);
        for (column, field) in self.table.columns.iter().zip(&mut batch.fields) {
            field.clear();
            for &row in rows {
                field.extend_from_slice(column.row(row as usize));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Column, DType, FieldType};
    use proptest::prelude::*;

    /// A table whose row `i` holds the pair `i, i + 100` and the label `i`.
    fn table(rows: u8) -> Arc<Table> {
        let pairs = (0..rows).flat_map(|row| [row, row + 100]).collect();
        let pair = Column::new(FieldType::new(DType::U8, [2]), rows.into(), pairs);
        let label = Column::new(FieldType::scalar(DType::U8), rows.into(), (0..rows).collect());
        Arc::new(Table { columns: vec![pair, label], rows: rows.into(), ..Table::default() })
    }

    fn collect(mut batches: Batches) -> Vec<Batch> {
        let mut result = Vec::new();
        while let Some(batch) = batches.next_batch().unwrap() {
            result.push(batch.clone());
        }
        result
    }

    #[test]
    fn the_last_batch_is_smaller() {
        let batches = Batches::new(table(5), vec![4, 3, 2, 1, 0], 2, 0).unwrap();
        assert_eq!(batches.left(), 3);
        let batches = collect(batches);
        assert_eq!(batches[0].fields, [vec![4, 104, 3, 103], vec![4, 3]]);
        assert_eq!(batches[2].rows, 1);
        assert_eq!(batches[2].indices, [0]);
    }

    #[test]
    fn a_row_that_comes_again_draws_anew() {
        let batches = collect(Batches::new(table(3), vec![2, 0, 2, 2, 1, 0], 4, 0).unwrap());
        assert_eq!(batches[0].draws, [2, 0, 5, 6]);
        assert_eq!(batches[1].draws, [1, 8]);
        let resumed = collect(Batches::new(table(3), vec![2, 0, 2, 2, 1, 0], 4, 1).unwrap());
        assert_eq!(resumed, batches[1..]);
    }

    #[test]
    fn resumes_in_the_middle() {
        let whole = collect(Batches::new(table(9), (0..9).rev().collect(), 2, 0).unwrap());
        for start in 0..=6 {
            let rest = collect(Batches::new(table(9), (0..9).rev().collect(), 2, start).unwrap());
            assert_eq!(rest, whole[start.min(5)..]);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(Batches::new(table(5), vec![0], 0, 0).is_err());
        let error = Batches::new(table(5), vec![0, 5], 2, 0).unwrap_err();
        assert!(error.message.contains("row 5 of 5"), "{error}");
        let nothing = Batches::new(table(5), vec![], 2, 0).unwrap();
        assert!(collect(nothing).is_empty());
    }

    #[test]
    fn can_be_dropped_at_any_time() {
        drop(Batches::new(table(100), (0..100).collect(), 1, 0).unwrap());
        let mut batches = Batches::new(table(100), (0..100).collect(), 1, 0).unwrap();
        batches.next_batch().unwrap();
        drop(batches);
    }

    #[test]
    fn buffers_are_used_again() {
        let mut batches = Batches::new(table(100), (0..100).collect(), 7, 0).unwrap();
        let mut addresses = std::collections::BTreeSet::new();
        while let Some(batch) = batches.next_batch().unwrap() {
            addresses.insert(batch.fields[0].as_ptr() as usize);
        }
        assert!(addresses.len() <= AHEAD + 1);
    }

    #[test]
    fn a_panic_in_the_thread_is_an_error() {
        let mut broken = (*table(5)).clone();
        broken.columns[0].bytes.truncate(3);
        broken.columns[0].rows = 2;
        let mut batches = Batches::new(Arc::new(broken), (0..5).collect(), 1, 0).unwrap();
        let faults = std::iter::from_fn(|| batches.next_batch().map(|batch| batch.map(drop)).transpose());
        let last = faults.last().unwrap();
        assert_eq!(last.unwrap_err().kind, ErrorKind::Stopped);
        assert!(batches.next_batch().unwrap().is_none());
    }

    proptest! {
        #[test]
        fn every_row_comes_once_and_in_order(rows in 0u8..60, size in 1usize..20) {
            let order: Vec<u64> = (0..u64::from(rows)).rev().collect();
            let batches = collect(Batches::new(table(rows), order.clone(), size, 0).unwrap());
            let seen: Vec<u64> = batches.iter().flat_map(|batch| batch.indices.clone()).collect();
            prop_assert_eq!(seen, order);
            for batch in &batches {
                let labels: Vec<u64> = batch.fields[1].iter().map(|&label| label.into()).collect();
                prop_assert_eq!(&labels, &batch.indices);
                prop_assert!(batch.rows <= size);
            }
        }
    }
}
