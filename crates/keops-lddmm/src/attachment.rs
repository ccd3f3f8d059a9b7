//! Attachments: how far a deformed shape is from its target, with gradients in its vertices.
//!
//! Currents (Vaillant & Glaunès 2005), varifolds (Charon & Trouvé 2013; Kaltenmark, Charlier &
//! Charon 2017) and measures are squared distances ⟨S,S⟩ + ⟨T,T⟩ − 2⟨S,T⟩ for
//! ⟨S,T⟩ = Σ_ij k(|c_i − c_j|²) φ over cells with centres c, normals (tangents) n, sizes l = |n|
//! and directions u = n/l. All are one formula of features of cells: the centre c, a vector e and
//! a weight w. Value and gradient come from one reduction.

use keops_core::autodiff::vjp;
use keops_core::error::Error;
use keops_core::graph::{Category, Ex};
use keops_core::ops::EXP;
use keops_core::spec::{Axis, Device};
use ndarray::{Array2, ArrayView2, s};

use crate::error::LddmmError;
use crate::kernel::Kernel;
use crate::shape::{CellGeometry, Cells, Shape, cell_geometry, cell_geometry_adjoint};
use crate::sum::{Real, Sum, copied, narrow, narrowed, zeros};

/// A squared distance between shapes; its kernels are functions of the distance of centres, in
/// units of the coordinates.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::attachment::{Attachment, Matching};
/// use keops_lddmm::kernel::Kernel;
/// use keops_lddmm::shape::{Cells, Shape};
/// use ndarray::array;
///
/// // A segment and the same segment the other way round.
/// let segment = |cell| Shape::new(array![[0.0, 0.0], [1.0, 0.0]], Cells::Segments(vec![cell]));
/// let (there, back) = (segment([0, 1])?, segment([1, 0])?);
/// let (kernel, device) = (Kernel::gaussian(1.0)?, Device::new(Interpreter::new()));
/// let distance = |attachment| {
///     Matching::<f64>::new(&attachment, &there, &back, &device)?.value(there.vertices())
/// };
/// assert_eq!(distance(Attachment::Current { kernel: kernel.clone() })?, 4.0); // 1 + 1 + 2
/// assert_eq!(distance(Attachment::Varifold { kernel })?, 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub enum Attachment {
    /// Σ_i |x_i − y_i|² of vertices in correspondence.
    Landmarks,
    /// k l l': shapes as measures, sizes at centres (points have size 1).
    Measure {
        /// The kernel k of centres.
        kernel: Kernel,
    },
    /// k ⟨n, n'⟩: orientation matters, thin parts cancel.
    Current {
        /// The kernel k of centres.
        kernel: Kernel,
    },
    /// k l l' ⟨u, u'⟩² (Cauchy–Binet): orientation does not matter.
    Varifold {
        /// The kernel k of centres.
        kernel: Kernel,
    },
    /// k l l' exp(2(⟨u, u'⟩ − 1)/σ_n²): a Gaussian of |u − u'|, orientation matters.
    OrientedVarifold {
        /// The kernel k of centres.
        kernel: Kernel,
        /// σ_n, without unit.
        normal_sigma: f64,
    },
    /// k l l' exp(2(⟨u, u'⟩² − 1)/σ_n²): as [`Attachment::OrientedVarifold`], but orientation does
    /// not matter.
    UnorientedVarifold {
        /// The kernel k of centres.
        kernel: Kernel,
        /// σ_n, without unit.
        normal_sigma: f64,
    },
}

impl std::fmt::Display for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Attachment::Landmarks => f.write_str("landmarks"),
            Attachment::Measure { kernel } => write!(f, "measure, {kernel}"),
            Attachment::Current { kernel } => write!(f, "current, {kernel}"),
            Attachment::Varifold { kernel } => write!(f, "varifold, {kernel}"),
            Attachment::OrientedVarifold { kernel, normal_sigma } => {
                write!(f, "oriented varifold, {kernel}, normals {normal_sigma}")
            }
            Attachment::UnorientedVarifold { kernel, normal_sigma } => {
                write!(f, "unoriented Gaussian varifold, {kernel}, normals {normal_sigma}")
            }
        }
    }
}

/// The features of cells that a formula reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Features {
    /// c, w = l.
    Sizes,
    /// c, e = n.
    Normals,
    /// c, e = n/√l, so that ⟨e, e'⟩² = l l' ⟨u, u'⟩².
    Roots,
    /// c, e = u, w = l.
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
        rows.slice_mut(s![.., ..d]).assign(&g.centres);
        if let (true, Some(normals)) = (self.has_vector(), &g.normals) {
            let mut e = rows.slice_mut(s![.., d..2 * d]);
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
    fn pull_back<F: Real>(
        self,
        g: &CellGeometry<F>,
        bars: &Array2<F>,
    ) -> Result<(Array2<F>, Array2<F>), Error> {
        let d = g.centres.ncols();
        let centres = copied(bars.slice(s![.., ..d]))?;
        let mut normals = zeros((bars.nrows(), d))?;
        let Some(n) = &g.normals else { return Ok((centres, normals)) };
        for (i, mut out) in normals.outer_iter_mut().enumerate() {
            let l = g.measures[i];
            let bar = bars.row(i);
            let e_bar = bar.slice(s![d..if self.has_vector() { 2 * d } else { d }]);
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
    fn new<F: Real>(
        attachment: &Attachment,
        d: usize,
        device: &Device,
    ) -> Result<Option<Product>, LddmmError> {
        use Attachment::*;
        let spread = |sigma: f64| {
            if (1e-20..=1e20).contains(&sigma) {
                return Ok(2.0 / (sigma * sigma));
            }
            Err(LddmmError::parameter("normal_sigma", "a number between 1e-20 and 1e20", sigma))
        };
        let (kernel, features, exponent) = match attachment {
            Landmarks => return Ok(None),
            Measure { kernel } => (kernel, Features::Sizes, 0.0),
            Current { kernel } => (kernel, Features::Normals, 0.0),
            Varifold { kernel } => (kernel, Features::Roots, 0.0),
            OrientedVarifold { kernel, normal_sigma }
            | UnorientedVarifold { kernel, normal_sigma } => {
                (kernel, Features::Directions, spread(*normal_sigma)?)
            }
        };
        kernel.check_precision::<F>()?;
        let squared = matches!(attachment, Varifold { .. } | UnorientedVarifold { .. });
        let width = features.width(d);
        let vars = [("cells", Category::I, width), ("cells (columns)", Category::J, width)];
        let sum = Sum::new::<F>(device, Axis::J, &vars, |v| {
            let (c, e, w) = features.parts(v[0], d);
            let (c_j, e_j, w_j) = features.parts(v[1], d);
            let r = c - c_j;
            let mut value = kernel.formula(r.dot(r));
            if let (Some(e), Some(e_j)) = (e, e_j) {
                let s = e.dot(e_j);
                let s = if squared { s * s } else { s };
                let directions = features == Features::Directions;
                value = value * if directions { ((s - 1.0) * exponent).un(&EXP) } else { s };
            }
            if let (Some(w), Some(w_j)) = (w, w_j) {
                value = value * (w * w_j);
            }
            let wrt: Vec<Ex<'_>> = std::iter::once(c).chain(e).chain(w).collect();
            let gradients = vjp(value, value.lit(1.0), &wrt);
            let gradients = gradients.iter().zip(&wrt).map(|(g, &x)| g.unwrap_or(x * 0.0));
            Ex::concat(&std::iter::once(value).chain(gradients).collect::<Vec<_>>())
        });
        Ok(Some(Product { features, sum }))
    }
    /// ⟨S,T⟩, added in double precision, and the gradient in the rows of S for T fixed.
    fn call<F: Real>(
        &self,
        s: ArrayView2<'_, F>,
        t: ArrayView2<'_, F>,
    ) -> Result<(f64, Array2<F>), LddmmError> {
        let out = self.sum.call(&[s, t])?;
        let value = out.column(0).iter().map(|&v| keops_core::data::Element::to_f64(v)).sum();
        Ok((value, copied(out.slice(s![.., 1..]))?))
    }
}

/// An attachment to a given target, for deformed shapes with given cells.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::attachment::{Attachment, Matching};
/// use keops_lddmm::{builtin::curve_pair, kernel::Kernel};
/// let (ellipse, bean) = curve_pair(30)?;
/// let attachment = Attachment::Varifold { kernel: Kernel::gaussian(0.5)? };
/// let device = Device::new(Interpreter::new());
/// let matching = Matching::<f64>::new(&attachment, &ellipse, &bean, &device)?;
/// // Of the target itself there is no distance, and nothing to gain.
/// let (at_start, at_target) = (ellipse.vertices(), bean.vertices());
/// assert!(matching.value(at_start)? > 0.1 && matching.value(at_target)?.abs() < 1e-12);
/// let (_, gradient) = matching.value_and_gradient(at_target)?;
/// assert!(gradient.iter().all(|g| g.abs() < 1e-12));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Matching<F> {
    /// For its cells.
    source: Shape,
    target: Target<F>,
}

enum Target<F> {
    Landmarks(Array2<F>),
    Cells { product: Product, rows: Array2<F>, norm: f64 },
}

impl<F: Real> Matching<F> {
    /// Prepares the attachment of shapes with the cells of `source` to `target`; computes ⟨T,T⟩.
    ///
    /// # Errors
    /// [`LddmmError::Mismatch`] when dimensions differ, landmarks are not in correspondence, or a
    /// point cloud meets an attachment that needs normals; [`LddmmError::Parameter`] for a bad
    /// σ_n; [`LddmmError::Device`].
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// use keops_lddmm::attachment::{Attachment, Matching};
    /// use keops_lddmm::{builtin::curve_pair, LddmmError};
    /// let ((source, _), (target, _)) = (curve_pair(30)?, curve_pair(40)?);
    /// let device = Device::new(Interpreter::new());
    /// let Err(e) = Matching::<f64>::new(&Attachment::Landmarks, &source, &target, &device) else {
    ///     unreachable!("30 vertices do not correspond to 40")
    /// };
    /// assert_eq!(
    ///     e.to_string(),
    ///     "landmarks: expected 30 vertices in the target, as in the source, got 40"
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(
        attachment: &Attachment,
        source: &Shape,
        target: &Shape,
        device: &Device,
    ) -> Result<Matching<F>, LddmmError> {
        LddmmError::check_dimension(source, target)?;
        let vertices = narrowed::<F>(target.vertices())?;
        let target = match Product::new::<F>(attachment, source.dim(), device)? {
            None => {
                if source.vertex_count() != target.vertex_count() {
                    return Err(LddmmError::mismatch(
                        "landmarks",
                        format!(
                            "{} vertices in the target, as in the source",
                            source.vertex_count()
                        ),
                        target.vertex_count(),
                    ));
                }
                Target::Landmarks(vertices)
            }
            Some(product) => {
                for (what, shape) in [("the source", source), ("the target", target)] {
                    if product.features.has_vector() && *shape.cells() == Cells::Points {
                        return Err(LddmmError::mismatch(
                            what,
                            format!("segments or triangles (attachment: {attachment})"),
                            "a point cloud",
                        ));
                    }
                }
                let of = |s: &Shape| std::mem::discriminant(s.cells());
                if product.features.has_vector() && of(source) != of(target) {
                    return Err(LddmmError::mismatch(
                        "the target",
                        format!("{}s, as the source has", source.cells().name()),
                        format!("{}s", target.cells().name()),
                    ));
                }
                let rows =
                    product.features.rows(&cell_geometry(vertices.view(), target.cells())?)?;
                let norm = product.call(rows.view(), rows.view())?.0;
                Target::Cells { product, rows, norm }
            }
        };
        Ok(Matching { source: source.clone(), target })
    }

    /// The squared distance of the shape with the given vertices, of shape (n, d), and its
    /// gradient in them. The value is added in double precision. Cells without extent count with
    /// size 0, and have no part in the gradient where it does not exist.
    ///
    /// # Errors
    /// When there are not as many vertices as in the source, or the device fails.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// use keops_lddmm::attachment::{Attachment, Matching};
    /// use keops_lddmm::kernel::Kernel;
    /// use keops_lddmm::shape::{Cells, Shape};
    /// use ndarray::array;
    /// // Two points, one unit apart: 2 - 2 exp(-1), which falls where the first comes nearer.
    /// let (x, y) = (array![[0.0, 0.0]], array![[1.0, 0.0]]);
    /// let cloud = |points| Shape::new(points, Cells::Points);
    /// let attachment = Attachment::Measure { kernel: Kernel::gaussian(1.0)? };
    /// let device = Device::new(Interpreter::new());
    /// let matching = Matching::new(&attachment, &cloud(x.clone())?, &cloud(y)?, &device)?;
    /// let (value, gradient) = matching.value_and_gradient(x.view())?;
    /// let k = (-1f64).exp();
    /// assert!((value - (2.0 - 2.0 * k)).abs() < 1e-15);
    /// assert!((gradient - array![[-4.0 * k, 0.0]]).iter().all(|gap| gap.abs() < 1e-15));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn value_and_gradient(
        &self,
        vertices: ArrayView2<'_, F>,
    ) -> Result<(f64, Array2<F>), LddmmError> {
        let (n, d) = self.source.vertices().dim();
        LddmmError::check_array("vertices", vertices, Some(n), d)?;
        match &self.target {
            Target::Landmarks(target) => {
                let mut r = copied(vertices)?;
                r -= target;
                let value = crate::sum::dot(r.view(), r.view());
                Ok((value, r.mapv_into(|x| x + x)))
            }
            Target::Cells { product, rows, norm } => {
                let cells = self.source.cells();
                let geometry = cell_geometry(vertices, cells)?;
                let own = product.features.rows(&geometry)?;
                let (self_norm, self_gradient) = product.call(own.view(), own.view())?;
                let (inner, cross_gradient) = product.call(own.view(), rows.view())?;
                let two = narrow::<F>(2.0);
                // ⟨S,S⟩ is symmetric: its gradient is twice that of its first argument.
                let bars = (self_gradient - cross_gradient).mapv_into(|x| two * x);
                let (centres, normals) = product.features.pull_back(&geometry, &bars)?;
                let gradient =
                    cell_geometry_adjoint(vertices, cells, centres.view(), normals.view())?;
                Ok((self_norm + norm - 2.0 * inner, gradient))
            }
        }
    }
    /// The cosine of the angle between source and target, ⟨S,T⟩ / (|S| |T|), where the attachment
    /// has one: near 0 where its kernel is too narrow to see the target.
    ///
    /// # Errors
    /// As [`Matching::value_and_gradient`].
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// use keops_lddmm::attachment::{Attachment, Matching};
    /// use keops_lddmm::{builtin::curve_pair, kernel::Kernel};
    /// let (ellipse, bean) = curve_pair(30)?;
    /// let device = Device::new(Interpreter::new());
    /// let overlap = |sigma| -> Result<Option<f64>, Box<dyn std::error::Error>> {
    ///     let attachment = Attachment::Varifold { kernel: Kernel::gaussian(sigma)? };
    ///     let matching = Matching::<f64>::new(&attachment, &ellipse, &bean, &device)?;
    ///     Ok(matching.overlap(ellipse.vertices())?)
    /// };
    /// assert!(overlap(0.5)?.unwrap() > 0.1 && overlap(1e-6)?.unwrap() < 1e-6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn overlap(&self, vertices: ArrayView2<'_, F>) -> Result<Option<f64>, LddmmError> {
        let (n, d) = self.source.vertices().dim();
        LddmmError::check_array("vertices", vertices, Some(n), d)?;
        let Target::Cells { product, rows, norm } = &self.target else { return Ok(None) };
        let own = product.features.rows(&cell_geometry(vertices, self.source.cells())?)?;
        let self_norm = product.call(own.view(), own.view())?.0;
        let inner = product.call(own.view(), rows.view())?.0;
        let cosine = inner / (self_norm.sqrt() * norm.sqrt());
        Ok(cosine.is_finite().then_some(cosine))
    }
    /// The squared distance alone.
    ///
    /// # Errors
    /// As [`Matching::value_and_gradient`].
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// use keops_lddmm::attachment::{Attachment, Matching};
    /// use keops_lddmm::shape::{Cells, Shape};
    /// use ndarray::array;
    /// let cloud = |points| Shape::new(points, Cells::Points);
    /// let (x, y) = (array![[0.0, 0.0], [1.0, 1.0]], array![[3.0, 4.0], [1.0, 2.0]]);
    /// let device = Device::new(Interpreter::new());
    /// let (source, target) = (cloud(x.clone())?, cloud(y)?);
    /// let matching = Matching::new(&Attachment::Landmarks, &source, &target, &device)?;
    /// assert_eq!(matching.value(x.view())?, 26.0); // 3² + 4² + 1²
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn value(&self, vertices: ArrayView2<'_, F>) -> Result<f64, LddmmError> {
        Ok(self.value_and_gradient(vertices)?.0)
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
