//! The part of `nnc explain` on a quantised network: where it leaves bytes, and why.

use crate::terminal::{self, STRONG};
use nnc_graph::{DType, Graph};
use nnc_opt::Optimised;
use nnc_opt::products::{Factor, products};
use nnc_opt::quantise::{Change, Crossing, crossings};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Readers that are named of each crossing.
const NAMED: usize = 2;

/// The layers of a network that multiply bytes, and those that multiply floats; one with a loop may do both.
struct Layers {
    of_bytes: BTreeSet<String>,
    of_floats: BTreeSet<String>,
}

impl Layers {
    fn of(graph: &Graph) -> Self {
        let mut layers = Self { of_bytes: BTreeSet::new(), of_floats: BTreeSet::new() };
        for product in products(graph).iter().filter(|product| product.varies()) {
            let is_of_bytes = product.graph.ty(product.node.operands[0]).dtype == DType::U8;
            // Sums of bytes are products with ones.
            if is_of_bytes && product.factors.contains(&Factor::Constants) {
                continue;
            }
            let kind = if is_of_bytes { &mut layers.of_bytes } else { &mut layers.of_floats };
            kind.insert(product.place());
        }
        layers
    }
}

/// What is said of it; nothing of a network without products of bytes.
pub(super) fn shown(optimised: &Optimised) -> String {
    let layers = Layers::of(&optimised.graph);
    if layers.of_bytes.is_empty() {
        return String::new();
    }
    let found = crossings(&optimised.graph, &optimised.partition);
    let mut text = format!(
        "\n{STRONG}int8{STRONG:#}: {} with products of bytes, {} of floats; {}\n",
        terminal::counted(layers.of_bytes.len(), "layer"),
        layers.of_floats.len(),
        summary(&found)
    );
    if !found.is_empty() {
        let mut rows = vec![["made by", "becomes", "bytes"].map(str::to_owned).to_vec()];
        rows.extend(found.iter().map(row));
        let readers = std::iter::once("needed by".to_owned()).chain(found.iter().map(readers));
        let lines = terminal::table(&rows);
        text += &lines.lines().zip(readers).map(|(line, readers)| format!("{line}  {readers}\n")).collect::<String>();
    }
    text
}

/// How often, and how much is moved.
fn summary(found: &[Crossing]) -> String {
    let said = |change: Change| {
        let of = || found.iter().filter(|crossing| crossing.change == change);
        let bytes = of().map(|crossing| crossing.bytes as u64).sum();
        format!("in {} ({})", terminal::counted(of().count(), "place"), terminal::bytes(bytes))
    };
    let has = |change: Change| found.iter().any(|crossing| crossing.change == change);
    let mut text =
        format!("bytes become floats {}, floats become bytes {}", said(Change::ToFloats), said(Change::ToBytes));
    for (change, what) in [(Change::ToSums, "sums are written"), (Change::Between, "floats are between bytes")] {
        if has(change) {
            text += &format!(", {what} {}", said(change));
        }
    }
    text
}

fn row(crossing: &Crossing) -> Vec<String> {
    let Crossing { change, place, bytes, .. } = crossing;
    vec![place.clone(), becomes(*change).to_owned(), terminal::bytes(*bytes as u64)]
}

fn readers(crossing: &Crossing) -> String {
    let (named, rest) = crossing.readers.split_at(crossing.readers.len().min(NAMED));
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    named.join(", ") + &more
}

fn becomes(change: Change) -> &'static str {
    match change {
        Change::ToFloats => "floats",
        Change::ToSums => "sums of 32 bits",
        Change::ToBytes => "bytes",
        Change::Between => "floats, then bytes again",
    }
}

/// The same as JSON; null of a network without products of bytes.
pub(super) fn as_json(optimised: &Optimised) -> Value {
    let Layers { of_bytes, of_floats } = Layers::of(&optimised.graph);
    if of_bytes.is_empty() {
        return Value::Null;
    }
    let crossings = crossings(&optimised.graph, &optimised.partition).into_iter().map(|crossing| {
        let Crossing { change, place, bytes, readers } = crossing;
        json!({"made_by": place, "becomes": becomes(change), "bytes": bytes, "needed_by": readers})
    });
    json!({"layers_of_bytes": of_bytes, "layers_of_floats": of_floats, "crossings": crossings.collect::<Vec<_>>()})
}
