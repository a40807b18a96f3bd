"""Where servers of tests listen."""

import socket

HOST = "127.0.0.1"


def free_port() -> int:
    """A port that nothing listens on now: for a server that must be told one."""
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
