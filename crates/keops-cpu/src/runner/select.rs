//! Selections: the best keys of a tile, one or several.

use super::tiles::{Block, Job, job_columns, mask_words};
use super::winners::Winners;
use super::worker::{Inputs, Worker};
use super::{CpuExecutable, Routines};
use crate::frame::CallMemory;
use crate::kernels::{self, COARSE, GROUP, NETWORK, StateLayout, StatePart};
use crate::pack::Lane;
use crate::routine::Routine;
use keops_core::error::RunError;
use keops_core::memory;
use keops_core::reduce::{Order, Select};
use std::mem::take;

impl CpuExecutable {
    /// The best key of every slot, and its column.
    pub(super) fn best<T: Lane>(
        &self,
        routines: &Routines,
        select: Select,
        inputs: &Inputs<T>,
        mut job: Job<'_, T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        let (n, width, block) = (p.keys, routines.plan.width(), job.block);
        let layout = StateLayout::new(p, &routines.plan);
        let Some(main) = &routines.main else { unreachable!("selections have a routine") };
        for &(start, end) in block.columns {
            w.columns(main, p, inputs, (start, end));
        }
        let rows = job.rows.1 - job.rows.0;
        if let Some(values) = &mut job.values {
            for row in 0..rows {
                for s in 0..n {
                    values[row * n + s] = w.state[layout.at(StatePart::Best, s, row)];
                }
            }
        }
        let Some(indices) = &mut job.indices else { return Ok(()) };
        let worst =
            T::round(if select.order == Order::Min { f64::INFINITY } else { f64::NEG_INFINITY });
        if let (Some(find), true) = (&routines.find, routines.plan.registers) {
            // The state knows the turn of the loop in which the winner was found. An infinite key,
            // or none at all: the first infinite key wins.
            let panels = Panels { data: &inputs.panels, range: (0, job_columns(block)) };
            for row in 0..rows {
                for s in 0..n {
                    let best = w.state[layout.at(StatePart::Best, s, row)];
                    let turn = w.state[layout.at(StatePart::Turn, s, row)].bits() as usize;
                    let mut found = None;
                    for &(start, end) in block.columns {
                        if best == worst {
                            let all = (start, end);
                            found =
                                self.first(find, &inputs.param, &panels, all, (s, row), best, w)?;
                        } else if (start..end).contains(&turn) {
                            let all = (turn, end);
                            found =
                                self.first(find, &inputs.param, &panels, all, (s, row), best, w)?;
                        }
                        if found.is_some() {
                            break;
                        }
                    }
                    indices[row * n + s] = found.map_or(-1, |j| j as i64);
                }
            }
            return Ok(());
        }
        let Some(keys) = &routines.keys else { unreachable!("indices have a routine") };
        // The same for long keys, all rows together.
        let mut wanted: Vec<(usize, usize, usize)> = memory::room(rows * n, "winners")?;
        let mut unknown: Vec<(usize, usize)> = memory::room(rows * n, "winners")?;
        for row in 0..rows {
            for s in 0..n {
                indices[row * n + s] = -1;
                if w.state[layout.at(StatePart::Best, s, row)] == worst {
                    // An infinite key, or none at all: the first infinite key wins.
                    unknown.push((s, row));
                } else {
                    wanted.push((
                        w.state[layout.at(StatePart::Turn, s, row)].bits() as usize,
                        s,
                        row,
                    ));
                }
            }
        }
        wanted.sort_unstable();
        let turn = routines.plan.columns;
        let columns = inputs.reduced.len().checked_div(p.reduced.len).unwrap_or(job_columns(block));
        w.out.resize(turn * n * width, "keys")?;
        for same in wanted.chunk_by(|a, b| a.0 == b.0) {
            let start = same[0].0;
            let end = (start + turn).min(columns);
            w.columns(keys, p, inputs, (start, end));
            for &(_, s, row) in same {
                let best = w.state[layout.at(StatePart::Best, s, row)];
                let at = (0..end - start).find(|c| w.out.data[(c * n + s) * width + row] == best);
                let Some(c) = at else { unreachable!("the same code computes the same key") };
                indices[row * n + s] = (start + c) as i64;
            }
        }
        for &(start, end) in block.columns {
            let mut j = start;
            while j < end && !unknown.is_empty() {
                let next = end.min(j + turn);
                w.columns(keys, p, inputs, (j, next));
                unknown.retain(|&(s, row)| {
                    let found =
                        (0..next - j).find(|c| w.out.data[(c * n + s) * width + row] == worst);
                    if let Some(c) = found {
                        indices[row * n + s] = (j + c) as i64;
                    }
                    found.is_none()
                });
                j = next;
            }
        }
        Ok(())
    }
    /// The first of some columns with this key in a slot of a row of the worker's tile.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn first<T: Lane>(
        &self,
        find: &Routine,
        param: &[T],
        panels: &Panels<'_, T>,
        (start, end): (usize, usize),
        (slot, row): (usize, usize),
        key: T,
        w: &mut Worker<T>,
    ) -> Result<Option<usize>, RunError> {
        let (n, lanes) = (self.program.keys, self.full.plan.lanes);
        let turn = kernels::find_turn(lanes);
        w.out.resize(turn * n, "keys")?;
        w.masks.resize(turn * n, "masks")?;
        for first in (start / turn * turn..end).step_by(turn) {
            let reduced = panels.at(first, turn, self.program.reduced.len);
            find.run(CallMemory { reduced, columns: turn, ..w.memory(param, row) });
            for j in first.max(start)..end.min(first + turn) {
                let c = j - first;
                if w.out.data[(c / lanes * n + slot) * lanes + c % lanes] == key {
                    return Ok(Some(j));
                }
            }
        }
        Ok(None)
    }
    /// The best `k` keys of every slot, in order.
    ///
    /// Extremes of groups of columns come first: the `k`-th best of them bounds the `k`-th best
    /// key, so that only groups with an extreme within the bound are looked at again, and only
    /// keys within the bound are inserted: about `k` insertions a row instead of `k (1 + ln(n/k))`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn many<T: Lane>(
        &self,
        routines: &Routines,
        select: Select,
        k: usize,
        inputs: &Inputs<T>,
        mut job: Job<'_, T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        let (n, width) = (p.keys, routines.plan.width());
        let lists = n * width;
        let (rows, block) = (job.rows.1 - job.rows.0, job.block);
        let columns = block.columns.iter().map(|c| c.1 - c.0).sum();
        let mut winners = Winners::new(w, select.order, k, lists)?;
        winners.reserve((0..lists).filter(|l| l % width < rows), columns)?;
        let few = 2 * rows <= routines.plan.lanes && !inputs.panels.is_empty();
        match Passes::of(routines) {
            Some(passes) if few => self.apart(&passes, inputs, block, rows, &mut winners, w)?,
            Some(passes) if passes.pay(block, k) => {
                self.passes(&passes, inputs, block, rows, &mut winners, w)?;
            }
            _ => self.scan(routines, inputs, block, rows, &mut winners, w)?,
        }
        winners.finish();
        winners.write(rows, width, job.values.as_deref_mut(), job.indices.as_deref_mut());
        winners.give_back(w);
        Ok(())
    }
    /// All columns for one row after the other, lanes along the columns: most lanes of a tile of few rows
    /// have none.
    fn apart<T: Lane>(
        &self,
        passes: &Passes<'_>,
        inputs: &Inputs<T>,
        block: &Block<'_>,
        rows: usize,
        winners: &mut Winners<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let (width, len) = (passes.routines.plan.width(), self.program.reduced.len);
        let turn = kernels::find_turn(passes.routines.plan.lanes);
        let panels = Panels { data: &inputs.panels, range: (0, usize::MAX) };
        for list in (0..winners.lists()).filter(|list| list % width < rows) {
            // Keys of the first turn bound those of the next ones.
            let mut turns = 1;
            w.state[list] = winners.worst();
            for &(start, end) in block.columns {
                let mut first = start / turn * turn;
                while first < end {
                    let count = (end - first).div_ceil(turn).min(turns) * turn;
                    let number = |c: usize| {
                        let column = first + c;
                        (start..end).contains(&column).then_some(column)
                    };
                    let columns = (panels.at(first, count, len), count);
                    self.search(passes, &inputs.param, columns, number, list, winners, w)?;
                    if let Some((kth, _)) = winners.last(list) {
                        w.state[list] = kth;
                        turns = BATCH;
                    }
                    first += count;
                }
            }
        }
        Ok(())
    }
    /// All columns, in passes over this many groups that their extremes stay in the cache.
    fn passes<T: Lane>(
        &self,
        passes: &Passes<'_>,
        inputs: &Inputs<T>,
        block: &Block<'_>,
        rows: usize,
        winners: &mut Winners<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let (lists, width) = (winners.lists(), passes.routines.plan.width());
        let stride = kernels::extremes_stride(lists);
        let most = PASS.max(4 * winners.k()).next_multiple_of(COARSE / GROUP);
        w.extremes.resize(most * stride, "the extremes of groups")?;
        let mut loose = memory::room(block.columns.len(), "columns")?;
        w.groups.clear();
        w.groups.try_reserve_exact(most).map_err(|_| memory::refused::<u32>(most, "groups"))?;
        for &(start, end) in block.columns {
            let mut j = start;
            while j < end {
                if w.groups.is_empty() {
                    w.state.fill(winners.worst());
                }
                let done = w.groups.len();
                let take = ((end - j) / COARSE * COARSE).min((most - done) * GROUP);
                if take > 0 {
                    passes.extremes.run(CallMemory {
                        kept: &w.kept,
                        reduced: inputs.records(&self.program, (j, j + take)),
                        state: &mut w.state,
                        out: &mut w.extremes.data[done * stride..],
                        scratch: &mut w.scratch,
                        columns: take,
                        first: j,
                        ..CallMemory::new(&inputs.param, &mut w.workspace)
                    });
                    w.groups.extend((j..j + take).step_by(GROUP).map(|g| g as u32));
                    j += take;
                }
                if end - j < COARSE && j < end {
                    loose.push((j, end));
                    j = end;
                }
                if w.groups.len() == most {
                    self.pass(passes, inputs, rows, winners, w)?;
                    w.groups.clear();
                }
            }
        }
        if !w.groups.is_empty() {
            self.pass(passes, inputs, rows, winners, w)?;
        }
        // What is left of each range are a few columns.
        let known = (0..lists).all(|list| list % width >= rows || winners.last(list).is_some());
        if known {
            for (list, s) in w.state[..lists].iter_mut().enumerate() {
                let min = winners.order() == Order::Min;
                *s = winners.last(list).map_or(winners.worst(), |l| l.0).beyond(min);
            }
        }
        for range in loose {
            self.offer(passes.routines, passes.keys, inputs, range, (rows, known), winners, w)?;
        }
        Ok(())
    }
    /// Offers the columns of the groups whose extremes have been found.
    fn pass<T: Lane>(
        &self,
        passes: &Passes<'_>,
        inputs: &Inputs<T>,
        rows: usize,
        winners: &mut Winners<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        let plan = &passes.routines.plan;
        let (k, lists, groups) = (winners.k(), winners.lists(), w.groups.len());
        let stride = kernels::extremes_stride(lists);
        let (width, vectors, words) = (plan.width(), p.keys * plan.rows, mask_words(plan));
        let order = winners.order();
        let better = |a: T, b: T| if order == Order::Min { a < b } else { a > b };
        // The k-th best extreme bounds each list, and so does the k-th best key so far.
        if k <= NETWORK {
            w.state.copy_within((k - 1) * lists..k * lists, 0);
        } else if groups < k {
            w.state[..lists].fill(winners.worst());
        } else {
            w.bound.resize(groups, "bounds")?;
            let ascending = |a: &T, b: &T| {
                let natural = a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal);
                if order == Order::Min { natural } else { natural.reverse() }
            };
            let all = &w.extremes.data[..groups * stride];
            for (l, s) in w.state[..lists].iter_mut().enumerate() {
                let column = &mut w.bound.data[..groups];
                for (c, e) in column.iter_mut().zip(all[l..].iter().step_by(stride)) {
                    *c = *e;
                }
                *s = *column.select_nth_unstable_by(k - 1, ascending).1;
            }
        }
        for (l, s) in w.state[..lists].iter_mut().enumerate() {
            if let Some((kth, _)) = winners.last(l)
                && better(kth, *s)
            {
                *s = kth;
            }
        }
        let need = groups * vectors * words;
        w.hits.resize(need, "masks")?;
        passes.hits.run(CallMemory {
            reduced: &w.extremes.data,
            state: &mut w.state,
            masks: &mut w.hits.data,
            scratch: &mut w.scratch,
            columns: groups,
            ..CallMemory::new(&inputs.param, &mut w.workspace)
        });
        let batch = self.batch();
        w.waiting.resize(lists * batch, "groups to be searched")?;
        w.waits.resize(lists, "groups to be searched")?;
        w.waits.data[..lists].fill(0);
        for g in 0..groups {
            let start = w.groups[g];
            for v in 0..vectors {
                for word in 0..words {
                    let mut m = w.hits.data[(g * vectors + v) * words + word];
                    while m != 0 {
                        let list = v * plan.lanes + word * 32 + m.trailing_zeros() as usize;
                        m &= m - 1;
                        if list % width >= rows {
                            continue;
                        }
                        if let Some((kth, column)) = winners.last(list) {
                            let best = w.extremes.data[g * stride + list];
                            if !better(best, kth) && (best != kth || start > column) {
                                continue;
                            }
                        }
                        let waits = w.waits.data[list] as usize;
                        w.waiting.data[list * batch + waits] = start;
                        w.waits.data[list] += 1;
                        if waits + 1 == batch {
                            self.waiting(passes, inputs, list, winners, w)?;
                        }
                    }
                }
            }
        }
        (0..lists).try_for_each(|list| self.waiting(passes, inputs, list, winners, w))
    }
    /// Groups that are searched together.
    fn batch(&self) -> usize {
        // They are copied to one place: long records are not worth it.
        if self.program.reduced.len <= 16 { BATCH } else { 1 }
    }
    /// Searches the groups that wait for it.
    fn waiting<T: Lane>(
        &self,
        passes: &Passes<'_>,
        inputs: &Inputs<T>,
        list: usize,
        winners: &mut Winners<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let (batch, count) = (self.batch(), take(&mut w.waits.data[list]) as usize);
        if count == 0 {
            return Ok(());
        }
        let better = |a: T, b: T| if winners.order() == Order::Min { a < b } else { a > b };
        if let Some((kth, _)) = winners.last(list)
            && better(kth, w.state[list])
        {
            w.state[list] = kth;
        }
        // Whole turns, each with the first column of its group, which may lie in two of them.
        let turn = kernels::find_turn(passes.routines.plan.lanes);
        let (waiting, mut gathered) = (take(&mut w.waiting), take(&mut w.gathered));
        let (mut turns, mut all) = ([(0, 0); 2 * BATCH], 0);
        for &start in &waiting.data[list * batch..][..count] {
            let start = start as usize;
            for first in (start / turn * turn..start + GROUP).step_by(turn) {
                turns[all] = (first, start);
                all += 1;
            }
        }
        let turns = &turns[..all];
        let panels = Panels { data: &inputs.panels, range: (0, usize::MAX) };
        let len = self.program.reduced.len;
        let reduced = if count == 1 {
            panels.at(turns[0].0, all * turn, len)
        } else {
            gathered.resize(2 * BATCH * turn * len, "columns to be searched")?;
            let places = gathered.data.chunks_exact_mut((turn * len).max(1));
            for (to, &(first, _)) in places.zip(turns) {
                // (There may be nothing to copy, and memory of an earlier call.)
                to[..turn * len].copy_from_slice(panels.at(first, turn, len));
            }
            &gathered.data[..all * turn * len]
        };
        let number = |c: usize| {
            let (first, start) = turns[c / turn];
            let column = first + c % turn;
            (start..start + GROUP).contains(&column).then_some(column)
        };
        self.search(passes, &inputs.param, (reduced, all * turn), number, list, winners, w)?;
        (w.waiting, w.gathered) = (waiting, gathered);
        Ok(())
    }
    /// Offers those of some columns, in whole turns, to one list that are as good as its bound in
    /// the state. `number` says which columns they are, and which of them are not to be offered.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn search<T: Lane>(
        &self,
        passes: &Passes<'_>,
        param: &[T],
        (reduced, columns): (&[T], usize),
        number: impl Fn(usize) -> Option<usize>,
        list: usize,
        winners: &mut Winners<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        let plan = &passes.routines.plan;
        let (n, lanes, words) = (p.keys, plan.lanes, mask_words(plan));
        let (slot, row) = (list / plan.width(), list % plan.width());
        let turn = kernels::find_turn(lanes);
        w.out.resize(columns * n, "keys")?;
        // Masks have room for one a column, as their pointer moves.
        w.masks.resize(columns * n * words, "masks")?;
        // Of the tile and of the bounds the code reads every `width`-th element.
        passes.find.run(CallMemory {
            kept: &w.kept[row..],
            reduced,
            state: &mut w.state[row..],
            out: &mut w.out.data,
            masks: &mut w.masks.data,
            scratch: &mut w.scratch,
            columns,
            ..CallMemory::new(param, &mut w.workspace)
        });
        for v in 0..columns / lanes {
            let place = v * n + slot;
            let (vectors, at) = (turn / lanes, v % (turn / lanes));
            let mask = v / vectors * turn * n + at * n + slot;
            for word in 0..words {
                let mut m = w.masks.data[mask * words + word];
                while m != 0 {
                    let lane = word * 32 + m.trailing_zeros() as usize;
                    m &= m - 1;
                    if let Some(column) = number(v * lanes + lane) {
                        winners.offer(list, w.out.data[place * lanes + lane], column as u32);
                    }
                }
            }
        }
        Ok(())
    }
    /// Columns whose keys stay in the first-level cache.
    fn step(&self, bytes: usize) -> usize {
        (16_384 / bytes.max(1)).clamp(8, 64)
    }
    /// Computes keys of a few columns and offers them to the winners: those below the threshold
    /// in the state, or all.
    #[allow(clippy::too_many_arguments)]
    fn offer<T: Lane>(
        &self,
        routines: &Routines,
        keys: &Routine,
        inputs: &Inputs<T>,
        (start, end): (usize, usize),
        (rows, masked): (usize, bool),
        winners: &mut Winners<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        let plan = &routines.plan;
        let (width, vectors, words) = (plan.width(), p.keys * plan.rows, mask_words(plan));
        let lists = p.keys * width;
        w.out.resize((end - start) * lists, "keys")?;
        if plan.registers {
            let need = (end - start) * vectors * words;
            w.masks.resize(need, "masks")?;
        }
        w.columns(keys, p, inputs, (start, end));
        for c in 0..end - start {
            let row = &w.out.data[c * lists..(c + 1) * lists];
            let column = (start + c) as u32;
            if !masked {
                for (list, v) in row.iter().enumerate().filter(|(l, _)| l % width < rows) {
                    winners.offer(list, *v, column);
                }
                continue;
            }
            for v in 0..vectors {
                for word in 0..words {
                    let mut m = w.masks.data[(c * vectors + v) * words + word];
                    while m != 0 {
                        let list = v * plan.lanes + word * 32 + m.trailing_zeros() as usize;
                        m &= m - 1;
                        if list % width < rows {
                            winners.offer(list, row[list], column);
                        }
                    }
                }
            }
        }
        Ok(())
    }
    /// All columns in order, against the `k`-th best so far.
    fn scan<T: Lane>(
        &self,
        routines: &Routines,
        inputs: &Inputs<T>,
        block: &Block<'_>,
        rows: usize,
        winners: &mut Winners<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let Some(keys) = &routines.keys else { unreachable!("selections have a routine") };
        let (lists, width) = (winners.lists(), routines.plan.width());
        let step = self.step(lists * size_of::<T>());
        let mut full = false;
        for &(start, end) in block.columns {
            let mut j = start;
            while j < end {
                let next = end.min(j + step);
                if full {
                    for (l, s) in w.state[..lists].iter_mut().enumerate() {
                        *s = winners.last(l).map_or(winners.worst(), |l| l.0);
                    }
                }
                self.offer(
                    routines,
                    keys,
                    inputs,
                    (j, next),
                    (rows, full && routines.plan.registers),
                    winners,
                    w,
                )?;
                full = full || (0..lists).all(|l| l % width >= rows || winners.last(l).is_some());
                j = next;
            }
        }
        Ok(())
    }
}

/// Columns in panels of as many as a vector has lanes.
pub(super) struct Panels<'p, T> {
    pub data: &'p [T],
    /// Their numbers; panels may go on behind the end.
    pub range: (usize, usize),
}

impl<T> Panels<'_, T> {
    /// The panels of `count` columns from `first` on, whole ones, of `len` components.
    pub fn at(&self, first: usize, count: usize, len: usize) -> &[T] {
        &self.data[(first - self.range.0) * len..][..count * len]
    }
}

/// Most groups that are searched together.
const BATCH: usize = 16;

/// Groups of a pass: their extremes stay in the second-level cache.
const PASS: usize = 2048;

/// The routines of several winners.
pub(super) struct Passes<'r> {
    routines: &'r Routines,
    extremes: &'r Routine,
    hits: &'r Routine,
    find: &'r Routine,
    keys: &'r Routine,
}

impl<'r> Passes<'r> {
    pub fn of(routines: &'r Routines) -> Option<Passes<'r>> {
        Some(Passes {
            routines,
            extremes: routines.extremes.as_ref()?,
            hits: routines.hits.as_ref()?,
            find: routines.find.as_ref()?,
            keys: routines.keys.as_ref()?,
        })
    }
    /// Are there enough groups for a bound?
    fn pay(&self, block: &Block<'_>, k: usize) -> bool {
        let whole: usize = block.columns.iter().map(|c| (c.1 - c.0) / COARSE).sum();
        if k <= NETWORK { whole > k } else { whole * (COARSE / GROUP) > 2 * k }
    }
}
