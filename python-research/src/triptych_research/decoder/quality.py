"""How far a quantised graph is from the float32 one, on text: likelihood, divergence and agreement, with bounds.

Both run the same weights; the difference is what rounding costs. Texts are short passages of several kinds, which
come with this package, and the reference's own continuations of the golden prompts: there its distribution is sharp,
and there a user would see another word.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from tokenizers import Tokenizer

from triptych_research.blocks import Floats

QUANTILE = 0.99
LARGEST = float(np.finfo(np.float16).max)  # what a key or value of a larger magnitude is kept as
# Of the long text: how long it is, of how many of its positions one is compared, and in how many parts.
LONG_TOKENS, EVERY, PARTS = 4096, 8, 4


@dataclass(frozen=True)
class Quality:
    """What a graph's next-token distributions are like, beside those of the float32 graph."""

    positions: int
    nll: float  # mean negative log-likelihood of the passages' next tokens, in nats
    reference_nll: float  # the float32 graph's
    kl: float  # mean Kullback-Leibler divergence from float32, in nats
    kl_p99: float
    top1: float  # share of positions at which both have the same likeliest token
    widest_flip: float  # largest lead of float32's likeliest token, in logits, where the graph's is another one
    kl_by_place: Sequence[float]  # mean divergence in each part of a text that is longer than any passage, in nats
    largest: float  # magnitude of any key or value

    @property
    def nll_increase(self) -> float:
        """Relative to float32's."""
        return self.nll / self.reference_nll - 1


@dataclass(frozen=True)
class Bounds:
    """What a graph must keep to be exported."""

    max_nll_increase: float
    max_kl: float
    min_top1: float
    max_part_kl: float  # of each part of a long text

    def failures(self, quality: Quality) -> list[str]:
        """Return the bounds that these numbers do not keep."""
        worst = np.max(quality.kl_by_place)  # NaN if there is any
        # Written so that a NaN fails.
        kept = {
            f"nll rises by {quality.nll_increase:.2%}, more than {self.max_nll_increase:.2%}": (
                quality.nll_increase <= self.max_nll_increase
            ),
            f"kl is {quality.kl:.4f}, above {self.max_kl:g}": quality.kl <= self.max_kl,
            f"top1 is {quality.top1:.4f}, below {self.min_top1:g}": quality.top1 >= self.min_top1,
            f"kl is {worst:.4f} in a part of the long text, above {self.max_part_kl:g}": worst <= self.max_part_kl,
            f"a key or value is {LARGEST:,.0f} or more, which float16 does not hold": quality.largest < LARGEST,
        }
        return [complaint for complaint, good in kept.items() if not good]


# Measured with the default model, in the same order: +0.09 %, 0.0033, 0.971 and 0.0041.
BOUNDS = Bounds(max_nll_increase=0.005, max_kl=0.005, min_top1=0.96, max_part_kl=0.01)


@dataclass(frozen=True)
class Comparison:
    """A graph and the float32 one, position by position."""

    nll: Floats  # [places] of the passages
    reference_nll: Floats  # [places]
    kl: Floats  # [positions] of passages and replies
    flips: Floats  # [positions]: the lead of float32's likeliest token over the graph's, in logits; 0 if it is the same

    def by_place(self) -> list[float]:
        """Return the mean divergence in each part, one after the other."""
        return [float(part.mean()) for part in np.array_split(self.kl, PARTS) if len(part)]

    def summary(self, along: "Comparison", largest: float) -> Quality:
        """Return the measures: this comparison's, those along a long text, and the largest key or value of both."""
        return Quality(
            positions=len(self.kl),
            nll=float(self.nll.mean()),
            reference_nll=float(self.reference_nll.mean()),
            kl=float(self.kl.mean()),
            kl_p99=float(np.quantile(self.kl, QUANTILE)),
            top1=float(np.mean(self.flips == 0)),
            widest_flip=float(self.flips.max()),
            kl_by_place=along.by_place(),
            largest=largest,
        )


def passages() -> list[str]:
    """Return the texts that come with the package."""
    text = resources.files(__package__).joinpath("quality_texts.txt").read_text(encoding="utf-8")
    return [passage.strip() for passage in text.split("%%\n")]


@dataclass(frozen=True)
class Text:
    """Token ids, and from which of them on the next one is predicted."""

    ids: Sequence[int]
    first: int = 0
    every: int = 1  # of the positions from there on, one of so many is compared

    @property
    def places(self) -> Sequence[int]:
        return range(self.first, len(self.ids), self.every)

    @property
    def is_passage(self) -> bool:
        """Whether somebody wrote what comes next; else a model did, and it is no measure of likelihood."""
        return self.first == 0


def texts(tokenizer: Tokenizer, replies: Sequence[tuple[Sequence[int], Sequence[int]]], limit: int) -> list[Text]:
    """Return the passages, cut at `limit` tokens, and prompts with the replies to them."""
    written = [Text(tokenizer.encode(passage).ids[:limit]) for passage in passages()]
    return written + [Text([*prompt, *reply[:-1]], len(prompt) - 1) for prompt, reply in replies]


def long_text(tokenizer: Tokenizer, ordinary: Sequence[str], limit: int) -> Text:
    """Return ordinary texts, one after the other: `limit` tokens, or LONG_TOKENS if that is less."""
    ids = tokenizer.encode("\n".join(ordinary)).ids
    return Text(ids[: min(limit, LONG_TOKENS)], every=EVERY)


# Logits of some positions of a text, [places, vocabulary].
Score = Callable[[Sequence[int], Sequence[int]], Floats]


def compare(graph: Score, reference: Score, some_texts: Sequence[Text]) -> Comparison:
    """Compare a graph with the float32 one."""
    parts = [_compare(graph(text.ids, text.places), reference(text.ids, text.places), text) for text in some_texts]
    return Comparison(
        nll=np.concatenate([part.nll for part in parts]),
        reference_nll=np.concatenate([part.reference_nll for part in parts]),
        kl=np.concatenate([part.kl for part in parts]),
        flips=np.concatenate([part.flips for part in parts]),
    )


def _compare(graph_logits: Floats, reference_logits: Floats, text: Text) -> Comparison:
    actual, expected = log_softmax(graph_logits), log_softmax(reference_logits)
    rows = np.arange(len(expected))
    # Positions after which somebody wrote the next token.
    following = [text.ids[place + 1] for place in text.places if text.is_passage and place + 1 < len(text.ids)]
    written = rows[: len(following)], np.array(following, np.intp)
    return Comparison(
        nll=-actual[written],
        reference_nll=-expected[written],
        kl=(np.exp(expected) * (expected - actual)).sum(axis=-1),
        flips=expected.max(axis=-1) - expected[rows, actual.argmax(axis=-1)],
    )


def log_softmax(logits: Floats) -> Floats:
    """Return log-probabilities along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
