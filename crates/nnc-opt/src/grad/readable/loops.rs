//! Loops: a `scan` prints as a block. Step `t` reads `x[t]` of what is walked and gives `y[t]` of what is stacked; a
//! carried value `h` becomes `h'`.

use super::calls::calls;
use super::data::Data;
use super::expression::{Expression, Line, Tightness, Writer};
use super::names::{Unique, WEAK, base};
use crate::rewrite::with_results;
use nnc_graph::{Graph, Node, Scan, ValueId};
use std::collections::BTreeMap;
use std::fmt::Write;

/// How far the lines of a body stand to the right.
const INDENT: &str = "    ";

impl Writer<'_> {
    /// The lines of a loop: what it gives, each by a name or `_`, and its body.
    pub(super) fn loop_lines(&mut self, node: &Node, scan: &Scan) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut results = Vec::with_capacity(node.results.len());
        let forward = node.results.iter().any(|result| self.forward[result.index()]);
        for &result in &node.results {
            if self.uses[result.index()] == 0 {
                results.push(None);
                continue;
            }
            let outputs = self.graph.outputs().iter().filter(|output| output.value == result);
            let mut names: Vec<String> = outputs.map(|output| output.name.clone()).collect();
            if names.is_empty() {
                names.push(self.unique.shown(self.graph.value(result).name.as_deref().unwrap_or("t")));
            }
            let name = names.remove(0);
            for further in names {
                let (expression, ty) = (name.clone(), self.graph.ty(result).to_string());
                lines.push(Line { name: further, expression, ty, forward });
            }
            self.printed.insert(result, Expression::atom(&name));
            results.push(Some(name));
        }
        let shown = |name: &Option<String>| name.clone().unwrap_or_else(|| "_".to_owned());
        let name = results.iter().map(shown).collect::<Vec<_>>().join(", ");
        let types = node.results.iter().zip(&results).filter(|(_, name)| name.is_some());
        let ty = types.map(|(&result, _)| self.graph.ty(result).to_string()).collect::<Vec<_>>().join(", ");
        let expression = self.loop_text(node, scan, &results);
        lines.insert(0, Line { name, expression, ty, forward });
        lines
    }

    fn loop_text(&self, node: &Node, scan: &Scan, results: &[Option<String>]) -> String {
        let mut unique = Unique::default();
        unique.name("t");
        let carries: Vec<String> = (0..scan.carries).map(|at| unique.name(&self.carry_name(node, scan, at))).collect();
        let with =
            carries.iter().zip(&node.operands).map(|(name, &first)| format!("{name} = {}", self.text(first).text));
        let with = with.collect::<Vec<_>>().join(", ");
        let reverse = if scan.reverse { " reverse" } else { "" };
        let with = if with.is_empty() { with } else { format!(" with {with}") };
        let mut text = format!("scan t in 0..{}{reverse}{with} {{", scan.length);
        for line in self.body_lines(node, scan, &carries, results, unique) {
            for part in format!("{} = {}", line.name, line.expression).lines() {
                let _ = write!(text, "\n{INDENT}{part}");
            }
        }
        text + "\n}"
    }

    fn body_lines(
        &self,
        node: &Node,
        scan: &Scan,
        carries: &[String],
        results: &[Option<String>],
        unique: Unique,
    ) -> Vec<Line> {
        let mut wanted: Vec<(String, ValueId)> =
            carries.iter().zip(scan.next()).map(|(name, next)| (format!("{name}'"), next)).collect();
        let stacks = results[scan.carries..].iter().zip(scan.stacked());
        wanted.extend(stacks.filter_map(|(name, value)| Some((format!("{}[t]", name.as_ref()?), value))));
        let body: Graph = with_results(&scan.body, &wanted);
        let mut printed = BTreeMap::from([(scan.index(), Expression::atom("t"))]);
        printed.extend(carries.iter().enumerate().map(|(at, name)| (scan.carry(at), Expression::atom(name))));
        for at in 0..scan.slices {
            let walked = self.text(node.operands[scan.carries + at]).within(Tightness::Atom);
            printed.insert(scan.slice(at), Expression::atom(format!("{walked}[t]")));
        }
        for at in 0..scan.captures() {
            let captured = self.text(node.operands[scan.carries + scan.slices + at]);
            printed.insert(scan.capture(at), captured);
        }
        let forward = vec![true; body.value_count()];
        let data = Data { names: BTreeMap::new() };
        let calls = calls(&body, &forward);
        let mut inner = Writer { graph: &body, forward: &forward, calls, uses: Vec::new(), data, printed, unique };
        inner.uses = inner.count_uses();
        inner.lines()
    }

    /// What a carried value is called: as the user called it, in the body or behind the loop.
    fn carry_name(&self, node: &Node, scan: &Scan, at: usize) -> String {
        let inside = scan.body.value(scan.next()[at]).name.as_deref();
        let behind = self.graph.value(node.results[at]).name.as_deref();
        let known = inside.or(behind).map_or("state", base);
        known.rsplit('.').next().unwrap_or(known).replace(WEAK, "")
    }
}
