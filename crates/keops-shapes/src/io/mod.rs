//! Shapes from files and into files.
//!
//! | format | read | write |
//! |---|---|---|
//! | legacy VTK polydata, versions 1 to 5.1, ASCII and binary | [`read_shape`] | [`write_vtk`] |
//! | VTP (XML polydata) and PVD (time series) for ParaView | | [`write_vtp`], [`write_pvd`] |
//! | PLY, ASCII and binary of both byte orders | [`read_shape`] | [`write_ply`] |
//! | Wavefront OBJ | [`read_shape`] | [`write_obj`] |
//! | STL, ASCII and binary | [`read_shape`] | [`write_stl`] |
//! | NumPy .npy of shape (n, 2) or (n, 3): a point cloud | [`read_shape`] | |
//!
//! [`write_shape`] writes what the name of a file asks for.
//!
//! A file is read as what it is or refused: every [`ReadError`] names the file, the line (or the
//! byte, for binary data) and the reason. Sizes that a header claims are checked against the
//! length of the file before memory is asked for.

mod meshes;
mod npy;
mod obj;
mod ply;
mod scan;
mod staged;
mod stl;
mod vtk;
mod write;

use std::path::{Path, PathBuf};

use keops_core::error::OutOfMemory;
use keops_core::memory;

use crate::shape::{Cells, Shape, ShapeError, acceptable_coordinate, shaped};
pub use meshes::{write_obj, write_ply, write_shape, write_stl};
pub use staged::{Buffer, Staged, WriteError, write_file};
pub(crate) use write::escaped;
pub use write::{PointData, VtkEncoding, write_pvd, write_vtk, write_vtp};

/// Largest file that [`read_shape`] accepts, in bytes (4 GiB): files are read whole.
pub const MAX_FILE_BYTES: u64 = 1 << 32;

/// A file format that can be read.
///
/// ```
/// use keops_shapes::io::{Format, read_shape_from_bytes};
/// // The first bytes decide, whatever the name says.
/// let text = "# vtk DataFile Version 3.0
/// cloud
/// ASCII
/// DATASET POLYDATA
/// POINTS 1 float
/// 1 2 3
/// ";
/// let (_, report) = read_shape_from_bytes("cloud.obj", text.as_bytes()).unwrap();
/// assert_eq!((report.format, report.misnamed), (Format::Vtk, true));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Legacy VTK polydata.
    Vtk,
    /// Stanford polygon file.
    Ply,
    /// Wavefront OBJ.
    Obj,
    /// Stereolithography.
    Stl,
    /// NumPy array of points.
    Npy,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Format::Vtk => "legacy VTK",
            Format::Ply => "PLY",
            Format::Obj => "OBJ",
            Format::Stl => "STL",
            Format::Npy => "NumPy .npy",
        })
    }
}

/// Where in a file something was found.
///
/// ```
/// use keops_shapes::io::{Location, read_shape_from_bytes};
/// let e = read_shape_from_bytes("bad.obj", b"v 0 0 0\nv 1 0 zero\n").unwrap_err();
/// assert_eq!(e.location, Location::Line(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// The file as a whole.
    File,
    /// A line, from 1.
    Line(usize),
    /// A byte, from 0 (binary data).
    Byte(usize),
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Location::File => Ok(()),
            Location::Line(line) => write!(f, ", line {line}"),
            Location::Byte(byte) => write!(f, ", byte {byte}"),
        }
    }
}

/// Why a file could not be read as a shape.
///
/// ```
/// use keops_shapes::io::read_shape_from_bytes;
/// let e = read_shape_from_bytes("bad.obj", b"v 0 0 0\nv 1 0 0\nf 1 2 3\n").unwrap_err();
/// assert_eq!(
///     e.to_string(),
///     "bad.obj, line 3: cell 0 refers to vertex 3, but there are 2 vertices (from 1)"
/// );
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{}{location}: {reason}", path.display())]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub location: Location,
    /// What is wrong.
    pub reason: ReadReason,
}

/// What is wrong with a file.
///
/// ```
/// use keops_shapes::io::{ReadReason, read_shape_from_bytes};
/// let reason = |name, content| read_shape_from_bytes(name, content).unwrap_err().reason;
/// assert!(matches!(reason("nothing.ply", b"".as_slice()), ReadReason::Empty("file")));
/// assert!(matches!(reason("notes.txt", b"Dear diary"), ReadReason::UnknownFormat));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadReason {
    /// The operating system refused (missing file, no permission, …).
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A directory, a pipe or a device.
    #[error("not a regular file")]
    NotAFile,
    /// Larger than [`MAX_FILE_BYTES`].
    #[error("the file has {bytes} bytes; at most {MAX_FILE_BYTES} are read")]
    TooLarge {
        /// Size of the file.
        bytes: u64,
    },
    /// Neither the name nor the content tells the format.
    #[error(
        "neither the extension nor the content is that of a legacy VTK, PLY, OBJ, STL or .npy file"
    )]
    UnknownFormat,
    /// The file has no bytes, or no vertices.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// Something else stands where `expected` should.
    #[error("expected {expected}, got {got}")]
    Syntax {
        /// What should stand here.
        expected: String,
        /// What stands here.
        got: String,
    },
    /// A header announces more than the file holds.
    #[error("{what} needs at least {needed} bytes, but only {left} are left in the file")]
    Truncated {
        /// The part of the file that is cut.
        what: String,
        /// Bytes it needs.
        needed: u64,
        /// Bytes left.
        left: usize,
    },
    /// Two numbers of the file contradict each other.
    #[error("{what}: expected {expected}, got {got}")]
    Mismatch {
        /// What was counted.
        what: String,
        /// The announced number.
        expected: u64,
        /// The number found.
        got: u64,
    },
    /// A part of the format that is not read.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A cell names a vertex that does not exist.
    #[error("cell {cell} refers to vertex {index}, but there are {vertices} vertices ({base})")]
    Index {
        /// The cell, from 0.
        cell: usize,
        /// The index as written in the file.
        index: i64,
        /// Number of vertices.
        vertices: usize,
        /// How the format counts: `"from 0"` or `"from 1"`.
        base: &'static str,
    },
    /// A coordinate is NaN, infinite or beyond 1e50.
    #[error(
        "vertex {vertex} has the coordinate {value}; expected a finite number up to 1e50 in magnitude"
    )]
    Coordinate {
        /// The vertex, from 0.
        vertex: usize,
        /// The value found.
        value: f64,
    },
    /// The content does not make a shape.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// There is no memory for the shape.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// A failure before the path is known.
#[derive(Debug)]
pub(crate) struct Failure {
    location: Location,
    reason: ReadReason,
}

impl Failure {
    fn new(location: Location, reason: ReadReason) -> Failure {
        Failure { location, reason }
    }

    fn syntax(location: Location, expected: impl Into<String>, got: impl Into<String>) -> Failure {
        let reason = ReadReason::Syntax { expected: expected.into(), got: got.into() };
        Failure { location, reason }
    }
}

impl From<OutOfMemory> for Failure {
    fn from(e: OutOfMemory) -> Failure {
        Failure::new(Location::File, e.into())
    }
}

/// Name of what readers ask memory for.
const SHAPE: &str = "the shape in a file";

/// Appends an element of a shape.
fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), Failure> {
    Ok(memory::push(list, item, SHAPE)?)
}

/// What was read, and what was changed or left out on the way.
///
/// ```
/// use keops_shapes::io::read_shape_from_bytes;
/// let square = b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n";
/// let (shape, report) = read_shape_from_bytes("square.obj", square).unwrap();
/// assert_eq!((shape.cell_count(), report.polygons_fanned), (2, 1));
/// let text = "OBJ (ASCII); 1 polygons cut into triangles; lies in the plane z = 0";
/// assert_eq!(report.to_string(), text);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadReport {
    /// The format the file was read as.
    pub format: Format,
    /// Whether vertices and cells were binary.
    pub binary: bool,
    /// Title or first comment of the file; may be empty.
    pub title: String,
    /// Polygons with more than three corners, cut into fans of triangles.
    pub polygons_fanned: usize,
    /// Triangle strips taken apart.
    pub strips_split: usize,
    /// Polylines with more than one segment, taken apart.
    pub polylines_split: usize,
    /// Polygons with two corners, read as segments.
    pub two_vertex_polygons: usize,
    /// Segments left out because the file also has triangles.
    pub segments_dropped: usize,
    /// Cells with a single corner left out of a shape that has segments or triangles.
    pub single_vertex_cells: usize,
    /// Corners of STL facets that were merged because their coordinates agree.
    pub corners_merged: usize,
    /// True when the shape has three coordinates and lies in the plane z = 0:
    /// [`Shape::to_planar`] reduces it to two.
    pub flat: bool,
    /// Parts of the file that were not read, by name.
    pub skipped: Vec<String>,
    /// The name's extension belongs to another format than the content.
    pub misnamed: bool,
}

impl std::fmt::Display for ReadReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.format, if self.binary { "binary" } else { "ASCII" })?;
        let counts = [
            (self.polygons_fanned, "polygons cut into triangles"),
            (self.strips_split, "triangle strips taken apart"),
            (self.polylines_split, "polylines taken apart"),
            (self.two_vertex_polygons, "two-vertex polygons read as segments"),
            (self.segments_dropped, "segments left out beside triangles"),
            (self.single_vertex_cells, "single-vertex cells left out"),
            (self.corners_merged, "coinciding facet corners merged"),
        ];
        for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
            write!(f, "; {count} {what}")?;
        }
        if self.flat {
            f.write_str("; lies in the plane z = 0")?;
        }
        if !self.skipped.is_empty() {
            write!(f, "; not read: {}", self.skipped.join(", "))?;
        }
        if self.misnamed {
            f.write_str("; the extension is that of another format")?;
        }
        Ok(())
    }
}

/// Reads a shape. The format is that of the extension (.vtk, .ply, .obj, .stl, .npy) unless the
/// first bytes say otherwise; without a known extension the content decides.
///
/// ASCII numbers of VTK, OBJ and STL files are taken as written, in double precision, whatever
/// type the file declares; PLY properties have the declared type.
///
/// # Errors
/// [`ReadError`] with path, line or byte, and reason. No input makes this function panic.
///
/// ```
/// use keops_shapes::builtin::icosphere;
/// use keops_shapes::io::{VtkEncoding, read_shape, write_vtk};
/// let path = std::env::temp_dir().join(format!("keops-read-{}.vtk", std::process::id()));
/// let sphere = icosphere(2)?;
/// write_vtk(&path, &sphere, &[], VtkEncoding::Binary)?;
/// let (shape, report) = read_shape(&path)?;
/// assert!(shape == sphere && report.binary);
/// std::fs::remove_file(&path)?;
/// assert!(read_shape(&path).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_shape(path: impl AsRef<Path>) -> Result<(Shape, ReadReport), ReadError> {
    let path = path.as_ref();
    let load = || -> Result<Vec<u8>, ReadReason> {
        let meta = std::fs::metadata(path)?;
        if !meta.is_file() {
            return Err(ReadReason::NotAFile);
        }
        if meta.len() > MAX_FILE_BYTES {
            return Err(ReadReason::TooLarge { bytes: meta.len() });
        }
        // (Asks for memory fallibly.)
        Ok(std::fs::read(path)?)
    };
    let bytes = load().map_err(|reason| ReadError {
        path: path.into(),
        location: Location::File,
        reason,
    })?;
    read_shape_from_bytes(path, &bytes)
}

/// As [`read_shape`], from the content of a file; `name` gives the extension and names the file
/// in errors.
///
/// # Errors
/// See [`read_shape`].
///
/// ```
/// use keops_shapes::io::read_shape_from_bytes;
/// let text = b"v 0 0 0\nv 1 0 0\nv 0 1 5\nf 1 2 3\n";
/// let (triangle, _) = read_shape_from_bytes("triangle.obj", text)?;
/// assert_eq!((triangle.vertex_count(), triangle.cells().name()), (3, "triangle"));
/// assert_eq!(triangle.vertices()[[2, 2]], 5.0);
/// # Ok::<(), keops_shapes::io::ReadError>(())
/// ```
pub fn read_shape_from_bytes(
    name: impl AsRef<Path>,
    bytes: &[u8],
) -> Result<(Shape, ReadReport), ReadError> {
    let path = name.as_ref();
    let read = || {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Failure::new(Location::File, ReadReason::Empty("file")));
        }
        let named = format_of_extension(path);
        let format = format_of_magic(bytes)
            .or(named)
            .or_else(|| format_of_content(bytes))
            .ok_or_else(|| Failure::new(Location::File, ReadReason::UnknownFormat))?;
        let raw = match format {
            Format::Vtk => vtk::read(bytes),
            Format::Ply => ply::read(bytes),
            Format::Obj => obj::read(bytes),
            Format::Stl => stl::read(bytes),
            Format::Npy => npy::read(bytes),
        }?;
        raw.finish(format, named.is_some_and(|named| named != format))
    };
    read().map_err(|Failure { location, reason }| ReadError { path: path.into(), location, reason })
}

fn format_of_extension(path: &Path) -> Option<Format> {
    Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "vtk" => Format::Vtk,
        "ply" => Format::Ply,
        "obj" => Format::Obj,
        "stl" => Format::Stl,
        "npy" => Format::Npy,
        _ => return None,
    })
}

/// The formats that begin with a signature.
fn format_of_magic(bytes: &[u8]) -> Option<Format> {
    if bytes.starts_with(b"# vtk DataFile") {
        Some(Format::Vtk)
    } else if bytes.starts_with(b"ply\n") || bytes.starts_with(b"ply\r") {
        Some(Format::Ply)
    } else if bytes.starts_with(b"\x93NUMPY") {
        Some(Format::Npy)
    } else {
        None
    }
}

/// The formats without a signature: STL by its size or its first word, OBJ by its statements.
fn format_of_content(bytes: &[u8]) -> Option<Format> {
    if stl::is_binary(bytes) || stl::is_ascii(bytes) {
        return Some(Format::Stl);
    }
    let mut lines = bytes.split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(b"#"))?;
    let word = first.split(u8::is_ascii_whitespace).next()?;
    obj::is_statement(word).then_some(Format::Obj)
}

/// A corner of a cell: as written, and counted from 0.
#[derive(Clone, Copy)]
struct Corner {
    index: i64,
    from_zero: i64,
}

/// Vertices and cells as a reader collects them.
#[derive(Default)]
pub(crate) struct RawMesh {
    /// Coordinates per vertex; 0 until vertices were read.
    dim: usize,
    /// Coordinates, vertex after vertex.
    coordinates: Vec<f64>,
    segments: Vec<[usize; 2]>,
    triangles: Vec<[usize; 3]>,
    binary: bool,
    title: String,
    polygons_fanned: usize,
    strips_split: usize,
    polylines_split: usize,
    two_vertex_polygons: usize,
    single_vertex_cells: usize,
    corners_merged: usize,
    skipped: Vec<String>,
}

impl RawMesh {
    fn vertex_count(&self) -> usize {
        self.coordinates.len() / self.dim.max(1)
    }

    /// Adds one coordinate after checking it.
    fn push_coordinate(&mut self, value: f64, location: Location) -> Result<(), Failure> {
        if !acceptable_coordinate(value) {
            let vertex = self.vertex_count();
            return Err(Failure::new(location, ReadReason::Coordinate { vertex, value }));
        }
        push(&mut self.coordinates, value)
    }

    /// Adds a polygon: a fan of triangles, or a segment when it has two corners.
    fn push_polygon(&mut self, corners: &[usize]) -> Result<(), Failure> {
        match *corners {
            [] | [_] => self.single_vertex_cells += 1,
            [a, b] => {
                self.two_vertex_polygons += 1;
                push(&mut self.segments, [a, b])?;
            }
            [a, ref rest @ ..] => {
                self.polygons_fanned += usize::from(rest.len() > 2);
                for w in rest.windows(2) {
                    push(&mut self.triangles, [a, w[0], w[1]])?;
                }
            }
        }
        Ok(())
    }

    /// Adds the segments of a polyline.
    fn push_polyline(&mut self, corners: &[usize]) -> Result<(), Failure> {
        self.single_vertex_cells += usize::from(corners.len() < 2);
        self.polylines_split += usize::from(corners.len() > 2);
        corners.windows(2).try_for_each(|w| push(&mut self.segments, [w[0], w[1]]))
    }

    /// Adds the triangles of a strip; every other one is turned to keep the orientation.
    fn push_strip(&mut self, corners: &[usize]) -> Result<(), Failure> {
        self.single_vertex_cells += usize::from(corners.len() < 3);
        self.strips_split += usize::from(corners.len() > 3);
        for (i, w) in corners.windows(3).enumerate() {
            let triangle = if i % 2 == 0 { [w[0], w[1], w[2]] } else { [w[1], w[0], w[2]] };
            push(&mut self.triangles, triangle)?;
        }
        Ok(())
    }

    /// Makes cells of what a format with cells before vertices has collected: the corners of all
    /// cells in turn, as written, and for each cell its location, its number of corners and whether it
    /// is a polygon (else a polyline). `base` says how the format counts.
    fn push_cells(
        &mut self,
        cells: &[(Location, usize, bool)],
        mut corners: &[Corner],
        base: &'static str,
    ) -> Result<(), Failure> {
        let vertices = self.vertex_count();
        let mut found = Vec::new();
        for (cell, &(location, length, polygon)) in cells.iter().enumerate() {
            found.clear();
            let (own, rest) = corners.split_at(length);
            corners = rest;
            for &Corner { index, from_zero } in own {
                match usize::try_from(from_zero).ok().filter(|&i| i < vertices) {
                    Some(i) => push(&mut found, i)?,
                    None => {
                        let reason = ReadReason::Index { cell, index, vertices, base };
                        return Err(Failure::new(location, reason));
                    }
                }
            }
            if polygon { self.push_polygon(&found) } else { self.push_polyline(&found) }?;
        }
        Ok(())
    }

    /// Triangles make a surface, else segments a curve, else the vertices a point cloud.
    fn finish(self, format: Format, misnamed: bool) -> Result<(Shape, ReadReport), Failure> {
        let whole = |reason| Failure::new(Location::File, reason);
        let n = self.vertex_count();
        if n == 0 {
            return Err(whole(ReadReason::Empty("list of vertices")));
        }
        let vertices = shaped((n, self.dim), self.coordinates)?;
        let flat = self.dim == 3 && vertices.column(2).iter().all(|&z| z == 0.0);
        let mut segments_dropped = 0;
        let mut single_vertex_cells = self.single_vertex_cells;
        let cells = if !self.triangles.is_empty() {
            segments_dropped = self.segments.len();
            Cells::Triangles(self.triangles)
        } else if !self.segments.is_empty() {
            Cells::Segments(self.segments)
        } else {
            single_vertex_cells = 0;
            Cells::Points
        };
        let shape = Shape::new(vertices, cells).map_err(|e| whole(e.into()))?;
        let report = ReadReport {
            format,
            binary: self.binary,
            title: self.title,
            polygons_fanned: self.polygons_fanned,
            strips_split: self.strips_split,
            polylines_split: self.polylines_split,
            two_vertex_polygons: self.two_vertex_polygons,
            segments_dropped,
            single_vertex_cells,
            corners_merged: self.corners_merged,
            flat,
            skipped: self.skipped,
            misnamed,
        };
        Ok((shape, report))
    }
}
