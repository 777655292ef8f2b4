//! Products by stored integers against the interpreter: within what the kernels state, which is relative to the largest
//! activation of each group.

mod common;

use common::{check_widths, lowered_run};
use nnc_graph::{
    BinaryOp, BodyTypes, DType, Dim, Graph, Op, OutputKind, Scan, Shape, Stored, Tensor, TensorType, UnaryOp, ValueId,
};
use nnc_graph::{interpret, stored::NIBBLE_ZERO};
use nnc_kernel::plan::run::Finished;
use nnc_kernel::{ir, lower};
use nnc_opt::fuse::{FuseOptions, partition};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A product of a graph with its inputs.
struct Case {
    stored: Stored,
    rows: usize,
    depth: usize,
    columns: usize,
    /// Whether the rows of `x` lie as columns.
    turned: bool,
    given: BTreeMap<String, Tensor>,
}

impl Case {
    /// With the activations that `x` gives by row and term, and with any bytes.
    fn new(stored: Stored, [rows, depth, columns]: [usize; 3], x: impl Fn(usize, usize) -> f64) -> Self {
        let numbers: Vec<f64> = (0..rows * depth).map(|at| x(at / depth, at % depth)).collect();
        let ty = stored.matrix(depth, columns);
        let bytes: Vec<u8> = (0..ty.bytes()).map(|at| (at * 167 % 251) as u8).collect();
        let scales = stored.scales(depth, columns).expect("integers have scales").shape.sizes();
        let scale: Vec<f64> = (0..scales.iter().product()).map(|at: usize| 0.001 * (at % 7) as f64 - 0.002).collect();
        let given = [
            ("x", Tensor::from_f64(DType::F32, &[rows, depth], &numbers)),
            ("w", Tensor::from_bytes(ty.dtype, &ty.shape.sizes(), bytes).unwrap()),
            ("scales", Tensor::from_f64(DType::F32, &scales, &scale)),
        ];
        let given = given.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        Self { stored, rows, depth, columns, turned: false, given }
    }

    fn turned(mut self) -> Self {
        let x = self.given["x"].to_f64();
        let number = |at: usize| x[at % self.rows * self.depth + at / self.rows];
        let turned: Vec<f64> = (0..x.len()).map(number).collect();
        self.given.insert("x".to_owned(), Tensor::from_f64(DType::F32, &[self.depth, self.rows], &turned));
        self.turned = true;
        self
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::new("stored");
        let mut operands: Vec<ValueId> = ["x", "w", "scales"]
            .map(|name| graph.emit(Op::Input { name: name.to_owned(), ty: self.given[name].ty() }, &[]))
            .to_vec();
        if self.turned {
            operands[0] = graph.emit(Op::Transpose(vec![1, 0]), &[operands[0]]);
        }
        let y = graph.emit(Op::DotStored(self.stored), &operands);
        graph.add_output("y", y, OutputKind::Result);
        graph
    }

    /// The integer of a term and a column.
    fn integer(&self, bytes: &[u8], term: usize, column: usize) -> f64 {
        match self.stored {
            Stored::Bytes { .. } => f64::from(bytes[term * self.columns + column] as i8),
            Stored::Nibbles { .. } => {
                let byte = bytes[term / 2 * self.columns + column];
                (i64::from(byte >> (4 * (term % 2)) & 15) - NIBBLE_ZERO) as f64
            }
            Stored::Bf16 => unreachable!("no integers"),
        }
    }

    /// What of the largest of its group an activation is kept to.
    fn kept(&self) -> f64 {
        match self.stored {
            Stored::Nibbles { .. } => 2f64.powi(-14),
            Stored::Bytes { .. } | Stored::Bf16 => 2f64.powi(-20),
        }
    }

    /// How far each element may lie from the interpreter's: the steps of activations, and as many roundings of f32 as
    /// there are sums.
    fn allowed(&self) -> Vec<f64> {
        let (x, scales) = (self.given["x"].to_f64(), self.given["scales"].to_f64());
        let (bytes, group) = (self.given["w"].bytes().to_vec(), self.stored.group().unwrap());
        let at =
            |row: usize, term: usize| x[if self.turned { term * self.rows + row } else { row * self.depth + term }];
        let of_group = |row: usize, column: usize, first: usize| {
            let terms = first..first + group;
            let largest = terms.clone().map(|term| at(row, term).abs()).fold(0.0, f64::max);
            let weights: f64 = terms.map(|term| self.integer(&bytes, term, column).abs()).sum();
            let relative = self.kept() + (self.depth / group + 4) as f64 * 2f64.powi(-24);
            let step = (relative * largest + 2f64.powi(-127)) * weights;
            step * scales[first / group * self.columns + column].abs() + 2f64.powi(-148)
        };
        let places = (0..self.rows * self.columns).map(|place| (place / self.columns, place % self.columns));
        let sums = places.map(|(row, column)| (0..self.depth).step_by(group).map(|g| of_group(row, column, g)).sum());
        sums.collect()
    }

    /// What the kernels compute, of the same bits at every width.
    fn computed(&self) -> Vec<f64> {
        let graph = self.graph();
        let runs = [4, 8, 16].map(|lanes| lowered_run(&graph, &self.given, &FuseOptions::ALL, lanes).unwrap());
        let numbers = |run: &Finished| run.outputs["y"].to_f64();
        let bits =
            |run: &Finished| numbers(run).iter().map(|y| if y.is_nan() { 0 } else { y.to_bits() }).collect::<Vec<_>>();
        assert!(runs.iter().all(|run| bits(run) == bits(&runs[0])), "{}: bits depend on the width", self.stored);
        numbers(&runs[0])
    }

    fn expected(&self) -> Vec<f64> {
        let graph = self.graph();
        let run = interpret::run(&graph, &self.given).unwrap();
        run.value(graph.outputs()[0].value).to_f64()
    }

    fn check(&self) {
        for (at, ((y, expected), allowed)) in
            self.computed().iter().zip(self.expected()).zip(self.allowed()).enumerate()
        {
            let off = (y - expected).abs();
            assert!(off <= allowed, "{}, element {at}: {y} for {expected}, {off:e} and not {allowed:e}", self.stored);
        }
    }
}

const FORMS: [Stored; 7] = [
    Stored::Bytes { group: 1 },
    Stored::Bytes { group: 6 },
    Stored::Bytes { group: 16 },
    Stored::Bytes { group: 96 },
    Stored::Nibbles { group: 8 },
    Stored::Nibbles { group: 48 },
    Stored::Nibbles { group: 96 },
];

/// Numbers from -1 to 1 without an order.
fn number(row: usize, term: usize) -> f64 {
    ((row * 7919 + term * 104_729) % 2003) as f64 / 1001.0 - 1.0
}

#[test]
fn products_are_as_exact_as_stated() {
    for (at, stored) in FORMS.into_iter().enumerate() {
        for (rows, columns) in [(1, 50), (2 + at, 17), (9, 3)] {
            Case::new(stored, [rows, 96, columns], number).check();
        }
        Case::new(stored, [3, 96, 20], number).turned().check();
    }
}

/// Powers from the smallest to large ones side by side, groups of nothing, denormals alone, one sign alone.
#[test]
fn groups_of_any_range_are_as_exact_as_stated() {
    let wide = |row: usize, term: usize| number(row, term) * 2f64.powi((term * 37 % 230) as i32 - 140);
    let gaps = |row: usize, term: usize| if term / 8 % 2 == row % 2 { 0.0 } else { number(row, term) };
    let tiny = |row: usize, term: usize| number(row, term) * 2f64.powi(-100 - (term / 8) as i32 * 4);
    let negative = |row: usize, term: usize| -1.0 - number(row, term).abs();
    let same = |_: usize, _: usize| -1.999_999_9;
    for stored in FORMS {
        Case::new(stored, [2, 96, 9], wide).check();
        Case::new(stored, [2, 96, 9], gaps).check();
        Case::new(stored, [2, 96, 9], tiny).check();
        Case::new(stored, [2, 96, 9], negative).check();
        Case::new(stored, [1, 96, 9], same).check();
    }
}

/// A row with an infinity or a NaN has no finite result, and changes no other row.
#[test]
fn what_is_not_finite_stays_in_its_row() {
    for stored in FORMS {
        let finite = Case::new(stored, [5, 96, 20], number).computed();
        for (at, bad) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].into_iter().enumerate() {
            let x = |row: usize, term: usize| if (row, term) == (2, 31 * at) { bad } else { number(row, term) };
            let found = Case::new(stored, [5, 96, 20], x).computed();
            for (place, (y, finite)) in found.iter().zip(&finite).enumerate() {
                let is_as_before = y == finite;
                assert!(
                    if place / 20 == 2 { !y.is_finite() } else { is_as_before },
                    "{stored}, {bad}, place {place}: {y}"
                );
            }
        }
    }
}

/// A group that is longer than what sums of 32 bits hold, of the largest numbers that there are.
#[test]
fn sums_of_long_groups_do_not_wrap() {
    let group = 1 << 18;
    let mut case = Case::new(Stored::Bytes { group }, [1, group, 2], |_, _| -1.999_999_9);
    let extremes = [127u8, 0x80].repeat(group);
    case.given.insert("w".to_owned(), Tensor::from_bytes(DType::I8, &[group, 2], extremes).unwrap());
    case.given.insert("scales".to_owned(), Tensor::from_f64(DType::F32, &[1, 2], &[1.0, 1.0]));
    case.check();
}

/// `h = tanh(h * w / 128)`, stacked: digits are made anew in every step.
#[test]
fn products_inside_of_loops() {
    for stored in [Stored::Bytes { group: 24 }, Stored::Nibbles { group: 24 }] {
        check_widths(&recurrence(stored), 3, &[4, 8, 16]).unwrap();
    }
}

fn recurrence(stored: Stored) -> Graph {
    let (size, steps) = (48, 5);
    let (row, matrix) = (TensorType::new(DType::F32, Shape::of(&[1, size])), stored.matrix(size, size));
    let scales = stored.scales(size, size).unwrap();
    let captures = vec![matrix.clone(), scales.clone()];
    let types = BodyTypes { carries: vec![row.clone()], slices: vec![], captures };
    let mut body = Scan::inputs("recurrence", &types);
    let product = body.emit(Op::DotStored(stored), &[ValueId(1), ValueId(2), ValueId(3)]);
    let share = body.splat(&row, 1.0 / 128.0);
    let product = body.emit(Op::Binary(BinaryOp::Mul), &[product, share]);
    let next = body.emit(Op::Unary(UnaryOp::Tanh), &[product]);
    Scan::outputs(&mut body, &[next], &[next]);
    let mut graph = Graph::new("recurrence");
    let inputs = [("h", row), ("w", matrix), ("scales", scales)];
    let inputs = inputs.map(|(name, ty)| graph.emit(Op::Input { name: name.to_owned(), ty }, &[]));
    let scan = Scan { body: Arc::new(body), length: Dim::from(steps), reverse: false, carries: 1, slices: 0 };
    let results = graph.add(Op::Scan(scan), &inputs).unwrap();
    graph.add_output("y", results[1], OutputKind::Result);
    graph
}

/// Products of the same rows read the same digits; of other groups or another form, and of the next value in the same
/// place, there are others: `h = tanh(h * w + h * v)`, and `h' * w` beside.
#[test]
fn products_of_the_same_rows_share_digits() {
    let [bytes, long_bytes] = [24, 48].map(|group| Stored::Bytes { group });
    let [nibbles, long_nibbles] = [24, 48].map(|group| Stored::Nibbles { group });
    for forms in [(bytes, long_bytes), (nibbles, long_nibbles), (bytes, nibbles), (nibbles, bytes)] {
        share_digits(forms);
    }
}

fn share_digits((same, other): (Stored, Stored)) {
    let size = 48;
    let row = TensorType::new(DType::F32, Shape::of(&[1, size]));
    let weights = |stored: Stored| [stored.matrix(size, size), stored.scales(size, size).unwrap()];
    let captures = [weights(same), weights(same), weights(other)].concat();
    let types = BodyTypes { carries: vec![row.clone()], slices: vec![], captures: captures.clone() };
    let mut body = Scan::inputs("shared", &types);
    let mut product =
        |stored, x: ValueId, first: u32| body.emit(Op::DotStored(stored), &[x, ValueId(first), ValueId(first + 1)]);
    let parts = [product(same, ValueId(1), 2), product(same, ValueId(1), 4), product(other, ValueId(1), 6)];
    let sum = parts[1..].iter().fold(parts[0], |sum, &part| body.emit(Op::Binary(BinaryOp::Add), &[sum, part]));
    let next = body.emit(Op::Unary(UnaryOp::Tanh), &[sum]);
    let beside = body.emit(Op::DotStored(same), &[next, ValueId(2), ValueId(3)]);
    Scan::outputs(&mut body, &[next], &[beside]);
    let mut graph = Graph::new("shared");
    let inputs: Vec<ValueId> = [vec![row], captures]
        .concat()
        .into_iter()
        .enumerate()
        .map(|(at, ty)| graph.emit(Op::Input { name: format!("x{at}"), ty }, &[]))
        .collect();
    let scan = Scan { body: Arc::new(body), length: Dim::from(4usize), reverse: false, carries: 1, slices: 0 };
    let results = graph.add(Op::Scan(scan), &inputs).unwrap();
    graph.add_output("h", results[0], OutputKind::Result);
    graph.add_output("y", results[1], OutputKind::Result);
    check_widths(&graph, 3, &[4, 8, 16]).unwrap();
    let lowered = lower(&graph, &partition(&graph, &FuseOptions::ALL), &ir::Target::new(8)).unwrap();
    let count = |name: &str| lowered.report.iter().filter(|kernel| kernel.name == name).count();
    assert_eq!((count("dot_stored"), count("cut")), (4, 3));
}
