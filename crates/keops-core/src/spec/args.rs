//! Arguments of a reduction, checked.

use super::{Agreement, ReduceSpec, shapes_of};
use crate::data::{ArgView, Buffer, DType};
use crate::error::{InputError, RunError};
use crate::graph::{Category, Node};
use crate::ranges::Ranges;
use crate::spec::Axis;
use ndarray::{Dimension, IxDyn};

/// Row numbers below this are exact in f32, in which f16 and bf16 data are computed too.
const EXACT: usize = 1 << 24;

/// Can this many rows be numbered in f32?
pub(crate) fn check_numbered(category: Category, rows: usize) -> Result<(), InputError> {
    if rows <= EXACT {
        return Ok(());
    }
    let name = if category == Category::I { "i" } else { "j" };
    let detail = format!("{rows} (limit 2^24; f64 data have more)");
    Err(InputError::TooLarge { what: format!("rows that `{name}` numbers in f32"), detail })
}

/// Arguments that fit a [`ReduceSpec`]: types, shapes, batches and ranges are checked.
///
/// ```
#[doc = include_str!("example.txt")]
/// use keops_core::{data::Buffer, genred::AsArg, interp::Interpreter, spec::{Backend, CheckedArgs}};
/// use ndarray::array;
/// let spec = spec("x * y", &["x = Vi(1)", "y = Vj(1)"], &reduce::SUM);
/// let (x, y) = (array![[1f32], [2.0]], array![[10f32], [20.0]]);
/// let args = CheckedArgs::new(&spec, vec![x.as_arg(), y.as_arg()], None, None, None)?;
/// let mut out = args.allocate(&spec)?;
/// Interpreter::new().compile(&spec)?.run(&args, &mut out)?;
/// assert_eq!(out, [Buffer::F32(array![[30.0], [60.0]].into_dyn())]);
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CheckedArgs<'a> {
    args: Args<'a>,
    rows: usize,
    columns: usize,
    batch: Vec<usize>,
    ranges: Option<&'a Ranges>,
}

/// A list of its own, or somebody's.
#[derive(Clone, Debug)]
enum Args<'a> {
    Own(Vec<ArgView<'a>>),
    Given(&'a [ArgView<'a>]),
}

impl<'a> CheckedArgs<'a> {
    /// Checks arguments. `rows_i`, `rows_j` give the numbers of rows where no argument does.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// use keops_core::{genred::AsArg, spec::CheckedArgs};
    /// use ndarray::Array3;
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM);
    /// let (x, y) = (Array3::<f32>::zeros((4, 10, 2)), Array3::<f32>::zeros((4, 7, 2)));
    /// let args = CheckedArgs::new(&spec, vec![x.as_arg(), y.as_arg()], None, None, None)?;
    /// assert_eq!((args.batch(), args.rows(), args.columns()), (&[4][..], 10, 7));
    /// let e = CheckedArgs::new(&spec, vec![x.as_arg()], None, None, None).unwrap_err();
    /// assert_eq!(e.to_string(), "expected 2 arguments (x, y), got 1");
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError`] naming the argument and what was expected: their number, types, shapes, numbers of
    /// rows and batches that disagree, ranges beyond the rows, results that no address space holds.
    pub fn new(
        spec: &ReduceSpec,
        args: Vec<ArgView<'a>>,
        ranges: Option<&'a Ranges>,
        rows_i: Option<usize>,
        rows_j: Option<usize>,
    ) -> Result<CheckedArgs<'a>, InputError> {
        if args.len() != spec.vars.len() {
            return Err(InputError::Count {
                expected: spec.vars.len(),
                names: spec.names.join(", "),
                got: args.len(),
            });
        }
        let given = |n: Option<usize>| n.map(|n| (n, "the given size"));
        let mut common: Agreement<'_, str> = Agreement::new([given(rows_i), given(rows_j)]);
        for ((var, name), arg) in spec.vars.iter().zip(&spec.names).zip(&args) {
            if arg.dtype() != spec.dtype {
                return Err(InputError::Type {
                    name: name.clone(),
                    expected: spec.dtype.name().into(),
                    got: arg.dtype().name().into(),
                });
            }
            let shape = arg.shape();
            let own = if var.category == Category::Param { 1 } else { 2 };
            if shape.len() < own || shape[shape.len() - 1] != var.dim {
                return Err(InputError::Shape {
                    name: name.clone(),
                    expected: shapes_of(var.category, &[var.dim]),
                    got: shape.to_vec(),
                });
            }
            let (batch, own) = shape.split_at(shape.len() - own);
            if let [rows, _] = own {
                common.rows(name, var.category, *rows)?;
            }
            common.batch(name, batch)?;
        }
        // A formula without variables of a category has one row of it, as in KeOps.
        let rows = [Category::I, Category::J].map(|c| common.rows_of(c).unwrap_or(1));
        let batch = common.batch_shape();
        CheckedArgs::of_size(spec, Args::Own(args), rows, batch, ranges)
    }
    /// Arguments that are known to fit: the numbers of rows of `i` and `j`, and the batch shape, are
    /// theirs.
    ///
    /// # Errors
    /// [`InputError`] for results that no address space holds, or ranges beyond the rows.
    pub(crate) fn sized(
        spec: &ReduceSpec,
        args: &'a [ArgView<'a>],
        rows: [usize; 2],
        batch: Vec<usize>,
        ranges: Option<&'a Ranges>,
    ) -> Result<CheckedArgs<'a>, InputError> {
        CheckedArgs::of_size(spec, Args::Given(args), rows, batch, ranges)
    }
    fn of_size(
        spec: &ReduceSpec,
        args: Args<'a>,
        [i, j]: [usize; 2],
        batch: Vec<usize>,
        ranges: Option<&'a Ranges>,
    ) -> Result<CheckedArgs<'a>, InputError> {
        let (rows, columns) = if spec.axis == Axis::J { (i, j) } else { (j, i) };
        if rows > u32::MAX as usize || columns > u32::MAX as usize {
            return Err(InputError::TooLarge {
                what: "rows".into(),
                detail: format!("{rows} x {columns} (limit 2^32 - 1 each)"),
            });
        }
        if spec.dtype != DType::F64 && i.max(j) > EXACT {
            // Numbers of rows would be rounded, and `i == j` be true of neighbours.
            let roots: Vec<_> = std::iter::once(spec.formula).chain(spec.weight).collect();
            for id in spec.graph.live(&roots) {
                if let Node::Index(c) = spec.graph.node(id) {
                    check_numbered(*c, if *c == Category::I { i } else { j })?;
                }
            }
        }
        let per_row: usize = spec.outputs().iter().map(|o| o.dim).sum();
        // Empty results have batches too, which are counted.
        let extents = batch.iter().copied().filter(|e| *e > 0);
        let total =
            extents.chain([rows.max(1), per_row.max(1)]).try_fold(8usize, |a, b| a.checked_mul(b));
        if total.is_none_or(|t| t > isize::MAX as usize) {
            return Err(InputError::TooLarge {
                what: "result".into(),
                detail: format!("{batch:?} x {rows} x {per_row}"),
            });
        }
        if let Some(r) = ranges {
            r.check(i, j)?;
        }
        Ok(CheckedArgs { args, rows, columns, batch, ranges })
    }
    /// The arguments in order.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # use keops_core::genred::AsArg;
    /// # use keops_core::{interp::Interpreter, spec::{Backend, CheckedArgs, Device}};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM); // of f32, over j
    /// let x = ndarray::Array4::<f32>::zeros((4, 3, 10, 2)); // two batch axes, 10 rows
    /// let y = ndarray::Array2::<f32>::zeros((7, 2));
    /// let args = CheckedArgs::new(&spec, vec![x.as_arg(), y.as_arg()], None, None, None)?;
    /// assert_eq!(args.args()[1].shape(), [7, 2]); // y
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn args(&self) -> &[ArgView<'a>] {
        match &self.args {
            Args::Own(all) => all,
            Args::Given(all) => all,
        }
    }
    /// Rows of the result.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # use keops_core::genred::AsArg;
    /// # use keops_core::{interp::Interpreter, spec::{Backend, CheckedArgs, Device}};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM); // of f32, over j
    /// let x = ndarray::Array4::<f32>::zeros((4, 3, 10, 2)); // two batch axes, 10 rows
    /// let y = ndarray::Array2::<f32>::zeros((7, 2));
    /// let args = CheckedArgs::new(&spec, vec![x.as_arg(), y.as_arg()], None, None, None)?;
    /// assert_eq!(args.rows(), 10); // over j: those of i
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Rows that are reduced.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # use keops_core::genred::AsArg;
    /// # use keops_core::{interp::Interpreter, spec::{Backend, CheckedArgs, Device}};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM); // of f32, over j
    /// let x = ndarray::Array4::<f32>::zeros((4, 3, 10, 2)); // two batch axes, 10 rows
    /// let y = ndarray::Array2::<f32>::zeros((7, 2));
    /// let args = CheckedArgs::new(&spec, vec![x.as_arg(), y.as_arg()], None, None, None)?;
    /// assert_eq!(args.columns(), 7); // over j: those of j
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn columns(&self) -> usize {
        self.columns
    }
    /// Batch shape.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # use keops_core::genred::AsArg;
    /// # use keops_core::{interp::Interpreter, spec::{Backend, CheckedArgs, Device}};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM); // of f32, over j
    /// let x = ndarray::Array4::<f32>::zeros((4, 3, 10, 2)); // two batch axes, 10 rows
    /// let y = ndarray::Array2::<f32>::zeros((7, 2));
    /// let args = CheckedArgs::new(&spec, vec![x.as_arg(), y.as_arg()], None, None, None)?;
    /// assert_eq!(args.batch(), [4, 3]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn batch(&self) -> &[usize] {
        &self.batch
    }
    /// Number of batch elements.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # use keops_core::genred::AsArg;
    /// # use keops_core::{interp::Interpreter, spec::{Backend, CheckedArgs, Device}};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM); // of f32, over j
    /// let x = ndarray::Array4::<f32>::zeros((4, 3, 10, 2)); // two batch axes, 10 rows
    /// let y = ndarray::Array2::<f32>::zeros((7, 2));
    /// let args = CheckedArgs::new(&spec, vec![x.as_arg(), y.as_arg()], None, None, None)?;
    /// assert_eq!(args.batches(), 4 * 3);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn batches(&self) -> usize {
        self.batch.iter().product()
    }
    /// Multi-index of a batch element.
    /// `b` is below [`CheckedArgs::batches`]; the last axis runs fastest.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # use keops_core::genred::AsArg;
    /// # use keops_core::{interp::Interpreter, spec::{Backend, CheckedArgs, Device}};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM); // of f32, over j
    /// let x = ndarray::Array4::<f32>::zeros((4, 3, 10, 2)); // two batch axes, 10 rows
    /// let y = ndarray::Array2::<f32>::zeros((7, 2));
    /// let args = CheckedArgs::new(&spec, vec![x.as_arg(), y.as_arg()], None, None, None)?;
    /// assert_eq!(args.batch_index(5), [1, 2]); // 5 = 1 · 3 + 2
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn batch_index(&self, mut b: usize) -> Vec<usize> {
        let mut index = vec![0; self.batch.len()];
        for (k, &e) in self.batch.iter().enumerate().rev() {
            index[k] = b % e;
            b /= e;
        }
        index
    }
    /// Block-sparse ranges.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # use keops_core::genred::AsArg;
    /// # use keops_core::{interp::Interpreter, spec::{Backend, CheckedArgs, Device}};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM); // of f32, over j
    /// let x = ndarray::Array4::<f32>::zeros((4, 3, 10, 2)); // two batch axes, 10 rows
    /// let y = ndarray::Array2::<f32>::zeros((7, 2));
    /// let args = CheckedArgs::new(&spec, vec![x.as_arg(), y.as_arg()], None, None, None)?;
    /// assert!(args.ranges().is_none());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    pub fn ranges(&self) -> Option<&'a Ranges> {
        self.ranges
    }
    /// Allocates outputs: values in the compute type, indices in i64, shape
    /// `(batch…, rows, dim)`.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # use keops_core::genred::AsArg;
    /// # use keops_core::{interp::Interpreter, spec::{Backend, CheckedArgs, Device}};
    /// let spec = spec("x * y", &["x = Vi(2)", "y = Vj(2)"], &reduce::SUM); // of f32, over j
    /// let x = ndarray::Array4::<f32>::zeros((4, 3, 10, 2)); // two batch axes, 10 rows
    /// let y = ndarray::Array2::<f32>::zeros((7, 2));
    /// let args = CheckedArgs::new(&spec, vec![x.as_arg(), y.as_arg()], None, None, None)?;
    /// let out = args.allocate(&spec)?;
    /// assert_eq!(out[0].shape(), [4, 3, 10, 2]);
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`RunError::OutOfMemory`]
    pub fn allocate(&self, spec: &ReduceSpec) -> Result<Vec<Buffer>, RunError> {
        let (outputs, lead) = (spec.outputs(), self.batch.len());
        let mut all = Vec::with_capacity(outputs.len());
        for o in &outputs[..] {
            let mut shape = IxDyn::zeros(lead + 2);
            shape.slice_mut()[..lead].copy_from_slice(&self.batch);
            shape.slice_mut()[lead..].copy_from_slice(&[self.rows, o.dim]);
            let (shape, dtype) = (shape.slice(), (!o.index).then_some(spec.dtype.compute()));
            all.push(Buffer::zeros(dtype, shape).ok_or_else(|| RunError::OutOfMemory {
                what: "the result".into(),
                bytes: shape.iter().fold(8, |a, b| a.saturating_mul(*b)),
            })?);
        }
        Ok(all)
    }
}
