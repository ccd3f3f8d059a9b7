//! Sizes that arguments give to a computation, and batch shapes.

use crate::data::DType;
use crate::graph::Category;
use crate::outer::{OuterGraph, OuterId};

/// Sizes that arguments give to a computation.
///
/// ```
/// use keops_core::genred::{AsArg, Genred};
/// use keops_core::{reduce::SUM, spec::Axis};
/// use ndarray::{Array2, Array3};
/// let sum: Genred = Genred::new("x * y", ["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J)?;
/// let (x, y) = (Array3::<f32>::zeros((4, 10, 2)), Array2::<f32>::zeros((7, 2)));
/// let sizes = sum.computation().sizes(&[x.as_arg(), y.as_arg()])?;
/// assert_eq!((sizes.rows_i, sizes.rows_j, &sizes.batch[..]), (10, 7, &[4][..]));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Number of rows of category `I`; 1 if no variable has it (that of `J` where a function
    /// needs as many, [`Function::square`](crate::outer::Function::square)).
    pub rows_i: usize,
    /// Number of rows of category `J`, likewise.
    pub rows_j: usize,
    /// Batch shape of all arguments together.
    pub batch: Vec<usize>,
    /// Element type of the arguments (f64 if there is none).
    pub dtype: DType,
    /// Batch shape of each argument; of none after the last that has one.
    pub(super) of_input: Vec<Vec<usize>>,
}

impl Sizes {
    /// Pairs of rows, over all batches.
    /// No more than `u64::MAX`.
    ///
    /// ```
    /// use keops_core::genred::{AsArg, Genred};
    /// use keops_core::{reduce::SUM, spec::Axis};
    /// use ndarray::{Array2, Array3};
    /// let sum: Genred = Genred::new("x * y", ["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J)?;
    /// let (x, y) = (Array3::<f32>::zeros((4, 10, 2)), Array2::<f32>::zeros((7, 2)));
    /// let sizes = sum.computation().sizes(&[x.as_arg(), y.as_arg()])?;
    /// assert_eq!(sizes.pairs(), 4 * 10 * 7);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn pairs(&self) -> u64 {
        let all = self.batch.iter().chain([&self.rows_i, &self.rows_j]);
        all.fold(1u64, |a, &b| a.saturating_mul(b as u64))
    }
    pub(super) fn rows(&self, category: Category) -> Option<usize> {
        match category {
            Category::I => Some(self.rows_i),
            Category::J => Some(self.rows_j),
            Category::Param => None,
        }
    }
    /// Batch shape of a node: its inputs', broadcast. They are known to be compatible.
    pub(super) fn batch_of(&self, graph: &OuterGraph, node: OuterId) -> Vec<usize> {
        let mut batch = vec![];
        for own in graph.support(node).iter().filter_map(|&slot| self.of_input.get(slot)) {
            merge(&mut batch, own);
        }
        batch
    }
}

/// Broadcasts `own` into `batch`, aligned at the last axis; the axis where that fails.
pub(super) fn merge(batch: &mut Vec<usize>, own: &[usize]) -> Option<(usize, usize)> {
    while batch.len() < own.len() {
        batch.insert(0, 1);
    }
    let lead = batch.len() - own.len();
    for (b, &e) in batch[lead..].iter_mut().zip(own) {
        if e != 1 && *b != 1 && *b != e {
            return Some((*b, e));
        }
        if e != 1 {
            *b = e;
        }
    }
    None
}
