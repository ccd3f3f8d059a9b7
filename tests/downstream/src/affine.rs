//! A model of deformations that keops has not: affine maps, as flows of linear vector fields.
use keops::lddmm::LddmmError;
use keops::lddmm::model::{Model, State};
use keops::ndarray::{Array2, ArrayView2, Axis, s};

/// ẋ = A x + b. The momenta are the rows (A | b), which do not change; H = |(A | b)|²/2.
#[derive(Debug)]
pub struct Affine;
impl std::fmt::Display for Affine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("affine")
    }
}
impl Model<f64> for Affine {
    fn rest(&self, vertices: ArrayView2<'_, f64>) -> Result<State<f64>, LddmmError> {
        let zero = Array2::zeros((vertices.ncols(), vertices.ncols() + 1));
        State::of_system(zero.view(), zero.view(), vertices)
    }
    fn energy(&self, at: &State<f64>) -> Result<f64, LddmmError> {
        Ok(0.5 * (&at.p() * &at.p()).sum())
    }
    fn rates(&self, at: &State<f64>) -> Result<State<f64>, LddmmError> {
        let mut rates = at.zeros_like();
        rates.q_mut().assign(&at.p());
        rates.x_mut().assign(&self.velocity(at, at.x())?);
        Ok(rates)
    }
    fn pull_back(&self, at: &State<f64>, c: &State<f64>) -> Result<State<f64>, LddmmError> {
        let (mut pulled, d) = (at.zeros_like(), at.dim());
        pulled.x_mut().assign(&c.x().dot(&at.p().slice(s![.., ..d])));
        pulled.p_mut().assign(&c.q());
        let mut p = pulled.p_mut();
        let mut linear = p.slice_mut(s![.., ..d]);
        linear += &c.x().t().dot(&at.x());
        let mut constant = p.column_mut(d);
        constant += &c.x().sum_axis(Axis(0));
        Ok(pulled)
    }
    fn velocity(&self, at: &State<f64>, x: ArrayView2<'_, f64>) -> Result<Array2<f64>, LddmmError> {
        let (p, d) = (at.p(), at.dim());
        Ok(x.dot(&p.slice(s![.., ..d]).t()) + p.column(d))
    }
}
