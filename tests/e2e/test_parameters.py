"""Every parameter that the official SDK can send has an effect, is documented as without one, or is refused by name."""

import pathlib
import re
from typing import Any

import httpx
import pytest
from openai.types import completion_create_params, moderation_create_params
from openai.types.chat import completion_create_params as chat_create_params

from e2e.chats import MODEL, events, say
from stack.description import ROOT

GATEWAY_README: pathlib.Path = ROOT / "go-gateway/README.md"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"

Fields = dict[str, Any]

# Sampled with a seed, so that each of the others has something to change.
COMMON: Fields = {"model": MODEL, "temperature": 1, "seed": 1, "max_tokens": 12}
BASE: dict[str, Fields] = {
    CHAT: {**COMMON, "messages": say("Write the numbers from 1 to 20, separated by commas.")},
    COMPLETIONS: {**COMMON, "prompt": "1, 2, 3, 4, 5, 6, 7, 8,"},
}

# Whatever the model says, it repeats itself.
FEW_TOKENS: Fields = {"logit_bias": {str(token): 100 for token in range(1000, 1020)}}

# Those with an effect, by the field: what to send with it, if it needs others, and the field's value.
SHARED_EFFECTS: dict[str, tuple[Fields, Any]] = {
    "max_tokens": ({}, 3),
    "n": ({}, 2),
    "temperature": ({}, 0),
    "top_p": ({}, 1e-3),
    "top_k": ({}, 1),
    "min_p": ({}, 1),
    "frequency_penalty": (FEW_TOKENS, 2),
    "presence_penalty": (FEW_TOKENS, 2),
    "repetition_penalty": ({}, 10),
    "logit_bias": ({}, {"33": -100, "34": -100, "35": -100, "28": -100}),  # digits and the comma
    "seed": ({}, 2),
    "stop": ({}, " "),
    "stop_token_ids": ({"logit_bias": {"28": 100}}, [28]),
    "ignore_eos": ({"logit_bias": {"2": 100}}, True),  # 2 ends a turn
    "min_tokens": ({"logit_bias": {"2": 100}}, 4),
    "stream": ({}, True),
    "stream_options": ({"stream": True}, {"include_usage": True}),
    "response_format": ({}, {"type": "json_object"}),
}
EFFECTS: dict[str, dict[str, tuple[Fields, Any]]] = {
    CHAT: {
        **SHARED_EFFECTS,
        "messages": ({}, say("Say hello.")),
        "max_completion_tokens": ({"max_tokens": None}, 3),
        "logprobs": ({}, True),
        "top_logprobs": ({"logprobs": True}, 2),
    },
    COMPLETIONS: {
        **SHARED_EFFECTS,
        "prompt": ({}, "Once upon a time"),
        "logprobs": ({}, 0),
    },
}
OURS = set("top_k min_p repetition_penalty stop_token_ids ignore_eos min_tokens response_format".split())

NO_EFFECT: dict[str, Fields] = {
    CHAT: {
        "user": "somebody",
        "safety_identifier": "somebody",
        "metadata": {"team": "a"},
        "store": True,
        "tools": [],
        "tool_choice": "none",
        "parallel_tool_calls": False,
        "functions": [],
        "function_call": "none",
        "modalities": ["text"],
        "reasoning_effort": "high",
        "verbosity": "low",
        "service_tier": "flex",
        "prompt_cache_key": "a",
        "prompt_cache_retention": "in_memory",
    },
    COMPLETIONS: {"user": "somebody", "echo": False, "best_of": 1, "suffix": ""},
}

REFUSED: dict[str, Fields] = {
    CHAT: {
        "audio": {"voice": "alloy", "format": "mp3"},
        "function_call": "auto",
        "functions": [{"name": "f"}],
        "modalities": ["text", "audio"],
        "moderation": {"model": "moderation-minilm"},
        "parallel_tool_calls": True,
        "prediction": {"type": "content", "content": "1"},
        "prompt_cache_options": {"mode": "implicit"},
        "tool_choice": "auto",
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "web_search_options": {},
    },
    COMPLETIONS: {"best_of": 2, "echo": True, "suffix": "a"},
}


def known_to_the_sdk(*params: type) -> set[str]:
    return {name for each in params for name in each.__annotations__}


SDK = {
    CHAT: known_to_the_sdk(
        chat_create_params.CompletionCreateParamsNonStreaming, chat_create_params.CompletionCreateParamsStreaming
    ),
    COMPLETIONS: known_to_the_sdk(
        completion_create_params.CompletionCreateParamsNonStreaming,
        completion_create_params.CompletionCreateParamsStreaming,
    ),
}


def listed(groups: dict[str, Any]) -> list[tuple[str, str]]:
    return [(path, name) for path, names in groups.items() for name in sorted(names)]


def shown(http: httpx.Client, path: str, fields: Fields) -> object:
    """What a client sees of a reply, without what differs from time to time."""
    response = http.post(path, json={**BASE[path], **fields})
    assert response.status_code == 200, response.text
    if fields.get("stream"):
        return [(event["choices"], event.get("usage") is not None) for event in events(response)]
    return response.json()["choices"]


@pytest.fixture(scope="module")
def unchanged(http: httpx.Client) -> dict[str, object]:
    """What is shown without further fields."""
    return {path: shown(http, path, {}) for path in BASE}


@pytest.mark.parametrize("path", SDK)
def test_every_parameter_of_the_sdk_is_decided(path: str) -> None:
    decided = {*EFFECTS[path], *NO_EFFECT[path], *REFUSED[path], "model"}
    assert SDK[path] - decided == set()
    assert decided - SDK[path] - OURS == set()


@pytest.mark.parametrize(("path", "name"), listed(EFFECTS))
def test_a_parameter_has_an_effect(http: httpx.Client, unchanged: dict[str, object], path: str, name: str) -> None:
    others, value = EFFECTS[path][name]
    without = shown(http, path, others) if others else unchanged[path]
    assert shown(http, path, {**others, name: value}) != without


@pytest.mark.parametrize(("path", "name"), listed(NO_EFFECT))
def test_a_parameter_has_none(http: httpx.Client, unchanged: dict[str, object], path: str, name: str) -> None:
    assert shown(http, path, {name: NO_EFFECT[path][name]}) == unchanged[path]


@pytest.mark.parametrize(("path", "name"), listed(REFUSED))
def test_a_parameter_is_refused_by_name(http: httpx.Client, path: str, name: str) -> None:
    response = http.post(path, json={**BASE[path], name: REFUSED[path][name]})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", name)
    assert name in error["message"]


@pytest.mark.parametrize("path", SDK)
def test_null_is_absent(http: httpx.Client, unchanged: dict[str, object], path: str) -> None:
    """An SDK sends null where a program says None."""
    nulls = dict.fromkeys(sorted(SDK[path] - BASE[path].keys()))
    assert shown(http, path, nulls) == unchanged[path]


def test_moderations_take_all_that_the_sdk_knows(http: httpx.Client) -> None:
    values = {"input": "a", "model": "moderation-minilm"}
    assert known_to_the_sdk(moderation_create_params.ModerationCreateParams) == values.keys()
    assert http.post("/v1/moderations", json=values).status_code == 200


def test_what_is_taken_is_documented() -> None:
    section = GATEWAY_README.read_text().split("### Chat and completions")[1].split("###")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("|")]
    marks = [names for names, what in rows if "without effect" in what]
    without_effect = {name for names in marks for name in re.findall(r"`(\w+)`", names)}
    asking_nothing = section.split("What asks for nothing is taken:")[1].split("\n\n")[0]
    without_effect |= set(re.findall(r"`(\w+)`", asking_nothing)) - {"false", "1"}
    documented = set(re.findall(r"`([a-z_]+)(?:\.\w+)?`", section))
    assert without_effect == {name for names in NO_EFFECT.values() for name in names}
    assert {name for names in EFFECTS.values() for name in names} <= documented
