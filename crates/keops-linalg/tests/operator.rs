//! Sums as matrices: products, transposes, batches, and what is not linear.

mod common;
use common::*;
use half::f16;
use keops_core::data::DType;
use keops_core::error::{Error, InputError};
use keops_core::genred::Genred;
use keops_core::reduce::{LOG_SUM_EXP, SUM};
use keops_core::spec::Axis;
use keops_linalg::{KernelOperator, OperatorError};
use ndarray::{Array2, ArrayD, Axis as NdAxis, array};

#[test]
fn products_are_those_of_the_dense_matrix() {
    let mut random = Random::new(1);
    let (x, y, v) = (random.matrix(7, 2), random.matrix(5, 2), random.matrix(5, 3));
    let s = array![0.7];
    let dense = gaussian_matrix(&x, &y, 0.7);
    let k = KernelOperator::new(&gaussian(2, 3), "b", (&x, &y, &s)).unwrap();
    assert_eq!((k.rows(), k.columns(), k.range_dim(), k.domain_dim()), (7, 5, 3, 3));
    assert!(k.columns_independent());
    assert_eq!(k.precision(), DType::F64);
    assert!(distance(&k.apply(&v).unwrap(), &dense.dot(&v)) < 1e-14);

    let u = random.matrix(7, 3);
    let t = k.clone().transpose().unwrap();
    assert_eq!((t.rows(), t.columns()), (5, 7));
    assert!(distance(&t.apply(&u).unwrap(), &dense.t().dot(&u)) < 1e-14);
    let back = t.transpose().unwrap();
    assert_eq!(back.apply(&v).unwrap(), k.apply(&v).unwrap());

    // Over i: the variable is indexed by i.
    let over_i =
        sum("Exp(-s * SqDist(x, y)) * b", &["x=Vi(2)", "y=Vj(2)", "b=Vi(3)", "s=Pm(1)"], Axis::I);
    let k = KernelOperator::new(&over_i, "b", (&x, &y, &s)).unwrap();
    assert_eq!((k.rows(), k.columns()), (5, 7));
    assert!(distance(&k.apply(&u).unwrap(), &dense.t().dot(&u)) < 1e-14);
    assert!(distance(&k.transpose().unwrap().apply(&v).unwrap(), &dense.dot(&v)) < 1e-14);
}

/// A kernel whose values are 2 × 3 matrices: `out_i = Σ_j k_ij A_j v_j`.
#[test]
fn matrix_valued_kernels_are_rectangular_blocks() {
    let mut random = Random::new(2);
    let formula = "Exp(-SqDist(x, y)) * MatVecMult(a, v)";
    let g = sum(formula, &["x = Vi(1)", "y = Vj(1)", "a = Vj(6)", "v = Vj(3)"], Axis::J);
    let (x, y, a) = (random.matrix(4, 1), random.matrix(5, 1), random.matrix(5, 6));
    let k = KernelOperator::new(&g, "v", (&x, &y, &a)).unwrap();
    assert_eq!((k.range_dim(), k.domain_dim()), (2, 3));
    assert!(!k.columns_independent());
    let (v, u) = (random.matrix(5, 3), random.matrix(4, 2));
    let kv = k.apply(&v).unwrap();
    let dense = gaussian_matrix(&x, &y, 1.0);
    let expected = Array2::from_shape_fn((4, 2), |(i, c)| {
        (0..5)
            .map(|j| dense[[i, j]] * (0..3).map(|d| a[[j, 3 * c + d]] * v[[j, d]]).sum::<f64>())
            .sum()
    });
    assert!(distance(&kv, &expected) < 1e-14);
    let ku = k.transpose().unwrap().apply(&u).unwrap();
    assert_eq!(ku.shape(), [5, 3]);
    let (left, right) = ((&u * &two(&kv)).sum(), (&v * &two(&ku)).sum());
    assert!((left - right).abs() < 1e-13 * left.abs(), "{left} and {right}");
}

#[test]
fn batches_broadcast_on_both_sides() {
    let mut random = Random::new(3);
    let (x, y, s) = (random.array(&[2, 1, 4, 2]), random.array(&[3, 5, 2]), random.array(&[1]));
    let k = KernelOperator::new(&gaussian(2, 1), "b", (&x, &y, &s)).unwrap();
    assert_eq!(k.batch(), [2, 3]);
    let two_of = |a: &ArrayD<f64>, at: &[usize]| {
        let each = at.iter().fold(a.view(), |v, &k| v.index_axis_move(NdAxis(0), k));
        each.into_dimensionality::<ndarray::Ix2>().unwrap().to_owned()
    };
    for lead in [&[][..], &[3], &[2, 1], &[7, 1, 1]] {
        let v = random.array(&[lead, &[5, 1]].concat());
        let u = random.array(&[lead, &[4, 1]].concat());
        let (kv, ku) = (k.apply(&v).unwrap(), k.clone().transpose().unwrap().apply(&u).unwrap());
        let full: &[usize] = if lead.len() == 3 { &[7, 2, 3] } else { &[2, 3] };
        assert_eq!(kv.shape(), [full, &[4, 1]].concat());
        assert_eq!(ku.shape(), [full, &[5, 1]].concat());
        let (v, u) = (
            v.broadcast(&[full, &[5, 1]].concat()[..]).unwrap(),
            u.broadcast(&[full, &[4, 1]].concat()[..]).unwrap(),
        );
        let last = |b: &[usize]| b[b.len() - 2..].to_vec();
        for at in ndarray::indices(full) {
            let at = ndarray::Dimension::slice(&at).to_vec();
            let dense = gaussian_matrix(
                &two_of(&x, &[last(&at)[0], 0]),
                &two_of(&y, &[last(&at)[1]]),
                s[[0]],
            );
            assert!(distance(&two_of(&kv, &at), &dense.dot(&two_of(&v.to_owned(), &at))) < 1e-14);
            assert!(
                distance(&two_of(&ku, &at), &dense.t().dot(&two_of(&u.to_owned(), &at))) < 1e-14
            );
        }
    }
}

/// Vectors are wider than half-precision arguments, and keep their type.
#[test]
fn half_precision_arguments_take_single_precision_vectors() {
    let mut random = Random::new(4);
    let x = random.matrix(6, 1).mapv(f16::from_f64);
    let s = array![f16::ONE];
    let k = KernelOperator::new(&gaussian(1, 1), "b", (&x, &x, &s)).unwrap();
    assert_eq!(k.precision(), DType::F32);
    let exact = x.mapv(f64::from);
    let v = random.matrix(6, 1).mapv(|e| e as f32);
    let kv: ArrayD<f32> = k.apply(&v).unwrap();
    let expected = gaussian_matrix(&exact, &exact, 1.0).dot(&v.mapv(f64::from));
    assert!(distance(&kv.mapv(f64::from), &expected) < 1e-6);
}

#[test]
fn what_is_linear_and_what_is_not() {
    let aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vj(2)", "p = Pm(2)", "q = Pm(4)"];
    let check = |formula: &str| {
        let g: Result<Genred, _> = Genred::new(formula, aliases, &SUM, Axis::J);
        let g = g.unwrap_or_else(|e| panic!("{formula}: {e}"));
        let mut r = Random::new(5);
        let (x, y, p, q) = (r.matrix(3, 2), r.matrix(4, 2), r.array(&[2]), r.array(&[4]));
        let k = KernelOperator::new(&g, "b", (&x, &y, &p, &q))?;
        // What passes is linear in numbers too.
        let (u, v) = (r.matrix(4, 2), r.matrix(4, 2));
        let both = k.apply(&(2.0 * &u - &v)).unwrap();
        let each = 2.0 * k.apply(&u).unwrap() - k.apply(&v).unwrap();
        assert!(distance(&both, &each) < 1e-13, "{formula}");
        Ok::<bool, OperatorError>(k.columns_independent())
    };
    for formula in [
        "b",
        "-b",
        "Exp(-SqDist(x, y)) * b",
        "b * x + b / (Square(y) + IntCst(1))",
        "b - y * b",
        "IfElse(x - y, b, -b * p)",
        "Exp(x) * (b * y)",
    ] {
        assert_eq!(check(formula), Ok(true), "{formula}");
    }
    for formula in [
        "(x | b)",
        "Sum(b)",
        "(y | b) * x",
        "MatVecMult(q, b)",
        "TensorProd(x, b)",
        "Elem(b, 1) * p",
        "Concat(Elem(b, 1), Elem(b, 0))",
        "Exp(-SqDist(x, y)) * b + (y | b) * x",
    ] {
        assert_eq!(check(formula), Ok(false), "{formula}");
    }
    for (formula, operation, reason) in [
        ("Exp(b)", "Exp", "of an expression with `b` is not linear"),
        ("x * Sin(y * b)", "Sin", "of an expression with `b` is not linear"),
        ("b + y", "Add", "has a part without `b`"),
        ("b - IntCst(1)", "Subtract", "has a part without `b`"),
        ("b * (b + b)", "Mult", "has `b` in both factors"),
        ("x / b", "Divide", "has `b` in the denominator"),
        ("(b | b)", "the product", "has `b` in several factors"),
        ("IfElse(b, b, -b)", "IfElse", "has `b` in the condition"),
        ("IfElse(x, b, y)", "IfElse", "has a part without `b`"),
        ("Concat(b, x)", "Concat", "has a part without `b`"),
        ("Max(b) * x", "Max", "over components of an expression with `b` is not linear"),
        ("x * y", "it", "does not contain `b`"),
    ] {
        match check(formula) {
            Err(OperatorError::NotLinear { variable, operation: o, reason: r }) => {
                assert_eq!((&variable[..], &o[..], &r[..]), ("b", operation, reason), "{formula}");
            }
            other => panic!("{formula}: {other:?}"),
        }
    }
}

#[test]
fn unsuitable_reductions_and_arguments() {
    let (x, s) = (Array2::<f64>::zeros((4, 2)), array![1.0]);
    let g = gaussian(2, 1);
    let new = |g: &Genred, name: &str| KernelOperator::new(g, name, (&x, &x, &s)).err().unwrap();
    assert_eq!(
        new(&g, "c"),
        OperatorError::UnknownVariable { name: "c".into(), known: "x, y, b, s".into() }
    );
    let lse: Genred =
        Genred::new("SqDist(x, b)", ["x = Vi(2)", "b = Vj(2)"], &LOG_SUM_EXP, Axis::J).unwrap();
    assert_eq!(new(&lse, "b"), OperatorError::NotASum { got: "LogSumExp".into() });
    let derived = g.vjp("x").unwrap();
    assert!(matches!(new(&derived, "b"), OperatorError::NotASum { .. }));
    let other = sum("Exp(-SqDist(x, y)) * b", &["x = Vi(2)", "y = Vj(2)", "b = Vi(1)"], Axis::J);
    match new(&other, "b") {
        OperatorError::Category { variable, expected, got } => {
            assert_eq!((&variable[..], expected, got), ("b", "Vj", "Vi"));
        }
        other => panic!("{other:?}"),
    }
    // Arguments.
    match KernelOperator::new(&g, "b", (&x, &x)).err() {
        Some(OperatorError::Core(Error::Input(InputError::Count {
            expected: 3,
            got: 2,
            names,
        }))) => {
            assert!(names.contains("x, y, s"), "{names}");
        }
        other => panic!("{other:?}"),
    }
    let wrong = Array2::<f64>::zeros((4, 3));
    match KernelOperator::new(&g, "b", (&x, &wrong, &s)).err() {
        Some(OperatorError::Core(Error::Input(InputError::Shape { name, got, .. }))) => {
            assert_eq!((&name[..], &got[..]), ("y", &[4, 3][..]));
        }
        other => panic!("{other:?}"),
    }
    let outer = sum("x * b", &["x = Vi(1)", "b = Vj(1)"], Axis::J);
    let column = Array2::<f64>::zeros((4, 1));
    assert!(matches!(
        KernelOperator::new(&outer, "b", (&column,)).err(),
        Some(OperatorError::Core(Error::Input(InputError::NoSize { .. })))
    ));
    let k = KernelOperator::new(&g, "b", (&x, &x, &s)).unwrap();
    match k.apply(&Array2::<f64>::zeros((5, 1))).err() {
        Some(Error::Input(InputError::Shape { name, got, .. })) => {
            assert_eq!((&name[..], &got[..]), ("b", &[5, 1][..]));
        }
        other => panic!("{other:?}"),
    }
    // Nothing maps to nothing.
    let none = Array2::<f64>::zeros((0, 2));
    let k = KernelOperator::new(&g, "b", (&none, &none, &s)).unwrap();
    assert_eq!(k.apply(&Array2::<f64>::zeros((0, 1))).unwrap().shape(), [0, 1]);
}
