//! The memory of one layer's keys or values, and the only place where ONNX Runtime is handed pointers into our memory.

#![allow(unsafe_code)]

use std::{io, ptr::NonNull};

use memmap2::{MmapOptions, MmapRaw, UncheckedAdvice};
use ort::{
    AsPointer,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    sys::ONNXTensorElementDataType,
    value::{DynTensor, Value},
};

use super::Extent;

/// Slots begin at multiples of this, so that no page of any common size holds parts of two slots.
pub(super) const SLOT_ALIGNMENT: usize = 64 * 1024;

/// Bytes of a number, float16.
pub(super) const NUMBER: usize = 2;

/// Float16 [slots, heads, capacity, dimensions]. A page takes memory from when it is first written until its slot is
/// released, so slots may have far more capacity in sum than there is memory.
pub(super) struct Slab {
    /// Known by its address alone: a Rust reference into it would take the right to use their pointers from others.
    memory: MmapRaw,
    extent: Extent,
}

impl Slab {
    /// Reserves addresses, and no memory.
    pub(super) fn reserve(extent: Extent) -> io::Result<Self> {
        assert!(extent.slot_bytes().is_multiple_of(SLOT_ALIGNMENT), "the capacity is rounded up");
        let memory = MmapOptions::new().len(extent.slots * extent.slot_bytes()).no_reserve_swap().map_anon()?;
        let memory = MmapRaw::from(memory);
        // A huge page would make a whole head's capacity resident for one token.
        #[cfg(target_os = "linux")]
        memory.advise(memmap2::Advice::NoHugePage)?;
        Ok(Self { memory, extent })
    }

    /// Copies the first tokens of one slot to another one.
    pub(super) fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        assert!(from < self.extent.slots && to < self.extent.slots && tokens <= self.extent.capacity);
        let (head_bytes, bytes) = (self.extent.head_bytes(), tokens * self.extent.dimensions * NUMBER);
        for head in 0..self.extent.heads {
            let at = |slot: usize| slot * self.extent.slot_bytes() + head * head_bytes;
            // SAFETY: both slots and the tokens are within the mapping, as was asserted, and `copy` allows the two to be one.
            // `&mut self` excludes every other method; the caller of `view` answers for ONNX Runtime.
            unsafe {
                let memory = self.memory.as_mut_ptr();
                memory.add(at(from)).copy_to(memory.add(at(to)), bytes);
            }
        }
    }

    /// Gives a slot's memory back. What it held is gone.
    pub(super) fn release(&mut self, slot: usize) {
        assert!(slot < self.extent.slots);
        let bytes = self.extent.slot_bytes();
        // SAFETY: the mapping is private and anonymous, so the pages read as zeros from now on, which are valid numbers.
        // No Rust reference into them exists; the caller of `view` answers for ONNX Runtime. The
        // range is that of one slot: slot_bytes is a multiple of every common page size, so no page of another one is in it.
        let given = unsafe { self.memory.unchecked_advise_range(UncheckedAdvice::DontNeed, slot * bytes, bytes) };
        given.expect("the range is aligned to pages, mapped and not locked, so nothing can refuse");
    }

    /// All of it as a tensor that shares this memory.
    ///
    /// # Safety
    /// The tensor, and whatever it is bound to, must be gone before the slab is. While ONNX Runtime runs with it, no method
    /// of the slab may be called. It must not be read or written from Rust.
    pub(super) unsafe fn view(&mut self) -> ort::Result<DynTensor> {
        let Extent { slots, heads, capacity, dimensions, .. } = self.extent;
        let shape =
            [slots, heads, capacity, dimensions].map(|size| i64::try_from(size).expect("memory is far smaller"));
        let info = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
        let mut value = std::ptr::null_mut();
        // SAFETY: the pointer and the length are the mapping's, which holds numbers: zeros or what ONNX Runtime wrote, aligned
        // to a page. The shape has four sizes whose product is how many. ONNX Runtime does not own or free this
        // memory; how long it may use it is this function's contract.
        let status = unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                info.ptr(),
                self.memory.as_mut_ptr().cast(),
                slots * self.extent.slot_bytes(),
                shape.as_ptr(),
                shape.len(),
                ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
                &raw mut value,
            )
        };
        // SAFETY: the status is what the call returned, and is used up here.
        unsafe { ort::Error::result_from_status(status) }?;
        let value = NonNull::new(value).expect("ONNX Runtime gives a value where it gives no error");
        // SAFETY: the value was just made, is a tensor, and has no other owner. The allocator says where the memory
        // is, which is all that it is asked for; a tensor over foreign memory frees nothing.
        Ok(unsafe { Value::from_ptr(value, Some(&Allocator::default())) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: Extent = Extent { slots: 3, layers: 1, heads: 2, capacity: 1024, dimensions: 16, vocabulary: 1 };

    fn slot(slab: &mut Slab, slot: usize) -> &mut [u8] {
        // SAFETY: the slot is within the mapping, and the slab is borrowed for as long as the slice is.
        unsafe {
            let begin = slab.memory.as_mut_ptr().add(slot * EXTENT.slot_bytes());
            std::slice::from_raw_parts_mut(begin, EXTENT.slot_bytes())
        }
    }

    #[test]
    fn a_copy_takes_the_first_tokens_of_every_head_and_nothing_else() {
        let mut slab = Slab::reserve(EXTENT).unwrap();
        slot(&mut slab, 0).fill(1);
        slot(&mut slab, 2).fill(2);
        slab.copy(0, 2, 100);
        for head in slot(&mut slab, 2).chunks(EXTENT.head_bytes()) {
            let (copied, kept) = head.split_at(100 * EXTENT.dimensions * NUMBER);
            assert!(copied.iter().all(|byte| *byte == 1) && kept.iter().all(|byte| *byte == 2));
        }
        assert!(slot(&mut slab, 1).iter().all(|byte| *byte == 0));
    }

    #[test]
    #[cfg(target_os = "linux")] // elsewhere the system takes the memory when it likes
    fn a_release_takes_one_slot() {
        let mut slab = Slab::reserve(EXTENT).unwrap();
        (0..EXTENT.slots).for_each(|number| slot(&mut slab, number).fill(1));
        slab.release(1);
        assert!(slot(&mut slab, 0).iter().all(|byte| *byte == 1));
        assert!(slot(&mut slab, 1).iter().all(|byte| *byte == 0));
        assert!(slot(&mut slab, 2).iter().all(|byte| *byte == 1));
    }
}
