"""What an encoder's card says: what its graph keeps of float32 on real texts, and how fast both are."""

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
    """How many texts' topics float32 found, and how many the graph."""

    topics: int
    known: int
    asked: int
    largest: int  # of the asked texts, how many are of the topic that most are of
    fp32: int
    graph: int
    fp32_alone: int
    graph_alone: int

    @classmethod
    def count(cls, texts: Texts, fp32: np.ndarray, graph: np.ndarray) -> "Topics":
        """Count two judgements [texts] of bool on the asked texts."""
        sizes = collections.Counter(texts.asked.topics)
        of_set = (len(sizes), len(texts.known.texts), len(texts.asked.texts), max(sizes.values()))
        return cls(*of_set, *map(int, (fp32.sum(), graph.sum(), (fp32 & ~graph).sum(), (graph & ~fp32).sum())))


@dataclass(frozen=True)
class Measurements:
    """All that was measured."""

    evaluation_texts: int
    evaluation_tokens: int
    quality: Quality  # of the graph, against float32
    topics: Topics
    tokens_per_second: Mapping[str, float]  # by way of running, one thread
    size_bytes: int


def make(
    checkpoint: Checkpoint,
    measured: Measurements,
    vectors: Mapping[str, np.ndarray],
    left_out: Mapping[str, str],
) -> Card:
    """Return the card; `vectors` are those of the evaluation texts [texts, hidden], by the graph and by float32."""
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
    "cosine_mean": "cosine with float32, mean",
    "cosine_min": "cosine with float32, worst text",
    "rank_correlation": "rank correlation of the similarities of all pairs (Spearman)",
    "neighbour_overlap": "share of the 10 nearest neighbours that float32 finds too",
}


def _body(measured: Measurements) -> str:
    quality, topics = vars(measured.quality), measured.topics
    gates = [(_MEANINGS[gate], f"{quality[gate]:.4f}", f"≥ {least}") for gate, least in GATES.items()]
    found = [
        (
            f"topic found, of {topics.asked:,} texts",
            f"{topics.fp32 / topics.asked:.1%}",
            f"{topics.graph / topics.asked:.1%}",
        ),
        ("found by this one alone", f"{topics.fp32_alone} texts", f"{topics.graph_alone} texts"),
    ]
    slowest = min(measured.tokens_per_second.values())
    speeds = [(way, f"{value:,.0f}", f"{value / slowest:.1f}") for way, value in measured.tokens_per_second.items()]
    return f"""\
## What the graph keeps of float32

Weights are rounded to 8 bits in blocks of 32, each with a scale of its own, and so are activations: the graph has
{measured.size_bytes / 1e6:.1f} MB, and gives the same bits on every processor, alone and in company. The measures
compare it with the same weights run in float32, on {measured.evaluation_texts:,} texts
({measured.evaluation_tokens:,} tokens) on {topics.topics} topics: sentences as people write them, and passages of
novels, speeches, the Bible and a glossary. With a number outside of its gate there is no bundle.

{card.table(["", "graph", "gate"], gates)}

![Distribution of cosines, and similarities of pairs by both]({QUALITY_PLOT})

The measures above take float32 for the truth. This one takes what the texts are about: whether the topic of a text is
the most frequent one among the 10 nearest of {topics.known:,} others. Most are one sentence, which could be of several
topics; always saying the largest one would find {topics.largest / topics.asked:.0%}.

{card.table(["", "float32", "graph"], found)}

The graph's vectors are not for an index that was filled with vectors of another form of the model: near neighbours
would change places.

## Speed

Tokens of the texts a second, padding not counted, one thread. *Padded* is the usual recipe: sorted by length,
{PADDED_BATCH} texts a run, padded to the longest of them. *Packed* is how the hot path runs: no padding, at most
{TOKENS_PER_BATCH} tokens a run.

{card.table(["", "tokens/s", "ratio"], speeds)}

![Tokens a second]({SPEED_PLOT})"""


def _quality_figure(quality: Quality, vectors: Mapping[str, np.ndarray]) -> Figure:
    fp32, graph = vectors["fp32"], vectors["graph"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.hist((graph * fp32).sum(axis=1), bins=60)
    for gate, label in (("cosine_min", "gate of the worst"), ("cosine_mean", "gate of the mean")):
        left.axvline(GATES[gate], color="tab:red", linestyle=":" if gate == "cosine_min" else "--", label=label)
    left.set(xlabel="cosine with float32", ylabel="texts", title=f"mean {quality.cosine_mean:.4f}")
    left.legend()
    pairs = np.triu_indices(len(graph), k=1)
    similarities = [(side @ side.T)[pairs] for side in (fp32, graph)]
    right.hexbin(*similarities, gridsize=120, bins="log", mincnt=1)
    right.set(xlabel="similarity of a pair, float32", ylabel="graph", title=f"Spearman {quality.rank_correlation:.4f}")
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
