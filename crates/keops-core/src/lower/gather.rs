//! Tables, and what else takes an exact value to a jump.

use super::build::{Lowerer, Stop};
use super::ssa::{Def, FoldKind};
use crate::graph::{Dependence, Graph, Node, NodeId};
use crate::ops;
use crate::prim::{Args, Prim};
use crate::program::{Affine, Op, Space};
use crate::vecmath::{PrimBuilder, Val};
use hashbrown::HashMap;
use std::sync::{LazyLock, OnceLock};

/// Nodes whose value decides a jump: a floor, a comparison, an index. An ulp matters there:
/// `Floor(i / 41)` at 41 is 1, and 41 · (1 / 41) rounds to less in f32.
pub fn decisive(graph: &Graph) -> Vec<bool> {
    let mut mark = vec![false; graph.len()];
    static JUMPS: LazyLock<HashMap<&str, OnceLock<Vec<bool>>>> =
        LazyLock::new(|| ops::ALL.iter().map(|op| (op.name, OnceLock::new())).collect());
    for k in (0..mark.len()).rev() {
        let node = graph.node(NodeId(k as u32));
        crate::graph::for_each_arg(node, |a| mark[a.0 as usize] |= mark[k]);
        match node {
            Node::Map { op, args } => {
                let jumps = JUMPS.get(op.name).map(|known| known.get_or_init(|| op.jumps()));
                args.iter()
                    .zip(jumps.into_iter().flatten())
                    .for_each(|(a, jump)| mark[a.0 as usize] |= *jump);
            }
            Node::Gather { index, .. } => mark[index.0 as usize] = true,
            _ => {}
        }
    }
    mark
}

impl Lowerer<'_> {
    /// `table[k]`, NaN out of range.
    pub fn gather(&mut self, table: NodeId, k: Val) -> Result<Val, Stop> {
        let len = self.graph.dim(table);
        // The key of a pair may be a table of one entry.
        let given = self.fixed.get(&table).copied();
        let [half, zero, end, nan] = [0.5, 0.0, len as f64, f64::NAN].map(|v| self.arena.real(v));
        let r = self.arena.prim(Prim::Add, &[k, half]);
        let r = self.arena.prim(Prim::Floor, &[r]);
        let (low, high) =
            (self.arena.prim(Prim::Le, &[zero, r]), self.arena.prim(Prim::Lt, &[r, end]));
        let inside = self.arena.prim(Prim::MaskAnd, &[low, high]);
        let entry = match given {
            Some(entry) => entry,
            None if self.class(table) != Dependence::NONE => self.entry(table, r)?,
            None => {
                let (_, offset) = self.table(table)?;
                let safe = self.arena.prim(Prim::Select, &[inside, r, zero]);
                let index = self.arena.prim(Prim::ToInt, &[safe]);
                self.arena.define(Def::Op(Op::Gather { offset, len }, [index].into()))
            }
        };
        Ok(self.arena.prim(Prim::Select, &[inside, entry, nan]))
    }
    /// Where a table of parameters is stored.
    fn table(&mut self, table: NodeId) -> Result<(Space, i64), Stop> {
        if !self.stored.contains_key(&table) {
            if self.small.contains_key(&table) {
                self.store(table)?;
            } else {
                // (It is wanted there: `begin` has said so.)
                self.component(table, &Affine::constant(0))?;
            }
        }
        Ok(self.stored[&table])
    }
    /// The component at `r`, 0 out of range, of a table of a row or a pair (the tangent of one of
    /// parameters): lanes have tables of their own, so that all components are looked at.
    fn entry(&mut self, table: NodeId, r: Val) -> Result<Val, Stop> {
        let len = self.graph.dim(table);
        let zero = self.arena.real(0.0);
        if len >= self.options.roll {
            // A loop that the index itself does not run in.
            let mut ordinal = 0;
            let l = loop {
                let l = self.arena.loop_of(len, ordinal);
                if !self.arena.value(r).loops.contains(&l) {
                    break l;
                }
                ordinal += 1;
            };
            let idx = Affine::counter(l);
            let x = self.component(table, &idx)?;
            let c = self.arena.define(Def::Op(Op::Counter(idx), Args::default()));
            let c = self.arena.prim(Prim::FromInt, &[c]);
            let here = self.arena.prim(Prim::Eq, &[r, c]);
            let x = self.arena.prim(Prim::Select, &[here, x, zero]);
            let kind = FoldKind::Sum;
            return Ok(self.arena.define(Def::Fold { loops: vec![l], kind, x, position: None }));
        }
        let mut entry = zero;
        for k in 0..len {
            let x = self.component(table, &Affine::constant(k as i64))?;
            let c = self.arena.real(k as f64);
            let here = self.arena.prim(Prim::Eq, &[r, c]);
            entry = self.arena.prim(Prim::Select, &[here, x, entry]);
        }
        Ok(entry)
    }
}
