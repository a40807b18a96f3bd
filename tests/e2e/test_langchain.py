"""LangChain, unmodified: embeddings and chat."""

from typing import Literal

import openai
import pydantic
import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import SecretStr

from e2e import chats, vectors
from stack.description import Stack

QUESTION = "Write the numbers from 1 to 20, separated by commas."


class River(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=8)
    long: bool


class Town(pydantic.BaseModel):
    """A town."""

    size: Literal["small", "large"]
    rivers: list[River] = pydantic.Field(min_length=1, max_length=2)


def embeddings(stack: Stack, *, check_length: bool) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model=vectors.MODEL,
        base_url=f"{stack.url}/v1",
        api_key=SecretStr(stack.keys["acme"]),
        max_retries=0,
        check_embedding_ctx_length=check_length,
    )


@pytest.fixture(scope="module")
def chat(stack: Stack) -> ChatOpenAI:
    return ChatOpenAI(
        model=chats.MODEL,
        base_url=f"{stack.url}/v1",
        api_key=SecretStr(stack.keys["acme"]),
        max_retries=0,
        temperature=0,
        max_completion_tokens=100,
        stream_usage=True,
    )


def test_embeddings(stack: Stack, client: openai.OpenAI) -> None:
    texts = ["a text", "and another one"]
    found = embeddings(stack, check_length=False).embed_documents(texts)
    assert found == [entry.embedding for entry in client.embeddings.create(model=vectors.MODEL, input=texts).data]


def test_one_that_tokenizes_by_itself_is_told_how_not_to(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its tokenizer is downloaded at first use; a few ids in its place will do.
    monkeypatch.setattr(OpenAIEmbeddings, "_tokenize", lambda *_: (range(1), [[9906, 1917]], [0], [2]))
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False") as caught:
        embeddings(stack, check_length=True).embed_documents(["Hello world"])
    assert caught.value.code == "tokenizer_mismatch"


def test_chat_streams_what_it_answers_whole(chat: ChatOpenAI) -> None:
    whole = chat.invoke(QUESTION)
    chunks = list(chat.stream(QUESTION))
    assert len(chunks) > 20, "not all at once"
    assert "".join(str(chunk.content) for chunk in chunks) == whole.content
    assert str(whole.content).startswith("1, 2, 3")
    assert whole.usage_metadata is not None
    assert [chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata] == [
        whole.usage_metadata["output_tokens"]
    ]
    assert whole.response_metadata["finish_reason"] in {"stop", "length"}


def test_structured_output(chat: ChatOpenAI) -> None:
    town = chat.with_structured_output(Town, method="json_schema").invoke("Tell me about a town, in JSON.")
    assert isinstance(town, Town)


def test_tools_are_refused_by_name(chat: ChatOpenAI) -> None:
    def weather(town: str) -> str:
        """The weather in a town."""
        return town

    with pytest.raises(openai.BadRequestError, match="tools") as caught:
        chat.bind_tools([weather]).invoke(QUESTION)
    assert caught.value.param == "tools"
