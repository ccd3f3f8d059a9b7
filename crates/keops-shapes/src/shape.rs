//! Discrete shapes: point clouds, polygonal curves and triangulated surfaces.

mod geometry;

use std::collections::HashMap;
use std::sync::Arc;

use keops_core::error::OutOfMemory;
use keops_core::memory;
use ndarray::{Array1, Array2, ArrayView2, Axis};

pub use geometry::{CellGeometry, cell_geometry, cell_geometry_adjoint};
pub(crate) use geometry::{cross, dot, shaped, sub};

/// Largest coordinate magnitude a [`Shape`] accepts.
///
/// Areas are products of two edge vectors and the algorithms square them again; with coordinates
/// up to 1e50 none of these products can overflow.
pub const MAX_COORDINATE: f64 = 1e50;

/// Why vertices and cells do not make a [`Shape`].
///
/// ```
/// use keops_shapes::shape::{Cells, Shape, ShapeError};
/// use ndarray::array;
/// let e = Shape::new(array![[0.0, 0.0], [1.0, 0.0]], Cells::Segments(vec![[0, 2]])).unwrap_err();
/// assert_eq!(e, ShapeError::Index { cell: 0, index: 2, vertices: 2 });
/// let e = Shape::new(array![[0.0, f64::NAN]], Cells::Points).unwrap_err();
/// assert!(e.to_string().starts_with("vertex 0 has coordinate 1 = NaN"));
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// There are no vertices, no cells, or nothing was left after cleaning.
    #[error("the shape is empty: it has no {what}")]
    Empty {
        /// What is missing: `"vertices"` or `"cells"`.
        what: &'static str,
    },
    /// Vertices must be points of the plane or of space.
    #[error("vertices must have 2 or 3 coordinates, got {got}")]
    Dimension {
        /// Number of columns of the vertex array.
        got: usize,
    },
    /// Triangulated surfaces live in space.
    #[error("triangles need vertices with 3 coordinates, got {got}")]
    PlanarTriangles {
        /// Number of columns of the vertex array.
        got: usize,
    },
    /// A coordinate is NaN, infinite or beyond [`MAX_COORDINATE`].
    #[error(
        "vertex {vertex} has coordinate {axis} = {value}; expected a finite number up to 1e50 in magnitude"
    )]
    Coordinate {
        /// Row of the vertex array, from 0.
        vertex: usize,
        /// Column of the vertex array, from 0.
        axis: usize,
        /// The value found.
        value: f64,
    },
    /// A cell names a vertex that does not exist.
    #[error("cell {cell} refers to vertex {index}, but there are {vertices} vertices (from 0)")]
    Index {
        /// The cell, from 0.
        cell: usize,
        /// The vertex index it holds.
        index: usize,
        /// Number of vertices.
        vertices: usize,
    },
    /// New vertices for an existing shape must have the shape of the old ones.
    #[error("expected vertices of shape {expected:?} (the cells refer to them), got {got:?}")]
    VertexShape {
        /// Rows and columns of the present vertices.
        expected: (usize, usize),
        /// Rows and columns given.
        got: (usize, usize),
    },
    /// A shape with non-zero third coordinates cannot be reduced to the plane.
    #[error("vertex {vertex} has z = {z}; only shapes in the plane z = 0 reduce to two dimensions")]
    NotPlanar {
        /// First vertex off the plane, from 0.
        vertex: usize,
        /// Its third coordinate.
        z: f64,
    },
    /// There is no memory for the result.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// How the vertices of a [`Shape`] are joined. Indices count from 0.
///
/// ```
/// use keops_shapes::shape::{Cells, Shape};
/// let corners = ndarray::array![[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]];
/// let cloud = Shape::new(corners.clone(), Cells::Points)?;
/// let outline = Shape::new(corners, Cells::Segments(vec![[0, 1], [1, 2], [2, 0]]))?;
/// assert_eq!((cloud.cell_count(), outline.cell_count()), (3, 3));
/// # Ok::<(), keops_shapes::shape::ShapeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cells {
    /// Every vertex is a cell of its own (a point cloud).
    Points,
    /// Oriented line segments.
    Segments(Vec<[usize; 2]>),
    /// Oriented triangles.
    Triangles(Vec<[usize; 3]>),
}

impl Cells {
    /// The name of one cell: `"point"`, `"segment"` or `"triangle"`.
    ///
    /// ```
    /// use keops_shapes::shape::Cells;
    /// assert_eq!(Cells::Triangles(vec![[0, 1, 2]]).name(), "triangle");
    /// ```
    pub fn name(&self) -> &'static str {
        match self {
            Cells::Points => "point",
            Cells::Segments(_) => "segment",
            Cells::Triangles(_) => "triangle",
        }
    }

    /// The corners of all cells, one slice per cell; empty for [`Cells::Points`].
    ///
    /// ```
    /// use keops_shapes::shape::Cells;
    /// let cells = Cells::Segments(vec![[0, 1], [1, 2]]);
    /// assert_eq!(cells.corners().collect::<Vec<_>>(), [[0, 1], [1, 2]]);
    /// assert_eq!(Cells::Points.corners().count(), 0);
    /// ```
    pub fn corners(&self) -> impl Iterator<Item = &[usize]> {
        let (segments, triangles): (&[[usize; 2]], &[[usize; 3]]) = match self {
            Cells::Points => (&[], &[]),
            Cells::Segments(s) => (s, &[]),
            Cells::Triangles(t) => (&[], t),
        };
        segments.iter().map(|c| &c[..]).chain(triangles.iter().map(|c| &c[..]))
    }
}

/// What [`Shape::cleaned`] took out. Indices are those of the shape before cleaning.
///
/// ```
/// use keops_shapes::shape::{Cells, Shape};
/// let cells = Cells::Segments(vec![[0, 0], [0, 2]]);
/// let shape = Shape::new(ndarray::array![[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], cells)?;
/// let (_, report) = shape.cleaned()?;
/// assert_eq!((report.degenerate_cells, report.unreferenced_vertices), (vec![0], vec![1]));
/// # Ok::<(), keops_shapes::shape::ShapeError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanReport {
    /// Cells with a repeated corner or without extent, ascending.
    pub degenerate_cells: Vec<usize>,
    /// Vertices that no remaining cell uses, ascending.
    pub unreferenced_vertices: Vec<usize>,
}

impl CleanReport {
    /// True when nothing was taken out.
    ///
    /// ```
    /// use keops_shapes::{builtin::icosphere, shape::CleanReport};
    /// assert!(icosphere(1)?.cleaned()?.1.is_empty());
    /// assert!(!CleanReport { degenerate_cells: vec![4], ..CleanReport::default() }.is_empty());
    /// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.degenerate_cells.is_empty() && self.unreferenced_vertices.is_empty()
    }
}

impl std::fmt::Display for CleanReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        fn list(
            f: &mut std::fmt::Formatter<'_>,
            what: &str,
            indices: &[usize],
        ) -> std::fmt::Result {
            write!(f, "{} {what}", indices.len())?;
            for (i, index) in indices.iter().take(5).enumerate() {
                write!(f, "{}{index}", if i == 0 { " (" } else { ", " })?;
            }
            match indices.len() {
                0 => Ok(()),
                1..=5 => f.write_str(")"),
                _ => f.write_str(", …)"),
            }
        }
        f.write_str("left out: ")?;
        list(f, "degenerate cells", &self.degenerate_cells)?;
        f.write_str(", ")?;
        list(f, "unreferenced vertices", &self.unreferenced_vertices)
    }
}

/// Sizes and topology of a shape.
///
/// ```
/// use keops_shapes::builtin::icosphere;
/// let counts = icosphere(0)?.counts()?; // an icosahedron
/// assert_eq!((counts.vertices, counts.edges, counts.cells), (12, 30, 20));
/// assert_eq!((counts.boundary, counts.non_manifold, counts.euler), (0, 0, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Number of vertices.
    pub vertices: usize,
    /// Number of distinct edges (undirected pairs of vertices); 0 for point clouds.
    pub edges: usize,
    /// Number of cells; for point clouds the number of vertices.
    pub cells: usize,
    /// Triangles: edges with a single triangle. Curves: vertices with a single segment.
    /// 0 for a closed shape.
    pub boundary: usize,
    /// Triangles: edges with more than two triangles. Curves: vertices with more than two segments.
    pub non_manifold: usize,
    /// Euler characteristic: V − E + F for surfaces, V − E for curves, V for points.
    pub euler: i64,
}

/// A validated discrete shape: vertices in the plane or in space and the cells that join them.
///
/// Guaranteed: at least one vertex and one cell, 2 or 3 finite coordinates per vertex (3 for
/// triangles), every index in range. Allowed: unreferenced vertices (they are carried along, and
/// count in no distance) and degenerate cells (of size 0), which [`Shape::cleaned`] removes.
/// Cheap to clone.
///
/// ```
/// use keops_shapes::shape::{Cells, Shape};
/// use ndarray::array;
/// // A unit square of two triangles.
/// let corners = array![[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]];
/// let square = Shape::new(corners, Cells::Triangles(vec![[0, 1, 2], [0, 2, 3]]))?;
/// assert_eq!(square.geometry()?.measures.sum(), 1.0);
/// assert_eq!(square.counts()?.boundary, 4); // edges of one triangle
/// # Ok::<(), keops_shapes::shape::ShapeError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    // Shared: the shapes of a deformation have the cells of the first.
    vertices: Arc<Array2<f64>>,
    cells: Arc<Cells>,
}

impl Shape {
    /// A shape from `vertices` of shape (n, d), d = 2 or 3, and its cells.
    ///
    /// # Errors
    /// [`ShapeError`] names the first vertex or cell that is wrong.
    ///
    /// ```
    /// use keops_shapes::shape::{Cells, Shape, ShapeError};
    /// use ndarray::array;
    /// let flat = array![[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]];
    /// assert!(Shape::new(flat.clone(), Cells::Points).is_ok());
    /// let triangle = Cells::Triangles(vec![[0, 1, 2]]);
    /// assert_eq!(Shape::new(flat, triangle), Err(ShapeError::PlanarTriangles { got: 2 }));
    /// ```
    pub fn new(vertices: Array2<f64>, cells: Cells) -> Result<Shape, ShapeError> {
        Shape::checked(Arc::new(vertices), Arc::new(cells))
    }

    fn checked(vertices: Arc<Array2<f64>>, cells: Arc<Cells>) -> Result<Shape, ShapeError> {
        let (n, d) = vertices.dim();
        if d != 2 && d != 3 {
            return Err(ShapeError::Dimension { got: d });
        }
        if n == 0 {
            return Err(ShapeError::Empty { what: "vertices" });
        }
        if matches!(*cells, Cells::Triangles(_)) && d != 3 {
            return Err(ShapeError::PlanarTriangles { got: d });
        }
        if let Some(((vertex, axis), &value)) =
            vertices.indexed_iter().find(|(_, x)| !acceptable_coordinate(**x))
        {
            return Err(ShapeError::Coordinate { vertex, axis, value });
        }
        if !matches!(*cells, Cells::Points) && cells.corners().next().is_none() {
            return Err(ShapeError::Empty { what: "cells" });
        }
        for (cell, corners) in cells.corners().enumerate() {
            if let Some(&index) = corners.iter().find(|&&i| i >= n) {
                return Err(ShapeError::Index { cell, index, vertices: n });
            }
        }
        Ok(Shape { vertices, cells })
    }

    /// The same cells over other vertices (a deformed shape).
    ///
    /// # Errors
    /// When the array has another shape than the present vertices, or a coordinate is not
    /// acceptable.
    ///
    /// ```
    /// use keops_shapes::builtin::icosphere;
    /// let sphere = icosphere(2)?;
    /// let larger = sphere.with_vertices(2.0 * &sphere.vertices())?;
    /// assert_eq!(larger.cells(), sphere.cells());
    /// let fewer = sphere.vertices().slice(ndarray::s![..5, ..]).to_owned();
    /// assert!(sphere.with_vertices(fewer).is_err());
    /// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
    /// ```
    pub fn with_vertices(&self, vertices: Array2<f64>) -> Result<Shape, ShapeError> {
        if vertices.dim() != self.vertices.dim() {
            return Err(ShapeError::VertexShape {
                expected: self.vertices.dim(),
                got: vertices.dim(),
            });
        }
        Shape::checked(Arc::new(vertices), self.cells.clone())
    }

    /// Vertices, shape (n, d).
    ///
    /// ```
    /// use keops_shapes::builtin::icosphere;
    /// assert_eq!(icosphere(0)?.vertices().dim(), (12, 3));
    /// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
    /// ```
    pub fn vertices(&self) -> ArrayView2<'_, f64> {
        self.vertices.view()
    }

    /// The cells.
    ///
    /// ```
    /// use keops_shapes::{builtin::curve_pair, shape::Cells};
    /// let (ellipse, _) = curve_pair(50)?;
    /// assert!(matches!(ellipse.cells(), Cells::Segments(s) if s[49] == [49, 0]));
    /// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
    /// ```
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// Vertices and cells, by value.
    ///
    /// ```
    /// use keops_shapes::{builtin::icosphere, shape::Shape};
    /// let (mut vertices, cells) = icosphere(0)?.into_parts();
    /// vertices *= 3.0;
    /// assert_eq!(Shape::new(vertices, cells)?.cell_count(), 20);
    /// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
    /// ```
    pub fn into_parts(self) -> (Array2<f64>, Cells) {
        (Arc::unwrap_or_clone(self.vertices), Arc::unwrap_or_clone(self.cells))
    }

    /// Dimension d of the space, 2 or 3.
    ///
    /// ```
    /// use keops_shapes::builtin::{curve_pair, icosphere};
    /// assert_eq!((curve_pair(10)?.0.dim(), icosphere(0)?.dim()), (2, 3));
    /// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
    /// ```
    pub fn dim(&self) -> usize {
        self.vertices.ncols()
    }

    /// Number of vertices.
    ///
    /// ```
    /// use keops_shapes::builtin::icosphere;
    /// assert_eq!(icosphere(1)?.vertex_count(), 42); // 12, and the middles of 30 edges
    /// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
    /// ```
    pub fn vertex_count(&self) -> usize {
        self.vertices.nrows()
    }

    /// Number of cells; for point clouds the number of vertices.
    ///
    /// ```
    /// use keops_shapes::builtin::icosphere;
    /// assert_eq!(icosphere(1)?.cell_count(), 80);
    /// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
    /// ```
    pub fn cell_count(&self) -> usize {
        match &*self.cells {
            Cells::Points => self.vertices.nrows(),
            Cells::Segments(s) => s.len(),
            Cells::Triangles(t) => t.len(),
        }
    }

    /// Vertex `i` as a point of space (z = 0 in the plane).
    pub(crate) fn point(&self, i: usize) -> [f64; 3] {
        let z = if self.dim() == 3 { self.vertices[[i, 2]] } else { 0.0 };
        [self.vertices[[i, 0]], self.vertices[[i, 1]], z]
    }

    /// Centres, normals (or tangents) and sizes of the cells.
    ///
    /// # Errors
    /// When there is no memory for them.
    ///
    /// ```
    /// use keops_shapes::builtin::icosphere;
    /// let area = icosphere(3)?.geometry()?.measures.sum();
    /// assert!((area / (4.0 * std::f64::consts::PI) - 1.0).abs() < 0.01); // of the unit sphere
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn geometry(&self) -> Result<CellGeometry<f64>, OutOfMemory> {
        cell_geometry(self.vertices.view(), &self.cells)
    }

    /// Smallest and largest coordinates over all vertices, each of length d.
    ///
    /// ```
    /// use keops_shapes::shape::{Cells, Shape};
    /// use ndarray::array;
    /// let cloud = Shape::new(array![[0.0, 7.0], [-2.0, 5.0], [1.0, 6.0]], Cells::Points)?;
    /// assert_eq!(cloud.bounding_box(), (array![-2.0, 5.0], array![1.0, 7.0]));
    /// # Ok::<(), keops_shapes::shape::ShapeError>(())
    /// ```
    pub fn bounding_box(&self) -> (Array1<f64>, Array1<f64>) {
        let fold = |init, op: fn(f64, f64) -> f64| {
            self.vertices.map_axis(Axis(0), |column| column.iter().copied().fold(init, op))
        };
        (fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max))
    }

    /// For each vertex, whether a cell uses it; all true for point clouds.
    ///
    /// # Errors
    /// When there is no memory for it.
    ///
    /// ```
    /// use keops_shapes::shape::{Cells, Shape};
    /// let vertices = ndarray::array![[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]];
    /// let shape = Shape::new(vertices, Cells::Segments(vec![[0, 2]]))?;
    /// assert_eq!(shape.referenced()?, [true, false, true]);
    /// # Ok::<(), keops_shapes::shape::ShapeError>(())
    /// ```
    pub fn referenced(&self) -> Result<Vec<bool>, OutOfMemory> {
        let all = matches!(*self.cells, Cells::Points);
        let mut used = memory::filled(self.vertex_count(), all, "the vertices in use")?;
        for &i in self.cells.corners().flatten() {
            used[i] = true;
        }
        Ok(used)
    }

    /// Does a cell have no extent, up to rounding, whatever the scale of the coordinates?
    fn is_degenerate(&self, corners: &[usize]) -> bool {
        match *corners {
            [a, b] => a == b || self.point(a) == self.point(b),
            [a, b, c] => {
                let (a, b, c) = (self.point(a), self.point(b), self.point(c));
                let edges = [sub(b, a), sub(c, a), sub(c, b)];
                let largest = edges.iter().flatten().fold(0.0, |m: f64, x| m.max(x.abs()));
                if largest == 0.0 {
                    return true;
                }
                // Of size about 1, so that squares neither underflow nor overflow; times a power
                // of two twice, as 2^1074 is no number.
                let half = (-largest.log2() / 2.0).round().exp2();
                let [u, v, w] = edges.map(|e| e.map(|x| x * half * half));
                let n = cross(u, v);
                let longest = dot(u, u).max(dot(v, v)).max(dot(w, w));
                0.5 * dot(n, n).sqrt() <= 1e-14 * longest
            }
            _ => false,
        }
    }

    /// The shape without degenerate cells and without the vertices that no cell uses then; the
    /// order of what remains is kept. A segment is degenerate when its length is zero, a triangle
    /// when two corners coincide or its area is at most 1e-14 times its longest edge squared
    /// (collinear corners, up to round-off).
    ///
    /// # Errors
    /// [`ShapeError::Empty`] when every cell is degenerate, [`ShapeError::OutOfMemory`].
    ///
    /// ```
    /// use keops_shapes::shape::{Cells, Shape, ShapeError};
    /// use ndarray::array;
    /// let vertices = array![[0.0, 0.0], [5.0, 5.0], [1.0, 0.0], [1.0, 0.0]];
    /// let shape = Shape::new(vertices.clone(), Cells::Segments(vec![[2, 3], [0, 2]]))?;
    /// let (clean, report) = shape.cleaned()?;
    /// assert_eq!(clean.vertices(), array![[0.0, 0.0], [1.0, 0.0]]);
    /// assert_eq!(clean.cells(), &Cells::Segments(vec![[0, 1]]));
    /// let text = "left out: 1 degenerate cells (0), 2 unreferenced vertices (1, 3)";
    /// assert_eq!(report.to_string(), text);
    /// let nothing = Shape::new(vertices, Cells::Segments(vec![[2, 3]]))?.cleaned();
    /// assert_eq!(nothing, Err(ShapeError::Empty { what: "cells" }));
    /// # Ok::<(), keops_shapes::shape::ShapeError>(())
    /// ```
    pub fn cleaned(&self) -> Result<(Shape, CleanReport), ShapeError> {
        let what = "a cleaned shape";
        let n = self.vertex_count();
        let mut report = CleanReport::default();
        let mut keep = memory::filled(n, matches!(*self.cells, Cells::Points), what)?;
        for (cell, corners) in self.cells.corners().enumerate() {
            if self.is_degenerate(corners) {
                memory::push(&mut report.degenerate_cells, cell, what)?;
            } else {
                corners.iter().for_each(|&i| keep[i] = true);
            }
        }
        let mut renumbered = memory::filled(n, usize::MAX, what)?;
        let mut vertices = memory::room(n * self.dim(), what)?;
        let mut kept = 0;
        for (i, &keep) in keep.iter().enumerate() {
            if keep {
                renumbered[i] = kept;
                kept += 1;
                vertices.extend(self.vertices.row(i));
            } else {
                memory::push(&mut report.unreferenced_vertices, i, what)?;
            }
        }
        if kept == 0 {
            return Err(ShapeError::Empty { what: "cells" });
        }
        if report.is_empty() {
            return Ok((self.clone(), report));
        }
        fn select<const K: usize>(
            cells: &[[usize; K]],
            dropped: &[usize],
            renumbered: &[usize],
        ) -> Result<Vec<[usize; K]>, OutOfMemory> {
            let mut left = memory::room(cells.len() - dropped.len(), "a cleaned shape")?;
            let mut dropped = dropped.iter().peekable();
            for (i, cell) in cells.iter().enumerate() {
                if dropped.next_if_eq(&&i).is_none() {
                    left.push(cell.map(|i| renumbered[i]));
                }
            }
            Ok(left)
        }
        let dropped = &report.degenerate_cells;
        let cells = match &*self.cells {
            Cells::Points => Cells::Points,
            Cells::Segments(s) => Cells::Segments(select(s, dropped, &renumbered)?),
            Cells::Triangles(t) => Cells::Triangles(select(t, dropped, &renumbered)?),
        };
        let vertices = shaped((kept, self.dim()), vertices)?;
        Ok((Shape { vertices: Arc::new(vertices), cells: Arc::new(cells) }, report))
    }

    /// A shape in the plane z = 0 as a planar one (d = 2); a planar shape is returned as it is.
    ///
    /// # Errors
    /// When a vertex is off the plane, or the cells are triangles.
    ///
    /// ```
    /// use keops_shapes::shape::{Cells, Shape, ShapeError};
    /// use ndarray::array;
    /// let flat = Shape::new(array![[1.0, 2.0, 0.0]], Cells::Points)?;
    /// assert_eq!(flat.to_planar()?.vertices(), array![[1.0, 2.0]]);
    /// let above = Shape::new(array![[1.0, 2.0, 3.0]], Cells::Points)?;
    /// assert_eq!(above.to_planar(), Err(ShapeError::NotPlanar { vertex: 0, z: 3.0 }));
    /// # Ok::<(), keops_shapes::shape::ShapeError>(())
    /// ```
    pub fn to_planar(&self) -> Result<Shape, ShapeError> {
        if self.dim() == 2 {
            return Ok(self.clone());
        }
        if let Some(vertex) = self.vertices.column(2).iter().position(|&z| z != 0.0) {
            return Err(ShapeError::NotPlanar { vertex, z: self.vertices[[vertex, 2]] });
        }
        let mut flat = memory::room(2 * self.vertex_count(), "a planar shape")?;
        flat.extend(self.vertices.rows().into_iter().flat_map(|row| [row[0], row[1]]));
        let vertices = shaped((self.vertex_count(), 2), flat)?;
        Shape::checked(Arc::new(vertices), self.cells.clone())
    }

    /// The shape in space (d = 3), a planar one in the plane z = 0.
    ///
    /// # Errors
    /// When there is no memory for it.
    ///
    /// ```
    /// use keops_shapes::shape::{Cells, Shape};
    /// use ndarray::array;
    /// let planar = Shape::new(array![[1.0, 2.0]], Cells::Points)?;
    /// assert_eq!(planar.to_spatial()?.vertices(), array![[1.0, 2.0, 0.0]]);
    /// # Ok::<(), keops_shapes::shape::ShapeError>(())
    /// ```
    pub fn to_spatial(&self) -> Result<Shape, OutOfMemory> {
        let n = self.vertex_count();
        let mut points = memory::room(3 * n, "a spatial shape")?;
        points.extend((0..n).flat_map(|i| self.point(i)));
        Ok(Shape { vertices: Arc::new(shaped((n, 3), points)?), cells: self.cells.clone() })
    }

    /// Sizes and topology.
    ///
    /// # Errors
    /// When there is no memory to count them.
    ///
    /// ```
    /// use keops_shapes::shape::{Cells, Shape};
    /// let vertices = ndarray::array![[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]];
    /// let path = Shape::new(vertices, Cells::Segments(vec![[0, 1], [1, 2]]))?;
    /// let counts = path.counts()?;
    /// assert_eq!((counts.boundary, counts.euler), (2, 1)); // two ends, one piece
    /// # Ok::<(), keops_shapes::shape::ShapeError>(())
    /// ```
    pub fn counts(&self) -> Result<Counts, OutOfMemory> {
        let mut counts = Counts {
            vertices: self.vertex_count(),
            edges: 0,
            cells: self.cell_count(),
            boundary: 0,
            non_manifold: 0,
            euler: 0,
        };
        let mut edges: HashMap<(usize, usize), usize> = HashMap::new();
        let corners = self.cells.corners().next().map_or(0, <[usize]>::len);
        let most = corners * self.cell_count();
        edges.try_reserve(most).map_err(|_| {
            memory::refused::<((usize, usize), usize)>(most, "the edges of a shape")
        })?;
        let mut edge = |a: usize, b: usize| *edges.entry((a.min(b), a.max(b))).or_default() += 1;
        match &*self.cells {
            Cells::Points => {}
            Cells::Segments(segments) => {
                let mut degree =
                    memory::filled(self.vertex_count(), 0_usize, "degrees of vertices")?;
                for &[a, b] in segments {
                    edge(a, b);
                    degree[a] += 1;
                    degree[b] += 1;
                }
                counts.boundary = degree.iter().filter(|&&k| k == 1).count();
                counts.non_manifold = degree.iter().filter(|&&k| k > 2).count();
            }
            Cells::Triangles(triangles) => {
                for &[a, b, c] in triangles {
                    edge(a, b);
                    edge(b, c);
                    edge(c, a);
                }
                counts.boundary = edges.values().filter(|&&k| k == 1).count();
                counts.non_manifold = edges.values().filter(|&&k| k > 2).count();
            }
        }
        counts.edges = edges.len();
        let faces = if matches!(*self.cells, Cells::Triangles(_)) { counts.cells } else { 0 };
        counts.euler = (counts.vertices + faces) as i64 - counts.edges as i64;
        Ok(counts)
    }
}

pub(crate) fn acceptable_coordinate(x: f64) -> bool {
    x.abs() <= MAX_COORDINATE
}

#[cfg(test)]
mod tests;
