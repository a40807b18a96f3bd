"""Where servers of tests listen."""

import contextlib
import secrets
import socket

HOST = "127.0.0.1"
# Below those from which Linux, macOS and Windows choose where a program asks for any.
PORTS = range(10_000, 32_000)


def free_port() -> int:
    """A port that nothing listens on now: for a server that must be told one.

    No other listener is given it meanwhile that asked for any, as one of the same program may."""
    for _ in range(100):
        port = secrets.choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            return port
    raise OSError(f"none of 100 ports of {HOST} is free")
