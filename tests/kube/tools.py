"""Helm, kubeconform, etcd and Kubernetes' API server, built from the Go module proxy at the versions of go.mod.

They are built once, into `.cache/kube`: the API server takes minutes, the others a minute together.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import tempfile
from typing import Any

import pytest
import yaml

from stack.description import ROOT

MODULE = ROOT / "tests/kube"
CACHE = ROOT / ".cache/kube"
PACKAGES = {
    "helm": "helm.sh/helm/v4/cmd/helm",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform",
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
}
# Of no program that is built here: its module holds the definitions of the Prometheus operator's resources.
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
POD_MONITORS = "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"
# Types whose JSON is wider than Kubernetes' own OpenAPI says.
WIDER = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


def go(*arguments: str, untested: str) -> str:
    """Run go in the module of the tools, and return what it prints. Where that cannot be, what is then not tested."""
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -mod=readonly".strip()}
    done = subprocess.run(["go", *arguments], cwd=MODULE, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr or done.stdout).strip()[-1000:]
        said = f"`go {' '.join(arguments[:2])}` ended with {done.returncode}: {why}"
        if "CI" in os.environ:
            pytest.fail(said)
        pytest.skip(f"LOUD: {said}\n{untested} NOT tested")
    return done.stdout


def built(name: str, untested: str) -> str:
    """The path of a tool, which is built where there is none of the versions that go.sum has."""
    pinned = hashlib.sha256((MODULE / "go.mod").read_bytes() + (MODULE / "go.sum").read_bytes()).hexdigest()[:12]
    path = CACHE / f"{name}-{pinned}"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            made = pathlib.Path(folder, name)
            flags = f"-s -w -X k8s.io/component-base/version.gitVersion={kubernetes(untested)['Version']}"
            go("build", "-trimpath", f"-ldflags={flags}", "-o", str(made), PACKAGES[name], untested=untested)
            made.rename(path)
    return str(path)


def kubernetes(untested: str) -> dict[str, Any]:
    """What go knows of the module of Kubernetes itself."""
    go("mod", "download", "k8s.io/kubernetes", untested=untested)
    found: dict[str, Any] = json.loads(go("list", "-m", "-json", "k8s.io/kubernetes", untested=untested))
    return found


def pod_monitors(untested: str) -> dict[str, Any]:
    """The definition of PodMonitor. Its hash is what the sum database says."""
    module = json.loads(go("mod", "download", "-json", OPERATOR, untested=untested))
    definition: dict[str, Any] = yaml.safe_load(pathlib.Path(module["Dir"], POD_MONITORS).read_text())
    return definition


def schemas(folder: pathlib.Path, untested: str) -> None:
    """Write kubeconform's schemas, of Kubernetes and of PodMonitor. What they do not name is an error."""
    openapi = pathlib.Path(kubernetes(untested)["Dir"], "api/openapi-spec/swagger.json")
    definitions = json.loads(openapi.read_text())["definitions"] | WIDER
    for definition in definitions.values():
        if definition.get("type") == "object" and "properties" in definition:
            definition.setdefault("additionalProperties", False)
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            schema = {"$ref": f"#/definitions/{name}", "definitions": _with_references(name, definitions)}
            group = kind["group"].split(".")[0]
            _write(folder, kind["kind"], group, kind["version"], schema)
    definition = pod_monitors(untested)["spec"]
    for version in definition["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        _close(schema)
        schema["properties"]["metadata"] = {"type": "object"}
        _write(folder, definition["names"]["kind"], definition["group"].split(".")[0], version["name"], schema)


def _write(folder: pathlib.Path, kind: str, group: str, version: str, schema: dict[str, Any]) -> None:
    name = "-".join(filter(None, (kind.lower(), group, version)))
    (folder / f"{name}.json").write_text(json.dumps(schema))


def _with_references(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A definition with all that it refers to."""
    found: dict[str, Any] = {}
    wanted = [name]
    while wanted:
        one = wanted.pop()
        if one not in found:
            found[one] = definitions[one]
            wanted += _references(found[one])
    return found


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        inner = [name for value in node.values() for name in _references(value)]
        return [*inner, node["$ref"].rsplit("/", 1)[1]] if isinstance(node.get("$ref"), str) else inner
    return [name for value in node for name in _references(value)] if isinstance(node, list) else []


def _close(schema: dict[str, Any]) -> None:
    """Refuse what a schema does not name."""
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
    for inner in [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]:
        if isinstance(inner, dict):
            _close(inner)
