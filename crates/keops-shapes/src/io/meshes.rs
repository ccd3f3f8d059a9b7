//! PLY, OBJ and STL files, written.

use std::io::Write;
use std::path::Path;

use keops_core::error::OutOfMemory;

use super::staged::{Buffer, WriteError, write_file};
use super::write::{PointData, VtkEncoding, check, padded, write_vtk, write_vtp};
use crate::shape::{Cells, Shape};

/// Writes a shape in the format that the name asks for: `.vtk` (binary), `.vtp`, `.ply`, `.obj` or
/// `.stl`.
///
/// # Errors
/// [`WriteError::Format`] for another ending, and for cells that the format has no place for;
/// [`WriteError::Io`].
///
/// ```
/// use keops_shapes::builtin::icosphere;
/// use keops_shapes::io::{read_shape, write_shape};
/// let (sphere, folder) = (icosphere(1)?, std::env::temp_dir());
/// for ending in ["vtk", "ply", "obj"] {
///     let path = folder.join(format!("keops-any-{}.{ending}", std::process::id()));
///     write_shape(&path, &sphere)?;
///     assert_eq!(read_shape(&path)?.0, sphere); // every bit
///     std::fs::remove_file(&path)?;
/// }
/// let e = write_shape("sphere.jpg", &sphere).unwrap_err();
/// assert_eq!(e.to_string(), "sphere.jpg: shapes are written as .vtk, .vtp, .ply, .obj or .stl");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_shape(path: impl AsRef<Path>, shape: &Shape) -> Result<(), WriteError> {
    let path = path.as_ref();
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match ending.as_str() {
        "vtk" => write_vtk(path, shape, &[], VtkEncoding::Binary),
        "vtp" => write_vtp(path, shape, &[]),
        "ply" => write_ply(path, shape, &[]),
        "obj" => write_obj(path, shape),
        "stl" => write_stl(path, shape),
        _ => Err(WriteError::Format {
            path: path.into(),
            what: "shapes are written as .vtk, .vtp, .ply, .obj or .stl".into(),
        }),
    }
}

/// Writes a shape as binary PLY (little-endian, double precision, z = 0 for planar shapes): faces of
/// three vertices, or edges, and properties of the vertices. Of data with several columns each is a
/// property, with its number behind the name.
///
/// # Errors
/// When a data array does not fit the shape, an index is too large for 32 bits, or the file cannot
/// be written.
///
/// ```
/// use keops_shapes::builtin::curve_pair;
/// use keops_shapes::io::{PointData, read_shape, write_ply};
/// let (curve, _) = curve_pair(30)?;
/// let path = std::env::temp_dir().join(format!("keops-curve-{}.ply", std::process::id()));
/// let height = ndarray::Array2::from_elem((30, 1), 0.5);
/// write_ply(&path, &curve, &[PointData { name: "height", values: height.view() }])?;
/// assert_eq!(read_shape(&path)?.0.to_planar()?, curve);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_ply(
    path: impl AsRef<Path>,
    shape: &Shape,
    data: &[PointData<'_>],
) -> Result<(), WriteError> {
    let path = path.as_ref();
    check(path, shape, data)?;
    if i32::try_from(shape.vertex_count()).is_err() {
        let what = format!("PLY cannot number {} vertices", shape.vertex_count());
        return Err(WriteError::Format { path: path.into(), what });
    }
    let (n, m) = (shape.vertex_count(), shape.cell_count());
    let mut head = format!("ply\nformat binary_little_endian 1.0\nelement vertex {n}\n");
    for axis in ["x", "y", "z"] {
        head.push_str(&format!("property double {axis}\n"));
    }
    for d in data {
        // (Names are words.)
        let name = d.name.split_whitespace().collect::<Vec<_>>().join("_");
        for k in 0..d.values.ncols() {
            let number = if d.values.ncols() == 1 { String::new() } else { format!("_{k}") };
            head.push_str(&format!("property double {name}{number}\n"));
        }
    }
    match shape.cells() {
        Cells::Points => {}
        Cells::Segments(_) => head
            .push_str(&format!("element edge {m}\nproperty int vertex1\nproperty int vertex2\n")),
        Cells::Triangles(_) => {
            head.push_str(&format!("element face {m}\nproperty list uchar int vertex_indices\n"))
        }
    }
    head.push_str("end_header\n");
    let mut out = Buffer::default();
    out.push(head.as_bytes())?;
    let mut points = padded(shape.vertices());
    for row in 0..n {
        for x in points.by_ref().take(3).chain(data.iter().flat_map(|d| d.values.row(row).to_vec()))
        {
            out.push(&x.to_le_bytes())?;
        }
    }
    for corners in shape.cells().corners() {
        if corners.len() == 3 {
            out.push(&[3])?;
        }
        corners.iter().try_for_each(|&i| out.push(&(i as i32).to_le_bytes()))?;
    }
    write_file(path, out.bytes())
}

/// Writes a shape as Wavefront OBJ: text with as many digits as give every number back; faces, lines
/// or points.
///
/// # Errors
/// When the file cannot be written.
///
/// ```
/// use keops_shapes::io::write_obj;
/// use keops_shapes::{Cells, Shape};
/// let path = std::env::temp_dir().join(format!("keops-segment-{}.obj", std::process::id()));
/// let ends = ndarray::array![[0.0, 0.0], [1.0, 0.5]];
/// write_obj(&path, &Shape::new(ends, Cells::Segments(vec![[0, 1]]))?)?;
/// assert!(std::fs::read_to_string(&path)?.ends_with("v 0.0 0.0 0.0\nv 1.0 0.5 0.0\nl 1 2\n"));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_obj(path: impl AsRef<Path>, shape: &Shape) -> Result<(), WriteError> {
    let mut out = Buffer::default();
    let text = (|| -> std::io::Result<()> {
        writeln!(out, "# keops shape")?;
        let mut points = padded(shape.vertices());
        while let (Some(x), Some(y), Some(z)) = (points.next(), points.next(), points.next()) {
            writeln!(out, "v {x:?} {y:?} {z:?}")?;
        }
        for corners in shape.cells().corners() {
            write!(out, "{}", if corners.len() == 3 { 'f' } else { 'l' })?;
            corners.iter().try_for_each(|i| write!(out, " {}", i + 1))?;
            writeln!(out)?;
        }
        Ok(())
    })();
    text.map_err(|source| WriteError::Io { path: path.as_ref().into(), source })?;
    write_file(path, out.bytes())
}

/// Writes a surface as binary STL, in single precision: facets with their unit normals.
///
/// # Errors
/// [`WriteError::Format`] for shapes other than triangles, coordinates beyond single precision and
/// more facets than 32 bits count; when the file cannot be written.
///
/// ```
/// use keops_shapes::builtin::{curve_pair, icosphere};
/// use keops_shapes::io::{read_shape, write_stl};
/// let sphere = icosphere(2)?;
/// let path = std::env::temp_dir().join(format!("keops-sphere-{}.stl", std::process::id()));
/// write_stl(&path, &sphere)?;
/// let counts = read_shape(&path)?.0.counts()?; // corners are merged again
/// assert_eq!(counts, sphere.counts()?);
/// # std::fs::remove_file(&path)?;
/// let e = write_stl("curve.stl", &curve_pair(9)?.0).unwrap_err();
/// assert_eq!(e.to_string(), "curve.stl: STL holds triangles, the shape has segments");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_stl(path: impl AsRef<Path>, shape: &Shape) -> Result<(), WriteError> {
    let path = path.as_ref();
    let refused = |what: String| WriteError::Format { path: path.into(), what };
    let Cells::Triangles(triangles) = shape.cells() else {
        let cell = shape.cells().name();
        return Err(refused(format!("STL holds triangles, the shape has {cell}s")));
    };
    let Ok(count) = u32::try_from(triangles.len()) else {
        return Err(refused(format!("STL cannot count {} triangles", triangles.len())));
    };
    if let Some(x) = shape.vertices().iter().find(|x| x.abs() > f64::from(f32::MAX)) {
        return Err(refused(format!("STL is in single precision, which has no {x:e}")));
    }
    let geometry = shape.geometry()?;
    let mut out = Buffer::default();
    let mut header = [b' '; 80];
    header[..11].copy_from_slice(b"keops shape");
    out.push(&header)?;
    out.push(&count.to_le_bytes())?;
    let push = |out: &mut Buffer, x: f64| -> Result<(), OutOfMemory> {
        out.push(&(x as f32).to_le_bytes())
    };
    for (k, corners) in triangles.iter().enumerate() {
        for axis in 0..3 {
            // (A facet without extent has no normal: 0.)
            let normal = geometry.normals.as_ref().map_or(0.0, |n| n[[k, axis]]);
            let size = geometry.measures[k];
            push(&mut out, if size > 0.0 { normal / size } else { 0.0 })?;
        }
        for &corner in corners {
            (0..3).try_for_each(|axis| push(&mut out, shape.vertices()[[corner, axis]]))?;
        }
        out.push(&[0, 0])?;
    }
    write_file(path, out.bytes())
}
