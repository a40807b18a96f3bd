"""The fit is the optimum, by what defines one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych_research.classification import logistic
from triptych_research.classification.logistic import Floats


def problem(seed: int, rows: int = 80, features: int = 5) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(rows, features))
    chances = logistic.sigmoid(vectors @ random.normal(size=features) - 0.5)
    return vectors, (random.random(rows) < chances).astype(float)


def loss(weights: Floats, vectors: Floats, targets: Floats, penalty: float) -> float:
    logits = vectors @ weights[:-1] + weights[-1]
    return logistic.log_loss(logits, targets) + penalty / 2 * float((weights[:-1] ** 2).sum())


@given(seed=st.integers(0, 10_000), penalty=st.sampled_from([0.01, 0.3, 10.0]))
def test_no_neighbour_is_better(seed: int, penalty: float) -> None:
    vectors, targets = problem(seed)
    weights = logistic.fit(vectors, targets, penalty)
    best = loss(weights, vectors, targets, penalty)
    for step in np.eye(len(weights)) * 1e-3:
        assert loss(weights + step, vectors, targets, penalty) > best
        assert loss(weights - step, vectors, targets, penalty) > best


def test_a_share_counts_as_so_many_rows() -> None:
    vectors, targets = problem(1)
    times = np.arange(len(targets)) % 3 + 1
    repeated = logistic.fit(np.repeat(vectors, times, axis=0), np.repeat(targets, times), penalty=0.5)
    np.testing.assert_allclose(logistic.fit(vectors, targets, 0.5, times.astype(float)), repeated, atol=1e-8)


def test_where_it_starts_does_not_matter() -> None:
    vectors, targets = problem(2)
    far = np.full(vectors.shape[1] + 1, 5.0)
    from_far = logistic.fit(vectors, targets, 0.1, start=far)
    np.testing.assert_allclose(from_far, logistic.fit(vectors, targets, 0.1), atol=1e-7)


def test_classes_that_separate_have_an_optimum_because_of_the_penalty() -> None:
    vectors = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    weights = logistic.fit(vectors, np.array([0.0, 0.0, 1.0, 1.0]), penalty=0.1)
    assert 1 < weights[0] < 10
    assert abs(weights[1]) < 1e-6


def test_the_intercept_is_not_penalised() -> None:
    targets = np.array([1.0] * 90 + [0.0] * 10)
    weights = logistic.fit(np.zeros((100, 1)), targets, penalty=100)
    assert logistic.sigmoid(weights[-1:])[0] == pytest.approx(0.9)


def test_no_optimum_is_an_error() -> None:
    with pytest.raises(logistic.NotConvergedError), np.errstate(invalid="ignore"):
        logistic.fit(np.array([[np.nan], [1.0]]), np.array([0.0, 1.0]), penalty=1)


def test_extreme_logits_do_not_overflow() -> None:
    assert logistic.sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
    assert logistic.log_loss(np.array([-1e4, 1e4]), np.array([0.0, 1.0])) == 0
