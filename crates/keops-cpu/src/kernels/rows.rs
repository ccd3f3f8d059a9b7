//! Routines of the sections that see one row at a time.

use super::sums::Accumulators;
use super::{Accumulation, Plan, StateLayout, StatePart, buffers, context};
use crate::translate::{Context, Sums, Writer, at, table_room, translate};
use crate::vcode::{Base, Inst, VCode};
use keops_core::prim::Prim;
use keops_core::program::{Mode, Op, Program, SInst, Stream};

/// See [`Context::raw_param`].
pub(super) const NOT_DERIVING: usize = i64::MAX as usize;

/// The routine of the once section: derived parameters, one vector each, to the state.
pub fn once_code(p: &Program, plan: &Plan) -> VCode {
    derive(plan, &p.once, p.param.fields.iter().map(|f| f.dim).sum())
}

/// The routine of a row section: reads rows from `Base::Kept`, writes derived values to the state.
pub fn row_code(plan: &Plan, stream: &Stream) -> VCode {
    derive(plan, stream, NOT_DERIVING)
}

fn derive(plan: &Plan, stream: &Stream, raw_param: usize) -> VCode {
    let mut w = Writer::new(plan.ty, 0);
    let buffer = buffers(&mut w, plan, 1, stream);
    let ctx = Context {
        buffer,
        row_space: Some((Base::Kept, Base::State)),
        raw_param,
        ..context(plan, 1, Sums::Memory(0))
    };
    translate(&mut w, stream, &ctx, &mut |_, _| unreachable!("rows emit nothing"));
    w.finish()
}

/// The routine that makes results (in `Base::Out`, `[result][row vector]`) of the state.
pub fn finalise_code(p: &Program, plan: &Plan) -> VCode {
    let mut w = Writer::new(plan.ty, 0);
    let acc = Accumulators::in_memory(p, plan);
    if plan.accumulation == Accumulation::Block {
        acc.each_in_memory(&mut w, |w, addr| {
            let (total, lost) =
                (w.load(addr(StatePart::Total), false), w.load(addr(StatePart::Lost), false));
            let sum = w.op(Prim::Add, &[total, lost]);
            w.push(Inst::Store { addr: addr(StatePart::Total), src: sum });
        });
    }
    let (mut pivot, layout) = (vec![], StateLayout::new(p, plan));
    if p.mode == Mode::PivotSum {
        for r in 0..plan.rows {
            pivot.push(w.load(at(Base::State, layout.pivot(r * plan.lanes)), false));
        }
    }
    let buffer = buffers(&mut w, plan, 1, &p.finalise);
    let ctx = Context {
        buffer,
        pivot: [&pivot, &pivot],
        row_space: Some((Base::Kept, Base::Out)),
        ..context(plan, 1, Sums::Memory(0))
    };
    translate(&mut w, &p.finalise, &ctx, &mut |_, _| unreachable!("rows emit nothing"));
    w.finish()
}

/// How many times a stream reads a table.
pub fn gathers(s: &Stream) -> usize {
    s.insts.iter().filter(|i| matches!(i, SInst::Def { op: Op::Gather { .. }, .. })).count()
}

/// Most elements of the parameters: code has 31 bits for their places, in bytes.
pub const MAX_PARAM: usize = (1 << 28) - 1;

/// Elements of the parameters with what reads of tables may touch behind them: see
/// [`table_room`].
pub fn param_room(p: &Program) -> usize {
    let insts = p.sections().into_iter().flat_map(|(_, s)| &s.insts);
    let end = |i: &SInst| match i {
        SInst::Def { op: Op::Gather { offset, len }, .. } => *offset as usize + table_room(*len),
        _ => 0,
    };
    insts.map(end).fold(p.param.len.max(1), usize::max)
}
