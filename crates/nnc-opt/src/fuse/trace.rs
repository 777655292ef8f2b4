//! Looking through views: what a view is a view of, and whether it names the same points.

use super::class::{Class, class};
use super::layout::Layout;
use nnc_graph::{Graph, ValueId};

/// The values from `value` down to the first that is no view, that one last.
///
/// A reshape that strides cannot say (a copy) ends the chain.
fn view_chain(graph: &Graph, value: ValueId) -> Vec<ValueId> {
    let mut chain = vec![value];
    let mut at = value;
    while class(&graph.definition(at).op) == Class::View {
        at = graph.definition(at).operands[0];
        chain.push(at);
    }
    // Layouts are known from the bottom up: cut the chain above the last copy.
    let mut layout = Layout::contiguous(&graph.ty(at).shape.sizes());
    let mut keep = chain.len();
    for position in (0..chain.len() - 1).rev() {
        layout = match layout.view(&graph.definition(chain[position]).op) {
            Some(view) => view,
            None => {
                keep = position + 1;
                Layout::contiguous(&graph.ty(chain[position]).shape.sizes())
            }
        };
    }
    chain.truncate(keep);
    chain
}

/// The value that `value` is a view of, or itself.
pub fn base(graph: &Graph, value: ValueId) -> ValueId {
    let chain = view_chain(graph, value);
    chain[chain.len() - 1]
}

/// What every value of a graph is a view of, and how, found in one walk.
#[derive(Debug)]
pub struct Views {
    of: Vec<(ValueId, Layout, Reach)>,
}

impl Views {
    /// Of a graph whose dims are bound.
    pub fn new(graph: &Graph) -> Self {
        let mut of: Vec<(ValueId, Layout, Reach)> = Vec::with_capacity(graph.value_count());
        for (_, node) in graph.nodes() {
            for &value in &node.results {
                let operand = node.operands.first().filter(|_| class(&node.op) == Class::View);
                let view = operand.and_then(|operand| {
                    let (base, layout, _) = &of[operand.index()];
                    Some((*base, layout.view(&node.op)?))
                });
                let (base, layout) =
                    view.unwrap_or_else(|| (value, Layout::contiguous(&graph.ty(value).shape.sizes())));
                let reach = reach_of(graph, base, &layout);
                of.push((base, layout, reach));
            }
        }
        Self { of }
    }

    /// The value that `value` is a view of, or itself.
    pub fn base(&self, value: ValueId) -> ValueId {
        self.of[value.index()].0
    }

    /// The layout of `value` in the memory of its base.
    pub fn layout(&self, value: ValueId) -> &Layout {
        &self.of[value.index()].1
    }

    /// How `value` names the points of its base.
    pub fn reach(&self, value: ValueId) -> Reach {
        self.of[value.index()].2
    }
}

/// Which points of its base a view names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reach {
    /// Each point of the base once, in order.
    Same,
    /// Each point of the base once for every point of a row of so many elements, in order.
    Repeated(usize),
    /// Anything else.
    Other,
}

/// How a value with that layout names the points of its base.
fn reach_of(graph: &Graph, base: ValueId, layout: &Layout) -> Reach {
    let of_base = graph.ty(base).shape.elements().size();
    let elements = layout.elements();
    if elements == of_base {
        return if layout.is_contiguous() && layout.offset == 0 { Reach::Same } else { Reach::Other };
    }
    if !elements.is_multiple_of(of_base) {
        return Reach::Other;
    }
    let row = elements / of_base;
    match layout.reshape(&[of_base, row]) {
        Some(rows) if rows.offset == 0 && rows.strides[1] == 0 && (of_base == 1 || rows.strides[0] == 1) => {
            Reach::Repeated(row)
        }
        _ => Reach::Other,
    }
}
