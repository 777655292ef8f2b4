//! Round trips of random graphs, and texts that are refused.

use super::{parse, print};
use crate::testing::{GraphOptions, Rng, graph_of_one_op, loop_names, op_names, random_graph_with};
use crate::{DType, Dim, Graph, Op, Origin, OutputKind, Tensor, TensorType};

fn round_trip(graph: &Graph) {
    let text = print(graph);
    let again = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(print(&again), text);
    assert!(graph.nodes().zip(again.nodes()).all(|((_, a), (_, b))| a.op == b.op && a.operands == b.operands));
    assert_eq!(graph.outputs(), again.outputs());
}

#[test]
fn random_graphs_round_trip() {
    for seed in 0..300 {
        round_trip(&random_graph_with(seed, &GraphOptions { grad: true, ..GraphOptions::default() }));
    }
}

#[test]
fn every_op_round_trips_in_every_float() {
    for float in [DType::F32, DType::F64] {
        let options = GraphOptions { float, narrow_floats: true, ..GraphOptions::default() };
        for name in op_names().chain(loop_names()) {
            (0..10).for_each(|seed| round_trip(&graph_of_one_op(name, seed, &options).unwrap()));
        }
    }
}

#[test]
fn constants_come_back_to_the_bit() {
    let mut rng = Rng::new(3);
    let mut graph = Graph::new("bits");
    for dtype in DType::ALL.into_iter().filter(|dtype| *dtype != DType::Bool) {
        for elements in [1, 3, 40] {
            let bytes: Vec<u8> = (0..elements * dtype.size()).map(|_| rng.bits() as u8).collect();
            let tensor = Tensor::from_bytes(dtype, &[elements], bytes).unwrap();
            graph.emit(Op::Constant(tensor), &[]);
        }
        if dtype.is_float() {
            let odd = [f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::NAN, 1e-45, 0.1];
            for number in odd {
                graph.emit(Op::Constant(Tensor::scalar(dtype, number)), &[]);
            }
        }
    }
    graph.emit(Op::Constant(Tensor::scalar_i64(i64::MIN)), &[]);
    round_trip(&graph);
}

#[test]
fn odd_names_and_symbolic_dims_round_trip() {
    let mut graph = Graph::new("a \"name\"\n\\ \u{7}é");
    let half = (Dim::name("N") * Dim::name("H") - Dim::from(3)).floor_div(&Dim::from(2)).unwrap();
    let dims =
        vec![Dim::name("S.0") * Dim::from(2) + Dim::from(1), half.clone(), half.remainder(&Dim::name("K")).unwrap()];
    let origin = Origin { function: String::new(), path: "a b".to_owned(), place: "x \"y\".nn:3".to_owned() };
    let origin = graph.intern_origin(origin);
    graph.set_origin(Some(origin));
    let x = graph.emit(Op::Input { name: "é \t".to_owned(), ty: TensorType::new(DType::F32, dims) }, &[]);
    graph.set_name(x, "{%3} // no");
    graph.add_output("", x, OutputKind::Result);
    round_trip(&graph);
}

/// Each prints as it is written, so with no parentheses that are not needed, and reads as what it was.
#[test]
fn dims_print_with_the_parentheses_that_they_need() {
    let dims = [
        "N / 3",
        "2 * N / 3",
        "2 * (N / 3)",
        "N / 3 / M",
        "M * (N / 3)",
        "(N - 1) / 2 + 1",
        "N % (M + 1)",
        "N / (2 * M)",
        "N / (M / 2)",
        "(-N) / 2",
        "-N / 2",
        "N - M % 3",
        "((N + 1) / 2 + 1) % M",
        "N / (-2)",
        "7 / N",
        "N - 2 * (M / 3)",
    ];
    for dim in dims {
        let text = format!("graph \"g\" {{\n  %0 = input \"x\" : f32[{dim}]\n}}\n");
        assert_eq!(print(&parse(&text).unwrap()), text);
    }
    let deep = format!("graph \"g\" {{\n  %0 = input \"x\" : f32[N{}]\n}}\n", " / 2 / M".repeat(1000));
    assert!(parse(&deep).unwrap_err().to_string().contains("nested too deeply"));
    let [n, two] = [Dim::name("N"), Dim::from(2)];
    let (of_less, less) = ((-n.clone()).floor_div(&two).unwrap(), -n.floor_div(&two).unwrap());
    assert_eq!([of_less.to_string(), less.to_string()], ["(-N) / 2", "-N / 2"]);
}

#[test]
fn a_graph_reads_as_it_is_documented() {
    let text = r#"graph "mlp" {
  %0 = input "x" : f32[64, 784]
  %1 = param "dense_1.w" : f32[784, 10]
  %2 "logits" = dot[batch=0, a=[1], b=[0]](%0, %1) : f32[64, 10] // mlp.nn:7 dense dense_1
  %3 = constant -0.5 : f32
  %4 = reduce[op=sum, axes=[0, 1]](%2) : f32
  %5 = mul(%4, %3) : f32
  %6 = grad(%5, %1) : f32[784, 10]
  output "logits" = %2
  update "dense_1.w" = %6 over %1
}
"#;
    assert_eq!(print(&parse(text).unwrap()), text);
}

#[test]
fn errors_name_the_line() {
    let within = |line: &str| parse(&format!("graph \"g\" {{\n  %0 = input \"x\" : f32[2]\n  {line}\n}}\n"));
    let cases = [
        ("%1 = exp(%7) : f32[2]", "line 3: %7 is not defined before"),
        ("%1 = exp(%0) : f32[3]", "line 3: the result is f32[2], not f32[3]"),
        ("%1 = expo(%0) : f32[2]", "line 3: `expo` is no op"),
        ("%0 = exp(%0) : f32[2]", "line 3: %0 is defined twice"),
        ("%1 = transpose(%0) : f32[2]", "line 3: the attribute `axes` is missing"),
        ("%1 = exp[axis=1](%0) : f32[2]", "line 3: `exp` has no attribute `axis`"),
        ("%1 = constant [1, 2] : f32[3]", "line 3: 2 elements do not make a f32[3]"),
        ("%1 = constant 0xzz : u8", "line 3: the data is not hexadecimal"),
        ("%1 = input \"x\" : f32", "line 0: n1: a second leaf is called `x`"),
        ("%1 = input \"y\" : f32[0]", "line 3: the dim 0 is below 1"),
        ("%1 = exp(%0) : f32[2] tail", "line 3: unexpected text before `tail`"),
        ("update \"x\" = %0 over %0", "line 0: update `x`: it writes `input`, no parameter and no state"),
    ];
    for (line, message) in cases {
        assert_eq!(within(line).unwrap_err().to_string(), message, "{line}");
    }
    assert_eq!(parse("").unwrap_err().to_string(), "line 0: there is no graph");
}

/// Bytes changed at random in valid texts: an error or another graph, never a panic.
#[test]
fn a_damaged_text_does_not_panic() {
    let mut rng = Rng::new(11);
    let pieces = ["%", "[", "]", "(", "-", "99999999999999999999", "=", "\"", "\\u{", "0", ":", ",", "f32", "//"];
    for seed in 0..400 {
        let text = print(&random_graph_with(seed % 40, &GraphOptions { grad: true, ..GraphOptions::default() }));
        let mut damaged: Vec<char> = text.chars().collect();
        for _ in 0..rng.int(1, 4) {
            let at = rng.index(damaged.len());
            match rng.int(0, 2) {
                0 => drop(damaged.remove(at)),
                1 => damaged[at] = rng.choose(&['0', '9', '-', ']', '[', '%', 'x', '\n', 'é']),
                _ => drop(damaged.splice(at..at, rng.choose(&pieces).chars())),
            }
        }
        if let Ok(graph) = parse(&damaged.into_iter().collect::<String>()) {
            round_trip(&graph);
        }
    }
}
