//! The inverses of diagonal blocks.

use super::{Preconditioner, misfit};
use crate::entries::Rows;
use crate::krylov::small;
use crate::layout::{VECTOR, dense, row_major};
use keops_core::error::{Error, InputError};
use keops_core::memory;
use ndarray::{Array1, Array2, ArrayView2};

/// Eigenvalues of a block below this part of the largest one are rounding.
const NOISE: f64 = 1e-14;
/// Of blocks of f32: negative ones down to this part are rounding.
const COARSE: f64 = 1e-5;
const BLOCKS: &str = "the blocks of a preconditioner";

/// The inverses of the diagonal blocks of `K + αI` at clusters of rows. It takes the short range of
/// kernels that are sharp at the scale of the points, where [`crate::PivotedCholesky`] needs a large
/// rank; clusters are those of ranges (`grid_cluster` of `keops_core::ranges`, say), and the operator may be
/// one with ranges.
///
/// Blocks are kept by their eigenvectors: for any α, and where rounding has made them singular.
/// Memory is the size of its cluster for each unknown, time to make it the size squared.
///
/// ```
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::{BlockJacobi, KernelOperator};
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
/// let sum: Genred = Genred::new("Exp(-Abs(x - y)) * b", aliases, &SUM, Axis::J)?;
/// let x = ndarray::array![[0.0], [0.1], [50.0], [50.2]]; // two clusters, far from each other
/// let k = KernelOperator::new(&sum, "b", (&x, &x))?;
/// let blocks = BlockJacobi::new(&k, &[0, 0, 1, 1])?;
/// assert_eq!(k.solver().ridge(1e-3).preconditioner(&blocks).solve(&x)?.info.iterations, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlockJacobi {
    rows: usize,
    /// Unknowns of each row.
    parts: usize,
    groups: Vec<Vec<usize>>,
    /// Of each matrix, of each group: eigenvalues, and eigenvectors by rows.
    blocks: Vec<Vec<(Array1<f64>, Array2<f64>)>>,
}

impl BlockJacobi {
    /// Of an operator whose rows have these labels, in any order.
    ///
    /// # Errors
    /// [`InputError::Option`] if there are not as many labels as rows, if a block is not positive
    /// semi-definite, or not finite; from the device.
    pub fn new<O: Rows + ?Sized, L: Ord>(operator: &O, labels: &[L]) -> Result<BlockJacobi, Error> {
        let rows = operator.domain()[0];
        if labels.len() != rows {
            let what = format!("{} labels of {rows} rows", labels.len());
            return Err(InputError::Option(what).into());
        }
        let mut order = memory::collected(0..rows, BLOCKS)?;
        order.sort_by(|&a, &b| labels[a].cmp(&labels[b]));
        let alike = order.chunk_by(|&a, &b| labels[a] == labels[b]);
        BlockJacobi::of(operator, alike.map(<[usize]>::to_vec).collect())
    }
    /// Of clusters of rows `[start, end)`, which do not overlap. Rows outside are left alone.
    ///
    /// # Errors
    /// As [`BlockJacobi::new`]; [`InputError::Option`] if clusters overlap.
    pub fn from_clusters<O: Rows + ?Sized>(
        operator: &O,
        clusters: &[[usize; 2]],
    ) -> Result<BlockJacobi, Error> {
        let rows = operator.domain()[0];
        if let Some([start, end]) = clusters.iter().find(|c| c[0] > c[1] || c[1] > rows) {
            let what = format!("cluster [{start}, {end}) of {rows} rows");
            return Err(InputError::Option(what).into());
        }
        BlockJacobi::of(operator, clusters.iter().map(|c| (c[0]..c[1]).collect()).collect())
    }

    fn of<O: Rows + ?Sized>(operator: &O, groups: Vec<Vec<usize>>) -> Result<BlockJacobi, Error> {
        let [rows, dim] = operator.domain();
        let parts = if operator.columns_independent() { 1 } else { dim };
        let matrices = 0..operator.matrices();
        let of = |matrix: usize| -> Result<Vec<_>, Error> {
            let blocks = operator.diagonal_blocks(matrix, &groups)?;
            blocks.iter().enumerate().map(|(k, block)| factor(block, k)).collect()
        };
        let blocks = matrices.map(of).collect::<Result<_, _>>()?;
        Ok(BlockJacobi { rows, parts, groups, blocks })
    }
}

fn factor(block: &Array2<f64>, k: usize) -> Result<(Array1<f64>, Array2<f64>), Error> {
    let wrong = |what: String| {
        let m = format!("the operator is not positive semi-definite: block {k} {what}");
        Err(InputError::Option(m).into())
    };
    if block.iter().any(|v| !v.is_finite()) {
        return wrong("is not finite".into());
    }
    let (values, vectors) = small(block.view())?;
    let top = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    match values.first() {
        Some(low) if *low < -COARSE * top => wrong(format!("has the eigenvalue {low:.3e}")),
        _ => Ok((values, vectors)),
    }
}

impl Preconditioner for BlockJacobi {
    fn apply(
        &self,
        matrix: usize,
        ridge: f64,
        r: ArrayView2<'_, f64>,
    ) -> Result<Array2<f64>, Error> {
        let (rows, dim) = r.dim();
        let fits = rows == self.rows && (self.parts == 1 || self.parts == dim);
        let Some(blocks) = self.blocks.get(matrix).filter(|_| fits) else {
            return Err(misfit("block Jacobi", self.rows * self.parts, self.blocks.len()));
        };
        let mut z = row_major(&r)?;
        // Columns, or all components as one.
        let columns = dim / self.parts.max(1);
        for (group, (values, vectors)) in self.groups.iter().zip(blocks) {
            let top = values.last().copied().unwrap_or(0.0);
            let mut own = dense(values.len(), columns, VECTOR)?;
            let at = |k: usize, c: usize| {
                let row = group[k / self.parts];
                [row, if self.parts == 1 { c } else { k % self.parts }]
            };
            own.indexed_iter_mut().for_each(|((k, c), v)| *v = r[at(k, c)]);
            let mut inner = vectors.dot(&own);
            for (mut row, value) in inner.outer_iter_mut().zip(values) {
                let value = (value.max(0.0) + ridge).max(NOISE * top);
                // (A block of zeros without a ridge is left alone.)
                row /= if value > 0.0 { value } else { 1.0 };
            }
            let made = vectors.t().dot(&inner);
            made.indexed_iter().for_each(|((k, c), v)| z[at(k, c)] = *v);
        }
        Ok(z)
    }
}
