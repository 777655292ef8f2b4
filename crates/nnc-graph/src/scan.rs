//! Loops: the body of an [`crate::Op::Scan`], and the rules of its two sides.
//!
//! A scan runs its body `length` times. Each step has the step's number, the values carried from the step before, one
//! slice (along axis 0) of each scanned operand, and captured values, which are the same in every step. It gives the
//! next carried values, and values that are stacked along a new axis 0. A scan in reverse takes the steps from the last
//! to the first; what step `i` reads and stacks lies at place `i` either way.
//!
//! Operands of the node: first carried values, scanned, captured. Results: last carried values, stacked. The body is a
//! graph of its own whose first nodes are its inputs, in the order number, carried, slices, captured, and whose outputs
//! are the next carried values, then what is stacked. (As `jax.lax.scan`, and `Loop` of ONNX.)

use crate::{DType, Dim, Graph, Op, OutputKind, Shape, TensorType, ValueId, text};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A loop: the attributes of [`crate::Op::Scan`].
#[derive(Clone, Debug)]
pub struct Scan {
    /// One step.
    pub body: Arc<Graph>,
    /// Number of steps, ≥ 1.
    pub length: Dim,
    /// Whether the last step comes first.
    pub reverse: bool,
    /// How many values are carried from step to step.
    pub carries: usize,
    /// How many operands are scanned.
    pub slices: usize,
}

/// Bodies are one when they read the same: ids are given in program order.
impl PartialEq for Scan {
    fn eq(&self, other: &Self) -> bool {
        let same_body = || Arc::ptr_eq(&self.body, &other.body) || text::print(&self.body) == text::print(&other.body);
        (&self.length, self.reverse, self.carries, self.slices)
            == (&other.length, other.reverse, other.carries, other.slices)
            && same_body()
    }
}

impl Eq for Scan {}

impl Hash for Scan {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.length, self.reverse, self.carries, self.slices, self.body.node_count()).hash(state);
    }
}

/// The types of what goes into a body.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BodyTypes {
    /// Of carried values.
    pub carries: Vec<TensorType>,
    /// Of slices.
    pub slices: Vec<TensorType>,
    /// Of captured values.
    pub captures: Vec<TensorType>,
}

impl Scan {
    /// The inputs of a body in the making: an empty graph with nothing but them.
    pub fn inputs(name: &str, types: &BodyTypes) -> Graph {
        let mut body = Graph::new(name);
        Self::add_inputs(&mut body, types);
        body
    }

    /// Puts the inputs of a body into an empty graph.
    pub fn add_inputs(body: &mut Graph, types: &BodyTypes) {
        let mut input = |name: String, ty: &TensorType| {
            body.emit(Op::Input { name, ty: ty.clone() }, &[]);
        };
        input("index".to_owned(), &TensorType::scalar(DType::I64));
        let groups = [("carry", &types.carries), ("slice", &types.slices), ("capture", &types.captures)];
        for (word, types) in groups {
            types.iter().enumerate().for_each(|(at, ty)| input(format!("{word} {at}"), ty));
        }
    }

    /// Declares the outputs of a body: the next carried values, and what is stacked.
    pub fn outputs(body: &mut Graph, next: &[ValueId], stacked: &[ValueId]) {
        for (word, values) in [("next", next), ("stacked", stacked)] {
            for (at, &value) in values.iter().enumerate() {
                body.add_output(&format!("{word} {at}"), value, OutputKind::Result);
            }
        }
    }

    /// The body's number of the step, `i64`.
    pub fn index(&self) -> ValueId {
        ValueId(0)
    }

    /// What the body reads of a carried value.
    pub fn carry(&self, at: usize) -> ValueId {
        ValueId(1 + at as u32)
    }

    /// What the body reads of a scanned operand.
    pub fn slice(&self, at: usize) -> ValueId {
        ValueId((1 + self.carries + at) as u32)
    }

    /// What the body reads of a captured value.
    pub fn capture(&self, at: usize) -> ValueId {
        ValueId((1 + self.carries + self.slices + at) as u32)
    }

    /// How many values are captured.
    pub fn captures(&self) -> usize {
        let inputs = self.body.nodes().take_while(|(_, node)| matches!(node.op, Op::Input { .. })).count();
        inputs.saturating_sub(1 + self.carries + self.slices)
    }

    /// The body's next carried values.
    pub fn next(&self) -> Vec<ValueId> {
        self.body.outputs().iter().take(self.carries).map(|output| output.value).collect()
    }

    /// What the body gives to be stacked.
    pub fn stacked(&self) -> Vec<ValueId> {
        self.body.outputs().iter().skip(self.carries).map(|output| output.value).collect()
    }

    /// The types of the results for such operands; else what does not fit, and the operand.
    pub(crate) fn result_types(&self, operands: &[TensorType]) -> Result<Vec<TensorType>, (String, Option<usize>)> {
        self.check_body().map_err(|message| (message, None))?;
        let expected = self.carries + self.slices + self.captures();
        if operands.len() != expected {
            return Err((format!("takes {expected} operands, not {}", operands.len()), None));
        }
        if self.length.as_number().is_some_and(|length| length < 1) {
            return Err((format!("{} steps", self.length), None));
        }
        for (at, operand) in operands.iter().enumerate() {
            let inner = self.body.ty(ValueId(1 + at as u32));
            let is_slice = (self.carries..self.carries + self.slices).contains(&at);
            let wanted = if is_slice { self.stack(inner) } else { inner.clone() };
            if *operand != wanted {
                return Err((format!("the body takes {wanted}, not {operand}"), Some(at)));
            }
        }
        let types = |values: Vec<ValueId>| values.into_iter().map(|value| self.body.ty(value).clone());
        let stacked = types(self.stacked()).map(|ty| self.stack(&ty));
        Ok(types(self.next()).chain(stacked).collect())
    }

    /// The type of `length` values side by side.
    pub fn stack(&self, ty: &TensorType) -> TensorType {
        let shape: Vec<Dim> = std::iter::once(self.length.clone()).chain(ty.shape.iter().cloned()).collect();
        TensorType::new(ty.dtype, Shape::from(shape))
    }

    fn check_body(&self) -> Result<(), String> {
        let body = &self.body;
        let inputs = 1 + self.carries + self.slices + self.captures();
        let leading = body.nodes().take(inputs).all(|(_, node)| matches!(node.op, Op::Input { .. }));
        if !leading || body.node_count() < 1 + self.carries + self.slices {
            return Err("the body does not begin with its inputs".to_owned());
        }
        if body.nodes().skip(inputs).any(|(_, node)| node.op.is_leaf()) {
            return Err("the body has a parameter, a state, or an input of its own".to_owned());
        }
        if *body.ty(self.index()) != TensorType::scalar(DType::I64) {
            return Err("the number of a step is i64".to_owned());
        }
        if body.outputs().len() < self.carries || body.outputs().iter().any(|o| o.kind != OutputKind::Result) {
            return Err(format!("the body gives {} values, and carries {}", body.outputs().len(), self.carries));
        }
        for (at, next) in self.next().into_iter().enumerate() {
            let (first, next) = (body.ty(self.carry(at)), body.ty(next));
            if first != next {
                return Err(format!("carried value {at} is {first} at first, and {next} after a step"));
            }
        }
        Ok(())
    }
}
