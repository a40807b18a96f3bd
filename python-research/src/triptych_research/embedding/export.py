"""Sentence encoders as a family of models: one graph in blocks of 8 bits, judged by float32 and by labels of topics."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import onnx

from triptych.bundle.v1 import bundle_pb2
from triptych_research import strict_json
from triptych_research.card import Card
from triptych_research.embedding import card, evaluate, golden, graph, speed
from triptych_research.embedding.checkpoint import Checkpoint, load
from triptych_research.embedding.float32 import Float32Encoder
from triptych_research.embedding.inference import Encoder
from triptych_research.family import GOLDEN_FILE, TOKENIZER_FILE, Family, Files, GetTexts, GraphKind, graph_file
from triptych_research.golden import OutOfToleranceError
from triptych_research.reference import compare
from triptych_research.sources import Source

FORM = "block_quantized"
# Of vectors at length 1, against the reference. Measured on the golden cases: 0.0077 and 0.9992, the same on every
# processor.
TOLERANCE = bundle_pb2.Tolerance(max_abs_error=0.015, min_cosine=0.998)
_SPEED_TEXTS = 200


class Embedding(Family[Checkpoint]):
    """BERT with mean pooling."""

    graphs: ClassVar[Mapping[str, GraphKind]] = {FORM: GraphKind(bundle_pb2.PRECISION_BLOCK_QUANTIZED, TOLERANCE)}

    def load(self, source: Source, cache: Path) -> Checkpoint:
        return load(source)

    def check_reference(self, source: Source, cache: Path) -> float:
        return compare.with_torch(source)

    def build(self, checkpoint: Checkpoint) -> Mapping[str, onnx.ModelProto]:
        return build_graphs(checkpoint)

    def golden(self, checkpoint: Checkpoint, graphs: Files) -> bundle_pb2.GoldenFile:
        return golden.make(checkpoint, [Encoder(graph, checkpoint.normalize) for graph in graphs.values()])

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
        """Compare the graph with the golden vectors and with float32, and both with the labels."""
        real_texts = get_texts()
        evaluation, known, asked = (
            token_ids(checkpoint, some)
            for some in (real_texts.evaluation.texts, real_texts.known.texts, real_texts.asked.texts)
        )
        # Similarity is judged by the cosine, whether or not the model's own vectors have length 1.
        content, unit, threads = (
            files[graph_file(FORM)],
            dataclasses.replace(checkpoint, normalize=True),
            os.cpu_count() or 1,
        )
        models = {"graph": Encoder(content, normalize=True, threads=threads), "fp32": Float32Encoder(unit, threads)}
        vectors = {name: model.embed_all(evaluation) for name, model in models.items()}
        topics = {
            name: evaluate.topics_found(
                model.embed_all(asked), real_texts.asked.topics, model.embed_all(known), real_texts.known.topics
            )
            for name, model in models.items()
        }
        quality = evaluate.compare(vectors["graph"], vectors["fp32"])
        failures = [*_out_of_tolerance(checkpoint, files, content), *quality.failures()]
        measured = card.Measurements(
            evaluation_texts=len(evaluation),
            evaluation_tokens=sum(map(len, evaluation)),
            quality=quality,
            topics=card.Topics.count(real_texts, topics["fp32"], topics["graph"]),
            tokens_per_second=speed.tokens_per_second(
                Encoder(content, normalize=True),
                Float32Encoder(unit),
                evaluation[:: max(1, len(evaluation) // _SPEED_TEXTS)],
            ),
            size_bytes=len(content),
        )
        return card.make(checkpoint, measured, vectors, {FORM: "; ".join(failures)} if failures else {})


def _out_of_tolerance(checkpoint: Checkpoint, files: Files, content: bytes) -> list[str]:
    cases = strict_json.parse(files[GOLDEN_FILE], bundle_pb2.GoldenFile, GOLDEN_FILE)
    try:
        golden.check_encoder(cases, Encoder(content, checkpoint.normalize), TOLERANCE)
    except OutOfToleranceError as error:
        return [str(error)]
    return []


def build_graphs(checkpoint: Checkpoint) -> dict[str, onnx.ModelProto]:
    """Return the bundle's only graph."""
    return {FORM: graph.build(checkpoint)}


def token_ids(checkpoint: Checkpoint, texts: Sequence[str]) -> list[list[int]]:
    """Return the texts' ids, each cut to the longest input that the model takes, the closing token kept."""
    limit = checkpoint.max_tokens
    encoded = [encoding.ids for encoding in checkpoint.tokenizer().encode_batch(list(texts))]
    return [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in encoded]
