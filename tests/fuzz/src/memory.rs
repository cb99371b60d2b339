//! How much memory a function takes while it runs, of all threads together. What C code takes is not
//! counted.

use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Two that are measured at once would be taken for one.
static ALONE: Mutex<()> = Mutex::new(());

/// What the function returns, and the most bytes that it held at once.
pub(crate) fn taken_by<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let returned = run();
    (returned, MEMORY.peak_usage().saturating_sub(before))
}
