//! Arithmetic, with the folding of indices.

use super::Builder;
use crate::ir::fold::{self, Identity};
use crate::ir::statement::{BinaryOp, CompareOp, Op, UnaryOp};
use crate::ir::types::{Elem, Type, Value};

/// Arithmetic. Index arithmetic is folded; everything else is taken as it is.
impl Builder {
    /// A function of one operand.
    pub fn unary(&mut self, op: UnaryOp, a: Value) -> Value {
        self.define(self.type_of(a), Op::Unary(op, a))
    }

    /// A function of two operands of one type.
    pub fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        if self.type_of(a) == Type::INDEX {
            return self.index_binary(op, a, b);
        }
        self.define(self.type_of(a), Op::Binary(op, a, b))
    }

    /// A comparison.
    pub fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Value {
        if let (Some(a), Some(b)) = (self.known_index(a), self.known_index(b)) {
            return self.bool(fold::compare(op, a, b), 1);
        }
        self.define(self.type_of(a).mask(), Op::Compare(op, a, b))
    }

    /// `a` where the mask holds, else `b`. The mask may be a scalar.
    pub fn select(&mut self, mask: Value, a: Value, b: Value) -> Value {
        match self.definitions[mask.index()] {
            Some(Op::Constant(1)) => a,
            Some(Op::Constant(0)) => b,
            _ if a == b => a,
            _ => self.define(self.type_of(a), Op::Select(mask, a, b)),
        }
    }

    /// `a * b + c`, rounded once.
    pub fn fma(&mut self, a: Value, b: Value, c: Value) -> Value {
        self.define(self.type_of(c), Op::Fma(a, b, c))
    }

    /// Converts to another element. f16 and bf16 go by way of f32.
    pub fn convert(&mut self, a: Value, elem: Elem) -> Value {
        let from = self.type_of(a);
        if from.elem == elem {
            return a;
        }
        let by_f32 =
            (from.elem.is_storage_float() && elem != Elem::F32) || (elem.is_storage_float() && from.elem != Elem::F32);
        let a = if by_f32 { self.define(from.with_elem(Elem::F32), Op::Convert(a)) } else { a };
        self.define(from.with_elem(elem), Op::Convert(a))
    }

    /// The same bits as `elem` in as many lanes as fit.
    pub fn bitcast(&mut self, a: Value, elem: Elem) -> Value {
        let from = self.type_of(a);
        if from.elem == elem {
            return a;
        }
        let ty = Type::vector(elem, (from.size() / elem.size()) as u8);
        self.define(ty, Op::Bitcast(a))
    }

    fn index_binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        let (a, b) = if fold::commutes(op) && self.known_index(a).is_some() { (b, a) } else { (a, b) };
        let Some(right) = self.known_index(b) else {
            return if op == BinaryOp::Add {
                self.add_indices(a, b)
            } else {
                self.define(Type::INDEX, Op::Binary(op, a, b))
            };
        };
        if let Some(left) = self.known_index(a) {
            return self.index(fold::binary(op, left, right));
        }
        match fold::identity(op, right) {
            Some(Identity::Same) => return a,
            Some(Identity::Number(number)) => return self.index(number),
            None => {}
        }
        match op {
            BinaryOp::Sub => {
                let negated = self.index(right.wrapping_neg());
                self.index_binary(BinaryOp::Add, a, negated)
            }
            BinaryOp::Add | BinaryOp::Mul => self.reassociate(op, a, right),
            _ => self.define(Type::INDEX, Op::Binary(op, a, b)),
        }
    }

    /// A sum without constants, then the constant summands, so that an address can take these.
    fn add_indices(&mut self, a: Value, b: Value) -> Value {
        let ((x, first), (y, second)) = (self.split_sum(a), self.split_sum(b));
        // In the order of ids, so that x + y and y + x are one.
        let (x, y) = if x <= y { (x, y) } else { (y, x) };
        let sum = self.define(Type::INDEX, Op::Binary(BinaryOp::Add, x, y));
        let plus = self.index(first.wrapping_add(second));
        self.index_binary(BinaryOp::Add, sum, plus)
    }

    /// An index as `x + constant`.
    fn split_sum(&self, a: Value) -> (Value, i64) {
        match self.definitions[a.index()] {
            Some(Op::Binary(BinaryOp::Add, x, constant)) => match self.known_index(constant) {
                Some(constant) => (x, constant),
                None => (a, 0),
            },
            _ => (a, 0),
        }
    }

    /// `(x op constant) op right` as `x op (constant op right)`.
    fn reassociate(&mut self, op: BinaryOp, a: Value, right: i64) -> Value {
        if let Some(Op::Binary(inner, x, constant)) = self.definitions[a.index()]
            && inner == op
            && let Some(constant) = self.known_index(constant)
        {
            let constant = self.index(fold::binary(op, constant, right));
            return self.index_binary(op, x, constant);
        }
        let constant = self.index(right);
        self.define(Type::INDEX, Op::Binary(op, a, constant))
    }

    /// `a + number` on indices.
    pub fn add_index(&mut self, a: Value, number: i64) -> Value {
        let number = self.index(number);
        self.add(a, number)
    }

    /// `a * number` on indices.
    pub fn mul_index(&mut self, a: Value, number: i64) -> Value {
        let number = self.index(number);
        self.mul(a, number)
    }

    /// `Σ value * factor + plus` on indices.
    pub fn affine(&mut self, terms: &[(Value, i64)], plus: i64) -> Value {
        let mut sum = self.index(0);
        for &(value, factor) in terms {
            let term = self.mul_index(value, factor);
            sum = self.add(sum, term);
        }
        self.add_index(sum, plus)
    }
}

macro_rules! shorthand {
    ($inner:ident, $enum:ident: $($name:ident = $variant:ident ($($arg:ident),*)),* $(,)?) => {
        /// Short forms, named as the operations they stand for.
        impl Builder {
            $(
                #[doc = concat!("[`", stringify!($enum), "::", stringify!($variant), "`].")]
                pub fn $name(&mut self, $($arg: Value),*) -> Value {
                    self.$inner($enum::$variant, $($arg),*)
                }
            )*
        }
    };
}

shorthand!(unary, UnaryOp: neg = Neg(a), abs = Abs(a), sqrt = Sqrt(a), floor = Floor(a), ceil = Ceil(a),
    trunc = Trunc(a), nearest = Nearest(a), not = Not(a));
shorthand!(binary, BinaryOp: add = Add(a, b), sub = Sub(a, b), mul = Mul(a, b), div = Div(a, b), rem = Rem(a, b),
    min = Min(a, b), max = Max(a, b), and = And(a, b), or = Or(a, b), xor = Xor(a, b), shl = Shl(a, b),
    shr = Shr(a, b), sar = Sar(a, b));
shorthand!(compare, CompareOp: eq = Eq(a, b), ne = Ne(a, b), lt = Lt(a, b), le = Le(a, b), gt = Gt(a, b),
    ge = Ge(a, b));

#[cfg(test)]
mod tests {
    use crate::ir::{Elem, Kernel, KernelBuilder, Statement, text, verify};

    fn kernel(body: impl FnOnce(&mut super::Builder, crate::ir::Value, crate::ir::Memory)) -> Kernel {
        let mut kernel = KernelBuilder::new("test");
        let memory = kernel.param("x", Elem::I64, crate::ir::Direction::InOut);
        kernel.phase(4, |b, task| body(b, task, memory));
        let kernel = kernel.finish();
        verify::verify(&kernel).unwrap();
        kernel
    }

    #[test]
    fn constants_of_indices_end_in_addresses() {
        let kernel = kernel(|b, task, memory| {
            let row = b.mul_index(task, 8);
            let row = b.add_index(row, 3);
            let same = b.add(task, row);
            let other = b.add(row, task);
            assert_eq!(same, other);
            let back = b.index(5);
            let at = b.sub(other, back);
            let at = b.add_index(at, 20);
            let value = b.load(memory, at, 1);
            b.store(memory, at, value);
        });
        let printed = text::print(&kernel);
        assert!(printed.contains("load p0[v8 + 18]") || printed.contains("+ 18]"), "{printed}");
    }

    #[test]
    fn identities_leave_nothing() {
        let kernel = kernel(|b, task, memory| {
            let (zero, one) = (b.index(0), b.index(1));
            let x = b.add(task, zero);
            let x = b.mul(one, x);
            let x = b.div(x, one);
            assert_eq!(x, task);
            assert_eq!(b.rem(x, one), zero);
            let value = b.load(memory, x, 1);
            b.store(memory, x, value);
        });
        let lets = kernel.phases[0].body.statements.iter().filter(|s| matches!(s, Statement::Let(..))).count();
        assert_eq!(lets, 1, "the load alone: {}", text::print(&kernel));
    }

    #[test]
    fn invariants_leave_loops_but_not_branches() {
        let kernel = kernel(|b, task, memory| {
            b.for_each(4, |b, i| {
                let far = b.mul_index(task, 100);
                let at = b.add(far, i);
                let value = b.load(memory, at, 1);
                let condition = b.gt(value, task);
                b.if_then(condition, |b| {
                    let square = b.mul(task, task);
                    b.store(memory, at, square);
                });
            });
        });
        let statements = &kernel.phases[0].body.statements;
        let Some(Statement::For(outer)) = statements.last() else { panic!("ends with the loop") };
        let printed = text::print(&kernel);
        let products = |statements: &[Statement]| {
            let of =
                |s: &Statement| matches!(s, Statement::Let(_, crate::ir::Op::Binary(crate::ir::BinaryOp::Mul, ..)));
            statements.iter().filter(|s| of(s)).count()
        };
        assert_eq!((products(statements), products(&outer.body.statements)), (1, 0), "{printed}");
    }
}
