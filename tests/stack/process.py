"""One service as a child process: started, watched through its log, stopped by its process id."""

import json
import os
import pathlib
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from stack.waiting import StackError, wait_until

# Binding happens before models are loaded, so an address is there at once; two busy cores still need some time.
ADDRESS_LIMIT_S = 30
# A service drains within its own deadline, which lets streams end; one that has not gone by then is killed.
STOP_LIMIT_S = 320
LAST_LINES = 15


class Process:
    """A service that logs one JSON object a line to stderr."""

    def __init__(self, name: str, command: Sequence[str], log: pathlib.Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self._start_of_log = log.stat().st_size if log.exists() else 0
        with log.open("ab") as stderr:
            # A session of its own: Ctrl-C at the terminal reaches us alone, and we stop the services in order.
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env={**os.environ, **env},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._child.poll()

    def lines(self) -> list[dict[str, Any]]:
        """The JSON objects that this process has logged."""
        with self.log.open("rb") as log:
            log.seek(self._start_of_log)
            raw = log.read().splitlines(keepends=True)
        parsed = []
        for line in raw:
            if not line.endswith(b"\n"):
                break  # half a line: the rest comes
            try:
                record = json.loads(line)
            except ValueError:
                continue  # a crash report is not JSON
            if isinstance(record, dict):
                parsed.append(record)
        return parsed

    def address(self, listener: str) -> str:
        """The address `host:port` that this process listens on, from its "listening" line; waits for that line."""

        def find() -> str | None:
            for line in self.lines():
                if line.get("message") == "listening" and line.get("listener") == listener:
                    return str(line["address"])
            self.check_alive()
            return None

        return wait_until(f"{self.name} listening ({listener})", find, ADDRESS_LIMIT_S)

    def check_alive(self) -> None:
        """Raise StackError with the last log lines when the process is gone."""
        if self.returncode is not None:
            raise StackError(f"{self.name} ended with status {self.returncode}; its last log lines:\n{self.tail()}")

    def tail(self) -> str:
        """The last log lines."""
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return "\n".join(f"  {line}" for line in lines)

    def signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            self._child.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, then SIGKILL for one that does not go; return the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> int:
        """SIGKILL; return the exit status."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end, for as long as a drain may take, and enforce it; return the exit status."""
        try:
            return self._child.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait()
