"""The stack in containers: deploy/compose.yaml on the machine's own engine."""

import contextlib
import io
import os
import re
import socket
import subprocess
import tarfile
from collections.abc import Sequence
from types import TracebackType

import docker
from docker.models.containers import Container

from stack.description import ROOT, Stack
from stack.native import FREE_PORTS
from stack.waiting import StackError

COMPOSE_FILE = ROOT / "deploy/compose.yaml"
GRPC_FILE = ROOT / "deploy/compose.grpc.yaml"
# Listeners inside the containers; which ports of this machine lead there is for the engine to say.
LISTENERS = {
    "http": ("gateway", 8080),
    "gateway_metrics": ("gateway", 9464),
    "grpc": ("hotpath", 50051),
    "hotpath_metrics": ("hotpath", 9465),
}


def source_version() -> dict[str, str]:
    """What the images are built from, as variables of compose.yaml; nothing where this is no clone."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {
            "IMAGE_VERSION": git("describe", "--always", "--dirty", "--tags"),
            "IMAGE_REVISION": git("rev-parse", "HEAD"),
        }
    except (FileNotFoundError, subprocess.CalledProcessError):
        return {}


def files_in(container: Container, folder: str) -> dict[str, bytes]:
    """The files of a folder in a container, which may be one without a shell, by their paths below the one above it."""
    archive, _ = container.get_archive(folder)
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as files:
        return {file.name: content.read() for file in files if file.isfile() and (content := files.extractfile(file))}


def unused_ports() -> dict[str, str]:
    """Ports by number: where the engine chooses them, it chooses anew when a container that crashed starts again."""
    with contextlib.ExitStack() as open_until_all_are_chosen:
        sockets = {name: open_until_all_are_chosen.enter_context(socket.socket()) for name in FREE_PORTS}
        for each in sockets.values():
            each.bind(("127.0.0.1", 0))
        return {name: str(each.getsockname()[1]) for name, each in sockets.items()}


class ComposeStack:
    """A compose project. As a context manager it is up inside, and leaves nothing behind."""

    def __init__(
        self,
        project: str | None = None,
        env: dict[str, str] | None = None,
        *,
        profiles: Sequence[str] = (),
        publish_grpc: bool = False,
    ) -> None:
        """`project` None means the one of compose.yaml. `env` holds variables of compose.yaml, as in PORT."""
        self._publishes_grpc = publish_grpc
        self._command = ["docker", "compose", "--file", str(COMPOSE_FILE)]
        if publish_grpc:
            self._command += ["--file", str(GRPC_FILE)]
        if project:
            self._command += ["--project-name", project]
        for profile in profiles:
            self._command += ["--profile", profile]
        self._env = {**source_version(), **os.environ, **(env or {})}
        self.keys: dict[str, str] = {}

    @staticmethod
    def engine_works() -> bool:
        """Whether a container engine answers and has Compose v2."""
        try:
            commands = (["docker", "compose", "version"], ["docker", "info"])
            return all(
                subprocess.run(command, capture_output=True, check=False).returncode == 0 for command in commands
            )
        except FileNotFoundError:
            return False

    def build(self) -> None:
        self.run("build")

    def up(self) -> None:
        """Build, start, and wait until every service is healthy."""
        self.build()
        self.run("up", "--build", "--wait", "--detach")
        self.keys = self.first_keys()

    def first_keys(self) -> dict[str, str]:
        """The keys that were made when the volume was empty, by tenant: they are in a log, once."""
        log = self.output("logs", "--no-log-prefix", "keys")
        log = re.sub(r"\x1b\[\w*?[A-Z]", "", log)  # some versions clear lines where there is no terminal
        return dict(re.findall(r"^(\w+) +(trip_\w+)\s*$", log, re.M))

    def down(self, *, volumes: bool) -> None:
        self.run("down", *(["--volumes"] if volumes else []))

    def logs(self) -> str:
        return self.output("logs", "--no-color")

    def address(self, service: str, port: int) -> str:
        return self.output("port", service, str(port)).strip()

    def container(self, service: str) -> Container:
        """A service's container, as the engine knows it now."""
        (name,) = self.output("ps", "--all", "--quiet", service).split()
        return docker.from_env().containers.get(name)

    def describe(self) -> Stack:
        at = {
            listener: self.address(service, port)
            for listener, (service, port) in LISTENERS.items()
            if listener != "grpc" or self._publishes_grpc
        }
        return Stack(
            url=f"http://{at['http']}",
            grpc=at.get("grpc", ""),
            metrics_url=f"http://{at['gateway_metrics']}/metrics",
            hotpath_metrics_url=f"http://{at['hotpath_metrics']}/metrics",
            keys=self.keys,
            pids={},
            logs={},
        )

    def run(self, *arguments: str) -> None:
        """Run a compose command with its output on the terminal."""
        result = subprocess.run([*self._command, *arguments], env=self._env, stdin=subprocess.DEVNULL, check=False)
        if result.returncode:
            raise StackError(f"`docker compose {' '.join(arguments)}` ended with {result.returncode}")

    def output(self, *arguments: str) -> str:
        """Run a compose command and return what it prints."""
        result = subprocess.run(
            [*self._command, "--progress", "quiet", *arguments],  # a build would tell of itself on stdout
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise StackError(f"`docker compose {' '.join(arguments)}` ended with {result.returncode}:\n{result.stderr}")
        return result.stdout

    def __enter__(self) -> "ComposeStack":
        try:
            self.up()
        except BaseException:
            self.down(volumes=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down(volumes=True)
