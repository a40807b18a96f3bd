"""The chart, rendered by Helm; and what is in what it renders."""

import json
import pathlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from stack.description import ROOT

CHART = ROOT / "deploy/chart"
PRODUCTION = CHART / "production.yaml"
RELEASE, NAMESPACE = "demo", "somewhere"
Values = dict[str, Any]
Object = dict[str, Any]


class Refused(Exception):  # noqa: N818
    """What Helm says of values that it does not render."""


@dataclass(frozen=True)
class Rendered:
    """Values, and the objects that come of them."""

    values: Values
    objects: list[Object]

    def of_kind(self, *kinds: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] in kinds]

    def named(self, kind: str, component: str) -> Object:
        """The object of a kind that is a component's."""
        (found,) = [each for each in self.of_kind(kind) if each["metadata"]["name"] == f"{RELEASE}-{component}"]
        return found

    def workloads(self) -> Iterator[tuple[str, Object]]:
        """Each component that has pods, with their template."""
        for each in self.of_kind("Deployment", "Job"):
            yield component_of(each), each["spec"]["template"]


class Chart:
    def __init__(self, helm: str, folder: pathlib.Path) -> None:
        self._helm = helm
        self._values = folder / "values.json"
        self._env = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}

    def lint(self, *arguments: str) -> str:
        return self._run("lint", "--strict", str(CHART), *arguments)

    def render(
        self,
        values: Values | None = None,
        *arguments: str,
        release: str = RELEASE,
        files: Sequence[pathlib.Path] = (),
        chart: pathlib.Path = CHART,
    ) -> Rendered:
        """What Helm would install; Refused where it would not."""
        self._values.write_text(json.dumps(values or {}))
        laid = [f"--values={path}" for path in (*files, self._values)]
        text = self._run("template", release, str(chart), f"--namespace={NAMESPACE}", *laid, *arguments)
        return Rendered(values or {}, [each for each in yaml.safe_load_all(text) if each])

    def package(self, folder: pathlib.Path) -> pathlib.Path:
        """The archive that a repository of charts would have."""
        self._run("package", str(CHART), f"--destination={folder}")
        (archive,) = folder.glob("*.tgz")
        return archive

    def release(self, verb: str, server: Sequence[str], values: Values | None = None) -> str:
        """Install, upgrade or uninstall a release for real, and return what Helm says."""
        self._values.write_text(json.dumps(values or {}))
        what = [] if verb == "uninstall" else [str(CHART), f"--values={self._values}"]
        # Without values, an upgrade would take those of before.
        what += ["--reset-values"] if verb == "upgrade" else []
        return self._run(verb, RELEASE, *what, f"--namespace={NAMESPACE}", *server)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([self._helm, *arguments], env=self._env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(done.stdout + done.stderr)
        return done.stdout


def component_of(one: Object) -> str:
    name: str = one["metadata"]["labels"]["app.kubernetes.io/component"]
    return name


def containers(template: Object) -> list[Object]:
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def environment(container: Object) -> dict[str, str]:
    """The variables whose values are in the object itself."""
    return {each["name"]: each["value"] for each in container.get("env", []) if "value" in each}


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a selector of labels, of which the chart has one kind alone, selects."""
    assert selector.keys() <= {"matchLabels"}, selector
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def of(api: str, kind: str, component: str) -> Object:
    """An object of the release, by what it is called."""
    return {"apiVersion": api, "kind": kind, "metadata": {"name": f"{RELEASE}-{component}", "namespace": NAMESPACE}}
