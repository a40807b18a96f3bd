"""A Llama-architecture decoder in plain NumPy. This is the place to understand the model; read it from top to bottom.

A decoder guesses the next token. It keeps one vector of `hidden` numbers for each token, the residual stream; each
layer reads that stream, and adds to it: first what other tokens say (attention), then what it makes of that
(feed-forward). A token sees itself and those before it, so what was computed for it never changes: its keys and
values are kept in a cache and the next token costs one row of work, not the whole text again.

Nothing is quantised here and nothing is batched: a text's numbers cannot depend on other texts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from triptych_research.blocks import Floats, Matrix, dense
from triptych_research.decoder.continuation import Continuation
from triptych_research.decoder.weights import DecoderConfig, DecoderLayer, DecoderWeights

Angles = NDArray[np.float64]  # float32 is too coarse for thousands of radians


@dataclass
class Cache:
    """Keys and values of the tokens so far: for each layer [kv_heads, tokens, head_dim]."""

    keys: list[Floats]
    values: list[Floats]

    @property
    def tokens(self) -> int:
        return int(self.keys[0].shape[1])


class ReferenceDecoder:
    """Runs one text at a time with float32 weights (`weights` may be quantised; their values are taken as they are)."""

    def __init__(self, weights: DecoderWeights[Matrix]) -> None:
        self.weights = weights.map_matrices(dense)

    def empty_cache(self) -> Cache:
        config = self.weights.config
        nothing = np.zeros((config.kv_heads, 0, config.head_dim), np.float32)
        return Cache([nothing] * config.layers, [nothing] * config.layers)

    def logits(self, token_ids: list[int], cache: Cache) -> Floats:
        """Append tokens to the cache's text; return each one's logits for the token after it, [tokens, vocabulary]."""
        head = self.weights.embedding if self.weights.lm_head is None else self.weights.lm_head
        return linear(self.states(token_ids, cache), head)

    def states(self, token_ids: list[int], cache: Cache) -> Floats:
        """Append tokens to the cache's text; return what the output layer reads of each, [tokens, hidden]."""
        weights, epsilon = self.weights, self.weights.config.rms_epsilon
        past, future = cache.tokens, cache.tokens + len(token_ids)
        turn = angles(np.arange(past, future), weights.config)  # [tokens, head_dim / 2]
        stream = weights.embedding[token_ids]  # [tokens, hidden]
        for index, layer in enumerate(weights.decoder_layers):
            states = rms_norm(stream, layer.attention_norm, epsilon)
            attended = self._attention(states, layer, index, turn, cache)
            stream = stream + linear(attended, layer.output)
            states = rms_norm(stream, layer.ffn_norm, epsilon)
            stream = stream + linear(gate(states, layer), layer.down)
        return rms_norm(stream, weights.final_norm, epsilon)

    def greedy(self, prompt: list[int], new_tokens: int) -> Continuation:
        """Always take the likeliest token, `new_tokens` times."""
        cache = self.empty_cache()
        logits = self.logits(prompt, cache)[-1]  # [vocabulary]
        result = Continuation(logits)
        result.take_likeliest(logits)
        while len(result.token_ids) < new_tokens:
            result.take_likeliest(self.logits(result.token_ids[-1:], cache)[-1])
        return result

    def _attention(self, states: Floats, layer: DecoderLayer[Floats], index: int, turn: Angles, cache: Cache) -> Floats:
        """Each token looks back: it averages earlier tokens' values, weighted by how well their key fits its query."""
        config = self.weights.config
        queries = rotate(split_heads(linear(states, layer.query), config), turn)  # [heads, tokens, head_dim]
        keys = rotate(split_heads(linear(states, layer.key), config), turn)  # [kv_heads, tokens, head_dim]
        values = split_heads(linear(states, layer.value), config)  # [kv_heads, tokens, head_dim]
        keys = cache.keys[index] = np.concatenate([cache.keys[index], keys], axis=1)  # [kv_heads, text, head_dim]
        values = cache.values[index] = np.concatenate([cache.values[index], values], axis=1)

        # Grouped-query attention: a few query heads share one key head, which makes the cache so much smaller.
        group = config.heads // config.kv_heads
        keys, values = keys.repeat(group, axis=0), values.repeat(group, axis=0)  # [heads, text, head_dim]
        scores: Floats = queries @ keys.swapaxes(1, 2) / np.sqrt(np.float32(config.head_dim))  # [heads, tokens, text]
        tokens, text = scores.shape[1:]
        later = np.arange(text) > np.arange(text - tokens, text)[:, None]  # [tokens, text]
        scores[:, later] = -np.inf
        attended: Floats = (softmax(scores) @ values).swapaxes(0, 1).reshape(tokens, -1)
        return attended  # [tokens, heads * head_dim]


def gate(states: Floats, layer: DecoderLayer[Floats]) -> Floats:
    """SwiGLU (Shazeer, 2020): one projection decides how much of the other passes."""
    gates, up = linear(states, layer.gate), linear(states, layer.up)  # [tokens, intermediate]
    silu = gates * (1 + np.tanh(gates / 2)) / 2  # gates * sigmoid(gates); by tanh, because exp would overflow
    gated: Floats = silu * up
    return gated  # [tokens, intermediate]


def linear(states: Floats, weight: Floats) -> Floats:
    """[tokens, inputs] to [tokens, outputs]; weights are stored [outputs, inputs]."""
    result: Floats = states @ weight.T
    return result


def rms_norm(states: Floats, weight: Floats, epsilon: float) -> Floats:
    """Scale each row to a root mean square of 1, then each dimension by its weight (Zhang and Sennrich, 2019)."""
    mean_square: Floats = np.mean(states * states, axis=-1, keepdims=True)
    root = np.sqrt(mean_square + np.float32(epsilon), dtype=np.float32)
    result: Floats = states / root * weight
    return result


def angles(positions: NDArray[np.intp], config: DecoderConfig) -> Angles:
    """By how much each pair of a head's dimensions turns at each position, [tokens, head_dim / 2].

    Rotary embeddings (Su et al., RoFormer, 2021): the first pair turns by a radian a token, each later one more
    slowly, the last one hardly ever.
    """
    speeds = config.rope_base ** (-np.arange(0, config.head_dim, 2) / config.head_dim)  # [head_dim / 2]
    return positions[:, None] * speeds


def rotate(heads: Floats, turn: Angles) -> Floats:
    """Turn each pair (i, i + head_dim / 2) by its position's angle, so that products depend on distance only."""
    cosines, sines = np.cos(turn).astype(np.float32), np.sin(turn).astype(np.float32)  # [tokens, head_dim / 2]
    first, second = np.split(heads, 2, axis=-1)  # [heads, tokens, head_dim / 2] each
    return np.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)


def split_heads(states: Floats, config: DecoderConfig) -> Floats:
    """[tokens, heads * head_dim] to [heads, tokens, head_dim]."""
    return states.reshape(len(states), -1, config.head_dim).swapaxes(0, 1)


def softmax(scores: Floats) -> Floats:
    """Exponentials that sum to 1 along the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return result
