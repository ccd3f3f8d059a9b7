//! Strategies of [proptest](https://docs.rs/proptest) for the tests of programs that use keops:
//! formulas, arrays of awkward layout, ranges, and symmetric positive definite operators.
//!
//! ```
//! use keops_core::conformance::strategies::{arrays, formulas};
//! use keops_core::genred::Genred;
//! use keops_core::spec::Axis;
//! use keops_core::reduce::SUM;
//! use proptest::prelude::*;
//! use proptest::test_runner::TestRunner;
//!
//! // Sums do not depend on how arguments lie in memory.
//! let any = formulas().prop_flat_map(|f| {
//!     let arguments: Vec<_> = f.shapes(4, 3).iter().map(|s| arrays::<f32>(s)).collect();
//!     (Just(f), arguments)
//! });
//! let mut runner = TestRunner::deterministic();
//! runner
//!     .run(&any, |(f, arguments)| {
//!         let sum: Genred = Genred::from_formula(f.formula, &SUM, Axis::J).unwrap();
//!         let plain: Vec<_> = arguments.iter().map(|a| a.to_standard()).collect();
//!         let (plain, views): (Vec<_>, Vec<_>) =
//!             plain.iter().zip(&arguments).map(|(p, a)| (p.view(), a.view())).unzip();
//!         let (plain, views): (Vec<_>, Vec<_>) =
//!             plain.iter().zip(&views).map(|(p, v)| (p, v)).unzip();
//!         let same = |a: &f32, b: &f32| a == b || (a.is_nan() && b.is_nan());
//!         let (a, b) = (sum.call(&plain[..]).unwrap(), sum.call(&views[..]).unwrap());
//!         prop_assert!(a.iter().zip(&b).all(|(a, b)| same(a, b)));
//!         Ok(())
//!     })
//!     .unwrap();
//! ```

use super::case::{INSTRUCTIONS, NUMBERS};
use super::data::{self, LAYOUTS, Layout, Special, arrange, stored_shape};
use super::formula::{Kind, Pool};
use crate::data::Element;
use crate::graph::{Builder, Category};
use crate::outer::Formula;
use crate::random::Random;
use crate::ranges::Ranges;
use ndarray::{Array1, Array2, ArrayD, ArrayViewD};
use proptest::collection::vec;
use proptest::strategy::Strategy;

/// A random formula.
///
/// ```
/// use keops_core::conformance::strategies::formulas;
/// use keops_core::parse::parse_formula;
/// use proptest::prelude::*;
/// use proptest::test_runner::TestRunner;
/// // What prints is read back as the same formula.
/// let again = |f: keops_core::conformance::strategies::RandomFormula| {
///     let f = f.formula;
///     let alias = |v: &keops_core::graph::Var| format!("{}({})", v.category.keyword(), v.dim);
///     let alias = |(v, name)| format!("{name} = {}", alias(v));
///     let aliases: Vec<String> = f.vars.iter().zip(&f.names).map(alias).collect();
///     let aliases: Vec<&str> = aliases.iter().map(|a| &a[..]).collect();
///     let again = parse_formula(&f.to_string(), None, &aliases);
///     prop_assert_eq!(again.map(|a| a.graph.dim(a.root)), Ok(f.graph.dim(f.root)));
///     Ok(())
/// };
/// TestRunner::deterministic().run(&formulas(), again).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct RandomFormula {
    /// The formula, for [`crate::genred::Genred::from_formula`]; its variables are the arguments.
    pub formula: Formula,
    /// How it was made, one operation after the other.
    pub text: String,
}

impl RandomFormula {
    /// Shapes of the arguments for `m` rows of `i` and `n` rows of `j`.
    ///
    /// ```
    /// use keops_core::conformance::strategies::formulas;
    /// use keops_core::graph::Category;
    /// use proptest::prelude::*;
    /// proptest!(|(f in formulas())| {
    ///     for (v, shape) in f.formula.vars.iter().zip(f.shapes(4, 3)) {
    ///         match v.category {
    ///             Category::I => prop_assert_eq!(shape, [4, v.dim]),
    ///             Category::J => prop_assert_eq!(shape, [3, v.dim]),
    ///             Category::Param => prop_assert_eq!(shape, [v.dim]),
    ///         }
    ///     }
    /// });
    /// ```
    pub fn shapes(&self, m: usize, n: usize) -> Vec<Vec<usize>> {
        let shape = |v: &crate::graph::Var| match v.category {
            Category::I => vec![m, v.dim],
            Category::J => vec![n, v.dim],
            Category::Param => vec![v.dim],
        };
        self.formula.vars.iter().map(shape).collect()
    }
}

/// Formulas of up to eight operations of the tables, on variables of all categories with dimensions
/// from 1 to 130. They shrink towards fewer operations.
///
/// ```
/// use keops_core::conformance::strategies::formulas;
/// use keops_core::outer::Computation;
/// use keops_core::{reduce::MIN, spec::Axis};
/// use proptest::prelude::*;
/// proptest!(|(f in formulas())| {
///     prop_assert!(Computation::reduction(f.formula, &MIN, 1, Axis::I).is_ok());
/// });
/// ```
pub fn formulas() -> impl Strategy<Value = RandomFormula> {
    let number = 0..NUMBERS;
    let instruction = [number.clone(), number.clone(), number.clone()];
    (number.clone(), number, vec(instruction, 1..=INSTRUCTIONS)).prop_map(
        |(shape, kind, instructions)| {
            let b = Builder::default();
            let mut pool = Pool::new(&b, shape, kind);
            for i in instructions {
                pool.apply(i);
            }
            let root = pool.last().id;
            let vars = b.graph().variables(&[root]);
            let names = vars.iter().map(|v| pool.name(v.index)).collect();
            let text = pool.text.join("; ");
            drop(pool);
            let graph = b.into_graph().into();
            RandomFormula { formula: Formula { graph, root, weight: None, vars, names }, text }
        },
    )
}

/// An array in some layout.
///
/// ```
/// use keops_core::conformance::strategies::arrays;
/// use proptest::strategy::{Strategy, ValueTree};
/// use proptest::test_runner::TestRunner;
/// let simplest = {
///     let mut tree = arrays::<f32>(&[2, 2]).new_tree(&mut TestRunner::deterministic()).unwrap();
///     while tree.simplify() {}
///     tree.current()
/// };
/// assert!(simplest.view().is_standard_layout());
/// ```
#[derive(Clone, Debug)]
pub struct Laid<T> {
    stored: ArrayD<T>,
    layout: Layout,
    shape: Vec<usize>,
}

impl<T: Element> Laid<T> {
    /// The array: of the shape that was asked for, with any strides, zero and negative ones too.
    ///
    /// ```
    /// use keops_core::conformance::strategies::arrays;
    /// use proptest::prelude::*;
    /// proptest!(|(a in arrays::<f32>(&[3, 2]))| {
    ///     let view = a.view();
    ///     prop_assert_eq!(view.shape(), [3, 2]);
    ///     prop_assert!(view.iter().all(|v| v.abs() <= 2.0));
    /// });
    /// ```
    pub fn view(&self) -> ArrayViewD<'_, T> {
        arrange(&self.stored, self.layout, &self.shape)
    }
    /// The layout.
    ///
    /// ```
    /// use keops_core::conformance::{Layout, strategies::arrays};
    /// use proptest::prelude::*;
    /// proptest!(|(a in arrays::<f32>(&[3, 2]))| {
    ///     prop_assert_eq!(a.layout() == Layout::Standard, a.view().is_standard_layout());
    /// });
    /// ```
    pub fn layout(&self) -> Layout {
        self.layout
    }
    /// The same values in row-major order.
    ///
    /// ```
    /// use keops_core::conformance::strategies::arrays;
    /// use proptest::prelude::*;
    /// proptest!(|(a in arrays::<f64>(&[2, 3, 2]))| {
    ///     let copy = a.to_standard();
    ///     prop_assert!(copy.is_standard_layout());
    ///     prop_assert_eq!(copy, a.view());
    /// });
    /// ```
    pub fn to_standard(&self) -> ArrayD<T> {
        self.view().as_standard_layout().into_owned()
    }
}

/// Arrays of a shape in every [`Layout`], with entries within ±2.
///
/// ```
/// use keops_core::conformance::strategies::arrays;
/// use proptest::prelude::*;
///
/// proptest!(|(a in arrays::<f64>(&[5, 3]))| {
///     let (view, copy) = (a.view(), a.to_standard());
///     prop_assert_eq!(view.shape(), [5, 3]);
///     prop_assert_eq!(view, copy);
/// });
/// ```
pub fn arrays<T: Element + std::fmt::Debug>(
    shape: &[usize],
) -> impl Strategy<Value = Laid<T>> + use<T> {
    let shape = shape.to_vec();
    // Shrinks to the row-major layout.
    (0..LAYOUTS.len(), proptest::num::u64::ANY).prop_map(move |(layout, seed)| {
        let mut random = Random::new(seed);
        let layout = LAYOUTS[layout];
        let stored = ArrayD::from_shape_simple_fn(stored_shape(&shape, layout), || {
            let entry = data::entry(&mut random, Kind::Signed, T::DTYPE, Special::No, 1);
            T::of_f64(entry)
        });
        Laid { stored, layout, shape: shape.clone() }
    })
}

/// Block-sparse ranges of `m` by `n` rows: some rows in no block, some blocks that meet nothing.
///
/// ```
/// use keops_core::conformance::strategies::ranges;
/// use proptest::prelude::*;
///
/// proptest!(|(r in ranges(20, 30))| {
///     prop_assert!(r.check(20, 30).is_ok());
/// });
/// ```
pub fn ranges(m: usize, n: usize) -> impl Strategy<Value = Ranges> {
    proptest::num::u64::ANY.prop_map(move |seed| data::ranges(&mut Random::new(seed), m, n))
}

/// A kernel matrix plus a multiple of the identity, `b ↦ K b + ridge b` with
/// `K_kl = kernel(x_k, x_l)`: symmetric, with eigenvalues from `ridge` up.
///
/// ```
/// use keops_core::conformance::strategies::spd_operators;
/// use proptest::prelude::*;
/// proptest!(|(op in spd_operators(10, 3))| {
///     prop_assert!((1..=10).contains(&op.points.nrows()));
///     prop_assert_eq!(op.points.ncols(), 3);
///     prop_assert!(op.ridge >= 0.01);
/// });
/// ```
#[derive(Clone, Debug)]
pub struct SpdOperator {
    /// `K b` as a formula of `x`, `y` (the points, twice), `b` and the scale `g`, for a sum over j.
    pub formula: &'static str,
    /// What the variables are: `x`, `y`, `b`, `g`.
    pub aliases: [String; 4],
    /// The points, `(rows, dim)`.
    pub points: Array2<f64>,
    /// The parameter `g`.
    pub scale: Array1<f64>,
    /// The multiple of the identity, at least 0.01.
    pub ridge: f64,
}

/// Positive definite kernels of a distance (Bochner; Schoenberg for the last two).
const KERNELS: [&str; 4] = [
    "Exp(-g * SqDist(x, y)) * b",
    "Exp(-g * Norm2(x - y)) * b",
    "b / (1 + g * SqDist(x, y))",
    "Rsqrt(1 + g * SqDist(x, y)) * b",
];

/// Symmetric positive definite operators on 1 to `most` points in dimension `dim`.
///
/// ```
/// use keops_core::conformance::strategies::spd_operators;
/// use keops_core::genred::Genred;
/// use keops_core::{reduce::SUM, spec::Axis};
/// use ndarray::Array2;
/// use proptest::prelude::*;
/// use proptest::test_runner::TestRunner;
///
/// // <b, (K + ridge) b> is at least ridge |b|².
/// TestRunner::deterministic()
///     .run(&spd_operators(20, 3), |op| {
///         let k: Genred = Genred::new(op.formula, &op.aliases, &SUM, Axis::J).unwrap();
///         let b = Array2::from_shape_fn((op.points.nrows(), 1), |(i, _)| (i as f64).sin());
///         let kb = k.call((&op.points, &op.points, &b, &op.scale)).unwrap();
///         let energy: f64 = kb.iter().zip(&b).map(|(k, b)| b * (k + op.ridge * b)).sum();
///         let norm: f64 = b.iter().map(|b| b * b).sum();
///         prop_assert!(energy >= op.ridge * norm * (1.0 - 1e-12));
///         Ok(())
///     })
///     .unwrap();
/// ```
pub fn spd_operators(most: usize, dim: usize) -> impl Strategy<Value = SpdOperator> {
    let points = vec(vec(-1.0..1.0f64, dim), 1..=most.max(1));
    (0..KERNELS.len(), points, 0.1..4.0f64, 0.01..1.0f64).prop_map(
        move |(kernel, points, scale, ridge)| SpdOperator {
            formula: KERNELS[kernel],
            aliases: [
                format!("x = Vi({dim})"),
                format!("y = Vj({dim})"),
                "b = Vj(1)".into(),
                "g = Pm(1)".into(),
            ],
            points: Array2::from_shape_fn((points.len(), dim), |(k, c)| points[k][c]),
            scale: Array1::from_elem(1, scale),
            ridge,
        },
    )
}
