"""How far a quantised graph is from the float32 one, on text: likelihood, divergence and agreement, with bounds.

Both run the same weights; the difference is what rounding costs. Texts are short passages of several kinds, which come
with this package, and the float32 model's own continuations of the golden prompts: there its distribution is sharp, and
there a user would see another word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from tokenizers import Tokenizer

from triptych_research.decoder.blocks import Floats
from triptych_research.decoder.session import DecoderSession

REPLY_TOKENS = 64


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

    def failures(self, quality: Quality) -> list[str]:
        """Return the bounds that these numbers do not keep."""
        # Written so that a NaN fails.
        kept = {
            f"nll rises by {quality.nll_increase:.2%}, more than {self.max_nll_increase:.2%}": (
                quality.nll_increase <= self.max_nll_increase
            ),
            f"kl is {quality.kl:.4f}, above {self.max_kl:g}": quality.kl <= self.max_kl,
            f"top1 is {quality.top1:.4f}, below {self.min_top1:g}": quality.top1 >= self.min_top1,
        }
        return [complaint for complaint, good in kept.items() if not good]


# By graph. Measured: +0.0 %, 0.0038 and 0.962; +0.3 %, 0.0048 and 0.958.
BOUNDS: Mapping[str, Bounds] = {
    "int4": Bounds(max_nll_increase=0.005, max_kl=0.006, min_top1=0.95),
    "int8": Bounds(max_nll_increase=0.01, max_kl=0.0075, min_top1=0.945),
}


@dataclass(frozen=True)
class Comparison:
    """A graph and the float32 one, position by position."""

    nll: Floats  # [places] of the passages
    reference_nll: Floats  # [places]
    kl: Floats  # [positions] of passages and replies
    flips: Floats  # [positions]: the lead of float32's likeliest token over the graph's, in logits; 0 if it is the same

    def summary(self) -> Quality:
        return Quality(
            positions=len(self.kl),
            nll=float(self.nll.mean()),
            reference_nll=float(self.reference_nll.mean()),
            kl=float(self.kl.mean()),
            kl_p99=float(np.quantile(self.kl, 0.99)),
            top1=float(np.mean(self.flips == 0)),
            widest_flip=float(self.flips.max()),
        )


def passages() -> list[str]:
    """Return the texts that come with the package."""
    text = resources.files(__package__).joinpath("quality_texts.txt").read_text(encoding="utf-8")
    return [passage.strip() for passage in text.split("%%\n")]


def compare(
    graph: DecoderSession, reference: DecoderSession, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]]
) -> Comparison:
    """Compare a graph with the float32 one on the passages, and on the latter's replies to `prompts`.

    Passages are cut where the sessions have no more room; prompts must leave room for REPLY_TOKENS.
    """
    texts = [(tokenizer.encode(text).ids[: graph.capacity], 0) for text in passages()]
    for prompt in prompts:
        reply = reference.greedy([prompt], REPLY_TOKENS)[0].token_ids
        texts.append(([*prompt, *reply[:-1]], len(prompt) - 1))
    nll, reference_nll, kl, flips = [], [], [], []
    for ids, first in texts:
        actual, expected = (log_softmax(session.score(ids)[first:]) for session in (graph, reference))
        kl.append((np.exp(expected) * (expected - actual)).sum(axis=-1))  # [tokens]
        places = np.arange(len(expected))
        flips.append(expected.max(axis=-1) - expected[places, actual.argmax(axis=-1)])
        if first == 0:  # a passage: somebody wrote what comes next
            nll.append(-actual[places[:-1], ids[1:]])
            reference_nll.append(-expected[places[:-1], ids[1:]])
    return Comparison(*map(np.concatenate, (nll, reference_nll, kl, flips)))


def log_softmax(logits: Floats) -> Floats:
    """Return log-probabilities along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
