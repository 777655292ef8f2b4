//! Rows of a table that are looked up and then multiplied are looked up in the table that was multiplied.
//!
//! `dot(gather(table, indices), matrix)` becomes `gather(dot(table, matrix), indices)` where fewer products are left
//! to make. An embedding of letters in front of a recurrent layer is so: a batch looks up thousands of rows of a table
//! of a hundred. What follows by derivation is as small: cotangents are added by letter before they are multiplied.
//! Where neither table nor matrix changes, the product is made once, with the weights.
//!
//! On entry a verified graph, before `grad`; on exit the same results: each element of a product is the same sum. Its
//! derivatives add the same terms in another order, and multiply rows that no index names by cotangents of 0, which
//! shows only if such a row, or the matrix, is not finite. A gather whose own derivative is asked for stays, and so
//! does one that reads a large table, as that of words is.

use crate::constants::constants;
use crate::rewrite::{Fuel, Rewriter};
use nnc_graph::{Graph, Node, Op, ValueId};

/// A product of looked-up rows that should be looked up itself.
struct LookUp {
    table: ValueId,
    indices: ValueId,
    matrix: ValueId,
    /// The product of the table by the matrix.
    product: Op,
}

/// The graph with tables multiplied where that is less work.
pub fn multiply_tables(graph: &Graph, fuel: &mut Fuel) -> Graph {
    let constant = match graph.keeps_parameters() {
        true => constants(graph, |_| false, |_| false),
        false => vec![false; graph.value_count()],
    };
    let mut rewriter = Rewriter::new(graph, fuel);
    for (id, node) in graph.nodes() {
        match look_up(graph, node, &constant) {
            Some(found) if rewriter.spend() => {
                rewriter.at(id);
                let [table, matrix, indices] =
                    [found.table, found.matrix, found.indices].map(|value| rewriter.value(value));
                let multiplied = rewriter.emit(found.product, &[table, matrix]);
                // An index out of range is told at the line that looks it up.
                rewriter.at(graph.value(node.operands[0]).node);
                let rows = rewriter.emit(Op::Gather { axis: 0, batch: 0 }, &[multiplied, indices]);
                rewriter.replace(node.results[0], rows);
            }
            _ => _ = rewriter.copy(id),
        }
    }
    rewriter.finish()
}

/// What a node would be made of, if that is less work.
fn look_up(graph: &Graph, node: &Node, constant: &[bool]) -> Option<LookUp> {
    let Op::Dot { batch: 0, a_axes, b_axes } = &node.op else { return None };
    let (rows, matrix) = (node.operands[0], node.operands[1]);
    let gather = graph.definition(rows);
    let Op::Gather { axis: 0, batch: 0 } = gather.op else { return None };
    let (table, indices) = (gather.operands[0], gather.operands[1]);
    // The axes of the indices stand where the first one of the table was.
    let places = graph.ty(indices).shape.rank();
    let of_table = |&axis: &usize| (axis >= places).then(|| axis - places + 1);
    let a_axes = a_axes.iter().map(of_table).collect::<Option<Vec<_>>>()?;
    let is_less = is_less_work(graph, &[table, indices, matrix], (b_axes, constant));
    let is_asked_for = graph.users(graph.value(rows).node).iter().any(|&user| graph.node(user).op == Op::Grad);
    let product = Op::Dot { batch: 0, a_axes, b_axes: b_axes.clone() };
    (is_less && !is_asked_for).then_some(LookUp { table, indices, matrix, product })
}

/// Whether the table has at most half as many rows as are looked up: then the products that are left out pay for the
/// rows of a gather, which are wider now. A product that is made once must only not be larger than the matrix, which is
/// not needed beside it.
fn is_less_work(
    graph: &Graph,
    &[table, indices, matrix]: &[ValueId; 3],
    (terms, constant): (&[usize], &[bool]),
) -> bool {
    let size = |value: ValueId, axis: usize| graph.ty(value).shape[axis].as_number();
    let looked_up = graph.ty(indices).shape.elements().as_number();
    let terms: Option<i64> = terms.iter().map(|&axis| size(matrix, axis)).product();
    let (Some(rows), Some(looked_up), Some(terms)) = (size(table, 0), looked_up, terms) else { return false };
    let is_made_once = constant[table.index()] && constant[matrix.index()];
    2 * rows <= looked_up || (is_made_once && rows <= terms)
}
