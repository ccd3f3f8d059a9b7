//! Runs compiled reductions: packing, tiles, blocks of columns, threads, results.

use crate::{Cpu, exec_mem, resident};
mod few;
mod select;
mod stairs;
mod winners;
mod worker;

use crate::frame::Memory;
use crate::kernels::{self, Accumulation, BLOCK, Machine, NARROW, Plan};
use crate::memory::{Aligned, Lane, local, pack_kept, pack_panels, pack_param, pack_reduced};
use crate::pool;
use crate::resident::Key;
use crate::routine::{Level, Routine};
use crate::vcode::Ty;
use keops_core::data::{Buffer, Element};
use keops_core::error::{CompileError, OutOfMemory, RunError};
use keops_core::memory;
use keops_core::program::{Field, Mode, Program, SInst, Source, Stream};
use keops_core::ranges::Pattern;
use keops_core::spec::{CheckedArgs, Executable, ReduceSpec};
use keops_core::with_view;
use rayon::prelude::*;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use worker::{Borrowed, Inputs, Need, Worker};

/// Pairs times operations below which one thread does all.
const SERIAL_WORK: usize = 200_000;

/// Elements of the packed columns of several batch elements at once.
const PACKED: usize = 1 << 20;

/// Routines for one height of tiles.
struct Routines {
    plan: Plan,
    /// Takes columns into the state (sums, or best keys).
    main: Option<Routine>,
    /// Writes keys.
    keys: Option<Routine>,
    /// Writes the best keys of groups of columns.
    extremes: Option<Routine>,
    /// Compares those with bounds.
    hits: Option<Routine>,
    /// Writes the keys of one row.
    find: Option<Routine>,
    per_kept: Option<Routine>,
    finalise: Option<Routine>,
    /// What all of them need.
    need: Need,
    initial: kernels::Initial,
}

/// A compiled reduction, made by [`Cpu::compile_executable`](crate::Cpu::compile_executable). It
/// may be run by several threads at once.
///
/// ```
/// use keops_core::data::{DType, Element};
/// use keops_core::spec::{Axis, CheckedArgs, Executable};
/// use keops_core::{parse::parse_formula, reduce::SUM};
/// use keops_cpu::{Cpu, CpuExecutable};
/// let spec = parse_formula("Square(y)", None, &["y = Vj(1)"])?.spec(&SUM, Axis::J, DType::F64);
/// let compiled: CpuExecutable = Cpu::new().compile_executable(&spec)?;
/// let y = ndarray::array![[1.0], [2.0], [3.0]].into_dyn();
/// let args = CheckedArgs::new(&spec, vec![f64::erase(y.view())], None, None, None)?;
/// let mut out = args.allocate(&spec)?;
/// compiled.run(&args, &mut out)?;
/// assert_eq!(out[0].to_f64()[[0, 0]], 14.0);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub struct CpuExecutable {
    program: Program,
    level: Level,
    spec: ReduceSpec,
    full: Routines,
    /// Tiles of one row vector, for the rest of rows; made when first needed.
    single: OnceLock<Result<Routines, CompileError>>,
    /// Lanes along the columns, for one row and for several; made when first needed.
    across: [OnceLock<Result<few::Across, CompileError>>; 2],
    per_reduced: Option<(Plan, Routine)>,
    once: Option<(Plan, Routine)>,
    /// What those two need.
    packing: Need,
    /// Passes over the derived parameters: one more for each table that is made of another one.
    passes: usize,
    /// The same without factors taken out of sums; made when first needed.
    plain: OnceLock<Result<Box<CpuExecutable>, CompileError>>,
    /// The same for fewer rows than a vector has lanes, of so many components that their tile would be
    /// most of the memory; made when first needed.
    narrow: OnceLock<Result<Box<CpuExecutable>, CompileError>>,
    /// Does the portable level serve where memory is refused for what is made later?
    pub(crate) falls_back: bool,
    portable: OnceLock<Result<Box<CpuExecutable>, CompileError>>,
    /// Elements of the parameters, with what reads of tables may touch.
    param_room: usize,
    /// Instructions per pair, to guess the work.
    cost: usize,
    /// See [`CpuExecutable::tasks`].
    tasks: AtomicUsize,
    /// No other has it.
    number: u64,
}

/// Components of a row from which a tile takes megabytes.
const VERY_LONG: usize = 1 << 15;

/// Arguments of these sizes, and zeros, are harmless as factors of sums: products of a few of them
/// neither overflow nor lose digits below the normal numbers.
const TAME: std::ops::RangeInclusive<f64> = 1e-9..=1e4;

fn device(e: &CompileError) -> RunError {
    RunError::Device { backend: "cpu".into(), message: e.to_string() }
}

fn row_routine(plan: &Plan, s: &Stream, level: Level) -> Result<Option<Routine>, CompileError> {
    if s.insts.is_empty() {
        return Ok(None);
    }
    Routine::compile(&kernels::row_code(plan, s), level, plan.lanes).map(Some)
}

impl Routines {
    /// Compiles what a program needs, to be loaded.
    fn new(p: &Program, plan: Plan, level: Level) -> Result<Routines, CompileError> {
        let make = |code| Routine::compile(&code, level, plan.lanes);
        let (main, mut keys, mut extremes, mut finalise);
        let (mut hits, mut find) = (None, None);
        (keys, extremes, finalise) = (None, None, None);
        match p.mode {
            Mode::Sum => main = Some(make(kernels::sum_code(p, &plan))?),
            Mode::PivotSum => main = Some(make(kernels::pivot_code(p, &plan))?),
            Mode::Select { select, .. } => {
                if select.many {
                    extremes = kernels::extremes_code(p, &plan).map(make).transpose()?;
                }
                if extremes.is_some() {
                    hits = Some(make(kernels::hits_code(p, &plan))?);
                }
                // Several winners of long keys are found by looking at all of them.
                let one = select.index && !select.many && (plan.registers || plan.rows == 1);
                if extremes.is_some() || one {
                    find = Some(make(kernels::find_code(p, &plan))?);
                }
                main = Some(make(kernels::best_code(p, &plan, select.index && !select.many))?);
                if select.many || select.index && !plan.registers {
                    keys = Some(make(kernels::keys_code(p, &plan, select.many))?);
                }
            }
        }
        if p.results > 0 {
            finalise = Some(make(kernels::finalise_code(p, &plan))?);
        }
        let per_kept = row_routine(&plan, &p.per_kept, level)?;
        let (need, initial) = (Need::default(), kernels::Initial::new(p, &plan));
        let mut new =
            Routines { plan, main, keys, extremes, hits, find, per_kept, finalise, need, initial };
        new.need = Need::of(new.all());
        Ok(new)
    }
    fn all(&self) -> impl Iterator<Item = &Routine> {
        let selecting = [&self.keys, &self.extremes, &self.hits, &self.find];
        let others = [&self.main, &self.per_kept, &self.finalise];
        selecting.into_iter().chain(others).flatten()
    }
    fn all_mut(&mut self) -> impl Iterator<Item = &mut Routine> {
        let selecting = [&mut self.keys, &mut self.extremes, &mut self.hits, &mut self.find];
        let others = [&mut self.main, &mut self.per_kept, &mut self.finalise];
        selecting.into_iter().chain(others).flatten()
    }
}

impl CpuExecutable {
    /// Compiles a program.
    pub(crate) fn new(
        spec: &ReduceSpec,
        program: Program,
        accumulation: Accumulation,
        level: Level,
        machine: Machine,
    ) -> Result<CpuExecutable, CompileError> {
        let plan = kernels::plan(&program, machine, accumulation);
        let mut full = Routines::new(&program, plan, level)?;
        let row_plan = Plan { rows: 1, columns: 1, ..plan };
        let mut per_reduced = row_routine(&row_plan, &program.per_reduced, level)?;
        let mut once = if program.once.insts.is_empty() {
            None
        } else {
            let code = kernels::once_code(&program, &row_plan);
            Some(Routine::compile(&code, level, row_plan.lanes)?)
        };
        Routine::load(full.all_mut().chain(&mut per_reduced).chain(&mut once))?;
        let param_room = kernels::param_room(&program);
        if param_room > kernels::MAX_PARAM {
            return Err(CompileError::Limit {
                what: "the number of entries of all parameters, with a table filled up to a power of 2,"
                    .into(),
                limit: kernels::MAX_PARAM,
                got: param_room,
            });
        }
        let packing = Need::of(per_reduced.iter().chain(&once));
        let passes = 1 + kernels::gathers(&program.once);
        let cost = program.key.insts.len() + program.add.insts.len();
        Ok(CpuExecutable {
            program,
            level,
            spec: spec.clone(),
            full,
            single: OnceLock::new(),
            across: [OnceLock::new(), OnceLock::new()],
            per_reduced: per_reduced.map(|r| (row_plan, r)),
            once: once.map(|r| (row_plan, r)),
            packing,
            passes,
            plain: OnceLock::new(),
            narrow: OnceLock::new(),
            falls_back: false,
            portable: OnceLock::new(),
            param_room,
            cost,
            tasks: AtomicUsize::new(0),
            number: resident::number(),
        })
    }
    /// Is everything machine code, of all that was compiled so far? (Some is made when it is first
    /// needed.)
    ///
    /// ```
    /// # use keops_core::{data::DType, parse::parse_formula, reduce::MAX, spec::Axis};
    /// use keops_cpu::{Cpu, Level};
    /// let f = parse_formula("y", None, &["y = Vj(1)"])?;
    /// let portable = Cpu::with_level(Level::Portable).expect("always there");
    /// let compiled = portable.compile_executable(&f.spec(&MAX, Axis::J, DType::F32))?;
    /// assert!(!compiled.is_native());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn is_native(&self) -> bool {
        let single = self.single.get().and_then(|s| s.as_ref().ok());
        let plain = self.plain.get().and_then(|p| p.as_ref().ok());
        let across = self.across.iter().filter_map(|a| a.get()?.as_ref().ok());
        self.full
            .all()
            .chain([&self.per_reduced, &self.once].into_iter().flatten().map(|(_, r)| r))
            .chain(across.flat_map(|a| a.all()))
            .all(|r| r.is_native())
            && single.is_none_or(|s| s.all().all(|r| r.is_native()))
            && plain.is_none_or(|p| p.is_native())
    }
    /// Tasks that the last run handed to the caller's thread pool; 0 where there was too little
    /// work to share. It does not depend on the number of threads.
    ///
    /// ```
    /// # use keops_core::data::{DType, Element};
    /// # use keops_core::spec::{Axis, CheckedArgs, Executable};
    /// # use keops_core::{parse::parse_formula, reduce::MAX};
    /// use keops_cpu::Cpu;
    /// let f = parse_formula("y", None, &["y = Vj(1)"])?;
    /// let spec = f.spec(&MAX, Axis::J, DType::F32);
    /// let compiled = Cpu::new().compile_executable(&spec)?;
    /// let y = ndarray::array![[1.0_f32], [3.0]].into_dyn();
    /// let args = CheckedArgs::new(&spec, vec![f32::erase(y.view())], None, None, None)?;
    /// compiled.run(&args, &mut args.allocate(&spec)?)?;
    /// assert_eq!(compiled.tasks(), 0); // two numbers
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }
    fn single(&self) -> Result<&Routines, RunError> {
        if self.full.plan.rows == 1 {
            return Ok(&self.full);
        }
        let made = self.single.get_or_init(|| {
            let plan = Plan { rows: 1, ..self.full.plan };
            let mut new = Routines::new(&self.program, plan, self.level)?;
            Routine::load(new.all_mut())?;
            Ok(new)
        });
        made.as_ref().map_err(device)
    }
    fn run_typed<T: Lane>(
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
        let (listed, borrowed);
        let blocks = match args.ranges() {
            None => &dense[..],
            Some(ranges) => {
                let all = blocks(ranges.pattern(self.spec.axis)?, rows)?;
                listed = match self.climbs() {
                    true => stairs::joined(all, self.full.plan.lanes)?,
                    false => all,
                };
                borrowed = memory::collected(listed.iter().map(Listed::block), BLOCKS)?;
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
        let need = single.map_or(self.full.need, |s| self.full.need.max(s.need)).max(self.packing);
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
    /// Do all batch elements have the same parameters?
    fn same_parameters(&self, args: &CheckedArgs<'_>) -> bool {
        self.program.param.fields.iter().all(|f| match f.source {
            Source::Argument(k) => {
                let shape = args.args()[k].shape();
                shape[..shape.len() - 1].iter().all(|&extent| extent == 1)
            }
            _ => true,
        })
    }
    /// Packs parameters (unless they are packed) and columns of one batch element.
    fn inputs<T: Lane>(
        &self,
        args: &CheckedArgs<'_>,
        (batch, packed): (usize, bool),
        columns: usize,
        to: &mut Inputs<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let index = args.batch_index(batch);
        if !packed {
            self.parameters(args, &index, to.own_param(), w)?;
        }
        (to.index, to.held) = (index, [None, None]);
        let from = Packer { args, index: &to.index, param: &to.param };
        to.held[0] = self.whole(&from, columns, Packing::Records, &mut to.reduced, w)?;
        if self.full.find.is_some() && (self.full.extremes.is_none() || columns >= kernels::COARSE)
        {
            to.held[1] = self.whole(&from, columns, Packing::Panels, &mut to.panels, w)?;
            return Ok(());
        }
        to.panels.reset(0, "no panels")
    }
    /// Packs all columns; the fields of arrays that are held may have been packed by an earlier call.
    /// Returns the argument that keeps the columns afterwards.
    fn whole<T: Lane>(
        &self,
        from: &Packer<'_, T>,
        columns: usize,
        packing: Packing,
        packed: &mut Aligned<T>,
        w: &mut Worker<T>,
    ) -> Result<Option<Box<(usize, Key)>>, RunError> {
        let (record, all) = (&self.program.reduced, (0, columns));
        let args = from.args.args();
        if columns == 0 || args.iter().all(|a| a.resident().is_none()) {
            self.columns(from, all, packing, packed, w)?;
            return Ok(None);
        }
        let lanes = match packing {
            Packing::Records => 1,
            Packing::Panels => self.full.plan.lanes,
        };
        let derive = Some(self.number).filter(|_| self.program.param.len == 0);
        let made = Key::new::<T>(record, args, (lanes, columns), from.index, derive);
        let Some((owner, key)) = made else {
            self.columns(from, all, packing, packed, w)?;
            return Ok(None);
        };
        match resident::of(&args[owner]).and_then(|array| array.take(&key)) {
            None => self.columns(from, all, packing, packed, w)?,
            Some(kept) => {
                *packed = kept;
                let fields = record.fields.iter().enumerate();
                let others = fields.filter(|(k, _)| !key.holds(*k)).map(|(_, f)| *f);
                self.fields(&others.collect::<Vec<_>>(), from, all, packing, packed);
                if !key.has_derived() {
                    self.derived(from, all, packing, packed, w)?;
                }
            }
        }
        Ok(Some(Box::new((owner, key))))
    }
    /// Leaves packed columns with the arrays that keep them.
    fn leave<T: Lane>(&self, args: &CheckedArgs<'_>, inputs: &mut Inputs<T>) {
        let Inputs { held, reduced, panels, .. } = inputs;
        for (held, packed) in held.iter_mut().zip([reduced, panels]) {
            if let Some((owner, key)) = held.take().map(|h| *h)
                && let Some(array) = resident::of(&args.args()[owner])
            {
                array.put(key, std::mem::take(packed));
            }
        }
    }
    /// Packs parameters, derived values included.
    fn parameters<T: Lane>(
        &self,
        args: &CheckedArgs<'_>,
        index: &[usize],
        param: &mut Aligned<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        param.reset(self.param_room, "parameters")?;
        pack_param(&p.param.fields, args.args(), index, param);
        let Some((plan, r)) = &self.once else { return Ok(()) };
        let raw: usize = p.param.fields.iter().map(|f| f.dim).sum();
        w.out.resize((p.param.len - raw) * plan.lanes, "parameters")?;
        // Tables are read from the parameters, where derived ones come after a pass.
        for _ in 0..self.passes {
            r.run(Memory {
                state: &mut w.out.data,
                scratch: &mut w.scratch,
                ..Memory::new(param, &mut w.workspace)
            });
            let mut changed = false;
            for k in raw..p.param.len {
                let made = w.out.data[(k - raw) * plan.lanes];
                changed |= made.bits() != param[k].bits();
                param[k] = made;
            }
            if !changed {
                break;
            }
        }
        Ok(())
    }
    /// Packs columns `start .. end`, derived values included.
    fn columns<T: Lane>(
        &self,
        from: &Packer<'_, T>,
        (start, end): Span,
        packing: Packing,
        packed: &mut Aligned<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let (record, count) = (&self.program.reduced, self.packed_count(start, end, packing));
        let total = record.len.checked_mul(count).unwrap_or(usize::MAX / 16);
        packed.reset(total, "the packed columns")?;
        if record.len == 0 || start == end {
            return Ok(());
        }
        self.fields(&record.fields, from, (start, end), packing, packed);
        self.derived(from, (start, end), packing, packed, w)
    }
    /// Columns that are packed for `start .. end`: panels come in whole turns of the code that reads
    /// them.
    fn packed_count(&self, start: usize, end: usize, packing: Packing) -> usize {
        match packing {
            Packing::Records => end - start,
            Packing::Panels => {
                (end - start).next_multiple_of(kernels::find_turn(self.full.plan.lanes))
            }
        }
    }
    /// Packs some fields of columns `start .. end`.
    fn fields<T: Lane>(
        &self,
        fields: &[Field],
        from: &Packer<'_, T>,
        columns: Span,
        packing: Packing,
        packed: &mut [T],
    ) {
        let (stride, lanes) = (self.program.reduced.len, self.full.plan.lanes);
        let args = from.args.args();
        match packing {
            Packing::Records => pack_reduced(fields, args, from.index, columns, stride, packed),
            Packing::Panels => {
                pack_panels(fields, args, from.index, columns, (stride, lanes), packed)
            }
        }
    }
    /// Computes the derived values of columns `start .. end`.
    fn derived<T: Lane>(
        &self,
        from: &Packer<'_, T>,
        (start, end): Span,
        packing: Packing,
        packed: &mut [T],
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        let Some((_, r)) = &self.per_reduced else { return Ok(()) };
        let (stride, lanes) = (p.reduced.len, self.full.plan.lanes);
        let raw: usize = p.reduced.fields.iter().map(|f| f.dim).sum();
        let input = p.reduced.input_len.max(1) * lanes;
        w.lanes.resize(input, "a tile")?;
        w.derived.resize(stride * lanes, "a tile")?;
        let tile = &mut w.lanes.data[..input];
        let derived = &mut w.derived.data[..stride * lanes];
        for j in (0..self.packed_count(start, end, packing)).step_by(lanes) {
            let rows = ((start + j).min(end - 1), end.min(start + j + lanes));
            pack_kept(&p.reduced.input_fields, from.args.args(), from.index, rows, lanes, tile);
            r.run(Memory {
                kept: tile,
                state: derived,
                scratch: &mut w.scratch,
                ..Memory::new(from.param, &mut w.workspace)
            });
            match packing {
                Packing::Panels => {
                    let panel = &mut packed[j * stride..(j + lanes) * stride];
                    panel[raw * lanes..].copy_from_slice(&derived[raw * lanes..]);
                }
                Packing::Records => {
                    let records = packed[j * stride..].chunks_exact_mut(stride).take(lanes);
                    for (k, record) in records.enumerate() {
                        for c in raw..stride {
                            record[c] = derived[c * lanes + k];
                        }
                    }
                }
            }
        }
        Ok(())
    }
    fn tile<T: Lane>(
        &self,
        routines: &Routines,
        args: &CheckedArgs<'_>,
        inputs: &Inputs<T>,
        mut job: Job<'_, T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        let (plan, block) = (&routines.plan, job.block);
        let width = plan.width();
        if !block.columns.is_empty() {
            self.pack_rows(routines, args, &inputs.index, &inputs.param, job.rows, w);
        }
        routines.initial.fill(&mut w.state[..plan.state_len(p)]);
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
                let run = |w: &mut Worker<T>, (start, end): Span| {
                    let mut j = start;
                    while j < end {
                        let next = end.min(j.saturating_add(step));
                        w.columns(main, p, inputs, (j, next));
                        if plan.accumulation == Accumulation::Wide {
                            for k in 0..n {
                                let (lo, hi) = (w.state[2 * n + 2 * k], w.state[2 * n + 2 * k + 1]);
                                w.wide.data[k] += f64::from_bits(lo.bits() | hi.bits() << 32);
                            }
                        }
                        j = next;
                    }
                };
                if block.stairs.is_empty() {
                    block.columns.iter().for_each(|&columns| run(w, columns));
                } else {
                    stairs::climb(block, width, w, run)?;
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

impl CpuExecutable {
    /// Packs the rows of a tile, derived values included.
    fn pack_rows<T: Lane>(
        &self,
        routines: &Routines,
        args: &CheckedArgs<'_>,
        index: &[usize],
        param: &[T],
        rows: (usize, usize),
        w: &mut Worker<T>,
    ) {
        let record = &self.program.kept;
        let width = routines.plan.width();
        let tile = &mut w.kept[..record.len * width];
        pack_kept(&record.fields, args.args(), index, rows, width, tile);
        let Some(r) = &routines.per_kept else { return };
        let input = &mut w.input[..record.input_len.max(1) * width];
        pack_kept(&record.input_fields, args.args(), index, rows, width, input);
        // Derived values go into the tile, whose record has room for them.
        r.run(Memory {
            kept: &w.input,
            state: &mut w.kept,
            scratch: &mut w.scratch,
            ..Memory::new(param, &mut w.workspace)
        });
    }
    /// Writes the results of the sums in the state.
    fn finalise<T: Lane>(
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
}

fn mask_words(plan: &Plan) -> usize {
    plan.lanes.div_ceil(32)
}
fn job_columns(block: &Block<'_>) -> usize {
    block.columns.last().map_or(0, |c| c.1)
}

/// First row or column, and the one after the last.
type Span = (usize, usize);

/// How columns lie in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    /// Record after record.
    Records,
    /// In panels of as many columns as a vector has lanes, component after component.
    Panels,
}

/// What columns of one batch element are packed from.
struct Packer<'p, T> {
    args: &'p CheckedArgs<'p>,
    index: &'p [usize],
    param: &'p [T],
}

/// Rows that meet the same columns, or stairs.
struct Block<'b> {
    rows: Span,
    columns: &'b [Span],
    /// Rows of one tile that meet one range of the columns each, in order.
    stairs: &'b [(Span, Span)],
}

/// A block with its lists.
struct Listed {
    rows: Span,
    columns: Vec<Span>,
    stairs: Vec<(Span, Span)>,
}

impl Listed {
    fn new(rows: Span, columns: Vec<Span>) -> Listed {
        Listed { rows, columns, stairs: vec![] }
    }
    fn block(&self) -> Block<'_> {
        Block { rows: self.rows, columns: &self.columns, stairs: &self.stairs }
    }
}

impl Block<'_> {
    fn rows(&self) -> usize {
        self.rows.1 - self.rows.0
    }
    /// The rows of its tiles.
    fn tiles(&self, width: usize) -> impl Iterator<Item = Span> + use<> {
        let (start, end) = self.rows;
        (start..end).step_by(width).map(move |first| (first, end.min(first + width)))
    }
}

const BLOCKS: &str = "the list of blocks";

/// All rows in order, with the columns that they meet: the blocks of the ranges and, between them,
/// rows that meet nothing.
fn blocks(pattern: &Pattern, rows: usize) -> Result<Vec<Listed>, OutOfMemory> {
    let mut order: Vec<usize> = memory::room(pattern.blocks.len(), BLOCKS)?;
    order
        .extend((0..pattern.blocks.len()).filter(|&k| pattern.blocks[k][0] < pattern.blocks[k][1]));
    order.sort_unstable_by_key(|&k| pattern.blocks[k][0]);
    // Between any two there may be rows that meet nothing.
    let mut out = memory::room(2 * order.len() + 1, BLOCKS)?;
    let mut at = 0;
    for k in order {
        let [start, end] = pattern.blocks[k];
        if at < start {
            out.push(Listed::new((at, start), vec![]));
        }
        // Selections prefer the lowest index, so columns go in ascending order.
        let met = pattern.of_block(k);
        let mut list: Vec<(usize, usize)> = memory::room(met.len(), BLOCKS)?;
        list.extend(met.iter().filter(|r| r[0] < r[1]).map(|r| (r[0], r[1])));
        list.sort_unstable();
        let mut columns: Vec<(usize, usize)> = memory::room(list.len(), BLOCKS)?;
        for r in list {
            match columns.last_mut() {
                Some(last) if last.1 == r.0 => last.1 = r.1,
                _ => columns.push(r),
            }
        }
        out.push(Listed::new((start, end), columns));
        at = end;
    }
    if at < rows {
        out.push(Listed::new((at, rows), vec![]));
    }
    Ok(out)
}

/// A tile, with its part of the results.
struct Job<'o, T> {
    block: &'o Block<'o>,
    rows: Span,
    values: Option<&'o mut [T]>,
    indices: Option<&'o mut [i64]>,
}

/// The next `rows` rows of a result.
fn take<'o, T>(all: &mut Option<(&'o mut [T], usize)>, rows: usize) -> Option<&'o mut [T]> {
    let (slice, dim) = all.take()?;
    let (head, tail) = slice.split_at_mut(rows * dim);
    *all = Some((tail, dim));
    Some(head)
}

impl CpuExecutable {
    /// Runs the same reduction with all factors inside the sums.
    fn run_plain(&self, args: &CheckedArgs<'_>, out: &mut [Buffer]) -> Result<(), RunError> {
        let cpu = Cpu { level: self.level, falls_back: false };
        let made =
            self.plain.get_or_init(|| cpu.compile_with(&self.spec, false).map(Box::new)).as_ref();
        made.map_err(device)?.run_code(args, out)
    }
    /// Runs, with factors taken out of sums as long as the results are as without.
    fn run_any(&self, args: &CheckedArgs<'_>, out: &mut [Buffer]) -> Result<(), RunError> {
        fn harmless<T: Element>(v: &T) -> bool {
            let v = v.to_f64();
            v == 0.0 || TAME.contains(&v.abs())
        }
        let tame = |k: &usize| {
            let arg = &args.args()[*k];
            let look = || {
                with_view!(&*local(arg), v => match v.as_slice() {
                    Some(all) => all.iter().all(harmless),
                    None => v.iter().all(harmless),
                })
            };
            match resident::of(arg) {
                Some(array) => array.harmless(look),
                None => look(),
            }
        };
        if !self.program.tame.iter().all(tame) {
            return self.run_plain(args, out);
        }
        self.run_code(args, out)?;
        let finite = |b: &Buffer| match b {
            Buffer::F32(a) => a.as_slice().is_some_and(|a| a.iter().all(|v| v.is_finite())),
            Buffer::F64(a) => a.as_slice().is_some_and(|a| a.iter().all(|v| v.is_finite())),
            _ => true,
        };
        if self.program.factored && !out.iter().all(finite) {
            return self.run_plain(args, out);
        }
        Ok(())
    }
    /// Would most of a tile of long rows be empty?
    fn is_wide_for(&self, args: &CheckedArgs<'_>) -> bool {
        let (p, lanes) = (&self.program, self.full.plan.lanes);
        let slots = p.kept.len.max(Plan::slots(p)).max(p.results);
        slots >= VERY_LONG && lanes > NARROW && 2 * args.rows() <= lanes && !self.is_few(args)
    }
    /// Runs with as few lanes as there are, interpreted.
    fn run_narrow(&self, args: &CheckedArgs<'_>, out: &mut [Buffer]) -> Result<(), RunError> {
        let made = self.narrow.get_or_init(|| {
            let cpu = Cpu { level: Level::Portable, falls_back: false };
            let machine = Machine { lanes_f32: NARROW, ..cpu.level.machine() };
            cpu.compile_for(&self.spec, self.program.factored, machine).map(Box::new)
        });
        made.as_ref().map_err(device)?.run_code(args, out)
    }
    fn run_code(&self, args: &CheckedArgs<'_>, out: &mut [Buffer]) -> Result<(), RunError> {
        if self.is_wide_for(args) {
            return self.run_narrow(args, out);
        }
        let wrong = || RunError::Device {
            backend: "cpu".into(),
            message: "result buffers do not fit the reduction".into(),
        };
        let mut f32s = None;
        let mut f64s = None;
        let mut indices = None;
        for (spec, buffer) in self.spec.outputs().iter().zip(out.iter_mut()) {
            if buffer.shape().iter().product::<usize>() != args.batches() * args.rows() * spec.dim {
                return Err(wrong());
            }
            match buffer {
                Buffer::F32(a) => f32s = Some((a.as_slice_mut().ok_or_else(wrong)?, spec.dim)),
                Buffer::F64(a) => f64s = Some((a.as_slice_mut().ok_or_else(wrong)?, spec.dim)),
                Buffer::I64(a) => indices = Some((a.as_slice_mut().ok_or_else(wrong)?, spec.dim)),
                _ => return Err(wrong()),
            }
        }
        // f32 data may be computed in f64 (wide accumulation of long vectors).
        match (self.full.plan.ty, f32s) {
            (Ty::F32, f) => self.run_typed(args, f, indices),
            (Ty::F64, None) => self.run_typed(args, f64s, indices),
            (Ty::F64, Some((slice, dim))) => {
                let mut wide = Aligned::<f64>::new(slice.len(), "results")?;
                self.run_typed(args, Some((&mut wide[..], dim)), indices)?;
                for (s, w) in slice.iter_mut().zip(wide.iter()) {
                    *s = *w as f32;
                }
                Ok(())
            }
        }
    }
}

impl Executable for CpuExecutable {
    fn run(&self, args: &CheckedArgs<'_>, out: &mut [Buffer]) -> Result<(), RunError> {
        if args.rows() == 0 {
            // Nothing to write, for however many batch elements.
            return Ok(());
        }
        if args.args().iter().any(|a| a.resident().is_some() && a.on_host().is_none()) {
            let message = "an argument is held by another device".into();
            return Err(RunError::Device { backend: "cpu".into(), message });
        }
        let done = self.run_any(args, out);
        if !(self.falls_back && matches!(done, Err(RunError::Device { .. }))) || exec_mem::granted()
        {
            return done;
        }
        let cpu = Cpu { level: Level::Portable, falls_back: false };
        let made = self.portable.get_or_init(|| cpu.compile_with(&self.spec, true).map(Box::new));
        made.as_ref().map_err(device)?.run(args, out)
    }
    fn bytes(&self) -> usize {
        let stream = |(_, s): &(&str, &Stream)| s.insts.len() * (size_of::<SInst>() + 24);
        let program = self.program.sections().iter().map(stream).sum::<usize>();
        let single = self.single.get().and_then(|s| s.as_ref().ok());
        let across = self.across.iter().filter_map(|a| a.get()?.as_ref().ok());
        let routines = (self.full.all())
            .chain([&self.per_reduced, &self.once].into_iter().flatten().map(|(_, r)| r))
            .chain(single.into_iter().flat_map(|s| s.all()))
            .chain(across.flat_map(|a| a.all()));
        let others = [&self.plain, &self.narrow, &self.portable].into_iter();
        let others = others.filter_map(|p| p.get()?.as_ref().ok()).map(|p| p.bytes());
        // Code lies in whole pages.
        size_of::<Self>()
            + program
            + routines.map(|r| r.bytes()).sum::<usize>()
            + others.sum::<usize>()
            + (1 << 13)
    }
    fn source(&self) -> Option<String> {
        Some(format!(
            "{}\n{:?}\n{}",
            self.program,
            self.full.plan,
            self.full
                .main
                .as_ref()
                .or(self.full.keys.as_ref())
                .map_or(String::new(), |r| r.listing())
        ))
    }
}
