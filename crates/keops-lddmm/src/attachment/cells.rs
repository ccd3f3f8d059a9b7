//! Squared distances of shapes by products of cells.
//!
//! Currents (Vaillant & Glaunès 2005), varifolds (Charon & Trouvé 2013; Kaltenmark, Charlier &
//! Charon 2017) and measures are squared distances ⟨S,S⟩ + ⟨T,T⟩ − 2⟨S,T⟩ for
//! ⟨S,T⟩ = Σ_ij k(|c_i − c_j|²) φ over cells with centres c, normals (tangents) n, sizes l = |n|
//! and directions u = n/l. A [`CellProduct`] says which features of cells φ reads and what it is:
//! value and gradient come from one reduction.

use std::fmt;

use keops_core::autodiff::vjp;
use keops_core::data::{DType, Element};
use keops_core::error::Error;
use keops_core::graph::{Category, Ex};
use keops_core::ops::EXP;
use keops_core::spec::Axis;
use ndarray::{Array2, ArrayView2, Axis as Along};

use super::{Attachment, Prepared, Setting};
use crate::error::LddmmError;
use crate::kernel::Kernel;
use crate::shape::{CellGeometry, Cells, Shape, cell_geometry, cell_geometry_adjoint};
use crate::sum::{Real, Sum, copied, narrow, narrowed, widened, zeros};

/// A product of two cells beside the kernel of their centres: an entry of the table below, or of
/// another crate. Scalar products of shapes have to be positive: φ is a positive definite kernel of
/// the features.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::attachment::cells::{CellProduct, Features};
/// use keops_lddmm::attachment::{CellDistance, Matching};
/// use keops_lddmm::{builtin::curve_pair, kernel::Kernel};
/// /// Sizes squared: large cells count more.
/// static SQUARES: CellProduct = CellProduct {
///     name: "squares of sizes",
///     features: Features::Sizes,
///     normals: None,
///     phi: |a, b, _| a.size * a.size * b.size * b.size,
/// };
/// let (source, target) = curve_pair(20)?;
/// let squares = CellDistance::new(&SQUARES, Kernel::gaussian(1.0)?);
/// let device = Device::new(Interpreter::new());
/// let matching = Matching::<f64>::new(&squares, &source, &target, &device)?;
/// assert!(matching.value(source.vertices())? > 0.0);
/// assert!(matching.value(target.vertices())?.abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CellProduct {
    /// In reports.
    pub name: &'static str,
    /// What φ reads.
    pub features: Features,
    /// The scale σ_n of normals, if φ has one; this is its value unless another is given.
    pub normals: Option<f64>,
    /// φ of two cells and of 2/σ_n² (0 without normals).
    pub phi: for<'g> fn(Cell<'g>, Cell<'g>, f64) -> Ex<'g>,
}

/// Features of a cell in a formula.
///
/// ```
/// use keops_core::graph::Ex;
/// use keops_lddmm::attachment::cells::Cell;
/// /// φ of currents.
/// fn current<'g>(a: Cell<'g>, b: Cell<'g>) -> Ex<'g> {
///     a.vector * b.vector
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Cell<'g> {
    /// The vector e of [`Features`], of dimension d; the number 1 where there is none.
    pub vector: Ex<'g>,
    /// The size l; the number 1 where the features have none.
    pub size: Ex<'g>,
}

/// k l l': shapes as measures, sizes at centres (points have size 1).
pub static MEASURE: CellProduct = CellProduct {
    name: "measure",
    features: Features::Sizes,
    normals: None,
    phi: |a, b, _| a.size * b.size,
};
/// k ⟨n, n'⟩: orientation matters, thin parts cancel.
pub static CURRENT: CellProduct = CellProduct {
    name: "current",
    features: Features::Normals,
    normals: None,
    phi: |a, b, _| a.vector.dot(b.vector),
};
/// k l l' ⟨u, u'⟩² (Cauchy–Binet): orientation does not matter.
pub static VARIFOLD: CellProduct = CellProduct {
    name: "varifold",
    features: Features::Roots,
    normals: None,
    phi: |a, b, _| square(a.vector.dot(b.vector)),
};
/// k l l' exp(2(⟨u, u'⟩ − 1)/σ_n²): a Gaussian of |u − u'|, orientation matters.
pub static ORIENTED_VARIFOLD: CellProduct = CellProduct {
    name: "oriented varifold",
    features: Features::Directions,
    normals: Some(0.5),
    phi: |a, b, c| ((a.vector.dot(b.vector) - 1.0) * c).un(&EXP) * (a.size * b.size),
};
/// k l l' exp(2(⟨u, u'⟩² − 1)/σ_n²): as [`ORIENTED_VARIFOLD`], but orientation does not matter.
pub static UNORIENTED_VARIFOLD: CellProduct = CellProduct {
    name: "unoriented Gaussian varifold",
    features: Features::Directions,
    normals: Some(0.5),
    phi: |a, b, c| ((square(a.vector.dot(b.vector)) - 1.0) * c).un(&EXP) * (a.size * b.size),
};

fn square(s: Ex<'_>) -> Ex<'_> {
    s * s
}

/// The squared distance of a product of cells under a kernel of their centres.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::attachment::{Attachment, Matching, current, varifold};
/// use keops_lddmm::kernel::Kernel;
/// use keops_lddmm::shape::{Cells, Shape};
/// use ndarray::array;
///
/// // A segment and the same segment the other way round.
/// let segment = |cell| Shape::new(array![[0.0, 0.0], [1.0, 0.0]], Cells::Segments(vec![cell]));
/// let (there, back) = (segment([0, 1])?, segment([1, 0])?);
/// let (kernel, device) = (Kernel::gaussian(1.0)?, Device::new(Interpreter::new()));
/// let distance = |attachment: &dyn Attachment| {
///     Matching::<f64>::new(attachment, &there, &back, &device)?.value(there.vertices())
/// };
/// assert_eq!(distance(&current(kernel.clone()))?, 4.0); // 1 + 1 + 2
/// assert_eq!(distance(&varifold(kernel))?, 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CellDistance {
    product: &'static CellProduct,
    kernel: Kernel,
    normals: Option<f64>,
}

impl CellDistance {
    /// With the scale of normals that the product has by itself.
    pub fn new(product: &'static CellProduct, kernel: Kernel) -> CellDistance {
        CellDistance { product, kernel, normals: product.normals }
    }
    /// With another scale σ_n of normals, if the product has one.
    pub fn with_normals(self, sigma: f64) -> CellDistance {
        CellDistance { normals: self.normals.map(|_| sigma), ..self }
    }
    /// The product.
    pub fn product(&self) -> &'static CellProduct {
        self.product
    }
    /// The same under another kernel: at another scale.
    pub fn with_kernel(self, kernel: Kernel) -> CellDistance {
        CellDistance { kernel, ..self }
    }
}

/// Shapes as measures ([`MEASURE`]): cells count by their size, points by 1.
///
/// ```
/// use keops_lddmm::{attachment::measure, kernel::Kernel};
/// assert_eq!(measure(Kernel::gaussian(2.0)?).to_string(), "measure, exp(-|x-y|²/2²)");
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
pub fn measure(kernel: Kernel) -> CellDistance {
    CellDistance::new(&MEASURE, kernel)
}
/// Shapes as currents ([`CURRENT`]).
///
/// ```
/// use keops_lddmm::{attachment::current, kernel::Kernel};
/// assert_eq!(current(Kernel::cauchy(3.0)?).to_string(), "current, 1/(1 + |x-y|²/3²)");
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
pub fn current(kernel: Kernel) -> CellDistance {
    CellDistance::new(&CURRENT, kernel)
}
/// Shapes as varifolds ([`VARIFOLD`]).
///
/// ```
/// use keops_lddmm::{attachment::varifold, kernel::Kernel};
/// assert_eq!(varifold(Kernel::gaussian(2.0)?).to_string(), "varifold, exp(-|x-y|²/2²)");
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
pub fn varifold(kernel: Kernel) -> CellDistance {
    CellDistance::new(&VARIFOLD, kernel)
}
/// Shapes as oriented varifolds ([`ORIENTED_VARIFOLD`]) with a scale σ_n of normals, without unit.
///
/// ```
/// use keops_lddmm::{attachment::oriented_varifold, kernel::Kernel};
/// let oriented = oriented_varifold(Kernel::gaussian(2.0)?, 0.7);
/// assert_eq!(oriented.to_string(), "oriented varifold, exp(-|x-y|²/2²), normals 0.7");
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
pub fn oriented_varifold(kernel: Kernel, normal_sigma: f64) -> CellDistance {
    CellDistance::new(&ORIENTED_VARIFOLD, kernel).with_normals(normal_sigma)
}
/// As [`oriented_varifold`], but orientation does not matter ([`UNORIENTED_VARIFOLD`]).
///
/// ```
/// use keops_lddmm::{attachment::unoriented_varifold, kernel::Kernel};
/// let v = unoriented_varifold(Kernel::gaussian(2.0)?, 0.7);
/// assert_eq!(v.product().name, "unoriented Gaussian varifold");
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
pub fn unoriented_varifold(kernel: Kernel, normal_sigma: f64) -> CellDistance {
    CellDistance::new(&UNORIENTED_VARIFOLD, kernel).with_normals(normal_sigma)
}

impl fmt::Display for CellDistance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.product.name, self.kernel)?;
        self.normals.map_or(Ok(()), |s| write!(f, ", normals {s}"))
    }
}

impl Attachment for CellDistance {
    fn prepare(&self, at: &Setting<'_>) -> Result<Box<dyn Prepared>, LddmmError> {
        Ok(if at.precision == DType::F32 {
            Box::new(CellMatching::<f32>::new(self, at)?)
        } else {
            Box::new(CellMatching::<f64>::new(self, at)?)
        })
    }
}

/// The features of cells that a formula reads beside their centres c.
///
/// ```
/// use keops_lddmm::attachment::cells::{CURRENT, Features};
/// assert_eq!(CURRENT.features, Features::Normals);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Features {
    /// The size l.
    Sizes,
    /// The normal (tangent) e = n.
    Normals,
    /// e = n/√l, so that ⟨e, e'⟩² = l l' ⟨u, u'⟩².
    Roots,
    /// The direction e = u, and the size l.
    Directions,
}

impl Features {
    fn has_vector(self) -> bool {
        self != Features::Sizes
    }
    fn has_weight(self) -> bool {
        matches!(self, Features::Sizes | Features::Directions)
    }
    fn width(self, d: usize) -> usize {
        d + if self.has_vector() { d } else { 0 } + usize::from(self.has_weight())
    }
    /// c, e, w of a row.
    fn parts<'g>(self, row: Ex<'g>, d: usize) -> (Ex<'g>, Option<Ex<'g>>, Option<Ex<'g>>) {
        let vector = self.has_vector().then(|| row.pick(d, 1, d));
        let weight = self.has_weight().then(|| row.pick(self.width(d) - 1, 1, 1));
        (row.pick(0, 1, d), vector, weight)
    }
    /// Rows (c, e, w) of cells; e = 0 for cells without extent.
    fn rows<F: Real>(self, g: &CellGeometry<F>) -> Result<Array2<F>, Error> {
        let (m, d) = g.centres.dim();
        let mut rows = zeros((m, self.width(d)))?;
        rows.slice_axis_mut(Along(1), (..d).into()).assign(&g.centres);
        if let (true, Some(normals)) = (self.has_vector(), &g.normals) {
            let mut e = rows.slice_axis_mut(Along(1), (d..2 * d).into());
            e.assign(normals);
            for (mut e, &l) in e.outer_iter_mut().zip(&g.measures) {
                match self {
                    Features::Roots if l > F::zero() => e /= l.sqrt(),
                    Features::Directions if l > F::zero() => e /= l,
                    _ => {}
                }
            }
        }
        if self.has_weight() {
            rows.column_mut(self.width(d) - 1).assign(&g.measures);
        }
        Ok(rows)
    }
    /// From cotangents of the rows those of centres and normals; zero for the normals of cells
    /// without extent, where features other than [`Features::Normals`] have no derivative.
    pub(super) fn pull_back<F: Real>(
        self,
        g: &CellGeometry<F>,
        bars: &Array2<F>,
    ) -> Result<(Array2<F>, Array2<F>), Error> {
        let d = g.centres.ncols();
        let centres = copied(bars.slice_axis(Along(1), (..d).into()))?;
        let mut normals = zeros((bars.nrows(), d))?;
        let Some(n) = &g.normals else { return Ok((centres, normals)) };
        for (i, mut out) in normals.outer_iter_mut().enumerate() {
            let l = g.measures[i];
            let bar = bars.row(i);
            let end = if self.has_vector() { 2 * d } else { d };
            let e_bar = bar.slice_axis(Along(0), (d..end).into());
            if self == Features::Normals {
                out.assign(&e_bar);
                continue;
            }
            if l <= F::zero() {
                continue;
            }
            let u = n.row(i).mapv(|x| x / l);
            // dl = ⟨u, dn⟩; d(n/√l) = (dn − u dl/2)/√l; du = (dn − u dl)/l.
            let along = if self.has_vector() { u.dot(&e_bar) } else { F::zero() };
            let (scale, part) = match self {
                Features::Roots => (F::one() / l.sqrt(), narrow::<F>(0.5)),
                _ => (F::one() / l, F::one()),
            };
            let w_bar = if self.has_weight() { bar[self.width(d) - 1] } else { F::zero() };
            if self.has_vector() {
                out.scaled_add(scale, &e_bar);
            }
            out.scaled_add(w_bar - scale * part * along, &u);
        }
        Ok((centres, normals))
    }
}

/// A product ⟨S,T⟩ of shapes, with its gradient in S.
struct Product {
    features: Features,
    sum: Sum,
}

impl Product {
    fn new<F: Real>(distance: &CellDistance, at: &Setting<'_>) -> Result<Product, LddmmError> {
        let CellDistance { product, kernel, normals } = distance;
        let exponent = match *normals {
            Some(sigma) if (1e-20..=1e20).contains(&sigma) => 2.0 / (sigma * sigma),
            Some(sigma) => {
                let expected = "a number between 1e-20 and 1e20";
                return Err(LddmmError::parameter("normal_sigma", expected, sigma));
            }
            None => 0.0,
        };
        kernel.check_precision::<F>()?;
        let (features, d) = (product.features, at.source.dim());
        let width = features.width(d);
        let vars = [("cells", Category::I, width), ("cells (columns)", Category::J, width)];
        let sum = Sum::new::<F>(at.device, at.reductions, Axis::J, &vars, |v| {
            let (c, e, w) = features.parts(v[0], d);
            let (c_j, e_j, w_j) = features.parts(v[1], d);
            let r = c - c_j;
            let cell = |e: Option<_>, w: Option<_>| {
                let one = v[0].lit(1.0);
                Cell { vector: e.unwrap_or(one), size: w.unwrap_or(one) }
            };
            let phi = (product.phi)(cell(e, w), cell(e_j, w_j), exponent);
            let value = kernel.formula(r.dot(r)) * phi;
            let wrt: Vec<Ex<'_>> = std::iter::once(c).chain(e).chain(w).collect();
            let gradients = vjp(value, value.lit(1.0), &wrt);
            let gradients = gradients.iter().zip(&wrt).map(|(g, &x)| g.unwrap_or(x * 0.0));
            Ex::concat(&std::iter::once(value).chain(gradients).collect::<Vec<_>>())
        });
        Ok(Product { features, sum })
    }
    /// ⟨S,T⟩, added in double precision, and the gradient in the rows of S for T fixed.
    fn call<F: Real>(
        &self,
        s: ArrayView2<'_, F>,
        t: ArrayView2<'_, F>,
    ) -> Result<(f64, Array2<F>), LddmmError> {
        let out = self.sum.call(&[s, t], None)?;
        let value = out.column(0).iter().map(|&v| Element::to_f64(v)).sum();
        Ok((value, copied(out.slice_axis(Along(1), (1..).into()))?))
    }
}

/// A [`CellDistance`] to a given target, in the precision of a registration.
struct CellMatching<F> {
    /// For its cells.
    source: Shape,
    product: Product,
    /// Features of the target, and ⟨T,T⟩.
    rows: Array2<F>,
    norm: f64,
}

impl<F: Real> CellMatching<F> {
    fn new(distance: &CellDistance, at: &Setting<'_>) -> Result<CellMatching<F>, LddmmError> {
        let product = Product::new::<F>(distance, at)?;
        let (source, target) = (at.source, at.target);
        if product.features.has_vector() {
            for (what, shape) in [("the source", source), ("the target", target)] {
                if *shape.cells() == Cells::Points {
                    let expected = format!("segments or triangles (attachment: {distance})");
                    return Err(LddmmError::mismatch(what, expected, "a point cloud"));
                }
            }
            let of = |s: &Shape| std::mem::discriminant(s.cells());
            if of(source) != of(target) {
                let expected = format!("{}s, as the source has", source.cells().name());
                let got = format!("{}s", target.cells().name());
                return Err(LddmmError::mismatch("the target", expected, got));
            }
        }
        let vertices = narrowed::<F>(target.vertices())?;
        let rows = product.features.rows(&cell_geometry(vertices.view(), target.cells())?)?;
        let norm = product.call(rows.view(), rows.view())?.0;
        Ok(CellMatching { source: source.clone(), product, rows, norm })
    }
}

impl<F: Real> Prepared for CellMatching<F> {
    fn value_and_gradient(&self, x: ArrayView2<'_, f64>) -> Result<(f64, Array2<f64>), LddmmError> {
        let (product, cells) = (&self.product, self.source.cells());
        let vertices = narrowed::<F>(x)?;
        let geometry = cell_geometry(vertices.view(), cells)?;
        let own = product.features.rows(&geometry)?;
        let (self_norm, self_gradient) = product.call(own.view(), own.view())?;
        let (inner, cross_gradient) = product.call(own.view(), self.rows.view())?;
        let two = narrow::<F>(2.0);
        // ⟨S,S⟩ is symmetric: its gradient is twice that of its first argument.
        let bars = (self_gradient - cross_gradient).mapv_into(|x| two * x);
        let (centres, normals) = product.features.pull_back(&geometry, &bars)?;
        let gradient =
            cell_geometry_adjoint(vertices.view(), cells, centres.view(), normals.view())?;
        Ok((self_norm + self.norm - 2.0 * inner, widened(gradient.view())?))
    }
    fn overlap(&self, x: ArrayView2<'_, f64>) -> Result<Option<f64>, LddmmError> {
        let vertices = narrowed::<F>(x)?;
        let own =
            self.product.features.rows(&cell_geometry(vertices.view(), self.source.cells())?)?;
        let self_norm = self.product.call(own.view(), own.view())?.0;
        let inner = self.product.call(own.view(), self.rows.view())?.0;
        let cosine = inner / (self_norm.sqrt() * self.norm.sqrt());
        Ok(cosine.is_finite().then_some(cosine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn features_pull_back_and_leave_degenerate_cells_alone() {
        let normals = array![[0.3, -0.4, 1.2], [0.0, 0.0, 0.0]];
        let geometry = |n: &Array2<f64>| CellGeometry {
            centres: Array2::zeros((2, 3)),
            measures: n.map_axis(ndarray::Axis(1), |r| r.dot(&r).sqrt()),
            normals: Some(n.clone()),
        };
        for features in [Features::Sizes, Features::Normals, Features::Roots, Features::Directions]
        {
            let bars = Array2::from_shape_fn((2, features.width(3)), |(i, k)| {
                (1.0 + 0.7 * i as f64 + 1.3 * k as f64).sin()
            });
            let (_, pulled) = features.pull_back(&geometry(&normals), &bars).unwrap();
            for k in 0..3 {
                let h = 1e-6;
                let at = |h: f64| {
                    let mut n = normals.clone();
                    n[[0, k]] += h;
                    (&features.rows(&geometry(&n)).unwrap() * &bars).sum()
                };
                let expected = (at(h) - at(-h)) / (2.0 * h);
                assert!((pulled[[0, k]] - expected).abs() < 1e-9, "{features:?} {k}");
                let of_degenerate =
                    if features == Features::Normals { bars[[1, 3 + k]] } else { 0.0 };
                assert_eq!(pulled[[1, k]], of_degenerate);
            }
        }
    }
}
