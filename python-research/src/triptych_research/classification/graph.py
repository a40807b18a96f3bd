"""A head as an ONNX graph, and how it is run."""

import pathlib

import numpy as np
import onnx

from triptych_research.classification.head import Head
from triptych_research.graph import GraphBuilder
from triptych_research.sessions import open_session

INPUT, OUTPUT = "embeddings", "scores"


def build(head: Head) -> onnx.ModelProto:
    """Return the graph: `embeddings` float32 [texts, dimensions] to `scores` float32 [texts, labels]."""
    graph = GraphBuilder("head")
    weights = graph.constant("weights", head.matrix().astype(np.float32))  # [labels, dimensions]
    biases = graph.constant("biases", head.biases().astype(np.float32))  # [labels]
    logits = graph.node("Gemm", [INPUT, weights, biases], "logits", transB=1)  # [texts, labels]
    graph.node("Sigmoid", [logits], OUTPUT)
    labels, dimensions = head.matrix().shape
    return graph.model(
        [(INPUT, onnx.TensorProto.FLOAT, ("texts", dimensions))],
        [(OUTPUT, onnx.TensorProto.FLOAT, ("texts", labels))],
    )


class HeadSession:
    """One session over a head's graph."""

    def __init__(self, graph: pathlib.Path | bytes) -> None:
        self._session = open_session(graph)

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Return the scores [texts, labels] of vectors [texts, dimensions]."""
        scores: np.ndarray
        (scores,) = self._session.run([OUTPUT], {INPUT: vectors.astype(np.float32)})
        return scores

    def highest(self, windows: np.ndarray) -> np.ndarray:
        """Return the scores [labels] of one text, given the vectors [windows, dimensions] of its windows."""
        highest: np.ndarray = self.scores(windows).max(axis=0)
        return highest
