//! Small matrices.

/// Eigenvalues and eigenvectors (rows) of a symmetric matrix, by cyclic Jacobi rotations (Golub &
/// Van Loan, Matrix Computations, section 8.5).
pub(crate) fn symmetric_eigen<const N: usize>(mut a: [[f64; N]; N]) -> ([f64; N], [[f64; N]; N]) {
    let mut v = [[0.0; N]; N];
    (0..N).for_each(|k| v[k][k] = 1.0);
    // Convergence is quadratic: a small matrix is diagonal to round-off after five or six sweeps.
    for _ in 0..12 {
        for (p, q) in (0..N).flat_map(|p| (p + 1..N).map(move |q| (p, q))) {
            if a[p][q] == 0.0 {
                continue;
            }
            let tau = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
            let t = if tau >= 0.0 { 1.0 } else { -1.0 } / (tau.abs() + tau.hypot(1.0));
            let c = 1.0 / t.hypot(1.0);
            let s = t * c;
            for row in &mut a {
                (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
            }
            for m in [&mut a, &mut v] {
                let (row_p, row_q) = (m[p], m[q]);
                m[p] = std::array::from_fn(|k| c * row_p[k] - s * row_q[k]);
                m[q] = std::array::from_fn(|k| s * row_p[k] + c * row_q[k]);
            }
        }
    }
    (std::array::from_fn(|k| a[k][k]), v)
}
