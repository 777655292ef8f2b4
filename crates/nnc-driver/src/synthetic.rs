//! Sources whose examples are made by the language: the graph that the front end made of them is compiled and run, some
//! examples at a time, and what comes out is a table as any other source's.
//!
//! The numbers of an example are drawn by its place in the table, so the table depends on nothing but the file and what
//! it is made from.

use crate::at_once::put_rows;
use crate::compiled::{CompiledGraph, Compiler, Engine, RunError};
use crate::error::DriverError;
use crate::store::Store;
use nnc_data::{Column, FieldType, Table};
use nnc_lang::elaborate::{Maker, SourceCall};
use nnc_opt::pipeline;
use nnc_runtime::{Pool, memory};
use std::sync::Arc;

/// Makes the examples of a source, from those of `from` if it takes any.
///
/// # Errors
/// They are more than the memory holds, or one of them has an index out of range; a failure to compile.
pub(crate) fn make(
    call: &SourceCall,
    maker: &Maker,
    fields: &[FieldType],
    from: Option<&Table>,
) -> Result<Table, DriverError> {
    let rows = call.count().or(from.map(|table| table.rows)).unwrap_or_default();
    let mut columns = fields.iter().map(|ty| empty_column(ty, rows)).collect::<Result<Vec<Column>, DriverError>>()?;
    let mut program = compiler()?.compile(&maker.graph)?;
    for first in (0..rows).step_by(Maker::AT_ONCE) {
        let count = Maker::AT_ONCE.min(rows - first);
        fill(&mut program, maker, from, first);
        program.run(&mut Store::default()).map_err(|error| explained(error, first, count))?;
        for (at, column) in columns.iter_mut().enumerate() {
            let made = program.output(&at.to_string());
            let made = made.ok_or_else(|| DriverError::Internal(format!("an example has no tensor {at}")))?;
            column.bytes.extend_from_slice(&made[..made.len() / Maker::AT_ONCE * count]);
        }
    }
    let classes = from.and_then(|table| table.classes.clone());
    Ok(Table { columns, rows, classes, ..Table::default() })
}

/// What the data is made by: a number of threads and an engine change no bit of it.
fn compiler() -> Result<Compiler, DriverError> {
    let started = Pool::with_limit(None);
    let pool = started.map_err(|error| DriverError::Usage(format!("cannot start threads: {error}")))?;
    Ok(Compiler { engine: Engine::host(), pool: Arc::new(pool), passes: pipeline::Options::default(), tuning: None })
}

/// A column with room for so many rows.
fn empty_column(ty: &FieldType, rows: usize) -> Result<Column, DriverError> {
    let bytes = ty.row_bytes().and_then(|row| row.checked_mul(rows)).unwrap_or(usize::MAX);
    memory::check(bytes).map_err(|error| {
        DriverError::Usage(format!("{rows} examples of {ty} are to be made: {error}; make fewer, or smaller ones"))
    })?;
    Ok(Column::new(ty.clone(), rows, Vec::with_capacity(bytes)))
}

/// Puts in the numbers of the examples from `first` on, and what they are made from; the source begins anew where it
/// ends.
fn fill(program: &mut CompiledGraph, maker: &Maker, from: Option<&Table>, first: usize) {
    if let Some(draws) = program.input_mut("$draw") {
        for (draw, number) in draws.chunks_exact_mut(8).zip(first as i64..) {
            draw.copy_from_slice(&number.to_le_bytes());
        }
    }
    let Some(table) = from else { return };
    let names = maker.takes.iter().map(|(name, _)| name.as_str());
    put_rows(program, names, table, (Maker::AT_ONCE, (first..).map(|row| row % table.rows)));
}

fn explained(error: RunError, first: usize, count: usize) -> DriverError {
    match error {
        RunError::OutOfRange(why) => DriverError::Usage(format!(
            "an index is out of range in one of the examples {first} to {} of `synthetic`{why}",
            first + count - 1
        )),
        RunError::NotResident(_) => DriverError::Internal(error.to_string()),
        RunError::Internal(why) => DriverError::Internal(why),
    }
}
