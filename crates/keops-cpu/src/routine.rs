//! A routine, whatever executes it.

use crate::frame::Frame;
use crate::kernels::Machine;
use crate::vcode::VCode;
use crate::vm::VmCode;
use keops_core::error::CompileError;
use std::mem::MaybeUninit;

/// How code is made: the instruction sets, and the portable way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Level {
    /// Machine code with 512-bit vectors (AVX-512 F, DQ, BW, VL).
    Avx512,
    /// Machine code with 256-bit vectors (AVX2, FMA, F16C).
    Avx2,
    /// Interpreted vector code: every processor.
    Portable,
}

impl Level {
    /// The levels that this processor has, best first.
    pub fn available() -> Vec<Level> {
        #[allow(unused_mut)]
        let mut levels = vec![];
        #[cfg(target_arch = "x86_64")]
        levels.extend(crate::x86::Level::supported().into_iter().map(|l| match l {
            crate::x86::Level::Avx512 => Level::Avx512,
            crate::x86::Level::Avx2 => Level::Avx2,
        }));
        levels.push(Level::Portable);
        levels
    }
    /// Short name.
    pub fn name(self) -> &'static str {
        match self {
            Level::Avx512 => "avx512",
            Level::Avx2 => "avx2",
            Level::Portable => "portable",
        }
    }
    const ALL: [Level; 3] = [Level::Avx512, Level::Avx2, Level::Portable];
    /// What the planner has to know.
    pub fn machine(self) -> Machine {
        match self {
            Level::Avx512 => Machine { lanes_f32: 16, registers: 32, single_row: false },
            Level::Avx2 => Machine { lanes_f32: 8, registers: 16, single_row: false },
            // One dispatch works on many lanes.
            Level::Portable => Machine { lanes_f32: 64, registers: usize::MAX, single_row: true },
        }
    }
}

/// A name that is no [`Level`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown level `{0}`; there are avx512, avx2, portable")]
pub struct UnknownLevel(String);

impl std::str::FromStr for Level {
    type Err = UnknownLevel;
    /// The level of that [name](Level::name); [`Cpu::with_level`](crate::Cpu::with_level) says
    /// whether this processor has it.
    fn from_str(name: &str) -> Result<Level, UnknownLevel> {
        let named = Level::ALL.into_iter().find(|l| l.name() == name);
        named.ok_or_else(|| UnknownLevel(name.into()))
    }
}

enum Body {
    #[cfg(target_arch = "x86_64")]
    Native(crate::x86::NativeCode),
    Portable(VmCode),
}

/// A compiled routine.
pub struct Routine {
    body: Body,
    /// Elements of scratch memory that it addresses.
    pub scratch: usize,
    /// Its vector code in text form.
    pub text: String,
}

impl Routine {
    /// Compiles vector code for a level.
    pub fn new(code: &VCode, level: Level, lanes: usize) -> Result<Routine, CompileError> {
        let failed = |log: String| CompileError::Failed { backend: "cpu".into(), log };
        debug_assert!({
            let checked = crate::verify::verify(code, lanes);
            if let Err(e) = &checked {
                eprintln!("{e}\n{code}");
            }
            checked.is_ok()
        });
        let body = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx2 => {
                let x = if level == Level::Avx512 {
                    crate::x86::Level::Avx512
                } else {
                    crate::x86::Level::Avx2
                };
                Body::Native(crate::x86::compile(code, x).map_err(|e| failed(e.to_string()))?)
            }
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx512 | Level::Avx2 => {
                return Err(failed("this is not an x86-64 processor".into()));
            }
            Level::Portable => {
                Body::Portable(VmCode::new(code, lanes).map_err(|e| failed(e.to_string()))?)
            }
        };
        Ok(Routine { body, scratch: code.scratch, text: String::new() })
    }
    /// Bytes that a call needs.
    pub fn workspace_bytes(&self) -> usize {
        match &self.body {
            #[cfg(target_arch = "x86_64")]
            Body::Native(n) => n.workspace_bytes(),
            Body::Portable(v) => v.workspace_bytes(),
        }
    }
    /// The machine code, or the vector code where there is none.
    pub fn listing(&self) -> String {
        match &self.body {
            #[cfg(target_arch = "x86_64")]
            Body::Native(n) => n.disassemble(),
            Body::Portable(_) => self.text.clone(),
        }
    }
    /// Is it machine code?
    pub fn is_native(&self) -> bool {
        !matches!(self.body, Body::Portable(_))
    }
    /// Runs.
    ///
    /// # Safety
    /// - The pointers of the frame are valid for every element that the code touches over
    ///   `frame.columns` columns: `kept`, `reduced` and `param` for reads, the others for reads and
    ///   writes.
    /// - What is read has been initialised.
    /// - Memory that is written overlaps no other memory of the frame, nor the workspace, and
    ///   nobody else accesses it meanwhile.
    /// - Gathered indices lie within their tables (lowering clamps them).
    /// - Scalar functions that the code calls do not panic (machine code cannot be unwound: a panic
    ///   aborts).
    pub unsafe fn call(&self, frame: &Frame, workspace: &mut [MaybeUninit<u8>]) {
        match &self.body {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the caller's promise is the callee's.
            Body::Native(n) => unsafe { n.call(frame, workspace) },
            // SAFETY: the caller's promise is the callee's.
            Body::Portable(v) => unsafe { v.call(frame, workspace) },
        }
    }
}
