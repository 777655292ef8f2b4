//! What the innermost loops of products and convolutions look like in machine code.

use nnc_codegen::{Backend, dump_asm};
use nnc_graph::{ConvAttributes, DType, Dim, Graph, Op, OutputKind, Shape, TensorType, ValueId};
use nnc_kernel::ir::Target;
use nnc_opt::fuse::{FuseOptions, partition};
use nnc_runtime::cpu::Isa;

fn input(graph: &mut Graph, name: &str, dims: &[usize]) -> ValueId {
    graph.emit(Op::Input { name: name.to_owned(), ty: TensorType::new(DType::F32, Shape::of(dims)) }, &[])
}

fn dot(rows: usize, depth: usize, columns: usize) -> Graph {
    let mut graph = Graph::new("dot");
    let (a, b) = (input(&mut graph, "a", &[rows, depth]), input(&mut graph, "b", &[depth, columns]));
    let y = graph.emit(Op::Dot { batch: 0, a_axes: vec![1], b_axes: vec![0] }, &[a, b]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

fn conv(channels: usize, size: usize, rows: usize, taps: usize) -> Graph {
    let mut graph = Graph::new("conv");
    let x = input(&mut graph, "x", &[1, channels, size, size]);
    let w = input(&mut graph, "w", &[rows, channels, taps, taps]);
    let both = |number: usize| vec![Dim::from(number as i64); 2];
    let padding = both(taps / 2);
    let attributes = ConvAttributes {
        stride: both(1),
        low: padding.clone(),
        high: padding,
        dilation: both(1),
        groups: Dim::from(1),
    };
    let y = graph.emit(Op::Conv(attributes), &[x, w]);
    graph.add_output("y", y, OutputKind::Result);
    graph
}

/// The loops of a listing that hold no other and multiply: from a label to a jump back to it.
fn innermost_products(listing: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = listing.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (end, line) in lines.iter().enumerate() {
        let Some(label) = line.strip_prefix("jmp ").map(|label| format!("{label}:")) else { continue };
        let Some(start) = lines[..end].iter().rposition(|line| *line == label) else { continue };
        let body = &lines[start..end];
        let is_innermost = !body[1..].iter().any(|line| line.starts_with("jmp "));
        if is_innermost && body.iter().any(|line| line.starts_with("vfmadd")) {
            found.push(body.to_vec());
        }
    }
    found
}

/// The sums, the vectors of B and the repeated element of A stay in registers, and most of what is issued multiplies; of a
/// single row every vector of B is used but once, so that it is near a half.
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
    for isa in [Isa::Avx2, Isa::Avx512] {
        let backend = Backend::X64(isa);
        for graph in &graphs {
            let grouped = partition(graph, &FuseOptions::ALL);
            let lowered = nnc_kernel::lower(graph, &grouped, &Target::new(backend.f32_lanes())).unwrap();
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
