"""What every error reply must be, whatever caused it."""

import http.client
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

import cases
from stack.description import Stack

REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{8,128}")


def keys_of(stack: Stack) -> dict[str, str]:
    """The keys that cases name: also one of the right form that nobody has."""
    key = stack.keys["acme"]
    return {**stack.keys, "wrong": key[:-1] + ("a" if key[-1] != "a" else "b")}


def send(stack: Stack, case: cases.Case) -> httpx.Response:
    """Send a case's request."""
    assert case.http is not None
    return httpx.request(
        case.http["method"],
        f"{stack.url}{case.http['path']}",
        headers=case.headers(keys_of(stack)),
        content=case.body(),
        timeout=60,
    )


@contextmanager
def half_sent(stack: Stack, case: cases.Case) -> Iterator[socket.socket]:
    """A connection on which the headers and half of the body were sent, and nothing more."""
    assert case.http is not None
    body = case.body() or b""
    request = httpx.Request(
        case.http["method"], f"{stack.url}{case.http['path']}", headers=case.headers(keys_of(stack)), content=body
    )
    lines = [f"{case.http['method']} {case.http['path']} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    with socket.create_connection(stack.address, timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body[: len(body) // 2])
        yield connection


def send_half(stack: Stack, case: cases.Case) -> httpx.Response:
    """Send the headers and half of the body, and nothing more; return the reply."""
    with half_sent(stack, case) as connection:
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        return httpx.Response(reply.status, headers=reply.getheaders(), content=reply.read())


def check(case: cases.Case, response: httpx.Response) -> None:
    """Assert that a reply is what its case and docs/errors.md say."""
    reason, expect = case.reason, case.expect
    assert response.status_code == reason.http_status, response.text
    assert response.headers["content-type"].startswith("application/json")
    assert response.json().keys() == {"error"}
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == (reason.type, reason.code)
    if "param" in expect:
        assert error["param"] == expect["param"]
    assert re.search(expect.get("message", ""), error["message"]), error["message"]
    for name, pattern in expect.get("headers", {}).items():
        assert re.search(pattern, response.headers[name]), response.headers[name]
    check_headers(reason, response)
    if reason.name == "INTERNAL":
        assert case.fake["message"] not in response.text
        assert response.headers["x-request-id"] in error["message"]


def check_headers(reason: cases.Reason, response: httpx.Response) -> None:
    """Assert what follows from the reason alone."""
    assert REQUEST_ID.fullmatch(response.headers["x-request-id"])
    if reason.http_status in cases.BUSY_STATUSES and reason.retry:
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert 0 < int(response.headers["retry-after-ms"]) <= 60_000
    if reason.http_status in cases.REPEATED_STATUSES and not reason.retry:
        assert response.headers["x-should-retry"] == "false"
