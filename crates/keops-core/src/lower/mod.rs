//! Lowering: from a reduction of a formula graph to a [`Program`].
//!
//! Nodes of small dimension are unrolled into scalars; nodes of dimension [`LowerOptions::roll`] and
//! more are lowered to loops, so that the program of a formula in dimension 4,096 is as large as in
//! dimension 50. Scalars live in one hash-consed arena whatever their section; the
//! scheduler then puts each where its dependence class belongs.

mod build;
mod derived;
mod factors;
mod gather;
mod schedule;
mod ssa;

use crate::data::DType;
use crate::error::CompileError;
use crate::graph::{Builder, Category, Dependence, Ex, Graph, MAX_DIM, NodeId};
use crate::program::{Field, Mode, Program, Record, SInst, Source, Space, Stream};
use crate::reduce::Family;
use crate::spec::ReduceSpec;
use crate::vecmath::{Precision, Scaling};
use build::Lowerer;

/// Dimension from which vectors are lowered to loops unless the target wants otherwise.
pub const ROLL: usize = 16;
/// Largest number of scalar values of a program.
pub const MAX_VALUES: usize = 1 << 21;

/// What the target wants.
///
/// ```
/// use keops_core::program::Op;
/// use keops_core::program::SInst::Def;
/// # use keops_core::{data::DType, lower::*, parse::parse_formula, reduce::SUM, spec::Axis};
/// let aliases = ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)"];
/// let f = parse_formula("g * Exp(-SqDist(x, y))", None, &aliases)?;
/// let spec = f.spec(&SUM, Axis::J, DType::F32);
/// let plain = lower(&spec, LowerOptions::default())?;
/// let table = |i: &_| matches!(i, Def { op: Op::Table(_), .. });
/// assert!(plain.add.insts.iter().any(table)); // Exp itself
/// let options = LowerOptions { expand: true, factor_sums: true, ..LowerOptions::default() };
/// let p = lower(&spec, options)?;
/// assert!(!p.add.insts.iter().any(table));
/// assert!(p.factored && p.tame == [2]); // argument 2, g, multiplies the sum
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowerOptions {
    /// Expand table operations into primitives? (CUDA has its own mathematics.)
    pub expand: bool,
    /// How the target multiplies by powers of two.
    pub scaling: Scaling,
    /// Take factors that no reduced row changes out of sums? Only constants and arguments
    /// themselves are taken out. The finalise section then reads the kept record; where such an
    /// argument ([`Program::tame`]) is not finite or large, or a result is not finite, the target
    /// must run a program without this: `inf · Σ` is not `Σ inf ·`, and a sum can overflow that
    /// its factor would have kept small. Where it has such a program, constants are also merged
    /// into factors of exponents; if one of those loses its value by that, all results are NaN.
    pub factor_sums: bool,
    /// Dimension from which vectors are lowered to loops, at least 2.
    pub roll: usize,
}

impl Default for LowerOptions {
    fn default() -> Self {
        LowerOptions { expand: false, scaling: Scaling::default(), factor_sums: false, roll: ROLL }
    }
}

/// Lowers a reduction. `spec` has passed [`ReduceSpec::check`].
///
/// # Errors
/// [`CompileError::Limit`] if the program would be larger than [`MAX_VALUES`].
///
/// ```
/// # use keops_core::{data::DType, lower::*, parse::parse_formula, reduce::SUM, spec::Axis};
/// let f = parse_formula("x * y", None, &["x = Vi(1)", "y = Vj(1)"])?;
/// let spec = f.spec(&SUM, Axis::J, DType::F32);
/// assert_eq!(
///     lower(&spec, LowerOptions::default())?.to_string(),
///     "program f32 sum, keys 0, sums 1, results 1
/// param 0
/// kept 1 = argument 0 at 0 of 1
/// reduced 1 = argument 1 at 0 of 1
/// add, buffer 0:
///   %0 = Kept[0]
///   %1 = Reduced[0]
///   %2 = Mul %0 %1
///   emit [0] %2
/// finalise, buffer 0:
///   %0 = Sums[0]
///   Result[0] = %0
/// "
/// );
/// # Ok::<(), keops_core::error::Error>(())
/// ```
pub fn lower(spec: &ReduceSpec, options: LowerOptions) -> Result<Program, CompileError> {
    let b = Builder::from_graph((*spec.graph).clone());
    let f = b.ex(spec.formula);
    let w = spec.weight.map(|w| b.ex(w));
    let kept = spec.axis.kept();
    // Formulas of every stream, all in one graph; state enters through fresh variables.
    let mut state: Vec<(NodeId, Space, i64)> = vec![];
    let mut fresh = |dim: usize, space: Space, at: i64| -> Ex<'_> {
        let v = b.fresh(dim, kept);
        state.push((v.id, space, at));
        v
    };
    let (mut mode, mut key, mut add) = (Mode::Sum, None, None);
    let (mut rebase, mut finalise) = (None, None);
    match &spec.reduction.kind {
        Family::Accumulate(a) => {
            let pivot = a.pivot.as_ref().map(|p| (p, fresh(1, Space::Pivot, 0)));
            let addend = (a.lift)(f, w, pivot.as_ref().map(|p| p.1));
            let sums = fresh(addend.dim(), Space::Sums, 0);
            add = Some(addend);
            finalise = Some((a.finalise)(sums, pivot.as_ref().map(|p| p.1)));
            if let Some((p, new)) = pivot {
                mode = Mode::PivotSum;
                key = Some(f);
                let old = fresh(1, Space::Pivot, 1);
                rebase = Some((p.rebase)(sums, old, new));
            }
        }
        Family::Select(s) => {
            mode = Mode::Select { select: *s, k: spec.winners() };
            key = Some(f);
        }
    }
    let id = |e: Option<Ex<'_>>| e.map(|e| e.id);
    let mut all = [id(key), id(add), id(rebase), id(finalise)];
    let mut graph = b.into_graph();
    let mut places: Vec<&mut NodeId> = all.iter_mut().flatten().collect();
    places.extend(state.iter_mut().map(|s| &mut s.0));
    let given: Vec<NodeId> = places.iter().map(|id| **id).collect();
    if let Some((flat, ids)) = graph.flat(&given) {
        places.into_iter().zip(ids).for_each(|(place, id)| *place = id);
        graph = flat;
    }
    let [key, add, rebase, finalise] = all;

    // (Derivatives in several variables are one vector.)
    let roots: Vec<NodeId> = [key, add, rebase, finalise].into_iter().flatten().collect();
    if let Some(long) = graph.too_long(&roots, 4 * MAX_DIM) {
        let what = "the dimension of a part of the formula".into();
        return Err(CompileError::Limit { what, limit: 4 * MAX_DIM, got: graph.dim(long) });
    }
    let precision = match spec.dtype.compute() {
        DType::F64 => Precision::F64,
        _ => Precision::F32,
    };
    let mut l = Lowerer::new(&graph, spec, precision, options, &state)?;
    let dim = |n: Option<NodeId>| n.map_or(0, |n| graph.dim(n));
    let stream = |l: &mut Lowerer<'_>, root: Option<NodeId>, section: Section| {
        root.map_or(Ok(Stream::default()), |r| l.root(r, section))
    };
    let key_stream = stream(&mut l, key, Section::Key)?;
    if mode == Mode::PivotSum {
        l.key_is(key);
    }
    // Sums that are rounded at every addition keep their terms as they are.
    l.factoring =
        options.factor_sums && mode == Mode::Sum && spec.options.accumulate != Some(DType::F16);
    let add_stream = stream(&mut l, add, Section::Add)?;
    l.key_is(None);
    let rebase_stream = stream(&mut l, rebase, Section::Row(Space::Sums))?;
    let finalise_stream = if l.factoring {
        l.factored_results(dim(add))?
    } else {
        stream(&mut l, finalise, Section::Row(Space::Result))?
    };
    let (per_kept, per_reduced, once) = l.derived_sections()?;
    let mut program = Program {
        precision,
        mode,
        keys: dim(key),
        sums: dim(add),
        results: dim(finalise),
        param: Record::default(),
        kept: Record::default(),
        reduced: Record::default(),
        once,
        per_kept,
        per_reduced,
        key: key_stream,
        add: add_stream,
        rebase: rebase_stream,
        finalise: finalise_stream,
        factored: l.factored,
        tame: vec![],
    };
    lay_out(&mut program, &l, spec);
    let sources = |fields: &[Field], space: Space, p: &Program| -> Vec<usize> {
        let used = |f: &&Field| {
            let range = f.offset as i64..(f.offset + f.dim) as i64;
            reads(&p.finalise, space, &range)
        };
        fields
            .iter()
            .filter(used)
            .filter_map(|f| if let Source::Argument(k) = f.source { Some(k) } else { None })
            .collect()
    };
    program.tame = sources(&program.kept.fields, Space::Kept, &program);
    program.tame.extend(sources(&program.param.fields, Space::Param, &program));
    debug_assert_eq!(crate::verify::verify(&program), Ok(()));
    Ok(program)
}

/// Which stream is being built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    /// Keys of pairs.
    Key,
    /// Addends of pairs.
    Add,
    /// A row formula over the state, stored to this space.
    Row(Space),
    /// Derived values of a dependence class.
    Derived(Dependence),
}

/// Replaces virtual addresses of arguments by places in the records, which hold only what the
/// streams use.
fn lay_out(p: &mut Program, l: &Lowerer<'_>, spec: &ReduceSpec) {
    for (space, input, category) in [
        (Space::Param, Space::Param, Category::Param),
        (Space::Kept, Space::KeptInput, spec.axis.kept()),
        (Space::Reduced, Space::ReducedInput, spec.axis.reduced()),
    ] {
        let class = category.dependence();
        let pieces = l.derived.arguments(class);
        let derived_at = l.derived.start(class) as i64;
        let mut record = Record::default();
        let place = |streams: &[&Stream], fields: &mut Vec<Field>, len: &mut usize| {
            for piece in pieces {
                let range = piece.offset as i64..(piece.offset + piece.dim) as i64;
                let used =
                    category == Category::Param || streams.iter().any(|s| reads(s, space, &range));
                if used {
                    fields.push(Field { offset: *len, ..*piece });
                    *len += piece.dim;
                }
            }
        };
        let hot: Vec<&Stream> = vec![&p.key, &p.add, &p.rebase, &p.finalise];
        place(&hot, &mut record.fields, &mut record.len);
        let raw = record.len;
        record.len += l.derived.len(class);
        if category != Category::Param {
            let cold = if space == Space::Kept { &p.per_kept } else { &p.per_reduced };
            place(&[cold], &mut record.input_fields, &mut record.input_len);
        }
        let target = |fields: &[Field], at: i64| -> Option<i64> {
            let piece = pieces
                .iter()
                .find(|x| (x.offset as i64..(x.offset + x.dim) as i64).contains(&at))?;
            let field = fields.iter().find(|f| f.source == piece.source)?;
            Some(at - piece.offset as i64 + field.offset as i64)
        };
        let move_to = |s: &mut Stream, row: bool| {
            for inst in &mut s.insts {
                let (sp, at) = match inst {
                    SInst::Def { op: crate::program::Op::Load(sp, at), .. } => (sp, at),
                    SInst::Store { space: sp, at, .. } => (sp, at),
                    SInst::Def { op: crate::program::Op::Gather { offset, .. }, .. } => {
                        if category == Category::Param {
                            *offset = if *offset >= derived_at {
                                *offset - derived_at + raw as i64
                            } else {
                                target(&record.fields, *offset).unwrap_or(*offset)
                            };
                        }
                        continue;
                    }
                    _ => continue,
                };
                if *sp != space {
                    continue;
                }
                if at.offset >= derived_at {
                    at.offset += raw as i64 - derived_at;
                } else if row && category != Category::Param {
                    *sp = input;
                    at.offset = target(&record.input_fields, at.offset).unwrap_or(at.offset);
                } else {
                    at.offset = target(&record.fields, at.offset).unwrap_or(at.offset);
                }
            }
        };
        move_to(&mut p.once, true);
        move_to(&mut p.per_kept, true);
        move_to(&mut p.per_reduced, true);
        for s in [&mut p.key, &mut p.add, &mut p.rebase, &mut p.finalise] {
            move_to(s, false);
        }
        match space {
            Space::Param => p.param = record,
            Space::Kept => p.kept = record,
            _ => p.reduced = record,
        }
    }
}

fn reads(s: &Stream, space: Space, range: &std::ops::Range<i64>) -> bool {
    s.insts.iter().any(|i| {
        matches!(i, SInst::Def { op: crate::program::Op::Load(sp, at), .. }
            if *sp == space && range.contains(&at.offset))
    })
}

/// The virtual layout of the arguments of one category, row numbers last.
fn pieces(graph: &Graph, spec: &ReduceSpec, category: Category) -> Vec<Field> {
    let mut offset = 0;
    let mut out = vec![];
    for (k, v) in spec.vars.iter().enumerate().filter(|(_, v)| v.category == category) {
        out.push(Field { source: Source::Argument(k), dim: v.dim, offset });
        offset += v.dim;
    }
    let numbered = (0..graph.len() as u32)
        .any(|k| matches!(graph.node(NodeId(k)), crate::graph::Node::Index(c) if *c == category));
    if numbered {
        out.push(Field { source: Source::RowNumber, dim: 1, offset });
    }
    out
}
