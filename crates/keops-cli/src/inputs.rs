//! Formulas and the arrays that their variables are bound to.

use crate::data::{self, Table, TypeName};
use crate::failure::{About, Done, Failure, error, usage};
use crate::memory;
use crate::session::Genred;
use keops::data::{ArgView, DType};
use keops::genred::Reduce;
use keops::graph::Category;
use keops::outer::OutputDef;
use keops::spec::Axis;
use std::path::Path;

/// The reduction and its axis, by name.
#[derive(clap::Args, Clone, Debug)]
pub struct Reduction {
    /// Reduction: Sum, Mean, LogSumExp, Min, ArgMin, ArgKMin, ... (any name of docs/operations.md)
    #[arg(long, short, default_value = "Sum", value_name = "NAME")]
    pub reduction: String,
    /// Number of winners, for KMin, ArgKMin and KMinArgKMin
    #[arg(long, short)]
    pub k: Option<usize>,
    /// Second formula, for weighted reductions
    #[arg(long, value_name = "FORMULA")]
    pub weight: Option<String>,
    /// Index that is reduced over
    #[arg(long, value_enum, default_value_t = AxisName::J)]
    pub axis: AxisName,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum AxisName {
    I,
    J,
}
impl From<AxisName> for Axis {
    fn from(name: AxisName) -> Axis {
        match name {
            AxisName::I => Axis::I,
            AxisName::J => Axis::J,
        }
    }
}

impl Reduction {
    pub fn of(&self, formula: &str, aliases: &[String]) -> Done<Genred> {
        let reduce = Reduce::named(&self.reduction, self.k)
            .map_err(|e| Failure::Error(format!("--reduction, --k: {e}")))?;
        Ok(match &self.weight {
            None => Genred::new(formula, aliases, reduce, self.axis.into())?,
            Some(w) => Genred::weighted(formula, w, aliases, reduce, self.axis.into())?,
        })
    }
}

/// Arrays for the variables of a formula.
#[derive(clap::Args, Clone, Debug)]
pub struct Inputs {
    /// A variable with rows i, from a file: .npy, .csv, .tsv or .txt; (M, dim) or (M)
    #[arg(long, value_name = "NAME=FILE")]
    pub vi: Vec<String>,
    /// A variable with rows j: (N, dim) or (N)
    #[arg(long, value_name = "NAME=FILE")]
    pub vj: Vec<String>,
    /// A parameter, from a file or given here: 0.5 or 1,2,3
    #[arg(long, value_name = "NAME=FILE|NUMBERS", allow_hyphen_values = true)]
    pub pm: Vec<String>,
    /// Type to compute in [default: that of the .npy files, or f64 for text]
    #[arg(long, value_enum, value_name = "TYPE")]
    pub dtype: Option<TypeName>,
}

/// Variables with their arrays, which are all of one type.
#[derive(Debug)]
pub struct Bound {
    variables: Vec<(String, Category)>,
    tables: Vec<Table>,
}

impl Inputs {
    /// Reads the files, and with them others of the same type that belong to no variable.
    pub fn read(&self, others: &[Option<&Path>]) -> Done<(Bound, Vec<Option<Table>>)> {
        let (mut variables, mut tables): (Vec<(String, Category)>, Vec<Table>) = (vec![], vec![]);
        for (option, given, category) in [
            ("--vi", &self.vi, Category::I),
            ("--vj", &self.vj, Category::J),
            ("--pm", &self.pm, Category::Param),
        ] {
            for binding in given {
                let Some((name, value)) = binding.split_once('=') else {
                    return usage(format!(
                        "{option} {binding}: expected NAME=FILE, such as {option} x=points.npy"
                    ));
                };
                let (name, value) = (name.trim(), value.trim());
                if let Some(twice) = variables.iter().find(|(n, _)| n == name) {
                    return usage(format!("{option} {binding}: `{}` is given twice", twice.0));
                }
                let table = match (category, data::literal(value)) {
                    (Category::Param, Some(table)) => table,
                    _ => data::read(Path::new(value))
                        .map_err(|e| named(e, &format!("{option} {name}")))?,
                };
                variables.push((name.into(), category));
                tables.push(table);
            }
        }
        for path in others.iter().flatten() {
            tables.push(data::read(path)?);
        }
        let mut tables = data::unify(tables, self.dtype.map(DType::from))?;
        let mut extra = tables.split_off(variables.len()).into_iter();
        let extra = others.iter().map(|o| o.and_then(|_| extra.next())).collect();
        let bound = Bound { variables, tables };
        let bytes = bound.tables.iter().map(Table::bytes).fold(0, u64::saturating_add);
        memory::check("the arguments together", bytes)?;
        Ok((bound, extra))
    }
}

fn named(e: Failure, what: &str) -> Failure {
    match e {
        Failure::Error(m) => Failure::Error(format!("{what}: {m}")),
        other => other,
    }
}

impl Bound {
    /// Declarations of the variables, of the dimensions that the arrays have.
    pub fn aliases(&self) -> Vec<String> {
        let all = self.variables.iter().zip(&self.tables);
        all.map(|((name, category), table)| {
            let shape = table.shape();
            let dim = match (category, &shape[..]) {
                (_, []) => 1,
                (Category::Param, [.., dim]) => *dim,
                (_, [_]) => 1,
                (_, [.., dim]) => *dim,
            };
            format!("{name} = {}({dim})", category.keyword())
        })
        .collect()
    }
    pub fn views(&self) -> Vec<ArgView<'_>> {
        self.tables.iter().map(Table::view).collect()
    }
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }
    /// The type of all arrays.
    pub fn dtype(&self) -> DType {
        self.tables.first().map_or(DType::F64, Table::dtype)
    }
    /// Rows of that index; none where no array has them.
    pub fn rows(&self, category: Category) -> Option<usize> {
        let mut own = self.variables.iter().zip(&self.tables).filter(|((_, c), _)| *c == category);
        own.find_map(|(_, table)| match table.shape()[..] {
            [rows] => Some(rows),
            [.., rows, _] => Some(rows),
            [] => None,
        })
    }
    /// Are there batches?
    pub fn batched(&self) -> bool {
        let all = self.variables.iter().zip(&self.tables);
        let axes = |c: Category| if c == Category::Param { 1 } else { 2 };
        all.into_iter().any(|((_, category), table)| table.shape().len() > axes(*category))
    }
    /// Would the results fit into memory?
    pub fn check_results(&self, f: &Genred) -> Done {
        let computation = f.computation();
        let bytes = |(k, out): (usize, &OutputDef)| {
            let rows = self.rows(computation.graph().info(out.port).category).unwrap_or(1);
            let size = if computation.is_index(k) { 8 } else { self.dtype().compute().bytes() };
            let extents = out.row.iter().chain([&rows, &size]);
            extents.fold(1u64, |n, extent| n.saturating_mul(*extent as u64))
        };
        let all = computation.outputs().iter().enumerate().map(bytes);
        memory::check("the result", all.fold(0, u64::saturating_add))
    }
}

/// Variables declared without arrays: `x = Vi(3)`.
pub fn declared(aliases: &[String]) -> Done<Vec<String>> {
    match aliases.iter().find(|a| !a.contains('=')) {
        Some(wrong) => usage(format!("{wrong:?}: expected a declaration such as \"x = Vi(3)\"")),
        None => Ok(aliases.to_vec()),
    }
}

/// Labels of rows, which have to ascend.
pub fn labels(path: &Path, option: &str) -> Done<Vec<i64>> {
    let labels = data::read(path)?.labels().map_err(|e| named(e, option))?;
    if let Some(k) = labels.windows(2).position(|w| w[0] > w[1]) {
        return error(format!(
            "{option}: {}: labels have to ascend, but row {} has {} after {}: sort the rows of all arrays \
             by label",
            path.display(),
            k + 1,
            labels[k + 1],
            labels[k]
        ));
    }
    Ok(labels)
}

/// A number of rows that an option's file must have.
pub fn expect_rows(what: &str, got: usize, rows: Option<usize>) -> Done {
    match rows {
        Some(rows) if rows != got => Err(format!("expected {rows} rows, got {got}")).about(what),
        _ => Ok(()),
    }
}
