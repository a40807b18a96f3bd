"""What the benchmarks send: real texts of real lengths, as HTTP requests and as token ids."""

import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer
from triptych_research import texts
from triptych_research.store import Store

from e2e import raw
from stack.description import Stack
from stack.waiting import StackError

MODEL = "all-minilm-l6-v2"


@dataclass(frozen=True)
class Corpus:
    """The evaluation texts of the model card, in an order that mixes lengths, with this model's token ids."""

    texts: Sequence[str]
    ids: Sequence[Sequence[int]]
    bundle: pathlib.Path

    @property
    def int8(self) -> pathlib.Path:
        """The graph that the stack runs here; NativeStack is told to."""
        return self.bundle / "model.int8.onnx"

    @property
    def fp32(self) -> pathlib.Path:
        """The graph of the usual recipe."""
        return self.bundle / "model.fp32.onnx"

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


def requests(stack: Stack, texts: Sequence[str], texts_per_request: int) -> list[bytes]:
    """Embedding requests as the official SDKs send them: base64, keep-alive."""
    found = []
    for start in range(0, len(texts) - texts_per_request + 1, texts_per_request):
        part = list(texts[start : start + texts_per_request])
        body = {"model": MODEL, "input": part if texts_per_request > 1 else part[0], "encoding_format": "base64"}
        found.append(raw.post(stack.address, "/v1/embeddings", stack.keys["acme"], json.dumps(body).encode()))
    return found
