//! Tensors and threads of a run, without the allocations of `ort`'s own calls: these are made for each operator of each token.

#![allow(unsafe_code)]

use std::{
    ffi::c_void,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr, slice,
    sync::atomic::{AtomicBool, Ordering},
};

use half::f16;
use hotpath_kernels::Pool;
use ort::{
    AsPointer, Error, Result,
    operator::{ComputeContext, KernelContext},
    sys::{ONNXTensorElementDataType as Kind, OrtValue},
    value::{DynTensorValueType, TensorElementType, ValueRef},
};

/// Calls a function of ONNX Runtime's API.
macro_rules! api {
    ($name:ident($($argument:expr),*)) => {{
        // SAFETY: arguments are as the API wants them.
        let status = unsafe { (ort::api().$name)($($argument),*) };
        unsafe { Error::result_from_status(status) }?
    }};
}

/// Numbers of a tensor, of which any bits are one.
///
/// # Safety
/// A tensor of this kind holds such numbers.
pub(crate) unsafe trait Element: Copy {
    const KIND: TensorElementType;
}
// SAFETY: it does, as do those below.
unsafe impl Element for f32 {
    const KIND: TensorElementType = TensorElementType::Float32;
}
unsafe impl Element for f16 {
    const KIND: TensorElementType = TensorElementType::Float16;
}
unsafe impl Element for i32 {
    const KIND: TensorElementType = TensorElementType::Int32;
}
unsafe impl Element for i64 {
    const KIND: TensorElementType = TensorElementType::Int64;
}

/// The memory of a tensor, which some other tensor may have as well: whose it is, the caller finds out by [`apart`].
#[derive(Clone, Copy)]
pub(crate) struct Memory<T> {
    start: *mut T,
    count: usize,
}

impl<T: Element> Memory<T> {
    fn new(start: *mut c_void, count: usize) -> Result<Self> {
        let start: *mut T = start.cast();
        if count == 0 {
            return Ok(Self { start: ptr::dangling_mut(), count });
        }
        if start.is_null() || !start.is_aligned() || count > isize::MAX as usize / size_of::<T>() {
            return Err(Error::new(format!("there are no {count} numbers at {start:?}")));
        }
        Ok(Self { start, count })
    }

    /// How many numbers there are.
    pub(crate) fn len(self) -> usize {
        self.count
    }

    /// Where it lies.
    pub(crate) fn place(self) -> Range<usize> {
        self.start.addr()..self.start.addr() + self.count * size_of::<T>()
    }

    /// # Safety
    /// It is the memory of an input, or holds numbers by now; and nobody writes to it as long as the slice lives.
    pub(crate) unsafe fn read<'a>(self) -> &'a [T] {
        // SAFETY: there are so many numbers, and the rest is the caller's.
        unsafe { slice::from_raw_parts(self.start, self.count) }
    }

    /// # Safety
    /// It is the memory of an output, and nobody else's as long as the slice lives.
    pub(crate) unsafe fn write<'a>(self) -> &'a mut [T] {
        // SAFETY: there are so many numbers, and the rest is the caller's.
        unsafe { slice::from_raw_parts_mut(self.start, self.count) }
    }

    /// Copies numbers from memory that is apart.
    ///
    /// # Safety
    /// It is the memory of an output, and the other that of an input.
    pub(crate) unsafe fn copy(self, from: Self) {
        assert_eq!(self.count, from.count);
        // SAFETY: the caller's.
        unsafe { ptr::copy_nonoverlapping(from.start.cast_const(), self.start, self.count) }
    }
}

/// Refuses outputs that lie where an input or another output does. ONNX Runtime lets a caller bind any memory to either.
pub(crate) fn apart(outputs: &[Range<usize>], inputs: &[Range<usize>]) -> Result<()> {
    let meet = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
    for (number, output) in outputs.iter().enumerate() {
        if outputs[..number].iter().chain(inputs).any(|other| meet(output, other)) {
            return Err(Error::new("an output lies in the memory of another tensor"));
        }
    }
    Ok(())
}

/// An input of this kind, and its first axis.
pub(crate) fn input_and_rows<T: Element>(context: &ComputeContext, index: usize) -> Result<(Memory<T>, usize)> {
    optional(context, index)?.ok_or_else(|| Error::new(format!("input {index} is missing")))
}

/// An input of this kind.
pub(crate) fn input<T: Element>(context: &ComputeContext, index: usize) -> Result<Memory<T>> {
    Ok(input_and_rows(context, index)?.0)
}

/// The same of one that a node may do without.
pub(crate) fn optional_input<T: Element>(context: &ComputeContext, index: usize) -> Result<Option<Memory<T>>> {
    Ok(optional(context, index)?.map(|(memory, _)| memory))
}

fn optional<T: Element>(context: &ComputeContext, index: usize) -> Result<Option<(Memory<T>, usize)>> {
    let mut value: *const OrtValue = ptr::null();
    api!(KernelContext_GetInput(context.ptr(), index, &raw mut value));
    if value.is_null() {
        return Ok(None);
    }
    let (mut kind, mut axes, mut count) = (Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, ptr::null(), 0);
    api!(GetTensorElementTypeAndShapeDataReference(value, &raw mut kind, &raw mut axes, &raw mut count));
    if kind != T::KIND.into() {
        return Err(Error::new(format!("input {index} is of another kind of numbers")));
    }
    // SAFETY: so many axes are there, as long as the value is.
    let axes: &[i64] = if count == 0 { &[] } else { unsafe { slice::from_raw_parts(axes, count) } };
    let numbers = axes.iter().try_fold(1usize, |all, axis| all.checked_mul(usize::try_from(*axis).ok()?));
    let numbers = numbers.ok_or_else(|| Error::new(format!("input {index} has axes of {axes:?}")))?;
    let mut data = ptr::null();
    api!(GetTensorData(value, &raw mut data));
    // Both conversions went well above.
    let rows = axes.first().map_or(1, |axis| usize::try_from(*axis).unwrap_or_default());
    Ok(Some((Memory::new(data.cast_mut(), numbers)?, rows)))
}

/// An output of a shape.
pub(crate) fn output<T: Element>(context: &ComputeContext, index: usize, shape: &[usize]) -> Result<Memory<T>> {
    optional_output(context, index, shape)?.ok_or_else(|| Error::new(format!("output {index} is missing")))
}

/// The same of one that a node may do without.
pub(crate) fn optional_output<T: Element>(
    context: &ComputeContext,
    index: usize,
    shape: &[usize],
) -> Result<Option<Memory<T>>> {
    let mut axes = [0i64; 4];
    for (axis, size) in axes.iter_mut().zip(shape) {
        *axis = i64::try_from(*size).map_err(|_| Error::new("a shape is beyond 64 bits"))?;
    }
    let numbers = shape.iter().try_fold(1usize, |all, axis| all.checked_mul(*axis));
    let numbers = numbers.ok_or_else(|| Error::new(format!("an output of {shape:?} is beyond 64 bits")))?;
    let (mut value, mut data) = (ptr::null_mut(), ptr::null_mut());
    api!(KernelContext_GetOutput(context.ptr().cast_mut(), index, axes.as_ptr(), shape.len(), &raw mut value));
    if value.is_null() {
        return Ok(None);
    }
    // What is bound to an output is of the graph's kind and of this shape, or ONNX Runtime refuses it.
    api!(GetTensorMutableData(value, &raw mut data));
    Memory::new(data, numbers).map(Some)
}

/// A constant input of bytes.
pub(crate) fn constant<'a>(context: &KernelContext<'a>, index: usize) -> Result<&'a [u8]> {
    let value: ValueRef<'a, DynTensorValueType> = context.constant_input(index)?;
    let (_, bytes) = value.try_extract_tensor::<u8>()?;
    // SAFETY: constants live as long as the session, and so longer than its kernels; `ort` ties them to the `ValueRef`.
    Ok(unsafe { slice::from_raw_parts(bytes.as_ptr(), bytes.len()) })
}

/// A number among the attributes.
pub(crate) fn attribute(context: &KernelContext<'_>, name: &str) -> Result<usize> {
    let value = context.get::<i64>(name).ok_or_else(|| Error::new(format!("attribute {name} is missing")))?;
    usize::try_from(value).map_err(|_| Error::new(format!("attribute {name} is {value}")))
}

/// Keeps a panic from ONNX Runtime.
pub(crate) fn fenced<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(Error::new("an operator panicked")))
}

/// The session's own threads.
pub(crate) struct Threads<'a>(pub &'a ComputeContext);

// SAFETY: ONNX Runtime calls with each number below the total once, and returns when all calls have.
unsafe impl Pool for Threads<'_> {
    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        struct Work<'a> {
            part: &'a (dyn Fn(usize) + Sync),
            panicked: AtomicBool,
        }
        unsafe extern "C" fn call(work: *mut c_void, index: usize) {
            // SAFETY: it is the work below, which outlives the call.
            let work = unsafe { &*work.cast::<Work<'_>>() };
            if catch_unwind(AssertUnwindSafe(|| (work.part)(index))).is_err() {
                work.panicked.store(true, Ordering::Relaxed);
            }
        }
        if parts <= 1 {
            return (0..parts).for_each(part);
        }
        let work = Work { part, panicked: AtomicBool::new(false) };
        // SAFETY: arguments are as the API wants them. By 0, threads take one part after the other, whoever is free.
        let status = unsafe {
            (ort::api().KernelContext_ParallelFor)(self.0.ptr(), call, parts, 0, (&raw const work).cast_mut().cast())
        };
        // SAFETY: as above.
        let done = unsafe { Error::result_from_status(status) };
        assert!(done.is_ok() && !work.panicked.load(Ordering::Relaxed), "a part of an operator failed");
    }
}
