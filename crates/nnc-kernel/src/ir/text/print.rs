//! Kernels to text.

use crate::ir::statement::{Access, Address, Base, Block, For, If, Op, Statement};
use crate::ir::types::{Type, Value};
use crate::ir::{Kernel, Phase};
use std::fmt::Write;

/// The kernel as text.
pub fn print(kernel: &Kernel) -> String {
    let mut out = format!("kernel {:?} scratch {} {{\n", kernel.name, kernel.scratch);
    for (number, param) in kernel.params.iter().enumerate() {
        out += &format!("  {} p{number} {:?}: {}\n", param.direction.name(), param.name, param.elem);
    }
    for phase in &kernel.phases {
        out += &format!("  phase {} {} {{\n", phase.tasks, phase.task);
        Printer { phase, out: &mut out, depth: 2 }.block(&phase.body);
        out += "  }\n";
    }
    out + "}\n"
}

struct Printer<'a> {
    phase: &'a Phase,
    out: &'a mut String,
    depth: usize,
}

impl Printer<'_> {
    fn line(&mut self, text: &str) {
        for _ in 0..self.depth {
            self.out.push_str("  ");
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn block(&mut self, block: &Block) {
        for statement in &block.statements {
            self.statement(statement);
        }
        if !block.results.is_empty() {
            self.line(&format!("yield {}", list(&block.results)));
        }
    }

    fn inside(&mut self, block: &Block) {
        self.depth += 1;
        self.block(block);
        self.depth -= 1;
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Let(value, op) => {
                let ty = self.phase.type_of(*value);
                self.line(&format!("{value}: {ty} = {}", operation(ty, op)));
            }
            Statement::Store(store) => {
                let access = access(store.access);
                self.line(&format!("store{access} {} = {}", address(store.address), store.value));
            }
            Statement::Prefetch(place) => self.line(&format!("prefetch {}", address(*place))),
            Statement::For(statement) => self.for_loop(statement),
            Statement::If(statement) => self.choice(statement),
        }
    }

    fn for_loop(&mut self, statement: &For) {
        let For { index, start, end, step, unroll, .. } = statement;
        let mut head = format!("for {index} = {start} to {end} step {step} unroll {unroll}");
        for (number, (carried, initial)) in statement.carried.iter().zip(&statement.initial).enumerate() {
            let word = if number == 0 { " with" } else { "," };
            let _ = write!(head, "{word} {} = {initial}", self.typed(*carried));
        }
        self.line(&format!("{head} {{"));
        self.inside(&statement.body);
        let end = self.closing(&statement.results);
        self.line(&end);
    }

    fn choice(&mut self, statement: &If) {
        self.line(&format!("if {} {{", statement.condition));
        self.inside(&statement.then);
        self.line("} else {");
        self.inside(&statement.otherwise);
        let end = self.closing(&statement.results);
        self.line(&end);
    }

    fn closing(&self, results: &[Value]) -> String {
        if results.is_empty() {
            return "}".to_string();
        }
        let typed: Vec<String> = results.iter().map(|&value| self.typed(value)).collect();
        format!("}} -> {}", typed.join(", "))
    }

    fn typed(&self, value: Value) -> String {
        format!("{value}: {}", self.phase.type_of(value))
    }
}

fn list(values: &[Value]) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    values.join(", ")
}

fn address(address: Address) -> String {
    let base = match address.base {
        Base::Param(param) => param.to_string(),
        Base::Scratch(start) => format!("scratch {start}"),
    };
    match address.index {
        Some(index) => format!("{base}[{index} + {}]", address.plus),
        None => format!("{base}[{}]", address.plus),
    }
}

fn access(access: Access) -> String {
    match access {
        Access::Contiguous => String::new(),
        Access::Splat => ".splat".to_string(),
        Access::Strided(stride) => format!(".stride {stride}"),
        Access::Tail(count) => format!(".tail {count}"),
        Access::Masked(mask) => format!(".mask {mask}"),
        Access::Indexed(indices) => format!(".index {indices}"),
    }
}

fn operation(ty: Type, op: &Op) -> String {
    let numbers = |pattern: &[u8]| pattern.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    match op {
        Op::Constant(bits) if ty == Type::INDEX => format!("const {}", *bits as i64),
        Op::Constant(bits) => format!("const {bits:#x}"),
        Op::Load(place, how) => format!("load{} {}", access(*how), address(*place)),
        Op::Extract(a, lane) => format!("extract {a}, {lane}"),
        Op::Insert(a, scalar, lane) => format!("insert {a}, {scalar}, {lane}"),
        Op::Shuffle(a, b, pattern) => format!("shuffle {a}, {b}, [{}]", numbers(pattern)),
        Op::Iota => "iota".to_string(),
        Op::Unary(..)
        | Op::Binary(..)
        | Op::Compare(..)
        | Op::Select(..)
        | Op::Fma(..)
        | Op::Convert(_)
        | Op::Bitcast(_)
        | Op::Splat(_)
        | Op::LookUp(..)
        | Op::Reduce(..)
        | Op::DotI8(..)
        | Op::DotI7(..)
        | Op::DotBf16(..) => format!("{} {}", word(op), list(&op.operands())),
    }
}

/// The word of an operation whose operands are all values. Reductions and comparisons share words with binary
/// operations or each other, and have a prefix.
fn word(op: &Op) -> String {
    match op {
        Op::Unary(op, _) => op.name().to_string(),
        Op::Binary(op, ..) => op.name().to_string(),
        Op::Compare(op, ..) => op.name().to_string(),
        Op::Reduce(op, _) => format!("reduce_{}", op.name()),
        Op::Select(..) => "select".to_string(),
        Op::Fma(..) => "fma".to_string(),
        Op::Convert(_) => "convert".to_string(),
        Op::Bitcast(_) => "bitcast".to_string(),
        Op::Splat(_) => "splat".to_string(),
        Op::LookUp(..) => "look_up".to_string(),
        Op::DotI8(..) => "dot_i8".to_string(),
        Op::DotI7(..) => "dot_i7".to_string(),
        Op::DotBf16(..) => "dot_bf16".to_string(),
        Op::Constant(_) => "const".to_string(),
        Op::Iota => "iota".to_string(),
        Op::Extract(..) => "extract".to_string(),
        Op::Insert(..) => "insert".to_string(),
        Op::Shuffle(..) => "shuffle".to_string(),
        Op::Load(..) => "load".to_string(),
    }
}
