//! States of systems: coordinates, momenta, and points that are carried along.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};

use crate::error::LddmmError;
use crate::sum::{Real, copied, zeros};

/// Largest dimension of the space.
pub const MAX_SPACE: usize = 64;

/// Coordinates q and momenta p of a system, and points x that it carries ("silent": they have no
/// momenta); also tangents and cotangents of these, as states are a vector space.
///
/// Of landmarks q are places. Other systems ([`crate::model::Model`]) have coordinates of their own,
/// in rows of any width: see [`State::of_system`].
///
/// ```
/// use keops_lddmm::state::State;
/// use ndarray::array;
/// let (q, p) = (array![[0.0, 0.0], [1.0, 0.0]], array![[0.0, 1.0], [0.0, -1.0]]);
/// let carried = array![[0.5, 0.0], [0.5, 1.0], [0.5, 2.0]];
/// let state = State::new(q.view(), p.view())?.with_silent(carried.view())?;
/// assert_eq!((state.dim(), state.q().nrows(), state.x().nrows()), (2, 2, 3));
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct State<F> {
    /// Rows (q_i, p_i), shape (n, 2k); k = d for landmarks.
    pub(crate) landmarks: Array2<F>,
    /// Shape (m, d).
    pub(crate) silent: Array2<F>,
}

impl<F: Real> State<F> {
    /// Landmarks `q` and momenta `p`, both of shape (n, d), without silent points.
    ///
    /// # Errors
    /// [`LddmmError::Array`] when the shapes differ, an array is empty, or d is more than
    /// [`MAX_SPACE`]; [`LddmmError::Device`] where there is no memory.
    ///
    /// ```
    /// use keops_lddmm::state::State;
    /// use ndarray::array;
    /// let q = array![[0.0, 0.0], [1.0, 0.0]];
    /// let state = State::new(q.view(), q.view())?;
    /// assert_eq!((state.q(), state.x().nrows()), (q.view(), 0));
    /// let e = State::new(q.view(), array![[0.0, 1.0]].view()).unwrap_err();
    /// assert_eq!(e.to_string(), "`p`: expected shape (2, 2), got shape [1, 2]");
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn new(q: ArrayView2<'_, F>, p: ArrayView2<'_, F>) -> Result<State<F>, LddmmError> {
        let (n, d) = q.dim();
        if n == 0 || d == 0 || d > MAX_SPACE {
            return Err(LddmmError::Array {
                name: "q".into(),
                expected: format!("shape (n, d) with n >= 1 and d in 1..={MAX_SPACE}"),
                got: q.shape().to_vec(),
            });
        }
        LddmmError::check_array("p", p, Some(n), d)?;
        let mut landmarks = zeros((n, 2 * d))?;
        landmarks.slice_axis_mut(Axis(1), (..d).into()).assign(&q);
        landmarks.slice_axis_mut(Axis(1), (d..).into()).assign(&p);
        Ok(State { landmarks, silent: Array2::zeros((0, d)) })
    }
    /// The same landmarks with silent points `x` of shape (m, d).
    ///
    /// # Errors
    /// When `x` has another number of columns than the landmarks, or there is no memory.
    ///
    /// ```
    /// use keops_lddmm::state::State;
    /// use ndarray::array;
    /// let q = array![[0.0, 0.0]];
    /// let state = State::new(q.view(), q.view())?;
    /// assert_eq!(state.clone().with_silent(array![[1.0, 2.0]].view())?.x(), array![[1.0, 2.0]]);
    /// assert!(state.with_silent(array![[1.0, 2.0, 3.0]].view()).is_err());
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn with_silent(self, x: ArrayView2<'_, F>) -> Result<State<F>, LddmmError> {
        LddmmError::check_array("x", x, None, self.dim())?;
        Ok(State { silent: copied(x)?, ..self })
    }
    /// Coordinates `q` and momenta `p` of a system, of shape (n, k), that carries the points `x`, of
    /// shape (m, d).
    ///
    /// # Errors
    /// As [`State::new`].
    pub fn of_system(
        q: ArrayView2<'_, F>,
        p: ArrayView2<'_, F>,
        x: ArrayView2<'_, F>,
    ) -> Result<State<F>, LddmmError> {
        let landmarks = State::new(q, p)?.landmarks;
        Ok(State { landmarks, silent: copied(x)? })
    }
    /// Zeros of the same shapes: where a cotangent is built.
    pub fn zeros_like(&self) -> State<F> {
        let zeros = |a: &Array2<F>| Array2::zeros(a.raw_dim());
        State { landmarks: zeros(&self.landmarks), silent: zeros(&self.silent) }
    }
    /// Dimension d of the space.
    pub fn dim(&self) -> usize {
        self.silent.ncols()
    }
    /// Positions of the landmarks, shape (n, d).
    pub fn q(&self) -> ArrayView2<'_, F> {
        self.landmarks.slice_axis(Axis(1), (..self.width()).into())
    }
    /// Momenta, shape (n, d).
    pub fn p(&self) -> ArrayView2<'_, F> {
        self.landmarks.slice_axis(Axis(1), (self.width()..).into())
    }
    /// Silent points, shape (m, d).
    pub fn x(&self) -> ArrayView2<'_, F> {
        self.silent.view()
    }
    /// Positions, to be changed.
    pub fn q_mut(&mut self) -> ArrayViewMut2<'_, F> {
        let k = self.width();
        self.landmarks.slice_axis_mut(Axis(1), (..k).into())
    }
    /// Momenta, to be changed.
    pub fn p_mut(&mut self) -> ArrayViewMut2<'_, F> {
        let k = self.width();
        self.landmarks.slice_axis_mut(Axis(1), (k..).into())
    }
    /// Silent points, to be changed.
    pub fn x_mut(&mut self) -> ArrayViewMut2<'_, F> {
        self.silent.view_mut()
    }
    /// Width k of the rows of coordinates.
    fn width(&self) -> usize {
        self.landmarks.ncols() / 2
    }
    /// Do both have the same shapes?
    pub(crate) fn is_like(&self, other: &State<F>) -> bool {
        self.landmarks.dim() == other.landmarks.dim() && self.silent.dim() == other.silent.dim()
    }
    /// The vertices of a shape that this is a state of: the points that are carried, or the landmarks
    /// where there are none.
    pub fn vertices(&self) -> ArrayView2<'_, F> {
        if self.silent.nrows() > 0 { self.x() } else { self.q() }
    }
    /// The same, to be changed.
    pub fn vertices_mut(&mut self) -> ArrayViewMut2<'_, F> {
        if self.silent.nrows() > 0 { self.x_mut() } else { self.q_mut() }
    }
    /// Zeros of the same shapes, or an error where there is no memory for them.
    pub(crate) fn try_zeros_like(&self) -> Result<State<F>, LddmmError> {
        let (landmarks, silent) = (zeros(self.landmarks.dim())?, zeros(self.silent.dim())?);
        Ok(State { landmarks, silent })
    }
    /// A copy, or an error where there is no memory for it.
    pub(crate) fn copy(&self) -> Result<State<F>, LddmmError> {
        let (landmarks, silent) = (copied(self.landmarks.view())?, copied(self.silent.view())?);
        Ok(State { landmarks, silent })
    }
    /// This state, times a factor.
    pub(crate) fn scaled(&self, factor: F) -> Result<State<F>, LddmmError> {
        let mut all = self.copy()?;
        all.landmarks.mapv_inplace(|v| factor * v);
        all.silent.mapv_inplace(|v| factor * v);
        Ok(all)
    }
    /// `self += factor · other`.
    pub(crate) fn add_scaled(&mut self, factor: F, other: &State<F>) {
        self.landmarks.scaled_add(factor, &other.landmarks);
        self.silent.scaled_add(factor, &other.silent);
    }
    /// The larger of how far coordinates with momenta, and points, are from those of another state.
    pub(crate) fn ulps(&self, other: &State<F>, of: impl Fn(&Array2<F>, &Array2<F>) -> f64) -> f64 {
        let (a, b) = (of(&self.landmarks, &other.landmarks), of(&self.silent, &other.silent));
        // (NaN wins.)
        if a <= b { b } else { a }
    }
    /// Are all entries finite?
    pub(crate) fn is_finite(&self) -> bool {
        self.landmarks.iter().chain(&self.silent).all(|v| v.is_finite())
    }
}
