//! Sums Σ_j F(rows_i, rows_j) over arrays of one precision, compiled once.

use std::sync::{Arc, OnceLock};

use keops_core::data::Element;
use keops_core::error::Error;
use keops_core::graph::{Builder, Category, Ex, Var};
use keops_core::memory;
use keops_core::ranges::Ranges;
use keops_core::reduce;
use keops_core::spec::{Axis, CheckedArgs, Device, Executable, ReduceOptions, ReduceSpec};
use ndarray::{Array1, Array2, ArrayView2, Ix2, NdFloat};

/// The precisions of this crate: f32 and f64.
///
/// ```
/// use keops_lddmm::{Real, builtin::icosphere, shape::cell_geometry};
/// /// The area of a surface in either precision.
/// fn area<F: Real>(surface: &keops_lddmm::shape::Shape) -> F {
///     let vertices = surface.vertices().mapv(F::of_f64);
///     cell_geometry(vertices.view(), surface.cells()).expect("memory").measures.sum()
/// }
/// let sphere = icosphere(2)?;
/// assert!((area::<f32>(&sphere) as f64 - area::<f64>(&sphere)).abs() < 1e-5);
/// # Ok::<(), keops_lddmm::builtin::BuiltinError>(())
/// ```
pub trait Real: Element + NdFloat {}
impl Real for f32 {}
impl Real for f64 {}

/// What points and momenta are called where there is no memory for them.
const POINTS: &str = "points and momenta";

/// Entries in row-major order as an array.
fn shaped<F>(shape: (usize, usize), entries: Vec<F>) -> Array2<F> {
    match Array2::from_shape_vec(shape, entries) {
        Ok(array) => array,
        Err(_) => unreachable!("as many entries as the shape says"),
    }
}
/// A row-major copy.
pub(crate) fn copied<F: Real>(x: ArrayView2<'_, F>) -> Result<Array2<F>, Error> {
    Ok(shaped(x.dim(), memory::collected(x.iter().copied(), POINTS)?))
}
/// Zeros.
pub(crate) fn zeros<F: Real>(shape: (usize, usize)) -> Result<Array2<F>, Error> {
    let count = shape.0.saturating_mul(shape.1);
    Ok(shaped(shape, memory::filled(count, F::zero(), POINTS)?))
}
/// `a + factor · b` in double precision.
pub(crate) fn combined<F: Real>(
    a: ArrayView2<'_, F>,
    factor: f64,
    b: ArrayView2<'_, F>,
) -> Result<Array2<f64>, Error> {
    let both = a.iter().zip(&b);
    let mut all = memory::room(a.len(), POINTS)?;
    all.extend(both.map(|(&a, &b)| Element::to_f64(a) + Element::to_f64(b) * factor));
    Ok(shaped(a.dim(), all))
}
/// Differences of rows in double precision.
pub(crate) fn difference(
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
) -> Result<Array2<f64>, Error> {
    combined(a, -1.0, b)
}
/// Euclidean norms of rows.
pub(crate) fn lengths(rows: ArrayView2<'_, f64>) -> Result<Array1<f64>, Error> {
    let norms = rows.rows().into_iter().map(|v| v.dot(&v).sqrt());
    Ok(memory::collected(norms, POINTS)?.into())
}

/// Rounds to the precision `F`.
pub(crate) fn narrow<F: Real>(x: f64) -> F {
    F::of_f64(x)
}
/// Rounds every entry to the precision `F`.
pub(crate) fn narrowed<F: Real>(x: ArrayView2<'_, f64>) -> Result<Array2<F>, Error> {
    Ok(shaped(x.dim(), memory::collected(x.iter().map(|&v| F::of_f64(v)), POINTS)?))
}
/// Widens every entry.
pub(crate) fn widened<F: Real>(x: ArrayView2<'_, F>) -> Result<Array2<f64>, Error> {
    Ok(shaped(x.dim(), memory::collected(x.iter().map(|&v| Element::to_f64(v)), POINTS)?))
}
/// Σ x_k y_k, added in double precision.
pub(crate) fn dot<F: Real>(x: ArrayView2<'_, F>, y: ArrayView2<'_, F>) -> f64 {
    ndarray::Zip::from(&x)
        .and(&y)
        .fold(0.0, |s, &a, &b| s + Element::to_f64(a) * Element::to_f64(b))
}

/// A sum over the rows of one category of a formula, one result for each row of the other.
/// It is compiled at the first call.
#[derive(Clone)]
pub(crate) struct Sum {
    spec: ReduceSpec,
    device: Device,
    executable: OnceLock<Arc<dyn Executable>>,
}

impl Sum {
    /// `vars` are the names, categories and dimensions of the arguments; `formula` gets them in
    /// this order.
    pub(crate) fn new<F: Real>(
        device: &Device,
        options: ReduceOptions,
        axis: Axis,
        vars: &[(&str, Category, usize)],
        formula: impl for<'g> FnOnce(&[Ex<'g>]) -> Ex<'g>,
    ) -> Sum {
        let b = Builder::default();
        let names = vars.iter().map(|v| v.0.to_string()).collect();
        let vars: Vec<Var> = (0..)
            .zip(vars)
            .map(|(index, &(_, category, dim))| Var { index, dim, category })
            .collect();
        let root = {
            let x: Vec<Ex<'_>> = vars.iter().map(|v| b.var(*v)).collect();
            formula(&x).id
        };
        let spec = ReduceSpec {
            graph: Arc::new(b.into_graph()),
            formula: root,
            weight: None,
            reduction: &reduce::SUM,
            k: 1,
            axis,
            vars,
            names,
            dtype: F::DTYPE,
            options,
        };
        Sum { spec, device: device.clone(), executable: OnceLock::new() }
    }

    /// The sums, one row for each row of the category that is kept, over all pairs or those of `ranges`.
    pub(crate) fn call<F: Real>(
        &self,
        args: &[ArrayView2<'_, F>],
        ranges: Option<&Ranges>,
    ) -> Result<Array2<F>, Error> {
        let args = args.iter().map(|a| F::erase(a.view().into_dyn())).collect();
        let checked = CheckedArgs::new(&self.spec, args, ranges, None, None)?;
        let mut out = checked.allocate(&self.spec)?;
        let executable = match self.executable.get() {
            Some(e) => e,
            None => {
                let compiled = self.device.compile(&self.spec)?;
                self.executable.get_or_init(|| compiled)
            }
        };
        executable.run(&checked, &mut out)?;
        let sums = out.pop().map(F::take).transpose()?;
        match sums.map(|s| s.into_dimensionality::<Ix2>()) {
            Some(Ok(sums)) => Ok(sums),
            _ => unreachable!("a sum has one result, of rows and columns"),
        }
    }

    /// How often the operation `op` is applied to values of each pair.
    #[cfg(test)]
    pub(crate) fn count(&self, op: &'static keops_core::ops::OpDef) -> usize {
        let graph = &self.spec.graph;
        let live = graph.live(&[self.spec.formula]);
        let is =
            |id| matches!(graph.node(id), keops_core::graph::Node::Map { op: o, .. } if *o == op);
        live.into_iter().filter(|&id| is(id)).count()
    }
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sum").field("arguments", &self.spec.names).finish_non_exhaustive()
    }
}
