//! What every method that iterates can be told beside its own options: a preconditioner, a seed, and
//! who is told of its progress. Builders hold a [`Control`], and take their methods from [`control_method`].

use crate::precondition::Preconditioner;
use std::ops::ControlFlow;

/// How far a solver is.
///
/// ```
/// use keops_linalg::Progress;
/// let progress = Progress { iteration: 3, products: 3, residuals: &[1e-3, 1e-7] };
/// assert_eq!(progress.residual(), 1e-3);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Progress<'p> {
    /// Iterations done.
    pub iteration: usize,
    /// Products with the operator so far.
    pub products: usize,
    /// The smallest residual of each system relative to its right-hand side, as the recurrence
    /// has it: below the precision of the operator it is not true.
    pub residuals: &'p [f64],
}

impl Progress<'_> {
    /// The largest residual; 0 without systems.
    ///
    /// ```
    /// let none = keops_linalg::Progress { iteration: 0, products: 0, residuals: &[] };
    /// assert_eq!(none.residual(), 0.0);
    /// ```
    pub fn residual(&self) -> f64 {
        self.residuals.iter().fold(0.0, |m, v| m.max(*v))
    }
}

pub(crate) type Observer<'s> = Box<dyn FnMut(&Progress<'_>) -> ControlFlow<()> + 's>;

/// Settings that methods have in common; each uses those that it has methods for.
#[derive(Default)]
pub(crate) struct Control<'s> {
    pub preconditioner: Option<&'s dyn Preconditioner>,
    pub observer: Option<Observer<'s>>,
    /// Of random vectors.
    pub seed: u64,
}

impl Control<'_> {
    /// Tells the observer, if there is one. Does it want to end?
    pub fn ends(&mut self, progress: &Progress<'_>) -> bool {
        self.observer.as_mut().is_some_and(|observer| observer(progress).is_break())
    }
    /// The same settings, for a method that is part of this one.
    pub fn lend(&mut self) -> Control<'_> {
        let observer = self.observer.as_mut().map(|o| Box::new(o) as Observer<'_>);
        Control { preconditioner: self.preconditioner, observer, seed: self.seed }
    }
}

/// A method of a builder with lifetime `'s` that sets a part of its [`Control`], which stands in the named
/// field: `preconditioner`, `observe` or `seed`. What it means there is said in its documentation.
macro_rules! control_method {
    ($(#[$doc:meta])* preconditioner of $($field:ident).+) => {
        $(#[$doc])*
        pub fn preconditioner(
            mut self,
            preconditioner: &'s dyn $crate::precondition::Preconditioner,
        ) -> Self {
            self.$($field).+.preconditioner = Some(preconditioner);
            self
        }
    };
    ($(#[$doc:meta])* observe of $($field:ident).+) => {
        $(#[$doc])*
        pub fn observe(
            mut self,
            observer: impl FnMut(&$crate::control::Progress<'_>) -> std::ops::ControlFlow<()> + 's,
        ) -> Self {
            self.$($field).+.observer = Some(Box::new(observer));
            self
        }
    };
    ($(#[$doc:meta])* seed of $($field:ident).+) => {
        $(#[$doc])*
        pub fn seed(mut self, seed: u64) -> Self {
            self.$($field).+.seed = seed;
            self
        }
    };
}
pub(crate) use control_method;
