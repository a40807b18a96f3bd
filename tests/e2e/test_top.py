"""`gateway top`, once and on a terminal, of a gateway that two tenants ask."""

import fcntl
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from e2e import limits
from e2e.vectors import MODEL
from stack.description import Stack
from stack.native import GATEWAY, NativeStack

USAGE = 64
PATIENCE_S = 30
ENTERS_SCREEN, LEAVES_SCREEN, SHOWS_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


@pytest.fixture(scope="module")
def stack(stack_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if stack_kind != "native":
        pytest.skip("LOUD: these tests look at a gateway of their own, and so run with --stack native only")
    folder = tmp_path_factory.mktemp("top")
    tenants = limits.plans(folder / "plans", tiny="{requests_per_minute: 60, request_burst: 2}")
    native = NativeStack(
        folder / "stack", gateway={"tenants-file": tenants}, hotpath={"model-names": "all-minilm-l6-v2"}
    )
    try:
        yield native.start()
    finally:
        native.stop()


def command(stack: Stack, *arguments: str, token_file: str | None = None) -> list[str]:
    address = stack.admin_url.removeprefix("http://")
    return [
        str(GATEWAY),
        "top",
        *arguments,
        f"--admin-address={address}",
        f"--admin-token-file={token_file or stack.admin_token_file}",
    ]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def test_once(stack: Stack) -> None:
    for _ in range(3):
        limits.embed(stack, "acme", "Hello, world")
    statuses = [limits.embed(stack, "tiny", "Hello, world").status_code for _ in range(4)]
    assert 429 in statuses
    seen = run(command(stack, "--once"))
    assert seen.returncode == 0, seen.stderr
    rows = {words[0]: words for line in seen.stdout.splitlines() if (words := line.split())}
    assert rows["gateway"][2] == "ready,"
    assert rows["acme"][1] == "acme"
    assert rows["tiny"][-3:-2] == ["requests_per_minute"]
    (hotpath,) = (words for words in rows.values() if words[4:6] == [MODEL, "ready"])
    in_use, most = map(int, hotpath[6].split("/"))
    assert 0 <= in_use <= most
    assert most >= 1
    assert "\x1b" not in seen.stdout


def test_without_a_terminal_it_says_so(stack: Stack) -> None:
    seen = run(command(stack))
    assert (seen.returncode, seen.stdout) == (USAGE, "")
    assert "--once" in seen.stderr


def test_a_wrong_token_is_a_sentence(stack: Stack, tmp_path: pathlib.Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("0" * 40)
    wrong.chmod(0o600)
    plain = run(command(stack, "--once", token_file=str(wrong)))
    live = Terminal(command(stack, token_file=str(wrong))).end()
    for seen in (plain, live):
        assert seen.returncode == 1
        assert "admin token" in seen.stderr + seen.stdout
        assert "\x1b" not in seen.stdout


class Terminal:
    """A command on a terminal of its own, of 80 columns and 24 rows."""

    def __init__(self, command: list[str], **env: str) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.theirs = theirs  # kept, to see what becomes of it
        self.before = termios.tcgetattr(theirs)
        self.written = b""
        environment = {"TERM": "xterm-256color", "PATH": os.environ["PATH"], **env}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )

    def wait_for(self, wanted: bytes) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while wanted not in self.written:
            assert time.monotonic() < deadline, self.written
            self.read(0.2)

    def read(self, seconds: float) -> bool:
        if select.select([self.ours], [], [], seconds)[0]:
            self.written += os.read(self.ours, 65536)
            return True
        return False

    def colours(self) -> set[int]:
        """Of letters, by the codes of the terminal's palette."""
        codes = [code for codes in re.findall(rb"\x1b\[([0-9;]+)m", self.written) for code in codes.split(b";")]
        return {int(code) for code in codes if 30 <= int(code) < 50 or int(code) >= 90}

    def press(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and return what it wrote."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.written
            self.read(0.1)
        while self.read(0):
            pass
        after = termios.tcgetattr(self.theirs)
        os.close(self.theirs)
        os.close(self.ours)
        assert after == self.before
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, self.written.decode(), "")


@pytest.fixture
def terminal(stack: Stack) -> Iterator[Terminal]:
    limits.embed(stack, "globex", "Hello, world")
    live = Terminal(command(stack))
    yield live
    if live.process.poll() is None:
        live.process.kill()
        live.process.wait()


def test_the_live_view_ends_with_q(terminal: Terminal) -> None:
    terminal.wait_for(b"globex")
    assert ENTERS_SCREEN in terminal.written
    assert terminal.colours()
    terminal.press(b"\r")
    terminal.wait_for(b"FREE IN")  # its limits
    terminal.press(b"q")
    assert terminal.end().returncode == 0
    assert LEAVES_SCREEN in terminal.written
    assert SHOWS_CURSOR in terminal.written[terminal.written.index(LEAVES_SCREEN) - 200 :]


def test_the_live_view_ends_with_a_signal(terminal: Terminal) -> None:
    terminal.wait_for(b"globex")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.end().returncode == 0
    assert LEAVES_SCREEN in terminal.written


def test_there_is_no_colour_where_none_is_wanted(stack: Stack) -> None:
    live = Terminal(command(stack), NO_COLOR="1")
    live.wait_for(b"TENANT")
    live.press(b"q")
    assert live.end().returncode == 0
    assert live.colours() == set()
