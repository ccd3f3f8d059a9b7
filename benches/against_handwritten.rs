//! Generated code against kernels written by hand (`benches/handwritten/`): interleaved runs, so
//! that both see the same machine, medians and their ratio.
//!
//! `cargo bench --bench against_handwritten -- [filter] [--sizes 10000,30000] [--threads 1,2]
//! [--pack]`; `--pack` times packing together with every run.

#[cfg(target_arch = "x86_64")]
mod handwritten;

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("the handwritten kernels are for x86-64");
}

#[cfg(target_arch = "x86_64")]
fn main() {
    against::main();
}

#[cfg(target_arch = "x86_64")]
mod against {
    use super::handwritten::simd::Real;
    use super::handwritten::{
        ArgKMinD3, ArgMinD3, DistanceForm, GaussianD3, GaussianGradientD3, GaussianWide, K, Level,
        LogSumExpD3, Selection,
    };
    use keops_core::autodiff;
    use keops_core::data::{ArgView, Element};
    use keops_core::graph::{Builder, Category, Ex, NodeId, Var};
    use keops_core::ops::EXP;
    use keops_core::reduce::{self, ReductionDef};
    use keops_core::spec::{Axis, CheckedArgs, Executable, ReduceOptions, ReduceSpec};
    use keops_cpu::Cpu;
    use ndarray::ArrayView;
    use std::hint::black_box;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// Rounds of one run each, after [`WARM_UP`] rounds.
    const ROUNDS: usize = 11;
    const WARM_UP: usize = 2;
    /// A measured run lasts at least this long; shorter ones are repeated.
    const RUN: Duration = Duration::from_millis(2);
    /// Dimension of the wide Gaussian.
    const WIDE: usize = 50;

    /// One kernel: the code written by hand and, once it is wired, ours.
    struct Row<'a> {
        name: String,
        hand: Box<dyn Fn() + Send + Sync + 'a>,
        ours: Option<Box<dyn Fn() + Send + Sync + 'a>>,
    }

    /// Inputs of one size and type.
    struct Data<T> {
        x: Vec<T>,
        y: Vec<T>,
        b: Vec<T>,
        wide_x: Vec<T>,
        wide_y: Vec<T>,
        gamma: T,
        wide_gamma: T,
    }

    impl<T: Real> Data<T> {
        /// `n` points in the unit cube, rows and columns; a kernel of width 0.2.
        fn new(n: usize) -> Self {
            let mut state = 0x9E37_79B9_7F4A_7C15_u64;
            let mut numbers = |len: usize| -> Vec<T> {
                let mut next = || {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    T::of((state >> 11) as f64 / (1u64 << 53) as f64)
                };
                (0..len).map(|_| next()).collect()
            };
            Self {
                x: numbers(3 * n),
                y: numbers(3 * n),
                b: numbers(n),
                wide_x: numbers(WIDE * n),
                wide_y: numbers(WIDE * n),
                gamma: T::of(12.5),
                wide_gamma: T::of(0.1),
            }
        }
    }

    /// A run of code written by hand: `run` on what `pack` makes, which is made once or every
    /// time.
    fn handwritten<'a, P: Send + Sync + 'a, O>(
        pack_each: bool,
        pack: impl Fn() -> Result<P, super::handwritten::Error> + Send + Sync + 'a,
        run: impl Fn(&P) -> Vec<O> + Send + Sync + 'a,
    ) -> Box<dyn Fn() + Send + Sync + 'a> {
        let pack = move || pack().expect("the benchmark's arguments are consistent");
        if pack_each {
            Box::new(move || drop(black_box(run(&pack()))))
        } else {
            let packed = pack();
            Box::new(move || drop(black_box(run(&packed))))
        }
    }

    /// Squared distance and Gaussian of it: variables x (rows), y (columns), g, b.
    fn distance(b: &Builder, dim: usize) -> [Ex<'_>; 4] {
        let x = b.var(Var { index: 0, dim, category: Category::I });
        let d = x - b.var(Var { index: 1, dim, category: Category::J });
        let g = b.var(Var { index: 2, dim: 1, category: Category::Param });
        let weight = b.var(Var { index: 3, dim: 1, category: Category::J });
        [x, d.dot(d), -(g * d.dot(d)), weight]
    }
    fn gaussian(b: &Builder, dim: usize) -> NodeId {
        let [_, _, f, weight] = distance(b, dim);
        (f.un(&EXP) * weight).id
    }
    fn gradient(b: &Builder, dim: usize) -> NodeId {
        let [x, _, f, weight] = distance(b, dim);
        let value = f.un(&EXP) * weight;
        autodiff::vjp(value, b.lit(1.0), &[x])[0].map_or(value.id, |g| g.id)
    }
    fn exponent(b: &Builder, dim: usize) -> NodeId {
        distance(b, dim)[2].id
    }
    fn squared(b: &Builder, dim: usize) -> NodeId {
        distance(b, dim)[1].id
    }

    /// A run of generated code on arrays `x, y, g, b`, packing included.
    fn generated<'a, T: Element>(
        level: Level,
        dim: usize,
        formula: fn(&Builder, usize) -> NodeId,
        reduction: &'static ReductionDef,
        arrays: [&'a [T]; 4],
    ) -> Option<Box<dyn Fn() + Send + Sync + 'a>> {
        let b = Builder::default();
        let root = formula(&b, dim);
        let graph = b.into_graph();
        let vars = graph.variables(&[root]);
        let spec = ReduceSpec {
            formula: root,
            weight: None,
            reduction,
            k: K,
            axis: Axis::J,
            names: vars.iter().map(|v| format!("v{}", v.index)).collect(),
            vars,
            dtype: T::DTYPE,
            options: ReduceOptions::default(),
            graph: Arc::new(graph),
        };
        let level = match level {
            Level::Avx512 => keops_cpu::Level::Avx512,
            Level::Avx2 => keops_cpu::Level::Avx2,
        };
        let exe = Cpu::with_level(level).ok()?.compile_executable(&spec).ok()?;
        if std::env::var_os("KEOPS_LISTING").is_some() {
            println!("{}", exe.source().unwrap_or_default());
        }
        Some(Box::new(move || {
            let views: Vec<ArgView<'_>> = spec
                .vars
                .iter()
                .map(|v| {
                    let a = arrays[v.index as usize];
                    let shape: &[usize] = match v.category {
                        Category::Param => &[1],
                        _ => &[a.len() / v.dim, v.dim],
                    };
                    T::erase(ArrayView::from_shape(shape, a).expect("whole rows"))
                })
                .collect();
            let args = CheckedArgs::new(&spec, views, None, None, None).expect("arguments fit");
            let mut out = args.allocate(&spec).expect("memory");
            exe.run(&args, &mut out).expect("it runs");
            black_box(out);
        }))
    }

    /// The kernels on numbers of one type.
    fn rows<'a, T: Real + Element>(
        ty: &str,
        level: Level,
        data: &'a Data<T>,
        pack_each: bool,
    ) -> Vec<Row<'a>> {
        let Data { x, y, b, wide_x, wide_y, gamma, wide_gamma } = data;
        let row = |name: &str, ours, hand| Row { name: format!("{name} {ty}"), hand, ours };
        let gamma_array = std::slice::from_ref(gamma);
        let narrow = [&x[..], &y[..], gamma_array, &b[..]];
        let wide = [&wide_x[..], &wide_y[..], std::slice::from_ref(wide_gamma), &b[..]];
        let mut rows = vec![row(
            "Gaussian D=3",
            generated(level, 3, gaussian, &reduce::SUM, narrow),
            handwritten(
                pack_each,
                move || GaussianD3::pack(level, x, y, b, *gamma),
                GaussianD3::run,
            ),
        )];
        rows.push(row(
            "Gaussian D=3, gradient in x",
            generated(level, 3, gradient, &reduce::SUM, narrow),
            handwritten(
                pack_each,
                move || GaussianGradientD3::pack(level, x, y, b, *gamma),
                GaussianGradientD3::run,
            ),
        ));
        rows.push(row(
            "log-sum-exp D=3",
            generated(level, 3, exponent, &reduce::LOG_SUM_EXP, narrow),
            handwritten(
                pack_each,
                move || LogSumExpD3::pack(level, x, y, *gamma),
                LogSumExpD3::run,
            ),
        ));
        for (name, form) in [
            ("differences", DistanceForm::Differences),
            ("inner products", DistanceForm::InnerProducts),
        ] {
            let pack =
                move || GaussianWide::pack(level, form, WIDE, (wide_x, wide_y, b), *wide_gamma);
            let name = format!("Gaussian D={WIDE}, {name}");
            let ours = generated(level, WIDE, gaussian, &reduce::SUM, wide);
            rows.push(row(&name, ours, handwritten(pack_each, pack, GaussianWide::run)));
        }
        rows.push(row(
            "argmin D=3",
            generated(level, 3, squared, &reduce::ARG_MIN, narrow),
            handwritten(pack_each, move || ArgMinD3::pack(level, x, y), ArgMinD3::run),
        ));
        for (name, selection) in
            [("insertion", Selection::Insertion), ("group minima", Selection::GroupMinima)]
        {
            let pack = move || ArgKMinD3::pack(level, selection, x, y);
            let name = format!("argKmin K={K} D=3, {name}");
            let ours = generated(level, 3, squared, &reduce::ARG_K_MIN, narrow);
            rows.push(row(&name, ours, handwritten(pack_each, pack, ArgKMinD3::run)));
        }
        rows
    }

    /// Seconds per call, over as many calls as fill [`RUN`].
    fn time(f: &(impl Fn() + ?Sized), calls: u32) -> f64 {
        let start = Instant::now();
        for _ in 0..calls {
            f();
        }
        start.elapsed().as_secs_f64() / f64::from(calls)
    }

    /// Calls that fill [`RUN`].
    fn calls(f: &(impl Fn() + ?Sized)) -> u32 {
        let once = time(f, 1).max(1e-9);
        (RUN.as_secs_f64() / once).ceil().clamp(1.0, 1e6) as u32
    }

    fn median(mut samples: Vec<f64>) -> f64 {
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 2]
    }

    /// Runs the two in turn and prints a line: medians per pair and hand/ours in percent.
    fn measure<H, O>(name: &str, pairs: f64, hand: &H, ours: Option<&O>)
    where
        H: Fn() + ?Sized,
        O: Fn() + ?Sized,
    {
        let (hand_calls, ours_calls) = (calls(hand), ours.map_or(0, calls));
        let (mut hand_times, mut ours_times) = (Vec::new(), Vec::new());
        for round in 0..WARM_UP + ROUNDS {
            let hand_time = time(hand, hand_calls);
            let ours_time = ours.map(|ours| time(ours, ours_calls));
            if round >= WARM_UP {
                hand_times.push(hand_time);
                ours_times.extend(ours_time);
            }
        }
        let hand = median(hand_times);
        let hand_ns = hand * 1e9 / pairs;
        if ours.is_some() {
            let ours = median(ours_times);
            let (ours_ns, ratio) = (ours * 1e9 / pairs, 100.0 * hand / ours);
            println!("| {name} | {hand_ns:.4} | {ours_ns:.4} | {ratio:.0} % |");
        } else {
            println!("| {name} | {hand_ns:.4} | not wired | |");
        }
    }

    /// The processor's name.
    fn machine() -> String {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        info.lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.trim().to_owned())
    }

    /// Command-line arguments.
    struct Options {
        filter: String,
        sizes: Vec<usize>,
        threads: Vec<usize>,
        pack_each: bool,
    }

    impl Options {
        fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let mut options = Self {
                filter: String::new(),
                sizes: vec![10_000],
                threads: if cores > 1 { vec![1, cores] } else { vec![1] },
                pack_each: false,
            };
            while let Some(argument) = arguments.next() {
                let mut list = || -> Result<Vec<usize>, String> {
                    let values = arguments.next().unwrap_or_default();
                    values
                        .split(',')
                        .map(|value| value.parse().ok().filter(|&value| value > 0))
                        .collect::<Option<_>>()
                        .ok_or(format!("{argument}: expected positive integers, got '{values}'"))
                };
                match argument.as_str() {
                    "--sizes" => options.sizes = list()?,
                    "--threads" => options.threads = list()?,
                    "--pack" => options.pack_each = true,
                    // Passed by cargo.
                    "--bench" => {}
                    _ => options.filter = argument,
                }
            }
            Ok(options)
        }
    }

    /// Frequency of the processor's clock in GHz, from a chain of multiplications of 3 cycles each
    /// (`imul r64, r64` on every x86-64 processor with AVX2; Fog, *Instruction tables*).
    fn clock() -> f64 {
        let turns = 1_000_000u64;
        let once = || {
            let (mut x, mut left) = (black_box(3u64), turns);
            let start = Instant::now();
            // SAFETY: registers alone are read and written.
            unsafe {
                std::arch::asm!(
                    "2:",
                    "imul {x}, {x}",
                    "imul {x}, {x}",
                    "imul {x}, {x}",
                    "imul {x}, {x}",
                    "imul {x}, {x}",
                    "imul {x}, {x}",
                    "imul {x}, {x}",
                    "imul {x}, {x}",
                    "dec {left}",
                    "jnz 2b",
                    x = inout(reg) x,
                    left = inout(reg) left,
                    options(nomem, nostack),
                );
            }
            black_box((x, left));
            start.elapsed().as_secs_f64()
        };
        let seconds = (0..10).map(|_| once()).fold(f64::INFINITY, f64::min);
        turns as f64 * 8.0 * 3.0 / seconds * 1e-9
    }

    pub fn main() {
        let options = match Options::parse(std::env::args().skip(1)) {
            Ok(options) => options,
            Err(message) => {
                eprintln!("{message}");
                std::process::exit(2);
            }
        };
        for &n in &options.sizes {
            let (single, double) = (Data::<f32>::new(n), Data::<f64>::new(n));
            for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
                let mut rows = rows("f32", level, &single, options.pack_each);
                rows.extend(self::rows("f64", level, &double, options.pack_each));
                rows.retain(|row| row.name.contains(&options.filter));
                for &threads in &options.threads {
                    let pool = match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
                        Ok(pool) => pool,
                        Err(error) => {
                            eprintln!("{threads} threads: {error}");
                            std::process::exit(1);
                        }
                    };
                    println!(
                        "\n{}, {:.2} GHz, {level:?}, M = N = {n}, {threads} thread{}{}",
                        machine(),
                        clock(),
                        if threads == 1 { "" } else { "s" },
                        if options.pack_each { ", packing included" } else { "" },
                    );
                    println!("| kernel | by hand, ns/pair | ours, ns/pair | by hand / ours |");
                    println!("|---|---|---|---|");
                    pool.install(|| {
                        let pairs = n as f64 * n as f64;
                        for row in &rows {
                            measure(&row.name, pairs, &*row.hand, row.ours.as_deref());
                        }
                    });
                }
            }
        }
    }
}
