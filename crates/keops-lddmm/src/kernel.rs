//! Radial kernels k(D), D = |x − y|².
//!
//! Authors disagree about σ: KeOps and Deformetrica write a Gaussian as exp(−D/σ²), IMODAL and
//! scikit-shapes as exp(−D/(2σ²)). Both are here, under names that say which.

use std::fmt;
use std::sync::Arc;

use keops_core::error::Error;
use keops_core::graph::{Builder, Category, Ex, Graph, Node, NodeId, Var};
use keops_core::ops::{EXP, MATERN_HALF, RSQRT};
use keops_core::parse::parse_formula;

use crate::error::LddmmError;
use crate::sum::Real;

/// A radial kernel k(D) of the squared distance D = |x − y|². Lengths are in units of the
/// coordinates.
///
/// ```
/// use keops_lddmm::kernel::Kernel;
/// let kernel = Kernel::sum_of_gaussians(&[(1.0, 0.5), (0.25, 2.0)])?;
/// assert_eq!(kernel.to_string(), "exp(-|x-y|²/0.5²) + 0.25 exp(-|x-y|²/2²)");
/// # Ok::<(), keops_lddmm::LddmmError>(())
/// ```
#[derive(Clone)]
pub struct Kernel(Profile);

/// A profile given as a formula of D.
type Custom = dyn for<'g> Fn(Ex<'g>) -> Ex<'g> + Send + Sync;

#[derive(Clone)]
enum Profile {
    Gaussians(Vec<(f64, f64)>),
    Cauchy(f64),
    InverseMultiquadric(f64),
    /// ν = p + 1/2, and the length.
    Matern(u32, f64),
    Custom(String, Arc<Custom>),
}

/// The squared distance, as a variable of formulas.
const DISTANCE: Var = Var { index: 0, dim: 1, category: Category::I };

/// An error where a formula depends on anything but the squared distance.
fn only_distance(graph: &Graph, root: NodeId) -> Result<(), LddmmError> {
    for id in graph.live(&[root]) {
        let got = match graph.node(id) {
            Node::Var(v) if *v != DISTANCE => {
                format!("argument {} of dimension {}", v.index, v.dim)
            }
            Node::Index(category) => format!("the row number {}", category.keyword()),
            _ => continue,
        };
        return Err(LddmmError::parameter("formula", "no variable but D", got));
    }
    Ok(())
}

/// Scales that leave 1/σ² and squared distances finite.
fn scale(name: &str, sigma: f64) -> Result<f64, LddmmError> {
    if (1e-50..=1e50).contains(&sigma) {
        Ok(sigma)
    } else {
        Err(LddmmError::parameter(name, "a number between 1e-50 and 1e50", sigma))
    }
}

impl Kernel {
    /// exp(−D/σ²), the convention of KeOps and Deformetrica.
    ///
    /// # Errors
    /// When σ is not in 1e-50..=1e50.
    ///
    /// ```
    #[doc = include_str!("kernel_example.txt")]
    /// assert_eq!(value(&Kernel::gaussian(3.0)?, 9.0), (-1f64).exp());
    /// let e = Kernel::gaussian(-1.0).unwrap_err();
    /// assert_eq!(e.to_string(), "sigma: expected a number between 1e-50 and 1e50, got -1");
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn gaussian(sigma: f64) -> Result<Kernel, LddmmError> {
        Kernel::sum_of_gaussians(&[(1.0, sigma)])
    }
    /// exp(−D/(2σ²)), the convention of statistics, IMODAL and scikit-shapes.
    ///
    /// # Errors
    /// As [`Kernel::gaussian`].
    ///
    /// ```
    #[doc = include_str!("kernel_example.txt")]
    /// let kernel = Kernel::gaussian_of_deviation(3.0)?;
    /// assert!((value(&kernel, 9.0) - (-0.5f64).exp()).abs() < 1e-15);
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn gaussian_of_deviation(sigma: f64) -> Result<Kernel, LddmmError> {
        Kernel::gaussian(scale("sigma", sigma)? * std::f64::consts::SQRT_2)
    }
    /// Σ_m w_m exp(−D/σ_m²) for pairs (w_m, σ_m).
    ///
    /// # Errors
    /// When there is no pair, a weight is not positive and finite, or a σ is not in 1e-50..=1e50.
    ///
    /// ```
    #[doc = include_str!("kernel_example.txt")]
    /// let kernel = Kernel::sum_of_gaussians(&[(2.0, 1.0), (3.0, 10.0)])?;
    /// assert_eq!(value(&kernel, 0.0), 5.0);
    /// assert!(Kernel::sum_of_gaussians(&[(-2.0, 1.0)]).is_err());
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn sum_of_gaussians(terms: &[(f64, f64)]) -> Result<Kernel, LddmmError> {
        if terms.is_empty() {
            return Err(LddmmError::parameter("terms", "at least one (weight, sigma)", "none"));
        }
        for (weight, sigma) in terms {
            scale("sigma", *sigma)?;
            if !(*weight > 0.0 && weight.is_finite()) {
                return Err(LddmmError::parameter("weight", "a positive number", weight));
            }
        }
        Ok(Kernel(Profile::Gaussians(terms.to_vec())))
    }
    /// 1/(1 + D/σ²).
    ///
    /// # Errors
    /// When σ is not in 1e-50..=1e50.
    ///
    /// ```
    #[doc = include_str!("kernel_example.txt")]
    /// assert_eq!(value(&Kernel::cauchy(2.0)?, 12.0), 0.25); // 1 / (1 + 3)
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn cauchy(sigma: f64) -> Result<Kernel, LddmmError> {
        Ok(Kernel(Profile::Cauchy(scale("sigma", sigma)?)))
    }
    /// 1/√(1 + D/σ²).
    ///
    /// # Errors
    /// When σ is not in 1e-50..=1e50.
    ///
    /// ```
    #[doc = include_str!("kernel_example.txt")]
    /// assert_eq!(value(&Kernel::inverse_multiquadric(2.0)?, 12.0), 0.5);
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn inverse_multiquadric(sigma: f64) -> Result<Kernel, LddmmError> {
        Ok(Kernel(Profile::InverseMultiquadric(scale("sigma", sigma)?)))
    }
    /// The Matérn kernel of half-integer order ν, from 1/2 to 41/2: with s = √(2νD)/σ it is exp(−s)
    /// for 1/2, (1 + s) exp(−s) for 3/2, (1 + s + s²/3) exp(−s) for 5/2. Derivatives are right where
    /// points coincide, as far as there are any; shooting needs one, the adjoint two: ν at least 5/2.
    /// (Of 1/2 and 3/2 those that are infinite there count as 0.)
    ///
    /// # Errors
    /// When ν is another number, or σ not in 1e-50..=1e50.
    ///
    /// ```
    #[doc = include_str!("kernel_example.txt")]
    /// let kernel = Kernel::matern(1.5, 2.0)?;
    /// let s = 3f64.sqrt(); // at a distance of 2
    /// assert!((value(&kernel, 4.0) - (1.0 + s) * (-s).exp()).abs() < 1e-15);
    /// let e = Kernel::matern(1.0, 2.0).unwrap_err();
    /// assert_eq!(e.to_string(), "nu: expected one of 0.5, 1.5, …, 20.5, got 1");
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn matern(nu: f64, sigma: f64) -> Result<Kernel, LddmmError> {
        let p = nu - 0.5;
        if !((0.0..=20.0).contains(&p) && p.fract() == 0.0) {
            return Err(LddmmError::parameter("nu", "one of 0.5, 1.5, …, 20.5", nu));
        }
        Ok(Kernel(Profile::Matern(p as u32, scale("sigma", sigma)?)))
    }
    /// A formula of the squared distance, `D`, in the syntax of [`parse`](keops_core::parse), with
    /// scales as numbers in it; as for [`Kernel::custom`], whether it is positive definite is not
    /// checked.
    ///
    /// # Errors
    /// [`LddmmError::Device`] with the place in the text, for one that is none; when there is another
    /// variable, or the dimension is not 1.
    ///
    /// ```
    #[doc = include_str!("kernel_example.txt")]
    /// let kernel = Kernel::from_text("Exp(-D / 4) + 0.5 / (1 + D)")?;
    /// assert_eq!(value(&kernel, 0.0), 1.5);
    /// assert!(Kernel::from_text("Exp(-D").is_err());
    /// assert!(Kernel::from_text("Exp(-x)").is_err());
    /// assert!(Kernel::from_text("Exp(-D) * j").is_err()); // not of the distance alone
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn from_text(text: &str) -> Result<Kernel, LddmmError> {
        let formula = parse_formula(text, None, &["D = Vi(1)"]).map_err(Error::from)?;
        only_distance(&formula.graph, formula.root)?;
        Kernel::custom(&format!("{text} of D = |x-y|²"), move |d| {
            d.b.import_with(&formula.graph, formula.root, |_| Some(d.id))
        })
    }
    /// Any formula of D that depends on nothing else, twice differentiable at D = 0 and positive
    /// definite (which is not checked); `name` stands for it in reports.
    ///
    /// # Errors
    /// When the formula has not dimension 1, or depends on row numbers or other variables.
    ///
    /// ```
    #[doc = include_str!("kernel_example.txt")]
    /// let square = Kernel::custom("1/(1 + |x-y|²)²", |d| {
    ///     let cauchy = d.lit(1.0) / (d + 1.0);
    ///     cauchy * cauchy
    /// })?;
    /// assert_eq!(value(&square, 3.0), 1.0 / 16.0);
    /// assert!(Kernel::custom("a vector", |d| d.broadcast(2)).is_err());
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn custom(
        name: &str,
        formula: impl for<'g> Fn(Ex<'g>) -> Ex<'g> + Send + Sync + 'static,
    ) -> Result<Kernel, LddmmError> {
        let b = Builder::default();
        let value = formula(b.var(DISTANCE));
        if value.dim() != 1 {
            return Err(LddmmError::parameter("formula", "a formula of dimension 1", value.dim()));
        }
        only_distance(&b.graph(), value.id)?;
        Ok(Kernel(Profile::Custom(name.into(), Arc::new(formula))))
    }

    /// An error where a scale is not a number of the precision `F`: 1/σ² would be 0 or infinite.
    pub(crate) fn check_precision<F: Real>(&self) -> Result<(), LddmmError> {
        let scales: &[f64] = match &self.0 {
            Profile::Gaussians(terms) => &terms.iter().map(|t| t.1).collect::<Vec<f64>>(),
            Profile::Cauchy(s) | Profile::InverseMultiquadric(s) | Profile::Matern(_, s) => &[*s],
            Profile::Custom(..) => &[],
        };
        match scales.iter().find(|&s| !F::of_f64(1.0 / (s * s)).is_normal()) {
            None => Ok(()),
            Some(bad) => {
                let expected = format!("a scale whose 1/σ² is a number in {}", F::DTYPE.name());
                Err(LddmmError::parameter("sigma", expected, format!("{bad:e}")))
            }
        }
    }
    /// The kernel as a formula of the squared distance, both of dimension 1.
    ///
    /// ```
    /// use keops_core::graph::{Builder, Category, Var};
    /// use keops_core::interp::evaluate_at;
    /// use keops_lddmm::kernel::Kernel;
    /// let b = Builder::default();
    /// let d = b.var(Var { index: 0, dim: 1, category: Category::I });
    /// let k = Kernel::cauchy(1.0)?.formula(d).id;
    /// assert_eq!(evaluate_at(&b.into_graph(), k, |_| vec![4.0]), [0.2]);
    /// # Ok::<(), keops_lddmm::LddmmError>(())
    /// ```
    pub fn formula<'g>(&self, squared_distance: Ex<'g>) -> Ex<'g> {
        let d = squared_distance;
        match &self.0 {
            Profile::Gaussians(terms) => {
                let term = |&(w, s): &(f64, f64)| (d * (-1.0 / (s * s))).un(&EXP) * w;
                terms[1..].iter().fold(term(&terms[0]), |sum, t| sum + term(t))
            }
            Profile::Cauchy(s) => d.lit(1.0) / (d * (1.0 / (s * s)) + 1.0),
            Profile::InverseMultiquadric(s) => (d * (1.0 / (s * s)) + 1.0).un(&RSQRT),
            Profile::Matern(p, s) => {
                let nu = f64::from(*p) + 0.5;
                Ex::apply(&MATERN_HALF, &[d * (2.0 * nu / (s * s)), d.lit(f64::from(*p))])
            }
            Profile::Custom(_, f) => f(d),
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Profile::Gaussians(terms) => {
                for (k, (w, s)) in terms.iter().enumerate() {
                    if k > 0 {
                        f.write_str(" + ")?;
                    }
                    if *w != 1.0 {
                        write!(f, "{w} ")?;
                    }
                    write!(f, "exp(-|x-y|²/{s}²)")?;
                }
                Ok(())
            }
            Profile::Cauchy(s) => write!(f, "1/(1 + |x-y|²/{s}²)"),
            Profile::InverseMultiquadric(s) => write!(f, "1/sqrt(1 + |x-y|²/{s}²)"),
            Profile::Matern(p, s) => write!(f, "Matérn {}/2 of |x-y|/{s}", 2 * p + 1),
            Profile::Custom(name, _) => f.write_str(name),
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conventions_and_domains() {
        let name = |k: Result<Kernel, LddmmError>| k.unwrap().to_string();
        assert_eq!(name(Kernel::gaussian(2.5)), "exp(-|x-y|²/2.5²)");
        assert_eq!(name(Kernel::cauchy(3.0)), "1/(1 + |x-y|²/3²)");
        let sum = Kernel::sum_of_gaussians(&[(1.0, 4.0), (0.5, 2.0)]);
        assert_eq!(name(sum), "exp(-|x-y|²/4²) + 0.5 exp(-|x-y|²/2²)");
        let b = Builder::default();
        let at = |k: &Kernel, d: f64| k.formula(b.lit(d)).constant().unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} {b}");
        close(at(&Kernel::gaussian(2.0).unwrap(), 3.0), (-0.75f64).exp());
        close(at(&Kernel::gaussian_of_deviation(2.0).unwrap(), 3.0), (-0.375f64).exp());
        close(at(&Kernel::cauchy(2.0).unwrap(), 3.0), 1.0 / 1.75);
        close(at(&Kernel::inverse_multiquadric(2.0).unwrap(), 3.0), 1.75f64.powf(-0.5));
        let both = Kernel::sum_of_gaussians(&[(1.0, 2.0), (0.5, 1.0)]).unwrap();
        close(at(&both, 3.0), (-0.75f64).exp() + 0.5 * (-3f64).exp());
        close(at(&Kernel::custom("1 - D", |d| d.lit(1.0) - d).unwrap(), 3.0), -2.0);
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-60] {
            let e = Kernel::gaussian(bad).unwrap_err().to_string();
            assert!(e.starts_with("sigma: expected a number between"), "{e}");
            assert!(Kernel::cauchy(bad).is_err() && Kernel::inverse_multiquadric(bad).is_err());
            assert!(Kernel::gaussian_of_deviation(bad).is_err());
        }
        assert!(Kernel::sum_of_gaussians(&[]).is_err());
        assert!(Kernel::sum_of_gaussians(&[(-1.0, 1.0)]).is_err());
        assert!(Kernel::custom("two", |d| Ex::concat(&[d, d])).is_err());
    }
}
