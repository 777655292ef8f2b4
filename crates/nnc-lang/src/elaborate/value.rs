//! What an expression evaluates to while a program is elaborated.
//!
//! Compile-time values (ints, floats, bools, strings, lists, functions) live here; a tensor is an id in the graph under
//! construction. A number literal stays a compile-time value until it meets a tensor, whose dtype it then takes (int
//! to float, never back). When a body is checked on its own, ints are symbolic dims, and floats and bools are unknown.

use crate::diagnostic::Span;
use nnc_graph::{Dim, TensorType, ValueId};
use std::rc::Rc;

/// A value at compile time.
#[derive(Clone, Debug)]
pub enum Value {
    /// A value of the graph under construction.
    Tensor(ValueId),
    /// An integer; symbolic while a dim is unbound or a body is checked on its own.
    Int(Dim),
    /// A float; `None` while a body is checked on its own.
    Float(Option<f64>),
    /// A truth value; `None` when it depends on something unknown.
    Bool(Option<bool>),
    /// A string; `None` while a body is checked on its own.
    Str(Option<Rc<str>>),
    /// A list. `...S` in a signature binds `S` to a list of ints.
    List(Rc<Vec<Value>>),
    /// A tuple.
    Tuple(Rc<Vec<Value>>),
    /// Something that can be called.
    Function(Rc<Callable>),
    /// A named layer, shared by its uses.
    Layer(Rc<Layer>),
    /// Nothing is known of it: an error was reported already, or the two branches of an unknown condition differ.
    /// Whatever takes it is silent and gives it on.
    Poison,
}

impl Value {
    /// An int.
    pub fn int(n: i64) -> Self {
        Self::Int(Dim::from(n))
    }

    /// A known float.
    pub fn float(x: f64) -> Self {
        Self::Float(Some(x))
    }

    /// A known string.
    pub fn str(text: &str) -> Self {
        Self::Str(Some(text.into()))
    }

    /// A list.
    pub fn list(items: Vec<Value>) -> Self {
        Self::List(Rc::new(items))
    }

    /// A tuple.
    pub fn tuple(items: Vec<Value>) -> Self {
        Self::Tuple(Rc::new(items))
    }

    /// Whether it is [`Value::Poison`].
    pub fn is_poison(&self) -> bool {
        matches!(self, Self::Poison)
    }

    /// Whether a graph value is in it.
    pub fn has_tensor(&self) -> bool {
        match self {
            Self::Tensor(_) => true,
            Self::List(items) | Self::Tuple(items) => items.iter().any(Self::has_tensor),
            Self::Int(_) | Self::Float(_) | Self::Bool(_) | Self::Str(_) => false,
            Self::Function(_) | Self::Layer(_) | Self::Poison => false,
        }
    }

    /// The kind in words, for messages; a tensor's type comes from [`super::Elaborator::describe`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tensor(_) => "a tensor",
            Self::Int(_) => "an int",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a bool",
            Self::Str(_) => "a string",
            Self::List(_) => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Function(_) => "a function",
            Self::Layer(_) => "a layer",
            Self::Poison => "an unknown value",
        }
    }
}

/// Something that can be called.
#[derive(Clone, Debug)]
pub enum Callable {
    /// A `fn`, `model`, `optimizer` or `metric` of the program.
    Item(super::program::ItemId),
    /// A primitive of the compiler, by name.
    Builtin(&'static str),
    /// A function-typed parameter of a body that is checked on its own: its type, and where that is written.
    Opaque(Rc<super::types::FunctionType>),
}

/// A model with its compile-time arguments and a place for its parameters: what `layer` makes.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its name in the source.
    pub name: String,
    /// The prefix of its parameters; empty for the model of a recipe.
    pub path: String,
    /// The model.
    pub item: super::program::ItemId,
    /// Its compile-time arguments.
    pub arguments: Vec<Argument>,
    /// Whether it stays as it is in training.
    pub frozen: bool,
    /// Where it was made.
    pub span: Span,
}

/// One argument of a call.
#[derive(Clone, Debug)]
pub struct Argument {
    /// The name it was passed by, and where that stands.
    pub name: Option<(String, Span)>,
    /// What is passed.
    pub value: Value,
    /// Where it stands.
    pub span: Span,
}

/// The arguments of a call.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// In order; a piped value is the first.
    pub items: Vec<Argument>,
    /// What the context wants of the result: the annotation of a `param` gives `zeros()` its shape.
    pub expected: Option<TensorType>,
}

impl Args {
    /// Positional arguments that all stand at `span`.
    pub fn positional(values: impl IntoIterator<Item = Value>, span: Span) -> Self {
        let items = values.into_iter().map(|value| Argument { name: None, value, span }).collect();
        Self { items, expected: None }
    }
}
