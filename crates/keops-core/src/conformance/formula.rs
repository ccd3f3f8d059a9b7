//! Random typed formulas over the tables of operations.

use super::case::choose;
use crate::autodiff;
use crate::composite::{self, Literal};
use crate::graph::{Builder, Category, Ex, Var};
use crate::ops;
use crate::random::Random;

/// Largest dimension of an intermediate value.
const MAX_WIDTH: usize = 300;
/// Most nodes of a formula; a derivative beyond it is not taken.
const MAX_FORMULA: usize = 600;
/// Operands and literals tried for one instruction before it is given up.
const ATTEMPTS: u32 = 40;
/// The same for one that has to be there.
const MOST_ATTEMPTS: u32 = 2000;
/// Dimensions of vectors; the widths of vector registers and tiles lie between them.
const DIMS: [usize; 20] = [2, 3, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 4, 3, 2, 5, 17, 33, 65, 130];

/// What the entries of a variable are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Within ±2.
    Signed,
    /// Within (0.3, 0.8), which lies in the domain of every operation.
    Positive,
    /// Multiples of 1/4 within ±2: ties, zeros and exact arithmetic.
    Grid,
    /// Small integers from 0.
    Integer,
}

impl Kind {
    fn range(self) -> (f64, f64) {
        match self {
            Kind::Signed | Kind::Grid => (-2.0, 2.0),
            Kind::Positive => (0.3, 0.8),
            Kind::Integer => (0.0, f64::INFINITY),
        }
    }
}

/// Names of all operations: of the element-wise ones, then of the composites.
pub fn operation_names() -> impl Iterator<Item = &'static str> {
    ops::ALL.iter().map(|o| o.name).chain(composite::ALL.iter().map(|c| c.name))
}
/// Name of the operation that a number means.
pub fn operation_name(number: u32) -> &'static str {
    let total = ops::ALL.len() + composite::ALL.len();
    operation_names().nth(number as usize % total).unwrap_or_default()
}
/// The smallest number that means an operation.
pub fn operation_number(name: &str) -> Option<u32> {
    Some(operation_names().position(|n| n == name)? as u32)
}

/// A value that further operations may use.
#[derive(Clone)]
struct Entry<'g> {
    ex: Ex<'g>,
    name: String,
    /// Known bounds of the values.
    range: Option<(f64, f64)>,
}

/// A formula under construction: leaves, then the results of operations.
pub struct Pool<'g> {
    b: &'g Builder,
    entries: Vec<Entry<'g>>,
    leaves: usize,
    /// Kind of every variable, by index.
    pub kinds: Vec<Kind>,
    /// The operations in order, as text.
    pub text: Vec<String>,
    /// The operation applied last.
    pub latest: Option<&'static str>,
}

impl<'g> Pool<'g> {
    /// The leaves. `shape` chooses the dimensions, `kind` the sort of data.
    pub fn new(b: &'g Builder, shape: u32, kind: u32) -> Pool<'g> {
        let d = choose(shape, &DIMS);
        let e = choose(shape / DIMS.len() as u32, &[2, 3, 1, 4, 5]);
        let mut pool =
            Pool { b, entries: vec![], leaves: 0, kinds: vec![], text: vec![], latest: None };
        use Category::{I, J, Param};
        let signed = choose(kind, &[Kind::Signed, Kind::Signed, Kind::Grid, Kind::Positive]);
        for (name, dim, category, kind) in [
            ("x", d, I, signed),
            ("y", d, J, signed),
            ("s", 1, I, Kind::Positive),
            ("t", 1, J, Kind::Positive),
            ("p", 1, Param, Kind::Positive),
            ("q", d, Param, signed),
            ("b", e, J, Kind::Signed),
            ("a", (d * e).min(MAX_WIDTH), I, Kind::Signed),
            ("c", (d * d).min(MAX_WIDTH), Param, Kind::Signed),
            ("k", 1, J, Kind::Integer),
            ("l", 1, I, Kind::Integer),
        ] {
            pool.variable(name, dim, category, kind);
        }
        for (name, category) in [("i", I), ("j", J)] {
            let ex = b.node(crate::graph::Node::Index(category));
            let range = Some((0.0, f64::INFINITY));
            pool.entries.push(Entry { ex, name: name.into(), range });
        }
        for v in [0.5, 2.0, 0.0, 1.0, -1.0, 0.1] {
            let range = Some((v, v));
            pool.entries.push(Entry { ex: b.lit(v), name: v.to_string(), range });
        }
        pool.leaves = pool.entries.len();
        pool
    }
    fn variable(&mut self, name: &str, dim: usize, category: Category, kind: Kind) -> Ex<'g> {
        let index = self.kinds.len() as u32;
        let ex = self.b.var(Var { index, dim, category });
        self.kinds.push(kind);
        let range = Some(kind.range());
        self.entries.push(Entry { ex, name: name.into(), range });
        ex
    }
    /// Name of the variable with that index.
    pub fn name(&self, index: u32) -> String {
        let is = |e: &&Entry<'_>| matches!(self.b.graph().node(e.ex.id), crate::graph::Node::Var(v) if v.index == index);
        self.entries.iter().find(is).map_or_else(|| format!("v{index}"), |e| e.name.clone())
    }
    /// An operand: a result, the latest with chance 1/2, the one before with 1/4 and so on (which
    /// does not change when results before it are shrunk away), or a leaf.
    fn operand(&self, choice: u32) -> Entry<'g> {
        let results = self.entries.len() - self.leaves;
        let at = if choice.is_multiple_of(2) && results > 0 {
            let back = (choice / 2).trailing_ones() as usize;
            self.entries.len() - 1 - back.min(results - 1)
        } else {
            (choice / 2) as usize % self.leaves
        };
        self.entries[at].clone()
    }
    /// Applies the operation that an instruction means; nothing if no operands are soon found that
    /// fit.
    pub fn apply(&mut self, instruction: [u32; 3]) {
        self.attempt(instruction, ATTEMPTS);
    }
    /// Applies the operation that an instruction means, and searches long for operands.
    pub fn apply_surely(&mut self, instruction: [u32; 3]) {
        self.latest = None;
        self.attempt(instruction, MOST_ATTEMPTS);
    }
    fn attempt(&mut self, [operation, operands, literals]: [u32; 3], attempts: u32) {
        let total = ops::ALL.len() + composite::ALL.len();
        let at = operation as usize % total;
        for attempt in 0..attempts {
            let mut random = Random::new(u64::from(operands) << 32 | u64::from(attempt));
            // The first attempt is the plain one that shrinking aims at.
            let mut pick = |plain: u32| if attempt == 0 { plain } else { random.bits() as u32 };
            let made = if let Some(&op) = ops::ALL.get(at) {
                let tame = literals % 2 == 1 && op.domain != (-2.0, 2.0);
                let x: Vec<_> = (0..op.arity)
                    .map(|k| {
                        let e = self.operand(pick(operands >> (8 * k as u32)));
                        if tame { self.within(e, op.domain) } else { e }
                    })
                    .collect();
                let ex: Vec<_> = x.iter().map(|e| e.ex).collect();
                Ex::map(op, &ex).ok().map(|r| (r, op.name, x, vec![]))
            } else {
                let c = composite::ALL[at - ops::ALL.len()];
                let (dims, l) = match c.sample {
                    Some(sample) => {
                        let mut drawn = Random::new(u64::from(literals) << 32 | u64::from(attempt));
                        sample(&mut |n| drawn.below(n))
                    }
                    None => {
                        let most = c.operands.1.min(c.operands.0.max(1) + 1);
                        let n = c.operands.0 + pick(0) as usize % (most - c.operands.0 + 1);
                        (vec![0; n], vec![])
                    }
                };
                let x: Vec<_> = dims
                    .iter()
                    .enumerate()
                    .map(|(k, &dim)| {
                        let e = self.operand(pick(operands >> (8 * k as u32)));
                        if dim == 0 { e } else { fit(e, dim) }
                    })
                    .collect();
                let ex: Vec<_> = x.iter().map(|e| e.ex).collect();
                (c.build)(&ex, &l).ok().map(|r| (r, c.name, x, l))
            };
            let Some((ex, name, x, literals)) = made else { continue };
            if ex.dim() > MAX_WIDTH || self.b.graph().live(&[ex.id]).len() > MAX_FORMULA {
                continue;
            }
            let result = format!("r{}", self.entries.len() - self.leaves);
            let list: Vec<String> = x
                .iter()
                .map(|e| e.name.clone())
                .chain(literals.iter().map(|l| match l {
                    Literal::Int(v) => v.to_string(),
                    Literal::List(v) => format!("{v:?}"),
                }))
                .collect();
            self.text.push(format!("{result} = {name}({})", list.join(", ")));
            self.latest = Some(name);
            self.entries.push(Entry { ex, name: result, range: None });
            return;
        }
    }
    /// The entry, or a smooth function of it with values in `(low, high)`.
    fn within(&self, e: Entry<'g>, (low, high): (f64, f64)) -> Entry<'g> {
        if e.range.is_some_and(|r| low <= r.0 && r.1 <= high) {
            return e;
        }
        let square = e.ex * e.ex;
        let ex = square / (square + 1.0) * (high - low) + low;
        let name = format!("({low} + {} * {n}^2 / (1 + {n}^2))", high - low, n = e.name);
        Entry { ex, name, range: None }
    }
    /// The last result.
    pub fn last(&self) -> Ex<'g> {
        self.entries.iter().skip(self.leaves).next_back().unwrap_or(&self.entries[0]).ex
    }
    /// Some entry, as a weight.
    pub fn some(&self, choice: u32) -> Ex<'g> {
        self.operand(choice).ex
    }
    /// A derivative of `f` with respect to one of its variables, if it depends smoothly on one
    /// and the derivative is not too large.
    pub fn differentiate(
        &mut self,
        f: Ex<'g>,
        choice: u32,
        forward: bool,
        kept: Category,
    ) -> Option<Ex<'g>> {
        let mut vars = self.b.graph().variables(&[f.id]);
        let first = choice as usize % vars.len().max(1);
        vars.rotate_left(first);
        for v in vars {
            let x = self.b.var(v);
            let (stem, dim, category) =
                if forward { ("u", v.dim, v.category) } else { ("e", f.dim(), kept) };
            let name = format!("{stem}{}", self.kinds.len());
            let index = self.kinds.len() as u32;
            let other = self.b.var(Var { index, dim, category });
            let derivative = if forward {
                autodiff::jvp(f, &[(x, other)])
            } else {
                autodiff::vjp(f, other, &[x])[0]
            };
            let Some(d) = derivative else { continue };
            if self.b.graph().live(&[d.id]).len() > MAX_FORMULA {
                continue;
            }
            self.variable(&name, dim, category, Kind::Signed);
            let way = if forward { "Diff" } else { "Grad" };
            self.text.push(format!("{way}(…, {}, {name})", self.name(v.index)));
            return Some(d);
        }
        None
    }
}

/// The entry with this many components: its first ones, or all of them several times.
fn fit(e: Entry<'_>, dim: usize) -> Entry<'_> {
    let d = e.ex.dim();
    let ex = match d {
        _ if d >= dim => e.ex.pick(0, 1, dim),
        1 => e.ex.broadcast(dim),
        _ => Ex::concat(&vec![e.ex; dim.div_ceil(d)]).pick(0, 1, dim),
    };
    let name = if d == dim { e.name } else { format!("{}[..{dim}]", e.name) };
    Entry { ex, name, range: e.range }
}
