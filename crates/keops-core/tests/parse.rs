//! The reader of formula strings: values, errors, arbitrary text, and the way back to text.

use keops_core::composite::{self, CompositeDef, Literal};
use keops_core::genred::{Genred, Reduce};
use keops_core::graph::{Builder, Category, Dependence, Ex, Graph, Node, Var};
use keops_core::outer::Formula;
use keops_core::parse::{MAX_DEPTH, parse_formula, parse_reduction};
use keops_core::reduce::{LOG_SUM_EXP, SUM};
use keops_core::spec::Axis;
use keops_core::{autodiff, ops};
use ndarray::{ArrayD, array};
use proptest::prelude::*;

const ALIASES: [&str; 4] = ["x = Vi(3)", "y = Vj(3)", "s = Vi(1)", "p = Pm(9)"];

fn read(text: &str) -> Formula {
    parse_formula(text, None, &ALIASES).unwrap_or_else(|e| panic!("{e}"))
}
fn error(text: &str) -> String {
    match parse_formula(text, None, &ALIASES) {
        Ok(f) => panic!("{text} was read as {f}"),
        Err(e) => e.to_string(),
    }
}
/// Are two formulas one node of a common graph?
fn same(a: &Formula, b: &Formula) -> bool {
    let mut g = Graph::default();
    let ids = |f: &Formula, g: &mut Graph| g.import(&f.graph, &[f.root], |_, _| None)[0];
    ids(a, &mut g) == ids(b, &mut g)
}

#[test]
fn precedence_is_that_of_keops() {
    for (a, b) in [
        ("-x**2", "Minus(Square(x))"),
        ("x**2**s", "Powf(x, Powf(2, s))"),
        ("x|y+x", "Scalprod(x, Add(y, x))"),
        ("x-y-x", "Subtract(Subtract(x, y), x)"),
        ("x/y/2*x", "Mult(Divide(Divide(x, y), 2), x)"),
        ("x < y+1", "LessThan(x, Add(y, 1))"),
        ("x >= y", "LessOrEqual(y, x)"),
        ("x|y < s", "LessThan(Scalprod(x, y), s)"),
        ("2*-x", "Mult(2, Minus(x))"),
        ("+x--y", "Subtract(x, Minus(y))"),
        ("x**0.5", "Sqrt(x)"),
        ("x**-0.5", "Rsqrt(x)"),
        ("x**-3", "Pow(x, -3)"),
        ("x**IntCst(3)", "x*Square(x)"),
        ("x**0.25", "Powf(x, RatCst(1, 4))"),
        ("-x[1]", "Minus(Elem(x, 1))"),
        ("(x*y)[1:3]", "Extract(x*y, 1, 2)"),
        ("[x, s]", "Concat(x, s)"),
        ("d = x - y; k = d|d; Exp(-k)*d", "Exp(-SqDist(x, y))*(x - y)"),
        ("Var(0,3,0)+Vx(0,3)", "x + Vi(0, 3)"),
        (".5*x+1.e1", "IntInv(2)*x+10"),
    ] {
        let (a, b) = (read(a), read(b));
        assert!(same(&a, &b), "{a} is not {b}");
    }
    assert_eq!(read("p[::2][1:]").to_string(), "p[2:9:2]");
    assert_eq!(read("i - j").to_string(), "i - j");
    let own = parse_formula("i + j", None, &["j = Vj(1)", "i = Vi(1)"]).unwrap();
    assert_eq!(own.graph.dependence(own.root), Dependence::IJ);
    assert!(
        own.graph.live(&[own.root]).iter().all(|&n| !matches!(own.graph.node(n), Node::Index(_)))
    );
}

#[test]
fn arguments_come_in_the_order_of_positions() {
    let f = parse_formula("a*Var(1,1,2)+b", None, &["b = Vj(2, 3)", "a = Vi(0, 3)"]).unwrap();
    assert_eq!(f.names, ["a", "Var(1, 1, 2)", "b"]);
    assert_eq!(f.vars[2], Var { index: 2, dim: 3, category: Category::J });
    let f = parse_formula("Vi(2)*Vj(2)", None, &["unused = Pm(7)"]).unwrap();
    assert_eq!(f.names, ["unused", "Var(1, 2, 0)", "Var(2, 2, 1)"]);
}

#[test]
fn errors_show_the_place() {
    assert_eq!(
        error("Exp(-SqDist(x, p))"),
        "SqDist: expected operands of one dimension, got dimensions [3, 9]\n\
         where x has dimension 3 (Vi), p has dimension 9 (Pm)\n  \
         | Exp(-SqDist(x, p))\n  |      ^^^^^^^^^^^^"
    );
    for (text, part) in [
        ("", "expected a formula, got the end"),
        ("x +", "expected a formula, got the end"),
        ("x y", "expected an operator or the end, got `y`"),
        ("(x", "expected an operator, `,` or `)`, got the end"),
        ("z", "unknown variable `z`; the variables are x, y, s, p"),
        ("Exp", "the operation is written `Exp(…)`"),
        ("Sqdist(x,y)", "did you mean `SqDist`?"),
        ("x(y)", "it is a variable"),
        ("x < y < x", "comparisons do not chain"),
        ("x[3]", "3 is not in 0..=2: x has 3 components"),
        ("x[-1]", "-1 is not in 0..=2"),
        ("x[1:1]", "1 is not in 2..=3"),
        ("x[s]", "expected an integer"),
        ("1e999*x", "too large for f64"),
        ("x ? y", "unexpected character '?'"),
        ("x + é·y", "unexpected character '·'"),
        ("(1,2)*x", "[a, b] concatenates"),
        ("[]*x", "nothing to concatenate"),
        ("Pow(x, 0.5)", "expected 1 operands and then 1 integers or lists"),
        ("Square(x, y)", "got 2 arguments"),
        ("Exp()", "expected 1 operands, got 0\n  |"),
        ("RatCst(1,0)", "not 0"),
        ("Zero(0)", "Zero(dim)"),
        ("Vi(3, 0)", "dimension in 1..="),
        ("Vi(99999999, 3)", "position in 0..4096"),
        ("Var(0, 3, 1)", "position 0 belongs to `x`, which is Vi(0, 3)"),
        ("Var(9, 3, 1)", "no variable has position 4"),
        ("Grad(x*x, x+y, x)", "a variable to differentiate"),
        ("x = y; x", "`x` is already defined"),
        ("d = y", "expected an operator or `;`"),
        ("Put(x, 1, 2, 5)", "Put(a, start, step, dim)"),
        ("Einsum([3], x, [1], [0])", "expected Einsum"),
        ("Einsum([3, 3], x, [0], [0, 0])", "distinct indices"),
        ("Einsum([3, 0], x, [0], [0])", "extents of at least 1"),
        ("Einsum([9], x, [0], [0])", "an operand of dimension 3 has indices of extent 9"),
        ("Gather(x, s)", "a table that depends on parameters only"),
        ("Gather(x*p[0:3], s)", "a table that depends on parameters only"),
        ("ComplexMult(x, y)", "complex numbers, of even dimension, got dimension 3"),
        ("ComplexAdd(p[0:4], p[0:6])", "operands of one dimension (or of dimension 2)"),
        ("ComplexRealScal(p[0:3], p[0:4])", "dimensions 1 or d, and 2d"),
        ("ComplexSumT(p[0:2], 5)", "an even n"),
        ("TensorDot(x, y, [2], [3], [], [])", "extents with the product 3, got [2]"),
        ("TensorDot(x, y, [3], [3], [0], [1])", "distinct axes of pairwise equal extents"),
        ("TensorDot(x, y, [3], [3], [], [], [0, 0])", "a permutation of the 2 axes"),
        ("TensorDot(x, y, [3, -1], [3], [], [])", "lists of non-negative integers"),
        ("TensorDot(x, y, [3, 4294967296, 4294967296], [3], [], [])", "extents with the product"),
        ("Kron(x, y, [3], [1, 3])", "equally many axes"),
        ("Kron(Zero(1048576), Zero(2), [1048576], [2])", "at most 1048576 components"),
        ("TensorProd(Zero(1048576), Zero(1048576))", "at most 1048576 components"),
        ("DifferenceMatrix(Zero(1048576), x)", "at most 1048576 components"),
        ("Real2Complex(Zero(1048576))", "at most 1048576 components"),
        ("MatDet(x)", "a matrix of dimension 1, 4, 9 or 16"),
        ("MatSolve(p, x[0:2])", "dimensions 3·3 and 3·p"),
        ("BSpline(x, y, 1)", "dimension 1"),
        ("BSpline(x, s, 2)", "an integer in 0..=1"),
        ("BSpline(s, s, 0)", "at least 2 knots"),
        ("Round(x, 23)", "decimal places within -22..=22"),
        ("TraceOperator(x*x, x)", "linear in the variable"),
        ("AdjointOperator(Exp(x), x, y)", "linear in the variable"),
        ("TraceOperator(p, x)", "f of dimension 1 or that of v"),
        ("SumLinOperator(x, x, p)", "weights of dimension 1 or 3"),
        ("GradMatrix(p*p, p|p)", "a variable to differentiate"),
        ("Divergence(Zero(1048576)*Vi(4, 1048576), Vi(4, 1048576))", "nodes to differentiate"),
    ] {
        let message = error(text);
        assert!(message.contains(part), "{text}: {message}");
        assert!(message.contains('^'), "{text}: {message}");
    }
    for (aliases, part) in [
        (["x = Vi(3)", "x = Vj(3)"], "a second variable is named `x`"),
        (["x = Vi(3)", "y = Vj(0, 3)"], "position 0 belongs to `x`"),
        (["x = Vi(3)", "y = 3"], "an alias declares a variable"),
        (["x = Vi(3)", "y = Exp(3)"], "an alias declares a variable"),
        (["x = Vi(3)", "y = Vj(3) y"], "expected an operator or the end, got `y`"),
        (["x = Vi(3)", "y = Vj(x)"], "unknown variable"),
        (["x = Vi(3)", ""], "an alias declares a variable"),
        (["x = Vi(3)", "y = Vj(1.5)"], "with integers"),
    ] {
        let message = parse_formula("x", None, &aliases).unwrap_err().to_string();
        assert!(message.contains(part), "{aliases:?}: {message}");
    }
}

#[test]
fn nesting_has_a_limit_and_length_has_none() {
    let nest = |n: usize| format!("{}x{}", "(".repeat(n), ")".repeat(n));
    assert!(same(&read(&nest(MAX_DEPTH - 1)), &read("x")));
    for text in [nest(MAX_DEPTH), nest(100_000), "-".repeat(100_000), "[".repeat(100_000)] {
        assert!(error(&text).contains("nested more than 128 deep"));
    }
    assert!(error(&"x**".repeat(100_000)).contains("nested more than"));
    let long = format!("x{}", "+x".repeat(20_000));
    assert_eq!(read(&long).graph.len(), 20_001);
}

#[test]
fn reductions_of_keops_internal_form() {
    let x: ArrayD<f64> = array![[0.3], [1.2]].into_dyn();
    let y = array![[0.1], [0.4], [2.0]].into_dyn();
    let b = array![[1.0], [-1.0], [0.5]].into_dyn();
    let aliases = ["x=Vi(1)", "y=Vj(1)", "b=Vj(1)", "e=Vi(1)", "f=Vi(1)"];
    let (e, f) = (array![[1.0], [3.0]].into_dyn(), array![[0.0], [0.0]].into_dyn());
    let all = [&x, &y, &b, &e, &f];
    let sum = "Sum_Reduction(Exp(-SqDist(x,y))*b,0)";
    let raw: Genred = Genred::from_text(sum, aliases).unwrap();
    let usual: Genred = Genred::new("Exp(-SqDist(x,y))*b", &aliases[..3], &SUM, Axis::J).unwrap();
    assert_eq!(raw.call(&all[..]).unwrap(), usual.call(&all[..3]).unwrap());
    for name in ["x", "y", "b"] {
        let text = format!("Grad_WithSavedForward({sum},{name},e,f)");
        let raw: Genred = Genred::from_text(&text, aliases).unwrap();
        let usual = usual.vjp(name).unwrap().call(&all[..4]).unwrap();
        assert_eq!(raw.call(&all[..]).unwrap(), usual);
    }
    let text = format!("Diff_WithSavedForward({sum},x,e,f)");
    let raw: Genred = Genred::from_text(&text, aliases).unwrap();
    assert_eq!(raw.call(&all[..]).unwrap(), usual.jvp("x").unwrap().call(&all[..4]).unwrap());
    // The derivative of a log-sum-exp reads the result that was saved.
    let lse: Genred = Genred::new("-SqDist(x,y)", &aliases[..2], &LOG_SUM_EXP, Axis::J).unwrap();
    let saved = lse.call(&all[..2]).unwrap();
    for (way, usual) in [("Grad", lse.vjp("x").unwrap()), ("Diff", lse.jvp("x").unwrap())] {
        let text = format!("{way}_WithSavedForward(LogSumExp_Reduction(-SqDist(x,y),0),x,e,f)");
        let raw: Genred = Genred::from_text(&text, aliases).unwrap();
        let usual = usual.call((&x, &y, &e)).unwrap();
        // (That one reads the maximum and its sum instead, which are rounded otherwise.)
        let given = raw.call((&x, &y, &b, &e, &saved)).unwrap();
        let close = |(g, u): (&f64, &f64)| (g - u).abs() <= 1e-12 * u.abs();
        assert!(given.iter().zip(&usual).all(close), "{given}, not {usual}");
        // Its softmax is exp(f - saved): one less in the saved result is e times the gradient.
        let less = raw.call((&x, &y, &b, &e, &(&saved - 1.0))).unwrap();
        let ratio = less / usual;
        assert!(ratio.iter().all(|r| (r - 1f64.exp()).abs() < 1e-12), "{ratio}");
    }
    // A result has the batches of all arguments, also where the derivative does not read them.
    let text = "Diff_WithSavedForward(SumSoftMaxWeight_Reduction(1,1,a),a,t,o)";
    let of_unused = ["z=Vj(1)", "a=Vi(1)", "t=Vi(1)", "o=Vj(1)"];
    let raw: Genred = Genred::from_text(text, of_unused).unwrap();
    let batches = ArrayD::from_elem(vec![1, 2, 3, 1], 0.5);
    let along = raw.call((&batches, &e, &e, &batches)).unwrap();
    assert_eq!(along, ArrayD::from_elem(vec![1, 2, 3, 1], 2.0)); // the mean of 1 and 3
    let k: Genred = Genred::from_text("KMin_Reduction(SqDist(x,y),2,0)", aliases).unwrap();
    assert_eq!(k.call(&all[..]).unwrap().shape(), [2, 2]);
    let l: Genred = Genred::from_text("LogSumExp_Reduction(x*y,1,e)", aliases).unwrap();
    assert_eq!(l.call(&all[..]).unwrap().shape(), [3, 1]);
    for (text, part) in [
        ("Sum_Reduction(x,2)", "tag 0 (over j) or 1 (over i)"),
        ("Sum_Reduction(x)", "expected Sum_Reduction(formula, tag)"),
        ("KMin_Reduction(x,y,0)", "positive integer K"),
        ("Total_Reduction(x,0)", "unknown reduction `Total`"),
        ("Grad_WithSavedForward(x,e,f)", "expected a reduction"),
        (
            "Grad_WithSavedForward(Sum_Reduction(x,0),x,e)",
            "(reduction, variable, cotangent, saved)",
        ),
        (
            "Diff_WithSavedForward(LogSumExp_Reduction(x*y,0),x,e,Vj(1))",
            "saved result: expected I rows of dimension 1, got J rows",
        ),
        ("Grad_WithSavedForward(Min_ArgMin_Reduction(x,0),x,e,f)", "one result"),
        ("SumSoftMaxWeight_Reduction(x*y,0)", "needs a second formula"),
        ("", "expected a reduction"),
    ] {
        let message = parse_reduction(text, &aliases).unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn reductions_by_name() {
    assert_eq!(Reduce::named("MinArgMin", None).unwrap().def.name(), "Min_ArgMin");
    assert_eq!(Reduce::named("SoftMax", None).unwrap().def.name(), "SumSoftMaxWeight");
    assert_eq!(Reduce::named("Kmin", Some(4)).unwrap().k, 4);
    let message = |name| Reduce::named(name, None).unwrap_err().to_string();
    assert_eq!(message("ArgKMin"), "ArgKMin needs the number of winners K");
    assert!(message("Prod").contains("unknown reduction `Prod`; there are Sum, "));
}

/// Pieces of formulas, and pieces that are none.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "x",
        "y",
        "s",
        "p",
        "i",
        "j",
        "(",
        ")",
        "[",
        "]",
        ",",
        "+",
        "-",
        "*",
        "**",
        "/",
        "|",
        "<",
        "==",
        "=",
        ";",
        ":",
        "2",
        "0.5",
        "1e9",
        "-1",
        "Exp(",
        "SqDist(",
        "Pow(",
        "Grad(",
        "Elem(",
        "Sum(",
        "Einsum(",
        "Put(",
        "Vi(",
        "Var(",
        "Gather(",
        "Concat(",
        "Inf",
        "NaN",
        "d",
        "é",
        "\n",
        "OneHot(",
        "GradMatrix(",
        "SumT(",
        "Zero(",
        "Ind(",
        "MatVecMult(",
        "IfElse(",
        "Iota(",
    ]);
    prop_oneof![8 => fixed.prop_map(String::from), 1 => any::<char>().prop_map(String::from)]
}

/// A random formula over `ALIASES`, of dimension 1 or 3.
fn random<'b>(b: &'b Builder, f: &Formula, steps: &[(u8, u16, u16)]) -> Ex<'b> {
    let mut all: Vec<Ex<'b>> = f.vars.iter().map(|v| b.var(*v)).collect();
    all.extend([b.lit(-2.5), b.lit(f64::INFINITY), b.lit(1e-300), b.lit(-0.0)]);
    all.push(b.node(Node::Index(Category::J)));
    all.push(all[0].iota(3));
    for &(op, p, q) in steps {
        let at = |k: u16| all[all.len() - 1 - k as usize * all.len() / 65536];
        let (x, y) = (at(p), at(q));
        let map = ops::ALL[op as usize % ops::ALL.len()];
        let variable = b.var(f.vars[q as usize % 3]);
        let made = match op % 23 {
            0 => x.pick((q as usize) % x.dim(), 1, 1),
            1 if x.dim() >= 3 => x.pick(0, 2, 2),
            2 if x.dim() * y.dim() <= 81 => {
                let (n, d) = (x.dim(), y.dim());
                x.contract(vec![n, d], &[(x, &[0]), (y, &[1])], &[1, 0])
            }
            3 if x.dim() == 9 => x.contract(vec![3, 3], &[(x, &[0, 1])], &[1]),
            4 => x.put(1, 2, 2 * x.dim() + 3),
            5 if x.dim() + y.dim() < 20 => Ex::concat(&[x, y]),
            6 => x.fold(keops_core::graph::FoldOp::ArgMax),
            7 if x.dependence() == Dependence::NONE => y.gather(x),
            8 => x.sum(),
            9 if x.dim() == 1 => x.broadcast(3),
            10 if x.dim() == y.dim() => x.dot(y),
            11 => {
                let seed = b.lit(1.0);
                match autodiff::vjp(x, seed, &[variable])[0] {
                    Some(g) => g,
                    None => continue,
                }
            }
            _ => match Ex::map(map, &[x, y, variable][..map.arity]) {
                Ok(e) => e,
                Err(_) => continue,
            },
        };
        all.push(made);
        if b.graph().len() > 3000 {
            break;
        }
    }
    all[all.len() - 1]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gives_a_formula_or_an_error(pieces in prop::collection::vec(piece(), 0..25)) {
        let text = pieces.concat();
        match parse_formula(&text, Some("s"), &ALIASES) {
            Ok(f) => prop_assert!(f.graph.dim(f.root) >= 1),
            Err(e) => prop_assert!(!e.to_string().is_empty()),
        }
        let _ = parse_formula("x", None, &[&text]);
        let _ = parse_reduction(&text, &ALIASES);
    }

    #[test]
    fn any_characters_give_a_formula_or_an_error(text in any::<String>()) {
        let _ = parse_formula(&text, None, &ALIASES);
        let _ = parse_formula("x", None, &[&text]);
    }

    #[test]
    fn text_reads_back_as_the_same_graph(steps in prop::collection::vec(any::<(u8, u16, u16)>(), 1..40)) {
        let f = read("x");
        let b = Builder::default();
        let root = random(&b, &f, &steps).id;
        let f = Formula { graph: b.into_graph().into(), root, ..f };
        let text = f.to_text();
        let aliases: Vec<&str> = text.aliases.iter().map(String::as_str).collect();
        let back = parse_formula(&text.formula, None, &aliases);
        let back = back.map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert!(same(&f, &back), "{}\n{}", text.formula, back);
    }
}

#[test]
fn every_composite_is_read_by_its_name() {
    // The reader takes operations from the tables: a wrong number of operands names the entry.
    for c in composite::ALL.iter() {
        let message = error(&format!("{}()", c.name));
        assert!(message.contains(c.name) && message.contains("got 0 arguments"), "{message}");
    }
}

/// Operands and literals of a composite: its sample, or operands of dimension 3 or 1.
fn samples(c: &CompositeDef) -> Vec<(Vec<usize>, Vec<Literal>)> {
    let Some(sample) = c.sample else {
        let most = c.operands.1.min(c.operands.0 + 2);
        let counts = c.operands.0..=most;
        return counts.flat_map(|n| [(vec![3; n], vec![]), (vec![1; n], vec![])]).collect();
    };
    let mut state = 1u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    (0..60).map(|_| sample(&mut below)).collect()
}

#[test]
fn composites_read_back_as_the_same_graph() {
    for c in composite::ALL.iter() {
        let mut built = 0;
        for (dims, literals) in samples(c) {
            let b = Builder::default();
            let vars: Vec<Var> = (0..)
                .zip(&dims)
                .map(|(index, &dim)| Var {
                    index,
                    dim,
                    category: if index == 0 { Category::Param } else { Category::J },
                })
                .collect();
            let x: Vec<Ex<'_>> = vars.iter().map(|v| b.var(*v)).collect();
            let made = match (c.build)(&x, &literals) {
                Ok(e) => e.id,
                // What a sample says must fit.
                Err(e) => {
                    assert!(c.sample.is_none(), "{} of {dims:?}, {literals:?}: {e}", c.name);
                    continue;
                }
            };
            built += 1;
            let names = (0..vars.len()).map(|k| format!("x{k}")).collect();
            let f = Formula { graph: b.into_graph().into(), root: made, weight: None, vars, names };
            let text = f.to_text();
            let aliases: Vec<&str> = text.aliases.iter().map(String::as_str).collect();
            let back = parse_formula(&text.formula, None, &aliases);
            let back = back.unwrap_or_else(|e| panic!("{} of {dims:?}: {e}", c.name));
            assert!(same(&f, &back), "{}: {}\n{back}", c.name, text.formula);
            // So does the call itself.
            let literal = |l: &Literal| match l {
                Literal::Int(v) => v.to_string(),
                Literal::List(v) => format!("{v:?}"),
            };
            let args: Vec<String> =
                f.names.iter().cloned().chain(literals.iter().map(literal)).collect();
            let call = parse_formula(&format!("{}({})", c.name, args.join(", ")), None, &aliases);
            let call = call.unwrap_or_else(|e| panic!("{e}"));
            assert!(same(&f, &call), "{}: {call}", c.name);
        }
        assert!(built > 0, "{} was never built", c.name);
    }
}

#[test]
fn gradients_without_cotangent_declare_one() {
    let f = parse_formula("Grad(x*y, x) + 0*z", None, &["x=Vi(3)", "y=Vj(3)", "z=Vj(3)"]).unwrap();
    assert_eq!(f.vars[3], Var { index: 3, dim: 3, category: Category::J });
    let g = parse_formula("e*y", None, &["x=Vi(3)", "y=Vj(3)", "z=Vj(3)", "e=Vj(3)"]).unwrap();
    let sum = |f: &Formula| f.to_string().replace("Var(3, 3, 1)", "e");
    assert_eq!(sum(&f), format!("{} + 0 * z", sum(&g)));
    assert!(error("Grad(x*p[0], p)").contains("the gradient in a parameter needs a cotangent"));
    assert!(error("Grad(x, x*x)").contains("expected a variable"));
    let along = read("Diff(x*y, (x, y), (y, x))");
    assert!(same(&along, &read("Diff(x*y, x, y) + Diff(x*y, y, x)")));
    assert!(error("Diff(x*y, (x, y), (y,))").contains("Diff"));
}

#[test]
fn complex_parts_of_complex_products_cancel() {
    // Interleaving and taking apart again leaves nothing behind.
    for (a, b) in [
        ("ComplexReal(Real2Complex(x))", "x"),
        ("ComplexImag(Real2Complex(x))", "Zero(3)"),
        ("ComplexImag(ComplexExp1j(x))", "Sin(x)"),
        ("ComplexSquareAbs(ComplexExp1j(x))", "Cos(x)*Cos(x)+Sin(x)*Sin(x)"),
        ("ComplexReal(ComplexExp1j(s))", "Cos(s)"),
        ("ComplexImag(Conj(ComplexExp1j(s)))", "-Sin(s)"),
    ] {
        assert!(same(&read(a), &read(b)), "{a} is {}", read(a));
    }
}

#[test]
fn long_chains_are_written_with_definitions() {
    let chain = |of: &str| format!("{}{of}{}", "Sin(".repeat(100), ")".repeat(100));
    let f = read(&format!("c = {}; d = {}; d*Cos(d)", chain("s"), chain("c")));
    let text = f.to_text();
    assert!(text.formula.contains("t0 = "));
    let aliases: Vec<&str> = text.aliases.iter().map(String::as_str).collect();
    assert!(same(&f, &parse_formula(&text.formula, None, &aliases).unwrap()));
}
