//! Removal of what nobody uses: mostly index arithmetic whose constants went into addresses.
//!
//! One pass from the end: a statement stays if it writes memory, or defines a value that a later one that stays reads.
//! All values that a kept loop carries stay.

use crate::ir::statement::{Address, Block, Statement};
use crate::ir::types::Value;

/// Removes dead statements from a block; `count` is the number of values of the phase.
pub(super) fn remove_dead(block: &mut Block, count: usize) {
    Uses { live: vec![false; count] }.block(block);
}

struct Uses {
    live: Vec<bool>,
}

impl Uses {
    fn read(&mut self, values: impl IntoIterator<Item = Value>) {
        for value in values {
            self.live[value.index()] = true;
        }
    }

    fn address(&mut self, address: &Address) {
        self.read(address.index);
    }

    fn any_live(&self, values: &[Value]) -> bool {
        values.iter().any(|value| self.live[value.index()])
    }

    fn block(&mut self, block: &mut Block) {
        self.read(block.results.iter().copied());
        let mut kept: Vec<Statement> = block.statements.drain(..).rev().filter_map(|s| self.statement(s)).collect();
        kept.reverse();
        block.statements = kept;
    }

    /// The statement, if it stays; what it reads is live then.
    fn statement(&mut self, mut statement: Statement) -> Option<Statement> {
        match &mut statement {
            Statement::Let(value, op) => {
                if !self.live[value.index()] {
                    return None;
                }
                self.read(op.operands());
            }
            Statement::Store(store) => {
                self.read([store.value]);
                self.read(store.access.operand());
                self.address(&store.address);
            }
            Statement::Prefetch(address) => self.address(address),
            Statement::For(statement) => {
                if !self.any_live(&statement.results) && !writes(&statement.body) {
                    return None;
                }
                self.block(&mut statement.body);
                self.read([statement.start, statement.end, statement.step]);
                self.read(statement.initial.iter().copied());
            }
            Statement::If(statement) => {
                let acts = writes(&statement.then) || writes(&statement.otherwise);
                if !self.any_live(&statement.results) && !acts {
                    return None;
                }
                self.block(&mut statement.then);
                self.block(&mut statement.otherwise);
                self.read([statement.condition]);
            }
        }
        Some(statement)
    }
}

/// Whether a block does more than compute.
fn writes(block: &Block) -> bool {
    block.statements.iter().any(|statement| match statement {
        Statement::Let(..) => false,
        Statement::Store(_) | Statement::Prefetch(_) => true,
        Statement::For(statement) => writes(&statement.body),
        Statement::If(statement) => writes(&statement.then) || writes(&statement.otherwise),
    })
}
