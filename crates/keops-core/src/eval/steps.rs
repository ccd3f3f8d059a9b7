//! The steps of a run: the values of one node, made of those of its operands.

use super::rows::{gather, rebatch, scatter_add};
use super::value::{Origin, Value, convert, flatten_rows, rounded, zeros};
use super::{Sizes, long, own_or};
use crate::data::{ArgView, Buffer, DType, OnHost};
use crate::error::{Error, Foreign, RunError};
use crate::graph::{Builder, Category, Var};
use crate::memory;
use crate::outer::{
    Applied, Call, Computation, OuterGraph, OuterId, OuterNode, Port, Reduction, RowMap, Selected,
};
use crate::ranges::Ranges;
use crate::reduce;
use crate::spec::{Axis, CheckedArgs, Device, ReduceOptions, ReduceSpec, Scheme};
use crate::with_view;
use hashbrown::HashMap;
use ndarray::{ArrayD, Axis as NdAxis};
use std::sync::Arc;

/// The rows of a reduction in a run.
#[derive(Clone, Copy)]
enum RowSet {
    /// All pairs of the computation's rows.
    Pairs,
    /// Those of one category, beside one row of the other: none of either for [`Category::Param`].
    Only(Category),
}

pub(super) struct Run<'r, 'a> {
    pub(super) computation: &'r Computation,
    pub(super) sizes: &'r Sizes,
    pub(super) device: &'r Device,
    pub(super) args: &'r [ArgView<'a>],
    pub(super) ranges: Option<&'r Ranges>,
    /// Results of nodes; none of arguments, which are taken as they are given.
    pub(super) values: Vec<Vec<Value<'a>>>,
    /// Arguments in the compute type, where a reduction needs them beside intermediate values.
    pub(super) wide: HashMap<Port, Value<'a>>,
    /// Memory for the result of a node.
    pub(super) reuse: Option<(OuterId, Buffer)>,
}

impl<'a> Run<'_, 'a> {
    pub(super) fn node(&mut self, id: OuterId) -> Result<Vec<Value<'a>>, Error> {
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
                let made = self.reduce(id, r, RowSet::Pairs, ranges, memory)?;
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
        let [i, j] = [self.sizes.rows_i, self.sizes.rows_j];
        if a.function.square() && i != j {
            return Err(Error::Function {
                name: a.function.name().into(),
                source: Foreign::message(format!(
                    "it takes as many rows of i as of j, but there are {i} and {j}"
                )),
            });
        }
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
            rows_i: i,
            rows_j: j,
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
    pub(super) fn widen<'p>(
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
    pub(super) fn in_type(&self, p: Port, dtype: DType) -> ArgView<'_> {
        let wide = self.wide.get(&p).filter(|_| self.dtype(p) != Some(dtype));
        wide.and_then(|v| v.view()).unwrap_or_else(|| self.value(p))
    }
    /// The value of a port that is not an argument as it is given.
    fn made(&self, port: Port) -> Option<&Value<'a>> {
        self.values.get(port.node.0 as usize)?.get(port.output as usize)
    }
    /// The value of a port, shared; what a device holds is loaded, for a step on the host.
    pub(super) fn held(&self, port: Port) -> Result<Value<'a>, RunError> {
        let value = match self.made(port) {
            Some(value) => value.clone(),
            None => Value { held: Origin::Given(self.argument(port).clone()), columns: None },
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
    pub(super) fn host(&self, port: Port) -> Result<OnHost<'_>, RunError> {
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
            Some(Origin::Given(a)) => Some(a.dtype()),
            Some(Origin::Made(b)) => b.dtype(),
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

    /// Runs the reduction of a node over the rows that it has.
    fn reduce(
        &mut self,
        id: OuterId,
        r: &Reduction,
        rows: RowSet,
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
        let sized = |c: Category| {
            let holds = match rows {
                RowSet::Pairs => true,
                RowSet::Only(category) => category == c,
            };
            self.sizes.rows(c).filter(|_| holds)
        };
        let (i, j) = (sized(Category::I), sized(Category::J));
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
        self.single(id, &r, RowSet::Only(m.category), m.category, batch)
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
        self.single(id, &r, RowSet::Only(info.category), Category::Param, batch)
    }
    /// The one result of a reduction of values, with rows of `category`.
    fn single(
        &mut self,
        id: OuterId,
        r: &Reduction,
        rows: RowSet,
        category: Category,
        batch: &[usize],
    ) -> Result<Value<'a>, Error> {
        let mut out = self.reduce(id, r, rows, None, None)?;
        let Some(buffer) = out.pop() else { unreachable!("a sum has one result") };
        let mut shape = batch.to_vec();
        shape.extend(self.sizes.rows(category));
        shape.push(r.graph.dim(r.formula));
        Ok(Value::made(buffer.reshaped(&shape)))
    }
}
