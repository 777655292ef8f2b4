//! The primitives of the language: what the library's `.nn` files are written with.
//!
//! A primitive is an entry of one of the tables: its parameters, a line for documentation, and a function that emits
//! its nodes. Arguments are positional, then named; a parameter whose name ends in `?` may be left out. Whatever does
//! not fit is reported with the span of the argument. Compile-time numbers go in and come out where that makes sense:
//! `sqrt(2)` is a float, `prod(S)` of a list of ints is an int.
//!
//! | module | primitives |
//! | --- | --- |
//! | [`elementwise`] | functions of one or two numbers, casts, `where` |
//! | [`reduce`] | `sum`, `mean`, ..., `argmax` |
//! | [`shape`] | `reshape`, `transpose`, `on_axis`, `concat`, `pad`, ... |
//! | [`select`] | `take`, `pick`, `slice`, `update`, `one_hot` |
//! | [`window`] | `conv`, `conv_transpose`, `window_max`, `window_sum` |
//! | [`fill`] | `zeros`, `iota`, and random draws |
//! | [`learn`] | what the examples of `data` teach |
//! | [`require`] | what a body asks of its compile-time arguments |
//! | [`numbers`] | arithmetic on compile-time values |
//!
//! `grad` is not here: it is part of the evaluator.

mod call;
mod elementwise;
pub(crate) mod emit;
mod fill;
mod learn;
pub(crate) mod numbers;
mod reduce;
mod require;
mod select;
mod shape;
mod window;

use super::Elaborator;
use super::value::{Args, Value};
use crate::diagnostic::Span;
use call::Call;

/// One primitive.
pub struct Builtin {
    /// Its name in source.
    pub name: &'static str,
    /// Its parameters in order; one that ends in `?` may be left out.
    pub parameters: &'static [&'static str],
    /// What it does, with shapes.
    pub doc: &'static str,
    run: fn(&mut Call<'_, '_>) -> Option<Value>,
}

impl Builtin {
    /// `sum(x, axis?, keep?)`.
    pub fn signature(&self) -> String {
        format!("{}({})", self.name, self.parameters.join(", "))
    }
}

/// Every primitive, table by table.
pub fn all() -> impl Iterator<Item = &'static Builtin> {
    let tables: [&[Builtin]; 8] = [
        elementwise::TABLE,
        reduce::TABLE,
        shape::TABLE,
        select::TABLE,
        window::TABLE,
        fill::TABLE,
        learn::TABLE,
        require::TABLE,
    ];
    tables.into_iter().flatten()
}

/// The name of the primitive called `name`, if there is one.
pub fn find(name: &str) -> Option<&'static str> {
    all().map(|builtin| builtin.name).find(|known| *known == name)
}

/// Every name, for suggestions.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().map(|builtin| builtin.name)
}

impl Elaborator<'_> {
    /// Applies a primitive; [`Value::Poison`] after an error.
    pub fn builtin(&mut self, name: &str, args: &Args, span: Span) -> Value {
        let Some(builtin) = all().find(|builtin| builtin.name == name) else { return Value::Poison };
        if args.items.iter().any(|argument| argument.value.is_poison()) {
            return Value::Poison;
        }
        let Some(mut call) = Call::bind(self, builtin, args, span) else { return Value::Poison };
        let made = (builtin.run)(&mut call).unwrap_or(Value::Poison);
        self.counted(made, span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_primitive_has_a_name_of_its_own_and_a_doc() {
        let mut seen = BTreeSet::new();
        for builtin in all() {
            assert!(seen.insert(builtin.name), "`{}` stands in two tables", builtin.name);
            assert!(builtin.doc.ends_with('.'), "`{}` has no doc", builtin.name);
            let first_optional = builtin.parameters.iter().position(|p| p.ends_with('?'));
            let last_required = builtin.parameters.iter().rposition(|p| !p.ends_with('?'));
            if let (Some(optional), Some(required)) = (first_optional, last_required) {
                assert!(required < optional, "`{}`", builtin.signature());
            }
        }
    }
}
