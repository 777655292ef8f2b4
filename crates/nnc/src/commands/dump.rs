//! `nnc dump FILE --at=STAGE`.

use crate::arguments::{Dump, Stage};
use crate::{Failure, output, setup, terminal};
use nnc_driver::fit::Fitted;
use nnc_driver::stage;
use nnc_driver::{DriverError, project};
use nnc_graph::text;
use nnc_kernel::program::{ArgRef, Loop, Program};
use nnc_kernel::{Lowered, Role, ir};
use nnc_lang::diagnostic::Sources;
use nnc_lang::syntax::parse;
use nnc_opt::fuse::{Group, Partition};

pub(crate) fn run(options: &Dump) -> Result<(), Failure> {
    output::print(&at_stage(options)?)
}

fn at_stage(options: &Dump) -> Result<String, Failure> {
    if options.at == Stage::Ast {
        let source = project::read_source(&options.file.file)?;
        let mut sources = Sources::default();
        let file = sources.add(&options.file.file.display().to_string(), &source);
        let (module, diagnostics) = parse(file, &source);
        if !diagnostics.is_empty() {
            return Err(DriverError::Diagnostics { diagnostics, sources: Box::new(sources) }.into());
        }
        return Ok(format!("{module:#?}\n"));
    }
    let (project, loaded) = setup::weighted(&options.file, options.weights.as_deref())?;
    let program = setup::program(options.program, &project)?;
    let rows = setup::rows(&options.file)?;
    let graph = stage::graph(&project, options.file.only.as_deref(), program, rows)?;
    if options.at == Stage::Graph {
        return Ok(text::print(&graph));
    }
    let bug = |error: String| Failure::Driver(DriverError::Internal(error));
    let engine = options.isa.isa;
    let mut compiler = setup::native(None, engine, options.passes)?;
    if options.tuning.tune.is_some() {
        let weights = options.weights.as_deref().map(|path| (path, &loaded));
        let mut store = stage::store(&project, options.file.only.as_deref(), (&graph, rows), &compiler, weights)?;
        setup::tune(options.tuning, &mut compiler, &graph, &mut store)?;
    }
    let passes = setup::passes(options.passes, options.fuel);
    let fitted = setup::fitted(&graph, (engine, None), &passes, compiler.tuning.as_deref())?;
    let Fitted { optimised, lowered, .. } = fitted;
    if options.time_passes {
        output::remark(terminal::passes(&optimised.log).trim_end());
    }
    if options.at == Stage::Opt {
        return Ok(format!("{}\n{}", text::print(&optimised.graph), groups(&optimised.partition)));
    }
    match options.at {
        Stage::Clif => nnc_codegen::dump_clif(&lowered.program).map_err(|error| bug(error.to_string())),
        Stage::Asm => nnc_codegen::dump_asm(&lowered.program, engine.backend()).map_err(|error| bug(error.to_string())),
        Stage::Kernel | Stage::Ast | Stage::Graph | Stage::Opt => Ok(kernels(&lowered)),
    }
}

/// The fusion groups, one a line; those of a loop's body follow it, indented.
fn groups(partition: &Partition) -> String {
    let line = |(at, group): (usize, &Group)| {
        let nodes: Vec<String> = group.nodes.iter().map(ToString::to_string).collect();
        let body: String = group.body.as_deref().map(groups).unwrap_or_default();
        let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
        format!("group {at} {} {:?}: {}\n{body}", group.kind.name(), group.domain, nodes.join(" "))
    };
    partition.groups.iter().enumerate().map(line).collect()
}

/// The kernels, then the plan: one launch a line, with its arguments as `buffer+offset`; in a loop `+bytes*step`
/// follows for those that move, with the number of the loop around that moves them where there are several.
fn kernels(lowered: &Lowered) -> String {
    let mut text: String = lowered.program.kernels.iter().map(|kernel| ir::text::print(kernel) + "\n").collect();
    text += &format!("arena {} bytes, scratch {} bytes\n", lowered.arena_bytes, lowered.scratch_bytes);
    for (at, external) in lowered.externals.iter().enumerate() {
        let role = match &external.role {
            Role::Input(name) => format!("input {name}"),
            Role::Param(path) => format!("param {path}"),
            Role::State(path) => format!("state {path}"),
            Role::Output(name) => format!("output {name}"),
            Role::Constant(_) => "constant".to_owned(),
            Role::Status => "status".to_owned(),
        };
        text += &format!("buffer {} {role} {}\n", at + 1, external.ty);
    }
    text + &launches(&lowered.program)
}

fn launches(program: &Program) -> String {
    let mut text = String::new();
    for (at, launch) in program.launches.iter().enumerate() {
        let around = |each: &&Loop| each.launches.contains(&at);
        for (depth, each) in program.loops.iter().filter(around).enumerate() {
            if each.launches.start == at {
                let reverse = if each.reverse { " reverse" } else { "" };
                let index = each.index.as_ref().map(|index| format!(" number at {}", place(index))).unwrap_or_default();
                text += &format!("{}loop {depth} of {} steps{reverse}{index}\n", "    ".repeat(depth), each.steps);
            }
        }
        let indent = "    ".repeat(program.loops.iter().filter(around).count());
        let arguments: Vec<String> = launch.args.iter().map(place).collect();
        let serial = if launch.serial { " serial" } else { "" };
        let stage = program.stage(at).map(|(stage, _)| format!(" stage {stage}")).unwrap_or_default();
        let name = &program.kernels[launch.kernel as usize].name;
        text += &format!("{indent}launch {name} ({}){serial}{stage}\n", arguments.join(", "));
    }
    text
}

fn place(arg: &ArgRef) -> String {
    let strides = arg.strides.iter().map(|stride| format!("+{}*step{}", stride.bytes, stride.depth));
    format!("{}+{}{}", arg.buffer, arg.offset, strides.collect::<String>())
}
