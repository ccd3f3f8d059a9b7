//! Cuts a reduction into tiles and runs them: blocks of rows and columns, threads, results.

use super::worker::{Borrowed, Inputs, Need, Own, Worker};
use super::{CpuExecutable, Routines, stairs};
use crate::kernels::{Accumulation, BLOCK, Plan, StateLayout};
use crate::pack::Lane;
use crate::pool;
use crate::routine::Routine;
use keops_core::error::{OutOfMemory, RunError};
use keops_core::memory;
use keops_core::program::Mode;
use keops_core::ranges::Pattern;
use keops_core::spec::CheckedArgs;
use rayon::prelude::*;
use std::sync::atomic::Ordering;

/// Pairs times operations below which one thread does all.
const SERIAL_WORK: usize = 200_000;

/// Elements of the packed columns of several batch elements at once.
const PACKED: usize = 1 << 20;

/// First row or column, and the one after the last.
pub(super) type Span = (usize, usize);

/// Rows that meet the same columns, or stairs.
pub(super) struct Block<'b> {
    pub(super) rows: Span,
    pub(super) columns: &'b [Span],
    /// Rows of one tile that meet one range of the columns each, in order.
    pub(super) stairs: &'b [(Span, Span)],
}

/// Blocks with their lists, which have one memory: ranges of single rows are as many as rows.
#[derive(Default)]
pub(super) struct List {
    pub(super) blocks: Vec<Listed>,
    pub(super) columns: Vec<Span>,
    pub(super) stairs: Vec<(Span, Span)>,
}

/// A block, with the places of its columns and stairs in a [`List`].
pub(super) struct Listed {
    pub(super) rows: Span,
    pub(super) columns: Span,
    pub(super) stairs: Span,
}

impl List {
    /// The blocks, to be run.
    fn blocks(&self) -> Result<Vec<Block<'_>>, OutOfMemory> {
        let block = |b: &Listed| Block {
            rows: b.rows,
            columns: &self.columns[b.columns.0..b.columns.1],
            stairs: &self.stairs[b.stairs.0..b.stairs.1],
        };
        memory::collected(self.blocks.iter().map(block), BLOCKS)
    }
    /// Adds rows that meet the columns from the number `first` of the list on.
    fn push(&mut self, rows: Span, first: usize) {
        let (columns, stairs) = ((first, self.columns.len()), (0, 0));
        self.blocks.push(Listed { rows, columns, stairs });
    }
}

impl Block<'_> {
    pub(super) fn rows(&self) -> usize {
        self.rows.1 - self.rows.0
    }
    /// The rows of its tiles.
    pub(super) fn tiles(&self, width: usize) -> impl Iterator<Item = Span> + use<> {
        let (start, end) = self.rows;
        (start..end).step_by(width).map(move |first| (first, end.min(first + width)))
    }
}

const BLOCKS: &str = "the list of blocks";

/// All rows in order, with the columns that they meet: the blocks of the ranges and, between them,
/// rows that meet nothing. With a plan, blocks of few rows may be joined to [stairs].
pub(super) fn blocks(
    pattern: &Pattern,
    rows: usize,
    plan: Option<&Plan>,
) -> Result<List, OutOfMemory> {
    let mut order: Vec<usize> = memory::room(pattern.blocks.len(), BLOCKS)?;
    order
        .extend((0..pattern.blocks.len()).filter(|&k| pattern.blocks[k][0] < pattern.blocks[k][1]));
    order.sort_unstable_by_key(|&k| pattern.blocks[k][0]);
    let ranges = order.iter().map(|&k| pattern.of_block(k).len()).sum();
    let mut out = List {
        // Between any two there may be rows that meet nothing.
        blocks: memory::room(2 * order.len() + 1, BLOCKS)?,
        columns: memory::room(ranges, BLOCKS)?,
        stairs: memory::room(if plan.is_some() { order.len() } else { 0 }, BLOCKS)?,
    };
    let mut join = plan.map(stairs::Join::new);
    let mut at = 0;
    for k in order {
        let [start, end] = pattern.blocks[k];
        let first = out.columns.len();
        if at < start {
            out.push((at, start), first);
        }
        // Selections prefer the lowest index, so columns go in ascending order.
        let met = pattern.of_block(k).iter().filter(|r| r[0] < r[1]);
        met.for_each(|r| out.columns.push((r[0], r[1])));
        if out.columns.len() > first + 1 {
            out.columns[first..].sort_unstable();
            // Ranges side by side become one.
            let mut last = first;
            for next in first + 1..out.columns.len() {
                let r = out.columns[next];
                if out.columns[last].1 == r.0 {
                    out.columns[last].1 = r.1;
                } else {
                    last += 1;
                    out.columns[last] = r;
                }
            }
            out.columns.truncate(last + 1);
        }
        out.push((start, end), first);
        if let Some(join) = &mut join {
            join.last(&mut out);
        }
        at = end;
    }
    if at < rows {
        out.push((at, rows), out.columns.len());
    }
    Ok(out)
}

/// A tile, with its part of the results.
pub(super) struct Job<'o, T> {
    pub(super) block: &'o Block<'o>,
    pub(super) rows: Span,
    pub(super) values: Option<&'o mut [T]>,
    pub(super) indices: Option<&'o mut [i64]>,
}

/// The next `rows` rows of a result.
pub(super) fn take<'o, T>(
    all: &mut Option<(&'o mut [T], usize)>,
    rows: usize,
) -> Option<&'o mut [T]> {
    let (slice, dim) = all.take()?;
    let (head, tail) = slice.split_at_mut(rows * dim);
    *all = Some((tail, dim));
    Some(head)
}

pub(super) fn mask_words(plan: &Plan) -> usize {
    plan.lanes.div_ceil(32)
}
pub(super) fn job_columns(block: &Block<'_>) -> usize {
    block.columns.last().map_or(0, |c| c.1)
}

impl CpuExecutable {
    pub(super) fn run_typed<T: Lane>(
        &self,
        args: &CheckedArgs<'_>,
        values: Option<(&mut [T], usize)>,
        indices: Option<(&mut [i64], usize)>,
    ) -> Result<(), RunError> {
        if self.is_few(args) {
            return self.few(args, values, indices);
        }
        let (rows, columns, batches) = (args.rows(), args.columns(), args.batches());
        let whole = [(0, columns)];
        let columns_met: &[Span] = if columns > 0 { &whole } else { &[] };
        let dense = [Block { rows: (0, rows), columns: columns_met, stairs: &[] }];
        if args.ranges().is_none() && batches == 1 && rows <= self.full.plan.width() {
            let (values, indices) = (values.map(|v| v.0), indices.map(|i| i.0));
            return self.one_tile(args, Job { block: &dense[0], rows: (0, rows), values, indices });
        }
        let (listed, borrowed);
        let blocks = match args.ranges() {
            None => &dense[..],
            Some(ranges) => {
                let full = &self.full.plan;
                let (plan, joins) = (self.climbs().then_some(full), self.climbs() as usize);
                let key = [rows, full.lanes, full.rows, joins];
                listed = ranges.derived(self.spec.axis, key, |p| blocks(p, rows, plan))?;
                borrowed = listed.blocks()?;
                &borrowed
            }
        };
        // Every block is cut into tiles.
        let (width, lanes) = (self.full.plan.width(), self.full.plan.lanes);
        let tiles = || blocks.iter().flat_map(|b| b.tiles(width).map(move |rows| (b, rows)));
        let count: usize = blocks.iter().map(|b| b.rows().div_ceil(width)).sum();
        let is_few = |n: usize| n <= lanes;
        // Only the last tile of a block has fewer rows than others.
        let last_is_few = |b: &Block<'_>| b.rows() > 0 && is_few((b.rows() - 1) % width + 1);
        let single = match blocks.iter().any(last_is_few) {
            true => Some(self.single()?),
            false => None,
        };
        let mut need =
            single.map_or(self.full.need, |s| self.full.need.max(s.need)).max(self.packing);
        if blocks.iter().any(|b| !b.stairs.is_empty()) {
            for routines in [Some(&self.full), single].into_iter().flatten() {
                let windowed = routines.windowed(&self.program, self.level)?;
                need = need.max(Need::of([windowed].into_iter()));
            }
        }
        let pairs: usize = blocks
            .iter()
            .map(|b| b.rows().saturating_mul(b.columns.iter().map(|c| c.1 - c.0).sum()))
            .fold(0, usize::saturating_add);
        let work = pairs.saturating_mul(self.cost).saturating_mul(batches);
        let run = |inputs: &Inputs<T>, job: Job<'_, T>, w: &mut Worker<T>| {
            let few = is_few(job.rows.1 - job.rows.0);
            let routines = if few { single.unwrap_or(&self.full) } else { &self.full };
            self.tile(routines, args, inputs, job, w)
        };
        // Every tile gets its own part of the results.
        let (mut values, mut indices) = (values, indices);
        let mut job = |(block, rows): (_, (usize, usize))| {
            let n = rows.1 - rows.0;
            Job { block, rows, values: take(&mut values, n), indices: take(&mut indices, n) }
        };
        let mut own = Borrowed::new();
        let own = &mut *own;
        own.worker.fit(&self.program, &self.full.plan, need)?;
        let jobs = count.saturating_mul(batches);
        let serial = work < SERIAL_WORK || jobs == 1;
        let same = self.same_parameters(args);
        self.tasks.store(if serial { 0 } else { jobs }, Ordering::Relaxed);
        if serial {
            for batch in 0..batches {
                let at = (batch, same && batch > 0);
                self.inputs(args, at, columns, &mut own.inputs, &mut own.worker)?;
                tiles().try_for_each(|tile| run(&own.inputs, job(tile), &mut own.worker))?;
                self.leave(args, &mut own.inputs);
            }
            return Ok(());
        }
        // Batch elements in groups, which bound the memory of packed columns (arguments may be
        // broadcast), with work for every thread in each.
        let packed = columns.saturating_mul(self.program.reduced.len).max(1);
        let busy = (2 * rayon::current_num_threads()).div_ceil(count.max(1));
        let group = (PACKED / packed).max(busy).min(batches);
        let mut inputs: Vec<Inputs<T>> = memory::room(group, "the batch elements")?;
        let mut list: Vec<(usize, Job<'_, T>)> =
            memory::room(group.saturating_mul(count), "the list of tiles")?;
        for start in (0..batches).step_by(group) {
            for k in 0..group.min(batches - start) {
                if inputs.len() == k {
                    inputs.push(Inputs::default());
                }
                let packed = same && start + k > 0;
                if packed {
                    inputs[k].param = inputs[0].param.clone();
                }
                let at = (start + k, packed);
                self.inputs(args, at, columns, &mut inputs[k], &mut own.worker)?;
                list.extend(tiles().map(|tile| (k, job(tile))));
            }
            let one = |w: &mut Option<Borrowed<T>>, (batch, job): (usize, Job<'_, T>)| {
                let w = match w {
                    Some(w) => w,
                    None => {
                        let w = w.insert(Borrowed::new());
                        w.worker.fit(&self.program, &self.full.plan, need)?;
                        w
                    }
                };
                run(&inputs[batch], job, &mut w.worker)
            };
            pool::share(|| {
                list.par_drain(..).map_init(|| None, one).collect::<Result<(), RunError>>()
            })??;
            inputs.iter_mut().for_each(|inputs| self.leave(args, inputs));
        }
        Ok(())
    }
    /// A call of so few rows that they are one tile, without the lists that others need.
    fn one_tile<T: Lane>(&self, args: &CheckedArgs<'_>, job: Job<'_, T>) -> Result<(), RunError> {
        let few = args.rows() <= self.full.plan.lanes;
        let routines = if few { self.single()? } else { &self.full };
        let mut own = Borrowed::new();
        let Own { worker, inputs } = &mut *own;
        worker.fit(&self.program, &routines.plan, routines.need.max(self.packing))?;
        self.tasks.store(0, Ordering::Relaxed);
        self.inputs(args, (0, false), args.columns(), inputs, worker)?;
        self.tile(routines, args, inputs, job, worker)?;
        self.leave(args, inputs);
        Ok(())
    }
    /// Writes the results of the sums in the state.
    pub(super) fn finalise<T: Lane>(
        &self,
        routines: &Routines,
        param: &[T],
        values: Option<&mut [T]>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let (results, width) = (self.program.results, routines.plan.width());
        let Some(finalise) = &routines.finalise else { unreachable!("sums have results") };
        w.out.resize(results * width, "results")?;
        finalise.run(w.memory(param, 0));
        let Some(values) = values else { return Ok(()) };
        for (k, line) in w.out.data.chunks_exact(width).take(results).enumerate() {
            let of_rows = values.chunks_exact_mut(results);
            of_rows.zip(line).for_each(|(row, v)| row[k] = *v);
        }
        Ok(())
    }
    pub(super) fn tile<T: Lane>(
        &self,
        routines: &Routines,
        args: &CheckedArgs<'_>,
        inputs: &Inputs<T>,
        mut job: Job<'_, T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        let (plan, block) = (&routines.plan, job.block);
        let layout = StateLayout::new(p, plan);
        let width = plan.width();
        if !block.columns.is_empty() {
            self.pack_rows(routines, args, &inputs.index, &inputs.param, job.rows, w);
        }
        routines.initial.fill(&mut w.state[..layout.len()]);
        match p.mode {
            Mode::Sum if block.columns.is_empty() => {
                if let Some(values) = &mut job.values {
                    values.fill(T::default());
                }
                Ok(())
            }
            Mode::Sum | Mode::PivotSum => {
                let Some(main) = &routines.main else { unreachable!("sums have a routine") };
                let n = p.sums * width;
                if plan.accumulation == Accumulation::Wide {
                    w.wide.resize(n, "wide sums")?;
                    w.wide.data[..n].fill(0.0);
                }
                let step = match (plan.accumulation, p.mode) {
                    (Accumulation::Block, Mode::Sum) => BLOCK,
                    // The totals are rebased once a call.
                    (Accumulation::Block, _) => 4 * BLOCK,
                    _ => usize::MAX,
                };
                let run = |w: &mut Worker<T>, (start, end): Span, stairs: Option<&Routine>| {
                    let mut j = start;
                    let step = if stairs.is_some() { step.min(stairs::MOST) } else { step };
                    while j < end {
                        let next = end.min(j.saturating_add(step));
                        if stairs.is_some() {
                            stairs::windows(block, job.rows.0, width, j, &mut w.scratch);
                        }
                        w.columns(stairs.unwrap_or(main), p, inputs, (j, next));
                        if plan.accumulation == Accumulation::Wide {
                            for k in 0..n {
                                let at = layout.wide(0, k);
                                let (lo, hi) = (w.state[at], w.state[at + 1]);
                                w.wide.data[k] += f64::from_bits(lo.bits() | hi.bits() << 32);
                            }
                        }
                        j = next;
                    }
                };
                if block.stairs.is_empty() {
                    block.columns.iter().for_each(|&columns| run(w, columns, None));
                } else {
                    let windowed = routines.windowed(p, self.level)?;
                    let parts = stairs::Hull::of(block.stairs).parts();
                    parts.for_each(|(columns, all)| run(w, columns, (!all).then_some(windowed)));
                }
                if plan.accumulation == Accumulation::Wide {
                    for k in 0..n {
                        w.state[k] = T::round(w.wide.data[k]);
                    }
                }
                self.finalise(routines, &inputs.param, job.values, w)
            }
            Mode::Select { select, k } if select.many => {
                self.many(routines, select, k, inputs, job, w)
            }
            Mode::Select { select, .. } => self.best(routines, select, inputs, job, w),
        }
    }
}
