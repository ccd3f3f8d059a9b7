//! Programs that were changed at random are refused, or run: never a panic, on any level.

use keops_core::data::{DType, Element};
use keops_core::genred::Reduce;
use keops_core::lower::{LowerOptions, lower};
use keops_core::parse::parse_formula;
use keops_core::program::{Program, TextError};
use keops_core::random::Random;
use keops_core::reduce::{ARG_K_MIN, ARG_MIN, LOG_SUM_EXP, SUM};
use keops_core::spec::{Axis, CheckedArgs, Executable, ReduceSpec};
use keops_cpu::{Cpu, Level};
use ndarray::{ArrayD, IxDyn};

fn specs() -> Vec<ReduceSpec> {
    let aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "p = Pm(9)"];
    let formulas: [(&str, Reduce); 6] = [
        ("SumT(x[0] * y[1] * b[0], 12)", (&ARG_MIN).into()),
        ("x * y + Sin(p[0:3])", (&ARG_K_MIN, 2).into()),
        ("Exp(-SqDist(x, y)) * b", (&SUM).into()),
        ("TensorProd(x, y) * p", (&SUM).into()),
        ("MatVecMult(p, x) | y", (&LOG_SUM_EXP).into()),
        ("Gather(Exp(p), TensorProd(x, y)) | Concat(p, b)[1:10]", (&SUM).into()),
    ];
    let spec = |(k, (text, reduce)): (usize, (&str, Reduce))| {
        let f = parse_formula(text, None, &aliases).unwrap_or_else(|e| panic!("{e}"));
        let reduction = reduce.basic().expect("one that backends run");
        let dtype = if k % 2 == 0 { DType::F32 } else { DType::F64 };
        ReduceSpec { k: reduce.k, ..f.spec(reduction, Axis::J, dtype) }
    };
    formulas.into_iter().enumerate().map(spec).collect()
}

/// Runs a program on every level; what it gives is its own business.
fn run<T: Element>(spec: &ReduceSpec, program: &Program, text: &str) -> usize {
    let array = |shape: &[usize]| {
        let mut k = 0;
        ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            k += 1;
            T::of_f64(k as f64 * 0.25)
        })
    };
    let all = [array(&[5, 3]), array(&[7, 3]), array(&[7, 2]), array(&[9])];
    let args = all.iter().map(|a| T::erase(a.view())).collect();
    let args = CheckedArgs::new(spec, args, None, None, None).expect("arguments of the formula");
    let mut ran = 0;
    for level in Level::available() {
        let cpu = Cpu::with_level(level).expect("available");
        let Ok(compiled) = cpu.compile_program(spec, program.clone()) else { continue };
        let mut out = args.allocate(spec).expect("memory");
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = compiled.run(&args, &mut out);
        }));
        assert!(done.is_ok(), "{} panics on{text}", level.name());
        ran += 1;
    }
    ran
}

/// One change: a line is left out, doubled or moved, or a number in it is another one.
fn mutate(text: &str, random: &mut Random) -> String {
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    let mut below = |n: usize| random.below(n);
    let at = 4 + below(lines.len() - 4);
    match below(7) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => {
            let (line, to) = (lines.remove(at), 4 + below(lines.len() - 4));
            lines.insert(to, line);
        }
        _ => {
            let line = lines[at].clone();
            let digits: Vec<usize> =
                line.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(k, _)| k).collect();
            if let Some(&k) = digits.get(below(digits.len().max(1))) {
                let other = ["0", "1", "2", "3", "8", "11", "12", "-1", "65536"][below(9)];
                lines[at] = format!("{}{other}{}", &line[..k], &line[k + 1..]);
            }
        }
    }
    lines.join("\n")
}

#[test]
fn mutated_programs_are_refused_or_run() {
    let mut random = Random::new(5);
    let (mut refused, mut ran) = (0, 0);
    for spec in specs() {
        let whole = lower(&spec, LowerOptions { expand: true, roll: 6, ..LowerOptions::default() });
        let whole = whole.expect("a program").to_string();
        for _ in 0..400 {
            let mut text = mutate(&whole, &mut random);
            if random.below(2) == 0 {
                text = mutate(&text, &mut random);
            }
            let Ok(program) = text.parse::<Program>() else {
                refused += 1;
                continue;
            };
            ran += match spec.dtype {
                DType::F32 => run::<f32>(&spec, &program, &text),
                _ => run::<f64>(&spec, &program, &text),
            };
        }
    }
    // Neither is the rule.
    assert!(refused > 800 && ran > 400, "{refused} refused, {ran} ran");
}

/// A key of each pair, of one component in each turn of a loop.
const KEY: &str = "
program f64 select 1 Min index, keys 12, sums 0, results 0
param 9 = argument 3 at 0 of 9
kept 3 = argument 0 at 0 of 3
reduced 3 = argument 1 at 0 of 3
key, buffer 12:
  %0 = Kept[0]
  loop l1 < 12
  loop l0 < 12
    Buffer[0 + 1*l0] = %0
  end l0
  loop l0 < 12
    %1 = Buffer[0 + 1*l0]
    emit [0 + 1*l0] %1
  end l0
  end l1
";

#[test]
fn keys_are_emitted_once() {
    let refused = |text: &str, why: &str| match text.parse::<Program>() {
        Err(TextError::Rule(e)) => assert!(e.fault.contains(why), "{e}"),
        other => panic!("{other:?}\n{text}"),
    };
    refused(KEY, "is emitted to in each turn of loop l1");
    refused(&KEY.replace("emit [0 + 1*l0]", "emit [0 + 0*l0 + 1*l1]"), "turn of loop l0");
    let once = KEY.replace("  loop l1 < 12\n", "").replace("  end l1\n", "");
    assert!(once.parse::<Program>().is_ok());
    refused(&once.replace("emit [0 +", "emit [1 +"), "1..=12 of 12");
    refused(&once.replace("    emit [0 + 1*l0] %1\n", ""), "0 of 12 are written");
    refused(&once.replacen("loop l0 < 12", "loop l0 < 11", 1), "loaded before it is stored to");
    // One turn is no loop.
    assert!(KEY.replace("loop l1 < 12", "loop l1 < 1").parse::<Program>().is_ok());
}

/// Derived values are loaded by their own section only after they are stored.
#[test]
fn derived_values_are_there_before_they_are_loaded() {
    let text = "
program f64 sum, keys 0, sums 1, results 1
param 2 = argument 3 at 0 of 1
kept 1 = argument 0 at 0 of 1
reduced 1 = argument 1 at 0 of 1
once, buffer 0:
  %0 = Param[0]
  Param[1] = %0
  %1 = Param[1]
  Param[1] = %1
add, buffer 0:
  %0 = Reduced[0]
  emit [0] %0
finalise, buffer 0:
  %0 = Sums[0]
  Result[0] = %0
";
    assert!(text.parse::<Program>().is_ok());
    let early = text.replace("  %0 = Param[0]\n  Param[1] = %0\n", "");
    let early = early.replace("%1", "%0");
    assert!(matches!(early.parse::<Program>(), Err(TextError::Rule(e)) if e.section == "once"));
}
