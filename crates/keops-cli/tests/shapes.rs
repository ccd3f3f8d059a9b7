//! `keops shoot` and `keops distance` against closed forms, and on shapes that people use.

mod common;
use common::{Folder, shared};
use ndarray::array;

/// A unit square of two triangles, and the same moved.
fn squares(folder: &Folder) {
    let square = |dx: f64, dz: f64| {
        let corners = [[0, 0], [1, 0], [1, 1], [0, 1]];
        let lines: Vec<String> =
            corners.iter().map(|[x, y]| format!("v {} {y} {dz}\n", f64::from(*x) + dx)).collect();
        format!("{}f 1 2 3\nf 1 3 4\n", lines.concat())
    };
    folder.text("a.obj", &square(0.0, 0.0));
    folder.text("b.obj", &square(0.0, 0.5));
    folder.text("far.obj", &square(9.0, 0.0));
}

#[test]
fn distances() {
    let folder = Folder::new("distances");
    squares(&folder);
    let report = folder.json(&["distance", "a.obj", "b.obj"]);
    for d in [&report["forward"]["mean"], &report["backward"]["rms"], &report["hausdorff"]] {
        assert_eq!(d, 0.5);
    }
    // The corners of a are 9 or 8 from the square that begins at 9: of (0, y) and (1, y).
    let report = folder.json(&["distance", "a.obj", "far.obj"]);
    assert_eq!((&report["forward"]["mean"], &report["hausdorff"]), (&8.5.into(), &9.0.into()));
    // Measures: with k = exp(-r²/σ²) of the triangles' centres of weight 1/2, moved by 1/2 up.
    let given = ["--attachment", "measure", "--sigma", "2"];
    let report = folder.json(&[&["distance", "a.obj", "b.obj"], &given[..]].concat());
    // Centres (2/3, 1/3) and (1/3, 2/3): 2/9 apart in squares.
    let k = |r2: f64| (-r2 / 4.0).exp();
    let one = 0.25 * 2.0 * (k(0.0) + k(2.0 / 9.0));
    let other = 0.25 * 2.0 * (k(0.25) + k(0.25 + 2.0 / 9.0));
    let got = report["attachment"].as_f64().expect("a number");
    // |a|² - 2 <a, b> + |b|²
    let expected = 2.0 * one - 2.0 * other;
    assert!((got - expected).abs() < 1e-12, "{got}, expected {expected}");
    let told = folder.succeeds(&["distance", "a.obj", "a.obj", "--attachment", "varifold"]);
    assert!(told.lines().any(|l| l.starts_with("hausdorff") && l.contains("0.00000e0")), "{told}");
}

/// One vertex alone goes straight on: q' = p.
#[test]
fn shooting() {
    let folder = Folder::new("shooting");
    // Two vertices that are out of each other's reach.
    folder.text("points.obj", "v 0 0 0\nv 1000 0 0\n");
    folder.npy("p.npy", &array![[1.0, 2.0, 3.0], [0.0, -4.0, 0.5]]);
    let call = ["shoot", "points.obj", "--momenta", "p.npy", "--sigma", "2", "-o", "end.obj"];
    let report = folder.json(&call);
    // ½ (1 + 4 + 9 + 16 + ¼)
    for key in ["energy", "energy_at_the_end"] {
        let energy = report[key].as_f64().expect("a number");
        assert!((energy - 15.125).abs() < 1e-12, "{report}");
    }
    let end = std::fs::read_to_string(folder.join("end.obj")).expect("a file");
    let vertices: Vec<Vec<f64>> = end
        .lines()
        .filter_map(|l| l.strip_prefix("v "))
        .map(|l| l.split_whitespace().map(|v| v.parse().expect("a number")).collect())
        .collect();
    for (got, expected) in vertices.iter().zip([[1.0, 2.0, 3.0], [1000.0, -4.0, 0.5]]) {
        for (g, e) in got.iter().zip(expected) {
            assert!((g - e).abs() < 1e-12, "{end}");
        }
    }
    assert_eq!(vertices.len(), 2);
    assert_eq!(folder.names(), ["end.obj", "p.npy", "points.obj"]);
    folder.fails(&call, 1, &["end.obj", "--force"]);
}

/// A registration ends where its momenta shoot to.
#[test]
fn a_registration_shot_again() {
    let folder = Folder::new("again");
    folder.text("a.obj", "v 0 0 0\nv 3 0 0\nv 0 4 0\n");
    folder.text("b.obj", "v 0.5 0 0\nv 3 0.5 0\nv 0 4 1\n");
    let report = folder.json(&[
        "register",
        "a.obj",
        "b.obj",
        "--attachment",
        "landmarks",
        "--sigma",
        "2",
        "--out",
        "out",
    ]);
    assert!(report["after"]["cost"].as_f64() < report["before"]["cost"].as_f64());
    folder.succeeds(&[
        "shoot",
        "a.obj",
        "--momenta",
        "out/checkpoint.keops",
        "--sigma",
        "2",
        "-o",
        "end.vtk",
    ]);
    let result = folder.join("out/result.vtk").display().to_string();
    let report = folder.json(&["distance", "end.vtk", &result]);
    assert!(report["hausdorff"].as_f64().expect("a number") < 1e-12, "{report}");
    let report = folder.json(&["distance", "end.vtk", "b.obj"]);
    assert!(report["hausdorff"].as_f64().expect("a number") < 0.05, "{report}");
}

#[test]
fn broken_inputs() {
    let folder = Folder::new("broken-shapes");
    squares(&folder);
    folder.text("text.ply", "ply\nformat what\n");
    folder.npy("p.npy", &array![[1.0, 2.0, 3.0]]);
    folder.npy("nan.npy", &ndarray::Array2::from_elem((4, 3), f64::NAN));
    folder.fails(&["distance", "a.obj", "none.ply"], 1, &["none.ply"]);
    folder.fails(&["distance", "a.obj", "text.ply"], 1, &["text.ply"]);
    folder.fails(&["distance", "a.obj", "b.obj", "--sigma", "1"], 2, &["--attachment"]);
    let scale = ["--attachment", "varifold", "--sigma", "-1"];
    folder.fails(&[&["distance", "a.obj", "b.obj"], &scale[..]].concat(), 1, &["-1"]);
    let shoot = |momenta, to| ["shoot", "a.obj", "--sigma", "1", "--momenta", momenta, "-o", to];
    folder.fails(&shoot("p.npy", "o.vtk"), 1, &["p.npy", "(4, 3)", "(1, 3)"]);
    folder.fails(&shoot("nan.npy", "o.vtk"), 1, &["nan.npy", "NaN"]);
    folder.fails(&shoot("p.npy", "o.jpg"), 2, &["o.jpg", ".vtk"]);
    folder.fails(&shoot("a.obj", "o.vtk"), 1, &["a.obj", ".npy"]);
    folder.fails(&["register", "a.obj"], 2, &["TARGET"]);
    folder.fails(&["register", "a.obj", "none.obj", "--out", "out"], 1, &["none.obj"]);
    folder.fails(&["register", "--curves", "--out", "a.obj"], 1, &["a.obj"]);
    folder.fails(&["register", "--checkpoint", "0s"], 2, &["--checkpoint", "60s"]);
}

/// Hippos: a small registration brings them nearer.
#[test]
fn hippos() {
    let (Some(a), Some(b)) = (
        shared("hippos/hippos_reduc_reduc_source.vtk"),
        shared("hippos/hippos_reduc_reduc_target.vtk"),
    ) else {
        return;
    };
    let folder = Folder::new("hippos");
    let (a, b) = (a.display().to_string(), b.display().to_string());
    let before = folder.json(&["distance", &a, &b]);
    let report = folder.json(&["register", &a, &b, "--iterations", "10", "--f32", "--out", "out"]);
    let after = report["distances_after"]["forward"]["mean"].as_f64().expect("a number");
    assert!(after < 0.7 * before["forward"]["mean"].as_f64().expect("a number"), "{report}");
}
