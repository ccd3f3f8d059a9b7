//! Reductions that are formulas of the results of other reductions.
//!
//! A derived reduction is expanded into a computation ([`crate::outer`]) before a backend sees it:
//! it runs wherever its parts run, and derivatives of any order follow from theirs.

use super::{ReductionDef, SUM, WeightRule};
use crate::error::InputError;
use crate::genred::Reduce;
use crate::graph::{Builder, Ex, Var};
use crate::outer::{OuterGraph, Port, Reduction};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A reduction made of others.
///
/// ```
/// use keops_core::genred::Genred;
/// use keops_core::reduce::{DerivedDef, MAX, MIN, WeightRule};
/// use keops_core::spec::Axis;
/// use ndarray::array;
/// static RANGE: DerivedDef = DerivedDef {
///     name: "Range",
///     spellings: &[],
///     doc: "largest f - smallest f",
///     weight: WeightRule::Never,
///     many: false,
///     make: |pairs| {
///         let ends = [pairs.of(&MAX)?, pairs.of(&MIN)?];
///         Ok(pairs.rows(&ends, |v| v[0] - v[1]))
///     },
/// };
/// let range: Genred = Genred::new("x * y", ["x = Vi(1)", "y = Vj(1)"], &RANGE, Axis::J)?;
/// let (x, y) = (array![[1.0], [2.0]], array![[3.0], [-1.0], [0.5]]);
/// assert_eq!(range.call((&x, &y))?, array![[4.0], [8.0]].into_dyn());
/// // d/dy: the largest gets the row's factor, the smallest its opposite.
/// let e = array![[1.0], [1.0]];
/// assert_eq!(range.vjp("y")?.call((&x, &y, &e))?, array![[3.0], [-3.0], [0.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub struct DerivedDef {
    /// Name.
    pub name: &'static str,
    /// Other accepted spellings.
    pub spellings: &'static [&'static str],
    /// One line for the reference page.
    pub doc: &'static str,
    /// Second formula.
    pub weight: WeightRule,
    /// Does it take a number of winners?
    pub many: bool,
    /// Its result, a value with the rows that are kept, made of reductions and row maps.
    pub make: fn(&mut Pairs<'_>) -> Result<Port, InputError>,
}

/// A definition is the same as itself only; names are for people.
impl PartialEq for DerivedDef {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
impl Eq for DerivedDef {}
impl Hash for DerivedDef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self).hash(state);
    }
}
impl std::fmt::Debug for DerivedDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What front ends take: a reduction that backends run, or one that is made of others.
///
/// ```
/// use keops_core::reduce::{self, Definition, MEAN, SUM};
/// assert_eq!(reduce::by_name("Sum"), Some(Definition::Basic(&SUM)));
/// assert_eq!(reduce::by_name("Mean"), Some(Definition::Derived(&MEAN)));
/// assert!(!Definition::from(&SUM).takes_winners());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Definition {
    /// One that backends run.
    Basic(&'static ReductionDef),
    /// One that is made of others.
    Derived(&'static DerivedDef),
}

impl From<&'static ReductionDef> for Definition {
    fn from(def: &'static ReductionDef) -> Definition {
        Definition::Basic(def)
    }
}
impl From<&'static DerivedDef> for Definition {
    fn from(def: &'static DerivedDef) -> Definition {
        Definition::Derived(def)
    }
}

impl Definition {
    /// Name, as KeOps' `reduction_op`.
    pub fn name(self) -> &'static str {
        match self {
            Definition::Basic(d) => d.name,
            Definition::Derived(d) => d.name,
        }
    }
    /// One line for the reference page.
    pub fn doc(self) -> &'static str {
        match self {
            Definition::Basic(d) => d.doc,
            Definition::Derived(d) => d.doc,
        }
    }
    /// Other accepted spellings.
    pub fn spellings(self) -> &'static [&'static str] {
        match self {
            Definition::Basic(d) => d.spellings,
            Definition::Derived(d) => d.spellings,
        }
    }
    /// Does it take a second formula?
    pub fn weight(self) -> WeightRule {
        match self {
            Definition::Basic(d) => d.weight,
            Definition::Derived(d) => d.weight,
        }
    }
    /// Does it take a number of winners?
    pub fn takes_winners(self) -> bool {
        match self {
            Definition::Basic(d) => matches!(&d.kind, super::Family::Select(s) if s.many),
            Definition::Derived(d) => d.many,
        }
    }
    /// The result of a basic reduction is the node itself, with all its results; that of a derived
    /// one is one value.
    pub(crate) fn add(
        self,
        graph: &mut OuterGraph,
        of: Reduction,
    ) -> Result<Vec<Port>, InputError> {
        match self {
            Definition::Basic(reduction) => {
                let r = Reduction { reduction, ..of };
                r.spec(crate::data::DType::F64, vec![]).check()?;
                let (count, node) = (r.outputs().len() as u32, graph.reduce(r));
                Ok((0..count).map(|output| Port { node, output }).collect())
            }
            Definition::Derived(def) => Ok(vec![(def.make)(&mut Pairs { graph, of })?]),
        }
    }
}

/// The pairs that a derived reduction is made of: a formula, perhaps a weight, and the index that
/// it runs over.
///
/// ```
/// use keops_core::genred::Genred;
/// use keops_core::reduce::{DerivedDef, K_MIN, WeightRule};
/// use keops_core::spec::Axis;
/// use ndarray::array;
/// static MEAN_OF_NEAREST: DerivedDef = DerivedDef {
///     name: "MeanOfNearest",
///     spellings: &[],
///     doc: "mean of the K smallest f, of dimension 1",
///     weight: WeightRule::Never,
///     many: true,
///     make: |pairs| {
///         let (k, nearest) = (pairs.winners(), pairs.of(&K_MIN)?);
///         Ok(pairs.rows(&[nearest], |v| v[0].sum() / k as f64))
///     },
/// };
/// let aliases = ["x = Vi(1)", "y = Vj(1)"];
/// let f: Genred = Genred::new("Abs(x - y)", aliases, (&MEAN_OF_NEAREST, 2), Axis::J)?;
/// let (x, y) = (array![[0.0], [9.0]], array![[1.0], [-3.0], [5.0]]);
/// assert_eq!(f.call((&x, &y))?, array![[2.0], [6.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub struct Pairs<'a> {
    graph: &'a mut OuterGraph,
    /// Formula, weight, axis, options and number of winners; the reduction itself is replaced.
    of: Reduction,
}

impl Pairs<'_> {
    /// The number of winners that was asked for.
    pub fn winners(&self) -> usize {
        self.of.k
    }
    /// Components of the formula.
    pub fn dim(&self) -> usize {
        self.of.graph.dim(self.of.formula)
    }
    /// A reduction of the formula itself (and of its weight, where the reduction takes one); its
    /// values.
    ///
    /// # Errors
    /// [`InputError`] if the formula does not fit the reduction, or if that has no values.
    pub fn of(&mut self, reduction: impl Into<Definition>) -> Result<Port, InputError> {
        self.add(reduction.into(), self.of.clone())
    }
    /// A reduction of another formula of the same pairs: `formula` gets the formula, its weight
    /// and the earlier `results`, as values of the kept row.
    ///
    /// # Errors
    /// As [`Pairs::of`].
    pub fn reduce(
        &mut self,
        reduction: impl Into<Definition>,
        results: &[Port],
        formula: impl for<'g> FnOnce(Ex<'g>, Option<Ex<'g>>, &[Ex<'g>]) -> Ex<'g>,
    ) -> Result<Port, InputError> {
        let b = Builder::default();
        let mut bindings = self.of.bindings.clone();
        let fresh = bindings.iter().map(|(v, _)| v.index + 1).max().unwrap_or(0);
        let root = {
            let f = b.import(&self.of.graph, self.of.formula);
            let w = self.of.weight.map(|w| b.import(&self.of.graph, w));
            let mut earlier = vec![];
            for (index, port) in (fresh..).zip(results) {
                let info = self.graph.info(*port);
                let var = Var { index, dim: info.dim, category: info.category };
                bindings.push((var, *port));
                earlier.push(b.var(var));
            }
            formula(f, w, &earlier).id
        };
        let graph = Arc::new(b.into_graph());
        let of = Reduction { graph, formula: root, weight: None, bindings, ..self.of.clone() };
        self.add(reduction.into(), of)
    }
    /// A formula of results, row by row.
    pub fn rows(
        &mut self,
        results: &[Port],
        formula: impl for<'g> FnOnce(&[Ex<'g>]) -> Ex<'g>,
    ) -> Port {
        self.graph.map_rows(self.of.axis.kept(), results, |_, v| formula(v))
    }
    fn add(&mut self, reduction: Definition, of: Reduction) -> Result<Port, InputError> {
        let k = if reduction.takes_winners() { of.k } else { 1 };
        let made = reduction.add(self.graph, Reduction { k, ..of })?[0];
        if self.graph.info(made).index {
            let m = format!(
                "a derived reduction reads values, those of {} are indices",
                reduction.name()
            );
            return Err(InputError::Option(m));
        }
        Ok(made)
    }
    /// `(Σ w g, Σ w)` in one sum, where `g` is made of the formula and earlier results.
    fn weighted_sums(
        &mut self,
        results: &[Port],
        g: impl for<'g> FnOnce(Ex<'g>, &[Ex<'g>]) -> Ex<'g>,
    ) -> Result<Port, InputError> {
        if let Some(dim) = self.of.weight.map(|w| self.of.graph.dim(w)).filter(|d| *d != 1) {
            let m = format!("the weight of a mean has dimension 1, got dimension {dim}");
            return Err(InputError::Option(m));
        }
        self.reduce(&SUM, results, |f, w, v| {
            let (g, w) = (g(f, v), w.unwrap_or(f.lit(1.0)));
            Ex::concat(&[g * w, w])
        })
    }
}

fn ratio<'g>(sums: Ex<'g>) -> Ex<'g> {
    let d = sums.dim() - 1;
    sums.pick(0, 1, d) / sums.pick(d, 1, 1)
}

/// `Σ f / Σ 1`, or `Σ w f / Σ w`
///
/// ```
/// use keops_core::{genred::Genred, reduce::MEAN, spec::Axis};
/// use ndarray::array;
/// let mean: Genred = Genred::new("y", ["y = Vj(2)"], &MEAN, Axis::J)?;
/// let y = array![[1.0, 10.0], [2.0, 20.0], [6.0, 0.0]];
/// assert_eq!(mean.call((&y,))?, array![[3.0, 10.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub static MEAN: DerivedDef = DerivedDef {
    name: "Mean",
    spellings: &[],
    doc: "mean of f, or its mean under the weights w; NaN over nothing",
    weight: WeightRule::Optional,
    many: false,
    make: |p| {
        let sums = p.weighted_sums(&[], |f, _| f)?;
        Ok(p.rows(&[sums], |v| ratio(v[0])))
    },
};
/// `Mean((f - Mean(f))²)`, in two passes: nothing cancels where the mean is large.
///
/// ```
/// use keops_core::{genred::Genred, reduce::VARIANCE, spec::Axis};
/// use ndarray::array;
/// let variance: Genred = Genred::new("y", ["y = Vj(1)"], &VARIANCE, Axis::J)?;
/// let y = array![[1e9 + 1.0], [1e9 + 2.0], [1e9 + 6.0]];
/// assert!((variance.call((&y,))?[[0, 0]] - 14.0 / 3.0f64).abs() < 1e-12);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub static VARIANCE: DerivedDef = DerivedDef {
    name: "Variance",
    spellings: &[],
    doc: "mean of the squared distance of f to its mean (not corrected), component by component",
    weight: WeightRule::Optional,
    many: false,
    make: |p| {
        let mean = p.of(&MEAN)?;
        let sums = p.weighted_sums(&[mean], |f, v| (f - v[0]) * (f - v[0]))?;
        Ok(p.rows(&[sums], |v| ratio(v[0])))
    },
};

/// Every derived reduction.
pub static DERIVED: &[&DerivedDef] = &[&MEAN, &VARIANCE];

/// All reductions, basic ones first.
///
/// ```
/// use keops_core::reduce;
/// assert!(reduce::all().any(|r| r.name() == "Variance"));
/// assert_eq!(reduce::all().count(), reduce::ALL.len() + reduce::DERIVED.len());
/// ```
pub fn all() -> impl Iterator<Item = Definition> {
    let basic = super::ALL.iter().copied().map(Definition::Basic);
    basic.chain(DERIVED.iter().copied().map(Definition::Derived))
}

/// The reduction of that name or spelling.
///
/// ```
/// use keops_core::reduce;
/// assert_eq!(reduce::by_name("Kmin"), Some((&reduce::K_MIN).into())); // as KeOps spells it
/// assert_eq!(reduce::by_name("Median"), None);
/// ```
pub fn by_name(name: &str) -> Option<Definition> {
    all().find(|r| r.name() == name || r.spellings().contains(&name))
}

impl Reduce {
    /// The definition without its number of winners, if it is one that backends run.
    pub fn basic(self) -> Option<&'static ReductionDef> {
        match self.def {
            Definition::Basic(def) => Some(def),
            Definition::Derived(_) => None,
        }
    }
}
