//! The text form of programs. Kinds of values follow from their definitions and are not written;
//! a line that starts with `//` is a comment.

use super::{Affine, Field, Loop, Mode, Op, Program, Record, SInst, Source, Space, Stream};
use crate::ops;
use crate::prim::{Kind, Prim, ScalarFn};
use crate::reduce::{Order, Select};
use crate::vecmath::{Precision, PrimBuilder, Val};
use crate::verify::{VerifyError, verify};
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::str::FromStr;

impl fmt::Display for Affine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.offset)?;
        for (l, s) in &self.terms {
            write!(f, " + {s}*l{}", l.0)?;
        }
        Ok(())
    }
}

/// Shortest text that reads back as the same bits.
fn real(f: &mut fmt::Formatter<'_>, v: f64) -> fmt::Result {
    if v.is_nan() && v.to_bits() != f64::NAN.to_bits() {
        write!(f, "NaN#{:016x}", v.to_bits())
    } else {
        write!(f, "{v:?}")
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Prim(Prim::Call(s)) => write!(f, "call {}", s.name),
            Op::Prim(Prim::CallIf(s)) => write!(f, "call if {}", s.name),
            Op::Prim(p) => write!(f, "{p:?}"),
            Op::Table(o) => write!(f, "op {}", o.name),
            Op::Real(v) => {
                f.write_str("real ")?;
                real(f, *v)
            }
            Op::Int(v) => write!(f, "int {v}"),
            Op::Load(s, at) => write!(f, "{s:?}[{at}]"),
            Op::Gather { offset, len } => write!(f, "gather {len} from {offset}"),
            Op::Counter(a) => write!(f, "counter {a}"),
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut depth = 1usize;
        for inst in &self.insts {
            if matches!(inst, SInst::End(_)) {
                depth = depth.saturating_sub(1);
            }
            write!(f, "{:1$}", "", 2 * depth)?;
            match inst {
                SInst::Def { dst, op, args } => {
                    write!(f, "%{} = {op}", dst.0)?;
                    for a in args {
                        write!(f, " %{}", a.0)?;
                    }
                }
                SInst::Begin { id, extent } => {
                    write!(f, "loop l{} < {extent}", id.0)?;
                    depth += 1;
                }
                SInst::End(id) => write!(f, "end l{}", id.0)?,
                SInst::Start { acc, value } => write!(f, "acc %{} = %{}", acc.0, value.0)?,
                SInst::Update { acc, value } => write!(f, "acc %{} := %{}", acc.0, value.0)?,
                SInst::Emit { slot, value } => write!(f, "emit [{slot}] %{}", value.0)?,
                SInst::Store { space, at, value } => {
                    write!(f, "{space:?}[{at}] = %{}", value.0)?;
                }
            }
            f.write_char('\n')?;
        }
        Ok(())
    }
}

fn record(f: &mut fmt::Formatter<'_>, name: &str, len: usize, fields: &[Field]) -> fmt::Result {
    write!(f, "{name} {len}")?;
    for (k, x) in fields.iter().enumerate() {
        f.write_str(if k == 0 { " = " } else { ", " })?;
        match x.source {
            Source::Argument(n) => write!(f, "argument {n}")?,
            Source::RowNumber => f.write_str("row number")?,
        }
        write!(f, " at {} of {}", x.offset, x.dim)?;
    }
    f.write_char('\n')
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = match self.precision {
            Precision::F32 => "f32",
            Precision::F64 => "f64",
        };
        write!(f, "program {precision} ")?;
        match self.mode {
            Mode::Sum => f.write_str("sum")?,
            Mode::PivotSum => f.write_str("pivot sum")?,
            Mode::Select { select: s, k } => {
                write!(f, "select {k} {:?}", s.order)?;
                for (word, on) in [("many", s.many), ("value", s.value), ("index", s.index)] {
                    if on {
                        write!(f, " {word}")?;
                    }
                }
            }
        }
        writeln!(f, ", keys {}, sums {}, results {}", self.keys, self.sums, self.results)?;
        if self.factored || !self.tame.is_empty() {
            f.write_str(if self.factored { "factored, tame" } else { "tame" })?;
            for k in &self.tame {
                write!(f, " {k}")?;
            }
            f.write_char('\n')?;
        }
        for (name, r) in [("param", &self.param), ("kept", &self.kept), ("reduced", &self.reduced)]
        {
            record(f, name, r.len, &r.fields)?;
            if r.input_len > 0 || !r.input_fields.is_empty() {
                record(f, "  input", r.input_len, &r.input_fields)?;
            }
        }
        for (name, s) in self.sections() {
            if *s != Stream::default() {
                write!(f, "{name}, buffer {}:\n{s}", s.buffer)?;
            }
        }
        Ok(())
    }
}

/// Why a text is not a program.
///
/// ```
/// use keops_core::program::{Program, TextError};
/// let Err(TextError::Syntax { line, got, .. }) = "no program".parse::<Program>() else { unreachable!() };
/// assert_eq!(line, 1);
/// assert!(got.contains("no"), "{got}");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TextError {
    /// The text does not follow the grammar.
    #[error("line {line}, column {column}: expected {expected}, got {got}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What could stand there.
        expected: String,
        /// What stands there.
        got: String,
    },
    /// The program breaks a rule.
    #[error(transparent)]
    Rule(#[from] VerifyError),
}

/// Parses and verifies what [`Program`]'s `Display` writes.
///
/// ```
/// use keops_core::program::Program;
///
/// // Σ_j y_j, written by hand.
/// let text = "
/// program f32 sum, keys 0, sums 1, results 1
/// param 0
/// kept 0
/// reduced 1 = argument 0 at 0 of 1
/// add, buffer 0:
///   %0 = Reduced[0]
///   emit [0] %0
/// finalise, buffer 0:
///   %0 = Sums[0]
///   Result[0] = %0
/// ";
/// let p: Program = text.parse()?;
/// assert_eq!(p.to_string(), text[1..]);
/// let error = text.replace("emit [0]", "emit 0").parse::<Program>().unwrap_err();
/// assert_eq!(error.to_string(), "line 8, column 8: expected `[`, got `0`");
/// # Ok::<(), keops_core::program::TextError>(())
/// ```
impl FromStr for Program {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Program, TextError> {
        let p = Reader::new(text).program()?;
        verify(&p)?;
        Ok(p)
    }
}

/// Reads lines, and tokens within the current one.
struct Reader<'t> {
    /// Lines that count, with their numbers.
    lines: Vec<(usize, &'t str)>,
    current: usize,
    /// Byte within the current line.
    at: usize,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        let lines = text
            .lines()
            .enumerate()
            .map(|(k, l)| (k + 1, l))
            .filter(|(_, l)| !l.trim().is_empty() && !l.trim_start().starts_with("//"))
            .collect();
        let mut r = Reader { lines, current: 0, at: 0 };
        r.skip();
        r
    }
    fn rest(&self) -> &'t str {
        self.lines.get(self.current).map_or("", |l| &l.1[self.at..])
    }
    fn skip(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }
    /// The next token: a word, a number with its sign, or one other character.
    fn token(&self) -> &'t str {
        let rest = self.rest();
        let word = |c: char| c.is_alphanumeric() || "_.#".contains(c);
        let mut before = ' ';
        let long = |(k, c): &(usize, char)| {
            let sign = *c == '-' && *k == 0 || "+-".contains(*c) && before == 'e';
            before = *c;
            word(*c) || sign
        };
        let n: usize = rest.char_indices().take_while(long).map(|(_, c)| c.len_utf8()).sum();
        let one = rest.chars().next().map_or(0, char::len_utf8);
        &rest[..n.max(one)]
    }
    fn fail<T>(&self, expected: impl Into<String>) -> Result<T, TextError> {
        let (line, text) = match self.lines.get(self.current) {
            Some(&(n, t)) => (n, &t[..self.at]),
            None => (self.lines.last().map_or(1, |l| l.0 + 1), ""),
        };
        let got = match self.token() {
            "" if self.current >= self.lines.len() => "the end of the text".into(),
            "" => "the end of the line".into(),
            t => format!("`{t}`"),
        };
        let column = text.chars().count() + 1;
        Err(TextError::Syntax { line, column, expected: expected.into(), got })
    }
    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        self.skip();
    }
    /// Takes `what` if it comes next.
    fn eat(&mut self, what: &str) -> bool {
        let whole = what.ends_with(|c: char| c.is_alphanumeric());
        let rest = self.rest();
        let next = rest[what.len().min(rest.len())..].chars().next();
        let found = rest.starts_with(what)
            && !(whole && next.is_some_and(|c| c.is_alphanumeric() || c == '_'));
        if found {
            self.advance(what.len());
        }
        found
    }
    fn require(&mut self, what: &str) -> Result<(), TextError> {
        if self.eat(what) { Ok(()) } else { self.fail(format!("`{what}`")) }
    }
    fn number<T: FromStr>(&mut self, what: &str) -> Result<T, TextError> {
        let token = self.token();
        match token.parse() {
            Ok(v) => {
                self.advance(token.len());
                Ok(v)
            }
            Err(_) => self.fail(what),
        }
    }
    fn end(&mut self) -> Result<(), TextError> {
        if !self.rest().is_empty() {
            return self.fail("the end of the line");
        }
        self.current += 1;
        self.at = 0;
        self.skip();
        Ok(())
    }

    fn program(&mut self) -> Result<Program, TextError> {
        self.require("program")?;
        let precision = if self.eat("f32") {
            Precision::F32
        } else if self.eat("f64") {
            Precision::F64
        } else {
            return self.fail("`f32` or `f64`");
        };
        let mode = self.mode()?;
        let mut sizes = [0; 3];
        for (size, name) in sizes.iter_mut().zip(["keys", "sums", "results"]) {
            self.require(",")?;
            self.require(name)?;
            *size = self.number("a size")?;
        }
        self.end()?;
        let (mut factored, mut tame) = (self.eat("factored"), vec![]);
        if factored {
            self.require(",")?;
        }
        if self.eat("tame") {
            while !self.rest().is_empty() {
                tame.push(self.number("the number of an argument")?);
            }
            self.end()?;
        } else if std::mem::take(&mut factored) {
            return self.fail("`tame`");
        }
        let [param, kept, reduced] = ["param", "kept", "reduced"].map(|name| self.record(name));
        let [keys, sums, results] = sizes;
        let mut p = Program {
            precision,
            mode,
            keys,
            sums,
            results,
            param: param?,
            kept: kept?,
            reduced: reduced?,
            once: Stream::default(),
            per_kept: Stream::default(),
            per_reduced: Stream::default(),
            key: Stream::default(),
            add: Stream::default(),
            rebase: Stream::default(),
            finalise: Stream::default(),
            factored,
            tame,
        };
        let mut names = vec![];
        for (name, stream) in p.sections_mut() {
            if self.eat(name) {
                self.require(",")?;
                self.require("buffer")?;
                stream.buffer = self.number("a size")?;
                self.require(":")?;
                self.end()?;
                self.stream(stream)?;
            }
            names.push(name);
        }
        if self.current < self.lines.len() {
            return self.fail(format!("an instruction or one of the sections {names:?} in order"));
        }
        Ok(p)
    }
    fn mode(&mut self) -> Result<Mode, TextError> {
        if self.eat("sum") {
            return Ok(Mode::Sum);
        }
        if self.eat("pivot") {
            self.require("sum")?;
            return Ok(Mode::PivotSum);
        }
        if !self.eat("select") {
            return self.fail("`sum`, `pivot sum` or `select`");
        }
        let k = self.number("the number of winners")?;
        let order = if self.eat("Min") {
            Order::Min
        } else if self.eat("Max") {
            Order::Max
        } else {
            return self.fail("`Min` or `Max`");
        };
        let [many, value, index] = ["many", "value", "index"].map(|word| self.eat(word));
        Ok(Mode::Select { select: Select { order, many, value, index }, k })
    }
    fn record(&mut self, name: &str) -> Result<Record, TextError> {
        self.require(name)?;
        let (len, fields) = self.fields()?;
        let mut record = Record { len, fields, ..Record::default() };
        if self.eat("input") {
            (record.input_len, record.input_fields) = self.fields()?;
        }
        Ok(record)
    }
    fn fields(&mut self) -> Result<(usize, Vec<Field>), TextError> {
        let (len, mut fields) = (self.number("a size")?, vec![]);
        let mut more = self.eat("=");
        while more {
            let source = if self.eat("argument") {
                Source::Argument(self.number("the number of an argument")?)
            } else if self.eat("row number") {
                Source::RowNumber
            } else {
                return self.fail("`argument` or `row number`");
            };
            self.require("at")?;
            let offset = self.number("an offset")?;
            self.require("of")?;
            fields.push(Field { source, dim: self.number("a dimension")?, offset });
            more = self.eat(",");
        }
        self.end()?;
        Ok((len, fields))
    }
    fn stream(&mut self, s: &mut Stream) -> Result<(), TextError> {
        let mut kinds: HashMap<u32, Kind> = HashMap::new();
        while let Some(inst) = self.inst()? {
            match &inst {
                SInst::Def { dst, op, .. } => {
                    kinds.insert(dst.0, op.kind());
                }
                SInst::Start { acc, value } => match kinds.get(&value.0) {
                    Some(&kind) => {
                        kinds.insert(acc.0, kind);
                    }
                    None => return self.fail("a value defined before"),
                },
                _ => {}
            }
            s.insts.push(inst);
            self.end()?;
        }
        let all = 0..kinds.len() as u32;
        match all.map(|v| kinds.get(&v).copied()).collect() {
            Some(kinds) => s.kinds = kinds,
            None => return self.fail("values numbered from 0 on without gaps above"),
        }
        Ok(())
    }
    /// An instruction, if the line is one.
    fn inst(&mut self) -> Result<Option<SInst>, TextError> {
        Ok(Some(match self.token() {
            "%" => {
                let dst = self.value()?;
                self.require("=")?;
                let op = self.op()?;
                let mut args = vec![];
                while self.token() == "%" {
                    args.push(self.value()?);
                }
                SInst::Def { dst, op, args }
            }
            "loop" => {
                self.require("loop")?;
                let id = self.loop_id()?;
                self.require("<")?;
                SInst::Begin { id, extent: self.number("a number of turns")? }
            }
            "end" => {
                self.require("end")?;
                SInst::End(self.loop_id()?)
            }
            "acc" => {
                self.require("acc")?;
                let acc = self.value()?;
                if self.eat(":=") {
                    SInst::Update { acc, value: self.value()? }
                } else {
                    self.require("=")?;
                    SInst::Start { acc, value: self.value()? }
                }
            }
            "emit" => {
                self.require("emit")?;
                let slot = self.place()?;
                SInst::Emit { slot, value: self.value()? }
            }
            _ => {
                let Some(space) = self.space() else { return Ok(None) };
                let at = self.place()?;
                self.require("=")?;
                SInst::Store { space, at, value: self.value()? }
            }
        }))
    }
    fn value(&mut self) -> Result<Val, TextError> {
        self.require("%")?;
        Ok(Val(self.number("the number of a value")?))
    }
    fn loop_id(&mut self) -> Result<Loop, TextError> {
        let token = self.token();
        match token.strip_prefix('l').and_then(|n| n.parse().ok()) {
            Some(n) => {
                self.advance(token.len());
                Ok(Loop(n))
            }
            None => self.fail("a loop, as `l0`"),
        }
    }
    fn space(&mut self) -> Option<Space> {
        Space::ALL.into_iter().find(|s| self.eat(&format!("{s:?}")))
    }
    fn place(&mut self) -> Result<Affine, TextError> {
        self.require("[")?;
        let at = self.affine()?;
        self.require("]")?;
        Ok(at)
    }
    fn affine(&mut self) -> Result<Affine, TextError> {
        let (offset, mut terms) = (self.number("an offset")?, vec![]);
        while self.eat("+") {
            let stride = self.number("a stride")?;
            self.require("*")?;
            terms.push((self.loop_id()?, stride));
        }
        Ok(Affine { offset, terms })
    }
    fn op(&mut self) -> Result<Op, TextError> {
        if let Some(space) = self.space() {
            return Ok(Op::Load(space, self.place()?));
        }
        let named = |r: &mut Self, shift: fn(u8) -> Prim| -> Result<Op, TextError> {
            r.require("(")?;
            let by = r.number("a number of bits")?;
            r.require(")")?;
            Ok(Op::Prim(shift(by)))
        };
        Ok(match self.token() {
            "real" => {
                self.require("real")?;
                Op::Real(self.real()?)
            }
            "int" => {
                self.require("int")?;
                Op::Int(self.number("an integer")?)
            }
            "gather" => {
                self.require("gather")?;
                let len = self.number("a length")?;
                self.require("from")?;
                Op::Gather { offset: self.number("an offset")?, len }
            }
            "counter" => {
                self.require("counter")?;
                Op::Counter(self.affine()?)
            }
            "op" => {
                self.require("op")?;
                let name = self.token();
                let Some(op) = ops::by_name(name) else { return self.fail("an operation") };
                self.advance(name.len());
                Op::Table(op)
            }
            "call" => {
                self.require("call")?;
                let rare = self.eat("if");
                let name = self.token();
                let Some(f) = scalar_function(name) else {
                    return self.fail("a scalar function");
                };
                self.advance(name.len());
                Op::Prim(if rare { Prim::CallIf(f) } else { Prim::Call(f) })
            }
            "IntShl" => {
                self.require("IntShl")?;
                named(self, Prim::IntShl)?
            }
            "IntShr" => {
                self.require("IntShr")?;
                named(self, Prim::IntShr)?
            }
            name => {
                let Some(&p) = Prim::PLAIN.iter().find(|p| format!("{p:?}") == name) else {
                    return self.fail("a primitive, a load or a constant");
                };
                self.advance(name.len());
                Op::Prim(p)
            }
        })
    }
    fn real(&mut self) -> Result<f64, TextError> {
        let token = self.token();
        let Some(bits) = token.strip_prefix("NaN#") else { return self.number("a number") };
        match u64::from_str_radix(bits, 16).map(f64::from_bits) {
            Ok(v) if v.is_nan() => {
                self.advance(token.len());
                Ok(v)
            }
            _ => self.fail("the bits of a NaN"),
        }
    }
}

/// The scalar function of that name, among those that the operations of the table expand to.
fn scalar_function(name: &str) -> Option<&'static ScalarFn> {
    struct Search<'n> {
        precision: Precision,
        name: &'n str,
        next: u32,
        found: Option<&'static ScalarFn>,
    }
    impl Search<'_> {
        fn new_value(&mut self) -> Val {
            self.next += 1;
            Val(self.next)
        }
    }
    impl PrimBuilder for Search<'_> {
        fn precision(&self) -> Precision {
            self.precision
        }
        fn real(&mut self, _: f64) -> Val {
            self.new_value()
        }
        fn int(&mut self, _: i64) -> Val {
            self.new_value()
        }
        fn prim(&mut self, op: Prim, _: &[Val]) -> Val {
            if let Prim::Call(f) | Prim::CallIf(f) = op
                && f.name == self.name
            {
                self.found = Some(f);
            }
            self.new_value()
        }
    }
    ops::ALL.iter().find_map(|o| {
        [Precision::F32, Precision::F64].into_iter().find_map(|precision| {
            let mut search = Search { precision, name, next: 0, found: None };
            match o.code {
                ops::Code::Prim(p) => {
                    search.prim(p, &[]);
                }
                ops::Code::Expand(f) => {
                    let args: Vec<Val> = (0..o.arity).map(|_| search.new_value()).collect();
                    f(&mut search, &args);
                }
            }
            search.found
        })
    })
}
