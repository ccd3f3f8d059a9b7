//! Block-sparse ranges and sparse matrices of clusters.

use keops_core::error::InputError;
use keops_core::ranges::{Pattern, Ranges};
use sprs::{CsMat, CsMatViewI, SpIndex};

/// [`Ranges`] from sparse matrices, and back.
pub trait SparseRanges: Sized {
    /// From clusters of rows `[start, end)` and a sparse matrix, in either storage, of the pairs
    /// of clusters that meet: all entries that are stored, whatever their values.
    ///
    /// ```
    /// use keops_core::ranges::Ranges;
    /// use keops_linalg::SparseRanges;
    /// use sprs::TriMat;
    ///
    /// let mut near = TriMat::new((2, 3));
    /// near.add_triplet(0, 0, 1.0);
    /// near.add_triplet(1, 2, 0.5);
    /// let (rows, columns) = ([[0, 4], [4, 9]], [[0, 5], [5, 6], [6, 8]]);
    /// let ranges = Ranges::from_csmat(&rows, &columns, near.to_csr::<usize>().view())?;
    /// assert_eq!(ranges.pairs(), 4 * 5 + 5 * 2);
    /// let (rows, columns, again) = ranges.to_csmat();
    /// assert_eq!((rows, columns), (vec![[0, 4], [4, 9]], vec![[0, 5], [6, 8]]));
    /// assert_eq!(again.nnz(), 2);
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::Ranges`] if the matrix has another shape, or if clusters overlap.
    fn from_csmat<N, I: SpIndex, Iptr: SpIndex>(
        clusters_i: &[[usize; 2]],
        clusters_j: &[[usize; 2]],
        pairs: CsMatViewI<'_, N, I, Iptr>,
    ) -> Result<Self, InputError>;
    /// Clusters of rows, clusters of columns, and the matrix of those that meet, by rows. Columns
    /// are cut where a range starts or ends; those that meet no row are left out.
    fn to_csmat(&self) -> (Vec<[usize; 2]>, Vec<[usize; 2]>, CsMat<bool>);
}

impl SparseRanges for Ranges {
    fn from_csmat<N, I: SpIndex, Iptr: SpIndex>(
        clusters_i: &[[usize; 2]],
        clusters_j: &[[usize; 2]],
        pairs: CsMatViewI<'_, N, I, Iptr>,
    ) -> Result<Ranges, InputError> {
        let expected = (clusters_i.len(), clusters_j.len());
        if pairs.shape() != expected {
            let got = pairs.shape();
            return Err(InputError::Ranges(format!(
                "the matrix has shape {got:?}, expected {expected:?}, the numbers of clusters"
            )));
        }
        let mut met: Vec<Vec<usize>> = vec![vec![]; clusters_i.len()];
        for (_, (k, l)) in pairs.iter() {
            met[k.index()].push(l.index());
        }
        let mut pattern = Pattern { blocks: clusters_i.to_vec(), ..Pattern::default() };
        for mut columns in met {
            columns.sort_unstable();
            pattern.reduced.extend(columns.into_iter().map(|l| clusters_j[l]));
            pattern.slices.push(pattern.reduced.len());
        }
        Ranges::from_pattern(pattern)
    }
    fn to_csmat(&self) -> (Vec<[usize; 2]>, Vec<[usize; 2]>, CsMat<bool>) {
        let (rows, columns, pairs) = self.clusters();
        let start = |k: usize| pairs.partition_point(|&(row, _)| row < k);
        let indptr = (0..=rows.len()).map(start).collect();
        let (indices, data) = pairs.iter().map(|&(_, l)| (l, true)).unzip();
        // Pairs are sorted and distinct, and their columns are numbers of clusters.
        let matrix = CsMat::new((rows.len(), columns.len()), indptr, indices, data);
        (rows, columns, matrix)
    }
}
