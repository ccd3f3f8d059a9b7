//! Legacy VTK, VTP and PVD files.

use std::path::Path;

use keops_core::error::OutOfMemory;
use ndarray::ArrayView2;

use super::staged::{Buffer, Staged, WriteError, write_file};
use crate::shape::{Cells, Shape};

/// Encoding of a legacy VTK file.
///
/// ```
/// use keops_shapes::builtin::icosphere;
/// use keops_shapes::io::{VtkEncoding, read_shape, write_vtk};
/// let (sphere, folder) = (icosphere(1)?, std::env::temp_dir());
/// for encoding in [VtkEncoding::Ascii, VtkEncoding::Binary] {
///     let path = folder.join(format!("keops-{encoding:?}-{}.vtk", std::process::id()));
///     write_vtk(&path, &sphere, &[], encoding)?;
///     assert_eq!(read_shape(&path)?.0, sphere); // both are exact
///     std::fs::remove_file(&path)?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VtkEncoding {
    /// Text: readable, exact (shortest digits that give the number back).
    Ascii,
    /// Big-endian binary: compact, exact.
    Binary,
}

/// Numbers attached to the vertices of a shape.
///
/// ```
/// use keops_shapes::io::PointData;
/// let (height, wind) = (ndarray::Array2::zeros((42, 1)), ndarray::Array2::zeros((42, 3)));
/// // A scalar and a vector at each of 42 vertices.
/// let data = [
///     PointData { name: "height", values: height.view() },
///     PointData { name: "wind", values: wind.view() },
/// ];
/// assert_eq!(data.map(|d| d.values.ncols()), [1, 3]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PointData<'a> {
    /// Name shown in viewers; white space is percent-encoded as VTK does.
    pub name: &'a str,
    /// One row per vertex; one column is a scalar, two or three a vector.
    pub values: ArrayView2<'a, f64>,
}

pub(super) fn check(path: &Path, shape: &Shape, data: &[PointData]) -> Result<(), WriteError> {
    let vertices = shape.vertex_count();
    match data.iter().find(|d| d.values.nrows() != vertices || !(1..=3).contains(&d.values.ncols()))
    {
        None => Ok(()),
        Some(d) => Err(WriteError::Data {
            path: path.into(),
            name: d.name.into(),
            vertices,
            got: d.values.dim(),
        }),
    }
}

/// VTK's names hold no white space, quotes or percent signs (vtkDataWriter::EncodeString).
fn encoded_name(name: &str) -> String {
    let mut encoded = String::new();
    for byte in if name.is_empty() { "data" } else { name }.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'"' && byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Rows padded with zeros to three columns.
pub(super) fn padded<'a>(rows: ArrayView2<'a, f64>) -> impl Iterator<Item = f64> + 'a {
    (0..rows.nrows())
        .flat_map(move |i| (0..3).map(move |k| if k < rows.ncols() { rows[[i, k]] } else { 0.0 }))
}

/// Writes a shape as legacy VTK polydata (version 3.0, which every reader knows): points in double
/// precision (z = 0 for planar shapes), LINES, POLYGONS or VERTICES, and the given data.
///
/// # Errors
/// When a data array does not fit the shape, or the file cannot be written.
///
/// ```
/// use keops_shapes::io::{PointData, VtkEncoding, write_vtk};
/// use keops_shapes::shape::{Cells, Shape};
/// use ndarray::array;
/// let path = std::env::temp_dir().join(format!("keops-segment-{}.vtk", std::process::id()));
/// let segment = Shape::new(array![[0.0, 0.0], [1.0, 0.5]], Cells::Segments(vec![[0, 1]]))?;
/// let weight = array![[1.0], [2.0]];
/// let data = [PointData { name: "weight", values: weight.view() }];
/// write_vtk(&path, &segment, &data, VtkEncoding::Ascii)?;
/// let text = std::fs::read_to_string(&path)?;
/// assert!(text.contains("POINTS 2 double\n0.0 0.0 0.0\n1.0 0.5 0.0\nLINES 1 3\n2 0 1\n"));
/// assert!(text.ends_with("SCALARS weight double 1\nLOOKUP_TABLE default\n1.0\n2.0\n"));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_vtk(
    path: impl AsRef<Path>,
    shape: &Shape,
    data: &[PointData<'_>],
    encoding: VtkEncoding,
) -> Result<(), WriteError> {
    write_file(&path, &vtk_bytes(&path, shape, data, encoding)?)
}

/// The content of a file of [`write_vtk`]; `path` is for errors.
fn vtk_bytes(
    path: impl AsRef<Path>,
    shape: &Shape,
    data: &[PointData<'_>],
    encoding: VtkEncoding,
) -> Result<Vec<u8>, WriteError> {
    check(path.as_ref(), shape, data)?;
    let mut out = Legacy { bytes: Buffer::default(), encoding };
    let n = shape.vertex_count();
    let kind = if encoding == VtkEncoding::Ascii { "ASCII" } else { "BINARY" };
    out.text(&format!("# vtk DataFile Version 3.0\nkeops shape\n{kind}\nDATASET POLYDATA\n"))?;
    out.text(&format!("POINTS {n} double\n"))?;
    out.reals(padded(shape.vertices()), 3)?;
    let (section, corners) = match shape.cells() {
        Cells::Points => ("VERTICES", 1),
        Cells::Segments(_) => ("LINES", 2),
        Cells::Triangles(_) => ("POLYGONS", 3),
    };
    let m = shape.cell_count();
    out.text(&format!("{section} {m} {}\n", m * (corners + 1)))?;
    match shape.cells() {
        Cells::Points => (0..n).try_for_each(|i| out.cell(&[i]))?,
        cells => cells.corners().try_for_each(|c| out.cell(c))?,
    }
    out.text("\n")?;
    for (i, d) in data.iter().enumerate() {
        if i == 0 {
            out.text(&format!("POINT_DATA {n}\n"))?;
        }
        let name = encoded_name(d.name);
        if d.values.ncols() == 1 {
            out.text(&format!("SCALARS {name} double 1\nLOOKUP_TABLE default\n"))?;
            out.reals(d.values.iter().copied(), 1)?;
        } else {
            out.text(&format!("VECTORS {name} double\n"))?;
            out.reals(padded(d.values), 3)?;
        }
    }
    Ok(out.bytes.into_bytes())
}

struct Legacy {
    bytes: Buffer,
    encoding: VtkEncoding,
}

impl Legacy {
    fn text(&mut self, text: &str) -> Result<(), OutOfMemory> {
        self.bytes.push(text.as_bytes())
    }

    fn reals(
        &mut self,
        values: impl Iterator<Item = f64>,
        per_line: usize,
    ) -> Result<(), OutOfMemory> {
        for (i, x) in values.enumerate() {
            match self.encoding {
                VtkEncoding::Binary => self.bytes.push(&x.to_be_bytes())?,
                VtkEncoding::Ascii => {
                    let end = if (i + 1) % per_line == 0 { '\n' } else { ' ' };
                    // `Debug` writes the shortest digits, with an exponent where numbers need it.
                    self.text(&format!("{x:?}{end}"))?;
                }
            }
        }
        if self.encoding == VtkEncoding::Binary { self.text("\n") } else { Ok(()) }
    }

    fn cell(&mut self, corners: &[usize]) -> Result<(), OutOfMemory> {
        match self.encoding {
            VtkEncoding::Ascii => {
                self.text(&corners.len().to_string())?;
                corners.iter().try_for_each(|i| self.text(&format!(" {i}")))?;
                self.text("\n")
            }
            VtkEncoding::Binary => {
                // The layout of version 3.0 has 32-bit indices; a shape of 2^31 vertices would
                // take 100 GB of memory before it came here.
                let mut all = std::iter::once(corners.len()).chain(corners.iter().copied());
                all.try_for_each(|i| self.bytes.push(&(i as i32).to_be_bytes()))
            }
        }
    }
}

/// Writes a shape as VTP (XML polydata, inline base64, little-endian, exact), the format that
/// ParaView's time series need; see [`write_pvd`].
///
/// # Errors
/// When a data array does not fit the shape, or the file cannot be written.
///
/// ```
/// use keops_shapes::{builtin::icosphere, io::write_vtp};
/// let path = std::env::temp_dir().join(format!("keops-sphere-{}.vtp", std::process::id()));
/// write_vtp(&path, &icosphere(1)?, &[])?;
/// let text = std::fs::read_to_string(&path)?;
/// assert!(text.contains("NumberOfPoints=\"42\""));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_vtp(
    path: impl AsRef<Path>,
    shape: &Shape,
    data: &[PointData<'_>],
) -> Result<(), WriteError> {
    write_file(&path, &vtp_bytes(&path, shape, data)?)
}

/// The content of a file of [`write_vtp`]; `path` is for errors.
fn vtp_bytes(
    path: impl AsRef<Path>,
    shape: &Shape,
    data: &[PointData<'_>],
) -> Result<Vec<u8>, WriteError> {
    check(path.as_ref(), shape, data)?;
    let (n, m) = (shape.vertex_count(), shape.cell_count());
    let (verts, lines, polys) = match shape.cells() {
        Cells::Points => (m, 0, 0),
        Cells::Segments(_) => (0, m, 0),
        Cells::Triangles(_) => (0, 0, m),
    };
    let mut xml = Buffer::default();
    xml.push(
        format!(
            "<?xml version=\"1.0\"?>\n\
             <VTKFile type=\"PolyData\" version=\"1.0\" byte_order=\"LittleEndian\" \
             header_type=\"UInt64\">\n<PolyData>\n\
             <Piece NumberOfPoints=\"{n}\" NumberOfVerts=\"{verts}\" NumberOfLines=\"{lines}\" \
             NumberOfStrips=\"0\" NumberOfPolys=\"{polys}\">\n<PointData>\n"
        )
        .as_bytes(),
    )?;
    for d in data {
        let name = escaped(d.name);
        if d.values.ncols() == 1 {
            let values = d.values.iter().map(|x| x.to_le_bytes());
            data_array(&mut xml, "Float64", &name, 1, d.values.len(), values)?;
        } else {
            let values = padded(d.values).map(f64::to_le_bytes);
            data_array(&mut xml, "Float64", &name, 3, 3 * n, values)?;
        }
    }
    xml.push(b"</PointData>\n<Points>\n")?;
    let points = padded(shape.vertices()).map(f64::to_le_bytes);
    data_array(&mut xml, "Float64", "Points", 3, 3 * n, points)?;
    xml.push(b"</Points>\n")?;
    let (tag, corners) = match shape.cells() {
        Cells::Points => ("Verts", 1),
        Cells::Segments(_) => ("Lines", 2),
        Cells::Triangles(_) => ("Polys", 3),
    };
    xml.push(format!("<{tag}>\n").as_bytes())?;
    let single = if *shape.cells() == Cells::Points { n } else { 0 };
    let cells = shape.cells().corners().flatten().map(|&i| i as u64);
    let connectivity = (0..single as u64).chain(cells).map(u64::to_le_bytes);
    data_array(&mut xml, "Int64", "connectivity", 1, m * corners, connectivity)?;
    let offsets = (1..=m as u64).map(|i| (i * corners as u64).to_le_bytes());
    data_array(&mut xml, "Int64", "offsets", 1, m, offsets)?;
    xml.push(format!("</{tag}>\n</Piece>\n</PolyData>\n</VTKFile>\n").as_bytes())?;
    Ok(xml.into_bytes())
}

/// A binary data array of `count` numbers: base64 of the length (8 bytes) followed by the numbers.
fn data_array(
    xml: &mut Buffer,
    kind: &str,
    name: &str,
    components: usize,
    count: usize,
    numbers: impl Iterator<Item = [u8; 8]>,
) -> Result<(), OutOfMemory> {
    xml.push(
        format!(
            "<DataArray type=\"{kind}\" Name=\"{name}\" NumberOfComponents=\"{components}\" \
             format=\"binary\">"
        )
        .as_bytes(),
    )?;
    let length = (8 * count as u64).to_le_bytes();
    base64(xml, std::iter::once(length).chain(numbers).flatten())?;
    xml.push(b"</DataArray>\n")
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(out: &mut Buffer, bytes: impl Iterator<Item = u8>) -> Result<(), OutOfMemory> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = bytes;
    loop {
        let mut chunk = [0; 3];
        let mut length = 0;
        for (place, byte) in chunk.iter_mut().zip(bytes.by_ref()) {
            (*place, length) = (byte, length + 1);
        }
        if length == 0 {
            return Ok(());
        }
        let word = chunk.iter().fold(0_u32, |word, &b| word << 8 | u32::from(b));
        let digit = |k: usize| {
            if k <= length { DIGITS[(word >> (18 - 6 * k) & 63) as usize] } else { b'=' }
        };
        out.push(&[0, 1, 2, 3].map(digit))?;
    }
}

/// Text for an XML attribute or element.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // XML 1.0 has no way to write control characters.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// Writes a ParaView collection: VTP files with their times. File names are taken relative to the
/// collection's own folder.
///
/// # Errors
/// When the file cannot be written.
///
/// ```
/// use keops_shapes::io::write_pvd;
/// let path = std::env::temp_dir().join(format!("keops-series-{}.pvd", std::process::id()));
/// write_pvd(&path, &[(0.0, "step_0.vtp"), (0.5, "step_1.vtp")])?;
/// let text = std::fs::read_to_string(&path)?;
/// assert!(text.contains("timestep=\"0.5\" part=\"0\" file=\"step_1.vtp\""));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_pvd(
    path: impl AsRef<Path>,
    steps: &[(f64, impl AsRef<Path>)],
) -> Result<(), WriteError> {
    write_file(path, pvd_text(steps).as_bytes())
}

/// The content of a file of [`write_pvd`].
fn pvd_text(steps: &[(f64, impl AsRef<Path>)]) -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\"?>\n\
         <VTKFile type=\"Collection\" version=\"0.1\" byte_order=\"LittleEndian\">\n<Collection>\n",
    );
    for (time, file) in steps {
        let file = escaped(&file.as_ref().to_string_lossy());
        xml.push_str(&format!("<DataSet timestep=\"{time:?}\" part=\"0\" file=\"{file}\"/>\n"));
    }
    xml.push_str("</Collection>\n</VTKFile>\n");
    xml
}

impl Staged {
    /// As [`write_vtk`].
    ///
    /// # Errors
    /// As [`write_vtk`].
    pub fn add_vtk(
        &mut self,
        path: impl AsRef<Path>,
        shape: &Shape,
        data: &[PointData<'_>],
        encoding: VtkEncoding,
    ) -> Result<(), WriteError> {
        let bytes = vtk_bytes(&path, shape, data, encoding)?;
        self.add(path, &bytes)
    }
    /// As [`write_vtp`].
    ///
    /// # Errors
    /// As [`write_vtp`].
    pub fn add_vtp(
        &mut self,
        path: impl AsRef<Path>,
        shape: &Shape,
        data: &[PointData<'_>],
    ) -> Result<(), WriteError> {
        let bytes = vtp_bytes(&path, shape, data)?;
        self.add(path, &bytes)
    }
    /// As [`write_pvd`].
    ///
    /// # Errors
    /// As [`write_pvd`].
    pub fn add_pvd(
        &mut self,
        path: impl AsRef<Path>,
        steps: &[(f64, impl AsRef<Path>)],
    ) -> Result<(), WriteError> {
        self.add(path, pvd_text(steps).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc_vectors() {
        // RFC 4648, section 10.
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in vectors {
            let mut out = Buffer::default();
            base64(&mut out, plain.bytes()).unwrap();
            assert_eq!(out.bytes(), coded.as_bytes());
        }
    }

    #[test]
    fn names_are_encoded_and_escaped() {
        assert_eq!(encoded_name("det J 100%"), "det%20J%20100%25");
        assert_eq!(encoded_name(""), "data");
        assert_eq!(escaped("a<b & \"c\"\u{1}"), "a&lt;b &amp; &quot;c&quot; ");
    }
}
