//! One slice, written to by many threads.

#![allow(unsafe_code)]

use std::{marker::PhantomData, slice};

/// A slice in parts of one length, each of which is somebody else's.
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    length: usize,
    count: usize,
    slice: PhantomData<&'a mut [T]>,
}
// SAFETY: it gives away parts alone, and each once.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// # Panics
    /// Where the slice is no whole parts.
    pub(crate) fn new(slice: &'a mut [T], length: usize) -> Self {
        assert!(length > 0 && slice.len().is_multiple_of(length), "{} in parts of {length}", slice.len());
        Self { start: slice.as_mut_ptr(), length, count: slice.len() / length, slice: PhantomData }
    }

    /// # Safety
    /// Each part is taken once.
    ///
    /// # Panics
    /// Where there is no such part.
    #[allow(clippy::mut_from_ref, reason = "each part is another one's")]
    pub(crate) unsafe fn take(&self, part: usize) -> &'a mut [T] {
        assert!(part < self.count, "part {part} of {}", self.count);
        // SAFETY: it is within the slice, and by the caller nobody else's.
        unsafe { slice::from_raw_parts_mut(self.start.add(part * self.length), self.length) }
    }
}
