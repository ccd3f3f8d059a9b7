//! What the fuzz target `shapes` of `fuzz/` does with its bytes, shared with the test that mutates files.

use keops_shapes::distance::distances;
use keops_shapes::io::{ReadError, read_shape_from_bytes};

/// A name for each format; the first byte chooses.
pub const NAMES: [&str; 5] = ["f.vtk", "f.ply", "f.obj", "f.stl", "f.npy"];

/// Reads any bytes as a file of a shape. What is read is a shape: its cells name vertices that are there,
/// its numbers are finite or were refused, and geometry of it neither panics nor overflows memory.
pub fn shapes(data: &[u8]) {
    let Some((first, content)) = data.split_first() else { return };
    let name = NAMES[usize::from(*first) % NAMES.len()];
    let (shape, report) = match read_shape_from_bytes(name, content) {
        Ok(read) => read,
        Err(ReadError { path, reason, .. }) => {
            assert!(path.ends_with(name) && !reason.to_string().is_empty());
            return;
        }
    };
    let _ = format!("{report:?}");
    let n = shape.vertex_count();
    assert!(n > 0 && n <= content.len(), "{n} vertices of {} bytes", content.len());
    assert!(shape.vertices().iter().all(|x| x.is_finite()));
    let cells = shape.cells();
    assert!(shape.cell_count() > 0 && cells.corners().flatten().all(|k| *k < n));
    shape.geometry().expect("memory for a small shape");
    shape.counts().expect("memory for a small shape");
    if let Ok((clean, _)) = shape.cleaned() {
        assert!(clean.vertex_count() <= n);
    }
    let _ = distances(&shape, &shape);
}
