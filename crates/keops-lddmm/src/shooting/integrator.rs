//! Runge–Kutta schemes by their coefficients.

use crate::error::LddmmError;
use serde::{Deserialize, Serialize};

/// A Runge–Kutta scheme in time. (`keops_core::spec::Scheme` is how sums are added up.)
///
/// ```
/// use keops_lddmm::shooting::Integrator;
/// assert_eq!("RK4".parse(), Ok(Integrator::Rk4));
/// let e = "rk5".parse::<Integrator>().unwrap_err();
/// assert!(e.to_string().starts_with("integrator: expected one of euler, midpoint, "));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Integrator {
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
    /// The implicit midpoint scheme, order 2: symplectic, reversible, and it conserves angular momentum
    /// to rounding. Steps are solved by iteration, with about ten evaluations each.
    #[serde(rename = "implicit-midpoint")]
    ImplicitMidpoint,
}

impl Integrator {
    /// All integrators.
    pub const ALL: [Integrator; 6] = [
        Integrator::Euler,
        Integrator::Midpoint,
        Integrator::Heun,
        Integrator::Ralston,
        Integrator::Rk4,
        Integrator::ImplicitMidpoint,
    ];
    /// Lower-case name, which parses.
    ///
    /// ```
    /// use keops_lddmm::shooting::Integrator;
    /// assert_eq!(Integrator::Ralston.name(), "ralston");
    /// assert!(Integrator::ALL.into_iter().all(|s| s.name().parse() == Ok(s)));
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Integrator::Euler => "euler",
            Integrator::Midpoint => "midpoint",
            Integrator::Heun => "heun",
            Integrator::Ralston => "ralston",
            Integrator::Rk4 => "rk4",
            Integrator::ImplicitMidpoint => "implicit-midpoint",
        }
    }
    /// Butcher's tableau: the rows below the diagonal, with it for implicit stages, and the weights.
    pub(super) fn tableau(self) -> Tableau {
        const SIXTH: f64 = 1.0 / 6.0;
        match self {
            Integrator::Euler => Tableau { a: &[&[]], b: &[1.0] },
            Integrator::Midpoint => Tableau { a: &[&[], &[0.5]], b: &[0.0, 1.0] },
            Integrator::Heun => Tableau { a: &[&[], &[1.0]], b: &[0.5, 0.5] },
            Integrator::Ralston => Tableau { a: &[&[], &[2.0 / 3.0]], b: &[0.25, 0.75] },
            Integrator::Rk4 => Tableau {
                a: &[&[], &[0.5], &[0.0, 0.5], &[0.0, 0.0, 1.0]],
                b: &[SIXTH, 2.0 * SIXTH, 2.0 * SIXTH, SIXTH],
            },
            Integrator::ImplicitMidpoint => Tableau { a: &[&[0.5]], b: &[1.0] },
        }
    }
}

impl std::fmt::Display for Integrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Integrator {
    type Err = LddmmError;
    fn from_str(text: &str) -> Result<Integrator, LddmmError> {
        Integrator::ALL.into_iter().find(|s| s.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let names = Integrator::ALL.map(Integrator::name).join(", ");
            LddmmError::parameter("integrator", format!("one of {names}"), text)
        })
    }
}

/// Stage s is at y + h Σ_t a[s][t] K_t, the step y + h Σ_s b[s] K_s.
pub(super) struct Tableau {
    pub a: &'static [&'static [f64]],
    pub b: &'static [f64],
}

impl Tableau {
    /// The coefficient of a stage's own rate, if it has one.
    pub fn own(&self, stage: usize) -> Option<f64> {
        self.a[stage].get(stage).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_integrators() {
        for scheme in Integrator::ALL {
            assert_eq!(scheme.name().parse::<Integrator>().unwrap(), scheme);
        }
        let e = "verlet".parse::<Integrator>().unwrap_err().to_string();
        assert_eq!(
            e,
            "integrator: expected one of euler, midpoint, heun, ralston, rk4, implicit-midpoint, got verlet"
        );
    }
}
