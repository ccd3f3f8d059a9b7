//! Text form of vector code, for reading and for golden tests.
//!
//! One instruction a line, loops indented. Registers are `r` (real), `m` (mask) or `n` (integer)
//! with their number, loops and their counters `L`:
//!
//! ```text
//! vcode f32, 5 registers, reduced stride 4, out stride 0, mask stride 0, scratch 0
//!   r0 = load kept[0]
//!   r4 = const 0.0
//!   columns L0 step 1 {
//!     r1 = broadcast reduced[0]
//!     r2 = Sub r0, r1
//!     r4 = Fma r2, r2, r4
//!   }
//!   store state[0], r4
//! ```

use std::fmt;

use keops_core::prim::Kind;

use crate::vcode::{Addr, Base, Inst, LoopId, LoopKind, Ty, VCode, VReg};

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ty::F32 => "f32",
            Ty::F64 => "f64",
        })
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Base::Kept => "kept",
            Base::Reduced => "reduced",
            Base::Param => "param",
            Base::State => "state",
            Base::Out => "out",
            Base::Scratch => "scratch",
        })
    }
}

impl fmt::Display for LoopId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", self.0)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}", self.base, self.offset)?;
        for (id, stride) in &self.terms {
            let sign = if *stride < 0 { '-' } else { '+' };
            write!(f, " {sign} {}*{id}", stride.unsigned_abs())?;
        }
        f.write_str("]")
    }
}

impl VCode {
    /// Text of one instruction, without indentation. Total: wrong code has a text too, since
    /// error messages quote it.
    pub fn inst_text(&self, inst: &Inst) -> String {
        let reg = |r: &VReg| match self.kinds.get(r.0 as usize) {
            Some(Kind::Real) => format!("r{}", r.0),
            Some(Kind::Mask) => format!("m{}", r.0),
            Some(Kind::Int) => format!("n{}", r.0),
            None => format!("?{}", r.0),
        };
        let list = |regs: &[VReg]| regs.iter().map(reg).collect::<Vec<_>>().join(", ");
        match inst {
            Inst::Op { dst, op, args } => format!("{} = {op:?} {}", reg(dst), list(args)),
            Inst::Const { dst, value } => format!("{} = const {value:?}", reg(dst)),
            Inst::ConstInt { dst, value } => format!("{} = const {value}", reg(dst)),
            Inst::Load { dst, addr, broadcast: false } => format!("{} = load {addr}", reg(dst)),
            Inst::Load { dst, addr, broadcast: true } => format!("{} = broadcast {addr}", reg(dst)),
            Inst::Store { addr, src } => format!("store {addr}, {}", reg(src)),
            Inst::StoreMask { index, src } => format!("store masks[{index}], {}", reg(src)),
            Inst::Gather { dst, addr, idx } => {
                format!("{} = gather {addr}, {}", reg(dst), reg(idx))
            }
            Inst::ColumnIndex { dst } => format!("{} = column", reg(dst)),
            Inst::WideAdd { acc, src } => format!("wide {} += {}", list(acc), reg(src)),
            Inst::WideStore { addr, src } => format!("wide store {addr}, {}", list(src)),
            Inst::Begin { id, kind: LoopKind::Fixed(n) } => format!("for {id} in 0..{n} {{"),
            Inst::Begin { id, kind: LoopKind::Columns { step } } => {
                format!("columns {id} step {step} {{")
            }
            Inst::End { .. } => "}".to_string(),
        }
    }
}

impl fmt::Display for VCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "vcode {}, {} registers, reduced stride {}, out stride {}, mask stride {}, scratch {}",
            self.ty,
            self.kinds.len(),
            self.reduced_stride,
            self.out_stride,
            self.mask_stride,
            self.scratch
        )?;
        let mut depth = 1usize;
        for inst in &self.insts {
            if matches!(inst, Inst::End { .. }) {
                depth = depth.saturating_sub(1);
            }
            writeln!(f, "{:1$}{2}", "", 2 * depth, self.inst_text(inst))?;
            if matches!(inst, Inst::Begin { .. }) {
                depth += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use keops_core::prim::{Prim, ScalarFn};

    use super::*;

    static TWICE: ScalarFn =
        ScalarFn { name: "twice", arity: 1, f32: |a| 2.0 * a[0], f64: |a| 2.0 * a[0] };

    #[test]
    fn every_instruction_has_its_text() {
        let addr = |base, offset, terms: &[(u32, i32)]| Addr {
            base,
            offset,
            terms: terms.iter().map(|&(id, stride)| (LoopId(id), stride)).collect(),
        };
        let op = |dst, op, args: &[u32]| Inst::Op {
            dst: VReg(dst),
            op,
            args: args.iter().copied().map(VReg).collect(),
        };
        let code = VCode {
            ty: Ty::F32,
            kinds: vec![Kind::Real, Kind::Real, Kind::Mask, Kind::Int, Kind::Real, Kind::Real],
            insts: vec![
                Inst::Const { dst: VReg(4), value: 0.0 },
                Inst::Const { dst: VReg(0), value: f64::NEG_INFINITY },
                Inst::ConstInt { dst: VReg(3), value: -7 },
                Inst::Begin { id: LoopId(0), kind: LoopKind::Columns { step: 4 } },
                Inst::ColumnIndex { dst: VReg(3) },
                Inst::Begin { id: LoopId(1), kind: LoopKind::Fixed(3) },
                Inst::Load {
                    dst: VReg(0),
                    addr: addr(Base::Kept, 16, &[(1, 8)]),
                    broadcast: false,
                },
                Inst::Load {
                    dst: VReg(1),
                    addr: addr(Base::Reduced, 2, &[(1, -1)]),
                    broadcast: true,
                },
                Inst::End { id: LoopId(1) },
                op(2, Prim::Lt, &[0, 1]),
                op(0, Prim::Select, &[2, 0, 1]),
                op(3, Prim::IntShl(5), &[3]),
                op(0, Prim::Call(&TWICE), &[0]),
                Inst::Gather { dst: VReg(1), addr: addr(Base::Param, 4, &[]), idx: VReg(3) },
                Inst::WideAdd { acc: [VReg(4), VReg(5)], src: VReg(0) },
                Inst::StoreMask { index: 1, src: VReg(2) },
                Inst::Store { addr: addr(Base::Out, 0, &[]), src: VReg(3) },
                Inst::End { id: LoopId(0) },
                Inst::WideStore { addr: addr(Base::State, 8, &[]), src: [VReg(4), VReg(5)] },
                Inst::Store { addr: addr(Base::Scratch, 0, &[]), src: VReg(9) },
            ],
            reduced_stride: 3,
            out_stride: 8,
            mask_stride: 1,
            scratch: 8,
        };
        let expected = "\
vcode f32, 6 registers, reduced stride 3, out stride 8, mask stride 1, scratch 8
  r4 = const 0.0
  r0 = const -inf
  n3 = const -7
  columns L0 step 4 {
    n3 = column
    for L1 in 0..3 {
      r0 = load kept[16 + 8*L1]
      r1 = broadcast reduced[2 - 1*L1]
    }
    m2 = Lt r0, r1
    r0 = Select m2, r0, r1
    n3 = IntShl(5) n3
    r0 = Call(twice) r0
    r1 = gather param[4], n3
    wide r4, r5 += r0
    store masks[1], m2
    store out[0], n3
  }
  wide store state[8], r4, r5
  store scratch[0], ?9
";
        assert_eq!(code.to_string(), expected);
    }
}
