//! A sparse constant matrix as lists of what is multiplied: the tables that its kernels walk.
//!
//! Lists of neighbouring columns are walked side by side, so that the sums of one hide the latency of another:
//! `together` lists make a bundle, and the shorter ones are filled up with zeros to the length of the longest. Step `s`
//! of all bundles, list `l` of its bundle, is entry `s * together + l`. The terms of each column stand in the order of
//! k.
//!
//! The tables follow from the pattern and the number of rows alone, whatever the machine.

use super::pattern::Pattern;

/// Lanes of a look-up.
pub const LOOKED_UP: usize = 8;

/// What an entry of a list is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// So many neighbouring columns at one k, where any of them is not zero: a vector lies along the columns, and each
    /// element of a row of A is repeated for it. What block sparsity is made for.
    Blocks(usize),
    /// Eight neighbouring columns, each at a k of its own from the next eight: A's elements are looked up in a register
    /// that holds those of the window. For few rows.
    LookUp,
    /// One element: vectors lie along the rows of A, which is transposed for that, and the element is repeated (Elsen,
    /// Dukhan, Gale, Simonyan, "Fast Sparse ConvNets", 2020). For many rows.
    Elements,
}

impl Form {
    /// Columns of a list.
    pub fn width(self) -> usize {
        match self {
            Self::Blocks(width) => width,
            Self::LookUp => LOOKED_UP,
            Self::Elements => 1,
        }
    }
}

/// A place of the matrix, column and k; `None` where a list is filled up.
type Element = Option<(usize, usize)>;

/// The tables of a matrix.
#[derive(Clone, Debug)]
pub struct Lists {
    /// What entries are.
    pub form: Form,
    /// Lists of a bundle.
    pub together: usize,
    /// Where the steps of each bundle begin, and where the last one ends.
    pub starts: Vec<usize>,
    /// For each entry its k, or the first of its window.
    pub indices: Vec<usize>,
    /// For each element of an entry, of a look-up, its place in the window.
    pub places: Vec<u8>,
    /// For each element of an entry where it stands in the matrix.
    pub elements: Vec<Element>,
}

/// One list: for each entry its index, with the place in the window and in the matrix of each of its elements.
type List = Vec<(usize, Vec<(u8, Element)>)>;

impl Lists {
    /// The lists of all columns in their order, `together` at a time.
    pub fn in_order(pattern: &Pattern, form: Form, together: usize) -> Self {
        let lists = pattern.columns.div_ceil(form.width()).next_multiple_of(together);
        let lists: Vec<List> = (0..lists).map(|at| list(pattern, form, at * form.width())).collect();
        Self::bundled(form, together, &lists)
    }

    /// Lists of single elements: of each its column, the k that its terms count from, and those.
    pub fn of_elements(lists: &[(usize, usize, Vec<usize>)], together: usize) -> Self {
        let list = |(column, start, terms): &(usize, usize, Vec<usize>)| -> List {
            terms.iter().map(|&k| (k, vec![(0, Some((*column, start + k)))])).collect()
        };
        Self::bundled(Form::Elements, together, &lists.iter().map(list).collect::<Vec<_>>())
    }

    fn bundled(form: Form, together: usize, lists: &[List]) -> Self {
        let mut made = Self { form, together, starts: vec![0], indices: vec![], places: vec![], elements: vec![] };
        for bundle in lists.chunks(together) {
            let steps = bundle.iter().map(Vec::len).max().unwrap_or(0);
            for step in 0..steps {
                bundle.iter().for_each(|list| made.push(list.get(step)));
            }
            made.starts.push(made.starts[made.starts.len() - 1] + steps);
        }
        made
    }

    fn push(&mut self, entry: Option<&(usize, Vec<(u8, Element)>)>) {
        let filling = (0, vec![(0, None); self.form.width()]);
        let (index, elements) = entry.unwrap_or(&filling);
        self.indices.push(*index);
        self.places.extend(elements.iter().map(|(place, _)| *place));
        self.elements.extend(elements.iter().map(|(_, element)| *element));
    }

    /// The same with each index made into where its term lies.
    pub fn placed(mut self, place: impl Fn(usize) -> usize) -> Self {
        self.indices.iter_mut().for_each(|index| *index = place(*index));
        self
    }

    /// Bundles.
    pub fn bundles(&self) -> usize {
        self.starts.len() - 1
    }

    /// Entries of all lists, with what fills them up.
    pub fn entries(&self) -> usize {
        self.indices.len()
    }
}

/// The list of the columns from `first` on.
fn list(pattern: &Pattern, form: Form, first: usize) -> List {
    match form {
        Form::Blocks(width) => (0..pattern.depth)
            .filter(|&k| (first..first + width).any(|column| pattern.is_kept(column, k)))
            .map(|k| (k, (first..first + width).map(|column| (0, element(pattern, column, k))).collect()))
            .collect(),
        Form::LookUp => windows(pattern, first),
        Form::Elements if first < pattern.columns => {
            pattern.terms(first).map(|k| (k, vec![(0, Some((first, k)))])).collect()
        }
        Form::Elements => Vec::new(),
    }
}

fn element(pattern: &Pattern, column: usize, k: usize) -> Element {
    pattern.is_kept(column, k).then_some((column, k))
}

/// Look-ups: each begins at the least term that is left, and takes of every column its next one if the window has it.
fn windows(pattern: &Pattern, first: usize) -> List {
    let columns: Vec<Vec<usize>> = (first..first + LOOKED_UP)
        .map(|column| if column < pattern.columns { pattern.terms(column).collect() } else { Vec::new() })
        .collect();
    let mut done = [0; LOOKED_UP];
    let mut list = List::new();
    loop {
        let next = columns.iter().zip(&done).filter_map(|(terms, &done)| terms.get(done)).min();
        let Some(&next) = next else { return list };
        let window = next.min(pattern.depth.saturating_sub(LOOKED_UP));
        let taken = columns.iter().zip(&mut done).enumerate().map(|(lane, (terms, done))| {
            let Some(&k) = terms.get(*done).filter(|&&k| k < window + LOOKED_UP) else { return (0, None) };
            *done += 1;
            ((k - window) as u8, Some((first + lane, k)))
        });
        list.push((window, taken.collect()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern() -> Pattern {
        Pattern::new(21, 40, |column, k| (column * 7 + k * 5) % 9 == 0)
    }

    /// Each kept element stands in exactly one entry, and those of a column in the order of k.
    fn check(lists: &Lists) {
        let pattern = pattern();
        for column in 0..pattern.columns {
            let of_column = lists.elements.iter().flatten().filter(|(own, _)| *own == column).map(|(_, k)| *k);
            assert_eq!(of_column.collect::<Vec<_>>(), pattern.terms(column).collect::<Vec<_>>(), "{column}");
        }
        assert_eq!(lists.entries(), lists.starts[lists.bundles()] * lists.together);
        assert_eq!(lists.elements.len(), lists.entries() * lists.form.width());
    }

    #[test]
    fn every_element_stands_in_its_place_once() {
        for form in [Form::Blocks(8), Form::Blocks(16), Form::LookUp, Form::Elements] {
            (1..=4).for_each(|together| check(&Lists::in_order(&pattern(), form, together)));
        }
    }

    #[test]
    fn windows_hold_what_is_looked_up() {
        let lists = Lists::in_order(&pattern(), Form::LookUp, 2);
        for (at, element) in lists.elements.iter().enumerate() {
            let Some((_, k)) = element else { continue };
            let window = lists.indices[at / LOOKED_UP];
            assert_eq!(window + usize::from(lists.places[at]), *k);
            assert!(window + LOOKED_UP <= pattern().depth);
        }
    }
}
