//! CUDA C++ from programs.
//!
//! One translation unit has up to four kernels. Three prepare records, one thread a row, and
//! convert from the storage type; the fourth reduces:
//!
//! | kernel | threads | does |
//! |---|---|---|
//! | `keops_param` | a block a batch element | copies parameters, derives parameters |
//! | `keops_kept` | a thread a kept row | copies arguments to `[component][row]`, derives values |
//! | `keops_reduced` | a thread a reduced row | copies arguments to `[row][component]`, derives values |
//! | `keops_reduce` | a block a tile of kept rows | reduces over the tile's ranges |
//!
//! Which rows a block has and which ranges of reduced rows it meets is read from tables, so that
//! dense and block-sparse reductions run the same code.

mod plan;
mod reduce;
mod stream;
mod text;

pub use plan::Tuning;
pub(crate) use plan::{Plan, THREADS};

use keops_core::data::DType;
use keops_core::error::CompileError;
use keops_core::graph::EXACT_INDEX;
use keops_core::lower::{LowerOptions, lower};
use keops_core::program::{Affine, Field, Mode, Program, Record, Source, Space, Stream};
use keops_core::spec::{Accumulation, ReduceSpec};
use keops_core::vecmath::Precision;
use stream::{Scope, translate};
use text::{Text, index};

/// Code that needs the CUDA compiler; a host compiler needs other definitions of the same names.
pub(crate) const INTRINSICS: &str = include_str!("../cuda/intrinsics.cuh");
const PRELUDE: &str = include_str!("../cuda/prelude.cuh");

/// Arguments that a reduction may have: pointers to them are passed one by one.
const MAX_ARGUMENTS: usize = 256;
/// Bytes of local memory that a row section may take for its vector intermediates.
const MAX_BUFFER_BYTES: usize = 256 << 10;

/// Generated code, made by [`generate`].
///
/// ```
/// use keops_core::{data::DType, parse::parse_formula, reduce::SUM, spec::Axis};
/// use keops_cuda::{Tuning, codegen::generate};
/// let spec = parse_formula("x * y", None, &["x = Vi(1)", "y = Vj(1)"])?
///     .spec(&SUM, Axis::J, DType::F64);
/// let code = generate(&spec, Tuning::default())?;
/// assert_eq!((code.program.sums, code.program.kept.len), (1, 1));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Code {
    /// The program it was made from.
    pub program: Program,
    /// The choices that were made.
    pub(crate) plan: Plan,
    /// The code, without intrinsics and types.
    pub(crate) kernels: String,
    /// Type definitions.
    pub(crate) types: String,
}

impl Code {
    /// The whole translation unit, as NVRTC compiles it.
    ///
    /// ```
    /// use keops_core::{data::DType, parse::parse_formula, reduce::LOG_SUM_EXP, spec::Axis};
    /// use keops_cuda::{Tuning, codegen::generate};
    /// let spec = parse_formula("-SqDist(x, y)", None, &["x = Vi(3)", "y = Vj(3)"])?
    ///     .spec(&LOG_SUM_EXP, Axis::J, DType::F32);
    /// let text = generate(&spec, Tuning::default())?.text();
    /// assert!(text.contains("keops_kept(") && text.contains("keops_reduce("));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn text(&self) -> String {
        format!("{}{INTRINSICS}{PRELUDE}{}", self.types, self.kernels)
    }
    /// What follows the intrinsics.
    #[cfg(test)]
    pub fn body(&self) -> String {
        format!("{PRELUDE}{}", self.kernels)
    }
}

/// Generates the code of a reduction. It needs neither a GPU nor a compiler.
///
/// # Errors
/// [`CompileError`] if a limit is exceeded or the formula calls what exists on CPUs only.
///
/// ```
/// use keops_core::{data::DType, parse::parse_formula, reduce::SUM, spec::Axis};
/// use keops_cuda::{Tuning, codegen::generate};
/// let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"];
/// let spec = parse_formula("Exp(-SqDist(x, y)) * b", None, &aliases)?
///     .spec(&SUM, Axis::J, DType::F32);
/// let text = generate(&spec, Tuning::default())?.text();
/// assert!(text.contains("__global__"));
/// // Other choices are other code.
/// let tuning = Tuning { rows: Some(1), ..Tuning::default() };
/// assert_ne!(generate(&spec, tuning)?.text(), text);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub fn generate(spec: &ReduceSpec, tuning: Tuning) -> Result<Code, CompileError> {
    if spec.vars.len() > MAX_ARGUMENTS {
        return Err(CompileError::Limit {
            what: "the number of arguments".into(),
            limit: MAX_ARGUMENTS,
            got: spec.vars.len(),
        });
    }
    let options = LowerOptions::default();
    let mut program = lower(spec, options)?;
    let mut accumulation = spec.accumulation();
    if accumulation == Accumulation::Wide && program.mode != Mode::Sum {
        // Sums under a pivot are rescaled in the type of the sums: everything is f64.
        let double = ReduceSpec { dtype: DType::F64, ..spec.clone() };
        program = lower(&double, options)?;
        accumulation = double.accumulation();
    }
    if program.precision == Precision::F32 && program.longest_table() > EXACT_INDEX {
        return Err(CompileError::Limit {
            what: "the number of entries of a table beside f32 data".into(),
            limit: EXACT_INDEX,
            got: program.longest_table(),
        });
    }
    let plan = Plan::new(&program, accumulation, tuning);
    let g = Generator { spec, p: &program, plan: &plan };
    let mut kernels = Text::default();
    g.param(&mut kernels)?;
    g.rows(&mut kernels, Side::Kept)?;
    g.rows(&mut kernels, Side::Reduced)?;
    g.reduce(&mut kernels)?;
    let (kernels, types) = (kernels.finish(), g.types());
    Ok(Code { program, plan, kernels, types })
}

/// One of the two kinds of rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Kept,
    Reduced,
}

struct Generator<'g> {
    spec: &'g ReduceSpec,
    p: &'g Program,
    plan: &'g Plan,
}

impl Generator<'_> {
    fn bytes(&self) -> usize {
        if self.p.precision == Precision::F64 { 8 } else { 4 }
    }
    fn types(&self) -> String {
        let (compute, int, vector) = match self.p.precision {
            Precision::F32 => ("float", "int", "float4"),
            Precision::F64 => ("double", "long long", "double2"),
        };
        let (storage, load) = match self.spec.dtype {
            DType::F16 => ("unsigned short", "T(f16_to_f32(*p))"),
            DType::BF16 => ("unsigned short", "T(bf16_to_f32(*p))"),
            DType::F32 => ("float", "T(*p)"),
            DType::F64 => ("double", "T(*p)"),
        };
        let output = if self.spec.dtype.compute() == DType::F64 { "double" } else { "float" };
        format!(
            "typedef {compute} T;         // computes\n\
             typedef {int} I;           // as wide as T\n\
             typedef unsigned {int} U;\n\
             typedef {vector} V;        // 16 bytes\n\
             typedef {storage} S;         // arguments\n\
             typedef {output} O;         // results\n\
             #define LOAD(p) {load}\n",
            load = load.replace("*p", "*(p)")
        )
    }
    fn pointers(&self) -> String {
        (0..self.spec.vars.len()).map(|k| format!("const S* a{k}, ")).collect()
    }
    /// Pointers to the row of each argument that fields copy.
    fn row_pointers(&self, t: &mut Text, fields: &[&[Field]], row: Option<&str>) {
        let n = self.spec.vars.len();
        let mut done = vec![];
        for f in fields.iter().copied().flatten() {
            let Source::Argument(k) = f.source else { continue };
            if done.contains(&k) {
                continue;
            }
            done.push(k);
            let at = row.map_or(String::new(), |row| format!(" + (size_t){row} * {}", f.dim));
            t.line(format!("const S* const r{k} = a{k} + offsets[(size_t)batch * {n} + {k}]{at};"));
        }
    }
    fn row_stream(
        &self,
        t: &mut Text,
        s: &Stream,
        place: &dyn Fn(Space, &Affine, usize, usize) -> String,
    ) -> Result<(), CompileError> {
        if s.buffer * self.bytes() > MAX_BUFFER_BYTES {
            return Err(CompileError::Limit {
                what: "the length of vector intermediates of a row".into(),
                limit: MAX_BUFFER_BYTES / self.bytes(),
                got: s.buffer,
            });
        }
        if s.buffer > 0 {
            t.line(format!("T buffer[{}];", s.buffer));
        }
        let scope = Scope {
            stream: s,
            precision: self.p.precision,
            rows: 0..1,
            tile_rows: 1,
            columns: 1,
            pairs: false,
            cheap_exp: false,
            factors: false,
            place,
        };
        translate(t, &scope, &mut |_, _| unreachable!("rows emit nothing"))
    }
    fn param(&self, t: &mut Text) -> Result<(), CompileError> {
        let record = &self.p.param;
        if record.len == 0 {
            return Ok(());
        }
        t.line(format!("extern \"C\" __global__ void __launch_bounds__({THREADS})"));
        t.open(format!("keops_param({}T* param, const long long* offsets)", self.pointers()));
        t.line("const int batch = blockIdx.x;");
        t.line(format!("param += (size_t)batch * {};", record.len));
        self.row_pointers(t, &[&record.fields], None);
        for f in &record.fields {
            let Source::Argument(k) = f.source else { continue };
            t.line(format!(
                "for (int c = threadIdx.x; c < {}; c += {THREADS}) param[{} + c] = LOAD(r{k} + c);",
                f.dim, f.offset
            ));
        }
        if !self.p.once.insts.is_empty() {
            t.line("__syncthreads();");
            t.line("if (threadIdx.x > 0) return;");
            self.row_stream(t, &self.p.once, &|space, at, _, _| match space {
                Space::Param => format!("param[{}]", index(at)),
                Space::Buffer => format!("buffer[{}]", index(at)),
                other => unreachable!("{other:?} of parameters"),
            })?;
        }
        t.close();
        Ok(())
    }
    fn rows(&self, t: &mut Text, side: Side) -> Result<(), CompileError> {
        let (name, record, stream): (&str, &Record, &Stream) = match side {
            Side::Kept => ("kept", &self.p.kept, &self.p.per_kept),
            Side::Reduced => ("reduced", &self.p.reduced, &self.p.per_reduced),
        };
        if record.len == 0 {
            return Ok(());
        }
        let pointers = self.pointers();
        t.line(format!("extern \"C\" __global__ void __launch_bounds__({THREADS})"));
        t.open(format!(
            "keops_{name}({pointers}const T* __restrict__ param, T* __restrict__ {name}, const long long* offsets, int rows)"
        ));
        t.line(format!("const int blocks = (rows + {}) / {THREADS};", THREADS - 1));
        t.line("const int batch = blockIdx.x / blocks;");
        t.line(format!("const int row = (blockIdx.x - batch * blocks) * {THREADS} + threadIdx.x;"));
        t.line("if (row >= rows) return;");
        t.line(format!("param += (size_t)batch * {};", self.p.param.len));
        let stride = if side == Side::Kept { record.len } else { self.plan.stride };
        t.line(format!("{name} += (size_t)batch * rows * {stride};"));
        self.row_pointers(t, &[&record.fields, &record.input_fields], Some("row"));
        let to = |i: &str| match side {
            Side::Kept => format!("kept[(size_t)({i}) * rows + row]"),
            Side::Reduced => format!("reduced[(size_t)row * {stride} + {i}]"),
        };
        for f in &record.fields {
            match f.source {
                Source::Argument(k) => {
                    let at = to(&format!("{} + c", f.offset));
                    t.line(format!("for (int c = 0; c < {}; c++) {at} = LOAD(r{k} + c);", f.dim));
                }
                Source::RowNumber => t.line(format!("{} = T(row);", to(&f.offset.to_string()))),
            }
        }
        for c in record.len..stride {
            // Padding is copied to shared memory: it must be defined.
            t.line(format!("{} = T(0);", to(&c.to_string())));
        }
        self.row_stream(t, stream, &|space, at, _, _| match space {
            Space::Param => format!("param[{}]", index(at)),
            Space::Buffer => format!("buffer[{}]", index(at)),
            Space::Kept | Space::Reduced => to(&index(at)),
            Space::KeptInput | Space::ReducedInput => {
                let inside =
                    |f: &&Field| (f.offset as i64..(f.offset + f.dim) as i64).contains(&at.offset);
                match record.input_fields.iter().find(inside) {
                    Some(Field { source: Source::Argument(k), offset, .. }) => {
                        format!("LOAD(r{k} + {})", index(&at.scaled(1, -(*offset as i64))))
                    }
                    Some(Field { source: Source::RowNumber, .. }) => "T(row)".into(),
                    None => unreachable!("a row section reads fields of its record"),
                }
            }
            other => unreachable!("{other:?} in a row section"),
        })?;
        t.close();
        Ok(())
    }
}
