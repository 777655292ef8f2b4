//! The standard library's functions and layers against numbers from numpy (1e-11) and against their own definitions.
//! `f32` means f64 here, so that nothing is hidden by rounding.

use nnc_graph::interpret::run;
use nnc_graph::{DType, Tensor};
use nnc_lang::diagnostic::render;
use nnc_lang::elaborate::{Loader, Options, Unit, check};
use std::collections::BTreeMap;

struct Nothing;

impl Loader for Nothing {
    fn load(&self, _path: &str) -> Result<String, String> {
        Err("no files here".to_owned())
    }
}

fn unit(text: &str) -> Unit {
    let options = Options { float: DType::F64, ..Options::default() };
    let checked = check("test.nn", text, &Nothing, &options);
    let shown = render(&checked.diagnostics, &checked.sources, false);
    checked.unit.unwrap_or_else(|| panic!("{text}\n{shown}"))
}

fn tensor(dims: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(DType::F64, dims, values)
}

type Given<'a> = &'a [(&'a str, Tensor)];

/// The result of a model `M` of `text`, whose dims `given` has.
fn model(text: &str, given: Given<'_>) -> Tensor {
    let graph = unit(text).model("M", &BTreeMap::new()).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
    let given = given.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
    let run = run(&graph, &given).unwrap_or_else(|error| panic!("{text}\n{error}"));
    run.output("result").expect("the result").clone()
}

/// The value of an expression of `x: f32[2, 3]`.
fn of_x(expression: &str) -> Vec<f64> {
    of(expression, "x: f32[2, 3]", &[("x", x())])
}

fn of(expression: &str, parameters: &str, given: Given<'_>) -> Vec<f64> {
    let text = format!("model M({parameters}) {{ return {expression} }}");
    model(&text, given).to_f64()
}

fn x() -> Tensor {
    tensor(&[2, 3], &[-1.5, 0.25, 2.0, 0.5, -0.75, 3.0])
}

fn assert_close(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}: {got:?}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= 2e-11 * want.abs().max(1.0), "{what}: {got} is not {want}");
    }
}

#[test]
fn activations() {
    let cases: [(&str, [f64; 6]); 8] = [
        ("relu(x)", [0.0, 0.25, 2.0, 0.5, 0.0, 3.0]),
        ("leaky_relu(x, slope=0.1)", [-0.15, 0.25, 2.0, 0.5, -0.075, 3.0]),
        ("gelu(x)", [-0.100210801903, 0.149676581421, 1.9544997361, 0.345731230637, -0.169970514283, 2.99595030591]),
        ("silu(x)", [-0.27363828571, 0.140544125221, 1.76159415596, 0.311229665601, -0.240615975618, 2.85772238047]),
        ("softplus(x)", [0.201413277983, 0.825939419879, 2.12692801104, 0.97407698418, 0.386871006115, 3.04858735157]),
        (
            "softmax(x)",
            [0.0250814805538, 0.144333955113, 0.830584564333, 0.0742445684345, 0.0212714249973, 0.904484006568],
        ),
        (
            "softmax(x, axis=0)",
            [0.119202922022, 0.73105857863, 0.26894142137, 0.880797077978, 0.26894142137, 0.73105857863],
        ),
        (
            "log_softmax(x)",
            [-3.68562553171, -1.93562553171, -0.185625531713, -2.60039065637, -3.85039065637, -0.100390656373],
        ),
    ];
    for (expression, want) in cases {
        assert_close(expression, &of_x(expression), &want);
    }
}

#[test]
fn softmax_does_not_overflow() {
    let large = tensor(&[2, 3], &[1000.0, 999.0, -1000.0, -1000.0, -1000.0, -1000.0]);
    let got = of("log_softmax(x)", "x: f32[2, 3]", &[("x", large)]);
    let want = -(1.0 + (-1.0f64).exp()).ln();
    assert_close("log_softmax", &got[..2], &[want, want - 1.0]);
    assert_close("log_softmax", &got[3..], &[-(3.0f64.ln()); 3]);
}

fn labels() -> Tensor {
    Tensor::from_f64(DType::I32, &[2], &[2.0, 0.0])
}

fn y() -> Tensor {
    tensor(&[2, 3], &[0.0, 1.0, 1.0, 1.0, 0.0, 0.25])
}

#[test]
fn losses() {
    let given = [("x", x()), ("label", labels())];
    let parameters = "x: f32[2, 3], label: i32[2]";
    assert_close("ce", &of("cross_entropy(x, label)", parameters, &given), &[1.39300809404]);
    assert_close("ce", &of("cross_entropy(x, label, smoothing=0.1)", parameters, &given), &[1.45967476071]);
    let rows = of("cross_entropy(x[:, new, :], label[:, new])", parameters, &given);
    assert_close("ce of sequences", &rows, &[1.39300809404]);
    let given = [("x", x()), ("y", y())];
    let parameters = "x: f32[2, 3], y: f32[2, 3]";
    assert_close("mse", &of("mse(x, y)", parameters, &given), &[2.03125]);
    assert_close("l1", &of("l1(x, y)", parameters, &given), &[1.20833333333333]);
    assert_close("bce", &of("bce_logits(x, y)", parameters, &given), &[0.677302675129]);
    assert_close("bce", &of_x("bce_logits(x, 1)"), &[0.677302675129]);
    assert_close("bce", &of_x("bce_logits(0 * x, 0)"), &[2.0f64.ln()]);
}

#[test]
fn a_label_out_of_range_is_caught() {
    let graph = unit("model M(x: f32[2, 3], label: i32[2]) -> f32 { return cross_entropy(x, label) }")
        .model("M", &BTreeMap::new())
        .expect("it builds");
    let label = Tensor::from_f64(DType::I32, &[2], &[0.0, 3.0]);
    let given = BTreeMap::from([("x".to_owned(), x()), ("label".to_owned(), label)]);
    assert!(run(&graph, &given).is_err());
}

#[test]
fn metrics() {
    let given = [("x", x()), ("label", labels())];
    let parameters = "x: f32[2, 3], label: i32[2]";
    assert_close("accuracy", &of("accuracy(x, label)", parameters, &given), &[0.5]);
    assert_close("top 1", &of("top_k_accuracy(x, label, k=1)", parameters, &given), &[0.5]);
    assert_close("top 2", &of("top_k_accuracy(x, label, k=2)", parameters, &given), &[1.0]);
    let confused = of("confusion(argmax(x), label, 3)", parameters, &given);
    assert_close("confusion", &confused, &[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let given = [("x", x()), ("y", y())];
    let parameters = "x: f32[2, 3], y: f32[2, 3]";
    assert_close("mean squared", &of("mean_squared_error(x, y)", parameters, &given), &[2.03125]);
    assert_close("mean absolute", &of("mean_absolute_error(x, y)", parameters, &given), &[1.20833333333333]);
    assert_close(
        "nan",
        &of(
            "top_k_accuracy(x, label, k=3)",
            "x: f32[2, 3], label: i32[2]",
            &[("x", tensor(&[2, 3], &[f64::NAN; 6])), ("label", labels())],
        ),
        &[0.0],
    );
}

/// `((i mod cycle) - shift) / scale` for each element.
fn ramp(dims: &[usize], cycle: usize, shift: f64, scale: f64) -> Tensor {
    let count: usize = dims.iter().product();
    tensor(dims, &(0..count).map(|i| ((i % cycle) as f64 - shift) / scale).collect::<Vec<_>>())
}

fn image() -> Tensor {
    ramp(&[2, 4, 5, 6], 7, 3.0, 2.0)
}

/// The sum of the elements, each times its place.
fn weighted(values: &[f64]) -> f64 {
    values.iter().enumerate().map(|(at, value)| at as f64 * value).sum()
}

#[test]
fn convolution() {
    let text = "model M(x: f32[2, 4, 5, 6]) -> f32[2, 4, 3, 4] {
        return conv2d(x, 4, kernel=[3, 2], stride=[2, 1], padding=[1, 0], dilation=[1, 2], groups=2)
    }";
    let w = ramp(&[4, 2, 3, 2], 5, 2.0, 4.0);
    let b = tensor(&[4], &[0.5, -0.5, 1.0, 0.0]);
    let y = model(text, &[("x", image()), ("conv2d_1.w", w), ("conv2d_1.b", b)]).to_f64();
    assert_close("sum", &[y.iter().sum(), weighted(&y)], &[35.125, 1565.25]);
    let want = [2.75, -0.375, 0.875, 0.375, -0.75, 4.5, 4.5, -0.75, 0.375, 0.875, -0.375, 2.75];
    assert_close("one channel", &y[72..84], &want);
}

#[test]
fn pooling() {
    let small = image().to_f64();
    let small: Vec<f64> = small.chunks(30).flat_map(|channel| &channel[..24]).copied().collect();
    let given = [("x", tensor(&[2, 4, 4, 6], &small))];
    let parameters = "x: f32[2, 4, 4, 6]";
    assert_close("max", &[weighted(&of("max_pool2d(x, 2)", parameters, &given))], &[929.0]);
    assert_close("avg", &[weighted(&of("avg_pool2d(x, 2)", parameters, &given))], &[-17.25]);
    let given = [("x", image())];
    let parameters = "x: f32[2, 4, 5, 6]";
    let overlapping = of("max_pool2d(x, [3, 3], stride=2, padding=1)", parameters, &given);
    assert_close("overlapping", &[weighted(&overlapping)], &[2704.5]);
    let want =
        [-0.0833333333333, -0.0166666666667, 0.05, 0.0, -0.05, 0.0166666666667, 0.0833333333333, -0.0833333333333];
    assert_close("global avg", &of("global_avg_pool2d(x)", parameters, &given), &want);
    assert_close("global max", &of("global_max_pool2d(x)", parameters, &given), &[1.5; 8]);
}

#[test]
fn normalisation() {
    let text = "model M(x: f32[2, 3]) -> f32[2, 3] { return layer_norm(x) }";
    let scale = tensor(&[3], &[1.0, 2.0, 0.5]);
    let shift = tensor(&[3], &[0.0, -1.0, 0.25]);
    let y = model(text, &[("x", x()), ("layer_norm_1.scale", scale), ("layer_norm_1.shift", shift)]);
    let want = [-1.22474187203, -1.0, 0.862370936014, -0.26726069212, -3.13808553696, 0.918151730299];
    assert_close("layer_norm", &y.to_f64(), &want);
    let text = "model M(x: f32[2, 4, 5, 6]) -> f32[2, 4, 5, 6] { return batch_norm(x) }";
    let given = [
        ("x", image()),
        ("batch_norm_1.scale", tensor(&[4], &[1.0; 4])),
        ("batch_norm_1.shift", tensor(&[4], &[0.0; 4])),
        ("batch_norm_1.mean", tensor(&[4], &[0.0; 4])),
        ("batch_norm_1.variance", tensor(&[4], &[4.0 - 1e-5; 4])),
    ];
    let want: Vec<f64> = image().to_f64().iter().map(|x| x / 2.0).collect();
    assert_close("batch_norm", &model(text, &given).to_f64(), &want);
}

#[test]
fn standardize_by_numbers_and_by_channels() {
    assert_close("numbers", &of_x("standardize(x, mean=0.5, std=2.0)"), &[-1.0, -0.125, 0.75, 0.0, -0.625, 1.25]);
    let want = [-1.0, -0.125, 0.75, -0.5, -1.75, 2.0];
    assert_close("channels", &of_x("standardize(x, mean=[0.5, 1.0], std=[2.0, 1.0])"), &want);
}

#[test]
fn dense_and_embedding() {
    let text = "model M(x: f32[2, 3]) -> f32[2, 2] { return dense(x, 2) }";
    let w = tensor(&[3, 2], &[1.0, 0.0, 0.0, 2.0, -1.0, 1.0]);
    let given = [("x", x()), ("dense_1.w", w), ("dense_1.b", tensor(&[2], &[0.5, -1.0]))];
    assert_close("dense", &model(text, &given).to_f64(), &[-3.0, 1.5, -2.0, 0.5]);
    let text = "model M(i: i32[2]) -> f32[2, 2] { return embedding(i, 3, 2) }";
    let w = tensor(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let given = [("i", labels()), ("embedding_1.w", w)];
    assert_close("embedding", &model(text, &given).to_f64(), &[5.0, 6.0, 1.0, 2.0]);
}

#[test]
fn dropout_does_nothing_outside_training() {
    let text = "model M(x: f32[2, 3]) -> f32[2, 3] { return dropout(x, 0.5) }";
    assert_close("dropout", &model(text, &[("x", x())]).to_f64(), &x().to_f64());
}

/// First values of a single parameter.
fn first(initialiser: &str, dims: &[usize]) -> Vec<f64> {
    let text = format!("model M(x: f32[1]) -> f32[1] {{ param w: f32{dims:?} = {initialiser}\n return x + w.part }}");
    let text = text.replace("w.part", &format!("w[{}]", vec!["0"; dims.len()].join(", ")));
    let graph = unit(&text).model_init("M").unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
    let given = BTreeMap::from([("$seed".to_owned(), Tensor::scalar_i64(7))]);
    run(&graph, &given).expect("it runs").output("w").expect("the parameter").to_f64()
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt())
}

#[test]
fn initialisers_have_their_spread() {
    // Uniform within ±l has deviation l / sqrt(3).
    let convolution = [40usize, 10, 3, 3];
    let cases: [(&str, &[usize], f64); 8] = [
        ("glorot_uniform()", &[60, 40], (2.0f64 / 100.0).sqrt()),
        ("glorot_normal()", &[60, 40], (2.0f64 / 100.0).sqrt()),
        ("glorot_uniform()", &convolution, (2.0f64 / (90.0 + 360.0)).sqrt()),
        ("he_uniform()", &[60, 40], (2.0f64 / 60.0).sqrt()),
        ("he_normal()", &convolution, (2.0f64 / 90.0).sqrt()),
        ("uniform_init(0.3)", &[60, 40], 0.3 / 3.0f64.sqrt()),
        ("normal_init(std=0.02)", &[60, 40], 0.02),
        ("normal_init()", &[60, 40], 1.0),
    ];
    for (initialiser, dims, want) in cases {
        let values = first(initialiser, dims);
        let (mean, deviation) = mean_and_deviation(&values);
        assert!(mean.abs() < 0.08 * want, "{initialiser}: mean {mean}");
        assert!((deviation / want - 1.0).abs() < 0.05, "{initialiser}: {deviation} is not {want}");
    }
    let bound = (6.0f64 / 100.0).sqrt();
    assert!(first("glorot_uniform()", &[60, 40]).iter().all(|value| value.abs() <= bound));
    let (mean, _) = mean_and_deviation(&first("normal_init(std=0.1, mean=2.0)", &[60, 40]));
    assert!((mean - 2.0).abs() < 0.01);
    assert_eq!(first("zeros()", &[2, 2]), [0.0; 4]);
    assert_eq!(first("ones()", &[2]), [1.0; 2]);
    assert_eq!(first("full(0.25)", &[2]), [0.25; 2]);
}

#[test]
fn orthogonal_rows_or_columns() {
    for (rows, columns) in [(6, 4), (4, 6), (5, 5)] {
        let w = first("orthogonal(gain=2.0)", &[rows, columns]);
        let at = |i: usize, j: usize| w[i * columns + j];
        let few = rows.min(columns);
        for i in 0..few {
            for j in 0..few {
                let product = |k: usize| if rows <= columns { at(i, k) * at(j, k) } else { at(k, i) * at(k, j) };
                let sum: f64 = (0..rows.max(columns)).map(product).sum();
                let want = if i == j { 4.0 } else { 0.0 };
                assert!((sum - want).abs() < 1e-6, "{rows} x {columns}: {sum} is not {want}");
            }
        }
    }
}

/// A schedule's value at a step.
fn schedule(expression: &str, iteration: i64, epoch: i64) -> f64 {
    let text = format!("fn rate() -> f32 = {expression}\nmodel M(x: f32[1]) -> f32[1] {{ return rate() + 0 * x }}");
    let scalar = Tensor::scalar_i64;
    let given = [
        ("x", tensor(&[1], &[0.0])),
        ("$iteration", scalar(iteration)),
        ("$iterations", scalar(100)),
        ("$epoch", scalar(epoch)),
    ];
    model(&text, &given).to_f64()[0]
}

#[test]
fn schedules() {
    let pi = std::f64::consts::PI;
    let cases = [
        ("constant(0.1)", 50, 3, 0.1),
        ("step_decay(0.1, every=2)", 0, 1, 0.1),
        ("step_decay(0.1, every=2, factor=0.5)", 0, 5, 0.025),
        ("cosine(0.1)", 0, 0, 0.1),
        ("cosine(0.1)", 25, 0, 0.05 * (1.0 + (pi / 4.0).cos())),
        ("cosine(0.1, warmup=10)", 4, 0, 0.05),
        ("cosine(0.1, warmup=10)", 10, 0, 0.1),
        ("cosine(0.1, warmup=10, final=0.01)", 100, 0, 0.01),
        ("warmup(0.1, steps=10)", 1, 0, 0.02),
        ("warmup(step_decay(0.1, every=1), steps=10)", 30, 1, 0.01),
        // As `torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.1, total_steps=100)` tells them.
        ("one_cycle(0.1)", 0, 0, 0.004),
        ("one_cycle(0.1)", 10, 0, 0.029516394846410082),
        ("one_cycle(0.1)", 28, 0, 0.09971862194340926),
        ("one_cycle(0.1)", 29, 0, 0.1),
        ("one_cycle(0.1)", 30, 0, 0.09994965352845243),
        ("one_cycle(0.1)", 60, 0, 0.05892800902855288),
        ("one_cycle(0.1)", 98, 0, 5.07464715475788e-5),
        ("one_cycle(0.1)", 99, 0, 4e-7),
        // Of so few steps that the peak lies before the first, it falls alone.
        ("one_cycle(0.1, rise=0.005)", 99, 0, 4e-7),
    ];
    for (expression, iteration, epoch, want) in cases {
        assert_close(expression, &[schedule(expression, iteration, epoch)], &[want]);
    }
}

#[test]
fn primitives_of_shape() {
    let cases: [(&str, &[f64]); 16] = [
        ("concat([x[0], x[1, 0..1]])", &[-1.5, 0.25, 2.0, 0.5]),
        ("stack([x[:, 0], x[:, 2]], axis=1)", &[-1.5, 2.0, 0.5, 3.0]),
        ("split(x, 3)[1][:, 0]", &[0.25, -0.75]),
        ("pad(x[:, 0], [1, 2], value=9)", &[9.0, -1.5, 0.5, 9.0, 9.0]),
        ("transpose(x)", &[-1.5, 0.5, 0.25, -0.75, 2.0, 3.0]),
        ("swap(x, 0, -1)", &[-1.5, 0.5, 0.25, -0.75, 2.0, 3.0]),
        ("x[..., -1]", &[2.0, 3.0]),
        ("x[1, -2..]", &[-0.75, 3.0]),
        ("x[0, new, 0..2]", &[-1.5, 0.25]),
        ("x @ transpose(x)", &[6.3125, 5.0625, 5.0625, 9.8125]),
        ("x @ x[0]", &[6.3125, 5.0625]),
        ("x[0] @ x[1]", &[5.0625]),
        ("update(x, 0 * x[:, 0..1], at=1, axis=1)", &[-1.5, 0.0, 2.0, 0.5, 0.0, 3.0]),
        ("slice(x, at=1, size=1)", &[0.5, -0.75, 3.0]),
        ("broadcast_to(x[:, 0..1], [2, 2])", &[-1.5, -1.5, 0.5, 0.5]),
        ("x[:, 0] ** -2", &[1.0 / 2.25, 4.0]),
    ];
    for (expression, want) in cases {
        let text = expression.replace("split(x, 3)[1][:, 0]", "part(x)");
        let text = format!(
            "fn part(x: f32[2, 3]) -> f32[2] {{ _, b, _ = split(x, 3)\n return b[:, 0] }}
            model M(x: f32[2, 3]) {{ return {text} }}"
        );
        assert_close(expression, &model(&text, &[("x", x())]).to_f64(), want);
    }
}

#[test]
fn primitives_of_numbers() {
    let cases: [(&str, &[f64]); 16] = [
        ("sum(x)", &[3.5]),
        ("sum(x, axis=0)", &[-1.0, -0.5, 5.0]),
        ("mean(x, axis=-1)", &[0.25, 2.75 / 3.0]),
        ("mean(x > 0)", &[4.0 / 6.0]),
        ("max(x, axis=[0, 1])", &[3.0]),
        ("min(x, axis=1, keep=true)", &[-1.5, -0.75]),
        ("prod(x[0])", &[-0.75]),
        ("mean(x, axis=all_but(1))", &[-0.5, -0.25, 2.5]),
        ("f32(argmax(x))", &[2.0, 2.0]),
        ("f32(argmin(x))", &[0.0, 1.0]),
        ("f32(any(x > 2.5, axis=1))", &[0.0, 1.0]),
        ("f32(all(x > -1, axis=1))", &[0.0, 1.0]),
        ("clip(x, -1, 1)", &[-1.0, 0.25, 1.0, 0.5, -0.75, 1.0]),
        ("where(x > 0, 1, 0) + 0 * x", &[0.0, 1.0, 1.0, 1.0, 0.0, 1.0]),
        ("f32(i32(x) % 2)", &[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
        ("sqrt(2) * x[0, 0..1] / sqrt(2)", &[-1.5]),
    ];
    for (expression, want) in cases {
        let text = expression.replace("where(x > 0, 1, 0)", "where(x > 0, 1.0, 0)");
        assert_close(expression, &of_x(&text), want);
    }
    assert_close("integers", &of("i32(7) / 2 + i / 2", "i: i32[2]", &[("i", labels())]), &[4.0, 3.0]);
    assert_close("one_hot", &of("one_hot(i, 3)", "i: i32[2]", &[("i", labels())]), &[0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    for (extreme, want) in [
        ("argmin(i64(i) - 9223372036854775807 - 1)", 1.0),
        ("argmax(i64(i) - 9223372036854775807 - 1)", 0.0),
        ("argmax(9007199254740993 - i64(i) / 2)", 1.0),
        ("argmin(u8(i))", 1.0),
    ] {
        assert_close(extreme, &of(extreme, "i: i32[2]", &[("i", labels())]), &[want]);
    }
    let added = of("scatter_add(x, i[0..1] - 1, x[0..1])", "x: f32[2, 3], i: i32[2]", &[("x", x()), ("i", labels())]);
    assert_close("scatter_add", &added, &[-1.5, 0.25, 2.0, -1.0, -0.5, 5.0]);
}

/// The power spectrum by `numpy.fft.rfft` of frames under Hann's window, and triangles between `numpy.linspace` of
/// mels.
#[test]
fn log_mel_is_that_of_numpy() {
    let samples: Vec<f64> = (0..20).map(|i| f64::from((i * 7) % 13 - 6) / 6.0).collect();
    let others: Vec<f64> = (0..20).map(|i| f64::from((i * 5) % 11 - 5) / 5.0).collect();
    let sounds = tensor(&[2, 20], &[samples, others].concat());
    let given = [("x", sounds)];
    let whole = of("log_mel(x, 8000, window=8, hop=6, mels=3)", "x: f32[2, 20]", &given);
    let want = [
        -3.60374927099,
        -1.84016061863,
        -3.08715318377,
        -1.98041971642,
        -0.187269312236,
        -1.46658420578,
        -0.41070921434,
        0.10632553585,
        -0.41070921434,
        -2.72251676633,
        -1.91992420152,
        -3.23911738226,
        -1.10194241659,
        -0.260248079377,
        -1.61577881682,
        -0.377824067608,
        0.144561768284,
        -0.377824067608,
    ];
    assert_close("log_mel", &whole, &want);
    let part = of("log_mel(x, 8000, window=16, hop=4, mels=2, low=300.0, high=3000.0)", "x: f32[2, 20]", &given);
    assert_close("log_mel", &part[..4], &[0.338685053336, 1.29694990039, -0.21446443299, 1.1845903607]);
}

#[test]
fn sequences_are_masked_begun_and_ended() {
    let tokens = Tensor::from_f64(DType::I32, &[2, 3], &[5.0, 6.0, 7.0, 8.0, 0.0, 0.0]);
    let given = [("t", tokens)];
    let parameters = "t: i32[2, 3]";
    assert_eq!(of("begun(t)", parameters, &given), [2.0, 5.0, 6.0, 7.0, 2.0, 8.0, 0.0, 0.0]);
    assert_eq!(of("ended(t)", parameters, &given), [5.0, 6.0, 7.0, 3.0, 8.0, 3.0, 0.0, 0.0]);
    let x = tensor(&[2, 3, 1], &[1.0, -2.0, 4.0, -8.0, 16.0, 32.0]);
    let given = [given[0].clone(), ("x", x)];
    let parameters = "t: i32[2, 3], x: f32[2, 3, 1]";
    assert_eq!(of("masked_mean(x, is_word(t))", parameters, &given), [1.0, -8.0]);
    assert_eq!(of("masked_max(x, is_word(t))", parameters, &given), [4.0, -8.0]);
    assert_eq!(of("last_real(x, is_word(t))", parameters, &given), [4.0, -8.0]);
    assert_eq!(of("masked_mean(x, t == 1)", parameters, &given), [0.0, 0.0]);
}

#[test]
fn masked_places_count_nothing() {
    let scores = tensor(&[2, 2, 2], &[2.0, 1.0, 0.0, 3.0, 1.0, 1.0, 5.0, -5.0]);
    let labels = Tensor::from_f64(DType::I32, &[2, 2], &[0.0, 0.0, 1.0, 0.0]);
    let mask = Tensor::from_f64(DType::Bool, &[2, 2], &[1.0, 1.0, 0.0, 0.0]);
    let given = [("x", scores), ("l", labels), ("m", mask)];
    let parameters = "x: f32[2, 2, 2], l: i32[2, 2], m: bool[2, 2]";
    let plain = of("cross_entropy(x[0], l[0], smoothing=0.2)", parameters, &given);
    assert_close("masked", &of("masked_cross_entropy(x, l, m, smoothing=0.2)", parameters, &given), &plain);
    assert_eq!(of("masked_accuracy(x, l, m)", parameters, &given), [0.5]);
    assert_eq!(of("masked_accuracy(x, l, m and not m)", parameters, &given), [0.0]);
}

/// An expression of `x`, an image of 6 x 5 pixels of 1 to 30, under a seed.
fn augmented(expression: &str, seed: i64) -> Vec<f64> {
    let pixels: Vec<f64> = (1..=30).map(f64::from).collect();
    let own = ["$seed", "$iteration", "$draw"].map(|name| (name, Tensor::scalar_i64(seed)));
    let given: Vec<(&str, Tensor)> = [("x", tensor(&[6, 5], &pixels))].into_iter().chain(own).collect();
    of(expression, "x: f32[6, 5]", &given)
}

#[test]
fn augmentation_changes_what_it_says() {
    let pixels: Vec<f64> = (1..=30).map(f64::from).collect();
    assert_close("no turn", &augmented("random_rotate(x, 0.0)", 1), &pixels);
    let (mut erased, mut bands, mut columns, mut turned) = (0, 0, 0, 0);
    for seed in 0..40 {
        let rotated = augmented("random_rotate(x, 30.0)", seed);
        assert!(rotated.iter().all(|pixel| (1.0..=30.0).contains(pixel)), "{rotated:?}");
        turned += usize::from(rotated != pixels);
        let zeros = |image: &[f64]| image.iter().filter(|&&pixel| pixel == 0.0).count();
        let square = augmented("random_erase(x, 3)", seed);
        assert!((1..=9).contains(&zeros(&square)), "{square:?}");
        erased += usize::from(zeros(&square) == 9);
        assert!(square.iter().zip(&pixels).all(|(new, old)| *new == 0.0 || new == old));
        let band = augmented("random_band(x, 2, axis=0)", seed);
        assert!([0, 5, 10].contains(&zeros(&band)), "{band:?}");
        bands += usize::from(zeros(&band) == 10);
        let band = augmented("random_band(x, 2)", seed);
        assert!([0, 6, 12].contains(&zeros(&band)), "{band:?}");
        columns += usize::from(zeros(&band) == 6);
    }
    assert!(turned > 35 && erased > 5 && bands > 5 && columns > 5, "{turned} {erased} {bands} {columns}");
}

#[test]
fn mixup_takes_the_partner_from_the_other_end() {
    let x = tensor(&[3, 1], &[1.0, 2.0, 5.0]);
    let labels = Tensor::from_f64(DType::I32, &[3], &[7.0, 8.0, 9.0]);
    let given = [("x", x), ("l", labels)];
    let parameters = "x: f32[3, 1], l: i32[3]";
    assert_eq!(of("mixup(x, 0.75)", parameters, &given), [2.0, 2.0, 4.0]);
    assert_eq!(of("partners(l)", parameters, &given), [9.0, 8.0, 7.0]);
}
