//! One error for all parts: `?` turns each of theirs into [`keops::Error`], which keeps the source.
use keops::error::{DimError, FormulaError, OutOfMemory, ParseError};
use keops::prelude::*;
// Both preludes together: `Axis` is that of ndarray, `Over` that of reductions.
use ndarray::prelude::*;
use std::error::Error as _;

/// What enters, shown as it was, with the chain of its sources.
fn entered<E: std::error::Error + Into<Error>>(e: E) -> Error {
    let (shown, source) = (e.to_string(), e.source().map(ToString::to_string));
    let all: Error = e.into();
    assert_eq!(all.to_string(), shown);
    assert_eq!(all.source().map(ToString::to_string), source);
    all
}

#[test]
fn errors_of_formulas_enter() {
    let call = || -> Result<ArrayD<f64>, Error> {
        let sum = Genred::new("x", ["x = Vj(2)"], Sum, Over::J)?;
        Ok(sum.call((&array![[1.0]],))?)
    };
    assert!(matches!(call(), Err(Error::Formula(FormulaError::Input(_)))));
    let parse: ParseError = keops::parse::parse_formula("x +", None, &["x = Vi(1)"]).unwrap_err();
    assert!(matches!(entered(parse), Error::Formula(FormulaError::Parse(_))));
    entered(DimError::new("Sum", "1 operand", 2));
    entered(OutOfMemory { what: "the result".into(), bytes: 64 });
    let lazy = (vi(array![[1.0, 2.0]]) - vj(array![[1.0, 2.0, 3.0]])).sum(Over::J).unwrap_err();
    assert!(lazy.source().is_some());
    entered(lazy);
}

#[test]
fn both_preludes_go_together() -> Result<(), Error> {
    let x = array![[0.0], [2.0]];
    let out = (vi(&x) - vj(&x)).abs().sum(Over::I)?;
    assert_eq!(out.sum_axis(Axis(0)), array![4.0].into_dyn());
    assert_eq!(out, vi(&x).sqdist(vj(&x)).sqrt().sum(keops::Axis::J)?);
    Ok(())
}

#[cfg(feature = "lddmm")]
#[test]
fn errors_of_shapes_enter() {
    use keops::lddmm::shape::{Cells, Shape};
    use keops::lddmm::{builtin, io, kernel::Kernel, registration::RegistrationError};
    entered(Kernel::gaussian(-1.0).unwrap_err());
    let sigma = Kernel::gaussian(-1.0).unwrap_err();
    entered(RegistrationError::from(sigma));
    entered(builtin::icosphere(100).unwrap_err());
    entered(Shape::new(Array2::zeros((0, 3)), Cells::Points).unwrap_err());
    let missing = std::path::Path::new("no such folder/no such file.ply");
    entered(io::read_shape(missing).unwrap_err());
}
