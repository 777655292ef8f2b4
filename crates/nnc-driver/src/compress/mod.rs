//! The search for a smaller network: pruning, other numbers, and both, measured beside what was given.
//!
//! 1. The weights as they are get other numbers: integer products, weights of few bits.
//! 2. Of each way to take something out ([`Cut`]) there is a ladder of shares. Steps are cut and timed, not trained:
//!    what is gone decides the time. The least that meets the target by itself, and the least that does with numbers of
//!    1 that are faster, are trained on ([`frontier::worth_training`]).
//! 3. What was trained gets other numbers, too.
//! 4. All are timed in alternating rounds; the metric is taken on examples that were not trained on, the split that
//!    every choice here is made by.
//!
//! Of what meets the target the one that loses least is taken; the others are told with it, and those that no other is
//! better than in all ([`mod@frontier`]).

pub mod frontier;
mod maker;
mod variant;

use crate::checkpoint::Checkpoint;
use crate::compare::{self, Row, compare};
use crate::compiled::Compiler;
use crate::dataset::Dataset;
use crate::error::DriverError;
use crate::learned;
use crate::project::Project;
use crate::quantise::{check_value, metric};
use frontier::{PassedOver, Qualities, Target, WORTH, Why, believable, choose, frontier, passed_over, worth_training};
use maker::Maker;
use nnc_graph::Stored;
use nnc_lang::elaborate::{Better, RecipeInfo};
use std::path::Path;
use std::time::Duration;
pub use variant::{Cut, Numbers, Variant};

/// A trained network.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// The project, as its weights ask for.
    pub project: &'a Project,
    /// The recipe.
    pub recipe: &'a RecipeInfo,
    /// Its weights, which are floats.
    pub weights: &'a Checkpoint,
    /// Its data, split as for the training.
    pub dataset: &'a Dataset,
    /// What programs are made and timed with.
    pub compiler: &'a Compiler,
}

/// What is asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// What a network has to reach.
    pub target: Target,
    /// The metric that counts; the first of the recipe, or else its loss.
    pub metric: Option<String>,
    /// The answer that is timed, if there are several.
    pub answer: Option<String>,
    /// Examples in a run.
    pub rows: usize,
    /// Epochs of training after something was taken out.
    pub epochs: u64,
    /// Terms of weights of few bits that share a scale, at most.
    pub group: usize,
    /// About how long each network is timed.
    pub time: Duration,
}

/// What happens meanwhile.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// In words.
    Doing(&'a str),
    /// A network is ready.
    Made {
        /// Its form.
        variant: Variant,
        /// Its weights.
        weights: &'a Checkpoint,
    },
    /// A network is trained.
    Training {
        /// What was taken out of it.
        cut: Cut,
        /// Steps that are done.
        done: u64,
        /// All steps.
        of: u64,
    },
}

/// A network that was made and measured.
#[derive(Debug)]
pub struct Point {
    /// Its form.
    pub variant: Variant,
    /// Its size and its time.
    pub row: Row,
    /// Its metric on the examples that choices were made by.
    pub value: f64,
    /// By how much that is worse than that of the weights that were given.
    pub drop: f64,
    /// Whether no other is better in all.
    pub is_on_frontier: bool,
    /// Its weights.
    pub weights: Checkpoint,
}

impl Point {
    fn qualities(&self) -> Qualities {
        Qualities { speed_up: self.row.speed_up, size: self.row.size, drop: self.drop }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The metric that counted.
    pub metric: String,
    /// Which of two values of it is the better one.
    pub better: Better,
    /// Examples that it was taken on.
    pub examples: usize,
    /// Whether these were held out when the weights were trained; else it tells little.
    pub held_out: bool,
    /// The networks, that which was given first.
    pub points: Vec<Point>,
    /// What was not made, or not trained.
    pub left_out: Vec<LeftOut>,
    /// The number of the one that is taken, if one meets the target.
    pub chosen: Option<usize>,
    /// Those that come nearest: the fastest that is good enough, the best that is fast enough.
    pub nearest: [Option<usize>; 2],
    /// The metric on the test split, which no choice was made by, of what was given and of what is taken.
    pub test: Option<[f64; 2]>,
}

/// A network that is not among those that were measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftOut {
    /// What it is, as [`Variant`] is called.
    pub network: String,
    /// Why it was passed over.
    pub why: String,
}

/// Shares of the multiply-adds that channels are taken out for.
const CHANNELS: [f64; 7] = [0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Shares of single weights that go; below, kernels are hardly faster.
const ELEMENTS: [f64; 4] = [0.7, 0.8, 0.9, 0.95];
/// Shares of blocks that go.
const BLOCKS: [f64; 4] = [0.5, 0.65, 0.8, 0.9];

/// Where times only say what is to be trained, networks are timed so many times shorter.
const SHORT: u32 = 4;

/// Makes a recipe's network smaller in every way there is, as far as `request` asks for. `told` hears what is being
/// done.
///
/// # Errors
/// An unknown metric, weights that are no floats or were trained with rounding, several losses and no metric, data
/// without examples, or what cannot be compiled or run.
pub fn compress(given: Given<'_>, request: &Request, told: &mut dyn FnMut(Told<'_>)) -> Result<Report, DriverError> {
    let metric = metric(given.recipe, request.metric.as_deref())?;
    check(given, request, &metric)?;
    let seed = learned::seed(given.recipe, given.weights);
    let maker = Maker { given, metric: &metric, seed, epochs: request.epochs };
    let mut search = Search { maker, request, made: Vec::new(), left_out: Vec::new() };
    told(Told::Doing("measuring what was given"));
    search.add(Variant::GIVEN, given.weights.clone(), told)?;
    check_value(given.recipe, &metric, search.made[0].value)?;
    search.renumber(0, &ways(request.group), told)?;
    told(Told::Doing("timing other numbers"));
    let faster = search.faster_numbers()?;
    search.climb(&CHANNELS.map(Cut::Channels), &faster, told)?;
    for numbers in &faster {
        let why = "its products leave no zeros out, so that these would make nothing faster";
        search.leave_out(format!("elements or blocks, {numbers}"), why.to_owned());
    }
    search.climb(&ELEMENTS.map(Cut::Elements), &[], told)?;
    search.climb(&BLOCKS.map(Cut::Blocks), &[], told)?;
    told(Told::Doing("timing all of them"));
    search.report()
}

/// Refuses what there is nothing to search for.
fn check(given: Given<'_>, request: &Request, metric: &str) -> Result<(), DriverError> {
    let losses = given.recipe.losses();
    if !given.project.rounded.is_empty() {
        let message = "these weights were trained with rounding: `nnc quantise` makes their integers, which no search is for; \
                       a search begins with weights that were trained in floats";
        return Err(DriverError::Usage(message.to_owned()));
    }
    if request.metric.is_none() && losses.len() > 1 && losses.iter().any(|loss| loss == metric) {
        let message = format!(
            "the recipe measures the losses of several steps ({}), which need not tell how good its answer is: say by \
             `--metric` what counts, or write a `metric` into the recipe",
            losses.join(", ")
        );
        return Err(DriverError::Usage(message));
    }
    Ok(())
}

/// The numbers that weights may get.
fn ways(group: usize) -> [Numbers; 4] {
    let stored = [Stored::Bf16, Stored::Bytes { group }, Stored::Nibbles { group }].map(Numbers::Stored);
    [Numbers::Integers, stored[0], stored[1], stored[2]]
}

/// Why a step is not trained, of the ladders with some numbers.
fn in_words(PassedOver { gain, ladder, why }: PassedOver, with: &[Numbers], target: f64) -> String {
    let numbers = if with.len() > 1 { format!("with {} ", with[ladder]) } else { String::new() };
    let why = match why {
        Why::HardlyFaster => format!("not trained below {WORTH}"),
        Why::TooSlow => format!("less than the {target} that is asked for: not trained"),
        Why::LesserIsEnough => "where a lesser cut is fast enough: not trained".to_owned(),
    };
    format!("{numbers}{gain:.2} times as fast, {why}")
}

/// A network whose metric was taken.
struct Made {
    variant: Variant,
    weights: Checkpoint,
    value: f64,
}

struct Search<'a> {
    maker: Maker<'a>,
    request: &'a Request,
    made: Vec<Made>,
    left_out: Vec<LeftOut>,
}

impl Search<'_> {
    fn add(
        &mut self,
        variant: Variant,
        weights: Checkpoint,
        told: &mut dyn FnMut(Told<'_>),
    ) -> Result<(), DriverError> {
        told(Told::Made { variant, weights: &weights });
        let value = self.maker.value(&weights, self.maker.given.dataset.shown())?;
        self.made.push(Made { variant, weights, value });
        Ok(())
    }

    /// By how much the metric of a network is worse than that of the first.
    fn drop(&self, value: f64) -> f64 {
        self.maker.better().worse_by(self.made[0].value, value)
    }

    /// What was made, or nothing and a note why not, if that is for reasons of this network.
    fn noted<T>(
        &mut self,
        variant: Variant,
        made: Result<Result<T, String>, DriverError>,
    ) -> Result<Option<T>, DriverError> {
        let why = match made {
            Ok(Ok(made)) => return Ok(Some(made)),
            Ok(Err(why)) => format!("everything stays f32: {why}"),
            Err(DriverError::Usage(why)) => why,
            Err(error @ DriverError::NotFinite(_)) => error.to_string(),
            Err(error) => return Err(error),
        };
        self.leave_out(variant.to_string(), why);
        Ok(None)
    }

    fn leave_out(&mut self, network: String, why: String) {
        self.left_out.push(LeftOut { network, why });
    }

    /// Adds networks that are one that was made with other numbers. What its floats lost is not left for these to lose,
    /// unless it is too much already.
    fn renumber(&mut self, at: usize, ways: &[Numbers], told: &mut dyn FnMut(Told<'_>)) -> Result<(), DriverError> {
        let Made { variant, ref weights, value } = self.made[at];
        let (weights, lost) = (weights.clone(), self.drop(value));
        let most = self.request.target.max_drop;
        let left = if self.request.target.allows(lost) { most - lost.max(0.0) } else { most };
        for &numbers in ways {
            let variant = Variant { numbers, ..variant };
            told(Told::Doing(&format!("{variant}")));
            let made = self.maker.renumbered(&weights, numbers, left, told);
            if let Some(weights) = self.noted(variant, made)? {
                self.add(variant, weights, told)?;
            }
        }
        Ok(())
    }

    /// The numbers that make the network faster.
    fn faster_numbers(&mut self) -> Result<Vec<Numbers>, DriverError> {
        let gains = self.times(self.request.time / SHORT)?.into_iter().map(|row| row.speed_up);
        let numbers = self.made.iter().map(|made| made.variant.numbers);
        let others: Vec<(Numbers, f64)> =
            numbers.zip(gains).filter(|(numbers, _)| *numbers != Numbers::Floats).collect();
        let (faster, slow): (Vec<_>, Vec<_>) = others.into_iter().partition(|(_, gain)| *gain >= WORTH);
        for (numbers, gain) in slow {
            let why = format!("{gain:.2} times as fast as the whole network, less than {WORTH}");
            self.leave_out(format!("a cut, {numbers}"), why);
        }
        Ok(faster.into_iter().map(|(numbers, _)| numbers).collect())
    }

    /// Cuts the network in steps, as far as it can be, and trains those that are worth it, alone or with one of some
    /// numbers.
    fn climb(&mut self, ladder: &[Cut], faster: &[Numbers], told: &mut dyn FnMut(Told<'_>)) -> Result<(), DriverError> {
        let mut steps = Vec::new();
        for &cut in ladder {
            told(Told::Doing(&format!("timing {cut}")));
            let made = self.maker.cut(self.maker.given.weights, cut).map(Ok);
            let Some((weights, done)) = self.noted(Variant { cut, ..Variant::GIVEN }, made)? else { break };
            match steps.last().filter(|(last, _): &&(Cut, Checkpoint)| last.to_string() == done.to_string()) {
                Some((last, _)) => {
                    let last = if last.to_string() == cut.to_string() {
                        "the one before".to_owned()
                    } else {
                        last.to_string()
                    };
                    self.leave_out(cut.to_string(), format!("comes to {last} again"));
                }
                None => steps.push((done, weights)),
            }
        }
        let with: Vec<Numbers> = [Numbers::Floats].iter().chain(faster).copied().collect();
        let ladders: Result<Vec<_>, _> = with.iter().map(|&numbers| self.speed_ups(&steps, numbers)).collect();
        let (ladders, target) = (ladders?, self.request.target.speed_up);
        for ((cut, _), why) in steps.iter().zip(passed_over(&ladders, target)) {
            why.into_iter().for_each(|why| self.leave_out(cut.to_string(), in_words(why, &with, target)));
        }
        for step in worth_training(&ladders, target) {
            let (cut, weights) = &steps[step];
            let variant = Variant { cut: *cut, ..Variant::GIVEN };
            let trained = self.trained(weights, *cut, told).map(Ok);
            let Some(trained) = self.noted(variant, trained)? else { continue };
            self.add(variant, trained, told)?;
            self.renumber(self.made.len() - 1, faster, told)?;
        }
        Ok(())
    }

    /// How many times as fast each step of a ladder is with some numbers, as it is; 0 where it cannot have them.
    fn speed_ups(&self, steps: &[(Cut, Checkpoint)], numbers: Numbers) -> Result<Vec<f64>, DriverError> {
        let given = ("given".to_owned(), self.maker.given.weights.clone());
        let (mut named, mut places) = (vec![given], Vec::new());
        let is_whole =
            |made: &&Made| numbers != Numbers::Floats && made.variant == Variant { numbers, ..Variant::GIVEN };
        named.extend(self.made.iter().find(is_whole).map(|made| ("whole".to_owned(), made.weights.clone())));
        let whole = named.len() - 1;
        for (cut, weights) in steps {
            let made = match self.maker.renumbered(weights, numbers, f64::INFINITY, &mut |_| {}) {
                Err(DriverError::Usage(_)) => None,
                made => made?.ok(),
            };
            places.push(made.is_some().then_some(named.len()));
            named.extend(made.map(|weights| (cut.to_string(), weights)));
        }
        let named: Vec<_> = named.iter().map(|(name, weights)| (name.clone(), weights)).collect();
        let rows = self.timed(&named, self.request.time / SHORT)?;
        let believed = |(place, (cut, _)): (Option<usize>, &(Cut, Checkpoint))| {
            place.map_or(0.0, |place| believable(rows[place].speed_up, rows[whole].speed_up, cut.share()))
        };
        Ok(places.into_iter().zip(steps).map(believed).collect())
    }

    fn trained(
        &self,
        weights: &Checkpoint,
        cut: Cut,
        told: &mut dyn FnMut(Told<'_>),
    ) -> Result<Checkpoint, DriverError> {
        match self.maker.epochs {
            0 => Ok(weights.clone()),
            _ => self.maker.train(weights, cut, told),
        }
    }

    /// Sizes and times of what was made, beside the first.
    fn times(&self, time: Duration) -> Result<Vec<Row>, DriverError> {
        let named: Vec<_> = self.made.iter().map(|made| (made.variant.to_string(), &made.weights)).collect();
        self.timed(&named, time)
    }

    fn timed(&self, named: &[(String, &Checkpoint)], time: Duration) -> Result<Vec<Row>, DriverError> {
        let Given { project, recipe, compiler, .. } = self.maker.given;
        let (answer, rows) = (self.request.answer.as_deref(), self.request.rows);
        let wanted = compare::Wanted { only: Some(&recipe.name), answer, rows, time };
        let files: Vec<compare::Weights<'_>> = named.iter().map(|(name, made)| (Path::new(name), *made)).collect();
        compare(project, &files, wanted, compiler)
    }

    /// The number of the network that is taken, which meets the target once more when it is timed beside the given one
    /// alone. Where that was but chance, the second speed is told.
    fn taken(&self, points: &mut [Point]) -> Result<Option<usize>, DriverError> {
        loop {
            let all: Vec<Qualities> = points.iter().map(Point::qualities).collect();
            let Some(at) = choose(&all, self.request.target) else { return Ok(None) };
            let named = [0, at].map(|at| (points[at].variant.to_string(), &points[at].weights));
            let rows = self.timed(&named, self.request.time)?;
            let Some(again) = rows.into_iter().next_back() else { return Ok(None) };
            if again.speed_up >= self.request.target.speed_up {
                return Ok(Some(at));
            }
            points[at].row.speed_up = again.speed_up;
        }
    }

    fn report(mut self) -> Result<Report, DriverError> {
        let rows = self.times(self.request.time)?;
        let drops: Vec<f64> = self.made.iter().map(|made| self.drop(made.value)).collect();
        let dataset = self.maker.given.dataset;
        let measured = rows.into_iter().zip(drops).zip(std::mem::take(&mut self.made));
        let mut points: Vec<Point> = measured
            .map(|((row, drop), Made { variant, weights, value })| Point {
                variant,
                row,
                value,
                drop,
                is_on_frontier: false,
                weights,
            })
            .collect();
        let chosen = self.taken(&mut points)?;
        let all: Vec<Qualities> = points.iter().map(Point::qualities).collect();
        points.iter_mut().zip(frontier(&all)).for_each(|(point, is_best)| point.is_on_frontier = is_best);
        let unseen = dataset.test.as_ref().filter(|_| dataset.validation.is_some());
        let value = |at: usize| unseen.map(|part| self.maker.value(&points[at].weights, part)).transpose();
        let test = match chosen {
            Some(chosen) => value(0)?.zip(value(chosen)?).map(|(given, taken)| [given, taken]),
            None => None,
        };
        Ok(Report {
            metric: self.maker.metric.to_owned(),
            better: self.maker.better(),
            examples: dataset.shown().rows.len(),
            held_out: dataset.holds_out(),
            nearest: frontier::nearest(&all, self.request.target),
            points,
            left_out: self.left_out,
            chosen,
            test,
        })
    }
}
