//! What runs of graphs of several examples at a time have in common: rows of a table go in.

use crate::compiled::CompiledGraph;
use nnc_data::Table;

/// Puts these rows of a table into the inputs of a program for `count` examples, one input for each column by its name;
/// an input that the program lacks is passed over.
pub(crate) fn put_rows<'n>(
    program: &mut CompiledGraph,
    names: impl Iterator<Item = &'n str>,
    table: &Table,
    (count, rows): (usize, impl Iterator<Item = usize> + Clone),
) {
    for (name, column) in names.zip(&table.columns) {
        let Some(input) = program.input_mut(name) else { continue };
        let size = input.len() / count;
        for (place, row) in input.chunks_exact_mut(size).zip(rows.clone()) {
            place.copy_from_slice(column.row(row));
        }
    }
}
