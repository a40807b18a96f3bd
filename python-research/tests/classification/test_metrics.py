"""Measures, by their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych_research.classification import metrics

# Few distinct scores, so that ties are common.
JUDGED = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: 0 < sum(truth for _, truth in pairs) < len(pairs)
)


def unpack(pairs: list[tuple[int, bool]]) -> tuple[metrics.Floats, metrics.Truth]:
    scores, truth = zip(*pairs, strict=True)
    return np.array(scores, float) / 6, np.array(truth)


@given(JUDGED)
def test_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    scores, truth = unpack(pairs)
    wins = [(a > b) + (a == b) / 2 for a in scores[truth] for b in scores[~truth]]
    assert metrics.auc(scores, truth) == pytest.approx(np.mean(wins))


@given(JUDGED)
def test_average_precision_is_the_mean_precision_at_positives(pairs: list[tuple[int, bool]]) -> None:
    scores, truth = unpack(pairs)
    precisions = [truth[scores >= score].mean() for score in scores[truth]]
    assert metrics.average_precision(scores, truth) == pytest.approx(np.mean(precisions))


def test_verdicts() -> None:
    scores, truth = np.array([0.9, 0.8, 0.5, 0.2, 0.1]), np.array([True, False, True, True, False])
    result = metrics.verdicts(scores, truth, 0.5)
    assert result.precision == pytest.approx(2 / 3)
    assert result.recall == pytest.approx(2 / 3)
    assert result.f1 == pytest.approx(2 / 3)
    assert result.false_positive_rate == 0.5
    nothing = metrics.verdicts(scores, truth, 0.95)
    assert (nothing.precision, nothing.recall, nothing.f1) == (1, 0, 0)


def test_a_calibrated_score_has_no_error_and_a_boastful_one_has() -> None:
    random = np.random.default_rng(0)
    chances = random.random(20_000)
    truth = random.random(20_000) < chances
    assert metrics.calibration_error(metrics.reliability(chances, truth)) < 0.02
    assert metrics.calibration_error(metrics.reliability(np.sqrt(chances), truth)) > 0.1
    assert metrics.brier(chances, truth) < metrics.brier(np.sqrt(chances), truth)
    assert [each.texts for each in metrics.reliability(chances, truth)] == [2000] * 10


def test_the_interval_holds_the_truth_and_narrows_with_more_texts() -> None:
    random = np.random.default_rng(0)

    def interval(texts: int) -> metrics.Interval:
        truth = random.random(texts) < 0.3
        scores = truth + random.normal(size=texts)  # AUC of two normals one apart: 0.760
        return metrics.bootstrap(metrics.auc, [scores], truth, np.arange(texts), seed=0)

    few, many = interval(100), interval(2000)
    assert few.low < 0.760 < few.high
    assert many.low < 0.760 < many.high
    assert many.high - many.low < (few.high - few.low) / 3


def test_copies_of_a_text_do_not_narrow_the_interval() -> None:
    random = np.random.default_rng(0)
    truth = random.random(100) < 0.3
    scores = truth + random.normal(size=100)
    alone = metrics.bootstrap(metrics.auc, [scores], truth, np.arange(100), seed=0)
    five = metrics.bootstrap(metrics.auc, [np.tile(scores, 5)], np.tile(truth, 5), np.tile(np.arange(100), 5), seed=0)
    assert five == alone


def test_a_share_has_an_interval_even_if_it_is_none() -> None:
    some, none, of_none = metrics.share(5, 1000), metrics.share(0, 1000), metrics.share(0, 0)
    assert [some.value, some.low, some.high] == pytest.approx([0.005, 0.0021, 0.0117], abs=1e-4)
    assert [none.value, none.low, none.high] == pytest.approx([0, 0, 0.0038], abs=1e-4)
    assert [of_none.low, of_none.high] == [0, 1]
