//! `keops reduce` against loops, on every kind of file, and on broken ones.

mod common;
use common::{Folder, near, points, shared};
use ndarray::{Array1, Array2, ArrayD, Axis, ShapeBuilder, array};
use std::fs;

const GAUSS: &str = "Exp(-g * SqDist(x, y)) * b";

fn square(x: &Array2<f64>, i: usize, y: &Array2<f64>, j: usize) -> f64 {
    (0..x.ncols()).map(|c| (x[[i, c]] - y[[j, c]]).powi(2)).sum()
}
fn product(x: &Array2<f64>, y: &Array2<f64>, b: &Array2<f64>, g: f64) -> ArrayD<f64> {
    let mut v = Array2::zeros((x.nrows(), b.ncols()));
    for i in 0..x.nrows() {
        for j in 0..y.nrows() {
            for c in 0..b.ncols() {
                v[[i, c]] += (-g * square(x, i, y, j)).exp() * b[[j, c]];
            }
        }
    }
    v.into_dyn()
}
fn files(folder: &Folder) -> (Array2<f64>, Array2<f64>, Array2<f64>) {
    let (x, y, b) = (points(30, 3, 0), points(40, 3, 1), points(40, 2, 2));
    folder.npy("x.npy", &x);
    folder.npy("y.npy", &y);
    folder.npy("b.npy", &b);
    (x, y, b)
}
const ARRAYS: [&str; 8] =
    ["--vi", "x=x.npy", "--vj", "y=y.npy", "--vj", "b=b.npy", "--pm", "g=0.5"];

#[test]
fn product_and_gradients() {
    let folder = Folder::new("product");
    let (x, y, b) = files(&folder);
    let call = [&["reduce", GAUSS], &ARRAYS[..]].concat();
    folder.succeeds(&[&call[..], &["-o", "v.npy"]].concat());
    near(&folder.read("v.npy"), &product(&x, &y, &b, 0.5), 1e-13);

    // d/dx Σ <v, e>: Σ_j -2 g (x_i - y_j) k_ij <b_j, e_i>.
    let e = points(30, 2, 3);
    folder.npy("e.npy", &e);
    let mut expected = Array2::zeros((30, 3));
    for i in 0..30 {
        for j in 0..40 {
            let k = (-0.5 * square(&x, i, &y, j)).exp() * b.row(j).dot(&e.row(i));
            for c in 0..3 {
                expected[[i, c]] -= (x[[i, c]] - y[[j, c]]) * k;
            }
        }
    }
    folder.succeeds(
        &[&call[..], &["--gradient", "x", "--cotangent", "e.npy", "-o", "gx.npy"]].concat(),
    );
    near(&folder.read("gx.npy"), &expected.into_dyn(), 1e-13);
    // In the parameter, with ones: -Σ_ij |x_i - y_j|² k_ij Σ_c b_jc.
    let mut expected = 0.0;
    for i in 0..30 {
        for j in 0..40 {
            let d = square(&x, i, &y, j);
            expected -= d * (-0.5 * d).exp() * b.row(j).sum();
        }
    }
    let report = folder.json(&[&call[..], &["--gradient", "g"]].concat());
    let got = report["results"][0]["values"][0].as_f64().expect("a number");
    assert!((got - expected).abs() < 1e-12 * expected.abs().max(1.0), "{got}, {expected}");
    folder.fails(&[&call[..], &["--gradient", "z"]].concat(), 1, &["--gradient", "`z`"]);
    folder.fails(
        &[&call[..], &["--gradient", "x", "--cotangent", "y.npy"]].concat(),
        1,
        &["`e`", "[40, 3]"],
    );
}

/// One array in all the ways in which it can be kept.
#[test]
fn kinds_of_files() {
    let folder = Folder::new("kinds");
    // Quarters: exact in half precision.
    let y = Array2::from_shape_fn((6, 2), |(k, c)| k as f64 / 4.0 - c as f64);
    let sums = y.sum_axis(Axis(0)).insert_axis(Axis(0)).into_dyn();
    let mut columns = Array2::zeros((6, 2).f());
    columns.assign(&y);
    folder.npy("f64.npy", &y);
    folder.npy("fortran.npy", &columns);
    folder.npy("f32.npy", &y.mapv(|v| v as f32));
    folder.npy("i64.npy", &y.mapv(|v| (4.0 * v) as i64));
    folder.npy("u8.npy", &y.mapv(|v| (4.0 * v + 4.0) as u8));
    let lines = |by: &str| -> String {
        y.rows().into_iter().map(|r| format!("{}{by}{}\n", r[0], r[1])).collect()
    };
    folder.text("plain.csv", &lines(","));
    folder.text(
        "names.csv",
        &format!("# a remark\r\n\u{20}\na,b\n{}", lines(",").replace('\n', "\r\n")),
    );
    folder.text("tabs.tsv", &lines("\t"));
    folder.text("spaces.txt", &lines("   "));
    folder.text("semicolons.csv", &lines(" ; "));
    // Half precision and big-endian numbers by hand: header and bytes.
    let header = |descr: &str| {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (6, 2), }}");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(118u16.to_le_bytes());
        bytes.extend(format!("{text:<117}\n").bytes());
        bytes
    };
    let mut half = header("<f2");
    y.iter().for_each(|v| half.extend(half::f16::from_f64(*v).to_le_bytes()));
    fs::write(folder.join("f16.npy"), half).expect("a file");
    let mut big = header(">f4");
    y.iter().for_each(|v| big.extend((*v as f32).to_be_bytes()));
    fs::write(folder.join("big.npy"), big).expect("a file");

    let all = [
        ("f64.npy", 1.0, 0.0, "f64"),
        ("fortran.npy", 1.0, 0.0, "f64"),
        ("f32.npy", 1.0, 0.0, "f32"),
        ("i64.npy", 4.0, 0.0, "f64"),
        ("u8.npy", 4.0, 24.0, "f64"),
        ("plain.csv", 1.0, 0.0, "f64"),
        ("names.csv", 1.0, 0.0, "f64"),
        ("tabs.tsv", 1.0, 0.0, "f64"),
        ("spaces.txt", 1.0, 0.0, "f64"),
        ("semicolons.csv", 1.0, 0.0, "f64"),
        ("f16.npy", 1.0, 0.0, "f16"),
        ("big.npy", 1.0, 0.0, "f32"),
    ];
    for (name, factor, offset, dtype) in all {
        let report = folder.json(&["reduce", "y", "--vj", &format!("y={name}")]);
        let own = &report["results"][0];
        assert_eq!(own["dtype"], dtype, "{name}");
        let values: Vec<f64> = own["values"][0]
            .as_array()
            .expect("a row")
            .iter()
            .map(|v| v.as_f64().expect("a number"))
            .collect();
        for (got, expected) in values.iter().zip(&sums) {
            assert_eq!(*got, factor * expected + offset, "{name}");
        }
    }
    // Results, read by another library.
    for name in ["out.npy", "out.csv", "out.tsv", "out.txt"] {
        folder.succeeds(&["reduce", "y", "--vj", "y=f64.npy", "-o", name]);
        let got = folder.json(&["reduce", "y", "--vj", &format!("y={name}")]);
        assert_eq!(got["results"][0]["values"][0][0], sums[[0, 0]], "{name}");
    }
    assert_eq!(folder.read::<f64>("out.npy"), sums);
    // Types that differ are told apart, and made one where it is asked for.
    let mixed = ["reduce", "x + y", "--vj", "y=f64.npy", "--vj", "x=f32.npy"];
    folder.fails(&mixed, 1, &["f64.npy", "f32.npy", "--dtype"]);
    let converted = folder.json(&[&mixed[..], &["--dtype", "f32"]].concat());
    assert_eq!(converted["results"][0]["dtype"], "f32");
    assert_eq!(converted["results"][0]["values"][0][1], 2.0 * sums[[0, 1]]);
}

#[test]
fn winners_and_weights() {
    let folder = Folder::new("winners");
    let (x, y, _) = files(&folder);
    let arrays = ["--vi", "x=x.npy", "--vj", "y=y.npy"];
    let call = |more: &[&'static str]| [&["reduce"], more, &arrays[..]].concat();
    folder.succeeds(&call(&[
        "Norm2(x - y)",
        "-r",
        "KMinArgKMin",
        "-k",
        "3",
        "-o",
        "d.npy",
        "--indices",
        "n.npy",
    ]));
    let (d, n): (ArrayD<f64>, ArrayD<i64>) = (folder.read("d.npy"), folder.read("n.npy"));
    assert_eq!((d.shape(), n.shape()), (&[30, 3][..], &[30, 3][..]));
    for i in 0..30 {
        let mut all: Vec<(f64, i64)> =
            (0..40).map(|j| (square(&x, i, &y, j).sqrt(), j as i64)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (k, (distance, j)) in all[..3].iter().enumerate() {
            assert_eq!(n[[i, k]], *j);
            assert!((d[[i, k]] - distance).abs() < 1e-14);
        }
    }
    let nearest = folder.succeeds(&call(&["SqDist(x, y)", "-r", "ArgMin"]));
    let nearest: Vec<i64> = nearest.lines().map(|l| l.parse().expect("an index")).collect();
    assert!(nearest.iter().eq(n.index_axis(Axis(1), 0).iter()));
    // Without files for the indices, a note says that they are not kept.
    let output = folder.run(&call(&["SqDist(x, y)", "-r", "MinArgMin", "-o", "least.npy"]));
    assert!(common::text(&output.stderr).contains("--indices"));

    // Σ_j w exp f / Σ_j exp f of weights y over i.
    folder.succeeds(&call(&[
        "-SqDist(x, y)",
        "-r",
        "SumSoftMaxWeight",
        "--weight",
        "x",
        "--axis",
        "i",
        "-o",
        "s.npy",
    ]));
    let mut expected = Array2::zeros((40, 3));
    for j in 0..40 {
        let total: f64 = (0..30).map(|i| (-square(&x, i, &y, j)).exp()).sum();
        for i in 0..30 {
            let w = (-square(&x, i, &y, j)).exp() / total;
            expected.row_mut(j).scaled_add(w, &x.row(i));
        }
    }
    near(&folder.read("s.npy"), &expected.into_dyn(), 1e-13);

    folder.fails(&call(&["x", "-r", "Summe"]), 1, &["--reduction", "`Summe`", "LogSumExp"]);
    folder.fails(&call(&["SqDist(x, y)", "-r", "KMin"]), 1, &["--k", "KMin"]);
    folder.fails(&call(&["SqDist(x, y)", "-r", "Min", "--indices", "i.npy"]), 2, &["--indices"]);
}

#[test]
fn labels_restrict_pairs() {
    let folder = Folder::new("labels");
    let (x, y, b) = files(&folder);
    let of = |rows: usize, n: usize| Array1::from_shape_fn(rows, |k| (k * n / rows) as i64);
    let (i, j) = (of(30, 3), of(40, 4));
    folder.npy("i.npy", &i);
    folder.npy("j.npy", &j);
    folder.npy("unsorted.npy", &j.slice(ndarray::s![..;-1]).to_owned());
    let call = [&["reduce", GAUSS, "-o", "v.npy"], &ARRAYS[..]].concat();
    folder.succeeds(&[&call[..], &["--labels-i", "i.npy", "--labels-j", "j.npy"]].concat());
    let mut expected = Array2::zeros((30, 2));
    for (r, own) in i.iter().enumerate() {
        for (c, other) in j.iter().enumerate().filter(|(_, other)| *other == own) {
            assert_eq!(own, other);
            expected.row_mut(r).scaled_add((-0.5 * square(&x, r, &y, c)).exp(), &b.row(c));
        }
    }
    near(&folder.read("v.npy"), &expected.into_dyn(), 1e-13);
    let call = [&["reduce", GAUSS], &ARRAYS[..]].concat();
    let with = |i, j| [&call[..], &["--labels-i", i, "--labels-j", j]].concat();
    folder.fails(&with("i.npy", "unsorted.npy"), 1, &["--labels-j", "ascend", "row"]);
    folder.fails(&with("j.npy", "j.npy"), 1, &["--labels-i", "expected 30 rows, got 40"]);
    folder.fails(&with("x.npy", "j.npy"), 1, &["--labels-i", "x.npy"]);
    folder.fails(&[&call[..], &["--labels-i", "i.npy"]].concat(), 2, &["--labels-j"]);
}

#[test]
fn broken_inputs() {
    let folder = Folder::new("broken");
    files(&folder);
    let of = |name: &str| -> Vec<String> {
        ["reduce", "y", "--vj"].map(String::from).into_iter().chain([format!("y={name}")]).collect()
    };
    let fails = |name: &str, says: &[&str]| {
        let call = of(name);
        let call: Vec<&str> = call.iter().map(String::as_str).collect();
        folder.fails(&call, 1, &[&[name][..], says].concat());
    };
    fails("none.npy", &["--vj y", "No such file"]);
    fails("points.xyz", &[".npy, .csv"]);
    folder.text("no.npy", "1, 2, 3");
    fails("no.npy", &["no .npy file"]);
    folder.text("empty.npy", "");
    fails("empty.npy", &["no .npy file"]);
    folder.text("empty.csv", "# nothing\n");
    fails("empty.csv", &["no numbers"]);
    folder.text("ragged.csv", "1,2\n3\n");
    fails("ragged.csv", &["line 2", "1 columns, expected 2"]);
    folder.text("words.csv", "a,b\n1,2\n3,four\n");
    fails("words.csv", &["line 3, column 2", "\"four\""]);
    fs::write(folder.join("latin.csv"), b"1,\xe9\n").expect("a file");
    fails("latin.csv", &["UTF-8"]);
    folder.npy("complex.npy", &array![[ndarray_npy_complex()]]);
    fails("complex.npy", &["<c16", "expected f16, f32, f64"]);
    let whole = fs::read(folder.join("y.npy")).expect("a file");
    for length in 0..whole.len() {
        // (Every length within the header, and some beyond.)
        if length < 140 || length % 97 == 0 {
            fs::write(folder.join("short.npy"), &whole[..length]).expect("a file");
            fails("short.npy", &[]);
        }
    }
    for k in 0..128 {
        for flip in [0x01, 0x20, 0xff] {
            let mut changed = whole.clone();
            changed[k] ^= flip;
            fs::write(folder.join("changed.npy"), &changed).expect("a file");
            let output = folder.run(&["reduce", "y", "--vj", "y=changed.npy"]);
            let told = common::text(&output.stderr);
            assert!(matches!(output.status.code(), Some(0 | 1)), "{k} {flip}: {told}");
            assert!(!told.contains("panicked"), "{told}");
        }
    }
    // Shapes that do not fit, and formulas.
    let arrays = ["--vi", "x=x.npy", "--vj", "y=y.npy", "--vj", "b=b.npy"];
    let call = |formula| [&["reduce", formula], &arrays[..]].concat();
    folder.fails(&call("SqDist(x, b)"), 1, &["SqDist"]);
    folder.fails(&call("SqDist(x, y) * c"), 1, &["c", "^"]);
    folder.fails(&call("Expp(x)"), 1, &["Expp", "^"]);
    folder.npy("rows.npy", &points(39, 3, 1));
    let call = ["reduce", "x + y + z", "--vi", "x=x.npy", "--vj", "y=y.npy", "--vj", "z=rows.npy"];
    folder.fails(&call, 1, &["`z`", "39", "`y`", "40"]);
    // NaN is no error, and is told.
    folder.text("nan.csv", "1\nnan\n");
    let output =
        folder.run(&["reduce", "x + y", "--vi", "x=nan.csv", "--vj", "y=y.npy", "-o", "n.csv"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(common::text(&output.stderr).contains("3 of 6 results are NaN"));
    let rows = fs::read_to_string(folder.join("n.csv")).expect("a file");
    assert_eq!(rows.lines().nth(1), Some("NaN,NaN,NaN"));
}
fn ndarray_npy_complex() -> num_complex::Complex64 {
    num_complex::Complex64::new(1.0, 2.0)
}

/// What does not fit into memory is refused before anything is read or computed.
#[cfg(target_os = "linux")]
#[test]
fn more_than_memory() {
    let folder = Folder::new("memory");
    // 2^38 rows of three f32: 3.3 TB, of which the file system keeps nothing.
    let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (274877906944, 3), }";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(118u16.to_le_bytes());
    bytes.extend(format!("{text:<117}\n").bytes());
    fs::write(folder.join("huge.npy"), &bytes).expect("a file");
    let file = fs::OpenOptions::new().write(true).open(folder.join("huge.npy")).expect("a file");
    if let Err(e) = file.set_len(128 + 12 * (1 << 38)) {
        eprintln!("skipped: no sparse files here: {e}");
        return;
    }
    folder.fails(&["reduce", "x", "--vj", "x=huge.npy"], 1, &["huge.npy", "3.3 TB", "of memory"]);
    folder.npy("x.npy", &Array2::<f32>::zeros((1_000_000, 1)));
    let call = [
        "reduce",
        "Abs(x - y)",
        "-r",
        "KMin",
        "-k",
        "1000000",
        "--vi",
        "x=x.npy",
        "--vj",
        "y=x.npy",
    ];
    folder.fails(&call, 1, &["the result takes 4.0 TB"]);
}

#[test]
fn outputs() {
    let folder = Folder::new("outputs");
    files(&folder);
    let call = |to: &str| -> Vec<String> {
        ["reduce", "y", "--vj", "y=y.npy", "-o", to].map(String::from).to_vec()
    };
    let fails = |to: &str, says: &[&str]| {
        let call = call(to);
        folder.fails(&call.iter().map(String::as_str).collect::<Vec<_>>(), 1, says);
    };
    let before = folder.names();
    fails("y.npy", &["y.npy", "--force"]);
    fails("none/y.npy", &["none/y.npy"]);
    fails("out.png", &["out.png", ".npy, .csv"]);
    fails(".", &["is a folder"]);
    #[cfg(target_os = "linux")]
    fails("/dev/full", &["/dev/full", "No space"]);
    assert_eq!(folder.names(), before, "nothing is left");
    let y = fs::read(folder.join("y.npy")).expect("a file");
    // What fails later leaves what was there.
    folder.fails(&["reduce", "y +", "--vj", "y=y.npy", "-o", "y.npy", "--force"], 1, &["^"]);
    assert_eq!(fs::read(folder.join("y.npy")).expect("a file"), y);
    folder.succeeds(&["reduce", "y", "--vj", "y=y.npy", "-o", "y.npy", "--force", "--quiet"]);
    assert_eq!(folder.read::<f64>("y.npy").shape(), [1, 3]);
    assert_eq!(folder.names(), before, "no temporary files are left");
}

/// Numbers of real tables: the column means of iris, which are known (Fisher 1936).
#[test]
fn iris() {
    let Some(x) = shared("points/iris_X.npy") else { return };
    let folder = Folder::new("iris");
    let own = format!("x={}", x.display());
    let report = folder.json(&["reduce", "x", "-r", "Mean", "--vj", &own]);
    let values = &report["results"][0]["values"][0];
    for (k, mean) in [5.843333, 3.057333, 3.758, 1.199333].iter().enumerate() {
        let tolerance = 1e-5; // digits given
        assert!((values[k].as_f64().expect("a number") - mean).abs() < tolerance, "{values}");
    }
}
