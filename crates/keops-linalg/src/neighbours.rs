//! Neighbour graphs as sparse matrices, in any metric that is a formula.
//!
//! Nearest neighbours are one search. Those within a radius are counted first, then searched for by
//! groups of rows of similar counts, so that memory is that of the graph.

use crate::layout::VECTOR;
use keops_core::data::{ArgView, Buffer, Element, HostView};
use keops_core::error::{Error, InputError, RunError};
use keops_core::genred::{AsArg, Genred, IntoArgs, Place, Reference};
use keops_core::graph::{Category, Node};
use keops_core::memory;
use keops_core::outer::OuterNode;
use keops_core::reduce::{K_MIN_ARG_K_MIN, SUM};
use keops_core::spec::Axis;
use ndarray::Axis as NdAxis;
use sprs::CsMat;
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// Name of the radius among the arguments.
const RADIUS: &str = "radius_of_neighbours";
const GRAPH: &str = "a neighbour graph";

/// Searches for neighbours: row i of a graph holds the points y_j near x_i, with the value of the
/// metric, which is any scalar formula of two points and parameters (squared distances are as good
/// as distances).
///
/// Of points that are as near, the one of smallest index comes first. A NaN is near nothing. Zeros
/// that are distances are stored. Columns of each row ascend.
///
/// ```
/// use keops_linalg::Neighbours;
/// let metric: Neighbours = Neighbours::new("Norm2(x - y)", ["x = Vi(1)", "y = Vj(1)"])?;
/// let x = ndarray::array![[0.0], [1.0], [3.0], [3.5]];
/// let nearest = metric.clone().excluding_self().nearest(1, (&x, &x))?; // a sprs::CsMat
/// let edges: Vec<_> = nearest.iter().map(|(d, (i, j))| (i, j, *d)).collect();
/// assert_eq!(edges, [(0, 1, 1.0), (1, 0, 1.0), (2, 3, 0.5), (3, 2, 0.5)]);
/// let within = metric.within(1.0, (&x, &x))?;
/// assert_eq!((within.nnz(), within.get(1, 0), within.get(1, 1)), (8, Some(&1.0), Some(&0.0)));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Neighbours<P = Reference> {
    metric: String,
    aliases: Vec<String>,
    /// Categories of the arguments.
    categories: Vec<Category>,
    others: bool,
    /// Does the metric have row numbers in it? Then rows are searched all together.
    numbered: bool,
    place: PhantomData<P>,
}

/// How many points there are on both sides.
#[derive(Clone, Copy)]
struct Sizes {
    rows: usize,
    columns: usize,
}

impl<P: Place + Default> Neighbours<P> {
    /// In a metric.
    ///
    /// # Errors
    /// [`Error`] if the formula cannot be read, or has no variable of one of both sides.
    pub fn new(
        metric: &str,
        aliases: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Neighbours<P>, Error> {
        let aliases: Vec<String> = aliases.into_iter().map(|a| a.as_ref().into()).collect();
        let sum: Genred<P> = Genred::new(metric, &aliases, &SUM, Axis::J)?;
        let inputs = sum.computation().inputs();
        let categories: Vec<Category> = inputs.iter().map(|i| i.category).collect();
        for category in [Category::I, Category::J] {
            if !categories.contains(&category) {
                let what = format!("a metric has a variable of category {}", category.keyword());
                return Err(InputError::Option(what).into());
            }
        }
        let graph = sum.computation().graph();
        let numbered = sum.computation().outputs().iter().any(|o| match graph.node(o.port.node) {
            OuterNode::Reduce(r) => {
                let mut live = r.graph.live(&[r.formula]).into_iter();
                live.any(|id| *r.graph.node(id) == Node::Index(Category::I))
            }
            _ => false,
        });
        Ok(Neighbours {
            metric: metric.into(),
            aliases,
            categories,
            others: false,
            numbered,
            place: PhantomData,
        })
    }
    /// Both sides are the same points, and none is a neighbour of itself. (Others at the same place
    /// are.)
    pub fn excluding_self(mut self) -> Self {
        self.others = true;
        self
    }

    /// The k nearest of each point; fewer where there are fewer.
    ///
    /// # Errors
    /// [`Error`] for arguments that do not fit, or a metric of several components; from the device.
    pub fn nearest<'a, A: IntoArgs<'a>>(&self, k: usize, args: A) -> Result<CsMat<f64>, Error> {
        let args = args.into_args();
        let sizes = self.sizes(&args)?;
        let search = k.saturating_add(usize::from(self.others)).min(sizes.columns);
        let mut rows = lists(sizes.rows)?;
        if k > 0 && search > 0 && sizes.rows > 0 {
            let all = memory::collected(0..sizes.rows, GRAPH)?;
            self.search(search, &all, &args, |row, found| {
                let mut own = memory::collected(found.iter().copied(), GRAPH)?;
                own.retain(|(j, _)| !self.others || *j != row);
                own.truncate(k);
                rows[row] = own;
                Ok(())
            })?;
        }
        matrix(rows, sizes)
    }

    /// All points with a metric of at most the radius, in the type of the points.
    ///
    /// # Errors
    /// As [`Neighbours::nearest`]; [`InputError::Option`] for a radius that is NaN.
    pub fn within<'a, A: IntoArgs<'a>>(&self, radius: f64, args: A) -> Result<CsMat<f64>, Error> {
        if radius.is_nan() {
            return Err(InputError::Option("the radius is NaN".into()).into());
        }
        let own = ndarray::arr1(&[A::Elem::of_f64(radius)]);
        let radius = own[0].to_f64();
        let args = args.into_args();
        let sizes = self.sizes(&args)?;
        let mut rows = lists(sizes.rows)?;
        if sizes.rows == 0 || sizes.columns == 0 {
            return matrix(rows, sizes);
        }
        // Groups of rows by how many neighbours are searched for.
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let counting = format!("Step({RADIUS} - ({}))", self.metric);
        let aliases: Vec<String> =
            self.aliases.iter().cloned().chain([format!("{RADIUS} = Pm(1)")]).collect();
        let counting: Genred<P> = Genred::new(&counting, &aliases, &SUM, Axis::J)?;
        let mut with: Vec<ArgView<'_>> = args.iter().map(ArgView::view).collect();
        with.push(own.as_arg());
        let counts = counting.run(&with)?;
        let counts = counts.first().map(Buffer::to_f64).unwrap_or_default();
        self.scalar(counts.shape(), &[sizes.rows, 1])?;
        for (row, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            // (One more, which says that none is missing.)
            let search = (*count as usize + 1).next_power_of_two().min(sizes.columns);
            groups.entry(search).or_default().push(row);
        }
        let all = memory::collected(0..sizes.rows, GRAPH)?;
        if self.numbered
            && let Some((search, _)) = groups.pop_last()
        {
            groups = BTreeMap::from([(search, all.clone())]);
        }
        while let Some((search, group)) = groups.pop_first() {
            let mut again = vec![];
            self.search(search, &group, &args, |row, found| {
                let near = found.iter().filter(|(_, d)| *d <= radius);
                if near.clone().count() == search && search < sizes.columns {
                    again.push(row); // the count was rounded otherwise
                    return Ok(());
                }
                let mut own = memory::room(near.clone().count(), GRAPH)?;
                own.extend(near.filter(|(j, _)| !self.others || *j != row));
                rows[row] = own;
                Ok(())
            })?;
            if !again.is_empty() {
                let more = search.saturating_mul(2).min(sizes.columns);
                let again = if self.numbered { all.clone() } else { again };
                groups.entry(more).or_default().extend(again);
            }
        }
        matrix(rows, sizes)
    }

    /// The numbers of points. The search checks all else.
    fn sizes(&self, args: &[ArgView<'_>]) -> Result<Sizes, InputError> {
        if args.len() != self.categories.len() {
            let (n, got) = (self.categories.len(), args.len());
            return Err(InputError::Option(format!("{n} arguments expected, got {got}")));
        }
        let of = |category: Category| {
            let all = self.categories.iter().zip(&self.aliases).zip(args);
            let mut rows = 0;
            for ((_, alias), arg) in all.filter(|((c, _), _)| **c == category) {
                rows = match arg.shape() {
                    [rows] | [rows, _] => *rows,
                    other => {
                        let expected = "points as a matrix, without batches".into();
                        let name = alias.split('=').next().unwrap_or_default().trim().into();
                        let got = other.to_vec();
                        return Err(InputError::Shape { name, expected, got });
                    }
                };
            }
            Ok(rows)
        };
        let sizes = Sizes { rows: of(Category::I)?, columns: of(Category::J)? };
        if self.others && sizes.rows != sizes.columns {
            let Sizes { rows, columns } = sizes;
            let what = "without themselves, points are the same on both sides";
            return Err(InputError::Option(format!("{what}: got {rows} and {columns}")));
        }
        Ok(sizes)
    }
    fn scalar(&self, shape: &[usize], expected: &[usize]) -> Result<(), InputError> {
        match shape.iter().product::<usize>() == expected.iter().product() {
            true => Ok(()),
            false => {
                let what = "a metric is a formula of dimension 1";
                Err(InputError::Option(format!("{what}, `{}` is not", self.metric)))
            }
        }
    }

    /// Calls `f` with some rows, and the nearest of each: indices and values, in order.
    fn search(
        &self,
        k: usize,
        rows: &[usize],
        args: &[ArgView<'_>],
        mut f: impl FnMut(usize, &[(usize, f64)]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let genred: Genred<P> =
            Genred::new(&self.metric, &self.aliases, (&K_MIN_ARG_K_MIN, k), Axis::J)?;
        let mut own = vec![];
        for (category, arg) in self.categories.iter().zip(args) {
            let partial = *category == Category::I && !whole(arg, rows);
            own.push(if partial { Some(some(arg, rows)?) } else { None });
        }
        let mut chosen = memory::room(args.len(), GRAPH)?;
        for (own, arg) in own.iter().zip(args) {
            chosen.push(own.as_ref().and_then(Buffer::view).unwrap_or_else(|| arg.view()));
        }
        let results = genred.run(&chosen)?;
        let (mut values, mut indices) = (None, None);
        for result in &results {
            match result.indices() {
                Some(own) => indices = Some(own),
                None => values = Some(result.to_f64()),
            }
        }
        let (Some(values), Some(indices)) = (values, indices) else {
            unreachable!("the reduction has values and indices")
        };
        self.scalar(values.shape(), &[rows.len(), k])?;
        let mut pairs = values.iter().zip(indices);
        let mut found = memory::room(k, VECTOR)?;
        for &row in rows {
            found.clear();
            // (-1 where there are fewer.)
            let own = pairs.by_ref().take(k);
            found.extend(own.filter_map(|(d, j)| Some((usize::try_from(*j).ok()?, *d))));
            f(row, &found)?;
        }
        Ok(())
    }
}

/// Are these all rows, in order?
fn whole(arg: &ArgView<'_>, rows: &[usize]) -> bool {
    arg.shape().first() == Some(&rows.len()) && rows.iter().enumerate().all(|(k, row)| k == *row)
}
/// Some rows of an argument.
fn some(arg: &ArgView<'_>, rows: &[usize]) -> Result<Buffer, RunError> {
    let axis = NdAxis(0);
    Ok(match &*arg.host()? {
        HostView::F16(v) => Buffer::F16(v.select(axis, rows)),
        HostView::BF16(v) => Buffer::BF16(v.select(axis, rows)),
        HostView::F32(v) => Buffer::F32(v.select(axis, rows)),
        HostView::F64(v) => Buffer::F64(v.select(axis, rows)),
    })
}

/// Neighbours of each row.
type Lists = Vec<Vec<(usize, f64)>>;

fn lists(rows: usize) -> Result<Lists, InputError> {
    Ok(memory::filled(rows, vec![], GRAPH)?)
}

fn matrix(rows: Lists, sizes: Sizes) -> Result<CsMat<f64>, Error> {
    let entries = rows.iter().map(Vec::len).sum();
    let mut starts = memory::room(rows.len() + 1, GRAPH)?;
    let (mut columns, mut values) = (memory::room(entries, GRAPH)?, memory::room(entries, GRAPH)?);
    starts.push(0);
    for mut row in rows {
        row.sort_unstable_by_key(|(j, _)| *j);
        columns.extend(row.iter().map(|(j, _)| *j));
        values.extend(row.iter().map(|(_, d)| *d));
        starts.push(columns.len());
    }
    // (Columns ascend and are below their number, as searches find each once.)
    Ok(CsMat::new((sizes.rows, sizes.columns), starts, columns, values))
}
