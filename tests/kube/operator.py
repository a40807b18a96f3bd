"""The operator's own binary, as a process that has an API server."""

import contextlib
import pathlib
import signal
import subprocess
from collections.abc import Iterator, Sequence

import httpx

from kube.api import ApiServer
from kube.chart import NAMESPACE, RELEASE, Object, of
from stack.description import ROOT
from stack.loopback import HOST, free_port
from stack.waiting import StackError, wait_until

BINARY = ROOT / "go-gateway/bin/operator"
READY_LIMIT_S = 60
STOP_LIMIT_S = 30
LEASE = of("coordination.k8s.io/v1", "Lease", "operator")
LEADS = "Successfully acquired lease"  # in the log


@contextlib.contextmanager
def applied(server: ApiServer, objects: Sequence[Object]) -> Iterator[None]:
    """Objects that are at the server meanwhile, made anew: a lease may be there that other tests' operators made."""
    for one in objects:
        server.delete(one)
        server.apply(one)
    try:
        yield
    finally:
        for one in objects:
            server.delete(one)


class Operator:
    """Started as a context. `arguments` are added to what it needs, and beat it."""

    def __init__(
        self, server: ApiServer, folder: pathlib.Path, *arguments: str, name: str = "operator", token: str | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / f"{name}.log"
        self._kubeconfig = folder / f"{name}.kubeconfig"
        self._kubeconfig.write_text(server.kubeconfig(token))
        self._health = self._metrics = free_port()
        while self._metrics == self._health:
            self._metrics = free_port()
        self._arguments = arguments
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Operator":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, *, ready: bool = True) -> None:
        """Start it, another time too, and wait until it is ready."""
        command = [
            str(BINARY),
            f"--kubeconfig={self._kubeconfig}",
            f"--namespace={NAMESPACE}",
            f"--release={RELEASE}",
            f"--health-address={HOST}:{self._health}",
            f"--metrics-address={HOST}:{self._metrics}",
            "--lease-duration=3s",
            *self._arguments,
        ]
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if ready:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            if not self.alive:
                raise StackError(f"the operator ended: {self.log()[-2000:]}")
            return self.ask("readyz") == 200

        wait_until("the operator is ready", ready, READY_LIMIT_S)

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def ask(self, path: str) -> int:
        """The status of one of its probes; 0 if nobody answers."""
        try:
            return httpx.get(f"http://{HOST}:{self._health}/{path}", timeout=5, trust_env=False).status_code
        except httpx.TransportError:
            return 0

    def metrics(self) -> str:
        return httpx.get(f"http://{HOST}:{self._metrics}/metrics", timeout=5, trust_env=False).text

    def stop(self) -> int:
        """SIGTERM, as a kubelet sends it; the exit status."""
        assert self._child is not None
        self._child.send_signal(signal.SIGTERM)
        return self._child.wait(STOP_LIMIT_S)

    def kill(self) -> None:
        """SIGKILL. Nothing, if it has ended."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def wait(self, limit_s: float) -> int:
        """The exit status of one that ends by itself."""
        assert self._child is not None
        return self._child.wait(limit_s)

    def log(self) -> str:
        """All that it has written, of all times that it was started."""
        return self._log.read_text() if self._log.exists() else ""
