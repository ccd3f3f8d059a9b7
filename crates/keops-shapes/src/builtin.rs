//! Shapes made by formulas, for demonstrations and tests.

use std::collections::HashMap;
use std::f64::consts::{PI, TAU};

use ndarray::Array2;

use crate::shape::{Cells, Shape, ShapeError};

/// Why a built-in shape cannot be made.
///
/// ```
/// use keops_shapes::builtin::{BuiltinError, icosphere};
/// let e = icosphere(12).unwrap_err();
/// assert!(matches!(e, BuiltinError::Resolution { most: 9, got: 12, .. }));
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuiltinError {
    /// The resolution is too small for the shape or too large for memory.
    #[error("{what} must be between {least} and {most}, got {got}")]
    Resolution {
        /// What was asked for.
        what: &'static str,
        /// Smallest value.
        least: usize,
        /// Largest value.
        most: usize,
        /// The value given.
        got: usize,
    },
    /// The coordinates are not acceptable.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

fn within(
    what: &'static str,
    least: usize,
    most: usize,
    got: usize,
) -> Result<usize, BuiltinError> {
    if (least..=most).contains(&got) {
        Ok(got)
    } else {
        Err(BuiltinError::Resolution { what, least, most, got })
    }
}

/// A closed planar curve through `n` points at equal parameters t in [0, 2π), counter-clockwise
/// when `curve` is: n vertices and n segments.
///
/// # Errors
/// When `n` is not in 3..=10⁷ or a coordinate is not acceptable.
///
/// ```
/// use keops_shapes::builtin::closed_curve;
/// let circle = closed_curve(6, |t| [t.cos(), t.sin()])?; // a hexagon with sides of length 1
/// assert!((circle.geometry().unwrap().measures.sum() - 6.0).abs() < 1e-12);
/// assert_eq!(
///     closed_curve(2, |t| [t, 0.0]).unwrap_err().to_string(),
///     "the number of points of a closed curve must be between 3 and 10000000, got 2"
/// );
/// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
/// ```
pub fn closed_curve(n: usize, curve: impl Fn(f64) -> [f64; 2]) -> Result<Shape, BuiltinError> {
    within("the number of points of a closed curve", 3, 10_000_000, n)?;
    let mut vertices = Array2::zeros((n, 2));
    for (i, mut row) in vertices.outer_iter_mut().enumerate() {
        let [x, y] = curve(TAU * i as f64 / n as f64);
        (row[0], row[1]) = (x, y);
    }
    let segments = (0..n).map(|i| [i, (i + 1) % n]).collect();
    Ok(Shape::new(vertices, Cells::Segments(segments))?)
}

/// A pair of closed planar curves for a demonstration: an ellipse with half-axes 1.2 and 0.8 and a
/// three-lobed bean, `n` points each, counter-clockwise, about 2.5 units wide.
///
/// # Errors
/// When `n` is not in 3..=10⁷.
///
/// ```
/// use keops_shapes::builtin::curve_pair;
/// let (ellipse, bean) = curve_pair(100)?;
/// assert_eq!(ellipse.cells(), bean.cells());
/// let (low, high) = ellipse.bounding_box();
/// assert!((high[0] - 1.2).abs() < 1e-12 && (low[1] + 0.8).abs() < 1e-12);
/// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
/// ```
pub fn curve_pair(n: usize) -> Result<(Shape, Shape), BuiltinError> {
    let ellipse = closed_curve(n, |t| [1.2 * t.cos(), 0.8 * t.sin()])?;
    let bean = closed_curve(n, |t| {
        // A slowly varying radius with a dent below and two bumps.
        let r = 1.0 + 0.25 * (2.0 * t + 0.4).cos() + 0.18 * (3.0 * t - 0.5 * PI).cos();
        [0.15 + r * t.cos(), 0.1 + 0.9 * r * t.sin()]
    })?;
    Ok((ellipse, bean))
}

/// The lines of a planar grid over the box from `low` to `high`: `lines` lines along each axis,
/// each of `points` points, to be carried by a deformation and drawn.
///
/// # Errors
/// When `lines` is not in 2..=1000, `points` not in 2..=10000, or a corner is not acceptable.
///
/// ```
/// use keops_shapes::builtin::grid_lines;
/// let grid = grid_lines([0.0, 0.0], [4.0, 1.0], 3, 5)?; // three lines along each axis
/// let counts = grid.counts().unwrap();
/// assert_eq!((counts.vertices, counts.cells), (2 * 3 * 5, 2 * 3 * 4));
/// assert_eq!(grid.geometry().unwrap().measures.sum(), 3.0 * 4.0 + 3.0 * 1.0);
/// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
/// ```
pub fn grid_lines(
    low: [f64; 2],
    high: [f64; 2],
    lines: usize,
    points: usize,
) -> Result<Shape, BuiltinError> {
    within("the number of grid lines", 2, 1000, lines)?;
    within("the number of points of a grid line", 2, 10_000, points)?;
    let at = |k: usize, i: usize, n: usize| {
        let t = i as f64 / (n - 1) as f64;
        (1.0 - t) * low[k] + t * high[k]
    };
    let mut vertices = Vec::with_capacity(2 * lines * points);
    let mut segments = Vec::with_capacity(2 * lines * (points - 1));
    for axis in 0..2 {
        for line in 0..lines {
            for i in 0..points {
                let (along, across) = (at(axis, i, points), at(1 - axis, line, lines));
                if i > 0 {
                    segments.push([vertices.len() - 1, vertices.len()]);
                }
                vertices.push(if axis == 0 { [along, across] } else { [across, along] });
            }
        }
    }
    Ok(Shape::new(Array2::from(vertices), Cells::Segments(segments))?)
}

/// The unit sphere as an icosahedron whose triangles are split in four `level` times:
/// 10·4^level + 2 vertices on the sphere, 20·4^level triangles, normals outwards.
///
/// # Errors
/// When `level` is more than 9 (2.6 million vertices).
///
/// ```
/// use keops_shapes::builtin::icosphere;
/// let counts = icosphere(2)?.counts().unwrap();
/// assert_eq!((counts.vertices, counts.cells, counts.boundary), (162, 320, 0));
/// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
/// ```
pub fn icosphere(level: usize) -> Result<Shape, BuiltinError> {
    within("the subdivision level of an icosphere", 0, 9, level)?;
    let g = (1.0 + 5f64.sqrt()) / 2.0;
    let unit = |v: [f64; 3]| {
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        v.map(|x| x / norm)
    };
    let corners = [
        [-1.0, g, 0.0],
        [1.0, g, 0.0],
        [-1.0, -g, 0.0],
        [1.0, -g, 0.0],
        [0.0, -1.0, g],
        [0.0, 1.0, g],
        [0.0, -1.0, -g],
        [0.0, 1.0, -g],
        [g, 0.0, -1.0],
        [g, 0.0, 1.0],
        [-g, 0.0, -1.0],
        [-g, 0.0, 1.0],
    ];
    let mut vertices: Vec<[f64; 3]> = corners.map(unit).to_vec();
    let mut triangles: Vec<[usize; 3]> = vec![
        [0, 11, 5],
        [0, 5, 1],
        [0, 1, 7],
        [0, 7, 10],
        [0, 10, 11],
        [1, 5, 9],
        [5, 11, 4],
        [11, 10, 2],
        [10, 7, 6],
        [7, 1, 8],
        [3, 9, 4],
        [3, 4, 2],
        [3, 2, 6],
        [3, 6, 8],
        [3, 8, 9],
        [4, 9, 5],
        [2, 4, 11],
        [6, 2, 10],
        [8, 6, 7],
        [9, 8, 1],
    ];
    for _ in 0..level {
        let mut middles: HashMap<(usize, usize), usize> = HashMap::new();
        let mut middle = |a: usize, b: usize| {
            *middles.entry((a.min(b), a.max(b))).or_insert_with(|| {
                let (a, b) = (vertices[a], vertices[b]);
                vertices.push(unit([a[0] + b[0], a[1] + b[1], a[2] + b[2]]));
                vertices.len() - 1
            })
        };
        triangles = triangles
            .iter()
            .flat_map(|&[a, b, c]| {
                let (ab, bc, ca) = (middle(a, b), middle(b, c), middle(c, a));
                [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
            })
            .collect();
    }
    Ok(Shape::new(Array2::from(vertices), Cells::Triangles(triangles))?)
}

/// A pair of closed surfaces for a demonstration: an ellipsoid with half-axes 2, 0.8 and 0.6, and a
/// rounder one bent along its length, like the hippocampi of the literature; 10·4^level + 2
/// vertices each, in correspondence.
///
/// # Errors
/// When `level` is more than 9.
///
/// ```
/// use keops_shapes::builtin::surface_pair;
/// let (ellipsoid, bent) = surface_pair(1)?;
/// assert_eq!(ellipsoid.cells(), bent.cells());
/// let (low, high) = ellipsoid.bounding_box();
/// assert!(high[0] - low[0] > 3.0 && high[2] - low[2] <= 1.2);
/// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
/// ```
pub fn surface_pair(level: usize) -> Result<(Shape, Shape), BuiltinError> {
    let sphere = icosphere(level)?;
    let map = |f: fn([f64; 3]) -> [f64; 3]| {
        let mut vertices = sphere.vertices().to_owned();
        for mut row in vertices.outer_iter_mut() {
            let moved = f([row[0], row[1], row[2]]);
            (0..3).for_each(|k| row[k] = moved[k]);
        }
        sphere.with_vertices(vertices)
    };
    let ellipsoid = map(|[x, y, z]| [2.0 * x, 0.8 * y, 0.6 * z])?;
    let bent = map(|[x, y, z]| {
        // The long axis becomes an arc of curvature 0.45; the right end is thicker.
        let (s, thick) = (1.9 * x, 0.8 + 0.2 * x);
        let (angle, radius) = (0.45 * s, 1.0 / 0.45);
        let out = radius + 0.85 * thick * y;
        [out * angle.sin(), out * angle.cos() - radius - 0.25, 0.75 * thick * z]
    })?;
    Ok((ellipsoid, bent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Axis;

    /// Twice the signed area of a closed curve.
    fn signed_area(curve: &Shape) -> f64 {
        let v = curve.vertices();
        let corners = curve.cells().corners();
        corners.map(|c| v[[c[0], 0]] * v[[c[1], 1]] - v[[c[1], 0]] * v[[c[0], 1]]).sum::<f64>()
    }

    fn volume(surface: &Shape) -> f64 {
        let g = surface.geometry().unwrap();
        (&g.centres * &g.normals.unwrap()).sum() / 3.0
    }

    #[test]
    fn curves_are_closed_simple_and_counter_clockwise() {
        let (ellipse, bean) = curve_pair(400).unwrap();
        for curve in [&ellipse, &bean] {
            let counts = curve.counts().unwrap();
            assert_eq!((counts.vertices, counts.edges, counts.boundary), (400, 400, 0));
            assert!(signed_area(curve) > 0.0);
            // No two segments cross: with v the vertices, orientations tell.
            let v = curve.vertices();
            let side = |a: usize, b: usize, c: usize| {
                let d = |i: usize, k: usize| v[[i, k]] - v[[a, k]];
                d(b, 0) * d(c, 1) - d(b, 1) * d(c, 0)
            };
            let Cells::Segments(s) = curve.cells() else { unreachable!() };
            for (i, &[a, b]) in s.iter().enumerate() {
                for &[c, d] in &s[i + 1..] {
                    if a != d && b != c {
                        let crossing = side(a, b, c) * side(a, b, d) < 0.0
                            && side(c, d, a) * side(c, d, b) < 0.0;
                        assert!(!crossing, "{a} {b} {c} {d}");
                    }
                }
            }
        }
        // The inscribed polygon of an ellipse has the area ½ n a b sin(2π/n).
        let exact = 0.5 * 400.0 * 1.2 * 0.8 * (TAU / 400.0).sin();
        assert!((0.5 * signed_area(&ellipse) - exact).abs() < 1e-13);
    }

    #[test]
    fn spheres_and_their_images_are_closed_and_outward() {
        for level in 0..4 {
            let sphere = icosphere(level).unwrap();
            let counts = sphere.counts().unwrap();
            assert_eq!(counts.vertices, 10 * 4_usize.pow(level as u32) + 2);
            assert_eq!(counts.cells, 20 * 4_usize.pow(level as u32));
            assert_eq!((counts.boundary, counts.euler), (0, 2));
            let radii = sphere.vertices().map_axis(Axis(1), |v| v.dot(&v).sqrt());
            assert!(radii.iter().all(|r| (r - 1.0).abs() < 1e-15));
            let g = sphere.geometry().unwrap();
            let outward = (&g.centres * &g.normals.unwrap()).sum_axis(Axis(1));
            assert!(outward.iter().all(|&x| x > 0.0));
        }
        // The icosahedron inscribed in the unit sphere: V = (5/12)(3+√5) a³ with edge
        // a = 4/√(10+2√5).
        let a = 4.0 / (10.0 + 2.0 * 5f64.sqrt()).sqrt();
        let exact = 5.0 / 12.0 * (3.0 + 5f64.sqrt()) * a.powi(3);
        assert!((volume(&icosphere(0).unwrap()) - exact).abs() < 1e-14);
        let (ellipsoid, bent) = surface_pair(4).unwrap();
        let exact = 4.0 / 3.0 * PI * 2.0 * 0.8 * 0.6;
        assert!((volume(&ellipsoid) / exact - 1.0).abs() < 5e-3);
        assert!(volume(&bent) > 2.0, "{}", volume(&bent));
        assert_eq!(bent.cells(), ellipsoid.cells());
    }

    #[test]
    fn grid_lines_span_the_box() {
        let grid = grid_lines([-1.0, 0.0], [3.0, 2.0], 3, 5).unwrap();
        assert_eq!((grid.vertex_count(), grid.cell_count()), (30, 24));
        let (low, high) = grid.bounding_box();
        assert_eq!((low.to_vec(), high.to_vec()), (vec![-1.0, 0.0], vec![3.0, 2.0]));
        // Three lines of length 4 and three of length 2, horizontal or vertical.
        let g = grid.geometry().unwrap();
        assert!((g.measures.sum() - 18.0).abs() < 1e-14);
        assert!(g.normals.unwrap().outer_iter().all(|t| t[0] == 0.0 || t[1] == 0.0));
        assert!(grid_lines([0.0; 2], [f64::NAN; 2], 3, 5).is_err());
        assert!(grid_lines([0.0; 2], [1.0; 2], 1, 5).is_err());
    }

    #[test]
    fn absurd_resolutions_are_refused() {
        assert!(curve_pair(2).is_err() && curve_pair(usize::MAX).is_err());
        let error = surface_pair(10).unwrap_err().to_string();
        assert_eq!(error, "the subdivision level of an icosphere must be between 0 and 9, got 10");
        assert!(closed_curve(3, |t| [t, f64::NAN]).is_err());
    }
}
