//! Block-sparse ranges and sparse matrices of clusters.

use keops_core::error::InputError;
use keops_core::memory;
use keops_core::ranges::{Pattern, Ranges};
use sprs::{CsMat, CsMatViewI, SpIndex};

/// What memory is for, in messages.
const WHAT: &str = "ranges";
/// Clusters of rows, clusters of columns, and the matrix of those that meet.
pub type SparseClusters = (Vec<[usize; 2]>, Vec<[usize; 2]>, CsMat<bool>);

/// [`Ranges`] from sparse matrices, and back.
///
/// ```
/// use keops_core::ranges::Ranges;
/// use keops_linalg::SparseRanges;
/// use sprs::CsMat;
/// // Clusters that meet only themselves.
/// let clusters = [[0, 10], [10, 25]];
/// let own = Ranges::from_csmat(&clusters, &clusters, CsMat::<f64>::eye(2).view())?;
/// assert_eq!(own.pairs(), 10 * 10 + 15 * 15);
/// # Ok::<(), keops_core::error::InputError>(())
/// ```
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
    /// let (rows, columns, again) = ranges.to_csmat()?;
    /// assert_eq!((rows, columns), (vec![[0, 4], [4, 9]], vec![[0, 5], [6, 8]]));
    /// assert_eq!(again.nnz(), 2);
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::Ranges`] if the matrix has another shape, or if clusters overlap;
    /// [`InputError::OutOfMemory`].
    fn from_csmat<N, I: SpIndex, Iptr: SpIndex>(
        clusters_i: &[[usize; 2]],
        clusters_j: &[[usize; 2]],
        pairs: CsMatViewI<'_, N, I, Iptr>,
    ) -> Result<Self, InputError>;
    /// Clusters of rows, clusters of columns, and the matrix of those that meet, by rows. Columns
    /// are cut where a range starts or ends; those that meet no row are left out.
    ///
    /// ```
    /// use keops_core::ranges::Ranges;
    /// use keops_linalg::SparseRanges;
    /// let alike = Ranges::same_labels(&[0, 0, 1], &[0, 1, 1])?;
    /// let (rows, columns, near) = alike.to_csmat()?;
    /// assert_eq!((rows, columns), (vec![[0, 2], [2, 3]], vec![[0, 1], [1, 3]]));
    /// assert_eq!((near.nnz(), near.get(0, 0), near.get(1, 1)), (2, Some(&true), Some(&true)));
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    /// # Errors
    /// [`InputError::OutOfMemory`]
    fn to_csmat(&self) -> Result<SparseClusters, InputError>;
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
        let mut met = memory::room(pairs.nnz(), WHAT)?;
        met.extend(pairs.iter().map(|(_, (k, l))| (k.index(), l.index())));
        met.sort_unstable();
        let blocks = memory::collected(clusters_i.iter().copied(), WHAT)?;
        let end = |k: usize| met.partition_point(|&(row, _)| row <= k);
        let slices = memory::collected((0..blocks.len()).map(end), WHAT)?;
        let reduced = memory::collected(met.iter().map(|&(_, l)| clusters_j[l]), WHAT)?;
        Ranges::from_pattern(Pattern { blocks, slices, reduced })
    }
    fn to_csmat(&self) -> Result<SparseClusters, InputError> {
        let (rows, columns, pairs) = self.clusters()?;
        let start = |k: usize| pairs.partition_point(|&(row, _)| row < k);
        let mut starts = memory::room(rows.len() + 1, WHAT)?;
        starts.extend((0..=rows.len()).map(start));
        let indices = memory::collected(pairs.iter().map(|&(_, l)| l), WHAT)?;
        let data = memory::filled(pairs.len(), true, WHAT)?;
        // Pairs are sorted and distinct, and their columns are numbers of clusters.
        let matrix = CsMat::new((rows.len(), columns.len()), starts, indices, data);
        Ok((rows, columns, matrix))
    }
}
