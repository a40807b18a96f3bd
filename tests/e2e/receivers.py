"""A receiver of webhooks, as users write one, that answers as a test says."""

import contextlib
import http.server
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from stack.loopback import HOST


@dataclass(frozen=True)
class Delivery:
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """Answers with a status that `answer` gives, in its own time, by how many deliveries there were before."""

    answer: Callable[[int], int] = lambda _: 200
    port: int = 0  # a free one
    listens_on: str = HOST
    location: str = "http://127.0.0.1:1/"  # where its redirects lead
    got: list[Delivery] = field(default_factory=list)

    def __post_init__(self) -> None:
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                receiver.got.append(Delivery({name.lower(): value for name, value in self.headers.items()}, body))
                status = receiver.answer(len(receiver.got) - 1)
                with contextlib.suppress(ConnectionError):  # nobody may wait for it any more
                    self.send_response(status)
                    if status in range(300, 400):
                        self.send_header("location", receiver.location)
                    self.send_header("content-length", "0")
                    self.end_headers()

            def do_GET(self) -> None:
                """Of whoever takes it for another server."""
                self.do_POST()

            do_CONNECT = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Nothing: the tests look at what came."""

        self._server = http.server.ThreadingHTTPServer((self.listens_on, self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/hook"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
