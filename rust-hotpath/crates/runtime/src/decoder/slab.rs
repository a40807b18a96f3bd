//! The memory of one layer's keys or values, and the only place where ONNX Runtime is handed pointers into our memory.

#![allow(unsafe_code)]

use std::{io, ptr::NonNull};

use memmap2::{MmapOptions, MmapRaw, UncheckedAdvice};
use ort::{
    AsPointer,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    sys::ONNXTensorElementDataType,
    value::{Tensor, Value},
};

use super::Extent;

/// Rows begin at multiples of this, so that no page of any common size holds parts of two rows.
pub(super) const ROW_ALIGNMENT: usize = 64 * 1024;

const FLOAT: usize = size_of::<f32>();

/// Float32 [rows, heads, capacity, dimensions]. A page takes memory from when it is first written until its row is
/// released, so rows may have far more capacity in sum than there is memory.
pub(super) struct Slab {
    /// Known by its address alone: a Rust reference into it would take the right to use their pointers from others.
    memory: MmapRaw,
    extent: Extent,
}

impl Slab {
    /// Reserves addresses, and no memory.
    pub(super) fn reserve(extent: Extent) -> io::Result<Self> {
        assert!(extent.row_bytes().is_multiple_of(ROW_ALIGNMENT), "the capacity is rounded up");
        let memory = MmapOptions::new().len(extent.rows * extent.row_bytes()).no_reserve_swap().map_anon()?;
        let memory = MmapRaw::from(memory);
        // A huge page would make a whole head's capacity resident for one token.
        #[cfg(target_os = "linux")]
        memory.advise(memmap2::Advice::NoHugePage)?;
        Ok(Self { memory, extent })
    }

    /// Copies the first tokens of one row to another row.
    pub(super) fn copy_row(&mut self, from: usize, to: usize, tokens: usize) {
        assert!(from < self.extent.rows && to < self.extent.rows && tokens <= self.extent.capacity);
        let (head_bytes, bytes) = (self.extent.head_bytes(), tokens * self.extent.dimensions * FLOAT);
        for head in 0..self.extent.heads {
            let at = |row: usize| row * self.extent.row_bytes() + head * head_bytes;
            // SAFETY: both rows and the tokens are within the mapping, as was asserted, and `copy` allows the two to be one.
            // `&mut self` excludes every other method; the caller of `view` answers for ONNX Runtime.
            unsafe {
                let memory = self.memory.as_mut_ptr();
                memory.add(at(from)).copy_to(memory.add(at(to)), bytes);
            }
        }
    }

    /// Gives a row's memory back. What it held is gone.
    pub(super) fn release_row(&mut self, row: usize) {
        assert!(row < self.extent.rows);
        let bytes = self.extent.row_bytes();
        // SAFETY: the mapping is private and anonymous, so the pages read as zeros from now on, which are valid floats.
        // No Rust reference into them exists; the caller of `view` answers for ONNX Runtime. The
        // range is that of one row: row_bytes is a multiple of every common page size, so no page of another row is in it.
        let given = unsafe { self.memory.unchecked_advise_range(UncheckedAdvice::DontNeed, row * bytes, bytes) };
        given.expect("the range is aligned to pages, mapped and not locked, so nothing can refuse");
    }

    /// Rows [first, first + rows) as a tensor that shares this memory.
    ///
    /// # Safety
    /// The tensor, and whatever it is bound to, must be gone before the slab is. While ONNX Runtime runs with it, no method
    /// of the slab may be called, and no other run may have a view of the same rows. It must not be read or written from
    /// Rust.
    pub(super) unsafe fn view(&mut self, first: usize, rows: usize) -> ort::Result<Tensor<f32>> {
        let Extent { heads, capacity, dimensions, .. } = self.extent;
        assert!(rows > 0 && first + rows <= self.extent.rows);
        let bytes = rows * self.extent.row_bytes();
        let shape = [rows, heads, capacity, dimensions].map(|size| i64::try_from(size).expect("memory is far smaller"));
        let info = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
        let mut value = std::ptr::null_mut();
        // SAFETY: `first + rows` is within the mapping, so the pointer and the `bytes` after it are. They hold floats: zeros
        // or what ONNX Runtime wrote, aligned to a page. The shape has four sizes whose product is the number of floats.
        // ONNX Runtime does not own or free this memory; how long it may use it is this function's contract.
        let status = unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                info.ptr(),
                self.memory.as_mut_ptr().add(first * self.extent.row_bytes()).cast(),
                bytes,
                shape.as_ptr(),
                shape.len(),
                ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                &raw mut value,
            )
        };
        // SAFETY: the status is what the call returned, and is used up here.
        unsafe { ort::Error::result_from_status(status) }?;
        let value = NonNull::new(value).expect("ONNX Runtime gives a value where it gives no error");
        // SAFETY: the value was just made, is a float tensor, and has no other owner. The allocator says where the memory
        // is, which is all that it is asked for; a tensor over foreign memory frees nothing.
        Ok(unsafe { Value::from_ptr(value, Some(&Allocator::default())) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: Extent = Extent { rows: 3, layers: 1, heads: 2, capacity: 512, dimensions: 16, vocabulary: 1 };

    fn row(slab: &mut Slab, row: usize) -> &mut [u8] {
        // SAFETY: the row is within the mapping, and the slab is borrowed for as long as the slice is.
        unsafe {
            let begin = slab.memory.as_mut_ptr().add(row * EXTENT.row_bytes());
            std::slice::from_raw_parts_mut(begin, EXTENT.row_bytes())
        }
    }

    #[test]
    fn a_copy_takes_the_first_tokens_of_every_head_and_nothing_else() {
        let mut slab = Slab::reserve(EXTENT).unwrap();
        row(&mut slab, 0).fill(1);
        row(&mut slab, 2).fill(2);
        slab.copy_row(0, 2, 100);
        for head in row(&mut slab, 2).chunks(EXTENT.head_bytes()) {
            let (copied, kept) = head.split_at(100 * EXTENT.dimensions * FLOAT);
            assert!(copied.iter().all(|byte| *byte == 1) && kept.iter().all(|byte| *byte == 2));
        }
        assert!(row(&mut slab, 1).iter().all(|byte| *byte == 0));
    }

    #[test]
    #[cfg(target_os = "linux")] // elsewhere the system takes the memory when it likes
    fn a_release_takes_one_row() {
        let mut slab = Slab::reserve(EXTENT).unwrap();
        (0..EXTENT.rows).for_each(|number| row(&mut slab, number).fill(1));
        slab.release_row(1);
        assert!(row(&mut slab, 0).iter().all(|byte| *byte == 1));
        assert!(row(&mut slab, 1).iter().all(|byte| *byte == 0));
        assert!(row(&mut slab, 2).iter().all(|byte| *byte == 1));
    }
}
