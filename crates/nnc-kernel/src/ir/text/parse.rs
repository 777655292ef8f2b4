//! Text to kernels. Only the form that `print` gives is accepted; the result is not verified.

use crate::ir::statement::{
    Access, Address, Base, BinaryOp, Block, CompareOp, Direction, For, If, Op, Param, ReduceOp, Statement, Store,
    UnaryOp,
};
use crate::ir::types::{Elem, ParamId, Type, Value};
use crate::ir::{Kernel, Phase};
use std::fmt;

/// Where and why text is no kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What was expected or found.
    pub what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ParseError {}

/// Reads one kernel.
///
/// # Errors
/// At the first token that does not fit.
pub fn parse(text: &str) -> Result<Kernel, ParseError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, types: vec![] };
    parser.kernel()
}

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

type Parsed<T> = Result<T, ParseError>;

/// Words are letters, digits, `_`, `.`, `-` at the start; strings are as `{:?}` prints them.
fn tokens(text: &str) -> Parsed<Vec<(Token, usize)>> {
    let mut tokens = vec![];
    for (number, line) in text.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let (token, length) = match first {
                '"' => quoted(rest).ok_or(ParseError { line: number + 1, what: "an open string".to_string() })?,
                '-' if rest.starts_with("->") => (Token::Mark('>'), 2),
                c if c.is_ascii_alphanumeric() || c == '-' || c == '.' => {
                    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    let length = 1 + rest[1..].find(|c| !is_part(c)).unwrap_or(rest.len() - 1);
                    (Token::Word(rest[..length].to_string()), length)
                }
                c => (Token::Mark(c), c.len_utf8()),
            };
            tokens.push((token, number + 1));
            rest = rest[length..].trim_start();
        }
    }
    Ok(tokens)
}

/// A string and its length in the source. Escapes: `\"`, `\\`, `\n`, `\t`, `\r`, `\'`, `\0`, `\u{..}`.
fn quoted(text: &str) -> Option<(Token, usize)> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((Token::Text(out), at + 1)),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                '0' => out.push('\0'),
                'u' => {
                    let digits: String = chars.by_ref().skip(1).map(|(_, c)| c).take_while(|&c| c != '}').collect();
                    out.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                }
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    None
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    types: Vec<Type>,
}

/// Tokens.
impl Parser {
    fn error<T>(&self, what: impl Into<String>) -> Parsed<T> {
        let last = self.tokens.last().map_or(1, |(_, line)| *line);
        let line = self.tokens.get(self.at.saturating_sub(1)).map_or(last, |(_, line)| *line);
        Err(ParseError { line, what: what.into() })
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn next(&mut self) -> Parsed<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        match token {
            Some(token) => Ok(token),
            None => self.error("the text ends too early"),
        }
    }

    fn mark(&mut self, mark: char) -> Parsed<()> {
        match self.next()? {
            Token::Mark(found) if found == mark => Ok(()),
            found => self.error(format!("expected `{mark}`, found {found:?}")),
        }
    }

    fn take_mark(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(&Token::Mark(mark));
        self.at += usize::from(found);
        found
    }

    fn word(&mut self) -> Parsed<String> {
        match self.next()? {
            Token::Word(word) => Ok(word),
            found => self.error(format!("expected a word, found {found:?}")),
        }
    }

    fn keyword(&mut self, keyword: &str) -> Parsed<()> {
        match self.word()? {
            word if word == keyword => Ok(()),
            word => self.error(format!("expected `{keyword}`, found `{word}`")),
        }
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(word)) if word == keyword);
        self.at += usize::from(found);
        found
    }

    fn text(&mut self) -> Parsed<String> {
        match self.next()? {
            Token::Text(text) => Ok(text),
            found => self.error(format!("expected a string, found {found:?}")),
        }
    }

    fn number<T: std::str::FromStr>(&mut self) -> Parsed<T> {
        let word = self.word()?;
        match word.parse() {
            Ok(number) => Ok(number),
            Err(_) => self.error(format!("`{word}` is no number that fits")),
        }
    }

    fn id(&mut self, prefix: char) -> Parsed<u32> {
        let word = self.word()?;
        match word.strip_prefix(prefix).and_then(|digits| digits.parse().ok()) {
            Some(id) => Ok(id),
            None => self.error(format!("expected `{prefix}` and a number, found `{word}`")),
        }
    }

    fn value(&mut self) -> Parsed<Value> {
        Ok(Value(self.id('v')?))
    }

    fn elem(&mut self) -> Parsed<Elem> {
        let word = self.word()?;
        match Elem::from_name(&word) {
            Some(elem) => Ok(elem),
            None => self.error(format!("`{word}` is no element type")),
        }
    }

    fn ty(&mut self) -> Parsed<Type> {
        let word = self.word()?;
        let (elem, lanes) = word.split_once('x').unwrap_or((&word, "1"));
        match (Elem::from_name(elem), lanes.parse()) {
            (Some(elem), Ok(lanes)) => Ok(Type { elem, lanes }),
            _ => self.error(format!("`{word}` is no type")),
        }
    }

    /// A value with its type, which is noted.
    fn definition(&mut self) -> Parsed<(Value, Type)> {
        let value = self.value()?;
        self.mark(':')?;
        let ty = self.ty()?;
        self.note(value, ty)?;
        Ok((value, ty))
    }

    fn note(&mut self, value: Value, ty: Type) -> Parsed<()> {
        // A value takes at least a few characters, so a larger number is a mistake, not a large kernel.
        if value.index() >= self.tokens.len() {
            return self.error(format!("{value} is out of order"));
        }
        if value.index() >= self.types.len() {
            self.types.resize(value.index() + 1, Type::INDEX);
        }
        self.types[value.index()] = ty;
        Ok(())
    }

    fn values(&mut self) -> Parsed<Vec<Value>> {
        let mut values = vec![self.value()?];
        while self.take_mark(',') {
            values.push(self.value()?);
        }
        Ok(values)
    }
}

/// Structure.
impl Parser {
    fn kernel(&mut self) -> Parsed<Kernel> {
        self.keyword("kernel")?;
        let name = self.text()?;
        self.keyword("scratch")?;
        let scratch = self.number()?;
        self.mark('{')?;
        let (mut params, mut phases) = (vec![], vec![]);
        while !self.take_mark('}') {
            if self.take_keyword("phase") {
                phases.push(self.phase()?);
            } else {
                params.push(self.param()?);
            }
        }
        match self.peek() {
            None => Ok(Kernel { name, params, scratch, phases }),
            Some(_) => self.error("more after the kernel"),
        }
    }

    fn param(&mut self) -> Parsed<Param> {
        let word = self.word()?;
        let Some(direction) = Direction::from_name(&word) else {
            return self.error(format!("expected a parameter or a phase, found `{word}`"));
        };
        self.id('p')?;
        let name = self.text()?;
        self.mark(':')?;
        Ok(Param { name, elem: self.elem()?, direction })
    }

    fn phase(&mut self) -> Parsed<Phase> {
        self.types = vec![];
        let tasks = self.number()?;
        let task = self.value()?;
        self.note(task, Type::INDEX)?;
        let body = self.block()?;
        Ok(Phase { tasks, task, types: std::mem::take(&mut self.types), body })
    }

    fn block(&mut self) -> Parsed<Block> {
        self.mark('{')?;
        let mut block = Block::default();
        while !self.take_mark('}') {
            if self.take_keyword("yield") {
                block.results = self.values()?;
            } else {
                block.statements.push(self.statement()?);
            }
        }
        Ok(block)
    }

    fn statement(&mut self) -> Parsed<Statement> {
        if self.take_keyword("store") {
            return self.store();
        }
        if self.take_keyword("prefetch") {
            return Ok(Statement::Prefetch(self.address()?));
        }
        if self.take_keyword("for") {
            return self.for_loop();
        }
        if self.take_keyword("if") {
            return self.choice();
        }
        let (value, ty) = self.definition()?;
        self.mark('=')?;
        Ok(Statement::Let(value, self.op(ty)?))
    }

    fn store(&mut self) -> Parsed<Statement> {
        let access = self.access()?;
        let address = self.address()?;
        self.mark('=')?;
        Ok(Statement::Store(Store { address, access, value: self.value()? }))
    }

    fn for_loop(&mut self) -> Parsed<Statement> {
        let index = self.value()?;
        self.note(index, Type::INDEX)?;
        self.mark('=')?;
        let start = self.value()?;
        self.keyword("to")?;
        let end = self.value()?;
        self.keyword("step")?;
        let step = self.value()?;
        self.keyword("unroll")?;
        let unroll = self.number()?;
        let (mut initial, mut carried) = (vec![], vec![]);
        let mut more = self.take_keyword("with");
        while more {
            carried.push(self.definition()?.0);
            self.mark('=')?;
            initial.push(self.value()?);
            more = self.take_mark(',');
        }
        let body = self.block()?;
        let results = self.results()?;
        Ok(Statement::For(Box::new(For { index, start, end, step, unroll, initial, carried, results, body })))
    }

    fn choice(&mut self) -> Parsed<Statement> {
        let condition = self.value()?;
        let then = self.block()?;
        self.keyword("else")?;
        let otherwise = self.block()?;
        let results = self.results()?;
        Ok(Statement::If(Box::new(If { condition, then, otherwise, results })))
    }

    fn results(&mut self) -> Parsed<Vec<Value>> {
        let mut results = vec![];
        let mut more = self.take_mark('>');
        while more {
            results.push(self.definition()?.0);
            more = self.take_mark(',');
        }
        Ok(results)
    }

    fn access(&mut self) -> Parsed<Access> {
        let Some(Token::Word(word)) = self.peek().cloned() else { return self.error("expected a place") };
        let Some(word) = word.strip_prefix('.') else { return Ok(Access::Contiguous) };
        self.at += 1;
        Ok(match word {
            "splat" => Access::Splat,
            "stride" => Access::Strided(self.value()?),
            "tail" => Access::Tail(self.value()?),
            "mask" => Access::Masked(self.value()?),
            "index" => Access::Indexed(self.value()?),
            other => return self.error(format!("`{other}` is no way to access memory")),
        })
    }

    fn address(&mut self) -> Parsed<Address> {
        let base = if self.take_keyword("scratch") {
            Base::Scratch(self.number()?)
        } else {
            Base::Param(ParamId(self.id('p')?))
        };
        self.mark('[')?;
        let has_index = matches!(self.peek(), Some(Token::Word(word)) if word.starts_with('v'));
        let index = if has_index { Some(self.value()?) } else { None };
        if index.is_some() {
            self.mark('+')?;
        }
        let plus = self.number()?;
        self.mark(']')?;
        Ok(Address { base, index, plus })
    }
}

/// Operations.
impl Parser {
    fn op(&mut self, ty: Type) -> Parsed<Op> {
        let word = self.word()?;
        match word.as_str() {
            "const" => self.constant(ty),
            "iota" => Ok(Op::Iota),
            "load" => {
                let access = self.access()?;
                Ok(Op::Load(self.address()?, access))
            }
            "extract" => {
                let a = self.value()?;
                self.mark(',')?;
                Ok(Op::Extract(a, self.number()?))
            }
            "insert" => {
                let a = self.value()?;
                self.mark(',')?;
                let scalar = self.value()?;
                self.mark(',')?;
                Ok(Op::Insert(a, scalar, self.number()?))
            }
            "shuffle" => self.shuffle(),
            _ => {
                let operands = self.values()?;
                match plain(&word, &operands) {
                    Some(op) => Ok(op),
                    None => self.error(format!("`{word}` on {} values is no operation", operands.len())),
                }
            }
        }
    }

    fn constant(&mut self, ty: Type) -> Parsed<Op> {
        if ty == Type::INDEX {
            return Ok(Op::Constant(self.number::<i64>()? as u64));
        }
        let word = self.word()?;
        match word.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            Some(bits) => Ok(Op::Constant(bits)),
            None => self.error(format!("`{word}` are no hexadecimal bits")),
        }
    }

    fn shuffle(&mut self) -> Parsed<Op> {
        let a = self.value()?;
        self.mark(',')?;
        let b = self.value()?;
        self.mark(',')?;
        self.mark('[')?;
        let mut pattern = vec![];
        while !self.take_mark(']') {
            pattern.push(self.number()?);
        }
        Ok(Op::Shuffle(a, b, pattern.into()))
    }
}

/// An operation whose operands are all values.
fn plain(word: &str, operands: &[Value]) -> Option<Op> {
    match *operands {
        [a] => {
            if let Some(op) = UnaryOp::from_name(word) {
                return Some(Op::Unary(op, a));
            }
            if let Some(op) = word.strip_prefix("reduce_").and_then(ReduceOp::from_name) {
                return Some(Op::Reduce(op, a));
            }
            match word {
                "convert" => Some(Op::Convert(a)),
                "bitcast" => Some(Op::Bitcast(a)),
                "splat" => Some(Op::Splat(a)),
                _ => None,
            }
        }
        [a, b] if word == "look_up" => Some(Op::LookUp(a, b)),
        [a, b] => match (BinaryOp::from_name(word), CompareOp::from_name(word)) {
            (Some(op), _) => Some(Op::Binary(op, a, b)),
            (None, Some(op)) => Some(Op::Compare(op, a, b)),
            (None, None) => None,
        },
        [a, b, c] => match word {
            "select" => Some(Op::Select(a, b, c)),
            "fma" => Some(Op::Fma(a, b, c)),
            "dot_i8" => Some(Op::DotI8(a, b, c)),
            "dot_i7" => Some(Op::DotI7(a, b, c)),
            "dot_bf16" => Some(Op::DotBf16(a, b, c)),
            _ => None,
        },
        _ => None,
    }
}
