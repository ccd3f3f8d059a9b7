//! `keops regress`: Gaussian processes, fitted and kept in a file.

use crate::data;
use crate::failure::{About, Done, Failure, error, usage};
use crate::results::{deliver, destination};
use crate::session::{Chosen, Destination, Session, say};
use keops::data::Buffer;
use keops::linalg::{FittedProcess, GaussianProcess};
use ndarray::{Array1, Array2, Axis};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;
use toml::{Table, Value};

const FIT_EXAMPLES: &str = "\
Examples:
  # a length for each column and the noise are fitted
  keops regress fit --x X.npy --y y.npy -o model.toml

  # a covariance of your own: its parameters with where to start
  keops regress fit --x X.csv --y y.csv --noise 0.1 -o model.toml \\
      --covariance 'v * Exp(-SqDist(x, y) / l)' --parameter v=1 --parameter l=2

Covariances are formulas of two points x and y and of parameters. The mean of y
is taken off before, and added to predictions. Time grows with the cube of the
number of points: up to some thousands.

Exit code 3: the likelihood is not stationary; the model is written.";

const PREDICT_EXAMPLES: &str = "\
Examples:
  keops regress predict model.toml --x new.npy
  keops regress predict model.toml --x new.npy -o mean.npy --variance var.npy";

/// Regression by Gaussian processes: fit, predict
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  keops regress fit --help\n  keops regress predict --help")]
pub struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum What {
    Fit(Fit),
    Predict(Predict),
}

/// Fit the parameters of a covariance to values at points, and keep the model
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = FIT_EXAMPLES)]
struct Fit {
    /// Points: (n, dim), .npy, .csv, .tsv or .txt
    #[arg(long)]
    x: PathBuf,
    /// Values: (n)
    #[arg(long)]
    y: PathBuf,
    /// Covariance
    #[arg(long, default_value = DEFAULT, value_name = "FORMULA", requires = "parameter",
          allow_hyphen_values = true)]
    covariance: String,
    /// A parameter of the covariance and where to start: l=1 or l=1,2,3
    #[arg(long, value_name = "NAME=NUMBERS")]
    parameter: Vec<String>,
    /// Variance of the noise to start from [default: a tenth of that of y]
    #[arg(long, allow_negative_numbers = true)]
    noise: Option<f64>,
    /// Take parameters and noise as they are
    #[arg(long)]
    fixed: bool,
    /// File of the model (.toml)
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// Predict means and variances at new points
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = PREDICT_EXAMPLES)]
struct Predict {
    /// A model of `keops regress fit`
    model: PathBuf,
    /// Points: (m, dim)
    #[arg(long)]
    x: PathBuf,
    /// Variances of measurements, noise included, not of the values without noise
    #[arg(long)]
    with_noise: bool,
    /// File of the means [default: means and variances are printed]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// File of the variances
    #[arg(long, value_name = "FILE")]
    variance: Option<PathBuf>,
}

/// A length for each column.
const DEFAULT: &str = "v * Exp(-SqDist(x / l, y / l) / 2)";

pub fn run(c: &Command, session: &Session) -> Done {
    match &c.what {
        What::Fit(c) => fit(c, session),
        What::Predict(c) => predict(c, session),
    }
}

fn process(
    covariance: &str,
    dim: usize,
    parameters: &[(String, Array1<f64>)],
) -> Done<GaussianProcess<Chosen>> {
    let mut aliases = vec![format!("x = Vi({dim})"), format!("y = Vj({dim})")];
    aliases.extend(parameters.iter().map(|(name, p)| format!("{name} = Pm({})", p.len())));
    GaussianProcess::new(covariance, aliases).about("--covariance")
}

fn fit(c: &Fit, session: &Session) -> Done {
    let to = Destination::new(&c.output, session)?;
    if to.extension() != "toml" {
        return usage(format!("--output: {}: expected a .toml file", c.output.display()));
    }
    let x = data::read(&c.x).and_then(data::Table::matrix)?;
    let y = data::read(&c.y).and_then(data::Table::vector)?;
    if y.len() != x.nrows() {
        return error(format!(
            "{}: expected a value for each of the {} points of {}, got {}",
            c.y.display(),
            x.nrows(),
            c.x.display(),
            y.len()
        ));
    }
    if y.is_empty() {
        return error(format!("{}: there are no points", c.x.display()));
    }
    let offset = y.sum() / y.len() as f64;
    let y = &y - offset;
    let spread = y.dot(&y) / y.len() as f64;
    // What does not vary cannot be fitted, but is no reason to start from zero.
    let or_one = |v: f64| if v > 0.0 && v.is_finite() { v } else { 1.0 };
    let mut parameters: Vec<(String, Array1<f64>)> = vec![];
    for given in &c.parameter {
        let read = given.split_once('=').and_then(|(name, value)| {
            Some((name.trim().to_string(), data::literal(value)?.vector().ok()?))
        });
        match read {
            Some(own) => parameters.push(own),
            None => {
                return usage(format!("--parameter {given}: expected NAME=NUMBERS, such as l=1,2"));
            }
        }
    }
    if parameters.is_empty() {
        let lengths = x.std_axis(Axis(0), 0.0).mapv(or_one);
        parameters =
            vec![("v".into(), Array1::from_elem(1, or_one(spread))), ("l".into(), lengths)];
    }
    let noise = c.noise.unwrap_or(0.1 * or_one(spread));
    let own = process(&c.covariance, x.ncols(), &parameters)?;
    let starts: Vec<Array1<f64>> = parameters.iter().map(|(_, p)| p.clone()).collect();
    let start = Instant::now();
    let fitted = match c.fixed {
        true => own.condition(&x, &y, &starts, noise)?,
        false => own.fit(&x, &y, &starts, noise)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    for ((_, p), found) in parameters.iter_mut().zip(fitted.parameters()) {
        p.assign(found);
    }
    let list = |a: &Array1<f64>| Value::Array(a.iter().map(|v| Value::Float(*v)).collect());
    let mut of = Table::new();
    of.extend(parameters.iter().map(|(name, p)| (name.clone(), list(p))));
    let order = parameters.iter().map(|(name, _)| Value::String(name.clone())).collect();
    let mut model = Table::new();
    model.insert("covariance".into(), Value::String(c.covariance.clone()));
    model.insert("order".into(), Value::Array(order));
    model.insert("noise".into(), Value::Float(fitted.noise()));
    model.insert("offset".into(), Value::Float(offset));
    model.insert("log_likelihood".into(), Value::Float(fitted.log_likelihood()));
    model.insert("y".into(), list(&y));
    let rows = x.rows().into_iter().map(|r| list(&r.to_owned())).collect();
    model.insert("x".into(), Value::Array(rows));
    model.insert("parameters".into(), Value::Table(of));
    to.write(|file| file.write_all(model.to_string().as_bytes()))?;
    let report = json!({
        "file": c.output.display().to_string(),
        "points": y.len(),
        "parameters": parameters.iter().map(|(n, p)| (n.clone(), p.to_vec().into()))
            .collect::<serde_json::Map<String, serde_json::Value>>(),
        "noise": fitted.noise(),
        "log_likelihood": fitted.log_likelihood(),
        "likelihoods": fitted.evaluations(),
        "converged": fitted.converged(),
        "seconds": seconds,
    });
    let mut text = format!(
        "{}: {} points, log-likelihood {:.6}, {} likelihoods in {seconds:.3} s",
        c.output.display(),
        y.len(),
        fitted.log_likelihood(),
        fitted.evaluations()
    );
    for (name, p) in &parameters {
        text += &format!("\n{name:<8} {p:.6}");
    }
    text += &format!("\nnoise    {:.6e}", fitted.noise());
    session.report(&report, &text)?;
    match fitted.converged() {
        true => Ok(()),
        false => Err(Failure::NotConverged(
            "the likelihood is not stationary: start elsewhere (--parameter, --noise)".into(),
        )),
    }
}

/// A model as it was kept.
struct Model {
    fitted: FittedProcess<Chosen>,
    dim: usize,
    offset: f64,
}

fn read_model(path: &Path) -> Done<Model> {
    let name = path.display();
    let text = std::fs::read_to_string(path).about(&name)?;
    let model: Table = text.parse().about(&name)?;
    let missing = |key: &str| {
        Failure::Error(format!(
            "{name}: `{key}` is missing or wrong: expected a model of `regress fit`"
        ))
    };
    let number = |v: &Value| match v {
        Value::Float(x) => Some(*x),
        Value::Integer(n) => Some(*n as f64),
        _ => None,
    };
    let vector = |v: &Value| -> Option<Array1<f64>> { v.as_array()?.iter().map(number).collect() };
    let get = |key: &str| model.get(key).ok_or_else(|| missing(key));
    let scalar = |key: &str| get(key).and_then(|v| number(v).ok_or_else(|| missing(key)));
    let covariance = get("covariance")?.as_str().ok_or_else(|| missing("covariance"))?;
    let y = vector(get("y")?).ok_or_else(|| missing("y"))?;
    let rows: Option<Vec<Array1<f64>>> =
        get("x")?.as_array().and_then(|rows| rows.iter().map(vector).collect());
    let rows = rows.ok_or_else(|| missing("x"))?;
    let dim = rows.first().map_or(0, |r| r.len());
    let flat: Vec<f64> = rows.iter().flatten().copied().collect();
    let x = Array2::from_shape_vec((rows.len(), dim), flat).map_err(|_| missing("x"))?;
    if rows.iter().any(|r| r.len() != dim) {
        return Err(missing("x"));
    }
    let of = get("parameters")?.as_table().ok_or_else(|| missing("parameters"))?;
    let order = get("order")?.as_array().ok_or_else(|| missing("order"))?;
    let parameters: Option<Vec<(String, Array1<f64>)>> = (order.iter())
        .map(|n| Some((n.as_str()?.to_string(), vector(of.get(n.as_str()?)?)?)))
        .collect();
    let parameters = parameters.ok_or_else(|| missing("order"))?;
    let values: Vec<Array1<f64>> = parameters.iter().map(|(_, p)| p.clone()).collect();
    let own = process(covariance, dim, &parameters).map_err(|e| about(e, path))?;
    let fitted = own.condition(&x, &y, &values, scalar("noise")?).about(&name)?;
    Ok(Model { fitted, dim, offset: scalar("offset")? })
}
fn about(e: Failure, path: &Path) -> Failure {
    Failure::Error(format!("{}: {}", path.display(), e.message().unwrap_or_default()))
}

fn predict(c: &Predict, session: &Session) -> Done {
    let to = c.output.as_deref().map(|p| destination(p, session)).transpose()?;
    let to_variance = c.variance.as_deref().map(|p| destination(p, session)).transpose()?;
    let model = read_model(&c.model)?;
    let x = data::read(&c.x).and_then(data::Table::matrix)?;
    if x.ncols() != model.dim {
        return error(format!(
            "{}: expected points of {} columns, as the model was fitted to, got {}",
            c.x.display(),
            model.dim,
            x.ncols()
        ));
    }
    let (mean, mut variance) = model.fitted.predict(&x).about(c.x.display())?;
    let mean = mean + model.offset;
    if c.with_noise {
        variance += model.fitted.noise();
    }
    let column = |a: &Array1<f64>| Buffer::F64(a.clone().into_dyn());
    let mut report = json!({"points": x.nrows()});
    if to.is_none() && to_variance.is_none() {
        if session.json {
            (report["mean"], report["variance"]) = (mean.to_vec().into(), variance.to_vec().into());
            return say(&report.to_string());
        }
        let both = ndarray::stack(Axis(1), &[mean.view(), variance.view()])?;
        session.note("mean variance");
        return crate::results::print(session, &Buffer::F64(both.into_dyn()));
    }
    if let Some(to) = &to {
        report["mean"] = deliver(session, Some(to), &column(&mean))?;
    }
    if let Some(to) = &to_variance {
        report["variance"] = deliver(session, Some(to), &column(&variance))?;
    }
    if session.json { say(&report.to_string()) } else { Ok(()) }
}
