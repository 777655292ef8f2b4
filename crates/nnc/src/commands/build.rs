//! `nnc build FILE --weights W -o EXE`.

use crate::arguments::Build;
use crate::terminal::{self, GOOD, STRONG};
use crate::values::Processor;
use crate::{Failure, output, setup};
use nnc_driver::Engine;
use nnc_driver::answer::AnswerGraphs;
use nnc_driver::deploy::Deployment;
use std::collections::BTreeMap;
use std::time::Instant;

pub(crate) fn run(options: &Build) -> Result<(), Failure> {
    let started = Instant::now();
    let (project, mut loaded) = setup::weighted(&options.file, options.weights.as_deref())?;
    setup::check_target(&options.output, &setup::reads(&project, None, options.weights.as_deref()))?;
    setup::note_choices(&project, &options.file, &BTreeMap::new())?;
    let rows = setup::rows(&options.file)?.unwrap_or(1);
    let graphs = AnswerGraphs::new(&project, options.file.only.as_deref(), options.answer.as_deref(), rows)?
        .with_mixed(&project);
    if let (Some(answer), None) = (graphs.mixed().first(), setup::rows(&options.file)?) {
        terminal::print_warning(&format!(
            "a row of {answer} depends on other rows, and the program computes each by itself: give the number of rows that \
             belong together with `--bind N=64`"
        ));
    }
    let engines = engines(&options.isa)?;
    let mut compiler = setup::native(None, engines[0], options.passes)?;
    setup::note_oddities(&project, &graphs, (options.weights.as_deref(), &loaded))?;
    let file = (options.weights.as_deref(), &mut loaded);
    let mut store = setup::weights(&project, &graphs, file, compiler.threads())?;
    setup::tune(options.tuning, &mut compiler, &graphs.graph, &mut store)?;
    let deployment = Deployment::new(&graphs.subject(&loaded), store, &compiler, &engines)?;
    let size = deployment.write(&options.output, &compiler)?;
    let (file, size) = (options.output.display(), terminal::bytes(size));
    let time = terminal::duration(started.elapsed().as_secs_f64());
    output::line(&format!(
        "{GOOD}wrote{GOOD:#} {STRONG}{file}{STRONG:#} ({size}) in {time}; `{file} --help` tells what it does"
    ))
}

/// What code is made for, best first, and for each instruction set once, whatever order they were named in.
fn engines(asked: &[Processor]) -> Result<Vec<Engine>, Failure> {
    let engine = |&asked: &Processor| match asked {
        Processor::Host => Ok(Engine::of_this_processor()?),
        Processor::With(engine) => Ok(engine),
    };
    let mut engines = asked.iter().map(engine).collect::<Result<Vec<Engine>, Failure>>()?;
    engines.sort_by_key(|engine| std::cmp::Reverse(engine.backend()));
    engines.dedup();
    let mut kept: Vec<Engine> = vec![];
    for engine in engines {
        match kept.iter().find(|other| other.backend().isa() == engine.backend().isa()) {
            Some(other) => terminal::print_warning(&format!(
                "no code of `{}` is made: `{}` is for the same processors, and better",
                engine.name(),
                other.name()
            )),
            None => kept.push(engine),
        }
    }
    Ok(kept)
}
