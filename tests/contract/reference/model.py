"""One model in memory: its bundle, its graph, its tokenizer. Embedding models also run here."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future

import numpy as np
from numpy.typing import NDArray
from triptych.bundle.v1 import bundle_pb2
from triptych_research.bundle import Bundle

from contract.reference.refusal import Refusal

# Most tokens of one run. A larger batch makes no text cheaper on a CPU.
BATCH_TOKENS = 128

Tokens = Sequence[int]


class Model:
    """A bundle that was read, and the graph of it that this processor runs well."""

    def __init__(self, found: Bundle) -> None:
        self.bundle = found
        self.graph = choose_graph(found.manifest)

    @property
    def precision(self) -> str:
        name: str = bundle_pb2.Precision.Name(self.graph.precision)
        return name.removeprefix("PRECISION_").lower()


class TokenModel(Model):
    """A model with a tokenizer."""

    def __init__(self, found: Bundle) -> None:
        super().__init__(found)
        self.tokenizer = found.tokenizer()

    def tokenize(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the ids and the place [start, end) of each in the text's UTF-8 bytes."""
        encoding = self.tokenizer.encode(text)
        byte_of = np.cumsum([0, *(len(character.encode()) for character in text)])  # [characters + 1]
        return encoding.ids, [(int(byte_of[start]), int(byte_of[end])) for start, end in encoding.offsets]


class Embedder(TokenModel):
    """Ids to vectors."""

    def __init__(self, found: Bundle, pool: Executor) -> None:
        """Vectors are computed by the pool's threads, one run on each."""
        super().__init__(found)
        self._encoder = found.encoder(self.graph, threads=1)
        self._pool = pool

    def truncate(self, ids: list[int]) -> list[int]:
        """Keep as many tokens as the model takes, the one that closes a text among them."""
        return [*ids[: self.bundle.manifest.tokenizer.max_tokens - 1], ids[-1]]

    def embed(self, texts: Sequence[Tokens], still_wanted: Callable[[], bool]) -> NDArray[np.float32]:
        """Return the vectors [texts, hidden]. Texts of like length share a run; nothing runs for nobody."""

        def run(batch: list[int]) -> NDArray[np.float32]:
            if not still_wanted():
                raise Refusal("CANCELLED", "the caller is gone")
            vectors: NDArray[np.float32] = self._encoder.embed([texts[index] for index in batch])
            return vectors

        batches = batches_by_length(texts)
        futures: list[Future[NDArray[np.float32]]] = [self._pool.submit(run, batch) for batch in batches]
        vectors = np.empty((len(texts), self.bundle.manifest.embedding.dimensions[0]), np.float32)
        for batch, future in zip(batches, futures, strict=True):
            vectors[batch] = future.result()
        return vectors


def batches_by_length(texts: Sequence[Tokens]) -> list[list[int]]:
    """Return the texts' indices, shortest first, in batches of at most BATCH_TOKENS; a longer text goes alone."""
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(texts)), key=lambda index: len(texts[index])):
        if len(texts[index]) > room:
            batches.append([])
            room = BATCH_TOKENS
        batches[-1].append(index)
        room -= len(texts[index])
    return batches


def choose_graph(manifest: bundle_pb2.Manifest) -> bundle_pb2.Graph:
    """Return the first graph, which runs well on any processor."""
    return manifest.graphs[0]
