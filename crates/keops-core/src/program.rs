//! Programs: what code generators read.
//!
//! A reduction is lowered (see [`crate::lower`]) to a few *streams* of scalar instructions with
//! structured loops over components, one stream per section: once, per kept row, per reduced row,
//! and per pair. The *kept* index is the one that indexes results, the *reduced* one is summed
//! over; from here on nothing depends on which of them was `i`. A value of a lower dependence
//! class is computed in the section of that class and loaded by the others: loop-invariant code
//! motion without a pass.
//!
//! A program prints and parses (`to_string`, [`str::parse`]); the text gives back an equal program,
//! and what is parsed is verified (see [`crate::verify`]).

mod text;

pub use text::TextError;

use crate::ops::OpDef;
use crate::prim::{Kind, Prim};
use crate::reduce::Select;
use crate::vecmath::{Precision, Val};

/// A loop over components; loops are numbered per stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Loop(pub u16);

/// `offset + Σ counter · stride`
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct Affine {
    /// Constant part.
    pub offset: i64,
    /// Counters of enclosing loops with their strides, in order of the loops.
    pub terms: Vec<(Loop, i64)>,
}

impl Affine {
    /// A constant.
    pub fn constant(offset: i64) -> Affine {
        Affine { offset, terms: vec![] }
    }
    /// A loop counter.
    pub fn counter(l: Loop) -> Affine {
        Affine { offset: 0, terms: vec![(l, 1)] }
    }
    /// `self · scale + offset`
    pub fn scaled(&self, scale: i64, offset: i64) -> Affine {
        Affine {
            offset: self.offset * scale + offset,
            terms: self.terms.iter().map(|&(l, s)| (l, s * scale)).filter(|t| t.1 != 0).collect(),
        }
    }
    /// Sum.
    pub fn plus(&self, other: &Affine) -> Affine {
        let mut terms = self.terms.clone();
        for &(l, s) in &other.terms {
            match terms.iter_mut().find(|t| t.0 == l) {
                Some(t) => t.1 += s,
                None => terms.push((l, s)),
            }
        }
        terms.retain(|t| t.1 != 0);
        terms.sort();
        Affine { offset: self.offset + other.offset, terms }
    }
}

/// Memory that streams read and write, in elements of the compute type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Space {
    /// Parameters, then values derived from them in the *once* section.
    Param,
    /// The record of a kept row: arguments, then derived values.
    Kept,
    /// The record of a reduced row: arguments, then derived values.
    Reduced,
    /// Arguments of a kept row that only the per-kept section reads.
    KeptInput,
    /// Arguments of a reduced row that only the per-reduced section reads.
    ReducedInput,
    /// Sums of a kept row.
    Sums,
    /// The pivot of a kept row: element 0 the current (new) one, element 1 the old one (in the
    /// rebase stream).
    Pivot,
    /// The key of the pair (the formula's value), in the second phase of pivoted reductions.
    Key,
    /// Vector intermediates of a pair (or of a row, in the row sections).
    Buffer,
    /// Results of a kept row.
    Result,
}

impl Space {
    /// Every space.
    pub const ALL: [Space; 10] = [
        Space::Param,
        Space::Kept,
        Space::Reduced,
        Space::KeptInput,
        Space::ReducedInput,
        Space::Sums,
        Space::Pivot,
        Space::Key,
        Space::Buffer,
        Space::Result,
    ];
}

/// How a value is computed.
#[derive(Clone, Debug)]
pub enum Op {
    /// A primitive.
    Prim(Prim),
    /// An operation of the table that the target computes itself.
    Table(&'static OpDef),
    /// A real constant.
    Real(f64),
    /// An integer constant.
    Int(i64),
    /// A load.
    Load(Space, Affine),
    /// An entry of a table of `len` elements at `offset` of [`Space::Param`]; the argument is an
    /// integer that is within the table.
    Gather {
        /// First element.
        offset: i64,
        /// Length.
        len: usize,
    },
    /// A loop counter combination as an integer.
    Counter(Affine),
}

/// Real constants are compared by their bits, so that a program with a NaN in it equals itself.
impl PartialEq for Op {
    fn eq(&self, other: &Op) -> bool {
        match (self, other) {
            (Op::Prim(a), Op::Prim(b)) => a == b,
            (Op::Table(a), Op::Table(b)) => a == b,
            (Op::Real(a), Op::Real(b)) => a.to_bits() == b.to_bits(),
            (Op::Int(a), Op::Int(b)) => a == b,
            (Op::Load(s, a), Op::Load(t, b)) => (s, a) == (t, b),
            (Op::Gather { offset, len }, Op::Gather { offset: o, len: l }) => {
                (offset, len) == (o, l)
            }
            (Op::Counter(a), Op::Counter(b)) => a == b,
            _ => false,
        }
    }
}
impl Eq for Op {}

impl Op {
    /// Kind of the value.
    pub fn kind(&self) -> Kind {
        match self {
            Op::Prim(p) => p.signature().1,
            Op::Int(_) | Op::Counter(_) => Kind::Int,
            Op::Table(_) | Op::Real(_) | Op::Load(..) | Op::Gather { .. } => Kind::Real,
        }
    }
}

/// An instruction of a stream.
#[derive(Clone, PartialEq, Debug)]
pub enum SInst {
    /// `dst = op(args)`
    Def {
        /// Result; assigned once.
        dst: Val,
        /// Operation.
        op: Op,
        /// Operands.
        args: Vec<Val>,
    },
    /// Loop start.
    Begin {
        /// The loop.
        id: Loop,
        /// Turns, at least 1.
        extent: usize,
    },
    /// Loop end.
    End(Loop),
    /// An accumulator gets its first value.
    Start {
        /// Accumulator.
        acc: Val,
        /// A value defined before.
        value: Val,
    },
    /// An accumulator gets a new value.
    Update {
        /// Accumulator.
        acc: Val,
        /// Value.
        value: Val,
    },
    /// In pair sections: component `slot` of the pair's key or addend.
    Emit {
        /// Which component.
        slot: Affine,
        /// Value.
        value: Val,
    },
    /// A store.
    Store {
        /// Memory.
        space: Space,
        /// Where.
        at: Affine,
        /// Value.
        value: Val,
    },
}

/// The instructions of one section.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    /// Instructions in order.
    pub insts: Vec<SInst>,
    /// Kind of every value.
    pub kinds: Vec<Kind>,
    /// Elements of [`Space::Buffer`].
    pub buffer: usize,
}

/// Where one piece of a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// All components of this argument.
    Argument(usize),
    /// The number of the row, as a real.
    RowNumber,
}

/// A piece of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where it comes from.
    pub source: Source,
    /// Components.
    pub dim: usize,
    /// First element in the record.
    pub offset: usize,
}

impl Field {
    /// Elements of the record.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.dim
    }
}

/// Layout of a record: fields copied from arguments, then derived values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Copied fields.
    pub fields: Vec<Field>,
    /// Elements in all, derived values included.
    pub len: usize,
    /// Fields of the input record that only the row section reads.
    pub input_fields: Vec<Field>,
    /// Elements of the input record.
    pub input_len: usize,
}

/// What happens to the values that pairs emit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The `add` stream's values are summed.
    Sum,
    /// The `key` stream emits one value, whose running maximum is the pivot; then the `add`
    /// stream's values are summed.
    PivotSum,
    /// The `key` stream's values compete, component by component.
    Select {
        /// How.
        select: Select,
        /// Number of winners.
        k: usize,
    },
}

/// A lowered reduction.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Compute type.
    pub precision: Precision,
    /// What happens to emitted values.
    pub mode: Mode,
    /// Keys per pair (0 for plain sums).
    pub keys: usize,
    /// Sums per kept row (0 for selections).
    pub sums: usize,
    /// Values per kept row of the result (accumulating reductions).
    pub results: usize,
    /// Parameters.
    pub param: Record,
    /// Kept rows.
    pub kept: Record,
    /// Reduced rows.
    pub reduced: Record,
    /// Parameters to derived parameters.
    pub once: Stream,
    /// Kept rows to derived values.
    pub per_kept: Stream,
    /// Reduced rows to derived values.
    pub per_reduced: Stream,
    /// Pair: keys.
    pub key: Stream,
    /// Pair: addends.
    pub add: Stream,
    /// Kept rows: sums under a new pivot.
    pub rebase: Stream,
    /// Kept rows: sums and pivot to results.
    pub finalise: Stream,
    /// Were factors taken out of sums? See [`crate::lower::LowerOptions::factor_sums`].
    pub factored: bool,
    /// Arguments among those factors.
    pub tame: Vec<usize>,
}

impl Program {
    /// The sections in the order in which they run, with their names.
    pub fn sections(&self) -> [(&'static str, &Stream); 7] {
        [
            ("once", &self.once),
            ("per kept", &self.per_kept),
            ("per reduced", &self.per_reduced),
            ("key", &self.key),
            ("add", &self.add),
            ("rebase", &self.rebase),
            ("finalise", &self.finalise),
        ]
    }
    /// The same, to be changed.
    pub fn sections_mut(&mut self) -> [(&'static str, &mut Stream); 7] {
        [
            ("once", &mut self.once),
            ("per kept", &mut self.per_kept),
            ("per reduced", &mut self.per_reduced),
            ("key", &mut self.key),
            ("add", &mut self.add),
            ("rebase", &mut self.rebase),
            ("finalise", &mut self.finalise),
        ]
    }
}
