//! `nnc grad FILE`.

use crate::arguments::Grad;
use crate::{Failure, output, setup};
use nnc_driver::DriverError;
use nnc_driver::stage::{self, Which};

pub(crate) fn run(options: &Grad) -> Result<(), Failure> {
    let project = setup::project(&options.file)?;
    project.recipe(options.file.only.as_deref())?;
    let graph = stage::graph(&project, options.file.only.as_deref(), Which::Train, None)?;
    let text = nnc_opt::grad::readable(&graph, options.by.as_deref())
        .map_err(|error| Failure::Driver(DriverError::Usage(error.to_string())))?;
    output::print(&text)
}
