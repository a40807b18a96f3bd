"""Official clients, unmodified."""

import json
import os
import pathlib
import shutil
import subprocess

import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr

from e2e.vectors import MODEL
from stack.description import Stack

NODE = pathlib.Path(__file__).parent / "node"
NPM_LIMIT_S = 110


def langchain(stack: Stack, *, check_length: bool) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model=MODEL,
        base_url=f"{stack.url}/v1",
        api_key=SecretStr(stack.keys["acme"]),
        max_retries=0,
        check_embedding_ctx_length=check_length,
    )


def test_langchain(stack: Stack, client: openai.OpenAI) -> None:
    texts = ["a text", "and another one"]
    vectors = langchain(stack, check_length=False).embed_documents(texts)
    assert vectors == [entry.embedding for entry in client.embeddings.create(model=MODEL, input=texts).data]


def test_langchain_that_tokenizes_by_itself_is_told_how_not_to(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its tokenizer is downloaded at first use; a few ids in its place will do.
    monkeypatch.setattr(OpenAIEmbeddings, "_tokenize", lambda *_: (range(1), [[9906, 1917]], [0], [2]))
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False") as caught:
        langchain(stack, check_length=True).embed_documents(["Hello world"])
    assert caught.value.code == "tokenizer_mismatch"


def test_node_sdk(stack: Stack, client: openai.OpenAI) -> None:
    if shutil.which("npm") is None:
        if "CI" in os.environ:
            pytest.fail("npm is missing, and in CI it must be there")
        pytest.skip("LOUD: npm is missing: the official Node SDK is NOT tested")
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=NODE, check=True, timeout=NPM_LIMIT_S)
    env = {**os.environ, "OPENAI_BASE_URL": f"{stack.url}/v1", "OPENAI_API_KEY": stack.keys["acme"]}
    result = subprocess.run(
        ["node", "embed.mjs", MODEL], cwd=NODE, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    answer = client.embeddings.create(model=MODEL, input=["a", "b"])
    assert told["vectors"] == [entry.embedding for entry in answer.data]
    assert told["usage"] == answer.usage.model_dump()
    assert told["models"] == [model.id for model in client.models.list().data]
    assert told["error"] == {"status": 404, "code": "model_not_found", "param": "model"}
    assert told["requestId"]
