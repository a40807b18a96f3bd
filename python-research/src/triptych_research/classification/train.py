"""From labelled texts to a committed head and what is known of it: `triptych-models train-moderation`.

Heads see float32 vectors. They are judged on those of both of the encoder's graphs, because either may be served.
"""

import datetime
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from triptych.bundle.v1 import bundle_pb2
from triptych_research.bundle import Bundle
from triptych_research.classification import dataset, metrics, validation
from triptych_research.classification.dataset import CATEGORIES, UNKNOWN, Dataset
from triptych_research.classification.head import Head, HeadLabel, rounded
from triptych_research.classification.logistic import Floats, sigmoid
from triptych_research.classification.metrics import Bin, Interval, Verdicts
from triptych_research.classification.validation import Examples
from triptych_research.classification.windows import windows

SCORES_FILE = "scores.json"
SEEDS = (0, 1, 2)
THRESHOLDS = np.round(np.arange(0.02, 0.99, 0.01), 2)
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
    """What is known of one category. Every text was scored by heads that had not seen it; means over SEEDS."""

    name: str
    texts: int  # whose label is known
    positives: int
    penalty: float
    auc: Interval
    average_precision: Interval
    auc_int8: float
    average_precision_int8: float
    verdicts_changed_by_int8: float  # share of texts
    brier: float
    brier_of_base_rate: float  # of always saying the category's share
    calibration_error: float
    reliability: Sequence[Bin]
    threshold: float
    at_threshold: Verdicts  # on the scores that the threshold was chosen on
    at_unseen: Verdicts  # with thresholds chosen on the other folds
    curve: Sequence[Point]


@dataclass(frozen=True)
class Scores:
    """What `scores.json` holds."""

    date: str
    command: str
    data: str
    data_sha256: str
    texts: int
    windows: int
    near_copies: int  # texts that are nearly the same as an earlier one
    seeds: Sequence[int]
    folds: int
    encoder_revision: str
    categories: Sequence[CategoryScores]


@dataclass(frozen=True)
class Embedded:
    """The set as vectors."""

    owners: NDArray[np.int64]  # [windows]: which text each is of
    fp32: Floats  # [windows, dimensions]
    int8: Floats  # [windows, dimensions]
    groups: NDArray[np.int64]  # [texts]


def train(folder: pathlib.Path, encoder: Bundle, progress: Progress) -> tuple[Head, Scores]:
    """Train a head on the set in `folder`. Raises DatasetError."""
    data = dataset.load(folder)
    embedded = embed(data, encoder, progress)
    done = progress("Cross-validate", len(CATEGORIES) * len(SEEDS) * validation.FOLDS)
    labels, categories = [], []
    for index, name in enumerate(CATEGORIES.values()):
        label, scores = _category(name, data.labels[:, index], embedded, done)
        labels.append(label)
        categories.append(scores)
    head = Head(encoder.manifest.name, encoder.manifest.source.sha256, labels)
    return head, Scores(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        command="triptych-models train-moderation --data FOLDER",
        data=dataset.FILE,
        data_sha256=dataset.SHA256,
        texts=len(data.texts),
        windows=len(embedded.owners),
        near_copies=len(data.texts) - len(set(embedded.groups)),
        seeds=SEEDS,
        folds=validation.FOLDS,
        encoder_revision=encoder.revision,
        categories=categories,
    )


def write_scores(scores: Scores, folder: pathlib.Path) -> None:
    """Write what is known of the head, numbers to 4 decimals."""
    numbers = json.loads(json.dumps(asdict(scores)), parse_float=lambda text: round(float(text), 4))
    (folder / SCORES_FILE).write_text(json.dumps(numbers, indent=1) + "\n")


def embed(data: Dataset, encoder: Bundle, progress: Progress) -> Embedded:
    """Return the vectors of all texts' windows, made by both graphs."""
    limit = encoder.manifest.tokenizer.max_tokens
    parts = [windows(each.ids, limit) for each in encoder.tokenizer().encode_batch(data.texts)]
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    flat = [window for part in parts for window in part]
    by_length = sorted(range(len(flat)), key=lambda index: len(flat[index]))
    starts = range(0, len(flat), _WINDOWS_PER_STEP)
    done = progress("Embed", 2 * len(starts))
    vectors = {}
    for graph in encoder.manifest.graphs:
        session = encoder.encoder(graph)
        vectors[graph.precision] = np.empty((len(flat), encoder.manifest.embedding.dimensions[0]))
        for start in starts:
            some = by_length[start : start + _WINDOWS_PER_STEP]
            vectors[graph.precision][some] = session.embed_all([flat[index] for index in some])
            done()
    fp32, int8 = vectors[bundle_pb2.PRECISION_FP32], vectors[bundle_pb2.PRECISION_INT8]
    return Embedded(owners, fp32, int8, validation.near_copies(fp32, owners))


def best_threshold(repeats: Sequence[Floats], truth: NDArray[np.bool_]) -> float:
    """Return the lowest of THRESHOLDS with the highest F1, in the mean over repeats' scores [texts]."""
    f1 = [np.mean([metrics.verdicts(scores, truth, each).f1 for scores in repeats]) for each in THRESHOLDS]
    return float(THRESHOLDS[int(np.argmax(f1))])


def _category(
    name: str, labels: NDArray[np.int8], embedded: Embedded, done: Callable[[], None]
) -> tuple[HeadLabel, CategoryScores]:
    known = labels != UNKNOWN  # [texts]
    examples = Examples(embedded.fp32, embedded.owners, labels == 1, embedded.groups).of_texts(known)
    others = embedded.int8[known[embedded.owners]]
    repeats = [validation.out_of_fold(examples, others, seed, done) for seed in SEEDS]
    scores = [sigmoid(logits) for logits, _, _ in repeats]  # each [texts]
    scores_int8 = [sigmoid(logits) for _, logits, _ in repeats]
    folds = [folds for _, _, folds in repeats]
    threshold = best_threshold(scores, examples.truth)
    head = validation.fit(examples, np.random.default_rng(SEEDS[0]))
    label = HeadLabel(name, threshold, rounded(head.bias), [rounded(weight) for weight in head.weights])
    return label, _judge(label, head.penalty, examples, scores, scores_int8, folds)


def _judge(
    label: HeadLabel,
    penalty: float,
    examples: Examples,
    scores: Sequence[Floats],
    scores_int8: Sequence[Floats],
    folds: Sequence[NDArray[np.int64]],
) -> CategoryScores:
    truth, share = examples.truth, examples.truth.mean()
    bins = metrics.reliability(np.concatenate(scores), np.tile(truth, len(scores)))
    changed = [(a >= label.threshold) != (b >= label.threshold) for a, b in zip(scores, scores_int8, strict=True)]
    return CategoryScores(
        name=label.name,
        texts=len(truth),
        positives=int(truth.sum()),
        penalty=penalty,
        auc=metrics.bootstrap(metrics.auc, scores, truth, examples.groups, seed=0),
        average_precision=metrics.bootstrap(metrics.average_precision, scores, truth, examples.groups, seed=0),
        auc_int8=_mean(metrics.auc(each, truth) for each in scores_int8),
        average_precision_int8=_mean(metrics.average_precision(each, truth) for each in scores_int8),
        verdicts_changed_by_int8=float(np.mean(changed)),
        brier=_mean(metrics.brier(each, truth) for each in scores),
        brier_of_base_rate=float(share * (1 - share)),
        calibration_error=metrics.calibration_error(bins),
        reliability=bins,
        threshold=label.threshold,
        at_threshold=_mean_verdicts([metrics.verdicts(each, truth, label.threshold) for each in scores]),
        at_unseen=_mean_verdicts([_unseen(each, truth, fold) for each, fold in zip(scores, folds, strict=True)]),
        curve=[_point(scores, truth, threshold) for threshold in THRESHOLDS[::4]],
    )


def _unseen(scores: Floats, truth: NDArray[np.bool_], folds: NDArray[np.int64]) -> Verdicts:
    """Return what the rule for thresholds gives on texts that it has not seen: each fold's is chosen on the others."""
    margin = np.empty(len(scores))
    for fold in range(validation.FOLDS):
        seen = folds != fold
        margin[~seen] = scores[~seen] - best_threshold([scores[seen]], truth[seen])
    return metrics.verdicts(margin, truth, 0.0)


def _point(scores: Sequence[Floats], truth: NDArray[np.bool_], threshold: float) -> Point:
    mean = _mean_verdicts([metrics.verdicts(each, truth, threshold) for each in scores])
    return Point(float(threshold), mean.precision, mean.recall)


def _mean_verdicts(each: Sequence[Verdicts]) -> Verdicts:
    return Verdicts(**{name: _mean(getattr(one, name) for one in each) for name in Verdicts.__dataclass_fields__})


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
