//! Programs: what code generators read.
//!
//! A reduction is lowered (see [`crate::lower`]) to a few *streams* of scalar instructions with
//! structured loops over components, one stream per section: once, per kept row, per reduced row,
//! and per pair. The *kept* index is the one that indexes results, the *reduced* one is summed
//! over; from here on nothing depends on which of them was `i`. A value of a lower dependence
//! class is computed in the section of that class and loaded by the others: loop-invariant code
//! motion without a pass.

use crate::ops::OpDef;
use crate::prim::{Kind, Prim};
use crate::reduce::Select;
use crate::vecmath::{Precision, Val};
use std::fmt::{self, Write};

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

/// How a value is computed.
#[derive(Clone, PartialEq, Debug)]
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

impl fmt::Display for Affine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.offset)?;
        for (l, s) in &self.terms {
            write!(f, " + {s}·l{}", l.0)?;
        }
        Ok(())
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut depth = 1;
        for inst in &self.insts {
            if matches!(inst, SInst::End(_)) {
                depth -= 1;
            }
            write!(f, "{:1$}", "", 2 * depth)?;
            match inst {
                SInst::Def { dst, op, args } => {
                    write!(f, "%{} = ", dst.0)?;
                    match op {
                        Op::Prim(p) => write!(f, "{p:?}")?,
                        Op::Table(o) => f.write_str(o.name)?,
                        Op::Real(v) => write!(f, "{v:?}")?,
                        Op::Int(v) => write!(f, "int {v}")?,
                        Op::Load(s, at) => write!(f, "{s:?}[{at}]")?,
                        Op::Gather { offset, len } => write!(f, "Gather {offset} of {len}")?,
                        Op::Counter(a) => write!(f, "counter {a}")?,
                    }
                    for a in args {
                        write!(f, " %{}", a.0)?;
                    }
                }
                SInst::Begin { id, extent } => {
                    write!(f, "loop l{} < {extent}", id.0)?;
                    depth += 1;
                }
                SInst::End(_) => f.write_str("end")?,
                SInst::Start { acc, value } => write!(f, "acc %{} = %{}", acc.0, value.0)?,
                SInst::Update { acc, value } => write!(f, "acc %{} := %{}", acc.0, value.0)?,
                SInst::Emit { slot, value } => write!(f, "emit [{slot}] %{}", value.0)?,
                SInst::Store { space, at, value } => {
                    write!(f, "{space:?}[{at}] = %{}", value.0)?;
                }
            }
            f.write_char('\n')?;
        }
        Ok(())
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "program {:?} {:?} keys {} sums {} results {}",
            self.precision, self.mode, self.keys, self.sums, self.results
        )?;
        for (name, r) in [("param", &self.param), ("kept", &self.kept), ("reduced", &self.reduced)]
        {
            write!(f, "{name} {}", r.len)?;
            for (mark, fields) in [("", &r.fields), ("input ", &r.input_fields)] {
                for x in fields {
                    write!(f, " | {mark}{:?} {}..{}", x.source, x.offset, x.offset + x.dim)?;
                }
            }
            f.write_char('\n')?;
        }
        for (name, s) in [
            ("once", &self.once),
            ("per kept", &self.per_kept),
            ("per reduced", &self.per_reduced),
            ("key", &self.key),
            ("add", &self.add),
            ("rebase", &self.rebase),
            ("finalise", &self.finalise),
        ] {
            if !s.insts.is_empty() {
                write!(f, "{name}:\n{s}")?;
            }
        }
        Ok(())
    }
}
