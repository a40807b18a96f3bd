//! Memory that is called for before it is needed: processors foresee a stream well within a page of memory, but not while they are
//! busy with what came before.

#![allow(unsafe_code)]

/// Bytes that come together.
pub(crate) const LINE: usize = 64;

/// Has the line of an address brought to the first-level cache, if there is memory at it.
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    // SAFETY: a hint, which reads nothing that a program could see, and fails nowhere.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// How many blocks of weights before it is needed one is called for.
const AHEAD: usize = 16;

/// Calls for a block behind this one, which may be the next tile's, or nobody's.
#[inline(always)]
pub(crate) fn prefetch_later<T>(block: &T) {
    let later = (&raw const *block).wrapping_add(AHEAD).cast::<u8>();
    (0..size_of::<T>()).step_by(LINE).for_each(|place| prefetch(later.wrapping_add(place)));
}
