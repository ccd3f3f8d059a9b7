//! Arrays in files: NumPy's .npy, mapped into memory, and text.

mod npy;
mod text;

pub use npy::{Entry, bytes_of, write_npy};

use crate::failure::{Done, Failure, error};
use crate::memory;
use half::{bf16, f16};
use keops::data::{ArgView, Buffer, DType, Element, HostView};
use ndarray::{Array1, Array2, ArrayD, ArrayViewD, IxDyn};
use std::path::Path;

/// An array of numbers, from a file or the command line.
#[derive(Debug)]
pub struct Table {
    /// What it is called in errors.
    pub source: String,
    store: Store,
    /// Has it a floating-point type of its own? Text and integers take that of the others.
    firm: bool,
}

#[derive(Debug)]
enum Store {
    Mapped(npy::Mapped),
    Owned(Buffer),
}

/// Reads a file by its extension.
pub fn read(path: &Path) -> Done<Table> {
    let source = path.display().to_string();
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "npy" => {
            let (store, firm) = match npy::open(path)? {
                npy::Opened::Mapped(m) => (Store::Mapped(m), true),
                npy::Opened::Converted { values, firm } => (Store::Owned(values), firm),
            };
            Ok(Table { source, store, firm })
        }
        "csv" | "txt" | "tsv" => {
            let values = Buffer::F64(text::read(path)?.into_dyn());
            Ok(Table { source, store: Store::Owned(values), firm: false })
        }
        _ => error(format!("{source}: expected a .npy, .csv, .tsv or .txt file")),
    }
}

/// Numbers in the command line, such as `0.5` or `1,2,3`; `None` if it is not that.
pub fn literal(text: &str) -> Option<Table> {
    let numbers: Result<Vec<f64>, _> = text.split(',').map(|v| v.trim().parse()).collect();
    let values = Buffer::F64(Array1::from_vec(numbers.ok()?).into_dyn());
    Some(Table { source: text.into(), store: Store::Owned(values), firm: false })
}

impl Table {
    /// As an argument. Indices are no argument: they are converted when they are read.
    pub fn host(&self) -> HostView<'_> {
        match &self.store {
            Store::Mapped(m) => m.view(),
            Store::Owned(Buffer::F16(a)) => HostView::F16(a.view()),
            Store::Owned(Buffer::BF16(a)) => HostView::BF16(a.view()),
            Store::Owned(Buffer::F32(a)) => HostView::F32(a.view()),
            Store::Owned(Buffer::F64(a)) => HostView::F64(a.view()),
            Store::Owned(Buffer::I64(_)) => HostView::F64(empty()),
        }
    }
    pub fn view(&self) -> ArgView<'_> {
        self.host().into()
    }
    pub fn shape(&self) -> Vec<usize> {
        self.host().shape().to_vec()
    }
    pub fn dtype(&self) -> DType {
        self.host().dtype()
    }
    pub fn bytes(&self) -> u64 {
        let elements: u64 = self.shape().iter().map(|n| *n as u64).product();
        elements.saturating_mul(self.dtype().bytes() as u64)
    }
    /// The same in another type.
    pub fn converted(self, dtype: DType) -> Done<Table> {
        if self.dtype() == dtype {
            return Ok(self);
        }
        let bytes = self.bytes() / self.dtype().bytes() as u64 * dtype.bytes() as u64;
        memory::check(&format!("{} as {}", self.source, dtype.name()), bytes)?;
        let values = match dtype {
            DType::F16 => Buffer::F16(cast(&self.host())?),
            DType::BF16 => Buffer::BF16(cast(&self.host())?),
            DType::F32 => Buffer::F32(cast(&self.host())?),
            DType::F64 => Buffer::F64(cast(&self.host())?),
        };
        Ok(Table { store: Store::Owned(values), ..self })
    }
    /// A matrix of f64: one row for each point, also where points are numbers.
    pub fn matrix(self) -> Done<Array2<f64>> {
        let (source, shape) = (self.source.clone(), self.shape());
        let values = cast::<f64>(&self.host())?;
        let wrong = || format!("{source}: expected a table (rows, columns), got shape {shape:?}");
        let rows = match shape[..] {
            [rows] => (rows, 1),
            [rows, columns] => (rows, columns),
            _ => return error(wrong()),
        };
        values.into_shape_with_order(rows).map_err(|_| Failure::Error(wrong()))
    }
    /// Numbers, one for each row.
    pub fn vector(self) -> Done<Array1<f64>> {
        let (source, shape) = (self.source.clone(), self.shape());
        let values = cast::<f64>(&self.host())?;
        match shape[..] {
            [rows] | [rows, 1] => values
                .into_shape_with_order(rows)
                .map_err(|e| Failure::Error(format!("{source}: {e}"))),
            _ => error(format!("{source}: expected one number for each row, got shape {shape:?}")),
        }
    }
    /// Whole numbers, one for each row.
    pub fn labels(self) -> Done<Vec<i64>> {
        let source = self.source.clone();
        let whole = |v: f64| v.fract() == 0.0 && v.abs() < 9e15;
        let labels = self.vector()?;
        match labels.iter().position(|v| !whole(*v)) {
            None => Ok(labels.iter().map(|v| *v as i64).collect()),
            Some(k) => {
                error(format!("{source}: expected whole numbers, got {} at row {k}", labels[k]))
            }
        }
    }
}

fn empty<T>() -> ArrayViewD<'static, T> {
    ArrayViewD::from_shape(IxDyn(&[0]), &[]).unwrap_or_else(|_| unreachable!("nothing fits"))
}

/// Converts entry by entry, rounding to the nearest.
fn cast<T: Element>(view: &HostView<'_>) -> Done<ArrayD<T>> {
    fn each<S: Element, T: Element>(view: &ArrayViewD<'_, S>) -> Done<ArrayD<T>> {
        let mut values: Vec<T> = memory::room(view.len())?;
        values.extend(view.iter().map(|v| T::of_f64(v.to_f64())));
        Ok(ArrayD::from_shape_vec(view.raw_dim(), values)?)
    }
    match view {
        HostView::F16(v) => each::<f16, T>(v),
        HostView::BF16(v) => each::<bf16, T>(v),
        HostView::F32(v) => each::<f32, T>(v),
        HostView::F64(v) => each::<f64, T>(v),
    }
}

/// Element types by name, for options.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum TypeName {
    F16,
    Bf16,
    F32,
    F64,
}
impl From<TypeName> for DType {
    fn from(name: TypeName) -> DType {
        match name {
            TypeName::F16 => DType::F16,
            TypeName::Bf16 => DType::BF16,
            TypeName::F32 => DType::F32,
            TypeName::F64 => DType::F64,
        }
    }
}

/// Makes all tables one type: what was asked for, or that of the arrays that have one, or f64.
pub fn unify(tables: Vec<Table>, asked: Option<DType>) -> Done<Vec<Table>> {
    let mut firm = tables.iter().filter(|t| t.firm);
    let dtype = match (asked, firm.next()) {
        (Some(dtype), _) => dtype,
        (None, None) => DType::F64,
        (None, Some(first)) => {
            if let Some(other) = firm.find(|t| t.dtype() != first.dtype()) {
                return error(format!(
                    "{} is {}, but {} is {}: --dtype f32 or f64 converts all",
                    first.source,
                    first.dtype().name(),
                    other.source,
                    other.dtype().name()
                ));
            }
            first.dtype()
        }
    };
    tables.into_iter().map(|t| t.converted(dtype)).collect()
}
