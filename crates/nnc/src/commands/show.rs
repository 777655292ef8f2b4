//! `nnc show FILE`.

use crate::arguments::Show;
use crate::terminal::{self, QUIET, STRONG};
use crate::{Failure, output, setup};
use nnc_driver::Project;
use nnc_driver::answer::model_name;
use nnc_driver::compiled::check_sizes;
use nnc_lang::elaborate::LayerFacts;
use serde_json::json;
use std::collections::BTreeMap;

pub(crate) fn run(options: &Show) -> Result<(), Failure> {
    let project = setup::project(&options.file)?;
    let is_model = |name: &str| project.unit.models.iter().any(|model| model.name == name);
    let model = match project.unit.recipes.as_slice() {
        [only] if options.file.only.is_none() && is_model(&only.model) => only.model.clone(),
        _ => {
            setup::note_model(&project, &options.file);
            named(&project, options.file.only.as_deref())?
        }
    };
    let mut bind = setup::bindings(&options.file.bind)?;
    bind.entry("N".to_owned()).or_insert(1);
    // Told before what they are too small for.
    setup::note_open_dims(&project, &model, &BTreeMap::new());
    // Sizes that no number holds would be counted wrong.
    check_sizes(&project.graph(project.unit.model(&model, &bind))?)?;
    let layers = layers(&project, &model, &bind)?;
    if options.json {
        return output::line(&format!("{:#}", as_json(&model, &layers)));
    }
    output::print(&shown(&model, &layers))
}

/// The model of that name, or that a recipe of that name trains; the last one without a name.
fn named(project: &Project, only: Option<&str>) -> Result<String, Failure> {
    let models = &project.unit.models;
    let is_model = |name: &str| models.iter().any(|model| model.name == name);
    let Some((name, recipe)) =
        only.filter(|name| !is_model(name)).and_then(|name| Some((name, project.recipe(Some(name)).ok()?)))
    else {
        return Ok(model_name(project, only)?);
    };
    if is_model(&recipe.model) {
        return Ok(recipe.model.clone());
    }
    let listed = models.iter().map(|model| format!("`{}`", model.name)).collect::<Vec<_>>().join(", ");
    let file = project.path.display();
    Err(Failure::Message(format!(
        "{file}: the recipe `{name}` has layers of its own: name a model with `--only`, of {listed}"
    )))
}

fn layers(project: &Project, model: &str, bind: &BTreeMap<String, i64>) -> Result<Vec<LayerFacts>, Failure> {
    Ok(project.checked(project.unit.layers(model, bind))?)
}

fn shown(model: &str, layers: &[LayerFacts]) -> String {
    let mut rows = vec![["layer", "output", "parameters", "multiply-adds", "bytes"].map(str::to_owned).to_vec()];
    for layer in layers {
        // The whole model has the empty path and ends the list.
        let name = if layer.path.is_empty() { "total" } else { &layer.path };
        rows.push(vec![
            name.to_owned(),
            layer.output.to_string(),
            terminal::grouped(layer.parameters),
            terminal::grouped(layer.multiply_adds),
            terminal::bytes(layer.bytes),
        ]);
    }
    let table = terminal::table(&rows);
    let lines: Vec<&str> = table.lines().collect();
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let rule = "─".repeat(width);
    let mut text = format!("{STRONG}{model}{STRONG:#}\n");
    for (at, line) in lines.iter().enumerate() {
        if at == 1 || at + 1 == lines.len() {
            text += &format!("{QUIET}{rule}{QUIET:#}\n");
        }
        text += &format!("{line}\n");
    }
    text
}

fn as_json(model: &str, layers: &[LayerFacts]) -> serde_json::Value {
    let one = |layer: &LayerFacts| {
        json!({
            "layer": layer.path,
            "model": layer.model,
            "output": layer.output.to_string(),
            "parameters": layer.parameters,
            "multiply_adds": layer.multiply_adds,
            "bytes": layer.bytes,
        })
    };
    json!({"model": model, "layers": layers.iter().map(one).collect::<Vec<_>>()})
}
