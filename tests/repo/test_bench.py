"""`make bench` runs to its end. What it measures here means nothing."""

import contextlib
import pathlib
import re
import resource
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

import psutil
import pytest

from bench import machine
from bench.embeddings import load, raw
from bench.gateway.overload import SERVICES, Held
from repo.tree import ROOT

# What each part shows at least: rows of its table of goals, and its plots.
PARTS = {
    "embeddings": ("benchmarks", ["latency added at 1 client, p99"], {"load.svg", "cpu.svg"}),
    "generation": ("benchmarks-generation", ["second turn: time to first token"], {"chunks.svg", "cpu.svg"}),
    "gateway": (
        "benchmarks-gateway",
        ["events of streams/s per core", *(f"memory of {name} there, second half" for name in SERVICES.values())],
        {"cpu.svg"},
    ),
    "durable": ("benchmarks-durable", ["embeddings/s of a batch"], {"memory.svg"}),
}
# Run what follows with the limit of open files that a shell has on macOS: one may raise it, the other not.
FEW_FILES = ["bash", "-c", 'ulimit -Sn 256 && exec "$@"', "bash"]
FEW_FILES_FOR_GOOD = ["bash", "-c", 'ulimit -n 256 && exec "$@"', "bash"]
REQUESTS = """
import sys
from rich.console import Console
from bench.__main__ import allow_connections
from bench.embeddings import load
allow_connections(Console(width=1000))
address = "127.0.0.1", int(sys.argv[1])
print(len(load.open_loop(address, [b"GET / HTTP/1.1\\r\\n\\r\\n"], rate_per_s=12000, duration_s=0.05)), "answered")
"""


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[subprocess.Popen[str], pathlib.Path]]]:
    """Every part's quick run with the folder that it writes: all at once, as they wait more than they compute."""
    with contextlib.ExitStack() as stack:
        running = {}
        for part in PARTS:
            out = tmp_path_factory.mktemp(part)
            command = [*FEW_FILES_FOR_GOOD, sys.executable, "-m", "bench", "--quick", "--only", part, "--out", str(out)]
            process = subprocess.Popen(command, cwd=ROOT / "tests", stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.terminate)
            running[part] = process, out
        yield running


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.timeout(600)
def test_every_measurement_and_all_plots(
    part: str, quick: dict[str, tuple[subprocess.Popen[str], pathlib.Path]]
) -> None:
    name, rows, plots = PARTS[part]
    process, out = quick[part]
    printed, _ = process.communicate()
    assert process.returncode == 0
    assert "limit of open files" in printed
    page = (out / f"{name}.md").read_text()
    assert [row for row in rows if f"| {row}" not in page] == []
    assert {path.name for path in (out / name).iterdir()} == plots


def test_the_readme_s_figures_stand_in_the_pages() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "docs").glob("benchmarks*.md"))
    table = (ROOT / "README.md").read_text().split("| measured |", 1)[1].split("\n\n", 1)[0]
    figures = re.findall(r"\*\*([^*]+)\*\*", table)
    assert len(figures) >= 3
    assert [figure for figure in figures if f"**{figure}**" not in pages] == []


@pytest.mark.parametrize(("load", "changed", "why"), [(0.6, False, "busy"), (0.4, True, "changes")])
def test_what_could_not_be_trusted_or_named_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, load: float, changed: bool, why: str
) -> None:
    monkeypatch.setattr(psutil, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(machine, "_changed", lambda: changed)
    with pytest.raises(machine.UnfitError, match=why):
        machine.now(noisy=False)
    occasion = machine.now(noisy=True)
    assert f"load before {load}" in occasion.machine
    assert occasion.commit.endswith(", with changes") == changed


def test_a_part_of_a_pass_has_its_share_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speed is counted in feeds; the shortest texts first, these would have too many."""
    schedules: list[Sequence[raw.Feed]] = []

    def texts_per_s(graph: pathlib.Path, feeds: Sequence[raw.Feed], *rest: float) -> float:
        schedules.append(feeds)
        return 1.0

    monkeypatch.setattr(raw, "texts_per_s", texts_per_s)
    raw.best_schedule(pathlib.Path(), [[0] * length for length in range(1, 101)], workers=1, rounds=1, round_s=1)
    assert len(schedules) == len(raw.SCHEDULES)
    for feeds in schedules:
        texts = [int((feed["position_ids"] == 0).sum()) for feed in feeds]
        assert sum(texts) == 100
        assert sum(texts[: len(feeds) // 2]) == pytest.approx(50, abs=10)


def test_memory_that_grows_under_overload_is_told() -> None:
    flat = Held.of([300, 100, 100, 100, 300, 100])
    assert (flat.first_mib, flat.second_mib, flat.ratio) == (100, 100, 1)
    assert Held.of(range(100, 200)).ratio == pytest.approx(174.5 / 124.5)


def test_quick_figures_cannot_replace_the_real_ones() -> None:
    command = [sys.executable, "-m", "bench", "--quick"]
    result = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "--out" in result.stderr


class HoldingServer(threading.Thread):
    """Answers nobody until no further request comes, so that as many wait as a client can send."""

    def __init__(self) -> None:
        super().__init__()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.most = 0  # requests that waited together
        self._done = threading.Event()

    def run(self) -> None:
        waiting: list[socket.socket] = []
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as connections:
            selector.register(self.listener, selectors.EVENT_READ)
            while not self._done.is_set():
                ready = selector.select(0.5)
                for key, _ in ready:
                    if key.data is None:
                        connection = connections.enter_context(self.listener.accept()[0])
                        selector.register(connection, selectors.EVENT_READ, connection)
                    elif key.data.recv(1000):
                        waiting.append(key.data)
                    else:
                        selector.unregister(key.data)
                self.most = max(self.most, len(waiting))
                while waiting and not ready:
                    waiting.pop().sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def stop(self) -> None:
        self._done.set()
        self.join()
        self.listener.close()


@pytest.fixture
def server() -> Iterator[HoldingServer]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    load.allow_connections()  # it has one file for each connection, too
    holding = HoldingServer()
    holding.start()
    yield holding
    holding.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def send_many(limited: list[str], server: HoldingServer) -> tuple[int, str]:
    """Send some 600 requests at once; return how many were answered, and what was printed before."""
    command = [*limited, sys.executable, "-c", REQUESTS, str(server.listener.getsockname()[1])]
    result = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    *printed, last = result.stdout.splitlines()
    return int(last.split()[0]), "".join(printed)


def test_a_low_limit_of_open_files_is_raised(server: HoldingServer) -> None:
    answered, printed = send_many(FEW_FILES, server)
    assert (server.most, printed) == (answered, "")
    assert answered > 500


def test_a_limit_of_open_files_that_cannot_be_raised_is_kept_and_told(server: HoldingServer) -> None:
    answered, printed = send_many(FEW_FILES_FOR_GOOD, server)
    assert answered > 500
    assert server.most == 256 - load.OTHER_FILES
    assert f"leaves {server.most} of {load.CONNECTIONS} connections" in printed
