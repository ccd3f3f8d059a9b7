//! An allocator for a whole test binary that refuses one large request after the other, on demand:
//! what grows with the data and cannot be had has to be an error. Such a binary has one test, as
//! the allocator is one for all threads.

use keops_core::error::{Error, InputError, RunError};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests from here on are large.
const LARGE: usize = 1 << 20;
/// Nothing is refused.
const NEVER: usize = usize::MAX;

/// The number of the large request that is refused.
static REFUSED: AtomicUsize = AtomicUsize::new(NEVER);
/// Large requests so far.
static SEEN: AtomicUsize = AtomicUsize::new(0);

struct Refusing;

fn granted(bytes: usize) -> bool {
    bytes < LARGE || SEEN.fetch_add(1, Ordering::SeqCst) != REFUSED.load(Ordering::SeqCst)
}

// SAFETY: every request is handed to the system's allocator unchanged, or answered by a null
// pointer, which says that there is no memory.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !granted(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !granted(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !granted(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's contract.
        unsafe { System.realloc(p, layout, size) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Refuses the first large request of `f`, then only the second, and so on.
pub fn refuse_each<R>(name: &str, least: usize, f: impl Fn() -> Result<R, Error>) {
    f().unwrap_or_else(|e| panic!("{name}: {e}"));
    for k in 0..10_000 {
        SEEN.store(0, Ordering::SeqCst);
        REFUSED.store(k, Ordering::SeqCst);
        let result = f().map(|_| ());
        REFUSED.store(NEVER, Ordering::SeqCst);
        let requests = SEEN.load(Ordering::SeqCst);
        if requests <= k {
            assert_eq!(result, Ok(()), "{name}: nothing was refused");
            assert!(k >= least, "{name}: {k} large requests, expected {least} or more");
            return;
        }
        // Errors of LazyTensors come with the place of the operator.
        let cause = match &result {
            Err(Error::Lazy { source, .. }) => Err(&**source),
            other => other.as_ref(),
        };
        let bytes = match cause {
            Err(Error::Run(RunError::OutOfMemory { bytes, .. })) => *bytes,
            Err(Error::Input(InputError::OutOfMemory(e))) => e.bytes,
            other => panic!("{name}: request {k} was refused, got {other:?}"),
        };
        assert!(bytes >= LARGE, "{name}: request {k}: {result:?}");
    }
    panic!("{name}: no end of large requests");
}
