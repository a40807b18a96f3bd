"""The gRPC services: what is asked is checked field by field, then answered."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from triptych.inference.v1 import inference_pb2 as pb
from triptych.inference.v1 import inference_pb2_grpc, model_pb2, model_pb2_grpc

from contract.reference.model import Model
from contract.reference.refusal import Refusal

MAX_INPUTS = 2048
MAX_FAIRNESS_KEY = 128  # bytes


class InferenceService(inference_pb2_grpc.InferenceServiceServicer):
    """Embed and Tokenize."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models

    def Embed(self, request: pb.EmbedRequest, context: grpc.ServicerContext) -> pb.EmbedResponse:
        try:
            return self._embed(request, context)
        except Refusal as refusal:
            refusal.abort(context)

    def Tokenize(self, request: pb.TokenizeRequest, context: grpc.ServicerContext) -> pb.TokenizeResponse:
        try:
            return self._tokenize(request)
        except Refusal as refusal:
            refusal.abort(context)

    def _embed(self, request: pb.EmbedRequest, context: grpc.ServicerContext) -> pb.EmbedResponse:
        start = time.monotonic()
        model = self._model(request.model)
        check_scheduling(request)
        check_count(request.inputs, "inputs")
        dimensions = check_dimensions(model, request.dimensions)
        truncated: list[int] = []
        texts = [self._tokens(model, request, index, truncated) for index in range(len(request.inputs))]
        tokenized = time.monotonic()
        vectors = model.embed(texts, context.is_active)[:, :dimensions]  # [inputs, dimensions]
        if dimensions < model.bundle.manifest.embedding.dimensions[0]:
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        done = time.monotonic()
        return pb.EmbedResponse(
            revision=model.bundle.revision,
            dimensions=dimensions,
            embeddings=vectors.astype("<f4").tobytes(),
            token_counts=[len(ids) for ids in texts],
            truncated_inputs=truncated,
            timings=pb.Timings(
                tokenize=duration(tokenized - start), queue=duration(0), inference=duration(done - tokenized)
            ),
        )

    def _tokenize(self, request: pb.TokenizeRequest) -> pb.TokenizeResponse:
        model = self._model(request.model)
        check_count(request.texts, "texts")
        reply = pb.TokenizeResponse()
        for index, text in enumerate(request.texts):
            if not text:
                raise Refusal("EMPTY_INPUT", f"texts[{index}] is empty", field=f"texts[{index}]")
            ids, places = model.tokenize(text)
            starts, ends = zip(*places, strict=True)
            reply.texts.add(ids=ids, byte_starts=starts, byte_ends=ends, token_count=len(ids))
        return reply

    def _model(self, name: str) -> Model:
        if not name:
            raise Refusal("MISSING_FIELD", "model is required", field="model")
        if name not in self._models:
            raise Refusal("MODEL_NOT_FOUND", f"there is no model {name!r}", field="model")
        return self._models[name]

    def _tokens(self, model: Model, request: pb.EmbedRequest, index: int, truncated: list[int]) -> list[int]:
        """Return the ids of one input, and note when it was cut."""
        field, one, limits = f"inputs[{index}]", request.inputs[index], model.bundle.manifest.tokenizer
        ids = model.tokenize(one.text)[0] if one.text else list(one.token_ids.ids)
        if not ids:
            raise Refusal("EMPTY_INPUT", f"{field} is empty", field=field)
        for token in ids:
            if token >= limits.vocabulary_size:
                message = f"{field} has token id {token}; ids are below {limits.vocabulary_size}"
                raise Refusal("TOKEN_ID_OUT_OF_RANGE", message, field, limits.vocabulary_size, token)
        if len(ids) > limits.max_tokens:
            if not request.truncate:
                message = f"{field} has {len(ids)} tokens; the model takes {limits.max_tokens}"
                raise Refusal("INPUT_TOO_LONG", message, field, limits.max_tokens, len(ids))
            truncated.append(index)
            return model.truncate(ids)
        return ids


class ModelService(model_pb2_grpc.ModelServiceServicer):
    """ListModels."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models

    def ListModels(
        self,
        request: model_pb2.ListModelsRequest,
        context: grpc.ServicerContext,
    ) -> model_pb2.ListModelsResponse:
        return model_pb2.ListModelsResponse(models=[self._describe(name) for name in sorted(self._models)])

    def _describe(self, name: str) -> model_pb2.Model:
        model = self._models[name]
        manifest = model.bundle.manifest
        written = Timestamp()
        written.FromNanoseconds((model.bundle.path / "bundle.json").stat().st_mtime_ns)
        return model_pb2.Model(
            name=name,
            task=model_pb2.TASK_EMBEDDING,
            state=model_pb2.MODEL_STATE_READY,
            revision=model.bundle.revision,
            precision=model.precision,
            create_time=written,
            owner=manifest.source.owner,
            limits=model_pb2.Limits(
                max_tokens=manifest.tokenizer.max_tokens,
                max_inputs=MAX_INPUTS,
                vocabulary_size=manifest.tokenizer.vocabulary_size,
            ),
            dimensions=manifest.embedding.dimensions,
        )


def check_scheduling(request: pb.EmbedRequest) -> None:
    if not request.HasField("scheduling"):
        raise Refusal("MISSING_FIELD", "scheduling is required", field="scheduling")
    if request.scheduling.priority not in (pb.PRIORITY_INTERACTIVE, pb.PRIORITY_BATCH):
        raise Refusal("INVALID_VALUE", "scheduling.priority is not one of Priority", field="scheduling.priority")
    length = len(request.scheduling.fairness_key.encode())
    if length > MAX_FAIRNESS_KEY:
        message = f"scheduling.fairness_key has {length} bytes; at most {MAX_FAIRNESS_KEY}"
        raise Refusal("INVALID_VALUE", message, "scheduling.fairness_key", MAX_FAIRNESS_KEY, length)


def check_count(inputs: Sequence[Any], field: str) -> None:
    if not inputs:
        raise Refusal("EMPTY_INPUT", f"{field} is empty", field=field)
    if len(inputs) > MAX_INPUTS:
        raise Refusal("TOO_MANY_INPUTS", f"{len(inputs)} inputs; at most {MAX_INPUTS}", field, MAX_INPUTS, len(inputs))


def check_dimensions(model: Model, wanted: int) -> int:
    offered = list(model.bundle.manifest.embedding.dimensions)
    if wanted and wanted not in offered:
        message = f"the model has vectors of {', '.join(map(str, offered))} dimensions, not of {wanted}"
        raise Refusal("DIMENSIONS_UNSUPPORTED", message, field="dimensions", actual=wanted)
    return wanted or offered[0]


def duration(seconds: float) -> Duration:
    message = Duration()
    message.FromNanoseconds(int(seconds * 1e9))
    return message
