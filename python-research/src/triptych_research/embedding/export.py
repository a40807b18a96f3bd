"""Sentence encoders as a family of models: graphs in int8 and fp32, judged by each other and by labels of topics."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import onnx

from triptych.bundle.v1 import bundle_pb2
from triptych_research import strict_json
from triptych_research.card import Card
from triptych_research.embedding import card, evaluate, golden, graph, quantize, speed
from triptych_research.embedding.checkpoint import Checkpoint, load
from triptych_research.embedding.inference import Encoder
from triptych_research.family import GOLDEN_FILE, TOKENIZER_FILE, Family, Files, GetTexts, GraphKind, graph_file
from triptych_research.golden import OutOfToleranceError
from triptych_research.reference import compare
from triptych_research.sources import Source

# Of vectors at length 1. float32 arithmetic in another order than the reference's: measured on the golden cases, 2e-7.
FP32_TOLERANCE = bundle_pb2.Tolerance(max_abs_error=1e-5, min_cosine=0.99999)
# int8 is an approximation. Measured on the golden cases: 0.0142 and 0.9978. The headroom is for other processors, whose
# float32 rounding moves an activation to the next of 255 steps here and there. Saturating multiplication (x86 without
# VNNI) is outside, with 0.9925, and is meant to be.
INT8_TOLERANCE = bundle_pb2.Tolerance(max_abs_error=0.03, min_cosine=0.995)
_SPEED_TEXTS = 200


class Embedding(Family[Checkpoint]):
    """BERT with mean pooling."""

    graphs: ClassVar[Mapping[str, GraphKind]] = {
        "int8": GraphKind(bundle_pb2.PRECISION_INT8, bundle_pb2.CPU_FEATURE_INT8_DOT_PRODUCT, INT8_TOLERANCE),
        "fp32": GraphKind(bundle_pb2.PRECISION_FP32, bundle_pb2.CPU_FEATURE_NONE, FP32_TOLERANCE),
    }

    def load(self, source: Source, cache: Path) -> Checkpoint:
        return load(source)

    def check_reference(self, source: Source, cache: Path) -> float:
        return compare.with_torch(source)

    def build(self, checkpoint: Checkpoint, get_texts: GetTexts) -> Mapping[str, onnx.ModelProto]:
        activations = quantize.calibrate(checkpoint, token_ids(checkpoint, get_texts().calibration.texts))
        return build_graphs(checkpoint, quantize.Int8Weights(activations))

    def golden(self, checkpoint: Checkpoint, graphs: Files) -> bundle_pb2.GoldenFile:
        return golden.make(checkpoint)

    def manifest(self, checkpoint: Checkpoint) -> tuple[bundle_pb2.Manifest, Files]:
        config = checkpoint.config
        manifest = bundle_pb2.Manifest(
            tokenizer=bundle_pb2.Tokenizer(
                file=TOKENIZER_FILE, vocabulary_size=config.vocabulary_size, max_tokens=checkpoint.max_tokens
            ),
            embedding=bundle_pb2.EmbeddingTask(
                pooling=bundle_pb2.POOLING_MEAN, normalize=checkpoint.normalize, dimensions=[config.hidden_size]
            ),
        )
        return manifest, {TOKENIZER_FILE: checkpoint.tokenizer_json}

    def judge(self, checkpoint: Checkpoint, files: Files, get_texts: GetTexts) -> Card:
        """Compare int8 with the golden vectors and with fp32, and both with the labels."""
        real_texts = get_texts()
        evaluation, known, asked = (
            token_ids(checkpoint, some)
            for some in (real_texts.evaluation.texts, real_texts.known.texts, real_texts.asked.texts)
        )
        graphs = {precision: files[graph_file(precision)] for precision in self.graphs}
        vectors, topics = {}, {}
        for precision, content in graphs.items():
            # Similarity is judged by the cosine, whether or not the model's own vectors have length 1.
            model = Encoder(content, normalize=True, threads=os.cpu_count() or 1)
            vectors[precision] = model.embed_all(evaluation)
            topics[precision] = evaluate.topics_found(
                model.embed_all(asked), real_texts.asked.topics, model.embed_all(known), real_texts.known.topics
            )
        quality = evaluate.compare(vectors["int8"], vectors["fp32"])
        failures = [*_out_of_tolerance(checkpoint, files, graphs["int8"]), *quality.failures()]
        measured = card.Measurements(
            calibration_texts=len(real_texts.calibration.texts),
            evaluation_texts=len(evaluation),
            evaluation_tokens=sum(map(len, evaluation)),
            quality=quality,
            topics=card.Topics.count(real_texts, topics["fp32"], topics["int8"]),
            tokens_per_second=speed.tokens_per_second(graphs, evaluation[:: max(1, len(evaluation) // _SPEED_TEXTS)]),
            size_bytes={precision: len(content) for precision, content in graphs.items()},
        )
        return card.make(checkpoint, measured, vectors, {"int8": "; ".join(failures)} if failures else {})


def _out_of_tolerance(checkpoint: Checkpoint, files: Files, int8: bytes) -> list[str]:
    cases = strict_json.parse(files[GOLDEN_FILE], bundle_pb2.GoldenFile, GOLDEN_FILE)
    try:
        golden.check_encoder(cases, Encoder(int8, checkpoint.normalize), INT8_TOLERANCE)
    except OutOfToleranceError as error:
        return [str(error)]
    return []


def build_graphs(checkpoint: Checkpoint, int8: quantize.Int8Weights) -> dict[str, onnx.ModelProto]:
    """Return the bundle's graphs by precision."""
    return {"int8": graph.build(checkpoint, int8), "fp32": graph.build(checkpoint, graph.Float32Weights())}


def token_ids(checkpoint: Checkpoint, texts: Sequence[str]) -> list[list[int]]:
    """Return the texts' ids, each cut to the longest input that the model takes, the closing token kept."""
    limit = checkpoint.max_tokens
    encoded = [encoding.ids for encoding in checkpoint.tokenizer().encode_batch(list(texts))]
    return [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in encoded]
