//! Just-in-time compiled map-reduce for CPUs: machine code in microseconds, with no compiler at
//! run time.
//!
//! [`Cpu`] is the backend. On x86-64 it writes AVX-512 or AVX2 machine code; elsewhere, and on
//! request, it interprets the same vector code.

mod exec_mem;
mod frame;
mod kernels;
mod pack;
mod pool;
mod print;
mod processor;
mod resident;
mod routine;
mod runner;
mod translate;
mod vcode;
mod verify;
mod vm;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod testing;

pub use routine::{Level, UnknownLevel};
pub use runner::CpuExecutable;

use keops_core::data::{Buffer, DType};
use keops_core::error::{CompileError, RunError};
use keops_core::graph::EXACT_INDEX;
use keops_core::lower::{LowerOptions, lower};
use keops_core::program::{Mode, Op, Program, SInst};
use keops_core::reduce::Family;
use keops_core::spec::{Accumulation, Backend, Executable, Held, ReduceSpec, Unavailable};
use keops_core::vecmath::{Precision, Scaling};
use keops_core::verify::{verify, verify_for};
use kernels::Machine;
use std::sync::Arc;

/// The CPU backend.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::{Axis, Device}};
/// use keops_cpu::Cpu;
/// use ndarray::array;
///
/// let cpu = Device::new(Cpu::new());
/// let g: Genred = Genred::new("(x | y) * b", &["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"], &SUM, Axis::J)?;
/// let x = array![[1.0_f32, 0.0], [0.0, 1.0], [1.0, 1.0]]; // (M, 2)
/// let (y, b) = (array![[2.0_f32, 3.0], [5.0, 7.0]], array![[1.0_f32], [10.0]]);
/// let out = g.at(cpu).call((&x, &y, &b))?; // (M, 1)
/// assert_eq!(out, array![[52.0], [73.0], [125.0]].into_dyn());
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    level: Level,
    /// Was no level asked for? Then the portable level is taken where memory for machine code is
    /// refused, and the plan is one for this processor.
    falls_back: bool,
}

impl Default for Cpu {
    fn default() -> Self {
        Cpu::new()
    }
}

impl Cpu {
    /// The best level that this processor has. Where the system refuses executable memory (as
    /// hardened systems do), formulas are interpreted as at [`Level::Portable`], which is several
    /// times slower: [`CpuExecutable::is_native`] tells.
    ///
    /// On processors with AVX-512 that work on its vectors in halves (Zen 4), tiles are others, and searches of one
    /// winner and sums over pairs of long vectors use AVX2: [`Cpu::with_level`] gives the same bits on every
    /// processor.
    ///
    /// A process forked from one that has computed does not have the threads of its parent's pools: there,
    /// large problems run on a pool that is made for them, or on the caller's if that was made
    /// after the fork.
    ///
    /// ```
    /// use keops_cpu::{Cpu, Level};
    /// assert_eq!(Cpu::new().level(), Level::available()[0]);
    /// ```
    pub fn new() -> Cpu {
        pool::note();
        Cpu { level: Level::available()[0], falls_back: true }
    }
    /// A given level, to compare levels on one machine; where executable memory is refused, compiling
    /// is an error.
    ///
    /// # Errors
    /// [`Unavailable`] if the processor does not have it.
    ///
    /// ```
    /// use keops_cpu::{Cpu, Level};
    /// let portable = Cpu::with_level(Level::Portable)?; // always there
    /// assert_eq!(portable.level(), Level::Portable);
    /// if !Level::available().contains(&Level::Avx512) {
    ///     let e = Cpu::with_level(Level::Avx512).unwrap_err();
    ///     assert!(e.to_string().starts_with("cpu (avx512) is not available"));
    /// }
    /// # Ok::<(), keops_core::spec::Unavailable>(())
    /// ```
    pub fn with_level(level: Level) -> Result<Cpu, Unavailable> {
        pool::note();
        let cpu = Cpu { level, falls_back: false };
        cpu.check()?;
        Ok(cpu)
    }
    /// The level in use.
    ///
    /// ```
    /// use keops_cpu::Cpu;
    /// println!("machine code for {}", Cpu::new().level().name());
    /// ```
    pub fn level(&self) -> Level {
        self.level
    }
    /// Compiles to the concrete type, which tells more than [`Executable`].
    ///
    /// # Errors
    /// [`CompileError`] if the formula is too large or, at a given level, executable memory is refused.
    ///
    /// ```
    /// # use keops_core::{data::DType, parse::parse_formula, reduce::SUM, spec::Axis};
    /// use keops_core::spec::Executable;
    /// use keops_cpu::{Cpu, Level};
    /// let f = parse_formula("Exp(-SqDist(x, y))", None, &["x = Vi(3)", "y = Vj(3)"])?;
    /// let spec = f.spec(&SUM, Axis::J, DType::F32);
    /// let cpu = Cpu::new();
    /// let compiled = cpu.compile_executable(&spec)?;
    /// assert_eq!(compiled.is_native(), cpu.level() != Level::Portable);
    /// assert!(compiled.source().unwrap().starts_with("program f32 sum")); // then machine code
    /// let portable = Cpu::with_level(Level::Portable).unwrap().compile_executable(&spec)?;
    /// assert!(portable.source().unwrap().contains("vcode f32")); // what is interpreted
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn compile_executable(&self, spec: &ReduceSpec) -> Result<CpuExecutable, CompileError> {
        match self.compile_with(spec, true) {
            Err(_) if self.must_fall_back() => self.fallback().compile_with(spec, true),
            Ok(mut made) => {
                made.falls_back = self.falls_back && made.is_native();
                Ok(made)
            }
            refused => refused,
        }
    }
    fn fallback(&self) -> Cpu {
        Cpu { level: Level::Portable, falls_back: false }
    }
    fn must_fall_back(&self) -> bool {
        self.falls_back && self.level != Level::Portable && !exec_mem::granted()
    }
    /// Compiles a program that was parsed or changed, in place of the one that `spec` is lowered
    /// to. The wide accumulation in f64 of f32 data is not to be had here.
    ///
    /// # Errors
    /// [`CompileError::Failed`] if the program breaks a rule of [`mod@keops_core::verify`] or does not
    /// fit `spec`; [`CompileError::Unsupported`] if it contains operations that are not expanded;
    /// else as [`Cpu::compile_executable`].
    ///
    /// ```
    /// # use keops_core::{parse::parse_formula, reduce::SUM, spec::Axis};
    /// use keops_core::data::{DType, Element};
    /// use keops_core::program::Program;
    /// use keops_core::spec::{CheckedArgs, Executable};
    /// use keops_cpu::Cpu;
    /// let f = parse_formula("y", None, &["y = Vj(1)"])?;
    /// let spec = f.spec(&SUM, Axis::J, DType::F64);
    /// // Half of the sum, which the formula does not say.
    /// let program: Program = "
    /// program f64 sum, keys 0, sums 1, results 1
    /// param 0
    /// kept 0
    /// reduced 1 = argument 0 at 0 of 1
    /// add, buffer 0:
    ///   %0 = Reduced[0]
    ///   emit [0] %0
    /// finalise, buffer 0:
    ///   %0 = Sums[0]
    ///   %1 = real 0.5
    ///   %2 = Mul %0 %1
    ///   Result[0] = %2
    /// "
    /// .parse()?;
    /// let y = ndarray::array![[1.0], [2.0], [4.0]].into_dyn();
    /// let args = CheckedArgs::new(&spec, vec![f64::erase(y.view())], None, None, None)?;
    /// let mut out = args.allocate(&spec)?;
    /// Cpu::new().compile_program(&spec, program)?.run(&args, &mut out)?;
    /// assert_eq!(out[0].to_f64()[[0, 0]], 3.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compile_program(
        &self,
        spec: &ReduceSpec,
        program: Program,
    ) -> Result<CpuExecutable, CompileError> {
        let unsupported = |reason: &str| {
            Err(CompileError::Unsupported { backend: "cpu".into(), reason: reason.into() })
        };
        verify(&program)
            .and_then(|()| verify_for(&program, spec))
            .map_err(|e| CompileError::Failed { backend: "cpu".into(), log: e.to_string() })?;
        let table = |i: &SInst| matches!(i, SInst::Def { op: Op::Table(_), .. });
        if program.sections().iter().any(|(_, s)| s.insts.iter().any(table)) {
            return unsupported("the program contains operations that are not expanded");
        }
        match spec.accumulation() {
            Accumulation::Wide => unsupported("a program by hand is not accumulated in f64"),
            a => {
                match CpuExecutable::new(spec, program.clone(), a, self.level, self.level.machine())
                {
                    Err(_) if self.must_fall_back() => {
                        let level = self.fallback().level;
                        CpuExecutable::new(spec, program, a, level, level.machine())
                    }
                    made => made,
                }
            }
        }
    }
    /// At a level that was asked for, code is the same on every processor that has it.
    fn machine(&self) -> Machine {
        let half_width = self.falls_back && processor::has_half_width_units();
        Machine { half_width, ..self.level.machine() }
    }
    fn compile_with(
        &self,
        spec: &ReduceSpec,
        factor_sums: bool,
    ) -> Result<CpuExecutable, CompileError> {
        let machine = self.machine();
        // Searches of one winner compare more than they multiply, and gain nothing by longer vectors.
        let search = matches!(&spec.reduction.kind, Family::Select(s) if !s.many);
        if machine.half_width && self.level == Level::Avx512 && search {
            let cpu = Cpu { level: Level::Avx2, ..*self };
            return cpu.compile_for(spec, factor_sums, Level::Avx2.machine());
        }
        self.compile_for(spec, factor_sums, machine)
    }
    fn compile_for(
        &self,
        spec: &ReduceSpec,
        factor_sums: bool,
        machine: Machine,
    ) -> Result<CpuExecutable, CompileError> {
        let options = LowerOptions {
            expand: true,
            scaling: match self.level {
                Level::Avx512 => Scaling::AbsorbsNan,
                Level::Avx2 => Scaling::Integer,
                Level::Portable => Scaling::Exact,
            },
            factor_sums,
            roll: kernels::ROLL,
        };
        let mut program = lower(spec, options)?;
        if machine.half_width
            && self.level == Level::Avx512
            && kernels::loads_little(&program, machine, spec.accumulation())
        {
            let cpu = Cpu { level: Level::Avx2, ..*self };
            return cpu.compile_for(spec, factor_sums, Level::Avx2.machine());
        }
        let mut accumulation = spec.accumulation();
        if program.precision == Precision::F32 && program.longest_table() > EXACT_INDEX {
            // Indices must be exact, those that are computed too.
            program = lower(&ReduceSpec { dtype: DType::F64, ..spec.clone() }, options)?;
            if accumulation == Accumulation::Wide {
                accumulation = Accumulation::Block;
            }
        } else if accumulation == Accumulation::Wide {
            let plan = kernels::plan(&program, machine, accumulation);
            // Where f64 sums of f32 values are not to be had in registers, everything is f64. So it is
            // where a pair is itself a long sum.
            if kernels::sums_long(&program)
                || program.mode != Mode::Sum
                || !plan.registers
                || self.level == Level::Portable
            {
                let double = ReduceSpec { dtype: DType::F64, ..spec.clone() };
                program = lower(&double, options)?;
                accumulation = Accumulation::Block;
                debug_assert_eq!(program.precision, Precision::F64);
            }
        }
        CpuExecutable::new(spec, program, accumulation, self.level, machine)
    }
}

impl Backend for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }
    fn check(&self) -> Result<(), Unavailable> {
        if Level::available().contains(&self.level) {
            Ok(())
        } else {
            Err(Unavailable {
                backend: format!("cpu ({})", self.level.name()),
                reason: "this processor does not have the instructions".into(),
            })
        }
    }
    fn target(&self) -> String {
        format!("cpu {}", self.level.name())
    }
    fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError> {
        Ok(Arc::new(self.compile_executable(spec)?))
    }
    fn upload(&self, values: Buffer) -> Result<Arc<dyn Held>, RunError> {
        Ok(Arc::new(resident::Array::new(values)))
    }
}
