"""Golden cases, whatever the family: what the NumPy reference says, and how far from it a graph may be."""

import numpy as np

from triptych.bundle.v1 import bundle_pb2


class GoldenError(Exception):
    """A graph or a tokenizer disagrees with the reference."""


class OutOfToleranceError(GoldenError):
    """A graph keeps less of the reference than it must: what rounding may do, and a defect may not."""


def check_close(
    actual: np.ndarray,
    expected: np.ndarray,
    tolerance: bundle_pb2.Tolerance,
    field: str,
    of: str = "",
    unit: float = 1,
) -> None:
    """Raise OutOfToleranceError, which names the field, unless a vector is within tolerance of what is expected.

    The largest absolute error is counted in `unit`.
    """
    if actual.shape != expected.shape:
        raise GoldenError(f"{field}: {actual.size} dimensions, not {expected.size}")
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    error = np.abs(a - b).max() / unit
    cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    # Written so that a NaN fails.
    if not error <= tolerance.max_abs_error:
        raise OutOfToleranceError(f"{field}: max_abs_error{of} is {error:.2g}, above {tolerance.max_abs_error:g}")
    if not cosine >= tolerance.min_cosine:
        raise OutOfToleranceError(f"{field}: min_cosine{of} is {cosine:.6f}, below {tolerance.min_cosine:g}")
