"""A nats-server of a test's own, and the few words of its protocol that tests need."""

import base64
import contextlib
import json
import pathlib
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

from stack.description import ROOT
from stack.waiting import wait_until

START_LIMIT_S = 60
REPLY_LIMIT_S = 30
MODULE = ROOT / "go-gateway/cmd/consumer"


class Client:
    """One connection, with one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=REPLY_LIMIT_S)
        self.lines = self.socket.makefile("rb")
        assert self.lines.readline().startswith(b"INFO ")
        self.socket.sendall(b'CONNECT {"verbose": false, "headers": true}\r\nSUB _INBOX.test 1\r\n')

    def request(self, subject: str, data: bytes = b"", headers: dict[str, str] | None = None) -> Any:
        """The reply, which is JSON."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"NATS/1.0\r\n{lines}\r\n".encode()
        sizes = f"{len(head)} {len(head) + len(data)}"
        self.socket.sendall(f"HPUB {subject} _INBOX.test {sizes}\r\n".encode() + head + data + b"\r\n")
        while True:
            words = self.lines.readline().split()
            if words[0] == b"PING":
                self.socket.sendall(b"PONG\r\n")
                continue
            assert words[0] == b"MSG", words
            reply = json.loads(self.lines.read(int(words[-1]) + 2))
            assert "error" not in reply, reply
            return reply

    def api(self, name: str, /, **body: Any) -> Any:
        """JetStream's own API."""
        return self.request(f"$JS.API.{name}", json.dumps(body).encode())

    def count(self, stream: str) -> int:
        """A stream's messages."""
        return int(self.api(f"STREAM.INFO.{stream}")["state"]["messages"])

    def messages(self, stream: str) -> list[tuple[dict[str, str], bytes]]:
        """Headers and data of all of a stream's messages, of which none was removed."""
        found = []
        for sequence in range(1, self.count(stream) + 1):
            message = self.api(f"STREAM.MSG.GET.{stream}", seq=sequence)["message"]
            lines = base64.b64decode(message.get("hdrs", "")).decode().splitlines()[1:]
            headers = dict(line.split(": ", 1) for line in lines if line)
            found.append((headers, base64.b64decode(message.get("data", ""))))
        return found


@contextlib.contextmanager
def server(folder: pathlib.Path) -> Iterator[tuple[Client, str]]:
    """A server with its streams in a folder: a connection to it, and its URL."""
    told = subprocess.run(
        ["go", "tool", "-n", "nats-server"], cwd=MODULE, check=True, stdout=subprocess.PIPE, text=True
    )
    ports = folder / "ports"
    ports.mkdir()
    command = [told.stdout.strip(), "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", str(folder / "streams")]
    with subprocess.Popen([*command, "--ports_file_dir", str(ports)], stderr=subprocess.DEVNULL) as process:
        try:
            written = wait_until(
                "nats-server listens", lambda: "".join(p.read_text() for p in ports.iterdir()), START_LIMIT_S
            )
            url = json.loads(written)["nats"][0]
            client = Client(int(url.rsplit(":", 1)[1]))
            with client.socket, client.lines:
                yield client, url
        finally:
            process.kill()
