//! What a training step does to parameters of several dtypes, and beside states that an optimiser of one's own has.

mod common;

use common::{State, assert_near, examples, fit, gradient, step, train_graph, unit_with};
use nnc_graph::DType;

fn first_values(unit: &nnc_lang::elaborate::Unit, recipe: &str) -> State {
    common::first_values(unit, recipe, 1)
}

/// A model of two matrices of these dtypes, and its recipe's rest.
fn two_matrices(first: &str, second: &str, rest: &str) -> String {
    format!(
        "model Two(x: f32[N, 4]) -> f32[N, 2] {{
            param a: {first}[4, 8] = glorot_uniform()
            param b: {second}[8, 2] = glorot_uniform()
            return f32(f32(relu({first}(x) @ a)) @ f32(b))
        }}
        data rows {{
            train: (f32[4], f32[2]) = csv(\"rows.csv\")
            x: f32[4] = train.0
            y: f32[2] = train.1
        }}
        train Two on rows {{
            epochs = 1; batch = 3
            p = Two(x)
            {rest}
        }}"
    )
}

#[test]
fn the_joint_norm_is_one_of_several_dtypes() {
    let text = "model Two(x: f32[N, 2]) -> f32[N] {
            param a: f32[2] = full(0.5)
            param b: bf16[2] = full(0.5)
            return x @ a + x @ f32(b)
        }
        data points {
            train: (f32[2], f32) = csv(\"points.csv\")
            x: f32[2] = train.0
            y: f32 = train.1
        }
        train Two on points {
            epochs = 1; batch = 3
            minimize mse(Two(x), y) using sgd(lr=0.1), clip_norm=0.25
        }";
    let unit = unit_with(text, &[], DType::F32);
    let mut state = first_values(&unit, "Two");
    step(&train_graph(&unit, "Two", 3), &mut state, &examples(), 0);
    let slope = gradient([1.0, 1.0]);
    // Both parameters have this gradient.
    let norm = (2.0 * (slope[0] * slope[0] + slope[1] * slope[1])).sqrt();
    let want = slope.map(|slope| 0.5 - 0.1 * 0.25 / norm * slope);
    for (path, near) in [("a", 2e-4), ("b", 2e-3)] {
        let got = state[path].to_f64();
        assert!((0..2).all(|axis| (got[axis] - want[axis]).abs() < near), "{path}: {got:?} is not {want:?}");
    }
}

#[test]
fn weights_of_several_dtypes_are_clipped_and_pruned_together() {
    for (first, second) in [("f32", "bf16"), ("f16", "bf16"), ("f32", "f64"), ("f64", "f16"), ("f64", "f64")] {
        for rest in [
            "minimize mse(p, y) using adam, clip_norm=1.0",
            "prune(0.5, every=1); minimize mse(p, y) using adam",
            "prune(0.5, every=1, scope=\"layer\"); minimize mse(p, y) using adam",
        ] {
            let unit = unit_with(&two_matrices(first, second, rest), &[], DType::F32);
            // This verifies the program.
            train_graph(&unit, "Two", 3);
        }
    }
}

#[test]
fn an_optimiser_of_ones_own_may_call_a_state_as_it_likes() {
    let own = "optimizer own(p: f32[...S], g: f32[...S], lr: f32 = 0.1) {
            state fast: f32[...S] = zeros()
            fast <- 0.9 * fast + g
            p <- p - lr * fast
        }";
    let unit = unit_with(&format!("{own}{}", fit("minimize mse(p, y) using own, average=0.9")), &[], DType::F64);
    let mut state = first_values(&unit, "Fit");
    step(&train_graph(&unit, "Fit", 3), &mut state, &examples(), 0);
    let slope = gradient([0.5, 0.5]);
    assert_near(&state, "$optimizer.w.fast", slope);
    assert_near(&state, "$optimizer.w.$fast", slope.map(|slope| 0.5 - 0.1 * slope));
}
