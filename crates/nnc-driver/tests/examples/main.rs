//! Every file of `dsl-examples` at a tiny size, on made-up data: its gradients, in f64 on the reference interpreter,
//! are what differences of its loss say along random directions; and a few native steps make its loss smaller.
//!
//! For the derivative, dropout and augmentation stay as they are: random numbers follow from the seed and the
//! iteration, so a loss has the same ones at all points. Parameters lie at random places near their first values, since
//! at those zeros of biases are kinks of rectifiers. Of steps that alternate each is looked at alone.

mod table;

use nnc_data::Batch;
use nnc_driver::session::{Moment, Step};
use nnc_driver::{Compiler, Engine, Project, Session};
use nnc_graph::testing::Rng;
use nnc_graph::{DType, Graph, Node, Op, Tensor, ValueId, interpret};
use nnc_lang::elaborate::{Options, RecipeInfo};
use nnc_opt::rewrite::{Fuel, Rewriter};
use nnc_opt::{dce, grad, pipeline};
use nnc_runtime::Pool;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use table::{EXAMPLES, Example, Kind};

/// Examples of a batch.
const ROWS: usize = 4;
const DIRECTIONS: usize = 3;
/// How far parameters are moved from their first values.
const SPREAD: f64 = 0.1;

type Given = BTreeMap<String, Tensor>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dsl-examples")
}

/// The names of all examples, in order.
fn files() -> Vec<String> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name.ends_with(".nn")).collect();
    names.sort();
    names
}

/// A folder with all examples, one of them as small as its row says, with these changes.
fn small(example: &Example, changes: &[(&str, &str)]) -> tempfile::TempDir {
    let small = tempfile::tempdir().unwrap();
    for name in files() {
        fs::copy(folder().join(&name), small.path().join(name)).unwrap();
    }
    let mut text = fs::read_to_string(folder().join(example.file)).unwrap();
    for (old, new) in example.changes.iter().chain(changes) {
        assert!(text.contains(old), "{} has no `{old}`", example.file);
        text = text.replace(old, new);
    }
    fs::write(small.path().join(example.file), text + example.added).unwrap();
    small
}

fn project(example: &Example, changes: &[(&str, &str)], float: DType) -> Project {
    let folder = small(example, changes);
    let set = example.set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = Options { set, float, ..Options::default() };
    Project::load(&folder.path().join(example.file), &options)
        .unwrap_or_else(|error| panic!("{}: {error}", example.file))
}

/// Of each field of a recipe's data, its name and made-up examples.
fn fields(example: &Example, project: &Project, recipe: &RecipeInfo) -> Vec<(String, Tensor)> {
    let (_, bounds) = example.data.iter().find(|(name, _)| *name == recipe.data).expect(&recipe.data);
    let raw = &project.data(&recipe.data).unwrap().raw;
    assert_eq!(raw.len(), bounds.len(), "{}: fields of `{}`", example.file, recipe.data);
    let mut rng = Rng::new(1);
    let made = raw.iter().zip(*bounds).map(|(field, &bound)| {
        let dims = [vec![ROWS], field.ty.shape.sizes()].concat();
        let mut draw = || if bound > 0 { rng.int(0, bound - 1) as f64 } else { rng.float(-2.0, 2.0) };
        let values: Vec<f64> = (0..dims.iter().product()).map(|_| draw()).collect();
        (field.name.clone(), Tensor::from_f64(field.ty.dtype, &dims, &values))
    });
    made.collect()
}

#[test]
fn every_example_is_in_the_table() {
    let listed: Vec<&str> = EXAMPLES.iter().map(|example| example.file).collect();
    assert_eq!(listed, files(), "a new example gets a row in the table, with a tiny size");
}

/// A loss of a training step as a function of what it is minimised by, whose values are inputs `$at 0`, `$at 1`, ...
struct Loss {
    what: String,
    /// Gives `$loss`.
    alone: Graph,
    /// Gives its derivatives `$d 0`, `$d 1`, ...
    derived: Graph,
    /// Gives the values at which a training step has it, `$at 0`, ..., of what that reads.
    start: Graph,
    /// How many there are.
    count: usize,
}

/// What the training step minimises whose loss is called so.
fn loss_of(what: String, graph: &Graph, name: &str) -> Loss {
    let loss = graph.outputs().iter().find(|output| output.name == name).expect(name).value;
    let minimised = |(_, node): &(_, &Node)| node.op == Op::Grad && node.operands[0] == loss;
    let found: Vec<_> = graph.nodes().filter(minimised).collect();
    let [(_, node)] = found.as_slice() else { panic!("{what}: {} derivatives of the loss", found.len()) };
    let wrt = &node.operands[1..];
    let named = |kind: &str, values: &[ValueId]| -> Vec<(String, ValueId)> {
        values.iter().enumerate().map(|(at, &value)| (format!("{kind} {at}"), value)).collect()
    };
    let alone = only(graph, wrt, &[("$loss".to_owned(), loss)]);
    let derived = only(graph, wrt, &named("$d", &node.results));
    Loss { what, alone, derived, start: only(graph, &[], &named("$at", wrt)), count: wrt.len() }
}

/// What these results need, with derivatives written out, where inputs `$at 0`, ... take the place of some values.
fn only(graph: &Graph, given: &[ValueId], results: &[(String, ValueId)]) -> Graph {
    let mut unlimited = Fuel::new(None);
    let mut rewriter = Rewriter::new(graph, &mut unlimited);
    for (id, node) in graph.nodes() {
        match given.iter().position(|&value| node.results[0] == value) {
            Some(at) => {
                let input = Op::Input { name: format!("$at {at}"), ty: graph.ty(given[at]).clone() };
                let input = rewriter.emit(input, &[]);
                rewriter.replace(node.results[0], input);
            }
            None => drop(rewriter.copy(id)),
        }
    }
    let graph = dce::eliminate_dead_code(&rewriter.finish_with_results(results), &mut Fuel::new(None));
    dce::eliminate_dead_code(&grad::expand(&graph), &mut Fuel::new(None))
}

/// The losses of a recipe, one for each of its steps.
fn losses(example: &Example, project: &Project, recipe: &RecipeInfo) -> Vec<Loss> {
    let steps = recipe.steps.iter().map(|step| BTreeSet::from([step.name.clone()]));
    let steps = if recipe.steps.is_empty() { vec![BTreeSet::new()] } else { steps.collect() };
    let loss = |(name, due): (String, BTreeSet<String>)| {
        let graph = project.training(project.unit.train_steps(&recipe.name, ROWS, &due), recipe).unwrap();
        loss_of(format!("{}, {}, {name}", example.file, recipe.name), &graph, &name)
    };
    recipe.losses().into_iter().zip(steps).map(loss).collect()
}

/// Everything that a training step reads: parameters near their first values, made-up examples, and a moment.
fn given(example: &Example, project: &Project, recipe: &RecipeInfo) -> Given {
    let mut given = Given::from([("$seed".to_owned(), Tensor::scalar_i64(3))]);
    let first = project.first_values(project.unit.init(&recipe.name)).unwrap();
    let first = interpret::run(&first, &given).unwrap();
    given.extend(first.outputs().map(|(path, tensor)| (path.to_owned(), tensor.clone())));
    given.extend(fields(example, project, recipe));
    for (name, value) in [("$iteration", 1), ("$iterations", 8), ("$epoch", 0)] {
        given.insert(name.to_owned(), Tensor::scalar_i64(value));
    }
    given.insert("$draw".to_owned(), Tensor::from_f64(DType::I64, &[ROWS], &[0.0, 1.0, 2.0, 3.0]));
    given
}

/// A value for each of those that a loss is minimised by.
type Point = Vec<Vec<f64>>;

/// A direction in which each part of a point goes by a vector of this length, of so many elements.
fn direction(of: &[Vec<f64>], length: impl Fn(usize) -> f64, rng: &mut Rng) -> Point {
    let part = |part: &Vec<f64>| {
        let drawn: Vec<f64> = part.iter().map(|_| rng.float(-1.0, 1.0)).collect();
        let scale = length(drawn.len()) / dot(&drawn, &drawn).sqrt();
        drawn.iter().map(|x| scale * x).collect()
    };
    of.iter().map(part).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn moved(point: &[Vec<f64>], direction: &[Vec<f64>], by: f64) -> Point {
    let part = |(x, d): (&Vec<f64>, &Vec<f64>)| x.iter().zip(d).map(|(x, d)| x + by * d).collect();
    point.iter().zip(direction).map(part).collect()
}

impl Loss {
    /// Where a training step has it.
    fn start(&self, given: &Given) -> Point {
        let run = interpret::run(&self.start, given).unwrap_or_else(|error| panic!("{}: {error}", self.what));
        (0..self.count).map(|at| run.output(&format!("$at {at}")).unwrap().to_f64()).collect()
    }

    fn run(&self, graph: &Graph, given: &Given, point: &[Vec<f64>]) -> interpret::Run {
        let mut given = given.clone();
        for (_, node) in self.alone.nodes().chain(self.derived.nodes()) {
            let Op::Input { name, ty } = &node.op else { continue };
            let Some(at) = name.strip_prefix("$at ") else { continue };
            let values = &point[at.parse::<usize>().unwrap()];
            given.insert(name.clone(), Tensor::from_f64(ty.dtype, &ty.shape.sizes(), values));
        }
        interpret::run(graph, &given).unwrap_or_else(|error| panic!("{}: {error}", self.what))
    }

    fn at(&self, given: &Given, point: &[Vec<f64>]) -> f64 {
        self.run(&self.alone, given, point).output("$loss").unwrap().to_f64()[0]
    }

    fn gradient(&self, given: &Given, point: &[Vec<f64>]) -> Point {
        let run = self.run(&self.derived, given, point);
        (0..self.count).map(|at| run.output(&format!("$d {at}")).unwrap().to_f64()).collect()
    }
}

/// Compares derivatives along random directions, in which each parameter goes equally far, so that none is lost beside
/// larger ones. Gives the largest difference relative to what the parameters add.
fn check(loss: &Loss, kind: Kind, given: &Given) -> f64 {
    let (what, mut rng) = (&loss.what, Rng::new(5));
    let start = loss.start(given);
    let point = moved(&start, &direction(&start, |elements| SPREAD * (elements as f64).sqrt(), &mut rng), 1.0);
    let gradient = loss.gradient(given, &point);
    let reached = gradient.iter().filter(|part| part.iter().any(|&x| x != 0.0)).count();
    assert!(2 * reached > loss.count, "{what}: only {reached} of {} parameters count", loss.count);
    let mut largest = 0.0_f64;
    for number in 0..DIRECTIONS {
        let direction = direction(&point, |_| 1.0, &mut rng);
        let parts: Vec<f64> = gradient.iter().zip(&direction).map(|(g, d)| dot(g, d)).collect();
        let (exact, scale) = (parts.iter().sum::<f64>(), parts.iter().map(|part| part.abs()).sum::<f64>());
        let reach = kind.reach();
        let [above, below] = [reach, -reach].map(|by| loss.at(given, &moved(&point, &direction, by)));
        let difference = (above - below) / (2.0 * reach);
        let apart = (exact - difference).abs() / scale;
        let told = format!("{what}, direction {number}: the gradient says {exact}, differences {difference}");
        assert!(apart <= kind.tolerance(), "{told}: {apart:.1e} of {scale}");
        largest = largest.max(apart);
    }
    largest
}

#[test]
fn gradients_are_what_differences_say() {
    for example in EXAMPLES {
        let project = project(example, &[], DType::F64);
        for recipe in &project.unit.recipes {
            let given = given(example, &project, recipe);
            for loss in losses(example, &project, recipe) {
                println!("{}: {:.1e}", loss.what, check(&loss, example.kind, &given));
            }
        }
    }
}

/// The losses of each step of native training on one batch, in their order; empty where a step was not due.
fn trained(example: &Example, project: &Project, recipe: &RecipeInfo) -> Vec<Vec<(String, f64)>> {
    let pool = Arc::new(Pool::new(NonZeroUsize::new(1).unwrap()).unwrap());
    let compiler = Compiler { engine: Engine::host(), pool, passes: pipeline::Options::default(), tuning: None };
    let mut session = Session::without_files(project, &recipe.name, compiler, 3).unwrap();
    let fields = fields(example, project, recipe).into_iter().map(|(_, tensor)| tensor.bytes().to_vec()).collect();
    let batch = Batch::new((0..ROWS as u64).collect(), fields);
    let names = recipe.losses();
    let step = |iteration| match session.step(&batch, Moment { iteration, iterations: example.steps, epoch: 0 }) {
        Ok(Step::Done(told)) => told.iter().filter(|(name, _)| names.contains(name)).cloned().collect(),
        Ok(Step::Withheld { name, loss }) => panic!("{}: {name} is {loss} in step {iteration}", example.file),
        Err(error) => panic!("{}, {}: {error}", example.file, recipe.name),
    };
    (0..example.steps).map(step).collect()
}

/// Asserts that the mean of the last quarter of the losses is below the first.
fn assert_falls(what: &str, losses: &[f64]) {
    let last = &losses[losses.len() - losses.len() / 4..];
    let mean = last.iter().sum::<f64>() / last.len() as f64;
    println!("{what}: {:.4} to {mean:.4}", losses[0]);
    assert!(mean < losses[0], "{what}: {losses:?}");
}

#[test]
fn a_few_native_steps_make_the_loss_smaller() {
    for example in EXAMPLES {
        let project = project(example, &[], DType::F32);
        for recipe in &project.unit.recipes {
            let what = format!("{}, {}", example.file, recipe.name);
            let told = trained(example, &project, recipe);
            for loss in recipe.losses() {
                let values: Vec<f64> =
                    told.iter().flatten().filter(|(name, _)| *name == loss).map(|(_, x)| *x).collect();
                assert!(!values.is_empty() && values.iter().all(|x| x.is_finite()), "{what}, {loss}: {values:?}");
                if recipe.steps.is_empty() {
                    assert_falls(&what, &values);
                }
            }
        }
    }
}

/// Adversaries undo what the other has learnt, so that neither loss need fall; that of the first does while the other
/// stays as it is.
#[test]
fn an_adversary_alone_learns() {
    for example in EXAMPLES {
        let has_steps = !project(example, &[], DType::F32).unit.recipes.iter().all(|recipe| recipe.steps.is_empty());
        assert_eq!(has_steps, !example.alone.is_empty(), "{}: what keeps the others from training?", example.file);
        if has_steps {
            let project = project(example, example.alone, DType::F32);
            let recipe = &project.unit.recipes[0];
            let first = &recipe.losses()[0];
            let told = trained(example, &project, recipe);
            let losses = told.iter().flatten().filter(|(name, _)| name == first).map(|(_, loss)| *loss);
            assert_falls(&format!("{}, {first}", example.file), &losses.collect::<Vec<_>>());
        }
    }
}
