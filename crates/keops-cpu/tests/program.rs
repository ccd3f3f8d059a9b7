//! Programs that went through their text run as those that were lowered.

use keops_core::conformance::cases;
use keops_core::error::CompileError;
use keops_core::lower::{LowerOptions, ROLL, lower};
use keops_core::program::Program;
use keops_core::spec::Executable;
use keops_core::vecmath::Scaling;
use keops_cpu::{Cpu, Level};
use proptest::prelude::*;

const OPTIONS: LowerOptions =
    LowerOptions { expand: true, scaling: Scaling::Exact, factor_sums: false, roll: ROLL };

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn parsed_programs_run(case in cases()) {
        let problem = case.build().unwrap();
        let spec = &problem.spec;
        let args = problem.checked(false).unwrap();
        let cpu = Cpu::with_level(Level::Portable).unwrap();
        let text = lower(spec, OPTIONS).unwrap().to_string();
        let parsed: Program = text.parse().unwrap();
        let ours = match cpu.compile_program(spec, parsed) {
            // (Sums in f64 of f32 data.)
            Err(CompileError::Unsupported { .. }) => return Ok(()),
            other => other.unwrap(),
        };
        let mut expected = args.allocate(spec).unwrap();
        let mut got = args.allocate(spec).unwrap();
        let plain = cpu.compile_program(spec, lower(spec, OPTIONS).unwrap()).unwrap();
        plain.run(&args, &mut expected).unwrap();
        ours.run(&args, &mut got).unwrap();
        prop_assert_eq!(format!("{got:?}"), format!("{expected:?}"), "{}", text);
    }
}

#[test]
fn programs_by_hand() {
    use keops_core::data::{Buffer, DType, Element};
    use keops_core::parse::parse_formula;
    use keops_core::spec::{Axis, CheckedArgs};
    let f = parse_formula("x * y", None, &["x = Vi(1)", "y = Vj(1)"]).unwrap();
    let spec = f.spec(&keops_core::reduce::SUM, Axis::J, DType::F64);
    let text = "
        program f64 sum, keys 0, sums 1, results 1
        param 0
        kept 1 = argument 0 at 0 of 1
        reduced 1 = argument 1 at 0 of 1
        add, buffer 0:
          %0 = Kept[0]
          %1 = Reduced[0]
          // x + y² instead
          %2 = Fma %1 %1 %0
          emit [0] %2
        finalise, buffer 0:
          %0 = Sums[0]
          Result[0] = %0";
    let cpu = Cpu::new();
    let run = |text: &str| cpu.compile_program(&spec, text.parse().unwrap());
    let x = ndarray::array![[1.0], [2.0]].into_dyn();
    let y = ndarray::array![[3.0], [4.0], [5.0]].into_dyn();
    let args = vec![f64::erase(x.view()), f64::erase(y.view())];
    let args = CheckedArgs::new(&spec, args, None, None, None).unwrap();
    let mut out = args.allocate(&spec).unwrap();
    run(text).unwrap().run(&args, &mut out).unwrap();
    let Buffer::F64(out) = &out[0] else { panic!("{out:?}") };
    assert_eq!(*out, ndarray::array![[53.0], [56.0]].into_dyn());
    // Programs for something else.
    let refused = |from: &str, to: &str, why: &str| match run(&text.replace(from, to)) {
        Err(e) => assert!(e.to_string().contains(why), "{e}"),
        Ok(_) => panic!("{to} is accepted"),
    };
    refused("f64", "f32", "F32 for F64 data");
    refused("argument 1", "argument 2", "J has no Field");
    refused("argument 1 at", "argument 0 at", "J has no Field");
    refused("Fma %1 %1 %0", "op Atan2 %1 %0", "not expanded");
    let two = text
        .replace("results 1", "results 2")
        .replace("Result[0] = %0", "Result[0] = %0\nResult[1] = %0");
    assert!(run(&two).is_err_and(|e| e.to_string().contains("2 results of 1")));
}
