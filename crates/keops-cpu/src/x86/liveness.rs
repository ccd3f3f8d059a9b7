//! What the register allocator has to know before it starts: next uses, loops with the values
//! that live across their heads, register pressure, and which loads may be delayed to their use.
//!
//! Everything is linear in the number of accesses (times the depth of nesting).

use super::EncodeError;
use crate::vcode::{Addr, Base, Inst, LoopId, LoopKind, VCode, VReg};
use hashbrown::HashMap;
use keops_core::prim::{self, Args, Kind, Prim};

/// "Nowhere": no next use, no register, no slot.
pub const NONE: u32 = u32::MAX;

/// The sum of `counter * stride` in bytes, divided by a common power of two: what the address
/// registers hold.
pub type Term = Vec<(LoopId, i32)>;

/// A value that lives across the head of a loop which uses or changes it.
#[derive(Clone, Copy)]
pub struct HeadVal {
    /// Register.
    pub v: VReg,
    /// Next use after the loop.
    pub after: u32,
    /// Does the loop assign it?
    pub carried: bool,
    /// Does the loop assign it before it reads it? Then the value at the head only matters if
    /// there are no turns.
    pub around: bool,
}

/// Index of loads beside the register classes.
const LOADS: usize = 2;

/// One loop.
pub struct Loop {
    /// Position of its `Begin`.
    pub begin: u32,
    /// Position of its `End`.
    pub end: u32,
    /// Kind.
    pub kind: LoopKind,
    /// Contains no other loop?
    pub innermost: bool,
    /// Values that live across the head because of this loop.
    pub head: Vec<HeadVal>,
    /// Registers assigned within the loop.
    assigned: Vec<VReg>,
    /// Peak number of registers that temporaries of the body need, by class.
    pub peak: [u32; 2],
    /// Peak number of vector registers that temporaries, and loads that the body uses several
    /// times, could use.
    pub peak_with_loads: u32,
    /// Address terms that step with this loop, with their steps.
    pub steps: Vec<(usize, i32)>,
}

/// An address with its terms replaced by the number of a [`Term`].
#[derive(Clone, Copy)]
pub struct Address {
    /// Pointer.
    pub base: Base,
    /// Offset in bytes.
    pub disp: i32,
    /// Index among the terms, and logarithm of the scale.
    pub term: Option<(usize, u8)>,
}

/// The result.
pub struct Liveness {
    /// Next use after every access; definitions of an instruction first, then its uses.
    pub next: Vec<u32>,
    /// Where the accesses of an instruction start in `next`.
    pub first: Vec<u32>,
    /// Loops in order of appearance.
    pub loops: Vec<Loop>,
    /// For a load or constant: may it be delayed to (and repeated at) its uses?
    pub lazy: Vec<bool>,
    /// Positions of the instructions that have an address, in order, and their places.
    places: Vec<(u32, Address)>,
    /// Are scalar functions called?
    pub calls: bool,
    /// Which pointers are used, in the order of [`Base`].
    pub bases: [bool; 6],
    /// Are masks stored?
    pub stores_masks: bool,
    /// Is the number of the current column asked for?
    pub numbers_columns: bool,
    /// Address terms.
    pub terms: Vec<Term>,
    /// Estimated number of uses of every term.
    pub term_weight: Vec<f64>,
    /// Estimated number of turns of every loop, in all.
    pub turns: Vec<f64>,
    /// Positions of all uses, by register.
    use_start: Vec<u32>,
    use_pos: Vec<u32>,
    /// Estimated executions of the uses, summed within each register's list.
    use_freq: Vec<f64>,
}

/// Registers written by an instruction.
pub fn defs(inst: &Inst) -> ([VReg; 2], usize) {
    let one = |d: VReg| ([d, d], 1);
    match inst {
        Inst::Op { dst, .. }
        | Inst::Const { dst, .. }
        | Inst::ConstInt { dst, .. }
        | Inst::Load { dst, .. }
        | Inst::Gather { dst, .. }
        | Inst::ColumnIndex { dst } => one(*dst),
        Inst::WideAdd { acc, .. } => (*acc, 2),
        Inst::Store { .. }
        | Inst::StoreMask { .. }
        | Inst::WideStore { .. }
        | Inst::Begin { .. }
        | Inst::End { .. } => ([VReg(0); 2], 0),
    }
}

/// Most registers that an instruction reads.
pub const MAX_USES: usize = prim::MOST_ARGS;

/// Registers read by an instruction.
pub fn uses(inst: &Inst) -> Args<VReg> {
    match inst {
        Inst::Op { args, .. } => *args,
        Inst::Store { src, .. } | Inst::StoreMask { src, .. } => [*src].into(),
        Inst::Gather { idx, .. } => [*idx].into(),
        Inst::WideAdd { acc, src } => [acc[0], acc[1], *src].into(),
        Inst::WideStore { src, .. } => (*src).into(),
        Inst::Const { .. }
        | Inst::ConstInt { .. }
        | Inst::Load { .. }
        | Inst::ColumnIndex { .. }
        | Inst::Begin { .. }
        | Inst::End { .. } => Args::default(),
    }
}

fn address(inst: &Inst) -> Option<&Addr> {
    match inst {
        Inst::Load { addr, .. }
        | Inst::Store { addr, .. }
        | Inst::Gather { addr, .. }
        | Inst::WideStore { addr, .. } => Some(addr),
        _ => None,
    }
}

fn base_index(b: Base) -> usize {
    b as usize
}

impl Liveness {
    /// Analyses `code`. `mask_class` is the register class of masks (1 where there are mask
    /// registers, else 0), `scratch` the temporaries that an operation needs besides its result.
    pub fn new(
        code: &VCode,
        mask_class: usize,
        scratch: impl Fn(Prim) -> u32,
    ) -> Result<Liveness, EncodeError> {
        let mut l = Liveness {
            next: Vec::new(),
            first: Vec::with_capacity(code.insts.len()),
            loops: Vec::new(),
            lazy: vec![false; code.insts.len()],
            places: Vec::new(),
            calls: false,
            bases: [false; 6],
            stores_masks: false,
            numbers_columns: false,
            terms: Vec::new(),
            term_weight: Vec::new(),
            turns: Vec::new(),
            use_start: Vec::new(),
            use_pos: Vec::new(),
            use_freq: Vec::new(),
        };
        let around = l.forward(code)?;
        l.backward(code, mask_class, scratch, &around);
        Ok(l)
    }

    /// Address of an instruction that has an address.
    pub fn place_of(&self, pos: u32) -> Address {
        self.places[self.places.partition_point(|p| p.0 < pos)].1
    }

    /// Estimated number of executions of uses of `v` between two positions.
    pub fn weight(&self, v: VReg, from: u32, to: u32) -> f64 {
        let (a, b) = (self.use_start[v.0 as usize], self.use_start[v.0 as usize + 1]);
        let list = &self.use_pos[a as usize..b as usize];
        let sum = |p: u32| match list.partition_point(|&q| q < p) {
            0 => 0.0,
            n => self.use_freq[a as usize + n - 1],
        };
        sum(to) - sum(from)
    }

    /// The term that can serve as the counter of a fixed loop, with its step: one that starts at
    /// 0 and belongs to no other loop.
    pub fn term_counter(&self, number: usize) -> Option<(usize, i32)> {
        let steps = &self.loops[number].steps;
        steps.iter().copied().find(|&(t, _)| self.terms[t].len() == 1)
    }

    /// Finds loops, places and the registers that are used before they are
    /// assigned in a loop. Returns, by loop, registers that were assigned before a loop which may
    /// run zero times and are assigned again in it first.
    fn forward(&mut self, code: &VCode) -> Result<Vec<Vec<VReg>>, EncodeError> {
        let n_regs = code.kinds.len();
        let mut around: Vec<Vec<VReg>> = Vec::new();
        let mut stack: Vec<usize> = Vec::new();
        let mut freq = vec![1.0];
        let mut last_access = vec![NONE; n_regs];
        let mut last_def = vec![NONE; n_regs];
        let mut count = vec![0u32; n_regs + 1];
        // Most instructions have two arguments.
        self.next.reserve(3 * code.insts.len());
        let mut terms: HashMap<Term, usize> = HashMap::new();
        for (p, inst) in code.insts.iter().enumerate() {
            let pos = p as u32;
            let f = freq[freq.len() - 1];
            match inst {
                Inst::Begin { kind, .. } => {
                    if let Some(&outer) = stack.last() {
                        self.loops[outer].innermost = false;
                    }
                    let trips = match kind {
                        LoopKind::Fixed(n) => f64::from(*n),
                        // Unknown; many.
                        LoopKind::Columns { .. } => 64.0,
                    };
                    freq.push(f * trips);
                    self.turns.push(f * trips);
                    stack.push(self.loops.len());
                    around.push(Vec::new());
                    self.loops.push(Loop {
                        begin: pos,
                        end: NONE,
                        kind: *kind,
                        innermost: true,
                        head: Vec::new(),
                        assigned: Vec::new(),
                        peak: [0; 2],
                        peak_with_loads: 0,
                        steps: Vec::new(),
                    });
                }
                Inst::End { .. } => {
                    let l = stack.pop().expect("verified: loops are balanced");
                    freq.pop();
                    self.loops[l].end = pos;
                }
                Inst::Op { op: Prim::Call(_) | Prim::CallIf(_), .. } => self.calls = true,
                Inst::StoreMask { .. } => self.stores_masks = true,
                Inst::ColumnIndex { .. } => self.numbers_columns = true,
                _ => {}
            }
            if let Some(a) = address(inst) {
                self.bases[base_index(a.base)] = true;
                let place = self.place(code, a, f, &mut terms)?;
                self.places.push((pos, place));
            }
            let u = uses(inst);
            let (nu, (d, nd)) = (u.len(), defs(inst));
            self.first.push(self.next.len() as u32);
            self.next.resize(self.next.len() + nu + nd, NONE);
            for (k, &v) in u.iter().chain(&d[..nd]).enumerate() {
                let is_use = k < nu;
                let i = v.0 as usize;
                if is_use {
                    count[i + 1] += 1;
                }
                for &s in stack.iter().rev() {
                    let lp = &mut self.loops[s];
                    if last_access[i] != NONE && last_access[i] >= lp.begin {
                        break;
                    }
                    if is_use {
                        lp.head.push(HeadVal { v, after: NONE, carried: false, around: false });
                    } else if last_access[i] != NONE && matches!(lp.kind, LoopKind::Columns { .. })
                    {
                        around[s].push(v);
                    }
                }
                last_access[i] = pos;
                if !is_use {
                    for &s in stack.iter().rev() {
                        if last_def[i] != NONE && last_def[i] >= self.loops[s].begin {
                            break;
                        }
                        self.loops[s].assigned.push(v);
                    }
                    last_def[i] = pos;
                }
            }
        }
        for i in 0..n_regs {
            count[i + 1] += count[i];
        }
        self.use_start = count.clone();
        self.use_pos = vec![0; count[n_regs] as usize];
        self.use_freq = vec![0.0; count[n_regs] as usize];
        let mut turns = self.turns.iter();
        for (p, inst) in code.insts.iter().enumerate() {
            match inst {
                Inst::Begin { .. } => freq.extend(turns.next()),
                Inst::End { .. } => drop(freq.pop()),
                _ => {}
            }
            let f = freq[freq.len() - 1];
            for v in uses(inst).iter() {
                let slot = count[v.0 as usize] as usize;
                let before = if slot as u32 > self.use_start[v.0 as usize] {
                    self.use_freq[slot - 1]
                } else {
                    0.0
                };
                self.use_pos[slot] = p as u32;
                self.use_freq[slot] = before + f;
                count[v.0 as usize] += 1;
            }
        }
        Ok(around)
    }

    fn place(
        &mut self,
        code: &VCode,
        a: &Addr,
        freq: f64,
        terms: &mut HashMap<Term, usize>,
    ) -> Result<Address, EncodeError> {
        let size = code.ty.size() as i64;
        let narrow = |v: i64| i32::try_from(v).map_err(|_| EncodeError::TooLarge { bytes: v });
        let disp = narrow(i64::from(a.offset) * size)?;
        if a.terms.is_empty() {
            return Ok(Address { base: a.base, disp, term: None });
        }
        let mut sum: Vec<(LoopId, i64)> = Vec::new();
        for &(id, stride) in &a.terms {
            match sum.iter_mut().find(|t| t.0 == id) {
                Some(t) => t.1 += i64::from(stride) * size,
                None => sum.push((id, i64::from(stride) * size)),
            }
        }
        sum.retain(|t| t.1 != 0);
        sum.sort_by_key(|t| t.0.0);
        if sum.is_empty() {
            return Ok(Address { base: a.base, disp, term: None });
        }
        let scale = sum.iter().map(|t| t.1.trailing_zeros()).min().unwrap_or(0).min(3) as u8;
        let mut key = Term::with_capacity(sum.len());
        for &(id, stride) in &sum {
            if let LoopKind::Fixed(n) = self.loops[id.0 as usize].kind {
                narrow(stride.saturating_mul(i64::from(n)))?;
            }
            key.push((id, narrow(stride >> scale)?));
        }
        let t = *terms.entry(key.clone()).or_insert_with(|| {
            for &(id, stride) in &key {
                self.loops[id.0 as usize].steps.push((self.terms.len(), stride));
            }
            self.terms.push(key);
            self.term_weight.push(0.0);
            self.terms.len() - 1
        });
        self.term_weight[t] += freq;
        Ok(Address { base: a.base, disp, term: Some((t, scale)) })
    }

    /// Fills `next`, the loop heads, the pressure and `lazy`, from the last instruction upwards.
    fn backward(
        &mut self,
        code: &VCode,
        mask_class: usize,
        scratch: impl Fn(Prim) -> u32,
        around: &[Vec<VReg>],
    ) {
        let n = code.insts.len();
        let mut next = vec![NONE; code.kinds.len()];
        // Last position at which the value that lives here is still needed.
        let mut last = vec![NONE; code.kinds.len()];
        // Begin of the outermost loop below that changes the value: there, a lazy one needs a
        // register at the latest.
        let mut enters = vec![NONE; code.kinds.len()];
        let mut around_live: Vec<Vec<VReg>> = vec![Vec::new(); self.loops.len()];
        let mut assigned_by = vec![NONE; code.kinds.len()];
        let mut stores = [NONE; 6];
        let mut columns_end = NONE;
        // Registers that become and cease to be needed: by class, then for loads alone.
        let mut change = [vec![0i32; n], vec![0i32; n], vec![0i32; n]];
        let mut stack: Vec<usize> = Vec::new();
        let mut loop_at_end: Vec<usize> = (0..self.loops.len()).collect();
        loop_at_end.sort_by_key(|&l| self.loops[l].end);
        for p in (0..n).rev() {
            let inst = &code.insts[p];
            let pos = p as u32;
            match inst {
                Inst::End { .. } => {
                    let l = loop_at_end.pop().expect("verified: loops are balanced");
                    stack.push(l);
                    if matches!(self.loops[l].kind, LoopKind::Columns { .. }) {
                        columns_end = pos;
                    }
                    let lp = &mut self.loops[l];
                    for v in &lp.assigned {
                        assigned_by[v.0 as usize] = l as u32;
                    }
                    for h in &mut lp.head {
                        let i = h.v.0 as usize;
                        h.after = next[i];
                        h.carried = assigned_by[i] == l as u32;
                        if next[i] == NONE {
                            last[i] = pos;
                        }
                        next[i] = pos;
                    }
                    for &v in &around[l] {
                        let after = next[v.0 as usize];
                        if after != NONE {
                            lp.head.push(HeadVal { v, after, carried: true, around: true });
                            around_live[l].push(v);
                        }
                    }
                    continue;
                }
                Inst::Begin { .. } => {
                    let l = stack.pop().expect("verified: loops are balanced");
                    for h in self.loops[l].head.iter().filter(|h| h.carried) {
                        enters[h.v.0 as usize] = pos;
                    }
                    for v in &around_live[l] {
                        next[v.0 as usize] = pos;
                        last[v.0 as usize] = pos;
                    }
                    continue;
                }
                Inst::Store { addr, .. } | Inst::WideStore { addr, .. } => {
                    stores[base_index(addr.base)] = pos;
                }
                _ => {}
            }
            let (d, nd) = defs(inst);
            let u = uses(inst);
            let first = self.first[p] as usize;
            for (k, v) in d[..nd].iter().enumerate() {
                let i = v.0 as usize;
                self.next[first + k] = next[i];
                if next[i] != NONE {
                    let class = if code.kinds[i] == Kind::Mask { mask_class } else { 0 };
                    let inner_end = stack.last().map_or(NONE, |&l| self.loops[l].end);
                    self.lazy[p] = match inst {
                        Inst::Const { .. } | Inst::ConstInt { .. } => true,
                        Inst::ColumnIndex { .. } => last[i] < columns_end.min(inner_end),
                        Inst::Load { addr, .. } => {
                            let moving = matches!(addr.base, Base::Reduced | Base::Out);
                            last[i] <= inner_end
                                && (!moving || last[i] < columns_end)
                                && last[i] <= stores[base_index(addr.base)]
                        }
                        _ => false,
                    };
                    let (kind, from) = if !self.lazy[p] {
                        (class, p)
                    } else if enters[i] != NONE {
                        (class, enters[i] as usize)
                    } else if last[i] != next[i]
                        && !stack.is_empty()
                        && !matches!(code.insts[last[i] as usize], Inst::End { .. })
                    {
                        // Used several times in one body: worth a register from the first use.
                        (LOADS, next[i] as usize)
                    } else {
                        (LOADS, last[i] as usize)
                    };
                    change[kind][from] += 1;
                    change[kind][last[i] as usize] -= 1;
                    next[i] = NONE;
                }
                enters[i] = NONE;
            }
            for (k, v) in u.iter().enumerate() {
                self.next[first + nd + k] = next[v.0 as usize];
            }
            for v in u.iter() {
                let i = v.0 as usize;
                if next[i] == NONE {
                    last[i] = pos;
                }
                next[i] = pos;
            }
        }
        let live = change.map(|change| {
            let sum = |sum: &mut i32, c: i32| {
                *sum += c;
                Some(*sum)
            };
            change.into_iter().scan(0, sum).collect::<Vec<i32>>()
        });
        let extra = |p: usize| match &code.insts[p] {
            Inst::Op { op, .. } => scratch(*op) as i32,
            Inst::WideAdd { .. } => 1,
            _ => 0,
        };
        for l in &mut self.loops {
            let begin = l.begin as usize;
            let peak = |need: &dyn Fn(usize) -> i32| {
                let most = (begin + 1..l.end as usize).map(need).max().unwrap_or(0);
                (most - need(begin)).max(0) as u32
            };
            l.peak = [peak(&|p| live[0][p] + extra(p)), peak(&|p| live[1][p])];
            l.peak_with_loads = peak(&|p| live[0][p] + live[LOADS][p] + extra(p));
        }
    }
}
