//! Geodesic shooting by Runge–Kutta schemes, explicit or diagonally implicit, and its exact adjoint.
//!
//! The adjoint is that of the scheme, not of the differential equation, so that gradients are
//! those of the computed result to rounding. Only the state at each step is kept, N·(2d) numbers
//! per step; stages are computed again on the way back.

use keops_core::error::Error;
use keops_core::genred::Place;
use keops_core::memory;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use std::sync::Arc;

use crate::error::LddmmError;
use crate::hamiltonian::Dynamics;
use crate::kernel::Kernel;
use crate::model::Model;
use crate::state::State;
use crate::sum::{Real, copied, narrow, zeros};

mod integrator;
pub use integrator::Integrator;

/// Most steps of a shooting.
pub const MAX_STEPS: usize = 1_000_000;

/// Most iterations for an implicit stage.
const MOST_ITERATIONS: usize = 200;

/// The solution of x = map(x) by iteration, to rounding; `None` where it does not settle. `differ` says
/// how far two values are from each other, in units of rounding.
fn fixed_point<T>(
    mut x: T,
    map: impl Fn(&T) -> Result<T, LddmmError>,
    differ: impl Fn(&T, &T) -> f64,
) -> Result<Option<T>, LddmmError> {
    let mut last = f64::INFINITY;
    for _ in 0..MOST_ITERATIONS {
        let next = map(&x)?;
        let change = differ(&next, &x);
        x = next;
        // (Close to the solution rounding may keep it from settling.)
        if change <= 2.0 || (change < 100.0 && change >= last) {
            return Ok(Some(x));
        }
        if change.is_nan() {
            return Ok(None);
        }
        last = change;
    }
    Ok(None)
}

/// Largest difference of entries, in units of the rounding of the largest entry.
fn ulps<F: Real>(a: &Array2<F>, b: &Array2<F>) -> f64 {
    let wide = |v: F| keops_core::data::Element::to_f64(v);
    let (mut gap, mut size) = (0.0f64, f64::MIN_POSITIVE);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (wide(a), wide(b));
        let far = (a - b).abs();
        gap = if far <= gap { gap } else { far };
        size = size.max(a.abs());
    }
    gap / (size * wide(F::epsilon()))
}

/// Stages of a step and the rates at some of them.
struct Stages<F> {
    states: Vec<State<F>>,
    slopes: Vec<State<F>>,
}

/// The states at all steps of a shooting, from time 0 to time 1.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::{hamiltonian::State, kernel::Kernel};
/// use keops_lddmm::shooting::{Integrator, Shooting, Trajectory};
/// use ndarray::array;
/// let device = Device::new(Interpreter::new());
/// let shooting = Shooting::new(&Kernel::gaussian(1.0)?, 2, Integrator::Heun, 4, &device)?;
/// let start = State::new(array![[0.0, 0.0]].view(), array![[4.0, 8.0]].view())?;
/// let trajectory: Trajectory<f64> = shooting.shoot(start)?;
/// // One landmark moves on a straight line.
/// let heights: Vec<f64> = trajectory.states().iter().map(|s| s.q()[[0, 1]]).collect();
/// assert_eq!(heights, [0.0, 2.0, 4.0, 6.0, 8.0]);
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory<F> {
    states: Vec<State<F>>,
}

impl<F: Real> Trajectory<F> {
    /// The states, one more than there are steps.
    ///
    /// ```
    #[doc = include_str!("shooting_example.txt")]
    /// let trajectory = shooting.shoot(start.clone())?; // 4 steps
    /// assert_eq!((trajectory.states().len(), &trajectory.states()[0]), (5, &start));
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn states(&self) -> &[State<F>] {
        &self.states
    }
    /// The state at time 1.
    ///
    /// ```
    #[doc = include_str!("shooting_example.txt")]
    /// let trajectory = shooting.shoot(start)?; // one landmark, from (0, 0) with momentum (4, 8)
    /// assert_eq!(trajectory.end().q(), array![[4.0, 8.0]]);
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn end(&self) -> &State<F> {
        match self.states.last() {
            Some(s) => s,
            None => unreachable!("a trajectory has a first state"),
        }
    }
}

/// Shooting over the time from 0 to 1 in equal steps.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::hamiltonian::State;
/// use keops_lddmm::kernel::Kernel;
/// use keops_lddmm::shooting::{Integrator, Shooting};
/// use ndarray::array;
///
/// let device = Device::new(Interpreter::new());
/// let shooting = Shooting::new(&Kernel::gaussian(1.0)?, 2, Integrator::Rk4, 20, &device)?;
/// let (q, p) = (array![[-0.5, 0.0], [0.5, 0.0]], array![[1.0, 1.0], [-1.0, 1.0]]);
/// let start = State::new(q.view(), p.view())?;
/// let end = shooting.shoot(start.clone())?.end().clone();
/// // Landmarks that run into each other never meet, and the energy is kept.
/// assert!(end.q()[[0, 0]] < end.q()[[1, 0]] && end.q()[[0, 1]] > 0.5);
/// let energy = |s: &State<f64>| shooting.dynamics().energy(s);
/// assert!((energy(&start)? - energy(&end)?).abs() < 1e-5);
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Shooting<F> {
    model: Arc<dyn Model<F>>,
    integrator: Integrator,
    steps: usize,
}

impl<F: Real> Shooting<F> {
    /// Landmarks in dimension `dim` under a kernel, by `steps` steps of an integrator.
    ///
    /// # Errors
    /// When `steps` is not in 1..=10⁶ or `dim` not in 1..=64.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// use keops_lddmm::{kernel::Kernel, shooting::{Integrator, Shooting}};
    /// let (kernel, device) = (Kernel::gaussian(1.0)?, Device::new(Interpreter::new()));
    /// assert_eq!(Shooting::<f64>::new(&kernel, 3, Integrator::Heun, 10, &device)?.steps(), 10);
    /// let e = Shooting::<f64>::new(&kernel, 3, Integrator::Heun, 0, &device).unwrap_err();
    /// assert_eq!(e.to_string(), "steps: expected 1..=1000000, got 0");
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn new(
        kernel: &Kernel,
        dim: usize,
        integrator: Integrator,
        steps: usize,
        place: &impl Place,
    ) -> Result<Shooting<F>, LddmmError> {
        // (How many landmarks there will be is not known here.)
        let dynamics = Dynamics::new(kernel, dim, &place.device(0))?;
        Shooting::of(Arc::new(dynamics), integrator, steps)
    }
    /// Any model, by `steps` steps of an integrator.
    ///
    /// # Errors
    /// When `steps` is not in 1..=10⁶.
    pub fn of(
        model: Arc<dyn Model<F>>,
        integrator: Integrator,
        steps: usize,
    ) -> Result<Shooting<F>, LddmmError> {
        if steps == 0 || steps > MAX_STEPS {
            return Err(LddmmError::parameter("steps", format!("1..={MAX_STEPS}"), steps));
        }
        Ok(Shooting { model, integrator, steps })
    }
    /// The model.
    ///
    /// ```
    #[doc = include_str!("shooting_example.txt")]
    /// assert_eq!(shooting.dynamics().energy(&start)?, 40.0); // ½ (4² + 8²)
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn dynamics(&self) -> &dyn Model<F> {
        &*self.model
    }
    /// The integrator.
    ///
    /// ```
    #[doc = include_str!("shooting_example.txt")]
    /// assert_eq!(shooting.integrator(), Integrator::Heun);
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn integrator(&self) -> Integrator {
        self.integrator
    }
    /// Number of steps.
    ///
    /// ```
    #[doc = include_str!("shooting_example.txt")]
    /// assert_eq!(shooting.steps(), 4);
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn steps(&self) -> usize {
        self.steps
    }
    /// A coefficient of the tableau times the step length.
    fn weight(&self, coefficient: f64) -> F {
        narrow(coefficient / self.steps as f64)
    }

    /// Stages of one step and the rates at the first `rates` of them; `rates` is the number of
    /// stages or one less.
    fn stages(&self, start: &State<F>, rates: usize, step: usize) -> Result<Stages<F>, LddmmError> {
        let tableau = self.integrator.tableau();
        let mut all = Stages { states: vec![], slopes: vec![] };
        for row in tableau.a {
            let mut stage = start.copy()?;
            for (&a, slope) in row.iter().zip(&all.slopes).filter(|(a, _)| **a != 0.0) {
                stage.add_scaled(self.weight(a), slope);
            }
            if let Some(own) = tableau.own(all.states.len()) {
                // Y = y + h a K(Y)
                stage = self.solved(&stage, |y| self.model.rates(y), own, step)?;
            }
            if all.slopes.len() < rates {
                all.slopes.push(self.model.rates(&stage)?);
            }
            all.states.push(stage);
        }
        Ok(all)
    }

    /// The solution of Y = base + h a f(Y).
    fn solved(
        &self,
        base: &State<F>,
        f: impl Fn(&State<F>) -> Result<State<F>, LddmmError>,
        coefficient: f64,
        step: usize,
    ) -> Result<State<F>, LddmmError> {
        let map = |y: &State<F>| {
            let mut next = base.copy()?;
            next.add_scaled(self.weight(coefficient), &f(y)?);
            Ok(next)
        };
        fixed_point(base.copy()?, map, |a, b| a.ulps(b, ulps))?
            .ok_or(LddmmError::Implicit { step: step + 1, steps: self.steps })
    }

    /// Shoots from a state at time 0 to time 1.
    ///
    /// # Errors
    /// [`LddmmError::Breakdown`] in the step in which numbers cease to be finite;
    /// [`LddmmError::Array`] for a state of another dimension; [`LddmmError::Device`].
    ///
    /// ```
    #[doc = include_str!("shooting_example.txt")]
    /// // One landmark, from (0, 0) with momentum (4, 8); a silent point lies on it.
    /// let on_it = start.clone().with_silent(array![[0.0, 0.0]].view())?;
    /// assert_eq!(shooting.shoot(on_it)?.end().x(), array![[4.0, 8.0]]);
    /// let mut wild = start;
    /// wild.p_mut().fill(f64::NAN);
    /// let e = shooting.shoot(wild).unwrap_err();
    /// assert!(e.to_string().starts_with("the flow broke down in step 1 of 4"));
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn shoot(&self, start: State<F>) -> Result<Trajectory<F>, LddmmError> {
        self.check_start(&start)?;
        let mut states = vec![start];
        let states_of = "the states of a trajectory";
        states
            .try_reserve_exact(self.steps)
            .map_err(|_| Error::from(memory::refused::<State<F>>(self.steps, states_of)))?;
        for step in 0..self.steps {
            states.push(self.advance(&states[step], step)?);
        }
        Ok(Trajectory { states })
    }
    fn check_start(&self, start: &State<F>) -> Result<(), LddmmError> {
        if start.is_finite() {
            return Ok(());
        }
        Err(LddmmError::Breakdown { step: 1, steps: self.steps })
    }
    /// One step.
    fn advance(&self, state: &State<F>, step: usize) -> Result<State<F>, LddmmError> {
        let tableau = self.integrator.tableau();
        let mut next = state.copy()?;
        let slopes = self.stages(state, tableau.b.len(), step)?.slopes;
        for (&b, slope) in tableau.b.iter().zip(&slopes).filter(|(b, _)| **b != 0.0) {
            next.add_scaled(self.weight(b), slope);
        }
        if !next.is_finite() {
            return Err(LddmmError::Breakdown { step: step + 1, steps: self.steps });
        }
        Ok(next)
    }

    /// Shoots to the end, and pulls the cotangent that `at_end` makes of the state there back to the
    /// start, with no more than about 2 √steps states in memory at a time, where
    /// [`Shooting::shoot`] and [`Shooting::pull_back`] keep all: the steps between two that were kept
    /// are made once more. Results are the same, bit for bit.
    ///
    /// # Errors
    /// As those two, and what `at_end` returns.
    ///
    /// ```
    #[doc = include_str!("shooting_example.txt")]
    /// // The cotangent of half of the squared distance to 0 is the place itself.
    /// let (place, gradient) = shooting.shoot_and_pull_back(start, |end| {
    ///     let mut cotangent = end.zeros_like();
    ///     cotangent.q_mut().assign(&end.q());
    ///     Ok((end.q().to_owned(), cotangent))
    /// })?;
    /// assert_eq!(place, array![[4.0, 8.0]]); // from (0, 0) with momentum (4, 8)
    /// assert_eq!((gradient.q(), gradient.p()), (place.view(), place.view()));
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn shoot_and_pull_back<T>(
        &self,
        start: State<F>,
        at_end: impl FnOnce(&State<F>) -> Result<(T, State<F>), LddmmError>,
    ) -> Result<(T, State<F>), LddmmError> {
        self.check_start(&start)?;
        let every = self.steps.isqrt().max(1);
        let mut kept = vec![];
        let mut state = start;
        for step in 0..self.steps {
            let next = self.advance(&state, step)?;
            if step.is_multiple_of(every) {
                kept.push((step, state));
            }
            state = next;
        }
        let (value, mut bar) = at_end(&state)?;
        check_like(&state, &bar)?;
        let mut end = self.steps;
        while let Some((first, state)) = kept.pop() {
            let mut states = vec![state];
            for step in first..end - 1 {
                states.push(self.advance(&states[step - first], step)?);
            }
            for (step, state) in (first..end).zip(&states).rev() {
                bar = self.pull_step(state, step, bar)?;
            }
            end = first;
        }
        Ok((value, bar))
    }

    /// Adjoint of [`Shooting::shoot`]: from the cotangent of the state at time 1 that of the state
    /// at time 0.
    ///
    /// # Errors
    /// When the trajectory has another number of steps than this shooting, the cotangent has
    /// another shape than its states, or the device fails.
    ///
    /// ```
    #[doc = include_str!("shooting_example.txt")]
    /// // One landmark ends in q + p with momentum p: the cotangent of q is that of the end, and
    /// // the one of p is the sum of both.
    /// let trajectory = shooting.shoot(start)?;
    /// let cotangent = State::new(array![[1.0, 0.0]].view(), array![[0.0, 5.0]].view())?;
    /// let pulled = shooting.pull_back(&trajectory, cotangent)?;
    /// assert_eq!(pulled.q(), array![[1.0, 0.0]]);
    /// assert_eq!(pulled.p(), array![[1.0, 5.0]]);
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn pull_back(
        &self,
        trajectory: &Trajectory<F>,
        cotangent: State<F>,
    ) -> Result<State<F>, LddmmError> {
        self.check(trajectory)?;
        check_like(trajectory.end(), &cotangent)?;
        let mut bar = cotangent;
        for (step, start) in trajectory.states[..self.steps].iter().enumerate().rev() {
            bar = self.pull_step(start, step, bar)?;
        }
        Ok(bar)
    }
    /// Adjoint of one step.
    fn pull_step(
        &self,
        start: &State<F>,
        step: usize,
        mut bar: State<F>,
    ) -> Result<State<F>, LddmmError> {
        let tableau = self.integrator.tableau();
        let count = tableau.b.len();
        // With Y_s the stages, K̄_s = h b_s ȳ + h Σ_{t>s} a_ts Ȳ_t, Ȳ_s = J(Y_s)ᵀ K̄_s and
        // ȳ += Σ_s Ȳ_s.
        let stages = self.stages(start, count - 1, step)?.states;
        let mut later: Vec<(usize, State<F>)> = Vec::with_capacity(count);
        for s in (0..count).rev() {
            let mut slope_bar = bar.scaled(self.weight(tableau.b[s]))?;
            for (t, stage_bar) in later.iter().filter(|(t, _)| tableau.a[*t][s] != 0.0) {
                slope_bar.add_scaled(self.weight(tableau.a[*t][s]), stage_bar);
            }
            let pull = |bar: &State<F>| self.model.pull_back(&stages[s], bar);
            if let Some(own) = tableau.own(s) {
                // K̄ = … + h a Ȳ, with Ȳ = Jᵀ K̄
                slope_bar = self.solved(&slope_bar, pull, own, step)?;
            }
            later.push((s, pull(&slope_bar)?));
        }
        for (_, stage_bar) in &later {
            bar.add_scaled(F::one(), stage_bar);
        }
        Ok(bar)
    }

    /// Carries points along a trajectory: their positions at every step, each of shape (m, d).
    /// They move exactly as silent points of the trajectory would.
    ///
    /// # Errors
    /// As [`Shooting::pull_back`], and [`LddmmError::Breakdown`].
    ///
    /// ```
    #[doc = include_str!("shooting_example.txt")]
    /// let trajectory = shooting.shoot(start)?; // one landmark, from (0, 0) with momentum (4, 8)
    /// let places = shooting.carry(&trajectory, array![[0.0, 0.0], [-99.0, 0.0]].view())?;
    /// assert_eq!(places.len(), 5);
    /// assert_eq!(places[2], array![[2.0, 4.0], [-99.0, 0.0]]); // the second is out of reach
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn carry(
        &self,
        trajectory: &Trajectory<F>,
        points: ArrayView2<'_, F>,
    ) -> Result<Vec<Array2<F>>, LddmmError> {
        self.check(trajectory)?;
        LddmmError::check_array("points", points, None, trajectory.end().dim())?;
        let mut all = vec![copied(points)?];
        self.carry_rows(
            trajectory,
            copied(points)?,
            |state, rows| self.model.velocity(state, rows),
            |rows| {
                all.push(copied(rows.view())?);
                Ok(())
            },
        )?;
        Ok(all)
    }

    /// Carries points along a trajectory and returns their places at time 1, shape (m, d), with
    /// the determinant of the Jacobian of the deformation at each point, shape (m). Both are
    /// those of the discrete flow.
    ///
    /// # Errors
    /// As [`Shooting::carry`].
    ///
    /// ```
    #[doc = include_str!("shooting_example.txt")]
    /// let trajectory = shooting.shoot(start)?; // one landmark, from (0, 0) with momentum (4, 8)
    /// let points = array![[0.0, 0.0], [1.0, 2.0], [-99.0, 0.0]];
    /// let (places, determinants) = shooting.carry_with_jacobian(&trajectory, points.view())?;
    /// assert_eq!((places.dim(), determinants.len()), ((3, 2), 3));
    /// // Where the flow runs ahead it compresses; what is out of reach stays.
    /// assert!(determinants[1] < 1.0);
    /// assert_eq!((places.row(2), determinants[2]), (points.row(2), 1.0));
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn carry_with_jacobian(
        &self,
        trajectory: &Trajectory<F>,
        points: ArrayView2<'_, F>,
    ) -> Result<(Array2<F>, Array1<f64>), LddmmError> {
        self.check(trajectory)?;
        let d = trajectory.end().dim();
        LddmmError::check_array("points", points, None, d)?;
        let mut rows = zeros((points.nrows(), d + d * d))?;
        rows.slice_axis_mut(Axis(1), (..d).into()).assign(&points);
        for k in 0..d {
            rows.column_mut(d + k * d + k).fill(F::one());
        }
        let end = self.carry_rows(
            trajectory,
            rows,
            |state, rows| {
                if rows.nrows() == 0 {
                    return Ok(Array2::zeros(rows.raw_dim()));
                }
                self.model.jacobian_rates(state, rows)
            },
            |_| Ok(()),
        )?;
        let determinants = end.rows().into_iter().map(|row| {
            let entries = row.iter().skip(d).map(|&v| keops_core::data::Element::to_f64(v));
            determinant(entries.collect(), d)
        });
        let determinants = memory::collected(determinants, "determinants").map_err(Error::from)?;
        Ok((copied(end.slice_axis(Axis(1), (..d).into()))?, determinants.into()))
    }

    /// Integrates rows whose rates depend on the state of a trajectory, by the scheme and the
    /// stages of that trajectory.
    fn carry_rows(
        &self,
        trajectory: &Trajectory<F>,
        mut rows: Array2<F>,
        rate: impl Fn(&State<F>, ArrayView2<'_, F>) -> Result<Array2<F>, LddmmError>,
        mut each: impl FnMut(&Array2<F>) -> Result<(), LddmmError>,
    ) -> Result<Array2<F>, LddmmError> {
        let tableau = self.integrator.tableau();
        for (step, start) in trajectory.states[..self.steps].iter().enumerate() {
            let stages = self.stages(start, tableau.b.len() - 1, step)?.states;
            let mut slopes: Vec<Array2<F>> = Vec::new();
            for (stage, row) in stages.iter().zip(tableau.a) {
                let mut at = copied(rows.view())?;
                for (&a, slope) in row.iter().zip(&slopes).filter(|(a, _)| **a != 0.0) {
                    at.scaled_add(self.weight(a), slope);
                }
                if let Some(own) = tableau.own(slopes.len()) {
                    let map = |rows: &Array2<F>| {
                        let mut next = copied(at.view())?;
                        next.scaled_add(self.weight(own), &rate(stage, rows.view())?);
                        Ok(next)
                    };
                    at = fixed_point(copied(at.view())?, map, ulps)?
                        .ok_or(LddmmError::Implicit { step: step + 1, steps: self.steps })?;
                }
                slopes.push(rate(stage, at.view())?);
            }
            for (&b, slope) in tableau.b.iter().zip(&slopes).filter(|(b, _)| **b != 0.0) {
                rows.scaled_add(self.weight(b), slope);
            }
            if !rows.iter().all(|v| v.is_finite()) {
                return Err(LddmmError::Breakdown { step: step + 1, steps: self.steps });
            }
            each(&rows)?;
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

/// An error where a cotangent is of another system than a state.
fn check_like<F: Real>(state: &State<F>, cotangent: &State<F>) -> Result<(), LddmmError> {
    if state.is_like(cotangent) {
        return Ok(());
    }
    let of = |s: &State<F>| format!("{:?} and {:?}", s.q().dim(), s.x().dim());
    Err(LddmmError::mismatch("the cotangent", of(state), of(cotangent)))
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
}
