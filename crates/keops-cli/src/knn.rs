//! `keops knn`: neighbours of points, in metrics that have a name here or are a formula.

use crate::data::{self, Entry, TypeName, write_npy};
use crate::failure::{About, Done, error, usage};
use crate::memory;
use crate::results::{deliver, destination, write};
use crate::session::{Chosen, Destination, Session, print_with};
use keops::data::{Buffer, DType, HostView};
use keops::linalg::Neighbours;
use ndarray::Array2;
use serde_json::json;
use std::cmp::Ordering;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;
use zip::write::SimpleFileOptions;

const EXAMPLES: &str = "\
Examples:
  # the ten nearest of all points to each, as a graph for scipy.sparse.load_npz
  keops knn points.npy -k 10 --exclude-self --graph graph.npz

  # the nearest of y to each row of x, by angles
  keops knn x.csv y.csv -k 1 --metric cosine --indices nearest.npy

  # all within a distance that is a formula
  keops knn x.npy --formula 'Max(Abs(x - y))' --within 0.1 --graph near.npz

Metrics: euclidean |x - y|; sqeuclidean; manhattan; chebyshev; cosine
1 - <x, y> / (|x| |y|); hyperbolic: of the half-space whose first coordinate is
positive, acosh(1 + |x - y|^2 / (2 x_0 y_0)).";

/// Find the nearest points, or all within a radius
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Command {
    /// Points whose neighbours are searched for: (M, dim), .npy, .csv, .tsv or .txt
    x: PathBuf,
    /// Points to search in: (N, dim) [default: the same]
    y: Option<PathBuf>,
    /// How many neighbours
    #[arg(short, required_unless_present = "within", conflicts_with = "within")]
    k: Option<usize>,
    /// All neighbours up to this distance instead
    #[arg(long, value_name = "RADIUS", allow_negative_numbers = true)]
    within: Option<f64>,
    /// Metric
    #[arg(long, value_enum, default_value_t = Metric::Euclidean)]
    metric: Metric,
    /// Metric as a formula of the points x and y
    #[arg(long, conflicts_with = "metric", allow_hyphen_values = true)]
    formula: Option<String>,
    /// A point is no neighbour of itself
    #[arg(long, conflicts_with = "y")]
    exclude_self: bool,
    /// Type to compute in [default: that of the .npy files, or f64]
    #[arg(long, value_enum, value_name = "TYPE")]
    dtype: Option<TypeName>,
    /// Sparse matrix of distances (.npz, for scipy.sparse.load_npz)
    #[arg(long, value_name = "FILE")]
    graph: Option<PathBuf>,
    /// Indices of neighbours, nearest first, -1 where there are fewer: (M, K)
    #[arg(long, value_name = "FILE", conflicts_with = "within")]
    indices: Option<PathBuf>,
    /// Distances of neighbours, nearest first, infinite where there are fewer: (M, K)
    #[arg(long, value_name = "FILE", conflicts_with = "within")]
    distances: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Metric {
    Euclidean,
    Sqeuclidean,
    Manhattan,
    Chebyshev,
    Cosine,
    Hyperbolic,
}
impl Metric {
    fn formula(self) -> &'static str {
        match self {
            Metric::Euclidean => "Norm2(x - y)",
            Metric::Sqeuclidean => "SqDist(x, y)",
            Metric::Manhattan => "Sum(Abs(x - y))",
            Metric::Chebyshev => "Max(Abs(x - y))",
            Metric::Cosine => "1 - (x | y) / (Norm2(x) * Norm2(y))",
            // acosh(1 + 2 t²) = 2 asinh(t), which keeps its digits for near points.
            Metric::Hyperbolic => "2 * Asinh(Sqrt(SqDist(x, y) / (4 * Elem(x, 0) * Elem(y, 0))))",
        }
    }
}

pub fn run(c: &Command, session: &Session) -> Done {
    let graph = c.graph.as_deref().map(|p| Destination::new(p, session)).transpose()?;
    if let Some(to) = &graph
        && to.extension() != "npz"
    {
        return usage(format!("--graph: {}: expected a .npz file", to.path().display()));
    }
    let indices = c.indices.as_deref().map(|p| destination(p, session)).transpose()?;
    let distances = c.distances.as_deref().map(|p| destination(p, session)).transpose()?;
    let mut tables = vec![data::read(&c.x)?];
    tables.extend(c.y.as_deref().map(data::read).transpose()?);
    let tables = data::unify(tables, c.dtype.map(DType::from))?;
    let (x, y) = (&tables[0], tables.last().unwrap_or(&tables[0]));
    let dim = |t: &data::Table| match t.shape()[..] {
        [_] => Ok(1),
        [_, dim] => Ok(dim),
        _ => Err(format!("expected points (rows, dimension), got shape {:?}", t.shape())),
    };
    let aliases = [
        format!("x = Vi({})", dim(x).about(&x.source)?),
        format!("y = Vj({})", dim(y).about(&y.source)?),
    ];
    if c.metric == Metric::Hyperbolic && c.formula.is_none() {
        for t in [x, y] {
            positive(&t.host()).about(&t.source)?;
        }
    }
    let formula = c.formula.as_deref().unwrap_or(c.metric.formula());
    let mut search: Neighbours<Chosen> = Neighbours::new(formula, aliases)?;
    if c.exclude_self {
        search = search.excluding_self();
    }
    let rows = x.shape()[0] as u64;
    if let Some(k) = c.k {
        let k = (k as u64).min(y.shape()[0] as u64);
        memory::check("the graph", rows.saturating_mul(k).saturating_mul(16))?;
    }
    let start = Instant::now();
    macro_rules! found {
        ($x:expr, $y:expr) => {{
            let args = [$x, $y];
            match (c.k, c.within) {
                (Some(k), _) => search.nearest(k, &args[..])?,
                (None, Some(radius)) => search.within(radius, &args[..])?,
                (None, None) => return usage("-k or --within is needed"),
            }
        }};
    }
    let made = match (x.host(), y.host()) {
        (HostView::F16(x), HostView::F16(y)) => found!(&x, &y),
        (HostView::BF16(x), HostView::BF16(y)) => found!(&x, &y),
        (HostView::F32(x), HostView::F32(y)) => found!(&x, &y),
        (HostView::F64(x), HostView::F64(y)) => found!(&x, &y),
        (x, y) => {
            let (x, y) = (x.dtype().name(), y.dtype().name());
            return error(format!("x is {x}, y is {y}: --dtype converts both"));
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let mut report = json!({
        "rows": made.rows(), "columns": made.cols(), "neighbours": made.nnz(), "seconds": seconds,
    });
    if let Some(to) = &graph {
        let starts: Vec<usize> = made.indptr().raw_storage().to_vec();
        write_graph(to, &starts, made.indices(), made.data(), [made.rows(), made.cols()])?;
        report["graph"] = to.path().display().to_string().into();
        session.note(&format!("{}: {} neighbours", to.path().display(), made.nnz()));
    }
    // Rows of the graph ascend by index; lists do by distance.
    let mut sorted: Vec<(f64, usize)> = vec![];
    let mut row = |i: usize| -> Vec<(f64, usize)> {
        sorted.clear();
        if let Some(own) = made.outer_view(i) {
            sorted.extend(own.iter().map(|(j, d)| (*d, j)));
        }
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        sorted.clone()
    };
    if let Some(k) = c.k
        && (indices.is_some() || distances.is_some())
    {
        let mut at = Array2::from_elem((made.rows(), k), -1i64);
        let mut far = Array2::from_elem((made.rows(), k), f64::INFINITY);
        for i in 0..made.rows() {
            for (n, (d, j)) in row(i).into_iter().enumerate() {
                (at[[i, n]], far[[i, n]]) = (j as i64, d);
            }
        }
        if let Some(to) = &indices {
            report["indices"] = deliver(session, Some(to), &Buffer::I64(at.into_dyn()))?;
        }
        if let Some(to) = &distances {
            write(to, &Buffer::F64(far.into_dyn()))?;
            report["distances"] = to.path().display().to_string().into();
        }
    }
    let kept = graph.is_some() || indices.is_some() || distances.is_some();
    if session.json {
        if !kept {
            let edges: Vec<_> = (0..made.rows())
                .flat_map(|i| row(i).into_iter().map(move |(d, j)| json!([i, j, d])))
                .collect();
            report["edges"] = edges.into();
        }
        return crate::session::say(&report.to_string());
    }
    if kept {
        return Ok(());
    }
    print_with(|out| {
        for i in 0..made.rows() {
            for (d, j) in row(i) {
                writeln!(out, "{i} {j} {d:?}")?;
            }
        }
        Ok(())
    })
}

/// Points of the half-space.
fn positive(view: &HostView<'_>) -> Result<(), String> {
    let host = keops::data::ArgView::from(view.view());
    let wrong = |k: usize| {
        Err(format!(
            "the first coordinate of row {k} is not positive, as points of the hyperbolic half-space have it"
        ))
    };
    macro_rules! look {
        ($v:expr) => {{
            let first = if $v.ndim() == 2 { $v.index_axis(ndarray::Axis(1), 0) } else { $v.view() };
            match first
                .iter()
                .position(|x| !matches!(f64::from(*x).partial_cmp(&0.0), Some(Ordering::Greater)))
            {
                Some(k) => wrong(k),
                None => Ok(()),
            }
        }};
    }
    if host.shape().last() == Some(&0) {
        return Err("points have no coordinates".into());
    }
    match view {
        HostView::F16(v) => look!(v),
        HostView::BF16(v) => look!(v),
        HostView::F32(v) => look!(v),
        HostView::F64(v) => look!(v),
    }
}

/// A sparse matrix as `scipy.sparse.save_npz` writes it: compressed rows.
fn write_graph(
    to: &Destination,
    starts: &[usize],
    columns: &[usize],
    values: &[f64],
    shape: [usize; 2],
) -> Done {
    // SciPy takes 32-bit indices where they are enough.
    let small = i32::try_from(values.len().max(shape[0]).max(shape[1])).is_ok();
    let whole = |all: &[usize]| -> (&str, Vec<u8>) {
        match small {
            true => ("<i4", all.iter().flat_map(|n| (*n as i32).to_le_bytes()).collect()),
            false => ("<i8", all.iter().flat_map(|n| (*n as i64).to_le_bytes()).collect()),
        }
    };
    let (columns_type, columns_bytes) = whole(columns);
    let (starts_type, starts_bytes) = whole(starts);
    let shape_bytes: Vec<u8> = shape.iter().flat_map(|n| (*n as i64).to_le_bytes()).collect();
    let values_bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let entries = [
        ("indices.npy", columns_type, vec![columns.len()], &columns_bytes[..]),
        ("indptr.npy", starts_type, vec![starts.len()], &starts_bytes),
        ("format.npy", "|S3", vec![], b"csr"),
        ("shape.npy", "<i8", vec![2], &shape_bytes),
        ("data.npy", "<f8", vec![values.len()], &values_bytes),
    ];
    to.write(|file| {
        let mut archive = zip::ZipWriter::new(BufWriter::new(file));
        for (name, descr, shape, bytes) in &entries {
            let options = SimpleFileOptions::default()
                .compression_method(zip::CompressionMethod::Stored)
                .large_file(bytes.len() as u64 >= u64::from(u32::MAX));
            archive.start_file(*name, options)?;
            write_npy(&mut archive, &Entry { descr, shape, bytes })?;
        }
        archive.finish()?.flush()
    })
}
