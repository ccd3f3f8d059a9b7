use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind, Register};
use keops_core::prim::{Kind, Prim};
use keops_core::prim_eval::{LaneValue, PrimReal, eval};

use super::asm::{Asm, Mem, Op, Rm, Size};
use super::{EncodeError, Isa, NativeCode};
use crate::frame::Frame;
use crate::testing::{CALLS, RandomCase, SPECIAL, all_prims};
use crate::vcode::{Addr, Base, Inst, LoopId, LoopKind, Ty, VCode, VReg};

/// The levels of this machine; says so if one is missing.
fn levels() -> Vec<Isa> {
    let supported = Isa::supported();
    for level in [Isa::Avx2, Isa::Avx512] {
        if !supported.contains(&level) {
            println!("skipped: this processor does not support {level}");
        }
    }
    supported
}

/// Compiles and loads.
fn compile(code: &VCode, level: Isa) -> Result<NativeCode, EncodeError> {
    let mut native = super::compile(code, level)?;
    NativeCode::load([&mut native].into_iter())?;
    Ok(native)
}

fn workspace(code: &NativeCode) -> Vec<MaybeUninit<u8>> {
    vec![MaybeUninit::new(0xEE); code.workspace_bytes()]
}

fn decoded(code: &[u8]) -> Instruction {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let inst = decoder.decode();
    assert!(!inst.is_invalid(), "not an instruction: {code:02x?}");
    assert_eq!(inst.len(), code.len(), "{inst:?}");
    inst
}

fn general(n: u8) -> Register {
    use Register::*;
    [RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15][n as usize]
}

fn memory_operands() -> Vec<Mem> {
    let mut all = Vec::new();
    for base in [0, 3, 4, 5, 8, 12, 13, 15] {
        for disp in [0, 4, 64, -64, 127, 8128, 8192, -8192, i32::MAX & !63] {
            for (index, scale) in [(None, 0), (Some(0), 0), (Some(12), 3), (Some(13), 2)] {
                all.push(Mem { base, index, scale, disp, bcast: false });
            }
        }
    }
    all
}

fn assert_memory(inst: &Instruction, m: Mem, context: &str) {
    assert_eq!(inst.memory_base(), general(m.base), "{context}");
    assert_eq!(inst.memory_index(), m.index.map_or(Register::None, general), "{context}");
    assert_eq!(inst.memory_displacement64() as i64, i64::from(m.disp), "{context}");
    if m.index.is_some() {
        assert_eq!(inst.memory_index_scale(), 1 << m.scale, "{context}");
    }
}

/// Every combination of registers and of memory operands says the same to an independent
/// decoder, for instructions of all maps, widths and memory sizes, under both prefixes.
#[test]
fn encodings_decode_to_the_same_operands() {
    let ops = |evex| {
        let mut ops = Vec::new();
        for ty in [Ty::F32, Ty::F64] {
            ops.push(Op::classic(ty, 0x58));
            ops.push(Op::map2(ty, 0xB8));
            ops.push(Op::int(ty, 0xFE, 0xD4));
        }
        if evex {
            ops.push(Op::map2(Ty::F64, 0x2C));
        }
        ops
    };
    for evex in [false, true] {
        let registers: &[u8] = if evex { &[0, 7, 8, 15, 16, 23, 31] } else { &[0, 7, 8, 15] };
        let vector = |n: u8| {
            let first = if evex { Register::ZMM0 } else { Register::YMM0 };
            first + u32::from(n)
        };
        for op in ops(evex) {
            for &a in registers {
                for &b in registers {
                    for &c in registers {
                        let mut asm = Asm::new(evex, 16);
                        asm.vector(op, a, b, &Rm::Reg(c), 0, None);
                        let i = decoded(&asm.code);
                        assert_eq!(
                            [i.op0_register(), i.op1_register(), i.op2_register()],
                            [vector(a), vector(b), vector(c)],
                            "{op:?} {evex}"
                        );
                    }
                    for m in memory_operands() {
                        for bcast in [false, evex] {
                            let mut asm = Asm::new(evex, 16);
                            asm.vector(op, a, b, &Rm::Mem(Mem { bcast, ..m }), 0, None);
                            let i = decoded(&asm.code);
                            assert_eq!(
                                [i.op0_register(), i.op1_register()],
                                [vector(a), vector(b)]
                            );
                            assert_memory(&i, m, &format!("{op:?} {m:?} {evex}"));
                            assert_eq!(i.is_broadcast(), bcast);
                        }
                    }
                }
            }
        }
        // Broadcast load, half-width conversion, immediate, each with its unit of displacements.
        let sized = [
            (Op::new(2, 1, 0, 0x18).sized(Size::Elem), 4, false),
            (Op::new(2, 1, 1, 0x19).sized(Size::Elem), 8, false),
            (Op::new(1, 0, 0, 0x5A).sized(Size::Half), if evex { 32 } else { 16 }, false),
            (Op::map3(Ty::F64, 0x09), if evex { 64 } else { 32 }, true),
        ];
        for (op, bytes, imm) in sized {
            for m in memory_operands() {
                let mut asm = Asm::new(evex, 16);
                asm.vector(op, 9, 0, &Rm::Mem(m), 0, imm.then_some(11));
                let i = decoded(&asm.code);
                assert_memory(&i, m, &format!("{op:?} {m:?}"));
                assert_eq!(i.memory_size().size(), bytes, "{op:?}");
                assert_eq!(i.op0_register(), vector(9));
                if imm {
                    assert_eq!(i.immediate8(), 11);
                }
            }
        }
        // Gathers: the index is a vector.
        for &index in registers {
            let op = Op::map2(Ty::F32, 0x92).sized(Size::Elem);
            let m = Mem { base: 9, index: Some(index), scale: 2, disp: 40, bcast: false };
            let mut asm = Asm::new(evex, 16);
            let (dst, mask) = ((index + 3) & 15, (index + 5) & 15);
            asm.vector(op, dst, if evex { 0 } else { mask }, &Rm::Mem(m), u8::from(evex), None);
            let i = decoded(&asm.code);
            assert_eq!(i.op0_register(), vector(dst));
            assert_eq!(i.memory_index(), vector(index));
            assert_eq!((i.memory_base(), i.memory_displacement64()), (Register::R9, 40));
            assert_eq!(i.memory_index_scale(), 4);
        }
    }
}

#[test]
fn general_instructions_decode_to_the_same_operands() {
    for m in memory_operands() {
        for r in [0, 5, 7, 8, 12, 15] {
            let mut asm = Asm::new(true, 16);
            asm.load(r, m);
            let i = decoded(&asm.code);
            assert_eq!(i.op0_register(), general(r));
            assert_memory(&i, m, "load");
            let mut asm = Asm::new(true, 16);
            asm.store(m, r);
            let i = decoded(&asm.code);
            assert_eq!(i.op1_register(), general(r));
            assert_memory(&i, m, "store");
        }
        for (digit, name) in [(0, "Add"), (5, "Sub"), (7, "Cmp")] {
            for imm in [1, -128, 128, i32::MIN] {
                let mut asm = Asm::new(true, 16);
                asm.arith(digit, Rm::Mem(m), imm);
                let i = decoded(&asm.code);
                assert_eq!(format!("{:?}", i.mnemonic()), name);
                assert_eq!(i.immediate(1) as i64, i64::from(imm));
                assert_memory(&i, m, name);
            }
        }
    }
    for gap in 1..64 {
        let mut asm = Asm::new(true, 64);
        asm.code.resize(gap, 0x90);
        asm.align(64);
        assert_eq!(asm.code.len(), 64);
        let nops = Decoder::new(64, &asm.code, DecoderOptions::NONE);
        assert!(nops.into_iter().all(|i| i.mnemonic() == iced_x86::Mnemonic::Nop));
    }
}

/// Values for the arguments of primitives: the special ones of both precisions and their
/// neighbours.
fn reals<R: PrimReal>() -> Vec<R> {
    let mut v: Vec<R> = SPECIAL.iter().map(|&x| R::from_f64(x)).collect();
    for e in [-1074, -1023, -1022, -1021, -149, -127, -126, -125, -25, -24, -14, 15, 16, 127, 1023]
    {
        for m in [1.0, 1.5, -1.25, 1.999_999_7] {
            v.push(R::from_f64(m * 2f64.powi(e / 2) * 2f64.powi(e - e / 2)));
        }
    }
    v
}

/// Exponents for `Scale`: around every limit of either precision, and far beyond.
fn exponents<R: PrimReal>() -> Vec<R> {
    let around = [-2200, -2098, -1082, -1075, -1022, -378, -300, -278, -252, -155, -149, -126];
    let mut v: Vec<f64> = Vec::new();
    for &e in around.iter().chain(&[0, 24, 93, 127, 254, 277, 381, 950, 1023, 2098, 5000]) {
        v.extend([-2, -1, 0, 1, 2].map(|d| f64::from(e + d)));
    }
    v.extend([f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e30, -1e30, 2147483648.0, -0.0]);
    v.into_iter().map(R::from_f64).collect()
}

fn ty_of<R: PrimReal>() -> Ty {
    if R::BITS == 32 { Ty::F32 } else { Ty::F64 }
}

fn addr(base: Base, offset: usize) -> Addr {
    Addr { base, offset: offset as i32, terms: Vec::new() }
}

/// Code that applies `op` to arguments that all come as bits of `Base::Kept` and stores the
/// result as bits or, for a mask, as 0 or 1. An argument that is a mask is the sign bit.
fn one_operation(op: Prim, ty: Ty, lanes: usize) -> VCode {
    let (kinds, result) = op.signature();
    let mut c = VCode {
        ty,
        kinds: Vec::new(),
        insts: Vec::new(),
        reduced_stride: 0,
        out_stride: 0,
        mask_stride: 0,
        scratch: 0,
    };
    let mut reg = |kind| {
        c.kinds.push(kind);
        VReg(c.kinds.len() as u32 - 1)
    };
    let apply = |dst, op, args: &[VReg]| Inst::Op { dst, op, args: args.into() };
    let mut args = Vec::new();
    for (k, &kind) in kinds.iter().enumerate() {
        let v = reg(Kind::Real);
        c.insts.push(Inst::Load { dst: v, addr: addr(Base::Kept, k * lanes), broadcast: false });
        let mut v = v;
        if kind != Kind::Real {
            let bits = reg(Kind::Int);
            c.insts.push(apply(bits, Prim::ToBits, &[v]));
            v = bits;
        }
        if kind == Kind::Mask {
            let (zero, mask) = (reg(Kind::Int), reg(Kind::Mask));
            c.insts.push(Inst::ConstInt { dst: zero, value: 0 });
            c.insts.push(apply(mask, Prim::IntLt, &[v, zero]));
            v = mask;
        }
        args.push(v);
    }
    let mut v = reg(result);
    c.insts.push(apply(v, op, &args));
    if result == Kind::Mask {
        let (one, zero, real) = (reg(Kind::Real), reg(Kind::Real), reg(Kind::Real));
        c.insts.push(Inst::Const { dst: one, value: 1.0 });
        c.insts.push(Inst::Const { dst: zero, value: 0.0 });
        c.insts.push(apply(real, Prim::Select, &[v, one, zero]));
        v = real;
    }
    c.insts.push(Inst::Store { addr: addr(Base::State, 0), src: v });
    c
}

fn frame(kept: *const f64, reduced: *const f64, param: *const f64, state: *mut f64) -> Frame {
    Frame {
        kept: kept.cast(),
        reduced: reduced.cast(),
        param: param.cast(),
        state: state.cast(),
        out: null_mut(),
        masks: null_mut(),
        scratch: null_mut(),
        columns: 0,
        first_column: 0,
    }
}

fn check_primitive<R: PrimReal>(op: Prim, level: Isa) {
    let ty = ty_of::<R>();
    let lanes = level.lanes(ty);
    let code = compile(&one_operation(op, ty, lanes), level).unwrap();
    let (kinds, result) = op.signature();
    let lists: Vec<Vec<R>> = (0..kinds.len())
        .map(|k| if op == Prim::Scale && k == 1 { exponents() } else { reals() })
        .collect();
    // All pairs of the first two arguments; the others at random.
    let total = lists[0].len() * lists.get(1).map_or(1, Vec::len);
    let mut random = 12345u64;
    let mut rows: Vec<Vec<R>> = Vec::new();
    for i in 0..total {
        let mut row = vec![lists[0][i % lists[0].len()]];
        if let Some(second) = lists.get(1) {
            row.push(second[i / lists[0].len()]);
        }
        for list in lists.iter().skip(2) {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            row.push(list[(random >> 33) as usize % list.len()]);
        }
        let limit = if R::BITS == 32 { 4_194_304.0 } else { 2_251_799_813_685_248.0 };
        let a = row[0].to_f64();
        match op {
            Prim::ToInt if a.is_nan() || a.abs() >= limit => row[0] = R::from_f64(-2.5),
            Prim::FromInt if (row[0].to_int_bits() as f64).abs() >= limit => {
                row[0] = R::from_int_bits(-(i as i64) * 1000);
            }
            // Left open by the primitive.
            Prim::Scale if a.is_nan() && row[1].to_f64().is_infinite() => row[1] = R::from_f64(1.0),
            Prim::Significand if a == 0.0 || a.is_infinite() => row[0] = R::from_f64(3.0),
            _ => {}
        }
        rows.push(row);
    }
    let mut space = workspace(&code);
    let bytes = (R::BITS / 8) as usize;
    for chunk in rows.chunks(lanes) {
        let row = |i: usize| &chunk[i.min(chunk.len() - 1)];
        let mut kept = vec![0u8; kinds.len() * lanes * bytes];
        for k in 0..kinds.len() {
            for i in 0..lanes {
                let at = (k * lanes + i) * bytes;
                let bits = row(i)[k].to_int_bits().to_le_bytes();
                kept[at..at + bytes].copy_from_slice(&bits[..bytes]);
            }
        }
        let mut state = vec![0u8; lanes * bytes];
        let f = frame(kept.as_ptr().cast(), null(), null(), state.as_mut_ptr().cast());
        // SAFETY: the code reads one vector of `kept` per argument and writes one of `state`.
        unsafe { code.call(&f, &mut space) };
        for i in 0..lanes {
            let args: Vec<LaneValue<R>> = row(i)
                .iter()
                .zip(kinds)
                .map(|(&v, kind)| match kind {
                    Kind::Real => LaneValue::Real(v),
                    Kind::Int => LaneValue::Int(v.to_int_bits()),
                    Kind::Mask => LaneValue::Mask(v.to_int_bits() < 0),
                })
                .collect();
            let expected = match eval(op, &args) {
                LaneValue::Real(v) => v.to_int_bits(),
                LaneValue::Int(v) => v,
                LaneValue::Mask(m) => R::from_f64(f64::from(u8::from(m))).to_int_bits(),
            };
            let mut bits = [0u8; 8];
            bits[..bytes].copy_from_slice(&state[i * bytes..(i + 1) * bytes]);
            let got = R::wrap(i64::from_le_bytes(bits));
            let nan = |b| R::from_int_bits(b).to_f64().is_nan();
            let same = got == expected || result == Kind::Real && nan(got) && nan(expected);
            assert!(
                same,
                "{op:?} {ty:?} {level} of {args:?}: got {got:#x}, expected {expected:#x}"
            );
        }
    }
}

#[test]
fn primitives_are_exact_on_special_values() {
    for level in levels() {
        for op in all_prims() {
            check_primitive::<f32>(op, level);
            check_primitive::<f64>(op, level);
        }
    }
}

/// What the decoder must not find, whatever was compiled.
fn assert_decodes(code: &NativeCode) {
    let bytes = &code.bytes()[..code.code_bytes];
    for i in Decoder::new(64, bytes, DecoderOptions::NONE) {
        assert!(!i.is_invalid(), "offset {:x}\n{}", i.ip(), code.disassemble());
        for k in 0..i.op_count() {
            if i.op_kind(k) == OpKind::NearBranch64 {
                assert!((i.near_branch_target() as usize) < bytes.len());
            }
        }
    }
}

#[test]
fn random_codes_agree_with_the_portable_machine() {
    let mut spilled = 0;
    for level in levels() {
        for ty in [Ty::F32, Ty::F64] {
            for seed in 0..if cfg!(debug_assertions) { 150 } else { 1500 } {
                let size = [6, 25, 80, 250][seed as usize % 4];
                let case = RandomCase::new(seed, ty, level.lanes(ty), size);
                let code = compile(&case.code, level).unwrap();
                spilled += usize::from(code.spills() > 0);
                assert_decodes(&code);
                let mut space = workspace(&code);
                // SAFETY: the generator keeps every address within the buffers, and all of them
                // are initialised.
                let got = case.run(|f| unsafe { code.call(f, &mut space) });
                case.assert_same(&got, &case.run_vm());
            }
        }
    }
    assert!(spilled > 100 || levels().is_empty(), "{spilled} of the codes spill");
}

/// A small builder for hand-written code.
struct Build(VCode);

impl Build {
    fn new(ty: Ty) -> Build {
        Build(VCode {
            ty,
            kinds: Vec::new(),
            insts: Vec::new(),
            reduced_stride: 0,
            out_stride: 0,
            mask_stride: 0,
            scratch: 0,
        })
    }
    fn reg(&mut self, kind: Kind) -> VReg {
        self.0.kinds.push(kind);
        VReg(self.0.kinds.len() as u32 - 1)
    }
    fn push(&mut self, inst: Inst) {
        self.0.insts.push(inst);
    }
    fn op(&mut self, op: Prim, args: &[VReg]) -> VReg {
        let dst = self.reg(op.signature().1);
        self.push(Inst::Op { dst, op, args: args.into() });
        dst
    }
    fn load(&mut self, base: Base, offset: usize, broadcast: bool) -> VReg {
        let dst = self.reg(Kind::Real);
        self.push(Inst::Load { dst, addr: addr(base, offset), broadcast });
        dst
    }
    fn real(&mut self, value: f64) -> VReg {
        let dst = self.reg(Kind::Real);
        self.push(Inst::Const { dst, value });
        dst
    }
    fn begin(&mut self, id: u32, kind: LoopKind) {
        self.push(Inst::Begin { id: LoopId(id), kind });
    }
    fn end(&mut self, id: u32) {
        self.push(Inst::End { id: LoopId(id) });
    }
}

/// The Gaussian sum over columns of dimension 3 with one signal: `rows` vectors of rows at once,
/// one loop of `step` columns and one of single columns.
pub(super) fn gaussian(rows: usize, step: u32, lanes: usize) -> VCode {
    // exp2 on [-1/2, 1/2], relative error 9.1e-8.
    const EXP2: [f64; 6] = [
        1.0,
        0.693_146_977_611_137_3,
        0.240_222_420_951_605_1,
        0.055_507_337_232_509_86,
        0.009_671_512_330_553_907,
        0.001_326_473_383_080_474_5,
    ];
    let mut b = Build::new(Ty::F32);
    let x: Vec<Vec<VReg>> = (0..rows)
        .map(|r| (0..3).map(|c| b.load(Base::Kept, (c * rows + r) * lanes, false)).collect())
        .collect();
    let gamma = b.load(Base::Param, 0, true);
    let coef = EXP2.map(|c| b.real(c));
    let acc: Vec<VReg> = (0..rows).map(|r| b.load(Base::State, r * lanes, false)).collect();
    b.0.reduced_stride = 4;
    for (id, step) in [step, 1].into_iter().enumerate() {
        b.begin(id as u32, LoopKind::Columns { step });
        for column in 0..step as usize {
            let y: Vec<VReg> =
                (0..4).map(|c| b.load(Base::Reduced, 4 * column + c, true)).collect();
            let mut s = vec![VReg(0); rows];
            for c in 0..3 {
                for r in 0..rows {
                    let d = b.op(Prim::Sub, &[x[r][c], y[c]]);
                    s[r] = match c {
                        0 => b.op(Prim::Mul, &[d, d]),
                        _ => b.op(Prim::Fma, &[d, d, s[r]]),
                    };
                }
            }
            let t: Vec<VReg> = s.iter().map(|&s| b.op(Prim::Mul, &[s, gamma])).collect();
            let n: Vec<VReg> = t.iter().map(|&t| b.op(Prim::RoundEven, &[t])).collect();
            let f: Vec<VReg> = (0..rows).map(|r| b.op(Prim::Sub, &[t[r], n[r]])).collect();
            let mut p = vec![coef[5]; rows];
            for c in coef[..5].iter().rev() {
                for r in 0..rows {
                    p[r] = b.op(Prim::Fma, &[p[r], f[r], *c]);
                }
            }
            for r in 0..rows {
                let k = b.op(Prim::Scale, &[p[r], n[r]]);
                b.push(Inst::Op { dst: acc[r], op: Prim::Fma, args: [k, y[3], acc[r]].into() });
            }
        }
        b.end(id as u32);
    }
    for (r, &src) in acc.iter().enumerate() {
        b.push(Inst::Store { addr: addr(Base::State, r * lanes), src });
    }
    b.0
}

/// The inner loop of the Gaussian holds everything in registers and needs no moves.
#[test]
fn the_loop_of_the_gaussian_is_tight() {
    for level in levels().into_iter().filter(|&l| l == Isa::Avx512) {
        let code = compile(&gaussian(2, 1, level.lanes(Ty::F32)), level).unwrap();
        assert_eq!(code.spills(), 0);
        let text = code.disassemble();
        let body: Vec<&str> = text.lines().skip_while(|l| !l.contains("jb ")).collect();
        let end = body.iter().position(|l| l.contains("jne ")).unwrap();
        let body = &body[..end];
        let count = |what: &str| body.iter().filter(|l| l.contains(what)).count();
        // 2 rows: 4 subtractions, 2 multiplications, 2 + 5 + 1 fused, round and scale.
        let arithmetic = 2 * (4 + 2 + 8 + 2);
        let vector = count("zmm");
        // 4 broadcast loads, and one copy of the highest coefficient for each row.
        assert!(vector <= arithmetic + 6, "{vector} vector instructions\n{text}");
    }
}

/// A long straight line compiles in time proportional to its length, and spills correctly.
#[test]
fn long_codes_compile_in_linear_time_and_are_right() {
    for level in levels() {
        let lanes = level.lanes(Ty::F64);
        let n = 30_000;
        let mut b = Build::new(Ty::F64);
        let mut v: Vec<VReg> = (0..200).map(|k| b.load(Base::Kept, k * lanes, false)).collect();
        let half = b.real(0.5);
        for k in 0..n {
            // Two values far back, so that many live at a time.
            let d = b.op(Prim::Fma, &[v[k], half, v[k + 199 - k % 7]]);
            v.push(d);
        }
        for k in 0..200 {
            b.push(Inst::Store { addr: addr(Base::State, k * lanes), src: v[n + k] });
        }
        let start = std::time::Instant::now();
        let code = compile(&b.0, level).unwrap();
        let time = start.elapsed();
        println!("{level}: {n} instructions compiled in {time:?}, {} spills", code.spills());
        assert!(code.spills() > 1000);
        assert!(time.as_millis() < 2000, "{time:?}");
        let kept: Vec<f64> = (0..200 * lanes).map(|i| (i as f64 * 0.37).sin()).collect();
        let mut state = vec![0.0; 200 * lanes];
        let f = frame(kept.as_ptr(), null(), null(), state.as_mut_ptr());
        // SAFETY: 200 vectors are read and written.
        unsafe { code.call(&f, &mut workspace(&code)) };
        for lane in 0..lanes {
            let mut w: Vec<f64> = (0..200).map(|k| kept[k * lanes + lane]).collect();
            for k in 0..n {
                w.push(w[k].mul_add(0.5, w[k + 199 - k % 7]));
            }
            for k in 0..200 {
                assert_eq!(state[k * lanes + lane], w[n + k], "value {k} in lane {lane}");
            }
        }
    }
}

/// Values in registers survive calls, also those that only some lanes make.
#[test]
fn calls_preserve_what_is_in_registers() {
    for level in levels() {
        let lanes = level.lanes(Ty::F64);
        let mut b = Build::new(Ty::F64);
        let x: Vec<VReg> = (0..12).map(|k| b.load(Base::Kept, k * lanes, false)).collect();
        let y: Vec<VReg> = x.iter().map(|&x| b.op(Prim::Add, &[x, x])).collect();
        let zero = b.real(0.0);
        let negative = b.op(Prim::Lt, &[y[0], zero]);
        let called = b.op(Prim::Call(&CALLS[0]), &[y[0]]);
        let some = b.op(Prim::CallIf(&CALLS[1]), &[negative, y[1], y[2], y[3]]);
        let mut sum = b.op(Prim::Add, &[called, some]);
        for v in &y {
            sum = b.op(Prim::Add, &[sum, *v]);
        }
        sum = b.op(Prim::Select, &[negative, sum, zero]);
        b.push(Inst::Store { addr: addr(Base::State, 0), src: sum });
        let code = compile(&b.0, level).unwrap();
        for shift in [0.0, 100.0, -100.0] {
            let kept: Vec<f64> =
                (0..12 * lanes).map(|i| shift + (i as f64 * 1.7).sin() * 3.0).collect();
            let mut state = vec![0.0; lanes];
            let f = frame(kept.as_ptr(), null(), null(), state.as_mut_ptr());
            // SAFETY: 12 vectors are read, one is written.
            unsafe { code.call(&f, &mut workspace(&code)) };
            for lane in 0..lanes {
                let y: Vec<f64> = (0..12).map(|k| 2.0 * kept[k * lanes + lane]).collect();
                let some = if y[0] < 0.0 { y[2].atan2(y[3]) } else { y[1] };
                let sum = y.iter().fold(y[0].cbrt() + some, |s, v| s + v);
                let expected = if y[0] < 0.0 { sum } else { 0.0 };
                assert_eq!(state[lane].to_bits(), expected.to_bits(), "lane {lane}, shift {shift}");
            }
        }
    }
}

#[test]
fn what_cannot_be_compiled_is_an_error() {
    let Some(level) = levels().first().copied() else { return };
    let mut b = Build::new(Ty::F64);
    let far = b.reg(Kind::Real);
    let offset = i32::MAX / 4;
    let a = Addr { base: Base::Kept, offset, terms: Vec::new() };
    b.push(Inst::Load { dst: far, addr: a, broadcast: false });
    b.push(Inst::Store { addr: addr(Base::State, 0), src: far });
    match compile(&b.0, level) {
        Err(EncodeError::TooLarge { bytes }) => assert_eq!(bytes, 8 * i64::from(offset)),
        other => panic!("expected TooLarge, got {other:?}"),
    }
    let mut b = Build::new(Ty::F32);
    let undefined = b.reg(Kind::Real);
    b.push(Inst::Store { addr: addr(Base::State, 0), src: undefined });
    assert!(matches!(compile(&b.0, level), Err(EncodeError::Verify(_))));
}
