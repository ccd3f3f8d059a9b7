//! Memory that cannot be had is an error that says how much was needed, wherever the amount grows
//! with the data. An allocator refuses one request of a mebibyte or more after the other, until a
//! run is through without a refusal.

#[path = "../../../tests/support/at.rs"]
mod at;
mod common;
#[path = "../../../tests/support/refusing.rs"]
mod refusing;

use at::At;
use common::levels;
use keops_core::data::Element;
use keops_core::error::InputError;
use keops_core::genred::Genred;
use keops_core::interp::{Interpreter, Rounding};
use keops_core::lazy::{ComplexLazyTensor, LazyTensor};
use keops_core::ranges::{Pattern, Ranges, cluster_ranges, sort_clusters};
use keops_core::reduce::{ARG_K_MIN, K_MIN, K_MIN_ARG_K_MIN, LOG_SUM_EXP, MIN, MIN_ARG_MIN, SUM};
use keops_core::spec::{Axis, Device, ReduceOptions};
use keops_cpu::Cpu;
use ndarray::{Array2, Array3, ShapeBuilder};
use num_complex::Complex;
use refusing::refuse_each;
use std::cell::RefCell;
use std::sync::Arc;

fn column<T: Element>(n: usize) -> Array2<T> {
    Array2::from_shape_fn((n, 1), |(k, _)| T::of_f64((k * 37 % 101) as f64 / 101.0))
}

/// All places: every level of the CPU, and both roundings of the interpreter.
fn places() -> Vec<(String, At, usize)> {
    let cpu = levels().into_iter().map(|l| {
        let cpu = Cpu::with_level(l).expect("available");
        (l.name().to_string(), At(Device::new(cpu)), 1_500_000)
    });
    let interpreters = [Rounding::Double, Rounding::Compute].into_iter().map(|r| {
        let device = Device::new(Interpreter::with_rounding(r));
        (format!("interpreter {r:?}"), At(device), 280_000)
    });
    cpu.chain(interpreters).collect()
}

const GAUSSIAN: (&str, [&str; 3]) =
    ("Exp(-SqDist(x, y)) * b", ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"]);

fn gaussian(at: &At) -> Genred<At> {
    Genred::<At>::new(GAUSSIAN.0, GAUSSIAN.1, &SUM, Axis::J).expect("a formula").at(at.clone())
}

// One test: the allocator is one for all threads of the process.
#[test]
fn refused_memory_is_an_error() {
    for (name, at, many) in places() {
        let name = |what: &str| format!("{name}, {what}");
        let (long, short) = (column::<f32>(many), column::<f32>(2));
        let sum = gaussian(&at);
        refuse_each(&name("many rows"), 1, || sum.call((&long, &short, &short)));
        // Columns are packed whole where there are many rows, and piece by piece for a few.
        let (rows, columns) =
            (column::<f32>(if many < 1_000_000 { 2 } else { 40 }), column(280_000));
        refuse_each(&name("many columns"), 1, || sum.call((&rows, &columns, &columns)));
        // Cotangents and intermediate values are as long.
        let gradient = sum.vjp("y").expect("differentiable");
        refuse_each(&name("gradient"), 2, || gradient.call((&short, &long, &long, &short)));
        let hessian = sum.vjp("x").and_then(|g| g.jvp("x")).expect("differentiable");
        refuse_each(&name("second derivative"), 1, || {
            hessian.call((&long, &short, &short, &long, &long))
        });
        // Half precision is widened on the way in and rounded on the way out.
        let (long16, short16) = (column::<half::f16>(many), column::<half::f16>(2));
        refuse_each(&name("f16"), 2, || sum.call((&long16, &short16, &short16)));
        refuse_each(&name("f16 gradient"), 2, || {
            gradient.call((&short16, &long16, &long16, &short16))
        });
        // Selections, several winners, and their gradients with gathered and scattered rows.
        let nearest = |reduction, k: usize| {
            let g = Genred::<At>::new("SqDist(x, y)", &GAUSSIAN.1[..2], (reduction, k), Axis::J);
            g.expect("a formula").at(at.clone())
        };
        let least = nearest(&MIN_ARG_MIN, 1);
        refuse_each(&name("least values"), 2, || least.call((&long, &short)));
        let gradient = nearest(&MIN, 1).vjp("y").expect("differentiable");
        let few = column::<f32>(many / 2);
        refuse_each(&name("gradient of the least"), 1, || {
            gradient.call((&few, &few.slice(ndarray::s![..2, ..]), &few))
        });
        let several = nearest(&K_MIN_ARG_K_MIN, 3000);
        let (x, y) = (column::<f64>(100), column::<f64>(5000));
        refuse_each(&name("several winners"), 2, || several.call((&x, &y)));
        let indices = nearest(&ARG_K_MIN, 200);
        let x = column::<f64>(1000);
        refuse_each(&name("indices of winners"), 1, || indices.call_indices((&x, &y)));
        // Sums in f64 of f32 data of many components.
        let wide = Genred::<At>::new("x * y", ["x = Vi(40)", "y = Vj(40)"], &SUM, Axis::J);
        let wide = wide.expect("a formula").at(at.clone()).options(ReduceOptions {
            accumulate: Some(keops_core::data::DType::F64),
            ..ReduceOptions::default()
        });
        let x = Array2::<f32>::from_elem((many / 40, 40), 0.5);
        refuse_each(&name("wide sums"), 1, || wide.call((&x, &x.slice(ndarray::s![..2, ..]))));
        // Log-sum-exp over long columns in column-major order.
        let lse = Genred::<At>::new("x | y", ["x = Vi(3)", "y = Vj(3)"], &LOG_SUM_EXP, Axis::J);
        let lse = lse.expect("a formula").at(at.clone());
        let y = Array2::<f64>::from_elem((60_000, 3).f(), 0.5);
        let x = y.slice(ndarray::s![..rows.nrows(), ..]);
        refuse_each(&name("log-sum-exp"), 1, || lse.call((&x, &y)));
        ranges(&name("ranges"), &at);
        outputs(&name("output"), &at, many);
        batches(&name("batches"), &at);
        lazy(&name("LazyTensor"), &at, many);
    }
    builders();
}

/// Many blocks of two rows, each of which meets the same columns.
fn blocks(n: usize) -> Pattern {
    let blocks: Vec<[usize; 2]> = (0..n / 2).map(|k| [2 * k, 2 * k + 2]).collect();
    Pattern { slices: (1..=blocks.len()).collect(), reduced: blocks.clone(), blocks }
}

/// Many blocks: their order, their lists of columns, their tiles.
fn ranges(name: &str, at: &At) {
    let n = 150_000;
    let x = column::<f64>(n);
    // Each call has ranges of its own: lists of tiles stay with them.
    let fresh = || {
        let made = (0..24).map(|_| Arc::new(Ranges::from_pattern(blocks(n)).expect("consistent")));
        RefCell::new(made.collect::<Vec<_>>())
    };
    let sum = gaussian(at);
    let next = |all: &RefCell<Vec<Arc<Ranges>>>| all.borrow_mut().pop().expect("two dozen suffice");
    let all = fresh();
    refuse_each(name, 3, || sum.clone().ranges(next(&all)).call((&x, &x, &x)));
    for variable in ["x", "y", "b"] {
        let gradient = sum.vjp(variable).expect("differentiable");
        let name = format!("{name}, gradient in {variable}");
        let all = fresh();
        refuse_each(&name, 3, || gradient.clone().ranges(next(&all)).call((&x, &x, &x, &x)));
    }
}

/// Every way to make ranges, and out of them.
fn builders() {
    let n = 150_000;
    let p = Ranges::from_pattern(blocks(n)).expect("consistent");
    let refuse = |name: &str, least: usize, f: &dyn Fn() -> Result<(), InputError>| {
        refuse_each(&format!("ranges, {name}"), least, || Ok(f()?));
    };
    let given = RefCell::new(vec![]);
    given.replace((0..60).map(|_| blocks(n)).collect());
    refuse("one pattern", 1, &|| {
        let pattern = given.borrow_mut().pop().expect("enough of them");
        Ranges::from_pattern(pattern).map(drop)
    });
    let (pairs, ends): (Vec<[i64; 2]>, Vec<i64>) =
        (0..n as i64 / 2).map(|k| ([2 * k, 2 * k + 2], k + 1)).unzip();
    let half = (&pairs[..], &ends[..], &pairs[..]);
    refuse("six arrays", 1, &|| Ranges::from_arrays(Some(half), Some(half)).map(drop));
    refuse("three arrays", 1, &|| Ranges::from_arrays(None, Some(half)).map(drop));
    // Many clusters, and many pairs of them.
    let clusters: Vec<[usize; 2]> = (0..700).map(|k| [2 * k, 2 * k + 2]).collect();
    let near = |k: usize, l: usize| (k + l).is_multiple_of(2);
    refuse("a rule", 1, &|| Ranges::where_clusters(&clusters, &clusters, near).map(drop));
    let mask = Array2::from_shape_fn((700, 700), |(k, l)| near(k, l));
    refuse("a mask", 1, &|| Ranges::from_matrix(&clusters, &clusters, mask.view()).map(drop));
    let labels: Vec<usize> = (0..n).collect();
    let ends: Vec<usize> = (1..=n).collect();
    refuse("ends", 1, &|| Ranges::from_clusters(&ends, &[1], &vec![true; n]).map(drop));
    let one = Array2::from_elem((n, 1), true);
    refuse("labels", 1, &|| Ranges::from_labels(&labels, &[0; 5], one.view()).map(drop));
    refuse("equal labels", 1, &|| Ranges::same_labels(&labels, &labels).map(drop));
    refuse("a band", 1, &|| Ranges::band(n, n, 2, 2).map(drop));
    refuse("clusters of ranges", 1, &|| p.clusters().map(drop));
    refuse("clusters of labels", 1, &|| cluster_ranges(&labels).map(drop));
    refuse("the order of labels", 1, &|| sort_clusters(&labels).map(drop));
    refuse("axes exchanged", 0, &|| {
        let _ = (p.swap_axes(), p.clone());
        Ok(())
    });
}

/// Results into memory of the caller's, which keeps its shape if there is room for it.
fn outputs(name: &str, at: &At, many: usize) {
    let (x, y) = (column::<f32>(many), column::<f32>(2));
    let sum = gaussian(at);
    let derivative = sum.jvp("x").expect("differentiable");
    let mut out = Array2::<f32>::zeros((many, 1));
    let mut run = |of: &Genred<At>, tangent: bool| {
        let made = match tangent {
            true => of.call_into((&x, &y, &y, &x), &mut out),
            false => of.call_into((&x, &y, &y), &mut out),
        };
        assert_eq!(out.dim(), (many, 1), "{name}: {made:?}");
        made
    };
    run(&sum, false).expect("memory");
    let run = RefCell::new(run);
    refuse_each(name, 0, || run.borrow_mut()(&sum, false));
    refuse_each(&format!("{name} of a derivative"), 0, || run.borrow_mut()(&derivative, true));
}

/// Many batch elements, and one that is large.
fn batches(name: &str, at: &At) {
    let sum = gaussian(at);
    let x = Array3::<f64>::from_elem((70_000, 2, 1), 0.25);
    refuse_each(name, 1, || sum.call((&x, &x, &x)));
    let one = Array2::<f64>::from_elem((2, 1), 0.25);
    let gradient = sum.vjp("x").expect("differentiable");
    refuse_each(&format!("{name}, broadcast"), 1, || gradient.call((&one, &x, &x, &x)));
}

fn lazy(name: &str, at: &At, many: usize) {
    let (x, y) = (column::<half::bf16>(many), column::<half::bf16>(2));
    let vi = |a: &Array2<half::bf16>| LazyTensor::<_, At>::vi(a).at(at.clone());
    let vj = |a: &Array2<half::bf16>| LazyTensor::<_, At>::vj(a).at(at.clone());
    let (x_i, y_j) = (vi(&x), vj(&y));
    refuse_each(name, 2, || (&x_i - &y_j).square().sum(Axis::J));
    refuse_each(&format!("{name}, K minima"), 1, || {
        (&x_i - &y_j).square().reduce((&K_MIN, 2), Axis::J)
    });
    // Borrowed arrays are copied: whole, and as a matrix to multiply with.
    refuse_each(&format!("{name} of a borrowed array"), 1, || {
        (vi(&x) - &y_j).square().sum(Axis::J)
    });
    refuse_each(&format!("{name}, product"), 1, || {
        (&x_i - &y_j).t().matmul(x.slice(ndarray::s![..;-1, ..]))
    });
    let z = column::<f32>(many).mapv(|re| Complex { re, im: 1.0 });
    let numbers = || ComplexLazyTensor::<f32, At>::vi(&z).at(at.clone());
    refuse_each(&format!("{name}, complex"), 3, || {
        (numbers() * Complex { re: 0.0, im: 1.0 }).sum(Axis::J)
    });
    let list = vec![0.5; 1 << 19];
    refuse_each(&format!("{name}, list"), 1, || {
        LazyTensor::<f64, At>::list(&list).at(at.clone()).check()
    });
}
