"""Plain `curl -N`: what a person at a terminal sees of a stream, and what Ctrl-C does."""

import contextlib
import errno
import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from e2e import metrics, programs
from e2e.chats import MODEL, body, say
from stack.description import Stack
from stack.native import NativeStack
from stack.waiting import wait_until

# It would go on for minutes.
ENDLESS = {"stream": True, "ignore_eos": True, "max_tokens": 6000}
LIMIT_S = 15
INTERRUPTED = -signal.SIGINT

pytestmark = pytest.mark.usefixtures("curl", "interruptible")


@pytest.fixture(scope="module")
def curl() -> None:
    programs.need("curl", "plain streams are")


@contextlib.contextmanager
def running(stack: Stack, **fields: object) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A chat by curl, and what it prints."""
    command = ["curl", "-N", "-sS", f"{stack.url}/v1/chat/completions", "--json", "@-"]
    command += ["-H", f"Authorization: Bearer {stack.keys['acme']}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdin is not None
        assert curl.stdout is not None
        with curl.stdin as request:
            json.dump(body(say("Write the numbers from 1 to 20, separated by commas."), **fields), request)
        yield curl, curl.stdout
        curl.kill()


def test_a_stream_has_an_event_for_each_token_and_an_end(stack: Stack) -> None:
    with running(stack, stream=True, max_tokens=8) as (curl, output):
        printed = output.read()
        assert curl.wait() == 0
    *events, end, rest = printed.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    deltas = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events]
    assert [delta.get("content") for delta in deltas] == ["", "1", ",", " ", "2", ",", " ", "3", ",", None]


def test_both_loopbacks_are_answered(start_native: Callable[..., NativeStack]) -> None:
    """What a client's resolver makes of localhost is its own affair."""
    url = start_native().describe().url
    with socket.socket(socket.AF_INET6) as probe:
        if probe.connect_ex(("::1", 9)) == errno.EADDRNOTAVAIL:
            pytest.skip("LOUD: this machine has no [::1]: that both loopbacks are answered is NOT tested")
    for address in (url, url.replace("127.0.0.1", "[::1]")):
        assert subprocess.run(["curl", "-sSf", f"{address}/readyz"], timeout=LIMIT_S, check=False).returncode == 0


def test_ctrl_c_in_mid_stream_frees_the_slot(stack: Stack) -> None:
    with running(stack, **ENDLESS) as (curl, output):
        # Each comes by itself: all of them would take minutes.
        for _ in range(5):
            assert output.readline().startswith("data: {")
            assert output.readline() == "\n"
        wait_until("its row", lambda: metrics.decoding(stack) == 1, LIMIT_S)
        curl.send_signal(signal.SIGINT)
        assert curl.wait() == INTERRUPTED
        wait_until("its slot being free", lambda: metrics.decoding(stack) == 0, LIMIT_S)


def test_one_that_waits_for_its_turn_sees_comments(start_native: Callable[..., NativeStack]) -> None:
    few_rows = {"model-names": MODEL, "max-rows": "8"}
    stack = start_native(gateway={"stream-heartbeat": "100ms"}, hotpath=few_rows).describe()
    with running(stack, **{**ENDLESS, "n": 8, "max_tokens": 1500}) as (first, output):
        assert any(line.startswith("data: {") for line in output), "it has begun"
        with running(stack, stream=True, max_tokens=2) as (second, waiting):
            assert [waiting.readline() for _ in range(4)] == [": still here\n", "\n"] * 2
            first.send_signal(signal.SIGINT)
            lines = waiting.read().splitlines()
            assert second.wait() == 0
    assert lines[-2:] == ["data: [DONE]", ""]
    assert any('"finish_reason":"length"' in line for line in lines)
