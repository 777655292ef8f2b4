//! Windows over convolutions in one kernel: the numbers of the interpreter, and the bits of two kernels.

mod common;

use common::{check, lowered_run};
use nnc_graph::testing::{PooledConvolution, random_inputs};
use nnc_graph::{WindowOp, text};
use nnc_kernel::ir::Target;
use nnc_opt::fuse::{FuseOptions, partition};

/// Kernels that are nothing but windows, with vectors of eight.
fn windows_apart(pooled: &PooledConvolution) -> usize {
    let graph = pooled.graph();
    let lowered = nnc_kernel::lower(&graph, &partition(&graph, &FuseOptions::ALL), &Target::new(8)).unwrap();
    lowered.report.iter().filter(|kernel| kernel.name == "window").count()
}

fn holds(pooled: &PooledConvolution, seed: u64) {
    let graph = pooled.graph();
    let fail = |what: String| -> () { panic!("{pooled:?}: {what}\n{}", text::print(&graph)) };
    check(&graph, seed).unwrap_or_else(fail);
    let given = random_inputs(&graph, seed);
    let apart = FuseOptions { pooling: false, ..FuseOptions::ALL };
    let bits = [FuseOptions::ALL, apart].map(|fuse| lowered_run(&graph, &given, &fuse, 8).unwrap().outputs);
    assert_eq!(bits[0], bits[1], "{pooled:?}: other bits than those of two kernels");
}

/// Direct products and Winograd's tiles of two and four.
fn convolutions() -> [PooledConvolution; 5] {
    [
        PooledConvolution::new([14, 12], [3, 40], 5, 2),
        PooledConvolution::new([8, 6], [5, 9], 1, 2),
        PooledConvolution::new([16, 12], [32, 32], 3, 2),
        PooledConvolution::new([6, 8], [32, 64], 3, 2),
        PooledConvolution::new([56, 24], [4, 24], 7, 2),
    ]
}

#[test]
fn windows_are_taken_where_the_convolution_is_made() {
    for (seed, plain) in convolutions().into_iter().enumerate() {
        for op in [WindowOp::Max, WindowOp::Sum] {
            let pooled = PooledConvolution { op, images: 2, ..plain.clone() };
            assert_eq!(windows_apart(&pooled), 0, "{pooled:?}");
            holds(&pooled, seed as u64);
        }
        // The hyperbolic tangent brings large numbers together, and Winograd's form is less exact.
        let after = plain.taps != 3;
        holds(&PooledConvolution { residual: true, after, ..plain }, seed as u64);
    }
}

/// Lines and places that are in no window, and windows that leave places out.
#[test]
fn windows_need_not_cover_the_image() {
    for (seed, plain) in convolutions().into_iter().enumerate() {
        let [high, wide] = plain.size;
        let odd = PooledConvolution { size: [high + 1, wide + 3], ..plain.clone() };
        holds(&odd, seed as u64);
        holds(&PooledConvolution { window: [1, 2], stride: [2, 4], ..odd }, seed as u64);
        holds(&PooledConvolution { window: [2, 1], stride: [2, 1], op: WindowOp::Sum, ..plain }, seed as u64);
    }
}

#[test]
fn what_windows_are_over_may_be_stored_as_well() {
    for (seed, plain) in convolutions().into_iter().enumerate() {
        let pooled = PooledConvolution { stored: true, ..plain };
        assert_eq!(windows_apart(&pooled), 0, "{pooled:?}");
        holds(&pooled, seed as u64);
        let [high, wide] = pooled.size;
        holds(&PooledConvolution { size: [high, wide + 1], residual: true, ..pooled.clone() }, seed as u64);
        holds(&PooledConvolution { size: [high + 1, wide], ..pooled }, seed as u64);
    }
}

/// Windows of three go with no tile of four; windows that overlap or are padded have a kernel of their own.
#[test]
fn windows_that_do_not_fit_are_apart() {
    for (seed, plain) in convolutions().into_iter().enumerate() {
        let cut = PooledConvolution { window: [3; 2], stride: [3; 2], ..plain.clone() };
        let by_tiles = plain.taps == 3;
        assert_eq!(windows_apart(&cut), usize::from(by_tiles), "{cut:?}");
        let overlapping = PooledConvolution { window: [3; 2], ..plain.clone() };
        let padded = PooledConvolution { low: 1, ..plain };
        for apart in [&overlapping, &padded] {
            assert_eq!(windows_apart(apart), 1, "{apart:?}");
        }
        [cut, overlapping, padded].iter().for_each(|pooled| holds(pooled, seed as u64));
    }
}

/// Not a number and infinities come out as they do of two kernels.
#[test]
fn windows_of_no_numbers() {
    let graph = convolutions()[0].graph();
    let mut given = random_inputs(&graph, 3);
    let x = given.get_mut("x").unwrap();
    let mut numbers = x.to_f64();
    for (at, number) in [(7, f64::NAN), (100, f64::INFINITY), (300, f64::NEG_INFINITY)] {
        numbers[at] = number;
    }
    *x = nnc_graph::Tensor::from_f64(x.dtype(), &[1, 14, 12, 3], &numbers);
    let apart = FuseOptions { pooling: false, ..FuseOptions::ALL };
    let bytes = [FuseOptions::ALL, apart]
        .map(|fuse| lowered_run(&graph, &given, &fuse, 8).unwrap().outputs["y"].bytes().to_vec());
    assert_eq!(bytes[0], bytes[1]);
}
