//! Rigid motions and similarities that bring one shape to another, as a start of registrations.

use keops_core::error::OutOfMemory;
use keops_core::memory;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rstar::RTree;
use rstar::primitives::GeomWithData;

use crate::linear::symmetric_eigen;
use crate::shape::{Shape, ShapeError, shaped};

/// Why shapes were not aligned.
///
/// ```
/// use keops_shapes::align::{AlignError, Freedom, align};
/// use keops_shapes::builtin::{curve_pair, icosphere};
/// let e = align(&curve_pair(9)?.0, &icosphere(0)?, Freedom::Rigid).unwrap_err();
/// assert_eq!(e.to_string(), "expected points with 2 coordinates, as the first have, got 3");
/// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AlignError {
    /// Points or shapes of the plane and of space do not mix, and there are no others.
    #[error("expected points with {expected} coordinates, as the first have, got {got}")]
    Dimension {
        /// Coordinates of the first.
        expected: usize,
        /// Coordinates of the second.
        got: usize,
    },
    /// Points do not correspond.
    #[error(
        "expected {expected} points, as many as there are first ones and at least 1, got {got}"
    )]
    Count {
        /// Number of the first.
        expected: usize,
        /// Number of the second.
        got: usize,
    },
    /// The first points coincide, or are not finite: nothing can be told about rotation or scale.
    #[error("the points to be moved have no extent")]
    NoExtent,
    /// The moved shape has coordinates that are too large.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// There is no memory for it.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// What a motion may do beside a translation.
///
/// ```
/// use keops_shapes::align::Freedom;
/// assert_ne!(Freedom::Rigid, Freedom::Similarity);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freedom {
    /// Rotate.
    Rigid,
    /// Rotate and scale.
    Similarity,
}

/// x ↦ s R x + t, with a rotation R (no reflection) and a scale s > 0.
///
/// ```
/// use keops_shapes::align::Motion;
/// use ndarray::array;
/// let turn = Motion { scale: 2.0, rotation: array![[0.0, -1.0], [1.0, 0.0]], shift: array![0.0, 5.0] };
/// assert_eq!(turn.apply(array![[1.0, 0.0]].view())?, array![[0.0, 7.0]]);
/// # Ok::<(), keops_core::error::OutOfMemory>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Motion {
    /// s.
    pub scale: f64,
    /// R, shape (d, d).
    pub rotation: Array2<f64>,
    /// t, in units of the coordinates.
    pub shift: Array1<f64>,
}

impl Motion {
    /// The points moved, of shape (n, d).
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn apply(&self, points: ArrayView2<'_, f64>) -> Result<Array2<f64>, OutOfMemory> {
        let (n, d) = points.dim();
        let mut moved = memory::room(n * d, "moved points")?;
        for x in points.outer_iter() {
            for k in 0..d {
                moved.push(self.scale * self.rotation.row(k).dot(&x) + self.shift[k]);
            }
        }
        shaped((n, d), moved)
    }
    /// The shape moved.
    ///
    /// # Errors
    /// When coordinates become too large for a shape, or there is no memory.
    pub fn moved(&self, shape: &Shape) -> Result<Shape, AlignError> {
        Ok(shape.with_vertices(self.apply(shape.vertices())?)?)
    }
}

/// The motion with the least Σ_i |s R x_i + t − y_i|² of points in correspondence, shapes (n, d) with
/// d = 2 or 3: closed forms (Horn 1987; Umeyama 1991).
///
/// # Errors
/// [`AlignError`]: dimensions or numbers differ, the first points coincide.
///
/// ```
/// use keops_shapes::align::{Freedom, of_points};
/// use ndarray::array;
/// let x = array![[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]];
/// let y = array![[5.0, 1.0], [5.0, 5.0], [3.0, 1.0]]; // turned by 90°, twice as large, moved
/// let motion = of_points(x.view(), y.view(), Freedom::Similarity)?;
/// assert!((motion.scale - 2.0).abs() < 1e-14);
/// assert!((motion.apply(x.view())? - y).iter().all(|gap| gap.abs() < 1e-14));
/// # Ok::<(), keops_shapes::align::AlignError>(())
/// ```
pub fn of_points(
    from: ArrayView2<'_, f64>,
    to: ArrayView2<'_, f64>,
    freedom: Freedom,
) -> Result<Motion, AlignError> {
    let (n, d) = from.dim();
    if to.ncols() != d || !(2..=3).contains(&d) {
        return Err(AlignError::Dimension { expected: d.clamp(2, 3), got: to.ncols() });
    }
    if to.nrows() != n || n == 0 {
        return Err(AlignError::Count { expected: n.max(1), got: to.nrows() });
    }
    let mean = |x: ArrayView2<'_, f64>| x.sum_axis(Axis(0)) / n as f64;
    let (mean_x, mean_y) = (mean(from), mean(to));
    // M = Σ (x − x̄)(y − ȳ)ᵀ and Σ |x − x̄|².
    let (mut m, mut square) = ([[0.0; 3]; 3], 0.0);
    for (x, y) in from.outer_iter().zip(to.outer_iter()) {
        let (x, y) = (&x - &mean_x, &y - &mean_y);
        square += x.dot(&x);
        for a in 0..d {
            (0..d).for_each(|b| m[a][b] += x[a] * y[b]);
        }
    }
    if !(square > 0.0 && square.is_finite()) {
        return Err(AlignError::NoExtent);
    }
    let rotation = if d == 2 {
        let (sin, cos) = (m[0][1] - m[1][0], m[0][0] + m[1][1]);
        let length = sin.hypot(cos);
        let (sin, cos) = if length > 0.0 { (sin / length, cos / length) } else { (0.0, 1.0) };
        ndarray::arr2(&[[cos, -sin], [sin, cos]])
    } else {
        by_quaternion(&m)
    };
    let scale = match freedom {
        Freedom::Rigid => 1.0,
        Freedom::Similarity => {
            let along = |a: usize| (0..d).map(|b| rotation[[b, a]] * m[a][b]).sum::<f64>();
            let scale = (0..d).map(along).sum::<f64>() / square;
            if scale > 0.0 { scale } else { 1.0 }
        }
    };
    let shift = mean_y - rotation.dot(&mean_x) * scale;
    Ok(Motion { scale, rotation, shift })
}

/// The rotation with the largest trace of R M: of the quaternion that is the eigenvector of the largest
/// eigenvalue of Horn's matrix.
fn by_quaternion(m: &[[f64; 3]; 3]) -> Array2<f64> {
    let [[xx, xy, xz], [yx, yy, yz], [zx, zy, zz]] = *m;
    let (values, vectors) = symmetric_eigen([
        [xx + yy + zz, yz - zy, zx - xz, xy - yx],
        [yz - zy, xx - yy - zz, xy + yx, zx + xz],
        [zx - xz, xy + yx, yy - xx - zz, yz + zy],
        [xy - yx, zx + xz, yz + zy, zz - xx - yy],
    ]);
    let largest = (0..4).fold(0, |best, k| if values[k] > values[best] { k } else { best });
    let [w, x, y, z] = vectors[largest];
    ndarray::arr2(&[
        [w * w + x * x - y * y - z * z, 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), w * w - x * x + y * y - z * z, 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ])
}

/// The motion of `source` to `target`, without correspondence: iterated closest vertices, in both
/// directions so that a similarity does not shrink, from the present place and from all that bring
/// principal axes together; the one with the least mean of squared distances is returned.
///
/// # Errors
/// [`AlignError`].
///
/// ```
/// use keops_shapes::align::{Freedom, Motion, align};
/// use keops_shapes::builtin::curve_pair;
/// use ndarray::array;
/// let (_, bean) = curve_pair(100)?;
/// let (sin, cos) = 2f64.sin_cos();
/// let motion = Motion { scale: 1.5, rotation: array![[cos, -sin], [sin, cos]], shift: array![9.0, -4.0] };
/// let found = align(&bean, &motion.moved(&bean)?, Freedom::Similarity)?;
/// assert!((found.scale - 1.5).abs() < 1e-9);
/// assert!((found.shift - motion.shift).iter().all(|gap| gap.abs() < 1e-9));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn align(source: &Shape, target: &Shape, freedom: Freedom) -> Result<Motion, AlignError> {
    let (x, y) = (source.vertices(), target.vertices());
    if source.dim() != target.dim() {
        return Err(AlignError::Dimension { expected: source.dim(), got: target.dim() });
    }
    let tree = Tree::of(y);
    let mut best: Option<(f64, Motion)> = None;
    for start in starts(x, y, freedom) {
        let (error, motion) = closest(x, y, &tree, start, freedom)?;
        if best.as_ref().is_none_or(|b| error < b.0) {
            best = Some((error, motion));
        }
    }
    best.map(|b| b.1).ok_or(AlignError::NoExtent)
}

const PAIRS: &str = "pairs of points";
/// Most iterations of closest points.
const MOST: usize = 200;

/// Iterates closest points from a motion: the mean of squared distances at the end, and the motion.
fn closest(
    x: ArrayView2<'_, f64>,
    y: ArrayView2<'_, f64>,
    tree: &Tree,
    mut motion: Motion,
    freedom: Freedom,
) -> Result<(f64, Motion), AlignError> {
    let mut last = f64::INFINITY;
    let pairs = x.nrows() + y.nrows();
    for _ in 0..MOST {
        let moved = motion.apply(x)?;
        let own = Tree::of(moved.view());
        // Each vertex with the nearest of the other shape.
        let (mut from, mut to) = (memory::room(pairs, PAIRS)?, memory::room(pairs, PAIRS)?);
        from.extend((0..x.nrows()).chain(y.outer_iter().map(|y| own.nearest(y))));
        to.extend(moved.outer_iter().map(|x| tree.nearest(x)).chain(0..y.nrows()));
        let error = from.iter().zip(&to).map(|(&i, &j)| {
            let gap = &moved.row(i) - &y.row(j);
            gap.dot(&gap)
        });
        let error = error.sum::<f64>() / pairs as f64;
        // Each step lowers it: by a part that is worth another.
        if error.is_nan() || error >= last * (1.0 - 1e-12) {
            return Ok((if error <= last { error } else { last }, motion));
        }
        last = error;
        motion =
            of_points(x.select(Axis(0), &from).view(), y.select(Axis(0), &to).view(), freedom)?;
    }
    Ok((last, motion))
}

/// The present place, and the rotations of the principal axes of `x` onto those of `y`, each with the
/// means together.
fn starts(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>, freedom: Freedom) -> Vec<Motion> {
    let d = x.ncols();
    let ((mean_x, axes_x, size_x), (mean_y, axes_y, size_y)) = (principal(x), principal(y));
    let scale = match freedom {
        Freedom::Similarity if size_x > 0.0 && size_y > 0.0 => size_y / size_x,
        _ => 1.0,
    };
    let place = |scale: f64, rotation: Array2<f64>| {
        let shift = &mean_y - rotation.dot(&mean_x) * scale;
        Motion { scale, rotation, shift }
    };
    let still = Motion { scale: 1.0, rotation: Array2::eye(d), shift: Array1::zeros(d) };
    let mut all = vec![still, place(scale, Array2::eye(d))];
    for signs in 0..1 << d {
        let sign = |k: usize| if signs >> k & 1 == 0 { 1.0 } else { -1.0 };
        let rotation = Array2::from_shape_fn((d, d), |(a, b)| {
            (0..d).map(|k| sign(k) * axes_y[k][a] * axes_x[k][b]).sum()
        });
        if determinant(&rotation) > 0.0 {
            all.push(place(scale, rotation));
        }
    }
    all
}

/// Mean, principal axes (rows, the longest first), and root mean square distance to the mean.
fn principal(x: ArrayView2<'_, f64>) -> (Array1<f64>, [[f64; 3]; 3], f64) {
    let n = x.nrows() as f64;
    let mean = x.sum_axis(Axis(0)) / n;
    let mut covariance = [[0.0; 3]; 3];
    for p in x.outer_iter() {
        let v = &p - &mean;
        for a in 0..v.len() {
            (0..v.len()).for_each(|b| covariance[a][b] += v[a] * v[b] / n);
        }
    }
    let (values, vectors) = symmetric_eigen(covariance);
    let mut order = [0, 1, 2];
    // (Of planar points the third axis has the value 0 exactly, and stays last.)
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let size = values.iter().sum::<f64>().max(0.0).sqrt();
    (mean, order.map(|k| vectors[k]), size)
}

fn determinant(r: &Array2<f64>) -> f64 {
    if r.ncols() == 2 {
        return r[[0, 0]] * r[[1, 1]] - r[[0, 1]] * r[[1, 0]];
    }
    let minor = |a: usize, b: usize| r[[1, a]] * r[[2, b]] - r[[1, b]] * r[[2, a]];
    r[[0, 0]] * minor(1, 2) - r[[0, 1]] * minor(0, 2) + r[[0, 2]] * minor(0, 1)
}

/// Points to look the nearest of up.
struct Tree(RTree<GeomWithData<[f64; 3], usize>>);

impl Tree {
    fn of(points: ArrayView2<'_, f64>) -> Tree {
        let all = points.outer_iter().enumerate();
        Tree(RTree::bulk_load(all.map(|(k, p)| GeomWithData::new(spatial(p), k)).collect()))
    }
    fn nearest(&self, p: ndarray::ArrayView1<'_, f64>) -> usize {
        self.0.nearest_neighbor(spatial(p)).map_or(0, |found| found.data)
    }
}
fn spatial(p: ndarray::ArrayView1<'_, f64>) -> [f64; 3] {
    std::array::from_fn(|k| p.get(k).copied().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::surface_pair;
    use ndarray::array;

    /// Turned about two axes, scaled and moved: of points in correspondence and without.
    #[test]
    fn a_surface_is_brought_back() {
        let shape = surface_pair(2).unwrap().1;
        for (a, b, scale) in [(0.3, -0.2, 1.0), (2.0, 1.1, 1.0), (-2.7, 0.6, 0.4)] {
            let about_z =
                |t: f64| array![[t.cos(), -t.sin(), 0.0], [t.sin(), t.cos(), 0.0], [0.0, 0.0, 1.0]];
            let about_x =
                |t: f64| array![[1.0, 0.0, 0.0], [0.0, t.cos(), -t.sin()], [0.0, t.sin(), t.cos()]];
            let rotation = about_z(a).dot(&about_x(b));
            let motion = Motion { scale, rotation, shift: array![10.0, -3.0, 0.5] };
            let moved = motion.moved(&shape).unwrap();
            let freedom = if scale == 1.0 { Freedom::Rigid } else { Freedom::Similarity };
            let near = |found: &Motion| {
                let gap = (&found.rotation - &motion.rotation).fold(0.0f64, |m, g| m.max(g.abs()));
                let far = (&found.shift - &motion.shift).fold(0.0f64, |m, g| m.max(g.abs()));
                assert!(gap < 1e-9 && far < 1e-8, "{a} {b}: {gap:e} {far:e}");
                assert!((found.scale - scale).abs() < 1e-9);
            };
            near(&of_points(shape.vertices(), moved.vertices(), freedom).unwrap());
            near(&align(&shape, &moved, freedom).unwrap());
        }
    }

    /// No reflection, also where one would be nearer, and the least sum: neither can be improved by
    /// small turns.
    #[test]
    fn the_best_rotation_of_points() {
        let x = array![[1.0, 0.0, 0.0], [0.0, 2.0, 0.1], [0.0, 0.3, 3.0], [-1.0, 0.2, 0.7]];
        let y = &x * &array![-1.0, 1.0, 1.0] + 0.1; // a mirror image
        let motion = of_points(x.view(), y.view(), Freedom::Similarity).unwrap();
        assert!((determinant(&motion.rotation) - 1.0).abs() < 1e-13);
        let cost = |m: &Motion| {
            let gap = m.apply(x.view()).unwrap() - &y;
            (&gap * &gap).sum()
        };
        let least = cost(&motion);
        for k in 0..9 {
            for h in [1e-3, -1e-3] {
                let mut other = motion.clone();
                if k < 3 {
                    other.shift[k] += h;
                } else if k == 3 {
                    other.scale += h;
                } else {
                    let (a, b) = [(0, 1), (0, 2), (1, 2)][k % 3];
                    let mut turn = Array2::eye(3);
                    (turn[[a, a]], turn[[b, b]]) = (h.cos(), h.cos());
                    (turn[[a, b]], turn[[b, a]]) = (-h.sin(), h.sin());
                    // About the mean, where the best shift follows.
                    let mean = x.mean_axis(Axis(0)).unwrap();
                    other.rotation = motion.rotation.dot(&turn);
                    other.shift =
                        y.mean_axis(Axis(0)).unwrap() - other.rotation.dot(&mean) * other.scale;
                }
                assert!(cost(&other) > least, "{k}");
            }
        }
    }

    #[test]
    fn what_cannot_be_aligned_is_refused() {
        let x = array![[1.0, 2.0], [1.0, 2.0]];
        let of = |x: &Array2<f64>, y: &Array2<f64>| of_points(x.view(), y.view(), Freedom::Rigid);
        assert_eq!(of(&x, &array![[0.0, 0.0], [1.0, 0.0]]), Err(AlignError::NoExtent));
        assert_eq!(of(&x, &array![[1.0, 2.0]]), Err(AlignError::Count { expected: 2, got: 1 }));
        assert_eq!(
            of(&x, &Array2::zeros((2, 3))),
            Err(AlignError::Dimension { expected: 2, got: 3 })
        );
        let point = Shape::new(array![[1.0, 2.0]], crate::Cells::Points).unwrap();
        assert!(align(&point, &point, Freedom::Rigid).is_err());
    }
}
