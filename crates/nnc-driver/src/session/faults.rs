//! Why a run stopped: the example, the field and the operation of an index that is out of range.

use super::programs::{Programs, Purpose};
use super::{Session, fill};
use crate::compiled::{CompiledGraph, RunError};
use crate::dataset::Part;
use crate::error::DriverError;
use crate::index_fault::IndexFault;
use crate::index_graph::{HELD, OUTSIDE, index_graph, label_bounds};
use crate::store::Store;
use nnc_data::{Batch, Batches};
use nnc_graph::{Graph, Tensor};
use nnc_stub::number::Number;

impl Session<'_> {
    /// Looks at every index of a split that comes from the examples alone, as labels do, before it is computed with.
    /// Batches of which no evaluation can be made, as the last smaller one where a metric divides a batch, are passed
    /// over: whatever computes with them says why.
    ///
    /// # Errors
    /// A failure to compile, or an index that is out of range.
    pub fn check_indices(&mut self, part: &Part) -> Result<(), DriverError> {
        let size = self.batch_of(part);
        let graph = self.evaluation_of(part)?;
        if graph.is_none_or(|graph| index_graph(&graph, &self.recipe().data).is_none()) {
            return Ok(());
        }
        let mut batches = Batches::new(part.table.clone(), part.rows.clone(), size, 0)?;
        while let Some(batch) = batches.next_batch()? {
            let program = match self.programs.get(Purpose::Indices, batch.rows, &self.store) {
                Ok(ready) => &mut ready.program,
                Err(DriverError::Diagnostics { .. }) => continue,
                Err(error) => return Err(error),
            };
            fill(program, self.data, batch)?;
            let stopped = match program.run(&mut self.store) {
                Ok(()) if program.output(OUTSIDE) != Some(&[1]) => continue,
                Ok(()) => RunError::OutOfRange(String::new()),
                Err(error) => error,
            };
            return Err(self.explained(stopped, Purpose::Evaluate, batch).in_files(part));
        }
        Ok(())
    }

    /// The evaluation of the first batch of a split, unless none can be made of so many examples.
    fn evaluation_of(&self, part: &Part) -> Result<Option<Graph>, DriverError> {
        let Programs { project, recipe, .. } = self.programs;
        let made = project.unit.evaluate(&recipe.name, self.batch_of(part)).ok();
        made.map(|graph| project.graph(Ok(graph))).transpose()
    }

    /// Holds the names that the data block gives to its classes to the model, which picks by the label from as many as
    /// it tells apart; where it does not, to the labels that a split has.
    ///
    /// # Errors
    /// Diagnostics; [`DriverError::Usage`] when there are more names, or fewer.
    pub fn check_classes(&self, part: &Part) -> Result<(), DriverError> {
        let Some(classes) = &self.data.classes else { return Ok(()) };
        let wrong = |why: String| {
            let named = if classes.len() == 1 { "1 class".to_owned() } else { format!("{} classes", classes.len()) };
            Err(DriverError::Usage(format!("`classes` of `{}` names {named}, and {why}", self.recipe().data)))
        };
        let bounds = self.evaluation_of(part)?.map(|graph| label_bounds(&graph)).unwrap_or_default();
        let count = |bound: i64| usize::try_from(bound).unwrap_or(usize::MAX);
        if bounds.values().any(|&bound| count(bound) == classes.len()) {
            return Ok(());
        }
        if let Some((label, bound)) = bounds.first_key_value() {
            return wrong(format!("the model tells {bound} apart: `{label}` is in 0..{bound}"));
        }
        match self.label().and_then(|at| Some((at, largest(part, at)?))) {
            Some((at, most)) if count(most) >= classes.len() => {
                let (file, name) = (part.file(Some(at)).display(), &self.data.raw[at].name);
                wrong(format!("{file} has the label {most} (`{name}`): they are numbered from 0"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The field that examples are balanced by, or else the only one that is a whole number.
    fn label(&self) -> Option<usize> {
        let is_number = |at: &usize| {
            let field = &self.data.raw[*at];
            field.table.is_none() && field.ty.shape.rank() == 0 && field.ty.dtype.is_int()
        };
        let mut numbers = (0..self.data.raw.len()).filter(is_number);
        let only = numbers.next().filter(|_| numbers.next().is_none());
        self.data.balance.or(only)
    }

    /// Why a run of a batch stopped, with the example that did it.
    pub(super) fn explained(&mut self, error: RunError, purpose: Purpose, batch: &Batch) -> DriverError {
        match error {
            RunError::OutOfRange(_) => {}
            RunError::NotResident(_) => return DriverError::Internal(error.to_string()),
            RunError::Internal(why) => return DriverError::Internal(why),
        }
        if let Some(fault) = self.culprit(batch) {
            return DriverError::Index(fault);
        }
        // What looks at indices beforehand computes nothing else: the program that would have met this one tells of it.
        let program = self.programs.get(purpose, batch.rows, &self.store).ok().map(|ready| &mut ready.program);
        let program = program.and_then(|program| fill(program, self.data, batch).ok().map(|()| &*program));
        let detail = program.and_then(|program| out_of_range(program, &self.store)).unwrap_or_default();
        let place = program.and_then(|program| program.place_out_of_range(&self.store));
        let place = place.map_or(String::new(), |place| format!(" ({place})"));
        let rows = batch.indices.iter().take(4).map(u64::to_string).collect::<Vec<_>>().join(", ");
        let more = if batch.rows > 4 { ", ..." } else { "" };
        DriverError::Usage(format!("an index is out of range{detail}{place}, in the batch of examples {rows}{more}"))
    }

    /// The first example of a batch that has an index out of range by itself: they are evaluated one by one, and the
    /// one that fails again with one field after the other replaced by zeros.
    fn culprit(&mut self, batch: &Batch) -> Option<IndexFault> {
        let program = &mut self.programs.get(Purpose::Evaluate, 1, &self.store).ok()?.program;
        let (data, store) = (self.data, &mut self.store);
        let mut fails = |example: &Batch| -> Option<String> {
            fill(program, data, example).ok()?;
            match program.run(store) {
                Err(RunError::OutOfRange(_)) => Some(out_of_range(program, store).unwrap_or_default()),
                Ok(()) | Err(RunError::NotResident(_) | RunError::Internal(_)) => None,
            }
        };
        for place in 0..batch.rows {
            let example = example_of(batch, place);
            let Some(detail) = fails(&example) else { continue };
            let without = |at: usize| {
                let mut changed = example.clone();
                changed.fields[at].fill(0);
                changed
            };
            let guilty = (0..example.fields.len()).find(|&at| fails(&without(at)).is_none());
            let field = guilty.map(|at| (at, data.raw[at].name.clone()));
            let made_by = if self.is_held(&example) { None } else { self.maker(&example) };
            return Some(IndexFault { detail, field, row: batch.indices[place], made_by });
        }
        None
    }

    /// Whether an index that the example itself holds is out of range.
    fn is_held(&mut self, example: &Batch) -> bool {
        let Ok(ready) = self.programs.get(Purpose::Indices, 1, &self.store) else { return false };
        let program = &mut ready.program;
        if fill(program, self.data, example).is_err() {
            return false;
        }
        match program.run(&mut self.store) {
            Ok(()) => program.output(HELD) == Some(&[1]),
            Err(error) => matches!(error, RunError::OutOfRange(_)),
        }
    }

    /// The operation that an index out of range meets on an example.
    fn maker(&mut self, example: &Batch) -> Option<String> {
        let program = &mut self.programs.get(Purpose::Evaluate, 1, &self.store).ok()?.program;
        fill(program, self.data, example).ok()?;
        program.place_out_of_range(&self.store)
    }
}

/// The largest number of a field in the rows of a split.
fn largest(part: &Part, field: usize) -> Option<i64> {
    let column = part.table.columns.get(field)?;
    let number = |&row: &u64| Number::read(column.ty.dtype, column.row(usize::try_from(row).ok()?)).whole();
    part.rows.iter().filter_map(number).max()
}

/// One example of a batch as a batch of its own.
fn example_of(batch: &Batch, place: usize) -> Batch {
    let part = |bytes: &Vec<u8>| {
        let size = bytes.len() / batch.rows;
        bytes[place * size..(place + 1) * size].to_vec()
    };
    let (indices, draws) = (vec![batch.indices[place]], vec![batch.draws[place]]);
    Batch { rows: 1, indices, draws, fields: batch.fields.iter().map(part).collect() }
}

/// The first example of a batch whose own number, of the field called `name`, is not finite.
pub(super) fn held_by_example(name: &str, field: &Tensor, batch: &Batch) -> String {
    let values = field.to_f64();
    let size = (values.len() / batch.rows.max(1)).max(1);
    let found = values.iter().position(|value| !value.is_finite());
    let row = found.and_then(|at| Some((values[at], batch.indices.get(at / size)?)));
    row.map_or_else(
        || format!("`{name}` held one before"),
        |(value, row)| format!("the data hold it: `{name}` of example {row}, counted from 0, has the number {value}"),
    )
}

/// Which index is out of range, as the interpreter tells it.
fn out_of_range(program: &CompiledGraph, store: &Store) -> Option<String> {
    match program.interpretation(store) {
        Err(RunError::OutOfRange(detail)) => Some(detail),
        Ok(_) | Err(RunError::NotResident(_) | RunError::Internal(_)) => None,
    }
}
