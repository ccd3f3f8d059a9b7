//! Stairs: rows side by side that meet one range of columns each, as those of a band or of a triangle.
//! Each alone would leave all lanes but one idle, so that several make one tile: it takes the columns
//! from the first that a row meets to the last. Those that all rows meet are taken as ever; before
//! and after them, code that asks each row ([`kernels::sum_code`] with windows) lets it see its own.

use super::tiles::{Block, List, Span};
use super::{CpuExecutable, Routines, device};
use crate::kernels::{self, Plan};
use crate::pack::Lane;
use crate::routine::{Level, Routine};
use keops_core::error::RunError;
use keops_core::program::{Mode, Program};

/// What a call of compiled code costs, and a tile, in columns.
const CALL: usize = 8;
const TILE: usize = 16;
/// Columns of one call with windows: their numbers are exact in f32.
pub(super) const MOST: usize = 1 << 20;
/// Fewer columns that all rows meet are not worth a call of their own.
const FEW: usize = 16;

impl CpuExecutable {
    /// Can rows of one tile meet different columns?
    pub(super) fn climbs(&self) -> bool {
        matches!(self.program.mode, Mode::Sum | Mode::PivotSum)
    }
}

impl Routines {
    /// Takes columns into the sums of those rows in whose windows they are; made when first needed.
    pub(super) fn windowed(&self, p: &Program, level: Level) -> Result<&Routine, RunError> {
        let made = self.windowed.get_or_init(|| {
            let code = match p.mode {
                Mode::PivotSum => kernels::pivot_code(p, &self.plan, true),
                _ => kernels::sum_code(p, &self.plan, true),
            };
            Routine::new(&code, level, self.plan.lanes)
        });
        made.as_ref().map_err(device)
    }
}

/// The columns that some of the rows meet, and those that all of them meet (none where the end is before
/// the start).
#[derive(Clone, Copy)]
pub(super) struct Hull {
    some: Span,
    all: Span,
}

impl Hull {
    /// Of no rows.
    const NONE: Hull = Hull { some: (usize::MAX, 0), all: (0, usize::MAX) };

    fn with(self, (start, end): Span) -> Hull {
        Hull {
            some: (self.some.0.min(start), self.some.1.max(end)),
            all: (self.all.0.max(start), self.all.1.min(end)),
        }
    }
    /// Of all stairs of a tile.
    pub(super) fn of(stairs: &[(Span, Span)]) -> Hull {
        stairs.iter().fold(Hull::NONE, |hull, (_, columns)| hull.with(*columns))
    }
    /// Ranges of columns in order, with whether all rows meet them.
    pub(super) fn parts(self) -> impl Iterator<Item = (Span, bool)> {
        let Hull { some, all } = self;
        let parts = match all.0.saturating_add(FEW) <= all.1 {
            true => [((some.0, all.0), false), (all, true), ((all.1, some.1), false)],
            false => [(some, false), ((0, 0), true), ((0, 0), true)],
        };
        parts.into_iter().filter(|((start, end), _)| start < end)
    }
    /// What a tile of this many rows costs, in columns of one vector of rows.
    fn cost(self, rows: usize, plan: &Plan) -> usize {
        let Hull { some, all } = self;
        let (total, common) = (some.1 - some.0, all.1.saturating_sub(all.0));
        let common = if common < FEW { 0 } else { common };
        let calls = match common == 0 || common == total {
            true => 1,
            false => 1 + usize::from(some.0 < all.0) + usize::from(all.1 < some.1),
        };
        // One vector alone keeps the pipes less busy; code that asks each row is half as long again.
        let vectors = if rows <= plan.lanes { 5 } else { 4 * plan.rows };
        TILE + CALL * calls + vectors * (3 * total - common) / 8
    }
    /// What rows that all meet the same columns cost.
    fn alone(columns: Span) -> usize {
        TILE + CALL + (columns.1 - columns.0) * 5 / 4
    }
}

/// Joins blocks side by side, of one range each, to stairs of up to a tile of rows where that is
/// less work.
pub(super) struct Join<'p> {
    plan: &'p Plan,
    /// A block that may be joined with the next one: its place, what it meets and what it costs.
    open: Option<(usize, Hull, usize)>,
}

impl<'p> Join<'p> {
    pub(super) fn new(plan: &'p Plan) -> Join<'p> {
        Join { plan, open: None }
    }
    /// Joins the last block of a list to the one before it, if that is well.
    pub(super) fn last(&mut self, list: &mut List) {
        // (Rows that meet nothing may stand between them.)
        let count = list.blocks.len();
        let before = self.open.take().filter(|open| open.0 + 2 == count);
        let Some(last) = list.blocks.last() else { return };
        let (rows, first) = (last.rows, last.columns.0);
        let &[columns] = &list.columns[first..] else { return };
        if rows.1 - rows.0 >= self.plan.lanes {
            return;
        }
        let alone = Hull::alone(columns);
        self.open = Some((count - 1, Hull::NONE.with(columns), alone));
        let (Some((_, hull, cost)), [.., left, _]) = (before, &mut list.blocks[..]) else { return };
        let (with, height) = (hull.with(columns), rows.1 - left.rows.0);
        let together = with.cost(height, self.plan);
        if height > self.plan.width() || together > cost + alone {
            return;
        }
        if left.stairs.0 == left.stairs.1 {
            left.stairs.0 = list.stairs.len();
            list.stairs.push((left.rows, list.columns[left.columns.0]));
        }
        list.stairs.push((rows, columns));
        (left.stairs.1, left.rows.1) = (list.stairs.len(), rows.1);
        list.columns[left.columns.0] = with.some;
        list.columns.pop();
        list.blocks.pop();
        self.open = Some((count - 2, with, together));
    }
}

/// Writes the first columns of a tile's rows, and those after their last, both counted from the column
/// `start`, where code reads its windows.
pub(super) fn windows<T: Lane>(
    block: &Block<'_>,
    first_row: usize,
    width: usize,
    start: usize,
    to: &mut [T],
) {
    let (from, to) = to[..2 * width].split_at_mut(width);
    from.fill(T::default());
    to.fill(T::default());
    let number = |column: usize| T::round(column.saturating_sub(start).min(MOST) as u32 as f64);
    for (rows, columns) in block.stairs {
        let (first, end) = (number(columns.0), number(columns.1));
        for lane in rows.0 - first_row..rows.1 - first_row {
            (from[lane], to[lane]) = (first, end);
        }
    }
}
