"""Models, as tests want them, and what is said of them."""

from collections.abc import Callable
from typing import Any

from kube.api import ApiServer
from kube.chart import Object
from stack.waiting import StackError, wait_until

LIMIT_S = 60
# As quick as may be: three seconds of watching, and a deadline of the least that is allowed.
QUICK = {"observeSeconds": 3, "minRequests": 20, "deadlineSeconds": 30}


def model(name: str, image: str, *, replicas: int = 2, revision: str = "", rollout: Object | None = None) -> Object:
    bundle = {"name": "minilm", "image": image} | ({"revision": revision} if revision else {})
    hotpath = {"image": "hotpath:1", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
    return {
        "apiVersion": "triptych.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": name},
        "spec": {"bundle": bundle, "replicas": replicas, "hotPath": hotpath, "rollout": {**QUICK, **(rollout or {})}},
    }


def condition(one: Object, kind: str) -> Object:
    found = [each for each in one.get("status", {}).get("conditions", []) if each["type"] == kind]
    return found[0] if found else {"status": "Unknown", "reason": "", "message": ""}


def deployment(name: str) -> Object:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}}


def image_of(one: Any | None) -> str:
    """The bundle's image of a Deployment; empty if there is none."""
    return str(one["spec"]["template"]["spec"]["initContainers"][0]["image"]) if one else ""


def until(server: ApiServer, one: Object, what: str, is_so: Callable[[Any], bool], limit_s: float = LIMIT_S) -> Any:
    """Wait until a Model is so, and return it; the error says how it is."""

    def probe() -> Any | None:
        found = server.get(one)
        return found if is_so(found) else None

    try:
        return wait_until(f"{one['metadata']['name']}: {what}", probe, limit_s, poll_s=0.1)
    except StackError as error:
        raise StackError(f"{error}: {server.get(one).get('status')}") from error


def until_gone(server: ApiServer, name: str) -> None:
    """Wait until there is no Deployment of this name."""
    wait_until(f"Deployment {name} to go", lambda: server.find(deployment(name)) is None, 10)


def is_served(revision: str) -> Callable[[Any], bool]:
    """All replicas serve a revision, and nothing is waited for."""
    return lambda found: (
        found.get("status", {}).get("revision") == revision
        and found["status"]["observedGeneration"] == found["metadata"]["generation"]
        and condition(found, "Ready")["status"] == "True"
        and condition(found, "Progressing")["status"] == "False"
    )


def is_refused(reason: str) -> Callable[[Any], bool]:
    return lambda found: (
        condition(found, "RolledBack")["status"] == "True" and found["status"]["refused"]["reason"] == reason
    )


def events(server: ApiServer, name: str) -> list[tuple[str, str, str]]:
    """Type, reason and text of what happened to a Model, oldest first."""
    found = [each for each in server.list("events.k8s.io/v1", "Event") if each["regarding"]["name"] == name]
    found.sort(key=lambda each: each["eventTime"])
    return [(each["type"], each["reason"], each["note"]) for each in found]


def until_event(server: ApiServer, name: str, event: tuple[str, str, str]) -> None:
    wait_until(f"{event} of {name}", lambda: event in events(server, name), 10, poll_s=0.1)


def until_told(server: ApiServer, name: str, *reasons: str) -> None:
    """Wait until this is all that happened to a Model: events are written beside what they tell."""

    def told() -> list[str]:
        return [reason for _, reason, _ in events(server, name)]

    try:
        wait_until(f"events of {name}", lambda: told() == list(reasons), 10, poll_s=0.1)
    except StackError as error:
        raise StackError(f"{error}: {told()}") from error
