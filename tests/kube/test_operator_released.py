"""A release that goes to the operator's hot paths and back, by Helm itself at a real API server."""

import pathlib

import pytest

from kube.api import ACCOUNT_TOKEN, ApiServer
from kube.chart import RELEASE, Chart, Refused, of, selects
from kube.cluster import Cluster, Image
from kube.models import deployment, is_served, model, until, until_gone
from kube.operator import LEASE, Operator
from kube.tenants import FILE, config_map, tenant
from stack.waiting import wait_until

OPERATED = {"models": {"from": "operator"}}
A = "a" * 16
# All kinds that a release or its operator makes objects of, but those whose owner is one of them.
MADE = [
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("coordination.k8s.io/v1", "Lease"),
]
HOTPATH, SERVICE = of("apps/v1", "Deployment", "hotpath"), of("v1", "Service", "hotpath")
BUDGET = of("policy/v1", "PodDisruptionBudget", "hotpath")


def what_there_is(server: ApiServer) -> set[str]:
    found = {f"{kind} {one['metadata']['name']}" for version, kind in MADE for one in server.list(version, kind)}
    return {each for each in found if f" {RELEASE}-" in each or " minilm" in each}


def test_hot_paths_go_to_the_operator_and_back_without_a_gap(
    kinds: ApiServer, chart: Chart, helm: list[str], tmp_path: pathlib.Path
) -> None:
    """By the steps of docs/kubernetes.md."""
    kinds.delete(LEASE)  # other tests' operators have made it
    chart.release("install", helm)
    of_chart = what_there_is(kinds)
    kinds.change(HOTPATH, {"metadata": {"annotations": {"helm.sh/resource-policy": "keep"}}})
    before = kinds.get(HOTPATH)
    chart.release("upgrade", helm, OPERATED)
    assert kinds.get(HOTPATH)["spec"] == before["spec"]
    assert kinds.find(BUDGET) is None, "of a pod that two budgets are over, none is evicted"
    one = model("minilm", "models:a")
    with Cluster(kinds, {"models:a": Image(A)}) as cluster:
        with Operator(kinds, tmp_path, token=ACCOUNT_TOKEN) as operator:
            kinds.create(one)
            until(kinds, one, "is served", is_served(A))
            to = {"matchLabels": kinds.get(SERVICE)["spec"]["selector"]}
            pods = [before["spec"]["template"], *cluster.pods("minilm")]
            assert [selects(to, pod["metadata"]["labels"]) for pod in pods] == [True] * 3
            kinds.delete(HOTPATH)
            assert operator.stop() == 0
        serves = kinds.get(deployment("minilm"))
        assert what_there_is(kinds) - of_chart
        chart.release("upgrade", helm)
        assert what_there_is(kinds) == of_chart | {"Deployment minilm", "PodDisruptionBudget minilm"}
        assert "helm.sh/resource-policy" not in kinds.get(HOTPATH)["metadata"].get("annotations", {})
        found = kinds.get(deployment("minilm"))
        assert (found["metadata"]["uid"], found["spec"]) == (serves["metadata"]["uid"], serves["spec"])
        budget = kinds.get({**BUDGET, "metadata": {"name": "minilm"}})
        for owned in (found, budget):
            assert owned["metadata"]["ownerReferences"][0]["uid"] == kinds.get(one)["metadata"]["uid"]
        kinds.delete(one)
        until_gone(kinds, "minilm")
        kinds.delete(budget)  # a cluster's garbage collector does
        assert what_there_is(kinds) == of_chart
    chart.release("uninstall", helm)
    assert what_there_is(kinds) == set()


def test_a_step_to_the_operator_alone_ends_the_charts_hot_paths(
    kinds: ApiServer, chart: Chart, helm: list[str]
) -> None:
    """Which is why docs/kubernetes.md has more of them."""
    kinds.delete(LEASE)
    chart.release("install", helm)
    chart.release("upgrade", helm, OPERATED)
    assert kinds.find(HOTPATH) is None


def test_a_model_with_a_name_of_the_charts_is_never_taken_over(
    kinds: ApiServer, chart: Chart, helm: list[str], tmp_path: pathlib.Path
) -> None:
    kinds.delete(LEASE)
    chart.release("install", helm, OPERATED)
    one = model(f"{RELEASE}-hotpath", "models:a", replicas=1)
    with Cluster(kinds, {"models:a": Image(A)}), Operator(kinds, tmp_path, token=ACCOUNT_TOKEN):
        kinds.create(one)
        until(kinds, one, "is served", is_served(A))
        before = kinds.get(HOTPATH)
        with pytest.raises(Refused, match="invalid ownership metadata"):
            chart.release("upgrade", helm)
        assert kinds.get(HOTPATH)["spec"] == before["spec"]
        kinds.delete(one)
        until_gone(kinds, f"{RELEASE}-hotpath")
    chart.release("upgrade", helm)


def test_the_file_of_tenants_outlasts_the_release(
    kinds: ApiServer, chart: Chart, helm: list[str], tmp_path: pathlib.Path
) -> None:
    """As docs/operator.md warns: gateways that still run have it mounted."""
    kinds.delete(LEASE)
    operated = OPERATED | {"operator": {"tenants": True}, "gateway": {"admin": "credential"}}
    chart.release("install", helm, operated)
    acme = tenant("acme")
    arguments = [f"--tenants={FILE}", f"--plans={RELEASE}-plans", "--admin-url=http://127.0.0.1:1"]
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    with Operator(kinds, tmp_path, *arguments, f"--admin-token-file={token}", token=ACCOUNT_TOKEN) as operator:
        kinds.create(acme)
        file = wait_until("the tenants file", lambda: kinds.find(config_map(FILE)), 30)
        assert operator.stop() == 0
    chart.release("upgrade", helm)
    assert kinds.get(config_map(FILE))["data"] == file["data"]
    assert "finalizers" not in kinds.get(acme)["metadata"], "one without a key is not waited for"
    kinds.delete(acme)
    chart.release("uninstall", helm)
    assert what_there_is(kinds) == {f"ConfigMap {FILE}"}
    kinds.delete(config_map(FILE))
