//! The generator has to reach everything, and a comparison has to notice faults.

use std::collections::HashSet;

use super::*;

fn cases(count: u64) -> impl Iterator<Item = RandomCase> {
    (0..count).map(|k| {
        let ty = if k % 2 == 0 { Ty::F32 } else { Ty::F64 };
        RandomCase::new(k, ty, 8, 80)
    })
}

#[test]
fn every_instruction_occurs() {
    let mut seen = HashSet::new();
    for case in cases(400) {
        for inst in &case.code.insts {
            seen.insert(match inst {
                // Shifts count once, whatever their distance.
                Inst::Op { op: Prim::IntShl(_), .. } => "IntShl(3)".to_string(),
                Inst::Op { op: Prim::IntShr(_), .. } => "IntShr(5)".to_string(),
                Inst::Op { op, .. } => format!("{op:?}"),
                Inst::Load { addr, broadcast, .. } => format!(
                    "load {} {broadcast} {}",
                    addr.base,
                    if addr.terms.len() > 1 { "affine" } else { "" }
                ),
                Inst::Store { addr, .. } => format!("store {}", addr.base),
                Inst::Begin { kind: LoopKind::Fixed(_), .. } => "fixed".into(),
                Inst::Begin { kind: LoopKind::Columns { step }, .. } => format!("columns {step}"),
                other => format!("{other:?}").split(' ').next().unwrap_or_default().to_string(),
            });
        }
    }
    let mut expected: Vec<String> = all_prims().iter().map(|op| format!("{op:?}")).collect();
    for base in ["kept", "reduced", "param", "state", "scratch"] {
        for broadcast in [true, false] {
            expected.push(format!("load {base} {broadcast} "));
            expected.push(format!("load {base} {broadcast} affine"));
        }
    }
    expected.extend(
        [
            "store state",
            "store out",
            "store scratch",
            "fixed",
            "columns 1",
            "columns 2",
            "columns 4",
            "Const",
            "ConstInt",
            "StoreMask",
            "Gather",
            "ColumnIndex",
            "WideAdd",
            "WideStore",
            "End",
        ]
        .map(String::from),
    );
    let missing: Vec<_> = expected.iter().filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "never generated: {missing:?}");
}

#[test]
fn values_are_seldom_nan() {
    let (mut nan, mut all) = (0, 0);
    for case in cases(100) {
        let written = case.run_reference();
        for k in case.dump.clone().filter(|&k| case.state_class(k as i64) == Class::Real) {
            nan += usize::from(is_nan(case.code.ty, written.state.get(k as i64)));
            all += 1;
        }
    }
    assert!(nan * 3 < all, "{nan} of {all} results are NaN");
}

#[test]
fn a_wrong_operation_is_noticed() {
    let (mut planted, mut noticed) = (0, 0);
    for mut case in cases(100) {
        let expected = case.run_reference();
        let swapped = |op: Prim| match op {
            Prim::Add => Some(Prim::Sub),
            Prim::Fma => Some(Prim::Fms),
            Prim::Mul => Some(Prim::Add),
            Prim::Floor => Some(Prim::Abs),
            Prim::IntXor => Some(Prim::IntAdd),
            _ => None,
        };
        let ops = case.code.insts.iter_mut().rev().filter_map(|inst| match inst {
            Inst::Op { op, .. } => Some((swapped(*op)?, op)),
            _ => None,
        });
        let Some((wrong, op)) = ops.into_iter().next() else { continue };
        *op = wrong;
        planted += 1;
        noticed += usize::from(case.difference(&case.run_reference(), &expected).is_some());
    }
    // The rest compute the same from the values at hand, or nobody reads them.
    assert!(planted >= 90 && noticed * 2 > planted, "{noticed} of {planted} noticed");
}

#[test]
fn memory_beside_the_buffers_is_compared() {
    let case = RandomCase::new(1, Ty::F32, 8, 20);
    let expected = case.run_reference();
    for at in [-1, -(GUARD as i64), case.start.state.elements as i64 - GUARD as i64 - 1] {
        let got = case.run(|frame| {
            // SAFETY: the code stays within the buffers, the guards are part of them.
            unsafe {
                interpret(&case.code, case.lanes, frame);
                frame.state.cast::<f32>().offset(at as isize).write(1.0);
            }
        });
        assert!(case.difference(&got, &expected).is_some(), "write at {at} not noticed");
    }
}

/// Sets every element from `extent` on, those behind the end included.
fn poison(buffer: &mut Buffer, extent: usize, bits: u64) {
    (extent..buffer.elements - GUARD).for_each(|at| buffer.set(at, bits));
}

#[test]
fn nothing_beyond_the_extents_is_touched() {
    let (mut tight, mut gathers) = (0, 0);
    for mut case in cases(200) {
        let extents = verify(&case.code, case.lanes).expect("generated code is right");
        let of = |base| extents.of(base, case.columns);
        gathers += case.code.insts.iter().filter(|i| matches!(i, Inst::Gather { .. })).count();
        let expected = case.run_reference();
        // What lies beyond is read by nobody: two contents give the same.
        for bits in [0x7171_7171_7171_7171, 0x3F3F_3F3F_3F3F_3F3F] {
            poison(&mut case.kept, of(Base::Kept), bits);
            poison(&mut case.reduced, of(Base::Reduced), bits);
            poison(&mut case.param, of(Base::Param), bits);
            poison(&mut case.start.state, of(Base::State), bits);
            poison(&mut case.start.out, of(Base::Out), bits);
            poison(&mut case.start.masks, extents.masks(case.columns), bits);
            poison(&mut case.start.scratch, of(Base::Scratch), bits);
            let got = case.run_reference();
            let parts = [
                (&got.state, &expected.state, of(Base::State)),
                (&got.out, &expected.out, of(Base::Out)),
                (&got.masks, &expected.masks, extents.masks(case.columns)),
                (&got.scratch, &expected.scratch, of(Base::Scratch)),
            ];
            let word = |b: &Buffer| bits >> (64 - 8 * b.element);
            for (got, expected, extent) in parts {
                for at in 0..(got.elements - GUARD) as i64 {
                    let expected =
                        if at < extent as i64 { expected.get(at) } else { word(expected) };
                    assert_eq!(
                        got.get(at),
                        expected,
                        "seed {}, element {at}\n{}",
                        case.seed,
                        case.code
                    );
                }
            }
        }
        // The last element is touched.
        let last = of(Base::State) as i64 - 1;
        tight += i32::from(expected.state.get(last) != case.start.state.get(last));
    }
    assert!(tight > 150 && gathers > 50, "{tight} {gathers}");
}
