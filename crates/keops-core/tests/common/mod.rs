//! Data of tests.
#![allow(dead_code)] // each test file uses its own part

// A copy, so that tests can add to it.
#[path = "../../src/random.rs"]
mod random;

use ndarray::{ArrayD, IxDyn};
pub use random::Random;

impl Random {
    /// Uniform numbers in [0.2, 1.4), where formulas of tests are smooth.
    pub fn array(&mut self, shape: &[usize]) -> ArrayD<f64> {
        ArrayD::from_shape_simple_fn(IxDyn(shape), || self.within(0.2, 1.4))
    }
}
