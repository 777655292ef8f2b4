//! What the innermost loops of products and convolutions look like in machine code.

use nnc_codegen::{Backend, dump_asm};
use nnc_graph::testing::{conv, dot, input};
use nnc_graph::{
    BinaryOp, BodyTypes, ConvAttributes, DType, Dim, Graph, Op, OutputKind, Scan, Shape, Stored, TensorType, UnaryOp,
    ValueId, WindowAttributes, WindowOp,
};
use nnc_kernel::ir::Target;
use nnc_opt::fuse::{FuseOptions, partition};
use nnc_opt::{Options, optimise};
use nnc_runtime::cpu::Isa;
use std::sync::Arc;

fn input_of(graph: &mut Graph, name: &str, ty: TensorType) -> ValueId {
    graph.emit(Op::Input { name: name.to_owned(), ty }, &[])
}

/// Attributes of square windows, padded to keep the size.
fn square(taps: usize, stride: usize, groups: usize) -> ConvAttributes {
    let both = |number: usize| vec![Dim::from(number as i64); 2];
    let padding = both(taps / 2);
    let (low, high) = (padding.clone(), padding);
    ConvAttributes { stride: both(stride), low, high, dilation: both(1), groups: Dim::from(groups as i64) }
}

/// A convolution with `stride` and `groups`, and what follows it in a network.
fn layer([images, channels, size, rows]: [usize; 4], [taps, stride, groups]: [usize; 3]) -> Graph {
    let mut graph = Graph::new("layer");
    let x = input(&mut graph, "x", &[images, channels, size, size]);
    let w = input(&mut graph, "w", &[rows, channels / groups, taps, taps]);
    let y = graph.emit(Op::Conv(square(taps, stride, groups)), &[x, w]);
    let y = graph.emit(Op::Unary(UnaryOp::Tanh), &[y]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

/// The derivatives of a convolution by its image and by its weights.
fn derivatives([images, channels, size, rows]: [usize; 4], [taps, stride, groups]: [usize; 3]) -> Graph {
    let mut graph = Graph::new("derivatives");
    let x = input(&mut graph, "x", &[images, channels, size, size]);
    let w = input(&mut graph, "w", &[rows, channels / groups, taps, taps]);
    let dy = input(&mut graph, "dy", &[images, rows, size / stride, size / stride]);
    let space = vec![Dim::from(size as i64); 2];
    let attributes = square(taps, stride, groups);
    let dx = graph.emit(Op::ConvInputGrad { attributes: attributes.clone(), input: space }, &[dy, w]);
    let space = vec![Dim::from(taps as i64); 2];
    let dw = graph.emit(Op::ConvWeightGrad { attributes, kernel: space }, &[x, dy]);
    graph.add_output("dx", dx, OutputKind::Result);
    graph.add_output("dw", dw, OutputKind::Result);
    graph
}

/// A product of bytes.
fn bytes(rows: usize, depth: usize, columns: usize) -> Graph {
    let mut graph = Graph::new("bytes");
    let a = input_of(&mut graph, "a", TensorType::new(DType::U8, Shape::of(&[rows, depth])));
    let ty = TensorType::new(DType::I8, Shape::of(&[depth, columns]));
    let b = graph.emit(Op::Param { path: "b".to_owned(), ty }, &[]);
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[a, b]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

/// A product by a matrix of few bits.
fn stored(stored: Stored, rows: usize) -> Graph {
    let mut graph = Graph::new("stored");
    let x = input(&mut graph, "x", &[rows, 512]);
    let mut operands = vec![x, input_of(&mut graph, "w", stored.matrix(512, 384))];
    operands.extend(stored.scales(512, 384).map(|ty| input_of(&mut graph, "scales", ty)));
    let y = graph.emit(Op::DotStored(stored), &operands);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

/// A recurrent layer.
fn recurrence(rows: usize, size: usize) -> Graph {
    let ty = |dims: &[usize]| TensorType::new(DType::F32, Shape::of(dims));
    let (state, steps) = (ty(&[rows, size]), 8);
    let types =
        BodyTypes { carries: vec![state.clone()], slices: vec![state.clone()], captures: vec![ty(&[size, size])] };
    let mut body = Scan::inputs("step", &types);
    let [h, x, u] = [1, 2, 3].map(ValueId);
    let product = body.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[h, u]);
    let sum = body.emit(Op::Binary(BinaryOp::Add), &[product, x]);
    let next = body.emit(Op::Unary(UnaryOp::Tanh), &[sum]);
    Scan::outputs(&mut body, &[next], &[next]);
    let mut graph = Graph::new("recurrence");
    let h = input(&mut graph, "h", &[rows, size]);
    let x = input(&mut graph, "x", &[steps, rows, size]);
    let u = input(&mut graph, "u", &[size, size]);
    let scan = Scan { body: Arc::new(body), length: Dim::from(steps as i64), reverse: false, carries: 1, slices: 1 };
    let results = graph.add(Op::Scan(scan), &[h, x, u]).unwrap();
    graph.add_output("y", results[1], OutputKind::Result);
    graph
}

/// Padded windows of three by three, of images with channels last.
fn windows(size: usize, channels: usize, stride: usize) -> Graph {
    let mut graph = Graph::new("windows");
    let x = input(&mut graph, "x", &[1, 1, size, size, channels]);
    let all = |number: [usize; 3]| number.map(Dim::from).to_vec();
    let attributes = WindowAttributes {
        size: all([3, 3, 1]),
        stride: all([stride, stride, 1]),
        low: all([1, 1, 0]),
        high: all([1, 1, 0]),
    };
    let y = graph.emit(Op::Window { op: WindowOp::Max, attributes }, &[x]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

/// Whether an instruction multiplies and adds: floats, or bytes.
fn multiplies(line: &str) -> bool {
    ["vfmadd", "vpdpbusd", "vpmaddubsw", "vpmaddwd"].iter().any(|name| line.starts_with(name))
}

/// Whether an instruction brings a vector to the frame.
fn spills(line: &str) -> bool {
    line.split_once(' ').is_some_and(|(_, rest)| rest.starts_with("[rsp") && rest.contains("mm"))
}

/// Whether an instruction takes a vector from the frame.
fn reloads(line: &str) -> bool {
    line.split_once(' ')
        .is_some_and(|(_, rest)| !rest.starts_with("[rsp") && rest.contains("[rsp") && rest.contains("mm"))
}

/// No microkernel's loop keeps a vector in the frame: products and convolutions as networks have them, with channels
/// side by side, and their derivatives. Loops of which less than a seventh multiplies are none: they transform or bring
/// together. The taps of a depthwise convolution stay the same in all rounds; with sums and images they are more than
/// the 16 registers of narrow vectors, so some are read in each round, from the frame as they would be from where they
/// lie.
#[test]
fn no_microkernel_spills() {
    let graphs: Vec<(&str, Graph)> = vec![
        ("dot", dot(1000, 777, 513)),
        ("few rows", dot(3, 777, 512)),
        ("few rows, from memory", dot(1, 1040, 777)),
        ("3x3, by Winograd's form or not", layer([1, 64, 56, 64], [3, 1, 1])),
        ("3x3 of a batch", layer([16, 128, 14, 128], [3, 1, 1])),
        ("strided", layer([1, 128, 28, 256], [3, 2, 1])),
        ("few channels", layer([1, 3, 112, 64], [7, 2, 1])),
        ("1x1", layer([1, 256, 14, 64], [1, 1, 1])),
        ("groups", layer([1, 64, 28, 64], [3, 1, 4])),
        ("depthwise", layer([1, 96, 56, 96], [3, 1, 96])),
        ("depthwise, strided", layer([1, 96, 56, 96], [3, 2, 96])),
        ("derivatives", derivatives([8, 64, 28, 64], [3, 1, 1])),
        ("derivatives of 1x1", derivatives([8, 64, 28, 128], [1, 1, 1])),
        ("derivatives of depthwise", derivatives([8, 64, 28, 64], [3, 1, 64])),
        ("derivatives of depthwise, strided", derivatives([8, 64, 28, 64], [3, 2, 64])),
        ("bytes", bytes(128, 512, 384)),
        ("few rows of bytes", bytes(2, 512, 384)),
        ("bf16", stored(Stored::Bf16, 1)),
        ("int8", stored(Stored::Bytes { group: 64 }, 1)),
        ("int8, several rows", stored(Stored::Bytes { group: 64 }, 8)),
        ("int4", stored(Stored::Nibbles { group: 64 }, 1)),
        ("int4, several rows", stored(Stored::Nibbles { group: 64 }, 8)),
        ("recurrence", recurrence(32, 256)),
        ("recurrence of one row", recurrence(1, 512)),
    ];
    let mut faults = Vec::new();
    for (name, graph) in &graphs {
        for winograd in [true, false] {
            let optimised = optimise(graph, &Options { winograd, ..Options::default() }).unwrap();
            for isa in Isa::ALL {
                let backend = Backend::X64(isa);
                let target = Target { winograd, ..backend.target() };
                let lowered = nnc_kernel::lower(&optimised.graph, &optimised.partition, &target).unwrap();
                let listing = dump_asm(&lowered.program, backend).unwrap();
                let share =
                    |body: &[&str]| body.iter().filter(|line| multiplies(line)).count() as f64 / body.len() as f64;
                let loops: Vec<_> = innermost(&listing).into_iter().filter(|body| share(body) > 0.15).collect();
                if loops.is_empty() {
                    faults.push(format!("{name}, {isa:?}: no loop that multiplies"));
                }
                let reads_taps = name.contains("depthwise") && target.registers() == 16;
                let is_fault = |line: &&str| spills(line) || (!reads_taps && reloads(line));
                for body in loops.iter().filter(|body| body.iter().any(is_fault)) {
                    faults.push(format!("{name}, {isa:?}: a vector leaves the registers\n{}", body.join("\n")));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// The loops of a listing that hold no other and multiply.
fn innermost_products(listing: &str) -> Vec<Vec<&str>> {
    let is_product = |body: &Vec<&str>| body.iter().any(|line| line.starts_with("vfmadd"));
    innermost(listing).into_iter().filter(is_product).collect()
}

/// The loops of a listing that hold no other: from a label to a jump back to it.
fn innermost(listing: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = listing.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (end, line) in lines.iter().enumerate() {
        let Some(label) = line.strip_prefix("jmp ").map(|label| format!("{label}:")) else { continue };
        let Some(start) = lines[..end].iter().rposition(|line| *line == label) else { continue };
        let body = &lines[start..end];
        let is_innermost = !body[1..].iter().any(|line| line.starts_with("jmp "));
        if is_innermost {
            found.push(body.to_vec());
        }
    }
    found
}

/// The sums, the vectors of B and the repeated element of A stay in registers, and most of what is issued multiplies;
/// of a single row every vector of B is used but once, so that it is near a half.
#[test]
fn tiles_stay_in_registers() {
    let graphs = [
        dot(1024, 1024, 1024),
        dot(1000, 777, 513),
        dot(1, 784, 512),
        conv(64, 56, 64, 3),
        conv(128, 28, 128, 3),
        conv(256, 14, 256, 3),
        conv(512, 7, 512, 3),
        conv(256, 56, 64, 1),
    ];
    for isa in Isa::ALL {
        let backend = Backend::X64(isa);
        for graph in &graphs {
            let grouped = partition(graph, &FuseOptions::ALL);
            let lowered = nnc_kernel::lower(graph, &grouped, &backend.target()).unwrap();
            let listing = dump_asm(&lowered.program, backend).unwrap();
            let loops = innermost_products(&listing);
            assert!(!loops.is_empty(), "no loop that multiplies\n{listing}");
            for body in &loops {
                let text = body.join("\n");
                let mut of_frame = body.iter().filter(|line| line.contains("[rsp"));
                let is_vector = |line: &&str| line.split_once(' ').is_some_and(|(_, rest)| rest.contains("mm"));
                assert!(!of_frame.clone().any(is_vector), "{isa:?}: a vector leaves the registers\n{text}");
                // The end of the loop may be read from the frame, once for several steps.
                let reloads = of_frame.clone().count();
                let is_load = |line: &str| line.starts_with("mov ") && line.ends_with(']');
                assert!(reloads <= 1 && of_frame.all(|line| is_load(line)), "{isa:?}: the frame is used\n{text}");
            }
            let products = |body: &Vec<&str>| body.iter().filter(|line| line.starts_with("vfmadd")).count();
            let largest = loops.iter().max_by_key(|body| products(body)).unwrap();
            let share = products(largest) as f64 / largest.len() as f64;
            assert!(share > 0.4, "{isa:?}: {share} of a loop are products\n{}", largest.join("\n"));
        }
    }
}

/// Where the taps of windows lie, and whether they lie inside, is not asked again for each vector of channels: of each
/// tap there is little but the read and the maximum, which takes three instructions since it keeps what is no number,
/// and at the borders its place.
#[test]
fn windows_ask_nothing_for_each_vector() {
    const TAPS: usize = 9;
    for isa in Isa::ALL {
        let backend = Backend::X64(isa);
        for graph in [windows(14, 480, 1), windows(112, 64, 2)] {
            let grouped = partition(&graph, &FuseOptions::ALL);
            let lowered = nnc_kernel::lower(&graph, &grouped, &backend.target()).unwrap();
            let listing = dump_asm(&lowered.program, backend).unwrap();
            let maxima = |body: &Vec<&str>| body.iter().filter(|line| line.starts_with("vmaxps")).count();
            let loops: Vec<_> = innermost(&listing).into_iter().filter(|body| maxima(body) + 1 >= TAPS).collect();
            assert!(!loops.is_empty(), "{isa:?}: no loop of maxima\n{listing}");
            let least = loops.iter().map(Vec::len).min().unwrap();
            assert!(least <= 5 * TAPS, "{isa:?}: {least} instructions\n{listing}");
            for body in loops {
                assert!(body.len() <= 8 * TAPS, "{isa:?}: {} instructions\n{}", body.len(), body.join("\n"));
            }
        }
    }
}

/// Products of bytes are the machine's own instruction wherever there is one: in all of a program, not only in its
/// loops. Most of what the largest loop issues is that instruction.
#[test]
fn bytes_are_multiplied_by_the_instruction_for_them() {
    let graphs = [
        ("bytes", bytes(128, 512, 384), 0.5),
        ("few rows of bytes", bytes(2, 512, 384), 0.3),
        ("int8", stored(Stored::Bytes { group: 64 }, 1), 0.3),
        ("int8, several rows", stored(Stored::Bytes { group: 64 }, 8), 0.3),
    ];
    for (name, graph, least) in &graphs {
        let optimised = optimise(graph, &Options::default()).unwrap();
        for isa in Isa::ALL {
            let backend = Backend::X64(isa);
            let lowered = nnc_kernel::lower(&optimised.graph, &optimised.partition, &backend.target()).unwrap();
            let listing = dump_asm(&lowered.program, backend).unwrap();
            let count = |body: &[&str], start: &str| body.iter().filter(|line| line.starts_with(start)).count();
            let lines: Vec<&str> = listing.lines().map(str::trim).collect();
            let (one, several) = (count(&lines, "vpdpbusd "), count(&lines, "vpmadd"));
            assert_eq!(count(&lines, "vpdpbusds"), 0, "{name}, {isa:?}: sums wrap\n{listing}");
            if !isa.has_byte_products() {
                assert!(one == 0 && several > 0, "{name}, {isa:?}: {one}, {several}\n{listing}");
                continue;
            }
            assert!(one > 0 && several == 0, "{name}, {isa:?}: {one}, {several}\n{listing}");
            let loops = innermost(&listing);
            let largest = loops.iter().max_by_key(|body| count(body, "vpdpbusd ")).unwrap();
            let share = count(largest, "vpdpbusd ") as f64 / largest.len() as f64;
            assert!(share > *least, "{name}, {isa:?}: {share} of a loop are products\n{}", largest.join("\n"));
        }
    }
}
