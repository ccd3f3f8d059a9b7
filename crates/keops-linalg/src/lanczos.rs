//! Extreme Ritz values from the coefficients of conjugate gradients.
//!
//! With step lengths α_k and ratios β_k, the iteration builds the tridiagonal matrix of the
//! Lanczos process, `T_kk = 1/α_k + β_{k-1}/α_{k-1}`, `T_{k,k+1} = √β_k / α_k` (Y. Saad, Iterative
//! Methods for Sparse Linear Systems, 2nd ed., section 6.7.3), whose extreme eigenvalues approach
//! those of the operator from inside.

/// Bisection stops at this relative width: an estimate needs no more.
const WIDTH: f64 = 1e-4;

/// The tridiagonal matrix so far, and the extremes of those before a restart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanczos {
    diagonal: Vec<f64>,
    /// Entry k couples k and k + 1; the last one waits for its row.
    off: Vec<f64>,
    /// `β_{k-1} / α_{k-1}`
    carried: f64,
    before: Option<[f64; 2]>,
}

impl Lanczos {
    /// The coefficients of one iteration.
    pub fn push(&mut self, step: f64, ratio: f64) {
        self.diagonal.push(1.0 / step + self.carried);
        self.off.push(ratio.sqrt() / step);
        self.carried = ratio / step;
    }
    /// The iteration starts anew.
    pub fn restart(&mut self) {
        *self = Lanczos { before: self.extremes(), ..Lanczos::default() };
    }
    /// Smallest and largest Ritz value; `None` without an iteration.
    pub fn extremes(&self) -> Option<[f64; 2]> {
        let own = (!self.diagonal.is_empty()).then(|| self.bisect());
        match (own, self.before) {
            (Some(a), Some(b)) => Some([a[0].min(b[0]), a[1].max(b[1])]),
            (a, b) => a.or(b),
        }
    }
    fn bisect(&self) -> [f64; 2] {
        let n = self.diagonal.len();
        let off = |k: usize| if k < n - 1 { self.off[k].abs() } else { 0.0 };
        // Gershgorin.
        let radius = |k: usize| off(k) + if k > 0 { off(k - 1) } else { 0.0 };
        let top = (0..n).map(|k| self.diagonal[k] + radius(k)).fold(0.0, f64::max);
        let find = |index: usize| {
            let (mut low, mut high) = (0.0, top);
            while high - low > WIDTH * high && high > top * f64::EPSILON {
                let middle = 0.5 * (low + high);
                if self.below(middle) > index { high = middle } else { low = middle }
            }
            0.5 * (low + high)
        };
        [find(0), find(n - 1)]
    }
    /// Number of eigenvalues below `x`, by Sturm's sequence.
    fn below(&self, x: f64) -> usize {
        let (mut count, mut pivot) = (0, 1.0);
        for (k, d) in self.diagonal.iter().enumerate() {
            let coupling = if k > 0 { self.off[k - 1] * self.off[k - 1] / pivot } else { 0.0 };
            pivot = d - x - coupling;
            if pivot == 0.0 {
                pivot = -f64::MIN_POSITIVE;
            }
            count += (pivot < 0.0) as usize;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    /// The second-difference matrix has eigenvalues `2 - 2 cos(kπ/(n + 1))`. Its LDLᵀ pivots and
    /// multipliers are the coefficients that conjugate gradients would have.
    #[test]
    fn extremes_of_the_second_difference_matrix() {
        let n = 50;
        let (mut lanczos, mut pivot) = (Lanczos::default(), 2.0f64);
        for _ in 0..n {
            // T = L D Lᵀ with D_k = 1/α_k and L_{k+1,k} = √β_k up to sign: here √β_k = 1/D_k.
            lanczos.push(1.0 / pivot, 1.0 / (pivot * pivot));
            pivot = 2.0 - 1.0 / pivot;
        }
        let value = |k: usize| 2.0 - 2.0 * (k as f64 * PI / (n as f64 + 1.0)).cos();
        let [low, high] = lanczos.extremes().unwrap();
        assert!((low / value(1) - 1.0).abs() < 2.0 * WIDTH, "{low} and {}", value(1));
        assert!((high / value(n) - 1.0).abs() < 2.0 * WIDTH, "{high} and {}", value(n));
        // Extremes survive a restart and widen.
        lanczos.restart();
        assert_eq!(lanczos.extremes(), Some([low, high]));
        lanczos.push(0.1, 0.0);
        let [same, wider] = lanczos.extremes().unwrap();
        assert_eq!(same, low);
        assert!((wider - 10.0).abs() < 10.0 * WIDTH);
        assert_eq!(Lanczos::default().extremes(), None);
    }
}
