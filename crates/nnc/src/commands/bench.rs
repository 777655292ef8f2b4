//! `nnc bench FILE`; with `--compare`, see `compare.rs`.

use crate::arguments::{Bench, PassOptions};
use crate::terminal::{self, GOOD, QUIET, STRONG};
use crate::{Failure, output, setup};
use nnc_driver::bench::{Comparison, Side, Wanted, compare};
use nnc_driver::stage::{self, Which};

pub(crate) fn run(options: &Bench) -> Result<(), Failure> {
    if let (Some(weights), false) = (&options.weights, options.compare.is_empty()) {
        return super::compare::run(options, weights);
    }
    let (project, loaded) = setup::weighted(&options.file, options.weights.as_deref())?;
    let passes = PassOptions { max_memory: options.max_memory, ..PassOptions::default() };
    let compiler = setup::native(options.threads, options.isa.isa, passes)?;
    let rows = setup::rows(&options.file)?;
    let only = options.file.only.as_deref();
    // Integers are not trained.
    let is_trained = !project.unit.recipes.is_empty() && project.has_floats();
    let programs: &[Which] = if is_trained { &[Which::Train, Which::Answer] } else { &[Which::Answer] };
    let mut comparisons = Vec::new();
    for &which in programs {
        let (time, ablate, weights) =
            (options.seconds, options.ablate, options.weights.as_deref().map(|path| (path, &loaded)));
        let mut compiler = compiler.clone();
        if options.tuning.tune.is_some() {
            let graph = stage::graph(&project, only, which, rows)?;
            let mut store = stage::store(&project, only, (&graph, rows), &compiler, weights)?;
            setup::tune(options.tuning, &mut compiler, &graph, &mut store)?;
        }
        let wanted = Wanted { only, which, rows, time, ablate, weights };
        comparisons.push(compare(&project, wanted, &compiler)?);
    }
    if options.json {
        let text = serde_json::to_string_pretty(&comparisons).map_err(|error| error.to_string())?;
        return output::line(&text);
    }
    let threads = terminal::counted(compiler.pool.threads(), "thread");
    let heading = format!("{QUIET}{threads}, alternating runs{QUIET:#}\n");
    output::print(&comparisons.iter().fold(heading, |text, comparison| text + &shown(comparison)))
}

fn shown(comparison: &Comparison) -> String {
    let title = format!(
        "\n{STRONG}{}{STRONG:#} of {}, {} rounds\n",
        comparison.program,
        terminal::counted(comparison.rows, "example"),
        comparison.rounds
    );
    let heading = ["", "median", "quartiles", "kernels", "bytes moved", "arena", "compiled in"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.push(row("fused", &comparison.fused));
    rows.push(row("unfused", &comparison.unfused));
    rows.extend(comparison.ablations.iter().map(|each| row(&format!("without {}", each.without), &each.side)));
    let gains = comparison.ablations.iter().map(|each| format!("{} {:.2}x", each.without, each.speed_up));
    let gains: Vec<String> = gains.collect();
    let gains = if gains.is_empty() { String::new() } else { format!("each kind alone: {}\n", gains.join(", ")) };
    title + &terminal::table(&rows) + &format!("{GOOD}fused is {:.2}x as fast{GOOD:#}\n", comparison.speed_up) + &gains
}

fn row(name: &str, side: &Side) -> Vec<String> {
    vec![
        name.to_owned(),
        terminal::duration(side.median),
        format!("{} .. {}", terminal::duration(side.low), terminal::duration(side.high)),
        side.kernels.to_string(),
        terminal::bytes(side.bytes),
        terminal::bytes(side.arena_bytes as u64),
        terminal::duration(side.compile),
    ]
}
