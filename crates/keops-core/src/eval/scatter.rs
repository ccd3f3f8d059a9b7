//! Sums that are scattered over the entries of a table: see [`Scatter`].

use super::own_or;
use super::rows::{blocks, indices_of};
use super::steps::Run;
use super::value::{Value, rounded, zeros};
use crate::data::{Buffer, DType, Element, batch_matrix};
use crate::error::{Error, OutOfMemory};
use crate::graph::{Builder, Category, EXACT_INDEX, Ex, Graph, Node, Var};
use crate::interp::position;
use crate::memory;
use crate::outer::{OuterId, Port, Reduction, Scatter};
use crate::reduce;
use crate::spec::{Axis, CheckedArgs, ReduceOptions, ReduceSpec, Scheme, check_numbered};
use crate::with_view;
use ndarray::{ArrayView1, ArrayView2};
use std::sync::Arc;

/// Pairs that are evaluated at a time.
const PAIRS: usize = 1 << 16;
/// Elements of what is packed for them.
const PACKED: usize = 1 << 22;

/// Index and value of a scatter as one formula of rows.
struct Rows {
    reduction: Reduction,
    /// What each variable is in the scatter.
    of: Vec<Operand>,
    /// Components of the index, and of the value.
    dim: usize,
}
enum Operand {
    Value(Port, Category),
    /// The number of the row itself.
    Number(Category),
}

impl Rows {
    fn new(id: OuterId, s: &Scatter) -> Rows {
        let row = Category::J;
        let next = s.bindings.iter().map(|(v, _)| v.index + 1).max().unwrap_or(0);
        let (mut bindings, mut of) = (vec![], vec![]);
        let moved = |v: Var| match v.category {
            Category::Param => v,
            _ => Var { category: row, ..v },
        };
        for (v, p) in &s.bindings {
            bindings.push((moved(*v), *p));
            of.push(Operand::Value(*p, v.category));
        }
        let mut graph = Graph::default();
        let mut numbers: Vec<Category> = vec![];
        let roots = graph.import_nodes(&s.graph, &[s.index, s.value], |g, node| match node {
            Node::Var(v) => Some(g.intern(Node::Var(moved(*v)))),
            Node::Index(c) => {
                let known = numbers.iter().position(|n| n == c).unwrap_or_else(|| {
                    numbers.push(*c);
                    numbers.len() - 1
                });
                let var = Var { index: next + known as u32, dim: 1, category: row };
                Some(g.intern(Node::Var(var)))
            }
            _ => None,
        });
        for (k, c) in (0..).zip(numbers) {
            // (The port only gives a name.)
            let var = Var { index: next + k, dim: 1, category: row };
            bindings.push((var, Port { node: id, output: 0 }));
            of.push(Operand::Number(c));
        }
        let dim = graph.dim(roots[0]);
        let b = Builder::from_graph(graph);
        let formula = {
            let [index, value] = [b.ex(roots[0]), b.ex(roots[1])];
            Ex::concat(&[index, value.broadcast(dim)]).id
        };
        let reduction = Reduction {
            graph: Arc::new(b.into_graph()),
            formula,
            weight: None,
            reduction: &reduce::SUM,
            k: 1,
            axis: Axis::I,
            options: ReduceOptions { scheme: Scheme::Direct, ..ReduceOptions::default() },
            bindings,
            ranges: None,
        };
        Rows { reduction, of, dim }
    }
}

impl<'a> Run<'_, 'a> {
    /// Evaluates index and value at blocks of pairs and adds them up one after the other, in f64:
    /// time and memory are those of the pairs and of the table, and the order is always the same.
    pub(super) fn scatter(
        &mut self,
        id: OuterId,
        s: &Scatter,
        batch: &[usize],
    ) -> Result<Value<'a>, Error> {
        let compute = self.sizes.dtype.compute();
        let mut sums = zeros(DType::F64, &[batch, &[s.dim]].concat(), "scattered values")?;
        let Buffer::F64(table) = &mut sums else { unreachable!("it was made so") };
        match compute {
            DType::F32 if s.dim <= EXACT_INDEX => self.scatter_all::<f32>(id, s, batch, table)?,
            _ => self.scatter_all::<f64>(id, s, batch, table)?,
        }
        Ok(Value::made(rounded(sums, compute)?))
    }
    fn scatter_all<T: Element>(
        &self,
        id: OuterId,
        s: &Scatter,
        batch: &[usize],
        table: &mut ndarray::ArrayD<f64>,
    ) -> Result<(), Error> {
        let rows = Rows::new(id, s);
        let size = |c: Category| self.sizes.rows(c).unwrap_or(1);
        if T::of_f64(0.1).to_f64() != 0.1 {
            for operand in &rows.of {
                let Operand::Number(c) = operand else { continue };
                check_numbered(*c, size(*c))?;
            }
        }
        // Rectangles of pairs.
        let whole = match s.rows {
            Some(Category::J) => [[0, 1], [0, size(Category::J)]],
            Some(Category::I) => [[0, size(Category::I)], [0, 1]],
            Some(Category::Param) => [[0, 1], [0, 1]],
            None => [[0, size(Category::I)], [0, size(Category::J)]],
        };
        let mut rectangles: Vec<[[usize; 2]; 2]> = vec![];
        match own_or(&s.ranges, self.sizes, self.ranges)?.filter(|_| s.rows.is_none()) {
            None => rectangles.push(whole),
            Some(ranges) => {
                let pattern = ranges.pattern(Axis::J)?;
                for (k, block) in pattern.blocks.iter().enumerate() {
                    for columns in pattern.of_block(k) {
                        memory::push(&mut rectangles, [*block, *columns], "the list of blocks")?;
                    }
                }
            }
        }
        let (mut width, mut fixed) = (2 * rows.dim, 0);
        for (v, _) in &rows.reduction.bindings {
            *(if v.category == Category::Param { &mut fixed } else { &mut width }) += v.dim;
        }
        // (Parameters are packed for each block: a block costs as much itself.)
        let most = (PACKED.max(fixed) / width).clamp(1, PAIRS.max(fixed));
        let pairs = rectangles.iter().map(|[i, j]| (i[1] - i[0]).saturating_mul(j[1] - j[0]));
        let most = most.min(pairs.fold(0, usize::saturating_add));
        let mut block: Vec<[usize; 2]> = memory::room(most, "pairs")?;
        let mut packed: Vec<Vec<T>> = vec![];
        packed.resize_with(rows.of.len(), Vec::new);
        for (b, table) in indices_of(batch).zip(blocks(table, batch)) {
            packed.iter_mut().for_each(Vec::clear);
            for [i, j] in &rectangles {
                for i in i[0]..i[1] {
                    for j in j[0]..j[1] {
                        block.push([i, j]);
                        if block.len() == most {
                            self.scatter_block(id, &rows, &block, &b, &mut packed, table)?;
                            block.clear();
                        }
                    }
                }
            }
            if !block.is_empty() {
                self.scatter_block(id, &rows, &block, &b, &mut packed, table)?;
                block.clear();
            }
        }
        Ok(())
    }
    fn scatter_block<T: Element>(
        &self,
        id: OuterId,
        rows: &Rows,
        block: &[[usize; 2]],
        batch: &[usize],
        packed: &mut [Vec<T>],
        table: &mut [f64],
    ) -> Result<(), Error> {
        let side = |c: Category| (c == Category::J) as usize;
        for (operand, to) in rows.of.iter().zip(packed.iter_mut()) {
            match operand {
                Operand::Number(c) => {
                    to.clear();
                    ask(to, block.len())?;
                    to.extend(block.iter().map(|pair| T::of_f64(pair[side(*c)] as f64)));
                }
                Operand::Value(port, c) => {
                    let has_rows = *c != Category::Param;
                    // Parameters are packed once for a batch element.
                    if !has_rows && !to.is_empty() {
                        continue;
                    }
                    with_view!(&*self.host(*port)?, v => {
                        let x: ArrayView2<'_, _> = batch_matrix(v, batch, has_rows);
                        to.clear();
                        let count = if has_rows { block.len() } else { 1 };
                        ask(to, count.saturating_mul(x.ncols()))?;
                        for pair in &block[..count] {
                            let row = x.row(if has_rows { pair[side(*c)] } else { 0 });
                            to.extend(row.iter().map(|v| T::of_f64(v.to_f64())));
                        }
                    });
                }
            }
        }
        let vars = rows.reduction.bindings.iter().map(|(v, _)| v);
        let args = vars.zip(packed.iter()).map(|(v, data)| match v.category {
            Category::Param => T::erase(ArrayView1::from(&data[..]).into_dyn()),
            _ => match ArrayView2::from_shape((block.len(), v.dim), &data[..]) {
                Ok(a) => T::erase(a.into_dyn()),
                Err(_) => unreachable!("as many rows as pairs"),
            },
        });
        let args = args.collect();
        let check =
            |spec: &ReduceSpec| CheckedArgs::new(spec, args, None, Some(1), Some(block.len()));
        let (sizes, dtype) = (self.sizes, T::DTYPE);
        let r = &rows.reduction;
        let made = self.computation.reduce(id, r, dtype, (sizes, self.device), None, check)?;
        let mut add = |row: &[f64; 2]| {
            if let Some(at) = position(row[0], table.len()) {
                table[at] += row[1];
            }
        };
        let d = rows.dim;
        match &made[0] {
            Buffer::F32(out) => {
                for row in out.as_slice().unwrap_or_default().chunks_exact(2 * d) {
                    (0..d).for_each(|k| add(&[row[k].into(), row[d + k].into()]));
                }
            }
            Buffer::F64(out) => {
                for row in out.as_slice().unwrap_or_default().chunks_exact(2 * d) {
                    (0..d).for_each(|k| add(&[row[k], row[d + k]]));
                }
            }
            _ => unreachable!("sums have a compute type"),
        }
        Ok(())
    }
}

/// Room for `len` elements.
fn ask<T>(v: &mut Vec<T>, len: usize) -> Result<(), OutOfMemory> {
    if v.capacity() < len {
        *v = memory::room(len, "pairs")?;
    }
    Ok(())
}
