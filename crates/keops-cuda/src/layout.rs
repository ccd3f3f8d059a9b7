//! What a launch needs besides the arguments' data: tiles of rows, the ranges they meet, and where
//! each batch element of each argument begins.

use crate::codegen::{Plan, THREADS};
use keops_core::error::RunError;
use keops_core::graph::Category;
use keops_core::spec::{CheckedArgs, ReduceSpec};

/// Rows and blocks are counted in 32 bits on the device, with room for a tile beyond the end.
const MAX_ROWS: usize = i32::MAX as usize - 4096;

/// Tables of a launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables {
    /// First row, row after the last, first range, range after the last.
    pub tiles: Vec<[i32; 4]>,
    /// First reduced row, reduced row after the last.
    pub ranges: Vec<[i32; 2]>,
    /// First element of `[batch element][argument]` in each argument's row-major array.
    pub offsets: Vec<i64>,
}

fn device_error(message: String) -> RunError {
    RunError::Device { backend: "cuda".into(), message }
}

impl Tables {
    /// Makes the tables.
    pub fn new(spec: &ReduceSpec, plan: &Plan, args: &CheckedArgs<'_>) -> Result<Tables, RunError> {
        let (rows, columns) = (args.rows(), args.columns());
        for (n, what) in [(rows, "rows of the result"), (columns, "reduced rows")] {
            if n > MAX_ROWS {
                return Err(device_error(format!(
                    "{n} {what} are too many for one launch (limit {MAX_ROWS})"
                )));
            }
        }
        let mut t = Tables { tiles: vec![], ranges: vec![], offsets: vec![] };
        match args.ranges() {
            None => {
                t.columns(&[[0, columns]]);
                t.rows(plan, 0, rows, 0);
            }
            Some(ranges) => {
                let pattern = ranges.pattern(spec.axis);
                let mut order: Vec<usize> = (0..pattern.blocks.len()).collect();
                order.retain(|&k| pattern.blocks[k][0] < pattern.blocks[k][1]);
                order.sort_unstable_by_key(|&k| pattern.blocks[k][0]);
                let mut at = 0;
                for k in order {
                    let [start, end] = pattern.blocks[k];
                    // Rows that meet nothing have results too.
                    t.rows(plan, at, start, t.ranges.len());
                    let first = t.ranges.len();
                    t.columns(pattern.of_block(k));
                    t.rows(plan, start, end, first);
                    at = end;
                }
                t.rows(plan, at, rows, t.ranges.len());
            }
        }
        // Leading axes align with the last axes of the batch shape; extent 1 is shared.
        for b in 0..args.batches() {
            let batch = args.batch_index(b);
            for (arg, var) in args.args().iter().zip(&spec.vars) {
                let own = if var.category == Category::Param { 1 } else { 2 };
                let shape = arg.shape();
                let (lead, rest) = shape.split_at(shape.len() - own);
                let skip = batch.len() - lead.len();
                let mut offset = 0;
                for (k, &e) in lead.iter().enumerate() {
                    offset = offset * e + if e == 1 { 0 } else { batch[skip + k] };
                }
                t.offsets.push((offset * rest.iter().product::<usize>()) as i64);
            }
        }
        for (n, what) in [
            (t.tiles.len().saturating_mul(args.batches()), "tiles of rows"),
            (columns.div_ceil(THREADS).saturating_mul(args.batches()), "blocks of reduced rows"),
        ] {
            if n > MAX_ROWS {
                return Err(device_error(format!(
                    "{n} {what} are too many for one launch (limit {MAX_ROWS})"
                )));
            }
        }
        Ok(t)
    }
    /// Adds the columns of a block, in ascending order (selections prefer the lowest index).
    fn columns(&mut self, ranges: &[[usize; 2]]) {
        let mut list: Vec<[usize; 2]> = ranges.iter().copied().filter(|r| r[0] < r[1]).collect();
        list.sort_unstable();
        let first = self.ranges.len();
        for r in list {
            let [start, end] = r.map(|v| v as i32);
            match self.ranges[first..].last_mut() {
                Some(last) if last[1] == start => last[1] = end,
                _ => self.ranges.push([start, end]),
            }
        }
    }
    /// Cuts rows into tiles; they meet the ranges from `first` on.
    fn rows(&mut self, plan: &Plan, start: usize, end: usize, first: usize) {
        let last = self.ranges.len() as i32;
        for s in (start..end).step_by(plan.tile_rows()) {
            let e = end.min(s + plan.tile_rows());
            self.tiles.push([s as i32, e as i32, first as i32, last]);
        }
    }
}
