//! Exact distances between shapes: every vertex of one to the nearest point of the other.

use keops_core::error::OutOfMemory;
use keops_core::memory;
use ndarray::{Array1, ArrayView2};
use rstar::{AABB, PointDistance, RTree, RTreeObject};

use crate::shape::{Cells, Shape, cross, dot, sub};

/// Why distances were not computed.
///
/// ```
/// use keops_shapes::builtin::{curve_pair, icosphere};
/// use keops_shapes::distance::{DistanceError, distances};
/// let e = distances(&curve_pair(10)?.0, &icosphere(0)?).unwrap_err();
/// assert_eq!(e, DistanceError::Dimension { expected: 2, got: 3 });
/// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DistanceError {
    /// Points or shapes of the plane and of space do not mix.
    #[error("expected points with {expected} coordinates (as the shape has), got {got}")]
    Dimension {
        /// Coordinates of the shape's vertices.
        expected: usize,
        /// Coordinates given.
        got: usize,
    },
    /// There is no memory for them.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// A cell as a convex set with one, two or three corners.
struct Simplex {
    corners: [[f64; 3]; 3],
    count: usize,
}

impl RTreeObject for Simplex {
    type Envelope = AABB<[f64; 3]>;

    fn envelope(&self) -> Self::Envelope {
        AABB::from_points(&self.corners[..self.count])
    }
}

impl PointDistance for Simplex {
    fn distance_2(&self, point: &[f64; 3]) -> f64 {
        let [a, b, c] = self.corners;
        match self.count {
            1 => {
                let v = sub(*point, a);
                dot(v, v)
            }
            2 => segment_distance_2(*point, a, b),
            _ => triangle_distance_2(*point, a, b, c),
        }
    }
}

/// Squared distance from `p` to the segment from `a` to `b`.
fn segment_distance_2(p: [f64; 3], a: [f64; 3], b: [f64; 3]) -> f64 {
    let (u, v) = (sub(b, a), sub(p, a));
    let length_2 = dot(u, u);
    let t = if length_2 > 0.0 { (dot(u, v) / length_2).clamp(0.0, 1.0) } else { 0.0 };
    let w = sub(v, u.map(|x| t * x));
    dot(w, w)
}

/// Squared distance from `p` to the triangle `a b c`.
///
/// The nearest point is inside the triangle or on an edge (Ericson, Real-Time Collision Detection,
/// 2005, section 5.1.5). All candidates are points of the triangle, so that rounding in the test
/// for "inside" cannot give too small a distance, and for slivers, where that test is unreliable,
/// the edges are as near as the inside.
fn triangle_distance_2(p: [f64; 3], a: [f64; 3], b: [f64; 3], c: [f64; 3]) -> f64 {
    let edges = segment_distance_2(p, a, b)
        .min(segment_distance_2(p, b, c))
        .min(segment_distance_2(p, c, a));
    let (u, v, w) = (sub(b, a), sub(c, a), sub(p, a));
    let n = cross(u, v);
    let n_2 = dot(n, n);
    // Barycentric coordinates of the projection.
    let beta = dot(cross(w, v), n) / n_2;
    let gamma = dot(cross(u, w), n) / n_2;
    // Not a number for a triangle without area: the comparison fails.
    if beta >= 0.0 && gamma >= 0.0 && beta + gamma <= 1.0 {
        let q = [0, 1, 2].map(|k| w[k] - beta * u[k] - gamma * v[k]);
        edges.min(dot(q, q))
    } else {
        edges
    }
}

/// A shape prepared for nearest-point queries (an R-tree over its cells).
///
/// ```
/// use keops_shapes::{builtin::icosphere, distance::ShapeTree};
/// let tree = ShapeTree::new(&icosphere(3)?)?; // within 0.01 of the unit sphere
/// let far = tree.distances(ndarray::array![[0.0, 0.0, 5.0], [0.0, -3.0, 4.0]].view());
/// assert!(far?.iter().all(|d| (d - 4.0).abs() < 0.01));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ShapeTree {
    tree: RTree<Simplex>,
    dim: usize,
    /// Coordinates are multiplied by this power of two, so that squares of shapes of any size can be
    /// represented.
    scale: f64,
}

/// A power of two that brings `x` to the size of 1; 1 for 0.
fn scale_of(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (-x.log2()).round().clamp(-1000.0, 1000.0).exp2() }
}

impl ShapeTree {
    /// Prepares a shape: all its cells, or the points of a cloud.
    ///
    /// # Errors
    /// When there is no memory for it.
    ///
    /// ```
    /// use keops_shapes::{builtin::curve_pair, distance::ShapeTree};
    /// let (ellipse, _) = curve_pair(100)?;
    /// let own = ShapeTree::new(&ellipse)?.distances(ellipse.vertices())?;
    /// assert!(own.iter().all(|&d| d == 0.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(shape: &Shape) -> Result<ShapeTree, OutOfMemory> {
        let what = "a tree of cells";
        let scale = scale_of(shape.vertices().fold(0.0, |m: f64, x| m.max(x.abs())));
        let simplex = |corners: &[usize]| Simplex {
            corners: [0, 1, 2]
                .map(|k| shape.point(corners[k.min(corners.len() - 1)]).map(|x| x * scale)),
            count: corners.len(),
        };
        let n = shape.cell_count();
        let mut simplices = memory::room(n, what)?;
        match shape.cells() {
            Cells::Points => simplices.extend((0..n).map(|i| simplex(&[i]))),
            cells => simplices.extend(cells.corners().map(simplex)),
        }
        // The crate that makes the tree does not ask whether there is memory for it: ask for as much
        // and give it back.
        drop(memory::room::<[Simplex; 2]>(n, what)?);
        Ok(ShapeTree { tree: RTree::bulk_load(simplices), dim: shape.dim(), scale })
    }

    /// Distance of each point (rows of `points`, shape (n, d)) to the nearest point of the shape,
    /// exact up to rounding; shape (n). NaN for a point with a coordinate that is not finite.
    ///
    /// # Errors
    /// When the points have another number of coordinates than the shape, or there is no memory.
    ///
    /// ```
    /// use keops_shapes::distance::ShapeTree;
    /// use keops_shapes::shape::{Cells, Shape};
    /// use ndarray::array;
    /// let segment = Shape::new(array![[0.0, 0.0], [2.0, 0.0]], Cells::Segments(vec![[0, 1]]))?;
    /// let tree = ShapeTree::new(&segment)?;
    /// // Beside the segment, and beyond its end.
    /// let found = tree.distances(array![[1.0, 3.0], [5.0, 4.0], [f64::NAN, 0.0]].view())?;
    /// assert_eq!((found[0], found[1], found[2].is_nan()), (3.0, 5.0, true));
    /// assert!(tree.distances(array![[1.0, 3.0, 0.0]].view()).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn distances(&self, points: ArrayView2<'_, f64>) -> Result<Array1<f64>, DistanceError> {
        if points.ncols() != self.dim {
            return Err(DistanceError::Dimension { expected: self.dim, got: points.ncols() });
        }
        let all = points.outer_iter().map(|row| {
            let point = [row[0], row[1], if self.dim == 3 { row[2] } else { 0.0 }];
            if point.iter().any(|x| !x.is_finite()) {
                return f64::NAN;
            }
            let largest = point.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            if largest * self.scale > 1e100 {
                // So far away that the shape is a point, the origin, up to rounding.
                let s = scale_of(largest);
                let p = point.map(|x| x * s);
                return dot(p, p).sqrt() / s;
            }
            let point = point.map(|x| x * self.scale);
            // Not `nearest_neighbor`: its pruning compares bounds of boxes with distances to
            // cells, which for flat boxes can differ by a rounding error and leave nothing.
            let mut nearest = self.tree.nearest_neighbor_iter_with_distance_2(point);
            nearest.next().map_or(f64::NAN, |(_, distance_2)| distance_2.sqrt() / self.scale)
        });
        Ok(memory::collected(all, "distances")?.into())
    }
}

/// Distances of the vertices of one shape to another, in units of the coordinates.
///
/// ```
/// use keops_shapes::distance::distances;
/// use keops_shapes::shape::{Cells, Shape};
/// use ndarray::array;
/// let cloud = Shape::new(array![[0.0, 1.0], [2.0, 3.0]], Cells::Points)?;
/// let segment = Shape::new(array![[0.0, 0.0], [2.0, 0.0]], Cells::Segments(vec![[0, 1]]))?;
/// let from_cloud = distances(&cloud, &segment).unwrap().forward; // 1 and 3
/// assert_eq!((from_cloud.mean, from_cloud.max, from_cloud.p95), (2.0, 3.0, 3.0));
/// assert!((from_cloud.rms - 5f64.sqrt()).abs() < 1e-15);
/// # Ok::<(), keops_shapes::shape::ShapeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OneSided {
    /// Mean over the vertices.
    pub mean: f64,
    /// Root of the mean square.
    pub rms: f64,
    /// 95th percentile (nearest rank).
    pub p95: f64,
    /// Largest: the directed Hausdorff distance from the vertices.
    pub max: f64,
}

impl OneSided {
    fn of(mut distances: Vec<f64>) -> OneSided {
        let n = distances.len() as f64;
        distances.sort_unstable_by(f64::total_cmp);
        let rank = (0.95 * n).ceil() as usize;
        OneSided {
            mean: distances.iter().sum::<f64>() / n,
            rms: (distances.iter().map(|x| x * x).sum::<f64>() / n).sqrt(),
            p95: distances[rank.clamp(1, distances.len()) - 1],
            max: distances[distances.len() - 1],
        }
    }
}

/// Distances between two shapes, vertex to surface (or curve), both ways.
///
/// ```
/// use keops_shapes::distance::{Distances, OneSided};
/// // They are part of the report of a registration, which is written as JSON.
/// let text = r#"{"mean": 1.0, "rms": 1.5, "p95": 2.0, "max": 3.0}"#;
/// let text = format!(r#"{{"forward": {text}, "backward": {text}}}"#);
/// let both: Distances = serde_json::from_str(&text)?;
/// assert_eq!(both.forward, OneSided { mean: 1.0, rms: 1.5, p95: 2.0, max: 3.0 });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Distances {
    /// From the vertices of the first shape to the second.
    pub forward: OneSided,
    /// From the vertices of the second shape to the first.
    pub backward: OneSided,
}

impl Distances {
    /// The larger of the two mean distances.
    ///
    /// ```
    /// use keops_shapes::distance::{Distances, OneSided};
    /// let one = |mean, max| OneSided { mean, rms: mean, p95: max, max };
    /// let both = Distances { forward: one(0.5, 4.0), backward: one(1.0, 2.0) };
    /// assert_eq!(both.mean(), 1.0);
    /// ```
    pub fn mean(&self) -> f64 {
        self.forward.mean.max(self.backward.mean)
    }

    /// The larger of the two largest distances: the Hausdorff distance, measured from the vertices.
    ///
    /// ```
    /// use keops_shapes::distance::{Distances, OneSided};
    /// let one = |mean, max| OneSided { mean, rms: mean, p95: max, max };
    /// let both = Distances { forward: one(0.5, 4.0), backward: one(1.0, 2.0) };
    /// assert_eq!(both.hausdorff(), 4.0);
    /// ```
    pub fn hausdorff(&self) -> f64 {
        self.forward.max.max(self.backward.max)
    }
}

/// Distances between two shapes of the same dimension, each vertex to the nearest point of the
/// other shape's cells. Vertices that no cell uses do not count.
///
/// # Errors
/// When one shape is planar and the other spatial, or there is no memory.
///
/// ```
/// use keops_shapes::{builtin::closed_curve, distance::distances};
/// let circle = |radius: f64| closed_curve(200, move |t| [radius * t.cos(), radius * t.sin()]);
/// let gap = distances(&circle(1.0)?, &circle(1.5)?).unwrap();
/// assert!((gap.mean() - 0.5).abs() < 1e-3 && (gap.hausdorff() - 0.5).abs() < 1e-3);
/// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
/// ```
pub fn distances(first: &Shape, second: &Shape) -> Result<Distances, DistanceError> {
    Ok(distances_with_values(first, second)?.0)
}

/// As [`distances`], and the distance of every vertex of the first shape to the second.
pub(crate) fn distances_with_values(
    first: &Shape,
    second: &Shape,
) -> Result<(Distances, Vec<f64>), DistanceError> {
    if first.dim() != second.dim() {
        return Err(DistanceError::Dimension { expected: first.dim(), got: second.dim() });
    }
    let one_sided = |from: &Shape, to: &Shape| -> Result<(OneSided, Vec<f64>), DistanceError> {
        let all = ShapeTree::new(to)?.distances(from.vertices())?;
        let used = from.referenced()?;
        let mut counted = memory::room(all.len(), "distances")?;
        counted.extend(all.iter().zip(used).filter(|(_, used)| *used).map(|(&d, _)| d));
        Ok((OneSided::of(counted), all.into_raw_vec_and_offset().0))
    };
    let (forward, values) = one_sided(first, second)?;
    let (backward, _) = one_sided(second, first)?;
    Ok((Distances { forward, backward }, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};
    use proptest::prelude::*;

    /// Nearest point of a triangle or segment by dense sampling of its barycentric coordinates:
    /// an upper bound that is `step` times the longest edge from the truth.
    fn sampled(p: [f64; 3], corners: &[[f64; 3]], steps: usize) -> f64 {
        let mut best = f64::INFINITY;
        for i in 0..=steps {
            for j in 0..=(steps - i) {
                let (s, t) = (i as f64 / steps as f64, j as f64 / steps as f64);
                let c = corners.get(2).unwrap_or(&corners[0]);
                let q = [0, 1, 2]
                    .map(|k| (1.0 - s - t) * corners[0][k] + s * corners[1][k] + t * c[k] - p[k]);
                best = best.min(dot(q, q).sqrt());
            }
        }
        best
    }

    fn point() -> impl Strategy<Value = [f64; 3]> {
        [-2.0..2.0, -2.0..2.0, -2.0..2.0]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn cells_against_sampling(
            p in point(), a in point(), b in point(), c in point(), flat in 0_usize..4
        ) {
            // Slivers and needles beside proper triangles.
            let squeeze = [1.0, 1e-6, 1e-12, 0.0][flat];
            let c = [0, 1, 2].map(|k| a[k] + 0.3 * (b[k] - a[k]) + squeeze * (c[k] - a[k]));
            let exact = triangle_distance_2(p, a, b, c).sqrt();
            let bound = sampled(p, &[a, b, c], 200);
            prop_assert!(exact <= bound + 1e-12 && bound - exact < 0.05, "{exact} {bound}");
            let exact = segment_distance_2(p, a, b).sqrt();
            let bound = sampled(p, &[a, b], 200);
            prop_assert!(exact <= bound + 1e-12 && bound - exact < 0.05, "{exact} {bound}");
        }

        /// The tree against all cells in turn.
        #[test]
        fn tree_against_brute_force(
            vertices in prop::collection::vec(point(), 3..60),
            cells in prop::collection::vec([any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()], 1..90),
            queries in prop::collection::vec(point(), 1..20),
            kind in 0..3,
        ) {
            let n = vertices.len();
            let triples = cells.iter().map(|c| [c[0].index(n), c[1].index(n), c[2].index(n)]);
            let cells = match kind {
                0 => Cells::Points,
                1 => Cells::Segments(triples.map(|[a, b, _]| [a, b]).collect()),
                _ => Cells::Triangles(triples.collect()),
            };
            let array = |rows: &[[f64; 3]]| Array2::from(rows.to_vec());
            let shape = Shape::new(array(&vertices), cells).unwrap();
            let found = ShapeTree::new(&shape).unwrap().distances(array(&queries).view()).unwrap();
            for (p, found) in queries.iter().zip(found) {
                let all: Vec<f64> = match shape.cells() {
                    Cells::Points => vertices.iter().map(|&a| segment_distance_2(*p, a, a)).collect(),
                    cells => cells.corners().map(|c| match *c {
                        [a, b] => segment_distance_2(*p, vertices[a], vertices[b]),
                        [a, b, c] => triangle_distance_2(*p, vertices[a], vertices[b], vertices[c]),
                        _ => unreachable!(),
                    }).collect(),
                };
                let expected = all.into_iter().fold(f64::INFINITY, f64::min).sqrt();
                // The bounds of the boxes are rounded as well.
                prop_assert!((found - expected).abs() <= 1e-14 * expected, "{found} {expected}");
            }
        }
    }

    #[test]
    fn every_region_of_a_triangle() {
        let (a, b, c) = ([0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 3.0, 0.0]);
        for (p, expected) in [
            ([1.0, 1.0, 2.0], 2.0),               // inside
            ([-3.0, -4.0, 0.0], 5.0),             // corner a
            ([7.0, -4.0, 0.0], 5.0),              // corner b
            ([-3.0, 7.0, 0.0], 5.0),              // corner c
            ([2.0, -3.0, 4.0], 5.0),              // edge a b
            ([-4.0, 1.0, 3.0], 5.0),              // edge a c
            ([2.0 + 3.0, 1.5 + 4.0, 12.0], 13.0), // edge b c, whose normal is (3, 4)/5
            ([1.0, 1.0, 0.0], 0.0),               // on it
        ] {
            let found = triangle_distance_2(p, a, b, c).sqrt();
            assert!((found - expected).abs() < 1e-14, "{p:?}: {found} {expected}");
        }
    }

    #[test]
    fn two_squares() {
        // A square and the same with another size, as closed curves: every vertex of the inner one
        // is 1 from the outer one, the outer corners are √2 from the inner one.
        let square = |r: f64| {
            let v = array![[-r, -r], [r, -r], [r, r], [-r, r], [9.0, 9.0]];
            Shape::new(v, Cells::Segments(vec![[0, 1], [1, 2], [2, 3], [3, 0]])).unwrap()
        };
        let d = distances(&square(1.0), &square(2.0)).unwrap();
        assert_eq!(
            (d.forward.mean, d.forward.rms, d.forward.p95, d.forward.max),
            (1.0, 1.0, 1.0, 1.0)
        );
        assert_eq!((d.backward.mean, d.backward.max), (2f64.sqrt(), 2f64.sqrt()));
        assert_eq!((d.mean(), d.hausdorff()), (2f64.sqrt(), 2f64.sqrt()));
        let error = distances(&square(1.0), &square(1.0).to_spatial().unwrap());
        assert_eq!(error, Err(DistanceError::Dimension { expected: 2, got: 3 }));
        let tree = ShapeTree::new(&square(1.0)).unwrap();
        let found =
            tree.distances(array![[f64::NAN, 0.0], [f64::INFINITY, 0.0], [0.0, 3.0]].view());
        let found = found.unwrap();
        assert!(found[0].is_nan() && found[1].is_nan() && found[2] == 2.0);
        assert_eq!(tree.distances(Array2::zeros((0, 2)).view()).unwrap().len(), 0);
        assert!(tree.distances(Array2::zeros((1, 3)).view()).is_err());
    }

    /// Scaled by a power of two, everything scales.
    #[test]
    fn distances_have_no_unit() {
        for exponent in [-900, -600, 100] {
            let scale = 2f64.powi(exponent);
            let v = array![[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]] * scale;
            let curve = Shape::new(v, Cells::Segments(vec![[0, 1], [1, 2]])).unwrap();
            let tree = ShapeTree::new(&curve).unwrap();
            let points = array![[0.0, 1.0], [-3.0, -4.0], [1.0, -2.0]] * scale;
            // The line through (3, 0) and (0, 4) is 4 x + 3 y = 12; (0, 0) is nearer to (0, 1).
            assert_eq!(tree.distances(points.view()).unwrap(), array![1.0, 5.0, 2.0] * scale);
        }
        let tiny = Shape::new(array![[1e-200, 0.0]], Cells::Points).unwrap();
        let far = ShapeTree::new(&tiny).unwrap().distances(array![[3e50, 4e50]].view()).unwrap();
        assert!((far[0] / 5e50 - 1.0).abs() < 1e-15);
    }

    #[test]
    fn percentile_is_the_nearest_rank() {
        let s = OneSided::of((1..=20).map(f64::from).rev().collect());
        assert_eq!((s.mean, s.p95, s.max), (10.5, 19.0, 20.0));
        assert_eq!(OneSided::of(vec![3.0]).p95, 3.0);
    }
}
