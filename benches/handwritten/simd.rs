//! Vectors of one register, as thin wrappers over `core::arch` intrinsics.
//!
//! A vector can only be made with a [`Token`], and a token only exists after the CPU has reported
//! the instruction set; every operation on an existing vector is therefore safe to call. Kernels
//! are generic over [`Vector`] and are entered through [`Token::tile`], a `#[target_feature]`
//! function into which all of the wrappers (`#[inline(always)]`) are inlined: no compiler flags
//! are needed. Kernels use loops instead of closures, which would be functions of their own,
//! compiled without those features.

use core::arch::x86_64::*;
use core::ops::{Add, Mul, Sub};

/// A kernel on one tile of rows: `x` is the packed tile, `out` receives its results.
///
/// Implementations must be `#[inline(always)]` to be compiled with the features of the token.
pub trait Tile<V: Vector>: Sync {
    /// What the kernel writes.
    type Out: Copy + Default + Send;
    /// Runs the kernel.
    fn tile(&self, token: V::Token, x: &[V::Elem], out: &mut [Self::Out]);
}

/// Proof that this CPU executes an instruction set.
pub trait Token: Copy + Send + Sync {
    /// Asks the CPU.
    fn detect() -> Option<Self>;
    /// Calls `kernel.tile` from a function compiled for this instruction set.
    fn tile<V: Vector<Token = Self>, K: Tile<V>>(
        self,
        kernel: &K,
        x: &[V::Elem],
        out: &mut [K::Out],
    );
}

/// A real number type and its registers.
pub trait Real: Copy + Default + PartialOrd + Send + Sync + 'static {
    /// The vector of 512 bits.
    type Zmm: Vector<Elem = Self, Token = Avx512>;
    /// The vector of 256 bits.
    type Ymm: Vector<Elem = Self, Token = Avx2>;
    /// Rounds to this type.
    fn of(x: f64) -> Self;
    /// The exact value in double precision.
    fn to_f64(self) -> f64;
}

/// One register of [`Vector::LANES`] numbers.
pub trait Vector:
    Copy + Send + Sync + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self>
{
    /// The type of a lane.
    type Elem: Real;
    /// The instruction set.
    type Token: Token;
    /// Lanes per register.
    const LANES: usize;
    /// A polynomial c₀ + c₁f + … for 2ᶠ on the interval of [`Vector::split`].
    const EXP2: &'static [f64];
    /// What [`Vector::split`] leaves for [`Vector::scale`].
    type Exponent: Copy;

    /// The same number in every lane.
    fn splat(token: Self::Token, x: Self::Elem) -> Self;
    /// The first [`Vector::LANES`] elements of a slice.
    fn load(token: Self::Token, from: &[Self::Elem]) -> Self;
    /// Writes the first [`Vector::LANES`] elements of a slice.
    fn store(self, to: &mut [Self::Elem]);
    /// `self·b + c`, rounded once.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// `c − self·b`, rounded once.
    fn neg_mul_add(self, b: Self, c: Self) -> Self;
    /// `−self·b − c`, rounded once.
    fn neg_mul_sub(self, b: Self, c: Self) -> Self;
    /// The larger of two numbers, lane by lane; `other` where one of them is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller of two numbers, lane by lane; `other` where one of them is NaN.
    fn min(self, other: Self) -> Self;
    /// The smaller of two numbers that are not negative: their bits are ordered like integers,
    /// whose minimum does not occupy the pipes of floating-point additions.
    #[inline(always)]
    fn min_nonnegative(self, other: Self) -> Self {
        self.min(other)
    }
    /// Bit `l` is set where lane `l` of `self` is smaller than that of `other`.
    fn lt(self, other: Self) -> u32;
    /// Bit `l` is set where lane `l` of `self` is not larger than that of `other`.
    fn le(self, other: Self) -> u32;
    /// `yes` where `self < other`, else `no`.
    fn lt_select(self, other: Self, yes: Self, no: Self) -> Self;
    /// Writes t = n + f with 2ⁿ representable as an exponent and f small: `(n, f)`.
    fn split(self) -> (Self::Exponent, Self);
    /// `self`·2ⁿ. Underflow gives 0, on AVX2 the smallest normal number.
    fn scale(self, n: Self::Exponent) -> Self;
}

/// The leading coefficient of [`Vector::EXP2`]: [`exp2_monic`] times this number is 2ᵗ.
pub const fn exp2_leading<V: Vector>() -> f64 {
    V::EXP2[V::EXP2.len() - 1]
}

/// 2ᵗ divided by [`exp2_leading`], for `U` vectors at once.
///
/// Dividing the polynomial by its leading coefficient turns the first step of Horner's rule into
/// an addition, which runs beside the fused operations instead of among them; the factor is
/// folded into a constant that multiplies the result anyway. One step is written for all of the
/// vectors before the next, so that independent chains are interleaved in program order: the
/// schedulers of the CPU are not deep enough to look past one whole chain. The rounding of t
/// itself makes the relative error grow with |t| (about |t|·ε/2 on top of 1–2 ulp), which a sum
/// of exponentials does not notice.
#[inline(always)]
pub fn exp2_monic<V: Vector, const U: usize>(token: V::Token, t: [V; U]) -> [V; U] {
    let leading = exp2_leading::<V>();
    let zero = V::splat(token, V::Elem::of(0.0));
    let mut n = [zero.split().0; U];
    let mut f = t;
    for u in 0..U {
        (n[u], f[u]) = t[u].split();
    }
    let mut k = V::EXP2.len() - 2;
    let mut p = f;
    for u in 0..U {
        p[u] = f[u] + V::splat(token, V::Elem::of(V::EXP2[k] / leading));
    }
    while k > 0 {
        k -= 1;
        for u in 0..U {
            p[u] = p[u].mul_add(f[u], V::splat(token, V::Elem::of(V::EXP2[k] / leading)));
        }
    }
    for u in 0..U {
        p[u] = p[u].scale(n[u]);
    }
    p
}

/// AVX-512 F and DQ.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

/// AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

macro_rules! token {
    ($token:ident, $($feature:tt),+; $enable:literal) => {
        impl Token for $token {
            fn detect() -> Option<Self> {
                ($(std::arch::is_x86_feature_detected!($feature))&&+).then_some(Self(()))
            }
            #[inline]
            fn tile<V: Vector<Token = Self>, K: Tile<V>>(
                self,
                kernel: &K,
                x: &[V::Elem],
                out: &mut [K::Out],
            ) {
                #[target_feature(enable = $enable)]
                fn enter<V: Vector, K: Tile<V>>(
                    kernel: &K,
                    token: V::Token,
                    x: &[V::Elem],
                    out: &mut [K::Out],
                ) {
                    kernel.tile(token, x, out);
                }
                // SAFETY: `self` exists, so the CPU has reported the features of `enter`.
                unsafe { enter::<V, K>(kernel, self, x, out) }
            }
        }
    };
}
token!(Avx512, "avx512f", "avx512dq", "avx512bw", "avx512vl"; "avx512f,avx512dq,avx512bw,avx512vl");
token!(Avx2, "avx2", "fma"; "avx2,fma");

impl Real for f32 {
    type Zmm = F32x16;
    type Ymm = F32x8;
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Real for f64 {
    type Zmm = F64x8;
    type Ymm = F64x4;
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// Declares a vector and everything that maps to one intrinsic.
macro_rules! vector {
    ($(#[$doc:meta])* $name:ident($reg:ty) = [$elem:ty; $lanes:literal] on $token:ty {
        $set:ident $load:ident $store:ident $add:ident $sub:ident $mul:ident
        $fma:ident $fnma:ident $fnms:ident $max:ident $min:ident
    } $($special:tt)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name($reg);

        vector!(@operator $name Add add $add);
        vector!(@operator $name Sub sub $sub);
        vector!(@operator $name Mul mul $mul);

        impl Vector for $name {
            type Elem = $elem;
            type Token = $token;
            const LANES: usize = $lanes;
            #[inline(always)]
            fn splat(_: $token, x: $elem) -> Self {
                // SAFETY: the token proves the features.
                Self(unsafe { $set(x) })
            }
            #[inline(always)]
            fn load(_: $token, from: &[$elem]) -> Self {
                assert!(from.len() >= $lanes);
                // SAFETY: the token proves the features; the length was checked.
                Self(unsafe { $load(from.as_ptr()) })
            }
            #[inline(always)]
            fn store(self, to: &mut [$elem]) {
                assert!(to.len() >= $lanes);
                // SAFETY: a vector exists, so do the features; the length was checked.
                unsafe { $store(to.as_mut_ptr(), self.0) }
            }
            vector!(@ternary mul_add $fma);
            vector!(@ternary neg_mul_add $fnma);
            vector!(@ternary neg_mul_sub $fnms);
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                // SAFETY: a vector exists, so do the features.
                Self(unsafe { $max(self.0, other.0) })
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                // SAFETY: a vector exists, so do the features.
                Self(unsafe { $min(self.0, other.0) })
            }
            $($special)*
        }
    };
    (@operator $name:ident $trait:ident $method:ident $intrinsic:ident) => {
        impl $trait for $name {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: a vector exists, so do the features.
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    };
    (@ternary $method:ident $intrinsic:ident) => {
        #[inline(always)]
        fn $method(self, b: Self, c: Self) -> Self {
            // SAFETY: a vector exists, so do the features.
            Self(unsafe { $intrinsic(self.0, b.0, c.0) })
        }
    };
}

/// Coefficients of 2ᶠ on [−½, ½] in single precision, relative error 9.2e-8; the constant term
/// is exactly 1 (minimax with that constraint).
const EXP2_F32: [f64; 6] = [
    1.0,
    0.693_146_977_611_137_3,
    0.240_222_420_951_605_1,
    0.055_507_337_232_509_86,
    0.009_671_512_330_553_907,
    0.001_326_473_383_080_474_5,
];

/// Coefficients of 2ᶠ on [−½, ½] in double precision, relative error 3.1e-18 (minimax).
const EXP2_F64: [f64; 12] = [
    1.0,
    core::f64::consts::LN_2,
    0.240_226_506_959_101_56,
    0.055_504_108_664_819_92,
    0.009_618_129_107_588_84,
    0.001_333_355_814_678_983_7,
    0.000_154_035_304_625_099_66,
    0.000_015_252_733_490_062_371,
    1.321_543_309_185_115e-6,
    1.017_819_799_338_246_7e-7,
    7.074_105_251_236_832e-9,
    4.435_286_674_586_716_7e-10,
];

/// Coefficients of 2ᶠ on [−1/32, 1/32] in double precision, relative error 6.9e-18 (minimax).
const EXP2_F64_NARROW: [f64; 7] = [
    1.0,
    0.693_147_180_559_947,
    0.240_226_506_959_098_42,
    0.055_504_108_652_094_09,
    0.009_618_129_113_142_029,
    0.001_333_381_881_114_289,
    0.000_154_033_045_677_953_97,
];

/// 2^(k/16), k = 0 … 15.
const EXP2_SIXTEENTHS: [f64; 16] = [
    1.0,
    1.044_273_782_427_413_8,
    1.090_507_732_665_257_7,
    1.138_788_634_756_691_7,
    1.189_207_115_002_721,
    1.241_857_812_073_484,
    1.296_839_554_651_009_7,
    1.354_255_546_936_892_7,
    core::f64::consts::SQRT_2,
    1.476_826_145_939_499_3,
    1.542_210_825_407_940_8,
    1.610_490_331_949_254_3,
    1.681_792_830_507_429,
    1.756_252_160_373_299_5,
    1.834_008_086_409_342_4,
    1.915_206_561_397_147_2,
];

vector! {
    /// Sixteen single-precision numbers.
    F32x16(__m512) = [f32; 16] on Avx512 {
        _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_add_ps _mm512_sub_ps _mm512_mul_ps
        _mm512_fmadd_ps _mm512_fnmadd_ps _mm512_fnmsub_ps _mm512_max_ps _mm512_min_ps
    }
    const EXP2: &'static [f64] = &EXP2_F32;
    type Exponent = __m512;
    #[inline(always)]
    fn min_nonnegative(self, other: Self) -> Self {
        // SAFETY: a vector exists, so do the features.
        unsafe {
            let (a, b) = (_mm512_castps_si512(self.0), _mm512_castps_si512(other.0));
            Self(_mm512_castsi512_ps(_mm512_min_epu32(a, b)))
        }
    }
    #[inline(always)]
    fn lt(self, other: Self) -> u32 {
        // SAFETY: a vector exists, so do the features.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0) }.into()
    }
    #[inline(always)]
    fn le(self, other: Self) -> u32 {
        // SAFETY: a vector exists, so do the features.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, other.0) }.into()
    }
    #[inline(always)]
    fn lt_select(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: a vector exists, so do the features.
        Self(unsafe {
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0), no.0, yes.0)
        })
    }
    #[inline(always)]
    fn split(self) -> (__m512, Self) {
        // SAFETY: a vector exists, so do the features.
        unsafe {
            let n = _mm512_roundscale_ps::<_MM_FROUND_NO_EXC>(self.0);
            (n, Self(_mm512_sub_ps(self.0, n)))
        }
    }
    #[inline(always)]
    fn scale(self, n: __m512) -> Self {
        // SAFETY: a vector exists, so do the features.
        Self(unsafe { _mm512_scalef_ps(self.0, n) })
    }
}

vector! {
    /// Eight double-precision numbers.
    F64x8(__m512d) = [f64; 8] on Avx512 {
        _mm512_set1_pd _mm512_loadu_pd _mm512_storeu_pd _mm512_add_pd _mm512_sub_pd _mm512_mul_pd
        _mm512_fmadd_pd _mm512_fnmadd_pd _mm512_fnmsub_pd _mm512_max_pd _mm512_min_pd
    }
    const EXP2: &'static [f64] = &EXP2_F64_NARROW;
    type Exponent = (__m512d, __m512d);
    #[inline(always)]
    fn min_nonnegative(self, other: Self) -> Self {
        // SAFETY: a vector exists, so do the features.
        unsafe {
            let (a, b) = (_mm512_castpd_si512(self.0), _mm512_castpd_si512(other.0));
            Self(_mm512_castsi512_pd(_mm512_min_epu64(a, b)))
        }
    }
    #[inline(always)]
    fn lt(self, other: Self) -> u32 {
        // SAFETY: a vector exists, so do the features.
        unsafe { _mm512_cmp_pd_mask::<_CMP_LT_OQ>(self.0, other.0) }.into()
    }
    #[inline(always)]
    fn le(self, other: Self) -> u32 {
        // SAFETY: a vector exists, so do the features.
        unsafe { _mm512_cmp_pd_mask::<_CMP_LE_OQ>(self.0, other.0) }.into()
    }
    #[inline(always)]
    fn lt_select(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: a vector exists, so do the features.
        Self(unsafe {
            _mm512_mask_blend_pd(_mm512_cmp_pd_mask::<_CMP_LT_OQ>(self.0, other.0), no.0, yes.0)
        })
    }
    #[inline(always)]
    fn split(self) -> (Self::Exponent, Self) {
        // SAFETY: a vector exists, so do the features; both loads are inside the table.
        unsafe {
            // Adding 1.5·2⁴⁸ rounds t to sixteenths, which are then the sum's low bits: they
            // select 2^(k/16), and the scaling below takes the integer part.
            let magic = _mm512_set1_pd(422_212_465_065_984.0);
            let shifted = _mm512_add_pd(self.0, magic);
            let n = _mm512_sub_pd(shifted, magic);
            let low = _mm512_loadu_pd(EXP2_SIXTEENTHS.as_ptr());
            let high = _mm512_loadu_pd(EXP2_SIXTEENTHS.as_ptr().add(8));
            let sixteenth = _mm512_permutex2var_pd(low, _mm512_castpd_si512(shifted), high);
            ((sixteenth, n), Self(_mm512_sub_pd(self.0, n)))
        }
    }
    #[inline(always)]
    fn scale(self, (sixteenth, n): Self::Exponent) -> Self {
        // SAFETY: a vector exists, so do the features.
        Self(unsafe { _mm512_scalef_pd(_mm512_mul_pd(self.0, sixteenth), n) })
    }
}

vector! {
    /// Eight single-precision numbers.
    F32x8(__m256) = [f32; 8] on Avx2 {
        _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps _mm256_sub_ps _mm256_mul_ps
        _mm256_fmadd_ps _mm256_fnmadd_ps _mm256_fnmsub_ps _mm256_max_ps _mm256_min_ps
    }
    const EXP2: &'static [f64] = &EXP2_F32;
    type Exponent = __m256i;
    #[inline(always)]
    fn min_nonnegative(self, other: Self) -> Self {
        // SAFETY: a vector exists, so do the features.
        unsafe {
            let (a, b) = (_mm256_castps_si256(self.0), _mm256_castps_si256(other.0));
            Self(_mm256_castsi256_ps(_mm256_min_epu32(a, b)))
        }
    }
    #[inline(always)]
    fn lt(self, other: Self) -> u32 {
        // SAFETY: a vector exists, so do the features.
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0)) as u32 }
    }
    #[inline(always)]
    fn le(self, other: Self) -> u32 {
        // SAFETY: a vector exists, so do the features.
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(self.0, other.0)) as u32 }
    }
    #[inline(always)]
    fn lt_select(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: a vector exists, so do the features.
        Self(unsafe {
            _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0))
        })
    }
    #[inline(always)]
    fn split(self) -> (__m256i, Self) {
        // SAFETY: a vector exists, so do the features.
        unsafe {
            // Adding 1.5·2²³ rounds t to an integer, which is then the sum's low bits.
            let magic = _mm256_set1_ps(12_582_912.0);
            let t = _mm256_max_ps(self.0, _mm256_set1_ps(-126.0));
            let shifted = _mm256_add_ps(t, magic);
            let f = _mm256_sub_ps(t, _mm256_sub_ps(shifted, magic));
            (_mm256_slli_epi32::<23>(_mm256_castps_si256(shifted)), Self(f))
        }
    }
    #[inline(always)]
    fn scale(self, n: __m256i) -> Self {
        // SAFETY: a vector exists, so do the features.
        Self(unsafe { _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(self.0), n)) })
    }
}

vector! {
    /// Four double-precision numbers.
    F64x4(__m256d) = [f64; 4] on Avx2 {
        _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_add_pd _mm256_sub_pd _mm256_mul_pd
        _mm256_fmadd_pd _mm256_fnmadd_pd _mm256_fnmsub_pd _mm256_max_pd _mm256_min_pd
    }
    const EXP2: &'static [f64] = &EXP2_F64;
    type Exponent = __m256i;
    #[inline(always)]
    fn lt(self, other: Self) -> u32 {
        // SAFETY: a vector exists, so do the features.
        unsafe { _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_LT_OQ>(self.0, other.0)) as u32 }
    }
    #[inline(always)]
    fn le(self, other: Self) -> u32 {
        // SAFETY: a vector exists, so do the features.
        unsafe { _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_LE_OQ>(self.0, other.0)) as u32 }
    }
    #[inline(always)]
    fn lt_select(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: a vector exists, so do the features.
        Self(unsafe {
            _mm256_blendv_pd(no.0, yes.0, _mm256_cmp_pd::<_CMP_LT_OQ>(self.0, other.0))
        })
    }
    #[inline(always)]
    fn split(self) -> (__m256i, Self) {
        // SAFETY: a vector exists, so do the features.
        unsafe {
            // Adding 1.5·2⁵² rounds t to an integer, which is then the sum's low bits.
            let magic = _mm256_set1_pd(6_755_399_441_055_744.0);
            let t = _mm256_max_pd(self.0, _mm256_set1_pd(-1022.0));
            let shifted = _mm256_add_pd(t, magic);
            let f = _mm256_sub_pd(t, _mm256_sub_pd(shifted, magic));
            (_mm256_slli_epi64::<52>(_mm256_castpd_si256(shifted)), Self(f))
        }
    }
    #[inline(always)]
    fn scale(self, n: __m256i) -> Self {
        // SAFETY: a vector exists, so do the features.
        Self(unsafe { _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(self.0), n)) })
    }
}
