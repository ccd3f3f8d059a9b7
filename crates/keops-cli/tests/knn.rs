//! `keops knn` against sorted lists, in every metric; graphs as other libraries read them.

mod common;
use common::{Folder, points, shared};
use ndarray::{Array1, Array2, ArrayView1};
use ndarray_npy::{NpzReader, read_npy};
use std::fs::File;
use std::process::Command;

type Metric = fn(ArrayView1<'_, f64>, ArrayView1<'_, f64>) -> f64;
const METRICS: [(&str, Metric); 6] = [
    ("euclidean", |x, y| (&x - &y).mapv(|d| d * d).sum().sqrt()),
    ("sqeuclidean", |x, y| (&x - &y).mapv(|d| d * d).sum()),
    ("manhattan", |x, y| (&x - &y).mapv(f64::abs).sum()),
    ("chebyshev", |x, y| (&x - &y).fold(0.0, |m: f64, d| m.max(d.abs()))),
    ("cosine", |x, y| 1.0 - x.dot(&y) / (x.dot(&x) * y.dot(&y)).sqrt()),
    ("hyperbolic", |x, y| (1.0 + (&x - &y).mapv(|d| d * d).sum() / (2.0 * x[0] * y[0])).acosh()),
];

/// Sorted distances and indices.
fn sorted(x: ArrayView1<'_, f64>, y: &Array2<f64>, metric: Metric) -> Vec<(f64, i64)> {
    let mut all: Vec<(f64, i64)> =
        y.rows().into_iter().enumerate().map(|(j, y)| (metric(x, y), j as i64)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

/// Points with a first coordinate that is positive.
fn upper(rows: usize, seed: usize) -> Array2<f64> {
    let mut x = points(rows, 3, seed);
    x.column_mut(0).mapv_inplace(|v| v.abs() + 0.1);
    x
}

#[test]
fn every_metric() {
    let folder = Folder::new("metrics");
    let (x, y) = (upper(25, 0), upper(60, 1));
    folder.npy("x.npy", &x);
    folder.npy("y.npy", &y);
    for (name, metric) in METRICS {
        folder.succeeds(&[
            "knn",
            "x.npy",
            "y.npy",
            "-k",
            "4",
            "--metric",
            name,
            "--indices",
            "i.npy",
            "--distances",
            "d.npy",
            "--force",
        ]);
        let (at, far) = (folder.read::<i64>("i.npy"), folder.read::<f64>("d.npy"));
        for (i, x) in x.rows().into_iter().enumerate() {
            for (k, (d, j)) in sorted(x, &y, metric)[..4].iter().enumerate() {
                assert_eq!(at[[i, k]], *j, "{name}, {i}");
                assert!((far[[i, k]] - d).abs() < 1e-12, "{name}: {} {d}", far[[i, k]]);
            }
        }
    }
    // The command line has the list.
    let help = folder.succeeds(&["knn", "--help"]);
    assert!(METRICS.iter().all(|(name, _)| help.contains(name)));
    // Fewer than asked for.
    folder.npy("two.npy", &upper(2, 2));
    folder.succeeds(&[
        "knn",
        "two.npy",
        "-k",
        "3",
        "--exclude-self",
        "--indices",
        "i.npy",
        "--distances",
        "d.npy",
        "--force",
    ]);
    assert_eq!(folder.read::<i64>("i.npy"), ndarray::array![[1, -1, -1], [0, -1, -1]].into_dyn());
    assert!(folder.read::<f64>("d.npy")[[0, 1]].is_infinite());
}

#[test]
fn graphs() {
    let folder = Folder::new("graphs");
    let x = points(50, 2, 0);
    folder.npy("x.npy", &x);
    let distance = METRICS[0].1;
    folder.succeeds(&["knn", "x.npy", "-k", "5", "--exclude-self", "--graph", "g.npz"]);
    folder.succeeds(&["knn", "x.npy", "--within", "0.3", "--graph", "w.npz"]);
    let open =
        |name: &str| NpzReader::new(File::open(folder.join(name)).expect("a file")).expect("npz");
    for name in ["g.npz", "w.npz"] {
        let mut npz = open(name);
        let starts: Array1<i32> = npz.by_name("indptr").expect("starts");
        let columns: Array1<i32> = npz.by_name("indices").expect("columns");
        let values: Array1<f64> = npz.by_name("data").expect("values");
        let shape: Array1<i64> = npz.by_name("shape").expect("a shape");
        assert_eq!(shape.to_vec(), [50, 50]);
        for (i, row) in x.rows().into_iter().enumerate() {
            let mut expected = sorted(row, &x, distance);
            match name {
                "g.npz" => {
                    expected.retain(|(_, j)| *j != i as i64);
                    expected.truncate(5);
                }
                _ => expected.retain(|(d, _)| *d <= 0.3),
            }
            expected.sort_by_key(|(_, j)| *j);
            let own = starts[i] as usize..starts[i + 1] as usize;
            assert_eq!(own.len(), expected.len(), "{name}, {i}");
            for (k, (d, j)) in own.zip(expected) {
                assert_eq!(i64::from(columns[k]), j);
                assert!((values[k] - d).abs() < 1e-14);
            }
        }
    }
    // Edges as text, nearest first.
    let edges = folder.succeeds(&["knn", "x.npy", "-k", "2", "--formula", "Norm2(x - y)"]);
    let first: Vec<&str> = edges.lines().next().expect("an edge").split(' ').collect();
    assert_eq!((edges.lines().count(), &first[..]), (100, &["0", "0", "0.0"][..]));
    // As SciPy reads them, where it is there.
    let script = "import scipy.sparse as s, sys; g = s.load_npz(sys.argv[1]); print(g.format, g.shape, g.nnz)";
    let python = Command::new("python3").args(["-c", script]).arg(folder.join("g.npz")).output();
    match python {
        Ok(out) if out.status.success() => {
            assert_eq!(common::text(&out.stdout).trim(), "csr (50, 50) 250");
        }
        _ => eprintln!("skipped: python3 with scipy is not there"),
    }
}

#[test]
fn broken_inputs() {
    let folder = Folder::new("knn-broken");
    folder.npy("x.npy", &points(10, 3, 0));
    folder.npy("y.npy", &points(10, 2, 0));
    folder.npy("deep.npy", &ndarray::Array3::<f64>::zeros((2, 3, 4)));
    folder.fails(&["knn", "x.npy"], 2, &["-k"]);
    folder.fails(&["knn", "x.npy", "-k", "1", "--within", "1"], 2, &["--within"]);
    folder.fails(&["knn", "x.npy", "y.npy", "-k", "1"], 1, &["3", "2"]);
    folder.fails(&["knn", "deep.npy", "-k", "1"], 1, &["deep.npy", "[2, 3, 4]"]);
    folder.fails(
        &["knn", "x.npy", "-k", "1", "--metric", "hyperbolic"],
        1,
        &["x.npy", "not positive"],
    );
    folder.fails(&["knn", "x.npy", "-k", "1", "--metric", "l3"], 2, &["l3", "manhattan"]);
    folder.fails(&["knn", "x.npy", "-k", "1", "--formula", "x - y"], 1, &["dimension 1"]);
    folder.fails(&["knn", "x.npy", "-k", "1", "--formula", "Norm2(z)"], 1, &["z", "^"]);
    folder.fails(&["knn", "x.npy", "-k", "1", "--graph", "g.csv"], 2, &["g.csv", ".npz"]);
    folder.fails(&["knn", "x.npy", "--within", "nan"], 1, &["NaN"]);
    assert_eq!(folder.names(), ["deep.npy", "x.npy", "y.npy"]);
}

/// Digits: the nearest of the first hundred, by loops.
#[test]
fn digits() {
    let Some(path) = shared("points/digits_X.npy") else { return };
    let folder = Folder::new("digits");
    let x: Array2<f32> = read_npy(&path).expect("digits");
    let x = x.mapv(f64::from);
    let own = path.display().to_string();
    folder.succeeds(&["knn", &own, "-k", "2", "--metric", "manhattan", "--distances", "d.npy"]);
    let far = folder.read::<f64>("d.npy");
    assert_eq!(far.shape(), [1797, 2]);
    for i in 0..100 {
        let expected = sorted(x.row(i), &x, METRICS[2].1);
        // Pixels are whole numbers: distances are exact.
        assert_eq!([far[[i, 0]], far[[i, 1]]], [expected[0].0, expected[1].0]);
    }
}
