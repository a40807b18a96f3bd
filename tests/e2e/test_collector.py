"""Our collector, with spans of the real stack: what each request used, once, and nothing that looks like a key."""

import collections
import pathlib
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb

from e2e import chats, metrics, vectors
from e2e.collector import sampled
from e2e.limits import client as http_of
from e2e.our_collector import OurCollector
from e2e.test_moderations import HARMLESS
from e2e.test_moderations import MODEL as MODERATION
from stack.description import Stack
from stack.native import NativeStack
from stack.waiting import wait_until

INPUT, CACHED, OUTPUT = (
    f"gen_ai.usage.{kind}" for kind in ("input_tokens", "cache_read.input_tokens", "output_tokens")
)
ID, SECONDS = "triptych.request.id", "triptych.seconds."

Record = dict[str, Any]


@pytest.fixture(scope="module")
def collector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurCollector]:
    if request.getfixturevalue("stack_kind") != "native":
        pytest.skip("LOUD: our collector is only tested with --stack native")
    with OurCollector(tmp_path_factory.mktemp("collector")) as collector:
        yield collector


@pytest.fixture(scope="module")
def observed(collector: OurCollector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of which every request is recorded."""
    native = NativeStack(
        tmp_path_factory.mktemp("observed"),
        gateway={"otlp-endpoint": collector.url, "trace-ratio": "1"},
        hotpath={"otlp-endpoint": collector.url},
    )
    yield native.start()
    native.stop()


def has_of(*ids: str) -> Callable[[list[Record]], bool]:
    return lambda records: {record[ID] for record in records}.issuperset(ids)


def test_records_are_what_replies_said(observed: Stack, collector: OurCollector) -> None:
    wanted: dict[str, Record] = {}

    def note(response: httpx.Response, tenant: str, outcome: str = "OK", **used: object) -> None:
        route = response.request.url.path
        wanted[response.headers["x-request-id"]] = {
            "triptych.tenant": tenant,
            "triptych.request": f"POST {route}",
            "http.route": route,
            "http.response.status_code": response.status_code,
            "triptych.outcome": outcome,
            **used,
        }

    def model(operation: str, name: str) -> Record:
        return {"gen_ai.operation.name": operation, "gen_ai.request.model": name}

    with http_of(observed, "acme") as acme, http_of(observed, "globex") as globex:
        for http, tenant in ((acme, "acme"), (globex, "globex")):
            embedded = http.post("/v1/embeddings", json={"model": vectors.MODEL, "input": ["one", "two of them"]})
            tokens = {INPUT: embedded.json()["usage"]["prompt_tokens"], "triptych.inputs": 2}
            note(embedded, tenant, **model("embeddings", vectors.MODEL), **tokens)
        messages = chats.say("Count to three, and say why. " * 8)
        for _ in range(2):  # the second one finds its beginning computed
            whole = acme.post("/v1/chat/completions", json=chats.body(messages, max_tokens=6))
            note(whole, "acme", **of_chat(model("chat", chats.MODEL), whole.json()))
        assert whole.json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
        asked = chats.body(messages, max_tokens=5, stream=True, stream_options={"include_usage": True})
        with globex.stream("POST", "/v1/chat/completions", json=asked) as streamed:
            events = list(chats.events(streamed))
        reasons = {"choices": [{"finish_reason": reason} for reason in chats.finish_reasons(events)]}
        note(streamed, "globex", **of_chat(model("chat", chats.MODEL), {**events[-1], **reasons}))
        moderated = acme.post("/v1/moderations", json={"input": HARMLESS})
        counted = {INPUT: ANY, "triptych.inputs": 1}
        note(moderated, "acme", **model("classification", MODERATION), **counted)
        empty = acme.post("/v1/embeddings", json={"model": vectors.MODEL, "input": ""})
        note(empty, "acme", "EMPTY_INPUT", **model("embeddings", vectors.MODEL))
        unknown = acme.post("/v1/embeddings", json={"model": "none-such", "input": "x"})
        assert unknown.status_code == 404
        note(unknown, "acme", "MODEL_NOT_FOUND", **{"gen_ai.operation.name": "embeddings"})

    records = collector.wait_for("a record of each request", has_of(*wanted))
    found = {record[ID]: record for record in records}
    for request_id, record in wanted.items():
        got = {key: value for key, value in found[request_id].items() if not key.startswith(SECONDS)}
        calls, first = got.pop("triptych.calls"), got.pop("gen_ai.response.time_to_first_chunk", None)
        assert got == {ID: request_id, **record}
        assert calls == 1
        assert (first is not None) == (record["http.route"] == "/v1/chat/completions")
        seconds = {
            key.removeprefix(SECONDS): value for key, value in found[request_id].items() if key.startswith(SECONDS)
        }
        assert seconds.keys() == PHASES[record["triptych.outcome"], record["gen_ai.operation.name"]] | (
            {"stream"} if request_id == streamed.headers["x-request-id"] else set()
        )
        assert all(0 <= value <= seconds["total"] + 0.005 for value in seconds.values()), seconds
    assert collections.Counter(record[ID] for record in records).most_common(1)[0][1] == 1
    told = metrics.read(collector.metrics_url)
    assert told["collector_usage_requests_total"] == len(records)
    assert told["collector_usage_tokens_total"] == sum(
        record.get(key, 0) for record in records for key in (INPUT, CACHED, OUTPUT)
    )


class _Any:
    """Equal to each number above none."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and other > 0

    __hash__ = None  # type: ignore[assignment]


ANY: Any = _Any()
GATEWAY = {"total", "authenticate", "receive_body"}
ENCODED = {*GATEWAY, "admit", "tokenize", "queue", "inference"}
PHASES = {
    ("OK", "embeddings"): ENCODED,
    ("OK", "classification"): ENCODED,
    ("OK", "chat"): {*GATEWAY, "admit", "tokenize", "queue", "prefill", "decode"},
    ("EMPTY_INPUT", "embeddings"): {*GATEWAY, "admit"},
    ("MODEL_NOT_FOUND", "embeddings"): {*GATEWAY, "admit"},
}


def of_chat(model: Record, reply: Record) -> Record:
    """What a chat's record has of its reply."""
    usage = reply["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return {
        **model,
        INPUT: usage["prompt_tokens"],
        OUTPUT: usage["completion_tokens"],
        **({CACHED: cached} if cached else {}),
        "gen_ai.response.finish_reasons": [choice["finish_reason"] for choice in reply["choices"]],
    }


def test_a_request_that_is_told_of_again_is_none(collector: OurCollector) -> None:
    """The same spans, by whatever way they come twice; and a client that gives all its requests one id."""
    first = spans("again", trace=1, request=1)
    for _ in range(3):
        collector.send(first)
    collector.wait_for("the record", has_of("again"))
    collector.send(first)
    collector.send(spans("again", trace=1, request=2))  # the id again, of another request
    collector.send(spans("last", trace=2, request=3))
    records = collector.wait_for("the last record", has_of("last"))
    assert [record[ID] for record in records].count("again") == 2


def spans(request_id: str, *, trace: int, request: int, **attributes: str) -> pb.ExportTraceServiceRequest:
    """A request's span, as the gateway sends it."""
    sent = pb.ExportTraceServiceRequest()
    scope = sent.resource_spans.add().scope_spans.add()
    scope.scope.name = "triptych.dev/gateway"
    span = scope.spans.add(
        trace_id=trace.to_bytes(16, "big"),
        span_id=request.to_bytes(8, "big"),
        name="POST /v1/embeddings",
        start_time_unix_nano=1_000_000_000,
        end_time_unix_nano=1_500_000_000,
    )
    for key, value in {ID: request_id, "triptych.tenant": "acme", "triptych.outcome": "OK", **attributes}.items():
        span.attributes.add(key=key).value.string_value = value
    return sent


def test_no_key_gets_into_a_file(observed: Stack, collector: OurCollector) -> None:
    """Real keys of the stack, which a program beside it writes into its spans."""
    for number, (tenant, key) in enumerate(observed.keys.items()):
        sent = spans(f"leak-{tenant}", trace=100 + number, request=100 + number, note=f"Authorization: Bearer {key}")
        span = sent.resource_spans[0].scope_spans[0].spans[0]
        span.attributes.add(key=f"key of {key}").value.string_value = "x"
        span.events.add(name=f"refused {key}").attributes.add(key="authorization").value.string_value = "abc"
        sent.resource_spans[0].resource.attributes.add(key="argv").value.string_value = f"--key={key}"
        collector.send(sent)
    tenants = [f"leak-{tenant}" for tenant in observed.keys]
    collector.wait_for("their records", has_of(*tenants))
    wait_until("their traces", lambda: all(collector.draw(each) for each in tenants), 30)
    written = b"".join(path.read_bytes() for path in collector.folder.iterdir())
    for key in observed.keys.values():
        assert key.encode() not in written
        assert key[-20:].encode() not in written
    assert "note=Authorization: Bearer [redacted]" in collector.draw(tenants[0])
    assert metrics.read(collector.metrics_url)["collector_redacted_total"] >= 5 * len(tenants)


def test_a_trace_is_drawn(observed: Stack, collector: OurCollector) -> None:
    with http_of(observed, "acme") as http:
        asked = chats.body(chats.say("Say something."), stream=True, max_tokens=4)
        with http.stream("POST", "/v1/chat/completions", json=asked, headers={"traceparent": sampled(77)[1]}) as reply:
            list(chats.events(reply))
    request_id = reply.headers["x-request-id"]
    text = wait_until("the trace", lambda: text if "decode" in (text := collector.draw(request_id)) else None, 30)
    shape = [
        re.sub(r"^ +[\d.]+ m?s +([\d.]+ m?s )? *([━·]{24})? ?", "", line).rstrip() for line in text.splitlines()[2:]
    ]
    names = [re.sub(r"(?<=\S)  .*| \[.*", "", line) for line in shape]
    call = "triptych.inference.v1.InferenceService/Generate"
    assert [name.strip() for name in names] == [
        "POST /v1/chat/completions",
        "authenticate",
        "receive body",
        f"chat {chats.MODEL}",
        "admit",
        call,
        call,
        "tokenize",
        "queue",
        "prefill",
        "· chunk",
        "decode",
        "· first token",
        "· last token",
        "stream",
        "· first token",
        "· last token",
    ]
    assert text.startswith(f"trace {sampled(77)[0]}, from 20")
    assert f"request {request_id}\n" in text
    assert "triptych.tenant=acme" in text
    assert "gen_ai.usage.output_tokens=4" in text
    assert "[triptych-hotpath]" in text
    assert collector.draw("no-such-request") == ""


def test_whoever_it_sends_on_to_may_be_dead(
    native_only: None, start_native: Callable[..., NativeStack], tmp_path: pathlib.Path
) -> None:
    """Nobody waits for it, what waits is bounded, and the records and files are as if it were there."""
    with socket.socket() as away:
        away.bind(("127.0.0.1", 0))  # and does not listen
        forward = {"COLLECTOR_FORWARD_TO": f"127.0.0.1:{away.getsockname()[1]}", "COLLECTOR_FORWARD_INSECURE": "true"}
        settings = {**forward, "COLLECTOR_FORWARD_QUEUE": "3", "COLLECTOR_MEMORY_MIB": "300"}
        with OurCollector(tmp_path / "collector", **settings) as collector:
            native = start_native(gateway={"otlp-endpoint": collector.url, "trace-ratio": "1"})
            ids = []
            with http_of(native.describe(), "acme") as http:
                for _ in range(20):
                    response = http.post("/v1/embeddings", json={"model": vectors.MODEL, "input": "x"})
                    assert response.status_code == 200
                    assert response.elapsed.total_seconds() < 2
                    ids.append(response.headers["x-request-id"])
            collector.wait_for("their records", has_of(*ids))
            # Far more than the queue has room for.
            padding = {f"padding-{number}": "x" * 4000 for number in range(20)}
            for number in range(300):
                collector.send(spans(f"flood-{number}", trace=1000 + number, request=1000 + number, **padding))
                if number % 50 == 0:
                    wait_until("a batch", lambda n=number: collector.draw(f"flood-{n}"), 30)  # type: ignore[misc]

            def refused() -> bool:
                told = metrics.read(collector.metrics_url)
                assert told["otelcol_exporter_queue_size"] <= 3
                return told.get("otelcol_exporter_enqueue_failed_spans_total", 0) > 0

            wait_until("batches for which there is no room", refused, 30)
            collector.wait_for("records of all of it", has_of(*(f"flood-{number}" for number in range(300))))
            assert metrics.read(collector.metrics_url)["otelcol_process_memory_rss_bytes"] < 300 << 20
            assert metrics.read(native.describe().metrics_url).get("gateway_trace_spans_dropped_total", 0) == 0
            assert collector.terminate() == 0, collector.log()


def test_the_end_writes_what_is_there(native_only: None, tmp_path: pathlib.Path) -> None:
    """SIGTERM comes while spans wait: for their request to be whole, for the decision, in a batch."""
    waits = {"COLLECTOR_USAGE_WAIT": "1h", "COLLECTOR_DECISION_WAIT": "1h"}
    with OurCollector(tmp_path, **waits) as collector:
        for number in range(1, 101):
            collector.send(spans(f"request-{number}", trace=number, request=number))
        assert collector.records() == []
        assert collector.terminate() == 0, collector.log()
        ids = sorted(record[ID] for record in collector.records())
        assert ids == sorted(f"request-{number}" for number in range(1, 101))
        for number in (1, 50, 100):
            assert f"request-{number}\n" in collector.draw(f"request-{number}")
        collector.start()  # what is there stays, and is gone on with
        collector.send(spans("later", trace=500, request=500))
        assert collector.terminate() == 0, collector.log()
        assert len(collector.records()) == 101


def test_what_is_more_than_its_memory_is_refused(native_only: None, tmp_path: pathlib.Path) -> None:
    """Spans that are kept for long, and more and more of them: their sender is told, and the process lives."""
    settings = {"COLLECTOR_MEMORY_MIB": "128", "COLLECTOR_DECISION_WAIT": "1h", "COLLECTOR_USAGE_WAIT": "1h"}
    padding = {f"padding-{number}": "x" * 4000 for number in range(100)}
    with OurCollector(tmp_path, **settings) as collector:

        def flood() -> None:
            for number in range(10_000, 12_000):
                collector.send(spans(f"flood-{number}", trace=number, request=number, **padding))

        with pytest.raises(grpc.RpcError) as refusal:
            flood()
        assert refusal.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert metrics.read(collector.metrics_url)["otelcol_process_memory_rss_bytes"] < 400 << 20
        assert collector.child.poll() is None
        assert collector.terminate() == 0, collector.log()
