//! The tables of composite operations: expansions into graph nodes, one file for each family.
//!
//! An entry has a name, a line of documentation, its operands and a builder that checks
//! dimensions. Gradients and code of every target follow from the expansion.

mod arithmetic;
mod complex;
mod differential;
mod matrix;
mod norms;
mod radial;
mod sequence;
mod vector;

use crate::error::DimError;
use crate::graph::Ex;
use hashbrown::HashMap;
#[cfg(feature = "conformance")]
use std::cell::Cell;
use std::sync::LazyLock;

/// A literal parameter of a composite.
///
/// ```
/// use keops_core::composite::Literal;
/// assert_eq!(Literal::from(3usize), Literal::Int(3));
/// assert_eq!(Literal::from(&[2usize, 3][..]), Literal::List(vec![2, 3]));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Literal {
    /// An integer.
    Int(i64),
    /// A list of integers.
    List(Vec<i64>),
}

impl From<usize> for Literal {
    fn from(v: usize) -> Literal {
        // No dimension is as large as what i64 cannot hold: it is refused like any that is too large.
        Literal::Int(i64::try_from(v).unwrap_or(i64::MAX))
    }
}
impl From<i32> for Literal {
    fn from(v: i32) -> Literal {
        Literal::Int(v.into())
    }
}
impl From<&[usize]> for Literal {
    fn from(v: &[usize]) -> Literal {
        Literal::List(v.iter().map(|&v| i64::try_from(v).unwrap_or(i64::MAX)).collect())
    }
}

/// What a composite builds from: operands and literal parameters.
pub type Build = for<'g> fn(&[Ex<'g>], &[Literal]) -> Built<'g>;
/// What it builds.
pub type Built<'g> = Result<Ex<'g>, DimError>;
/// Draws dimensions of operands, and literals, that fit each other.
pub type Sample = fn(Below<'_>) -> Drawn;
/// Random numbers: `below(n)` is one of `0..n`.
pub type Below<'a> = &'a mut dyn FnMut(usize) -> usize;
/// Dimensions of operands, and literals.
pub type Drawn = (Vec<usize>, Vec<Literal>);

/// A composite operation.
///
/// ```
/// use keops_core::composite::{self, Literal};
/// use keops_core::graph::{Builder, Category};
/// let extract = composite::by_name("Extract").unwrap();
/// assert_eq!((extract.operands, extract.literals), ((1, 1), (2, 2)));
/// let b = Builder::default();
/// let x = b.fresh(5, Category::I);
/// let part = (extract.build)(&[x], &[Literal::Int(1), Literal::Int(3)])?;
/// assert_eq!(part.id, x.pick(1, 1, 3).id);
/// assert!((extract.build)(&[x], &[Literal::Int(4), Literal::Int(3)]).is_err());
/// # Ok::<(), keops_core::error::DimError>(())
/// ```
pub struct CompositeDef {
    /// Name in formulas.
    pub name: &'static str,
    /// One line for the reference page, with the signature.
    pub doc: &'static str,
    /// Number of formula operands (smallest and largest).
    pub operands: (usize, usize),
    /// Number of literal parameters after them (smallest and largest).
    pub literals: (usize, usize),
    /// Expansion.
    pub build: Build,
    /// Random operands and literals for tests; `None`: operands of any dimension, tried until
    /// they fit, and no literals.
    pub sample: Option<Sample>,
    /// May operands be longer than [`MAX_DIM`](crate::graph::MAX_DIM)?
    pub long: bool,
}

/// An entry with this many operands and no literals.
const fn entry(
    name: &'static str,
    operands: usize,
    doc: &'static str,
    build: Build,
) -> CompositeDef {
    let operands = (operands, operands);
    CompositeDef { name, doc, operands, literals: (0, 0), build, sample: None, long: false }
}
impl CompositeDef {
    /// The expansion, for operands that are not too long.
    ///
    /// # Errors
    /// [`DimError`] where operands and literals do not fit.
    pub fn expand<'g>(&self, x: &[Ex<'g>], literals: &[Literal]) -> Built<'g> {
        if !self.long {
            limit(self.name, x.iter().map(|e| e.dim()).max())?;
        }
        (self.build)(x, literals)
    }
    /// Operands may be tables of any length.
    const fn long(mut self) -> Self {
        self.long = true;
        self
    }
    /// As many as `most` operands.
    const fn up_to(mut self, most: usize) -> Self {
        self.operands.1 = most;
        self
    }
    /// Dimensions of operands for tests, where most do not fit.
    const fn drawn(mut self, sample: Sample) -> Self {
        self.sample = Some(sample);
        self
    }
    /// From `low` to `high` literals after the operands.
    const fn literals(mut self, low: usize, high: usize, sample: Sample) -> Self {
        self.literals = (low, high);
        self.drawn(sample)
    }
}

/// Every composite.
pub static ALL: LazyLock<Vec<&'static CompositeDef>> = LazyLock::new(|| {
    let families = [
        arithmetic::ALL,
        norms::ALL,
        radial::ALL,
        vector::ALL,
        matrix::ALL,
        complex::ALL,
        sequence::ALL,
        differential::ALL,
    ];
    families.iter().copied().flatten().collect()
});

/// From a name to a composite.
#[cfg(feature = "conformance")]
type LookUp = fn(&str) -> Option<&'static CompositeDef>;

#[cfg(feature = "conformance")]
thread_local! {
    /// Looks up composites before the table does, on this thread: where a fault is planted.
    pub(crate) static STAND_IN: Cell<Option<LookUp>> = const { Cell::new(None) };
}

/// The composite of that name.
///
/// ```
/// use keops_core::composite;
/// assert_eq!(composite::by_name("SqDist").map(|c| c.operands), Some((2, 2)));
/// assert!(composite::by_name("Exp").is_none()); // that is element-wise: `ops::by_name`
/// ```
pub fn by_name(name: &str) -> Option<&'static CompositeDef> {
    #[cfg(feature = "conformance")]
    if let Some(stand_in) = STAND_IN.get().and_then(|look_up| look_up(name)) {
        return Some(stand_in);
    }
    static BY_NAME: LazyLock<HashMap<&str, &CompositeDef>> =
        LazyLock::new(|| ALL.iter().map(|c| (c.name, *c)).collect());
    BY_NAME.get(name).copied()
}

fn fail<T>(
    op: &str,
    expected: impl Into<String>,
    got: impl std::fmt::Display,
) -> Result<T, DimError> {
    Err(DimError::new(op, expected, got))
}
fn dims(x: &[Ex<'_>]) -> String {
    let d: Vec<_> = x.iter().map(|e| e.dim()).collect();
    format!("dimensions {d:?}")
}
/// An integer literal.
fn int(op: &str, l: &Literal) -> Result<i64, DimError> {
    match l {
        Literal::Int(v) => Ok(*v),
        Literal::List(v) => fail(op, "an integer", format!("the list {v:?}")),
    }
}
/// A literal as a size in `low..=high`.
fn size(op: &str, l: &Literal, low: usize, high: usize) -> Result<usize, DimError> {
    match int(op, l)? {
        v if v >= low as i64 && v <= high as i64 => Ok(v as usize),
        v => fail(op, format!("an integer in {low}..={high}"), v),
    }
}
fn scalar(op: &str, x: Ex<'_>) -> Result<(), DimError> {
    if x.dim() == 1 {
        Ok(())
    } else {
        fail(op, "an operand of dimension 1", format!("dimension {}", x.dim()))
    }
}
fn same(op: &str, x: &[Ex<'_>]) -> Result<(), DimError> {
    if x.iter().all(|e| e.dim() == x[0].dim()) {
        Ok(())
    } else {
        fail(op, "operands of one dimension", dims(x))
    }
}
/// Operands of one dimension, or of dimension 1.
fn broadcast(op: &str, x: &[Ex<'_>]) -> Result<(), DimError> {
    let d = x.iter().map(|e| e.dim()).max().unwrap_or(1);
    if x.iter().all(|e| e.dim() == 1 || e.dim() == d) {
        Ok(())
    } else {
        fail(op, "operands of one dimension (or of dimension 1)", dims(x))
    }
}
fn limit(op: &str, dim: Option<usize>) -> Result<(), DimError> {
    match dim {
        Some(d) if d <= crate::graph::MAX_DIM => Ok(()),
        Some(d) => fail(op, format!("at most {} components", crate::graph::MAX_DIM), d),
        None => fail(op, format!("at most {} components", crate::graph::MAX_DIM), "more than 2^64"),
    }
}
/// A small dimension for tests.
fn dim(below: Below<'_>) -> usize {
    [1, 2, 3, 4, 5, 7, 17][below(7)]
}
