"""What the chart is checked with, and everything that is rendered of it."""

from collections.abc import Iterator
from functools import partial

import pytest
import yaml

from e2e.databases import chance
from kube import tools
from kube.api import ApiServer
from kube.chart import CHART, NAMESPACE, PRODUCTION, Chart, Object, Rendered
from kube.pods import Pod
from kube.values import drawn
from stack.waiting import wait_until

COMBINATIONS = 60


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Chart:
    helm = tools.built("helm", "the chart is")
    return Chart(helm, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def defaults(chart: Chart) -> Rendered:
    return chart.render()


@pytest.fixture(scope="session")
def production(chart: Chart) -> Rendered:
    return chart.render(files=(PRODUCTION,))


@pytest.fixture(scope="session")
def all_rendered(chart: Chart, defaults: Rendered, production: Rendered) -> list[Rendered]:
    """The named examples, and combinations of a seed that a failure shows; TEST_SEED repeats it."""
    choose = chance()
    return [defaults, production, *(chart.render(drawn(choose)) for _ in range(COMBINATIONS))]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    untested = "that an API server takes the chart is"
    etcd, program = (tools.built(name, untested) for name in ("etcd", "kube-apiserver"))
    monitors = tools.pod_monitors(untested)
    with ApiServer(etcd, program, tmp_path_factory.mktemp("api")) as server:
        labels = {f"pod-security.kubernetes.io/{what}": "restricted" for what in ("enforce", "warn")}
        server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
        server.create(monitors)
        wait_until("PodMonitor", partial(established, server, monitors), 30)
        yield server


@pytest.fixture(scope="session")
def kinds(server: ApiServer) -> ApiServer:
    """A server that knows the operator's kinds."""
    definitions = [yaml.safe_load(path.read_text()) for path in sorted((CHART / "crds").glob("*.yaml"))]
    for each in definitions:
        server.apply(each)  # a release may have been installed before
        wait_until(each["metadata"]["name"], partial(established, server, each), 30)
    return server


def established(server: ApiServer, definition: Object) -> bool:
    conditions = server.get(definition)["status"].get("conditions") or []
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


@pytest.fixture
def started(native_only: None) -> Iterator[list[Pod]]:
    """What was started, and is not left behind."""
    pods: list[Pod] = []
    yield pods
    for pod in pods:
        if pod.process and pod.process.returncode is None:
            pod.process.kill()


@pytest.fixture
def helm(server: ApiServer, chart: Chart) -> Iterator[list[str]]:
    """What Helm is told; no release is left behind."""
    yield server.for_helm()
    chart.release("uninstall", [*server.for_helm(), "--ignore-not-found"])
