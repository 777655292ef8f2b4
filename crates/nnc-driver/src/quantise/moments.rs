//! Second moments of what products multiply: how often, and how strongly, each two terms of a sum go together.
//!
//! `sum of x xᵀ` over all rows `x` of some examples that the weights of a channel are multiplied with: of a matrix
//! product the rows of the activations, of a convolution the image under the kernel at each place, group by group. With
//! weights `w` that are off by `d`, the squares of what results are off by add up to `dᵀ (sum of x xᵀ) d`, so that no
//! more of the examples needs to be known to round weights well.
//!
//! They are computed as a graph like any other: `terms²` multiply-adds a row. Products of the same activations, as query,
//! key and value of attention, have the same ones, which are computed once (`source`). A product that is used many
//! times has their sum, that of each use added to those before it, so that it takes the memory of one matrix.

use crate::compiled::{CompiledGraph, Compiler};
use crate::error::DriverError;
use crate::quantise::examples::{Examples, run_all};
use crate::quantise::source::{Shared, shared};
use crate::store::Store;
use nnc_graph::{BinaryOp, Dim, Graph, Node, Op, Shape, SliceRange, ValueId};
use nnc_opt::quantise::Site;
use nnc_opt::rewrite::with_results;

/// The moments of a product's activations, at all its uses.
#[derive(Clone, PartialEq, Debug)]
pub struct Moments {
    /// Groups of channels, which have terms of their own; 1 but for convolutions.
    pub groups: usize,
    /// Terms of a sum, in the order in which the weights of a channel lie.
    pub terms: usize,
    /// How many rows were added up for each group.
    pub rows: usize,
    /// `[groups, terms, terms]`.
    pub sums: Vec<f32>,
}

/// Bytes of the moments that are found in one pass over the examples, and of the images under a kernel in a run.
const ROOM: usize = 1 << 28;

/// More multiply-adds than this, to round the weights of a product by its moments, are too many to wait for.
const MOST_WORK: usize = 1 << 36;

/// Whether the uses of some weights are alike, and these few enough, to be rounded by moments.
pub fn are_found(graph: &Graph, uses: &[Site]) -> bool {
    let Some(first) = uses.first() else { return false };
    let terms = terms(first);
    let work = (first.groups * terms / 3 + first.channels / 2).saturating_mul(terms).saturating_mul(terms);
    let fits = |site: &Site| site.groups == first.groups && image_bytes(graph, site) <= ROOM;
    bytes(first) <= ROOM && work <= MOST_WORK && uses.iter().all(fits)
}

/// The terms of a sum, of those that lie beside each other in the weights.
pub fn terms(site: &Site) -> usize {
    site.elements / site.channels.max(1)
}

fn bytes(site: &Site) -> usize {
    let terms = terms(site);
    terms.saturating_mul(terms).saturating_mul(site.groups).saturating_mul(size_of::<f32>())
}

/// Finds the moments of some products, each given by its uses, by all examples, and gives them to `each` with the places
/// of the products that have these. `store` has all that the graph reads.
///
/// # Errors
/// What cannot be compiled or run.
pub fn find(
    graph: &Graph,
    products: &[&[Site]],
    (compiler, store): (&Compiler, &mut Store),
    examples: &mut dyn Examples,
    each: &mut dyn FnMut(&[usize], Moments),
) -> Result<(), DriverError> {
    for part in parts(&shared(graph, products)) {
        let mut program = compiler.compile(&with_moments(graph, part, ROOM))?;
        let mut moments: Vec<Moments> = part.iter().map(|of| Moments::none(&of.uses[0])).collect();
        run_all(&mut program, (store, examples), &mut |program| {
            for (at, (moments, of)) in moments.iter_mut().zip(part).enumerate() {
                moments.add(program, &name(at));
                moments.rows += of.uses.iter().map(|site| rows(graph, site, ROOM)).sum::<usize>();
            }
        })?;
        drop(program);
        part.iter().zip(moments).for_each(|(of, moments)| each(&of.products, moments));
    }
    Ok(())
}

impl Moments {
    fn none(site: &Site) -> Self {
        let (groups, terms) = (site.groups, terms(site));
        Self { groups, terms, rows: 0, sums: vec![0.0; groups * terms * terms] }
    }

    fn add(&mut self, program: &CompiledGraph, result: &str) {
        let Some(bytes) = program.output(result) else { return };
        let found = bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four));
        self.sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
    }
}

/// Those in a row, as many at a time as there is room for.
fn parts<'p, 's>(all: &'p [Shared<'s>]) -> Vec<&'p [Shared<'s>]> {
    let (mut found, mut first, mut held) = (Vec::new(), 0, 0);
    for (at, of) in all.iter().enumerate() {
        let bytes = bytes(&of.uses[0]);
        if at > first && held + bytes > ROOM {
            found.push(&all[first..at]);
            (first, held) = (at, 0);
        }
        held += bytes;
    }
    found.push(&all[first..]);
    found.retain(|part| !part.is_empty());
    found
}

/// What moments are called.
fn name(at: usize) -> String {
    at.to_string()
}

/// The graph that gives out the moments of the activations of products, and nothing else.
fn with_moments(graph: &Graph, all: &[Shared<'_>], room: usize) -> Graph {
    let mut extended = graph.clone();
    let mut results = Vec::new();
    for (at, of) in all.iter().enumerate() {
        let mut sum = None;
        for site in of.uses {
            let found = moments(&mut extended, site, room);
            // A sum joins the kernel of its first operand (`nnc_opt::fuse`): if that were the sum so far, all sums would
            // be the work of one kernel in the end, which all matrices would wait for.
            sum = Some(sum.map_or(found, |sum| extended.emit(Op::Binary(BinaryOp::Add), &[found, sum])));
        }
        results.extend(sum.map(|sum| (name(at), sum)));
    }
    with_results(&extended, &results)
}

/// How many rows a use of a product shows.
fn rows(graph: &Graph, site: &Site, room: usize) -> usize {
    let sizes = graph.ty(graph.node(site.node).results[0]).shape.sizes();
    let results: usize = sizes.iter().product();
    match &graph.node(site.node).op {
        Op::Dot { .. } => results / site.channels.max(1),
        _ => results / sizes[0].max(1) / site.channels.max(1) * images(graph, site, room),
    }
}

/// How many images of a batch are looked at by a convolution: what lies under its kernel takes so many times the memory of
/// an image.
fn images(graph: &Graph, site: &Site, room: usize) -> usize {
    let batch = graph.ty(graph.node(site.node).results[0]).shape.sizes()[0];
    (room / image_bytes(graph, site).max(1)).clamp(1, batch.max(1))
}

/// Bytes of what lies under the kernel of a convolution at all places of an image; of a matrix product none.
fn image_bytes(graph: &Graph, site: &Site) -> usize {
    let node = graph.node(site.node);
    if matches!(node.op, Op::Dot { .. }) {
        return 0;
    }
    let places: usize = graph.ty(node.results[0]).shape.sizes()[2..].iter().product();
    places.saturating_mul(terms(site) * site.groups * size_of::<f32>())
}

/// `[groups, terms, terms]`, or `[terms, terms]` of one group.
fn moments(graph: &mut Graph, site: &Site, room: usize) -> ValueId {
    let node = graph.node(site.node).clone();
    let images = match &node.op {
        Op::Dot { a_axes, .. } => {
            let rank = graph.ty(site.input).shape.rank();
            let axes: Vec<usize> = (0..rank).filter(|axis| !a_axes.contains(axis)).collect();
            let op = Op::Dot { batch: 0, a_axes: axes.clone(), b_axes: axes };
            return graph.emit(op, &[site.input, site.input]);
        }
        Op::ConvInputGrad { .. } => {
            let input = first(graph, site.input, images(graph, site, room));
            spread_under_kernel(graph, (site, input), &node)
        }
        _ => {
            let input = first(graph, site.input, images(graph, site, room));
            under_kernel(graph, (site, input), &node)
        }
    };
    let [batch, _, _, places] = graph.ty(images).shape.sizes()[..] else { unreachable!("four axes") };
    let grouped = Shape::of(&[batch, site.groups, terms(site), places]);
    let grouped = graph.emit(Op::Reshape(grouped), &[images]);
    let grouped = graph.emit(Op::Transpose(vec![1, 0, 2, 3]), &[grouped]);
    graph.emit(Op::Dot { batch: 1, a_axes: vec![1, 3], b_axes: vec![1, 3] }, &[grouped; 2])
}

/// The first images of a batch.
fn first(graph: &mut Graph, images: ValueId, count: usize) -> ValueId {
    let mut sizes = graph.ty(images).shape.sizes();
    sizes[0] = count;
    let range = |size: &usize| SliceRange { start: Dim::from(0), size: Dim::from(*size), step: 1 };
    let ranges = sizes.iter().map(range).collect();
    graph.emit(Op::Slice(ranges), &[images])
}

/// What lies along an axis of an image under the taps of a kernel.
struct Walk {
    /// Where the first tap starts.
    start: usize,
    /// How far the next one starts behind it.
    apart: isize,
    /// Taps.
    taps: usize,
    /// Places of the kernel.
    places: usize,
    /// Elements from a place to the next.
    step: usize,
}

/// An image under the kernel of a convolution: `[N, C, taps, places]`.
fn under_kernel(graph: &mut Graph, (site, input): (&Site, ValueId), node: &Node) -> ValueId {
    let Op::Conv(at) = &node.op else { unreachable!("a convolution") };
    let kernel = graph.ty(site.weights).shape.sizes();
    let places = graph.ty(node.results[0]).shape.sizes();
    let walks: Vec<Walk> = (0..at.stride.len())
        .map(|axis| Walk {
            start: 0,
            apart: at.dilation[axis].size() as isize,
            taps: kernel[axis + 2],
            places: places[axis + 2],
            step: at.stride[axis].size(),
        })
        .collect();
    let padded = padded(graph, input, (&at.low, &at.high));
    taken(graph, padded, &walks)
}

/// What the kernel of a convolution's transpose is multiplied with at each place of its result: the image with zeros
/// between its elements. `[N, C, taps, places]`.
fn spread_under_kernel(graph: &mut Graph, (site, image): (&Site, ValueId), node: &Node) -> ValueId {
    let Op::ConvInputGrad { attributes: at, input: places_of } = &node.op else {
        unreachable!("the transpose of a convolution")
    };
    let kernel = graph.ty(site.weights).shape.sizes();
    let mut image = image;
    let (mut walks, mut low, mut high) = (Vec::new(), Vec::new(), Vec::new());
    for (axis, places) in places_of.iter().map(Dim::size).enumerate() {
        let (taps, apart) = (kernel[axis + 2], at.dilation[axis].size());
        image = spread(graph, image, (axis + 2, at.stride[axis].size()));
        let span = graph.ty(image).shape.sizes()[axis + 2];
        let before = apart * (taps - 1);
        let start = before + at.low[axis].size();
        low.push(Dim::from(before));
        high.push(Dim::from((start + places).saturating_sub(before + span)));
        walks.push(Walk { start, apart: -(apart as isize), taps, places, step: 1 });
    }
    let padded = padded(graph, image, (&low, &high));
    taken(graph, padded, &walks)
}

/// An image with `stride - 1` zeros between, and behind, the elements along an axis.
fn spread(graph: &mut Graph, image: ValueId, (axis, stride): (usize, usize)) -> ValueId {
    let mut sizes = graph.ty(image).shape.sizes();
    sizes.insert(axis + 1, 1);
    let apart = graph.emit(Op::Reshape(Shape::of(&sizes)), &[image]);
    let zero = graph.scalar(graph.ty(image).dtype, 0.0);
    let none = vec![Dim::from(0); sizes.len()];
    let mut high = none.clone();
    high[axis + 1] = Dim::from(stride - 1);
    let padded = graph.emit(Op::Pad { low: none, high }, &[apart, zero]);
    sizes.remove(axis + 1);
    sizes[axis] *= stride;
    graph.emit(Op::Reshape(Shape::of(&sizes)), &[padded])
}

/// An image with zeros around its places.
fn padded(graph: &mut Graph, image: ValueId, (low, high): (&[Dim], &[Dim])) -> ValueId {
    let zero = graph.scalar(graph.ty(image).dtype, 0.0);
    let all = |of: &[Dim]| [&[Dim::from(0), Dim::from(0)], of].concat();
    graph.emit(Op::Pad { low: all(low), high: all(high) }, &[image, zero])
}

/// What lies under each tap, the taps in the order of the kernel: `[N, C, taps, places]`.
fn taken(graph: &mut Graph, image: ValueId, walks: &[Walk]) -> ValueId {
    let sizes = graph.ty(image).shape.sizes();
    let places = walks.iter().map(|walk| walk.places).product();
    let whole = |size: usize| SliceRange { start: Dim::from(0), size: Dim::from(size), step: 1 };
    let mut taken = Vec::new();
    for tap in 0..walks.iter().map(|walk| walk.taps).product() {
        let mut ranges = vec![whole(sizes[0]), whole(sizes[1])];
        let mut inner = tap;
        for walk in walks.iter().rev() {
            let start = walk.start as isize + walk.apart * (inner % walk.taps) as isize;
            inner /= walk.taps;
            let (start, size) = (Dim::from(start as usize), Dim::from(walk.places));
            ranges.insert(2, SliceRange { start, size, step: walk.step as i64 });
        }
        let slice = graph.emit(Op::Slice(ranges), &[image]);
        taken.push(graph.emit(Op::Reshape(Shape::of(&[sizes[0], sizes[1], 1, places])), &[slice]));
    }
    graph.emit(Op::Concat { axis: 2 }, &taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiled::Engine;
    use crate::quantise::examples::OneCall;
    use nnc_graph::{ConvAttributes, DType, OutputKind, Tensor, TensorType, UnaryOp};
    use nnc_opt::pipeline;
    use nnc_opt::quantise::sites;
    use nnc_runtime::Pool;
    use std::collections::BTreeMap;
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    fn number(at: usize) -> f64 {
        ((at + 3) * 7919 % 2003) as f64 / 1001.5 - 1.0
    }

    fn tensor(dims: &[usize]) -> Tensor {
        let elements = dims.iter().product();
        Tensor::from_f64(DType::F32, dims, &(0..elements).map(number).collect::<Vec<_>>())
    }

    fn dims(sizes: &[usize]) -> Vec<Dim> {
        sizes.iter().map(|&size| Dim::from(size)).collect()
    }

    fn compiler() -> Compiler {
        let pool = Arc::new(Pool::new(NonZeroUsize::MIN).unwrap());
        Compiler { engine: Engine::host(), pool, passes: pipeline::Options::default(), tuning: None }
    }

    /// The squares of all results of each channel, added up, are the weights by the moments by the weights.
    fn check(image: &[usize], weights: &[usize], op: Op) {
        let mut graph = Graph::new("product");
        let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
        let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(image) }, &[]);
        let w = graph.emit(Op::Param { path: "w".to_owned(), ty: ty(weights) }, &[]);
        let y = graph.emit(op, &[x, w]);
        graph.add_output("y", y, OutputKind::Result);
        let compiler = compiler();
        let mut store = Store::default();
        let w = tensor(weights);
        store.insert("w", &w);
        let bytes = tensor(image).to_f64().iter().flat_map(|x| (*x as f32).to_le_bytes()).collect();
        let inputs = BTreeMap::from([("x".to_owned(), bytes)]);
        let sites = sites(&graph);
        let site = &sites[0];
        let mut examples = OneCall::new(&inputs);
        let mut found = None;
        let mut keep = |_: &[usize], moments: Moments| found = Some(moments);
        find(&graph, &[&sites], (&compiler, &mut store), &mut examples, &mut keep).unwrap();
        let found = found.unwrap();

        let mut program = compiler.compile(&graph).unwrap();
        examples.rewind().unwrap();
        examples.fill(&mut program).unwrap();
        program.run(&mut store).unwrap();
        let y = program.output_tensor("y").unwrap();
        let axis = nnc_opt::quantise::result_channels(&graph, graph.node(site.node));
        let inner: usize = y.dims()[axis + 1..].iter().product();
        let mut wanted = vec![0.0; site.channels];
        y.to_f64().iter().enumerate().for_each(|(at, y)| wanted[at / inner % site.channels] += y * y);
        let mut of_channels = vec![Vec::new(); site.channels];
        w.to_f64().iter().enumerate().for_each(|(at, w)| of_channels[site.channel_of(weights, at)].push(*w));
        assert_eq!(found.rows * site.channels, y.elements());
        for (channel, (wanted, w)) in wanted.iter().zip(&of_channels).enumerate() {
            let terms = found.terms;
            assert_eq!(w.len(), terms);
            let group = channel / (site.channels / found.groups);
            let by = |at: usize| w[at / terms] * w[at % terms] * f64::from(found.sums[group * terms * terms + at]);
            let squares: f64 = (0..terms * terms).map(by).sum();
            assert!((squares - wanted).abs() < 1e-3 * wanted.max(1.0), "channel {channel}: {squares} and {wanted}");
        }
    }

    #[test]
    fn of_large_images_the_first_are_enough() {
        let mut graph = Graph::new("product");
        let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
        let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[6, 4, 8, 8]) }, &[]);
        let w = graph.emit(Op::Param { path: "w".to_owned(), ty: ty(&[8, 4, 3, 3]) }, &[]);
        let [none, one] = [0, 1].map(|size| dims(&[size, size]));
        let at =
            ConvAttributes { stride: one.clone(), low: none.clone(), high: none, dilation: one, groups: Dim::from(1) };
        let y = graph.emit(Op::Conv(at), &[x, w]);
        graph.add_output("y", y, OutputKind::Result);
        let sites = sites(&graph);
        let image = 36 * 36 * size_of::<f32>();
        for (room, count) in [(0, 1), (image, 1), (3 * image, 3), (1 << 28, 6)] {
            assert_eq!(rows(&graph, &sites[0], room), count * 36, "{room} bytes");
            let found = with_moments(&graph, &shared(&graph, &[&sites]), room);
            let is_taken = |size: usize| {
                found.nodes().any(|(_, node)| {
                    matches!(node.op, Op::Concat { .. }) && found.ty(node.results[0]).shape.sizes()[0] == size
                })
            };
            assert!(is_taken(count), "{room} bytes");
        }
    }

    /// A graph with products of `[4, 16]` numbers: three of the same, one of others, and two of both.
    fn of_the_same() -> (Graph, Vec<Vec<Site>>) {
        let mut graph = Graph::new("products");
        let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
        let x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[4, 16]) }, &[]);
        let other = graph.emit(Op::Unary(UnaryOp::Abs), &[x]);
        let uses: [(&[ValueId], usize); 6] =
            [(&[x], 0), (&[x], 1), (&[other], 0), (&[x], 0), (&[x, other], 0), (&[x, other], 1)];
        for (at, (inputs, terms_axis)) in uses.into_iter().enumerate() {
            let (path, dims) = (format!("w{at}"), if terms_axis == 0 { [16, 9 + at] } else { [9 + at, 16] });
            let w = graph.emit(Op::Param { path, ty: ty(&dims) }, &[]);
            for (of, &input) in inputs.iter().enumerate() {
                let op = Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![terms_axis] };
                let y = graph.emit(op, &[input, w]);
                graph.add_output(&format!("y{at}{of}"), y, OutputKind::Result);
            }
        }
        let all = sites(&graph);
        let of = |at: usize| all.iter().filter(|site| site.name[..2] == format!("w{at}")).cloned().collect();
        (graph, (0..6).map(of).collect())
    }

    #[test]
    fn those_of_the_same_activations_are_found_once_and_are_those_of_each_alone() {
        let (graph, uses) = of_the_same();
        let products: Vec<&[Site]> = uses.iter().map(Vec::as_slice).collect();
        let made = with_moments(&graph, &shared(&graph, &products), ROOM);
        assert_eq!(made.outputs().len(), 3);
        let compiler = compiler();
        let bytes = tensor(&[4, 16]).to_f64().iter().flat_map(|x| (*x as f32).to_le_bytes()).collect();
        let inputs = BTreeMap::from([("x".to_owned(), bytes)]);
        let mut store = Store::default();
        for site in uses.iter().flatten() {
            store.insert(&site.name[..2], &tensor(&graph.ty(site.weights).shape.sizes()));
        }
        let mut found = |products: &[&[Site]]| {
            let mut found = Vec::new();
            let mut keep = |places: &[usize], moments: Moments| found.push((places.to_vec(), moments));
            let mut examples = OneCall::new(&inputs);
            find(&graph, products, (&compiler, &mut store), &mut examples, &mut keep).unwrap();
            found
        };
        let together = found(&products);
        let places: Vec<&[usize]> = together.iter().map(|(places, _)| &places[..]).collect();
        assert_eq!(places, [&[0, 1, 3][..], &[2], &[4, 5]]);
        for (places, moments) in &together {
            for &at in places {
                assert_eq!(found(&[products[at]]), [(vec![0], moments.clone())], "product {at}");
            }
        }
    }

    #[test]
    fn a_layer_that_is_used_many_times_takes_the_memory_of_a_few_matrices() {
        let (terms, uses) = (512, 64);
        let mut graph = Graph::new("layer");
        let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
        let mut x = graph.emit(Op::Input { name: "x".to_owned(), ty: ty(&[4, terms]) }, &[]);
        let w = graph.emit(Op::Param { path: "w".to_owned(), ty: ty(&[terms, terms]) }, &[]);
        for at in 0..uses {
            x = graph.emit(Op::Unary(UnaryOp::Tanh), &[x]);
            let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[x, w]);
            graph.add_output(&format!("y{at}"), y, OutputKind::Result);
        }
        let sites = sites(&graph);
        assert_eq!(sites.len(), uses);
        let made = with_moments(&graph, &shared(&graph, &[&sites]), ROOM);
        let arena = compiler().compile(&made).unwrap().arena_bytes();
        assert!(arena < 4 * bytes(&sites[0]), "{arena} bytes");
    }

    #[test]
    fn matrices() {
        let op = |a_axis, b_axis| Op::Dot { batch: 0, a_axes: vec![a_axis], b_axes: vec![b_axis] };
        check(&[5, 12], &[12, 9], op(1, 0));
        check(&[5, 12], &[9, 12], op(1, 1));
        check(&[3, 4, 12], &[12, 9], op(2, 0));
        check(&[12, 7], &[12, 9], op(0, 0));
        check(&[12], &[12, 9], op(0, 0));
    }

    #[test]
    fn convolutions() {
        let conv =
            |stride: &[usize], low: &[usize], high: &[usize], dilation: &[usize], groups: usize| ConvAttributes {
                stride: dims(stride),
                low: dims(low),
                high: dims(high),
                dilation: dims(dilation),
                groups: Dim::from(groups),
            };
        check(&[2, 3, 8, 9], &[10, 3, 3, 2], Op::Conv(conv(&[1, 1], &[1, 0], &[1, 1], &[1, 1], 1)));
        check(&[2, 3, 8, 9], &[10, 3, 3, 2], Op::Conv(conv(&[2, 3], &[1, 0], &[0, 2], &[2, 1], 1)));
        check(&[2, 6, 8, 8], &[9, 2, 3, 3], Op::Conv(conv(&[2, 1], &[1, 1], &[1, 1], &[1, 1], 3)));
        check(&[2, 8, 6, 6], &[8, 1, 3, 3], Op::Conv(conv(&[1, 1], &[1, 1], &[1, 1], &[1, 1], 8)));
        check(&[2, 4, 11], &[8, 4, 3], Op::Conv(conv(&[2], &[2], &[1], &[1], 1)));
        let transpose =
            |attributes: ConvAttributes, input: &[usize]| Op::ConvInputGrad { attributes, input: dims(input) };
        check(&[2, 5, 4, 4], &[5, 9, 3, 3], transpose(conv(&[1, 1], &[1, 1], &[1, 1], &[1, 1], 1), &[4, 4]));
        check(&[2, 5, 4, 3], &[5, 9, 4, 3], transpose(conv(&[2, 3], &[1, 0], &[1, 1], &[1, 1], 1), &[8, 8]));
        check(&[2, 5, 4], &[5, 9, 2], transpose(conv(&[3], &[0], &[0], &[2], 1), &[12]));
    }
}
