//! Channels that go: which belong together, that the small network computes what the large one does without them, and that
//! it is trained as any other.

use nnc_graph::testing::{Rng, random_graph, random_inputs};
use nnc_graph::{Graph, Op, OutputKind, Tensor, interpret, verify};
use nnc_lang::elaborate::{Loader, Options as LangOptions, Unit, check};
use nnc_opt::prune::channels::{Network, Record, narrow, without};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The folder of the examples.
struct Examples;

impl Examples {
    fn file(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../dsl-examples").join(name)
    }
}

impl Loader for Examples {
    fn load(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(Self::file(path)).map_err(|error| error.to_string())
    }
}

fn unit(source: &str) -> Unit {
    let checked = check("test.nn", source, &Examples, &LangOptions::default());
    checked.unit.unwrap_or_else(|| panic!("{:?}", checked.diagnostics))
}

/// The last model of a source, for two examples.
fn model(source: &str) -> Graph {
    let unit = unit(source);
    let name = unit.models.last().unwrap().name.clone();
    unit.model_with_weights(&name, &BTreeMap::from([("N".to_owned(), 2)])).unwrap().0
}

/// The groups of a network, one a line: `path axis`, with `*n` for several positions; the channels; why they stay.
fn told(graphs: &[Graph]) -> String {
    let network = Network::new(graphs, &Record::default()).unwrap();
    let line = |group: &nnc_opt::prune::channels::Group| {
        let members: Vec<String> = group
            .members
            .iter()
            .map(|member| {
                let times = if member.positions > 1 { format!("*{}", member.positions) } else { String::new() };
                format!("{}:{}{times}", member.path, member.axis)
            })
            .collect();
        let why = group.fixed.map_or(String::new(), |reason| format!(", {reason}"));
        format!("{} of {}{why}\n", group.channels.len(), members.join(" "))
    };
    network.groups().iter().map(line).collect()
}

/// Removes some channels of each group at random; gives the record.
fn pruned(graph: &Graph, rng: &mut Rng) -> Record {
    let network = Network::new(std::slice::from_ref(graph), &Record::default()).unwrap();
    let mut gone = BTreeSet::new();
    for group in network.groups().iter().filter(|group| group.fixed.is_none()) {
        let stays = rng.index(group.channels.len());
        let going = group.channels.iter().enumerate().filter(|(at, _)| *at != stays && rng.one_in(2));
        gone.extend(going.map(|(_, &class)| class));
    }
    network.record(&gone)
}

/// Tensors without what a record says is gone, and whole ones that are 0 there.
fn cut(given: &BTreeMap<String, Tensor>, record: &Record) -> [BTreeMap<String, Tensor>; 2] {
    let (mut small, mut zeroed) = (given.clone(), given.clone());
    for (path, axis, kept) in record.iter() {
        small.insert(path.to_owned(), without(&small[path], axis, kept));
        let whole = &zeroed[path];
        let inner: usize = whole.dims()[axis + 1..].iter().product();
        let mut values = whole.to_f64();
        for (run, _) in values.chunks_exact_mut(inner).zip(kept.iter().cycle()).filter(|(_, kept)| !**kept) {
            run.fill(0.0);
        }
        zeroed.insert(path.to_owned(), Tensor::from_f64(whole.dtype(), whole.dims(), &values));
    }
    [small, zeroed]
}

/// Random values, of which variances are positive.
fn inputs(graph: &Graph, seed: u64) -> BTreeMap<String, Tensor> {
    let mut given = random_inputs(graph, seed);
    for (path, tensor) in given.iter_mut().filter(|(path, _)| path.ends_with("variance")) {
        let positive: Vec<f64> = tensor.to_f64().iter().map(|value| value.abs() + 0.1).collect();
        assert!(!path.is_empty());
        *tensor = Tensor::from_f64(tensor.dtype(), tensor.dims(), &positive);
    }
    given
}

/// Whether the narrow graph gives what the whole one does with zeros in the place of what is gone. Gives how many elements
/// of weights went.
fn check_exact(graph: &Graph, seed: u64) -> usize {
    let record = pruned(graph, &mut Rng::new(seed));
    let small = narrow(graph, &record).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    verify::verify(&small).unwrap();
    let given = inputs(graph, seed);
    let [cut, zeroed] = cut(&given, &record);
    let (whole, small_run) = (interpret::run(graph, &zeroed).unwrap(), interpret::run(&small, &cut).unwrap());
    for (output, other) in graph.outputs().iter().zip(small.outputs()) {
        if output.kind != OutputKind::Result {
            continue;
        }
        let (a, b) = (whole.value(output.value).to_f64(), small_run.value(other.value).to_f64());
        assert_eq!(a.len(), b.len(), "seed {seed}");
        let is_finite = a.iter().all(|value| value.is_finite());
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-5 * (1.0 + a.abs());
        assert!(!is_finite || a.iter().zip(&b).all(near), "seed {seed}, `{}`: {a:?} is not {b:?}", output.name);
    }
    let elements = |given: &BTreeMap<String, Tensor>| given.values().map(Tensor::elements).sum::<usize>();
    elements(&given) - elements(&cut)
}

fn check_model(source: &str, groups: &str) {
    let graph = model(source);
    assert_eq!(told(std::slice::from_ref(&graph)), groups.trim_start());
    let gone: usize = (0..8).map(|seed| check_exact(&graph, seed)).sum();
    let is_fixed = groups.lines().all(|line| line.is_empty() || line.contains(','));
    assert_eq!(gone > 0, !is_fixed, "something must have gone");
}

#[test]
fn explore() {
    for name in [
        "resnet_cifar",
        "alexnet_small",
        "inception_small",
        "mobilenet_v2",
        "resnet18",
        "unet",
        "unet_digits",
        "sentiment_transformer",
        "sentiment_lstm",
        "nanogpt",
        "char_lstm",
        "transformer_translation",
        "dcgan",
        "vae",
        "seq2seq_attention",
        "spoken_digits",
    ] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../dsl-examples").join(format!("{name}.nn"));
        let unit = unit(&std::fs::read_to_string(path).unwrap());
        println!("== {name}");
        let Some(recipe) = unit.recipes.first().map(|recipe| recipe.name.clone()) else {
            let model = unit.models.last().unwrap().name.clone();
            match unit.model_with_weights(&model, &BTreeMap::from([("N".to_owned(), 1)])) {
                Ok((graph, _)) => println!("{}", told(&[graph])),
                Err(e) => println!("{e:?}"),
            }
            continue;
        };
        let graphs = [unit.evaluate(&recipe, 4).unwrap(), unit.train_step(&recipe, 4).unwrap()];
        println!("{}", told(&graphs));
    }
}
