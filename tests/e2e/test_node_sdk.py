"""The official Node SDK, unmodified."""

import json
import os
import pathlib
import subprocess
from collections.abc import Callable
from typing import Any

import openai
import pytest

from e2e import chats, programs, vectors
from stack.description import Stack
from stack.native import NativeStack

NODE = pathlib.Path(__file__).parent / "node"
NPM_LIMIT_S = 110
SCRIPT_LIMIT_S = 60

pytestmark = pytest.mark.usefixtures("packages")


@pytest.fixture(scope="module")
def packages() -> None:
    """The SDK, as the lock file has it."""
    programs.need("npm", "the official Node SDK is")
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=NODE, check=True, timeout=NPM_LIMIT_S)


def start(stack: Stack, script: str, *arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, "OPENAI_BASE_URL": f"{stack.url}/v1", "OPENAI_API_KEY": stack.keys["acme"]}
    pipe = subprocess.PIPE
    return subprocess.Popen(["node", script, *arguments], cwd=NODE, env=env, stdout=pipe, stderr=pipe, text=True)


def end(script: subprocess.Popen[str]) -> Any:
    """What the script printed last, as JSON."""
    try:
        output, errors = script.communicate(timeout=SCRIPT_LIMIT_S)
    finally:
        script.kill()
    assert script.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


def test_embeddings(stack: Stack, client: openai.OpenAI) -> None:
    told = end(start(stack, "embed.mjs", vectors.MODEL))
    answer = client.embeddings.create(model=vectors.MODEL, input=["a", "b"])
    assert told["vectors"] == [entry.embedding for entry in answer.data]
    assert told["usage"] == answer.usage.model_dump()
    assert told["models"] == [model.id for model in client.models.list().data]
    assert told["error"] == {"status": 404, "code": "model_not_found", "param": "model"}
    assert told["requestId"]


def test_files(stack: Stack) -> None:
    told = end(start(stack, "files.mjs"))
    assert told["made"]["filename"] == "requests.jsonl"
    assert told["found"] == told["made"]
    assert told["listed"]
    assert told["same"]
    assert told["deleted"]
    assert told["error"] == {"status": 404, "code": "file_not_found", "param": "file_id"}


def test_chat(stack: Stack, client: openai.OpenAI) -> None:
    told = end(start(stack, "chat.mjs", chats.MODEL))
    answer = client.chat.completions.create(
        model=chats.MODEL,
        messages=[{"role": "user", "content": "Write the numbers from 1 to 20, separated by commas."}],
        temperature=0,
        max_tokens=24,
    )
    said = answer.choices[0].message.content
    raw = told["raw"]
    assert [told[form] for form in ("streamed", "events", "collected", "whole")] == [said] * 4
    assert raw["body"]["choices"][0]["message"]["content"] == said
    assert told["chunks"] > 20, "not all at once"
    assert told["usage"]["completion_tokens"] == 24
    assert told["requestId"] == told["header"] != ""
    assert raw["type"].startswith("application/json")
    assert "decode;dur=" in raw["timing"]
    assert "".join(token["token"] for token in told["logprobs"]) == said
    assert {len(token["top_logprobs"]) for token in told["logprobs"]} == {2}
    assert told["parsed"]["size"] in {"small", "large"}
    assert 1 <= len(told["parsed"]["rivers"]) <= 2
    assert told["cut"] == "LengthFinishReasonError"
    refused = {"name": "BadRequestError", "status": 400, "code": "unsupported_parameter", "param": "tools"}
    assert told["refused"] == refused
    assert told["flagged"] == [True, False]


def test_one_that_leaves_frees_its_slot(stack: Stack) -> None:
    told = end(start(stack, "leave.mjs", chats.MODEL, stack.hotpath_metrics_url))
    assert told["byBreak"] == {"seen": 3, "rows": 0}
    # What had arrived before it aborted is still handed out; the whole stream would be thousands.
    assert told["byAbort"]["rows"] == 0
    assert 3 <= told["byAbort"]["seen"] < 1000


def test_a_stream_that_breaks_is_a_typed_error(start_native: Callable[..., NativeStack]) -> None:
    native = start_native(hotpath={"model-names": chats.MODEL})
    reading = start(native.describe(), "broken.mjs", chats.MODEL)
    assert reading.stdout is not None
    assert reading.stdout.readline() == "reading\n"
    assert native.hotpath is not None
    native.hotpath.kill()
    told = end(reading)
    assert told["error"]
    assert (told["code"], told["type"], told["finishes"]) == ("hotpath_unavailable", "overloaded_error", [])
