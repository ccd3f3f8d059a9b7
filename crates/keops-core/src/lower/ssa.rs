//! The arena of scalar values.

use crate::graph::Dependence;
use crate::prim::{Args, Kind, Prim};
use crate::program::{Affine, Loop, Op, Space};
use crate::vecmath::{self, Bound, Precision, PrimBuilder, Scaling, Val};
use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use std::hash::BuildHasher;

/// Reduction of a value over loops.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FoldKind {
    Sum,
    /// The same by Kahan's summation.
    Kahan,
    Min,
    Max,
    /// Position of the first smallest; the payload is the value whose key is `x`.
    ArgMin,
    ArgMax,
}

/// Definition of a value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Def {
    Op(Op, Args<Val>),
    /// `kind` of `x` over `loops` (outermost first); `position` is the flat index, for Arg*.
    Fold {
        loops: Vec<Loop>,
        kind: FoldKind,
        x: Val,
        position: Option<Val>,
    },
}

/// A value with what is known of it.
#[derive(Clone, Debug)]
pub struct Value {
    pub def: Def,
    pub class: Dependence,
    /// Loops whose counters it depends on, sorted.
    pub loops: Vec<Loop>,
    pub kind: Kind,
    /// Is it made of constants only?
    pub constant: bool,
}

/// A product that is taken apart. See [`Arena::factor_out`].
struct Split<'l, F> {
    exponentials: Option<&'l mut Vec<Val>>,
    accept: F,
    factors: Vec<Val>,
    scale: f64,
    steps: u32,
}

/// May a division by a constant become a product, whose last bit may differ?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Division {
    /// No: what reads it jumps ([`decisive`](super::gather::decisive)).
    Exact,
    MayMultiply,
}

pub struct Arena {
    pub precision: Precision,
    pub scaling: Scaling,
    pub values: Vec<Value>,
    /// Values by the hashes of their definitions.
    memo: HashTable<(u64, Val)>,
    hasher: DefaultHashBuilder,
    /// Class of loads from the row spaces: kept, reduced.
    pub classes: [Dependence; 2],
    /// Extent of every loop.
    pub extents: Vec<usize>,
    loop_memo: HashMap<(usize, usize), Loop>,
    /// Arguments of the cheap exponentials made so far.
    cheap_exponents: HashMap<Val, Val>,
}

impl Arena {
    pub fn new(precision: Precision, kept: Dependence, reduced: Dependence) -> Arena {
        Arena {
            precision,
            scaling: Scaling::Exact,
            values: vec![],
            memo: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            classes: [kept, reduced],
            extents: vec![],
            loop_memo: HashMap::new(),
            cheap_exponents: HashMap::new(),
        }
    }
    /// The loop variable of this extent and nesting number: equal loops share it, so that values
    /// inside different nests over the same components are one value.
    pub fn loop_of(&mut self, extent: usize, ordinal: usize) -> Loop {
        let next = Loop(self.extents.len() as u16);
        let l = *self.loop_memo.entry((extent, ordinal)).or_insert(next);
        if l == next {
            self.extents.push(extent);
        }
        l
    }
    pub fn value(&self, v: Val) -> &Value {
        &self.values[v.0 as usize]
    }
    fn load_class(&self, s: Space) -> Dependence {
        match s {
            Space::Param => Dependence::NONE,
            Space::Kept | Space::KeptInput | Space::Sums | Space::Pivot | Space::Result => {
                self.classes[0]
            }
            Space::Reduced | Space::ReducedInput => self.classes[1],
            Space::Key | Space::Buffer => Dependence::IJ,
        }
    }
    pub fn define(&mut self, def: Def) -> Val {
        let hash = self.hasher.hash_one(&def);
        let same = |(h, v): &(u64, Val)| *h == hash && self.value(*v).def == def;
        if let Some(&(_, v)) = self.memo.find(hash, same) {
            return v;
        }
        let (mut class, mut loops) = (Dependence::NONE, vec![]);
        let mut constant =
            matches!(def, Def::Op(Op::Real(_) | Op::Int(_) | Op::Prim(_) | Op::Table(_), _));
        let mut from = |v: &Value| {
            constant &= v.constant;
            class = class.union(v.class);
            loops.extend_from_slice(&v.loops);
        };
        let mut kind = Kind::Real;
        match &def {
            Def::Op(op, args) => {
                for a in &args[..] {
                    from(&self.values[a.0 as usize]);
                }
                match op {
                    Op::Prim(p) => kind = p.signature().1,
                    Op::Load(s, at) => {
                        class = self.load_class(*s);
                        loops.extend(at.terms.iter().map(|t| t.0));
                    }
                    Op::Counter(at) => {
                        loops.extend(at.terms.iter().map(|t| t.0));
                        kind = Kind::Int;
                    }
                    Op::Int(_) => kind = Kind::Int,
                    Op::Real(_) | Op::Table(_) | Op::Gather { .. } => {}
                }
            }
            Def::Fold { loops: bound, x, position, .. } => {
                from(&self.values[x.0 as usize]);
                if let Some(p) = position {
                    from(&self.values[p.0 as usize]);
                }
                loops.retain(|l| !bound.contains(l));
            }
        }
        loops.sort();
        loops.dedup();
        let v = Val(self.values.len() as u32);
        self.values.push(Value { def, class, loops, kind, constant });
        self.memo.insert_unique(hash, (hash, v), |known| known.0);
        v
    }
    pub fn load(&mut self, space: Space, at: Affine) -> Val {
        self.define(Def::Op(Op::Load(space, at), Args::default()))
    }
    pub fn constant(&self, v: Val) -> Option<f64> {
        match self.value(v).def {
            Def::Op(Op::Real(c), _) => Some(c),
            _ => None,
        }
    }
    pub fn as_prim(&self, v: Val) -> Option<(Prim, &[Val])> {
        match &self.value(v).def {
            Def::Op(Op::Prim(p), a) => Some((*p, a)),
            _ => None,
        }
    }
    /// A constant product that loses nothing: finite, normal in the compute type.
    pub fn product(&self, a: f64, b: f64) -> Option<f64> {
        let (c, least, most) = match self.precision {
            Precision::F32 => (a * b, f32::MIN_POSITIVE as f64, f32::MAX as f64),
            Precision::F64 => (a * b, f64::MIN_POSITIVE, f64::MAX),
        };
        (c.abs() >= least && c.abs() <= most).then_some(c)
    }
    /// The operands of a product that may be contracted into a fused operation of class `class`.
    fn product_of(&self, v: Val, other: Val) -> Option<(Val, Val)> {
        let (x, o) = (self.value(v), self.value(other));
        let same_place =
            x.class == x.class.union(o.class) && o.loops.iter().all(|l| x.loops.contains(l));
        match self.as_prim(v) {
            Some((Prim::Mul, &[a, b])) if v != other && same_place => Some((a, b)),
            _ => None,
        }
    }
    /// Arithmetic of formulas: contracted to fused operations, constants merged. (The expansions of
    /// vector mathematics use [`PrimBuilder::prim`], which changes nothing: they contain error-free
    /// transformations.)
    pub fn arith(&mut self, op: Prim, args: &[Val]) -> Val {
        let c: Vec<Option<f64>> = args.iter().map(|&a| self.constant(a)).collect();
        match (op, args, &c[..]) {
            (Prim::Neg, _, [Some(x)]) => return self.real(-x),
            (Prim::Mul, _, [Some(x), Some(y)]) if self.product(*x, *y).is_some() => {
                return self.real(x * y);
            }
            (Prim::Add, _, [Some(x), Some(y)]) => return self.real(x + y),
            (Prim::Sub, _, [Some(x), Some(y)]) => return self.real(x - y),
            (Prim::Add, &[a, _], [_, Some(0.0)]) => return a,
            (Prim::Add, &[_, b], [Some(0.0), _]) => return b,
            (Prim::Sub, &[a, _], [_, Some(0.0)]) => return a,
            (Prim::Mul, &[a, b], [Some(_), None]) => return self.arith(Prim::Mul, &[b, a]),
            (Prim::Mul, &[a, _], [_, Some(1.0)]) => return a,
            (Prim::Mul, &[a, _], [_, Some(-1.0)]) => return self.arith(Prim::Neg, &[a]),
            (Prim::Mul, &[a, _], [None, Some(y)]) => match self.as_prim(a) {
                Some((Prim::Neg, &[x])) => {
                    let y = self.real(-*y);
                    return self.arith(Prim::Mul, &[x, y]);
                }
                Some((Prim::Mul, &[x, q])) => {
                    if let Some(p) = self.constant(q).and_then(|q| self.product(q, *y)) {
                        let p = self.real(p);
                        return self.arith(Prim::Mul, &[x, p]);
                    }
                }
                _ => {}
            },
            (Prim::Neg, &[a], _) => match self.as_prim(a) {
                Some((Prim::Neg, &[x])) => return x,
                Some((Prim::Mul, &[x, y])) => {
                    // The sign goes where it costs least: into a constant or a hoisted factor.
                    for (p, q) in [(x, y), (y, x)] {
                        if self.value(q).class != self.value(a).class {
                            let q = self.arith(Prim::Neg, &[q]);
                            return self.arith(Prim::Mul, &[p, q]);
                        }
                    }
                }
                _ => {}
            },
            (Prim::Add, &[a, b], _) => {
                if let Some((x, y)) = self.product_of(a, b) {
                    return self.prim(Prim::Fma, &[x, y, b]);
                }
                if let Some((x, y)) = self.product_of(b, a) {
                    return self.prim(Prim::Fma, &[x, y, a]);
                }
                if let Some((Prim::Neg, &[x])) = self.as_prim(b) {
                    return self.arith(Prim::Sub, &[a, x]);
                }
                if let Some((Prim::Neg, &[x])) = self.as_prim(a) {
                    return self.arith(Prim::Sub, &[b, x]);
                }
            }
            (Prim::Sub, &[a, b], _) => {
                if let Some((x, y)) = self.product_of(b, a) {
                    return self.prim(Prim::Fnma, &[x, y, a]);
                }
                if let Some((x, y)) = self.product_of(a, b) {
                    return self.prim(Prim::Fms, &[x, y, b]);
                }
                if let Some((Prim::Neg, &[x])) = self.as_prim(b) {
                    return self.arith(Prim::Add, &[a, x]);
                }
            }
            _ => {}
        }
        self.prim(op, args)
    }
    /// `a / b`; by a constant, a product with its reciprocal: exact for powers of two, one more rounding
    /// otherwise.
    pub fn quotient(&mut self, a: Val, b: Val, division: Division) -> Val {
        if let (None, Some(y)) = (self.constant(a), self.constant(b))
            && self.product(1.0 / y, 1.0).is_some()
            && self.product(y, 1.0).is_some()
            && (division == Division::MayMultiply || y.to_bits() << 12 == 0)
        {
            let r = self.real(1.0 / y);
            return self.arith(Prim::Mul, &[a, r]);
        }
        self.prim(Prim::Div, &[a, b])
    }
    /// See [`vecmath::exp2_cheap`].
    pub fn exp2_cheap(&mut self, t: Val) -> Val {
        let v = vecmath::exp2_cheap(self, t);
        self.cheap_exponents.insert(v, t);
        v
    }
    /// Does the computation of `roots` contain one of `values`?
    pub fn reaches(&self, roots: impl Iterator<Item = Val>, values: &[Val]) -> bool {
        let (mut seen, mut rest) = (HashSet::new(), roots.collect::<Vec<_>>());
        while let Some(v) = rest.pop() {
            if values.contains(&v) {
                return true;
            }
            if !values.is_empty() && seen.insert(v) {
                match &self.value(v).def {
                    Def::Op(_, args) => rest.extend(&args[..]),
                    Def::Fold { x, position, .. } => rest.extend([*x].iter().chain(position)),
                }
            }
        }
        false
    }
    /// Splits `v` into a product of a value and factors that `accept` takes, so that
    /// `v = value · factors[0] · factors[1] · …` up to rounding; constants are merged into one.
    /// Products without such factors stay as they are: in another order they might overflow.
    /// With `exponentials`, cheap exponentials among the factors are replaced by those of
    /// [`vecmath::exp2_watched`], and listed there.
    pub fn factor_out(
        &mut self,
        v: Val,
        exponentials: Option<&mut Vec<Val>>,
        accept: impl Fn(&Arena, Val, &[Val]) -> bool,
    ) -> (Val, Vec<Val>) {
        let mut split = Split { exponentials, accept, factors: vec![], scale: 1.0, steps: 0 };
        let core = self.split(v, &mut split);
        let mut factors = split.factors;
        if split.scale != 1.0 {
            factors.push(self.real(split.scale));
        }
        (core.unwrap_or_else(|| self.real(1.0)), factors)
    }
    /// What is left of `x` without its factors; `None` for 1.
    fn split<F>(&mut self, x: Val, to: &mut Split<'_, F>) -> Option<Val>
    where
        F: Fn(&Arena, Val, &[Val]) -> bool,
    {
        to.steps += 1;
        if let Some(c) = self.constant(x)
            && let Some(p) = self.product(to.scale, c)
        {
            to.scale = p;
            return None;
        }
        if (to.accept)(self, x, &to.factors) {
            to.factors.push(x);
            return None;
        }
        // (The own factor of a cheap exponential makes small values vanish.)
        if let Some(&t) = self.cheap_exponents.get(&x) {
            // (Of several, the raised ones would soon be infinite together.)
            if let Some(list) = &mut to.exponentials
                && (list.is_empty() || self.scaling != Scaling::Integer)
            {
                let (y, leading) = vecmath::exp2_watched(self, t);
                if let Some(p) = self.product(to.scale, leading) {
                    list.push(x);
                    to.scale = p;
                    return Some(y);
                }
            }
            return Some(x);
        }
        match self.as_prim(x) {
            Some((Prim::Mul, &[a, b])) if to.steps < 32 => {
                match (self.split(a, to), self.split(b, to)) {
                    (Some(p), Some(q)) if (p, q) == (a, b) => Some(x),
                    (Some(p), Some(q)) => Some(self.arith(Prim::Mul, &[p, q])),
                    (p, q) => p.or(q),
                }
            }
            Some((Prim::Neg, &[a])) if to.steps < 32 => {
                to.scale = -to.scale;
                self.split(a, to)
            }
            Some((Prim::Add, &[a, b])) if a == b && to.steps < 32 => {
                let Some(p) = self.product(to.scale, 2.0) else { return Some(x) };
                to.scale = p;
                self.split(a, to)
            }
            _ => Some(x),
        }
    }
    /// `(y, c)` with `x scale = y c`: signs and constants of the outermost products of `x` that are
    /// of the pair move to the scale, as long as that is a normal number.
    pub fn constants_off(&self, mut x: Val, mut scale: f64) -> (Val, f64) {
        loop {
            let (inner, c) = match self.as_prim(x) {
                Some((Prim::Neg, &[y])) => (y, -1.0),
                Some((Prim::Mul, &[y, c])) => match self.constant(c) {
                    Some(c) => (y, c),
                    None => return (x, scale),
                },
                _ => return (x, scale),
            };
            let Some(product) = self.product(scale, c) else { return (x, scale) };
            if self.value(inner).class != Dependence::IJ {
                return (x, scale);
            }
            (x, scale) = (inner, product);
        }
    }
    /// Is it known that `v` (or `-v`, if `negated`) is at least 0, or NaN? Gives up after `steps`,
    /// and inside products of products.
    fn has_sign(&self, v: Val, negated: bool, steps: &mut u32, products: u32) -> bool {
        let mut all = vec![(v, negated)];
        while let Some((v, negated)) = all.pop() {
            if *steps == 0 {
                return false;
            }
            *steps -= 1;
            if let Some(c) = self.constant(v) {
                if if negated { c > 0.0 } else { c < 0.0 } || c.is_nan() {
                    return false;
                }
                continue;
            }
            if let Def::Fold { kind: FoldKind::Sum | FoldKind::Kahan, x, .. } = self.value(v).def {
                all.push((x, negated));
                continue;
            }
            let (product, more) = match self.as_prim(v) {
                Some((Prim::Abs | Prim::Sqrt, _)) if !negated => (None, vec![]),
                Some((Prim::Neg, &[a])) => (None, vec![(a, !negated)]),
                Some((Prim::Mul, &[a, b])) => (Some((a, b, negated)), vec![]),
                Some((Prim::Add, &[a, b])) => (None, vec![(a, negated), (b, negated)]),
                Some((Prim::Sub, &[a, b])) => (None, vec![(a, negated), (b, !negated)]),
                Some((Prim::Fma, &[a, b, c])) => (Some((a, b, negated)), vec![(c, negated)]),
                Some((Prim::Fms, &[a, b, c])) => (Some((a, b, negated)), vec![(c, !negated)]),
                Some((Prim::Fnma, &[a, b, c])) => (Some((a, b, !negated)), vec![(c, negated)]),
                _ => return false,
            };
            if let Some((a, b, negated)) = product
                && (a != b || negated)
            {
                let mut both = |negate_a, negate_b| {
                    products > 0
                        && self.has_sign(a, negate_a, steps, products - 1)
                        && self.has_sign(b, negate_b, steps, products - 1)
                };
                if !both(negated, false) && !both(!negated, true) {
                    return false;
                }
            }
            all.extend(more);
        }
        true
    }
    pub fn is_real(&self, v: Val) -> bool {
        self.constant(v).is_some()
    }
    pub fn is_load(&self, v: Val) -> bool {
        matches!(self.value(v).def, Def::Op(Op::Load(..), _))
    }
}

impl PrimBuilder for Arena {
    fn precision(&self) -> Precision {
        self.precision
    }
    fn real(&mut self, v: f64) -> Val {
        // One value for each number of the compute type.
        let v = if self.precision == Precision::F32 { v as f32 as f64 } else { v };
        self.define(Def::Op(Op::Real(v), Args::default()))
    }
    fn int(&mut self, v: i64) -> Val {
        self.define(Def::Op(Op::Int(v), Args::default()))
    }
    fn prim(&mut self, op: Prim, args: &[Val]) -> Val {
        self.define(Def::Op(Op::Prim(op), args.into()))
    }
    fn scaling(&self) -> Scaling {
        self.scaling
    }
    fn constant(&self, v: Val) -> Option<f64> {
        Arena::constant(self, v)
    }
    fn bound(&self, v: Val) -> Bound {
        let below_pivot = |v: Val| match self.as_prim(v) {
            Some((Prim::Sub, &[key, pivot])) => {
                let loads = |v: Val, space: Space| matches!(&self.value(v).def, Def::Op(Op::Load(s, _), _) if *s == space);
                loads(key, Space::Key) && loads(pivot, Space::Pivot)
            }
            _ => false,
        };
        match self.as_prim(v) {
            _ if self.has_sign(v, true, &mut 64, 8) => Bound::Nonpositive,
            Some((Prim::Mul, &[a, b]))
                if below_pivot(a) && self.constant(b).is_some_and(|c| c > 0.0) =>
            {
                Bound::NonpositiveOrInfinite
            }
            _ => Bound::Unknown,
        }
    }
}
