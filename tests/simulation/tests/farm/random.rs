//! The system's random numbers, from a seed: this program's `getrandom` stands before libc's.
//!
//! Hash maps, tokio, QUIC's connection ids and the agents' pauses take theirs from there. Keys and
//! signatures do not: the cryptography asks the processor.
#![expect(unsafe_code, reason = "a C function that others call")]

use std::cell::Cell;
use std::ffi::{c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

static SEED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Of each thread, so that none disturbs another's. `None`: it has not begun.
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From here on this thread's numbers, and those of threads that begin after this, follow from it.
pub(crate) fn seed(seed: u64) {
    SEED.store(seed, Ordering::Relaxed);
    STATE.set(None);
}

/// SplitMix64.
fn next() -> u64 {
    let state = STATE.get().unwrap_or_else(|| SEED.load(Ordering::Relaxed));
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(Some(state));
    let mut mixed = state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// See getrandom(2).
///
/// # Safety
///
/// As there: `len` bytes at `buffer` are the caller's to write to.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, len: usize, _flags: c_uint) -> isize {
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
    for chunk in bytes.chunks_mut(size_of::<u64>()) {
        chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]);
    }
    isize::try_from(len).unwrap_or(isize::MAX)
}
