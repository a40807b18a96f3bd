"""The official Python SDK, unmodified: every way in which it reads a chat, a completion or a moderation."""

import asyncio
import enum
import math
from typing import Any

import openai
import pydantic
import pytest
from openai.lib.streaming.chat import ContentDeltaEvent, ContentDoneEvent

from e2e import metrics
from e2e.chats import MODEL, say
from stack.description import Stack
from stack.waiting import wait_until

COUNT: Any = say("Write the numbers from 1 to 20, separated by commas.")
TOWN: Any = say("Tell me about a town, in JSON.")
GREEDY: dict[str, Any] = {"model": MODEL, "messages": COUNT, "temperature": 0, "max_tokens": 24}
# It would go on for minutes.
ENDLESS: dict[str, Any] = {**GREEDY, "max_tokens": 6000, "extra_body": {"ignore_eos": True}}
FREE_LIMIT_S = 15


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class River(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=8)
    long: bool | None


class Town(pydantic.BaseModel):
    size: Size
    rivers: list[River] = pydantic.Field(min_length=1, max_length=2)


@pytest.fixture(scope="module")
def said(client: openai.OpenAI) -> str:
    """The whole reply, to compare with."""
    whole: str | None = client.chat.completions.create(**GREEDY).choices[0].message.content
    assert whole
    return whole


def test_the_stream_helper(client: openai.OpenAI, said: str) -> None:
    # The helper raises where a text is cut for its length; this one ends at a stop string.
    with client.chat.completions.stream(**GREEDY, stop="8", stream_options={"include_usage": True}) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    until_8 = said[: said.index("8")]
    assert "".join(event.delta for event in events if isinstance(event, ContentDeltaEvent)) == until_8
    assert [event.content for event in events if isinstance(event, ContentDoneEvent)] == [until_8]
    assert final.choices[0].message.content == until_8
    assert final.usage is not None
    assert final.usage.completion_tokens == len("1, 2, 3, 4, 5, 6, 7, 8"), "each character is a token"


def test_the_raw_response(client: openai.OpenAI, said: str) -> None:
    raw = client.chat.completions.with_raw_response.create(**GREEDY)
    assert raw.parse().choices[0].message.content == said
    assert raw.headers["x-request-id"] == raw.request_id
    assert "prefill;dur=" in raw.headers["server-timing"]
    stream = client.chat.completions.with_raw_response.create(**GREEDY, stream=True)
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream.parse()) == said


def test_the_streaming_response(client: openai.OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(**GREEDY, stream=True) as response:
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: {") for line in lines[:-1])
    assert lines[-1] == "data: [DONE]"


def test_the_async_client(stack: Stack, said: str) -> None:
    async def talk() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=stack.keys["acme"], max_retries=0) as client:

            async def one() -> str:
                stream = await client.chat.completions.create(**GREEDY, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(one() for _ in range(3)))

    assert asyncio.run(talk()) == [said] * 3


def test_one_that_leaves_frees_its_slot(client: openai.OpenAI, stack: Stack) -> None:
    with client.chat.completions.create(**ENDLESS, stream=True) as stream:
        next(iter(stream))
        wait_until("a row that decodes", lambda: metrics.decoding(stack) == 1, FREE_LIMIT_S)
    wait_until("its slot being free", lambda: metrics.decoding(stack) == 0, FREE_LIMIT_S)


# The SDK warns of its own "parsed" when it sends it back. To be removed with https://github.com/openai/openai-python/issues/2872.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_structured_output(client: openai.OpenAI) -> None:
    request = {**GREEDY, "messages": TOWN, "max_tokens": 100}
    reply = client.chat.completions.parse(**request, response_format=Town).choices[0].message
    parsed = reply.parsed
    assert isinstance(parsed, Town)
    second = {**request, "messages": [*TOWN, reply, *say("Tell me about another one.")], "max_tokens": 200}
    assert isinstance(client.chat.completions.parse(**second, response_format=Town).choices[0].message.parsed, Town)
    with client.chat.completions.stream(**request, response_format=Town) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == parsed
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**{**request, "max_tokens": 3}, response_format=Town)


def test_completions_with_log_probabilities(client: openai.OpenAI) -> None:
    request: dict[str, Any] = {"model": MODEL, "prompt": "1, 2, 3, 4, 5, 6, 7, 8,", "temperature": 0, "max_tokens": 8}
    (choice,) = client.completions.create(**request, logprobs=2).choices
    told = choice.logprobs
    assert told is not None
    assert told.tokens is not None
    assert "".join(told.tokens) == choice.text
    assert told.text_offset == [len("".join(told.tokens[:place])) for place in range(8)]
    assert told.token_logprobs is not None
    assert all(logprob <= 0 and math.isfinite(logprob) for logprob in told.token_logprobs)
    assert told.top_logprobs is not None
    assert [max(top, key=lambda token: top[token]) for top in told.top_logprobs] == told.tokens
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**request, echo=True, logprobs=2)
    assert caught.value.param == "echo"


def test_moderations(client: openai.OpenAI) -> None:
    parts: Any = [
        {"type": "text", "text": "They undressed each other"},
        {"type": "text", "text": "and had passionate sex all night."},
    ]
    (result,) = client.moderations.create(input=parts).results
    assert result.flagged
    assert result.categories.sexual
    assert result.category_applied_input_types.sexual == ["text"]


def test_an_error_is_typed(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(**{**GREEDY, "model": "no-such-model"}, stream=True)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.request_id
