//! What memory vector code touches.

use crate::vcode::{Base, VCode};

/// Where an instruction stands among the loops over columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Before the first.
    Before,
    /// In one that takes this many columns a turn.
    Turn(u32),
    /// Behind one.
    After,
}

/// Memory whose pointer moves with the columns.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Moving {
    /// Elements a column.
    stride: i64,
    /// One past the last element touched before the pointer moves.
    before: i64,
    /// Fewer columns touch nothing else.
    least: usize,
    /// One past the last element touched is at most `stride` times the columns, and this.
    slack: i64,
}

impl Moving {
    fn new(stride: i64) -> Moving {
        Moving { stride, before: 0, least: usize::MAX, slack: i64::MIN }
    }
    /// Elements up to `end`, counted from the pointer, are touched.
    fn touch(&mut self, place: Phase, end: i64) {
        let (least, slack) = match place {
            Phase::Before => {
                self.before = self.before.max(end);
                return;
            }
            // The last turn starts at `columns - step` at most.
            Phase::Turn(step) => {
                (step as usize, end.saturating_sub(self.stride.saturating_mul(i64::from(step))))
            }
            // All columns may have been taken.
            Phase::After => (0, end),
        };
        self.least = self.least.min(least);
        self.slack = self.slack.max(slack);
    }
    #[inline]
    fn extent(&self, columns: usize) -> usize {
        let mut end = self.before;
        if columns >= self.least {
            let columns = i64::try_from(columns).unwrap_or(i64::MAX);
            end = end.max(self.stride.saturating_mul(columns).saturating_add(self.slack));
        }
        usize::try_from(end).unwrap_or(usize::MAX)
    }
}

/// How many elements of each memory a call of vector code touches at most, counted from the
/// pointer in its [frame](crate::frame::Frame); none lie before it.
#[derive(Clone, PartialEq, Debug)]
pub struct Extents {
    /// By number of the base.
    fixed: [usize; 6],
    reduced: Moving,
    out: Moving,
    masks: Moving,
    /// u32 words of a mask.
    words: i64,
}

impl Extents {
    pub(super) fn new(code: &VCode, lanes: usize) -> Extents {
        let words = lanes.div_ceil(32) as i64;
        Extents {
            fixed: [0; 6],
            reduced: Moving::new(i64::from(code.reduced_stride)),
            out: Moving::new(i64::from(code.out_stride)),
            masks: Moving::new(i64::from(code.mask_stride) * words),
            words,
        }
    }
    /// Elements up to `end` of a base are touched.
    pub(super) fn touch(&mut self, place: Phase, base: Base, end: i64) {
        match base {
            Base::Reduced => self.reduced.touch(place, end),
            Base::Out => self.out.touch(place, end),
            Base::Kept | Base::Param | Base::State | Base::Scratch => {
                let end = usize::try_from(end).unwrap_or(usize::MAX);
                let known = &mut self.fixed[base as usize];
                *known = end.max(*known);
            }
        }
    }
    /// A mask is written.
    pub(super) fn mask(&mut self, place: Phase, index: i64) {
        self.masks.touch(place, index.saturating_add(1).saturating_mul(self.words));
    }
    /// Elements of a base, for this many columns.
    #[inline]
    pub fn of(&self, base: Base, columns: usize) -> usize {
        match base {
            Base::Reduced => self.reduced.extent(columns),
            Base::Out => self.out.extent(columns),
            fixed => self.fixed[fixed as usize],
        }
    }
    /// u32 words of masks, for this many columns.
    #[inline]
    pub fn masks(&self, columns: usize) -> usize {
        self.masks.extent(columns)
    }
}
