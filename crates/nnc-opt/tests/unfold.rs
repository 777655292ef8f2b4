//! Convolutions in three and four spatial axes, unfolded: the values and gradients of the interpreter, which knows any
//! number of axes.

use nnc_graph::testing::random_inputs;
use nnc_graph::{
    BinaryOp, ConvAttributes, DType, Dim, Graph, Op, OutputKind, ReduceOp, Shape, Tensor, TensorType, ValueId,
    interpret,
};
use nnc_opt::{Options, grad, optimise};

/// A geometry: sizes of the input and of the kernel, stride, low and high padding, dilation; groups.
struct Case {
    axes: &'static [[usize; 6]],
    groups: usize,
}

const CASES: &[Case] = &[
    Case { axes: &[[4, 2, 1, 0, 0, 1], [5, 3, 1, 1, 1, 1], [4, 3, 1, 1, 1, 1]], groups: 1 },
    Case { axes: &[[7, 3, 2, 1, 0, 1], [5, 2, 2, 0, 1, 1], [6, 2, 1, 0, 0, 2]], groups: 2 },
    Case { axes: &[[6, 2, 1, 1, 2, 3], [4, 1, 1, 0, 0, 1], [3, 3, 1, 2, 2, 1]], groups: 3 },
    Case { axes: &[[3, 1, 1, 0, 0, 1], [3, 1, 1, 0, 0, 1], [3, 1, 1, 0, 0, 1]], groups: 1 },
    Case { axes: &[[3, 2, 1, 1, 0, 1], [4, 2, 2, 0, 0, 1], [3, 2, 1, 0, 1, 1], [4, 3, 1, 1, 1, 1]], groups: 2 },
];

fn tensor(sizes: &[usize]) -> TensorType {
    TensorType::new(DType::F64, Shape::of(sizes))
}

impl Case {
    fn column(&self, at: usize) -> Vec<usize> {
        self.axes.iter().map(|axis| axis[at]).collect()
    }

    fn attributes(&self) -> ConvAttributes {
        let dims = |at: usize| self.column(at).into_iter().map(|size| Dim::from(size as i64)).collect();
        let groups = Dim::from(self.groups as i64);
        ConvAttributes { stride: dims(2), low: dims(3), high: dims(4), dilation: dims(5), groups }
    }

    /// Two images of two channels a group, three results a group.
    fn operands(&self) -> [TensorType; 2] {
        let x = [&[2, 2 * self.groups], &self.column(0)[..]].concat();
        let w = [&[3 * self.groups, 2], &self.column(1)[..]].concat();
        [tensor(&x), tensor(&w)]
    }
}

fn input(graph: &mut Graph, name: &str, ty: &TensorType) -> ValueId {
    graph.emit(Op::Input { name: name.to_owned(), ty: ty.clone() }, &[])
}

/// The sum of squares.
fn energy(graph: &mut Graph, value: ValueId) -> ValueId {
    let square = graph.emit(Op::Binary(BinaryOp::Mul), &[value, value]);
    let axes = (0..graph.ty(value).shape.rank()).collect();
    graph.emit(Op::Reduce { op: ReduceOp::Sum, axes }, &[square])
}

/// A convolution, and the gradients of its energy by both operands.
fn forward(case: &Case) -> Graph {
    let mut graph = Graph::new("convolution");
    let [x, w] = case.operands();
    let (x, w) = (input(&mut graph, "x", &x), input(&mut graph, "w", &w));
    let y = graph.emit(Op::Conv(case.attributes()), &[x, w]);
    let loss = energy(&mut graph, y);
    let gradients = graph.add(Op::Grad, &[loss, x, w]).unwrap();
    for (name, value) in [("y", y), ("dx", gradients[0]), ("dw", gradients[1])] {
        graph.add_output(name, value, OutputKind::Result);
    }
    graph
}

/// Both transposes on their own, and the gradients of their energy by both operands.
fn transposed(case: &Case) -> Graph {
    let mut graph = Graph::new("transposes");
    let [x_type, w_type] = case.operands();
    let (x, w) = (input(&mut graph, "x", &x_type), input(&mut graph, "w", &w_type));
    let (attributes, spatial) = (case.attributes(), |ty: &TensorType| ty.shape[2..].to_vec());
    let y = graph.emit(Op::Conv(attributes.clone()), &[x, w]);
    let y_type = graph.ty(y).clone();
    let dy = input(&mut graph, "dy", &y_type);
    let (in_x, in_w) = (spatial(&x_type), spatial(&w_type));
    let dx = graph.emit(Op::ConvInputGrad { attributes: attributes.clone(), input: in_x }, &[dy, w]);
    let dw = graph.emit(Op::ConvWeightGrad { attributes, kernel: in_w }, &[x, dy]);
    for (name, value, operand) in [("dx", dx, w), ("dw", dw, x)] {
        let loss = energy(&mut graph, value);
        let gradients = graph.add(Op::Grad, &[loss, dy, operand]).unwrap();
        graph.add_output(name, value, OutputKind::Result);
        graph.add_output(&format!("{name}_dy"), gradients[0], OutputKind::Result);
        graph.add_output(&format!("{name}_other"), gradients[1], OutputKind::Result);
    }
    graph
}

fn is_near(a: &Tensor, b: &Tensor) -> bool {
    let largest = b.to_f64().into_iter().fold(1.0f64, |most, value| most.max(value.abs()));
    a.ty() == b.ty() && a.to_f64().into_iter().zip(b.to_f64()).all(|(a, b)| (a - b).abs() <= 1e-12 * largest)
}

fn most_axes(graph: &Graph) -> usize {
    let axes = |op: &Op| match op {
        Op::Conv(at) => at.stride.len(),
        Op::ConvInputGrad { attributes: at, .. } | Op::ConvWeightGrad { attributes: at, .. } => at.stride.len(),
        _ => 0,
    };
    graph.nodes().map(|(_, node)| axes(&node.op)).max().unwrap_or(0)
}

#[test]
fn values_and_gradients_are_those_of_the_interpreter() {
    for (number, case) in CASES.iter().enumerate() {
        for graph in [forward(case), transposed(case)] {
            let given = random_inputs(&graph, number as u64);
            let expected = interpret::run(&grad::expand(&graph), &given).unwrap();
            for fuel in [None, Some(0)] {
                let optimised = optimise(&graph, &Options { fuel, ..Options::default() }).unwrap().graph;
                assert_eq!(most_axes(&optimised), 2, "case {number}");
                let found = interpret::run(&optimised, &given).unwrap();
                for (name, wanted) in expected.outputs() {
                    assert!(is_near(found.output(name).unwrap(), wanted), "case {number}, {}, {name}", graph.name);
                }
            }
        }
    }
}
