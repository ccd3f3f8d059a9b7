//! The table of reductions: the one place where each is defined.
//!
//! A reduction either *accumulates* sums (with an optional running maximum as pivot, against
//! overflow) or *selects* extreme entries. Back ends implement these two families and know no
//! reduction by name. The derivative of every accumulating reduction is again a sum:
//! `linearise` gives a vector formula ψ such that `d out_i = Σ_j dψ_ij` while saved results of the
//! reduction are held fixed; reverse and forward mode both follow from it.

mod derived;

pub use derived::{DERIVED, Definition, DerivedDef, MEAN, Pairs, VARIANCE, all, by_name};

use crate::graph::Ex;

/// Does a reduction take a second formula?
///
/// ```
/// use keops_core::reduce::{LOG_SUM_EXP, SUM, SUM_SOFT_MAX_WEIGHT, WeightRule};
/// assert_eq!(SUM.weight, WeightRule::Never);
/// assert_eq!(LOG_SUM_EXP.weight, WeightRule::Optional);
/// assert_eq!(SUM_SOFT_MAX_WEIGHT.weight, WeightRule::Required);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WeightRule {
    /// No.
    Never,
    /// It may.
    Optional,
    /// It must.
    Required,
}

/// Smallest or largest first.
///
/// ```
/// use keops_core::reduce::{ARG_MAX, Family, Order};
/// assert!(matches!(&ARG_MAX.kind, Family::Select(s) if s.order == Order::Max));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Order {
    /// Smallest.
    Min,
    /// Largest.
    Max,
}

/// Everything the system knows about one reduction.
/// One that is not in the table serves all the same: what it needs is said here.
///
/// ```
/// use keops_core::genred::Genred;
/// use keops_core::reduce::{Accumulate, Family, ReductionDef, SUM, WeightRule};
/// use keops_core::spec::Axis;
/// use ndarray::array;
/// /// The Euclidean norm of a column of components, `sqrt(Σ f²)`.
/// static NORM: ReductionDef = ReductionDef {
///     name: "Norm",
///     spellings: &[],
///     doc: "root of the sum of f²; 0 over nothing",
///     weight: WeightRule::Never,
///     kind: Family::Accumulate(Accumulate {
///         pivot: None,
///         lift: |f, _, _| f * f,
///         dim: |d| d,
///         finalise: |s, _| s.un(&keops_core::ops::SQRT),
///         linearise: |f, _, out, _| f * f / (out * 2.0), // d out = Σ f df / out
///         saved: None,
///     }),
/// };
/// let norm: Genred = Genred::new("y", ["y = Vj(1)"], &NORM, Axis::J)?;
/// assert_eq!(norm.call((&array![[3.0], [4.0]],))?, array![[5.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub struct ReductionDef {
    /// Name, as KeOps' `reduction_op`: for people, and for text. A definition is identified by its
    /// place in memory, so that two of one name are two.
    pub name: &'static str,
    /// Other accepted spellings.
    pub spellings: &'static [&'static str],
    /// One line for the reference page.
    pub doc: &'static str,
    /// Second formula.
    pub weight: WeightRule,
    /// The family, with its functions.
    pub kind: Family,
}

/// The two families of reductions.
///
/// ```
/// use keops_core::reduce::{self, Family};
/// let selecting = reduce::ALL.iter().filter(|r| matches!(r.kind, Family::Select(_)));
/// assert!(
///     selecting.clone().any(|r| r.name == "KMin") && !selecting.clone().any(|r| r.name == "Sum")
/// );
/// ```
pub enum Family {
    /// Sums of lifted values.
    Accumulate(Accumulate),
    /// Entries with extreme keys, component by component; ties go to the lowest index, NaN is
    /// never taken, an infinity is.
    Select(Select),
}

/// Functions of an accumulating reduction; `f` is the formula, `w` the weight formula.
/// See [`ReductionDef`] for how to define another.
///
/// ```
/// use keops_core::graph::{Builder, Category};
/// use keops_core::reduce::{Family, SUM};
/// let Family::Accumulate(sum) = &SUM.kind else { unreachable!("a sum accumulates") };
/// let b = Builder::default();
/// let f = b.fresh(3, Category::J);
/// assert_eq!((sum.lift)(f, None, None).id, f.id); // what is added up is f itself
/// assert_eq!((sum.dim)(3), 3);
/// ```
pub struct Accumulate {
    /// Running maximum of the formula (which then has dimension 1), kept within the finite range
    /// of the type.
    pub pivot: Option<Pivot>,
    /// What is added up: `(f, w, pivot) -> addends`.
    pub lift: for<'g> fn(Ex<'g>, Option<Ex<'g>>, Option<Ex<'g>>) -> Ex<'g>,
    /// Components of a result, from those of the weight or, without one, of the formula.
    pub dim: fn(usize) -> usize,
    /// Result from the sums: `(sums, pivot) -> value`.
    pub finalise: for<'g> fn(Ex<'g>, Option<Ex<'g>>) -> Ex<'g>,
    /// `(f, w, result, saved) -> ψ`, see the module; `saved` is the result of the reduction
    /// [`Accumulate::saved`], where one is named.
    pub linearise: for<'g> fn(Ex<'g>, Option<Ex<'g>>, Ex<'g>, Option<Ex<'g>>) -> Ex<'g>,
    /// A further reduction whose result `linearise` reads.
    pub saved: Option<Saved>,
}

/// A reduction whose result the derivative of another one reads.
///
/// ```
/// use keops_core::reduce::{Family, LOG_SUM_EXP, MAX_SUM_SHIFT_EXP};
/// let Family::Accumulate(lse) = &LOG_SUM_EXP.kind else { unreachable!("it accumulates") };
/// // The maximum and the sum that belongs to it: log-sum-exp itself is rounded.
/// assert!(lse.saved.is_some_and(|s| s.reduction == &MAX_SUM_SHIFT_EXP && s.weighted));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Saved {
    /// The reduction, over the same formula.
    pub reduction: &'static ReductionDef,
    /// Is it over the weight too? Then what it holds is in the result, but for rounding: where a
    /// caller gives the result of an earlier evaluation, `linearise` gets that and no `saved`.
    pub weighted: bool,
}

/// A pivot and how sums follow when it moves.
///
/// ```
/// use keops_core::graph::{Builder, Category};
/// use keops_core::reduce::{Family, LOG_SUM_EXP};
/// let Family::Accumulate(lse) = &LOG_SUM_EXP.kind else { unreachable!("it accumulates") };
/// let pivot = lse.pivot.as_ref().unwrap();
/// assert!(!pivot.shown); // log(Σ exp(f - m)) + m is the same for all m
/// let b = Builder::default();
/// // A sum of exp(f - 3) as one of exp(f - 3): nothing changes.
/// let sums = b.fresh(1, Category::I);
/// assert_eq!((pivot.rebase)(sums, b.lit(3.0), b.lit(3.0)).id, sums.id);
/// ```
pub struct Pivot {
    /// Does the result show the pivot? Otherwise it only keeps sums within range.
    pub shown: bool,
    /// `(sums, old, new) -> sums`
    pub rebase: for<'g> fn(Ex<'g>, Ex<'g>, Ex<'g>) -> Ex<'g>,
}

/// A selecting reduction.
///
/// ```
/// use keops_core::reduce::{Family, MIN_ARG_MIN, Order, Select};
/// let Family::Select(select) = MIN_ARG_MIN.kind else { unreachable!("it selects") };
/// assert_eq!(select, Select { order: Order::Min, many: false, value: true, index: true });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Select {
    /// Which keys win.
    pub order: Order,
    /// Several winners (a count is given) or one.
    pub many: bool,
    /// Are the keys part of the result?
    pub value: bool,
    /// Are the indices part of the result?
    pub index: bool,
}

fn shift<'g>(s: Ex<'g>, old: Ex<'g>, new: Ex<'g>) -> Ex<'g> {
    s * (old - new).un(&crate::ops::EXP)
}
fn weighted<'g>(e: Ex<'g>, w: Option<Ex<'g>>) -> Ex<'g> {
    w.map_or(e, |w| e * w)
}

fn if_else<'g>(condition: Ex<'g>, yes: Ex<'g>, no: Ex<'g>) -> Ex<'g> {
    Ex::apply(&crate::ops::IF_ELSE, &[condition, yes, no])
}
/// The condition for [`if_else`] that `x` is this infinity: at least 0 there, else negative or NaN.
fn when_infinite<'g>(x: Ex<'g>, infinity: f64) -> Ex<'g> {
    Ex::apply(&crate::ops::EQUAL, &[x, x.lit(infinity)]) - 1.0
}
/// `exp(f - m)`, where `m` is the maximum or the log-sum-exp of `f`: 0 where both are -inf, so that
/// rows in which every entry is masked by -inf have gradient 0 (and do not spoil the others).
fn below<'g>(f: Ex<'g>, m: Ex<'g>) -> Ex<'g> {
    let nothing = when_infinite(m, f64::NEG_INFINITY);
    (f - if_else(nothing, f.lit(0.0), m)).un(&crate::ops::EXP)
}
/// `exp(f - m) / s` for the maximum `m` and the sum `s` of [`MAX_SUM_SHIFT_EXP`], 0 where every
/// entry is -inf. Not `exp(f - lse)`: a log-sum-exp of 1e6 is rounded by 0.03 in f32, and the
/// weights would add up to as much more or less than 1.
fn softmax<'g>(f: Ex<'g>, m: Ex<'g>, s: Ex<'g>) -> Ex<'g> {
    let nothing = when_infinite(m, f64::NEG_INFINITY);
    below(f, m) * (s.lit(1.0) / if_else(nothing, s.lit(1.0), s))
}
/// The same of entries with weights, whose sum is 0 also where the weights add up to 0: the mask is
/// that of f.
fn weighted_softmax<'g>(f: Ex<'g>, w: Ex<'g>, m: Ex<'g>, s: Ex<'g>) -> Ex<'g> {
    let masked = when_infinite(f, f64::NEG_INFINITY);
    let e = if_else(masked, f, f - m).un(&crate::ops::EXP);
    e * w * if_else(masked, f.lit(0.0), s.lit(1.0) / s)
}
/// A term of a total, and of the sums that are divided by it.
fn beside_its_weight<'g>(e: Ex<'g>, w: Option<Ex<'g>>) -> Ex<'g> {
    Ex::concat(&[e, weighted(e, w)])
}
/// Sums divided by the total before them; 0 where that is 0, over nothing.
fn mean_of(s: Ex<'_>) -> Ex<'_> {
    let (total, sums) = parts(s);
    let none = -total.un(&crate::ops::ABS);
    sums / if_else(none, s.lit(1.0), total)
}
/// The parts of a result of [`MAX_SUM_SHIFT_EXP`].
fn parts(pair: Ex<'_>) -> (Ex<'_>, Ex<'_>) {
    (pair.pick(0, 1, 1), pair.pick(1, 1, pair.dim() - 1))
}
/// The maximum that a pivot stands for, by the sum of `exp(f - pivot)`: that is 0 where there is
/// no entry above -inf (the pivot is kept within the finite range), inf where one is +inf, and
/// NaN where one is NaN; there a pivot at the end of the range counts as infinite.
fn extended<'g>(m: Ex<'g>, total: Ex<'g>) -> Ex<'g> {
    let inf = m.lit(f64::INFINITY);
    // Infinite for the last of the finite numbers, in any type.
    let past = m * (1.0 + 2f64.powi(-20));
    let (low, high) = (when_infinite(past, f64::NEG_INFINITY), when_infinite(past, f64::INFINITY));
    let beside_nan = if_else(low, -inf, if_else(high, inf, m));
    let some = if_else(total, m, beside_nan);
    if_else(when_infinite(total, f64::INFINITY), inf, if_else(-total, -inf, some))
}
/// The maximum that the pivot `m` stands for, and the sums: the first one, of the terms without weights,
/// is left out where there are others.
fn maximum_and_sums<'g>(s: Ex<'g>, m: Ex<'g>) -> Ex<'g> {
    let (weighted, total) = ((s.dim() > 1) as usize, s.pick(0, 1, 1));
    let sums = s.pick(weighted, 1, s.dim() - weighted);
    Ex::concat(&[extended(m, total), sums])
}

/// `Σ f`
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use ndarray::{Array2, array};
/// let sum: Genred = Genred::new("x * y", ["x = Vi(2)", "y = Vj(1)"], &SUM, Axis::J)?;
/// let x = array![[1.0, 10.0]];
/// assert_eq!(sum.call((&x, &array![[2.0], [3.0]]))?, array![[5.0, 50.0]].into_dyn());
/// assert_eq!(sum.call((&x, &Array2::zeros((0, 1))))?, array![[0.0, 0.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub static SUM: ReductionDef = ReductionDef {
    name: "Sum",
    spellings: &[],
    doc: "sum of f; 0 over nothing",
    weight: WeightRule::Never,
    kind: Family::Accumulate(Accumulate {
        pivot: None,
        lift: |f, _, _| f,
        dim: |d| d,
        finalise: |s, _| s,
        linearise: |f, _, _, _| f,
        saved: None,
    }),
};
/// `log Σ w exp f`
/// The formula has dimension 1, the result that of the weight.
///
/// ```
/// use keops_core::{genred::Genred, reduce::LOG_SUM_EXP, spec::Axis};
/// use ndarray::array;
/// let lse: Genred = Genred::new("y", ["y = Vj(1)"], &LOG_SUM_EXP, Axis::J)?;
/// let large = array![[1000.0], [1000.0]]; // exp(1000) is infinite
/// assert_eq!(lse.call((&large,))?, array![[1000.0 + 2f64.ln()]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub static LOG_SUM_EXP: ReductionDef = ReductionDef {
    name: "LogSumExp",
    spellings: &["LogSumExpWeight", "LogSumExp_Weight"],
    doc: "log of the sum of exp(f), or of exp(f) w; -inf over nothing",
    weight: WeightRule::Optional,
    kind: Family::Accumulate(Accumulate {
        pivot: Some(Pivot { shown: false, rebase: shift }),
        lift: |f, w, m| weighted((f - m.unwrap_or(f)).un(&crate::ops::EXP), w),
        dim: |d| d,
        finalise: |s, m| s.un(&crate::ops::LOG) + m.unwrap_or(s.lit(0.0)),
        linearise: |f, w, out, pair| {
            // A result that is given stands for the maximum, beside a sum of 1.
            let (m, s) = pair.map_or((out, out.lit(1.0)), parts);
            w.map_or_else(|| softmax(f, m, s), |w| weighted_softmax(f, w, m, s))
        },
        saved: Some(Saved { reduction: &MAX_SUM_SHIFT_EXP, weighted: true }),
    }),
};
/// `Σ w exp f / Σ exp f`
/// The formula has dimension 1, the result that of the weight: attention.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM_SOFT_MAX_WEIGHT, spec::Axis};
/// use ndarray::array;
/// let aliases = ["y = Vj(1)", "v = Vj(2)"];
/// let mean: Genred = Genred::weighted("y", "v", aliases, &SUM_SOFT_MAX_WEIGHT, Axis::J)?;
/// let out = mean.call((&array![[7.0], [7.0]], &array![[1.0, 2.0], [3.0, 6.0]]))?;
/// assert_eq!(out, array![[2.0, 4.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub static SUM_SOFT_MAX_WEIGHT: ReductionDef = ReductionDef {
    name: "SumSoftMaxWeight",
    spellings: &["SoftMax"],
    doc: "mean of w under the weights exp(f); 0 over nothing",
    weight: WeightRule::Required,
    kind: Family::Accumulate(Accumulate {
        pivot: Some(Pivot { shown: false, rebase: shift }),
        lift: |f, w, m| beside_its_weight((f - m.unwrap_or(f)).un(&crate::ops::EXP), w),
        dim: |d| d,
        finalise: |s, _| mean_of(s),
        linearise: |f, w, out, pair| {
            let (m, s) = pair.map_or((f, f.lit(1.0)), parts);
            softmax(f, m, s) * (w.unwrap_or(f) - out)
        },
        saved: Some(Saved { reduction: &MAX_SUM_SHIFT_EXP, weighted: false }),
    }),
};

/// `(max f, Σ w exp(f - max f))`
/// The formula has dimension 1; the result has one component more than the weight (or than 1).
///
/// ```
/// use keops_core::{genred::Genred, reduce::MAX_SUM_SHIFT_EXP, spec::Axis};
/// use ndarray::array;
/// let pair: Genred = Genred::new("y", ["y = Vj(1)"], &MAX_SUM_SHIFT_EXP, Axis::J)?;
/// assert_eq!(pair.call((&array![[1000.0], [1000.0]],))?, array![[1000.0, 2.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub static MAX_SUM_SHIFT_EXP: ReductionDef = ReductionDef {
    name: "Max_SumShiftExp",
    spellings: &["MaxSumShiftExp", "Max_SumShiftExpWeight", "MaxSumShiftExpWeight"],
    doc: "m = max f, then the sum of exp(f - m), or of exp(f - m) w; m is not differentiated",
    weight: WeightRule::Optional,
    kind: Family::Accumulate(Accumulate {
        pivot: Some(Pivot { shown: true, rebase: shift }),
        lift: |f, w, m| {
            let e = (f - m.unwrap_or(f)).un(&crate::ops::EXP);
            w.map_or(e, |w| Ex::concat(&[e, e * w]))
        },
        dim: |d| d + 1,
        finalise: |s, m| maximum_and_sums(s, m.unwrap_or(s)),
        linearise: |f, w, out, _| {
            Ex::concat(&[f.lit(0.0), weighted(below(f, out.pick(0, 1, 1)), w)])
        },
        saved: None,
    }),
};
/// Zeros, of the dimension of the formula.
///
/// ```
/// use keops_core::{genred::Genred, reduce::ZERO, spec::Axis};
/// use ndarray::array;
/// let zero: Genred = Genred::new("x", ["x = Vi(2)"], &ZERO, Axis::J)?;
/// assert_eq!(zero.call((&array![[1.0, 2.0]],))?, array![[0.0, 0.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub static ZERO: ReductionDef = ReductionDef {
    name: "Zero",
    spellings: &[],
    doc: "0, of the dimension of f",
    weight: WeightRule::Never,
    kind: Family::Accumulate(Accumulate {
        pivot: None,
        lift: |f, _, _| f.lit(0.0).broadcast(f.dim()),
        dim: |d| d,
        finalise: |s, _| s,
        linearise: |f, _, _, _| f.lit(0.0).broadcast(f.dim()),
        saved: None,
    }),
};

/// A selecting reduction, with an example: what a call over the rows 5, 1, -2, 1 gives.
macro_rules! select {
    ($id:ident, $name:literal, $spellings:expr, $doc:literal, $order:ident, $many:literal, $value:literal, $index:literal,
        $reduce:literal $call:ident $result:literal) => {
        #[doc = $doc]
        ///
        /// ```
        #[doc = concat!("use keops_core::{genred::Genred, reduce::", stringify!($id), ", spec::Axis};")]
        /// use ndarray::array;
        /// let y = array![[5.0], [1.0], [-2.0], [1.0]];
        #[doc = concat!("let f: Genred = Genred::new(\"y\", [\"y = Vj(1)\"], ", $reduce, ", Axis::J)?;")]
        #[doc = concat!("assert_eq!(f.", stringify!($call), "((&y,))?, array!", $result, ".into_dyn());")]
        /// # Ok::<(), keops_core::error::Error>(())
        /// ```
        pub static $id: ReductionDef = ReductionDef {
            name: $name,
            spellings: &$spellings,
            doc: $doc,
            weight: WeightRule::Never,
            kind: Family::Select(Select {
                order: Order::$order,
                many: $many,
                value: $value,
                index: $index,
            }),
        };
    };
}
select!(
    MIN, "Min", [], "smallest f; +inf over nothing", Min, false, true, false,
    "&MIN" call "[[-2.0]]"
);
select!(
    MAX, "Max", [], "largest f; -inf over nothing", Max, false, true, false,
    "&MAX" call "[[5.0]]"
);
select!(
    ARG_MIN, "ArgMin", [], "index of the smallest f; -1 over nothing", Min, false, false, true,
    "&ARG_MIN" call_indices "[[2]]"
);
select!(
    ARG_MAX, "ArgMax", [], "index of the largest f; -1 over nothing", Max, false, false, true,
    "&ARG_MAX" call_indices "[[0]]"
);
select!(
    MIN_ARG_MIN, "Min_ArgMin", ["MinArgMin"], "smallest f and its index", Min, false, true, true,
    "&MIN_ARG_MIN" call_indices "[[2]]"
);
select!(
    MAX_ARG_MAX, "Max_ArgMax", ["MaxArgMax"], "largest f and its index", Max, false, true, true,
    "&MAX_ARG_MAX" call "[[5.0]]"
);
select!(
    K_MIN, "KMin", ["Kmin"],
    "the K smallest f in order; +inf where there are fewer", Min, true, true, false,
    "(&K_MIN, 2)" call "[[-2.0, 1.0]]"
);
select!(
    ARG_K_MIN, "ArgKMin", ["ArgKmin"],
    "indices of the K smallest f in order; -1 where there are fewer", Min, true, false, true,
    "(&ARG_K_MIN, 3)" call_indices "[[2, 1, 3]]"
);
select!(
    K_MIN_ARG_K_MIN, "KMin_ArgKMin", ["KMinArgKMin", "Kmin_ArgKmin"],
    "the K smallest f and their indices", Min, true, true, true,
    "(&K_MIN_ARG_K_MIN, 2)" call "[[-2.0, 1.0]]"
);

// The compiler rejects an entry that is not in the list.
const _: () = {
    use crate::ops::entries;
    let text = include_str!("reduce.rs");
    assert!(entries(text, "\npub static ") + entries(text, "\nselect!(") == ALL.len() + 1);
};

/// Every reduction.
pub static ALL: &[&ReductionDef] = &[
    &SUM,
    &LOG_SUM_EXP,
    &SUM_SOFT_MAX_WEIGHT,
    &MAX_SUM_SHIFT_EXP,
    &ZERO,
    &MIN,
    &MAX,
    &ARG_MIN,
    &ARG_MAX,
    &MIN_ARG_MIN,
    &MAX_ARG_MAX,
    &K_MIN,
    &ARG_K_MIN,
    &K_MIN_ARG_K_MIN,
];

// A definition is itself: two of one name are two.
impl PartialEq for ReductionDef {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
impl Eq for ReductionDef {}
impl std::hash::Hash for ReductionDef {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::ptr::hash(self, state);
    }
}
impl std::fmt::Debug for ReductionDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
