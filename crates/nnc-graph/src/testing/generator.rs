//! The pool of values that random ops draw from, and what is known of each.

use super::builders::{self, BUILDERS, LOOPS};
use super::{GraphOptions, Rng, random_tensor};
use crate::{BinaryOp, DType, Graph, Op, Origin, OutputKind, ReduceOp, Shape, Tensor, TensorType, UnaryOp, ValueId};

/// A float value beyond this is squashed before it is used again.
const LARGEST: f64 = 64.0;

/// What the generator knows of a value.
#[derive(Clone, Copy)]
pub(super) struct Fact {
    /// No element is larger in magnitude (floats).
    pub(super) bound: f64,
    /// No rounding has touched it, on any engine.
    pub(super) exact: bool,
}

pub(super) struct Generator {
    pub(super) graph: Graph,
    pub(super) rng: Rng,
    pub(super) options: GraphOptions,
    facts: Vec<Fact>,
    leaves: usize,
}

pub(super) fn generate(seed: u64, options: &GraphOptions) -> Graph {
    let mut generator = Generator::new(seed, options);
    for _ in 0..options.ops {
        let (_, build) = generator.rng.choose(BUILDERS);
        generator.draw_origin();
        build(&mut generator);
    }
    if options.grad {
        builders::grad(&mut generator);
    }
    generator.finish()
}

pub(super) fn generate_one(name: &str, seed: u64, options: &GraphOptions) -> Option<Graph> {
    let (_, build) = BUILDERS.iter().chain(LOOPS).find(|(known, _)| *known == name)?;
    let mut generator = Generator::new(seed, options);
    build(&mut generator);
    Some(generator.finish())
}

impl Generator {
    fn new(seed: u64, options: &GraphOptions) -> Self {
        let graph = Graph::new(&format!("random_{seed}"));
        Self { graph, rng: Rng::new(seed), options: options.clone(), facts: Vec::new(), leaves: 0 }
    }

    pub(super) fn ty(&self, value: ValueId) -> TensorType {
        self.graph.ty(value).clone()
    }

    pub(super) fn fact(&self, value: ValueId) -> Fact {
        self.facts[value.index()]
    }

    /// Appends a node with one result of which `fact` is known.
    pub(super) fn emit(&mut self, op: Op, operands: &[ValueId], fact: Fact) -> ValueId {
        let value = self.graph.emit(op, operands);
        self.facts.push(fact);
        value
    }

    /// Appends a node that moves elements of its first operand: its facts are that operand's.
    pub(super) fn move_elements(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let fact = self.fact(operands[0]);
        self.emit(op, operands, fact)
    }

    /// Notes values that were emitted past [`Generator::emit`].
    pub(super) fn note_new(&mut self, fact: Fact) {
        self.facts.resize(self.graph.value_count(), fact);
    }

    fn draw_origin(&mut self) {
        let line = self.rng.int(1, 40);
        let origin = Origin {
            function: self.rng.choose(&["dense", "relu", "layer_norm"]).to_owned(),
            path: self.rng.choose(&["", "dense_1", "block[0].dense_2"]).to_owned(),
            place: format!("random.nn:{line}"),
        };
        let id = if self.rng.one_in(3) { None } else { Some(self.graph.intern_origin(origin)) };
        self.graph.set_origin(id);
    }

    /// A shape of `rank` small dims.
    pub(super) fn shape(&mut self, rank: usize) -> Shape {
        let largest = if rank > 3 { 3 } else { 5 };
        (0..rank).map(|_| self.rng.int(1, largest).into()).collect::<Vec<crate::Dim>>().into()
    }

    /// A new input, parameter, state or constant.
    pub(super) fn leaf(&mut self, ty: &TensorType) -> ValueId {
        let (number, ty) = (self.leaves, ty.clone());
        self.leaves += 1;
        let op = match self.rng.int(0, 5) {
            0 if ty.dtype.is_float() => Op::State { path: format!("layer_{number}.mean"), ty },
            1 | 2 if ty.dtype.is_float() => Op::Param { path: format!("layer_{number}.w"), ty },
            3 => Op::Constant(random_tensor(&mut self.rng, ty.dtype, &ty.shape.sizes())),
            _ => Op::Input { name: format!("input_{number}"), ty },
        };
        let value = self.emit(op, &[], Fact { bound: 2.0, exact: true });
        if self.rng.one_in(4) {
            self.graph.set_name(value, &format!("x{number}"));
        }
        value
    }

    /// A scalar constant of a whole number.
    pub(super) fn number(&mut self, dtype: DType, value: f64) -> ValueId {
        self.emit(Op::Constant(Tensor::scalar(dtype, value)), &[], Fact { bound: value.abs(), exact: true })
    }

    /// One number everywhere.
    pub(super) fn splat(&mut self, ty: &TensorType, value: f64) -> ValueId {
        let scalar = self.number(ty.dtype, value);
        if ty.shape.rank() == 0 {
            return scalar;
        }
        self.move_elements(Op::Broadcast { shape: ty.shape.clone(), axes: Vec::new() }, &[scalar])
    }

    fn candidates(&self, fits: impl Fn(&TensorType) -> bool) -> Vec<ValueId> {
        let ids = (0..self.graph.value_count() as u32).map(ValueId);
        ids.filter(|&value| fits(self.graph.ty(value))).collect()
    }

    /// A value whose type fits, mostly an old one; else a new leaf of the type that `make` gives.
    fn pick(&mut self, fits: impl Fn(&TensorType) -> bool, make: impl FnOnce(&mut Self) -> TensorType) -> ValueId {
        let candidates = self.candidates(fits);
        if candidates.is_empty() || self.rng.one_in(4) {
            let ty = make(self);
            return self.leaf(&ty);
        }
        let value = self.rng.choose(&candidates);
        self.squash(value)
    }

    /// `value`, through a hyperbolic tangent when it may be large.
    pub(super) fn squash(&mut self, value: ValueId) -> ValueId {
        if !self.ty(value).dtype.is_float() || self.fact(value).bound <= LARGEST {
            return value;
        }
        self.emit(Op::Unary(UnaryOp::Tanh), &[value], Fact { bound: 1.0, exact: false })
    }

    /// A value of exactly this type.
    pub(super) fn of_type(&mut self, ty: &TensorType) -> ValueId {
        let wanted = ty.clone();
        if ty.dtype.is_float() && self.rng.one_in(6) {
            let number = self.rng.choose(&[-1.0, 0.0, 0.5, 1.0, 2.0]);
            return self.splat(&wanted, number);
        }
        self.pick(|candidate| candidate == ty, move |_| wanted)
    }

    /// A float value of any shape up to rank 3.
    pub(super) fn float(&mut self) -> ValueId {
        let rank = self.rng.index(4);
        let dtype = self.options.float;
        self.pick(
            |ty| ty.dtype == dtype && ty.shape.rank() <= 3,
            |generator| TensorType::new(dtype, generator.shape(rank)),
        )
    }

    /// A float value of that rank.
    pub(super) fn float_of_rank(&mut self, rank: usize) -> ValueId {
        let dtype = self.options.float;
        self.pick(
            |ty| ty.dtype == dtype && ty.shape.rank() == rank,
            |generator| TensorType::new(dtype, generator.shape(rank)),
        )
    }

    /// A float value with at least one axis.
    pub(super) fn float_with_axes(&mut self) -> ValueId {
        let rank = 1 + self.rng.index(3);
        self.float_of_rank(rank)
    }

    /// A value that every engine has the same bits of: an old one or a leaf of the same type.
    pub(super) fn exact(&mut self, value: ValueId) -> ValueId {
        if self.fact(value).exact {
            return value;
        }
        let ty = self.ty(value);
        self.leaf(&ty)
    }

    /// A value of integers.
    pub(super) fn integer(&mut self) -> ValueId {
        let dtype = self.rng.choose(&[DType::I32, DType::I64, DType::I8, DType::U8]);
        let rank = self.rng.index(3);
        self.pick(|ty| ty.dtype == dtype, |generator| TensorType::new(dtype, generator.shape(rank)))
    }

    /// Integers of that type in `0..size`.
    pub(super) fn indices(&mut self, ty: &TensorType, size: i64) -> ValueId {
        let any = self.leaf(ty);
        let divisor = self.splat(ty, size as f64);
        self.move_elements(Op::Binary(BinaryOp::Rem), &[any, divisor])
    }

    /// Declares what nothing uses as results, and updates of some parameters and states.
    fn finish(mut self) -> Graph {
        self.graph.set_origin(None);
        for leaf in self.graph_leaves() {
            if self.rng.one_in(2) {
                let ty = self.ty(leaf.1);
                let value = self.of_type(&ty);
                self.graph.add_output(&leaf.0, value, OutputKind::Update(leaf.1));
            }
        }
        let unused: Vec<ValueId> = self.graph.nodes().filter(|(id, _)| self.graph.users(*id).is_empty()).fold(
            Vec::new(),
            |mut all, (_, node)| {
                all.extend(&node.results);
                all
            },
        );
        for (position, value) in unused.into_iter().enumerate() {
            self.graph.add_output(&format!("y{position}"), value, OutputKind::Result);
        }
        self.graph
    }

    fn graph_leaves(&self) -> Vec<(String, ValueId)> {
        let of_node = |node: &crate::Node| match &node.op {
            Op::Param { path, .. } | Op::State { path, .. } => Some((path.clone(), node.results[0])),
            _ => None,
        };
        self.graph.nodes().filter_map(|(_, node)| of_node(node)).collect()
    }

    /// The sum of all elements, a scalar.
    pub(super) fn total(&mut self, value: ValueId) -> ValueId {
        let ty = self.ty(value);
        let bound = self.fact(value).bound * ty.shape.elements().size() as f64;
        let axes = (0..ty.shape.rank()).collect();
        self.emit(Op::Reduce { op: ReduceOp::Sum, axes }, &[value], Fact { bound, exact: false })
    }
}
