"""Connections are shared out by address: nobody takes them all."""

import contextlib
import socket
import sys
from collections.abc import Callable

import pytest

from e2e import metrics
from stack.description import Stack
from stack.native import NativeStack
from stack.waiting import wait_until

MOST = 40
# Of what is not kept for newcomers an address may hold four times what it leaves free.
SHARE = (int(MOST * 0.5), int(MOST * 0.9))
REQUEST = b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n"
# Any address of 127.0.0.0/8 is this machine's, on Linux.
OTHER = "127.0.0.2"


def ask(stack: Stack, source: str = "127.0.0.1") -> socket.socket | None:
    """A connection that is served, and stays open; None if it was closed without a word."""
    port = stack.address[1]
    connection = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))
    with contextlib.suppress(ConnectionError):
        connection.sendall(REQUEST)
        if connection.recv(100).startswith(b"HTTP/1.1 200 "):
            return connection
    connection.close()
    return None


@pytest.mark.skipif(sys.platform != "linux", reason="LOUD: only Linux has 127.0.0.2 without being asked for it")
def test_an_address_that_opens_all_it_can_leaves_room_for_others(start_native: Callable[..., NativeStack]) -> None:
    stack = start_native(gateway={"max-connections": str(MOST)}).describe()
    with contextlib.ExitStack() as held:
        opened = [ask(stack) for _ in range(2 * MOST)]
        served = [held.enter_context(connection) for connection in opened if connection]
        assert SHARE[0] <= len(served) <= SHARE[1]
        assert ask(stack) is None
        counted = metrics.read(stack.metrics_url)["gateway_refused_connections_total"]
        assert counted >= 2 * MOST - len(served)
        other = ask(stack, OTHER)
        assert other, "another address finds no room"
        held.enter_context(other)
        served[0].close()

        def served_again() -> bool:
            connection = ask(stack)
            if connection:
                held.enter_context(connection)
            return connection is not None

        wait_until("the place of one that ended", served_again, 10)
