"""Golden cases: what the NumPy reference and each graph say of some texts, and the gate that every graph must pass.

A case is replayed alone and then in one batch with all the others, whose lengths differ. A graph that is out of
tolerance, not batch-invariant, or gives other bits than where it was exported, means no bundle.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from tokenizers import Tokenizer

from triptych.bundle.v1 import bundle_pb2
from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.embedding.inference import Encoder
from triptych_research.golden import GoldenError, check_close
from triptych_research.reference.bert import SentenceEncoder

TEXTS = (
    "a",
    "Hello, world!",
    "The cat sits on the mat.",
    "How do I reset the password of my account?",
    "Embeddings turn a text into a vector, so that texts of like meaning are near each other.",
    "Größe, naïveté, Ångström: accents fall away, letters stay.",
    "东京是日本的首都。",
    "Всё хорошо, что хорошо кончается.",
    "🚀🎉 emoji, ﬁ ligatures and\u00a0no-break\u2003spaces\ttabs\nnew lines",
    "def mean(xs): return sum(xs) / len(xs)  # O(n), 1e-9, https://example.com/?q=a&b=c",
    "pneumonoultramicroscopicsilicovolcanoconiosis" * 2,
    "A long text is cut by nobody but its writer. " * 22,
)


def make(checkpoint: Checkpoint, encoders: Sequence[Encoder]) -> bundle_pb2.GoldenFile:
    """Return the golden cases of a checkpoint and its graphs. Texts that are too long for the model are left out."""
    reference, tokenizer = SentenceEncoder(checkpoint), checkpoint.tokenizer()
    golden = bundle_pb2.GoldenFile()
    for text in TEXTS:
        token_ids = tokenizer.encode(text).ids
        if len(token_ids) <= checkpoint.max_tokens:
            graphs = [bundle_pb2.GoldenVector(values=encoder.embed([token_ids])[0]) for encoder in encoders]
            golden.embeddings.add(text=text, token_ids=token_ids, vector=reference.embed(token_ids), graphs=graphs)
    return golden


def manifest_checks(manifest: bundle_pb2.Manifest) -> Mapping[str, bool]:
    """Return the fields of an embedding task, each with whether it is as it must be."""
    dimensions = list(manifest.embedding.dimensions)
    return {"embedding.dimensions": dimensions == sorted(set(dimensions), reverse=True)}


def check_cases(manifest: bundle_pb2.Manifest, golden: bundle_pb2.GoldenFile, tokenizer: Tokenizer) -> None:
    """Raise GoldenError unless the cases are what the manifest and the tokenizer say."""
    if len(set(lengths(golden))) < 2:
        raise GoldenError("embeddings: at least two cases of different lengths are needed")
    for index, case in enumerate(golden.embeddings):
        if len(case.vector) != manifest.embedding.dimensions[0]:
            raise GoldenError(f"embeddings[{index}].vector: has {len(case.vector)} dimensions")
        sizes = [len(vector.values) for vector in case.graphs]
        if sizes != [manifest.embedding.dimensions[0]] * len(manifest.graphs):
            raise GoldenError(f"embeddings[{index}].graphs: have {sizes} dimensions")
        if len(case.token_ids) > manifest.tokenizer.max_tokens:
            raise GoldenError(f"embeddings[{index}].token_ids: more than {manifest.tokenizer.max_tokens}")
    check_tokenizer(golden, tokenizer)


def replay_graph(
    folder: pathlib.Path, manifest: bundle_pb2.Manifest, golden: bundle_pb2.GoldenFile, index: int
) -> None:
    """Raise GoldenError unless one of a bundle's graphs gives the golden vectors."""
    graph = manifest.graphs[index]
    encoder = Encoder(folder / graph.file, manifest.embedding.normalize)
    check_encoder(golden, encoder, graph.tolerance)
    check_bits(golden, encoder, index)


def check_tokenizer(golden: bundle_pb2.GoldenFile, tokenizer: Tokenizer) -> None:
    """Raise GoldenError unless the tokenizer gives each text the golden ids."""
    for index, case in enumerate(golden.embeddings):
        if (token_ids := tokenizer.encode(case.text).ids) != list(case.token_ids):
            raise GoldenError(f"embeddings[{index}].token_ids: tokenizer says {token_ids}, not {list(case.token_ids)}")


def check_encoder(golden: bundle_pb2.GoldenFile, encoder: Encoder, tolerance: bundle_pb2.Tolerance) -> None:
    """Raise GoldenError unless each vector is within tolerance, and the same alone and in a batch."""
    batch = [list(case.token_ids) for case in golden.embeddings]
    alone = np.concatenate([encoder.embed([token_ids]) for token_ids in batch])  # [cases, hidden]
    together = encoder.embed(batch)  # [cases, hidden]
    for index, case in enumerate(golden.embeddings):
        expected = np.array(case.vector, np.float32)  # [hidden]
        length = float(np.linalg.norm(expected))  # of a model that does not normalise, any
        check_close(alone[index], expected, tolerance, f"embeddings[{index}].vector", unit=length)
        if not np.array_equal(alone[index], together[index]):
            raise GoldenError(f"embeddings[{index}].vector: not the same alone and in a batch of {len(batch)}")


def check_bits(golden: bundle_pb2.GoldenFile, encoder: Encoder, graph: int) -> None:
    """Raise GoldenError unless each vector is, to the last bit, what this graph gave where it was exported."""
    for index, case in enumerate(golden.embeddings):
        own = np.array(case.graphs[graph].values, np.float32)
        if not np.array_equal(encoder.embed([list(case.token_ids)])[0], own):
            raise GoldenError(f"embeddings[{index}].graphs[{graph}]: this processor gives other bits")


def lengths(golden: bundle_pb2.GoldenFile) -> Sequence[int]:
    """Return the number of tokens of each case."""
    return [len(case.token_ids) for case in golden.embeddings]
