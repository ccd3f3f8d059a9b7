//! Hamiltonian shooting (LDDMM) and registration of shapes.
//!
//! ```
//! use keops_core::{interp::Interpreter, spec::Device};
//! use keops_lddmm::attachment::Attachment;
//! use keops_lddmm::builtin::curve_pair;
//! use keops_lddmm::kernel::Kernel;
//! use keops_lddmm::registration::{Limits, Options, Progress, Registration};
//! use keops_lddmm::shooting::Scheme;
//! use std::ops::ControlFlow;
//!
//! let (source, target) = curve_pair(24)?;
//! let options = Options {
//!     kernel: Kernel::gaussian(0.8)?,
//!     attachment: Attachment::Varifold { kernel: Kernel::gaussian(0.8)? },
//!     gamma: 0.01,
//!     scheme: Scheme::Ralston,
//!     steps: 5,
//!     control_points: None,
//!     limits: Limits { iterations: 3, ..Limits::default() },
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
#![deny(unsafe_code)] // (`ndarray::s!` allows it for itself.)

pub mod attachment;
pub mod error;
pub mod export;
pub mod hamiltonian;
pub mod kernel;
pub mod momenta;
mod optimise;
pub mod registration;
pub mod report;
pub mod shooting;
mod sum;

pub use error::LddmmError;
pub use keops_shapes::{builtin, distance, io, picture, shape};
pub use sum::Real;
