"""llama.cpp's server, as `make llama-server` builds it, for as long as a measurement needs it."""

import pathlib
import re
from collections.abc import Mapping, Sequence

import httpx

from bench.llama_build import PROGRAM
from stack.loopback import HOST
from stack.process import Process
from stack.waiting import wait_until

START_LIMIT_S = 60


class LlamaServer:
    """A process with one model, which is ready."""

    def __init__(self, gguf: pathlib.Path, log: pathlib.Path, threads: int, slots: int, options: Sequence[str]) -> None:
        command = [str(PROGRAM), "--model", str(gguf), "--host", HOST, "--port", "0", "--offline", "--no-ui"]
        command += ["--threads", str(threads), "--threads-batch", str(threads), "--parallel", str(slots), *options]
        self._process = Process("llama-server", command, log, {})
        self.pids: Mapping[str, int] = {"llama-server": self._process.pid}
        try:
            port = wait_until("llama-server listening", self._find_port, START_LIMIT_S)
            self.address = (HOST, port)
            wait_until("llama-server being ready", self._ready, START_LIMIT_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._process.stop()

    def _find_port(self) -> int | None:
        self._process.check_alive()
        match = re.search(rf"http://{re.escape(HOST)}:(\d+)", self._process.log.read_text(errors="replace"))
        return int(match[1]) if match else None

    def _ready(self) -> bool:
        self._process.check_alive()
        host, port = self.address
        try:
            return httpx.get(f"http://{host}:{port}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False
