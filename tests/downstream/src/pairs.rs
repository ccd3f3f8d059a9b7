//! A preconditioner that keops has not: clusters of two rows, solved each alone.

use keops::error::FormulaError;
use keops::linalg::{LinearOperator, Preconditioner, Rows};
use keops::ndarray::{Array2, ArrayView2, array, s};

/// The 2 × 2 blocks `[a c; c b]` of the diagonal.
pub struct Pairs(Vec<[f64; 3]>);

impl Pairs {
    /// Of an operator with an even number of rows.
    pub fn new(k: &(impl LinearOperator + Rows + ?Sized)) -> Result<Pairs, FormulaError> {
        let pair = |at: usize| {
            let rows = k.rows_at(0, &[2 * at, 2 * at + 1])?;
            Ok([rows[[0, 2 * at]], rows[[1, 2 * at + 1]], rows[[0, 2 * at + 1]]])
        };
        Ok(Pairs((0..k.range()[0] / 2).map(pair).collect::<Result<_, FormulaError>>()?))
    }
}

impl Preconditioner for Pairs {
    fn apply(
        &self,
        _matrix: usize,
        ridge: f64,
        r: ArrayView2<'_, f64>,
    ) -> Result<Array2<f64>, FormulaError> {
        let mut z = r.to_owned();
        for (k, &[a, b, c]) in self.0.iter().enumerate() {
            let (a, b) = (a + ridge, b + ridge);
            let inverse = array![[b, -c], [-c, a]] / (a * b - c * c);
            let rows = s![2 * k..2 * k + 2, ..];
            z.slice_mut(rows).assign(&inverse.dot(&r.slice(rows)));
        }
        Ok(z)
    }
}
