//! Judges of keops that share nothing with it.
//!
//! The suites of the project compare its parts with each other: backends with the interpreter,
//! rules of differentiation with dual numbers that run through the same graphs. A fault that all
//! of them share is seen by none. Here is a second implementation of what the documents say, as
//! naive as it can be ([`naive`]), and judges that hold the results of keops against it.

pub mod derivatives;
pub mod naive;
mod runs;
pub mod values;

pub use runs::Devices;
