//! What formulas and reductions mean, evaluated by loops over `i` and `j` and nothing else.
//!
//! Written from docs/semantics.md and docs/operations.md. It knows no graph, no rewriting, no
//! differentiation and no table of keops: what agrees with it agrees with the documents.
//!
//! - [`Expr`]: a formula, with its text for keops ([`Expr::text`]); [`parse()`] reads text.
//! - [`Op`]: the operations, each a few lines on plain vectors ([`ops`]).
//! - [`Reduction`] and [`evaluate`]: reductions over rows, batches and pairs ([`reduce`]).
//! - [`solve()`]: the systems of a sum, by elimination.
//! - [`Real`]: f64, or [`Dd`] with 31 digits, in which differences of values are exact enough to
//!   be derivatives of the third order.

mod dd;
pub mod eval;
pub mod expr;
pub mod ops;
pub mod parse;
mod radial;
pub mod reduce;
mod scalar;
pub mod solve;
mod special;

pub use dd::Dd;
pub use eval::{Env, value};
pub use expr::{Expr, Names};
pub use ops::Op;
pub use parse::{Declared, parse};
pub use reduce::{Array, Category, Pairs, Reduction, Results, Variable, evaluate};
pub use scalar::Real;
pub use solve::{Ridge, Solve, solve};
