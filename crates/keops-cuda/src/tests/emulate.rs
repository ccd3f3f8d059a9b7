//! The generated kernels, compiled by the system's C++ compiler and run on the CPU.

use super::witness::{self, Witness};
use crate::codegen::{Code, Tuning, generate};
use crate::layout::Tables;
use keops_core::conformance::Random;
use keops_core::conformance::{Config, check_backend};
use keops_core::data::{ArgView, Buffer, DType, Element};
use keops_core::error::{CompileError, RunError};
use keops_core::graph::Category;
use keops_core::interp::Interpreter;
use keops_core::ops;
use keops_core::spec::{Backend, CheckedArgs, Device, Executable, ReduceSpec, Unavailable};
use keops_core::vecmath::Precision;
use keops_core::with_view;
use libloading::Library;
use ndarray::{ArrayD, IxDyn};
use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const HOST: &str = include_str!("host.hpp");
type Run = unsafe extern "C" fn(*const *mut c_void, *const i32) -> i32;

/// Kernels in one translation unit; equal code is there once.
#[derive(Default)]
struct Unit {
    text: String,
    known: HashMap<String, usize>,
}

impl Unit {
    /// Adds code; its number.
    fn add(&mut self, code: &Code, arguments: usize) -> usize {
        let body = format!("{}{}", code.types, code.body()).replace("extern \"C\" ", "");
        if let Some(&k) = self.known.get(&body) {
            return k;
        }
        let k = self.known.len();
        let args: String = (0..arguments).map(|a| format!("(const S*)b[{}], ", 9 + a)).collect();
        let p = &code.program;
        let mut calls = String::new();
        let mut call = |there: bool, blocks: &str, call: String| {
            if there {
                writeln!(calls, "  if (!launch({blocks}, [&] {{ {call}; }})) return 0;").unwrap();
            }
        };
        let row = "(const T*)b[0], (T*)b";
        call(
            p.param.len > 0,
            "n[0]",
            format!("keops_param({args}(T*)b[0], (const long long*)b[8])"),
        );
        call(
            p.kept.len > 0,
            "(n[1] + 127) / 128 * n[0]",
            format!("keops_kept({args}{row}[1], (const long long*)b[8], n[1])"),
        );
        call(
            p.reduced.len > 0,
            "(n[2] + 127) / 128 * n[0]",
            format!("keops_reduced({args}{row}[2], (const long long*)b[8], n[2])"),
        );
        call(
            true,
            "n[0] * n[3]",
            "keops_reduce((const T*)b[0], (const T*)b[1], (const T*)b[2], (char*)b[3], (O*)b[4], \
             (long long*)b[5], (const int4*)b[6], (const int2*)b[7], n[3], n[1], n[2])"
                .into(),
        );
        write!(
            self.text,
            "#undef LOAD\nnamespace k{k} {{\n{body}}}\n\
             extern \"C\" int run_{k}(void** b, const int* n) {{\n  using namespace k{k};\n{calls}  return 1;\n}}\n"
        )
        .unwrap();
        self.known.insert(body, k);
        k
    }
    /// Compiles and loads; none if there is no compiler.
    fn build(&self, name: &str) -> Option<Library> {
        let dir = std::env::temp_dir().join(format!("keops-cuda-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("host.hpp"), HOST).unwrap();
        let (source, library) = (dir.join("kernels.cpp"), dir.join("kernels.so"));
        std::fs::write(&source, format!("#include \"host.hpp\"\n{}", self.text)).unwrap();
        let loaded = compile(&["-shared", "-o"], &[&library, &source]).then(|| {
            // SAFETY: the library was just made from code that has no initialisers of consequence.
            unsafe { Library::new(&library) }.unwrap()
        });
        std::fs::remove_dir_all(&dir).unwrap();
        loaded
    }
}

/// Runs g++; false if there is none.
fn compile(options: &[&str], files: &[&Path]) -> bool {
    // No contraction: the same arithmetic as on the device.
    let fixed = ["-std=c++17", "-O0", "-w", "-fPIC", "-ffp-contract=off"];
    match Command::new("g++").args(fixed).args(options).args(files).output() {
        Ok(o) => {
            assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
            true
        }
        Err(e) => {
            println!("skipped: g++ cannot be run ({e})");
            false
        }
    }
}

const GUARD: usize = 4;

/// Memory with guards around it, full of NaN.
struct Memory(Vec<u128>);

impl Memory {
    fn new(bytes: usize) -> Memory {
        Memory(vec![u128::MAX; bytes.div_ceil(16) + 2 * GUARD])
    }
    fn of<T: Copy>(values: &[T]) -> Memory {
        let bytes = size_of_val(values);
        let mut m = Memory::new(bytes);
        // SAFETY: numbers without padding, copied into a buffer of their size.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), m.start(), bytes) };
        m
    }
    fn start(&mut self) -> *mut u8 {
        self.0[GUARD..].as_mut_ptr().cast()
    }
    fn get<T: Copy>(&mut self, n: usize) -> Vec<T> {
        assert!(n * size_of::<T>() <= (self.0.len() - 2 * GUARD) * 16);
        // SAFETY: numbers of any bits, within the buffer.
        unsafe { std::slice::from_raw_parts(self.start().cast::<T>(), n) }.to_vec()
    }
    fn guarded(&self) -> bool {
        let n = self.0.len();
        self.0[..GUARD].iter().chain(&self.0[n - GUARD..]).all(|&v| v == u128::MAX)
    }
}

fn numbers(seed: u64, n: usize) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..n).map(|_| random.within(-1.0, 1.0)).collect()
}

enum Array {
    F16(ArrayD<half::f16>),
    BF16(ArrayD<half::bf16>),
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
}

impl Array {
    fn view(&self) -> ArgView<'_> {
        match self {
            Array::F16(a) => half::f16::erase(a.view()),
            Array::BF16(a) => half::bf16::erase(a.view()),
            Array::F32(a) => f32::erase(a.view()),
            Array::F64(a) => f64::erase(a.view()),
        }
    }
}

fn arguments(w: &Witness, spec: &ReduceSpec) -> Vec<Array> {
    let make = |v: &keops_core::graph::Var| {
        // The first argument of a batch is shared along its first axis.
        let mut shape = w.batch.clone();
        if let (Some(first), 0) = (shape.first_mut(), v.index) {
            *first = 1;
        }
        match v.category {
            Category::I => shape.push(w.rows[0]),
            Category::J => shape.push(w.rows[1]),
            Category::Param => {}
        }
        shape.push(v.dim);
        let data = numbers(v.index as u64 + 7, shape.iter().product());
        // The same numbers in f16, f32 and f64.
        let a = ArrayD::from_shape_vec(IxDyn(&shape), data)
            .unwrap()
            .mapv(|x| half::f16::from_f64(x * w.scale).to_f64());
        match spec.dtype {
            DType::F16 => Array::F16(a.mapv(half::f16::from_f64)),
            DType::BF16 => Array::BF16(a.mapv(half::bf16::from_f64)),
            DType::F32 => Array::F32(a.mapv(|x| x as f32)),
            DType::F64 => Array::F64(a),
        }
    };
    spec.vars.iter().map(make).collect()
}

/// Runs generated code as the device would.
fn run(
    library: &Library,
    k: usize,
    code: &Code,
    spec: &ReduceSpec,
    args: &CheckedArgs<'_>,
) -> Vec<Buffer> {
    let tables = Tables::new(spec, &code.plan, args).unwrap();
    let (p, plan) = (&code.program, &code.plan);
    let mut out = args.allocate(spec).unwrap();
    let size = if p.precision == Precision::F64 { 8 } else { 4 };
    let (rows, columns, batches) = (args.rows(), args.columns(), args.batches());
    let blocks = tables.tiles.len() * batches;
    let entries = |index: bool| {
        spec.outputs()
            .iter()
            .filter(|o| o.index == index)
            .map(|o| batches * rows * o.dim)
            .sum::<usize>()
    };
    let output = if spec.dtype.compute() == DType::F64 { 8 } else { 4 };
    let mut memory = vec![
        Memory::new(batches * p.param.len * size),
        Memory::new(batches * rows * p.kept.len * size),
        Memory::new(batches * columns * plan.stride * size),
        Memory::new(blocks * plan.tile_rows() * plan.workspace),
        Memory::new(entries(false) * output),
        Memory::new(entries(true) * 8),
        Memory::of(&tables.tiles),
        Memory::of(&tables.ranges),
        Memory::of(&tables.offsets),
    ];
    memory.extend(
        args.args()
            .iter()
            .map(|a| with_view!(&*a.host().unwrap(), v => Memory::of(&v.iter().copied().collect::<Vec<_>>()))),
    );
    let pointers: Vec<*mut c_void> = memory.iter_mut().map(|m| m.start().cast()).collect();
    let numbers = [batches as i32, rows as i32, columns as i32, tables.tiles.len() as i32];
    // SAFETY: the function was generated with this signature; the buffers have the sizes that the
    // driver's side allocates.
    let well = unsafe {
        let f: libloading::Symbol<'_, Run> = library.get(format!("run_{k}\0").as_bytes()).unwrap();
        f(pointers.as_ptr(), numbers.as_ptr())
    };
    assert_eq!(well, 1, "threads of a block wait for others that have ended");
    assert!(memory.iter().all(Memory::guarded), "a kernel wrote outside of its buffers");
    for (buffer, o) in out.iter_mut().zip(spec.outputs()) {
        let n = batches * rows * o.dim;
        match buffer {
            Buffer::F32(a) => a.as_slice_mut().unwrap().copy_from_slice(&memory[4].get::<f32>(n)),
            Buffer::F64(a) => a.as_slice_mut().unwrap().copy_from_slice(&memory[4].get::<f64>(n)),
            Buffer::I64(a) => a.as_slice_mut().unwrap().copy_from_slice(&memory[5].get::<i64>(n)),
            _ => unreachable!("results are of the compute type"),
        }
    }
    out
}

/// The first difference, in words.
fn difference(w: &Witness, spec: &ReduceSpec, got: &[Buffer], want: &[Buffer]) -> Option<String> {
    let eps = if spec.dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    for (q, (g, wanted)) in got.iter().zip(want).enumerate() {
        assert_eq!(g.shape(), wanted.shape());
        let (g, wanted) = (g.to_f64(), wanted.to_f64());
        let size = wanted.iter().filter(|v| v.is_finite()).fold(1e-30f64, |m, v| m.max(v.abs()));
        for (i, (a, b)) in g.iter().zip(wanted.iter()).enumerate() {
            let good = if b.is_finite() {
                (a - b).abs() <= w.tolerance * eps * size
            } else {
                a == b || a.is_nan() && b.is_nan()
            };
            if !good {
                return Some(format!("output {q}, entry {i}: {a} instead of {b} (largest {size})"));
            }
        }
    }
    None
}

/// Compares all with the interpreter.
fn agree(name: &str, cases: Vec<(Witness, Tuning)>) {
    let mut unit = Unit::default();
    let mut all = vec![];
    for (w, tuning) in cases {
        let options = w.spec.options.accumulate.is_some();
        let double = (w.spec.dtype == DType::F32 && !options).then_some(DType::F64);
        for dtype in std::iter::once(w.spec.dtype).chain(double) {
            let spec = ReduceSpec { dtype, ..w.spec.clone() };
            spec.check().unwrap();
            let code = generate(&spec, tuning).unwrap();
            let k = unit.add(&code, spec.vars.len());
            all.push((w.clone(), tuning, spec, code, k));
        }
    }
    let Some(library) = unit.build(name) else { return };
    let mut failures = vec![];
    for (w, tuning, spec, code, k) in &all {
        let arrays = arguments(w, spec);
        let views = arrays.iter().map(Array::view).collect();
        let args =
            CheckedArgs::new(spec, views, w.ranges.as_ref(), Some(w.rows[0]), Some(w.rows[1]))
                .unwrap();
        let mut want = args.allocate(spec).unwrap();
        Interpreter::new().compile(spec).unwrap().run(&args, &mut want).unwrap();
        let got = run(&library, *k, code, spec, &args);
        if let Some(d) = difference(w, spec, &got, &want) {
            failures.push(format!("{} {:?} {tuning:?}: {d}", w.name, spec.dtype));
        }
    }
    println!("{} cases, {} kernels", all.len(), unit.known.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn kernels_agree_with_the_interpreter() {
    agree("all", witness::all().into_iter().map(|w| (w, Tuning::default())).collect());
}

#[test]
fn every_tiling_gives_the_same() {
    let wanted = [
        "gaussian 3",
        "gaussian 50 gradient",
        "wide signal",
        "weighted, scale 30",
        "ArgKMin 10",
        "Min_ArgMin 1",
        "ArgKMin of long vectors",
        "ranges KMin_ArgKMin J",
        "Kahan None",
        "Kahan None log-sum-exp",
        "folds 30",
    ];
    let chosen: Vec<Witness> =
        witness::all().into_iter().filter(|w| wanted.contains(&w.name.as_str())).collect();
    assert_eq!(chosen.len(), wanted.len());
    let mut cases = vec![];
    for w in chosen {
        for (rows, columns, staged) in [(1, 1, false), (2, 3, true), (4, 2, false), (3, 8, true)] {
            let tuning = Tuning { rows: Some(rows), columns: Some(columns), staged: Some(staged) };
            cases.push((w.clone(), tuning));
        }
    }
    agree("tilings", cases);
}

#[test]
fn every_operation_is_tried() {
    let names: Vec<String> = witness::all().into_iter().map(|w| w.name).collect();
    for op in ops::ALL {
        assert!(names.contains(&format!("operation {}", op.name)), "{}", op.name);
    }
}

/// The emulation as a backend, one library for each reduction.
struct Emulator(AtomicUsize);

struct Emulated {
    loaded: Library,
    code: Code,
    spec: ReduceSpec,
}

impl Backend for Emulator {
    fn name(&self) -> &str {
        "cuda on cpu"
    }
    fn check(&self) -> Result<(), Unavailable> {
        Ok(())
    }
    fn target(&self) -> String {
        "cuda on cpu".into()
    }
    fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError> {
        let code = generate(spec, Tuning::default())?;
        let mut unit = Unit::default();
        unit.add(&code, spec.vars.len());
        let name = format!("random-{}", self.0.fetch_add(1, Ordering::Relaxed));
        match unit.build(&name) {
            Some(library) => Ok(Arc::new(Emulated { loaded: library, code, spec: spec.clone() })),
            None => unreachable!("there is a compiler"),
        }
    }
}

impl Executable for Emulated {
    fn run(&self, args: &CheckedArgs<'_>, out: &mut [Buffer]) -> Result<(), RunError> {
        let results = run(&self.loaded, 0, &self.code, &self.spec, args);
        out.iter_mut().zip(results).for_each(|(o, r)| *o = r);
        Ok(())
    }
    fn source(&self) -> Option<String> {
        Some(self.code.text())
    }
}

/// `KEOPS_EMULATED_CASES` asks for more of them.
#[test]
fn random_formulas_stay_within_their_bounds() {
    if Unit::default().build("probe").is_none() {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse().ok());
    let cases = number("KEOPS_EMULATED_CASES").unwrap_or(25);
    let seed = number("KEOPS_EMULATED_SEED").unwrap_or(1).into();
    let device = Device::new(Emulator(AtomicUsize::new(0)));
    let report = check_backend(
        &[("cuda on cpu", &device)],
        Config { cases, seed, shrink: 60, ..Config::default() },
    );
    println!("{report}");
    // Few cases may by chance have many entries that rounding decides.
    let d = &report.devices[0];
    assert!(report.broken.is_none() && d.failure.is_none() && d.unsupported.is_empty(), "{report}");
}
