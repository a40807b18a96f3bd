"""What a graph costs in meaning, measured on real texts; and the gates that decide whether it may be served.

Judges vectors alone: it must not know how graphs are made.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 10


@dataclass(frozen=True)
class Quality:
    """How much of float32's meaning another graph's vectors keep, over the evaluation texts."""

    cosine_mean: float
    cosine_min: float
    rank_correlation: float  # Spearman's, of the similarities of all pairs of texts
    neighbour_overlap: float  # share of each text's 10 nearest neighbours that float32 finds too

    def failures(self) -> list[str]:
        """Return what is wrong, for each gate that these numbers do not pass."""
        values = vars(self)
        # Written so that a NaN fails.
        return [
            f"{gate} is {values[gate]:.4f}, below {least}" for gate, least in GATES.items() if not values[gate] >= least
        ]


# Below any of them it is no replacement for float32.
GATES = {"cosine_mean": 0.999, "cosine_min": 0.99, "rank_correlation": 0.998, "neighbour_overlap": 0.95}


def compare(vectors: np.ndarray, reference: np.ndarray) -> Quality:
    """Compare vectors [texts, hidden] of length 1 with the reference's."""
    cosines = (vectors * reference).sum(axis=1)  # [texts]
    similarities, expected = vectors @ vectors.T, reference @ reference.T  # [texts, texts]
    pairs = np.triu_indices(len(vectors), k=1)
    return Quality(
        cosine_mean=float(cosines.mean()),
        cosine_min=float(cosines.min()),
        rank_correlation=spearman(similarities[pairs], expected[pairs]),
        neighbour_overlap=_overlap(_neighbours(similarities), _neighbours(expected)),
    )


def topics_found(
    asked: np.ndarray, topics: Sequence[str], known: np.ndarray, known_topics: Sequence[str]
) -> np.ndarray:
    """Return for each asked text [asked] whether its topic is the most frequent one among its 10 nearest known texts.

    `asked` and `known` are vectors [texts, hidden] of length 1. Of equally frequent topics the nearest text's counts.
    """
    nearest = np.argsort(-(asked @ known.T), axis=1, kind="stable")[:, :NEIGHBOURS]  # [asked, 10], nearest first
    found = [_most_frequent([known_topics[index] for index in row]) for row in nearest]
    return np.array([topic == expected for topic, expected in zip(found, topics, strict=True)])


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the rank correlation of two samples; their values are taken to differ."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values)).astype(np.float64)


def _most_frequent(topics: list[str]) -> str:
    return max(topics, key=topics.count)  # of equals the first


def _neighbours(similarities: np.ndarray) -> np.ndarray:
    others = similarities.copy()  # [texts, texts]
    np.fill_diagonal(others, -np.inf)  # nobody is a neighbour of itself
    return np.argpartition(-others, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean([len(np.intersect1d(x, y)) / NEIGHBOURS for x, y in zip(a, b, strict=True)]))
