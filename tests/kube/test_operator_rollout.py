"""The operator's binary and a real API server: hot paths of a Model, and changes that are tried before all follow."""

import json
import pathlib
import re
from collections.abc import Iterator

import pytest

from kube.api import ApiServer
from kube.chart import Object
from kube.cluster import Cluster, Image
from kube.hotpaths import RealHotPath, Work
from kube.models import condition, deployment, events, image_of, is_refused, is_served, model, until, until_told
from kube.operator import Operator
from stack.native import MODELS
from stack.waiting import wait_until

A, B, C = "a" * 16, "b" * 16, "c" * 16


def busy(pod: Object, work: Work) -> None:
    work.answer(5)


@pytest.fixture
def cluster(kinds: ApiServer) -> Iterator[Cluster]:
    images = {"models:a": Image(A), "models:b": Image(B), "models:c": Image(C), "models:broken": Image(C, works=False)}
    with Cluster(kinds, images, busy) as cluster:
        yield cluster


@pytest.fixture
def operator(kinds: ApiServer, cluster: Cluster, tmp_path: pathlib.Path) -> Iterator[Operator]:
    with Operator(kinds, tmp_path) as operator:
        yield operator


def test_a_first_install_goes_to_all(kinds: ApiServer, cluster: Cluster, operator: Operator) -> None:
    one = model("first", "models:a", revision=A)
    kinds.create(one)
    found = until(kinds, one, "is served", is_served(A))
    assert (found["status"]["replicas"], found["status"]["readyReplicas"]) == (2, 2)
    assert condition(found, "Ready")["message"] == "2 of 2 replicas ready"
    assert condition(found, "RolledBack")["status"] == "False"
    assert kinds.find(deployment("first-trial")) is None
    until_told(kinds, "first", "Installed")
    made = [kinds.get(deployment("first")), *kinds.list("policy/v1", "PodDisruptionBudget", "triptych.dev/model=first")]
    assert [[owner["uid"] for owner in each["metadata"]["ownerReferences"]] for each in made] == [
        [found["metadata"]["uid"]]
    ] * 2
    pods = {
        f"app.kubernetes.io/{key}": value
        for key, value in (("name", "triptych"), ("instance", "demo"), ("component", "hotpath"))
    }
    assert pods.items() <= made[0]["spec"]["template"]["metadata"]["labels"].items()
    assert found["status"]["selector"] == ",".join(
        f"{key}={value}" for key, value in sorted(made[1]["spec"]["selector"]["matchLabels"].items())
    )


def test_a_first_install_of_another_revision_serves_nothing(
    kinds: ApiServer, cluster: Cluster, operator: Operator
) -> None:
    one = model("mistaken", "models:a", revision=B)
    kinds.create(one)
    found = until(kinds, one, "is refused", is_refused("WrongRevision"))
    assert condition(found, "Ready")["status"] == "False"
    assert f"the image has revision {A} of minilm, and bundle.revision is {B}" in found["status"]["refused"]["why"]
    wait_until("its hot paths to go", lambda: kinds.find(deployment("mistaken")) is None, 10)
    kinds.change(one, {"spec": {"bundle": {"revision": A}}})
    until(kinds, one, "is served", is_served(A))


def test_a_change_is_tried_before_all_follow(kinds: ApiServer, cluster: Cluster, operator: Operator) -> None:
    one = model("good", "models:a")
    kinds.create(one)
    until(kinds, one, "is served", is_served(A))
    cluster.least.clear()
    kinds.change(one, {"spec": {"bundle": {"image": "models:b", "revision": B}}})
    found = until(kinds, one, "is watched", lambda found: "readyAt" in found["status"].get("trial", {}))
    assert image_of(kinds.find(deployment("good"))) == "models:a"
    assert image_of(kinds.find(deployment("good-trial"))) == "models:b"
    assert found["status"]["revision"] == A
    assert found["status"]["trial"]["revision"] == B
    assert "trial ready, watched for" in condition(found, "Progressing")["message"]
    until(kinds, one, "is served", is_served(B))
    assert cluster.least["good"] >= 2, "fewer than were wanted served"
    wait_until("the trial to go", lambda: kinds.find(deployment("good-trial")) is None, 10)
    until_told(kinds, "good", "Installed", "Trying", "Watching", "Passed", "RolledOut")


def test_what_is_scaled_is_not_tried(kinds: ApiServer, cluster: Cluster, operator: Operator) -> None:
    one = model("scaled", "models:a", replicas=1)
    kinds.create(one)
    until(kinds, one, "is served", is_served(A))
    kinds.change(one, {"spec": {"replicas": 3}}, "scale")  # as an autoscaler does
    until(kinds, one, "has three", lambda found: found["status"]["readyReplicas"] == 3)
    kinds.change(one, {"spec": {"replicas": 0}})
    until(kinds, one, "has none", lambda found: found["status"]["replicas"] == 0)
    until_told(kinds, "scaled", "Installed")


def test_another_change_takes_the_place_of_the_one_that_is_tried(
    kinds: ApiServer, cluster: Cluster, operator: Operator
) -> None:
    one = model("twice", "models:a")
    kinds.create(one)
    until(kinds, one, "is served", is_served(A))
    kinds.change(one, {"spec": {"bundle": {"image": "models:broken"}}})
    first = until(kinds, one, "is tried", lambda found: found["status"].get("trial"))["status"]["trial"]
    wait_until("its pod", lambda: cluster.pods("twice", "trial"), 10)
    kinds.change(one, {"spec": {"bundle": {"image": "models:b"}}})
    until(kinds, one, "the other one is tried", lambda found: found["status"]["trial"]["hash"] != first["hash"])
    until(kinds, one, "is served", is_served(B))
    assert image_of(kinds.find(deployment("twice"))) == "models:b"


def test_a_change_that_is_given_up_ends_its_trial(kinds: ApiServer, cluster: Cluster, operator: Operator) -> None:
    one = model("back", "models:a")
    kinds.create(one)
    until(kinds, one, "is served", is_served(A))
    generation = kinds.get(deployment("back"))["metadata"]["generation"]
    kinds.change(one, {"spec": {"bundle": {"image": "models:broken"}}})
    until(kinds, one, "is tried", lambda found: found["status"].get("trial"))
    kinds.change(one, {"spec": {"bundle": {"image": "models:a"}}})
    until(kinds, one, "is served", is_served(A))
    wait_until("the trial to go", lambda: kinds.find(deployment("back-trial")) is None, 10)
    assert kinds.get(deployment("back"))["metadata"]["generation"] == generation, "those that serve were touched"
    until_told(kinds, "back", "Installed", "Trying", "TrialEnded")


def test_a_model_that_is_deleted_in_its_trial_leaves_nothing(
    kinds: ApiServer, cluster: Cluster, operator: Operator
) -> None:
    one = model("gone", "models:a")
    kinds.create(one)
    until(kinds, one, "is served", is_served(A))
    kinds.change(one, {"spec": {"bundle": {"image": "models:b"}}})
    until(kinds, one, "is watched", lambda found: "readyAt" in found["status"].get("trial", {}))
    kinds.delete(one)
    wait_until("its pods to go", lambda: not cluster.pods("gone"), 20)
    assert [kinds.find(deployment(name)) for name in ("gone", "gone-trial")] == [None, None]
    assert "error" not in operator.log(), operator.log()


def test_real_hot_paths_tell_what_a_change_is_judged_by(kinds: ApiServer, tmp_path: pathlib.Path) -> None:
    """Their metrics have the names that are read, and their revision is that of the bundle."""
    name = "all-minilm-l6-v2"
    revision = json.loads((MODELS / name / "current").read_text())["revision"]

    def start(ip: str, model: str, image: Image) -> RealHotPath:
        return RealHotPath(ip, model, tmp_path / f"{ip}.log")

    images = {"models:a": Image(""), "models:b": Image("")}
    with Cluster(kinds, images, busy, start), Operator(kinds, tmp_path):
        one = model("real", "models:a", replicas=1, revision=revision, rollout={"maxLatencyPercent": 10000})
        one["spec"]["bundle"]["name"] = name
        kinds.create(one)
        until(kinds, one, "is served", is_served(revision), 90)
        kinds.change(one, {"spec": {"bundle": {"image": "models:b"}}})
        until(kinds, one, "is served by the other", lambda _: events(kinds, "real")[-1][1] == "RolledOut", 90)
        (passed,) = [note for _, reason, note in events(kinds, "real") if reason == "Passed"]
        match = re.fullmatch(
            r"the trial answered (\d+) requests, of which 0 failed; beside it (\d+), of which 0 failed", passed
        )
        assert match, passed
        assert int(match[1]) >= 20
        assert int(match[2]) >= 10
