"""The driver: `nullengine load`, which takes some 15 µs of one core for a request, and its figures."""

import dataclasses
import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from bench.gateway.programs import ONE_THREAD, PROGRAM
from stack.waiting import StackError


@dataclasses.dataclass(frozen=True)
class Replies:
    """Those of one status."""

    count: int = 0  # of the requests that were sent in the time that counts
    on_time: int = 0  # that came in it
    events: int = 0  # of streams
    p50_ms: float = 0
    p90_ms: float = 0
    p99_ms: float = 0
    max_ms: float = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One run."""

    seconds: float  # that count
    statuses: Mapping[int, Replies]

    @property
    def ok(self) -> Replies:
        return self.statuses.get(200, Replies())

    def all_ok(self) -> Replies:
        """Raise StackError if anything was refused."""
        if bad := set(self.statuses) - {200}:
            raise StackError(f"a measurement below capacity was answered with {sorted(bad)}")
        return self.ok


@dataclasses.dataclass(frozen=True)
class Caller:
    """Somebody who asks a server, that knows them by a key."""

    url: str
    key: str


@dataclasses.dataclass(frozen=True)
class Load:
    """Requests to one route, of one caller or of several in turn."""

    callers: Sequence[Caller]
    path: str
    bodies: Sequence[Mapping[str, Any]]
    connections: int

    def run(self, duration_s: float, *, warmup_s: float = 0, rate_per_s: float = 0) -> Outcome:
        """Send them for a time, of which the warm-up does not count, and wait for all replies to the one caller."""
        return self.start(duration_s, warmup_s=warmup_s, rate_per_s=rate_per_s).wait()

    def run_all(self, duration_s: float) -> Sequence[Outcome]:
        """The same with each caller's replies."""
        return self.start(duration_s).wait_for_all()

    def start(self, duration_s: float, *, warmup_s: float = 0, rate_per_s: float = 0) -> "Running":
        """Begin to send, at a rate or else one request after the other on each connection."""
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False) as file:
            file.writelines(json.dumps(body) + "\n" for body in self.bodies)
        flags = {
            "bodies": file.name,
            "connections": self.connections,
            "duration": f"{duration_s}s",
            "warmup": f"{warmup_s}s",
            "rate": rate_per_s,
        }
        command = [str(PROGRAM), "load", *(f"--{name}={value}" for name, value in flags.items())]
        for caller in self.callers:
            command += [f"--url={caller.url}{self.path}", f"--key={caller.key}"]
        return Running(command, pathlib.Path(file.name))


class Running:
    """A driver at work."""

    def __init__(self, command: Sequence[str], bodies: pathlib.Path) -> None:
        self._bodies = bodies
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD}
        )

    def wait(self) -> Outcome:
        """The one caller's figures, when they are there. Raises StackError when a request had no reply."""
        (outcome,) = self.wait_for_all()
        return outcome

    def wait_for_all(self) -> Sequence[Outcome]:
        """The same of all callers."""
        printed, complaint = self._process.communicate()
        self._bodies.unlink()
        if self._process.returncode:
            raise StackError(f"the driver failed: {complaint}")
        told = json.loads(printed)
        if told["failed"]:
            raise StackError(f"{told['failed']} requests had no reply, as in: {told['failure']}")
        return [
            Outcome(told["seconds"], {int(status): Replies(**replies) for status, replies in target.items()})
            for target in told["targets"]
        ]


def cpu_s(pid: int) -> float:
    """CPU time of a process and its children so far, in user and kernel mode."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)
