//! Checkpoints: safetensors files, written so that a complete one is always there.
//!
//! A file is staged beside its place, synced, and renamed over it ([`Staged`]), so a process killed at any moment
//! leaves the old file or the new one. Tensors go in by path, masks as bits (`prune::bits`); what training must
//! remember besides (place in the data order, best metric, history) is one JSON string under the metadata key `nnc`. No
//! clock time goes in, so equal runs write equal bytes. Any safetensors file can be read as weights.
//!
//! Format: <https://github.com/huggingface/safetensors>.

use crate::compiled::host_tensor;
use crate::error::DriverError;
use crate::executable;
use crate::learned;
use crate::prune::{self, bits};
use crate::store::Entry;
use nnc_data::Staged;
use nnc_graph::{DType, Tensor, TensorType};
use nnc_runtime::AlignedBuffer;
use safetensors::tensor::{Dtype, Metadata, TensorView};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The metadata key of what `nnc` keeps besides tensors.
const KEY: &str = "nnc";

/// What a checkpoint file holds.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// Tensors by path.
    pub tensors: BTreeMap<String, Tensor>,
    /// The text under the key `nnc`, when `nnc` wrote the file.
    pub metadata: Option<String>,
}

impl Checkpoint {
    /// Copies of tensors of a store, with metadata.
    pub fn of<'s>(tensors: impl Iterator<Item = (&'s str, &'s Entry)>, metadata: Option<String>) -> Self {
        let copy = |(path, entry): (&str, &Entry)| (path.to_owned(), host_tensor(&entry.ty, entry.buffer.bytes()));
        Self { tensors: tensors.map(copy).collect(), metadata }
    }

    /// Writes it for those who infer, to be put at `path`.
    ///
    /// # Errors
    /// As [`stage`].
    pub fn stage_to_infer(&self, path: &Path) -> Result<Staged, DriverError> {
        let views = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.ty(), tensor.bytes()));
        stage_views(path, views, &learned::to_infer(self.metadata.as_deref()))
    }
}

/// Writes tensors of a store, by path and in its order, with their metadata, to be put at `path`.
///
/// # Errors
/// [`DriverError::Data`]; an earlier checkpoint at `path` then stands.
pub fn stage<'s>(
    path: &Path,
    tensors: impl Iterator<Item = (&'s str, &'s Entry)>,
    metadata: &str,
) -> Result<Staged, DriverError> {
    stage_views(path, tensors.map(|(name, entry)| (name, entry.ty.clone(), entry.buffer.bytes())), metadata)
}

/// As [`stage`], of tensors wherever they are: names, types and bytes.
fn stage_views<'s>(
    path: &Path,
    tensors: impl Iterator<Item = (&'s str, TensorType, &'s [u8])>,
    metadata: &str,
) -> Result<Staged, DriverError> {
    let broken = |error: safetensors::SafeTensorError| DriverError::Internal(format!("a checkpoint: {error}"));
    let mut parts: Vec<(Cow<'_, str>, TensorType, Cow<'_, [u8]>)> = Vec::new();
    for (name, ty, bytes) in tensors {
        match bits::packed(name, &ty, bytes) {
            Some(packed) => parts.extend(packed.map(|(name, of)| (name.into(), of.ty(), of.bytes().to_vec().into()))),
            None => parts.push((name.into(), ty, bytes.into())),
        }
    }
    let mut views = Vec::new();
    for (name, ty, bytes) in &parts {
        let view = TensorView::new(to_safe(ty.dtype), ty.shape.sizes(), bytes);
        views.push((name, view.map_err(broken)?));
    }
    let metadata = HashMap::from([(KEY.to_owned(), metadata.to_owned())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(broken)?;
    Ok(Staged::new(path, |file| file.write_all(&bytes))?)
}

/// Refuses a place for weights that one of `inputs` has, under whatever name, that cannot be written, or where
/// something else than weights is. A place where nothing is yet is good.
///
/// # Errors
/// Why another name should be chosen.
pub fn check_target(target: &Path, inputs: &[&Path]) -> Result<(), DriverError> {
    executable::check_target(target, inputs).map_err(|error| DriverError::Usage(error.to_string()))?;
    let is_weights = |target: &Path| File::open(target).is_ok_and(|mut file| matches!(header(&mut file), Ok(Ok(_))));
    if target.exists() && !is_weights(target) {
        let reason = "this is no safetensors file, and would be overwritten; choose another name".to_owned();
        return Err(DriverError::Weights { path: target.to_owned(), reason });
    }
    Ok(nnc_data::check_writable(target)?)
}

/// Reads a safetensors file, each tensor to where it stays, so that nothing is in memory twice.
///
/// # Errors
/// The file cannot be read, is no safetensors file, or holds a dtype that `nnc` does not have, a bool that is neither 0
/// nor 1, or a mask or a record of channels that does not fit its tensor.
pub fn load(path: &Path) -> Result<Checkpoint, DriverError> {
    let io = |source| DriverError::Io { doing: "read", path: path.to_owned(), source };
    let wrong = |reason: String| DriverError::Weights { path: path.to_owned(), reason };
    let kind = path.metadata().map_err(io)?;
    if !kind.is_file() && !kind.is_dir() {
        return Err(wrong("this is no plain file".to_owned()));
    }
    let mut file = File::open(path).map_err(io)?;
    let (start, header) =
        header(&mut file).map_err(io)?.map_err(|why| wrong(format!("this is no complete safetensors file ({why})")))?;
    let mut tensors = BTreeMap::new();
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let dtype = from_safe(info.dtype)
            .ok_or_else(|| wrong(format!("tensor `{name}` has dtype {:?}, which nnc does not have", info.dtype)))?;
        let (first, end) = info.data_offsets;
        // A store takes such a buffer as it is.
        let mut buffer = AlignedBuffer::zeroed(end - first);
        file.seek(SeekFrom::Start(start + first as u64)).map_err(io)?;
        file.read_exact(buffer.bytes_mut()).map_err(io)?;
        let tensor = Tensor::from_bytes(dtype, &info.shape, buffer)
            .ok_or_else(|| wrong(format!("tensor `{name}` has another number of bytes than its shape asks for")))?;
        check_bools(&name, &tensor).map_err(wrong)?;
        tensors.insert(name, tensor);
    }
    bits::unpack(&mut tensors).map_err(wrong)?;
    prune::check_tensors(&tensors).map_err(wrong)?;
    let metadata = header.metadata().as_ref().and_then(|map| map.get(KEY).cloned());
    Ok(Checkpoint { tensors, metadata })
}

/// Refuses bools that are neither 0 nor 1, which code takes for granted.
fn check_bools(name: &str, tensor: &Tensor) -> Result<(), String> {
    let bytes = if tensor.dtype() == DType::Bool { tensor.bytes() } else { &[] };
    match bytes.iter().enumerate().find(|(_, byte)| **byte > 1) {
        Some((at, byte)) => Err(format!("element {at} of `{name}` is the byte {byte}: a bool is 0 or 1")),
        None => Ok(()),
    }
}

/// A header is smaller than this.
const LARGEST_HEADER: u64 = 100 << 20;

/// What is said of a zip archive or a pickle.
const PYTORCH: &str = "it is a zip archive or a pickle, as PyTorch's own files are: write one in Python with \
                       `safetensors.torch.save_file(model.state_dict(), \"weights.safetensors\")`";

/// Where the data begins, and what the file's header says of it; or why it is no whole safetensors file.
fn header(file: &mut File) -> io::Result<Result<(u64, Metadata), String>> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let length = metadata.len();
    let mut number = [0; 8];
    if length < number.len() as u64 {
        return Ok(Err("it is too short for a header".to_owned()));
    }
    file.read_exact(&mut number)?;
    let header_bytes = u64::from_le_bytes(number);
    let start = header_bytes.saturating_add(number.len() as u64);
    if start > length || header_bytes > LARGEST_HEADER {
        if number.starts_with(b"PK\x03\x04") || matches!(number, [0x80, 2..=5, ..]) {
            return Ok(Err(PYTORCH.to_owned()));
        }
        return Ok(Err("its header has no end".to_owned()));
    }
    let mut text = vec![0; header_bytes as usize];
    file.read_exact(&mut text)?;
    let header: Metadata = match serde_json::from_slice(&text) {
        Ok(header) => header,
        Err(error) => return Ok(Err(format!("its header: {error}"))),
    };
    match header.data_len() as u64 == length - start {
        true => Ok(Ok((start, header))),
        false => Ok(Err(format!("there are {} bytes of tensors, not {}", length - start, header.data_len()))),
    }
}

fn to_safe(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::Bf16 => Dtype::BF16,
        DType::F64 => Dtype::F64,
        DType::I8 => Dtype::I8,
        DType::U8 => Dtype::U8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::Bool => Dtype::BOOL,
    }
}

fn from_safe(dtype: Dtype) -> Option<DType> {
    DType::ALL.into_iter().find(|&own| to_safe(own) == dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use std::fs;

    fn store() -> Store {
        let mut store = Store::default();
        store.insert("dense_1.w", &Tensor::from_f64(DType::F32, &[2, 3], &[1., 2., 3., 4., 5., 6.]));
        store.insert("$optimizer.dense_1.w.m", &Tensor::from_f64(DType::F32, &[2, 3], &[0.; 6]));
        store.insert("a.mask", &Tensor::from_f64(DType::Bool, &[2], &[1., 0.]));
        store
    }

    fn save(path: &Path, store: &Store, metadata: &str) {
        stage(path, store.iter(), metadata).unwrap().commit().unwrap();
    }

    #[test]
    fn what_is_written_is_read_back_and_equal_stores_write_equal_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
        save(&first, &store(), "{\"epoch\":3}");
        save(&second, &store(), "{\"epoch\":3}");
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
        let checkpoint = load(&first).unwrap();
        assert_eq!(checkpoint.metadata.as_deref(), Some("{\"epoch\":3}"));
        assert_eq!(checkpoint.tensors["dense_1.w"].to_f64(), [1., 2., 3., 4., 5., 6.]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn a_bool_is_0_or_1() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let mut store = Store::default();
        store.insert("a.seen", &Tensor::from_bytes(DType::Bool, &[3], vec![1, 0, 7]).unwrap());
        save(&path, &store, "");
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("element 2 of `a.seen` is the byte 7: a bool is 0 or 1"), "{error}");
    }

    #[test]
    fn a_truncated_file_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        save(&path, &store(), "");
        let bytes = fs::read(&path).unwrap();
        for length in [0, 5, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..length]).unwrap();
            let message = load(&path).unwrap_err().to_string();
            assert!(message.contains("w.safetensors") && message.contains("no complete safetensors"), "{message}");
        }
    }

    #[test]
    fn a_file_of_pytorch_is_said_to_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pt");
        for start in [&b"PK\x03\x04\0\0\x08\x08"[..], b"\x80\x02\x8A\x0Al\xFC\x9CF", b"\x80\x04\x95\x1A\0\0\0\0\0\0\0"]
        {
            fs::write(&path, [start, &[7; 64]].concat()).unwrap();
            let message = load(&path).unwrap_err().to_string();
            assert!(message.contains("model.pt") && message.contains("safetensors.torch.save_file"), "{message}");
        }
    }

    #[test]
    fn only_weights_are_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let [weights, table, link] = ["w.safetensors", "t.csv", "link"].map(|name| folder.path().join(name));
        save(&weights, &store(), "");
        fs::write(&table, "1,2\n").unwrap();
        fs::hard_link(&weights, &link).unwrap();
        assert!(check_target(&weights, &[&table]).is_ok() && check_target(&folder.path().join("new"), &[]).is_ok());
        assert!(check_target(&table, &[]).unwrap_err().to_string().contains("no safetensors file"));
        assert!(check_target(&link, &[&weights]).unwrap_err().to_string().contains("is an input"));
        assert!(check_target(&folder.path().join("none/w"), &[]).is_err(), "there is no such folder");
    }

    #[test]
    fn weights_of_another_model_list_what_differs() {
        let mut target = Store::default();
        target.insert("dense_1.w", &Tensor::from_f64(DType::F32, &[3, 2], &[0.; 6]));
        target.insert("dense_2.b", &Tensor::from_f64(DType::F32, &[1], &[0.]));
        let weights = BTreeMap::from([
            ("dense_1.w".to_owned(), store().tensor("dense_1.w").unwrap()),
            ("other".to_owned(), Tensor::scalar(DType::F32, 1.0)),
            ("$optimizer.x".to_owned(), Tensor::scalar(DType::F32, 1.0)),
        ]);
        let found: Vec<String> =
            target.load_weights(&weights, &Default::default()).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "dense_1.w: the model has f32[3, 2], the file has f32[2, 3]",
                "dense_2.b: the model has f32[1], the file has no such tensor",
                "other: the file has f32, the model has no such tensor",
            ]
        );
    }
}
