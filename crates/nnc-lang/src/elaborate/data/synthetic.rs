//! Examples that are made by the language: `synthetic(FUNCTION, SOURCE, count=N)`.
//!
//! The function makes one example from one of the source, and may draw random numbers; without a source it takes
//! nothing, and an expression does as well. The numbers of an example are drawn by its own number and the name of its
//! split, not by the seed of a run: so the data is the same in every run, and what is tested on is not what was trained
//! on. What is kept here is the graph of so many examples at a time, which whoever opens the data runs.

use super::at_once::{AT_ONCE, at_once};
use super::raw::RawType;
use super::{Block, Literal, SourceCall};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::elaborate::Elaborator;
use crate::elaborate::scope::{Frame, FrameKind};
use crate::elaborate::types::is_tensor;
use crate::elaborate::value::{Args, Callable, Value};
use crate::syntax::ast::{Arg, Expr, Function};
use nnc_graph::text::print;
use nnc_graph::{DType, Graph, Op, OutputKind, TensorType, ValueId};
use std::sync::Arc;

/// The name of the source.
pub(super) const SYNTHETIC: &str = "synthetic";
/// Its option that says how many examples are made.
pub(super) const COUNT: &str = "count";

/// How the examples of a split are made.
#[derive(Clone, Debug)]
pub struct Maker {
    /// Makes [`Maker::AT_ONCE`] examples. Inputs: those of `takes` by their names, and `$draw`, the numbers of the
    /// examples. Outputs: `0`, `1`, ... for the tensors of an example.
    pub graph: Arc<Graph>,
    /// What it is made from.
    pub from: Option<Box<SourceCall>>,
    /// The tensors of an example of that, with the names of their inputs.
    pub takes: Vec<(String, TensorType)>,
}

impl Maker {
    /// How many examples a run of the graph makes.
    pub const AT_ONCE: usize = AT_ONCE;
}

impl PartialEq for Maker {
    fn eq(&self, other: &Self) -> bool {
        self.from == other.from && self.takes == other.takes && print(&self.graph) == print(&other.graph)
    }
}

impl<'p> Block<'p> {
    /// Adds to a call of `synthetic` how its examples of the types `wanted` are made for the split called `split`.
    pub(super) fn make(&mut self, call: &mut SourceCall, arguments: &[Arg], split: &str, wanted: &[RawType]) {
        let mut parts = arguments.iter().filter(|argument| argument.name.is_none()).map(|argument| &argument.value);
        let Some(made) = parts.next() else { return };
        let from = match parts.next() {
            Some(source) => match self.source(source) {
                Some(found) => Some(found),
                None => return,
            },
            None => None,
        };
        if let Some(inner) = from.as_ref().filter(|inner| matches!(inner.function.as_str(), SYNTHETIC | "text")) {
            let message =
                format!("examples are made from files of numbers, pictures or sounds, not from `{}`", inner.function);
            return self.fail(Code::E0501, inner.span, message);
        }
        let mut making = self.making(split);
        let maker = making.maker(made, from, call.span, wanted);
        making.elaborator.report.into_diagnostics().into_iter().for_each(|found| self.elaborator.report.add(found));
        call.maker = maker;
    }

    /// An elaboration of its own, which sees the numbers and names that the block has bound.
    fn making(&self, split: &str) -> Making<'p> {
        let mut elaborator = Elaborator::new(self.elaborator.program, self.elaborator.options, SYNTHETIC);
        if let Some(outer) = self.elaborator.frames.last() {
            let mut frame = Frame::new(FrameKind::Data, &outer.name, split, outer.file, Span::default());
            frame.declared = outer.declared;
            let known = outer.bindings.iter().filter(|(_, binding)| !binding.value.has_tensor());
            known.for_each(|(name, binding)| frame.bind(name, binding.value.clone(), binding.span));
            elaborator.push(frame);
        }
        Making { elaborator }
    }
}

/// The elaboration of one example.
struct Making<'p> {
    elaborator: Elaborator<'p>,
}

impl Making<'_> {
    fn fail(&mut self, span: Span, message: impl Into<String>, help: &str) {
        self.elaborator.report(Diagnostic::new(Code::E0501, span, message).help(help));
    }

    fn maker(&mut self, made: &Expr, from: Option<SourceCall>, span: Span, wanted: &[RawType]) -> Option<Maker> {
        let callee = self.elaborator.eval(made);
        let (value, takes) = match (&callee, &from) {
            (Value::Poison, _) => return None,
            (Value::Function(_), _) => self.applied(&callee, from.is_some(), made.span)?,
            (_, None) => (callee, Vec::new()),
            (_, Some(_)) => {
                let help = "write `synthetic(scene, idx(\"images.gz\"))` for a `fn scene(image: u8[28, 28])`";
                self.fail(made.span, "what makes an example from another is a function, to be named here", help);
                return None;
            }
        };
        let results = self.results(&value, made.span, wanted)?;
        let graph = self.batched(&results, &takes, span)?;
        Some(Maker { graph: Arc::new(graph), from: from.map(Box::new), takes })
    }

    /// What a function gives for an example, and the types of what it takes.
    fn applied(&mut self, callee: &Value, has_source: bool, span: Span) -> Option<(Value, Vec<(String, TensorType)>)> {
        let Value::Function(callable) = callee else { return None };
        let program = self.elaborator.program;
        let function = match &**callable {
            Callable::Item(item) => program.function(*item),
            Callable::Builtin(_) | Callable::Opaque(_) => None,
        };
        let Some(function) = function else {
            self.fail(span, "this takes a `fn` of the file", "write `fn scene() -> f32[2] = normal([2])`");
            return None;
        };
        let takes = self.taken(function, span)?;
        if takes.is_empty() == has_source {
            let name = &function.name.text;
            let (message, help) = match has_source {
                true => (
                    format!("`{name}` takes nothing of the source"),
                    "give it a tensor as a parameter, or leave the source out",
                ),
                false => (
                    format!("`{name}` takes tensors, and there is no source"),
                    "name one: `synthetic(scene, idx(\"images.gz\"))`",
                ),
            };
            self.fail(span, message, help);
            return None;
        }
        let tensors: Vec<Value> = takes.iter().map(|(name, ty)| Value::Tensor(self.leaf(name, ty))).collect();
        let value = self.elaborator.call(callee, Args::positional(tensors, span), span, None);
        Some((value, takes))
    }

    /// The tensors that a function takes, which an example of the source has.
    fn taken(&mut self, function: &Function, span: Span) -> Option<Vec<(String, TensorType)>> {
        let mut takes = Vec::new();
        for param in function.params.iter().filter(|param| is_tensor(&param.ty) && param.default.is_none()) {
            if self.elaborator.quiet_type(&param.ty).is_none_or(|ty| !ty.shape.is_bound()) {
                let message =
                    format!("the size of `{}`, which `{}` takes, is no number", param.name.text, function.name.text);
                self.fail(span, message, "write the type that the files have, as `u8[28, 28]`");
                return None;
            }
            let mut ty = self.elaborator.tensor_type(&param.ty)?;
            if ty.dtype == self.elaborator.options.float {
                // Files hold f32 whatever the program computes in.
                ty.dtype = DType::F32;
            }
            takes.push((format!("source.{}", takes.len()), ty));
        }
        Some(takes)
    }

    /// An input of one example, in the float of the program.
    fn leaf(&mut self, name: &str, ty: &TensorType) -> ValueId {
        let leaf = self.elaborator.graph.emit(Op::Input { name: name.to_owned(), ty: ty.clone() }, &[]);
        let float = self.elaborator.options.float;
        match ty.dtype == DType::F32 && float != DType::F32 {
            true => self.elaborator.graph.emit(Op::Cast(float), &[leaf]),
            false => leaf,
        }
    }

    /// The tensors of an example, with the types that are declared.
    fn results(&mut self, value: &Value, span: Span, wanted: &[RawType]) -> Option<Vec<ValueId>> {
        let items = match value {
            Value::Tuple(items) => items.to_vec(),
            other => vec![other.clone()],
        };
        let mut results = Vec::with_capacity(items.len());
        for item in &items {
            let tensor = self.elaborator.tensor(item, None, span)?;
            results.push(self.in_file_float(tensor, wanted.get(results.len())));
        }
        let found: Vec<TensorType> = results.iter().map(|&result| self.elaborator.ty(result).clone()).collect();
        if found.iter().eq(wanted.iter().map(|raw| &raw.ty)) {
            return Some(results);
        }
        let listed = |types: &[TensorType]| match types {
            [only] => only.to_string(),
            several => format!("({})", several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        };
        let declared: Vec<TensorType> = wanted.iter().map(|raw| raw.ty.clone()).collect();
        let message = format!("this makes {}, and an example is declared {}", listed(&found), listed(&declared));
        self.elaborator.report(Diagnostic::new(Code::E0302, span, message));
        None
    }

    /// A result in the f32 of a file, where the program computes in another float.
    fn in_file_float(&mut self, tensor: ValueId, wanted: Option<&RawType>) -> ValueId {
        let dtype = self.elaborator.ty(tensor).dtype;
        let is_float = dtype != DType::F32 && dtype == self.elaborator.options.float;
        match wanted.is_some_and(|raw| raw.ty.dtype == DType::F32) && is_float {
            true => self.elaborator.graph.emit(Op::Cast(DType::F32), &[tensor]),
            false => tensor,
        }
    }

    /// The graph of several examples.
    fn batched(&mut self, results: &[ValueId], takes: &[(String, TensorType)], span: Span) -> Option<Graph> {
        if self.elaborator.report.has_errors() {
            return None;
        }
        let each = takes.iter().cloned().chain([("$draw".to_owned(), TensorType::scalar(DType::I64))]);
        let seed = |graph: &mut Graph| {
            let seed = graph.emit(Op::Constant(nnc_graph::Tensor::scalar_i64(0)), &[]);
            vec![("$seed".to_owned(), seed)]
        };
        match at_once(SYNTHETIC, (&self.elaborator.graph, results), each, seed) {
            Ok((mut graph, values)) => {
                for (at, value) in values.into_iter().enumerate() {
                    graph.add_output(&at.to_string(), value, OutputKind::Result);
                }
                Some(graph)
            }
            Err(reason) => {
                let message = format!("the examples cannot be made side by side: {reason}");
                self.elaborator.report(Diagnostic::new(Code::E0301, span, message));
                None
            }
        }
    }
}

impl SourceCall {
    /// How many examples are declared, of a source that makes them.
    pub fn count(&self) -> Option<usize> {
        match self.option(COUNT) {
            Some(Literal::Int(count)) => usize::try_from(*count).ok(),
            _ => None,
        }
    }
}
