//! Few kept rows and many columns: lanes along the columns, and pieces of the columns for the
//! threads. Pieces depend on the problem only, and so do the bits of the results.

use super::inputs::{Packer, Packing};
use super::select::{Panels, Passes};
use super::winners::Winners;
use super::worker::{Need, Worker};
use super::{CpuExecutable, Routines, device};
use crate::frame::CallMemory;
use crate::kernels::{self, Accumulation, BLOCK, Plan, StateLayout, StatePart};
use crate::pack::{Aligned, Lane};
use crate::pool;
use crate::routine::{Level, Routine};
use keops_core::error::{CompileError, RunError};
use keops_core::memory;
use keops_core::program::{Mode, Program};
use keops_core::reduce::{Order, Select};
use keops_core::spec::CheckedArgs;
use rayon::prelude::*;
use std::sync::atomic::Ordering;

/// Fewer columns are left to lanes along the rows.
const LEAST: usize = 4096;
/// Elements of the packed columns of a piece: they stay in the second-level cache.
const PIECE: usize = 1 << 16;
/// Columns of a piece come in multiples of this, of all turns of all levels.
const UNIT: usize = 1024;
/// Columns between two looks at the worst winner.
const LOOK: usize = 512;

/// Routines with lanes along the columns.
pub(super) struct Across {
    plan: Plan,
    /// Takes columns into the state.
    main: Routine,
    /// Brings the sums of the lanes under one pivot.
    rebase: Option<Routine>,
    /// The same for lanes along the rows.
    rebase_rows: Option<Routine>,
    initial: kernels::Initial,
}

impl Across {
    pub(super) fn new(
        p: &Program,
        full: Plan,
        rows: usize,
        level: Level,
    ) -> Result<Self, CompileError> {
        let plan = full.across(rows, full.lanes);
        let make = |code| Routine::new(&code, level, plan.lanes);
        let main = make(match p.mode {
            Mode::Sum => kernels::sum_code(p, &plan, false),
            Mode::PivotSum => kernels::pivot_code(p, &plan, false),
            Mode::Select { select, .. } => kernels::best_code(p, &plan, select.index),
        })?;
        let (mut rebase, mut rebase_rows) = (None, None);
        if p.mode == Mode::PivotSum {
            rebase = Some(make(kernels::rebase_code(p, &plan))?);
            rebase_rows = Some(make(kernels::rebase_code(p, &Plan { rows: 1, ..full }))?);
        }
        Ok(Across { plan, main, rebase, rebase_rows, initial: kernels::Initial::new(p, &plan) })
    }
    pub(super) fn all(&self) -> impl Iterator<Item = &Routine> {
        [Some(&self.main), self.rebase.as_ref(), self.rebase_rows.as_ref()].into_iter().flatten()
    }
}

/// What some columns contribute.
enum Part<T: Lane> {
    /// `[slot][row]` totals with what they lost, and `[row]` pivots.
    Sums(Vec<[T; 2]>, Vec<T>),
    /// `[slot][row]` best keys and their columns, -1 where there is none.
    Best(Vec<(T, i64)>),
    /// Several winners.
    Many(Winners<T>),
}

/// A sum of f64 with its rounding errors (Knuth's addition); not finite sums lose nothing.
#[derive(Clone, Copy, Default)]
struct Total(f64, f64);

impl Total {
    fn add(&mut self, v: f64) {
        let s = self.0 + v;
        let b = s - self.0;
        let e = (self.0 - (s - b)) + (v - b);
        self.0 = s;
        self.1 += if e.is_nan() { 0.0 } else { e };
    }
    fn split<T: Lane>(self) -> [T; 2] {
        let high = T::round(self.0 + self.1);
        let rest = (self.0 - high.to_f64()) + self.1;
        [high, T::round(if rest.is_finite() { rest } else { 0.0 })]
    }
}

/// Everything that the parts of one batch element share.
struct Shared<'s, 'a, T> {
    args: &'s CheckedArgs<'a>,
    single: &'s Routines,
    across: &'s Across,
    param: &'s Aligned<T>,
    index: Vec<usize>,
    rows: usize,
}

impl CpuExecutable {
    /// Are these arguments better served with lanes along the columns?
    pub(super) fn is_few(&self, args: &CheckedArgs<'_>) -> bool {
        let plan = &self.full.plan;
        let possible = match self.program.mode {
            Mode::Select { select, .. } if select.many => self.full.extremes.is_some(),
            Mode::Select { .. } => true,
            _ => plan.accumulation == Accumulation::Block,
        };
        possible
            && args.ranges().is_none()
            && (1..=plan.lanes / 2).contains(&args.rows())
            && args.columns() >= LEAST
    }
    /// Runs a reduction of few rows.
    pub(super) fn few<T: Lane>(
        &self,
        args: &CheckedArgs<'_>,
        mut values: Option<(&mut [T], usize)>,
        mut indices: Option<(&mut [i64], usize)>,
    ) -> Result<(), RunError> {
        let (rows, columns) = (args.rows(), args.columns());
        let (single, across) = (self.single()?, self.across(rows)?);
        let piece = (PIECE / self.program.reduced.len.max(1)).next_multiple_of(UNIT);
        let need = single.need.max(Need::of(across.all())).max(self.packing);
        let worker = || Worker::new(&self.program, &self.full.plan, need);
        let (mut param, same) = (Aligned::empty(), self.same_parameters(args));
        for batch in 0..args.batches() {
            let index = args.batch_index(batch);
            let mut own = worker()?;
            if batch == 0 || !same {
                self.parameters(args, &index, &mut param, &mut own)?;
            }
            let shared = Shared { args, single, across, param: &param, index, rows };
            let run = |w: &mut Option<Worker<T>>, start: usize| {
                let w = match w {
                    Some(w) => w,
                    None => w.insert(worker()?),
                };
                self.pack_rows(single, args, &shared.index, shared.param, (0, rows), w);
                self.part(&shared, (start, columns.min(start + piece)), w)
            };
            let starts = memory::collected((0..columns).step_by(piece), "the list of pieces")?;
            self.tasks.store(starts.len(), Ordering::Relaxed);
            let parts: Vec<Vec<Part<T>>> = pool::share(|| {
                starts.into_par_iter().map_init(|| None, run).collect::<Result<_, RunError>>()
            })??;
            let values =
                values.as_mut().map(|(v, dim)| &mut v[batch * rows * *dim..][..rows * *dim]);
            let indices =
                indices.as_mut().map(|(v, dim)| &mut v[batch * rows * *dim..][..rows * *dim]);
            self.pack_rows(single, args, &shared.index, shared.param, (0, rows), &mut own);
            self.combine(&shared, parts.into_iter().flatten(), values, indices, &mut own)?;
        }
        Ok(())
    }
    fn across(&self, rows: usize) -> Result<&Across, RunError> {
        let made = self.across[usize::from(rows > 1)].get_or_init(|| {
            let most = if rows > 1 { usize::MAX } else { 1 };
            Across::new(&self.program, self.full.plan, most, self.level)
        });
        made.as_ref().map_err(device)
    }
    /// What columns `start .. end` contribute.
    fn part<T: Lane>(
        &self,
        shared: &Shared<'_, '_, T>,
        (start, end): (usize, usize),
        w: &mut Worker<T>,
    ) -> Result<Vec<Part<T>>, RunError> {
        let columns = |range, packing, w: &mut Worker<T>| {
            let mut packed = Aligned::empty();
            let from = Packer { args: shared.args, index: &shared.index, param: shared.param };
            self.columns(&from, range, packing, &mut packed, w).map(|()| packed)
        };
        let select = match self.program.mode {
            Mode::Select { select, k } => (select, k),
            Mode::Sum | Mode::PivotSum => {
                let lanes = self.full.plan.lanes;
                let whole = start + (end - start) / lanes * lanes;
                let mut parts = vec![];
                if start < whole {
                    let panels = columns((start, whole), Packing::Panels, w)?;
                    parts.push(self.sums_across(shared, &panels, whole - start, w)?);
                }
                if whole < end {
                    let records = columns((whole, end), Packing::Records, w)?;
                    parts.push(self.sums_along(shared, &records, end - whole, w)?);
                }
                return Ok(parts);
            }
        };
        let panels = columns((start, end), Packing::Panels, w)?;
        let panels = Panels { data: &panels, range: (start, end) };
        Ok(vec![match select {
            (s, k) if s.many => Part::Many(self.many_across(shared, s, k, &panels, w)?),
            (s, _) => Part::Best(self.best_across(shared, s, &panels, w)?),
        }])
    }
    /// Sums of whole panels.
    fn sums_across<T: Lane>(
        &self,
        shared: &Shared<'_, '_, T>,
        panels: &[T],
        columns: usize,
        w: &mut Worker<T>,
    ) -> Result<Part<T>, RunError> {
        let (p, across, rows) = (&self.program, shared.across, shared.rows);
        let plan = &across.plan;
        let (n, lanes, layout) = (p.sums, plan.lanes, StateLayout::new(p, plan));
        let mut sums = memory::filled(n * rows, [T::default(); 2], "sums")?;
        let mut pivots = memory::filled(rows, T::default(), "pivots")?;
        // A lane takes as many columns in a call as a row does otherwise.
        let step = lanes * if p.mode == Mode::Sum { BLOCK } else { 4 * BLOCK };
        for first in (0..rows).step_by(plan.rows) {
            across.start(w);
            for j in (0..columns).step_by(step) {
                let count = step.min(columns - j);
                // The tile has twice as many rows at least, more than the routine's last.
                across.main.run(CallMemory {
                    reduced: &panels[j * p.reduced.len..][..count * p.reduced.len],
                    columns: count,
                    ..w.memory(shared.param, first)
                });
            }
            let here = (0..plan.rows).filter(|r| first + r < rows);
            if let Some(rebase) = &across.rebase {
                for r in here.clone() {
                    let old = &w.state[layout.pivot(r * lanes)..][..lanes];
                    let new = old.iter().fold(old[0], |a, &b| if b > a { b } else { a });
                    w.state[layout.at(StatePart::Block, 0, r * lanes)..][..lanes].fill(new);
                    pivots[first + r] = new;
                }
                self.rebase(rebase, shared.param, first, w);
            }
            for r in here {
                for s in 0..n {
                    let mut total = Total::default();
                    for section in [StatePart::Total, StatePart::Lost] {
                        let at = layout.at(section, s, r * lanes);
                        w.state[at..][..lanes].iter().for_each(|v| total.add(v.to_f64()));
                    }
                    sums[s * rows + first + r] = total.split();
                }
            }
        }
        Ok(Part::Sums(sums, pivots))
    }
    /// Sums of a few columns, lanes along the rows.
    fn sums_along<T: Lane>(
        &self,
        shared: &Shared<'_, '_, T>,
        records: &[T],
        columns: usize,
        w: &mut Worker<T>,
    ) -> Result<Part<T>, RunError> {
        let (p, rows) = (&self.program, shared.rows);
        let Some(main) = &shared.single.main else { unreachable!("sums have a routine") };
        let single = &shared.single;
        let layout = StateLayout::new(p, &single.plan);
        single.initial.fill(&mut w.state[..layout.len()]);
        main.run(CallMemory { reduced: records, columns, ..w.memory(shared.param, 0) });
        let sums = (0..p.sums * rows).map(|k| {
            let part = |section| w.state[layout.at(section, k / rows, k % rows)];
            [part(StatePart::Total), part(StatePart::Lost)]
        });
        let pivots = (0..rows).map(|r| w.state[layout.pivot(r)]);
        Ok(Part::Sums(memory::collected(sums, "sums")?, memory::collected(pivots, "pivots")?))
    }
    /// Brings the sums in the state under the pivots beside them.
    fn rebase<T: Lane>(&self, routine: &Routine, param: &[T], first: usize, w: &mut Worker<T>) {
        routine.run(w.memory(param, first));
    }
    /// The best key of every slot and row.
    fn best_across<T: Lane>(
        &self,
        shared: &Shared<'_, '_, T>,
        select: Select,
        panels: &Panels<'_, T>,
        w: &mut Worker<T>,
    ) -> Result<Vec<(T, i64)>, RunError> {
        let (p, across, rows) = (&self.program, shared.across, shared.rows);
        let plan = &across.plan;
        let (n, lanes, layout) = (p.keys, plan.lanes, StateLayout::new(p, plan));
        let min = select.order == Order::Min;
        let better = |a: T, b: T| if min { a < b } else { a > b };
        let worst = T::round(if min { f64::INFINITY } else { f64::NEG_INFINITY });
        let (start, end) = panels.range;
        let count = (end - start).next_multiple_of(lanes);
        let mut found = memory::filled(n * rows, (worst, -1), "winners")?;
        for first in (0..rows).step_by(plan.rows) {
            across.start(w);
            across.main.run(CallMemory {
                reduced: &panels.data[..count * p.reduced.len],
                columns: count,
                first: start,
                ..w.memory(shared.param, first)
            });
            for r in (0..plan.rows).filter(|r| first + r < rows) {
                for s in 0..n {
                    let place = |section| layout.at(section, s, r * lanes);
                    let keys = &w.state[place(StatePart::Best)..][..lanes];
                    let best = keys.iter().fold(worst, |a, &b| if better(b, a) { b } else { a });
                    // The earliest turn that had it.
                    let turns = &w.state[place(StatePart::Turn)..][..lanes];
                    let of_best = keys.iter().zip(turns).filter(|(k, _)| **k == best);
                    let turn = of_best.map(|(_, t)| t.bits() as usize).min();
                    let from = if best == worst { start } else { turn.unwrap_or(start) };
                    found[s * rows + first + r] = (best, from as i64);
                }
            }
        }
        let Some(find) = select.index.then_some(shared.single.find.as_ref()).flatten() else {
            return Ok(found);
        };
        for (k, (best, column)) in found.iter_mut().enumerate() {
            let (from, place) = (*column as usize, (k / rows, k % rows));
            let at = self.first(find, shared.param, panels, (from, end), place, *best, w)?;
            *column = at.map_or(-1, |j| j as i64);
        }
        Ok(found)
    }
    /// The best keys of every slot and row.
    fn many_across<T: Lane>(
        &self,
        shared: &Shared<'_, '_, T>,
        select: Select,
        k: usize,
        panels: &Panels<'_, T>,
        w: &mut Worker<T>,
    ) -> Result<Winners<T>, RunError> {
        let Some(passes) = Passes::of(shared.single) else { unreachable!("checked before") };
        let width = shared.single.plan.width();
        let turn = kernels::find_turn(shared.single.plan.lanes);
        let mut winners = Winners::new(w, select.order, k, self.program.keys * width)?;
        let (start, end) = panels.range;
        let live = (0..winners.lists()).filter(|list| list % width < shared.rows);
        winners.reserve(live.clone(), end - start)?;
        for list in live {
            // Short steps first, in which the worst winner improves most.
            let (mut j, mut step) = (start, kernels::GROUP);
            while j < end {
                let next = end.min(j + step);
                w.state[list] = winners.last(list).map_or(winners.worst(), |l| l.0);
                let (first, last) = (j / turn * turn, next.next_multiple_of(turn));
                let these = panels.at(first, last - first, self.program.reduced.len);
                let number = |c: usize| (j..next).contains(&(first + c)).then_some(first + c);
                let these = (these, last - first);
                self.search(&passes, shared.param, these, number, list, &mut winners, w)?;
                (j, step) = (next, (2 * step).min(LOOK));
            }
        }
        Ok(winners)
    }
    /// Results of the parts, in their order.
    fn combine<T: Lane>(
        &self,
        shared: &Shared<'_, '_, T>,
        parts: impl Iterator<Item = Part<T>>,
        values: Option<&mut [T]>,
        indices: Option<&mut [i64]>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let (mut sums, mut best, mut many) = (vec![], vec![], vec![]);
        for part in parts {
            match part {
                Part::Sums(s, p) => sums.push((s, p)),
                Part::Best(b) => best.push(b),
                Part::Many(m) => many.push(m),
            }
        }
        match self.program.mode {
            Mode::Sum | Mode::PivotSum => self.combine_sums(shared, &sums, values, w),
            Mode::Select { select, .. } if select.many => {
                let mut all = many.swap_remove(0);
                for m in &many {
                    all.merge(m)?;
                }
                all.finish();
                let width = shared.single.plan.width();
                all.write(shared.rows, width, values, indices);
                Ok(())
            }
            Mode::Select { select, .. } => {
                let min = select.order == Order::Min;
                let better = |a: T, b: T| if min { a < b } else { a > b };
                let n = self.program.keys;
                let mut out = (values, indices);
                for row in 0..shared.rows {
                    for s in 0..n {
                        let each = best.iter().map(|b| b[s * shared.rows + row]);
                        let all = each.reduce(|a, b| {
                            let later = better(b.0, a.0) || b.0 == a.0 && a.1 < 0;
                            if later { b } else { a }
                        });
                        let Some((value, column)) = all else { unreachable!("there are parts") };
                        if let Some(v) = &mut out.0 {
                            v[row * n + s] = value;
                        }
                        if let Some(i) = &mut out.1 {
                            i[row * n + s] = column;
                        }
                    }
                }
                Ok(())
            }
        }
    }
    fn combine_sums<T: Lane>(
        &self,
        shared: &Shared<'_, '_, T>,
        parts: &[(Vec<[T; 2]>, Vec<T>)],
        values: Option<&mut [T]>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let (p, rows, plan) = (&self.program, shared.rows, &shared.single.plan);
        let (n, layout) = (p.sums, StateLayout::new(p, plan));
        let at = |section, k: usize| layout.at(section, k / rows, k % rows);
        let mut totals = memory::filled(n * rows, Total::default(), "sums")?;
        let mut pivots = parts[0].1.clone();
        for (_, other) in parts {
            for (a, &b) in pivots.iter_mut().zip(other) {
                *a = if b > *a { b } else { *a };
            }
        }
        for (sums, own) in parts {
            for (k, s) in sums.iter().enumerate() {
                w.state[at(StatePart::Total, k)] = s[0];
                w.state[at(StatePart::Lost, k)] = s[1];
            }
            if let Some(rebase) = &shared.across.rebase_rows {
                w.state[layout.pivot(0)..][..rows].copy_from_slice(own);
                w.state[layout.start(StatePart::Block)..][..rows].copy_from_slice(&pivots);
                self.rebase(rebase, shared.param, 0, w);
            }
            for (k, t) in totals.iter_mut().enumerate() {
                t.add(w.state[at(StatePart::Total, k)].to_f64());
                t.add(w.state[at(StatePart::Lost, k)].to_f64());
            }
        }
        for (k, t) in totals.iter().enumerate() {
            let [high, low] = t.split();
            w.state[at(StatePart::Total, k)] = high;
            w.state[at(StatePart::Lost, k)] = low;
        }
        if p.mode == Mode::PivotSum {
            w.state[layout.pivot(0)..][..rows].copy_from_slice(&pivots);
        }
        self.finalise(shared.single, shared.param, values, w)
    }
}

impl Across {
    /// The state before the first column.
    fn start<T: Lane>(&self, w: &mut Worker<T>) {
        self.initial.fill(&mut w.state);
    }
}
