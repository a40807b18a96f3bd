//! The end of a process in which ONNX Runtime still runs.

/// Ends the process at once with a status. No exit handler and no destructor runs: those of ONNX Runtime would tear it down
/// beneath the threads that run it. So this is for a process with such threads, and for one that is not to wait for them.
#[allow(unsafe_code)]
pub fn exit_now(status: i32) -> ! {
    // SAFETY: it takes no pointer and does not return. What it leaves out, a flush of C's buffers and handlers at exit, no
    // Rust code relies on: Rust's own standard output is flushed line by line, and logs are written as they come.
    unsafe { libc::_exit(status) }
}
