//! What the fuzz targets of `fuzz/` do with their bytes, shared with the test that replays the
//! committed corpus. Any input gives a formula or an error: these functions panic only where
//! keops-core is wrong.

use keops_core::composite::{self, Literal};
use keops_core::genred::{Genred, Reference};
use keops_core::graph::{Category, Graph};
use keops_core::lazy::LazyTensor;
use keops_core::outer::Formula;
use keops_core::parse::{FormulaText, parse_formula, parse_reduction};
use keops_core::spec::Axis;
use keops_core::{ops, reduce};
use ndarray::ArrayD;

/// Reads any bytes as a formula (the last line) with aliases (the lines before), and as a whole
/// reduction. A formula is printed and read again: that gives the same graph and the same text.
pub fn parser(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines: Vec<&str> = text.split('\n').collect();
    let formula = lines.pop().unwrap_or_default();
    match parse_formula(formula, None, &lines) {
        Ok(f) => {
            let printed = f.to_text();
            let first = read(&printed);
            let second = read(&first.to_text());
            // Structurally equal nodes are one node of a common graph.
            let mut all = Graph::default();
            let mut node = |f: &Formula| all.import(&f.graph, &[f.root], |_, _| None)[0];
            assert_eq!(node(&f), node(&first), "{printed:?}");
            assert_eq!(node(&f), node(&second), "{printed:?}");
            // Printed once, nodes are numbered as they are written: nothing changes any more.
            assert_eq!(first.to_text(), second.to_text());
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
    match parse_reduction(formula, &lines) {
        Ok(computation) => assert!(!computation.outputs().is_empty()),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

fn read(text: &FormulaText) -> Formula {
    let aliases: Vec<&str> = text.aliases.iter().map(String::as_str).collect();
    parse_formula(&text.formula, None, &aliases)
        .unwrap_or_else(|e| panic!("a printed formula cannot be read: {text:?}\n{e}"))
}

/// Bytes read as choices; when they run out, every choice is the first.
struct Choices<'d>(&'d [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let [first, rest @ ..] = self.0 else { return 0 };
        self.0 = rest;
        *first
    }
    fn below(&mut self, n: usize) -> usize {
        self.byte() as usize % n.max(1)
    }
    /// Mostly small, sometimes at or beyond a limit.
    fn size(&mut self) -> usize {
        match self.byte() {
            b @ 0..200 => (b % 12) as usize,
            b @ 200..240 => 1 << (b - 200),
            b => [1 << 20, (1 << 20) + 1, 1024, 1023, usize::MAX, i64::MAX as usize, 65, 33]
                [b as usize % 8],
        }
    }
    fn integer(&mut self) -> i64 {
        match self.byte() {
            b @ 0..100 => i64::from(b) - 20,
            b @ 100..160 => 1i64 << (b - 100),
            b @ 160..220 => -(1i64 << (b - 160)),
            b => [i64::MAX, i64::MIN, 1_000_000_000, -1_000_000_000, (1 << 53) + 1, 0]
                [b as usize % 6],
        }
    }
    fn number(&mut self) -> f64 {
        match self.below(8) {
            0 => [0.0, -0.0, 1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE][self.below(6)],
            1 => f64::from_bits(u64::from_le_bytes(std::array::from_fn(|_| self.byte()))),
            _ => self.integer() as f64 / 8.0,
        }
    }
    fn axis(&mut self) -> Axis {
        [Axis::I, Axis::J][self.below(2)]
    }
}

type Lazy = LazyTensor<f64, Reference>;

/// Steps of a construction: beyond this the input says nothing new.
const STEPS: usize = 60;
/// Components of all nodes, times pairs, up to which a formula is also evaluated.
const WORK: usize = 1 << 16;

/// Any sequence of constructions: symbolic variables, arrays of awkward shapes, every operation of
/// the tables with any operands and literals, then reductions with derivatives of derivatives,
/// evaluated where that is little work.
pub fn construction(data: &[u8]) {
    let mut c = Choices(data);
    let mut stack: Vec<Lazy> = vec![Lazy::constant(1.0)];
    for _ in 0..STEPS {
        if c.0.is_empty() {
            break;
        }
        let made = step(&mut c, &stack);
        // What carries an error stays an error: it says nothing more.
        if let Err(e) = made.check() {
            assert!(!e.to_string().is_empty());
            continue;
        }
        stack.push(made);
    }
    reductions(&mut c, &stack);
}

fn step(c: &mut Choices<'_>, stack: &[Lazy]) -> Lazy {
    let pick = |c: &mut Choices<'_>| stack[stack.len() - 1 - c.below(stack.len())].clone();
    match c.below(10) {
        0 => {
            let category = [Category::I, Category::J, Category::Param][c.below(3)];
            let position = if c.below(9) == 8 { c.size() } else { c.below(4) };
            Lazy::var(position, c.size(), category)
        }
        1 => {
            let shape: Vec<usize> = (0..c.below(5)).map(|_| c.below(5)).collect();
            let values: Vec<f64> = (0..shape.iter().product()).map(|_| c.number()).collect();
            let array = ArrayD::from_shape_vec(shape, values).expect("as many values as entries");
            match c.below(3) {
                0 => Lazy::vi(array),
                1 => Lazy::vj(array),
                _ => Lazy::pm(array),
            }
        }
        2 => match c.below(4) {
            0 => Lazy::i(),
            1 => Lazy::j(),
            _ => Lazy::scalar(c.number()),
        },
        3 => pick(c).t(),
        4 => pick(c).pow(c.integer() as i32),
        _ => {
            let n = ops::ALL.len() + composite::ALL.len();
            let at = c.below(n);
            let (name, operands, literals) = match ops::ALL.get(at) {
                Some(o) => (o.name, o.arity, 0),
                None => {
                    let o = &composite::ALL[at - ops::ALL.len()];
                    (
                        o.name,
                        o.operands.0 + c.below(3).min(o.operands.1 - o.operands.0),
                        o.literals.1,
                    )
                }
            };
            // Now and then a wrong number of operands or literals.
            let (operands, literals) = match c.below(24) {
                0 => (operands + 1, literals),
                1 => (operands, literals + 1),
                2 => (operands.max(2) - 1, literals),
                _ => (operands, literals),
            };
            let x: Vec<Lazy> = (0..operands.max(1)).map(|_| pick(c)).collect();
            let literals: Vec<Literal> = (0..literals)
                .map(|_| match c.below(4) {
                    0 => Literal::List((0..c.below(5)).map(|_| c.integer()).collect()),
                    1 => Literal::Int(c.size() as i64),
                    _ => Literal::Int(c.integer()),
                })
                .collect();
            let others: Vec<&Lazy> = x[1..].iter().collect();
            x[0].call(name, &others, &literals)
        }
    }
}

fn reductions(c: &mut Choices<'_>, stack: &[Lazy]) {
    let f = &stack[stack.len() - 1];
    let def = reduce::ALL[c.below(reduce::ALL.len())];
    let k = match c.below(3) {
        0 => c.size(),
        _ => 1 + c.below(5),
    };
    let axis = c.axis();
    let weight = &stack[c.below(stack.len())];
    let mut made: Vec<Genred<Reference>> = vec![];
    for g in [f.genred((def, k), axis), f.genred_weighted(weight, (def, k), axis)] {
        match g {
            Ok(g) => made.push(g),
            Err(e) => assert!(!e.to_string().is_empty()),
        }
    }
    // Derivatives of derivatives, until one of them is refused.
    if let Some(mut g) = made.pop() {
        for _ in 0..12 {
            let names: Vec<String> = g.arguments().map(str::to_string).collect();
            let Some(name) = names.get(c.below(names.len())) else { break };
            let next = if c.below(2) == 0 { g.vjp(name) } else { g.jvp(name) };
            match next {
                Ok(next) => g = next,
                Err(e) => {
                    assert!(!e.to_string().is_empty());
                    break;
                }
            }
        }
    }
    let Ok(formula) = f.formula() else { return };
    let Ok(shape) = f.shape() else { return };
    let graph = &formula.graph;
    let entries: usize = graph.live(&[formula.root]).into_iter().map(|n| graph.dim(n)).sum();
    let pairs: usize = shape[..shape.len() - 1].iter().product();
    if entries.saturating_mul(pairs.max(1)).saturating_mul(k) <= WORK {
        match f.reduce((def, k), axis) {
            Ok(out) => assert!(!out.is_empty()),
            Err(e) => assert!(!e.to_string().is_empty()),
        }
    }
}
