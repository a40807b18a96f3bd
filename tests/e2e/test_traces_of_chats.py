"""The trace of a chat: where the time to its first token went."""

import pytest

from e2e import chats
from e2e.collector import Collector, attributes, has, sampled, tree
from e2e.limits import client as http_of
from stack.native import NativeStack

CALL = "triptych.inference.v1.InferenceService/Generate"


def test_a_stream_is_one_trace(native_only: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    with Collector() as collector:
        native = NativeStack(
            tmp_path_factory.mktemp("traced"),
            gateway={"otlp-endpoint": collector.url, "trace-ratio": "0"},
            hotpath={"otlp-endpoint": collector.url, "model-names": chats.MODEL},
        )
        stack = native.start()
        try:
            trace_id, traceparent = sampled(7)
            with http_of(stack, "acme") as http:
                body = chats.body(chats.say("Say something."), stream=True, max_tokens=4)
                with http.stream(
                    "POST", "/v1/chat/completions", json=body, headers={"traceparent": traceparent}
                ) as reply:
                    list(chats.events(reply))
            spans = collector.trace(trace_id, has("POST /v1/chat/completions", "decode"))
        finally:
            native.stop()
    assert tree(spans) == [
        "POST /v1/chat/completions",
        "  authenticate",
        "  receive body",
        f"  chat {chats.MODEL}",
        "    admit",
        f"    {CALL}",
        f"      {CALL}",
        "        tokenize",
        "        queue",
        "        prefill",
        "        decode",
        "  stream",
    ]
    prefill = next(span for span in spans if span.name == "prefill")
    chunks = [attributes(event) for event in prefill.events]
    assert {event.name for event in prefill.events} == {"chunk"}
    told = attributes(prefill)
    read = told["triptych.tokens"] - told["triptych.reused_tokens"]  # type: ignore[operator]
    assert sum(chunk["triptych.tokens"] for chunk in chunks) == read  # type: ignore[misc]
    assert all(chunk["triptych.seconds"] > 0 for chunk in chunks)  # type: ignore[operator]
    model = attributes(next(span for span in spans if span.name.startswith("chat ")))
    assert model["gen_ai.usage.output_tokens"] == 4
    assert model["gen_ai.response.finish_reasons"] == ["length"]
    stream = next(span for span in spans if span.name == "stream")
    assert [event.name for event in stream.events] == ["first token", "last token"]
    first, last = (event.time_unix_nano for event in stream.events)
    assert stream.start_time_unix_nano < first < last <= stream.end_time_unix_nano
