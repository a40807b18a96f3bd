"""A hot path behind a network that is slow, resets or falls silent, and one that says that it serves and does not."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from e2e import metrics
from e2e.load import HANGS_S, Load, Outcome
from e2e.lying_hotpath import LyingHotpath
from e2e.replicas import NOTICED_S, ONE_MODEL, SETTLED_S, ejected, wait_for_calls_everywhere
from stack.description import Stack
from stack.pool import Pool
from stack.proxy import Proxy
from stack.waiting import wait_until

TEXTS = 4  # of one request, so that one which is answered takes a small part of its time on a busy machine too
BODY: dict[str, object] = {"input": ["a text of some ten tokens, of which there are many"] * TEXTS}
# What the gateway gives a call that is not answered.
CALL_S = 4
# A connection that fell silent is given up after 15 s, and then made anew.
BACK_S = 60


@dataclass
class Site:
    pool: Pool
    stack: Stack
    network: Proxy  # before the first hot path
    liar: LyingHotpath  # before the second

    def calls(self) -> list[float]:
        """How many calls each hot path has had."""
        urls = [self.pool.hotpath_metrics_url(number) for number in range(2)]
        return [metrics.read(url)["hotpath_grpc_requests_total"] for url in urls]

    def inputs(self) -> float:
        """How many inputs both have had together."""
        return sum(metrics.read(self.pool.hotpath_metrics_url(number))["hotpath_inputs_total"] for number in range(2))


@pytest.fixture(scope="module")
def started(stack_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if stack_kind != "native":
        pytest.skip("LOUD: these tests break the network of services, and so run with --stack native only")
    settings = {"canary-interval": "500ms", "request-timeout": f"{CALL_S}s"}
    pool = Pool(tmp_path_factory.mktemp("pool"), [ONE_MODEL, ONE_MODEL], gateway=settings)
    between: list[Proxy | LyingHotpath] = []

    def road(number: int, address: str) -> str:
        between.append(LyingHotpath(address) if number else Proxy(address))
        return between[number].address

    stack = pool.start(road)
    network, liar = between
    assert isinstance(network, Proxy)
    assert isinstance(liar, LyingHotpath)
    yield Site(pool, stack, network, liar)
    pool.stop()
    network.stop()
    liar.stop()


@pytest.fixture
def site(started: Site) -> Site:
    """With all as it should be."""
    started.pool.wait_all_proven()
    return started


def unexcused(outcomes: list[Outcome], broken: float, noticed: float) -> list[tuple[float, float, int | None, str]]:
    """Failures that nobody's ignorance excuses: they had ended before, or began when the gateway knew."""
    return [
        (outcome.started - noticed, outcome.ended - noticed, outcome.status, outcome.error)
        for outcome in outcomes
        if outcome.status != 200 and (outcome.ended < broken or outcome.started > noticed)
    ]


def test_a_hotpath_that_is_slow_to_reach_gets_fewer_calls(site: Site) -> None:
    site.network.latency_s = 0.3
    try:
        with Load(site.stack) as load:
            load.wait_for(200, 20)
            before = site.calls()
            load.wait_for(200, 100, since=time.monotonic())
            far, near = (now - then for now, then in zip(site.calls(), before, strict=True))
    finally:
        site.network.latency_s = 0.0
    assert load.statuses() == {200}
    assert near > 2 * far, f"{far:.0f} of {far + near:.0f} calls took the slow way"


def test_what_a_reset_cuts_off_is_not_made_again(site: Site) -> None:
    before = site.inputs()
    with Load(site.stack, lambda _: BODY) as load:
        load.wait_for(200, 20)
        wait_for_calls_everywhere(site.stack)
        broken = time.monotonic()
        site.network.reset(after_bytes=100)  # in the middle of a reply
        wait_until("the loss", lambda: not all(replica["connected"] for replica in site.pool.replicas()), NOTICED_S)
        noticed = time.monotonic()
        load.wait_for(200, 20, since=noticed)  # of which none can be begun there
        site.network.heal()
        site.pool.wait_all_proven()
        wait_for_calls_everywhere(site.stack)
    lost = [outcome for outcome in load.outcomes if outcome.status != 200]
    assert lost, "nothing was under way: this test proves nothing"
    assert all(outcome.started < noticed + SETTLED_S for outcome in lost), lost
    assert {(outcome.status, outcome.error) for outcome in lost} == {(503, "hotpath_unavailable")}
    assert min(outcome.ended for outcome in lost) > broken
    assert (site.inputs() - before) // TEXTS <= len(load.outcomes), "some were begun twice"


def test_a_hotpath_whose_network_falls_silent_is_ejected_and_comes_back(site: Site) -> None:
    with Load(site.stack, lambda _: BODY) as load:
        load.wait_for(200, 20)
        wait_for_calls_everywhere(site.stack)
        broken = time.monotonic()
        site.network.fall_silent(after_bytes=1000)
        wait_until("the ejection", lambda: ejected(site.stack) == 1, NOTICED_S)
        noticed = time.monotonic()
        load.wait_for(200, 20, since=noticed)
        site.network.heal()
        wait_until("its return", lambda: ejected(site.stack) == 0, BACK_S)
        wait_for_calls_everywhere(site.stack)
    assert unexcused(load.outcomes, broken, noticed) == []
    assert load.statuses() <= {200, 503, 504}
    assert max(outcome.ended - outcome.started for outcome in load.outcomes) < HANGS_S


def test_a_hotpath_that_says_it_serves_and_answers_nothing_is_ejected_and_comes_back(site: Site) -> None:
    with Load(site.stack, lambda _: BODY) as load:
        load.wait_for(200, 20)
        wait_for_calls_everywhere(site.stack)
        broken = time.monotonic()
        site.liar.lie()
        wait_until("the ejection", lambda: ejected(site.stack) == 1, CALL_S + NOTICED_S)
        noticed = time.monotonic()
        load.wait_for(200, 20, since=noticed)
        assert all(
            replica["connected"] and replica["models"][0]["state"] == "ready" for replica in site.pool.replicas()
        )
        site.liar.repent()
        wait_until("its return", lambda: ejected(site.stack) == 0, BACK_S)
        wait_for_calls_everywhere(site.stack)
    assert unexcused(load.outcomes, broken, noticed) == []
    assert load.statuses() <= {200, 504}
