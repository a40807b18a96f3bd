"""What may be believed of a head: every text is scored by a head that was fitted without it.

Fitting chooses its penalty and calibrates its probabilities in folds of what it is given, so that the folds here judge
both, too. Texts that are nearly the same are in the same fold.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from triptych_research.classification import logistic
from triptych_research.classification.logistic import Floats

FOLDS, INNER_FOLDS = 5, 4
PENALTIES = (3.0, 1.0, 0.3, 0.1)  # strongest first: each fit starts from the one before
SAME_TEXT = 0.9  # cosine; between 0.9 and 0.95 the set has two pairs, above 51, which are reworded or cut copies

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """What a head for one category is fitted to: texts as windows, whose vectors are the rows."""

    vectors: Floats  # [windows, dimensions]
    owners: Indices  # [windows], ascending: which text each window is of, from 0 without gaps
    truth: NDArray[np.bool_]  # [texts]
    groups: Indices  # [texts]: texts of one group are nearly the same

    def of_texts(self, chosen: NDArray[np.bool_]) -> "Examples":
        """Return the examples of some texts: `chosen` is [texts]."""
        places = np.cumsum(chosen) - 1  # [texts]
        windows = chosen[self.owners]  # [windows]
        return Examples(self.vectors[windows], places[self.owners[windows]], self.truth[chosen], self.groups[chosen])

    def with_others(self, vectors: Floats, owners: Indices) -> "Examples":
        """Return the examples and, after them, texts that are not it and are like no other."""
        first, more = len(self.truth), int(owners[-1]) + 1
        return Examples(
            np.concatenate([self.vectors, vectors]),
            np.concatenate([self.owners, owners + first]),
            np.concatenate([self.truth, np.zeros(more, bool)]),
            np.concatenate([self.groups, np.arange(more) + self.groups.max() + 1]),
        )


@dataclass(frozen=True)
class LinearHead:
    """Vector to probability, for one category."""

    weights: Floats  # [dimensions]
    bias: float
    penalty: float  # that it was fitted with

    def logits(self, vectors: Floats, owners: Indices) -> Floats:
        """Return each text's logit [texts]: the highest of its windows'."""
        return highest(vectors @ self.weights + self.bias, owners)


def highest(scores: Floats, owners: Indices) -> Floats:
    """Return each text's highest score [texts] of its windows' [windows]."""
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    return np.maximum.reduceat(scores, starts)


def near_copies(vectors: Floats, owners: Indices) -> Indices:
    """Return a group number for each text: the first text that it, or one of its group, nearly is."""
    first = vectors[np.flatnonzero(np.diff(owners, prepend=-1))]  # [texts, dimensions]: each text's first window
    group = np.arange(len(first))
    for a, b in np.argwhere(np.triu(first @ first.T > SAME_TEXT, k=1)):
        group[group == group[b]] = group[a]
    return group


def fit(examples: Examples, random: np.random.Generator) -> LinearHead:
    """Fit a head: the penalty whose calibrated out-of-fold scores have the least log loss, calibrated by these."""
    folds = stratified_folds(examples, INNER_FOLDS, random)
    logits = {penalty: np.empty(len(folds)) for penalty in PENALTIES}  # [texts], out of fold
    for fold in range(INNER_FOLDS):
        held_out = examples.of_texts(folds == fold)
        for head in _path(examples.of_texts(folds != fold)):
            logits[head.penalty][folds == fold] = head.logits(held_out.vectors, held_out.owners)
    calibrated = {penalty: calibration(out_of_fold, examples.truth) for penalty, out_of_fold in logits.items()}
    losses = {penalty: loss for penalty, (_, _, loss) in calibrated.items()}
    best = min(losses, key=losses.__getitem__)
    scale, shift, _ = calibrated[best]
    head = next(head for head in _path(examples) if head.penalty == best)
    return LinearHead(head.weights * scale, head.bias * scale + shift, best)


def calibration(logits: Floats, truth: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return scale and shift that make logits tell probabilities (Platt, 1999), and the log loss that is left.

    The targets are drawn in a little from 0 and 1, as if one more text of each kind had been seen; a scale is positive,
    or the scores would be worse than chance.
    """
    positives = int(truth.sum())
    targets = np.where(truth, (positives + 1) / (positives + 2), 1 / (len(truth) - positives + 2))
    scale, shift = (float(value) for value in logistic.fit(logits[:, None], targets, penalty=1e-6))
    scale = max(scale, 1e-3)
    return scale, shift, logistic.log_loss(logits * scale + shift, truth.astype(float))


def out_of_fold(examples: Examples, seed: int, done: Callable[[], None]) -> tuple[Floats, NDArray[np.int64]]:
    """Return the logits [texts] of heads that had not seen the text, and the folds; `done` is called after each."""
    random = np.random.default_rng(seed)
    folds = stratified_folds(examples, FOLDS, random)
    logits = np.empty(len(folds))
    for fold in range(FOLDS):
        head = fit(examples.of_texts(folds != fold), random)
        held_out = examples.of_texts(folds == fold)
        logits[folds == fold] = head.logits(held_out.vectors, held_out.owners)
        done()
    return logits, folds


def stratified_folds(examples: Examples, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return each text's fold [texts]: groups stay together, and folds have alike shares of texts that are it."""
    _, group = np.unique(examples.groups, return_inverse=True)
    positive = np.zeros(group.max() + 1, bool)
    np.logical_or.at(positive, group, examples.truth)
    fold = np.empty(len(positive), np.int64)
    for kind in (True, False):
        members = random.permutation(np.flatnonzero(positive == kind))
        fold[members] = np.arange(len(members)) % count
    return fold[group]


def _path(examples: Examples) -> list[LinearHead]:
    """Return an uncalibrated head for each of PENALTIES. A text counts once, however many windows it has."""
    heads, start = [], None
    shares = 1 / np.bincount(examples.owners)[examples.owners]  # [windows]
    targets = examples.truth[examples.owners].astype(float)  # [windows]
    for penalty in PENALTIES:
        start = logistic.fit(examples.vectors, targets, penalty, shares, start)
        heads.append(LinearHead(start[:-1], float(start[-1]), penalty))
    return heads
