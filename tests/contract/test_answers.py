"""Both implementations give the same answers: ids, offsets, counts, and vectors up to the last bits."""

import itertools

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha import reflection_pb2
from numpy.typing import NDArray
from triptych.bundle.v1 import bundle_pb2
from triptych.inference.v1 import inference_pb2 as pb
from triptych.inference.v1 import model_pb2

from contract.conftest import Server
from contract.texts import TEXTS
from stack.native import MODELS

MODEL = "all-minilm-l6-v2"
INTERACTIVE = pb.Scheduling(priority=pb.PRIORITY_INTERACTIVE)
# The graph is the same and so are its bits; pooling and the norm add up in another order. Measured: 4.5e-8.
ROUNDING = 2e-7
SHORT = [text for text in TEXTS if len(text) < 200]


def embed(
    server: Server, inputs: list[pb.EmbedInput], **fields: object
) -> tuple[NDArray[np.float32], pb.EmbedResponse]:
    request = pb.EmbedRequest(model=MODEL, inputs=inputs, scheduling=INTERACTIVE, **fields)  # type: ignore[arg-type]
    reply: pb.EmbedResponse = server.inference.Embed(request, timeout=60)
    vectors = np.frombuffer(reply.embeddings, "<f4").reshape(len(inputs), reply.dimensions)  # [inputs, dimensions]
    return vectors, reply


def of_text(texts: list[str]) -> list[pb.EmbedInput]:
    return [pb.EmbedInput(text=text) for text in texts]


def tokenize(server: Server, texts: list[str]) -> list[pb.TokenizedText]:
    request = pb.TokenizeRequest(model=MODEL, texts=texts, scheduling=INTERACTIVE)
    return list(server.inference.Tokenize(request, timeout=60).texts)


def described(server: Server) -> model_pb2.Model:
    models = server.models.ListModels(model_pb2.ListModelsRequest(), timeout=10).models
    (model,) = (model for model in models if model.name == MODEL)
    assert isinstance(model, model_pb2.Model)
    return model


class TestLoad:
    def test_every_model_tells_its_own(self, server: Server) -> None:
        watch = server.models.WatchLoad(model_pb2.WatchLoadRequest(), timeout=10)
        said = next(watch).models
        watch.cancel()
        listed = server.models.ListModels(model_pb2.ListModelsRequest(), timeout=10).models
        assert [load.model for load in said] == [model.name for model in listed]
        assert all(load.queued_tokens == load.running_tokens == 0 for load in said)


class TestTokenize:
    def test_same_tokens(self, reference: Server, rust: Server) -> None:
        assert tokenize(rust, TEXTS) == tokenize(reference, TEXTS)

    def test_offsets_are_bytes_of_the_text(self, server: Server) -> None:
        for text, tokens in zip(TEXTS, tokenize(server, TEXTS), strict=True):
            raw = text.encode()
            assert tokens.token_count == len(tokens.ids) == len(tokens.byte_starts) == len(tokens.byte_ends)
            assert (
                (tokens.byte_starts[0], tokens.byte_ends[0]) == (tokens.byte_starts[-1], tokens.byte_ends[-1]) == (0, 0)
            )
            pieces = [raw[start:end] for start, end in zip(tokens.byte_starts, tokens.byte_ends, strict=True)]
            assert all(piece.decode() for piece in pieces[1:-1]), "a token of text is never empty or half a character"
            inner = list(tokens.byte_starts)[1:-1]
            assert inner == sorted(inner)

    def test_long_text_is_not_cut(self, server: Server) -> None:
        (tokens,) = tokenize(server, ["word " * 3000])
        assert tokens.token_count == 3002


class TestEmbed:
    def test_same_vectors(self, reference: Server, rust: Server) -> None:
        expected, expected_reply = embed(reference, of_text(TEXTS))
        actual, actual_reply = embed(rust, of_text(TEXTS))
        assert actual_reply.revision == expected_reply.revision
        assert actual_reply.token_counts == expected_reply.token_counts
        assert np.abs(actual - expected).max() <= ROUNDING

    def test_golden_cases(self, server: Server) -> None:
        model = described(server)
        folder = MODELS / MODEL / model.revision
        manifest = json_format.Parse((folder / "bundle.json").read_text(), bundle_pb2.Manifest())
        golden = json_format.Parse((folder / manifest.golden_file).read_text(), bundle_pb2.GoldenFile()).embeddings
        name = f"PRECISION_{model.precision.upper()}"
        graph = next(graph for graph in manifest.graphs if bundle_pb2.Precision.Name(graph.precision) == name)
        vectors, reply = embed(server, of_text([case.text for case in golden]))
        expected = np.array([case.vector for case in golden], np.float32)  # [cases, dimensions]
        lengths = np.linalg.norm(expected, axis=1)
        cosines = (vectors * expected).sum(1) / np.linalg.norm(vectors, axis=1) / lengths
        assert cosines.min() >= graph.tolerance.min_cosine
        assert (np.abs(vectors - expected).max(1) / lengths).max() <= graph.tolerance.max_abs_error
        assert list(reply.token_counts) == [len(case.token_ids) for case in golden]

    def test_a_vector_is_the_same_alone_and_in_a_batch(self, server: Server) -> None:
        together, _ = embed(server, of_text(SHORT))
        backwards, _ = embed(server, of_text(SHORT[::-1]))
        for index, text in enumerate(SHORT):
            alone, _ = embed(server, of_text([text]))
            assert alone[0].tobytes() == together[index].tobytes() == backwards[-1 - index].tobytes(), text

    def test_ids_are_as_good_as_their_text(self, server: Server) -> None:
        ids = [pb.EmbedInput(token_ids=pb.TokenIds(ids=tokens.ids)) for tokens in tokenize(server, SHORT)]
        assert embed(server, ids)[0].tobytes() == embed(server, of_text(SHORT))[0].tobytes()

    def test_vectors_have_length_one(self, server: Server) -> None:
        vectors, _ = embed(server, of_text(TEXTS))
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5

    def test_full_dimensions_may_be_named(self, server: Server) -> None:
        named, _ = embed(server, of_text(["a"]), dimensions=384)
        assert named.tobytes() == embed(server, of_text(["a"]))[0].tobytes()

    def test_truncation_is_asked_for_and_told(self, reference: Server, rust: Server) -> None:
        texts = of_text(["a", "word " * 3000])
        expected, _ = embed(reference, texts, truncate=True)
        actual, reply = embed(rust, texts, truncate=True)
        assert list(reply.truncated_inputs) == [1]
        assert reply.token_counts[1] == described(rust).limits.max_tokens
        assert np.abs(actual - expected).max() <= ROUNDING

    def test_as_many_inputs_as_the_limit(self, server: Server) -> None:
        count = described(server).limits.max_inputs
        vectors, reply = embed(server, of_text(["a"] * count))
        assert len(reply.token_counts) == count
        assert len({row.tobytes() for row in vectors}) == 1

    @pytest.mark.parametrize("priority", [pb.PRIORITY_INTERACTIVE, pb.PRIORITY_BATCH])
    def test_priorities_change_no_vector(self, server: Server, priority: pb.Priority) -> None:
        scheduling = pb.Scheduling(fairness_key="k" * 128, priority=priority)
        request = pb.EmbedRequest(model=MODEL, inputs=of_text(["a"]), scheduling=scheduling)
        reply = server.inference.Embed(request, timeout=30)
        assert reply.embeddings == embed(server, of_text(["a"]))[1].embeddings

    def test_timings_fit_the_call(self, server: Server) -> None:
        _, reply = embed(server, of_text(SHORT))
        timings = [reply.timings.tokenize, reply.timings.queue, reply.timings.inference]
        assert all(timing.ToNanoseconds() >= 0 for timing in timings)
        assert reply.timings.inference.ToNanoseconds() > 0


class TestModels:
    def test_same_description(self, reference: Server, rust: Server) -> None:
        expected, actual = described(reference), described(rust)
        assert actual.create_time.seconds > 0
        assert "processor" in actual.precision_reason
        for model in (expected, actual):
            model.ClearField("create_time")  # where it comes from is the implementation's business
            model.ClearField("precision_reason")  # words for people
        assert actual == expected

    def test_model_is_ready(self, server: Server) -> None:
        model = described(server)
        assert (model.name, model.task, model.state) == (MODEL, model_pb2.TASK_EMBEDDING, model_pb2.MODEL_STATE_READY)
        assert model.status_message == ""


class TestStandardServices:
    @pytest.mark.parametrize("service", ["", f"model/{MODEL}"])
    def test_health(self, server: Server, service: str) -> None:
        reply = server.health.Check(HealthCheckRequest(service=service), timeout=10)
        assert reply.status == HealthCheckResponse.SERVING

    def test_health_of_an_unknown_model(self, server: Server) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            server.health.Check(HealthCheckRequest(service="model/no-such-model"), timeout=10)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND

    def test_reflection(self, server: Server) -> None:
        # grpcio has messages of v1alpha only; those of v1 are the same on the wire.
        call = server.channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        wanted = {
            "triptych.inference.v1.InferenceService",
            "triptych.inference.v1.ModelService",
            "grpc.health.v1.Health",
        }
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services="*"),
            *(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in sorted(wanted)),
        ]
        services, *files = itertools.islice(call(iter(requests), timeout=10), len(requests))
        assert {service.name for service in services.list_services_response.service} >= wanted
        assert all(file.file_descriptor_response.file_descriptor_proto for file in files)
