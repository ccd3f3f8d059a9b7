//! Compiled reductions: which code there is, and which of it a call runs.
//!
//! | file | holds |
//! |---|---|
//! | `tiles` | the way of a call with many rows: blocks, tiles, threads, results |
//! | `few` | the way of a call with few rows: lanes along the columns |
//! | `inputs` | arguments packed for both |
//! | `select`, `winners` | tiles of selections |
//! | `stairs` | tiles whose rows meet one range of columns each |
//! | `worker` | the memory of a thread |

mod few;
mod inputs;
mod select;
mod stairs;
mod tiles;
mod winners;
mod worker;

use crate::kernels::{self, Accumulation, Machine, NARROW, Plan};
use crate::pack::{Aligned, on_host};
use crate::routine::{Level, Routine};
use crate::vcode::Ty;
use crate::{Cpu, exec_mem, resident};
use keops_core::data::{Buffer, Element};
use keops_core::error::{CompileError, RunError};
use keops_core::program::{Mode, Program, SInst, Stream};
use keops_core::spec::{CheckedArgs, Executable, ReduceSpec};
use keops_core::with_view;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use worker::Need;

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
    /// See [`Routines::windowed`].
    windowed: OnceLock<Result<Routine, CompileError>>,
    /// What all of them but the last need.
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
    /// The same for fewer rows than a vector has lanes, with so many components that their tile would be
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
            Mode::Sum => main = Some(make(kernels::sum_code(p, &plan, false))?),
            Mode::PivotSum => main = Some(make(kernels::pivot_code(p, &plan, false))?),
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
        let windowed = OnceLock::new();
        let mut new = Routines {
            plan,
            main,
            keys,
            extremes,
            hits,
            find,
            per_kept,
            finalise,
            windowed,
            need,
            initial,
        };
        new.need = Need::of(new.all());
        Ok(new)
    }
    fn all(&self) -> impl Iterator<Item = &Routine> {
        let selecting = [&self.keys, &self.extremes, &self.hits, &self.find];
        let others = [&self.main, &self.per_kept, &self.finalise];
        let windowed = self.windowed.get().and_then(|r| r.as_ref().ok());
        selecting.into_iter().chain(others).flatten().chain(windowed)
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
                on_host(arg, |view| {
                    with_view!(view, v => match v.as_slice() {
                        Some(all) => all.iter().all(harmless),
                        None => v.iter().all(harmless),
                    })
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
