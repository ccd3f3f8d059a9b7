//! Hamiltonian shooting (LDDMM) and registration of shapes.
//!
//! ```
//! use keops_core::{interp::Interpreter, spec::Device};
//! use keops_lddmm::attachment::varifold;
//! use keops_lddmm::builtin::curve_pair;
//! use keops_lddmm::kernel::Kernel;
//! use keops_lddmm::registration::{Limits, Options, Progress, Registration};
//! use std::ops::ControlFlow;
//!
//! let (source, target) = curve_pair(24)?;
//! // Deformations are smooth at 0.8 units, shapes are compared at this scale.
//! let kernel = Kernel::gaussian(0.8)?;
//! let options = Options {
//!     gamma: 0.01,
//!     steps: 5,
//!     limits: Limits { iterations: 3, ..Limits::default() },
//!     ..Options::new(kernel.clone(), varifold(kernel))
//! };
//! // The reference interpreter serves examples; choose a fast device for real shapes.
//! let device = Device::new(Interpreter::new());
//! let registration = Registration::<f64>::new(&source, &target, &options, &device)?;
//! let mut watch = |p: &Progress<'_>| {
//!     println!("{p}");
//!     ControlFlow::Continue(())
//! };
//! let outcome = registration.run(None, &mut watch)?;
//! assert!(outcome.report.after.cost < outcome.report.before.cost);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod attachment;
pub mod error;
pub mod export;
pub mod hamiltonian;
pub mod kernel;
pub mod model;
pub mod momenta;
mod optimise;
pub mod registration;
pub mod report;
pub mod shooting;
pub mod state;
mod sum;

pub use error::LddmmError;
pub use keops_shapes::{builtin, distance, io, picture, shape};
pub use sum::Real;

/// The code of the documents, run as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../docs/adding-an-attachment.md")]
    mod attachment {}
}
