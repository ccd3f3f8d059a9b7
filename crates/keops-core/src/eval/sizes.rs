//! Sizes that arguments give to a computation, and batch shapes.

use crate::data::{ArgView, DType};
use crate::error::InputError;
use crate::graph::Category;
use crate::outer::{Computation, InputDef, OuterGraph, OuterId, OuterNode};
use crate::spec::{Agreement, broadcast, disagree, shapes_of};
use std::borrow::Cow;

/// Sizes that arguments give to a computation.
///
/// ```
/// use keops_core::genred::{AsArg, Genred};
/// use keops_core::{reduce::SUM, spec::Axis};
/// use ndarray::{Array2, Array3};
/// let sum: Genred = Genred::new("x * y", ["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J)?;
/// let (x, y) = (Array3::<f32>::zeros((4, 10, 2)), Array2::<f32>::zeros((7, 2)));
/// let sizes = sum.computation().sizes(&[x.as_arg(), y.as_arg()])?;
/// assert_eq!((sizes.rows_i, sizes.rows_j, &sizes.batch[..]), (10, 7, &[4][..]));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Number of rows of category `I`; 1 if no variable has it (that of `J` where a function
    /// needs as many, [`Function::square`](crate::outer::Function::square)).
    pub rows_i: usize,
    /// Number of rows of category `J`, likewise.
    pub rows_j: usize,
    /// Batch shape of all arguments together.
    pub batch: Vec<usize>,
    /// Element type of the arguments (f64 if there is none).
    pub dtype: DType,
    /// Batch shape of each argument; of none after the last that has one.
    pub(super) of_input: Vec<Vec<usize>>,
}

impl Sizes {
    /// Pairs of rows, over all batches.
    /// No more than `u64::MAX`.
    ///
    /// ```
    /// use keops_core::genred::{AsArg, Genred};
    /// use keops_core::{reduce::SUM, spec::Axis};
    /// use ndarray::{Array2, Array3};
    /// let sum: Genred = Genred::new("x * y", ["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J)?;
    /// let (x, y) = (Array3::<f32>::zeros((4, 10, 2)), Array2::<f32>::zeros((7, 2)));
    /// let sizes = sum.computation().sizes(&[x.as_arg(), y.as_arg()])?;
    /// assert_eq!(sizes.pairs(), 4 * 10 * 7);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn pairs(&self) -> u64 {
        let all = self.batch.iter().chain([&self.rows_i, &self.rows_j]);
        all.fold(1u64, |a, &b| a.saturating_mul(b as u64))
    }
    pub(super) fn rows(&self, category: Category) -> Option<usize> {
        match category {
            Category::I => Some(self.rows_i),
            Category::J => Some(self.rows_j),
            Category::Param => None,
        }
    }
    /// Batch shape of a node: its inputs', broadcast. They are known to be compatible.
    pub(super) fn batch_of(&self, graph: &OuterGraph, node: OuterId) -> Vec<usize> {
        let mut batch = vec![];
        for own in graph.support(node).iter().filter_map(|&slot| self.of_input.get(slot)) {
            batch = broadcast(&batch, own).unwrap_or(batch);
        }
        batch
    }
}
impl Computation {
    /// Checks arguments and finds sizes.
    ///
    /// ```
    /// use keops_core::genred::{AsArg, Genred};
    /// use keops_core::{reduce::SUM, spec::Axis};
    /// use ndarray::{Array2, Array3};
    /// let sum: Genred = Genred::new("x * y", ["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J)?;
    /// let (x, y) = (Array3::<f32>::zeros((4, 10, 2)), Array2::<f32>::zeros((7, 2)));
    /// let sizes = sum.computation().sizes(&[x.as_arg(), y.as_arg()])?;
    /// assert_eq!(sizes.dtype, keops_core::data::DType::F32);
    /// let e = sum.computation().sizes(&[x.as_arg()]).unwrap_err();
    /// assert_eq!(e.to_string(), "expected 2 arguments (x, y), got 1");
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError`] naming the argument whose number of axes, dimension, rows, batches or
    /// element type does not fit.
    pub fn sizes(&self, args: &[ArgView<'_>]) -> Result<Sizes, InputError> {
        match self.plain(args) {
            Some(sizes) => Ok(sizes),
            None => self.sizes_of_any(args),
        }
    }
    /// [`Computation::sizes`] of arguments of whatever shapes.
    fn sizes_of_any(&self, args: &[ArgView<'_>]) -> Result<Sizes, InputError> {
        if args.len() != self.inputs.len() {
            let names: Vec<_> = self.inputs.iter().map(|i| i.name.as_str()).collect();
            return Err(InputError::Count {
                expected: self.inputs.len(),
                names: names.join(", "),
                got: args.len(),
            });
        }
        let dtype = args.first().map_or(DType::F64, |a| a.dtype());
        // What a cotangent or a tangent has the shape of.
        let like = |input: &InputDef| match input.like.map(|p| self.graph.node(p.node)) {
            Some(OuterNode::Input { slot, .. }) => self.inputs[*slot].name.as_str(),
            _ => "the result",
        };
        let mut common: Agreement<'_, str> = Agreement::new([None; 2]);
        let mut sizes = Sizes { rows_i: 1, rows_j: 1, batch: vec![], dtype, of_input: vec![] };
        for (slot, (input, arg)) in self.inputs.iter().zip(args).enumerate() {
            let (name, shape) = (&input.name, arg.shape());
            if arg.dtype() != dtype {
                return Err(InputError::Type {
                    name: name.clone(),
                    expected: format!("{} as of `{}`", dtype.name(), self.inputs[0].name),
                    got: arg.dtype().name().into(),
                });
            }
            let has_rows = input.category != Category::Param;
            let own = input.row.len() + has_rows as usize;
            let mut ends = shape.iter().rev().zip(input.row.iter().rev());
            if shape.len() < own || ends.any(|(a, b)| a != b) {
                let mut expected = shapes_of(input.category, &input.row);
                // The row of a matrix, as if it were a matrix of one row.
                if has_rows && *shape == input.row[..] {
                    let row: Vec<_> = [1].iter().chain(&input.row).map(|d| d.to_string()).collect();
                    let row = row.join(", ");
                    expected += &format!("; one row has shape ({row}), a parameter is `Pm`");
                }
                if input.like.is_some() {
                    expected +=
                        &format!(", as {}: it is a cotangent or tangent of that", like(input));
                }
                return Err(InputError::Shape {
                    name: name.clone(),
                    expected,
                    got: shape.to_vec(),
                });
            }
            let (batch, own) = shape.split_at(shape.len() - own);
            match input.like {
                None => {
                    if has_rows {
                        common.rows(name, input.category, own[0])?;
                    }
                    common.batch(name, batch)?;
                }
                // A cotangent or tangent: rows and batches of what it belongs to.
                Some(of) => {
                    let square = self.graph.is_square();
                    let flipped =
                        if input.category == Category::I { Category::J } else { Category::I };
                    let of_other = || common.rows_of(flipped).filter(|_| square);
                    let rows = common.rows_of(input.category).or_else(of_other).unwrap_or(1);
                    if has_rows && rows != own[0] {
                        return Err(disagree(name, "rows", (rows, like(input)), own[0]));
                    }
                    let full = sizes.batch_of(&self.graph, of.node);
                    if broadcast(&full, batch).as_ref() != Some(&full) {
                        return Err(InputError::Shape {
                            name: name.clone(),
                            expected: format!("batch shape {full:?} as of `{}`", like(input)),
                            got: shape.to_vec(),
                        });
                    }
                }
            }
            if !batch.is_empty() {
                sizes.of_input.resize(slot, vec![]);
                sizes.of_input.push(batch.to_vec());
            }
        }
        let [mut i, mut j] = [Category::I, Category::J].map(|c| common.rows_of(c));
        if self.graph.is_square() {
            (i, j) = (i.or(j), j.or(i));
        }
        (sizes.rows_i, sizes.rows_j) = (i.unwrap_or(1), j.unwrap_or(1));
        sizes.batch = common.batch_shape();
        Ok(sizes)
    }

    /// Shape of result `k` for these arguments. Panics if there is no such result.
    ///
    /// # Errors
    /// [`InputError`] if the arguments do not fit.
    pub fn shape_of(&self, k: usize, args: &[ArgView<'_>]) -> Result<Vec<usize>, InputError> {
        let (sizes, o) = (self.sizes(args)?, &self.outputs[k]);
        let mut shape = sizes.batch_of(&self.graph, o.port.node);
        shape.extend(sizes.rows(self.graph.info(o.port).category));
        shape.extend(&o.row);
        Ok(shape)
    }
    /// The arguments as the computation takes them, and their sizes.
    pub(crate) fn fit<'s, 'a>(
        &self,
        given: &'s [ArgView<'a>],
    ) -> Result<(Cow<'s, [ArgView<'a>]>, Sizes), InputError> {
        if let Some(sizes) = self.plain(given) {
            return Ok((Cow::Borrowed(given), sizes));
        }
        let args = self.aligned(given);
        let sizes = self.sizes(&args)?;
        Ok((args, sizes))
    }
    /// The sizes where there are no batches and every argument has just its own axes, as in most
    /// calls; small ones spend a tenth of their time here. `None` says nothing of others.
    fn plain(&self, args: &[ArgView<'_>]) -> Option<Sizes> {
        let dtype = args.first()?.dtype();
        let mut rows = [None; 2];
        if args.len() != self.inputs.len() {
            return None;
        }
        for (input, arg) in self.inputs.iter().zip(args) {
            let mut row = arg.shape();
            if input.category != Category::Param {
                let (&got, rest) = row.split_first()?;
                row = rest;
                match &mut rows[usize::from(input.category == Category::J)] {
                    Some(known) if *known == got => {}
                    unknown @ None if input.like.is_none() => *unknown = Some(got),
                    _ => return None,
                }
            }
            if arg.dtype() != dtype || row.len() != input.row.len() || !row.iter().eq(&input.row) {
                return None;
            }
        }
        let [rows_i, rows_j] = match rows {
            [Some(i), Some(j)] => [i, j],
            _ if self.graph.is_square() => return None,
            [i, j] => [i.unwrap_or(1), j.unwrap_or(1)],
        };
        Some(Sizes { rows_i, rows_j, batch: vec![], dtype, of_input: vec![] })
    }
    /// Rows of one component may come without the axis of components: `(N)` for `(N, 1)`, and `()` or `(1, 1)`
    /// for a number: one in a column is no batch, unless another argument has an axis of batches.
    fn aligned<'s, 'a>(&self, args: &'s [ArgView<'a>]) -> Cow<'s, [ArgView<'a>]> {
        let lacks = |(input, arg): &(&InputDef, &ArgView<'_>)| {
            let rows = usize::from(input.category != Category::Param);
            input.row == [1] && arg.shape().len() == rows
        };
        let column = |(input, arg): &(&InputDef, &ArgView<'_>)| {
            input.category == Category::Param && input.row == [1] && *arg.shape() == [1, 1]
        };
        let pairs = || self.inputs.iter().zip(args);
        let batched = |(input, arg): &(&InputDef, &ArgView<'_>)| {
            let own = usize::from(input.category != Category::Param) + input.row.len();
            arg.shape().len() > own
        };
        let alone = !pairs().any(|p| batched(&p) && !column(&p));
        let column = |p: &(&InputDef, &ArgView<'_>)| alone && column(p);
        if !pairs().any(|p| lacks(&p) || column(&p)) {
            return Cow::Borrowed(args);
        }
        let mut all = args.to_vec();
        for (to, (k, pair)) in all.iter_mut().zip(pairs().enumerate()) {
            if lacks(&pair) {
                *to = args[k].clone().into_column();
            } else if column(&pair) {
                *to = args[k].clone().without_first_axis();
            }
        }
        Cow::Owned(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Element;
    use crate::genred::Genred;
    use crate::reduce::SUM;
    use crate::spec::Axis;
    use ndarray::{ArrayD, IxDyn};
    use proptest::prelude::*;

    proptest! {
        /// The quick look at plain arguments finds what the long one finds, or nothing.
        #[test]
        fn one_look_finds_the_same_sizes(
            rows in [1usize..4, 1usize..4],
            broken in [0usize..24, 0usize..24, 0usize..24, 0usize..24, 0usize..24],
            missing in 0usize..9,
            of_f32 in 0usize..20,
            gradient: bool,
            formula in 0usize..3,
        ) {
            let formula = ["x * y * Sum(p)", "(x | y) + p", "y * Elem(p, 0)"][formula];
            let (dim, out) = if formula.contains('|') { (1, 1) } else { (2, 2) };
            let p = format!("p = Pm({dim})");
            let aliases = ["x = Vi(2)", "y = Vj(2)", p.as_str(), "q = Vi(1)"];
            let f: Genred = Genred::new(formula, aliases, &SUM, Axis::J)?;
            let f = if gradient { f.vjp("y")? } else { f };
            let fitting =
                [vec![rows[0], 2], vec![rows[1], 2], vec![dim], vec![rows[0], 1], vec![rows[0], out]];
            let shapes: Vec<Vec<usize>> = fitting
                .into_iter()
                .zip(broken)
                .map(|(s, how)| match how {
                    0 => [&[2], &s[..]].concat(),
                    1 => s[1..].to_vec(),
                    2 => [&[s[0] % 3 + 1], &s[1..]].concat(),
                    3 => [&s[..], &[1]].concat(),
                    _ => s,
                })
                .collect();
            let (single, double): (Vec<_>, Vec<_>) = shapes
                .iter()
                .map(|s| (ArrayD::<f32>::zeros(IxDyn(s)), ArrayD::<f64>::zeros(IxDyn(s))))
                .unzip();
            let arg = |k: usize| match k == of_f32 {
                true => f32::erase(single[k].view()),
                false => f64::erase(double[k].view()),
            };
            let computation = f.computation();
            let count = computation.inputs.len().saturating_sub(usize::from(missing == 0));
            let args: Vec<ArgView<'_>> = (0..count).map(arg).collect();
            let long = computation.sizes_of_any(&args).ok();
            match computation.plain(&args) {
                Some(sizes) => prop_assert_eq!(long, Some(sizes)),
                // Nothing is broken, and there is no batch: it is not to be missed.
                None => prop_assert!(long.is_none_or(|sizes| !sizes.of_input.is_empty())),
            }
        }
    }
}
