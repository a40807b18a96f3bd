"""A release's life, by Helm itself at a real API server: what an upgrade may not change, it does not."""

import pathlib

import pytest

from kube.api import Answer, ApiServer
from kube.chart import NAMESPACE, RELEASE, Chart, Refused, of

# What a growing service comes to, from the defaults, with the volume that it had.
GROWN = {
    "images": {"tag": "v2"},
    "models": {"from": "job", "names": ["all-minilm-l6-v2"]},
    "gateway": {"tls": "certificate", "admin": "credential", "drain": {"delaySeconds": 9}},
    "database": {"secret": "postgres"},
    "redis": {"secret": "redis"},
    "hotpath": {"autoscaling": {"enabled": True}},
    "collector": {"enabled": True},
    "podMonitor": {"enabled": True},
}

GATEWAY, HOTPATH = of("apps/v1", "Deployment", "gateway"), of("apps/v1", "Deployment", "hotpath")
DATA, POLICY = of("v1", "PersistentVolumeClaim", "data"), of("networking.k8s.io/v1", "NetworkPolicy", "hotpath")


def test_a_release_is_installed_upgraded_and_taken_away(server: ApiServer, chart: Chart, helm: list[str]) -> None:
    notes = chart.release("install", helm)
    assert (
        f"kubectl --namespace {NAMESPACE} exec deploy/{RELEASE}-gateway -- /gateway keys create --tenant acme" in notes
    )
    assert "It is plain HTTP" in notes
    assert "One gateway with the embedded database" in notes
    assert server.get(GATEWAY)["spec"]["strategy"] == {"type": "Recreate"}
    notes = chart.release("upgrade", helm, GROWN)
    assert "It is plain HTTP" not in notes
    assert server.get(GATEWAY)["spec"]["strategy"]["type"] == "Recreate"  # its volume is still one node's
    (container,) = server.get(HOTPATH)["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "triptych-hotpath:v2"
    chart.release("upgrade", helm)  # and back
    assert server.get(HOTPATH)["spec"]["replicas"] == 1
    assert server.get(HOTPATH)["spec"]["template"]["spec"]["containers"][0]["image"] == "triptych-hotpath:latest"
    before = server.get(DATA)["metadata"]["uid"]
    chart.release("uninstall", helm)
    assert "deletionTimestamp" not in server.get(DATA)["metadata"], "keys and files outlast a release"
    for gone in (GATEWAY, HOTPATH, POLICY):
        with pytest.raises(Answer, match="404"):
            server.get(gone)
    chart.release("install", helm)
    assert server.get(DATA)["metadata"]["uid"] == before


def test_without_a_redis_the_notes_say_what_that_means(server: ApiServer, chart: Chart, helm: list[str]) -> None:
    values = {
        "gateway": {"replicas": 3, "persistence": {"enabled": False}},
        "database": {"secret": "postgres"},
        "redis": {"countAlone": True},
    }
    assert "they let through up to 3 times what plans say" in chart.release("install", helm, values)


def test_a_volume_that_is_there_keeps_its_kind(server: ApiServer, chart: Chart, helm: list[str]) -> None:
    """As docs/kubernetes.md warns: from one gateway to several, the volume is another one."""
    chart.release("install", helm)
    shared = {"gateway": {"persistence": {"accessMode": "ReadWriteMany"}}}
    with pytest.raises(Refused, match="spec is immutable"):
        chart.release("upgrade", helm, shared)
    chart.release("upgrade", helm, {"gateway": {"persistence": {"accessMode": "ReadWriteMany", "claim": "shared"}}})


def test_the_packaged_chart_is_the_same(chart: Chart, tmp_path: pathlib.Path) -> None:
    """Two of its files are links into deploy/."""
    assert chart.render(GROWN, chart=chart.package(tmp_path)) == chart.render(GROWN)
