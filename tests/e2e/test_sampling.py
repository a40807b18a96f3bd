"""What a request asks of sampling and of its end, seen from outside."""

from typing import Any

import httpx
import pytest

from e2e.chats import MODEL, chat, finish_reasons, say, stream, text

COUNT = say("Write the numbers from 1 to 20, separated by commas.")
END_OF_TURN = "2"
ONE, TWO = "33", "34"
AT_ONCE = {"logit_bias": {END_OF_TURN: 100}}
# Said to the letter, whatever the model would say: multi-byte characters, some of which are several tokens each.
MULTI_BYTE = "Größe 世界 👩‍👩‍👧 конец"
TO_THE_LETTER = {
    "type": "json_schema",
    "json_schema": {"name": "said", "strict": True, "schema": {"const": MULTI_BYTE}},
}


def choice_of(http: httpx.Client, **fields: object) -> dict[str, Any]:
    answer = chat(http, COUNT, **fields)
    (choice,) = answer["choices"]
    return {**choice, "content": choice["message"]["content"], "tokens": answer["usage"]["completion_tokens"]}


def test_a_bias_forces_and_forbids(http: httpx.Client) -> None:
    assert choice_of(http, max_tokens=4, logit_bias={ONE: 100})["content"] == "1111"
    without = choice_of(http, max_tokens=16, logit_bias={ONE: -100, TWO: -100})["content"]
    assert not set(without) & set("12")
    assert without != ""


def test_it_ends_at_the_end_of_a_turn_unless_told_not_to(http: httpx.Client) -> None:
    ended = choice_of(http, max_tokens=8, **AT_ONCE)
    assert (ended["content"], ended["finish_reason"], ended["stop_reason"], ended["tokens"]) == ("", "stop", 2, 1)
    later = choice_of(http, max_tokens=8, min_tokens=5, **AT_ONCE)
    assert (later["finish_reason"], later["tokens"]) == ("stop", 6)
    never = choice_of(http, max_tokens=8, ignore_eos=True, **AT_ONCE)
    assert (never["content"], never["finish_reason"], never["tokens"]) == ("", "length", 8)


@pytest.mark.parametrize("stop", ["ö", "世", "界 ", "👩‍👧", "\u200d", "конец"])
def test_the_text_ends_before_characters_of_several_bytes(http: httpx.Client, stop: str) -> None:
    said = f'"{MULTI_BYTE}"'
    fields: dict[str, Any] = {"max_tokens": 64, "response_format": TO_THE_LETTER}
    cut = choice_of(http, stop=["never said", stop], **fields)
    assert cut["content"] == said[: said.index(stop)]
    assert (cut["finish_reason"], cut["stop_reason"]) == ("stop", stop)
    chunks = stream(http, COUNT, stop=stop, **fields)
    assert text(chunks) == cut["content"]
    assert finish_reasons(chunks) == ["stop"]


def test_no_chunk_cuts_a_character(http: httpx.Client) -> None:
    chunks = stream(http, COUNT, max_tokens=64, response_format=TO_THE_LETTER)
    pieces = [entry["delta"].get("content") or "" for chunk in chunks for entry in chunk["choices"]]
    assert "".join(pieces) == f'"{MULTI_BYTE}"'
    assert not any("\ufffd" in piece for piece in pieces)
    assert len([piece for piece in pieces if piece]) > 10, "not all at once"


def test_usage_counts_what_the_tokenizer_counts(http: httpx.Client) -> None:
    count = http.post("/v1/tokenize", json={"model": MODEL, "input": MULTI_BYTE}).json()["data"][0]["count"]
    request = {"model": MODEL, "prompt": MULTI_BYTE, "max_tokens": 3, "ignore_eos": True, "n": 2}
    usage = http.post("/v1/completions", json=request).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (count, 6, count + 6)


def test_ids_and_their_text_are_one_prompt(http: httpx.Client) -> None:
    ids = http.post("/v1/tokenize", json={"model": MODEL, "input": MULTI_BYTE}).json()["data"][0]["tokens"]
    request = {"model": MODEL, "temperature": 0, "max_tokens": 8}
    by_text = http.post("/v1/completions", json={**request, "prompt": MULTI_BYTE}).json()
    by_ids = http.post("/v1/completions", json={**request, "prompt": ids, "tokenizer": MODEL}).json()
    assert by_ids["choices"] == by_text["choices"]


def test_streamed_choices_are_the_whole_ones(http: httpx.Client) -> None:
    fields: dict[str, Any] = {"n": 3, "temperature": 1, "seed": 11, "max_tokens": 8}
    choices = chat(http, COUNT, **fields)["choices"]
    whole = [choice["message"]["content"] for choice in choices]
    chunks = stream(http, COUNT, **fields)
    assert [text(chunks, choice) for choice in range(3)] == whole
    assert [finish_reasons(chunks, choice) for choice in range(3)] == [[choice["finish_reason"]] for choice in choices]
    assert len(set(whole)) == 3


@pytest.mark.parametrize(
    "more", [{}, {"stop": "5, 6"}, {"response_format": TO_THE_LETTER}], ids=["any", "stop", "bytes"]
)
def test_streamed_log_probabilities_are_the_whole_ones(http: httpx.Client, more: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"max_tokens": 24, "logprobs": True, "top_logprobs": 2, **more}
    (choice,) = chat(http, COUNT, **fields)["choices"]
    entries = [entry for chunk in stream(http, COUNT, **fields) for entry in chunk["choices"] if entry["logprobs"]]
    streamed = [token for entry in entries for token in entry["logprobs"]["content"]]
    assert streamed == choice["logprobs"]["content"]
    # Cut for its length in a character: what is there of it is one U+FFFD.
    said = b"".join(bytes(token["bytes"] or []) for token in streamed).decode(errors="replace")
    assert said.startswith(choice["message"]["content"])
