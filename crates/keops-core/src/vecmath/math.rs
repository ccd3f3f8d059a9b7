//! Notation for expansions: one method per primitive.

use super::{Bound, Precision, PrimBuilder, Scaling, Val};
use crate::prim::{Prim, ScalarFn};
use std::cell::RefCell;

/// Constants of both precisions; every f32 constant is exactly an f32 number.
pub(super) struct Coefs {
    pub single: &'static [f64],
    pub double: &'static [f64],
}

/// A builder behind shared references, so that calls nest.
pub(super) struct Math<'a> {
    builder: RefCell<&'a mut dyn PrimBuilder>,
}

macro_rules! operations {
    ($($name:ident($($arg:ident),*) = $op:ident;)*) => {
        $(pub fn $name(&self, $($arg: Val),*) -> Val {
            self.prim(Prim::$op, &[$($arg),*])
        })*
    };
}

impl<'a> Math<'a> {
    pub fn scaling(&self) -> Scaling {
        self.builder.borrow().scaling()
    }

    pub fn bound(&self, v: Val) -> Bound {
        self.builder.borrow().bound(v)
    }

    pub fn new(builder: &'a mut dyn PrimBuilder) -> Self {
        Self { builder: RefCell::new(builder) }
    }

    pub fn single(&self) -> bool {
        self.builder.borrow().precision() == Precision::F32
    }

    pub fn prim(&self, op: Prim, args: &[Val]) -> Val {
        self.builder.borrow_mut().prim(op, args)
    }

    /// Real constant.
    pub fn c(&self, v: f64) -> Val {
        self.builder.borrow_mut().real(v)
    }

    /// Real constant that depends on the precision.
    pub fn pick(&self, single: f64, double: f64) -> Val {
        self.c(if self.single() { single } else { double })
    }

    /// Number `k` of a list of constants.
    pub fn coef(&self, c: &Coefs, k: usize) -> Val {
        self.c(self.list(c)[k])
    }

    pub fn list(&self, c: &Coefs) -> &'static [f64] {
        if self.single() { c.single } else { c.double }
    }

    pub fn int(&self, v: i64) -> Val {
        self.builder.borrow_mut().int(v)
    }

    operations! {
        add(a, b) = Add;
        sub(a, b) = Sub;
        mul(a, b) = Mul;
        div(a, b) = Div;
        fma(a, b, c) = Fma;
        fnma(a, b, c) = Fnma;
        fms(a, b, c) = Fms;
        abs(a) = Abs;
        sqrt(a) = Sqrt;
        min(a, b) = Min;
        max(a, b) = Max;
        round(a) = RoundEven;
        scale(a, b) = Scale;
        exponent(a) = Exponent;
        significand(a) = Significand;
        lt(a, b) = Lt;
        le(a, b) = Le;
        eq(a, b) = Eq;
        and(a, b) = MaskAnd;
        not(a) = MaskNot;
        select(m, a, b) = Select;
        to_bits(a) = ToBits;
        real_of_bits(a) = FromBits;
        int_and(a, b) = IntAnd;
        int_or(a, b) = IntOr;
        int_xor(a, b) = IntXor;
        int_sub(a, b) = IntSub;
        int_eq(a, b) = IntEq;
        int_lt(a, b) = IntLt;
    }

    pub fn shl(&self, a: Val, by: u8) -> Val {
        self.prim(Prim::IntShl(by), &[a])
    }

    pub fn shr(&self, a: Val, by: u8) -> Val {
        self.prim(Prim::IntShr(by), &[a])
    }

    pub fn call_if(&self, f: &'static ScalarFn, mask: Val, fast: Val, args: &[Val]) -> Val {
        let mut all = vec![mask, fast];
        all.extend_from_slice(args);
        self.prim(Prim::CallIf(f), &all)
    }

    /// `a` times a constant.
    pub fn times(&self, a: Val, by: f64) -> Val {
        if by == 1.0 { a } else { self.mul(a, self.c(by)) }
    }

    /// `c[0] + c[1] x + …` by Horner's rule.
    pub fn poly(&self, x: Val, c: &[f64]) -> Val {
        let (highest, rest) = c.split_last().expect("a polynomial has a coefficient");
        rest.iter().rev().fold(self.c(*highest), |p, &c| self.fma(p, x, self.c(c)))
    }

    /// `1 + x (c[0] + c[1] x + …)`
    pub fn one_plus(&self, x: Val, c: &[f64]) -> Val {
        self.fma(self.poly(x, c), x, self.c(1.0))
    }

    /// The integer whose only bit is the sign bit.
    pub fn sign_mask(&self) -> Val {
        self.int(if self.single() { i32::MIN.into() } else { i64::MIN })
    }

    /// Sign bit of `a`, all other bits 0.
    pub fn sign_bit(&self, a: Val) -> Val {
        self.int_and(self.to_bits(a), self.sign_mask())
    }

    /// `a` with its sign flipped where the sign bit of the integer `bits` is set; all other bits
    /// of `bits` are 0.
    pub fn flip_sign(&self, a: Val, bits: Val) -> Val {
        self.real_of_bits(self.int_xor(self.to_bits(a), bits))
    }

    /// `a >= 0` with the sign bit of `b`.
    pub fn with_sign_of(&self, a: Val, b: Val) -> Val {
        self.real_of_bits(self.int_or(self.to_bits(a), self.sign_bit(b)))
    }
}
