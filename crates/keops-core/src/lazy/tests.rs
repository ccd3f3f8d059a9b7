//! Every method against plain loops over numbers.

use super::LazyTensor;
use super::methods::METHODS;
use crate::genred::Reference;
use crate::spec::Axis;
use crate::{composite, ops};
use ndarray::{Array2, Slice};
use std::collections::BTreeSet;

type Lazy = LazyTensor<f64, Reference>;

/// Operations without a method of their name: operators, constructors and `call` reach them.
const BY_NAME: &[&str] = &[
    "Add",
    "Subtract",
    "Mult",
    "Divide",
    "Minus",
    "Pow",
    "Powf",
    "Matern",
    "RangeScale",
    "MaternHalf",
    "WendlandIntegral",
    "PowLog",
    "ExtendedGamma",
    "SqNormIso",
    "SqNormDiag",
    "SymSqNorm",
    "ClampInt",
    "DiffClampInt",
    "ElemT",
    "ExtractT",
    "SumLinOperator",
    "ComplexSumT",
];

#[test]
fn methods_and_tables_agree() {
    let known = |name: &str| ops::by_name(name).is_some() || composite::by_name(name).is_some();
    let unknown: Vec<_> = METHODS.iter().filter(|(_, name)| !known(name)).collect();
    assert!(unknown.is_empty(), "methods of no operation: {unknown:?}");
    let reached = |name: &str| {
        let methods = METHODS.iter().map(|(_, n)| n).chain(super::complex::OPERATIONS);
        methods.chain(BY_NAME).any(|n| *n == name)
    };
    let names = ops::ALL.iter().map(|o| o.name).chain(composite::ALL.iter().map(|c| c.name));
    let missing: Vec<_> = names.filter(|n| !reached(n)).collect();
    assert!(missing.is_empty(), "operations without a method: {missing:?}");
}

const M: usize = 5;
const N: usize = 3;
const D: usize = 4;

/// Numbers in (0.05, 0.95), no two alike.
fn numbers(rows: usize, phase: f64) -> Array2<f64> {
    Array2::from_shape_fn((rows, D), |(i, k)| 0.5 + 0.45 * ((i * D + k) as f64 * 1.7 + phase).sin())
}

#[derive(Default)]
struct Methods {
    seen: BTreeSet<&'static str>,
}
impl Methods {
    /// A method of entries x (D numbers in (0, 1)) and y (as many) against a function of the same.
    fn check(
        &mut self,
        name: &'static str,
        method: impl Fn(&Lazy, &Lazy) -> Lazy,
        plain: impl Fn(&[f64], &[f64]) -> Vec<f64>,
    ) {
        self.seen.insert(name);
        let (x, y) = (numbers(M, 0.3), numbers(N, 1.9));
        let x_i = Lazy::vi(&x);
        for j in 0..N {
            let one = y.slice_axis(ndarray::Axis(0), Slice::from(j..j + 1));
            let got = method(&x_i, &Lazy::vj(one)).sum(Axis::J);
            let got = got.unwrap_or_else(|e| panic!("{name}: {e}"));
            for i in 0..M {
                let (a, b) = (x.row(i).to_vec(), one.row(0).to_vec());
                let want = plain(&a, &b);
                let got = got.index_axis(ndarray::Axis(0), i);
                assert_eq!(got.len(), want.len(), "{name}: dimension");
                for (g, w) in got.iter().zip(&want) {
                    assert!((g - w).abs() <= 1e-13 * w.abs().max(1.0), "{name}: {g}, expected {w}");
                }
            }
        }
    }
    fn map(&mut self, name: &'static str, method: fn(&Lazy) -> Lazy, f: impl Fn(f64) -> f64) {
        self.check(name, |x, _| method(x), |x, _| x.iter().map(|&v| f(v)).collect());
        // Of signed numbers and of integers too.
        let all = |method: &dyn Fn(&Lazy) -> Lazy, f: &dyn Fn(f64) -> f64| {
            let x = ndarray::arr2(&[[-2.0, -1.3], [-0.2, 0.0], [0.7, 1.0], [2.5, 3.0]]);
            let got = method(&Lazy::vi(&x)).sum(Axis::J).unwrap();
            for (g, v) in got.iter().zip(&x) {
                let w = f(*v);
                let same = g == &w
                    || (g.is_nan() && w.is_nan())
                    || (g - w).abs() <= 1e-13 * w.abs().max(1.0);
                assert!(same, "{name}({v}): {g}, expected {w}");
            }
        };
        all(&method, &f);
    }
    fn zip(
        &mut self,
        name: &'static str,
        method: fn(&Lazy, &Lazy) -> Lazy,
        f: impl Fn(f64, f64) -> f64,
    ) {
        let each = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(&a, &b)| f(a, b)).collect();
        self.check(name, method, each);
        // A scalar on either side stands beside every component.
        self.check(
            name,
            |x, y| method(&x.elem(1), y),
            |x, y| y.iter().map(|&b| f(x[1], b)).collect(),
        );
        self.check(
            name,
            |x, y| method(x, &y.elem(2)),
            |x, y| x.iter().map(|&a| f(a, y[2])).collect(),
        );
    }
    /// A method that gives one number.
    fn one(
        &mut self,
        name: &'static str,
        method: impl Fn(&Lazy, &Lazy) -> Lazy,
        f: impl Fn(&[f64], &[f64]) -> f64,
    ) {
        self.check(name, method, |x, y| vec![f(x, y)]);
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(a, b)| a * b).sum()
}
fn sq_dist(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(a, b)| (a - b) * (a - b)).sum()
}
fn position(x: &[f64], better: fn(f64, f64) -> bool) -> usize {
    (1..x.len()).fold(0, |best, k| if better(x[k], x[best]) { k } else { best })
}
fn soft_dtw(x: &[f64], y: &[f64], gamma: f64) -> f64 {
    // Sum over all monotone alignments: the soft minimum of a path is that of what remains.
    fn rest(x: &[f64], y: &[f64], gamma: f64, i: usize, j: usize) -> f64 {
        let cost = (x[i] - y[j]).powi(2);
        let next = [(i + 1, j), (i, j + 1), (i + 1, j + 1)];
        let next = next.iter().filter(|(i, j)| *i < x.len() && *j < y.len());
        let sum: f64 = next.map(|&(i, j)| (-rest(x, y, gamma, i, j) / gamma).exp()).sum();
        if sum == 0.0 { cost } else { cost - gamma * sum.ln() }
    }
    rest(x, y, gamma, 0, 0)
}
fn b_spline(knots: &[f64], order: usize, j: usize, x: f64) -> f64 {
    if order == 0 {
        return f64::from(knots[j] <= x && x < knots[j + 1]);
    }
    let left = (x - knots[j]) / (knots[j + order] - knots[j]);
    let right = (knots[j + order + 1] - x) / (knots[j + order + 1] - knots[j + 1]);
    left * b_spline(knots, order - 1, j, x) + right * b_spline(knots, order - 1, j + 1, x)
}
/// Determinant and inverse of [a b; c d].
fn inverse(m: &[f64]) -> (f64, Vec<f64>) {
    let det = m[0] * m[3] - m[1] * m[2];
    (det, vec![m[3] / det, -m[1] / det, -m[2] / det, m[0] / det])
}

#[test]
fn every_method_is_what_it_says() {
    let m = &mut Methods::default();
    m.map("abs", |x| x.abs(), f64::abs);
    m.map("exp", |x| x.exp(), f64::exp);
    m.map("log", |x| x.log(), f64::ln);
    m.map("xlogx", |x| x.xlogx(), |v| if v == 0.0 { 0.0 } else { v * v.ln() });
    m.map("sin", |x| x.sin(), f64::sin);
    m.map("cos", |x| x.cos(), f64::cos);
    m.map("tan", |x| x.tan(), f64::tan);
    m.map("sinh", |x| x.sinh(), f64::sinh);
    m.map("cosh", |x| x.cosh(), f64::cosh);
    m.map("tanh", |x| x.tanh(), f64::tanh);
    m.map("expm1", |x| x.expm1(), f64::exp_m1);
    m.map("log1p", |x| x.abs().log1p(), |v| v.abs().ln_1p());
    m.map("asinh", |x| x.asinh(), libm::asinh);
    m.map("acosh", |x| (x.abs() + 1.0).acosh(), |v| libm::acosh(v.abs() + 1.0));
    m.map("atanh", |x| (x / 10.0).atanh(), |v| libm::atanh(v / 10.0));
    m.map("sigmoid", |x| x.sigmoid(), |v| 1.0 / (1.0 + (-v).exp()));
    m.map("softplus", |x| x.softplus(), |v| v.exp().ln_1p());
    m.map("erf", |x| x.erf(), libm::erf);
    m.map("erfc", |x| x.erfc(), libm::erfc);
    m.map("lgamma", |x| (x.abs() + 0.5).lgamma(), |v| libm::lgamma(v.abs() + 0.5));
    // ψ(a + 1) - ψ(a) = 1 / a
    m.map(
        "polygamma",
        |x| (x.abs() + 1.5).polygamma(0) - (x.abs() + 0.5).polygamma(0),
        |v| 1.0 / (v.abs() + 0.5),
    );
    m.map(
        "cos_sqrt",
        |x| x.cos_sqrt(),
        |v| if v < 0.0 { (-v).sqrt().cosh() } else { v.sqrt().cos() },
    );
    m.map(
        "sinc_sqrt",
        |x| x.sinc_sqrt(),
        |v| match v.abs().sqrt() {
            0.0 => 1.0,
            s if v < 0.0 => s.sinh() / s,
            s => s.sin() / s,
        },
    );
    m.map(
        "wendland",
        |x| x.wendland(2),
        |v| {
            // (1 - r)^6 (35 r² + 18 r + 3) / 3; powers from integers keep a NaN below 0.
            let r = if v < 1.0 { v.sqrt() } else { 1.0 };
            (1.0 - r).powi(6) * (35.0 * r * r + 18.0 * r + 3.0) / 3.0
        },
    );
    m.zip(
        "rational_quadratic",
        |x, y| x.rational_quadratic(y),
        |u, a| (1.0 + u / (2.0 * a)).powf(-a),
    );
    m.map(
        "thin_plate",
        |x| x.thin_plate(2),
        |v| if v == 0.0 { 0.0 } else { v.sqrt().powi(4) * v.sqrt().ln() },
    );
    m.zip("radial_power", |x, y| x.radial_power(y), f64::powf);
    m.map("sinxdivx", |x| x.sinxdivx(), |v| if v == 0.0 { 1.0 } else { v.sin() / v });
    m.map(
        "sinc",
        |x| x.sinc(),
        |v| {
            let a = std::f64::consts::PI * v;
            if v == 0.0 { 1.0 } else { a.sin() / a }
        },
    );
    m.map("asin", |x| x.asin(), f64::asin);
    m.map("acos", |x| x.acos(), f64::acos);
    m.map("atan", |x| x.atan(), f64::atan);
    m.map("sqrt", |x| x.sqrt(), f64::sqrt);
    m.map("rsqrt", |x| x.rsqrt(), |v| if v == 0.0 { 0.0 } else { 1.0 / v.sqrt() });
    m.map("square", |x| x.square(), |v| v * v);
    m.map("inv", |x| x.inv(), |v| 1.0 / v);
    m.map("sign", |x| x.sign(), |v| if v == 0.0 { 0.0 } else { v.signum() });
    m.map("step", |x| x.step(), |v| f64::from(v >= 0.0));
    m.map("relu", |x| x.relu(), |v| v.max(0.0));
    m.map("floor", |x| x.floor(), f64::floor);
    m.map("round", |x| x.round(1), |v| (v * 10.0).round() / 10.0);
    m.map("round", |x| (100 * x).round(-1), |v| (v * 10.0).round() * 10.0);
    m.map("factorize", |x| (x + x.sin()).factorize(x.sin()), |v| v + v.sin());
    m.map("auto_factorize", |x| x.sin().auto_factorize(), f64::sin);
    m.map("pow", |x| x.pow(3) + x.pow(0) * x, |v| v.powi(3) + v);
    m.map("pow", |x| (x + 9).pow(-2), |v| (v + 9.0).powi(-2));
    m.map("power", |x| x.power(4) + x.power(2.0), |v| v.powi(4) + v * v);
    m.map("power", |x| x.power(0.5) + x.abs().power(1.5), |v| v.sqrt() + v.abs().powf(1.5));
    m.map("power", |x| (x + 4).power(-0.5), |v| (v + 4.0).sqrt().recip());
    m.map("powf", |x| x.abs().powf(x + 0.25), |v| v.abs().powf(v + 0.25));
    m.map("neg", |x| -x + 2 / (x + 0.3) - 1.5, |v| -v + 2.0 / (v + 0.3) - 1.5);
    m.map("scalars", |x| 3 - x * 0.25 + x * 0.1f32, |v| 3.0 - v * 0.25 + f64::from(0.1f32) * v);

    m.zip("add", |x, y| x + y, |a, b| a + b);
    m.zip("sub", |x, y| x - y, |a, b| a - b);
    m.zip("mul", |x, y| x * y, |a, b| a * b);
    m.zip("div", |x, y| x / y, |a, b| a / b);
    m.zip("atan2", |x, y| (x - 0.5).atan2(y - 0.5), |a, b| (a - 0.5).atan2(b - 0.5));
    m.zip("powf", |x, y| x.powf(y), f64::powf);
    m.zip("power", |x, y| x.power(y), f64::powf);
    let rounded = |a: f64| (a * 4.0).floor();
    m.zip(
        "equal",
        |x, y| (x * 4).floor().equal((y * 4).floor()),
        |a, b| f64::from(rounded(a) == rounded(b)),
    );
    m.zip(
        "not_equal",
        |x, y| (x * 4).floor().not_equal((y * 4).floor()),
        |a, b| f64::from(rounded(a) != rounded(b)),
    );
    m.zip("less_than", |x, y| x.less_than(y) + x.less_than(x), |a, b| f64::from(a < b));
    m.zip(
        "less_or_equal",
        |x, y| x.less_or_equal(y) * x.less_or_equal(x),
        |a, b| f64::from(a <= b),
    );
    m.zip("greater_than", |x, y| x.greater_than(y) + x.greater_than(x), |a, b| f64::from(a > b));
    m.zip(
        "greater_or_equal",
        |x, y| x.greater_or_equal(y) * x.greater_or_equal(x),
        |a, b| f64::from(a >= b),
    );
    m.zip("clamp", |x, y| x.clamp(0.3, y), |a, b| if a < 0.3 { 0.3 } else { a.min(b) });
    m.zip("ifelse", |x, y| (x - y).ifelse(x, 2 * y), |a, b| if a >= b { a } else { 2.0 * b });
    m.zip("select", |x, y| x.less_than(y).select(x, 2 * y), |a, b| if a < b { a } else { 2.0 * b });
    m.zip(
        "modulo",
        |x, y| (5 * x).modulo(y, 0.2),
        |a, b| 5.0 * a - b * ((5.0 * a - 0.2) / b).floor(),
    );

    m.one("sqnorm2", |x, _| x.sqnorm2(), |x, _| dot(x, x));
    m.one("norm2", |x, _| x.norm2(), |x, _| dot(x, x).sqrt());
    m.check(
        "normalize",
        |x, _| x.normalize(),
        |x, _| x.iter().map(|v| v / dot(x, x).sqrt()).collect(),
    );
    m.one("sum_components", |x, _| x.sum_components(), |x, _| x.iter().sum());
    m.one("min_components", |x, _| x.min_components(), |x, _| x[position(x, |a, b| a < b)]);
    m.one("max_components", |x, _| x.max_components(), |x, _| x[position(x, |a, b| a > b)]);
    m.one(
        "argmin_components",
        |x, _| x.argmin_components(),
        |x, _| position(x, |a, b| a < b) as f64,
    );
    m.one(
        "argmax_components",
        |x, _| x.argmax_components(),
        |x, _| position(x, |a, b| a > b) as f64,
    );
    m.one("sqdist", |x, y| x.sqdist(y), sq_dist);
    m.one("scalprod", |x, y| x.scalprod(y) + (x | y), |x, y| 2.0 * dot(x, y));
    let squares = |x: &[f64]| x.iter().map(|v| v * v).collect::<Vec<_>>();
    m.one("weightedsqnorm", |x, y| x.weightedsqnorm(y.elem(0)), |x, y| y[0] * dot(x, x));
    m.one("weightedsqnorm", |x, y| x.weightedsqnorm(y), |x, y| dot(y, &squares(x)));
    m.one(
        "weightedsqnorm",
        |x, y| x.extract(0, 2).weightedsqnorm(y),
        |x, y| dot(&x[..2], &[dot(&y[..2], &x[..2]), dot(&y[2..], &x[..2])]),
    );
    m.one(
        "weightedsqdist",
        |x, y| x.weightedsqdist(y, x),
        |x, y| x.iter().zip(y).map(|(a, b)| a * (a - b) * (a - b)).sum(),
    );
    // 2 x 2 and 2 x 4 matrices.
    m.check(
        "matvecmult",
        |x, y| x.matvecmult(y.extract(0, 2)),
        |x, y| vec![dot(&x[..2], &y[..2]), dot(&x[2..], &y[..2])],
    );
    m.check(
        "vecmatmult",
        |x, y| x.extract(1, 2).vecmatmult(y),
        |x, y| vec![x[1] * y[0] + x[2] * y[2], x[1] * y[1] + x[2] * y[3]],
    );
    m.check(
        "tensorprod",
        |x, y| x.tensorprod(y.extract(0, 2)),
        |x, y| x.iter().flat_map(|a| [a * y[0], a * y[1]]).collect(),
    );
    m.check(
        "difference_matrix",
        |x, y| x.difference_matrix(y.extract(0, 3)),
        |x, y| x.iter().flat_map(|a| y[..3].iter().map(move |b| a - b)).collect(),
    );
    // (2, 2) and (2, 2), the second axis of x against the first of y: a matrix product.
    m.check(
        "tensordot",
        |x, y| x.tensordot(y, &[2, 2], &[2, 2], &[1], &[0]),
        |x, y| {
            let at = |i: usize, j: usize| x[2 * i] * y[j] + x[2 * i + 1] * y[2 + j];
            vec![at(0, 0), at(0, 1), at(1, 0), at(1, 1)]
        },
    );
    m.check(
        "kron",
        |x, y| x.kron(y, &[2, 2], &[2, 2]),
        |x, y| {
            let at = |r: usize, c: usize| x[2 * (r / 2) + c / 2] * y[2 * (r % 2) + c % 2];
            (0..16).map(|k| at(k / 4, k % 4)).collect()
        },
    );
    m.one(
        "matdet",
        |x, y| (x + [1.0, 0.0, 0.0, 1.0] + y - y).matdet(),
        |x, _| inverse(&[x[0] + 1.0, x[1], x[2], x[3] + 1.0]).0,
    );
    m.check(
        "matinv",
        |x, _| (x + [1.0, 0.0, 0.0, 1.0]).matinv(),
        |x, _| inverse(&[x[0] + 1.0, x[1], x[2], x[3] + 1.0]).1,
    );
    m.check(
        "matsolve",
        |x, y| (x + [1.0, 0.0, 0.0, 1.0]).matsolve(y.extract(0, 2)),
        |x, y| {
            let a = inverse(&[x[0] + 1.0, x[1], x[2], x[3] + 1.0]).1;
            vec![dot(&a[..2], &y[..2]), dot(&a[2..], &y[..2])]
        },
    );
    m.check("concat", |x, y| x.concat(y), |x, y| [x, y].concat());
    m.check("concatenate", |x, y| Lazy::concatenate(&[y, x, y]), |x, y| [y, x, y].concat());
    m.check(
        "gather",
        |x, _| Lazy::list(&[5.0, 7.0, 9.0]).gather((3 * x).floor()),
        |x, _| x.iter().map(|v| [5.0, 7.0, 9.0][(3.0 * v) as usize]).collect(),
    );
    m.one(
        "softdtw_sqdist",
        |x, y| x.softdtw_sqdist(y.extract(0, 3), 0.1),
        |x, y| soft_dtw(x, &y[..3], 0.1),
    );
    let knots = [0.0, 0.1, 0.25, 0.45, 0.7, 0.8, 1.0];
    m.check(
        "bspline",
        |x, _| x.elem(0).bspline(knots, 2),
        |x, _| (0..4).map(|j| b_spline(&knots, 2, j, x[0])).collect(),
    );
    m.one("elem", |x, _| x.elem(3), |x, _| x[3]);
    m.check("extract", |x, _| x.extract(1, 2), |x, _| x[1..3].to_vec());
    m.check("components", |x, _| x.components(1..3), |x, _| x[1..3].to_vec());
    m.check("components", |x, _| x.components(-3..=-2), |x, _| x[1..3].to_vec());
    m.check("components", |x, _| x.components(..), |x, _| x.to_vec());
    m.check("components", |x, _| x.components(Slice::new(1, None, 2)), |x, _| vec![x[1], x[3]]);
    m.check(
        "components",
        |x, _| x.components(Slice::new(0, Some(-1), -1)),
        |x, _| vec![x[2], x[1], x[0]],
    );
    m.check("sumt", |x, _| x.elem(2).sumt(3), |x, _| vec![x[2]; 3]);
    m.check(
        "one_hot",
        |x, _| (3 * x.elem(0)).floor().one_hot(3),
        |x, _| (0..3).map(|k| f64::from(k == (3.0 * x[0]) as usize)).collect(),
    );
    m.check("iota", |x, _| Lazy::iota(4) * x, |x, _| (0..4).map(|k| k as f64 * x[k]).collect());

    // Derivatives of exp(-|x - y|²) and of the linear and quadratic maps of x.
    let gauss = |x: &Lazy, y: &Lazy| (-x.sqdist(y)).exp();
    let g = |x: &[f64], y: &[f64]| (-sq_dist(x, y)).exp();
    m.check(
        "grad",
        |x, y| gauss(x, y).grad(x, x.elem(1)),
        |x, y| x.iter().zip(y).map(|(a, b)| -2.0 * (a - b) * g(x, y) * x[1]).collect(),
    );
    m.one(
        "diff",
        |x, y| gauss(x, y).diff(y, x),
        |x, y| x.iter().zip(y).map(|(a, b)| 2.0 * (a - b) * g(x, y) * a).sum(),
    );
    m.check(
        "grad_matrix",
        |x, y| (x * gauss(x, y)).grad_matrix(x),
        |x, y| {
            let at =
                |k: usize, l: usize| g(x, y) * (f64::from(k == l) - 2.0 * x[k] * (x[l] - y[l]));
            (0..D * D).map(|k| at(k / D, k % D)).collect()
        },
    );
    m.one(
        "divergence",
        |x, y| (x * gauss(x, y)).divergence(x),
        |x, y| (0..D).map(|k| g(x, y) * (1.0 - 2.0 * x[k] * (x[k] - y[k]))).sum(),
    );
    m.one(
        "laplacian",
        |x, y| gauss(x, y).laplacian(x),
        |x, y| g(x, y) * (4.0 * sq_dist(x, y) - 2.0 * D as f64),
    );
    m.one(
        "trace_operator",
        |x, y| (y * x + 3 * x).trace_operator(x),
        |_, y| y.iter().map(|v| v + 3.0).sum(),
    );
    m.check(
        "adjoint_operator",
        |x, y| (x | y).adjoint_operator(x, x.elem(0)),
        |x, y| y.iter().map(|v| v * x[0]).collect(),
    );

    let missing: Vec<_> = METHODS.iter().filter(|(name, _)| !m.seen.contains(name)).collect();
    assert!(missing.is_empty(), "methods that were not tested: {missing:?}");
}
