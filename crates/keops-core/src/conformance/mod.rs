//! The conformance suite: random reductions, compared with the reference interpreter.
//!
//! A backend joins with a few lines:
//!
//! ```
//! use keops_core::conformance::{Config, check_backend};
//! use keops_core::interp::{Interpreter, Rounding};
//! use keops_core::spec::Device;
//!
//! let device = Device::new(Interpreter::with_rounding(Rounding::Compute));
//! check_backend(&[("interpreter", &device)], Config::default()).assert_passed();
//! ```
//!
//! One run of the interpreter serves all devices. Errors are judged by ratios to the bounds of
//! [`crate::interp::evaluate_with_bounds`], never by fixed tolerances.

mod case;
#[cfg(test)]
mod cost;
mod data;
mod formula;
mod judge;
#[cfg(test)]
mod laws;
mod planted;
#[cfg(test)]
mod properties;
pub mod strategies;
#[cfg(test)]
mod support;
mod table;
#[cfg(test)]
mod tests;

pub use case::{Case, Problem, all_features};
pub use data::{Argument, Layout};

pub use crate::random::Random;
pub use judge::{Judgement, RATIOS, judge};
pub use planted::{Fault, Planted, ReductionFault, plant, plant_reduction, with_faulty_composite};
pub use table::{check_reductions, check_table};

use crate::error::CompileError;
use crate::interp::evaluate_with_bounds;
use crate::reduce;
use crate::spec::Device;
use case::{HEADER, INSTRUCTIONS, NUMBERS};
use formula::operation_names;
use proptest::collection::vec;
use proptest::strategy::{NewTree, Strategy, ValueTree};
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How a run of the suite goes.
///
/// ```
/// use keops_core::conformance::Config;
/// let short = Config { cases: 20, ..Config::default() };
/// assert_eq!((short.seed, short.shrink, short.regressions), (1, 1000, None));
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of random cases.
    pub cases: u32,
    /// Seed of the cases.
    pub seed: u64,
    /// Steps of shrinking a failing case; 0 reports it as it is.
    pub shrink: u32,
    /// File of cases that failed before: they are run first, new ones are appended.
    pub regressions: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config { cases: 300, seed: 1, shrink: 1000, regressions: None }
    }
}

/// Results of one device.
///
/// ```
/// use keops_core::conformance::{Config, check_backend};
/// # use keops_core::{interp::{Interpreter, Rounding}, spec::Device};
/// let device = Device::new(Interpreter::with_rounding(Rounding::Compute));
/// let report = check_backend(&[("rounded", &device)], Config { cases: 20, ..Config::default() });
/// let [rounded] = &report.devices[..] else { unreachable!() };
/// assert_eq!((&rounded.name[..], rounded.cases), ("rounded", 20));
/// assert!(rounded.failure.is_none() && rounded.worst <= 1.0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct DeviceReport {
    /// Name given to [`check_backend`].
    pub name: String,
    /// Cases run.
    pub cases: usize,
    /// Cases that the backend declared unsupported, by its reason.
    pub unsupported: BTreeMap<String, usize>,
    /// Largest ratio of error and bound.
    pub worst: f64,
    /// Histogram of the ratios, see [`Judgement::ratios`].
    pub ratios: [usize; RATIOS],
    /// The failing case, shrunk; the device is left out of the run after it.
    pub failure: Option<Failure>,
}

/// A failing case.
///
/// ```
/// use keops_core::conformance::{Case, Config, Planted, ReductionFault};
/// use keops_core::conformance::{check_backend, plant_reduction};
/// use keops_core::{interp::Interpreter, reduce::SUM, spec::Device};
/// // A backend whose sums are wrong.
/// let wrong = plant_reduction(&SUM, ReductionFault::Finalise).into_iter().collect();
/// let device = Device::new(Planted::reductions(Device::new(Interpreter::new()), wrong));
/// let config = Config { cases: 50, shrink: 0, ..Config::default() };
/// let report = check_backend(&[("wrong", &device)], config);
/// let failure = report.devices[0].failure.as_ref().unwrap();
/// let case = Case::from_text(&failure.case).unwrap(); // to be looked at
/// assert_eq!(case.build()?.spec.reduction, &SUM);
/// # Ok::<(), keops_core::error::InputError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Failure {
    /// What is wrong.
    pub message: String,
    /// The case as text, for [`Case::from_text`].
    pub case: String,
    /// The reduction in words.
    pub formula: String,
}

/// Results of a run.
///
/// ```
/// use keops_core::conformance::{Config, check_backend};
/// # use keops_core::{interp::Interpreter, spec::Device};
/// let device = Device::new(Interpreter::new());
/// let report = check_backend(&[("exact", &device)], Config { cases: 20, ..Config::default() });
/// assert!(report.cases == 20 && report.broken.is_none());
/// assert_eq!(report.reductions.values().sum::<usize>(), 20); // one each
/// println!("{report}");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Cases run.
    pub cases: usize,
    /// Output entries of the reference.
    pub entries: usize,
    /// Entries that are not really compared because rounding decides them: values without a
    /// bound, and indices for which at least half of all rows are candidates.
    pub undecided: usize,
    /// Indices that rounding decides among fewer candidates, with which they are compared.
    pub ties: usize,
    /// Values that are certainly NaN or infinite; padding of K-minima is among them.
    pub special: usize,
    /// Cases per operation of the tables.
    pub operations: BTreeMap<&'static str, usize>,
    /// Cases per reduction.
    pub reductions: BTreeMap<&'static str, usize>,
    /// Cases per sequence of derivatives.
    pub derivatives: BTreeMap<String, usize>,
    /// Cases per feature, see [`Problem::features`].
    pub features: BTreeMap<String, usize>,
    /// Per device.
    pub devices: Vec<DeviceReport>,
    /// A case in which building the formula or the reference itself failed; it ends the run.
    pub broken: Option<Failure>,
}

/// Largest share of output entries that rounding may decide, in many cases (0.1 % to 3.1 % at 300 cases,
/// 0.5 % to 2 % at 1500, 12 seeds) and, by chance, in a few: one case of a thousand entries can be most of all.
fn most_undecided(cases: usize) -> f64 {
    0.04 + 0.5 / (cases as f64).sqrt()
}

impl Report {
    /// Share of output entries that rounding decides, tied indices among them: from 0 to 1.
    ///
    /// ```
    /// use keops_core::conformance::Report;
    /// let report = Report { entries: 200, undecided: 3, ties: 1, ..Report::default() };
    /// assert_eq!(report.undecided_share(), 0.02);
    /// ```
    pub fn undecided_share(&self) -> f64 {
        (self.undecided + self.ties) as f64 / self.entries.max(1) as f64
    }
    /// Panics with the report unless every operation of the tables, every reduction, both modes of
    /// differentiation and every feature occurred in at least `least` cases, a third of the cases
    /// has a derivative and a tenth a second one. For runs of 20,000 cases and 100.
    ///
    /// ```should_panic
    /// use keops_core::conformance::{Config, check_backend};
    /// # use keops_core::{interp::Interpreter, spec::Device};
    /// let device = Device::new(Interpreter::new());
    /// let config = Config { cases: 10, ..Config::default() };
    /// let report = check_backend(&[("exact", &device)], config);
    /// report.assert_covered(100); // ten cases are too few
    /// ```
    #[track_caller]
    pub fn assert_covered(&self, least: usize) {
        let operations = operation_names().filter(|n| self.operations.get(n) < Some(&least));
        let reductions = reduce::ALL.iter().map(|r| r.name);
        let reductions = reductions.filter(|n| self.reductions.get(n) < Some(&least));
        let mut missing: Vec<String> = operations.chain(reductions).map(String::from).collect();
        let known = all_features().into_iter();
        missing.extend(known.filter(|n| self.features.get(n) < Some(&least)));
        let with = |test: &dyn Fn(&str) -> bool| -> usize {
            self.derivatives.iter().filter(|(name, _)| test(name)).map(|(_, n)| n).sum()
        };
        for (found, wanted, what) in [
            (with(&|d| d.contains("Grad")), least, "gradients"),
            (with(&|d| d.contains("Diff")), least, "tangents"),
            (with(&|_| true), self.cases / 3, "first derivatives"),
            (with(&|d| d.contains(' ')), self.cases / 10, "second derivatives"),
        ] {
            if found < wanted {
                missing.push(format!("{what} ({found} of {wanted})"));
            }
        }
        assert!(missing.is_empty(), "too few cases of {missing:?}\n{self}");
    }
    /// Panics with the report unless every device passed every case and few entries were
    /// undecided.
    ///
    /// ```should_panic
    /// use keops_core::conformance::{Config, Fault, Planted, check_backend, plant};
    /// # use keops_core::{interp::Interpreter, ops, spec::Device};
    /// // A backend with a wrong subtraction.
    /// let wrong = plant(&ops::SUBTRACT, Fault::Value).into_iter().collect();
    /// let device = Device::new(Planted::new(Device::new(Interpreter::new()), wrong));
    /// let config = Config { cases: 100, shrink: 0, ..Config::default() };
    /// check_backend(&[("wrong", &device)], config).assert_passed();
    /// ```
    #[track_caller]
    pub fn assert_passed(&self) {
        let failed = self.broken.is_some()
            || self.devices.iter().any(|d| d.failure.is_some() || !d.unsupported.is_empty());
        assert!(!failed, "{self}");
        assert!(
            self.undecided_share() <= most_undecided(self.cases),
            "{} of {} outputs are undecided: the comparison looks away\n{self}",
            self.undecided + self.ties,
            self.entries
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} cases, {} outputs; {:.2} % undecided ({:.2} % tied indices), {:.2} % \
             certain NaN or infinities",
            self.cases,
            self.entries,
            100.0 * self.undecided_share(),
            100.0 * self.ties as f64 / self.entries.max(1) as f64,
            100.0 * self.special as f64 / self.entries.max(1) as f64
        )?;
        writeln!(f, "operations: {:?}", self.operations)?;
        writeln!(f, "reductions: {:?}", self.reductions)?;
        writeln!(f, "derivatives: {:?}", self.derivatives)?;
        writeln!(f, "features: {:?}", self.features)?;
        if let Some(x) = &self.broken {
            writeln!(f, "BROKEN: {}\n  case {}\n  {}", x.message, x.case, x.formula)?;
        }
        for d in &self.devices {
            writeln!(f, "{}: {} cases, worst error {:.3} bounds", d.name, d.cases, d.worst)?;
            f.write_str(&judge::distribution(&d.ratios))?;
            for (reason, n) in &d.unsupported {
                writeln!(f, "  unsupported ({n} cases): {reason}")?;
            }
            if let Some(x) = &d.failure {
                writeln!(f, "  FAILED: {}\n  case {}\n  {}", x.message, x.case, x.formula)?;
            }
        }
        Ok(())
    }
}

/// Runs random cases on all devices and compares them with the reference. A device that fails is
/// left out of the rest of the run; [`Report::assert_passed`] tells.
///
/// ```
/// use keops_core::conformance::{Config, check_backend};
/// use keops_core::interp::{Interpreter, Rounding};
/// use keops_core::spec::Device;
/// let device = |rounding| Device::new(Interpreter::with_rounding(rounding));
/// let (exact, rounded) = (device(Rounding::Double), device(Rounding::Compute));
/// let devices = [("exact", &exact), ("rounded", &rounded)];
/// let report = check_backend(&devices, Config { cases: 30, seed: 2, ..Config::default() });
/// assert!(report.devices.iter().all(|d| d.cases == 30 && d.failure.is_none()));
/// ```
pub fn check_backend(devices: &[(&str, &Device)], config: Config) -> Report {
    let report = Report {
        devices: devices
            .iter()
            .map(|(name, _)| DeviceReport { name: name.to_string(), ..DeviceReport::default() })
            .collect(),
        ..Report::default()
    };
    let run = Run { devices, report: RefCell::new(report), failing: Cell::new(None) };
    let known = regressions(&config);
    for case in &known {
        let attempt = || run.case(case);
        let outcome =
            catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_| Err("panic".into()));
        if let Err(message) = outcome {
            run.fail(case, message, &known, &config);
        }
    }
    let mut seed = Random::new(config.seed);
    let turn = Turn(Arc::default());
    loop {
        let done = run.report.borrow().cases as u32;
        let active = run.report.borrow().devices.iter().any(|d| d.failure.is_none());
        if done >= config.cases || !active || run.report.borrow().broken.is_some() {
            break;
        }
        let bytes: Vec<u8> = (0..4).flat_map(|_| seed.bits().to_le_bytes()).collect();
        let mut runner = TestRunner::new_with_rng(
            proptest::test_runner::Config {
                cases: config.cases - done,
                max_shrink_iters: config.shrink,
                failure_persistence: None,
                ..Default::default()
            },
            TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
        );
        let outcome =
            runner.run(&covering(&turn), |case| run.case(&case).map_err(TestCaseError::fail));
        match outcome {
            Ok(()) => break,
            Err(TestError::Fail(reason, case)) => {
                let (case, message) = run.fewer(case, reason.to_string(), config.shrink);
                run.fail(&case, message, &known, &config)
            }
            Err(TestError::Abort(reason)) => unreachable!("no case is rejected: {reason}"),
        }
    }
    run.report.into_inner()
}

/// Random cases, which shrink towards small ones.
///
/// ```
/// use keops_core::conformance::cases;
/// use proptest::prelude::*;
/// proptest!(ProptestConfig::with_cases(20), |(case in cases())| {
///     prop_assert!(case.build().is_ok());
/// });
/// ```
pub fn cases() -> impl Strategy<Value = Case> {
    let number = 0..NUMBERS;
    let instruction = [number.clone(), number.clone(), number.clone()];
    (vec(number, HEADER), vec(instruction, 1..=INSTRUCTIONS))
        .prop_map(|(header, instructions)| Case { header, instructions })
}

/// Random cases whose last operation goes through the tables, so that every one has its share.
fn covering(turn: &Turn) -> impl Strategy<Value = Case> {
    (cases(), turn.clone()).prop_map(|(mut case, turn)| {
        if let (Some(last), Some(n)) = (case.instructions.last_mut(), turn) {
            last[0] = n;
        }
        case
    })
}

/// A strategy that counts; it shrinks to nothing.
#[derive(Clone, Debug)]
struct Turn(Arc<AtomicU32>);

impl Strategy for Turn {
    type Tree = Counted;
    type Value = Option<u32>;
    fn new_tree(&self, _: &mut TestRunner) -> NewTree<Self> {
        Ok(Counted { number: self.0.fetch_add(1, Ordering::Relaxed), shrunk: false, over: false })
    }
}

/// See [`Turn`].
struct Counted {
    number: u32,
    shrunk: bool,
    over: bool,
}

impl ValueTree for Counted {
    type Value = Option<u32>;
    fn current(&self) -> Option<u32> {
        (!self.shrunk).then_some(self.number)
    }
    fn simplify(&mut self) -> bool {
        let more = !self.shrunk && !self.over;
        self.shrunk |= more;
        more
    }
    fn complicate(&mut self) -> bool {
        let more = self.shrunk && !self.over;
        (self.shrunk, self.over) = (false, true);
        more
    }
}

fn regressions(config: &Config) -> Vec<Case> {
    let Some(path) = &config.regressions else { return vec![] };
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(Case::from_text).collect()
}

struct Run<'a> {
    devices: &'a [(&'a str, &'a Device)],
    report: RefCell<Report>,
    /// The device whose failure is being shrunk: only it is run, and nothing is counted.
    failing: Cell<Option<usize>>,
}

impl Run<'_> {
    fn fail(&self, case: &Case, message: String, known: &[Case], config: &Config) {
        let device = self.failing.take();
        let text = case.to_text();
        if let Some(path) = config.regressions.as_ref().filter(|_| !known.contains(case)) {
            use std::io::Write;
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            // The report has the case too, so a file that cannot be written loses nothing.
            let _ = file.and_then(|mut f| writeln!(f, "{text}"));
        }
        let describe = || {
            case.build().map_or_else(
                |e| e.to_string(),
                |p| {
                    let roots: Vec<_> =
                        std::iter::once(p.spec.formula).chain(p.spec.weight).collect();
                    format!("{}\n{}", p.text, crate::print::nodes(&p.spec.graph, &roots))
                },
            )
        };
        // Building the formula may be what panics.
        let formula = catch_unwind(AssertUnwindSafe(describe))
            .unwrap_or_else(|_| "building the formula panics".into());
        let failure = Some(Failure { message, case: text, formula });
        let mut report = self.report.borrow_mut();
        match device {
            Some(d) => report.devices[d].failure = failure,
            None => report.broken = failure,
        }
    }

    /// A failing case with fewer instructions, which the strategy does not find where those after a
    /// deleted one mean something else: each alone, all but one, then numbers of 0.
    fn fewer(&self, mut case: Case, mut message: String, steps: u32) -> (Case, String) {
        let mut left = steps;
        loop {
            let n = case.instructions.len();
            let with = |instructions| Case { instructions, ..case.clone() };
            let mut tries = vec![];
            for k in (0..n).filter(|_| n > 1) {
                let [op, ..] = case.instructions[k];
                tries.extend([with(vec![[op, 0, 0]]), with(vec![case.instructions[k]])]);
            }
            for k in (0..n).filter(|_| n > 1) {
                let mut rest = case.instructions.clone();
                rest.remove(k);
                let plain = rest.iter().map(|[op, ..]| [*op, 0, 0]).collect();
                tries.extend([with(rest), with(plain)]);
            }
            for (k, j) in (0..n).flat_map(|k| [(k, 1), (k, 2)]) {
                let mut plainer = case.clone();
                plainer.instructions[k][j] = 0;
                tries.push(plainer);
            }
            tries.retain(|t| *t != case);
            let wrong = tries.into_iter().take(left as usize).find_map(|t| {
                left -= 1;
                let attempt = catch_unwind(AssertUnwindSafe(|| self.case(&t)));
                attempt.unwrap_or_else(|_| Err("panic".into())).err().map(|m| (t, m))
            });
            match wrong {
                Some(smaller) => (case, message) = smaller,
                None => return (case, message),
            }
        }
    }

    fn case(&self, case: &Case) -> Result<(), String> {
        let shrinking = self.failing.get();
        let mut problem = case.build().map_err(|e| e.to_string())?;
        let features = std::mem::take(&mut problem.features);
        let args = problem.checked(false).map_err(|e| e.to_string())?;
        let plain = problem.checked(true).map_err(|e| e.to_string())?;
        let reference = evaluate_with_bounds(&problem.spec, &plain).map_err(|e| e.to_string())?;
        if shrinking.is_none() {
            let mut r = self.report.borrow_mut();
            r.cases += 1;
            for out in &reference {
                r.entries += out.values.len();
                let unknown = out.bounds.iter().filter(|b| **b == f64::INFINITY).count();
                let open = |rows: &&Vec<i64>| 2 * rows.len() >= plain.columns();
                let open = out.alternatives.values().filter(open).count();
                r.undecided += unknown + open;
                r.ties += out.alternatives.len() - open;
                let special = out
                    .values
                    .iter()
                    .zip(&out.bounds)
                    .filter(|(v, b)| !v.is_finite() && **b == 0.0);
                r.special += special.count();
            }
            for name in &problem.operations {
                *r.operations.entry(name).or_default() += 1;
            }
            *r.reductions.entry(problem.spec.reduction.name).or_default() += 1;
            for name in features {
                *r.features.entry(name).or_default() += 1;
            }
            if !problem.derivatives.is_empty() {
                *r.derivatives.entry(problem.derivatives.join(" ")).or_default() += 1;
            }
        }
        for (at, (_, device)) in self.devices.iter().enumerate() {
            let done = self.report.borrow().devices[at].failure.is_some();
            if done || shrinking.is_some_and(|s| s != at) {
                continue;
            }
            // Set before the device runs: a panic in it is its failure.
            self.failing.set(Some(at));
            let executable = match device.compile(&problem.spec) {
                Ok(e) => e,
                Err(CompileError::Unsupported { reason, .. }) => {
                    if shrinking.is_none() {
                        let mut r = self.report.borrow_mut();
                        *r.devices[at].unsupported.entry(reason).or_default() += 1;
                    }
                    self.failing.set(shrinking);
                    continue;
                }
                Err(e) => return Err(e.to_string()),
            };
            let mut out = args.allocate(&problem.spec).map_err(|e| e.to_string())?;
            executable.run(&args, &mut out).map_err(|e| e.to_string())?;
            let found: Vec<Judgement> =
                reference.iter().zip(&out).map(|(r, got)| judge(r, got, problem.spec.k)).collect();
            if shrinking.is_none() {
                let mut r = self.report.borrow_mut();
                let d = &mut r.devices[at];
                d.cases += 1;
                for j in &found {
                    d.worst = d.worst.max(j.worst);
                    d.ratios.iter_mut().zip(j.ratios).for_each(|(a, b)| *a += b);
                }
            }
            for (k, j) in found.into_iter().enumerate() {
                if let Some(wrong) = j.wrong {
                    return Err(format!("output {k}: {wrong}"));
                }
            }
            self.failing.set(shrinking);
        }
        Ok(())
    }
}
