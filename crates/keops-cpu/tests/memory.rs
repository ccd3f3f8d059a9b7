//! Memory beyond arguments and results is O(M + N): the most that a call holds at a time is a small
//! multiple of them, where the matrix of all pairs would be thousands of times as large.

use keops_core::genred::{AsArg, Genred};
use keops_core::reduce::{ARG_K_MIN, ARG_MIN, K_MIN, LOG_SUM_EXP, SUM};
use keops_core::spec::{Axis, Device};
use keops_cpu::{Cpu, Level};
use ndarray::{ArrayD, IxDyn, s};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes in use, and the most of them so far.
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// Counts. (Growth is an allocation, a copy and a release, as in the provided `realloc`.)
struct Counting;

// SAFETY: every request is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::SeqCst) + layout.size();
        MOST.fetch_max(now, Ordering::SeqCst);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Memory of workers and of what is packed at a time, which does not grow with the data.
const FIXED: usize = 12 << 20;

fn array(shape: &[usize]) -> ArrayD<f32> {
    let mut k = 0;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        k += 1;
        (k * 37 % 1001) as f32 / 1001.0
    })
}

/// Runs, and says how much memory that took at a time.
fn most_of<R>(run: impl FnOnce() -> R) -> (R, usize) {
    let before = NOW.load(Ordering::SeqCst);
    MOST.store(before, Ordering::SeqCst);
    let out = run();
    (out, MOST.load(Ordering::SeqCst) - before)
}

/// Runs, and compares the most memory of the run with that of arguments and results.
fn check(name: &str, f: &Genred, device: &Device, args: &[&ArrayD<f32>]) {
    let views: Vec<_> = args.iter().map(|a| a.as_arg()).collect();
    let f = f.clone().at(device.clone());
    let (out, most) = most_of(|| f.run(&views).unwrap_or_else(|e| panic!("{name}: {e}")));
    let results: usize = out.iter().map(|b| b.shape().iter().product::<usize>()).sum();
    let data = 4 * (args.iter().map(|a| a.len()).sum::<usize>() + 2 * results);
    assert!(most <= 3 * data + FIXED, "{name}: {most} bytes at a time for {data} bytes of data");
}

/// The longest vectors, of one row up to more than a tile has: a tile of rows is all that comes to the
/// data.
fn long_vectors(level: Level, device: &Device) {
    let d = 1 << 20;
    let f = |text: &str| -> Genred {
        let aliases = [format!("x = Vi({d})"), format!("y = Vj({d})")];
        Genred::new(text, aliases, &SUM, Axis::J).expect("a formula")
    };
    for text in ["x + y", "Exp(-SqDist(x, y))"] {
        for rows in [1, 2, 7] {
            let (x, y) = (array(&[rows, d]), array(&[2, d]));
            let (views, f) = ([x.as_arg(), y.as_arg()], f(text).at(device.clone()));
            let (out, most) = most_of(|| f.run(&views).unwrap_or_else(|e| panic!("{text}: {e}")));
            let data = 4 * (x.len() + y.len() + out[0].shape().iter().product::<usize>());
            let level = level.name();
            println!("{level}, {text}, {rows} rows: {most} bytes for {data}");
            assert!(most <= 4 * data + FIXED, "{level}, {text}, {rows} rows: {most} for {data}");
        }
    }
}

/// Tables of look-ups are packed once, in f64 where they are this long; gradients are added up in f64.
fn tables(level: Level, device: &Device) {
    let p = 30_000_000;
    let aliases = [format!("t = Pm({p})"), "a = Vi(1)".into(), "b = Vj(1)".into()];
    let f: Genred =
        Genred::new("Square(Gather(t, a * 16384 + b))", aliases, &SUM, Axis::J).expect("a formula");
    // Batch elements share the table; their gradients would be arrays of their own.
    let (t, a, b) = (array(&[p]), array(&[20, 100, 1]), array(&[100, 1]));
    let gradient = f.vjp("t").expect("a gradient");
    let value = [t.as_arg(), a.as_arg(), b.as_arg()];
    let of_one = [t.as_arg(), b.as_arg(), b.as_arg(), b.as_arg()];
    for (name, f, args) in
        [("table", &f, &value[..]), ("gradient in a table", &gradient, &of_one[..])]
    {
        let f = f.clone().at(device.clone());
        let (_, most) = most_of(|| f.run(args).unwrap_or_else(|e| panic!("{name}: {e}")));
        println!("{}, {name}: {most} bytes for {}", level.name(), 4 * p);
        assert!(most <= 7 * 4 * p + FIXED, "{}, {name}: {most} bytes", level.name());
    }
}

/// As many winners as there are candidates.
fn all_winners(level: Level, device: &Device) {
    let (x, y) = (array(&[6, 3]), array(&[50_000, 3]));
    let f: Genred =
        Genred::new("SqDist(x, y)", ["x = Vi(3)", "y = Vj(3)"], (&ARG_K_MIN, 50_000), Axis::J)
            .expect("a formula");
    check(&format!("{}, all winners", level.name()), &f, device, &[&x, &y]);
}

// One test: the allocator is one for all threads of the process.
#[test]
fn memory_is_linear_in_the_data() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
    let reduced = |def, k, formula| -> Genred {
        let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"];
        Genred::new(formula, aliases, (def, k), Axis::J).expect("a formula")
    };
    let sum = reduced(&SUM, 1, "Exp(-SqDist(x, y)) * b");
    let nearest = reduced(&ARG_K_MIN, 10, "SqDist(x, y) + b");
    let functions = [
        sum.vjp("x").and_then(|g| g.jvp("x")).expect("differentiable"),
        sum.vjp("y").expect("differentiable"),
        reduced(&LOG_SUM_EXP, 1, "b - SqDist(x, y)"),
        reduced(&ARG_MIN, 1, "SqDist(x, y) * b"),
        reduced(&K_MIN, 10, "SqDist(x, y) * b"),
        sum.clone(),
        nearest.clone(),
    ];
    // (The portable level packs as the others do.)
    for level in [Level::available()[0], Level::Portable] {
        let device = Device::new(Cpu::with_level(level).expect("available"));
        pool.install(|| long_vectors(level, &device));
        pool.install(|| tables(level, &device));
        pool.install(|| all_winners(level, &device));
        let check = |name: &str, f: &Genred, args: &[&ArrayD<f32>]| {
            let name = format!("{}, {name}", level.name());
            pool.install(|| check(&name, f, &device, args));
        };
        // The matrix of all pairs would take 1.6 GB; 100 MB on the slow level.
        let n = if level == Level::Portable { 5_000 } else { 20_000 };
        let (x, y, b, e) = (array(&[n, 3]), array(&[n, 3]), array(&[n, 1]), array(&[n, 1]));
        for f in &functions {
            let all = [&x, &y, &b, &e, &x];
            check("many rows and columns", f, &all[..f.arguments().count()]);
        }
        // Other layouts are packed as they are: a copy would take 60 MB, in each argument.
        let backwards = array(&[3, 5_000_000]);
        let (x, b) = (backwards.view().reversed_axes(), backwards.slice(s![..1, ..;-1]));
        let (y, b) = (x.slice(s![..2, ..]), b.reversed_axes());
        let arguments = ["x = Vj(3)", "y = Vi(3)", "b = Vj(1)"];
        let f: Genred = Genred::new("(x | y) * b", arguments, &SUM, Axis::J).expect("a formula");
        let f = f.at(device.clone());
        let views = [x.as_arg(), y.as_arg(), b.as_arg()];
        let most = pool.install(|| most_of(|| f.run(&views).expect("memory")).1);
        assert!(most < FIXED, "{}: {most} bytes for strided arguments", level.name());
        // Results in memory of the caller, of 64 MB.
        let (wide, row) = (array(&[40]), array(&[400_000, 1]));
        let f: Genred =
            Genred::new("a * x", ["a = Pm(40)", "x = Vi(1)"], &SUM, Axis::J).expect("a formula");
        let (f, mut out) = (f.at(device.clone()), ArrayD::<f32>::zeros(IxDyn(&[400_000, 40])));
        let into = || f.call_into((&wide, &row), &mut out).expect("memory");
        let ((), most) = pool.install(|| most_of(into));
        assert!(most < FIXED, "{}: {most} bytes for results in place", level.name());
        assert_eq!(out[[399_999, 39]], wide[[39]] * row[[399_999, 0]]);
        // Few rows and very many columns, and the reverse.
        let (few, many, weights) = (array(&[2, 3]), array(&[600_000, 3]), array(&[600_000, 1]));
        for f in [&sum, &nearest] {
            check("few rows", f, &[&few, &many, &weights]);
            check("few columns", f, &[&many, &few, &array(&[2, 1])]);
        }
        // Columns that all batch elements share: packed for each they would take 80 MB.
        let n = if level == Level::Portable { 2_000 } else { 50_000 };
        let batches = array(&[5_000_000 / n, 20, 3]);
        let (columns, weights) = (array(&[n, 3]), array(&[n, 1]));
        for f in [&sum, &nearest] {
            check("columns of all batch elements", f, &[&batches, &columns, &weights]);
        }
    }
}
