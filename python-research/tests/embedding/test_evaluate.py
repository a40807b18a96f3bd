"""The measures measure what they say, and their gates close."""

import dataclasses

import numpy as np
import pytest

from triptych_research.embedding import evaluate
from triptych_research.embedding.evaluate import Quality

GOOD = Quality(cosine_mean=0.999, cosine_min=0.995, rank_correlation=0.999, neighbour_overlap=0.95)


def unit(vectors: np.ndarray) -> np.ndarray:
    directions: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return directions


@pytest.fixture
def vectors() -> np.ndarray:
    return unit(np.random.default_rng(0).normal(size=(60, 16)))


def test_the_same_vectors_lose_nothing(vectors: np.ndarray) -> None:
    assert dataclasses.astuple(evaluate.compare(vectors, vectors)) == pytest.approx((1, 1, 1, 1))


def test_one_bad_text_shows_in_the_minimum(vectors: np.ndarray) -> None:
    damaged = vectors.copy()
    damaged[7] = -damaged[7]
    quality = evaluate.compare(damaged, vectors)
    assert quality.cosine_min == pytest.approx(-1)
    assert quality.cosine_mean == pytest.approx(58 / 60)


def test_unrelated_vectors_share_neighbours_by_chance_alone(vectors: np.ndarray) -> None:
    others = unit(np.random.default_rng(1).normal(size=vectors.shape))
    quality = evaluate.compare(others, vectors)
    assert abs(quality.rank_correlation) < 0.1
    assert quality.neighbour_overlap == pytest.approx(10 / 59, abs=0.08)


def test_rank_correlation_sees_order_alone() -> None:
    values = np.array([0.1, 0.5, 0.2, 0.9])
    assert evaluate.spearman(values, np.exp(values)) == pytest.approx(1)
    assert evaluate.spearman(values, -values) == pytest.approx(-1)
    # ranks 0 2 1 3 and 0 1 2 3: 1 - 6 * 2 / (4 * 15)
    assert evaluate.spearman(values, np.array([0.1, 0.2, 0.5, 0.9])) == pytest.approx(0.8)


def test_a_topic_is_what_most_of_the_ten_nearest_have() -> None:
    asked = np.array([[1.0, 0.0]])
    angles = np.linspace(0, 1, 12)
    known = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # nearest first
    topics = ["a", "a", "a", "a", *"bbbbb", "c", *"cc"]
    assert evaluate.topics_found(asked, ["b"], known, topics).tolist() == [True]
    assert evaluate.topics_found(asked, ["c"], known, topics).tolist() == [False]
    tied = [*"aaaa", *"bbbb", *"cccc"]
    assert evaluate.topics_found(asked, ["a"], known, tied).tolist() == [True]


@pytest.mark.parametrize("gate", evaluate.GATES)
def test_each_gate_closes(gate: str) -> None:
    assert GOOD.failures() == []
    for value in (evaluate.GATES[gate] - 1e-4, float("nan")):
        failures = dataclasses.replace(GOOD, **{gate: value}).failures()
        assert len(failures) == 1
        assert failures[0].startswith(f"{gate} is ")
