//! Weights of few bits, a lossy stage that is only run when asked: matrices are stored in bf16, int8 or int4, and
//! products read them so.
//!
//! Activations stay floats. It serves products that are bound by memory: those of one row or a few by a large matrix,
//! as in the generation of text, where each element is read for a single multiply-add.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`mod@round`] | the numbers that stand for a matrix |
//! | [`mod@apply`] | the rewrite |
//! | [`mod@product`] | products by a parameter, perhaps turned |
//!
//! **Contract.** On entry a graph without `grad`, every dim bound. On exit each parameter that [`Matrix`] names is the
//! parameter `PATH.stored` with `PATH.scales` ([`Stored`]): products by it, also inside of loops, are
//! [`nnc_graph::Op::DotStored`] unless it is read as floats, and every other reader, as one that picks rows, reads the
//! floats that these stand for. So no floats are left in a file. How far results are from those before is measured, not
//! promised.

mod apply;
mod product;
mod round;

pub use apply::{narrow, restored};
pub use round::{Levels, Rounded, round};

use crate::parameters::follow;
use nnc_graph::stored::NIBBLES;
use nnc_graph::{DType, Graph, Op, Stored, TensorType, ValueId};
use product::Product;

/// What the path of a stored matrix ends with.
pub const STORED: &str = ".stored";

/// A parameter that is stored in few bits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Matrix {
    /// The path of the parameter, `f32` of two axes.
    pub path: String,
    /// Its axis that products sum over: what is stored has it first.
    pub terms_axis: usize,
    /// How it is stored.
    pub form: Stored,
    /// Whether products, too, read the floats that it stands for: then it is small in a file, and multiplied as it
    /// always was.
    pub by_floats: bool,
}

impl Matrix {
    /// The path of what is stored.
    pub fn stored_path(&self) -> String {
        format!("{}{STORED}", self.path)
    }

    /// The path of its scales, if the form has some.
    pub fn scales_path(&self) -> String {
        format!("{}.scales", self.path)
    }

    /// Terms and columns of a parameter of such a type, if it can be stored so.
    pub fn sizes(&self, ty: &TensorType) -> Option<(usize, usize)> {
        let dims = matrix_dims(ty)?;
        let (terms, columns) = (*dims.get(self.terms_axis)?, dims[1 - self.terms_axis]);
        self.form.fits(terms).then_some((terms, columns))
    }

    /// How far terms, and columns, lie apart in a parameter of so many.
    pub fn strides(&self, (terms, columns): (usize, usize)) -> (usize, usize) {
        if self.terms_axis == 0 { (columns, 1) } else { (1, terms) }
    }

    /// The paths and types of what stands for the parameter.
    pub fn tensors(&self, ty: &TensorType) -> Vec<(String, TensorType)> {
        let Some((terms, columns)) = self.sizes(ty) else { return Vec::new() };
        let scales = self.form.scales(terms, columns).map(|ty| (self.scales_path(), ty));
        [(self.stored_path(), self.form.matrix(terms, columns))].into_iter().chain(scales).collect()
    }
}

/// A parameter that products read, or a table, that could be stored in few bits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its path.
    pub path: String,
    /// Its dims.
    pub dims: [usize; 2],
    /// The axis that the first product sums over; of a table that of its rows' elements.
    pub terms_axis: usize,
    /// Multiply-adds of all products that sum over it.
    pub products: usize,
    /// Whether all products by it are in loops.
    pub in_loops: bool,
}

impl Candidate {
    /// The matrix that it becomes in a form, which products read as it is.
    pub fn stored(&self, form: Stored) -> Matrix {
        Matrix { path: self.path.clone(), terms_axis: self.terms_axis, form, by_floats: false }
    }
}

/// The least terms that share a scale unless fewer are asked for: of fewer, scales take a good part of the file.
const LEAST_GROUP: usize = 16;
/// The most terms of a group.
const MOST_GROUP: usize = 128;

/// The groups that a matrix of so many terms can have, in increasing order.
pub fn groups(terms: usize) -> impl DoubleEndedIterator<Item = usize> {
    let whole = (1..=terms.min(MOST_GROUP) / NIBBLES).map(|words| words * NIBBLES);
    whole.filter(move |group| terms.is_multiple_of(*group))
}

/// The form with the largest groups that a matrix of so many terms can have, no larger than those of `form`; nothing if
/// they would be small.
pub fn in_whole_groups(form: Stored, terms: usize) -> Option<Stored> {
    let Some(most) = form.group() else { return Some(form) };
    let group = groups(terms).rfind(|group| (LEAST_GROUP.min(most)..=most).contains(group))?;
    Stored::of_bits(form.bits(), group)
}

/// The parameters that could be stored, in the order of the first product.
pub fn candidates(graph: &Graph) -> Vec<Candidate> {
    let mut found = Vec::new();
    follow(graph, &mut |place| {
        let matrix = |value: ValueId| {
            let traced = place.parameter(value)?;
            Some((traced, matrix_dims(&traced.ty)?, traced.axes.as_ref()?))
        };
        let product = Product::of(place.graph, place.node, |value| matrix(value).is_some());
        let Some(product) = product else { return };
        if let Some((traced, dims, axes)) = matrix(place.node.operands[product.at]) {
            let activations = place.graph.ty(place.node.operands[1 - product.at]).shape.elements().size();
            let terms_axis = axes[product.weights_axis];
            let products = place.times * activations * dims[1 - terms_axis];
            let (path, in_loops) = (traced.path.clone(), place.in_loop);
            note(&mut found, Candidate { path, dims, terms_axis, products, in_loops });
        }
    });
    found
}

/// The tables of a graph, matrices whose rows are picked by number and that no product reads, in the order of the first
/// reader. What would be summed over is a row.
pub fn tables(graph: &Graph) -> Vec<Candidate> {
    let products = candidates(graph);
    let mut found: Vec<Candidate> = Vec::new();
    follow(graph, &mut |place| {
        let Op::Gather { axis: 0, batch: 0 } = place.node.op else { return };
        let Some(traced) = place.parameter(place.node.operands[0]) else { return };
        let is_turned = traced.axes.as_deref() != Some(&[0, 1]);
        let is_known = products.iter().chain(&found).any(|known| known.path == traced.path);
        if let (Some(dims), false, false) = (matrix_dims(&traced.ty), is_turned, is_known) {
            found.push(Candidate { path: traced.path.clone(), dims, terms_axis: 1, products: 0, in_loops: false });
        }
    });
    found
}

/// Tables that are no matrices, whose parts have axes of their own, with their dims: they are not stored.
pub fn deep_tables(graph: &Graph) -> Vec<(String, Vec<usize>)> {
    let mut found = Vec::new();
    follow(graph, &mut |place| {
        let Op::Gather { .. } = place.node.op else { return };
        let Some(traced) = place.parameter(place.node.operands[0]) else { return };
        let is_deep = traced.ty.dtype == DType::F32 && traced.ty.shape.rank() > 2 && traced.ty.shape.is_bound();
        if is_deep && !found.iter().any(|(path, _)| *path == traced.path) {
            found.push((traced.path.clone(), traced.ty.shape.sizes()));
        }
    });
    found
}

/// The dims of a matrix of floats.
fn matrix_dims(ty: &TensorType) -> Option<[usize; 2]> {
    let is_matrix = ty.dtype == DType::F32 && ty.shape.rank() == 2 && ty.shape.is_bound();
    is_matrix.then(|| ty.shape.sizes().try_into().expect("there are two"))
}

/// Notes a product, that of a parameter which sums over the axis of the first one.
fn note(found: &mut Vec<Candidate>, product: Candidate) {
    let Some(known) = found.iter_mut().find(|known| known.path == product.path) else {
        found.push(product);
        return;
    };
    known.in_loops &= product.in_loops;
    if known.terms_axis == product.terms_axis {
        known.products += product.products;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_as_large_as_terms_allow() {
        let group = |most: usize, terms: usize| in_whole_groups(Stored::Nibbles { group: most }, terms)?.group();
        assert_eq!([128, 176, 784, 64].map(|terms| group(64, terms)), [Some(64), Some(16), Some(56), Some(64)]);
        assert_eq!((group(64, 100), group(64, 24), group(8, 24)), (None, Some(24), Some(8)));
        assert_eq!(in_whole_groups(Stored::Bf16, 7), Some(Stored::Bf16));
        assert_eq!(groups(176).collect::<Vec<_>>(), [8, 16, 88]);
    }
}
