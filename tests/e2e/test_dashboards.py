"""Alerts in staged faults, and every panel's and rule's query, asked of a real Prometheus beside a stack that works."""

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest

from e2e import batches, limits
from e2e.collector import Collector, sampled
from e2e.receivers import Receiver
from e2e.traffic import Traffic
from stack.description import Stack
from stack.native import NativeStack
from stack.prometheus import Prometheus, is_of_collector, panel_queries, prometheus, rule_queries, scaled
from stack.redis import Redis, redis_server
from stack.waiting import StackError, wait_until

LIMIT_S = 40
# What there is nothing of here, and why.
NOT_STAGED = {
    "hotpath_run_failures_total": "no graph of ours fails",
    "gateway_certificate_end_timestamp_seconds": "there is no TLS",
}
PLAN = "{requests_per_minute: 600000, tokens_per_minute: 100000000}"
SMALL = "{requests_per_minute: 5}"


@dataclass
class Site:
    native: NativeStack
    stack: Stack
    redis: Redis
    prometheus: Prometheus
    collector: Collector


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if request.getfixturevalue("stack_kind") != "native":
        pytest.skip("LOUD: dashboards and alerts are only tried with --stack native")
    program, redis_program = prometheus(), redis_server()
    if program is None or redis_program is None:
        assert "CI" not in os.environ, "there is no prometheus, or no redis-server"
        pytest.skip("LOUD: there is no prometheus, or no redis-server: dashboards and alerts are NOT tested")
    folder = tmp_path_factory.mktemp("site")
    redis = Redis(redis_program, folder / "redis")
    redis.start()
    with Collector() as collector, contextlib.ExitStack() as closing:
        closing.callback(redis.stop)
        gateway = {
            "tenants-file": limits.plans(folder, acme=PLAN, tiny=SMALL),
            "redis-url": redis.url,
            "otlp-endpoint": collector.url,
            "otlp-timeout": "200ms",
            "webhook-allow-networks": "127.0.0.0/8",
            "webhook-retries": "50ms,50ms",
        }
        hotpath = {"otlp-endpoint": collector.url, "otlp-timeout-ms": "200"}
        native = NativeStack(folder / "stack", gateway=gateway, hotpath=hotpath)
        stack = native.start()
        closing.callback(native.stop)
        watching = closing.enter_context(Prometheus(program, folder / "prometheus", stack))
        yield Site(native, stack, redis, watching, collector)


def is_staged(query: str) -> bool:
    return not any(metric in query for metric in NOT_STAGED)


def give_up_a_delivery(site: Site) -> None:
    """An event that a webhook does not take."""
    sdk = openai.OpenAI(base_url=f"{site.stack.url}/v1", api_key=site.stack.keys["acme"])
    with sdk as client, Receiver(answer=lambda _: 500) as receiver:
        client.webhooks.create(name="hook", url=receiver.url, event_types=["batch.completed"])
        batches.ended(client, batches.submit(client, [batches.embed(1)]))
        wait_until("a delivery that is given up", lambda: len(receiver.got) == 3, LIMIT_S)


def test_alerts_fire_while_something_is_wrong_and_clear_after_it(site: Site) -> None:
    wait_for = functools.partial(site.prometheus.wait_for, limit_s=LIMIT_S)

    give_up_a_delivery(site)
    with Traffic(site.stack):
        wait_for("JobsDead", firing=True)
        wait_for("TargetMissing", "GatewayNotReady", "LimitsDegraded", "RequestsFailFast", firing=False)
        site.redis.stop()
        wait_for("LimitsDegraded", firing=True)
        site.redis.start()
        wait_for("LimitsDegraded", firing=False)
        assert site.native.hotpath
        site.native.hotpath.kill()
        wait_for("TargetMissing", "GatewayNotReady", "RequestsFailFast", firing=True)
        site.native.start_hotpath()
        site.native.wait_ready()
        wait_for("TargetMissing", "GatewayNotReady", "RequestsFailFast", firing=False)


def test_every_query_finds_something(site: Site) -> None:
    """After the faults, which have left some of it. The collector's are for test_collector_dashboard.py."""
    queries = (*panel_queries(), *rule_queries())
    asked = {(where, scaled(query)) for where, query in queries if is_staged(query) and not is_of_collector(query)}
    assert len(asked) > 100

    def look() -> None:
        for one in list(asked):
            if site.prometheus.ask(one[1]):
                asked.discard(one)  # some are there for a moment only

    def found_all(but: str = "no metric") -> bool:
        look()
        return all(but in query for _, query in asked)

    with Traffic(site.stack), contextlib.suppress(StackError):
        wait_until("numbers for all others", lambda: found_all("trace_spans_dropped_total"), LIMIT_S)
        site.collector.close()
        wait_until("numbers for all", found_all, LIMIT_S)
    assert asked == set()


def test_times_have_traces_as_examples(site: Site) -> None:
    for metric in ("gateway_request_seconds", "hotpath_queue_seconds"):
        found = site.prometheus.exemplars(f"{metric}_bucket")
        traces: list[Any] = [exemplar["labels"]["trace_id"] for exemplar in found]
        assert sampled(1)[0][:28] in {trace[:28] for trace in traces}, metric


def test_metrics_are_on_a_dashboard_or_left_out_for_a_reason(site: Site) -> None:
    left_out = {
        "gateway_build_info": "told by /admin/v1/overview",
        "hotpath_build_info": "likewise",
        "gateway_finished_choices_total": "an answer to a question about one model",
    }
    text = " ".join(query for _, query in panel_queries())
    told: set[str] = set()
    for url in (site.stack.metrics_url, site.stack.hotpath_metrics_url):
        families = re.findall(r"^# TYPE (\w+) ", httpx.get(url).text, re.M)
        told |= {family for family in families if family.startswith(("gateway_", "hotpath_"))}
    assert {
        family
        for family in told - left_out.keys()
        if not re.search(rf"\b{family}(_total|_bucket|_count|_sum)?\b", text)
    } == set()
    named = {re.sub(r"_(bucket|count|sum)$", "", metric) for metric in re.findall(r"\b(?:gateway|hotpath)_\w+", text)}
    assert named - told - NOT_STAGED.keys() == set()
