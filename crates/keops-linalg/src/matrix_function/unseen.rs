//! What a function does where the Lanczos process has not looked.
//!
//! The process knows a function by its values at the Ritz values θ_k alone. Of the spectral measure μ of
//! its vector it knows, by the inequalities of Chebyshev, Markov and Stieltjes (G. Szegő, Orthogonal
//! Polynomials, 4th ed., section 3.41), that between two neighbours lies no more than the sum of their
//! weights; and that an eigenvalue is at most a residual away from the outermost ones. A function that
//! leaves there the range of its values at the neighbours may change the integral without a sign of it
//! in the values of several numbers of steps, as one that is 0 at all θ_k and not between them. Where the
//! function is a polynomial of a degree below that of the quadrature, all but rounding, there is nothing
//! to fear: the quadrature is exact for it, whatever the measure is.

use std::f64::consts::PI;

/// Points in a gap between two Ritz values, and beyond the outermost ones.
const SAMPLES: usize = 16;

/// Ritz values, ascending, the squares of their weights, and how far beyond the first and the last one
/// an eigenvalue may lie.
pub(super) struct Measure<'m> {
    pub values: &'m [f64],
    pub weights: &'m [f64],
    pub residuals: [f64; 2],
}

impl Measure<'_> {
    /// `∫ |f| dμ` by the quadrature: what a change is compared with.
    pub fn size(&self, f: &dyn Fn(f64) -> f64) -> f64 {
        self.values.iter().zip(self.weights).map(|(v, w)| w * f(*v).abs()).sum()
    }
    /// How much of the integral may come from where `f` leaves the range of its values at neighbours.
    pub fn unseen(&self, f: &dyn Fn(f64) -> f64) -> f64 {
        let (n, w) = (self.values.len(), self.weights);
        let Some(last) = n.checked_sub(1) else { return 0.0 };
        let excess = |from: f64, to: f64, [a, b]: [f64; 2]| {
            let (low, high) = (a.min(b), a.max(b));
            let at = |k: usize| f(from + (to - from) * k as f64 / SAMPLES as f64);
            let own = (1..=SAMPLES).map(at).filter(|v| v.is_finite());
            own.fold(0.0f64, |m, v| m.max(v - high).max(low - v))
        };
        let (first, end) = (self.values[0], self.values[last]);
        let mut total = w[0] * excess(first, first - self.residuals[0], [f(first); 2])
            + w[last] * excess(end, end + self.residuals[1], [f(end); 2]);
        for k in 0..last {
            let (a, b) = (self.values[k], self.values[k + 1]);
            total += w[k].max(w[k + 1]) * excess(a, b, [f(a), f(b)]);
        }
        total
    }
    /// Is `f` a polynomial of a degree that the quadrature integrates, to this part of its size? Its
    /// Chebyshev coefficients on the hull of the spectrum tell (L. Trefethen, Approximation Theory and
    /// Approximation Practice, 2013, chapters 3 and 4).
    pub fn is_polynomial(&self, f: &dyn Fn(f64) -> f64, tolerance: f64) -> bool {
        let n = self.values.len();
        let Some(last) = n.checked_sub(1) else { return true };
        let [mut low, mut high] = [self.values[0], self.values[last]];
        // (Beyond, as far as there is a value.)
        if f(low - self.residuals[0]).is_finite() {
            low -= self.residuals[0];
        }
        if f(high + self.residuals[1]).is_finite() {
            high += self.residuals[1];
        }
        let points = 4 * n + 64;
        let angle = |k: usize| PI * (k as f64 + 0.5) / points as f64;
        let at = |k: usize| f(0.5 * (low + high) + 0.5 * (high - low) * angle(k).cos());
        let own: Vec<f64> = (0..points).map(at).collect();
        let size = own.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let coefficient = |k: usize| {
            let sum: f64 =
                own.iter().enumerate().map(|(i, v)| v * (angle(i) * k as f64).cos()).sum();
            2.0 * sum.abs() / points as f64
        };
        // (Of degree 2n - 1 it is exact; half of it leaves something to see.)
        let tail: f64 = (n..points).map(coefficient).sum();
        tail <= tolerance * size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_is_seen() {
        let (values, weights) = ([0.1, 0.5, 0.9], [0.3, 0.4, 0.3]);
        let m = Measure { values: &values, weights: &weights, residuals: [0.1, 0.05] };
        // 1 beyond the last value, below the first, and between two.
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} not {b}");
        close(m.unseen(&|x| if x > 0.92 { 1.0 } else { 0.0 }), 0.3);
        close(m.unseen(&|x| if x < 0.05 { -2.0 } else { 0.0 }), 0.6);
        close(m.unseen(&|x| if (0.2..0.3).contains(&x) { 1.0 } else { 0.0 }), 0.4);
        close(m.unseen(&|x| 7.0 + 0.0 * x), 0.0);
        // A line leaves its values beyond the ends alone; a function without a value is not asked.
        close(m.unseen(&|x| x), 0.3 * 0.1 + 0.3 * 0.05);
        close(m.unseen(&|x| if x < 0.1 { f64::NAN } else { 1.0 }), 0.0);
        close(m.size(&|x| x - 0.5), 0.3 * 0.4 * 2.0);
        assert!(m.is_polynomial(&|x| 3.0 * x * x - x, 1e-12));
        assert!(!m.is_polynomial(&|x| (x - 0.3).abs(), 1e-4));
        assert!(!m.is_polynomial(&|x| (-50.0 * x).exp(), 1e-4));
    }
}
