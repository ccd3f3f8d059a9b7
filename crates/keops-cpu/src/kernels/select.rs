//! Routines of the selecting reductions.

use super::{Plan, StateLayout, StatePart, buffers, context, steps, value};
use crate::translate::{Context, Sums, Writer, at, translate};
use crate::vcode::{Addr, Base, Inst, LoopKind, VCode, VReg};
use hashbrown::HashMap;
use keops_core::prim::{Kind, Prim};
use keops_core::program::{Mode, Program};
use keops_core::reduce::{Order, Select};

fn selection(p: &Program) -> (Select, usize) {
    let Mode::Select { select, k } = p.mode else { unreachable!("a selection") };
    (select, k)
}

/// The operation that picks the better key, the one that picks the other, and the worst key.
/// Both return their second operand where the first is NaN.
fn picks(order: Order) -> (Prim, Prim, f64) {
    match order {
        Order::Min => (Prim::Min, Prim::Max, f64::INFINITY),
        Order::Max => (Prim::Max, Prim::Min, f64::NEG_INFINITY),
    }
}

/// Does `a` beat `b`?
fn beats(w: &mut Writer, order: Order, a: VReg, b: VReg) -> VReg {
    match order {
        Order::Min => w.op(Prim::Lt, &[a, b]),
        Order::Max => w.op(Prim::Lt, &[b, a]),
    }
}

/// The routine that takes columns into the best key of every slot and, with `index`, the first
/// column of the turn that had it.
pub fn best_code(p: &Program, plan: &Plan, index: bool) -> VCode {
    let (select, _) = selection(p);
    let mut w = Writer::new(plan.ty, p.reduced.len);
    let (rows, n, layout) = (plan.rows, p.keys, StateLayout::new(p, plan));
    let (pick, _, worst) = picks(select.order);
    let place =
        |section: StatePart, slot: &Addr, r: usize| layout.addr(section, slot, r * plan.lanes);
    let constant = |s: usize| at(Base::State, s);
    let mut best: Vec<[VReg; 2]> = vec![];
    if plan.registers {
        for s in 0..n {
            for r in 0..rows {
                let k = w.load(place(StatePart::Best, &constant(s), r), false);
                let i = if index {
                    let bits = w.load(place(StatePart::Turn, &constant(s), r), false);
                    let i = w.reg(Kind::Int);
                    w.set(i, Prim::ToBits, &[bits]);
                    i
                } else {
                    k
                };
                best.push([k, i]);
            }
        }
    }
    let worst = w.real(worst);
    let here = w.reg(Kind::Int);
    if plan.registers {
        let group: Vec<VReg> = best.iter().map(|_| w.reg(Kind::Real)).collect();
        for columns in steps(plan.columns) {
            let buffer = buffers(&mut w, plan, columns, &p.key);
            let l = w.begin(LoopKind::Columns { step: plan.turn(columns) });
            if index {
                w.push(Inst::ColumnIndex { dst: here });
            }
            for &g in &group {
                w.copy(g, worst);
            }
            let ctx = Context { buffer, ..context(plan, columns, Sums::Memory(0)) };
            translate(&mut w, &p.key, &ctx, &mut |w, e| {
                for r in 0..rows {
                    let (key, g) = (value(w, &e, r), group[e.slot.offset as usize * rows + r]);
                    w.set(g, pick, &[key, g]);
                }
            });
            for (&g, &[k, i]) in group.iter().zip(&best) {
                if index {
                    let better = beats(&mut w, select.order, g, k);
                    w.set(i, Prim::SelectInt, &[better, here, i]);
                }
                w.set(k, pick, &[g, k]);
            }
            w.end(l);
        }
    }
    let in_memory = if plan.registers { vec![] } else { steps(plan.columns) };
    for columns in in_memory {
        let buffer = buffers(&mut w, plan, columns, &p.key);
        let l = w.begin(LoopKind::Columns { step: plan.turn(columns) });
        if index {
            w.push(Inst::ColumnIndex { dst: here });
        }
        let ctx = Context { buffer, ..context(plan, columns, Sums::Memory(0)) };
        let mut open: HashMap<(usize, usize), VReg> = HashMap::new();
        translate(&mut w, &p.key, &ctx, &mut |w, e| {
            for r in 0..rows {
                let key = value(w, &e, r);
                let before = open.get(&(e.number, r)).copied();
                let m = w.op(pick, &[key, before.unwrap_or(worst)]);
                open.insert((e.number, r), m);
                if e.column + 1 < columns {
                    continue;
                }
                let k = w.load(place(StatePart::Best, &e.slot, r), false);
                if index {
                    let bits = w.load(place(StatePart::Turn, &e.slot, r), false);
                    let i = w.op(Prim::ToBits, &[bits]);
                    let better = beats(w, select.order, m, k);
                    w.set(i, Prim::SelectInt, &[better, here, i]);
                    w.push(Inst::Store { addr: place(StatePart::Turn, &e.slot, r), src: i });
                }
                w.set(k, pick, &[m, k]);
                w.push(Inst::Store { addr: place(StatePart::Best, &e.slot, r), src: k });
            }
        });
        w.end(l);
    }
    if plan.registers {
        for s in 0..n {
            for r in 0..rows {
                let [k, i] = best[s * rows + r];
                w.push(Inst::Store { addr: place(StatePart::Best, &constant(s), r), src: k });
                if index {
                    w.push(Inst::Store { addr: place(StatePart::Turn, &constant(s), r), src: i });
                }
            }
        }
    }
    w.finish()
}

/// Columns whose best key is written in [`extremes_code`].
pub const GROUP: usize = 16;
/// Columns whose best key enters the network in [`extremes_code`]: a multiple of [`GROUP`].
pub const COARSE: usize = 64;
/// Most winners that the network finds a bound for.
pub const NETWORK: usize = 16;

/// Elements between the extremes of two groups.
pub fn extremes_stride(lists: usize) -> usize {
    lists.next_multiple_of(GROUP)
}

/// The routine that writes the best key of every [`GROUP`] columns, `[group][slot][row vector]`, to
/// `Base::Out` (see [`extremes_stride`]); columns beyond the last [`COARSE`] whole ones are left. For up to [`NETWORK`]
/// winners the state holds the best of the coarse groups' keys, `[winner][slot][row vector]`: an
/// unconditional insertion, all lanes at once. `None` where the plan has no such routine.
pub fn extremes_code(p: &Program, plan: &Plan) -> Option<VCode> {
    let (select, k) = selection(p);
    let (rows, n, width) = (plan.rows, p.keys, plan.width());
    if !plan.registers || !GROUP.is_multiple_of(plan.columns) {
        return None;
    }
    let (pick, other, worst) = picks(select.order);
    let vectors = n * rows;
    let mut w = Writer::new(plan.ty, p.reduced.len);
    // The pointer moves by GROUP times this from group to group.
    let stride = extremes_stride(n * width);
    w.code.out_stride = (stride / GROUP) as u32;
    let best: Vec<VReg> = (0..vectors).map(|_| w.reg(Kind::Real)).collect();
    let coarse: Vec<VReg> = (0..vectors).map(|_| w.reg(Kind::Real)).collect();
    let worst = w.real(worst);
    let buffer = buffers(&mut w, plan, plan.columns, &p.key);
    let network = k <= NETWORK;
    let turns = GROUP / plan.columns;
    let l = w.begin(LoopKind::Columns { step: COARSE as u32 });
    for &c in &coarse {
        w.copy(c, worst);
    }
    let groups = w.begin(LoopKind::Fixed((COARSE / GROUP) as u32));
    for &b in &best {
        w.copy(b, worst);
    }
    let inner = (turns > 1).then(|| w.begin(LoopKind::Fixed(turns as u32)));
    let mut column_loops = vec![(groups, GROUP)];
    column_loops.extend(inner.map(|l| (l, plan.columns)));
    let sums = Sums::Memory(0);
    let ctx = Context { column_loops, buffer, ..context(plan, plan.columns, sums) };
    translate(&mut w, &p.key, &ctx, &mut |w, e| {
        for r in 0..rows {
            let (key, b) = (value(w, &e, r), best[e.slot.offset as usize * rows + r]);
            w.set(b, pick, &[key, b]);
        }
    });
    if let Some(inner) = inner {
        w.end(inner);
    }
    for (v, (&b, &c)) in best.iter().zip(&coarse).enumerate() {
        let mut addr = at(Base::Out, v * plan.lanes);
        addr.terms.push((groups, stride as i32));
        w.push(Inst::Store { addr, src: b });
        if network {
            w.set(c, pick, &[b, c]);
        }
    }
    w.end(groups);
    if network {
        for (v, &c) in coarse.iter().enumerate() {
            let mut value = c;
            for q in 0..k {
                let place = at(Base::State, (q * vectors + v) * plan.lanes);
                let have = w.load(place.clone(), false);
                let src = w.op(pick, &[value, have]);
                if q + 1 < k {
                    value = w.op(other, &[value, have]);
                }
                w.push(Inst::Store { addr: place, src });
            }
        }
    }
    w.end(l);
    Some(w.finish())
}

/// The routine that compares the extremes of groups (as columns) with the bounds in the state and
/// writes masks of those that are as good.
pub fn hits_code(p: &Program, plan: &Plan) -> VCode {
    let (select, _) = selection(p);
    let vectors = p.keys * plan.rows;
    let stride = extremes_stride(vectors * plan.lanes);
    let mut w = Writer::new(plan.ty, stride);
    w.code.mask_stride = vectors as u32;
    let bound: Vec<VReg> =
        (0..vectors).map(|v| w.load(at(Base::State, v * plan.lanes), false)).collect();
    for groups in steps(4) {
        let l = w.begin(LoopKind::Columns { step: groups as u32 });
        for v in 0..groups * vectors {
            let (group, v_of) = (v / vectors, v % vectors);
            let key = w.load(at(Base::Reduced, group * stride + v_of * plan.lanes), false);
            let src = within(&mut w, select.order, key, bound[v_of]);
            w.push(Inst::StoreMask { index: v as i32, src });
        }
        w.end(l);
    }
    w.finish()
}

/// Is the key as good as the bound?
fn within(w: &mut Writer, order: Order, key: VReg, bound: VReg) -> VReg {
    match order {
        Order::Min => w.op(Prim::Le, &[key, bound]),
        Order::Max => w.op(Prim::Le, &[bound, key]),
    }
}

/// Columns of a turn of [`find_code`].
pub fn find_turn(lanes: usize) -> usize {
    GROUP.max(lanes)
}

/// The routine that writes the keys of one row of the plan's tiles, lanes along the columns:
/// `[vector of columns][slot]` to `Base::Out` and, where slots are constant, masks of those as good
/// as the bound of their slot in the state.
pub fn find_code(p: &Program, plan: &Plan) -> VCode {
    let (select, _) = selection(p);
    let (n, lanes) = (p.keys, plan.lanes);
    let plan = &Plan { columns: find_turn(lanes) / lanes, ..plan.across(1, plan.width()) };
    let mut w = Writer::new(plan.ty, p.reduced.len);
    w.code.out_stride = n as u32;
    let masks = plan.registers;
    w.code.mask_stride = if masks { n as u32 } else { 0 };
    let mut bound: Vec<VReg> = vec![];
    if masks {
        let width = plan.across.unwrap_or_default();
        let bounds = (0..n).map(|s| w.load(at(Base::State, s * width), true));
        bound = bounds.collect();
    }
    let columns = plan.columns;
    let buffer = buffers(&mut w, plan, columns, &p.key);
    let l = w.begin(LoopKind::Columns { step: plan.turn(columns) });
    let ctx = Context { buffer, ..context(plan, columns, Sums::Memory(0)) };
    translate(&mut w, &p.key, &ctx, &mut |w, e| {
        let key = value(w, &e, 0);
        let slot = e.column * n + e.slot.offset as usize;
        let addr = Addr {
            base: Base::Out,
            offset: (slot * lanes) as i32,
            terms: e.slot.terms.iter().map(|&(l, s)| (l, s * lanes as i32)).collect(),
        };
        w.push(Inst::Store { addr, src: key });
        if masks {
            let src = within(w, select.order, key, bound[e.slot.offset as usize]);
            w.push(Inst::StoreMask { index: slot as i32, src });
        }
    });
    w.end(l);
    w.finish()
}

/// The routine that writes the keys of columns, `[column][slot][row vector]`, to `Base::Out`, and
/// with `masks` which of them beat the threshold in the state.
pub fn keys_code(p: &Program, plan: &Plan, masks: bool) -> VCode {
    let (select, _) = selection(p);
    let mut w = Writer::new(plan.ty, p.reduced.len);
    let (rows, n, width) = (plan.rows, p.keys, plan.width());
    w.code.out_stride = (n * width) as u32;
    // Masks of long keys are not written: their slots are not constant.
    let masks = masks && plan.registers;
    w.code.mask_stride = if masks { (n * rows) as u32 } else { 0 };
    let mut threshold: Vec<VReg> = vec![];
    if masks {
        for v in 0..n * rows {
            threshold.push(w.load(at(Base::State, v * plan.lanes), false));
        }
    }
    for columns in steps(plan.columns) {
        let buffer = buffers(&mut w, plan, columns, &p.key);
        let l = w.begin(LoopKind::Columns { step: columns as u32 });
        let ctx = Context { buffer, ..context(plan, columns, Sums::Memory(0)) };
        translate(&mut w, &p.key, &ctx, &mut |w, e| {
            for r in 0..rows {
                let key = value(w, &e, r);
                let addr = Addr {
                    base: Base::Out,
                    offset: ((e.column * n + e.slot.offset as usize) * width + r * plan.lanes)
                        as i32,
                    terms: e.slot.terms.iter().map(|&(l, s)| (l, s * width as i32)).collect(),
                };
                w.push(Inst::Store { addr, src: key });
                if masks {
                    let v = e.slot.offset as usize * rows + r;
                    let m = beats(w, select.order, key, threshold[v]);
                    w.push(Inst::StoreMask { index: (e.column * n * rows + v) as i32, src: m });
                }
            }
        });
        w.end(l);
    }
    w.finish()
}
