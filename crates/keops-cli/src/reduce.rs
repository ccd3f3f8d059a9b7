//! `keops reduce`: a reduction of a formula over arrays in files.

use crate::failure::{About, Done, Failure, error, usage};
use crate::inputs::{Bound, Inputs, Reduction, expect_rows, labels};
use crate::results::{deliver, destination, in_type};
use crate::session::{Genred, Session, say};
use keops::data::{ArgView, Buffer, Element};
use keops::graph::Category;
use keops::ranges::Ranges;
use keops::spec::{ReduceOptions, Scheme};
use ndarray::ArrayD;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  # v_i = sum_j exp(-g |x_i - y_j|^2) b_j
  keops reduce 'Exp(-g * SqDist(x, y)) * b' --vi x=x.npy --vj y=y.npy \\
      --vj b=b.npy --pm g=0.5 -o v.npy

  # the gradient of sum_i <v_i, e_i> in x
  keops reduce 'Exp(-SqDist(x, y)) * b' --vi x=x.npy --vj y=y.npy \\
      --vj b=b.npy --gradient x --cotangent e.npy -o gx.npy

  # the three nearest of y to each x: distances and indices
  keops reduce 'Norm2(x - y)' -r KMinArgKMin -k 3 --vi x=x.csv --vj y=y.csv \\
      -o distances.npy --indices indices.npy

Dimensions are those of the files. .npy files are mapped, not copied; no other
program may shorten them meanwhile. Results are exact to the rounding of the
type; NaN in an array gives NaN where it takes part.";

/// Reduce a formula over all pairs of rows, or differentiate that
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Command {
    /// Formula in the syntax of KeOps (docs/operations.md)
    #[arg(allow_hyphen_values = true)]
    formula: String,
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    reduction: Reduction,
    /// The gradient in this variable instead of the value
    #[arg(long, value_name = "NAME")]
    gradient: Option<String>,
    /// What the gradient is multiplied with, of the shape of the value [default: ones]
    #[arg(long, value_name = "FILE", requires = "gradient")]
    cotangent: Option<PathBuf>,
    /// Sums in compensated arithmetic (Kahan), or in f64 for f32 data
    #[arg(long, value_enum, default_value_t = Sums::Blocks)]
    sums: Sums,
    /// Rows i meet rows j of the same label only: sorted whole numbers, one a row
    #[arg(long, value_name = "FILE", requires = "labels_j")]
    labels_i: Option<PathBuf>,
    /// Labels of rows j
    #[arg(long, value_name = "FILE", requires = "labels_i")]
    labels_j: Option<PathBuf>,
    /// File of the result (.npy, .csv, .tsv or .txt) [default: printed]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// File of the indices, where a reduction has values and indices
    #[arg(long, value_name = "FILE")]
    indices: Option<PathBuf>,
}

/// How sums are accumulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Sums {
    /// Compensated by blocks of 256 terms
    Blocks,
    /// Kahan's summation
    Kahan,
    /// In f64, whatever the data
    F64,
}

pub fn run(c: &Command, session: &Session) -> Done {
    let to = c.output.as_deref().map(|p| destination(p, session)).transpose()?;
    let to_indices = c.indices.as_deref().map(|p| destination(p, session)).transpose()?;
    let (bound, mut extra) = c.inputs.read(&[c.cotangent.as_deref()])?;
    let value = c.reduction.of(&c.formula, &bound.aliases())?;
    let value = match c.sums {
        Sums::Blocks => value,
        Sums::Kahan => value.options(ReduceOptions { scheme: Scheme::Kahan, ..Default::default() }),
        Sums::F64 => value.options(ReduceOptions {
            accumulate: Some(keops::data::DType::F64),
            ..Default::default()
        }),
    };
    let value = match (&c.labels_i, &c.labels_j) {
        (Some(i), Some(j)) => {
            let (i, j) = (labels(i, "--labels-i")?, labels(j, "--labels-j")?);
            expect_rows("--labels-i", i.len(), bound.rows(Category::I))?;
            expect_rows("--labels-j", j.len(), bound.rows(Category::J))?;
            value.ranges(Ranges::same_labels(&i, &j)?)
        }
        _ => value,
    };
    bound.check_results(&value)?;
    let cotangent = extra.pop().flatten();
    let mut views = bound.views();
    let (f, ones);
    match &c.gradient {
        None => f = value,
        Some(name) => {
            f = value.vjp(name).about("--gradient")?;
            match &cotangent {
                Some(table) => views.push(table.view()),
                None => {
                    ones = ones_like(&value, &bound)?;
                    views.push(view_of(&ones)?);
                }
            }
        }
    }
    if to_indices.is_some() && f.computation().outputs().len() < 2 {
        return usage(format!(
            "--indices: {} has one result, which goes to --output",
            c.reduction.reduction
        ));
    }
    bound.check_results(&f)?;
    let start = Instant::now();
    let results = f.run(&views)?;
    let seconds = start.elapsed().as_secs_f64();
    let mut reports = vec![];
    let single = results.len() == 1;
    for values in results {
        let values = in_type(values, bound.dtype())?;
        let to = match (single, &values) {
            (false, Buffer::I64(_)) => to_indices.as_ref(),
            _ => to.as_ref(),
        };
        // What goes to a file is not followed by the rest on the screen.
        if !single && to.is_none() && (c.output.is_some() || c.indices.is_some()) {
            let (what, option) = match &values {
                Buffer::I64(_) => ("indices", "--indices"),
                _ => ("values", "--output"),
            };
            session.note(&format!("note: the {what} are not kept: {option} FILE keeps them"));
            continue;
        }
        reports.push(deliver(session, to, &values)?);
    }
    if session.json {
        say(&json!({"results": reports, "seconds": seconds}).to_string())?;
    }
    Ok(())
}

/// The cotangent of the sum of all entries.
fn ones_like(value: &Genred, bound: &Bound) -> Done<Buffer> {
    if bound.batched() {
        return error("--cotangent FILE is needed where arrays have batches");
    }
    let [out] = value.computation().outputs() else {
        return error("a reduction of several results has no gradient here: Min, say, has one");
    };
    let category = value.computation().graph().info(out.port).category;
    let mut shape = vec![bound.rows(category).unwrap_or(1)];
    shape.extend(&out.row);
    macro_rules! ones {
        ($t:ty) => {
            <$t>::buffer(ArrayD::from_elem(shape, <$t>::of_f64(1.0)))
        };
    }
    Ok(match bound.dtype() {
        keops::data::DType::F16 => ones!(half::f16),
        keops::data::DType::BF16 => ones!(half::bf16),
        keops::data::DType::F32 => ones!(f32),
        keops::data::DType::F64 => ones!(f64),
    })
}
fn view_of(values: &Buffer) -> Done<ArgView<'_>> {
    values.view().ok_or_else(|| Failure::Error("indices are no argument".into()))
}
