//! `nnc profile FILE`.

use crate::arguments::Profile as Options;
use crate::terminal::{self, QUIET, STRONG};
use crate::{Failure, output, setup};
use nnc_data::{check_writable, write_atomically};
use nnc_driver::profile::{Errors, Profile, profile};
use nnc_driver::{DriverError, stage};

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let (project, loaded) = setup::weighted(&options.file, options.weights.as_deref())?;
    if let Some(trace) = &options.trace {
        setup::check_target(trace, &setup::reads(&project, None, options.weights.as_deref()))?;
        check_writable(trace).map_err(DriverError::from)?;
    }
    let program = setup::program(options.program, &project)?;
    let mut compiler = setup::native(options.threads, options.isa.isa, options.passes)?;
    let rows = setup::rows(&options.file)?;
    let only = options.file.only.as_deref();
    let weights = options.weights.as_deref().map(|path| (path, &loaded));
    if options.tuning.tune.is_some() {
        let graph = stage::graph(&project, only, program, rows)?;
        let mut store = stage::store(&project, only, (&graph, rows), &compiler, weights)?;
        setup::tune(options.tuning, &mut compiler, &graph, &mut store)?;
    }
    let found = profile(&project, only, program, (rows, weights), &compiler, options.seconds)?;
    if let Some(path) = &options.trace {
        let text = found.chrome_trace().to_string();
        write_atomically(path, |file| file.write_all(text.as_bytes())).map_err(DriverError::from)?;
    }
    if options.json {
        let text = serde_json::to_string_pretty(&found).map_err(|error| error.to_string())?;
        return output::line(&text);
    }
    output::print(&shown(&found))
}

fn shown(profile: &Profile) -> String {
    let mut text = format!(
        "{STRONG}{}{STRONG:#} a run, median of {} runs, {}, {}\n",
        terminal::duration(profile.seconds),
        profile.rounds,
        terminal::counted(profile.threads, "thread"),
        profile.engine,
    );
    text += &format!(
        "{QUIET}this machine, measured: {:.0} GFLOP/s, {:.0} Gop/s on bytes, {:.1} GB/s from memory, from caches {}{QUIET:#}\n",
        profile.roofline.flops / 1e9,
        profile.roofline.byte_operations / 1e9,
        profile.roofline.bytes / 1e9,
        profile
            .roofline
            .caches
            .map(|cache| format!("{:.0} ({})", cache.bytes / 1e9, terminal::bytes(cache.size)))
            .join(", "),
    );
    let heading = ["kernel", "time", "predicted", "share", "GFLOP/s", "bytes", "bound by", "of roofline", "computes"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for launch in &profile.launches {
        rows.push(vec![
            terminal::repeated(&launch.kernel, launch.runs),
            terminal::duration(launch.seconds),
            terminal::duration(launch.predicted_seconds),
            format!("{:.1} %", 100.0 * launch.seconds / profile.seconds),
            format!("{:.1}", launch.gflops),
            terminal::bytes(launch.bytes),
            launch.bound.name().to_owned(),
            format!("{:.0} %", launch.roofline_percent),
            launch.computes.clone(),
        ]);
    }
    text += &terminal::table(&rows);
    let Errors { seconds, run_percent, median_percent, .. } = profile.predictions;
    text += &format!(
        "{QUIET}predicted {} a run, {run_percent:.0} % off; half of the kernels are within {median_percent:.0} %{QUIET:#}\n",
        terminal::duration(seconds)
    );
    if profile.prepared > 0 {
        let kernels = terminal::counted(profile.prepared, "kernel");
        text += &format!(
            "{QUIET}{kernels} more, which pack weights and the like, ran once, before the first run{QUIET:#}\n"
        );
    }
    if profile.staged > 0 && profile.threads > 1 {
        let kernels = terminal::counted(profile.staged, "kernel");
        text += &format!(
            "{QUIET}{kernels} of loops run beside each other otherwise, and were timed one after the other: a run takes less \
             (`nnc bench`){QUIET:#}\n"
        );
    }
    text
}
