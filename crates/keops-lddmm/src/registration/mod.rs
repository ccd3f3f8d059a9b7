//! Registration: momenta that carry a source shape onto a target.
//!
//! The cost is γ H(q0, p0) + A(q1), with the energy H of [`crate::hamiltonian`] and an attachment A
//! of the shape at time 1. Landmarks are the vertices of the source, or control points that carry
//! them. The gradient is exact for the discrete flow; an [`Optimiser`] minimises over the momenta p0.
//!
//! [`Registration`] is the problem; [`Registration::run`] minimises it by [`Lbfgs`], [`Registration::run_with`] by
//! another optimiser; `evidence` makes the report of what came out; a [`Checkpoint`] is all that a
//! minimisation knows between two iterations, and [`Registration::resume`] goes on from it.

mod checkpoint;
mod evidence;
mod options;
mod problem;
mod run;

pub use crate::optimise::{CostAndGradient, Ended, Lbfgs, Limits, Minimisation, Optimiser, Stop};
pub use checkpoint::{Autosave, Checkpoint, CheckpointError, Every};
pub use options::{AtRest, Deformation, Description, Ground, KernelFlow, Options};
pub use problem::{Evaluation, Registration};
pub use run::{Observer, Outcome, Progress, RegistrationError};
