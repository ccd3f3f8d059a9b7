//! Files written by other programs, broken files, and shapes of the literature.

use std::path::{Path, PathBuf};

use keops_shapes::io::{
    Format, PointData, ReadReport, VtkEncoding, WriteError, read_shape, read_shape_from_bytes,
    write_file, write_obj, write_ply, write_pvd, write_shape, write_stl, write_vtk, write_vtp,
};
use keops_shapes::shape::{Cells, Shape};
use ndarray::{Array2, array};
use proptest::prelude::*;

/// The points of `tests/data/make.py`.
fn made_points() -> Array2<f64> {
    array![
        [0.0, 0.0, 0.0],
        [1.0, 0.0, 0.0],
        [1.0, 1.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.5, 0.5, 0.1],
        [2.0, 0.0, 0.25],
        [2.0, 1.0, -0.3]
    ]
}

fn single(x: &Array2<f64>) -> Array2<f64> {
    x.mapv(|x| f64::from(x as f32))
}

fn made(name: &str) -> (Shape, ReadReport) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    read_shape(path).unwrap_or_else(|e| panic!("{e}"))
}

fn parse(name: &str, text: &str) -> Result<(Shape, ReadReport), String> {
    read_shape_from_bytes(name, text.as_bytes()).map_err(|e| e.to_string())
}

/// A folder of its own for each test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("keops-files-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn vtk_surfaces_by_vtk() {
    // Two triangles, a quadrilateral as a fan, a strip of two triangles (1 5 2) and (5 6 2) with
    // the orientation of the first.
    let triangles = vec![[0, 1, 4], [1, 2, 4], [0, 4, 2], [0, 2, 3], [1, 5, 2], [2, 5, 6]];
    for (version, kind) in [(42, "ascii"), (42, "binary"), (51, "ascii"), (51, "binary")] {
        let (shape, report) = made(&format!("surface_{version}_{kind}.vtk"));
        let expected = if kind == "ascii" { made_points() } else { single(&made_points()) };
        assert_eq!(shape.vertices(), expected, "{version} {kind}");
        assert_eq!(shape.cells(), &Cells::Triangles(triangles.clone()));
        assert_eq!((report.format, report.binary), (Format::Vtk, kind == "binary"));
        assert_eq!(report.title, "vtk output");
        assert_eq!((report.polygons_fanned, report.strips_split), (1, 1));
        assert_eq!((report.segments_dropped, report.single_vertex_cells), (1, 1));
        assert!(!report.flat && !report.misnamed);
        let text = report.to_string();
        assert!(text.contains("1 segments left out beside triangles"), "{text}");
    }
}

#[test]
fn vtk_curves_by_vtk() {
    for (version, kind) in [(42, "ascii"), (42, "binary"), (51, "ascii"), (51, "binary")] {
        let (shape, report) = made(&format!("curve_{version}_{kind}.vtk"));
        assert_eq!(shape.vertices(), made_points(), "{version} {kind}");
        assert_eq!(shape.cells(), &Cells::Segments(vec![[0, 1], [1, 2], [2, 3], [5, 6]]));
        assert_eq!((report.polylines_split, report.two_vertex_polygons), (1, 0));
    }
}

#[test]
fn other_formats_by_vtk_and_numpy() {
    let triangles = Cells::Triangles(vec![[0, 1, 4], [1, 2, 4], [2, 3, 4]]);
    for name in ["surface_ascii.ply", "surface_little.ply", "surface_big.ply", "surface.obj"] {
        let (shape, report) = made(name);
        assert_eq!(shape.cells(), &triangles, "{name}");
        let error = (&shape.vertices() - &made_points()).mapv(f64::abs);
        assert!(error.iter().all(|&e| e < 2e-8), "{name}: {:?}", shape.vertices());
        assert_eq!(report.binary, name.contains("little") || name.contains("big"));
    }
    let (shape, _) = made("surface_big.ply");
    assert_eq!(shape.vertices(), single(&made_points()));
    for (name, binary) in [("surface_ascii.stl", false), ("surface_binary.stl", true)] {
        let (shape, report) = made(name);
        // Vertices in the order of their first use; 9 corners, 5 of them distinct.
        assert_eq!(shape.cells(), &Cells::Triangles(vec![[0, 1, 2], [1, 3, 2], [3, 4, 2]]));
        assert_eq!((report.binary, report.corners_merged), (binary, 4));
        let order = made_points().select(ndarray::Axis(0), &[0, 1, 4, 2, 3]);
        let error = (&shape.vertices() - &order).mapv(f64::abs);
        assert!(error.iter().all(|&e| e < 2e-8), "{name}");
        assert!(report.title.contains("Visualization Toolkit"), "{}", report.title);
    }
    assert_eq!(made("points_f8.npy").0.vertices(), made_points());
    assert_eq!(made("points_f8.npy").0.cells(), &Cells::Points);
    assert_eq!(made("points_f4_fortran.npy").0.vertices(), single(&made_points()));
    assert_eq!(
        made("points_i2_big.npy").0.vertices(),
        array![[1.0, -2.0], [300.0, 4.0], [5.0, -6.0]]
    );
}

#[test]
fn vtk_of_other_writers() {
    // Segments as two-vertex polygons, three points per line, DOS line ends, lower case,
    // data after the geometry that is not understood.
    let text = "# vtk DataFile Version 2.0\r\nskull\r\nASCII\r\ndataset polydata\r\n\
                points 3 double\r\n0 0 0 1 0 0 1e0 2.5 0\r\npolygons 2 6\r\n2 0 1\r\n2 1 2\r\n\
                CELL_DATA 2\r\nwhatever\r\n";
    let (shape, report) = parse("a.vtk", text).unwrap();
    assert_eq!(shape.cells(), &Cells::Segments(vec![[0, 1], [1, 2]]));
    assert_eq!((report.two_vertex_polygons, report.flat), (2, true));
    assert_eq!(report.title, "skull");
    assert_eq!(shape.to_planar().unwrap().vertices(), array![[0.0, 0.0], [1.0, 0.0], [1.0, 2.5]]);

    let points = "# vtk DataFile Version 3.0\n\nASCII\nDATASET POLYDATA\nPOINTS 1 int\n1 2 3\n";
    let (shape, _) = parse("a", points).unwrap();
    assert_eq!((shape.cells(), shape.vertices()), (&Cells::Points, array![[1.0, 2.0, 3.0]].view()));
}

#[test]
fn obj_forms() {
    let text = "# made by hand\nmtllib a.mtl\nv 0 0 0\nv 1 0 0 1.0\nv 1 1 0 0.1 0.2 0.3\nvt 0 0\n\
                vn 0 0 1\nf 1/1/1 2//1 3/1\nv 0 1 0\nf -4 -2 \\\n -1 # last\nf 1 2 3 4\n";
    let (shape, report) = parse("a.obj", text).unwrap();
    let expected = vec![[0, 1, 2], [0, 2, 3], [0, 1, 2], [0, 2, 3]];
    assert_eq!(shape.cells(), &Cells::Triangles(expected));
    assert_eq!((report.title.as_str(), report.polygons_fanned), ("made by hand", 1));
    let (shape, _) = parse("a.obj", "v 0 0 0\nv 1 0 0\nv 1 1 0\nl 1 2 3\n").unwrap();
    assert_eq!(shape.cells(), &Cells::Segments(vec![[0, 1], [1, 2]]));
}

/// A triangle in lines that end in any of three ways, in each text format.
#[test]
fn lines_end_in_any_way() {
    let texts = [
        ("a.obj", "v 0 0 0\nv 1 0 0\n\nv 0 1 0\nf 1 2 3\n"),
        (
            "a.ply",
            "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n\
             property float z\nelement face 1\nproperty list uchar int vertex_indices\n\
             end_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
        ),
        (
            "a.vtk",
            "# vtk DataFile Version 3.0\nt\nASCII\nDATASET POLYDATA\nPOINTS 3 float\n\
             0 0 0 1 0 0 0 1 0\nPOLYGONS 1 4\n3 0 1 2\n",
        ),
        (
            "a.stl",
            "solid t\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\n\
             endloop\nendfacet\nendsolid t\n",
        ),
    ];
    for (name, text) in texts {
        for end in ["\n", "\r\n", "\r"] {
            let (shape, _) = parse(name, &text.replace('\n', end)).unwrap();
            assert_eq!(shape.vertices(), array![[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
            assert_eq!(*shape.cells(), Cells::Triangles(vec![[0, 1, 2]]), "{name} {end:?}");
        }
        // Places count such lines.
        let wrong = text.replace('1', "?").replace('\n', "\r");
        let (a, b) = (parse(name, &wrong), parse(name, &text.replace('1', "?")));
        assert_eq!(a.unwrap_err().to_string(), b.unwrap_err().to_string());
    }
    // The first byte of data after it could be a line feed of the header or not.
    let binary = "ply\rformat binary_little_endian 1.0\relement vertex 1\rproperty uchar x\r\
                  property uchar y\rend_header\r\u{1}\u{2}";
    let e = parse("a.ply", binary).unwrap_err().to_string();
    assert!(e.contains("\\r alone"), "{e}");
}

/// What a format has no place for is not dropped without a word.
#[test]
fn more_than_the_format_has_is_refused() {
    let ply = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n\
               property float z\nelement face 1\nproperty list uchar int vertex_indices\n\
               end_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n";
    let obj = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n";
    let vtk = "# vtk DataFile Version 3.0\nt\nASCII\nDATASET POLYDATA\nPOINTS 3 float\n\
               0 0 0 1 0 0 0 1 0\nPOLYGONS 1 4\n3 0 1 2\n";
    let cases = [
        ("a.ply", ply.replace("1 0 0\n", "1 0 0 9\n"), "line 11", "element vertex"),
        ("a.ply", ply.replace("3 0 1 2", "3 0 1 2 7"), "line 13", "element face"),
        ("a.ply", format!("{ply}3 2 1 0\n"), "line 14", "end of the file"),
        ("a.ply", ply.replace("1.0", "2.0"), "line 2", "version 1.0"),
        ("a.ply", ply.replace("vertex 3", "vertex 3 4"), "line 3", "no more"),
        ("a.obj", obj.replace("1 0 0", "1 0 0 nonsense"), "line 2", "after z"),
        ("a.obj", obj.replace("1 0 0", "1 0 0 1 2"), "line 2", "after z"),
        ("a.obj", obj.replace("1 2 3", "1 2 3/x"), "line 4", "v/vt/vn"),
        ("a.obj", obj.replace("1 2 3", "1 2 3/1/1/1"), "line 4", "v/vt/vn"),
        ("a.vtk", vtk.replace("1 0\n", "1 0 7\n"), "line 6", "section"),
        ("a.vtk", vtk.replace("ASCII", "ASCII BINARY"), "line 3", "no more"),
        ("a.vtk", vtk.replace("POLYDATA", "POLYDATA 3"), "line 4", "no more"),
    ];
    for (name, text, place, what) in cases {
        let e = parse(name, &text).unwrap_err().to_string();
        assert!(e.contains(place) && e.contains(what), "{name}: {e}");
    }
    // Weights and colours are said to be skipped.
    let (shape, report) = parse("a.obj", &obj.replace("v 1 0 0", "v 1 0 0 0.5 0.5 1")).unwrap();
    assert_eq!(*shape.cells(), Cells::Triangles(vec![[0, 1, 2]]));
    assert!(report.to_string().contains("colours"), "{report}");
}

#[test]
fn ply_forms() {
    let head = "ply\nformat ascii 1.0\ncomment two\nelement vertex 3\nproperty double x\n\
                property uchar red\nproperty double y\n";
    let text = format!(
        "{head}element edge 2\nproperty int vertex1\nproperty int vertex2\nelement extra 1\n\
         property float k\nend_header\n0 7 0\n1 7 0\n1 7 0.1\n0 1\n1 2\n5\n"
    );
    let (shape, report) = parse("a.ply", &text).unwrap();
    assert_eq!(shape.vertices(), array![[0.0, 0.0], [1.0, 0.0], [1.0, 0.1]]);
    assert_eq!(shape.cells(), &Cells::Segments(vec![[0, 1], [1, 2]]));
    assert_eq!((report.title.as_str(), report.skipped), ("two", vec!["element extra".to_string()]));
    // Both names of the list, faces before vertices, unsigned and short indices.
    for (list, kind) in [("vertex_index", "uint"), ("vertex_indices", "short")] {
        let text = format!(
            "ply\nformat ascii 1.0\nelement face 1\nproperty list uchar {kind} {list}\n\
             element vertex 3\nproperty float x\nproperty float y\nproperty float z\nend_header\n\
             3 0 1 2\n0 0 0\n1 0 0\n1 1 0"
        );
        let (shape, _) = parse("a.ply", &text).unwrap();
        assert_eq!(shape.cells(), &Cells::Triangles(vec![[0, 1, 2]]));
    }
}

#[test]
fn the_format_is_found_without_an_extension() {
    for (name, format) in [
        ("surface_42_ascii.vtk", Format::Vtk),
        ("surface_little.ply", Format::Ply),
        ("surface.obj", Format::Obj),
        ("surface_ascii.stl", Format::Stl),
        ("surface_binary.stl", Format::Stl),
        ("points_f8.npy", Format::Npy),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        let bytes = std::fs::read(path).unwrap();
        let (_, report) = read_shape_from_bytes("mesh.dat", &bytes).unwrap();
        assert_eq!((report.format, report.misnamed), (format, false));
    }
    let (shape, report) = parse(
        "a.ply",
        "# vtk DataFile Version 3.0\n\nASCII\nDATASET POLYDATA\nPOINTS 1 float\n1 2 3",
    )
    .unwrap();
    assert!(report.misnamed && shape.vertex_count() == 1);
    // ASCII STL in capitals, with and without an extension.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/surface_ascii.stl");
    let text = std::fs::read_to_string(path).unwrap();
    for name in ["a.stl", "mesh"] {
        let (plain, _) = parse(name, &text).unwrap();
        let (shape, report) = parse(name, &text.to_uppercase()).unwrap();
        assert!(shape == plain && !report.binary, "{name}");
    }
    // Binary STL whose header begins as an ASCII one does.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/surface_binary.stl");
    let mut bytes = std::fs::read(path).unwrap();
    bytes[..6].copy_from_slice(b"solid ");
    assert!(read_shape_from_bytes("a.stl", &bytes).unwrap().1.binary);
}

#[test]
fn broken_files_are_refused_with_place_and_reason() {
    let vtk =
        |rest: &str| format!("# vtk DataFile Version 3.0\nt\nASCII\nDATASET POLYDATA\n{rest}");
    let p3 = "POINTS 3 float\n0 0 0\n1 0 0\n1 1 0\n";
    let ply = |rest: &str| {
        format!(
            "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n\
             property float z\nelement face 1\nproperty list uchar int vertex_indices\n\
             end_header\n{rest}"
        )
    };
    let stl = "solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\n";
    let cases: Vec<(&str, String, &str, &str)> = vec![
        ("a.vtk", "".into(), "a.vtk: ", "the file is empty"),
        ("a.vtk", " \n\n".into(), "a.vtk: ", "the file is empty"),
        ("a.vtk", "hello".into(), "a.vtk, line 1: ", "vtk DataFile Version"),
        ("a.vtk", "# vtk DataFile Version x\n".into(), "line 1: ", "Version x.y"),
        ("a.vtk", "# vtk DataFile Version 3.0\nt\n".into(), "line 3: ", "ASCII or BINARY"),
        (
            "a.vtk",
            "# vtk DataFile Version 3.0\nt\nASCII\nDATASET UNSTRUCTURED_GRID\n".into(),
            "line 4: ",
            "\"UNSTRUCTURED_GRID\" (only POLYDATA) is not supported",
        ),
        ("a.vtk", vtk(""), "line 5: ", "expected a POINTS section, got the end of the file"),
        ("a.vtk", vtk("POINTS 0 float\n"), "a.vtk: ", "the list of vertices is empty"),
        ("a.vtk", vtk("POINTS -1 float\n"), "line 5: ", "non-negative integer, got \"-1\""),
        ("a.vtk", vtk("POINTS 1 quux\n1 2 3\n"), "line 5: ", "data type for POINTS, got \"quux\""),
        (
            "a.vtk",
            vtk("POINTS 1000000000000000 float\n1 2 3\n"),
            "line 6: ",
            "needs at least 5999999999999999 bytes, but only 6 are left",
        ),
        (
            "a.vtk",
            vtk("POINTS 18446744073709551615 double\n1 2 3\n"),
            "line 6: ",
            "but only 6 are left",
        ),
        (
            "a.vtk",
            vtk("POINTS 3 float\n0.00 0.00 0.00\n1.00 0.00 0.00\n"),
            "line 8: ",
            "number 6 of 9 of POINTS, got the end of the file",
        ),
        (
            "a.vtk",
            vtk("POINTS 2 float\n0 0 0\n1 abc 0\n"),
            "line 7: ",
            "number 4 of 6 of POINTS, got \"abc\"",
        ),
        (
            "a.vtk",
            vtk("POINTS 2 float\n0 0 0\n1 nan 0\n"),
            "line 7: ",
            "vertex 1 has the coordinate NaN",
        ),
        ("a.vtk", vtk("POINTS 1 float\n0 inf 0\n"), "line 6: ", "vertex 0 has the coordinate inf"),
        ("a.vtk", vtk("POLYGONS 1 4\n3 0 1 2\n"), "line 5: ", "POINTS before any cells"),
        ("a.vtk", vtk(&format!("{p3}{p3}")), "line 9: ", "one POINTS section"),
        ("a.vtk", vtk(&format!("{p3}POLIGONS 1 4\n3 0 1 2\n")), "line 9: ", "got \"POLIGONS\""),
        (
            "a.vtk",
            vtk(&format!("{p3}POLYGONS 1 4\n3 0 1 3\n")),
            "line 10: ",
            "cell 0 refers to vertex 3, but there are 3 vertices (from 0)",
        ),
        ("a.vtk", vtk(&format!("{p3}POLYGONS 1 4\n3 0 1 -1\n")), "line 10: ", "vertex -1"),
        (
            "a.vtk",
            vtk(&format!("{p3}POLYGONS 2 4\n3 0 1 2\n")),
            "line 10: ",
            "cells in the 4 numbers of POLYGONS: expected 2, got 1",
        ),
        (
            "a.vtk",
            vtk(&format!("{p3}POLYGONS 1 4\n9 0 1 2\n")),
            "line 10: ",
            "the corner count of cell 0 of POLYGONS, at most 3, got 9",
        ),
        ("a.vtk", vtk(&format!("{p3}LINES 1 3\n2 0 1.5\n")), "line 10: ", "got \"1.5\""),
        (
            "a.vtk",
            vtk(&format!(
                "{p3}POLYGONS 2 3\nOFFSETS vtktypeint64\n0 3\nCONNECTIVITY vtktypeint64\n0 1 7\n"
            )),
            "line 13: ",
            "cell 0 refers to vertex 7",
        ),
        (
            "a.vtk",
            vtk(&format!(
                "{p3}POLYGONS 2 3\nOFFSETS vtktypeint64\n0 4\nCONNECTIVITY vtktypeint64\n0 1 2\n"
            )),
            "line 11: ",
            "offset 1 of POLYGONS between 0 and 3, got 4",
        ),
        (
            "a.vtk",
            vtk(&format!(
                "{p3}POLYGONS 2 3\nOFFSETS vtktypeint64\n0 2\nCONNECTIVITY vtktypeint64\n0 1 2\n"
            )),
            "line 13: ",
            "expected 3, got 2",
        ),
        (
            "a.vtk",
            vtk(&format!(
                "{p3}POLYGONS 2 3\nOFFSETS float\n0 2\nCONNECTIVITY vtktypeint64\n0 1 2\n"
            )),
            "line 11: ",
            "integers for OFFSETS of POLYGONS",
        ),
        ("a.ply", "plyx\n".into(), "line 1: ", "ply"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 3\n".into(), "line 4: ", "end_header"),
        ("a.ply", ply("0 0 0\n1 0 0\n1 1 0\n"), "line 13: ", "element face (1 announced)"),
        (
            "a.ply",
            ply("0 0 0\n1 0 0\n1 x 0\n3 0 1 2\n"),
            "line 12: ",
            "expected a number of property y, got \"x\" in \"1 x 0\"",
        ),
        ("a.ply", ply("0 0 0\n1 0 0\n1 1e39 0\n3 0 1 2\n"), "line 12: ", "coordinate inf"),
        ("a.ply", ply("0 0 0\n1 0 0\n1 1 0\n3 0 1 3\n"), "line 13: ", "cell 0 refers to vertex 3"),
        ("a.ply", ply("0 0 0\n1 0 0\n1 1 0\n3 0 1\n"), "line 13: ", "the list vertex_indices (3 n"),
        (
            "a.ply",
            ply("").replace("vertex 3", "vertex 1000000000000000"),
            "line 10: ",
            "element vertex (1000000000000000 announced) needs at least 5999999999999999 bytes",
        ),
        (
            "a.ply",
            "ply\nformat binary_little_endian 1.0\nelement vertex 1000000000000000\nend_header\n"
                .into(),
            "line 3: ",
            "element vertex without properties is not supported",
        ),
        ("a.obj", "v 0 0\n".into(), "line 1: ", "coordinate z of a vertex, got \"\""),
        ("a.obj", "v 0 0 x\n".into(), "line 1: ", "coordinate z of a vertex, got \"x\""),
        ("a.obj", "v 0 0 nan\n".into(), "line 1: ", "vertex 0 has the coordinate NaN"),
        (
            "a.obj",
            "v 0 0 0\nv 1 0 0\nf 1 2 3\n".into(),
            "line 3: ",
            "vertex 3, but there are 2 vertices (from 1)",
        ),
        ("a.obj", "v 0 0 0\nv 1 0 0\nf 0 1 2\n".into(), "line 3: ", "vertex 0, but"),
        ("a.obj", "v 0 0 0\nf -2 -1 -1\n".into(), "line 2: ", "vertex -2, but"),
        ("a.obj", "v 0 0 0\nf a b c\n".into(), "line 2: ", "a vertex index, got \"a\""),
        ("a.obj", "v 0 0 0\nf 1\n".into(), "line 2: ", "at least two vertex indices, got 1"),
        ("a.obj", "some prose\n".into(), "line 1: ", "an OBJ statement, got \"some\""),
        ("a.obj", "surf 0 1 0 1\n".into(), "line 1: ", "\"surf\" is not supported"),
        ("a.obj", "# nothing\n".into(), "a.obj: ", "the list of vertices is empty"),
        ("a.stl", stl.into(), "line 6: ", "expected vertex, got \"\""),
        ("a.stl", format!("{stl}vertex 0 y 0\n"), "line 6: ", "coordinate of a vertex, got \"y\""),
        ("a.stl", "solid a\nendsolid a\n".into(), "a.stl", "the list of facets is empty"),
        ("a.stl", "solid a\n".into(), "line 2: ", "expected endsolid, got the end of the file"),
        ("a.stl", "garbage".into(), "byte 0: ", "the header of a binary STL file needs"),
        ("a.stl", "g".repeat(90), "byte 84: ", "1734829927 facets needs at least"),
        ("a.npy", "\u{0}".into(), "", "the .npy header"),
        ("a.txt", "some prose\n".into(), "a.txt: ", "neither the extension nor the content"),
    ];
    for (name, text, place, reason) in cases {
        let error = match parse(name, &text) {
            Ok(read) => panic!("{text:?} was read as {read:?}"),
            Err(error) => error,
        };
        assert!(error.contains(place) && error.contains(reason), "{text:?}\ngave {error:?}");
        assert!(error.starts_with(name) && error.len() < 400, "{error:?}");
    }
}

#[test]
fn broken_arrays_are_refused() {
    let npy = |header: &str, data: usize| {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        read_shape_from_bytes("a.npy", &bytes).map_err(|e| e.to_string())
    };
    let header = |descr: &str, shape: &str| {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")
    };
    assert_eq!(npy(&header("<f8", "(2, 3)"), 48).unwrap().0.vertex_count(), 2);
    for (header, data, reason) in [
        (header("<f8", "(2, 3)"), 47, "the array needs at least 48 bytes, but only 47 are left"),
        (header("<f8", "(1000000000000000000, 3)"), 48, "but only 48 are left"),
        (header("<f8", "(4,)"), 32, "an array of shape (n, 2) or (n, 3), got \"(4,)"),
        (header("<f8", "(0, 3)"), 0, "the list of vertices is empty"),
        (header("<c16", "(1, 2)"), 32, "element type \"<c16\" is not supported"),
        ("{'shape': (1, 2)}".into(), 32, "'descr' in the header"),
        ("{}".into(), 0, "'descr' in the header"),
        ("".into(), 0, "the .npy header needs at least 12 bytes"),
    ] {
        let error = npy(&header, data).unwrap_err();
        assert!(error.contains(reason), "{header:?} gave {error:?}");
    }
}

#[test]
fn places_without_a_readable_file() {
    let folder = Folder::new("places");
    let missing = read_shape(folder.0.join("missing.vtk")).unwrap_err().to_string();
    assert!(missing.contains("missing.vtk") && missing.contains("No such file"), "{missing}");
    let directory = read_shape(&folder.0).unwrap_err().to_string();
    assert!(directory.ends_with("not a regular file"), "{directory}");
    let device = read_shape("/dev/zero").unwrap_err().to_string();
    assert!(device == "/dev/zero: not a regular file" || device.contains("No such"), "{device}");
    let path = folder.0.join("nowhere/a.vtk");
    let shape = Shape::new(array![[0.0, 0.0]], Cells::Points).unwrap();
    let error = write_vtk(&path, &shape, &[], VtkEncoding::Ascii).unwrap_err().to_string();
    assert!(error.contains("nowhere/a.vtk"), "{error}");
}

/// A rename would put a file in the place of what stands there.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_replaced() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let folder = Folder::new("targets");
    let at = |name: &str| folder.0.join(name);
    // A socket stands for devices and pipes.
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for name in ["socket", ""] {
        let error = write_file(at(name), b"new").unwrap_err().to_string();
        assert!(error.ends_with("not a regular file"), "{error}");
    }
    assert!(std::fs::metadata(at("socket")).unwrap().file_type().is_socket());
    // Links stay links: to a file, to a link, to nothing yet.
    std::fs::create_dir(at("data")).unwrap();
    std::fs::write(at("data/a"), b"old").unwrap();
    symlink("data/a", at("link")).unwrap();
    symlink("link", at("chain")).unwrap();
    symlink("data/b", at("open")).unwrap();
    for (link, file) in [("link", "data/a"), ("chain", "data/a"), ("open", "data/b")] {
        write_file(at(link), link.as_bytes()).unwrap();
        assert!(at(link).is_symlink());
        assert_eq!(std::fs::read(at(file)).unwrap(), link.as_bytes());
    }
    assert_eq!(std::fs::read_dir(at("data")).unwrap().count(), 2); // no temporary files
}

/// Values that are hard to print.
fn hard_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        -1e3..1e3,
        Just(-0.0),
        Just(0.1 + 0.2),
        Just(5e-324),
        Just(1e-300),
        Just(1e50),
        Just(1.0 / 3.0),
        -1e49..1e49,
    ]
}

fn any_shape() -> impl Strategy<Value = Shape> {
    (2_usize..4, 1_usize..12, 0_usize..3).prop_flat_map(|(d, n, kind)| {
        let d = if kind == 2 { 3 } else { d };
        let vertices = prop::collection::vec(hard_number(), n * d);
        let cells = prop::collection::vec((0..n, 0..n, 0..n), 1..9);
        (vertices, cells).prop_map(move |(v, c)| {
            let cells = match kind {
                0 => Cells::Points,
                1 => Cells::Segments(c.into_iter().map(|(a, b, _)| [a, b]).collect()),
                _ => Cells::Triangles(c.into_iter().map(|(a, b, c)| [a, b, c]).collect()),
            };
            Shape::new(Array2::from_shape_vec((n, d), v).unwrap(), cells).unwrap()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn written_shapes_are_read_back_exactly(shape in any_shape(), binary in any::<bool>()) {
        let folder = Folder::new(if binary { "round-binary" } else { "round-ascii" });
        let path = folder.0.join("shape.vtk");
        let n = shape.vertex_count();
        let scalar = Array2::from_elem((n, 1), 0.5);
        let vector = Array2::from_elem((n, shape.dim()), -1.5);
        let data = [
            PointData { name: "det J", values: scalar.view() },
            PointData { name: "momentum", values: vector.view() },
        ];
        let encoding = if binary { VtkEncoding::Binary } else { VtkEncoding::Ascii };
        write_vtk(&path, &shape, &data, encoding).unwrap();
        let (read, report) = read_shape(&path).unwrap();
        prop_assert_eq!(&read, &shape.to_spatial().unwrap());
        prop_assert_eq!(report.binary, binary);
        prop_assert_eq!(report.skipped, vec!["point and cell data".to_string()]);
    }

    /// Files cut anywhere and with bytes changed anywhere give a shape or an error, no panic.
    #[test]
    fn damaged_files_never_panic(
        which in 0..MADE.len(),
        cut in 0.0..1.0,
        flips in prop::collection::vec((0.0..1.0, any::<u8>()), 0..6),
        text in prop::collection::vec((0.0..1.0, "[0-9a-zA-Z \n.-]{1,12}"), 0..3),
    ) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(MADE[which]);
        let whole = std::fs::read(path).unwrap();
        let mut bytes = whole.clone();
        let at = |fraction: f64, length: usize| ((fraction * length as f64) as usize).min(length);
        // Half of the runs keep the length.
        if cut < 0.5 {
            bytes.truncate(at(2.0 * cut, whole.len()));
        }
        for (place, value) in flips {
            let place = at(place, bytes.len().saturating_sub(1));
            if let Some(byte) = bytes.get_mut(place) {
                *byte = value;
            }
        }
        for (place, words) in text {
            let place = at(place, bytes.len());
            bytes.splice(place..place, words.bytes());
        }
        for name in [MADE[which], "mesh"] {
            match read_shape_from_bytes(name, &bytes) {
                Ok((shape, _)) => prop_assert!(shape.cell_count() > 0),
                Err(error) => prop_assert!(error.to_string().starts_with(name)),
            }
        }
    }
}

const MADE: [&str; 16] = [
    "surface_42_ascii.vtk",
    "surface_42_binary.vtk",
    "surface_51_ascii.vtk",
    "surface_51_binary.vtk",
    "curve_42_ascii.vtk",
    "curve_42_binary.vtk",
    "curve_51_ascii.vtk",
    "curve_51_binary.vtk",
    "surface_ascii.ply",
    "surface_little.ply",
    "surface_big.ply",
    "surface_ascii.stl",
    "surface_binary.stl",
    "surface.obj",
    "points_f8.npy",
    "points_f4_fortran.npy",
];

#[test]
fn every_cut_of_every_file_is_handled() {
    for name in MADE {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        let bytes = std::fs::read(path).unwrap();
        for length in 0..bytes.len() {
            if let Err(error) = read_shape_from_bytes(name, &bytes[..length]) {
                assert!(error.to_string().starts_with(name), "{error}");
            }
        }
    }
}

#[test]
fn data_must_fit_the_shape() {
    let shape = Shape::new(array![[0.0, 0.0], [1.0, 0.0]], Cells::Segments(vec![[0, 1]])).unwrap();
    for dim in [(1, 1), (2, 0), (2, 4)] {
        let values = Array2::zeros(dim);
        let data = [PointData { name: "p", values: values.view() }];
        for result in [
            write_vtk("never.vtk", &shape, &data, VtkEncoding::Binary),
            write_vtp("never.vtp", &shape, &data),
        ] {
            let error = result.unwrap_err();
            assert!(matches!(&error, WriteError::Data { got, .. } if *got == dim), "{error}");
        }
    }
    assert!(!Path::new("never.vtk").exists() && !Path::new("never.vtp").exists());
}

#[test]
fn vtp_and_pvd_layout() {
    let folder = Folder::new("vtp");
    let shape = Shape::new(array![[0.0, 0.0], [1.0, 0.0]], Cells::Segments(vec![[0, 1]])).unwrap();
    let path = folder.0.join("a.vtp");
    write_vtp(&path, &shape, &[]).unwrap();
    let xml = std::fs::read_to_string(&path).unwrap();
    assert!(xml.contains("NumberOfPoints=\"2\" NumberOfVerts=\"0\" NumberOfLines=\"1\""));
    // 16 bytes of connectivity: length 16, then 0 and 1 as 64-bit little-endian numbers.
    assert!(xml.contains(">EAAAAAAAAAAAAAAAAAAAAAEAAAAAAAAA</DataArray>"), "{xml}");
    write_pvd(folder.0.join("a.pvd"), &[(0.0, "a.vtp"), (0.5, "b&c.vtp")]).unwrap();
    let xml = std::fs::read_to_string(folder.0.join("a.pvd")).unwrap();
    assert!(xml.contains("<DataSet timestep=\"0.5\" part=\"0\" file=\"b&amp;c.vtp\"/>"), "{xml}");
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 2, "no temporary file is left");
}

/// Shapes of the literature; they are not part of the project and may be absent.
fn literature(name: &str) -> Option<(Shape, ReadReport)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if !path.exists() {
        println!("skipped: ../shared/data/{name} is absent");
        return None;
    }
    Some(read_shape(path).unwrap_or_else(|e| panic!("{e}")))
}

#[test]
fn shapes_of_the_literature() {
    let mut surfaces: Vec<(String, usize, usize, i64)> = Vec::new();
    for side in ["source", "target"] {
        surfaces.push((format!("hippos/hippos_{side}.vtk"), 6611, 13218, 2));
        for kind in ["ply", "vtk"] {
            // In the target one edge has four triangles, hence one edge less.
            let euler = if side == "target" { 3 } else { 2 };
            surfaces.push((format!("hippos/hippos_red_{side}.{kind}"), 1654, 3304, euler));
            surfaces.push((format!("hippos/hippos_reduc_{side}.{kind}"), 662, 1320, 2));
            surfaces.push((format!("hippos/hippos_reduc_reduc_{side}.{kind}"), 68, 132, 2));
        }
    }
    for i in [0, 1] {
        surfaces.push((format!("fingers/finger{i}.ply"), 2046, 4088, 2));
    }
    for i in [3, 11] {
        surfaces.push((format!("cactus/cactus{i}.ply"), 5261, 10518, 2));
    }
    for pose in ["A", "B"] {
        surfaces.push((format!("elephants/pose_{pose}.obj"), 39_969, 79_946, -4));
    }
    surfaces.push(("spot/spot_triangulated.obj".into(), 2930, 5856, 2));
    for (name, vertices, faces, euler) in &surfaces {
        let Some((shape, report)) = literature(name) else { continue };
        assert!(matches!(shape.cells(), Cells::Triangles(_)), "{name}");
        let counts = shape.counts().unwrap();
        assert_eq!((counts.vertices, counts.cells), (*vertices, *faces), "{name}");
        assert_eq!((counts.boundary, counts.euler), (0, *euler), "{name}");
        assert_eq!(report.polygons_fanned + report.segments_dropped, 0, "{name}: {report}");
        let (_, cleaned) = shape.cleaned().unwrap();
        assert!(cleaned.unreferenced_vertices.is_empty(), "{name}: {cleaned}");
    }
    for (name, vertices, segments) in [
        ("template", 150, 144),
        ("skull_australopithecus", 178, 172),
        ("skull_erectus", 180, 174),
        ("skull_habilis", 185, 179),
        ("skull_neandertalis", 196, 190),
        ("skull_sapiens", 206, 200),
    ] {
        let Some((shape, report)) = literature(&format!("skulls/{name}.vtk")) else { continue };
        assert_eq!((shape.vertex_count(), shape.cell_count()), (vertices, segments), "{name}");
        assert_eq!((report.two_vertex_polygons, report.flat), (segments, true), "{name}");
        assert_eq!(shape.to_planar().unwrap().dim(), 2);
    }
    for (name, n, d) in [("diabetes", 442, 10), ("iris", 150, 4)] {
        let path = format!("../../../shared/data/points/{name}_X.npy");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if path.exists() {
            let error = read_shape(path).unwrap_err().to_string();
            assert!(error.contains(&format!("({n}, {d})")), "{error}");
        }
    }
}

/// The same surface in PLY and VTK: the values of the VTK text, rounded to the declared float in
/// the PLY.
#[test]
fn ply_and_vtk_agree() {
    let names = ["ply", "vtk"].map(|kind| format!("hippos/hippos_reduc_source.{kind}"));
    if let [Some((ply, _)), Some((vtk, _))] = names.map(|name| literature(&name)) {
        assert_eq!(ply.cells(), vtk.cells());
        assert_eq!(ply.vertices(), single(&vtk.vertices().to_owned()));
    }
}

/// What is written as PLY and OBJ comes back with every bit, cells and all; STL in single precision.
#[test]
fn ply_obj_and_stl_come_back() {
    let folder = Folder::new("meshes");
    let surface = keops_shapes::builtin::surface_pair(1).unwrap().1;
    let curve = keops_shapes::builtin::curve_pair(25).unwrap().1;
    let cloud = Shape::new(curve.vertices().to_owned(), Cells::Points).unwrap();
    for (k, shape) in [&surface, &curve, &cloud].into_iter().enumerate() {
        let wind = Array2::from_shape_fn((shape.vertex_count(), 3), |(i, c)| (i * c) as f64 / 7.0);
        let data = [PointData { name: "wind speed", values: wind.view() }];
        let path = folder.0.join(format!("{k}.ply"));
        write_ply(&path, shape, &data).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let header = String::from_utf8_lossy(&bytes[..300]).into_owned();
        assert!(header.contains("property double wind_speed_2\n"), "{header}");
        let planar = |s: Shape| if shape.dim() == 2 { s.to_planar().unwrap() } else { s };
        assert_eq!(&planar(read_shape(&path).unwrap().0), shape);
        let path = folder.0.join(format!("{k}.obj"));
        write_obj(&path, shape).unwrap();
        assert_eq!(&planar(read_shape(&path).unwrap().0), shape);
    }
    let path = folder.0.join("surface.stl");
    write_stl(&path, &surface).unwrap();
    let (back, report) = read_shape(&path).unwrap();
    assert!(report.binary && report.format == Format::Stl);
    let (a, b) = (surface.geometry().unwrap(), back.geometry().unwrap());
    assert!((&a.centres - &b.centres).iter().all(|gap| gap.abs() < 1e-6));
    assert!((a.normals.unwrap() - b.normals.unwrap()).iter().all(|gap| gap.abs() < 1e-6));
    // The normals of the file are of unit length and point as the corners turn.
    let bytes = std::fs::read(&path).unwrap();
    let number = |at: usize| f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    for facet in 0..surface.cell_count() {
        let n: Vec<f32> = (0..3).map(|k| number(84 + 50 * facet + 4 * k)).collect();
        let along = (0..3)
            .map(|k| f64::from(n[k]) * surface.geometry().unwrap().normals.unwrap()[[facet, k]]);
        assert!((along.sum::<f64>() / a.measures[facet] - 1.0).abs() < 1e-6);
    }
    for (name, shape) in [("curve.stl", &curve), ("curve.png", &curve), ("none", &surface)] {
        let e = write_shape(folder.0.join(name), shape).unwrap_err();
        assert!(matches!(e, WriteError::Format { .. }), "{e}");
        assert!(!folder.0.join(name).exists());
    }
}
