"""From which score on a text is said to be something, and whether that is a verdict or no more than a hint.

A verdict raises few false alarms on ordinary texts, and is mostly right on texts that may be anything. A category whose
scores allow no such threshold is *advisory*.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from triptych_research.classification import metrics
from triptych_research.classification.logistic import Floats

THRESHOLDS = np.round(np.arange(0.02, 0.99, 0.01), 2)
MAX_FALSE_ALARMS = 0.005  # of ordinary texts
MIN_PRECISION = 0.8  # the lower end of its 95 % interval: four right ones of five are no proof


@dataclass(frozen=True)
class Scored:
    """One category's scores of texts, each by heads that had not seen the text."""

    labelled: Sequence[Floats]  # each repeat's [texts]
    truth: NDArray[np.bool_]  # [texts]
    ordinary: Sequence[Floats]  # each repeat's [ordinary texts]


Rule = Callable[[Scored], float]  # infinity: no threshold will do


def verdict(scored: Scored) -> float:
    """Return the lowest threshold that is good for verdicts, or infinity."""
    good = (
        each for each in THRESHOLDS if false_alarms(scored, each) <= MAX_FALSE_ALARMS and _mostly_right(scored, each)
    )
    return float(next(good, np.inf))


def hint(scored: Scored) -> float:
    """Return the threshold with the highest F1 among those with few false alarms; of equals the lowest.

    F1 is the mean over repeats.
    """
    few = [each for each in THRESHOLDS if false_alarms(scored, each) <= MAX_FALSE_ALARMS] or [THRESHOLDS[-1]]
    f1 = [np.mean([metrics.verdicts(scores, scored.truth, each).f1 for scores in scored.labelled]) for each in few]
    return float(few[int(np.argmax(f1))])


def false_alarms(scored: Scored, threshold: float) -> float:
    """Return the share of the ordinary texts that are flagged, in the worst repeat."""
    return max(float((scores >= threshold).mean()) for scores in scored.ordinary)


def unseen(scored: Scored, folds: Sequence[NDArray[np.int64]], rule: Rule) -> list[Floats]:
    """Return for each repeat how far labelled texts score above a threshold that was chosen without them [texts].

    Each repeat's folds [labelled texts, then ordinary texts] are those of its heads: a fold's threshold is chosen on
    the scores of the others.
    """
    margins = []
    for repeat, fold in enumerate(folds):
        labelled, ordinary = fold[: len(scored.truth)], fold[len(scored.truth) :]
        margin = np.empty(len(labelled))
        for each in np.unique(fold):
            seen = labelled != each
            of_ordinary = [scores[ordinary != each] for scores in scored.ordinary[repeat :: len(folds)]]
            threshold = rule(Scored([scored.labelled[repeat][seen]], scored.truth[seen], of_ordinary))
            margin[~seen] = scored.labelled[repeat][~seen] - threshold
        margins.append(margin)
    return margins


def _mostly_right(scored: Scored, threshold: float) -> bool:
    flagged = [scores >= threshold for scores in scored.labelled]
    # The repeats are of the same texts, so their mean counts as much as one of them.
    right, count = np.mean([(int((each & scored.truth).sum()), int(each.sum())) for each in flagged], axis=0)
    return metrics.share(right, count).low >= MIN_PRECISION
