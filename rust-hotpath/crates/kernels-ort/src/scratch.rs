//! What runs write to on the way. It stays with the thread that runs a session, for all operators of all sessions.

use std::cell::RefCell;

use hotpath_kernels::Activations;

/// Most bytes that a thread keeps: as much as 2,048 rows of 1536 numbers need. What a larger run took it gives back at its end.
const KEPT: usize = 32 << 20;

thread_local! {
    static QUANTIZED: RefCell<Activations> = RefCell::default();
}

/// Lends the thread's.
pub(crate) fn with<T>(run: impl FnOnce(&mut Activations) -> T) -> T {
    QUANTIZED.with_borrow_mut(|quantized| {
        let result = run(quantized);
        if quantized.kept() > KEPT {
            *quantized = Activations::new();
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use hotpath_kernels::{Caller, Normed, Path};

    use super::*;

    /// Bytes that the thread keeps after so many rows.
    fn kept_after(rows: usize) -> usize {
        let (x, weight) = (vec![1.0; rows * 1536], [1.0; 1536]);
        let normed = Normed { x: &x, addend: Some(&x), sums: None, weight: &weight, epsilon: 1e-5 };
        with(|quantized| quantized.quantize_normed(Path::best(), normed, &Caller));
        with(|quantized| quantized.kept())
    }

    #[test]
    fn memory_is_kept_but_for_that_of_the_largest_runs() {
        let usual = kept_after(2048);
        assert!((1..=KEPT).contains(&usual), "{usual}");
        assert_eq!(kept_after(1), usual, "it is not allocated again");
        assert_eq!(kept_after(2400), 0);
        assert!((1..usual).contains(&kept_after(1)), "as much as is needed then");
    }
}
