//! What programs run on while activations are looked at.

use crate::bench::failed;
use crate::compiled::CompiledGraph;
use crate::dataset::{Dataset, Part};
use crate::error::DriverError;
use crate::session::fill;
use crate::store::Store;
use nnc_data::Batches;
use nnc_lang::elaborate::DataInfo;
use std::collections::BTreeMap;

/// Examples that programs run on.
pub trait Examples {
    /// Starts again from the first.
    ///
    /// # Errors
    /// The data cannot be read.
    fn rewind(&mut self) -> Result<(), DriverError>;

    /// Fills the inputs of a program for as many examples as it takes; `false` if there are none left.
    ///
    /// # Errors
    /// The data cannot be read.
    fn fill(&mut self, program: &mut CompiledGraph) -> Result<bool, DriverError>;
}

/// Runs a program on all examples from the first on; `each` sees it after a run.
///
/// # Errors
/// The data cannot be read, or a run fails.
pub fn run_all(
    program: &mut CompiledGraph,
    (store, examples): (&mut Store, &mut dyn Examples),
    each: &mut dyn FnMut(&CompiledGraph),
) -> Result<(), DriverError> {
    examples.rewind()?;
    while examples.fill(program)? {
        program.run(store).map_err(failed)?;
        each(program);
    }
    Ok(())
}

/// What a model is given for one call.
pub struct OneCall<'a> {
    inputs: &'a BTreeMap<String, Vec<u8>>,
    is_given: bool,
}

impl<'a> OneCall<'a> {
    /// The bytes of each input by name.
    pub fn new(inputs: &'a BTreeMap<String, Vec<u8>>) -> Self {
        Self { inputs, is_given: false }
    }
}

impl Examples for OneCall<'_> {
    fn rewind(&mut self) -> Result<(), DriverError> {
        self.is_given = false;
        Ok(())
    }

    fn fill(&mut self, program: &mut CompiledGraph) -> Result<bool, DriverError> {
        for (name, bytes) in self.inputs {
            let Some(input) = program.input_mut(name) else { continue };
            if input.len() != bytes.len() {
                let (found, wanted) = (bytes.len(), input.len());
                return Err(DriverError::Usage(format!("--input {name} has {found} bytes, a call takes {wanted}")));
            }
            input.copy_from_slice(bytes);
        }
        Ok(!std::mem::replace(&mut self.is_given, true))
    }
}

/// Examples of a data set, spread over what is trained on, a batch at a time.
pub struct OfData<'a> {
    data: &'a DataInfo,
    part: Part,
    size: usize,
    batches: Batches,
}

impl<'a> OfData<'a> {
    /// About so many examples, that many at a time.
    ///
    /// # Errors
    /// There are none.
    pub fn new(data: &'a DataInfo, dataset: &Dataset, (examples, size): (usize, usize)) -> Result<Self, DriverError> {
        let all = &dataset.train.rows;
        let wanted = examples.max(size).min(all.len()) / size.max(1) * size;
        if wanted == 0 {
            return Err(DriverError::Usage("there are no examples to calibrate on".to_owned()));
        }
        let rows = (0..wanted).map(|at| all[at * all.len() / wanted]).collect();
        let part = dataset.train.with_rows(rows);
        let batches = batches(&part, size)?;
        Ok(Self { data, part, size, batches })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.part.rows.len()
    }
}

fn batches(part: &Part, size: usize) -> Result<Batches, DriverError> {
    Ok(Batches::new(part.table.clone(), part.rows.clone(), size, 0)?)
}

impl Examples for OfData<'_> {
    fn rewind(&mut self) -> Result<(), DriverError> {
        self.batches = batches(&self.part, self.size)?;
        Ok(())
    }

    fn fill(&mut self, program: &mut CompiledGraph) -> Result<bool, DriverError> {
        let Some(batch) = self.batches.next_batch()? else { return Ok(false) };
        fill(program, self.data, batch)?;
        Ok(true)
    }
}
