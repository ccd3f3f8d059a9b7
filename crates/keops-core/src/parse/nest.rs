//! How formulas nest: brackets, calls, signs and operators, on a stack of the parser's own, so that
//! any formula is read on any stack.

use super::lexer::Token;
use super::{COMPARISON, Located, MAX_DEPTH, NO_FORMULA, Parser, SIGN, Value, strength};
use crate::error::{ParseError, Span};
use crate::graph::Ex;
use crate::ops;

/// What waits for an expression inside it.
enum Wait<'b> {
    /// Operators that bind at least so strongly: what stands left of the last one, and that one.
    Infix { least: u8, left: Option<(Located<'b>, &'static str, u8)> },
    /// A sign at `start`.
    Sign { start: usize, minus: bool },
    /// Items up to a closing bracket.
    Items { of: Items, items: Vec<Located<'b>> },
    /// Bounds of a selection.
    Select(Selection<'b>),
}

/// What items between brackets are.
#[derive(Clone, Copy)]
enum Items {
    /// Arguments of the call of this name.
    Call(Span),
    /// `(…)` from here on: a group, or a list.
    Group(usize),
    /// `[…]` from here on.
    Brackets(usize),
}

impl Items {
    fn close(self) -> &'static str {
        match self {
            Items::Call(_) | Items::Group(_) => ")",
            Items::Brackets(_) => "]",
        }
    }
}

/// `x[start:stop:step]` as far as it was read.
struct Selection<'b> {
    x: Ex<'b>,
    at: Span,
    open: usize,
    bounds: [Option<i64>; 3],
    colons: usize,
}

/// What comes next.
enum Next<'b> {
    /// An operand is to be read.
    Operand,
    /// A name, call or bracket is complete; selections may follow.
    Primary(Located<'b>),
    /// An operand is complete with its sign and selections.
    Value(Located<'b>),
    /// An expression is complete.
    Expression(Located<'b>),
}

impl<'b> Parser<'b, '_> {
    /// A sequence of operators that bind at least so strongly.
    pub(super) fn expression(&mut self, least: u8) -> Result<Located<'b>, ParseError> {
        let mut waiting = vec![];
        let mut next = self.open(least, &mut waiting)?;
        loop {
            next = match next {
                Next::Operand => self.operand(&mut waiting)?,
                Next::Primary(x) if self.eat("[") => {
                    let (at, x) = (x.span, self.as_formula(&x)?);
                    let open = self.last_end() - 1;
                    let s = Selection { x, at, open, bounds: [None; 3], colons: 0 };
                    self.selection(s, &mut waiting)?
                }
                Next::Primary(x) => Next::Value(x),
                Next::Value(x) => self.infixes(x, &mut waiting)?,
                Next::Expression(x) => match waiting.pop() {
                    None => return Ok(x),
                    Some(infix @ Wait::Infix { .. }) => {
                        waiting.push(infix);
                        Next::Value(x)
                    }
                    Some(Wait::Sign { start, minus }) => {
                        let x = self.as_formula(&x)?;
                        Next::Value(self.made(start, if minus { x.un(&ops::MINUS) } else { x })?)
                    }
                    Some(Wait::Items { of, mut items }) => {
                        items.push(x);
                        self.comma(of.close())?;
                        self.items(of, items, &mut waiting)?
                    }
                    Some(Wait::Select(mut s)) => {
                        let Some(v) = x.integer() else {
                            let m = "expected an integer; see Gather for tables";
                            return Err(self.error(x.span, m));
                        };
                        s.bounds[s.colons] = Some(v);
                        self.bound(s, &mut waiting)?
                    }
                },
            }
        }
    }
    /// What comes after an opening parenthesis, up to the closing one.
    pub(super) fn arguments(&mut self) -> Result<Vec<Located<'b>>, ParseError> {
        let mut items = vec![];
        while !self.eat(")") {
            items.push(self.expression(0)?);
            self.comma(")")?;
        }
        Ok(items)
    }
    fn comma(&mut self, close: &'static str) -> Result<(), ParseError> {
        if !self.eat(",") && self.peek() != Token::Symbol(close) {
            return Err(self.unexpected(&format!("an operator, `,` or `{close}`")));
        }
        Ok(())
    }
    /// Begins an expression.
    fn open(&mut self, least: u8, waiting: &mut Vec<Wait<'b>>) -> Result<Next<'b>, ParseError> {
        if self.depth == MAX_DEPTH {
            let m = format!("brackets, signs and powers are nested more than {MAX_DEPTH} deep");
            return Err(self.error(self.span(), &m));
        }
        self.depth += 1;
        waiting.push(Wait::Infix { least, left: None });
        Ok(Next::Operand)
    }
    /// Takes the operand `x` of the innermost expression, and the operator behind it.
    fn infixes(
        &mut self,
        mut x: Located<'b>,
        waiting: &mut Vec<Wait<'b>>,
    ) -> Result<Next<'b>, ParseError> {
        let Some(Wait::Infix { least, left }) = waiting.last_mut() else {
            unreachable!("operands belong to an expression")
        };
        if let Some((a, symbol, s)) = left.take() {
            x = self.infix(symbol, &a, &x)?;
            let comparison = |t| matches!(t, Token::Symbol(c) if strength(c) == Some(COMPARISON));
            if s == COMPARISON && comparison(self.peek()) {
                let m = "comparisons do not chain: multiply two comparisons, or use parentheses";
                return Err(self.error(self.span(), m));
            }
        }
        if let Token::Symbol(symbol) = self.peek()
            && let Some(s) = strength(symbol).filter(|s| *s >= *least)
        {
            self.at += 1;
            *left = Some((x, symbol, s));
            return self.open(if symbol == "**" { SIGN } else { s + 1 }, waiting);
        }
        waiting.pop();
        self.depth -= 1;
        Ok(Next::Expression(x))
    }
    /// Begins a sign and its operand, or a primary.
    fn operand(&mut self, waiting: &mut Vec<Wait<'b>>) -> Result<Next<'b>, ParseError> {
        let (token, span) = (self.peek(), self.span());
        let start = span.start;
        if matches!(token, Token::End) {
            return Err(self.unexpected("a formula"));
        }
        self.at += 1;
        match token {
            Token::Symbol(sign @ ("-" | "+")) => {
                waiting.push(Wait::Sign { start, minus: sign == "-" });
                self.open(SIGN, waiting)
            }
            Token::Number(v) => Ok(Next::Primary(self.made(start, self.builder.lit(v))?)),
            Token::Name if self.eat("(") => self.items(Items::Call(span), vec![], waiting),
            Token::Name => Ok(Next::Primary(self.name(span)?)),
            Token::Symbol("(") => self.items(Items::Group(start), vec![], waiting),
            Token::Symbol("[") => self.items(Items::Brackets(start), vec![], waiting),
            _ => {
                self.at -= 1;
                Err(self.unexpected("a formula"))
            }
        }
    }
    /// The next item, or what the items are.
    fn items(
        &mut self,
        of: Items,
        mut items: Vec<Located<'b>>,
        waiting: &mut Vec<Wait<'b>>,
    ) -> Result<Next<'b>, ParseError> {
        if !self.eat(of.close()) {
            waiting.push(Wait::Items { of, items });
            return self.open(0, waiting);
        }
        let span = |start| Span { start, end: self.last_end() };
        Ok(Next::Primary(match of {
            Items::Call(name) => self.call(name, items)?,
            Items::Group(start) => {
                let comma_before = self.tokens[self.at - 2].0 == Token::Symbol(",");
                if items.len() == 1 && !comma_before {
                    Located { span: span(start), ..items.remove(0) }
                } else {
                    self.tuple(items, span(start))?
                }
            }
            Items::Brackets(start) => {
                // A list of literals, or made at once: lists do not nest.
                let literals = items.iter().all(|i| i.integer().is_some());
                let list = Located { value: Value::Brackets(items), span: span(start) };
                if literals {
                    list
                } else {
                    Located { value: Value::Formula(self.as_formula(&list)?), span: list.span }
                }
            }
        }))
    }
    /// A list of numbers or variables: lists do not nest.
    pub(super) fn tuple(
        &self,
        items: Vec<Located<'b>>,
        span: Span,
    ) -> Result<Located<'b>, ParseError> {
        match items.iter().find(|i| matches!(i.value, Value::Tuple(_))) {
            Some(list) => Err(self.error(list.span, NO_FORMULA)),
            None => Ok(Located { value: Value::Tuple(items), span }),
        }
    }
    /// Reads on inside a selection.
    fn selection(
        &mut self,
        s: Selection<'b>,
        waiting: &mut Vec<Wait<'b>>,
    ) -> Result<Next<'b>, ParseError> {
        if matches!(self.peek(), Token::Symbol(":" | "]")) {
            return self.bound(s, waiting);
        }
        waiting.push(Wait::Select(s));
        self.open(0, waiting)
    }
    /// Reads on behind a bound.
    fn bound(
        &mut self,
        mut s: Selection<'b>,
        waiting: &mut Vec<Wait<'b>>,
    ) -> Result<Next<'b>, ParseError> {
        while s.colons < 2 && self.eat(":") {
            s.colons += 1;
            if !matches!(self.peek(), Token::Symbol(":" | "]")) {
                waiting.push(Wait::Select(s));
                return self.open(0, waiting);
            }
        }
        self.require("]", "`:` or `]`")?;
        Ok(Next::Primary(self.selected(s)?))
    }
    fn selected(&self, s: Selection<'b>) -> Result<Located<'b>, ParseError> {
        let Selection { x, at, open, bounds, colons } = s;
        let (dim, span) = (x.dim(), Span { start: open, end: self.last_end() });
        let size = |v: i64, low: usize, high: usize| {
            let ok = usize::try_from(v).ok().filter(|v| (low..=high).contains(v));
            ok.ok_or_else(|| {
                let name = self.slice(at);
                let m = format!("{v} is not in {low}..={high}: {name} has {dim} components");
                self.error(span, &m)
            })
        };
        let picked = match (colons, bounds) {
            (0, [Some(k), ..]) => x.pick(size(k, 0, dim - 1)?, 1, 1),
            (0, _) => return Err(self.error(span, "expected a component")),
            (_, [start, stop, step]) => {
                let start = size(start.unwrap_or(0), 0, dim - 1)?;
                let stop = size(stop.unwrap_or(dim as i64), start + 1, dim)?;
                let step = size(step.unwrap_or(1), 1, dim)?;
                x.pick(start, step, (stop - start).div_ceil(step))
            }
        };
        self.made(at.start, picked)
    }
}
