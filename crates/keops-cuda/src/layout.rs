//! What a launch needs besides the arguments' data: tiles of rows, the ranges they meet, and where
//! each batch element of each argument begins.

use crate::codegen::{Plan, THREADS};
use keops_core::error::{OutOfMemory, RunError};
use keops_core::graph::Category;
use keops_core::memory;
use keops_core::spec::{CheckedArgs, ReduceSpec};

/// Rows and blocks are counted in 32 bits on the device, with room for a tile beyond the end.
const MAX_ROWS: usize = i32::MAX as usize - 4096;

/// What has no memory in an error.
const WHAT: &str = "the tables of a launch";

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
    /// Makes the tables; without rows of results there are no tiles, and no offsets.
    pub fn new(spec: &ReduceSpec, plan: &Plan, args: &CheckedArgs<'_>) -> Result<Tables, RunError> {
        let (rows, columns, batches) = (args.rows(), args.columns(), args.batches());
        let limited = |n: usize, what: &str| match n > MAX_ROWS {
            true => Err(device_error(format!(
                "{n} {what} are too many for one launch (limit {MAX_ROWS})"
            ))),
            false => Ok(()),
        };
        limited(rows, "rows of the result")?;
        limited(columns, "reduced rows")?;
        let mut t = Tables { tiles: vec![], ranges: vec![], offsets: vec![] };
        match args.ranges() {
            None => {
                t.columns(&[[0, columns]])?;
                t.rows(plan, 0, rows, 0)?;
            }
            Some(ranges) => {
                let pattern = ranges.pattern(spec.axis)?;
                let mut order = memory::collected(0..pattern.blocks.len(), WHAT)?;
                order.retain(|&k| pattern.blocks[k][0] < pattern.blocks[k][1]);
                order.sort_unstable_by_key(|&k| pattern.blocks[k][0]);
                let mut at = 0;
                for k in order {
                    let [start, end] = pattern.blocks[k];
                    // Rows that meet nothing have results too.
                    t.rows(plan, at, start, t.ranges.len())?;
                    let first = t.ranges.len();
                    t.columns(pattern.of_block(k))?;
                    t.rows(plan, start, end, first)?;
                    at = end;
                }
                t.rows(plan, at, rows, t.ranges.len())?;
            }
        }
        if t.tiles.is_empty() {
            return Ok(t);
        }
        // Before anything is made for each batch element: there may be more than can be counted
        // through.
        for (n, what) in [
            (t.tiles.len(), "tiles of rows"),
            (rows.div_ceil(THREADS), "blocks of rows"),
            (columns.div_ceil(THREADS), "blocks of reduced rows"),
        ] {
            limited(n.saturating_mul(batches), what)?;
        }
        t.offsets = memory::room(batches.saturating_mul(spec.vars.len()), WHAT)?;
        // Leading axes align with the last axes of the batch shape; extent 1 is shared.
        for b in 0..batches {
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
        Ok(t)
    }
    /// Adds the columns of a block, in ascending order (selections prefer the lowest index).
    fn columns(&mut self, ranges: &[[usize; 2]]) -> Result<(), OutOfMemory> {
        let mut list = memory::collected(ranges.iter().copied(), WHAT)?;
        list.retain(|r| r[0] < r[1]);
        list.sort_unstable();
        let first = self.ranges.len();
        for r in list {
            let [start, end] = r.map(|v| v as i32);
            match self.ranges[first..].last_mut() {
                Some(last) if last[1] == start => last[1] = end,
                _ => memory::push(&mut self.ranges, [start, end], WHAT)?,
            }
        }
        Ok(())
    }
    /// Cuts rows into tiles; they meet the ranges from `first` on.
    fn rows(
        &mut self,
        plan: &Plan,
        start: usize,
        end: usize,
        first: usize,
    ) -> Result<(), OutOfMemory> {
        let last = self.ranges.len() as i32;
        for s in (start..end).step_by(plan.tile_rows()) {
            let e = end.min(s + plan.tile_rows());
            memory::push(&mut self.tiles, [s as i32, e as i32, first as i32, last], WHAT)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::{Tuning, generate};
    use keops_core::data::{DType, Element};
    use keops_core::parse::parse_formula;
    use keops_core::reduce::SUM;
    use keops_core::spec::Axis;
    use ndarray::{IxDyn, arr0};

    /// Tables for views of no memory, whatever size they pretend to have.
    fn tables(x: &[usize], y: &[usize]) -> Result<Tables, String> {
        let spec = parse_formula("x * y", None, &["x = Vi(1)", "y = Vj(1)"]).unwrap().spec(
            &SUM,
            Axis::J,
            DType::F32,
        );
        let code = generate(&spec, Tuning::default()).unwrap();
        let one = arr0(1f32);
        let view = |shape: &[usize]| f32::erase(one.broadcast(IxDyn(shape)).unwrap());
        let args = CheckedArgs::new(&spec, vec![view(x), view(y)], None, None, None)
            .map_err(|e| e.to_string())?;
        Tables::new(&spec, &code.plan, &args).map_err(|e| e.to_string())
    }

    #[test]
    fn enormous_batches_are_not_counted_through() {
        // Without rows there is nothing to do for any of 2^58 batch elements.
        let far = 1 << 58;
        assert!(tables(&[far, 0, 1], &[3, 1]).unwrap().tiles.is_empty());
        for (x, y, what) in [
            (&[1 << 33, 1, 1][..], &[3, 1][..], "tiles of rows"),
            (&[1 << 20, 2, 1][..], &[1 << 20, 1 << 30, 1][..], "blocks of reduced rows"),
            (&[1 << 31, 1][..], &[3, 1][..], "rows of the result"),
            (&[3, 1][..], &[1 << 31, 1][..], "reduced rows"),
        ] {
            let e = tables(x, y).unwrap_err();
            assert!(e.contains(what) && e.contains("too many for one launch"), "{e}");
        }
    }

    #[test]
    fn batches_begin_where_their_axes_say() {
        // x has batches (2, 1), y has (3): six elements, each array counted in its own elements.
        let t = tables(&[2, 1, 5, 1], &[3, 4, 1]).unwrap();
        let offsets: Vec<[i64; 2]> = t.offsets.chunks(2).map(|o| [o[0], o[1]]).collect();
        assert_eq!(offsets, [[0, 0], [0, 4], [0, 8], [5, 0], [5, 4], [5, 8]]);
        assert_eq!((t.tiles, t.ranges), (vec![[0, 5, 0, 1]], vec![[0, 4]]));
    }
}
