//! Operations and their derivatives to third order far from 0, close to it and at infinity, on
//! the interpreter. Expected values are by mpmath in 80 digits.

use keops_core::data::{Buffer, Element};
use keops_core::genred::Genred;
use keops_core::interp::Interpreter;
use keops_core::reduce::SUM;
use keops_core::spec::{Axis, Device};
use ndarray::{Array2, ArrayD};

/// The derivative of that order in x of a formula, at each point.
fn derivative<T: Element>(formula: &str, order: usize, x: &[f64]) -> Vec<f64> {
    let column = |v: &[f64]| -> ArrayD<T> {
        let v: Vec<T> = v.iter().copied().map(T::of_f64).collect();
        Array2::from_shape_vec((v.len(), 1), v).unwrap().into_dyn()
    };
    let mut g: Genred = Genred::new(formula, ["x = Vi(1)"], &SUM, Axis::J).unwrap();
    for k in 0..order {
        g = if k == 0 { g.vjp("x") } else { g.jvp("x") }.unwrap();
    }
    let (x, ones) = (column(x), column(&vec![1.0; x.len()]));
    let args: Vec<_> =
        (0..=order).map(|k| T::erase(if k == 0 { x.view() } else { ones.view() })).collect();
    let out = g.at(Device::new(Interpreter::new())).run(&args).unwrap();
    out.iter().flat_map(|b| Buffer::to_f64(b).into_iter()).collect()
}

/// A formula of x, a point that is exact in f32, and the derivatives of order 0 to 3 there.
type Row = (&'static str, f64, [f64; 4]);
#[rustfmt::skip]
#[allow(clippy::approx_constant)]
const TABLE: &[Row] = &[
    ("Atanh(x)", 8.470329472543003e-22, [8.470329472543003e-22, 1.0, 1.6940658945086007e-21, 2.0]),
    ("Atanh(x)", -6.103515625e-05, [-6.103515632579122e-05, 1.0000000037252903, -0.0001220703134094947, 2.000000044703484]),
    ("Atanh(x)", 0.03125, [0.03126017849066699, 1.0009775171065494, 0.06262224935954952, 2.011747412465528]),
    ("Atanh(x)", 0.5, [0.5493061443340549, 1.3333333333333333, 1.7777777777777777, 8.296296296296296]),
    ("Atanh(x)", -0.75, [-0.9729550745276566, 2.2857142857142856, -7.836734693877551, 64.1865889212828]),
    ("Atanh(x)", 0.9999990463256836, [7.27804515746079, 524288.2500001192, 549755813887.875, 1.152921504606847e+18]),
    ("Sigmoid(x)", 8.470329472543003e-22, [0.5, 0.25, -1.0587911840678754e-22, -0.125]),
    ("Sigmoid(x)", -6.103515625e-05, [0.4999847412109422, 0.24999999976716936, 7.6293945217760966e-06, -0.12499999953433871]),
    ("Sigmoid(x)", 0.03125, [0.5078118642792044, 0.2499389747764833, -0.003904978698074775, -0.124877971897434]),
    ("Sigmoid(x)", 2.0, [0.8807970779778824, 0.10499358540350652, -0.07996250105615306, 0.038851667548206015]),
    ("Sigmoid(x)", -2.5, [0.07585818002124355, 0.07010371654510816, 0.05946783584543407, 0.04061653010448693]),
    ("Sigmoid(x)", -35.0, [6.305116760146985e-16, 6.305116760146981e-16, 6.305116760146973e-16, 6.305116760146958e-16]),
    ("Sigmoid(x)", 40.0, [1.0, 4.248354255291589e-18, -4.248354255291589e-18, 4.248354255291589e-18]),
    ("Softplus(x)", 8.470329472543003e-22, [0.6931471805599453, 0.5, 0.25, -1.0587911840678754e-22]),
    ("Softplus(x)", -6.103515625e-05, [0.6931166634474816, 0.4999847412109422, 0.24999999976716936, 7.6293945217760966e-06]),
    ("Softplus(x)", 2.0, [2.1269280110429727, 0.8807970779778824, 0.10499358540350652, -0.07996250105615306]),
    ("Softplus(x)", -2.5, [0.07888973429254963, 0.07585818002124355, 0.07010371654510816, 0.05946783584543407]),
    ("Softplus(x)", -35.0, [6.305116760146987e-16, 6.305116760146985e-16, 6.305116760146981e-16, 6.305116760146973e-16]),
    ("Softplus(x)", 40.0, [40.0, 1.0, 4.248354255291589e-18, -4.248354255291589e-18]),
    ("Tanh(x)", 8.470329472543003e-22, [8.470329472543003e-22, 1.0, -1.6940658945086007e-21, -2.0]),
    ("Tanh(x)", -6.103515625e-05, [-6.103515617420877e-05, 0.9999999962747097, 0.0001220703118936702, -1.9999999701976778]),
    ("Tanh(x)", 0.03125, [0.031239831446031256, 0.9990240729312235, -0.06241868729779812, -1.99219829805165]),
    ("Tanh(x)", 1.0, [0.7615941559557649, 0.4199743416140261, -0.6397000084492245, 0.6216266807712962]),
    ("Tanh(x)", -1.25, [-0.8482836399575129, 0.28041486618043265, 0.47574268676347253, 0.6498644816717909]),
    ("Tanh(x)", 9.5, [0.9999999887944072, 2.241118549901845e-08, -4.482237049577566e-08, 8.964473898250639e-08]),
    ("Tanh(x)", -20.0, [-1.0, 1.6993417021166355e-17, 3.398683404233271e-17, 6.797366808466542e-17]),
    ("Tanh(x)", 40.0, [1.0, 7.219405551381661e-35, -1.4438811102763322e-34, 2.8877622205526645e-34]),
    ("Expm1(x)", -40.0, [-1.0, 4.248354255291589e-18, 4.248354255291589e-18, 4.248354255291589e-18]),
    ("Expm1(x)", -80.0, [-1.0, 1.8048513878454153e-35, 1.8048513878454153e-35, 1.8048513878454153e-35]),
    ("Expm1(x)", 9.313225746154785e-10, [9.313225750491594e-10, 1.0000000009313226, 1.0000000009313226, 1.0000000009313226]),
    ("Asin(x)", 8.470329472543003e-22, [8.470329472543003e-22, 1.0, 8.470329472543003e-22, 1.0]),
    ("Asin(x)", -6.103515625e-05, [-6.103515628789562e-05, 1.0000000018626451, -6.103515659106051e-05, 1.0000000167638066]),
    ("Asin(x)", 0.5, [0.5235987755982989, 1.1547005383792515, 0.769800358919501, 3.079201435678004]),
    ("Asin(x)", 0.75, [0.848062078981481, 1.511857892036909, 2.5917563863489868, 16.78470802587915]),
    ("Asin(x)", -0.9999990463256836, [-1.5694152587531343, 724.077516568578, -379624971.9872411, 597098546846209.2]),
    ("Acos(x)", 8.470329472543003e-22, [1.5707963267948966, -1.0, -8.470329472543003e-22, -1.0]),
    ("Acos(x)", -6.103515625e-05, [1.5708573619511845, -1.0000000018626451, 6.103515659106051e-05, -1.0000000167638066]),
    ("Acos(x)", 0.5, [1.0471975511965979, -1.1547005383792515, -0.769800358919501, -3.079201435678004]),
    ("Acos(x)", 0.75, [0.7227342478134157, -1.511857892036909, -2.5917563863489868, -16.78470802587915]),
    ("Acos(x)", -0.9999990463256836, [3.140211585548031, -724.077516568578, 379624971.9872411, -597098546846209.2]),
    ("Atan(x)", 8.470329472543003e-22, [8.470329472543003e-22, 1.0, -1.6940658945086007e-21, -2.0]),
    ("Atan(x)", 0.75, [0.6435011087932844, 0.64, -0.6144, 0.360448]),
    ("Atan(x)", 1048576.0, [1.5707953731205802, 9.094947017721011e-13, -1.7347234759736517e-18, 4.96308367530312e-24]),
    ("Atan(x)", -1099511627776.0, [-1.570796326793987, 8.271806125530277e-25, 1.504632769052528e-36, 4.1053665947016125e-48]),
    ("Asinh(x)", 8.470329472543003e-22, [8.470329472543003e-22, 1.0, -8.470329472543003e-22, -1.0]),
    ("Asinh(x)", 0.75, [0.6931471805599453, 0.8, -0.384, 0.04096]),
    ("Asinh(x)", 1048576.0, [14.556090791759079, 9.536743164058163e-07, -9.094947017716875e-13, 1.734723475972074e-18]),
    ("Asinh(x)", -1073741824.0, [-21.487562597358306, 9.313225746154785e-10, 8.673617379884035e-19, 1.6155871338926322e-27]),
    ("Erf(x)", 8.470329472543003e-22, [9.557743315252646e-22, 1.1283791670955126, -1.9115486630505293e-21, -2.256758334191025]),
    ("Erf(x)", 1.5, [0.9661051464753108, 0.11893028922362937, -0.35679086767088813, 0.8325120245654056]),
    ("Erf(x)", -9.0, [-1.0, 7.492073428245974e-36, 1.3485732170842753e-34, 2.412447643895204e-33]),
    ("Erf(x)", 9.25, [1.0, 7.818680227161615e-38, -1.4464558420248988e-36, 2.66030594729174e-35]),
    ("Erfc(x)", 8.470329472543003e-22, [1.0, -1.1283791670955126, 1.9115486630505293e-21, 2.256758334191025]),
    ("Erfc(x)", 1.5, [0.033894853524689274, -0.11893028922362937, 0.35679086767088813, -0.8325120245654056]),
    ("Erfc(x)", -9.0, [2.0, -7.492073428245974e-36, -1.3485732170842753e-34, -2.412447643895204e-33]),
    ("Erfc(x)", 9.25, [4.202037214919711e-39, -7.818680227161615e-38, 1.4464558420248988e-36, -2.66030594729174e-35]),
];

/// Derivatives keep their digits where the formula of a derivative would cancel: near zeros of odd
/// functions, and in tails.
#[test]
fn derivatives_keep_their_digits() {
    fn check<T: Element>(epsilon: f64, least: f64) {
        for (formula, x, expected) in TABLE {
            for (order, want) in expected.iter().enumerate() {
                let got = derivative::<T>(formula, order, &[*x]);
                let error = (got[0] - want).abs();
                let right = error <= 32.0 * epsilon * want.abs() + least;
                assert!(right, "order {order} of {formula} at {x}: {got:?}, not {want}");
            }
        }
    }
    check::<f64>(f64::EPSILON, f64::MIN_POSITIVE);
    check::<f32>(f32::EPSILON.into(), f32::MIN_POSITIVE.into());
}

/// Where a function has a limit, its derivatives are 0 at infinity and (but for what is subnormal)
/// at the largest numbers: no 0 is multiplied by an infinity.
#[test]
fn derivatives_vanish_at_infinity() {
    // From which order on.
    let both = [
        ("Erf(x)", 1),
        ("Erfc(x)", 1),
        ("Atan(x)", 1),
        ("Tanh(x)", 1),
        ("Sigmoid(x)", 1),
        ("Asinh(x)", 1),
        ("Softplus(x)", 2),
    ];
    let above = [
        ("Matern(x, 2)", 0),
        ("Matern(x, 1.3)", 0),
        ("Matern(x, 0.3)", 0),
        ("Matern(x, 7)", 0),
        ("Matern(x, 0.01)", 0),
        ("Matern(x, 0.5)", 0),
        ("Matern(x, 2.5)", 0),
        ("ExtendedGamma(x, 2, 0)", 0),
        ("ExtendedGamma(x, -3.5, 2)", 0),
        ("Wendland(x, 1)", 0),
        ("RationalQuadratic(x, 2)", 0),
        ("Polygamma(1, x)", 0),
        ("Polygamma(4, x)", 0),
        ("Lgamma(x)", 2),
        ("Acosh(x)", 1),
        ("Log(x)", 1),
        ("Log1p(x)", 1),
        ("Sqrt(x)", 1),
        ("Rsqrt(x)", 0),
        ("Expm1(-x)", 1),
        ("Exp(-x)", 0),
    ];
    fn check<T: Element>(formula: &str, first: usize, x: &[f64], least: f64) {
        for order in first..4 {
            let got = derivative::<T>(formula, order, x);
            let right = got.iter().all(|y| y.abs() <= least);
            assert!(right, "order {order} of {formula} at {x:?}: {got:?}");
        }
    }
    let signs = |x: &[f64]| x.iter().flat_map(|x| [*x, -x]).collect::<Vec<f64>>();
    // The root of the largest number is 1e154 in f64 and 2e19 in f32.
    let double = [1e200, 1e290, f64::MAX, f64::INFINITY];
    let single = [1e30, 1e36, f32::MAX.into(), f64::INFINITY];
    for (formula, first) in both {
        check::<f64>(formula, first, &signs(&double), 1e-100);
        check::<f32>(formula, first, &signs(&single), 1e-15);
    }
    for (formula, first) in above {
        check::<f64>(formula, first, &double, 1e-50);
        check::<f32>(formula, first, &single, 1e-7);
    }
}

/// All exponents of large arguments, where those of the integrand are rounding errors: one padding
/// point far away does not spoil a sum.
#[test]
fn matern_kernels_vanish_far_away() {
    let x: Vec<f64> = (60..=308).map(|k| 10f64.powi(k)).collect();
    for nu in [0.01, 0.3, 1.3, 2.0, 7.0, 30.0, 49.9] {
        for order in 0..3 {
            let got = derivative::<f64>(&format!("Matern(x, {nu})"), order, &x);
            let right = got.iter().all(|y| *y == 0.0);
            assert!(right, "order {order} of Matern(x, {nu}): {got:?}");
        }
    }
}

/// Digamma around its zero, and derivatives of it where powers would lose digits: within 4 units
/// in the last place.
#[test]
fn polygamma_keeps_its_digits() {
    let table: [(u32, f64, f64); 23] = [
        (0, 1.5, 0.03648997397857652),
        (0, 1.5088004831951487, 0.04468474971055016),
        (0, 1.4616321449683622, -9.241265521729427e-17),
        (0, 1.4616321449683625, 1.2245374622004068e-16),
        (0, 1.285, -0.1863408827738423),
        (0, 2.0006, 0.42317122281586794),
        (0, 0.999, -0.5788618021086455),
        (0, 0.46, -2.175493605465344),
        (0, 3.0, 0.9227843350984671),
        (0, 2.999999, 0.9227839401643232),
        (0, 7.99, 2.014309222046224),
        (0, 8.0, 2.01564147795561),
        (0, 1e300, 690.7755278982137),
        (0, 1e-300, -9.999999999999999e+299),
        (1, 1.6e-154, 3.90625e+307),
        (5, 1.0007677891353446, 121.52523226693611),
        (3, 0.4056691596116142, 223.33875621150852),
        (8, 88.8, -1.3632573298806696e-12),
        (7, 379954.44858564454, 6.2981900457187345e-37),
        (8, 3.543813443105307, -0.5169900636938668),
        (8, 2e38, -1.9687500000000002e-303),
        (6, 7.7, -0.0008334020992841454),
        (2, 19.9, -0.002655268277490106),
    ];
    for (n, x, want) in table {
        let ulp = f64::from_bits(want.abs().to_bits() + 1) - want.abs();
        let got = derivative::<f64>(&format!("Polygamma({n}, x)"), 0, &[x]);
        let right = (got[0] - want).abs() <= 4.0 * ulp;
        assert!(right, "Polygamma({n}, {x}): {got:?}, not {want}");
    }
}

/// A literal order out of range is refused when the formula is built.
#[test]
fn literal_orders_out_of_range_are_refused() {
    let genred =
        |f: &str| Genred::<keops_core::genred::Reference>::new(f, ["x = Vi(1)"], &SUM, Axis::J);
    for bad in [
        "Polygamma(9, x)",
        "Polygamma(-1, x)",
        "MaternHalf(x, 21)",
        "MaternHalf(x, -1)",
        "WendlandIntegral(x, 13, 1)",
        "WendlandIntegral(x, 2, 5)",
        "PowLog(x, 2, 9)",
        "ExtendedGamma(x, 2, 9)",
    ] {
        let message = genred(bad).unwrap_err().to_string();
        let name = &bad[..bad.find('(').unwrap()];
        assert!(message.contains(name) && message.contains("a valid operand"), "{message}");
    }
    for good in ["Polygamma(8, x)", "MaternHalf(x, 20)", "PowLog(x, -2, 8)", "Powf(-2, x)", "x + 1"]
    {
        genred(good).unwrap();
    }
    // Orders that vary are NaN there.
    assert!(derivative::<f64>("Polygamma(x + 8, x)", 0, &[1.0])[0].is_nan());
}

/// Sums are divided at the end, as the document says.
#[test]
fn means_of_huge_numbers_overflow() {
    let y = ndarray::array![[1e308_f64], [1e308]];
    for reduction in [&keops_core::reduce::MEAN, &keops_core::reduce::VARIANCE] {
        let g: Genred = Genred::new("y", ["y = Vj(1)"], reduction, Axis::J).unwrap();
        assert!(!g.call((&y,)).unwrap()[[0, 0]].is_finite());
    }
}
