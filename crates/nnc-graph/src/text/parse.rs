//! A graph from text: line by line, each node with the ids that its line gives it.

use super::ParseError;
use super::cursor::{Cursor, Read};
use super::ops::{self, Attribute, Attributes};
use crate::{DType, Graph, Op, Origin, OutputKind, Tensor, TensorType, ValueId, tensor, verify};
use std::collections::BTreeMap;

pub(super) fn graph(text: &str) -> Result<Graph, ParseError> {
    let mut parser = Parser { graph: Graph::default(), values: BTreeMap::new(), body: None };
    let mut state = State::Before;
    // The parsers of the graphs around the one that is read, outermost first.
    let mut around = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        let at_line = |message| ParseError { line: at + 1, message };
        if state == State::Inside && line.starts_with("graph ") {
            if around.len() == DEEPEST {
                return Err(at_line("bodies are nested too deep".to_owned()));
            }
            around.push(parser);
            parser = Parser { graph: Graph::default(), values: BTreeMap::new(), body: None };
            state = State::Before;
        }
        state = parser.line(state, line).map_err(at_line)?;
        if state == State::After
            && let Some(mut outer) = around.pop()
        {
            outer.body = Some(std::mem::take(&mut parser.graph));
            (parser, state) = (outer, State::Inside);
        }
    }
    let whole = |message: String| ParseError { line: 0, message };
    match state {
        State::Before => return Err(whole("there is no graph".to_owned())),
        State::Inside => return Err(whole("the graph is not closed by `}`".to_owned())),
        State::After => {}
    }
    verify::verify(&parser.graph).map_err(|problems| whole(problems.join("; ")))?;
    Ok(parser.graph)
}

/// How deep bodies may lie within each other.
const DEEPEST: usize = 32;

/// Where in the text a line stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    Inside,
    After,
}

struct Parser {
    graph: Graph,
    /// The value that a number in the text stands for.
    values: BTreeMap<u32, ValueId>,
    /// The body that was read for the scan that follows.
    body: Option<Graph>,
}

/// What a line says of a node, before its op is made.
struct Line {
    results: Vec<(u32, Option<String>)>,
    op: Op,
    operands: Vec<ValueId>,
    types: Vec<TensorType>,
    origin: Option<Origin>,
}

impl Parser {
    fn line(&mut self, state: State, line: &str) -> Read<State> {
        let mut cursor = Cursor::new(line);
        match state {
            State::Before => {
                cursor.expect("graph")?;
                self.graph = Graph::new(&cursor.text()?);
                cursor.expect("{")?;
                Ok(State::Inside)
            }
            State::After => Err("there is something after the graph".to_owned()),
            State::Inside if cursor.take("}") => Ok(State::After),
            State::Inside => {
                if cursor.take("output") {
                    self.output(&mut cursor, false)?;
                } else if cursor.take("update") {
                    self.output(&mut cursor, true)?;
                } else {
                    let body = self.body.take();
                    let line = self.node(&mut cursor, body)?;
                    self.add(line)?;
                }
                if cursor.is_at_end() { Ok(State::Inside) } else { Err(format!("unexpected text {}", cursor.here())) }
            }
        }
    }

    fn operand(&self, cursor: &mut Cursor<'_>) -> Read<ValueId> {
        let number = cursor.value()?;
        self.values.get(&number).copied().ok_or_else(|| format!("%{number} is not defined before"))
    }

    fn output(&mut self, cursor: &mut Cursor<'_>, update: bool) -> Read<()> {
        let name = cursor.text()?;
        cursor.expect("=")?;
        let value = self.operand(cursor)?;
        let kind = if update {
            cursor.expect("over")?;
            OutputKind::Update(self.operand(cursor)?)
        } else {
            OutputKind::Result
        };
        self.graph.add_output(&name, value, kind);
        Ok(())
    }

    fn node(&self, cursor: &mut Cursor<'_>, body: Option<Graph>) -> Read<Line> {
        let results = results(cursor)?;
        let word = cursor.word()?.to_owned();
        let leaf = matches!(word.as_str(), "input" | "param" | "state");
        let name = if leaf { cursor.text()? } else { String::new() };
        let numbers = if word == "constant" { Some(literals(cursor)?) } else { None };
        let plain = !leaf && numbers.is_none();
        let attributes = if plain && cursor.next_is('[') { cursor.list(("[", "]"), attribute)? } else { Vec::new() };
        let operands = if plain { cursor.list(("(", ")"), |cursor| self.operand(cursor))? } else { Vec::new() };
        let types = types(cursor)?;
        let origin = if cursor.take("//") { Some(origin(cursor)?) } else { None };
        let op = match (word.as_str(), body) {
            ("scan", Some(body)) => ops::scan(body, &attributes)?,
            ("scan", None) => return Err("a scan needs its body before it".to_owned()),
            (_, Some(_)) => return Err("a body belongs to a scan".to_owned()),
            (_, None) => op(&word, name, numbers, &attributes, types.first())?,
        };
        Ok(Line { results, op, operands, types, origin })
    }

    fn add(&mut self, line: Line) -> Read<()> {
        let origin = line.origin.map(|origin| self.graph.intern_origin(origin));
        self.graph.set_origin(origin);
        let values = self.graph.add(line.op, &line.operands).map_err(|error| error.to_string())?;
        if values.len() != line.results.len() {
            return Err(format!("{} results, not {}", values.len(), line.results.len()));
        }
        let given: Vec<&TensorType> = line.types.iter().collect();
        let inferred: Vec<&TensorType> = values.iter().map(|&value| self.graph.ty(value)).collect();
        if given != inferred {
            let list = |types: Vec<&TensorType>| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(format!("the result is {}, not {}", list(inferred), list(given)));
        }
        for (value, (number, name)) in values.into_iter().zip(line.results) {
            if self.values.insert(number, value).is_some() {
                return Err(format!("%{number} is defined twice"));
            }
            if let Some(name) = name {
                self.graph.set_name(value, &name);
            }
        }
        Ok(())
    }
}

/// `%3 "logits", %4 =`
fn results(cursor: &mut Cursor<'_>) -> Read<Vec<(u32, Option<String>)>> {
    let mut results = Vec::new();
    while !cursor.take("=") {
        if !results.is_empty() {
            cursor.expect(",")?;
        }
        let number = cursor.value()?;
        let name = if cursor.next_is('"') { Some(cursor.text()?) } else { None };
        results.push((number, name));
    }
    Ok(results)
}

/// `: f32[2], f32`, or nothing.
fn types(cursor: &mut Cursor<'_>) -> Read<Vec<TensorType>> {
    let mut types = Vec::new();
    if cursor.take(":") {
        types.push(cursor.ty()?);
        while cursor.take(",") {
            types.push(cursor.ty()?);
        }
    }
    Ok(types)
}

fn attribute(cursor: &mut Cursor<'_>) -> Read<(String, Attribute)> {
    let name = cursor.word()?.to_owned();
    cursor.expect("=")?;
    let value = if cursor.next_is('[') {
        Attribute::List(cursor.list(("[", "]"), Cursor::dim)?)
    } else if cursor.next_is('"') {
        Attribute::Text(cursor.text()?)
    } else {
        Attribute::Dim(cursor.dim()?)
    };
    Ok((name, value))
}

/// Place, function, path; see `print`.
fn origin(cursor: &mut Cursor<'_>) -> Read<Origin> {
    let (place, function) = (cursor.text_or_word()?, cursor.text_or_word()?);
    let path = if cursor.is_at_end() { String::new() } else { cursor.text_or_word()? };
    Ok(Origin { function, path, place })
}

fn literals(cursor: &mut Cursor<'_>) -> Read<Vec<String>> {
    if cursor.next_is('[') {
        return cursor.list(("[", "]"), |cursor| cursor.literal().map(str::to_owned));
    }
    Ok(vec![cursor.literal()?.to_owned()])
}

fn op(
    word: &str,
    name: String,
    numbers: Option<Vec<String>>,
    attributes: &Attributes,
    ty: Option<&TensorType>,
) -> Read<Op> {
    let scalar = TensorType::scalar(DType::F32);
    let ty = match ty {
        Some(ty) => ty,
        // `grad` by nothing has no result.
        None if word == "grad" => &scalar,
        None => return Err("the type of the result is missing".to_owned()),
    };
    match (word, numbers) {
        ("input", _) => Ok(Op::Input { name, ty: ty.clone() }),
        ("param", _) => Ok(Op::Param { path: name, ty: ty.clone() }),
        ("state", _) => Ok(Op::State { path: name, ty: ty.clone() }),
        (_, Some(numbers)) => constant(ty, &numbers).map(Op::Constant),
        (_, None) => ops::op(word, attributes, ty),
    }
}

fn constant(ty: &TensorType, numbers: &[String]) -> Read<Tensor> {
    let sizes: Option<Vec<usize>> =
        ty.shape.iter().map(|dim| dim.as_number().and_then(|size| usize::try_from(size).ok())).collect();
    let sizes = sizes.ok_or_else(|| format!("a constant of {ty}, which has a dim that is not bound"))?;
    let mut bytes = Vec::new();
    match numbers {
        [hexadecimal] if hexadecimal.starts_with("0x") => {
            bytes = from_hexadecimal(&hexadecimal[2..]).ok_or("the data is not hexadecimal")?;
        }
        numbers => numbers.iter().try_for_each(|literal| number(ty.dtype, literal, &mut bytes))?,
    }
    let given = bytes.len() / ty.dtype.size();
    Tensor::from_bytes(ty.dtype, &sizes, bytes).ok_or_else(|| format!("{given} elements do not make a {ty}"))
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let value = |digit: u8| (digit as char).to_digit(16);
    let byte = |pair: &[u8]| Some((value(pair[0])? << 4 | value(pair[1])?) as u8);
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(byte).collect()
}

/// Appends the element that a number stands for.
pub(super) fn number(dtype: DType, literal: &str, into: &mut Vec<u8>) -> Read<()> {
    let wrong = || format!("`{literal}` is no {dtype}");
    match dtype {
        // Not through `f64`: a decimal rounded twice may be another number.
        DType::F32 => into.extend(literal.parse::<f32>().map_err(|_| wrong())?.to_le_bytes()),
        DType::F64 | DType::F16 | DType::Bf16 => {
            tensor::encode(dtype, literal.parse::<f64>().map_err(|_| wrong())?, into);
        }
        DType::I8 => into.extend(literal.parse::<i8>().map_err(|_| wrong())?.to_le_bytes()),
        DType::U8 => into.push(literal.parse().map_err(|_| wrong())?),
        DType::I16 => into.extend(literal.parse::<i16>().map_err(|_| wrong())?.to_le_bytes()),
        DType::I32 => into.extend(literal.parse::<i32>().map_err(|_| wrong())?.to_le_bytes()),
        DType::I64 => into.extend(literal.parse::<i64>().map_err(|_| wrong())?.to_le_bytes()),
        DType::Bool => into.push(u8::from(literal.parse::<bool>().map_err(|_| wrong())?)),
    }
    Ok(())
}
