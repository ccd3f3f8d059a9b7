//! Memory that operators and solvers cannot have is an error, wherever the amount grows with the
//! data: see the test of that name of keops-cpu.

#[path = "../../../tests/support/at.rs"]
mod at;
#[path = "../../../tests/support/refusing.rs"]
mod refusing;

use at::At;
use keops_core::data::{DType, Element};
use keops_core::error::Error;
use keops_core::genred::Genred;
use keops_core::ranges::Ranges;
use keops_core::reduce::SUM;
use keops_core::spec::Axis;
use keops_linalg::{
    Diagonal, KernelOperator, KernelSolve, LinearOperator, OperatorError, PivotedCholesky, Rows,
    SolveError, SolveOptions, Solver,
};
use ndarray::{Array2, Array3};
use refusing::refuse_each;

/// Pairs of points at distance 1: iterations end soon.
fn points<T: Element>(n: usize) -> Array2<T> {
    Array2::from_shape_fn((n, 1), |(k, _)| T::of_f64((k % 2) as f64))
}
/// Ones and twos.
fn numbers<T: Element>(n: usize) -> Array2<T> {
    Array2::from_shape_fn((n, 1), |(k, _)| T::of_f64((1 + k % 2) as f64))
}

/// A Gaussian kernel of pairs of neighbouring rows.
fn pairs(rows: usize) -> Genred<At> {
    let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    let labels: Vec<usize> = (0..rows).map(|k| k / 2).collect();
    let ranges = Ranges::same_labels(&labels, &labels).expect("sorted");
    let sum = Genred::new("Exp(-SqDist(x, y)) * b", aliases, &SUM, Axis::J).expect("a formula");
    sum.ranges(ranges)
}

fn core<R>(made: Result<R, SolveError>) -> Result<R, Error> {
    made.map_err(|e| match e {
        SolveError::Core(e) => e,
        other => panic!("{other}"),
    })
}
fn bound<R>(made: Result<R, OperatorError>) -> Result<R, Error> {
    made.map_err(|e| match e {
        OperatorError::Core(e) => e,
        other => panic!("{other}"),
    })
}

fn solves<T: Element>(name: &str, x: &Array2<T>, b: &Array2<T>) {
    let solve = KernelSolve::from_sum(pairs(x.nrows()), "b").expect("linear");
    let options = SolveOptions { tolerance: 1e-3, ..SolveOptions::ridge(1.0) };
    refuse_each(&format!("{name}, solve"), 8, || core(solve.call((x, x, b), &options)));
    refuse_each(&format!("{name}, from a guess"), 8, || {
        core(solve.solver().options(options).first_guess(b).call((x, x, b)))
    });
    let a = solve.call((x, x, b), &options).expect("memory").value;
    refuse_each(&format!("{name}, gradient"), 8, || {
        core(solve.vjp((x, x, b), &a, b, &["x", "b"], &options))
    });
    let operator = || bound(KernelOperator::new(&pairs(x.nrows()), "b", (x, x)));
    let k = operator().expect("memory");
    refuse_each(&format!("{name}, product"), 2, || k.apply(b));
    refuse_each(&format!("{name}, diagonal"), 3, || k.diagonal());
    refuse_each(&format!("{name}, row"), 2, || k.rows_at(0, &[7]));
    refuse_each(&format!("{name}, preconditioner"), 5, || PivotedCholesky::new(&k, 2));
    let p = PivotedCholesky::new(&k, 2).expect("memory");
    refuse_each(&format!("{name}, preconditioned"), 8, || {
        core(k.solver().options(options).preconditioner(&p).solve(b))
    });
    let t = k.transpose().expect("linear");
    refuse_each(&format!("{name}, transposed"), 2, || t.apply(b));
}

/// Multiplies by a number.
struct Times(f64, [usize; 2]);
impl LinearOperator for Times {
    fn domain(&self) -> [usize; 2] {
        self.1
    }
    fn range(&self) -> [usize; 2] {
        self.1
    }
    fn precision(&self) -> DType {
        DType::F64
    }
    fn columns_independent(&self) -> bool {
        true
    }
    fn apply(&self, v: &Array3<f64>) -> Result<Array3<f64>, Error> {
        let all = keops_core::memory::mapped(&v.view().into_dyn(), |v| self.0 * v, "a product")?;
        Ok(all.into_shape_with_order(v.dim()).expect("the same shape"))
    }
}

// One test: the allocator is one for all threads of the process.
#[test]
fn refused_memory_is_an_error() {
    solves::<f64>("f64", &points(140_000), &numbers(140_000));
    solves::<f32>("f32", &points(270_000), &numbers(270_000));
    let (x, b) = (points::<half::f16>(600_000), numbers::<half::f16>(600_000));
    let sum = pairs(600_000);
    refuse_each("f16, operator", 1, || bound(KernelOperator::new(&sum, "b", (&x, &x))));
    let k = KernelOperator::new(&sum, "b", (&x, &x)).expect("memory");
    refuse_each("f16, product", 2, || k.apply(&b));
    // One kernel, many right-hand sides: a system each, summed up in the gradient.
    let sum: Genred<At> = Genred::new(
        "Exp(-SqDist(x, y)) * b",
        ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"],
        &SUM,
        Axis::J,
    )
    .expect("a formula");
    let solve = KernelSolve::from_sum(sum, "b").expect("linear");
    let (x, y) = (Array2::<f64>::zeros((1, 1)), Array2::<f64>::zeros((1, 1)));
    let b = Array3::<f64>::ones((150_000, 1, 1));
    let options = SolveOptions::ridge(1.0);
    refuse_each("many systems", 8, || core(solve.call((&x, &y, &b), &options)));
    let many = Array3::<f64>::zeros((150_000, 1, 1));
    let a = solve.call((&many, &y, &x), &options).expect("memory").value;
    refuse_each("one right-hand side for all", 8, || {
        core(solve.vjp((&many, &y, &x), &a, &b, &["b", "x"], &options))
    });
    // Symmetry is checked where an operator is not definite.
    let b = Array3::<f64>::ones((1, 150_000, 1));
    let twice = Times(2.0, [150_000, 1]);
    refuse_each("an operator of one's own", 6, || {
        core(Solver::of(&twice as &dyn LinearOperator).options(options).first_guess(&b).solve(&b))
    });
    let negative = Times(-3.0, [150_000, 1]);
    refuse_each("not definite", 8, || {
        match Solver::of(&negative as &dyn LinearOperator).options(options).solve(&b) {
            Err(SolveError::Indefinite { .. }) => Ok(()),
            other => core(other).map(|_| panic!("the operator is not definite")),
        }
    });
}
