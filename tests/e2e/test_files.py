"""Files: the official Python SDK unmodified, what a killed gateway leaves, and memory while much goes in."""

import pathlib
import socket
from collections.abc import Callable, Iterator

import httpx
import openai
import pytest

from e2e.limits import client as http_of
from stack.native import NativeStack
from stack.waiting import wait_until

StartNative = Callable[..., NativeStack]
MIB = 1 << 20
LARGE_MIB = 64  # 200 when it is measured
LIMIT_S = 60
LINES = b'{"custom_id": "a"}\n{"custom_id": "b"}\n'
PART = b"--b\r\nContent-Disposition: form-data; name="
HEAD = PART + b'"purpose"\r\n\r\nuser_data\r\n' + PART + b'"file"; filename="a"\r\n\r\n'
LINUX = pathlib.Path("/proc/self/status")


@pytest.fixture
def native(start_native: StartNative) -> NativeStack:
    """A gateway without a hot path, which files do not need."""
    return start_native(hotpath_address="127.0.0.1:1", wait=False)


def test_the_python_sdk(client: openai.OpenAI) -> None:
    before = {file.id for file in client.files.list()}
    made = client.files.create(
        file=("requests.jsonl", LINES), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert (made.object, made.bytes, made.filename, made.purpose, made.status) == (
        "file",
        len(LINES),
        "requests.jsonl",
        "batch",
        "processed",
    )
    assert made.expires_at == made.created_at + 3600
    other = client.files.create(file=("ü.bin", bytes(range(256))), purpose="user_data")
    assert client.files.retrieve(made.id) == made
    # The SDK asks for the next page behind the last file of each.
    assert [file.id for file in client.files.list(limit=1) if file.id not in before] == [other.id, made.id]
    assert [file.id for file in client.files.list(purpose="batch", order="asc") if file.id not in before] == [made.id]
    assert client.files.content(made.id).read() == LINES
    with client.files.with_streaming_response.content(other.id) as content:
        assert b"".join(content.iter_bytes(7)) == bytes(range(256))
    assert client.files.wait_for_processing(made.id) == made
    for file in (made, other):
        assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match=made.id):
        client.files.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="line 2") as refused:
        client.files.create(file=("requests.jsonl", b"{}\n[]\n"), purpose="batch")
    assert refused.value.param == "file"


def test_a_killed_gateway_leaves_nothing_torn_and_loses_nothing(native: NativeStack) -> None:
    temporaries = native.data / "blobs" / "tmp"
    for _ in range(3):
        with http_of(native.describe(), "acme") as http:
            kept = http.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("a", b"acknowledged")}).json()
        host, port = native.describe().address
        with socket.create_connection((host, port), timeout=LIMIT_S) as half:
            headers = f"Authorization: Bearer {native.keys['acme']}\r\nContent-Type: multipart/form-data; boundary=b"
            half.sendall(f"POST /v1/files HTTP/1.1\r\nHost: a\r\n{headers}\r\nContent-Length: {MIB}\r\n\r\n".encode())
            half.sendall(HEAD + b"x" * (MIB // 2))
            wait_until(
                "half an upload", lambda: any(file.stat().st_size > 0 for file in temporaries.iterdir()), LIMIT_S
            )
            assert native.gateway is not None
            native.gateway.kill()
        assert list(temporaries.iterdir())
        native.start_gateway()
        assert not list(temporaries.iterdir())
        with http_of(native.describe(), "acme") as http:
            assert http.get(f"/v1/files/{kept['id']}/content").content == b"acknowledged"


@pytest.mark.skipif(not LINUX.exists(), reason="Linux says what a process holds")
def test_memory_is_flat_while_much_goes_in_and_out(native: NativeStack) -> None:
    stack = native.describe()
    line = b'{"custom_id": "' + b"x" * (4096 - 18) + b'"}\n'

    def body(size: int) -> Iterator[bytes]:
        yield HEAD.replace(b"user_data", b"batch").replace(b'"a"', b'"a.jsonl"')
        for _ in range(size // (16 * len(line))):
            yield line * 16
        yield b"\r\n--b--\r\n"

    def there_and_back(http: httpx.Client, size: int) -> None:
        answer = http.post("/v1/files", content=body(size), headers={"content-type": "multipart/form-data; boundary=b"})
        assert answer.status_code == 200, answer.text
        with http.stream("GET", f"/v1/files/{answer.json()['id']}/content") as content:
            assert sum(len(part) for part in content.iter_bytes()) == answer.json()["bytes"] >= size - MIB

    def memory(field: str) -> float:
        status = pathlib.Path(f"/proc/{stack.pids['gateway']}/status").read_text().splitlines()
        (kilobytes,) = [entry.split()[1] for entry in status if entry.startswith(f"{field}:")]
        return int(kilobytes) / 1024

    with http_of(stack, "acme") as http:
        there_and_back(http, MIB)
        before = memory("VmRSS")
        there_and_back(http, LARGE_MIB * MIB)
    assert memory("VmHWM") - before < 32, "MiB"
