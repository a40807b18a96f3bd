"""The golden journey and what embeddings promise."""

import base64
import random
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import openai
import pytest
from google.protobuf import json_format
from triptych.bundle.v1 import bundle_pb2
from triptych.inference.v1 import inference_pb2 as pb
from triptych.inference.v1.inference_pb2_grpc import InferenceServiceStub

from e2e.vectors import MODEL, Input, embed, floats, reply
from stack.native import MODELS

TEXTS = [
    "How do I reset the password of my account?",
    "a",
    "Die Katze sitzt auf der Matte.",
    "東京は日本の首都です。",
    "🚀 to the moon",
    "A text that is a good deal longer than the others, so that a batch with it has unequal lengths. " * 4,
]


def count_tokens(http: httpx.Client, texts: list[str]) -> list[int]:
    response = http.post("/v1/tokenize", json={"model": MODEL, "input": texts})
    assert response.status_code == 200, response.text
    return [entry["count"] for entry in response.json()["data"]]


def test_sdk_ranks_sentences_by_meaning(client: openai.OpenAI) -> None:
    query, *documents = [
        "How can I change my password?",
        "Steps to reset your login credentials",
        "Our office is closed on public holidays",
        "The recipe needs two eggs and some flour",
    ]
    answer = client.embeddings.create(model=MODEL, input=[query, *documents])
    vectors = np.array([entry.embedding for entry in answer.data])  # [texts, dimensions]
    assert [entry.index for entry in answer.data] == [0, 1, 2, 3]
    assert np.argsort(-vectors[1:] @ vectors[0])[0] == 0


def test_vectors_are_the_golden_ones(http: httpx.Client, client: openai.OpenAI) -> None:
    model = client.models.retrieve(MODEL).model_dump()
    folder = MODELS / MODEL / model["revision"]
    manifest = json_format.Parse((folder / "bundle.json").read_text(), bundle_pb2.Manifest())
    golden = json_format.Parse((folder / manifest.golden_file).read_text(), bundle_pb2.GoldenFile()).embeddings
    precision = bundle_pb2.Precision.Value(f"PRECISION_{model['precision'].upper()}")
    tolerance = next(graph.tolerance for graph in manifest.graphs if graph.precision == precision)
    expected = np.array([case.vector for case in golden], np.float32)  # [cases, dimensions]
    actual = floats(embed(http, [case.text for case in golden]))
    lengths = np.linalg.norm(expected, axis=1)
    cosines = (actual * expected).sum(1) / np.linalg.norm(actual, axis=1) / lengths
    assert cosines.min() >= tolerance.min_cosine
    assert (np.abs(actual - expected).max(1) / lengths).max() <= tolerance.max_abs_error
    assert count_tokens(http, [case.text for case in golden]) == [len(case.token_ids) for case in golden]


def test_reply_is_openais_object(http: httpx.Client) -> None:
    answer = http.post("/v1/embeddings", json={"model": MODEL, "input": ["a", "b"]}).json()
    assert answer.keys() == {"object", "data", "model", "usage"}
    assert (answer["object"], answer["model"]) == ("list", MODEL)
    assert [(entry["object"], entry["index"]) for entry in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    assert all(isinstance(number, float) for number in answer["data"][0]["embedding"])


def test_base64_and_float_are_the_same_bits(http: httpx.Client) -> None:
    raw = embed(http, TEXTS)
    answer = http.post("/v1/embeddings", json={"model": MODEL, "input": TEXTS, "encoding_format": "float"}).json()
    as_floats = [np.array(entry["embedding"], "<f4").tobytes() for entry in answer["data"]]
    assert as_floats == raw


def test_batch_and_single_are_the_same_bits(http: httpx.Client) -> None:
    together = embed(http, TEXTS)
    assert [embed(http, text)[0] for text in TEXTS] == together
    assert [embed(http, [text])[0] for text in TEXTS] == together


def test_vectors_do_not_depend_on_who_else_asks(http: httpx.Client) -> None:
    alone = [embed(http, text)[0] for text in TEXTS]
    shuffle = random.Random(7)

    def ask(number: int) -> None:
        order = list(range(len(TEXTS)))
        random.Random(number).shuffle(order)
        chosen = order[: 1 + number % len(order)]
        got = embed(http, [TEXTS[index] for index in chosen])
        assert got == [alone[index] for index in chosen]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, shuffle.sample(range(1000), 120)))


def test_over_grpc_the_bytes_are_the_same(http: httpx.Client, channel: grpc.Channel) -> None:
    request = pb.EmbedRequest(
        model=MODEL,
        inputs=[pb.EmbedInput(text=text) for text in TEXTS],
        scheduling=pb.Scheduling(fairness_key="test", priority=pb.PRIORITY_INTERACTIVE),
    )
    answer = InferenceServiceStub(channel).Embed(request, timeout=60)
    assert answer.embeddings == b"".join(embed(http, TEXTS))


@pytest.mark.parametrize("inputs", ["a", TEXTS, TEXTS * 20], ids=["one", "some", "many"])
def test_usage_is_what_tokenize_counts(client: openai.OpenAI, http: httpx.Client, inputs: str | list[str]) -> None:
    usage = client.embeddings.create(model=MODEL, input=inputs).usage
    counted = sum(count_tokens(http, [inputs] if isinstance(inputs, str) else inputs))
    assert (usage.prompt_tokens, usage.total_tokens) == (counted, counted)


@pytest.mark.parametrize("extra", [{"user": "someone"}, {"dimensions": 384}, {"encoding_format": None}, {"user": None}])
def test_optional_fields(http: httpx.Client, extra: dict[str, object]) -> None:
    answer = http.post("/v1/embeddings", json={"model": MODEL, "input": "a", **extra})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"][0]["embedding"]) == 384


def test_own_token_ids_give_the_text_s_vector(http: httpx.Client) -> None:
    answer = http.post("/v1/tokenize", json={"model": MODEL, "input": TEXTS}).json()
    ids: list[list[int]] = [entry["tokens"] for entry in answer["data"]]
    forms: list[tuple[Input, list[str]]] = [(ids, TEXTS), (ids[0], TEXTS[:1])]
    for inputs, texts in forms:
        assert embed(http, inputs, tokenizer=MODEL) == embed(http, texts)


def test_truncation_only_when_asked_for(http: httpx.Client, client: openai.OpenAI) -> None:
    limit = client.models.retrieve(MODEL).model_dump()["limits"]["max_tokens"]
    long_text = "word " * (limit + 10)
    answer = reply(http, ["a", long_text], truncate=True)
    assert answer["truncated_inputs"] == [1]
    fitting = embed(http, "word " * (limit - 2))
    assert base64.b64decode(answer["data"][1]["embedding"]) == fitting[0]


def test_as_many_inputs_as_the_limit(http: httpx.Client, client: openai.OpenAI) -> None:
    count = client.models.retrieve(MODEL).model_dump()["limits"]["max_inputs"]
    assert len(set(embed(http, ["a"] * count))) == 1
