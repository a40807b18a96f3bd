"""How long people wait: for a first token beside others, for the next one beside a long prompt, in a second turn.

Each ratio compares the stack with itself, in one round; the settings are the default ones, but for what is tried, and
for drafts, of which there are none.
"""

import dataclasses
import statistics
from collections.abc import Sequence
from itertools import pairwise

from bench.generation.decoding import LONG_PROMPT_TOKENS, PROMPT_TOKENS
from bench.generation.effort import Effort
from bench.generation.servers import SLOT_TOKENS, Model, Stack
from bench.generation.streams import Answer, Reader, Request, Stream, together

OTHERS = 7
REPLY_TOKENS, QUESTION_TOKENS = 48, 24
SETTLED_EVENTS = 8  # of a stream, after which its pace is that of decoding


@dataclasses.dataclass(frozen=True)
class FirstToken:
    """Time to the first token of a short prompt."""

    alone_ms: float
    beside_ms: float  # while OTHERS decode
    ratio: float


@dataclasses.dataclass(frozen=True)
class Turn:
    """Time to the first token of a conversation's second turn, and of a first turn that is as long."""

    first_turn_tokens: int
    total_tokens: int
    cached_tokens: int
    second_ms: float
    fresh_ms: float
    ratio: float


@dataclasses.dataclass(frozen=True)
class ChunkSize:
    """What the size of a prompt's chunks is good and bad for."""

    chunk_tokens: int
    prefill_tokens_per_s: float  # LONG_PROMPT_TOKENS, alone
    beside_tokens_per_s: float  # the long prompt, while a stream runs
    median_gap_ms: float  # between a stream's tokens while nothing else runs
    longest_gap_ms: float  # while the long prompt is read
    ratio: float


def first_token(model: Model, stack: Stack, effort: Effort) -> FirstToken:
    """Send short prompts one after the other, alone and beside others."""
    rounds = []
    for _ in range(effort.rounds):
        with Reader() as reader:
            alone = [_first_token_s(model, stack, reader) for _ in range(1 + effort.probes)][1:]
            others = [
                reader.open(stack.complete(model.prompts.text(PROMPT_TOKENS), PROMPT_TOKENS, SLOT_TOKENS))
                for _ in range(OTHERS)
            ]
            reader.read_until(lambda: all(len(other.parts) >= SETTLED_EVENTS for other in others))  # noqa: B023
            beside = [_first_token_s(model, stack, reader) for _ in range(effort.probes)]
            if any(other.done for other in others):
                raise RuntimeError("a stream ended before what was measured beside it")
        rounds.append((statistics.median(alone), statistics.median(beside)))
    return FirstToken(
        alone_ms=1e3 * statistics.median(alone for alone, _ in rounds),
        beside_ms=1e3 * statistics.median(beside for _, beside in rounds),
        ratio=statistics.median(beside / alone for alone, beside in rounds),
    )


def second_turn(model: Model, stack: Stack, turn_tokens: int, effort: Effort) -> Turn:
    """Hold conversations of two turns, and begin others that are as long as the two."""
    rounds: list[tuple[Answer, Answer]] = []
    for _ in range(2 * effort.rounds):
        first = {"role": "user", "content": model.prompts.text(turn_tokens)}
        (reply,) = together([_chat(stack, [first], REPLY_TOKENS)])
        template_tokens = reply.prompt_tokens - turn_tokens
        answered = {"role": "assistant", "content": reply.text}
        question = {"role": "user", "content": model.prompts.text(QUESTION_TOKENS)}
        (second,) = together([_chat(stack, [first, answered, question], 2)])
        as_long = {"role": "user", "content": model.prompts.text(second.prompt_tokens - template_tokens)}
        (fresh,) = together([_chat(stack, [as_long], 2)])
        if abs(fresh.prompt_tokens - second.prompt_tokens) > 2:  # words can join the template's in other ways
            raise RuntimeError(f"{second.prompt_tokens} tokens are compared with {fresh.prompt_tokens}")
        rounds.append((second, fresh))
    return Turn(
        first_turn_tokens=turn_tokens,
        total_tokens=round(statistics.median(second.prompt_tokens for second, _ in rounds)),
        cached_tokens=round(statistics.median(second.cached_tokens for second, _ in rounds)),
        second_ms=1e3 * statistics.median(second.first_token_s for second, _ in rounds),
        fresh_ms=1e3 * statistics.median(fresh.first_token_s for _, fresh in rounds),
        ratio=statistics.median(second.first_token_s / fresh.first_token_s for second, fresh in rounds),
    )


def chunk_size(model: Model, stack: Stack, chunk_tokens: int, effort: Effort) -> ChunkSize:
    """Let a long prompt arrive while a stream runs; the stack has this chunk size."""
    rounds = [_interrupted(model, stack, effort) for _ in range(effort.rounds)]
    alone = [
        together([stack.complete(model.prompts.text(LONG_PROMPT_TOKENS), LONG_PROMPT_TOKENS, 2)])[0].first_token_s
        for _ in range(effort.rounds)
    ]
    return ChunkSize(
        chunk_tokens=chunk_tokens,
        prefill_tokens_per_s=LONG_PROMPT_TOKENS / statistics.median(alone),
        beside_tokens_per_s=effort.long_prompt_tokens / statistics.median(took for _, _, took in rounds),
        median_gap_ms=1e3 * statistics.median(quiet for quiet, _, _ in rounds),
        longest_gap_ms=1e3 * statistics.median(longest for _, longest, _ in rounds),
        ratio=statistics.median(longest / quiet for quiet, longest, _ in rounds),
    )


def _interrupted(model: Model, stack: Stack, effort: Effort) -> tuple[float, float, float]:
    """A running stream's median gap before a long prompt arrives, its longest one then, and the prompt's time.

    All in seconds. The gaps beside the prompt do not count for the median: they would flatter the ratio.
    """
    # Made before anything runs: to make one takes a second, in which nobody would read.
    long = stack.complete(model.prompts.text(effort.long_prompt_tokens), effort.long_prompt_tokens, 1)
    with Reader() as reader:
        running = reader.open(stack.complete(model.prompts.text(PROMPT_TOKENS), PROMPT_TOKENS, SLOT_TOKENS))
        reader.read_until(lambda: running.done or len(_arrivals(running)) >= SETTLED_EVENTS + effort.tokens)
        prompt = reader.open(long)
        (answer,) = reader.finish(prompt)
        read_at = answer.arrivals[0]
        reader.read_until(lambda: running.done or running.parts[-1][0] > read_at)
        if running.done:
            raise RuntimeError("the running stream ended before the long prompt was read")
        arrivals = _arrivals(running)
    quiet = [after - before for before, after in pairwise(arrivals[SETTLED_EVENTS:]) if after <= prompt.sent_at]
    beside = [after - before for before, after in pairwise(arrivals) if after > prompt.sent_at and before < read_at]
    return statistics.median(quiet), max(beside), answer.first_token_s


def _arrivals(stream: Stream) -> list[float]:
    """When something arrived; what is read at once has arrived at once."""
    return sorted({at for at, _ in stream.parts})


def _first_token_s(model: Model, stack: Stack, reader: Reader) -> float:
    (answer,) = reader.finish(reader.open(stack.complete(model.prompts.text(PROMPT_TOKENS), PROMPT_TOKENS, 2)))
    return answer.first_token_s


def _chat(stack: Stack, messages: Sequence[dict[str, str]], max_tokens: int) -> Request:
    return stack.request("/v1/chat/completions", {"messages": messages, "max_tokens": max_tokens})
