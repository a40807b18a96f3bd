"""What stands before and behind the gateway while it is measured: `go-gateway/internal/testkit/nullengine`.

An engine that answers at once, a plain proxy in Go, and the driver. All are built here, and have one thread each, as
the gateway has by default on a machine with less than eight processors.
"""

import contextlib
import pathlib
import shutil
import subprocess
import tempfile

from stack.description import ROOT
from stack.process import Process
from stack.waiting import StackError

PROGRAM = ROOT / "go-gateway/bin/nullengine"
ONE_THREAD = {"GOMAXPROCS": "1"}


def build() -> None:
    """Build the program, or see that it is up to date. Raises StackError."""
    command = ["go", "build", "-trimpath", "-o", str(PROGRAM), "./internal/testkit/nullengine"]
    result = subprocess.run(command, cwd=ROOT / "go-gateway", capture_output=True, text=True, check=False)
    if result.returncode:
        raise StackError(f"nullengine did not build:\n{result.stderr}")


class Engine:
    """The null engine: `contract` is its address for gateways, `url` that for proxies."""

    def __init__(self, folder: pathlib.Path, *, token_interval_ms: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._socket = pathlib.Path(tempfile.mkdtemp(prefix="null-")) / "engine.sock"
        self.contract = f"unix:{self._socket}"
        command = [str(PROGRAM), "engine", f"--grpc={self.contract}", f"--token-interval={token_interval_ms}ms"]
        self._process = Process("nullengine", command, folder / "nullengine.log", ONE_THREAD)
        with stopped_on_error(self):
            self._process.address("grpc")
            self.url = f"http://{self._process.address('http')}"

    def stop(self) -> None:
        self._process.stop()
        shutil.rmtree(self._socket.parent)


class PlainProxy:
    """Go's `httputil.ReverseProxy`."""

    def __init__(self, folder: pathlib.Path, upstream: str) -> None:
        command = [str(PROGRAM), "front", f"--upstream={upstream}"]
        self._process = Process("proxy", command, folder / "proxy.log", ONE_THREAD)
        self.pid = self._process.pid
        with stopped_on_error(self):
            self.url = f"http://{self._process.address('http')}"

    def stop(self) -> None:
        self._process.stop()


class stopped_on_error(contextlib.AbstractContextManager[None]):  # noqa: N801
    """Stops what is being started when that fails."""

    def __init__(self, started: "Engine | PlainProxy") -> None:
        self._started = started

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._started.stop()
