//! Just-in-time compiled map-reduce for CPUs: machine code in microseconds, with no compiler at
//! run time.
//!
//! [`Cpu`] is the backend. On x86-64 it writes AVX-512 or AVX2 machine code; elsewhere, and on
//! request, it interprets the same vector code.

pub mod exec_mem;
pub mod frame;
mod kernels;
mod memory;
pub mod print;
mod routine;
mod runner;
mod translate;
pub mod vcode;
pub mod verify;
pub mod vm;
#[cfg(target_arch = "x86_64")]
pub mod x86;

#[cfg(test)]
pub mod testing;

pub use routine::{Level, UnknownLevel};
pub use runner::CpuExecutable;

use keops_core::data::DType;
use keops_core::error::CompileError;
use keops_core::lower::{LowerOptions, lower};
use keops_core::program::{Mode, Op, Program, SInst};
use keops_core::spec::{Accumulation, Backend, Executable, ReduceSpec, Unavailable};
use keops_core::vecmath::{Precision, Scaling};
use keops_core::verify::{verify, verify_for};
use std::sync::Arc;

/// The CPU backend.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    level: Level,
}

impl Default for Cpu {
    fn default() -> Self {
        Cpu::new()
    }
}

impl Cpu {
    /// The best level that this processor has.
    pub fn new() -> Cpu {
        Cpu { level: Level::available()[0] }
    }
    /// A given level, to compare levels on one machine.
    ///
    /// # Errors
    /// [`Unavailable`] if the processor does not have it.
    pub fn with_level(level: Level) -> Result<Cpu, Unavailable> {
        let cpu = Cpu { level };
        cpu.check()?;
        Ok(cpu)
    }
    /// The level in use.
    pub fn level(&self) -> Level {
        self.level
    }
    /// Compiles to the concrete type, which tells more than [`Executable`].
    ///
    /// # Errors
    /// [`CompileError`] if the formula is too large or executable memory is denied.
    pub fn compile_executable(&self, spec: &ReduceSpec) -> Result<CpuExecutable, CompileError> {
        self.compile_with(spec, true)
    }
    /// Compiles a program that was parsed or changed, in place of the one that `spec` is lowered
    /// to. The wide accumulation in f64 of f32 data is not to be had here.
    ///
    /// # Errors
    /// [`CompileError::Failed`] if the program breaks a rule of [`mod@keops_core::verify`] or does not
    /// fit `spec`; [`CompileError::Unsupported`] if it contains operations that are not expanded;
    /// else as [`Cpu::compile_executable`].
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
            a => CpuExecutable::new(spec, program, a, self.level),
        }
    }
    fn compile_with(
        &self,
        spec: &ReduceSpec,
        factor_sums: bool,
    ) -> Result<CpuExecutable, CompileError> {
        let options = LowerOptions {
            expand: true,
            scaling: match self.level {
                Level::Avx512 => Scaling::AbsorbsNan,
                Level::Avx2 => Scaling::Integer,
                Level::Portable => Scaling::Exact,
            },
            factor_sums,
        };
        let mut program = lower(spec, options)?;
        let mut accumulation = spec.accumulation();
        if accumulation == Accumulation::Wide {
            let plan = kernels::plan(&program, self.level.machine(), accumulation);
            // Where f64 sums of f32 values are not to be had in registers, everything is f64.
            if program.mode != Mode::Sum || !plan.registers || self.level == Level::Portable {
                let double = ReduceSpec { dtype: DType::F64, ..spec.clone() };
                program = lower(&double, options)?;
                accumulation = Accumulation::Block;
                debug_assert_eq!(program.precision, Precision::F64);
            }
        }
        CpuExecutable::new(spec, program, accumulation, self.level)
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
}
