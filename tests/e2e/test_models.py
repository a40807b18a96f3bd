"""What the service says of its models, and of texts."""

import httpx
import openai
import pytest

from e2e.vectors import MODEL


def test_list(client: openai.OpenAI) -> None:
    models = client.models.list().data
    assert {model.id: model.model_dump()["task"] for model in models} == {
        MODEL: "embedding",
        "moderation-minilm": "classification",
        "smollm2-135m-instruct": "generation",
    }
    by_name = {model.id: model for model in models}
    assert by_name["moderation-minilm"].model_dump()["limits"].keys() == {"max_inputs"}  # texts of any length
    model = by_name[MODEL]
    assert model.object == "model"
    assert model.created > 1_500_000_000
    assert model.owned_by
    extra = model.model_dump()
    assert (extra["task"], extra["state"]) == ("embedding", "ready")
    assert extra["limits"]["max_tokens"] > 0
    assert extra["dimensions"] == [384]


def test_retrieve_is_the_list_s_entry(client: openai.OpenAI) -> None:
    assert client.models.retrieve(MODEL) == client.models.list().data[0]


def test_tokenize_offsets_are_bytes_of_the_text(http: httpx.Client) -> None:
    texts = ["Grüße aus Köln 👋", "plain"]
    answer = http.post("/v1/tokenize", json={"model": MODEL, "input": texts}).json()
    assert [entry["index"] for entry in answer["data"]] == [0, 1]
    for text, entry in zip(texts, answer["data"], strict=True):
        pieces = [text.encode()[start:end].decode() for start, end in entry["offsets"]]
        assert len(pieces) == len(entry["tokens"]) == entry["count"]
        assert "".join(pieces) == text.replace(" ", "")
    assert answer["usage"]["prompt_tokens"] == sum(entry["count"] for entry in answer["data"])


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_needs_no_key(http: httpx.Client, path: str) -> None:
    assert httpx.get(f"{http.base_url}{path}").status_code == 200
