//! Centres, normals and sizes of cells, and the adjoint of the map from vertices to them.

use keops_core::error::OutOfMemory;
use keops_core::memory;
use ndarray::{Array1, Array2, ArrayView2, NdFloat};

use super::Cells;

/// Centres, normals (or tangents) and sizes of the cells of a shape, as currents and varifolds
/// use them (Vaillant & Glaunès 2005; Charon & Trouvé 2013).
///
/// ```
/// use keops_shapes::shape::{Cells, Shape};
/// use ndarray::array;
/// let segment = Shape::new(array![[0.0, 0.0], [3.0, 4.0]], Cells::Segments(vec![[0, 1]]))?;
/// let geometry = segment.geometry()?;
/// assert_eq!(geometry.centres, array![[1.5, 2.0]]);
/// assert_eq!(geometry.normals, Some(array![[3.0, 4.0]])); // the tangent
/// assert_eq!(geometry.measures, array![5.0]);
/// # Ok::<(), keops_shapes::shape::ShapeError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CellGeometry<F> {
    /// Cell centres, shape (cells, d): (a+b+c)/3, (a+b)/2, or the point itself.
    pub centres: Array2<F>,
    /// Triangles: ½(b−a)×(c−a). Segments: the tangent b−a. Shape (cells, d). `None` for points.
    pub normals: Option<Array2<F>>,
    /// Area of each triangle, length of each segment, 1 for each point; shape (cells).
    pub measures: Array1<F>,
}

/// Zeros of the given shape, or an error where there is no memory.
fn zeros<F: NdFloat>(shape: (usize, usize), what: &str) -> Result<Array2<F>, OutOfMemory> {
    shaped(shape, memory::filled(shape.0.saturating_mul(shape.1), F::zero(), what)?)
}

/// Entries in row-major order as an array.
pub(crate) fn shaped<F>(shape: (usize, usize), entries: Vec<F>) -> Result<Array2<F>, OutOfMemory> {
    match Array2::from_shape_vec(shape, entries) {
        Ok(array) => Ok(array),
        Err(_) => unreachable!("as many entries as the shape says"),
    }
}

/// Geometry of the cells over the given vertices, in the precision of the vertices.
///
/// # Errors
/// When there is no memory for it.
///
/// # Panics
/// When a cell refers to a row that `vertices` lacks, or triangles are given planar vertices:
/// a validated [`Shape`](super::Shape) with vertices of its own shape never does.
///
/// ```
/// use keops_shapes::shape::{Cells, cell_geometry};
/// use ndarray::array;
/// let corners = array![[0.0_f32, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 6.0, 0.0]];
/// let geometry = cell_geometry(corners.view(), &Cells::Triangles(vec![[0, 1, 2]]))?;
/// assert_eq!(geometry.centres, array![[1.0, 2.0, 0.0]]);
/// assert_eq!(geometry.normals.unwrap(), array![[0.0, 0.0, 9.0]]);
/// assert_eq!(geometry.measures, array![9.0]);
/// # Ok::<(), keops_core::error::OutOfMemory>(())
/// ```
pub fn cell_geometry<F: NdFloat>(
    vertices: ArrayView2<'_, F>,
    cells: &Cells,
) -> Result<CellGeometry<F>, OutOfMemory> {
    let d = vertices.ncols();
    let two = F::one() + F::one();
    let three = two + F::one();
    let what = "the geometry of cells";
    let (mut centres, mut normals) = match cells {
        Cells::Points => {
            let n = vertices.nrows();
            let centres = memory::collected(vertices.iter().copied(), what)?;
            return Ok(CellGeometry {
                centres: shaped((n, d), centres)?,
                normals: None,
                measures: memory::filled(n, F::one(), what)?.into(),
            });
        }
        Cells::Segments(s) => (zeros((s.len(), d), what)?, zeros((s.len(), d), what)?),
        Cells::Triangles(t) => {
            assert_eq!(d, 3, "triangles need spatial vertices");
            (zeros((t.len(), 3), what)?, zeros((t.len(), 3), what)?)
        }
    };
    match cells {
        Cells::Points => {}
        Cells::Segments(segments) => {
            for (i, &[a, b]) in segments.iter().enumerate() {
                for k in 0..d {
                    let (a, b) = (vertices[[a, k]], vertices[[b, k]]);
                    centres[[i, k]] = (a + b) / two;
                    normals[[i, k]] = b - a;
                }
            }
        }
        Cells::Triangles(triangles) => {
            let row = |i: usize| [vertices[[i, 0]], vertices[[i, 1]], vertices[[i, 2]]];
            for (i, &[a, b, c]) in triangles.iter().enumerate() {
                let (a, b, c) = (row(a), row(b), row(c));
                let n = cross(sub(b, a), sub(c, a));
                for k in 0..3 {
                    centres[[i, k]] = (a[k] + b[k] + c[k]) / three;
                    normals[[i, k]] = n[k] / two;
                }
            }
        }
    }
    let norms = normals.rows().into_iter().map(|row| row.dot(&row).sqrt());
    let measures = memory::collected(norms, what)?.into();
    Ok(CellGeometry { centres, normals: Some(normals), measures })
}

pub(crate) fn sub<F: NdFloat>(a: [F; 3], b: [F; 3]) -> [F; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(crate) fn dot<F: NdFloat>(a: [F; 3], b: [F; 3]) -> F {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(crate) fn cross<F: NdFloat>(a: [F; 3], b: [F; 3]) -> [F; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// From cotangents of the centres and normals of cells (see [`cell_geometry`]), of shape
/// (cells, d), those of the vertices, of shape (n, d).
///
/// # Errors
/// When there is no memory for them.
///
/// # Panics
/// As [`cell_geometry`], and when there are fewer rows of cotangents than cells.
///
/// ```
/// use keops_shapes::shape::{Cells, cell_geometry_adjoint};
/// use ndarray::array;
/// let (ends, cells) = (array![[0.0, 0.0], [1.0, 0.0]], Cells::Segments(vec![[0, 1]]));
/// // The centre is the mean of the ends, the tangent their difference.
/// let (centre, tangent) = (array![[2.0, 0.0]], array![[0.0, 3.0]]);
/// let bar = cell_geometry_adjoint(ends.view(), &cells, centre.view(), tangent.view())?;
/// assert_eq!(bar, array![[1.0, -3.0], [1.0, 3.0]]);
/// # Ok::<(), keops_core::error::OutOfMemory>(())
/// ```
pub fn cell_geometry_adjoint<F: NdFloat>(
    vertices: ArrayView2<'_, F>,
    cells: &Cells,
    centres: ArrayView2<'_, F>,
    normals: ArrayView2<'_, F>,
) -> Result<Array2<F>, OutOfMemory> {
    let mut out = zeros(vertices.dim(), "cotangents of vertices")?;
    let half = F::one() / (F::one() + F::one());
    let third = F::one() / (F::one() + F::one() + F::one());
    match cells {
        Cells::Points => out.assign(&centres),
        Cells::Segments(segments) => {
            for (i, &[a, b]) in segments.iter().enumerate() {
                for k in 0..vertices.ncols() {
                    let (c, n) = (half * centres[[i, k]], normals[[i, k]]);
                    out[[a, k]] += c - n;
                    out[[b, k]] += c + n;
                }
            }
        }
        Cells::Triangles(triangles) => {
            let row = |m: &ArrayView2<'_, F>, i: usize| [m[[i, 0]], m[[i, 1]], m[[i, 2]]];
            for (i, &corners) in triangles.iter().enumerate() {
                let [a, b, c] = corners.map(|v| row(&vertices, v));
                let (gc, gn) = (row(&centres, i), row(&normals, i));
                for (vertex, from, to) in [(0, c, b), (1, a, c), (2, b, a)] {
                    // ∂⟨g, n⟩/∂a = ½ (b − c) × g, and so on round the triangle.
                    let g = crate::shape::cross(crate::shape::sub(to, from), gn);
                    for k in 0..3 {
                        out[[corners[vertex], k]] += third * gc[k] + half * g[k];
                    }
                }
            }
        }
    }
    Ok(out)
}
