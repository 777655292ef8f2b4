//! Symbolic dims: integers, names, and arithmetic on them, kept in a normal form.
//!
//! A dim is a polynomial with integer coefficients over atoms; an atom is a name, a floor division or a remainder that
//! could not be carried out. Two dims that are equal as polynomials compare equal, so `H + W == W + H` and
//! `2 * (C + 1) == 2 * C + 2`; equality beyond that (`H / 2 * 2`) is not decided and counts as different.
//! Arithmetic saturates at the ends of `i64`; the front end refuses sizes long before. A polynomial that grows without
//! end, as a sum that is squared again and again, becomes a name of which nothing is known: see [`MOST_PARTS`].

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Mul, Neg, Sub};
use std::sync::Arc;

/// The most parts of a dim: its terms, the atoms in them, and what these are made of. What would have more is the name
/// `?large`, and so equal to every other one: as for any unknown dim, rules are decided once names are bound.
const MOST_PARTS: usize = 4096;

/// A product of atoms, sorted; the empty product is 1.
type Monomial = Vec<Atom>;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Atom {
    Name(Arc<str>),
    Quotient(Box<Dim>, Box<Dim>),
    Remainder(Box<Dim>, Box<Dim>),
}

/// The extent of one axis, or any integer known to the compiler, in normal form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Dim(Form);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Form {
    Number(i64),
    Sum(Arc<Sum>),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Sum {
    /// At least one monomial is not the empty one; no coefficient is 0.
    terms: BTreeMap<Monomial, i64>,
    /// See [`MOST_PARTS`].
    parts: usize,
}

impl Sum {
    fn new(terms: BTreeMap<Monomial, i64>) -> Self {
        let parts = terms.keys().map(|monomial| 1 + monomial.iter().map(Atom::parts).sum::<usize>()).sum();
        Self { terms, parts }
    }
}

impl Dim {
    /// The dim called `name`.
    pub fn name(name: &str) -> Self {
        Self::atom(Atom::Name(name.into()))
    }

    fn atom(atom: Atom) -> Self {
        Self::from_terms(BTreeMap::from([(vec![atom], 1)]))
    }

    /// The number, when no name is left in it.
    pub fn as_number(&self) -> Option<i64> {
        match self.0 {
            Form::Number(n) => Some(n),
            Form::Sum(_) => None,
        }
    }

    /// The size of an axis of a graph that has been bound.
    ///
    /// # Panics
    /// If a name is left, or the number is negative: after binding that is a bug in the compiler.
    pub fn size(&self) -> usize {
        let number = self.as_number().unwrap_or_else(|| panic!("compiler bug: dim `{self}` is not bound"));
        usize::try_from(number).unwrap_or_else(|_| panic!("compiler bug: dim {number} is negative"))
    }

    /// Whether it is exactly the number `n`.
    pub fn is(&self, n: i64) -> bool {
        self.as_number() == Some(n)
    }

    fn from_terms(mut terms: BTreeMap<Monomial, i64>) -> Self {
        terms.retain(|_, coefficient| *coefficient != 0);
        match terms.first_key_value() {
            None => Self(Form::Number(0)),
            Some((monomial, &number)) if monomial.is_empty() && terms.len() == 1 => Self(Form::Number(number)),
            Some(_) => match Sum::new(terms) {
                Sum { parts, .. } if parts > MOST_PARTS => Self::large(),
                sum => Self(Form::Sum(Arc::new(sum))),
            },
        }
    }

    /// What has too many parts to be known.
    fn large() -> Self {
        Self::name("?large")
    }

    /// How many parts it has: 1 of a number.
    fn parts(&self) -> usize {
        match &self.0 {
            Form::Number(_) => 1,
            Form::Sum(sum) => sum.parts,
        }
    }

    fn term_count(&self) -> usize {
        match &self.0 {
            Form::Number(_) => 1,
            Form::Sum(sum) => sum.terms.len(),
        }
    }

    fn terms(&self) -> BTreeMap<Monomial, i64> {
        match &self.0 {
            Form::Number(n) => BTreeMap::from([(Vec::new(), *n)]),
            Form::Sum(sum) => sum.terms.clone(),
        }
    }

    /// Floor division. `None` when the divisor is the number 0.
    pub fn floor_div(&self, divisor: &Dim) -> Option<Dim> {
        if divisor.is(0) {
            return None;
        }
        if let (Some(a), Some(b)) = (self.as_number(), divisor.as_number()) {
            return Some(Dim::from(floor_quotient(a, b)));
        }
        let (whole, rest) = self.split_by(divisor);
        if rest.is(0) {
            return Some(whole);
        }
        if let (Some(r), Some(d)) = (rest.as_number(), divisor.as_number()) {
            return Some(whole + Dim::from(floor_quotient(r, d)));
        }
        Some(whole + Dim::atom(Atom::Quotient(Box::new(rest), Box::new(divisor.clone()))))
    }

    /// The remainder of [`Dim::floor_div`], with the divisor's sign. `None` when the divisor is the number 0.
    pub fn remainder(&self, divisor: &Dim) -> Option<Dim> {
        if divisor.is(0) {
            return None;
        }
        let (_, rest) = self.split_by(divisor);
        if rest.is(0) {
            return Some(rest);
        }
        if let (Some(r), Some(d)) = (rest.as_number(), divisor.as_number()) {
            return Some(Dim::from(r.wrapping_sub(floor_quotient(r, d).wrapping_mul(d))));
        }
        Some(Dim::atom(Atom::Remainder(Box::new(rest), Box::new(divisor.clone()))))
    }

    /// Splits into `(whole, rest)` with `self == whole * divisor + rest`, taking out every term that divides exactly.
    fn split_by(&self, divisor: &Dim) -> (Dim, Dim) {
        let divisor_terms = divisor.terms();
        let (Some((by, &number)), 1) = (divisor_terms.first_key_value(), divisor_terms.len()) else {
            let same = self == divisor;
            return if same { (Dim::from(1), Dim::from(0)) } else { (Dim::from(0), self.clone()) };
        };
        let (mut whole, mut rest) = (BTreeMap::new(), BTreeMap::new());
        for (monomial, coefficient) in self.terms() {
            match without(&monomial, by) {
                // The least i64 by -1 is one too large.
                Some(left) if coefficient.wrapping_rem(number) == 0 => {
                    whole.insert(left, coefficient.checked_div(number).unwrap_or(i64::MAX))
                }
                _ => rest.insert(monomial, coefficient),
            };
        }
        (Dim::from_terms(whole), Dim::from_terms(rest))
    }

    /// Replaces every name that `lookup` knows. `None` when a divisor becomes 0.
    pub fn bind(&self, lookup: &dyn Fn(&str) -> Option<Dim>) -> Option<Dim> {
        let Form::Sum(known) = &self.0 else { return Some(self.clone()) };
        let mut sum = Dim::from(0);
        for (monomial, &coefficient) in &known.terms {
            let mut product = Dim::from(coefficient);
            for atom in monomial {
                product = product * atom.bind(lookup)?;
            }
            sum = sum + product;
        }
        Some(sum)
    }

    /// Calls `visit` with every name in it.
    pub fn names(&self, visit: &mut dyn FnMut(&str)) {
        let Form::Sum(sum) = &self.0 else { return };
        for atom in sum.terms.keys().flatten() {
            match atom {
                Atom::Name(name) => visit(name),
                Atom::Quotient(a, b) | Atom::Remainder(a, b) => {
                    a.names(visit);
                    b.names(visit);
                }
            }
        }
    }
}

impl Atom {
    fn parts(&self) -> usize {
        match self {
            Atom::Name(_) => 1,
            Atom::Quotient(a, b) | Atom::Remainder(a, b) => a.parts() + b.parts(),
        }
    }

    fn bind(&self, lookup: &dyn Fn(&str) -> Option<Dim>) -> Option<Dim> {
        match self {
            Atom::Name(name) => Some(lookup(name).unwrap_or_else(|| Dim::atom(self.clone()))),
            Atom::Quotient(a, b) => a.bind(lookup)?.floor_div(&b.bind(lookup)?),
            Atom::Remainder(a, b) => a.bind(lookup)?.remainder(&b.bind(lookup)?),
        }
    }
}

fn floor_quotient(a: i64, b: i64) -> i64 {
    let quotient = a.wrapping_div(b);
    if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
}

/// `monomial` with the factors of `by` taken out, when it has them all.
fn without(monomial: &[Atom], by: &[Atom]) -> Option<Monomial> {
    let mut left = monomial.to_vec();
    for atom in by {
        let at = left.iter().position(|candidate| candidate == atom)?;
        left.remove(at);
    }
    Some(left)
}

impl From<i64> for Dim {
    fn from(n: i64) -> Self {
        Self(Form::Number(n))
    }
}

impl From<i32> for Dim {
    fn from(n: i32) -> Self {
        Self(Form::Number(i64::from(n)))
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self(Form::Number(i64::try_from(n).unwrap_or(i64::MAX)))
    }
}

impl Add for Dim {
    type Output = Dim;
    fn add(self, other: Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.as_number(), other.as_number()) {
            return Dim::from(a.saturating_add(b));
        }
        let mut terms = self.terms();
        for (monomial, coefficient) in other.terms() {
            let entry = terms.entry(monomial).or_insert(0);
            *entry = entry.saturating_add(coefficient);
        }
        Dim::from_terms(terms)
    }
}

impl Neg for Dim {
    type Output = Dim;
    fn neg(self) -> Dim {
        self * Dim::from(-1i64)
    }
}

impl Sub for Dim {
    type Output = Dim;
    fn sub(self, other: Dim) -> Dim {
        self + -other
    }
}

impl Mul for Dim {
    type Output = Dim;
    fn mul(self, other: Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.as_number(), other.as_number()) {
            return Dim::from(a.saturating_mul(b));
        }
        let most = self.parts() * other.term_count() + other.parts() * self.term_count();
        if most > 2 * MOST_PARTS {
            // Terms that cancel may leave less, but nobody has the time to see.
            return Dim::large();
        }
        let mut terms: BTreeMap<Monomial, i64> = BTreeMap::new();
        for (left, a) in self.terms() {
            for (right, b) in other.terms() {
                let mut monomial: Monomial = left.iter().chain(&right).cloned().collect();
                monomial.sort();
                let entry = terms.entry(monomial).or_insert(0);
                *entry = entry.saturating_add(a.saturating_mul(b));
            }
        }
        Dim::from_terms(terms)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Form::Sum(sum) = &self.0 else {
            return write!(f, "{}", self.as_number().unwrap_or_default());
        };
        // Names before numbers, positive terms first: `N - 1`, not `-1 + N`.
        let mut ordered: Vec<_> = sum.terms.iter().collect();
        ordered.sort_by_key(|(monomial, coefficient)| (monomial.is_empty(), **coefficient < 0));
        for (position, (monomial, coefficient)) in ordered.into_iter().enumerate() {
            match (position, *coefficient < 0) {
                (0, false) => {}
                (0, true) => f.write_str("-")?,
                (_, false) => f.write_str(" + ")?,
                (_, true) => f.write_str(" - ")?,
            }
            write_term(f, monomial, coefficient.unsigned_abs())?;
        }
        Ok(())
    }
}

/// A quotient or a remainder stands alone as it is, and in parentheses as a factor: what stands to the left of a `/`
/// is divided as a whole.
fn write_term(f: &mut fmt::Formatter<'_>, monomial: &[Atom], coefficient: u64) -> fmt::Result {
    if monomial.is_empty() {
        return write!(f, "{coefficient}");
    }
    if coefficient != 1 {
        write!(f, "{coefficient} * ")?;
    }
    let stands_alone = coefficient == 1 && monomial.len() == 1;
    for (position, atom) in monomial.iter().enumerate() {
        if position > 0 {
            f.write_str(" * ")?;
        }
        let (a, sign, b) = match atom {
            Atom::Name(name) => {
                f.write_str(name)?;
                continue;
            }
            Atom::Quotient(a, b) => (a, '/', b),
            Atom::Remainder(a, b) => (a, '%', b),
        };
        let (a, b) = (Part { dim: a, is_bare: a.is_product() }, Part { dim: b, is_bare: b.is_factor() });
        if stands_alone { write!(f, "{a} {sign} {b}")? } else { write!(f, "({a} {sign} {b})")? }
    }
    Ok(())
}

/// What is divided, or what it is divided by.
struct Part<'a> {
    dim: &'a Dim,
    /// Whether it needs no parentheses.
    is_bare: bool,
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_bare { write!(f, "{}", self.dim) } else { write!(f, "({})", self.dim) }
    }
}

impl Dim {
    /// Whether it prints as one product without a sign.
    fn is_product(&self) -> bool {
        self.as_number().map_or_else(|| self.single_term().is_some_and(|(_, by)| by > 0), |number| number >= 0)
    }

    /// Whether it prints as one word.
    fn is_factor(&self) -> bool {
        let is_name = |(monomial, by): (&Monomial, i64)| by == 1 && matches!(monomial[..], [Atom::Name(_)]);
        self.as_number().map_or_else(|| self.single_term().is_some_and(is_name), |number| number >= 0)
    }

    /// The product that it is, with its coefficient, if it is one and no number.
    fn single_term(&self) -> Option<(&Monomial, i64)> {
        let Form::Sum(sum) = &self.0 else { return None };
        let (monomial, by) = sum.terms.first_key_value()?;
        (sum.terms.len() == 1).then_some((monomial, *by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_form_decides_equality() {
        let (h, w) = (Dim::name("H"), Dim::name("W"));
        assert_eq!(h.clone() + w.clone(), w.clone() + h.clone());
        assert_eq!((h.clone() + Dim::from(1i64)) * Dim::from(2i64), h.clone() * Dim::from(2i64) + Dim::from(2i64));
        assert_eq!(h.clone() - h.clone(), Dim::from(0i64));
        assert_eq!((h.clone() * w.clone()).floor_div(&w), Some(h));
    }

    #[test]
    fn floor_division_rounds_down_and_splits() {
        let n = Dim::name("N");
        let two = Dim::from(2i64);
        assert_eq!(Dim::from(-3i64).floor_div(&two), Some(Dim::from(-2i64)));
        assert_eq!((n.clone() * two.clone() + Dim::from(1i64)).floor_div(&two), Some(n.clone()));
        assert_eq!((n.clone() * two.clone() + Dim::from(1i64)).remainder(&two), Some(Dim::from(1i64)));
        assert_eq!(Dim::from(-3i64).remainder(&two), Some(Dim::from(1i64)));
        assert_eq!(n.floor_div(&Dim::from(0i64)), None);
        let least = n.clone() * Dim::from(i64::MIN);
        assert_eq!(least.floor_div(&Dim::from(-1i64)), Some(n.clone() * Dim::from(i64::MAX)));
        assert_eq!(((n.clone() - Dim::from(1i64)).floor_div(&two).unwrap()).to_string(), "(N - 1) / 2");
    }

    #[test]
    fn what_grows_without_end_becomes_unknown() {
        let (mut squared, mut halves) = (Dim::name("N") + Dim::name("M") + Dim::from(1i64), Dim::name("H"));
        for _ in 0..60 {
            squared = squared.clone() * squared;
            let half = halves.floor_div(&Dim::from(2i64)).unwrap();
            let third = halves.floor_div(&Dim::from(3i64)).unwrap();
            halves = half + third;
        }
        assert!(squared.to_string().contains("?large") && squared.to_string().len() < 100_000);
        assert!(halves.to_string().len() < 100_000);
        let mut power = Dim::name("N");
        for _ in 0..60 {
            power = power.clone() * power;
        }
        assert!(power.to_string().len() < 100_000);
    }

    #[test]
    fn binding_evaluates() {
        let h = Dim::name("H");
        let out =
            (h.clone() + Dim::from(2i64) - Dim::from(3i64)).floor_div(&Dim::from(2i64)).unwrap() + Dim::from(1i64);
        let bound = out.bind(&|name| (name == "H").then(|| Dim::from(28i64)));
        assert_eq!(bound, Some(Dim::from(14i64)));
    }
}
