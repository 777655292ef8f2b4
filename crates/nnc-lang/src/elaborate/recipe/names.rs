//! The names that a tree reads: what tells a setting that nothing reads from a value that something does.

use crate::syntax::ast::{Arg, Block, Body, Expr, ExprKind, IndexItem, Minimize, StmtKind};
use std::collections::BTreeSet;

/// Every name read in a block.
pub(crate) fn read_in_block(block: &Block, names: &mut BTreeSet<String>) {
    for stmt in &block.stmts {
        match &stmt.kind {
            StmtKind::Bind { value, .. } | StmtKind::Update { value, .. } => read_in(value, names),
            StmtKind::Metric { value, .. } | StmtKind::Augment { value, .. } => read_in(value, names),
            StmtKind::Picture { value, .. } => read_in(value, names),
            StmtKind::Return(value) | StmtKind::Yield(value) | StmtKind::Expr(value) => read_in(value, names),
            StmtKind::Param(declaration) | StmtKind::State(declaration) => read_in(&declaration.init, names),
            StmtKind::Layer(layer) => {
                read_in(&layer.value, names);
                if let Some(follows) = &layer.follows {
                    names.insert(follows.leader.text.clone());
                    follows.rate.iter().chain(&follows.every).for_each(|value| read_in(value, names));
                }
            }
            StmtKind::If { branches, otherwise } => {
                branches.iter().for_each(|(condition, _)| read_in(condition, names));
                branches.iter().map(|(_, block)| block).chain(otherwise).for_each(|block| read_in_block(block, names));
            }
            StmtKind::For { over, body, .. } => {
                read_in(over, names);
                read_in_block(body, names);
            }
            StmtKind::Minimize(minimize) => read_in_minimize(minimize, names),
            StmtKind::Answer { body, .. } => match body {
                Body::Expr(value) => read_in(value, names),
                Body::Block(block) => read_in_block(block, names),
            },
            StmtKind::Step { every, body, .. } => {
                every.iter().for_each(|every| read_in(every, names));
                read_in_block(body, names);
            }
            StmtKind::Names(_) | StmtKind::Error => {}
        }
    }
}

fn read_in_minimize(minimize: &Minimize, names: &mut BTreeSet<String>) {
    read_in(&minimize.loss, names);
    for part in &minimize.parts {
        part.over.iter().for_each(|over| read_in(over, names));
        read_in(&part.using, names);
    }
    minimize.options.iter().for_each(|(_, value)| read_in(value, names));
}

fn read_in_arguments(arguments: &[Arg], names: &mut BTreeSet<String>) {
    arguments.iter().for_each(|argument| read_in(&argument.value, names));
}

/// Every name read in an expression.
pub(crate) fn read_in(expr: &Expr, names: &mut BTreeSet<String>) {
    match &expr.kind {
        ExprKind::Name(name) => {
            names.insert(name.clone());
        }
        ExprKind::Spread(name) => {
            names.insert(name.text.clone());
        }
        ExprKind::Field(inner, _) | ExprKind::Paren(inner) | ExprKind::Unary(_, inner) | ExprKind::As(inner, _) => {
            read_in(inner, names);
        }
        ExprKind::List(items) | ExprKind::Tuple(items) => items.iter().for_each(|item| read_in(item, names)),
        ExprKind::Call(callee, arguments) => {
            read_in(callee, names);
            read_in_arguments(arguments, names);
        }
        ExprKind::Index(base, items) => {
            read_in(base, names);
            items.iter().for_each(|item| read_in_index(item, names));
        }
        ExprKind::Binary(_, a, b) | ExprKind::Pipe(a, b) | ExprKind::Range(a, b) => {
            read_in(a, names);
            read_in(b, names);
        }
        ExprKind::Scan(scan) => {
            scan.walks.iter().for_each(|(_, over)| read_in(over, names));
            scan.axis.iter().for_each(|axis| read_in(axis, names));
            scan.carries.iter().for_each(|(_, first)| read_in(first, names));
            read_in_block(&scan.body, names);
        }
        ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Str(_) | ExprKind::Bool(_) | ExprKind::Error => {}
    }
}

fn read_in_index(item: &IndexItem, names: &mut BTreeSet<String>) {
    match item {
        IndexItem::At(at) => read_in(at, names),
        IndexItem::Range(from, to, _) => from.iter().chain(to).for_each(|bound| read_in(bound, names)),
        IndexItem::All(_) | IndexItem::New(_) | IndexItem::Rest(_) => {}
    }
}
