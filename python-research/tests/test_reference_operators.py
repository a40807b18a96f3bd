"""The fused multiply-add that NumPy lacks, and what the references of operators approximate."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from triptych_research.reference import operators

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Numbers whose products and sums end near the middle between two of float32.
CLOSE = st.integers(-(2**24), 2**24).map(float) | st.integers(-(2**12), 2**12).map(lambda whole: whole * 2.0**-24)


@given(FLOATS | CLOSE, FLOATS | CLOSE, FLOATS | CLOSE)
def test_a_fused_multiply_add_is_rounded_once_and_to_the_nearest(a: float, b: float, c: float) -> None:
    result = operators.fma(*(np.float32(each) for each in (a, b, c)))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    largest = Fraction(float(np.finfo(np.float32).max))
    if abs(exact) > largest:
        assert abs(float(result)) >= largest
        return
    below, above = (np.nextafter(np.float32(result), np.float32(end)) for end in (-np.inf, np.inf))
    error = abs(exact - Fraction(float(result)))
    for other in (below, above):
        if np.isfinite(other):
            beside = abs(exact - Fraction(float(other)))
            assert error < beside or (error == beside and not np.float32(result).view(np.int32) & 1)


def test_rounding_twice_would_be_another_number() -> None:
    # The sum is a hair above the middle of two numbers, which float64 cannot tell from the middle.
    a, b, c = np.float32(2.0**-40), np.float32(2.0**-40), np.float32(1)
    half = np.float32(2.0**-24)
    exact_but_for_a_hair = np.float64(c) + np.float64(half)
    assert np.float32(exact_but_for_a_hair) == 1
    x, y = np.float32(1 + 2.0**-12), np.float32(2.0**-24 * (1 - 2.0**-12))  # product: 2^-24 - 2^-48
    assert operators.fma(x, y, c) == 1
    assert operators.fma(np.float32(1 + 2.0**-23), half, c) == np.float32(1 + 2.0**-23)
    assert operators.fma(a, b, c) == 1


@given(st.floats(-87, 88, width=32))
def test_the_exponential_is_within_two_units_in_the_last_place(x: float) -> None:
    exact = np.exp(np.float64(np.float32(x)))
    actual = operators.exp(np.array([x], np.float32))[0]
    assert abs(np.float64(actual) - exact) <= 2 * np.spacing(np.float32(exact))


def test_beyond_its_bounds_the_exponential_is_that_of_the_bound() -> None:
    x = np.array([-1000, -87, 88, 1000, np.inf, -np.inf, np.nan], np.float32)
    low, first, last, high, infinite, nothing, none = operators.exp(x)
    assert low == first == nothing > 0
    assert last == high == infinite < np.inf
    assert np.isnan(none)
