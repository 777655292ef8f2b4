//! The rows of the report: what products are called, and those that cannot be quantised.

use super::{Reason, Row};
use crate::narrow::has_doubles;
use nnc_graph::{Graph, NodeId};
use nnc_opt::quantise::{LeftOut, left_out};

/// A row for each layer with products that are no sites, by what it multiplies by or where it comes from, with the
/// place of the first one.
pub fn left_out_rows(graph: &Graph, examples: usize) -> Vec<(NodeId, Row)> {
    let mut rows: Vec<(NodeId, Row)> = Vec::new();
    for LeftOut { weights, place, node, products, why } in left_out(graph) {
        let (name, elements) = weights.unwrap_or((place, 0));
        let choice = Err(Reason::Unserved(why));
        match rows.iter_mut().find(|(_, row)| row.name == name && row.choice == choice) {
            Some((_, row)) => row.products += products,
            None => {
                let layer = name.clone();
                rows.push((
                    node,
                    Row { name, layer, elements, products, choice, widened: None, times: None, drop: None },
                ));
            }
        }
    }
    rows.iter_mut().for_each(|(_, row)| row.products /= examples);
    rows
}

/// What is said of a graph without any product that can be quantised.
pub fn why_nothing(graph: &Graph) -> String {
    if has_doubles(graph) {
        return "products of f64 are not quantised: train in f32, without `--dtype f64`".to_owned();
    }
    let mut rows: Vec<Row> = left_out_rows(graph, 1).into_iter().map(|(_, row)| row).collect();
    name_layers(rows.iter_mut());
    let why = |row: &Row| row.choice.err().map(|why| format!("{} ({why})", row.layer));
    let listed: Vec<String> = rows.iter().filter_map(why).collect();
    let listed = if listed.is_empty() { String::new() } else { format!(": {}", listed.join(", ")) };
    format!("this network has no product of activations by weights outside of loops{listed}")
}

/// Gives rows the shortest name for their weights that tells them apart: the layer, else the parameter, else all of it.
/// What has no weights is called by where it comes from.
pub fn name_layers<'r>(rows: impl Iterator<Item = &'r mut Row>) {
    let mut rows: Vec<&mut Row> = rows.filter(|row| row.elements > 0).collect();
    let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
    rows.iter_mut().for_each(|row| row.layer = shortest(&row.name, &names));
}

fn shortest(name: &str, names: &[String]) -> String {
    let is_alone = |short: &dyn Fn(&str) -> String| {
        let mut others = names.iter().filter(|other| *other != name);
        others.all(|other| short(other) != short(name))
    };
    if is_alone(&layer) {
        layer(name)
    } else if is_alone(&parameter) {
        parameter(name)
    } else {
        name.to_owned()
    }
}

/// The parameter that a name is made of.
fn parameter(name: &str) -> String {
    name.split('@').next().unwrap_or_default().to_owned()
}

fn layer(name: &str) -> String {
    let parameter = parameter(name);
    parameter.rsplit_once('.').map_or(parameter.clone(), |(layer, _)| layer.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_short_as_they_tell_layers_apart() {
        let names = ["a.w", "b.v", "b.w", "c.w@1", "c.w@2", "a.w", "table"].map(str::to_owned);
        let short: Vec<String> = names.iter().map(|name| shortest(name, &names)).collect();
        assert_eq!(short, ["a", "b.v", "b.w", "c.w@1", "c.w@2", "a", "table"]);
    }
}
