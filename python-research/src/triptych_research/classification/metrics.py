"""How good scores are, for one category. Scores [texts] are probabilities or logits; truth [texts] is bool."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Truth = NDArray[np.bool_]
Metric = Callable[[Floats, Truth], float]


@dataclass(frozen=True)
class Interval:
    """A measure with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bin:
    """Texts of like score: what was said of them and what they are."""

    texts: int
    mean_score: float
    share: float  # of the texts that are it


@dataclass(frozen=True)
class Verdicts:
    """What a threshold does."""

    precision: float  # of what it flags; 1 if it flags nothing
    recall: float
    f1: float
    false_positive_rate: float


def auc(scores: Floats, truth: Truth) -> float:
    """Return the area under the ROC curve: how often a text that is it scores above one that is not.

    Ties count half.
    """
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # [texts], from 1; equal scores share the mean
    positives = int(truth.sum())
    negatives = len(truth) - positives
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(scores: Floats, truth: Truth) -> float:
    """Return the mean, over texts that are it, of the precision among what scores as high or higher."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(truth[order])
    last = np.searchsorted(-ranked, -ranked, side="right")  # [texts]: how many score as high or higher
    return float((hits[last - 1] / last)[truth[order]].mean())


def brier(probabilities: Floats, truth: Truth) -> float:
    """Return the mean squared difference of probability and truth."""
    return float(((probabilities - truth) ** 2).mean())


def verdicts(scores: Floats, truth: Truth, threshold: float) -> Verdicts:
    """Return what flagging at `threshold` and above gives."""
    flagged = scores >= threshold
    hits = int((flagged & truth).sum())
    precision = hits / int(flagged.sum()) if flagged.any() else 1.0
    recall = hits / int(truth.sum())
    f1 = 2 * hits / (int(flagged.sum()) + int(truth.sum()))
    return Verdicts(precision, recall, f1, float((flagged & ~truth).sum() / (~truth).sum()))


def reliability(probabilities: Floats, truth: Truth, bins: int = 10) -> list[Bin]:
    """Return bins of equally many texts, lowest scores first."""
    parts = np.array_split(np.argsort(probabilities, kind="stable"), bins)
    return [Bin(len(part), float(probabilities[part].mean()), float(truth[part].mean())) for part in parts]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the mean distance of score and share over texts (the expected calibration error)."""
    texts = sum(each.texts for each in bins)
    return sum(each.texts * abs(each.mean_score - each.share) for each in bins) / texts


def share(part: float, count: float) -> Interval:
    """Return a part of a count of texts as a share, with Wilson's interval; of none, all is possible."""
    if count == 0:
        return Interval(0.0, 0.0, 1.0)
    value, z = part / count, 1.96
    middle, width = value + z**2 / (2 * count), z * float(np.sqrt(value * (1 - value) / count + (z / (2 * count)) ** 2))
    scale = 1 + z**2 / count
    return Interval(value, max(0.0, (middle - width) / scale), min(1.0, (middle + width) / scale))


def bootstrap(
    metric: Metric, repeats: Sequence[Floats], truth: Truth, groups: NDArray[np.int64], seed: int
) -> Interval:
    """Return a measure's mean over repeats, and the interval of what other draws of texts would give.

    `repeats` holds the scores [texts] of each repeat. Texts of one group are drawn together, 1,000 times.
    """
    value = float(np.mean([metric(scores, truth) for scores in repeats]))
    random = np.random.default_rng(seed)
    _, group = np.unique(groups, return_inverse=True)
    draws: list[float] = []
    while len(draws) < 1000:
        times = np.bincount(random.integers(group.max() + 1, size=group.max() + 1), minlength=group.max() + 1)
        texts = np.repeat(np.arange(len(truth)), times[group])
        if truth[texts].any() and not truth[texts].all():
            draws.append(float(np.mean([metric(scores[texts], truth[texts]) for scores in repeats])))
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(value, float(low), float(high))
