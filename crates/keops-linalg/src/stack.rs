//! Dense factorisations need more stack than a thread may have: faer's take up to 96 KiB, where
//! everything else of this crate does with 64.

use keops_core::error::OutOfMemory;
use keops_core::memory;
use std::thread;

/// What is left for a factorisation to run where it is called, and the stack of a thread otherwise.
const ENOUGH: usize = 256 << 10;
const STACK: usize = 2 << 20;

/// Runs dense algebra with enough stack: here, or on a thread of its own.
pub(crate) fn roomy<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R, OutOfMemory> {
    if stacker::remaining_stack().is_some_and(|left| left >= ENOUGH) {
        return Ok(work());
    }
    thread::scope(|scope| {
        let made = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = made.map_err(|_| memory::refused::<u8>(STACK, "the stack of a thread"))?;
        // (A panic, which is a fault of ours, stays one.)
        thread.join().or_else(|fault| std::panic::resume_unwind(fault))
    })
}
