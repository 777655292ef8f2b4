//! The networks of the literature in `dsl-examples`: as many parameters as in torchvision (0.24.1) or in the paper, and
//! small ones of the same make run.

use nnc_graph::interpret::run;
use nnc_graph::{DType, Tensor};
use nnc_lang::diagnostic::render;
use nnc_lang::elaborate::{Loader, Options, Unit, check};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

struct Examples;

impl Loader for Examples {
    fn load(&self, path: &str) -> Result<String, String> {
        fs::read_to_string(folder().join(path)).map_err(|error| error.to_string())
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dsl-examples")
}

fn unit(name: &str, text: &str) -> Unit {
    let checked = check(name, text, &Examples, &Options::default());
    let shown = render(&checked.diagnostics, &checked.sources, false);
    assert!(checked.diagnostics.is_empty(), "{name}\n{shown}");
    checked.unit.expect("a sound file has a unit")
}

/// What `nnc show` has in its last row.
fn parameters(unit: &Unit, model: &str) -> u64 {
    let facts = unit.layers(model, &BTreeMap::new()).unwrap_or_else(|errors| panic!("{model}: {errors:#?}"));
    facts.last().expect("a model has a row").parameters
}

#[test]
fn parameters_are_those_of_the_originals() {
    for (file, model, count) in [
        ("resnet18.nn", "ResNet18", 11_689_512),
        ("resnet50.nn", "ResNet50", 25_557_032),
        ("mobilenet_v2.nn", "MobileNetV2", 3_504_872),
        ("vgg16.nn", "Vgg16", 138_357_544),
        ("alexnet.nn", "AlexNet", 61_100_840),
        ("googlenet.nn", "GoogLeNet", 6_624_904),
        ("unet.nn", "UNet", 31_030_593),
        ("mnist_best.nn", "MnistBest", 325_994),
    ] {
        let text = Examples.load(file).expect("the example is there");
        assert_eq!(parameters(&unit(file, &text), model), count, "{file}");
    }
    let small = "use \"nanogpt.nn\"
        model M(tokens: i32[N, T]) -> f32[N, T, 50257] {
            scores, _ = Gpt(tokens, vocabulary=50257, longest=1024, layers=12, heads=12, width=768)
            return scores
        }";
    assert_eq!(parameters(&unit("gpt2.nn", small), "M"), 124_439_808);
}

/// The result of a use of a model of a file, with its first weights.
fn small(file: &str, input: &str, ramp: Tensor, call: &str) -> Tensor {
    let text = format!("use \"{file}\"\nmodel M(x: {input}) {{ return {call} }}");
    let unit = unit("small.nn", &text);
    let first = unit.model_init("M").unwrap_or_else(|errors| panic!("{call}: {errors:#?}"));
    let seed = BTreeMap::from([("$seed".to_owned(), Tensor::scalar_i64(1))]);
    let first = run(&first, &seed).expect("it runs");
    let mut given: BTreeMap<String, Tensor> =
        first.outputs().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    given.insert("x".to_owned(), ramp);
    let graph = unit.model("M", &BTreeMap::new()).unwrap_or_else(|errors| panic!("{call}: {errors:#?}"));
    let result = run(&graph, &given).unwrap_or_else(|error| panic!("{call}: {error}"));
    result.output("result").expect("the result").clone()
}

fn ramp(dims: &[usize]) -> Tensor {
    let count: usize = dims.iter().product();
    Tensor::from_f64(DType::F32, dims, &(0..count).map(|i| (i % 23) as f64 / 11.0 - 1.0).collect::<Vec<_>>())
}

#[test]
fn small_networks_of_the_same_make_run() {
    for (file, side, channels, call, count) in [
        ("resnet18.nn", 33, 3, "ResNet18(x, classes=5, width=2)", 10),
        ("resnet50.nn", 32, 3, "ResNet50(x, classes=5, width=2)", 10),
        ("mobilenet_v2.nn", 32, 3, "MobileNetV2(x, classes=5, divisor=8)", 10),
        ("vgg16.nn", 32, 3, "Vgg16(x, classes=5, width=2, hidden=8)", 10),
        ("alexnet.nn", 64, 3, "AlexNet(x, classes=5, width=2, hidden=8)", 10),
        ("googlenet.nn", 32, 3, "GoogLeNet(x, classes=5, divisor=8)", 10),
        ("unet.nn", 16, 1, "UNet(x, width=2)", 512),
        ("resnet_cifar.nn", 8, 3, "ResNetCifar(x, width=2, blocks=1)", 20),
        ("alexnet_small.nn", 16, 3, "AlexNetSmall(x, width=2, hidden=8)", 20),
        ("inception_small.nn", 8, 3, "InceptionSmall(x, width=2)", 20),
        ("simclr.nn", 8, 3, "Projection(Encoder(x, width=2), 5)", 10),
        ("mnist_best.nn", 28, 1, "MnistBest(x, width=2)", 20),
    ] {
        let dims = [2, channels, side, side];
        let result = small(file, &format!("f32{dims:?}"), ramp(&dims), call).to_f64();
        assert_eq!(result.len(), count, "{call}");
        assert!(result.iter().all(|x| x.is_finite()) && result.iter().any(|&x| x != result[0]), "{call}: {result:?}");
    }
}

#[test]
fn small_networks_of_words_run() {
    for (file, call, count) in [
        ("sentiment_cnn.nn", "SentimentCnn(x, vocabulary=9, width=4, filters=3)", 4),
        ("sentiment_lstm.nn", "SentimentLstm(x, vocabulary=9, width=4, hidden=3)", 4),
        ("sentiment_transformer.nn", "SentimentTransformer(x, vocabulary=9, width=4, heads=2)", 4),
        (
            "seq2seq_attention.nn",
            "Writer(begun(x), Reader(x, from=9, width=4, hidden=3).0, is_word(x),
                Reader(x, from=9, width=4, hidden=3).1, into=7, width=4).0",
            2 * 6 * 7,
        ),
        (
            "transformer_translation.nn",
            "Writer(begun(x), Reader(x, from=9, width=4, heads=2, layers=1), is_word(x), into=7, heads=2, layers=1).0",
            2 * 6 * 7,
        ),
    ] {
        let words = Tensor::from_f64(DType::I32, &[2, 5], &[4.0, 5.0, 6.0, 0.0, 0.0, 5.0, 1.0, 3.0, 4.0, 6.0]);
        let result = small(file, "i32[2, 5]", words, call).to_f64();
        assert_eq!(result.len(), count, "{call}");
        assert!(result.iter().all(|x| x.is_finite()) && result.iter().any(|&x| x != result[0]), "{call}: {result:?}");
    }
}

/// What stands behind a sentence as padding does not change what is said of it.
#[test]
fn attention_does_not_look_at_padding() {
    let call = "SentimentTransformer(x, vocabulary=9, width=4, heads=2)";
    let scores = |words: &[f64]| {
        let dims = [1, words.len()];
        let words = Tensor::from_f64(DType::I32, &dims, words);
        small("sentiment_transformer.nn", &format!("i32{dims:?}"), words, call).to_f64()
    };
    let (a, b) = (scores(&[4.0, 5.0, 7.0]), scores(&[4.0, 5.0, 7.0, 0.0, 0.0]));
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
}

#[test]
fn small_networks_of_sounds_run() {
    for (file, call) in
        [("spoken_digits.nn", "SpokenDigits(x, width=2)"), ("spoken_digits_lstm.nn", "SpokenDigitsLstm(x, hidden=3)")]
    {
        let result = small(file, "f32[2, 16, 9]", ramp(&[2, 16, 9]), call).to_f64();
        assert_eq!(result.len(), 20, "{call}");
        assert!(result.iter().all(|x| x.is_finite()) && result.iter().any(|&x| x != result[0]), "{call}: {result:?}");
    }
}

/// A causal model says the same of a place whatever comes after it.
#[test]
fn gpt_does_not_look_ahead() {
    let call = "Gpt(x, vocabulary=7, longest=6, layers=2, heads=2, width=8).0";
    let scores = |tokens: [f64; 5]| {
        small("nanogpt.nn", "i32[1, 5]", Tensor::from_f64(DType::I32, &[1, 5], &tokens), call).to_f64()
    };
    let (a, b) = (scores([1.0, 2.0, 3.0, 4.0, 5.0]), scores([1.0, 2.0, 3.0, 0.0, 6.0]));
    assert_eq!(a.len(), 35);
    assert_eq!(a[..21], b[..21]);
    assert_ne!(a[21..], b[21..]);
}
