//! A judge of derivatives: whole computations against differences of values.
//!
//! A case is a random function ([`case`]: a reduction, or one in another, of formulas as people
//! write them, with variables that one of them does not use, in any order), a chain of vjp and
//! jvp, and data. What ought to come out is a nested difference of naive values (`wanted`);
//! what comes out is `made`. Where they differ, differences of other steps and at points nearby
//! say whether the derivative exists there: if not, the case is skipped and counted. So is what
//! differs at a kink (`kinks`).

pub mod case;
mod formula;
mod kinks;
mod made;
mod planted;
mod planted_solve;
pub(crate) mod random;
mod shrink;
mod systems;
mod wanted;

pub use case::{Case, draw};
pub(crate) use formula::Maker;
pub use made::report;
pub use planted::{Outer, Planted};
pub use planted_solve::{Change, Operand, SolveFault};
pub use shrink::shrink;

use crate::Devices;
use crate::runs::{Count, each};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Step of the differences.
const STEP: f64 = 1.0 / 1_048_576.0;

/// What a case shows.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// Both derivatives are the same.
    Agrees,
    /// There is no derivative to compare with.
    Unreliable,
    /// There is, and keops gives another one, but by a convention that the documents state.
    Convention,
    /// keops is wrong.
    Fault(Fault),
}

/// How it is wrong.
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// Another number.
    Number {
        /// What keops gives, summed against the seed.
        got: f64,
        /// What it should be.
        want: f64,
    },
    /// An error where there is a derivative.
    Refused(String),
    /// A panic.
    Panic(String),
}

/// Compares the derivative of keops with that of the values.
pub fn judge(case: &Case, devices: &Devices) -> Verdict {
    let got = match catch_unwind(AssertUnwindSafe(|| made::derivative(case, devices))) {
        Ok(Ok(made)) => made,
        Ok(Err(e)) if e == "skipped" => return Verdict::Unreliable,
        // The solver says so where rounding in f32 leaves more than the tolerance.
        Ok(Err(e)) if case.single && e.contains("the residual stagnates") => {
            return Verdict::Unreliable;
        }
        Ok(Err(e)) => return Verdict::Fault(Fault::Refused(e)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
            return Verdict::Fault(Fault::Panic(text.unwrap_or_default()));
        }
    };
    let at = |h: f64, noise: f64| wanted::derivative(case, h, noise).unwrap_or(f64::NAN);
    let want = at(STEP, 0.0);
    if !want.is_finite() || want.abs() > 1e8 {
        return Verdict::Unreliable;
    }
    let scale = want.abs() + if got.size.is_finite() { got.size } else { 0.0 };
    // In f32 some digits are left of what is not badly conditioned, and fewer of what cancels: data, cotangents
    // and tangents are of size 1.
    let (close, rounding, least) = if case.single { (1e-4, 5e-4, 1.0) } else { (1e-7, 1e-5, 1e-2) };
    // What solvers leave is rounding as well.
    let Ok(left) = systems::left(case) else { return Verdict::Unreliable };
    let (close, rounding) = (close + left, rounding + left);
    if (got.total - want).abs() <= 1e-2 * close + close * scale {
        return Verdict::Agrees;
    }
    let off = (got.total - want).abs();
    if off <= rounding * (scale + least) {
        // Rounding of badly conditioned formulas; what is so small is for tests of accuracy.
        return Verdict::Unreliable;
    }
    // Is there a derivative? Other steps give the same, and points nearby about the same.
    let size = want.abs().max(1e-6);
    let steady = (at(3.0 * STEP, 0.0) - want).abs() <= 1e-6 * size + 1e-9;
    // (Not more than a derivative that is continuous changes by: at a kink, that of either side is right.)
    let allowed = (off / 4.0).min(1e-2 * size + 1e-3).max(1e-4 * size);
    let near = |noise: f64| (at(STEP, noise) - want).abs() <= allowed;
    if steady
        && wanted::continuous(case)
        && [1e-5, -1e-5, 1.3e-5, -1.3e-5, 1.7e-5].into_iter().all(near)
    {
        if kinks::at_convention(case) {
            return Verdict::Convention;
        }
        if off <= 16.0 * scatter(case, devices) {
            return Verdict::Unreliable;
        }
        return Verdict::Fault(Fault::Number { got: got.total, want });
    }
    Verdict::Unreliable
}

/// How far derivatives of keops are from each other where arguments are moved by some units of the last
/// place: what rounding leaves of terms that cancel. (Not from the derivative at the point itself: a
/// fault there alone is none of rounding.)
fn scatter(case: &Case, devices: &Devices) -> f64 {
    let unit = if case.single { f64::from(f32::EPSILON) } else { f64::EPSILON };
    let mut r = random::Random::new(11, 11);
    let mut moved = || {
        let mut case = case.clone();
        for v in case.args.iter_mut().flat_map(|a| &mut a.data) {
            *v *= 1.0 + 4.0 * unit * (r.unit() - 0.5);
        }
        made::derivative(&case, devices).map(|m| m.total)
    };
    let made: Vec<f64> = (0..6).filter_map(|_| moved().ok()).filter(|v| v.is_finite()).collect();
    let end = |f: fn(f64, f64) -> f64| made.iter().copied().reduce(f).unwrap_or_default();
    end(f64::max) - end(f64::min)
}

/// What a run of the judge counts.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// Cases that were judged.
    pub judged: usize,
    /// Cases without a derivative to compare with.
    pub skipped: usize,
    /// Cases that a convention decides.
    pub conventions: usize,
    /// Cases that could not be drawn.
    pub undrawn: usize,
    /// Those of them in f32.
    pub single: usize,
    /// How often each operation and reduction was judged.
    pub used: BTreeMap<String, usize>,
    /// How often each reduction was the outer or inner one, by chains of modes.
    pub chains: BTreeMap<String, usize>,
    /// Numbers of cases that are wrong.
    pub faults: Vec<(u64, u64, Fault)>,
}

impl Count for Tally {
    fn add(mut self, o: Tally) -> Tally {
        self.judged += o.judged;
        self.single += o.single;
        self.skipped += o.skipped;
        self.conventions += o.conventions;
        self.undrawn += o.undrawn;
        for (k, n) in o.used {
            *self.used.entry(k).or_default() += n;
        }
        for (k, n) in o.chains {
            *self.chains.entry(k).or_default() += n;
        }
        self.faults.extend(o.faults);
        self
    }
}

impl Tally {
    /// Skipped cases for each one drawn.
    pub fn skip_rate(&self) -> f64 {
        self.skipped as f64 / (self.judged + self.skipped).max(1) as f64
    }
    /// Names that were judged less than so often.
    pub fn rare<'a>(&self, names: impl Iterator<Item = &'a str>, least: usize) -> Vec<String> {
        let count = |n: &str| self.used.get(n).copied().unwrap_or(0);
        names.filter(|n| count(n) < least).map(|n| format!("{n} ({})", count(n))).collect()
    }
}

/// Judges the cases of a seed, but for those that use one of some operations and reductions.
pub fn run(seed: u64, cases: u64, without: &[&str]) -> Tally {
    each(cases, |number, devices, tally: &mut Tally| {
        let Some(case) = draw(seed, number) else {
            tally.undrawn += 1;
            return;
        };
        let mut seen: Vec<String> = vec![];
        case.uses(&mut |name| {
            if !seen.iter().any(|s| s == name) {
                seen.push(name.to_string());
            }
        });
        if seen.iter().any(|name| without.contains(&name.as_str())) {
            return;
        }
        match judge(&case, devices) {
            Verdict::Unreliable => return tally.skipped += 1,
            Verdict::Convention => return tally.conventions += 1,
            Verdict::Fault(fault) => tally.faults.push((seed, number, fault)),
            Verdict::Agrees => {}
        }
        tally.judged += 1;
        tally.single += case.single as usize;
        for name in seen {
            *tally.used.entry(name).or_default() += 1;
        }
        let mode = |s: &case::Step| if s.forward { "jvp" } else { "vjp" };
        let chain: Vec<&str> = case.steps.iter().map(mode).collect();
        *tally.chains.entry(chain.join(" ")).or_default() += 1;
    })
}
