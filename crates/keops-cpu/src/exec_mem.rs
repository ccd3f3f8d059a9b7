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
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "only the test of grants makes it")
)]
pub struct ExecMem {
    map: Mmap,
}

/// Where parts begin: at cache lines, as the constants behind their code ask for.
const ALIGN: usize = 64;

impl ExecMem {
    /// A page-aligned executable copy of all parts, and where each of them begins.
    ///
    /// # Errors
    /// [`ExecError`] if the system grants no memory or does not let it become executable.
    pub fn new(parts: &[&[u8]]) -> Result<(ExecMem, Vec<usize>), ExecError> {
        let mut bytes = 0;
        let mut starts = Vec::with_capacity(parts.len());
        for part in parts {
            starts.push(bytes);
            bytes += part.len().next_multiple_of(ALIGN);
        }
        let failed = |source| ExecError { bytes, source };
        // The writable mapping is consumed by `make_exec`: the type is the proof that no writer
        // is left. An empty mapping is not allowed, hence at least one byte.
        let mut map = MmapMut::map_anon(bytes.max(1)).map_err(failed)?;
        for (part, &start) in parts.iter().zip(&starts) {
            map[start..start + part.len()].copy_from_slice(part);
        }
        Ok((ExecMem { map: map.make_exec().map_err(failed)? }, starts))
    }

    /// The bytes.
    #[cfg(target_arch = "x86_64")]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

/// Does the system grant executable memory?
pub fn granted() -> bool {
    ExecMem::new(&[&[0]]).is_ok()
}
