"""What operators and clients can see: ids, timings, metrics, logs. And what nobody may see: keys and texts."""

import hashlib
import json
import pathlib
import re
from collections.abc import Callable

import httpx
import pytest

from e2e import metrics
from e2e.vectors import MODEL
from stack.description import Stack
from stack.native import NativeStack

SECRET_TEXT = "Xylophonist Quetzalcoatl whispers 4711"


def post(http: httpx.Client, request_id: bytes | None = None) -> httpx.Response:
    headers = {b"x-request-id": request_id} if request_id else {}
    return http.post("/v1/embeddings", json={"model": MODEL, "input": "a"}, headers=headers)


def test_a_sane_request_id_is_echoed(http: httpx.Client) -> None:
    assert post(http, b"my-request.1").headers["x-request-id"] == "my-request.1"


@pytest.mark.parametrize(
    "hostile", [b"a" * 1000, b"a b", b'a"b', "ä".encode()], ids=["long", "space", "quote", "accent"]
)
def test_another_request_id_is_replaced(http: httpx.Client, hostile: bytes) -> None:
    ours = post(http, hostile).headers["x-request-id"]
    assert ours.encode() != hostile
    assert re.fullmatch(r"[A-Za-z0-9_-]{16,64}", ours)


def test_request_ids_differ(http: httpx.Client) -> None:
    assert post(http).headers["x-request-id"] != post(http).headers["x-request-id"]


def test_server_timing_tells_where_the_time_went(http: httpx.Client) -> None:
    response = post(http)
    timings = dict(re.findall(r"([\w-]+);dur=([\d.]+)", response.headers["server-timing"]))
    assert {"queue", "inference"} <= timings.keys()
    assert sum(float(milliseconds) for name, milliseconds in timings.items() if name != "total") / 1000 < 60


def test_errors_have_request_id_and_server_timing(http: httpx.Client) -> None:
    response = http.get("/v1/nothing")
    assert response.headers["x-request-id"]
    assert "server-timing" in response.headers


def test_metrics_count_requests_and_tokens(http: httpx.Client, stack: Stack) -> None:
    before = metrics.read(stack.metrics_url)
    tokens = post(http).json()["usage"]["total_tokens"]
    after = metrics.read(stack.metrics_url)
    assert after["gateway_requests_total"] >= before["gateway_requests_total"] + 1
    assert after["gateway_tokens_total"] >= before.get("gateway_tokens_total", 0) + tokens
    assert after["gateway_ready"] == 1
    assert any(name.startswith("hotpath_") for name in metrics.read(stack.hotpath_metrics_url))


def test_metrics_are_not_on_the_public_listener(http: httpx.Client) -> None:
    assert http.get("/metrics").status_code == 404


def test_logs_hold_request_ids_and_neither_keys_nor_texts(start_native: Callable[..., NativeStack]) -> None:
    native = start_native(gateway={"log-level": "debug"}, hotpath={"log-level": "debug"})
    stack = native.describe()
    wrong = stack.keys["acme"][:-4] + "AAAA"
    for key in (stack.keys["acme"], wrong):
        headers = {"authorization": f"Bearer {key}", "x-request-id": "find-me-in-the-log"}
        with httpx.Client(base_url=stack.url, headers=headers) as http:
            for inputs in (SECRET_TEXT, [SECRET_TEXT, ""], SECRET_TEXT * 500, {"text": SECRET_TEXT}):
                http.post("/v1/embeddings", json={"model": MODEL, "input": inputs, "user": SECRET_TEXT})
            http.post("/v1/tokenize", json={"model": MODEL, "input": SECRET_TEXT})
            http.post("/v1/embeddings", content=json.dumps({"model": MODEL, "input": SECRET_TEXT})[:-5])
    native.stop()
    logs = {name: pathlib.Path(path).read_text() for name, path in stack.logs.items()}
    for name, log in logs.items():
        assert "Xylophonist" not in log, name
        assert "Quetzalcoatl" not in log, name
        for secret in (*stack.keys.values(), wrong):
            assert secret not in log, name
            assert secret[-20:] not in log, name
            assert hashlib.sha256(secret.encode()).hexdigest() not in log, name
    assert "find-me-in-the-log" in logs["gateway"]


def test_logs_are_json_lines(start_native: Callable[..., NativeStack]) -> None:
    native = start_native()
    native.stop()
    for process in native.processes():
        for line in process.log.read_text().splitlines():
            assert {"timestamp", "level", "message"} <= json.loads(line).keys(), line
