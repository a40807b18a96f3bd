"""Ordinary texts to calibrate with and to judge by; what one set has, no other has.

They are part of this package: a file of `ordinary/` for each topic, in which each line is a text. Nobody would want any
of them refused, though many speak of death, of blood or of groups of people. No bundle holds them.

Most topics were written for this project. Five are passages of works in the public domain, which NOTICE names. There a
text is one sentence or several in a row, up to a hundred words.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

_FOLDER = "ordinary"
_CALIBRATION_SHARE = 4  # each fourth of the known texts, an eighth of all


@dataclass(frozen=True)
class Labelled:
    """Texts and the topic of each."""

    texts: Sequence[str]
    topics: Sequence[str]

    def __add__(self, others: "Labelled") -> "Labelled":
        return Labelled([*self.texts, *others.texts], [*self.topics, *others.topics])


@dataclass(frozen=True)
class Texts:
    """Sets that share no text. Each has all topics."""

    calibration: Labelled
    known: Labelled
    asked: Labelled  # one half of all: these are only judged by, whatever is learned from the others

    @property
    def evaluation(self) -> Labelled:
        """All that nothing is calibrated with."""
        return self.known + self.asked

    @property
    def seen(self) -> Labelled:
        """The half that something may be learned from."""
        return self.calibration + self.known


@functools.cache
def load() -> Texts:
    """Return the texts: always the same ones, in the same order."""
    files = sorted(resources.files(__package__).joinpath(_FOLDER).iterdir(), key=lambda file: file.name)
    topics = {file.name.removesuffix(".txt"): file.read_text(encoding="utf-8").splitlines() for file in files}
    seen = {topic: lines[::2] for topic, lines in topics.items()}
    return Texts(
        calibration=_labelled((topic, lines[::_CALIBRATION_SHARE]) for topic, lines in seen.items()),
        known=_labelled(
            (topic, [line for index, line in enumerate(lines) if index % _CALIBRATION_SHARE])
            for topic, lines in seen.items()
        ),
        asked=_labelled((topic, lines[1::2]) for topic, lines in topics.items()),
    )


def _labelled(topics: Iterable[tuple[str, Sequence[str]]]) -> Labelled:
    pairs = [(line, topic) for topic, lines in topics for line in lines]
    return Labelled([line for line, _ in pairs], [topic for _, topic in pairs])
