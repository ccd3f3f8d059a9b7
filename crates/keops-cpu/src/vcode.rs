//! Vector code: the form between a planned program and machine code.
//!
//! A [`VCode`] is a flat list of instructions over virtual registers with structured loops. Every
//! register holds one vector (as many lanes as the target has for the compute type) or a mask.
//! It is what the x86-64 encoders translate and what the portable machine interprets, so that
//! both execute the same operations in the same order.

use keops_core::prim::{Args, Kind, Prim};

/// Compute type of the lanes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ty {
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

impl Ty {
    /// Bytes of one lane.
    pub fn size(self) -> usize {
        match self {
            Ty::F32 => 4,
            Ty::F64 => 8,
        }
    }
}

/// A virtual register. It may be assigned several times (accumulators are).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct VReg(pub u32);

/// A loop of the code, numbered in order of appearance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LoopId(pub u32);

/// What an address is relative to; a pointer of the [call frame](crate::frame::Frame) each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Base {
    /// The packed tile of kept rows: component `c`, row vector `r` at element
    /// `(c * rows + r) * lanes`.
    Kept,
    /// The packed record of the current column; the pointer moves with [`LoopKind::Columns`].
    Reduced,
    /// The packed parameters.
    Param,
    /// Accumulators and state, read and written.
    State,
    /// Values handed to the driver, written; the pointer moves with [`LoopKind::Columns`].
    Out,
    /// Scratch memory: buffers of the program (spill slots are not the code's business).
    Scratch,
}

impl Base {
    /// All, in the order of their numbers.
    pub const ALL: [Base; 6] =
        [Base::Kept, Base::Reduced, Base::Param, Base::State, Base::Out, Base::Scratch];
}

/// An address in elements of the compute type, affine in the counters of enclosing
/// [`LoopKind::Fixed`] loops.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Addr {
    /// Pointer.
    pub base: Base,
    /// Constant offset, in elements.
    pub offset: i32,
    /// `counter * stride` terms, stride in elements.
    pub terms: Vec<(LoopId, i32)>,
}

/// How often a loop runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LoopKind {
    /// A fixed number of times (at least once); the counter counts from 0 upwards.
    Fixed(u32),
    /// While at least `step` of the columns given in the frame remain; each turn consumes `step`
    /// columns, then moves `Base::Reduced` by `step * reduced_stride` and `Base::Out` by
    /// `step * out_stride` elements. Several such loops may follow each other (the later ones
    /// take the rest); they are never nested in each other or in a fixed loop.
    Columns {
        /// Columns per turn.
        step: u32,
    },
}

/// One instruction.
#[derive(Clone, PartialEq, Debug)]
pub enum Inst {
    /// `dst = op(args)`.
    Op {
        /// Result.
        dst: VReg,
        /// Operation.
        op: Prim,
        /// Arguments, as many as the operation has.
        args: Args<VReg>,
    },
    /// `dst = ` a real constant in every lane (rounded to the compute type).
    Const {
        /// Result.
        dst: VReg,
        /// Value.
        value: f64,
    },
    /// `dst = ` an integer constant in every lane.
    ConstInt {
        /// Result.
        dst: VReg,
        /// Value.
        value: i64,
    },
    /// `dst =` a full vector (`broadcast` false) or one element in every lane.
    Load {
        /// Result, real.
        dst: VReg,
        /// Where from.
        addr: Addr,
        /// One element for all lanes?
        broadcast: bool,
    },
    /// Stores a full vector.
    Store {
        /// Where to.
        addr: Addr,
        /// Real or integer vector.
        src: VReg,
    },
    /// Stores the bits of a mask, lane 0 in bit 0, as one u32 at a `u32` index of the pointer
    /// (`addr.offset` and strides count u32s here). Only to `Base::Out` of mask buffers, see
    /// [`crate::frame::Frame::masks`].
    StoreMask {
        /// Index among the u32 masks of the current column; constant.
        index: i32,
        /// Mask.
        src: VReg,
    },
    /// `dst = table[idx]` lane by lane, `table` starting at `addr` (constant, `Base::Param`).
    /// Indices are the bitwise and with a constant, so that what is touched is known.
    Gather {
        /// Result, real.
        dst: VReg,
        /// First element of the table.
        addr: Addr,
        /// Integer indices.
        idx: VReg,
    },
    /// `dst =` the number of the first column of the current turn, counted from the frame's
    /// `first_column`, in every lane.
    ColumnIndex {
        /// Result, integer.
        dst: VReg,
    },
    /// `dst (f64 accumulator) += src` exactly converted: `acc` are two registers holding the
    /// low and the high half of the lanes as f64 (only where the compute type is f32).
    WideAdd {
        /// Low and high accumulators.
        acc: [VReg; 2],
        /// Single-precision vector.
        src: VReg,
    },
    /// Stores two f64 halves as `lanes` consecutive f64 (the address counts f32 elements).
    WideStore {
        /// Where to.
        addr: Addr,
        /// Low and high halves.
        src: [VReg; 2],
    },
    /// Start of a loop.
    Begin {
        /// The loop.
        id: LoopId,
        /// How often.
        kind: LoopKind,
    },
    /// End of the innermost open loop.
    End {
        /// The loop, as a check.
        id: LoopId,
    },
}

/// A whole routine.
#[derive(Clone, PartialEq, Debug)]
pub struct VCode {
    /// Compute type.
    pub ty: Ty,
    /// Kind of every virtual register; a register that is a half of a wide accumulator is
    /// `Real` and only used by `WideAdd` and `WideStore` (and `Const` 0 to start it).
    pub kinds: Vec<Kind>,
    /// Instructions.
    pub insts: Vec<Inst>,
    /// Elements between the records of consecutive columns.
    pub reduced_stride: u32,
    /// Elements that one column writes to `Base::Out`.
    pub out_stride: u32,
    /// u32 masks that one column writes.
    pub mask_stride: u32,
    /// Elements of scratch memory that the code addresses through `Base::Scratch`.
    pub scratch: usize,
}

impl Inst {
    /// The register that it assigns, other than accumulators.
    pub fn dst(&self) -> Option<VReg> {
        match self {
            Inst::Op { dst, .. }
            | Inst::Const { dst, .. }
            | Inst::ConstInt { dst, .. }
            | Inst::Load { dst, .. }
            | Inst::Gather { dst, .. }
            | Inst::ColumnIndex { dst } => Some(*dst),
            Inst::Store { .. }
            | Inst::StoreMask { .. }
            | Inst::WideAdd { .. }
            | Inst::WideStore { .. }
            | Inst::Begin { .. }
            | Inst::End { .. } => None,
        }
    }
}
