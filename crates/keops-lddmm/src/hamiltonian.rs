//! Hamiltonian dynamics of landmarks and of the points that they carry.
//!
//! Landmarks q with momenta p have the energy H(q, p) = ½ Σ_ij k(|q_i − q_j|²) ⟨p_i, p_j⟩ and
//! follow q̇ = ∂H/∂p, ṗ = −∂H/∂q; silent points follow ẋ = Σ_j k(|x − q_j|²) p_j (Miller, Trouvé &
//! Younes 2006). Only the pair energy f = k ⟨p_i, p_j⟩ is written down here; right-hand side and
//! adjoint are its derivatives as formulas, each one reduction that evaluates the kernel once per
//! pair. As f is symmetric in i and j, the derivative of H = ½ Σ_ij f_ij in a row is Σ_j ∂_1 f_ij.

use keops_core::autodiff::{jvp, vjp};
use keops_core::graph::{Category, Ex};
use keops_core::ranges::Ranges;
use keops_core::spec::{Axis, Device, ReduceOptions};
use ndarray::{Array2, ArrayView2};

use crate::error::LddmmError;
use crate::kernel::Kernel;
use crate::model::Model;
pub use crate::state::{MAX_SPACE, State};
use crate::sum::{Real, Sum, dot, zeros};

/// The vector field of landmarks and silent points under one kernel, with its adjoint, on a
/// device. Cheap to clone.
///
/// ```
/// use keops_core::{interp::Interpreter, spec::Device};
/// use keops_lddmm::hamiltonian::{Dynamics, State};
/// use keops_lddmm::kernel::Kernel;
/// use ndarray::array;
///
/// let device = Device::new(Interpreter::new());
/// let dynamics = Dynamics::new(&Kernel::gaussian(1.0)?, 2, &device)?;
/// // Two landmarks that are pulled upwards, one unit apart: each carries the other along.
/// let (q, p) = (array![[0.0, 0.0], [1.0, 0.0]], array![[0.0, 1.0], [0.0, 1.0]]);
/// let rates = dynamics.rates(&State::new(q.view(), p.view())?)?;
/// let speed: f64 = 1.0 + (-1f64).exp();
/// assert!(rates.q().iter().zip([0.0, speed, 0.0, speed]).all(|(a, b)| (a - b).abs() < 1e-15));
/// // ṗ = -∂H/∂q: equal momenta drive landmarks apart, and no momentum is lost.
/// assert!(rates.p()[[0, 0]] < 0.0 && rates.p()[[1, 0]] > 0.0);
/// assert!(rates.p().sum().abs() < 1e-15);
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dynamics<F> {
    dim: usize,
    kernel: Kernel,
    /// Pairs of landmarks that interact.
    ranges: Option<Ranges>,
    /// (q̇, ṗ) of the landmarks.
    rates: Sum,
    /// Adjoint of `rates`.
    pull: Sum,
    /// ẋ of silent points.
    velocity: Sum,
    /// Adjoint of `velocity`, to the silent points and to the landmarks.
    pull_silent: Sum,
    pull_carriers: Sum,
    /// (ẋ, Ṁ) of points and Jacobians.
    jacobian: Sum,
    precision: std::marker::PhantomData<F>,
}

/// Halves of a row (q, p) or (a, b).
fn halves(row: Ex<'_>) -> (Ex<'_>, Ex<'_>) {
    let d = row.dim() / 2;
    (row.pick(0, 1, d), row.pick(d, 1, d))
}

impl<F: Real> Dynamics<F> {
    /// Landmarks in dimension `dim` under a kernel.
    ///
    /// # Errors
    /// When `dim` is not in 1..=64, or a scale of the kernel is not a number in the precision `F`.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// use keops_lddmm::{hamiltonian::Dynamics, kernel::Kernel};
    /// let (kernel, device) = (Kernel::cauchy(0.5)?, Device::new(Interpreter::new()));
    /// assert_eq!(Dynamics::<f32>::new(&kernel, 3, &device)?.dim(), 3);
    /// let e = Dynamics::<f32>::new(&kernel, 0, &device).unwrap_err();
    /// assert_eq!(e.to_string(), "dim: expected 1..=64, got 0");
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn new(kernel: &Kernel, dim: usize, device: &Device) -> Result<Dynamics<F>, LddmmError> {
        Dynamics::with_options(kernel, dim, device, ReduceOptions::default())
    }
    /// As [`Dynamics::new`], with a way to add.
    ///
    /// # Errors
    /// As [`Dynamics::new`].
    pub fn with_options(
        kernel: &Kernel,
        dim: usize,
        device: &Device,
        options: ReduceOptions,
    ) -> Result<Dynamics<F>, LddmmError> {
        if dim == 0 || dim > MAX_SPACE {
            return Err(LddmmError::parameter("dim", format!("1..={MAX_SPACE}"), dim));
        }
        kernel.check_precision::<F>()?;
        let (i, j) = (Category::I, Category::J);
        let k = |x: Ex<'_>, y: Ex<'_>| -> keops_core::graph::NodeId {
            let r = x - y;
            kernel.formula(r.dot(r)).id
        };
        // f = k ⟨p_i, p_j⟩ of the rows (q_i, p_i) and (q_j, p_j).
        let energy = |x: Ex<'_>, y: Ex<'_>| -> keops_core::graph::NodeId {
            let ((qi, pi), (qj, pj)) = (halves(x), halves(y));
            (x.b.ex(k(qi, qj)) * pi.dot(pj)).id
        };
        let velocity = |x: Ex<'_>, y: Ex<'_>| -> keops_core::graph::NodeId {
            let (q, p) = halves(y);
            (x.b.ex(k(x, q)) * p).id
        };
        let sum =
            |axis, vars: &[(&str, Category, usize)], f: &dyn for<'g> Fn(&[Ex<'g>]) -> Ex<'g>| {
                Sum::new::<F>(device, options, axis, vars, f)
            };
        let rows = [("landmarks", i, 2 * dim), ("landmarks (columns)", j, 2 * dim)];
        let tangents = [("cotangent", i, 2 * dim), ("cotangent (columns)", j, 2 * dim)];
        let rates = sum(Axis::J, &rows, &|v| {
            let f = v[0].b.ex(energy(v[0], v[1]));
            let (q, p) = halves(v[0]);
            let [along_q, along_p] = gradient(f, v[0].lit(1.0), [q, p]);
            Ex::concat(&[along_p, -along_q])
        });
        // With a on q̇ and b on ṗ, ⟨a, q̇⟩ + ⟨b, ṗ⟩ = d/dε H(q − εb, p + εa); its gradient in a
        // row is the derivative of Σ_j df along (−b, a).
        let pull = sum(Axis::J, &[rows, tangents].concat(), &|v| {
            let f = v[0].b.ex(energy(v[0], v[1]));
            let along: Vec<(Ex<'_>, Ex<'_>)> = [(v[0], v[2]), (v[1], v[3])]
                .into_iter()
                .flat_map(|(row, cotangent)| {
                    let ((q, p), (a, b)) = (halves(row), halves(cotangent));
                    [(q, -b), (p, a)]
                })
                .collect();
            let (q, p) = halves(v[0]);
            match jvp(f, &along) {
                Some(g) => Ex::concat(&gradient(g, v[0].lit(1.0), [q, p])),
                None => v[0] * 0.0,
            }
        });
        let points = [("points", i, dim), ("landmarks", j, 2 * dim)];
        let with_cotangent = [points[0], points[1], ("cotangent", i, dim)];
        Ok(Dynamics {
            dim,
            kernel: kernel.clone(),
            ranges: None,
            rates,
            pull,
            velocity: sum(Axis::J, &points, &|v| v[0].b.ex(velocity(v[0], v[1]))),
            pull_silent: sum(Axis::J, &with_cotangent, &|v| {
                let [g] = gradient(v[0].b.ex(velocity(v[0], v[1])), v[2], [v[0]]);
                g
            }),
            pull_carriers: sum(Axis::I, &with_cotangent, &|v| {
                let (q, p) = halves(v[1]);
                Ex::concat(&gradient(v[0].b.ex(velocity(v[0], v[1])), v[2], [q, p]))
            }),
            jacobian: sum(
                Axis::J,
                &[("points and Jacobians", i, dim + dim * dim), points[1]],
                &|v| {
                    let x = v[0].pick(0, 1, dim);
                    let rate = v[0].b.ex(velocity(x, v[1]));
                    let column = |c: usize| {
                        jvp(rate, &[(x, v[0].pick(dim + c * dim, 1, dim))]).unwrap_or(x * 0.0)
                    };
                    let columns = (0..dim).map(column);
                    Ex::concat(&std::iter::once(rate).chain(columns).collect::<Vec<_>>())
                },
            ),
            precision: std::marker::PhantomData,
        })
    }
    /// With the pairs of landmarks that interact; all others are left out of the energy, and so of
    /// rates and adjoint. Points that are carried meet all landmarks.
    ///
    /// # Errors
    /// When the pairs (i, j) and (j, i) are not both there or both left out.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, ranges::Ranges, spec::Device};
    /// use keops_lddmm::hamiltonian::{Dynamics, State};
    /// use keops_lddmm::kernel::Kernel;
    /// use ndarray::array;
    /// let device = Device::new(Interpreter::new());
    /// let ranges = Ranges::same_labels(&[0, 1], &[0, 1])?; // each with itself
    /// let apart = Dynamics::new(&Kernel::gaussian(1.0)?, 2, &device)?.with_ranges(ranges)?;
    /// let (q, p) = (array![[0.0, 0.0], [0.1, 0.0]], array![[0.0, 1.0], [0.0, 2.0]]);
    /// let rates = apart.rates(&State::new(q.view(), p.view())?)?;
    /// assert_eq!(rates.q(), p); // none carries the other
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_ranges(self, ranges: Ranges) -> Result<Dynamics<F>, LddmmError> {
        if ranges != ranges.swap_axes() {
            return Err(LddmmError::parameter("ranges", "a symmetric pattern of pairs", "another"));
        }
        Ok(Dynamics { ranges: Some(ranges), ..self })
    }
    /// Dimension d of the space.
    pub fn dim(&self) -> usize {
        self.dim
    }

    fn check(&self, state: &State<F>) -> Result<(), LddmmError> {
        LddmmError::check_array("q", state.q(), None, self.dim)
    }
    /// H(q, p), added in double precision.
    ///
    /// # Errors
    /// When the state has another dimension, or the device fails.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// use keops_lddmm::hamiltonian::{Dynamics, State};
    /// use keops_lddmm::kernel::Kernel;
    /// use ndarray::array;
    /// let device = Device::new(Interpreter::new());
    /// let dynamics = Dynamics::new(&Kernel::gaussian(1.0)?, 2, &device)?;
    /// let (q, p) = (array![[0.0, 0.0], [1.0, 0.0]], array![[1.0, 0.0], [1.0, 0.0]]);
    /// // ½ (1 + 1 + 2 exp(-1))
    /// let energy = dynamics.energy(&State::new(q.view(), p.view())?)?;
    /// assert!((energy - (1.0 + (-1f64).exp())).abs() < 1e-15);
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn energy(&self, state: &State<F>) -> Result<f64, LddmmError> {
        self.check(state)?;
        let rows = [state.q(), state.landmarks.view()];
        let velocities = self.velocity.call(&rows, self.ranges.as_ref())?;
        Ok(0.5 * dot(state.p(), velocities.view()))
    }
    /// Velocities Σ_j k(|x − q_j|²) p_j of points `x`, shape (m, d).
    ///
    /// # Errors
    /// As [`Dynamics::energy`].
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// use keops_lddmm::hamiltonian::{Dynamics, State};
    /// use keops_lddmm::kernel::Kernel;
    /// use ndarray::array;
    /// let device = Device::new(Interpreter::new());
    /// let dynamics = Dynamics::new(&Kernel::cauchy(1.0)?, 2, &device)?;
    /// let state = State::new(array![[0.0, 0.0]].view(), array![[4.0, 8.0]].view())?;
    /// // At the landmark, and at a distance of √3.
    /// let v = dynamics.velocity(&state, array![[0.0, 0.0], [3f64.sqrt(), 0.0]].view())?;
    /// assert!((v - array![[4.0, 8.0], [1.0, 2.0]]).iter().all(|gap| gap.abs() < 1e-14));
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn velocity(
        &self,
        state: &State<F>,
        x: ArrayView2<'_, F>,
    ) -> Result<Array2<F>, LddmmError> {
        self.check(state)?;
        if x.nrows() == 0 {
            return Ok(Array2::zeros((0, self.dim)));
        }
        Ok(self.velocity.call(&[x, state.landmarks.view()], None)?)
    }
    /// Time derivatives (q̇, ṗ, ẋ).
    ///
    /// # Errors
    /// As [`Dynamics::energy`].
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// use keops_lddmm::hamiltonian::{Dynamics, State};
    /// use keops_lddmm::kernel::Kernel;
    /// use ndarray::array;
    /// let device = Device::new(Interpreter::new());
    /// let dynamics = Dynamics::new(&Kernel::gaussian(1.0)?, 2, &device)?;
    /// // One landmark alone: q̇ = p, ṗ = 0.
    /// let state = State::new(array![[5.0, 6.0]].view(), array![[1.0, 2.0]].view())?;
    /// let rates = dynamics.rates(&state)?;
    /// assert_eq!((rates.q(), rates.p()), (state.p(), array![[0.0, 0.0]].view()));
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn rates(&self, state: &State<F>) -> Result<State<F>, LddmmError> {
        self.check(state)?;
        let rows = state.landmarks.view();
        let landmarks = self.rates.call(&[rows, rows], self.ranges.as_ref())?;
        Ok(State { landmarks, silent: self.velocity(state, state.x())? })
    }
    /// The product of the transposed Jacobian of [`Dynamics::rates`] with cotangents of
    /// (q̇, ṗ, ẋ): cotangents of (q, p, x).
    ///
    /// # Errors
    /// As [`Dynamics::energy`], and when the cotangent has another shape than the state.
    ///
    /// ```
    /// use keops_core::{interp::Interpreter, spec::Device};
    /// use keops_lddmm::hamiltonian::{Dynamics, State};
    /// use keops_lddmm::kernel::Kernel;
    /// use ndarray::array;
    /// let device = Device::new(Interpreter::new());
    /// let dynamics = Dynamics::new(&Kernel::gaussian(1.0)?, 2, &device)?;
    /// // One landmark alone has the rates (p, 0): the cotangent of q̇ comes back as that of p.
    /// let state = State::new(array![[5.0, 6.0]].view(), array![[1.0, 2.0]].view())?;
    /// let cotangent = State::new(array![[3.0, 4.0]].view(), array![[7.0, 8.0]].view())?;
    /// let pulled = dynamics.pull_back(&state, &cotangent)?;
    /// assert_eq!((pulled.q(), pulled.p()), (array![[0.0, 0.0]].view(), cotangent.q()));
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn pull_back(
        &self,
        state: &State<F>,
        cotangent: &State<F>,
    ) -> Result<State<F>, LddmmError> {
        self.check(state)?;
        let (n, m) = (state.landmarks.nrows(), state.silent.nrows());
        LddmmError::check_array("cotangent of q", cotangent.q(), Some(n), self.dim)?;
        LddmmError::check_array("cotangent of x", cotangent.x(), Some(m), self.dim)?;
        let (rows, c) = (state.landmarks.view(), cotangent.landmarks.view());
        let mut pulled = State {
            landmarks: self.pull.call(&[rows, rows, c, c], self.ranges.as_ref())?,
            silent: zeros((m, self.dim))?,
        };
        if m > 0 {
            let args = [state.x(), rows, cotangent.x()];
            pulled.silent = self.pull_silent.call(&args, None)?;
            pulled.landmarks += &self.pull_carriers.call(&args, None)?;
        }
        Ok(pulled)
    }
}

impl<F: Real> std::fmt::Display for Dynamics<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.kernel)
    }
}

impl<F: Real> Model<F> for Dynamics<F> {
    fn rest(&self, vertices: ArrayView2<'_, F>) -> Result<State<F>, LddmmError> {
        State::new(vertices, zeros(vertices.dim())?.view())
    }
    fn energy(&self, state: &State<F>) -> Result<f64, LddmmError> {
        Dynamics::energy(self, state)
    }
    fn rates(&self, state: &State<F>) -> Result<State<F>, LddmmError> {
        Dynamics::rates(self, state)
    }
    fn pull_back(&self, state: &State<F>, c: &State<F>) -> Result<State<F>, LddmmError> {
        Dynamics::pull_back(self, state, c)
    }
    fn velocity(&self, state: &State<F>, x: ArrayView2<'_, F>) -> Result<Array2<F>, LddmmError> {
        Dynamics::velocity(self, state, x)
    }
    fn jacobian_rates(
        &self,
        state: &State<F>,
        rows: ArrayView2<'_, F>,
    ) -> Result<Array2<F>, LddmmError> {
        Ok(self.jacobian.call(&[rows, state.landmarks.view()], None)?)
    }
    fn has_landmarks(&self) -> bool {
        true
    }
}

/// The gradients of ⟨seed, f⟩, zeros where f does not depend on a node.
fn gradient<'g, const N: usize>(f: Ex<'g>, seed: Ex<'g>, wrt: [Ex<'g>; N]) -> [Ex<'g>; N] {
    let all = vjp(f, seed, &wrt);
    std::array::from_fn(|k| all[k].unwrap_or(wrt[k] * 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keops_core::interp::Interpreter;
    use keops_core::ops::EXP;
    use ndarray::Axis;

    /// Reproducible numbers in (-1, 1).
    fn noise(rows: usize, columns: usize, seed: f64) -> Array2<f64> {
        Array2::from_shape_fn((rows, columns), |(i, k)| {
            2.0 * ((1.0 + i as f64 * 12.9898 + k as f64 * 78.233 + seed).sin() * 43758.5453)
                .rem_euclid(1.0)
                - 1.0
        })
    }

    #[test]
    fn each_reduction_evaluates_the_kernel_once() {
        let device = Device::new(Interpreter::new());
        let kernel = Kernel::gaussian(0.7).unwrap();
        let d = Dynamics::<f64>::new(&kernel, 3, &device).unwrap();
        for sum in [&d.rates, &d.pull, &d.velocity, &d.pull_silent, &d.pull_carriers, &d.jacobian] {
            assert_eq!(sum.count(&EXP), 1, "{sum:?}");
        }
    }

    /// The formulas for a Gaussian written out: with r = q_i − q_j, k' = −k/σ², k'' = k/σ⁴,
    /// β = ⟨b_i − b_j, r⟩,
    /// dG/dp_i = Σ_j k a_j − 2k'β p_j,
    /// dG/dq_i = Σ_j 2k'(⟨a_i, p_j⟩ + ⟨a_j, p_i⟩) r − 2⟨p_i, p_j⟩ (2k''β r + k'(b_i − b_j)).
    #[test]
    fn rates_and_adjoint_are_the_closed_forms() {
        let (n, sigma) = (7, 0.8);
        for d in 1..=3 {
            let (q, p) = (noise(n, d, 0.0), noise(n, d, 1.0));
            let (a, b) = (noise(n, d, 2.0), noise(n, d, 3.0));
            let state = State::new(q.view(), p.view()).unwrap();
            let cotangent = State::new(a.view(), b.view()).unwrap();
            let device = Device::new(Interpreter::new());
            let dynamics = Dynamics::new(&Kernel::gaussian(sigma).unwrap(), d, &device).unwrap();
            let mut rates = state.zeros_like();
            let mut pulled = state.zeros_like();
            let mut energy = 0.0;
            for i in 0..n {
                for j in 0..n {
                    let r = &q.row(i) - &q.row(j);
                    let k = (-r.dot(&r) / (sigma * sigma)).exp();
                    let (k1, k2) = (-k / (sigma * sigma), k / sigma.powi(4));
                    let pp = p.row(i).dot(&p.row(j));
                    energy += 0.5 * k * pp;
                    rates.q_mut().row_mut(i).scaled_add(k, &p.row(j));
                    rates.p_mut().row_mut(i).scaled_add(-2.0 * k1 * pp, &r);
                    let db = &b.row(i) - &b.row(j);
                    let beta = db.dot(&r);
                    let mut gp = pulled.p_mut();
                    gp.row_mut(i).scaled_add(k, &a.row(j));
                    gp.row_mut(i).scaled_add(-2.0 * k1 * beta, &p.row(j));
                    let ap = a.row(i).dot(&p.row(j)) + a.row(j).dot(&p.row(i));
                    let mut gq = pulled.q_mut();
                    gq.row_mut(i).scaled_add(2.0 * k1 * ap - 4.0 * pp * k2 * beta, &r);
                    gq.row_mut(i).scaled_add(-2.0 * pp * k1, &db);
                }
            }
            let near = |x: &State<f64>, y: &State<f64>| {
                let gap = (&x.landmarks - &y.landmarks).fold(0.0, |m: f64, v| m.max(v.abs()));
                assert!(gap < 1e-13, "d = {d}: {gap:e}");
            };
            near(&dynamics.rates(&state).unwrap(), &rates);
            near(&dynamics.pull_back(&state, &cotangent).unwrap(), &pulled);
            assert!((dynamics.energy(&state).unwrap() - energy).abs() < 1e-13);
        }
    }

    /// ⟨c, J w⟩ = ⟨Jᵀ c, w⟩ with silent points, J w by central differences.
    #[test]
    fn adjoint_with_silent_points_is_the_transpose() {
        let device = Device::new(Interpreter::new());
        for kernel in [
            Kernel::sum_of_gaussians(&[(1.0, 0.9), (0.5, 0.4)]).unwrap(),
            Kernel::cauchy(0.6).unwrap(),
            Kernel::inverse_multiquadric(0.8).unwrap(),
        ] {
            let dynamics = Dynamics::<f64>::new(&kernel, 2, &device).unwrap();
            let random = |seed: f64| {
                let s = State::new(noise(5, 2, seed).view(), noise(5, 2, seed + 0.5).view());
                s.unwrap().with_silent(noise(4, 2, seed + 0.7).view()).unwrap()
            };
            let (state, w, c) = (random(0.0), random(10.0), random(20.0));
            let h = 1e-5;
            let moved = |h: f64| {
                let mut s = state.clone();
                s.add_scaled(h, &w);
                dynamics.rates(&s).unwrap()
            };
            let mut jw = moved(h);
            jw.add_scaled(-1.0, &moved(-h));
            let inner = |x: &State<f64>, y: &State<f64>| {
                (&x.landmarks * &y.landmarks).sum() + (&x.silent * &y.silent).sum()
            };
            let left = inner(&c, &jw) / (2.0 * h);
            let right = inner(&dynamics.pull_back(&state, &c).unwrap(), &w);
            assert!((left - right).abs() < 1e-8 * right.abs().max(1.0), "{left} {right}");
        }
    }

    #[test]
    fn shapes_are_checked() {
        let device = Device::new(Interpreter::new());
        let kernel = Kernel::gaussian(1.0).unwrap();
        assert!(Dynamics::<f64>::new(&kernel, 0, &device).is_err());
        let (q, p) = (noise(3, 2, 0.0), noise(3, 2, 1.0));
        assert!(State::new(q.view(), p.slice_axis(Axis(0), (..2).into())).is_err());
        assert!(
            State::new(q.slice_axis(Axis(0), (..0).into()), p.slice_axis(Axis(0), (..0).into()))
                .is_err()
        );
        let state = State::new(q.view(), p.view()).unwrap();
        assert!(state.clone().with_silent(noise(3, 3, 0.0).view()).is_err());
        let spatial = Dynamics::<f64>::new(&kernel, 3, &device).unwrap();
        let e = spatial.rates(&state).unwrap_err().to_string();
        assert_eq!(e, "`q`: expected shape (n, 3), got shape [3, 2]");
        let planar = Dynamics::<f64>::new(&kernel, 2, &device).unwrap();
        let other =
            State::new(q.slice_axis(Axis(0), (..2).into()), p.slice_axis(Axis(0), (..2).into()))
                .unwrap();
        assert!(planar.pull_back(&state, &other).is_err());
    }
}
