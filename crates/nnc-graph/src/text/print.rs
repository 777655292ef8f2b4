//! A graph as text.

use super::cursor::quoted;
use super::ops::{Attribute, attributes};
use crate::{DType, Dim, Graph, Node, Op, Origin, OutputKind, Tensor, ValueId, tensor};
use std::fmt::Write;

/// Elements of a constant that is still printed as numbers.
const LONGEST_LIST: usize = 16;

pub(super) fn graph(graph: &Graph) -> String {
    let mut text = format!("graph {} {{\n", quoted(&graph.name));
    for (_, node) in graph.nodes() {
        if let Op::Scan(scan) = &node.op {
            self::graph(&scan.body).lines().for_each(|line| {
                let _ = writeln!(text, "  {line}");
            });
        }
        text.push_str("  ");
        text.push_str(&node_line(graph, node));
        text.push('\n');
    }
    for output in graph.outputs() {
        let name = quoted(&output.name);
        let line = match output.kind {
            OutputKind::Result => format!("output {name} = {}", output.value),
            OutputKind::Update(target) => format!("update {name} = {} over {target}", output.value),
        };
        let _ = writeln!(text, "  {line}");
    }
    text.push_str("}\n");
    text
}

fn node_line(graph: &Graph, node: &Node) -> String {
    let results: Vec<String> = node.results.iter().map(|&result| definition(graph, result)).collect();
    let types: Vec<String> = node.results.iter().map(|&result| graph.ty(result).to_string()).collect();
    let mut line = results.join(", ");
    let space = if results.is_empty() { "" } else { " " };
    let _ = write!(line, "{space}= {}", application(node));
    if !types.is_empty() {
        let _ = write!(line, " : {}", types.join(", "));
    }
    if let Some(origin) = graph.origin_of(node) {
        let _ = write!(line, " // {}", origin_words(origin));
    }
    line
}

fn definition(graph: &Graph, value: ValueId) -> String {
    match &graph.value(value).name {
        Some(name) => format!("{value} {}", quoted(name)),
        None => value.to_string(),
    }
}

/// The op, its attributes and its operands.
fn application(node: &Node) -> String {
    let text = op(&node.op);
    if matches!(node.op, Op::Constant(_)) || node.op.leaf_name().is_some() {
        return text;
    }
    let operands: Vec<String> = node.operands.iter().map(ValueId::to_string).collect();
    format!("{text}({})", operands.join(", "))
}

/// The op and its attributes.
pub(super) fn op(op: &Op) -> String {
    if let Op::Constant(tensor) = op {
        return format!("constant {}", data(tensor));
    }
    if let Some(name) = op.leaf_name() {
        return format!("{} {}", op.name(), quoted(name));
    }
    let attributes = attributes(op);
    if attributes.is_empty() {
        return op.name().to_owned();
    }
    let printed: Vec<String> = attributes.iter().map(|(name, value)| format!("{name}={}", attribute(value))).collect();
    format!("{}[{}]", op.name(), printed.join(", "))
}

fn attribute(value: &Attribute) -> String {
    match value {
        Attribute::Dim(dim) => dim.to_string(),
        Attribute::Text(text) => quoted(text),
        Attribute::List(dims) => {
            let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
            format!("[{}]", dims.join(", "))
        }
    }
}

/// Place, function and, unless it is empty, path.
fn origin_words(origin: &Origin) -> String {
    let word = |text: &str| {
        let plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
        if plain { text.to_owned() } else { quoted(text) }
    };
    let mut words = vec![word(&origin.place), word(&origin.function)];
    if !origin.path.is_empty() {
        words.push(word(&origin.path));
    }
    words.join(" ")
}

fn data(tensor: &Tensor) -> String {
    if tensor.elements() > LONGEST_LIST {
        return hexadecimal(tensor);
    }
    let numbers: Vec<String> =
        tensor.bytes().chunks_exact(tensor.dtype().size()).map(|element| number(tensor.dtype(), element)).collect();
    // Only a number that is read back to the same bits is printed as one; a NaN may carry a payload.
    let mut bytes = Vec::with_capacity(tensor.bytes().len());
    let read_back = numbers.iter().all(|number| super::parse::number(tensor.dtype(), number, &mut bytes).is_ok());
    if !read_back || bytes != tensor.bytes() {
        return hexadecimal(tensor);
    }
    if tensor.dims().is_empty() { numbers.concat() } else { format!("[{}]", numbers.join(", ")) }
}

/// The shortest decimal that is this number and no other.
fn number(dtype: DType, element: &[u8]) -> String {
    let value = tensor::decode(dtype, element);
    match dtype {
        DType::F32 => format!("{:?}", value as f32),
        DType::F64 | DType::F16 | DType::Bf16 => format!("{value:?}"),
        DType::I64 => element.try_into().map_or_else(|_| String::new(), |bytes| i64::from_le_bytes(bytes).to_string()),
        DType::I8 | DType::U8 | DType::I16 | DType::I32 => format!("{value}"),
        DType::Bool => (value != 0.0).to_string(),
    }
}

fn hexadecimal(tensor: &Tensor) -> String {
    let mut text = String::with_capacity(2 + 2 * tensor.bytes().len());
    text.push_str("0x");
    for byte in tensor.bytes() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
