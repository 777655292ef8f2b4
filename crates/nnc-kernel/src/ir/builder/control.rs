//! Loops and choices.

use super::Builder;
use crate::ir::statement::{For, If, Op, Statement};
use crate::ir::types::{Type, Value};

/// Control.
impl Builder {
    /// `for index in (start..end).step_by(step)`, carrying values: `body` gets the index and the carried values and
    /// gives their next ones; the result is the last. A loop known to run at most once is laid out in line.
    pub fn for_loop(
        &mut self,
        start: Value,
        end: Value,
        step: Value,
        initial: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        self.for_unrolled(start, end, step, 1, initial, body)
    }

    /// [`Self::for_loop`] from 0 by 1 to a number known now.
    pub fn for_count(
        &mut self,
        count: i64,
        initial: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let (start, end, step) = (self.index(0), self.index(count), self.index(1));
        self.for_loop(start, end, step, initial, body)
    }

    /// [`Self::for_loop`] from 0 by 1 without carried values.
    pub fn for_each(&mut self, count: i64, body: impl FnOnce(&mut Self, Value)) {
        self.for_count(count, &[], |b, index, _| {
            body(b, index);
            vec![]
        });
    }

    /// [`Self::for_loop`], with `unroll` rounds laid out in line by the backend.
    pub fn for_unrolled(
        &mut self,
        start: Value,
        end: Value,
        step: Value,
        unroll: u8,
        initial: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        if let (Some(from), Some(to), Some(by)) =
            (self.known_index(start), self.known_index(end), self.known_index(step))
            && from.saturating_add(by) >= to
        {
            return if from < to { body(self, start, initial) } else { initial.to_vec() };
        }
        self.open(true);
        let index = self.fresh(Type::INDEX);
        let carried: Vec<Value> = initial.iter().map(|&value| self.fresh(self.type_of(value))).collect();
        let next = body(self, index, &carried);
        let body = self.close(next);
        let results: Vec<Value> = initial.iter().map(|&value| self.fresh(self.type_of(value))).collect();
        let initial = initial.to_vec();
        let statement = For { index, start, end, step, unroll, initial, carried, results: results.clone(), body };
        self.push(Statement::For(Box::new(statement)));
        results
    }

    /// Runs one of two blocks and gives its values, which have the same types in both.
    pub fn if_else(
        &mut self,
        condition: Value,
        then: impl FnOnce(&mut Self) -> Vec<Value>,
        otherwise: impl FnOnce(&mut Self) -> Vec<Value>,
    ) -> Vec<Value> {
        match self.definitions[condition.index()] {
            Some(Op::Constant(1)) => return then(self),
            Some(Op::Constant(0)) => return otherwise(self),
            _ => {}
        }
        self.open(false);
        let values = then(self);
        let then = self.close(values);
        self.open(false);
        let values = otherwise(self);
        let otherwise = self.close(values);
        let results: Vec<Value> = then.results.iter().map(|&value| self.fresh(self.type_of(value))).collect();
        self.push(Statement::If(Box::new(If { condition, then, otherwise, results: results.clone() })));
        results
    }

    /// Runs a block if the condition holds.
    pub fn if_then(&mut self, condition: Value, then: impl FnOnce(&mut Self)) {
        self.if_else(
            condition,
            |b| {
                then(b);
                vec![]
            },
            |_| vec![],
        );
    }
}
