//! Results as files and as text.

use crate::data::{Entry, bytes_of, write_npy};
use crate::failure::{Done, error};
use crate::session::{Destination, Session, print_with};
use keops::data::{Buffer, DType, Element};
use ndarray::ArrayD;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::Path;

/// A file for an array, in a format that there is.
pub fn destination(path: &Path, session: &Session) -> Done<Destination> {
    let to = Destination::new(path, session)?;
    match to.extension().as_str() {
        "npy" | "csv" | "tsv" | "txt" => Ok(to),
        _ if path.metadata().is_ok_and(|m| !m.is_file()) => Ok(to), // a device: text
        _ => error(format!("{}: expected a .npy, .csv, .tsv or .txt file", path.display())),
    }
}

/// Writes an array.
pub fn write(to: &Destination, values: &Buffer) -> Done {
    if to.extension() == "npy" {
        let (descr, bytes) = bytes_of(values)?;
        let entry = Entry { descr, shape: shape(values), bytes: &bytes };
        return to.write(|file| write_npy(file, &entry));
    }
    let separator = match to.extension().as_str() {
        "tsv" => "\t",
        "txt" => " ",
        _ => ",",
    };
    to.write(|file| {
        let mut out = BufWriter::new(file);
        write_text(&mut out, values, separator, usize::MAX)?;
        out.flush()
    })
}

/// Of f16 data results come in f16 too.
pub fn in_type(values: Buffer, dtype: DType) -> Done<Buffer> {
    match (&values, dtype) {
        (Buffer::I64(_), _) => Ok(values),
        (_, DType::F16) => Ok(half::f16::buffer(half::f16::take(values)?)),
        _ => Ok(values),
    }
}

pub fn shape(values: &Buffer) -> &[usize] {
    match values {
        Buffer::F16(a) => a.shape(),
        Buffer::BF16(a) => a.shape(),
        Buffer::F32(a) => a.shape(),
        Buffer::F64(a) => a.shape(),
        Buffer::I64(a) => a.shape(),
    }
}
pub fn type_name(values: &Buffer) -> &'static str {
    match values {
        Buffer::F16(_) => "f16",
        Buffer::BF16(_) => "bf16",
        Buffer::F32(_) => "f32",
        Buffer::F64(_) => "f64",
        Buffer::I64(_) => "i64",
    }
}

/// How many entries are NaN.
pub fn count_nan(values: &Buffer) -> usize {
    match values {
        Buffer::F16(a) => a.iter().filter(|v| v.is_nan()).count(),
        Buffer::BF16(a) => a.iter().filter(|v| v.is_nan()).count(),
        Buffer::F32(a) => a.iter().filter(|v| v.is_nan()).count(),
        Buffer::F64(a) => a.iter().filter(|v| v.is_nan()).count(),
        Buffer::I64(_) => 0,
    }
}

fn write_text(
    out: &mut dyn Write,
    values: &Buffer,
    separator: &str,
    most: usize,
) -> std::io::Result<()> {
    fn lines<T: Copy, V: Debug>(
        out: &mut dyn Write,
        values: &ArrayD<T>,
        separator: &str,
        most: usize,
        value: impl Fn(T) -> V,
    ) -> std::io::Result<()> {
        // A vector is a column.
        let columns = if values.ndim() > 1 { values.shape()[values.ndim() - 1] } else { 1 };
        for (k, v) in values.iter().enumerate().take(columns.saturating_mul(most)) {
            let before = if k.is_multiple_of(columns) { "" } else { separator };
            let after = if (k + 1).is_multiple_of(columns) { "\n" } else { "" };
            write!(out, "{before}{:?}{after}", value(*v))?;
        }
        Ok(())
    }
    match values {
        Buffer::F16(a) => lines(out, a, separator, most, |v| v.to_f32()),
        Buffer::BF16(a) => lines(out, a, separator, most, |v| v.to_f32()),
        Buffer::F32(a) => lines(out, a, separator, most, |v| v),
        Buffer::F64(a) => lines(out, a, separator, most, |v| v),
        Buffer::I64(a) => lines(out, a, separator, most, |v| v),
    }
}

/// Rows that a terminal gets; files and pipes get all.
const ROWS_SHOWN: usize = 20;

/// Prints an array, one row a line.
pub fn print(session: &Session, values: &Buffer) -> Done {
    let shape = shape(values);
    let rows: usize = match shape {
        [rows] => *rows,
        [outer @ .., _] => outer.iter().product(),
        [] => 1,
    };
    let most = if std::io::stdout().is_terminal() { ROWS_SHOWN } else { usize::MAX };
    print_with(|out| write_text(out, values, " ", most))?;
    if rows > most {
        session.note(&format!("… and {} more rows: -o FILE keeps all", rows - most));
    }
    Ok(())
}

/// Nested lists; NaN and infinities are null.
pub fn nested(values: &Buffer) -> Value {
    fn nest<T>(a: ndarray::ArrayViewD<'_, T>, value: &impl Fn(&T) -> Value) -> Value {
        match a.ndim() {
            0 => a.iter().next().map_or(Value::Null, value),
            _ => a.outer_iter().map(|row| nest(row, value)).collect(),
        }
    }
    match values {
        Buffer::F16(a) => nest(a.view(), &|v| json!(v.to_f32())),
        Buffer::BF16(a) => nest(a.view(), &|v| json!(v.to_f32())),
        Buffer::F32(a) => nest(a.view(), &|v| json!(v)),
        Buffer::F64(a) => nest(a.view(), &|v| json!(v)),
        Buffer::I64(a) => nest(a.view(), &|v| json!(v)),
    }
}

/// Writes an array to its file, or prints it where there is none; what is said of it in JSON.
pub fn deliver(session: &Session, to: Option<&Destination>, values: &Buffer) -> Done<Value> {
    let mut own = json!({"shape": shape(values), "dtype": type_name(values)});
    let nan = count_nan(values);
    if nan > 0 {
        let all: usize = shape(values).iter().product();
        session.note(&format!("note: {nan} of {all} results are NaN"));
        own["nan"] = nan.into();
    }
    match to {
        Some(to) => {
            write(to, values)?;
            own["file"] = to.path().display().to_string().into();
            session.note(&format!(
                "{}: {} of shape {:?}",
                to.path().display(),
                type_name(values),
                shape(values)
            ));
        }
        None if session.json => own["values"] = nested(values),
        None => print(session, values)?,
    }
    Ok(own)
}
