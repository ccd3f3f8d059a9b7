//! Text of formulas, by the grammar in the documentation of `keops_core::parse`.

use super::expr::Expr;
use super::ops::{Lists, Op};
use super::reduce::{Category, Variable};
use std::collections::HashMap;

/// Variables as declared, in the order of arguments.
#[derive(Clone, Default, Debug)]
pub struct Declared {
    /// The variables.
    pub variables: Vec<Variable>,
}

impl Declared {
    /// From aliases such as `x = Vi(3)` or `x = Vj(1, 3)`.
    ///
    /// # Errors
    /// What is wrong with an alias.
    pub fn read<'a>(aliases: impl IntoIterator<Item = &'a str>) -> Result<Declared, String> {
        let mut slots: Vec<Option<Variable>> = vec![];
        for (k, alias) in aliases.into_iter().enumerate() {
            let (name, text) = match alias.split_once('=') {
                Some((name, text)) => (name.trim(), text),
                None => ("", alias),
            };
            let (kind, rest) = text.trim().split_once('(').ok_or("an alias without brackets")?;
            let numbers = rest.trim().trim_end_matches(')').split(',');
            let numbers: Vec<usize> = numbers
                .map(|n| n.trim().parse().map_err(|_| format!("a number in {alias}")))
                .collect::<Result<_, _>>()?;
            let (position, variable) = declaration(name, kind.trim(), &numbers)?;
            let position = position.unwrap_or(k);
            if slots.len() <= position {
                slots.resize(position + 1, None);
            }
            slots[position] = Some(variable);
        }
        let variables = slots.into_iter().collect::<Option<_>>().ok_or("positions have a gap")?;
        Ok(Declared { variables })
    }
    /// Position of a variable.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.variables.iter().position(|v| v.name == name)
    }
}

fn declaration(
    name: &str,
    kind: &str,
    numbers: &[usize],
) -> Result<(Option<usize>, Variable), String> {
    let (category, numbers) = match (kind, numbers) {
        ("Vi" | "Vx", n) => (Category::I, n),
        ("Vj" | "Vy", n) => (Category::J, n),
        ("Pm", n) => (Category::Parameter, n),
        ("Var", [n @ .., 0]) => (Category::I, n),
        ("Var", [n @ .., 1]) => (Category::J, n),
        ("Var", [n @ .., 2]) => (Category::Parameter, n),
        _ => return Err(format!("an unknown declaration {kind}")),
    };
    let (position, dim) = match numbers {
        [dim] => (None, *dim),
        [position, dim] => (Some(*position), *dim),
        _ => return Err(format!("a declaration {kind} of {numbers:?}")),
    };
    Ok((position, Variable { name: name.into(), category, dim }))
}

/// Reads a formula; what it declares on the spot is added to the variables.
///
/// # Errors
/// What was not understood. Dimensions are looked at by [`super::value`] only.
pub fn parse(text: &str, declared: &mut Declared) -> Result<Expr, String> {
    let mut p = Parser { words: words(text)?, at: 0, declared, named: HashMap::new() };
    while p.ahead(1) == Some("=") {
        let name = p.next()?;
        p.at += 1;
        let meant = p.formula(0)?;
        p.named.insert(name, meant);
        p.require(";")?;
    }
    let e = p.formula(0)?;
    match p.peek() {
        None => Ok(e),
        Some(w) => Err(format!("{w} after the formula {text}")),
    }
}

/// Names, numbers and symbols.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = vec![];
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        let number =
            c.is_ascii_digit() || (c == '.' && rest[1..].starts_with(|d: char| d.is_ascii_digit()));
        let len = if number {
            let mut len = 0;
            let bytes = rest.as_bytes();
            while len < bytes.len() {
                let b = bytes[len];
                let sign = (b == b'+' || b == b'-') && matches!(bytes[len - 1], b'e' | b'E');
                let exponent = matches!(b, b'e' | b'E')
                    && rest[len + 1..]
                        .trim_start_matches(['+', '-'])
                        .starts_with(|d: char| d.is_ascii_digit());
                if !(b.is_ascii_digit() || b == b'.' || exponent || (len > 0 && sign)) {
                    break;
                }
                len += 1;
            }
            len
        } else if c.is_alphabetic() || c == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if ["**", "<=", ">=", "==", "!="].iter().any(|s| rest.starts_with(s)) {
            2
        } else if "<>=+-*/|()[],:;".contains(c) {
            1
        } else {
            return Err(format!("the character {c:?}"));
        };
        words.push(rest[..len].to_string());
        rest = rest[len..].trim_start();
    }
    Ok(words)
}

/// What an argument of a call is.
enum Argument {
    Formula(Expr),
    List(Vec<Expr>),
}

struct Parser<'a> {
    words: Vec<String>,
    at: usize,
    declared: &'a mut Declared,
    named: HashMap<String, Expr>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&str> {
        self.words.get(self.at).map(String::as_str)
    }
    fn ahead(&self, n: usize) -> Option<&str> {
        self.words.get(self.at + n).map(String::as_str)
    }
    fn next(&mut self) -> Result<String, String> {
        self.at += 1;
        self.words.get(self.at - 1).cloned().ok_or_else(|| "the end of the text".into())
    }
    fn eat(&mut self, symbol: &str) -> bool {
        let found = self.peek() == Some(symbol);
        self.at += found as usize;
        found
    }
    fn require(&mut self, symbol: &str) -> Result<(), String> {
        if self.eat(symbol) { Ok(()) } else { Err(format!("no {symbol} before {:?}", self.peek())) }
    }

    /// Operators that bind at least so strongly, from the left; powers from the right.
    fn formula(&mut self, least: u8) -> Result<Expr, String> {
        let mut left = self.signed()?;
        while let Some(word) = self.peek() {
            let word = word.to_string();
            let strength = match word.as_str() {
                "<" | "<=" | ">" | ">=" | "==" | "!=" => 1,
                "|" => 2,
                "+" | "-" => 3,
                "*" | "/" => 4,
                "**" => 6,
                _ => break,
            };
            if strength < least {
                break;
            }
            self.at += 1;
            let right = self.formula(if word == "**" { 5 } else { strength + 1 })?;
            left = match word.as_str() {
                "<" => Expr::of(Op::LessThan, [left, right]),
                "<=" => Expr::of(Op::LessOrEqual, [left, right]),
                ">" => Expr::of(Op::LessThan, [right, left]),
                ">=" => Expr::of(Op::LessOrEqual, [right, left]),
                "==" => Expr::of(Op::Equal, [left, right]),
                "!=" => Expr::of(Op::NotEqual, [left, right]),
                "|" => Expr::of(Op::Scalprod, [left, right]),
                "+" => Expr::of(Op::Add, [left, right]),
                "-" => Expr::of(Op::Subtract, [left, right]),
                "*" => Expr::of(Op::Mult, [left, right]),
                "/" => Expr::of(Op::Divide, [left, right]),
                _ => power(left, right),
            };
        }
        Ok(left)
    }
    fn signed(&mut self) -> Result<Expr, String> {
        if self.eat("-") {
            // The sign of a number belongs to it, as in Pow(x, -2).
            return Ok(match self.formula(5)? {
                Expr::Num(v) => Expr::Num(-v),
                x => Expr::of(Op::Minus, [x]),
            });
        }
        if self.eat("+") {
            return self.formula(5);
        }
        let mut x = match self.primary()? {
            Argument::Formula(x) => x,
            Argument::List(x) => Expr::of(Op::Concat, x),
        };
        while self.eat("[") {
            let start = self.number()?;
            let (stop, step) = match self.eat(":") {
                true => (self.number()?, if self.eat(":") { self.number()? } else { 1 }),
                false => (start + 1, 1),
            };
            self.require("]")?;
            x = Expr::Slice(Box::new(x), start, stop, step);
        }
        Ok(x)
    }
    fn number(&mut self) -> Result<usize, String> {
        let word = self.next()?;
        word.parse().map_err(|_| format!("{word}, which is no index"))
    }
    fn list(&mut self, close: &str) -> Result<Vec<Argument>, String> {
        let mut items = vec![];
        while !self.eat(close) {
            items.push(self.argument()?);
            if !self.eat(",") {
                self.require(close)?;
                break;
            }
        }
        Ok(items)
    }
    /// A formula, or a list of literals.
    fn argument(&mut self) -> Result<Argument, String> {
        let start = self.at;
        if matches!(self.peek(), Some("[" | "(" | "Ind"))
            && let Ok(list) = self.primary()
            && matches!(list, Argument::List(_))
            && matches!(self.peek(), Some("," | ")" | "]"))
        {
            return Ok(list);
        }
        self.at = start;
        Ok(Argument::Formula(self.formula(0)?))
    }
    fn primary(&mut self) -> Result<Argument, String> {
        let word = self.next()?;
        let first = word.chars().next().unwrap_or(' ');
        if first.is_ascii_digit() || first == '.' {
            let v: f64 = word.parse().map_err(|_| format!("the number {word}"))?;
            return Ok(Argument::Formula(Expr::Num(v)));
        }
        let whole = |items: Vec<Argument>| -> Result<Argument, String> {
            let plain = |a| match a {
                Argument::Formula(e) => Ok(e),
                Argument::List(_) => Err("a list in a list".to_string()),
            };
            Ok(Argument::List(items.into_iter().map(plain).collect::<Result<_, _>>()?))
        };
        match word.as_str() {
            "(" => {
                let mut items = self.list(")")?;
                let tuple = items.len() != 1 || self.words[self.at - 2] == ",";
                return if tuple { whole(items) } else { Ok(items.remove(0)) };
            }
            "[" => {
                let items = self.list("]")?;
                return whole(items);
            }
            "Ind" => {
                self.require("(")?;
                let items = self.list(")")?;
                return whole(items);
            }
            _ => {}
        }
        if !(first.is_alphabetic() || first == '_') {
            return Err(format!("{word} where a formula was expected"));
        }
        if self.eat("(") {
            let args = self.list(")")?;
            return self.call(&word, args).map(Argument::Formula);
        }
        if let Some(e) = self.named.get(&word) {
            return Ok(Argument::Formula(e.clone()));
        }
        if let Some(k) = self.declared.position(&word) {
            return Ok(Argument::Formula(Expr::Var(k)));
        }
        Ok(Argument::Formula(match word.as_str() {
            "i" => Expr::Row(Category::I),
            "j" => Expr::Row(Category::J),
            "Inf" => Expr::Num(f64::INFINITY),
            "NaN" => Expr::Num(f64::NAN),
            _ => return Err(format!("the unknown name {word}")),
        }))
    }
    fn call(&mut self, name: &str, args: Vec<Argument>) -> Result<Expr, String> {
        if matches!(name, "Vi" | "Vj" | "Pm" | "Var" | "Vx" | "Vy") {
            let numbers: Vec<usize> =
                integers(&args)?.iter().flatten().map(|v| *v as usize).collect();
            let (position, variable) = declaration("", name, &numbers)?;
            let position = position.unwrap_or(self.declared.variables.len());
            match self.declared.variables.get(position) {
                Some(v) if v.category == variable.category && v.dim == variable.dim => {}
                None if position == self.declared.variables.len() => {
                    self.declared.variables.push(variable);
                }
                _ => return Err(format!("the position {position}")),
            }
            return Ok(Expr::Var(position));
        }
        let op = Op::named(name).ok_or_else(|| format!("the unknown operation {name}"))?;
        if op == Op::Einsum {
            let (mut operands, mut lists) = (vec![], vec![]);
            for a in args {
                match a {
                    Argument::Formula(e) => operands.push(e),
                    a => lists.extend(integers(&[a])?),
                }
            }
            return Ok(Expr::Apply(op, operands, lists));
        }
        if op == Op::Diff && args.iter().any(|a| matches!(a, Argument::List(_))) {
            return several(args);
        }
        let (least, most) = op.operands();
        let mut operands = vec![];
        let mut rest = vec![];
        for a in args {
            match a {
                Argument::Formula(e) if operands.len() < most => operands.push(e),
                // An operand may be a concatenation.
                Argument::List(e) if operands.len() < most.min(least.max(1)) => {
                    operands.push(Expr::of(Op::Concat, e));
                }
                a => rest.push(a),
            }
        }
        if operands.len() < least {
            return Err(format!("{name} of {} operands", operands.len()));
        }
        let literals = integers(&rest)?;
        if op.literals() == Lists::Integers && literals.iter().any(|l| l.len() != 1) {
            return Err(format!("{name} with a list"));
        }
        Ok(Expr::Apply(op, operands, literals))
    }
}

/// `Diff(f, (v, w), (u, t))`: the sum of the derivatives.
fn several(args: Vec<Argument>) -> Result<Expr, String> {
    match <[Argument; 3]>::try_from(args) {
        Ok([Argument::Formula(f), Argument::List(v), Argument::List(u)]) if v.len() == u.len() => v
            .into_iter()
            .zip(u)
            .map(|(v, u)| Expr::of(Op::Diff, [f.clone(), v, u]))
            .reduce(|a, b| Expr::of(Op::Add, [a, b]))
            .ok_or_else(|| "Diff along nothing".into()),
        _ => Err("Diff of a formula, variables and tangents".into()),
    }
}

fn integers(args: &[Argument]) -> Result<Vec<Vec<i64>>, String> {
    let integer = |e: &Expr| match e {
        Expr::Num(v) if v.fract() == 0.0 => Ok(*v as i64),
        e => Err(format!("{e:?}, which is no integer")),
    };
    let list = |a: &Argument| match a {
        Argument::Formula(e) => Ok(vec![integer(e)?]),
        Argument::List(l) => l.iter().map(integer).collect(),
    };
    args.iter().map(list).collect()
}

fn power(base: Expr, exponent: Expr) -> Expr {
    match exponent {
        Expr::Num(2.0) => Expr::of(Op::Square, [base]),
        Expr::Num(0.5) => Expr::of(Op::Sqrt, [base]),
        Expr::Num(-0.5) => Expr::of(Op::Rsqrt, [base]),
        Expr::Num(v) if v.fract() == 0.0 => Expr::with(Op::Pow, vec![base], &[v as i64]),
        exponent => Expr::of(Op::Powf, [base, exponent]),
    }
}
