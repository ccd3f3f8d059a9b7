//! From shapes to the plane of a picture: cameras, hidden surfaces, colours.

use crate::linear::symmetric_eigen;
use crate::shape::{Cells, Shape, cross, dot, sub};

/// An orthographic camera: an orthonormal frame (right, up, towards the viewer).
pub(super) struct Camera([[f64; 3]; 3]);

impl Camera {
    /// The camera that shows a planar shape as it is, and a spatial one so that its largest extent
    /// is horizontal and its smallest points to the viewer (principal axes), turned by 25° and
    /// tilted by 20° for depth.
    pub fn facing(shape: &Shape) -> Camera {
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        if shape.dim() == 2 {
            return Camera(axes);
        }
        let n = shape.vertex_count() as f64;
        let points = || (0..shape.vertex_count()).map(|i| shape.point(i));
        let mean = points().fold([0.0; 3], |m, p| [0, 1, 2].map(|k| m[k] + p[k] / n));
        let mut covariance = [[0.0; 3]; 3];
        for p in points() {
            let v = sub(p, mean);
            for (i, row) in covariance.iter_mut().enumerate() {
                for (j, c) in row.iter_mut().enumerate() {
                    *c += v[i] * v[j] / n;
                }
            }
        }
        let (values, vectors) = symmetric_eigen(covariance);
        let mut order = [0, 1, 2];
        order.sort_by(|&i, &j| values[j].total_cmp(&values[i]));
        // Of the two signs of an axis, the one whose largest component is positive: pictures of
        // similar shapes agree.
        let axis = |i: usize| {
            let v = vectors[order[i]];
            let largest =
                v.iter().copied().fold(0.0, |m: f64, x| if x.abs() > m.abs() { x } else { m });
            if largest < 0.0 { v.map(|x| -x) } else { v }
        };
        let (e1, e2) = (axis(0), axis(1));
        let e3 = cross(e1, e2);
        let mix = |a: [f64; 3], s: f64, b: [f64; 3], t: f64| [0, 1, 2].map(|k| s * a[k] + t * b[k]);
        let (turn, tilt) = (25f64.to_radians(), 20f64.to_radians());
        let right = mix(e1, turn.cos(), e3, -turn.sin());
        let level = mix(e1, turn.sin(), e3, turn.cos());
        let up = mix(e2, tilt.cos(), level, -tilt.sin());
        let towards = mix(e2, tilt.sin(), level, tilt.cos());
        Camera([right, up, towards])
    }

    /// Right, up and depth (larger is nearer) of a point or direction.
    pub fn see(&self, p: [f64; 3]) -> [f64; 3] {
        self.0.map(|axis| dot(axis, p))
    }
}

/// A red, green, blue colour, each from 0 to 1.
pub(super) type Colour = [f64; 3];

/// `#rrggbb`.
pub(super) fn hex(colour: Colour) -> String {
    let byte = |x: f64| (x.clamp(0.0, 1.0) * 255.0).round() as u8;
    format!("#{:02x}{:02x}{:02x}", byte(colour[0]), byte(colour[1]), byte(colour[2]))
}

/// Colour of a distance from 0 (light) to 1 (dark): matplotlib's magma (CC0) from 0.9 down to 0.15,
/// perceptually uniform and readable in grey.
pub(super) fn distance_colour(t: f64) -> Colour {
    const STOPS: [Colour; 7] = [
        [0.9957, 0.8127, 0.5726],
        [0.9916, 0.5801, 0.4024],
        [0.9298, 0.3527, 0.3727],
        [0.7547, 0.2288, 0.4625],
        [0.5503, 0.1612, 0.5057],
        [0.3538, 0.0854, 0.4955],
        [0.1468, 0.0687, 0.3340],
    ];
    let x = t.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let i = (x as usize).min(STOPS.len() - 2);
    let f = x - i as f64;
    [0, 1, 2].map(|k| (1.0 - f) * STOPS[i][k] + f * STOPS[i + 1][k])
}

/// A triangle ready to be painted.
pub(super) struct Face {
    /// Corners in the picture.
    pub corners: [[f64; 2]; 3],
    /// The cell it comes from.
    pub cell: usize,
    /// Brightness from 0 to 1.
    pub light: f64,
}

/// A surface seen by a camera: which triangles are visible, from far to near.
pub(super) struct Visible {
    pub faces: Vec<Face>,
    depth: DepthBuffer,
}

/// Picture elements per unit of the picture; triangles smaller than one are left out, which bounds
/// the size of the picture whatever the size of the mesh.
const RESOLUTION: f64 = 2.0;

impl Visible {
    /// `seen` are the vertices in the picture (x, y downwards, depth towards the viewer).
    pub fn new(seen: &[[f64; 3]], triangles: &[[usize; 3]], width: f64, height: f64) -> Visible {
        let mut depth = DepthBuffer::new(width, height);
        for (i, t) in triangles.iter().enumerate() {
            depth.draw(i, t.map(|k| seen[k]));
        }
        let mut shown = vec![false; triangles.len()];
        for &owner in depth.owners.iter().filter(|&&owner| owner != usize::MAX) {
            shown[owner] = true;
        }
        let key = |t: &[usize; 3]| t.iter().map(|&k| seen[k][2]).sum::<f64>();
        let mut order: Vec<usize> = (0..triangles.len()).filter(|&i| shown[i]).collect();
        order.sort_by(|&i, &j| key(&triangles[i]).total_cmp(&key(&triangles[j])));
        let faces = order
            .into_iter()
            .map(|cell| {
                let [a, b, c] = triangles[cell].map(|k| seen[k]);
                Face { corners: [a, b, c].map(|p| [p[0], p[1]]), cell, light: light(a, b, c) }
            })
            .collect();
        Visible { faces, depth }
    }

    /// Contours: the edges where the surface turns away from the viewer, or ends, as far as the
    /// surface itself does not hide them.
    pub fn contours(&self, seen: &[[f64; 3]], triangles: &[[usize; 3]]) -> Vec<[[f64; 2]; 2]> {
        let mut sides: Vec<(usize, usize, bool)> = Vec::with_capacity(3 * triangles.len());
        for &[a, b, c] in triangles {
            let (u, v) = (sub(seen[b], seen[a]), sub(seen[c], seen[a]));
            let front = u[0] * v[1] - u[1] * v[0] > 0.0;
            for (i, j) in [(a, b), (b, c), (c, a)] {
                sides.push((i.min(j), i.max(j), front));
            }
        }
        sides.sort_unstable();
        sides
            .chunk_by(|x, y| (x.0, x.1) == (y.0, y.1))
            .filter(|same| same.len() == 1 || same.iter().any(|s| s.2 != same[0].2))
            .map(|same| [seen[same[0].0], seen[same[0].1]])
            .filter(|&[a, b]| self.depth.shows([0, 1, 2].map(|k| 0.5 * (a[k] + b[k]))))
            .map(|[a, b]| [[a[0], a[1]], [b[0], b[1]]])
            .collect()
    }
}

/// Lambert's law with a main light from above left and a weak one from the right, both sides lit.
fn light(a: [f64; 3], b: [f64; 3], c: [f64; 3]) -> f64 {
    // y points down in the picture: mirrored back.
    let up = |p: [f64; 3]| [p[0], -p[1], p[2]];
    let n = cross(sub(up(b), up(a)), sub(up(c), up(a)));
    let length = dot(n, n).sqrt();
    if length == 0.0 {
        return 1.0;
    }
    let n = n.map(|x| x / if n[2] < 0.0 { -length } else { length });
    let main = dot(n, [-0.43, 0.56, 0.71]).max(0.0);
    let fill = dot(n, [0.85, 0.1, 0.52]).max(0.0);
    (0.44 + 0.54 * main + 0.14 * fill).min(1.0)
}

/// For each picture element the nearest triangle.
struct DepthBuffer {
    columns: usize,
    rows: usize,
    depths: Vec<f64>,
    owners: Vec<usize>,
}

impl DepthBuffer {
    fn new(width: f64, height: f64) -> DepthBuffer {
        let columns = (width * RESOLUTION).ceil() as usize;
        let rows = (height * RESOLUTION).ceil() as usize;
        let size = columns * rows;
        let (depths, owners) = (vec![f64::NEG_INFINITY; size], vec![usize::MAX; size]);
        DepthBuffer { columns, rows, depths, owners }
    }

    fn draw(&mut self, owner: usize, corners: [[f64; 3]; 3]) {
        let [a, b, c] = corners.map(|p| [p[0] * RESOLUTION, p[1] * RESOLUTION, p[2]]);
        let area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
        if area == 0.0 {
            return;
        }
        let span = |k: usize, size: usize| {
            let low = a[k].min(b[k]).min(c[k]).floor().max(0.0) as usize;
            let high = a[k].max(b[k]).max(c[k]).ceil().max(0.0) as usize;
            low..high.min(size)
        };
        for row in span(1, self.rows) {
            for column in span(0, self.columns) {
                let (x, y) = (column as f64 + 0.5, row as f64 + 0.5);
                let v = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / area;
                let w = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / area;
                if v < 0.0 || w < 0.0 || v + w > 1.0 {
                    continue;
                }
                let depth = a[2] + v * (b[2] - a[2]) + w * (c[2] - a[2]);
                let at = row * self.columns + column;
                if depth > self.depths[at] {
                    self.depths[at] = depth;
                    self.owners[at] = owner;
                }
            }
        }
    }

    /// Whether the surface leaves a point in sight, at it or beside it: depth is steep along a
    /// contour. Depth has the unit of the picture.
    fn shows(&self, p: [f64; 3]) -> bool {
        let at = |x: f64| (x * RESOLUTION).max(0.0) as usize;
        let around = |i: usize, size: usize| i.saturating_sub(2)..(i + 3).min(size);
        let (column, row) = (at(p[0]), at(p[1]));
        if column >= self.columns || row >= self.rows {
            return true;
        }
        let mut near = around(row, self.rows)
            .flat_map(|row| around(column, self.columns).map(move |c| row * self.columns + c));
        near.any(|at| self.depths[at] <= p[2] + 2.0 / RESOLUTION)
    }
}

/// The segments of a curve chained into paths of vertices; closed paths end where they begin.
pub(super) fn chains(segments: &[[usize; 2]]) -> Vec<Vec<usize>> {
    let mut paths: Vec<Vec<usize>> = Vec::new();
    for &[a, b] in segments {
        match paths.last_mut() {
            Some(path) if path.last() == Some(&a) => path.push(b),
            _ => paths.push(vec![a, b]),
        }
    }
    paths
}

/// The triangles of a surface, else none.
pub(super) fn triangles(shape: &Shape) -> &[[usize; 3]] {
    match shape.cells() {
        Cells::Triangles(t) => t,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    #[test]
    fn eigenvectors_of_a_rotated_diagonal() {
        // A = R diag(9, 4, 1) Rᵀ with R about (1, 1, 1).
        let c = 1.0 / 3.0;
        let r = [[2.0 * c, -c, 2.0 * c], [2.0 * c, 2.0 * c, -c], [-c, 2.0 * c, 2.0 * c]];
        let d = [9.0, 4.0, 1.0];
        let mut a = [[0.0; 3]; 3];
        for (i, row) in a.iter_mut().enumerate() {
            for (j, x) in row.iter_mut().enumerate() {
                *x = (0..3).map(|k| r[i][k] * d[k] * r[j][k]).sum();
            }
        }
        let (values, vectors) = symmetric_eigen(a);
        for (value, vector) in values.iter().zip(vectors) {
            let k = d.iter().position(|x| (x - value).abs() < 1e-13).unwrap();
            let along: f64 = (0..3).map(|i| r[i][k] * vector[i]).sum();
            assert!((along.abs() - 1.0).abs() < 1e-13);
        }
    }

    #[test]
    fn cameras_are_rotations_that_show_the_long_axis() {
        let (_, bent) = builtin::surface_pair(2).unwrap();
        let camera = Camera::facing(&bent);
        for i in 0..3 {
            for j in 0..3 {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((dot(camera.0[i], camera.0[j]) - expected).abs() < 1e-13);
            }
        }
        assert!((dot(cross(camera.0[0], camera.0[1]), camera.0[2]) - 1.0).abs() < 1e-13);
        let seen: Vec<_> = (0..bent.vertex_count()).map(|i| camera.see(bent.point(i))).collect();
        let extent = |k: usize| {
            let all = || seen.iter().map(|p| p[k]);
            all().fold(f64::MIN, f64::max) - all().fold(f64::MAX, f64::min)
        };
        assert!(extent(0) > extent(1) && extent(0) > extent(2));
    }

    #[test]
    fn hidden_faces_are_left_out() {
        // Two parallel squares, the second nearer and smaller, and a speck.
        let square = |r: f64, z: f64| {
            [[-r, -r], [r, -r], [r, r], [-r, r]].map(|[x, y]| [50.0 + x, 50.0 + y, z])
        };
        let mut seen = [square(20.0, 0.0), square(30.0, 5.0)].concat();
        seen.extend([[10.0, 10.0, 9.0], [10.1, 10.0, 9.0], [10.0, 10.1, 9.0]]);
        let triangles = [[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7], [8, 9, 10]];
        let visible = Visible::new(&seen, &triangles, 100.0, 100.0);
        let cells: Vec<usize> = visible.faces.iter().map(|f| f.cell).collect();
        assert_eq!(cells, [2, 3]);
        // The outline of the near square only: its 4 edges (the speck's edges are contours too).
        let contours = visible.contours(&seen, &triangles);
        let long = contours.iter().filter(|[a, b]| (a[0] - b[0]).hypot(a[1] - b[1]) > 50.0);
        assert_eq!(long.count(), 4);
        // From the other side both are seen, far first.
        let turned: Vec<_> = seen.iter().map(|p| [p[0], p[1], -p[2]]).collect();
        let visible = Visible::new(&turned, &triangles, 100.0, 100.0);
        let cells: Vec<usize> = visible.faces.iter().map(|f| f.cell).collect();
        assert_eq!(cells, [2, 3, 0, 1]);
    }

    #[test]
    fn chains_follow_the_order_of_the_segments() {
        assert_eq!(chains(&[[0, 1], [1, 2], [2, 0], [4, 5]]), [vec![0, 1, 2, 0], vec![4, 5]]);
    }

    #[test]
    fn colours() {
        assert_eq!(hex([0.0, 0.5, 1.0]), "#0080ff");
        let luminance = |t: f64| dot(distance_colour(t), [0.2126, 0.7152, 0.0722]);
        for i in 0..20 {
            assert!(luminance(f64::from(i) / 20.0) > luminance(f64::from(i + 1) / 20.0));
        }
        assert_eq!(distance_colour(f64::NAN.max(0.0)), distance_colour(-1.0));
    }
}
