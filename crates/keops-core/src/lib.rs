//! Formulas, their gradients, reductions, and the reference interpreter of keops.
//!
//! This crate holds everything that is known about a formula before a machine is chosen.
#![forbid(unsafe_code)]

pub mod autodiff;
pub mod composite;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod conventions;
pub mod data;
pub mod error;
pub mod eval;
pub mod genred;
pub mod graph;
pub mod interp;
mod key;
pub mod lazy;
pub mod lower;
pub mod memory;
pub mod ops;
pub mod outer;
pub mod outer_diff;
pub mod parse;
pub mod prim;
pub mod prim_eval;
pub mod print;
pub mod program;
pub mod random;
pub mod ranges;
pub mod reduce;
pub mod resident;
mod simplify;
pub mod spec;
pub mod vecmath;
pub mod verify;

/// The code of the guide, run as a test.
#[cfg(all(doctest, feature = "conformance"))]
#[doc = include_str!("../../../docs/adding-a-backend.md")]
mod guide {}
