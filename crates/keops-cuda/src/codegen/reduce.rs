//! The kernel that reduces.

use super::Generator;
use super::plan::{Array, THREADS};
use super::stream::{Emission, Scope, translate};
use super::text::{Text, index, real};
use keops_core::error::CompileError;
use keops_core::program::{Affine, Mode, Op, SInst, Space, Stream};
use keops_core::reduce::{Order, Select};
use keops_core::spec::{Accumulation, BLOCK};
use keops_core::vecmath::Precision;

/// Parameters that are loaded once, before the loops.
const HOISTED: usize = 32;
/// Loops over a state of at most this many elements are unrolled, which keeps it in registers.
const UNROLLED: usize = 64;

/// Names of what the pivot is, before and after.
struct Pivots {
    new: &'static str,
    old: &'static str,
}

/// A loop over `n` elements.
fn each(t: &mut Text, n: usize, mut f: impl FnMut(&mut Text, &str)) {
    if n == 1 {
        return f(t, "0");
    }
    t.pragma(if n <= UNROLLED { "unroll" } else { "unroll 1" });
    t.open(format!("for (int e = 0; e < {n}; e++)"));
    f(t, "e");
    t.close();
}

fn finite_max(p: Precision) -> String {
    real(if p == Precision::F32 { f64::from(f32::MAX) } else { f64::MAX }, p)
}

impl Generator<'_> {
    /// Suffix of what there is one of for each row.
    fn row(&self, r: usize) -> String {
        if self.plan.rows > 1 { format!("_{r}") } else { String::new() }
    }
    fn real(&self, v: f64) -> String {
        real(v, self.p.precision)
    }
    /// Parameters that pairs load from constant places, the first of them.
    fn hoisted(&self) -> Vec<i64> {
        let mut all: Vec<i64> = [&self.p.key, &self.p.add]
            .iter()
            .flat_map(|s| &s.insts)
            .filter_map(|i| match i {
                SInst::Def { op: Op::Load(Space::Param, at), .. } if at.terms.is_empty() => {
                    Some(at.offset)
                }
                _ => None,
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        all.truncate(HOISTED);
        all
    }
    /// The kernel that reduces.
    pub(super) fn reduce(&self, t: &mut Text) -> Result<(), CompileError> {
        let (p, plan) = (self.p, self.plan);
        // With a least number of blocks given, the assembler does not spill to fit more of them.
        t.line(format!("extern \"C\" __global__ void __launch_bounds__({THREADS}, 1)"));
        t.line("keops_reduce(const T* __restrict__ param, const T* __restrict__ kept,");
        t.line("             const T* __restrict__ reduced, char* __restrict__ workspace,");
        t.line("             O* __restrict__ values, long long* __restrict__ indices,");
        t.line("             const int4* __restrict__ tiles, const int2* __restrict__ ranges,");
        t.open("             int tiles_per_batch, int rows, int columns)");
        t.line("const int batch = blockIdx.x / tiles_per_batch;");
        t.line("const int4 tile = tiles[blockIdx.x - batch * tiles_per_batch];");
        t.line(format!("param += (size_t)batch * {};", p.param.len));
        t.line(format!("kept += (size_t)batch * rows * {};", p.kept.len));
        t.line(format!("reduced += (size_t)batch * columns * {};", plan.stride));
        t.line("const int first = tile.x + threadIdx.x;");
        for r in 0..plan.rows {
            // Rows beyond the tile repeat its last one; they are not written.
            let s = self.row(r);
            t.line(format!("const int row{s} = min(first + {}, tile.y - 1);", r * THREADS));
        }
        for k in self.hoisted() {
            t.line(format!("const T p{k} = param[{k}];"));
        }
        self.state(t);
        if plan.held && p.kept.len > 0 {
            for r in 0..plan.rows {
                t.line(format!("T x{}[{}];", self.row(r), p.kept.len));
            }
            each(t, p.kept.len, |t, e| {
                for r in 0..plan.rows {
                    let s = self.row(r);
                    t.line(format!("x{s}[{e}] = kept[(size_t)({e}) * rows + row{s}];"));
                }
            });
        }
        if plan.tile > 0 {
            t.line(format!("__shared__ __align__(16) T stage[{}];", plan.tile * plan.stride));
        }
        t.open("for (int q = tile.z; q < tile.w; q++)");
        t.line("const int2 range = ranges[q];");
        self.range(t)?;
        t.close();
        self.results(t)?;
        t.close();
        Ok(())
    }
    /// Declares and initialises the state of the rows.
    fn state(&self, t: &mut Text) {
        let (p, plan) = (self.p, self.plan);
        if plan.workspace > 0 {
            let width = plan.tile_rows();
            t.line(format!("const size_t pitch = (size_t)gridDim.x * {width};"));
            for r in 0..plan.rows {
                let (s, at) = (self.row(r), r * THREADS);
                t.line(format!(
                    "const size_t slot{s} = (size_t)blockIdx.x * {width} + {at} + threadIdx.x;"
                ));
            }
        }
        for a in &plan.arrays {
            let (name, ty) = (a.name, a.ty);
            match a.workspace {
                Some(at) => {
                    t.line(format!("{ty}* const {name} = ({ty}*)(workspace + {at} * pitch);"))
                }
                None => {
                    for r in 0..plan.rows {
                        t.line(format!("{ty} {name}{}[{}];", self.row(r), a.len));
                    }
                }
            }
        }
        for a in &plan.arrays {
            let start = match (p.mode, a.name) {
                (_, "buffer") => continue,
                (_, "at") => "-1".into(),
                (Mode::Select { select, .. }, _) => self.worst(select),
                _ => format!("{}(0)", a.ty),
            };
            self.each_row(t, a, |t, at| t.line(format!("{at} = {start};")));
        }
        if p.mode == Mode::PivotSum {
            for r in 0..plan.rows {
                t.line(format!("T pivot{} = -{};", self.row(r), finite_max(p.precision)));
            }
        }
    }
    fn worst(&self, s: Select) -> String {
        self.real(if s.order == Order::Min { f64::INFINITY } else { f64::NEG_INFINITY })
    }
    /// A statement for every element of an array, of every row.
    fn each_row(&self, t: &mut Text, a: &Array, mut f: impl FnMut(&mut Text, String)) {
        each(t, a.len, |t, e| {
            for r in 0..self.plan.rows {
                f(t, a.at(&self.row(r), e));
            }
        });
    }
    /// Takes the columns of `range`.
    fn range(&self, t: &mut Text) -> Result<(), CompileError> {
        let plan = self.plan;
        let blocks =
            plan.accumulation == Accumulation::Block && !matches!(self.p.mode, Mode::Select { .. });
        let step = if plan.tile > 0 { plan.tile } else { BLOCK };
        let nested = blocks && step < BLOCK;
        let mut end = "range.y".to_string();
        let mut start = "range.x";
        if nested {
            t.open(format!("for (int block = range.x; block < range.y; block += {BLOCK})"));
            t.line(format!("const int end = min(block + {BLOCK}, range.y);"));
            self.start_block(t);
            (start, end) = ("block", "end".into());
        }
        t.open(format!("for (int base = {start}; base < {end}; base += {step})"));
        t.line(format!("const int count = min({step}, {end} - base);"));
        if blocks && !nested {
            self.start_block(t);
        }
        if plan.tile > 0 {
            let vectors = plan.stride * self.bytes() / 16;
            t.line("__syncthreads();");
            t.line(format!(
                "const V* const from = (const V*)(reduced + (size_t)base * {});",
                plan.stride
            ));
            t.line(format!(
                "for (int k = threadIdx.x; k < count * {vectors}; k += {THREADS}) ((V*)stage)[k] = from[k];"
            ));
            t.line("__syncthreads();");
        }
        if plan.columns > 1 {
            let c = plan.columns;
            t.line("int k = 0;");
            t.pragma("unroll 1");
            t.open(format!("for (; k + {c} <= count; k += {c})"));
            self.pairs(t, c)?;
            t.close();
            t.pragma("unroll 1");
            t.open("for (; k < count; k++)");
        } else {
            // Several columns in flight hide latencies.
            let size = (self.p.key.insts.len() + self.p.add.insts.len()) * plan.rows;
            t.pragma(&format!("unroll {}", (600 / size.max(1)).clamp(1, 8)));
            t.open("for (int k = 0; k < count; k++)");
        }
        self.pairs(t, 1)?;
        t.close();
        if blocks && !nested {
            self.finish_block(t)?;
        }
        t.close();
        if nested {
            self.finish_block(t)?;
            t.close();
        }
        Ok(())
    }
    fn start_block(&self, t: &mut Text) {
        self.each_row(t, self.plan.get("sum"), |t, at| t.line(format!("{at} = T(0);")));
        if self.p.mode == Mode::PivotSum {
            for r in 0..self.plan.rows {
                let s = self.row(r);
                t.line(format!("const T first_pivot{s} = pivot{s};"));
            }
        }
    }
    /// Adds the sums of a block to the totals.
    fn finish_block(&self, t: &mut Text) -> Result<(), CompileError> {
        let plan = self.plan;
        if self.p.mode == Mode::PivotSum {
            // The totals still stand under the pivot of the block's start.
            let pivots = Pivots { new: "pivot", old: "first_pivot" };
            self.rebase(t, &pivots, &["total", "lost"])?;
        }
        let [total, lost, sum] = ["total", "lost", "sum"].map(|n| plan.get(n));
        each(t, sum.len, |t, e| {
            for r in 0..plan.rows {
                let s = self.row(r);
                let [total, lost, sum] = [total, lost, sum].map(|a| a.at(&s, e));
                t.line(format!("add_block({total}, {lost}, {sum});"));
            }
        });
        Ok(())
    }
    /// Brings sums under a new pivot, in rows where it moved.
    fn rebase(&self, t: &mut Text, pivots: &Pivots, arrays: &[&str]) -> Result<(), CompileError> {
        for r in 0..self.plan.rows {
            let s = self.row(r);
            t.open(format!("if ({}{s} != {}{s})", pivots.new, pivots.old));
            for name in arrays {
                t.open("");
                self.stream(t, &self.p.rebase, r..r + 1, 1, false, (pivots, name), &mut |_, _| {
                    unreachable!("rows emit nothing")
                })?;
                t.close();
            }
            t.close();
        }
        Ok(())
    }
    /// Translates a stream of pairs, or of rows with their state.
    #[allow(clippy::too_many_arguments)]
    fn stream(
        &self,
        t: &mut Text,
        s: &Stream,
        rows: std::ops::Range<usize>,
        columns: usize,
        pairs: bool,
        (pivots, sums): (&Pivots, &str),
        emit: &mut dyn FnMut(&mut Text, Emission<'_>),
    ) -> Result<(), CompileError> {
        let (p, plan) = (self.p, self.plan);
        let hoisted = self.hoisted();
        let place = |space: Space, at: &Affine, r: usize, c: usize| -> String {
            let (s, i) = (self.row(r), index(at));
            let column = if columns > 1 { format!("c{c}") } else { String::new() };
            match space {
                Space::Param if at.terms.is_empty() && hoisted.contains(&at.offset) => {
                    format!("p{i}")
                }
                Space::Param => format!("param[{i}]"),
                Space::Kept if plan.held => format!("x{s}[{i}]"),
                Space::Kept => format!("kept[(size_t)({i}) * rows + row{s}]"),
                Space::Reduced => format!("y{column}[{i}]"),
                Space::Sums => plan.get(sums).at(&s, &i),
                Space::Pivot if at.offset == 0 => format!("{}{s}", pivots.new),
                Space::Pivot => format!("{}{s}", pivots.old),
                Space::Key => format!("key{s}{column}"),
                Space::Buffer if columns > 1 => {
                    plan.get("buffer").at(&s, &format!("({i}) * {columns} + {c}"))
                }
                Space::Buffer => plan.get("buffer").at(&s, &i),
                Space::Result => {
                    format!("values[((size_t)batch * rows + row{s}) * {} + {i}]", p.results)
                }
                Space::KeptInput | Space::ReducedInput => unreachable!("inputs of row sections"),
            }
        };
        let scope = Scope {
            stream: s,
            precision: p.precision,
            rows,
            tile_rows: plan.rows,
            columns,
            pairs,
            cheap_exp: pairs && std::ptr::eq(s, &p.add),
            factors: pairs && std::ptr::eq(s, &p.add),
            place: &place,
        };
        translate(t, &scope, emit)
    }
    /// What a thread does with `columns` columns from `k` on.
    fn pairs(&self, t: &mut Text, columns: usize) -> Result<(), CompileError> {
        let (p, plan) = (self.p, self.plan);
        if p.reduced.len > 0 {
            for c in 0..columns {
                let name = if columns > 1 { format!("y{}{c}", "c") } else { "y".into() };
                let k = if c > 0 { format!("(k + {c})") } else { "k".into() };
                t.line(if plan.tile > 0 {
                    format!("const T* const {name} = stage + {k} * {};", plan.stride)
                } else {
                    format!(
                        "const T* const {name} = reduced + (size_t)(base + {k}) * {};",
                        plan.stride
                    )
                });
            }
        }
        let all = 0..plan.rows;
        let none = (&Pivots { new: "pivot", old: "pivot" }, "sum");
        match p.mode {
            Mode::Sum => self
                .stream(t, &p.add, all, columns, true, none, &mut |t, e| self.add(t, &e, columns)),
            Mode::PivotSum => {
                let column = |c: usize| if columns > 1 { format!("c{c}") } else { String::new() };
                for r in 0..plan.rows {
                    let names: Vec<String> =
                        (0..columns).map(|c| format!("key{}{}", self.row(r), column(c))).collect();
                    t.line(format!("T {};", names.join(", ")));
                }
                t.open("");
                self.stream(t, &p.key, all.clone(), columns, true, none, &mut |t, e| {
                    for r in 0..plan.rows {
                        for c in 0..columns {
                            let v = &e.factors[0][r * columns + c];
                            t.line(format!("key{}{} = {v};", self.row(r), column(c)));
                        }
                    }
                })?;
                t.close();
                for r in 0..plan.rows {
                    let s = self.row(r);
                    t.line(format!("const T old{s} = pivot{s};"));
                    for c in 0..columns {
                        // A NaN is passed over here and comes in through the addends.
                        t.line(format!("pivot{s} = fmax(pivot{s}, key{s}{});", column(c)));
                    }
                    t.line(format!("pivot{s} = fmin(pivot{s}, {});", finite_max(p.precision)));
                }
                let moved = Pivots { new: "pivot", old: "old" };
                let kahan = plan.accumulation == Accumulation::Kahan;
                self.rebase(t, &moved, if kahan { &["sum", "lost"] } else { &["sum"] })?;
                self.stream(t, &p.add, all, columns, true, (&moved, "sum"), &mut |t, e| {
                    self.add(t, &e, columns)
                })
            }
            Mode::Select { select, k } => {
                self.stream(t, &p.key, all, columns, true, none, &mut |t, e| {
                    self.compete(t, &e, columns, select, k)
                })
            }
        }
    }
    /// Adds what pairs emit to the sums.
    fn add(&self, t: &mut Text, e: &Emission<'_>, columns: usize) {
        let plan = self.plan;
        let slot = index(e.slot);
        for r in 0..plan.rows {
            let at = |name: &str| plan.get(name).at(&self.row(r), &slot);
            let sum = at("sum");
            for c in 0..columns {
                let f: Vec<&String> = e.factors.iter().map(|f| &f[r * columns + c]).collect();
                let value = match f[..] {
                    [a, b] => format!("{a} * {b}"),
                    _ => f[0].clone(),
                };
                t.line(match (plan.accumulation, &f[..]) {
                    (Accumulation::Block | Accumulation::Direct, [a, b]) => {
                        format!("{sum} = fma({a}, {b}, {sum});")
                    }
                    (Accumulation::Block | Accumulation::Direct, _) => format!("{sum} += {value};"),
                    (Accumulation::Half, _) => format!("{sum} = round_f16({sum} + {value});"),
                    (Accumulation::Kahan, _) => {
                        format!("add_kahan({sum}, {}, {value});", at("lost"))
                    }
                    (Accumulation::Wide, _) => format!("{sum} += double({value});"),
                });
            }
        }
    }
    /// Lets the keys of pairs compete for the places of winners. Infinite keys take part (the
    /// first of them wins), NaN do not.
    fn compete(&self, t: &mut Text, e: &Emission<'_>, columns: usize, select: Select, k: usize) {
        let plan = self.plan;
        let slot = index(e.slot);
        let best = plan.get("best");
        let (min, pick, test) = match select.order {
            Order::Min => (true, "fmin", "<"),
            Order::Max => (false, "fmax", ">"),
        };
        for r in 0..plan.rows {
            let s = self.row(r);
            let keys: Vec<&String> = (0..columns).map(|c| &e.factors[0][r * columns + c]).collect();
            let place = |a: &Array, q: usize| {
                a.at(&s, &if k == 1 { slot.clone() } else { format!("({slot}) * {k} + {q}") })
            };
            let last = place(best, k - 1);
            if k == 1 && !select.index {
                for key in keys {
                    t.line(format!("{last} = {pick}({last}, {key});"));
                }
                continue;
            }
            let empty = |or: &str| match select.index {
                true => format!(" || ({} < 0{or})", place(plan.get("at"), k - 1)),
                false => String::new(),
            };
            // Of several columns the best one tells whether any of them counts.
            let group =
                keys[1..].iter().fold(keys[0].clone(), |a, key| format!("{pick}({a}, {key})"));
            t.open(format!("if ({group} {test} {last}{})", empty("")));
            let step = if best.workspace.is_some() { "pitch" } else { "1" };
            let at = if select.index {
                format!("&{}", place(plan.get("at"), 0))
            } else {
                "nullptr".into()
            };
            for (c, key) in keys.iter().enumerate() {
                let open = empty(&format!(" && {key} == {key}"));
                t.line(format!(
                    "if ({key} {test} {last}{open}) insert<{k}, {min}, {}>(&{}, {at}, {step}, {key}, base + k + {c});",
                    select.index,
                    place(best, 0)
                ));
            }
            t.close();
        }
    }
    /// Writes the results of the rows.
    fn results(&self, t: &mut Text) -> Result<(), CompileError> {
        let (p, plan) = (self.p, self.plan);
        let sums = match plan.accumulation {
            Accumulation::Block => "total",
            _ => "sum",
        };
        for r in 0..plan.rows {
            let s = self.row(r);
            t.open(format!("if (first + {} < tile.y)", r * THREADS));
            match p.mode {
                Mode::Select { select, k } => {
                    let n = p.keys;
                    let write = |t: &mut Text, from: &Array, to: &str| {
                        each(t, n * k, |t, e| {
                            // The list is [slot][place], the result [place][slot].
                            let to_at = match (n, k, e) {
                                (1, ..) | (_, 1, _) => e.to_string(),
                                _ => format!("{e} % {k} * {n} + {e} / {k}"),
                            };
                            let from = from.at(&s, e);
                            t.line(format!(
                                "{to}[((size_t)batch * rows + row{s}) * {} + {to_at}] = {from};",
                                n * k
                            ));
                        });
                    };
                    if select.value {
                        write(t, plan.get("best"), "values");
                    }
                    if select.index {
                        write(t, plan.get("at"), "indices");
                    }
                }
                Mode::Sum | Mode::PivotSum => {
                    if plan.accumulation == Accumulation::Block {
                        let (total, lost) = (plan.get("total"), plan.get("lost"));
                        each(t, total.len, |t, e| {
                            t.line(format!("{} += {};", total.at(&s, e), lost.at(&s, e)));
                        });
                    }
                    let pivots = Pivots { new: "pivot", old: "pivot" };
                    self.stream(
                        t,
                        &p.finalise,
                        r..r + 1,
                        1,
                        false,
                        (&pivots, sums),
                        &mut |_, _| unreachable!("rows emit nothing"),
                    )?;
                }
            }
            t.close();
        }
        Ok(())
    }
}
