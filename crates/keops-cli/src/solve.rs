//! `keops solve`: kernel systems (K + ridge I) a = b.

use crate::data;
use crate::failure::{About, Done, Failure, error, usage};
use crate::inputs::Inputs;
use crate::results::{deliver, destination};
use crate::session::{Chosen, Session, catch_interruption, interrupted, say};
use indicatif::{ProgressBar, ProgressStyle};
use keops::data::{Buffer, DType, Element, HostView};
use keops::linalg::{
    Jacobi, KernelOperator, Method, PivotedCholesky, Preconditioner, SolveError, SolveInfo,
    SolveOptions,
};
use keops::prelude::{Over, Sum};
use ndarray::{ArrayD, ArrayViewD, Axis};
use serde_json::{Value, json};
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  # kernel ridge regression: (K + 0.1 I) a = b
  keops solve 'Exp(-SqDist(x, y)) * b' --vi x=x.npy --vj y=x.npy \\
      --rhs b=b.npy --ridge 0.1 -o a.npy

  # an ill-conditioned system, with a preconditioner
  keops solve 'Exp(-SqDist(x, y) / 0.09) * b' --vi x=x.npy --vj y=x.npy \\
      --rhs b=b.npy --ridge 1e-3 --preconditioner cholesky --rank 300

Exit code 3: a right-hand side was not solved to the tolerance; what was reached
is written all the same, and the report has its residual.";

/// Solve a kernel system (K + ridge I) a = b by conjugate gradients or MINRES
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Command {
    /// Formula that is linear in the variable of --rhs
    #[arg(allow_hyphen_values = true)]
    formula: String,
    #[command(flatten)]
    inputs: Inputs,
    /// Right-hand sides, a column each: the variable that the matrix is applied to
    #[arg(long, value_name = "NAME=FILE")]
    rhs: String,
    /// What is added to the diagonal
    #[arg(long, default_value_t = 1e-10, allow_negative_numbers = true)]
    ridge: f64,
    /// Largest residual relative to the right-hand side
    #[arg(long, default_value_t = 1e-6, allow_negative_numbers = true)]
    tolerance: f64,
    /// Most iterations [default: ten times the number of unknowns]
    #[arg(long, value_name = "N")]
    max_iterations: Option<usize>,
    /// Method: MINRES also takes symmetric matrices that are indefinite
    #[arg(long, value_enum, default_value_t = MethodName::Cg)]
    method: MethodName,
    /// Preconditioner
    #[arg(long, value_enum, default_value_t = PreconditionerName::None, value_name = "NAME")]
    preconditioner: PreconditionerName,
    /// Rank of the pivoted Cholesky factor [default: chosen]
    #[arg(long)]
    rank: Option<usize>,
    /// File of the solution (.npy, .csv, .tsv or .txt) [default: printed]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum MethodName {
    Cg,
    Minres,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum PreconditionerName {
    None,
    Jacobi,
    Cholesky,
}

pub fn run(c: &Command, session: &Session) -> Done {
    let to = c.output.as_deref().map(|p| destination(p, session)).transpose()?;
    let Some((name, file)) = c.rhs.split_once('=') else {
        return usage(format!("--rhs {}: expected NAME=FILE, such as b=values.npy", c.rhs));
    };
    if c.rank.is_some() && c.preconditioner != PreconditionerName::Cholesky {
        return usage("--rank is an option of --preconditioner cholesky");
    }
    let file = PathBuf::from(file);
    let (bound, mut extra) = c.inputs.read(&[Some(&file)])?;
    let Some(b) = extra.pop().flatten() else { return error("--rhs: no right-hand side") };
    let b = match b.dtype() {
        // Sums in half precision do not solve anything.
        DType::F16 | DType::BF16 => return usage("--dtype f32 or f64: systems need it"),
        _ => b,
    };
    let shape = b.shape();
    let columns = match shape[..] {
        [] => return error(format!("{}: expected (rows) or (rows, columns)", file.display())),
        [_] => 1,
        [.., columns] => columns,
    };
    let mut aliases = bound.aliases();
    aliases.push(format!("{name} = Vj({columns})"));
    let sum = crate::session::Genred::new(&c.formula, &aliases, Sum, Over::J)?;
    let views: Vec<HostView<'_>> = bound.tables().iter().map(data::Table::host).collect();
    catch_interruption()?;
    match b.host() {
        HostView::F32(b) => {
            let all = views.iter().map(|v| if let HostView::F32(v) = v { Some(v) } else { None });
            solve::<f32>(c, session, name, &sum, all.collect(), b, to.as_ref())
        }
        HostView::F64(b) => {
            let all = views.iter().map(|v| if let HostView::F64(v) = v { Some(v) } else { None });
            solve::<f64>(c, session, name, &sum, all.collect(), b, to.as_ref())
        }
        _ => error("--rhs: expected f32 or f64"),
    }
}

fn solve<T: Element>(
    c: &Command,
    session: &Session,
    name: &str,
    sum: &crate::session::Genred,
    args: Option<Vec<&ArrayViewD<'_, T>>>,
    b: ArrayViewD<'_, T>,
    to: Option<&crate::session::Destination>,
) -> Done {
    let Some(args) = args else { return error("arrays are of different types") };
    let k: KernelOperator<'_, Chosen> = KernelOperator::new(sum, name, &args[..])?;
    let method = match c.method {
        MethodName::Cg => Method::ConjugateGradients,
        MethodName::Minres => Method::Minres,
    };
    let mut options = SolveOptions::ridge(c.ridge);
    (options.tolerance, options.max_iterations, options.method) =
        (c.tolerance, c.max_iterations, method);
    let start = Instant::now();
    let preconditioner: Option<Box<dyn Preconditioner>> = match (c.preconditioner, c.rank) {
        (PreconditionerName::None, _) => None,
        (PreconditionerName::Jacobi, _) => {
            Some(Box::new(Jacobi::new(&k).about("--preconditioner")?))
        }
        (PreconditionerName::Cholesky, None) => {
            Some(Box::new(PivotedCholesky::automatic(&k, c.ridge).about("--preconditioner")?))
        }
        (PreconditionerName::Cholesky, Some(rank)) => {
            Some(Box::new(PivotedCholesky::new(&k, rank).about("--rank")?))
        }
    };
    let bar = match session.shows_progress() {
        true => ProgressBar::new_spinner(),
        false => ProgressBar::hidden(),
    };
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}")?);
    let mut solver = k.solver().options(options).observe(|p| {
        bar.set_message(format!("iteration {}, residual {:.1e}", p.iteration, p.residual()));
        bar.tick();
        if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Some(p) = &preconditioner {
        solver = solver.preconditioner(&**p);
    }
    // A column of its own for (rows): the solution is given back as the values came.
    let flat = b.ndim() == 1;
    let b = if flat { b.insert_axis(Axis(1)) } else { b };
    let done = solver.solve(&b);
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    let finish = |value: &ArrayD<T>, info: &SolveInfo| -> Done {
        let value = value.clone();
        let value = if flat { value.index_axis_move(Axis(1), 0) } else { value };
        let own = deliver(session, to, &T::buffer(value))?;
        let report = json!({"solution": own, "report": in_json(info), "seconds": seconds});
        if session.json {
            return say(&report.to_string());
        }
        session.note(&in_words(info, seconds));
        Ok(())
    };
    match done {
        Ok(solution) => finish(&solution.value, &solution.info),
        Err(e) => {
            if let Some(partial) = e.partial() {
                let value = T::take(Buffer::F64(partial.solution.clone()))?;
                finish(&value, &partial.info)?;
            }
            // (As the option is called here.)
            let told = e.to_string().replace("Method::Minres", "--method minres");
            Err(match e {
                SolveError::Cancelled { .. } => Failure::Interrupted,
                SolveError::IterationLimit { .. }
                | SolveError::Stagnated { .. }
                | SolveError::Singular { .. } => Failure::NotConverged(told),
                _ => Failure::Error(told),
            })
        }
    }
}

fn in_json(info: &SolveInfo) -> Value {
    let systems: Vec<Value> = (info.systems.iter())
        .map(|s| {
            json!({
                "system": s.system.to_string(),
                "iterations": s.iterations,
                "residual": s.residual,
                "condition": s.condition(),
                "reason": format!("{:?}", s.reason),
            })
        })
        .collect();
    json!({
        "converged": info.converged(),
        "iterations": info.iterations,
        "products": info.products,
        "residual": info.residual(),
        "systems": systems,
    })
}

/// Systems that a table lists; --json has all.
const SYSTEMS_SHOWN: usize = 20;

fn in_words(info: &SolveInfo, seconds: f64) -> String {
    let mut text = format!(
        "{} iterations, {} products, {seconds:.3} s\n{:<32} {:>10} {:>10} {:>10}  end",
        info.iterations, info.products, "system", "iterations", "residual", "condition"
    );
    // Writing to a string does not fail.
    for s in info.systems.iter().take(SYSTEMS_SHOWN) {
        let _ = write!(
            text,
            "\n{:<32} {:>10} {:>10.2e} {:>10.1e}  {:?}",
            s.system.to_string(),
            s.iterations,
            s.residual,
            s.condition(),
            s.reason
        );
    }
    if info.systems.len() > SYSTEMS_SHOWN {
        let _ = write!(text, "\n… and {} more", info.systems.len() - SYSTEMS_SHOWN);
    }
    text
}
