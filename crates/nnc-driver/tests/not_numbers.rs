//! Weights that stop being numbers while the loss does not.

use nnc_driver::store::Store;
use nnc_graph::{DType, Tensor};

fn store(values: [f64; 2]) -> Store {
    let mut store = Store::default();
    store.insert("$optimizer.a.v", &Tensor::from_f64(DType::F32, &[1], &[f64::INFINITY]));
    store.insert("a.w", &Tensor::from_f64(DType::F32, &[1], &[1.0]));
    store.insert("b.w", &Tensor::from_f64(DType::F32, &[2], &values));
    store
}

#[test]
fn the_store_names_the_first_tensor_that_holds_no_number() {
    assert_eq!(store([0.0, -1.0]).first_not_finite(), None);
    assert_eq!(store([0.0, f64::NAN]).first_not_finite(), Some("b.w"));
    assert_eq!(store([f64::NEG_INFINITY, 0.0]).first_not_finite(), Some("b.w"));
}
