"""`make run` and `make demo` as a person and a script use them."""

import json
import os
import pathlib
import pty
import re
import socket
import subprocess
import threading

import httpx
import pytest

from e2e.vectors import MODEL, embed
from repo import documents
from stack.description import ROOT, Stack
from stack.native import FREE_PORTS
from stack.waiting import wait_until

pytestmark = pytest.mark.usefixtures("native_only")
START_LIMIT_S = 100
# What is built was built before: a test does not build it again.
MAKE = ["make", "--silent", "--old-file=build", "--old-file=models"]


def environment(folder: pathlib.Path, **more: str) -> dict[str, str]:
    return {**os.environ, **FREE_PORTS, "RUN_FOLDER": str(folder), "TERM": "dumb", **more}


def make(target: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MAKE, target],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_LIMIT_S,
    )


def test_demo_without_a_terminal_shows_the_journey_and_ends(tmp_path: pathlib.Path) -> None:
    result = make("demo", environment(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert '{"object":"list","data":[{"object":"embedding"' in result.stdout
    scores = [float(score) for score in re.findall(r"^ +(-?0\.\d{3}) ", result.stdout, re.M)]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert "make test" in result.stdout
    assert not (tmp_path / "stack.json").exists()
    (shown,) = [
        step.expected
        for block in documents.blocks(ROOT / "README.md", ROOT)
        for step in block.steps()
        if step.command == "make demo" and step.expected
    ]
    # What the model says, and how alike and how fast, differs from one processor to another.
    lines = [re.sub(r"\d+", r"\\d+", re.escape(line)) for line in shown.splitlines() if not line.endswith("...")]
    assert [line for line in lines if not re.search(f"^{line} *$", result.stdout, re.M)] == []


def test_run_serves_until_ctrl_c_and_ends_well(tmp_path: pathlib.Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*MAKE, "run"],
        cwd=ROOT,
        env=environment(tmp_path),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=become_foreground,
    )
    os.close(theirs)
    shown = Screen(ours)
    try:
        wait_until("the prompt", lambda: "Ctrl-C stops it" in shown.text or process.poll() is not None, START_LIMIT_S)
        stack = Stack.read(tmp_path / "stack.json")
        assert (tmp_path / "stack.json").stat().st_mode & 0o077 == 0, "keys are for their owner's eyes"
        promised = {"url", "grpc", "metrics_url", "admin_url", "keys", "pids"}
        assert set(json.loads((tmp_path / "stack.json").read_text())) >= promised
        assert set(stack.keys) == {"acme", "globex", "tiny"}
        with httpx.Client(base_url=stack.url, headers={"authorization": f"Bearer {stack.keys['acme']}"}) as http:
            assert embed(http, f"{MODEL} is up")
        os.write(ours, b"\x03")
        assert process.wait(60) == 0, shown.text
    finally:
        process.kill()
        process.wait()
        shown.close()
    assert not [name for name, pid in stack.pids.items() if runs(pid)]
    assert not (tmp_path / "stack.json").exists()


def test_a_busy_port_is_named(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = make("run", environment(tmp_path, GRPC_PORT=str(port)))
    assert result.returncode != 0
    assert f"port {port} is in use" in result.stdout
    assert "GRPC_PORT=" in result.stdout


@pytest.mark.parametrize("port", ["", "x", "-1", "65536"])
def test_a_port_that_is_none_is_refused(tmp_path: pathlib.Path, port: str) -> None:
    result = make("run", environment(tmp_path, PORT=port))
    assert result.returncode != 0
    assert "PORT must be a port" in result.stdout


def become_foreground() -> None:
    """Make the terminal at stdin the new session's, as a shell does."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def runs(pid: int) -> bool:
    """Whether a process that need not be our child is there: signal 0 only asks."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Screen:
    """What a terminal shows."""

    def __init__(self, descriptor: int) -> None:
        self.text = ""
        self._descriptor = descriptor
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while piece := os.read(self._descriptor, 4096):
                self.text += piece.decode(errors="replace")
        except OSError:  # the last one at the other end is gone
            return

    def close(self) -> None:
        self._reader.join()
        os.close(self._descriptor)
