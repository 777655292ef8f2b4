//! How long a product by a stored matrix takes beside the one by its floats, measured: that of a single row.
//!
//! Few bits are for products that memory bounds, as in the generation of text, and those are of a row or a few. A
//! matrix that is slower even there serves nothing but the size of a file.

use crate::compiled::Compiler;
use crate::error::DriverError;
use crate::quantise::Times;
use crate::quantise::timing::{Form, Scope, compare};
use crate::store::Store;
use nnc_graph::{DType, Graph, Op, OutputKind, Shape, Tensor, TensorType, UnaryOp};
use nnc_opt::narrow::{Matrix, narrow};

/// Seconds of a row by the matrix, as it is given and as it is stored.
///
/// # Errors
/// What cannot be compiled or run.
pub fn measure(
    matrix: &Matrix,
    floats: &Tensor,
    stored: &[(String, Tensor)],
    compiler: &Compiler,
) -> Result<Times, DriverError> {
    let plain = row_by(matrix, floats);
    let narrowed = narrow(&plain, std::slice::from_ref(matrix));
    let given = Store::of([(matrix.path.as_str(), floats)].into_iter());
    let stored = Store::of(stored.iter().map(|(path, tensor)| (path.as_str(), tensor)));
    compare([Form::new(&plain, &given), Form::new(&narrowed, &stored)], compiler, Scope::Product)
}

/// A row, which another kernel makes, by the matrix.
fn row_by(matrix: &Matrix, floats: &Tensor) -> Graph {
    let mut graph = Graph::new("row");
    let terms = floats.dims()[matrix.terms_axis];
    let ty = TensorType::new(DType::F32, Shape::of(&[1, terms]));
    let x = graph.emit(Op::Input { name: "x".to_owned(), ty }, &[]);
    let x = graph.emit(Op::Unary(UnaryOp::Abs), &[x]);
    let w = graph.emit(Op::Param { path: matrix.path.clone(), ty: floats.ty() }, &[]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![matrix.terms_axis] }, &[x, w]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

#[cfg(test)]
mod tests {
    use super::*;
    use nnc_graph::Stored;

    #[test]
    fn both_forms_are_of_one_row_along_the_axis_that_is_summed_over() {
        for terms_axis in [0, 1] {
            let matrix =
                Matrix { path: "w".to_owned(), terms_axis, form: Stored::Bytes { group: 8 }, by_floats: false };
            let dims = if terms_axis == 0 { [16, 24] } else { [24, 16] };
            let floats = Tensor::from_f64(DType::F32, &dims, &[0.5; 16 * 24]);
            let plain = row_by(&matrix, &floats);
            assert_eq!(plain.ty(plain.outputs()[0].value).shape.sizes(), [1, 24]);
            let narrowed = narrow(&plain, &[matrix]);
            assert!(narrowed.nodes().any(|(_, node)| matches!(node.op, Op::DotStored(_))));
        }
    }
}
