//! Random formulas, as people write them: kernels, guards, small matrices, and everything else.

use super::random::Random;
use crate::naive::{Category, Expr, Op, Variable};

/// Makes formulas of declared variables.
pub struct Maker<'a> {
    /// Choices.
    pub random: &'a mut Random,
    /// What there is.
    pub variables: &'a [Variable],
    /// Which of them may be used.
    pub usable: &'a [usize],
    /// Nodes that may still be made.
    pub budget: usize,
}

/// Operations whose operands need nothing but dimensions.
const PLAIN: &[Op] = &[
    Op::Add,
    Op::Subtract,
    Op::Mult,
    Op::Minus,
    Op::Sin,
    Op::Cos,
    Op::Atan,
    Op::Abs,
    Op::ReLU,
    Op::IfElse,
    Op::Square,
    Op::Tanh,
    Op::Sum,
    Op::Scalprod,
    Op::SqNorm2,
    Op::SqDist,
    Op::Concat,
    Op::Exp,
    Op::Divide,
    Op::Norm2,
    Op::Sqrt,
    Op::Log,
    Op::MatVecMult,
    Op::TensorProd,
    Op::Max,
    Op::Powf,
    Op::Inv,
    Op::Clamp,
];

impl Maker<'_> {
    fn num(&mut self) -> Expr {
        Expr::Num(*self.random.of(&[0.5, 1.0, 2.0, -1.0, 0.3, -0.7, 1.5, 0.25]))
    }
    fn dim(&mut self) -> usize {
        *self.random.of(&[1, 1, 2, 2, 3, 3, 4])
    }
    /// A variable, a number or the number of a row.
    fn leaf(&mut self) -> (Expr, usize) {
        if self.usable.is_empty() || self.random.chance(0.08) {
            return (self.num(), 1);
        }
        if self.random.chance(0.03) {
            let category = *self.random.of(&[Category::I, Category::J]);
            return (Expr::of(Op::Mult, [Expr::Row(category), Expr::Num(0.25)]), 1);
        }
        let k = *self.random.of(self.usable);
        (Expr::Var(k), self.variables[k].dim)
    }
    /// A formula of dimension `d`.
    pub fn formula(&mut self, d: usize, depth: usize) -> Expr {
        let (e, have) = if depth == 0 || self.budget == 0 {
            let fits: Vec<usize> =
                self.usable.iter().copied().filter(|k| self.variables[*k].dim == d).collect();
            match fits.is_empty() || self.random.chance(0.1) {
                true => self.leaf(),
                false => (Expr::Var(*self.random.of(&fits)), d),
            }
        } else {
            match self.random.below(10) {
                0..=1 => self.idiom(depth),
                2 => {
                    let op = *self.random.of(Op::ALL);
                    self.featuring(op, depth)
                }
                _ => {
                    let op = *self.random.of(PLAIN);
                    self.featuring(op, depth)
                }
            }
        };
        self.fit(e, have, d)
    }
    /// The formula in another dimension.
    pub fn fit(&mut self, e: Expr, have: usize, d: usize) -> Expr {
        if have == d {
            return e;
        }
        if d == 1 {
            return match self.random.below(3) {
                0 => Expr::of(Op::Sum, [e]),
                1 => Expr::with(Op::Elem, vec![e], &[self.random.below(have) as i64]),
                _ => {
                    let k = self.random.below(have);
                    Expr::Slice(Box::new(e), k, k + 1, 1)
                }
            };
        }
        if have == 1 {
            return match self.random.below(2) {
                0 => Expr::with(Op::SumT, vec![e], &[d as i64]),
                _ => {
                    let other = self.formula(d, 0);
                    Expr::of(*self.random.of(&[Op::Mult, Op::Add, Op::Subtract]), [e, other])
                }
            };
        }
        if have > d {
            let start = self.random.below(have - d + 1);
            return match self.random.below(2) {
                0 => Expr::with(Op::Extract, vec![e], &[start as i64, d as i64]),
                _ => Expr::Slice(Box::new(e), start, start + d, 1),
            };
        }
        let rest = self.formula(d - have, 0);
        Expr::of(Op::Concat, [e, rest])
    }
    /// Positive, and away from 0.
    fn positive(&mut self, d: usize, depth: usize) -> Expr {
        let e = self.formula(d, depth);
        let e = match self.random.below(3) {
            0 => Expr::of(Op::Exp, [Expr::of(Op::Sin, [e])]),
            _ => Expr::of(Op::Add, [Expr::of(Op::Square, [e]), Expr::Num(0.5)]),
        };
        // Bounded, so that powers of it are.
        Expr::of(
            Op::Subtract,
            [Expr::Num(2.5), Expr::of(Op::Inv, [Expr::of(Op::Add, [Expr::Num(0.5), e])])],
        )
    }
    /// Between -1 and 1.
    fn bounded(&mut self, d: usize, depth: usize) -> Expr {
        let e = self.formula(d, depth);
        let op = *self.random.of(&[Op::Sin, Op::Tanh, Op::Cos]);
        Expr::of(op, [e])
    }
    fn scaled(&mut self, e: Expr, f: f64) -> Expr {
        Expr::of(Op::Mult, [e, Expr::Num(f)])
    }
    /// An operand that is often a variable itself.
    fn operand(&mut self, d: usize, depth: usize) -> Expr {
        self.formula(d, depth.saturating_sub(1))
    }
    /// Near an integer from `least` on, which an order is rounded to.
    fn order(&mut self, least: usize) -> Expr {
        let (near, whole) = (self.bounded(1, 0), (least + self.random.below(3)) as f64);
        Expr::of(Op::Add, [self.scaled(near, 0.3), Expr::Num(whole)])
    }
    /// Forms that are written again and again.
    fn idiom(&mut self, depth: usize) -> (Expr, usize) {
        if self.random.chance(0.12) {
            return self.beside();
        }
        let d = self.dim();
        let (x, y) = (self.operand(d, 1), self.operand(d, 1));
        let g = self.positive(1, 0);
        let sq = Expr::of(Op::SqDist, [x.clone(), y.clone()]);
        let difference = Expr::of(Op::Subtract, [x.clone(), y]);
        let kernel = match self.random.below(8) {
            0 => Expr::of(Op::Exp, [Expr::of(Op::Minus, [Expr::of(Op::Mult, [sq, g])])]),
            1 => Expr::of(
                Op::Exp,
                [Expr::of(
                    Op::Minus,
                    [Expr::of(Op::Divide, [Expr::of(Op::Norm2, [difference]), g])],
                )],
            ),
            2 => Expr::of(Op::Inv, [Expr::of(Op::Add, [Expr::Num(1.0), sq])]),
            3 => Expr::of(Op::Sqrt, [Expr::of(Op::Add, [g, sq])]),
            4 => {
                let p = *self.random.of(&[0.3, 0.7, 1.5, 2.0, 2.5]);
                Expr::of(Op::Powf, [sq, Expr::Num(p)])
            }
            5 => {
                // A guard: the branch that is not taken may be infinite or no number.
                let x = self.fit(x, d, 1);
                let op = *self.random.of(&[Op::Log, Op::Sqrt, Op::Inv, Op::Rsqrt, Op::XLogX]);
                let guarded = Expr::of(op, [x.clone()]);
                let c = *self.random.of(&[0.1, 0.3]);
                let condition = Expr::of(Op::Subtract, [x, Expr::Num(c)]);
                let other = self.operand(1, depth);
                Expr::of(Op::IfElse, [condition, guarded, other])
            }
            6 => {
                // The same where nothing but a difference of rows decides.
                let inverse = Expr::of(Op::Inv, [sq.clone()]);
                let far = Expr::of(Op::Subtract, [sq, Expr::Num(0.05)]);
                Expr::of(Op::IfElse, [far, inverse, Expr::Num(0.0)])
            }
            _ => {
                let mask = match self.random.below(2) {
                    0 => Expr::of(Op::NotEqual, [Expr::Row(Category::I), Expr::Row(Category::J)]),
                    _ => Expr::of(Op::LessThan, [Expr::Row(Category::J), Expr::Row(Category::I)]),
                };
                Expr::of(Op::Mult, [mask, Expr::of(Op::Exp, [Expr::of(Op::Minus, [sq])])])
            }
        };
        if self.random.chance(0.5) {
            let b = self.dim();
            let w = self.operand(b, depth);
            return (Expr::of(Op::Mult, [kernel, w]), b);
        }
        (kernel, 1)
    }
    /// Components of a vector whose other one is infinite or no number, or has such a derivative.
    fn beside(&mut self) -> (Expr, usize) {
        let (n, v) = (1 + self.random.below(3), self.operand(1, 0));
        let good = self.positive(n, 0);
        let zero = Expr::of(Op::Subtract, [v.clone(), v]);
        let first = self.random.below(2);
        let parts = if first == 0 { [good, zero] } else { [zero, good] };
        let op = *self.random.of(&[Op::Inv, Op::Rsqrt, Op::Log, Op::Sqrt, Op::XLogX]);
        let f = Expr::of(op, [Expr::of(Op::Concat, parts)]);
        let elem = |e: &Expr, k: usize| Expr::with(Op::Elem, vec![e.clone()], &[k as i64]);
        let (k, l) = (first + self.random.below(n), first + self.random.below(n));
        let w = self.operand(1, 0);
        match self.random.below(6) {
            0 => (Expr::with(Op::Extract, vec![f], &[first as i64, n as i64]), n),
            1 => (Expr::of(Op::Mult, [elem(&f, k), elem(&f, l)]), 1),
            // A scalar times it, and rows of products.
            2 => (elem(&Expr::of(Op::Mult, [w, f]), k), 1),
            3 => {
                let pair = Expr::of(Op::Concat, [w.clone(), w]);
                let (tensor, row) = (Expr::of(Op::TensorProd, [f, pair]), 2 * k as i64);
                (Expr::with(Op::Extract, vec![tensor], &[row, 2]), 2)
            }
            4 => (elem(&Expr::of(Op::MatVecMult, [f, w]), k), 1),
            _ => (elem(&f, k), 1),
        }
    }
    /// A formula with that operation at its root, and its dimension.
    pub fn featuring(&mut self, op: Op, depth: usize) -> (Expr, usize) {
        use Op::*;
        self.budget = self.budget.saturating_sub(1);
        let below = depth.saturating_sub(1);
        let d = self.dim();
        let one_or = |m: &mut Self| if m.random.chance(0.3) { 1 } else { d };
        let int = |v: usize| v as i64;
        match op {
            Exp | Sinh | Cosh | Expm1 => {
                let x = self.formula(d, below);
                let x = self.scaled(Expr::of(Op::Tanh, [x]), 1.5);
                (Expr::of(op, [x]), d)
            }
            Log | Sqrt | Rsqrt | XLogX | Inv | Log1p | Lgamma | RangeScale => {
                let x = self.positive(d, below);
                (Expr::of(op, [x]), d)
            }
            CosSqrt | SincSqrt => {
                let x = self.bounded(d, below);
                (Expr::of(op, [self.scaled(x, 3.0)]), d)
            }
            RationalQuadratic | RadialPower | Matern => {
                let a = one_or(self);
                let (u, y) = (self.positive(a, below), self.positive(d, 0));
                if op == Matern && self.random.chance(0.7) {
                    let nu = *self.random.of(&[0.5, 1.5, 2.5]);
                    return (Expr::of(op, [u, Expr::Num(nu)]), a);
                }
                (Expr::of(op, [u, y]), d)
            }
            Wendland | ThinPlate => {
                let u = self.positive(d, below);
                let (least, range) = if op == Wendland { (0, 4) } else { (1, 2) };
                let k = least + self.random.below(range) as i64;
                (Expr::with(op, vec![self.scaled(u, 0.3)], &[k]), d)
            }
            MaternHalf | WendlandIntegral | PowLog | ExtendedGamma => {
                let u = self.positive(d, below);
                let mut x = vec![self.scaled(u, if op == WendlandIntegral { 0.3 } else { 1.0 })];
                match op {
                    MaternHalf => {}
                    WendlandIntegral => x.push(self.order(1)),
                    _ => x.push(self.bounded(1, 0)),
                }
                x.push(self.order(0));
                (Expr::of(op, x), d)
            }
            Acosh => {
                let x = self.positive(d, below);
                (Expr::of(op, [Expr::of(Add, [x, Expr::Num(1.1)])]), d)
            }
            Polygamma => {
                let x = self.positive(d, below);
                (Expr::of(op, [self.order(0), x]), d)
            }
            Asin | Acos | Tan | Atanh => {
                let x = self.bounded(d, below);
                (Expr::of(op, [self.scaled(x, 0.9)]), d)
            }
            Minus | Sin | Cos | Atan | Asinh | Sigmoid | Softplus | Erf | Erfc | Abs | Sign
            | Step | ReLU | Floor | SinXDivX | Tanh | Square | Sinc | Normalize | AutoFactorize => {
                let x = self.formula(d, below);
                (Expr::of(op, [x]), d)
            }
            Pow => {
                let x = self.positive(d, below);
                let n = *self.random.of(&[-2, -1, 0, 1, 3, 4]);
                (Expr::with(op, vec![x], &[n]), d)
            }
            Round => {
                let x = self.formula(d, below);
                let smooth = self.formula(d, 0);
                let n = *self.random.of(&[0, 1]);
                (Expr::of(Mult, [Expr::with(op, vec![x], &[n]), smooth]), d)
            }
            ClampInt | DiffClampInt => {
                let x = self.formula(d, below);
                (Expr::with(op, vec![x], &[-1, 1]), d)
            }
            Add | Subtract | Mult | Equal | NotEqual | LessThan | LessOrEqual => {
                let (a, b) =
                    if self.random.chance(0.5) { (d, one_or(self)) } else { (one_or(self), d) };
                let (x, y) = (self.formula(a, below), self.formula(b, below));
                (Expr::of(op, [x, y]), a.max(b))
            }
            Divide | Atan2 => {
                let a = one_or(self);
                let (x, y) = (self.formula(a, below), self.positive(d, below));
                (Expr::of(op, [x, y]), d)
            }
            Powf => {
                let a = one_or(self);
                let (x, y) = (self.positive(a, below), self.formula(d, below));
                let y =
                    if self.random.chance(0.5) { Expr::of(Sin, [y]) } else { self.bounded(d, 0) };
                (Expr::of(op, [x, y]), d)
            }
            IfElse => {
                let (f, a, b) = (one_or(self), one_or(self), one_or(self));
                let [x, yes, no] = [f, a, b].map(|d| self.formula(d, below));
                // Comparisons are no conditions.
                let x = Expr::of(Subtract, [x, Expr::Num(0.125)]);
                (Expr::of(op, [x, yes, no]), f.max(a).max(b))
            }
            Select => {
                let (m, a, b) = (one_or(self), one_or(self), one_or(self));
                let test = *self.random.of(&[Equal, NotEqual, LessThan, LessOrEqual]);
                let mask = [m, 1].map(|d| self.formula(d, 0));
                let mask = Expr::of(test, mask);
                let (yes, no) = (self.formula(a, below), self.formula(b, below));
                (Expr::of(op, [mask, yes, no]), m.max(a).max(b))
            }
            Clamp => {
                let (a, b) = (one_or(self), one_or(self));
                let (x, l) = (self.formula(d, below), self.bounded(a, 0));
                let h = self.positive(b, 0);
                let h = Expr::of(Add, [h, Expr::Num(1.0)]);
                (Expr::of(op, [x, l, h]), d)
            }
            Mod => {
                let (a, b) = (one_or(self), one_or(self));
                let (x, n) = (self.formula(d, below), self.positive(a, 0));
                let o = self.formula(b, 0);
                (Expr::of(op, [x, n, o]), d)
            }
            Sum | SqNorm2 | Norm2 | Max | Min | ArgMax | ArgMin => {
                let x = self.formula(d, below);
                (Expr::of(op, [x]), 1)
            }
            SumT => {
                let x = self.formula(1, below);
                (Expr::with(op, vec![x], &[int(d)]), d)
            }
            Scalprod | SqDist => {
                let (x, y) = (self.formula(d, below), self.formula(d, below));
                (Expr::of(op, [x, y]), 1)
            }
            SqNormIso => {
                let (s, x) = (self.formula(1, below), self.formula(d, below));
                (Expr::of(op, [s, x]), 1)
            }
            SqNormDiag | SymSqNorm | WeightedSqNorm | WeightedSqDist => {
                let d = 1 + self.random.below(3);
                let s = match op {
                    SqNormDiag => d,
                    SymSqNorm => d * d,
                    _ => *self.random.of(&[1, d, d * d]),
                };
                let mut x = vec![self.formula(s, below), self.formula(d, below)];
                if op == WeightedSqDist {
                    x.push(self.formula(d, below));
                }
                (Expr::of(op, x), 1)
            }
            Concat => {
                let n = 1 + self.random.below(3);
                let dims: Vec<usize> = (0..n).map(|_| 1 + self.random.below(3)).collect();
                let x: Vec<Expr> = dims.iter().map(|d| self.formula(*d, below)).collect();
                (Expr::of(op, x), dims.iter().sum())
            }
            Elem => {
                let x = self.formula(d, below);
                (Expr::with(op, vec![x], &[int(self.random.below(d))]), 1)
            }
            ElemT => {
                let x = self.formula(1, below);
                (Expr::with(op, vec![x], &[int(d), int(self.random.below(d))]), d)
            }
            Extract => {
                let x = self.formula(d, below);
                let start = self.random.below(d);
                let len = 1 + self.random.below(d - start);
                (Expr::with(op, vec![x], &[int(start), int(len)]), len)
            }
            ExtractT => {
                let n = d + self.random.below(3);
                let x = self.formula(d, below);
                let start = self.random.below(n - d + 1);
                (Expr::with(op, vec![x], &[int(start), int(n)]), n)
            }
            OneHot => {
                let x = self.formula(1, below);
                let smooth = self.formula(d, 0);
                (Expr::of(Mult, [Expr::with(op, vec![x], &[int(d)]), smooth]), d)
            }
            Gather => {
                let tables = self.usable.iter().copied();
                let tables: Vec<usize> =
                    tables.filter(|k| self.variables[*k].category == Category::Parameter).collect();
                if tables.is_empty() {
                    return self.featuring(Mult, depth);
                }
                let t = *self.random.of(&tables);
                let n = self.variables[t].dim;
                let len = 1 + self.random.below(2);
                let k = self.bounded(len, below);
                let top = (n - 1) as f64;
                let k = Expr::of(Mult, [Expr::of(Add, [k, Expr::Num(1.0)]), Expr::Num(top / 2.0)]);
                (Expr::of(op, [Expr::Var(t), k]), len)
            }
            MatVecMult | VecMatMult => {
                let (n, p) = (1 + self.random.below(3), 1 + self.random.below(2));
                let (a, b) = (self.formula(n * p, below), self.formula(p, below));
                (Expr::of(op, if op == MatVecMult { [a, b] } else { [b, a] }), n)
            }
            TensorProd | DifferenceMatrix => {
                let (n, p) = (1 + self.random.below(3), 1 + self.random.below(2));
                let (a, b) = (self.formula(n, below), self.formula(p, below));
                (Expr::of(op, [a, b]), n * p)
            }
            TensorDot => {
                let (a, b) = (self.formula(4, below), self.formula(6, below));
                let all = [
                    (vec![vec![2, 2], vec![2, 3], vec![1], vec![0]], 6),
                    (vec![vec![2, 2], vec![3, 2], vec![0], vec![1], vec![1, 0]], 6),
                    (vec![vec![2, 2, 1], vec![2, 3], vec![0, 2], vec![0, 0]], 0),
                    (vec![vec![4], vec![6], vec![], vec![], vec![1, 0]], 24),
                ];
                let pick = *self.random.of(&[0, 0, 1, 1, 3]);
                let (literals, d) = all[pick].clone();
                (Expr::Apply(op, vec![a, b], literals), d)
            }
            Kron => {
                let (a, b) = (self.formula(2, below), self.formula(4, below));
                let literals = [vec![vec![2, 1], vec![2, 2]], vec![vec![1, 2], vec![2, 2]]];
                (Expr::Apply(op, vec![a, b], self.random.of(&literals).clone()), 8)
            }
            MatDet | MatInv | MatSolve => {
                let n = 1 + self.random.below(3);
                // Diagonally dominant.
                let a = self.bounded(n * n, below);
                let diagonal: Vec<Expr> =
                    (0..n * n).map(|k| Expr::Num(if k / n == k % n { 3.5 } else { 0.0 })).collect();
                let a = Expr::of(Add, [a, Expr::of(Concat, diagonal)]);
                match op {
                    MatDet => (Expr::of(op, [a]), 1),
                    MatInv => (Expr::of(op, [a]), n * n),
                    _ => {
                        let columns = 1 + self.random.below(2);
                        let b = self.formula(n * columns, below);
                        (Expr::of(op, [a, b]), n * columns)
                    }
                }
            }
            Real2Complex | Imag2Complex | ComplexExp1j => {
                let d = 1 + self.random.below(3);
                let x = self.formula(d, below);
                (Expr::of(op, [x]), 2 * d)
            }
            ComplexReal | ComplexImag | ComplexSquareAbs | ComplexAbs | ComplexAngle => {
                let d = 1 + self.random.below(2);
                let x = self.formula(2 * d, below);
                (Expr::of(op, [x]), d)
            }
            Conj | ComplexExp => {
                let d = 1 + self.random.below(2);
                let x = self.bounded(2 * d, below);
                (Expr::of(op, [x]), 2 * d)
            }
            ComplexSum => {
                let d = 1 + self.random.below(2);
                let x = self.formula(2 * d, below);
                (Expr::of(op, [x]), 2)
            }
            ComplexSumT => {
                let d = 1 + self.random.below(2);
                let x = self.formula(2, below);
                (Expr::with(op, vec![x], &[int(2 * d)]), 2 * d)
            }
            ComplexAdd | ComplexSubtract | ComplexMult | ComplexDivide => {
                let d = 1 + self.random.below(2);
                let (a, b) = *self.random.of(&[(d, d), (d, 1), (1, d)]);
                let (x, y) = (self.formula(2 * a, below), self.formula(2 * b, below));
                let y = match op {
                    // Away from 0 by 3 + 3i.
                    ComplexDivide => Expr::of(Add, [Expr::of(Sin, [y]), Expr::Num(3.0)]),
                    _ => y,
                };
                (Expr::of(op, [x, y]), 2 * d)
            }
            ComplexRealScal => {
                let d = 1 + self.random.below(2);
                let n = *self.random.of(&[1, d]);
                let (s, z) = (self.formula(n, below), self.formula(2 * d, below));
                let swapped = self.random.chance(0.5) && n == 1 && d == 2;
                (Expr::of(op, if swapped { [z, s] } else { [s, z] }), 2 * d)
            }
            BSpline => {
                let order = self.random.below(3);
                let n = order + 2 + self.random.below(2);
                let step = self.positive(1, 0);
                // Ascending knots: -2 + step k.
                let knots = Expr::of(
                    Subtract,
                    [Expr::of(Mult, [Expr::with(Iota, vec![], &[int(n)]), step]), Expr::Num(2.0)],
                );
                let x = self.formula(1, below);
                (Expr::with(op, vec![knots, x], &[int(order)]), n - order - 1)
            }
            SoftDTW_SqDist => {
                let (n, m) = (1 + self.random.below(3), 1 + self.random.below(3));
                let (x, y) = (self.formula(n, below), self.formula(m, below));
                let g = self.positive(1, 0);
                (Expr::of(op, [x, y, g]), 1)
            }
            Factorize => {
                let x = self.formula(d, below);
                let y = self.formula(1, 0);
                (Expr::of(op, [x, y]), d)
            }
            Grad | Diff | GradMatrix | Divergence | Laplacian => self.derivative(op),
            TraceOperator | AdjointOperator | SumLinOperator => self.linear(op),
            Zero | Iota => (Expr::with(op, vec![], &[int(d)]), d),
            IntCst | IntInv => (Expr::with(op, vec![], &[3]), 1),
            RatCst => (Expr::with(op, vec![], &[2, 3]), 1),
            Put => {
                let x = self.formula(2, below);
                (Expr::with(op, vec![x], &[1, 2, 4]), 4)
            }
            Einsum => {
                let (x, y) = (self.formula(4, below), self.formula(2, below));
                let literals = vec![vec![2, 2], vec![0, 1], vec![1], vec![1, 0]];
                (Expr::Apply(op, vec![x, y], literals), 4)
            }
        }
    }
    /// A differential operator of a small formula: it is evaluated by differences.
    fn derivative(&mut self, op: Op) -> (Expr, usize) {
        let Some(v) = self.variable() else { return self.featuring(Op::Mult, 1) };
        let n = self.variables[v].dim;
        let saved = std::mem::replace(&mut self.budget, 3);
        let d = match op {
            Op::Divergence => n,
            Op::Laplacian => 1,
            _ => 1 + self.random.below(2),
        };
        let inner = self.formula(d, 1);
        // So that there is something to differentiate.
        let wave = self.fit(Expr::of(Op::Sin, [Expr::Var(v)]), n, d);
        let f = Expr::of(Op::Mult, [inner, wave]);
        let v = Expr::Var(v);
        let made = match op {
            Op::Grad => (Expr::of(op, [f, v, self.formula(d, 0)]), n),
            Op::Diff => (Expr::of(op, [f, v, self.formula(n, 0)]), d),
            Op::GradMatrix => (Expr::of(op, [f, v]), d * n),
            _ => (Expr::of(op, [f, v]), 1),
        };
        self.budget = saved;
        made
    }
    fn variable(&mut self) -> Option<usize> {
        (!self.usable.is_empty()).then(|| *self.random.of(self.usable))
    }
    /// An operator of a function that is linear in a variable.
    fn linear(&mut self, op: Op) -> (Expr, usize) {
        let Some(v) = self.variable() else { return self.featuring(Op::Mult, 1) };
        let n = self.variables[v].dim;
        let others: Vec<usize> = self.usable.iter().copied().filter(|k| *k != v).collect();
        let mut maker = Maker {
            random: &mut *self.random,
            variables: self.variables,
            usable: &others,
            budget: 2,
        };
        let rows = if op == Op::TraceOperator { n } else { 1 + maker.random.below(2) };
        let a = maker.formula(rows * n, 1);
        let f = Expr::of(Op::MatVecMult, [a, Expr::Var(v)]);
        let extra = [(op == Op::TraceOperator, n), (op == Op::AdjointOperator, rows), (true, rows)];
        let (_, first) = *extra.iter().find(|e| e.0).unwrap_or(&(true, rows));
        let mut x = vec![f, Expr::Var(v), maker.formula(first, 0)];
        match op {
            Op::SumLinOperator => {
                x.push(maker.formula(n, 0));
                (Expr::of(op, x), 1)
            }
            Op::AdjointOperator => (Expr::of(op, x), n),
            _ => (Expr::of(op, x), 1),
        }
    }
}
