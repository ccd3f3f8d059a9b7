//! Where the parts of a tile's state lie.
//!
//! Every part but the pivot has a vector of the tile (`rows · lanes` elements) for each slot: for each
//! component of a sum, or for each key.
//!
//! | elements | sums | selections |
//! |---|---|---|
//! | `0 .. n·width` | totals | best keys |
//! | `n·width .. 2n·width` | what rounding lost of them | turns of the loop in which those were found |
//! | `2n·width .. 3n·width` | sums of the block (where registers do not suffice) | |
//! | `3n·width ..` | pivot | |
//!
//! Wide sums of a block are f64 beside f32 totals: they take two elements each, and the pivot comes after
//! them. Where several winners are few ([`NETWORK`]), there are as many best keys instead of turns.

use super::{Accumulation, NETWORK, Plan};
use crate::vcode::{Addr, Base};
use keops_core::program::{Mode, Program};

/// A part of the state that has a vector for each slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatePart {
    /// Sums so far.
    Total,
    /// What rounding lost of them.
    Lost,
    /// Sums of the present block.
    Block,
    /// Best keys so far.
    Best,
    /// Column at which the turn began that found them (an integer).
    Turn,
}

/// The layout of a tile's state, for one program and plan.
#[derive(Clone, Copy, Debug)]
pub struct StateLayout {
    width: usize,
    slots: usize,
    pivot: usize,
    len: usize,
}

impl StateLayout {
    pub fn new(p: &Program, plan: &Plan) -> StateLayout {
        let (slots, width) = (Plan::slots(p), plan.width());
        let wide = plan.accumulation == Accumulation::Wide;
        let pivot = (if wide { 4 } else { 3 }) * slots * width;
        let len = match p.mode {
            Mode::Select { k, .. } => slots * width * if k <= NETWORK { k.max(2) } else { 2 },
            // (Partial results of few rows have a pivot in every mode.)
            Mode::Sum | Mode::PivotSum => pivot + width,
        };
        StateLayout { width, slots, pivot, len }
    }
    /// Elements of the state.
    pub fn len(&self) -> usize {
        self.len
    }
    /// First element of a section.
    pub fn start(&self, section: StatePart) -> usize {
        let before = match section {
            StatePart::Total | StatePart::Best => 0,
            StatePart::Lost | StatePart::Turn => 1,
            StatePart::Block => 2,
        };
        before * self.slots * self.width
    }
    /// Element of a slot and row.
    pub fn at(&self, section: StatePart, slot: usize, row: usize) -> usize {
        self.start(section) + slot * self.width + row
    }
    /// First of the two elements of a wide sum of the block.
    pub fn wide(&self, slot: usize, row: usize) -> usize {
        self.start(StatePart::Block) + 2 * (slot * self.width + row)
    }
    /// Element of the pivot of a row.
    pub fn pivot(&self, row: usize) -> usize {
        self.pivot + row
    }
    /// Address of a slot, which may depend on loops, and row.
    pub fn addr(&self, section: StatePart, slot: &Addr, row: usize) -> Addr {
        Addr {
            base: Base::State,
            offset: self.at(section, slot.offset as usize, row) as i32,
            terms: slot.terms.iter().map(|&(l, s)| (l, s * self.width as i32)).collect(),
        }
    }
}
