//! Linear operators, and sums of formulas seen as such.

use crate::error::{OperatorError, SolveError};
use crate::info::SolveOptions;
use crate::linear::Linear;
use crate::solve::{self, Solution};
use keops_core::data::{ArgView, Buffer, DType, Element};
use keops_core::error::{Error, GradError, InputError, RunError};
use keops_core::genred::{AsArg, Genred, IntoArgs, Place, Reference};
use keops_core::graph::Category;
use keops_core::with_view;
use ndarray::{Array3, ArrayD, IxDyn};
use std::sync::Arc;

/// A linear map of block vectors, of shape `(batches, rows, components)`, as solvers see it.
pub trait LinearOperator {
    /// Rows and components of arguments.
    fn domain(&self) -> [usize; 2];
    /// Rows and components of results.
    fn range(&self) -> [usize; 2];
    /// Type in which products are computed: arguments are rounded to it.
    fn precision(&self) -> DType;
    /// Does component c of a result depend on component c of the argument only? Then each column
    /// is a system of its own.
    fn columns_independent(&self) -> bool;
    /// The product with a block vector.
    ///
    /// # Errors
    /// From the device.
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error>;
}

/// An argument, or a copy of it in the type in which it is computed.
#[derive(Clone, Debug)]
enum Held<'a> {
    Given(ArgView<'a>),
    Wide(Arc<Buffer>),
}

impl<'a> Held<'a> {
    /// f16 and bf16 are widened, so that vectors keep the precision of the arithmetic.
    fn new(arg: ArgView<'a>) -> Held<'a> {
        match &arg {
            ArgView::F16(v) => Held::Wide(Arc::new(Buffer::F32(v.mapv(|e| e.to_f32())))),
            ArgView::BF16(v) => Held::Wide(Arc::new(Buffer::F32(v.mapv(|e| e.to_f32())))),
            _ => Held::Given(arg),
        }
    }
    fn view(&self) -> ArgView<'_> {
        match self {
            Held::Given(v) => with_view!(v, v => v.as_arg()),
            Held::Wide(b) => values(b),
        }
    }
}

/// The values of an argument, in f64.
pub(crate) fn to_f64(arg: &ArgView<'_>) -> ArrayD<f64> {
    with_view!(arg, v => v.mapv(|e| e.to_f64()))
}

/// Batch shapes broadcast from the right; `None` where they disagree.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let n = a.len().max(b.len());
    let at = |s: &[usize], k: usize| if k + s.len() < n { 1 } else { s[k + s.len() - n] };
    (0..n)
        .map(|k| match (at(a, k), at(b, k)) {
            (x, 1) => Some(x),
            (1, y) => Some(y),
            (x, y) => (x == y).then_some(x),
        })
        .collect()
}

/// A sum of a formula that is linear in one variable, with all other arguments given: a matrix,
/// or one for each batch element, that is never stored.
///
/// `out_i = Σ_j F(x_i, y_j, v_j)` maps `columns` rows of dimension `domain_dim` to `rows` rows of
/// dimension `range_dim`. For formulas "kernel times `v`" all columns of `v` share each kernel
/// evaluation. Batch axes of `v` broadcast with those of the arguments.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::KernelOperator;
/// use ndarray::array;
///
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(1)"];
/// let sum: Genred = Genred::new("Exp(-SqDist(x, y)) * v", aliases, &SUM, Axis::J)?;
/// let (x, y) = (array![[0.0], [1.0]], array![[0.0], [1.0], [2.0]]);
/// let k = KernelOperator::new(&sum, "v", (&x, &y))?;
/// assert_eq!((k.rows(), k.columns()), (2, 3));
/// let second = k.apply(&array![[0.0], [1.0], [0.0]])?;
/// assert!((second[[0, 0]] - (-1f64).exp()).abs() < 1e-15);
/// let row = k.transpose()?.apply(&array![[1.0], [0.0]])?;
/// assert!((row[[2, 0]] - (-4f64).exp()).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct KernelOperator<'a, P = Reference> {
    sum: Genred<P>,
    /// The gradient of the sum in the variable, if this is the transpose.
    adjoint: Option<Genred<P>>,
    linear: Linear,
    /// All arguments but the variable, in order.
    args: Vec<Held<'a>>,
    dtype: DType,
    rows: usize,
    columns: usize,
    batch: Vec<usize>,
}

impl<'a, P: Place> KernelOperator<'a, P> {
    /// The matrix of `sum` in `variable`; `args` are the values of all other arguments in order.
    ///
    /// # Errors
    /// [`OperatorError`] if the reduction is not a sum, if it is not linear in the variable (the
    /// message names the operation), if the variable is not indexed by the reduced index, or if
    /// an argument does not fit.
    pub fn new(
        sum: &Genred<P>,
        variable: &str,
        args: impl IntoArgs<'a>,
    ) -> Result<KernelOperator<'a, P>, OperatorError> {
        let linear = Linear::of(sum.computation(), variable)?;
        KernelOperator::bind(sum, linear, args.into_args(), None)
    }

    /// `columns` is the number of rows of the variable, where it is known.
    pub(crate) fn bind(
        sum: &Genred<P>,
        linear: Linear,
        args: Vec<ArgView<'a>>,
        columns: Option<usize>,
    ) -> Result<KernelOperator<'a, P>, OperatorError> {
        let inputs = sum.computation().inputs();
        let others = inputs.iter().filter(|i| i.name != linear.variable);
        if args.len() + 1 != inputs.len() {
            let names: Vec<_> = others.map(|i| i.name.as_str()).collect();
            let names = format!("all but `{}`: {}", linear.variable, names.join(", "));
            return Err(
                InputError::Count { expected: inputs.len() - 1, names, got: args.len() }.into()
            );
        }
        let dtype = args.first().map_or(DType::F64, |a| a.dtype());
        let alike = |(input, arg): (&keops_core::outer::InputDef, &ArgView<'a>)| {
            if arg.dtype() == dtype {
                return Ok(());
            }
            Err(InputError::Type {
                name: input.name.clone(),
                expected: dtype.name().into(),
                got: arg.dtype().name().into(),
            })
        };
        others.clone().zip(&args).try_for_each(alike)?;
        // Rows of an argument that is indexed like the variable.
        let like = others.clone().zip(&args).find(|(i, _)| i.category == linear.category);
        let rows_of = |arg: &ArgView<'_>| arg.shape().iter().rev().nth(1).copied();
        let columns = columns.or_else(|| like.and_then(|(_, arg)| rows_of(arg)));
        let Some(columns) = columns else {
            return Err(InputError::NoSize {
                what: format!("columns: rows of `{}`", linear.variable),
                hint: format!("use an argument of category {}", linear.category.keyword()),
            }
            .into());
        };
        let args: Vec<_> = args.into_iter().map(Held::new).collect();
        let dtype = dtype.compute();
        let mut operator = KernelOperator {
            sum: sum.clone(),
            adjoint: None,
            linear,
            args,
            dtype,
            rows: 0,
            columns,
            batch: vec![],
        };
        let vector = operator.zeros(&[columns, operator.linear.dims[0]])?;
        let sizes = sum.computation().sizes(&operator.arguments(&vector))?;
        operator.rows = match operator.linear.category {
            Category::I => sizes.rows_j,
            _ => sizes.rows_i,
        };
        operator.batch = sizes.batch;
        Ok(operator)
    }

    /// Rows of results.
    pub fn rows(&self) -> usize {
        if self.adjoint.is_some() { self.columns } else { self.rows }
    }
    /// Rows of arguments.
    pub fn columns(&self) -> usize {
        if self.adjoint.is_some() { self.rows } else { self.columns }
    }
    /// Components of each row of results.
    pub fn range_dim(&self) -> usize {
        self.linear.dims[self.adjoint.is_none() as usize]
    }
    /// Components of each row of arguments.
    pub fn domain_dim(&self) -> usize {
        self.linear.dims[self.adjoint.is_some() as usize]
    }
    /// Batch shape of the kernel: each batch element is a matrix.
    pub fn batch(&self) -> &[usize] {
        &self.batch
    }
    /// Type in which products are computed: f32 or f64.
    pub fn precision(&self) -> DType {
        self.dtype
    }
    /// Does component c of results depend on component c of arguments only (kernel times
    /// variable), so that each column is a system of its own?
    pub fn columns_independent(&self) -> bool {
        self.linear.independent
    }

    /// The transposed matrix: the gradient of the sum in its variable.
    ///
    /// # Errors
    /// [`GradError`] if an operation of the formula has no derivative in the variable.
    pub fn transpose(mut self) -> Result<KernelOperator<'a, P>, GradError> {
        self.adjoint = match self.adjoint {
            Some(_) => None,
            None => Some(self.sum.vjp(&self.linear.variable)?),
        };
        Ok(self)
    }

    /// The product with `v`, of shape `(batch…, columns, domain_dim)`; the result has shape
    /// `(batch…, rows, range_dim)` and the type of `v`, whatever that of the arguments (`v` is
    /// rounded to [`KernelOperator::precision`]).
    ///
    /// # Errors
    /// [`Error::Input`] if the shape does not fit, else from the device.
    pub fn apply<V: AsArg + ?Sized>(&self, v: &V) -> Result<ArrayD<V::Elem>, Error> {
        let arg = v.as_arg();
        self.full_batch(arg.shape())?;
        Ok(V::Elem::take(self.product(&self.vector(&to_f64(&arg)))?)?)
    }

    /// Solves `(K + αI) a = b` by conjugate gradients, for a symmetric positive definite `K + αI`
    /// and `b` of shape `(batch…, rows, dim)`; `a` has the type of `b` and its shape, broadcast
    /// to the batch shape of the kernel. See [`crate::KernelSolve`].
    ///
    /// # Errors
    /// [`SolveError`], which tells what went wrong at which iteration, with the last iterate.
    pub fn solve<B: AsArg + ?Sized>(
        &self,
        b: &B,
        options: &SolveOptions,
    ) -> Result<Solution<B::Elem>, SolveError> {
        let (value, info) = solve::block(self, &b.as_arg(), None, options)?;
        Ok(Solution { value: B::Elem::take(Buffer::F64(value)).map_err(Error::from)?, info })
    }
    /// As [`KernelOperator::solve`], from a first guess of the shape of the solution.
    ///
    /// # Errors
    /// As [`KernelOperator::solve`].
    pub fn solve_from<B: AsArg + ?Sized, G: AsArg + ?Sized>(
        &self,
        b: &B,
        guess: &G,
        options: &SolveOptions,
    ) -> Result<Solution<B::Elem>, SolveError> {
        let (value, info) = solve::block(self, &b.as_arg(), Some(&guess.as_arg()), options)?;
        Ok(Solution { value: B::Elem::take(Buffer::F64(value)).map_err(Error::from)?, info })
    }

    /// Checks the shape of an argument; the batch shape of the product.
    pub(crate) fn full_batch(&self, shape: &[usize]) -> Result<Vec<usize>, InputError> {
        let own = [self.columns(), self.domain_dim()];
        let fits = shape.strip_suffix(&own).and_then(|lead| broadcast(&self.batch, lead));
        fits.ok_or_else(|| {
            let [n, d] = own;
            let expected = match &self.batch[..] {
                [] => format!("shape ({n}, {d}) or (batches…, {n}, {d})"),
                batch => format!("shape ({n}, {d}), or batches that fit {batch:?} before it"),
            };
            InputError::Shape { name: self.linear.variable.clone(), expected, got: shape.to_vec() }
        })
    }
    /// The operator on block vectors of a batch shape, which includes its own.
    pub(crate) fn over(&self, batch: Vec<usize>) -> Over<'_, 'a, P> {
        Over { operator: self, batch }
    }
    /// Arguments of the sum, with a value of the variable.
    pub(crate) fn arguments<'s>(&'s self, vector: &'s Buffer) -> Vec<ArgView<'s>> {
        let mut all: Vec<_> = self.args.iter().map(Held::view).collect();
        all.insert(self.linear.slot, values(vector));
        all
    }
    /// A vector in the type of the operator.
    pub(crate) fn vector(&self, v: &ArrayD<f64>) -> Buffer {
        match self.dtype {
            DType::F64 => Buffer::F64(v.as_standard_layout().into_owned()),
            _ => Buffer::F32(v.as_standard_layout().mapv(|e| e as f32)),
        }
    }
    fn zeros(&self, shape: &[usize]) -> Result<Buffer, InputError> {
        Buffer::zeros(Some(self.dtype), shape).ok_or_else(|| InputError::TooLarge {
            what: format!("`{}`", self.linear.variable),
            detail: format!("{shape:?}"),
        })
    }
    /// The product with a vector that fits.
    fn product(&self, v: &Buffer) -> Result<Buffer, Error> {
        let made = match &self.adjoint {
            None => self.sum.run(&self.arguments(v))?,
            Some(adjoint) => {
                // The gradient has the batch shape of the variable, the cotangent that of the sum.
                let own = v.shape().len() - 2;
                let full = broadcast(&self.batch, &v.shape()[..own]).unwrap_or_default();
                let zero =
                    self.zeros(&[&full[..], &[self.columns, self.linear.dims[0]]].concat())?;
                let wide = [&full[..], &v.shape()[own..]].concat();
                let cotangent = spread(v, &wide);
                let mut args = self.arguments(&zero);
                args.push(values(&cotangent));
                adjoint.run(&args)?
            }
        };
        match <[Buffer; 1]>::try_from(made) {
            Ok([out]) => Ok(out),
            Err(all) => unreachable!("one result, not {}", all.len()),
        }
    }
}

fn values(buffer: &Buffer) -> ArgView<'_> {
    match buffer.view() {
        Some(v) => v,
        None => unreachable!("vectors are values"),
    }
}
/// A row-major copy, broadcast to `shape`.
fn spread(v: &Buffer, shape: &[usize]) -> Buffer {
    fn wide<T: Clone>(v: &ArrayD<T>, shape: &[usize]) -> ArrayD<T> {
        match v.broadcast(IxDyn(shape)) {
            Some(w) => w.as_standard_layout().into_owned(),
            None => unreachable!("batch shapes are checked"),
        }
    }
    match v {
        Buffer::F32(v) => Buffer::F32(wide(v, shape)),
        Buffer::F64(v) => Buffer::F64(wide(v, shape)),
        _ => unreachable!("compute types are f32 and f64"),
    }
}

/// A [`KernelOperator`] on block vectors of a given batch shape.
pub(crate) struct Over<'o, 'a, P> {
    operator: &'o KernelOperator<'a, P>,
    batch: Vec<usize>,
}

impl<P: Place> LinearOperator for Over<'_, '_, P> {
    fn domain(&self) -> [usize; 2] {
        [self.operator.columns(), self.operator.domain_dim()]
    }
    fn range(&self) -> [usize; 2] {
        [self.operator.rows(), self.operator.range_dim()]
    }
    fn precision(&self) -> DType {
        self.operator.dtype
    }
    fn columns_independent(&self) -> bool {
        self.operator.linear.independent
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let shape = [&self.batch[..], &self.domain()].concat();
        let mut vector = Buffer::zeros(Some(self.operator.dtype), &shape).ok_or_else(|| {
            let bytes = shape.iter().fold(8usize, |a, &b| a.saturating_mul(b));
            RunError::OutOfMemory { what: "a vector".into(), bytes }
        })?;
        match &mut vector {
            Buffer::F32(a) => a.iter_mut().zip(v).for_each(|(o, e)| *o = *e as f32),
            Buffer::F64(a) => a.iter_mut().zip(v).for_each(|(o, e)| *o = *e),
            _ => unreachable!("compute types are f32 and f64"),
        }
        let out = self.operator.product(&vector)?;
        let [rows, dim] = self.range();
        match f64::take(out)?.into_shape_with_order((v.dim().0, rows, dim)) {
            Ok(out) => Ok(out),
            Err(_) => unreachable!("results are row-major and have the batch shape of vectors"),
        }
    }
}
