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
use std::hash::{Hash, Hasher};

/// A loop over components; loops are numbered per stream.
///
/// ```
/// use keops_core::program::{Affine, Loop};
/// let place = Affine::counter(Loop(1)).scaled(3, 2); // 2 + 3 k, k the counter of loop 1
/// assert_eq!(place.to_string(), "2 + 3*l1");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Loop(pub u16);

/// A place in a memory, or the number of a component: `offset + Σ counter · stride`.
///
/// ```
/// use keops_core::program::{Affine, Loop};
/// // Element (k, l) of a row-major matrix with 4 columns that starts at place 10.
/// let [k, l] = [Loop(0), Loop(1)].map(Affine::counter);
/// let at = k.scaled(4, 10).plus(&l);
/// assert_eq!(at, Affine { offset: 10, terms: vec![(Loop(0), 4), (Loop(1), 1)] });
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct Affine {
    /// Constant part.
    pub offset: i64,
    /// Counters of enclosing loops with their strides, in order of the loops.
    pub terms: Vec<(Loop, i64)>,
}

impl Affine {
    /// A constant.
    ///
    /// ```
    /// use keops_core::program::Affine;
    /// let three = Affine::constant(5).plus(&Affine::constant(-2));
    /// assert_eq!(three, Affine { offset: 3, terms: vec![] });
    /// ```
    pub fn constant(offset: i64) -> Affine {
        Affine { offset, terms: vec![] }
    }
    /// A loop counter.
    ///
    /// ```
    /// use keops_core::program::{Affine, Loop};
    /// assert_eq!(Affine::counter(Loop(2)).terms, [(Loop(2), 1)]);
    /// ```
    pub fn counter(l: Loop) -> Affine {
        Affine { offset: 0, terms: vec![(l, 1)] }
    }
    /// `self · scale + offset`
    ///
    /// ```
    /// use keops_core::program::{Affine, Loop};
    /// let k = Affine::counter(Loop(0));
    /// assert_eq!(k.scaled(8, 1).scaled(2, 0).to_string(), "2 + 16*l0");
    /// assert_eq!(k.scaled(0, 7), Affine::constant(7));
    /// ```
    pub fn scaled(&self, scale: i64, offset: i64) -> Affine {
        Affine {
            offset: self.offset * scale + offset,
            terms: self.terms.iter().map(|&(l, s)| (l, s * scale)).filter(|t| t.1 != 0).collect(),
        }
    }
    /// Sum; terms that cancel are left out.
    ///
    /// ```
    /// use keops_core::program::{Affine, Loop};
    /// let (k, l) = (Affine::counter(Loop(0)), Affine::counter(Loop(1)));
    /// assert_eq!(l.plus(&k), k.plus(&l));
    /// assert_eq!(k.plus(&k.scaled(-1, 3)), Affine::constant(3));
    /// ```
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

/// Memory that streams read and write, in elements of the compute type. What each section may touch
/// is checked ([`crate::verify`]).
///
/// ```
/// use keops_core::program::Program;
/// // Σ_j y_j. There are no sums yet while they are added up.
/// let text = "
/// program f32 sum, keys 0, sums 1, results 1
/// param 0
/// kept 0
/// reduced 1 = argument 0 at 0 of 1
/// add, buffer 0:
///   %0 = Reduced[0]
///   emit [0] %0
/// finalise, buffer 0:
///   %0 = Sums[0]
///   Result[0] = %0
/// ";
/// assert!(text.parse::<Program>().is_ok());
/// let e = text.replace("%0 = Reduced[0]", "%0 = Sums[0]").parse::<Program>().unwrap_err();
/// assert!(e.to_string().starts_with("add, instruction 0: "), "{e}");
/// ```
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
/// Real constants are compared by their bits.
///
/// ```
/// use keops_core::program::{Affine, Loop, Op, Space};
/// use keops_core::{ops, prim::Prim};
/// let place = Affine::counter(Loop(0));
/// let load = Op::Load(Space::Kept, place.clone());
/// let words = [load, Op::Counter(place), Op::Prim(Prim::Fma), Op::Table(&ops::EXP), Op::Real(0.5)]
///     .map(|op| op.to_string());
/// assert_eq!(words, ["Kept[0 + 1*l0]", "counter 0 + 1*l0", "Fma", "op Exp", "real 0.5"]);
/// assert!(Op::Real(f64::NAN) == Op::Real(f64::NAN) && Op::Real(0.0) != Op::Real(-0.0));
/// ```
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
impl Hash for Op {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Op::Prim(p) => p.hash(state),
            Op::Table(o) => o.hash(state),
            Op::Real(v) => v.to_bits().hash(state),
            Op::Int(v) => v.hash(state),
            Op::Load(space, at) => (space, at).hash(state),
            Op::Gather { offset, len } => (offset, len).hash(state),
            Op::Counter(at) => at.hash(state),
        }
    }
}

impl Op {
    /// Kind of the value.
    ///
    /// ```
    /// use keops_core::{prim::{Kind, Prim}, program::Op};
    /// assert_eq!([Op::Prim(Prim::Lt), Op::Int(3)].map(|op| op.kind()), [Kind::Mask, Kind::Int]);
    /// ```
    pub fn kind(&self) -> Kind {
        match self {
            Op::Prim(p) => p.signature().1,
            Op::Int(_) | Op::Counter(_) => Kind::Int,
            Op::Table(_) | Op::Real(_) | Op::Load(..) | Op::Gather { .. } => Kind::Real,
        }
    }
}

/// An instruction of a stream.
///
/// ```
/// use keops_core::prim::{Kind, Prim};
/// use keops_core::program::{Affine, Loop, Op, SInst::*, Space, Stream};
/// use keops_core::vecmath::Val;
///
/// // The sum of the 16 components of a reduced row.
/// let (zero, sum, x, next, l) = (Val(0), Val(1), Val(2), Val(3), Loop(0));
/// let insts = vec![
///     Def { dst: zero, op: Op::Real(0.0), args: vec![] },
///     Start { acc: sum, value: zero },
///     Begin { id: l, extent: 16 },
///     Def { dst: x, op: Op::Load(Space::Reduced, Affine::counter(l)), args: vec![] },
///     Def { dst: next, op: Op::Prim(Prim::Add), args: vec![sum, x] },
///     Update { acc: sum, value: next },
///     End(l),
///     Emit { slot: Affine::default(), value: sum },
/// ];
/// let stream = Stream { insts, kinds: vec![Kind::Real; 4], buffer: 0 };
/// assert_eq!(
///     stream.to_string(),
///     "  %0 = real 0.0
///   acc %1 = %0
///   loop l0 < 16
///     %2 = Reduced[0 + 1*l0]
///     %3 = Add %1 %2
///     acc %1 := %3
///   end l0
///   emit [0] %1
/// "
/// );
/// ```
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

/// The instructions of one section. Most sections of most programs are empty.
///
/// ```
/// use keops_core::prim::Kind;
/// use keops_core::program::{Affine, Op, SInst, Stream};
/// use keops_core::vecmath::Val;
/// // What counts the columns of a row: a 1 for each.
/// let one = SInst::Def { dst: Val(0), op: Op::Real(1.0), args: vec![] };
/// let emit = SInst::Emit { slot: Affine::constant(0), value: Val(0) };
/// let stream = Stream { insts: vec![one, emit], kinds: vec![Kind::Real], buffer: 0 };
/// assert_eq!(stream.to_string(), "  %0 = real 1.0\n  emit [0] %0\n");
/// assert_eq!(Stream::default().to_string(), "");
/// ```
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
///
/// ```
/// use keops_core::program::{Program, Source};
/// // Σ_j j, of no argument: the only field is the number of the row.
/// let p: Program = "
/// program f64 sum, keys 0, sums 1, results 1
/// param 0
/// kept 0
/// reduced 1 = row number at 0 of 1
/// add, buffer 0:
///   %0 = Reduced[0]
///   emit [0] %0
/// finalise, buffer 0:
///   %0 = Sums[0]
///   Result[0] = %0
/// "
/// .parse()?;
/// assert_eq!(p.reduced.fields[0].source, Source::RowNumber);
/// # Ok::<(), keops_core::program::TextError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// All components of this argument.
    Argument(usize),
    /// The number of the row, as a real.
    RowNumber,
}

/// A piece of a record.
///
/// ```
/// use keops_core::program::{Field, Record, Source};
/// // A point of three coordinates, then a weight: a record of four elements.
/// let point = Field { source: Source::Argument(1), dim: 3, offset: 0 };
/// let weight = Field { source: Source::Argument(2), dim: 1, offset: point.range().end };
/// let record = Record { fields: vec![point, weight], len: 4, ..Record::default() };
/// assert_eq!(record.fields.iter().map(|f| f.dim).sum::<usize>(), record.len);
/// ```
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
    ///
    /// ```
    /// use keops_core::program::{Field, Source};
    /// let field = Field { source: Source::Argument(0), dim: 3, offset: 5 };
    /// assert_eq!(field.range(), 5..8);
    /// ```
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.dim
    }
}

/// Layout of a record: fields copied from arguments, then derived values.
/// [`lower`](crate::lower::lower) copies what the pairs read; what only a row section reads is in
/// the input record.
///
/// ```
/// use keops_core::program::Source;
/// # use keops_core::{data::DType, lower::*, parse::parse_formula, reduce::SUM, spec::Axis};
/// // Σ_j x_i exp(y_j): the exponential belongs to the row j alone.
/// let f = parse_formula("x * Exp(y)", None, &["x = Vi(1)", "y = Vj(1)"])?;
/// let spec = f.spec(&SUM, Axis::J, DType::F64);
/// let p = lower(&spec, LowerOptions::default())?;
/// assert_eq!((p.reduced.input_len, p.reduced.input_fields[0].source), (1, Source::Argument(1)));
/// assert_eq!((p.reduced.fields.len(), p.reduced.len), (0, 1)); // the derived value
/// # Ok::<(), keops_core::error::Error>(())
/// ```
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
///
/// ```
/// use keops_core::program::Mode;
/// # use keops_core::reduce::{LOG_SUM_EXP, MIN, SUM, ReductionDef};
/// # use keops_core::{data::DType, error::Error, lower::*, parse::parse_formula, spec::Axis};
/// let mode = |reduction: &'static ReductionDef| {
///     let f = parse_formula("-SqDist(x, y)", None, &["x = Vi(3)", "y = Vj(3)"])?;
///     let spec = f.spec(reduction, Axis::J, DType::F32);
///     Ok::<_, Error>(lower(&spec, LowerOptions::default())?.mode)
/// };
/// assert_eq!([mode(&SUM)?, mode(&LOG_SUM_EXP)?], [Mode::Sum, Mode::PivotSum]);
/// assert!(matches!(mode(&MIN)?, Mode::Select { k: 1, .. }));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
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

/// A lowered reduction: see [`crate::lower::lower`], which makes programs, and
/// [`crate::verify::verify`] for their rules.
///
/// ```
/// use keops_core::program::Program;
/// let p: Program = "
/// program f32 sum, keys 0, sums 1, results 1
/// param 0
/// kept 0
/// reduced 1 = argument 0 at 0 of 1
/// add, buffer 0:
///   %0 = Reduced[0]
///   emit [0] %0
/// finalise, buffer 0:
///   %0 = Sums[0]
///   Result[0] = %0
/// "
/// .parse()?;
/// assert_eq!((p.sums, p.reduced.len, p.kept.len), (1, 1, 0));
/// assert_eq!(p.add.to_string(), "  %0 = Reduced[0]\n  emit [0] %0\n");
/// # Ok::<(), keops_core::program::TextError>(())
/// ```
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
    ///
    /// ```
    /// # use keops_core::{data::DType, lower::*, parse::parse_formula};
    /// # use keops_core::{reduce::LOG_SUM_EXP, spec::Axis};
    /// let f = parse_formula("-g * SqDist(x, y)", None, &["x = Vi(3)", "y = Vj(3)", "g = Pm(1)"])?;
    /// let spec = f.spec(&LOG_SUM_EXP, Axis::J, DType::F32);
    /// let p = lower(&spec, LowerOptions::default())?;
    /// let used = p.sections().into_iter().filter(|(_, s)| !s.insts.is_empty());
    /// let names: Vec<&str> = used.map(|(name, _)| name).collect();
    /// assert_eq!(names, ["once", "key", "add", "rebase", "finalise"]); // -g once
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
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
    /// Entries of the longest table that it looks up entries of; 0 if there is none.
    ///
    /// ```
    /// # use keops_core::{data::DType, lower::*, parse::parse_formula, reduce::SUM, spec::Axis};
    /// let f = parse_formula("Gather(t, y)", None, &["t = Pm(100)", "y = Vj(1)"])?;
    /// let program = lower(&f.spec(&SUM, Axis::J, DType::F32), LowerOptions::default())?;
    /// assert_eq!(program.longest_table(), 100);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn longest_table(&self) -> usize {
        let len = |i: &SInst| match i {
            SInst::Def { op: Op::Gather { len, .. }, .. } => *len,
            _ => 0,
        };
        let all = self.sections().into_iter().flat_map(|(_, s)| &s.insts);
        all.map(len).max().unwrap_or(0)
    }
    /// The sections, to be changed.
    ///
    /// ```
    /// # use keops_core::program::Program;
    /// # let mut p: Program = "
    /// # program f32 sum, keys 0, sums 1, results 1
    /// # param 0
    /// # kept 0
    /// # reduced 1 = argument 0 at 0 of 1
    /// # add, buffer 0:
    /// #   %0 = Reduced[0]
    /// #   emit [0] %0
    /// # finalise, buffer 0:
    /// #   %0 = Sums[0]
    /// #   Result[0] = %0
    /// # "
    /// # .parse()?;
    /// // A program without results.
    /// p.sections_mut().into_iter().for_each(|(_, s)| s.insts.clear());
    /// assert!(keops_core::verify::verify(&p).is_err());
    /// # Ok::<(), keops_core::program::TextError>(())
    /// ```
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
