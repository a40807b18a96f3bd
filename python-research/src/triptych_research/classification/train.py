"""From labelled texts to a committed head and what is known of it: `triptych-models train-moderation`.

The labelled texts are `dataset`'s: OpenAI's published evaluation set, which this head therefore must not be judged by.
Half of the ordinary texts (`texts`) are learned from, too, as being nothing of all that; on the other half, which
neither a weight nor a threshold has seen, false alarms are counted.

Heads see float32 vectors. They are judged on those of both of the encoder's graphs, because either may be served.
"""

import datetime
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from triptych_research import texts
from triptych_research.bundle import Bundle
from triptych_research.classification import dataset, metrics, thresholds, validation
from triptych_research.classification.dataset import CATEGORIES, UNKNOWN
from triptych_research.classification.head import Head, HeadLabel, rounded
from triptych_research.classification.logistic import Floats, sigmoid
from triptych_research.classification.metrics import Bin, Interval, Verdicts
from triptych_research.classification.thresholds import THRESHOLDS, Scored
from triptych_research.classification.validation import Examples, LinearHead
from triptych_research.classification.windows import windows
from triptych_research.texts import Labelled

SCORES_FILE = "scores.json"
SEEDS = (0, 1, 2)
_WINDOWS_PER_STEP = 64

Progress = Callable[[str, int], Callable[[], None]]  # title and number of steps, to what is called after each


@dataclass(frozen=True)
class Point:
    """One point of a precision/recall curve."""

    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True)
class CategoryScores:
    """What is known of one category. Every text was scored by heads that had not seen it; means over SEEDS.

    Measures are over the labelled texts, those of calibration over the ordinary ones besides.
    """

    name: str
    texts: int  # whose label is known
    positives: int
    penalty: float
    auc: Interval
    average_precision: Interval
    brier: float
    brier_of_base_rate: float  # of always saying the category's share
    calibration_error: float
    reliability: Sequence[Bin]
    threshold: float
    advisory: bool
    at_threshold: Verdicts  # on the scores that the threshold was chosen on
    at_unseen: Verdicts  # with thresholds chosen on the other folds
    seen_false_alarms: float  # share of the ordinary texts that the threshold was chosen on, in the worst repeat
    false_alarms: Interval  # of those that nothing was chosen on
    curve: Sequence[Point]


@dataclass(frozen=True)
class TopicScores:
    """What the final head says of ordinary texts that it has not seen, on the vectors of either graph."""

    topic: str
    texts: int
    flagged: int  # by categories that are not advisory
    advised: int  # by those that are


@dataclass(frozen=True)
class Scores:
    """What `scores.json` holds."""

    date: str
    command: str
    data: str
    data_origin: str
    data_sha256: str
    texts: int
    windows: int
    near_copies: int  # texts that are nearly the same as an earlier one
    ordinary_seen: int
    seeds: Sequence[int]
    folds: int
    encoder_revision: str
    categories: Sequence[CategoryScores]
    ordinary: Sequence[TopicScores]
    flagged: Interval  # share of these ordinary texts


@dataclass(frozen=True)
class Embedded:
    """Texts as vectors."""

    owners: NDArray[np.int64]  # [windows]: which text each is of
    vectors: Floats  # [windows, dimensions]

    def alarms(self, head: LinearHead, threshold: float) -> NDArray[np.bool_]:
        """Return which texts [texts] are at or above the threshold."""
        return sigmoid(head.logits(self.vectors, self.owners)) >= threshold


@dataclass(frozen=True)
class Ordinary:
    """The ordinary texts as vectors: those that are learned from, and those that are only judged by."""

    seen: Embedded
    unseen: Embedded


@dataclass(frozen=True)
class Judged:
    """One category's scores by heads that had not seen the text; each of SEEDS gives scores and folds of its own."""

    labelled: Examples
    examples: Examples  # these, and then the ordinary texts that are learned from
    scores: Sequence[Floats]  # each [texts]
    folds: Sequence[NDArray[np.int64]]

    def of_labelled(self, repeats: Sequence[Floats]) -> list[Floats]:
        """Return the labelled texts' part of scores."""
        return [scores[: len(self.labelled.truth)] for scores in repeats]

    def scored(self) -> Scored:
        """Return what thresholds are chosen by."""
        ordinary = [scores[len(self.labelled.truth) :] for scores in self.scores]
        return Scored(self.of_labelled(self.scores), self.labelled.truth, ordinary)


def train(folder: pathlib.Path, encoder: Bundle, progress: Progress) -> tuple[Head, Scores]:
    """Train a head on the set in `folder`. Raises DatasetError."""
    data, ordinary_texts = dataset.load(folder), texts.load()
    embedded = embed(data.texts, encoder, progress)
    groups = validation.near_copies(embedded.vectors, embedded.owners)
    ordinary = Ordinary(*(embed(half.texts, encoder, progress) for half in (ordinary_texts.seen, ordinary_texts.asked)))
    done = progress("Cross-validate", len(CATEGORIES) * len(SEEDS) * validation.FOLDS)
    labels, categories, alarms = [], [], []
    for index, name in enumerate(CATEGORIES.values()):
        label, scores, of_category = _category(name, data.labels[:, index], groups, embedded, ordinary, done)
        labels.append(label)
        categories.append(scores)
        alarms.append(of_category)
    advisory = np.array([label.advisory for label in labels])
    flagged, advised = (np.array(alarms)[kind].any(axis=0) for kind in (~advisory, advisory))  # each [texts]
    head = Head(encoder.manifest.name, encoder.manifest.source.sha256, labels)
    return head, Scores(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        command="make train-moderation DATA=FOLDER",
        data=dataset.FILE,
        data_origin=dataset.ORIGIN,
        data_sha256=dataset.SHA256,
        texts=len(data.texts),
        windows=len(embedded.owners),
        near_copies=len(data.texts) - len(set(groups)),
        ordinary_seen=len(ordinary_texts.seen.texts),
        seeds=SEEDS,
        folds=validation.FOLDS,
        encoder_revision=encoder.revision,
        categories=categories,
        ordinary=_by_topic(ordinary_texts.asked, flagged, advised),
        flagged=metrics.share(int(flagged.sum()), len(flagged)),
    )


def write_scores(scores: Scores, folder: pathlib.Path) -> None:
    """Write what is known of the head, numbers to 4 decimals."""
    numbers = json.loads(json.dumps(asdict(scores)), parse_float=lambda text: round(float(text), 4))
    (folder / SCORES_FILE).write_text(json.dumps(numbers, indent=1) + "\n")


def embed(some: Sequence[str], encoder: Bundle, progress: Progress) -> Embedded:
    """Return the vectors of all texts' windows."""
    limit = encoder.manifest.tokenizer.max_tokens
    parts = [windows(each.ids, limit) for each in encoder.tokenizer().encode_batch(list(some))]
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    flat = [window for part in parts for window in part]
    by_length = sorted(range(len(flat)), key=lambda index: len(flat[index]))
    starts = range(0, len(flat), _WINDOWS_PER_STEP)
    done = progress("Embed", len(starts))
    session = encoder.encoder(encoder.manifest.graphs[0])
    vectors = np.empty((len(flat), encoder.manifest.embedding.dimensions[0]))
    for start in starts:
        step = by_length[start : start + _WINDOWS_PER_STEP]
        vectors[step] = session.embed_all([flat[index] for index in step])
        done()
    return Embedded(owners, vectors)


def _category(
    name: str,
    labels: NDArray[np.int8],
    groups: NDArray[np.int64],
    embedded: Embedded,
    ordinary: Ordinary,
    done: Callable[[], None],
) -> tuple[HeadLabel, CategoryScores, NDArray[np.bool_]]:
    """Return a category's label, what is known of it, and which unseen ordinary texts [texts] it is said of."""
    known = labels != UNKNOWN  # [texts]
    labelled = Examples(embedded.vectors, embedded.owners, labels == 1, groups).of_texts(known)
    examples = labelled.with_others(ordinary.seen.vectors, ordinary.seen.owners)
    repeats = [validation.out_of_fold(examples, seed, done) for seed in SEEDS]
    judged = Judged(
        labelled,
        examples,
        scores=[sigmoid(logits) for logits, _ in repeats],
        folds=[folds for _, folds in repeats],
    )
    head = validation.fit(examples, np.random.default_rng(SEEDS[0]))

    scored = judged.scored()
    advisory = thresholds.verdict(scored) == np.inf
    rule = thresholds.hint if advisory else thresholds.verdict
    threshold, margins = rule(scored), thresholds.unseen(scored, judged.folds, rule)
    label = HeadLabel(name, threshold, advisory, rounded(head.bias), [rounded(weight) for weight in head.weights])
    alarms = ordinary.unseen.alarms(head, threshold)
    return label, _judge(label, head.penalty, judged, margins, alarms), alarms


def _judge(
    label: HeadLabel, penalty: float, judged: Judged, margins: Sequence[Floats], alarms: NDArray[np.bool_]
) -> CategoryScores:
    truth, groups = judged.labelled.truth, judged.labelled.groups
    scores = judged.of_labelled(judged.scores)
    all_truth = judged.examples.truth
    bins = metrics.reliability(np.concatenate(judged.scores), np.tile(all_truth, len(judged.scores)))
    return CategoryScores(
        name=label.name,
        texts=len(truth),
        positives=int(truth.sum()),
        penalty=penalty,
        auc=metrics.bootstrap(metrics.auc, scores, truth, groups, seed=0),
        average_precision=metrics.bootstrap(metrics.average_precision, scores, truth, groups, seed=0),
        brier=_mean(metrics.brier(each, all_truth) for each in judged.scores),
        brier_of_base_rate=float(all_truth.mean() * (1 - all_truth.mean())),
        calibration_error=metrics.calibration_error(bins),
        reliability=bins,
        threshold=label.threshold,
        advisory=label.advisory,
        at_threshold=_mean_verdicts([metrics.verdicts(each, truth, label.threshold) for each in scores]),
        at_unseen=_mean_verdicts([metrics.verdicts(each, truth, 0.0) for each in margins]),
        seen_false_alarms=thresholds.false_alarms(judged.scored(), label.threshold),
        false_alarms=metrics.share(int(alarms.sum()), len(alarms)),
        curve=[_point(scores, truth, threshold) for threshold in THRESHOLDS[::4]],
    )


def _by_topic(ordinary: Labelled, flagged: NDArray[np.bool_], advised: NDArray[np.bool_]) -> list[TopicScores]:
    topics = np.array(ordinary.topics)
    places = {topic: topics == topic for topic in dict.fromkeys(ordinary.topics)}
    return [
        TopicScores(topic, int(of_it.sum()), int(flagged[of_it].sum()), int(advised[of_it].sum()))
        for topic, of_it in places.items()
    ]


def _point(scores: Sequence[Floats], truth: NDArray[np.bool_], threshold: float) -> Point:
    mean = _mean_verdicts([metrics.verdicts(each, truth, threshold) for each in scores])
    return Point(float(threshold), mean.precision, mean.recall)


def _mean_verdicts(each: Sequence[Verdicts]) -> Verdicts:
    return Verdicts(**{name: _mean(getattr(one, name) for one in each) for name in Verdicts.__dataclass_fields__})


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
