"""What is rendered is what Kubernetes takes: by its schemas, and by a real API server with its admission."""

import json
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest

from kube import tools
from kube.api import Answer, ApiServer
from kube.chart import Chart, Object, Rendered, component_of


@pytest.fixture(scope="module")
def conform(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[Object]], str]:
    """What kubeconform has against objects."""
    program = tools.built("kubeconform", "the chart's objects are")
    folder = tmp_path_factory.mktemp("schemas")
    tools.schemas(folder, "the chart's objects are")
    path = tmp_path_factory.mktemp("objects") / "objects.yaml"

    def ask(objects: list[Object]) -> str:
        path.write_text("\n---\n".join(json.dumps(one) for one in objects))
        places = f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
        command = [program, "-strict", "-schema-location", places, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert bool(done.returncode) == bool(done.stdout), done.stderr
        return done.stdout

    return ask


def pods(rendered: Rendered) -> Iterator[Object]:
    """The pods that workloads would make: only of pods does admission refuse what is not restricted."""
    for component, template in rendered.workloads():
        yield {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": component}}


def differ(rendered: list[Rendered]) -> list[Object]:
    """Each object once."""
    return list({json.dumps(one, sort_keys=True): one for each in rendered for one in each.objects}.values())


def test_lint_finds_nothing(chart: Chart) -> None:
    assert "0 chart(s) failed" in chart.lint()


def test_schemas_take_everything(all_rendered: list[Rendered], conform: Callable[[list[Object]], str]) -> None:
    objects = differ(all_rendered)
    assert {one["kind"] for one in objects} >= {
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodMonitor",
        "Job",
    }
    assert conform(objects) == ""


def test_schemas_refuse_what_they_do_not_know(defaults: Rendered, conform: Callable[[list[Object]], str]) -> None:
    misspelt = deepcopy(defaults.named("Deployment", "gateway"))
    misspelt["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    assert "livenesProbe" in conform([misspelt])


def test_an_api_server_takes_everything(server: ApiServer, all_rendered: list[Rendered]) -> None:
    for one in differ(all_rendered):
        server.would_apply(one)


def test_admission_takes_the_pods_as_restricted(server: ApiServer, all_rendered: list[Rendered]) -> None:
    distinct = {json.dumps(pod, sort_keys=True): pod for rendered in all_rendered for pod in pods(rendered)}
    assert {component_of(pod) for pod in distinct.values()} == {"gateway", "hotpath", "collector", "models", "operator"}
    for pod in distinct.values():
        server.would_create(pod)


def test_the_api_server_refuses_what_is_wrong(server: ApiServer, defaults: Rendered) -> None:
    (pod,) = [each for each in pods(defaults) if component_of(each) == "gateway"]
    with_rights = deepcopy(pod)
    with_rights["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(Answer, match=r'403: .*violates PodSecurity "restricted:latest": allowPrivilegeEscalation'):
        server.would_create(with_rights)
    misspelt = deepcopy(defaults.named("Deployment", "gateway"))
    misspelt["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(Answer, match="livenesProbe"):
        server.would_apply(misspelt)


def test_the_api_server_is_of_the_version_that_is_pinned(server: ApiServer) -> None:
    assert server.version() == tools.kubernetes("the API server's version is")["Version"]
