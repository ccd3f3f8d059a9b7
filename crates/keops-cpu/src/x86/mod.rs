//! Native x86-64 machine code for vector code, with AVX-512 or AVX2.
//!
//! `liveness` finds out when values are used next, `regalloc` holds them in registers (`loops` at the
//! heads of loops; `registers` names those with a purpose of their own), `select` (with `avx2` for what
//! only AVX-512 has as instructions) chooses instructions, `asm` encodes them. Each is one pass, so that
//! compiling takes time proportional to the length of the code.

mod asm;
mod avx2;
mod liveness;
mod loops;
mod regalloc;
mod registers;
mod select;
#[cfg(test)]
mod tests;

use std::fmt;
use std::mem::{MaybeUninit, offset_of};
use std::sync::Arc;

use crate::exec_mem::{ExecError, ExecMem};
use crate::frame::Frame;
use crate::vcode::{LoopKind, Ty, VCode};
use crate::verify::{Extents, VerifyError, verify};
use asm::{Gpr, Mem, RAX, RDI, RSI, RSP, Rm};
use liveness::Liveness;
use regalloc::Gen;
use registers::{BASES, COLUMN_SLOT, Home, MASKS, POOL, REMAINING, SPILL, pointer};

/// Alignment of the spill area, that of the largest vectors.
const SPILL_ALIGN: usize = 64;

/// Instruction set that code is generated for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Isa {
    /// AVX2 with FMA and F16C: 32-byte vectors.
    Avx2,
    /// AVX-512 F, DQ, BW and VL: 64-byte vectors.
    Avx512,
}

impl Isa {
    /// The levels that this processor supports, best first.
    pub fn supported() -> Vec<Isa> {
        let mut levels = Vec::new();
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
        {
            levels.push(Isa::Avx512);
        }
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            levels.push(Isa::Avx2);
        }
        levels
    }

    /// Bytes of a vector register.
    pub fn vector_bytes(self) -> usize {
        match self {
            Isa::Avx2 => 32,
            Isa::Avx512 => 64,
        }
    }

    /// Lanes of a vector of the type.
    pub fn lanes(self, ty: Ty) -> usize {
        self.vector_bytes() / ty.size()
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Avx2 => "AVX2",
            Isa::Avx512 => "AVX-512",
        })
    }
}

/// Why there is no machine code.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The processor does not have the instructions.
    #[error("this processor does not support {0}")]
    Unsupported(Isa),
    /// The vector code breaks a rule.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A distance in memory does not fit the 31 bits of an address.
    #[error(
        "an address offset of {bytes} bytes exceeds the 2^31 - 1 that machine code can express"
    )]
    TooLarge {
        /// The distance.
        bytes: i64,
    },
    /// The code is longer than relative jumps reach.
    #[error("{insts} vector instructions are too many, the limit is {limit}")]
    TooLong {
        /// Number of instructions or registers.
        insts: usize,
        /// How many there may be.
        limit: usize,
    },
    /// No executable memory.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

/// At less than 1,000 bytes for the longest instruction (a conditional call), this keeps routines
/// below 2^31 bytes, and at 64 bytes per register the spill area too.
const MAX_INSTS: usize = 1 << 21;

/// A compiled routine; it can be called once it is [loaded](NativeCode::load).
#[derive(Debug)]
pub struct NativeCode {
    place: CodeMemory,
    extents: Extents,
    code_bytes: usize,
    slots: usize,
    slot_bytes: usize,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests look at it"))]
    spills: usize,
}

/// Where machine code is.
#[derive(Debug)]
enum CodeMemory {
    /// Not yet executable.
    Bytes(Vec<u8>),
    /// `len` bytes from `start` on.
    Loaded { mem: Arc<ExecMem>, start: usize, len: usize },
}

/// Compiles `code` for a level that this processor supports.
///
/// # Errors
/// [`EncodeError`]; any vector code that is well formed and not absurdly large compiles.
pub fn compile(code: &VCode, level: Isa) -> Result<NativeCode, EncodeError> {
    if !Isa::supported().contains(&level) {
        return Err(EncodeError::Unsupported(level));
    }
    let extents = verify(code, level.lanes(code.ty))?;
    let size = code.insts.len().max(code.kinds.len());
    if size > MAX_INSTS {
        return Err(EncodeError::TooLong { insts: size, limit: MAX_INSTS });
    }
    let evex = level == Isa::Avx512;
    let live = Liveness::new(code, usize::from(evex), |op| select::scratch(op, evex, code.ty))?;
    check_strides(code, &live)?;
    let homes = Homes::new(&live);
    let mut g = Gen::new(code, &live, evex, homes.terms.clone(), homes.counters.clone());
    let pool = prologue(&mut g, &homes);
    let mut loops = Vec::new();
    for p in 0..code.insts.len() {
        g.pos = p as u32;
        g.instruction(&mut loops);
    }
    g.asm.vzeroupper();
    if homes.frame != 0 {
        g.asm.arith(0, Rm::Reg(RSP), homes.frame);
    }
    for &r in homes.saved.iter().rev() {
        g.asm.pop(r);
    }
    g.asm.ret();
    g.append_slow_paths();
    let code_bytes = g.asm.code.len();
    g.asm.align(64);
    g.asm.land(pool);
    let constants = g.pool_bytes();
    g.asm.code.extend_from_slice(&constants);
    let (slots, spills) = g.spill_counts();
    Ok(NativeCode {
        place: CodeMemory::Bytes(g.asm.code),
        extents,
        code_bytes,
        slots: slots as usize,
        slot_bytes: level.vector_bytes(),
        spills,
    })
}

/// Do the steps of loops over columns fit an immediate operand?
fn check_strides(code: &VCode, live: &Liveness) -> Result<(), EncodeError> {
    let size = code.ty.size() as i64;
    for l in &live.loops {
        let LoopKind::Columns { step } = l.kind else { continue };
        for stride in [
            i64::from(code.reduced_stride) * size,
            i64::from(code.out_stride) * size,
            i64::from(code.mask_stride) * 4,
            1,
        ] {
            let bytes = stride.saturating_mul(i64::from(step));
            i32::try_from(bytes).map_err(|_| EncodeError::TooLarge { bytes })?;
        }
    }
    Ok(())
}

/// Where address terms and loop counters live, and the stack frame that follows.
struct Homes {
    terms: Vec<Home>,
    counters: Vec<Home>,
    /// Callee-saved registers in use.
    saved: Vec<Gpr>,
    /// Bytes below the saved registers.
    frame: i32,
}

impl Homes {
    fn new(live: &Liveness) -> Homes {
        let unused = BASES.iter().zip(live.bases).filter(|(_, used)| !used);
        let mut free: Vec<Gpr> = unused.map(|(&b, _)| pointer(b)).collect();
        if !live.stores_masks {
            free.push(MASKS);
        }
        free.extend([12, 13, 14, 15]);
        free.reverse();
        // What is used most gets registers first. Counters are used once in every turn.
        let mut wishes: Vec<(f64, bool, usize)> = Vec::new();
        for (t, &w) in live.term_weight.iter().enumerate() {
            wishes.push((w, false, t));
        }
        for l in 0..live.loops.len() {
            let fixed = matches!(live.loops[l].kind, LoopKind::Fixed(_));
            if fixed && live.term_counter(l).is_none() {
                wishes.push((live.turns[l], true, l));
            }
        }
        wishes.sort_by(|a, b| b.0.total_cmp(&a.0));
        // The first word is the number of the current column.
        let mut frame = 8;
        let mut terms = vec![Home::Stack(0); live.terms.len()];
        let mut counters = vec![Home::Stack(0); live.loops.len()];
        let mut saved = vec![POOL, SPILL];
        for (_, counter, i) in wishes {
            let home = match free.pop() {
                Some(r) => {
                    if r >= 12 {
                        saved.push(r);
                    }
                    Home::Reg(r)
                }
                None => {
                    frame += 8;
                    Home::Stack(frame - 8)
                }
            };
            if counter {
                counters[i] = home;
            } else {
                terms[i] = home;
            }
        }
        // Calls need a stack that is aligned to 16 bytes; the return address is the odd word.
        if (frame / 8 + saved.len() as i32) % 2 == 0 {
            frame += 8;
        }
        Homes { terms, counters, saved, frame }
    }
}

/// Saves registers and loads the frame; `rdi` is the frame, `rsi` the spill area.
fn prologue(g: &mut Gen, homes: &Homes) -> asm::Patch {
    for &r in &homes.saved {
        g.asm.push(r);
    }
    g.asm.arith(5, Rm::Reg(RSP), homes.frame);
    g.asm.copy(SPILL, RSI);
    let field = |offset: usize| Mem::at(RDI, offset as i32);
    if g.live.numbers_columns {
        g.asm.load(RAX, field(offset_of!(Frame, first_column)));
        g.asm.store(Mem::at(RSP, COLUMN_SLOT), RAX);
    }
    let fields = [
        offset_of!(Frame, kept),
        offset_of!(Frame, reduced),
        offset_of!(Frame, param),
        offset_of!(Frame, state),
        offset_of!(Frame, out),
        offset_of!(Frame, scratch),
    ];
    for ((&b, used), offset) in BASES.iter().zip(g.live.bases).zip(fields) {
        if used {
            g.asm.load(pointer(b), field(offset));
        }
    }
    if g.live.stores_masks {
        g.asm.load(MASKS, field(offset_of!(Frame, masks)));
    }
    g.asm.load(REMAINING, field(offset_of!(Frame, columns)));
    for h in &homes.terms {
        g.asm.set(h.rm(), 0);
    }
    g.asm.lea_rip(POOL)
}

impl NativeCode {
    /// Makes routines executable, all in one piece of memory: every piece costs calls of the
    /// operating system.
    ///
    /// # Errors
    /// [`ExecError`]
    pub fn load<'n>(all: impl Iterator<Item = &'n mut NativeCode>) -> Result<(), ExecError> {
        let all: Vec<_> = all.collect();
        let parts: Vec<&[u8]> = all.iter().map(|n| n.bytes()).collect();
        let lens: Vec<usize> = parts.iter().map(|p| p.len()).collect();
        let (mem, starts) = ExecMem::new(&parts)?;
        let mem = Arc::new(mem);
        for ((n, start), len) in all.into_iter().zip(starts).zip(lens) {
            n.place = CodeMemory::Loaded { mem: mem.clone(), start, len };
        }
        Ok(())
    }

    /// Runs the routine. `workspace` is where values are kept that find no register; it needs no
    /// initialisation, holds nothing between calls, and may be larger than
    /// [`NativeCode::workspace_bytes`] and have any alignment.
    ///
    /// # Panics
    /// If the workspace is smaller than [`NativeCode::workspace_bytes`], or if it is not loaded.
    ///
    /// # Safety
    /// The pointers of the frame are valid for the [`Extents`] of the code: `kept`, `reduced` and
    /// `param` for reads, the others for reads and writes. What is read has been initialised; no
    /// two of these memories overlap where one of them is written, and none overlaps the workspace.
    pub unsafe fn call(&self, frame: &Frame, workspace: &mut [MaybeUninit<u8>]) {
        assert!(workspace.len() >= self.workspace_bytes(), "workspace too small");
        let start = workspace.as_mut_ptr();
        let spill = start.wrapping_add(start.align_offset(SPILL_ALIGN));
        type Entry = unsafe extern "sysv64" fn(*const Frame, *mut MaybeUninit<u8>);
        assert!(matches!(self.place, CodeMemory::Loaded { .. }), "code that is not loaded");
        // SAFETY: these bytes begin with a routine of this type, made by `compile`, which checked
        // that the processor has the instructions; they are executable, and live as long as
        // `self`.
        let entry = unsafe { std::mem::transmute::<*const u8, Entry>(self.bytes().as_ptr()) };
        // SAFETY: the caller's contract; the spill area is large enough with its slack for the
        // alignment.
        unsafe { entry(frame, spill) }
    }

    /// Bytes of workspace that [`NativeCode::call`] needs.
    pub fn workspace_bytes(&self) -> usize {
        match self.slots {
            0 => 0,
            n => n * self.slot_bytes + SPILL_ALIGN,
        }
    }

    /// Machine code, then its constants.
    pub fn bytes(&self) -> &[u8] {
        match &self.place {
            CodeMemory::Bytes(all) => all,
            CodeMemory::Loaded { mem, start, len } => &mem.bytes()[*start..*start + *len],
        }
    }

    /// What memory it touches.
    pub fn extents(&self) -> &Extents {
        &self.extents
    }

    /// Number of instructions that store a value for which there was no register.
    #[cfg(test)]
    pub fn spills(&self) -> usize {
        self.spills
    }

    /// The machine code in assembler language (Intel syntax), one instruction per line with its
    /// offset. Constants are addressed relative to `rbx`, spilled values to `rbp`.
    pub fn disassemble(&self) -> String {
        use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
        let code = &self.bytes()[..self.code_bytes];
        let mut formatter = IntelFormatter::new();
        let mut text = String::new();
        for inst in Decoder::new(64, code, DecoderOptions::NONE) {
            text.push_str(&format!("{:6x}  ", inst.ip()));
            formatter.format(&inst, &mut text);
            text.push('\n');
        }
        text
    }
}
