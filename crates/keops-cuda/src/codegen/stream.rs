//! From a stream of a program to C++ statements: every value becomes one variable for each row and
//! each column of the thread's tile that it depends on.

use super::text::{Text, index, real};
use keops_core::error::CompileError;
use keops_core::ops;
use keops_core::prim::{Kind, Prim};
use keops_core::program::{Affine, Op, SInst, Space, Stream};
use keops_core::vecmath::{Precision, Val};
use std::collections::HashMap;
use std::ops::Range;

/// Statements that a loop may unroll into.
const UNROLL: usize = 2048;

/// A component that pairs emit.
pub struct Emission<'e> {
    /// Which one.
    pub slot: &'e Affine,
    /// One factor, or two to be multiplied; an expression for each instance, rows first.
    pub factors: Vec<Vec<String>>,
}

/// What a stream is translated for.
pub struct Scope<'s> {
    /// The stream.
    pub stream: &'s Stream,
    /// Compute type.
    pub precision: Precision,
    /// Rows of the tile that it is for.
    pub rows: Range<usize>,
    /// Rows of the tile (names have a row number if there are several).
    pub tile_rows: usize,
    /// Columns of the tile.
    pub columns: usize,
    /// Does it run on pairs (and not on rows)?
    pub pairs: bool,
    /// Are exponentials of what pairs compute summed, so that the hardware's will do?
    pub cheap_exp: bool,
    /// Are products that are only emitted to be left as two factors?
    pub factors: bool,
    /// The expression for an element of memory, for a row and a column of the tile.
    pub place: &'s dyn Fn(Space, &Affine, usize, usize) -> String,
}

/// Does a value depend on the kept row, on the reduced row?
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Class {
    kept: bool,
    reduced: bool,
}

struct Translation<'t, 's> {
    text: &'t mut Text,
    scope: &'t Scope<'s>,
    class: Vec<Class>,
    uses: Vec<u32>,
    /// Where each value is defined.
    defined: HashMap<Val, usize>,
    /// Definitions that are merged into their only user.
    merged: Vec<bool>,
    /// Constants, spelled out where they are used.
    constants: HashMap<Val, String>,
}

/// Translates a stream; `emit` receives what pairs emit.
///
/// # Errors
/// [`CompileError::Unsupported`] if it calls a function that exists on CPUs only.
pub fn translate(
    text: &mut Text,
    scope: &Scope<'_>,
    emit: &mut dyn FnMut(&mut Text, Emission<'_>),
) -> Result<(), CompileError> {
    let n = scope.stream.kinds.len();
    let mut t = Translation {
        text,
        scope,
        class: vec![Class::default(); n],
        uses: vec![0; n],
        defined: HashMap::new(),
        merged: vec![false; scope.stream.insts.len()],
        constants: HashMap::new(),
    };
    t.classify();
    t.merge();
    t.run(emit)
}

impl Translation<'_, '_> {
    fn space_class(&self, space: Space) -> Class {
        let kept = Class { kept: true, reduced: false };
        match space {
            Space::Param => Class::default(),
            Space::Reduced | Space::ReducedInput if self.scope.pairs => {
                Class { kept: false, reduced: true }
            }
            Space::Key | Space::Buffer if self.scope.pairs => Class { kept: true, reduced: true },
            _ => kept,
        }
    }
    fn classify(&mut self) {
        // Accumulators get their class from later updates: a second pass settles what uses them.
        for pass in 0..2 {
            for (k, inst) in self.scope.stream.insts.iter().enumerate() {
                let (dst, args, own) = match inst {
                    SInst::Def { dst, op, args } => {
                        self.defined.insert(*dst, k);
                        let own = match op {
                            Op::Load(space, _) => self.space_class(*space),
                            _ => Class::default(),
                        };
                        (Some(*dst), &args[..], own)
                    }
                    SInst::Start { acc, value } | SInst::Update { acc, value } => {
                        (Some(*acc), std::slice::from_ref(value), Class::default())
                    }
                    SInst::Emit { value, .. } | SInst::Store { value, .. } => {
                        (None, std::slice::from_ref(value), Class::default())
                    }
                    SInst::Begin { .. } | SInst::End(_) => continue,
                };
                let mut c = own;
                for a in args {
                    let k = self.class[a.0 as usize];
                    c.kept |= k.kept;
                    c.reduced |= k.reduced;
                    self.uses[a.0 as usize] += (pass == 0) as u32;
                }
                if let Some(d) = dst {
                    let d = &mut self.class[d.0 as usize];
                    d.kept |= c.kept;
                    d.reduced |= c.reduced;
                }
            }
        }
    }
    fn definition(&self, v: Val) -> Option<(usize, &Op, &[Val])> {
        let k = *self.defined.get(&v)?;
        match &self.scope.stream.insts[k] {
            SInst::Def { op, args, .. } => Some((k, op, args)),
            _ => None,
        }
    }
    fn is_pair(&self, v: Val) -> bool {
        let c = self.class[v.0 as usize];
        c.kept && c.reduced
    }
    /// Is this the exponential of something that pairs compute, whose rounding errors are already
    /// as large as the errors of the hardware's exponential?
    fn is_cheap(&self, op: &Op, args: &[Val]) -> bool {
        self.scope.cheap_exp
            && self.scope.precision == Precision::F32
            && matches!(op, Op::Table(o) if **o == ops::EXP)
            && self.is_pair(args[0])
            && !matches!(self.definition(args[0]), Some((_, Op::Load(..), _)))
    }
    /// Finds definitions that their only user takes over.
    fn merge(&mut self) {
        let insts = &self.scope.stream.insts;
        for (k, inst) in insts.iter().enumerate() {
            let value = match inst {
                SInst::Emit { value, .. } if self.scope.factors => *value,
                SInst::Def { op, args, .. } if self.is_cheap(op, args) => args[0],
                _ => continue,
            };
            let Some((d, op, _)) = self.definition(value) else { continue };
            let product = matches!(op, Op::Prim(Prim::Mul));
            let negated = matches!(op, Op::Prim(Prim::Neg)) && matches!(inst, SInst::Def { .. });
            let straight =
                !insts[d..k].iter().any(|i| matches!(i, SInst::Begin { .. } | SInst::End(_)));
            if (product || negated) && self.uses[value.0 as usize] == 1 && straight {
                self.merged[d] = true;
            }
        }
    }
    /// The variable of a value for one row and column.
    fn name(&self, v: Val, r: usize, c: usize) -> String {
        if let Some(text) = self.constants.get(&v) {
            return text.clone();
        }
        let class = self.class[v.0 as usize];
        let mut name = format!("v{}", v.0);
        if class.kept && self.scope.tile_rows > 1 {
            name += &format!("_{r}");
        }
        if class.reduced && self.scope.columns > 1 {
            name += &format!("c{c}");
        }
        name
    }
    /// Rows and columns that a value has instances for.
    fn instances(&self, v: Val) -> Vec<(usize, usize)> {
        let class = self.class[v.0 as usize];
        let start = self.scope.rows.start;
        let rows = if class.kept { self.scope.rows.clone() } else { start..start + 1 };
        let columns = if class.reduced { self.scope.columns } else { 1 };
        rows.flat_map(|r| (0..columns).map(move |c| (r, c))).collect()
    }
    fn type_of(&self, v: Val) -> &'static str {
        match self.scope.stream.kinds[v.0 as usize] {
            Kind::Real => "T",
            Kind::Int => "I",
            Kind::Mask => "bool",
        }
    }
    /// Statements of the loop that begins at `k`, its inner loops unrolled, and whether it ends
    /// the nest.
    fn unrolled(&self, k: usize) -> usize {
        let mut stack: Vec<(usize, usize)> = vec![];
        let mut total = 0;
        for inst in &self.scope.stream.insts[k..] {
            match inst {
                SInst::Begin { extent, .. } => stack.push((*extent, 0)),
                SInst::End(_) => {
                    let (extent, inside) = stack.pop().unwrap_or((1, 0));
                    let all = extent.saturating_mul(inside);
                    match stack.last_mut() {
                        Some(outer) => outer.1 += all,
                        None => {
                            total = all;
                            break;
                        }
                    }
                }
                _ => {
                    if let Some(top) = stack.last_mut() {
                        top.1 += 1;
                    }
                }
            }
        }
        total.saturating_mul(self.scope.rows.len() * self.scope.columns)
    }
    fn run(&mut self, emit: &mut dyn FnMut(&mut Text, Emission<'_>)) -> Result<(), CompileError> {
        let scope = self.scope;
        for (k, inst) in scope.stream.insts.iter().enumerate() {
            match inst {
                SInst::Begin { id, extent } => {
                    let full = self.unrolled(k) <= UNROLL;
                    self.text.pragma(if full { "unroll" } else { "unroll 1" });
                    let l = id.0;
                    self.text.open(format!("for (int l{l} = 0; l{l} < {extent}; l{l}++)"));
                }
                SInst::End(_) => self.text.close(),
                SInst::Def { dst, op, args } => match op {
                    _ if self.merged[k] => {}
                    Op::Real(v) => {
                        self.constants.insert(*dst, real(*v, scope.precision));
                    }
                    Op::Int(v) => {
                        self.constants.insert(*dst, format!("I({v})"));
                    }
                    _ => {
                        for (r, c) in self.instances(*dst) {
                            let value = self.expression(op, args, r, c)?;
                            let (ty, name) = (self.type_of(*dst), self.name(*dst, r, c));
                            self.text.line(format!("const {ty} {name} = {value};"));
                        }
                    }
                },
                SInst::Start { acc, value } => {
                    for (r, c) in self.instances(*acc) {
                        let (ty, a) = (self.type_of(*acc), self.name(*acc, r, c));
                        let v = self.name(*value, r, c);
                        self.text.line(format!("{ty} {a} = {v};"));
                    }
                }
                SInst::Update { acc, value } => {
                    for (r, c) in self.instances(*acc) {
                        let (a, v) = (self.name(*acc, r, c), self.name(*value, r, c));
                        self.text.line(format!("{a} = {v};"));
                    }
                }
                SInst::Emit { slot, value } => {
                    let factors = match self.definition(*value) {
                        Some((d, _, args)) if self.merged[d] => args.to_vec(),
                        _ => vec![*value],
                    };
                    let each = |v: &Val| {
                        let rows = scope.rows.clone();
                        rows.flat_map(|r| (0..scope.columns).map(move |c| (r, c)))
                            .map(|(r, c)| self.name(*v, r, c))
                            .collect()
                    };
                    let factors = factors.iter().map(each).collect();
                    emit(self.text, Emission { slot, factors });
                }
                SInst::Store { space, at, value } => {
                    let columns = if self.scope.pairs { scope.columns } else { 1 };
                    for r in scope.rows.clone() {
                        for c in 0..columns {
                            let v = self.name(*value, r, c);
                            self.text.line(format!("{} = {v};", (scope.place)(*space, at, r, c)));
                        }
                    }
                }
            }
        }
        Ok(())
    }
    fn expression(
        &self,
        op: &Op,
        args: &[Val],
        r: usize,
        c: usize,
    ) -> Result<String, CompileError> {
        let a: Vec<String> = args.iter().map(|&v| self.name(v, r, c)).collect();
        Ok(match op {
            Op::Real(_) | Op::Int(_) => unreachable!("constants are spelled out"),
            Op::Load(space, at) => (self.scope.place)(*space, at, r, c),
            Op::Gather { offset, .. } => format!("param[{offset} + {}]", a[0]),
            Op::Counter(at) => format!("I({})", index(at)),
            Op::Table(_) if self.is_cheap(op, args) => self.cheap(args[0], r, c),
            Op::Table(o) => {
                let mut text = o.cuda.to_string();
                for (k, a) in a.iter().enumerate() {
                    text = text.replace(&format!("{{{k}}}"), a);
                }
                text
            }
            Op::Prim(p) => prim(*p, &a)?,
        })
    }
    /// `exp(x)` as `2^(x log2 e)`: the factor goes to a factor of `x` that does not depend on the
    /// pair, where there is one, so that it leaves the loop.
    fn cheap(&self, x: Val, r: usize, c: usize) -> String {
        let log2e = |scale: f64| real(scale * std::f64::consts::LOG2_E, self.scope.precision);
        let argument = match self.definition(x) {
            Some((d, Op::Prim(Prim::Neg), a)) if self.merged[d] => {
                format!("{} * {}", self.name(a[0], r, c), log2e(-1.0))
            }
            Some((d, Op::Prim(Prim::Mul), a)) if self.merged[d] => {
                let (pair, free) = if self.is_pair(a[1]) { (a[1], a[0]) } else { (a[0], a[1]) };
                let first = self.name(pair, r, c);
                match self.definition(free) {
                    Some((_, Op::Real(v), _)) if (v * std::f64::consts::LOG2_E).abs() <= 1e38 => {
                        format!("{first} * {}", log2e(*v))
                    }
                    Some((_, Op::Real(_), _)) => {
                        format!("{first} * {} * {}", self.name(free, r, c), log2e(1.0))
                    }
                    _ => format!("{first} * times_log2e({})", self.name(free, r, c)),
                }
            }
            _ => format!("{} * {}", self.name(x, r, c), log2e(1.0)),
        };
        format!("exp2_fast({argument})")
    }
}

fn prim(p: Prim, a: &[String]) -> Result<String, CompileError> {
    let infix = |op: &str| format!("{} {op} {}", a[0], a[1]);
    let call = |f: &str| format!("{f}({})", a.join(", "));
    Ok(match p {
        Prim::Add => infix("+"),
        Prim::Sub => infix("-"),
        Prim::Mul => infix("*"),
        Prim::Div => infix("/"),
        Prim::Fma => call("fma"),
        Prim::Fnma => format!("fma(-{}, {}, {})", a[0], a[1], a[2]),
        Prim::Fms => format!("fma({}, {}, -{})", a[0], a[1], a[2]),
        Prim::Neg => format!("-{}", a[0]),
        Prim::Abs => call("abs"),
        Prim::Sqrt => call("sqrt"),
        // C's fmin and fmax would pass over a NaN on either side.
        Prim::Min => format!("{0} < {1} ? {0} : {1}", a[0], a[1]),
        Prim::Max => format!("{0} > {1} ? {0} : {1}", a[0], a[1]),
        Prim::Floor => call("floor"),
        Prim::RoundEven => call("rint"),
        Prim::Trunc => call("trunc"),
        Prim::Scale => call("scale"),
        Prim::Exponent => call("logb"),
        Prim::Significand => call("significand"),
        Prim::RoundF16 => call("round_f16"),
        Prim::Lt => infix("<"),
        Prim::Le => infix("<="),
        Prim::Eq | Prim::IntEq => infix("=="),
        Prim::IntLt => infix("<"),
        Prim::MaskAnd => infix("&&"),
        Prim::MaskOr => infix("||"),
        Prim::MaskNot => format!("!{}", a[0]),
        Prim::Select | Prim::SelectInt => format!("{} ? {} : {}", a[0], a[1], a[2]),
        Prim::ToBits => call("to_bits"),
        Prim::FromBits => call("from_bits"),
        Prim::ToInt => format!("I(rint({}))", a[0]),
        Prim::FromInt => format!("T({})", a[0]),
        // Signed overflow is undefined in C++, wrapping in programs.
        Prim::IntAdd => format!("I(U({}) + U({}))", a[0], a[1]),
        Prim::IntSub => format!("I(U({}) - U({}))", a[0], a[1]),
        Prim::IntAnd => infix("&"),
        Prim::IntOr => infix("|"),
        Prim::IntXor => infix("^"),
        Prim::IntShl(n) => format!("I(U({}) << {n})", a[0]),
        Prim::IntShr(n) => format!("I(U({}) >> {n})", a[0]),
        Prim::Call(f) | Prim::CallIf(f) => {
            return Err(CompileError::Unsupported {
                backend: "cuda".into(),
                reason: format!("the function {} exists on CPUs only", f.name),
            });
        }
    })
}
