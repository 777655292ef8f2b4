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
        let mut equations = Vec::new();
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
            let is_table = !self.is_text(ty) && given.is_table();
            let pairs = match dims {
                Ok(dims) => match aligned(ty, &dims, is_table) {
                    None if is_models => continue,
                    pairs => pairs.ok_or_else(|| misfit(name, ty, given, &dims))?,
                },
                Err(_) if is_models => continue,
                Err(error) => return Err(error.into()),
            };
            for (dim, size) in pairs {
                let size = i64::try_from(size).unwrap_or(i64::MAX);
                if size < 1 {
                    return Err(DriverError::Usage(format!("--input {name}: is empty")));
                }
                equations.push(Equation { input: name, dim, size });
            }
        }
        solved(equations)
    }
}

/// A dim of an input, and the size that it has in what is given.
struct Equation<'t> {
    input: &'t str,
    dim: &'t Dim,
    size: i64,
}

/// The sizes of names that dims are made of: of a bare name at once, of `2 * C` and the like where all but one name in
/// it are known. What says nothing more is compared when it is decoded.
fn solved(mut equations: Vec<Equation<'_>>) -> Result<BTreeMap<String, i64>, DriverError> {
    let mut found: BTreeMap<String, (i64, &str)> = BTreeMap::new();
    // Bare names first: where inputs disagree, they say it best.
    equations.sort_by_key(|equation| own_name(equation.dim).is_none());
    while !equations.is_empty() {
        let before = equations.len();
        let mut open = Vec::new();
        for equation in equations {
            let Equation { input, dim, size } = equation;
            if let Some(letter) = own_name(dim) {
                match found.get(&letter) {
                    Some(&(known, other)) if known != size => {
                        let message = format!("`{letter}` is {known} in `{other}`, and {size} in `{input}`");
                        return Err(DriverError::Usage(message));
                    }
                    Some(_) => {}
                    None => drop(found.insert(letter, (size, input))),
                }
                continue;
            }
            let known = |name: &str| found.get(name).map(|&(size, _)| Dim::from(size));
            match dim.bind(&known) {
                Some(rest) if rest.as_number().is_some() => {}
                Some(rest) => match unknown(&rest, size) {
                    Some((letter, Some(size))) => drop(found.insert(letter, (size, input))),
                    Some((letter, None)) => {
                        let message = format!("no whole `{letter}` makes `{dim}` in `{input}` the {size} that it has");
                        return Err(DriverError::Usage(message));
                    }
                    None => open.push(equation),
                },
                None => {}
            }
        }
        if open.len() == before {
            break;
        }
        equations = open;
    }
    Ok(found.into_iter().map(|(letter, (size, _))| (letter, size)).collect())
}

/// The only name in a dim that is linear in it, with its size where that is a whole number from 1 on.
fn unknown(dim: &Dim, size: i64) -> Option<(String, Option<i64>)> {
    let mut names = Vec::new();
    dim.names(&mut |name| names.push(name.to_owned()));
    names.sort();
    names.dedup();
    let [name] = names.as_slice() else { return None };
    let at = |value: i64| dim.bind(&|_| Some(Dim::from(value)))?.as_number();
    let (zero, one) = (at(0)?, at(1)?);
    let slope = one.checked_sub(zero).filter(|&slope| slope != 0)?;
    if Dim::from(slope) * Dim::name(name) + Dim::from(zero) != *dim {
        return None;
    }
    let rest = size.checked_sub(zero)?;
    let solution = (rest % slope == 0).then(|| rest / slope).filter(|&solution| solution >= 1);
    Some((name.clone(), solution))
}

/// The dims of one example.
fn row(ty: &TensorType) -> &[Dim] {
    match ty.shape.split_first() {
        Some((first, rest)) if own_name(first).as_deref() == Some(ROWS) => rest,
        _ => &ty.shape,
    }
}

/// The dims of one example with their sizes: the axis of examples may be there or not, and that of an image's channels.
/// A table has lines, each of which is an example, or a row of a matrix that has no axis of examples.
fn aligned<'t>(ty: &'t TensorType, dims: &[usize], is_table: bool) -> Option<Vec<(&'t Dim, usize)>> {
    let row = row(ty);
    let is_one = row.len() == ty.shape.rank();
    let behind = match (dims.len(), row.len()) {
        (2, 1) if is_table => &dims[1..],
        (2, 2) if is_table && is_one => dims,
        _ if is_table => return None,
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
        aligned(ty, dims, false).map(|pairs| pairs.into_iter().map(shown).collect())
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
        let lines = |ty: &TensorType| aligned(ty, &[4, 6], true).map(|pairs| pairs.iter().map(|pair| pair.1).collect());
        assert_eq!(lines(&TensorType::new(DType::F32, vec![name("N"), name("K")])), Some(vec![6]));
        assert_eq!(lines(&TensorType::new(DType::F32, vec![name("M"), name("K")])), Some(vec![4, 6]));
        assert_eq!(lines(&image), None);
        let table = TensorType::new(DType::F32, vec![name("K"), name("K")]);
        assert_eq!(sizes(&table, &[2, 3]), pairs(&[("K", 2), ("K", 3)]));
        assert_eq!(sizes(&table, &[1, 2, 3]), None);
    }

    #[test]
    fn names_in_formulas_are_solved() {
        let (c, h, w) = (Dim::name("C"), Dim::name("H"), Dim::name("W"));
        let two = Dim::from(2i64);
        let dims =
            [two.clone() * c.clone() + Dim::from(1i64), h.clone() * w.clone(), h.clone(), w.floor_div(&two).unwrap()];
        let solve = |sizes: [i64; 4]| {
            let pairs = dims.iter().zip(sizes).map(|(dim, size)| Equation { input: "x", dim, size });
            solved(pairs.collect()).map_err(|error| error.to_string())
        };
        let expected = [("C", 3), ("H", 5), ("W", 4)].map(|(name, size)| (name.to_owned(), size));
        assert_eq!(solve([7, 20, 5, 2]), Ok(BTreeMap::from(expected)));
        assert_eq!(solve([8, 20, 5, 2]), Err("no whole `C` makes `2 * C + 1` in `x` the 8 that it has".to_owned()));
        let doubled = [c.clone(), two * c];
        let pairs = doubled.iter().zip([3, 7]).map(|(dim, size)| Equation { input: "x", dim, size });
        assert_eq!(solved(pairs.collect()).unwrap(), BTreeMap::from([("C".to_owned(), 3)]));
    }
}
