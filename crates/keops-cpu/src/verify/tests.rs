//! Every rule refuses a fault planted in code that is right without it.

use keops_core::prim::ScalarFn;

use super::*;

fn op(dst: u32, op: Prim, args: &[u32]) -> Inst {
    Inst::Op { dst: VReg(dst), op, args: args.iter().copied().map(VReg).collect() }
}

fn addr(base: Base, offset: i32, terms: &[(u32, i32)]) -> Addr {
    Addr { base, offset, terms: terms.iter().map(|&(id, s)| (LoopId(id), s)).collect() }
}

fn load(dst: u32, base: Base, offset: i32, terms: &[(u32, i32)]) -> Inst {
    Inst::Load { dst: VReg(dst), addr: addr(base, offset, terms), broadcast: false }
}

fn store(base: Base, offset: i32, terms: &[(u32, i32)], src: u32) -> Inst {
    Inst::Store { addr: addr(base, offset, terms), src: VReg(src) }
}

fn fixed(id: u32, count: u32) -> Inst {
    Inst::Begin { id: LoopId(id), kind: LoopKind::Fixed(count) }
}

fn columns(id: u32, step: u32) -> Inst {
    Inst::Begin { id: LoopId(id), kind: LoopKind::Columns { step } }
}

fn end(id: u32) -> Inst {
    Inst::End { id: LoopId(id) }
}

fn constant(dst: u32, value: f64) -> Inst {
    Inst::Const { dst: VReg(dst), value }
}

const LANES: usize = 8;

/// Registers: 0–4 and 7–9 real (8 and 9 a wide accumulator), 5 mask, 6, 10 and 11 integer.
fn code(insts: Vec<Inst>) -> VCode {
    use Kind::{Int, Mask, Real};
    VCode {
        ty: Ty::F32,
        kinds: vec![Real, Real, Real, Real, Real, Mask, Int, Real, Real, Real, Int, Int],
        insts,
        reduced_stride: 4,
        out_stride: 8,
        mask_stride: 2,
        scratch: 40,
    }
}

/// Code with every instruction, up to every limit.
fn right() -> Vec<Inst> {
    vec![
        constant(0, 0.0),
        constant(8, 0.0),
        constant(9, 0.0),
        Inst::ConstInt { dst: VReg(6), value: 3 },
        fixed(0, 3),
        fixed(1, 2),
        load(1, Base::Kept, 0, &[(0, 8)]),
        store(Base::Scratch, 8, &[(0, 12), (1, -8)], 1),
        end(1),
        end(0),
        columns(2, 2),
        load(2, Base::Reduced, 0, &[]),
        fixed(3, 4),
        op(0, Prim::Fma, &[1, 2, 0]),
        end(3),
        op(5, Prim::Lt, &[0, 1]),
        Inst::StoreMask { index: 3, src: VReg(5) },
        Inst::ColumnIndex { dst: VReg(6) },
        op(3, Prim::Abs, &[2]),
        op(3, Prim::Select, &[5, 3, 2]),
        Inst::WideAdd { acc: [VReg(8), VReg(9)], src: VReg(3) },
        store(Base::Out, 0, &[], 3),
        end(2),
        columns(4, 1),
        op(6, Prim::IntShl(31), &[6]),
        end(4),
        store(Base::State, 0, &[], 0),
        store(Base::State, 8, &[], 6),
        Inst::WideStore { addr: addr(Base::State, 16, &[]), src: [VReg(8), VReg(9)] },
        Inst::ConstInt { dst: VReg(10), value: 7 },
        op(11, Prim::IntAnd, &[6, 10]),
        Inst::Gather { dst: VReg(3), addr: addr(Base::Param, 4, &[]), idx: VReg(11) },
    ]
}

/// The right code with another instruction at `at`.
fn replaced(at: usize, inst: Inst) -> Vec<Inst> {
    let mut insts = right();
    insts[at] = inst;
    insts
}

/// The right code with one more instruction at `at`.
fn inserted(at: usize, inst: Inst) -> Vec<Inst> {
    let mut insts = right();
    insts.insert(at, inst);
    insts
}

#[track_caller]
fn refused(insts: Vec<Inst>, at: Option<usize>, fault: Fault) {
    let error = verify(&code(insts), LANES).expect_err("a planted fault");
    assert_eq!((error.at, error.fault), (at, fault));
}

#[test]
fn right_code_passes() {
    assert_eq!(verify(&code(right()), LANES).err(), None);
}

#[test]
fn lanes() {
    for got in [0, 12] {
        let error = verify(&code(right()), got).expect_err("a planted fault");
        assert_eq!((error.at, error.fault), (None, Fault::Lanes { got }));
    }
}

#[test]
fn registers_exist() {
    let fault = Fault::NoSuchRegister { reg: 12, registers: 12 };
    refused(inserted(0, constant(12, 1.0)), Some(0), fault.clone());
    refused(inserted(26, op(0, Prim::Add, &[0, 12])), Some(26), fault.clone());
    let acc = [VReg(8), VReg(12)];
    refused(replaced(20, Inst::WideAdd { acc, src: VReg(3) }), Some(20), fault);
}

#[test]
fn registers_are_assigned_before_use() {
    refused(inserted(0, op(1, Prim::Abs, &[4])), Some(0), Fault::Undefined { reg: 4 });
    // The first turn reads what only the turn before would have assigned.
    let insts = inserted(13, op(4, Prim::Neg, &[4]));
    refused(insts, Some(13), Fault::Undefined { reg: 4 });
    // A loop over columns may not run at all.
    refused(inserted(23, store(Base::State, 0, &[], 2)), Some(23), Fault::Undefined { reg: 2 });
    let mut insts = right();
    insts.remove(2);
    refused(insts, Some(19), Fault::Undefined { reg: 9 });
}

#[test]
fn fixed_loops_assign_for_good() {
    // Register 1 comes from the fixed loops and is used behind them.
    assert_eq!(verify(&code(inserted(10, op(4, Prim::Neg, &[1]))), LANES).err(), None);
}

#[test]
fn kinds_match() {
    let mismatch = |reg, expected, got| Fault::KindMismatch { reg, expected, got };
    let cases = [
        (op(3, Prim::Select, &[0, 3, 2]), mismatch(0, "Mask", Kind::Real)),
        (op(3, Prim::Add, &[5, 3]), mismatch(5, "Real", Kind::Mask)),
        (op(3, Prim::IntAdd, &[6, 6]), mismatch(3, "Int", Kind::Real)),
        (store(Base::State, 0, &[], 5), mismatch(5, "Real or Int", Kind::Mask)),
        (Inst::StoreMask { index: 0, src: VReg(0) }, mismatch(0, "Mask", Kind::Real)),
        (constant(6, 1.0), mismatch(6, "Real", Kind::Int)),
        (Inst::ConstInt { dst: VReg(0), value: 1 }, mismatch(0, "Int", Kind::Real)),
        (Inst::ColumnIndex { dst: VReg(0) }, mismatch(0, "Int", Kind::Real)),
        (load(6, Base::Kept, 0, &[]), mismatch(6, "Real", Kind::Int)),
        (
            Inst::Gather { dst: VReg(3), addr: addr(Base::Param, 0, &[]), idx: VReg(0) },
            mismatch(0, "Int", Kind::Real),
        ),
    ];
    for (inst, fault) in cases {
        refused(inserted(19, inst), Some(19), fault);
    }
    let acc = [VReg(8), VReg(9)];
    let insts = replaced(20, Inst::WideAdd { acc, src: VReg(6) });
    refused(insts, Some(20), mismatch(6, "Real", Kind::Int));
}

#[test]
fn arguments_are_counted() {
    let fault = Fault::Arity { op: Prim::Fma, expected: 3, got: 2 };
    refused(replaced(13, op(0, Prim::Fma, &[1, 2])), Some(13), fault);
    static NONE: ScalarFn = ScalarFn { name: "none", arity: 0, f32: |_| 0.0, f64: |_| 0.0 };
    for call in [Prim::Call(&NONE), Prim::CallIf(&NONE)] {
        let fault = Fault::CallArity { name: "none", got: 0 };
        refused(inserted(19, op(3, call, &[])), Some(19), fault);
    }
}

#[test]
fn shifts_are_below_the_width() {
    for shift in [Prim::IntShl(32), Prim::IntShr(32)] {
        let fault = Fault::Shift { bits: 32, got: 32 };
        refused(replaced(24, op(6, shift, &[6])), Some(24), fault);
    }
}

#[test]
fn loops_are_numbered() {
    refused(replaced(5, fixed(0, 2)), Some(5), Fault::LoopNumber { expected: 1, got: 0 });
    refused(replaced(5, fixed(7, 2)), Some(5), Fault::LoopNumber { expected: 1, got: 7 });
}

#[test]
fn loops_nest() {
    refused(replaced(8, end(0)), Some(8), Fault::BadNesting { got: 0, open: Some(1) });
    refused(inserted(10, end(0)), Some(10), Fault::BadNesting { got: 0, open: None });
    let mut insts = right();
    insts.truncate(9);
    refused(insts, None, Fault::Unclosed { id: 0 });
}

#[test]
fn loops_run() {
    refused(replaced(4, fixed(0, 0)), Some(4), Fault::EmptyLoop { id: 0 });
    refused(replaced(10, columns(2, 0)), Some(10), Fault::EmptyLoop { id: 2 });
}

#[test]
fn loops_over_columns_are_outermost() {
    refused(replaced(5, columns(1, 1)), Some(5), Fault::NestedColumns { id: 1 });
    refused(replaced(12, columns(3, 1)), Some(12), Fault::NestedColumns { id: 3 });
}

#[test]
fn columns_only_in_their_loops() {
    refused(inserted(10, Inst::ColumnIndex { dst: VReg(6) }), Some(10), Fault::NoColumn);
    refused(inserted(8, Inst::ColumnIndex { dst: VReg(6) }), Some(8), Fault::NoColumn);
    let insts = vec![
        constant(0, 0.0),
        op(5, Prim::Lt, &[0, 0]),
        Inst::StoreMask { index: 0, src: VReg(5) },
    ];
    refused(insts, Some(2), Fault::NoColumn);
}

#[test]
fn address_terms_name_enclosing_fixed_loops() {
    for (at, id) in [(10, 0), (11, 2), (6, 3), (6, 9)] {
        let address = addr(Base::Kept, 0, &[(id, 1)]);
        let fault = Fault::BadTerm { addr: address.to_string(), id };
        refused(inserted(at, load(1, Base::Kept, 0, &[(id, 1)])), Some(at), fault);
    }
}

#[test]
fn memory_is_read_and_written_where_allowed() {
    for base in [Base::Kept, Base::Reduced, Base::Param] {
        let fault = Fault::BadBase { base, access: "written" };
        refused(replaced(26, store(base, 0, &[], 0)), Some(26), fault.clone());
        let wide = Inst::WideStore { addr: addr(base, 0, &[]), src: [VReg(8), VReg(9)] };
        refused(replaced(28, wide), Some(28), fault);
    }
    let fault = Fault::BadBase { base: Base::Out, access: "read" };
    refused(replaced(11, load(2, Base::Out, 0, &[])), Some(11), fault);
    for base in [Base::Kept, Base::Reduced, Base::State, Base::Out, Base::Scratch] {
        let gather = Inst::Gather { dst: VReg(3), addr: addr(base, 0, &[]), idx: VReg(6) };
        let fault = Fault::BadBase { base, access: "gathered from" };
        refused(replaced(31, gather), Some(31), fault);
    }
    let address = addr(Base::Param, 0, &[(1, 1)]);
    let gather = Inst::Gather { dst: VReg(3), addr: address.clone(), idx: VReg(6) };
    let fault = Fault::NotConstant { addr: address.to_string() };
    refused(inserted(6, gather), Some(6), fault);
}

#[test]
fn scratch_addresses_stay_within() {
    // The right code covers 0..40 with offset 8: one element more on either side is refused.
    for (offset, first, end) in [(7, -1, 39), (9, 1, 41)] {
        let terms = [(0, 12), (1, -8)];
        let address = addr(Base::Scratch, offset, &terms).to_string();
        let fault = Fault::ScratchExtent { addr: address, first, end, scratch: 40 };
        refused(replaced(7, store(Base::Scratch, offset, &terms, 1)), Some(7), fault);
    }
    // One element for all lanes needs less room than a vector, two halves more.
    let last =
        |broadcast| Inst::Load { dst: VReg(1), addr: addr(Base::Scratch, 39, &[]), broadcast };
    assert_eq!(verify(&code(replaced(6, last(true))), LANES).err(), None);
    let extent = |offset, end| Fault::ScratchExtent {
        addr: addr(Base::Scratch, offset, &[]).to_string(),
        first: offset.into(),
        end,
        scratch: 40,
    };
    refused(replaced(6, last(false)), Some(6), extent(39, 47));
    let wide = |offset| {
        let addr = addr(Base::Scratch, offset, &[]);
        replaced(28, Inst::WideStore { addr, src: [VReg(8), VReg(9)] })
    };
    assert_eq!(verify(&code(wide(24)), LANES).err(), None);
    refused(wide(25), Some(28), extent(25, 41));
    // Numbers that would overflow 64 bits.
    let terms = vec![(0, i32::MAX); 40];
    let mut insts = replaced(6, load(1, Base::Scratch, 0, &terms));
    insts[4] = fixed(0, u32::MAX);
    let error = verify(&code(insts), LANES).expect_err("a planted fault");
    assert!(matches!(error.fault, Fault::ScratchExtent { .. }), "{error}");
}

#[test]
fn addresses_begin_with_their_memory() {
    for base in [Base::Kept, Base::State] {
        let address = addr(base, 7, &[(0, -4)]);
        let fault = Fault::BeforeStart { addr: address.to_string(), first: -1 };
        refused(replaced(6, load(1, base, 7, &[(0, -4)])), Some(6), fault);
        assert_eq!(verify(&code(replaced(6, load(1, base, 8, &[(0, -4)]))), LANES).err(), None);
    }
}

#[test]
fn indices_of_gathers_are_bounded() {
    let fault = Fault::Unbounded { reg: 11 };
    refused(replaced(30, op(11, Prim::IntOr, &[6, 10])), Some(31), fault.clone());
    refused(replaced(29, Inst::ConstInt { dst: VReg(10), value: -1 }), Some(31), fault.clone());
    refused(replaced(29, Inst::ColumnIndex { dst: VReg(10) }), Some(29), Fault::NoColumn);
    // What is assigned again may be anything at the next turn of a loop.
    let again = Inst::ConstInt { dst: VReg(10), value: 7 };
    refused(inserted(32, again), Some(31), fault.clone());
    refused(inserted(32, op(11, Prim::IntShl(1), &[6])), Some(31), fault);
}

#[test]
fn extents_are_those_of_the_addresses() {
    let extents = |insts| verify(&code(insts), LANES).expect("it is right");
    let all = extents(right());
    let of = |columns: usize| Base::ALL.map(|base| all.of(base, columns));
    // Kept: 2 · 8 and a vector; parameters: 4 and 8 entries; state: 16 and two vectors; scratch
    // as declared. A turn of two columns reads and writes a vector from its first on.
    assert_eq!(of(0), [24, 0, 12, 32, 0, 40]);
    assert_eq!(of(1), [24, 0, 12, 32, 0, 40]);
    assert_eq!(of(2), [24, 8, 12, 32, 8, 40]);
    assert_eq!(of(5), [24, 3 * 4 + 8, 12, 32, 3 * 8 + 8, 40]);
    // The last of the four masks of a turn.
    assert_eq!([0, 1, 2, 5].map(|c| all.masks(c)), [0, 0, 4, 10]);
    // Before all columns, behind them, and in a second loop over the rest.
    let out = |at: usize| extents(inserted(at, store(Base::Out, 40, &[], 0)));
    assert_eq!([0, 1, 2, 20].map(|c| out(10).of(Base::Out, c)), [48, 48, 48, 18 * 8 + 8]);
    assert_eq!([0, 1, 5].map(|c| out(24).of(Base::Out, c)), [0, 48, 4 * 8 + 48]);
    assert_eq!([0, 1, 5].map(|c| out(26).of(Base::Out, c)), [48, 56, 88]);
    // Two words a mask where vectors are that wide.
    let mut wide = code(right());
    wide.scratch = 400;
    let wide = verify(&wide, 64).expect("it is right");
    assert_eq!([1, 2, 5].map(|c| wide.masks(c)), [0, 8, 20]);
}

#[test]
fn mask_indices_stay_within() {
    for got in [4, -1] {
        let fault = Fault::MaskIndex { got, limit: 4 };
        refused(replaced(16, Inst::StoreMask { index: got, src: VReg(5) }), Some(16), fault);
    }
}

#[test]
fn wide_accumulators_need_single_precision() {
    let mut double = code(right());
    double.ty = Ty::F64;
    let error = verify(&double, LANES).expect_err("a planted fault");
    assert_eq!((error.at, error.fault), (Some(20), Fault::WideInF64));
}

#[test]
fn wide_accumulators_are_nothing_else() {
    let misuse = |reg, why| Fault::WideMisuse { reg, why };
    let read = "it is read as a vector";
    refused(inserted(26, op(0, Prim::Abs, &[8])), Some(26), misuse(8, read));
    let assigned = "it is assigned a vector";
    refused(inserted(26, op(9, Prim::Abs, &[0])), Some(26), misuse(9, assigned));
    let start = "it starts with a constant other than +0";
    refused(replaced(1, constant(8, -0.0)), Some(1), misuse(8, start));
    let pairs = "paired in two ways";
    for src in [[VReg(9), VReg(8)], [VReg(8), VReg(7)], [VReg(8), VReg(8)]] {
        let insts = replaced(28, Inst::WideStore { addr: addr(Base::State, 16, &[]), src });
        let reg = src[0].0;
        refused(insts, Some(28), misuse(reg, pairs));
    }
}

#[test]
fn errors_name_the_instruction() {
    let error = verify(&code(replaced(13, op(0, Prim::Fma, &[1, 4, 0]))), LANES);
    assert_eq!(
        error.expect_err("a planted fault").to_string(),
        "vector code is wrong at instruction 13, \"r0 = Fma r1, r4, r0\": \
         register 4 is read before it is assigned"
    );
}
