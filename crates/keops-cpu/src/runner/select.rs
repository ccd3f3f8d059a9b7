//! Selections: the best keys of a tile, one or several.

use super::{Block, CpuExecutable, Inputs, Job, Routines, Worker, job_columns, mask_words};
use crate::kernels::GROUP;
use crate::memory::Lane;
use crate::routine::Routine;
use keops_core::error::RunError;
use keops_core::reduce::{Order, Select};

impl CpuExecutable {
    /// The best key of every slot, and its column.
    pub(super) fn best<T: Lane>(
        &self,
        routines: &Routines,
        select: Select,
        inputs: &Inputs<T>,
        block: &Block,
        mut job: Job<'_, T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        let (n, width) = (p.keys, routines.plan.width());
        let Some(main) = &routines.main else { unreachable!("selections have a routine") };
        for &(start, end) in &block.columns {
            w.columns(main, p, &inputs.param, &inputs.reduced, start, end);
        }
        let rows = job.tile.rows.1 - job.tile.rows.0;
        if let Some(values) = &mut job.values {
            for row in 0..rows {
                for s in 0..n {
                    values[row * n + s] = w.state[s * width + row];
                }
            }
        }
        let (Some(indices), Some(keys)) = (&mut job.indices, &routines.keys) else { return Ok(()) };
        let worst =
            T::round(if select.order == Order::Min { f64::INFINITY } else { f64::NEG_INFINITY });
        // The state knows the turn of the loop in which the winner was found: find the column.
        let mut wanted: Vec<(usize, usize, usize)> = vec![];
        let mut unknown: Vec<(usize, usize)> = vec![];
        for row in 0..rows {
            for s in 0..n {
                indices[row * n + s] = -1;
                if w.state[s * width + row] == worst {
                    // An infinite key, or none at all: the first infinite key wins.
                    unknown.push((s, row));
                } else {
                    wanted.push((w.state[(n + s) * width + row].bits() as usize, s, row));
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
            w.columns(keys, p, &inputs.param, &inputs.reduced, start, end);
            for &(_, s, row) in same {
                let best = w.state[s * width + row];
                let at = (0..end - start).find(|c| w.out.data[(c * n + s) * width + row] == best);
                let Some(c) = at else { unreachable!("the same code computes the same key") };
                indices[row * n + s] = (start + c) as i64;
            }
        }
        for &(start, end) in &block.columns {
            let mut j = start;
            while j < end && !unknown.is_empty() {
                let next = end.min(j + turn);
                w.columns(keys, p, &inputs.param, &inputs.reduced, j, next);
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
        block: &Block,
        mut job: Job<'_, T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        let (n, width) = (p.keys, routines.plan.width());
        let lists = n * width;
        let mut winners = Winners::new(w, select.order, k, lists)?;
        let total: usize = block.columns.iter().map(|c| c.1 - c.0).sum();
        let mut done = false;
        // Coarse groups (several of the routine's) bound the k-th best; there have to be enough.
        let coarse = (total / (6 * k * GROUP)).clamp(1, 8);
        if let Some(extremes) = &routines.extremes
            && total >= 4 * k * GROUP
        {
            for &(start, end) in &block.columns {
                let mut j = start;
                while j < end {
                    let next = end.min(j + coarse * GROUP * GROUPS.max(2 * k));
                    self.pass(routines, extremes, coarse, inputs, (j, next), &mut winners, w)?;
                    j = next;
                }
            }
            // Rows with fewer finite keys than winners may have infinite ones.
            done = winners.count.iter().all(|&c| c >= k);
        }
        if !done {
            winners.restart();
            self.scan(routines, inputs, block, &mut winners, w)?;
        }
        let rows = job.tile.rows.1 - job.tile.rows.0;
        for row in 0..rows {
            for s in 0..n {
                let list = s * width + row;
                for q in 0..k {
                    let place = row * k * n + q * n + s;
                    let there = q < winners.count[list];
                    if let Some(v) = &mut job.values {
                        v[place] = if there { winners.keys[list * k + q] } else { winners.worst };
                    }
                    if let Some(i) = &mut job.indices {
                        i[place] = if there { winners.columns[list * k + q] as i64 } else { -1 };
                    }
                }
            }
        }
        winners.give_back(w);
        Ok(())
    }
    /// One pass of [`Self::many`] over columns.
    #[allow(clippy::too_many_arguments)]
    fn pass<T: Lane>(
        &self,
        routines: &Routines,
        extremes: &Routine,
        coarse: usize,
        inputs: &Inputs<T>,
        (start, end): (usize, usize),
        winners: &mut Winners<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        let (Some(main), Some(keys)) = (&routines.main, &routines.keys) else {
            unreachable!("selections have routines")
        };
        let (k, lists) = (winners.k, p.keys * routines.plan.width());
        let min = winners.order == Order::Min;
        let better = |a: T, b: T| if min { a < b } else { a > b };
        let groups = (end - start).div_ceil(GROUP);
        w.extremes.resize(groups * lists, "the extremes of groups")?;
        let whole = start + (end - start) / GROUP * GROUP;
        std::mem::swap(&mut w.out, &mut w.extremes);
        w.columns(extremes, p, &inputs.param, &inputs.reduced, start, whole);
        std::mem::swap(&mut w.out, &mut w.extremes);
        if whole < end {
            w.state[..lists].fill(winners.worst);
            w.columns(main, p, &inputs.param, &inputs.reduced, whole, end);
            let last = groups - 1;
            w.extremes.data[last * lists..groups * lists].copy_from_slice(&w.state[..lists]);
        }
        // The k-th best extreme of coarse groups bounds each list, and so does the k-th best key
        // so far.
        let coarse_groups = groups.div_ceil(coarse);
        w.bound.resize(lists, "bounds")?;
        w.coarse.resize(coarse_groups * lists, "the extremes of groups")?;
        let all = &w.extremes.data[..groups * lists];
        for (c, fine) in w.coarse.data.chunks_exact_mut(lists).zip(all.chunks(coarse * lists)) {
            c.copy_from_slice(&fine[..lists]);
            for f in fine[lists..].chunks_exact(lists) {
                for (c, f) in c.iter_mut().zip(f) {
                    *c = if better(*f, *c) { *f } else { *c };
                }
            }
        }
        let all = &w.coarse.data[..coarse_groups * lists];
        if coarse_groups < k {
            w.bound.data[..lists].fill(winners.worst);
        } else if k <= NETWORK {
            w.best.resize(k * lists, "bounds")?;
            let best = &mut w.best.data[..k * lists];
            best.fill(winners.worst);
            for e in all.chunks_exact(lists) {
                let value = &mut w.bound.data[..lists];
                value.copy_from_slice(e);
                for row in best.chunks_exact_mut(lists) {
                    for (r, v) in row.iter_mut().zip(value.iter_mut()) {
                        let (a, b) = (*r, *v);
                        let swap = better(b, a);
                        *r = if swap { b } else { a };
                        *v = if swap { a } else { b };
                    }
                }
            }
            w.bound.data[..lists].copy_from_slice(&best[(k - 1) * lists..]);
        } else {
            w.best.resize(coarse_groups, "bounds")?;
            let order = |a: &T, b: &T| {
                let natural = a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal);
                if min { natural } else { natural.reverse() }
            };
            for l in 0..lists {
                let column = &mut w.best.data[..coarse_groups];
                for (c, e) in column.iter_mut().zip(all[l..].iter().step_by(lists)) {
                    *c = *e;
                }
                w.bound.data[l] = *column.select_nth_unstable_by(k - 1, order).1;
            }
        }
        for l in 0..lists {
            if winners.count[l] >= k {
                let kth = winners.keys[l * k + k - 1];
                if better(kth, w.bound.data[l]) {
                    w.bound.data[l] = kth;
                }
            }
        }
        // Keys as good as the bound are wanted: the threshold is the next number.
        for (s, b) in w.state[..lists].iter_mut().zip(&w.bound.data[..lists]) {
            *s = b.beyond(min);
        }
        let step = self.step(lists * size_of::<T>());
        let mut g = 0;
        while g < groups {
            let hit = |g: usize| {
                let e = &w.extremes.data[g * lists..(g + 1) * lists];
                e.iter()
                    .zip(&w.bound.data[..lists])
                    .fold(false, |any, (e, b)| any | !better(*b, *e))
            };
            let first = g;
            while g < groups && (g - first) * GROUP < step && hit(g) {
                g += 1;
            }
            if first == g {
                g += 1;
                continue;
            }
            let range = (start + first * GROUP, end.min(start + g * GROUP));
            self.offer(routines, keys, inputs, range, true, winners, w)?;
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
        masked: bool,
        winners: &mut Winners<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        let plan = &routines.plan;
        let (lists, vectors, words) = (p.keys * plan.width(), p.keys * plan.rows, mask_words(plan));
        w.out.resize((end - start) * lists, "keys")?;
        if plan.registers {
            let need = (end - start) * vectors * words;
            if w.masks.len() < need {
                w.masks.resize(need, 0);
            }
        }
        w.columns(keys, p, &inputs.param, &inputs.reduced, start, end);
        for c in 0..end - start {
            let row = &w.out.data[c * lists..(c + 1) * lists];
            let column = (start + c) as u32;
            if !masked {
                for (list, v) in row.iter().enumerate() {
                    winners.offer(list, *v, column);
                }
                continue;
            }
            for v in 0..vectors {
                for word in 0..words {
                    let mut m = w.masks[(c * vectors + v) * words + word];
                    while m != 0 {
                        let list = v * plan.lanes + word * 32 + m.trailing_zeros() as usize;
                        m &= m - 1;
                        winners.offer(list, row[list], column);
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
        block: &Block,
        winners: &mut Winners<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let Some(keys) = &routines.keys else { unreachable!("selections have a routine") };
        let lists = winners.count.len();
        let step = self.step(lists * size_of::<T>());
        let mut full = false;
        for &(start, end) in &block.columns {
            let mut j = start;
            while j < end {
                let next = end.min(j + step);
                if full {
                    for (l, s) in w.state[..lists].iter_mut().enumerate() {
                        *s = winners.keys[l * winners.k + winners.k - 1];
                    }
                }
                self.offer(
                    routines,
                    keys,
                    inputs,
                    (j, next),
                    full && routines.plan.registers,
                    winners,
                    w,
                )?;
                full = full || winners.count.iter().all(|&c| c >= winners.k);
                j = next;
            }
        }
        Ok(())
    }
}

/// Winners up to which the bound is found for all lists at once.
const NETWORK: usize = 16;
/// Coarse groups of a pass, whose bound is as good as that of many more.
const GROUPS: usize = 64;

/// The best keys of every list so far, in order.
struct Winners<T> {
    order: Order,
    k: usize,
    worst: T,
    keys: Vec<T>,
    columns: Vec<u32>,
    count: Vec<usize>,
}

impl<T: Lane> Winners<T> {
    /// Takes the worker's memory.
    fn new(w: &mut Worker<T>, order: Order, k: usize, lists: usize) -> Result<Self, RunError> {
        let worst = T::round(if order == Order::Min { f64::INFINITY } else { f64::NEG_INFINITY });
        let mut new = std::mem::take(&mut w.winners);
        let total = lists.saturating_mul(k);
        let out = || RunError::OutOfMemory {
            what: "the lists of winners".into(),
            bytes: total.saturating_mul(size_of::<T>() + 4),
        };
        new.0.clear();
        new.1.clear();
        new.0.try_reserve_exact(total).map_err(|_| out())?;
        new.1.try_reserve_exact(total).map_err(|_| out())?;
        new.0.resize(total, worst);
        new.1.resize(total, 0);
        new.2.clear();
        new.2.resize(lists, 0);
        Ok(Winners { order, k, worst, keys: new.0, columns: new.1, count: new.2 })
    }
    fn give_back(self, w: &mut Worker<T>) {
        w.winners = (self.keys, self.columns, self.count);
    }
    fn restart(&mut self) {
        self.count.fill(0);
    }
    /// Inserts a key if it belongs to the best; equal keys stay behind those that came first.
    fn offer(&mut self, list: usize, key: T, column: u32) {
        let (k, have) = (self.k, self.count[list]);
        let keys = &mut self.keys[list * k..(list + 1) * k];
        let columns = &mut self.columns[list * k..(list + 1) * k];
        let min = self.order == Order::Min;
        let better = |a: T, b: T| if min { a < b } else { a > b };
        let is_number = key.partial_cmp(&key).is_some();
        if !is_number || have == k && !better(key, keys[k - 1]) {
            return;
        }
        let mut at = have.min(k - 1);
        while at > 0 && better(key, keys[at - 1]) {
            keys[at] = keys[at - 1];
            columns[at] = columns[at - 1];
            at -= 1;
        }
        keys[at] = key;
        columns[at] = column;
        self.count[list] = (have + 1).min(k);
    }
}
