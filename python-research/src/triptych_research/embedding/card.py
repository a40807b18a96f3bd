"""What an encoder's card says: what int8 keeps of fp32 on real texts, and how fast both are."""

import collections
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from triptych_research import card
from triptych_research.bundle import QUALITY_PLOT, SPEED_PLOT
from triptych_research.card import Card
from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.embedding.evaluate import GATES, Quality
from triptych_research.embedding.sentence_files import Prompts
from triptych_research.embedding.speed import PADDED_BATCH, TOKENS_PER_BATCH
from triptych_research.texts import Texts


@dataclass(frozen=True)
class Topics:
    """How many texts' topics each precision found."""

    topics: int
    known: int
    asked: int
    largest: int  # of the asked texts, how many are of the topic that most are of
    fp32: int
    int8: int
    fp32_alone: int
    int8_alone: int

    @classmethod
    def count(cls, texts: Texts, fp32: np.ndarray, int8: np.ndarray) -> "Topics":
        """Count two judgements [texts] of bool on the asked texts."""
        sizes = collections.Counter(texts.asked.topics)
        of_set = (len(sizes), len(texts.known.texts), len(texts.asked.texts), max(sizes.values()))
        return cls(*of_set, *map(int, (fp32.sum(), int8.sum(), (fp32 & ~int8).sum(), (int8 & ~fp32).sum())))


@dataclass(frozen=True)
class Measurements:
    """All that was measured."""

    calibration_texts: int
    evaluation_texts: int
    evaluation_tokens: int
    quality: Quality  # of int8, against fp32
    topics: Topics
    tokens_per_second: Mapping[str, float]  # by way of running, one thread
    size_bytes: Mapping[str, int]  # by precision


def make(
    checkpoint: Checkpoint,
    measured: Measurements,
    vectors: Mapping[str, np.ndarray],
    left_out: Mapping[str, str],
) -> Card:
    """Return the card; `vectors` are those of the evaluation texts [texts, hidden], by precision."""
    dimensions, limit = checkpoint.config.hidden_size, checkpoint.max_tokens
    summary = f"Text to a vector of {dimensions} dimensions; at most {limit} tokens."
    return Card(
        summary=summary + prompts_note(checkpoint.prompts),
        facts={"left out of the weights": ", ".join(checkpoint.unused)} if checkpoint.unused else {},
        body=_body(measured),
        measured=dataclasses.asdict(measured),
        plots={
            QUALITY_PLOT: _quality_figure(measured.quality, vectors),
            SPEED_PLOT: _speed_figure(measured.tokens_per_second),
        },
        left_out=left_out,
    )


def prompts_note(prompts: Prompts) -> str:
    """Return what callers have to know of prompts, if there are any."""
    if not prompts.by_name:
        return ""
    named = ", ".join(f"`{json.dumps(text, ensure_ascii=False)}` ({name})" for name, text in prompts.by_name.items())
    default = f" sentence-transformers writes that of *{prompts.default}* unless it is told otherwise."
    return (
        "\n\n**Callers write the prompt.** The model was trained with a text before each input: "
        f"{named}.{default if prompts.default else ''} Here nothing is added to what callers send: without its prompt, "
        "a text has a worse vector."
    )


_MEANINGS = {
    "cosine_mean": "cosine with fp32, mean",
    "cosine_min": "cosine with fp32, worst text",
    "rank_correlation": "rank correlation of the similarities of all pairs (Spearman)",
    "neighbour_overlap": "share of the 10 nearest neighbours that fp32 finds too",
}


def _body(measured: Measurements) -> str:
    quality, topics, size = vars(measured.quality), measured.topics, measured.size_bytes
    gates = [(_MEANINGS[gate], f"{quality[gate]:.4f}", f"≥ {least}") for gate, least in GATES.items()]
    found = [
        (
            f"topic found, of {topics.asked:,} texts",
            f"{topics.fp32 / topics.asked:.1%}",
            f"{topics.int8 / topics.asked:.1%}",
        ),
        ("found by this precision alone", f"{topics.fp32_alone} texts", f"{topics.int8_alone} texts"),
        ("size of the graph", f"{size['fp32'] / 1e6:.1f} MB", f"{size['int8'] / 1e6:.1f} MB"),
    ]
    slowest = min(measured.tokens_per_second.values())
    speeds = [(way, f"{value:,.0f}", f"{value / slowest:.1f}") for way, value in measured.tokens_per_second.items()]
    return f"""\
## What int8 keeps of fp32

On {measured.evaluation_texts:,} texts ({measured.evaluation_tokens:,} tokens) on {topics.topics} topics: sentences as
people write them, and passages of novels, speeches, the Bible and a glossary. The {measured.calibration_texts} texts
that int8 was calibrated with are others. With a number outside of its gate, int8 is left out.

{card.table(["", "int8", "gate"], gates)}

![Distribution of cosines, and similarities of pairs in both precisions]({QUALITY_PLOT})

The measures above take fp32 for the truth. This one takes what the texts are about: whether the topic of a text is the
most frequent one among the 10 nearest of {topics.known:,} others. Most are one sentence, which could be of several
topics; always saying the largest one would find {topics.largest / topics.asked:.0%}.

{card.table(["", "fp32", "int8"], found)}

int8 vectors are not for an index that was filled with fp32 vectors, or the other way round: near neighbours would
change places. Choose one precision for one index.

## Speed

Tokens of the texts a second, padding not counted, one thread. *Padded* is the usual recipe: sorted by length,
{PADDED_BATCH} texts a run, padded to the longest of them. *Packed* is how the hot path runs: no padding, at most
{TOKENS_PER_BATCH} tokens a run.

{card.table(["", "tokens/s", "ratio"], speeds)}

![Tokens a second]({SPEED_PLOT})"""


def _quality_figure(quality: Quality, vectors: Mapping[str, np.ndarray]) -> Figure:
    fp32, int8 = vectors["fp32"], vectors["int8"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.hist((int8 * fp32).sum(axis=1), bins=60)
    for gate, label in (("cosine_min", "gate of the worst"), ("cosine_mean", "gate of the mean")):
        left.axvline(GATES[gate], color="tab:red", linestyle=":" if gate == "cosine_min" else "--", label=label)
    left.set(xlabel="cosine of int8 with fp32", ylabel="texts", title=f"mean {quality.cosine_mean:.4f}")
    left.legend()
    pairs = np.triu_indices(len(int8), k=1)
    similarities = [(side @ side.T)[pairs] for side in (fp32, int8)]
    right.hexbin(*similarities, gridsize=120, bins="log", mincnt=1)
    right.set(xlabel="similarity of a pair, fp32", ylabel="int8", title=f"Spearman {quality.rank_correlation:.4f}")
    return figure


def _speed_figure(tokens_per_second: Mapping[str, float]) -> Figure:
    figure = Figure(figsize=(7, 2.2), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(tokens_per_second), list(tokens_per_second.values()))
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(xlabel="tokens/s, one thread")
    return figure
