"""The chart's Role is enough for all that the operator does, and no rule of it is there for nothing."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from kube.api import ACCOUNT_TOKEN, ApiServer
from kube.chart import NAMESPACE, RELEASE, Chart, Rendered
from kube.cluster import Cluster, Image
from kube.models import is_served, model, until
from kube.operator import applied
from kube.tenants import Place, config_map, plans, secret, tenant
from stack.waiting import StackError, wait_until

VALUES = {"models": {"from": "operator"}, "operator": {"tenants": True}, "gateway": {"admin": "credential"}}
A, B = "a" * 16, "b" * 16
# A verb for a resource; the name, where the rule has one.
Right = tuple[str, str, str, str]


@pytest.fixture(scope="module")
def rendered(chart: Chart) -> Rendered:
    return chart.render(VALUES)


@pytest.fixture
def place(kinds: ApiServer, rendered: Rendered, tmp_path: pathlib.Path, native_only: None) -> Iterator[Place]:
    """The operator as its service account, with the chart's Role."""
    place = Place(kinds, tmp_path, ACCOUNT_TOKEN)
    images = {"models:a": Image(A), "models:b": Image(B)}
    needed = rendered.of_kind("Role", "RoleBinding", "Lease")
    with applied(kinds, needed), Cluster(kinds, images, lambda _, figures: figures.answer(5)):
        try:
            place.start()
            yield place
        finally:
            place.end()


def granted(rendered: Rendered) -> set[Right]:
    (role,) = rendered.of_kind("Role")
    return {
        (group, resource, verb, name)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def used(record: Any) -> set[Right]:
    """What one request took, by any name and by its own."""
    of = record["objectRef"]
    resource = of["resource"] + (f"/{of['subresource']}" if "subresource" in of else "")
    verbs = [record["verb"]] + (["create"] if record["responseStatus"]["code"] == 201 else [])  # by server-side apply
    return {(of.get("apiGroup", ""), resource, verb, name) for verb in verbs for name in ("", of.get("name", ""))}


def test_the_role_is_the_operators_accounts_and_in_its_namespace(rendered: Rendered) -> None:
    assert rendered.of_kind("ClusterRole", "ClusterRoleBinding") == []
    (binding,), (role,) = rendered.of_kind("RoleBinding"), rendered.of_kind("Role")
    account = f"{RELEASE}-operator"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"] == account
    assert not any("*" in rule[part] for rule in role["rules"] for part in ("apiGroups", "resources", "verbs"))
    pods = {component: template["spec"] for component, template in rendered.workloads()}
    assert {component for component, pod in pods.items() if pod["automountServiceAccountToken"]} == {"operator"}
    assert {component for component, pod in pods.items() if "serviceAccountName" in pod} == {"operator"}
    assert pods["operator"]["serviceAccountName"] == account


def test_the_role_is_enough_and_each_right_of_it_is_used(
    place: Place, rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_through(place)
    # An API server that is older than this one has no watches that begin with what there is: it is asked for lists.
    assert place.operator.stop() == 0
    monkeypatch.setenv("KUBE_FEATURE_WatchListClient", "false")
    place.operator.start()

    def unused() -> list[Right]:
        taken = {right for each in asked_of(place) for right in used(each)}
        return sorted(granted(rendered) - taken)

    with contextlib.suppress(StackError):  # the assertion says which are left
        wait_until("each right is used", lambda: not unused(), 30)
    assert unused() == [], "rights that nothing needs"
    asked = asked_of(place)
    refused = {str(each["objectRef"]) for each in asked if each["responseStatus"]["code"] == 403}
    assert refused == set()
    elsewhere = {each["objectRef"].get("namespace") for each in asked} - {NAMESPACE, None}
    assert elsewhere == set()


def asked_of(place: Place) -> list[Any]:
    return [each for each in place.server.asked() if "objectRef" in each]


def live_through(place: Place) -> None:
    """All that the operator does: a Model with a change, and a Tenant with each thing that becomes of a key."""
    server = place.server
    one = model("rights", "models:a")
    server.create(one)
    until(server, one, "is served", is_served(A))
    server.change(one, {"spec": {"bundle": {"image": "models:b"}}})
    until(server, one, "follows", is_served(B))
    acme = tenant("acme", secret="acme-key")
    server.create(acme)
    place.until_ready(acme)
    server.change(acme, {"spec": {"key": {"scopes": ["class:batch"]}}})
    place.until_ready(acme)
    server.delete(secret("acme-key"))
    wait_until("another key", lambda: place.keys("acme-key"), 30)
    place.until_ready(acme)
    server.change(acme, {"spec": {"key": {"scopes": None}}})
    place.until_ready(acme)  # with two keys, which are revoked in the end: an event that is told twice
    server.apply(plans("plans: {huge: {requests_per_minute: 1}}"))
    place.until_told(acme, "PlanUnknown")
    server.delete(config_map(f"{RELEASE}-tenants-file"))
    wait_until("the file is made again", lambda: server.find(config_map(f"{RELEASE}-tenants-file")), 30)
    server.delete(acme)
    wait_until("the tenant is gone", lambda: server.find(acme) is None, 30)
    server.delete(one)
