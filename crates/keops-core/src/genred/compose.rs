//! Functions of functions.

use super::{Genred, Place};
use crate::error::{GradError, InputError};
use crate::outer::{Computation, InputDef, OuterGraph, OuterNode, OutputDef, OwnRanges};
use crate::ranges::Ranges;
use std::sync::Arc;

impl<P: Place> Genred<P> {
    /// The function in which the result of `inner` stands for the argument `name`. Its arguments
    /// are those of this function without `name`, then those of `inner`; what has one name in both
    /// is one argument. It can be called, composed and derived as any other, with respect to the
    /// arguments of both; each part keeps its options and ranges, and all runs at the place of this
    /// one. Rows are counted by all arguments: with an `inner` that has an argument over i, a function
    /// over j alone has one equal row for each i, where its own arguments give one row.
    ///
    /// ```
    /// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
    /// use ndarray::array;
    ///
    /// // w_j = 1 / Σ_i k(x_i, y_j), and Σ_j k(x_i, y_j) w_j b_j: columns of mean 1.
    /// let k = "Exp(-SqDist(x, y))";
    /// let aliases = ["x = Vi(1)", "y = Vj(1)"];
    /// let mass: Genred = Genred::new(k, aliases, &SUM, Axis::I)?;
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "m = Vj(1)", "b = Vj(1)"];
    /// let sum: Genred = Genred::new(&format!("{k} / m * b"), aliases, &SUM, Axis::J)?;
    /// let normalised = sum.compose("m", &mass)?;
    /// assert_eq!(normalised.arguments().collect::<Vec<_>>(), ["x", "y", "b"]);
    ///
    /// let (x, y, b) = (array![[0.0], [1.0]], array![[0.5], [2.0]], array![[4.0], [2.0]]);
    /// let out = normalised.call((&x, &y, &b))?;
    /// assert!((out.sum() - 6.0f64).abs() < 1e-14);
    /// // The sum does not depend on x, whatever way x goes into it.
    /// let gradient = normalised.vjp("x")?.call((&x, &y, &b, &array![[1.0], [1.0]]))?;
    /// assert!(gradient.iter().all(|g| g.abs() < 1e-14));
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError`] if there is no argument of that name, if `inner` has not exactly one result
    /// that is values, if that does not fit the argument, or if arguments of one name differ.
    pub fn compose<Q: Place>(
        &self,
        name: &str,
        inner: &Genred<Q>,
    ) -> Result<Genred<P>, InputError> {
        let (f, g) = (&self.computation, &inner.computation);
        let Some(hole) = f.inputs.iter().position(|i| i.name == name) else {
            let known: Vec<_> = self.arguments().map(String::from).collect();
            let unknown = GradError::UnknownVariable { name: name.into(), known: known.join(", ") };
            return Err(InputError::Option(unknown.to_string()));
        };
        let result = &g.outputs[inner.only_value()?];
        let info = g.graph.info(result.port);
        let wanted = &f.inputs[hole];
        if (info.category, &result.row) != (wanted.category, &wanted.row) {
            return Err(InputError::Option(format!(
                "`{name}` is {}{:?}, the result that is to stand for it is {}{:?}",
                wanted.category.keyword(),
                wanted.row,
                info.category.keyword(),
                result.row
            )));
        }
        // Arguments by name: those of the outer function come first.
        let mut inputs: Vec<InputDef> = vec![];
        let mut slots: [Vec<Option<usize>>; 2] = [vec![], vec![]];
        for (side, (all, skip)) in [(&f.inputs, Some(hole)), (&g.inputs, None)].iter().enumerate() {
            for (k, input) in all.iter().enumerate() {
                if Some(k) == *skip {
                    slots[side].push(None);
                    continue;
                }
                let known = inputs.iter().position(|i| i.name == input.name);
                if let Some(other) = known.map(|k| &inputs[k])
                    && (other.category, &other.row) != (input.category, &input.row)
                {
                    return Err(InputError::Option(format!(
                        "`{}` is {}{:?} in one function and {}{:?} in the other",
                        input.name,
                        other.category.keyword(),
                        other.row,
                        input.category.keyword(),
                        input.row
                    )));
                }
                slots[side].push(Some(known.unwrap_or_else(|| {
                    inputs.push(InputDef { like: None, ..input.clone() });
                    inputs.len() - 1
                })));
            }
        }
        // Ranges that both have stay those of the run.
        let shared = self.ranges == inner.ranges;
        let pin = |ranges: &Option<Arc<Ranges>>| {
            let own = ranges.clone().filter(|_| !shared).map(OwnRanges);
            move |node: &mut OuterNode| own.iter().for_each(|own| node.pin(own))
        };
        let mut graph = OuterGraph::default();
        let ports = |graph: &mut OuterGraph, side: usize, all: &[InputDef]| {
            let port = |(k, i): (usize, &InputDef)| {
                slots[side][k].map(|slot| graph.input(slot, i.row.iter().product(), i.category))
            };
            all.iter().enumerate().map(port).collect::<Vec<_>>()
        };
        let inner_ports = ports(&mut graph, 1, &g.inputs);
        let inner_at = graph.import(&g.graph, &|k| inner_ports[k], &pin(&inner.ranges));
        let made = inner_at(result.port);
        let outer_ports = ports(&mut graph, 0, &f.inputs);
        let outer_at =
            graph.import(&f.graph, &|k| Some(outer_ports[k].unwrap_or(made)), &pin(&self.ranges));
        for (side, all) in [&f.inputs, &g.inputs].iter().enumerate() {
            for (k, input) in all.iter().enumerate() {
                if let (Some(slot), Some(like)) = (slots[side][k], input.like) {
                    let like = if side == 0 { outer_at(like) } else { inner_at(like) };
                    inputs[slot].like.get_or_insert(like);
                }
            }
        }
        let output = |o: &OutputDef| OutputDef {
            port: outer_at(o.port),
            row: o.row.clone(),
            like: o.like.map(&outer_at),
        };
        let outputs = f.outputs.iter().map(output).collect();
        let made = self.derived(Computation::new(graph, inputs, outputs)?);
        Ok(Genred { ranges: made.ranges.filter(|_| shared), ..made })
    }
}
