//! A backend that watches what its executables do.

use keops_core::data::Buffer;
use keops_core::error::{CompileError, RunError};
use keops_core::spec::{Backend, CheckedArgs, Executable, ReduceSpec, Unavailable};
use keops_cpu::{Cpu, CpuExecutable, Level};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A backend that counts its compilations, and whose executables assert after each run that
/// everything they ran was what the level says: machine code, or the tile interpreter.
#[derive(Clone)]
pub struct Watched {
    cpu: Cpu,
    pub compiled: Arc<AtomicUsize>,
    /// Runs that were cut into several tasks.
    pub split: Arc<AtomicUsize>,
}

impl Watched {
    pub fn new(level: Level) -> Watched {
        let cpu = Cpu::with_level(level).expect("available");
        Watched { cpu, compiled: Arc::default(), split: Arc::default() }
    }
}

struct WatchedExecutable {
    inner: CpuExecutable,
    native: bool,
    split: Arc<AtomicUsize>,
}

impl Backend for Watched {
    fn name(&self) -> &str {
        self.cpu.name()
    }
    fn check(&self) -> Result<(), Unavailable> {
        self.cpu.check()
    }
    fn target(&self) -> String {
        self.cpu.target()
    }
    fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError> {
        self.compiled.fetch_add(1, Ordering::Relaxed);
        let native = self.cpu.level() != Level::Portable;
        let (inner, split) = (self.cpu.compile_executable(spec)?, self.split.clone());
        Ok(Arc::new(WatchedExecutable { inner, native, split }))
    }
}
impl Executable for WatchedExecutable {
    fn run(&self, args: &CheckedArgs<'_>, out: &mut [Buffer]) -> Result<(), RunError> {
        self.inner.run(args, out)?;
        assert_eq!(self.inner.is_native(), self.native, "what ran is not what was asked for");
        self.split.fetch_add((self.inner.tasks() > 1) as usize, Ordering::Relaxed);
        Ok(())
    }
    fn source(&self) -> Option<String> {
        self.inner.source()
    }
}
