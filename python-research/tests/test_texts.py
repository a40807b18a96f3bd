"""What calibrates does not judge."""

import itertools

import pytest
from conftest import CACHE

from triptych_research import texts
from triptych_research.texts import Texts


@pytest.fixture(scope="module")
def real_texts() -> Texts:
    return texts.load(CACHE)


def test_there_are_as_many_as_the_card_says(real_texts: Texts) -> None:
    assert len(real_texts.calibration) == 256
    assert len(real_texts.evaluation) == 2000
    assert len(real_texts.known.texts) == len(real_texts.known.topics) == 1000
    assert len(real_texts.asked.texts) == len(real_texts.asked.topics) == 1000
    assert set(real_texts.asked.topics) == set(real_texts.known.topics)
    assert len(set(real_texts.known.topics)) == 20


def test_no_two_sets_share_a_text(real_texts: Texts) -> None:
    sets = (real_texts.calibration, real_texts.evaluation, real_texts.known.texts, real_texts.asked.texts)
    for some, others in itertools.combinations(map(set, sets), 2):
        assert not some & others
    assert len(set(real_texts.evaluation)) == 2000


def test_they_are_always_the_same(real_texts: Texts) -> None:
    assert texts.load(CACHE) == real_texts
