//! The threads that share work, also in a process that was forked.
//!
//! Only the thread that calls `fork` lives on in the child. The child inherits rayon's global pool
//! without its threads: whoever hands it work waits for ever.

use keops_core::error::RunError;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cell::Cell;
use std::process;
use std::sync::{Arc, Mutex, OnceLock};

thread_local! {
    /// The process in which this thread was first seen.
    static SEEN: Cell<Option<u32>> = const { Cell::new(None) };
}

/// The process of the first device: its pools have their threads.
fn first() -> u32 {
    static FIRST: OnceLock<u32> = OnceLock::new();
    *FIRST.get_or_init(process::id)
}

/// Notes the process and the thread; to be called where work may begin.
pub fn note() {
    let first = first();
    SEEN.with(|seen| seen.set(seen.get().or(Some(first))));
}

/// Runs work that rayon shares among threads: on the pool of the caller or, in a forked process
/// whose pool may have lost its threads, on a pool of this process.
///
/// # Errors
/// [`RunError::Device`] if a forked process gets no threads.
pub fn share<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R, RunError> {
    let here = process::id();
    if here == first() {
        SEEN.with(|seen| seen.set(Some(here)));
        return Ok(work());
    }
    // The pool of a thread that has begun in this process is one of this process.
    let seen = SEEN.with(|seen| seen.replace(seen.get().or(Some(here))));
    if rayon::current_thread_index().is_some() && seen.is_none_or(|p| p == here) {
        return Ok(work());
    }
    Ok(pool(here)?.install(work))
}

/// The pool of a forked process.
fn pool(here: u32) -> Result<Arc<ThreadPool>, RunError> {
    static POOL: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);
    let failed = |reason: String| RunError::Device {
        backend: "cpu".into(),
        message: format!(
            "this process was forked from one that had started to compute, and has no threads to \
             share work ({reason}); compute on a pool that is made after the fork \
             (rayon::ThreadPool::install), or start the process by `exec`"
        ),
    };
    // (A lock that another thread held when this process was forked is never released.)
    let Ok(mut kept) = POOL.try_lock() else { return make().map(Arc::new).map_err(failed) };
    match &*kept {
        Some((process, pool)) if *process == here => Ok(pool.clone()),
        _ => {
            let pool = Arc::new(make().map_err(failed)?);
            // A pool of the parent has no threads that could end.
            std::mem::forget(kept.replace((here, pool.clone())));
            Ok(pool)
        }
    }
}

fn make() -> Result<ThreadPool, String> {
    ThreadPoolBuilder::new().build().map_err(|e| e.to_string())
}
