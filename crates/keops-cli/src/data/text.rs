//! Numbers in text: columns separated by commas, semicolons, tabs or spaces; a line of names may
//! come first, and lines that begin with # are remarks.

use crate::failure::{About, Done, error};
use crate::memory;
use ndarray::Array2;
use std::path::Path;

pub fn read(path: &Path) -> Done<Array2<f64>> {
    let name = path.display();
    let size = std::fs::metadata(path).about(&name)?.len();
    memory::check(&name.to_string(), size)?;
    let text = std::fs::read_to_string(path).about(&name)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let (mut values, mut columns, mut rows) = (vec![], None, 0);
    let lines = text.lines().enumerate().filter(|(_, l)| {
        let l = l.trim();
        !l.is_empty() && !l.starts_with('#')
    });
    let mut separator = None;
    for (k, (number, line)) in lines.enumerate() {
        let line = line.trim_end_matches('\r');
        let by = *separator
            .get_or_insert_with(|| [',', ';', '\t'].into_iter().find(|c| line.contains(*c)));
        let cells: Vec<&str> = match by {
            Some(c) => line.split(c).map(str::trim).collect(),
            None => line.split_whitespace().collect(),
        };
        let numbers: Vec<Option<f64>> = cells.iter().map(|c| c.parse().ok()).collect();
        if k == 0 && numbers.iter().all(Option::is_none) {
            columns = Some(cells.len());
            continue; // names
        }
        let expected = *columns.get_or_insert(cells.len());
        let line = number + 1;
        if cells.len() != expected {
            return error(format!(
                "{name}: line {line} has {} columns, expected {expected} as before",
                cells.len()
            ));
        }
        for (column, (cell, number)) in cells.iter().zip(numbers).enumerate() {
            match number {
                Some(v) => values.push(v),
                None => {
                    return error(format!(
                        "{name}: line {line}, column {}: expected a number, got {cell:?}",
                        column + 1
                    ));
                }
            }
        }
        rows += 1;
    }
    match columns {
        Some(columns) => Ok(Array2::from_shape_vec((rows, columns), values)?),
        None => error(format!("{name}: has no numbers")),
    }
}
