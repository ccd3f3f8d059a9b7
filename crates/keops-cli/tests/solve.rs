//! `keops solve` and `keops regress` against matrices that are written out.

mod common;
use common::{Folder, near, points, shared, text};
use ndarray::{Array1, Array2, Axis};
use std::fs;

const GAUSS: &str = "Exp(-SqDist(x, y)) * b";
const ARRAYS: [&str; 6] = ["--vi", "x=x.npy", "--vj", "y=x.npy", "--rhs", "b=b.npy"];

fn kernel(x: &Array2<f64>, z: &Array2<f64>, scale: f64) -> Array2<f64> {
    Array2::from_shape_fn((x.nrows(), z.nrows()), |(i, j)| {
        (-scale * (&x.row(i) - &z.row(j)).mapv(|d| d * d).sum()).exp()
    })
}
fn files(folder: &Folder) -> (Array2<f64>, Array2<f64>) {
    let (x, b) = (points(120, 2, 0), points(120, 2, 1));
    folder.npy("x.npy", &x);
    folder.npy("b.npy", &b);
    (x, b)
}

#[test]
fn systems() {
    let folder = Folder::new("systems");
    let (x, b) = files(&folder);
    let k = kernel(&x, &x, 1.0) + 0.1 * Array2::<f64>::eye(120);
    for more in [
        &["--ridge", "0.1"][..],
        &["--ridge", "0.1", "--preconditioner", "jacobi"],
        &["--ridge", "0.1", "--preconditioner", "cholesky"],
        &["--ridge", "0.1", "--preconditioner", "cholesky", "--rank", "20"],
        &["--ridge", "0.1", "--method", "minres"],
    ] {
        let call = [&["solve", GAUSS], &ARRAYS[..], more].concat();
        let report =
            folder.json(&[&call[..], &["--tolerance", "1e-9", "-o", "a.npy", "--force"]].concat());
        assert_eq!(report["report"]["converged"], true);
        assert_eq!(report["report"]["systems"].as_array().map(Vec::len), Some(2));
        let a: Array2<f64> = folder.read("a.npy").into_dimensionality().expect("a matrix");
        near(&k.dot(&a).into_dyn(), &b.clone().into_dyn(), 1e-7);
    }
    // Values as a vector come back as a vector.
    folder.npy("v.npy", &b.column(0).to_owned());
    let vector = ["--vi", "x=x.npy", "--vj", "y=x.npy", "--rhs", "b=v.npy", "--tolerance", "1e-9"];
    folder.succeeds(&[&["solve", GAUSS, "--ridge", "0.1", "-o", "v.csv"], &vector[..]].concat());
    let told = fs::read_to_string(folder.join("v.csv")).expect("a file");
    let a: Array1<f64> = told.lines().map(|l| l.parse().expect("a number")).collect();
    near(&k.dot(&a).into_dyn(), &b.column(0).to_owned().into_dyn(), 1e-7);

    let output = folder.run(&[&["solve", GAUSS], &ARRAYS[..], &["--ridge", "0.1"]].concat());
    assert!(text(&output.stderr).contains("column 1"));
    assert_eq!(text(&output.stdout).lines().count(), 120);
}

/// What was reached is written, and the exit code tells.
#[test]
fn not_converged() {
    let folder = Folder::new("unsolved");
    let (x, b) = files(&folder);
    let call = [&["solve", GAUSS], &ARRAYS[..], &["--ridge", "1e-3", "-o", "a.npy"]].concat();
    let told =
        folder.fails(&[&call[..], &["--max-iterations", "3"]].concat(), 3, &["IterationLimit"]);
    assert!(told.contains("3 iterations"), "{told}");
    let a: Array2<f64> = folder.read("a.npy").into_dimensionality().expect("a matrix");
    let left = &b - &(kernel(&x, &x, 1.0) + 1e-3 * Array2::<f64>::eye(120)).dot(&a);
    for (left, b) in left.columns().into_iter().zip(b.columns()) {
        assert!(left.dot(&left) < b.dot(&b), "it is better than nothing");
    }
}

#[test]
fn broken_systems() {
    let folder = Folder::new("broken-systems");
    files(&folder);
    folder.npy("y.npy", &points(100, 2, 3));
    folder.npy("nan.npy", &Array1::from_elem(120, f64::NAN));
    let solve = |formula, more: &[&'static str]| [&["solve", formula], more].concat();
    folder.fails(&solve("SqDist(x, y) + b", &ARRAYS), 1, &["not linear in `b`"]);
    folder.fails(&solve("-Exp(-SqDist(x, y)) * b", &ARRAYS), 1, &["indefinite", "--method minres"]);
    folder.fails(&solve("(1 + Elem(x, 0)) * Exp(-SqDist(x, y)) * b", &ARRAYS), 1, &["symmetric"]);
    let nan = ["--vi", "x=x.npy", "--vj", "y=x.npy", "--rhs", "b=nan.npy"];
    folder.fails(&solve(GAUSS, &nan), 1, &["NaN"]);
    let other = ["--vi", "x=x.npy", "--vj", "y=y.npy", "--rhs", "b=b.npy"];
    folder.fails(&solve(GAUSS, &other), 1, &["120", "100"]);
    let none = ["--vi", "x=x.npy", "--vj", "y=x.npy", "--rhs", "b=none.npy"];
    folder.fails(&solve(GAUSS, &none), 1, &["none.npy"]);
    let nameless = ["--vi", "x=x.npy", "--vj", "y=x.npy", "--rhs", "b.npy"];
    folder.fails(&solve(GAUSS, &nameless), 2, &["--rhs b.npy", "NAME=FILE"]);
    folder.fails(&solve(GAUSS, &[&ARRAYS[..], &["--ridge", "-1"]].concat()), 1, &["-1"]);
    folder.fails(&solve(GAUSS, &[&ARRAYS[..], &["--tolerance", "2"]].concat()), 1, &["2"]);
    folder.fails(&solve(GAUSS, &[&ARRAYS[..], &["--rank", "2"]].concat()), 2, &["--rank"]);
    folder.fails(&solve(GAUSS, &[&ARRAYS[..], &["--dtype", "f16"]].concat()), 2, &["--dtype"]);
}

/// Ctrl-C writes what was reached.
#[cfg(target_os = "linux")]
#[test]
fn interrupted() {
    let folder = Folder::new("interrupted");
    folder.npy("x.npy", &points(4000, 1, 0));
    folder.npy("b.npy", &points(4000, 1, 1));
    // Of a condition number of 1e12: the iteration limit is far away.
    let call = [
        &["solve", "Exp(-SqDist(x, y)) * b"],
        &ARRAYS[..],
        &[
            "--ridge",
            "1e-9",
            "--tolerance",
            "1e-15",
            "--level",
            "portable",
            "-o",
            "a.npy",
            "--quiet",
        ],
    ]
    .concat();
    let mut child = folder.command(&call).spawn().expect("the program runs");
    // The bit of SIGINT (2) among the signals that it catches says that it has begun.
    let catches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let mask = status.lines().find_map(|l| l.strip_prefix("SigCgt:"));
        mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).is_some_and(|m| m & 2 != 0)
    };
    for _ in 0..60_000 {
        if catches() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    assert_eq!(child.wait().expect("it is ours").code(), Some(130));
    assert_eq!(folder.read::<f64>("a.npy").shape(), [4000, 1]);
}

/// Solves a small system by elimination.
fn eliminate(mut a: Array2<f64>, mut b: Array2<f64>) -> Array2<f64> {
    let n = a.nrows();
    for k in 0..n {
        for i in (0..n).filter(|i| *i != k) {
            let f = a[[i, k]] / a[[k, k]];
            let (row, right) = (a.row(k).to_owned(), b.row(k).to_owned());
            a.row_mut(i).scaled_add(-f, &row);
            b.row_mut(i).scaled_add(-f, &right);
        }
    }
    Array2::from_shape_fn(b.dim(), |(i, c)| b[[i, c]] / a[[i, i]])
}

/// Means and variances are those of the equations (Rasmussen and Williams 2006, 2.25 and 2.26).
#[test]
fn regression() {
    let folder = Folder::new("regression");
    let (x, z) = (points(40, 2, 0), points(15, 2, 5));
    let y = x.map_axis(Axis(1), |r| (2.0 * r[0]).sin() + r[1] + 3.0);
    let y = y + 0.1 * points(40, 1, 7).remove_axis(Axis(1));
    folder.npy("x.npy", &x);
    folder.npy("y.npy", &y);
    folder.npy("z.npy", &z);
    let fit = ["regress", "fit", "--x", "x.npy", "--y", "y.npy", "--noise", "0.05", "-o", "m.toml"];
    let own = [
        "--covariance",
        "v * Exp(-s * SqDist(x, y))",
        "--parameter",
        "v=2",
        "--parameter",
        "s=0.5",
    ];
    folder.json(&[&fit[..], &own, &["--fixed"]].concat());
    folder.succeeds(&[
        "regress",
        "predict",
        "m.toml",
        "--x",
        "z.npy",
        "-o",
        "mean.npy",
        "--variance",
        "v.npy",
    ]);
    let k = 2.0 * kernel(&x, &x, 0.5) + 0.05 * Array2::<f64>::eye(40);
    let cross = 2.0 * kernel(&z, &x, 0.5);
    let offset = y.sum() / 40.0;
    let alpha = eliminate(k.clone(), (&y - offset).insert_axis(Axis(1)));
    let mean = cross.dot(&alpha).remove_axis(Axis(1)) + offset;
    let known = (&cross * &eliminate(k, cross.t().to_owned()).t()).sum_axis(Axis(1));
    let variance = 2.0 - known;
    near(&folder.read("mean.npy"), &mean.into_dyn(), 1e-10);
    near(&folder.read("v.npy"), &variance.clone().into_dyn(), 1e-10);
    let noisy =
        ["regress", "predict", "m.toml", "--x", "z.npy", "--with-noise", "--variance", "n.npy"];
    folder.succeeds(&noisy);
    near(&folder.read("n.npy"), &(variance + 0.05).into_dyn(), 1e-10);

    // Fitted: more likely, and near what made the values.
    let fixed = folder.json(&[&fit[..], &["--fixed", "--force"]].concat());
    let fitted = folder.json(&[&fit[..], &["--force"]].concat());
    let likelihood = |r: &serde_json::Value| r["log_likelihood"].as_f64().expect("a number");
    assert!(likelihood(&fitted) > likelihood(&fixed) + 1.0 && fitted["converged"] == true);
    let lines = folder.succeeds(&["regress", "predict", "m.toml", "--x", "z.npy"]);
    for (line, z) in lines.lines().zip(z.rows()) {
        let mean: f64 = line.split(' ').next().and_then(|v| v.parse().ok()).expect("a number");
        assert!((mean - (2.0 * z[0]).sin() - z[1] - 3.0).abs() < 0.2, "{line}");
    }
}

#[test]
fn broken_regression() {
    let folder = Folder::new("broken-regression");
    folder.npy("x.npy", &points(10, 2, 0));
    folder.npy("y.npy", &points(10, 1, 0));
    folder.npy("few.npy", &points(9, 1, 0));
    folder.npy("nan.npy", &Array1::from_elem(10, f64::NAN));
    let fit = |y, more: &[&'static str]| {
        [&["regress", "fit", "--x", "x.npy", "--y", y, "-o", "m.toml"], more].concat()
    };
    folder.fails(&fit("few.npy", &[]), 1, &["few.npy", "10", "9"]);
    folder.fails(&fit("x.npy", &[]), 1, &["x.npy", "[10, 2]"]);
    folder.fails(&fit("nan.npy", &[]), 1, &["finite"]);
    folder.fails(&fit("y.npy", &["--noise", "-1"]), 1, &["-1"]);
    folder.fails(&fit("y.npy", &["--covariance", "Exp(-SqDist(x, y)"]), 2, &["--parameter"]);
    let wrong = ["--covariance", "v * Exp(-SqDist(x, q))", "--parameter", "v=1"];
    folder.fails(&fit("y.npy", &wrong), 1, &["--covariance", "q"]);
    folder.fails(&fit("y.npy", &["--parameter", "v=one"]), 2, &["v=one"]);
    folder.succeeds(&fit("y.npy", &["--fixed"]));
    folder.npy("z.npy", &points(3, 3, 0));
    folder.fails(&["regress", "predict", "m.toml", "--x", "z.npy"], 1, &["z.npy", "2", "3"]);
    folder.fails(&["regress", "predict", "x.npy", "--x", "z.npy"], 1, &["x.npy"]);
    let whole = fs::read_to_string(folder.join("m.toml")).expect("a model");
    for line in whole.lines().filter(|l| l.contains('=')) {
        folder.text("less.toml", &whole.replace(line, ""));
        let output = folder.run(&["regress", "predict", "less.toml", "--x", "x.npy"]);
        let (told, key) = (text(&output.stderr), line.split(' ').next().expect("a key"));
        // (What only the report of the fit says may be missing.)
        let expected = if key == "log_likelihood" { 0 } else { 1 };
        assert_eq!(output.status.code(), Some(expected), "{key}: {told}");
        assert!(!told.contains("panicked"), "{told}");
    }
}

/// Diabetes: fitted lengths explain better than the mean does, in data that were not seen.
#[test]
fn diabetes() {
    let (Some(x), Some(y)) = (shared("points/diabetes_X.npy"), shared("points/diabetes_y.npy"))
    else {
        return;
    };
    let folder = Folder::new("diabetes");
    let read = |p| ndarray_npy::read_npy::<_, Array2<f64>>(p).expect("a table");
    let x = read(&x);
    let y: Array1<f64> = ndarray_npy::read_npy(&y).expect("values");
    let (a, b) = x.view().split_at(Axis(0), 300);
    let (v, w) = y.view().split_at(Axis(0), 300);
    folder.npy("x.npy", &a.to_owned());
    folder.npy("y.npy", &v.to_owned());
    folder.npy("z.npy", &b.to_owned());
    folder.succeeds(&["regress", "fit", "--x", "x.npy", "--y", "y.npy", "-o", "m.toml"]);
    folder.succeeds(&["regress", "predict", "m.toml", "--x", "z.npy", "-o", "mean.npy"]);
    let mean: Array1<f64> = folder.read("mean.npy").into_dimensionality().expect("a vector");
    let square = |d: Array1<f64>| d.dot(&d);
    let explained = 1.0 - square(&mean - &w) / square(&w - w.sum() / w.len() as f64);
    // scikit-learn's linear regression explains 0.52 of these values.
    assert!(explained > 0.4, "{explained}");
}
