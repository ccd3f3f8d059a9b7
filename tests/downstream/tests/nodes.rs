//! Functions as nodes of computations, reductions made of reductions, ranges of their own for parts, a
//! preconditioner in a solve. Each is differentiated to second order, and compared with differences of values
//! that loops over the definition give.

use downstream::function;
use downstream::kepler::{Kepler, anomaly, kepler};
use downstream::pairs::Pairs;
use downstream::reductions::{MEAN_OF_NEAREST, RANGE};
use keops::cpu::{Cpu, Level};
use keops::error::FormulaError;
use keops::graph::Category;
use keops::linalg::{KernelSolve, SolveOptions};
use keops::ndarray::{Array2, ArrayD, array};
use keops::outer::OuterGraph;
use keops::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The interpreter and every level of the processor.
fn devices() -> Vec<Device> {
    let level = |l| Device::new(Cpu::with_level(l).unwrap());
    let reference = Device::new(keops::interp::Interpreter::new());
    std::iter::once(reference).chain(Level::available().into_iter().map(level)).collect()
}

fn dot(a: &ArrayD<f64>, b: &ArrayD<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
fn random(shape: &[usize], seed: u64) -> ArrayD<f64> {
    let mut s = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    ArrayD::from_shape_simple_fn(shape, || {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        (s >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    })
}

/// Values against `naive`, first and second derivatives in all modes and variables against
/// central differences of it.
fn check(
    what: &str,
    g: &Genred,
    at: &[ArrayD<f64>],
    naive: &dyn Fn(&[ArrayD<f64>]) -> ArrayD<f64>,
) {
    let names: Vec<String> = g.arguments().map(String::from).collect();
    let out = naive(at);
    let e = random(out.shape(), 77);
    let moved = |steps: &[(usize, &ArrayD<f64>, f64)]| {
        let mut at = at.to_vec();
        for (k, u, h) in steps {
            at[*k] = &at[*k] + &(*u * *h);
        }
        dot(&e, &naive(&at))
    };
    let close = |what: &str, got: f64, want: f64, tolerance: f64| {
        assert!((got - want).abs() <= tolerance * (1.0 + want.abs()), "{what}: {got} not {want}");
    };
    for device in devices() {
        let name = format!("{what} on {}", device.backend().target());
        let g = g.clone().at(device);
        let call = |g: &keops::genred::Genred<Device>, more: &[&ArrayD<f64>]| {
            let args: Vec<&ArrayD<f64>> = at.iter().chain(more.iter().copied()).collect();
            g.call(&args[..]).unwrap()
        };
        let got = call(&g, &[]);
        assert_eq!(got.shape(), out.shape(), "{name}");
        for (g, w) in got.iter().zip(&out) {
            close(&name, *g, *w, 1e-12);
        }
        for v in 0..at.len() {
            let u = random(at[v].shape(), 5 + v as u64);
            let h = 1e-4;
            // Fourth order: (8 (f₊ - f₋) - (f₊₊ - f₋₋)) / 12 h.
            let f = |t: f64| moved(&[(v, &u, t * h)]);
            let first = (8.0 * (f(1.0) - f(-1.0)) - (f(2.0) - f(-2.0))) / (12.0 * h);
            let what = format!("{name}, d {}", names[v]);
            let (back, along) = (g.vjp(&names[v]).unwrap(), g.jvp(&names[v]).unwrap());
            close(&what, dot(&call(&back, &[&e]), &u), first, 1e-8);
            close(&what, dot(&call(&along, &[&u]), &e), first, 1e-8);
            for w in 0..at.len() {
                let t = random(at[w].shape(), 50 + w as u64);
                let h = 1e-3;
                let f = |a: f64, b: f64| moved(&[(v, &u, a * h), (w, &t, b * h)]);
                let second =
                    |s: f64| (f(s, s) - f(s, -s) - f(-s, s) + f(-s, -s)) / (4.0 * s * s * h * h);
                let second = (4.0 * second(1.0) - second(2.0)) / 3.0;
                let what = format!("{what} d {}", names[w]);
                let rr = back.vjp(&names[w]).unwrap();
                close(&what, dot(&call(&rr, &[&e, &u]), &t), second, 1e-6);
                let rf = back.jvp(&names[w]).unwrap();
                close(&what, dot(&call(&rf, &[&e, &t]), &u), second, 1e-6);
                let fr = along.vjp(&names[w]).unwrap();
                close(&what, dot(&call(&fr, &[&u, &e]), &t), second, 1e-6);
                let ff = along.jvp(&names[w]).unwrap();
                close(&what, dot(&call(&ff, &[&u, &t]), &e), second, 1e-6);
            }
        }
    }
}

#[test]
fn a_function_as_a_node() -> Result<(), Error> {
    let naive = |v: &[ArrayD<f64>]| v[1].mapv(|m| kepler(v[0][[0]], m));
    let at = [array![0.4].into_dyn(), array![[0.3], [1.9], [4.0]].into_dyn()];
    check("Kepler", &anomaly()?, &at, &naive);
    // Inside a reduction: Σ_j sin(E_i y_j).
    let f = Genred::new("Sin(a * y)", ["a = Vi(1)", "y = Vj(1)"], Sum, Over::J)?;
    let f = f.compose("a", &anomaly()?).map_err(FormulaError::from)?;
    assert_eq!(f.arguments().collect::<Vec<_>>(), ["y", "e", "m"]);
    let naive = |v: &[ArrayD<f64>]| {
        v[2].mapv(|m| v[0].iter().map(|y| (kepler(v[1][[0]], m) * y).sin()).sum())
    };
    let at = [array![[0.5], [-1.2]].into_dyn(), at[0].clone(), at[1].clone()];
    check("Σ sin(Kepler y)", &f, &at, &naive);
    Ok(())
}

#[test]
fn a_function_says_what_does_not_fit() {
    let mut g = OuterGraph::default();
    let x = g.input(0, 1, Category::I);
    let e = g.apply(Arc::new(Kepler), &[x]).unwrap_err();
    assert_eq!(e.to_string(), "Kepler: expected an eccentricity and anomalies, got 1");
}

#[test]
fn reductions_of_reductions() -> Result<(), Error> {
    let aliases = ["x = Vi(2)", "y = Vj(2)"];
    let at = [random(&[3, 2], 1), random(&[5, 2], 2)];
    // f_ijc = sin(x_ic + y_jc) y_jc: (rows i, rows j).
    let entries = |v: &[ArrayD<f64>], i: usize, c: usize| -> Vec<f64> {
        let y = |j: usize| v[1][[j, c]];
        (0..v[1].shape()[0]).map(|j| (v[0][[i, c]] + y(j)).sin() * y(j)).collect()
    };
    let by_row = |of: &dyn Fn(Vec<f64>) -> f64, v: &[ArrayD<f64>]| {
        let shape = (v[0].shape()[0], 2);
        Array2::from_shape_fn(shape, |(i, c)| of(entries(v, i, c))).into_dyn()
    };
    let mean = |f: Vec<f64>| f.iter().sum::<f64>() / f.len() as f64;
    let variance = |f: Vec<f64>| {
        let m = mean(f.clone());
        mean(f.iter().map(|v| (v - m).powi(2)).collect())
    };
    let range = |f: Vec<f64>| {
        f.iter().copied().fold(f64::MIN, f64::max) - f.iter().copied().fold(f64::MAX, f64::min)
    };
    let text = "Sin(x + y) * y";
    check("Mean", &Genred::new(text, aliases, Mean, Over::J)?, &at, &|v| by_row(&mean, v));
    let f = Genred::new(text, aliases, Variance, Over::J)?;
    check("Variance", &f, &at, &|v| by_row(&variance, v));
    check("Range", &Genred::new(text, aliases, &RANGE, Over::J)?, &at, &|v| by_row(&range, v));
    // Weighted, over i.
    let f = Genred::weighted("x * y", "Exp(x | y)", aliases, Variance, Over::I)?;
    let naive = |v: &[ArrayD<f64>]| {
        let (x, y) = (&v[0], &v[1]);
        Array2::from_shape_fn((y.shape()[0], 2), |(j, c)| {
            let w = |i: usize| (x[[i, 0]] * y[[j, 0]] + x[[i, 1]] * y[[j, 1]]).exp();
            let f = |i: usize| x[[i, c]] * y[[j, c]];
            let rows = 0..x.shape()[0];
            let total: f64 = rows.clone().map(w).sum();
            let m = rows.clone().map(|i| w(i) * f(i)).sum::<f64>() / total;
            rows.map(|i| w(i) * (f(i) - m).powi(2)).sum::<f64>() / total
        })
        .into_dyn()
    };
    check("weighted Variance", &f, &at, &naive);
    // The mean of the three nearest.
    let f = Genred::new("SqDist(x, y)", aliases, (&MEAN_OF_NEAREST, 3), Over::J)?;
    let naive = |v: &[ArrayD<f64>]| {
        let d = |i: usize, j: usize| -> f64 {
            (0..2).map(|c| (v[0][[i, c]] - v[1][[j, c]]).powi(2)).sum()
        };
        Array2::from_shape_fn((v[0].shape()[0], 1), |(i, _)| {
            let mut all: Vec<f64> = (0..v[1].shape()[0]).map(|j| d(i, j)).collect();
            all.sort_by(f64::total_cmp);
            all[..3].iter().sum::<f64>() / 3.0
        })
        .into_dyn()
    };
    // (The third and fourth nearest are far enough apart for differences.)
    let at = [random(&[3, 2], 11), random(&[5, 2], 12)];
    check("MeanOfNearest", &f, &at, &naive);
    Ok(())
}

#[test]
fn means_over_nothing_and_bad_weights() -> Result<(), Error> {
    let mean = Genred::new("y", ["y = Vj(1)"], Mean, Over::J)?;
    assert!(mean.call((&Array2::<f64>::zeros((0, 1)),))?[[0, 0]].is_nan());
    let e = Genred::weighted("y", "y", ["y = Vj(2)"], Mean, Over::J).unwrap_err();
    assert!(e.to_string().contains("the weight of a mean has dimension 1, got dimension 2"), "{e}");
    let e = Genred::new("y", ["y = Vj(1)"], (&MEAN_OF_NEAREST, 0), Over::J).unwrap_err();
    assert!(e.to_string().contains("positive number of winners"), "{e}");
    Ok(())
}

/// Near pairs by one formula, far ones by another, each in its own ranges, in one function.
#[test]
fn ranges_of_parts() -> Result<(), Error> {
    let aliases = ["x = Vi(1)", "y = Vj(1)"];
    let labels = ([0, 0, 1], [0, 1, 1, 1]);
    let near = Ranges::same_labels(&labels.0, &labels.1).map_err(FormulaError::from)?;
    // The complement: rows of group 0 meet columns of group 1, and the reverse.
    let far = Ranges::from_clusters(&[2, 3], &[1, 4], &[false, true, true, false])
        .map_err(FormulaError::from)?;
    let exact = Genred::new("Exp(-SqDist(x, y))", aliases, Sum, Over::J)?.ranges(near);
    let coarse = ["x = Vi(1)", "y = Vj(1)", "near = Vi(1)"];
    // (A sum over one column of what is near, so that it is counted once a row.)
    let f = Genred::new("IntInv(3) * near + x * y", coarse, Sum, Over::J)?;
    let f = f.compose("near", &exact).map_err(FormulaError::from)?;
    let naive = |v: &[ArrayD<f64>], far: &dyn Fn(usize, usize) -> bool| {
        Array2::from_shape_fn((3, 1), |(i, _)| {
            let near: f64 = (0..4)
                .filter(|&j| labels.0[i] == labels.1[j])
                .map(|j| (-(v[0][[i, 0]] - v[1][[j, 0]]).powi(2)).exp())
                .sum();
            (0..4).filter(|&j| far(i, j)).map(|j| near / 3.0 + v[0][[i, 0]] * v[1][[j, 0]]).sum()
        })
        .into_dyn()
    };
    let at = [random(&[3, 1], 3), random(&[4, 1], 4)];
    check("near in all", &f, &at, &|v| naive(v, &|_, _| true));
    let f = Genred::new("IntInv(3) * near + x * y", coarse, Sum, Over::J)?.ranges(far);
    let f = f.compose("near", &exact).map_err(FormulaError::from)?;
    check("near in far", &f, &at, &|v| naive(v, &|i, j| labels.0[i] != labels.1[j]));
    Ok(())
}

/// A solve with a preconditioner is differentiated like one without; its solutions are those of elimination.
#[test]
fn a_preconditioner_in_a_solve() -> Result<(), Error> {
    let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    let options =
        SolveOptions { tolerance: 1e-13, check_symmetry: false, ..SolveOptions::ridge(0.1) };
    let text = "Exp(-SqDist(x, y)) * b";
    let solve = KernelSolve::<keops::genred::Reference>::new(text, aliases, "b", Over::J)?;
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let solve = solve.function(options).preconditioner(|k| {
        MADE.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Pairs::new(k)?))
    });
    // One array on both sides, so that the matrix is symmetric however it moves.
    let mut g = OuterGraph::default();
    let (x, b) = (g.input(0, 1, Category::I), g.input(1, 1, Category::J));
    let y = g.recast(x, Category::J).map_err(FormulaError::from)?;
    let port = solve.apply(&mut g, &[x, y, b]).map_err(FormulaError::from)?;
    let f = function(g, &[("x", Category::I), ("b", Category::J)], port)?;
    let naive = |v: &[ArrayD<f64>]| {
        let x = &v[0];
        let n = x.shape()[0];
        let mut m = Array2::from_shape_fn((n, n + 1), |(i, j)| match j {
            _ if j == n => v[1][[i, 0]],
            _ => (-(x[[i, 0]] - x[[j, 0]]).powi(2)).exp() + if i == j { 0.1 } else { 0.0 },
        });
        for k in 0..n {
            let pivot = m[[k, k]];
            for i in (0..n).filter(|i| *i != k) {
                let by = m[[i, k]] / pivot;
                let row = m.row(k).to_owned();
                m.row_mut(i).scaled_add(-by, &row);
            }
        }
        Array2::from_shape_fn((n, 1), |(i, _)| m[[i, n]] / m[[i, i]]).into_dyn()
    };
    // Pairs of points that lie far apart.
    let at = [array![[0.0], [0.4], [2.5], [3.1]].into_dyn(), random(&[4, 1], 8)];
    check("preconditioned solve", &f, &at, &naive);
    assert!(MADE.load(Ordering::Relaxed) > 0);
    Ok(())
}
