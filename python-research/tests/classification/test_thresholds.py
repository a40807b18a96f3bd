"""Which threshold is chosen: one whose verdicts can be acted on, or none."""

import numpy as np
import pytest

from triptych_research.classification import thresholds
from triptych_research.classification.thresholds import Scored

TRUTH = np.arange(200) < 100
SEPARATED = np.where(TRUTH, 0.9, 0.1) + np.linspace(0, 0.05, 200)
ORDINARY = np.concatenate([np.full(990, 0.01), np.linspace(0.3, 0.7, 9), [0.75]])


def test_a_verdict_has_few_false_alarms_and_is_mostly_right() -> None:
    # Six of the thousand are at or above 0.5, five above it.
    assert thresholds.verdict(Scored([SEPARATED], TRUTH, [ORDINARY])) == 0.51
    assert thresholds.false_alarms(Scored([], TRUTH, [ORDINARY]), 0.51) == thresholds.MAX_FALSE_ALARMS
    # What is alarming to one of the graphs alone counts.
    both = Scored([SEPARATED], TRUTH, [np.zeros(1000), ORDINARY])
    assert thresholds.verdict(both) == 0.51


def test_precision_can_ask_for_a_higher_one() -> None:
    wrong = SEPARATED.copy()
    wrong[100:150] = 0.6  # 100 right, 50 wrong from 0.51 on
    assert thresholds.verdict(Scored([wrong], TRUTH, [ORDINARY])) == 0.61
    wrong[112:150] = 0.1  # 100 right, 12 wrong: 0.89, and hardly below 0.8
    assert thresholds.verdict(Scored([wrong], TRUTH, [ORDINARY])) == 0.51
    wrong[100:120] = 0.6  # 100 right, 20 wrong: 0.83, but it may be 0.76
    assert thresholds.verdict(Scored([wrong], TRUTH, [ORDINARY])) == 0.61


@pytest.mark.parametrize("what", ["always wrong", "alarming", "rare", "silent"])
def test_where_no_threshold_is_good_there_is_none(what: str) -> None:
    scores, ordinary = SEPARATED.copy(), ORDINARY.copy()
    if what == "always wrong":
        scores = scores[::-1]
    elif what == "alarming":
        ordinary[:6] = 0.99
    elif what == "rare":
        scores[15:100] = 0.01  # 15 right ones of 15 are too few to be sure
    else:
        scores = np.zeros(200)
    assert thresholds.verdict(Scored([scores], TRUTH, [ordinary])) == np.inf


def test_a_hint_has_the_best_f1_of_those_with_few_false_alarms() -> None:
    assert thresholds.hint(Scored([SEPARATED], TRUTH, [np.zeros(1000)])) == 0.16  # all are right from here on
    assert thresholds.hint(Scored([SEPARATED], TRUTH, [ORDINARY])) == 0.51
    assert thresholds.hint(Scored([SEPARATED], TRUTH, [np.ones(1000)])) == 0.98  # nothing helps: the highest


def test_a_threshold_for_unseen_texts_was_chosen_without_them() -> None:
    """Two folds whose scores are right from other places on: each is judged by the other's."""
    folds = np.concatenate([np.arange(200) % 2, np.arange(1000) % 2])
    scores = np.where(folds[:200] == 0, SEPARATED / 2, SEPARATED)
    scored = Scored([scores], TRUTH, [np.zeros(1000)])
    (margin,) = thresholds.unseen(scored, [folds], thresholds.hint)
    first = folds[:200] == 0
    of_first, of_second = (
        thresholds.hint(Scored([scores[part]], TRUTH[part], [np.zeros(9)])) for part in (first, ~first)
    )
    assert of_first < of_second
    np.testing.assert_allclose(margin, scores - np.where(first, of_second, of_first))
