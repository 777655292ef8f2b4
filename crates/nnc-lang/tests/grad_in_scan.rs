//! A derivative in the body of a `scan` is that of the same loop unrolled, whatever it is taken by: what is carried,
//! what is walked, a tensor or a parameter from outside, also where the way to it was computed before the loop. What is
//! carried is a constant to it, and said to be one where the tensor from outside leads there too.

mod common;

use common::unit;
use nnc_graph::interpret::run;
use nnc_graph::{DType, Op, Tensor};
use std::collections::BTreeMap;

/// Runs `a model of `x`, `y` and `w` whose body ends in two values, which have to be equal and not 0.
#[track_caller]
fn agree(body: &str) {
    let text =
        format!("model M(x: f32[2, 3], y: f32[2, 3]) -> (f32[2, 3], f32[2, 3]) {{ param w: f32[3] = ones()\n{body} }}");
    let graph = unit(&text).model("M", &BTreeMap::new()).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
    let graph = nnc_opt::grad::expand(&graph);
    nnc_graph::verify::verify(&graph).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let leaves = graph.nodes().filter_map(|(_, node)| match &node.op {
        Op::Input { name, ty } | Op::Param { path: name, ty } => Some((name.clone(), ty.shape.sizes())),
        _ => None,
    });
    let numbers = |seed: usize, count: usize| (0..count).map(move |at| ((at * 7 + seed * 3) % 11) as f64 / 9.0 - 0.4);
    let tensor = |(seed, (name, dims)): (usize, (String, Vec<usize>))| {
        let values: Vec<f64> = numbers(seed, dims.iter().product()).collect();
        (name, Tensor::from_f64(DType::F64, &dims, &values))
    };
    let given = leaves.enumerate().map(tensor).collect();
    let results = run(&graph, &given).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let found: Vec<Vec<f64>> = results.outputs().map(|(_, value)| value.to_f64()).collect();
    for (scanned, unrolled) in found[0].iter().zip(&found[1]) {
        assert!((scanned - unrolled).abs() < 1e-12 * unrolled.abs().max(1.0), "{body}: {scanned} is not {unrolled}");
    }
    assert!(found[1].iter().any(|value| value.abs() > 1e-3), "{body}: {found:?}");
}

#[test]
fn by_a_tensor_from_outside_through_what_each_step_shares() {
    agree(
        "a = scan i in 0..3 with v = y { v = grad(sum(x ** 2 * stop_gradient(v)), wrt=x) }
        b = y
        for i in 0..3 { b = grad(sum(x ** 2 * stop_gradient(b)), wrt=x) }
        return a, b",
    );
}

#[test]
fn by_a_parameter_through_what_was_computed_before_the_loop() {
    agree(
        "far = tanh(x * w)
        a = scan i in 0..3 with u = y { u = u + x * grad(sum(far ** 2 * stop_gradient(u)), wrt=w) }
        b = y
        for i in 0..3 { b = b + x * grad(sum(far ** 2 * stop_gradient(b)), wrt=w) }
        return a, b",
    );
}

#[test]
fn by_the_carry_of_an_outer_loop() {
    agree(
        "a = scan i in 0..2 with h = x { h = scan j in 0..2 with k = h { k = k + 0.1 * grad(sum(sin(h) * stop_gradient(k)), wrt=h) } }
        b = x
        for i in 0..2 {
            h = b; k = h
            for j in 0..2 { k = k + 0.1 * grad(sum(sin(h) * stop_gradient(k)), wrt=h) }
            b = k
        }
        return a, b",
    );
}

#[test]
fn of_a_derivative_that_was_taken_before_the_loop() {
    agree(
        "slope = grad(sum(x ** 3 * w), wrt=x)
        a = scan i in 0..2 with u = y { u = u + grad(sum(slope * stop_gradient(u)), wrt=x) }
        b = y
        for i in 0..2 { b = b + grad(sum(slope * stop_gradient(b)), wrt=x) }
        return a, b",
    );
}

#[test]
fn by_two_tensors_of_which_one_follows_from_the_other() {
    agree(
        "far = x * x
        a = scan i in 0..2 with u = y {
            v = stop_gradient(u)
            by_x, by_far = grad(sum(far ** 2 * v + x * v), wrt=(x, far))
            u = u + by_x - 0.5 * by_far
        }
        b = y
        for i in 0..2 {
            by_x, by_far = grad(sum(far ** 2 * stop_gradient(b) + x * stop_gradient(b)), wrt=(x, far))
            b = b + by_x - 0.5 * by_far
        }
        return a, b",
    );
}

#[test]
fn of_a_loop_that_ran_before() {
    agree(
        "state = scan t in 0..2 with s = x { s = tanh(s * w + x) }
        a = scan i in 0..2 with u = y { u = u + grad(sum(state * stop_gradient(u)), wrt=x) }
        b = y
        for i in 0..2 { b = b + grad(sum(state * stop_gradient(b)), wrt=x) }
        return a, b",
    );
}

#[test]
fn of_the_whole_loop_by_what_its_body_captures() {
    agree(
        "a = grad(sum(scan i in 0..2 with h = x { h = h + grad(sum(sin(h) * y ** 2), wrt=h) }), wrt=y)
        h = x
        for i in 0..2 { h = h + grad(sum(sin(h) * y ** 2), wrt=h) }
        return a, grad(sum(h), wrt=y)",
    );
}

#[test]
fn by_a_constant_that_is_walked_beside_others() {
    agree(
        "one = ones([2, 3]); there = broadcast_to(bool(1), [2, 3])
        total, _ = scan zt, yt, place in one, y, there axis 1 with h = 0 * x[:, 0] {
            h = where(place, h + sin(zt * yt), 0)
            yield h
        }
        a = grad(sum(total), wrt=one)
        weight = f32(3 - iota(3))
        b = y * cos(one * y) * broadcast_to(weight, [2, 3])
        return a + 0 * x * w, b",
    );
}
