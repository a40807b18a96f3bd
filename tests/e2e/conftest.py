"""Clients of the shared stack, as customers have them."""

import pathlib
import signal
from collections.abc import Iterator

import grpc
import httpx
import openai
import pytest

from e2e.databases import Database
from e2e.names import Names
from stack.description import Stack
from stack.postgres import Postgres, postgres_programs

MESSAGE_LIMIT = 64 << 20  # bytes
TIMEOUT_S = 60


@pytest.fixture(scope="session")
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    """The official SDK with the key of acme. It repeats nothing by itself, so that tests see what happens."""
    with openai.OpenAI(
        base_url=f"{stack.url}/v1", api_key=stack.keys["acme"], max_retries=0, timeout=TIMEOUT_S
    ) as client:
        yield client


@pytest.fixture(scope="session")
def http(stack: Stack) -> Iterator[httpx.Client]:
    """Plain HTTP with the key of acme."""
    headers = {"authorization": f"Bearer {stack.keys['acme']}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture(scope="session")
def channel(stack: Stack) -> Iterator[grpc.Channel]:
    """The hot path, as the gateway sees it."""
    options = [("grpc.max_receive_message_length", MESSAGE_LIMIT)]
    with grpc.insecure_channel(stack.grpc, options=options) as channel:
        yield channel


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def database(request: pytest.FixtureRequest, native_only: None, tmp_path: pathlib.Path) -> Iterator[Database]:
    """Each that a gateway can have. Tests name it before `start_native`, so that it ends after the gateway."""
    if request.param == "SQLite":
        yield Database({})
        return
    programs = postgres_programs()
    assert programs, "PostgreSQL comes with the tests' requirements"
    postgres = Postgres(programs)
    try:
        postgres.start()
        yield Database({"database-url": postgres.url, "blobs": str(tmp_path / "blobs")}, postgres)
    finally:
        postgres.remove()


@pytest.fixture
def names(native_only: None, tmp_path: pathlib.Path) -> Names:
    return Names(tmp_path)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What a test starts can be ended by Ctrl-C.

    A shell lets what it starts in the background ignore that, and all that comes of it; a handler undoes it.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
