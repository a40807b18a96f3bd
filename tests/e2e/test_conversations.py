"""The next turn of a conversation goes where its beginning is, of two hot paths before one gateway."""

import pathlib
from collections.abc import Iterator

import pytest

from e2e import limits, metrics
from e2e.chats import MODEL, Messages, chat, say
from stack.pool import Pool

GENERATING = {"model-names": MODEL, "cache-bytes": str(256 << 20)}
# At each hot path. All of them return by chance once in 2 ** 8 times.
CONVERSATIONS = 4
# What all conversations of a tenant have in common is less.
LONG_PROMPT = 100  # tokens


@pytest.fixture
def pool(native_only: None, tmp_path: pathlib.Path) -> Iterator[Pool]:
    pool = Pool(tmp_path, [GENERATING, GENERATING])
    yield pool
    pool.stop()


def read(pool: Pool) -> list[float]:
    """Tokens of prompts that each hot path has computed."""
    return [metrics.read(pool.hotpath_metrics_url(number))["hotpath_prompt_tokens_total"] for number in range(2)]


def test_a_conversation_returns_to_the_hotpath_that_has_its_beginning(pool: Pool) -> None:
    stack = pool.start()
    turns: dict[int, list[tuple[Messages, int]]] = {
        0: [],
        1: [],
    }  # by hot path: what is said next, after so many tokens
    with limits.client(stack, "acme") as http:
        for number in range(100):
            before = read(pool)
            first = say(f"{number} travellers cross the river. " + "They look for a town and its people. " * 15)
            answer = chat(http, first, max_tokens=4)
            reply = {"role": "assistant", "content": answer["choices"][0]["message"]["content"]}
            (place,) = (at for at, now in enumerate(read(pool)) if now - before[at] > LONG_PROMPT)
            turns[place].append(([*first, reply, *say("Which town?")], answer["usage"]["prompt_tokens"]))
            if all(len(at) >= CONVERSATIONS for at in turns.values()):
                break
        for place in turns:
            for messages, said in turns[place][:CONVERSATIONS]:
                usage = chat(http, messages, max_tokens=4)["usage"]
                assert usage["prompt_tokens_details"]["cached_tokens"] >= said, (place, usage)
