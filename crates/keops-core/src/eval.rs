//! Evaluation of whole computations on a device.
//!
//! Reductions run on the device, each once; row maps and sums of rows are reductions with a single
//! row or column. Gathers, scatters and sums over batch axes are done here. Intermediate values
//! have the compute type (f32 for f16 and bf16 data) and are freed after their last use.

use crate::data::{ArgView, Buffer, DType, Element, HostView, OnHost, batch_matrix, map_view};
use crate::error::{Error, InputError, OutOfMemory, RunError};
use crate::graph::{Builder, Category, Var};
use crate::memory;
use crate::outer::{
    Applied, Call, Computation, InputDef, OuterGraph, OuterId, OuterNode, OutputDef, OwnRanges,
    Port, Reduction, RowMap, Selected,
};
use crate::ranges::Ranges;
use crate::reduce;
use crate::spec::{
    Axis, CheckedArgs, Device, DeviceId, Executable, Loaded, ReduceOptions, ReduceSpec, Resident,
    Scheme,
};
use crate::with_view;
use hashbrown::HashMap;
use ndarray::{ArrayD, ArrayView2, Axis as NdAxis, Dimension, IxDyn, Slice};
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock, RwLock, Weak};

mod long;
mod scatter;
mod sizes;

pub use sizes::Sizes;
use sizes::merge;

/// A value while a computation runs.
#[derive(Clone)]
struct Value<'a> {
    held: Held<'a>,
    /// Components `start, start + step, …` (so many) of what is held.
    columns: Option<(usize, usize, usize)>,
}
#[derive(Clone)]
enum Held<'a> {
    Given(ArgView<'a>),
    Made(Arc<Buffer>),
}

impl<'a> Value<'a> {
    fn made(buffer: Buffer) -> Value<'a> {
        Value { held: Held::Made(Arc::new(buffer)), columns: None }
    }
    /// Values as an argument; `None` for indices.
    fn view(&self) -> Option<ArgView<'_>> {
        if let (Held::Given(a), None) = (&self.held, self.columns) {
            return Some(a.view());
        }
        self.host().map(ArgView::Host)
    }
    /// Sees to it that the value is in memory of the host.
    fn load(&self) -> Result<(), RunError> {
        match &self.held {
            Held::Given(ArgView::Resident(r)) => r.load(),
            _ => Ok(()),
        }
    }
    /// Values in memory of the host, where what a device holds was loaded; `None` for indices.
    fn host(&self) -> Option<HostView<'_>> {
        let all = match &self.held {
            Held::Given(ArgView::Host(v)) => v.view(),
            Held::Given(ArgView::Resident(r)) => r.on_host()?,
            Held::Made(b) => b.host_view()?,
        };
        let Some((start, step, len)) = self.columns else { return Some(all) };
        let slice = Slice::new(
            start as isize,
            Some((start + (len - 1) * step + 1) as isize),
            step as isize,
        );
        Some(map_view!(all, v => {
            let mut v = v;
            let last = NdAxis(v.ndim() - 1);
            v.slice_axis_inplace(last, slice);
            v
        }))
    }
    fn indices(&self) -> Option<&ArrayD<i64>> {
        match &self.held {
            Held::Made(b) => b.indices(),
            Held::Given(_) => None,
        }
    }
    /// An owned buffer of type `dtype` (indices stay indices), row-major.
    fn into_buffer(self, dtype: DType, what: &str) -> Result<Buffer, RunError> {
        if let Some(v) = self.host()
            && (self.columns.is_some() || v.dtype() != dtype || matches!(self.held, Held::Given(_)))
        {
            return convert(&v, dtype, what);
        }
        match self.held {
            Held::Made(b) => Arc::try_unwrap(b).or_else(|shared| Ok(shared.copied(what)?)),
            Held::Given(_) => unreachable!("arguments are values"),
        }
    }
}

fn zeros(dtype: DType, shape: &[usize], what: &str) -> Result<Buffer, RunError> {
    Buffer::zeros(Some(dtype), shape).ok_or_else(|| RunError::OutOfMemory {
        what: what.into(),
        bytes: shape.iter().fold(8usize, |a, &b| a.saturating_mul(b)),
    })
}

/// A row-major copy in the given compute type.
fn convert(view: &HostView<'_>, dtype: DType, what: &str) -> Result<Buffer, RunError> {
    fn copy<O: Element>(out: &mut ArrayD<O>, view: &HostView<'_>) {
        with_view!(view, v => out.zip_mut_with(v, |o, x| *o = O::of_f64(x.to_f64())));
    }
    let mut out = zeros(dtype, view.shape(), what)?;
    match &mut out {
        Buffer::F32(o) => copy(o, view),
        Buffer::F64(o) => copy(o, view),
        _ => unreachable!("compute types are f32 and f64"),
    }
    Ok(out)
}

/// Merges the last axes of an argument, those of one row, into one.
fn flatten_rows<'a>(arg: &ArgView<'a>, row: usize) -> Result<Value<'a>, OutOfMemory> {
    macro_rules! flat {
        ($v:expr, $kind:ident) => {{
            let lead = $v.ndim() - row;
            let mut shape = $v.shape()[..lead].to_vec();
            shape.push($v.shape()[lead..].iter().product());
            match $v.clone().into_shape_with_order(IxDyn(&shape)) {
                Ok(v) => Value { held: Held::Given(HostView::$kind(v).into()), columns: None },
                Err(_) => {
                    let copy = memory::collected($v.iter().copied(), "an argument's rows")?;
                    match ArrayD::from_shape_vec(IxDyn(&shape), copy) {
                        Ok(a) => Value::made(Buffer::$kind(a)),
                        Err(_) => unreachable!("merging axes keeps the size"),
                    }
                }
            }
        }};
    }
    if row == 1 {
        return Ok(Value { held: Held::Given(arg.clone()), columns: None });
    }
    Ok(match arg {
        ArgView::Host(HostView::F16(v)) => flat!(v, F16),
        ArgView::Host(HostView::BF16(v)) => flat!(v, BF16),
        ArgView::Host(HostView::F32(v)) => flat!(v, F32),
        ArgView::Host(HostView::F64(v)) => flat!(v, F64),
        ArgView::Resident(r) => {
            let (lead, last) = r.shape().split_at(r.shape().len() - row);
            let flat = r.reshaped(&[lead, &[last.iter().product()]].concat());
            Value { held: Held::Given(ArgView::Resident(Cow::Owned(flat))), columns: None }
        }
    })
}

/// A reduction that is compiled, and arguments that fit.
type Ready<'s> = (Arc<Compiled>, Arc<dyn Executable>, CheckedArgs<'s>);

impl Computation {
    /// Checks arguments and finds sizes.
    ///
    /// ```
    /// use keops_core::genred::{AsArg, Genred};
    /// use keops_core::{reduce::SUM, spec::Axis};
    /// use ndarray::{Array2, Array3};
    /// let sum: Genred = Genred::new("x * y", ["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J)?;
    /// let (x, y) = (Array3::<f32>::zeros((4, 10, 2)), Array2::<f32>::zeros((7, 2)));
    /// let sizes = sum.computation().sizes(&[x.as_arg(), y.as_arg()])?;
    /// assert_eq!(sizes.dtype, keops_core::data::DType::F32);
    /// let e = sum.computation().sizes(&[x.as_arg()]).unwrap_err();
    /// assert_eq!(e.to_string(), "expected 2 arguments (x, y), got 1");
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError`] naming the argument whose number of axes, dimension, rows, batches or
    /// element type does not fit.
    pub fn sizes(&self, args: &[ArgView<'_>]) -> Result<Sizes, InputError> {
        if args.len() != self.inputs.len() {
            let names: Vec<_> = self.inputs.iter().map(|i| i.name.as_str()).collect();
            return Err(InputError::Count {
                expected: self.inputs.len(),
                names: names.join(", "),
                got: args.len(),
            });
        }
        let dtype = args.first().map_or(DType::F64, |a| a.dtype());
        // What a cotangent or a tangent has the shape of.
        let like = |input: &InputDef| match input.like.map(|p| self.graph.node(p.node)) {
            Some(OuterNode::Input { slot, .. }) => self.inputs[*slot].name.as_str(),
            _ => "the result",
        };
        let mut rows: [Option<(usize, &str)>; 2] = [None, None];
        let mut sizes = Sizes { rows_i: 1, rows_j: 1, batch: vec![], dtype, of_input: vec![] };
        for (slot, (input, arg)) in self.inputs.iter().zip(args).enumerate() {
            let (name, shape) = (&input.name, arg.shape());
            if arg.dtype() != dtype {
                return Err(InputError::Type {
                    name: name.clone(),
                    expected: format!("{} as of `{}`", dtype.name(), self.inputs[0].name),
                    got: arg.dtype().name().into(),
                });
            }
            let has_rows = input.category != Category::Param;
            let own = input.row.len() + has_rows as usize;
            let mut ends = shape.iter().rev().zip(input.row.iter().rev());
            if shape.len() < own || ends.any(|(a, b)| a != b) {
                let letter = match input.category {
                    Category::I => "M, ",
                    Category::J => "N, ",
                    Category::Param => "",
                };
                let row: Vec<_> = input.row.iter().map(|d| d.to_string()).collect();
                let row = row.join(", ");
                let mut expected = format!("shape ({letter}{row}) or (batches…, {letter}{row})");
                // The row of a matrix, as if it were a matrix of one row.
                if has_rows && *shape == input.row[..] {
                    expected += &format!("; one row has shape (1, {row}), a parameter is `Pm`");
                }
                if input.like.is_some() {
                    expected +=
                        &format!(", as {}: it is a cotangent or tangent of that", like(input));
                }
                return Err(InputError::Shape {
                    name: name.clone(),
                    expected,
                    got: shape.to_vec(),
                });
            }
            let batch = &shape[..shape.len() - own];
            let other = || like(input);
            if has_rows {
                let got = shape[shape.len() - own];
                let side = (input.category == Category::J) as usize;
                let of_other = rows[1 - side].filter(|_| self.graph.is_square());
                let slot = &mut rows[side];
                let known = match (&slot, &input.like) {
                    (Some((n, first)), None) => Some((*n, *first)),
                    (n, Some(_)) => Some((n.or(of_other).map_or(1, |(n, _)| n), other())),
                    (None, None) => None,
                };
                match known {
                    Some((expected, other)) if expected != got => {
                        let (name, what) = (name.clone(), "rows".to_string());
                        let other = other.to_string();
                        return Err(InputError::Disagree { name, what, other, expected, got });
                    }
                    Some(_) => {}
                    None => *slot = Some((got, name)),
                }
            }
            match input.like {
                None => {
                    if let Some((expected, got)) = merge(&mut sizes.batch, batch) {
                        let clash = |b: &Vec<usize>| merge(&mut b.clone(), batch).is_some();
                        let at = sizes.of_input.iter().position(clash).unwrap_or(0);
                        return Err(InputError::Disagree {
                            name: name.clone(),
                            what: "batch elements".into(),
                            other: self.inputs[at].name.clone(),
                            expected,
                            got,
                        });
                    }
                }
                Some(like) => {
                    let full = sizes.batch_of(&self.graph, like.node);
                    let mut both = full.clone();
                    if merge(&mut both, batch).is_some() || both != full {
                        return Err(InputError::Shape {
                            name: name.clone(),
                            expected: format!("batch shape {full:?} as of `{}`", other()),
                            got: shape.to_vec(),
                        });
                    }
                }
            }
            if !batch.is_empty() {
                sizes.of_input.resize(slot, vec![]);
                sizes.of_input.push(batch.to_vec());
            }
        }
        if self.graph.is_square() {
            rows = [rows[0].or(rows[1]), rows[1].or(rows[0])];
        }
        let [i, j] = rows.map(|r| r.map_or(1, |(n, _)| n));
        (sizes.rows_i, sizes.rows_j) = (i, j);
        Ok(sizes)
    }

    /// Shape of result `k` for these arguments. Panics if there is no such result.
    ///
    /// # Errors
    /// [`InputError`] if the arguments do not fit.
    pub fn shape_of(&self, k: usize, args: &[ArgView<'_>]) -> Result<Vec<usize>, InputError> {
        let (sizes, o) = (self.sizes(args)?, &self.outputs[k]);
        let mut shape = sizes.batch_of(&self.graph, o.port.node);
        shape.extend(sizes.rows(self.graph.info(o.port).category));
        shape.extend(&o.row);
        Ok(shape)
    }
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
        let args = &*self.aligned(args);
        self.run_sized(&self.sizes(args)?, device, args, ranges, None)
    }
    /// Rows of one component may come without the axis of components: `(N)` for `(N, 1)`, and `()` or `(1, 1)`
    /// for a number: one in a column is no batch, unless another argument has an axis of batches.
    pub(crate) fn aligned<'s, 'a>(&self, args: &'s [ArgView<'a>]) -> Cow<'s, [ArgView<'a>]> {
        let lacks = |(input, arg): &(&InputDef, &ArgView<'_>)| {
            let rows = usize::from(input.category != Category::Param);
            input.row == [1] && arg.shape().len() == rows
        };
        let column = |(input, arg): &(&InputDef, &ArgView<'_>)| {
            input.category == Category::Param && input.row == [1] && *arg.shape() == [1, 1]
        };
        let pairs = || self.inputs.iter().zip(args);
        let batched = |(input, arg): &(&InputDef, &ArgView<'_>)| {
            let own = usize::from(input.category != Category::Param) + input.row.len();
            arg.shape().len() > own
        };
        let alone = !pairs().any(|p| batched(&p) && !column(&p));
        let column = |p: &(&InputDef, &ArgView<'_>)| alone && column(p);
        if !pairs().any(|p| lacks(&p) || column(&p)) {
            return Cow::Borrowed(args);
        }
        let mut all = args.to_vec();
        for (to, (k, pair)) in all.iter_mut().zip(pairs().enumerate()) {
            if lacks(&pair) {
                *to = args[k].clone().into_column();
            } else if column(&pair) {
                *to = args[k].clone().without_first_axis();
            }
        }
        Cow::Owned(all)
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
            let (compiled, executable, checked) =
                self.compiled(id, r, sizes.dtype, (sizes, device), check)?;
            if let Some(made) = executable.run_resident(&checked) {
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
    /// Compiles the reduction of a node for arguments of type `dtype`, which `check` gives.
    fn compiled<'s>(
        &self,
        id: OuterId,
        r: &Reduction,
        dtype: DType,
        (sizes, device): (&Sizes, &Device),
        check: impl FnOnce(&ReduceSpec) -> Result<CheckedArgs<'s>, InputError>,
    ) -> Result<Ready<'s>, Error> {
        let given = sizes.dtype;
        if let Some((compiled, held)) = self.prepared.find(id, given, device) {
            let checked = check(&compiled.spec)?;
            device.touch(&held);
            return Ok((compiled, held.executable.clone(), checked));
        }
        let spec = self.spec(r, dtype, given);
        spec.check()?;
        let checked = check(&spec)?;
        let held = device.compile_held(&spec)?;
        let executable = held.executable.clone();
        let (device, held) = (device.id(), Arc::downgrade(&held));
        let new = Arc::new(Compiled { node: id, given, device, spec, held });
        self.prepared.keep(new.clone());
        Ok((new, executable, checked))
    }
    /// Runs the reduction of a node on arguments of type `dtype`, which `check` gives.
    fn reduce<'s>(
        &self,
        id: OuterId,
        r: &Reduction,
        dtype: DType,
        (sizes, device): (&Sizes, &Device),
        memory: Option<Buffer>,
        check: impl FnOnce(&ReduceSpec) -> Result<CheckedArgs<'s>, InputError>,
    ) -> Result<Vec<Buffer>, Error> {
        let (compiled, executable, checked) =
            self.compiled(id, r, dtype, (sizes, device), check)?;
        let mut out = match (memory, &compiled.spec.outputs()[..]) {
            (Some(b), [one]) => {
                let shape = [checked.batch(), &[checked.rows(), one.dim]].concat();
                let size: usize = shape.iter().product();
                let fits = b.dtype() == Some(sizes.dtype.compute()) && !one.index;
                match fits && b.shape().iter().product::<usize>() == size {
                    true => vec![b.reshaped(&shape)],
                    false => checked.allocate(&compiled.spec)?,
                }
            }
            _ => checked.allocate(&compiled.spec)?,
        };
        executable.run(&checked, &mut out)?;
        Ok(out)
    }
    /// The reduction of a node, for arguments of type `dtype`, where those of the computation have
    /// type `given`.
    pub(crate) fn spec(&self, r: &Reduction, dtype: DType, given: DType) -> ReduceSpec {
        let name = |p: &Port| match self.graph.node(p.node) {
            OuterNode::Input { slot, .. } => self.inputs[*slot].name.clone(),
            _ => format!("#{}", p.node.0),
        };
        let mut spec = r.spec(dtype, r.bindings.iter().map(|(_, p)| name(p)).collect());
        let half = Some(DType::F16);
        if given == DType::F16 && dtype == DType::F32 && spec.options.accumulate == half {
            spec.options.accumulate = None;
        }
        spec
    }
}

/// What the calls of a computation have in common, found by the first that needs it.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    plan: OnceLock<Plan>,
    /// At most one for each node and element type: that of the last device.
    compiled: RwLock<Vec<Arc<Compiled>>>,
}

/// What is done in a call.
#[derive(Debug)]
struct Plan {
    steps: Vec<Step>,
    /// The only reduction, where it takes all arguments as they are, so that sizes of the
    /// computation are its own, and its results are all.
    only: Option<OuterId>,
}

/// A node in the order of evaluation.
#[derive(Debug)]
struct Step {
    node: OuterId,
    /// Nodes whose values are not needed any more.
    last_used: Vec<OuterId>,
}

/// The reduction of a node as it was compiled.
struct Compiled {
    node: OuterId,
    /// Element type of the arguments of the computation.
    given: DType,
    device: DeviceId,
    spec: ReduceSpec,
    /// The device holds it, within its limit of bytes.
    held: Weak<Loaded>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} of {}", self.node.0, self.given.name())
    }
}

impl Prepared {
    fn plan(&self, computation: &Computation) -> &Plan {
        self.plan.get_or_init(|| {
            let graph = &computation.graph;
            let ports: Vec<Port> = computation.outputs.iter().map(|o| o.port).collect();
            let order = graph.live(&ports);
            let mut seen: Vec<OuterId> = ports.iter().map(|p| p.node).collect();
            let mut steps = vec![];
            for node in order.into_iter().rev() {
                let mut last_used: Vec<OuterId> = vec![];
                for Port { node, .. } in graph.node(node).operands() {
                    if !seen.contains(&node) {
                        seen.push(node);
                        last_used.push(node);
                    }
                }
                steps.push(Step { node, last_used });
            }
            steps.reverse();
            let given = |(slot, p): (usize, &Port)| match graph.node(p.node) {
                OuterNode::Input { slot: s, .. } => {
                    let input = &computation.inputs[slot];
                    *s == slot && input.row.len() == 1 && input.like.is_none()
                }
                _ => false,
            };
            let only = ports.first().map(|p| p.node).filter(|&node| {
                let made = (0..graph.ports(node).len() as u32).map(|output| Port { node, output });
                let operands = graph.node(node).operands();
                matches!(graph.node(node), OuterNode::Reduce(_))
                    && made.eq(ports.iter().copied())
                    && !operands.is_empty()
                    && operands.len() == computation.inputs.len()
                    && operands.iter().enumerate().all(given)
            });
            Plan { steps, only }
        })
    }
    fn find(
        &self,
        node: OuterId,
        given: DType,
        device: &Device,
    ) -> Option<(Arc<Compiled>, Arc<Loaded>)> {
        let all = self.compiled.read().unwrap_or_else(|p| p.into_inner());
        let fits = |c: &&Arc<Compiled>| c.node == node && c.given == given && c.device == *device;
        let found = all.iter().find(fits)?;
        Some((found.clone(), found.held.upgrade()?))
    }
    /// Memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let plan = self.plan.get().map_or(0, |p| {
            let last_used = p.steps.iter().map(|s| s.last_used.len()).sum::<usize>();
            size_of::<Step>() * p.steps.len() + size_of::<OuterId>() * last_used
        });
        let all = self.compiled.read().unwrap_or_else(|p| p.into_inner());
        let specs = all.iter().map(|c| {
            let names = c.spec.names.iter().map(|n| size_of::<String>() + n.capacity());
            size_of::<Compiled>() + size_of::<Var>() * c.spec.vars.len() + names.sum::<usize>()
        });
        plan + specs.sum::<usize>()
    }
    fn keep(&self, new: Arc<Compiled>) {
        let mut all = self.compiled.write().unwrap_or_else(|p| p.into_inner());
        all.retain(|c| (c.node, c.given) != (new.node, new.given));
        all.push(new);
    }
}

struct Run<'r, 'a> {
    computation: &'r Computation,
    sizes: &'r Sizes,
    device: &'r Device,
    args: &'r [ArgView<'a>],
    ranges: Option<&'r Ranges>,
    /// Results of nodes; none of arguments, which are taken as they are given.
    values: Vec<Vec<Value<'a>>>,
    /// Arguments in the compute type, where a reduction needs them beside intermediate values.
    wide: HashMap<Port, Value<'a>>,
    /// Memory for the result of a node.
    reuse: Option<(OuterId, Buffer)>,
}

impl<'a> Run<'_, 'a> {
    fn node(&mut self, id: OuterId) -> Result<Vec<Value<'a>>, Error> {
        let graph = &self.computation.graph;
        let node = graph.node(id);
        if let OuterNode::Input { slot, .. } = node {
            let row = self.computation.inputs[*slot].row.len();
            return Ok(if row == 1 { vec![] } else { vec![flatten_rows(&self.args[*slot], row)?] });
        }
        if let Some((x, start, step, len)) = OuterGraph::as_columns(node)
            && let Value { held, columns: None } = self.held(x)?
        {
            return Ok(vec![Value { held, columns: Some((start, step, len)) }]);
        }
        let batch = self.sizes.batch_of(graph, id);
        let compute = self.sizes.dtype.compute();
        Ok(match node {
            OuterNode::Input { .. } => unreachable!("arguments are taken above"),
            OuterNode::Reduce(r) => {
                let memory = self.reuse.take_if(|(node, _)| *node == id).map(|(_, b)| b);
                let ranges = own_or(&r.ranges, self.sizes, self.ranges)?;
                let made = self.reduce(id, r, [true, true], ranges, memory)?;
                made.into_iter().map(Value::made).collect()
            }
            OuterNode::RowMap(m) => vec![self.row_map(id, m, &batch)?],
            OuterNode::SumRows { x } => vec![self.sum_rows(id, *x, &batch)?],
            OuterNode::GatherRows { x, at } => {
                let rows = self.sizes.rows(graph.info(at.index).category).unwrap_or(1);
                let shape = [&batch[..], &[rows, graph.info(*x).dim]].concat();
                let mut out = zeros(compute, &shape, "gathered rows")?;
                let (x, index) = (self.host(*x)?, self.index(*at));
                with_view!(&*x, x => match &mut out {
                    Buffer::F32(o) => gather(o, x, index, at.column, &batch),
                    Buffer::F64(o) => gather(o, x, index, at.column, &batch),
                    _ => unreachable!("compute types are f32 and f64"),
                });
                vec![Value::made(out)]
            }
            OuterNode::ScatterAddRows { x, at, category } => {
                let rows = self.sizes.rows(*category).unwrap_or(1);
                let shape = [&batch[..], &[rows, graph.info(*x).dim]].concat();
                let mut sums = zeros(DType::F64, &shape, "scattered rows")?;
                let (x, index) = (self.host(*x)?, self.index(*at));
                if let Buffer::F64(o) = &mut sums {
                    with_view!(&*x, x => scatter_add(o, x, index, at.column, &batch));
                }
                vec![Value::made(rounded(sums, compute)?)]
            }
            OuterNode::Scatter(s) => vec![self.scatter(id, s, &batch)?],
            OuterNode::RowIndex { at } => {
                let index = self.index(*at);
                let last = NdAxis(index.ndim() - 1);
                let column = index.index_axis(last, at.column).insert_axis(last);
                let all = memory::mapped(&column, |v| v as f64, "the selected rows")?;
                vec![Value::made(rounded(Buffer::F64(all), compute)?)]
            }
            OuterNode::Rebatch { x, .. } => {
                let from = self.sizes.batch_of(graph, x.node);
                if from == batch {
                    return Ok(vec![self.held(*x)?]);
                }
                let info = graph.info(*x);
                let mut tail: Vec<usize> = self.sizes.rows(info.category).into_iter().collect();
                tail.push(info.dim);
                let mut out = zeros(DType::F64, &[&batch[..], &tail].concat(), "batches")?;
                let x = convert(&*self.host(*x)?, DType::F64, "batches")?;
                if let (Buffer::F64(x), Buffer::F64(o)) = (&x, &mut out) {
                    rebatch(x, &from, o, &batch, tail.iter().product());
                }
                vec![Value::made(rounded(out, compute)?)]
            }
            OuterNode::Apply(a) => {
                self.apply(a, batch, compute)?.into_iter().map(Value::made).collect()
            }
        })
    }
    fn apply(
        &mut self,
        a: &Applied,
        batch: Vec<usize>,
        dtype: DType,
    ) -> Result<Vec<Buffer>, Error> {
        self.widen(a.operands.iter(), dtype)?;
        let operand = |p: &Port| -> Result<ArgView<'_>, RunError> {
            match self.in_type(*p, dtype) {
                ArgView::Resident(_) => Ok(self.host(*p)?.into_view().into()),
                host => Ok(host),
            }
        };
        let graph = &self.computation.graph;
        let call = Call {
            name: a.function.name(),
            operands: a.operands.iter().map(operand).collect::<Result<_, _>>()?,
            categories: a.operands.iter().map(|p| graph.info(*p).category).collect(),
            results: &a.results,
            rows_i: self.sizes.rows_i,
            rows_j: self.sizes.rows_j,
            batch,
            dtype,
            device: self.device,
            ranges: self.ranges,
        };
        let made = a.function.run(&call)?;
        call.check(&made)?;
        Ok(made)
    }
    /// Copies arguments of another type, for those who read them beside intermediate values.
    fn widen<'p>(
        &mut self,
        ports: impl Iterator<Item = &'p Port>,
        dtype: DType,
    ) -> Result<(), Error> {
        for p in ports {
            if self.dtype(*p) != Some(dtype) && !self.wide.contains_key(p) {
                let copy = convert(&*self.host(*p)?, dtype, "an argument in the compute type")?;
                self.wide.insert(*p, Value::made(copy));
            }
        }
        Ok(())
    }
    fn in_type(&self, p: Port, dtype: DType) -> ArgView<'_> {
        let wide = self.wide.get(&p).filter(|_| self.dtype(p) != Some(dtype));
        wide.and_then(|v| v.view()).unwrap_or_else(|| self.value(p))
    }
    /// The value of a port that is not an argument as it is given.
    fn made(&self, port: Port) -> Option<&Value<'a>> {
        self.values.get(port.node.0 as usize)?.get(port.output as usize)
    }
    /// The value of a port, shared; what a device holds is loaded, for a step on the host.
    fn held(&self, port: Port) -> Result<Value<'a>, RunError> {
        let value = match self.made(port) {
            Some(value) => value.clone(),
            None => Value { held: Held::Given(self.argument(port).clone()), columns: None },
        };
        value.load()?;
        Ok(value)
    }
    fn value(&self, port: Port) -> ArgView<'_> {
        match self.made(port) {
            Some(value) => value.view(),
            None => Some(self.argument(port).view()),
        }
        .unwrap_or_else(|| unreachable!("indices are not operands of values"))
    }
    /// The value of a port in memory of the host.
    fn host(&self, port: Port) -> Result<OnHost<'_>, RunError> {
        let Some(value) = self.made(port) else { return self.argument(port).host() };
        value.load()?;
        match value.host() {
            Some(view) => Ok(OnHost::Made(view)),
            None => unreachable!("indices are not operands of values"),
        }
    }
    /// The element type of a port; none of indices.
    fn dtype(&self, port: Port) -> Option<DType> {
        match self.made(port).map(|v| &v.held) {
            None => Some(self.argument(port).dtype()),
            Some(Held::Given(a)) => Some(a.dtype()),
            Some(Held::Made(b)) => b.dtype(),
        }
    }
    fn index(&self, at: Selected) -> &ArrayD<i64> {
        match self.made(at.index).and_then(|v| v.indices()) {
            Some(v) => v,
            None => unreachable!("selected columns refer to indices"),
        }
    }
    fn argument(&self, port: Port) -> &ArgView<'a> {
        match self.computation.graph.node(port.node) {
            OuterNode::Input { slot, .. } => &self.args[*slot],
            _ => unreachable!("operands are evaluated before their users"),
        }
    }

    /// Runs the reduction of a node; `sized` tells for which of `i`, `j` the computation's number
    /// of rows holds (the others have one row).
    fn reduce(
        &mut self,
        id: OuterId,
        r: &Reduction,
        sized: [bool; 2],
        ranges: Option<&Ranges>,
        memory: Option<Buffer>,
    ) -> Result<Vec<Buffer>, Error> {
        let (given, compute) = (self.sizes.dtype, self.sizes.dtype.compute());
        let uniform = r.bindings.iter().all(|(_, p)| self.dtype(*p) == Some(given));
        let dtype = if uniform && !r.bindings.is_empty() { given } else { compute };
        if !uniform {
            self.widen(r.bindings.iter().map(|(_, p)| p), dtype)?;
        }
        let args = r.bindings.iter().map(|(_, p)| self.in_type(*p, dtype)).collect();
        let rows = |k: usize, n: usize| sized[k].then_some(n);
        let (i, j) = (rows(0, self.sizes.rows_i), rows(1, self.sizes.rows_j));
        let check = |spec: &ReduceSpec| CheckedArgs::new(spec, args, ranges, i, j);
        self.computation.reduce(id, r, dtype, (self.sizes, self.device), memory, check)
    }
    /// A sum over the other index, which has one row.
    fn row_map(&mut self, id: OuterId, m: &RowMap, batch: &[usize]) -> Result<Value<'a>, Error> {
        if let Some(r) = long::by_entries(m) {
            return self.by_entries(id, &r, (batch, m.graph.dim(m.root)));
        }
        let axis = if m.category == Category::J { Axis::I } else { Axis::J };
        let r = Reduction {
            graph: m.graph.clone(),
            formula: m.root,
            weight: None,
            reduction: &reduce::SUM,
            k: 1,
            axis,
            options: ReduceOptions { scheme: Scheme::Direct, ..ReduceOptions::default() },
            bindings: m.bindings.clone(),
            ranges: None,
        };
        let sized = [m.category == Category::I, m.category == Category::J];
        self.single(id, &r, sized, m.category, batch)
    }
    fn sum_rows(&mut self, id: OuterId, x: Port, batch: &[usize]) -> Result<Value<'a>, Error> {
        let info = self.computation.graph.info(x);
        let b = Builder::default();
        let var = Var { index: 0, dim: info.dim, category: info.category };
        let formula = b.var(var).id;
        let axis = if info.category == Category::I { Axis::I } else { Axis::J };
        let r = Reduction {
            graph: Arc::new(b.into_graph()),
            formula,
            weight: None,
            reduction: &reduce::SUM,
            k: 1,
            axis,
            options: ReduceOptions::default(),
            bindings: vec![(var, x)],
            ranges: None,
        };
        let sized = [info.category == Category::I, info.category == Category::J];
        self.single(id, &r, sized, Category::Param, batch)
    }
    /// The one result of a reduction of values, with rows of `category`.
    fn single(
        &mut self,
        id: OuterId,
        r: &Reduction,
        sized: [bool; 2],
        category: Category,
        batch: &[usize],
    ) -> Result<Value<'a>, Error> {
        let mut out = self.reduce(id, r, sized, None, None)?;
        let Some(buffer) = out.pop() else { unreachable!("a sum has one result") };
        let mut shape = batch.to_vec();
        shape.extend(self.sizes.rows(category));
        shape.push(r.graph.dim(r.formula));
        Ok(Value::made(buffer.reshaped(&shape)))
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

/// Sums in f64, rounded once to the compute type.
fn rounded(sums: Buffer, dtype: DType) -> Result<Buffer, OutOfMemory> {
    Ok(match dtype {
        DType::F64 => sums,
        _ => Buffer::F32(f32::take(sums)?),
    })
}

/// All multi-indices of a shape, in order.
fn indices_of(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    ndarray::indices(IxDyn(shape)).into_iter().map(|i| Dimension::slice(&i).to_vec())
}

fn gather<T: Element, O: Element>(
    out: &mut ArrayD<O>,
    x: &ndarray::ArrayViewD<'_, T>,
    index: &ArrayD<i64>,
    column: usize,
    batch: &[usize],
) {
    let index = index.view();
    for (b, to) in indices_of(batch).zip(blocks(out, batch)) {
        let x: ArrayView2<'_, T> = batch_matrix(x, &b, true);
        let at = batch_matrix(&index, &b, true);
        for (row, &at) in to.chunks_exact_mut(x.ncols()).zip(at.column(column)) {
            if let Ok(at) = usize::try_from(at) {
                row.iter_mut().zip(x.row(at)).for_each(|(o, v)| *o = O::of_f64(v.to_f64()));
            }
        }
    }
}

fn scatter_add<T: Element>(
    out: &mut ArrayD<f64>,
    x: &ndarray::ArrayViewD<'_, T>,
    index: &ArrayD<i64>,
    column: usize,
    batch: &[usize],
) {
    let index = index.view();
    for (b, to) in indices_of(batch).zip(blocks(out, batch)) {
        let x: ArrayView2<'_, T> = batch_matrix(x, &b, true);
        let at = batch_matrix(&index, &b, true);
        let dim = x.ncols();
        for (row, &at) in x.rows().into_iter().zip(at.column(column)) {
            if let Ok(at) = usize::try_from(at) {
                let to = &mut to[at * dim..(at + 1) * dim];
                to.iter_mut().zip(row).for_each(|(o, v)| *o += v.to_f64());
            }
        }
    }
}

/// The values of each batch element of a row-major array.
fn blocks<'o, O>(out: &'o mut ArrayD<O>, batch: &[usize]) -> impl Iterator<Item = &'o mut [O]> {
    let count: usize = batch.iter().product();
    let all = out.as_slice_mut().unwrap_or_default();
    let size = all.len() / count.max(1);
    all.chunks_mut(size.max(1)).take(count)
}

/// See [`OuterNode::Rebatch`]; `tail` is the number of values of a batch element.
fn rebatch(x: &ArrayD<f64>, from: &[usize], out: &mut ArrayD<f64>, to: &[usize], tail: usize) {
    let (Some(x), Some(out)) = (x.as_slice(), out.as_slice_mut()) else { return };
    if x.is_empty() || out.is_empty() {
        return;
    }
    let mut all = from.to_vec();
    merge(&mut all, to);
    // Number of the batch element that an index of the common shape means in `shape`.
    let number = |index: &[usize], shape: &[usize]| {
        let own = &index[index.len() - shape.len()..];
        own.iter().zip(shape).fold(0, |n, (&i, &e)| n * e + if e == 1 { 0 } else { i })
    };
    for index in indices_of(&all) {
        let (source, target) = (number(&index, from) * tail, number(&index, to) * tail);
        let values = &x[source..source + tail];
        out[target..target + tail].iter_mut().zip(values).for_each(|(o, v)| *o += v);
    }
}
