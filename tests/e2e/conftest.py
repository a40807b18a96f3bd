"""Clients of the shared stack, as customers have them."""

import signal
from collections.abc import Iterator

import grpc
import httpx
import openai
import pytest

from stack.description import Stack

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


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What a test starts can be ended by Ctrl-C.

    A shell lets what it starts in the background ignore that, and all that comes of it; a handler undoes it.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
