"""The collector's dashboard and alerts, by a real Prometheus, while it gets spans and loses its store and its disk."""

import contextlib
import functools
import os
import re
import resource
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb

from e2e import limits
from e2e.collector import Collector
from e2e.our_collector import OurCollector
from e2e.vectors import MODEL
from stack.description import Stack
from stack.native import NativeStack
from stack.prometheus import Prometheus, is_of_collector, panel_queries, prometheus, rule_queries, scaled
from stack.waiting import StackError, wait_until

LIMIT_S = 60
# What there is nothing of here, and why.
NOT_STAGED = {
    "collector_usage_early_total": "a hundred thousand spans would have to wait",
    "collector_usage_lost_total": "ten thousand records would have to wait",
}


class Store:
    """A store of traces that can go away and come back where it was."""

    def __init__(self) -> None:
        self._collector = Collector()
        self.address = self._collector.url.removeprefix("http://")

    def start(self) -> None:
        self._collector.__enter__()

    def stop(self) -> None:
        self._collector.close()
        self._collector = Collector(self.address)

    def close(self) -> None:
        self._collector.close()


@dataclass
class Site:
    stack: Stack
    store: Store
    collector: OurCollector
    prometheus: Prometheus

    def limit_files(self, size: int) -> None:
        """Have the collector's files take no more than so many bytes, as a full disk does."""
        resource.prlimit(self.collector.child.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    @contextlib.contextmanager
    def traffic(self) -> Iterator[None]:
        """Requests, one after the other."""
        ended = threading.Event()

        def ask() -> None:
            with limits.client(self.stack, "acme") as http:
                while not ended.wait(0.1):
                    http.post("/v1/embeddings", json={"model": MODEL, "input": "a text"})

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if request.getfixturevalue("stack_kind") != "native":
        pytest.skip("LOUD: the collector's dashboard is only tried with --stack native")
    program = prometheus()
    if program is None:
        assert "CI" not in os.environ, "there is no prometheus"
        pytest.skip("LOUD: there is no prometheus: the collector's dashboard and alerts are NOT tested")
    folder = tmp_path_factory.mktemp("site")
    store = Store()
    store.start()
    forward = {"COLLECTOR_FORWARD_TO": store.address, "COLLECTOR_FORWARD_INSECURE": "true"}
    collector = OurCollector(folder / "collector", **forward, COLLECTOR_FORWARD_QUEUE="1")
    with contextlib.ExitStack() as closing:
        closing.callback(store.close)
        closing.enter_context(collector)
        native = NativeStack(
            folder / "stack",
            gateway={
                "tenants-file": limits.plans(
                    folder, acme="{requests_per_minute: 600000, tokens_per_minute: 100000000}"
                ),
                "otlp-endpoint": collector.url,
                "trace-ratio": "1",
            },
            hotpath={"otlp-endpoint": collector.url, "model-names": MODEL},
        )
        stack = native.start()
        closing.callback(native.stop)
        watching = closing.enter_context(Prometheus(program, folder / "prometheus", stack, collector.metrics_url))
        yield Site(stack, store, collector, watching)


def test_its_alerts_fire_while_something_is_wrong_and_clear_after_it(site: Site) -> None:
    """The store of traces goes away, and then there is no room for files."""

    wait_for = functools.partial(site.prometheus.wait_for, limit_s=LIMIT_S)

    with site.traffic():
        wait_until("the collector's metrics", lambda: site.prometheus.ask("collector_usage_unsent"), LIMIT_S)
        wait_for("CollectorLosesSpans", "UsageRecordsWait", "TargetMissing", firing=False)
        site.store.stop()
        wait_for("CollectorLosesSpans", firing=True)
        assert "UsageRecordsWait" not in site.prometheus.firing(), "files are written all the same"
        site.store.start()
        wait_for("CollectorLosesSpans", firing=False)
        site.limit_files(1)
        wait_for("UsageRecordsWait", firing=True)
        site.limit_files(resource.RLIM_INFINITY)
        wait_for("UsageRecordsWait", "CollectorLosesSpans", firing=False)


def leak(key: str) -> pb.ExportTraceServiceRequest:
    """A request's span with a key in it."""
    sent = pb.ExportTraceServiceRequest()
    scope = sent.resource_spans.add().scope_spans.add()
    scope.scope.name = "triptych.dev/gateway"
    span = scope.spans.add(trace_id=bytes([1] * 16), span_id=bytes([1] * 8), name="POST /v1/embeddings")
    for name, value in (("triptych.request.id", "leak"), ("note", key)):
        span.attributes.add(key=name).value.string_value = value
    return sent


def test_every_query_finds_something(site: Site) -> None:
    """After the faults, which have left some of it."""
    queries = (*panel_queries(), *rule_queries())
    asked = {
        (where, scaled(query))
        for where, query in queries
        if is_of_collector(query) and not any(metric in query for metric in NOT_STAGED)
    }
    assert len(asked) > 20

    def found_all() -> bool:
        for one in list(asked):
            if site.prometheus.ask(one[1]):
                asked.discard(one)
        return not asked

    for _ in range(2):
        site.collector.send(leak(site.stack.keys["acme"]))
    with site.traffic(), contextlib.suppress(StackError):
        wait_until("numbers for all", found_all, LIMIT_S)
    assert asked == set()


def test_its_own_metrics_are_on_the_dashboard(site: Site) -> None:
    text = " ".join(query for _, query in (*panel_queries(), *rule_queries()))
    told = set(re.findall(r"^# TYPE (\w+) ", httpx.get(site.collector.metrics_url).text, re.M))
    assert {
        family for family in told if family.startswith("collector_") and not re.search(rf"\b{family}\b", text)
    } == set()
    named = set(re.findall(r"\b(?:collector|otelcol)_\w+", text))
    assert named - told - NOT_STAGED.keys() == set()
