//! Fallible memory. Everything that grows with the data is asked for here, so that what does not
//! fit is an error that says how much was needed, never an abort.

use crate::error::OutOfMemory;
use ndarray::{ArrayD, ArrayViewD, IxDyn};

/// The error for `len` elements that could not be had; `what` says what they were for.
///
/// ```
/// use keops_core::memory::refused;
/// assert_eq!(refused::<f64>(1000, "sums").to_string(), "out of memory: 8000 bytes for sums");
/// ```
pub fn refused<T>(len: usize, what: &str) -> OutOfMemory {
    OutOfMemory { what: what.into(), bytes: len.saturating_mul(size_of::<T>()) }
}

/// An empty vector with room for `len` elements.
///
/// # Errors
/// [`OutOfMemory`], with `what` in its text.
///
/// ```
/// use keops_core::memory::room;
/// assert!(room::<f32>(100, "tiles")?.capacity() >= 100);
/// assert_eq!(room::<f32>(usize::MAX, "tiles").unwrap_err().what, "tiles");
/// # Ok::<(), keops_core::error::OutOfMemory>(())
/// ```
pub fn room<T>(len: usize, what: &str) -> Result<Vec<T>, OutOfMemory> {
    let mut v = Vec::new();
    v.try_reserve_exact(len).map_err(|_| refused::<T>(len, what))?;
    Ok(v)
}

/// `len` times the same.
///
/// # Errors
/// [`OutOfMemory`], with `what` in its text.
///
/// ```
/// use keops_core::memory::filled;
/// assert_eq!(filled(3, 0.5, "weights")?, [0.5, 0.5, 0.5]);
/// # Ok::<(), keops_core::error::OutOfMemory>(())
/// ```
pub fn filled<T: Clone>(len: usize, value: T, what: &str) -> Result<Vec<T>, OutOfMemory> {
    let mut v = room(len, what)?;
    v.resize(len, value);
    Ok(v)
}

/// The elements of an iterator that knows how many there are.
///
/// # Errors
/// [`OutOfMemory`], with `what` in its text.
///
/// ```
/// use keops_core::memory::collected;
/// assert_eq!(collected((0..10).step_by(4), "starts of pieces")?, [0, 4, 8]);
/// # Ok::<(), keops_core::error::OutOfMemory>(())
/// ```
pub fn collected<T>(
    items: impl ExactSizeIterator<Item = T>,
    what: &str,
) -> Result<Vec<T>, OutOfMemory> {
    let mut v = room(items.len(), what)?;
    v.extend(items);
    Ok(v)
}

/// Appends one element, with room for twice as many where there is none left.
///
/// # Errors
/// [`OutOfMemory`], with `what` in its text.
///
/// ```
/// use keops_core::memory::push;
/// let mut tiles = vec![];
/// (0..100).try_for_each(|k| push(&mut tiles, k, "tiles"))?;
/// assert_eq!(tiles.len(), 100);
/// # Ok::<(), keops_core::error::OutOfMemory>(())
/// ```
pub fn push<T>(v: &mut Vec<T>, item: T, what: &str) -> Result<(), OutOfMemory> {
    if v.len() == v.capacity() {
        v.try_reserve(1).map_err(|_| refused::<T>(v.len().saturating_mul(2), what))?;
    }
    v.push(item);
    Ok(())
}

/// A row-major array of the same shape, entry by entry.
///
/// # Errors
/// [`OutOfMemory`], with `what` in its text.
///
/// ```
/// use keops_core::memory::mapped;
/// use ndarray::array;
/// let half = array![[1.0f32, 2.0], [3.0, 4.0]].into_dyn();
/// let wide = mapped(&half.t(), f64::from, "a copy in f64")?;
/// assert_eq!(wide, array![[1.0, 3.0], [2.0, 4.0]].into_dyn());
/// assert!(wide.is_standard_layout()); // whatever the layout was
/// # Ok::<(), keops_core::error::OutOfMemory>(())
/// ```
pub fn mapped<A: Copy, B>(
    array: &ArrayViewD<'_, A>,
    f: impl FnMut(A) -> B,
    what: &str,
) -> Result<ArrayD<B>, OutOfMemory> {
    let mut v = room(array.len(), what)?;
    v.extend(array.iter().copied().map(f));
    match ArrayD::from_shape_vec(IxDyn(array.shape()), v) {
        Ok(a) => Ok(a),
        Err(_) => unreachable!("as many entries as the array has"),
    }
}
