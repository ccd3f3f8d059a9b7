//! What a routine is given at each call: memory, and how the machine code reads it.

use crate::pack::Lane;
use core::ffi::c_void;
use std::mem::MaybeUninit;

/// Pointers and counts of one call of compiled vector code, in the layout the machine code reads.
///
/// Pointers are to elements of the compute type, valid for the [`Extents`] of the code. Outside
/// of tests only [`Routine::run`] makes frames, of a [`CallMemory`] that it has checked.
///
/// [`Extents`]: crate::verify::Extents
/// [`Routine::run`]: crate::routine::Routine::run
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// `Base::Kept`
    pub kept: *const c_void,
    /// `Base::Reduced`, record of the first column
    pub reduced: *const c_void,
    /// `Base::Param`
    pub param: *const c_void,
    /// `Base::State`
    pub state: *mut c_void,
    /// `Base::Out`, values of the first column
    pub out: *mut c_void,
    /// Masks of the first column, u32 each.
    pub masks: *mut u32,
    /// `Base::Scratch`
    pub scratch: *mut c_void,
    /// Number of columns.
    pub columns: usize,
    /// Number given to the first column by `ColumnIndex`.
    pub first_column: i64,
}

/// The memory of one call: borrowed, so that nobody else has it and nothing that is written
/// overlaps anything. What code does not touch may be empty.
pub struct CallMemory<'m, T> {
    /// `Base::Kept`
    pub kept: &'m [T],
    /// `Base::Reduced`, from the record of the first column on
    pub reduced: &'m [T],
    /// `Base::Param`
    pub param: &'m [T],
    /// `Base::State`
    pub state: &'m mut [T],
    /// `Base::Out`
    pub out: &'m mut [T],
    /// Masks, words of u32.
    pub masks: &'m mut [u32],
    /// `Base::Scratch`
    pub scratch: &'m mut [T],
    /// For what finds no register; needs no content.
    pub workspace: &'m mut [MaybeUninit<u8>],
    /// Number of columns.
    pub columns: usize,
    /// Number of the first column.
    pub first: usize,
}

impl<'m, T: Lane> CallMemory<'m, T> {
    /// Parameters and a workspace; no columns, and nothing of all else.
    pub fn new(param: &'m [T], workspace: &'m mut [MaybeUninit<u8>]) -> CallMemory<'m, T> {
        CallMemory {
            kept: &[],
            reduced: &[],
            param,
            state: &mut [],
            out: &mut [],
            masks: &mut [],
            scratch: &mut [],
            workspace,
            columns: 0,
            first: 0,
        }
    }
    /// Elements of each memory, by number of its base, and words of masks.
    pub(crate) fn sizes(&self) -> ([usize; 6], usize) {
        let sizes = [
            self.kept.len(),
            self.reduced.len(),
            self.param.len(),
            self.state.len(),
            self.out.len(),
            self.scratch.len(),
        ];
        (sizes, self.masks.len())
    }
    /// In the layout of machine code.
    pub(crate) fn frame(&mut self) -> Frame {
        Frame {
            kept: self.kept.as_ptr().cast(),
            reduced: self.reduced.as_ptr().cast(),
            param: self.param.as_ptr().cast(),
            state: self.state.as_mut_ptr().cast(),
            out: self.out.as_mut_ptr().cast(),
            masks: self.masks.as_mut_ptr(),
            scratch: self.scratch.as_mut_ptr().cast(),
            columns: self.columns,
            first_column: self.first as i64,
        }
    }
}
