//! A routine, whatever executes it.

#[cfg(target_arch = "x86_64")]
use crate::exec_mem::ExecError;
use crate::frame::CallMemory;
use crate::kernels::Machine;
use crate::pack::Lane;
use crate::vcode::{Base, Ty, VCode};
use crate::verify::{Extents, verify};
use crate::vm::VmCode;
use keops_core::error::CompileError;

/// How code is made: the instruction sets, and the portable way.
///
/// ```
/// use keops_cpu::{Cpu, Level};
/// let level: Level = "portable".parse()?;
/// assert_eq!(Cpu::with_level(level).map(|cpu| cpu.level()), Ok(Level::Portable));
/// # Ok::<(), keops_cpu::UnknownLevel>(())
/// ```
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
    ///
    /// ```
    /// use keops_cpu::Level;
    /// assert_eq!(Level::available().last(), Some(&Level::Portable));
    /// ```
    pub fn available() -> Vec<Level> {
        #[allow(unused_mut)]
        let mut levels = vec![];
        #[cfg(target_arch = "x86_64")]
        levels.extend(crate::x86::Isa::supported().into_iter().map(|l| match l {
            crate::x86::Isa::Avx512 => Level::Avx512,
            crate::x86::Isa::Avx2 => Level::Avx2,
        }));
        levels.push(Level::Portable);
        levels
    }
    /// Short name, which parses: `avx512`, `avx2` or `portable`.
    ///
    /// ```
    /// use keops_cpu::Level;
    /// assert_eq!(Level::Avx2.name().parse(), Ok(Level::Avx2));
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Level::Avx512 => "avx512",
            Level::Avx2 => "avx2",
            Level::Portable => "portable",
        }
    }
    const ALL: [Level; 3] = [Level::Avx512, Level::Avx2, Level::Portable];
    /// What the planner has to know.
    pub(crate) fn machine(self) -> Machine {
        match self {
            Level::Avx512 => {
                Machine { lanes_f32: 16, registers: 32, single_row: false, half_width: false }
            }
            Level::Avx2 => {
                Machine { lanes_f32: 8, registers: 16, single_row: false, half_width: false }
            }
            // One dispatch works on many lanes.
            Level::Portable => Machine {
                lanes_f32: 64,
                registers: usize::MAX,
                single_row: true,
                half_width: false,
            },
        }
    }
}

/// A name that is no [`Level`].
///
/// ```
/// use keops_cpu::{Level, UnknownLevel};
/// let e: UnknownLevel = "sse2".parse::<Level>().unwrap_err();
/// assert_eq!(e.to_string(), "unknown level `sse2`; there are avx512, avx2, portable");
/// ```
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
pub struct Routine(Box<Parts>);

struct Parts {
    body: Body,
    ty: Ty,
    extents: Extents,
    scratch: usize,
    /// Its vector code in text form, where that is what is executed.
    text: String,
}

impl Routine {
    /// Compiles vector code for a level, ready to run.
    pub fn new(code: &VCode, level: Level, lanes: usize) -> Result<Routine, CompileError> {
        let mut new = Routine::compile(code, level, lanes)?;
        Routine::load([&mut new].into_iter())?;
        Ok(new)
    }
    /// Makes compiled routines ready to run, in one piece of executable memory.
    pub fn load<'r>(all: impl Iterator<Item = &'r mut Routine>) -> Result<(), CompileError> {
        #[cfg(target_arch = "x86_64")]
        {
            let native = all.filter_map(|r| match &mut r.0.body {
                Body::Native(n) => Some(n),
                Body::Portable(_) => None,
            });
            let native: Vec<_> = native.collect();
            if !native.is_empty() {
                let failed = |e: ExecError| CompileError::Failed {
                    backend: "cpu".into(),
                    log: e.to_string(),
                };
                return crate::x86::NativeCode::load(native.into_iter()).map_err(failed);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = all;
        Ok(())
    }
    /// Compiles vector code for a level, to be [loaded](Routine::load).
    pub fn compile(code: &VCode, level: Level, lanes: usize) -> Result<Routine, CompileError> {
        let failed = |log: String| {
            // Only refused memory is no fault of ours; code that breaks a rule is worth seeing.
            debug_assert!(verify(code, lanes).is_ok(), "{log}\n{code}");
            CompileError::Failed { backend: "cpu".into(), log }
        };
        let body = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx2 => {
                let x = if level == Level::Avx512 {
                    crate::x86::Isa::Avx512
                } else {
                    crate::x86::Isa::Avx2
                };
                assert_eq!(x.lanes(code.ty), lanes, "lanes of {x}");
                let native = crate::x86::compile(code, x).map_err(|e| failed(e.to_string()))?;
                Body::Native(native)
            }
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx512 | Level::Avx2 => {
                return Err(failed("this is not an x86-64 processor".into()));
            }
            Level::Portable => {
                Body::Portable(VmCode::new(code, lanes).map_err(|e| failed(e.to_string()))?)
            }
        };
        let extents = match &body {
            #[cfg(target_arch = "x86_64")]
            Body::Native(n) => n.extents(),
            Body::Portable(v) => v.extents(),
        };
        let extents = extents.clone();
        let text = if level == Level::Portable { code.to_string() } else { String::new() };
        Ok(Routine(Box::new(Parts { body, ty: code.ty, extents, scratch: code.scratch, text })))
    }
    /// Elements of scratch memory that it addresses.
    pub fn scratch(&self) -> usize {
        self.0.scratch
    }
    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        let code = match &self.0.body {
            #[cfg(target_arch = "x86_64")]
            Body::Native(n) => n.bytes().len(),
            Body::Portable(v) => v.bytes(),
        };
        size_of::<Parts>() + code + self.0.text.capacity()
    }
    /// Bytes that a call needs.
    pub fn workspace_bytes(&self) -> usize {
        match &self.0.body {
            #[cfg(target_arch = "x86_64")]
            Body::Native(n) => n.workspace_bytes(),
            Body::Portable(v) => v.workspace_bytes(),
        }
    }
    /// The machine code, or the vector code where there is none.
    pub fn listing(&self) -> String {
        match &self.0.body {
            #[cfg(target_arch = "x86_64")]
            Body::Native(n) => n.disassemble(),
            Body::Portable(_) => self.0.text.clone(),
        }
    }
    /// Is it machine code?
    pub fn is_native(&self) -> bool {
        !matches!(self.0.body, Body::Portable(_))
    }
    /// Runs. A scalar function of the code that panics aborts (machine code cannot be unwound).
    ///
    /// # Panics
    /// If the memory is smaller than the code needs for this many columns, or has another type: a
    /// fault of ours that never becomes an access outside of it.
    pub fn run<T: Lane>(&self, mut memory: CallMemory<'_, T>) {
        assert_eq!(T::TYPE, self.0.ty, "type of the memory");
        let ((sizes, masks), columns) = (memory.sizes(), memory.columns);
        for base in Base::ALL {
            let (need, size) = (self.0.extents.of(base, columns), sizes[base as usize]);
            assert!(need <= size, "{base} memory: {columns} columns need {need}, there are {size}");
        }
        let need = self.0.extents.masks(columns);
        assert!(need <= masks, "masks: {columns} columns need {need} words, there are {masks}");
        let frame = memory.frame();
        // What both calls below ask for: `Extents` bounds what the code touches for this number of
        // columns. `verify` found them where every address of the code is checked, gathers
        // included, for as many lanes as the code has here. They were just compared with the
        // slices, whose elements have the type of the code. Being slices, they are initialised and
        // live; those that are written are borrowed for this call alone, and so overlap nothing.
        match &self.0.body {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above; `compile` made sure that the processor has the instructions.
            Body::Native(n) => unsafe { n.call(&frame, memory.workspace) },
            // SAFETY: as above.
            Body::Portable(v) => unsafe { v.call(&frame, memory.workspace) },
        }
    }
}
