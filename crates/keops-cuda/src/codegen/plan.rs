//! Choices for one program: tile sizes, and where a thread keeps its state.

use keops_core::program::{Mode, Program, SInst, Stream};
use keops_core::spec::{Accumulation, BLOCK};
use keops_core::vecmath::Precision;

/// Threads of a block.
pub const THREADS: usize = 128;
/// Shared memory that the staged columns of a block of threads may take, in bytes: several blocks
/// fit into a multiprocessor.
const STAGE_BYTES: usize = 32 << 10;
/// Staging fewer columns than this costs more barriers than it saves loads.
const LEAST_STAGED: usize = 8;
/// 32-bit registers of a thread that tiles plan with (of 255).
const REGISTERS: usize = 128;
/// Elements of a kept record that are held in registers.
const HELD: usize = 64;
/// Bytes of one array of a row that go to local memory; longer ones go to a workspace, whose size
/// is that of the rows at hand and not of all threads that the device could hold.
const LOCAL_BYTES: usize = 4096;

/// Forces choices that are otherwise made from the formula, to compare them; see
/// [`Cuda::with_tuning`](crate::Cuda::with_tuning).
///
/// ```
/// use keops_cuda::Tuning;
/// let free = Tuning::default();
/// let narrow = Tuning { rows: Some(1), staged: Some(false), ..free };
/// assert_eq!((free.rows, narrow.columns), (None, None));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Tuning {
    /// Rows of a thread.
    pub rows: Option<usize>,
    /// Columns that a thread takes at once.
    pub columns: Option<usize>,
    /// Are columns staged in shared memory?
    pub staged: Option<bool>,
}

/// An array of a thread's state, one for each row of its tile.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Name in the code.
    pub name: &'static str,
    /// Element type in the code.
    pub ty: &'static str,
    /// Elements.
    pub len: usize,
    /// Bytes before it, per row, in the workspace; absent if it is local to the thread.
    pub workspace: Option<usize>,
}

impl Array {
    /// The expression for an element of a row, given the row's suffix.
    pub fn at(&self, suffix: &str, index: &str) -> String {
        match self.workspace {
            None => format!("{}{suffix}[{index}]", self.name),
            Some(_) => format!("{}[(size_t)({index}) * pitch + slot{suffix}]", self.name),
        }
    }
}

/// Choices for one program.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Rows of a thread.
    pub rows: usize,
    /// Columns that a thread takes at once (a remainder is taken one by one).
    pub columns: usize,
    /// Columns of a tile in shared memory; 0 if they are read from global memory.
    pub tile: usize,
    /// Elements from one reduced record to the next.
    pub stride: usize,
    /// Is the kept record held in registers?
    pub held: bool,
    /// Accumulation.
    pub accumulation: Accumulation,
    /// State of a row.
    pub arrays: Vec<Array>,
    /// Bytes of workspace for each row.
    pub workspace: usize,
}

impl Plan {
    /// Plans a program.
    pub fn new(p: &Program, accumulation: Accumulation, tuning: Tuning) -> Plan {
        let (bytes, words) = match p.precision {
            Precision::F32 => (4, 1),
            Precision::F64 => (8, 2),
        };
        let streams = [&p.key, &p.add];
        let size = streams.iter().map(|s| s.insts.len()).sum::<usize>().max(1);
        let looped =
            streams.iter().any(|s| s.insts.iter().any(|i| matches!(i, SInst::Begin { .. })));
        let held = p.kept.len * words <= HELD;
        let per_slot = match accumulation {
            Accumulation::Block => 3,
            Accumulation::Kahan | Accumulation::Wide => 2,
            Accumulation::Direct | Accumulation::Half => 1,
        };
        // Totals are touched once a block: they go to the workspace where registers are scarce.
        let kept = if held { p.kept.len } else { 0 };
        let totals_away =
            accumulation == Accumulation::Block && words * (3 * p.sums + kept) > REGISTERS;
        let per_slot = if totals_away { 1 } else { per_slot };
        let state = match p.mode {
            Mode::Select { select, k: 1 } => p.keys * (1 + select.index as usize),
            // Lists are in local memory.
            Mode::Select { .. } => p.keys,
            _ => p.sums * per_slot,
        };
        let per_row = words * (state + kept);
        let row_limit = if looped { 2 } else { 4 };
        let fits = |r: usize| r * per_row <= REGISTERS && r * size <= 600;
        let rows = [4, 2].into_iter().find(|&r| r <= row_limit && fits(r)).unwrap_or(1);
        let rows = tuning.rows.unwrap_or(rows).clamp(1, 16);
        let most = match p.mode {
            // One look at the state for this many columns.
            Mode::Select { select, k } if select.index || k > 1 => 8,
            Mode::PivotSum => 8,
            // A kept record that is not in registers is read once for this many columns.
            _ if !held => 4,
            _ => 1,
        };
        let columns = [8, 4, 2]
            .into_iter()
            .find(|&c| c <= most && c * rows * size <= if looped { 600 } else { 1200 })
            .unwrap_or(1);
        let columns = tuning.columns.unwrap_or(columns).clamp(1, 16);
        let vector = 16 / bytes;
        let stride = p.reduced.len.next_multiple_of(vector);
        let fitting = (STAGE_BYTES / (stride * bytes).max(1)).min(BLOCK);
        let tile = if fitting == 0 { 0 } else { 1 << fitting.ilog2() };
        let staged =
            stride > 0 && tile >= LEAST_STAGED.max(columns) && tuning.staged != Some(false);
        let mut plan = Plan {
            rows,
            columns,
            tile: if staged { tile } else { 0 },
            stride,
            held,
            accumulation,
            arrays: vec![],
            workspace: 0,
        };
        match p.mode {
            Mode::Select { select, k } => {
                plan.array("best", "T", p.keys * k, bytes);
                if select.index {
                    plan.array("at", "int", p.keys * k, 4);
                }
            }
            Mode::Sum | Mode::PivotSum => {
                let wide = accumulation == Accumulation::Wide;
                plan.array(
                    "sum",
                    if wide { "double" } else { "T" },
                    p.sums,
                    if wide { 8 } else { bytes },
                );
                if accumulation == Accumulation::Block {
                    plan.array_in("total", "T", p.sums, bytes, totals_away);
                }
                if matches!(accumulation, Accumulation::Block | Accumulation::Kahan) {
                    plan.array_in("lost", "T", p.sums, bytes, totals_away);
                }
            }
        }
        let buffer = |s: &Stream, n: usize| s.buffer * n;
        let pair = streams.iter().map(|s| buffer(s, columns)).max().unwrap_or(0);
        let row = buffer(&p.rebase, 1).max(buffer(&p.finalise, 1));
        plan.array("buffer", "T", pair.max(row), bytes);
        plan
    }
    fn array(&mut self, name: &'static str, ty: &'static str, len: usize, bytes: usize) {
        self.array_in(name, ty, len, bytes, false);
    }
    fn array_in(
        &mut self,
        name: &'static str,
        ty: &'static str,
        len: usize,
        bytes: usize,
        away: bool,
    ) {
        if len == 0 {
            return;
        }
        let workspace = (away || len * bytes > LOCAL_BYTES).then_some(self.workspace);
        if workspace.is_some() {
            self.workspace += (len * bytes).next_multiple_of(8);
        }
        self.arrays.push(Array { name, ty, len, workspace });
    }
    /// The state array of that name; programs have those that they use.
    pub fn get(&self, name: &str) -> &Array {
        match self.arrays.iter().find(|a| a.name == name) {
            Some(a) => a,
            None => unreachable!("the plan has no array {name}"),
        }
    }
    /// Rows of a block of threads.
    pub fn tile_rows(&self) -> usize {
        THREADS * self.rows
    }
}
