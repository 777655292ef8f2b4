//! Stored weights in a file: of each matrix what is stored (`PATH.stored`), its scales (`PATH.scales`), and how to read
//! them (`$stored.PATH`: bits, terms of a group, the axis that products sum over, and a 1 more where products read
//! floats), in the place of the floats.

use crate::quantise::file::{are_scales, lie};
use crate::store::Store;
use nnc_graph::{DType, Shape, Stored, Tensor, TensorType};
use nnc_opt::narrow::Matrix;
use std::collections::BTreeMap;

/// What the path of a record starts with.
const RECORD: &str = "$stored.";

/// The tensor that says how a matrix is stored, and its path.
pub fn record(matrix: &Matrix) -> (String, Tensor) {
    let group = matrix.form.group().unwrap_or(0);
    let by_floats = matrix.by_floats.then_some(1);
    let numbers: Vec<usize> = [matrix.form.bits(), group, matrix.terms_axis].into_iter().chain(by_floats).collect();
    let bytes: Vec<u8> = numbers.iter().flat_map(|&number| (number as i64).to_le_bytes()).collect();
    let tensor = Tensor::from_bytes(DType::I64, &[numbers.len()], bytes).expect("eight bytes for each");
    (format!("{RECORD}{}", matrix.path), tensor)
}

/// The stored matrices of a file, by path; none if its weights are floats.
///
/// # Errors
/// What is wrong with a record, or with what it is for, in words.
pub fn matrices(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<Matrix>, String> {
    let named = tensors.iter().filter_map(|(path, tensor)| Some((path.strip_prefix(RECORD)?, tensor)));
    named.map(|(path, record)| matrix(tensors, path, record)).collect()
}

fn matrix(tensors: &BTreeMap<String, Tensor>, path: &str, record: &Tensor) -> Result<Matrix, String> {
    let wrong = || lie(&format!("{RECORD}{path}"), "no number of bits, group and axis");
    if record.dtype() != DType::I64 {
        return Err(wrong());
    }
    let numbers = record.to_i64();
    let (bits, group, axis, by_floats) = match numbers[..] {
        [bits, group, axis] => (bits, group, axis, false),
        [bits, group, axis, 1] => (bits, group, axis, true),
        _ => return Err(wrong()),
    };
    let whole = |number: i64| usize::try_from(number).ok();
    let form = whole(bits).zip(whole(group)).and_then(|(bits, group)| Stored::of_bits(bits, group));
    let (Some(form), Some(terms_axis @ (0 | 1))) = (form, whole(axis)) else { return Err(wrong()) };
    let matrix = Matrix { path: path.to_owned(), terms_axis, form, by_floats };
    let wanted = matrix.tensors(&float_type(tensors, &matrix).ok_or_else(|| lacks(tensors, &matrix))?);
    match wanted.iter().find(|(path, ty)| tensors.get(path).is_none_or(|tensor| tensor.ty() != *ty)) {
        None if !wanted.is_empty() => check_scales(tensors, matrix),
        None => Err(lacks(tensors, &matrix)),
        Some((path, ty)) => Err(lie(path, &other_or_none(tensors.get(path), ty, &matrix))),
    }
}

/// The matrix, if its scales are such as rounding makes: of four bits they may be negative.
fn check_scales(tensors: &BTreeMap<String, Tensor>, matrix: Matrix) -> Result<Matrix, String> {
    let least = match matrix.form {
        Stored::Nibbles { .. } => f64::MIN,
        Stored::Bf16 | Stored::Bytes { .. } => 0.0,
    };
    let path = matrix.scales_path();
    match tensors.get(&path) {
        Some(scales) if !are_scales(scales, least) => Err(lie(&path, "no finite scale for each group")),
        Some(_) | None => check_integers(tensors, matrix),
    }
}

/// The matrix, if its integers of eight bits are such as rounding makes, which are as many below 0 as above.
fn check_integers(tensors: &BTreeMap<String, Tensor>, matrix: Matrix) -> Result<Matrix, String> {
    let path = matrix.stored_path();
    let is_least = |byte: &u8| byte.cast_signed() == i8::MIN;
    match (matrix.form, tensors.get(&path)) {
        (Stored::Bytes { .. }, Some(stored)) if stored.bytes().iter().any(is_least) => {
            Err(lie(&path, "no integers from -127 to 127"))
        }
        (Stored::Bytes { .. } | Stored::Bf16 | Stored::Nibbles { .. }, _) => Ok(matrix),
    }
}

/// What a record is for that its file has not, or has in another form.
fn lacks(tensors: &BTreeMap<String, Tensor>, matrix: &Matrix) -> String {
    let path = matrix.stored_path();
    if let Some(stored) = tensors.get(&path) {
        let form = matrix.form.name();
        return lie(&path, &format!("{}, other than its record `{RECORD}{}` of {form} says", stored.ty(), matrix.path));
    }
    lie(&path, &format!("not there, though there is a record for it, `{RECORD}{}`", matrix.path))
}

/// What a tensor is that a record asks for otherwise.
fn other_or_none(found: Option<&Tensor>, wanted: &TensorType, matrix: &Matrix) -> String {
    let record = format!("`{RECORD}{}` asks for {wanted}", matrix.path);
    match found {
        Some(tensor) => format!("{}, and its record {record}", tensor.ty()),
        None => format!("not there, and the record {record}"),
    }
}

/// The type of the parameter that a stored matrix stands for.
pub(crate) fn float_type(tensors: &BTreeMap<String, Tensor>, matrix: &Matrix) -> Option<TensorType> {
    let stored = tensors.get(&matrix.stored_path())?;
    let &[lines, columns] = stored.dims() else { return None };
    let terms = match matrix.form {
        Stored::Bf16 | Stored::Bytes { .. } => lines,
        Stored::Nibbles { .. } => 2 * lines,
    };
    let dims = if matrix.terms_axis == 0 { [terms, columns] } else { [columns, terms] };
    Some(TensorType::new(DType::F32, Shape::of(&dims)))
}

/// Whether a path is that of a record.
pub fn is_record(path: &str) -> bool {
    path.starts_with(RECORD)
}

/// Puts what stands for stored matrices in the place of the floats.
pub fn stand_in(matrices: &[Matrix], wanted: &mut BTreeMap<String, TensorType>) {
    for matrix in matrices {
        let float = wanted.remove(&matrix.path);
        wanted.extend(float.iter().flat_map(|float| matrix.tensors(float)));
    }
}

/// Brings a freshly initialised store to what programs by stored matrices read.
pub fn prepare(matrices: &[Matrix], store: &mut Store) {
    for matrix in matrices {
        let Some(float) = store.take(&matrix.path) else { continue };
        for (path, ty) in matrix.tensors(&float.ty) {
            let zeros = vec![0; ty.bytes()];
            let tensor = Tensor::from_bytes(ty.dtype, &ty.shape.sizes(), zeros).expect("as many as it has");
            store.insert(&path, &tensor);
        }
    }
}
