//! Memory of one worker, which its thread keeps while it is small: a call of few rows and columns
//! asks for none.

use super::winners;
use crate::frame::CallMemory;
use crate::kernels::{Plan, StateLayout};
use crate::pack::{Aligned, Lane};
use crate::resident::Key;
use crate::routine::Routine;
use crate::vcode::Ty;
use keops_core::error::RunError;
use keops_core::memory;
use keops_core::program::Program;
use std::any::Any;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// What routines need beside their arguments and results.
#[derive(Clone, Copy, Default)]
pub(super) struct Need {
    /// Elements of scratch memory.
    scratch: usize,
    /// Bytes of the workspace.
    workspace: usize,
}

impl Need {
    /// Enough for each of them.
    pub(super) fn of<'r>(routines: impl Iterator<Item = &'r Routine>) -> Need {
        let one = |r: &Routine| Need { scratch: r.scratch(), workspace: r.workspace_bytes() };
        routines.map(one).fold(Need::default(), Need::max)
    }
    pub(super) fn max(self, other: Need) -> Need {
        Need {
            scratch: self.scratch.max(other.scratch),
            workspace: self.workspace.max(other.workspace),
        }
    }
}

/// Memory that grows on demand.
#[derive(Default)]
pub(super) struct Growing<T> {
    pub(super) data: Aligned<T>,
}

impl<T: Copy + Default> Growing<T> {
    pub(super) fn resize(&mut self, len: usize, what: &str) -> Result<(), RunError> {
        if self.data.len() < len {
            self.data = Aligned::new(len, what)?;
        }
        Ok(())
    }
    fn bytes(&self) -> usize {
        self.data.bytes()
    }
}

/// Memory of one worker.
#[derive(Default)]
pub(super) struct Worker<T: Lane> {
    pub(super) kept: Aligned<T>,
    pub(super) input: Aligned<T>,
    pub(super) state: Aligned<T>,
    pub(super) scratch: Aligned<T>,
    pub(super) workspace: Vec<MaybeUninit<u8>>,
    pub(super) out: Growing<T>,
    pub(super) masks: Growing<u32>,
    pub(super) hits: Growing<u32>,
    pub(super) wide: Growing<f64>,
    pub(super) bound: Growing<T>,
    pub(super) extremes: Growing<T>,
    /// Columns whose derived values are computed, and those.
    pub(super) lanes: Growing<T>,
    pub(super) derived: Growing<T>,
    /// First columns of the groups of a pass.
    pub(super) groups: Vec<u32>,
    /// Groups of each list that wait to be searched, and their numbers.
    pub(super) waiting: Growing<u32>,
    pub(super) waits: Growing<u32>,
    /// Columns to be searched.
    pub(super) gathered: Growing<T>,
    pub(super) winners: winners::Kept<T>,
}

impl<T: Lane> Worker<T> {
    pub(super) fn new(p: &Program, plan: &Plan, need: Need) -> Result<Self, RunError> {
        let mut new = Worker::default();
        new.fit(p, plan, need)?;
        Ok(new)
    }
    /// Makes it one for this program: as if it were new, but for memory that is written before it
    /// is read.
    pub(super) fn fit(&mut self, p: &Program, plan: &Plan, need: Need) -> Result<(), RunError> {
        let width = plan.width();
        let derived = !p.per_kept.insts.is_empty();
        let input = if derived { p.kept.input_len.max(1) * width } else { 0 };
        self.kept.reset(p.kept.len.max(1) * width, "a tile of rows")?;
        self.input.reset(input, "a tile of rows")?;
        self.state.reset(StateLayout::new(p, plan).len(), "the state of a tile")?;
        self.scratch.reset(need.scratch, "scratch memory")?;
        if self.workspace.len() < need.workspace {
            let any = MaybeUninit::uninit();
            self.workspace = memory::filled(need.workspace, any, "a workspace")?;
        }
        Ok(())
    }
    /// This worker's memory, for a tile from its row `row` on.
    pub(super) fn memory<'m>(&'m mut self, param: &'m [T], row: usize) -> CallMemory<'m, T> {
        CallMemory {
            kept: &self.kept[row..],
            state: &mut self.state,
            out: &mut self.out.data,
            masks: &mut self.masks.data,
            scratch: &mut self.scratch,
            ..CallMemory::new(param, &mut self.workspace)
        }
    }
    /// Runs a routine over columns `start .. end`.
    pub(super) fn columns(
        &mut self,
        r: &Routine,
        p: &Program,
        inputs: &Inputs<T>,
        (start, end): (usize, usize),
    ) {
        r.run(CallMemory {
            reduced: inputs.records(p, (start, end)),
            columns: end - start,
            first: start,
            ..self.memory(&inputs.param, 0)
        });
    }
    fn bytes(&self) -> usize {
        let tiles = [&self.kept, &self.input, &self.state, &self.scratch].map(|a| a.bytes());
        let grown =
            [&self.out, &self.bound, &self.extremes, &self.lanes, &self.derived, &self.gathered];
        let words = [&self.masks, &self.hits, &self.waiting, &self.waits].map(|a| a.bytes());
        tiles.iter().sum::<usize>()
            + grown.iter().map(|a| a.bytes()).sum::<usize>()
            + words.iter().sum::<usize>()
            + self.wide.bytes()
            + self.workspace.capacity()
            + size_of::<u32>() * self.groups.capacity()
            + winners::bytes::<T>(&self.winners)
    }
}

/// Parameters and columns of one batch element, packed.
#[derive(Default)]
pub(super) struct Inputs<T> {
    /// Batch elements may share them.
    pub(super) param: Arc<Aligned<T>>,
    pub(super) reduced: Aligned<T>,
    /// The columns again in panels, where rows are searched one by one.
    pub(super) panels: Aligned<T>,
    pub(super) index: Vec<usize>,
    /// Arguments that keep the columns, and the panels, afterwards.
    pub(super) held: [Option<Box<(usize, Key)>>; 2],
}

impl<T: Copy + Default> Inputs<T> {
    /// Parameters that nobody shares.
    pub(super) fn own_param(&mut self) -> &mut Aligned<T> {
        if Arc::strong_count(&self.param) > 1 {
            self.param = Arc::default();
        }
        match Arc::get_mut(&mut self.param) {
            Some(own) => own,
            None => unreachable!("nobody else has it, and there are no weak pointers"),
        }
    }
    /// The records of columns `start .. end`.
    pub(super) fn records(&self, p: &Program, (start, end): (usize, usize)) -> &[T] {
        &self.reduced[start * p.reduced.len..end * p.reduced.len]
    }
}

/// Memory of a call.
#[derive(Default)]
pub(super) struct Own<T: Lane> {
    pub(super) worker: Worker<T>,
    pub(super) inputs: Inputs<T>,
}

/// Larger memory is given back after the call.
const KEPT_BYTES: usize = 1 << 16;

thread_local! {
    /// What calls in f32 and in f64 have left.
    static KEPT: [Cell<Option<Box<dyn Any>>>; 2] = const { [Cell::new(None), Cell::new(None)] };
}

/// [`Own`], from the thread and back to it. A call inside of another one on the same thread, as
/// rayon makes them, has memory of its own.
pub(super) struct Borrowed<T: Lane>(Option<Box<Own<T>>>);

impl<T: Lane> Borrowed<T> {
    pub(super) fn new() -> Self {
        let kept = KEPT.try_with(|all| all[slot::<T>()].take()).ok().flatten();
        Borrowed(Some(kept.and_then(|own| own.downcast().ok()).unwrap_or_default()))
    }
}

fn slot<T: Lane>() -> usize {
    match T::TYPE {
        Ty::F32 => 0,
        Ty::F64 => 1,
    }
}

impl<T: Lane> Drop for Borrowed<T> {
    fn drop(&mut self) {
        let small = |own: &Own<T>| {
            let Inputs { param, reduced, panels, .. } = &own.inputs;
            own.worker.bytes() + param.bytes() + reduced.bytes() + panels.bytes() <= KEPT_BYTES
        };
        if let Some(own) = self.0.take().filter(|own| small(own)) {
            // Where the thread ends there is nowhere to keep it.
            let _ = KEPT.try_with(|all| all[slot::<T>()].set(Some(own)));
        }
    }
}
impl<T: Lane> Deref for Borrowed<T> {
    type Target = Own<T>;
    fn deref(&self) -> &Own<T> {
        self.0.as_ref().unwrap_or_else(|| unreachable!("it is given back at the end"))
    }
}
impl<T: Lane> DerefMut for Borrowed<T> {
    fn deref_mut(&mut self) -> &mut Own<T> {
        self.0.as_mut().unwrap_or_else(|| unreachable!("it is given back at the end"))
    }
}
