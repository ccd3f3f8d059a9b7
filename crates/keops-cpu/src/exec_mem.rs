//! Executable memory: written while writable, then executable, never both.

use memmap2::{Mmap, MmapMut};

/// The operating system refused memory for machine code.
#[derive(Debug, thiserror::Error)]
#[error("no executable memory of {bytes} bytes: {source}; the portable level needs none")]
pub struct ExecError {
    /// Bytes asked for.
    pub bytes: usize,
    /// What the system said.
    pub source: std::io::Error,
}

/// Machine code that can be executed and no longer changed.
#[derive(Debug)]
pub struct ExecMem {
    map: Mmap,
    len: usize,
}

impl ExecMem {
    /// A page-aligned executable copy of `code`.
    ///
    /// # Errors
    /// [`ExecError`] if the system grants no memory or does not let it become executable.
    pub fn new(code: &[u8]) -> Result<ExecMem, ExecError> {
        let failed = |source| ExecError { bytes: code.len(), source };
        // The writable mapping is consumed by `make_exec`: the type is the proof that no writer
        // is left. An empty mapping is not allowed, hence at least one byte.
        let mut map = MmapMut::map_anon(code.len().max(1)).map_err(failed)?;
        map[..code.len()].copy_from_slice(code);
        Ok(ExecMem { map: map.make_exec().map_err(failed)?, len: code.len() })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map[..self.len]
    }

    /// Address of the first byte, stable for the life of `self`.
    pub fn entry(&self) -> *const u8 {
        self.map.as_ptr()
    }
}
