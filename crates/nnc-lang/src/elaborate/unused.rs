//! Values, parameters and arguments that nothing reads: liveness, backwards over the tree of a body.
//!
//! A name is live where some path from there reads it before binding it anew. A binding whose name is not live behind
//! it is reported (W0001), a parameter or argument that is not, too (W0002). Names that begin with `_` are left out.

use super::report::Report;
use crate::diagnostic::{Code, Diagnostic};
use crate::syntax::ast::{
    Arg, Block, Body, DimExpr, Expr, ExprKind, Function, FunctionKind, Ident, IndexItem, Scan, Stmt, StmtKind, Target,
    Type, TypeKind,
};
use std::collections::BTreeSet;

type Live = BTreeSet<String>;

/// Reports what nothing reads in a function.
pub fn check_function(function: &Function, report: &mut Report) {
    let mut promised = Live::new();
    if let Some(result) = &function.result {
        read_type(result, &mut promised);
    }
    let mut walk = Walk { report: Some(report), promised: promised.clone() };
    let mut live = promised;
    match &function.body {
        Body::Expr(expr) => walk.read(expr, &mut live),
        Body::Block(block) => walk.block(block, &mut live),
    }
    for param in &function.params {
        if let Some(default) = &param.default {
            read(default, &mut live);
        }
        if !super::types::is_tensor(&param.ty) {
            read_type(&param.ty, &mut live);
        }
    }
    // A compile-time argument may be there for the dims of another.
    let mut in_types = live.clone();
    function.params.iter().for_each(|param| read_type(&param.ty, &mut in_types));
    let keeps_arguments = matches!(function.kind, FunctionKind::Optimizer);
    for param in function.params.iter().filter(|_| !keeps_arguments) {
        let mut dims = Live::new();
        read_type(&param.ty, &mut dims);
        let is_given_elsewhere = |dim: &String| {
            function.params.iter().filter(|other| !std::ptr::eq(*other, param)).any(|other| {
                let mut theirs = Live::new();
                read_type(&other.ty, &mut theirs);
                theirs.contains(dim)
            })
        };
        let gives_dims =
            super::types::is_tensor(&param.ty) && dims.iter().any(|dim| live.contains(dim) && !is_given_elsewhere(dim));
        let name = &param.name;
        if !in_types.contains(&name.text) && !gives_dims && !name.text.starts_with('_') {
            let message = format!("the argument `{}` is never used", name.text);
            report.add(Diagnostic::new(Code::W0002, name.span, message));
        }
    }
}

struct Walk<'r> {
    /// Absent while a loop's body is walked only for what is live before it.
    report: Option<&'r mut Report>,
    /// What the result type names.
    promised: Live,
}

impl Walk<'_> {
    fn block(&mut self, block: &Block, live: &mut Live) {
        for stmt in block.stmts.iter().rev() {
            self.stmt(stmt, live);
        }
    }

    fn stmt(&mut self, stmt: &Stmt, live: &mut Live) {
        match &stmt.kind {
            StmtKind::Bind { targets, ty, value } => {
                for target in targets {
                    if let Target::Name(name) = target {
                        let help = (targets.len() > 1).then_some("write `_` in its place");
                        self.bound_with(name, Code::W0001, ("the value of", help), live);
                    }
                }
                self.read(value, live);
                ty.iter().for_each(|ty| read_type(ty, live));
            }
            StmtKind::Param(declaration) | StmtKind::State(declaration) => {
                self.bound(&declaration.name, Code::W0002, "the parameter", live);
                self.read(&declaration.init, live);
                read_type(&declaration.ty, live);
            }
            StmtKind::Layer(layer) => {
                self.bound(&layer.name, Code::W0002, "the layer", live);
                self.read(&layer.value, live);
            }
            StmtKind::Update { target, value } => {
                live.insert(target.text.clone());
                self.read(value, live);
            }
            StmtKind::Return(value) => {
                *live = self.promised.clone();
                self.read(value, live);
            }
            StmtKind::If { branches, otherwise } => self.branches(branches, otherwise.as_ref(), live),
            StmtKind::For { target, over, body } => self.repeated(target, over, body, live),
            StmtKind::Expr(value) | StmtKind::Yield(value) => self.read(value, live),
            StmtKind::Metric { value, .. } | StmtKind::Augment { value, .. } => self.read(value, live),
            StmtKind::Picture { value, .. } => self.read(value, live),
            StmtKind::Minimize(minimize) => self.read(&minimize.loss, live),
            StmtKind::Answer { body, .. } => {
                if let Body::Expr(expr) = body {
                    self.read(expr, live);
                }
            }
            StmtKind::Step { .. } | StmtKind::Names(_) | StmtKind::Error => {}
        }
    }

    fn bound(&mut self, name: &Ident, code: Code, what: &str, live: &mut Live) {
        self.bound_with(name, code, (what, None), live);
    }

    fn bound_with(&mut self, name: &Ident, code: Code, (what, help): (&str, Option<&str>), live: &mut Live) {
        if live.remove(&name.text) || name.text.starts_with('_') {
            return;
        }
        if let Some(report) = &mut self.report {
            let message = format!("{what} `{}` is never used", name.text);
            report.add(help.into_iter().fold(Diagnostic::new(code, name.span, message), Diagnostic::help));
        }
    }

    fn branches(&mut self, branches: &[(Expr, Block)], otherwise: Option<&Block>, live: &mut Live) {
        let after = live.clone();
        if let Some(block) = otherwise {
            self.block(block, live);
        }
        for (condition, block) in branches.iter().rev() {
            let mut taken = after.clone();
            self.block(block, &mut taken);
            live.append(&mut taken);
            self.read(condition, live);
        }
    }

    fn repeated(&mut self, target: &Ident, over: &Expr, body: &Block, live: &mut Live) {
        let mut before = live.clone();
        let mut silent = Walk { report: None, promised: self.promised.clone() };
        silent.block(body, &mut before);
        before.extend(live.iter().cloned());
        self.block(body, &mut before);
        // The counter of a loop that only repeats is not for reading.
        before.remove(&target.text);
        live.append(&mut before);
        self.read(over, live);
    }

    /// Adds every name that an expression reads.
    fn read(&mut self, expr: &Expr, live: &mut Live) {
        match &expr.kind {
            ExprKind::Name(name) => {
                live.insert(name.clone());
            }
            ExprKind::Spread(name) => {
                live.insert(name.text.clone());
            }
            ExprKind::Field(inner, _) | ExprKind::Paren(inner) | ExprKind::Unary(_, inner) | ExprKind::As(inner, _) => {
                self.read(inner, live);
            }
            ExprKind::List(items) | ExprKind::Tuple(items) => items.iter().for_each(|item| self.read(item, live)),
            ExprKind::Call(callee, arguments) => {
                self.read(callee, live);
                arguments.iter().for_each(|Arg { value, .. }| self.read(value, live));
            }
            ExprKind::Index(base, items) => {
                self.read(base, live);
                items.iter().for_each(|item| self.read_index(item, live));
            }
            ExprKind::Binary(_, a, b) | ExprKind::Pipe(a, b) | ExprKind::Range(a, b) => {
                self.read(a, live);
                self.read(b, live);
            }
            ExprKind::Scan(scan) => self.scan(scan, live),
            ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Str(_) | ExprKind::Bool(_) | ExprKind::Error => {}
        }
    }

    fn read_index(&mut self, item: &IndexItem, live: &mut Live) {
        match item {
            IndexItem::At(at) => self.read(at, live),
            IndexItem::Range(from, to, _) => from.iter().chain(to).for_each(|bound| self.read(bound, live)),
            IndexItem::All(_) | IndexItem::New(_) | IndexItem::Rest(_) => {}
        }
    }

    /// The body has a scope of its own. What is carried is read by the next step and by what comes behind the loop.
    fn scan(&mut self, scan: &Scan, live: &mut Live) {
        let mut within: Live = scan.carries.iter().map(|(name, _)| name.text.clone()).collect();
        self.block(&scan.body, &mut within);
        within.retain(|name| scan.carries.iter().all(|(carried, _)| carried.text != *name));
        for (target, over) in &scan.walks {
            if matches!(over.kind, ExprKind::Range(..)) {
                // As in a `for`: the number of a step is not for reading.
                within.remove(&target.text);
            } else {
                self.bound(target, Code::W0001, "the value of", &mut within);
            }
        }
        live.append(&mut within);
        scan.walks.iter().for_each(|(_, over)| self.read(over, live));
        scan.axis.iter().for_each(|axis| self.read(axis, live));
        scan.carries.iter().for_each(|(_, value)| self.read(value, live));
    }
}

/// Adds every name that an expression reads, without a word about what nothing reads in it.
fn read(expr: &Expr, live: &mut Live) {
    Walk { report: None, promised: Live::new() }.read(expr, live);
}

fn read_type(ty: &Type, live: &mut Live) {
    match &ty.kind {
        TypeKind::Named { dims, .. } => {
            for dim in dims.iter().flatten() {
                match dim {
                    DimExpr::Expr(expr) => read(expr, live),
                    DimExpr::Rest(name) => {
                        live.insert(name.text.clone());
                    }
                }
            }
        }
        TypeKind::Tuple(items) => items.iter().for_each(|item| read_type(item, live)),
        TypeKind::List(item) => read_type(item, live),
        TypeKind::Function(..) | TypeKind::Error => {}
    }
}
