"""What the benchmarks send: real texts of real lengths, as HTTP requests and as token ids."""

import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer
from triptych_research import texts
from triptych_research.embedding import checkpoint, float32
from triptych_research.recipes import RECIPES
from triptych_research.store import Store

from bench.embeddings import llama
from bench.llama_build import PROGRAM
from e2e import raw
from stack.description import Stack
from stack.waiting import StackError

MODEL = "all-minilm-l6-v2"
# Texts of which two implementations are compared, and how near they are at least: both round weights to 8 bits.
SAME, MIN_COSINE = 32, 0.99


@dataclass(frozen=True)
class Corpus:
    """The evaluation texts of the model card, in an order that mixes lengths, with this model's token ids."""

    texts: Sequence[str]
    ids: Sequence[Sequence[int]]
    bundle: pathlib.Path

    @property
    def graph(self) -> pathlib.Path:
        """The graph that the stack runs."""
        return self.bundle / "model.block_quantized.onnx"

    @property
    def tokens_per_text(self) -> float:
        return sum(map(len, self.ids)) / len(self.ids)


def load(models: pathlib.Path) -> Corpus:
    """Read the texts and the promoted bundle."""
    store = Store(models)
    current = store.current(MODEL)
    if current is None:
        raise StackError(f"{models} has no {MODEL}: run `make models`")
    bundle = store.path(MODEL, current.revision)
    evaluation = texts.load().evaluation.texts
    # They come topic by topic: a fixed stride mixes them. It is a prime that does not divide the number of texts.
    chosen = [evaluation[index * 617 % len(evaluation)] for index in range(len(evaluation))]
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    return Corpus(chosen, [encoding.ids for encoding in tokenizer.encode_batch(chosen)], bundle)


def write_float32(cache: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Write the graph of the usual recipe: the same weights in float32."""
    path = folder / f"{MODEL}.fp32.onnx"
    path.write_bytes(float32.build(_checkpoint(cache)).SerializeToString())
    return path


def _checkpoint(cache: pathlib.Path) -> checkpoint.Checkpoint:
    return checkpoint.load(RECIPES[MODEL].origin.fetch(cache))


def write_peer(texts: Corpus, cache: pathlib.Path, folder: pathlib.Path) -> pathlib.Path | None:
    """Write the same weights as llama.cpp reads them, and see that its server says the same of some texts.

    None where there is no such server.
    """
    if not PROGRAM.exists():
        return None
    path = folder / f"{MODEL}.gguf"
    weights = _checkpoint(cache)
    llama.write_gguf(weights, path)
    some = texts.texts[:SAME]
    server = llama.LlamaEmbedder(path, folder / "check.log", 1)
    try:
        theirs = server.vectors(some)
    finally:
        server.stop()
    ours = float32.Float32Encoder(weights).embed_all(texts.ids[:SAME])  # [texts, dimensions]
    cosines = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    if not cosines.min() > MIN_COSINE:
        raise StackError(f"llama.cpp's server says something else of a text: a cosine of {cosines.min():.3f}")
    return path


def requests(stack: Stack, texts: Sequence[str], texts_per_request: int) -> list[bytes]:
    """Embedding requests as the official SDKs send them: base64, keep-alive."""
    found = []
    for start in range(0, len(texts) - texts_per_request + 1, texts_per_request):
        part = list(texts[start : start + texts_per_request])
        body = {"model": MODEL, "input": part if texts_per_request > 1 else part[0], "encoding_format": "base64"}
        found.append(raw.post(stack.address, "/v1/embeddings", stack.keys["acme"], json.dumps(body).encode()))
    return found
