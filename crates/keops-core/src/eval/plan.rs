//! What the calls of a computation have in common: the order of its nodes, and its compiled reductions.

use super::Sizes;
use crate::data::{Buffer, DType};
use crate::error::{Error, InputError};
use crate::graph::Var;
use crate::outer::{Computation, OuterId, OuterNode, Port, Reduction};
use crate::spec::{CheckedArgs, Device, DeviceId, Loaded, ReduceSpec};
use std::fmt;
use std::sync::{Arc, OnceLock, RwLock, Weak};

/// What the calls of a computation have in common, found by the first that needs it.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    plan: OnceLock<Plan>,
    /// At most one for each node and element type: that of the last device.
    compiled: RwLock<Vec<Arc<Compiled>>>,
}

/// What is done in a call.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// The only reduction, where it takes all arguments as they are, so that sizes of the
    /// computation are its own, and its results are all.
    pub(super) only: Option<OuterId>,
}

/// A node in the order of evaluation.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) node: OuterId,
    /// Nodes whose values are not needed any more.
    pub(super) last_used: Vec<OuterId>,
}

/// The reduction of a node as it was compiled.
pub(super) struct Compiled {
    node: OuterId,
    /// Element type of the arguments of the computation.
    given: DType,
    device: DeviceId,
    pub(super) spec: ReduceSpec,
    /// The device holds it, within its limit of bytes.
    held: Weak<Loaded>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} of {}", self.node.0, self.given.name())
    }
}

impl Prepared {
    pub(super) fn plan(&self, computation: &Computation) -> &Plan {
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

/// A reduction that is compiled, and arguments that fit.
pub(super) type Ready<'s> = (Arc<Compiled>, Arc<Loaded>, CheckedArgs<'s>);

impl Computation {
    /// Compiles the reduction of a node for arguments of type `dtype`, which `check` gives.
    pub(super) fn compiled<'s>(
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
            return Ok((compiled, held, checked));
        }
        let spec = self.spec(r, dtype, given);
        spec.check()?;
        let checked = check(&spec)?;
        let held = device.compile_held(&spec)?;
        let (device, weak) = (device.id(), Arc::downgrade(&held));
        let new = Arc::new(Compiled { node: id, given, device, spec, held: weak });
        self.prepared.keep(new.clone());
        Ok((new, held, checked))
    }
    /// Runs the reduction of a node on arguments of type `dtype`, which `check` gives.
    pub(super) fn reduce<'s>(
        &self,
        id: OuterId,
        r: &Reduction,
        dtype: DType,
        (sizes, device): (&Sizes, &Device),
        memory: Option<Buffer>,
        check: impl FnOnce(&ReduceSpec) -> Result<CheckedArgs<'s>, InputError>,
    ) -> Result<Vec<Buffer>, Error> {
        let (compiled, held, checked) = self.compiled(id, r, dtype, (sizes, device), check)?;
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
        held.executable.run(&checked, &mut out)?;
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
