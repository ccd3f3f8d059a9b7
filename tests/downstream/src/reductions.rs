//! Reductions that keops has not, made of those that it has.

use keops::reduce::{DerivedDef, K_MIN, MAX, MIN, WeightRule};

/// `max f - min f`
pub static RANGE: DerivedDef = DerivedDef {
    name: "Range",
    spellings: &[],
    doc: "largest f - smallest f",
    weight: WeightRule::Never,
    many: false,
    make: |p| {
        let ends = [p.of(&MAX)?, p.of(&MIN)?];
        Ok(p.rows(&ends, |v| v[0] - v[1]))
    },
};
/// The mean of the K smallest.
pub static MEAN_OF_NEAREST: DerivedDef = DerivedDef {
    name: "MeanOfNearest",
    spellings: &[],
    doc: "mean of the K smallest f, of dimension 1",
    weight: WeightRule::Never,
    many: true,
    make: |p| {
        let (k, nearest) = (p.winners(), p.of(&K_MIN)?);
        Ok(p.rows(&[nearest], |v| v[0].sum() / k as f64))
    },
};
