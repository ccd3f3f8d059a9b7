//! Stairs: rows side by side that meet one range of columns each, as those of a band or of a triangle.
//! Each alone would leave all lanes but one idle, so that several make one tile: it takes the
//! columns in turn, and where only some rows take part, the others get back what they had.

use super::CpuExecutable;
use super::tiles::{Block, Listed, Span};
use super::worker::Worker;
use crate::kernels::Accumulation;
use crate::pack::Lane;
use keops_core::error::OutOfMemory;
use keops_core::memory;
use keops_core::program::Mode;

/// What a call of compiled code costs, in columns.
const CALL: usize = 8;

const STAIRS: &str = "the stairs of a block";

impl CpuExecutable {
    /// Can rows of one tile meet different columns? All that a row has come to is in its lanes of the
    /// state.
    pub(super) fn climbs(&self) -> bool {
        let sums = matches!(self.program.mode, Mode::Sum | Mode::PivotSum);
        sums && self.full.plan.accumulation != Accumulation::Wide
    }
}

/// Joins blocks side by side, of one range each, to stairs of up to `most` rows where that is
/// less work.
pub(super) fn joined(all: Vec<Listed>, most: usize) -> Result<Vec<Listed>, OutOfMemory> {
    let step = |b: &Listed| match b.columns[..] {
        [columns] if b.rows.1 - b.rows.0 < most => Some((b.rows, columns)),
        _ => None,
    };
    let mut out = memory::room(all.len(), STAIRS)?;
    let mut all = all.into_iter().peekable();
    while let Some(first) = all.next() {
        let Some(at) = step(&first) else {
            out.push(first);
            continue;
        };
        let mut stairs: Vec<(Span, Span)> = memory::room(most, STAIRS)?;
        stairs.push(at);
        let fits = |b: &&Listed| b.rows.1 - first.rows.0 <= most;
        while let Some(next) = all.peek().filter(fits).and_then(step) {
            stairs.push(next);
            all.next();
        }
        let apart: usize = stairs.iter().map(|(_, c)| c.1 - c.0 + CALL).sum();
        let together: usize = segments(&stairs)?.iter().map(|c| c.1 - c.0 + CALL).sum();
        if together < apart {
            let ends = stairs.iter().map(|(_, c)| *c);
            let whole = ends.fold((usize::MAX, 0), |a, c| (a.0.min(c.0), a.1.max(c.1)));
            let rows = (first.rows.0, stairs[stairs.len() - 1].0.1);
            out.push(Listed { rows, columns: vec![whole], stairs });
        } else {
            out.extend(stairs.into_iter().map(|(rows, columns)| Listed::new(rows, vec![columns])));
        }
    }
    Ok(out)
}

/// The columns that somebody meets, cut where a range starts or ends.
fn segments(stairs: &[(Span, Span)]) -> Result<Vec<Span>, OutOfMemory> {
    let mut cuts = memory::room(2 * stairs.len(), STAIRS)?;
    cuts.extend(stairs.iter().flat_map(|(_, c)| [c.0, c.1]));
    cuts.sort_unstable();
    cuts.dedup();
    let met = |s: &Span| stairs.iter().any(|(_, c)| c.0 <= s.0 && s.1 <= c.1);
    let mut out = memory::room(cuts.len(), STAIRS)?;
    out.extend(cuts.windows(2).map(|w| (w[0], w[1])).filter(met));
    Ok(out)
}

/// Runs the columns of a tile of stairs. All rows see their columns in ascending order.
pub(super) fn climb<T: Lane>(
    block: &Block<'_>,
    width: usize,
    w: &mut Worker<T>,
    mut run: impl FnMut(&mut Worker<T>, Span),
) -> Result<(), OutOfMemory> {
    let mut of_row: Vec<Span> = memory::room(width, STAIRS)?;
    for (rows, columns) in block.stairs {
        of_row.extend((rows.0..rows.1).map(|_| *columns));
    }
    let mut before: Vec<T> = memory::room(w.state.len(), STAIRS)?;
    for segment in segments(block.stairs)? {
        let meets = |c: &Span| c.0 <= segment.0 && segment.1 <= c.1;
        if of_row.iter().all(meets) {
            run(w, segment);
            continue;
        }
        before.clear();
        before.extend_from_slice(&w.state);
        run(w, segment);
        // The state has a row of the tile in each lane. (No row is in those after the last.)
        for (row, _) in of_row.iter().enumerate().filter(|(_, c)| !meets(c)) {
            let lane = |all: usize| (row..all).step_by(width);
            lane(before.len()).for_each(|k| w.state[k] = before[k]);
        }
    }
    Ok(())
}
