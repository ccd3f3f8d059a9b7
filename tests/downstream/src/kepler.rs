//! A node of computations that keops has not: the solution of Kepler's equation, by Newton's method. Its
//! derivatives are by the implicit function theorem, so that they are differentiated again.

use keops::data::Buffer;
use keops::error::{DimError, FormulaError, GradError};
use keops::graph::Category;
use keops::ops::{COS, SIN};
use keops::outer::{Application, Call, Function, OuterGraph, Port, PortInfo};
use keops::prelude::*;
use std::convert::Infallible;
use std::hash::Hasher;
use std::sync::Arc;

/// Kepler's equation `E - e sin E = M` in each row, by Newton's method.
#[derive(Debug)]
pub struct Kepler;

pub fn kepler(e: f64, m: f64) -> f64 {
    (0..60).fold(m, |x, _| x - (x - e * x.sin() - m) / (1.0 - e * x.cos()))
}

impl Function for Kepler {
    fn name(&self) -> &str {
        "Kepler"
    }
    fn key(&self, _: &mut dyn Hasher) {}
    fn results(&self, operands: &[PortInfo]) -> Result<Vec<PortInfo>, DimError> {
        match operands {
            [e, m] if e.dim == 1 && e.category == Category::Param => Ok(vec![*m]),
            other => Err(DimError::new("Kepler", "an eccentricity and anomalies", other.len())),
        }
    }
    fn run(&self, call: &Call<'_>) -> Result<Vec<Buffer>, FormulaError> {
        call.each(|v| Ok::<_, Infallible>(vec![v[1].mapv(|m| kepler(v[0][[0, 0]], m))]))
    }
    // (1 - e cos E) dE = dM + sin E de
    fn vjp(
        &self,
        graph: &mut OuterGraph,
        at: &Application<'_>,
        cotangents: &[Option<Port>],
    ) -> Result<Vec<(Port, Port)>, GradError> {
        let (Some(g), [e, m]) = (cotangents[0], at.operands) else { return Ok(vec![]) };
        let (category, z) = (graph.info(*m).category, at.results[0]);
        let of_m = graph
            .map_rows(category, &[*e, z, g], |b, v| v[2] / (b.lit(1.0) - v[0] * v[1].un(&COS)));
        let rows = graph.map_rows(category, &[z, of_m], |_, v| v[0].un(&SIN).dot(v[1]));
        Ok(vec![(*m, of_m), (*e, graph.sum_rows(rows))])
    }
    fn jvp(
        &self,
        graph: &mut OuterGraph,
        at: &Application<'_>,
        tangents: &[Option<Port>],
    ) -> Result<Vec<Option<Port>>, GradError> {
        let (category, z) = (graph.info(at.operands[1]).category, at.results[0]);
        let mut terms: Vec<Port> = tangents[1].into_iter().collect();
        terms.extend(
            tangents[0].map(|d_e| graph.map_rows(category, &[z, d_e], |_, v| v[0].un(&SIN) * v[1])),
        );
        let right = graph.add(&terms);
        let d = graph.map_rows(category, &[at.operands[0], z, right], |b, v| {
            v[2] / (b.lit(1.0) - v[0] * v[1].un(&COS))
        });
        Ok(vec![Some(d)])
    }
}

/// `E(e, m)` as a function of arrays, to be called, composed and differentiated.
pub fn anomaly() -> Result<Genred, Error> {
    let mut g = OuterGraph::default();
    let (e, m) = (g.input(0, 1, Category::Param), g.input(1, 1, Category::I));
    let port = g.apply(Arc::new(Kepler), &[e, m]).map_err(FormulaError::from)?[0];
    crate::function(g, &[("e", Category::Param), ("m", Category::I)], port)
}
