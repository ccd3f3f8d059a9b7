//! Which register, or word of the stack, serves which purpose in all routines.

use super::asm::{Gpr, Mem, RBP, RBX, RCX, RDI, RDX, RSI, RSP, Rm};
use crate::vcode::Base;

/// Pool of constants.
pub const POOL: Gpr = RBX;
/// Spill slots.
pub const SPILL: Gpr = RBP;
/// Columns that remain.
pub const REMAINING: Gpr = RDI;
/// Masks of the current column.
pub const MASKS: Gpr = 10;
/// Stack word: number of the current column.
pub const COLUMN_SLOT: i32 = 0;

/// The pointers, in their order.
pub const BASES: [Base; 6] =
    [Base::Kept, Base::Reduced, Base::Param, Base::State, Base::Out, Base::Scratch];

/// Register of a pointer.
pub fn pointer(base: Base) -> Gpr {
    match base {
        Base::Kept => RSI,
        Base::Reduced => RDX,
        Base::Param => RCX,
        Base::State => 8,
        Base::Out => 9,
        Base::Scratch => 11,
    }
}

/// Where the value of an address term or loop counter is kept.
#[derive(Clone, Copy)]
pub enum Home {
    /// General register.
    Reg(Gpr),
    /// Offset from the stack pointer.
    Stack(i32),
}

impl Home {
    /// As an operand.
    pub fn rm(self) -> Rm {
        match self {
            Home::Reg(r) => Rm::Reg(r),
            Home::Stack(d) => Rm::Mem(Mem::at(RSP, d)),
        }
    }
}
