"""What is far larger than whatever is needed of it at once costs time, not memory: texts, and batches."""

import pathlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from triptych.inference.v1 import inference_pb2 as inference
from triptych.inference.v1.inference_pb2_grpc import InferenceServiceStub

from e2e import large
from e2e.large import MIB, memory
from e2e.vectors import MODEL
from stack.native import NativeStack

StartNative = Callable[..., NativeStack]
MESSAGE_BYTES = 16 * MIB
# What a process may grow by, at its highest: a message is held twice while it is read (as it comes, and decoded), and
# of eight at a time each has some. Without bounds a text of 4 MiB took half a gigabyte, and none of it was given back.
MOST_GROWTH = 8 * 3 * 8 * MIB + 64 * MIB

LINUX = pathlib.Path("/proc/self/status")
pytestmark = pytest.mark.skipif(not LINUX.exists(), reason="Linux says what a process holds")


def outcome(call: Callable[..., object], request: object) -> str:
    """The reason of a refusal, or nothing."""
    try:
        call(request, timeout=120)
    except grpc.RpcError as error:
        trailers: Any = error.trailing_metadata()
        (info,) = [value for key, value in trailers if key == "grpc-status-details-bin"]
        return next(reason for reason in ("INPUT_TOO_LONG", "QUEUE_FULL", "INTERNAL") if reason.encode() in info)
    return ""


def test_long_texts_take_bounded_memory(start_native: StartNative) -> None:
    native = start_native(hotpath={"workers": "2", "model-names": MODEL})
    pid = native.describe().pids["hotpath"]
    scheduling = inference.Scheduling(fairness_key="long", priority=inference.PRIORITY_INTERACTIVE)

    def tokenize(text: str) -> inference.TokenizeRequest:
        return inference.TokenizeRequest(model=MODEL, texts=[text], scheduling=scheduling)

    def embed(text: str, *, truncate: bool) -> inference.EmbedRequest:
        inputs = [inference.EmbedInput(text=text)]
        return inference.EmbedRequest(model=MODEL, inputs=inputs, truncate=truncate, scheduling=scheduling)

    options = [("grpc.max_send_message_length", MESSAGE_BYTES), ("grpc.max_receive_message_length", 64 * MIB)]
    with grpc.insecure_channel(native.addresses["grpc"], options=options) as channel, ThreadPoolExecutor(8) as pool:
        stub = InferenceServiceStub(channel)
        assert outcome(stub.Tokenize, tokenize("a few words")) == ""
        before = memory(pid, "VmRSS")
        dashes = [outcome(stub.Tokenize, tokenize("-" * 4 * MIB)) for _ in range(12)]
        after_dashes = memory(pid, "VmRSS")
        texts = list(pool.map(lambda _: outcome(stub.Embed, embed("word " * (8 * MIB // 5), truncate=True)), range(64)))
        word = outcome(stub.Embed, embed("a" * 8 * MIB, truncate=False))
        highest, after = memory(pid, "VmHWM"), memory(pid, "VmRSS")
    assert dashes == ["INPUT_TOO_LONG"] * 12
    assert set(texts) <= {"", "QUEUE_FULL"}
    assert "" in texts
    assert word == "", "a word of any length is one unknown token"
    grown = {"dashes": after_dashes - before, "highest": highest - before, "after": after - before}
    assert max(grown.values()) < MOST_GROWTH, {name: f"{size / MIB:.0f} MiB" for name, size in grown.items()}


def test_a_batch_is_never_held_as_a_whole(native_only: None, tmp_path: pathlib.Path) -> None:
    """Nor what comes of it. `make soak` has 50,000 lines of it."""
    grown = large.grow(tmp_path, lines=15_000)
    assert grown.input_mib > 1.5 * large.MOST_GROWTH_MIB
    assert grown.output_mib > large.MOST_GROWTH_MIB
    assert grown.mib < large.MOST_GROWTH_MIB, grown
