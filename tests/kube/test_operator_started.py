"""The operator's program, started as its rendered pod says, at a real API server."""

import pathlib
import secrets
from collections.abc import Iterator

import pytest

from kube.api import ACCOUNT_TOKEN, ApiServer
from kube.chart import RELEASE, Chart, Rendered
from kube.cluster import Cluster, Image
from kube.models import is_served, model, until
from kube.operator import LEASE, applied
from kube.pods import Node, Pod, start
from kube.tenants import FILE, config_map, is_ready, secret, tenant
from stack.loopback import HOST, free_port
from stack.waiting import wait_until

OPERATED = {"models": {"from": "operator"}, "operator": {"tenants": True}, "gateway": {"admin": "credential"}}


@pytest.fixture
def granted(kinds: ApiServer, chart: Chart) -> Iterator[Rendered]:
    """What the operator's pod needs of the release, without which it may nothing."""
    rendered = chart.render(OPERATED)
    with applied(kinds, rendered.of_kind("Role", "RoleBinding", "ConfigMap", "Lease")):
        yield rendered
    acme = tenant("acme")
    if kinds.find(acme):
        kinds.change(acme, {"metadata": {"finalizers": None}})
    for one in [acme, secret("acme-key"), config_map(FILE)]:
        kinds.delete(one)


def test_an_operator_does_its_work_and_gives_its_lease_back(
    kinds: ApiServer, granted: Rendered, started: list[Pod], tmp_path: pathlib.Path
) -> None:
    """As its service account, whose credential a kubelet mounts at a path that is not to be made on this machine."""
    credential = tmp_path / "kubeconfig"
    credential.write_text(kinds.kubeconfig(ACCOUNT_TOKEN))
    known = {"credential": {"token": secrets.token_hex(32)}}
    node = Node(granted, tmp_path, known)
    admin = node.services[f"{RELEASE}-admin:9466"] = f"{HOST}:{free_port()}"
    operator = start(node, "operator", started, OPERATOR_KUBECONFIG=str(credential))
    operator.wait_ready()
    minilm, acme = model("started", "models:a"), tenant("acme", secret="acme-key")
    with Cluster(kinds, {"models:a": Image("a" * 16)}):
        kinds.create(minilm)
        kinds.create(acme)
        until(kinds, minilm, "is served", is_served("a" * 16))
        # A kubelet starts gateways once what they mount is there.
        made = wait_until("the tenants file", lambda: kinds.find(config_map(FILE)), 30)
        folder = tmp_path / "another"
        folder.mkdir()
        mounted = Node(Rendered(granted.values, [*granted.objects, made]), folder, known)
        start(mounted, "gateway", started, GATEWAY_ADMIN_ADDRESS=admin)
        until(kinds, acme, "is ready", is_ready)
        assert kinds.get(secret("acme-key"))["data"].keys() == {"key"}
        assert operator.probe("readiness")
        assert operator.probe("liveness")
        operator.terminate()
        operator.wait_for_end()
    assert kinds.get(LEASE)["spec"]["holderIdentity"] == ""
