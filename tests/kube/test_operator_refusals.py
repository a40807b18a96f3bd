"""Changes that the operator takes back, and what it does not take at all."""

import pathlib
import re
from collections.abc import Callable, Iterator

import pytest

from kube.api import Answer, ApiServer
from kube.chart import Object
from kube.cluster import Cluster, Image
from kube.hotpaths import Work
from kube.models import (
    condition,
    deployment,
    events,
    image_of,
    is_refused,
    is_served,
    model,
    until,
    until_event,
    until_gone,
    until_told,
)
from kube.operator import Operator
from stack.waiting import StackError, wait_until

# How it begins, which returns the reason, and how it ends.
Refusal = tuple[Callable[[], str], Callable[[], None]]
A, B = "a" * 16, "b" * 16
# By the model's name: what is changed, and why it is taken back.
FAULTS: dict[str, tuple[Object, str, str]] = {
    "unready": ({"bundle": {"image": "models:broken"}}, "NotReadyInTime", "its golden cases have not all passed"),
    "faulty": ({}, "MoreErrors", "failed at the trial"),
    "slow": ({}, "Slower", "a request's wait and run took 30.10 ms at the trial and 10.10 ms beside it"),
    "other": ({"bundle": {"revision": A}}, "WrongRevision", f"has revision {B} of minilm, and bundle.revision is {A}"),
    "idle": ({}, "TooFewRequests", "the trial answered 0 of 20 requests"),
    "mute": ({}, "NotWatchable", "the trial's metrics cannot be read"),
    "dying": ({}, "ProcessEnded", "the trial's process ended while it was watched"),
}


def load(pod: Object, work: Work) -> None:
    """Each does as its model's name says, where a change is tried."""
    labels = pod["metadata"]["labels"]
    name, tried = labels["triptych.dev/model"], labels["triptych.dev/part"] == "trial"
    if name != "idle":
        failed = 1 if tried and name == "faulty" else 0
        work.answer(5, failed=failed, seconds=0.03 if tried and name == "slow" else 0.01)


@pytest.fixture
def cluster(kinds: ApiServer) -> Iterator[Cluster]:
    images = {"models:a": Image(A), "models:b": Image(B), "models:broken": Image(B, works=False)}
    with Cluster(kinds, images, load) as cluster:
        yield cluster


@pytest.fixture
def operator(kinds: ApiServer, cluster: Cluster, tmp_path: pathlib.Path) -> Iterator[Operator]:
    with Operator(kinds, tmp_path) as operator:
        yield operator


def test_each_fault_of_a_change_is_taken_back(kinds: ApiServer, cluster: Cluster, operator: Operator) -> None:
    """All at a time, for some wait for a deadline."""
    every = {name: model(name, "models:a", replicas=1) for name in FAULTS}
    for one in every.values():
        kinds.create(one)
    for one in every.values():
        until(kinds, one, "is served", is_served(A))
    generations = {name: kinds.get(deployment(name))["metadata"]["generation"] for name in FAULTS}
    for name, one in every.items():
        change, *_ = FAULTS[name]
        bundle = {"image": "models:b", **change.get("bundle", {})}
        kinds.change(one, {"spec": {"bundle": bundle}})
    for name in ("mute", "dying"):
        until(kinds, every[name], "is watched", lambda found: "readyAt" in found["status"].get("trial", {}))
        (pod,) = cluster.pods(name, "trial")
        if name == "mute":
            cluster.hotpath(pod).mute = True
        else:
            cluster.restart(pod)
    for name, one in every.items():
        _, reason, why = FAULTS[name]
        found = until(kinds, one, "is taken back", is_refused(reason))
        assert why in found["status"]["refused"]["why"], found["status"]
        assert condition(found, "RolledBack")["message"] == found["status"]["refused"]["why"]
        told = ("Warning", "RolledBack", found["status"]["refused"]["why"])
        until_event(kinds, name, told)
        assert found["status"]["revision"] == A
    for name in FAULTS:
        until_gone(kinds, f"{name}-trial")
        serves = kinds.get(deployment(name))
        assert image_of(serves) == "models:a"
        assert serves["metadata"]["generation"] == generations[name], "those that serve were touched"
    assert_is_not_tried_again(kinds, cluster, every)


def assert_is_not_tried_again(kinds: ApiServer, cluster: Cluster, every: dict[str, Object]) -> None:
    """What was refused is not tried when something else of its object changes; another spec is."""
    for one in every.values():
        kinds.change(one, {"spec": {"replicas": 2}})
    for one in every.values():
        found = until(kinds, one, "is served by two", lambda found: found["status"]["readyReplicas"] == 2)
        assert "trial" not in found["status"], found["status"]
        assert condition(found, "RolledBack")["status"] == "True"
    kinds.change(every["faulty"], {"spec": {"bundle": {"image": "models:a"}}})
    found = until(kinds, every["faulty"], "is as it was", is_served(A))
    assert condition(found, "RolledBack")["status"] == "False"
    assert "refused" not in found["status"]
    kinds.change(every["other"], {"spec": {"bundle": {"revision": B}}})
    until(kinds, every["other"], "serves the other one", is_served(B))


# Of admission, by a policy: a Deployment of the Model that is called denied.
POLICY: Object = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "no-denied"},
    "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": ["apps"],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["deployments"],
                }
            ]
        },
        "validations": [{"expression": "!object.metadata.name.startsWith('denied')", "message": "not on this cluster"}],
    },
}
BINDING: Object = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicyBinding",
    "metadata": {"name": "no-denied"},
    "spec": {"policyName": "no-denied", "validationActions": ["Deny"]},
}
QUOTA: Object = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "no-more"},
    "spec": {"hard": {"count/deployments.apps": "0"}},
}


@pytest.fixture(params=["policy", "quota"])
def refusal(request: pytest.FixtureRequest, kinds: ApiServer) -> Iterator[Refusal]:
    """What an API server does not take, and why."""
    objects = [POLICY, BINDING] if request.param == "policy" else [QUOTA]

    def begin() -> str:
        for one in objects:
            kinds.create(one)
        if request.param == "quota":  # as a controller would
            kinds.change(QUOTA, {"status": {**QUOTA["spec"], "used": {"count/deployments.apps": "0"}}}, "status")
            return "exceeded quota: no-more"
        return "not on this cluster"

    def end() -> None:
        for one in objects:
            kinds.delete(one)

    yield begin, end
    end()


def test_what_the_api_server_does_not_take_is_told_and_tried_again(
    kinds: ApiServer, cluster: Cluster, operator: Operator, refusal: Refusal
) -> None:
    begin, end = refusal
    one = model("denied", "models:a", replicas=1)
    why = begin()
    wait_until("it is refused", lambda: refuses(kinds, why), 20)
    kinds.create(one)
    until_not_taken(kinds, f"Deployment denied: .*{why}")
    assert kinds.find(deployment("denied")) is None
    budget = {**deployment("denied"), "apiVersion": "policy/v1", "kind": "PodDisruptionBudget"}
    assert kinds.find(budget), "what else is to be made is made"
    end()
    until(kinds, one, "is served", is_served(A))
    # Likewise of a change: those that serve stay, and its time goes by.
    begin()
    wait_until("it is refused", lambda: refuses(kinds, why), 20)
    kinds.change(one, {"spec": {"bundle": {"image": "models:b"}}})
    until_not_taken(kinds, f"Deployment denied-trial: .*{why}")
    assert image_of(kinds.get(deployment("denied"))) == "models:a"
    end()
    until(kinds, one, "follows", is_served(B))


def refuses(kinds: ApiServer, why: str) -> bool:
    """Whether it is in force: an API server takes a moment to know of policies and quotas."""
    probe = deployment("denied-probe")
    labels = {"app": "probe"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "it", "image": "it:1"}]}}
    try:
        kinds.would_create(probe | {"spec": {"selector": {"matchLabels": labels}, "template": template}})
    except Answer as answer:
        return why in str(answer)
    return False


def until_not_taken(kinds: ApiServer, note: str) -> None:
    def told() -> bool:
        of = [text for kind, reason, text in events(kinds, "denied") if (kind, reason) == ("Warning", "ApplyFailed")]
        return any(re.search(note, text) for text in of)

    try:
        wait_until(f"an event: {note}", told, 20)
    except StackError as error:
        raise StackError(f"{error}: {events(kinds, 'denied')}") from error


def test_what_has_its_name_already_is_left_alone(kinds: ApiServer, cluster: Cluster, operator: Operator) -> None:
    labels = {"app": "theirs"}
    container = {"name": "it", "image": "theirs:1"}
    theirs = deployment("taken") | {
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        }
    }
    kinds.create(theirs)
    before = kinds.get(theirs)
    one = model("taken", "models:a")
    kinds.create(one)
    found = until(kinds, one, "says so", lambda found: condition(found, "Ready")["reason"] == "NameTaken")
    assert condition(found, "Ready")["message"].startswith("the Deployment taken is there already")
    assert kinds.get(theirs) == before
    until_told(kinds, "taken", "NameTaken")
    kinds.delete(one)
    wait_until("it stays", lambda: kinds.get(theirs) == before, 5)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"metadata": {"name": "with.dot"}}, "no dot"),
        ({"metadata": {"name": "x" * 53}}, "52 characters"),
        ({"metadata": {"name": "my-trial"}}, "must not end in -trial"),
        ({"spec": {"bundle": {"image": "m", "revision": "latest"}}}, "spec.bundle.revision"),
        ({"spec": {"hotPath": {"image": "h", "settings": {"HOTPATH_MODELS": "/"}}}}, "set by the operator itself"),
        ({"spec": {"hotPath": {"image": "h", "settings": {"LD_PRELOAD": "/x"}}}}, "begin with HOTPATH_"),
        ({"spec": {"hotPath": {"image": "h", "processor": "fast"}}}, "spec.hotPath.processor"),
        ({"spec": {"rollout": {"deadlineSeconds": 1}}}, "spec.rollout.deadlineSeconds"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_at_once(kinds: ApiServer, change: Object, why: str) -> None:
    one = model("fine", "models:a")
    kinds.would_create(one)
    part, fields = next(iter(change.items()))
    with pytest.raises(Answer, match=why):
        kinds.would_create(one | {part: one[part] | fields})


def test_defaults_are_those_of_the_document(kinds: ApiServer) -> None:
    one = model("bare", "models:a")
    del one["spec"]["rollout"], one["spec"]["replicas"]
    kinds.create(one)
    spec = kinds.get(one)["spec"]
    kinds.delete(one)
    assert spec["replicas"] == 1
    assert spec["hotPath"]["processor"] == "any"
    assert spec["rollout"] == {
        "observeSeconds": 300,
        "minRequests": 50,
        "maxMoreErrorsPerThousand": 10,
        "maxLatencyPercent": 150,
        "deadlineSeconds": 900,
    }
