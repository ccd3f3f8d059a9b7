//! What a crate of somebody else adds to keops, with its public items only: a node of computations, reductions
//! made of reductions, a preconditioner; an attachment, a radial kernel, a model of deformations and an
//! optimiser of registrations. `tests/` uses them and compares derivatives with differences, to second order.
//!
//! The crate stands outside the workspace:
//! `cargo test --release --manifest-path tests/downstream/Cargo.toml --target-dir target`.

use keops::error::FormulaError;
use keops::graph::Category;
use keops::outer::{Computation, InputDef, OuterGraph, OutputDef, Port};
use keops::prelude::*;

pub mod affine;
pub mod chamfer;
pub mod descent;
pub mod kepler;
pub mod kernel;
pub mod pairs;
pub mod reductions;

/// A value of a graph as a function of named arrays of dimension 1.
pub fn function(
    graph: OuterGraph,
    inputs: &[(&str, Category)],
    port: Port,
) -> Result<Genred, Error> {
    let input = |(name, category): &(&str, Category)| InputDef {
        name: name.to_string(),
        category: *category,
        row: vec![1],
        like: None,
    };
    let inputs = inputs.iter().map(input).collect();
    let made = Computation::new(graph, inputs, vec![OutputDef { port, row: vec![1], like: None }]);
    Ok(made.map_err(FormulaError::from)?.into())
}
