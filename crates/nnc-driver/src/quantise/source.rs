//! Products that multiply the same activations in the same way: their moments are the same, and so is the factor of
//! these.
//!
//! The same is what is one value of the graph, whose equal nodes are one, taken by as many terms in the same order: of
//! matrix products along the same axes, of convolutions by kernels of one size that move alike. What weights there are,
//! and how many channels they make, does not matter.

use crate::quantise::moments::terms;
use nnc_graph::{Graph, Op, ValueId};
use nnc_opt::quantise::Site;

/// Products with the same moments.
pub struct Shared<'s> {
    /// Their places among all products.
    pub products: Vec<usize>,
    /// The uses of the first of them.
    pub uses: &'s [Site],
}

/// Some products, each given by its uses, with those of the same activations at the place of the first.
pub fn shared<'s>(graph: &Graph, products: &[&'s [Site]]) -> Vec<Shared<'s>> {
    let mut found: Vec<(Vec<Source>, Shared<'s>)> = Vec::new();
    for (at, &uses) in products.iter().enumerate() {
        let sources: Vec<Source> = uses.iter().map(|site| Source::new(graph, site)).collect();
        match found.iter_mut().find(|(known, _)| *known == sources) {
            Some((_, same)) => same.products.push(at),
            None => found.push((sources, Shared { products: vec![at], uses })),
        }
    }
    found.into_iter().map(|(_, same)| same).collect()
}

/// What a product multiplies weights with.
#[derive(PartialEq)]
struct Source {
    input: ValueId,
    groups: usize,
    terms: usize,
    /// The op of a convolution and its kernel along the axes of an image; of a matrix product nothing but the axes of
    /// the terms counts.
    op: Op,
    kernel: Vec<usize>,
}

impl Source {
    fn new(graph: &Graph, site: &Site) -> Self {
        let (op, kernel) = match &graph.node(site.node).op {
            Op::Dot { a_axes, .. } => {
                let mut axes = a_axes.clone();
                axes.sort_unstable();
                (Op::Dot { batch: 0, a_axes: axes, b_axes: Vec::new() }, Vec::new())
            }
            conv => (conv.clone(), graph.ty(site.weights).shape.sizes()[2..].to_vec()),
        };
        Self { input: site.input, groups: site.groups, terms: terms(site), op, kernel }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Project;
    use nnc_graph::{ConvAttributes, DType, Dim, OutputKind, Shape, TensorType};
    use nnc_lang::elaborate::Options;
    use nnc_opt::quantise::sites;
    use std::path::Path;

    /// The places of the products that have the same moments, each product by its weights.
    fn places(graph: &Graph) -> Vec<Vec<usize>> {
        let all = sites(graph);
        let products: Vec<&[Site]> = all.iter().map(std::slice::from_ref).collect();
        shared(graph, &products).into_iter().map(|same| same.products).collect()
    }

    #[test]
    fn query_key_and_value_are_of_the_same() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dsl-examples/sentiment_transformer.nn");
        let project = Project::load(&path, &Options::default()).unwrap_or_else(|e| panic!("{e:?}"));
        let graph = project.graph(project.unit.evaluate("SentimentTransformer", 4)).unwrap();
        let found = places(&Project::before_rounding(&graph).unwrap());
        let largest = found.iter().map(Vec::len).max();
        assert_eq!((largest, found.iter().filter(|same| same.len() > 1).count()), (Some(3), 1), "{found:?}");
    }

    #[test]
    fn branches_by_kernels_of_one_size_are_of_the_same() {
        let mut graph = Graph::new("branches");
        let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
        let dims = |sizes: &[usize]| sizes.iter().map(|&size| Dim::from(size)).collect::<Vec<_>>();
        let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[2, 16, 8, 8]) }, &[]);
        // Channels, kernel, stride, padding, groups.
        let branches =
            [(8, 1, 1, 0, 1), (24, 1, 1, 0, 1), (8, 3, 1, 1, 1), (16, 3, 1, 1, 1), (8, 1, 2, 0, 1), (8, 1, 1, 0, 2)];
        for (at, (channels, kernel, stride, padding, groups)) in branches.into_iter().enumerate() {
            let kernel = [channels, 16 / groups, kernel, kernel];
            let w = graph.emit(Op::Param { path: format!("w{at}"), ty: ty(&kernel) }, &[]);
            let [stride, padding, dilation] = [stride, padding, 1].map(|size| dims(&[size, size]));
            let groups = Dim::from(groups);
            let conv = ConvAttributes { stride, low: padding.clone(), high: padding, dilation, groups };
            let y = graph.emit(Op::Conv(conv), &[x, w]);
            graph.add_output(&format!("y{at}"), y, OutputKind::Result);
        }
        assert_eq!(places(&graph), [vec![0, 1], vec![2, 3], vec![4], vec![5]]);
    }
}
