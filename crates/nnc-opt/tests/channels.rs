//! Channels that go: which belong together, that the small network computes what the large one does without them, and
//! that it is trained as any other.

use nnc_graph::testing::{Rng, random_graph, random_inputs};
use nnc_graph::{DType, Graph, OutputKind, Tensor, interpret, text, verify};
use nnc_lang::elaborate::{Loader, Options as LangOptions, Unit, check};
use nnc_opt::grad;
use nnc_opt::prune::Scope;
use nnc_opt::prune::channels::{
    Free, Group, Label, Network, Record, Stays, Wanted, choose, half, shrink, stays, without,
};
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
    unit.model(&name, &BTreeMap::from([("N".to_owned(), 2)])).unwrap()
}

/// The groups of a network, one a line: `path axis`, with `*n` for several positions; the channels; why they stay.
fn told(graphs: &[Graph]) -> String {
    let network = Network::new(graphs, &Record::default()).unwrap();
    let line = |group: &Group| {
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
    for (_, tensor) in given.iter_mut().filter(|(path, _)| path.ends_with("variance")) {
        let positive: Vec<f64> = tensor.to_f64().iter().map(|value| value.abs() + 0.1).collect();
        *tensor = Tensor::from_f64(tensor.dtype(), tensor.dims(), &positive);
    }
    given
}

/// Whether the narrow graph gives what the whole one does with zeros in the place of what is gone. Gives how many
/// elements of weights went.
fn check_exact(graph: &Graph, seed: u64) -> usize {
    let record = pruned(graph, &mut Rng::new(seed));
    let small = shrink(graph, &record).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
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
    assert!(gone > 0, "something must have gone");
}

#[test]
fn a_residual_sum_joins_what_it_adds() {
    check_model(
        "model Net(x: f32[N, 3, 6, 6]) -> f32[N, 5] {
    x = x |> conv_norm_relu(8, kernel=3, padding=1)
    x = x |> residual_block(8) |> residual_block(12, stride=2)
    return x |> global_avg_pool2d |> dense(5)
}",
        "
8 of conv_norm_relu_1.batch_norm_1.mean:0 conv_norm_relu_1.batch_norm_1.scale:0 conv_norm_relu_1.batch_norm_1.shift:0 conv_norm_relu_1.batch_norm_1.variance:0 conv_norm_relu_1.conv2d_1.w:0 residual_block_1.batch_norm_2.mean:0 residual_block_1.batch_norm_2.scale:0 residual_block_1.batch_norm_2.shift:0 residual_block_1.batch_norm_2.variance:0 residual_block_1.conv2d_1.w:1 residual_block_1.conv2d_2.w:0 residual_block_2.conv2d_1.w:1 residual_block_2.shortcut_1.conv2d_1.w:1
3 of conv_norm_relu_1.conv2d_1.w:1, an input
8 of residual_block_1.batch_norm_1.mean:0 residual_block_1.batch_norm_1.scale:0 residual_block_1.batch_norm_1.shift:0 residual_block_1.batch_norm_1.variance:0 residual_block_1.conv2d_1.w:0 residual_block_1.conv2d_2.w:1
12 of residual_block_2.batch_norm_1.mean:0 residual_block_2.batch_norm_1.scale:0 residual_block_2.batch_norm_1.shift:0 residual_block_2.batch_norm_1.variance:0 residual_block_2.conv2d_1.w:0 residual_block_2.conv2d_2.w:1
12 of dense_1.w:0 residual_block_2.batch_norm_2.mean:0 residual_block_2.batch_norm_2.scale:0 residual_block_2.batch_norm_2.shift:0 residual_block_2.batch_norm_2.variance:0 residual_block_2.conv2d_2.w:0 residual_block_2.shortcut_1.batch_norm_1.mean:0 residual_block_2.shortcut_1.batch_norm_1.scale:0 residual_block_2.shortcut_1.batch_norm_1.shift:0 residual_block_2.shortcut_1.batch_norm_1.variance:0 residual_block_2.shortcut_1.conv2d_1.w:0
5 of dense_1.b:0 dense_1.w:1, an output
",
    );
}

#[test]
fn a_concatenation_keeps_its_parts_apart() {
    check_model(
        "model Net(x: f32[N, 3, 4, 4]) -> f32[N, 2] {
    a = x |> conv2d(4, kernel=1) |> relu
    b = x |> conv2d(6, kernel=3, padding=1) |> sigmoid
    both = concat([a, b], axis=1)
    return both |> conv2d(2, kernel=1) |> global_avg_pool2d
}",
        "
4 of conv2d_1.b:0 conv2d_1.w:0 conv2d_3.w:1
3 of conv2d_1.w:1, an input
6 of conv2d_2.b:0 conv2d_2.w:0 conv2d_3.w:1
3 of conv2d_2.w:1, an input
2 of conv2d_3.b:0 conv2d_3.w:0, an output
",
    );
}

#[test]
fn groups_of_a_convolution_stay_alike() {
    check_model(
        "model Net(x: f32[N, 3, 4, 4]) -> f32[N, 2] {
    x = x |> conv2d(8, kernel=1) |> relu |> conv2d(12, kernel=3, padding=1, groups=4) |> relu
    return x |> conv2d(2, kernel=1) |> global_avg_pool2d
}",
        "
2 of conv2d_1.b:0*4 conv2d_1.w:0*4 conv2d_2.w:1
3 of conv2d_1.w:1, an input
3 of conv2d_2.b:0*4 conv2d_2.w:0*4 conv2d_3.w:1*4
2 of conv2d_3.b:0 conv2d_3.w:0, an output
",
    );
}

#[test]
fn a_depthwise_convolution_loses_groups() {
    check_model(
        "model Net(x: f32[N, 3, 4, 4]) -> f32[N, 2] {
    x = x |> conv2d(6, kernel=1) |> relu |> depthwise_conv2d(kernel=3, padding=1) |> batch_norm |> relu
    return x |> conv2d(2, kernel=1) |> global_avg_pool2d
}",
        "
6 of batch_norm_1.mean:0 batch_norm_1.scale:0 batch_norm_1.shift:0 batch_norm_1.variance:0 conv2d_1.b:0 conv2d_1.w:0 conv2d_2.w:1 depthwise_conv2d_1.b:0 depthwise_conv2d_1.w:0
3 of conv2d_1.w:1, an input
2 of conv2d_2.b:0 conv2d_2.w:0, an output
",
    );
}

#[test]
fn places_follow_their_channel_into_a_dense_layer() {
    check_model(
        "model Net(x: f32[N, 1, 4, 4]) -> f32[N, 2] {
    x = x |> conv2d(6, kernel=3) |> tanh |> flatten |> dense(8) |> gelu |> dense(18)
    return x |> reshape([N, 2, 9]) |> conv1d(4, kernel=3) |> flatten |> dense(2)
}",
        "
6 of conv2d_1.b:0 conv2d_1.w:0 dense_1.w:0*4
1 of conv2d_1.w:1, an input
8 of dense_1.b:0 dense_1.w:1 dense_2.w:0
2 of conv1d_1.w:1 dense_2.b:0*9 dense_2.w:1*9
4 of conv1d_1.b:0 conv1d_1.w:0 dense_3.w:0*7
2 of dense_3.b:0 dense_3.w:1, an output
",
    );
}

#[test]
fn transposed_convolutions_and_pooling_pass_channels_on() {
    check_model(
        "model Net(x: f32[N, 3, 4, 4]) -> f32[N, 1, 8, 8] {
    x = x |> conv2d(6, kernel=1) |> relu |> conv_transpose2d(4, kernel=2, stride=2) |> max_pool2d(3, stride=1, padding=1)
    return x |> conv2d(1, kernel=1)
}",
        "
6 of conv2d_1.b:0 conv2d_1.w:0 conv_transpose2d_1.w:0
3 of conv2d_1.w:1, an input
4 of conv2d_2.w:1 conv_transpose2d_1.b:0 conv_transpose2d_1.w:1
1 of conv2d_2.b:0
",
    );
}

#[test]
fn what_is_measured_together_stays() {
    check_model(
        "model Net(x: f32[N, 4]) -> f32[N, 2] {
    return x |> dense(6) |> layer_norm |> dense(8) |> softmax |> dense(6) |> rms_norm |> dense(2)
}",
        "
4 of dense_1.w:0, an input
6 of dense_1.b:0 dense_1.w:1 dense_2.w:0 layer_norm_1.scale:0 layer_norm_1.shift:0, measured together
8 of dense_2.b:0 dense_2.w:1 dense_3.w:0, measured together
6 of dense_3.b:0 dense_3.w:1 dense_4.w:0 rms_norm_1.scale:0
2 of dense_4.b:0 dense_4.w:1, an output
",
    );
}

#[test]
fn heads_go_whole_and_hidden_units_one_by_one() {
    check_model(
        "model Net(x: f32[N, 5, 12]) -> f32[N, 12] {
    x = x |> multi_head_attention(heads=3, rotary=true, causal=true)
    return x |> perceptron(hidden=10) |> max(axis=1)
}",
        "
12 of multi_head_attention_1.query.w:0, an input
3 of multi_head_attention_1.key.b:0*4 multi_head_attention_1.key.w:1*4 multi_head_attention_1.output.w:0*4 multi_head_attention_1.query.b:0*4 multi_head_attention_1.query.w:1*4 multi_head_attention_1.value.b:0*4 multi_head_attention_1.value.w:1*4
12 of multi_head_attention_1.key.w:0, an input
12 of multi_head_attention_1.value.w:0, an input
12 of multi_head_attention_1.output.b:0 multi_head_attention_1.output.w:1 perceptron_1.dense_1.w:0
10 of perceptron_1.dense_1.b:0 perceptron_1.dense_1.w:1 perceptron_1.dense_2.w:0
12 of perceptron_1.dense_2.b:0 perceptron_1.dense_2.w:1, an output
",
    );
}

#[test]
fn gates_go_together_in_every_step() {
    check_model(
        "model Net(x: f32[N, 5, 4]) -> f32[N, 2] {
    x = x |> lstm(6, bidirectional=true) |> gru(4)
    return mean(x, axis=1) |> dense(2)
}",
        "
4 of lstm_1.block[0].lstm_layer_1.w:0, an input
6 of gru_1.block[0].gru_layer_1.w:0 lstm_1.block[0].lstm_layer_1.b:0*4 lstm_1.block[0].lstm_layer_1.u:0 lstm_1.block[0].lstm_layer_1.u:1*4 lstm_1.block[0].lstm_layer_1.w:1*4
4 of lstm_1.block[0].lstm_layer_2.w:0, an input
6 of gru_1.block[0].gru_layer_1.w:0 lstm_1.block[0].lstm_layer_2.b:0*4 lstm_1.block[0].lstm_layer_2.u:0 lstm_1.block[0].lstm_layer_2.u:1*4 lstm_1.block[0].lstm_layer_2.w:1*4
4 of dense_1.w:0 gru_1.block[0].gru_layer_1.b:0*3 gru_1.block[0].gru_layer_1.d:0*3 gru_1.block[0].gru_layer_1.u:0 gru_1.block[0].gru_layer_1.u:1*3 gru_1.block[0].gru_layer_1.w:1*3
2 of dense_1.b:0 dense_1.w:1, an output
",
    );
}

#[test]
fn slices_padding_and_groups_of_a_normalisation_are_followed() {
    check_model(
        "model Net(x: f32[N, 3, 4, 4]) -> f32[N, 2] {
    x = x |> conv2d(8, kernel=1) |> group_norm(4)
    x = concat([x[:, 4..8], pad(x[:, 0..4], [0, 2], axis=1)], axis=1)
    return x |> conv2d(10, kernel=1) |> conv2d(2, kernel=1) |> global_avg_pool2d
}",
        "
2 of conv2d_1.b:0*2 conv2d_1.w:0*2 conv2d_2.w:1*2 group_norm_1.scale:0*2 group_norm_1.shift:0*2
2 of conv2d_1.b:0*2 conv2d_1.w:0*2 conv2d_2.w:1*2 group_norm_1.scale:0*2 group_norm_1.shift:0*2
3 of conv2d_1.w:1, an input
2 of conv2d_2.w:1
10 of conv2d_2.b:0 conv2d_2.w:0 conv2d_3.w:1
2 of conv2d_3.b:0 conv2d_3.w:0, an output
",
    );
}

#[test]
fn random_graphs_compute_what_they_did_with_zeros() {
    let gone: usize = (0..300).map(|seed| check_exact(&random_graph(seed), seed)).sum();
    assert!(gone > 100, "{gone} elements went");
}

/// The programs of an example that a table of four examples is made of.
fn programs(name: &str) -> [Graph; 2] {
    let unit = unit(&std::fs::read_to_string(Examples::file(&format!("{name}.nn"))).unwrap());
    let recipe = unit.recipes[0].name.clone();
    [unit.evaluate(&recipe, 4).unwrap(), unit.train_step(&recipe, 4).unwrap()]
}

#[test]
fn a_step_of_the_small_network_is_that_of_the_large_one_with_zeros() {
    let [_, step] = programs("digits");
    for seed in 0..4 {
        let record = pruned(&step, &mut Rng::new(seed));
        assert!(
            record.iter().any(|(path, ..)| path.starts_with("$optimizer.dense_1.w")),
            "states of the optimiser follow"
        );
        let small = grad::expand(&shrink(&step, &record).unwrap());
        let whole = grad::expand(&step);
        verify::verify_lowerable(&small).unwrap();
        let mut given = inputs(&step, seed);
        given.insert("$iteration".to_owned(), Tensor::scalar_i64(3));
        given.insert("$iterations".to_owned(), Tensor::scalar_i64(10));
        for (_, moment) in given.iter_mut().filter(|(path, _)| path.ends_with(".v")) {
            let positive: Vec<f64> = moment.to_f64().iter().map(|value| value.abs()).collect();
            *moment = Tensor::from_f64(moment.dtype(), moment.dims(), &positive);
        }
        let [small_given, zeroed] = cut(&given, &record);
        let (a, b) = (interpret::run(&whole, &zeroed).unwrap(), interpret::run(&small, &small_given).unwrap());
        for (output, other) in whole.outputs().iter().zip(small.outputs()) {
            let wanted = record
                .of(&output.name)
                .fold(a.value(output.value).clone(), |wanted, (axis, kept)| without(&wanted, axis, kept));
            let found = b.value(other.value);
            assert_eq!(wanted.dims(), found.dims(), "{}", output.name);
            let near = |(a, b): (f64, f64)| (a - b).abs() <= 1e-4 * (1.0 + a.abs());
            assert!(wanted.to_f64().into_iter().zip(found.to_f64()).all(near), "seed {seed}: {}", output.name);
        }
    }
}

#[test]
fn networks_of_all_kinds_have_groups_and_every_program_gets_smaller() {
    let networks = [
        ("resnet_cifar", 12, 2),
        ("alexnet_small", 7, 2),
        ("inception_small", 25, 2),
        ("mobilenet_v2", 25, 2),
        ("resnet18", 12, 2),
        ("unet_digits", 23, 1),
        ("sentiment_transformer", 2, 3),
        ("sentiment_lstm", 3, 2),
        ("transformer_translation", 9, 5),
        ("nanogpt", 5, 3),
        ("vae", 2, 3),
        ("wgan_gp", 9, 0),
    ];
    for (name, free, fixed) in networks {
        let graphs = programs(name);
        let network = Network::new(&graphs, &Record::default()).unwrap();
        let groups = network.groups();
        let count = |is_fixed: bool| groups.iter().filter(|group| group.fixed.is_some() == is_fixed).count();
        assert_eq!((count(false), count(true)), (free, fixed), "{name}");
        let mut gone = BTreeSet::new();
        for group in groups.iter().filter(|group| group.fixed.is_none()) {
            gone.extend(&group.channels[..group.channels.len() / 2]);
        }
        let record = network.record(&gone);
        assert!(network.cost.of(&gone) < network.cost.of(&network.gone), "{name}");
        let small: Vec<Graph> = graphs.iter().map(|graph| shrink(graph, &record).unwrap()).collect();
        for graph in &small {
            verify::verify(graph).unwrap();
            assert_eq!(text::print(&text::parse(&text::print(graph)).unwrap()), text::print(graph), "{name}");
        }
        // What the record of parameters says is enough for the states of optimisers.
        let mut own = Record::default();
        for (path, axis, kept) in record.iter().filter(|(path, ..)| !path.starts_with('$')) {
            own.insert(path, axis, kept.to_vec());
        }
        let again = Network::new(&graphs, &own).unwrap();
        assert_eq!(again.record(&again.gone), record, "{name}");
    }
}

/// A network of two hidden layers, for what is refused.
fn two_layers() -> Graph {
    model("model Net(x: f32[N, 4]) -> f32[N, 3] { return x |> dense(16) |> relu |> dense(8) |> relu |> dense(3) }")
}

fn record(axes: &[(&str, usize, &[usize], usize)]) -> Record {
    let mut record = Record::default();
    for (path, axis, gone, size) in axes {
        record.insert(path, *axis, (0..*size).map(|at| !gone.contains(&at)).collect());
    }
    record
}

#[test]
fn a_record_that_does_not_fit_is_refused() {
    let graph = two_layers();
    let whole = record(&[("dense_1.w", 1, &[2], 16), ("dense_1.b", 0, &[2], 16), ("dense_2.w", 0, &[2], 16)]);
    assert!(shrink(&graph, &whole).is_ok());
    for (wrong, message) in [
        (record(&[("dense_1.w", 1, &[2], 16)]), "channel 2 along axis 0 of `dense_1.b` is there, but"),
        (record(&[("dense_1.w", 1, &[2], 12)]), "it keeps some of 12 along axis 1 of `dense_1.w`, which is [4, 16]"),
        (record(&[("dense_1.w", 2, &[2], 16)]), "it keeps some of 16 along axis 2 of `dense_1.w`, which is [4, 16]"),
        (
            record(&[("dense_3.b", 0, &[1], 3)]),
            "along axis 0 of `dense_3.b` is gone, but this program cannot do without it: an output",
        ),
        (
            record(&[("dense_1.w", 0, &[0], 4)]),
            "along axis 0 of `dense_1.w` is gone, but this program cannot do without it: an input",
        ),
    ] {
        let said = shrink(&graph, &wrong).unwrap_err();
        assert!(said.contains(message), "{said}");
    }
    let unknown = record(&[("dense_9.w", 0, &[0], 4)]);
    let said = Network::new(&[graph], &unknown).unwrap_err();
    assert_eq!(said, "it keeps channels of `dense_9.w`, which the model lacks");
}

#[test]
fn the_least_channels_go_until_the_share_is_gone() {
    let graph = two_layers();
    let network = Network::new(std::slice::from_ref(&graph), &Record::default()).unwrap();
    // Unit k of the first layer has weights k + 1, and all else is equal.
    let tensor = |path: &str| {
        let dims: &[usize] = match path {
            "dense_1.w" => &[4, 16],
            "dense_1.b" => &[16],
            "dense_2.w" => &[16, 8],
            "dense_2.b" => &[8],
            "dense_3.w" => &[8, 3],
            _ => return None,
        };
        let size: usize = dims.iter().product();
        let value = |at: usize| if path == "dense_1.w" { (at % 16 + 1) as f64 } else { 1.0 };
        Some(Tensor::from_f64(DType::F32, dims, &(0..size).map(value).collect::<Vec<_>>()))
    };
    let worth = network.importance(tensor);
    let groups = network.groups();
    let free: Vec<&Group> = groups.iter().filter(|group| group.fixed.is_none()).collect();
    let at_pace = |paces: [f64; 2], share: f64, scope: Scope, multiple: usize| {
        let free: Vec<Free> = free.iter().zip(paces).map(|(group, pace)| Free { group, pace }).collect();
        choose(&free, &worth, (&network.cost, &network.gone), Wanted { share, scope, multiple })
    };
    let choice = |share: f64, scope: Scope, multiple: usize| at_pace([1.0, 1.0], share, scope, multiple);
    let left = |gone: &BTreeSet<Label>| -> Vec<Vec<usize>> {
        let kept = |group: &&Group| {
            let stays = group.channels.iter().enumerate().filter(|(_, class)| !gone.contains(class));
            stays.map(|(at, _)| at).collect()
        };
        free.iter().map(kept).collect()
    };
    // Multiply-adds of an example: 4 * 16 + 16 * 8 + 8 * 3 = 216.
    assert_eq!(network.cost.of(&network.gone), 2 * 216);
    assert_eq!(left(&choice(0.2, Scope::Global, 1).unwrap()), [(4..16).collect::<Vec<_>>(), (0..8).collect()]);
    assert_eq!(left(&choice(0.2, Scope::Global, 8).unwrap()), [(8..16).collect::<Vec<_>>(), (0..8).collect()]);
    // What takes ten times as long goes first: the least unit of the first layer is worth an eighth of the mean.
    let slow_second = left(&at_pace([1.0, 10.0], 0.2, Scope::Global, 1).unwrap());
    assert_eq!(slow_second, [(1..16).collect::<Vec<_>>(), (2..8).collect()]);
    assert_eq!(choice(0.5, Scope::Layer, 1), at_pace([1.0, 10.0], 0.5, Scope::Layer, 1));
    let halves = [1, 8, 16].map(|multiple| [0, 1].map(|at| half(free[at], multiple).len()));
    assert_eq!(halves, [[8, 4]; 3]);
    let each = left(&choice(0.5, Scope::Layer, 1).unwrap());
    assert_eq!((each[0].len(), each[1].len()), (10, 5), "{each:?}");
    // At most one step of each is left: 8 and 4 units, 4 * 8 + 8 * 4 + 4 * 3 = 76.
    let most = choice(0.9, Scope::Global, 8).unwrap_err();
    assert!((most - 140.0 / 216.0).abs() < 1e-9, "{most}");
    let judged = |at: usize, asked: bool| stays(free[at], asked, &network.cost, &network.gone);
    assert_eq!((judged(0, true), judged(1, false)), (None, Some(Stays::NotAsked)));
}
