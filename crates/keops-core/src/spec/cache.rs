//! What a device keeps, bounded in bytes: what was used least recently goes first.

use super::Executable;
use crate::error::CompileError;
use crate::key::Key;
use crate::outer::Computation;
use hashbrown::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A compiled reduction, with the time of its last use.
pub(crate) struct Loaded {
    pub executable: Arc<dyn Executable>,
    used: AtomicU64,
}

impl Loaded {
    pub fn new(executable: Arc<dyn Executable>) -> Loaded {
        Loaded { executable, used: AtomicU64::new(0) }
    }
    /// It is in use at this time.
    pub fn touch(&self, now: u64) {
        touch(&self.used, now);
    }
}

/// (Hits between two insertions have one time: most of them write nothing that others read.)
fn touch(used: &AtomicU64, now: u64) {
    if used.load(Ordering::Relaxed) != now {
        used.store(now, Ordering::Relaxed);
    }
}

/// What was compiled, once somebody has done it.
pub(super) type Slot = Arc<OnceLock<Result<Arc<Loaded>, CompileError>>>;

struct Prepared {
    computation: Arc<Computation>,
    used: AtomicU64,
}

/// Bytes of an entry beside its key and its value.
const ENTRY: usize = 256;

/// Compiled reductions and prepared computations by their keys, which are compared on a hit.
pub(super) struct Cache {
    compiled: HashMap<Key, Slot>,
    computations: HashMap<Key, Prepared>,
    limit: usize,
    /// Bytes at the last count, and what came since.
    counted: usize,
    since: usize,
}

impl Cache {
    pub fn new(limit: usize) -> Cache {
        let (compiled, computations) = Default::default();
        Cache { compiled, computations, limit, counted: 0, since: 0 }
    }
    pub fn limit(&self) -> usize {
        self.limit
    }
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.evict();
    }
    pub fn compiled(&self) -> usize {
        self.compiled.len()
    }
    pub fn slot(&self, key: &Key) -> Option<Slot> {
        self.compiled.get(key).cloned()
    }
    /// The slot of a key, which may be new.
    pub fn insert_slot(&mut self, key: Key) -> Slot {
        let bytes = key.bytes() + ENTRY;
        let slot = self.compiled.entry(key).or_insert_with(|| {
            self.since += bytes;
            Slot::default()
        });
        slot.clone()
    }
    pub fn remove_slot(&mut self, key: &Key, slot: &Slot) {
        if self.compiled.get(key).is_some_and(|s| Arc::ptr_eq(s, slot)) {
            self.compiled.remove(key);
        }
    }
    /// Counts this many more bytes.
    pub fn grown(&mut self, bytes: usize) {
        self.since += bytes;
        // Code is also made when it is first needed: a count now and then sees it.
        if self.counted + self.since > self.limit || self.since > self.limit / 8 {
            self.evict();
        }
    }
    pub fn computation(&self, key: &Key, now: u64) -> Option<Arc<Computation>> {
        let kept = self.computations.get(key)?;
        touch(&kept.used, now);
        Some(kept.computation.clone())
    }
    pub fn insert_computation(
        &mut self,
        key: Key,
        computation: Arc<Computation>,
        now: u64,
    ) -> Arc<Computation> {
        let bytes = key.bytes() + computation.bytes() + ENTRY;
        let new = Prepared { computation, used: AtomicU64::new(now) };
        let kept = self.computations.entry(key).or_insert(new).computation.clone();
        self.grown(bytes);
        kept
    }
    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        let compiled = self.compiled.iter().map(|(k, s)| k.bytes() + slot_bytes(s));
        let computations =
            self.computations.iter().map(|(k, c)| k.bytes() + c.computation.bytes() + ENTRY);
        compiled.chain(computations).sum()
    }
    /// Counts, and drops what was used least recently where that is too much: down to three
    /// quarters, as looking through everything takes time.
    fn evict(&mut self) {
        (self.counted, self.since) = (self.bytes(), 0);
        if self.counted <= self.limit {
            return;
        }
        let mut ages: Vec<(u64, usize)> = vec![];
        let age = |slot: &Slot| match slot.get() {
            Some(Ok(held)) => Some(held.used.load(Ordering::Relaxed)),
            // Somebody is about to use it.
            _ => None,
        };
        let compiled = self.compiled.iter();
        ages.extend(compiled.filter_map(|(k, s)| Some((age(s)?, k.bytes() + slot_bytes(s)))));
        let computations = self.computations.iter();
        ages.extend(computations.map(|(k, c)| {
            let bytes = k.bytes() + c.computation.bytes() + ENTRY;
            (c.used.load(Ordering::Relaxed), bytes)
        }));
        ages.sort_unstable_by_key(|a| a.0);
        let excess = self.counted - self.limit / 4 * 3;
        let mut dropped = 0;
        let first = ages.iter().position(|(_, bytes)| {
            let enough = dropped >= excess;
            dropped += bytes;
            enough
        });
        // What is as old as the youngest to go, goes too.
        let oldest = first.map_or(u64::MAX, |k| ages[k].0);
        self.compiled.retain(|_, s| age(s).is_none_or(|used| used >= oldest));
        self.computations.retain(|_, c| c.used.load(Ordering::Relaxed) >= oldest);
        self.counted = self.bytes();
    }
}

fn slot_bytes(slot: &Slot) -> usize {
    ENTRY + slot.get().map_or(0, |made| made.as_ref().map_or(0, |h| h.executable.bytes()))
}
