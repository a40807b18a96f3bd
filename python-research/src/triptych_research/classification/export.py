"""Heads as a family of models: one small graph each, from numbers that were trained here and are committed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx

from triptych.bundle.v1 import bundle_pb2
from triptych_research import json_fields
from triptych_research.card import Card
from triptych_research.classification import card, golden, graph, head
from triptych_research.classification.head import Head
from triptych_research.classification.train import SCORES_FILE
from triptych_research.embedding import checkpoint as encoder_checkpoint
from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.family import ExportError, Family, Files, GetTexts, GraphKind, graph_file
from triptych_research.reference import compare
from triptych_research.sources import Origin, Source

# Of the head alone, in float32 against float64, on the same vectors. Measured: 1.2e-7.
HEAD_ERROR = 1e-5
# From text to scores, on the encoder's graph. Measured on the golden cases: 0.0061 and 0.9994.
TOLERANCE = bundle_pb2.Tolerance(max_abs_error=0.02, min_cosine=0.99)


@dataclass(frozen=True)
class HeadCheckpoint:
    """A head, the encoder that it stands on, and what training measured (train.Scores)."""

    head: Head
    encoder: Checkpoint
    scores: Mapping[str, Any]


@dataclass(frozen=True)
class Classification(Family[HeadCheckpoint]):
    """A linear head on an encoder's vectors."""

    encoder: str  # the encoder's name
    encoder_origin: Origin
    graphs: ClassVar[Mapping[str, GraphKind]] = {"fp32": GraphKind(bundle_pb2.PRECISION_FP32, TOLERANCE)}

    def needs(self) -> Sequence[str]:
        return [self.encoder]

    def load(self, source: Source, cache: Path) -> HeadCheckpoint:
        found, encoder_source = head.load(source), self.encoder_origin.fetch(cache)
        if (found.encoder, found.encoder_sha256) != (self.encoder, encoder_source.sha256):
            raise ExportError(f"head.json: trained on {found.encoder} {found.encoder_sha256}: train it again")
        encoder, dimensions = encoder_checkpoint.load(encoder_source), found.matrix().shape[1]
        if dimensions != encoder.config.hidden_size:
            raise ExportError(f"head.json: weights: {dimensions}, not {encoder.config.hidden_size}")
        return HeadCheckpoint(found, encoder, json_fields.read(source, SCORES_FILE))

    def check_reference(self, source: Source, cache: Path) -> float:
        return compare.with_torch(self.encoder_origin.fetch(cache))

    def build(self, checkpoint: HeadCheckpoint) -> Mapping[str, onnx.ModelProto]:
        return {"fp32": graph.build(checkpoint.head)}

    def golden(self, checkpoint: HeadCheckpoint, graphs: Files) -> bundle_pb2.ClassificationGoldenFile:
        return golden.make(checkpoint.head, checkpoint.encoder)

    def manifest(self, checkpoint: HeadCheckpoint) -> tuple[bundle_pb2.Manifest, Files]:
        task = bundle_pb2.ClassificationTask(
            encoder=checkpoint.head.encoder,
            encoder_sha256=checkpoint.head.encoder_sha256,
            labels=[
                bundle_pb2.ClassLabel(name=each.name, threshold=each.threshold, advisory=each.advisory)
                for each in checkpoint.head.labels
            ],
        )
        return bundle_pb2.Manifest(classification=task), {}

    def judge(self, checkpoint: HeadCheckpoint, files: Files, get_texts: GetTexts) -> Card:
        """Check the graph, and show what the head is known to get wrong. Its quality was measured in training."""
        check_graph(checkpoint.head, files[graph_file("fp32")])
        probes = golden.reference_scores(checkpoint.head, checkpoint.encoder, card.PROBES)
        return card.make(checkpoint.head, checkpoint.scores, probes)


def check_graph(head: Head, content: bytes) -> None:
    """Raise ExportError unless ONNX Runtime gives the head's own scores, on vectors in all directions."""
    vectors = np.random.default_rng(0).normal(size=(256, head.matrix().shape[1])).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    error = float(np.abs(graph.HeadSession(content).scores(vectors) - head.scores(vectors.astype(np.float64))).max())
    if not error <= HEAD_ERROR:  # written so that a NaN fails
        raise ExportError(f"the graph's scores are off by {error:.2g}, above {HEAD_ERROR:g}")
