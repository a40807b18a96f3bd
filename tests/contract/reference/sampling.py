"""One token from one row of logits, in float64 and with sorts: slow, and easy to check against the contract."""

import math
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from triptych.inference.v1 import inference_pb2 as pb

Logits = NDArray[np.float64]
_BITS = (1 << 64) - 1


class Sampler:
    """Chooses a continuation's tokens. Steps go in the order that `Sampling` says."""

    def __init__(
        self, sampling: pb.Sampling, seed: int, choice: int, prompt: Sequence[int], stop_ids: Collection[int]
    ) -> None:
        """`stop_ids` may not be chosen before `choose` is told that they may."""
        self._sampling = sampling
        self._seed, self._choice = seed, choice
        self._prompt = set(prompt)
        self._stop_ids = sorted(stop_ids)
        self._said: Counter[int] = Counter()

    def choose(self, logits: Logits, may_stop: bool) -> int:
        """Return the token that follows, given the logits [vocabulary] after the text so far."""
        adjusted = self._adjust(logits, may_stop)
        temperature = _or(self._sampling, "temperature", 1.0)
        token = int(np.argmax(adjusted)) if temperature == 0 else self._draw(adjusted / temperature)
        self._said[token] += 1
        return token

    def _adjust(self, logits: Logits, may_stop: bool) -> Logits:
        sampling, adjusted = self._sampling, logits.copy()
        for token, bias in sampling.logit_bias.items():
            adjusted[token] += bias
        factor = _or(sampling, "repetition_penalty", 1.0)
        for token in self._prompt | self._said.keys():
            adjusted[token] = adjusted[token] / factor if adjusted[token] > 0 else adjusted[token] * factor
        for token, times in self._said.items():
            adjusted[token] -= sampling.frequency_penalty * times + sampling.presence_penalty
        if not may_stop:
            adjusted[self._stop_ids] = -math.inf
        return adjusted

    def _draw(self, logits: Logits) -> int:
        weights = np.exp(logits - logits.max())  # [vocabulary]: probabilities, each divided by the largest
        weights[weights < self._sampling.min_p] = 0
        order = np.arange(len(weights))
        top_k, top_p = self._sampling.top_k, _or(self._sampling, "top_p", 1.0)
        if top_k or top_p < 1:
            order = np.argsort(-logits, kind="stable")  # of equal ones the lowest id first
        if top_k:
            order = order[:top_k]
        sums = np.cumsum(weights[order])
        if top_p < 1:
            order = order[: int(np.argmax(sums >= top_p * sums[-1])) + 1]
            sums = sums[: len(order)]
        place = uniform(self._seed, self._choice, self._said.total()) * sums[-1]
        return int(order[int(np.argmax(sums > place))])


def log_probabilities(logits: Logits) -> Logits:
    """Return the natural logarithms of the tokens' probabilities [vocabulary]."""
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()), np.float64)


def uniform(seed: int, choice: int, place: int) -> float:
    """Return a number in [0, 1) that depends on its arguments alone."""
    return (_mix(_mix(_mix(seed) + choice & _BITS) + place & _BITS) >> 11) * 2.0**-53


def _mix(state: int) -> int:
    """One step of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = state + 0x9E3779B97F4A7C15 & _BITS
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _BITS
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _BITS
    return z ^ z >> 31


def _or(sampling: pb.Sampling, field: str, default: float) -> float:
    return float(getattr(sampling, field)) if sampling.HasField(field) else default
