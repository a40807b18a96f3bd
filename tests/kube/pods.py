"""Containers of rendered pods as processes of this machine, with what the pods give them and nothing else."""

import functools
import json
import math
import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import Any

import httpx

from kube.chart import Object, Rendered
from stack.description import ROOT
from stack.loopback import HOST, free_port
from stack.native import GATEWAY, HOTPATH, onnxruntime_library
from stack.process import Process
from stack.waiting import wait_until

PROGRAMS = {
    "gateway": GATEWAY,
    "hotpath": HOTPATH,
    "collector": ROOT / "go-gateway/bin/collector",
    "operator": ROOT / "go-gateway/bin/operator",
}
# What images have where they are built, and this machine elsewhere.
OF_IMAGES = {"/usr/local/lib/libonnxruntime.so": str(onnxruntime_library())}
READY_LIMIT_S = 90


class Node:
    """Has what pods refer to: secrets, volumes, and where services lead."""

    def __init__(self, rendered: Rendered, folder: pathlib.Path, secrets: Mapping[str, Mapping[str, str]]) -> None:
        self.rendered = rendered
        self.folder = folder
        self.secrets = secrets
        self.services: dict[str, str] = {}  # name:port → where it is here

    def volume(self, name: str) -> pathlib.Path:
        """The folder of a volume that is no pod's own."""
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path


class Pod:
    """A pod's container, once it runs."""

    def __init__(self, node: Node, component: str) -> None:
        self._node = node
        template = dict(node.rendered.workloads())[component]
        self.grace_s: int = template["spec"]["terminationGracePeriodSeconds"]
        (self.container,) = template["spec"]["containers"]
        self._folders = {
            mount["mountPath"]: self._mount(volume, mount["name"])
            for mount in self.container["volumeMounts"]
            for volume in template["spec"]["volumes"]
            if volume["name"] == mount["name"]
        }
        self.ports = {port["name"]: free_port() for port in self.container["ports"]}
        self._here = {port["containerPort"]: self.ports[port["name"]] for port in self.container["ports"]}
        for service in node.rendered.of_kind("Service"):
            if service["spec"]["selector"]["app.kubernetes.io/component"] == component:
                (port,) = service["spec"]["ports"]
                here = self.ports[port["targetPort"]]
                node.services[f"{service['metadata']['name']}:{port['port']}"] = f"{HOST}:{here}"
        dockerfile = (ROOT / f"deploy/{component}.Dockerfile").read_text()
        entrypoint = json.loads(re.findall(r"^ENTRYPOINT (.+)$", dockerfile, re.M)[-1])
        assert entrypoint == [f"/{component}"]
        of_image = dict(re.findall(r"^ENV (\w+)=(\S+)$", dockerfile.rsplit("\nFROM ", 1)[1], re.M))
        self.env = {name: self.here(value) for name, value in of_image.items()}
        self.env |= {each["name"]: self._value(each) for each in self.container.get("env", [])}
        self._program = PROGRAMS[component]
        self._name = component
        self.process: Process | None = None

    def start(self, **more: str) -> None:
        """Start it, with further variables for what a container has to itself and this machine has not, as a port."""
        self.env |= more
        command = [*self.command(), *(self.here(argument) for argument in self.container["args"])]
        self.process = Process(self._name, command, self._node.folder / f"{self._name}.log", {})

    def command(self) -> list[str]:
        """Its program, with its environment and nothing else in it."""
        return ["env", "-i", *(f"{name}={value}" for name, value in self.env.items()), str(self._program)]

    def run(self, *arguments: str) -> str:
        """What a command says that `kubectl exec` would run."""
        done = subprocess.run([*self.command(), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def probe(self, kind: str) -> bool:
        """What a kubelet finds."""
        assert self.process is not None
        self.process.check_alive()
        asked = self.container[f"{kind}Probe"]
        if "exec" in asked:
            program, *arguments = asked["exec"]["command"]
            assert program == f"/{self._name}"
            here = [*self.command(), *arguments, "--address", f"{HOST}:{self.ports['otlp']}"]
            return subprocess.run(here, capture_output=True, check=False).returncode == 0
        try:
            url = f"http://{HOST}:{self.ports[asked['httpGet']['port']]}{asked['httpGet']['path']}"
            return httpx.get(url, timeout=asked.get("timeoutSeconds", 1)).status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self) -> None:
        """Wait as a kubelet does: until it has started, and then until it is ready."""
        kinds = [kind for kind in ("startup", "liveness", "readiness") if f"{kind}Probe" in self.container]
        for kind in kinds:
            wait_until(f"the {kind} probe of {self._name}", functools.partial(self.probe, kind), READY_LIMIT_S)

    def here(self, text: str) -> str:
        """A text in which what the pod has to itself is what it is on this machine."""
        for there, path in {**OF_IMAGES, **self._folders}.items():
            text = re.sub(rf"(?<!\S){re.escape(there)}(?=/|$)", str(path), text)
        for there, address in self._node.services.items():
            text = text.replace(there, address)
        text = re.sub(r"^(?:0\.0\.0\.0|127\.0\.0\.1):(\d+)$", self._address, text)
        return HOST if text == "0.0.0.0" else text  # noqa: S104

    def _address(self, there: re.Match[str]) -> str:
        port = int(there[1])
        if port not in self._here:  # on loopback, for who is let in to the pod
            self._here[port] = free_port()
        return f"{HOST}:{self._here[port]}"

    def _value(self, variable: Object) -> str:
        if "value" in variable:
            return self.here(variable["value"])
        source: dict[str, Any] = variable["valueFrom"]
        if "secretKeyRef" in source:
            return self._node.secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
        assert source["resourceFieldRef"]["resource"] == "requests.cpu"
        cpu: str = self.container["resources"]["requests"]["cpu"]
        return str(math.ceil(int(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)))

    def _mount(self, volume: Object, name: str) -> pathlib.Path:
        if "configMap" in volume:
            found = [
                one
                for one in self._node.rendered.of_kind("ConfigMap")
                if one["metadata"]["name"] == volume["configMap"]["name"]
            ]
            return self._filled(name, found[0]["data"], 0o644)
        if "secret" in volume:
            return self._filled(
                name, self._node.secrets[volume["secret"]["secretName"]], volume["secret"]["defaultMode"]
            )
        return self._node.volume(name)

    def _filled(self, name: str, files: Mapping[str, str], mode: int) -> pathlib.Path:
        """As a kubelet does it: each file is a link to one that it replaces."""
        folder = self._node.volume(name)
        (folder / "..data").mkdir()
        for file, text in files.items():
            (folder / "..data" / file).write_text(text)
            (folder / "..data" / file).chmod(mode)
            (folder / file).symlink_to(pathlib.Path("..data", file))
        return folder

    def terminate(self) -> None:
        assert self.process is not None
        self.process.signal(signal.SIGTERM)

    def wait_for_end(self) -> None:
        """It ends by itself, before it would be killed, and says that nothing was cut off."""
        assert self.process is not None
        began = time.monotonic()
        assert self.process.wait() == 0
        assert time.monotonic() - began < self.grace_s


def start(node: Node, component: str, started: list[Pod], **more: str) -> Pod:
    """Start a component's pod, and add it to what was started, with more variables than it has."""
    pod = Pod(node, component)
    started.append(pod)
    pod.start(**more)
    return pod
