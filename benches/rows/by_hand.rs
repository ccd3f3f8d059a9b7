//! The rows that `benches/handwritten` has a kernel for.

use super::{Problem, Real, Runs};
use crate::handwritten::{
    ArgKMinD3, ArgMinD3, DistanceForm, Error, GaussianD3, GaussianGradientD3, GaussianWide, K,
    Level, LogSumExpD3, Selection,
};
use std::hint::black_box;

/// Runs of the kernels by hand for a row, by the way they go about it; packing is left out.
pub fn runs<T: Real>(problem: &Problem<T>, level: Level) -> Runs<'_> {
    let (x, y) = (|| problem.values("x"), || problem.values("y"));
    let (b, g) = (|| problem.values("b"), || problem.values("g")[0]);
    let wide = |form| GaussianWide::pack(level, form, 50, (x(), y(), b()), g());
    let nearest = |selection| ArgKMinD3::pack(level, selection, x(), y());
    let name = "by hand";
    match &*problem.row().name {
        "gaussian" => {
            vec![(name, run(GaussianD3::pack(level, x(), y(), b(), g()), GaussianD3::run))]
        }
        "gradient" => {
            let kernel = GaussianGradientD3::pack(level, x(), y(), b(), g());
            vec![(name, run(kernel, GaussianGradientD3::run))]
        }
        "log-sum-exp" => {
            vec![(name, run(LogSumExpD3::pack(level, x(), y(), g()), LogSumExpD3::run))]
        }
        "argmin" => vec![(name, run(ArgMinD3::pack(level, x(), y()), ArgMinD3::run))],
        "nearest" if problem.row().k == K => vec![
            ("by hand, insertion", run(nearest(Selection::Insertion), ArgKMinD3::run)),
            ("by hand, group minima", run(nearest(Selection::GroupMinima), ArgKMinD3::run)),
        ],
        "gaussian-50" => vec![
            ("by hand, differences", run(wide(DistanceForm::Differences), GaussianWide::run)),
            ("by hand, inner products", run(wide(DistanceForm::InnerProducts), GaussianWide::run)),
        ],
        _ => vec![],
    }
}

fn run<'p, P: 'p, O: 'p>(packed: Result<P, Error>, run: fn(&P) -> Vec<O>) -> Box<dyn Fn() + 'p> {
    let packed = packed.expect("arguments fit");
    Box::new(move || drop(black_box(run(&packed))))
}
