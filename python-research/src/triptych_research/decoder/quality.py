"""How far a quantised graph is from the float32 one, on text: likelihood, divergence and agreement, with bounds.

Both run the same weights; the difference is what rounding costs. Texts are short passages of several kinds, which come
with this package, and the float32 model's own replies to the golden conversations: there its distribution is sharp, and
there a user would see another word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from tokenizers import Tokenizer

from triptych_research.decoder.blocks import Floats
from triptych_research.decoder.session import DecoderSession

REPLY_TOKENS = 64


class QualityError(Exception):
    """A graph is further from float32 than its bounds allow."""


@dataclass(frozen=True)
class Quality:
    """What a graph's next-token distributions are like, beside those of the float32 graph."""

    positions: int
    nll: float  # mean negative log-likelihood of the passages' next tokens, in nats
    reference_nll: float  # the float32 graph's
    kl: float  # mean Kullback-Leibler divergence from float32, in nats
    kl_p99: float
    top1: float  # share of positions at which both have the same likeliest token
    widest_flip: float  # largest float32 margin, in logits, at which the likeliest token is another one

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

    def check(self, quality: Quality, name: str) -> None:
        """Raise QualityError, naming the measure, unless the graph keeps the bounds."""
        # Written so that a NaN fails.
        kept = {
            f"nll rises by {quality.nll_increase:.2%}, more than {self.max_nll_increase:.2%}": (
                quality.nll_increase <= self.max_nll_increase
            ),
            f"kl is {quality.kl:.4f}, above {self.max_kl:g}": quality.kl <= self.max_kl,
            f"top1 is {quality.top1:.4f}, below {self.min_top1:g}": quality.top1 >= self.min_top1,
        }
        for complaint, good in kept.items():
            if not good:
                raise QualityError(f"{name}: {complaint}")


def passages() -> list[str]:
    """The texts that come with the package."""
    text = resources.files(__package__).joinpath("quality_texts.txt").read_text(encoding="utf-8")
    return [passage.strip() for passage in text.split("%%\n")]


def measure(
    graph: DecoderSession, reference: DecoderSession, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]]
) -> Quality:
    """Compare a graph with the float32 one on the passages and on the latter's replies to `prompts`."""
    texts = [tokenizer.encode(text).ids for text in passages()]
    replies = [reference.greedy([prompt], REPLY_TOKENS)[0].token_ids for prompt in prompts]
    nll, reference_nll, divergences, margins = [], [], [], []
    for ids in texts:
        actual, expected = log_softmax(graph.score(ids)), log_softmax(reference.score(ids))  # [tokens, vocabulary]
        places, targets = np.arange(len(ids) - 1), np.array(ids[1:])
        nll.append(-actual[places, targets])
        reference_nll.append(-expected[places, targets])
        divergences.append(_divergence(expected, actual))
        margins.append(_flips(expected, actual))
    for prompt, reply in zip(prompts, replies, strict=True):
        ids, first = [*prompt, *reply[:-1]], len(prompt) - 1
        actual, expected = log_softmax(graph.score(ids)[first:]), log_softmax(reference.score(ids)[first:])
        divergences.append(_divergence(expected, actual))
        margins.append(_flips(expected, actual))
    kl, flips = np.concatenate(divergences), np.concatenate(margins)
    return Quality(
        positions=len(kl),
        nll=float(np.concatenate(nll).mean()),
        reference_nll=float(np.concatenate(reference_nll).mean()),
        kl=float(kl.mean()),
        kl_p99=float(np.quantile(kl, 0.99)),
        top1=float(np.mean(flips == 0)),
        widest_flip=float(flips.max()),
    )


def log_softmax(logits: Floats) -> Floats:
    """Log-probabilities along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _divergence(expected: Floats, actual: Floats) -> Floats:
    """KL(expected || actual) at each position, from log-probabilities [tokens, vocabulary]."""
    result: Floats = (np.exp(expected) * (expected - actual)).sum(axis=-1)
    return result


def _flips(expected: Floats, actual: Floats) -> Floats:
    """At each position, by how much expected's likeliest token leads actual's: 0 where they are the same."""
    places = np.arange(len(expected))
    result: Floats = expected.max(axis=-1) - expected[places, actual.argmax(axis=-1)]
    return result
