"""Nothing that is judged has been seen, and nothing that was seen is judged."""

import numpy as np
import pytest

from triptych_research.classification import logistic, metrics, validation
from triptych_research.classification.logistic import Floats
from triptych_research.classification.validation import Examples


def directions(random: np.random.Generator, rows: int, dimensions: int = 16) -> Floats:
    vectors = random.normal(size=(rows, dimensions))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float64)


def examples(truth: np.ndarray, vectors: Floats, groups: np.ndarray | None = None) -> Examples:
    """Texts of one window each."""
    texts = np.arange(len(truth))
    return Examples(vectors, texts, truth, texts if groups is None else groups)


def out_of_fold(some: Examples) -> Floats:
    logits, _ = validation.out_of_fold(some, seed=0, done=lambda: None)
    return logits


def test_what_cannot_be_known_is_not_found_out() -> None:
    random = np.random.default_rng(0)
    chance = examples(random.random(600) < 0.3, directions(random, 600))
    assert 0.4 < metrics.auc(out_of_fold(chance), chance.truth) < 0.6


def test_copies_tell_nothing_if_they_are_grouped_and_all_if_not() -> None:
    random = np.random.default_rng(0)
    truth = np.repeat(random.random(200) < 0.3, 3)
    vectors = np.repeat(directions(random, 200, dimensions=400), 3, axis=0)
    owners = np.arange(600)
    grouped = examples(truth, vectors, validation.near_copies(vectors, owners))
    assert 0.4 < metrics.auc(out_of_fold(grouped), truth) < 0.6
    assert metrics.auc(out_of_fold(examples(truth, vectors)), truth) > 0.9


def test_what_is_there_to_be_learnt_is_learnt_and_calibrated() -> None:
    random = np.random.default_rng(1)
    vectors = directions(random, 1500)
    chances = logistic.sigmoid(vectors @ random.normal(size=16) * 3 - 1)
    learnable = examples(random.random(1500) < chances, vectors)
    logits = out_of_fold(learnable)
    assert metrics.auc(logits, learnable.truth) > metrics.auc(chances, learnable.truth) - 0.02
    assert metrics.calibration_error(metrics.reliability(logistic.sigmoid(logits), learnable.truth)) < 0.05


def test_folds_keep_groups_together_and_shares_alike() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 2)
    some = examples(np.repeat(np.arange(100) < 20, 2), directions(random, 200), groups)
    folds = validation.stratified_folds(some, 5, random)
    assert all(len(set(folds[groups == group])) == 1 for group in range(100))
    assert [int(some.truth[folds == fold].sum()) for fold in range(5)] == [8] * 5
    assert np.bincount(folds).tolist() == [40] * 5


def test_near_copies_are_found_through_each_other() -> None:
    angles = np.array([0.0, 0.3, 2.0, 0.6, 2.1, 4.0])  # neighbours within 0.45 are near
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert validation.near_copies(vectors, np.arange(6)).tolist() == [0, 0, 2, 0, 2, 5]


def test_a_text_scores_as_its_highest_window() -> None:
    owners = np.array([0, 1, 1, 1, 2, 2])
    assert validation.highest(np.array([1.0, 5, 9, 2, -3, -4]), owners).tolist() == [1, 9, -3]


def test_some_texts_are_chosen_with_all_their_windows() -> None:
    vectors = np.arange(6.0)[:, None]
    all_texts = Examples(vectors, np.array([0, 1, 1, 1, 2, 2]), np.array([True, False, True]), np.array([0, 1, 0]))
    chosen = all_texts.of_texts(np.array([False, True, True]))
    assert chosen.vectors.ravel().tolist() == [1, 2, 3, 4, 5]
    assert chosen.owners.tolist() == [0, 0, 0, 1, 1]
    assert (chosen.truth.tolist(), chosen.groups.tolist()) == ([False, True], [1, 0])


def test_others_come_after_and_are_nothing_like() -> None:
    some = Examples(np.eye(3), np.array([0, 0, 1]), np.array([True, False]), np.array([4, 4]))
    more = some.with_others(np.zeros((3, 3)), np.array([0, 1, 1]))
    np.testing.assert_array_equal(more.vectors, np.concatenate([np.eye(3), np.zeros((3, 3))]))
    assert more.owners.tolist() == [0, 0, 1, 2, 3, 3]
    assert more.truth.tolist() == [True, False, False, False]
    assert len(set(more.groups[1:].tolist())) == 3
    assert more.groups[0] == more.groups[1]


def test_calibration_finds_scale_and_shift() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=20_000) * 2
    truth = random.random(20_000) < logistic.sigmoid(logits * 0.5 - 1)
    scale, shift, _ = validation.calibration(logits, truth)
    assert scale == pytest.approx(0.5, abs=0.05)
    assert shift == pytest.approx(-1, abs=0.05)


def test_calibration_never_turns_scores_around() -> None:
    scale, _, _ = validation.calibration(np.array([3.0, 2, 1, 0]), np.array([False, False, True, True]))
    assert scale > 0
