"""Traces, as a collector gets them from the real stack; and collectors that do not take them."""

import pathlib
import socket
from collections.abc import Callable, Iterator

import httpx
import openai
import pytest

from e2e import batches, metrics
from e2e.collector import CLIENT, Collector, Span, attributes, has, sampled, tree
from e2e.limits import client as http_of
from e2e.receivers import Receiver
from e2e.vectors import MODEL
from stack.description import Stack
from stack.native import NativeStack
from stack.waiting import wait_until

SECRET_TEXT = "Xylophonist Quetzalcoatl whispers 4711"
CALL = "triptych.inference.v1.InferenceService/Embed"
EMBEDDINGS = f"embeddings {MODEL}"
# The gateway's call, and what the hot path shows of it.
OF_CALL = [f"    {CALL}", f"      {CALL}", "        tokenize", "        queue", "        inference"]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(
    request: pytest.FixtureRequest, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A stack of which a trace is recorded if its client wants it, and each job's and line's."""
    if request.getfixturevalue("stack_kind") != "native":
        pytest.skip("LOUD: what this machine's collector is sent is only looked at with --stack native")
    gateway = {
        "otlp-endpoint": collector.url,
        "trace-ratio": "1",
        "log-level": "debug",
        "webhook-allow-networks": "127.0.0.0/8",
    }
    hotpath = {"otlp-endpoint": collector.url, "model-names": MODEL}
    native = NativeStack(tmp_path_factory.mktemp("traced"), gateway=gateway, hotpath=hotpath)
    yield native.start()
    native.stop()


def embed(stack: Stack, traceparent: str, text: str = SECRET_TEXT) -> httpx.Response:
    with http_of(stack, "acme") as http:
        body = {"model": MODEL, "input": text, "user": SECRET_TEXT}
        return http.post("/v1/embeddings", json=body, headers={"traceparent": traceparent})


def test_a_request_is_one_trace(traced: Stack, collector: Collector) -> None:
    trace_id, traceparent = sampled(1)
    response = embed(traced, traceparent)
    spans = collector.trace(trace_id, has("POST /v1/embeddings", "inference"))
    assert tree(spans) == [
        "POST /v1/embeddings",
        "  authenticate",
        "  receive body",
        f"  {EMBEDDINGS}",
        "    admit",
        *OF_CALL,
    ]
    root, call = spans[0], next(span for span in spans if span.name == CALL)
    assert root.parent_span_id.hex() == CLIENT
    assert all(root.start_time_unix_nano <= span.start_time_unix_nano for span in spans)
    assert all(span.end_time_unix_nano <= root.end_time_unix_nano for span in spans)
    told = attributes(root)
    assert told["triptych.request.id"] == response.headers["x-request-id"]
    assert (told["triptych.tenant"], told["triptych.outcome"], told["http.response.status_code"]) == ("acme", "OK", 200)
    assert attributes(call)["rpc.response.status_code"] == "OK"
    model = next(span for span in spans if span.name == EMBEDDINGS)
    assert attributes(model)["gen_ai.usage.input_tokens"] == response.json()["usage"]["prompt_tokens"]


def test_one_that_its_client_leaves_out_is_not_recorded(traced: Stack, collector: Collector) -> None:
    left_out, traceparent = sampled(2)
    embed(traced, traceparent.removesuffix("01") + "00")
    later, traceparent = sampled(3)
    embed(traced, traceparent)
    collector.trace(later, has("POST /v1/embeddings"))
    assert [span.name for span in collector.spans() if span.trace_id.hex() == left_out] == []


def test_what_fails_says_why_and_not_of_what(traced: Stack, collector: Collector) -> None:
    trace_id, traceparent = sampled(4)
    assert embed(traced, traceparent, "").status_code == 400
    spans = collector.trace(trace_id, has("POST /v1/embeddings"))
    call = next(span for span in spans if span.name == CALL)
    assert attributes(call)["error.type"] == "EMPTY_INPUT"
    assert attributes(spans[0])["triptych.outcome"] == "EMPTY_INPUT"
    assert [span.status.message for span in spans if span.status.message] == []


def test_a_line_of_a_batch_is_a_trace_that_is_linked_to_its_work(traced: Stack, collector: Collector) -> None:
    with openai.OpenAI(base_url=f"{traced.url}/v1", api_key=traced.keys["acme"], max_retries=0) as client:
        assert batches.ended(client, batches.submit(client, [batches.embed(1), batches.embed(2)])).status == "completed"

    def is_whole(spans: list[Span]) -> bool:
        traces = {span.trace_id for span in spans if span.name == "execute /v1/embeddings"}
        ran = {span.trace_id for span in spans if span.name == "inference"}
        return len(traces) >= 2 and traces <= ran and has("process batch")(spans)

    work = collector.all(is_whole)
    requests = [(span.trace_id.hex(), span.span_id.hex()) for span in work if span.name == "POST /v1/batches"]
    segment = next(span for span in work if attributes(span).get("triptych.job.kind") == "segment")
    assert links(segment) == requests
    jobs = {span.span_id for span in work if span.name == "process batch"}
    lines = [span for span in work if span.name == "execute /v1/embeddings"]
    assert all(link.span_id in jobs for line in lines for link in line.links)
    assert [len(line.links) for line in lines] == [1, 1]
    assert len({line.trace_id for line in lines}) == 2
    of_one = [span for span in collector.spans() if span.trace_id == lines[0].trace_id]
    assert tree(of_one) == ["execute /v1/embeddings", f"  {EMBEDDINGS}", "    admit", *OF_CALL]


def test_a_job_is_a_trace_that_is_linked_to_its_request_and_its_delivery_to_that(
    traced: Stack, collector: Collector
) -> None:
    trace_id, traceparent = sampled(6)
    with http_of(traced, "acme") as http, Receiver() as receiver:
        hook = {"name": "hook", "url": receiver.url, "event_types": ["job.completed"]}
        http.post("/v1/webhook_endpoints", json=hook).raise_for_status()
        asked = {"endpoint": "/v1/embeddings", "body": {"model": MODEL, "input": SECRET_TEXT}}
        job = http.post("/v1/jobs", json=asked, headers={"traceparent": traceparent}).json()
        assert http.get(f"/v1/jobs/{job['id']}", params={"wait": 50}).json()["status"] == "completed"
        spans = collector.all(has("process jobs", "process webhooks"))
    work = next(span for span in spans if span.name == "process jobs")
    of_it = [span for span in collector.spans() if span.trace_id == work.trace_id]
    lines = tree(of_it)
    assert lines[0] == "process jobs"
    assert "  execute /v1/embeddings" in lines
    assert attributes(work)["messaging.message.id"] == job["id"]
    request = next(span for span in collector.trace(trace_id, has("POST /v1/jobs")) if span.name == "POST /v1/jobs")
    assert links(work) == [(trace_id, request.span_id.hex())]
    delivery = next(span for span in spans if span.name == "process webhooks")
    assert links(delivery) == [(work.trace_id.hex(), work.span_id.hex())]


def links(span: Span) -> list[tuple[str, str]]:
    """The traces and spans that a span is linked to."""
    return [(link.trace_id.hex(), link.span_id.hex()) for link in span.links]


def test_nothing_that_a_client_wrote_is_in_any_of_it(traced: Stack, collector: Collector) -> None:
    trace_id, traceparent = sampled(5)
    wrong = traced.keys["acme"][:-4] + "AAAA"
    with httpx.Client(base_url=traced.url, headers={"traceparent": traceparent}) as http:
        for key in (traced.keys["acme"], wrong, SECRET_TEXT):
            headers = {"authorization": f"Bearer {key}", "user-agent": SECRET_TEXT}
            for path in (f"/v1/embeddings?q={SECRET_TEXT}", f"/v1/files/{SECRET_TEXT}", f"/{SECRET_TEXT}"):
                http.post(path, json={"model": SECRET_TEXT, "input": SECRET_TEXT}, headers=headers)
        http.request(SECRET_TEXT.split()[0].upper(), "/v1/models", headers=headers)
    collector.trace(trace_id, lambda spans: [span.parent_span_id.hex() for span in spans].count(CLIENT) == 10)
    everything = collector.raw().lower()
    for secret in ("xylophonist", "quetzalcoatl", *traced.keys.values(), wrong, traced.keys["acme"][-20:]):
        assert secret.lower().encode() not in everything
    assert trace_id.encode() not in everything  # it travels as bytes
    assert bytes.fromhex(trace_id) in collector.raw()


def test_requests_do_not_mind_a_collector_that_is_away_or_hangs(start_native: Callable[..., NativeStack]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hangs, socket.socket() as away:
        away.bind(("127.0.0.1", 0))  # and does not listen
        for there, why in ((away, "is away"), (hangs, "hangs")):
            endpoint = f"http://127.0.0.1:{there.getsockname()[1]}"
            native = start_native(gateway={"otlp-endpoint": endpoint, "otlp-timeout": "500ms", "trace-ratio": "1"})
            stack = native.describe()
            for number in range(20):
                response = embed(stack, sampled(number + 1)[1])
                assert response.status_code == 200, why
                assert response.elapsed.total_seconds() < 2, why

            def dropped(stack: Stack = stack) -> bool:
                return metrics.read(stack.metrics_url).get("gateway_trace_spans_dropped_total", 0) >= 100

            wait_until(f"spans that are dropped as the collector {why}", dropped, 20)
            native.stop()
            log = pathlib.Path(stack.logs["gateway"]).read_text()
            assert log.count("the collector takes no spans") == 1, log
