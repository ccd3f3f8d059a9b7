//! The call frame: what a routine is given at each call.

use core::ffi::c_void;

/// Pointers and counts of one call of compiled vector code, in the layout the machine code reads.
///
/// Pointers are to elements of the compute type. They are valid for the extents that the code
/// was planned with; the runner that builds frames is the only one who makes them.
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
