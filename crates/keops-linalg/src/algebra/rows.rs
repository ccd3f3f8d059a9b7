//! Operators on other rows: restrictions, blocks, Kronecker products.

use super::leaves::check;
use super::{Cost, block, coarser, fail, parts};
use crate::entries::{AdjointOperator, Diagonal};
use crate::layout::dense;
use crate::operator::LinearOperator;
use keops_core::data::DType;
use keops_core::error::{Error, InputError, OutOfMemory};
use ndarray::{Array2, Array3, Axis};

/// Some rows and columns: see [`super::Algebra::restricted`] and [`super::Algebra::masked`].
///
/// ```
/// use keops_linalg::{Algebra, Diag, to_dense};
/// use ndarray::array;
/// let d = Diag::new(array![1.0, 2.0], 1);
/// assert_eq!(to_dense(&(&d).restricted(vec![1], vec![1])?)?, array![[[2.0]]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Restricted<A> {
    of: A,
    rows: Vec<usize>,
    columns: Vec<usize>,
    /// Are the other rows there, as zeros?
    padded: bool,
}

impl<A: LinearOperator> Restricted<A> {
    pub(super) fn new(
        of: A,
        mut rows: Vec<usize>,
        mut columns: Vec<usize>,
        padded: bool,
    ) -> Result<Restricted<A>, InputError> {
        for (what, list, n) in
            [("rows", &rows, of.range()[0]), ("columns", &columns, of.domain()[0])]
        {
            if let Some(k) = list.iter().find(|k| **k >= n) {
                let expected = format!("numbers of {what} below {n}");
                return fail("a restriction of an operator", expected, k.to_string());
            }
        }
        if padded {
            // What is masked is a set.
            for list in [&mut rows, &mut columns] {
                list.sort_unstable();
                list.dedup();
            }
        }
        Ok(Restricted { of, rows, columns, padded })
    }
    fn product(
        &self,
        v: &Array3<f64>,
        (from, to): (&[usize], &[usize]),
        (wide, [rows, dim]): ([usize; 2], [usize; 2]),
        apply: impl Fn(&Array3<f64>) -> Result<Array3<f64>, Error>,
    ) -> Result<Array3<f64>, Error> {
        let own = if self.padded { wide[0] } else { from.len() };
        check(v, [own, wide[1]])?;
        let mut all = block((v.dim().0, wide[0], wide[1]))?;
        for (k, &at) in from.iter().enumerate() {
            let given = v.index_axis(Axis(1), if self.padded { at } else { k });
            let mut to = all.index_axis_mut(Axis(1), at);
            to += &given;
        }
        let made = apply(&all)?;
        let mut out = block((v.dim().0, if self.padded { rows } else { to.len() }, dim))?;
        for (k, &at) in to.iter().enumerate() {
            let k = if self.padded { at } else { k };
            out.index_axis_mut(Axis(1), k).assign(&made.index_axis(Axis(1), at));
        }
        Ok(out)
    }
}
impl<A: LinearOperator> LinearOperator for Restricted<A> {
    fn domain(&self) -> [usize; 2] {
        let [n, dim] = self.of.domain();
        [if self.padded { n } else { self.columns.len() }, dim]
    }
    fn range(&self) -> [usize; 2] {
        let [n, dim] = self.of.range();
        [if self.padded { n } else { self.rows.len() }, dim]
    }
    matrices_as_of!();
    fn cost(&self) -> Cost {
        let indices = (self.rows.len() + self.columns.len()) as f64;
        self.of.cost() + Cost { flops: 0.0, bytes: 8.0 * indices }
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let shapes = (self.of.domain(), self.of.range());
        self.product(v, (&self.columns, &self.rows), shapes, |v| self.of.apply(v))
    }
}
impl<A: AdjointOperator> AdjointOperator for Restricted<A> {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let shapes = (self.of.range(), self.of.domain());
        self.product(v, (&self.rows, &self.columns), shapes, |v| self.of.apply_adjoint(v))
    }
}
/// Of a restriction to the same rows as columns, and of any mask of a square operator.
impl<A: Diagonal> Diagonal for Restricted<A> {
    fn diagonal(&self) -> Result<Array2<f64>, Error> {
        let square =
            if self.padded { self.domain() == self.range() } else { self.rows == self.columns };
        if !square {
            let (what, expected) = match self.padded {
                true => ("the diagonal of a mask", "a square operator"),
                false => ("the diagonal of a restriction", "the same rows as columns"),
            };
            return fail(what, expected.into(), "others".into())?;
        }
        let (all, parts) = (self.of.diagonal()?, parts(self));
        let mut d = dense(all.nrows(), self.domain()[0] * parts, "the diagonal")?;
        for (k, &at) in self.rows.iter().enumerate() {
            // (Rows and columns of a mask are sorted.)
            if self.padded && self.columns.binary_search(&at).is_err() {
                continue;
            }
            let k = if self.padded { at } else { k };
            let own = all.slice_axis(Axis(1), (at * parts..(at + 1) * parts).into());
            d.slice_axis_mut(Axis(1), (k * parts..(k + 1) * parts).into()).assign(&own);
        }
        Ok(d)
    }
}

/// A matrix of operators; what is not given is zero. Of boxes of `dyn` traits, kinds may differ.
///
/// ```
/// use keops_linalg::{Blocks, Diag, LinearOperator, to_dense};
/// use ndarray::array;
/// let d = |v| Diag::new(array![v], 1);
/// // [1 2; 0 3]
/// let blocks = Blocks::new(vec![vec![Some(d(1.0)), Some(d(2.0))], vec![None, Some(d(3.0))]])?;
/// assert_eq!(to_dense(&blocks)?, array![[[1.0, 2.0], [0.0, 3.0]]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Blocks<O> {
    blocks: Vec<Vec<Option<O>>>,
    /// Where rows and columns of blocks begin, and where the last ones end.
    rows: Vec<usize>,
    columns: Vec<usize>,
    dims: [usize; 2],
}

impl<O: LinearOperator> Blocks<O> {
    /// Of rows of blocks. Every row and every column of blocks has one at least; blocks of a row
    /// have as many rows, of a column as many columns, all as many components.
    ///
    /// # Errors
    /// [`InputError`] where that is not so, or for batches of matrices.
    pub fn new(blocks: Vec<Vec<Option<O>>>) -> Result<Blocks<O>, InputError> {
        let what = "a matrix of operators";
        let width = blocks.first().map_or(0, Vec::len);
        let (mut rows, mut columns) = (vec![None; blocks.len()], vec![None; width]);
        let mut dims = None;
        for (i, list) in blocks.iter().enumerate() {
            if list.len() != width {
                return fail(what, format!("rows of {width} blocks"), format!("{}", list.len()));
            }
            for (j, o) in list.iter().enumerate() {
                let Some(o) = o else { continue };
                let ([n, dim], [m, out]) = (o.domain(), o.range());
                let known = (*rows[i].get_or_insert(m), *columns[j].get_or_insert(n));
                let kinds = *dims.get_or_insert([dim, out]);
                if (known, kinds, o.matrices()) != ((m, n), [dim, out], 1) {
                    let at = format!("block ({i}, {j})");
                    let shape = format!("{} × {} of components {kinds:?}", known.0, known.1);
                    let got = format!("{} of {m} × {n} of {:?}", o.matrices(), [dim, out]);
                    return fail(&at, format!("one matrix, {shape}"), got);
                }
            }
        }
        let starts = |sizes: Vec<Option<usize>>, which: &str| {
            let mut all = vec![0];
            for (k, size) in sizes.iter().enumerate() {
                let Some(size) = size else {
                    return fail(what, format!("a block in {which} {k}"), "none".into());
                };
                all.push(all[k] + size);
            }
            Ok(all)
        };
        let (rows, columns) = (starts(rows, "row")?, starts(columns, "column")?);
        let Some(dims) = dims else { return fail(what, "a block".into(), "none".into()) };
        Ok(Blocks { blocks, rows, columns, dims })
    }
    fn each(&self) -> impl Iterator<Item = (usize, usize, &O)> {
        self.blocks.iter().enumerate().flat_map(|(i, list)| {
            list.iter().enumerate().filter_map(move |(j, o)| o.as_ref().map(|o| (i, j, o)))
        })
    }
}
/// The rows of one block.
fn part(v: &Array3<f64>, starts: &[usize], k: usize) -> Result<Array3<f64>, OutOfMemory> {
    let own = v.slice_axis(Axis(1), (starts[k]..starts[k + 1]).into());
    let mut part = block(own.dim())?;
    part.assign(&own);
    Ok(part)
}
impl<O: LinearOperator> LinearOperator for Blocks<O> {
    fn domain(&self) -> [usize; 2] {
        [self.columns[self.columns.len() - 1], self.dims[0]]
    }
    fn range(&self) -> [usize; 2] {
        [self.rows[self.rows.len() - 1], self.dims[1]]
    }
    fn precision(&self) -> DType {
        self.each().fold(DType::F64, |t, (.., o)| coarser(t, o.precision()))
    }
    fn columns_independent(&self) -> bool {
        self.each().all(|(.., o)| o.columns_independent())
    }
    fn cost(&self) -> Cost {
        self.each().map(|(.., o)| o.cost()).sum()
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        check(v, self.domain())?;
        let [rows, dim] = self.range();
        let mut out = block((v.dim().0, rows, dim))?;
        for (i, j, o) in self.each() {
            let mut to = out.slice_axis_mut(Axis(1), (self.rows[i]..self.rows[i + 1]).into());
            to += &o.apply(&part(v, &self.columns, j)?)?;
        }
        Ok(out)
    }
}
impl<O: AdjointOperator> AdjointOperator for Blocks<O> {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        check(v, self.range())?;
        let [rows, dim] = self.domain();
        let mut out = block((v.dim().0, rows, dim))?;
        for (i, j, o) in self.each() {
            let mut to = out.slice_axis_mut(Axis(1), (self.columns[j]..self.columns[j + 1]).into());
            to += &o.apply_adjoint(&part(v, &self.rows, i)?)?;
        }
        Ok(out)
    }
}
/// Of square blocks on the diagonal.
impl<O: Diagonal> Diagonal for Blocks<O> {
    fn diagonal(&self) -> Result<Array2<f64>, Error> {
        if self.rows != self.columns || self.dims[0] != self.dims[1] {
            let (expected, got) = ("square blocks on the diagonal".into(), "others".into());
            return fail("the diagonal of a matrix of operators", expected, got)?;
        }
        let parts = parts(self);
        let mut d = dense(1, self.domain()[0] * parts, "the diagonal")?;
        for (i, _, o) in self.each().filter(|(i, j, _)| i == j) {
            let size = self.rows[i + 1] - self.rows[i];
            let own = super::unknowns(o.diagonal()?, size, parts, 1)?;
            d.slice_axis_mut(Axis(1), (self.rows[i] * parts..self.rows[i + 1] * parts).into())
                .assign(&own);
        }
        Ok(d)
    }
}

/// `A ⊗ B`: see [`super::Algebra::kronecker`].
///
/// ```
/// use keops_linalg::{Algebra, Diag, to_dense};
/// use ndarray::array;
/// let d = Diag::new(array![1.0, 2.0], 1);
/// assert_eq!(to_dense(&(&d).kronecker(&d)?)?.dim(), (1, 4, 4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Kronecker<A, B> {
    first: A,
    second: B,
}
impl<A: LinearOperator, B: LinearOperator> Kronecker<A, B> {
    pub(super) fn new(first: A, second: B) -> Result<Kronecker<A, B>, InputError> {
        let fits = |o: &dyn LinearOperator| o.columns_independent() && o.matrices() == 1;
        let (a, b) = (first.domain()[1], second.domain()[1]);
        if !fits(&first) || !fits(&second) || a != b {
            let expected = format!("single matrices with {a} independent columns");
            let of = |o: &dyn LinearOperator| {
                let kind = if o.columns_independent() { "independent" } else { "dependent" };
                format!("{} with {} {kind} ones", o.matrices(), o.domain()[1])
            };
            let got = format!("{} and {}", of(&first), of(&second));
            return fail("a Kronecker product", expected, got);
        }
        for (what, n, p) in [
            ("columns", first.domain()[0], second.domain()[0]),
            ("rows", first.range()[0], second.range()[0]),
        ] {
            if n.checked_mul(p).is_none_or(|all| all > isize::MAX as usize) {
                let expected = format!("at most {} {what}", isize::MAX);
                return fail("a Kronecker product", expected, format!("{n} x {p}"));
            }
        }
        Ok(Kronecker { first, second })
    }
}
/// `(A ⊗ B) v`: B for all rows of A, then A for all rows of B.
fn product(
    v: &Array3<f64>,
    [n, m]: [usize; 2],
    [q, p]: [usize; 2],
    first: impl Fn(&Array3<f64>) -> Result<Array3<f64>, Error>,
    second: impl Fn(&Array3<f64>) -> Result<Array3<f64>, Error>,
) -> Result<Array3<f64>, Error> {
    let (batches, _, dim) = v.dim();
    check(v, [n * q, dim])?;
    // In the order (batch, row of A, row of B), and (batch, row of B, row of A).
    let mut inner = block((batches * n, q, dim))?;
    for ((b, k, c), x) in v.indexed_iter() {
        inner[[b * n + k / q, k % q, c]] = *x;
    }
    let inner = second(&inner)?;
    let mut outer = block((batches * p, n, dim))?;
    for ((bn, k, c), x) in inner.indexed_iter() {
        outer[[bn / n * p + k, bn % n, c]] = *x;
    }
    let outer = first(&outer)?;
    let mut out = block((batches, m * p, dim))?;
    for ((bp, i, c), x) in outer.indexed_iter() {
        out[[bp / p, i * p + bp % p, c]] = *x;
    }
    Ok(out)
}
impl<A: LinearOperator, B: LinearOperator> LinearOperator for Kronecker<A, B> {
    fn domain(&self) -> [usize; 2] {
        [self.first.domain()[0] * self.second.domain()[0], self.first.domain()[1]]
    }
    fn range(&self) -> [usize; 2] {
        [self.first.range()[0] * self.second.range()[0], self.first.range()[1]]
    }
    fn precision(&self) -> DType {
        coarser(self.first.precision(), self.second.precision())
    }
    fn columns_independent(&self) -> bool {
        true
    }
    fn cost(&self) -> Cost {
        let (a, b) = (self.first.cost(), self.second.cost());
        let (n, p) = (self.first.domain()[0] as f64, self.second.range()[0] as f64);
        Cost { flops: n * b.flops + p * a.flops, bytes: a.bytes + b.bytes }
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let (a, b) = (&self.first, &self.second);
        let sizes = |o: &dyn LinearOperator| [o.domain()[0], o.range()[0]];
        product(v, sizes(a), sizes(b), |v| a.apply(v), |v| b.apply(v))
    }
}
impl<A: AdjointOperator, B: AdjointOperator> AdjointOperator for Kronecker<A, B> {
    fn apply_adjoint(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let (a, b) = (&self.first, &self.second);
        let sizes = |o: &dyn LinearOperator| [o.range()[0], o.domain()[0]];
        product(v, sizes(a), sizes(b), |v| a.apply_adjoint(v), |v| b.apply_adjoint(v))
    }
}
impl<A: Diagonal, B: Diagonal> Diagonal for Kronecker<A, B> {
    fn diagonal(&self) -> Result<Array2<f64>, Error> {
        let (a, b) = (self.first.diagonal()?, self.second.diagonal()?);
        let p = b.ncols();
        let mut d = dense(1, a.ncols() * p, "the diagonal")?;
        d.indexed_iter_mut().for_each(|((_, k), d)| *d = a[[0, k / p]] * b[[0, k % p]]);
        Ok(d)
    }
}
