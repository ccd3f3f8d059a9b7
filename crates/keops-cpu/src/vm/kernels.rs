//! The interpreter loop and the loops over lanes.
//!
//! Everything here is inlined into its caller, so that it is compiled with that one's target
//! features.

use std::ptr;

use keops_core::prim::{Prim, ScalarFn};

use super::decode::{Decoded, Loc, Step};
use super::lanes::{IntLane, Lane, max, min};
use crate::frame::Frame;

/// Pointers of one operation: result, arguments, and the number of pieces of `W` lanes.
#[derive(Clone, Copy)]
struct Regs {
    dst: *mut u8,
    args: [*const u8; 5],
    pieces: usize,
}

/// Reads piece `i` of a vector, or the one element in every lane.
///
/// # Safety
/// The vector has more than `i` pieces, the element is readable; any alignment.
#[inline(always)]
unsafe fn piece<A: Copy, const W: usize>(from: *const u8, i: usize, splat: bool) -> [A; W] {
    // SAFETY: the caller's.
    unsafe {
        if splat {
            [from.cast::<A>().read_unaligned(); W]
        } else {
            from.cast::<[A; W]>().add(i).read_unaligned()
        }
    }
}

/// `0..count`, for loops over pieces that must stay loops: a piece becomes vector code by itself,
/// while vectorising the loop around it would gather the first lanes of several pieces, then the
/// second ones, and so on.
#[inline(always)]
fn pieces(count: usize) -> impl Iterator<Item = usize> {
    (0..count).inspect(|_| std::hint::black_box(()))
}

impl Regs {
    /// `dst = f(a)` over all lanes.
    ///
    /// # Safety
    /// Here and below: the pointers hold as many pieces of these types, except that arguments
    /// marked in the mask `S` hold one element; an argument may be the result, other overlaps
    /// there are not.
    #[inline(always)]
    unsafe fn map1<A: Copy, R: Copy + Default, const W: usize>(self, f: impl Fn(A) -> R) {
        for i in pieces(self.pieces) {
            // SAFETY: the caller's.
            unsafe {
                let a = piece::<A, W>(self.args[0], i, false);
                let mut r = [R::default(); W];
                for k in 0..W {
                    r[k] = f(a[k]);
                }
                self.dst.cast::<[R; W]>().add(i).write_unaligned(r);
            }
        }
    }

    /// # Safety
    /// As [`Regs::map1`].
    #[inline(always)]
    unsafe fn map2<A: Copy, R: Copy + Default, const W: usize, const S: u8>(
        self,
        f: impl Fn(A, A) -> R,
    ) {
        for i in pieces(self.pieces) {
            // SAFETY: the caller's.
            unsafe {
                let a = piece::<A, W>(self.args[0], i, S & 1 != 0);
                let b = piece::<A, W>(self.args[1], i, S & 2 != 0);
                let mut r = [R::default(); W];
                for k in 0..W {
                    r[k] = f(a[k], b[k]);
                }
                self.dst.cast::<[R; W]>().add(i).write_unaligned(r);
            }
        }
    }

    /// # Safety
    /// As [`Regs::map1`].
    #[inline(always)]
    unsafe fn map3<A: Copy, B: Copy + Default, const W: usize, const S: u8>(
        self,
        f: impl Fn(A, B, B) -> B,
    ) {
        for i in pieces(self.pieces) {
            // SAFETY: the caller's.
            unsafe {
                let a = piece::<A, W>(self.args[0], i, S & 1 != 0);
                let b = piece::<B, W>(self.args[1], i, S & 2 != 0);
                let c = piece::<B, W>(self.args[2], i, S & 4 != 0);
                let mut r = [B::default(); W];
                for k in 0..W {
                    r[k] = f(a[k], b[k], c[k]);
                }
                self.dst.cast::<[B; W]>().add(i).write_unaligned(r);
            }
        }
    }

    /// # Safety
    /// As [`Regs::map1`], with the mask given at run time.
    #[inline(always)]
    unsafe fn splat2<T: Lane, const W: usize>(self, splat: u8, f: impl Fn(T, T) -> T) {
        // SAFETY: the caller's.
        unsafe {
            match splat {
                0 => self.map2::<T, T, W, 0>(f),
                1 => self.map2::<T, T, W, 1>(f),
                2 => self.map2::<T, T, W, 2>(f),
                _ => self.map2::<T, T, W, 3>(f),
            }
        }
    }

    /// # Safety
    /// As [`Regs::map1`], with the mask given at run time.
    #[inline(always)]
    unsafe fn splat3<T: Lane, const W: usize>(self, splat: u8, f: impl Fn(T, T, T) -> T) {
        // SAFETY: the caller's.
        unsafe {
            match splat {
                0 => self.map3::<T, T, W, 0>(f),
                1 => self.map3::<T, T, W, 1>(f),
                2 => self.map3::<T, T, W, 2>(f),
                3 => self.map3::<T, T, W, 3>(f),
                4 => self.map3::<T, T, W, 4>(f),
                5 => self.map3::<T, T, W, 5>(f),
                6 => self.map3::<T, T, W, 6>(f),
                _ => self.map3::<T, T, W, 7>(f),
            }
        }
    }

    /// # Safety
    /// As [`Regs::map1`].
    #[inline(always)]
    unsafe fn scale<T: Lane, const W: usize>(self) {
        for i in pieces(self.pieces) {
            // SAFETY: the caller's.
            unsafe {
                let a = piece::<T, W>(self.args[0], i, false);
                let b = piece::<T, W>(self.args[1], i, false);
                self.dst.cast::<[T; W]>().add(i).write_unaligned(T::scale(a, b));
            }
        }
    }

    /// # Safety
    /// As [`Regs::map1`].
    #[inline(always)]
    unsafe fn clear_rest<T: Lane, const W: usize>(self, lanes: usize) {
        for k in lanes..self.pieces * W {
            // SAFETY: the caller's.
            unsafe { self.dst.cast::<T>().add(k).write_unaligned(T::default()) };
        }
    }

    /// # Safety
    /// As [`Regs::map1`]; calls the function for the first `lanes` lanes only, the others are 0.
    #[inline(always)]
    unsafe fn call<T: Lane, const W: usize>(self, f: &ScalarFn, lanes: usize) {
        for k in 0..lanes {
            // SAFETY: the caller's; arguments the function does not have repeat the first.
            unsafe {
                let args = self.args.map(|a| a.cast::<T>().add(k).read_unaligned());
                self.dst.cast::<T>().add(k).write_unaligned(T::call(f, &args[..f.arity]));
            }
        }
        // SAFETY: the caller's.
        unsafe { self.clear_rest::<T, W>(lanes) };
    }

    /// # Safety
    /// As [`Regs::map1`]; looks at the first `lanes` lanes only, the others are 0.
    #[inline(always)]
    unsafe fn call_if<T: Lane, const W: usize>(self, f: &ScalarFn, lanes: usize) {
        let [mask, fast, args @ ..] = self.args;
        for k in 0..lanes {
            // SAFETY: the caller's; arguments the function does not have repeat the mask, whose
            // lanes are as wide.
            unsafe {
                let value = if mask.cast::<T::Int>().add(k).read_unaligned().is_set() {
                    let args = args.map(|a| a.cast::<T>().add(k).read_unaligned());
                    T::call(f, &args[..f.arity])
                } else {
                    fast.cast::<T>().add(k).read_unaligned()
                };
                self.dst.cast::<T>().add(k).write_unaligned(value);
            }
        }
        // SAFETY: the caller's.
        unsafe { self.clear_rest::<T, W>(lanes) };
    }

    /// The operations on lanes.
    ///
    /// # Safety
    /// As [`Regs::map1`]; `splat` marks arguments only of operations that allow it.
    #[inline(always)]
    unsafe fn op<T: Lane, const W: usize>(self, op: Prim, splat: u8, lanes: usize) {
        // SAFETY: the caller's; the types are those of the signature of each primitive.
        unsafe {
            match op {
                Prim::Add => self.splat2::<T, W>(splat, T::add),
                Prim::Sub => self.splat2::<T, W>(splat, T::sub),
                Prim::Mul => self.splat2::<T, W>(splat, T::mul),
                Prim::Fma => self.splat3::<T, W>(splat, T::fma),
                Prim::Fnma => self.splat3::<T, W>(splat, |a, b, c| a.neg().fma(b, c)),
                Prim::Fms => self.splat3::<T, W>(splat, |a, b, c| a.fma(b, c.neg())),
                Prim::Div => self.map2::<T, T, W, 0>(T::div),
                Prim::Neg => self.map1::<T, T, W>(T::neg),
                Prim::Abs => self.map1::<T, T, W>(T::abs),
                Prim::Sqrt => self.map1::<T, T, W>(T::sqrt),
                Prim::Min => self.map2::<T, T, W, 0>(min),
                Prim::Max => self.map2::<T, T, W, 0>(max),
                Prim::Floor => self.map1::<T, T, W>(T::floor),
                Prim::RoundEven => self.map1::<T, T, W>(T::round_even),
                Prim::Trunc => self.map1::<T, T, W>(T::trunc),
                Prim::Scale => self.scale::<T, W>(),
                Prim::Exponent => self.map1::<T, T, W>(T::exponent),
                Prim::Significand => self.map1::<T, T, W>(T::significand),
                Prim::RoundF16 => self.map1::<T, T, W>(T::round_f16),
                Prim::Lt => self.map2::<T, T::Int, W, 0>(|a, b| T::Int::mask(a < b)),
                Prim::Le => self.map2::<T, T::Int, W, 0>(|a, b| T::Int::mask(a <= b)),
                Prim::Eq => self.map2::<T, T::Int, W, 0>(|a, b| T::Int::mask(a == b)),
                Prim::MaskAnd | Prim::IntAnd => self.map2::<T::Int, T::Int, W, 0>(|a, b| a & b),
                Prim::MaskOr | Prim::IntOr => self.map2::<T::Int, T::Int, W, 0>(|a, b| a | b),
                Prim::MaskNot => self.map1::<T::Int, T::Int, W>(|a| a ^ T::Int::mask(true)),
                Prim::Select => {
                    self.map3::<T::Int, T, W, 0>(|a, b, c| if a.is_set() { b } else { c });
                }
                Prim::SelectInt => {
                    self.map3::<T::Int, T::Int, W, 0>(|a, b, c| if a.is_set() { b } else { c });
                }
                Prim::ToBits | Prim::FromBits => self.map1::<T::Int, T::Int, W>(|a| a),
                Prim::ToInt => self.map1::<T, T::Int, W>(T::to_int),
                Prim::FromInt => self.map1::<T::Int, T, W>(T::of_int),
                Prim::IntAdd => self.map2::<T::Int, T::Int, W, 0>(T::Int::add),
                Prim::IntSub => self.map2::<T::Int, T::Int, W, 0>(T::Int::sub),
                Prim::IntXor => self.map2::<T::Int, T::Int, W, 0>(|a, b| a ^ b),
                Prim::IntShl(by) => self.map1::<T::Int, T::Int, W>(|a| a.shl(by)),
                Prim::IntShr(by) => self.map1::<T::Int, T::Int, W>(|a| a.shr(by)),
                Prim::IntEq => self.map2::<T::Int, T::Int, W, 0>(|a, b| T::Int::mask(a == b)),
                Prim::IntLt => self.map2::<T::Int, T::Int, W, 0>(|a, b| T::Int::mask(a < b)),
                Prim::Call(f) => self.call::<T, W>(f, lanes),
                Prim::CallIf(f) => self.call_if::<T, W>(f, lanes),
            }
        }
    }
}

/// What a running call knows: pointers that move, and the workspace.
struct Machine<'a> {
    code: &'a Decoded,
    /// Pointers in the order of [`crate::vcode::Base`].
    bases: [*mut u8; 6],
    /// Table of places.
    places: *mut *mut u8,
    /// Counters of fixed loops.
    counters: *mut i64,
}

impl Machine<'_> {
    /// # Safety
    /// The place is in the table, which has been set up.
    #[inline(always)]
    unsafe fn place(&self, place: u32) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { *self.places.add(place as usize) }
    }

    /// # Safety
    /// The counters of the address have been set.
    #[inline(always)]
    unsafe fn address(&self, loc: Loc) -> *mut u8 {
        let terms = &self.code.terms[loc.terms.0 as usize..loc.terms.1 as usize];
        let mut offset = loc.offset;
        if !terms.is_empty() {
            // SAFETY: the caller's.
            offset += unsafe { affine(terms, self.counters) };
        }
        self.bases[usize::from(loc.base)].wrapping_offset(offset as isize)
    }
}

/// The sum of `counter * stride`. Not inlined: it is short for the processor and long as code.
///
/// # Safety
/// The counters of the terms have been set.
#[inline(never)]
unsafe fn affine(terms: &[(u32, i64)], counters: *const i64) -> i64 {
    // SAFETY: the caller's.
    terms.iter().map(|&(id, stride)| unsafe { *counters.add(id as usize) } * stride).sum()
}

/// Interprets the code with lanes of `T`, pieces of `W` lanes.
///
/// # Safety
/// As [`super::VmCode::call`], with an aligned workspace and code decoded for `T`.
#[inline(always)]
pub(super) unsafe fn run<T: Lane, const W: usize>(
    code: &Decoded,
    frame: &Frame,
    workspace: *mut u8,
) {
    let size = size_of::<T>();
    let (lanes, pieces) = (code.lanes, code.slot_bytes / (W * size));
    // Lanes of a slot; those beyond `lanes` hold rubbish that nobody looks at.
    let padded = pieces * W;
    let places = workspace.cast::<*mut u8>();
    // SAFETY: the workspace is large enough for the table, the counters behind it and the slots;
    // see `VmCode::new`. Pointers have the alignment of counters or a larger one.
    let (counters, slots) = unsafe {
        (
            workspace.add(code.places * size_of::<*mut u8>()).cast::<i64>(),
            workspace.add(code.table_bytes().next_multiple_of(super::CHUNK_BYTES)),
        )
    };
    let mut vm = Machine {
        code,
        bases: [
            frame.kept.cast::<u8>().cast_mut(),
            frame.reduced.cast::<u8>().cast_mut(),
            frame.param.cast::<u8>().cast_mut(),
            frame.state.cast::<u8>(),
            frame.out.cast::<u8>(),
            frame.scratch.cast::<u8>(),
        ],
        places,
        counters,
    };
    let mut masks = frame.masks.cast::<u8>();
    let fill = |dst: *mut u8, bits: u64| {
        for k in 0..padded {
            // The low bytes of `bits` are the element.
            // SAFETY: slots have `padded` lanes.
            unsafe { dst.cast::<T::Int>().add(k).write(T::Int::of_i64(bits as i64)) };
        }
    };
    // SAFETY: places below `slots` are slots, then come the constants; all are in the table.
    unsafe {
        for k in 0..code.slots {
            places.add(k).write(slots.add(k * code.slot_bytes));
        }
        for (k, constant) in code.constants.iter().enumerate() {
            let low = ptr::from_ref(constant).cast::<u8>().cast_mut();
            let low = if cfg!(target_endian = "big") { low.wrapping_add(8 - size) } else { low };
            places.add(code.slots + k).write(low);
        }
        for &(dst, bits) in &code.filled {
            fill(vm.place(dst), bits);
        }
    }

    let mut remaining = frame.columns;
    let mut column = frame.first_column;
    let mut at = 0;
    while let Some(&step) = code.steps.get(at) {
        at += 1;
        // SAFETY: decoding gave every step places of the kinds it works on and addresses that the
        // caller answers for; registers are written before they are read (verified). Full slots
        // have `padded` lanes, memory has `lanes`.
        unsafe {
            match step {
                Step::Op { op, splat, dst, args } => {
                    let regs = Regs {
                        dst: vm.place(dst),
                        args: args.map(|a| vm.place(a).cast_const()),
                        pieces,
                    };
                    regs.op::<T, W>(op, splat, lanes);
                }
                Step::Point { dst, loc } => {
                    vm.places.add(dst as usize).write(vm.address(loc));
                }
                Step::Copy { dst, loc } => {
                    let dst = vm.place(dst);
                    // The lanes beyond are only made to hold something.
                    ptr::write_bytes(dst.add(lanes * size), 0, (padded - lanes) * size);
                    ptr::copy_nonoverlapping(vm.address(loc), dst, lanes * size);
                }
                Step::Splat { dst, loc } => {
                    let value = vm.address(loc).cast::<T>().read_unaligned();
                    let dst = vm.place(dst);
                    for i in 0..pieces {
                        dst.cast::<[T; W]>().add(i).write([value; W]);
                    }
                }
                Step::Fill { dst, bits } => fill(vm.place(dst), bits),
                Step::Store { loc, src } => {
                    ptr::copy_nonoverlapping(vm.place(src), vm.address(loc), lanes * size);
                }
                Step::StoreMask { word, src } => {
                    let (src, to) = (vm.place(src).cast::<T::Int>(), masks.offset(word as isize));
                    for first in (0..lanes).step_by(32) {
                        let bits = (first..lanes.min(first + 32)).fold(0u32, |bits, k| {
                            bits | u32::from(src.add(k).read().is_set()) << (k - first)
                        });
                        to.cast::<u32>().add(first / 32).write_unaligned(bits);
                    }
                }
                Step::Gather { dst, loc, idx } => {
                    let (dst, idx) = (vm.place(dst).cast::<T>(), vm.place(idx).cast::<T::Int>());
                    let table = vm.address(loc).cast::<T>();
                    for k in 0..lanes {
                        let index = idx.add(k).read().index();
                        dst.add(k).write(table.add(index).read_unaligned());
                    }
                    for k in lanes..padded {
                        dst.add(k).write(T::default());
                    }
                }
                Step::ColumnIndex { dst } => fill(vm.place(dst), column as u64),
                Step::WideAdd { acc, src } => {
                    let src = vm.place(src).cast::<f32>();
                    for (h, acc) in acc.into_iter().enumerate() {
                        let acc = vm.place(acc).cast::<[f64; 8]>();
                        let src = src.add(h * padded / 2).cast::<[f32; 8]>();
                        for i in 0..padded / 16 {
                            let x = src.add(i).read_unaligned();
                            let mut sum = acc.add(i).read();
                            for k in 0..8 {
                                sum[k] += f64::from(x[k]);
                            }
                            acc.add(i).write(sum);
                        }
                    }
                }
                Step::WideStore { loc, src } => {
                    let to = vm.address(loc);
                    let low = lanes.min(padded / 2);
                    ptr::copy_nonoverlapping(vm.place(src[0]), to, low * 8);
                    ptr::copy_nonoverlapping(vm.place(src[1]), to.add(low * 8), (lanes - low) * 8);
                }
                Step::BeginFixed { counter } => vm.counters.add(counter as usize).write(0),
                Step::EndFixed { counter, count, body } => {
                    let counter = vm.counters.add(counter as usize);
                    *counter += 1;
                    if *counter < count {
                        at = body as usize;
                    }
                }
                Step::BeginColumns { step, exit } => {
                    if remaining < step {
                        at = exit as usize;
                    }
                }
                Step::EndColumns { step, body } => {
                    remaining -= step;
                    column = column.wrapping_add(step as i64);
                    let [_, reduced, _, _, out, _] = &mut vm.bases;
                    *reduced = reduced.wrapping_add(step * code.reduced_stride);
                    *out = out.wrapping_add(step * code.out_stride);
                    masks = masks.wrapping_add(step * code.mask_stride);
                    if remaining >= step {
                        at = body as usize;
                    }
                }
            }
        }
    }
}
