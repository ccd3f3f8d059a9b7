//! Hamiltonian shooting (LDDMM) and registration of shapes.

pub mod builtin;
pub mod distance;
pub mod io;
pub mod picture;
pub mod shape;
