//! From vector code to steps over places.
//!
//! A *place* is an entry of a table of pointers. Slots of the workspace are places that never
//! move. A register that only ever holds read-only memory (`Base::Kept`, `Reduced`, `Param`), or
//! a constant, is a place that points there; where it stands for one element in every lane, its
//! uses read that element ("splat") instead of a vector.

use keops_core::prim::Prim;

use super::CHUNK_BYTES;
use crate::vcode::{Addr, Base, Inst, LoopKind, Ty, VCode, VReg};

/// Index into the table of places.
pub(super) type PlaceId = u32;

/// A resolved address: `bases[base] + offset + sum of counter * stride`, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loc {
    pub base: u8,
    pub offset: i64,
    /// Range of [`Decoded::terms`].
    pub terms: (u32, u32),
}

/// One decoded instruction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Bit `k` of `splat`: argument `k` is one element for all lanes.
    Op {
        op: Prim,
        splat: u8,
        dst: PlaceId,
        args: [PlaceId; 5],
    },
    /// Lets a place point to memory.
    Point {
        dst: PlaceId,
        loc: Loc,
    },
    Copy {
        dst: PlaceId,
        loc: Loc,
    },
    Splat {
        dst: PlaceId,
        loc: Loc,
    },
    Fill {
        dst: PlaceId,
        bits: u64,
    },
    Store {
        loc: Loc,
        src: PlaceId,
    },
    StoreMask {
        word: i64,
        src: PlaceId,
    },
    Gather {
        dst: PlaceId,
        loc: Loc,
        idx: PlaceId,
    },
    ColumnIndex {
        dst: PlaceId,
    },
    WideAdd {
        acc: [PlaceId; 2],
        src: PlaceId,
    },
    WideStore {
        loc: Loc,
        src: [PlaceId; 2],
    },
    BeginFixed {
        counter: u32,
    },
    EndFixed {
        counter: u32,
        count: i64,
        body: u32,
    },
    /// Goes to `exit` if less than `step` columns remain.
    BeginColumns {
        step: usize,
        exit: u32,
    },
    EndColumns {
        step: usize,
        body: u32,
    },
}

/// Decoded code.
#[derive(Debug)]
pub(super) struct Decoded {
    pub lanes: usize,
    pub steps: Vec<Step>,
    /// Loop counter and stride in bytes.
    pub terms: Vec<(u32, i64)>,
    /// Slots, the first places.
    pub slots: usize,
    pub slot_bytes: usize,
    /// Slots filled at the start of a call: vectors of a constant.
    pub filled: Vec<(PlaceId, u64)>,
    /// Constants that the places behind the slots point to, one element each.
    pub constants: Vec<u64>,
    /// Number of places.
    pub places: usize,
    /// Number of loop counters.
    pub counters: usize,
    /// Bytes between columns of `Base::Reduced`, `Base::Out` and the masks.
    pub reduced_stride: usize,
    pub out_stride: usize,
    pub mask_stride: usize,
}

impl Decoded {
    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Step>() * self.steps.capacity()
            + size_of::<(u32, i64)>() * self.terms.capacity()
            + size_of::<(PlaceId, u64)>() * self.filled.capacity()
            + size_of::<u64>() * self.constants.capacity()
    }
    /// Bytes of the table of places and of the counters behind it.
    pub fn table_bytes(&self) -> usize {
        self.places * size_of::<*mut u8>() + self.counters * size_of::<i64>()
    }
}

/// What becomes of a register.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Role {
    /// Never assigned.
    Unused,
    /// A slot shared with registers that live at other times.
    Slot,
    /// A constant, in a slot of its own.
    Filled(u64),
    /// A constant, read as one element.
    Constant(u64),
    /// A pointer to a vector in read-only memory.
    Vector,
    /// A pointer to one element in read-only memory.
    Element,
}

/// Operations whose arguments may be one element for all lanes.
fn takes_splat(op: Prim) -> bool {
    matches!(op, Prim::Add | Prim::Sub | Prim::Mul | Prim::Fma | Prim::Fnma | Prim::Fms)
}

/// Calls `f` with every register that an instruction reads, `true` if in place of a splat.
fn for_reads(inst: &Inst, mut f: impl FnMut(VReg, bool)) {
    match inst {
        Inst::Op { op, args, .. } => args.iter().for_each(|r| f(*r, takes_splat(*op))),
        Inst::Store { src, .. } | Inst::StoreMask { src, .. } => f(*src, false),
        Inst::Gather { idx, .. } => f(*idx, false),
        Inst::WideAdd { acc, src } => [*src, acc[0], acc[1]].into_iter().for_each(|r| f(r, false)),
        Inst::WideStore { src, .. } => src.iter().for_each(|r| f(*r, false)),
        Inst::Const { .. }
        | Inst::ConstInt { .. }
        | Inst::Load { .. }
        | Inst::ColumnIndex { .. }
        | Inst::Begin { .. }
        | Inst::End { .. } => {}
    }
}

/// Bits of a constant of the compute type.
fn real_bits(ty: Ty, value: f64) -> u64 {
    match ty {
        Ty::F32 => u64::from((value as f32).to_bits()),
        Ty::F64 => value.to_bits(),
    }
}

/// Bits of an integer as wide as the compute type.
fn int_bits(ty: Ty, value: i64) -> u64 {
    match ty {
        Ty::F32 => u64::from(value as u32),
        Ty::F64 => value as u64,
    }
}

fn roles(code: &VCode, whole_chunks: bool) -> Vec<Role> {
    let mut roles = vec![Role::Unused; code.kinds.len()];
    for inst in &code.insts {
        let Some(dst) = inst.dst() else { continue };
        let role = match inst {
            Inst::Const { value, .. } => Role::Constant(real_bits(code.ty, *value)),
            Inst::ConstInt { value, .. } => Role::Constant(int_bits(code.ty, *value)),
            Inst::Load { addr, broadcast, .. }
                if matches!(addr.base, Base::Kept | Base::Reduced | Base::Param) =>
            {
                // A vector shorter than the pieces of the inner loops is copied, lest they read
                // beyond it.
                match (broadcast, whole_chunks) {
                    (true, _) => Role::Element,
                    (false, true) => Role::Vector,
                    (false, false) => Role::Slot,
                }
            }
            _ => Role::Slot,
        };
        let known = &mut roles[dst.0 as usize];
        *known = if matches!(*known, Role::Unused) || *known == role { role } else { Role::Slot };
    }
    for inst in &code.insts {
        for_reads(inst, |reg, splat_allowed| {
            let role = &mut roles[reg.0 as usize];
            // A wide accumulator changes without being assigned.
            let wide = matches!(inst, Inst::WideAdd { acc, .. } if acc.contains(&reg));
            *role = match *role {
                _ if wide => Role::Slot,
                Role::Constant(bits) if !splat_allowed => Role::Filled(bits),
                Role::Element if !splat_allowed => Role::Slot,
                role => role,
            };
        });
    }
    roles
}

/// First assignment and last instruction before which nothing else may take the register's slot.
#[derive(Clone, Copy)]
struct Life {
    start: usize,
    end: usize,
}

/// Live intervals. A register that is touched in a loop which begins after its first assignment
/// lives to the end of that loop, since the next turn may read it.
fn lives(code: &VCode) -> Vec<Option<Life>> {
    let mut end_of = Vec::new();
    for (at, inst) in code.insts.iter().enumerate() {
        match inst {
            Inst::Begin { .. } => end_of.push(at),
            Inst::End { id } => end_of[id.0 as usize] = at,
            _ => {}
        }
    }
    let mut lives: Vec<Option<Life>> = vec![None; code.kinds.len()];
    // Open loops with their first instruction.
    let mut open: Vec<(usize, usize)> = Vec::new();
    for (at, inst) in code.insts.iter().enumerate() {
        let mut touch = |reg: VReg| {
            let life = lives[reg.0 as usize].get_or_insert(Life { start: at, end: at });
            let around = open.partition_point(|&(begin, _)| begin < life.start);
            let end = open.get(around).map_or(at, |&(_, end)| end);
            life.end = life.end.max(end);
        };
        for_reads(inst, |reg, _| touch(reg));
        if let Some(dst) = inst.dst() {
            touch(dst);
        }
        match inst {
            Inst::Begin { id, .. } => open.push((at, end_of[id.0 as usize])),
            Inst::End { .. } => {
                open.pop();
            }
            _ => {}
        }
    }
    lives
}

struct Assignment {
    places: Vec<PlaceId>,
    roles: Vec<Role>,
    slots: usize,
    filled: Vec<(PlaceId, u64)>,
    constants: Vec<u64>,
    count: usize,
}

fn assign_places(code: &VCode, roles: Vec<Role>) -> Assignment {
    let lives = lives(code);
    let mut places = vec![0; roles.len()];
    let mut filled = Vec::new();
    let mut slots = 0;
    let mut new_slot = || {
        slots += 1;
        slots - 1
    };
    for (reg, role) in roles.iter().enumerate() {
        if let Role::Filled(bits) = *role {
            places[reg] = new_slot();
            filled.push((places[reg], bits));
        }
    }
    // Linear scan. A slot is free again at the instruction that reads it last: every step reads a
    // piece of its arguments before it writes that piece of its result.
    let mut order: Vec<(Life, usize)> = lives
        .iter()
        .enumerate()
        .filter(|&(reg, _)| roles[reg] == Role::Slot)
        .filter_map(|(reg, life)| Some(((*life)?, reg)))
        .collect();
    order.sort_by_key(|(life, _)| life.start);
    let mut busy = std::collections::BinaryHeap::new();
    let mut free = Vec::new();
    for (life, reg) in order {
        while let Some(&std::cmp::Reverse((end, slot))) = busy.peek()
            && end <= life.start
        {
            busy.pop();
            free.push(slot);
        }
        places[reg] = free.pop().unwrap_or_else(&mut new_slot);
        busy.push(std::cmp::Reverse((life.end, places[reg])));
    }
    let mut count = slots;
    let mut constants = Vec::new();
    for (reg, role) in roles.iter().enumerate() {
        if let Role::Constant(bits) = *role {
            places[reg] = count;
            constants.push(bits);
            count += 1;
        }
    }
    for (reg, role) in roles.iter().enumerate() {
        if matches!(role, Role::Vector | Role::Element) {
            places[reg] = count;
            count += 1;
        }
    }
    Assignment { places, roles, slots: slots as usize, filled, constants, count: count as usize }
}

/// Decodes verified code.
pub(super) fn decode(code: &VCode, lanes: usize) -> Decoded {
    let size = code.ty.size();
    let assignment = assign_places(code, roles(code, (lanes * size).is_multiple_of(CHUNK_BYTES)));
    let place = |reg: VReg| assignment.places[reg.0 as usize];
    let role = |reg: VReg| assignment.roles[reg.0 as usize];
    let mask_bytes = lanes.div_ceil(32) * size_of::<u32>();

    let mut steps = Vec::with_capacity(code.insts.len());
    let mut terms = Vec::new();
    let mut loops: Vec<LoopKind> = Vec::new();
    let mut bodies: Vec<u32> = Vec::new();
    let mut loc = |addr: &Addr| {
        let start = terms.len() as u32;
        terms
            .extend(addr.terms.iter().map(|&(id, stride)| (id.0, i64::from(stride) * size as i64)));
        Loc {
            base: addr.base as u8,
            offset: i64::from(addr.offset) * size as i64,
            terms: (start, terms.len() as u32),
        }
    };
    for inst in &code.insts {
        let step = match inst {
            Inst::Op { dst, op, args } => {
                let mut splat = 0;
                let mut operands = [place(args[0]); 5];
                for (k, arg) in args.iter().enumerate() {
                    operands[k] = place(*arg);
                    splat |= u8::from(matches!(role(*arg), Role::Constant(_) | Role::Element)) << k;
                }
                Step::Op { op: *op, splat, dst: place(*dst), args: operands }
            }
            Inst::Const { dst, .. } | Inst::ConstInt { dst, .. }
                if matches!(role(*dst), Role::Constant(_) | Role::Filled(_)) =>
            {
                continue;
            }
            Inst::Const { dst, value } => {
                Step::Fill { dst: place(*dst), bits: real_bits(code.ty, *value) }
            }
            Inst::ConstInt { dst, value } => {
                Step::Fill { dst: place(*dst), bits: int_bits(code.ty, *value) }
            }
            Inst::Load { dst, addr, broadcast } => {
                let (loc, pointer) =
                    (loc(addr), matches!(role(*dst), Role::Vector | Role::Element));
                let dst = place(*dst);
                match (pointer, broadcast) {
                    (true, _) => Step::Point { dst, loc },
                    (false, true) => Step::Splat { dst, loc },
                    (false, false) => Step::Copy { dst, loc },
                }
            }
            Inst::Store { addr, src } => Step::Store { loc: loc(addr), src: place(*src) },
            Inst::StoreMask { index, src } => {
                Step::StoreMask { word: i64::from(*index) * mask_bytes as i64, src: place(*src) }
            }
            Inst::Gather { dst, addr, idx } => {
                Step::Gather { dst: place(*dst), loc: loc(addr), idx: place(*idx) }
            }
            Inst::ColumnIndex { dst } => Step::ColumnIndex { dst: place(*dst) },
            Inst::WideAdd { acc, src } => Step::WideAdd { acc: acc.map(place), src: place(*src) },
            Inst::WideStore { addr, src } => {
                Step::WideStore { loc: loc(addr), src: src.map(place) }
            }
            Inst::Begin { id, kind } => {
                loops.push(*kind);
                bodies.push(steps.len() as u32 + 1);
                match *kind {
                    LoopKind::Fixed(_) => Step::BeginFixed { counter: id.0 },
                    // The exit is known at the end.
                    LoopKind::Columns { step } => {
                        Step::BeginColumns { step: step as usize, exit: 0 }
                    }
                }
            }
            Inst::End { id } => {
                let body = bodies[id.0 as usize];
                match loops[id.0 as usize] {
                    LoopKind::Fixed(count) => {
                        Step::EndFixed { counter: id.0, count: i64::from(count), body }
                    }
                    LoopKind::Columns { step } => {
                        let step = step as usize;
                        let exit = steps.len() as u32 + 1;
                        steps[body as usize - 1] = Step::BeginColumns { step, exit };
                        Step::EndColumns { step, body }
                    }
                }
            }
        };
        steps.push(step);
    }
    Decoded {
        lanes,
        steps,
        terms,
        slots: assignment.slots,
        slot_bytes: (lanes * size).next_multiple_of(CHUNK_BYTES),
        filled: assignment.filled,
        constants: assignment.constants,
        places: assignment.count,
        counters: loops.len(),
        reduced_stride: code.reduced_stride as usize * size,
        out_stride: code.out_stride as usize * size,
        mask_stride: code.mask_stride as usize * mask_bytes,
    }
}
