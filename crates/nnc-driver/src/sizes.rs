//! The sizes that an answer's inputs have, told by what is given for them before the program is made.

use crate::answer::Inputs;
use crate::error::DriverError;
use nnc_data::Given;
use nnc_graph::{Dim, TensorType};
use std::collections::BTreeMap;

/// The axis of examples: a program is made for so many rows at a time.
pub(crate) const ROWS: &str = "N";

impl Inputs {
    /// The sizes of the dims that are names in the inputs of the answer, from what is given. What has other sizes than
    /// its type leaves open is found when it is decoded.
    ///
    /// # Errors
    /// A damaged file, an array with another number of axes, or inputs that do not agree on a size.
    pub fn sizes(&self, given: &BTreeMap<String, Given>) -> Result<BTreeMap<String, i64>, DriverError> {
        let mut found: BTreeMap<String, (i64, &str)> = BTreeMap::new();
        for (name, ty) in self.tensors() {
            let Some(given) = given.get(name).filter(|_| !row(ty).iter().all(|dim| dim.as_number().is_some())) else {
                continue;
            };
            let is_models = self.open.iter().any(|(open, _)| open == name);
            let dims = match self.is_text(ty) {
                true => given.text_dims(self.tokens.as_ref()),
                false => given.dims(),
            };
            // A table or a picture may fill a model's input whose sizes it does not tell: that is found when it is
            // decoded.
            let pairs = match dims {
                Ok(dims) => match aligned(ty, &dims) {
                    None if is_models => continue,
                    pairs => pairs.ok_or_else(|| misfit(name, ty, given, &dims))?,
                },
                Err(_) if is_models => continue,
                Err(error) => return Err(error.into()),
            };
            for (dim, size) in pairs {
                let Some(letter) = own_name(dim) else { continue };
                let size = i64::try_from(size).unwrap_or(i64::MAX);
                if size < 1 {
                    return Err(DriverError::Usage(format!("--input {name}: is empty")));
                }
                match found.get(&letter) {
                    Some(&(known, other)) if known != size => {
                        let message = format!("`{letter}` is {known} in `{other}`, and {size} in `{name}`");
                        return Err(DriverError::Usage(message));
                    }
                    Some(_) => {}
                    None => drop(found.insert(letter, (size, name))),
                }
            }
        }
        Ok(found.into_iter().map(|(letter, (size, _))| (letter, size)).collect())
    }
}

/// The dims of one example.
fn row(ty: &TensorType) -> &[Dim] {
    match ty.shape.split_first() {
        Some((first, rest)) if own_name(first).as_deref() == Some(ROWS) => rest,
        _ => &ty.shape,
    }
}

/// The dims of one example with their sizes: the axis of examples may be there or not, and that of an image's channels.
fn aligned<'t>(ty: &'t TensorType, dims: &[usize]) -> Option<Vec<(&'t Dim, usize)>> {
    let row = row(ty);
    let behind = match (dims.len(), row.len()) {
        (found, wanted) if found == wanted => dims,
        (found, wanted) if found == wanted + 1 && wanted < ty.shape.rank() => &dims[1..],
        (2, 3) => return Some(row[1..].iter().zip(dims.iter().copied()).collect()),
        _ => return None,
    };
    Some(row.iter().zip(behind.iter().copied()).collect())
}

fn misfit(name: &str, ty: &TensorType, given: &Given, dims: &[usize]) -> DriverError {
    let file = given.name().display();
    DriverError::Usage(format!("{file}: `{name}` is {ty}, and this has the shape {dims:?}"))
}

/// The name that a dim is.
fn own_name(dim: &Dim) -> Option<String> {
    let mut names = Vec::new();
    dim.names(&mut |name| names.push(name.to_owned()));
    let name = names.pop()?;
    (Dim::name(&name) == *dim).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nnc_graph::DType;

    fn sizes(ty: &TensorType, dims: &[usize]) -> Option<Vec<(String, usize)>> {
        let shown = |(dim, size): (&Dim, usize)| (dim.to_string(), size);
        aligned(ty, dims).map(|pairs| pairs.into_iter().map(shown).collect())
    }

    #[test]
    fn rows_and_channels_may_be_left_out() {
        let name = |text: &str| Dim::name(text);
        let image = TensorType::new(DType::F32, vec![name("N"), Dim::from(3i64), name("H"), name("W")]);
        let pairs = |all: &[(&str, usize)]| Some(all.iter().map(|(dim, size)| ((*dim).to_owned(), *size)).collect());
        assert_eq!(sizes(&image, &[3, 5, 7]), pairs(&[("3", 3), ("H", 5), ("W", 7)]));
        assert_eq!(sizes(&image, &[9, 3, 5, 7]), pairs(&[("3", 3), ("H", 5), ("W", 7)]));
        assert_eq!(sizes(&image, &[5, 7]), pairs(&[("H", 5), ("W", 7)]));
        assert_eq!(sizes(&image, &[7]), None);
        let table = TensorType::new(DType::F32, vec![name("K"), name("K")]);
        assert_eq!(sizes(&table, &[2, 3]), pairs(&[("K", 2), ("K", 3)]));
        assert_eq!(sizes(&table, &[1, 2, 3]), None);
    }
}
