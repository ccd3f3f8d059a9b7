//! Sizes that arguments give to a computation, and batch shapes.

use crate::data::{ArgView, DType};
use crate::error::InputError;
use crate::graph::Category;
use crate::outer::{Computation, InputDef, OuterGraph, OuterId, OuterNode};
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
            merge(&mut batch, own);
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
        let mut rows: [Option<(usize, &str)>; 2] = [None, None];
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
                let letter = match input.category {
                    Category::I => "M, ",
                    Category::J => "N, ",
                    Category::Param => "",
                };
                let row: Vec<_> = input.row.iter().map(|d| d.to_string()).collect();
                let row = row.join(", ");
                let mut expected = format!("shape ({letter}{row}) or (batches…, {letter}{row})");
                // The row of a matrix, as if it were a matrix of one row.
                if has_rows && *shape == input.row[..] {
                    expected += &format!("; one row has shape (1, {row}), a parameter is `Pm`");
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
            let batch = &shape[..shape.len() - own];
            let other = || like(input);
            if has_rows {
                let got = shape[shape.len() - own];
                let side = (input.category == Category::J) as usize;
                let of_other = rows[1 - side].filter(|_| self.graph.is_square());
                let slot = &mut rows[side];
                let known = match (&slot, &input.like) {
                    (Some((n, first)), None) => Some((*n, *first)),
                    (n, Some(_)) => Some((n.or(of_other).map_or(1, |(n, _)| n), other())),
                    (None, None) => None,
                };
                match known {
                    Some((expected, other)) if expected != got => {
                        let (name, what) = (name.clone(), "rows".to_string());
                        let other = other.to_string();
                        return Err(InputError::Disagree { name, what, other, expected, got });
                    }
                    Some(_) => {}
                    None => *slot = Some((got, name)),
                }
            }
            match input.like {
                None => {
                    if let Some((expected, got)) = merge(&mut sizes.batch, batch) {
                        let clash = |b: &Vec<usize>| merge(&mut b.clone(), batch).is_some();
                        let at = sizes.of_input.iter().position(clash).unwrap_or(0);
                        return Err(InputError::Disagree {
                            name: name.clone(),
                            what: "batch elements".into(),
                            other: self.inputs[at].name.clone(),
                            expected,
                            got,
                        });
                    }
                }
                Some(like) => {
                    let full = sizes.batch_of(&self.graph, like.node);
                    let mut both = full.clone();
                    if merge(&mut both, batch).is_some() || both != full {
                        return Err(InputError::Shape {
                            name: name.clone(),
                            expected: format!("batch shape {full:?} as of `{}`", other()),
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
        if self.graph.is_square() {
            rows = [rows[0].or(rows[1]), rows[1].or(rows[0])];
        }
        let [i, j] = rows.map(|r| r.map_or(1, |(n, _)| n));
        (sizes.rows_i, sizes.rows_j) = (i, j);
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
    /// Rows of one component may come without the axis of components: `(N)` for `(N, 1)`, and `()` or `(1, 1)`
    /// for a number: one in a column is no batch, unless another argument has an axis of batches.
    pub(crate) fn aligned<'s, 'a>(&self, args: &'s [ArgView<'a>]) -> Cow<'s, [ArgView<'a>]> {
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

/// Broadcasts `own` into `batch`, aligned at the last axis; the axis where that fails.
pub(super) fn merge(batch: &mut Vec<usize>, own: &[usize]) -> Option<(usize, usize)> {
    while batch.len() < own.len() {
        batch.insert(0, 1);
    }
    let lead = batch.len() - own.len();
    for (b, &e) in batch[lead..].iter_mut().zip(own) {
        if e != 1 && *b != 1 && *b != e {
            return Some((*b, e));
        }
        if e != 1 {
            *b = e;
        }
    }
    None
}
