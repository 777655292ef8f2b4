//! Whether rows of a batch are told to be mixed: where one by one they give the same, and where they do not.

use nnc_graph::Graph;
use nnc_lang::elaborate::{Loader, Options, Unit, check};
use nnc_opt::rows::mixed;
use std::collections::BTreeMap;

struct Nothing;

impl Loader for Nothing {
    fn load(&self, _: &str) -> Result<String, String> {
        Err("no such file".to_owned())
    }
}

fn unit(source: &str) -> Unit {
    let checked = check("test.nn", source, &Nothing, &Options::default());
    checked.unit.unwrap_or_else(|| panic!("{source}: {:?}", checked.diagnostics))
}

/// The model `M` for so many rows.
fn model(unit: &Unit, rows: i64) -> Graph {
    unit.model("M", &BTreeMap::from([("N".to_owned(), rows)])).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// The mixed outputs of `M`, each with the operation that is told.
fn told(source: &str) -> Vec<(String, &'static str)> {
    let unit = unit(source);
    let found = mixed(&model(&unit, 2), &model(&unit, 3));
    found.into_iter().map(|mixed| (mixed.output, mixed.by.map_or("", |(op, _)| op))).collect()
}

fn of(result: &str, body: &str) -> Vec<(String, &'static str)> {
    told(&format!("model M(x: f32[N, 4, 6], i: i32[N, 5], t: f32[7, 6]) -> {result} {{ {body} }}"))
}

#[test]
fn rows_that_are_computed_by_themselves_are_not_told() {
    for (result, body) in [
        ("f32[N, 4, 6]", "return softmax(x) + mean(x, axis=[1, 2], keep=true) |> broadcast_to([N, 4, 6])"),
        ("f32[N, 24]", "return flatten(x)"),
        (
            "f32[N, 8, 3]",
            "return reshape(transpose(reshape(x, [N * 4, 6]) * 2), [6, N, 4]) |> transpose([1, 2, 0]) |> reshape([N, 8, 3])",
        ),
        ("f32[N, 4, 7]", "return x @ transpose(t)"),
        ("f32[N, 4, 4]", "return x @ transpose(x, [0, 2, 1])"),
        ("f32[N, 5, 6]", "return take(t, i)"),
        ("f32[N, 3]", "return dense(flatten(x), 3) |> batch_norm"),
        ("f32[N, 4, 6]", "return multi_head_attention(x, heads=2)"),
        ("f32[N, 8, 2, 4]", "return conv2d(x[:, new], 8, kernel=3)"),
        ("f32[N, 2, 3]", "return max_pool2d(x[:, new], 2)[:, 0]"),
        ("f32[N, 4, 6]", "return grad(sum(sum(x, axis=2) ** 3), wrt=x)"),
        ("f32[N, 5]", "return concat([f32(i)[:, 0..2], x[:, 0, 0..3]], axis=1)"),
        ("f32[N, 2]", "return normal([N, 2])"),
        ("f32[N, 6]", "h = zeros([2, N, 6]); return h[1] + x[:, 0]"),
        ("f32[N, 6]", "y, _ = scan s in x axis 1 with h = zeros([N, 6]) { h = tanh(h + s); yield h }; return y[:, -1]"),
        ("f32[N, 4, 6]", "return x + f32(iota(6)) + f32(len(x[0]))"),
        ("f32[N, 24]", "return reshape(ones([N * 4, 6]), [N, 24]) + flatten(x)"),
        ("f32[N, 4, 6]", "same = broadcast_to(t[0], [N, 6]) * 2; return x * same[0] + same[-1]"),
        ("f32[N, 4, 6]", "return x * reshape(transpose(broadcast_to(t[0..2], [N, 2, 6]), [1, 0, 2]), [2, N, 6])[1, 0]"),
    ] {
        assert_eq!(of(result, body), [], "{body}");
    }
}

#[test]
fn what_is_made_over_the_batch_is_told_with_what_makes_it() {
    for (result, body, op) in [
        ("f32[N, 4, 6]", "return x - mean(x, axis=0)", "reduce"),
        ("f32[N, 4, 6]", "return softmax(x, axis=0)", "reduce"),
        ("f32[N, 4, 6]", "return x / N", "constant"),
        ("f32[N]", "return x[:, 0, 0] * f32(iota(N))", "iota"),
        ("f32[N, M]", "f = flatten(x); return f @ transpose(f)", "dot"),
        ("f32[N, 4, 6]", "return x + x[0]", "slice"),
        ("f32[N, 4, 6]", "return x + (broadcast_to(t[0], [N, 6]) + x[:, 0])[0]", "slice"),
        ("f32[N, 4, 6]", "return x + sum(broadcast_to(t[0], [N, 6])[1..], axis=0)", "slice"),
        ("f32[N, 6]", "return take(x[:, 0], i[:, 0])", "gather"),
        ("f32[N, 4, 6]", "return concat([x[1..], x[0..1]])", "slice"),
        ("f32[N, 6]", "y, _ = scan s in x[:, 0] axis 0 with h = zeros([6]) { h = h + s; yield h }; return y", "scan"),
        ("f32[N, 4, 6]", "return grad(sum(sum(x, axis=0) ** 3), wrt=x)", "reduce"),
        ("f32[N, 4, 6]", "return x * sum(ones([N]))", "reduce"),
        ("f32[N, 6]", "return x[:, 0] + ones([1, N]) @ ones([N, 6])", "dot"),
        ("f32[N, 6]", "return x[:, 0] + update(zeros([N, 6]), ones([1, 6]), 0)", "dynamic_update"),
        ("f32[N, 6]", "return x[:, 0] * concat([zeros([1, 1]), ones([N - 1, 1])])", "concat"),
    ] {
        assert_eq!(of(result, body), [("result".to_owned(), op)], "{body}");
    }
}
