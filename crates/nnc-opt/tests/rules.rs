//! Every simplification rule on a case of its own: a graph before and after, in text form.
//!
//! A case is the lines of a graph whose values all come from its inputs; the result is the last line's value.

use nnc_graph::{Graph, OutputKind, text};
use nnc_opt::{Fuel, dce, simplify};

fn graph(lines: &str) -> Graph {
    let lines: Vec<&str> = lines.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut graph = text::parse(&format!("graph \"rule\" {{\n{}\n}}", lines.join("\n"))).unwrap_or_else(|error| {
        panic!("{error}: {lines:#?}");
    });
    let last = nnc_graph::ValueId(graph.value_count() as u32 - 1);
    graph.add_output("y", last, OutputKind::Result);
    graph
}

/// The simplified graph as its lines without inputs, types and ids of inputs kept.
fn simplified(lines: &str, fast_math: bool) -> String {
    let mut fuel = Fuel::new(None);
    let graph = simplify::simplify(&graph(lines), fast_math, &mut fuel);
    let printed = text::print(&dce::eliminate_dead_code(&graph, &mut fuel));
    let kept = printed.lines().filter(|line| !line.contains("= input") && !line.contains("graph") && *line != "}");
    kept.map(|line| line.trim().rsplit_once(" : ").map_or(line.trim(), |(op, _)| op)).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn becomes(before: &str, after: &str) {
    let expected: Vec<&str> = after.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(simplified(before, false), expected.join("\n"));
}

#[track_caller]
fn stays(before: &str) {
    let after = simplified(before, false);
    let last = before.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap();
    let operation = last.split(" = ").nth(1).unwrap().rsplit_once(" : ").unwrap().0;
    assert!(after.contains(operation), "{operation} became\n{after}");
}

const X: &str = "%0 = input \"x\" : f32[3]\n";
const XY: &str = "%0 = input \"x\" : f32[3]\n%1 = input \"y\" : f32[3]\n";

fn number(value: &str) -> String {
    format!("%8 = constant {value} : f32\n%9 = broadcast[axes=[]](%8) : f32[3]\n")
}

#[test]
fn neutral_elements() {
    for (value, operation) in [
        ("1.0", "mul(%0, %9)"),
        ("1.0", "mul(%9, %0)"),
        ("1.0", "div(%0, %9)"),
        ("0.0", "sub(%0, %9)"),
        ("-0.0", "add(%0, %9)"),
        ("1.0", "pow(%0, %9)"),
    ] {
        becomes(&format!("{X}{}%10 = {operation} : f32[3]", number(value)), "output \"y\" = %0");
    }
    // Plus zero makes -0 a +0; times zero forgets infinities.
    for operation in ["add(%0, %9)", "mul(%0, %9)"] {
        stays(&format!(
            "{X}{}%3 = {} : f32[3]",
            number("0.0").replace("%8", "%1").replace("%9", "%2"),
            operation.replace("%9", "%2")
        ));
    }
}

#[test]
fn zeros_of_integers() {
    let integers = "%0 = input \"x\" : i32[3]\n%1 = constant 0 : i32\n%2 = broadcast[axes=[]](%1) : i32[3]\n";
    becomes(&format!("{integers}%3 = add(%0, %2) : i32[3]"), "output \"y\" = %0");
    let zero = "%1 = constant 0\n%2 = broadcast[axes=[]](%1)\noutput \"y\" = %2";
    becomes(&format!("{integers}%3 = mul(%0, %2) : i32[3]"), zero);
    becomes(&format!("{integers}%3 = sub(%0, %0) : i32[3]"), zero);
}

#[test]
fn signs() {
    becomes(&format!("{X}%1 = neg(%0) : f32[3]\n%2 = neg(%1) : f32[3]"), "output \"y\" = %0");
    becomes(&format!("{X}%1 = neg(%0) : f32[3]\n%2 = abs(%1) : f32[3]"), "%1 = abs(%0)\noutput \"y\" = %1");
    becomes(&format!("{XY}%2 = neg(%1) : f32[3]\n%3 = add(%0, %2) : f32[3]"), "%2 = sub(%0, %1)\noutput \"y\" = %2");
    becomes(&format!("{XY}%2 = neg(%0) : f32[3]\n%3 = add(%2, %1) : f32[3]"), "%2 = sub(%1, %0)\noutput \"y\" = %2");
    becomes(&format!("{XY}%2 = neg(%1) : f32[3]\n%3 = sub(%0, %2) : f32[3]"), "%2 = add(%0, %1)\noutput \"y\" = %2");
    becomes(
        &format!("{XY}%2 = neg(%1) : f32[3]\n%3 = mul(%0, %2) : f32[3]\n%4 = add(%0, %3) : f32[3]"),
        "%2 = mul(%0, %1)\n%3 = sub(%0, %2)\noutput \"y\" = %3",
    );
    becomes(&format!("{X}{}%10 = mul(%0, %9) : f32[3]", number("-1.0")), "%1 = neg(%0)\noutput \"y\" = %1");
    // -(a - b) is b - a but for the sign of a zero.
    stays(&format!("{XY}%2 = sub(%0, %1) : f32[3]\n%3 = neg(%2) : f32[3]"));
}

#[test]
fn powers_and_quotients() {
    becomes(&format!("{X}{}%10 = pow(%0, %9) : f32[3]", number("2.0")), "%1 = mul(%0, %0)\noutput \"y\" = %1");
    becomes(
        &format!("{X}{}%10 = pow(%0, %9) : f32[3]", number("3.0")),
        "%1 = mul(%0, %0)\n%2 = mul(%1, %0)\noutput \"y\" = %2",
    );
    becomes(
        &format!("{X}{}%10 = div(%0, %9) : f32[3]", number("8.0")),
        "%1 = constant 0.125\n%2 = broadcast[axes=[]](%1)\n%3 = mul(%0, %2)\noutput \"y\" = %3",
    );
    stays(&format!("{X}%1 = constant 3.0 : f32\n%2 = broadcast[axes=[]](%1) : f32[3]\n%3 = div(%0, %2) : f32[3]"));
    becomes(&format!("{X}%1 = max(%0, %0) : f32[3]"), "output \"y\" = %0");
}

#[test]
fn selection_and_logic() {
    let bools = "%0 = input \"c\" : bool[3]\n%1 = input \"x\" : f32[3]\n%2 = input \"y\" : f32[3]\n";
    becomes(&format!("{bools}%3 = select(%0, %1, %1) : f32[3]"), "output \"y\" = %1");
    becomes(
        &format!("{bools}%3 = not(%0) : bool[3]\n%4 = select(%3, %1, %2) : f32[3]"),
        "%3 = select(%0, %2, %1)\noutput \"y\" = %3",
    );
    becomes(
        &format!(
            "{bools}%3 = constant true : bool\n%4 = broadcast[axes=[]](%3) : bool[3]\n%5 = select(%4, %1, %2) : f32[3]"
        ),
        "output \"y\" = %1",
    );
    becomes(
        &format!("{bools}%3 = constant true : bool\n%4 = broadcast[axes=[]](%3) : bool[3]\n%5 = and(%4, %0) : bool[3]"),
        "output \"y\" = %0",
    );
    becomes(
        &format!("{bools}%3 = select(%0, %1, %2) : f32[3]\n%4 = select(%0, %3, %2) : f32[3]"),
        "%3 = select(%0, %1, %2)\noutput \"y\" = %3",
    );
    becomes(&format!("{bools}%3 = not(%0) : bool[3]\n%4 = not(%3) : bool[3]"), "output \"y\" = %0");
    becomes(&format!("{bools}%3 = eq(%1, %2) : bool[3]\n%4 = not(%3) : bool[3]"), "%3 = ne(%1, %2)\noutput \"y\" = %3");
    // With a NaN, both `x < y` and `x >= y` are false.
    stays(&format!("{bools}%3 = lt(%1, %2) : bool[3]\n%4 = not(%3) : bool[3]"));
}

#[test]
fn casts() {
    becomes(&format!("{X}%1 = cast(%0) : f32[3]"), "output \"y\" = %0");
    becomes(
        "%0 = input \"x\" : u8[3]\n%1 = cast(%0) : f32[3]\n%2 = cast(%1) : f64[3]",
        "%1 = cast(%0)\noutput \"y\" = %1",
    );
    // A small negative integer wraps on the direct way, and saturates through a float.
    stays("%0 = input \"x\" : i8[3]\n%1 = cast(%0) : f32[3]\n%2 = cast(%1) : u8[3]");
    stays("%0 = input \"x\" : f32[3]\n%1 = cast(%0) : f16[3]\n%2 = cast(%1) : f32[3]");
}

#[test]
fn movement() {
    let x = "%0 = input \"x\" : f32[2, 3]\n";
    becomes(&format!("{x}%1 = reshape(%0) : f32[6]\n%2 = reshape(%1) : f32[2, 3]"), "output \"y\" = %0");
    becomes(
        &format!("{x}%1 = transpose[axes=[1, 0]](%0) : f32[3, 2]\n%2 = transpose[axes=[1, 0]](%1) : f32[2, 3]"),
        "output \"y\" = %0",
    );
    becomes(
        "%0 = input \"x\" : f32[1, 3]\n%1 = transpose[axes=[1, 0]](%0) : f32[3, 1]",
        "%1 = reshape(%0)\noutput \"y\" = %1",
    );
    becomes(
        &format!("{X}%1 = broadcast[axes=[0]](%0) : f32[3, 2]\n%2 = transpose[axes=[1, 0]](%1) : f32[2, 3]"),
        "%1 = broadcast[axes=[1]](%0)\noutput \"y\" = %1",
    );
    becomes(
        &format!("{X}%1 = reshape(%0) : f32[1, 3, 1]\n%2 = broadcast[axes=[0, 1, 2]](%1) : f32[4, 3, 5]"),
        "%1 = broadcast[axes=[1]](%0)\noutput \"y\" = %1",
    );
    becomes(
        &format!("{X}%1 = broadcast[axes=[1]](%0) : f32[2, 3]\n%2 = broadcast[axes=[0, 2]](%1) : f32[2, 4, 3]"),
        "%1 = broadcast[axes=[2]](%0)\noutput \"y\" = %1",
    );
    becomes(&format!("{x}%1 = slice[start=[0, 0], step=[1, 1]](%0) : f32[2, 3]"), "output \"y\" = %0");
    becomes(
        "%0 = input \"x\" : f32[9]\n%1 = slice[start=[1], step=[2]](%0) : f32[4]\n%2 = slice[start=[3], step=[-1]](%1) : f32[2]",
        "%1 = slice[start=[7], step=[-2]](%0)\noutput \"y\" = %1",
    );
    becomes(
        &format!("{XY}%2 = concat[axis=0](%0, %1) : f32[6]\n%3 = slice[start=[3], step=[1]](%2) : f32[3]"),
        "output \"y\" = %1",
    );
    becomes(
        &format!(
            "{X}%1 = constant 0.0 : f32\n%2 = pad[low=[2], high=[1]](%0, %1) : f32[6]\n%3 = slice[start=[2], step=[1]](%2) : f32[3]"
        ),
        "output \"y\" = %0",
    );
    becomes(&format!("{X}%1 = constant 0.0 : f32\n%2 = pad[low=[0], high=[0]](%0, %1) : f32[3]"), "output \"y\" = %0");
    becomes(&format!("{X}%1 = concat[axis=0](%0) : f32[3]"), "output \"y\" = %0");
}

#[test]
fn reductions() {
    becomes(
        "%0 = input \"x\" : f32[1, 3]\n%1 = reduce[op=sum, axes=[0]](%0) : f32[3]",
        "%1 = reshape(%0)\noutput \"y\" = %1",
    );
    becomes(&format!("{X}%1 = reduce[op=max, axes=[]](%0) : f32[3]"), "output \"y\" = %0");
    becomes(
        &format!("{X}%1 = broadcast[axes=[1]](%0) : f32[5, 3]\n%2 = reduce[op=max, axes=[0]](%1) : f32[3]"),
        "output \"y\" = %0",
    );
    becomes(
        &format!("{X}%1 = broadcast[axes=[1]](%0) : f32[5, 3]\n%2 = reduce[op=sum, axes=[0]](%1) : f32[3]"),
        "%1 = constant 5.0\n%2 = broadcast[axes=[]](%1)\n%3 = mul(%0, %2)\noutput \"y\" = %3",
    );
    let cube = "%0 = input \"x\" : f32[2, 3, 4]\n";
    becomes(
        &format!("{cube}%1 = reduce[op=max, axes=[1]](%0) : f32[2, 4]\n%2 = reduce[op=max, axes=[1]](%1) : f32[2]"),
        "%1 = reduce[op=max, axes=[1, 2]](%0)\noutput \"y\" = %1",
    );
    // Another order of adding rounds differently.
    stays(&format!("{cube}%1 = reduce[op=sum, axes=[1]](%0) : f32[2, 4]\n%2 = reduce[op=sum, axes=[1]](%1) : f32[2]"));
}

#[test]
fn contractions() {
    let matrices = "%0 = input \"a\" : f32[2, 3]\n%1 = input \"b\" : f32[4, 3]\n";
    becomes(
        &format!(
            "{matrices}%2 = transpose[axes=[1, 0]](%1) : f32[3, 4]\n%3 = dot[batch=0, a=[1], b=[0]](%0, %2) : f32[2, 4]"
        ),
        "%2 = dot[batch=0, a=[1], b=[1]](%0, %1)\noutput \"y\" = %2",
    );
    becomes(
        &format!(
            "{matrices}%2 = dot[batch=0, a=[1], b=[1]](%0, %1) : f32[2, 4]\n%3 = transpose[axes=[1, 0]](%2) : f32[4, 2]"
        ),
        "%2 = dot[batch=0, a=[1], b=[1]](%1, %0)\noutput \"y\" = %2",
    );
}

#[test]
fn work_moves_before_repetition() {
    becomes(
        &format!(
            "{XY}%2 = broadcast[axes=[1]](%0) : f32[2, 3]\n%3 = broadcast[axes=[1]](%1) : f32[2, 3]\n%4 = mul(%2, %3) : f32[2, 3]"
        ),
        "%2 = mul(%0, %1)\n%3 = broadcast[axes=[1]](%2)\noutput \"y\" = %3",
    );
    becomes(
        &format!(
            "{X}%1 = reshape(%0) : f32[3, 1]\n%2 = log(%1) : f32[3, 1]\n%3 = broadcast[axes=[0, 1]](%2) : f32[3, 4]"
        ),
        "%1 = log(%0)\n%2 = broadcast[axes=[0]](%1)\noutput \"y\" = %2",
    );
}

#[test]
fn fast_math_is_a_choice() {
    let zero = "%1 = constant 0.0 : f32\n%2 = broadcast[axes=[]](%1) : f32[3]\n";
    assert_eq!(simplified(&format!("{X}{zero}%3 = add(%0, %2) : f32[3]"), true), "output \"y\" = %0");
    let nothing = "%1 = constant 0.0\n%2 = broadcast[axes=[]](%1)\noutput \"y\" = %2";
    assert_eq!(simplified(&format!("{X}{zero}%3 = mul(%0, %2) : f32[3]"), true), nothing);
    assert_eq!(simplified(&format!("{X}%1 = sub(%0, %0) : f32[3]"), true), nothing);
}

#[test]
fn starts_that_are_known() {
    let x = "%0 = input \"x\" : f32[5, 3]\n%1 = constant 2 : i64\n";
    becomes(
        &format!("{x}%2 = dynamic_slice[axis=0](%0, %1) : f32[3, 3]"),
        "%1 = slice[start=[2, 0], step=[1, 1]](%0)\noutput \"y\" = %1",
    );
    // What does not fit stops the step, so it stays.
    stays(&format!("{x}%2 = dynamic_slice[axis=0](%0, %1) : f32[4, 3]"));
    let whole = "%0 = input \"x\" : f32[3]\n%1 = input \"y\" : f32[3]\n%2 = constant 0 : i64\n";
    becomes(&format!("{whole}%3 = dynamic_update[axes=[0]](%0, %1, %2) : f32[3]"), "output \"y\" = %1");
    stays(&format!("{}%3 = dynamic_update[axes=[0]](%0, %1, %2) : f32[3]", whole.replace("constant 0", "constant 1")));
}

/// One index a row, which a gather checks: elementwise. Without one, or with more, it stays.
#[test]
fn scatter_add_of_one_element_of_each_row() {
    let leaves = "%0 = input \"x\" : f32[2, 5]
        %1 = input \"i\" : i32[2]
        %2 = input \"u\" : f32[2]
        %3 = constant 0.0 : f32
        %4 = broadcast[axes=[]](%3) : f32[2, 5]\n";
    let gather = "%5 = gather[axis=1, batch=1](%0, %1) : f32[2]
        %6 = mul(%5, %2) : f32[2]\n";
    let pair = "%8 = broadcast[axes=[0]](%6) : f32[2, 5]
        %9 = add(%7, %8) : f32[2, 5]\n";
    let add = "%7 = scatter_add[axis=1, batch=1](%4, %1, %2) : f32[2, 5]\n";
    let after = simplified(&format!("{leaves}{gather}{add}{pair}"), false);
    assert!(!after.contains("scatter_add") && after.contains("iota[") && after.contains("select("), "{after}");
    stays(&format!("{leaves}{}", add.replace("%7", "%5")));
    let whole = add.replace("%4", "%0");
    assert!(simplified(&format!("{leaves}{gather}{whole}{pair}"), false).contains("scatter_add"));
}
