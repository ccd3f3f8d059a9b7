//! Derivatives of a computation, with cotangents and tangents as further arguments.

use crate::error::GradError;
use crate::outer::{Computation, InputDef, OuterGraph, OutputDef, Port};
use std::sync::Arc;

impl Computation {
    /// Reverse mode: the gradients of `Σ <result, cotangent>` with respect to arguments, one
    /// result for each argument in `wrt`. Every result of values gets a cotangent, an argument of
    /// the result's shape after those that there are; its name is `e` (or `e2`, `e3`, … where
    /// that is taken). Results that are indices are left out.
    ///
    /// # Errors
    /// [`GradError::UnknownVariable`] for an unknown name, [`GradError::NotDifferentiable`] if
    /// all results are indices.
    ///
    /// ```
    /// use keops_core::outer::Computation;
    /// # use keops_core::{parse::parse_formula, reduce::{ARG_MIN, SUM}, spec::Axis};
    /// let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "g = Pm(1)"];
    /// let f = parse_formula("Exp(-g * SqDist(x, y)) * b", None, &aliases)?;
    /// let c = Computation::reduction(f.clone(), &SUM, 1, Axis::J)?;
    /// let gradients = c.vjp(&["b", "g"])?; // of x, y, b, g and e, the cotangent: (M, 2)
    /// let e = &gradients.inputs()[4];
    /// assert_eq!((&e.name[..], &e.row[..]), ("e", &[2][..]));
    /// let rows: Vec<&[usize]> = gradients.outputs().iter().map(|o| &o.row[..]).collect();
    /// assert_eq!(rows, [&[2][..], &[1]]); // (N, 2) and (1)
    /// let e = c.vjp(&["z"]).unwrap_err();
    /// assert_eq!(e.to_string(), "no variable named `z`; the variables are `x`, `y`, `b`, `g`");
    /// let e = Computation::reduction(f, &ARG_MIN, 1, Axis::J)?.vjp(&["x"]).unwrap_err();
    /// assert_eq!(e.to_string(), "ArgMin has no derivative: its results are indices");
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn vjp(&self, wrt: &[&str]) -> Result<Computation, GradError> {
        let slots = self.slots(wrt)?;
        let values = self.values()?;
        let (mut graph, mut inputs) = ((*self.graph).clone(), self.inputs.clone());
        let ports: Vec<Port> = slots.iter().map(|&k| self.port(&mut graph, k)).collect();
        let mut seeds = vec![];
        for value in values {
            let name = unused(&inputs, "e");
            let seed = add_input(&mut graph, &mut inputs, name, value.row.clone(), value.port);
            seeds.push((value.port, seed));
        }
        let found = graph.vjp(&seeds, &ports)?;
        let rows = slots.iter().map(|&k| &self.inputs[k].row);
        let mut made = self.derived(graph, inputs, found, ports.iter().zip(rows));
        for (o, port) in made.outputs.iter_mut().zip(&ports) {
            o.like = Some(*port);
        }
        Ok(made)
    }

    /// Forward mode: the derivative of every result of values along tangents of the arguments
    /// `wrt`, which become arguments after those that there are, named `d_` and the name of the
    /// variable, of its shape.
    ///
    /// # Errors
    /// As [`Computation::vjp`].
    ///
    /// ```
    /// use keops_core::data::Element;
    /// use keops_core::outer::Computation;
    /// # use keops_core::{interp::Interpreter, parse::parse_formula, reduce::SUM};
    /// # use keops_core::spec::{Axis, Device};
    /// # use ndarray::array;
    /// let f = parse_formula("x * Square(y)", None, &["x = Vi(1)", "y = Vj(1)"])?;
    /// // Σ_j x_i 2 y_j d_y_j
    /// let along = Computation::reduction(f, &SUM, 1, Axis::J)?.jvp(&["y"])?;
    /// let (x, y, d_y) = (array![[3.0]], array![[1.0], [2.0]], array![[10.0], [1.0]]);
    /// let args = [&x, &y, &d_y].map(|a| f64::erase(a.view().into_dyn()));
    /// let out = along.run(&Device::new(Interpreter::new()), &args, None)?;
    /// assert_eq!(out[0].to_f64(), array![[72.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn jvp(&self, wrt: &[&str]) -> Result<Computation, GradError> {
        let slots = self.slots(wrt)?;
        let values = self.values()?;
        let (mut graph, mut inputs) = ((*self.graph).clone(), self.inputs.clone());
        let mut tangents = vec![];
        for &k in &slots {
            let port = self.port(&mut graph, k);
            let InputDef { name, row, .. } = &self.inputs[k];
            let name = unused(&inputs, &format!("d_{name}"));
            tangents.push((port, add_input(&mut graph, &mut inputs, name, row.clone(), port)));
        }
        let ports: Vec<Port> = values.iter().map(|o| o.port).collect();
        let found = graph.jvp(&ports, &tangents)?;
        Ok(self.derived(graph, inputs, found, ports.iter().zip(values.iter().map(|o| &o.row))))
    }

    /// Zeros stand in for derivatives that vanish identically.
    fn derived<'a>(
        &self,
        mut graph: OuterGraph,
        inputs: Vec<InputDef>,
        found: Vec<Option<Port>>,
        shapes: impl Iterator<Item = (&'a Port, &'a Vec<usize>)>,
    ) -> Computation {
        let outputs = found
            .into_iter()
            .zip(shapes)
            .map(|(port, (like, row))| {
                let info = graph.info(*like);
                let port = port.unwrap_or_else(|| {
                    let zeros = graph.zeros(info.dim, info.category);
                    graph.rebatch(zeros, *like)
                });
                OutputDef { port, row: row.clone(), like: None }
            })
            .collect();
        let (graph, prepared) = (Arc::new(graph), Arc::default());
        Computation { graph, inputs, outputs, primal: self.outputs.clone(), prepared }
    }
    fn slots(&self, names: &[&str]) -> Result<Vec<usize>, GradError> {
        let find = |name: &&str| {
            self.inputs.iter().position(|i| i.name == *name).ok_or_else(|| {
                let known: Vec<_> = self.inputs.iter().map(|i| format!("`{}`", i.name)).collect();
                GradError::UnknownVariable { name: name.to_string(), known: known.join(", ") }
            })
        };
        names.iter().map(find).collect()
    }
    fn values(&self) -> Result<Vec<OutputDef>, GradError> {
        let index = |o: &&OutputDef| self.graph.info(o.port).index;
        if let Some(first) = self.outputs.first()
            && self.outputs.iter().all(|o| index(&o))
        {
            self.graph.check_differentiable(first.port)?;
        }
        Ok(self.outputs.iter().filter(|o| !index(o)).cloned().collect())
    }
    fn port(&self, graph: &mut OuterGraph, slot: usize) -> Port {
        let InputDef { row, category, .. } = &self.inputs[slot];
        graph.input(slot, row.iter().product(), *category)
    }
}

fn add_input(
    graph: &mut OuterGraph,
    inputs: &mut Vec<InputDef>,
    name: String,
    row: Vec<usize>,
    like: Port,
) -> Port {
    let info = graph.info(like);
    let port = graph.input(inputs.len(), info.dim, info.category);
    inputs.push(InputDef { name, category: info.category, row, like: Some(like) });
    port
}

/// `base`, or `base2`, `base3`, … where it is taken.
fn unused(inputs: &[InputDef], base: &str) -> String {
    let mut name = base.to_string();
    let mut count = 1;
    while inputs.iter().any(|i| i.name == name) {
        count += 1;
        name = format!("{base}{count}");
    }
    name
}
