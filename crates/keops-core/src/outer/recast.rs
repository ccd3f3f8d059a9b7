//! Rows of one index as rows of the other.

use super::{Application, Call, Function, OuterGraph, Port, PortInfo};
use crate::data::{ArgView, Buffer, Element};
use crate::error::{DimError, Error, GradError, RunError};
use crate::graph::Category;
use crate::{memory, with_view};
use std::hash::Hasher;
use std::sync::Arc;

/// Name of results in errors where there is no memory for them.
const WHAT: &str = "rows of the other index";

/// The identity, from rows of one index to as many rows of the other. It is linear, and its
/// transpose is the way back.
#[derive(Debug)]
struct Recast(Category);

impl Function for Recast {
    fn name(&self) -> &str {
        "Recast"
    }
    fn key(&self, state: &mut dyn Hasher) {
        state.write_u8(u8::from(self.0 == Category::I));
    }
    fn results(&self, operands: &[PortInfo]) -> Result<Vec<PortInfo>, DimError> {
        Ok(operands.iter().map(|x| PortInfo { category: self.0, ..*x }).collect())
    }
    fn square(&self) -> bool {
        true
    }
    fn run(&self, call: &Call<'_>) -> Result<Vec<Buffer>, Error> {
        let copy = |x: &ArgView<'_>| -> Result<Buffer, Error> {
            with_view!(&*x.host()?, v => Ok(Element::buffer(memory::mapped(v, |e| e, WHAT).map_err(RunError::from)?)))
        };
        call.operands.iter().map(copy).collect()
    }
    fn vjp(
        &self,
        graph: &mut OuterGraph,
        at: &Application<'_>,
        cotangents: &[Option<Port>],
    ) -> Result<Vec<(Port, Port)>, GradError> {
        let mut list = vec![];
        for (x, g) in at.operands.iter().zip(cotangents) {
            if let Some(g) = g {
                list.push((*x, graph.recast(*g, graph.info(*x).category)?));
            }
        }
        Ok(list)
    }
    fn jvp(
        &self,
        graph: &mut OuterGraph,
        _: &Application<'_>,
        tangents: &[Option<Port>],
    ) -> Result<Vec<Option<Port>>, GradError> {
        let mut along = |t: &Option<Port>| t.map(|t| graph.recast(t, self.0)).transpose();
        Ok(tangents.iter().map(&mut along).collect::<Result<_, _>>()?)
    }
}

impl OuterGraph {
    /// The rows of `x` as rows of the other index, where both have as many: one array on both sides
    /// of a kernel, or the result of a square matrix as its next argument. `x` itself where it has
    /// rows of `category`.
    ///
    /// ```
    /// use keops_core::{graph::Category, outer::OuterGraph};
    /// let mut g = OuterGraph::default();
    /// let x = g.input(0, 3, Category::I);
    /// let y = g.recast(x, Category::J)?;
    /// assert_eq!((g.info(y).dim, g.info(y).category), (3, Category::J));
    /// let weights = g.input(1, 3, Category::Param);
    /// assert!(g.recast(weights, Category::J).is_err()); // it has no rows
    /// # Ok::<(), keops_core::error::DimError>(())
    /// ```
    ///
    /// # Errors
    /// [`DimError`] if `x` or `category` is of parameters, or `x` is indices. That the numbers of
    /// rows differ shows when it runs.
    pub fn recast(&mut self, x: Port, category: Category) -> Result<Port, DimError> {
        let own = self.info(x).category;
        if own == category {
            return Ok(x);
        }
        if own == Category::Param || category == Category::Param {
            return Err(DimError::new("Recast", "rows of i or j", "parameters"));
        }
        Ok(self.apply(Arc::new(Recast(category)), &[x])?[0])
    }
}
