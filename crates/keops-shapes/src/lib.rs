//! Discrete shapes (point clouds, polygonal curves, triangulated surfaces): their geometry, files,
//! distances and pictures.
//!
//! ```
//! use keops_shapes::distance::distances;
//! use keops_shapes::{Cells, Shape};
//! use ndarray::array;
//! // A unit square of two triangles, and the same moved up by half a unit.
//! let corners = array![[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]];
//! let square = Shape::new(corners.clone(), Cells::Triangles(vec![[0, 1, 2], [0, 2, 3]]))?;
//! let above = square.with_vertices(corners + array![0.0, 0.0, 0.5])?;
//! assert_eq!(square.geometry()?.measures.sum(), 1.0);
//! assert_eq!(distances(&square, &above)?.hausdorff(), 0.5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod align;
pub mod builtin;
pub mod distance;
pub mod io;
mod linear;
pub mod picture;
pub mod shape;

pub use shape::{Cells, Shape};
