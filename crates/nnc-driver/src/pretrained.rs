//! Weights from elsewhere: tensors of a file put in the place of parameters, by the names that models say.
//!
//! A parameter takes the tensor that has its own path, relative to the layer that is loaded; else what the rules of
//! `names` say ([`nnc_lang::elaborate::weight_names`]). Every parameter and state must find a tensor of its type, and
//! every tensor a taker, unless the source says that it is left out, or `partial`.

use crate::checkpoint::{self, Checkpoint};
use crate::error::DriverError;
use crate::project::Project;
use crate::prune::layers;
use crate::quantise::file;
use crate::spares::Spares;
use crate::store::{Mismatch, RESERVED, Store};
use crate::turn::write_transposed;
use nnc_graph::{DType, Shape, Tensor, TensorType, tensor};
use nnc_lang::diagnostic::{Code, Diagnostic, closest};
use nnc_lang::elaborate::weight_names::{LayerWeights, Pretrained, Source, Term, WeightNames, is_below};
use nnc_runtime::AlignedBuffer;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

/// More mismatches than this are counted, not listed.
const LISTED: usize = 12;
/// Of tensors that are odd, so many are named, and the others counted.
const NAMED: usize = 3;

/// How the tensors of a file are taken.
#[derive(Clone, Copy, Debug)]
pub struct Taking<'a> {
    /// What they are called.
    pub names: &'a WeightNames,
    /// The path of the layer that the file is for; empty for a whole program.
    pub root: &'a str,
    /// Whether floats of another dtype are converted.
    pub cast: bool,
}

/// What a file gives.
#[derive(Debug, Default)]
pub struct Taken<'t> {
    /// Tensors by the path of the parameter or state.
    pub tensors: Vec<(String, Made<'t>)>,
    /// What found no partner.
    pub mismatches: Vec<Mismatch>,
}

impl<'a> Taking<'a> {
    /// Those of a file that is for a whole program, as they are.
    pub fn whole(names: &'a WeightNames) -> Self {
        Self { names, root: "", cast: false }
    }

    /// The tensors of a file for parameters and states by path.
    pub fn take<'t>(&self, wanted: &BTreeMap<String, TensorType>, tensors: &'t BTreeMap<String, Tensor>) -> Taken<'t> {
        let mut taken = Taken::default();
        let mut used: BTreeSet<String> = BTreeSet::new();
        let mut missing = Vec::new();
        // Whether the file says our names where it could say others: then what it lacks is told of by ours.
        let mut says_ours = false;
        for (path, ty) in wanted.iter().filter(|(path, _)| !path.starts_with(RESERVED)) {
            let sources = self.names.sources(self.root, path);
            let there = |source: &&Source| source.terms.iter().all(|term| tensors.contains_key(&term.name));
            let Some(at) = sources.iter().position(|source| there(&source)) else {
                missing.push((path, ty, sources));
                continue;
            };
            says_ours |= at == 0 && sources.len() > 1;
            let source = &sources[at];
            used.extend(source.terms.iter().map(|term| term.name.clone()));
            match self.fitted(path, ty, source, tensors) {
                Ok(tensor) => taken.tensors.push((path.clone(), tensor)),
                Err(mismatch) => taken.mismatches.push(mismatch),
            }
        }
        let left_out = self.names.left_out(self.root);
        let free = |name: &&String| !name.starts_with(RESERVED) && !used.contains(*name) && !left_out.covers(name);
        let unknown: Vec<&String> = tensors.keys().filter(free).collect();
        for (path, ty, sources) in missing {
            let Some(source) = (if says_ours { sources.first() } else { sources.last() }) else { continue };
            let absent = source.terms.iter().map(|term| &term.name).find(|name| !tensors.contains_key(*name));
            let absent = absent.cloned().unwrap_or_default();
            let meant = closest(&absent, unknown.iter().map(|name| name.as_str())).map(str::to_owned);
            taken.mismatches.push(Mismatch::Missing { path: path.clone(), wanted: ty.clone(), absent, meant });
        }
        let unknown = unknown.into_iter().map(|name| (name.clone(), tensors[name].ty()));
        taken.mismatches.extend(unknown.map(|(path, found)| Mismatch::Unknown { path, found }));
        taken
    }

    /// The tensors of a file that none of these parameters and states takes, and that are not said to be left out.
    fn surplus<'t>(&self, paths: &[&str], tensors: &'t BTreeMap<String, Tensor>) -> Vec<&'t str> {
        let mut used: BTreeSet<String> = BTreeSet::new();
        for path in paths {
            let mut sources = self.names.sources(self.root, path).into_iter();
            let found = sources.find(|source| source.terms.iter().all(|term| tensors.contains_key(&term.name)));
            used.extend(found.into_iter().flat_map(|source| source.terms).map(|term| term.name));
        }
        let left_out = self.names.left_out(self.root);
        let is_free = |name: &&str| !name.starts_with(RESERVED) && !used.contains(*name) && !left_out.covers(name);
        tensors.keys().map(String::as_str).filter(is_free).collect()
    }

    /// What a source makes, when it has the parameter's type.
    fn fitted<'t>(
        &self,
        path: &str,
        wanted: &TensorType,
        source: &Source,
        tensors: &'t BTreeMap<String, Tensor>,
    ) -> Result<Made<'t>, Mismatch> {
        let (path, asked) = (path.to_owned(), source.to_string());
        let made = match made(source, tensors) {
            Ok(made) => made,
            Err(reason) => return Err(Mismatch::Unusable { path, asked, reason }),
        };
        let found = made.ty();
        if found == *wanted {
            return Ok(made);
        }
        let both_floats = found.dtype.is_float() && wanted.dtype.is_float();
        if self.cast && both_floats && found.shape == wanted.shape {
            return Ok(Made::of(Cow::Owned(cast(&made.into_tensor(), wanted.dtype))));
        }
        Err(Mismatch::Different { path, wanted: wanted.clone(), asked, found })
    }
}

/// What a source makes; nothing is cut or turned before it is known where the result lies.
#[derive(Clone, Debug)]
pub struct Made<'t> {
    tensor: Cow<'t, Tensor>,
    /// Which of so many equal parts along the first axis, and how many those are.
    part: (usize, usize),
    /// Whether the axes are in reverse order.
    transposed: bool,
}

impl<'t> Made<'t> {
    /// A tensor as it is.
    fn of(tensor: Cow<'t, Tensor>) -> Self {
        Self { tensor, part: (0, 1), transposed: false }
    }

    /// The sizes of the axes before they are reversed.
    fn dims(&self) -> Vec<usize> {
        let mut dims = self.tensor.dims().to_vec();
        dims.iter_mut().take(1).for_each(|first| *first /= self.part.1);
        dims
    }

    /// The elements in the order that they have in the file.
    fn bytes(&self) -> &[u8] {
        let (part, parts) = self.part;
        let size = self.tensor.bytes().len() / parts;
        &self.tensor.bytes()[part * size..(part + 1) * size]
    }

    /// The sizes of the axes of the result.
    fn result_dims(&self) -> Vec<usize> {
        let mut dims = self.dims();
        if self.transposed {
            dims.reverse();
        }
        dims
    }

    /// The type of the result.
    pub fn ty(&self) -> TensorType {
        TensorType { dtype: self.tensor.dtype(), shape: Shape::of(&self.result_dims()) }
    }

    /// Writes the elements, row-major, to as many bytes.
    pub fn write(&self, to: &mut [u8]) {
        self.write_by(to, NonZeroUsize::MIN);
    }

    /// As [`Self::write`], by several threads.
    fn write_by(&self, to: &mut [u8], threads: NonZeroUsize) {
        match self.transposed {
            true => write_transposed(self.bytes(), &self.dims(), self.tensor.dtype().size(), to, threads),
            false => to.copy_from_slice(self.bytes()),
        }
    }

    /// Whether it is a tensor of the file as that is.
    fn is_whole(&self) -> bool {
        self.part.1 == 1 && !self.transposed
    }

    /// The elements, row-major, in a buffer: that of the file, where they stay as they are and nobody else has it; else
    /// one that `spares` has the memory for, which get that of the file.
    pub(crate) fn into_buffer(self, spares: &mut Spares, threads: NonZeroUsize) -> AlignedBuffer {
        if !self.is_whole() {
            let mut buffer = spares.take(self.bytes().len());
            self.write_by(buffer.bytes_mut(), threads);
            spares.keep(self.tensor.into_owned());
            return buffer;
        }
        let owned = self.tensor.into_owned().into_owner::<AlignedBuffer>();
        owned.unwrap_or_else(|shared| AlignedBuffer::from_slice(shared.bytes()))
    }

    /// The result as a tensor.
    pub fn into_tensor(self) -> Cow<'t, Tensor> {
        if self.is_whole() {
            return self.tensor;
        }
        let mut bytes = vec![0; self.bytes().len()];
        self.write(&mut bytes);
        let tensor = Tensor::from_bytes(self.tensor.dtype(), &self.result_dims(), bytes);
        Cow::Owned(tensor.expect("as many elements as before"))
    }

    /// The same, independent of what it is made of: the bytes are shared.
    fn into_owned(self) -> Made<'static> {
        Made { tensor: Cow::Owned(self.tensor.into_owned()), part: self.part, transposed: self.transposed }
    }
}

/// The sum of a source's terms.
pub(crate) fn made<'t>(source: &Source, tensors: &'t BTreeMap<String, Tensor>) -> Result<Made<'t>, String> {
    let term = |term: &Term| -> Result<Made<'t>, String> {
        let tensor = &tensors[&term.name];
        let part = term.part.unwrap_or((0, 1));
        check_parts(tensor, part.1).map_err(|why| format!("`{}` {why}", term.name))?;
        Ok(Made { tensor: Cow::Borrowed(tensor), part, transposed: term.transposed })
    };
    let mut terms = source.terms.iter().map(term);
    let mut sum = terms.next().ok_or("a source has no term")??;
    for next in terms {
        let next = next?;
        if next.ty() != sum.ty() {
            return Err(format!("adds {} and {}", sum.ty(), next.ty()));
        }
        let (one, other) = (sum.into_tensor(), next.into_tensor());
        let values: Vec<f64> = one.to_f64().iter().zip(other.to_f64()).map(|(a, b)| a + b).collect();
        sum = Made::of(Cow::Owned(Tensor::from_f64(one.dtype(), one.dims(), &values)));
    }
    Ok(sum)
}

/// Refuses to cut a tensor whose first axis has not so many equal parts.
fn check_parts(tensor: &Tensor, parts: usize) -> Result<(), String> {
    let is_cut = parts == 1 || tensor.dims().first().is_some_and(|first| first.is_multiple_of(parts));
    match is_cut {
        true => Ok(()),
        false => Err(format!("is {}, and its first axis has no {parts} equal parts", tensor.ty())),
    }
}

fn cast(source: &Tensor, dtype: DType) -> Tensor {
    let size = source.dtype().size();
    let mut bytes = Vec::with_capacity(source.elements() * dtype.size());
    for element in source.bytes().chunks_exact(size) {
        tensor::encode(dtype, tensor::decode(source.dtype(), element), &mut bytes);
    }
    Tensor::from_bytes(dtype, source.dims(), bytes).expect("one element for each")
}

/// What must find a partner when layers are loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holding {
    /// All of a program's parameters are there: each tensor must find its own.
    Program,
    /// The program needs a part of the parameters alone.
    Part,
}

/// The tensors of the files that layers name (`layer enc = Encoder() from "enc.safetensors"`), by path: for those of
/// `wanted` that lie in such layers. A whole program has their masks, too.
///
/// # Errors
/// [`DriverError::Diagnostics`] for every file that cannot be read or does not fit, at the place that names it.
pub fn load_layers(
    project: &Project,
    pretrained: &Pretrained,
    wanted: &BTreeMap<String, TensorType>,
    holding: Holding,
) -> Result<BTreeMap<String, Tensor>, DriverError> {
    let mut found = BTreeMap::new();
    let mut diagnostics = Vec::new();
    for load in &pretrained.loads {
        let own = wanted.iter().filter(|(path, _)| belongs(pretrained, load, path));
        let own: BTreeMap<String, TensorType> = own.map(|(path, ty)| (path.clone(), ty.clone())).collect();
        if own.is_empty() && holding == Holding::Part {
            continue;
        }
        match load_layer(project, pretrained, load, &own, holding) {
            Ok(tensors) => found.extend(tensors),
            Err(diagnostic) => diagnostics.push(*diagnostic),
        }
    }
    match diagnostics.is_empty() {
        true => Ok(found),
        false => Err(DriverError::Diagnostics { diagnostics, sources: Box::new(project.sources.clone()) }),
    }
}

/// As [`load_layers`], into a store that has every parameter of the program.
///
/// # Errors
/// As [`load_layers`].
pub fn load_into(project: &Project, pretrained: &Pretrained, store: &mut Store) -> Result<(), DriverError> {
    if pretrained.loads.is_empty() {
        return Ok(());
    }
    let wanted = store.iter().map(|(path, entry)| (path.to_owned(), entry.ty.clone())).collect();
    for (path, tensor) in load_layers(project, pretrained, &wanted, Holding::Program)? {
        store.insert(&path, &tensor);
    }
    Ok(())
}

/// Whether a parameter comes from this file, and not from that of a layer within.
fn belongs(pretrained: &Pretrained, load: &LayerWeights, path: &str) -> bool {
    let longer = |other: &&LayerWeights| other.layer.len() > load.layer.len();
    let mut inner = pretrained.loads.iter().filter(longer);
    is_below(&load.layer, path) && !inner.any(|other| is_below(&other.layer, path))
}

fn load_layer(
    project: &Project,
    pretrained: &Pretrained,
    load: &LayerWeights,
    wanted: &BTreeMap<String, TensorType>,
    holding: Holding,
) -> Result<Vec<(String, Tensor)>, Box<Diagnostic>> {
    let path = project.folder().join(&load.file);
    let loaded = checkpoint::load(&path).map_err(|error| {
        let diagnostic = Diagnostic::new(Code::E0801, load.place, error.to_string());
        Box::new(diagnostic.help("the path is relative to the folder of the .nn file"))
    })?;
    if let Err(why) = file::refuse(&loaded.tensors) {
        return Err(Box::new(Diagnostic::new(Code::E0801, load.place, format!("\"{}\": {why}", load.file))));
    }
    let taking = Taking { names: &pretrained.names, root: &load.layer, cast: load.cast };
    let mut taken = taking.take(wanted, &loaded.tensors);
    taken.mismatches.retain(|mismatch| match mismatch {
        Mismatch::Missing { .. } => !load.partial,
        Mismatch::Unknown { .. } => !load.partial && holding == Holding::Program,
        Mismatch::Different { .. } | Mismatch::Unusable { .. } => true,
    });
    if taken.tensors.is_empty() && taken.mismatches.is_empty() {
        let message = format!("no tensor of \"{}\" belongs to the layer `{}`", load.file, load.layer);
        return Err(Box::new(Diagnostic::new(Code::E0801, load.place, message).help(BY_NAMES)));
    }
    if let Some((own, _)) = taken.tensors.iter().find(|(_, made)| !is_finite(&made.tensor)) {
        let message = format!("\"{}\" holds a NaN or an infinity for `{own}`", load.file);
        let diagnostic = Diagnostic::new(Code::E0801, load.place, message);
        return Err(Box::new(diagnostic.help("the file may be damaged, or of a training that went wrong")));
    }
    match taken.mismatches.is_empty() {
        true => {
            let paths = taken.tensors.iter().map(|(path, _)| path.as_str());
            let masks = match holding {
                Holding::Program => layers::masks(&taking, paths, &loaded.tensors),
                Holding::Part => Vec::new(),
            };
            let owned = |(path, made): (String, Made<'_>)| (path, made.into_tensor().into_owned());
            Ok(taken.tensors.into_iter().map(owned).chain(masks).collect())
        }
        false => Err(Box::new(misfit(load, &taken.mismatches))),
    }
}

/// Whether no element is a NaN or an infinity.
fn is_finite(tensor: &Tensor) -> bool {
    !tensor.dtype().is_float() || tensor.to_f64().iter().all(|value| value.is_finite())
}

const BY_NAMES: &str = "`names = {\"theirs\": \"ours\"}` says what tensors are called";

/// The diagnostic of a file that does not fit its layer.
fn misfit(load: &LayerWeights, mismatches: &[Mismatch]) -> Diagnostic {
    let message = format!("\"{}\" does not fit the layer `{}`", load.file, load.layer);
    let mut diagnostic = Diagnostic::new(Code::E0801, load.place, message);
    for mismatch in mismatches.iter().take(LISTED) {
        diagnostic = diagnostic.note(mismatch.to_string());
    }
    if mismatches.len() > LISTED {
        diagnostic = diagnostic.note(format!("and {} more", mismatches.len() - LISTED));
    }
    let other_dtype = |mismatch: &Mismatch| match mismatch {
        Mismatch::Different { wanted, found, .. } => found.shape == wanted.shape,
        Mismatch::Missing { .. } | Mismatch::Unknown { .. } | Mismatch::Unusable { .. } => false,
    };
    let missing = |mismatch: &Mismatch| matches!(mismatch, Mismatch::Missing { .. });
    let unknown = |mismatch: &Mismatch| matches!(mismatch, Mismatch::Unknown { .. });
    if mismatches.iter().all(other_dtype) {
        diagnostic.help("`cast` behind the file's name converts floats")
    } else if mismatches.iter().all(unknown) {
        diagnostic.help("a rule such as `\"head\": \"_\"` of `names` leaves a tensor out")
    } else if mismatches.iter().all(missing) {
        diagnostic.help(format!("{BY_NAMES}; `partial` leaves out what the file lacks"))
    } else {
        diagnostic.help(BY_NAMES)
    }
}

/// Mismatches, one a line, the first dozen of them.
pub fn listed(mismatches: &[Mismatch]) -> String {
    if let Some(said) = of_another_float(mismatches) {
        return said;
    }
    let shown: String = mismatches.iter().take(LISTED).map(|mismatch| format!("\n  {mismatch}")).collect();
    let more = mismatches.len().saturating_sub(LISTED);
    if more > 0 { format!("{shown}\n  ... and {more} more") } else { shown }
}

/// What is said where all that differs is the dtype of floats; nothing if there is more.
fn of_another_float(mismatches: &[Mismatch]) -> Option<String> {
    let mut kinds: Vec<(DType, DType)> = Vec::new();
    for mismatch in mismatches {
        let Mismatch::Different { wanted, found, .. } = mismatch else { return None };
        let is_float = wanted.dtype.is_float() && found.dtype.is_float() && wanted.dtype != found.dtype;
        if !is_float || wanted.shape != found.shape {
            return None;
        }
        kinds.push((wanted.dtype, found.dtype));
    }
    let (&(wanted, found), rest) = kinds.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let is_alike = rest.iter().all(|kind| *kind == (wanted, found));
    let advice = if wanted == DType::F64 { "leave out `--dtype f64`" } else { "see `--dtype`" };
    let (count, wanted, found) = (kinds.len(), wanted.name(), found.name());
    is_alike.then(|| {
        format!("\n  the model has {wanted}, the file {found}, for {count} tensors of the same shapes: {advice}")
    })
}

/// What is odd about weights for a program that only runs, in words: tensors that hold no finite numbers, and such as
/// none of the parameters and states `paths` of all of it takes.
pub fn oddities(names: &WeightNames, paths: &[&str], tensors: &BTreeMap<String, Tensor>) -> Vec<String> {
    let is_bad = |(name, tensor): &(&String, &Tensor)| {
        !name.starts_with(RESERVED) && !tensor::is_finite(tensor.dtype(), tensor.bytes())
    };
    let bad: Vec<&str> = tensors.iter().filter(is_bad).map(|(name, _)| name.as_str()).collect();
    let surplus = Taking::whole(names).surplus(paths, tensors);
    let holds = (!bad.is_empty()).then(|| {
        let verb = if bad.len() == 1 { "holds" } else { "hold" };
        format!("{} {verb} a NaN or an infinity", named(&bad))
    });
    let free = (!surplus.is_empty()).then(|| format!("nothing takes {}", named(&surplus)));
    holds.into_iter().chain(free).collect()
}

/// The first of some tensors by name, and how many more there are.
fn named(tensors: &[&str]) -> String {
    let first: Vec<String> = tensors.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    match tensors.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// The tensors of a checkpoint for every one that is wanted, as one given on the command line has them; tensors that
/// find no taker are no mistake unless something else is. The checkpoint lets go of its tensors one by one, so that the
/// weights are never there twice. So many threads write what is turned.
///
/// # Errors
/// [`DriverError::Weights`] that lists what differs.
pub fn from_checkpoint(
    names: &WeightNames,
    wanted: &BTreeMap<String, TensorType>,
    checkpoint: &mut Checkpoint,
    path: &std::path::Path,
    threads: NonZeroUsize,
) -> Result<Store, DriverError> {
    let taken = Taking::whole(names).take(wanted, &checkpoint.tensors);
    let is_unknown = |mismatch: &Mismatch| matches!(mismatch, Mismatch::Unknown { .. });
    if !taken.mismatches.iter().all(is_unknown) {
        let reason = format!("these are the weights of another model:{}", listed(&taken.mismatches));
        return Err(DriverError::Weights { path: path.to_owned(), reason });
    }
    // Tensors share their bytes with the checkpoint.
    let made: Vec<(String, Made<'static>)> =
        taken.tensors.into_iter().map(|(path, made)| (path, made.into_owned())).collect();
    checkpoint.tensors.clear();
    let mut store = Store::default();
    let mut spares = Spares::default();
    for (path, made) in made {
        let (ty, buffer) = (made.ty(), made.into_buffer(&mut spares, threads));
        store.insert_buffer(&path, ty, buffer);
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::{AlignedBuffer, Made, NonZeroUsize, Spares, Tensor, cast, check_parts};
    use nnc_graph::DType;
    use std::borrow::Cow;

    fn numbers(dims: &[usize]) -> Tensor {
        let count: usize = dims.iter().product();
        Tensor::from_f64(DType::F32, dims, &(0..count).map(|number| number as f64).collect::<Vec<_>>())
    }

    fn transposed(tensor: &Tensor) -> Tensor {
        Made { tensor: Cow::Borrowed(tensor), part: (0, 1), transposed: true }.into_tensor().into_owned()
    }

    #[test]
    fn axes_are_reversed() {
        let matrix = transposed(&numbers(&[2, 3]));
        assert_eq!((matrix.dims(), matrix.to_f64()), (&[3, 2][..], vec![0., 3., 1., 4., 2., 5.]));
        let cube = transposed(&numbers(&[2, 1, 3]));
        assert_eq!((cube.dims(), cube.to_f64()), (&[3, 1, 2][..], vec![0., 3., 1., 4., 2., 5.]));
        let large = transposed(&numbers(&[70, 45]));
        assert_eq!(transposed(&large), numbers(&[70, 45]));
        assert_eq!(large.to_f64()[70 * 44 + 69], (69 * 45 + 44) as f64);
        assert_eq!(transposed(&numbers(&[4])), numbers(&[4]));
    }

    #[test]
    fn a_buffer_of_the_file_stays_where_it_is() {
        let buffer = AlignedBuffer::from_slice(&[1.0f32, 2.0]);
        let place = buffer.bytes().as_ptr();
        let tensor = Tensor::from_bytes(DType::F32, &[2], buffer).unwrap();
        let buffer = |made: Made<'_>| made.into_buffer(&mut Spares::default(), NonZeroUsize::MIN);
        let copy = buffer(Made::of(Cow::Borrowed(&tensor)));
        assert!(copy.bytes() == tensor.bytes() && copy.bytes().as_ptr() != place);
        assert_eq!(buffer(Made::of(Cow::Owned(tensor))).bytes().as_ptr(), place);
    }

    #[test]
    fn parts_are_of_the_first_axis() {
        let whole = numbers(&[6, 2]);
        let part = |transposed| Made { tensor: Cow::Borrowed(&whole), part: (1, 3), transposed };
        let tensor = part(false).into_tensor().into_owned();
        assert_eq!((tensor.dims(), tensor.to_f64()), (&[2, 2][..], vec![4., 5., 6., 7.]));
        assert_eq!(part(true).into_tensor().to_f64(), [4., 6., 5., 7.]);
        let threads = NonZeroUsize::new(2).unwrap();
        let buffer = part(true).into_buffer(&mut Spares::default(), threads);
        assert_eq!(buffer.as_slice::<f32>(), [4., 6., 5., 7.]);
        assert!(check_parts(&numbers(&[5, 2]), 3).unwrap_err().contains("no 3 equal parts"));
        assert!(check_parts(&numbers(&[]), 3).is_err());
    }

    #[test]
    fn what_is_turned_leaves_its_memory_to_the_next() {
        let tensors = [[700, 900], [900, 800]].map(|dims| {
            let buffer = AlignedBuffer::from_slice(&vec![1.5f32; dims[0] * dims[1]]);
            Tensor::from_bytes(DType::F32, &dims, buffer).unwrap()
        });
        let mut spares = Spares::default();
        for tensor in tensors {
            let count = tensor.elements();
            let made = Made { tensor: Cow::Owned(tensor), part: (0, 1), transposed: true };
            let buffer = made.into_buffer(&mut spares, NonZeroUsize::new(2).unwrap());
            assert_eq!(buffer.as_slice::<f32>(), vec![1.5; count]);
        }
        let spare = spares.take(nnc_runtime::HUGE_PAGE);
        assert!(spare.as_slice::<f32>().iter().all(|&number| number == 1.5), "the second one's is kept");
    }

    #[test]
    fn halves_become_floats() {
        let half = Tensor::from_f64(DType::F16, &[3], &[0.5, -2.0, 65504.0]);
        assert_eq!(cast(&half, DType::F32).to_f64(), [0.5, -2.0, 65504.0]);
    }
}
