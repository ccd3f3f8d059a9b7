//! Models of deformations: Hamiltonian systems that carry points of space.
//!
//! A [`Model`] is what a shooting integrates and what a registration looks for momenta of. Landmarks
//! under a kernel ([`crate::hamiltonian::Dynamics`]) are one; other crates define others.

use std::fmt::{Debug, Display};

use ndarray::{Array2, ArrayView2, Axis, Slice};

use crate::error::LddmmError;
pub use crate::state::State;
use crate::sum::{Real, combined, narrowed, zeros};

/// A system of coordinates q with momenta p and an energy H(q, p), that follows q̇ = ∂H/∂p,
/// ṗ = −∂H/∂q and carries points by a velocity field: ẋ = v(q, p; x). Cotangents are states.
///
/// Of parameters that do not change, the momenta are the parameters, q is what they add up to, and
/// nothing depends on it: H = |p|²/2. Its text ([`Display`]) stands in reports and checkpoints, and
/// should have all parameters in it.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::LddmmError;
/// use keops_lddmm::attachment::Landmarks;
/// use keops_lddmm::builtin::closed_curve;
/// use keops_lddmm::model::{Model, State};
/// use keops_lddmm::registration::{Options, Progress, Registration};
/// use ndarray::{Array2, ArrayView2, array};
/// use std::{ops::ControlFlow, sync::Arc};
///
/// /// All points move by one vector: p has one row.
/// #[derive(Debug)]
/// struct Translation;
/// impl std::fmt::Display for Translation {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.write_str("translation")
///     }
/// }
/// impl Model<f64> for Translation {
///     fn rest(&self, vertices: ArrayView2<'_, f64>) -> Result<State<f64>, LddmmError> {
///         let zero = Array2::zeros((1, vertices.ncols()));
///         State::of_system(zero.view(), zero.view(), vertices)
///     }
///     fn energy(&self, s: &State<f64>) -> Result<f64, LddmmError> {
///         Ok(0.5 * (&s.p() * &s.p()).sum())
///     }
///     fn rates(&self, s: &State<f64>) -> Result<State<f64>, LddmmError> {
///         let mut rates = s.zeros_like();
///         rates.q_mut().assign(&s.p());
///         rates.x_mut().assign(&self.velocity(s, s.x())?);
///         Ok(rates)
///     }
///     fn pull_back(&self, s: &State<f64>, c: &State<f64>) -> Result<State<f64>, LddmmError> {
///         let mut pulled = s.zeros_like();
///         pulled.p_mut().row_mut(0).assign(&(&c.q().row(0) + &c.x().sum_axis(ndarray::Axis(0))));
///         Ok(pulled)
///     }
///     fn velocity(&self, s: &State<f64>, x: ArrayView2<'_, f64>) -> Result<Array2<f64>, LddmmError> {
///         Ok(Array2::from_shape_fn(x.dim(), |(_, k)| s.p()[[0, k]]))
///     }
/// }
///
/// let circle = |x: f64| closed_curve(12, move |t| [x + t.cos(), t.sin()]);
/// let options = Options::with_model(Arc::new(Translation), Landmarks);
/// let device = Device::new(Interpreter::new());
/// let registration = Registration::new(&circle(0.0)?, &circle(3.0)?, &options, &device)?;
/// let found = registration.run(None, &mut |_: &Progress<'_>| ControlFlow::Continue(()))?;
/// assert!((found.momenta - array![[3.0, 0.0]]).iter().all(|gap| gap.abs() < 1e-2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Model<F: Real>: Display + Debug + Send + Sync {
    /// The state at time 0 of a shape with the given vertices, of shape (n, d), with momenta 0. Its
    /// [`State::vertices`] are those.
    ///
    /// # Errors
    /// For vertices that do not fit, and where there is no memory.
    fn rest(&self, vertices: ArrayView2<'_, F>) -> Result<State<F>, LddmmError>;

    /// H(q, p).
    ///
    /// # Errors
    /// For a state of another system, and when the device fails.
    fn energy(&self, state: &State<F>) -> Result<f64, LddmmError>;

    /// Time derivatives (∂H/∂p, −∂H/∂q, v(x)).
    ///
    /// # Errors
    /// As [`Model::energy`].
    fn rates(&self, state: &State<F>) -> Result<State<F>, LddmmError>;

    /// The product of the transposed Jacobian of [`Model::rates`] with cotangents of (q̇, ṗ, ẋ):
    /// cotangents of (q, p, x).
    ///
    /// # Errors
    /// As [`Model::energy`], and for a cotangent of another shape than the state.
    fn pull_back(&self, state: &State<F>, cotangent: &State<F>) -> Result<State<F>, LddmmError>;

    /// Velocities of points `x`, of shape (m, d).
    ///
    /// # Errors
    /// As [`Model::energy`].
    fn velocity(&self, state: &State<F>, x: ArrayView2<'_, F>) -> Result<Array2<F>, LddmmError>;

    /// Time derivatives of points x and of the columns of matrices M with Ṁ = Dv(x) M; rows (x, M) with
    /// M column by column, shape (m, d + d²). By central differences of velocities unless there is a
    /// rule.
    ///
    /// # Errors
    /// As [`Model::energy`].
    fn jacobian_rates(
        &self,
        state: &State<F>,
        rows: ArrayView2<'_, F>,
    ) -> Result<Array2<F>, LddmmError> {
        let d = state.dim();
        let x = rows.slice_axis(Axis(1), (..d).into());
        let mut rates = zeros(rows.dim())?;
        rates.slice_axis_mut(Axis(1), (..d).into()).assign(&self.velocity(state, x)?);
        let largest =
            x.iter().fold(1.0, |m: f64, &v| m.max(keops_core::data::Element::to_f64(v).abs()));
        let h = narrow_root::<F>() * largest;
        for column in 0..d {
            let range = Slice::from(d + column * d..d + (column + 1) * d);
            let along = rows.slice_axis(Axis(1), range);
            let at = |h: f64| -> Result<Array2<F>, LddmmError> {
                let moved = narrowed::<F>(combined(x, h, along)?.view())?;
                self.velocity(state, moved.view())
            };
            let slope = combined(at(h)?.view(), -1.0, at(-h)?.view())? / (2.0 * h);
            rates.slice_axis_mut(Axis(1), range).assign(&narrowed::<F>(slope.view())?);
        }
        Ok(rates)
    }

    /// Are q places of landmarks in the space of the shapes? Then reports look at whether they carry
    /// each other, and exports write them with their momenta.
    fn has_landmarks(&self) -> bool {
        false
    }
}

/// The third root of the rounding of `F`: the best step of central differences.
fn narrow_root<F: Real>() -> f64 {
    keops_core::data::Element::to_f64(F::epsilon()).cbrt()
}
