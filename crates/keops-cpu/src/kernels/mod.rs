//! The routines of a program: vector code for each mode, built from the streams by one generator.
//!
//! A routine reads and writes the state of a tile of kept rows (`Base::State`), whose layout is [`StateLayout`].
//!
//! Lanes usually run along the kept rows, and a column is broadcast to them. A plan *across*
//! ([`Plan::across`]) has the lanes along the columns instead: a vector holds as many columns, and
//! kept rows are broadcast. It serves few kept rows, and the search of one row's winners.

mod rows;
mod select;
mod state;
mod sums;

pub use rows::{MAX_PARAM, finalise_code, gathers, once_code, param_room, row_code};
pub use select::{
    COARSE, GROUP, NETWORK, best_code, extremes_code, extremes_stride, find_code, find_turn,
    hits_code, keys_code,
};
pub use state::{StateLayout, StatePart};
pub use sums::{pivot_code, rebase_code, sum_code};

use crate::pack::Lane;
use crate::translate::{Context, Emission, Sums, Tile, Writer};
use crate::vcode::{Ty, VReg};
use keops_core::prim::Prim;
use keops_core::program::{Mode, Op, Program, SInst, Space, Stream};
use keops_core::reduce::Order;
pub use keops_core::spec::{Accumulation, BLOCK};
use keops_core::vecmath::Precision;

/// Dimension from which vectors are loops: from here on a tile of distances, computed component by
/// component, is faster than one pair after the other (measured, see docs/performance.md).
pub const ROLL: usize = 6;

/// Choices of the planner for one program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Compute type.
    pub ty: Ty,
    /// Lanes of a vector.
    pub lanes: usize,
    /// Row vectors of a tile.
    pub rows: usize,
    /// Columns of a tile.
    pub columns: usize,
    /// Columns whose instructions are interleaved.
    pub interleave: usize,
    /// Does the whole tile go through a stream stage by stage? See [`Tile::staged`].
    pub staged: bool,
    /// Columns between two looks at the pivot (a multiple of `columns`).
    pub chunk: usize,
    /// Scheme.
    pub accumulation: Accumulation,
    /// Are sums (or best keys) kept in registers?
    pub registers: bool,
    /// Lanes along the columns: then `columns` counts vectors of them, and kept rows are read one
    /// by one from a tile of this many.
    pub across: Option<usize>,
}

/// Vector registers that tiles may plan with.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Lanes of f32.
    pub lanes_f32: usize,
    /// Registers.
    pub registers: usize,
    /// Row vectors beyond one pay off only where several are in flight at once.
    pub single_row: bool,
    /// Are vectors of 512 bits worked on in halves?
    pub half_width: bool,
}

/// Instructions of a stream that is long.
const LONG: usize = 64;

/// Fewest lanes of a vector.
pub const NARROW: usize = 2;

/// Sums or keys from which a tile has one vector of rows.
const LARGE: usize = 1 << 12;

/// Chooses tile sizes.
pub fn plan(p: &Program, machine: Machine, accumulation: Accumulation) -> Plan {
    let (ty, lanes) = match p.precision {
        Precision::F32 => (Ty::F32, machine.lanes_f32),
        Precision::F64 => (Ty::F64, (machine.lanes_f32 / 2).max(NARROW)),
    };
    let streams = [&p.key, &p.add];
    let size: usize = streams.iter().map(|s| s.insts.len()).sum();
    let looped = streams.iter().any(|s| s.insts.iter().any(|i| matches!(i, SInst::Begin { .. })));
    let folds = streams.iter().map(|s| accumulators(s)).max().unwrap_or(0);
    let slots = p.sums.max(if matches!(p.mode, Mode::Select { .. }) { p.keys } else { 0 });
    // Registers have no addresses: slots behind loop counters are in memory.
    let rolled = streams.iter().chain([&&p.rebase]).any(|s| {
        s.insts.iter().any(|i| match i {
            SInst::Emit { slot: at, .. }
            | SInst::Store { space: Space::Sums, at, .. }
            | SInst::Def { op: Op::Load(Space::Sums, at), .. } => !at.terms.is_empty(),
            _ => false,
        })
    });
    let per_slot = match accumulation {
        Accumulation::Kahan | Accumulation::Wide => 2,
        _ => 1,
    };
    let wide = machine.registers >= 32;
    let selects = matches!(p.mode, Mode::Select { .. });
    // Row vectors, columns, and columns whose chains are interleaved: several independent chains
    // keep the pipes of wide cores busy (measured, see docs/performance.md).
    let (rows, columns, interleave) = if machine.single_row {
        (1, 1, 1)
    } else if looped {
        // Accumulators of inner products and the tile's row vectors share the registers.
        let (rows, columns) = match (folds, wide) {
            (0, _) => (2, 8),
            // Columns are loaded once for a vector of rows.
            (1, true) if machine.half_width => (5, 4),
            (1, true) => (3, 8),
            (1 | 2, _) => (2, 6),
            (f, true) => (1, (24 / f).max(1)),
            (f, false) => (1, (10 / f).max(1)),
        };
        // Whatever is not in the loops is repeated for each pair of the tile.
        if size > 100 { (rows.min(2), columns.min(4), 1) } else { (rows, columns, 1) }
    } else if size > 600 {
        (1, 1, 1)
    } else if selects {
        // The index is looked at once in this many columns.
        let columns = [(24, GROUP), (100, 8)].into_iter().find(|&(most, _)| size <= most);
        (if wide || size <= 60 { 2 } else { 1 }, columns.map_or(4, |c| c.1), 1)
    } else if size > LONG {
        // More columns make long streams no faster, only their code longer.
        if wide { (2, 2, 2) } else { (1, 1, 1) }
    } else {
        (2, if p.mode == Mode::Sum { 8 } else { 4 }, 2)
    };
    let staged = !selects && folds == 0 && (looped || size <= LONG);
    // Tiles of long vectors leave the caches, and are most of the memory of a call.
    let rows = if rolled && slots > LARGE { 1 } else { rows };
    // Whole turns make a group of columns.
    let columns = if selects { 1 << columns.min(GROUP).ilog2() } else { columns };
    let chunk = columns * 32usize.div_ceil(columns);
    let budget = if wide { 12 } else { 6 };
    let registers =
        !rolled && (slots * rows * per_slot <= budget || accumulation == Accumulation::Wide);
    let across = None;
    Plan { ty, lanes, rows, columns, interleave, staged, chunk, accumulation, registers, across }
}

/// Most accumulators that one loop of the pair's updates itself (those of loops around it wait).
fn accumulators(s: &Stream) -> usize {
    let (mut open, mut most) = (vec![], 0);
    for i in &s.insts {
        match i {
            SInst::Begin { .. } => open.push(0),
            SInst::End(_) => most = most.max(open.pop().unwrap_or(0)),
            SInst::Update { .. } => open.iter_mut().last().into_iter().for_each(|n| *n += 1),
            _ => {}
        }
    }
    most
}

/// Are nearly all operations those of one inner product (or distance) of long vectors for each pair, in sums that
/// stay in registers? Its tiles load so little that units of half the width of a vector do as much with
/// vectors of that width, which need fewer rows for a tile (`cargo bench --bench levels`).
pub fn loads_little(p: &Program, machine: Machine, accumulation: Accumulation) -> bool {
    let least = match p.precision {
        Precision::F32 => 64,
        Precision::F64 => 128,
    };
    let mut updates = vec![];
    for s in [&p.key, &p.add] {
        let mut extents = vec![];
        for i in &s.insts {
            match i {
                SInst::Begin { extent, .. } => extents.push(*extent),
                SInst::End(_) => drop(extents.pop()),
                SInst::Update { .. } => updates.push(extents.iter().product::<usize>()),
                _ => {}
            }
        }
    }
    let sums = matches!(p.mode, Mode::Sum | Mode::PivotSum);
    sums && matches!(updates[..], [n] if n >= least) && plan(p, machine, accumulation).registers
}

/// Does a pair sum so many components that f32 loses digits?
pub fn sums_long(p: &Program) -> bool {
    const MANY: usize = 64;
    let mut extents: Vec<usize> = vec![];
    [&p.key, &p.add].iter().flat_map(|s| &s.insts).any(|i| {
        match i {
            SInst::Begin { extent, .. } => extents.push(*extent),
            SInst::End(_) => drop(extents.pop()),
            SInst::Update { .. } => return extents.iter().product::<usize>() > MANY,
            _ => {}
        }
        false
    })
}

impl Plan {
    /// Elements of one vector of a tile.
    pub fn width(&self) -> usize {
        self.rows * self.lanes
    }
    /// Slots that the state has for sums or keys.
    pub fn slots(p: &Program) -> usize {
        match p.mode {
            Mode::Select { .. } => p.keys,
            Mode::Sum | Mode::PivotSum => p.sums,
        }
    }
    /// The same with lanes along the columns and at most `rows` rows at a time, of tiles of
    /// `width`.
    pub fn across(self, rows: usize, width: usize) -> Plan {
        Plan { rows: self.rows.min(rows), across: Some(width), ..self }
    }
    fn tile(&self, columns: usize) -> Tile {
        let Plan { rows, lanes, interleave, staged, .. } = *self;
        Tile { rows, columns, lanes, interleave, staged }
    }
    /// Columns that a turn over `columns` of the tile takes.
    fn turn(&self, columns: usize) -> u32 {
        (if self.across.is_some() { columns * self.lanes } else { columns }) as u32
    }
}

fn finite_max(ty: Ty) -> f64 {
    match ty {
        Ty::F32 => f32::MAX as f64,
        Ty::F64 => f64::MAX,
    }
}

/// The state before the first column: one value in a range, zeros elsewhere.
pub struct Initial {
    value: f64,
    range: std::ops::Range<usize>,
}

impl Initial {
    pub fn new(p: &Program, plan: &Plan) -> Initial {
        let layout = StateLayout::new(p, plan);
        match p.mode {
            Mode::Select { select, .. } => {
                let least = select.order == Order::Min;
                let worst = if least { f64::INFINITY } else { f64::NEG_INFINITY };
                Initial { value: worst, range: 0..layout.start(StatePart::Turn) }
            }
            Mode::PivotSum => {
                let range = layout.pivot(0)..layout.pivot(plan.width());
                Initial { value: -finite_max(plan.ty), range }
            }
            Mode::Sum => Initial { value: 0.0, range: 0..0 },
        }
    }
    /// Fills a state.
    pub fn fill<T: Lane>(&self, state: &mut [T]) {
        state.fill(T::default());
        state[self.range.clone()].fill(T::round(self.value));
    }
}

fn context<'c>(plan: &Plan, columns: usize, sums: Sums<'c>) -> Context<'c> {
    Context {
        tile: plan.tile(columns),
        column_loops: vec![],
        buffer: 0,
        keys: 0,
        pivot: [&[], &[]],
        sums,
        row_space: None,
        raw_param: rows::NOT_DERIVING,
        across: plan.across,
    }
}

/// Scratch elements for the vector intermediates of a pair stream.
fn buffers(w: &mut Writer, plan: &Plan, columns: usize, s: &Stream) -> i32 {
    w.scratch(s.buffer * plan.width() * columns)
}

/// Column loops that together take any number of columns.
fn steps(columns: usize) -> Vec<usize> {
    if columns == 1 { vec![1] } else { vec![columns, 1] }
}

fn value(w: &mut Writer, e: &Emission, r: usize) -> VReg {
    if e.factors.len() == 2 {
        w.op(Prim::Mul, &[e.factors[0][r], e.factors[1][r]])
    } else {
        e.factors[0][r]
    }
}
