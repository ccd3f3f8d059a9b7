//! Portable executor of vector code.
//!
//! [`VmCode`] interprets a [`VCode`] with vectors of many lanes, so that one dispatch does the
//! work of several machine instructions. The code is decoded once: registers become slots of a
//! workspace that stays in the first-level cache, constants and read-only memory are used where
//! they lie instead of being copied. The loops over lanes are plain Rust that the compiler turns
//! into vector code, once for the baseline of the target and, on x86-64, once more for AVX2 with
//! FMA.

mod decode;
mod kernels;
mod lanes;

use std::mem::MaybeUninit;

use crate::frame::Frame;
use crate::vcode::{Ty, VCode};
use crate::verify::{Extents, VerifyError, verify};
use decode::Decoded;

/// Alignment of the workspace's slots and the size of the pieces that the inner loops handle.
const CHUNK_BYTES: usize = 64;

/// Vector code made ready for interpretation.
#[derive(Debug)]
pub struct VmCode {
    ty: Ty,
    decoded: Decoded,
    workspace_bytes: usize,
    extents: Extents,
}

impl VmCode {
    /// Verifies and decodes `code` for vectors of `lanes` lanes, a power of two. Good numbers are
    /// 64 for f32 and 32 for f64.
    ///
    /// A mask stored by `StoreMask` takes `lanes.div_ceil(32)` words of 32 lanes each; mask
    /// indices and the mask stride count such masks.
    ///
    /// # Errors
    /// The rule of vector code that `code` breaks, see [`verify`].
    pub fn new(code: &VCode, lanes: usize) -> Result<VmCode, VerifyError> {
        let extents = verify(code, lanes)?;
        let decoded = decode::decode(code, lanes);
        // Slack for alignment, the table of places, the counters, the slots.
        let workspace_bytes = CHUNK_BYTES
            + decoded.table_bytes().next_multiple_of(CHUNK_BYTES)
            + decoded.slots * decoded.slot_bytes;
        Ok(VmCode { ty: code.ty, decoded, workspace_bytes, extents })
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        size_of::<VmCode>() + self.decoded.bytes()
    }

    /// Bytes of workspace that [`VmCode::call`] needs.
    pub fn workspace_bytes(&self) -> usize {
        self.workspace_bytes
    }

    /// What memory it touches.
    pub fn extents(&self) -> &Extents {
        &self.extents
    }

    /// Runs the code once. The workspace needs no initialisation and holds nothing between calls;
    /// it may be larger than [`VmCode::workspace_bytes`] and have any alignment.
    ///
    /// # Panics
    /// If the workspace is smaller than [`VmCode::workspace_bytes`].
    ///
    /// # Safety
    /// The pointers of the frame are valid for the [`Extents`] of the code: `kept`, `reduced` and
    /// `param` for reads, the others for reads and writes. What is read has been initialised, and
    /// memory that is written overlaps neither other memory of the frame nor the workspace.
    pub unsafe fn call(&self, frame: &Frame, workspace: &mut [MaybeUninit<u8>]) {
        assert!(workspace.len() >= self.workspace_bytes, "workspace too small");
        let start = workspace.as_mut_ptr();
        // SAFETY: the workspace has CHUNK_BYTES of slack for the alignment.
        let start = unsafe { start.add(start.align_offset(CHUNK_BYTES)) }.cast::<u8>();
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            // SAFETY: the features are there; the rest is this function's contract.
            return unsafe { call_avx2(&self.decoded, self.ty, frame, start) };
        }
        // SAFETY: this function's contract.
        unsafe { call_any(&self.decoded, self.ty, frame, start) }
    }
}

/// # Safety
/// As [`VmCode::call`], with `workspace` aligned to [`CHUNK_BYTES`]; the processor has the features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn call_avx2(code: &Decoded, ty: Ty, frame: &Frame, workspace: *mut u8) {
    // SAFETY: the caller's.
    unsafe { call_any(code, ty, frame, workspace) }
}

/// # Safety
/// As [`VmCode::call`], with `workspace` aligned to [`CHUNK_BYTES`].
#[inline(always)]
unsafe fn call_any(code: &Decoded, ty: Ty, frame: &Frame, workspace: *mut u8) {
    // SAFETY: the caller's; the number of lanes in a piece fits the type.
    unsafe {
        match ty {
            Ty::F32 => kernels::run::<f32, { CHUNK_BYTES / 4 }>(code, frame, workspace),
            Ty::F64 => kernels::run::<f64, { CHUNK_BYTES / 8 }>(code, frame, workspace),
        }
    }
}

#[cfg(test)]
mod tests;
