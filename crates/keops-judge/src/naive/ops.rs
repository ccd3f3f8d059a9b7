//! What each operation does to vectors: docs/operations.md, one line or a few loops each.

use super::scalar::Real;

/// Kind of the literals after the operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lists {
    /// Integers.
    Integers,
    /// Lists of integers.
    Lists,
}

macro_rules! operations {
    ($($name:ident $least:literal $most:literal),* $(,)?) => {
        /// An operation, spelt as in formulas.
        #[allow(non_camel_case_types, missing_docs)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        pub enum Op { $($name),* }
        impl Op {
            /// All of them.
            pub const ALL: &'static [Op] = &[$(Op::$name),*];
            /// Name in formulas.
            pub fn name(self) -> &'static str {
                match self { $(Op::$name => stringify!($name)),* }
            }
            /// Fewest and most operands.
            pub fn operands(self) -> (usize, usize) {
                match self { $(Op::$name => ($least, $most)),* }
            }
        }
    };
}

impl Op {
    /// Does it differentiate, or take the matrix of a linear function?
    pub fn is_differential(self) -> bool {
        use Op::*;
        matches!(
            self,
            Grad | Diff
                | GradMatrix
                | Divergence
                | Laplacian
                | TraceOperator
                | AdjointOperator
                | SumLinOperator
        )
    }
}

operations! {
    Add 2 2, Subtract 2 2, Mult 2 2, Divide 2 2, Minus 1 1, Exp 1 1, Log 1 1, Sin 1 1, Cos 1 1,
    Atan 1 1, Sqrt 1 1, Rsqrt 1 1, Abs 1 1, Sign 1 1, Step 1 1, ReLU 1 1, Floor 1 1, IfElse 3 3,
    Equal 2 2, NotEqual 2 2, LessThan 2 2, LessOrEqual 2 2, XLogX 1 1, SinXDivX 1 1, Asin 1 1,
    Acos 1 1, Atan2 2 2, Powf 2 2, Tan 1 1, Sinh 1 1, Cosh 1 1, Tanh 1 1, Expm1 1 1, Log1p 1 1,
    Square 1 1, Inv 1 1, Pow 1 1, Sinc 1 1, Round 1 1, Clamp 3 3, ClampInt 1 1, DiffClampInt 1 1,
    Select 3 3, Mod 3 3, Sum 1 1, SumT 1 1, Scalprod 2 2, SqNorm2 1 1, Norm2 1 1, Normalize 1 1, SqDist 2 2,
    SqNormIso 2 2, SqNormDiag 2 2, SymSqNorm 2 2, WeightedSqNorm 2 2, WeightedSqDist 3 3,
    Concat 1 99, Elem 1 1, ElemT 1 1, Extract 1 1, ExtractT 1 1, Max 1 1, Min 1 1, ArgMax 1 1,
    ArgMin 1 1, OneHot 1 1, Gather 2 2, MatVecMult 2 2, VecMatMult 2 2, TensorProd 2 2,
    DifferenceMatrix 2 2, TensorDot 2 2, Kron 2 2, MatDet 1 1, MatInv 1 1, MatSolve 2 2,
    Real2Complex 1 1, Imag2Complex 1 1, ComplexReal 1 1, ComplexImag 1 1, Conj 1 1,
    ComplexExp1j 1 1, ComplexExp 1 1, ComplexSquareAbs 1 1, ComplexAbs 1 1, ComplexAngle 1 1,
    ComplexAdd 2 2, ComplexSubtract 2 2, ComplexMult 2 2, ComplexDivide 2 2, ComplexRealScal 2 2,
    ComplexSum 1 1, ComplexSumT 1 1, BSpline 2 2, SoftDTW_SqDist 3 3, Grad 3 3, Diff 3 3,
    GradMatrix 2 2, Divergence 2 2, Laplacian 2 2, TraceOperator 2 3, AdjointOperator 3 3,
    SumLinOperator 2 4, Factorize 2 2, AutoFactorize 1 1,
    MaternHalf 2 2, WendlandIntegral 3 3, PowLog 3 3, ExtendedGamma 3 3, CosSqrt 1 1, SincSqrt 1 1,
    Asinh 1 1, Acosh 1 1, Atanh 1 1, Sigmoid 1 1, Softplus 1 1, Erf 1 1, Erfc 1 1, Lgamma 1 1,
    Polygamma 2 2, RangeScale 1 1, Matern 2 2, Wendland 1 1, RationalQuadratic 2 2, ThinPlate 1 1, RadialPower 2 2,
    // Constants and forms that are in no table.
    Zero 0 0, Iota 0 0, IntCst 0 0, IntInv 0 0, RatCst 0 0, Put 1 1, Einsum 1 99,
}

impl Op {
    /// The operation of a name.
    pub fn named(name: &str) -> Option<Op> {
        Op::ALL.iter().copied().find(|o| o.name() == name)
    }
    /// What its literals are.
    pub fn literals(self) -> Lists {
        match self {
            Op::TensorDot | Op::Kron | Op::Einsum => Lists::Lists,
            _ => Lists::Integers,
        }
    }
}

type Made<T> = Result<Vec<T>, String>;

/// The result of an operation on vectors. Differential operators take formulas, not vectors: see
/// [`super::eval`].
pub fn apply<T: Real>(op: Op, x: &[Vec<T>], literals: &[Vec<i64>]) -> Made<T> {
    use Op::*;
    let r = |v: f64| T::from(v);
    let (zero, one) = (r(0.0), r(1.0));
    let truth = |b: bool| if b { one } else { zero };
    let un = |f: &dyn Fn(T) -> T| -> Made<T> { Ok(x[0].iter().map(|a| f(*a)).collect()) };
    let bin = |f: &dyn Fn(T, T) -> T| each(op, x, &|a| f(a[0], a[1]));
    let int = |k: usize| literals.get(k).and_then(|l| l.first()).copied().unwrap_or(0);
    let size = |k: usize| int(k) as usize;
    let need = |ok: bool| if ok { Ok(()) } else { Err(misfit(op, x)) };
    let d = |k: usize| x[k].len();
    Ok(match op {
        Add => bin(&|a, b| a + b)?,
        Subtract => bin(&|a, b| a - b)?,
        Mult => bin(&|a, b| a * b)?,
        Divide => bin(&|a, b| a / b)?,
        Minus => un(&|a| -a)?,
        Exp => un(&|a| a.exp())?,
        Log => un(&|a| a.ln())?,
        Sin => un(&|a| a.sin())?,
        Cos => un(&|a| a.cos())?,
        Atan => un(&|a| a.atan())?,
        Sqrt => un(&|a| a.sqrt())?,
        Rsqrt => un(&rsqrt)?,
        Abs => un(&|a| a.abs())?,
        Sign => un(&|a| truth(a > zero) - truth(a < zero))?,
        Step => un(&|a| if a < zero { zero } else { one })?,
        ReLU => un(&|a| if a < zero { zero } else { a })?,
        Floor => un(&|a| a.floor())?,
        IfElse => each(op, x, &|a| if a[0] >= zero { a[1] } else { a[2] })?,
        Equal => bin(&|a, b| truth(a == b))?,
        NotEqual => bin(&|a, b| truth(a != b))?,
        LessThan => bin(&|a, b| truth(a < b))?,
        LessOrEqual => bin(&|a, b| truth(a <= b))?,
        XLogX => un(&|a| if a == zero { zero } else { a * a.ln() })?,
        SinXDivX => un(&|a| if a == zero { one } else { a.sin() / a })?,
        Asin => un(&|a| a.atan2(((one - a) * (one + a)).sqrt()))?,
        Acos => un(&|a| ((one - a) * (one + a)).sqrt().atan2(a))?,
        Atan2 => bin(&|a, b| a.atan2(b))?,
        Powf => bin(&|a, b| a.powf(b))?,
        MaternHalf | WendlandIntegral | PowLog | ExtendedGamma | CosSqrt | SincSqrt | Matern
        | Wendland | RationalQuadratic | ThinPlate | RadialPower => {
            each(op, x, &|a| super::radial::value(op, a, int(0)))?
        }
        Asinh | Acosh | Atanh | Sigmoid | Softplus | Erf | Erfc | Lgamma | Polygamma => {
            each(op, x, &|a| super::special::value(op, a))?
        }
        Tan => un(&|a| a.sin() / a.cos())?,
        Sinh => un(&|a| a.sinh())?,
        Cosh => un(&|a| a.cosh())?,
        Tanh => un(&|a| a.tanh())?,
        Expm1 => un(&|a| a.exp_m1())?,
        Log1p => un(&|a| a.ln_1p())?,
        Square => un(&|a| a * a)?,
        Inv => un(&|a| one / a)?,
        Pow => un(&|a| a.powi(int(0)))?,
        Sinc => un(&|a| {
            let t = a * T::pi();
            if t == zero { one } else { t.sin() / t }
        })?,
        Round => {
            let scale = r(10.0).powi(int(0));
            let half = r(0.5);
            un(&|a| {
                let whole = (a.abs() * scale).floor();
                let up = a.abs() * scale - whole >= half; // a sum would round up below a half
                let t = (if up { whole + one } else { whole }) / scale;
                match (t.f64().is_finite(), a < zero) {
                    (false, _) => a, // a whole number, too large for the detour
                    (true, true) => -t,
                    (true, false) => t,
                }
            })?
        }
        Clamp => each(op, x, &|a| clamp(a[0], a[1], a[2]))?,
        ClampInt => un(&|a| clamp(a, r(int(0) as f64), r(int(1) as f64)))?,
        DiffClampInt => {
            let (low, high) = (r(int(0) as f64), r(int(1) as f64));
            un(&|a| truth(!(a < low || a > high)))?
        }
        Select => each(op, x, &|a| if a[0] == zero { a[2] } else { a[1] })?,
        Mod => each(op, x, &|a| a[0] - a[1] * ((a[0] - a[2]) / a[1]).floor())?,
        Sum => vec![sum(&x[0])],
        SumT => {
            need(d(0) == 1)?;
            vec![x[0][0]; size(0)]
        }
        Scalprod => {
            need(d(0) == d(1) || d(0) == 1 || d(1) == 1)?;
            vec![sum(&each(op, x, &|a| a[0] * a[1])?)]
        }
        SqNorm2 => vec![squares(&x[0])],
        Norm2 => vec![squares(&x[0]).sqrt()],
        Normalize => {
            let largest = x[0].iter().fold(0.0f64, |m, a| m.max(a.f64().abs()));
            let v: Vec<T> = x[0].iter().map(|a| times_power(*a, -exponent(largest))).collect();
            let s = rsqrt(squares(&v));
            v.into_iter().map(|a| a * s).collect()
        }
        RangeScale => un(&|a| {
            let size = a.f64().abs();
            let power = match size {
                _ if size == f64::INFINITY => -88,
                _ if size > 2f64.powi(400) => -600,
                _ if size > 2f64.powi(50) => -88,
                _ if size > 0.0 && size < 2f64.powi(-400) => 600,
                _ if size < 2f64.powi(-50) => 88,
                _ => 0,
            };
            r(2f64.powi(power))
        })?,
        SqDist => vec![squares(&bin(&|a, b| a - b)?)],
        SqNormIso => {
            need(d(0) == 1)?;
            vec![x[0][0] * squares(&x[1])]
        }
        SqNormDiag | SymSqNorm | WeightedSqNorm => vec![weighted_squares(op, &x[0], &x[1])?],
        WeightedSqDist => {
            let difference = each(op, &x[1..], &|a| a[0] - a[1])?;
            vec![weighted_squares(op, &x[0], &difference)?]
        }
        Concat => x.concat(),
        Elem => {
            need(size(0) < d(0))?;
            vec![x[0][size(0)]]
        }
        ElemT => {
            need(d(0) == 1 && size(1) < size(0))?;
            placed(&x[0], size(1), 1, size(0))
        }
        Extract => {
            need(size(0) + size(1) <= d(0))?;
            x[0][size(0)..size(0) + size(1)].to_vec()
        }
        ExtractT => {
            need(size(0) + d(0) <= size(1))?;
            placed(&x[0], size(0), 1, size(1))
        }
        Max => {
            let best = x[0][first_best(&x[0], &|a, b| a > b)];
            vec![if best.is_nan() { r(f64::NEG_INFINITY) } else { best }]
        }
        Min => {
            let best = x[0][first_best(&x[0], &|a, b| a < b)];
            vec![if best.is_nan() { r(f64::INFINITY) } else { best }]
        }
        ArgMax => vec![r(first_best(&x[0], &|a, b| a > b) as f64)],
        ArgMin => vec![r(first_best(&x[0], &|a, b| a < b) as f64)],
        OneHot => {
            need(d(0) == 1)?;
            let at = (x[0][0] + r(0.5)).floor();
            (0..size(0)).map(|k| truth(at == r(k as f64))).collect()
        }
        Gather => {
            let entry = |k: &T| {
                let at = (*k + r(0.5)).floor().f64();
                let inside = at >= 0.0 && at < x[0].len() as f64;
                if inside { x[0][at as usize] } else { r(f64::NAN) }
            };
            x[1].iter().map(entry).collect()
        }
        MatVecMult => {
            need(d(0) % d(1) == 0)?;
            x[0].chunks(d(1)).map(|row| dot(row, &x[1])).collect()
        }
        VecMatMult => {
            need(d(1) % d(0) == 0)?;
            let width = d(1) / d(0);
            let column = |k| (0..d(0)).map(|l| x[0][l] * x[1][l * width + k]).collect::<Vec<_>>();
            (0..width).map(|k| sum(&column(k))).collect()
        }
        TensorProd => x[0].iter().flat_map(|a| x[1].iter().map(move |b| *a * *b)).collect(),
        DifferenceMatrix => x[0].iter().flat_map(|a| x[1].iter().map(move |b| *a - *b)).collect(),
        TensorDot => tensor_dot(x, literals).ok_or_else(|| misfit(op, x))?,
        Kron => kron(x, literals).ok_or_else(|| misfit(op, x))?,
        MatDet => vec![determinant(&x[0], side(op, x)?)],
        MatInv => inverse(&x[0], side(op, x)?),
        MatSolve => {
            let n = side(op, x)?;
            need(d(1) % n == 0)?;
            product(&inverse(&x[0], n), &x[1], n)
        }
        Real2Complex => x[0].iter().flat_map(|a| [*a, zero]).collect(),
        Imag2Complex => x[0].iter().flat_map(|a| [zero, *a]).collect(),
        ComplexExp1j => x[0].iter().flat_map(|a| [a.cos(), a.sin()]).collect(),
        ComplexReal => complex(op, x, &|z| vec![z[0].0])?,
        ComplexImag => complex(op, x, &|z| vec![z[0].1])?,
        Conj => complex(op, x, &|z| vec![z[0].0, -z[0].1])?,
        ComplexExp => complex(op, x, &|z| {
            let e = z[0].0.exp();
            vec![e * z[0].1.cos(), e * z[0].1.sin()]
        })?,
        ComplexSquareAbs => complex(op, x, &|z| vec![z[0].0 * z[0].0 + z[0].1 * z[0].1])?,
        ComplexAbs => complex(op, x, &|z| {
            let (z, e) = near_one(z[0]);
            vec![times_power((z.0 * z.0 + z.1 * z.1).sqrt(), e)]
        })?,
        ComplexAngle => complex(op, x, &|z| vec![z[0].1.atan2(z[0].0)])?,
        ComplexAdd => complex(op, x, &|z| vec![z[0].0 + z[1].0, z[0].1 + z[1].1])?,
        ComplexSubtract => complex(op, x, &|z| vec![z[0].0 - z[1].0, z[0].1 - z[1].1])?,
        ComplexMult => complex(op, x, &|z| times(z[0], z[1]))?,
        ComplexDivide => complex(op, x, &|z| {
            // Nothing finite is left beside one infinite part.
            let infinite = |v: T| v.f64().is_infinite();
            let finite = |v: T| v.f64().is_finite();
            if (infinite(z[1].0) && finite(z[1].1)) || (infinite(z[1].1) && finite(z[1].0)) {
                return times(z[0], (T::from(0.0), T::from(0.0)));
            }
            let ((z, e), (w, f)) = (near_one(z[0]), near_one(z[1]));
            let n = w.0 * w.0 + w.1 * w.1;
            times(z, (w.0, -w.1)).into_iter().map(|v| times_power(v / n, e - f)).collect()
        })?,
        ComplexRealScal => {
            let (s, z) = match () {
                () if d(0) == 1 || 2 * d(0) == d(1) => (&x[0], &x[1]),
                () => (&x[1], &x[0]),
            };
            if z.len() % 2 != 0 || (s.len() != 1 && 2 * s.len() != z.len()) {
                return Err(misfit(op, x));
            }
            (0..z.len()).map(|k| z[k] * s[if s.len() == 1 { 0 } else { k / 2 }]).collect()
        }
        ComplexSum => {
            need(d(0) % 2 == 0)?;
            let part = |p: usize| sum(&x[0].iter().skip(p).step_by(2).copied().collect::<Vec<_>>());
            vec![part(0), part(1)]
        }
        ComplexSumT => {
            need(d(0) == 2 && size(0) % 2 == 0)?;
            (0..size(0)).map(|k| x[0][k % 2]).collect()
        }
        BSpline => {
            need(d(1) == 1)?;
            let made = b_splines(&x[0], x[1][0], size(0)).ok_or_else(|| misfit(op, x))?;
            let nothing = x[1][0].is_nan() || x[0].iter().any(|k| k.is_nan());
            made.into_iter().map(|v| if nothing { r(f64::NAN) } else { v }).collect()
        }
        SoftDTW_SqDist => {
            need(d(2) == 1)?;
            vec![soft_dtw(&x[0], &x[1], x[2][0])]
        }
        Factorize | AutoFactorize => x[0].clone(),
        Zero => vec![zero; size(0)],
        Iota => (0..size(0)).map(|k| r(k as f64)).collect(),
        IntCst => vec![r(int(0) as f64)],
        IntInv => vec![one / r(int(0) as f64)],
        RatCst => vec![r(int(0) as f64) / r(int(1) as f64)],
        Put => {
            need(size(0) + (d(0) - 1) * size(1) < size(2))?;
            placed(&x[0], size(0), size(1), size(2))
        }
        Einsum => einsum(x, literals).ok_or_else(|| misfit(op, x))?,
        Grad | Diff | GradMatrix | Divergence | Laplacian | TraceOperator | AdjointOperator
        | SumLinOperator => unreachable!("differential operators take formulas"),
    })
}

fn misfit<T>(op: Op, x: &[Vec<T>]) -> String {
    let dims: Vec<usize> = x.iter().map(Vec::len).collect();
    format!("{}: operands of dimensions {dims:?} do not fit", op.name())
}

/// Component by component; what has one component is repeated.
fn each<T: Real>(op: Op, x: &[Vec<T>], f: &dyn Fn(&[T]) -> T) -> Made<T> {
    let d = x.iter().map(Vec::len).max().unwrap_or(1);
    if x.iter().any(|a| a.len() != d && a.len() != 1) {
        return Err(misfit(op, x));
    }
    let at = |k: usize| x.iter().map(|a| a[if a.len() == 1 { 0 } else { k }]).collect::<Vec<T>>();
    Ok((0..d).map(|k| f(&at(k)).computed()).collect())
}

type OfComplex<T> = dyn Fn(&[(T, T)]) -> Vec<T>;

/// Number by complex number, stored as (re, im, re, im, …); a single one is repeated.
fn complex<T: Real>(op: Op, x: &[Vec<T>], f: &OfComplex<T>) -> Made<T> {
    let n = x.iter().map(Vec::len).max().unwrap_or(2);
    if x.iter().any(|z| z.len() % 2 != 0 || (z.len() != n && z.len() != 2)) {
        return Err(misfit(op, x));
    }
    let at = |z: &Vec<T>, k: usize| {
        let k = if z.len() == 2 { 0 } else { k };
        (z[2 * k], z[2 * k + 1])
    };
    let numbers = |k: usize| x.iter().map(|z| at(z, k)).collect::<Vec<_>>();
    Ok((0..n / 2).flat_map(|k| f(&numbers(k))).collect())
}
fn times<T: Real>(a: (T, T), b: (T, T)) -> Vec<T> {
    vec![a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0]
}

/// The power of two below a number; 0 of what has none.
fn exponent(v: f64) -> i32 {
    if v == 0.0 || !v.is_finite() { 0 } else { v.abs().log2().floor() as i32 }
}
/// `x 2^e`.
fn times_power<T: Real>(mut x: T, mut e: i32) -> T {
    while e != 0 {
        let step = e.clamp(-60, 60);
        x = x * T::from(2f64.powi(step));
        e -= step;
    }
    x
}
/// A complex number, its larger part between 1 and 2, and the exponent of what it was divided by: squares
/// are in range.
fn near_one<T: Real>(z: (T, T)) -> ((T, T), i32) {
    let size = |v: T| v.f64().abs();
    let largest = if size(z.0) > size(z.1) { size(z.0) } else { size(z.1) };
    let e = exponent(largest);
    ((times_power(z.0, -e), times_power(z.1, -e)), e)
}

fn rsqrt<T: Real>(a: T) -> T {
    if a == T::from(0.0) { a } else { T::from(1.0) / a.sqrt() }
}
fn clamp<T: Real>(x: T, low: T, high: T) -> T {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}
fn sum<T: Real>(x: &[T]) -> T {
    T::order(x.len()).into_iter().fold(T::from(0.0), |s, k| s + x[k])
}
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).fold(T::from(0.0), |s, (a, b)| s + *a * *b)
}
fn squares<T: Real>(x: &[T]) -> T {
    dot(x, x)
}
fn weighted_squares<T: Real>(op: Op, s: &[T], x: &[T]) -> Result<T, String> {
    let n = x.len();
    if op != Op::SymSqNorm && op != Op::SqNormDiag && s.len() == 1 {
        return Ok(s[0] * squares(x));
    }
    if op != Op::SymSqNorm && s.len() == n {
        return Ok(s.iter().zip(x).fold(T::from(0.0), |t, (s, x)| t + *s * (*x * *x)));
    }
    if op != Op::SqNormDiag && s.len() == n * n {
        let term = |k: usize| s[k] * x[k / n] * x[k % n];
        return Ok(sum(&(0..n * n).map(term).collect::<Vec<_>>()));
    }
    Err(format!("{}: weights of dimension {} for vectors of dimension {n}", op.name(), s.len()))
}
/// Zeros of dimension `d` with `x` from `start` in steps.
fn placed<T: Real>(x: &[T], start: usize, step: usize, d: usize) -> Vec<T> {
    let mut out = vec![T::from(0.0); d];
    for (k, v) in x.iter().enumerate() {
        out[start + k * step] = *v;
    }
    out
}
/// Position of the first entry that no other one beats; a NaN never wins, unless there is nothing else.
fn first_best<T: Real>(x: &[T], beats: &dyn Fn(T, T) -> bool) -> usize {
    let better = |best: usize, k: usize| {
        let wins = !x[k].is_nan() && (x[best].is_nan() || beats(x[k], x[best]));
        if wins { k } else { best }
    };
    (0..x.len()).fold(0, better)
}

// Matrices, row-major.

fn side<T>(op: Op, x: &[Vec<T>]) -> Result<usize, String> {
    (1..=4).find(|n| n * n == x[0].len()).ok_or_else(|| misfit(op, x))
}
/// The matrix without one row and one column.
fn minor<T: Real>(a: &[T], n: usize, row: usize, column: usize) -> Vec<T> {
    let keep = |k: &usize| k / n != row && k % n != column;
    (0..n * n).filter(keep).map(|k| a[k]).collect()
}
/// Laplace's expansion along the first row.
fn determinant<T: Real>(a: &[T], n: usize) -> T {
    if n == 0 {
        return T::from(1.0);
    }
    (0..n).fold(T::from(0.0), |s, k| {
        let t = a[k] * determinant(&minor(a, n, 0, k), n - 1);
        if k % 2 == 0 { s + t } else { s - t }
    })
}
/// Cramer's rule.
fn inverse<T: Real>(a: &[T], n: usize) -> Vec<T> {
    let whole = determinant(a, n);
    let entry = |k: usize| {
        let (row, column) = (k / n, k % n);
        let c = determinant(&minor(a, n, column, row), n - 1) / whole;
        if (row + column) % 2 == 0 { c } else { -c }
    };
    (0..n * n).map(entry).collect()
}
/// A square matrix times a matrix of as many rows.
fn product<T: Real>(a: &[T], b: &[T], n: usize) -> Vec<T> {
    let width = b.len() / n;
    let mut out = vec![T::from(0.0); b.len()];
    for row in 0..n {
        for k in 0..n {
            for column in 0..width {
                let at = row * width + column;
                out[at] = out[at] + a[row * n + k] * b[k * width + column];
            }
        }
    }
    out
}

// Tensors.

/// Every index of a tensor, the last axis fastest.
fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    dims.iter().fold(vec![vec![]], |all, &d| {
        let longer = |i: Vec<usize>| (0..d).map(move |k| [&i[..], &[k]].concat());
        all.into_iter().flat_map(longer).collect()
    })
}
fn flat(dims: &[usize], index: &[usize]) -> usize {
    dims.iter().zip(index).fold(0, |at, (d, k)| at * d + k)
}
fn sizes(list: &[i64]) -> Vec<usize> {
    list.iter().map(|v| *v as usize).collect()
}

fn tensor_dot<T: Real>(x: &[Vec<T>], literals: &[Vec<i64>]) -> Option<Vec<T>> {
    let [da, db, ca, cb] = [0, 1, 2, 3].map(|k| literals.get(k).map(|l| sizes(l)));
    let (da, db, ca, cb) = (da?, db?, ca?, cb?);
    let product = |d: &[usize]| d.iter().product::<usize>();
    if product(&da) != x[0].len() || product(&db) != x[1].len() || ca.len() != cb.len() {
        return None;
    }
    if ca.iter().zip(&cb).any(|(p, q)| da.get(*p).is_none() || da.get(*p) != db.get(*q)) {
        return None;
    }
    let kept = |dims: &[usize], gone: &[usize]| -> Vec<usize> {
        (0..dims.len()).filter(|k| !gone.contains(k)).collect()
    };
    let (ka, kb) = (kept(&da, &ca), kept(&db, &cb));
    let dims: Vec<usize> = ka.iter().map(|k| da[*k]).chain(kb.iter().map(|k| db[*k])).collect();
    let perm = literals.get(4).map_or((0..dims.len()).collect(), |p| sizes(p));
    if perm.len() != dims.len() {
        return None;
    }
    // Kept axis k is axis perm[k] of the result.
    let mut shape = vec![0; dims.len()];
    for (k, p) in perm.iter().enumerate() {
        *shape.get_mut(*p)? = dims[k];
    }
    let mut out = vec![T::from(0.0); product(&dims)];
    for a in indices(&da) {
        for b in indices(&db) {
            if ca.iter().zip(&cb).any(|(p, q)| a[*p] != b[*q]) {
                continue;
            }
            let mut index = vec![0; dims.len()];
            for (k, v) in ka.iter().map(|k| a[*k]).chain(kb.iter().map(|k| b[*k])).enumerate() {
                index[perm[k]] = v;
            }
            let at = flat(&shape, &index);
            out[at] = out[at] + x[0][flat(&da, &a)] * x[1][flat(&db, &b)];
        }
    }
    Some(out)
}

fn kron<T: Real>(x: &[Vec<T>], literals: &[Vec<i64>]) -> Option<Vec<T>> {
    let (da, db) = (sizes(literals.first()?), sizes(literals.get(1)?));
    let product = |d: &[usize]| d.iter().product::<usize>();
    if da.len() != db.len() || product(&da) != x[0].len() || product(&db) != x[1].len() {
        return None;
    }
    let shape: Vec<usize> = da.iter().zip(&db).map(|(a, b)| a * b).collect();
    let entry = |index: Vec<usize>| {
        let a: Vec<usize> = index.iter().zip(&db).map(|(k, d)| k / d).collect();
        let b: Vec<usize> = index.iter().zip(&db).map(|(k, d)| k % d).collect();
        x[0][flat(&da, &a)] * x[1][flat(&db, &b)]
    };
    Some(indices(&shape).into_iter().map(entry).collect())
}

/// Literals: extents of the labels, labels of each operand, labels of the result.
fn einsum<T: Real>(x: &[Vec<T>], literals: &[Vec<i64>]) -> Option<Vec<T>> {
    let [extents, labels @ .., out] = literals else { return None };
    let (extents, out) = (sizes(extents), sizes(out));
    let dims = |l: &[usize]| l.iter().map(|k| extents[*k]).collect::<Vec<_>>();
    let pick = |l: &[usize], at: &[usize]| l.iter().map(|k| at[*k]).collect::<Vec<_>>();
    let labels: Vec<Vec<usize>> = labels.iter().map(|l| sizes(l)).collect();
    let mut result = vec![T::from(0.0); dims(&out).iter().product()];
    for at in indices(&extents) {
        let term = labels
            .iter()
            .zip(x)
            .fold(T::from(1.0), |t, (l, x)| t * x[flat(&dims(l), &pick(l, &at))]);
        let to = flat(&dims(&out), &pick(&out, &at));
        result[to] = result[to] + term;
    }
    Some(result)
}

/// Recursion of Cox and de Boor over half-open intervals, with 0/0 = 0 at repeated knots.
fn b_splines<T: Real>(knots: &[T], x: T, order: usize) -> Option<Vec<T>> {
    let (zero, one) = (T::from(0.0), T::from(1.0));
    let n = knots.len().checked_sub(1)?;
    let inside = |k: usize| knots[k] <= x && x < knots[k + 1];
    let mut b: Vec<T> = (0..n).map(|k| if inside(k) { one } else { zero }).collect();
    // Outside of its support a spline is 0, whatever stands before it.
    let part = |a: T, whole: T, b: T| if whole == zero || b == zero { zero } else { a / whole * b };
    for p in 1..=order {
        let next = |k: usize| {
            part(x - knots[k], knots[k + p] - knots[k], b[k])
                + part(knots[k + p + 1] - x, knots[k + p + 1] - knots[k + 1], b[k + 1])
        };
        b = (0..b.len().checked_sub(1)?).map(next).collect();
    }
    Some(b)
}

/// Cuturi and Blondel, "Soft-DTW: a differentiable loss function for time-series", 2017.
fn soft_dtw<T: Real>(x: &[T], y: &[T], gamma: T) -> T {
    let infinite = T::from(f64::INFINITY);
    let softmin = |a: [T; 3]| {
        let least = a[first_best(&a, &|p, q| p < q)];
        if least == infinite {
            return infinite;
        }
        let s = a.iter().filter(|v| **v != infinite).map(|v| ((least - *v) / gamma).exp());
        least - gamma * sum(&s.collect::<Vec<_>>()).ln()
    };
    let mut cost = vec![vec![infinite; y.len() + 1]; x.len() + 1];
    cost[0][0] = T::from(0.0);
    for k in 1..=x.len() {
        for l in 1..=y.len() {
            let d = x[k - 1] - y[l - 1];
            let before = [cost[k - 1][l - 1], cost[k - 1][l], cost[k][l - 1]];
            cost[k][l] = d * d + softmin(before);
        }
    }
    cost[x.len()][y.len()]
}
