"""What calibrates does not judge, and what is judged by is enough."""

import difflib
import itertools

import pytest

from triptych_research import texts
from triptych_research.classification.thresholds import MAX_FALSE_ALARMS
from triptych_research.texts import Texts


@pytest.fixture(scope="module")
def real_texts() -> Texts:
    return texts.load()


def test_there_are_enough(real_texts: Texts) -> None:
    assert len(real_texts.calibration.texts) >= 256
    assert len(real_texts.evaluation.texts) >= 1500
    # Below, the share of false alarms that is allowed would be less than five texts.
    assert len(real_texts.seen.texts) >= 1000
    assert len(real_texts.asked.texts) * MAX_FALSE_ALARMS >= 5


def test_each_set_has_every_topic(real_texts: Texts) -> None:
    topics = set(real_texts.asked.topics)
    assert len(topics) >= 20
    for some in (real_texts.calibration, real_texts.known, real_texts.asked):
        assert set(some.topics) == topics
        assert len(some.texts) == len(some.topics)
        assert all(text == text.strip() and len(text) > 9 for text in some.texts)


def test_no_two_sets_share_a_text_or_its_like(real_texts: Texts) -> None:
    by_topic = {
        topic: [text for text, its in zip(some.texts, some.topics, strict=True) if its == topic]
        for some in (real_texts.seen + real_texts.asked,)
        for topic in dict.fromkeys(some.topics)
    }
    every = list(itertools.chain.from_iterable(by_topic.values()))
    assert len(set(every)) == len(every)
    for some in by_topic.values():
        for one, other in itertools.combinations(some, 2):
            words, others = set(one.lower().split()), set(other.lower().split())
            if len(words & others) > 0.6 * len(words | others):
                assert difflib.SequenceMatcher(None, one, other).ratio() < 0.8, (one, other)


def test_they_are_of_all_lengths(real_texts: Texts) -> None:
    lengths = sorted(len(text.split()) for text in real_texts.calibration.texts)
    assert lengths[0] <= 5
    assert lengths[-1] >= 80
