//! The matrices that may be stored, each with what stands for it, and what is told of all that stays as it is.

use crate::compiled::Compiler;
use crate::error::DriverError;
use crate::narrow::{LEAST_ELEMENTS, Measured, Outcome, Reason, Report, Row, file, timing};
use crate::store::{RESERVED, Store};
use nnc_graph::{Graph, Tensor};
use nnc_opt::narrow::{Candidate, Matrix, Rounded, round};
use nnc_opt::products::{Factor, Product, products};
use std::collections::{BTreeMap, BTreeSet};

/// The matrices that may be stored, and what stands for each.
pub struct Chosen {
    /// Those that products read, and tables.
    pub rows: Vec<Row>,
    /// What is told of products by anything else.
    pub others: Vec<Row>,
    /// What stands for each, by its path.
    pub made: BTreeMap<String, (Matrix, Rounded)>,
    /// The paths of those that are rounded by examples, not each number to the nearest, and how many these were.
    pub fitted: Option<(BTreeSet<String>, usize)>,
}

impl Chosen {
    /// Those that were found, each rounded to the nearest numbers, as far as it can be stored.
    pub fn new(found: impl Iterator<Item = (Candidate, Matrix)>, tensors: &BTreeMap<String, Tensor>) -> Self {
        let mut chosen = Self { rows: Vec::new(), others: Vec::new(), made: BTreeMap::new(), fitted: None };
        for (candidate, matrix) in found {
            let Some(floats) = tensors.get(&candidate.path) else { continue };
            let choice = match matrix.sizes(&floats.ty()) {
                _ if floats.elements() < LEAST_ELEMENTS => Err(Reason::Small),
                None => Err(Reason::Group { terms: candidate.dims[candidate.terms_axis] }),
                Some(_) => round(&matrix, floats).ok_or(Reason::NotFinite),
            };
            let Candidate { path, dims, products, .. } = candidate;
            let error = choice.as_ref().ok().map(|made| made.error);
            let row = Row {
                path: path.clone(),
                dims: dims.to_vec(),
                products,
                choice: choice.as_ref().map(|_| matrix.form).map_err(|why| *why),
                by_floats: matrix.by_floats,
                error,
                times: None,
                drop: None,
            };
            chosen.rows.push(row);
            choice.into_iter().for_each(|made| drop(chosen.made.insert(path.clone(), (matrix.clone(), made))));
        }
        chosen
    }

    /// Leaves alone by what a row takes longer than by floats. Of a table only rows are picked. `told` hears which it is at.
    pub fn time(
        &mut self,
        floats: &BTreeMap<String, Tensor>,
        compiler: &Compiler,
        told: &mut dyn FnMut(&str),
    ) -> Result<(), DriverError> {
        let is_timed = |row: &Row| row.choice.is_ok() && row.products > 0;
        let timed: Vec<usize> = (0..self.rows.len()).filter(|&at| is_timed(&self.rows[at])).collect();
        for (count, &at) in timed.iter().enumerate() {
            told(&format!("timing matrix {} of {}", count + 1, timed.len()));
            let row = &self.rows[at];
            let matrix = &self.made[&row.path].0;
            let times = timing::measure(matrix, &floats[&row.path], &self.tensors_of(matrix), compiler)?;
            let row = &mut self.rows[at];
            row.times = Some(times);
            if times.integers > times.float {
                row.choice = Err(Reason::Slower);
            }
        }
        Ok(())
    }

    /// Puts other numbers in the places of those that are there; gives these.
    pub fn exchange(&mut self, made: BTreeMap<String, Rounded>) -> BTreeMap<String, Rounded> {
        let mut before = BTreeMap::new();
        for (path, made) in made {
            let row = self.rows.iter_mut().find(|row| row.path == path);
            row.into_iter().for_each(|row| row.error = Some(made.error));
            let own = self.made.get_mut(&path).map(|(_, own)| std::mem::replace(own, made));
            before.extend(own.map(|own| (path, own)));
        }
        before
    }

    /// Those that are stored.
    pub fn matrices(&self) -> Vec<Matrix> {
        let stored = self.rows.iter().filter(|row| row.choice.is_ok());
        stored.map(|row| self.made[&row.path].0.clone()).collect()
    }

    /// What a file holds when these matrices are stored.
    pub fn tensors(&self, matrices: &[Matrix], floats: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
        let mut tensors = floats.clone();
        for matrix in matrices {
            tensors.remove(&matrix.path);
            tensors.extend(self.tensors_of(matrix));
        }
        tensors
    }

    /// What stands for a matrix.
    pub fn tensors_of(&self, matrix: &Matrix) -> Vec<(String, Tensor)> {
        let made = &self.made[&matrix.path].1;
        let scales = made.scales.iter().map(|scales| (matrix.scales_path(), scales.clone()));
        [(matrix.stored_path(), made.stored.clone())].into_iter().chain(scales).collect()
    }

    /// A row for each layer with products of a graph by something else than the matrices that there are rows of.
    pub fn add_products(&mut self, graph: &Graph, floats: &BTreeMap<String, Tensor>) {
        for product in products(graph).into_iter().filter(Product::varies) {
            let row = match product.weights() {
                Some(Factor::Weights { path, .. }) => {
                    let Some(tensor) = floats.get(path) else { continue };
                    Row::no_matrix(path, tensor.dims())
                }
                Some(_) => Row::left_alone(product.place(), &[], Reason::Constant),
                None => Row::left_alone(product.place(), &[], Reason::TwoActivations),
            };
            // What has no path is called by its place, where several may stand.
            let is_known = match row.dims.is_empty() {
                true => self.others.iter().any(|other| other.path == row.path && other.choice == row.choice),
                false => self.is_known(&row.path),
            };
            if !is_known {
                self.others.push(row);
            }
        }
    }

    fn is_known(&self, path: &str) -> bool {
        self.rows.iter().chain(&self.others).any(|row| row.path == path)
    }

    /// What else is large and stays as it is, though it is no vector.
    pub fn unread(&self, floats: &BTreeMap<String, Tensor>) -> Vec<Row> {
        let is_other = |(path, tensor): &(&String, &Tensor)| {
            let is_large = tensor.dtype().is_float() && tensor.dims().len() > 1 && tensor.elements() >= LEAST_ELEMENTS;
            is_large && !self.is_known(path)
        };
        floats.iter().filter(is_other).map(|(path, tensor)| Row::no_matrix(path, tensor.dims())).collect()
    }

    /// What is written and told.
    pub fn outcome(self, floats: &BTreeMap<String, Tensor>, measured: Option<Measured>) -> Outcome {
        let bytes = |tensors: &BTreeMap<String, Tensor>| {
            let network = tensors.iter().filter(|(path, _)| !path.starts_with(RESERVED));
            network.map(|(_, tensor)| tensor.bytes().len()).sum()
        };
        let matrices = self.matrices();
        let (before, after) = (self.tensors(&[], floats), self.tensors(&matrices, floats));
        let unread = self.unread(floats);
        let fitted =
            self.fitted.as_ref().filter(|(paths, _)| matrices.iter().any(|matrix| paths.contains(&matrix.path)));
        let rounded_by = fitted.map(|(_, examples)| *examples);
        let rows = self.rows.into_iter().chain(self.others).chain(unread).collect();
        let report = Report { measured, rounded_by, bytes: [bytes(&before), bytes(&after)], rows };
        let records: BTreeMap<String, Tensor> = matrices.iter().map(file::record).collect();
        let store = Store::of(after.iter().chain(&records).map(|(path, tensor)| (path.as_str(), tensor)));
        Outcome { report, store }
    }
}
