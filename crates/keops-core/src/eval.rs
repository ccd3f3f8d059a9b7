//! Evaluation of whole computations on a device.
//!
//! Reductions run on the device, each once; row maps and sums of rows are reductions with a single
//! row or column. Gathers, scatters and sums over batch axes are done here. Intermediate values
//! have the compute type (f32 for f16 and bf16 data) and are freed after their last use.
//!
//! | file | holds |
//! |---|---|
//! | `sizes` | the check of arguments; rows and batch shapes |
//! | `plan` | what all calls share: the order of nodes, the compiled reductions |
//! | `steps` | one node of a run; `long`, `scatter` and `rows` hold the larger steps |
//! | `value` | what a node made, or an argument as it was given |

mod long;
mod plan;
mod rows;
mod scatter;
mod sizes;
mod steps;
mod value;

pub(crate) use plan::Prepared;
pub use sizes::Sizes;

use crate::data::{ArgView, Buffer};
use crate::error::{Error, InputError};
use crate::outer::{Computation, InputDef, OuterNode, OutputDef, OwnRanges};
use crate::ranges::Ranges;
use crate::spec::{CheckedArgs, Device, ReduceSpec, Resident};
use hashbrown::HashMap;
use ndarray::IxDyn;
use steps::Run;
use value::Value;

impl Computation {
    /// Evaluates on a device. Results are in the compute type of the arguments (f32 for f16 and
    /// bf16), indices in i64, of shape `(batch…, rows, row…)` ([`OutputDef::row`]); parameters
    /// `(batch…, row…)`.
    ///
    /// Ranges apply to every reduction over pairs that has none of its own
    /// ([`Computation::with_ranges`]), also in derivatives.
    /// Accumulation in f16 applies to reductions of f16 data; those that also read intermediate
    /// values (gradients) accumulate in f32.
    ///
    /// ```
    /// use keops_core::{genred::AsArg, interp::Interpreter, outer::Computation};
    /// use keops_core::spec::{Axis, Device};
    /// use keops_core::{parse::parse_formula, reduce::SUM};
    /// use ndarray::array;
    /// let formula = parse_formula("x * y", None, &["x = Vi(1)", "y = Vj(1)"])?;
    /// let sum = Computation::reduction(formula, &SUM, 1, Axis::J)?;
    /// let (x, y) = (array![[1.0], [2.0]], array![[3.0], [4.0]]);
    /// let out = sum.run(&Device::new(Interpreter::new()), &[x.as_arg(), y.as_arg()], None)?;
    /// assert_eq!(out[0].to_f64(), array![[7.0], [14.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`] if arguments or ranges do not fit, [`Error::Compile`] and [`Error::Run`]
    /// from the device.
    pub fn run(
        &self,
        device: &Device,
        args: &[ArgView<'_>],
        ranges: Option<&Ranges>,
    ) -> Result<Vec<Buffer>, Error> {
        let given = args;
        let (args, sizes) = self.fit(given)?;
        let made = self.run_sized(&sizes, device, &args, ranges, None)?;
        Ok(self.as_given(given, made))
    }
    /// The shape in which the argument was given that result `k` belongs to.
    pub(crate) fn shape_given<'s>(
        &self,
        k: usize,
        given: &'s [ArgView<'_>],
    ) -> Option<&'s [usize]> {
        match self.graph.node(self.outputs[k].like?.node) {
            OuterNode::Input { slot, .. } => given.get(*slot).map(|a| a.shape()),
            _ => None,
        }
    }
    /// Results, those that belong to arguments in the shapes in which these were given.
    pub(crate) fn as_given(&self, given: &[ArgView<'_>], made: Vec<Buffer>) -> Vec<Buffer> {
        if self.outputs.iter().all(|o| o.like.is_none()) {
            return made;
        }
        let shaped = |(k, b): (usize, Buffer)| match self.shape_given(k, given) {
            Some(shape)
                if shape != b.shape()
                    && shape.iter().product::<usize>() == b.shape().iter().product() =>
            {
                b.reshaped(shape)
            }
            _ => b,
        };
        made.into_iter().enumerate().map(shaped).collect()
    }
    /// As [`Computation::run`], with the sizes of these arguments; the memory of `reuse` is taken
    /// for the first result if it has its type and size and if that is the only result of a
    /// reduction.
    pub(crate) fn run_sized(
        &self,
        sizes: &Sizes,
        device: &Device,
        args: &[ArgView<'_>],
        ranges: Option<&Ranges>,
        reuse: Option<Buffer>,
    ) -> Result<Vec<Buffer>, Error> {
        self.check_places(device, args)?;
        if let Some(r) = ranges {
            r.check(sizes.rows_i, sizes.rows_j)?;
        }
        let plan = self.prepared.plan(self);
        if let Some(id) = plan.only
            && let OuterNode::Reduce(r) = self.graph.node(id)
        {
            let (rows, batch) = ([sizes.rows_i, sizes.rows_j], sizes.batch.clone());
            let ranges = own_or(&r.ranges, sizes, ranges)?;
            let check = |spec: &ReduceSpec| CheckedArgs::sized(spec, args, rows, batch, ranges);
            let made = self.reduce(id, r, sizes.dtype, (sizes, device), reuse, check)?;
            if self.outputs.iter().all(|o| o.row.len() == 1) {
                return Ok(made);
            }
            let shaped = |(b, o): (Buffer, &OutputDef)| {
                let lead = b.shape().len() - 1;
                let shape = [&b.shape()[..lead], &o.row].concat();
                b.reshaped(&shape)
            };
            return Ok(made.into_iter().zip(&self.outputs).map(shaped).collect());
        }
        let fit = |buffer: Buffer, o: &OutputDef| {
            let batch = sizes.batch_of(&self.graph, o.port.node);
            let rows = sizes.rows(self.graph.info(o.port).category);
            let shape = || batch.iter().chain(&rows).chain(&o.row).copied();
            match buffer.shape().iter().copied().eq(shape()) {
                true => buffer,
                false => buffer.reshaped(&shape().collect::<Vec<_>>()),
            }
        };
        let mut run = Run {
            computation: self,
            sizes,
            device,
            args,
            ranges,
            values: vec![],
            wide: HashMap::new(),
            reuse: self.outputs.first().map(|o| o.port.node).zip(reuse),
        };
        run.values.resize_with(self.graph.len(), Vec::new);
        for step in &plan.steps {
            run.values[step.node.0 as usize] = run.node(step.node)?;
            for node in &step.last_used {
                run.values[node.0 as usize] = vec![];
                run.wide.retain(|p, _| p.node != *node);
            }
        }
        let held = |o: &OutputDef| run.held(o.port);
        let results = self.outputs.iter().map(held).collect::<Result<Vec<_>, _>>()?;
        // A result that is wanted once is now held once, and moves.
        drop(run);
        let take = |(value, o): (Value<'_>, &OutputDef)| {
            Ok(fit(value.into_buffer(sizes.dtype.compute(), "a result")?, o))
        };
        results.into_iter().zip(&self.outputs).map(take).collect()
    }
    /// Result `k` of values, held by the device; it is in the compute type.
    pub(crate) fn run_resident(
        &self,
        k: usize,
        sizes: &Sizes,
        device: &Device,
        args: &[ArgView<'_>],
        ranges: Option<&Ranges>,
    ) -> Result<Resident, Error> {
        self.check_places(device, args)?;
        if let Some(id) = self.prepared.plan(self).only
            && let OuterNode::Reduce(r) = self.graph.node(id)
        {
            if let Some(r) = ranges {
                r.check(sizes.rows_i, sizes.rows_j)?;
            }
            let (rows, batch) = ([sizes.rows_i, sizes.rows_j], sizes.batch.clone());
            let ranges = own_or(&r.ranges, sizes, ranges)?;
            let check = |spec: &ReduceSpec| CheckedArgs::sized(spec, args, rows, batch, ranges);
            let (compiled, loaded, checked) =
                self.compiled(id, r, sizes.dtype, (sizes, device), check)?;
            if let Some(made) = loaded.executable.run_resident(&checked) {
                let dim = compiled.spec.outputs()[k].dim;
                let shape = [checked.batch(), &[checked.rows(), dim]].concat();
                let (held, dtype) = (made?.swap_remove(k), sizes.dtype.compute());
                let whole = Resident::new(held, device, dtype, IxDyn(&shape));
                let row = &self.outputs[k].row;
                return Ok(whole.reshaped(&[&shape[..shape.len() - 1], row].concat()));
            }
        }
        let mut made = self.run_sized(sizes, device, args, ranges, None)?;
        Ok(device.hold(made.swap_remove(k))?)
    }
    /// Arrays that a device holds are arguments of what runs there.
    fn check_places(&self, device: &Device, args: &[ArgView<'_>]) -> Result<(), InputError> {
        let held = |(input, arg): (&InputDef, &ArgView<'_>)| match arg {
            ArgView::Host(_) => Ok(()),
            ArgView::Resident(r) => r.check(&input.name, device),
        };
        self.inputs.iter().zip(args).try_for_each(held)
    }
}

/// The ranges of a reduction: its own, or those of the run, which are checked already.
fn own_or<'r>(
    own: &'r Option<OwnRanges>,
    sizes: &Sizes,
    of_run: Option<&'r Ranges>,
) -> Result<Option<&'r Ranges>, InputError> {
    let Some(own) = own else { return Ok(of_run) };
    own.0.check(sizes.rows_i, sizes.rows_j)?;
    Ok(Some(&own.0))
}
