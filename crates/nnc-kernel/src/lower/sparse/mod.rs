//! Products of rows by a sparse constant matrix: only what is not zero is loaded and multiplied.
//!
//! On entry `y = A * B` with A as `[rows, depth]` and a constant B as `[columns, depth]`, whose pattern is known when
//! the program is compiled ([`pattern`]). The pattern becomes tables ([`lists`]); the elements that are kept are
//! brought into the order of the tables once, when the weights are given. The terms of a sum are added in the order of
//! k by fused multiply-adds, so that the result has the bits of the dense product of finite numbers.
//!
//! Whether it is worth it, and in which form, is decided by [`cost`].

pub mod conv;
pub mod cost;
pub mod elements;
pub mod lists;
pub mod panels;
pub mod pattern;
pub mod planes;
pub mod rows;
pub mod turn;
pub mod windows;

use crate::ir::{Builder, Direction, Elem, Memory, Value};
use crate::lower::evaluate::Point;
use crate::lower::frame::{Axes, Frame};
use crate::lower::loops::{Split, span};
use crate::lower::matmul::product::Target;
use crate::lower::matmul::shape::parts;
use crate::lower::memory::{BufferId, KernelDraft, Place};
use crate::lower::prepare::Stage;
use crate::lower::{LowerError, Lowering};
use crate::plan::{Access, Role};
use cost::{Choice, Product, together};
use elements::Blocks;
use lists::{Form, Lists};
use nnc_graph::{DType, NodeId, Shape, Tensor, TensorType, ValueId};
use nnc_opt::fuse::{Group, Layout};
use pattern::Pattern;

/// What became of a product.
pub enum Outcome {
    /// It is lowered.
    Done,
    /// It is to be lowered as a dense one; why, if the matrix has zeros.
    Dense(Option<String>),
}

/// Lowers the product of rows by the constant matrix `value` if that is worth it.
///
/// # Errors
/// A bug in the compiler.
pub fn lower(
    lowering: &mut Lowering<'_>,
    (group, anchor): (&Group, NodeId),
    (value, contracted): (ValueId, &[usize]),
    (a, b): (&Place, &Place),
) -> Result<Outcome, LowerError> {
    let (rows, columns, depth) = (a.layout.dims[0], b.layout.dims[0], b.layout.dims[1]);
    if a.elem != Elem::F32 || !lowering.is_constant(value) || !lowering.scans.is_empty() {
        return Ok(Outcome::Dense(None));
    }
    let rank = lowering.graph.ty(value).shape.rank();
    let free = (0..rank).filter(|axis| !contracted.contains(axis));
    let order: Vec<usize> = free.chain(contracted.iter().copied()).collect();
    let Some(pattern) = Pattern::of(lowering.graph, value, &order, (columns, depth)) else {
        return Ok(Outcome::Dense(None));
    };
    if parts(rows * columns, depth).tasks() > 1 {
        let zeros = zeros(&pattern);
        return Ok(Outcome::Dense(Some(format!("{zeros}, dense as its long sums are cut into parts"))));
    }
    match decide(&Product { rows, pattern: &pattern, share: 1.0, windows: None }) {
        Decision::Dense(why) => Ok(Outcome::Dense(why)),
        Decision::Sparse(form, draft) => {
            emit(lowering, (group, anchor), (a, b), &pattern, (form, *draft))?;
            Ok(Outcome::Done)
        }
    }
}

/// What is to become of a product.
pub enum Decision {
    /// It is to be dense; why, if the matrix has zeros.
    Dense(Option<String>),
    /// The form of its lists, and the kernel's draft.
    Sparse(Form, Box<KernelDraft>),
}

/// Decides by the costs of a product, in words for people.
pub fn decide(product: &Product<'_>) -> Decision {
    let zeros = zeros(product.pattern);
    match product.choose() {
        Choice::NotSparse => Decision::Dense(None),
        Choice::Dense { cycles: (dense, sparse) } => {
            let ratio = sparse / dense;
            Decision::Dense(Some(format!("{zeros}, dense as sparse would take {ratio:.1} times as long")))
        }
        Choice::Sparse { form, cycles: (dense, sparse) } => {
            let mut draft = KernelDraft::new("sparse");
            draft.how = format!("{zeros}: {form}, {:.1} times as fast by estimate", dense / sparse);
            Decision::Sparse(form, Box::new(draft))
        }
    }
}

fn zeros(pattern: &Pattern) -> String {
    format!("{:.0} % zeros", 100.0 * pattern.sparsity())
}

fn emit(
    lowering: &mut Lowering<'_>,
    (group, anchor): (&Group, NodeId),
    (a, b): (&Place, &Place),
    pattern: &Pattern,
    (form, mut draft): (Form, KernelDraft),
) -> Result<(), LowerError> {
    let node = lowering.graph.node(anchor);
    let members = group.nodes.iter().copied().filter(|&id| id != anchor).collect();
    let frame = Frame::new(lowering, &mut draft, members, &group.outputs, Axes::apart(&group.domain))?;
    let rows = a.layout.dims[0];
    let shape = Sizes { rows, columns: pattern.columns, depth: pattern.depth };
    let target = Target {
        frame: &frame,
        result: node.results[0],
        outputs: &group.outputs,
        row_axis: 0,
        column_axis: 1,
        spill: None,
        kept: None,
    };
    let packed = match form {
        Form::Blocks(_) | Form::LookUp => {
            let lists = Lists::in_order(pattern, form, together(form, rows));
            let tables = Tables::new(lowering, &mut draft, &lists, (b, pattern))?;
            panels::emit(lowering, &mut draft, target, &shape, (a, &tables));
            tables.packed
        }
        Form::Elements => {
            let blocks = Blocks::of_rows(&shape, pattern.count());
            let (lists, order) = blocks.lists(pattern);
            let lists = lists.placed(|k| k * blocks.height);
            let tables = Tables::new(lowering, &mut draft, &lists, (b, pattern))?;
            let order = constant(lowering, &mut draft, &order);
            rows::emit(lowering, &mut draft, &target, &blocks, (a, &tables, order));
            tables.packed
        }
    };
    let work = 2 * rows * pattern.count();
    lowering.launch_with(draft, &frame, work, &[a.buffer, packed])
}

/// Sizes of a product.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Rows of A.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Terms of a sum.
    pub depth: usize,
}

/// The tables of a matrix in memory, as parameters of a kernel.
pub struct Tables {
    /// What entries are.
    pub form: Form,
    /// Lists of a bundle.
    pub together: usize,
    /// How many bundles there are.
    pub bundles: usize,
    starts: Memory,
    indices: Memory,
    places: Option<Memory>,
    /// Elements in the order of entries.
    pub elements: Memory,
    /// The buffer of those.
    pub packed: BufferId,
}

impl Tables {
    /// Of lists, and the matrix that their elements come from.
    ///
    /// # Errors
    /// A bug in the compiler.
    pub fn new(
        lowering: &mut Lowering<'_>,
        draft: &mut KernelDraft,
        lists: &Lists,
        (b, pattern): (&Place, &Pattern),
    ) -> Result<Self, LowerError> {
        let packed = pack(lowering, lists, (b, pattern))?;
        let places = (lists.form == Form::LookUp).then(|| {
            let tensor = Tensor::from_bytes(DType::U8, &[lists.places.len()], lists.places.clone());
            let tensor = tensor.expect("a byte for each");
            let buffer = external(lowering, tensor);
            draft.param(buffer, Elem::U8, Direction::In)
        });
        Ok(Self {
            form: lists.form,
            together: lists.together,
            bundles: lists.bundles(),
            starts: constant(lowering, draft, &lists.starts),
            indices: constant(lowering, draft, &lists.indices),
            places,
            elements: draft.param(packed, Elem::F32, Direction::In),
            packed,
        })
    }

    /// The first step of a bundle, and the end of its steps.
    pub fn steps(&self, b: &mut Builder, bundle: Value) -> (Value, Value) {
        let next = b.add_index(bundle, 1);
        (number(b, self.starts, bundle), number(b, self.starts, next))
    }

    /// The k of an entry, or the first of its window.
    pub fn index(&self, b: &mut Builder, entry: Value) -> Value {
        number(b, self.indices, entry)
    }

    /// The places in the window of an entry, as `i32`.
    pub fn places(&self, b: &mut Builder, entry: Value, lanes: u8) -> Value {
        let Some(places) = self.places else { unreachable!("compiler bug: places of what is not looked up") };
        let at = b.mul_index(entry, i64::from(lanes));
        let bytes = b.load(places, at, lanes);
        b.convert(bytes, Elem::I32)
    }
}

/// A number of a table, as an index.
pub fn number(b: &mut Builder, table: Memory, at: Value) -> Value {
    let number = b.load(table, at, 1);
    b.convert(number, Elem::I64)
}

/// A table of numbers as a parameter.
pub fn constant(lowering: &mut Lowering<'_>, draft: &mut KernelDraft, numbers: &[usize]) -> Memory {
    let buffer = external(lowering, numbers_tensor(numbers));
    draft.param(buffer, Elem::I32, Direction::In)
}

fn numbers_tensor(numbers: &[usize]) -> Tensor {
    let bytes: Vec<u8> = numbers.iter().flat_map(|&number| (number as i32).to_le_bytes()).collect();
    Tensor::from_bytes(DType::I32, &[numbers.len()], bytes).expect("four bytes for each")
}

fn external(lowering: &mut Lowering<'_>, tensor: Tensor) -> BufferId {
    let ty = TensorType::new(tensor.dtype(), Shape::of(tensor.dims()));
    lowering.external(Role::Constant(tensor), ty, Access::Read)
}

/// Elements that a task of packing moves.
const PACKED: usize = 1 << 14;

/// Brings the elements into the order of entries, once; what fills lists up is a zero of the matrix.
fn pack(lowering: &mut Lowering<'_>, lists: &Lists, (b, pattern): (&Place, &Pattern)) -> Result<BufferId, LowerError> {
    let Some(zero) = pattern.a_zero() else { return Err(LowerError::bug("a sparse matrix without a zero")) };
    let offset = |element| offset(&b.layout, element);
    let from: Vec<usize> = lists.elements.iter().map(|element| offset(element.unwrap_or(zero))).collect();
    // At least one vector, so that an empty table is one, too.
    let count = from.len().max(1);
    lowering.preparing(Stage::Once, |lowering| {
        let buffer = lowering.memory(count * Elem::F32.size());
        let mut draft = KernelDraft::new("pack sparse");
        let table = constant(lowering, &mut draft, &from);
        let source = draft.param(b.buffer, b.elem, Direction::In);
        let to = draft.param(buffer, Elem::F32, Direction::Out);
        let split = Split::new(from.len(), PACKED, 1);
        draft.builder.phase(split.tasks(), |b, task| {
            let range = split.bounds(b, task);
            let zero = b.index(0);
            span(b, range, &[8, 1], |b, at, lanes| {
                let places = b.load(table, at, lanes);
                let elements = b.load_indexed(source, zero, places);
                b.store(to, at, elements);
            });
        });
        lowering.append(draft, vec![], from.len())?;
        Ok(buffer)
    })
}

/// Where an element of a matrix lies, by its column and k, which may be of several axes.
fn offset(layout: &Layout, (column, k): (usize, usize)) -> usize {
    let (mut rest, mut offset) = (k, layout.offset + column as i64 * layout.strides[0]);
    for (&size, &stride) in layout.dims[1..].iter().zip(&layout.strides[1..]).rev() {
        offset += (rest % size) as i64 * stride;
        rest /= size;
    }
    offset as usize
}

/// The point of a frame at its first row and column.
pub fn origin(b: &mut Builder) -> Point {
    let zero = b.index(0);
    Point { coordinates: vec![zero, zero], vector: 1, lanes: 1 }
}
