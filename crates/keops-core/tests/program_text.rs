//! Programs of random formulas print and parse.

use keops_core::conformance::cases;
use keops_core::lower::{LowerOptions, lower};
use keops_core::parse::parse_formula;
use keops_core::program::{Op, Program, SInst};
use keops_core::spec::Axis;
use keops_core::vecmath::Scaling;
use proptest::prelude::*;

fn returns(p: &Program) {
    let text = p.to_string();
    let back: Program = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert!(back == *p, "the text gives another program\n{text}");
    assert_eq!(back.to_string(), text);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn programs_of_random_formulas(
        case in cases(),
        expand: bool,
        scaling in prop::sample::select(vec![Scaling::Exact, Scaling::AbsorbsNan, Scaling::Integer]),
        factor_sums: bool,
    ) {
        let problem = case.build().unwrap();
        let options = LowerOptions { expand, scaling, factor_sums, ..Default::default() };
        returns(&lower(&problem.spec, options).unwrap());
    }

    /// Any text gives a program or an error: here programs with something else in one place.
    #[test]
    fn texts_that_are_changed(case in cases(), at: prop::sample::Index, with in "[-+*%=\\[\\]a-zA-Z0-9 \n]{0,4}") {
        let problem = case.build().unwrap();
        let text = lower(&problem.spec, LowerOptions::default()).unwrap().to_string();
        let at = at.index(text.len());
        let changed = format!("{}{with}{}", &text[..at], &text[at + 1..]);
        if let Ok(p) = changed.parse::<Program>() {
            returns(&p);
        }
    }
}

/// A program of a formula over x = Vi(1), y = Vj(1).
fn program(formula: &str, expand: bool) -> Program {
    let f = parse_formula(formula, None, &["x = Vi(1)", "y = Vj(1)"]).unwrap();
    let spec = f.spec(&keops_core::reduce::SUM, Axis::J, keops_core::data::DType::F64);
    lower(&spec, LowerOptions { expand, ..Default::default() }).unwrap()
}

#[test]
fn constants_return_to_the_bit() {
    let mut p = program("Abs(x * y) + 2.5", false);
    let k = p.add.insts.iter().position(|i| matches!(i, SInst::Def { op: Op::Real(_), .. }));
    let k = k.expect("a constant");
    let values = [
        0.1,
        -0.0,
        f64::MIN_POSITIVE / 3.0,
        -f64::MAX,
        1e-300,
        6.02214076e23,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        -f64::NAN,
        f64::from_bits(0x7ff0_0000_0000_0001),
    ];
    for v in values {
        let SInst::Def { op, .. } = &mut p.add.insts[k] else { unreachable!() };
        *op = Op::Real(v);
        returns(&p);
        let text = p.to_string();
        let SInst::Def { op: Op::Real(back), .. } = text.parse::<Program>().unwrap().add.insts[k]
        else {
            unreachable!()
        };
        assert_eq!(back.to_bits(), v.to_bits(), "{text}");
    }
}

#[test]
fn scalar_functions_are_found() {
    let text = program("Sin(x * y) + Powf(x, y)", true).to_string();
    assert!(text.contains("call if "), "{text}");
    returns(&text.parse().unwrap());
}

#[test]
fn long_series() {
    let f = parse_formula("SoftDTW_SqDist(Var(0, 20, 0), Var(1, 20, 1), 0.1)", None, &[]).unwrap();
    let c =
        keops_core::outer::Computation::reduction(f, &keops_core::reduce::SUM, 1, Axis::J).unwrap();
    for id in c.graph().live(&[c.outputs()[0].port]) {
        if let keops_core::outer::OuterNode::Reduce(r) = c.graph().node(id) {
            let spec = r.spec(keops_core::data::DType::F32, vec!["x".into(), "y".into()]);
            returns(&lower(&spec, LowerOptions { expand: true, ..Default::default() }).unwrap());
        }
    }
}
