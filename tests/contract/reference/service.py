"""The gRPC services: what is asked is checked, then answered."""

import threading
import time
from collections.abc import Iterator, Mapping
from typing import TypeVar

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from triptych.inference.v1 import inference_pb2 as pb
from triptych.inference.v1 import inference_pb2_grpc, model_pb2, model_pb2_grpc

from contract.reference import checks
from contract.reference.classifier import Classifier
from contract.reference.generator import Generator
from contract.reference.model import Embedder, Model, TokenModel
from contract.reference.refusal import Refusal

# How often a watcher of the load is looked for.
LOOK_S = 0.25

M = TypeVar("M", bound=Model)


class InferenceService(inference_pb2_grpc.InferenceServiceServicer):
    """What runs models."""

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

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> Iterator[pb.GenerateResponse]:
        try:
            yield from self._generate(request, context)
        except Refusal as refusal:
            refusal.abort(context)

    def Classify(self, request: pb.ClassifyRequest, context: grpc.ServicerContext) -> pb.ClassifyResponse:
        try:
            return self._classify(request, context)
        except Refusal as refusal:
            refusal.abort(context)

    def _embed(self, request: pb.EmbedRequest, context: grpc.ServicerContext) -> pb.EmbedResponse:
        start = time.monotonic()
        model = self._model(request.model, Embedder)
        checks.check_scheduling(request)
        checks.check_count(request.inputs, "inputs")
        dimensions = checks.check_dimensions(model, request.dimensions)
        truncated: list[int] = []
        texts = [self._tokens(model, request, index, truncated) for index in range(len(request.inputs))]
        checks.check_charge(request.scheduling, sum(map(len, texts)))
        tokenized = time.monotonic()
        vectors = model.embed(texts, context.is_active)[:, :dimensions]  # [inputs, dimensions]
        if dimensions < model.bundle.manifest.embedding.dimensions[0]:
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return pb.EmbedResponse(
            revision=model.bundle.revision,
            dimensions=dimensions,
            embeddings=vectors.astype("<f4").tobytes(),
            token_counts=[len(ids) for ids in texts],
            truncated_inputs=truncated,
            timings=timings(start, tokenized, time.monotonic()),
        )

    def _tokenize(self, request: pb.TokenizeRequest) -> pb.TokenizeResponse:
        model = self._model(request.model, TokenModel)
        checks.check_scheduling(request)
        checks.check_texts(request.texts)
        reply = pb.TokenizeResponse()
        for text in request.texts:
            ids, places = model.tokenize(text)
            starts, ends = zip(*places, strict=True)
            told = {} if request.counts_only else {"ids": ids, "byte_starts": starts, "byte_ends": ends}
            reply.texts.add(token_count=len(ids), **told)
        return reply

    def _generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> Iterator[pb.GenerateResponse]:
        start = time.monotonic()
        model = self._model(request.model, Generator)
        checks.check_scheduling(request)
        checks.check_prompt(request)
        prompt = self._prompt(model, request)
        terms = checks.check_terms(model, request, len(prompt))
        checks.check_charge(request.scheduling, len(prompt) + terms.choices * terms.max_tokens)
        tokenized = first = time.monotonic()
        said = 0
        yield pb.GenerateResponse(started=pb.GenerateStarted(revision=model.bundle.revision, prompt_tokens=len(prompt)))
        for delta in model.generate(prompt, terms, context.is_active):
            first = first if said else time.monotonic()
            said += len(delta.tokens)
            yield pb.GenerateResponse(delta=delta)
        done = pb.GenerateDone(revision=model.bundle.revision, prompt_tokens=len(prompt), completion_tokens=said)
        done.timings.tokenize.CopyFrom(duration(tokenized - start))
        done.timings.queue.CopyFrom(duration(0))
        done.timings.prefill.CopyFrom(duration(first - tokenized))
        done.timings.decode.CopyFrom(duration(time.monotonic() - first))
        yield pb.GenerateResponse(done=done)

    def _classify(self, request: pb.ClassifyRequest, context: grpc.ServicerContext) -> pb.ClassifyResponse:
        start = time.monotonic()
        model = self._model(request.model, Classifier)
        checks.check_scheduling(request)
        checks.check_texts(request.texts)
        texts = [model.windows(text) for text in request.texts]
        token_counts = [sum(map(len, parts)) for parts in texts]
        checks.check_charge(request.scheduling, sum(token_counts))
        tokenized = time.monotonic()
        scores = [model.classify(parts, context.is_active) for parts in texts]
        labels = model.bundle.manifest.classification.labels
        return pb.ClassifyResponse(
            revision=model.bundle.revision,
            labels=[pb.Label(name=label.name, threshold=label.threshold, advisory=label.advisory) for label in labels],
            classifications=[pb.Classification(scores=each) for each in scores],
            token_counts=token_counts,
            timings=timings(start, tokenized, time.monotonic()),
        )

    def _model(self, name: str, kind: type[M]) -> M:
        if not name:
            raise Refusal("MISSING_FIELD", "model is required", field="model")
        if name not in self._models:
            raise Refusal("MODEL_NOT_FOUND", f"there is no model {name!r}", field="model")
        model = self._models[name]
        if not isinstance(model, kind):
            raise Refusal("MODEL_TASK_MISMATCH", f"the model {name!r} does another task", field="model")
        return model

    def _tokens(self, model: Embedder, request: pb.EmbedRequest, index: int, truncated: list[int]) -> list[int]:
        """Return the ids of one input, and note when it was cut."""
        field, one, limits = f"inputs[{index}]", request.inputs[index], model.bundle.manifest.tokenizer
        ids = model.tokenize(one.text)[0] if one.text else list(one.token_ids.ids)
        if not ids:
            raise Refusal("EMPTY_INPUT", f"{field} is empty", field=field)
        checks.check_ids(ids, field, limits.vocabulary_size)
        if len(ids) > limits.max_tokens:
            if not request.truncate:
                message = f"{field} has {len(ids)} tokens; the model takes {limits.max_tokens}"
                raise Refusal("INPUT_TOO_LONG", message, field, limits.max_tokens, len(ids))
            truncated.append(index)
            return model.truncate(ids)
        return ids

    def _prompt(self, model: Generator, request: pb.GenerateRequest) -> list[int]:
        field = str(request.WhichOneof("prompt"))
        if field == "conversation":
            ids = model.conversation_ids(request.conversation.messages)
        else:
            ids = model.tokenize(request.text)[0] if field == "text" else list(request.token_ids.ids)
        if not ids:
            raise Refusal("EMPTY_INPUT", f"{field} has no token", field=field)
        checks.check_ids(ids, field, model.bundle.manifest.tokenizer.vocabulary_size)
        return ids


class ModelService(model_pb2_grpc.ModelServiceServicer):
    """ListModels and WatchLoad."""

    def __init__(self, models: Mapping[str, Model], draining: threading.Event) -> None:
        self._models, self._draining = models, draining

    def ListModels(
        self,
        request: model_pb2.ListModelsRequest,
        context: grpc.ServicerContext,
    ) -> model_pb2.ListModelsResponse:
        return model_pb2.ListModelsResponse(models=[self._describe(name) for name in sorted(self._models)])

    def WatchLoad(
        self,
        request: model_pb2.WatchLoadRequest,
        context: grpc.ServicerContext,
    ) -> Iterator[model_pb2.WatchLoadResponse]:
        """Nothing ever waits here, so nothing changes."""
        yield model_pb2.WatchLoadResponse(models=[model_pb2.ModelLoad(model=name) for name in sorted(self._models)])
        while context.is_active() and not self._draining.wait(LOOK_S):
            pass

    def _describe(self, name: str) -> model_pb2.Model:
        model = self._models[name]
        manifest = model.bundle.manifest
        written = Timestamp()
        written.FromNanoseconds((model.bundle.path / "bundle.json").stat().st_mtime_ns)
        described = model_pb2.Model(
            name=name,
            state=model_pb2.MODEL_STATE_READY,
            revision=model.bundle.revision,
            precision=model.precision,
            create_time=written,
            owner=manifest.source.owner,
            limits=model_pb2.Limits(
                max_tokens=manifest.tokenizer.max_tokens,
                max_inputs=checks.MAX_INPUTS,
                vocabulary_size=manifest.tokenizer.vocabulary_size,
            ),
        )
        if isinstance(model, Embedder):
            described.task = model_pb2.TASK_EMBEDDING
            described.dimensions.extend(manifest.embedding.dimensions)
        elif isinstance(model, Generator):
            described.task = model_pb2.TASK_GENERATION
            described.limits.max_choices = checks.MAX_CHOICES
            described.default_max_tokens = checks.DEFAULT_MAX_TOKENS
            described.chat = model.chat is not None
        else:
            described.task = model_pb2.TASK_CLASSIFICATION
        return described


def timings(start: float, tokenized: float, done: float) -> pb.Timings:
    return pb.Timings(tokenize=duration(tokenized - start), queue=duration(0), inference=duration(done - tokenized))


def duration(seconds: float) -> Duration:
    message = Duration()
    message.FromNanoseconds(int(seconds * 1e9))
    return message
