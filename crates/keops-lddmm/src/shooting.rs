//! Geodesic shooting by explicit Runge–Kutta schemes, and its exact adjoint.
//!
//! The adjoint is that of the scheme, not of the differential equation, so that gradients are
//! those of the computed result to rounding. Only the state at each step is kept, N·(2d) numbers
//! per step; stages are computed again on the way back.

use keops_core::spec::Device;
use ndarray::{Array1, Array2, ArrayView2, s};
use serde::{Deserialize, Serialize};

use crate::error::LddmmError;
use crate::hamiltonian::{Dynamics, State};
use crate::kernel::Kernel;
use crate::sum::{Real, narrow};

/// Most steps of a shooting.
pub const MAX_STEPS: usize = 1_000_000;

/// An explicit Runge–Kutta scheme.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Euler's, order 1.
    Euler,
    /// The midpoint scheme, order 2.
    Midpoint,
    /// Heun's, order 2: the mean of both ends.
    Heun,
    /// Ralston's, order 2: weights 1/4 and 3/4 at 0 and 2/3, the least error bound of order 2.
    Ralston,
    /// The classical scheme of order 4.
    Rk4,
}

impl Scheme {
    /// All schemes.
    pub const ALL: [Scheme; 5] =
        [Scheme::Euler, Scheme::Midpoint, Scheme::Heun, Scheme::Ralston, Scheme::Rk4];
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Euler => "euler",
            Scheme::Midpoint => "midpoint",
            Scheme::Heun => "heun",
            Scheme::Ralston => "ralston",
            Scheme::Rk4 => "rk4",
        }
    }
    /// Butcher's tableau: the rows below the diagonal, and the weights.
    fn tableau(self) -> Tableau {
        const SIXTH: f64 = 1.0 / 6.0;
        match self {
            Scheme::Euler => Tableau { a: &[&[]], b: &[1.0] },
            Scheme::Midpoint => Tableau { a: &[&[], &[0.5]], b: &[0.0, 1.0] },
            Scheme::Heun => Tableau { a: &[&[], &[1.0]], b: &[0.5, 0.5] },
            Scheme::Ralston => Tableau { a: &[&[], &[2.0 / 3.0]], b: &[0.25, 0.75] },
            Scheme::Rk4 => Tableau {
                a: &[&[], &[0.5], &[0.0, 0.5], &[0.0, 0.0, 1.0]],
                b: &[SIXTH, 2.0 * SIXTH, 2.0 * SIXTH, SIXTH],
            },
        }
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Scheme {
    type Err = LddmmError;
    fn from_str(text: &str) -> Result<Scheme, LddmmError> {
        Scheme::ALL.into_iter().find(|s| s.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let names = Scheme::ALL.map(Scheme::name).join(", ");
            LddmmError::parameter("scheme", format!("one of {names}"), text)
        })
    }
}

/// Stage s is at y + h Σ_t a[s][t] K_t, the step y + h Σ_s b[s] K_s.
struct Tableau {
    a: &'static [&'static [f64]],
    b: &'static [f64],
}

/// Stages of a step and the rates at some of them.
struct Stages<F> {
    states: Vec<State<F>>,
    slopes: Vec<State<F>>,
}

/// The states at all steps of a shooting, from time 0 to time 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory<F> {
    states: Vec<State<F>>,
}

impl<F: Real> Trajectory<F> {
    /// The states, one more than there are steps.
    pub fn states(&self) -> &[State<F>] {
        &self.states
    }
    /// The state at time 1.
    pub fn end(&self) -> &State<F> {
        match self.states.last() {
            Some(s) => s,
            None => unreachable!("a trajectory has a first state"),
        }
    }
}

/// Shooting over the time from 0 to 1 in equal steps.
#[derive(Clone, Debug)]
pub struct Shooting<F> {
    dynamics: Dynamics<F>,
    scheme: Scheme,
    steps: usize,
}

impl<F: Real> Shooting<F> {
    /// Landmarks in dimension `dim` under a kernel, by `steps` steps of a scheme.
    ///
    /// # Errors
    /// When `steps` is not in 1..=10⁶ or `dim` not in 1..=64.
    pub fn new(
        kernel: &Kernel,
        dim: usize,
        scheme: Scheme,
        steps: usize,
        device: &Device,
    ) -> Result<Shooting<F>, LddmmError> {
        if steps == 0 || steps > MAX_STEPS {
            return Err(LddmmError::parameter("steps", format!("1..={MAX_STEPS}"), steps));
        }
        Ok(Shooting { dynamics: Dynamics::new(kernel, dim, device)?, scheme, steps })
    }
    /// The vector field.
    pub fn dynamics(&self) -> &Dynamics<F> {
        &self.dynamics
    }
    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }
    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.steps
    }
    /// A coefficient of the tableau times the step length.
    fn weight(&self, coefficient: f64) -> F {
        narrow(coefficient / self.steps as f64)
    }

    /// Stages of one step and the rates at the first `rates` of them; `rates` is the number of
    /// stages or one less.
    fn stages(&self, start: &State<F>, rates: usize) -> Result<Stages<F>, LddmmError> {
        let tableau = self.scheme.tableau();
        let mut all = Stages { states: vec![], slopes: vec![] };
        for row in tableau.a {
            let mut stage = start.clone();
            for (&a, slope) in row.iter().zip(&all.slopes).filter(|(a, _)| **a != 0.0) {
                stage.add_scaled(self.weight(a), slope);
            }
            if all.slopes.len() < rates {
                all.slopes.push(self.dynamics.rates(&stage)?);
            }
            all.states.push(stage);
        }
        Ok(all)
    }

    /// Shoots.
    ///
    /// # Errors
    /// [`LddmmError::Breakdown`] in the step in which numbers cease to be finite;
    /// [`LddmmError::Array`] for a state of another dimension; [`LddmmError::Device`].
    pub fn shoot(&self, start: State<F>) -> Result<Trajectory<F>, LddmmError> {
        let breakdown = |step| LddmmError::Breakdown { step, steps: self.steps };
        let tableau = self.scheme.tableau();
        if !start.is_finite() {
            return Err(breakdown(1));
        }
        let mut states = vec![start];
        for step in 0..self.steps {
            let mut next = states[step].clone();
            let slopes = self.stages(&states[step], tableau.b.len())?.slopes;
            for (&b, slope) in tableau.b.iter().zip(&slopes).filter(|(b, _)| **b != 0.0) {
                next.add_scaled(self.weight(b), slope);
            }
            if !next.is_finite() {
                return Err(breakdown(step + 1));
            }
            states.push(next);
        }
        Ok(Trajectory { states })
    }

    /// Adjoint of [`Shooting::shoot`]: from the cotangent of the state at time 1 that of the state
    /// at time 0.
    ///
    /// # Errors
    /// When the trajectory has another number of steps than this shooting, the cotangent has
    /// another shape than its states, or the device fails.
    pub fn pull_back(
        &self,
        trajectory: &Trajectory<F>,
        cotangent: State<F>,
    ) -> Result<State<F>, LddmmError> {
        self.check(trajectory)?;
        let tableau = self.scheme.tableau();
        let count = tableau.b.len();
        let mut bar = cotangent;
        for start in trajectory.states[..self.steps].iter().rev() {
            // With Y_s the stages, K̄_s = h b_s ȳ + h Σ_{t>s} a_ts Ȳ_t, Ȳ_s = J(Y_s)ᵀ K̄_s and
            // ȳ += Σ_s Ȳ_s.
            let stages = self.stages(start, count - 1)?.states;
            let mut later: Vec<(usize, State<F>)> = Vec::with_capacity(count);
            for s in (0..count).rev() {
                let mut slope_bar = bar.zeros_like();
                slope_bar.add_scaled(self.weight(tableau.b[s]), &bar);
                for (t, stage_bar) in later.iter().filter(|(t, _)| tableau.a[*t][s] != 0.0) {
                    slope_bar.add_scaled(self.weight(tableau.a[*t][s]), stage_bar);
                }
                later.push((s, self.dynamics.pull_back(&stages[s], &slope_bar)?));
            }
            for (_, stage_bar) in &later {
                bar.add_scaled(F::one(), stage_bar);
            }
        }
        Ok(bar)
    }

    /// Carries points along a trajectory: their positions at every step, each of shape (m, d).
    /// They move exactly as silent points of the trajectory would.
    ///
    /// # Errors
    /// As [`Shooting::pull_back`], and [`LddmmError::Breakdown`].
    pub fn carry(
        &self,
        trajectory: &Trajectory<F>,
        points: ArrayView2<'_, F>,
    ) -> Result<Vec<Array2<F>>, LddmmError> {
        LddmmError::check_array("points", points, None, self.dynamics.dim())?;
        let mut all = vec![points.to_owned()];
        self.carry_rows(
            trajectory,
            points.to_owned(),
            |state, rows| self.dynamics.velocity(state, rows),
            |rows| all.push(rows.clone()),
        )?;
        Ok(all)
    }

    /// Carries points along a trajectory and returns their places at time 1, shape (m, d), with
    /// the determinant of the Jacobian of the deformation at each point, shape (m). Both are
    /// those of the discrete flow.
    ///
    /// # Errors
    /// As [`Shooting::carry`].
    pub fn carry_with_jacobian(
        &self,
        trajectory: &Trajectory<F>,
        points: ArrayView2<'_, F>,
    ) -> Result<(Array2<F>, Array1<f64>), LddmmError> {
        let d = self.dynamics.dim();
        LddmmError::check_array("points", points, None, d)?;
        let mut rows = Array2::zeros((points.nrows(), d + d * d));
        rows.slice_mut(s![.., ..d]).assign(&points);
        for k in 0..d {
            rows.column_mut(d + k * d + k).fill(F::one());
        }
        let end = self.carry_rows(
            trajectory,
            rows,
            |state, rows| {
                if rows.nrows() == 0 {
                    return Ok(rows.to_owned());
                }
                self.dynamics.jacobian_rates(state, rows)
            },
            |_| {},
        )?;
        let determinants = end.rows().into_iter().map(|row| {
            let entries = row.iter().skip(d).map(|&v| keops_core::data::Element::to_f64(v));
            determinant(entries.collect(), d)
        });
        Ok((end.slice(s![.., ..d]).to_owned(), determinants.collect()))
    }

    /// Integrates rows whose rates depend on the state of a trajectory, by the scheme and the
    /// stages of that trajectory.
    fn carry_rows(
        &self,
        trajectory: &Trajectory<F>,
        mut rows: Array2<F>,
        rate: impl Fn(&State<F>, ArrayView2<'_, F>) -> Result<Array2<F>, LddmmError>,
        mut each: impl FnMut(&Array2<F>),
    ) -> Result<Array2<F>, LddmmError> {
        self.check(trajectory)?;
        let tableau = self.scheme.tableau();
        for (step, start) in trajectory.states[..self.steps].iter().enumerate() {
            let stages = self.stages(start, tableau.b.len() - 1)?.states;
            let mut slopes: Vec<Array2<F>> = Vec::new();
            for (stage, row) in stages.iter().zip(tableau.a) {
                let mut at = rows.clone();
                for (&a, slope) in row.iter().zip(&slopes).filter(|(a, _)| **a != 0.0) {
                    at.scaled_add(self.weight(a), slope);
                }
                slopes.push(rate(stage, at.view())?);
            }
            for (&b, slope) in tableau.b.iter().zip(&slopes).filter(|(b, _)| **b != 0.0) {
                rows.scaled_add(self.weight(b), slope);
            }
            if !rows.iter().all(|v| v.is_finite()) {
                return Err(LddmmError::Breakdown { step: step + 1, steps: self.steps });
            }
            each(&rows);
        }
        Ok(rows)
    }

    fn check(&self, trajectory: &Trajectory<F>) -> Result<(), LddmmError> {
        let steps = trajectory.states.len() - 1;
        if steps == self.steps {
            return Ok(());
        }
        Err(LddmmError::mismatch("the trajectory", format!("{} steps", self.steps), steps))
    }
}

/// Determinant of a d × d matrix by elimination with partial pivoting.
fn determinant(mut m: Vec<f64>, d: usize) -> f64 {
    let mut det = 1.0;
    for k in 0..d {
        let pivot = (k..d).max_by(|&a, &b| m[a * d + k].abs().total_cmp(&m[b * d + k].abs()));
        let Some(pivot) = pivot.filter(|&r| m[r * d + k] != 0.0) else { return 0.0 };
        if pivot != k {
            (0..d).for_each(|c| m.swap(pivot * d + c, k * d + c));
            det = -det;
        }
        det *= m[k * d + k];
        for r in k + 1..d {
            let factor = m[r * d + k] / m[k * d + k];
            for c in k..d {
                m[r * d + c] -= factor * m[k * d + c];
            }
        }
    }
    det
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn determinants() {
        assert_eq!(determinant(vec![2.0], 1), 2.0);
        assert_eq!(determinant(vec![0.0, 1.0, 1.0, 0.0], 2), -1.0);
        // A Vandermonde matrix: (3−2)(5−2)(5−3).
        let v = vec![1.0, 2.0, 4.0, 1.0, 3.0, 9.0, 1.0, 5.0, 25.0];
        assert!((determinant(v, 3) - 6.0).abs() < 1e-14);
        assert_eq!(determinant(vec![1.0, 2.0, 2.0, 4.0], 2), 0.0);
    }

    #[test]
    fn names_of_schemes() {
        for scheme in Scheme::ALL {
            assert_eq!(scheme.name().parse::<Scheme>().unwrap(), scheme);
        }
        let e = "verlet".parse::<Scheme>().unwrap_err().to_string();
        assert_eq!(e, "scheme: expected one of euler, midpoint, heun, ralston, rk4, got verlet");
    }
}
