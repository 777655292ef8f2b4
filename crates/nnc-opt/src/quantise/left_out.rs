//! Which products of a graph cannot be quantised, and why: all that are no [`Site`](super::Site), so that a report is
//! whole.

use super::sites::{has_many_terms, is_matrix, sites};
use crate::products::{Factor, Product, products};
use nnc_graph::{DType, Graph, NodeId, Op};
use std::collections::BTreeSet;
use std::fmt;

/// Why a product cannot be quantised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Unserved {
    /// It is in a loop: what it reads was made by the step before.
    InLoop,
    /// Both factors differ from run to run, as those of attention scores.
    TwoActivations,
    /// It is by a constant of the program, not by a parameter.
    Constant,
    /// It is by a parameter of another dtype than f32.
    OtherNumbers,
    /// Its sums have more terms than are sure to fit 32 bits.
    ManyTerms,
    /// It is a transposed convolution of several groups.
    GroupedTranspose,
    /// Each of a batch has weights of its own.
    Batched,
    /// Its weights stand in front of the activations.
    WeightsFirst,
    /// Its weights have more axes than a matrix, or are summed over more than one.
    NoMatrix,
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InLoop => "in a loop",
            Self::TwoActivations => "product of two activations",
            Self::Constant => "product by a constant",
            Self::OtherNumbers => "its weights are no f32",
            Self::ManyTerms => "more terms than 32 bits hold",
            Self::GroupedTranspose => "transposed, in groups",
            Self::Batched => "each of a batch has its own weights",
            Self::WeightsFirst => "its weights stand first",
            Self::NoMatrix => "its weights are no matrix",
        })
    }
}

/// A product that cannot be quantised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftOut {
    /// What it multiplies by: the path of the largest parameter, and its elements. Nothing for other products.
    pub weights: Option<(String, usize)>,
    /// Where in the source it comes from: [`Product::place`].
    pub place: String,
    /// The node of the whole graph that it is, or the loop that it is in.
    pub node: NodeId,
    /// Multiply-adds of the whole product, in all steps.
    pub products: usize,
    /// Why.
    pub why: Unserved,
}

/// The products of an inference graph that are no sites, in program order. What is the same in every run is none: it is
/// computed once, and is a part of the weights of another one.
pub fn left_out(graph: &Graph) -> Vec<LeftOut> {
    let served: BTreeSet<NodeId> = sites(graph).into_iter().map(|site| site.node).collect();
    let others = products(graph).into_iter().filter(|product| {
        let is_served = !product.is_in_loop && served.contains(&product.outermost);
        product.varies() && !is_served
    });
    others.map(|product| of(&product)).collect()
}

fn of(product: &Product<'_>) -> LeftOut {
    let weights = match product.weights() {
        Some(Factor::Weights { path, elements }) => Some((path.clone(), *elements)),
        Some(Factor::Constants | Factor::Activations) | None => None,
    };
    let (place, node, products) = (product.place(), product.outermost, product.multiply_adds);
    LeftOut { weights, place, node, products, why: why(product) }
}

fn why(product: &Product<'_>) -> Unserved {
    let is_second = product.factors[0] == Factor::Activations;
    let weights = product.node.operands[usize::from(is_second)];
    match (product.weights(), &product.node.op) {
        (None, _) => Unserved::TwoActivations,
        (Some(_), _) if product.is_in_loop => Unserved::InLoop,
        (Some(Factor::Constants), _) => Unserved::Constant,
        (Some(_), _) if product.graph.ty(weights).dtype != DType::F32 => Unserved::OtherNumbers,
        (Some(_), _) if is_second && has_many_terms(product.graph, product.node) => Unserved::ManyTerms,
        (Some(_), Op::ConvInputGrad { .. }) => Unserved::GroupedTranspose,
        (Some(_), Op::Dot { batch: 1.., .. }) => Unserved::Batched,
        (Some(_), Op::Dot { .. }) if !is_second && is_matrix(product.graph, weights) => Unserved::WeightsFirst,
        (Some(_), _) => Unserved::NoMatrix,
    }
}
