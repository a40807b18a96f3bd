"""What a cluster does of itself, as far as the operator sees it: Deployments get pods, and what has no owner goes.

There are no nodes. Each pod has a hot path of the tests at an address of this machine, and is as the image of its
bundle is to be.
"""

import hashlib
import itertools
import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from kube.api import Answer, ApiServer
from kube.chart import Object
from kube.hotpaths import Figures, HotPath, Runs, Work

TICK_S = 0.1
TEMPLATE = "tests/template"


@dataclass
class Image:
    """How hot paths are whose bundle is of an image."""

    revision: str
    # Golden cases come out.
    works: bool = True


Load = Callable[[Object, Work], None]


def pretends(ip: str, model: str, image: Image) -> HotPath:
    """What runs in pods, unless tests want something else."""
    hotpath = HotPath(ip, model, image.revision)
    hotpath.start()
    return hotpath


class Cluster:
    """As a context. `images` says how pods are, by their bundle's image; `load` what comes to each ready one a tick."""

    def __init__(
        self,
        server: ApiServer,
        images: dict[str, Image],
        load: Load | None = None,
        start: Callable[[str, str, Image], Runs] = pretends,
    ) -> None:
        self._server, self.images, self.load, self._start = server, images, load, start
        self.hotpaths: dict[str, Runs] = {}
        # The fewest pods that were ready at any time, by Deployment, since it was looked at last.
        self.least: dict[str, int] = {}
        chosen = random.Random()
        self._addresses = (
            f"127.{a}.{b}.{n}" for a, b in [(chosen.randint(1, 254), chosen.randint(0, 255))] for n in range(1, 255)
        )
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._lock = threading.Lock()
        self.fault: Exception | None = None

    def __enter__(self) -> "Cluster":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        for each in self.hotpaths.values():
            each.stop()
        for version, kind in OURS:
            for one in self._server.list(version, kind):
                self._server.delete(one)
        assert self.fault is None, self.fault

    def pods(self, model: str, part: str = "") -> list[Object]:
        wanted = f"triptych.dev/model={model}" + (f",triptych.dev/part={part}" if part else "")
        return self._server.list("v1", "Pod", wanted)

    def hotpath(self, pod: Object) -> HotPath:
        """That of a pod, where it only pretends."""
        hotpath = self.hotpaths[pod["metadata"]["name"]]
        assert isinstance(hotpath, HotPath)
        return hotpath

    def restart(self, pod: Object) -> None:
        """The process of a pod ends, and another one begins in it."""
        with self._lock:
            self.hotpath(pod).figures = Figures()
            self._status(pod, ready=True, restarts=1)

    def _run(self) -> None:
        while not self._stopping.wait(TICK_S):
            try:
                with self._lock:
                    self._tick()
            except httpx.TransportError:
                pass  # the API server is away
            except Answer as answer:  # what was changed or deleted in the meantime
                if str(answer)[:3] not in ("404", "409", "503", "500", "429"):
                    self.fault = answer
            except Exception as fault:
                self.fault = fault

    def _tick(self) -> None:
        models = {each["metadata"]["uid"] for each in self._server.list("triptych.dev/v1alpha1", "Model")}
        pods = self._server.list("v1", "Pod", "app.kubernetes.io/component=hotpath")
        deployments = {}
        for each in self._server.list("apps/v1", "Deployment", "triptych.dev/model"):
            if _owner(each) in models:
                deployments[each["metadata"]["uid"]] = each
            else:
                self._server.delete(each)
        for pod in pods:
            if _owner(pod) not in deployments:
                self._end(pod)
        for uid, deployment in deployments.items():
            mine = [pod for pod in pods if _owner(pod) == uid]
            self._roll(deployment, mine)
        for pod in pods:
            if self.load and pod["metadata"]["name"] in self.hotpaths and _is_ready(pod):
                self.load(pod, self.hotpaths[pod["metadata"]["name"]].work)

    def _roll(self, deployment: Object, pods: list[Object]) -> None:
        """One step towards a Deployment's template, with one more than are wanted at most, and no fewer ready."""
        spec, name = deployment["spec"], deployment["metadata"]["name"]
        wanted, template = spec["replicas"], _hash(spec["template"])
        for pod in pods:
            self._run_pod(pod)
        new = [pod for pod in pods if pod["metadata"]["annotations"][TEMPLATE] == template]
        old = [pod for pod in pods if pod not in new]
        ready = [pod for pod in pods if _is_ready(pod)]
        self.least[name] = min(self.least.get(name, len(ready)), len(ready))
        ends: list[Object] = []
        if spec["strategy"]["type"] == "Recreate":
            ends, most = old, wanted if not old else 0
        else:
            most = wanted + 1 - len(old)
            ends = [pod for pod in old if not _is_ready(pod) or len(ready) > wanted][:1]
        ends = [*ends, *new[wanted:]]
        for pod in ends:
            self._end(pod)
        if len(new) < min(wanted, most):
            self._make(deployment, template)
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(pods),
            "updatedReplicas": len(new),
            "readyReplicas": len(ready),
            "availableReplicas": len(ready),
        }
        if {key: deployment.get("status", {}).get(key, 0) for key in status} != status:
            self._server.change(deployment, {"status": status}, "status")

    def _make(self, deployment: Object, template: str) -> None:
        made = deployment["spec"]["template"]
        owner = {key: deployment[key] for key in ("apiVersion", "kind")}
        owner |= {"name": deployment["metadata"]["name"], "uid": deployment["metadata"]["uid"], "controller": True}
        metadata = {
            "name": f"{deployment['metadata']['name']}-{next(self._numbers)}",
            "labels": made["metadata"]["labels"],
            "annotations": {TEMPLATE: template},
            "ownerReferences": [owner],
        }
        self._server.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made["spec"]})

    def _run_pod(self, pod: Object) -> None:
        """Have a pod run, and be ready if it is to be."""
        name, image = pod["metadata"]["name"], self.images[pod["spec"]["initContainers"][0]["image"]]
        if name not in self.hotpaths:
            (model,) = [
                each["value"] for each in pod["spec"]["containers"][0]["env"] if each["name"] == "HOTPATH_MODEL_NAMES"
            ]
            self.hotpaths[name] = self._start(next(self._addresses), model, image)
        works = image.works and self.hotpaths[name].is_ready()
        if _is_ready(pod) != works or "podIP" not in pod["status"]:
            self._status(pod, ready=works)

    def _status(self, pod: Object, *, ready: bool, restarts: int = 0) -> None:
        ip = self.hotpaths[pod["metadata"]["name"]].ip
        container = {"name": "hotpath", "ready": ready, "restartCount": restarts, "image": "", "imageID": ""}
        status = {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [container],
        }
        self._server.change(pod, {"status": status}, "status")

    def _end(self, pod: Object) -> None:
        self._server.delete(pod)
        hotpath = self.hotpaths.pop(pod["metadata"]["name"], None)
        if hotpath:
            hotpath.stop()


OURS = [
    ("triptych.dev/v1alpha1", "Model"),
    ("apps/v1", "Deployment"),
    ("v1", "Pod"),
    ("policy/v1", "PodDisruptionBudget"),
    ("events.k8s.io/v1", "Event"),
]


def _owner(one: Object) -> str:
    owners: list[str] = [each["uid"] for each in one["metadata"].get("ownerReferences", []) if each.get("controller")]
    return owners[0] if owners else ""


def _hash(template: Object) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:12]


def _is_ready(pod: Object) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
