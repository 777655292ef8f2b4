//! Tensors of one `.safetensors` file: a header in JSON with each tensor's name, dtype, shape and place, then their
//! bytes, row-major and little endian (<https://github.com/huggingface/safetensors>, read by the crate of that name).

use std::path::Path;

use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::content::{self, Role};
use crate::error::{DataError, ErrorKind, Result};
use crate::layout::Header;
use crate::table;
use crate::types::{Batching, Column, DType, FieldType, Table};

/// Reads the tensors `names` of the file `path`, one per declared field, `[rows, ..dims]` each.
///
/// # Errors
/// A missing or damaged file, a tensor that is not there or not of the declared type; tensors whose numbers of rows
/// differ.
pub fn open(path: &Path, names: &[String], fields: &[FieldType]) -> Result<Table> {
    let content = content::read_file(path, Role::Source)?;
    decode(&content, path, names, fields)
}

/// Decodes the `content` of the file `path`.
///
/// # Errors
/// As [`open`].
pub fn decode(content: &[u8], path: &Path, names: &[String], fields: &[FieldType]) -> Result<Table> {
    table::check_count(names.len(), fields, path, "tensor")?;
    let file = SafeTensors::deserialize(content).map_err(|cause| damaged(path, &cause))?;
    let read = |(name, ty): (&String, &FieldType)| column(&file, path, name, ty);
    let columns = names.iter().zip(fields).map(read).collect::<Result<Vec<Column>>>()?;
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    table::from_columns(columns, &quoted, path)
}

/// Reads one tensor.
fn column(file: &SafeTensors<'_>, path: &Path, name: &str, ty: &FieldType) -> Result<Column> {
    let Ok(tensor) = file.tensor(name) else {
        let names = file.names().into_iter().map(str::to_owned).collect();
        return Err(DataError::no_array(path, name, names, "write it with `safetensors.numpy.save_file`"));
    };
    let shape = tensor.shape().iter().map(|&dim| dim as u64).collect();
    let read = dtype_of(tensor.dtype(), path).and_then(|dtype| {
        let header = Header { dtype, shape, length: 0, big_endian: false, fortran: false };
        let rows = header.rows(ty, Batching::Rows, path)?;
        header.column(tensor.data().to_vec(), ty, rows, path)
    });
    read.map_err(|error| error.within(name))
}

/// The dtype of the same elements, if nnc has one.
fn dtype_of(dtype: Dtype, path: &Path) -> Result<DType> {
    Ok(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::Bf16,
        Dtype::F64 => DType::F64,
        Dtype::I8 => DType::I8,
        Dtype::U8 => DType::U8,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::BOOL => DType::Bool,
        // The crate's list is open.
        other => {
            let message = format!("has elements of the type {other}, which is not read");
            let help = "convert it to one of F32 F16 BF16 F64 I8 U8 I32 I64 BOOL";
            return Err(DataError::new(ErrorKind::Unsupported, path, message).help(help));
        }
    })
}

/// The fault of a file that cannot be read.
fn damaged(path: &Path, cause: &SafeTensorError) -> DataError {
    let message = format!("is no whole .safetensors file: {cause}");
    DataError::new(ErrorKind::Malformed, path, message).help("write or download it again")
}
