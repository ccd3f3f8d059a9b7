//! Dense factorisations need more stack than a thread may have: faer's take up to 96 KiB, where
//! everything else of this crate does with 64. They run on a thread of their own, which takes some tens of
//! microseconds: to ask how much stack is left would need assembly for each target.

use keops_core::error::OutOfMemory;
use keops_core::memory;
use std::thread;

/// Stack of such a thread.
const STACK: usize = 2 << 20;

/// Runs dense algebra with enough stack.
pub(crate) fn roomy<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R, OutOfMemory> {
    thread::scope(|scope| {
        let made = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = made.map_err(|_| memory::refused::<u8>(STACK, "the stack of a thread"))?;
        // (A panic, which is a fault of ours, stays one.)
        thread.join().or_else(|fault| std::panic::resume_unwind(fault))
    })
}
