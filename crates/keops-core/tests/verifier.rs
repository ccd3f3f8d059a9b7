//! Every rule of the verifier: a program that keeps it passes, one that breaks it does not.

use keops_core::prim::Kind;
use keops_core::program::{Program, TextError};
use keops_core::verify::verify;

/// Sums of 20 components, a derived value of each side, a table and a buffer.
const SUM: &str = "
program f32 sum, keys 0, sums 21, results 21
factored, tame 2
param 5 = argument 3 at 0 of 4
kept 2 = argument 2 at 0 of 1
  input 20 = argument 0 at 0 of 20
reduced 21 = argument 1 at 0 of 20, row number at 20 of 1
once, buffer 0:
  %0 = Param[0]
  %1 = op Exp %0
  Param[4] = %1
per kept, buffer 20:
  %0 = real 0.0
  acc %1 = %0
  loop l0 < 20
    %2 = KeptInput[0 + 1*l0]
    Buffer[0 + 1*l0] = %2
  end l0
  loop l0 < 20
    %3 = Buffer[19 + -1*l0]
    %4 = Add %1 %3
    acc %1 := %4
  end l0
  Kept[1] = %1
add, buffer 0:
  %0 = Kept[1]
  %1 = real 3.0
  %2 = Lt %0 %1
  %3 = ToInt %0
  %4 = int 3
  %5 = IntAnd %3 %4
  %6 = gather 4 from 0 %5
  %7 = IntShl(31) %3
  %8 = FromInt %7
  loop l0 < 20
    %9 = Reduced[0 + 1*l0]
    %10 = Select %2 %9 %6
    emit [0 + 1*l0] %10
  end l0
  emit [20] %8
finalise, buffer 0:
  %0 = Kept[0]
  loop l0 < 21
    %1 = Sums[0 + 1*l0]
    %2 = Mul %1 %0
    Result[0 + 1*l0] = %2
  end l0
";

const PIVOT: &str = "
program f64 pivot sum, keys 1, sums 1, results 1
param 0
kept 1 = argument 0 at 0 of 1
reduced 1 = argument 1 at 0 of 1
key, buffer 0:
  %0 = Kept[0]
  %1 = Reduced[0]
  %2 = Mul %0 %1
  emit [0] %2
add, buffer 0:
  %0 = Key[0]
  %1 = Pivot[0]
  %2 = Sub %0 %1
  %3 = op Exp %2
  emit [0] %3
rebase, buffer 0:
  %0 = Sums[0]
  %1 = Pivot[0]
  %2 = Pivot[1]
  %3 = Sub %2 %1
  %4 = op Exp %3
  %5 = Mul %0 %4
  Sums[0] = %5
finalise, buffer 0:
  %0 = Sums[0]
  %1 = Pivot[0]
  %2 = op Log %0
  %3 = Add %2 %1
  Result[0] = %3
";

const SELECT: &str = "
program f32 select 3 Min many value index, keys 2, sums 0, results 0
param 0
kept 1 = argument 0 at 0 of 1
reduced 0
key, buffer 0:
  %0 = Kept[0]
  emit [0] %0
  %1 = counter 2
  %2 = FromInt %1
  emit [1] %2
";

fn good(text: &str) -> Program {
    let p: Program = text.parse().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(p.to_string(), text[1..]);
    p
}

#[test]
fn whole_programs_pass() {
    for text in [SUM, PIVOT, SELECT] {
        assert_eq!(verify(&good(text)), Ok(()));
    }
}

#[test]
fn nothing_can_be_left_out() {
    for text in [SUM, PIVOT, SELECT] {
        let lines: Vec<&str> = text.lines().collect();
        for (k, line) in lines.iter().enumerate().filter(|(_, l)| l.starts_with("  ")) {
            // An accumulator may stay as it is, an addend 0.
            if line.contains(":=") || text != SELECT && line.contains("emit") {
                continue;
            }
            let mut rest = lines.clone();
            rest.remove(k);
            assert!(rest.join("\n").parse::<Program>().is_err(), "without {line}");
        }
    }
}

/// Replaces the first `from` by `to`; the error must be that of the verifier, with `expected`.
#[track_caller]
fn refused(text: &str, from: &str, to: &str, expected: &str) {
    assert!(text.contains(from), "{from} is not in the program");
    match text.replacen(from, to, 1).parse::<Program>() {
        Err(TextError::Rule(e)) => {
            let e = e.to_string();
            assert!(e.contains(expected), "{from} -> {to}: {e}, not {expected}");
        }
        other => panic!("{from} -> {to}: {other:?}"),
    }
}

/// Rows of a program, what is replaced by what, and the error.
#[track_caller]
fn all_refused(rows: &[(&str, &str, &str, &str)]) {
    rows.iter().for_each(|(text, from, to, expected)| refused(text, from, to, expected));
}

#[test]
fn sizes_fit_the_mode() {
    all_refused(&[
        (SUM, "keys 0", "keys 1", "keys, sums, results [1, 21, 21]"),
        (SUM, "sums 21", "sums 0", "keys, sums, results"),
        (SUM, "results 21", "results 9999999999", "keys, sums, results"),
        (PIVOT, "keys 1", "keys 2", "keys, sums, results"),
        (PIVOT, "results 1", "results 0", "keys, sums, results"),
        (SELECT, "keys 2", "keys 0", "keys, sums, results"),
        (SELECT, "sums 0", "sums 1", "keys, sums, results"),
        (SELECT, "select 3", "select 0", "keys, sums, results"),
        (SELECT, "many ", "", "keys, sums, results"),
        (SELECT, "value index", "", "keys, sums, results"),
    ]);
}

#[test]
fn records_are_packed() {
    all_refused(&[
        (SUM, "row number at 20", "row number at 19", "reduced record: field"),
        (SUM, "row number at 20 of 1", "row number at 20 of 2", "reduced record: field"),
        (SUM, "row number at 20", "argument 1 at 20", "reduced record: field"),
        (SUM, "argument 3 at 0 of 4", "argument 3 at 0 of 0", "param record: field"),
        (SUM, "reduced 21", "reduced 20", "reduced record: 21 elements of 20"),
        (SUM, "reduced 21", "reduced 9999999999999", "reduced record: 21 elements of"),
        (SUM, "input 20", "input 21", "input fields fill 20 of 21"),
    ]);
    let mut p = good(SUM);
    p.param.input_fields = p.kept.input_fields.clone();
    p.param.input_len = 20;
    assert!(verify(&p).unwrap_err().fault.contains("parameters have no input"));
}

#[test]
fn sections_belong_to_the_mode() {
    refused(PIVOT, "pivot sum, keys 1", "sum, keys 0", "no section key");
    refused(SELECT, "emit [1] %2", "emit [1] %2\nadd, buffer 0:\n  %0 = Kept[0]", "no section add");
}

#[test]
fn loops_nest() {
    all_refused(&[
        (SUM, "loop l0 < 20", "loop l0 < 0", "loop l0 of 0 turns"),
        (SUM, "loop l0 < 20", "loop l0 < 20\n  loop l0 < 20", "loop l0 of 20 turns"),
        (SUM, "loop l0 < 20", "loop l0 < 4294967296", "loop l0 of 4294967296 turns"),
        (SUM, "end l0", "end l1", "loop l1 is not the innermost"),
        (SUM, "  end l0\n  Kept[1] = %1", "  Kept[1] = %1", "an open loop"),
    ]);
}

#[test]
fn values_are_defined_where_they_are_used() {
    all_refused(&[
        (SUM, "%4 = Add %1 %3", "%4 = Add %1 %5", "%5 is not defined"),
        (SUM, "Kept[1] = %1", "Kept[1] = %3", "%3 is not defined"),
        (SUM, "%2 = Lt %0 %1", "%2 = Lt %3 %1", "%3 is not defined"),
        (SUM, "emit [20] %8", "emit [20] %10", "%10 is not defined"),
        (PIVOT, "%2 = Mul %0 %1", "%1 = Mul %0 %1\n  %2 = Neg %0", "%1 is defined twice"),
        (SUM, "acc %1 := %4", "acc %0 := %4", "%0 is no accumulator"),
    ]);
    let mut p = good(SUM);
    p.add.kinds.push(Kind::Real);
    assert!(verify(&p).unwrap_err().fault.contains("12 kinds of 11 values"));
}

#[test]
fn kinds_are_those_of_the_operations() {
    all_refused(&[
        (SUM, "%5 = IntAnd %3 %4", "%5 = IntAnd %3 %0", "IntAnd takes"),
        (SUM, "%5 = IntAnd %3 %4", "%5 = IntAnd %3", "IntAnd takes"),
        (SUM, "%1 = op Exp %0", "%1 = op Exp %0 %0", "op Exp takes"),
        (SUM, "gather 4 from 0 %5", "gather 4 from 0 %0", "gather 4 from 0 takes"),
        (SUM, "%0 = Kept[1]", "%0 = Kept[1] %0", "%0 is not defined"),
        (SUM, "%4 = int 3\n", "%4 = int 3 %3\n", "int 3 takes"),
        (SUM, "emit [20] %8", "emit [20] %2", "%2 is Mask, not Real"),
        (PIVOT, "Sums[0] = %5", "%6 = ToInt %5\n  Sums[0] = %6", "%6 is Int, not Real"),
        (SUM, "acc %1 := %4", "%5 = ToInt %4\n  acc %1 := %5", "no accumulator of Int"),
        (SUM, "IntShl(31)", "IntShl(32)", "IntShl(32) of 32 bits"),
    ]);
    let mut p = good(SUM);
    p.add.kinds[2] = Kind::Real;
    assert!(verify(&p).unwrap_err().fault.contains("%2 is Mask, declared as Some(Real)"));
}

#[test]
fn addresses_stay_within_memory() {
    all_refused(&[
        (SUM, "KeptInput[0 + 1*l0]", "KeptInput[1 + 1*l0]", "KeptInput 1..=20 of 20"),
        (SUM, "Buffer[19 + -1*l0]", "Buffer[18 + -1*l0]", "Buffer -1..=18 of 20"),
        (SUM, "Buffer[0 + 1*l0] =", "Buffer[0 + 2*l0] =", "Buffer 0..=38 of 20"),
        (SUM, "buffer 20", "buffer 19", "Buffer 0..=19 of 19"),
        (SUM, "Buffer[0 + 1*l0] =", "Buffer[0 + 0*l0] =", "loaded before it is stored to"),
        (SUM, "Param[0]", "Param[5]", "Param 5..=5 of 5"),
    ]);
    let far = "Buffer[0 + 9223372036854775807*l0] =";
    all_refused(&[
        (SUM, "Buffer[0 + 1*l0] =", far, "of 20"),
        (SUM, "Kept[1] = %1", "Kept[1 + 1*l0] = %1", "loop l0 is not open"),
        (SUM, "gather 4 from 0", "gather 6 from 0", "table 0..6 of 5"),
        (SUM, "gather 4 from 0", "gather 4 from -1", "table -1..3 of 5"),
        (SUM, "gather 4 from 0", "gather 0 from 0", "table 0..0 of 5"),
        (SUM, "emit [20]", "emit [21]", "21..=21 of 21"),
        (PIVOT, "Pivot[1]", "Pivot[2]", "Pivot 2..=2 of 2"),
        (SELECT, "counter 2", "counter -1", "counter -1..=-1"),
    ]);
}

#[test]
fn sections_see_only_their_memory() {
    all_refused(&[
        (SUM, "%0 = Param[0]", "%0 = Kept[0]", "once loads from Kept"),
        (SUM, "KeptInput[0 + 1*l0]", "Reduced[0 + 1*l0]", "per kept loads from Reduced"),
        (SUM, "%0 = Kept[1]", "%0 = KeptInput[1]", "add loads from KeptInput"),
        (SUM, "%0 = Kept[1]", "%0 = Sums[1]", "add loads from Sums"),
        (SUM, "%0 = Kept[1]", "%0 = Pivot[0]", "add loads from Pivot"),
        (SUM, "%0 = Kept[1]", "%0 = Key[0]", "add loads from Key"),
        (SUM, "%1 = Sums[0 + 1*l0]", "%1 = Result[0 + 1*l0]", "finalise loads from Result"),
        (PIVOT, "%1 = Pivot[0]", "%1 = Pivot[1]", "add loads from Pivot"),
        (PIVOT, "%0 = Kept[0]", "%0 = ReducedInput[0]", "key loads from ReducedInput"),
        (PIVOT, "%1 = Reduced[0]", "%1 = Pivot[0]", "key loads from Pivot"),
        (SUM, "Param[4] = %1", "Kept[1] = %1", "once stores to Kept"),
        (SUM, "Kept[1] = %1", "Reduced[1] = %1", "per kept stores to Reduced"),
        (SUM, "emit [20] %8", "Result[20] = %8", "add stores to Result"),
        (PIVOT, "Sums[0] = %5", "Result[0] = %5", "rebase stores to Result"),
        (PIVOT, "Result[0] = %3", "Sums[0] = %3", "finalise stores to Sums"),
        (PIVOT, "Sums[0] = %5", "emit [0] %5", "rows emit nothing"),
        (SUM, "Param[4] = %1", "Param[3] = %1", "Param 3 is an argument"),
    ]);
}

#[test]
fn everything_is_written() {
    all_refused(&[
        (SUM, "  Param[4] = %1\n", "", "Param: 0 of 1 are written"),
        (SUM, "param 5", "param 6", "Param: 1 of 2 are written"),
        (SUM, "  Kept[1] = %1\n", "", "Kept: 0 of 1 are written"),
        (SUM, "reduced 21", "reduced 22", "Reduced: 0 of 1 are written"),
        (SUM, "loop l0 < 21", "loop l0 < 20", "Result: 20 of 21 are written"),
        (SUM, "Result[0 + 1*l0]", "Result[20 + 0*l0]", "Result: 1 of 21 are written"),
    ]);
    let last = "Result[3] = %0\n  loop l0 < 20";
    refused(SUM, "loop l0 < 21", last, "Result 20 is never written");
    good(&SUM.replace("Result[0 + 1*l0]", "Result[20 + -1*l0]"));
}

/// Sizes that would take all memory are refused, or not looked at element by element.
#[test]
fn absurd_sizes() {
    let turns = "loop l0 < 1048576\n  loop l1 < 1048576\n  loop l2 < 1048576\n";
    let nest =
        format!("{turns}  Buffer[0 + 1*l0 + 1*l1 + 1*l2] = %0\n  end l2\n  end l1\n  end l0\n");
    let sums = PIVOT.replacen("  emit [0] %3\n", &format!("  emit [0] %3\n  {nest}"), 1);
    accepted(&sums.replacen("add, buffer 0", "add, buffer 4000000", 1));
    refused(
        PIVOT,
        "  emit [0] %3\n",
        &format!("  emit [0] %3\n  {nest}"),
        "Buffer 0..=3145725 of 0",
    );
    refused(SUM, "param 5", "param 18446744073709551615", "param record");
}

fn accepted(text: &str) {
    assert!(text.parse::<Program>().is_ok(), "{text}");
}

#[test]
fn pairs_emit_once() {
    all_refused(&[
        (SUM, "emit [20]", "emit [19]", "slot 19 is emitted to twice"),
        (SUM, "emit [20] %8", "emit [20] %8\n  emit [20] %8", "22 components for 21 slots"),
        (SELECT, "emit [1] %2", "emit [0] %2", "slot 0 is emitted to twice"),
        (SELECT, "  emit [1] %2\n", "", "Key: 1 of 2 are written"),
    ]);
    // Addends that nothing is emitted to stay zero.
    good(&SUM.replace("  emit [20] %8\n", ""));
}

#[test]
fn factors_are_known() {
    all_refused(&[
        (SUM, "tame 2", "tame 1", "tame argument 1 is neither kept nor a parameter"),
        (SUM, "factored, tame 2", "tame 2", "finalise loads from Kept"),
        (PIVOT, "results 1", "results 1\nfactored, tame 0", "factors taken out of PivotSum"),
    ]);
}

#[test]
fn text_errors_have_a_place() {
    let place = |from: &str, to: &str| match SUM.replacen(from, to, 1).parse::<Program>() {
        Err(e @ TextError::Syntax { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    };
    let cases = [
        ("f32", "f16", "line 2, column 9: expected `f32` or `f64`, got `f16`"),
        ("sum,", "sums,", "line 2, column 13: expected `sum`, `pivot sum` or `select`, got `sums`"),
        ("param 5", "parameters 5", "line 4, column 1: expected `param`, got `parameters`"),
        ("of 4\n", "of four\n", "line 4, column 30: expected a dimension, got `four`"),
        ("op Exp", "op Expo", "line 10, column 11: expected an operation, got `Expo`"),
        (
            "Param[0]",
            "Parm[0]",
            "line 9, column 8: expected a primitive, a load or a constant, got `Parm`",
        ),
        ("Param[0]", "Param[0", "line 9, column 15: expected `]`, got the end of the line"),
        ("Param[0]", "Param[0] é", "line 9, column 17: expected the end of the line, got `é`"),
        (
            "acc %1 = %0",
            "acc %1 = %9",
            "line 14, column 14: expected a value defined before, got the end of the line",
        ),
        ("factored, tame 2", "factored, 2", "line 3, column 11: expected `tame`, got `2`"),
    ];
    for (from, to, expected) in cases {
        assert_eq!(place(from, to), expected);
    }
    let short = &SUM[..SUM.find("param").unwrap()];
    let error = short.parse::<Program>().unwrap_err().to_string();
    assert_eq!(error, "line 4, column 1: expected `param`, got the end of the text");
    let gap = place("%10 = Select", "%11 = Select");
    assert!(gap.contains("without gaps"), "{gap}");
    assert!(matches!("".parse::<Program>(), Err(TextError::Syntax { line: 1, column: 1, .. })));
}
