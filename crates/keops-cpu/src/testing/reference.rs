//! The slow interpreter: nothing but the definitions, for every executor to be compared with.

use keops_core::prim_eval::{self, LaneValue, PrimReal};

use crate::frame::Frame;
use crate::vcode::{Addr, Base, Inst, LoopKind, Ty, VCode};

/// Runs vector code one instruction, one lane at a time, with the scalar semantics of the
/// primitives.
///
/// # Safety
/// As [`crate::vm::VmCode::call`].
pub unsafe fn interpret(code: &VCode, lanes: usize, frame: &Frame) {
    // SAFETY: the caller's.
    unsafe {
        match code.ty {
            Ty::F32 => interpret_as::<f32>(code, lanes, frame),
            Ty::F64 => interpret_as::<f64>(code, lanes, frame),
        }
    }
}

/// # Safety
/// As [`interpret`].
#[expect(clippy::needless_range_loop, reason = "k is a lane, the same in all that it indexes")]
unsafe fn interpret_as<R: PrimReal>(code: &VCode, lanes: usize, frame: &Frame) {
    let mut regs = vec![vec![LaneValue::<R>::Mask(false); lanes]; code.kinds.len()];
    // The lanes of a wide accumulator, under the number of its low half.
    let mut wide = vec![vec![0f64; lanes]; code.kinds.len()];
    let mut counters = vec![0i64; code.insts.len()];
    let mut begins = Vec::new();
    let mut turn = 0i64;
    let mut at = 0;
    while let Some(inst) = code.insts.get(at) {
        let address = |addr: &Addr| {
            let (base, moved) = match addr.base {
                Base::Kept => (frame.kept.cast_mut(), 0),
                Base::Reduced => (frame.reduced.cast_mut(), turn * i64::from(code.reduced_stride)),
                Base::Param => (frame.param.cast_mut(), 0),
                Base::State => (frame.state, 0),
                Base::Out => (frame.out, turn * i64::from(code.out_stride)),
                Base::Scratch => (frame.scratch, 0),
            };
            let terms = addr.terms.iter().map(|(id, stride)| {
                let counter: i64 = counters[id.0 as usize];
                counter * i64::from(*stride)
            });
            let element = moved + i64::from(addr.offset) + terms.sum::<i64>();
            base.cast::<R>().wrapping_offset(element as isize)
        };
        // SAFETY: the caller's.
        unsafe {
            match inst {
                Inst::Op { dst, op, args } => {
                    for k in 0..lanes {
                        let args: Vec<_> = args.iter().map(|r| regs[r.0 as usize][k]).collect();
                        regs[dst.0 as usize][k] = prim_eval::eval(*op, &args);
                    }
                }
                Inst::Const { dst, value } => {
                    regs[dst.0 as usize].fill(LaneValue::Real(R::from_f64(*value)));
                    wide[dst.0 as usize].fill(0.0);
                }
                Inst::ConstInt { dst, value } => {
                    regs[dst.0 as usize].fill(LaneValue::Int(R::wrap(*value)));
                }
                Inst::Load { dst, addr, broadcast } => {
                    for k in 0..lanes {
                        let value = address(addr).add(if *broadcast { 0 } else { k }).read();
                        regs[dst.0 as usize][k] = LaneValue::Real(value);
                    }
                }
                Inst::Store { addr, src } => {
                    for k in 0..lanes {
                        let value = match regs[src.0 as usize][k] {
                            LaneValue::Int(bits) => R::from_int_bits(bits),
                            value => value.real(),
                        };
                        address(addr).add(k).write(value);
                    }
                }
                Inst::StoreMask { index, src } => {
                    let words = lanes.div_ceil(32) as i64;
                    let mask = turn * i64::from(code.mask_stride) + i64::from(*index);
                    let to = frame.masks.wrapping_offset((mask * words) as isize);
                    for word in 0..words as usize {
                        to.add(word).write(0);
                    }
                    for k in 0..lanes {
                        *to.add(k / 32) |= u32::from(regs[src.0 as usize][k].mask()) << (k % 32);
                    }
                }
                Inst::Gather { dst, addr, idx } => {
                    for k in 0..lanes {
                        let index = regs[idx.0 as usize][k].int() as usize;
                        regs[dst.0 as usize][k] = LaneValue::Real(address(addr).add(index).read());
                    }
                }
                Inst::ColumnIndex { dst } => {
                    regs[dst.0 as usize].fill(LaneValue::Int(R::wrap(frame.first_column + turn)));
                }
                Inst::WideAdd { acc, src } => {
                    for k in 0..lanes {
                        wide[acc[0].0 as usize][k] += regs[src.0 as usize][k].real().to_f64();
                    }
                }
                Inst::WideStore { addr, src } => {
                    for k in 0..lanes {
                        let sum = wide[src[0].0 as usize][k];
                        address(addr).cast::<f64>().add(k).write_unaligned(sum);
                    }
                }
                Inst::Begin { id, kind } => {
                    counters[id.0 as usize] = 0;
                    begins.push((at, *kind));
                    let columns = frame.columns as i64;
                    if let LoopKind::Columns { step } = kind
                        && columns - turn < i64::from(*step)
                    {
                        begins.pop();
                        while code.insts[at] != (Inst::End { id: *id }) {
                            at += 1;
                        }
                    }
                }
                Inst::End { id } => {
                    let (begin, kind) = begins.pop().expect("verified");
                    let counter = &mut counters[id.0 as usize];
                    *counter += 1;
                    let again = match kind {
                        LoopKind::Fixed(count) => *counter < i64::from(count),
                        LoopKind::Columns { step } => {
                            turn += i64::from(step);
                            frame.columns as i64 - turn >= i64::from(step)
                        }
                    };
                    if again {
                        begins.push((begin, kind));
                        at = begin;
                    }
                }
            }
        }
        at += 1;
    }
}
