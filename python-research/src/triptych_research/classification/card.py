"""What the moderation head's card says: what training measured, and what it cannot do."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from triptych_research import card
from triptych_research.bundle import MEASUREMENTS, QUALITY_PLOT
from triptych_research.card import Card
from triptych_research.classification.head import Head, HeadLabel
from triptych_research.classification.thresholds import MAX_FALSE_ALARMS, MIN_PRECISION

Scores = Mapping[str, Any]  # what train.Scores wrote

# Harmless. They look for what heads like this one are known to get wrong.
PROBES = (
    "The weather is nice.",
    "My neighbours are Swedes.",
    "My neighbours are Muslims.",
    "The church opens at nine.",
    "The synagogue opens at nine.",
    "Black women founded this company.",
    "Immigrants from Mexico live in our street.",
    "I am a gay man.",
    "We are two men and we married in May.",
    "How do I kill a Python process?",
    "The patient bled heavily after surgery.",
    "Her breasts were examined by the doctor.",
    "The army attacked the city at dawn, and hundreds died.",
)
_SHOWN = 0.1
_QUALITY = ("category", "known", "positives", "AUC", "average precision")
_VERDICT = (
    "category",
    "says",
    "threshold",
    "precision",
    "recall",
    "unseen: precision",
    "recall",
    "false alarms on ordinary texts",
)
_CALIBRATION = ("category", "Brier score", "of the share", "calibration error")

_LIMITS = """\
- It was trained on few texts, of which far more are unwanted than in most traffic. Where nearly all texts are harmless,
  a score overstates the probability, and precision at these thresholds is lower than in the table: then most of what is
  flagged may be false alarms, however rare these are.
- Rates of false alarms are those of texts like the ones above. Try it on yours before you refuse any because of it.
- Rare categories rest on few positives; their intervals are wide.
- It judges a small sentence encoder's vector of the text. It does not know who speaks to whom, sarcasm, quotation,
  fiction, news and history from the real thing, or what came before in a conversation.
- English only. The encoder has seen little else, and no other language was measured.
- Misspelled or disguised words, leetspeak and deliberate attacks pass. Nothing of the kind was measured.
- The name of a group of people alone can raise *hate* far above its threshold, as the harmless texts below show. It is
  advisory; who refuses texts because of it silences those whom it is to protect.
- Five categories of OpenAI's thirteen have no training data and are no labels of this model: harassment/threatening,
  illicit, illicit/violent, self-harm/intent and self-harm/instructions. Who must show them has to say *not assessed*.
- *self-harm* does not tell a cry for help from encouragement, and misses short plain ones. It is no substitute for
  care, and *sexual/minors* is no substitute for the legally required ways of detection and report.
- A text longer than the encoder takes is judged by its worst part, so long texts are flagged more readily. Within a
  part of up to 254 tokens one bad sentence among many good ones is lost."""


def make(head: Head, scores: Scores, probes: np.ndarray) -> Card:
    """Return the card; `scores` are what training measured, `probes` what the head says of PROBES [texts, labels]."""
    data = (
        f"OpenAI's moderation evaluation set (MIT licence): `data/{scores['data']}` of {scores['data_origin']}, "
        f"SHA-256 `{scores['data_sha256']}`"
    )
    return Card(
        summary=(
            f"Scores a text for {len(head.labels)} of the categories of OpenAI's moderation endpoint, 0 to 1 each: a "
            f"linear head on\nthe vectors of `{head.encoder}`."
        ),
        facts={
            "trained by": f"`{scores['command']}`",
            "encoder": f"`{head.encoder}`, source `{head.encoder_sha256}`",
            "trained on": data,
            "texts": f"{scores['texts']:,}, as {scores['windows']:,} windows; "
            f"{scores['near_copies']} are near copies of another; and {scores['ordinary_seen']:,} ordinary ones",
        },
        body=_body(head, scores, probes),
        measured=scores,
        plots={QUALITY_PLOT: _figure(scores)},
    )


def _body(head: Head, scores: Scores, probes: np.ndarray) -> str:
    categories = scores["categories"]
    return f"""\
**It is trained on OpenAI's published evaluation set. Results of this model on that set mean nothing and must not be
reported.**

## How it was trained and judged

One logistic regression for each category, on the texts whose label for it is known and on {scores["ordinary_seen"]:,}
ordinary texts of the exporter's, which are none of it. All numbers below are of texts that the scoring head had not
seen: {scores["folds"]}-fold cross-validation, stratified, near copies in the same fold, repeated with
{len(scores["seeds"])} seeds. Penalty and calibration (a scale and a shift of the logit) are chosen inside each fold's
training texts. Intervals hold 95 % of 1,000 bootstrap draws of texts; training on other texts would vary besides. In
this table and the next are the labelled texts alone.

{card.table(_QUALITY, map(_quality_row, categories))}

Average precision has to be read beside the share of positives, which is what guessing gets.

## Thresholds

A category says *verdicts* if a threshold, in steps of 0.01, has both: at most {MAX_FALSE_ALARMS:.1%} false alarms on
the ordinary texts that it learned from, and a precision of at least {MIN_PRECISION} on labelled texts that the head had
not seen, by the lower end of its 95 % interval. It is the lowest such threshold. Other categories say *advice*, for
people who look: of the thresholds with so few false alarms they have the one with the highest F1. Nothing should be
refused because of advice, and `flagged` leaves it out. *Unseen* are precision and recall when the threshold, too, was
chosen on other texts: what to expect on texts like these. False alarms are those of the next section, with 95 %
intervals.

{card.table(_VERDICT, map(_verdict_row, categories))}

A service that must not miss takes lower thresholds; the curves in `{MEASUREMENTS}` say what that costs.

## False alarms

Counted on {sum(each["texts"] for each in scores["ordinary"]):,} ordinary texts that neither a weight nor a threshold
has seen, on either graph's vectors: {_share(scores["flagged"])} are flagged, and none should be. *Advised* are those
that an advisory category says something of.

{card.table(("topic", "texts", "flagged", "advised"), map(_topic_row, scores["ordinary"]))}

![Precision over recall, and shares over scores]({QUALITY_PLOT})

## Calibration

Over the labelled and the ordinary texts. The Brier score is the mean squared error of the probability. Of always saying
the category's share it is the second number. The calibration error is the mean distance of score and share in ten bins
of equally many texts.

{card.table(_CALIBRATION, map(_calibration_row, categories))}

## What it cannot do

{_LIMITS}

Some harmless texts, and all scores of 0.1 and more; what is at or above its threshold is in bold if it is a verdict,
in italics if it is advice:

{card.table(["text", "scores"], _probe_rows(head, probes))}"""


def _quality_row(each: Scores) -> Sequence[str]:
    auc, precision = (_interval(each[measure]) for measure in ("auc", "average_precision"))
    positives = f"{each['positives']} ({each['positives'] / each['texts']:.1%})"
    return each["name"], f"{each['texts']:,}", positives, auc, precision


def _verdict_row(each: Scores) -> Sequence[str]:
    chosen, unseen = each["at_threshold"], each["at_unseen"]
    numbers = (each["threshold"], chosen["precision"], chosen["recall"], unseen["precision"], unseen["recall"])
    kind = "advice" if each["advisory"] else "verdicts"
    return each["name"], kind, *(f"{number:.2f}" for number in numbers), _share(each["false_alarms"])


def _topic_row(each: Scores) -> Sequence[str]:
    return each["topic"], *(str(each[count]) for count in ("texts", "flagged", "advised"))


def _calibration_row(each: Scores) -> Sequence[str]:
    return each["name"], f"{each['brier']:.4f}", f"{each['brier_of_base_rate']:.4f}", f"{each['calibration_error']:.3f}"


def _probe_rows(head: Head, probes: np.ndarray) -> Iterator[Sequence[str]]:
    for text, scores in zip(PROBES, probes, strict=True):
        shown = [_shown(label, score) for label, score in zip(head.labels, scores, strict=True) if score >= _SHOWN]
        yield text, ", ".join(shown) or "none"


def _shown(label: HeadLabel, score: float) -> str:
    mark = "" if score < label.threshold else "*" if label.advisory else "**"
    return f"{mark}{label.name} {score:.2f}{mark}"


def _share(interval: Scores) -> str:
    return f"{interval['value']:.2%} ({interval['low']:.2%} to {interval['high']:.2%})"


def _interval(interval: Scores) -> str:
    return f"{interval['value']:.2f} ({interval['low']:.2f} to {interval['high']:.2f})"


def _figure(scores: Scores) -> Figure:
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for each in scores["categories"]:
        recall, precision = ([point[axis] for point in each["curve"]] for axis in ("recall", "precision"))
        (line,) = left.plot(recall, precision, label=each["name"])
        chosen = each["at_threshold"]
        left.plot(chosen["recall"], chosen["precision"], "o", color=line.get_color())
        means, shares = ([one[axis] for one in each["reliability"]] for axis in ("mean_score", "share"))
        right.plot(means, shares, ".-", color=line.get_color())
    left.set(xlabel="recall", ylabel="precision", title="dots: the thresholds", xlim=(0, 1.02), ylim=(0, 1.02))
    figure.legend(loc="outside right center", fontsize="small")
    right.plot([0, 1], [0, 1], color="gray", linestyle=":")
    right.set(xlabel="mean score of a tenth of the texts", ylabel="share that is it", title="calibration")
    return figure
