"""What the operator's binary lives through: the API server away, its own death, others' hands on what is its."""

import pathlib
import re
import time
from collections.abc import Iterator

import pytest

from kube.api import ApiServer
from kube.chart import RELEASE, Chart, Object
from kube.cluster import Cluster, Image
from kube.hotpaths import Work
from kube.models import condition, deployment, image_of, is_served, model, until, until_told
from kube.operator import LEADS, LEASE, Operator
from stack.waiting import wait_until

A, B = "a" * 16, "b" * 16
WATCHED = re.compile(r"trial ready, watched for \d+ s more, (\d+) of \d+ requests")


def busy(pod: Object, work: Work) -> None:
    work.answer(5)


@pytest.fixture
def cluster(kinds: ApiServer) -> Iterator[Cluster]:
    with Cluster(kinds, {"models:a": Image(A), "models:b": Image(B)}, busy) as cluster:
        yield cluster


@pytest.fixture
def operator(kinds: ApiServer, cluster: Cluster, tmp_path: pathlib.Path) -> Iterator[Operator]:
    with Operator(kinds, tmp_path) as operator:
        yield operator


def is_watched(found: Object) -> bool:
    return "readyAt" in found["status"].get("trial", {})


def is_watched_on(found: Object) -> bool:
    return WATCHED.match(condition(found, "Progressing")["message"]) is not None


def installed(kinds: ApiServer, name: str, observe_s: int = 3) -> Object:
    one = model(name, "models:a", rollout={"observeSeconds": observe_s})
    kinds.create(one)
    until(kinds, one, "is served", is_served(A))
    return one


def test_what_others_change_of_ours_is_put_back_and_what_is_theirs_is_left(
    kinds: ApiServer, cluster: Cluster, operator: Operator
) -> None:
    installed(kinds, "shared")
    of = deployment("shared")
    (container,) = kinds.get(of)["spec"]["template"]["spec"]["containers"]
    template = {"spec": {"containers": [{**container, "image": "theirs:1"}]}}
    theirs = {"labels": {"team": "theirs"}, "annotations": {"theirs": "yes"}}
    kinds.change(of, {"metadata": theirs, "spec": {"replicas": 7, "revisionHistoryLimit": 3, "template": template}})

    def is_back() -> bool:
        spec = kinds.get(of)["spec"]
        return (spec["replicas"], spec["template"]["spec"]["containers"][0]["image"]) == (2, "hotpath:1")

    wait_until("the operator puts it back", is_back, 10)
    found = kinds.get(of)
    assert theirs["labels"].items() <= found["metadata"]["labels"].items()
    assert theirs["annotations"].items() <= found["metadata"]["annotations"].items()
    assert found["spec"]["revisionHistoryLimit"] == 3
    kinds.delete(of)
    wait_until("the operator makes it again", lambda: kinds.find(of), 10)
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "shared"}}
    kinds.delete(budget)
    wait_until("the operator makes the budget again", lambda: kinds.find(budget), 10)


def test_one_that_waits_for_nothing_asks_for_nothing(kinds: ApiServer, cluster: Cluster, operator: Operator) -> None:
    one = installed(kinds, "still")
    cluster.load = None

    def count() -> float:
        asked = re.findall(r"^rest_client_requests_total\{([^}]*)\} (\S+)$", operator.metrics(), re.MULTILINE)
        return sum(float(value) for labels, value in asked)

    def looks() -> float:
        (number,) = re.findall(
            r'^controller_runtime_reconcile_total\{controller="model",result="success"\} (\S+)$',
            operator.metrics(),
            re.MULTILINE,
        )
        return float(number)

    wait_until("all is done", lambda: looks() > 0 and is_served(A)(kinds.get(one)), 10)
    version = kinds.get(one)["metadata"]["resourceVersion"]
    before, looked, began = count(), looks(), time.monotonic()
    wait_until("ten seconds pass", lambda: time.monotonic() - began > 10, 20)
    # The lease is renewed every 3/8 s in tests.
    assert count() - before <= 10 * 8 / 3 + 3
    assert looks() == looked
    assert kinds.get(one)["metadata"]["resourceVersion"] == version


def test_it_outlives_an_api_server_that_is_away(kinds: ApiServer, cluster: Cluster, tmp_path: pathlib.Path) -> None:
    """In mid-trial. With a lease it would end and be started again, which is another test."""
    with Operator(kinds, tmp_path, "--leader-election=false") as operator:
        one = installed(kinds, "outage", observe_s=8)
        kinds.change(one, {"spec": {"bundle": {"image": "models:b"}}})
        until(kinds, one, "is watched", is_watched)
        kinds.stop()
        try:
            lines, began = len(operator.log().splitlines()), time.monotonic()
            wait_until("six seconds pass", lambda: time.monotonic() - began > 6, 20)
            assert operator.alive
            assert len(operator.log().splitlines()) - lines < 120, "it spins"
        finally:
            kinds.start_again()
        until(kinds, one, "is served", is_served(B))
        assert operator.alive
        assert operator.ask("readyz") == 200


def test_one_that_loses_its_lease_ends_and_another_life_goes_on(
    kinds: ApiServer, cluster: Cluster, operator: Operator
) -> None:
    one = installed(kinds, "lost")
    kinds.stop()
    try:
        assert operator.wait(30) == 1
    finally:
        operator.start(ready=False)
        kinds.start_again()
    operator.wait_until_ready()
    kinds.change(one, {"spec": {"bundle": {"image": "models:b"}}})
    until(kinds, one, "is served", is_served(B))


def test_another_takes_over_from_a_leader_that_is_killed(
    kinds: ApiServer, cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    with Operator(kinds, tmp_path, name="one") as first, Operator(kinds, tmp_path, name="two") as second:
        one = installed(kinds, "orphan", observe_s=6)
        leader, other = (first, second) if LEADS in first.log() else (second, first)
        assert LEADS in leader.log()
        assert LEADS not in other.log()
        kinds.change(one, {"spec": {"bundle": {"image": "models:b"}}})
        before = until(kinds, one, "is watched", is_watched)["status"]["trial"]
        leader.kill()
        after = until(
            kinds, one, "is watched anew", lambda found: found["status"]["trial"]["readyAt"] > before["readyAt"]
        )
        assert after["status"]["trial"]["startedAt"] == before["startedAt"]
        until(kinds, one, "is served", is_served(B))
        until_told(kinds, "orphan", "Installed", "Trying", "Watching", "Watching", "Passed", "RolledOut")


def test_one_that_is_stopped_gives_the_lease_back_at_once(
    kinds: ApiServer, cluster: Cluster, operator: Operator
) -> None:
    one = installed(kinds, "handed", observe_s=60)
    kinds.change(one, {"spec": {"bundle": {"image": "models:b"}}})
    until(kinds, one, "is watched", is_watched)
    began = time.monotonic()
    assert operator.stop() == 0
    assert time.monotonic() - began < 10
    assert not kinds.get(LEASE)["spec"]["holderIdentity"]
    operator.start()
    found = until(kinds, one, "is watched on", is_watched_on)
    assert image_of(kinds.get(deployment("handed"))) == "models:a", found


def test_its_pods_are_as_those_of_the_chart(
    kinds: ApiServer, cluster: Cluster, chart: Chart, tmp_path: pathlib.Path
) -> None:
    values = {
        "images": {"registry": "r.example.com", "tag": "7", "pullSecrets": ["pull"]},
        "models": {"names": ["minilm"]},
        "hotpath": {"settings": {"HOTPATH_CACHE_BYTES": "1"}, "preStopSeconds": 3, "drainSeconds": 20},
        "collector": {"enabled": True},
    }
    of_chart = chart.render(values).named("Deployment", "hotpath")
    # What the API server makes of it, with the same selector as the operator has, for no namespace has two of one name.
    kinds.create(of_chart)
    theirs = kinds.get(of_chart)["spec"]
    kinds.delete(of_chart)
    image = "r.example.com/triptych-"
    arguments = [
        "--pre-stop=3s",
        "--drain=20s",
        "--image-pull-secrets=pull",
        f"--otlp-endpoint=http://{RELEASE}-collector:4317",
    ]
    cluster.images[f"{image}models:7"] = Image(A)
    one = model("twin", f"{image}models:7", replicas=1)
    hotpath = one["spec"]["hotPath"]
    hotpath |= {"image": f"{image}hotpath:7", "settings": {"HOTPATH_CACHE_BYTES": "1"}}
    hotpath["resources"] = theirs["template"]["spec"]["containers"][0]["resources"]
    with Operator(kinds, tmp_path, *arguments):
        kinds.create(one)
        until(kinds, one, "is served", is_served(A))
        ours = kinds.get(deployment("twin"))["spec"]
    for each in ours["template"]["spec"]["topologySpreadConstraints"]:
        assert each["labelSelector"]["matchLabels"].pop("triptych.dev/model") == "twin"
    assert ours["template"]["spec"] == theirs["template"]["spec"]
    assert theirs["selector"]["matchLabels"].items() <= ours["template"]["metadata"]["labels"].items()
    for same in ("strategy", "minReadySeconds"):
        assert ours[same] == theirs[same]
