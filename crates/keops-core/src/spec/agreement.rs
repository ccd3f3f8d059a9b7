//! The sizes that arguments must agree on: numbers of rows, and batch shapes, which broadcast.

use crate::error::InputError;
use crate::graph::Category;
use std::fmt::Display;

/// The extent of a batch axis of which two arguments have these extents.
fn common(a: usize, b: usize) -> Option<usize> {
    match (a, b) {
        (a, 1) => Some(a),
        (1, b) => Some(b),
        _ => (a == b).then_some(a),
    }
}

/// Broadcasts batch shapes, aligned at the last axis: extents are equal, or one of them is 1. `None`
/// where they disagree.
///
/// ```
/// use keops_core::spec::broadcast;
/// assert_eq!(broadcast(&[5, 1], &[3]), Some(vec![5, 3]));
/// assert_eq!(broadcast(&[5], &[3]), None);
/// ```
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let n = a.len().max(b.len());
    let at = |s: &[usize], k: usize| if k + s.len() < n { 1 } else { s[k + s.len() - n] };
    (0..n).map(|k| common(at(a, k), at(b, k))).collect()
}

/// What the arguments so far agree on, each size with the name of the first argument that gave it.
pub(crate) struct Agreement<'n, N: ?Sized> {
    rows: [Option<(usize, &'n N)>; 2],
    /// From the last axis on.
    batch: Vec<(usize, &'n N)>,
}

impl<'n, N: Display + ?Sized> Agreement<'n, N> {
    /// One that nothing was said of but these numbers of rows of `i` and `j`.
    pub fn new(rows: [Option<(usize, &'n N)>; 2]) -> Self {
        Agreement { rows, batch: vec![] }
    }
    /// The number of rows of a category.
    pub fn rows_of(&self, category: Category) -> Option<usize> {
        self.rows[(category == Category::J) as usize].map(|(n, _)| n)
    }
    /// An argument of this category has this many rows.
    pub fn rows(&mut self, name: &'n N, category: Category, got: usize) -> Result<(), InputError> {
        match &mut self.rows[(category == Category::J) as usize] {
            Some((expected, other)) if *expected != got => {
                Err(disagree(name, "rows", (*expected, *other), got))
            }
            Some(_) => Ok(()),
            slot => {
                *slot = Some((got, name));
                Ok(())
            }
        }
    }
    /// An argument has these batch axes.
    pub fn batch(&mut self, name: &'n N, axes: &[usize]) -> Result<(), InputError> {
        for (k, &got) in axes.iter().rev().enumerate() {
            if k == self.batch.len() {
                self.batch.push((1, name));
            }
            let (extent, other) = &mut self.batch[k];
            match common(*extent, got) {
                None => return Err(disagree(name, "batch elements", (*extent, *other), got)),
                Some(both) if both != *extent => (*extent, *other) = (both, name),
                Some(_) => {}
            }
        }
        Ok(())
    }
    /// The batch shape of all.
    pub fn batch_shape(&self) -> Vec<usize> {
        self.batch.iter().rev().map(|(extent, _)| *extent).collect()
    }
}

/// The error of an argument that has another size than an earlier one.
pub(crate) fn disagree<N: Display + ?Sized, O: Display + ?Sized>(
    name: &N,
    what: &str,
    (expected, other): (usize, &O),
    got: usize,
) -> InputError {
    let (name, what, other) = (name.to_string(), what.into(), other.to_string());
    InputError::Disagree { name, what, other, expected, got }
}

/// The shapes that an argument of a category and a shape of rows may have.
pub(crate) fn shapes_of(category: Category, row: &[usize]) -> String {
    let letter = match category {
        Category::I => "M, ",
        Category::J => "N, ",
        Category::Param => "",
    };
    let row: Vec<_> = row.iter().map(|d| d.to_string()).collect();
    let row = row.join(", ");
    format!("shape ({letter}{row}) or (batches…, {letter}{row})")
}
