//! Arrays that the CPU holds for several calls, with their columns as compiled code reads them.

use crate::pack::{Aligned, Lane};
use crate::vcode::Ty;
use keops_core::data::{ArgView, Buffer};
use keops_core::error::RunError;
use keops_core::program::{Record, Source};
use keops_core::spec::Held;
use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

/// Buffers of packed columns that an array keeps at most.
const BUFFERS: usize = 8;
/// They take at most this many times the bytes of the array, or [`FEW_BYTES`].
const TIMES: usize = 8;
const FEW_BYTES: usize = 1 << 16;

/// Tells arrays and compiled reductions apart: no number is given twice.
pub fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An array that the CPU holds.
pub struct Array {
    values: Buffer,
    number: u64,
    packed: Mutex<Vec<Packed>>,
    harmless: OnceLock<bool>,
}

/// Columns, some fields of which are those of arrays that are held.
struct Packed {
    key: Key,
    bytes: usize,
    /// An [`Aligned`] of f32 or f64.
    columns: Box<dyn Any + Send>,
}

/// What makes packed columns serve again.
#[derive(Clone, PartialEq, Debug)]
pub struct Key {
    ty: Ty,
    /// Columns side by side: 1 in records, those of a panel else.
    lanes: usize,
    stride: usize,
    columns: usize,
    /// The batch element.
    index: Vec<usize>,
    /// Where the fields are, and the numbers of the arrays that they come from.
    fields: Vec<(usize, usize, Option<u64>)>,
    /// The compiled reduction whose derived values are in the columns.
    derived: Option<u64>,
}

impl Key {
    /// The key of the columns of a reduction, and the number of the argument that keeps them; none
    /// if no argument does. `derive` is the number of the compiled reduction where derived values
    /// depend on columns only.
    pub fn new<T: Lane>(
        record: &Record,
        args: &[ArgView<'_>],
        (lanes, columns): (usize, usize),
        index: &[usize],
        derive: Option<u64>,
    ) -> Option<(usize, Key)> {
        let mut owner = None;
        let mut number = |source: &Source| match source {
            Source::RowNumber => Some(u64::MAX),
            Source::Argument(k) => {
                let array = of(&args[*k])?;
                owner.get_or_insert(*k);
                Some(array.number)
            }
        };
        let fields: Vec<_> =
            record.fields.iter().map(|f| (f.offset, f.dim, number(&f.source))).collect();
        let held = fields.iter().all(|f| f.2.is_some())
            && record.input_fields.iter().all(|f| number(&f.source).is_some());
        let (derived, index) = (derive.filter(|_| held), index.to_vec());
        let (ty, stride) = (T::TYPE, record.len);
        Some((owner?, Key { ty, lanes, stride, columns, index, fields, derived }))
    }
    /// Does field `k` come from an array that is held?
    pub fn holds(&self, k: usize) -> bool {
        self.fields[k].2.is_some()
    }
    /// Are derived values in the columns?
    pub fn has_derived(&self) -> bool {
        self.derived.is_some()
    }
}

/// The array of an argument that the CPU holds.
pub fn of<'s>(arg: &'s ArgView<'_>) -> Option<&'s Array> {
    let held: &dyn Any = arg.resident()?.held();
    held.downcast_ref()
}

impl Array {
    pub fn new(values: Buffer) -> Array {
        let (packed, harmless) = (Mutex::default(), OnceLock::new());
        Array { values, number: number(), packed, harmless }
    }
    // A poisoned lock only means that another thread panicked; the list itself is whole.
    fn packed(&self) -> MutexGuard<'_, Vec<Packed>> {
        self.packed.lock().unwrap_or_else(|p| p.into_inner())
    }
    /// Columns that were packed before. They are nobody else's until they are put back: of several
    /// threads each has its own.
    pub fn take<T: Lane>(&self, key: &Key) -> Option<Aligned<T>> {
        let mut all = self.packed();
        let at = all.iter().rposition(|p| p.key == *key)?;
        let columns = all.remove(at).columns.downcast().ok()?;
        Some(*columns)
    }
    /// Keeps columns for the next call, in place of what was used least recently.
    pub fn put<T: Lane>(&self, key: Key, columns: Aligned<T>) {
        let bytes = columns.bytes();
        let most = FEW_BYTES.max(TIMES.saturating_mul(self.values.bytes()));
        if bytes > most {
            return;
        }
        let mut all = self.packed();
        all.push(Packed { key, bytes, columns: Box::new(columns) });
        while all.len() > BUFFERS || all.iter().map(|p| p.bytes).sum::<usize>() > most {
            all.remove(0);
        }
    }
    /// Are all values harmless, which is found once?
    pub fn harmless(&self, look: impl FnOnce() -> bool) -> bool {
        *self.harmless.get_or_init(look)
    }
}

impl Held for Array {
    fn host(&self) -> Option<&Buffer> {
        Some(&self.values)
    }
    fn fetch(&self) -> Result<Buffer, RunError> {
        self.values.fetch()
    }
    fn bytes(&self) -> usize {
        self.values.bytes() + self.packed().iter().map(|p| p.bytes).sum::<usize>()
    }
}
