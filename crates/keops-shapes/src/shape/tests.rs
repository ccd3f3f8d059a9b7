use super::*;
use crate::builtin::{closed_curve, surface_pair};
use ndarray::array;

fn tetrahedron() -> Shape {
    Shape::new(
        array![[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]],
        Cells::Triangles(vec![[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
    )
    .unwrap()
}

#[test]
fn errors_name_the_culprit() {
    let v = || array![[0.0, 0.0], [1.0, 0.0]];
    let new = Shape::new;
    assert_eq!(
        new(v(), Cells::Segments(vec![[0, 1], [1, 2]])),
        Err(ShapeError::Index { cell: 1, index: 2, vertices: 2 })
    );
    assert_eq!(
        new(v(), Cells::Triangles(vec![[0, 1, 1]])),
        Err(ShapeError::PlanarTriangles { got: 2 })
    );
    assert_eq!(new(v(), Cells::Segments(vec![])), Err(ShapeError::Empty { what: "cells" }));
    assert_eq!(
        new(Array2::zeros((0, 3)), Cells::Points),
        Err(ShapeError::Empty { what: "vertices" })
    );
    assert_eq!(new(Array2::zeros((5, 4)), Cells::Points), Err(ShapeError::Dimension { got: 4 }));
    assert_eq!(new(Array2::zeros((0, 0)), Cells::Points), Err(ShapeError::Dimension { got: 0 }));
    for bad in [f64::NAN, f64::INFINITY, -1e51] {
        match new(array![[0.0, 1.0], [2.0, bad]], Cells::Points) {
            Err(e @ ShapeError::Coordinate { vertex: 1, axis: 1, .. }) => {
                assert!(e.to_string().contains("vertex 1"), "{e}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        tetrahedron().with_vertices(array![[0.0, 0.0, 0.0]]),
        Err(ShapeError::VertexShape { expected: (4, 3), got: (1, 3) })
    );
}

#[test]
fn triangle_geometry_matches_the_definition() {
    let g = tetrahedron().geometry().unwrap();
    // Face (0,2,1): ½ (0,2,0)×(1,0,0) = (0,0,−1), centre (1/3, 2/3, 0).
    let n = g.normals.unwrap();
    assert_eq!(n.row(0), array![0.0, 0.0, -1.0]);
    assert_eq!(n.row(1), array![0.0, -1.5, 0.0]);
    assert_eq!(n.row(2), array![-3.0, 0.0, 0.0]);
    assert_eq!(n.row(3), array![3.0, 1.5, 1.0]);
    // A closed surface has no net area vector; the volume is ⅓ Σ <c, n> = 1.
    assert_eq!(n.sum_axis(Axis(0)), array![0.0, 0.0, 0.0]);
    let volume = (&g.centres * &n).sum() / 3.0;
    assert!((volume - 1.0).abs() < 1e-15, "{volume}");
    assert_eq!(g.measures, array![1.0, 1.5, 3.0, 3.5]);
    assert_eq!(g.centres.row(0), array![1.0 / 3.0, 2.0 / 3.0, 0.0]);
}

#[test]
fn segment_and_point_geometry() {
    let s =
        Shape::new(array![[1.0, 2.0], [4.0, 6.0]], Cells::Segments(vec![[1, 0], [0, 0]])).unwrap();
    let g = s.geometry().unwrap();
    assert_eq!(g.centres, array![[2.5, 4.0], [1.0, 2.0]]);
    assert_eq!(g.normals, Some(array![[-3.0, -4.0], [0.0, 0.0]]));
    assert_eq!(g.measures, array![5.0, 0.0]);
    let p = Shape::new(array![[1.0, 2.0], [4.0, 6.0]], Cells::Points).unwrap();
    let g = p.geometry().unwrap();
    assert_eq!((g.normals, g.measures), (None, array![1.0, 1.0]));
    let single = cell_geometry(array![[1.0_f32, 2.0], [4.0, 6.0]].view(), s.cells()).unwrap();
    assert_eq!(single.measures, array![5.0_f32, 0.0]);
}

#[test]
fn cleaning_reports_what_it_drops() {
    let vertices = array![
        [9.0, 9.0, 9.0],
        [0.0, 0.0, 0.0],
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.3, 0.3, 0.3],
        [0.1, 0.1, 0.1]
    ];
    let cells = vec![[1, 2, 2], [1, 2, 3], [1, 4, 5]];
    let s = Shape::new(vertices, Cells::Triangles(cells)).unwrap();
    let (clean, report) = s.cleaned().unwrap();
    assert_eq!(report.degenerate_cells, [0, 2]);
    assert_eq!(report.unreferenced_vertices, [0, 4, 5]);
    assert_eq!(clean.cells(), &Cells::Triangles(vec![[0, 1, 2]]));
    assert_eq!(clean.vertices(), array![[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
    assert_eq!(
        report.to_string(),
        "left out: 2 degenerate cells (0, 2), 3 unreferenced vertices (0, 4, 5)"
    );
    let (again, report) = clean.cleaned().unwrap();
    assert!(report.is_empty());
    assert_eq!(again, clean);
    let flat = Shape::new(array![[1.0, 1.0], [1.0, 1.0]], Cells::Segments(vec![[0, 1]]));
    assert_eq!(flat.unwrap().cleaned(), Err(ShapeError::Empty { what: "cells" }));
}

#[test]
fn planar_and_spatial_forms() {
    let flat = array![[1.0, 2.0, 0.0], [4.0, 6.0, 0.0]];
    let s = Shape::new(flat, Cells::Segments(vec![[0, 1]])).unwrap();
    let planar = s.to_planar().unwrap();
    assert_eq!(planar.vertices(), array![[1.0, 2.0], [4.0, 6.0]]);
    assert_eq!(planar.to_spatial().unwrap(), s);
    let (lo, hi) = planar.bounding_box();
    assert_eq!((lo, hi), (array![1.0, 2.0], array![4.0, 6.0]));
    let tilted = s.with_vertices(array![[1.0, 2.0, 0.0], [4.0, 6.0, 0.5]]).unwrap();
    assert_eq!(tilted.to_planar(), Err(ShapeError::NotPlanar { vertex: 1, z: 0.5 }));
    let n = tetrahedron().with_vertices(Array2::zeros((4, 3))).unwrap();
    assert_eq!(n.to_planar(), Err(ShapeError::PlanarTriangles { got: 2 }));
}

#[test]
fn topology() {
    let t = tetrahedron();
    let counts = t.counts().unwrap();
    assert_eq!(
        counts,
        Counts { vertices: 4, edges: 6, cells: 4, boundary: 0, non_manifold: 0, euler: 2 }
    );
    let Cells::Triangles(mut open) = t.cells().clone() else { unreachable!() };
    open.pop();
    let open = Shape::new(t.vertices().to_owned(), Cells::Triangles(open)).unwrap();
    assert_eq!(open.counts().unwrap().boundary, 3);
    let y = Shape::new(Array2::zeros((5, 2)), Cells::Segments(vec![[0, 1], [0, 2], [0, 3]]));
    let y = y.unwrap();
    assert_eq!(
        {
            let c = y.counts().unwrap();
            (c.boundary, c.non_manifold)
        },
        (3, 1)
    );
    assert_eq!(y.referenced().unwrap(), [true, true, true, true, false]);
}

/// What is degenerate does not depend on the unit of length.
#[test]
fn degeneracy_has_no_scale() {
    let corners = array![
        [0.0, 0.0, 0.0],
        [1.0, 0.0, 0.0],
        [0.3, 1.0, 0.2],
        [0.5, 0.0, 0.0],
        [0.25, 0.5, 1e-3]
    ];
    let cells = Cells::Triangles(vec![[0, 1, 2], [0, 1, 3], [2, 4, 1]]);
    for scale in [1.0, 1e-200, 1e-300, 1e-20, 1e49] {
        let s = Shape::new(&corners * scale, cells.clone()).unwrap();
        let found = s.cleaned().unwrap().1.degenerate_cells;
        assert_eq!(found, [1], "{scale:e}");
    }
    let line = array![[0.0, 0.0], [1e-200, 0.0]];
    let s = Shape::new(line, Cells::Segments(vec![[0, 1], [1, 1]])).unwrap();
    assert_eq!(s.cleaned().unwrap().1.degenerate_cells, [1]);
}

/// ⟨(c̄, n̄), d(c, n)⟩ = ⟨adjoint, dx⟩, the right-hand derivative by central differences (exact
/// for these polynomials of degree at most two).
#[test]
fn adjoint_of_cell_geometry() {
    let curve = closed_curve(6, |t| [t.cos(), 0.5 * (2.0 * t).sin()]).unwrap();
    let surface = surface_pair(1).unwrap().1;
    let cloud = Shape::new(curve.vertices().to_owned(), Cells::Points).unwrap();
    for shape in [curve.clone(), curve.to_spatial().unwrap(), surface, cloud] {
        let wave = |rows: usize, phase: f64| {
            Array2::from_shape_fn((rows, shape.dim()), |(i, k)| {
                (1.7 * i as f64 + 2.9 * k as f64 + phase).sin()
            })
        };
        let m = shape.cell_count();
        let (cc, nn, dx) = (wave(m, 0.0), wave(m, 1.0), wave(shape.vertex_count(), 2.0));
        let inner = |h: f64| {
            let moved = &shape.vertices() + &(&dx * h);
            let g = cell_geometry(moved.view(), shape.cells()).unwrap();
            (&cc * &g.centres).sum() + g.normals.map_or(0.0, |n| (&nn * &n).sum())
        };
        let expected = (inner(0.5) - inner(-0.5)) / 1.0;
        let bar = cell_geometry_adjoint(shape.vertices(), shape.cells(), cc.view(), nn.view());
        let bar = bar.unwrap();
        let got = (&bar * &dx).sum();
        assert!((got - expected).abs() < 1e-13 * m as f64, "{got} {expected}");
    }
}
