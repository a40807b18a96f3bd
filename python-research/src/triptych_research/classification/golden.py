"""Golden cases of a head: what the NumPy references of encoder and head say of some texts, from text to scores.

They are harmless or mildly rude. A case is replayed on each of the encoder's graphs, alone and in one batch.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from triptych.bundle.v1 import bundle_pb2
from triptych_research.classification.encoders import TextEncoder
from triptych_research.classification.graph import INPUT, OUTPUT, HeadSession
from triptych_research.classification.head import Head
from triptych_research.classification.windows import windows
from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.golden import GoldenError, check_close
from triptych_research.reference.bert import SentenceEncoder

TEXTS = (
    "a",
    "The weather is lovely today, so we had lunch in the garden.",
    "How do I reset the password of my account?",
    "You are an idiot, and nobody likes you.",
    "If you touch my bike again, I will punch you.",
    "The knight drew his sword and struck the dragon down.",
    "They kissed on the balcony and went to bed together.",
    "I feel so sad these days that I do not want to get up.",
    "Was für ein schöner Tag! 今日はいい天気ですね。",
    # Longer than an encoder takes: the rude window decides, though it comes first.
    "You are an idiot, and nobody likes you. " * 26 + "The committee met on Tuesday and approved the minutes. " * 40,
)


def make(head: Head, checkpoint: Checkpoint) -> bundle_pb2.ClassificationGoldenFile:
    """Return the golden cases of a head on an encoder."""
    golden = bundle_pb2.ClassificationGoldenFile()
    for text, scores in zip(TEXTS, reference_scores(head, checkpoint, TEXTS), strict=True):
        golden.classifications.add(text=text, scores=scores)
    return golden


def reference_scores(head: Head, checkpoint: Checkpoint, texts: Sequence[str]) -> np.ndarray:
    """Return the scores [texts, labels] of the NumPy references of encoder and head."""
    reference, tokenizer = SentenceEncoder(checkpoint), checkpoint.tokenizer()

    def scores(text: str) -> np.ndarray:
        parts = windows(tokenizer.encode(text).ids, checkpoint.max_tokens)
        vectors = np.stack([reference.embed(part) for part in parts]).astype(np.float64)  # [windows, dimensions]
        return np.asarray(head.scores(vectors).max(axis=0))

    return np.stack([scores(text) for text in texts])


def manifest_checks(manifest: bundle_pb2.Manifest) -> Mapping[str, bool]:
    """Return the fields of a classification task, each with whether it is as it must be."""
    task = manifest.classification
    names = [label.name for label in task.labels]
    digest = task.encoder_sha256
    checks = {
        "classification.encoder": task.encoder != manifest.name,
        "classification.encoder_sha256": len(digest) == 64 and set(digest) <= set("0123456789abcdef"),
        "classification.labels": len(set(names)) == len(names),
    }
    for index, label in enumerate(task.labels):
        checks[f"classification.labels[{index}].threshold"] = 0 < label.threshold <= 1
    for index, graph in enumerate(manifest.graphs):
        checks[f"graphs[{index}].inputs"] = [tensor.name for tensor in graph.inputs] == [INPUT]
        checks[f"graphs[{index}].outputs"] = [(tensor.name, list(tensor.shape)[1:]) for tensor in graph.outputs] == [
            (OUTPUT, [str(len(names))])
        ]
    return checks


def check_cases(manifest: bundle_pb2.Manifest, golden: bundle_pb2.ClassificationGoldenFile) -> None:
    """Raise GoldenError unless the cases are what the manifest says."""
    if len(golden.classifications) < 2:
        raise GoldenError("classifications: at least two cases are needed")
    for index, case in enumerate(golden.classifications):
        if len(case.scores) != len(manifest.classification.labels):
            raise GoldenError(f"classifications[{index}].scores: {len(case.scores)}, not one for each label")
        if not all(0 <= score <= 1 for score in case.scores):
            raise GoldenError(f"classifications[{index}].scores: not all from 0 to 1")


def replay_graph(
    folder: pathlib.Path,
    manifest: bundle_pb2.Manifest,
    golden: bundle_pb2.ClassificationGoldenFile,
    index: int,
    encoders: Sequence[TextEncoder],
) -> None:
    """Raise GoldenError unless one of a bundle's graphs gives the golden scores on each of the encoder's graphs."""
    graph = manifest.graphs[index]
    session = HeadSession(folder / graph.file)
    for encoder in encoders:
        check_head(golden, session, encoder, graph.tolerance)


def check_head(
    golden: bundle_pb2.ClassificationGoldenFile,
    session: HeadSession,
    encoder: TextEncoder,
    tolerance: bundle_pb2.Tolerance,
) -> None:
    """Raise GoldenError unless scores are within tolerance, and the same to the last bit alone and in a batch."""
    vectors = [encoder.embed(case.text) for case in golden.classifications]  # each [windows, dimensions]
    alone = np.concatenate([session.scores(vector[None]) for text in vectors for vector in text])  # [windows, labels]
    if not np.array_equal(session.scores(np.concatenate(vectors)), alone):
        raise GoldenError("classifications: scores are not the same alone and in a batch")
    for index, (case, windows_of_text) in enumerate(zip(golden.classifications, vectors, strict=True)):
        field = f"classifications[{index}].scores"
        check_close(session.highest(windows_of_text), np.array(case.scores, np.float32), tolerance, field)
