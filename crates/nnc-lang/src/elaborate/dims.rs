//! Dims: unification of the dims of an annotation with a shape, and solving for names.
//!
//! A dim that is a bare name binds when it is first met and is compared from then on; an expression is checked once its
//! names are bound, or solved when it is linear in one name that nothing else binds. `...S` binds a list of ints. A dim
//! with a division that was not carried out, or an unknown one, equals everything: it is decided when its names are
//! bound, since every graph is elaborated again then.

use super::Elaborator;
use super::report::is_divided;
use super::types::{Fit, Misfit};
use super::value::Value;
use crate::diagnostic::{Code, Span};
use crate::syntax::ast::{BinaryOperator, DimExpr, Expr, ExprKind, Ident, IndexItem, Type, TypeKind, UnaryOperator};
use nnc_graph::Dim;

/// A dim whose names were not bound when it was met.
#[derive(Clone, Debug)]
pub struct Equation {
    expression: Expr,
    actual: Dim,
    span: Span,
}

/// Why a dim has no value now.
pub(super) enum Unsolved {
    /// A name in it is not bound.
    Unbound(Ident),
    /// Not an int expression, or one that only the evaluator can do.
    Other,
}

impl Elaborator<'_> {
    /// Unifies the dims of an annotation with a shape.
    pub(super) fn fit_shape(
        &mut self,
        dims: &[DimExpr],
        actual: &[Dim],
        span: Span,
        later: &mut Vec<Equation>,
    ) -> Fit<()> {
        let rest = dims.iter().position(|dim| matches!(dim, DimExpr::Rest(_)));
        let fixed = dims.len() - usize::from(rest.is_some());
        if actual.len() < fixed || rest.is_none() && actual.len() != fixed {
            let least = if rest.is_some() { "at least " } else { "" };
            return Err(Misfit::new(format!("{}, not {least}{fixed}", axes(actual.len()))));
        }
        let stretch = actual.len() - fixed;
        let mut at = 0;
        let mut expressions = Vec::new();
        for dim in dims {
            match dim {
                DimExpr::Rest(name) => {
                    self.fit_rest(name, &actual[at..at + stretch], span)?;
                    at += stretch;
                }
                DimExpr::Expr(expression) => {
                    match bare_name(expression).filter(|name| !self.is_bound(name)) {
                        Some(name) => self.bind_dim(name, Value::Int(actual[at].clone()), span),
                        None => expressions.push((expression, at)),
                    }
                    at += 1;
                }
            }
        }
        for (expression, at) in expressions {
            self.fit_dim(expression, &actual[at], at, span, later)?;
        }
        Ok(())
    }

    fn fit_rest(&mut self, name: &Ident, actual: &[Dim], span: Span) -> Fit<()> {
        let found: Vec<Value> = actual.iter().cloned().map(Value::Int).collect();
        let Some(binding) = self.frames.last().and_then(|frame| frame.bindings.get(&name.text)) else {
            self.bind_dim(&name.text, Value::list(found), span);
            return Ok(());
        };
        let (known, place) = (binding.value.clone(), binding.span);
        let Value::List(known) = known else { return Ok(()) };
        let agrees = known.len() == actual.len()
            && known.iter().zip(actual).all(|(known, dim)| match known {
                Value::Int(known) => self.dims_agree(known, dim),
                _ => true,
            });
        if agrees {
            return Ok(());
        }
        let shown: Vec<String> = known.iter().map(|dim| self.show_int(dim)).collect();
        let found: Vec<String> = actual.iter().map(Dim::to_string).collect();
        let text = format!("`...{}` is [{}] from here", name.text, shown.join(", "));
        let reason = format!("`...{}` is [{}] and [{}]", name.text, shown.join(", "), found.join(", "));
        Err(Misfit { labels: vec![(place, text)], ..Misfit::new(reason) })
    }

    fn fit_dim(
        &mut self,
        expression: &Expr,
        actual: &Dim,
        axis: usize,
        span: Span,
        later: &mut Vec<Equation>,
    ) -> Fit<()> {
        match self.quiet_dim(expression, None) {
            Ok(wanted) if self.dims_agree(&wanted, actual) => Ok(()),
            Ok(wanted) => Err(self.dim_misfit(expression, &wanted, actual, axis)),
            Err(Unsolved::Unbound(_)) => {
                later.push(Equation { expression: expression.clone(), actual: actual.clone(), span });
                Ok(())
            }
            Err(Unsolved::Other) => match self.eval(expression) {
                Value::Int(wanted) if self.dims_agree(&wanted, actual) => Ok(()),
                Value::Int(wanted) => Err(self.dim_misfit(expression, &wanted, actual, axis)),
                Value::Poison => Ok(()),
                other => {
                    self.mismatch::<()>(&other, "an int for a dim", expression.span);
                    Ok(())
                }
            },
        }
    }

    /// Says which dim differs, and where its name was bound.
    fn dim_misfit(&self, expression: &Expr, wanted: &Dim, actual: &Dim, axis: usize) -> Misfit {
        let text = self.program.text(expression.span);
        let shown = if text == wanted.to_string() { text.to_owned() } else { format!("`{text}` = {wanted}") };
        let mut misfit = Misfit::new(format!("dim {axis} is {actual}, not {shown}"));
        let Some(frame) = self.frames.last() else { return misfit };
        let mut names = Vec::new();
        collect_names(expression, &mut names);
        for name in names {
            if let Some(binding) = frame.bindings.get(&name.text) {
                misfit
                    .labels
                    .push((binding.span, format!("`{}` is {} from here", name.text, self.show_int(&binding.value))));
            }
        }
        misfit
    }

    /// Solves the dims that had to wait. What stays open is reported (E0306).
    pub fn solve(&mut self, mut equations: Vec<Equation>) -> Result<(), (Misfit, Span)> {
        while !equations.is_empty() {
            let before = equations.len();
            let mut open = Vec::new();
            for equation in equations {
                if !self.solve_one(&equation).map_err(|misfit| (misfit, equation.span))? {
                    open.push(equation);
                }
            }
            if open.len() == before {
                let equation = &open[0];
                let text = self.program.text(equation.expression.span);
                let reason = format!("`{text} = {}` does not say what its names are", equation.actual);
                return Err((Misfit { code: Some(Code::E0306), ..Misfit::new(reason) }, equation.span));
            }
            equations = open;
        }
        Ok(())
    }

    /// Whether the equation is settled: true, or solved for its one unknown name.
    fn solve_one(&mut self, equation: &Equation) -> Fit<bool> {
        let Equation { expression, actual, span } = equation;
        let unknown = match self.quiet_dim(expression, None) {
            Ok(wanted) if self.dims_agree(&wanted, actual) => return Ok(true),
            Ok(wanted) => return Err(self.dim_misfit(expression, &wanted, actual, 0)),
            Err(Unsolved::Unbound(name)) => name,
            Err(Unsolved::Other) => return Ok(false),
        };
        let at = |elaborator: &Self, value: Dim| elaborator.quiet_dim(expression, Some((&unknown.text, value))).ok();
        let name = Dim::name("?solved");
        let (Some(form), Some(zero), Some(one)) =
            (at(self, name.clone()), at(self, Dim::from(0i64)), at(self, Dim::from(1i64)))
        else {
            return Ok(false);
        };
        let slope = one - zero.clone();
        if form != slope.clone() * name + zero.clone() || slope.is(0) {
            return Ok(false);
        }
        let rest = actual.clone() - zero;
        let (Some(solution), Some(remainder)) = (rest.floor_div(&slope), rest.remainder(&slope)) else {
            return Ok(false);
        };
        let whole = remainder.is(0) || is_divided(&remainder);
        if !whole {
            let text = self.program.text(expression.span);
            let reason = format!("no whole `{}` makes `{text}` = {actual}", unknown.text);
            return Err(Misfit { code: Some(Code::E0306), ..Misfit::new(reason) });
        }
        self.bind_dim(&unknown.text, Value::Int(solution), *span);
        Ok(true)
    }

    /// Whether two dims are one, as far as can be told now.
    pub fn dims_agree(&self, a: &Dim, b: &Dim) -> bool {
        a == b || is_open(a) || is_open(b)
    }

    fn is_bound(&self, name: &str) -> bool {
        self.frames.last().is_some_and(|frame| frame.bindings.contains_key(name))
    }

    pub(super) fn bind_dim(&mut self, name: &str, value: Value, span: Span) {
        if let Some(frame) = self.frames.last_mut() {
            frame.bind(name, value, span);
        }
    }

    pub(super) fn show_int(&self, value: &Value) -> String {
        match value {
            Value::Int(dim) => dim.to_string(),
            other => self.describe(other),
        }
    }

    /// The value of a dim expression from the names bound in the innermost frame and one more.
    pub(super) fn quiet_dim(&self, expression: &Expr, extra: Option<(&str, Dim)>) -> Result<Dim, Unsolved> {
        let both = |a: &Expr, b: &Expr| Ok((self.quiet_dim(a, extra.clone())?, self.quiet_dim(b, extra.clone())?));
        match &expression.kind {
            ExprKind::Int(number) => Ok(Dim::from(*number)),
            ExprKind::Paren(inner) => self.quiet_dim(inner, extra),
            ExprKind::Unary(UnaryOperator::Neg, inner) => Ok(-self.quiet_dim(inner, extra)?),
            ExprKind::Name(name) => match extra {
                Some((unknown, value)) if unknown == name => Ok(value),
                _ => self.quiet_name(name, expression.span),
            },
            ExprKind::Index(base, items) => self.quiet_element(base, items),
            ExprKind::Binary(operator, a, b) => {
                let (a, b) = both(a, b)?;
                match operator {
                    BinaryOperator::Add => Ok(a + b),
                    BinaryOperator::Sub => Ok(a - b),
                    BinaryOperator::Mul => Ok(a * b),
                    BinaryOperator::Div => a.floor_div(&b).ok_or(Unsolved::Other),
                    BinaryOperator::Rem => a.remainder(&b).ok_or(Unsolved::Other),
                    BinaryOperator::MatMul | BinaryOperator::Pow | BinaryOperator::Eq | BinaryOperator::Ne => {
                        Err(Unsolved::Other)
                    }
                    BinaryOperator::Lt | BinaryOperator::Le | BinaryOperator::Gt | BinaryOperator::Ge => {
                        Err(Unsolved::Other)
                    }
                    BinaryOperator::And | BinaryOperator::Or => Err(Unsolved::Other),
                }
            }
            _ => Err(Unsolved::Other),
        }
    }

    fn quiet_name(&self, name: &str, span: Span) -> Result<Dim, Unsolved> {
        match self.frames.last().and_then(|frame| frame.bindings.get(name)) {
            None => Err(Unsolved::Unbound(Ident { text: name.to_owned(), span })),
            Some(binding) => match &binding.value {
                Value::Int(dim) => Ok(dim.clone()),
                _ => Err(Unsolved::Other),
            },
        }
    }

    /// `kernel[0]`, `kernel[-1]` of a list that is bound.
    fn quiet_element(&self, base: &Expr, items: &[IndexItem]) -> Result<Dim, Unsolved> {
        let (ExprKind::Name(name), [IndexItem::At(at)]) = (&base.kind, items) else { return Err(Unsolved::Other) };
        let Some(binding) = self.frames.last().and_then(|frame| frame.bindings.get(name)) else {
            return Err(Unsolved::Unbound(Ident { text: name.clone(), span: base.span }));
        };
        let Value::List(list) = &binding.value else { return Err(Unsolved::Other) };
        let at = self.quiet_dim(at, None)?.as_number().ok_or(Unsolved::Other)?;
        let from = if at < 0 { at + list.len() as i64 } else { at };
        match usize::try_from(from).ok().and_then(|from| list.get(from)) {
            Some(Value::Int(dim)) => Ok(dim.clone()),
            _ => Err(Unsolved::Other),
        }
    }
}

/// Whether a dim may turn out to be anything: a division is open in it, or it is unknown.
fn is_open(dim: &Dim) -> bool {
    dim.as_number().is_none() && (is_divided(dim) || dim.to_string().contains('?'))
}

/// The name that an expression is.
fn bare_name(expression: &Expr) -> Option<&str> {
    match &expression.kind {
        ExprKind::Name(name) => Some(name),
        _ => None,
    }
}

/// Every name in a dim expression.
pub fn collect_names(expression: &Expr, names: &mut Vec<Ident>) {
    match &expression.kind {
        ExprKind::Name(name) => names.push(Ident { text: name.clone(), span: expression.span }),
        ExprKind::Paren(inner) | ExprKind::Unary(_, inner) => collect_names(inner, names),
        ExprKind::Binary(_, a, b) => {
            collect_names(a, names);
            collect_names(b, names);
        }
        ExprKind::Index(base, _) => collect_names(base, names),
        _ => {}
    }
}

/// Every name that stands alone as a dim of a tensor type.
pub fn dim_names(ty: &Type, names: &mut Vec<Ident>) {
    match &ty.kind {
        TypeKind::Named { dims, .. } => {
            for dim in dims.iter().flatten() {
                match dim {
                    DimExpr::Expr(expr) => collect_names(expr, names),
                    DimExpr::Rest(_) => {}
                }
            }
        }
        TypeKind::Tuple(items) => items.iter().for_each(|item| dim_names(item, names)),
        TypeKind::List(item) => dim_names(item, names),
        TypeKind::Function(..) | TypeKind::Error => {}
    }
}

/// The name of a `...S` in a tensor type, if there is one.
pub fn rest_name(ty: &Type) -> Option<&Ident> {
    match &ty.kind {
        TypeKind::Named { dims, .. } => dims.iter().flatten().find_map(|dim| match dim {
            DimExpr::Rest(name) => Some(name),
            DimExpr::Expr(_) => None,
        }),
        TypeKind::Tuple(items) => items.iter().find_map(rest_name),
        TypeKind::List(item) => rest_name(item),
        TypeKind::Function(..) | TypeKind::Error => None,
    }
}

fn axes(count: usize) -> String {
    if count == 1 { "1 dim".to_owned() } else { format!("{count} dims") }
}
