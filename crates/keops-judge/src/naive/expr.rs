//! Formulas as trees, and their text.

use super::ops::{Lists, Op};
use super::reduce::Category;

/// A formula. Variables are positions in a list of declarations.
#[derive(Clone, PartialEq, Debug)]
pub enum Expr {
    /// The row of an argument.
    Var(usize),
    /// A number.
    Num(f64),
    /// The number of the row of `i` or of `j`.
    Row(Category),
    /// Operands, then literal integers or lists of them.
    Apply(Op, Vec<Expr>, Vec<Vec<i64>>),
    /// Components `start`, `start + step`, … below `stop`.
    Slice(Box<Expr>, usize, usize, usize),
}

/// How variables are called, and how operators are written.
pub struct Names<'a> {
    /// A name for each position.
    pub names: &'a [String],
    /// Says for each operator in turn whether it is written between its operands.
    pub infix: &'a mut dyn FnMut() -> bool,
}

/// Symbol and strength of an operator; see the grammar in the documentation of parsing.
fn symbol(op: Op) -> Option<(&'static str, u8)> {
    Some(match op {
        Op::LessThan => ("<", 1),
        Op::LessOrEqual => ("<=", 1),
        Op::Equal => ("==", 1),
        Op::NotEqual => ("!=", 1),
        Op::Scalprod => ("|", 2),
        Op::Add => ("+", 3),
        Op::Subtract => ("-", 3),
        Op::Mult => ("*", 4),
        Op::Divide => ("/", 4),
        _ => return None,
    })
}
const SIGN: u8 = 5;
const POWER: u8 = 6;
const PRIMARY: u8 = 7;

impl Expr {
    /// An operation on operands.
    pub fn of(op: Op, operands: impl IntoIterator<Item = Expr>) -> Expr {
        Expr::Apply(op, operands.into_iter().collect(), vec![])
    }
    /// An operation with literal integers.
    pub fn with(op: Op, operands: Vec<Expr>, literals: &[i64]) -> Expr {
        Expr::Apply(op, operands, literals.iter().map(|v| vec![*v]).collect())
    }
    /// Calls `see` for this formula and everything in it.
    pub fn walk(&self, see: &mut dyn FnMut(&Expr)) {
        see(self);
        match self {
            Expr::Apply(_, operands, _) => operands.iter().for_each(|x| x.walk(see)),
            Expr::Slice(x, ..) => x.walk(see),
            _ => {}
        }
    }
    /// Does it use that variable?
    pub fn uses(&self, variable: usize) -> bool {
        let mut found = false;
        self.walk(&mut |e| found |= *e == Expr::Var(variable));
        found
    }
    /// The same formula of other variables.
    pub fn renamed(&self, to: &dyn Fn(usize) -> usize) -> Expr {
        match self {
            Expr::Var(k) => Expr::Var(to(*k)),
            Expr::Apply(op, x, l) => {
                Expr::Apply(*op, x.iter().map(|x| x.renamed(to)).collect(), l.clone())
            }
            Expr::Slice(x, a, b, c) => Expr::Slice(Box::new(x.renamed(to)), *a, *b, *c),
            other => other.clone(),
        }
    }
    /// As text, operators between their operands.
    pub fn plain(&self, names: &[String]) -> String {
        self.text(&mut Names { names, infix: &mut || true })
    }
    /// As text that reads back as this formula.
    pub fn text(&self, n: &mut Names<'_>) -> String {
        self.write(n, 0)
    }
    fn write(&self, n: &mut Names<'_>, least: u8) -> String {
        let (text, strength) = self.piece(n);
        if strength < least { format!("({text})") } else { text }
    }
    fn piece(&self, n: &mut Names<'_>) -> (String, u8) {
        match self {
            Expr::Var(k) => (n.names[*k].clone(), PRIMARY),
            Expr::Num(v) if v.is_nan() => ("NaN".into(), PRIMARY),
            Expr::Num(v) => {
                let size = if v.is_infinite() { "Inf".into() } else { format!("{:?}", v.abs()) };
                let size = size.trim_end_matches(".0").to_string();
                if v.is_sign_negative() { (format!("-{size}"), SIGN) } else { (size, PRIMARY) }
            }
            Expr::Row(Category::J) => ("j".into(), PRIMARY),
            Expr::Row(_) => ("i".into(), PRIMARY),
            Expr::Slice(x, start, stop, step) => {
                let x = x.write(n, PRIMARY);
                let text = match (stop - start, step) {
                    (1, 1) => format!("{x}[{start}]"),
                    (_, 1) => format!("{x}[{start}:{stop}]"),
                    _ => format!("{x}[{start}:{stop}:{step}]"),
                };
                (text, PRIMARY)
            }
            Expr::Apply(op, x, literals) => {
                if let (Op::Minus, true) = (op, (n.infix)()) {
                    return (format!("-{}", x[0].write(n, SIGN)), SIGN);
                }
                if let Some((symbol, s)) = symbol(*op)
                    && (n.infix)()
                {
                    // Operators group from the left; comparisons do not chain.
                    let left = x[0].write(n, s + (s == 1) as u8);
                    return (format!("{left} {symbol} {}", x[1].write(n, s + 1)), s);
                }
                match op {
                    Op::Square if (n.infix)() => {
                        return (format!("{}**2", x[0].write(n, PRIMARY)), POWER);
                    }
                    Op::Concat if (n.infix)() => {
                        let x: Vec<String> = x.iter().map(|x| x.write(n, 0)).collect();
                        return (format!("[{}]", x.join(", ")), PRIMARY);
                    }
                    _ => {}
                }
                let mut args: Vec<String> = x.iter().map(|x| x.write(n, 0)).collect();
                if *op == Op::Einsum {
                    // extents, then each operand with its indices, then those of the result
                    let lists: Vec<String> = literals.iter().map(|l| format!("{l:?}")).collect();
                    let mut all = vec![lists[0].clone()];
                    for (x, l) in args.into_iter().zip(&lists[1..]) {
                        all.extend([x, l.clone()]);
                    }
                    all.push(lists[lists.len() - 1].clone());
                    return (format!("Einsum({})", all.join(", ")), PRIMARY);
                }
                let lists = matches!(op.literals(), Lists::Lists);
                args.extend(literals.iter().map(|l| match lists {
                    true => format!("{l:?}"),
                    false => l[0].to_string(),
                }));
                (format!("{}({})", op.name(), args.join(", ")), PRIMARY)
            }
        }
    }
}
